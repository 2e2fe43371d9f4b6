"""Where the wall time of a study went: what its jobs did, for how long none was running, and how much of it the GPU worked.

Pure functions over the rows of runs.parquet.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from itertools import pairwise

from markupsafe import Markup

from speedgrid.report import units
from speedgrid.report.language import tr_html

# Several jobs may be at this on one GPU.
MAKING = "Making models and checkpoints"
# What the phases that jobs name (stage.Job.enter) count as; a phase is found by how it begins. The order is that of the page.
KINDS = {
    "Counting": ("counting",),
    "First run, compilation included": ("running for the first time",),
    "Warming up": ("warming up", "looking whether"),
    "Loading weights": ("loading",),
    "Starting, importing": ("starting", "importing"),
    "Proving that the technique was active": ("proving",),
    "Quality": ("scoring", "answering", "comparing", "computing next tokens", "measuring what rounding does", "building the requests"),
    MAKING: ("preparing", "making the checkpoint"),
    "Measuring what the device can do": ("measuring what the device",),
    "Waiting for a quiet machine": ("waiting",),
}
OTHER, BETWEEN = "Other", "Between jobs"
# What of it a job that has a GPU does on that GPU, or for it, as compilation.
ON_GPU = (
    *("Counting", "First run, compilation included", "Warming up", "Proving that the technique was active", "Quality"),
    *(MAKING, "Measuring what the device can do"),
)
# A longer one lies between two runs of a study.
LONGEST_PAUSE_S = 300.0
# From this share of the time in which jobs had the GPU on, the readings of its driver are those of all of it.
READ_ENOUGH = 0.9
# More than all of the time no GPU has jobs that come one after another: such records say nothing of it.
ALL = 1.01


@dataclass(frozen=True)
class Share:
    """What a part of the wall time went to: `seconds` of it, and its share of the whole."""

    kind: str
    seconds: float
    share: float

    @property
    def words(self) -> str:
        return units.duration(self.seconds)


@dataclass(frozen=True)
class GpuTime:
    """How much of the wall time, of as many GPUs as jobs had at once (`gpus`), a job had a GPU (`held`), did what is done on one
    (`working`), was asked how busy it was (`read`), and ran kernels by what was read (`kernels`): shares of the whole from 0 to 1."""

    gpus: int
    held: float
    working: float
    read: float
    kernels: float


def shares(runs: Sequence[Mapping]) -> list[Share]:
    """Where the time went from the start of the first job to the end of the last, the largest part first; empty where no row says.

    Jobs that ran beside each other share the time that they have in common, so that all parts sum to the wall time. A pause of more than
    LONGEST_PAUSE_S between two jobs is one between two runs of the study and counts as nothing.
    """
    if not any(row.get("phases") for row in runs):
        return []
    spans = _spans(runs)
    walls, idle = _walls(spans)
    seconds = {BETWEEN: sum(idle)}
    for span, wall in zip(spans, walls, strict=True):
        for kind, part in span.kinds.items():
            seconds[kind] = seconds.get(kind, 0.0) + wall * part
    whole = sum(seconds.values())
    found = [Share(kind, value, value / whole) for kind, value in seconds.items() if value > 0] if whole else []
    return sorted(found, key=lambda one: -one.seconds)


def gpu_time(runs: Sequence[Mapping]) -> GpuTime | None:
    """How much of the study's time its GPUs were used; None where no job that says what it did had one."""
    spans = _spans(runs)
    on_gpu = [span for span in spans if span.gpu]
    walls, idle = _walls(spans)
    gpus = _at_once(on_gpu)
    whole = (sum(walls) + sum(idle)) * gpus
    if not whole or not any(row.get("phases") and row.get("device") == "cuda" for row in runs):
        return None

    had = _had(on_gpu)

    def share(of: Sequence[float]) -> float:
        return sum(part * seconds for part, seconds in zip(of, had, strict=True)) / whole

    working = [sum(span.kinds.get(kind, 0.0) for kind in ON_GPU) for span in on_gpu]
    return GpuTime(
        gpus,
        share([1.0] * len(on_gpu)),
        share(working),
        share([span.read for span in on_gpu]),
        share([span.kernels for span in on_gpu]),
    )


def gpu_words(runs: Sequence[Mapping]) -> Markup | None:
    """The same in words."""
    found = gpu_time(runs)
    if found is None or found.held > ALL:
        return None
    held, working = _percent(found.held), _percent(found.working)
    if found.gpus == 1:
        said = tr_html(
            "Jobs held the GPU for {} of this time, and worked on it for {}: first runs with their compilation, warming up, counting,"
            " proving, quality, making checkpoints, measuring the device. The rest went into starting and loading."
        ).format(held, working)
    else:
        said = tr_html(
            "Jobs held {} of the time of these {} GPUs, and worked on them for {}: first runs with their compilation, warming up,"
            " counting, proving, quality, making checkpoints, measuring the device. The rest went into starting and loading."
        ).format(held, found.gpus, working)
    if not found.read:
        return said
    if found.read >= READ_ENOUGH * found.held:
        busy = tr_html("Kernels ran for {} of the time, by the driver's readings twice a second.").format(_percent(found.kernels))
    else:
        busy = tr_html("Its driver was asked in {} of the time, and saw kernels run for {} of that.").format(
            _percent(found.read), _percent(found.kernels / found.read)
        )
    return Markup("{} {}").format(said, busy)


