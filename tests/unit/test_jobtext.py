"""What a job is told reaches it whole, on its command line or in a file."""

import shlex
import subprocess
import sys

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from speedgrid import jobtext

import studies

LONG = st.tuples(st.text(st.characters(codec="utf-8"), min_size=1, max_size=50), st.integers(1, 20_000)).map(lambda pair: pair[0] * pair[1])


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(LONG)
@example("'" * 20_000)
@example("é" * 40_000)
def test_a_text_of_any_length_is_an_argument_that_linux_takes_and_arrives_whole(monkeypatch, tmp_path, text):
    monkeypatch.chdir(tmp_path)
    argument = jobtext.handed("{" + text)
    assert len(shlex.quote(argument).encode()) <= jobtext.LONGEST
    assert jobtext.received(argument) == "{" + text
    assert jobtext.handed("{" + text) == argument
    assert jobtext.handed("{" + text + " ") != argument


def test_a_short_text_is_written_nowhere(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert jobtext.handed('{"a": 1}') == '{"a": 1}'
    assert not list(tmp_path.iterdir())


def test_what_is_on_the_disk_is_one_whole_file_for_each_text(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    text = "x" * 200_000
    assert jobtext.handed(text) == jobtext.handed(text)
    [file] = (tmp_path / ".speedgrid/jobs").iterdir()
    assert file.read_text() == text
    assert file.stat().st_mode & 0o444 == 0o444


def test_the_longest_argument_is_one_that_bash_takes(tmp_path):
    argument = "x" * (jobtext.LONGEST - 2)
    code = f"import sys; sys.path.insert(0, {str(studies.ROOT / 'scripts')!r}); print(len(sys.argv[1]))"
    line = f"{shlex.quote(sys.executable)} -c {shlex.quote(code)} {argument} 3>&2"
    assert subprocess.run(["bash", "-c", line], capture_output=True, text=True, check=True).stdout == f"{len(argument)}\n"
    with pytest.raises(OSError, match="Argument list too long"):
        subprocess.run(["bash", "-c", line + " " * 2**17], check=True)
