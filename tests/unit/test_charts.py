"""Charts: valid specifications that hold every technique, with grey for what was not active and words for what could not run."""

import json
import re
from dataclasses import replace
from itertools import combinations, pairwise

import altair as alt
import numpy as np
import pandas as pd
import pytest
import records_factory as made
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from report_data import group_of
from speedgrid import planning
from speedgrid.report import advice, advised, cards, charts, figures_table, units
from speedgrid.report.charts import base, energy, families, labels, latency, lines, memory, phases, reading, runs, speed, starts
from speedgrid.report.tables import groups
from speedgrid.schema import SUMMARY

NAMES = ["speed", "speedup", "phases", "ceiling", "latency", "memory", "cold-start", "quality", "pays", "ecdf", "replies"]
ROW_CHARTS = ["speed", "speedup", "phases", "ceiling", "latency", "memory", "cold-start"]


@pytest.fixture(scope="module")
def group(tmp_path_factory):
    return group_of(tmp_path_factory.mktemp("group"))


@pytest.fixture(scope="module")
def figures(group):
    return {figure.name: (figure, figure.chart.to_dict(validate=True)) for figure in charts.figures(group)}


def data_of(spec):
    return [row for rows in spec["datasets"].values() for row in rows]


def dotted(spec):
    """The rows of single replies, one a technique, with a list of their figures."""
    return [row for row in data_of(spec) if isinstance(row.get("rate"), list)]


def axis_rows(spec):
    """The domains of all y scales of a chart's layers."""
    axes = [layer["encoding"].get("y", {}) for layer in spec["layer"]]
    return [axis["scale"]["domain"] for axis in axes if "domain" in axis.get("scale", {})]


def test_there_is_every_chart(figures):
    assert list(figures) == NAMES


@pytest.mark.parametrize("name", ROW_CHARTS)
def test_every_technique_has_its_row(figures, name):
    for rows in axis_rows(figures[name][1]):
        shown = [row.replace("\n", " ") for row in rows]
        assert [cell.label for cell in made.DEFAULT_CELLS if not any(row.startswith(cell.label) for row in shown)] == []


@pytest.mark.parametrize("name", ROW_CHARTS)
def test_what_could_not_run_says_why_in_its_row(figures, name):
    notes = [row for row in data_of(figures[name][1]) if "note" in row]
    assert [(row["name"], row["note"]) for row in notes] == [("bitsandbytes NF4", "a package or tool is missing")]


@pytest.mark.parametrize("name", [*ROW_CHARTS, "quality"])
def test_what_was_not_active_is_grey(figures, name):
    _, spec = figures[name]
    states = {row["state"] for row in data_of(spec) if row.get("name") == "torch.compile (one line)"}
    assert states == {"not engaged"}
    if name in ROW_CHARTS:
        (row,) = {row for rows in axis_rows(spec) for row in rows if "one line" in row}
        assert row.endswith("not engaged" + base.OFF)
    scales = [layer["encoding"]["color"]["scale"] for layer in spec["layer"] if "scale" in layer["encoding"].get("color", {})]
    by_state = [dict(zip(scale["domain"], scale["range"], strict=True)) for scale in scales if "not engaged" in scale["domain"]]
    fades = "not engaged" in json.dumps([layer["encoding"].get("opacity") for layer in spec["layer"]])
    assert fades or all(list(inks.values()).count(families.OFF_INK) == 1 and inks["not engaged"] == families.OFF_INK for inks in by_state)
    assert fades or by_state


def test_rows_are_in_order_of_speed_with_failures_last(figures):
    rows = axis_rows(figures["speed"][1])[0]
    assert rows[0].startswith("torch.compile\n(static")
    assert rows[-1].startswith("bitsandbytes NF4")


def test_every_reply_is_a_dot_up_to_a_number(tmp_path, figures):
    assert [len(row["rate"]) for row in dotted(figures["speed"][1])] == [20] * 7
    many = group_of(tmp_path, [replace(made.DEFAULT_CELLS[0], replies=450)])
    drawn = charts.figures(many)[0]
    assert [len(row["rate"]) for row in dotted(drawn.chart.to_dict())] == [base.DOTS]
    assert "evenly picked" in drawn.caption


