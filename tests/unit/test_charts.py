"""Charts: valid specifications that hold every technique, with grey for what was not active and words for what could not run."""

import json
from dataclasses import replace
from itertools import pairwise

import pytest
import records_factory as made
from hypothesis import given, settings
from hypothesis import strategies as st
from report_data import group_of
from speedgrid.report import charts

NAMES = ["speed", "speedup", "ceiling", "latency", "memory", "quality", "cold-start"]
ROW_CHARTS = [name for name in NAMES if name != "quality"]


@pytest.fixture(scope="module")
def group(tmp_path_factory):
    return group_of(tmp_path_factory.mktemp("group"))


@pytest.fixture(scope="module")
def figures(group):
    return {figure.name: (figure, figure.chart.to_dict(validate=True)) for figure in charts.figures(group)}


def data_of(spec):
    return [row for rows in spec["datasets"].values() for row in rows]


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


@pytest.mark.parametrize("name", NAMES)
def test_what_was_not_active_is_grey(figures, name):
    _, spec = figures[name]
    states = {row["state"] for row in data_of(spec) if row.get("name") == "torch.compile (one line)"}
    assert states == {"not engaged"}
    if name in ROW_CHARTS:
        (row,) = {row for rows in axis_rows(spec) for row in rows if "one line" in row}
        assert row.endswith("not engaged" + charts.OFF)
    scales = [layer["encoding"]["color"]["scale"] for layer in spec["layer"] if "scale" in layer["encoding"].get("color", {})]
    by_state = [dict(zip(scale["domain"], scale["range"], strict=True)) for scale in scales if "not engaged" in scale["domain"]]
    fades = "not engaged" in json.dumps([layer["encoding"].get("opacity") for layer in spec["layer"]])
    assert fades or all(inks["not engaged"] == charts.OFF_INK != inks["measured"] for inks in by_state)
    assert fades or by_state


def test_rows_are_in_order_of_speed_with_failures_last(figures):
    rows = axis_rows(figures["speed"][1])[0]
    assert rows[0].startswith("torch.compile\n(static")
    assert rows[-1].startswith("bitsandbytes NF4")


def test_every_reply_is_a_dot_up_to_a_number(tmp_path, figures):
    dots = [row for row in data_of(figures["speed"][1]) if "jitter" in row]
    assert len(dots) == 7 * 20
    many = group_of(tmp_path, [replace(made.DEFAULT_CELLS[0], replies=450)])
    drawn = charts.figures(many)[0]
    assert len([row for row in data_of(drawn.chart.to_dict()) if "jitter" in row]) == charts.DOTS
    assert "evenly picked" in drawn.caption


def test_memory_is_stacked_up_to_its_peak(figures):
    parts = [row for row in data_of(figures["memory"][1]) if row.get("name") == "SDPA" and "part" in row]
    assert [round(row["stop"] - row["start"]) for row in parts] == [610, 120, 170]
    assert all(a["stop"] == b["start"] for a, b in pairwise(parts))


def test_memory_that_a_process_gave_back_makes_no_negative_part(tmp_path):
    facts = {"memory_before": 700 * made.MIB, "memory_loaded": 650 * made.MIB}
    group = group_of(tmp_path, [replace(made.DEFAULT_CELLS[0], peak=680, facts=facts)])
    spec = charts.memory(group.rows).to_dict()
    parts = [row for row in data_of(spec) if "part" in row]
    assert [row["start"] <= row["stop"] for row in parts] == [True] * 3
    assert parts[-1]["stop"] == 680


def test_reserved_memory_is_shown_on_a_gpu_alone(tmp_path, figures):
    words = [text for _, text in figures["memory"][0].legend]
    assert not any("reserved" in text for text in words)
    group = group_of(tmp_path, machine=made.GPU_MACHINE)
    words = [text for _, text in charts.memory_figure(group).legend]
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
    ticks = charts.ratio_ticks(low, high)
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
    ],
)
def test_labels_break_at_brackets_or_evenly(label, lines):
    assert charts.wrapped(label) == lines


@given(st.text(max_size=120))
def test_any_label_has_at_most_two_lines(label):
    assert charts.wrapped(label).count("\n") <= max(1, label.count("\n"))


points = st.lists(st.tuples(st.floats(0.05, 0.95), st.floats(20, 300)), min_size=1, max_size=8)


@settings(max_examples=60, deadline=None)
@given(points)
def test_labels_cover_neither_labels_nor_points_at_any_width(places):
    names = ["torch.compile (static)", "SDPA", "bfloat16", "No KV cache", "bitsandbytes INT8", "Baseline (eager)", "NF4", "GPTQ"][
        : len(places)
    ]
    spots = charts.place_labels(places, names, 340)
    for width in charts._WIDTHS:
        boxes = []
        for point, name, spot in zip(places, names, spots, strict=True):
            lines = charts.wrapped(name).split("\n")
            boxes.append(charts._label_box(point, spot, (max(map(len, lines)) * charts._CHARACTER, len(lines) * charts._LINE), width))
        crowded = sum(charts._shared(a, b) > 1 for number, a in enumerate(boxes) for b in boxes[:number])
        assert crowded == 0
