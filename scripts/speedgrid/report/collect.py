"""Reads what every job of a plan wrote, and makes the tables of it: the summary, the sizes, the runs.

The plan is JSON with the study, its cells and the jobs that they share (planning.document); paths in it are relative to the current
folder.
"""

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from speedgrid import records, sharpen
from speedgrid.progress import say
from speedgrid.report import command, questions, tables, timeline, units, work
from speedgrid.schema import (
    CHECKPOINT,
    EVALUATE,
    FAILED,
    MEASURE,
    MEASURED,
    MODEL,
    NOT_RUN,
    POINTS,
    PROBE,
    REFERENCE,
    REQUESTS,
    RUNS,
    SCORE,
    STATUSES,
    SUMMARY,
    WARMUP,
    Table,
)

# The keys of a specification that say whose result its job writes.
WHOSE = ("gpu", "experiment", "model", "technique", "run")
# What the report uses none of: single tokens of replies, of which a large grid has millions, and what a reference expects next.
TOKENS = ("token_s", "token_ids")
NEXT_TOKENS = tuple(column.name for column in REFERENCE.columns if column.name not in ("status", "reason"))
# What a job says last where it leaves no record (stage.py): `measure cpu/e/m/t: failed while ...`, `...: stopped by SIGTERM while ...`.
LAST_WORDS = re.compile(r"[a-z]+ [^ ]+( \(run \d+\))?: (failed\b|stopped by )")


@dataclass(frozen=True)
class Gathered:
    """The rows of the three tables, and a line for each record that cannot be read."""

    summary: list[dict]
    points: list[dict]
    runs: list[dict]
    unreadable: list[str]

    def write(self, summary: Path, points: Path, runs: Path) -> None:
        """Write the tables, and say a line for each cell. Raises RecordError where one cannot be written."""
        records.write(summary, SUMMARY, self.summary)
        records.write(points, POINTS, self.points)
        records.write(runs, RUNS, self.runs)
        for line in headlines(self.summary):
            say(line)


def gather(plan: Mapping) -> Gathered:
    """Read every record of a plan that is there."""
    unreadable: dict[str, None] = {}
    shared: dict[str, records.Record] = {}
    cells = [read_cell(cell, plan["jobs"], unreadable, shared) for cell in plan["cells"]]
    study = {"study": plan["study"]["name"], "study_sha256": plan["study"]["study_sha256"]}
    runs = timeline.with_times([study | row for row in tables.run_rows(cells)])
    return Gathered(tables.summary_rows(cells), work.point_rows(cells), runs, list(unreadable))


def note_further(plan: Mapping, summary: list[dict], path: Path) -> None:
    """Write down which cells whose runs are `auto` are to be measured again; planning reads it."""
    if all(cell.get("further") is None for cell in plan["cells"]):
        return
    groups: dict[tuple, list[dict]] = {}
    for row in summary:
        groups.setdefault(tuple(row[axis] for axis in tables.GROUP), []).append(row)
    asked = {group: questions.of(rows) for group, rows in groups.items()}
    further = sharpen.decide(plan["cells"], summary, asked, plan["study"]["budget_s"])
    with records.replacing(path) as temporary:
        temporary.write_text(further.as_json(), encoding="utf-8")
    if further.open:
        say(f"some speeds are open, and the budget is spent: {command.run(plan['study']['study_file'], '--sharpen')}")


