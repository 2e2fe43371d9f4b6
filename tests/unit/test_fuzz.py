"""Studies that nobody would write: each plans, or is refused in one line that names the file."""

import copy

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from speedgrid import grid
from speedgrid.study import StudyError, validate

import studies

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


@settings(max_examples=500, deadline=None)
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
