"""The machine and the software that results were measured with, from the rows of schema.RUNS. Pure."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

from speedgrid.packages import MAIN_PACKAGES, package_name
from speedgrid.report import units
from speedgrid.report.language import tr
from speedgrid.schema import MEASURED, by_group, cell_of

# What stands beside the columns of schema.RUNS where jobs ran on several GPUs of a kind.
GPUS = {"gpus": "GPUs of this kind, each job on one"}
MACHINE = (
    *("device_name", "gpus", "device_memory", "compute_capability", "driver", "cuda"),
    *("cpu", "cpu_flags", "cores", "threads", "memory", "platform", "python", "host", "variables"),
)


class Gpus(NamedTuple):
    """How many GPUs of one kind a group was measured on, and the techniques that ran on none of those that its baseline ran on: their
    speed-ups are between two GPUs."""

    number: int = 0
    apart: Sequence[str] = ()


NO_GPU = Gpus()


def machines(runs: Sequence[Mapping]) -> list[dict[str, str]]:
    """Each device that was measured on, with its machine, as labels with values; what a machine lacks is left out. Where jobs there did not
    all see the same, as of cores that they may use, a label has every value."""
    known: dict[tuple, dict[str, dict[str, None]]] = {}
    gpus: dict[tuple, set[str]] = {}
    for run in measuring(runs) or runs:
        machine = (run["host"], run["device"], run["device_name"], run["cpu"])
        facts = known.setdefault(machine, {})
        gpus.setdefault(machine, set()).update(filter(None, [run.get("device_uuid")]))
        if len(gpus[machine]) > 1:
            facts["gpus"] = {str(len(gpus[machine])): None}
        for name in MACHINE:
            if run.get(name) not in (None, "") and (name != "device_name" or run["device"] != "cpu"):
                facts.setdefault(name, {})[_fact(name, run[name])] = None
    return [{name: " / ".join(facts[name]) for name in MACHINE if name in facts} for facts in known.values()]


def hosts(runs: Sequence[Mapping]) -> list[str]:
    """The names of the machines that runs of a group were measured on, where these may be several; none where they are one, which in a
    container may have another name every day."""
    names = list(dict.fromkeys(run["host"] for run in runs if run["host"]))
    devices = {run["device_uuid"] for run in runs}
    is_one_gpu = len(devices) == 1 and None not in devices
    return names if len(names) > 1 and not is_one_gpu else []


def gpus(runs: Sequence[Mapping], baseline: str | None) -> Gpus:
    """On how many GPUs the runs of a group were, as where a machine has several and each job takes a free one."""
    ran_on: dict[str, set[str]] = {}
    for run in runs:
        if run["device_uuid"] and run["status"] in MEASURED:
            ran_on.setdefault(run["technique"], set()).add(run["device_uuid"])
    own = ran_on.get(baseline or "", set())
    return Gpus(len(set().union(*ran_on.values())), [name for name, used in ran_on.items() if own and not own & used])


def differing(runs: Sequence[Mapping]) -> dict[str, list[str]]:
    """The variables of the environment that some of the runs had and others had not, as `NAME=value`, each with the techniques of those
    that had it: what of the environment makes a part of a difference between them. Runs of which none is known say nothing."""
    seen = [(run["technique"], set(filter(None, run["variables"].split(", ")))) for run in runs if run["variables"] is not None]
    told = sorted({one for _, own in seen for one in own})
    having = {one: [technique for technique, own in seen if one in own] for one in told}
    return {one: list(dict.fromkeys(names)) for one, names in having.items() if len(names) < len(seen)}


def pooled(runs: Sequence[Mapping]) -> dict[str, list[str]]:
    """The names of the machines behind each device, where its groups were measured on several: two of one kind in two folders of results
    are one device, if no group is in both (together.names). A group that was itself measured on several says so in its warnings."""
    found: dict[str, list[str]] = {}
    measured = by_group(measuring(runs))
    for gpu in dict.fromkeys(gpu for gpu, *_ in measured):
        groups = [own for (name, *_), own in measured.items() if name == gpu]
        names = hosts([run for own in groups for run in own])
        if names and not any(len(hosts(own)) == len(names) for own in groups):
            found[gpu] = names
    return found


def measuring(runs: Sequence[Mapping]) -> list[Mapping]:
    """The jobs that measured. One that ended like the job before it took no device, and would look like a machine without one."""
    return [run for run in runs if run["stage"] == "measure" and run["device"]]


def _fact(name: str, value: Any) -> str:
    return units.scale("B", [value]).text(value) if name in ("memory", "device_memory") else str(value)


def environments(summary: Sequence[Mapping], runs: Sequence[Mapping]) -> list[dict]:
    """Each set of installed packages: the environments that had it, the versions that matter most, and the whole list."""
    names = {cell_of(row): row["env"] for row in summary}
    found: dict[tuple, set] = {}
    for run in runs:
        if run["packages"]:
            found.setdefault(tuple(run["packages"]), set()).add(names.get(cell_of(run)))
    return [
        {"name": ", ".join(sorted(filter(None, envs))) or tr("preparation"), "main": _main_packages(packages), "all": packages}
        for packages, envs in found.items()
    ]


def _main_packages(packages: Iterable[str]) -> list[str]:
    versions = {package_name(package): package for package in packages}
    return [versions[name] for name in MAIN_PACKAGES if name in versions]


def time_span(runs: Sequence[Mapping]) -> str:
    """When the jobs ran, to the minute."""
    starts, ends = ([run[name] for run in runs if run[name]] for name in ("started_at", "ended_at"))
    if not starts or not ends:
        return ""
    first, last = min(starts)[:16].replace("T", " "), max(ends)[:16].replace("T", " ")
    if first == last:
        return f"{first} UTC"
    return tr("{} to {} UTC").format(first, last[11:] if last[:10] == first[:10] else last)
