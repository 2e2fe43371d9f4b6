"""Checkpoints made side by side on one GPU (`--resources gpu=1 makes=2`): what shares the GPU, and what is said of it. On a driver that is
not there."""

import subprocess
import sys
from itertools import product
from pathlib import Path

import pytest
from place import STUDY, Project, make_project, pretend_driver
from speedgrid import records
from speedgrid.schema import CHECKPOINT, MEASURE, WARMUP

MADE = ("first", "other")
# The first two jobs that have a GPU wait here until both have come as far, ten seconds at most.
NVIDIA_SMI = """#!/bin/sh
if [ -n "$CUDA_VISIBLE_DEVICES" ]; then
  mkdir -p "{met}/$PPID"
  for try in $(seq 200); do [ "$(ls '{met}' | wc -l)" -ge 2 ] && break; sleep 0.05; done
fi
echo "NVIDIA Unreal, GPU-0-{mine}, 580.95.05, 81920, 9.0"
"""


class Rented:
    """A project on a machine with one GPU."""

    def __init__(self, project: Project, driver: Path):
        self.project = project
        self.path = pretend_driver(driver, project.folder / "site", NVIDIA_SMI)

    def run(self, *resources: str, ends_with: int = 0, **variables: str) -> None:
        environ = self.project.environ(PATH=self.path, **variables)
        environ.pop("CUDA_VISIBLE_DEVICES", None)
        command = [sys.executable, "-m", "snakemake", "--cores", "4", "--resources", *resources, *self.project.arguments()]
        targets = [f"results/gpu/e/chain/{technique}/measure.parquet" for technique in ("plain", *MADE)]
        done = subprocess.run([*command, *targets], cwd=self.project.folder, env=environ, capture_output=True, text=True)
        assert done.returncode == ends_with, done.stdout + done.stderr

    def checkpoints(self) -> list[records.Record]:
        return [
            records.read(self.project.folder / f"results/checkpoints/chain/{name}/bfloat16/quantize.parquet", CHECKPOINT) for name in MADE
        ]

    def timed(self) -> list[records.Record]:
        folders = [self.project.folder / "results/gpu/e/chain" / technique for technique in ("plain", *MADE)]
        return [records.read(folder / f"{table.name}.parquet", table) for folder in folders for table in (WARMUP, MEASURE)]


@pytest.fixture
def rented(tmp_path) -> Rented:
    one = {"label": "x", "family": "reference", "summary": "For tests.", "engine": "chain", "env": "report"}
    made = {name: one | {"label": name, "transform": {"method": "chain"}} for name in MADE}
    experiment = STUDY["experiments"]["e"] | {"techniques": ["plain", *MADE], "baseline_runs": 1, "repeat_disturbed": 0, "evaluate": False}
    study = STUDY | {
        "gpus": {"gpu": {"device": "cuda"}},
        "techniques": {"plain": one | {"label": "plain"}} | made,
        "experiments": {"e": experiment},
    }
    for name in ("project", "model", "driver"):
        (tmp_path / name).mkdir()
    return Rented(make_project(tmp_path / "project", tmp_path / "model", study), tmp_path / "driver")


def overlap(one: records.Record, other: records.Record) -> bool:
    return one.facts["started_at"] < other.facts["ended_at"] and other.facts["started_at"] < one.facts["ended_at"]


def test_checkpoints_are_made_at_once_and_nothing_is_timed_beside_them(rented):
    rented.run("gpu=1", "makes=2")
    made, timed = rented.checkpoints(), rented.timed()
    assert {record.status for record in (*made, *timed)} == {"ok"}, [record.rows[0].get("reason") for record in (*made, *timed)]
    assert overlap(*made)
    assert len({record.facts["device_uuid"] for record in (*made, *timed)}) == 1
    assert not any(overlap(one, other) for one, other in product(made, timed))
    for record in made:
        # Neither its time nor the use of the GPU is that of it alone.
        assert record.rows[0]["seconds"] is None
        assert not any(record.facts["phase_gpu"] or [])
    assert not any(overlap(one, other) for one, other in product(timed, timed) if one is not other)


def test_what_runs_out_of_memory_beside_others_is_made_again_alone(rented):
    rented.run("gpu=1", "makes=2", ends_with=1, SPEEDGRID_FAULT="quantize make device")
    for record in rented.checkpoints():
        assert record.status == "failed"
        assert record.rows[0]["reason"].endswith("where other checkpoints may have been made on the same GPU; run again without `makes`")
    rented.run("gpu=1")
    made = rented.checkpoints()
    assert {record.status for record in (*made, *rented.timed())} == {"ok"}
    assert not overlap(*made)
    assert all(record.rows[0]["seconds"] > 0 for record in made)
