"""One page of several folders of results: what devices are called, what is joined, and what differs between the sides."""

import json
import os
import re
import shlex
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import advise
import make_page
import pytest
import records_factory as made
from hypothesis import given
from hypothesis import strategies as st
from report_data import quick_parts, tables_of
from speedgrid import commands, differences, records
from speedgrid.report import page, rendering, together
from speedgrid.schema import POINTS, RUNS, SUMMARY

L4 = made.GPU_MACHINE | {"device_name": "NVIDIA L4", "device_uuid": "GPU-l4", "driver": "550.54.15", "host": "other"}
CELLS = [replace(cell, again=(cell.speed * 1.01, cell.speed * 0.99)) for cell in made.DEFAULT_CELLS[:3]]
SLOW = [replace(cell, speed=12.0 + number / 10, again=(12.1, 12.0)) for number, cell in enumerate(CELLS)]


def side(
    root: Path, cells: Sequence[made.Made] = CELLS, machine: Mapping = made.GPU_MACHINE, study: Mapping | None = None, **options
) -> Path:
    """A folder with results as a run leaves them, with their plan."""
    grid = made.write_group(root, cells, machine=machine, **options)
    summary, runs, _ = tables_of(grid)
    told = study or made.study(cells=cells)
    for table, rows in ((SUMMARY, summary), (POINTS, []), (RUNS, [{"study": told["name"]} | run for run in runs])):
        records.write(root / "results" / f"{table.name}.parquet", table, rows)
    plan = made.write_plan(root, grid, told)
    (root / "results" / "plan.json").write_text(plan.read_text().replace(f"{root}/", ""))
    return root


def joined(*folders: Path) -> together.Told:
    return together.together(list(zip(together.labels(folders), map(rendering.read_folder, folders), strict=True)))


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> list[Path]:
    """One study on two machines, whose device has the same name in both."""
    root = tmp_path_factory.mktemp("two")
    return [side(root / "here"), side(root / "there", SLOW, L4)]


def test_devices_of_one_name_are_called_what_they_are(two):
    told = joined(*two)
    assert {row["gpu"] for row in told.summary} == {"NVIDIA H200", "NVIDIA L4"}
    assert {row["gpu"] for row in told.replies} == {row["gpu"] for row in told.scores} == {"NVIDIA H200", "NVIDIA L4"}
    assert len(told.replies) == 2 * 3 * 3 * 20
    assert told.study["name"] == "default"
    origin = told.study["origins"]["NVIDIA L4", "generate", "stdlib-llama"]
    assert (origin.study_file, origin.gpu, origin.settings["replies"]) == ("config.yaml", "local", 20)


def test_results_that_were_moved_are_read_where_they_lie_now(two, tmp_path):
    moved = tmp_path / "results of last month"
    shutil.copytree(two[0] / "results", moved)
    assert len(rendering.read_folder(moved).replies) == 3 * 3 * 20
    (moved / "plan.json").write_text("{}")
    with pytest.raises(records.RecordError, match=r"plan\.json: cannot be read as a plan"):
        rendering.read_folder(moved)


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(["L4", "H100"]), st.sampled_from("xy")), min_size=1, max_size=5))
def test_no_two_groups_of_different_folders_are_one(cells):
    """Of every choice of devices' names, kinds and models: what was measured apart stays apart, and names are kept where they can be."""
    sides = [
        (f"folder {number}", [{"gpu": gpu, "device_name": kind, "experiment": "e", "model": model}])
        for number, (gpu, kind, model) in enumerate(cells)
    ]
    named = together.names(sides)
    groups = [(own[row["gpu"]], row["experiment"], row["model"]) for (_, rows), own in zip(sides, named, strict=True) for row in rows]
    assert len(set(groups)) == len(groups)
    if len({gpu for gpu, *_ in cells}) == len(cells):
        assert named == [{gpu: gpu} for gpu, *_ in cells]


