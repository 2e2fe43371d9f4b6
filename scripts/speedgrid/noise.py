"""What runs of the same have been seen to differ by, before a study has run anything twice: the priors of stats.speed.

noise.csv has a row for every recorded cell that ran more than once on a quiet machine: the kind of its device, what bounds it, its runs,
and the standard deviation of the logarithms of their speeds. `tests/benchmarks/noise_prior.py RESULTS` makes such rows from results, so
that everybody can add theirs.
"""

import csv
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from speedgrid import stats
from speedgrid.stats import Prior, Run

TABLE = Path(__file__).with_name("noise.csv")
# How much such cells differ in their noise, as degrees of freedom; chosen by simulated hosts of 0.5 to 25 % noise, of which a prior of 3
# lets 94 to 97 % of the intervals hold (tests/benchmarks/verdicts.py).
DF = 3.0
# From so many recorded cells on a kind of device has a prior of its own; until then it has that of all devices with the same bound.
ENOUGH = 8
# Less than this no prior says, until ENOUGH cells have shown it: few runs that agree by chance must not rank what is equal.
LEAST_SD = 0.0075
# A loop that waits for the device repeats to under a percent; one that waits for the processor, which has other things to do, does not.
STEADY = 0.015


def bound(device: str, runs: Sequence[Run]) -> str:
    """What makes the runs of a cell differ: `device` where a GPU sets the pace and its replies are as steady as that, else `processor`."""
    steady = sorted(one.scatter for one in runs)[len(runs) // 2] < STEADY
    return "device" if device == "cuda" and steady and all(one.n > 1 for one in runs) else "processor"


@cache
def prior(device: str, bound: str) -> Prior:
    """The prior for cells of a kind of device (`cuda` or `cpu`) and bound."""
    rows = [row for row in recorded() if row["bound"] == bound]
    own = [row for row in rows if row["device"] == device]
    used = own if len(own) >= ENOUGH else rows
    found = stats.fitted([(int(row["runs"]), float(row["sd"])) for row in used], DF)
    return found if len(used) >= ENOUGH else Prior(max(found.sd, LEAST_SD), found.df, found.runs)


@cache
def recorded() -> tuple[dict, ...]:
    """The rows of noise.csv."""
    with open(TABLE, encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file))


def speeds(cells: Sequence[tuple[str, Sequence[Run]]], counted: Sequence[bool] | None = None) -> list[stats.Speed]:
    """The speeds of cells that stand beside one another, each given by the kind of its device and its runs.

    A cell's noise is its own, moderated by the prior of its kind, to which the other cells of that kind add what they have shown. What is
    not `counted`, such as a cell whose technique was not active, has a speed and says nothing of others; all count if it is not given.

    A disturbed run counts less, and how far apart disturbed runs are says nothing of quiet ones: cells that have disturbed runs alone are a
    kind of their own. Disturbance slows and never speeds up: held against such a cell, here or in other results, the quiet runs of another
    may not count for more. So every cell is of that kind, too, with all runs as if disturbed (Speed.alike).
    """
    counted = [True] * len(cells) if counted is None else counted
    alone = [all(one.disturbed for one in runs) for _, runs in cells]
    taken = [(place, False) for place, busy in enumerate(alone) if not busy] + [(place, True) for place in range(len(cells))]
    told = []
    for place, busy in taken:
        device, runs = cells[place]
        kind = (device, bound(device, runs), busy)
        told.append((kind, [replace(one, disturbed=True) for one in runs] if busy else runs, counted[place]))
    found = dict(zip(taken, _moderated(told), strict=True))
    return [
        replace(found[place, True], quiet=False) if busy else replace(found[place, False], alike=found[place, True])
        for place, busy in enumerate(alone)
    ]


Kind = tuple[str, str, bool]  # of a cell: its device, its bound, and whether its runs were disturbed


def _moderated(cells: Sequence[tuple[Kind, Sequence[Run], bool]]) -> list[stats.Speed]:
    """The speeds of cells, given by kind, runs, and whether they add to the noise of others of that kind."""
    priors = {kind: prior(*kind[:2]) for kind, _, _ in cells}
    seen = [(*stats.shown(runs, priors[kind]), len(runs)) if says and len(runs) > 1 else (0, 0.0, 0) for kind, runs, says in cells]
    sums: dict[Kind, tuple[int, float, int]] = {}
    for (kind, _, _), (df, squares, count) in zip(cells, seen, strict=True):
        all_df, all_squares, all_runs = sums.get(kind, (0, 0.0, 0))
        sums[kind] = (all_df + df, all_squares + squares, all_runs + count)
    found = []
    for (kind, runs, _), (df, squares, count) in zip(cells, seen, strict=True):
        all_df, all_squares, all_runs = sums[kind]
        others = (all_df - df, max(0.0, all_squares - squares), all_runs - count)
        found.append(stats.speed(runs, stats.with_shown(priors[kind], *others)))
    return found
