"""How busy a job's GPU was in each of its phases. Read beside the job, by the process that watches it (supervision.py), so that nothing of
it runs in the process that is measured."""

import mmap
import time
from collections.abc import Callable
from contextlib import suppress

EVERY_S = 0.5
# Phases that are kept; of a job with sizes there are three a size.
MOST = 4096


class BusyPhases:
    """Readings of a GPU's utilisation by the number of the phase in which they fell.

    Made before the watching process forks: both processes see what is in it, so that the one reads and the other writes it down.
    """

    def __init__(self) -> None:
        self._shared = memoryview(mmap.mmap(-1, 2 * MOST * 8)).cast("d")
        self._sums, self._counts = self._shared[:MOST], self._shared[MOST:]

    def add(self, phase: int, utilisation: float) -> None:
        """Note one reading, from 0 to 1."""
        if phase < MOST:
            self._sums[phase] += utilisation
            self._counts[phase] += 1

    def shares(self, phases: int) -> list[float | None]:
        """The mean of the readings of each of so many phases; None for one that was over between two readings."""
        # The watching process may be between the two sums.
        return [min(1.0, self._sums[n] / self._counts[n]) if n < MOST and self._counts[n] else None for n in range(phases)]

    def watch(self, uuid: str, phase: Callable[[], int]) -> None:
        """Read a GPU for as long as this process runs; not at all, or no longer, where its driver does not answer. `phase` says the number
        of the job's phase.

        Asks NVML itself and not by sensors.py, on which all jobs would then depend.
        """
        try:
            import pynvml
        except ModuleNotFoundError:
            return
        with suppress(pynvml.NVMLError):
            pynvml.nvmlInit()
            handle = pynvml.nvmlDeviceGetHandleByUUID(uuid)
            while True:
                time.sleep(EVERY_S)
                self.add(phase(), pynvml.nvmlDeviceGetUtilizationRates(handle).gpu / 100)
