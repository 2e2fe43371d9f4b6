"""The protocol of a measurement, the same for every workload (base.Work): its counted runs, and its first ones in a cold start."""

import gc
import json
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from statistics import median
from typing import Any

from speedgrid import compiled, meters, monitor, outcomes
from speedgrid.engines.base import Runtime
from speedgrid.hardware import Device
from speedgrid.progress import Steps, say
from speedgrid.specification import Measure, Settings, Warmup
from speedgrid.stage import Job
from speedgrid.stats import Precision, stop
from speedgrid.workloads.base import Work, work_class

# Not workload.PLURALS: an edit of workload.py would then have every cell measured again.
PLURALS = {"pass": "passes", "step": "steps", "reply": "replies"}
_BYTES = {"bytes": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}


def work_of(job: Job[Warmup] | Job[Measure], engine: Runtime) -> Work:
    """The workload of a job's cell, nothing read or loaded yet."""
    return work_class(job.specification["workload"])(engine, job.specification["settings"], job.specification["seed"])


def runs(work: Work, clock: meters.Stopwatch) -> Iterator[float]:
    """The seconds of one run after another, at the first size."""
    work.prepare(work.next_point([]))
    while True:
        clock.restart()
        result = work.run()
        seconds = clock.seconds()
        yield seconds if (own := work.seconds(result)) is None else own
        work.columns(result)


def measure(job: Job[Measure]) -> str:
    """The counted runs, a row each, with the facts of the cell (schema.MEASURE)."""
    compiled.keep_apart(job.out.parent)
    with job.engine() as engine:
        return _measured(job, engine, work_of(job, engine))


def _measured(job: Job[Measure], engine: Runtime, work: Work) -> str:
    settings = job.specification["settings"]
    memory, clock = meters.MemoryMeter(job.device, engine.uses_torch), meters.Stopwatch(job.device)
    job.enter("importing packages")
    with monitor.Idle(job.device) as idle:
        engine.import_packages()
        work.open()
    job.facts |= {name: job.checkpoint_facts[name] for name in ("checkpoint_bytes", "checkpoint_sha256")}
    job.facts |= work.facts()

    job.enter("loading the checkpoint")
    memory.forget_peak()
    job.facts |= {"memory_source": memory.source, "memory_before": memory.held()}
    clock.restart()
    work.load()
    job.facts |= {"load_s": clock.seconds(), "memory_loaded": memory.held(), "memory_load_peak": memory.peak(), **engine.sizes()}
    job.facts["multiplies_in"] = engine.multiplies_in()
    has_sizes = work.next_point([]) is not None
    if not has_sizes:
        _warm_up(job, work, None, memory)
        say(f"{job.name}: warm after {settings['warmup_replies']} {PLURALS[work.noun]}, {job.facts['warmup_s']:.1f} s")

    def count() -> None:
        job.rows.clear()
        job.facts["memory_peak"] = 0
        if has_sizes:
            job.facts["warmup_s"] = 0.0
        with _limit(job, work):
            _series(job, work, memory)

    watched = settings if work.repeatable else {**settings, "repeat_disturbed": 0}
    job.facts |= monitor.watched(job.name, job.device, idle.facts, watched, count, job.enter)
    # Once more: where it is the model that grows, these are of the largest one that was finished.
    job.facts |= engine.sizes()
    job.facts |= {"device_memory_used": memory.device_used(), "memory_reserved": memory.reserved_peak()}
    if engine.fills_memory:
        job.facts |= dict.fromkeys(("memory_loaded", "memory_load_peak", "memory_peak"))
        for row in job.rows:
            row |= {"point_memory": None} if "point_memory" in row else {}

    counted = [row for row in job.rows if row.get("reply") is not None]
    work.check_numbers(counted)
    job.enter("proving that the technique was active")
    proof = work.prove()
    job.facts |= {"engaged": proof.engaged, "evidence": json.dumps(proof.evidence)}
    early = work.ended_early(counted)
    status, reason = ("not_engaged", proof.reason) if not proof.engaged else ("ended_early", early) if early else ("ok", "")
    for row in counted:
        row |= {"status": status, "reason": reason}
    last = [row for row in counted if row.get("point") == counted[-1].get("point")]
    at = f" at {last[0]['point']:,}" if last[0].get("point") else ""
    said = f", {status.replace('_', ' ')}: {reason}" if reason else ""
    return f"{typical_speed(last, work.counts):,.1f} {work.unit}/s{at}{said}"


def _series(job: Job[Measure], work: Work, memory: meters.MemoryMeter) -> None:
    """Every size that the workload gives. One that does not fit is a row with the bytes asked for, or an error where nothing fitted yet."""
    done: list[tuple[int | None, bool]] = []
    while True:
        point = work.next_point(done)
        if done and point is None:
            fitted = [size for size, fits in done if fits][-1]
            if fitted != done[-1][0]:
                # `prove` runs the workload once more, which has no room at the last size.
                work.prepare(fitted)
            return
        try:
            _at(job, work, point, memory)
            done.append((point, True))
            continue
        except (Exception, MemoryError) as error:
            outcome = outcomes.expected(error)
            if not isinstance(outcome, outcomes.OutOfMemory) or not any(fitted for _, fitted in done):
                raise
            reason = str(outcome)
        # The error is forgotten here, and with it the frames that hold what filled the memory.
        job.rows[:] = [row for row in job.rows if row.get("point") != point]
        _let_go(job)
        row = {**job.keys, "status": outcomes.OutOfMemory.status, "reason": reason, "point": point, "asked_bytes": bytes_asked(reason)}
        job.rows.append(row)
        say(f"{job.name}: {point:,} does not fit")
        print(reason, flush=True)  # into the log; it is in the result, too
        done.append((point, False))


