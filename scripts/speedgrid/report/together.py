"""Results of several folders on one page: of machines that each measured a study, or of several studies of one machine. Pure.

Each device gets a name that tells it apart, and what the studies say of themselves is joined.
"""

import json
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from speedgrid.report.language import ENGLISH
from speedgrid.schema import cell_of, group_of

GroupKey = tuple[str, str, str]


class Origin(NamedTuple):
    """What the study of a group says: its file, empty where it is not known, the name of the device there, the settings of the group's
    experiment, and the techniques and models by their names."""

    study_file: str
    gpu: str
    settings: Mapping
    techniques: Mapping[str, Mapping]
    models: Mapping[str, Mapping]

    @classmethod
    def of(cls, study: Mapping, gpu: str, experiment: str) -> "Origin":
        """That of a group of this study (planning.document)."""
        return cls(study["study_file"] or "", gpu, study["experiments"].get(experiment, {}), study["techniques"], study.get("models", {}))


@dataclass(frozen=True)
class Told:
    """What a page is made of: the study in words (planning.document), rows of the summary, of the runs, of the replies with their number of
    run, of the sizes and of the scores, and what was seen of the machine, by cell."""

    study: Mapping
    summary: Sequence[Mapping]
    runs: Sequence[Mapping] = ()
    replies: Sequence[Mapping] = ()
    points: Sequence[Mapping] = ()
    scores: Sequence[Mapping] = ()
    states: Mapping[tuple, Mapping] = field(default_factory=dict)


def together(sides: Sequence[tuple[str, Told]]) -> Told:
    """The results of several folders, each with its name, as those of one page; its study has the Origin of every group as `origins`."""
    named = names([(name, told.summary) for name, told in sides])
    moved = [_moved(told, own) for (_, told), own in zip(sides, named, strict=True)]
    return Told(
        study=_study([(name, told, own) for (name, told), own in zip(sides, named, strict=True)]),
        summary=[row for one in moved for row in one.summary],
        runs=[row for one in moved for row in one.runs],
        replies=[row for one in moved for row in one.replies],
        points=[row for one in moved for row in one.points],
        scores=[row for one in moved for row in one.scores],
        states={key: state for one in moved for key, state in one.states.items()},
    )


def origin(study: Mapping, group: GroupKey) -> Origin:
    """What a group's own study says of it, which may be one of the several that `study` joins."""
    return study.get("origins", {}).get(group) or Origin.of(study, *group[:2])


def names(sides: Sequence[tuple[str, Sequence[Mapping]]]) -> list[dict[str, str]]:
    """What the devices of each side, a folder's name and its rows of schema.SUMMARY, are called on the page, by their names there.

    That is the same name where no two sides have one in common; else what the device is, with the folder where two have measured the same
    on such a device.
    """
    own = [list(dict.fromkeys(row["gpu"] for row in rows)) for _, rows in sides]
    if len({gpu for gpus in own for gpu in gpus}) == sum(map(len, own)):
        return [dict(zip(gpus, gpus, strict=True)) for gpus in own]
    kinds = [
        {gpu: next((row["device_name"] for row in rows if row["gpu"] == gpu and row["device_name"]), gpu) for gpu in gpus}
        for (_, rows), gpus in zip(sides, own, strict=True)
    ]
    groups = Counter(
        (told[gpu], *rest) for (_, rows), told in zip(sides, kinds, strict=True) for gpu, *rest in {group_of(row) for row in rows}
    )
    twice = {kind for (kind, *_), count in groups.items() if count > 1}
    return [
        {gpu: kind if kind not in twice else f"{kind} ({_where(name, gpu, told)})" for gpu, kind in told.items()}
        for (name, _), told in zip(sides, kinds, strict=True)
    ]


def _where(folder: str, gpu: str, told: Mapping[str, str]) -> str:
    """The folder, with the device's own name where several of the folder are the same."""
    return f"{folder}, {gpu}" if list(told.values()).count(told[gpu]) > 1 else folder


def labels(folders: Sequence[Path]) -> list[str]:
    """Short names of different folders of results: their own, or where these are not different what of their paths is not common to all."""
    parts = [path.parent if path.name == "results" and len(folders) > 1 else path for path in folders]
    if len(set(parts)) < len(parts):
        parts = list(folders)
    if len({path.name for path in parts}) == len(parts):
        return [path.name for path in parts]
    common = Path(os.path.commonpath(parts))
    return [str(path.relative_to(common.parent if common in parts else common)) for path in parts]


