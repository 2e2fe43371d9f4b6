"""A GPU for one timed job at a time: jobs of any clone and user of this machine take one, and share the cores, without a server or a file.

Jobs that make checkpoints may share a GPU with one another, and never with one that is timed. A timed job holds the GPU's own address, one
that makes a checkpoint one of its places; each lets go again where it then finds the other's taken.
"""

import os
import socket
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

from speedgrid import this_machine
from speedgrid.hardware import Gpu, gpus, is_cpu, visible_by_name

# How often a job that waits for a GPU looks whether one is free.
CLAIM_EVERY_S = 0.2
# How many jobs that make checkpoints one GPU has places for.
PLACES = 16


@dataclass(frozen=True)
class Claim:
    """A GPU that this process and its children have, alone or with others that make checkpoints, until it is closed in all of them."""

    gpu: Gpu
    taken: ExitStack

    def close(self) -> None:
        self.taken.close()


def claim_gpu(wanted: Mapping, side_by_side: int, say: Callable[[str], None], shared: int = 0) -> Claim | None:
    """Take a free GPU of this machine that an entry of the study's `gpus` means, and let this process and its children see no other.

    Where all are taken by other jobs, of any clone and user here, it waits. The GPU is taken for as long as the claim is open in some
    process, so it is free again however they end. Where several jobs are to run side by side, this one takes a share of the cores for
    as long, so that they leave each other's alone. None where no such GPU is here: pick_device says what that means.

    A job that makes a checkpoint may share the GPU with others of its kind: `shared` is the number that the cores are divided among, and
    it takes the GPU that fewest are on.
    """
    visible = visible_by_name(gpus())
    if is_cpu(wanted, [gpu for _, gpu in visible]):
        return None
    fitting = [(name, gpu) for name, gpu in visible if wanted.get("name", "").lower() in gpu.name.lower()]
    told = False
    while fitting:
        for name, gpu in sorted(fitting, key=lambda found: _makes_on(found[1])) if shared else fitting:
            held = _place_on(gpu) if shared else _alone_on(gpu)
            if held:
                # Numbers as nvidia-smi has them, and not by speed; vLLM takes nothing but numbers.
                os.environ |= {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": name}
                taken = ExitStack()
                taken.callback(held.close)
                _claim_cores(shared or min(side_by_side, len(visible)), taken)
                return Claim(gpu, taken)
        if not told:
            say(f"waiting: other jobs are on {'the GPU' if len(fitting) == 1 else f'all {len(fitting)} GPUs'} of this machine")
            told = True
        time.sleep(CLAIM_EVERY_S)
    return None


def _claim_cores(places: int, taken: ExitStack) -> None:
    """Keep to a share of the cores that no other of as many jobs has; to none where runs beside this one have taken them all."""
    for place in range(places):
        held = _hold(f"speedgrid cores {place + 1} of {places}")
        if held:
            taken.callback(held.close)
            os.sched_setaffinity(0, share_of_cores(this_machine.cores_side_by_side(), place, places))
            return


def share_of_cores(cores: Sequence[int], place: int, places: int) -> list[int]:
    """The cores of one of `places` jobs side by side: neighbours, as many for each, and at least one."""
    each = max(1, len(cores) // places)
    return [cores[(place * each + number) % len(cores)] for number in range(each)]


def _alone_on(gpu: Gpu) -> socket.socket | None:
    """Hold a GPU with no job beside this one, or None where there is another."""
    held = _hold(f"speedgrid {gpu.uuid}")
    if held and _makes_on(gpu):
        held.close()
        return None
    return held


def _place_on(gpu: Gpu) -> socket.socket | None:
    """Hold one of a GPU's places for making checkpoints, or None where all are taken or a job has it alone."""
    held = next(filter(None, map(_hold, _places(gpu))), None)
    if held and _is_held(f"speedgrid {gpu.uuid}"):
        held.close()
        return None
    return held


def _makes_on(gpu: Gpu) -> int:
    """How many jobs make checkpoints on a GPU."""
    return sum(map(_is_held, _places(gpu)))


def _places(gpu: Gpu) -> list[str]:
    return [f"speedgrid {gpu.uuid} makes {place}" for place in range(1, PLACES + 1)]


def _is_held(name: str) -> bool:
    held = _hold(name)
    if held:
        held.close()
    return not held


def _hold(name: str) -> socket.socket | None:
    """Hold a name alone on this machine, or None where another process holds it: the address of a socket that no file stands for."""
    held = socket.socket(socket.AF_UNIX)
    try:
        held.bind(f"\0{name}")
    except OSError:
        held.close()
        return None
    return held
