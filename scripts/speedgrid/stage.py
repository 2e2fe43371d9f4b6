"""The frame of every job: its specification, what it says, and a result file whatever comes of it.

A script hands `run` the work of its stage. `run` reads the arguments, picks the device, and ends in one of three ways: the result file
holds figures; or it holds a row with the status and reason of a failure, expected or not, so that one bad cell stops no other; or, where
the machine is at fault (no room on the disk, no such GPU), the job fails without a result.

A bug is a row with the status `failed`, and the traceback is in the log. It is no result for ever: the file has a twin beside it,
`NAME.failed.parquet`, by which the end of the run knows of it and the next run does the job again (planning.run.take_back_failures).

The work runs in a child process (supervision.py), so that there is a row too where that process is killed or never returns. A job that is
asked to stop writes no result: Snakemake runs it again. What it has counted until then is kept beside, marked as interrupted.
"""

import argparse
import gc
import json
import os
import resource
import shutil
import signal
import sys
import textwrap
import time
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Generic, NoReturn, TypeVar

from speedgrid import busy, checkpoints, claims, hardware, job_shell, jobtext, meters, outcomes, records, supervision, this_machine
from speedgrid.engines import engine_class
from speedgrid.engines.base import Engine
from speedgrid.progress import say
from speedgrid.schema import AXES, CHECKPOINT, EVALUATE, MEASURE, MEASURED, MODEL, PROBE, REFERENCE, REQUESTS, RUN, SCORE, WARMUP
from speedgrid.transforms import uses_torch

TABLES = {table.name: table for table in (MODEL, CHECKPOINT, PROBE, WARMUP, MEASURE, REQUESTS, REFERENCE, EVALUATE, SCORE)}
# Jobs that compute with no model, in environments without PyTorch.
WITHOUT_MODEL = (REQUESTS.name, SCORE.name)
ENDING = "ending, its result written"
NO_RESULT = "ending without a result"
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


Specification = TypeVar("Specification", bound=Mapping[str, Any])


@dataclass
class Job(Generic[Specification]):
    """One job: its specification (a type of specification.py), what it measures on, and the rows and facts that it gathers."""

    stage: str
    specification: Specification
    out: Path
    checkpoint: Path
    checkpoint_facts: Mapping = field(default_factory=dict)
    checkpoint_files: Mapping = field(default_factory=dict)
    # The fingerprint of its code, where whoever started it says so; and what it started from (records.Record.identity), by record.
    code: str = ""
    made_from: Mapping[str, str] = field(default_factory=dict)
    # Picked before any work (_attempt); None until then.
    device: hardware.Device = field(default=None)  # type: ignore[assignment]
    # Seconds that picking the device took, the import of PyTorch included: a part of the cold start.
    device_s: float = 0.0
    threads: int = 1
    rows: list[dict] = field(default_factory=list)
    facts: dict = field(default_factory=dict)
    # What the job does and has done, each with when it began (time.perf_counter).
    entered: list[tuple[str, float]] = field(default_factory=lambda: [("starting", time.perf_counter())])
    # How busy its GPU was in each of them; None where it has none for itself.
    gpu_busy: busy.BusyPhases | None = None
    # Whether others may make checkpoints on its GPU at the same time: its time and what it ran out of are not those of it alone.
    is_beside_others: bool = False
    tell: Callable[[str], object] = field(default=lambda phase: None)

    def enter(self, phase: str) -> None:
        """Say what the job begins to do now, such as `loading`; the reason of a failure names it."""
        self.entered.append((phase, time.perf_counter()))
        self.tell(phase)

    @property
    def phase(self) -> str:
        return self.entered[-1][0] if self.entered else "starting"

    def phases(self) -> dict:
        """What the job has been at, the present phase included, for how long, and how busy its GPU was: the facts `phases`, `phase_s` and
        `phase_gpu`; empty where nobody knows."""
        if not self.entered:
            return {}
        began = [at for _, at in self.entered]
        ends = [*began[1:], time.perf_counter()]
        return {
            "phases": [name for name, _ in self.entered],
            "phase_s": [end - at for at, end in zip(began, ends, strict=True)],
            "phase_gpu": self.gpu_busy.shares(len(self.entered)) if self.gpu_busy else None,
        }

    @property
    def name(self) -> str:
        """How the job is called in logs: its stage and cell."""
        keys = [self.specification[axis] for axis in AXES if axis in self.specification]
        return f"{self.stage} {'/'.join(keys)}" + (f" (run {self.specification['run']})" if "run" in self.specification else "")

    def keep(self, row: Mapping) -> None:
        """Add a row of figures; it is kept even if the job fails or is stopped later."""
        self.rows.append({**self.keys, "status": "ok", "reason": "", **row})

    @property
    def keys(self) -> dict:
        declared = {column.name for column in TABLES[self.stage].columns}
        return {axis: self.specification[axis] for axis in AXES if axis in self.specification and axis in declared}

    @property
    def uses_torch(self) -> bool:
        """Whether the job computes with PyTorch in this process."""
        if "transform" in self.specification:
            return uses_torch(self.specification["transform"]["method"])
        if self.stage in WITHOUT_MODEL:
            return False
        return engine_class(self.specification["engine"]).uses_torch if "engine" in self.specification else True

    @contextmanager
    def engine(self) -> Iterator[Engine]:
        """The cell's engine, not loaded yet; what it has started is stopped in the end."""
        asked = self.specification
        engine = engine_class(asked["engine"])(self.checkpoint, self.device, asked["options"], self.threads, asked["trust_remote_code"])
        try:
            yield engine  # type: ignore[misc]  # the job's workload asks for nothing that this kind of runtime lacks
        finally:
            engine.close()


