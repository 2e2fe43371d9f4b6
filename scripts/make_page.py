"""Make tables and page of the results so far, of a run that goes on, was stopped or failed; or one page of several folders of results.

    ./speedgrid report [--study FILE]
    ./speedgrid report DIR ... [--out DIR]

Snakemake does the first itself, with the Python of its environment for the report, at the end of a run that failed. Cells without a record
have the status `not_run`. BY_HAND tells Snakemake that the tables are not its own, so that its next run makes them anew.

The second writes nothing beside the results. The launcher passes their folders in an environment variable, which no shell expands.
"""

import argparse
import json
import os
import sys
import time
from dataclasses import replace
from pathlib import Path

from speedgrid import commands, files, planning, records, snakemake_seam
from speedgrid.progress import say
from speedgrid.report import collect, rendering
from speedgrid.report.together import labels, together
from speedgrid.schema import POINTS, RUNS, SUMMARY
from speedgrid.study import StudyError

PLAN = "results/plan.json"


def main() -> None:
    arguments = _parse()
    try:
        if arguments.study:
            of_study(arguments.study, arguments.plan == "keep" or (arguments.plan is None and not snakemake_seam.is_locked(Path())))
        else:
            told = json.loads(os.environ.get("SPEEDGRID_TOGETHER", "null"))
            if told is None:
                raise records.RecordError(f"name the folders of results: {commands.program()} report DIR ...")
            of_folders([Path(name) for name in told["results"]], Path(told["out"]))
    except (StudyError, records.RecordError) as error:
        say(f"speedgrid: {error}")
        sys.exit(1)


def of_study(study: Path, is_plan_kept: bool) -> None:
    """The tables and the page of a study in the working folder. Raises StudyError, and RecordError for tables that cannot be read.

    The plan is written beside the tables where `is_plan_kept`. Else the one in the folder stays: a run that goes on there makes its tables
    by it, and the study may have been edited since, or be another one.
    """
    began = time.time_ns()
    written = planning.read_grid(study).as_json()
    plan = json.loads(written)
    summary, points, runs = (Path(f"results/{table.name}.parquet") for table in (SUMMARY, POINTS, RUNS))
    gathered = collect.gather(plan)
    if any(path.exists() and path.stat().st_mtime_ns > began for path in (summary, points, runs)):
        sys.exit("speedgrid: a run makes its own report right now")
    with records.replacing(planning.BY_HAND) as temporary:
        temporary.write_text(f"{study} {began}\n", encoding="utf-8")
    gathered.write(summary, points, runs)
    if is_plan_kept or not Path(PLAN).exists():
        keep_plan(written)
    unreadable, compared = gathered.unreadable, None
    try:
        compared = rendering.compare_with(plan["study"]["compare_with"], summary.parent)
    except records.RecordError as error:
        unreadable.append(f"the page compares with nothing: {error}")
    rendering.write(rendering.read(plan, summary, points, runs), Path("results/report.html"), compared)
    for line in unreadable:
        say(f"speedgrid: {line}")


def keep_plan(written: str) -> None:
    """Write the plan of the tables beside them: `advise`, `compare` and pages of several results read both."""
    path = Path(PLAN)
    if not path.exists() or path.read_text(encoding="utf-8") != written:
        with records.replacing(path) as temporary:
            temporary.write_text(written, encoding="utf-8")


def of_folders(folders: list[Path], out: Path) -> None:
    """One page of the results in several folders, each of which may hold several, in the folder `out`. Raises RecordError for what is no
    result."""
    found = files.results_in(folders)
    told = together(list(zip(labels(found), map(rendering.read_folder, found), strict=True)))
    told = replace(told, study={**told.study, "results": [str(path) for path in folders]})
    out.mkdir(parents=True, exist_ok=True)
    rendering.write(told, out / "report.html")


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--study", type=Path, help="the study file; without one the folders of SPEEDGRID_TOGETHER")
    parser.add_argument("--plan", choices=["keep", "leave"], help=f"write the plan to {PLAN}, or not (default: not while a run goes on)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
