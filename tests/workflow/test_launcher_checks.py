"""`speedgrid test`: all checks, or the tests that are named."""

import re
import shutil
import subprocess
import sys

import pytest
from launching import copy_of, speedgrid


@pytest.fixture(scope="module")
def tested(root, tmp_path_factory):
    """A copy with a test of its own, and code that is not as ruff would have it."""
    folder = copy_of(root, tmp_path_factory.mktemp("tested"))
    shutil.rmtree(folder / "scripts")
    (folder / "scripts" / "speedgrid").mkdir(parents=True)
    code = "import runpy, sys; runpy.run_path('speedgrid'); print(*(name for name in sys.modules if name.startswith('speedgrid.')))"
    imported = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True).stdout.split()
    assert "speedgrid.commands" in imported
    for name in imported:
        shutil.copy(root / "scripts" / f"{name.replace('.', '/')}.py", folder / "scripts" / "speedgrid")
    (folder / "rules").mkdir()
    (folder / "tests").mkdir()
    (folder / "tests" / "test_one.py").write_text("def test_one():\n    pass\n")
    (folder / "tests" / "ugly.py").write_text("x = {  'a':1 }\n")
    made = root / ".venv-test"
    if (made / "made-from").exists():  # spares a minute; a lock that differs is noticed all the same
        (folder / ".venv-test").symlink_to(made)
    return folder


@pytest.mark.slow
@pytest.mark.needs("network")
def test_all_checks_run_and_count_though_some_fail(tested):
    done = speedgrid(tested, "test")
    assert done.returncode == 1, done.stdout
    lines = done.stdout.splitlines()
    checks = [line.partition(":")[0] for line in lines if re.match(r"(ruff|snake).*: (ok|FAILED)", line)]
    assert checks == ["ruff check", "ruff format", "snakefmt", "snakemake --lint"]
    assert "ruff format: FAILED" in lines
    assert re.fullmatch(r"=+ 1 passed in .* =+", lines[-1])


@pytest.mark.slow
@pytest.mark.needs("network")
def test_chosen_tests_run_without_the_checks(tested):
    done = speedgrid(tested, "test", "tests/test_one.py::test_one", "-q")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ruff" not in done.stdout
    assert done.stdout.splitlines()[-1].startswith("1 passed")
    assert speedgrid(tested, "test", "tests/test_one.py", "-k", "nothing").returncode != 0
