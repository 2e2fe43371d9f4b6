"""Watches the machine while the replies of a cell are counted: clocks, heat, power, energy, and who else used it.

A thread reads gauges twice a second, and counters every ten seconds and where the replies begin and end. What was read is judged by
state.py, after the replies.
"""

import platform
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from speedgrid import notes, sensors, state
from speedgrid.hardware import Device
from speedgrid.progress import say

GAUGES_EVERY = 0.5
COUNTERS_EVERY = 10.0
IDLE_EVERY = 0.1
# Seconds for which a machine is looked at to see whether it is quiet.
QUIET_LOOK = 2.0
# A machine that did not become quiet is likely to be busy in the next job, too: for so many seconds jobs look once instead of waiting. They
# know it by a file (notes.busy).
STAYS_BUSY_S = 900.0


class Monitor:
    """Watches the machine while the `with` block runs; afterwards `facts` says what was seen, as columns of schema.STATE.

    `idle` is what Idle found. The thread that makes the Monitor is the one that asks for the replies. What a machine does not show is
    no error; any other error of the thread is raised when the block ends.
    """

    def __init__(self, device: Device, idle: Mapping | None = None, every: float = GAUGES_EVERY):
        self.every, self.next_counters = every, COUNTERS_EVERY
        self.seen = state.Seen(device.is_gpu, idle=idle or {})
        self._host, self._gpu = sensors.Host(), None
        if device.is_gpu:
            try:
                self._gpu = _gpu(device)
                self.seen.fixed = sensors.take(self._gpu.fixed, self.seen.unknown)
            except sensors.Unavailable as error:
                self.seen.unknown["gpu"] = str(error)
        readers = [self._host] + [self._gpu] * bool(self._gpu)
        self._gauges, self._counters, self._edges = (
            {name: read for reader in readers for name, read in getattr(reader, kind).items()} for kind in ("gauges", "counters", "edges")
        )
        self._stop = threading.Event()
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._watch, name="monitor", daemon=True)

    def __enter__(self) -> "Monitor":
        self._host.look_around()
        self._read_counters()
        self._thread.start()
        return self

    def __exit__(self, kind, error, traceback) -> None:
        self._stop.set()
        self._thread.join()
        self._read_counters(last=True)
        if not self.seen.gauges:
            self._read_gauges()
        self._host.close()
        if self._error and kind is None:
            raise self._error

    def facts(self) -> dict:
        """Columns of schema.STATE."""
        return state.summarise(self.seen)

    def _watch(self) -> None:
        try:
            wait = self.every / 2
            while not self._stop.wait(wait):
                wait = self.every
                self._read_gauges()
                if time.perf_counter() - self.seen.counters[0]["at"] >= self.next_counters:
                    self.next_counters += COUNTERS_EVERY
                    self._read_counters()
                self.seen.cost_s = time.thread_time()
        except Exception as error:
            self._error = error

    def _read_gauges(self) -> None:
        self.seen.gauges.append({"at": time.perf_counter(), **sensors.take(self._gauges, self.seen.unknown)})

    def _read_counters(self, last: bool = False) -> None:
        # The edges are read last where the replies begin and first where they end, so that little besides the replies is in them.
        if last:
            edges, at = sensors.take(self._edges, self.seen.unknown), time.perf_counter()
            self._host.look_around()
        taken = sensors.take(self._counters, self.seen.unknown)
        if not last:
            edges, at = sensors.take(self._edges, self.seen.unknown), time.perf_counter()
        if "gpu_processes" in taken:
            taken["gpu_processes"] = self._others(taken["gpu_processes"])
        if last or not self.seen.counters:
            taken |= {"processes": self._host.processes, "own": self._host.own}
        self.seen.counters.append({"at": at, **taken, **edges})

    def _others(self, on_gpu: Mapping[int, int | None]) -> dict[str, int | None] | None:
        """Bytes on the GPU of each process that is not ours; None where the numbers of the processes do not tell."""
        if not self._host.own & set(on_gpu):
            self.seen.unknown["gpu_processes"] = "the driver does not show this process on the GPU, as in a container that hides it"
            return None
        return {sensors.process_name(pid): held for pid, held in on_gpu.items() if pid not in self._host.own}


