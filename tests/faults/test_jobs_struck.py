"""A job that is killed, stopped, starved or stuck: what it leaves, what it says, and that it can be run again."""

import json
import os
import shlex
import signal
import subprocess

import pytest
from place import CELL, is_alive, wait_for
from speedgrid import records
from speedgrid.schema import CHECKPOINT, EVALUATE, MEASURE, MODEL

MEASURED, PARTIAL = f"{CELL}/measure.parquet", f"{CELL}/measure.interrupted.parquet"
TWIN = f"{CELL}/measure.failed.parquet"
MADE = "results/checkpoints/chain/made/bfloat16"


def measured(project) -> records.Record:
    return records.read(project.folder / MEASURED, MEASURE)


def temporaries(project) -> list[str]:
    """Hidden files that do not belong there; the mark of a checkpoint that speedgrid made (checkpoints.py) does."""
    hidden = (project.folder / "results").rglob(".*")
    return [path.name for path in hidden if path.name != ".snakemake_timestamp" and path.suffix != ".speedgrid"]


@pytest.mark.parametrize(("script", "place"), [("warmup", "load"), ("measure", "3"), ("evaluate_quality", "load")])
def test_killed_a_job_leaves_nothing_and_can_be_run_again(project, script, place):
    target = f"{CELL}/{script.partition('_')[0]}.parquet"
    others = project.forget(target)
    process = project.start_job(script, target, SPEEDGRID_FAULT=f"{script} {place} hang")
    working = project.await_fault(process)
    process.kill()
    process.communicate()
    wait_for(lambda: not is_alive(working))
    assert project.results() == others
    assert temporaries(project) == []
    assert project.job(script, target).returncode == 0
    assert set(project.results()) == {*others, target}


def test_killed_in_the_final_write_it_leaves_no_half_of_a_file(project):
    """Stopped before it can rename what it has written, which is where a kill would hurt most."""
    others = project.forget(MEASURED)
    site = project.folder / "site" / "sitecustomize.py"
    before, hook = site.read_text(), "import os\nos.replace = lambda *_: os.kill(os.getpid(), 9)\n"
    site.write_text(before + hook)
    done = project.job("measure", MEASURED)
    assert done.returncode == 128 + signal.SIGKILL
    assert "failed: ended by SIGKILL while writing the result" in done.stdout
    assert project.results() == others
    site.write_text(before)
    assert project.job("measure", MEASURED).returncode == 0
    assert len(measured(project).rows) == 5


@pytest.mark.parametrize(
    ("kind", "counted", "reason"),
    [
        ("crash", 0, "the process was ended by SIGSEGV while counting replies"),
        ("bug", 1, "IndexError: index 7 is out of range for a list of 7, while counting replies"),
        ("panic", 1, "PanicException: called `Option::unwrap()` on a `None` value, while counting replies"),
        ("exit", 1, "SystemExit: a library gave up, while counting replies"),
    ],
)
def test_a_bug_is_a_row_with_a_twin_until_the_job_is_done_again(project, kind, counted, reason):
    """The log, which the row names, has the traceback; here the job's output goes into a file as in its rule."""
    others = project.forget(MEASURED)
    log = project.folder / "logs" / "bug.log"
    done = project.job("measure", MEASURED, before=f"exec > {shlex.quote(str(log))} 2>&1", SPEEDGRID_FAULT=f"measure 2 {kind}")
    assert done.returncode == 0
    assert f"measure cpu/e/chain/plain: failed: {reason}; see logs/bug.log" in log.read_text()
    assert ("Traceback" in log.read_text()) == (kind != "crash")
    rows = measured(project).rows
    assert [row["status"] for row in rows] == ["ok"] * counted + ["failed"]
    assert rows[-1]["reason"] == f"{reason}; see logs/bug.log"
    assert set(project.results()) == {*others, MEASURED, TWIN}
    assert (project.folder / TWIN).read_bytes() == (project.folder / MEASURED).read_bytes()
    assert project.job("measure", MEASURED).returncode == 0
    assert measured(project).status == "ok"
    assert set(project.results()) == {*others, MEASURED}


def test_a_model_that_cannot_be_had_is_a_row_of_one_line(project):
    """So that the cells of all other models are measured."""
    record = "models/chain/prepared.parquet"
    project.forget(record)
    lines = json.loads((project.folder / "command-lines.json").read_text())
    job = json.loads(lines[record][1])
    job["entry"]["local"] = str(project.folder / "gone")
    (project.folder / "command-lines.json").write_text(json.dumps(lines | {record: ["--job", json.dumps(job)]}))
    done = project.job("prepare_model", record)
    assert done.returncode == 0
    assert "Traceback" not in done.stdout
    found = records.read(project.folder / record, MODEL)
    assert found.status == "failed"
    assert str(project.folder / "gone") in found.reason
    assert records.failed(project.folder / record).is_file()


