"""`runs: auto`: which cells are measured again, after what has been measured so far. Pure, but for the file that holds it.

Only what is open and could still change the answer gets further runs: what may be as fast as the fastest of its group, and the fastest
itself where it may be no faster than the baseline. The cheapest comes first, until the study's budget is spent; what is left is open, with
its price.
"""

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

# At most so many further runs of a cell at a time, after which it is looked again whether they are enough; and at most so many in all.
AT_A_TIME = 2
MOST = 20

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


def decide(cells: Sequence[Mapping], rows: Sequence[Mapping], budget_s: float) -> Further:
    """What to measure next. `cells` are entries of the plan and `rows` theirs of schema.SUMMARY, in one order; `cells` have `further`, how
    many further runs they have had, or None where their runs are not `auto`."""
    had = {cell["folder"]: cell["further"] for cell in cells if cell.get("further")}
    pairs = [(cell, row) for cell, row in zip(cells, rows, strict=True) if cell.get("further") is not None and row["rate"] is not None]
    left = budget_s - sum(cell["further"] * (row["run_s"] or 0.0) for cell, row in pairs)
    groups: dict[tuple, list] = {}
    for cell, row in pairs:
        groups.setdefault(tuple(cell[axis] for axis in ("gpu", "experiment", "model")), []).append((cell, row))
    questions = [question for group in groups.values() for question in _open_questions(group)]
    adds: Counter = Counter()
    too_dear: Counter = Counter()
    for needed, sides in sorted(questions, key=lambda question: _price(question[0], question[1])):
        more = {cell["folder"]: min(needed, MOST - 1 - cell["further"]) for cell, _ in sides}
        now = {folder: min(count, AT_A_TIME) - adds[folder] for folder, count in more.items()}
        cost = sum(max(0, now[cell["folder"]]) * (row["run_s"] or 0.0) for cell, row in sides)
        if min(more.values()) < 1:
            continue
        if cost > left:
            too_dear |= Counter(more)
            continue
        left -= cost
        adds |= Counter({folder: min(count, AT_A_TIME) for folder, count in more.items()})
    wanted = Counter(had) + adds
    return Further(dict(wanted), {folder: count - adds[folder] for folder, count in too_dear.items() if count > adds[folder]})


def _open_questions(group: Sequence[tuple[Mapping, Mapping]]) -> list[tuple[int, list]]:
    """The comparisons of a group that are open and could change its answer: how many further runs of each side, and the two sides."""
    first = next((pair for pair in group if pair[1]["standing"] == "first"), None)
    if first is None:
        return []
    found = [(row["further_runs_fastest"], [(cell, row), first]) for cell, row in group if row["standing"] == "unsure"]
    baseline = next((pair for pair in group if pair[1]["is_baseline"]), None)
    if baseline and first[1]["verdict"] == "unsure":
        found.append((first[1]["further_runs"], [first, baseline]))
    return [(int(needed), sides) for needed, sides in found if needed]


def _price(needed: int, sides: Sequence[tuple[Mapping, Mapping]]) -> float:
    return needed * sum(row["run_s"] or 0.0 for _, row in sides)