def run(stage: str, work: Callable[[Job], str]) -> None:
    """Run a stage's job from its command line; `work` fills the job's rows and facts and returns its headline figure."""
    arguments = _parse(stage)
    job_shell.check_python()
    if find_spec("pyarrow") is None:
        sys.exit(f"speedgrid: the package pyarrow is missing in {sys.executable}, and no result can be written without it")
    specification = json.loads(jobtext.received(arguments.job))
    job = Job(stage, specification, arguments.out, (arguments.checkpoint or arguments.out).parent / "checkpoint")
    job.code = arguments.code
    limits = (supervision.TIME_BUDGET, supervision.WANTED_BY, supervision.GPU_JOBS, supervision.MAKES)
    budget_s, wanted_by, gpu_jobs, makes = (int(os.environ.get(name) or 0) or None for name in limits)
    # Held by this process and the one that it watches; the time for it is not the job's.
    claim = None
    if not _is_out_of_reach(job):
        shared = (makes or 0) if stage == "quantize" else 0
        claim = claims.claim_gpu(specification["device"], gpu_jobs or 1, lambda text: say(f"{job.name}: {text}"), shared)
    started = datetime.now(UTC)
    beside = None
    if claim:
        job.is_beside_others = shared > 0
    if claim and not job.is_beside_others:
        job.gpu_busy = busy.BusyPhases()
        beside = partial(job.gpu_busy.watch, claim.gpu.uuid)
    end = supervision.watch(lambda tell: _run_watched(job, work, arguments, started, tell), budget_s, wanted_by, beside)
    if claim:
        claim.close()
    if end.phase == ENDING:
        # The result is whole. Some libraries crash or hang when they are unloaded, and that costs no measurement.
        sys.exit(0)
    outcome = _outcome_of(end, budget_s)
    if outcome is None:
        _exit_like(end, job)
    # The row of a process that could not write it, and that alone knew how long it had been at what.
    job.entered.clear()
    job.made_from = _made_from(specification, arguments.checkpoint)
    status, reason = _failed_if_sharing(outcome, str(outcome), job)
    job.rows.append({**job.keys, "status": status, "reason": reason})
    try:
        _write_result(job, started, this_machine.facts(), end.peak)
    except (ImportError, OSError) as error:
        sys.exit(_cannot_write(job, error))
    say(f"{job.name}: {status}: {reason}")


def _run_watched(
    job: Job, work: Callable[[Job], str], arguments: argparse.Namespace, started: datetime, tell: Callable[[str], object]
) -> int:
    """The job itself, in the process that is watched; returns its exit status."""
    job.tell = tell
    # Before the work: some libraries put packages of their own on Python's path, which are not installed ones.
    machine = this_machine.facts()
    _use_threads(job)
    print(f"{job.name}: start", flush=True)  # into its log; the person has the line of the step
    try:
        headline = _attempt(job, work, arguments)
        supervision.finish_undisturbed()
        job.enter("writing the result")
        _write_result(job, started, machine, meters.process_peak())
    except outcomes.Interrupted as stop:
        _keep_interrupted(job, stop, started, machine)
        job.enter(NO_RESULT)
        return 128 + stop.number
    except MemoryError:
        return supervision.NO_MEMORY
    except hardware.DeviceError as error:
        say(f"{job.name}: failed: {error}")
        job.enter(NO_RESULT)
        return 1
    except Exception as error:
        if not isinstance(error, ImportError) and not _is_without_room(error):
            raise
        said = _cannot_write(job, error)
        job.enter(NO_RESULT)
        return said
    _interrupted(job.out).unlink(missing_ok=True)
    say(f"{job.name}: {headline}")
    job.enter(ENDING)
    return 0


