"""What is read off the machine while a model runs: the clock, and memory."""

import resource
import time
from contextlib import suppress
from pathlib import Path

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


class MemoryMeter:
    """Memory in bytes: what PyTorch has allocated on a GPU, or what the process holds (RSS) on a CPU."""

    def __init__(self, device: Device):
        self.device = device

    def held(self) -> int:
        """Held now."""
        if self.device.is_gpu:
            import torch

            return torch.cuda.memory_allocated()
        return _status("VmRSS")

    def peak(self) -> int:
        """Most held since `forget_peak`."""
        if self.device.is_gpu:
            import torch

            return torch.cuda.max_memory_allocated()
        return _status("VmHWM")

    def reserved_peak(self) -> int | None:
        """Most that PyTorch's allocator took from the GPU since `forget_peak`; None on a CPU."""
        if not self.device.is_gpu:
            return None
        import torch

        return torch.cuda.max_memory_reserved()

    def device_used(self) -> int | None:
        """In use on the whole GPU by anybody, as the driver says; None on a CPU."""
        if not self.device.is_gpu:
            return None
        import torch

        free, total = torch.cuda.mem_get_info()
        return total - free

    def forget_peak(self) -> None:
        """Start a new peak. On a CPU this asks the kernel, which may refuse; the peak then includes what came before."""
        if self.device.is_gpu:
            import torch

            torch.cuda.reset_peak_memory_stats()
            return
        with suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")


def process_peak() -> int:
    """Most bytes that this process held in its whole life (ru_maxrss)."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def _status(field: str) -> int:
    for line in Path("/proc/self/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    return process_peak()
