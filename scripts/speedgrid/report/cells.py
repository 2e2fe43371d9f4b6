"""A cell of the grid with what its jobs wrote, and each of its runs: what the rows of the tables are made of. Pure."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property

from speedgrid import noise, records, stats
from speedgrid.records import Record
from speedgrid.schema import MEASURED, cell_of, group_of, items_of
from speedgrid.workload import WORKLOADS

# What an evaluation may find that leaves nothing of what was measured.
REFUTING = ("not_finite", "wrong_result")


@dataclass(frozen=True)
class CellRecords:
    """A cell of the grid with what its jobs wrote; `checkpoint` and `evaluate` are None for a cell that has no such job."""

    cell: Mapping
    prepared: Record
    checkpoint: Record | None
    warmup: Record
    measure: Record
    probe: Record
    evaluate: Record | None
    sources: Sequence[Record] = ()  # the checkpoints that `checkpoint` was made from, where it was not from the model
    requests: Record | None = None
    reference: Record | None = None
    score: Record | None = None
    early: Sequence[Mapping] = ()  # rows of schema.SCORE, where it has answered and its group has not scored it yet
    outdated: Sequence[str] = ()  # what has changed since (standing.py): what its records say, and what is left out of them
    again: Sequence[Record] = ()  # further runs of the same cell, each by a process of its own
    looks_again: bool = False  # whether what is said of its group decides if it has further runs (`runs: auto`)
    point: int | None = None  # of a cell that ran at several sizes, the one that its figures are of

    @property
    def is_generation(self) -> bool:
        return WORKLOADS[self.cell["workload"]].is_of_replies

    @property
    def axes(self) -> tuple:
        """What names it: gpu, experiment, model and technique."""
        return cell_of(self.cell)

    @property
    def group(self) -> tuple:
        """What is compared with one another: gpu, experiment and model."""
        return group_of(self.cell)

    @property
    def status(self) -> str:
        return self._decided_by.status

    @property
    def reason(self) -> str:
        return self._decided_by.reason

    @property
    def _decided_by(self) -> Record:
        """What says how the cell ended: its evaluation where that found that the cell computes no numbers, or another model."""
        if self.evaluate is not None and self.evaluate.status in REFUTING and self.measure.status in MEASURED:
            return self.evaluate
        return self.measure

    @cached_property
    def replies(self) -> list[dict]:
        """The finished counted replies; the row that says why a cell stopped is not one."""
        return _finished(self.measure, self.point)

    @cached_property
    def records_with_figures(self) -> list[Record]:
        """Those of its runs that have figures, the cell's own first."""
        alike = records.of_one_status((self.measure, *self.again))
        return [record for _, record in alike if record.status in MEASURED and _finished(record, self.point)]

    @property
    def runs_without_figures(self) -> list[Record]:
        """Its further runs that ended otherwise than the first, such as for want of memory."""
        return [record for record in self.again if record.is_there and record.status != self.measure.status]

    @property
    def confidence(self) -> float:
        """The level of the intervals of its speed, which all cells of its group have in common."""
        return stats.confidence(self.looks_again)

    @property
    def confidence_then(self) -> float:
        """The same after further runs, which `--sharpen` makes of a cell whose runs are `auto` where the study has no budget for them."""
        return stats.confidence(self.looks_again or self.cell.get("further") is not None)

    @cached_property
    def runs(self) -> list["Run"]:
        """The runs that have figures, the cell's own first."""
        return [Run.of(record, self.point) for record in self.records_with_figures]

    @cached_property
    def replies_by_run(self) -> list[list[dict]]:
        """The finished counted replies of each of its runs that have figures."""
        return [_finished(record, self.point) for record in self.records_with_figures]

    @cached_property
    def all_replies(self) -> list[dict]:
        """The finished counted replies of all its runs."""
        return [reply for replies in self.replies_by_run for reply in replies]

    @property
    def device(self) -> str:
        """The kind of its device, `cuda` or `cpu`."""
        return self.measure.facts.get("device") or ""

    @property
    def made_s(self) -> float:
        """Seconds that making the checkpoint took, with those that it was made from; 0 for the model as it is, NaN where one has none."""
        seconds = [record.rows[0]["seconds"] for record in (self.checkpoint, *self.sources) if record]
        return math.nan if None in seconds else sum(seconds)

    @property
    def starts_known(self) -> bool:
        """Whether what the cell costs once is known: its cold start, and the making of its checkpoint."""
        return self.warmup.status in MEASURED and not math.isnan(self.made_s)

    @property
    def has_figures(self) -> bool:
        """A cell that stopped half-way has none: the replies before an out-of-memory error are not a fair sample of the cell."""
        return self.status in MEASURED and bool(self.replies)

    @property
    def is_ranked(self) -> bool:
        """Whether its figures are those of its technique, so that others are held against them."""
        return self.has_figures and self.status == "ok"


@dataclass(frozen=True)
class Run:
    """A process that measured a cell: when it began and for how long it ran, in seconds; its speed; the mean over its replies."""

    at: float
    seconds: float | None
    speed: stats.Run
    mean: stats.Level

    @classmethod
    def of(cls, record: Record, point: int | None = None) -> "Run":
        replies = list(_finished(record, point))
        rates = [items_of(reply) / reply["reply_s"] for reply in replies]
        began, ended = datetime.fromisoformat(record.facts["started_at"]), record.facts.get("ended_at")
        seconds = (datetime.fromisoformat(ended) - began).total_seconds() if ended else None
        return cls(began.timestamp(), seconds, noise.run(record.facts, replies), stats.level(rates))


def _finished(record: Record, point: int | None = None) -> list[dict]:
    return [row for row in record.rows if row["reply"] is not None and (point is None or row["point"] == point)]
