"""The page while a run goes on: made anew after a cell, between jobs, and only while nothing is measured.

Making it takes some seconds, which the run then waits for. So that this is SHARE of the run at most, the first comes FIRST_S / SHARE after
the start, and each other took / SHARE after the one before, which took `took`. And it takes a processor, which would be in the figures of a
job beside it. So it is made before the next jobs begin and while no other job of the run is under way; on a machine whose GPUs are busy one
beside the other there may be no such moment, and `./speedgrid report` makes the page when somebody asks.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from speedgrid import planning, records
from speedgrid.snakemake_seam import Run
from speedgrid.study import StudyError

# The most of a run that may go into pages; and what the first one is taken to take, in seconds.
SHARE, FIRST_S = 0.05, 6.0


class Page:
    """The page of a run that goes on. `make` writes it; `clock` tells seconds."""

    def __init__(self, make: Callable[[], None], clock: Callable[[], float] = time.time):
        self.make, self.clock = make, clock
        self.last, self.took, self.is_by_hand = clock(), FIRST_S, False
        # The specifications of the report's jobs when they were planned.
        self.told = planning.made_by_hand()

    @classmethod
    def of(cls, grid, workflow) -> "Page":
        return cls(lambda: planning.make_page(grid.study_file, Run(workflow), quietly=True))

    def look(self) -> None:
        """Make the page where it is time to, and something was measured since the last one. Nothing that goes wrong here ends the run."""
        began = self.clock()
        if began - self.last < self.took / SHARE or not self._is_new():
            return
        try:
            self.make()
        except StudyError as error:
            # One that failed at once says nothing of how long a page takes; `took` stays, so that the error is not told after every cell.
            print(f"speedgrid: {error}", file=sys.stderr)
            self.last = self.clock()
        else:
            self.is_by_hand = True
            self.last = self.clock()
            self.took = self.last - began

    def _is_new(self) -> bool:
        times = (path.stat().st_mtime for path in Path("results").glob("*/*/*/*/measure*.parquet"))
        return max(times, default=0.0) > self.last

    def is_over(self) -> None:
        """After the last job, which made tables and page itself: those made in between are no reason for the next run to make them anew."""
        if not self.is_by_hand:
            return
        by_hand = Path(planning.BY_HAND)
        if self.told:
            with records.replacing(by_hand) as temporary:
                temporary.write_text(self.told, encoding="utf-8")
        else:
            by_hand.unlink(missing_ok=True)
