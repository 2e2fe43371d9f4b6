"""`runs: auto`: which cells are measured again, after what has been measured so far. Pure, but for the file that holds it.

Only what is open gets further runs, where it could still change the answer or where few runs decide it (report/questions.py says what
that is): first what the page asks at its top, then the rest, of each the cheapest first, until the study's budget is spent; what is left
is open, with its price.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path
from typing import cast

from speedgrid.schema import cell_of

# At most so many further runs of a cell at a time, after which it is looked again whether they are enough; and at most so many in all.
AT_A_TIME = 2
MOST = 20
# After so many further runs of a cell that found no quiet machine only `--sharpen` tries again.
QUIET_TRIES = 2

FILE = "results/further.json"
# A run with this set does what was left open for want of budget.
VARIABLE = "SPEEDGRID_SHARPEN"


@dataclass(frozen=True)
class Further:
    """Further runs by the folder of a cell: those that are wanted by now, and those that more budget would add."""

    wanted: Mapping[str, int] = field(default_factory=dict)
    open: Mapping[str, int] = field(default_factory=dict)

    def sharpened(self) -> "Further":
        """With what was open wanted, too."""
        return Further({folder: self.wanted.get(folder, 0) + self.open.get(folder, 0) for folder in {**self.wanted, **self.open}})

    def as_json(self) -> str:
        return json.dumps({"wanted": dict(self.wanted), "open": dict(self.open)}, indent=1, sort_keys=True) + "\n"

    @classmethod
    def read(cls, path: Path) -> "Further":
        """What a file says; nothing where there is none, or where it is not what this module wrote."""
        try:
            told = json.loads(path.read_text(encoding="utf-8"))
            counts = [{str(folder): int(count) for folder, count in told[name].items() if int(count) > 0} for name in ("wanted", "open")]
        except (OSError, ValueError, KeyError, TypeError, AttributeError):
            return cls()
        return cls(*counts)


class Subject(IntEnum):
    """What a question is about: what the headline names, what costs quality, whether something is faster than the baseline at all."""

    LEAD = 0
    PRICE = 1
    BASELINE = 2


@dataclass(frozen=True)
class Question:
    """Whether `technique` could be as fast as `against`, another one of its group.

    `needed`: how many further runs of each would decide it; None where that is not known (`told` is False) or twenty would not. `subject`
    says what it is about, and in which order questions are decided. `alone`: the one of both whose runs decide it, where the other needs
    none. `quiet`: only runs on a quiet machine would decide it, since disturbance hides the answer; `limited`: there are none, since what
    disturbs is the CPU limit of a container.
    """

    technique: str
    against: str
    needed: int | None
    told: bool = True
    subject: Subject = Subject.LEAD
    alone: str | None = None
    quiet: bool = False
    limited: bool = False

    @property
    def sides(self) -> tuple[str, ...]:
        """What runs again for it."""
        return (self.technique, self.against) if self.alone is None else (self.alone,)


def left_s(budget_s: float, further: Iterable[tuple[int | None, float | None]]) -> float:
    """The seconds of a budget that further runs of a plan have left; negative where they took more. `further` has for each cell how many it
    has had, those that are planned included, or None where their number is fixed, and what one of its runs takes. 0 where all are fixed."""
    spent = [count * (run_s or 0.0) for count, run_s in further if count is not None]
    return budget_s - sum(spent) if spent else 0.0


def decide(cells: Sequence[Mapping], rows: Sequence[Mapping], questions: Mapping[tuple, Sequence[Question]], budget_s: float) -> Further:
    """What to measure next. `cells` are entries of the plan and `rows` theirs of schema.SUMMARY, in one order; `cells` have `further`, how
    many further runs they have had, or None where their runs are not `auto`. `questions` are by gpu, experiment and model.

    A cell that failed in a further run has no more of them: it would fail again.
    """
    had = {cell["folder"]: cell["further"] for cell in cells if cell.get("further")}
    pairs = [(cell, row) for cell, row in zip(cells, rows, strict=True) if cell.get("further") is not None and row["rate"] is not None]
    left = left_s(budget_s, ((cell["further"], row["run_s"]) for cell, row in pairs))
    found = {cell_of(cell): (cell, row) for cell, row in pairs if not row.get("runs_failed")}
    asked = [
        (question, [found[*group, name] for name in question.sides])
        for group, of_group in questions.items()
        for question in of_group
        if question.needed and not question.limited and all((*group, name) in found for name in question.sides)
    ]
    adds: Counter = Counter()
    too_dear: Counter = Counter()
    for question, sides in sorted(asked, key=lambda one: (one[0].subject, _price(cast(int, one[0].needed), one[1]))):
        more = {cell["folder"]: min(cast(int, question.needed), MOST - 1 - cell["further"]) for cell, _ in sides}
        now = {folder: min(count, AT_A_TIME) - adds[folder] for folder, count in more.items()}
        cost = sum(max(0, now[cell["folder"]]) * (row["run_s"] or 0.0) for cell, row in sides)
        if min(more.values()) < 1:
            continue
        if cost > left or (question.quiet and min(cell["further"] for cell, _ in sides) >= QUIET_TRIES):
            too_dear |= Counter(more)
            continue
        left -= cost
        adds |= Counter({folder: min(count, AT_A_TIME) for folder, count in more.items()})
    wanted = Counter(had) + adds
    return Further(dict(wanted), {folder: count - adds[folder] for folder, count in too_dear.items() if count > adds[folder]})


def _price(needed: int, sides: Sequence[tuple[Mapping, Mapping]]) -> float:
    return needed * sum(row["run_s"] or 0.0 for _, row in sides)
