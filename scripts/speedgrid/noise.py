"""What runs of the same have been seen to differ by, before a study has run anything twice: the priors of stats.speed.

noise.csv has a row for every recorded cell that ran more than once on a quiet machine: the kind of its device, what bounds it, its runs,
and the standard deviation of the logarithms of their speeds. `tests/benchmarks/noise_prior.py RESULTS` makes such rows from results, so
that everybody can add theirs.
"""

import csv
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from statistics import median

from speedgrid import disturbance, stats
from speedgrid.schema import items_of
from speedgrid.stats import Prior, Run

TABLE = Path(__file__).with_name("noise.csv")
# How much such cells differ in their noise, as degrees of freedom; chosen by simulated hosts of 0.5 to 25 % noise, of which a prior of 2.5
# lets 95 to 97 % of the intervals hold, and equals be called different in 3 to 4 % (tests/benchmarks/verdicts.py).
DF = 2.5
# From so many recorded cells on a kind of device has a prior of its own; until then it has that of all devices with the same bound.
ENOUGH = 8
# Less than this no prior says, until ENOUGH cells have shown it: few runs that agree by chance must not rank what is equal.
LEAST_SD = 0.0075
# How far a reply is from the next, as a share: up to the first of these a cell on a GPU waits for the GPU alone, from the second on for the
# processor, which has other things to do. Recorded cells of the one kind scatter by up to 0.9 %, of the other by 5 % and more; one between
# them, of 1 to 2 %, had runs 9 % apart on two GPUs. Between the two a cell's noise is between theirs, by the logarithm, so that two cells
# that are nearly alike have nearly the same interval.
STEADY, UNSTEADY = 0.0075, 0.03
# The same of the time before the first token. A prompt is mostly read kernel by kernel, at the speed of the processor; how far apart that
# is within a process says less of how far apart it is between processes. Recorded ones scatter by 1.0 % and more and were up to 1.8 times
# as slow in one process as in another; where the GPU has enough to do with the prompt, by 0.2 %. These lie in the middle between the two,
# since few replies say only roughly how far apart they are.
FIRST_STEADY, FIRST_UNSTEADY = 0.003, 0.006
# A GPU that had something to do for up to the first of these shares of the time waits for the processor, however alike the replies of one
# process are; from the second on it sets the pace. Recorded eager decoding had 0.10 to 0.33, vLLM at 1.24 B 0.34 to 0.58, with processes
# 70 % apart, and compiled loops 0.70 to 0.96.
IDLE, BUSY = 0.4, 0.65
BOUNDS = ("device", "processor")


def run(facts: Mapping, replies: Sequence[Mapping]) -> Run:
    """A process that measured a cell, from the facts of its record and the rows of its counted replies (schema.MEASURE), in their order.

    On a GPU it says by how much that waited for the processor. Of replies whose first token has a time, what comes before that and what
    follows are told apart: in a compiled loop of 1.24 B the GPU sets the pace of the steps, which differ by 0.1 %, and the processor that
    of the prompt, a tenth of the time, which differs by a quarter from one process to the next. Raises ValueError where a rate is not a
    positive finite number.
    """
    found = stats.run([items_of(reply) / reply["reply_s"] for reply in replies], *disturbance.lost(facts, replies))
    if facts.get("device") != "cuda":
        return found
    busy = disturbance.gpu_busy(facts, replies)
    found = replace(found, idle=0.0 if busy is None else min(1.0, max(0.0, (BUSY - busy) / (BUSY - IDLE))))
    if len(replies) < 2 or not all(0 < (reply.get("ttft_s") or 0) <= reply["reply_s"] for reply in replies):
        return found
    steps = [rate for reply in replies if (rate := after_first(reply))]
    return replace(
        found,
        scatter=stats.run(steps).scatter if steps else found.scatter,
        first=median(reply["ttft_s"] / reply["reply_s"] for reply in replies),
        first_waits=_between(stats.run([1 / reply["ttft_s"] for reply in replies]).scatter, FIRST_STEADY, FIRST_UNSTEADY),
    )


def after_first(reply: Mapping) -> float:
    """The rate of what follows the first token of each sequence of a reply, items a second, where that token has a time; 0 where nothing
    does. Replies may end early, each after another number of tokens."""
    seconds, items = reply["reply_s"] - reply["ttft_s"], items_of(reply) - reply["batch_size"]
    return items / seconds if seconds > 0 and items > 0 else 0.0


