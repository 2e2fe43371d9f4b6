"""What is told while a run goes on: the time left from what steps took, and the fastest so far from the results that are there."""

import logging
import math
import os
import signal
import sys
import time
from types import SimpleNamespace

import pytest
import terminal
from hypothesis import given
from hypothesis import strategies as st
from snakemake.logging import DefaultFormatter
from snakemake_interface_logger_plugins.common import LogEvent
from snakemake_logger_plugin_speedgrid import HEARD_S, LogHandler
from speedgrid import live, records, stats
from speedgrid.live import Fastest, Progress
from speedgrid.schema import MEASURE


def after(progress, *steps):
    """Steps that began and ended one after another, as (rule, seconds); the time by then."""
    now = 0.0
    for job, (rule, took) in enumerate(steps):
        progress.begins(job, rule, now)
        now += took
        progress.ends(job, now)
    return now


def test_nothing_is_known_before_a_step_has_ended():
    progress = Progress({"measure": 3})
    assert live.left(progress, 0.0) == ""
    progress.begins(1, "measure", 0.0)
    assert live.left(progress, 50.0) == ""


def test_the_time_left_is_what_the_steps_to_come_take_by_what_such_steps_took():
    progress = Progress({"warmup": 3, "measure": 4})
    now = after(progress, ("warmup", 10), ("measure", 100), ("warmup", 20), ("measure", 300))
    assert progress.left(now) == (15 + 2 * 200, False)
    assert live.left(progress, now) == "about 7 min left"
    progress.begins(9, "measure", now)
    assert progress.left(now + 150) == (15 + 200 + 50, False)
    assert progress.left(now + 900) == (15 + 200, False)  # longer than such steps take: it may end any time


def test_a_rule_that_nobody_has_seen_yet_makes_it_a_least_time():
    progress = Progress({"measure": 3, "evaluate": 2})
    assert live.left(progress, after(progress, ("measure", 60))) == "at least 2 min left"


def test_steps_side_by_side_share_the_time_and_one_that_failed_is_not_waited_for():
    progress = Progress({"measure": 5})
    now = after(progress, ("measure", 100))
    progress.begins(7, "measure", now)
    progress.begins(8, "measure", now)
    assert progress.left(now) == (400 / 2, False)
    progress.ends(7, now + 10, well=False)
    assert progress.left(now + 10) == (2 * 100 + 90, False)
    progress.ends(99, now)  # one that began before this handler was there


@given(
    total=st.dictionaries(st.sampled_from("abc"), st.integers(0, 5), max_size=3),
    steps=st.lists(st.tuples(st.sampled_from("abcd"), st.integers(1, 10**5)), max_size=20),
)
def test_the_time_left_is_never_negative_and_nothing_is_left_of_what_is_done(total, steps):
    progress = Progress(total)
    now = after(progress, *steps)
    seconds, is_more = progress.left(now)
    assert seconds >= 0
    done = all(len(progress.took[rule]) >= count for rule, count in total.items())
    assert (seconds, is_more) == (0, False) if done else seconds > 0 or is_more


# The fastest so far


@pytest.fixture
def measured(monkeypatch):
    """Results by path: (cell, speed, unit, whether the machine was quiet)."""
    found = {}

    def run(path):
        cell, rate, unit, is_quiet = found[path]
        return live.Measured(cell, stats.run([rate] * 5, 0.0 if is_quiet else math.inf), unit, "cpu")

    monkeypatch.setattr(live, "measured", lambda path: run(path) if path in found else None)
    return found


