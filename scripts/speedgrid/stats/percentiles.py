"""Percentiles of samples, how many values each needs, and their distribution-free intervals."""

import math
from collections.abc import Sequence

import numpy as np

from speedgrid.stats.samples import CONFIDENCE, Estimate, as_sample


def percentile(values: Sequence[float] | np.ndarray, q: float) -> float:
    """The q-quantile, 0 <= q <= 1, interpolated linearly between neighbours (definition 7 of Hyndman and Fan 1996, NumPy's default)."""
    return float(np.quantile(as_sample(values), q))


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


def percentile_interval(
    values: Sequence[float], q: float, confidence: float = CONFIDENCE, effective_n: float | None = None
) -> Estimate | None:
    """The q-quantile and its distribution-free interval; None where so few values cannot support it (see percentile_needs).

    The ends are order statistics: the number of values under the quantile is binomial, whatever they are distributed as (H. A. David and
    H. N. Nagaraja, "Order Statistics", 3rd ed., 2003, section 7.1). Each end may miss with half of what `confidence` leaves. Where not
    even the extreme value is an end as sure as that, it is the end, and the other end takes the rest; an end that the sample does not
    have is None.

    `effective_n` is the effective sample size of values that are not independent (Level.effective_n).
    """
    sample = as_sample(values)
    n = len(sample) if effective_n is None else max(1, min(len(sample), math.floor(effective_n)))
    if not percentile_supported(n, max(q, 1 - q), confidence):
        return None
    low, high = _ranks(n, q, 1 - confidence)
    # Ranks are those of n values; the sample may have more.
    low_end, high_end = (
        None if rank is None else float(sample[round((rank - 1) / max(n - 1, 1) * (len(sample) - 1))]) for rank in (low, high)
    )
    return Estimate(percentile(sample, q), low_end, high_end)


def _ranks(n: int, q: float, miss: float) -> tuple[int | None, int | None]:
    """The ranks, from 1, of the order statistics between which the q-quantile lies but for a probability of `miss`; None for no such."""
    at_most = np.cumsum(_binomial(n, q))  # at_most[k]: that k or fewer values lie under the quantile
    highest_misses, lowest_misses = q**n, (1 - q) ** n
    upper_tail = lower_tail = miss / 2
    if miss / 2 < highest_misses <= miss:
        upper_tail, lower_tail = highest_misses, miss - highest_misses
    elif miss / 2 < lowest_misses <= miss:
        lower_tail, upper_tail = lowest_misses, miss - lowest_misses
    slack = 1e-12
    low = int((at_most <= lower_tail + slack).sum())  # P(fewer than `low` values under it) <= lower_tail
    high = int((1 - at_most > upper_tail + slack).sum()) + 1  # P(`high` or more under it) <= upper_tail
    return low or None, high if high <= n else None


def _binomial(n: int, q: float) -> np.ndarray:
    """The probabilities of 0 … n among n."""
    chosen = [math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1) for k in range(n + 1)]
    k = np.arange(n + 1)
    return np.exp(np.array(chosen) + k * math.log(q) + (n - k) * math.log1p(-q))
