"""What is read off the machine while a model runs: the clock, and memory."""

import os
import resource
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

from speedgrid import hardware, this_machine
from speedgrid.hardware import Device


class Stopwatch:
    """Wall clock that waits for the device before every reading, so that no queued work falls out of what is timed."""

    def __init__(self, device: Device):
        self.device = device
        self.restart()

    def restart(self) -> None:
        self.device.synchronize()
        self.started = time.perf_counter()

    def seconds(self) -> float:
        """Seconds since the start."""
        self.device.synchronize()
        return time.perf_counter() - self.started


class DeviceTimer:
    """The GPU's own clock for a reply, by CUDA events: a check of the wall clock, which every engine's figures come from.

    Only for what this process computes with PyTorch on a GPU; else there is nothing to read.
    """

    def __init__(self, device: Device, uses_torch: bool):
        self.events = None
        if device.is_gpu and uses_torch:
            import torch

            self.events = [torch.cuda.Event(enable_timing=True) for _ in range(2)]

    def start(self) -> None:
        if self.events:
            self.events[0].record()

    def seconds(self) -> float | None:
        """Seconds between `start` and now on the GPU's current stream; None without one."""
        if not self.events:
            return None
        self.events[1].record()
        self.events[1].synchronize()
        return self.events[0].elapsed_time(self.events[1]) / 1e3


class MemoryMeter:
    """Memory in bytes, of what `source` names.

    On a CPU it is what the process and those that it started hold (RSS). On a GPU it is what PyTorch's allocator has given out, and what
    CUDA graphs keep for their replays; or, for an engine with an allocator of its own, what the whole device holds more than when the
    meter was made. The latter is read when asked and not between: such engines take their memory when they load, and keep it.
    """

    def __init__(self, device: Device, uses_torch: bool = True):
        self.device = device
        self.source = ("allocator" if uses_torch else "device") if device.is_gpu else "process"
        self.already_used = (hardware.used_memory(device) or 0) if self.source == "device" else 0

    def held(self) -> int:
        """Held now."""
        if self.source == "process":
            return sum(_status(process, "VmRSS") for process in _family())
        return self._allocator().memory_allocated() if self.source == "allocator" else self._more_than_before()

    def peak(self) -> int:
        """Most held since `forget_peak`; of several processes the sum of their peaks."""
        if self.source == "process":
            return sum(_status(process, "VmHWM") for process in _family())
        if self.source == "device":
            return self._more_than_before()
        # What a recorded CUDA graph works in was given out when it was recorded and counts as free since, but nobody else can have it.
        given_out = self._allocator().max_memory_allocated() + kept_by_graphs(self._allocator().memory_snapshot())
        return min(given_out, self._allocator().max_memory_reserved())

    def reserved_peak(self) -> int | None:
        """Most that PyTorch's allocator took from the GPU since `forget_peak`; None without it."""
        return self._allocator().max_memory_reserved() if self.source == "allocator" else None

    def device_used(self) -> int | None:
        """In use on the whole GPU by anybody, as the driver says; None on a CPU."""
        return hardware.used_memory(self.device)

    def forget_peak(self) -> None:
        """Start a new peak. On a CPU this asks the kernel, which may refuse; the peak then includes what came before."""
        if self.source == "allocator":
            self._allocator().reset_peak_memory_stats()
        for process in _family() if self.source == "process" else ():
            with suppress(OSError):
                Path(f"/proc/{process}/clear_refs").write_text("5")

    def _more_than_before(self) -> int:
        return max(0, (hardware.used_memory(self.device) or 0) - self.already_used)

    @staticmethod
    def _allocator():
        import torch

        return torch.cuda


def kept_by_graphs(segments: Sequence[Mapping]) -> int:
    """Bytes that CUDA graphs keep and that do not count as given out, from the segments of `torch.cuda.memory_snapshot`.

    Each graph, or family of them, has a pool of its own; what all others share is the pool (0, 0).
    """
    own = [segment for segment in segments if tuple(segment.get("segment_pool_id", (0, 0))) != (0, 0)]
    return sum(segment["total_size"] - segment["allocated_size"] for segment in own)


@contextmanager
def within(device: Device, room: int | None) -> Iterator[int]:
    """Hold this process to `room` more bytes than it has now, or to what is free where that is None; gives the room in bytes.

    What does not fit is then an error of the allocator that says how much it asked for, and not the end of the process. On a GPU PyTorch's
    allocator enforces it, on a CPU the kernel (RLIMIT_DATA), for this process and its threads.
    """
    if device.is_gpu and not device.uses_torch:
        # An engine with an allocator of its own, which says itself what does not fit.
        yield 0
        return
    if device.is_gpu:
        import torch

        free, total = torch.cuda.mem_get_info()
        # What the allocator keeps for itself can be had, too.
        held = torch.cuda.memory_reserved()
        room = free + held - torch.cuda.memory_allocated() if room is None else room
        torch.cuda.set_per_process_memory_fraction(min(1.0, (torch.cuda.memory_allocated() + room) / total))
        try:
            yield room
        finally:
            torch.cuda.set_per_process_memory_fraction(1.0)
        return
    room = this_machine.free_memory() if room is None else room
    before = resource.getrlimit(resource.RLIMIT_DATA)
    wanted = _status(os.getpid(), "VmData") + room
    limit = wanted if before[0] == resource.RLIM_INFINITY else min(wanted, before[0])
    resource.setrlimit(resource.RLIMIT_DATA, (limit, before[1]))
    try:
        yield room
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, before)


def process_peak() -> int:
    """Most bytes that this process held in its whole life (ru_maxrss)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _family() -> list[int]:
    """This process and all that it started, by number."""
    found, new = [], [os.getpid()]
    while new:
        found += new
        new = [int(child) for parent in new for tasks in _tasks(parent) for child in tasks.split()]
    return found


def _tasks(process: int) -> list[str]:
    try:
        return [path.read_text() for path in Path(f"/proc/{process}/task").glob("*/children")]
    except OSError:
        return []


def _status(process: int, field: str) -> int:
    """A field of /proc/PROCESS/status in bytes; 0 where the process has ended, or the system has no such file."""
    try:
        lines = Path(f"/proc/{process}/status").read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":")), 0)
