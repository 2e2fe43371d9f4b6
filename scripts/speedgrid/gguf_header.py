"""The head of a GGUF file: what it says of the model, and its tensors. Standard library only, so that planning can read it too.

The format: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md
"""

import struct
from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import BinaryIO

# Number of a type of tensor -> its name, as ggml.h has them.
OLD = ["F32", "F16", "Q4_0", "Q4_1", "Q4_2", "Q4_3", "Q5_0", "Q5_1", "Q8_0", "Q8_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "Q8_K"]
LATER = ["IQ2_XXS", "IQ2_XS", "IQ3_XXS", "IQ1_S", "IQ4_NL", "IQ3_S", "IQ2_S", "IQ4_XS", "I8", "I16", "I32", "I64", "F64", "IQ1_M", "BF16"]
TYPES = dict(enumerate([*OLD, *LATER])) | {34: "TQ1_0", 35: "TQ2_0", 39: "MXFP4"}
# Kind of a value -> how struct reads it.
NUMBERS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}
TEXT, ARRAY = 8, 9
# The most that a head may claim to have: a damaged one is not read for ever.
MOST = 10_000_000


class Damaged(ValueError):
    """A file that is no GGUF file, is cut short, or says what no such file says."""


@dataclass(frozen=True)
class Header:
    """`fields` are the single values of a file by name, and of an array how long it is; `tensors` the count of numbers in each tensor, and
    `types` how many numbers of each type there are."""

    fields: dict[str, object]
    tensors: dict[str, int]
    types: dict[str, int]

    @property
    def parameters(self) -> int:
        return sum(self.tensors.values())


def read(path: Path) -> Header:
    """The head of a GGUF file. Raises Damaged, and OSError."""
    with open(path, "rb") as file:
        return parse(file)


def parse(file: BinaryIO) -> Header:
    """The head that a stream begins with, which is read no further. Raises Damaged, and OSError."""
    if file.read(4) != b"GGUF":
        raise Damaged("it does not begin as a GGUF file")
    version, tensors, fields = _numbers(file, "<I"), _numbers(file, "<Q"), _numbers(file, "<Q")
    if version not in (2, 3) or tensors > MOST or fields > MOST:
        raise Damaged(f"its version, {version}, is not known, or it is damaged")
    found = {_text(file): _value(file, _numbers(file, "<I")) for _ in range(fields)}
    sizes: dict[str, int] = {}
    types: dict[str, int] = {}
    for _ in range(tensors):
        name, dimensions = _text(file), _numbers(file, "<I")
        if dimensions > 8:
            raise Damaged(f"its tensor {name[:60]!r} has {dimensions} dimensions")
        sizes[name] = prod(_numbers(file, "<Q") for _ in range(dimensions))
        number, _ = _numbers(file, "<I"), _numbers(file, "<Q")
        kind = TYPES.get(number, f"type {number}")
        types[kind] = types.get(kind, 0) + sizes[name]
    return Header(found, sizes, types)


def _numbers(file: BinaryIO, form: str):
    size = struct.calcsize(form)
    raw = file.read(size)
    if len(raw) != size:
        raise Damaged("it is cut short")
    return struct.unpack(form, raw)[0]


def _text(file: BinaryIO) -> str:
    length = _numbers(file, "<Q")
    if length > MOST:
        raise Damaged(f"it has a text of {length:,} bytes")
    raw = file.read(length)
    if len(raw) != length:
        raise Damaged("it is cut short")
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        raise Damaged("it has a text that is not UTF-8") from None


def _value(file: BinaryIO, kind: int) -> object:
    if kind in NUMBERS:
        return _numbers(file, NUMBERS[kind])
    if kind == TEXT:
        return _text(file)
    if kind != ARRAY:
        raise Damaged(f"it has a value of the unknown kind {kind}")
    inner, count = _numbers(file, "<I"), _numbers(file, "<Q")
    if count > MOST or inner == ARRAY:
        raise Damaged(f"it has a list of {count:,} values, or of lists")
    if inner in NUMBERS:
        size = struct.calcsize(NUMBERS[inner]) * count
        if len(file.read(size)) != size:
            raise Damaged("it is cut short")
    else:
        for _ in range(count):
            _value(file, inner)
    return count
