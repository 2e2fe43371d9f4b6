"""Devices and models side by side: what all have, and what surely differs."""

import math
from dataclasses import replace

import pytest
import records_factory as made
from hypothesis import given
from hypothesis import strategies as st
from report_data import page_of, tables_of
from speedgrid.report import tables
from speedgrid.report.charts import devices
from speedgrid.stats import Estimate

L4 = made.GPU_MACHINE | {"device_name": "NVIDIA L4"}


def estimates():
    wide = st.floats(1, 4)
    return st.builds(lambda middle, below, above: Estimate(middle, middle / below, middle * above), st.floats(0.05, 50), wide, wide)


@given(estimates(), estimates())
def test_the_ratio_of_ratios_turns_round_with_its_sides_and_is_wider_than_each(one, other):
    there, back = devices.apart(one, other), devices.apart(other, one)
    assert there.value == pytest.approx(1 / back.value)
    assert (there.low, there.high) == (pytest.approx(1 / back.high), pytest.approx(1 / back.low))
    assert there.high / there.low >= max(one.high / one.low, other.high / other.low) * 0.999


@given(estimates())
def test_what_is_known_exactly_leaves_the_interval_of_the_other(one):
    ratio = devices.apart(one, Estimate(2.0, 2.0, 2.0))
    assert (ratio.low, ratio.high) == (pytest.approx(one.low / 2), pytest.approx(one.high / 2))


def test_the_interval_holds_the_truth_as_often_as_it_says():
    import random

    rng = random.Random(5)
    hits = 0
    for _ in range(4000):
        sd, others = 0.05, 0.12
        a, b = rng.gauss(math.log(2), sd), rng.gauss(math.log(1.3), others)
        sides = [Estimate(math.exp(x), math.exp(x - 1.96 * s), math.exp(x + 1.96 * s)) for x, s in ((a, sd), (b, others))]
        ratio = devices.apart(*sides)
        hits += ratio.low <= 2 / 1.3 <= ratio.high
    assert 0.935 < hits / 4000 < 0.965


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sides")
    cells = [replace(cell, again=(cell.speed * 1.01, cell.speed * 0.99)) for cell in made.DEFAULT_CELLS[:3]]
    slow = [replace(cell, speed=cell.speed / 4, again=[speed / 4 for speed in cell.again]) for cell in cells]
    slow[2] = replace(slow[2], speed=slow[0].speed * 1.02, again=[slow[0].speed * share for share in (1.03, 1.01)])
    first = made.write_group(folder, [*cells, made.DEFAULT_CELLS[4]], gpu="a100", machine=made.GPU_MACHINE)
    return [*first, *made.write_group(folder, [*slow, made.DEFAULT_CELLS[5]], gpu="l4", machine=L4)]


def sides_of(grid):
    summary, _, replies = tables_of(grid)
    return devices.side_by_side(list(tables.groups(summary, replies)))


def test_only_what_both_have_stands_there_and_what_surely_differs_is_marked(grid):
    (sides,) = sides_of(grid)
    assert (sides.axis, sides.names, sides.title) == ("gpu", ["a100", "l4"], "stdlib-llama · generate on a100 and l4")
    assert [row.label for row in sides.rows] == ["SDPA", "torch.compile (static cache)"]
    assert sides.left_out == ["No KV cache", "bfloat16"]
    assert sides.rows[0].differs == ""
    assert sides.rows[1].differs.startswith("1.88× as much on a100 as on l4")
    assert [round(speed.value) for speed in sides.speeds] == [48, 12]
    assert [[round(rate) for rate in row.rates] for row in sides.rows] == [[51, 13], [92, 12]]


def test_the_chart_marks_it_in_bold_and_has_a_shape_a_side(grid):
    (sides,) = sides_of(grid)
    spec = devices.figure(sides).chart.to_dict(validate=True)
    rows = [row for rows in spec["datasets"].values() for row in rows if "side" in row]
    assert {(row["name"], row["row"].endswith("\u200b")) for row in rows} == {("SDPA", True), ("torch.compile (static cache)", False)}
    assert sorted(row["side"] for row in rows) == ["a100", "a100", "l4", "l4"]


def test_the_page_has_the_section_only_where_there_are_sides(grid):
    assert 'id="side-by-side"' in page_of(grid, made.study())
    assert 'id="side-by-side"' not in page_of([cell for cell in grid if cell["gpu"] == "l4"], made.study())


def test_models_stand_side_by_side_too(tmp_path):
    grid = [cell for model in ("small", "large") for cell in made.write_group(tmp_path, made.DEFAULT_CELLS[:3], model=model)]
    (sides,) = sides_of(grid)
    assert (sides.axis, sides.names) == ("model", ["small", "large"])


