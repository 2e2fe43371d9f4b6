"""Excerpts of source code, as a task that is scored by bits per byte: what a technique costs where a model writes code. Pure; the standard
library alone."""

from collections.abc import Iterator, Sequence
from itertools import zip_longest

TASK = "stdlib"
LABEL = "Python's standard library"
# Bytes that an excerpt has at least. So short, that a dozen of them are of as many files.
BYTES = 512


def items(documents: Sequence[tuple[str, str]], limit: int) -> list[dict]:
    """At most `limit` items from documents of (name, text): `text`, whole lines of one document.

    First one of each document, then a second one of each, and so on, so that few items are of many documents. The first is from the middle,
    where code is rather than licences, descriptions and imports. The same documents give the same items.
    """
    told = [list(_pieces(text)) for _, text in documents]
    rounds = zip_longest(*(pieces[len(pieces) // 2 :] + pieces[: len(pieces) // 2] for pieces in told))
    return [{"text": piece} for one in rounds for piece in one if piece is not None][:limit]


def _pieces(text: str) -> Iterator[str]:
    """Lines of a text in pieces of at least BYTES; what is left at its end is none."""
    lines: list[str] = []
    size = 0
    for line in text.splitlines(keepends=True):
        lines.append(line)
        size += len(line.encode())
        if size >= BYTES:
            yield "".join(lines).rstrip("\n")
            lines, size = [], 0
