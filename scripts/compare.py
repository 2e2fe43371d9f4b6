"""Compare two results of a grid: what got faster or slower, what came and went, and what differs around them.

    ./speedgrid compare A B [--fail-on slower|changed|never] [--floor PERCENT] [--json]

A is the older result, B the newer one: each a results folder, or a summary.parquet. Of a folder the replies of every run are read.

Exits with 0; with 1 where --fail-on is met; with 2 where A or B cannot be read, or where --fail-on cannot be met because both are the very
same runs.
"""

import json
import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

from speedgrid import commands, comparison, records
from speedgrid.comparison import Comparison, Results
from speedgrid.report import compared as words
from speedgrid.schema import MEASURE, MEASURED, RUNS, SUMMARY

# The result files of runs, and no twin of one (`measure.failed.parquet`).
A_RUN = re.compile(r"measure(-\d+)?\.parquet")


def main() -> int:
    arguments = commands.one("compare").parse_args()
    try:
        compared = comparison.compare(read(Path(arguments.a)), read(Path(arguments.b)), arguments.floor / 100)
    except records.RecordError as error:
        print(f"speedgrid: {error}", file=sys.stderr)
        return commands.MISTAKE
    failures = compared.failures(arguments.fail_on)
    if arguments.json:
        told = compared.as_json() | {"fail_on": arguments.fail_on, "failed": bool(failures)}
        commands.say(json.dumps(told, ensure_ascii=False, allow_nan=False, indent=1))
    else:
        commands.say("\n".join(as_text(compared)))
        if failures:
            print(f"\nspeedgrid: {len(failures)} of {len(compared.cells)} cells fail --fail-on {arguments.fail_on}", file=sys.stderr)
    if compared.nothing_new and arguments.fail_on != "never":
        print(f"speedgrid: --fail-on {arguments.fail_on}: A and B are the very same runs; nothing was measured in between", file=sys.stderr)
        return commands.MISTAKE
    return 1 if failures else 0


# Reading


def read(path: Path) -> Results:
    """The results of a folder, or of a summary alone. Raises RecordError for what is not one, with a line that says why."""
    try:
        return _read(path)
    except records.RecordError as error:
        # What the jobs are advised to do would here delete what somebody wants to compare.
        raise records.RecordError(str(error).removesuffix("; delete it and run again")) from None


def _read(path: Path) -> Results:
    if path.is_file():
        return Results(str(path), records.read(path, SUMMARY).rows)
    if not path.exists():
        raise records.RecordError(f"{path}: no such folder or file")
    folder = next((at for at in (path, path / "results") if (at / "summary.parquet").is_file()), None)
    if folder is None:
        raise records.RecordError(f"{path}: not a results folder; it has no summary.parquet")
    summary = records.read(folder / "summary.parquet", SUMMARY).rows
    runs = records.read(folder / "runs.parquet", RUNS).rows if (folder / "runs.parquet").is_file() else []
    points = {tuple(row[axis] for axis in comparison.KEYS): row["point"] for row in summary}
    return Results(str(path), summary, runs, read_runs(folder, points))


def read_runs(
    folder: Path, points: Mapping[comparison.Key, int | None] = MappingProxyType({})
) -> dict[comparison.Key, list[comparison.Measured]]:
    """What every process measured, by cell, in the order in which they began. Of a cell that ran at several sizes at the size in `points`,
    which its figures in the summary are of.

    Its rows say which cell a run belongs to. Raises RecordError for a file that cannot be read.
    """
    found: dict[comparison.Key, list[tuple[str, comparison.Measured]]] = {}
    for path in _run_files(folder):
        record = records.read(path, MEASURE)
        key = tuple(record.rows[0][axis] for axis in comparison.KEYS)
        rows = [row for row in record.rows if row["reply"] is not None and row["point"] == points.get(key)]
        rates = [(row["new_tokens"] if row["items"] is None else row["items"]) / row["reply_s"] for row in rows]
        if rates and record.status in MEASURED:
            measured = comparison.Measured.of(rates, bool(record.facts.get("disturbed")))
            found.setdefault(key, []).append((record.facts.get("started_at") or "", measured))
    return {key: [one for _, one in sorted(runs, key=lambda run: run[0])] for key, runs in found.items()}


def _run_files(folder: Path) -> list[Path]:
    """The result files of runs: those of the plan that are there, as the summary has them, although a study that asked for more runs may
    have left others. Without a plan, every one in the folder. Raises RecordError where the plan cannot be read."""
    plan = folder / "plan.json"
    if not plan.is_file():
        return sorted(path for path in folder.glob("**/measure*.parquet") if A_RUN.fullmatch(path.name))
    try:
        cells = json.loads(plan.read_text(encoding="utf-8"))["cells"]
        named = [name for cell in cells for name in (f"{cell['folder']}/measure.parquet", *cell["again"])]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise records.RecordError(f"{plan}: cannot be read as a plan ({type(error).__name__}); delete it and run again") from None
    # The plan names them from beside its own folder `results`, which may have been moved or renamed since.
    paths = [folder.joinpath(*Path(name).parts[1:]) for name in named]
    return sorted(path for path in paths if path.is_file())


# Telling


def as_text(compared: Comparison) -> list[str]:
    lines = [f"A  {compared.a}", f"B  {compared.b}", *words.floors(compared)]
    lines += ["", *_columns([words.HEADER, *(words.row(change) for change in compared.cells)])]
    lines += ["", words.counts(compared)]
    if compared.differences:
        told = [("", what, before, "→", after, cells) for what, before, after, cells in words.differences(compared)]
        lines += ["", "What differs", *_columns(told)]
    return [*lines, "", *(f"Note: {note}." for note in compared.notes)]


def _columns(rows: Sequence[tuple[str, ...]]) -> list[str]:
    """Rows as aligned lines; all columns but the last are as wide as their widest text."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]) - 1)]
    return ["  ".join([*(f"{text:{width}}" for text, width in zip(row, widths, strict=False)), row[-1]]).rstrip() for row in rows]


if __name__ == "__main__":
    sys.exit(main())