def test_memory_is_stacked_up_to_its_peak(figures):
    parts = [row for row in data_of(figures["memory"][1]) if row.get("name") == "SDPA" and "part" in row]
    assert [round(row["stop"] - row["start"]) for row in parts] == [610, 120, 170]
    assert all(a["stop"] == b["start"] for a, b in pairwise(parts))


def test_what_loading_took_is_the_peak_in_every_chart_and_table(tmp_path):
    """A card must hold what a cell needs to load, too: the answer named that, and the charts beside it the peak of the replies."""
    loading = {"facts": {"memory_load_peak": 1500 * made.MIB}}
    cells = [made.DEFAULT_CELLS[0], replace(made.DEFAULT_CELLS[1], **loading), *made.DEFAULT_CELLS[2:]]
    group = group_of(tmp_path, cells, machine=made.GPU_MACHINE)
    drawn = {figure.name: data_of(figure.chart.to_dict()) for figure in charts.figures(group)}
    assert [row["stop"] for row in drawn["memory"] if row.get("name") == "SDPA" and "part" in row][-1] == pytest.approx(1500 / 1024)
    (part,) = [row["figure"] for row in drawn["phases"] if row.get("name") == "SDPA" and row.get("part") == "peak memory"]
    (mark,) = {row["memory_text"] for row in drawn["quality"] if row.get("name") == "SDPA" and "memory_text" in row}
    assert part == mark == "1.46 GiB"
    assert {row["memory_peak"] for row in group.records if row["technique"] == "sdpa"} == {1500 * made.MIB}
    older = [row | {"memory_peak": 900 * made.MIB} for row in group.records]
    assert {row["memory_peak"] for row in next(groups(older, ())).records if row["technique"] == "sdpa"} == {1500 * made.MIB}


def test_memory_that_a_process_gave_back_makes_no_negative_part(tmp_path):
    facts = {"memory_before": 700 * made.MIB, "memory_loaded": 650 * made.MIB}
    group = group_of(tmp_path, [replace(made.DEFAULT_CELLS[0], peak=680, facts=facts)])
    spec = memory.memory(group.rows).to_dict()
    parts = [row for row in data_of(spec) if "part" in row]
    assert [row["start"] <= row["stop"] for row in parts] == [True] * 3
    assert parts[-1]["stop"] == 680


def test_reserved_memory_is_shown_on_a_gpu_alone(tmp_path, figures):
    words = [text for _, text, _ in figures["memory"][0].legend]
    assert not any("reserved" in text for text in words)
    group = group_of(tmp_path, machine=made.GPU_MACHINE)
    words = [text for _, text, _ in memory.memory_figure(group).legend]
    assert any("reserved" in text for text in words)
    assert not any("before" in text for text in words)


def test_what_has_no_data_has_no_chart(tmp_path):
    failed = [replace(cell, status="oom", reason="out of memory") for cell in made.DEFAULT_CELLS]
    assert charts.figures(group_of(tmp_path / "failed", failed)) == []
    names = [figure.name for figure in charts.figures(group_of(tmp_path / "unscored", evaluate=False))]
    assert names == [name for name in NAMES if name != "quality"]
    random = group_of(tmp_path / "random", quality_meaningful=False)
    assert "quality" not in [figure.name for figure in charts.figures(random)]
    no_baseline = [replace(made.DEFAULT_CELLS[0], status="oom", reason="out of memory"), made.DEFAULT_CELLS[1]]
    assert "speedup" not in [figure.name for figure in charts.figures(group_of(tmp_path / "no_baseline", no_baseline))]


@pytest.mark.parametrize("cells", [made.DEFAULT_CELLS[:1], [replace(made.DEFAULT_CELLS[0], replies=1)]], ids=["one cell", "one reply"])
def test_the_smallest_study_has_charts_too(tmp_path, cells):
    for figure in charts.figures(group_of(tmp_path, cells)):
        figure.chart.to_dict(validate=True)


def test_a_figure_is_said_in_words(figures):
    assert "SDPA 5" in figures["speed"][0].words
    assert "token/s" in figures["speed"][0].words