def _outcome_of(end: supervision.End, budget_s: float | None) -> outcomes.Outcome | None:
    """The expected failure of a process that could not write its row, if it was one."""
    at = f" while {end.phase}" if end.phase else ""
    if end.late and budget_s is not None:
        return outcomes.Timeout(supervision.late(budget_s) + at)
    if end.no_memory:
        killed = " and was killed by the kernel" if end.status == -signal.SIGKILL else ""
        return outcomes.OutOfMemory(f"the process ran out of memory{at}{killed}; {_held(end.peak)}")
    if end.asked or end.phase == NO_RESULT or end.status == -signal.SIGKILL:
        # Somebody's wish, or the machine's fault: it says nothing of the cell.
        return None
    how = f"was ended by {signal.Signals(-end.status).name}" if end.status < 0 else f"ended with exit status {end.status}"
    return outcomes.Failed(f"the process {how}{at}{_see_log()}")


def _exit_like(end: supervision.End, job: Job) -> NoReturn:
    if end.status < 0:
        say(f"{job.name}: failed: ended by {signal.Signals(-end.status).name} while {end.phase or job.phase}; its log may say more")
    sys.exit(end.status if end.status >= 0 else 128 - end.status)


def _cannot_write(job: Job, error: Exception) -> int:
    """Say why there can be no result, and return the exit status."""
    if isinstance(error, ImportError):
        say(f"{job.name}: failed: {_broken_environment(error)}")
    else:
        say(f"{job.name}: failed while {job.phase}: no room on the disk ({outcomes.first_line(error)}); make some and run again")
    return 1


def _is_of_environment(error: BaseException) -> bool:
    """Whether an import failed over a module of the environment, so that making it anew may help: not over one of speedgrid, which is a
    bug, and not where a library raises the error itself to say what it does not do."""
    for seen in (error, *outcomes.causes(error, handled=True)):
        # Python's own import tells the module and where it lies; NumPy and others raise another error in its place, and keep the first.
        name = seen.name or "" if isinstance(seen, ImportError) else ""
        if isinstance(seen, ImportError) and name and name.partition(".")[0] != "speedgrid":
            return _lies_in_environment(seen.path) or _lies_in_environment(_origin(name.partition(".")[0]))
    return False


def _lies_in_environment(place: str | None) -> bool:
    return place is not None and place != "" and Path(place).is_relative_to(sys.prefix)


def _origin(package: str) -> str | None:
    try:
        found = find_spec(package)
    except (ImportError, ValueError):
        return None
    return found.origin if found else None


def _broken_environment(error: BaseException) -> str:
    return f"the environment {sys.prefix} does not work ({outcomes.in_one_line(error)}); if it is damaged, delete it and run again"


def _keep_interrupted(job: Job, stop: outcomes.Interrupted, started: datetime, machine: Mapping) -> None:
    """What was counted until the job was asked to stop, in a file of its own: it is no result, and the cell is measured again."""
    path, count = _interrupted(job.out), len(job.rows)
    told = f"{job.name}: {stop} while {job.phase}" + (f"; {count} rows are kept in {path}" if count else "")
    if stop.number == signal.SIGINT:
        print(told, flush=True)  # into its log: who pressed Ctrl-C has a line of the run
    else:
        say(told)
    if count:
        job.rows.append({**job.keys, "status": stop.status, "reason": f"{stop} while {job.phase}"})
        _write(job, path, started, machine, meters.process_peak())


def _interrupted(out: Path) -> Path:
    return out.with_suffix(".interrupted.parquet")


def _write_result(job: Job, started: datetime, machine: Mapping, peak: int) -> None:
    """The result file; one that holds a failure that nobody expected has a twin, whose name says so."""
    twin = records.failed(job.out)
    if any(row["status"] == outcomes.Failed.status for row in job.rows):
        _write(job, twin, started, machine, peak)
        with records.replacing(job.out) as temporary:
            shutil.copyfile(twin, temporary)
    else:
        _write(job, job.out, started, machine, peak)
        twin.unlink(missing_ok=True)


