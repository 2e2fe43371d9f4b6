"""`./speedgrid run --minutes`: what is chosen never takes longer by the estimate that is shown, and more time never means fewer cells."""

import dataclasses
import json
import os
from itertools import pairwise
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from speedgrid import foreseen, planning
from speedgrid.planning import choice
from speedgrid.selection import Candidate, adds, choose
from speedgrid.study import StudyError, validate

import studies

TECHNIQUES = ["sdpa", "torch_compile", "bf16", "bnb_int8", "bnb_nf4"]


@st.composite
def candidates(draw) -> list[Candidate]:
    """Groups that begin with their baseline, with techniques of a few families that share environments and a model."""
    found = []
    seconds, shared = st.floats(0, 500), {f"environment {letter}": draw(st.floats(0, 400)) for letter in "abc"}
    for group in range(draw(st.integers(1, 3))):
        has_baseline = draw(st.booleans())
        for number in range(draw(st.integers(1, 6))):
            needs = draw(st.sets(st.sampled_from(sorted(shared)), max_size=2))
            found.append(
                Candidate(
                    name=f"{group}/{number}",
                    group=(str(group),),
                    family=draw(st.sampled_from(["attention", "compilation", "quantization"])),
                    is_baseline=has_baseline and number == 0,
                    seconds=draw(seconds),
                    shared={name: shared[name] for name in needs},
                )
            )
    return draw(st.permutations(found))


def total(chosen, fixed: float = 0.0) -> float:
    return fixed + sum(one.seconds for one in chosen) + sum({name: s for one in chosen for name, s in one.shared.items()}.values())


@given(candidates(), st.floats(0, 4000), st.floats(0, 100))
def test_what_is_chosen_fits(found, seconds, fixed):
    chosen = choose(found, seconds, fixed)
    assert total(chosen, fixed) <= seconds + 1e-6 or not chosen


@given(candidates(), st.floats(0, 4000), st.floats(0, 4000))
def test_more_time_never_means_fewer_cells(found, some, more):
    less, longer = choose(found, some), choose(found, some + more)
    assert len(longer) >= len(less)
    # But for the one that filled the rest of the time, they are the same.
    assert longer[: max(0, len(less) - 1)] == less[:-1]


@given(candidates(), st.floats(0, 4000))
def test_no_technique_comes_without_its_baseline(found, seconds):
    chosen = choose(found, seconds)
    baselines = {one.group for one in found if one.is_baseline}
    for place, one in enumerate(chosen):
        assert one.group not in baselines or any(other.is_baseline and other.group == one.group for other in chosen[: place + 1])


@given(candidates())
def test_with_time_enough_all_are_chosen(found):
    assert sorted(one.name for one in choose(found, 1e9)) == sorted(one.name for one in found)


def test_a_new_family_comes_before_another_of_the_same_unless_it_takes_over_twice_as_long():
    one = Candidate("int8", ("g",), "quantization", False, 100.0)
    same, other = dataclasses.replace(one, name="nf4"), Candidate("sdpa", ("g",), "attention", False, 150.0)
    dear = dataclasses.replace(other, name="vllm", family="serving", seconds=250.0)
    assert [each.name for each in choose([one, same, other, dear], 1e9)] == ["int8", "sdpa", "nf4", "vllm"]


def test_what_others_have_made_adds_nothing():
    one = Candidate("a", ("g",), "f", False, 10.0, {"environment x": 90.0})
    assert (adds(one, set()), adds(one, {"environment x"})) == (100.0, 10.0)


# Of a study


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(choice.VARIABLE, raising=False)
    monkeypatch.setattr(foreseen.environments, "runs", lambda folder: True)
    return tmp_path


def grid(left_out=None) -> planning.Grid:
    study = studies.small() | {"gpus": {"slow": {"device": "cpu"}}}
    study["experiments"]["generate"] |= {"models": ["tiny"], "techniques": ["baseline", *TECHNIQUES]}
    study["experiments"]["generate"]["evaluate"] = {"positions": 10, "tasks": [{"task": "cloze", "limit": 3}]}
    study = validate(study, studies.schema("study"), "my.yaml")
    registry = validate(studies.registry(), studies.schema("techniques"), "techniques.yaml")
    workflow = SimpleNamespace(cores=2, local_exec=True, global_resources={})
    return planning.Grid(study, registry, "my.yaml", workflow=workflow, left_out=left_out or {})


def told(minutes: float, monkeypatch) -> dict[str, str]:
    monkeypatch.setenv(choice.VARIABLE, f"{minutes:g}")
    return choice.left_out(grid(), SimpleNamespace(is_main_process=True))


