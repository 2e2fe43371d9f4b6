"""Around a run of Snakemake: the plan that it starts from, what earlier runs left, and what comes after its last job."""

import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from speedgrid import commands, fingerprint, job_shell, notes, records, schema, sharpen
from speedgrid.grid import repeated
from speedgrid.planning import choice
from speedgrid.planning.choice import PAGE_ONLY
from speedgrid.planning.grid import Grid
from speedgrid.planning.load import ROOT, default_study, passed_over, read_grid
from speedgrid.sharpen import Further
from speedgrid.snakemake_seam import Module, Run, spare_work
from speedgrid.study import StudyError, check_nodes, read

# Written with tables and page that were not made by their rules but by hand (scripts/make_page.py).
BY_HAND = "results/.made-by-hand"
# Set for a run that takes the place of another.
GOES_ON = "SPEEDGRID_GOES_ON"
# How many files the last line of a run with failures names.
FAILURES_NAMED = 6
# A row for each cell.
SUMMARY = "results/summary.parquet"
PLANNED = str(notes.PLANNED)


def plan_run(config: Mapping, workflow) -> Grid:
    """Plan the study given with --configfile, else config.yaml. Raises StudyError with one line for whoever wrote it."""
    spare_work()
    grid = read_grid(_asked_for(config, Run(workflow)), workflow)
    if Run(workflow).is_main and commands.CLUSTER in os.environ and PAGE_ONLY not in os.environ:
        # Here already, before gigabytes of environments are made; without the launcher before the first job (check_machine).
        check_nodes(grid.study, repeated(grid.cells), grid.study_file)
    if Run(workflow).is_main and PAGE_ONLY not in os.environ:
        _note_plan(grid)
    return grid


def _asked_for(config: Mapping, run: Run) -> str | Path:
    """The study file that a run is about. Raises StudyError."""
    given = run.study_files
    if module := run.module:
        return _asked_by_another(config, module, given)
    if len(given) > 1:
        raise StudyError("give one study with --configfile; several would be merged into something that no file holds")
    if config != (read(Path(given[0]), given[0]) if given else {}):
        raise StudyError("--config changes the study; write it into a study file instead, which is recorded with the results")
    if not given and run.is_main and GOES_ON not in os.environ and (line := passed_over()):
        print(line, file=sys.stderr)
    return given[0] if given else default_study()


def _asked_by_another(config: Mapping, module: Module, given: list) -> str:
    """The study file that a workflow names which has these rules as a module. Raises StudyError.

    It has to name one: the file config.yaml beside its Snakefile is that workflow's own.
    """
    if key := module.moves_paths:
        raise StudyError(f"{module} takes no `{key}:`; speedgrid's files lie in the working folder (--directory)")
    if other := module.another():
        raise StudyError(
            f"{module} is speedgrid a second time, after `module {other}:`, and a folder holds the results of one study; put both into one"
            " study, or run each by a Snakemake of its own with another --directory"
        )
    if set(config) == {"study_file"}:
        return str(config["study_file"])
    # A workflow that hands on the study it was given.
    if "experiments" in config and len(given) == 1 and config == read(Path(given[0]), given[0]):
        return given[0]
    raise StudyError(
        f"{module} {'has a `config:` that is more than the name of a study' if config else 'names no study'}; write"
        " config: {'study_file': 'path/to/study.yaml'} there, or"
        ' config: config["speedgrid"] where the workflow\'s own configuration has `speedgrid: {study_file: ...}`'
    )


def _note_plan(grid: Grid) -> None:
    """Have the plan written anew, and the tables and the page after it, where the one that is there is another.

    By a file that is newer than the plan, so that Snakemake sees it whatever it remembers of earlier runs.
    """
    noted, there = Path(PLANNED), Path("results/plan.json")
    if noted.exists() and there.exists() and there.read_bytes() == grid.as_json().encode():
        # A dry run of another study may have noted another plan meanwhile.
        os.utime(noted, ns=(min(noted.stat().st_mtime_ns, there.stat().st_mtime_ns),) * 2)
    elif not noted.exists() or there.exists():
        with records.replacing(noted) as temporary:
            temporary.write_text(f"The plan was another than that of results/plan.json at {time.time_ns()} ns\n")


def code(script: str) -> str:
    """The fingerprint of what a script of scripts/ does, as a parameter of its rule: an edit that changes it runs the jobs again.

    As inputs the same files, two dozen for each job, were a fifth of the work of planning a large grid.
    """
    return fingerprint.of(script)


def made_by_hand() -> str:
    """Which tables and page were last made by hand: a parameter of the rule that makes them, which lets it make them anew."""
    return Path(BY_HAND).read_text(encoding="utf-8") if Path(BY_HAND).is_file() else ""


def take_back_failures(grid: Grid, workflow) -> None:
    """Let what failed in an earlier run be done again: take its results away, of which their twins are kept for the page.

    Not while another run is going on, whose jobs read these files: Snakemake has its lock then. Not in the jobs of a run itself, not where
    a run goes on with further runs of what is open, and not for a page by hand, beside which one may be between two such passes.
    """
    run = Run(workflow)
    if os.environ.pop(GOES_ON, "") or PAGE_ONLY in os.environ:
        return
    if run.is_main and not run.is_another_going_on:
        for path in grid.failures():
            Path(path).unlink(missing_ok=True)


