"""Random weights of large models on all cores: PyTorch draws those of a tensor on one, which takes minutes for billions of them."""

import logging
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

# Numbers that are drawn as one piece; tensors up to this size are left to PyTorch.
PIECE = 1 << 20


@contextmanager
def drawn_on_all_cores(seed: int) -> Iterator[None]:
    """Let PyTorch's `normal_` and `uniform_` fill large tensors of the CPU piece by piece, on as many threads as there are cores.

    Each piece has a generator of its own, seeded by `seed` and its place, so the numbers do not depend on how many cores there are. They
    are drawn in float32 where the tensor has fewer bits: some versions of PyTorch draw bfloat16 one number at a time, which took 23 ns
    each in the place of 4.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    fills = {torch.ops.aten.normal_.default: torch.Tensor.normal_, torch.ops.aten.uniform_.default: torch.Tensor.uniform_}
    # A thread of the pool is one core's: what PyTorch does in it must not start as many again.
    with ThreadPoolExecutor(len(os.sched_getaffinity(0)), initializer=torch.set_num_threads, initargs=(1,)) as pool:

        class OnAllCores(TorchDispatchMode):
            place = 0

            def __torch_dispatch__(self, func, types, args=(), kwargs=None):
                fill, kwargs = fills.get(func), kwargs or {}
                if fill is None or kwargs or args[0].numel() <= PIECE or args[0].device.type != "cpu" or not args[0].is_contiguous():
                    return func(*args, **kwargs)
                pieces = args[0].detach().view(-1).split(PIECE)
                places = range(self.place, self.place + len(pieces))
                self.place += len(pieces)

                def draw(piece, place: int) -> None:
                    drawn = piece if piece.dtype.itemsize >= 4 else torch.empty(piece.shape, dtype=torch.float32)
                    fill(drawn, *args[1:], generator=torch.Generator().manual_seed(seed * 1_000_003 + place))
                    piece.copy_(drawn)

                list(pool.map(draw, pieces, places))
                return args[0]

        with OnAllCores():
            yield


@contextmanager
def shapes_alone() -> Iterator[None]:
    """Let PyTorch follow shapes without numbers, so that models of any size are built and run at once and take no memory. What looks at
    numbers raises an error."""
    from torch._subclasses.fake_tensor import FakeTensorMode

    # It tells of each operation that it cannot follow, with a traceback.
    log = logging.getLogger("torch._subclasses.fake_tensor")
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with FakeTensorMode():
            yield
    finally:
        log.setLevel(level)
