"""Write the plan of a study, results/plan.json: the study in words, and every cell with its files."""

import argparse
import sys
from pathlib import Path

from speedgrid import planning, records
from speedgrid.progress import say
from speedgrid.study import StudyError


def main() -> None:
    arguments = _parse()
    try:
        grid = planning.read_grid(arguments.study)
    except StudyError as error:
        sys.exit(f"speedgrid: {error}")
    with records.replacing(arguments.out) as temporary:
        temporary.write_text(grid.as_json(), encoding="utf-8")
    count = len(grid.cells)
    say(f"plan: {count:,} cell{'s' * (count != 1)} of {grid.study_file}")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--study", required=True, type=Path, help="the study file")
    parser.add_argument("--out", required=True, type=Path, help="plan to write, JSON")
    return parser.parse_args()


if __name__ == "__main__":
    main()