def read_plan(path: Path) -> dict:
    """The plan: `study`, what the page says of it, `cells` with their files, in order, and `jobs` by the record that they write."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_cell(
    cell: dict,
    jobs: Mapping[str, Mapping],
    unreadable: dict[str, None] | None = None,
    shared: dict[str, records.Record] | None = None,
) -> tables.CellRecords:
    """Read the records of one cell of the grid, for each of which `jobs` has the specification that its job would have now.

    What is not there has a record of its own kind in its place (records.absent), and a line in `unreadable` where it cannot be read or
    another job wrote it. Records that other cells have too are taken from `shared`, or put there.
    """
    folder, model, asked = cell["folder"], cell["model_record"], []
    found: dict[str, records.Record] = {}
    shared = {} if shared is None else shared

    def read(path: str, table: Table, without: Collection[str] = ()) -> records.Record:
        if (record := shared.get(path)) is None:
            record = find(path, table, jobs[path], {} if unreadable is None else unreadable, without)
            if not path.startswith(f"{folder}/"):
                shared[path] = record
        if record.is_there:
            asked.append((record, jobs[path]))
        found[path] = record
        return record

    prepared = read(model, MODEL)
    sources = [read(path, CHECKPOINT) for path in reversed((cell["checkpoint_record"], *cell["sources"])) if path != model]
    warmup = read(f"{folder}/warmup.parquet", WARMUP)
    measure = read(f"{folder}/measure.parquet", MEASURE, TOKENS)
    if measure.status == NOT_RUN:
        status, reason = why_not(found)
        measure = records.absent(MEASURE, status, reason or cell.get("left_out", ""))
    return tables.CellRecords(
        cell=cell,
        prepared=prepared,
        checkpoint=sources[-1] if sources else None,
        sources=sources[-2::-1],
        asked=asked,
        warmup=warmup,
        measure=measure,
        probe=read(cell["probe"], PROBE),
        evaluate=read(f"{folder}/evaluate.parquet", EVALUATE) if cell["evaluate"] is not None else None,
        requests=read(cell["requests"], REQUESTS) if cell["requests"] else None,
        reference=read(cell["reference"], REFERENCE, NEXT_TOKENS) if cell["reference"] else None,
        score=read(cell["score"], SCORE) if cell["score"] else None,
        again=[read(path, MEASURE, TOKENS) for path in cell["again"]],
    )


def check_writer(path: str, record: records.Record, asked: Mapping) -> None:
    """Raise RecordError for a record of another cell or run, which somebody put in this one's place; other settings make it outdated."""
    told = tables.told(record)
    for key in WHOSE:
        if told.get(key) != asked.get(key):
            whose, wanted = ("/".join(str(one[key]) for key in WHOSE if one.get(key) is not None) for one in (told, asked))
            raise records.RecordError(f"{path}: is of {whose or 'another job'}, not of {wanted}; delete it and run again")


def find(path: str, table: Table, asked: Mapping, unreadable: dict[str, None], without: Collection[str] = ()) -> records.Record:
    """A record of the job whose specification would be `asked`; that of its failure, where it is to be made anew (records.failed); or what
    stands for one that is not there. The columns `without` are left empty."""
    for at in (Path(path), records.failed(path)):
        if at.exists():
            try:
                record = records.read(at, table, without)
                check_writer(path, record, asked)
                return record
            except records.RecordError as error:
                unreadable[str(error)] = None
                return records.absent(table, FAILED, str(error))
    return records.absent(table, NOT_RUN, "")


def why_not(chain: Mapping[str, records.Record]) -> tuple[str, str]:
    """Status and reason of a cell that was not measured, by the records that come before and its own, in their order."""
    path, record = next((path, record) for path, record in chain.items() if record.status not in MEASURED)
    return record.status, record.reason or last_word(log_of(path))


def log_of(path: str) -> Path:
    """The log of the job that writes a record, as the rules name it."""
    parts = Path(path).with_suffix("").parts
    if parts[0] != "results":
        return Path("logs", *parts).with_suffix(".log")
    if parts[1] in ("checkpoints", "requests"):
        parts = ("results", "quantize" if parts[1] == "checkpoints" else parts[1], *parts[2:-1])
    return Path("logs", *parts[1:]).with_suffix(".log")


def last_word(log: Path) -> str:
    """Why a job left no record, where its log says so: it was stopped, or the machine was at fault."""
    try:
        lines = log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    said = next((line for line in reversed(lines) if LAST_WORDS.match(line)), "")
    return f"{said.partition(': ')[2]} ({log})" if said else ""


def read_replies(path: str, asked: Mapping) -> records.Record:
    """The replies of a run without their single tokens; where there are none, a row that says so."""
    return find(path, MEASURE, asked, {}, TOKENS)


def headlines(summary: list[dict]) -> list[str]:
    """One line a cell, in columns: status, name, speed and speed-up with their 95 % intervals, or the reason why there are none."""
    lines = [(row["status"], "/".join(row[axis] for axis in tables.KEYS), _figures(row)) for row in summary]
    status_width, name_width = max(map(len, STATUSES)), max((len(name) for _, name, _ in lines), default=0)
    return [f"{status:{status_width}}  {name:{name_width}}  {figures}".rstrip() for status, name, figures in lines]


def _figures(row: dict) -> str:
    if units.is_missing(row["rate"]):
        return row["reason"]
    speed, interval = units.with_interval(row["rate"], row["rate_low"], row["rate_high"])
    text = f"{speed:>7} {row['unit']}/s {f'({interval})' if interval else '':<15}"
    if units.is_missing(row["speedup"]):
        return text
    ratio, around = units.with_interval(row["speedup"], row["speedup_low"], row["speedup_high"])
    return f"{text} {ratio:>6}× {f'({around})' if around else ''}"
