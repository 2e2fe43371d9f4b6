"""A run that is killed, stopped, started twice, or finds damaged results: finished cells keep every byte, and a rerun does the rest."""

import os
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import working_copy
import yaml
from place import CELL, is_alive, kill_session, set_up_launcher, wait_for
from speedgrid import planning, records, schema
from speedgrid.schema import MEASURE, SCHEMA_VERSION
from speedgrid.study import StudyError

MEASURED = f"{CELL}/measure.parquet"
SUMMARY = "results/summary.parquet"


def complete(project, others: dict[str, bytes], *targets: str) -> None:
    """Run again, as the launcher does it, and see that what was missing is made and everything else is as it was."""
    done = launch(project, *targets)
    assert done.returncode == 0, done.stdout
    results = project.results()
    changed = [name for name in others if results.get(name) != others[name]]
    assert changed == [], done.stdout
    assert {MEASURED, *targets} <= set(results)
    assert records.read(project.folder / MEASURED, MEASURE).status == "ok"


def launch(project, *more: str, **variables: str) -> subprocess.CompletedProcess:
    """The launcher, with jobs that take the first Python on PATH; its own environment is the one of the tests."""
    return subprocess.run(
        [sys.executable, "speedgrid", *(ARGUMENTS if more and more[0][0] != "-" else ARGUMENTS[:-1]), *more],
        cwd=project.folder,
        env=project.environ(**variables),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


ARGUMENTS = ["run", "--study", "study.yaml", "--no-conda", "--"]


@pytest.fixture(autouse=True)
def environment_of_the_launcher(project):
    set_up_launcher(project.folder)


def start(project, *targets: str, **variables: str) -> subprocess.Popen:
    said = open(project.folder / "said.txt", "w")  # noqa: SIM115 - it belongs to the process
    command = [sys.executable, "speedgrid", *ARGUMENTS, *targets]
    return subprocess.Popen(command, cwd=project.folder, env=project.environ(**variables), stdout=said, stderr=said, start_new_session=True)


def test_the_launcher_or_snakemake_is_killed(project):
    """They are one process. Its job stops too: a job that nobody waits for would disturb those of the next run, which waits for its end."""
    others = project.forget(MEASURED)
    with open(project.folder / "site" / "sitecustomize.py", "a") as site:
        site.write(SLOW_TO_END)
    process = start(project, MEASURED, SPEEDGRID_FAULT="measure 3 hang")
    try:
        working = project.await_fault(process)
        process.kill()
        process.wait()
        wait_for(lambda: not is_alive(working))
        kept = {f"{CELL}/measure.interrupted.parquet"}
        wait_for(lambda: set(project.results()) - set(others) == kept)
        following = start(project, MEASURED)
        wait_for(lambda: following.poll() is not None or "waiting for its jobs to end" in (project.folder / "said.txt").read_text())
        assert following.poll() is None, (project.folder / "said.txt").read_text()
    finally:
        (project.folder / "may end").touch()
    assert following.wait(120) == 0, (project.folder / "said.txt").read_text()
    assert {name: content for name, content in project.results().items() if name != MEASURED} == others
    assert records.read(project.folder / MEASURED, MEASURE).status == "ok"


# The process that watches a job ends when the test lets it.
SLOW_TO_END = """
import atexit, os, time
def wait(watching=os.getpid()):
    while os.getpid() == watching and not os.path.exists("may end"):
        time.sleep(0.05)
if any(word.endswith("measure.py") for word in sys.orig_argv):
    atexit.register(wait)
"""


def test_a_job_is_killed(project):
    others = project.forget(MEASURED)
    process = start(project, MEASURED, SPEEDGRID_FAULT="measure 3 hang")
    os.kill(project.await_fault(process), signal.SIGKILL)
    assert process.wait(60) != 0
    assert "failed: ended by SIGKILL while counting replies" in (project.folder / "said.txt").read_text()
    assert project.results() == others
    complete(project, others, MEASURED)


def test_a_bug_in_one_cell_stops_no_other_and_is_tried_again(project):
    """The checkpoint of one technique cannot be made. The run fails, and its page is there, with every other cell."""
    whole = "results/cpu/e/chain/made"
    shutil.rmtree(project.folder / "results")
    done = launch(project, "all", SPEEDGRID_FAULT="quantize make bug")
    assert done.returncode == 1
    lines = done.stdout.splitlines()
    assert "quantize chain/made: failed: IndexError: index 7 is out of range for a list of 7, while making the checkpoint" in done.stdout
    last = [line for line in lines if line.startswith("speedgrid: ")][-1]
    assert " jobs failed; the report says why, all others are done, and the next run tries again: " in last
    assert "Traceback" not in done.stdout
    made, plain = sorted(summary(project), key=lambda row: row["technique"])
    assert (made["status"], made["rate"]) == ("failed", None)
    assert made["reason"].endswith("while making the checkpoint; see logs/quantize/chain/made/bfloat16.log")
    assert plain["status"] == "ok"
    assert min(plain["rate"], plain["bits_per_byte"]) > 0
    assert plain["runs"] > 1, "the baseline did not run again"
    assert made["reason"].partition(";")[0] in (project.folder / "results/report.html").read_text()
    project.at.unlink()
    others = {name: data for name, data in project.results().items() if name.startswith("models/") or name == f"{CELL}/warmup.parquet"}
    again = launch(project, "all")
    assert again.returncode == 0, again.stdout
    assert {name: project.results()[name] for name in others} == others
    assert [row["status"] for row in summary(project)] == ["ok", "ok"]
    assert not list((project.folder / "results").rglob("*.failed.parquet"))
    assert f"{whole}/measure.parquet" in project.results()


def test_what_fails_in_a_run_without_a_report_is_told_by_its_log(project):
    """It was said that the report tells why, and none was made."""
    target = "results/checkpoints/chain/made/bfloat16/quantize.parquet"
    others = project.forget(target)
    done = launch(project, target, SPEEDGRID_FAULT="quantize make bug")
    assert done.returncode == 1, done.stdout
    log = "logs/quantize/chain/made/bfloat16.log"
    said = f"speedgrid: 1 job failed; the log says why, all others are done, and the next run tries again: {log}"
    assert [line for line in done.stdout.splitlines() if line.startswith("speedgrid: ")][-1] == said
    assert "IndexError: index 7 is out of range" in (project.folder / log).read_text()
    project.at.unlink()
    complete(project, {name: others[name] for name in others if name.startswith("models/")}, target)


def test_there_is_a_page_while_a_run_goes_on_and_after_it_was_stopped(project):
    """By hand while a job is at work, without a lock; by itself when everything was asked to stop. The next run makes its own of all."""
    project.forget(MEASURED)
    process = start(project, "all", SPEEDGRID_FAULT="measure 3 hang")
    working = project.await_fault(process)
    by_hand = launch_report(project)
    assert by_hand.returncode == 0, by_hand.stdout
    assert "results/report.html: " in by_hand.stdout
    assert statuses(project) == {"plain": ("not_run", ""), "made": ("ok", "")}
    assert "1 of 2 cells measured" in page(project)
    assert is_alive(working)
    assert process.poll() is None
    (project.folder / "results/report.html").unlink()
    kill_session(process, signal.SIGTERM)
    assert process.wait(60) == 143
    lines = (project.folder / "said.txt").read_text().splitlines()
    assert lines[-1].startswith("speedgrid: stopped; "), lines
    assert not any("Error in rule" in line for line in lines), lines
    reason = "stopped by SIGTERM while counting replies; 2 rows are kept in results/cpu/e/chain/plain/measure.interrupted.parquet"
    assert statuses(project)["plain"] == ("not_run", f"{reason} (logs/cpu/e/chain/plain/measure.log)")
    assert "stopped by SIGTERM while counting replies" in page(project)
    project.at.unlink()
    done = launch(project, "all")
    assert done.returncode == 0, done.stdout
    assert statuses(project) == {"plain": ("ok", ""), "made": ("ok", "")}
    assert "2 of 2 cells measured" in page(project)
    again = launch(project, "-n", "all")
    assert "Nothing to be done" in again.stdout


def test_a_page_shows_a_damaged_record_and_every_other_cell(project):
    damage(project, "truncated")
    done = launch(project, "--forcerun", "aggregate", "--", "all")
    assert done.returncode == 1
    assert f"speedgrid: {MEASURED}: was damaged or changed after it was written" in done.stdout
    told = statuses(project)
    assert told["made"] == ("ok", "")
    assert told["plain"][0] == "failed"
    assert told["plain"][1].startswith(f"{MEASURED}: was damaged or changed after it was written")
    assert "1 of 2 cells measured" in page(project)


def test_without_the_environment_of_the_report_the_run_says_so(tmp_path):
    """A run that failed before any environment was made."""
    run = SimpleNamespace(python_of=lambda rule: tmp_path / "env/bin/python" if rule == "report" else None)
    with pytest.raises(
        StudyError, match=r"its environment .*/env has not been made; ./speedgrid report --study study.yaml makes one"
    ) as caught:
        planning.make_page("study.yaml", run)
    assert "\n" not in str(caught.value)


def launch_report(project) -> subprocess.CompletedProcess:
    command = [sys.executable, "speedgrid", "report", "--study", "study.yaml", "--no-conda"]
    return subprocess.run(command, cwd=project.folder, env=project.environ(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def statuses(project) -> dict[str, tuple[str, str]]:
    return {row["technique"]: (row["status"], row["reason"]) for row in summary(project)}


def page(project) -> str:
    return (project.folder / "results/report.html").read_text()


def summary(project) -> list[dict]:
    return records.read(project.folder / SUMMARY, schema.SUMMARY).rows


def test_everything_is_asked_to_stop(project):
    """As a cluster or a service manager does it: every process of the run gets SIGTERM."""
    others = project.forget(MEASURED)
    process = start(project, MEASURED, SPEEDGRID_FAULT="measure 3 hang")
    working = project.await_fault(process)
    kill_session(process, signal.SIGTERM)
    process.wait(60)
    wait_for(lambda: not is_alive(working))
    partial = project.folder / CELL / "measure.interrupted.parquet"
    wait_for(partial.exists)
    assert records.read(partial, MEASURE).status == "interrupted"
    assert {name: content for name, content in project.results().items() if "interrupted" not in name} == others
    complete(project, others, MEASURED)
    assert not partial.exists()


def test_a_second_run_in_the_same_folder_is_refused_and_harms_nothing(project):
    others = project.forget(MEASURED)
    first = start(project, MEASURED, SPEEDGRID_FAULT="measure 3 hang")
    working = project.await_fault(first)
    second = launch(project, MEASURED)
    assert second.returncode != 0
    assert second.stdout.splitlines()[-1].startswith("speedgrid: another run is going on in this folder (process ")
    assert is_alive(working)
    kill_session(first)
    first.wait()
    wait_for(lambda: not is_alive(working))
    complete(project, others, MEASURED)


def damage(project, kind: str) -> None:
    path = project.folder / MEASURED
    stamp = path.stat()
    if kind == "truncated":
        path.write_bytes(path.read_bytes()[:-100])
    elif kind == "foreign":
        pq.write_table(pa.table({"a": [1]}), path)
    elif kind == "of another table":
        shutil.copyfile(project.folder / CELL / "warmup.parquet", path)
    elif kind == "no Parquet":
        path.write_text("<html>quota exceeded</html>")
    os.utime(path, ns=(stamp.st_atime_ns, stamp.st_mtime_ns))


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("truncated", f"{MEASURED}: was damaged or changed after it was written"),
        ("foreign", f"{MEASURED}: was not written by speedgrid"),
        ("no Parquet", f"{MEASURED}: not a readable Parquet file"),
    ],
)
def test_a_damaged_result_is_named_and_nothing_else_is_touched(project, kind, said):
    others = {name: data for name, data in project.forget().items() if name != MEASURED}
    damage(project, kind)
    done = project.snakemake(SUMMARY)
    assert done.returncode != 0
    lines = {line.strip() for line in (done.stdout + done.stderr).splitlines() if said in line}
    assert lines, done.stdout + done.stderr
    assert all("delete it" in line for line in lines)
    assert "Traceback" not in done.stdout + done.stderr
    assert {name: data for name, data in project.results().items() if name != MEASURED} == others
    if kind == "truncated":
        (project.folder / MEASURED).unlink()
        # What comes after it is made again, in the same cell and in the scores of its group; every other cell is as it was.
        score = f"{CELL.rpartition('/')[0]}/score.parquet"
        after = {name for name in others if name.startswith((f"{CELL}/measure-", f"{CELL}/evaluate", score))}
        complete(project, {name: data for name, data in others.items() if name not in after}, SUMMARY)


def test_a_result_of_another_job_in_the_place_of_one_is_made_anew(project):
    """It says itself what it was made by."""
    others = project.forget()
    damage(project, "of another table")
    done = project.snakemake(SUMMARY)
    assert done.returncode == 0, done.stdout + done.stderr
    assert records.read(project.folder / MEASURED, MEASURE).status == "ok"
    untouched = {name for name in others if name.endswith(("warmup.parquet", "quantize.parquet", "prepared.parquet"))}
    assert untouched
    assert {name: data for name, data in project.results().items() if name in untouched} == {name: others[name] for name in untouched}


def test_results_of_an_older_version_of_the_tables_are_made_again(project):
    """The version is a part of what every job is told, so its results are planned again, also where Snakemake's memory of the folder is
    gone; nobody reads the old ones as if they were new."""
    schema = project.folder / "scripts/speedgrid/schema.py"
    text, now = schema.read_text(), f"SCHEMA_VERSION = {SCHEMA_VERSION}"
    assert now in text
    schema.write_text(text.replace(now, f"SCHEMA_VERSION = {SCHEMA_VERSION + 1}"))
    again = {"prepare_model": 1, "quantize": 1, "warmup": 2, "measure": 2, "evaluate": 2}
    for _ in range(2):
        jobs = working_copy.planned_jobs(working_copy.snakemake(project.folder, "-n", *project.arguments()[:-1]))
        assert {rule: jobs[rule] for rule in again} == again
        shutil.rmtree(project.folder / ".snakemake" / "metadata", ignore_errors=True)


def test_a_job_whose_environment_is_damaged_says_so_and_harms_nothing(project):
    """What every result is written with cannot be loaded any more."""
    others = project.forget(MEASURED)
    damaged = project.folder / "site" / "pyarrow" / "__init__.py"
    damaged.parent.mkdir()
    damaged.write_text('raise ImportError("libarrow.so.99: cannot open shared object file")')
    done = launch(project, MEASURED)
    assert done.returncode != 0
    assert f"the environment {sys.prefix} does not work (libarrow.so.99: cannot open shared object file)" in done.stdout
    assert "if it is damaged, delete it and run again" in done.stdout
    assert project.results() == others
    shutil.rmtree(damaged.parent)
    complete(project, others, MEASURED)


def test_ctrl_c_is_one_line_and_there_is_a_page(project):
    """Every process of the terminal gets SIGINT. It showed a block of Snakemake for the job, its errors, and ended with 1."""
    others = project.forget(MEASURED)
    process = start(project, "all", SPEEDGRID_FAULT="measure 3 hang")
    working = project.await_fault(process)
    kill_session(process, signal.SIGINT)
    said = project.folder / "said.txt"
    assert process.wait(60) == 130, said.read_text()
    wait_for(lambda: not is_alive(working))
    lines = said.read_text().splitlines()
    at = next(number for number, line in enumerate(lines) if line.startswith("speedgrid: stopped; "))
    assert lines[at].endswith(
        " steps are done and kept, and the same command goes on from there; results/report.html will show what was measured"
    )
    assert lines[at + 1 :] == []
    assert not any("Error in rule" in line or "stopped by SIGINT" in line for line in lines)
    assert "1 of 2 cells measured" in page(project)
    assert "stopped by SIGINT while counting replies; 2 rows are kept" in statuses(project)["plain"][1]
    project.at.unlink()
    complete(project, {name: content for name, content in others.items() if name.startswith("models/")}, MEASURED)


def test_a_run_in_which_nothing_can_be_measured_fails_each_time(project):
    """It ended with 0, and where it was run before with `Nothing to be done`."""
    study = yaml.safe_load((project.folder / "study.yaml").read_text())
    study["experiments"]["e"] |= {"techniques": ["flash_attn"], "baseline": "flash_attn"}
    (project.folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    for _ in range(2):
        done = launch(project, "all")
        assert done.returncode == 1, done.stdout
        last = done.stdout.splitlines()[-1]
        assert last.startswith("speedgrid: nothing was measured: the one cell has no figure ("), done.stdout
        assert last.endswith("); results/report.html has the reason of each")
