"""Is a technique worse than its baseline on the very same questions? Paired tests, and what they could have seen. NumPy alone.

All losses are positive where the technique is worse.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Literal

import numpy as np

from speedgrid import stats

Verdict = Literal["loss", "gain", "no measurable loss"]
# Shares of surprise or perplexity below this come from rounding in another order, and are no loss however sure they are.
NEGLIGIBLE = 1e-4


@dataclass(frozen=True)
class Comparison:
    """A loss with its 95 % interval, and McNemar's p where there is one."""

    test: Literal["mcnemar", "bootstrap"]
    loss: float
    low: float | None
    high: float | None
    p: float | None = None

    @property
    def resolution(self) -> float | None:
        """Half the width of the interval: what so many questions can tell apart."""
        return None if self.low is None or self.high is None else (self.high - self.low) / 2

    def verdict(self, negligible: float = 0.0) -> Verdict | None:
        """`loss` or `gain` where the interval excludes none and the loss is more than negligible; None where there is no interval."""
        if self.low is None or self.high is None:
            return None
        if abs(self.loss) > negligible:
            if self.low > 0:
                return "loss"
            if self.high < 0:
                return "gain"
        return "no measurable loss"


def mcnemar(mine: Sequence[bool], baselines: Sequence[bool]) -> Comparison:
    """The loss of accuracy over the same items, right or wrong.

    p is that of McNemar's exact test: of the items that only one side has right, each side's share is 1/2 (Q. McNemar, "Note on the
    sampling error of the difference between correlated proportions or percentages", Psychometrika 12, 1947). The interval is that of
    D. G. Bonett and R. M. Price, "Adjusted Wald Confidence Interval for a Difference of Binomial Proportions Based on Paired Data",
    Journal of Educational and Behavioral Statistics 37, 2012; where McNemar's test and the interval disagree, the interval is widened to
    hold 0, so that no verdict rests on an approximation.
    """
    _check(mine, baselines)
    n = len(mine)
    lost = sum(theirs and not own for own, theirs in zip(mine, baselines, strict=True))
    won = sum(own and not theirs for own, theirs in zip(mine, baselines, strict=True))
    p = exact_p(lost, won)
    a, b = (lost + 1) / (n + 2), (won + 1) / (n + 2)
    half = NormalDist().inv_cdf((1 + stats.CONFIDENCE) / 2) * math.sqrt((a + b - (a - b) ** 2) / (n + 2))
    low, high = a - b - half, a - b + half
    if p >= 1 - stats.CONFIDENCE:
        low, high = min(low, 0.0), max(high, 0.0)
    return Comparison("mcnemar", (lost - won) / n, low, high, p)


def exact_p(lost: int, won: int) -> float:
    """The two-sided probability of a split at least as uneven, where either side is as likely."""
    n = lost + won
    tail = sum(math.comb(n, k) for k in range(min(lost, won) + 1)) / 2**n
    return min(1.0, 2 * tail)


def bootstrap(mine: Sequence[float], baselines: Sequence[float], weights: Sequence[float] | None = None) -> Comparison:
    """By how much `mine` is more than the baseline's, in sum over sum of weights: the mean of paired differences, and the BCa interval of
    resampling the pairs (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, section 8.5).

    `weights` are what the values are counted per, such as bytes, the same on both sides; without them every pair counts as one. Without an
    interval for a single pair.
    """
    _check(mine, baselines)
    away = np.asarray(mine, dtype=float) - np.asarray(baselines, dtype=float)
    per = len(away) / sum(weights) if weights is not None else 1.0
    found = stats.mean_interval(away * per)
    return Comparison("bootstrap", found.value, found.low, found.high)


def share(comparison: Comparison, of: float) -> Comparison:
    """The same as a share of the baseline's figure."""
    low, high = (None if end is None else end / of for end in (comparison.low, comparison.high))
    return Comparison(comparison.test, comparison.loss / of, low, high)


def factor(comparison: Comparison) -> Comparison:
    """A difference of logarithms as a share: that of a perplexity, infinite where it is more than a number holds."""
    low, high = (None if end is None else _more(end) for end in (comparison.low, comparison.high))
    return Comparison(comparison.test, _more(comparison.loss), low, high)


def _more(logarithm: float) -> float:
    try:
        return math.expm1(logarithm)
    except OverflowError:
        return math.inf


def overall(verdicts: Sequence[Verdict | None]) -> Verdict | None:
    """One word for several measures: a loss in any is a loss; a gain counts only where nothing was lost."""
    there = [verdict for verdict in verdicts if verdict]
    for word in ("loss", "gain", "no measurable loss"):
        if word in there:
            return word
    return None


def _check(mine: Sequence, baselines: Sequence) -> None:
    if len(mine) != len(baselines) or not len(mine):
        raise ValueError("a paired test needs the same items on both sides, and at least one")