def _write(job: Job, path: Path, started: datetime, machine: Mapping, peak: int) -> None:
    records.write(path, TABLES[job.stage], job.rows, {**_run_facts(job, started, machine, peak), **job.facts})


def _is_without_room(error: BaseException) -> bool:
    """Whether the disk is full, also in the words of libraries that have no OSError for it (safetensors, llama.cpp)."""
    if isinstance(error, OSError) and error.errno is not None:
        return error.errno in outcomes.NO_ROOM
    return any(os.strerror(number) in str(error) for number in outcomes.NO_ROOM)


def _held(peak: int) -> str:
    """How much memory the process held, and the limit that it ran under, where there is one, in bytes."""
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    return f"it held {peak:,} bytes at most" + ("" if limit == resource.RLIM_INFINITY else f", and its limit is {limit:,}")


def _attempt(job: Job, work: Callable[[Job], str], arguments: argparse.Namespace) -> str:
    try:
        job.made_from = _made_from(job.specification, arguments.checkpoint)
        _inherit_failure(job, arguments)
        _check_reach(job)
        began = time.perf_counter()
        job.device = hardware.pick_device(job.specification["device"], job.specification.get("gpu", "local"), job.uses_torch)
        job.device_s = time.perf_counter() - began
        _check_requirements(job)
        _check_checkpoint(job, arguments.checkpoint)
        headline = work(job)
        # Somebody may have replaced the weights while they were read.
        _check_checkpoint(job, arguments.checkpoint)
        return headline
    except BaseException as error:
        # Not Exception: a library in Rust panics, and any library may call sys.exit.
        if isinstance(error, (outcomes.Interrupted, hardware.DeviceError)) or _is_without_room(error):
            raise
        outcome = outcomes.expected(error, job.specification.get("model", "NAME")) or _unexpected(error, job)
        status, reason = _failed_if_sharing(outcome, _reason(outcome, job), job)
    # The error is forgotten here, and with it the frames that hold what filled the memory: the row is yet to be written.
    gc.collect()
    job.rows.append({**job.keys, "status": status, "reason": reason})
    return f"{status}: {reason}"


def _unexpected(error: BaseException, job: Job) -> outcomes.Failed:
    """What nobody foresaw, in one line; the traceback goes to the log."""
    if isinstance(error, outcomes.ModelError | records.RecordError):
        return outcomes.Failed(str(error))
    traceback.print_exception(error)
    if _is_of_environment(error):
        return outcomes.Failed(_broken_environment(error))
    said = textwrap.shorten(outcomes.in_one_line(error), outcomes.REASON_CHARACTERS, placeholder=" ...")
    if not isinstance(error, outcomes.Fault):
        said = f"{type(error).__name__}{f': {said}' if said else ''}{_cause(error)}"
    return outcomes.Failed(f"{outcomes.shown(said)}, while {job.phase}{_see_log()}")


def _cause(error: BaseException) -> str:
    """The first of the errors that this one was raised from that says something else: a library may put mere advice in the place of an
    error."""
    known = outcomes.in_one_line(error)
    for first in reversed(list(outcomes.causes(error))):
        if (said := outcomes.in_one_line(first)) and said not in known:
            return f" (caused by {type(first).__name__}: {textwrap.shorten(said, outcomes.REASON_CHARACTERS, placeholder=' ...')})"
    return ""


def _see_log() -> str:
    """Where the job's output goes, where that is a file: `; see logs/...`."""
    try:
        log = os.readlink("/proc/self/fd/1")
    except OSError:
        return ""
    return f"; see {os.path.relpath(log)}" if os.path.isfile(log) else ""


def _reason(outcome: outcomes.Outcome, job: Job) -> str:
    """Why, in words; what ran out ran out during a phase, which is named, unless the reason comes from an earlier job."""
    if type(outcome) is outcomes.OutOfMemory:
        return f"while {job.phase}: {outcome}; {_held(meters.process_peak())}"
    return f"{outcome} while {job.phase}" if type(outcome) is outcomes.Timeout else str(outcome)


def _failed_if_sharing(outcome: outcomes.Outcome, reason: str, job: Job) -> tuple[str, str]:
    """Status and reason of a job's row. Alone on its GPU a job may have the memory and the time that it lacked beside others, so what ran
    out there is no outcome of the cell: the next run does the job again."""
    if job.is_beside_others and isinstance(outcome, (outcomes.OutOfMemory, outcomes.Timeout)):
        return outcomes.Failed.status, f"{reason}, where other checkpoints may have been made on the same GPU; run again without `makes`"
    return outcome.status, reason


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
            job.checkpoint_files = json.loads(record.facts.get("files") or "{}")


