"""The page while a run goes on: made anew after a cell, between jobs, and only while nothing is measured.

Making it takes some seconds, for which the run waits. To keep these below SHARE of the run, the first page is made FIRST_S / SHARE seconds
after the start, and each further one `took` / SHARE seconds after the last, which took `took`. It also takes processor time, which would
show in the figures of a job beside it, so it is made only while no job of the run is under way. On a machine whose GPUs are never idle
together there may be no such moment; `./speedgrid report` makes the page at any time.
"""

import sys
import time
from collections.abc import Callable
from pathlib import Path

from speedgrid import planning, records
from speedgrid.snakemake_seam import Run
from speedgrid.study import StudyError

# The largest share of a run that may go into pages, and the seconds that the first one is assumed to take.
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
            # A page that failed early says nothing of how long one takes. `took` stays, so that the error is not printed after every cell.
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
        """After the last job: the run has made tables and page itself, so those made in between are no reason to make them anew."""
        if not self.is_by_hand:
            return
        by_hand = Path(planning.BY_HAND)
        if self.told:
            with records.replacing(by_hand) as temporary:
                temporary.write_text(self.told, encoding="utf-8")
        else:
            by_hand.unlink(missing_ok=True)
