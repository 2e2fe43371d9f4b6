"""Where the wall time of a study went."""

import re
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from speedgrid import stage
from speedgrid.report import timeline


def at(seconds: float) -> str:
    return datetime.fromtimestamp(1_700_000_000 + seconds, UTC).isoformat(timespec="milliseconds")


def job(begin: float, end: float, **phases: float) -> dict:
    names = [name.replace("_", " ") for name in phases]
    return {"started_at": at(begin), "ended_at": at(end), "phases": names, "phase_s": list(phases.values())}


def seconds(runs: list[dict]) -> dict[str, float]:
    return {one.kind: pytest.approx(one.seconds, abs=0.01) for one in timeline.shares(runs)}


def test_the_time_of_jobs_goes_to_what_they_did_and_the_rest_is_between_them():
    first = job(0, 10, starting=1, loading_the_checkpoint=2, counting_replies=7)
    second = job(14, 34, starting=5, scoring_text=15)
    assert seconds([first, second]) == {"Counting": 7, "Quality": 15, "Loading weights": 2, "Starting, importing": 6, "Between jobs": 4}
    assert [one.kind for one in timeline.shares([first, second])][:2] == ["Quality", "Counting"]


def test_jobs_beside_each_other_share_their_time():
    assert seconds([job(0, 10, counting=1), job(0, 20, scoring_text=1)]) == {"Counting": 5, "Quality": 15}


def test_a_night_between_two_runs_of_a_study_counts_as_nothing():
    assert seconds([job(0, 10, counting=1), job(40_000, 40_030, counting=1)]) == {"Counting": 40}


def test_what_no_row_says_is_not_made_up():
    unknown = {"started_at": at(0), "ended_at": at(5), "phases": None, "phase_s": None}
    assert timeline.shares([]) == timeline.shares([unknown]) == []


SPANS = st.lists(st.tuples(st.integers(0, 200), st.integers(1, 50), st.integers(0, 40), st.integers(1, 40)), min_size=1, max_size=8)


@given(SPANS)
def test_the_parts_are_the_wall_time(spans):
    runs = [job(begin, begin + length, importing=one, counting=other) for begin, length, one, other in spans]
    found = timeline.shares(runs)
    wall = max(begin + length for begin, length, *_ in spans) - min(begin for begin, *_ in spans)
    assert sum(one.seconds for one in found) == pytest.approx(wall, abs=0.01)
    assert sum(one.share for one in found) == pytest.approx(1)


def test_every_phase_that_a_job_enters_counts_as_something(root):
    entered = {
        phase
        for path in (root / "scripts").rglob("*.py")
        for phase in re.findall(r'\.enter\(\s*f?"([^"{]+)', path.read_text(encoding="utf-8"))
    }
    assert {"counting ", "importing packages"} <= entered, "the phases are no longer found in the source"
    assert {phase for phase in entered if timeline.kind_of(phase) == timeline.OTHER} == {"writing the result"}


def test_a_job_knows_how_long_it_was_at_what(tmp_path):
    one = stage.Job("measure", {}, tmp_path / "measure.parquet", tmp_path)
    one.enter("counting replies")
    known = one.phases()
    assert (known["phases"], len(known["phase_s"]), one.phase) == (["starting", "counting replies"], 2, "counting replies")
    assert min(known["phase_s"]) >= 0
    one.entered.clear()
    assert (one.phases(), one.phase) == ({}, "starting")
