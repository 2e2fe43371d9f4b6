"""llama.cpp as its environment has it: the library through its C API, as llama-cpp-python binds it, its log, and what lies in GGUF files.

The engine and the transform that makes GGUF files share it.
"""

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from speedgrid.engines import quantized
from speedgrid.outcomes import SAYS_NO, Fault, MissingDependency, OutOfMemory, Unsupported

WEIGHTS = "model.gguf"
# What a build of llama.cpp says that it uses, by the names of this_machine.INSTRUCTION_SETS.
INSTRUCTION_SETS = {
    "AVX2": "AVX2",
    "AVX512": "AVX-512",
    "AVX512_VNNI": "AVX-512 VNNI",
    "AVX512_BF16": "AVX-512 BF16",
    "AMX_INT8": "AMX INT8",
}
# Levels of llama.cpp's log, as ggml.h has them; the last goes on with the line before.
LOG_DEBUG, LOG_ERROR, LOG_CONTINUED = 1, 4, 5
# What llama.cpp says of a model or type that it does not take, beside the words of all libraries.
REFUSES = re.compile(
    r"unknown pre-tokenizer|has wrong shape|importance matrix|requantizing from|cannot be used as|key not found in model"
    r"|wrong number of tensors"
)
# The name of a table of positions in a GGUF file.
POSITIONS = "position_embd.weight"
# How the name of the first file of a model in several ends.
FIRST_PART = r"-0*1-of-\d+$"
# The types of GGUF that are no quantization.
WHOLE_TYPES = ("F64", "F32", "F16", "BF16")


class Batch:
    """Tokens that llama.cpp takes at once, in memory of llama.cpp's own.

    `outputs` are the rows that give logits, each with its sequence.
    """

    def __init__(self, lib, capacity: int):
        self.lib, self.native = lib, lib.llama_batch_init(capacity, 0, 1)

    @classmethod
    def of(cls, lib, rows: Sequence[tuple[int, int, int, bool]]) -> "Batch":
        """A batch that holds `rows`."""
        batch = cls(lib, len(rows))
        batch.put(rows)
        return batch

    def put(self, rows: Sequence[tuple[int, int, int, bool]]) -> None:
        """Let the batch hold `rows` of (token, position, sequence, whether to give logits)."""
        native = self.native
        native.n_tokens = len(rows)
        for row, (token, position, sequence, output) in enumerate(rows):
            native.token[row] = token
            native.pos[row] = position
            native.n_seq_id[row] = 1
            native.seq_id[row][0] = sequence
            native.logits[row] = output
        self.outputs = [(row, sequence) for row, (_, _, sequence, output) in enumerate(rows) if output]

    def free(self) -> None:
        self.lib.llama_batch_free(self.native)


class Log:
    """What llama.cpp says, kept in `text` and passed on to standard error; made once for a process, it stays until the next is made."""

    kept = None

    def __init__(self, lib):
        self.text, self.errors = "", ""
        self.is_error = False
        self.callback = lib.llama_log_callback(self._take)
        lib.llama_log_set(self.callback, None)
        # llama.cpp calls it as long as the process lives.
        Log.kept = self

    def forget(self) -> None:
        self.text = self.errors = ""

    def failure(self, what: str) -> Exception:
        """What the log speaks of: `what`, and the first error as the reason. It is an expected failure where memory ran out, or where
        llama.cpp says that it does not do this; else a bug, or a damaged file."""
        reason = first_error(self.errors)
        memory = re.search(r"failed to allocate|unable to allocate|out of memory|cudaMalloc failed|bad_alloc", self.text)
        kind = OutOfMemory if memory else Unsupported if SAYS_NO.search(reason) or REFUSES.search(reason) else Fault
        return kind(f"{what}: {reason or 'it gives no reason'}")

    def _take(self, level: int, text: bytes, _) -> None:
        if level == LOG_DEBUG:
            return
        said = text.decode(errors="replace")
        self.is_error = level == LOG_ERROR or (level == LOG_CONTINUED and self.is_error)
        self.text += said
        if self.is_error:
            self.errors += said
        sys.stderr.write(said)


def positions_in_file(path: Path, unread: int) -> int | None:
    """The rows of a GGUF file's table of positions; None where it has none, as a model with ALiBi or with states, and `unread` where the
    file cannot be looked into."""
    tensors = tensors_of_file(path)
    if tensors is None:
        return unread
    # The first number of a shape is the length of a row.
    return next((int(tensor.shape[1]) for tensor in tensors if tensor.name == POSITIONS), None)


