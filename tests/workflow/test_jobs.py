"""Jobs run by hand, as their scripts: what they say and write when something is not as it should be."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from speedgrid import records
from speedgrid.schema import CHECKPOINT, EVALUATE, MEASURE, MODEL, WARMUP

ROOT = Path(__file__).resolve().parents[2]
SPECIFICATION = {
    "gpu": "local",
    "experiment": "e",
    "model": "m",
    "technique": "t",
    "engine": "transformers",
    "workload": "generate",
    "device": {"device": "cpu"},
    "options": {"dtype": "float32"},
    "requires": [],
    "seed": 1,
    "threads": 1,
    "trust_remote_code": False,
    "settings": {"prompt": "x", "replies": 1},
    "evaluate": {"text": "stdlib", "max_bytes": 256},
}


def job(
    script: str, folder: Path, *arguments: str, specification=SPECIFICATION, python: str = sys.executable
) -> subprocess.CompletedProcess:
    command = [python, ROOT / "scripts" / script, "--job", json.dumps(specification), *arguments]
    return subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True)


@pytest.fixture
def prepared(tmp_path) -> Path:
    path = tmp_path / "prepared.parquet"
    (tmp_path / "checkpoint").mkdir()
    (tmp_path / "checkpoint" / "model.safetensors").write_bytes(b"abc")
    records.write(path, MODEL, [{"model": "m", "status": "ok", "reason": "", "checkpoint_bytes": 3, "checkpoint_sha256": "abc"}])
    return path


def test_a_package_that_is_missing_is_a_row_and_no_failure(tmp_path, prepared):
    """The environment of the tests has no packages of an engine, as a machine may lack what a technique needs."""
    done = job("warmup.py", tmp_path, "--checkpoint", prepared, "--out", tmp_path / "warmup.parquet")
    assert done.returncode == 0, done.stderr
    record = records.read(tmp_path / "warmup.parquet", WARMUP)
    assert (record.status, record.reason) == ("missing_dependency", "the Python package accelerate is not installed in this environment")
    assert done.stdout.splitlines() == [
        "warmup local/e/m/t: start",
        "warmup local/e/m/t: missing_dependency: the Python package accelerate is not installed in this environment",
    ]


def test_a_job_whose_environment_lacks_something_or_could_not_be_made_writes_down_why(tmp_path, prepared, monkeypatch):
    """What the machine lacks is an outcome; what went wrong is a failure, which the next run tries again."""
    out = ("--checkpoint", prepared, "--out", tmp_path / "warmup.parquet")
    done = job("warmup.py", tmp_path, *out, specification={**SPECIFICATION, "lacks": "its environment (vllm) needs glibc 2.31 or newer"})
    assert done.returncode == 0, done.stderr
    record = records.read(tmp_path / "warmup.parquet", WARMUP)
    assert (record.status, record.reason) == ("missing_dependency", "its environment (vllm) needs glibc 2.31 or newer")
    assert not records.failed(tmp_path / "warmup.parquet").exists()
    monkeypatch.setenv("SPEEDGRID_NO_ENVIRONMENT", "the environment envs/vllm.yaml could not be made: no room")
    done = job("warmup.py", tmp_path, *out)
    assert done.returncode == 0, done.stderr
    record = records.read(tmp_path / "warmup.parquet", WARMUP)
    assert (record.status, record.reason) == ("failed", "the environment envs/vllm.yaml could not be made: no room")
    assert records.failed(tmp_path / "warmup.parquet").exists()


def test_a_job_in_another_python_than_that_of_its_environment_ends_in_one_line(tmp_path, prepared, monkeypatch):
    monkeypatch.setenv("SPEEDGRID_ENVIRONMENT", str(tmp_path / "envs" / "0123"))
    done = job("warmup.py", tmp_path, "--checkpoint", prepared, "--out", tmp_path / "warmup.parquet")
    assert done.returncode == 1
    assert done.stderr.startswith(f"speedgrid: this job is for the Python of {tmp_path}/envs/0123, and runs in that of {sys.prefix} (")
    assert done.stderr.count("\n") == 1
    assert not (tmp_path / "warmup.parquet").exists()


def test_a_failure_is_handed_on_without_work(tmp_path, prepared):
    """Where a checkpoint could not be made, every later job of the cell ends with the same status and reason."""
    quantize, measure = tmp_path / "quantize.parquet", tmp_path / "measure.parquet"
    records.write(quantize, CHECKPOINT, [{"model": "m", "technique": "t", "status": "oom", "reason": "wanted 9 GB"}])
    assert job("measure.py", tmp_path, "--checkpoint", quantize, "--out", measure).returncode == 0
    evaluated = tmp_path / "evaluate.parquet"
    done = job("evaluate_quality.py", tmp_path, "--checkpoint", prepared, "--after", measure, "--out", evaluated)
    assert done.returncode == 0
    for path, table in ((measure, MEASURE), (tmp_path / "evaluate.parquet", EVALUATE)):
        record = records.read(path, table)
        assert (record.status, record.reason, len(record.rows)) == ("oom", "wanted 9 GB", 1)


def test_a_damaged_record_is_one_line_in_a_row_that_the_next_run_makes_again(tmp_path, prepared):
    prepared.write_bytes(prepared.read_bytes()[:50])
    done = job("measure.py", tmp_path, "--checkpoint", prepared, "--out", tmp_path / "measure.parquet")
    assert done.returncode == 0
    assert "Traceback" not in done.stdout + done.stderr
    assert "prepared.parquet: not a readable Parquet file" in done.stdout
    record = records.read(tmp_path / "measure.parquet", MEASURE)
    assert (record.status, "not a readable Parquet file" in record.reason) == ("failed", True)
    assert records.failed(tmp_path / "measure.parquet").exists()


def test_a_job_speaks_to_its_log_and_to_the_person(tmp_path, prepared):
    """The shell line of every rule: what libraries print goes to the log, descriptor 3 stays the terminal."""
    specification = "'" + json.dumps(SPECIFICATION) + "'"
    line = f"{sys.executable} {ROOT}/scripts/warmup.py --job {specification} --checkpoint {prepared} --out w.parquet 3>&2 > job.log 2>&1"
    done = subprocess.run(["bash", "-c", line], cwd=tmp_path, capture_output=True, text=True, env={**os.environ})
    assert done.returncode == 0
    assert done.stdout == ""
    begins, *log = (tmp_path / "job.log").read_text().splitlines()
    assert begins == "warmup local/e/m/t: start"  # the person has the line of the step
    assert done.stderr.splitlines() == log != []


def test_settings_with_shell_characters_reach_the_job_unchanged(tmp_path):
    """Through the real rule: a prompt that would run a command, if it ever reached a shell unquoted."""
    import working_copy
    import yaml

    folder = working_copy.copy_to(tmp_path / "a copy")
    study = yaml.safe_load((folder / "tests/studies/tiny.yaml").read_text())
    nasty = '\'; touch pwned; echo "$(touch pwned)" `touch pwned` {wildcards} \\ %s \n é'
    study["experiments"]["generate"] |= {"prompt": nasty, "techniques": ["baseline"], "models": ["tiny"], "exclude": []}
    (folder / "nasty.yaml").write_text(yaml.safe_dump(study))
    records.write(folder / "models/tiny/prepared.parquet", MODEL, [{"model": "tiny", "status": "unsupported", "reason": "for the test"}])
    target = "results/cpu/generate/tiny/baseline/warmup.parquet"
    done = working_copy.snakemake(folder, "--configfile", "nasty.yaml", "--rerun-triggers", "mtime", "--", target)
    assert done.returncode == 0, done.stderr
    specification = json.loads(records.read(folder / target, WARMUP).facts["job"])
    assert specification["settings"]["prompt"] == nasty
    assert not list(tmp_path.rglob("pwned"))
