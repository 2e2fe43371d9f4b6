"""Two results of the same grid, cell by cell: which got faster or slower, which came and went, and what differs around them. Pure.

Speeds are compared as they are, not as speed-ups over each result's own baseline: a machine that became slower altogether shows.
"""

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from speedgrid import statistics
from speedgrid.schema import MEASURED
from speedgrid.statistics import Estimate, Level, Noise

KEYS = ("gpu", "experiment", "model", "technique")
Key = tuple[str, ...]

# What can come of a cell, the most pressing first.
OUTCOMES = {
    "slower": "slower than in A",
    "status": "measured in one and not in the other, or with another status",
    "faster": "faster than in A",
    "unsure": "these replies cannot say",
    "same": "no difference that can be told from noise",
    "disappeared": "only in A",
    "appeared": "only in B",
    "no figures": "measured in neither, with the same status",
}
CHANGES = ("slower", "status", "faster", "disappeared", "appeared")

# Columns of the summary that say what a cell was; a difference makes its two speeds those of two things.
IDENTITY = ("status", "label", "engine", "env", "dtype", "device_name", "checkpoint_sha256")
# Columns of schema.RUNS that say what it ran on.
SURROUNDINGS = (
    *("study", "study_sha256", "git_commit", "seed", "host", "device_name", "device_memory", "compute_capability", "driver", "cuda"),
    *("cpu", "cpu_flags", "cores", "threads", "memory", "platform", "python"),
)


@dataclass(frozen=True)
class Results:
    """One side: its name, the rows of schema.SUMMARY and schema.RUNS, and, where they are there, each cell's rates run by run.

    `rates` holds for a cell the speed of every reply or step, a list for each process that measured it, in the order in which they ran.
    """

    name: str
    summary: Sequence[Mapping]
    runs: Sequence[Mapping] = ()
    rates: Mapping[Key, Sequence[Sequence[float]]] = field(default_factory=dict)


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
    differs: tuple[str, ...] = ()  # of IDENTITY

    @property
    def lost(self) -> bool:
        """Whether it worked before and does not any more."""
        return self.status_before == "ok" and self.status_after not in ("ok", None)


@dataclass(frozen=True)
class Difference:
    """What differs around the cells: `what`, its values on both sides, and in how many cells (0 where that means nothing)."""

    what: str
    before: str
    after: str
    cells: int = 0


@dataclass(frozen=True)
class Comparison:
    a: str
    b: str
    noise: Mapping[tuple[str, str], Noise]  # by gpu and workload
    cells: Sequence[Change]
    differences: Sequence[Difference]
    notes: Sequence[str]

    @property
    def counts(self) -> dict[str, int]:
        counted = Counter(change.outcome for change in self.cells)
        return {outcome: counted[outcome] for outcome in OUTCOMES if counted[outcome]}

    def failures(self, fail_on: str) -> list[Change]:
        """The cells for which `--fail-on` fails: `slower`, those that are slower or no longer work; `changed`, all that changed."""
        if fail_on == "never":
            return []
        return [c for c in self.cells if c.outcome == "slower" or c.lost or (fail_on == "changed" and c.outcome in CHANGES)]

    def as_json(self) -> dict:
        """Everything, for json.dumps; what is not finite is None."""
        told = {
            "a": self.a,
            "b": self.b,
            "counts": self.counts,
            "noise": {", ".join(kind): asdict(noise) for kind, noise in self.noise.items()},
        }
        told |= {"cells": [asdict(c) for c in self.cells], "differences": [asdict(d) for d in self.differences]}
        return _finite(told | {"notes": list(self.notes)})