def with_times(runs: Sequence[Mapping]) -> list[dict]:
    """The rows of schema.RUNS with their `wall_s` and `idle_before_s`, which sum to the wall time of the study; None where a row does not
    say when its job ran."""
    timed = [row for row in runs if _is_timed(row)]
    walls, idle = _walls([_Span.of(row) for row in timed])
    found = {id(row): (wall, before) for row, wall, before in zip(timed, walls, idle, strict=True)}
    return [{**row, **dict(zip(("wall_s", "idle_before_s"), found.get(id(row), (None, None)), strict=True))} for row in runs]


@dataclass(frozen=True)
class _Span:
    """A job's time, in seconds since the epoch, and which share of it went to what; the GPU that it had, empty for none, in which share of
    its time that was asked how busy it was, and for which share it ran kernels by what was read."""

    begin: float
    end: float
    kinds: Mapping[str, float]
    gpu: str
    read: float
    kernels: float

    @classmethod
    def of(cls, row: Mapping) -> "_Span":
        begin, end = (datetime.fromisoformat(row[name]).timestamp() for name in ("started_at", "ended_at"))
        phases, lengths = row.get("phases") or [OTHER], row.get("phase_s") or [1.0]
        busy = row.get("phase_gpu") or [None] * len(phases)
        kinds: dict[str, float] = {}
        for phase, seconds in zip(phases, lengths, strict=True):
            kinds[kind_of(phase)] = kinds.get(kind_of(phase), 0.0) + seconds
        whole = sum(lengths) or 1.0
        asked = [(seconds, share) for seconds, share in zip(lengths, busy, strict=True) if share is not None]
        return cls(
            begin,
            # A clock that was set back while the job ran says nothing of how long it took.
            max(begin, end),
            {kind: seconds / whole for kind, seconds in kinds.items()},
            (row.get("device_uuid") or "the GPU") if row.get("device") == "cuda" else "",
            sum(seconds for seconds, _ in asked) / whole,
            sum(seconds * share for seconds, share in asked) / whole,
        )


@cache
def kind_of(phase: str) -> str:
    """The part of the wall time that a phase of a job counts as."""
    fitting = [(len(start), kind) for kind, starts in KINDS.items() for start in starts if phase.startswith(start)]
    return max(fitting)[1] if fitting else OTHER


def _is_timed(row: Mapping) -> bool:
    return bool(row["started_at"] and row["ended_at"])


def _spans(runs: Sequence[Mapping]) -> list[_Span]:
    return [_Span.of(row) for row in runs if _is_timed(row)]


def _walls(spans: Sequence[_Span]) -> tuple[list[float], list[float]]:
    """Of each job its part of the wall time, in seconds, which it shares with those beside it; and the time before it in which none ran."""
    walls, idle = [0.0] * len(spans), [0.0] * len(spans)
    waiting = sorted(range(len(spans)), key=lambda number: -spans[number].begin)
    there: list[int] = []
    for begin, end in pairwise(sorted({edge for span in spans for edge in (span.begin, span.end)})):
        while waiting and spans[waiting[-1]].begin <= begin:
            there.append(waiting.pop())
        there = [number for number in there if spans[number].end >= end]
        for number in there:
            walls[number] += (end - begin) / len(there)
        if not there and end - begin <= LONGEST_PAUSE_S:
            idle[waiting[-1]] += end - begin
    return walls, idle


def _had(on_gpu: Sequence[_Span]) -> list[float]:
    """How long each job had its GPU, in seconds: those that make checkpoints on one share the time that they have in common."""
    had = [span.end - span.begin for span in on_gpu]
    for gpu in {span.gpu for span in on_gpu}:
        own = [number for number, span in enumerate(on_gpu) if span.gpu == gpu and MAKING in span.kinds]
        for number, wall in zip(own, _walls([on_gpu[number] for number in own])[0], strict=True):
            had[number] = wall
    return had


def _at_once(on_gpu: Sequence[_Span]) -> int:
    """How many GPUs jobs had at the same moment, at most. A study that takes one at a time may have another one for each job: the first
    that is free on a machine where others measure, too."""
    edges = sorted((when, change, span.gpu) for span in on_gpu for when, change in ((span.begin, 1), (span.end, -1)))
    taken: Counter[str] = Counter()
    most = 0
    for _, change, gpu in edges:
        taken[gpu] += change
        if change > 0:
            most = max(most, sum(count > 0 for count in taken.values()))
    return most


def _percent(share: float) -> str:
    return f"{100 * share:.0f}\u00a0%"
