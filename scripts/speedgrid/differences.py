"""What differs around the cells of two results: the cells themselves, machine, software and settings. Pure."""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from speedgrid.packages import MAIN_PACKAGES
from speedgrid.schema import cell_of
from speedgrid.standing import flat
from speedgrid.workload import AFTER_WARMUP

Key = tuple[str, ...]

# Columns of the summary that say what a cell was; a difference makes its two speeds those of two things.
IDENTITY = ("status", "label", "engine", "env", "dtype", "device_name", "checkpoint_sha256", "point")
# Those of them that are of the work, and not of where it was done.
OF_THE_WORK = ("engine", "dtype", "checkpoint_sha256", "point")
# What else of schema.RUNS is software, as a cell's remark calls it.
SOFTWARE = {"driver": "driver", "cuda": "CUDA", "python": "Python", "git_commit": "speedgrid"}
# What a cell names of what differs, in this order; the others are counted.
TELLING = (*MAIN_PACKAGES, *SOFTWARE.values())
# Columns of schema.RUNS that say what it ran on.
SURROUNDINGS = (
    *("study", "study_sha256", "git_commit", "seed", "host", "device_name", "device_memory", "compute_capability", "driver", "cuda"),
    *("cpu", "cpu_flags", "cores", "threads", "memory", "platform", "python", "variables"),
)


@dataclass(frozen=True)
class Difference:
    """What differs around the cells: `what`, its values on both sides, and in how many cells (0 where that means nothing)."""

    what: str
    before: str
    after: str
    cells: int = 0


def between(before: Mapping, after: Mapping) -> tuple[str, ...]:
    """What of IDENTITY differs between two rows of the summary."""
    return tuple(name for name in IDENTITY if before.get(name) != after.get(name))


def of_cells(differs: Mapping[Key, Iterable[str]], rows: Sequence[Mapping[Key, Mapping]]) -> list[Difference]:
    """What differs in the cells themselves, of IDENTITY by cell, their status apart, which each cell shows."""
    found: Counter = Counter()
    for key, names in differs.items():
        for name in names:
            if name not in ("status", "device_name"):
                found[(name, *(_shown(side[key].get(name)) for side in rows))] += 1
    return [Difference(name, before, after, cells=count) for (name, before, after), count in found.items()]


def of_surroundings(a: Sequence[Mapping], b: Sequence[Mapping], both: Iterable[Key]) -> list[Difference]:
    """Machine, versions and specifications of the jobs of both sides, where they are not the same."""
    both = set(both)
    sides = [[run for run in runs if cell_of(run) in both and run["stage"] == "measure"] for runs in (a, b)]
    if not all(sides):
        return []
    found = []
    for name in SURROUNDINGS:
        values = [sorted({_shown(run.get(name)) for run in side}) for side in sides]
        if values[0] != values[1]:
            before, after = (", ".join(value) for value in values)
            found.append(Difference(name, before, after))
    return found + _packages(sides) + _settings(sides)


def around(a: Sequence[Sequence[Mapping]], b: Sequence[Sequence[Mapping]]) -> list[Difference]:
    """What differs in the cells, machine, software and settings between one group on two devices; rows of schema.SUMMARY and of
    schema.RUNS of each."""
    (before, one), (after, other) = ([[{**row, "gpu": ""} for row in rows] for rows in side] for side in (a, b))
    cells = _cells_that_differ({cell_of(row): row for row in before}, {cell_of(row): row for row in after})
    found = of_surroundings(one, other, set(map(cell_of, one)) & set(map(cell_of, other)))
    named = {one.what for one in cells} | {"study", "study_sha256", "gpu"}
    return cells + [one for one in found if one.what not in named and not one.what.startswith("device.")]


def _cells_that_differ(before: Mapping[Key, Mapping], after: Mapping[Key, Mapping]) -> list[Difference]:
    """What is known of the cells of both and differs. Of checkpoints that of the baseline, which is the model: one that is quantized on
    each of two machines may not come out the same."""

    def is_told(name: str, key: Key) -> bool:
        return bool(before[key].get(name) and after[key].get(name)) and (name != "checkpoint_sha256" or before[key]["is_baseline"])

    both = [key for key in before if key in after]
    told = {key: [name for name in between(before[key], after[key]) if is_told(name, key)] for key in both}
    return of_cells(told, (before, after))


