"""Make the page: results/report.html, one file that opens with the network off; beside it summary.md, for a pull request, and the charts as
SVG in the folder figures.

    python scripts/render_report.py --plan results/plan.json --summary results/summary.parquet --points results/points.parquet \\
        --runs results/runs.parquet --out results/report.html

Single replies are read from the measure.parquet of every cell of the plan; template, style and script from the folder report/.
Where the study says `compare_with`, the page compares its cells with those of that folder.
"""

import argparse
import sys
from pathlib import Path

from speedgrid import records
from speedgrid.report import collect, rendering


def main() -> None:
    arguments = _parse()
    plan = collect.read_plan(arguments.plan)
    try:
        compared = rendering.compare_with(plan["study"]["compare_with"], arguments.summary.parent)
        told = rendering.read(plan, arguments.summary, arguments.points, arguments.runs)
        rendering.write(told, arguments.out, compared)
    except records.RecordError as error:
        sys.exit(f"speedgrid: {error}")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--plan", required=True, type=Path, help="results/plan.json")
    parser.add_argument("--summary", required=True, type=Path, help="results/summary.parquet")
    parser.add_argument("--points", required=True, type=Path, help="results/points.parquet")
    parser.add_argument("--runs", required=True, type=Path, help="results/runs.parquet")
    parser.add_argument("--out", required=True, type=Path, help="page to write")
    return parser.parse_args()


if __name__ == "__main__":
    main()
