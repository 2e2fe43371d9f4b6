"""Write scripts/completion/, the completion of the command line for each shell, from speedgrid/commands.py and the registry; in
`installed` without the commands that work in a clone alone.

.venv-docs/bin/python tools/write_completions.py
"""

import argparse
import functools
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

import shtab
from speedgrid import commands, estimates, known, planning

TARGET = planning.ROOT / "scripts" / "completion"

# What an argument takes, by its name, whatever the command.
FILES = ("study", "a", "b")
FOLDERS = ("results", "out")
# The names of what was measured here, as `advise` takes them: of results/GPU/EXPERIMENT/MODEL/TECHNIQUE/measure.parquet. Other folders
# beside those of devices have no such file. (And no pattern, of which zsh complains where nothing matches.)
MEASURED = {
    name: f"find -H results -mindepth 5 -maxdepth 5 -name measure.parquet 2>/dev/null | cut -d/ -f{place} | sort -u"
    for name, place in (("gpu", 2), ("task", 3), ("model", 4))
}


@functools.cache
def values() -> dict[str, list[str]]:
    """The values that arguments may have, by their names; what is not here is not known."""
    techniques = list(planning.read_yaml("techniques.yaml"))
    return {
        "technique": techniques,
        "techniques": techniques,
        "what": list(commands.KINDS),
        "shape": list(estimates.shapes()),
        # Parts of a GPU's name that a shell takes as one word.
        "gpu": [part for part in known.GPUS if part.isalnum()],
    }


def render(shell: str, is_clone: bool) -> str:
    """The completion script of a shell, for a clone or for where speedgrid is installed."""
    parser = commands.whole(is_clone=is_clone)
    among = next(action for action in parser._actions if isinstance(action, argparse._SubParsersAction)).choices
    for name, command in among.items():
        for action in command._actions:
            if action.dest in FILES or (name, action.dest) == ("new", "model"):
                action.complete = shtab.FILE
            elif action.dest in FOLDERS:
                action.complete = shtab.DIRECTORY
            elif name == "advise" and action.dest in MEASURED:
                action.complete = shtab.cmd(MEASURED[action.dest])
            elif found := values().get(action.dest):
                action.choices = found
        assert command.prog == f"speedgrid {name}"
    return shtab.complete(parser, shell)


if __name__ == "__main__":
    for folder, is_clone in ((TARGET, True), (TARGET / "installed", False)):
        folder.mkdir(exist_ok=True)
        for shell in commands.SHELLS:
            (folder / f"speedgrid.{shell}").write_text(render(shell, is_clone), encoding="utf-8")
