"""Errors of other programs: which are refusals in words, and which are bugs, told from the tracebacks that they print.

A refusal is a statement of the program's own that raises an error with a sentence: `raise ValueError("Head size 80 is not supported")`.
What Python, PyTorch or CUDA raise inside of it (a key that is not there, an illegal memory access) is a bug, of the program or of ours.
"""

import re
import traceback
from dataclasses import dataclass

from speedgrid.outcomes import LIBRARIES, SAYS_MISSING, SAYS_NO, Fault, MissingDependency, Outcome, OutOfMemory, Unsupported

HEADER = "Traceback (most recent call last):\n"
FRAME = re.compile(r'\s*File "([^"]+)", line \d+')
# The package that a file belongs to; llama.cpp's converter lies in `share`.
PACKAGE = re.compile(r"/(?:site-packages|dist-packages|share)/([\w.]+?)(?:\.py)?(?:/|$)")
PROGRAMS = (*LIBRARIES, "llama.cpp")
MEMORY = re.compile(
    r"out of memory|OutOfMemory|MemoryError|not enough memory|can't allocate memory|bad_alloc"
    r"|No available memory|Free memory on device|Available memory on node|larger than the available KV cache memory",
    re.IGNORECASE,
)
# Of a device or driver that the program was not built for; all else that CUDA says of errors is a bug.
NOT_BUILT_FOR = re.compile(r"no kernel image is available|PTX was compiled with an unsupported toolchain", re.IGNORECASE)
# What kernels say of shapes that they do not take.
NOT_OF_THIS_SHAPE = re.compile(r"(divisible by|(a )?multiple of|aligned with) ", re.IGNORECASE)
NO_COMPILER = re.compile(r"Failed to find C compiler|No working C\+\+ compiler|InvalidCxxCompiler")
# pydantic tells what a check of settings has raised on a line of its own: `  Value error, ... [type=value_error, ...`.
OF_A_CHECK = re.compile(r"^\s*(?:Value error|Assertion failed), (.+?)(?: \[type=.*)?$", re.MULTILINE)
# Kinds that are a refusal where the program raises them itself, and those that are one only where their words say no.
REFUSALS = ("ValueError", "NotImplementedError", "ValidationError", "VLLMValidationError")
BY_WORDS = ("RuntimeError", "AssertionError", "TypeError", "NotImplementedError", "ImportError", "Exception", *REFUSALS)
# Kinds that a sentence needs no name of before it.
UNNAMED = ("RuntimeError", "Exception", *REFUSALS)
MOST_CHARACTERS = 300


@dataclass(frozen=True)
class Raised:
    """An error: its `kind` without its module, what it says, the line of code that raised it, and the file of that line; each empty where
    it is not known."""

    kind: str
    text: str = ""
    code: str = ""
    file: str = ""

    @classmethod
    def of(cls, error: BaseException) -> "Raised":
        """An error of this process."""
        frames = traceback.extract_tb(error.__traceback__)
        code, file = (frames[-1].line or "", frames[-1].filename) if frames else ("", "")
        return cls(type(error).__name__, str(error), code, file)

    @classmethod
    def last(cls, log: str) -> "Raised | None":
        """The error of the last traceback in a log; of errors within errors the outer one. None where the log has no traceback."""
        _, found, trace = log.rpartition(HEADER)
        lines = trace.splitlines() if found else []
        at = next((number for number, line in enumerate(lines) if line and not line[0].isspace()), None)
        if at is None:
            return None
        frames = [(number, frame[1]) for number, line in enumerate(lines[:at]) if (frame := FRAME.match(line))]
        number, file = frames[-1] if frames else (at, "")
        code = lines[number + 1].strip() if number + 1 < at else ""
        name, _, text = "\n".join(lines[at:]).partition(": ")
        if "\n" in name:
            # It has no words, and what follows is the log going on.
            name, text = lines[at].strip(), ""
        return cls(name.strip().rpartition(".")[2], text, code, file)

    def outcome(self, program: str, doing: str) -> Outcome | Fault:
        """What it means for a cell: an expected failure where the program says so, else a bug; `program` was to do what `doing` says."""
        short = self.short
        if MEMORY.search(f"{self.kind}: {self.text}"):
            return OutOfMemory(f"{program}: {short or self.kind}")
        if self._is_missing():
            return MissingDependency(f"{program}: {short}")
        if self._is_refusal():
            return Unsupported(f"{program} cannot {doing}: {short if self.kind in UNNAMED else f'{self.kind}: {short}'}")
        bare = self.kind in ("RuntimeError", "Exception") and short
        return Fault(f"{program} cannot {doing}: {short if bare else f'{self.kind}: {short or self.code}'.removesuffix(': ')}")

    @property
    def short(self) -> str:
        """The first two sentences of what it says, in one line that can be read; of pydantic's list of problems the first."""
        text = self.text.strip().partition("\n")[0]
        if self.kind == "ValidationError":
            found = OF_A_CHECK.search(self.text)
            text = found[1] if found else " ".join(line.strip() for line in self.text.splitlines()[:3])
        line = ". ".join(text.split(". ")[:2]).removesuffix(".")
        return line if len(line) <= MOST_CHARACTERS else line[: MOST_CHARACTERS - 1] + "…"

    @property
    def _is_raised_by_a_program(self) -> bool:
        """Whether the line of code is a statement of one of PROGRAMS that raises an error."""
        package = PACKAGE.search(self.file)
        return package is not None and package[1] in PROGRAMS and self.code.startswith(("raise ", "assert "))

    def _is_missing(self) -> bool:
        if NO_COMPILER.search(f"{self.kind}: {self.text}"):
            return True
        if self.kind == "ModuleNotFoundError":
            # A part of the program itself that is not there is no package to install.
            lacking = re.search(r"No module named '([^'.]+)", self.text)
            return not lacking or lacking[1] not in ("speedgrid", "vllm")
        return self.kind == "ImportError" and bool(SAYS_MISSING.search(self.short))

    def _is_refusal(self) -> bool:
        said = self.short
        if not said or "CUDA error" in said or self.kind == "AcceleratorError":
            return bool(NOT_BUILT_FOR.search(said))
        if self.kind == "ValidationError":
            return bool(OF_A_CHECK.search(self.text))
        if self.kind == "OutOfResources":
            # Triton, of a kernel that takes more shared memory than the device has.
            return True
        if self.kind in REFUSALS and self._is_raised_by_a_program:
            return True
        return self.kind in BY_WORDS and bool(SAYS_NO.search(said) or NOT_OF_THIS_SHAPE.search(said))
