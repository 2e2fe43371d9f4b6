"""What `speedgrid new` asks a person at a terminal for what was not said. A wrong answer is explained and asked again; Enter takes what
stands in brackets. KeyboardInterrupt and EOFError go to the caller.

The loop of question, answer and check is that of rich; the line itself is read by `input`, which has the editing of readline.
"""

import argparse
import contextlib
import glob
import os
from collections.abc import Callable
from pathlib import Path

from speedgrid import commands, drafts, estimates, training_drafts, validation
from speedgrid.drafts import Source
from speedgrid.study import StudyError

# Where the person is, whose relative paths begin there; the launcher has gone to the folder of the studies.
CALLED_FROM = "SPEEDGRID_CALLED_FROM"
WHAT = "Model: a repository of the hub, a folder, a GGUF file, or a shape such as llama-3.2-1b"


def ask(told: argparse.Namespace, find: Callable[[argparse.Namespace], Source]) -> Source:
    """Ask for what the arguments leave out, and find the model; `find` raises StudyError where there is none. Where the arguments name
    such a model, nothing is asked: it is the caller's mistake."""
    _complete_paths()
    source = find(told) if told.model or told.shape else _ask(WHAT, lambda answer: _model(answer, told, find))
    path = Path("studies") / f"{source.name}.yaml"
    if path.exists() and not told.force:
        told.force = _ask(f"{path} is there already; write it anew? yes or no", _is_yes, "no")
        if not told.force:
            raise StudyError(f"{path} stays as it is; --name NAME writes another one")
    if told.goal is None and not training_drafts.is_meant(told.workload, source):
        told.goal = _ask(f"Goal: {', '.join(drafts.GOALS)}", lambda answer: _one_of(answer, drafts.GOALS), drafts.GOALS[0])
    if told.minutes is None:
        told.minutes = _ask("Minutes that it may take, by estimate", _minutes, "no limit")
    return source


def _ask(question: str, understand: Callable[[str], object], default: str | None = None):
    """What an answer means; `understand` raises ValueError with what is wrong with it."""
    from rich.prompt import InvalidResponse, PromptBase
    from rich.text import Text

    class Question(PromptBase):
        response_type = str

        @classmethod
        def get_input(cls, console, prompt, password, stream=None):
            # Said by `input` and not before it, or readline would draw the line over the question.
            return input(prompt.plain)

        def render_default(self, default):
            return Text(f"[{default}]")

        def process_response(self, value: str):
            try:
                return understand(value.strip())
            except (StudyError, argparse.ArgumentTypeError, ValueError) as error:
                raise InvalidResponse(Text(str(error))) from None

    answer = Question(Text(question))(default=... if default is None else default)
    return understand(answer) if isinstance(answer, str) and answer == default else answer


def _model(answer: str, told: argparse.Namespace, find: Callable[[argparse.Namespace], Source]) -> Source:
    if not answer:
        raise ValueError("name a model, or leave with Ctrl-C")
    answer = answer.strip("'\"")
    here = Path(os.environ.get(CALLED_FROM, ".")) / Path(answer).expanduser()
    told.model = told.shape = None
    if here.exists():
        told.model = str(here)
    elif answer in estimates.shapes():
        told.shape = answer
    else:
        told.model = answer
    return find(told)


def _one_of(answer: str, allowed: tuple[str, ...]) -> str:
    found = [one for one in allowed if answer and one.startswith(answer.lower())]
    if len(found) != 1:
        raise ValueError(f"{answer!r} is none of them; {validation.unknown(answer, allowed)}")
    return found[0]


def _is_yes(answer: str) -> bool:
    return _one_of(answer, ("yes", "no")) == "yes"


def _minutes(answer: str) -> float | None:
    return None if answer == "no limit" else commands.positive(answer)


def _complete_paths() -> None:
    """Let arrow keys edit a line and Tab complete paths and names of shapes, where Python has readline."""
    with contextlib.suppress(ImportError):
        import readline

        def complete(text: str, state: int) -> str | None:
            paths = glob.glob(glob.escape(os.path.expanduser(text)) + "*", root_dir=os.environ.get(CALLED_FROM))
            found = [path + "/" * os.path.isdir(os.path.join(os.environ.get(CALLED_FROM, ""), path)) for path in paths]
            found += [name for name in estimates.shapes() if text and name.startswith(text)]
            return sorted(found)[state] if state < len(found) else None

        readline.set_completer(complete)
        readline.set_completer_delims("")
        readline.parse_and_bind("tab: complete")