def test_one_kind_of_device_in_two_folders_is_told_apart_by_them(tmp_path):
    a, b = side(tmp_path / "monday"), side(tmp_path / "friday", machine=made.GPU_MACHINE | {"host": "other"})
    assert {row["gpu"] for row in joined(a, b).summary} == {"NVIDIA H200 (monday)", "NVIDIA H200 (friday)"}


def test_labels_are_what_paths_have_not_in_common():
    assert together.labels([Path("/a/x/results"), Path("/a/y/results")]) == ["x", "y"]
    assert together.labels([Path("/a/results"), Path("/a/results/older")]) == ["a", "older"]
    assert together.labels([Path("/a/x/s2/results"), Path("/a/y/s2/results")]) == ["x/s2", "y/s2"]
    assert together.labels([Path("/a/results"), Path("/a/a/results")]) == ["a", "a/a"]
    assert together.labels([Path("/a/b/one")]) == ["one"]


def test_what_several_studies_say_is_joined_and_settings_that_differ_stand_below_each_other(tmp_path):
    other = made.study(cells=CELLS) | {"name": "mine", "study_file": "studies/mine.yaml", "seed": 8}
    other["experiments"] = {"generate": other["experiments"]["generate"] | {"replies": 99}}
    told = joined(side(tmp_path / "a"), side(tmp_path / "b", SLOW, L4, other)).study
    assert (told["name"], told["seed"], told["study_file"]) == ("default, mine", "7, 8", "config.yaml, studies/mine.yaml")
    assert {name: settings["replies"] for name, settings in told["experiments"].items()} == {"generate": 20, "generate (b)": 99}
    assert told["title"] == "Speed-up techniques on this machine"


def test_the_heading_of_a_page_names_three_studies_and_counts_more(tmp_path):
    """The titles of eleven published studies filled the first screen of their page."""

    def heading(count: int) -> str:
        sides = [side(tmp_path / name, study=made.study(cells=CELLS) | {"title": f"Study {name}"}) for name in "abcd"[:count]]
        return page._title(joined(*sides).study)

    assert heading(3) == "Study a, Study b, Study c"
    assert heading(4) == "4 studies on one page"


def written(folders: list[Path], out: Path, monkeypatch) -> str:
    monkeypatch.setattr(rendering, "read_parts", quick_parts)
    monkeypatch.setenv("SPEEDGRID_TOGETHER", json.dumps({"results": list(map(str, folders)), "out": str(out)}))
    monkeypatch.setattr("sys.argv", ["make_page.py"])
    make_page.main()
    return (out / "report.html").read_text(encoding="utf-8")


def test_the_page_has_both_with_what_differs_and_their_own_commands(two, tmp_path, monkeypatch):
    before = sorted(path for folder in two for path in folder.rglob("*"))
    html = written(two, tmp_path / "out", monkeypatch)
    said = re.search(r"Between NVIDIA H200 and NVIDIA L4 these speed-ups differ by more than the runs explain: (.*)\.", html)
    assert said
    assert "torch.compile (static cache) (1.92× and 1.01×)" in said[1]
    assert html.index('id="side-by-side"') < html.index('id="groups"')
    # Speeds beside speed-ups, and what else is not the same.
    assert re.search(
        r'<th scope="row">torch\.compile \(static cache\)<td>1\.9[^<]*<small>9\d\.\d token/s</small><td>1\.0[^<]*<small>12\.\d token/s',
        html,
    )
    assert re.search(r'<th scope="row">driver<td class="text">570\.86\.15<td class="text">550\.54\.15', html)
    assert "Not the same work" not in html
    # The guide's command is that of the study on its own machine.
    guide = json.loads(re.search(r'id="guide-data">(.*?)</script>', html)[1])
    assert [group["command"] for group in guide["groups"]] == [
        "./speedgrid run -- results/local/generate/stdlib-llama/@/measure.parquet"
    ] * 2
    # Advice is asked of the same folders, for the device as it is called here.
    asked = [commands.one("advise").parse_args(shlex.split(group["advise"])[2:]) for group in guide["groups"]]
    assert [one.results for one in asked] == [list(map(str, two))] * 2
    assert [one.gpu for one in asked] == ["NVIDIA H200", "NVIDIA L4"]
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if not path.name.startswith(".")) == [
        "figures",
        "report.html",
        "summary.md",
    ]
    assert sorted(path for folder in two for path in folder.rglob("*")) == before


