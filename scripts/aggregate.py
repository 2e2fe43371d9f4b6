"""Gather what every job wrote into tables: results/summary.parquet, a row a cell; results/points.parquet, a row a cell and size;
results/runs.parquet, a row a job.

    python scripts/aggregate.py --plan results/plan.json --summary results/summary.parquet --points results/points.parquet \\
        --runs results/runs.parquet
"""

import argparse
import sys
from pathlib import Path

from speedgrid import records, sharpen
from speedgrid.report import collect


def main() -> None:
    arguments = _parse()
    try:
        plan = collect.read_plan(arguments.plan)
        gathered = collect.gather(plan)
        gathered.write(arguments.summary, arguments.points, arguments.runs)
        if not gathered.unreadable:
            collect.note_further(plan, gathered.summary, arguments.summary.with_name(Path(sharpen.FILE).name))
    except records.RecordError as error:
        sys.exit(f"speedgrid: {error}")
    if gathered.unreadable:
        # The run has failed; the page is made all the same, of all other records (make_page.py).
        sys.exit("\n".join(f"speedgrid: {line}" for line in gathered.unreadable))


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--plan", required=True, type=Path, help="results/plan.json")
    parser.add_argument("--summary", required=True, type=Path, help="table to write, a row a cell")
    parser.add_argument("--points", required=True, type=Path, help="table to write, a row a cell and size")
    parser.add_argument("--runs", required=True, type=Path, help="table to write, a row a job")
    return parser.parse_args()


if __name__ == "__main__":
    main()
