"""Which cells of a study fit into a time, the most informative first (`./speedgrid run --minutes`). Pure.

What a cell tells for its time decides: the first technique of a family counts twice as much as a further one. The order does not depend on
the time that there is, and is followed until a cell does not fit; then one more that does takes its place. So more time never means fewer
cells: where the cell fits, it is there instead of the one.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

# Minutes that a run may take, by estimate (`./speedgrid run --minutes`).
MINUTES = "SPEEDGRID_MINUTES"
# What a technique tells: the first of its family in a group, and each further one.
FIRST, FURTHER = 1.0, 0.5


@dataclass(frozen=True)
class Candidate:
    """A cell that is not measured yet. `group` are its gpu, experiment and model; `seconds` it takes by itself; `shared` what it needs
    besides that others may need too (environments, its model), each with its seconds."""

    name: str
    group: tuple[str, ...]
    family: str
    is_baseline: bool
    seconds: float
    shared: Mapping[str, float] = field(default_factory=dict)


def choose(candidates: Sequence[Candidate], seconds: float, fixed: float = 0.0) -> list[Candidate]:
    """The candidates that fit into `seconds`, in the order of what they tell for their time; `fixed` are seconds that any run takes.

    A group begins with its baseline, without which nothing of it can be compared. Empty where not even the first one fits.
    """
    left, there, chosen = list(candidates), set[str](), list[Candidate]()
    families: set[tuple] = set()
    spent = fixed
    while left:
        waiting = {one.group for one in left if one.is_baseline}
        able = [one for one in left if one.is_baseline or one.group not in waiting]
        able.sort(key=lambda one: adds(one, there) / _tells(one, families))
        best = able[0]
        if spent + adds(best, there) > seconds:
            return chosen + [one for one in able if spent + adds(one, there) <= seconds][:1]
        spent += adds(best, there)
        chosen.append(best)
        left.remove(best)
        there |= set(best.shared)
        if not best.is_baseline:
            families.add((best.group, best.family))
    return chosen


def adds(one: Candidate, there: set[str]) -> float:
    """Seconds that a cell adds to a run that has the shared things of `there` already."""
    return one.seconds + sum(seconds for name, seconds in one.shared.items() if name not in there)


def _tells(one: Candidate, families: set[tuple]) -> float:
    return FURTHER if (one.group, one.family) in families and not one.is_baseline else FIRST
