"""Two results of the same grid, cell by cell: which got faster or slower, and which came and went. Pure.

Speeds are compared as they are, not as speed-ups over each result's own baseline: a machine that became slower altogether shows.
"""

import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace

from speedgrid import differences, disturbance, noise, stats
from speedgrid.differences import Difference, Key
from speedgrid.schema import AXES, MEASURED, NOT_RUN, by_group, cell_of
from speedgrid.standing import sentences
from speedgrid.stats import Estimate, Run, Speed

# Cells that a note names.
NAMED = 6
# What has to be said beside the cells, with places for names and numbers: the page says it in its language.
WAITING = "cells of {} not measured yet: {} of {}"
NOT_QUIET = "the machine was not quiet when {} was measured: {}; measure these again before you believe them"
NONE_IN_BOTH = "no cell is in both: A has {}, B has {}; cells are compared where all four names are the same"
WITHOUT_RUNS = "{} has no runs.parquet, so that what differs in machine, software and settings is not known"
BETWEEN_RUNS = "intervals have the noise from one run to the next in them, not what changes from one day to another"
SAME_RUNS = (
    "cells of which A and B hold the very same runs, so that nothing is said of them: {} of {}; to measure anew, move the results away"
    " (mv results older) before the run"
)
OTHER_REPLIES = "{}: cells whose replies are not those of summary.parquet, so that the summary alone is compared: {}; run it again"
ON_OTHER_SOFTWARE = "of what is faster or slower ({}), {} ran on other software, named beside each, and {} on the same"
UNTOLD = "{}: cells that were disturbed whenever an earlier speedgrid measured them, which does not say how much that cost at most: {}"
NOTES = (WAITING, NOT_QUIET, UNTOLD, NONE_IN_BOTH, WITHOUT_RUNS, BETWEEN_RUNS, SAME_RUNS, OTHER_REPLIES, ON_OTHER_SOFTWARE)
# What can come of a cell, the most pressing first.
OUTCOMES = {
    "slower": "slower than in A",
    "status": "measured in one and not in the other, or with another status",
    "faster": "faster than in A",
    "other size": "figures of different sizes, between which there is no verdict",
    "unsure": "not decided by these runs",
    "same": "no difference beyond the noise",
    "same run": "the very same run in A and B; nothing was measured again",
    "disappeared": "only in A",
    "appeared": "only in B",
    "no figures": "measured in neither, with the same status",
}
CHANGES = ("slower", "status", "faster", "other size", "disappeared", "appeared")

# Columns of the summary and of schema.RUNS that two runs do not have in common. Peak memory is none: summaries of an older speedgrid leave
# loading out of it. Nor are the ends of intervals, whose level hangs on the study.
OF_ONE_RUN = ("rate", "latency_mean_s", "latency_p50_s", "replies", "cold_start_s", "energy")
WHICH_RUN = ("started_at", "ended_at", "host", "job")


@dataclass(frozen=True)
class Results:
    """One side: its name, the rows of schema.SUMMARY and schema.RUNS, and, where they are there, what each cell's runs measured.

    `measured` holds for a cell every process that measured it, in the order in which they ran.
    """

    name: str
    summary: Sequence[Mapping]
    runs: Sequence[Mapping] = ()
    measured: Mapping[Key, Sequence["Measured"]] = field(default_factory=dict)


@dataclass(frozen=True)
class Measured:
    """A process that measured a cell, and the mean over its replies, which older results have as their speed."""

    run: Run
    mean: float


@dataclass(frozen=True)
class Noise:
    """The noise between runs of cells of a device and workload: the median of their standard deviations, the least and the most of them,
    and the runs of both sides."""

    sd: float
    least: float
    most: float
    runs: int


@dataclass(frozen=True)
class Change:
    """What came of one cell. `before` and `after` are items a second, `ratio` is after / before; None where there is no such figure."""

    gpu: str
    experiment: str
    model: str
    technique: str
    outcome: str
    status_before: str | None
    status_after: str | None
    reason: str
    before: Estimate | None = None
    after: Estimate | None = None
    ratio: Estimate | None = None
    sizes: tuple[int, int] | None = None  # of the figures of both sides, where these are not the same
    differs: tuple[str, ...] = ()  # of differences.IDENTITY
    # What of the software has another version, as "torch 2.11.0 → 2.13.0", the most telling first; None where a side does not say what it
    # ran on. And how many packages only one side had: an engine of another cell, such as one environment for all has them.
    software: tuple[str, ...] | None = None
    packages_alone: int = 0

    @property
    def cell(self) -> Key:
        """The cell that it is about."""
        return self.gpu, self.experiment, self.model, self.technique

    @property
    def lost(self) -> bool:
        """Whether it worked before and does not any more."""
        return self.status_before == "ok" and self.status_after not in ("ok", None)


