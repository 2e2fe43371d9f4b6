"""Make tables and page of what is there by now: of a run that goes on, was stopped, or failed.

    ./speedgrid report [--study FILE]

Snakemake does this itself, with the Python of its environment for the report, at the end of a run that failed. Cells without a record have
the status `not_run`. BY_HAND tells Snakemake that the tables are not its own, so that its next run makes them anew.
"""

import argparse
import json
import sys
import time
from pathlib import Path

from speedgrid import planning, records
from speedgrid.progress import say
from speedgrid.report import collect, rendering
from speedgrid.schema import POINTS, RUNS, SUMMARY
from speedgrid.study import StudyError


def main() -> None:
    arguments = _parse()
    began = time.time_ns()
    try:
        grid = planning.read_grid(arguments.study)
    except StudyError as error:
        sys.exit(f"speedgrid: {error}")
    plan = json.loads(grid.as_json())
    summary, points, runs = (Path(f"results/{table.name}.parquet") for table in (SUMMARY, POINTS, RUNS))
    gathered = collect.gather(plan)
    if any(path.exists() and path.stat().st_mtime_ns > began for path in (summary, points, runs)):
        sys.exit("speedgrid: a run makes its own report right now")
    with records.replacing(planning.BY_HAND) as temporary:
        temporary.write_text(f"{arguments.study} {began}\n", encoding="utf-8")
    gathered.write(summary, points, runs)
    unreadable, compared = gathered.unreadable, None
    try:
        compared = rendering.compare_with(plan["study"]["compare_with"], summary.parent)
    except records.RecordError as error:
        unreadable.append(f"the page compares with nothing: {error}")
    try:
        rendering.write(plan, summary, points, runs, Path("results/report.html"), compared)
    except records.RecordError as error:
        sys.exit(f"speedgrid: {error}")
    for line in unreadable:
        say(f"speedgrid: {line}")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--study", required=True, type=Path, help="the study file")
    return parser.parse_args()


if __name__ == "__main__":
    main()
