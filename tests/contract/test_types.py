"""What planning knows of the types of models is what the transformers of the environment says of them."""

import subprocess

import pytest
import working_copy

pytestmark = [pytest.mark.slow, pytest.mark.needs("network")]


def test_the_table_of_types_and_settings_is_current(tmp_path_factory):
    folder = working_copy.copy_to(tmp_path_factory.mktemp("families"))
    made = working_copy.launcher(folder, "run", "--conda-create-envs-only")
    assert made.returncode == 0, made.stdout[-4000:] + made.stderr[-8000:]
    done = subprocess.run(
        [working_copy.python_of("transformers"), "tools/write_families.py", "--check"], cwd=folder, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr[-4000:]
