"""How far a technique's model is from the unmodified one, by what both expect next. NumPy alone.

Both sides give the likeliest next tokens at each position, because some engines cannot give all. Held against each other are the tokens
that both name, and all others as one. The divergence of such merged distributions is never more than that of the whole ones (T. M. Cover
and J. A. Thomas, "Elements of Information Theory", 2nd ed., 2006, section 2.8, the data processing inequality), and little less where the
named tokens hold nearly all probability.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# How many of the likeliest tokens are kept at a position.
COUNT = 256
# Tokens of a sequence: long enough for what a model makes of its context, short enough for many independent sequences.
SEQUENCE = 128
# Where the likeliest tokens of the unmodified model hold less than this together, most of what differs is among all others, which are one.
LEAST_HELD = 0.5
# A probability left over that is smaller than this is rounding.
ROUNDING = 1e-7
# How many times the divergence by one more rounding of each layer's output is still rounding. Divergence grows with the square of what
# moves the logits. Two computations round independently, each several times in a layer where one more rounding is seen: attention in blocks
# or whole, sums in another order, a softmax or norm kept in 32 bits or not. A factor of 5.5 in what moves them is 30 in divergence.
TIMES = 30
# Mean divergence, in nats, that comes of the logarithms themselves, which are 32-bit numbers.
LEAST = 1e-4


@dataclass(frozen=True)
class Distance:
    """Over the positions of a sequence: divergence in nats, whether the likeliest token is the same, probability of the tokens that were
    told apart by the reference."""

    divergence: list[float]
    agrees: list[bool]
    covered: list[float]


def distance(
    reference: tuple[Sequence[Sequence[int]], Sequence[Sequence[float]]], other: tuple[Sequence[Sequence[int]], Sequence[Sequence[float]]]
) -> Distance:
    """From two engines' Likeliest of the same sequence: the Kullback-Leibler divergence D(reference || other) at each position."""
    rows = [position(*row) for row in zip(*reference, *other, strict=True)]
    divergence, covered = ([row[column] for row in rows] for column in (0, 1))
    return Distance(divergence, [mine[0] == theirs[0] for mine, theirs in zip(reference[0], other[0], strict=True)], covered)


def held(found: Sequence[tuple[Sequence[Sequence[int]], Sequence[Sequence[float]]]]) -> float:
    """The probability that the named tokens hold together, mean over all positions of an engine's Likeliest of several sequences."""
    each = [float(np.exp(logarithms).sum()) for _, rows in found for logarithms in rows]
    return sum(each) / len(each)


def allowed(rounding: float | None) -> float | None:
    """The most mean divergence from the unmodified model, in nats, that rounding explains; `rounding` is its divergence from itself where
    each layer's output is rounded once more. None where that was not measured."""
    return None if rounding is None else TIMES * rounding + LEAST


def mean(distances: Sequence[Distance]) -> float:
    """The mean divergence over all positions of sequences, in nats."""
    found = [one for distance in distances for one in distance.divergence]
    return sum(found) / len(found)


def position(tokens: Sequence[int], logarithms: Sequence[float], others: Sequence[int], their: Sequence[float]) -> tuple[float, float]:
    """The divergence at one position, in nats, and the probability of the tokens that both sides name.

    Raises ValueError where a logarithm is no finite number: there is no distance to such a model.
    """
    if not (np.isfinite(logarithms).all() and np.isfinite(their).all()):
        raise ValueError("the logarithms of probabilities are finite numbers")
    _, mine, theirs = np.intersect1d(tokens, others, assume_unique=True, return_indices=True)
    p, q = np.asarray(logarithms, dtype=float)[mine], np.asarray(their, dtype=float)[theirs]
    covered = float(np.exp(p).sum())
    left, left_theirs = 1 - covered, 1 - float(np.exp(q).sum())
    found = float((np.exp(p) * (p - q)).sum())
    if left > ROUNDING:
        found += left * float(np.log(left / max(left_theirs, ROUNDING)))
    return max(0.0, found), min(1.0, covered)


def sequences(documents: Sequence[Sequence[int]], prefix: int, positions: int, context: int) -> list[tuple[int, list[int]]]:
    """Sequences of tokens cut from documents, in all at most `positions` tokens: (number of the document, tokens), each after `prefix`.

    They are spread over the documents, a sequence of each in turn.
    """
    length = min(SEQUENCE, context)
    pieces = [
        [(number, [prefix, *tokens[start : start + length - 1]]) for start in range(0, len(tokens), length - 1)]
        for number, tokens in enumerate(documents)
    ]
    turns = [document[turn] for turn in range(max(map(len, pieces), default=0)) for document in pieces if turn < len(document)]
    found, left = [], positions
    for number, tokens in turns:
        if left > 1 and len(tokens) > 1:
            found.append((number, tokens[:left]))
            left -= len(tokens[:left])
    return found