def test_work_that_was_not_the_same_is_said(two):
    def with_settings(settings: dict) -> list[dict]:
        return [run | {"job": json.dumps({"settings": settings, "gpu": "x"})} for run in rendering.read_folder(two[0]).runs]

    short, long = with_settings({"prompt_tokens": 128, "replies": 10}), with_settings({"prompt_tokens": 1024, "replies": 30})
    found = differences.around(([], short), ([], long))
    assert [(one.what, one.before, one.after) for one in found] == [
        ("settings.prompt_tokens", "128", "1024"),
        ("settings.replies", "10", "30"),
    ]
    assert [differences.is_of_the_work(one) for one in found] == [True, False]


@pytest.mark.parametrize(("precisions", "known"), [(["bf16_autocast"] * 2, "bf16_autocast"), (["fp32", "tf32"], None)])
def test_results_without_a_plan_have_the_precision_that_all_of_their_jobs_had(precisions, known):
    """Its code was that of training in float32, where each job had computed under autocast."""
    rows = [{"experiment": "steps", "workload": "train"}]
    jobs = [{"settings": {"batch_size": 8}, "options": {"precision": one}} for one in precisions]
    runs = [{"stage": "measure", "experiment": "steps", "job": json.dumps(job)} for job in jobs]
    assert together.without_plan("x", rows, runs)["experiments"] == {"steps": {"workload": "train", "batch_size": 8, "precision": known}}
    replies = [run | {"job": json.dumps({"settings": {"batch_size": 8}, "options": {"dtype": "float16"}})} for run in runs]
    assert together.without_plan("x", rows, replies)["experiments"] == {"steps": {"workload": "train", "batch_size": 8}}


def contents_of(told: together.Told, parts: page.Parts | None = None) -> dict:
    rows = (told.summary, told.runs, told.replies, None, told.points, told.scores, told.states)
    return page.contents(parts or quick_parts(), told.study, *rows)


def with_summary(folder: Path, to: Path, change: Callable[[dict], dict | None]) -> Path:
    """A copy of results whose summary has other rows, or fewer."""
    shutil.copytree(folder, to)
    at = to / "results" / "summary.parquet"
    changed = [change(row) for row in records.read(at, SUMMARY).rows]
    records.write(at, SUMMARY, [row for row in changed if row])
    return to


def test_a_group_has_the_settings_and_techniques_of_its_own_study(tmp_path):
    other = made.study(cells=CELLS) | {"study_file": "studies/mine.yaml"}
    other["experiments"] = {"generate": other["experiments"]["generate"] | {"prompt": "Once upon a time"}}
    other["techniques"] = other["techniques"] | {"sdpa": other["techniques"]["sdpa"] | {"summary": "Another thing by this name."}}
    a, b = side(tmp_path / "a"), side(tmp_path / "b", SLOW, L4, other)
    for order in ((a, b), (b, a)):
        told = joined(*order)
        shown = {section.group.gpu: section for section in contents_of(told)["sections"]}
        assert shown["NVIDIA H200"].prompt.startswith("class Stack")
        assert shown["NVIDIA L4"].prompt == "Once upon a time"
        summaries = {gpu: {row.label: row.summary for row in section.table.rows} for gpu, section in shown.items()}
        assert summaries["NVIDIA H200"]["SDPA"] == "What SDPA changes."
        assert summaries["NVIDIA L4"]["SDPA"] == "Another thing by this name."
        guides = {gpu: page._guide_of(section.group, told.study, {}) for gpu, section in shown.items()}
        assert guides["NVIDIA H200"].registry["sdpa"]["summary"] == "What SDPA changes."
        assert guides["NVIDIA L4"].registry["sdpa"]["summary"] == "Another thing by this name."