def test_the_fastest_is_told_over_the_baseline_of_its_group(measured):
    for technique, rate in {"baseline": 10.0, "sdpa": 12.0, "torch_compile": 18.0}.items():
        measured[f"results/local/e/m/{technique}/measure.parquet"] = (("local", "e", "m", technique), rate, "token/s", True)
    fastest = Fastest(frozenset({("local", "e", "m", "baseline")}))
    said = []
    for path in measured:
        fastest.add(path)
        said.append(str(fastest))
    assert said == [
        "",
        "fastest so far: sdpa (12 token/s, 1.2× the baseline)",
        "fastest so far: torch_compile (18 token/s, 1.8× the baseline)",
    ]
    measured["results/local/e/m/torch_compile/measure.parquet"] = (("local", "e", "m", "torch_compile"), 10.3, "token/s", True)
    measured["results/local/e/m/sdpa/measure.parquet"] = (("local", "e", "m", "sdpa"), 10.4, "token/s", True)
    for name in ("torch_compile", "sdpa"):
        fastest.add(f"results/local/e/m/{name}/measure.parquet")
    assert str(fastest) == "fastest so far: sdpa (10.4 token/s)"  # and no 1.0×
    measured["results/local/e/m/sdpa/measure.parquet"] = (("local", "e", "m", "sdpa"), 1302.4, "token/s", True)
    fastest.add("results/local/e/m/sdpa/measure.parquet")
    said.append(str(fastest))
    assert said[-1] == "fastest so far: sdpa (1,302 token/s, 130.2× the baseline)"  # and no 1.3e+03
    fastest.add("results/local/e/m/sdpa/evaluate.parquet")
    fastest.add("results/local/e/m/sdpa/measure.failed.parquet")
    fastest.add("results/local/e/other/sdpa/measure-2.parquet")  # not there
    assert str(fastest) == said[-1]


@pytest.mark.parametrize(
    ("baseline", "sdpa", "said"),
    [
        (False, True, "fastest so far: sdpa (22.8 token/s; the baseline was disturbed)"),
        (True, False, "fastest so far: sdpa (22.8 token/s; it was disturbed)"),
        (False, False, "fastest so far: sdpa (22.8 token/s; both were disturbed)"),
        (True, True, "fastest so far: sdpa (22.8 token/s, 15.2× the baseline)"),
    ],
)
def test_a_disturbed_speed_is_no_multiple_of_a_quiet_one(measured, baseline, sdpa, said):
    """A baseline that had a tenth of the cores made an equal technique 15 times as fast."""
    fastest = Fastest(frozenset({("g", "e", "m", "baseline")}))
    for technique, rate, is_quiet in (("baseline", 1.5, baseline), ("sdpa", 22.8, sdpa)):
        measured[f"results/g/e/m/{technique}/measure.parquet"] = (("g", "e", "m", technique), rate, "token/s", is_quiet)
        fastest.add(f"results/g/e/m/{technique}/measure.parquet")
    assert str(fastest) == said


def test_the_quiet_runs_of_a_cell_lead(measured):
    fastest = Fastest(frozenset({("g", "e", "m", "base")}))
    for technique, runs in {"base": ((3.0, True), (3.0, True)), "a": ((2.0, False), (9.0, True))}.items():
        for number, (rate, is_quiet) in enumerate(runs, 2):
            path = f"{technique}/measure-{number}.parquet"
            measured[path] = (("g", "e", "m", technique), rate, "token/s", is_quiet)
            fastest.add(path)
    assert str(fastest) == "fastest so far: a (9 token/s, 3.0× the baseline)"


def test_a_cell_of_several_runs_is_as_fast_as_their_geometric_mean(measured):
    """The last run alone was told, as 3.6× the baseline, where the page had all of them."""
    fastest = Fastest(frozenset({("g", "e", "m", "t1")}))
    for technique, rates in {"t1": (10.0, 2.5), "t2": (20.0, 5.0)}.items():
        for number, rate in enumerate(rates, 2):
            path = f"{technique}/measure-{number}.parquet"
            measured[path] = (("g", "e", "m", technique), rate, "token/s", True)
            fastest.add(path)
    assert str(fastest) == "fastest so far: t2 (10 token/s, 2.0× the baseline)"


