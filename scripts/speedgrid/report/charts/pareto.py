"""Which techniques nothing beats in speed, quality and memory at once. Pure."""

import math
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass

import pandas as pd

from speedgrid.known import CUDA_CONTEXT_WITHIN
from speedgrid.report import units
from speedgrid.report.advice import closeness
from speedgrid.report.charts.memory import SOURCED, comparable
from speedgrid.report.tables import each

CLOSENESS = ("standing", "verdict", "same_as", "open_against")  # what advice.closeness takes beside
COLUMNS = ("technique", "status", "is_baseline", "rate", "rate_low", "rate_high", "bits_per_byte", "quality_verdict", *SOURCED, *CLOSENESS)
SAME_MEMORY = 1.02  # peaks within about 2 % are no reason to take the one or the other


@dataclass(frozen=True)
class Standing:
    """What counts of a technique: its speed with its interval (more is better), bits per byte and memory (less is better). Figures that do
    not differ measurably are the same number, so that a difference is one. `source` says what the memory, in bytes, was read from; `same`
    and `open` are names of those whose speed is the same, or may be, by the verdicts of the summary."""

    name: Hashable
    speed: float
    slowest: float
    fastest: float
    quality: float
    memory: float | None = None
    source: str = ""
    same: tuple[Hashable, ...] = ()
    open: tuple[Hashable, ...] = ()


def standings(rows: pd.DataFrame) -> list[Standing]:
    """Of the cells of a group that count: engaged, with a speed and a quality."""
    there = rows[list(COLUMNS)].assign(memory=comparable(rows))
    there = there[(there.status == "ok") & there.rate.notna() & there.bits_per_byte.notna()]
    baseline = there[there.is_baseline]
    close = closeness(there.to_dict("records"))
    unmodified = None if baseline.empty else float(baseline.bits_per_byte.iloc[0])
    return [
        Standing(
            row.technique,
            float(row.rate),
            float(row.rate if units.is_missing(row.rate_low) else row.rate_low),
            float(row.rate if units.is_missing(row.rate_high) else row.rate_high),
            float(row.bits_per_byte) if unmodified is None or row.quality_verdict != "no measurable loss" else unmodified,
            None if units.is_missing(row.memory) else _coarse(float(row.memory)),
            row.memory_source or "",
            *close[row.technique][:2],
        )
        for row in each(there)
    ]


def beaten(standings: Sequence[Standing]) -> Mapping[Hashable, Hashable]:
    """The names of those that another one beats, each with the fastest of those that do.

    One beats another that is at least as good in every figure and better in one; in speed only where their intervals lie apart and no
    verdict says otherwise. Where the verdict between two speeds is open, neither beats the other: the slower one may be faster. Memory from
    different sources is the same where it differs by no more than what is taken for CUDA may be wrong by, and who cannot be compared is not
    beaten. In a ring all would be as fast, and each would take less memory than the next: there is none, so that some are never beaten.
    """
    first = sorted(standings, key=lambda one: -one.speed)
    winners = {other.name: next((one.name for one in first if _beats(one, other)), None) for other in standings}
    return {name: winner for name, winner in winners.items() if winner is not None}


def front(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Of (speed, bits per byte), those that no other is at least as good as in both, the slowest first."""
    found, best = [], math.inf
    for speed, quality in sorted(set(points), key=lambda point: (-point[0], point[1])):
        if quality < best:
            found.append((speed, quality))
            best = quality
    return found[::-1]


def _beats(one: Standing, other: Standing) -> bool:
    if (one.memory is None) != (other.memory is None):
        return False
    less = (other.memory or 0.0) - (one.memory or 0.0)
    if one.source != other.source and abs(less) <= CUDA_CONTEXT_WITHIN:
        less = 0.0
    if one.speed < other.speed or one.quality > other.quality or less < 0 or other.name in one.open:
        return False
    return (one.slowest > other.fastest and other.name not in one.same) or one.quality < other.quality or less > 0


def _coarse(memory: float) -> float:
    """Bytes of the step of SAME_MEMORY that they lie in."""
    return SAME_MEMORY ** math.floor(math.log(memory) / math.log(SAME_MEMORY)) if memory > 0 else 0.0