def test_weights_that_are_replaced_while_a_job_has_them_leave_no_figures(project):
    """As a training does it that writes `latest` anew; what was counted by then may be of either."""
    project.forget(MEASURED)
    weights = (project.folder / "models/chain/checkpoint").resolve() / "model.safetensors"
    held, times = weights.read_bytes(), weights.stat()
    try:
        done = project.job("measure", MEASURED, SPEEDGRID_FAULT="measure 3 swap", SPEEDGRID_FAULT_WEIGHTS=str(weights))
    finally:
        weights.write_bytes(held)
        os.utime(weights, ns=(times.st_atime_ns, times.st_mtime_ns))
    assert done.returncode == 0, done.stdout
    assert measured(project).status == "failed"
    assert "has another model.safetensors than its record tells of: changed or damaged since" in measured(project).reason
    assert project.job("measure", MEASURED).returncode == 0
    assert measured(project).status == "ok"


def test_what_comes_after_a_bug_ends_like_it(project):
    after = f"{CELL}/evaluate.parquet"
    project.forget(MEASURED, after)
    assert project.job("measure", MEASURED, SPEEDGRID_FAULT="measure load bug").returncode == 0
    done = project.job("evaluate_quality", after)
    assert done.returncode == 0
    assert "Traceback" not in done.stdout
    record = records.read(project.folder / after, EVALUATE)
    assert (record.status, record.reason) == ("failed", measured(project).reason)
    assert records.failed(project.folder / after).is_file()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_asked_to_stop_it_keeps_what_it_has_counted_and_is_measured_again(project, number):
    before = measured(project)
    others = project.forget(MEASURED)
    process = project.start_job("measure", MEASURED, SPEEDGRID_FAULT="measure 3 hang")
    working = project.await_fault(process)
    process.send_signal(number)
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + number
    assert "Traceback" not in output
    assert f"stopped by {number.name} while counting replies; 2 rows are kept" in output
    assert not is_alive(working)
    kept = records.read(project.folder / PARTIAL, MEASURE)
    assert [row["status"] for row in kept.rows] == ["ok", "ok", "interrupted"]
    assert [row["token_ids"] for row in kept.rows[:2]] == [row["token_ids"] for row in before.rows[:2]]
    assert {name: content for name, content in project.results().items() if name != PARTIAL} == others
    assert project.job("measure", MEASURED).returncode == 0
    assert [row["token_ids"] for row in measured(project).rows] == [row["token_ids"] for row in before.rows]
    assert not (project.folder / PARTIAL).exists()


def test_it_stops_when_the_process_that_wants_its_result_dies(project):
    project.forget(MEASURED)
    wanting = subprocess.Popen(["sleep", "1000"])
    process = project.start_job("measure", MEASURED, SPEEDGRID_FAULT="measure 3 hang", SPEEDGRID_WANTED_BY=str(wanting.pid))
    working = project.await_fault(process)
    wanting.kill()
    wanting.wait()
    output, _ = process.communicate(timeout=60)
    assert process.returncode == 128 + signal.SIGTERM
    assert "2 rows are kept" in output
    assert not is_alive(working)


def test_it_stops_when_that_process_died_before_the_work_began(project):
    """As while a job waits for a GPU that another run has."""
    others = project.forget(MEASURED)
    gone = subprocess.Popen(["true"])
    gone.wait()
    done = project.job("measure", MEASURED, SPEEDGRID_FAULT="measure 3 hang", SPEEDGRID_WANTED_BY=str(gone.pid))
    assert done.returncode == 128 + signal.SIGTERM, done.stdout
    assert {name: content for name, content in project.results().items() if name != PARTIAL} == others


def test_a_hang_ends_as_a_timeout_with_the_replies_before_it(project):
    project.forget(MEASURED)
    done = project.job("measure", MEASURED, SPEEDGRID_FAULT="measure 3 hang", SPEEDGRID_TIME_BUDGET_S="3")
    assert done.returncode == 0, done.stdout
    assert [row["status"] for row in measured(project).rows] == ["ok", "ok", "timeout"]
    assert measured(project).reason == "the time budget of 3 s ran out while counting replies"
    assert "in generate" in done.stdout, "the log says where it hung"