def without_plan(name: str, summary: Sequence[Mapping], runs: Sequence[Mapping]) -> dict:
    """The study in words, of results beside which no plan lies: what their jobs say of it. `name` is that of their folder."""

    def told(key: str) -> str:
        return ", ".join(dict.fromkeys(str(run[key]) for run in runs if run.get(key) not in (None, "")))

    experiments: dict[str, dict] = {row["experiment"]: {"workload": row["workload"]} for row in summary}
    precisions: dict[str, set] = {}
    for run in runs:
        if run["stage"] == "measure" and run["job"] and run["experiment"] in experiments:
            job, experiment = json.loads(run["job"]), experiments[run["experiment"]]
            if len(experiment) == 1:  # of the first of its jobs
                experiment |= job["settings"]
            precisions.setdefault(run["experiment"], set()).add(job.get("options", {}).get("precision"))
    for key, found in precisions.items():
        # No job says the experiment's, only what its own technique ran in. Where these differ, that of the experiment is not known.
        if found != {None}:
            experiments[key] |= {"precision": found.pop() if len(found) == 1 else None}
    return {
        "name": told("study") or name,
        "title": told("study") or name,
        "language": ENGLISH.code,
        "compare_with": "",
        "study_file": "",
        "study_sha256": told("study_sha256"),
        "seed": told("seed"),
        "budget_s": 0.0,
        "experiments": experiments,
        **{key: {} for key in ("models", "gpus", "prices", "techniques")},
    }


def _moved(told: Told, named: Mapping[str, str]) -> Told:
    """The same under the page's names of the devices, without what the summary lacks, such as one that is older than its plan: a device
    of that has no name here, and its own may be another folder's."""
    cells = {cell_of(row) for row in told.summary}
    groups = {key[:3] for key in cells}

    def is_known(row: Mapping) -> bool:
        key = cell_of(row)
        # Jobs that cells share have no device or no technique.
        return row["gpu"] is None or (key[:3] in groups if row["technique"] is None else key in cells)

    def renamed(rows: Sequence[Mapping]) -> list[dict]:
        return [{**row, "gpu": named.get(row["gpu"])} for row in rows if is_known(row)]

    return Told(
        study=told.study,
        summary=renamed(told.summary),
        runs=renamed(told.runs),
        replies=renamed(told.replies),
        points=renamed(told.points),
        scores=renamed(told.scores),
        states={(named[key[0]], *key[1:]): state for key, state in told.states.items() if key in cells},
    )


def _study(sides: Sequence[tuple[str, Told, Mapping[str, str]]]) -> dict:
    """What several studies say of themselves; of each side its folder's name, and what its devices are called."""
    studies = [told.study for _, told, _ in sides]
    experiments: dict[str, Mapping] = {}
    for folder, told, _ in sides:
        for name, settings in told.study["experiments"].items():
            # Settings that differ stand below each other under Methods.
            if experiments.setdefault(name, settings) != settings:
                experiments[f"{name} ({folder})"] = settings
    joined: dict = dict(studies[0])
    for key in ("name", "title", "study_file", "study_sha256", "seed"):
        joined[key] = ", ".join(dict.fromkeys(str(study[key]) for study in studies if study[key] not in (None, "")))
    joined["titles"] = list(dict.fromkeys(str(study["title"] or study["name"]) for study in studies))
    for key in ("gpus", "prices"):
        of_sides = [(named, told.study.get(key, {})) for _, told, named in sides]
        joined[key] = {named[gpu]: entry for named, entries in of_sides for gpu, entry in entries.items() if gpu in named}
    # Of models and techniques two studies may have others by one name: those of a group are in its Origin.
    return joined | {
        "experiments": experiments,
        "models": {},
        "techniques": {},
        "compare_with": "",
        "others": (),
        "origins": _origins(sides),
    }


def _origins(sides: Sequence[tuple[str, Told, Mapping[str, str]]]) -> dict[GroupKey, Origin]:
    return {
        (named[row["gpu"]], row["experiment"], row["model"]): Origin.of(told.study, row["gpu"], row["experiment"])
        for _, told, named in sides
        for row in told.summary
    }