def _made_from(specification: Mapping, checkpoint: Path | None) -> dict[str, str]:
    """What a job starts from, by record: the checkpoint, and what its specification names. What cannot be read is for its work to say."""
    found = {}
    if checkpoint is not None:
        with suppress(records.RecordError):
            found[str(checkpoint)] = records.read(checkpoint, TABLES[checkpoint.stem]).identity
    named = [specification.get("requests"), specification.get("reference")]
    for path in filter(None, (*named, *(entry["evaluate"] for entry in specification.get("techniques", ())))):
        found[path] = records.seal_of(path)
    return found


def _check_reach(job: Job) -> None:
    """What can be refused before the engine's packages are there: planning gives such a job a small environment."""
    if reason := os.environ.get(job_shell.NO_ENVIRONMENT):
        raise outcomes.Failed(reason)
    if job.specification.get("unavailable"):
        raise outcomes.Unsupported(job.specification["unavailable"])
    if job.specification.get("lacks"):
        raise outcomes.MissingDependency(job.specification["lacks"])
    if "cuda" in job.specification["requires"] and hardware.is_cpu(job.specification["device"], hardware.gpus()):
        raise outcomes.Unsupported(f"needs an NVIDIA GPU; this device is a CPU, {this_machine.cpu_name()}")


def _is_out_of_reach(job: Job) -> bool:
    try:
        _check_reach(job)
    except outcomes.Outcome:
        return True
    return False


def _check_requirements(job: Job) -> None:
    requires = job.specification["requires"]
    for name, (needed, generation) in hardware.CAPABILITIES.items():
        if name in requires and job.device.capability < needed:
            has = ".".join(map(str, job.device.capability))
            raise outcomes.Unsupported(f"needs compute capability {'.'.join(map(str, needed))} ({generation}); {job.device.name} has {has}")
    if "compiler" in requires and not job.device.is_gpu and not any(map(shutil.which, ("g++", "clang++", "c++"))):
        raise outcomes.MissingDependency("torch.compile needs a C++ compiler (g++) on a CPU")


def _check_checkpoint(job: Job, record: Path | None) -> None:
    """Raise RecordError where the weights are no longer those that the record tells of: no figure may stand for others."""
    if record is None:
        return
    if changed := checkpoints.changed(job.checkpoint, job.checkpoint_facts, job.checkpoint_files):
        raise records.RecordError(f"{job.checkpoint}: {changed}: changed or damaged since; delete {record} and run again")


def _use_threads(job: Job) -> None:
    """Fix the number of threads before any library reads it: Snakemake sets it to the threads that it schedules with."""
    wanted = job.specification["threads"]
    job.threads = this_machine.physical_cores() if wanted == "auto" else wanted
    for variable in THREAD_VARIABLES:
        os.environ[variable] = str(job.threads)


def _run_facts(job: Job, started: datetime, machine: Mapping, peak: int) -> dict:
    facts = {
        "stage": job.stage,
        "started_at": started.isoformat(timespec="milliseconds"),
        "ended_at": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "threads": job.threads,
        "env": job.specification.get("env", ""),
        "seed": job.specification["seed"],
        "code": job.code,
        "recipe": job_shell.recipe(),
        "made_from": json.dumps(job.made_from, sort_keys=True),
        "job": json.dumps(job.specification, sort_keys=True, ensure_ascii=False),
        "rss_peak": peak,
        **job.phases(),
        **machine,
        **(hardware.device_facts(job.device) if job.device else {}),
    }
    return {column.name: facts.get(column.name) for column in RUN}


def _parse(stage: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=f"The job `{stage}` of one cell; Snakemake calls it, and it also runs by hand.")
    parser.add_argument("--job", required=True, help="the job's specification, as JSON (cell.Cell.job), or @FILE")
    parser.add_argument("--checkpoint", type=Path, help="record of the checkpoint: prepared.parquet or quantize.parquet")
    parser.add_argument("--after", type=Path, help="result file of the job before; where that one failed, this one ends like it")
    parser.add_argument("--code", default="", help="fingerprint of the code that the result depends on; the result says it")
    parser.add_argument("--out", required=True, type=Path, help="result file to write")
    return parser.parse_args()
