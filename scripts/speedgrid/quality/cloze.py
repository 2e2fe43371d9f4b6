"""A task in HellaSwag's format from any text: which of four continuations is the real one? Pure; the standard library alone."""

import random
from collections.abc import Sequence

CHOICES = 4
# Characters of the context and of a continuation. Long continuations drown what the context tells in what each is like by itself.
CONTEXT, ENDING = 200, 32
# Continuations that share so many first characters with the real one are no choice.
APART = 6
# Fixed, and no study's own: every study that asks about the same text asks the same.
SEED = 20240331


def items(documents: Sequence[tuple[str, str]], limit: int) -> list[dict]:
    """At most `limit` items from documents of (name, text): `ctx`, four `endings`, and `label`, the number of the real one.

    A text is cut into pieces, a context and the characters that follow it, in the middle of a line and never at a space. The wrong endings
    are those of other pieces, and all are equally long, so that length gives nothing away. The same documents give the same items.
    """
    pieces = [piece for _, text in documents for piece in _pieces(text)]
    draw = random.Random(SEED)
    draw.shuffle(pieces)
    found = []
    for context, ending in pieces:
        wrong = _others(ending, pieces, draw)
        if len(wrong) < CHOICES - 1:
            continue
        label = draw.randrange(CHOICES)
        found.append({"ctx": context, "endings": [*wrong[:label], ending, *wrong[label:]], "label": label})
        if len(found) == limit:
            break
    return found


def _pieces(text: str) -> list[tuple[str, str]]:
    """The contexts of a text, each with what follows it, one after another."""
    pieces, at = [], CONTEXT
    while at + ENDING <= len(text):
        if text[at - 1].isspace() or text[at].isspace():
            at += 1
            continue
        pieces.append((text[at - CONTEXT : at], text[at : at + ENDING]))
        at += CONTEXT + ENDING
    return pieces


def _others(ending: str, pieces: Sequence[tuple[str, str]], draw: random.Random) -> list[str]:
    """Endings of other pieces that begin differently, as many as an item needs, or fewer where there are no more."""
    found = {ending[:APART]: ending}
    for _, other in draw.sample(pieces, min(len(pieces), 10 * CHOICES)):
        found.setdefault(other[:APART], other)
        if len(found) == CHOICES:
            break
    return list(found.values())[1:]