@given(st.floats(0.01, 0.999), st.floats(1.001, 200))
def test_ratio_ticks_hold_1_and_lie_within_the_axis(low, high):
    ticks = base.ratio_ticks(low, high)
    assert 1 in ticks
    assert ticks == sorted(set(ticks))
    assert all(low * 0.999 <= tick <= high * 1.001 for tick in ticks)
    assert len(ticks) <= 18


@pytest.mark.parametrize(
    ("label", "lines"),
    [
        ("SDPA", "SDPA"),
        ("torch.compile (one line)", "torch.compile\n(one line)"),
        ("Baseline (eager attention)", "Baseline\n(eager attention)"),
        ("FlashAttention-2 and static cache", "FlashAttention-2\nand static cache"),
        ("bfloat16 throughout, compiled", "bfloat16\nthroughout,\ncompiled"),
    ],
)
def test_labels_break_at_brackets_or_evenly(label, lines):
    assert labels.wrapped(label) == lines


@given(st.text(max_size=120), st.sampled_from([2, 3]))
def test_any_label_has_at_most_so_many_lines(label, most):
    assert labels.wrapped(label, most).count("\n") <= max(most - 1, label.count("\n"))


points = st.lists(st.tuples(st.floats(0.05, 0.95), st.floats(20, 300)), min_size=1, max_size=8)


@settings(max_examples=60)
@given(points)
def test_labels_cover_neither_labels_nor_points_at_any_width(places):
    names = ["torch.compile (static)", "SDPA", "bfloat16", "No KV cache", "bitsandbytes INT8", "Baseline (eager)", "NF4", "GPTQ"][
        : len(places)
    ]
    spots = labels.place_labels(places, names, 340)
    for width in labels.WIDTHS:
        boxes = []
        for point, name, spot in zip(places, names, spots, strict=True):
            lines = labels.wrapped(name).split("\n")
            boxes.append(labels.label_box(point, spot, (max(map(len, lines)) * labels.CHARACTER, len(lines) * labels.LINE), width))
        crowded = sum(labels.shared(a, b) > 1 for number, a in enumerate(boxes) for b in boxes[:number])
        assert crowded == 0


# Colours