@dataclass(frozen=True)
class Comparison:
    """What came of two results, by their names `a` and `b`: the noise between runs, of each gpu and workload, every cell that either has,
    what differs around them, and what else has to be said, in words."""

    a: str
    b: str
    noise: Mapping[tuple[str, str], Noise]
    cells: Sequence[Change]
    differences: Sequence[Difference]
    notes: Sequence[str]

    @property
    def counts(self) -> dict[str, int]:
        """How many cells came out how, the most pressing first."""
        counted = Counter(change.outcome for change in self.cells)
        return {outcome: counted[outcome] for outcome in OUTCOMES if counted[outcome]}

    @property
    def nothing_new(self) -> bool:
        """Whether all that has figures in A and B are the very same runs, so that nothing can be said."""
        both = [change for change in self.cells if change.before and change.after]
        return bool(both) and all(change.outcome == "same run" for change in both)

    def failures(self, fail_on: str) -> list[Change]:
        """The cells for which `--fail-on` fails: `slower`, those that are slower or no longer work; `changed`, all that changed."""
        if fail_on == "never":
            return []
        return [c for c in self.cells if c.outcome == "slower" or c.lost or (fail_on == "changed" and c.outcome in CHANGES)]

    def as_json(self) -> dict:
        """Everything, for json.dumps; what is not finite is None."""
        told: dict = {
            "a": self.a,
            "b": self.b,
            "counts": self.counts,
            "noise": {", ".join(kind): asdict(one) for kind, one in self.noise.items()},
        }
        told |= {"cells": [asdict(c) for c in self.cells], "differences": [asdict(d) for d in self.differences]}
        return {name: _finite(value) for name, value in (told | {"notes": list(self.notes)}).items()}


def _disturbed(name: str, rows: Sequence[Mapping]) -> list[str]:
    """That other work was going on while cells were measured, which is what slower cells may come from."""
    found = [row for row in rows if row.get("runs_disturbed")]
    if not found:
        return []
    cells = ", ".join(row["technique"] for row in found[:NAMED]) + (f" and {len(found) - NAMED:,} more" if len(found) > NAMED else "")
    why = next((f" ({row['disturbed']})" for row in found if row.get("disturbed")), "")
    return [NOT_QUIET.format(name, cells + why)]


def compare(a: Results, b: Results, negligible: float = stats.NEGLIGIBLE) -> Comparison:
    """Compare B with A; a difference of less than the share `negligible` counts as none."""
    notes: list[str] = []
    # What no job has come to yet is not there: it says nothing against what the other side has.
    rows = [{cell_of(row): row for row in side.summary if row["status"] != NOT_RUN} for side in (a, b)]
    for side, there in zip((a, b), rows, strict=True):
        if waiting := len(side.summary) - len(there):
            notes.append(WAITING.format(side.name, f"{waiting:,}", f"{len(side.summary):,}"))
        notes += _disturbed(side.name, list(there.values()))
        notes += [f"{side.name}: {said.removesuffix('.')}" for said in sentences(side.summary)]
    speeds = [_speeds(side, notes) for side in (a, b)]
    kinds = {key: (key[0], row["workload"]) for side in rows for key, row in side.items()}
    seen = _noise(speeds, kinds)
    same = _same_runs(rows, (a.runs, b.runs))
    software = differences.of_software((a.runs, b.runs))
    (before, after), (old, new) = rows, speeds
    cells = []
    for key in {**before, **after}:
        change = _change(key, before.get(key), after.get(key), old.get(key), new.get(key), negligible, key in same)
        versions, alone = software.get(key, (None, 0))
        cells.append(replace(change, software=versions, packages_alone=alone))
    both = rows[0].keys() & rows[1].keys()
    if not both:
        has = ["/".join(next(iter(side), ("no cell",))) for side in rows]
        notes.append(NONE_IN_BOTH.format(*has))
    for side in (a, b):
        if not side.runs:
            notes.append(WITHOUT_RUNS.format(side.name))
    if seen:
        notes.append(BETWEEN_RUNS)
    measured = [change for change in cells if change.before and change.after]
    notes += _by_software(cells)
    if count := sum(change.outcome == "same run" for change in cells):
        notes.append(SAME_RUNS.format(count, len(measured)))
    order = list(OUTCOMES)
    cells.sort(key=lambda change: order.index(change.outcome))
    differs = {change.cell: change.differs for change in cells}
    around = [*differences.of_cells(differs, rows), *differences.of_surroundings(a.runs, b.runs, both)] if both else []
    # Of two sides of one name, such as a result and itself, each has the same to say.
    return Comparison(a.name, b.name, seen, cells, around, list(dict.fromkeys(notes)))


# Cells


