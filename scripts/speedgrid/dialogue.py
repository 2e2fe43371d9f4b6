"""What `speedgrid new` asks a person at a terminal for what was not said. A wrong answer is explained and asked again.
KeyboardInterrupt and EOFError go to the caller.
"""

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from speedgrid import commands, drafts, estimates, inputs, training_drafts
from speedgrid.drafts import Source
from speedgrid.study import StudyError

# Where the person is, whose relative paths begin there; the launcher has gone to the folder of the studies.
CALLED_FROM = "SPEEDGRID_CALLED_FROM"
MODEL = "Model (name on the hub, folder, GGUF file, or a shape such as gpt2):"
GOAL, MINUTES = "Goal:", "Minutes that it may take, by estimate (nothing: no limit):"


def is_possible() -> bool:
    """Whether there is a person at a terminal that can show questions."""
    return sys.stdin.isatty() and sys.stdout.isatty() and os.environ.get("TERM") != "dumb"


def ask(arguments: argparse.Namespace, find: Callable[[argparse.Namespace], Source]) -> Source:
    """Ask for what the arguments leave out, and find the model; `find` raises StudyError where there is none. Where the arguments name
    such a model, nothing is asked: it is the caller's mistake."""
    import questionary

    source = (
        find(arguments)
        if arguments.model or arguments.shape
        else _understood(MODEL, lambda answer: find(_named(arguments, answer)), completer=_names())
    )
    path = Path("studies") / f"{source.name}.yaml"
    if path.exists() and not arguments.force:
        arguments.force = questionary.confirm(f"{path} is there already; write it anew?", default=False).unsafe_ask()
        if not arguments.force:
            raise StudyError(f"{path} stays as it is; --name NAME writes another one")
    if arguments.goal is None and not training_drafts.is_meant(arguments.workload, source):
        choices = [questionary.Choice(f"{name}: {what}", name) for name, what in drafts.GOALS.items()]
        arguments.goal = questionary.select(GOAL, choices).unsafe_ask()
    if arguments.minutes is None:
        arguments.minutes = _understood(MINUTES, lambda answer: commands.positive(answer) if answer else None)
    return source


def _understood(question: str, understand: Callable[[str], Any], **more: Any) -> Any:
    """What an answer means; one that is wrong stands there again to be corrected. It is understood after the question and not within it, so
    that Ctrl-C ends a wait for the hub, too."""
    import questionary

    answer = ""
    while True:
        answer = questionary.text(question, answer, complete_while_typing=False, **more).unsafe_ask().strip()
        try:
            return understand(answer)
        except (StudyError, argparse.ArgumentTypeError) as error:
            print(f"  {error}")


def _named(arguments: argparse.Namespace, answer: str) -> argparse.Namespace:
    """The arguments with the model that an answer names."""
    answer = answer.strip("'\"")
    if not answer:
        raise StudyError("name a model, or leave with Ctrl-C")
    path = inputs.place(answer, [_here()], "model")
    arguments.shape = answer if answer in estimates.shapes() and not path.exists() else None
    arguments.model = None if arguments.shape else str(path) if path.exists() else answer
    return arguments


def _here() -> Path:
    return Path(os.environ.get(CALLED_FROM, "."))


def _names() -> Any:
    """What Tab completes: paths, and names of shapes."""
    from prompt_toolkit.completion import PathCompleter, WordCompleter, merge_completers

    return merge_completers([PathCompleter(expanduser=True, get_paths=lambda: [str(_here())]), WordCompleter(list(estimates.shapes()))])
