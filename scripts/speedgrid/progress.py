"""What a job tells the person who waits for it.

The shell line of a job sends everything that libraries print to its log, and keeps the terminal open as file descriptor 3
(`3>&2 > {log} 2>&1`). `say` writes to both; a job that is run by hand has no descriptor 3 and just prints.
"""

import contextlib
import fcntl
import os
import time

PERSON = 3


def _is_writable(descriptor: int) -> bool:
    try:
        return fcntl.fcntl(descriptor, fcntl.F_GETFL) & (os.O_WRONLY | os.O_RDWR) != 0
    except OSError:
        return False


# Looked up when the job starts, before anything else can open a file that gets this number.
_HEARD = _is_writable(PERSON)
_TERMINAL = _HEARD and os.isatty(PERSON)


def say(text: str) -> None:
    """Print a line into the job's log, and for the person at the terminal where there is one."""
    print(text, flush=True)
    if _HEARD:
        # On a terminal Snakemake's own progress line stands where the cursor is: take its place, it is drawn again below.
        with contextlib.suppress(OSError):  # whoever waited is gone: what the job has done is kept all the same
            os.write(PERSON, (("\r\x1b[2K" if _TERMINAL else "") + text + "\n").encode())


class Steps:
    """Says how far a loop is: at most every `every` seconds, and never more often than that.

    Speaks between steps, so it never runs inside what is timed.
    """

    def __init__(self, what: str, total: int, every: float = 5.0):
        self.what, self.total, self.every = what, total, every
        self.spoke_at = time.monotonic()

    def done(self, count: int, detail: str = "") -> None:
        now = time.monotonic()
        if now - self.spoke_at >= self.every and count < self.total:
            self.spoke_at = now
            say(f"{self.what}: {count}/{self.total}" + (f", {detail}" if detail else ""))