def processor_share(device: str, runs: Sequence[Run]) -> float:
    """By how much a cell waits for the processor, after the first token where that has a time: 0 where a GPU sets the pace, 1 where the
    processor does. What ran on a processor does, and so does what single replies say nothing of."""
    if device != "cuda" or any(one.n < 2 for one in runs):
        return 1.0
    return max(_between(sorted(one.scatter for one in runs)[len(runs) // 2], STEADY, UNSTEADY), median(one.idle for one in runs))


def _between(scatter: float, steady: float, unsteady: float) -> float:
    """Where a scatter is between two, by the logarithm: 0 up to the first of them, 1 from the second on."""
    return min(1.0, math.log(max(steady, scatter) / steady) / math.log(unsteady / steady))


@cache
def prior(device: str, bound: str) -> Prior:
    """The prior for cells of a kind of device (`cuda` or `cpu`) and one of BOUNDS."""
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


def speeds(
    cells: Sequence[tuple[str, Sequence[Run]]], counted: Sequence[bool] | None = None, confidence: float = stats.CONFIDENCE
) -> list[stats.Speed]:
    """The speeds of cells that stand beside one another, each given by the kind of its device and its runs.

    A cell's noise is its own, moderated by the prior of its kind, to which the other cells of that kind add what they have shown. What is
    not `counted`, such as a cell whose technique was not active, has a speed and says nothing of others; all count if it is not given.
    `confidence` is the level of their intervals (stats.confidence).

    A disturbed run counts less, and how far apart disturbed runs are says nothing of quiet ones: cells that have disturbed runs alone are a
    kind of their own, of which the others say what they know. Since disturbance slows and never speeds up, it makes nothing seem faster
    than by the noise of quiet runs: so what has disturbed runs alone is of the kind of quiet cells, too (Speed.calm), and says nothing of
    others there.
    """
    counted = [True] * len(cells) if counted is None else counted
    alone = [all(one.disturbed for one in runs) for _, runs in cells]
    taken = [(place, busy) for busy in (False, True) for place in range(len(cells))]
    members = [_Cell.of(*cells[place], busy, counted[place] and busy >= alone[place]) for place, busy in taken]
    found = dict(zip(taken, _moderated(members), strict=True))
    judged = (
        replace(found[place, True], quiet=False, calm=found[place, False]) if is_alone else found[place, False]
        for place, is_alone in enumerate(alone)
    )
    return [replace(speed, confidence=confidence) for speed in judged]


@dataclass(frozen=True)
class _Cell:
    """A cell among those of its kind, which is its device and whether its runs were disturbed: its runs, by how much it waits for the
    processor, the share of its time before the first token and by how much it waits then (Run.first), what is known of its noise before it
    ran twice, and what it has shown of it (degrees of freedom, and the variance times these)."""

    kind: tuple[str, bool]
    runs: Sequence[Run]
    waits: float
    first: float
    first_waits: float
    prior: Prior
    shown: tuple[float, float]

    @classmethod
    def of(cls, device: str, runs: Sequence[Run], busy: bool, counts: bool) -> "_Cell":
        if not busy and all(one.disturbed for one in runs):
            runs = [replace(one, disturbed=False) for one in runs]
        first, first_waits, idle = (median(part) for part in zip(*((one.first, one.first_waits, one.idle) for one in runs), strict=True))
        parts = processor_share(device, runs), first, max(first_waits, idle)
        known = _known({bound: prior(device, bound) for bound in BOUNDS}, *parts)
        shown = stats.shown(runs, known) if counts and len(runs) > 1 else (0, 0.0)
        return cls((device, busy), runs, *parts, known, shown)

    def adds(self, bound: str) -> tuple[float, float, int]:
        """What it tells of the noise of cells of a bound: degrees of freedom, the variance times these, and runs. Of what is between two
        bounds it is by how much it was noisier than was expected of it."""
        on_device, on_processor = (prior(self.kind[0], one) for one in BOUNDS)
        of_the_steps = (1 - self.first) * self.waits * stats.between_priors(on_device, on_processor, self.waits).sd
        of_the_processor = (of_the_steps + self.first * self.first_waits * on_processor.sd) / self.prior.sd
        share = of_the_processor if bound == "processor" else max(0.0, 1 - of_the_processor)
        df, squares = (share * told for told in self.shown)
        over = prior(self.kind[0], bound).sd / self.prior.sd
        return df, squares * over**2, len(self.runs) if df else 0


def _moderated(cells: Sequence[_Cell]) -> list[stats.Speed]:
    """The speeds of cells, the noise of each moderated by what is known of its kind, and by what the others of that kind have shown."""
    sums: dict[tuple, list[float]] = {}
    for cell in cells:
        for bound in BOUNDS:
            before = sums.setdefault((cell.kind, bound), [0.0, 0.0, 0])
            sums[cell.kind, bound] = [one + other for one, other in zip(before, cell.adds(bound), strict=True)]
    return [stats.speed(cell.runs, _with_others(cell, sums)) for cell in cells]


def _with_others(cell: _Cell, sums: Mapping[tuple, Sequence[float]]) -> Prior:
    """What is known of the noise of a cell, with what the others of its kind have shown; `sums` are of all of them, by kind and bound."""
    known = {}
    for bound in BOUNDS:
        df, squares, runs = (max(0.0, whole - own) for whole, own in zip(sums[cell.kind, bound], cell.adds(bound), strict=True))
        known[bound] = stats.with_shown(prior(cell.kind[0], bound), df, squares, int(runs))
    return _known(known, cell.waits, cell.first, cell.first_waits)


def _known(priors: Mapping[str, Prior], waits: float, first: float, first_waits: float) -> Prior:
    """What is known of the noise of a cell, from the priors of BOUNDS (see _Cell)."""
    on_device, on_processor = (priors[bound] for bound in BOUNDS)
    # A prompt between the two may be either's work: it has their deviations by how much it seems to be the one or the other.
    steps, prompt = stats.between_priors(on_device, on_processor, waits), stats.partly(on_device, on_processor, first_waits)
    parts = [part for share, part in ((1 - first, waits), (first, first_waits)) if share > 0]
    rests_on = {"device": min(parts) < 1, "processor": max(parts) > 0}
    return replace(stats.partly(steps, prompt, first), runs=sum(priors[bound].runs for bound in BOUNDS if rests_on[bound]))
