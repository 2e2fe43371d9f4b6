"""What a device can do: bytes a second of its memory and cache, and operations a second of matrix products in each number format.

Bandwidth is that of three kernels over buffers far larger than the last cache: a copy (bytes read and bytes written both count, as in
STREAM and in vendors' figures), a sum, and a product of a matrix and a vector, which is what decoding does with every weight. Rates are
those of large square products, laid out as those of a linear layer. Data are random: a GPU draws less power for zeros and runs faster.
Every kernel is warmed up and repeated for a set time; the best and the median are kept.
"""

import os
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

from speedgrid import this_machine
from speedgrid.hardware import Device
from speedgrid.outcomes import OutOfMemory, expected

DTYPES = ("float32", "tf32", "float16", "bfloat16", "int8", "float8_e4m3fn")
# STREAM asks for arrays of four times the last-level cache or more (https://www.cs.virginia.edu/stream/ref.html); of the memory that is
# free, a quarter at most. A GPU's kernels must run long beside their launch, which four GiB give at any bandwidth of today.
TIMES_CACHE = 4
LEAST_BUFFER = {"cpu": 2**28, "cuda": 2**32}
LARGEST_SHARE = 0.25
SMALLEST_IN_CACHE = 2**20
COLUMNS = 2**13

# Widths of the square matrices; a width is left out where one product would take longer than PATIENCE seconds.
WIDTHS = {"cpu": (512, 1024, 2048, 4096, 8192), "cuda": (4096, 8192, 16384)}
PATIENCE = {"cpu": 0.8, "cuda": 0.1}
# Seconds for which a kernel is repeated, and how often at least. A GPU raises its clocks only under load, so each kernel warms it first.
FOR_S = {"memory": {"cpu": 0.8, "cuda": 0.4}, "cache": {"cpu": 0.1, "cuda": 0.1}, "gemm": {"cpu": 0.4, "cuda": 0.2}}
LEAST_RUNS = 3
WAKE_S = 0.1