def test_other_weights_by_one_name_are_not_the_same_work(two, tmp_path):
    assert all(not one["work"] for one in contents_of(joined(*two))["sides"])
    other = with_summary(two[1], tmp_path / "there", lambda row: row | {"checkpoint_sha256": "cd" * 32})
    (sides,) = contents_of(joined(two[0], other))["sides"]
    assert [(what, a, before[:4], b, after[:4]) for what, a, before, b, after in sides["work"]] == [
        ("checkpoint_sha256", "NVIDIA H200", "abab", "NVIDIA L4", "cdcd")
    ]
    # One that each machine quantized, of the same model, may be another; and what is not known does not differ.
    made_there = with_summary(two[1], tmp_path / "made", lambda row: row if row["is_baseline"] else row | {"checkpoint_sha256": "cd" * 32})
    unknown = with_summary(two[1], tmp_path / "unknown", lambda row: row | {"checkpoint_sha256": None})
    for folder in (made_there, unknown):
        (sides,) = contents_of(joined(two[0], folder))["sides"]
        assert sides["work"] == []


def test_a_long_setting_is_cut_in_the_warning(two):
    def told(prompt: str) -> list[dict]:
        return [run | {"job": json.dumps({"settings": {"prompt": prompt}})} for run in joined(*two).runs if run["gpu"]]

    whole = joined(*two)
    long = [run if run["gpu"] == "NVIDIA L4" else other for run, other in zip(told("x" * 30_000), told("short"), strict=True)]
    (sides,) = contents_of(replace(whole, runs=long))["sides"]
    ((what, _, before, _, after),) = sides["work"]
    assert (what, before) == ("settings.prompt", "short")
    assert after.startswith("xxx")
    assert len(after) < 100


def test_what_the_summary_lacks_is_dropped(two, tmp_path):
    """A summary that is older than its plan: the records of its other cells must not go to a device of another folder."""
    older = with_summary(two[1], tmp_path / "older", lambda row: row if row["is_baseline"] else None)
    told = joined(two[0], older)
    kept = {(row["gpu"], row["technique"]) for row in told.replies}
    assert {technique for gpu, technique in kept if gpu == "NVIDIA L4"} == {"baseline"}
    assert {gpu for gpu, _ in kept} == {"NVIDIA H200", "NVIDIA L4"}

    nothing = with_summary(two[1], tmp_path / "nothing", lambda row: None)
    told = joined(two[0], nothing)
    assert len(told.replies) == 3 * 3 * 20
    assert {run["host"] for run in told.runs if run["gpu"]} == {"bench-01"}
    assert len(contents_of(told)["sections"]) == 1


def test_one_result_by_several_names_is_one(two, tmp_path, monkeypatch):
    link = tmp_path / "link"
    link.symlink_to(two[0])
    html = written([two[0], two[0] / "results", link], tmp_path / "out", monkeypatch)
    assert "stdlib-llama · generate · local" in html
    assert 'id="side-by-side"' not in html


def test_a_study_file_with_blanks_is_quoted_in_both_commands(tmp_path):
    mine = made.study(cells=CELLS) | {"study_file": "my studies/a; b.yaml"}
    command = contents_of(joined(side(tmp_path / "a", study=mine)))["command"]
    assert command["snakemake"] == "snakemake --cores 1 --use-conda --configfile 'my studies/a; b.yaml'"
    assert command["speedgrid"] == "./speedgrid run --study 'my studies/a; b.yaml'"


