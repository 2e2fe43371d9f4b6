"""Samples, which are independent values in any order: means, spread, outliers, and bootstrap intervals of means.

The intervals are BCa bootstrap intervals (bias-corrected and accelerated: B. Efron, "Better Bootstrap Confidence Intervals", Journal of the
American Statistical Association 82, 1987, sections 3 and 6), as in `scipy.stats.bootstrap`. Random numbers come from a fixed seed over the
sorted values, so that the same values give the same interval.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 9999  # (9999 + 1) · 0.025 is a whole number, so that the ends of a 95 % interval fall on replicates
SEED = 0

# At most this many random draws are held at once: 16 MB of indices.
_DRAWS_AT_ONCE = 2_000_000


@dataclass(frozen=True)
class Estimate:
    """A figure with the ends of its confidence interval; both are None where the sample cannot give one. Of a ratio of which disturbance
    hides an end (verdicts.over) that end is None, and `value`, the ratio of what was seen, is no estimate of it."""

    value: float
    low: float | None = None
    high: float | None = None
    hidden: bool = False

    @property
    def told(self) -> float | None:
        """The figure; None where what was seen is no estimate of it."""
        return None if self.hidden else self.value

    @property
    def is_bound(self) -> bool:
        """Whether it is no more than a bound."""
        return self.hidden and (self.low is None) != (self.high is None)


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean. Raises ValueError where there are no values."""
    return float(as_sample(values).mean())


def sd(values: Sequence[float]) -> float | None:
    """Standard deviation of the population that the sample comes from (n - 1 below the line); None for a single value."""
    sample = as_sample(values)
    return float(sample.std(ddof=1)) if len(sample) > 1 else None


@dataclass(frozen=True)
class Outliers:
    """How many values lie outside Tukey's fences."""

    slow: int
    fast: int


def outliers(times: Sequence[float]) -> Outliers:
    """Count the outliers of a sample of times (for rates, `slow` and `fast` change places). They stay in every other figure.

    An outlier lies more than 1.5 interquartile ranges outside the quartiles (J. W. Tukey, "Exploratory Data Analysis", 1977, section 2D).
    Of normal values 0.7 % are outliers.
    """
    sample = as_sample(times)
    low, high = np.quantile(sample, [0.25, 0.75])
    above, below = (sample - high) / ((high - low) or np.inf), (low - sample) / ((high - low) or np.inf)
    if high == low:  # half of the values are equal: all others are outliers
        above, below = np.where(sample > high, np.inf, 0), np.where(sample < low, np.inf, 0)
    return Outliers(int((above > 1.5).sum()), int((below > 1.5).sum()))


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE, seed: int = SEED) -> Estimate:
    """The mean and its BCa bootstrap interval; without an interval for a single value."""
    sample = as_sample(values)
    if len(sample) < 2:
        return Estimate(float(sample.mean()))
    replicates = _resampled_means(sample, np.random.default_rng(seed))
    return _bca(float(sample.mean()), replicates, _means_without_one(sample), confidence)


def as_sample(values: Sequence[float] | np.ndarray) -> np.ndarray:
    """The values as a sorted array, so that their order cannot change a result. Raises ValueError for none and for NaN or infinity."""
    sample = np.sort(np.asarray(values, dtype=float))
    if sample.ndim != 1 or len(sample) == 0:
        raise ValueError("there are no values")
    if not np.isfinite(sample).all():
        raise ValueError("a value is not a finite number")
    return sample


def _resampled_means(sample: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The mean of each of RESAMPLES samples of the same size, drawn from `sample` with replacement."""
    n = len(sample)
    at_once = max(1, _DRAWS_AT_ONCE // n)
    sizes = [min(at_once, RESAMPLES - done) for done in range(0, RESAMPLES, at_once)]
    return np.concatenate([sample[rng.integers(n, size=(size, n))].mean(axis=1) for size in sizes])


def _means_without_one(sample: np.ndarray) -> np.ndarray:
    """The n means that leave out one value each (the jackknife)."""
    return (sample.sum() - sample) / (len(sample) - 1)


def _bca(value: float, replicates: np.ndarray, left_out: np.ndarray, confidence: float) -> Estimate:
    """The BCa interval from bootstrap replicates and the figures with one value left out."""
    rounding = abs(value) * 1e-12  # replicates this close are equal to the value, however their sums were rounded
    if np.ptp(replicates) <= rounding:
        return Estimate(value, value, value)
    normal = NormalDist()
    below = ((replicates < value - rounding).mean() + (replicates <= value + rounding).mean()) / 2
    bias = normal.inv_cdf(min(max(below, 1 / (len(replicates) + 1)), 1 - 1 / (len(replicates) + 1)))
    acceleration = _acceleration(left_out)

    def adjusted(probability: float) -> float:
        z = bias + normal.inv_cdf(probability)
        return normal.cdf(bias + z / (1 - acceleration * z))

    tail = (1 - confidence) / 2
    low, high = np.quantile(replicates, [adjusted(tail), adjusted(1 - tail)])
    return Estimate(value, float(low), float(high))


def _acceleration(left_out: np.ndarray) -> float:
    """How fast the standard error changes with the figure: a sixth of the skewness of the jackknife's influence values."""
    influences = left_out.mean() - left_out
    largest = float(np.abs(influences).max())
    if largest == 0:
        return 0.0
    # The same at any scale; the cubes of very small numbers would round to 0.
    influences = influences / largest
    return float((influences**3).sum()) / (6 * float((influences**2).sum()) ** 1.5)
