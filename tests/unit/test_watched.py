"""The machine under the replies: readings become curves and stretches of a lowered clock; what was not kept is said."""

import json
from dataclasses import replace

import pytest
import records_factory as made
from hypothesis import given
from hypothesis import strategies as st
from report_data import quick_parts, tables_of
from speedgrid import state
from speedgrid.report import page, rendering
from speedgrid.report.charts import runs, watched
from speedgrid.report.tables import groups

POWER_CAP, HARDWARE, HEAT = 0x4, 0x8, 0x20
AT = [0.5, 1.0, 1.5, 2.0, 2.5, 3.0]
SERIES = {
    "at": AT,
    "sm_clock": [1980e6, 1980e6, 1700e6, 1500e6, 1500e6, 1980e6],
    "temperature": [50, 60, 80, 88, 88, 80],
    "clock_reasons": [0, POWER_CAP, HEAT, HEAT | HARDWARE, HEAT | POWER_CAP, 0],
}
SEEN = {"watched_s": 30.0, "sm_clock_min": 1_500_000_000, "sm_clock_median": 1_840_000_000, "sm_clock_max": 1_980_000_000}
SEEN |= {
    "disturbed": "the GPU lowered its clock",
    "temperature_first": 50,
    "temperature_max": 88,
    "clock_reasons": json.dumps({"power cap": 0.3, "idle": 0.1}),
}


def told(tmp_path, **facts):
    """Summary, runs, replies and states of cells of which SDPA was watched like this."""
    cells = [replace(cell, facts=SEEN | facts) if cell.technique == "sdpa" else cell for cell in made.DEFAULT_CELLS]
    grid = made.write_group(tmp_path, cells, machine=made.GPU_MACHINE)
    axes = ("gpu", "experiment", "model", "technique")
    states = {tuple(cell[axis] for axis in axes): rendering.state_of(rendering.runs_of(cell, made.JOBS)) for cell in grid}
    return tables_of(grid), {key: one for key, one in states.items() if one}


def group_of(tmp_path, **facts):
    (summary, _, replies), states = told(tmp_path, **facts)
    (group,) = groups(summary, replies, states)
    return group


@given(st.lists(st.tuples(st.integers(1, 2000), st.integers(20, 95), st.sampled_from((0, 1, POWER_CAP, HEAT))), max_size=900))
def test_what_is_kept_of_the_readings_has_every_extreme_and_reason(read):
    gauges = [{"at": 10 + n / 2, "sm_clock": clock, "temperature": heat, "clock_reasons": why} for n, (clock, heat, why) in enumerate(read)]
    kept = state.over_time(gauges, 10.0)
    assert {len(values) for values in kept.values()} == {len(kept["at"])}
    assert len(kept["at"]) == (len(read) if len(read) <= state.KEPT_READINGS else -(-len(read) // -(-len(read) // state.KEPT_READINGS)))
    assert kept["at"] == sorted(kept["at"])
    if read:
        assert min(kept["sm_clock"]) == min(clock for clock, _, _ in read)
        assert max(kept["temperature"]) == max(heat for _, heat, _ in read)
        seen = {bit for mask in kept["clock_reasons"] for bit in state.CLOCK_REASONS if mask & bit}
        assert seen == {bit for _, _, mask in read for bit in state.CLOCK_REASONS if mask & bit}


def test_a_gauge_that_was_not_read_is_left_out():
    assert state.over_time([{"at": 3.0, "sm_clock": None, "load": 0.5}, {"at": 3.5, "load": None}], 2.0) == {
        "at": [1.0, 1.5],
        "load": [0.5, None],
    }


def test_the_clock_is_lowered_from_the_first_reading_with_a_reason_to_the_next_without(tmp_path):
    group = group_of(tmp_path, readings=json.dumps(SERIES))
    read = watched.readings(group, runs._replies(group), 100.0)
    assert set(read.name) == {"SDPA"}
    found = watched.lowered(read)
    assert [tuple(row) for row in found.to_numpy()] == [
        ("SDPA", 1.0, 1.5, "power limit", "power cap"),
        ("SDPA", 1.5, 2.0, "heat or power supply", "software thermal slowdown"),
        ("SDPA", 2.0, 2.5, "heat or power supply", "hardware slowdown, software thermal slowdown"),
        ("SDPA", 2.5, 3.0, "heat or power supply", "software thermal slowdown"),
    ]


def test_the_chart_has_a_panel_for_each_gauge_under_the_replies(tmp_path):
    group = group_of(tmp_path, readings=json.dumps(SERIES))
    figure = runs.replies_figure(group)
    spec = figure.chart.to_dict(validate=True)
    rows = [row for table in spec["datasets"].values() for row in table]
    assert [row["sm_clock"] for row in rows if "sm_clock" in row] == [clock / 1e6 for clock in SERIES["sm_clock"]]
    assert [row["temperature"] for row in rows if "temperature" in row] == SERIES["temperature"]
    assert {row["words"] for row in rows if "words" in row} == {
        "SM clock (MHz)",
        "temperature of the GPU (°C)",
        "when the clock was lowered",
    }
    assert [key.words for key in figure.legend][-2:] == ["clock lowered by heat or power supply", "clock lowered by power limit"]
    assert spec["height"] > runs._over_time(runs._replies(group), watched.readings(group, runs._replies(group), -1.0)).height


def test_a_clock_that_nothing_lowered_is_said_to_be_so(tmp_path):
    quiet = SERIES | {"clock_reasons": [0, 1, 0, 2, 0, 0]}
    figure = runs.replies_figure(group_of(tmp_path, readings=json.dumps(quiet)))
    assert "nothing lowered the clock: no heat, power supply or power limit" in json.dumps(figure.chart.to_dict())
    assert not any("lowered" in key.words for key in figure.legend)


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"readings": json.dumps(SERIES)}, "Below it is what was read of the machine at the same times."),
        ({}, "was not kept over time: “Was the machine quiet?” has its figures over each run."),
    ],
)
def test_the_page_says_what_it_has_of_the_machine(tmp_path, facts, said):
    tables, states = told(tmp_path, **facts)
    html = page.render(quick_parts(), made.study(), *tables, states=states).replace("\u00a0", " ")
    assert said in html
    # Figures in the units of their heads, which the CSV has, too.
    assert "SM clock (MHz)" in html
    assert "<td data-key=1840>1,840<small>1,500–1,980</small>" in html
    assert "<td data-key=88>88.0<small>at first 50</small>" in html
    assert "power cap 30 %" in html


def test_where_nobody_watched_nothing_is_said_of_it(tmp_path):
    html = page.render(quick_parts(), made.study(), *tables_of(made.write_group(tmp_path)))
    assert "read of the machine" not in html
