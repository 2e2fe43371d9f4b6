"""The command lines that the report tells people to type: those that work where it was made (commands.py)."""

import shlex
from collections.abc import Sequence

from speedgrid import commands

UNKNOWN = "STUDY.yaml"  # in place of a file that is not known


def run(study_file: str, *targets: str, sharpen: bool = False) -> str:
    """The command that runs a study, or makes some of its files; one whose file is not known has a placeholder."""
    return commands.to_run(study_file or UNKNOWN, *targets, sharpen=sharpen)


def advise(results: Sequence[str], gpu: str = "", task: str = "", model: str = "") -> str:
    """The command that advises from the results in these folders, those of this folder's own study where none is named; of one group where
    one is named."""
    named = [word for option, name in (("--gpu", gpu), ("--task", task), ("--model", model)) if name for word in (option, name)]
    return " ".join([commands.program(), shlex.join(["advise", *(["--results", *results] if results else []), *named])])
