"""The results of a grid in a folder, as comparison.py takes them: the summary, and of every run what it measured."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from speedgrid import files, noise, records, stats
from speedgrid.comparison import Key, Measured, Results
from speedgrid.schema import MEASURE, MEASURED, NOT_RUN, RUNS, SUMMARY, cell_of, items_of


def read(path: Path) -> Results:
    """The results of a folder, or of a summary alone. Raises RecordError for what is not one, with a line that says why."""
    try:
        return _read(path)
    except records.RecordError as error:
        # What the jobs are advised to do would here delete what somebody wants to compare.
        raise records.RecordError(str(error).removesuffix("; delete it and run again")) from None


def read_both(a: Path, b: Path) -> tuple[Results, Results]:
    """Both sides of a comparison, of which each may be a folder of several results: of these, those that hold a cell of the other side.

    Raises RecordError for what is not a result, and where two results of a folder hold the same cell and as much of the other side, and
    neither or both are of its study.
    """
    sides = [[read(one) for one in files.several(path)] for path in (a, b)]
    # Where none of several has a cell of the other side, which of them is named does not matter.
    none = [[replace(side[0], name=str(path))] for path, side in zip((a, b), sides, strict=True)]
    chosen = [_chosen(side, other) or least for side, other, least in zip(sides, reversed(sides), none, strict=True)]
    first, second = (_together(path, side) for path, side in zip((a, b), chosen, strict=True))
    return first, second


def _chosen(side: Sequence[Results], other: Sequence[Results]) -> list[Results]:
    """Of several results those with cells of the other side. A cell that two of them hold is that of the one that has more in common with
    the other side, or as much and is of its study, where one is; the rest of the lesser one stays."""
    cells, studies = {key for one in other for key in _cells(one)}, {name for one in other for name in _studies(one)}
    near = {one.name: (len(_cells(one) & cells), bool(_studies(one) & studies)) for one in side}
    found: list[Results] = []
    for one in sorted(side, key=lambda one: near[one.name], reverse=True):
        left = _without(one, {key for nearer in found if near[nearer.name] > near[one.name] for key in _cells(nearer)})
        if _cells(left) & cells:
            found.append(left)
    return sorted(found, key=lambda one: one.name)


def _without(one: Results, cells: set[Key]) -> Results:
    """A result without some of its cells."""
    if not cells & _cells(one):
        return one
    summary, runs = ([row for row in rows if cell_of(row) not in cells] for rows in (one.summary, one.runs))
    return replace(one, summary=summary, runs=runs, measured={key: runs for key, runs in one.measured.items() if key not in cells})


def _cells(side: Results) -> set[Key]:
    """The cells of a result that a job has come to."""
    return {cell_of(row) for row in side.summary if row["status"] != NOT_RUN}


def _studies(side: Results) -> set[str]:
    return {row["study"] for row in side.runs if row.get("study")}


def _together(path: Path, side: Sequence[Results]) -> Results:
    """Several results as one."""
    if len(side) == 1:
        return side[0]
    holds: dict[Key, str] = {}
    for one in side:
        for key in sorted(_cells(one)):
            if key in holds:
                raise records.RecordError(f"{path}: {holds[key]} and {one.name} both hold {'/'.join(key)}; name one of them")
            holds[key] = one.name
    return Results(
        f"{path} ({', '.join(str(Path(one.name).relative_to(path)) for one in side)})",
        [row for one in side for row in one.summary],
        [row for one in side for row in one.runs],
        {key: runs for one in side for key, runs in one.measured.items()},
    )


def _read(path: Path) -> Results:
    if path.is_file():
        return Results(str(path), records.read(path, SUMMARY).rows)
    if not path.exists():
        raise records.RecordError(f"{path}: no such folder or file")
    found = files.summary_of(path)
    if found is None:
        raise records.RecordError(f"{path}: not a results folder; it has no summary.parquet")
    folder, summary = found.parent, records.read(found, SUMMARY).rows
    runs = records.read(folder / "runs.parquet", RUNS).rows if (folder / "runs.parquet").is_file() else []
    points = {cell_of(row): row["point"] for row in summary}
    return Results(str(path), summary, runs, read_runs(folder, points))


def read_runs(folder: Path, points: Mapping[Key, int | None] = MappingProxyType({})) -> dict[Key, list[Measured]]:
    """What every process measured, by cell, in the order in which they began, but for those that ended otherwise than the cell's first one.
    Of a cell that ran at several sizes at the size in `points`, which its figures in the summary are of.

    Its rows say which cell a run belongs to. Raises RecordError for a file that cannot be read.
    """
    found: dict[Key, list[records.Record]] = {}
    # The shortest name of a cell's files is that of its first run.
    for path in sorted(_run_files(folder), key=lambda path: len(path.name)):
        record = records.read(path, MEASURE)
        found.setdefault(cell_of(record.rows[0]), []).append(record)
    measured = {key: _measured(runs, points.get(key)) for key, runs in found.items()}
    return {key: runs for key, runs in measured.items() if runs}


def _measured(runs: Sequence[records.Record], point: int | None) -> list[Measured]:
    """What the runs of a cell, the first one first, measured at a size, in the order in which they began."""
    found: list[tuple[str, Measured]] = []
    for _, record in records.of_one_status(runs):
        replies = [row for row in record.rows if row["reply"] is not None and row["point"] == point]
        if replies and record.status in MEASURED:
            mean = stats.mean([items_of(row) / row["reply_s"] for row in replies])
            found.append((record.facts.get("started_at") or "", Measured(noise.run(record.facts, replies), mean)))
    return [one for _, one in sorted(found, key=lambda run: run[0])]


def plan_of(folder: Path) -> dict | None:
    """The plan beside results; None where there is none. Raises RecordError where it cannot be read."""
    path = folder / "plan.json"
    if not path.is_file():
        return None
    try:
        plan = json.loads(path.read_text(encoding="utf-8"))
        _ = plan["study"], plan["jobs"], [(cell["folder"], list(cell["again"])) for cell in plan["cells"]]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise records.RecordError(f"{path}: cannot be read as a plan ({type(error).__name__}); delete it and run again") from None
    return plan


def moved(folder: Path, name: str) -> Path:
    """Where a file of the plan lies: the plan names it from beside its own folder `results`, which may have been moved since."""
    return folder.joinpath(*Path(name).parts[1:])


def _run_files(folder: Path) -> list[Path]:
    """The result files of runs: those of the plan that are there, as the summary has them, although a study that asked for more runs may
    have left others. Without a plan, every one in the folder. Raises RecordError where the plan cannot be read."""
    plan = plan_of(folder)
    if plan is None:
        return sorted(path for path in folder.glob("**/measure*.parquet") if files.is_of_a_run(path))
    named = [name for cell in plan["cells"] for name in (f"{cell['folder']}/measure.parquet", *cell["again"])]
    return sorted(path for name in named if (path := moved(folder, name)).is_file())
