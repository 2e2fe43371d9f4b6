"""Two GPUs of one machine (`--resources gpu=2`): jobs run on both at once, and never two on one. On a driver that is not there."""

import re
import subprocess
import sys
from itertools import combinations, pairwise

import pytest
from place import STUDY, Project, make_project, pretend_driver
from speedgrid import records
from speedgrid.report import timeline
from speedgrid.schema import MEASURE, RUNS, WARMUP

TECHNIQUES = ("plain", "second", "third", "fourth")
# A job that has a GPU waits here until one on the other GPU has come as far, ten seconds at most.
NVIDIA_SMI = """#!/bin/sh
if [ -n "$CUDA_VISIBLE_DEVICES" ]; then
  mkdir -p "{met}/$CUDA_VISIBLE_DEVICES"
  for try in $(seq 200); do [ "$(ls '{met}' | wc -l)" -ge 2 ] && break; sleep 0.05; done
fi
echo "NVIDIA Unreal, GPU-0-{mine}, 580.95.05, 81920, 9.0"
echo "NVIDIA Unreal, GPU-1-{mine}, 580.95.05, 81920, 9.0"
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Project:
    """The study of the faults on GPUs, measured with two at a time, and its page."""
    one = {"label": "x", "family": "reference", "summary": "For tests.", "engine": "chain", "env": "report"}
    experiment = STUDY["experiments"]["e"] | {"techniques": list(TECHNIQUES), "baseline_runs": 1, "repeat_disturbed": 0, "evaluate": False}
    study = STUDY | {
        "gpus": {"gpu": {"device": "cuda"}},
        "techniques": {name: one | {"label": name} for name in TECHNIQUES},
        "experiments": {"e": experiment},
    }
    made = make_project(tmp_path_factory.mktemp("two gpus"), tmp_path_factory.mktemp("chain"), study)
    environ = made.environ(PATH=pretend_driver(tmp_path_factory.mktemp("driver"), made.folder / "site", NVIDIA_SMI))
    environ.pop("CUDA_VISIBLE_DEVICES", None)
    command = [sys.executable, "-m", "snakemake", "--cores", "4", "--resources", "gpu=2", *made.arguments()]
    targets = [f"results/gpu/e/chain/{technique}/measure.parquet" for technique in TECHNIQUES]
    for what in ([*command, *targets], [sys.executable, "scripts/make_page.py", "--study", "study.yaml"]):
        done = subprocess.run(what, cwd=made.folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert done.returncode == 0, done.stdout
    return made


@pytest.fixture(scope="module")
def jobs(project) -> list[dict]:
    """The facts of every job on a GPU, in the order in which they began."""
    folders = [project.folder / "results/gpu/e/chain" / technique for technique in TECHNIQUES]
    found = [records.read(folder / f"{table.name}.parquet", table) for folder in folders for table in (WARMUP, MEASURE)]
    assert {record.status for record in found} == {"ok"}, [record.reason for record in found]
    return sorted((record.facts for record in found), key=lambda facts: facts["started_at"])


def test_no_two_jobs_share_a_gpu(jobs):
    by_gpu: dict[str, list[dict]] = {}
    for job in jobs:
        by_gpu.setdefault(job["device_uuid"], []).append(job)
    assert len(by_gpu) == 2, "all jobs ran on one GPU"
    for own in by_gpu.values():
        assert all(earlier["ended_at"] <= later["started_at"] for earlier, later in pairwise(own))


def test_both_gpus_work_at_once(jobs):
    beside = [(one, other) for one, other in combinations(jobs, 2) if other["started_at"] < one["ended_at"]]
    assert beside
    assert all(one["device_uuid"] != other["device_uuid"] for one, other in beside)


def test_how_busy_the_gpus_were_is_read_beside_the_jobs(project, jobs):
    """Importing takes a second at least, in which the idle power is read."""
    for job in jobs:
        shares = dict(zip(job["phases"], job["phase_gpu"], strict=True))
        assert set(shares.values()) <= {0.5, None}
        assert job["stage"] != "measure" or shares["importing packages"] == 0.5
    rows = records.read(project.folder / "results/runs.parquet", RUNS).rows
    found = timeline.gpu_time(rows)
    assert (found.gpus, found.kernels) == (2, pytest.approx(found.read / 2))
    assert 0 < found.kernels < found.held <= 1
    page = (project.folder / "results/report.html").read_text(encoding="utf-8")
    assert re.search(r"Jobs held .* of the time of these 2 GPUs, and worked on them for", page)
