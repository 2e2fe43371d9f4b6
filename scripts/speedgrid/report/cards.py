"""What fits on which card, from what was held on the one that was measured on. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from speedgrid.known import usable
from speedgrid.report import advice, units
from speedgrid.report.language import tr
from speedgrid.report.tables import Group, held
from speedgrid.schema import MEASURED, group_of

# Sizes that cards are sold with, in GB.
SOLD = (4, 6, 8, 12, 16, 24, 32, 40, 48, 80, 96, 141)
FITS, TIGHT, NOT = "fits", "tight", "too large"


@dataclass(frozen=True)
class Need:
    """What a technique took, in bytes: the least that a card must have (held at most, loading included), and what it took where nothing
    was short (reserved by the allocator, too). `full` is of a card that it ran out of memory on, where it did."""

    label: str
    least: float | None
    roomy: float | None
    full: float | None = None


@dataclass(frozen=True)
class Fits:
    """The table of what fits: names of cards, and rows of (technique, what it needs in units.NEEDED or in words, what each card says)."""

    cards: list[str]
    rows: list[tuple[str, str, list[str]]]


def needs(group: Group, device_memory: float | None) -> list[Need]:
    """What each technique of a group needs that was measured on a GPU, or ran out of memory on one of `device_memory` bytes."""
    found = []
    for row in group.records:
        least = advice.needs(row)
        if row["status"] == "oom":
            found.append(Need(row["label"], None, None, device_memory))
        elif row["status"] in MEASURED and row["memory_source"] in ("allocator", "device") and least is not None:
            beside = least - cast(int, held(row))
            reserved = 0 if units.is_missing(row["memory_reserved"]) else row["memory_reserved"]
            found.append(Need(row["label"], least, max(least, reserved + beside)))
    return found


def says(need: Need, size: int) -> str:
    """What a card sold with `size` GB says: FITS, TIGHT (it fits only where the allocator gives back what it holds in reserve), NOT, or
    nothing where that is not known."""
    if need.least is None or need.roomy is None:
        return NOT if need.full is not None and usable(size) <= need.full else ""
    if need.roomy <= usable(size):
        return FITS
    return TIGHT if need.least <= usable(size) else NOT


def table(group: Group, device_memory: float | None) -> Fits | None:
    """What fits, on the cards from the largest that holds none to the smallest that holds all; None where no memory of a GPU is known."""
    found = needs(group, device_memory)
    if not any(need.least is not None for need in found):
        return None
    found.sort(key=lambda need: float("inf") if need.least is None else need.least)
    told = {size: [says(need, size) for need in found] for size in SOLD}
    known = [need.least is not None for need in found]
    some = [size for size, words in told.items() if any(word in (FITS, TIGHT) for word in words)]
    all_fit = [size for size in some if all(word == FITS for word, one in zip(told[size], known, strict=True) if one)]
    last = all_fit[0] if all_fit else SOLD[-1]
    first = some[0] if some else SOLD[-1]
    below = [size for size in SOLD if size < first][-1:]
    shown = [*below, *(size for size in SOLD if first <= size <= last)]
    return Fits(
        [f"{size} GB" for size in shown],
        [(need.label, _in_words(need), [says(need, size) for size in shown]) for need in found],
    )


def device_memory(runs: Sequence[Mapping], group: Group) -> float | None:
    """Bytes of the device that a group was measured on, from rows of schema.RUNS; None where none tells."""
    own = [run["device_memory"] for run in runs if group_of(run) == group.key and run["device_memory"]]
    return max(own, default=None)


def _in_words(need: Need) -> str:
    if need.least is None:
        return tr("ran out of memory") if need.full is None else tr("ran out of memory on {}").format(units.NEEDED.text(need.full))
    return units.number(units.NEEDED(need.least))
