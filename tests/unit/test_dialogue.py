"""`speedgrid new` on a real terminal: a pseudo-terminal, the keys of a person, and the screen that they see."""

import os
import pty
import select
import signal
import sys
from pathlib import Path

import hub
import pyte
import pytest
from speedgrid import dialogue, planning

import studies

# The script on a machine with everything but a GPU, with no look for one.
PROGRAM = """
import sys
sys.path[:0] = [{scripts!r}]
import new_study
from speedgrid import readiness, survey
survey.find_facts = lambda: readiness.Facts(compiler="g++", index_reachable=True, python="3.11", disk_environments=10**12,
    makeable=frozenset({envs!r}))
new_study.main()
"""
MODEL, GOAL, MINUTES, ANEW = "llama-3.2-1b: ", "[speed]: ", "[no limit]: ", "[no]: "
UP, LEFT, BACKSPACE, INTERRUPT, END = "\x1b[A", "\x1b[D", "\x7f", "\x03", "\x04"
PATIENCE_S = 120


class Terminal:
    """A program on a terminal of 100 columns."""

    def __init__(self, folder: Path, *arguments: str, **environ: str):
        envs = {path.stem for path in (studies.ROOT / "envs").glob("*.yaml")}
        code = PROGRAM.format(scripts=str(studies.ROOT / "scripts"), envs=envs)
        self.process, self.handle = pty.fork()
        if self.process == 0:
            os.chdir(folder)
            # What runs in the background, as tests may, hands on that Ctrl-C is ignored.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            told = {"TERM": "xterm", "COLUMNS": "100", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(folder)} | environ
            os.execve(sys.executable, [sys.executable, "-c", code, *arguments], os.environ | told)
        self.screen = pyte.HistoryScreen(100, 60, history=1000)
        self.stream, self.said = pyte.ByteStream(self.screen), b""

    def _read(self) -> bool:
        """Take what the program writes; whether it lives."""
        assert select.select([self.handle], [], [], PATIENCE_S)[0], f"it says nothing more: {self.said.decode()}"
        try:
            more = os.read(self.handle, 1 << 16)
        except OSError:  # the other end is closed
            return False
        self.stream.feed(more)
        self.said += more
        return bool(more)

    def answers(self, question: str, keys: str) -> None:
        """Wait for a question on the line of the cursor, and type."""
        while not self.screen.display[self.screen.cursor.y].rstrip().endswith(question.rstrip()):
            assert self._read(), f"it ended before it asked {question}: {self.said.decode()}"
        os.write(self.handle, keys.encode())
        if not keys.endswith("\n"):
            return
        line = self.screen.cursor.y
        while self.screen.cursor.y == line and self._read():
            pass

    def ends(self) -> tuple[int, str]:
        """The exit status, and all that is on the screen."""
        while self._read():
            pass
        os.close(self.handle)
        _, status = os.waitpid(self.process, 0)
        return os.waitstatus_to_exitcode(status), "\n".join(line.rstrip() for line in self.screen.display).rstrip()


def experiment(name: str) -> dict:
    return planning.read_study(f"studies/{name}.yaml")[0]["experiments"]["generate"]


def test_wrong_answers_are_explained_and_asked_again(tmp_path, monkeypatch):
    at = Terminal(tmp_path)
    at.answers(MODEL, "\n")
    at.answers(MODEL, "no/such/place\n")
    at.answers(MODEL, "gpt2\n")
    at.answers(GOAL, "spede\n")
    at.answers(GOAL, "mem\n")
    at.answers(MINUTES, "soon\n")
    at.answers(MINUTES, "-5\n")
    at.answers(MINUTES, "\n")
    status, screen = at.ends()
    assert status == 0, screen
    assert "name a model, or leave with Ctrl-C" in screen
    assert "no/such/place: there is no such file or folder, and it is no name of a repository of the hub" in screen
    assert "'spede' is none of them; did you mean speed" in screen
    assert "'soon' is no number" in screen
    assert "'-5' is not a number above 0" in screen
    monkeypatch.chdir(tmp_path)
    assert "gguf_q8_0" in experiment("gpt2-shape")["techniques"], "the goal is memory, for which all of a family are measured"
    assert "Traceback" not in screen


def test_a_repository_that_there_is_not_and_a_hub_that_cannot_be_reached_are_asked_again(tmp_path):
    with hub.serving({}) as address:
        at = Terminal(tmp_path, HF_ENDPOINT=address)
        at.answers(MODEL, "someone/nothing\n")
        at.answers(MODEL, INTERRUPT)
        status, screen = at.ends()
    assert (status, "someone/nothing at main: there is no such repository or revision" in screen) == (130, True), screen
    at = Terminal(tmp_path)
    at.answers(MODEL, "someone/nothing\n")
    at.answers(MODEL, "gpt2\n")
    at.answers(GOAL, "\n")
    at.answers(MINUTES, "\n")
    status, screen = at.ends()
    assert status == 0, screen
    assert "the hub cannot be reached (http://127.0.0.1:9" in screen


@pytest.mark.parametrize(("key", "status", "said"), [(INTERRUPT, 130, "stopped; nothing was written"), (END, 2, "nothing was answered")])
def test_who_leaves_is_told_that_nothing_was_written(tmp_path, key, status, said):
    at = Terminal(tmp_path)
    at.answers(MODEL, "gpt2\n")
    at.answers(GOAL, key)
    found, screen = at.ends()
    assert found == status
    assert screen.splitlines()[-1].startswith(f"speedgrid: {said}")
    assert not (tmp_path / "studies").exists()


def test_keys_edit_the_line_and_the_question_stays(tmp_path):
    at = Terminal(tmp_path)
    at.answers(MODEL, f"pt3{BACKSPACE}2{LEFT * 3}g\n")
    at.answers(GOAL, f"{UP}{BACKSPACE * 9}\n")
    at.answers(MINUTES, "\n")
    status, screen = at.ends()
    assert status == 0, screen
    assert f"{dialogue.WHAT}: gpt2" in screen
    assert "Goal: speed, memory, quality [speed]:" in screen


def test_a_study_that_is_there_is_written_anew_only_with_a_yes(tmp_path):
    path = tmp_path / "studies" / "gpt2-shape.yaml"
    path.parent.mkdir()
    path.write_text("mine\n")
    at = Terminal(tmp_path)
    at.answers(MODEL, "gpt2\n")
    at.answers(ANEW, "perhaps\n")
    at.answers(ANEW, "\n")
    status, screen = at.ends()
    assert (status, path.read_text()) == (2, "mine\n")
    assert "studies/gpt2-shape.yaml stays as it is; --name NAME writes another one" in screen
    at = Terminal(tmp_path, "--shape", "gpt2", "--minutes", "20", "--goal", "speed")
    at.answers(ANEW, "y\n")
    status, screen = at.ends()
    assert status == 0, screen
    assert path.read_text().startswith("# yaml-language-server")


def test_a_relative_path_is_from_where_the_person_is(tmp_path):
    """And not from the clone, where the launcher has gone."""
    elsewhere = tmp_path / "where I am"
    elsewhere.mkdir()
    (elsewhere / "mine").mkdir()
    at = Terminal(tmp_path, SPEEDGRID_CALLED_FROM=str(elsewhere))
    at.answers(MODEL, "mine\n")
    at.answers(MODEL, END)
    _, screen = at.ends()
    assert "whereIam/mineisnotafolderwithacheckpoint(noconfig.json)" in "".join(screen.split())  # of any width