def _speeds(side: Results, notes: list[str]) -> dict[Key, Speed]:
    """The speed of every cell that has one: from its runs where they are there, else from its row of the summary. As on the page of that
    side, the cells of a group say together how noisy they are."""
    found, stale, untold = {}, 0, 0
    threads = {cell_of(run): run.get("threads") or run.get("cores") for run in side.runs if run["stage"] == "measure"}
    for rows in by_group(row for row in side.summary if row["rate"] is not None and row["status"] in MEASURED).values():
        known = {cell_of(row): side.measured[cell_of(row)] for row in rows if side.measured.get(cell_of(row))}
        there = [row for row in rows if cell_of(row) in known]
        runs, level = [(_device(row), _runs(known[cell_of(row)])) for row in there], max(map(_confidence, rows))
        judged = noise.speeds(runs, [row["status"] == "ok" for row in there], level)
        pooled = dict(zip(known, judged, strict=True))
        for row in rows:
            key, speed = cell_of(row), pooled.get(cell_of(row))
            if speed and not _is_of(row, speed, known[key]):
                speed, stale = None, stale + 1
            if speed is None:
                speed = _speed_of(row, threads.get(key))
                untold += not _tells_losses(row) and math.isinf(speed.lost)
            found[key] = speed
    if untold:
        notes.append(UNTOLD.format(side.name, untold))
    if stale:
        notes.append(OTHER_REPLIES.format(side.name, stale))
    return found


def _is_of(row: Mapping, speed: Speed, measured: Sequence[Measured]) -> bool:
    """Whether a row of the summary is of these runs: by the speed of each, where it has them, since those of another speedgrid may be put
    together in another way; else by its speed or, in older results, its mean."""
    if told := row.get("run_rates"):
        seen = sorted(one.run.value for one in measured)
        return len(told) == len(seen) and all(math.isclose(*pair, rel_tol=1e-6) for pair in zip(sorted(told), seen, strict=True))
    return any(math.isclose(value, row["rate"], rel_tol=1e-6) for value in (speed.value, *(one.mean for one in measured)))


def _runs(measured: Sequence[Measured]) -> list[Run]:
    return [one.run for one in measured]


def _device(row: Mapping) -> str:
    """The kind of device of a row of the summary: the memory of a process is that of a CPU's."""
    return "cpu" if row["memory_source"] in ("process", None) else "cuda"


def _confidence(row: Mapping) -> float:
    """The level of the interval of a row's speed; an older speedgrid had one level."""
    return row.get("confidence") or stats.CONFIDENCE


def _tells_losses(row: Mapping) -> bool:
    """Whether a row is of a speedgrid that says how much disturbance cost a cell at most, where anything bounds that."""
    return row.get("disturbed_factor") is not None or isinstance(row.get("open_quiet"), Sequence)


def _lost(row: Mapping, threads: int | None) -> disturbance.Lost:
    """What disturbance cost a cell at most, as its row of the summary has it. By an older one it is what others took of the processor; and
    where some of its runs were quiet, no more than the fastest run is above the speed."""
    runs, disturbed = row["runs"] or 1, row.get("runs_disturbed") or 0
    facts = {**row, "disturbed": row.get("disturbed") or disturbed > 0, "device": _device(row), "threads": threads}
    read = disturbance.lost(facts) if disturbed else disturbance.Lost()
    if row.get("disturbed_factor"):
        lost = math.log(row["disturbed_factor"])
        # More than its shares bound is what its own steps showed.
        return disturbance.Lost(lost, read.alike, lost if lost > 1.01 * read.most else 0.0)
    if 0 < disturbed < runs and row.get("run_rates"):
        return disturbance.Lost(max(0.0, math.log(max(row["run_rates"]) / row["rate"])))
    return read if not _tells_losses(row) else disturbance.Lost(math.inf if disturbed else 0.0)