@pytest.fixture
def second_plan(measured, monkeypatch):
    """A run that begins with the results of one before it: those of the baseline and of a, b and c are there, of which it makes the only
    one of c anew, and a second of b; of another model there is one."""
    monkeypatch.setattr(live, "fastest", Fastest())
    rates = {"base": 10.0, "a": 80.0, "b": 15.0, "c": 500.0}
    for technique, rate in rates.items():
        measured[f"m/{technique}/measure.parquet"] = (("g", "e", "m", technique), rate, "token/s", True)
    measured["other/a/measure.parquet"] = (("g", "e", "other", "a"), 7000.0, "token/s", True)
    measured["m/gone/measure.parquet"] = (("g", "e", "m", "gone"), 9000.0, "token/s", True)  # the study has it no more
    cells = [
        SimpleNamespace(
            key=("g", "e", model, technique),
            is_baseline=technique == "base",
            measures=[f"{model}/{technique}/measure.parquet", f"{model}/{technique}/measure-2.parquet"],
        )
        for model in ("m", "other")
        for technique in rates
    ]
    to_make = {"m/c/measure.parquet", "m/b/measure-2.parquet", "m/c/measure-2.parquet"}
    live.follow(cells, lambda path: path in measured and path not in to_make)
    return measured


def test_in_further_runs_the_cells_of_the_runs_before_count_too(second_plan):
    """Further runs are a process of their own, which told the fastest of those that it had measured itself: 13.8 token/s, where 86 were
    there."""
    second_plan["m/b/measure-2.parquet"] = (("g", "e", "m", "b"), 15.0, "token/s", True)
    live.fastest.add("m/b/measure-2.parquet")
    assert str(live.fastest) == "fastest so far: a (80 token/s, 8.0× the baseline)"
    assert len(live.fastest.cells["g", "e", "m"]["b"]) == 2, "of the cell itself, too"


def test_what_the_run_makes_anew_counts_once_it_is_made(second_plan):
    """Its old results are of other settings, other code or other weights."""
    second_plan["m/b/measure-2.parquet"] = (("g", "e", "m", "b"), 15.0, "token/s", True)
    live.fastest.add("m/b/measure-2.parquet")
    assert "c" not in live.fastest.cells["g", "e", "m"]
    second_plan["m/c/measure.parquet"] = (("g", "e", "m", "c"), 300.0, "token/s", True)
    live.fastest.add("m/c/measure.parquet")
    assert str(live.fastest) == "fastest so far: c (300 token/s, 30.0× the baseline)"


def test_speeds_of_another_group_are_not_held_against_it(measured):
    fastest = Fastest()
    for model, technique, rate in (("a", "x", 100.0), ("a", "y", 90.0), ("b", "x", 5.0)):
        path = f"results/l/e/{model}/{technique}/measure-2.parquet"
        measured[path] = (("l", "e", model, technique), rate, "token/s", True)
        fastest.add(path)
    assert str(fastest) == ""
    measured["results/l/e/b/y/measure.parquet"] = (("l", "e", "b", "y"), 6.0, "token/s", True)
    fastest.add("results/l/e/b/y/measure.parquet")
    assert str(fastest) == "fastest so far: y (6 token/s)"


def record(path, unit, *points, status="ok"):
    cell = {"gpu": "g", "experiment": "e", "model": "m", "technique": "t", "status": status, "reason": ""}
    rows = [{**cell, "reply": 1, "reply_s": 0.5, "new_tokens": 10, "items": 20, "point": point} for point in points]
    records.write(path, MEASURE, rows, {"unit": unit})
    return str(path)


def test_a_speed_has_its_unit_and_one_over_several_sizes_is_none(tmp_path):
    """Of a search for the largest batch the median over all batches was told, as 3.1× the baseline in items a second."""
    found = live.measured(record(tmp_path / "a.parquet", "image", None))
    assert (found.cell, found.run.value, found.unit, found.run.disturbed) == (("g", "e", "m", "t"), 40.0, "image/s", False)
    assert live.measured(record(tmp_path / "b.parquet", "token", 32, 64)) is None
    assert live.measured(record(tmp_path / "c.parquet", None, None)).unit == "token/s"  # replies, which name no unit
    assert live.measured(str(tmp_path / "none.parquet")) is None
    # As on the page, what was not active is not the fastest.
    assert live.measured(record(tmp_path / "d.parquet", "token", None, status="not_engaged")) is None


