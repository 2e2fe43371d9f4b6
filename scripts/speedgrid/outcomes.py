"""Expected failures, as types: what a job may end with besides figures.

An expected failure is a result: the job writes a row with its status and reason and exits 0. Everything else is a bug and fails the job.
"""

import errno
import re
from signal import Signals

# The file system is full, or will not take a file so large: that says nothing of a cell, so it is no outcome of one.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


class Outcome(Exception):
    """Base of the expected failures; the message is the reason, in words."""

    status: str


class ModelError(RuntimeError):
    """A model that cannot be had, so that no cell of it can start; the message is one line that says what to do."""


class OutOfMemory(Outcome):
    status = "oom"


class Unsupported(Outcome):
    status = "unsupported"


class MissingDependency(Outcome):
    status = "missing_dependency"


class Timeout(Outcome):
    status = "timeout"


class Interrupted(BaseException):
    """The job was asked to stop, by the signal of this number. It says nothing of the cell, so it is no outcome of it.

    Not an Exception: no library may take it for an error of its own.
    """

    status = "interrupted"

    def __init__(self, number: int):
        super().__init__(f"stopped by {Signals(number).name}")
        self.number = number


def expected(error: BaseException) -> Outcome | None:
    """The expected failure that `error` stands for, or None where it is a bug.

    Knows the out-of-memory errors of Python, PyTorch and CUDA, and packages that are not installed.
    """
    if isinstance(error, Outcome):
        return error
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return OutOfMemory(_first_line(error) or "the process ran out of memory")
    if isinstance(error, RuntimeError) and re.search(r"out of memory|can't allocate memory|not enough memory", str(error), re.IGNORECASE):
        return OutOfMemory(_first_line(error))
    if isinstance(error, RuntimeError) and re.search("No available kernel|No viable backend", str(error)):
        return Unsupported("the attention kernel that was asked for does not take this model, number format or device")
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("speedgrid"):
        return MissingDependency(f"the Python package {error.name} is not installed in this environment")
    return None


def _first_line(error: BaseException) -> str:
    """The first sentences of an error: how much was asked for and how much was there, without the advice that follows."""
    return ". ".join(str(error).strip().partition("\n")[0].split(". ")[:3]).removesuffix(".")
