"""The page: everything of the study is in it, nothing from outside can act in it, and it asks for nothing."""

import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
import records_factory as made
from report_data import group_of, page_of, quick_parts, tables_of
from speedgrid import comparison
from speedgrid.comparison import Results
from speedgrid.report import embedding, figures_table, machines, overview, page, units

import studies

HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&{{ 7*7 }}"
SNEAKY = "\u2028<!--<script>"


class Page(HTMLParser):
    """What a browser would find: elements with their attributes, embedded specifications, and the text between."""

    def __init__(self, html):
        super().__init__()
        self.elements, self.words, self.scripts, self._script = [], [], [], None
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        self._script = dict(attributes) if tag == "script" else None

    def handle_data(self, data):
        if self._script is None:
            self.words.append(data)
        else:
            self.scripts.append((self._script, data))

    def handle_endtag(self, tag):
        self._script = None

    @property
    def text(self):
        return " ".join(" ".join(self.words).split())

    def named(self, tag):
        return [attributes for name, attributes in self.elements if name == tag]


def embedded_json(found, name):
    (code,) = [code for attributes, code in found.scripts if attributes.get("id") == name]
    return json.loads(code)


def specifications(found):
    """The charts of a page by name, as its script puts them together."""
    collection = embedded_json(found, "charts")
    return {name: embedding.whole(spec, collection["parts"]) for name, spec in collection["charts"].items()}


@pytest.fixture(scope="module")
def html(tmp_path_factory):
    folder = tmp_path_factory.mktemp("page")
    gpu = {"gpu": "h200", "model": "llama-3b", "machine": made.GPU_MACHINE, "parameters": 3_210_000_000}
    grid = [*made.write_group(folder), *made.write_group(folder, **gpu)]
    return page_of(grid, made.study(models=("stdlib-llama", "llama-3b")))


@pytest.fixture(scope="module")
def hostile(tmp_path_factory):
    cells = [replace(cell, label=cell.label + HOSTILE, texts=(HOSTILE + SNEAKY,)) for cell in made.DEFAULT_CELLS]
    cells = [replace(cell, reason=cell.reason + HOSTILE) if cell.reason else cell for cell in cells]
    machine = made.MACHINE | {"device_name": HOSTILE, "packages": [HOSTILE], "git_commit": HOSTILE, "host": SNEAKY}
    grid = made.write_group(tmp_path_factory.mktemp("hostile"), cells, machine=machine)
    for cell in grid:
        cell["model"] = "model" + HOSTILE
    summary, runs, replies = tables_of(grid)
    replies = [reply | {"model": "model" + HOSTILE} for reply in replies]
    study = made.study(cells=cells) | {"title": HOSTILE, "name": SNEAKY, "study_file": HOSTILE}
    study["experiments"]["generate"] = study["experiments"]["generate"] | {"prompt": HOSTILE}
    study["techniques"]["sdpa"] |= {"reference": "javascript:alert(3)", "summary": HOSTILE}
    return page.render(quick_parts(), study, summary, runs, replies)


def test_every_cell_is_in_the_table_with_its_status(html):
    found = Page(html)
    for cell in made.DEFAULT_CELLS:
        assert cell.label in found.text
    assert found.text.count("missing dependency") >= 2
    assert "missing_dependency" in found.text
    assert "the Python package bitsandbytes is not installed in this environment" in found.text
    assert "no compiled code ran: generate called the original module" in found.text
    classes = [attributes.get("class") for attributes in found.named("tr")]
    assert classes.count("not-engaged") == classes.count("failed") == 2


def test_the_page_says_how_far_its_figures_go(html):
    text = Page(html).text.replace("\u00a0", " ")
    assert "† Too few replies to bound it (independent ones needed: 59 for p95 and 299 for p99)." in text
    assert "stdlib-llama has only 5.1 million parameters" in text
    assert "llama-3b has only" not in text
    assert "Was the machine quiet?" in text
    assert "The machine was not asked" not in text


