"""How tests/gpu/run_recipes.py runs pieces of code: one after another or several at once. What is in them is of no matter here."""

import subprocess
import sys
from pathlib import Path

import pytest
import run_recipes

HERE = Path(__file__).parent
# The first ends when the file `go` is there, and so after whoever reads what is printed saw that the second ended.
PIECES = {
    "first": "import pathlib, time\nwhile not pathlib.Path({go!r}).exists(): time.sleep(0.05)\nprint('SEEN the file')",
    "second": "print('SEEN 2 tokens')",
}
STARTED = "import sys, run_recipes; run_recipes.pieces = lambda arguments: {pieces!r}; sys.exit(run_recipes.main())"


def started(pieces: dict[str, str], *arguments: str) -> subprocess.Popen:
    command = [sys.executable, "-c", STARTED.format(pieces=pieces), "a model", *arguments]
    return subprocess.Popen(command, cwd=HERE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_several_run_at_once_and_are_printed_as_they_end(tmp_path):
    go = tmp_path / "go"
    with started({name: code.format(go=str(go)) for name, code in PIECES.items()}, "--jobs", "2", "--timeout", "60") as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "second: SEEN 2 tokens\n"
        go.touch()
        assert running.stdout.read() == "first: SEEN the file\n"
    assert running.returncode == 0


@pytest.mark.parametrize("jobs", [[], ["--jobs", "3"]])
def test_one_that_fails_makes_the_exit_status_1(jobs):
    with started({"broken": "raise ValueError('not so')", "fine": "print('SEEN 1 tokens')"}, *jobs) as running:
        printed = running.communicate()[0].splitlines()
    assert running.returncode == 1
    assert "fine: SEEN 1 tokens" in printed
    (broken,) = [line for line in printed if line.startswith("broken: ")]
    assert broken.endswith("ValueError: not so")
    assert jobs or printed == [broken, "fine: SEEN 1 tokens"], "one after another in their order"


def test_an_error_where_what_was_made_is_looked_at_is_no_success():
    """The traceback has the line that failed, and so the word."""
    with started({"broken": "output = [0]\n" + run_recipes.SEEN}) as running:
        printed = running.communicate()[0]
    assert "SEEN" in printed
    assert running.returncode == 1


def test_a_number_below_1_is_refused():
    with started({}, "--jobs", "0") as running:
        said = running.communicate()[1]
    assert (running.returncode, said.splitlines()[-1].partition("error: ")[2]) == (2, "--jobs takes a number from 1 on")
