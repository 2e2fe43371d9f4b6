"""What counts as memory held."""

from types import SimpleNamespace

import pytest
from speedgrid import meters
from speedgrid.hardware import Device, Gpu

MIB = 2**20


def segment(pool: tuple[int, int], total: int, allocated: int) -> dict:
    return {"segment_pool_id": pool, "total_size": total, "allocated_size": allocated}


@pytest.mark.parametrize(
    ("segments", "peak"),
    [
        ([], 116 * MIB),
        # What the allocator holds for everybody may be free, and then it is.
        ([segment((0, 0), 700 * MIB, 100 * MIB)], 116 * MIB),
        ([segment((0, 0), 120 * MIB, 100 * MIB), segment((0, 1), 400 * MIB, 10 * MIB)], 506 * MIB),
        # Never more than what was taken from the GPU.
        ([segment((0, 1), 900 * MIB, 0)], 840 * MIB),
    ],
)
def test_what_cuda_graphs_keep_is_held(monkeypatch, segments, peak):
    allocator = SimpleNamespace(
        max_memory_allocated=lambda: 116 * MIB, max_memory_reserved=lambda: 840 * MIB, memory_snapshot=lambda: segments
    )
    monkeypatch.setattr(meters.MemoryMeter, "_allocator", staticmethod(lambda: allocator))
    meter = meters.MemoryMeter(Device("cuda", "GPU", Gpu("GPU", "GPU-1", "580.1", 80 * 2**30, "9.0")))
    assert meter.peak() == peak
