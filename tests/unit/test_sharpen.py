"""`runs: auto`: what is measured again, in which order, for how long; and what the plan makes of it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from speedgrid import grid, sharpen
from speedgrid.cell import Cell
from speedgrid.planning.order import in_order
from speedgrid.sharpen import Further
from speedgrid.study import validate

import studies

STUDY_SCHEMA = studies.schema("study")
REGISTRY = validate(studies.registry(), studies.schema("techniques"), "techniques.yaml")


def cell(technique: str, further: int | None = 0) -> dict:
    return {"gpu": "local", "experiment": "e", "model": "m", "technique": technique, "folder": f"results/{technique}", "further": further}


def row(standing: str, run_s: float = 60.0, **told) -> dict:
    nothing = dict.fromkeys(("verdict", "further_runs", "further_runs_fastest", "is_baseline"))
    return nothing | {"rate": 10.0, "run_s": run_s, "standing": standing} | told


def baseline(standing: str = "slower", **told) -> dict:
    return row(standing, is_baseline=True, **told)


def wanted(told: dict[str, dict], budget_s: float = 1e6, **further: int | None) -> tuple[dict, dict]:
    found = sharpen.decide([cell(name, further.get(name, 0)) for name in told], list(told.values()), budget_s)
    return tuple({folder.removeprefix("results/"): count for folder, count in part.items()} for part in (found.wanted, found.open))


DECIDED = {"base": baseline(), "fast": row("first", verdict="faster"), "slow": row("slower", verdict="unsure", further_runs=3)}
OPEN = DECIDED | {"near": row("unsure", verdict="faster", further_runs_fastest=1), "far": row("unsure", 100.0, further_runs_fastest=5)}


def test_what_is_decided_or_cannot_change_the_answer_is_not_measured_again():
    assert wanted(DECIDED) == ({}, {})
    assert wanted(DECIDED, fast=2, base=1) == ({"fast": 2, "base": 1}, {}), "what has been measured stays"


def test_what_may_be_the_fastest_is_measured_again_with_the_fastest_a_few_runs_at_a_time():
    assert wanted(OPEN) == ({"near": 1, "fast": sharpen.AT_A_TIME, "far": sharpen.AT_A_TIME}, {})


def test_a_fastest_that_may_be_no_faster_than_the_baseline_is_measured_again_with_it():
    told = DECIDED | {"fast": row("first", verdict="unsure", further_runs=1)}
    assert wanted(told) == ({"fast": 1, "base": 1}, {})


def test_the_cheapest_comes_first_and_what_the_budget_has_no_room_for_is_open_with_its_price():
    assert wanted(OPEN, budget_s=150.0) == ({"near": 1, "fast": 1}, {"far": 5, "fast": 4})
    assert wanted(OPEN, budget_s=0.0) == ({}, {"near": 1, "far": 5, "fast": 5})


def test_further_runs_are_paid_out_of_the_budget():
    assert wanted(OPEN, budget_s=290.0, near=1, fast=1)[0] == {"near": 2, "fast": 2}
    assert wanted(OPEN, budget_s=200.0, near=1, fast=1)[0] == {"near": 1, "fast": 1}


def test_what_twenty_runs_would_not_tell_is_left_alone_and_cells_of_a_number_of_runs_too():
    assert wanted(DECIDED | {"near": row("unsure", further_runs_fastest=None)}) == ({}, {})
    assert wanted(OPEN, **dict.fromkeys(OPEN)) == ({}, {})
    assert wanted(OPEN, near=sharpen.MOST - 1, fast=sharpen.MOST - 1, far=sharpen.MOST - 1)[1] == {}


@given(
    st.lists(st.tuples(st.sampled_from(["unsure", "slower", "same"]), st.integers(1, 20), st.floats(1, 500)), max_size=8), st.floats(0, 5e3)
)
def test_decisions_stay_within_the_budget_and_come_to_an_end(cells, budget_s):
    told = {"base": baseline(), "fast": row("first", verdict="faster")}
    told |= {f"t{i}": row(standing, seconds, further_runs_fastest=needed) for i, (standing, needed, seconds) in enumerate(cells)}
    had: dict[str, int] = {}
    for _ in range(200):
        now, _ = wanted(told, budget_s, **had)
        assert all(now.get(name, 0) >= count for name, count in had.items())
        assert sum(count * told[name]["run_s"] for name, count in now.items()) <= budget_s + 1e-6
        if now == had:
            return
        had = now
    pytest.fail("it never ends")


def test_the_file_is_read_as_it_was_written_and_anything_else_says_nothing(tmp_path):
    further, path = Further({"results/a": 2}, {"results/a": 1, "results/b": 3}), tmp_path / "further.json"
    assert Further.read(path) == Further()
    path.write_text(further.as_json(), encoding="utf-8")
    assert Further.read(path) == further
    assert further.sharpened() == Further({"results/a": 3, "results/b": 3})
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