def stays(grid: Grid) -> Callable[[str], bool]:
    """Whether a record is there, would be made as it is today, and is none that this run makes anew, by the plan as it is now."""
    is_to_be_made = grid.to_make()
    return lambda record: not is_to_be_made(record) and grid.kept.stands(record)


def leave_failures() -> None:
    """Let the run that takes this one's place not try again what has failed in this one."""
    os.environ[GOES_ON] = "1"


def keep_further(grid: Grid) -> None:
    """Before the first job: write down the runs that this one adds (`--sharpen`), which the next one must know, and what it leaves out."""
    choice.keep(grid)
    if os.environ.pop(sharpen.VARIABLE, "") and grid.further.wanted:
        with records.replacing(Path(sharpen.FILE)) as temporary:
            temporary.write_text(grid.further.as_json(), encoding="utf-8")


def is_more_wanted(grid: Grid) -> bool:
    """Whether the last look at the results wants runs that this plan does not have; none in a run of so many minutes, which are used up."""
    if choice.VARIABLE in os.environ:
        return False
    wanted, had = Further.read(Path(sharpen.FILE)).wanted, {cell.folder: cell.further for cell in grid.cells if cell.further is not None}
    return any(count > had[folder] for folder, count in wanted.items() if folder in had)


def end(grid: Grid, run: Run) -> None:
    """After the last job: whether all is well. Raises StudyError with a line that names what failed; by its logs where the run was not to
    come to a report, which says why."""
    failed, has_report = grid.failures(), run.comes_to("report")
    if failed:
        failed = failed if has_report else run.logs_of(failed)
        named = ", ".join(failed[:FAILURES_NAMED]) + (f" and {len(failed) - FAILURES_NAMED:,} more" if len(failed) > FAILURES_NAMED else "")
        jobs = "1 job" if len(failed) == 1 else f"{len(failed):,} jobs"
        why = "the report says why, all" if has_report else f"the {'log says' if len(failed) == 1 else 'logs say'} why, all"
        raise StudyError(f"{jobs} failed; {why} others are done, and the next run tries again: {named}")


def nothing_measured() -> str:
    """Of a run whose tables are there: that none of its cells has figures, with the reason that most of them give; empty where one has."""
    try:
        rows = records.read(Path(SUMMARY), schema.SUMMARY).rows
    except (records.RecordError, OSError):
        return ""  # told where the tables are made and read
    if not rows or any(row["status"] in schema.MEASURED for row in rows):
        return ""
    reasons = Counter(map(_why, rows))
    reason, count = reasons.most_common(1)[0]
    cells = "the one cell has no figure" if len(rows) == 1 else f"none of the {len(rows)} cells has a figure"
    whose = "" if count == len(rows) else f" in {count} of them"
    return f"nothing was measured: {cells} ({reason}{whose}); results/report.html has the reason of each"


def _why(row: Mapping) -> str:
    """Why a cell has no figures, in words. The reason of one that was not run, such as that its settings are others by now, says it all."""
    if row["status"] == schema.NOT_RUN and row["reason"]:
        return row["reason"]
    return f"{schema.STATUSES[row['status']]}: {row['reason']}".removesuffix(": ")


def where_it_is() -> str:
    """The last line of a run that has its page."""
    return f"the page is results/report.html; {commands.program()} advise answers for your own limits"


def make_page(study_file: str, run: Run, quietly: bool = False) -> None:
    """Of a run that was to end in a report, and failed, was stopped or goes on: make it of what there is, with its environment; `quietly`
    where it says nothing of the cells, and a Ctrl-C is for the run.

    Raises StudyError with a line that says why there is none.
    """
    python, advice = run.python_of("report"), f"; {commands.to_page(study_file)} makes one"
    if python is None:
        return
    if not python.exists():
        raise StudyError(f"there is no report of what was measured: its environment {python.parents[1]} has not been made{advice}")
    log = Path("logs/report.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    # As the rules do it: all output goes to the log, and descriptor 3 is the terminal.
    spoken = "3> /dev/null" if quietly else "3>&2"
    line = ["bash", "-c", f'exec "$@" {spoken} > "$0" 2>&1', str(log), str(python), str(ROOT / "scripts/make_page.py")]
    # As a job's shell says it, so that the plan is that of the run: what the machine lacks for an environment is a part of it.
    told = {job_shell.ENVIRONMENT: str(python.parents[1])} if run.uses_environments else {}
    try:
        status = subprocess.run(
            [*line, "--study", study_file, "--plan", "leave" if quietly else "keep"], env={**os.environ, **told}
        ).returncode
    except KeyboardInterrupt:
        if quietly:
            raise
        status = 130
    if status:
        raise StudyError(f"there is no report of what was measured (see {log}){advice}")
