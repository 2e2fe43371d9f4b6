"""Studies that nobody would write: each plans, or is refused in one line that names the file.

SPEEDGRID_FUZZ is the number of files that are tried; tests/benchmarks/fuzz_studies.py tries thousands and counts what becomes of them.
"""

import copy
import json
import os
import signal
from pathlib import Path

import odd_studies
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from speedgrid import foreseen, grid, planning
from speedgrid.study import StudyError, validate

import studies

EXAMPLES = int(os.environ.get("SPEEDGRID_FUZZ", "100"))
# Many times what planning the largest of them takes.
SECONDS = 60
STUDY_SCHEMA = studies.schema("study")
REGISTRY = validate(studies.registry(), studies.schema("techniques"), "techniques.yaml")
# What YAML can hold; keys as well as texts may be anything, and keys need not be texts.
SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | st.sampled_from(["$(x)", "../..", "a/b", "auto"])
VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(SCALARS, inner, max_size=3))


def places(value, at=()):
    """The path of every value in a study."""
    yield at
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in items:
        yield from places(inner, (*at, key))


@st.composite
def changed_studies(draw):
    """A valid study in which up to three values are replaced, taken out, or joined by another key."""
    study = studies.small()
    study["gpus"]["a"] = {"device": "cuda", "name": "A100", "slurm": {"partition": "p", "nodes": ["n1"], "memory_gb": 4}}
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.sampled_from([path for path in places(study) if path]))
        parent = study
        for key in at[:-1]:
            parent = parent[key]
        kind = draw(st.sampled_from(["replace", "remove", "add"]))
        if kind == "replace":
            parent[at[-1]] = draw(VALUES)
        elif kind == "remove":
            del parent[at[-1]]
        elif isinstance(parent, dict):
            parent[draw(st.text(max_size=8) | st.integers())] = draw(VALUES)
    return study


def test_a_key_that_would_break_the_line_is_shown_escaped():
    with pytest.raises(StudyError) as caught:
        grid.plan(validate(studies.small() | {"\n\x1b[2J": 1}, STUDY_SCHEMA, "my.yaml"), REGISTRY, "my.yaml")
    assert "\\n\\x1b[2J" in str(caught.value)
    assert str(caught.value).isprintable()


@settings(max_examples=500)
@given(changed_studies())
def test_every_study_plans_or_is_refused_in_one_line(study):
    before = copy.deepcopy(study)
    try:
        cells = grid.plan(validate(study, STUDY_SCHEMA, "my.yaml"), REGISTRY, "my.yaml")
    except StudyError as error:
        assert str(error).startswith("my.yaml: ")
        assert str(error).isprintable()
    else:
        assert cells
        assert not any(part in ("", ".", "..") or "/" in part for cell in cells for part in cell.key)
    assert repr(study) == repr(before)


# --- through the whole of planning, from the bytes of a file


class Slow(Exception):
    """Planning took longer than any study of this size may."""


def outcome(content: bytes, file: Path) -> str:
    """What becomes of a study: `planned`, or the line that refuses it. Anything else fails the test."""
    file.write_bytes(content)
    signal.signal(signal.SIGALRM, out_of_time)
    signal.alarm(SECONDS)
    try:
        planned = planning.read_grid(file)
        answers(planned)
    except StudyError as error:
        line = str(error)
        assert line.isprintable()
        assert len(line) < 1000
        assert line.startswith(str(file))
        return line
    finally:
        signal.alarm(0)
    return "planned"


def out_of_time(*_) -> None:
    raise Slow


def answers(planned: planning.Grid) -> None:
    """Everything that the rules ask about a grid."""
    assert planned.cells
    folders = {cell.folder.lower() for cell in planned.cells}
    assert len(folders) == len(planned.cells)
    for cell in planned.cells:
        assert not any(part in ("", ".", "..") or "/" in part for part in cell.key)
        assert (studies.ROOT / f"envs/{cell.env}.yaml").is_file()
        for stage in ("warmup", "measure", *(["evaluate"] if cell.evaluate else [])):
            told = cell.job(stage)
            assert json.loads(told, parse_constant=refused_constant) == json.loads(told)
            told.encode("utf-8")
    assert json.loads(planned.as_json(), parse_constant=refused_constant)["cells"]
    assert planned.records()
    assert all(line.isprintable() for line in foreseen.said(planned))


def refused_constant(text: str) -> None:
    raise AssertionError(f"{text} is no JSON")


@settings(max_examples=EXAMPLES, database=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32))
def test_every_file_plans_or_is_refused_in_one_line(tmp_path_factory, seed):
    outcome(odd_studies.make(seed), tmp_path_factory.getbasetemp() / "odd.yaml")


def test_odd_studies_are_both_planned_and_refused(tmp_path):
    """Else the test above would look at one half alone."""
    found = [outcome(odd_studies.make(seed), tmp_path / "odd.yaml") for seed in range(300)]
    assert 16 <= found.count("planned") < 250
