"""Where the wall time of a study went: what its jobs did, and for how long none was running.

Pure functions over the rows of runs.parquet.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from speedgrid.report import units

# What the phases that jobs name (stage.Job.enter) count as; a phase is found by how it begins. The order is that of the page.
KINDS = {
    "Counting": ("counting",),
    "Warming up, compiling": ("warming up", "running for the first time", "looking whether"),
    "Loading weights": ("loading",),
    "Starting, importing": ("starting", "importing"),
    "Proving that the technique was active": ("proving",),
    "Quality": ("scoring", "answering", "comparing", "computing next tokens", "measuring what rounding does", "building the requests"),
    "Making models and checkpoints": ("preparing", "making the checkpoint"),
    "Measuring what the device can do": ("measuring what the device",),
}
OTHER, BETWEEN = "Other", "Between jobs"
# A longer one lies between two runs of a study.
LONGEST_PAUSE_S = 300.0


@dataclass(frozen=True)
class Share:
    """What a part of the wall time went to: `seconds` of it, and its share of the whole."""

    kind: str
    seconds: float
    share: float

    @property
    def words(self) -> str:
        return units.duration(self.seconds)


def shares(runs: Sequence[Mapping]) -> list[Share]:
    """Where the time went from the start of the first job to the end of the last, the largest part first; empty where no row says.

    Jobs that ran beside each other share the time that they have in common, so that all parts sum to the wall time. A pause of more than
    LONGEST_PAUSE_S between two jobs is one between two runs of the study and counts as nothing.
    """
    spans = [_Span.of(row) for row in runs if row.get("phases") and row["started_at"] and row["ended_at"]]
    if not spans:
        return []
    seconds: dict[str, float] = {}
    there: list[_Span] = []
    waiting = sorted(spans, key=lambda span: -span.begin)
    for begin, end in pairwise(sorted({edge for span in spans for edge in (span.begin, span.end)})):
        while waiting and waiting[-1].begin <= begin:
            there.append(waiting.pop())
        there = [span for span in there if span.end >= end]
        for span in there:
            for kind, part in span.kinds.items():
                seconds[kind] = seconds.get(kind, 0.0) + (end - begin) / len(there) * part
        if not there and end - begin <= LONGEST_PAUSE_S:
            seconds[BETWEEN] = seconds.get(BETWEEN, 0.0) + end - begin
    whole = sum(seconds.values())
    found = [Share(kind, value, value / whole) for kind, value in seconds.items() if value > 0] if whole else []
    return sorted(found, key=lambda one: -one.seconds)


@dataclass(frozen=True)
class _Span:
    """A job's time, in seconds since the epoch, and which share of it went to what."""

    begin: float
    end: float
    kinds: Mapping[str, float]

    @classmethod
    def of(cls, row: Mapping) -> "_Span":
        begin, end = (datetime.fromisoformat(row[name]).timestamp() for name in ("started_at", "ended_at"))
        kinds: dict[str, float] = {}
        for phase, seconds in zip(row["phases"], row["phase_s"], strict=True):
            kinds[kind_of(phase)] = kinds.get(kind_of(phase), 0.0) + seconds
        whole = sum(kinds.values()) or 1.0
        return cls(begin, end, {kind: seconds / whole for kind, seconds in kinds.items()})


def kind_of(phase: str) -> str:
    """The part of the wall time that a phase of a job counts as."""
    fitting = [(len(start), kind) for kind, starts in KINDS.items() for start in starts if phase.startswith(start)]
    return max(fitting)[1] if fitting else OTHER