def _at(job: Job[Measure], work: Work, point: int | None, memory: meters.MemoryMeter) -> None:
    """Count runs at a size; a workload of one size is warm already."""
    settings, at = job.specification["settings"], "" if point is None else f" at {point:,}"
    if point is not None:
        _warm_up(job, work, point, memory)
    job.enter(f"counting {PLURALS[work.noun]}{at}")
    gc.collect()
    memory.forget_peak()
    steps = Steps(f"{job.name}{at}", most_replies(settings))

    def keep(row: dict) -> None:
        job.keep({**row, "point": point})
        steps.done(row["reply"], f"{row[work.counts] / row['reply_s']:,.1f} {work.unit}/s")

    before = len(job.rows)
    job.facts["stopped"] = counted(work, job.device, keep)
    held = memory.peak()
    job.facts["memory_peak"] = max(held, job.facts.get("memory_peak") or 0)
    for row in job.rows[before:]:
        row |= work.point_columns(held)


def counted(work: Work, device: Device, keep: Callable[[dict], None]) -> str:
    """Give `keep` one row of schema.MEASURE for every counted run, as soon as it is there; return why they ended (stats.stop).

    With a fixed number of replies that is `exact`.
    """
    settings, began = work.settings, time.perf_counter()
    rates: list[float] = []
    clock, timer = meters.Stopwatch(device), meters.DeviceTimer(device, work.engine.uses_torch)
    replies, stopped = settings["replies"], ""
    rule = None if isinstance(replies, int) else precision(replies)
    while not stopped:
        number = len(rates) + 1
        row: dict[str, Any] = {"reply": number, "seed": work.seed_of(number), "started_s": time.perf_counter() - began}
        clock.restart()
        timer.start()
        result = work.run(number)
        device_s = timer.seconds()
        seconds = clock.seconds()
        own = work.seconds(result)
        row |= {"batch_size": settings["batch_size"], "reply_s": seconds if own is None else own, "device_s": device_s}
        row |= work.columns(result)
        rates.append(row[work.counts] / row["reply_s"])
        keep(row)
        stopped = stop(rates, rule) if rule else "exact" if number == replies else ""
    return stopped


def _warm_up(job: Job[Measure], work: Work, point: int | None, memory: meters.MemoryMeter) -> None:
    """The runs before the counted ones: the first pays for compilation and caches."""
    clock, at = meters.Stopwatch(job.device), "" if point is None else f" at {point:,}"
    job.enter(f"running for the first time{at}")
    memory.forget_peak()
    work.prepare(point)
    for number in range(job.specification["settings"]["warmup_replies"]):
        if number == 1:
            job.enter(f"warming up{at}")
        work.columns(work.run())
    job.facts["warmup_s"] = job.facts.get("warmup_s", 0.0) + clock.seconds()
    job.facts["memory_load_peak"] = max(memory.peak(), job.facts.get("memory_load_peak") or 0)


def precision(replies: str | Mapping) -> Precision:
    """The rule by which `replies` of a study are enough: `auto`, or the rule's own settings."""
    return Precision() if isinstance(replies, str) else Precision(**replies)


def most_replies(settings: Settings) -> int:
    """How many counted runs there can be."""
    replies = settings["replies"]
    return replies if isinstance(replies, int) else precision(replies).at_most


def typical_speed(rows: Sequence[Mapping], counts: str) -> float:
    """The speed of a run, a second, from the column that its replies are counted in: their median, as the page has it (stats.Run).

    Not by stats.run: an edit of that would then have every cell measured again.
    """
    return median(row[counts] / row["reply_s"] for row in rows)


def bytes_asked(reason: str) -> int | None:
    """The bytes that an out-of-memory error of PyTorch says it asked for; None where it says none.

    On a GPU it says `Tried to allocate 20.00 GiB`, rounded; on a CPU `you tried to allocate 17179869184 bytes`.
    """
    found = re.search(r"tried to allocate ([\d.]+) ?(bytes|[KMGT]iB)", reason, re.IGNORECASE)
    return round(float(found[1]) * _BYTES[found[2].lower()]) if found else None


def _limit(job: Job[Measure], work: Work):
    """A limit of memory for a workload of several sizes, so that the first that does not fit is an error and not the end of the process."""
    return nullcontext() if work.next_point([]) is None else meters.within(job.device, work.room())


def _let_go(job: Job[Measure]) -> None:
    gc.collect()
    if job.device.is_gpu:
        import torch

        torch.cuda.empty_cache()