class Idle:
    """Watches the device before the model is on it: the power that it takes, and on a GPU whether others use it.

    The `with` block may do what leaves a GPU alone, such as importing packages, so that watching takes no time of its own. A processor
    whose energy can be read is watched for a moment before the block. Afterwards `facts` holds what state.idle_facts made of it.
    """

    def __init__(self, device: Device):
        self.device = device
        self.facts: dict = {}
        self._samples: list[dict] = []
        self._unknown: dict[str, str] = {}
        self._error: Exception | None = None
        self._stop, self._thread = threading.Event(), threading.Thread(target=self._watch, name="idle", daemon=True)

    def __enter__(self) -> "Idle":
        if not self.device.is_gpu:
            self.facts = self._processor()
            return self
        try:
            self._gpu = _gpu(self.device)
            self._sample()
            self._thread.start()
        except sensors.Unavailable as error:
            self._unknown["power"] = str(error)
        return self

    def __exit__(self, kind, error, traceback) -> None:
        if not self.device.is_gpu:
            return
        if self._thread.ident is not None:
            if kind is None:
                time.sleep(max(0.0, self._samples[0]["at"] + state.IDLE_WINDOW - time.perf_counter()))
            self._stop.set()
            self._thread.join()
        if self._error and kind is None:
            raise self._error
        self.facts = state.idle_facts(self._samples, self._unknown)

    def _watch(self) -> None:
        try:
            while not self._stop.wait(IDLE_EVERY):
                self._sample()
        except Exception as error:
            self._error = error

    def _sample(self) -> None:
        self._samples.append({"at": time.perf_counter(), **sensors.take(self._gpu.idle, self._unknown)})

    @staticmethod
    def _processor() -> dict:
        host = sensors.Host()
        unknown: dict[str, str] = {}
        readings: list[dict] = []
        sources: dict[str, Callable[[], object]] = {"rapl": host.edges["rapl"], "cpu": host.counters["cpu"]}
        for wait in (0.0, state.IDLE_WINDOW):
            time.sleep(0.0 if "rapl" in unknown else wait)
            readings.append({**sensors.take(sources, unknown), "at": time.perf_counter()})
        first, last = readings
        return state.idle_processor_facts(first, last, unknown)


def _gpu(device: Device) -> sensors.NvidiaGpu:
    if not device.gpu:
        raise sensors.Unavailable("it is not known which of the driver's GPUs this is")
    return sensors.NvidiaGpu(device.gpu.uuid)


def watched(
    name: str,
    device: Device,
    idle: Mapping,
    settings: Mapping,
    count: Callable[[], None],
    enter: Callable[[str], object] = lambda phase: None,
) -> dict:
    """Call `count` under a Monitor. After a run that was disturbed, wait for a quiet machine and call it again, as often and as long as
    `repeat_disturbed` and `quiet_wait_s` of the settings allow; where the machine does not become quiet, a second time would tell no more
    than the first, and costs as much as a run of its own, which tells more. With a `quiet_wait_s` of 0 nobody looks, and the second time
    comes at once. `enter` is told the phase in which it waits.

    Returns what was seen of the last run, with `repeats`, `repeated_for`, what disturbed the runs before it, and `waited_s`.
    """
    disturbances: list[str] = []
    waited = 0.0
    while True:
        with Monitor(device, idle) as watch:
            count()
        machine = watch.facts()
        if machine["disturbed"]:
            say(f"{name}: disturbed: {machine['disturbed']}")
        if not state.is_repeated(machine, len(disturbances), settings["repeat_disturbed"]):
            break
        enter("waiting for a quiet machine")
        took, is_quiet = _waited(device, settings["quiet_wait_s"])
        waited += took
        if not is_quiet:
            say(f"{name}: the machine did not become quiet in {took:.0f} s; what was counted stands, and counts less")
            break
        disturbances.append(machine["disturbed"])
        say(f"{name}: counting again, after {waited:.0f} s of waiting for a quiet machine")
    return {**machine, "repeats": len(disturbances), "repeated_for": disturbances, "waited_s": waited}


def _waited(device: Device, at_most: float) -> tuple[float, bool]:
    """Wait for a quiet machine as long as the last jobs make it seem worth it; how long that took, and whether to count again."""
    if not at_most:
        return 0.0, True
    took, is_quiet = wait_for_quiet(device, _patience(device, at_most))
    _remember(device, is_quiet)
    return took, is_quiet


def _patience(device: Device, at_most: float) -> float:
    """How long to wait for a quiet machine: one look where the last job waited in vain a short time ago."""
    try:
        in_vain = 0 <= time.time() - _mark(device).stat().st_mtime < STAYS_BUSY_S
    except OSError:
        return at_most
    return min(QUIET_LOOK, at_most) if in_vain else at_most


def _remember(device: Device, is_quiet: bool) -> None:
    """Let the next jobs know how a wait ended. Where nothing can be written they wait as long as this one."""
    mark = _mark(device)
    with suppress(OSError):
        if is_quiet:
            mark.unlink(missing_ok=True)
        else:
            mark.parent.mkdir(exist_ok=True)
            mark.touch()


def _mark(device: Device) -> Path:
    return notes.busy(platform.node(), device.gpu.uuid if device.gpu else device.kind)


def wait_for_quiet(device: Device, at_most: float) -> tuple[float, bool]:
    """Wait until nothing disturbs the machine for a moment, at most so many seconds; how long that took, and whether it became quiet."""
    began = time.perf_counter()
    while (left := began + at_most - time.perf_counter()) > 0:
        with Monitor(device) as watch:
            time.sleep(min(QUIET_LOOK, left))
        if not state.is_disturbed(watch.facts()):
            return time.perf_counter() - began, True
    return time.perf_counter() - began, False
