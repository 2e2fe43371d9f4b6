"""Ctrl-C and SIGTERM to the launcher: all that it started ends, with one line."""

import contextlib
import os
import pty
import shutil
import signal
import socket
import subprocess
import sys
import time

import pyte
import pytest
import yaml
from launching import environment, speedgrid
from speedgrid import supervision

# What a job's environment says of for whom it works, as speedgrid's own do.
WANTED = f"""
import os
os.environ["{supervision.WANTED_BY}"] = str(os.getpid())
"""

# A job that goes on until it is stopped.
WAITS = (
    WANTED
    + """
rule waits:
    output: "waits.txt"
    log: "waits.log"
    shell: "echo begun >&2; sleep 300"
"""
)


def started_to_be_stopped(clone, *arguments):
    """A run that has begun a job which goes on until it is stopped, and what its terminal or log has shown by then."""
    text = (clone / "Snakefile").read_text()
    (clone / "Snakefile").write_text(text + WAITS)
    reading, writing = os.pipe()
    command = [sys.executable, clone / "speedgrid", "run", *arguments, "--", "waits.txt"]
    process = subprocess.Popen(command, cwd=clone, env=environment(), stdout=writing, stderr=writing, start_new_session=True)
    os.close(writing)
    shown = b""
    while b"begun" not in shown:
        data = os.read(reading, 65536)
        assert data, shown.decode()
        shown += data
    return process, reading, text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("signals", "number", "status"),
    [(os.killpg, signal.SIGINT, 130), (os.kill, signal.SIGINT, 130), (os.kill, signal.SIGTERM, 143)],
    ids=["Ctrl-C of a terminal, to every process", "Ctrl-C to the process alone", "SIGTERM of a scheduler"],
)
def test_a_run_that_is_stopped_ends_with_one_line(clone, signals, number, status):
    """It showed the job's block, Snakemake's errors and its own, and ended with 1; after SIGTERM it went on until the job had ended."""
    process, reading, text = started_to_be_stopped(clone)
    try:
        signals(process.pid, number)
        said = b""
        while data := os.read(reading, 65536):
            said += data
        assert process.wait(60) == status, said.decode()
    finally:
        (clone / "Snakefile").write_text(text)
        os.close(reading)
    lines = said.decode().splitlines()
    assert lines == ["speedgrid: stopped; 0 of 1 steps are done and kept, and the same command goes on from there"], lines


def test_a_sigterm_stops_what_the_launcher_waits_for(small, tmp_path):
    """It ended the launcher alone: pytest, or pip while it set up, went on."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/uv").write_text(f"#!/bin/sh\necho $$ >&2\nexec {shutil.which('sleep')} 300\n")
    (tmp_path / "bin/uv").chmod(0o755)
    more = environment(PATH=f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    process = subprocess.Popen([sys.executable, small / "speedgrid", "run"], cwd=small, env=more, stderr=subprocess.PIPE, text=True)
    assert "setting up .venv" in process.stderr.readline()
    waits = int(process.stderr.readline())
    process.terminate()
    assert (process.wait(60), process.stderr.read()) == (143, "")
    # What was ended stays in the list of processes until somebody has asked how, which takes a while on a busy machine.
    with pytest.raises(ProcessLookupError):
        for _ in range(600):
            os.kill(waits, 0)
            time.sleep(0.1)


JUST_STARTED = """
import runpy, subprocess
end = runpy.run_path("speedgrid")["end"]
child = subprocess.Popen(["sleep", "300"])
try:
    end(15, None)
except SystemExit as ended:
    print(ended.code, child.wait(60))
finally:
    child.kill()
"""


def test_a_sigterm_ends_what_is_just_being_started(root):
    """Before `subprocess` knows of it, which otherwise kills what it waits for: under load pip went on for as long as it took."""
    done = subprocess.run([sys.executable, "-c", JUST_STARTED], cwd=root, capture_output=True, text=True)
    assert done.stdout == "143 -15\n", done.stderr


PREPARED = (
    WANTED
    + """
rule prepare:
    output: "prepared.txt"
    log: "prepared.log"
    conda: "envs/for-the-test.yaml"
    shell: "echo downloaded > {output}"
"""
)


@pytest.mark.slow
def test_a_sigterm_stops_prepare_while_it_makes_environments(clone, tmp_path):
    """It ended the launcher alone, and Snakemake went on with nobody to wait for it."""
    text, pins = (clone / "Snakefile").read_text(), {"pip": ["a-package-of-nobody==1.0"]}
    (clone / "Snakefile").write_text(text + PREPARED)
    (clone / "envs/for-the-test.yaml").write_text(yaml.safe_dump({"dependencies": [f"python={sys.version_info[0]}.11", "pip", pins]}))
    index = socket.create_server(("127.0.0.1", 0))  # takes connections, and never answers
    index.settimeout(120)
    address = f"http://127.0.0.1:{index.getsockname()[1]}/simple"
    more = {"PIP_INDEX_URL": address, "PIP_NO_CACHE_DIR": "1", "SNAKEMAKE_CONDA_PREFIX": str(tmp_path), "NO_PROXY": "127.0.0.1"}
    command = [sys.executable, clone / "speedgrid", "prepare", "--uv-envs"]
    process = subprocess.Popen(command, cwd=clone, env=environment(**more), stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        asked, _ = index.accept()
        process.terminate()
        said = process.communicate(timeout=60)[1]
        assert process.returncode == 143, said
        assert said.splitlines()[-1].startswith("speedgrid: stopped"), said
        asked.settimeout(60)
        while asked.recv(65536):
            pass  # until who asked is gone, too
    finally:
        (clone / "Snakefile").write_text(text)
        (clone / "envs/for-the-test.yaml").unlink()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        index.close()


@pytest.mark.slow
def test_prepare_goes_on_from_environments_to_downloads_where_it_was_started(clone, tmp_path):
    text = (clone / "Snakefile").read_text()
    (clone / "Snakefile").write_text(text + PREPARED.replace('    conda: "envs/for-the-test.yaml"\n', ""))
    try:
        (tmp_path / "mine.yaml").write_text("study: mine\n")
        done = speedgrid(clone, "prepare", "--uv-envs", "--study", "mine.yaml", cwd=tmp_path)
    finally:
        (clone / "Snakefile").write_text(text)
    assert done.returncode == 0, done.stderr
    assert (clone / "prepared.txt").read_text() == "downloaded\n"


@pytest.mark.slow
def test_ctrl_c_on_a_terminal_ends_with_one_line_too(clone):
    text = (clone / "Snakefile").read_text()
    (clone / "Snakefile").write_text(text + WAITS)
    command = [sys.executable, str(clone / "speedgrid"), "run", "--", "waits.txt"]
    screen = pyte.Screen(140, 40)
    stream = pyte.ByteStream(screen)
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(clone)
        os.execve(command[0], command, environment(COLUMNS="140", LINES="40", TERM="xterm-256color"))
    try:
        is_stopped = False
        while True:
            try:
                data = os.read(terminal, 65536)
            except OSError:
                break
            stream.feed(data)
            if not is_stopped and any("begun" in line for line in screen.display):
                os.write(terminal, b"\x03")
                is_stopped = True
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        (clone / "Snakefile").write_text(text)
    shown = [line.strip() for line in screen.display if line.strip()]
    after = shown[next(at for at, line in enumerate(shown) if "begun" in line) + 1 :]
    assert status == 130, shown
    assert [line.replace("^C", "").strip() for line in after if line != "^C"] == [
        "speedgrid: stopped; 0 of 1 steps are done and kept, and the same command goes on from there"
    ], shown
