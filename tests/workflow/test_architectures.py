"""Five families that many a technique does not take, and checkpoints that are not whole, in the environment of the engine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import working_copy

sys.path.insert(0, str(working_copy.ROOT / "tests/contract"))
import architectures

pytestmark = [pytest.mark.slow, pytest.mark.needs("network")]

FAMILIES = ("gemma2", "qwen3_moe", "gpt_oss", "mamba", "phi3")
TECHNIQUES = ("baseline", "sdpa", "prompt_lookup", "no_kv_cache", "bf16", "bnb_int8", "bnb_nf4")


def lines(project, *command: str) -> list[dict]:
    """The lines of JSON that a script prints in the environment `transformers`, which the project has made."""
    variables = {**os.environ, "PYTHONPATH": str(working_copy.ROOT / "scripts")}
    command = [working_copy.python_of("transformers"), *command]
    done = subprocess.run(command, cwd=working_copy.ROOT, env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.fixture(scope="module")
def outcomes(project) -> dict[tuple[str, str], dict]:
    rows = lines(project, "tests/contract/architectures.py", *FAMILIES, "--techniques", *TECHNIQUES)
    return {(row["architecture"], row["technique"]): row for row in rows}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_technique_gives_what_a_plain_pass_gives_or_says_why_not(outcomes, family):
    for technique in TECHNIQUES:
        row = outcomes[family, technique]
        assert architectures.wrong(row) == "", row


def test_experts_that_bitsandbytes_leaves_out_are_not_said_to_be_quantized(outcomes):
    for family in ("qwen3_moe", "gpt_oss"):
        for technique in ("bnb_int8", "bnb_nf4"):
            row = outcomes[family, technique]
            assert row["status"] == "not_engaged"
            assert row["evidence"]["quantized_share"] < 0.5
            assert "experts.gate_up_proj" in row["evidence"]["left_as_it_was"]
    assert outcomes["phi3", "bnb_int8"]["evidence"]["quantized_share"] == 1


def test_a_checkpoint_is_read_whole_or_refused_with_the_name_of_the_weight(project, tmp_path):
    """Of every way in which a folder can differ from its config.json, by a loader, a transform that quantizes and one that prunes."""
    rows = lines(project, str(Path(__file__).with_name("odd_checkpoints.py")), str(tmp_path))
    found = {(row["checkpoint"], row["reader"]): row for row in rows}
    whole = {name for name, reader in found if reader == "engine" and found[name, reader]["status"] == "ok"}
    assert whole == {"whole", "base_model", "tied", "buffers", "head_beside", "attention", "just_enough"}
    for (name, _), row in found.items():
        if name in whole:
            assert row["status"] == "ok", row
        else:
            assert row["status"] == ("missing_dependency" if name == "sentencepiece" else "unsupported"), row
            assert row["named"], row
