"""Random weights of large models on all cores: PyTorch draws those of a tensor on one, which takes minutes for billions of them."""

import logging
import os
import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager

# Numbers that are drawn as one piece; tensors up to this size are left to PyTorch.
PIECE = 1 << 20


@contextmanager
def drawn_on_all_cores(seed: int) -> Iterator[None]:
    """Let PyTorch's `normal_` and `uniform_` fill large tensors of the CPU piece by piece, on as many threads as there are cores.

    Each piece has a generator of its own, seeded by `seed` and its place, so the numbers do not depend on how many cores there are. They
    are drawn in float32 where the tensor has fewer bits: some versions of PyTorch draw bfloat16 one number at a time, which took 23 ns
    each in the place of 5.

    A tensor is filled when an operation takes it, or at the end, and only as it was drawn last: layers draw their weights when they are
    made, and transformers draws them once more. Until the end its numbers must be read by operations alone: `numpy` and `tolist` are none.
    """
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode
    from torch.utils._pytree import tree_leaves

    fills = {torch.ops.aten.normal_.default: torch.Tensor.normal_, torch.ops.aten.uniform_.default: torch.Tensor.uniform_}
    kept = threading.local()

    def begin() -> None:
        # A thread of the pool is one core's: what PyTorch does in it must not start as many again.
        torch.set_num_threads(1)
        kept.numbers = torch.empty(PIECE, dtype=torch.float32)

    def draw(piece, fill, told: tuple, place: int) -> None:
        drawn = piece if piece.dtype.itemsize >= 4 else kept.numbers[: len(piece)]
        fill(drawn, *told, generator=torch.Generator().manual_seed(seed * 1_000_003 + place))
        piece.copy_(drawn)

    def start_of(tensor) -> int:
        return tensor.untyped_storage().data_ptr()

    with ThreadPoolExecutor(len(os.sched_getaffinity(0)), initializer=begin) as pool:

        class OnAllCores(TorchDispatchMode):
            def __init__(self) -> None:
                super().__init__()
                self.place = 0
                # By where its memory begins, what is to be filled: the tensor, how, with what, and the place of its first piece.
                self.waiting: dict[int, tuple] = {}

            def __torch_dispatch__(self, func, types, args=(), kwargs=None):
                fill, kwargs = fills.get(func), kwargs or {}
                if fill is None or kwargs or args[0].numel() <= PIECE or args[0].device.type != "cpu" or not args[0].is_contiguous():
                    if self.waiting and not func.is_view:
                        tensors = (leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor))
                        self.fill({start_of(one) for one in tensors if one.device.type == "cpu" and one.layout == torch.strided})
                    return func(*args, **kwargs)
                tensor = args[0].detach()
                start, is_whole = start_of(tensor), tensor.nbytes == tensor.untyped_storage().nbytes()
                if not is_whole:
                    # What waits there covers more than what is drawn now.
                    self.fill({start})
                self.waiting[start] = tensor, fill, args[1:], self.place
                self.place += -(-tensor.numel() // PIECE)
                if not is_whole:
                    self.fill({start})
                return args[0]

            def fill(self, starts: Iterable[int]) -> None:
                found = [self.waiting.pop(start) for start in starts if start in self.waiting]
                pieces = ((one, *how, at + n) for tensor, *how, at in found for n, one in enumerate(tensor.view(-1).split(PIECE)))
                list(pool.map(lambda told: draw(*told), pieces))

        with OnAllCores() as mode:
            yield
        mode.fill(list(mode.waiting))


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