def is_of_the_work(difference: Difference) -> bool:
    """Whether it is a setting of what is done and not of how often, or what it is done with: two speeds are then those of two things."""
    kind, _, name = difference.what.partition(".")
    return difference.what in OF_THE_WORK or (kind in ("settings", "options") and name not in AFTER_WARMUP)


def _packages(sides: Sequence[Sequence[Mapping]]) -> list[Difference]:
    """Packages of another version, by the environment that they are in: each of the main ones, and all others together."""
    installed: list[dict[str, dict[str, str]]] = [{}, {}]
    for side, environments in zip(sides, installed, strict=True):
        for run in side:
            versions = (package.partition("==") for package in run["packages"] or ())
            environments.setdefault(run["env"] or "", {}).update({name: version for name, _, version in versions})
    both = sorted(installed[0].keys() & installed[1].keys())
    # One difference of several environments is told once.
    found: dict[tuple[str, str, str], list[str]] = {}
    for env in both:
        before, after = (environments[env] for environments in installed)
        changed = [name for name in sorted(before.keys() | after.keys()) if before.get(name) != after.get(name)]
        for name in changed:
            if name in MAIN_PACKAGES:
                found.setdefault((name, before.get(name, "not there"), after.get(name, "not there")), []).append(env)
        rest = [name for name in changed if name not in MAIN_PACKAGES]
        if rest:
            old, new = (", ".join(f"{name} {side.get(name, 'not there')}" for name in rest) for side in (before, after))
            found.setdefault((f"{len(rest)} other packages" if len(rest) > 1 else "1 other package", old, new), []).append(env)
    ordered = sorted(found.items(), key=lambda one: one[0][0] not in MAIN_PACKAGES)
    return [Difference(f"{_environments(envs, both)}: {name}", before, after) for (name, before, after), envs in ordered]


def _environments(envs: Sequence[str], both: Sequence[str]) -> str:
    return "all environments" if len(envs) == len(both) > 1 else ", ".join(envs)


def _settings(sides: Sequence[Sequence[Mapping]]) -> list[Difference]:
    """The specifications of the jobs, by place in their JSON, each value with the number of cells that it holds for."""
    told = [{cell_of(run): flat(json.loads(run["job"] or "{}")) for run in side} for side in sides]
    found: Counter = Counter()
    for key in told[0].keys() & told[1].keys():
        before, after = (side[key] for side in told)
        for name in before.keys() | after.keys():
            values = [_shown(side.get(name)) for side in (before, after)]
            if values[0] != values[1] and name not in ("env", "seed", "threads", "run"):
                found[(name, *values)] += 1
    return [Difference(name, before, after, cells=count) for (name, before, after), count in sorted(found.items())]


def _shown(value: object) -> str:
    return "–" if value in (None, "") else str(value)


def of_software(runs: Sequence[Sequence[Mapping]]) -> dict[Key, tuple[tuple[str, ...], int]]:
    """What of the software differs for each cell that both sides say what it ran on: what has another version, as "torch 2.11.0 → 2.13.0",
    the most telling first, and how many packages only one side had."""
    sides = [{cell_of(run): _versions(run) for run in side if run["stage"] == "measure"} for side in runs]
    found = {}
    for key in sides[0].keys() & sides[1].keys():
        before, after = (side[key] for side in sides)
        both = sorted(before.keys() & after.keys(), key=lambda name: (TELLING.index(name) if name in TELLING else len(TELLING), name))
        changed = tuple(f"{name} {before[name]} → {after[name]}" for name in both if before[name] != after[name])
        found[key] = changed, len(before.keys() ^ after.keys())
    return found


def _versions(run: Mapping) -> dict[str, str]:
    """The version of everything that a job ran with."""
    packages = (package.partition("==") for package in run["packages"] or ())
    told = {label: _short(str(run[name])) for name, label in SOFTWARE.items() if run.get(name)}
    return {name: version for name, _, version in packages} | told


def _short(version: str) -> str:
    """A version, or the first digits of a commit with the mark of one that was edited since."""
    return version[:12] + "+" * (len(version) > 12 and version.endswith("+"))
