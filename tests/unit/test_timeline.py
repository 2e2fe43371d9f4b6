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


def test_a_clock_that_was_set_back_takes_no_time_away():
    on_gpu = {"device": "cuda", "device_uuid": "GPU-1", "phase_gpu": [1.0]}
    found = timeline.gpu_time([job(0, 10, counting_replies=10) | on_gpu, job(30, 20, counting_replies=5) | on_gpu])
    assert 0 < found.held <= 1


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
        for phase in re.findall(r'\benter\(\s*f?"([^"{]+)', path.read_text(encoding="utf-8"))
    }
    assert {"counting ", "importing packages", "waiting for a quiet machine"} <= entered, "the phases are no longer found in the source"
    assert {phase for phase in entered if timeline.kind_of(phase) == timeline.OTHER} == {"writing the result"}


def test_a_job_knows_how_long_it_was_at_what(tmp_path):
    one = stage.Job("measure", {}, tmp_path / "measure.parquet", tmp_path)
    one.enter("counting replies")
    known = one.phases()
    assert known["phase_gpu"] is None
    assert (known["phases"], len(known["phase_s"]), one.phase) == (["starting", "counting replies"], 2, "counting replies")
    assert min(known["phase_s"]) >= 0
    one.entered.clear()
    assert (one.phases(), one.phase) == ({}, "starting")


# The GPU's part of it.


def on_gpu(begin: float, end: float, busy: list[float | None] | None, uuid: str = "GPU-1", **phases: float) -> dict:
    return {**job(begin, end, **phases), "device": "cuda", "device_uuid": uuid, "phase_gpu": busy}


def test_the_time_of_a_gpu_is_that_of_the_jobs_that_had_it():
    first = on_gpu(0, 10, [0.0, 0.5], starting=4, counting_replies=6)
    scored = job(10, 30, scoring_cloze=20)
    assert timeline.gpu_time([first, scored]) == timeline.GpuTime(
        1, pytest.approx(1 / 3), pytest.approx(0.2), pytest.approx(1 / 3), pytest.approx(0.1)
    )


def test_two_gpus_have_twice_the_time():
    both = [on_gpu(0, 10, None, f"GPU-{n}", loading_the_checkpoint=5, running_for_the_first_time=5) for n in (1, 2)]
    assert timeline.gpu_time(both) == timeline.GpuTime(2, pytest.approx(1), pytest.approx(0.5), 0, 0)
    assert "100\u00a0% of the time of these 2 GPUs" in timeline.gpu_words(both)


def test_a_study_that_takes_one_gpu_at_a_time_has_the_time_of_one():
    """On a machine where others measure, too, each of its jobs takes the first GPU that is free."""
    first, second = (on_gpu(begin, begin + 10, None, f"GPU-{n}", counting_replies=10) for n, begin in enumerate((0, 10)))
    assert timeline.gpu_time([first, second]) == timeline.GpuTime(1, pytest.approx(1), pytest.approx(1), 0, 0)
    assert "Jobs held the GPU for 100\u00a0% of this time" in timeline.gpu_words([first, second])


@given(SPANS, st.lists(st.sampled_from(["GPU-1", "GPU-2", "GPU-3"]), min_size=8, max_size=8))
def test_gpus_are_held_for_no_more_than_all_of_their_time_where_each_has_one_job_at_a_time(spans, uuids):
    free, runs = dict.fromkeys(uuids, 0), []
    for (begin, length, *_), uuid in zip(sorted(spans), uuids, strict=False):
        begin = max(begin, free[uuid])
        free[uuid] = begin + length
        runs.append(on_gpu(begin, begin + length, None, uuid, counting_replies=1))
    found = timeline.gpu_time(runs)
    at_once = [{run["device_uuid"] for run in runs if run["started_at"] <= one["started_at"] < run["ended_at"]} for one in runs]
    assert found.gpus == max(map(len, at_once))
    assert 0 < found.held <= 1 + 1e-9


def test_a_gpu_is_not_said_to_be_busy_where_its_driver_was_not_asked():
    unread, half, whole = ([on_gpu(0, 10, busy, loading=5, counting=5)] for busy in (None, [None, 0.8], [0.0, 0.8]))
    assert "kernels" not in timeline.gpu_words(unread).lower()
    assert "asked in 50\u00a0% of the time, and saw kernels run for 80\u00a0% of that" in timeline.gpu_words(half)
    assert "Kernels ran for 40\u00a0% of the time" in timeline.gpu_words(whole)


def test_jobs_of_one_gpu_that_overlap_say_nothing_of_it():
    """The page said that a job had it for 3400 % of the time."""
    assert timeline.gpu_words([on_gpu(0, 10, None, counting=1), on_gpu(0, 10, None, counting=1)]) is None


def test_checkpoints_that_are_made_at_once_on_a_gpu_share_its_time():
    runs = [on_gpu(0, 10, None, **{"making the checkpoint": 1}) for _ in range(4)] + [
        on_gpu(10, 20, [0.5], counting=1),
        on_gpu(40, 50, [0.5], counting=1),
    ]
    found = timeline.gpu_time(runs)
    assert (found.gpus, found.held, found.working, found.kernels) == (1, *map(pytest.approx, (0.6, 0.6, 0.2)))


def test_jobs_without_a_gpu_say_nothing_of_one():
    assert timeline.gpu_time([job(0, 10, counting=1)]) is timeline.gpu_words([]) is None
    # A job that was killed had a GPU, and nobody knows for what.
    killed = {"started_at": at(0), "ended_at": at(5), "phases": None, "phase_s": None, "device": "cuda", "device_uuid": "GPU-1"}
    assert timeline.gpu_time([killed]) is None
    assert timeline.gpu_time([killed, on_gpu(5, 10, None, counting=1)]).held == pytest.approx(1)
    assert seconds([killed, job(5, 10, counting=1)]) == {"Other": 5, "Counting": 5}


@given(SPANS)
def test_every_row_has_its_part_of_the_wall_time_and_what_was_idle_before(spans):
    runs = [job(begin, begin + length, counting=1) for begin, length, *_ in spans]
    found = timeline.with_times([*runs, {"started_at": None, "ended_at": None}])
    assert [{name: row[name] for name in run} for row, run in zip(found, runs, strict=False)] == runs
    assert (found[-1]["wall_s"], found[-1]["idle_before_s"]) == (None, None)
    wall = max(begin + length for begin, length, *_ in spans) - min(begin for begin, *_ in spans)
    assert sum(row["wall_s"] + row["idle_before_s"] for row in found[:-1]) == pytest.approx(wall, abs=0.01)
    assert all(row["wall_s"] <= length + 0.01 for row, (_, length, *_) in zip(found, spans, strict=False))
