"""Architectures × techniques: each pair gives what transformers gives in a plain pass, or says in a line why it cannot.

    ./speedgrid test tests/contract/test_architectures.py

It needs the environments of transformers, GPT-QModel, llama.cpp, ONNX Runtime and vLLM, and is not part of `./speedgrid test`: compiling
every architecture takes an hour of two cores.
"""

import functools
import json
import os
import signal
import subprocess
import sys

import pytest
from speedgrid import this_machine

sys.path.insert(0, os.path.dirname(__file__))
import architectures
import expected
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
    rows: dict[str, dict] = {}
    for env, techniques in environments(architecture).items():
        while left := [technique for technique in techniques if technique not in rows]:
            command = [working_copy.python_of(env), "tests/contract/architectures.py", architecture, "--techniques", *left]
            done = subprocess.run(command, cwd=working_copy.ROOT, capture_output=True, text=True)
            assert done.returncode <= 0, done.stderr[-4000:]
            said = [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]
            rows |= {row["technique"]: row for row in said}
            if done.returncode < 0:
                # A library ended the process in the middle of the next one, as it would end that of a job.
                by = f"ended by {signal.Signals(-done.returncode).name}"
                row = {"architecture": architecture, "technique": left[len(said)], "status": "failed", "reason": by}
                rows[row["technique"]] = row
    return rows


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
    assert expected.wrong(row, this_machine.instruction_sets()) == "", row