# The handler


SETTINGS = SimpleNamespace(quiet=None, show_failed_logs=True, stdout=False)


@pytest.fixture
def told(capsys):
    handler = LogHandler(SETTINGS, None)
    handler.setFormatter(DefaultFormatter(show_failed_logs=True))

    def tell(message, level=logging.INFO, **extra):
        record = logging.LogRecord("snakemake", level, "", 0, message, None, None)
        vars(record).update(extra)
        handler.emit(record)
        return capsys.readouterr().err

    return tell


def job(number, rule="measure", message="Measuring sdpa", log=(), takes=(), makes=(), priority=0):
    return {
        "event": LogEvent.JOB_INFO,
        "jobid": number,
        "rule_name": rule,
        "rule_msg": message,
        "output": list(makes),
        "input": list(takes),
        "priority": priority,
        "log": list(log),
        "conda_env": None,
        "shellcmd": "python x",
        "aux": {},
    }


def test_a_step_is_one_line_and_what_snakemake_says_of_itself_is_none(told):
    assert told("Job stats:\n...", event=LogEvent.RUN_INFO, stats={"measure": 2, "report": 1, "total": 3}) == ""
    for chatter in (
        "Building DAG of jobs...",
        "Using shell: bash",
        "Provided cores: 1",
        "Select jobs to execute...",
        "Activating conda environment: x",
        "Error: Directory cannot be locked. Another Snakemake instance is running.",
    ):
        assert told(chatter, event=None) == ""
    line = told("Rule", **job(4))
    assert line.count("\n") == 1
    assert line.endswith("1/3  Measuring sdpa\n")
    assert told("Finished", event=LogEvent.JOB_FINISHED, job_id=4) == ""
    assert "1 of 3" not in told(None, event=LogEvent.PROGRESS, done=1, total=3)
    assert told("Rule", **job(5, message=None)).rpartition("2/3  ")[2].startswith("measure")


def test_a_dry_run_is_a_line_a_step_in_the_order_in_which_they_run_and_their_number(told, monkeypatch):
    """A stranger's `run -n` was 60 KB of Snakemake's blocks and file lists; and evaluating stood before measuring."""
    monkeypatch.setattr(live, "planned", live.Planned(is_asked=lambda: True))
    counts = {"stats": {"warmup": 2, "evaluate": 1, "measure": 2, "all": 1, "total": 6}, "event": LogEvent.RUN_INFO}
    assert told("Job stats:\n...", **counts) == ""
    jobs = (
        ("evaluate", "Evaluating sdpa", ["sdpa/warmup"], ["sdpa/evaluate"], 0.5),
        ("measure", "Measuring sdpa", ["sdpa/warmup", "model"], ["sdpa/measure"], 1),
        ("warmup", "Cold start of sdpa", ["model"], ["sdpa/warmup"], 1),
        ("measure", "Measuring bf16", ["bf16/warmup (retrieve from storage)"], ["bf16/measure"], 2),
        ("all", None, ["sdpa/measure", "sdpa/evaluate", "bf16/measure"], [], "highest"),
        ("warmup", "Cold start of bf16", ["model"], ["bf16/warmup (send to storage)"], 2),
    )
    for number, (rule, does, takes, makes, priority) in enumerate(jobs):
        assert told("Rule", **job(number, rule, does, takes=takes, makes=makes, priority=priority)) == ""
    assert told("Job stats:\n...", **counts) == ""
    for reasons in (
        "Reasons:\n    (check individual jobs above",
        "Some jobs were triggered by provenance",
        "Rules with provenance triggered jobs: x",
    ):
        assert told(reasons) == ""
    assert told("This was a dry-run (flag -n). The order of jobs does not reflect the order of execution.").splitlines() == [
        "  Cold start of bf16",
        "  Measuring bf16",
        "  Cold start of sdpa",
        "  Measuring sdpa",
        "  Evaluating sdpa",
        "  all",
        "6 steps would run (2 warmup, 1 evaluate, 2 measure, 1 all); nothing was started (-n). With --verbose each has its reason.",
    ]


