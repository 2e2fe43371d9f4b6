# The grid of the study, planned and checked before any job starts; the planning itself is scripts/speedgrid/planning/. The study is
# config.yaml, or the one given with --configfile in its place. It is read there and not by `configfile:`, which would merge the two, and
# could not say in one line what is wrong with a file.
import os
import sys

# Also where these rules are a module of another workflow, whose Snakefile lies elsewhere.
SCRIPTS = (
    Path(workflow.current_basedir.get_path_or_uri(secret_free=True)).resolve().parent
    / "scripts"
)
sys.path.insert(0, str(SCRIPTS))

from speedgrid import commands, foreseen, live, planning, refresh, snakemake_seam
from speedgrid.study import StudyError

try:
    snakemake_seam.check_version()
    # How it was started, for the commands that it and its jobs print.
    os.environ.update(snakemake_seam.Run(workflow).noted())
    grid = planning.plan_run(config, workflow)
except (StudyError, snakemake_seam.UntriedVersion) as error:
    commands.refuse(error)


# Environment variables of every job. They are no part of what makes a result: a new time budget, or a clone that was moved, reruns nothing.
os.environ.update(grid.job_variables() | {"SPEEDGRID_SCRIPTS": str(SCRIPTS)})


planning.take_back_failures(grid, workflow)
snakemake_seam.skip_what_is_not_shown(workflow)
snakemake_seam.look_after(workflow)
snakemake_seam.ask_results(workflow, grid.kept.changed)


live.planned.is_asked = lambda: snakemake_seam.Run(workflow).is_dry_run
page = refresh.Page.of(grid, workflow)


# What it will take: said before the first job, and after all else in a dry run, whose list of jobs is long.
def say_what_is_left():
    for line in foreseen.said(grid):
        print(line, file=sys.stderr)


# Snakemake knows only after it has read the rules whether this is a dry run.
def say_at_the_end_of_a_dry_run():
    if snakemake_seam.Run(workflow).is_dry_run:
        say_what_is_left()


# Where all results are there already, no job starts, and what is checked before the first job has to be checked here.
def refuse_results_of_another_device():
    run = snakemake_seam.Run(workflow)
    if run.found_nothing_to_do and (line := planning.of_another_device(grid, workflow)):
        print(f"speedgrid: {line}", file=sys.stderr)
        snakemake_seam.exit_at_the_end(commands.MISTAKE)


# A run without any figure has failed, also when nothing is left to run.
def fail_where_nothing_was_measured():
    run = snakemake_seam.Run(workflow)
    if (
        run.found_nothing_to_do
        and run.comes_to("report")
        and (line := planning.nothing_measured())
    ):
        print(f"speedgrid: {line}", file=sys.stderr)
        snakemake_seam.exit_at_the_end(1)


if snakemake_seam.Run(workflow).is_main:
    snakemake_seam.at_the_end(say_at_the_end_of_a_dry_run)
    # The last one is the first to be done.
    snakemake_seam.at_the_end(fail_where_nothing_was_measured)
    snakemake_seam.at_the_end(refuse_results_of_another_device)


# What only the machine can tell is checked when jobs are about to start, not in a dry run.
def before_the_first_job():
    snakemake_seam.keep_quiet(workflow)
    live.follow(grid.cells, planning.stays(grid))
    snakemake_seam.between_jobs(workflow, page.look)
    planning.keep_further(grid)
    try:
        planning.check_machine(grid, workflow)
    except StudyError as error:
        commands.refuse(error)
    say_what_is_left()


# A job that failed leaves a row, so that all others run; the run as a whole has failed.
def after_the_last_job():
    page.is_over()
    more, forced = planning.is_more_wanted(grid), snakemake_seam.is_forced(workflow)
    if more:
        when = " come with the next run without -F, -f and -R" if forced else ""
        print(
            f"speedgrid: further runs of what is open (`runs: auto`){when}",
            file=sys.stderr,
        )
    # Started anew, a command that forces jobs would do them all again.
    if more and not forced:
        planning.leave_failures()
        snakemake_seam.again_at_the_end()
        return
    try:
        planning.end(grid, snakemake_seam.Run(workflow))
    except StudyError as error:
        sys.exit(f"speedgrid: {error}")
    if snakemake_seam.Run(workflow).comes_to("report"):
        if line := planning.nothing_measured():
            sys.exit(f"speedgrid: {line}")
        print(f"speedgrid: {planning.where_it_is()}", file=sys.stderr)


# A run that was stopped or failed leaves a page, too, of all that was measured by then.
def after_a_failure():
    try:
        planning.make_page(
            grid.study_file,
            snakemake_seam.Run(workflow),
            quietly=live.stop.is_asked,
        )
    except StudyError as error:
        print(f"speedgrid: {error}", file=sys.stderr)


# `onstart:` and its like would not do: Snakemake ignores them where these rules are a module.
snakemake_seam.also(workflow, "onstart", before_the_first_job)
snakemake_seam.also(workflow, "onsuccess", after_the_last_job)
snakemake_seam.also(workflow, "onerror", after_a_failure)


wildcard_constraints:
    gpu=grid.pattern("gpu"),
    experiment=grid.pattern("experiment"),
    model=grid.pattern("model"),
    technique=grid.pattern("technique"),
    run="[0-9]+",
    dtype="float32|float16|bfloat16",
