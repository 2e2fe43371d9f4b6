"""A test that needs what the machine lacks is listed as not run, and is a failure where CI=true."""

import os
import subprocess
import sys

import pytest

TEST = """
import pytest

@pytest.mark.needs("chromium")
def test_page(): ...

@pytest.mark.gpu
def test_device(): ...

@pytest.mark.needs("tea")
def test_unknown(): ...

def test_plain(): ...
"""


@pytest.fixture
def bare_pytest(tmp_path, root):
    """Runs TEST by the repository's conftest, on a machine without a browser and a GPU (they are not on PATH)."""

    def run(**variables):
        (tmp_path / "test_needs.py").write_text(TEST)
        path = tmp_path / "bin"
        path.mkdir()
        command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-c", os.devnull, str(tmp_path / "test_needs.py")]
        environ = {k: v for k, v in os.environ.items() if k != "CI"} | {"PATH": str(path)} | variables
        return subprocess.run(command, cwd=root, env=environ, capture_output=True, text=True).stdout

    return run


def test_lacking_needs_are_listed_at_the_end(bare_pytest):
    output = bare_pytest()
    assert "1 passed, 2 skipped, 1 warning, 1 error" in output
    listed = output.partition("Not run on this machine")[2]
    assert "test_page: no Chromium" in listed
    assert "test_device: no NVIDIA GPU" in listed
    assert "unknown need 'tea'; it may be chromium" in output


def test_in_ci_only_a_gpu_may_be_lacking(bare_pytest):
    output = bare_pytest(CI="true")
    assert "1 passed, 1 skipped, 1 warning, 2 errors" in output
    assert "may not be lacking where CI=true: no Chromium" in output