def test_other_baselines_are_not_compared(tmp_path):
    cells = made.DEFAULT_CELLS[:3]
    grid = [*made.write_group(tmp_path, cells, gpu="a")]
    grid += [cell | {"is_baseline": cell["technique"] == "sdpa"} for cell in made.write_group(tmp_path, cells, gpu="b")]
    assert sides_of(grid) == []


def test_a_sentence_says_which_speedups_differ(grid, tmp_path):
    (sides,) = sides_of(grid)
    assert devices.in_words(sides) == (
        "Between a100 and l4 these speed-ups differ by more than the runs explain: torch.compile (static cache) (1.92× and 1.02×)."
    )
    same = [cell for gpu in ("a", "b") for cell in made.write_group(tmp_path, made.DEFAULT_CELLS[:3], gpu=gpu)]
    (alike,) = sides_of(same)
    assert devices.in_words(alike) == "No speed-up differs between a and b by more than these runs explain."
    html = page_of(same, made.study())
    assert html.count("No speed-up differs between a and b") == 2, "in the short answer, and where they stand side by side"


def test_speedups_at_different_sizes_are_not_held_against_each_other(grid):
    """Those at 4,096 tokens differed from those at 16,384 "by more than the runs explain"."""
    summary, _, replies = tables_of(grid)

    def sized(sizes: dict[str, int]) -> devices.Sides:
        return devices.side_by_side(list(tables.groups([row | {"point": sizes[row["gpu"]]} for row in summary], replies)))[0]

    assert any(row.differs for row in sized({"a100": 4096, "l4": 4096}).rows)
    other = sized({"a100": 4096, "l4": 16384})
    assert not any(row.differs for row in other.rows)
    assert devices.in_words(other) == (
        "The speed-ups on a100 and l4 are of different sizes, 4,096 and 16,384: there is no verdict between them."
    )
    spec = devices.figure(other).chart.to_dict(validate=True)
    assert {row["differs"] for rows in spec["datasets"].values() for row in rows if "side" in row} == {"no verdict: of different sizes"}


def test_speeds_stand_below_speedups(grid):
    (sides,) = sides_of(grid)
    heads, rows = devices.table(sides)
    assert heads == ["a100", "l4"]
    assert [below for _, below in rows[0][1]] == ["", ""]
    assert [below.split()[1] for _, texts, _ in rows[1:] for _, below in texts] == ["token/s"] * 4


def test_what_is_bounded_on_one_side_stands_there_and_may_differ(tmp_path):
    """At least so much on the one, and no more than so much on the other: it was left out, as if only one had it."""
    busy = {"disturbed": "other processes used 50% of the CPUs", "cpu_foreign": 0.5}
    base = replace(made.DEFAULT_CELLS[0], again=(48.5, 47.5))
    ahead, behind = (replace(made.DEFAULT_CELLS[1], speed=speed, again=(speed * 1.01,)) for speed in (480.0, 60.0))
    grid = [
        *made.write_group(tmp_path, [base, replace(ahead, facts=busy)], gpu="a100"),
        *made.write_group(tmp_path, [base, behind], gpu="l4"),
    ]
    (sides,) = sides_of(grid)
    (row,) = sides.rows
    assert sides.left_out == []
    assert [one.is_bound for one in row.speedups] == [True, False]
    assert row.differs.startswith("at least ")
    assert row.differs.endswith("× as much on a100 as on l4")
    assert "SDPA (at least " in devices.in_words(sides)
    figure = devices.figure(sides)
    assert "Where an interval ends in an arrow" in figure.caption
    table = next(rows for rows in figure.chart.to_dict(validate=True)["datasets"].values() if "side" in rows[0])
    there = {one["side"]: one for one in table}
    assert (there["a100"]["speedup"], there["a100"]["points"]) == (None, True)
    assert there["a100"]["speedup_high"] is None
    assert there["a100"]["drawn_high"] == there["a100"]["arrow"]
    assert there["l4"]["arrow"] is None


@given(estimates(), st.floats(0.1, 20), st.booleans())
def test_of_a_bound_no_more_is_said_than_it_leaves(one, end, is_least):
    bound = Estimate(end * 2 if is_least else end / 2, end if is_least else None, None if is_least else end, hidden=True)
    there, back = devices.apart(bound, one), devices.apart(one, bound)
    assert there.told is back.told is None
    if is_least:
        assert (there.low, there.high) == (pytest.approx(end / one.high), None)
    else:
        assert (there.low, there.high) == (None, pytest.approx(end / one.low))
    assert (back.low is None, back.high is None) == (there.high is None, there.low is None)