def test_the_page_names_machine_software_and_how_to_reproduce_it(html):
    text = Page(html).text
    for part in ("NVIDIA H200", "570.86.15", "AMD EPYC 9354", "torch==2.9.1", made.MACHINE["git_commit"], "cd" * 32, "./speedgrid run"):
        assert part in text


def test_the_page_says_where_the_time_went(html):
    _, _, section = html.partition("Where the time went")
    said = [re.sub(r"<[^>]+>", " ", row).split() for row in section.partition("</table>")[0].split("<tr>")[1:]]
    assert ["Counting", "74", "%"] in [[row[0], *row[-2:]] for row in said], said
    assert [row[0] for row in said] == ["what", "Counting", "Starting,", "Other"]


def test_a_device_that_served_several_stacks_is_named_once_at_the_top(tmp_path):
    summary, runs, replies = tables_of(made.write_group(tmp_path))
    measured = next(run for run in runs if run["stage"] == "measure")
    page_html = page.render(quick_parts(), made.study(), summary, [*runs, {**measured, "python": "3.9.1"}], replies)
    (machine,) = machines.machines([*runs, {**measured, "python": "3.9.1"}])
    assert machine["python"] == f"{measured['python']} / 3.9.1", "each value once, and what is the same once for all"
    assert page_html.split("</header>")[0].count(measured["device_name"]) == 1


def test_the_page_says_on_how_many_gpus_of_a_machine_its_jobs_ran(tmp_path):
    summary, runs, replies = tables_of(made.write_group(tmp_path, gpu="h200", machine=made.GPU_MACHINE))
    one = page.render(quick_parts(), made.study(), summary, runs, replies)
    assert "GPUs of this kind" not in one
    assert "GPUs of one machine" not in one
    moved = [run | {"device_uuid": "GPU-of-another"} if run["technique"] == "sdpa" else run for run in runs]
    (machine,) = machines.machines(moved)
    assert machine["gpus"] == "2"
    text = Page(page.render(quick_parts(), made.study(), summary, moved, replies)).text
    assert "GPUs of this kind, each job on one 2" in text
    said = "SDPA ran on another GPU than Baseline (eager attention): what the two differ by is a part of the speed-up."
    assert said in " ".join(text.split()).replace(" :", ":")
    assert "‡ Over a baseline that ran on another GPU." in text


def test_there_is_a_chart_of_each_kind_for_each_group(html):
    found = Page(html)
    charts = [attributes["data-chart"] for attributes in found.named("div") if "data-chart" in attributes]
    specs = specifications(found)
    starts = ("of-stdlib-llama-generate-local-", "of-llama-3b-generate-h200-")
    first, second = ([name.removeprefix(start) for name in charts if name.startswith(start)] for start in starts)
    assert [name for name in first if name != "ceiling"] == second  # the second group's configuration explains no ceiling
    assert {"ceiling", "speed", "quality"} <= set(first)
    assert set(charts) == set(specs)
    assert all("vega-lite" in spec["$schema"] for spec in specs.values())


def test_a_comparison_with_other_results_has_a_section(tmp_path, html):
    sides = [made.write_group(tmp_path / side, gpu="H200", seed=seed) for seed, side in enumerate("ab")]
    older, newer = (tables_of(grid) for grid in sides)
    speeds = ("rate", "rate_low", "rate_high")
    slowed = [row | {name: row[name] and 2 * row[name] for name in speeds} for row in older[0]]
    slowed = [row | {"run_rates": row["run_rates"] and [2 * rate for rate in row["run_rates"]]} for row in slowed]
    compared = comparison.compare(Results("last-month/" + HOSTILE, slowed, older[1]), Results("now", newer[0], newer[1]))
    found = Page(page.render(quick_parts(), made.study(), *newer, compared))
    assert "Compared with other results" in found.text
    assert f"{compared.counts['slower']} slower" in found.text
    assert compared.counts["slower"] >= 6
    assert "H200/generate/stdlib-llama/torch_compile" in found.text
    assert "Noise between runs on H200, generate: " in found.text
    assert "last-month/</script>" in found.text
    assert not [attributes for tag, attributes in found.elements if "onerror" in attributes]
    assert "Compared with other results" not in Page(html).text