def compare(a: Results, b: Results, assumed_floor: float = statistics.ASSUMED_FLOOR) -> Comparison:
    """Compare B with A. Where no cell of a device ran twice on either side, `assumed_floor` takes the place of a measured floor."""
    notes = []
    levels = [_levels(side, notes) for side in (a, b)]
    rows = [{tuple(row[axis] for axis in KEYS): row for row in side.summary} for side in (a, b)]
    kinds = {key: (key[0], row["workload"]) for side in rows for key, row in side.items()}
    noise = _noise(levels, kinds, assumed_floor)
    cells = [_change(key, *(side.get(key) for side in (*rows, *levels)), noise.get(kinds[key])) for key in {**rows[0], **rows[1]}]
    both = rows[0].keys() & rows[1].keys()
    if not both:
        notes.append("no cell is in both")
    for side in (a, b):
        if not side.runs:
            notes.append(f"{side.name} has no runs.parquet, so that what differs in machine, software and settings is not known")
    assumed = list(dict.fromkeys(gpu for (gpu, _), one in noise.items() if one.runs == 0))
    if assumed:
        notes.append(
            f"nothing ran twice on {', '.join(assumed)}: a noise floor of {100 * assumed_floor:g} % is assumed (--floor), "
            "and changes smaller than that count as the same"
        )
    elif noise:
        notes.append("the noise floor is that of runs of one session; what changes from one day to another is not in it")
    order = list(OUTCOMES)
    cells.sort(key=lambda change: order.index(change.outcome))
    differences = [*_identities(cells, rows), *_differences(a.runs, b.runs, both)] if both else []
    return Comparison(a.name, b.name, noise, cells, differences, notes)


# Cells


def _levels(side: Results, notes: list[str]) -> dict[Key, list[Level]]:
    """The runs of every cell that has figures, from its replies where they are there, else one run from the summary's interval."""
    found, stale = {}, 0
    for row in side.summary:
        key, value = tuple(row[axis] for axis in KEYS), row["rate"]
        if value is None or row["status"] not in MEASURED:
            continue
        rates = [run for run in side.rates.get(key, ()) if run]
        mean = [statistics.mean(run) for run in rates]
        if rates and not any(math.isclose(one, value, rel_tol=1e-6) for one in (*mean, statistics.mean(mean))):
            rates, stale = [], stale + 1
        found[key] = [statistics.level(run) for run in rates] or [_level_of(row)]
    if stale:
        notes.append(f"{side.name}: the replies of {stale} cells are not those of summary.parquet, which is compared alone; run it again")
    return found


def _level_of(row: Mapping) -> Level:
    """A run as its row of the summary tells it, as if its interval came from very many replies."""
    value, low, high, n = row["rate"], row["rate_low"], row["rate_high"], int(row["replies"])
    if n < 2 or low is None or high is None:
        return Level(value, math.inf, 1.0, 1, 1.0)
    return Level(value, (high - value) / statistics.t_quantile((1 + statistics.CONFIDENCE) / 2, math.inf), n - 1.0, n, float(n))


def _noise(levels: Sequence[Mapping[Key, Sequence[Level]]], kinds: Mapping[Key, tuple[str, str]], assumed_floor: float):
    """For each gpu and workload, what the cells that ran more than once on either side say about noise, else the assumed floor."""
    repeated: dict[tuple[str, str], list] = {}
    for side in levels:
        for key, runs in side.items():
            repeated.setdefault(kinds[key], []).append(runs)
    return statistics.noise_of_kinds(repeated, assumed_floor)


def _change(key: Key, before: Mapping | None, after: Mapping | None, old, new, noise: Noise | None) -> Change:
    statuses = [row["status"] if row else None for row in (before, after)]
    known = dict(zip(KEYS, key, strict=True)) | {"status_before": statuses[0], "status_after": statuses[1]}
    known |= {"before": _estimate(old), "after": _estimate(new), "reason": ((after or before)["reason"] or "") if before or after else ""}
    if before is None or after is None:
        return Change(**known, outcome="appeared" if before is None else "disappeared")
    known["differs"] = tuple(name for name in IDENTITY if before.get(name) != after.get(name))
    ratio = None
    if old and new:
        ratio = statistics.speedup(statistics.evenly(new), statistics.evenly(old), noise)
    if statuses[0] != statuses[1] or bool(old) != bool(new):
        return Change(**known, ratio=ratio, outcome="status")
    outcome = statistics.verdict(ratio, noise.floor) if ratio else "no figures"
    return Change(**known, ratio=ratio, outcome=outcome)


