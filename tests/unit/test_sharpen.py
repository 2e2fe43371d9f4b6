"""`runs: auto`: what is measured again, in which order, for how long; and what the plan makes of it."""

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from speedgrid import grid, sharpen
from speedgrid.cell import Cell
from speedgrid.planning.order import in_order
from speedgrid.sharpen import Further, Question, Subject
from speedgrid.study import validate

import studies

STUDY_SCHEMA = studies.schema("study")
REGISTRY = validate(studies.registry(), studies.schema("techniques"), "techniques.yaml")

# A run of each takes so many seconds.
SECONDS = {"base": 60.0, "fast": 60.0, "near": 60.0, "far": 100.0, "quick": 60.0, "costly": 60.0}
OPEN = [Question("near", "fast", 1), Question("far", "fast", 5)]


def wanted(questions: list[Question], budget_s: float = 1e6, **further: int | None) -> tuple[dict, dict]:
    """The further runs of each technique that are wanted, and those that are open."""
    keys = {"gpu": "local", "experiment": "e", "model": "m"}
    cells = [keys | {"technique": name, "folder": f"results/{name}", "further": further.get(name, 0)} for name in SECONDS]
    rows = [{"rate": 10.0, "run_s": seconds} for seconds in SECONDS.values()]
    found = sharpen.decide(cells, rows, {tuple(keys.values()): questions}, budget_s)
    return tuple({folder.removeprefix("results/"): count for folder, count in part.items()} for part in (found.wanted, found.open))


def test_what_nobody_asks_is_not_measured_again():
    assert wanted([]) == ({}, {})
    assert wanted([], fast=2, base=1) == ({"fast": 2, "base": 1}, {}), "what has been measured stays"


def test_what_is_asked_is_measured_again_on_both_sides_a_few_runs_at_a_time():
    assert wanted(OPEN) == ({"near": 1, "fast": sharpen.AT_A_TIME, "far": sharpen.AT_A_TIME}, {})


def test_the_cheapest_comes_first_and_what_the_budget_has_no_room_for_is_open_with_its_price():
    assert wanted(OPEN, budget_s=150.0) == ({"near": 1, "fast": 1}, {"far": 5, "fast": 4})
    # Room for either of the two, whichever is asked first.
    for questions in (OPEN, OPEN[::-1]):
        assert wanted(questions, budget_s=330.0) == wanted(OPEN, budget_s=150.0)
    assert wanted(OPEN, budget_s=0.0) == ({}, {"near": 1, "far": 5, "fast": 5})


def test_a_quiet_run_of_what_was_disturbed_is_all_that_its_question_takes():
    question = Question("near", "base", 1, alone="base")
    assert wanted([question]) == ({"base": 1}, {})
    assert wanted([question], budget_s=60.0) == ({"base": 1}, {}), "it costs one side alone"
    assert wanted([question, Question("far", "fast", 1)], budget_s=160.0) == ({"base": 1}, {"far": 1, "fast": 1})


def test_a_quiet_machine_is_looked_for_a_few_times_and_then_only_where_somebody_asks():
    question = Question("near", "base", 1, alone="base", quiet=True)
    assert wanted([question], base=sharpen.QUIET_TRIES - 1)[0] == {"base": sharpen.QUIET_TRIES}
    assert wanted([question], base=sharpen.QUIET_TRIES) == ({"base": sharpen.QUIET_TRIES}, {"base": 1})
    assert wanted([replace(question, limited=True)]) == ({}, {}), "the CPU limit of a container goes away with no waiting"
    both = Question("near", "base", 3, quiet=True)
    assert wanted([both], base=sharpen.QUIET_TRIES)[0] == {"near": sharpen.AT_A_TIME, "base": sharpen.QUIET_TRIES + sharpen.AT_A_TIME}


def test_what_the_headline_asks_comes_before_what_costs_quality_however_dear_it_is():
    priced = Question("costly", "quick", 1, subject=Subject.PRICE)
    asked = [priced, Question("far", "fast", 5)]
    assert wanted(asked, budget_s=330.0) == ({"far": 2, "fast": 2}, {"costly": 1, "quick": 1})
    assert wanted([replace(one, subject=Subject.LEAD) for one in asked], budget_s=330.0)[0] == {"costly": 1, "quick": 1}


def test_further_runs_are_paid_out_of_the_budget():
    assert wanted(OPEN, budget_s=290.0, near=1, fast=1)[0] == {"near": 2, "fast": 2}
    assert wanted(OPEN, budget_s=200.0, near=1, fast=1)[0] == {"near": 1, "fast": 1}


def test_what_twenty_runs_would_not_tell_is_left_alone_and_cells_of_a_number_of_runs_too():
    assert wanted([Question("near", "fast", None)]) == ({}, {})
    assert wanted(OPEN, **dict.fromkeys(SECONDS)) == ({}, {})
    assert wanted(OPEN, near=sharpen.MOST - 1, fast=sharpen.MOST - 1, far=sharpen.MOST - 1)[1] == {}


