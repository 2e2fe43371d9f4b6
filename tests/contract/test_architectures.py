"""Architectures × techniques: each pair gives what transformers gives in a plain pass, or says in a line why it cannot.

    ./speedgrid test tests/contract/test_architectures.py

It needs the environments of transformers, GPT-QModel, llama.cpp, ONNX Runtime and vLLM, and is not part of `./speedgrid test`: compiling
every architecture takes an hour of two cores.
"""

import functools
import json
import os
import subprocess
import sys

import pytest

sys.path.insert(0, os.path.dirname(__file__))
import architectures
import working_copy

pytestmark = [pytest.mark.slow, pytest.mark.needs("network")]

IN = {"transformers": [name for name in architectures.TECHNIQUES if name != "torchao_int8"], "gptqmodel": ["torchao_int8"]}
IN |= architectures.CONVERTED


def environments(architecture: str) -> dict[str, list[str]]:
    """The techniques that an architecture is tried with, by environment: with vLLM, which takes longest to start, some are."""
    return {env: techniques for env, techniques in IN.items() if env != "vllm-cpu" or architecture in architectures.WITH_VLLM}


PAIRS = [
    (architecture, technique)
    for architecture in architectures.ARCHITECTURES
    for technique in [*architectures.TECHNIQUES, *architectures.EITHER]
    if any(technique in techniques for techniques in environments(architecture).values())
]


@functools.cache
def found(architecture: str) -> dict[str, dict]:
    """What came of every technique of one architecture."""
    rows: list[dict] = []
    for env, techniques in environments(architecture).items():
        command = [working_copy.python_of(env), "tests/contract/architectures.py", architecture, "--techniques", *techniques]
        done = subprocess.run(command, cwd=working_copy.ROOT, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-4000:]
        rows += [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
    return {row["technique"]: row for row in rows}


@pytest.fixture(scope="session", autouse=True)
def environments_are_there(tmp_path_factory):
    """A run in a copy of the project makes them."""
    folder = working_copy.copy_to(tmp_path_factory.mktemp("architectures"))
    (folder / "two.yaml").write_text(json.dumps(architectures.STUDY))
    done = working_copy.launcher(folder, "run", "--study", "two.yaml")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]


@pytest.mark.parametrize(("architecture", "technique"), PAIRS)
def test_a_technique_gives_what_a_plain_pass_gives_or_says_why_not(architecture, technique):
    row = found(architecture)[technique]
    assert architectures.wrong(row) == "", row