@dataclass(frozen=True)
class Probe:
    """A device to probe, and the number of CPU threads to do it with."""

    device: Device
    threads: int
    seed: int

    def rows(self, dtypes: tuple[str, ...] = DTYPES) -> Iterator[tuple[dict | None, str]]:
        """Rows of schema.PROBE, each with what to say of it; a row of None where a format cannot be had, and why.

        Raises outcomes.OutOfMemory where there is no room for buffers beyond the cache.
        """
        import torch

        torch.set_num_threads(self.threads)
        torch.manual_seed(self.seed)
        with torch.inference_mode():
            for row in self._bandwidths():
                yield row, f"{row['kind']} ({row['method']}, {row['size'] / 2**20:,.0f} MiB): {row['best'] / 1e9:,.1f} GB/s"
            for dtype in dtypes:
                yield from self._products(dtype)

    def cache(self) -> int:
        """Bytes of the last cache that this process may use; 0 where that is not known."""
        if self.device.is_gpu:
            import torch

            return getattr(torch.cuda.get_device_properties(0), "L2_cache_size", 0)
        return cpu_cache(Path("/sys/devices/system/cpu"), os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 0

    def buffer_bytes(self) -> int:
        """Bytes of one buffer: well beyond the cache, and within what is free."""
        cache, free = self.cache(), self.free_memory()
        size = min(max(LEAST_BUFFER[self.device.kind], TIMES_CACHE * cache), int(free * LARGEST_SHARE))
        if size < 2 * cache:
            raise OutOfMemory(f"{free / 2**20:,.0f} MiB are free; buffers beyond the cache of {cache / 2**20:,.0f} MiB need more")
        return size // 2**20 * 2**20

    def free_memory(self) -> int:
        """Bytes that can be had: of the GPU, or of the machine within the limit of the container."""
        if self.device.is_gpu:
            import torch

            torch.cuda.empty_cache()
            return torch.cuda.mem_get_info()[0]

        return this_machine.free_memory()

    # --- memory

    def _bandwidths(self) -> Iterator[dict]:
        import torch

        size = self.buffer_bytes()
        yield self._copy(size)
        source = self._random(size // 4)
        yield self._sum("read", source)
        if not self.device.is_gpu:
            # On a GPU a kernel over so little takes no longer than its launch.
            within = [SMALLEST_IN_CACHE << power for power in range(20) if SMALLEST_IN_CACHE << power <= self.cache()]
            yield from (self._sum("cache", source[: size // 4]) for size in within)
        # In the format that models have there; on a GPU half the buffer, whose elements a 32-bit index can count.
        yield self._matrix_vector(source.to(torch.bfloat16) if self.device.is_gpu else source)

    def _copy(self, size: int) -> dict:
        import torch

        source = self._random(size // 4)
        target = torch.empty_like(source).fill_(1)
        return self._bandwidth("copy", "Tensor.copy_", source, 2 * size, lambda: target.copy_(source))

    def _sum(self, kind: str, source) -> dict:
        import torch

        return self._bandwidth(kind, "torch.sum", source, source.nbytes, lambda: torch.sum(source))

    def _matrix_vector(self, numbers) -> dict:
        import torch

        matrix = numbers[: numbers.numel() // COLUMNS * COLUMNS].view(-1, COLUMNS)
        vector = self._random(COLUMNS).to(matrix.dtype)
        return self._bandwidth("read", "torch.mv", matrix, matrix.nbytes, lambda: torch.mv(matrix, vector))

    def _bandwidth(self, kind: str, method: str, buffer, moved: int, run: Callable[[], object]) -> dict:
        seconds = self._times(run, FOR_S["cache" if kind == "cache" else "memory"][self.device.kind])
        return _row(kind, method, str(buffer.dtype).removeprefix("torch."), buffer.nbytes, moved, seconds)

    def _random(self, elements: int):
        """Random numbers whose pages lie with the threads that will read them: `fill_` runs in all threads, and touches each page first."""
        import torch

        return torch.empty(elements, device=self.device.kind).fill_(1).uniform_()

    # --- matrix products

    def _products(self, dtype: str) -> Iterator[tuple[dict | None, str]]:
        import torch

        missing = self._why_not(dtype)
        if missing:
            yield None, f"{dtype}: {missing}"
            return
        before = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("high" if dtype == "tf32" else "highest")
        try:
            found: dict | None = None
            for width in WIDTHS[self.device.kind]:
                if 16 * width**2 > self.free_memory() * LARGEST_SHARE:
                    break
                if found and 2 * width**3 / found["best"] > PATIENCE[self.device.kind]:
                    break
                found = self._product(dtype, width)
                yield found, f"{found['method']} {dtype} {width}: {found['best'] / 1e12:,.3f} TFLOP/s"
        except (RuntimeError, NotImplementedError) as error:
            if isinstance(expected(error), OutOfMemory):
                raise
            yield None, f"{dtype}: PyTorch {torch.__version__} has no such product here ({str(error).strip().partition(chr(10))[0]})"
        finally:
            torch.set_float32_matmul_precision(before)

    def _why_not(self, dtype: str) -> str:
        needs = {"tf32": (8, 0), "float8_e4m3fn": (8, 9), "bfloat16": (8, 0)}.get(dtype)
        if not self.device.is_gpu:
            return "a format of GPUs" if dtype in ("tf32", "float8_e4m3fn") else ""
        if needs and self.device.capability < needs:
            return f"needs compute capability {needs[0]}.{needs[1]}"
        return ""

    def _product(self, dtype: str, width: int) -> dict:
        import torch

        shape, kind = (width, width), self.device.kind
        if dtype == "int8":
            left, weights = (torch.randint(-127, 128, shape, dtype=torch.int8, device=kind) for _ in range(2))
            method, run = "torch._int_mm", lambda: torch._int_mm(left, weights.t())
        elif dtype == "float8_e4m3fn":
            left, weights = (torch.randn(shape, device=kind).to(torch.float8_e4m3fn) for _ in range(2))
            one = torch.ones((), device=kind)
            settings = {"scale_a": one, "scale_b": one, "out_dtype": torch.bfloat16, "use_fast_accum": True}
            method, run = "torch._scaled_mm", lambda: torch._scaled_mm(left, weights.t(), **settings)
        else:
            format_ = torch.float32 if dtype == "tf32" else getattr(torch, dtype)
            left, weights = (torch.randn(shape, device=kind).to(format_) for _ in range(2))
            product = torch.empty(shape, dtype=format_, device=kind)
            method, run = "torch.mm", lambda: torch.mm(left, weights.t(), out=product)
        return _row("gemm", method, dtype, width, 2 * width**3, self._times(run, FOR_S["gemm"][kind]))

    # --- time

    def _times(self, run: Callable[[], object], for_s: float) -> list[float]:
        """Seconds of each run, warm."""
        return self._gpu_times(run, for_s) if self.device.is_gpu else self._cpu_times(run, for_s)

    def _cpu_times(self, run: Callable[[], object], for_s: float) -> list[float]:
        run()
        seconds: list[float] = []
        started = time.perf_counter()
        while len(seconds) < LEAST_RUNS or time.perf_counter() - started < for_s:
            before = time.perf_counter()
            run()
            seconds.append(time.perf_counter() - before)
        return seconds

    def _gpu_times(self, run: Callable[[], object], for_s: float) -> list[float]:
        """By events on the GPU between runs that are queued together, so that no launch is waited for."""
        import torch

        def round_of(runs: int) -> list[float]:
            events = [torch.cuda.Event(enable_timing=True) for _ in range(runs + 1)]
            events[0].record()
            for event in events[1:]:
                run()
                event.record()
            torch.cuda.synchronize()
            return [begin.elapsed_time(end) / 1e3 for begin, end in pairwise(events)]

        _for(WAKE_S, lambda: round_of(LEAST_RUNS))
        seconds: list[float] = []
        _for(for_s, lambda: seconds.extend(round_of(8)))
        return seconds


def cpu_cache(system: Path, cpus: set[int]) -> int:
    """Bytes of the last-level caches that these CPUs have, each counted once, as Linux says below `system`; 0 where it does not."""
    found: dict[tuple[int, str], int] = {}
    for cpu in cpus:
        for index in system.glob(f"cpu{cpu}/cache/index*"):
            try:
                level, kind, size, shared = ((index / name).read_text().strip() for name in ("level", "type", "size", "shared_cpu_list"))
            except OSError:
                continue
            if kind in ("Unified", "Data") and size.endswith("K"):
                found[int(level), shared] = int(size[:-1]) * 1024
    last = max((level for level, _ in found), default=0)
    return sum(size for (level, _), size in found.items() if level == last)


def _row(kind: str, method: str, dtype: str, size: int, work: int, seconds: list[float]) -> dict:
    best, median = work / min(seconds), work / statistics.median(seconds)
    return {"kind": kind, "method": method, "dtype": dtype, "size": size, "runs": len(seconds), "best": best, "median": median}


def _for(seconds: float, work: Callable[[], object]) -> None:
    started = time.perf_counter()
    while True:
        work()
        if time.perf_counter() - started >= seconds:
            return