def test_native_code_that_never_returns_ends_as_a_timeout(project, monkeypatch):
    supervision = project.folder / "scripts/speedgrid/supervision.py"
    supervision.write_text(supervision.read_text().replace("GRACE_S = 20.0", "GRACE_S = 1.0"))
    project.forget(MEASURED)
    done = project.job("measure", MEASURED, SPEEDGRID_FAULT="measure 3 stuck", SPEEDGRID_TIME_BUDGET_S="3")
    assert done.returncode == 0, done.stdout
    (row,) = measured(project).rows
    assert (row["status"], row["reason"]) == ("timeout", "the time budget of 3 s ran out while counting replies")
    assert measured(project).facts["stage"] == "measure"
    assert not is_alive(int(project.at.read_text()))


def test_a_job_that_ends_in_time_has_no_timeout(project):
    project.forget(MEASURED)
    assert project.job("measure", MEASURED, SPEEDGRID_TIME_BUDGET_S="60").returncode == 0
    assert measured(project).status == "ok"


def test_out_of_memory_is_a_row_with_the_phase_and_the_bytes(project):
    """The limit is one of the address space, in KiB, so that Python itself finds no more memory."""
    project.forget(MEASURED)
    done = project.job("measure", MEASURED, before=f"ulimit -v {2**20}", SPEEDGRID_FAULT="measure 3 memory")
    assert done.returncode == 0, done.stdout
    assert [row["status"] for row in measured(project).rows][-1] == "oom"
    assert "while counting replies" in measured(project).reason
    assert f"its limit is {2**30:,}" in measured(project).reason


@pytest.mark.parametrize(("place", "phase", "counted"), [("load", "loading the checkpoint", 0), ("3", "counting replies", 2)])
def test_out_of_memory_on_the_device_is_a_row_after_what_was_counted(project, place, phase, counted):
    project.forget(MEASURED)
    done = project.job("measure", MEASURED, SPEEDGRID_FAULT=f"measure {place} device")
    assert done.returncode == 0, done.stdout
    rows = measured(project).rows
    assert [row["status"] for row in rows] == ["ok"] * counted + ["oom"]
    assert rows[-1]["reason"].startswith(f"while {phase}: CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has")
    assert " it held " in rows[-1]["reason"]


@pytest.mark.needs("memory-cgroup")
def test_killed_by_the_kernel_for_memory_is_a_row_too(project, memory_cgroup):
    project.forget(MEASURED)
    into = f"echo $$ > {memory_cgroup}/cgroup.procs"
    done = project.job("measure", MEASURED, before=into, SPEEDGRID_FAULT="measure 3 memory")
    assert done.returncode == 0, done.stdout
    (row,) = measured(project).rows
    assert row["status"] == "oom"
    assert "ran out of memory while counting replies and was killed by the kernel; it held " in row["reason"]


def test_a_full_disk_is_one_line_and_no_result(project):
    others = project.forget(MEASURED)
    done = project.job("measure", MEASURED, before="ulimit -f 4")
    assert done.returncode == 1
    assert "failed while writing the result: no room on the disk (" in done.stdout
    assert "Traceback" not in done.stdout
    assert project.results() == others
    assert temporaries(project) == []


def test_a_full_disk_while_quantizing_leaves_the_old_checkpoint(project):
    others = project.forget(f"{MADE}/quantize.parquet")
    done = project.job("quantize", f"{MADE}/quantize.parquet", before="ulimit -f 4")
    assert done.returncode == 1
    assert "failed while making the checkpoint: no room on the disk (" in done.stdout
    assert project.results() == others
    assert temporaries(project) == []
    assert project.job("quantize", f"{MADE}/quantize.parquet").returncode == 0
    assert records.read(project.folder / MADE / "quantize.parquet", CHECKPOINT).status == "ok"


def test_durations_do_not_come_from_a_clock_that_is_set_back(project):
    """time.time goes back an hour at every call, as when a machine's clock is put right while it measures."""
    project.forget(MEASURED)
    hook = "import itertools, time\nbackwards = itertools.count(2e9, -3600)\ntime.time = lambda: next(backwards)\n"
    hook += "time.time_ns = lambda: int(next(backwards) * 1e9)\n"
    site = project.folder / "site" / "sitecustomize.py"
    site.write_text(site.read_text() + hook)
    assert project.job("measure", MEASURED).returncode == 0
    record = measured(project)
    assert all(0 < row["ttft_s"] <= row["reply_s"] < 60 for row in record.rows)
    starts = [row["started_s"] for row in record.rows]
    assert starts == sorted(starts)
    assert all(0 <= record.facts[name] < 60 for name in ("load_s", "warmup_s", "watched_s"))
