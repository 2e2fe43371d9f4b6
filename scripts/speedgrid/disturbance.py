"""How much slower a disturbed run may have been than on a quiet machine, by what was read of the machine meanwhile. Pure.

Disturbance only slows, so that the speed of a disturbed run is the least that a quiet one has. What others took bounds the most: a step of
a processor waits for the slowest of its threads, each of which waits for a CPU for the share of the time that others took, so that of N
threads all are there for (1 - share)^N of it. A GPU is fed by one thread, and what it was busy for it did not wait for that.

Threads that wait for one another many times a step can lose more: each time the one that is not there costs a time slice of the operating
system, a few milliseconds, however short the work is. That shows in the steps themselves, of which some find all threads there.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from speedgrid import state

# A cell on a processor beside one from which others took up to this share lost as much; what is left to one from which they took more
# varies widely. Of two cells on a GPU the one may wait for the processor and the other not, as where a CUDA graph is replayed.
ALIKE = 0.5
# So many steps in a row are a stretch, and steps that follow each other faster than this many seconds are tokens of one step.
STRETCH, AT_ONCE = 4, 2e-5
# How busy a GPU is is read twice a second (busy.py): what was counted for less than so many seconds says nothing.
READ_S = 2.0
# It is read in whole percents, a few times: one that was busy each time may have waited a little, so no disturbed run seems quiet.
MOST_BUSY = 0.99


class Lost(NamedTuple):
    """Logarithms of factors by which a run was slower than on a quiet machine: at `most`, and what of it, at most, others that ran on the
    same busy machine lost, too. 0 where the machine was quiet. `most` is infinity where nothing that was read bounds it, and so is `alike`,
    but where it was read that the processor was taken altogether. `waited` is what its own steps show of `most`, which others need not have
    lost like it."""

    most: float = 0.0
    alike: float = math.inf
    waited: float = 0.0


def lost(facts: Mapping, replies: Sequence[Mapping] = ()) -> Lost:
    """What disturbance cost a run at most, from its facts of schema.STATE and the rows of its replies."""
    if not facts.get("disturbed"):
        return Lost()
    of_the_processor, alike = _of_the_processor(facts), 0.0 if _is_gpu(facts) else -math.log1p(-ALIKE) * _threads(facts)
    of_the_rest = _of_the_gpu(facts) if _is_gpu(facts) else _of_its_clock(facts)
    waited_for = max(of_the_processor, min(gpu_busy(facts, replies) or 0.0, MOST_BUSY)) if _is_gpu(facts) else of_the_processor
    left = waited_for * of_the_rest
    if left > 0 and of_the_processor * of_the_rest < 1:
        waited = _slowed(replies) if _threads(facts) > 1 else 0.0
        return Lost(max(-math.log(left), waited), alike, waited)
    return Lost(math.inf, math.inf if of_the_processor else alike)


def gpu_busy(facts: Mapping, replies: Sequence[Mapping]) -> float | None:
    """The share of the time in which the GPU ran a kernel while these replies of a run were counted; None where that was not read."""
    phases = zip(*(facts.get(name) or () for name in ("phases", "phase_s", "phase_gpu")), strict=False)
    point = replies[0].get("point") if replies else None
    at = "" if point is None else f" at {point:,}"
    counted = [(seconds, busy) for phase, seconds, busy in phases if phase.startswith("counting") and phase.endswith(at)]
    seconds, busy = counted[-1] if counted else (0.0, None)
    return busy if seconds >= READ_S else None


def _slowed(replies: Sequence[Mapping]) -> float:
    """By how much the typical stretch of steps was slower than the quickest, as a logarithm; of replies without the times of their steps,
    the typical reply."""
    times = [reply["reply_s"] for reply in replies if reply.get("reply_s")]
    steps = [reply.get("token_s") or [] for reply in replies]
    if all(later - earlier > AT_ONCE for one in steps for earlier, later in pairwise(one)):
        times = [one[at + STRETCH] - one[at] for one in steps for at in range(len(one) - STRETCH)] or times
    return math.log(median(times) / min(times)) if times else 0.0


def _is_gpu(facts: Mapping) -> bool:
    return facts.get("device") == "cuda"


def _threads(facts: Mapping) -> float:
    return 1 if _is_gpu(facts) else facts.get("threads") or facts.get("cores") or math.inf


def _of_the_processor(facts: Mapping) -> float:
    """The share of the time in which the processor was there for a run: for all of its threads at once."""
    taken = [facts.get(name) or 0.0 for name in ("cpu_foreign", "cpu_stolen")]
    return math.prod(max(0.0, 1 - share) for share in taken) ** _threads(facts) * max(0.0, 1 - (facts.get("cpu_limited") or 0.0))


def _of_the_gpu(facts: Mapping) -> float:
    """What was left of the clock of a GPU that was slowed down; nothing where others used it, since how much they did was not read."""
    if state.others_on_gpu({"foreign_gpu_memory": None, "idle_gpu_memory": None, "idle_gpu_utilisation": None, **facts}, []):
        return 0.0
    held = facts.get("foreign_gpu_memory")
    # Where the memory of others was not told, what shared the machine was on the GPU, unless it is seen on the processor.
    unseen = facts.get("shared") and (facts.get("cpu_foreign") or 0.0) <= state.FOREIGN_CPU
    if unseen if held is None else held > state.FOREIGN_MEMORY:
        return 0.0
    return _of_clock(facts.get("sm_clock_median"), facts.get("sm_clock_limit")) if facts.get("throttled") else 1.0


def _of_its_clock(facts: Mapping) -> float:
    """The same of a processor that heat slowed down."""
    return _of_clock(facts.get("cpu_clock_min"), facts.get("cpu_clock_max")) if facts.get("cpu_heat_events") else 1.0


def _of_clock(read: float | None, most: float | None) -> float:
    return min(1.0, read / most) if read and most else 0.0