def _speed_of(row: Mapping, threads: int | None = None) -> Speed:
    """A speed as its row of the summary tells it, without its replies; `threads` are those of its process, where they are known. Each side
    has the variance that its interval says, and no less than the noise between runs alone: replies may have cut the interval. Where the row
    says nothing of that noise, it is what others have shown, and the interval is of the replies alone."""
    value, low, high, runs = row["rate"], row["rate_low"], row["rate_high"], row["runs"] or 1
    confidence = _confidence(row)
    if row["replies"] < 2 or low is None or high is None:
        unknown = ((math.inf, 1.0),)
        return Speed(value, math.inf, 1.0, 0, runs, unknown, unknown, value, value)
    halves = [math.log(max(ends) / max(min(ends), 1e-12)) for ends in ((value, low), (high, value))]
    sides: list[tuple[tuple[float, float], ...]]
    (lost, alike, waited), counts = _lost(row, threads), 1.0
    if row.get("noise") is not None:
        spread, df, disturbed = row["noise"], row["noise_df"], row.get("runs_disturbed") or 0
        counts = stats.disturbed_share(lost, spread)
        counted = (runs - disturbed) or runs * counts
        t = stats.t_quantile((1 + confidence) / 2, df)
        sides = [((max(spread**2 / counted, (half / t) ** 2), df),) for half in halves]
    else:
        known, disturbed = noise.prior(_device(row), "processor"), 0
        spread, df, normal = known.sd, known.df, stats.t_quantile((1 + confidence) / 2, math.inf)
        sides = [((spread**2 / runs, df), ((half / normal) ** 2, math.inf)) for half in halves]
    below, above = sides
    if threads is None and _device(row) == "cpu":
        # What others lost like it hangs on the number of its threads: one, at least.
        alike = -math.log1p(-disturbance.ALIKE)
    spared, quiet = min(stats.AS_DISTURBED * lost, alike), disturbed < runs
    told: dict = {"lost": lost, "spared": spared, "waited": waited, "confidence": confidence}
    speed = Speed(value, spread, df, runs, runs, below, above, 0.0, math.inf, quiet=quiet, **told)
    if speed.quiet:
        return speed
    # Held against quiet runs its own have the noise of quiet ones.
    below, above = (tuple((variance * counts, df) for variance, df in side) for side in (speed.below, speed.above))
    return replace(speed, calm=replace(speed, below=below, above=above))


def _noise(speeds: Sequence[Mapping[Key, Speed]], kinds: Mapping[Key, tuple[str, str]]) -> dict[tuple[str, str], Noise]:
    """The noise between runs that the cells of each gpu and workload have."""
    found: dict[tuple[str, str], list[Speed]] = {}
    for side in speeds:
        for key, speed in side.items():
            if speed.known:
                found.setdefault(kinds[key], []).append(speed)
    middles = ((kind, [one.noise for one in cells], sum(one.runs for one in cells)) for kind, cells in found.items())
    return {kind: Noise(stats.percentile(sds, 0.5), min(sds), max(sds), runs) for kind, sds, runs in middles}


def _same_runs(rows: Sequence[Mapping[Key, Mapping]], runs: Sequence[Sequence[Mapping]]) -> set[Key]:
    """The cells whose figures come from the very same runs on both sides, such as in a copy of the results."""
    told = [_by_cell(run for run in side if run["stage"] == "measure") for side in runs]
    return {
        key
        for key in rows[0].keys() & rows[1].keys()
        if rows[0][key]["rate"] is not None
        and all(rows[0][key].get(name) == rows[1][key].get(name) for name in OF_ONE_RUN)
        and (not all(told) or told[0].get(key) == told[1].get(key))
    }


def _by_cell(runs: Iterable[Mapping]) -> dict[Key, set[tuple]]:
    found: dict[Key, set[tuple]] = {}
    for run in runs:
        found.setdefault(cell_of(run), set()).add(tuple(run.get(name) for name in WHICH_RUN))
    return found


def _change(
    key: Key, before: Mapping | None, after: Mapping | None, old: Speed | None, new: Speed | None, negligible: float, is_same_run: bool
) -> Change:
    statuses = [row["status"] if row else None for row in (before, after)]
    known: dict = dict(zip(AXES, key, strict=True)) | {"status_before": statuses[0], "status_after": statuses[1]}
    known |= {"before": old and old.interval(), "after": new and new.interval()}
    last = after or before
    known["reason"] = (last["reason"] or "") if last else ""
    if before is None or after is None:
        return Change(**known, outcome="appeared" if before is None else "disappeared")
    known["differs"] = differences.between(before, after)
    if is_same_run:
        return Change(**known, outcome="same run")
    size, other = before.get("point"), after.get("point")
    if old and new and statuses[0] == statuses[1] and size is not None and other is not None and size != other:
        return Change(**known, sizes=(size, other), outcome="other size")
    ratio = stats.over(new, old) if old and new else None
    if statuses[0] != statuses[1] or bool(old) != bool(new):
        return Change(**known, ratio=ratio, outcome="status")
    return Change(**known, ratio=ratio, outcome=stats.between(new, old, negligible) if new and old else "no figures")


def _by_software(cells: Sequence[Change]) -> list[str]:
    """How many of the cells that are faster or slower ran on other software, which is the first thing to look at."""
    told = [change for change in cells if change.outcome in ("slower", "faster") and change.software is not None]
    if not told:
        return []
    other = sum(bool(change.software) for change in told)
    same = len(told) - other
    return [ON_OTHER_SOFTWARE.format(len(told), other, same)]


def _finite(value: object) -> object:
    if isinstance(value, Mapping):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