@pytest.mark.parametrize("lost", ["runs", "points"])
def test_a_table_that_is_missing_is_no_empty_one_but_in_published_results(two, tmp_path, lost):
    shutil.copytree(two[0], tmp_path / "copy")
    results = tmp_path / "copy" / "results"
    (results / f"{lost}.parquet").unlink()
    assert len(rendering.read_folder(results).summary) == 3
    plan = json.loads((results / "plan.json").read_text())
    with pytest.raises(records.RecordError, match=rf"{lost}\.parquet"):
        rendering.read(plan, *(results / f"{table.name}.parquet" for table in (SUMMARY, POINTS, RUNS)))


def test_published_tables_without_a_plan_have_a_page(two, tmp_path, monkeypatch):
    folders = [tmp_path / "published" / name for name in ("h200", "l4")]
    for folder, of in zip(folders, two, strict=True):
        folder.mkdir(parents=True)
        for name in ("summary", "runs"):
            shutil.copy(of / "results" / f"{name}.parquet", folder)
    html = written([tmp_path / "published"], tmp_path / "out", monkeypatch)
    assert "stdlib-llama · generate · NVIDIA L4" in html
    assert "--study STUDY.yaml" in html
    assert 'id="side-by-side"' in html


def test_what_is_no_result_is_one_line(tmp_path, monkeypatch, capfd):
    with pytest.raises(SystemExit) as ended:
        written([tmp_path], tmp_path / "out", monkeypatch)
    assert ended.value.code == 1
    said = [line for line in capfd.readouterr().out.splitlines() if line]
    assert said == [f"speedgrid: {tmp_path}: not a results folder; it has no summary.parquet, which ./speedgrid report makes"]
    assert not os.path.exists(tmp_path / "out")


def advised(folders: Sequence[Path], monkeypatch, capsys, *arguments: str) -> str:
    monkeypatch.setattr("sys.argv", ["advise.py", "--results", *map(str, folders), *arguments])
    assert advise.main() == 0
    return capsys.readouterr().out


def test_advice_takes_several_folders_as_the_page_does(two, monkeypatch, capsys):
    said = advised(two, monkeypatch, capsys)
    heads = [line.partition(":")[0] for line in said.splitlines() if line.startswith("stdlib-llama · ")]
    assert heads == ["stdlib-llama · generate · NVIDIA H200", "stdlib-llama · generate · NVIDIA L4"]
    # The command is that of the study on its own machine.
    assert said.count("./speedgrid run -- results/local/generate/stdlib-llama/") == 2
    only = json.loads(advised(two, monkeypatch, capsys, "--json", "--gpu", "NVIDIA L4"))
    assert [one["gpu"] for one in only] == ["NVIDIA L4"]
    # A folder of both is both, and one folder by two names is one.
    around = advised([two[0].parent], monkeypatch, capsys)
    assert [line.partition(":")[0] for line in around.splitlines() if line.startswith("stdlib-llama · ")] == heads
    alone = advised([two[0], two[0] / "results"], monkeypatch, capsys)
    assert "stdlib-llama · generate · local" in alone


@pytest.mark.parametrize(
    ("host", "uuid", "is_said"), [("bench-02", "GPU-2", True), ("bench-02", "GPU-1", False), ("bench-01", "GPU-2", False)]
)
def test_two_machines_that_are_one_device_here_are_told(tmp_path, host, uuid, is_said):
    """Of one kind, they measured other models, so that nothing tells which is which; in a container one machine may have two names."""
    machines = [made.GPU_MACHINE | {"host": name, "device_uuid": of} for name, of in (("bench-01", "GPU-1"), (host, uuid))]
    sides = [side(tmp_path / f"side-{n}", machine=one, model=f"model-{n}") for n, one in enumerate(machines)]
    told = joined(*sides)
    assert {row["gpu"] for row in told.summary} == {"NVIDIA H200"}
    contents = contents_of(told)
    assert contents["pooled"] == ({"NVIDIA H200": ["bench-01", "bench-02"]} if is_said else {})
    assert ("NVIDIA H200 is 2 machines, by their host names bench-01, bench-02" in page.written(quick_parts(), contents)) == is_said
