"""Where texts and data lie that a specification names by their content: a place makes no part of a result, so that a text which was moved,
or came with another clone or wheel, runs nothing again. Planning says the places in an environment variable."""

import json
import os
from collections.abc import Mapping
from pathlib import Path

VARIABLE = "SPEEDGRID_PLACES"


def key(name: str, content: str) -> str:
    """What stands for a file or folder in the variable: its own name, which results say, and the hash of its content."""
    return f"{content}/{name}"


def variables(places: Mapping[str, str]) -> dict[str, str]:
    """The variable, for the paths of a plan by their keys; those in the working folder are relative to it."""
    return {VARIABLE: json.dumps(places)}


def of(name: str, content: str) -> Path:
    """Where a file or folder is; a job that is started by hand, without the variable, may be told a path in place of the name."""
    return Path(json.loads(os.environ.get(VARIABLE) or "{}").get(key(name, content), name)).expanduser()