STYLE = (planning.ROOT / "report" / "style.css").read_text(encoding="utf-8")
LIGHT, DARK, PAPER = (
    STYLE.partition("@media (prefers-color-scheme: dark)")[0],
    STYLE.partition("dark)")[2],
    STYLE.partition("@media print")[2],
)
# What people see who lack one kind of cone: Machado, Oliveira and Fernandes (2009), severity 1, in linear RGB.
SIGHT = {
    "all colours": np.eye(3),
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
# Linear RGB to the cones of Oklab, and their cube roots to Oklab (Ottosson 2020).
CONES = [[0.4122214708, 0.5363325363, 0.0514459929], [0.2119034982, 0.6806995451, 0.1073969566], [0.0883024619, 0.2817188376, 0.6299787005]]
OKLAB = [
    [0.2104542553, 0.7936177850, -0.0040720468],
    [1.9779984951, -2.4285922050, 0.4505937099],
    [0.0259040371, 0.7827717662, -0.8086757660],
]


def linear(css: str, name: str) -> np.ndarray:
    """A colour variable's first value in a part of the style sheet, in linear RGB."""
    code = re.search(rf"--{name}: #([0-9a-f]{{6}}|[0-9a-f]{{3}});", css).group(1)
    code = code if len(code) == 6 else "".join(2 * digit for digit in code)
    part = np.array([int(code[at : at + 2], 16) / 255 for at in (0, 2, 4)])
    return np.where(part <= 0.04045, part / 12.92, ((part + 0.055) / 1.055) ** 2.4)


@pytest.mark.parametrize("css", [LIGHT, DARK, PAPER], ids=["light", "dark", "paper"])
def test_every_family_has_a_colour_that_can_be_told_apart_and_from_the_page(css):
    card = linear(css, "card") @ [0.2126, 0.7152, 0.0722]
    inks = {family: linear(css, f"family-{family}") for family in families.SHAPES} | {"grey": linear(css, "chart-off")}
    for family, ink in inks.items():
        bright, dark = sorted((ink @ [0.2126, 0.7152, 0.0722], card), reverse=True)
        assert (bright + 0.05) / (dark + 0.05) >= 3 or family == "grey", family
    for sight, matrix in SIGHT.items():
        seen = {
            family: np.cbrt(np.clip(ink @ np.transpose(matrix), 0, 1) @ np.transpose(CONES)) @ np.transpose(OKLAB)
            for family, ink in inks.items()
        }
        for one, other in combinations(seen, 2):
            assert np.linalg.norm(seen[one] - seen[other]) > 0.08, (sight, one, other)


def test_every_family_of_the_registry_has_shape_words_and_a_mark_in_the_legend():
    schema = yaml.safe_load((planning.ROOT / "rules" / "schemas" / "techniques.schema.yaml").read_text(encoding="utf-8"))
    known = set(schema["additionalProperties"]["properties"]["family"]["enum"])
    assert known == set(families.SHAPES) == set(families.WORDS)
    assert len(set(families.SHAPES.values())) == len(known)
    assert [
        family for family in known - {"attention"} if f".legend .{family} {{" not in STYLE
    ] == []  # a square is what a legend has anyway


def test_a_family_has_one_colour_in_all_charts(figures):
    seen = {}
    for _, spec in figures.values():
        for layer in spec["layer"]:
            scale = layer["encoding"].get("color", {}).get("scale", {})
            for kind, ink in zip(scale.get("domain", ()), scale.get("range", ()), strict=True):
                if kind in families.SHAPES:
                    seen.setdefault(kind, set()).add(ink)
    assert {"compile", "precision", "quantization"} <= set(seen)
    assert seen == {kind: {f"var(--family-{kind})"} for kind in seen}


def test_a_chart_embeds_no_column_that_it_did_not_ask_for(figures):
    every = {column.name for column in SUMMARY.columns}
    for name, (figure, spec) in figures.items():
        embedded = {key for row in data_of(spec) for key in row} & every
        assert embedded <= {*figure.columns, "technique", "status"}, name


def test_all_charts_fade_what_is_not_chosen(figures):
    for name, (_, spec) in figures.items():
        assert [one["value"] for one in spec["params"] if one["name"] == "chosen"] == [""], name
        assert "chosen != datum.name" in json.dumps(spec), name


# Quality, memory and when it pays


def test_what_another_technique_beats_is_pale_and_says_by_what(figures):
    rows = {row["name"]: row for row in data_of(figures["quality"][1]) if "by" in row}
    assert rows["No KV cache"]["beaten"]
    assert rows["No KV cache"]["by"] == "SDPA"
    assert not rows["torch.compile (static cache)"]["beaten"]
    assert "Nothing beats in speed, quality and memory: " in figures["quality"][0].words


def test_cards_have_lines_where_memory_is_that_of_a_gpu(tmp_path, figures):
    cells = [replace(made.DEFAULT_CELLS[0], peak=15 * 1024), made.Made("small", "Small", peak=4 * 1024)]
    figure = memory.memory_figure(group_of(tmp_path, cells, machine=made.GPU_MACHINE))
    drawn = {row["size"]: row["card"] for row in data_of(figure.chart.to_dict(validate=True)) if "card" in row}
    assert drawn["24 GB"] == pytest.approx(24e9 / 2**30 - 0.6)  # GiB, of which CUDA takes some
    assert "16 GB" in drawn
    assert "48 GB" not in drawn
    assert "Dashed" in figure.caption
    assert not [row for row in data_of(figures["memory"][1]) if "card" in row]


def test_a_card_holds_by_the_chart_what_it_holds_by_the_table_whoever_told_the_memory(tmp_path):
    """7.2 GiB by the driver fit a card of 8 GB, and ended beyond its line, which was that of PyTorch's figures."""
    driver = {"facts": {"memory_source": "device"}}
    told = [made.Made("vllm", "vLLM", "engine", peak=7.2 * 1024, **driver), made.Made("large", "Large", peak=7.3 * 1024)]
    for cells in (told, told[:1], [replace(made.DEFAULT_CELLS[0], peak=6.9 * 1024), told[1]]):
        group = group_of(tmp_path / str(len(cells)) / cells[-1].technique, cells, machine=made.GPU_MACHINE)
        figure = memory.memory_figure(group)
        rows = data_of(figure.chart.to_dict(validate=True))
        (line,) = [row["card"] for row in rows if row.get("size") == "8 GB"]
        ends = {row["name"]: row["peak"] for row in rows if "peak" in row and "state" in row}
        fits = {need.label: cards.says(need, 8) for need in cards.needs(group, None)}
        assert {name: end <= line for name, end in ends.items()} == {name: said != cards.NOT for name, said in fits.items()}
        assert ("for CUDA itself" in [key.words for key in figure.legend]) == (cells is told)
        assert ("0.6\u00a0GiB for CUDA itself is added" in figure.caption) == (cells is told)
    assert "CUDA itself" in {
        row["part"]
        for row in data_of(memory.memory(group_of(tmp_path / "parts", told, machine=made.GPU_MACHINE).rows).to_dict())
        if "part" in row
    }


def test_the_lines_cross_1_where_a_technique_pays_off(figures):
    figure, spec = figures["pays"]
    rows = data_of(spec)
    crossed = [row for row in rows if "break_even_replies" in row]
    assert {row["name"] for row in crossed} == {"torch.compile (static cache)", "bfloat16", "SDPA"}
    (paid,) = (row for row in crossed if row["name"] == "torch.compile (static cache)")
    assert paid["break_even_replies_low"] <= paid["break_even_replies"] <= paid["break_even_replies_high"]
    line = {row["requests"]: row["share"] for row in rows if "share" in row and "label" not in row and row["name"] == paid["name"]}
    assert all((share > 1) == (count < paid["break_even_replies"]) for count, share in line.items())
    assert "torch.compile (static cache) after" in figure.words
    assert "No KV cache never" in figure.words


# Phases, shares, energy, runs and people


def test_prefill_decode_and_memory_are_told_over_the_baseline(figures):
    rows = [row for row in data_of(figures["phases"][1]) if "part" in row]
    compiled = {row["part"]: row for row in rows if row["name"] == "torch.compile (static cache)"}
    assert set(compiled) == {"prefill", "decode", "peak memory"}
    assert compiled["peak memory"]["ratio"] == pytest.approx(1010 / 900)
    assert compiled["decode"]["ratio"] == pytest.approx(92 / 48, rel=0.03)
    assert compiled["decode"]["low"] < compiled["decode"]["ratio"] < compiled["decode"]["high"]
    assert {row["ratio"] for row in rows if row["state"] == "baseline"} == {1.0}


def test_memory_of_two_sources_is_what_the_device_must_have_and_the_caption_says_so(tmp_path):
    """The square of an engine whose memory the driver told was not there, and nothing said why."""
    cells = [made.DEFAULT_CELLS[0], replace(made.DEFAULT_CELLS[1], facts={"memory_source": "device"})]
    group = group_of(tmp_path, cells, machine=made.GPU_MACHINE)
    figure = phases.phases_figure(group)
    (row,) = [row for row in data_of(figure.chart.to_dict()) if row.get("name") == "SDPA" and row.get("part") == "memory needed"]
    assert row["ratio"] == pytest.approx(900 / (900 + 0.6 * 1024))
    assert row["figure"] == "0.944 GB"
    assert "0.6\u00a0GiB for CUDA itself is added" in figure.caption
    alike = phases.phases_figure(group_of(tmp_path / "alike", made.DEFAULT_CELLS[:2], machine=made.GPU_MACHINE))
    assert "CUDA" not in alike.caption


@pytest.mark.parametrize("is_scored", [True, False])
def test_figures_of_memory_of_one_name_are_the_same_on_the_whole_page(tmp_path, is_scored):
    """Of one cell the page had 900 MiB and 1.38 GiB as "peak memory", and 1.48 GB as what it needs; in the chart of quality also where the
    one whose memory the driver told was not scored."""
    told_by_driver = replace(made.DEFAULT_CELLS[1], facts={"memory_source": "device"})
    cells = [made.DEFAULT_CELLS[0], told_by_driver, made.DEFAULT_CELLS[2]]
    group = group_of(tmp_path, cells, machine=made.GPU_MACHINE)
    if not is_scored:
        group = replace(group, rows=group.rows.assign(bits_per_byte=group.rows.bits_per_byte.mask(group.rows.memory_source == "device")))
    (row,) = [row for row in group.records if row["is_baseline"]]
    needed, label = f"{units.number(advice.needs(row) / 1e9)} GB", row["label"]
    assert advised.needed(advised.Guide(group.records).option(row["technique"])) == f"needs {needed}"
    (fits,) = [need for name, need, _ in cards.table(group, None).rows if name == label]
    assert f"{fits} GB" == needed
    charted = [figure for figure in charts.figures(group) if "memory" in figure.name or figure.name in ("phases", "quality")]
    assert {"memory", "phases", "quality"} <= {figure.name for figure in charted}
    for figure in charted:
        told = json.dumps(figure.chart.to_dict(), ensure_ascii=False)
        assert "memory needed" in told, figure.name
        assert "peak memory" not in told.lower(), figure.name
        assert "iB" not in told, figure.name
    by_name = {figure.name: figure for figure in charted}
    assert by_name["memory"].title == "Memory needed"
    assert needed in f"{by_name['memory'].words}; "
    head = next(head for head in figures_table.result_table(group, {}, ["memory_peak"]).headers)
    assert (head["label"], head["unit"]) == ("Peak memory", "MiB")


def test_dots_are_told_of_where_there_are_replies(figures, group):
    assert "every dot is a reply" in speed.speed_figure(group).caption
    assert "dot" not in speed.speed_figure(replace(group, replies=group.replies[:0])).caption


def test_shares_of_replies_rise_to_all_of_them_and_percentiles_have_their_intervals(tmp_path):
    group = group_of(tmp_path, [replace(made.DEFAULT_CELLS[0], replies=300)])
    figure = latency.ecdf_figure(group)
    rows = data_of(figure.chart.to_dict(validate=True))
    line = [row for row in rows if "percentile" not in row and "time" in row]
    assert len(line) == latency.STEPS
    assert [row["share"] for row in line] == sorted(row["share"] for row in line)
    assert line[-1]["share"] == 1
    assert line[0]["share"] == pytest.approx(1 / 300)
    bounds = {row["percentile"]: row for row in rows if "percentile" in row}
    for percent, bound in bounds.items():
        assert bound["low"] <= bound["time"] <= bound["high"], percent
        nearest = min(line, key=lambda row: abs(row["share"] - bound["share"]))
        assert nearest["time"] == pytest.approx(bound["time"], rel=0.02)


def test_a_percentile_of_few_replies_is_told_and_not_the_one_bound_that_they_give_it(tmp_path):
    group = group_of(tmp_path, [replace(made.DEFAULT_CELLS[0], replies=5)])
    rows = group.rows.assign(latency_p50_s=2.0, latency_p50_low_s=None, latency_p50_high_s=2.5)
    texts = {
        row["percentile"]: row["text"]
        for row in data_of(latency.ecdf_figure(replace(group, rows=rows)).chart.to_dict())
        if "percentile" in row
    }
    assert texts["50 %"].startswith("2.00 ")


def test_energy_has_a_chart_where_it_is_known(tmp_path):
    assert energy.energy_figure(group_of(tmp_path / "none")) is None
    group = group_of(tmp_path / "some", made.DEFAULT_CELLS[:2])
    rows = group.rows.assign(joule_per_token=[0.5, 0.25])
    figure = energy.energy_figure(replace(group, rows=rows))
    bars = {row["name"]: row for row in data_of(figure.chart.to_dict(validate=True)) if "joule" in row}
    assert [bars[name]["joule"] for name in ("Baseline (eager attention)", "SDPA")] == [0.5, 0.25]
    assert bars["SDPA"]["kwh"] == "0.0694 kWh"  # a million times 0.25 J
    assert figure.words == "Baseline (eager attention) 0.500 J/token; SDPA 0.250 J/token"
    one = energy.energy_figure(replace(group, rows=rows.assign(joule_per_token=[0.5, float("nan")])))
    assert {row["kwh"] for row in data_of(one.chart.to_dict(validate=True)) if row.get("kwh")} == {"0.139 kWh", "–"}


def test_energy_that_is_estimated_is_marked_in_guide_chart_and_table_alike(tmp_path):
    """The guide chose by an estimate that had no bar and no figure in the table."""
    group = group_of(tmp_path, made.DEFAULT_CELLS[:2])
    told = {"energy": [480.0, 240.0], "watched_s": [9.0, 2.0], "power_mean": [53.0, 110.0], "shared": [False, False]}
    group = replace(group, rows=group.rows.assign(joule_per_token=[1.97, float("nan")], **told))
    estimated = units.number(120 / group.records[1]["rate"])
    guide = advised.Guide(group.records)
    asked = [advised.figure_in_words(guide, name, advice.Ask("energy")) for name in group.rows.technique]
    assert asked == ["1.97 J/token", f"about {estimated} J/token (from mean power)"]
    figure = energy.energy_figure(group)
    bars = {row["name"]: row for row in data_of(figure.chart.to_dict(validate=True)) if "joule" in row}
    assert [(bars[name]["text"], bars[name]["about"]) for name in group.rows.label] == [("1.97", False), (f"≈ {estimated}", True)]
    assert figure.words.endswith(f"; SDPA ≈ {estimated} J/token")
    assert "estimates from mean power" in figure.caption
    read = energy.energy_figure(replace(group, rows=group.rows.assign(joule_per_token=[1.97, 0.5])))
    assert "estimate" not in read.caption
    assert "joule_per_token" in figures_table.columns_shown("replies", [group])
    cells = [row.cells[0] for row in figures_table.result_table(group, {}, ["joule_per_token"]).rows]
    assert [(cell.text, cell.note) for cell in cells] == [("1.97", ""), (f"≈ {estimated}", "from mean power")]
    # The CSV has the mark, too.
    assert "data-bound" in figures_table.sort_key(cells[1])
    only = replace(group, rows=group.rows.assign(joule_per_token=float("nan")))
    assert "joule_per_token" in figures_table.columns_shown("replies", [only])


def test_runs_of_the_same_stand_around_their_mean(tmp_path, figures):
    assert "runs" not in figures
    cells = [replace(made.DEFAULT_CELLS[0], spread=0, again=(50.4, 45.6)), made.DEFAULT_CELLS[1]]
    figure = runs.runs_figure(group_of(tmp_path, cells))
    told = [(row["name"], row["run"], round(row["off"], 1)) for row in data_of(figure.chart.to_dict(validate=True)) if "off" in row]
    assert told == [("Baseline (eager attention)", 1, 0.0), ("Baseline (eager attention)", 2, 5.0), ("Baseline (eager attention)", 3, -5.0)]
    assert "drifted by" in figure.caption


def test_replies_over_time_keep_a_stall_however_many_there_are(tmp_path):
    group = group_of(tmp_path, [replace(made.DEFAULT_CELLS[0], spread=0.001, replies=1000)])
    stalled = group.replies.copy()
    stalled.loc[517, "rate"] = stalled.rate[517] / 10
    rows = data_of(runs.replies_figure(replace(group, replies=stalled)).chart.to_dict(validate=True))
    line = [row for row in rows if "share" in row and "label" not in row]
    assert len(line) <= runs.SHOWN
    assert min(row["share"] for row in line) == pytest.approx(10, rel=0.02)


def test_the_published_pace_of_speech_is_had_again():
    assert reading.times_speech(102.69, 319, 187, reading.JAPANESE) == pytest.approx(35.0, abs=0.1)


@pytest.mark.parametrize(
    ("text", "pace"),
    [
        ("今日は良い天気ですね。このあとの予定は何でしょうか、散歩に行きましょう。" * 10, reading.JAPANESE),
        ("The weather is fine today, so we went for a walk along the river. " * 10, reading.WORDS),
        (
            "1. **Go for a walk**: enjoy the sun, and get some air (30 minutes do).\n2. **Call a friend**: it's been a while!\n\n" * 5,
            reading.WORDS,
        ),
        ("1. **散歩に行く**：近くの公園を歩いてみましょう。\n2. **買い物**：新しい服を見に行くのもいいですね！\n\n" * 10, reading.JAPANESE),
        ("1 2.5 3.75 4.125, total 10.375 of 12 parts\n" * 30, None),
        ("def f(self, x):\n    return self.items[x](*a, **{'k': [1, 2]}) + 0x1f\n" * 10, None),
        ("short", None),
        ("", None),
    ],
    ids=["Japanese", "English", "a list", "a list in Japanese", "numbers", "code", "short", "nothing"],
)
def test_people_read_prose(text, pace):
    assert reading.pace([text]) == pace


def test_speech_is_compared_where_the_model_writes_prose(tmp_path):
    prose = ("The weather is fine today so we went for a walk along the river and back again. " * 4,)
    cells = [replace(cell, texts=prose) for cell in made.DEFAULT_CELLS[:3]]
    figure = reading.reading_figure(group_of(tmp_path / "prose", cells))
    rows = {row["name"]: row for row in data_of(figure.chart.to_dict(validate=True)) if "times" in row}
    words = len(prose[0].split())
    assert rows["SDPA"]["times"] == pytest.approx(50.5 * words / 64 / 2.5, rel=0.02)
    assert reading.reading_figure(group_of(tmp_path / "random", cells, quality_meaningful=False)) is None
    assert reading.reading_figure(group_of(tmp_path / "code", made.DEFAULT_CELLS[:3])) is None


@given(st.floats(1e-6, 1e6), st.floats(1.05, 1e6))
def test_ticks_of_a_logarithmic_axis_lie_on_it(low, factor):
    ticks = base.log_ticks(low, low * factor)
    assert ticks == sorted(set(ticks))
    assert all(low * 0.99 <= tick <= low * factor * 1.01 for tick in ticks)
    assert 2 <= len(ticks) <= 13, "an axis without ticks says nothing"


def test_lines_of_one_family_have_different_dashes():
    found = lines.dashes(["compile", "attention", "compile", "compile"])
    assert found[0] == found[1] == [1, 0]
    assert len({str(dash) for dash in (found[0], found[2], found[3])}) == 3


def test_no_channel_is_looked_up_among_all_classes_of_altair(group, monkeypatch):
    """Where a channel is a text or a dict, Altair hashes the schema of each of its classes: 7 ms a channel, an eighth of a large page."""

    def looked_up(cls, *_, **__):
        raise AssertionError(f"a channel {cls.__name__} is given as a text or a dict")

    monkeypatch.setattr(alt.utils.schemapi.SchemaBase, "from_dict", classmethod(looked_up))
    assert len(charts.figures(group)) >= 8


def test_the_names_of_lines_are_whole_and_none_covers_another(group):
    figure = starts.pays_figure(group)
    rows = [row for row in data_of(figure.chart.to_dict(validate=True)) if "label_lines" in row]
    assert {row["label_lines"].replace("\n", " ") for row in rows} == {row["name"] for row in rows}
    assert any("\n" in row["label_lines"] for row in rows)
    names = ["torch.compile (static cache)", "torch.compile (own loop)", "bitsandbytes NF4, compiled"] * 4
    table = pd.DataFrame(
        {"name": [f"{name} {n}" for n, name in enumerate(names)], "kind": "compile", "state": "measured", "x": 1.0, "y": 1.0}
    )
    axes = (alt.X("x:Q", title="x", scale=alt.Scale(), axis=alt.Axis()), alt.Y("y:Q", title="y"))
    last = lines.drawn(table, *axes, [0.5, 2.0])[-1].data
    tops = sorted(last.text_dy - lines.LINE / 2)
    assert all(below - above >= 2 * lines.LINE - 1e-6 for above, below in pairwise(tops))


def test_what_no_job_has_come_to_is_named_in_the_chart_of_speeds_alone(group):
    rows = group.rows.assign(status=group.rows.status.where(group.rows.technique != "bnb_nf4", "not_run"))
    found = charts.figures(replace(group, rows=rows))
    assert [figure.name for figure in found if "bitsandbytes NF4" in json.dumps(figure.chart.to_dict())] == ["speed"]
    failed = charts.figures(group)
    assert len([figure.name for figure in failed if "bitsandbytes NF4" in json.dumps(figure.chart.to_dict())]) > 3
