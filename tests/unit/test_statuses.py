"""The table of what each technique must end with (tests/contract/statuses.yaml): it has a line for each cell, and says what it must."""

import itertools
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from speedgrid.schema import MEASURED, STATUSES

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "contract"))
import statuses

ROOT = statuses.FILE.resolve().parents[2]
TABLE = statuses.table()
REGISTRY = yaml.safe_load((ROOT / "techniques.yaml").read_text(encoding="utf-8"))
STUDY = yaml.safe_load((ROOT / "tests/studies/techniques.yaml").read_text(encoding="utf-8"))
LADDER = {"cpu": ["unsupported", "a GPU"], "gpu": ["unsupported", "8.0"], "sm80": ["missing_dependency", "not there"], "nvcc": ["ok"]}
CAPABILITIES = [None, (7, 5), (8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)]


def test_every_cell_of_the_study_has_a_line_and_no_other():
    cells = {(name, model, one) for name, e in STUDY["experiments"].items() for model in e["models"] for one in e["techniques"]}
    assert set(TABLE) == cells


def test_every_technique_runs_somewhere_unless_it_has_no_engine():
    """On some device, with what it needs: else nobody would see that it no longer works."""
    runs = {cell[2] for cell, line in TABLE.items() for gpu in CAPABILITIES if statuses.outcome(line, gpu, statuses.TOOLS)[0] == "ok"}
    never = {"torch_compile_naive", "torch_compile_torch21", "flash_attention_v1_compile"}
    nowhere = {name for name, entry in REGISTRY.items() if "unavailable" in entry}
    # flash-attn for the PyTorch of today is no package of any environment.
    assert set(REGISTRY) - runs == nowhere | never | {"flash_attn", "attention_flash_attn"}


def test_a_line_names_a_status_and_says_why_where_there_are_no_figures():
    for cell, capability in itertools.product(TABLE, CAPABILITIES):
        status, words = statuses.outcome(TABLE[cell], capability)
        assert status in STATUSES, cell
        assert status in {*MEASURED, "unsupported", "missing_dependency"}, cell
        assert status == "ok" or words, cell
        requires = REGISTRY[cell[2]].get("requires", [])
        if "cuda" in requires and capability is None and "unavailable" not in REGISTRY[cell[2]]:
            assert (status, words) == ("unsupported", "needs an NVIDIA GPU"), cell
        for name, least in {"sm80": (8, 0), "sm89": (8, 9)}.items():
            if name in requires and capability and capability < least:
                assert (status, words) == ("unsupported", f"needs compute capability {least[0]}.{least[1]}"), cell


@pytest.mark.parametrize(
    ("capability", "tools", "status"),
    [
        (None, (), "unsupported"),
        (None, ("nvcc",), "unsupported"),
        ((7, 5), ("nvcc",), "unsupported"),
        ((8, 0), (), "missing_dependency"),
        ((9, 0), (), "missing_dependency"),
        ((9, 0), ("nvcc",), "ok"),
    ],
)
def test_the_entry_of_the_highest_capability_counts(capability, tools, status):
    assert statuses.outcome(LADDER, capability, tools)[0] == status


@given(status=st.sampled_from(sorted(STATUSES)), reason=st.text(max_size=20))
def test_another_status_or_another_reason_is_wrong(status, reason):
    """A broken engine that refuses all models is no `unsupported` as any other."""
    said = statuses.wrong(["unsupported", "needs an NVIDIA GPU"], None, (), status, reason)
    assert bool(said) == (status != "unsupported" or "needs an NVIDIA GPU" not in reason)
    assert statuses.wrong("ok", (9, 0), (), status, reason) == ("" if status == "ok" else said and f"{status} in place of ok: {reason}")
