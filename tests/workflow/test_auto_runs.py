"""`runs: auto` through Snakemake: further runs of what is open, until it is decided or the budget is spent, and a no-op after that; and a
run of few minutes, which measures what was planned and ends.

The jobs that measure are stand-ins, which write down speeds that this file names; plan, tables, page and all between are the project's.
"""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import working_copy
import yaml
from speedgrid import commands, foreseen, planning, records, sharpen
from speedgrid.planning import choice
from speedgrid.schema import SUMMARY

STAND_IN = """
import json, signal, sys, zlib
from datetime import datetime, timedelta, UTC
from pathlib import Path
import numpy as np

sys.path.insert(0, "tests/unit")
import records_factory as made
from speedgrid import jobtext, records, this_machine
from speedgrid.schema import MEASURE, MODEL, PROBE, WARMUP

arguments = dict(zip(sys.argv[1::2], sys.argv[2::2]))
told = json.loads(jobtext.received(arguments["--job"]))
out, stage = Path(arguments["--out"]), Path(sys.argv[0]).stem
with open("jobs.log", "a") as log:
    print(out, file=log)
began = datetime.now(UTC)
times = {"started_at": began.isoformat(), "ended_at": (began + timedelta(minutes=2)).isoformat()}
# Results of another device would be refused.
here = {"device_name": this_machine.cpu_name(), "cpu": this_machine.cpu_name()}
facts = made.facts(stage) | times | here | {"job": json.dumps(told), "code": arguments["--code"]}
if stage == "prepare_model":
    row = {"model": told["model"], "status": "ok", "reason": "", "origin": "train", "parameters": 5_140_000, "seconds": 1.0}
    records.write(out, MODEL, [row | {"quality_meaningful": False, "checkpoint_bytes": 1, "checkpoint_sha256": "ab" * 32}], facts)
elif stage == "probe":
    row = {"gpu": told["gpu"], "status": "ok", "reason": "", "runs": 9, "kind": "read", "method": "sum", "dtype": "float32"}
    records.write(out, PROBE, [row | {"size": 2**28, "best": 10e9, "median": 9e9}], facts)
else:
    keys = {name: told[name] for name in ("gpu", "experiment", "model", "technique")}
    if told.get("run", 1) > 1 and told["technique"] != "baseline" and Path("hold").exists():
        Path("at-work").touch()
        signal.pause()
    speed = SPEEDS[told["technique"]] * (1 + 0.02 * (-1) ** told.get("run", 1))
    cell = made.Made(told["technique"], told["technique"], speed=speed)
    if stage == "warmup":
        row = {"status": "ok", "import_s": 1.0, "load_s": 1.0, "first_reply_s": 1.0, "second_reply_s": 1.0, "cold_start_s": 3.0}
        records.write(out, WARMUP, [keys | row], facts)
    else:
        rng = np.random.default_rng(zlib.crc32(str(out).encode()))
        rows = [row | {"status": "ok"} for row in made._replies(cell, keys, rng)]
        if told.get("run", 1) > 1 and Path("fails").exists() and told["technique"] == Path("fails").read_text():
            rows = [keys | {"status": "oom", "reason": "out of memory"}]
        records.write(out, MEASURE, rows, facts | made._measured(cell, made.MACHINE, 5_140_000) | here)
"""
# The last one costs quality, and is far ahead of all.
SPEEDS = {"baseline": 30.0, "sdpa": 76.0, "static_cache": 90.0, "bf16": 300.0}
TECHNIQUES = ("baseline", "sdpa", "static_cache")
FOLDER = "results/local/generate/tiny"


@pytest.fixture
def project(tmp_path) -> Path:
    """A copy of the project whose jobs measure nothing, with the study `auto.yaml`."""
    folder = working_copy.copy_to(tmp_path)
    for stage in ("prepare_model", "probe", "warmup", "measure"):
        text = STAND_IN.replace("SPEEDS[", f"{SPEEDS!r}[")
        (folder / f"scripts/{stage}.py").write_text(text, encoding="utf-8")
    return folder


