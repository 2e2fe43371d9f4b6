"""What a job may end with besides figures, as types: each is a row of the job's result file, with its status and reason.

An expected failure is a result like any other. `Failed` is not: it is a bug, or something unknown; the run exits with 1, and the next run
does the job again. What is wrong with the machine (a full disk, a GPU that is gone) says nothing of a cell, and is no row.
"""

import errno
import re
import textwrap
from collections.abc import Iterator
from signal import Signals

from speedgrid.schema import FAILED

# The file system is full, or will not take a file so large: that says nothing of a cell, so it is no outcome of one.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


# Packages that say of themselves what they cannot do: their words are the reason. Whatever else comes out of them is a bug.
LIBRARIES = (
    *("transformers", "tokenizers", "accelerate", "peft", "optimum", "huggingface_hub", "safetensors", "lm_eval", "datasets"),
    *("bitsandbytes", "gptqmodel", "auto_gptq", "torchao", "llama_cpp", "gguf", "onnxruntime", "vllm", "flash_attn", "kernels", "fla"),
)
SAYS_NO = re.compile(
    r"(does|do|is|are|was|has)(n't| not)( yet)? (currently )?(support|implement|recogni[sz]e|compatible|available for)"
    r"|not (yet |currently )?(supported|implemented)|unsupported|only (supports?|supported|works|possible|available|be called on)"
    r"|no support for|unrecogni[sz]ed (configuration|model)|no (available|suitable|viable) (kernel|backend)"
    r"|unknown (model architecture|quantization type)",
    re.IGNORECASE,
)
SAYS_MISSING = re.compile(
    r"(pip|conda) install|not (found|installed) in your environment|(is|are) required to|(is|are|seems? to be) not installed"
    r"|requires .{1,80} to be installed",
    re.IGNORECASE,
)
# What PyTorch says of a product of two number formats.
MIXED_FORMATS = re.compile(r"expected scalar type \w+ but found|(to|must) have the same dtype")
REASON_CHARACTERS = 300


class Outcome(Exception):
    """Base of what a job may end with besides figures; the message is the reason, in words."""

    status: str


class ModelError(RuntimeError):
    """A model that cannot be had, so that no cell of it can start; the message is one line that says what to do. Its cells are `failed`."""


class Fault(RuntimeError):
    """An error inside of a program or library that has its own processes or no Python to raise it in: a bug like any other. The message is
    the reason, with the name of what failed."""


class OutOfMemory(Outcome):
    status = "oom"


class Unsupported(Outcome):
    status = "unsupported"


class MissingDependency(Outcome):
    status = "missing_dependency"


class Timeout(Outcome):
    status = "timeout"


class WrongResult(Outcome):
    """A technique that keeps the model's arithmetic computes something else: its figures are those of another model."""

    status = "wrong_result"


class Failed(Outcome):
    """A bug, of ours or of a library, or something unknown. The next run does the job again."""

    status = FAILED


class NotFinite(Outcome):
    """What a model computes is no finite number: no figure of any kind may come of it."""

    status = "not_finite"


class Interrupted(BaseException):
    """The job was asked to stop, by the signal of this number. It says nothing of the cell, so it is no outcome of it.

    Not an Exception: no library may take it for an error of its own.
    """

    status = "interrupted"

    def __init__(self, number: int):
        super().__init__(f"stopped by {Signals(number).name}")
        self.number = number


def expected(error: BaseException, model: str = "NAME") -> Outcome | None:
    """The expected failure that `error` stands for, or None where it is a bug; `model` is the model's name in the study.

    Knows the out-of-memory errors of Python, PyTorch and CUDA, packages that are not installed, and what LIBRARIES say of themselves.
    """
    if isinstance(error, Outcome):
        return error
    for one in (error, *causes(error)):
        # A library may put an error of its own in the place of this one.
        if isinstance(one, MemoryError) or type(one).__name__ == "OutOfMemoryError":
            return OutOfMemory(_first_sentences(one) or "the process ran out of memory")
        if isinstance(one, RuntimeError) and re.search(r"out of memory|can't allocate memory|not enough memory", str(one), re.IGNORECASE):
            return OutOfMemory(_first_sentences(one))
    if isinstance(error, RuntimeError) and "probability tensor contains either" in str(error):
        # What PyTorch says when it is to draw a token.
        return NotFinite("the probabilities from which a token was to be drawn are no finite numbers")
    if isinstance(error, RuntimeError) and re.search("No available kernel|No viable backend", str(error)):
        return Unsupported("the attention kernel that was asked for does not take this model, number format or device")
    if isinstance(error, ModuleNotFoundError) and error.name and not error.name.startswith("speedgrid"):
        return MissingDependency(f"the Python package {error.name} is not installed in this environment")
    return _said_by_a_library(error, model)


