"""What the tests of whole runs share."""

import importlib.machinery
import importlib.util
import re
from pathlib import Path

import launching
import pytest
import working_copy

TINY = "tests/studies/tiny.yaml"


@pytest.fixture(scope="session")
def project(tmp_path_factory) -> Path:
    """A copy of the project, in a folder with a space in its name, in which the tiny study was run as a user runs it."""
    folder = working_copy.copy_to(tmp_path_factory.mktemp("end to end"))
    done = working_copy.launcher(folder, "run", "--study", TINY, HF_TOKEN=working_copy.TOKEN)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    (folder / "said.txt").write_text(done.stdout + done.stderr)
    return folder


@pytest.fixture(scope="session")
def clone(root, tmp_path_factory):
    """A copy that has been started once."""
    folder = launching.copy_of(root, tmp_path_factory.mktemp("a clone with spaces"))
    done = launching.speedgrid(folder, "run", "--version")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "9.27.1\n"
    assert "setting up .venv from locks/run.txt" in done.stderr
    return folder


@pytest.fixture
def small(root, tmp_path):
    """A copy that locks one small package, so that its environment is made in a moment; Snakemake is not in it."""
    folder = launching.copy_of(root, tmp_path)
    lines = (root / "locks" / "run.txt").read_text()
    (folder / "locks" / "run.txt").write_text(re.search(r"^idna==.*?(?=^\S)", lines, re.DOTALL | re.MULTILINE)[0])
    return folder


@pytest.fixture(scope="session")
def launcher(root):
    """The launcher as a module, for the functions that only decide."""
    loader = importlib.machinery.SourceFileLoader("launcher", str(root / "speedgrid"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("launcher", loader))
    loader.exec_module(module)
    return module
