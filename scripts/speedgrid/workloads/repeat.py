"""The counted runs of every workload that does one thing again and again (base.Work), and its first ones in a cold start."""

import gc
import json
import re
import time
from collections.abc import Iterator
from contextlib import nullcontext

from speedgrid import meters, monitor, outcomes
from speedgrid.progress import Steps, say
from speedgrid.stage import Job
from speedgrid.stats import stop
from speedgrid.workloads.base import Work, work_class
from speedgrid.workloads.generate import most_replies, precision, typical_speed

PLURALS = {"pass": "passes", "step": "steps", "reply": "replies"}
_BYTES = {"bytes": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "tib": 2**40}


def loaded(job: Job, engine) -> Iterator[float]:
    """Load what is run, and return the seconds of one run after another, at the first size."""
    work = _work(job, engine)
    work.load()
    return _runs(work, meters.Stopwatch(job.device))


def measure(job: Job) -> str:
    """The counted runs, a row each, with the facts of the cell (schema.MEASURE)."""
    with job.engine() as engine:
        return _measured(job, engine)


def _measured(job: Job, engine) -> str:
    settings = job.told["settings"]
    memory, clock = meters.MemoryMeter(job.device, engine.uses_torch), meters.Stopwatch(job.device)
    job.enter("importing packages")
    with monitor.Idle(job.device) as idle:
        engine.import_packages()
    job.facts |= {name: job.checkpoint_facts[name] for name in ("checkpoint_bytes", "checkpoint_sha256")}

    job.enter("loading the checkpoint")
    memory.forget_peak()
    job.facts |= {"memory_source": memory.source, "memory_before": memory.held()}
    clock.restart()
    work = _work(job, engine)
    work.load()
    job.facts |= {"load_s": clock.seconds(), "memory_loaded": memory.held(), "unit": work.unit, **engine.sizes()}
    job.facts["multiplies_in"] = engine.multiplies_in()

    def count() -> None:
        job.rows.clear()
        job.facts["warmup_s"] = 0.0
        with _limit(job, work):
            _series(job, work, memory)

    watched = settings if work.repeatable else {**settings, "repeat_disturbed": 0}
    job.facts |= monitor.watched(job.name, job.device, idle.facts, watched, count)
    # Where it is the model that grows, of the largest one that was finished.
    job.facts |= engine.sizes()
    counted = [row for row in job.rows if row.get("reply") is not None]
    job.facts |= {"memory_peak": max(row["point_memory"] for row in counted), "device_memory_used": memory.device_used()}
    job.facts["memory_reserved"] = memory.reserved_peak()

    work.check_numbers([row["loss"] for row in counted if row.get("loss") is not None])
    job.enter("proving that the technique was active")
    proof = work.prove()
    job.facts |= {"engaged": proof.engaged, "evidence": json.dumps(proof.evidence)}
    if not proof.engaged:
        for row in counted:
            row |= {"status": "not_engaged", "reason": proof.reason}
    last = [row for row in counted if row.get("point") == counted[-1].get("point")]
    speed = typical_speed(last, "items")
    at = f" at {last[0]['point']:,}" if last[0].get("point") else ""
    return f"{speed:,.1f} {work.unit}/s{at}" + ("" if proof.engaged else f", not engaged: {proof.reason}")


def _series(job: Job, work: Work, memory: meters.MemoryMeter) -> None:
    """Every size, until the workload has no other. One that does not fit is a row with what was asked for, unless nothing fitted before."""
    done: list[tuple[int | None, bool]] = []
    while True:
        point = work.next_point(done)
        if done and point is None:
            fitted = [size for size, fits in done if fits][-1]
            if fitted != done[-1][0]:
                # What proves that the technique was active runs the workload once more, and the last size had no room.
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
        say(f"{job.name}: {point:,} does not fit: {reason}")
        done.append((point, False))


def _at(job: Job, work: Work, point: int | None, memory: meters.MemoryMeter) -> None:
    settings, device = job.told["settings"], job.device
    clock = meters.Stopwatch(device)
    at = "" if point is None else f" at {point:,}"
    job.enter(f"warming up{at}")
    memory.forget_peak()
    work.prepare(point)
    for _ in range(settings["warmup_replies"]):
        work.columns(work.run())
    job.facts["warmup_s"] += clock.seconds()
    job.facts["memory_load_peak"] = max(memory.peak(), job.facts.get("memory_load_peak") or 0)

    job.enter(f"counting {PLURALS[work.noun]}{at}")
    gc.collect()
    memory.forget_peak()
    steps, began, rates = Steps(f"{job.name}{at}", most_replies(settings)), time.perf_counter(), []
    rule, timer, stopped = precision(settings["replies"]), meters.DeviceTimer(device, work.engine.uses_torch), ""
    rows = []
    while not stopped:
        number = len(rates) + 1
        started = time.perf_counter() - began
        clock.restart()
        timer.start()
        result = work.run()
        device_s = timer.seconds()
        seconds = clock.seconds()
        row = {"reply": number, "seed": job.told["seed"], "started_s": started, "batch_size": settings["batch_size"]}
        row |= {"point": point, "reply_s": seconds, "device_s": device_s, **work.columns(result)}
        job.keep(row)
        rows.append(job.rows[-1])
        rates.append(row["items"] / seconds)
        steps.done(number, f"{rates[-1]:,.1f} {work.unit}/s")
        stopped = stop(rates, rule) if rule else "exact" if number == settings["replies"] else ""
    job.facts["stopped"] = stopped
    held, flop = memory.peak(), work.flop()
    for row in rows:
        row |= {"point_memory": held, "flop": flop}


def bytes_asked(reason: str) -> int | None:
    """The bytes that an out-of-memory error of PyTorch says it asked for; None where it says none.

    On a GPU it says `Tried to allocate 20.00 GiB`, rounded; on a CPU `you tried to allocate 17179869184 bytes`.
    """
    found = re.search(r"tried to allocate ([\d.]+) ?(bytes|[KMGT]iB)", reason, re.IGNORECASE)
    return round(float(found[1]) * _BYTES[found[2].lower()]) if found else None


def _work(job: Job, engine) -> Work:
    return work_class(job.told["workload"])(engine, job.told["settings"], job.told["seed"])


def _limit(job: Job, work: Work):
    """A limit of memory for a workload of several sizes, so that the first that does not fit is an error and not the end of the process."""
    return nullcontext() if work.next_point([]) is None else meters.within(job.device, work.room())


def _runs(work: Work, clock: meters.Stopwatch) -> Iterator[float]:
    work.prepare(work.next_point([]))
    while True:
        clock.restart()
        result = work.run()
        yield clock.seconds()
        work.columns(result)


def _let_go(job: Job) -> None:
    gc.collect()
    if job.device.is_gpu:
        import torch

        torch.cuda.empty_cache()
