"""`speedgrid new` on a real terminal: a pseudo-terminal, the keys of a person, and the screen that they see."""

import os
import pty
import select
import signal
import sys
import termios
from collections import Counter
from pathlib import Path

import hub
import pyte
import pytest
from speedgrid import dialogue, planning

import studies

# The script on a machine with everything but a GPU, with no look for one.
PROGRAM = """
import sys
import termios
sys.path[:0] = [{scripts!r}]
import new_study
from speedgrid import readiness, survey
survey.find_facts = lambda: readiness.Facts(compiler="g++", index_reachable=True, python="3.11", disk_environments=10**12,
    makeable=frozenset({envs!r}))
new_study.main()
"""
ANEW = "write it anew?"
UP, DOWN, LEFT, TAB, BACKSPACE, INTERRUPT, END, ENTER = "\x1b[A", "\x1b[B", "\x1b[D", "\t", "\x7f", "\x03", "\x04", "\r"
PATIENCE_S = 120


class Terminal:
    """A program on a terminal of 100 columns."""

    def __init__(self, folder: Path, *arguments: str, **environ: str):
        envs = {path.stem for path in (studies.ROOT / "envs").glob("*.yaml")}
        code = PROGRAM.format(scripts=str(studies.ROOT / "scripts"), envs=envs)
        self.process, self.handle = pty.fork()
        if self.process == 0:
            os.chdir(folder)
            termios.tcsetwinsize(0, (60, 100))
            # What runs in the background, as tests may, hands on that Ctrl-C is ignored.
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            told = {"TERM": "xterm", "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(folder)} | environ
            os.execve(sys.executable, [sys.executable, "-c", code, *arguments], os.environ | told)
        self.screen = pyte.Screen(100, 60)
        # Terminals say where their cursor is.
        self.screen.write_process_input = lambda data: os.write(self.handle, data.encode())
        self.stream, self.said, self.asked = pyte.ByteStream(self.screen), b"", Counter[str]()

    def _read(self) -> bool:
        """Take what the program writes; whether it lives."""
        assert select.select([self.handle], [], [], PATIENCE_S)[0], f"it says nothing more: {self.shown()}"
        try:
            more = os.read(self.handle, 1 << 16)
        except OSError:  # the other end is closed
            return False
        self.stream.feed(more)
        self.said += more
        return bool(more)

    def shown(self) -> str:
        return "\n".join(line.rstrip() for line in self.screen.display).rstrip()

    def sees(self, text: str, times: int = 1) -> None:
        while self.shown().count(text) < times:
            assert self._read(), f"it ended and had not said {text}: {self.shown()}"

    def answers(self, question: str, keys: str) -> None:
        """Wait until a question is asked, once more than before, and type."""
        self.asked[question] += 1
        self.sees(question, self.asked[question])
        self.types(keys)

    def types(self, keys: str) -> None:
        os.write(self.handle, keys.encode())

    def ends(self) -> tuple[int, str]:
        """The exit status, and all that is on the screen."""
        while self._read():
            pass
        os.close(self.handle)
        _, status = os.waitpid(self.process, 0)
        return os.waitstatus_to_exitcode(status), self.shown()


def experiment(name: str) -> dict:
    return planning.read_study(f"studies/{name}.yaml")[0]["experiments"]["generate"]


def test_wrong_answers_are_explained_and_asked_again(tmp_path, monkeypatch):
    at = Terminal(tmp_path)
    at.answers(dialogue.MODEL, ENTER)
    at.answers(dialogue.MODEL, f"no/such/place{ENTER}")
    # What was not found is there to be corrected.
    at.answers(dialogue.MODEL, f"{BACKSPACE * 13}gpt2{ENTER}")
    at.answers(dialogue.GOAL, f"{DOWN}{ENTER}")
    at.answers(dialogue.MINUTES, f"soon{ENTER}")
    at.answers(dialogue.MINUTES, f"{BACKSPACE * 4}-5{ENTER}")
    at.answers(dialogue.MINUTES, f"{BACKSPACE * 2}{ENTER}")
    status, screen = at.ends()
    assert status == 0, screen
    assert "name a model, or leave with Ctrl-C" in screen
    assert "no/such/place: there is no such file or folder, and it is no name of a repository of the hub" in screen
    assert "'soon' is no number" in screen
    assert "'-5' is not a number above 0" in screen
    monkeypatch.chdir(tmp_path)
    assert "gguf_q8_0" in experiment("gpt2-shape")["techniques"], "the goal is memory, for which all of a family are measured"
    assert "Traceback" not in screen


def test_a_repository_that_there_is_not_and_a_hub_that_cannot_be_reached_are_asked_again(tmp_path):
    with hub.serving({}) as address:
        at = Terminal(tmp_path, HF_ENDPOINT=address)
        at.answers(dialogue.MODEL, f"someone/nothing{ENTER}")
        at.answers(dialogue.MODEL, INTERRUPT)
        status, screen = at.ends()
    assert (status, "someone/nothing at main: there is no such repository or revision" in screen) == (130, True), screen
    at = Terminal(tmp_path)
    at.answers(dialogue.MODEL, f"someone/nothing{ENTER}")
    at.answers(dialogue.MODEL, f"{BACKSPACE * 15}gpt2{ENTER}")
    at.answers(dialogue.GOAL, ENTER)
    at.answers(dialogue.MINUTES, ENTER)
    status, screen = at.ends()
    assert status == 0, screen
    assert "the hub cannot be reached (http://127.0.0.1:9" in screen


@pytest.mark.parametrize(
    ("question", "key", "status", "said"),
    [
        ("MODEL", INTERRUPT, 130, "stopped; nothing was written"),
        ("GOAL", INTERRUPT, 130, "stopped; nothing was written"),
        ("MINUTES", INTERRUPT, 130, "stopped; nothing was written"),
        ("MINUTES", END, 2, "nothing was answered"),
    ],
)
def test_who_leaves_is_told_so_in_one_line(tmp_path, question, key, status, said):
    at, answers = Terminal(tmp_path), {"MODEL": f"gpt2{ENTER}", "GOAL": ENTER, "MINUTES": ENTER}
    for name, keys in answers.items():
        at.answers(getattr(dialogue, name), key if name == question else keys)
        if name == question:
            break
    found, screen = at.ends()
    assert found == status
    last = screen.splitlines()[-1]
    assert last.startswith(f"speedgrid: {said}")
    assert "Cancelled" not in screen
    assert not (tmp_path / "studies").exists()


def test_keys_edit_the_line_choose_and_complete(tmp_path, monkeypatch):
    at = Terminal(tmp_path)
    at.answers(dialogue.MODEL, f"pt3{BACKSPACE}2{LEFT * 3}g{ENTER}")
    at.answers(dialogue.GOAL, f"{DOWN * 2}{UP}{ENTER}")
    at.answers(dialogue.MINUTES, ENTER)
    status, screen = at.ends()
    assert status == 0, screen
    assert f"{dialogue.MODEL} gpt2" in screen
    assert f"{dialogue.GOAL} memory" in screen
    (tmp_path / "a-file.gguf").write_bytes(b"no model")
    at = Terminal(tmp_path)
    at.answers(dialogue.MODEL, f"a-f{TAB}")
    at.sees("a-file.gguf")
    at.types(ENTER)
    at.sees("a-file.gguf is no GGUF file, or damaged")
    at.answers(dialogue.MODEL, INTERRUPT)
    assert at.ends()[0] == 130


def test_a_study_that_is_there_is_written_anew_only_with_a_yes(tmp_path):
    path = tmp_path / "studies" / "gpt2-shape.yaml"
    path.parent.mkdir()
    path.write_text("mine\n")
    at = Terminal(tmp_path)
    at.answers(dialogue.MODEL, f"gpt2{ENTER}")
    at.answers(ANEW, ENTER)
    status, screen = at.ends()
    assert (status, path.read_text()) == (2, "mine\n")
    assert "studies/gpt2-shape.yaml stays as it is; --name NAME writes another one" in screen
    at = Terminal(tmp_path, "--shape", "gpt2", "--minutes", "20", "--goal", "speed")
    at.answers(ANEW, "y")
    status, screen = at.ends()
    assert status == 0, screen
    assert path.read_text().startswith("# yaml-language-server")


def test_a_relative_path_is_from_where_the_person_is(tmp_path):
    """And not from the clone, where the launcher has gone."""
    elsewhere = tmp_path / "where I am"
    elsewhere.mkdir()
    (elsewhere / "mine").mkdir()
    at = Terminal(tmp_path, SPEEDGRID_CALLED_FROM=str(elsewhere))
    at.answers(dialogue.MODEL, f"mine{ENTER}")
    at.answers(dialogue.MODEL, f"{BACKSPACE * 4}{END}")
    _, screen = at.ends()
    assert "whereIam/mineisnotafolderwithacheckpoint(noconfig.json)" in "".join(screen.split())  # of any width


def test_a_terminal_that_cannot_show_questions_is_asked_none(tmp_path):
    status, screen = Terminal(tmp_path, "--shape", "gpt2", TERM="dumb").ends()
    assert status == 0, screen
    assert dialogue.GOAL not in screen