def test_the_fastest_is_told_where_it_changed_and_not_with_every_step(told, measured, monkeypatch):
    monkeypatch.setattr(live, "fastest", live.Fastest())
    lines = []
    for number, rate in enumerate((10.0, 12.0, 12.0)):
        path = f"results/l/e/m/t{number}/measure.parquet"
        measured[path] = (("l", "e", "m", f"t{number}"), rate, "token/s", True)
        lines.append(told("Rule", **{**job(number), "output": [path]}))
        told("Finished", event=LogEvent.JOB_FINISHED, job_id=number)
    lines += [told("Rule", **job(8)), told("Rule", **job(9))]
    assert ["fastest so far: t1 (12 token/s)" in line for line in lines] == [False, False, True, False, False]


def test_a_job_without_a_command_shows_none(told):
    for command, said in (("python x", "    python x"), (None, "")):
        shown = told(f"Shell command: {command}", event=LogEvent.SHELLCMD, shellcmd=command, indent=False)
        assert ("python x" in shown, "None" in shown) == (bool(said), False)


def test_all_that_is_not_known_to_be_chatter_is_told(told):
    assert told("Creating conda environment envs/vllm.yaml...") == "Creating conda environment envs/vllm.yaml...\n"
    assert told("a warning", logging.WARNING) == "a warning\n"
    before = "Warning: the following output files of rule {} were not present when the DAG was created:\n{{'x'}}"
    assert told(before.format("plan"), logging.WARNING) == ""
    assert told(before.format("aggregate"), logging.WARNING) == ""  # of a page that was made while the run went on
    assert told(before.format("measure"), logging.WARNING) != ""
    assert told("Building DAG of jobs failed", logging.ERROR) == "Building DAG of jobs failed\n"


def test_a_job_that_failed_is_told_with_its_log(told, tmp_path):
    (tmp_path / "x.log").write_text("Traceback\nBoom\n")
    told("Rule", **job(4))
    text = told("Error in rule", logging.ERROR, **{**job(4, log=[str(tmp_path / "x.log")]), "event": LogEvent.JOB_ERROR})
    assert "Error in rule measure:" in text
    assert "Boom" in text


def test_the_end_of_a_job_is_told_when_it_is_known_whether_the_run_is_stopped(told, monkeypatch):
    """A terminal's Ctrl-C ended the job in the moment in which this process heard of it, and the job's end was told first."""
    monkeypatch.setattr(live, "stop", live.Stop())
    monkeypatch.setattr(time, "sleep", lambda _: setattr(live.stop, "is_asked", True))
    assert told("RuleException:\nCalledProcessError", logging.ERROR).startswith("speedgrid: stopped; ")


def test_many_errors_at_once_wait_no_longer_than_one(told, monkeypatch):
    """They are written in one moment and told one after another: what follows them is told before the run can be stopped."""
    now = [1000.0]
    monkeypatch.setattr(live, "stop", live.Stop())
    monkeypatch.setattr(time, "time", lambda: now[0])
    monkeypatch.setattr(time, "sleep", lambda s: now.__setitem__(0, now[0] + s))
    for number in range(20):
        assert told(f"error {number}", logging.ERROR, created=1000.0) == f"error {number}\n"
    assert now[0] == pytest.approx(1000.0 + HEARD_S)