def study(folder: Path, techniques: tuple[str, ...] = TECHNIQUES, **told) -> tuple[str, str]:
    content = yaml.safe_load((folder / "tests/studies/tiny.yaml").read_text(encoding="utf-8"))
    content["gpus"] = {"local": {"device": "cpu"}}
    content["models"] = {"tiny": {"architecture": {"model_type": "llama", "hidden_size": 64}}}
    experiment = content["experiments"]["generate"]
    experiment = {
        name: experiment[name] for name in ("workload", "baseline", "dtype", "warmup_replies", "max_new_tokens") if name in experiment
    }
    experiment |= {"models": ["tiny"], "techniques": list(techniques), "prompt_tokens": 8, "replies": 20, "evaluate": False}
    content = (
        {name: content[name] for name in ("seed", "gpus", "models")} | {"study": "auto", "experiments": {"generate": experiment}} | told
    )
    (folder / "auto.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return "--configfile", "auto.yaml"


def runs_of(folder: Path) -> dict[str, int]:
    return {name: len(list((folder / FOLDER / name).glob("measure*.parquet"))) for name in TECHNIQUES}


def done(folder: Path) -> list[str]:
    """The jobs that ran since the last look."""
    log = folder / "jobs.log"
    lines = log.read_text(encoding="utf-8").splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return lines


def test_what_is_open_runs_again_until_it_is_decided_and_then_nothing_does(project):
    asked = study(project, tuple(SPEEDS), budget_minutes=600)
    answer = working_copy.snakemake(project, *asked)
    assert answer.returncode == 0, answer.stderr
    runs, ran = runs_of(project), done(project)
    assert runs["sdpa"] > 1 < runs["static_cache"]
    assert runs["baseline"] == 2, "it is surely slower, and can change nothing"
    assert not (project / FOLDER / "bf16" / "measure-2.parquet").exists(), "it costs quality, and is surely ahead"
    assert len(ran) == len(set(ran)), "nothing was measured twice"
    page = (project / "results/report.html").read_text(encoding="utf-8")
    assert "is the fastest" in page
    assert "could be as fast" not in page
    assert json.loads((project / "results/further.json").read_text())["open"] == {}

    again = working_copy.snakemake(project, *asked)
    assert again.returncode == 0
    assert "Nothing to be done" in again.stdout + again.stderr
    assert done(project) == []


def test_a_run_that_forces_its_jobs_does_them_once_and_leaves_further_runs_to_the_next(project):
    asked = study(project, budget_minutes=600)
    answer = working_copy.snakemake(project, *asked, "-F")
    assert answer.returncode == 0, answer.stderr
    assert "come with the next run without -F" in answer.stderr
    ran = done(project)
    assert len(ran) == len(set(ran)), "nothing was measured twice"
    assert runs_of(project) == {"baseline": 2, "sdpa": 1, "static_cache": 1}
    assert working_copy.snakemake(project, *asked).returncode == 0
    assert runs_of(project)["sdpa"] > 1


def test_what_the_budget_leaves_open_is_said_and_sharpen_goes_on_with_it(project):
    asked = study(project, budget_minutes=0)
    assert working_copy.snakemake(project, *asked).returncode == 0
    assert runs_of(project) == {"baseline": 2, "sdpa": 1, "static_cache": 1}
    left = json.loads((project / "results/further.json").read_text())
    assert left["wanted"] == {}
    assert set(left["open"]) == {f"{FOLDER}/sdpa", f"{FOLDER}/static_cache"}
    assert "--sharpen" in (project / "results/report.html").read_text(encoding="utf-8")

    done(project)
    working_copy.snakemake(project, *asked, "-n", SPEEDGRID_SHARPEN="1")
    assert json.loads((project / "results/further.json").read_text()) == left, "a dry run changes nothing"
    assert working_copy.snakemake(project, *asked, SPEEDGRID_SHARPEN="1").returncode == 0
    assert {Path(path).parent.name for path in done(project)} == {"sdpa", "static_cache"}
    assert runs_of(project)["sdpa"] == 1 + left["open"][f"{FOLDER}/sdpa"]
    assert "Nothing to be done" in "".join(vars(working_copy.snakemake(project, *asked))[name] for name in ("stdout", "stderr"))


def test_the_fastest_so_far_is_that_of_all_results_also_among_further_runs(project):
    """The command has started itself anew by then, and called that the fastest which had run since."""
    techniques = (*TECHNIQUES, "bf16")
    asked = study(project, techniques, budget_minutes=600)
    command = [sys.executable, "scripts/terminal.py", "--logger", "speedgrid", "--cores", "1", *asked]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    started = {"cwd": project, "env": os.environ | {"PATH": path}, "capture_output": True, "text": True}

    def told(*more: str) -> list[str]:
        answer = subprocess.run([*command, *more], **started)
        assert answer.returncode == 0, answer.stderr
        return answer.stderr.split("further runs of what is open", 1)

    def fastest(said: str) -> list[str]:
        return re.findall(r"fastest so far: (\w+)", said)

    first, further = told()
    assert fastest(first)[-1] == "bf16"
    assert not (project / FOLDER / "bf16" / "measure-2.parquet").exists(), "it is surely ahead, and not among the further runs"
    assert set(fastest(further)) == {"bf16"}

    targets = [f"{FOLDER}/{name}/measure.parquet" for name in TECHNIQUES]
    (forced,) = told("-F", "--", *targets, f"{FOLDER}/bf16/measure.parquet")
    assert "Measuring bf16" in forced
    before = forced.partition("Measuring bf16")[0]
    assert fastest(before)
    assert "bf16" not in fastest(before), "its old result is made anew"
    study(project, techniques, budget_minutes=600, seed=12)
    (others,) = told("--", *targets)
    assert fastest(others)
    assert "bf16" not in fastest(others), "its result is of other settings, and nobody asked for a new one"


def test_ctrl_c_among_further_runs_is_one_line_and_the_next_run_goes_on(project):
    """The command has started itself anew by then, and has jobs of its own."""
    asked = study(project, budget_minutes=600)
    (project / "hold").touch()
    command = [sys.executable, "scripts/terminal.py", "--logger", "speedgrid", "--cores", "1", *asked]
    with open(project / "said.txt", "w") as said:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        started = {"cwd": project, "stdout": said, "stderr": said, "env": os.environ | {"PATH": path}, "start_new_session": True}
        process = subprocess.Popen(command, **started)
        while not (project / "at-work").exists():
            assert process.poll() is None, (project / "said.txt").read_text()
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        assert process.wait(120) == commands.STOPPED
    lines = (project / "said.txt").read_text().splitlines()
    at = next(number for number, line in enumerate(lines) if "further runs of what is open" in line)
    (stopped,) = [line for line in lines[at:] if line.startswith("speedgrid: stopped; ")]
    assert stopped.endswith(
        "steps are done and kept, and the same command goes on from there; results/report.html will show what was measured"
    )
    assert lines[-1] == stopped
    assert not any("Traceback" in line or "Error" in line for line in lines[at:]), lines[at:]
    assert runs_of(project) == {"baseline": 2, "sdpa": 1, "static_cache": 1}
    assert "is open" in (project / "results/report.html").read_text(encoding="utf-8"), "there is a page of what was measured"

    (project / "hold").unlink()
    done(project)
    assert working_copy.snakemake(project, *asked).returncode == 0
    assert {Path(path).parent.name for path in done(project) if "measure" in path} == {"sdpa", "static_cache"}
    assert "Nothing to be done" in "".join(vars(working_copy.snakemake(project, *asked))[name] for name in ("stdout", "stderr"))


def test_a_cell_that_fails_in_a_further_run_keeps_its_figures_says_so_and_is_not_tried_over_and_over(project):
    asked = study(project, budget_minutes=600)
    (project / "fails").write_text("sdpa")
    answer = working_copy.snakemake(project, *asked)
    assert answer.returncode == 0, answer.stderr
    assert runs_of(project)["sdpa"] <= 1 + sharpen.AT_A_TIME, "it would fail each time"
    page = (project / "results/report.html").read_text(encoding="utf-8")
    assert re.search(r"runs of SDPA[^.]*? did not end as the first did \(oom: out of memory\); no figure includes them", page)
    rows = {row["technique"]: row for row in records.read(project / "results/summary.parquet", SUMMARY).rows}
    assert rows["sdpa"]["status"] == "ok"
    assert rows["sdpa"]["rate"] == pytest.approx(SPEEDS["sdpa"], rel=0.1)
    assert "Nothing to be done" in "".join(vars(working_copy.snakemake(project, *asked))[name] for name in ("stdout", "stderr"))


def test_a_run_of_few_minutes_measures_what_was_planned_and_ends_and_the_next_does_the_rest(project, monkeypatch):
    """Counted by jobs, not by time: the stand-ins take none."""
    sizes = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2, "vocab_size": 300, "intermediate_size": 128}
    asked = study(project, budget_minutes=0, models={"tiny": {"architecture": {"model_type": "llama", **sizes}}})
    monkeypatch.chdir(project)
    grid = planning.read_grid("auto.yaml")
    grid.makes_environments = False  # as in the run below, which makes none
    found, _, _ = foreseen.foreseen(grid)
    # A second too few for all of it.
    answer = working_copy.snakemake(project, *asked, **{choice.VARIABLE: f"{(found.seconds - 1) / 60}"})
    assert answer.returncode == 0, answer.stderr
    plan = json.loads((project / "results/plan.json").read_text(encoding="utf-8"))
    left = {cell["technique"] for cell in plan["cells"] if cell["left_out"]}
    assert left
    assert left < set(TECHNIQUES) - {"baseline"}
    measured = {Path(path).parent.name for path in done(project) if "measure" in path}
    assert measured == set(TECHNIQUES) - left
    page = (project / "results/report.html").read_text(encoding="utf-8")
    assert "minutes, by estimate" in page

    assert working_copy.snakemake(project, *asked).returncode == 0
    assert {Path(path).parent.name for path in done(project) if "warmup" in path} == left
    assert all(runs_of(project).values())
    assert "does not fit into" not in (project / "results/report.html").read_text(encoding="utf-8")
