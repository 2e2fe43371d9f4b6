"""What the tests of whole runs share."""

from pathlib import Path

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