def _said_by_a_library(error: BaseException, model: str) -> Outcome | None:
    """What a library says that it cannot do, in its words."""
    if not isinstance(error, ValueError | NotImplementedError | ImportError | RuntimeError | AssertionError):
        return None
    library = next((name for name in _called(error) if name in LIBRARIES), None)
    if isinstance(error, NotImplementedError) and library is None and str(error) and "torch" in _called(error):
        library = "torch"
    if library is None:
        return None
    said = in_one_line(error)
    if "trust_remote_code" in said:
        key = f"models.{model}.trust_remote_code"
        return Unsupported(f"the model comes with code of its own, which runs only where the study says `{key}: true`")
    if SAYS_MISSING.search(said):
        return MissingDependency(_sentence(said, SAYS_MISSING))
    if isinstance(error, NotImplementedError) and said:
        return Unsupported(f"{library}: {textwrap.shorten(said, REASON_CHARACTERS, placeholder=' ...')}")
    if MIXED_FORMATS.search(said):
        # Some families compute a part in a format of their own, and hold the result against weights in another.
        said = textwrap.shorten(said, REASON_CHARACTERS, placeholder=" ...")
        return Unsupported(f"{library} does not compute this model in the number format that was asked for: {said}")
    return Unsupported(f"{library}: {_sentence(said, SAYS_NO)}") if SAYS_NO.search(said) else None


def _called(error: BaseException) -> list[str]:
    """The packages whose code was running when the error was raised, below the last of ours: the one that we called first."""
    names: list[str] = []
    for name in _packages(error):
        names = [] if name == "speedgrid" else [*names, name]
    return names


def _packages(error: BaseException) -> Iterator[str]:
    traceback = error.__traceback__
    while traceback:
        yield str(traceback.tb_frame.f_globals.get("__name__", "")).partition(".")[0]
        traceback = traceback.tb_next


def causes(error: BaseException, handled: bool = False) -> Iterator[BaseException]:
    """The errors that this one was raised from, the last before it first; with `handled`, where it names none, also those during whose
    handling it was raised."""
    seen = {id(error)}
    while (cause := error.__cause__ or (error.__context__ if handled else None)) is not None and id(cause) not in seen:
        seen.add(id(cause))
        yield cause
        error = cause


def shown(text: str) -> str:
    """A text for people, without the user and password of addresses in it, and without their queries, which may be signed."""
    return re.sub(r"(://[^\s?\"'<>]+)\?[^\s\"'<>)]+", r"\1?...", re.sub(r"://[^/\s]*@", "://", text))


def in_one_line(error: BaseException) -> str:
    """An error's message without line breaks; empty where it has none."""
    return " ".join(str(error).split())


def first_line(error: BaseException) -> str:
    """The first line of an error's message; empty where it has none."""
    return str(error).strip().partition("\n")[0]


def _sentence(said: str, pattern: re.Pattern) -> str:
    """The first sentence of a message that the pattern is found in; the advice around it is for those who call the library."""
    sentences = re.split(r"(?<=[.!?]) (?=[A-Z`])", said)
    found = next((sentence for sentence in sentences if pattern.search(sentence)), said)
    return textwrap.shorten(found, REASON_CHARACTERS, placeholder=" ...").removesuffix(".")


def _first_sentences(error: BaseException) -> str:
    """The first sentences of an error: how much was asked for and how much was there, without the advice that follows."""
    return ". ".join(first_line(error).split(". ")[:3]).removesuffix(".")