SHARES = (0.8, 0.85, 0.9, 0.95, 2)


def part(share: float) -> float:
    """A share of the minutes that all of it takes, by estimate."""
    found, _, _ = foreseen.foreseen(grid())
    return round(share * found.seconds / 60, 2)


@pytest.mark.parametrize("share", SHARES)
def test_a_run_of_so_many_minutes_takes_no_longer_by_the_estimate_that_it_shows(place, monkeypatch, share):
    minutes = part(share)
    planned = grid(told(minutes, monkeypatch))
    found, _, _ = foreseen.foreseen(planned)
    assert found.seconds <= 60 * minutes
    assert planned.cells[0].is_baseline
    assert len(planned.cells) + len(planned.left_out) == 1 + len(TECHNIQUES)


def test_what_is_left_of_the_time_is_used():
    slow, quick = Candidate("slow", ("g",), "a", False, 100.0), Candidate("quick", ("g",), "b", False, 60.0)
    again = dataclasses.replace(quick, name="again", seconds=61.0)
    assert [one.name for one in choose([slow, quick, again], 130)] == ["quick", "again"]


def test_more_minutes_never_mean_fewer_cells_of_a_study(place, monkeypatch):
    kept = [{cell.technique for cell in grid(told(minutes, monkeypatch)).cells} for minutes in map(part, SHARES)]
    assert all(len(less) <= len(more) for less, more in pairwise(kept))
    assert len(kept[0]) < len(kept[-1]) == 1 + len(TECHNIQUES)


def test_a_time_in_which_nothing_can_be_done_is_a_mistake(place, monkeypatch):
    with pytest.raises(StudyError, match=r"--minutes 0.5 is too little: slow/generate/tiny/baseline alone takes some \d+ minutes"):
        told(0.5, monkeypatch)


def test_what_is_left_out_is_in_the_plan_with_the_reason_and_in_no_job(place, monkeypatch):
    planned = grid(told(part(0.85), monkeypatch))
    document = json.loads(planned.as_json())
    why = {cell["folder"]: cell["left_out"] for cell in document["cells"]}
    assert len(why) == 1 + len(TECHNIQUES)
    assert {folder for folder, reason in why.items() if reason} == set(planned.left_out)
    assert set(planned.left_out.values()) == {f"does not fit into {part(0.85):g} minutes, by estimate"}
    assert not any(record.startswith(folder) for folder in planned.left_out for record in (*planned.records(), *planned.measures()))
    # What is scored together are the cells of this run, so that scores wait for no other.
    asked = document["jobs"]["results/slow/generate/tiny/score.parquet"]["techniques"]
    assert [one["technique"] for one in asked] == [cell.technique for cell in planned.cells]
    # A baseline's runs between others come after those of this run alone.
    last = planned.cells[0]
    assert not any(path.startswith(folder) for folder in planned.left_out for path in planned.order.beside(last, last.runs))


def test_jobs_and_pages_of_such_a_run_leave_out_the_same_and_the_next_run_nothing(place, monkeypatch):
    without = told(part(0.85), monkeypatch)
    choice.keep(grid(without))
    monkeypatch.delenv(choice.VARIABLE)
    assert choice.left_out(grid()) == without
    os.environ[choice.PAGE_ONLY] = "1"
    try:
        assert choice.left_out(grid(), SimpleNamespace(is_main_process=True)) == without
    finally:
        del os.environ[choice.PAGE_ONLY]
    assert choice.left_out(grid(), SimpleNamespace(is_main_process=True)) == {}
    choice.keep(grid())
    assert choice.left_out(grid()) == {}


def test_a_group_that_is_left_out_as_a_whole_is_in_the_plan(place):
    everything = {cell.folder: "why" for cell in grid().cells}
    document = json.loads(grid(everything).as_json())
    assert all(record in document["jobs"] for cell in document["cells"] for record in (cell["score"], cell["requests"], cell["reference"]))


def test_every_job_of_such_a_run_has_its_place_in_the_order(place, monkeypatch):
    """A job that several cells share comes before those of this run; one that is left out has no place."""
    planned = grid(told(part(0.85), monkeypatch))
    for cell in planned.cells:
        asked = SimpleNamespace(gpu=cell.gpu, experiment=cell.experiment, model=cell.model, technique=cell.technique, run=1)
        asked.dtype = cell.options["dtype"]
        stages = ["prepare_model", "probe", "warmup", "measure", "evaluate", "reference", *(["quantize"] if cell.transform else [])]
        assert all(planned.stage(name).priority(asked) >= 0 for name in stages)
