"""When a series of replies is long enough."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from speedgrid.stats.series import level


@dataclass(frozen=True)
class Precision:
    """When a series is long enough: its 95 % interval is the mean ± `share` of it or less; never under `at_least` replies, nor over
    `at_most`."""

    share: float = 0.01
    at_least: int = 20
    at_most: int = 1000

    def __post_init__(self):
        if not (self.share > 0 and 2 <= self.at_least <= self.at_most):
            raise ValueError("a precision needs a share over 0, and 2 <= at_least <= at_most")

    @property
    def looks(self) -> tuple[int, ...]:
        """The numbers of replies at which the interval is looked at: each a quarter more than the last, so that there are few.

        Whoever looks after every reply stops at the first interval that is narrow by chance; each look is another chance to be wrong.
        """
        looks = [self.at_least]
        while looks[-1] < self.at_most:
            looks.append(min(self.at_most, math.ceil(looks[-1] * 1.25)))
        return tuple(looks)


def stop(series: Sequence[float], precision: Precision) -> Literal["", "precise", "maximum"]:
    """Whether to stop after these replies, and why: `precise` or `maximum`; empty to go on. Looks only at `precision.looks`."""
    n = len(series)
    if n in precision.looks and level(series).half_width <= precision.share:
        return "precise"
    return "maximum" if n >= precision.at_most else ""
