"""Gather what every job wrote into tables: results/summary.parquet, a row a cell; results/points.parquet, a row a cell and size;
results/runs.parquet, a row a job.

    python scripts/aggregate.py --plan results/plan.json --summary results/summary.parquet --points results/points.parquet \\
        --runs results/runs.parquet

The plan is JSON with the study, its cells and the jobs that they share (planning.Grid.as_json); paths in it are relative to the current
folder.
"""

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from speedgrid import records
from speedgrid.progress import say
from speedgrid.report import tables, units, work
from speedgrid.schema import (
    CHECKPOINT,
    EVALUATE,
    MEASURE,
    MODEL,
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

# What a job is told that says whose result it writes.
WHOSE = ("gpu", "experiment", "model", "technique", "run")


def main() -> None:
    arguments = _parse()
    try:
        plan = read_plan(arguments.plan)
        cells = [read_cell(cell, plan["jobs"]) for cell in plan["cells"]]
        summary = tables.summary_rows(cells)
        study = {"study": plan["study"]["name"], "study_sha256": plan["study"]["study_sha256"]}
        records.write(arguments.summary, SUMMARY, summary)
        records.write(arguments.points, POINTS, work.point_rows(cells))
        records.write(arguments.runs, RUNS, [study | row for row in tables.run_rows(cells)])
    except records.RecordError as error:
        sys.exit(f"speedgrid: {error}")
    for line in headlines(summary):
        say(line)


def read_plan(path: Path) -> dict:
    """The plan: `study`, what the page says of it, `cells` with their files, in order, and `jobs` by the record that they write."""
    return json.loads(path.read_text(encoding="utf-8"))


def read_cell(cell: dict, jobs: Mapping[str, Mapping]) -> tables.CellRecords:
    """Read the records of one cell of the grid, for each of which `jobs` has what its job would be told now. Raises RecordError for a file
    that is missing or damaged, or that another job wrote."""
    folder, model, asked = cell["folder"], cell["model_record"], []

    def read(path: str, table: Table, lighter: Callable = lambda record: record) -> records.Record:
        record = lighter(records.read(path, table))
        check_writer(path, record, jobs[path])
        asked.append((record, jobs[path]))
        return record

    checkpoints = [read(path, CHECKPOINT) for path in (cell["checkpoint_record"], *cell["sources"]) if path != model]
    return tables.CellRecords(
        cell=cell,
        prepared=read(model, MODEL),
        checkpoint=checkpoints[0] if checkpoints else None,
        sources=checkpoints[1:],
        asked=asked,
        warmup=read(f"{folder}/warmup.parquet", WARMUP),
        measure=read(f"{folder}/measure.parquet", MEASURE, without_tokens),
        probe=read(cell["probe"], PROBE),
        evaluate=read(f"{folder}/evaluate.parquet", EVALUATE) if cell["evaluate"] is not None else None,
        requests=read(cell["requests"], REQUESTS) if cell["requests"] else None,
        reference=read(cell["reference"], REFERENCE, without_tables) if cell["reference"] else None,
        score=read(cell["score"], SCORE) if cell["score"] else None,
        again=[read(path, MEASURE, without_tokens) for path in cell["again"]],
    )


def check_writer(path: str, record: records.Record, asked: Mapping) -> None:
    """Raise RecordError for a record of another cell or run, which somebody put in this one's place; other settings make it outdated."""
    told = tables.told(record)
    for key in WHOSE:
        if told.get(key) != asked.get(key):
            whose, wanted = ("/".join(str(one[key]) for key in WHOSE if one.get(key) is not None) for one in (told, asked))
            raise records.RecordError(f"{path}: is of {whose or 'another job'}, not of {wanted}; delete it and run again")


def read_replies(path: Path) -> records.Record:
    """A cell's replies without their single tokens."""
    return without_tokens(records.read(path, MEASURE))


def without_tokens(record: records.Record) -> records.Record:
    """Replies without their single tokens, of which a large grid has millions and the report uses none."""
    return records.Record([{name: row[name] for name in row if name not in ("token_s", "token_ids")} for row in record.rows], record.facts)


def without_tables(record: records.Record) -> records.Record:
    """A reference without its next tokens, which are millions of numbers, and no figures."""
    kept = ("status", "reason")
    return records.Record([{name: row[name] for name in kept} for row in record.rows], record.facts)


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


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--plan", required=True, type=Path, help="results/plan.json")
    parser.add_argument("--summary", required=True, type=Path, help="table to write, a row a cell")
    parser.add_argument("--points", required=True, type=Path, help="table to write, a row a cell and size")
    parser.add_argument("--runs", required=True, type=Path, help="table to write, a row a job")
    return parser.parse_args()


if __name__ == "__main__":
    main()
