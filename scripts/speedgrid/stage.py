"""The frame of every job: what it was told, what it says, and a result file whatever comes of it.

A script hands `run` the work of its stage. `run` reads the arguments, picks the device, and ends in one of three ways: the result file
holds figures; or it holds a row with the status and reason of an expected failure; or the job fails, loudly, because of a bug.
"""

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.util import find_spec
from pathlib import Path

from speedgrid import hardware, meters, outcomes, records
from speedgrid.engines import engine_class
from speedgrid.engines.base import Engine
from speedgrid.progress import say
from speedgrid.schema import CHECKPOINT, EVALUATE, MEASURE, MEASURED, MODEL, PROBE, RUN, WARMUP
from speedgrid.transforms import uses_torch

TABLES = {table.name: table for table in (MODEL, CHECKPOINT, PROBE, WARMUP, MEASURE, EVALUATE)}
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass
class Job:
    """One job: what it was told, what it measures on, and the rows and facts that it gathers."""

    stage: str
    told: Mapping
    out: Path
    checkpoint: Path
    checkpoint_facts: Mapping = field(default_factory=dict)
    device: hardware.Device | None = None
    # Seconds that picking the device took, the import of PyTorch included: a part of the cold start.
    device_s: float = 0.0
    threads: int = 1
    rows: list[dict] = field(default_factory=list)
    facts: dict = field(default_factory=dict)

    @property
    def name(self) -> str:
        """How the job is called in logs: its stage and cell."""
        keys = [self.told[axis] for axis in ("gpu", "experiment", "model", "technique") if axis in self.told]
        return f"{self.stage} {'/'.join(keys)}" + (f" (run {self.told['run']})" if "run" in self.told else "")

    def keep(self, row: Mapping) -> None:
        """Add a row of figures; it is in the result file even if the job fails later."""
        self.rows.append({**self.keys, "status": "ok", "reason": "", **row})

    @property
    def keys(self) -> dict:
        declared = {column.name for column in TABLES[self.stage].columns}
        return {axis: self.told[axis] for axis in ("gpu", "experiment", "model", "technique") if axis in self.told and axis in declared}

    @property
    def uses_torch(self) -> bool:
        """Whether the job computes with PyTorch in this process."""
        if "transform" in self.told:
            return uses_torch(self.told["transform"]["method"])
        return engine_class(self.told["engine"]).uses_torch if "engine" in self.told else True

    @contextmanager
    def engine(self) -> Iterator[Engine]:
        """The cell's engine, not loaded yet; what it has started is stopped in the end."""
        told = self.told
        engine = engine_class(told["engine"])(self.checkpoint, self.device, told["options"], self.threads, told["trust_remote_code"])
        try:
            yield engine
        finally:
            engine.close()


def run(stage: str, work: Callable[[Job], str]) -> None:
    """Run a stage's job from its command line; `work` fills the job's rows and facts and returns its headline figure."""
    arguments = _parse(stage)
    if find_spec("pyarrow") is None:
        sys.exit(f"speedgrid: the package pyarrow is missing in {sys.executable}, and no result can be written without it")
    told = json.loads(arguments.job)
    job = Job(stage, told, arguments.out, (arguments.checkpoint or arguments.out).parent / "checkpoint")
    started = datetime.now(UTC)
    # Before the work: some libraries put packages of their own on Python's path, which are not installed ones.
    machine = hardware.machine_facts()
    _use_threads(job)
    say(f"{job.name}: start")
    try:
        headline = _attempt(job, work, arguments)
    except (hardware.DeviceError, outcomes.ModelError, records.RecordError) as error:
        say(f"{job.name}: failed: {error}")
        sys.exit(1)
    facts = _run_facts(job, started, machine)
    records.write(arguments.out, TABLES[stage], job.rows, {**facts, **job.facts})
    say(f"{job.name}: {headline}")


def _attempt(job: Job, work: Callable[[Job], str], arguments: argparse.Namespace) -> str:
    try:
        _inherit_failure(job, arguments)
        _check_reach(job)
        began = time.perf_counter()
        job.device = hardware.pick_device(job.told["device"], job.told.get("gpu", "local"), job.uses_torch)
        job.device_s = time.perf_counter() - began
        _check_requirements(job)
        return work(job)
    except (Exception, MemoryError) as error:
        outcome = outcomes.expected(error)
        if outcome is None:
            raise
        job.rows.append({**job.keys, "status": outcome.status, "reason": str(outcome)})
        return f"{outcome.status}: {outcome}"


def _inherit_failure(job: Job, arguments: argparse.Namespace) -> None:
    """End the job like the one before it, where that one ended without what this one needs."""
    for path in filter(None, (arguments.checkpoint, arguments.after)):
        table = TABLES[path.stem]
        record = records.read(path, table)
        if record.status not in MEASURED:
            failure = outcomes.Outcome(record.reason)
            failure.status = record.status
            raise failure
        if table in (MODEL, CHECKPOINT):
            job.checkpoint_facts = record.rows[0]


def _check_reach(job: Job) -> None:
    """What can be refused before the engine's packages are there: planning gives such a job a small environment."""
    if job.told.get("unavailable"):
        raise outcomes.Unsupported(job.told["unavailable"])
    if "cuda" in job.told["requires"] and hardware.is_cpu(job.told["device"], hardware.gpus()):
        raise outcomes.Unsupported(f"needs an NVIDIA GPU; this device is a CPU, {hardware.cpu_name()}")


def _check_requirements(job: Job) -> None:
    requires = job.told["requires"]
    for name, (needed, generation) in hardware.CAPABILITIES.items():
        if name in requires and job.device.capability < needed:
            has = ".".join(map(str, job.device.capability))
            raise outcomes.Unsupported(f"needs compute capability {'.'.join(map(str, needed))} ({generation}); {job.device.name} has {has}")
    if "compiler" in requires and not job.device.is_gpu and not any(map(shutil.which, ("g++", "clang++", "c++"))):
        raise outcomes.MissingDependency("torch.compile needs a C++ compiler (g++) on a CPU")


def _use_threads(job: Job) -> None:
    """Fix the number of threads before any library reads it: Snakemake sets it to the threads that it schedules with."""
    wanted = job.told["threads"]
    job.threads = hardware.physical_cores() if wanted == "auto" else wanted
    for variable in THREAD_VARIABLES:
        os.environ[variable] = str(job.threads)


def _run_facts(job: Job, started: datetime, machine: Mapping) -> dict:
    facts = {
        "stage": job.stage,
        "started_at": started.isoformat(timespec="seconds"),
        "ended_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "threads": job.threads,
        "env": job.told.get("env", ""),
        "seed": job.told["seed"],
        "job": json.dumps(job.told, sort_keys=True, ensure_ascii=False),
        "rss_peak": meters.process_peak(),
        **machine,
        **(hardware.device_facts(job.device) if job.device else {}),
    }
    return {column.name: facts.get(column.name) for column in RUN}


def _parse(stage: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=f"The job `{stage}` of one cell; Snakemake calls it, and it also runs by hand.")
    parser.add_argument("--job", required=True, help="what the job is told, as JSON (grid.Cell.job)")
    parser.add_argument("--checkpoint", type=Path, help="record of the checkpoint: prepared.parquet or quantize.parquet")
    parser.add_argument("--after", type=Path, help="result file of the job before; where that one failed, this one ends like it")
    parser.add_argument("--out", required=True, type=Path, help="result file to write")
    return parser.parse_args()