def test_a_run_that_is_stopped_is_one_line_and_snakemakes_blocks_are_none(told, monkeypatch):
    monkeypatch.setattr(live, "stop", live.Stop())
    told("Job stats:\n...", event=LogEvent.RUN_INFO, stats={"measure": 2, "report": 1, "total": 3})
    told("Rule", **job(1))
    told("Finished", event=LogEvent.JOB_FINISHED, job_id=1)
    told("Rule", **job(2))
    live.stop.is_asked = True
    assert told("Terminating processes on user request, this might take some time.", event=None) == (
        "speedgrid: stopped; 1 of 3 steps are done and kept, and the same command goes on from there;"
        " results/report.html will show what was measured\n"
    )
    assert told("Error in rule", logging.ERROR, **{**job(2), "event": LogEvent.JOB_ERROR}) == ""
    assert told("WorkflowError:\nAt least one job did not complete successfully.", logging.ERROR) == ""


def test_what_is_stopped_before_its_first_step_says_how_to_go_on():
    stop = live.Stop()
    assert stop.told() == "speedgrid: stopped; what was done is kept, and the same command goes on from there"
    assert stop.is_told


def test_a_target_that_no_rule_makes_is_one_line(told, monkeypatch):
    monkeypatch.setattr(live, "mistakes", [])
    said = "MissingRuleException:\nNo rule to produce my-study (if you use input functions make sure that they don't raise any exceptions)."
    line = told(said, logging.ERROR)
    assert line.startswith("speedgrid: my-study is nothing that a run makes: `run --list` lists what it makes")
    assert line.count("\n") == 1
    assert live.mistakes == ["my-study"]


def test_a_reader_who_has_seen_enough_of_a_run_is_no_error(monkeypatch):
    """`./speedgrid run -n 2>&1 | head` ended with 120 under `set -o pipefail`: what was left to be said could not be."""
    reading, writing = os.pipe()
    os.close(reading)
    with os.fdopen(writing, "w") as stream:
        stream.write("more")
        monkeypatch.setattr(sys, "stderr", stream)
        terminal.let_go()
        stream.flush()


def test_ctrl_c_is_told_to_the_jobs_once_and_not_to_the_run_itself(monkeypatch):
    """Started anew for further runs, the run has the mark of its own jobs: it told itself until Python gave up."""
    monkeypatch.setattr(live, "stop", live.Stop())
    monkeypatch.setattr(terminal.supervision, "jobs_of", lambda wanted_by: [os.getpid(), 4_000_000])
    told = []
    monkeypatch.setattr(terminal.os, "kill", lambda process, number: told.append((process, number)))
    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            terminal.stop(signal.SIGINT, None)
    assert told == [(4_000_000, signal.SIGINT)]
    assert live.stop.is_asked


def test_what_jobs_say_as_they_are_stopped_is_not_shown_and_not_even_while_they_are_looked_for(monkeypatch, capsys):
    """A terminal tells the jobs of Ctrl-C by itself: one had died, and its block was there, while the others were looked for."""
    monkeypatch.setattr(live, "stop", live.Stop())
    terminal.relay(["a job: halfway\n"])

    def look(wanted_by):
        terminal.relay(["RuleException:\n"])
        return []

    monkeypatch.setattr(terminal.supervision, "jobs_of", look)
    with pytest.raises(KeyboardInterrupt):
        terminal.stop(signal.SIGINT, None)
    terminal.relay(["died with <Signals.SIGINT: 2>\n"])
    assert capsys.readouterr().err == "a job: halfway\n"


def test_what_jobs_say_is_read_to_its_end_where_nobody_reads_it_any_more(monkeypatch):
    """After `run 2>&1 | head` nobody emptied the jobs' pipe: once it was full they waited for ever."""

    class Gone:
        def write(self, text):
            raise BrokenPipeError

    monkeypatch.setattr(live, "stop", live.Stop())
    monkeypatch.setattr(terminal.sys, "stderr", Gone())
    lines = iter(["a\n", "b\n"])
    terminal.relay(lines)
    assert list(lines) == []
