"""Write scripts/completion/, the completion of the command line for each shell, from speedgrid/commands.py and the registry.

.venv-docs/bin/python tools/write_completions.py
"""

import argparse
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import shtab
from speedgrid import commands, planning

TARGET = planning.ROOT / "scripts" / "completion"


def render(shell: str) -> str:
    """The completion script of a shell."""
    parser = commands.whole()
    among = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction)).choices
    for name, command in among.items():
        for action in command._actions:
            if action.dest in ("study", "a", "b"):
                action.complete = shtab.FILE
            elif action.dest == "technique":
                action.choices = list(planning.read_yaml("techniques.yaml"))
            elif action.dest == "what":
                action.choices = list(commands.KINDS)
        assert command.prog == f"speedgrid {name}"
    return shtab.complete(parser, shell)


if __name__ == "__main__":
    TARGET.mkdir(exist_ok=True)
    for shell in commands.SHELLS:
        (TARGET / f"speedgrid.{shell}").write_text(render(shell), encoding="utf-8")