def test_a_cell_that_failed_in_a_further_run_has_no_more_of_them():
    group = {"gpu": "local", "experiment": "e", "model": "m"}
    cells = [group | {"technique": name, "folder": name, "further": 1} for name in ("near", "fast", "far")]
    rows = [{"rate": 10.0, "run_s": 60.0, "runs_failed": count} for count in (1, 0, None)]
    found = sharpen.decide(cells, rows, {tuple(group.values()): OPEN}, 1e6)
    assert found == Further({"near": 1, "fast": 3, "far": 3}), "whether `near` is as fast stays open"


pairs = st.tuples(st.sampled_from(list(SECONDS)), st.sampled_from(list(SECONDS))).filter(lambda pair: pair[0] != pair[1])


@given(
    st.lists(
        st.builds(
            lambda pair, needed, subject: Question(*pair, needed, subject=subject), pairs, st.integers(1, 20), st.sampled_from(Subject)
        )
    )
)
def test_what_is_asked_of_one_group_is_nothing_to_another(questions):
    cells = [{"gpu": "other", "experiment": "e", "model": "m", "technique": name, "folder": name, "further": 0} for name in SECONDS]
    rows = [{"rate": 10.0, "run_s": 1.0}] * len(cells)
    assert sharpen.decide(cells, rows, {("local", "e", "m"): questions}, 1e6) == Further()


@given(
    st.lists(
        st.builds(
            lambda pair, needed, subject: Question(*pair, needed, subject=subject), pairs, st.integers(1, 20), st.sampled_from(Subject)
        ),
        max_size=8,
    ),
    st.floats(0, 5e3),
)
def test_decisions_stay_within_the_budget_and_come_to_an_end(questions, budget_s):
    had: dict[str, int] = {}
    for _ in range(200):
        now, _ = wanted(questions, budget_s, **had)
        assert all(now.get(name, 0) >= count for name, count in had.items())
        assert sum(count * SECONDS[name] for name, count in now.items()) <= budget_s + 1e-6
        if now == had:
            return
        had = now
    pytest.fail("it never ends")


def test_the_file_is_read_as_it_was_written_and_anything_else_says_nothing(tmp_path):
    further, path = Further({"results/a": 2, "results/c": 1}, {"results/a": 1, "results/b": 3}), tmp_path / "further.json"
    assert Further.read(path) == Further()
    path.write_text(further.as_json(), encoding="utf-8")
    assert Further.read(path) == further
    assert further.sharpened() == Further({"results/a": 3, "results/b": 3, "results/c": 1})
    for text in ("", "[]", '{"wanted": 3}', '{"wanted": {"a": "x"}, "open": {}}'):
        path.write_text(text, encoding="utf-8")
        assert Further.read(path) == Further()


# The plan


def planned(further: dict[str, int], **told: object) -> list[Cell]:
    study = studies.small()
    study["gpus"] = {"local": {"device": "auto"}}
    study["experiments"]["generate"] |= {"models": ["tiny"], "techniques": ["baseline", "sdpa", "bf16"], **told}
    study = validate(study, STUDY_SCHEMA, "my.yaml")
    return grid.plan(study, REGISTRY, "my.yaml", further={f"results/local/generate/tiny/{name}": count for name, count in further.items()})


def test_at_first_everything_runs_once_and_the_baseline_twice():
    assert {cell.technique: len(cell.measures) for cell in planned({})} == {"baseline": 2, "sdpa": 1, "bf16": 1}


def test_further_runs_come_after_all_else_and_change_nothing_of_it():
    before, after = planned({}), planned({"sdpa": 2, "baseline": 1})
    order = in_order(after)
    asked = [[(planned.cell.key, planned.run, planned.beside) for planned in taken] for taken in (in_order(before), order)]
    assert asked[1][: len(asked[0])] == asked[0]
    assert sorted((planned.cell.technique, planned.run) for planned in order[len(asked[0]) :]) == [
        ("baseline", 3),
        ("sdpa", 2),
        ("sdpa", 3),
    ]
    assert order[-1].cell.technique == "sdpa"
    assert order[-1].beside == (order[-1].cell.measures[1],)
    told = [json.loads(cell.job("measure", 1)) for cells in (before, after) for cell in cells]
    assert told[:3] == told[3:]


def test_cells_of_a_number_of_runs_have_no_further_ones():
    assert {cell.technique: len(cell.measures) for cell in planned({"sdpa": 2}, runs=1)} == {"baseline": 4, "sdpa": 1, "bf16": 1}
    assert {cell.technique: len(cell.measures) for cell in planned({"sdpa": 2}, baseline_runs=3)} == {"baseline": 3, "sdpa": 1, "bf16": 1}


@given(st.integers(0, 3), st.integers(0, 3), st.floats(0, 600))
def test_the_time_that_is_told_of_further_runs_is_what_they_are_decided_by(near, fast, budget_s):
    had = {"near": near, "fast": fast}
    left_s = sharpen.left_s(budget_s, [(had.get(name, 0), seconds) for name, seconds in SECONDS.items()])
    more = wanted([Question("quick", "base", 1, alone="quick")], budget_s, **had)[0].get("quick", 0)
    assert more == (SECONDS["quick"] <= left_s)
    assert sharpen.left_s(budget_s, [(None, 60.0), (None, None)]) == 0, "of cells whose runs are fixed there are none"