def test_the_page_has_no_literal_backtick(html):
    assert "`" not in Page(html).text


def test_the_page_asks_for_nothing(html):
    found = Page(html)
    for tag, attributes in found.elements:
        assert not {"src", "srcset", "poster", "data", "action"} & set(attributes), tag
        if "href" in attributes:
            assert tag == "a"
            assert attributes["href"].startswith(("#", "https://"))
    assert not found.named("link")
    style = html.partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_the_policy_allows_the_two_scripts_and_nothing_else(html):
    found = Page(html)
    (policy,) = [meta["content"] for meta in found.named("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    run = [code for attributes, code in found.scripts if "type" not in attributes]
    assert policy.startswith("default-src 'none'; script-src ")
    assert re.findall(r"'sha256-[^']+'", policy) == [page.script_source(code) for code in run]
    assert len(run) == 2
    assert "unsafe-eval" not in policy


def test_nothing_from_outside_becomes_markup(hostile, html):
    found, plain = Page(hostile), Page(html)
    tags = {tag for tag, _ in found.elements}
    assert tags <= {tag for tag, _ in plain.elements}
    assert "img" not in tags
    assert [code for attributes, code in found.scripts if "type" not in attributes and "alert" in code] == []
    assert not any(name.startswith("on") for _, attributes in found.elements for name in attributes)
    assert "javascript:" not in [attributes.get("href", "")[:11] for attributes in found.named("a")]
    assert "{{ 7*7 }}" in found.text
    assert HOSTILE in " ".join(found.words)


def test_hostile_text_stays_inside_the_specifications(hostile):
    found = Page(hostile)
    data = [code for attributes, code in found.scripts if attributes.get("type") == "application/json"]
    assert not any("<" in code for code in data)
    specs = specifications(found)
    assert len(specs) >= 7
    assert any(HOSTILE in json.dumps(spec, ensure_ascii=False).replace('\\"', '"') for spec in specs.values())


@pytest.mark.parametrize(
    ("address", "safe"),
    [
        ("https://example.org/a", True),
        ("http://example.org", True),
        ("javascript:alert(1)", False),
        (" https://x", False),
        ("data:text/html,x", False),
        ("//x", False),
        (None, False),
    ],
)
def test_only_web_addresses_become_links(address, safe):
    assert figures_table.safe_href(address) == (address if safe else None)


def test_embedded_json_is_the_same_value():
    value = {"a": HOSTILE + SNEAKY, "b": [1, None, True]}
    assert json.loads(str(page.embedded(value))) == value


@pytest.mark.parametrize("code", ["x = '</script>'", "x = '<!-- -->'", "</SCRIPT >"])
def test_a_script_that_would_end_early_is_refused(code):
    with pytest.raises(ValueError, match="would end it early"):
        page._checked_script(code)


def test_the_same_results_give_the_same_page(tmp_path):
    grid = made.write_group(tmp_path)
    assert page_of(grid, made.study()) == page_of(grid, made.study())


def test_a_study_in_which_nothing_ran_has_a_page(tmp_path):
    cells = [replace(cell, status="unsupported", reason="needs an NVIDIA GPU") for cell in made.DEFAULT_CELLS]
    text = Page(page_of(made.write_group(tmp_path, cells), made.study())).text
    assert "Nothing could be measured here, so there is no answer." in text
    assert text.count("needs an NVIDIA GPU") >= 8


def test_another_study_says_so_in_its_command(tmp_path):
    study = made.study() | {"study_file": "studies/mine.yaml"}
    text = Page(page_of(made.write_group(tmp_path, made.DEFAULT_CELLS[:1]), study)).text
    assert "./speedgrid run --study studies/mine.yaml" in text
    assert "--configfile studies/mine.yaml" in text


def test_the_command_writes_the_page(tmp_path):
    plan = made.write_plan(tmp_path, made.write_group(tmp_path, made.DEFAULT_CELLS[:2]))
    tables = ["--plan", plan, "--summary", tmp_path / "summary.parquet", "--runs", tmp_path / "runs.parquet"]
    tables += ["--points", tmp_path / "points.parquet"]
    subprocess.run([sys.executable, studies.ROOT / "scripts/aggregate.py", *tables], check=True, capture_output=True)
    out = tmp_path / "out" / "report.html"
    done = subprocess.run(
        [sys.executable, studies.ROOT / "scripts/render_report.py", *tables, "--out", out], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "report.html: " in done.stdout
    assert out.read_text(encoding="utf-8").count("vegaEmbed=") == 1
    assert sorted(path.name for path in out.parent.iterdir()) == [".figures.speedgrid", "figures", "report.html", "summary.md"]
    assert {path.suffix for path in (out.parent / "figures").iterdir()} == {".svg"}


def test_no_missing_value_is_shown_as_one_of_pandas(html):
    assert not re.search(r"\b(nan|NaN|None|NaT|<NA>)\b", Page(html).text)


@pytest.mark.parametrize(("measured_on", "warned"), [("cuda", False), ("cpu", True)])
def test_a_page_says_measured_on_a_processor_only_where_that_is_so(tmp_path, measured_on, warned):
    summary, runs, replies = tables_of(made.write_group(tmp_path))
    # A study of a GPU prepares its models and scores its answers on the CPU all the same.
    runs = [run | {"device": measured_on if run["stage"] in ("warmup", "measure", "evaluate") else "cpu"} for run in runs]
    assert "score" in {run["stage"] for run in runs}
    text = Page(page.render(quick_parts(), made.study(), summary, runs, replies)).text
    assert ("Measured on a processor" in text) == warned


def test_a_cell_that_took_no_device_is_not_a_machine_of_its_own(tmp_path):
    _, runs, _ = tables_of(made.write_group(tmp_path, machine=made.GPU_MACHINE))
    nothing = dict.fromkeys(("device", "device_name", "device_uuid", "device_memory", "driver", "cuda"))
    inherited = next(run for run in runs if run["stage"] == "measure") | nothing
    assert machines.machines([*runs, inherited]) == machines.machines(runs)
    assert len(machines.machines([inherited])) == 1


SOURCES = Path(__file__).resolve().parents[2] / "report"


def test_the_script_of_the_page_stays_below_400_lines_and_is_not_crammed_into_them():
    """What Vega, CSS, HTML or Python can do is not done in JavaScript."""
    lines = [line for file in SOURCES.glob("*.js") for line in file.read_text(encoding="utf-8").splitlines()]
    assert 0 < len(lines) < 400
    assert max(map(len, lines)) <= 150
    assert max(line.count(";") - line.count("for (") * 2 for line in lines) <= 3, "statements have lines of their own"
    # All of it is there: nothing in the template runs, but for what it is given.
    template = (SOURCES / "template.html.j2").read_text(encoding="utf-8")
    kinds = re.findall(r"<script([^>]*)>(.*?)</script>", template)
    assert [content for kind, content in kinds if "application/json" not in kind] == ["{{ vega }}", "{{ script }}"]
    assert not re.search(r"\son[a-z]+=", template)


@pytest.mark.parametrize("most", [4, 3])
def test_the_first_screen_has_the_answers_of_a_few_groups_that_are_folded_away(tmp_path, monkeypatch, most):
    monkeypatch.setattr(overview, "MOST_ANSWERS", most)
    models = [f"model-{number}" for number in range(4)]
    grid = [cell for model in models for cell in made.write_group(tmp_path, made.DEFAULT_CELLS[:3], model=model)]
    first = Page(page_of(grid, made.study(models=models)).partition('id="choose"')[0]).text
    assert "4 combinations" in first
    assert all(f"{model} · generate · local" in first for model in models) == (most == 4)
    assert first.count("torch.compile (static cache) is the fastest") == (4 if most == 4 else 0)


def test_a_reply_with_control_characters_leaves_the_page_a_text(tmp_path):
    html = page_of(made.write_group(tmp_path, [replace(made.DEFAULT_CELLS[0], texts=("a\x00b\x1b[31m\n",))]), made.study())
    assert "a\u2400b\u241b[31m\n" in html
    assert not re.search(r"[\x00-\x08\x0b-\x1f]", html)


def test_a_chart_of_many_techniques_names_the_first_in_words():
    assert page._shortened("a 1; b 2") == "a 1; b 2"
    words = "; ".join(f"technique {number}" for number in range(14))
    assert page._shortened(words).startswith("technique 0; ")
    assert page._shortened(words).endswith("technique 5; and 8 more, in the table of the figures")


def test_a_cell_has_what_it_sorts_by_where_that_is_not_what_it_shows():
    assert figures_table.sort_key(figures_table.TableCell("48.1", 48.123456789, "47–49")) == " data-key=48.1235"
    assert figures_table.sort_key(figures_table.TableCell("20", 20)) == ""
    assert figures_table.sort_key(figures_table.TableCell("–")) == ' data-key=""'
    assert figures_table.sort_key(figures_table.TableCell("x", '"<')) == ' data-key="&#34;&lt;"'


def test_a_csv_of_the_table_has_the_units_of_its_heads_and_the_text_of_a_bound(tmp_path):
    """Under `Peak memory GiB` it had bytes, and seconds under `TTFT ms`; a speed-up of at most 2 was 2."""
    cells = [made.Made("baseline", "Baseline", speed=20, peak=3000), made.Made("fast", "Fast", speed=41, peak=1500)]
    group = group_of(tmp_path, cells)
    columns = [name for name in figures_table.TABLE if group.rows[name].notna().any()]
    table = figures_table.result_table(group, {}, columns)
    assert {"GiB", "ms"} <= {head["unit"] for head in table.headers}
    keyed = [cell for row in table.rows for cell in row.cells if isinstance(cell.key, float) and "%" not in cell.text]
    assert len(keyed) > 20
    for cell in keyed:
        shown = float(cell.text.rstrip(" †×").replace(",", "").replace("−", "-"))
        assert cell.key == pytest.approx(shown, rel=0.05, abs=0.006), cell
    ends = figures_table.result_table(group, {}, ["rate_low", "rate_high"])
    assert [(head["label"], head["unit"], head["word"]) for head in ends.headers] == [
        ("Speed, lower bound", "token/s", "rate"),
        ("Speed, upper bound", "token/s", "rate"),
    ]
    for row, told in zip(group.records, ends.rows, strict=True):
        low, high = (float(cell.text) for cell in told.cells)
        assert (low, high) == (pytest.approx(row["rate_low"], rel=1e-3), pytest.approx(row["rate_high"], rel=1e-3))
        assert [str(figures_table.sort_key(cell)) for cell in told.cells] == ["", ""]
    large = replace(group, rows=group.rows.assign(rate_low=145427.6))
    assert figures_table.result_table(large, {}, ["rate_low"]).rows[0].cells[0].text == "145400"
    bound = figures_table.TableCell("at most 2.00", 2.0, "unsure", is_bound=True)
    assert figures_table.sort_key(bound) == " data-key=2 data-bound"
    rows = group.rows.assign(speedup=float("nan"), speedup_low=float("nan"), speedup_high=2.0)
    bounded = figures_table.result_table(replace(group, rows=rows), {}, ["speedup"]).rows[1].cells[0]
    assert (bounded.key, bounded.is_bound) == (2.0, True)


@pytest.mark.parametrize(("low", "high", "said"), [(0.6, 0.77, "0.600–0.770"), (None, 0.77, "≤ 0.770"), (0.6, float("nan"), "≥ 0.600")])
def test_an_interval_of_one_end_is_a_bound(low, high, said):
    assert figures_table._between(units.Scale("s"), low, high) == said