def tensors_of_file(path: Path) -> list | None:
    """What a GGUF file tells of its tensors, with its other parts where it is the first of several, by the package gguf that lies beside
    llama.cpp's converter; None without it."""
    folder = str(share() / "gguf-py")
    if folder not in sys.path:
        sys.path.append(folder)
    try:
        from gguf import GGUFReader
    except ImportError:
        return None
    parts = path.parent.glob("*.gguf") if re.search(FIRST_PART, path.stem) else [path]
    return [tensor for part in sorted(parts) for tensor in GGUFReader(part).tensors]


def share_of_file(path: Path) -> quantized.Share | None:
    """How much of the weights in a GGUF file is quantized; None where that cannot be read.

    Embedding and last layer are no weights of the layers; the norms of a layer, vectors, are none that a type takes.
    """
    found = tensors_of_file(path)
    if found is None:
        return None
    tensors = [(tensor.name, int(tensor.n_elements), tensor.tensor_type.name, len(tensor.shape)) for tensor in found]
    layers = [(name, count, kind not in WHOLE_TYPES) for name, count, kind, rank in tensors if name.startswith("blk.") and rank > 1]
    return quantized.share(layers, sum(count for _, count, _, _ in tensors))


def share() -> Path:
    """Where envs/llamacpp.post-deploy.sh leaves llama.cpp's converter."""
    return Path(sys.prefix) / "share" / "llama.cpp"


def bindings():
    """The package llama_cpp. Raises MissingDependency where llama.cpp could not be built, with the reason that the build left, and where
    its library cannot be loaded, such as a build for GPUs on a machine without a driver."""
    missing = share() / "missing.txt"
    if missing.is_file():
        raise MissingDependency(f"{missing.read_text().strip()}; put it right, delete the environment {sys.prefix} and run again")
    try:
        import llama_cpp
    except (RuntimeError, FileNotFoundError) as error:
        raise MissingDependency(f"llama.cpp in this environment cannot be loaded: {error}") from error
    return llama_cpp


def built_for(build: Mapping[str, Sequence[str]]) -> set[str]:
    """The instruction sets that a build uses, by the names of this_machine.INSTRUCTION_SETS."""
    return {label for flag, label in INSTRUCTION_SETS.items() if flag in build.get("CPU", ())}


def check_processor(build: Mapping[str, Sequence[str]], has: Sequence[str]) -> None:
    """Raise MissingDependency where the build uses instructions that this processor lacks, which would end the process."""
    if lacking := sorted(built_for(build) - set(has)):
        raise MissingDependency(
            f"llama.cpp in this environment was built on another machine, for a processor with {', '.join(lacking)}; this one lacks it;"
            f" delete the environment {sys.prefix} and run again here"
        )


def weights(folder: Path) -> Path:
    """The GGUF file of a checkpoint; of a model in several, the first, which knows the others."""
    found = sorted(folder.glob("*.gguf"))
    first = [path for path in found if re.search(FIRST_PART, path.stem)]
    if not found:
        raise Unsupported("the checkpoint has no GGUF file, the only format that llama.cpp loads")
    if len(found) > 1 and len(first) != 1:
        raise Unsupported(
            f"the checkpoint has {len(found)} GGUF files, which are not the parts of one model: {found[0].name}, {found[1].name}"
        )
    return (first or found)[0]


def system_info(text: str) -> dict[str, list[str]]:
    """`llama_print_system_info` by backend: what the build has, such as `AVX512`, or `ARCHS=900` where it is not a matter of yes or no."""
    found: dict[str, list[str]] = {}
    backend = ""
    for part in text.split("|"):
        name, _, value = (piece.strip() for piece in part.rpartition("="))
        if " : " in name:
            backend, _, name = name.partition(" : ")
        if name and value != "0":
            found.setdefault(backend, []).append(name if value == "1" else f"{name}={value}")
    return found


def first_error(log: str) -> str:
    """The first line in words of an error log, without the name of the C++ function that wrote it."""
    line = next((line.strip() for line in log.splitlines() if re.search(r"\w", line)), "")
    return re.sub(r"^\w+: (error loading model: )?", "", line)
