"""What can be said from a sample of repeated measurements: means, intervals, ratios, percentiles. Pure; NumPy alone.

Every function takes the measurements themselves, in any order and any unit, and gives figures in that unit. Random numbers come from a
fixed seed over the sorted values, so that the same measurements always give the same interval.

Intervals are BCa bootstrap intervals (bias-corrected and accelerated: B. Efron, "Better Bootstrap Confidence Intervals", Journal of the
American Statistical Association 82, 1987, sections 3 and 6), as in `scipy.stats.bootstrap`. They need no normal distribution, which times
do not have. They say how well these replies pin down their own mean; what changes from one process, day or machine to the next is not in
them. From fewer than about ten values they are too narrow.
"""

import math
from collections.abc import Callable, Sequence
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
    """A figure with the ends of its confidence interval; both are None where the sample cannot give one."""

    value: float
    low: float | None = None
    high: float | None = None


# Describing one sample


def mean(values: Sequence[float]) -> float:
    """Arithmetic mean. Raises ValueError where there are no values."""
    return float(_sample(values).mean())


def sd(values: Sequence[float]) -> float | None:
    """Standard deviation of the population that the sample comes from (n - 1 below the line); None for a single value."""
    sample = _sample(values)
    return float(sample.std(ddof=1)) if len(sample) > 1 else None


def percentile(values: Sequence[float], q: float) -> float:
    """The q-quantile, 0 <= q <= 1, interpolated linearly between neighbours (definition 7 of Hyndman and Fan 1996, NumPy's default)."""
    return float(np.quantile(_sample(values), q))


# How many values a percentile needs


def percentile_needs(q: float, confidence: float = CONFIDENCE) -> int:
    """How many values it takes until the largest of them bounds the q-quantile from above with `confidence`: 59 for p95, 299 for p99.

    All n values lie under the q-quantile with probability q**n, so that n must satisfy 1 - q**n >= confidence (S. S. Wilks,
    "Determination of Sample Sizes for Setting Tolerance Limits", Annals of Mathematical Statistics 12, 1941). With fewer, a percentile
    is an interpolation that nothing bounds.
    """
    if not (0 < q < 1 and 0 < confidence < 1):
        raise ValueError(f"q and confidence lie between 0 and 1; they are {q} and {confidence}")
    # The logarithms give the size up to rounding; the definition itself decides.
    n = max(1, math.floor(math.log(1 - confidence) / math.log(q)))
    while 1 - q**n < confidence:
        n += 1
    return n


def percentile_supported(n: int, q: float, confidence: float = CONFIDENCE) -> bool:
    """Whether n values are enough to state the q-quantile; see percentile_needs."""
    return n >= percentile_needs(q, confidence)


# Intervals


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE, seed: int = SEED) -> Estimate:
    """The mean and its BCa bootstrap interval; without an interval for a single value."""
    sample = _sample(values)
    if len(sample) < 2:
        return Estimate(float(sample.mean()))
    replicates = _resampled_means(sample, np.random.default_rng(seed))
    return _bca(float(sample.mean()), replicates, [_means_without_one(sample)], confidence)


def ratio_interval(above: Sequence[float], below: Sequence[float], confidence: float = CONFIDENCE, seed: int = SEED) -> Estimate:
    """mean(above) / mean(below) of two independent samples of positive values, and its BCa bootstrap interval.

    Each sample is resampled by itself; the acceleration sums over both (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993,
    sections 8.3 and 14.3). Without an interval where either sample has a single value.
    """
    top, bottom = _sample(above), _sample(below)
    if min(top.min(), bottom.min()) <= 0:
        raise ValueError("a ratio of means needs positive values")
    ratio = float(top.mean() / bottom.mean())
    if min(len(top), len(bottom)) < 2:
        return Estimate(ratio)
    rng = np.random.default_rng(seed)
    replicates = _resampled_means(top, rng) / _resampled_means(bottom, rng)
    left_out = [_means_without_one(top) / bottom.mean(), top.mean() / _means_without_one(bottom)]
    return _bca(ratio, replicates, left_out, confidence)


def _sample(values: Sequence[float]) -> np.ndarray:
    """The values as a sorted array, so that their order cannot change a result. Raises ValueError for none and for NaN or infinity."""
    sample = np.sort(np.asarray(values, dtype=float))
    if sample.ndim != 1 or len(sample) == 0:
        raise ValueError("there are no values")
    if not np.isfinite(sample).all():
        raise ValueError("a value is not a finite number")
    return sample


def _resampled_means(sample: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Means of RESAMPLES samples of the same size, drawn from `sample` with replacement."""
    n = len(sample)
    at_once = max(1, _DRAWS_AT_ONCE // n)
    sizes = [min(at_once, RESAMPLES - done) for done in range(0, RESAMPLES, at_once)]
    return np.concatenate([sample[rng.integers(n, size=(size, n))].mean(axis=1) for size in sizes])


def _means_without_one(sample: np.ndarray) -> np.ndarray:
    """The n means that leave out one value each (the jackknife)."""
    return (sample.sum() - sample) / (len(sample) - 1)


def _bca(value: float, replicates: np.ndarray, left_out: Sequence[np.ndarray], confidence: float) -> Estimate:
    """The BCa interval from bootstrap replicates and, for each sample, the figure with one value left out."""
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


def _acceleration(left_out: Sequence[np.ndarray]) -> float:
    """How fast the standard error changes with the figure: a sixth of the skewness of the jackknife's influence values."""
    influences = [(len(values) - 1) * (values.mean() - values) for values in left_out]
    cubes = _over_samples(influences, lambda u: (u**3).sum() / len(u) ** 3)
    squares = _over_samples(influences, lambda u: (u**2).sum() / len(u) ** 2)
    return cubes / (6 * squares**1.5) if squares > 0 else 0.0


def _over_samples(influences: Sequence[np.ndarray], part: Callable[[np.ndarray], float]) -> float:
    return float(sum(part(u) for u in influences))
