"""The order in which a device takes the runs of its cells, and how Snakemake gets it: by dependencies and priorities."""

import collections
import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import groupby

from speedgrid.cell import Cell
from speedgrid.planning.place import Place
from speedgrid.snakemake_seam import Run


class Order:
    """The place of every run of every cell in the order, as a priority of Snakemake: later runs have lower priorities. What needs no quiet
    machine has 0."""

    def __init__(self, cells: Sequence[Cell], place: Place, run: Run):
        order = in_order(cells)
        self._run = run
        self._places = _places(order, place)
        self._beside = {(planned.cell.key, planned.run): planned.beside for planned in order}

    def beside(self, cell: Cell, run: int) -> list[str]:
        """The runs that this one comes after, besides the cell's first: where one of them is measured anew, so is it."""
        return list(self._beside[(cell.key, run)])

    def priority(self, cell: Cell, run: int = 1) -> int:
        """The priority of a run of a cell.

        On one machine the devices come one after another. On a cluster the first runs of all nodes come first, since a limit of jobs in
        the queue would else fill it with those of one node while the others wait.
        """
        place, place_on_node = self._places[(cell.key, run)]
        return len(self._places) - (place if self._run.is_local else place_on_node)

    def after_warmup(self, cell: Cell) -> float:
        """When a cell is measured: after its warm-up and before the next cell's."""
        return self.priority(cell) + 0.5

    def before(self, cells: Iterable[Cell]) -> float:
        """When a checkpoint is made: just before the first run of the cells that load it, so that the first figures do not wait for what
        later cells need, and a run that is stopped early has measured what it could."""
        return max(self.priority(cell) for cell in cells) + 0.75

    def model(self, cells: Iterable[Cell]) -> float:
        """When a model is prepared: before the first of its cells and of its checkpoints. On a cluster before all runs, as models are
        downloaded, which keeps no GPU waiting."""
        return self.before(cells) + 0.125 if self._run.is_local else len(self._places) + 1

    def device(self, cells: Iterable[Cell]) -> float:
        """When it is measured what a device can do: before all that its cells need."""
        return self.before(cells) + 0.2

    @property
    def first(self) -> int:
        """Before all else: what says what this run is about, which an edit of the study during the run must not change."""
        return len(self._places) + 2

    def last(self, cell: Cell) -> float:
        """When what is not timed is done: after all runs; on a cluster in their order, so that no node waits for all others."""
        return 0 if self._run.is_local else self.priority(cell) / (len(self._places) + 1)


@dataclass(frozen=True)
class PlannedRun:
    """A run of a cell, in the order in which a device should take them; `beside` are the result files after which it comes: where one of
    them is measured anew, so is this run."""

    cell: Cell
    run: int = 1
    beside: tuple[str, ...] = ()


def in_order(cells: Sequence[Cell]) -> list[PlannedRun]:
    """All runs of cells that are listed group by group, in the order in which a device should take them. A group is a gpu, experiment and
    model.

    Cells that run several times do so in rounds, so that what drifts during a session meets all of them alike, and each round has an order
    of its own, drawn from the study's seed. A baseline that runs more often than the others comes first, after every so many of them, and
    at the end, so that each of them has one of its runs nearby. Where all others run once, they keep the order of the study.
    """
    return [planned for _, group in groupby(cells, key=lambda cell: cell.key[:3]) for planned in _in_rounds(list(group))]


def _in_rounds(group: Sequence[Cell]) -> list[PlannedRun]:
    rounds = max((cell.runs for cell in group if not cell.is_baseline), default=1)
    between = [cell for cell in group if cell.is_baseline and cell.runs > rounds]
    # What `runs: auto` adds comes in rounds after all else, so that nothing that was measured has another place by it.
    most = max((cell.further or 0 for cell in group), default=0)
    further = [planned for number in range(1, most + 1) for planned in _further_round(group, number)]
    ordered = [
        planned for number in range(1, rounds + 1) for planned in _round([cell for cell in group if cell not in between], number, rounds)
    ]
    if not between:
        return ordered + further
    (baseline,) = between
    found, begin = [PlannedRun(baseline)], 0
    for run in range(2, baseline.runs + 1):
        end = round(len(ordered) * (run - 1) / (baseline.runs - 1))
        chunk = ordered[begin:end]
        found += [*chunk, PlannedRun(baseline, run, tuple(planned.cell.measures[planned.run - 1] for planned in chunk))]
        begin = end
    return found + further


def _further_round(cells: Sequence[Cell], number: int) -> list[PlannedRun]:
    again = [cell for cell in cells if (cell.further or 0) >= number]
    _draw(again, f"further {number}")
    return [PlannedRun(cell, cell.runs + number, (cell.measures[cell.runs + number - 2],)) for cell in again]


def _draw(cells: list[Cell], what: object) -> None:
    """Put cells in an order that the seed decides, another one for each round."""
    random.Random(f"{cells[0].seed} {'/'.join(cells[0].key[:3])} {what}").shuffle(cells)


def _round(cells: Sequence[Cell], number: int, rounds: int) -> list[PlannedRun]:
    """One run of each cell that has so many; the second and later ones come after the one before."""
    again = [cell for cell in cells if cell.runs >= number]
    if rounds > 1 and again:
        _draw(again, number)
    else:
        again.sort(key=lambda cell: not cell.is_baseline)
    return [PlannedRun(cell, number, (cell.measures[number - 2],) if number > 2 else ()) for cell in again]


def _places(order: Sequence[PlannedRun], place: Place) -> dict[tuple[tuple, int], tuple[int, int]]:
    """The place of every run of a cell among all of them, and among those of its device and node."""
    places: dict[tuple[tuple, int], tuple[int, int]] = {}
    here: collections.Counter[tuple[str, str]] = collections.Counter()
    for number, planned in enumerate(order):
        where = (planned.cell.gpu, place.node_of(planned.cell))
        places[(planned.cell.key, planned.run)] = (number, here[where])
        here[where] += 1
    return places
