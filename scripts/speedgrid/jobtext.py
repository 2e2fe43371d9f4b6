"""How a job gets its specification: on its command line, or in a file where the text is long.

Linux lets one argument of a program have 128 KiB, and Snakemake gives the whole shell line of a job to bash as one. The name of the file is
a hash of the text, so that a change of the text is a change of the line: Snakemake runs the job again as it does for a short one.
"""

import hashlib
import shlex
from pathlib import Path

from speedgrid import notes, records

# Bytes of a text, quoted for the shell, that the command line takes; the rest of the line is short.
LONGEST = 64 * 1024
MARK = "@"


def handed(text: str) -> str:
    """The argument that stands for a text: the text itself, or `@FILE`, which is written where it is not there."""
    # Quoting makes five characters of one at most.
    if 5 * len(text) <= LONGEST or len(shlex.quote(text).encode()) <= LONGEST:
        return text
    file = notes.JOBS / f"{hashlib.sha256(text.encode()).hexdigest()}.json"
    if not file.is_file():
        with records.replacing(file) as fresh:
            fresh.write_bytes(text.encode())
    return MARK + str(file)


def received(argument: str) -> str:
    """The text that an argument of `handed` stands for. Raises OSError."""
    return Path(argument.removeprefix(MARK)).read_bytes().decode() if argument.startswith(MARK) else argument