def _estimate(runs: Sequence[Level] | None) -> Estimate | None:
    """A single run with its interval; of several, their geometric mean, as in the ratio, which has the interval."""
    if not runs:
        return None
    return runs[0].interval() if len(runs) == 1 else Estimate(math.exp(statistics.mean([math.log(run.value) for run in runs])))


# What differs around them


def _identities(cells: Iterable[Change], rows: Sequence[Mapping[Key, Mapping]]) -> list[Difference]:
    """What differs in the cells themselves, their status apart, which each cell shows."""
    found: Counter = Counter()
    for change in cells:
        key = (change.gpu, change.experiment, change.model, change.technique)
        for name in change.differs:
            if name not in ("status", "device_name"):
                found[(name, *(_shown(side[key].get(name)) for side in rows))] += 1
    return [Difference(*difference, cells=count) for difference, count in found.items()]


def _differences(a: Sequence[Mapping], b: Sequence[Mapping], both: Iterable[Key]) -> list[Difference]:
    """What the jobs of the cells in both sides ran on and were told, where it is not the same."""
    both = set(both)
    sides = [[run for run in runs if tuple(run[axis] for axis in KEYS) in both and run["stage"] == "measure"] for runs in (a, b)]
    if not all(sides):
        return []
    found = []
    for name in SURROUNDINGS:
        values = [sorted({_shown(run.get(name)) for run in side}) for side in sides]
        if values[0] != values[1]:
            found.append(Difference(name, *(", ".join(value) for value in values)))
    return found + _packages(sides) + _settings(sides)


def _packages(sides: Sequence[Sequence[Mapping]]) -> list[Difference]:
    """Packages of another version, by the environment that they are in."""
    installed: list[dict[str, dict[str, str]]] = [{}, {}]
    for side, environments in zip(sides, installed, strict=True):
        for run in side:
            versions = (package.partition("==") for package in run["packages"] or ())
            environments.setdefault(run["env"] or "", {}).update({name: version for name, _, version in versions})
    found = []
    for env in sorted(installed[0].keys() & installed[1].keys()):
        before, after = (environments[env] for environments in installed)
        for name in sorted(before.keys() | after.keys()):
            if before.get(name) != after.get(name):
                found.append(Difference(f"{env}: {name}", before.get(name, "not there"), after.get(name, "not there")))
    return found


def _settings(sides: Sequence[Sequence[Mapping]]) -> list[Difference]:
    """What the jobs were told, by its place in their JSON, with the number of cells that it holds for."""
    told = [{tuple(run[axis] for axis in KEYS): flat(json.loads(run["job"] or "{}")) for run in side} for side in sides]
    found: Counter = Counter()
    for key in told[0].keys() & told[1].keys():
        before, after = (side[key] for side in told)
        for name in before.keys() | after.keys():
            values = [_shown(side.get(name)) for side in (before, after)]
            if values[0] != values[1] and name not in ("env", "seed", "threads"):
                found[(name, *values)] += 1
    return [Difference(*difference, cells=count) for difference, count in sorted(found.items())]


def flat(value: object, place: str = "") -> dict[str, object]:
    """What a job was told by its place in it, such as {"settings.replies": 20}."""
    if not isinstance(value, Mapping):
        return {place: value}
    parts = [flat(inner, f"{place}.{name}" if place else str(name)) for name, inner in value.items()]
    return {name: inner for part in parts for name, inner in part.items()}


def _shown(value: object) -> str:
    return "–" if value in (None, "") else str(value)


def _finite(value: object) -> object:
    if isinstance(value, Mapping):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
