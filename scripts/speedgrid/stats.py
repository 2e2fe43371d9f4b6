"""What can be said from repeated measurements: means, intervals, percentiles, speeds, noise between runs, verdicts. Pure; NumPy alone.

Every function takes the measurements themselves, in any unit, and gives figures in that unit. Three kinds of input are told apart:

- a *sample*: independent values, in any order. Its intervals are BCa bootstrap intervals (bias-corrected and accelerated: B. Efron,
  "Better Bootstrap Confidence Intervals", Journal of the American Statistical Association 82, 1987, sections 3 and 6), as in
  `scipy.stats.bootstrap`. Random numbers come from a fixed seed over the sorted values, so that the same values give the same interval.
- a *series*: the replies of one process, in their order. Neighbours are alike, because the machine's speed wanders; an interval that
  takes them for independent is far too narrow. `level` allows for that.
- *runs*: several processes that measured the same. `speed` pools them, and allows for what changes from one process to the next; two such
  speeds are compared by `over` and `verdict`.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, lru_cache
from statistics import NormalDist
from typing import Literal

import numpy as np

CONFIDENCE = 0.95
RESAMPLES = 9999  # (9999 + 1) · 0.025 is a whole number, so that the ends of a 95 % interval fall on replicates
SEED = 0

# At most this many random draws are held at once: 16 MB of indices.
_DRAWS_AT_ONCE = 2_000_000

# A difference of so little matters to nobody, however sure it is.
NEGLIGIBLE = 0.01
# What is called the same is at most so far apart, with differences of a quarter ruled out.
CLOSE = 0.05
NOT_FAR = 0.25

Verdict = Literal["faster", "slower", "same", "unsure"]


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


@dataclass(frozen=True)
class Outliers:
    """How many values lie outside Tukey's fences; `severe` ones are counted among all of them."""

    slow: int
    fast: int
    severe: int


def outliers(times: Sequence[float]) -> Outliers:
    """Count the outliers of a sample of times (for rates, `slow` and `fast` change places). They stay in every other figure.

    An outlier lies more than 1.5 interquartile ranges outside the quartiles, a severe one more than 3 (J. W. Tukey, "Exploratory Data
    Analysis", 1977, section 2D). Of normal values 0.7 % are outliers and 2 in a million are severe.
    """
    sample = _sample(times)
    low, high = np.quantile(sample, [0.25, 0.75])
    above, below = (sample - high) / ((high - low) or np.inf), (low - sample) / ((high - low) or np.inf)
    if high == low:  # half of the values are equal: all others are outliers
        above, below = np.where(sample > high, np.inf, 0), np.where(sample < low, np.inf, 0)
    return Outliers(int((above > 1.5).sum()), int((below > 1.5).sum()), int((above > 3).sum() + (below > 3).sum()))


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


def percentile_interval(values: Sequence[float], q: float, confidence: float = CONFIDENCE, worth: float | None = None) -> Estimate | None:
    """The q-quantile and its distribution-free interval; None where so few values cannot support it (see percentile_needs).

    The ends are order statistics: the number of values under the quantile is binomial, whatever they are distributed as (H. A. David and
    H. N. Nagaraja, "Order Statistics", 3rd ed., 2003, section 7.1). Each end may miss with half of what `confidence` leaves. Where not
    even the extreme value is an end as sure as that, it is the end, and the other end takes the rest; an end that the sample does not
    have is None.

    `worth` is how many independent values the sample is worth (Level.worth), where that is less than it has.
    """
    sample = _sample(values)
    n = len(sample) if worth is None else max(1, min(len(sample), math.floor(worth)))
    if not percentile_supported(n, max(q, 1 - q), confidence):
        return None
    low, high = _ranks(n, q, 1 - confidence)
    # Ranks are those of n values; the sample may have more.
    ends = [None if rank is None else float(sample[round((rank - 1) / max(n - 1, 1) * (len(sample) - 1))]) for rank in (low, high)]
    return Estimate(percentile(sample, q), *ends)


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


# Intervals of samples


def mean_interval(values: Sequence[float], confidence: float = CONFIDENCE, seed: int = SEED) -> Estimate:
    """The mean and its BCa bootstrap interval; without an interval for a single value."""
    sample = _sample(values)
    if len(sample) < 2:
        return Estimate(float(sample.mean()))
    replicates = _resampled_means(sample, np.random.default_rng(seed))
    return _bca(float(sample.mean()), replicates, [_means_without_one(sample)], confidence)


def median_interval(values: Sequence[float], confidence: float = CONFIDENCE, seed: int = SEED) -> Estimate:
    """The median and its BCa bootstrap interval; without an interval for a single value."""
    sample = _sample(values)
    middle = float(np.median(sample))
    if len(sample) < 2:
        return Estimate(middle)
    replicates = _resampled(sample, np.random.default_rng(seed), lambda drawn: np.median(drawn, axis=1))
    without_one = np.array([np.median(np.delete(sample, i)) for i in range(len(sample))])
    return _bca(middle, replicates, [without_one], confidence)


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
    return _resampled(sample, rng, lambda drawn: drawn.mean(axis=1))


def _resampled(sample: np.ndarray, rng: np.random.Generator, figure: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """The figure of each of RESAMPLES samples of the same size, drawn from `sample` with replacement."""
    n = len(sample)
    at_once = max(1, _DRAWS_AT_ONCE // n)
    sizes = [min(at_once, RESAMPLES - done) for done in range(0, RESAMPLES, at_once)]
    return np.concatenate([figure(sample[rng.integers(n, size=(size, n))]) for size in sizes])


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


# Series: the replies of one process, in their order


@dataclass(frozen=True)
class Level:
    """The mean of a series and how sure it is: (mean - true mean) / se is a t of `df` degrees of freedom.

    `worth` is how many independent values would pin down the mean as well; at most as many as there are.
    """

    value: float
    se: float
    df: float
    n: int
    worth: float

    def interval(self, confidence: float = CONFIDENCE) -> Estimate:
        """The mean and its interval; without an interval for a single value."""
        if self.n < 2:
            return Estimate(self.value)
        half = self.se * t_quantile((1 + confidence) / 2, self.df)
        return Estimate(self.value, self.value - half, self.value + half)

    @property
    def half_width(self) -> float:
        """Half the 95 % interval as a share of the mean; infinite for a single value."""
        return self.se * t_quantile((1 + CONFIDENCE) / 2, self.df) / abs(self.value) if self.n > 1 else math.inf


# What a series may be: independent values, or a part that lingers (a first-order autoregression with the correlation PHI from one value
# to the next) with a SHARE of independent noise on it. Before the series is seen, independence has this probability, and all others share
# the rest equally. (0.3 was chosen by the coverage of simulated series: tests/benchmarks/interval_coverage.py.)
_PHI = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99)
_SHARE = (0.0, 0.25, 0.5, 0.75)
_INDEPENDENT = 0.3
# Of a long series only so many of its slowest waves are looked at. (Chosen by the coverage of real series of 600 and 2,000 replies: of the
# intervals from 300 of them 93 % hold the mean, and 81 % where all waves count; with 32 and 64 it is 93 %, too.)
_SLOWEST = 48


def level(series: Sequence[float]) -> Level:
    """The mean of a series of values in their order, with a standard error that allows for their likeness to their neighbours.

    How alike they are is not known, and from twenty values cannot be known well. So no one model is picked: the interval is the average
    over all models of `_PHI` and `_SHARE`, each weighted by how well it explains the series (Bayes' rule). Likelihoods are those of the
    series' cosine transform, whose terms are nearly independent, with the model's spectrum as their variances (P. Whittle, "Estimation and
    Information in Stationary Time Series", Arkiv för Matematik 2, 1953). Of a long series the first `_SLOWEST` terms count alone: a mean's
    error comes of how a series wanders over long times, of which models that must explain the likeness of neighbours, too, know little
    (for that, for cosine weights and for averaging over models of what lingers, U. K. Müller and M. W. Watson, "Measuring Uncertainty about
    Long-Run Predictions", Review of Economic Studies 83, 2016). Under each model the mean's error is a t of as many degrees of freedom as
    there are terms, n - 1 at most (A. Zellner and G. C. Tiao, "Bayesian Analysis of the Regression Model with Autocorrelated Errors", JASA
    59, 1964). The average has longer tails; it is given as the t that agrees with it in its 68 % and its 95 % interval. Where the values
    are few and alike, the interval becomes very wide: they do not say more.

    Raises ValueError for no values and for those that are not finite.
    """
    values = np.asarray(series, dtype=float)
    _sample(values)
    n, mean_ = len(values), float(values.mean())
    if n < 2:
        return Level(mean_, math.inf, 1.0, n, 1.0)
    if np.ptp(values) <= abs(mean_) * 1e-12:
        return Level(mean_, 0.0, n - 1.0, n, float(n))
    spectra, inflations, prior = _models(n)
    terms = spectra.shape[1]
    power = _cosines(values)[:terms] ** 2
    fit = (power / spectra).sum(axis=1)
    weight = np.log(prior) - np.log(spectra).sum(axis=1) / 2 - terms / 2 * np.log(fit)
    weight = np.exp(weight - weight.max())
    scales = np.sqrt(inflations / n * fit / terms)
    inner, outer = (_mixture_quantile(p, terms, scales, weight / weight.sum()) for p in (_INNER, (1 + CONFIDENCE) / 2))
    dfs, ratios = _t_shapes()
    # Two digits of it are plenty.
    df = min(float(f"{np.exp(np.interp(-outer / inner, -ratios, np.log(dfs))):.2g}"), float(terms))
    se = outer / t_quantile((1 + CONFIDENCE) / 2, df)
    return Level(mean_, se, df, n, min(float(n), float(values.var(ddof=1)) / se**2))


def pooled(levels: Sequence[Level]) -> Level:
    """The mean of the means of several series, each from a process of its own; of one, that one."""
    if len(levels) == 1:
        return levels[0]
    count = len(levels)
    variance, df = _sum_of([((one.se / count) ** 2, one.df) for one in levels])
    value = mean([one.value for one in levels])
    return Level(value, math.sqrt(variance), df, sum(one.n for one in levels), sum(one.worth for one in levels))


def autocorrelation(series: Sequence[float], lag: int = 1) -> float | None:
    """The correlation of the values with those `lag` later; None where there are too few or all are equal."""
    values = np.asarray(series, dtype=float)
    away = values - values.mean()
    total = (away**2).sum()
    return float((away[lag:] * away[:-lag]).sum() / total) if len(values) > lag + 1 and total > 0 else None


def _cosines(values: np.ndarray) -> np.ndarray:
    """The cosine transform (DCT-II, orthonormal) without its first term, the mean: the squares add up to those of the deviations."""
    n = len(values)
    mirrored = np.concatenate([values, values[::-1]]) - values.mean()
    turned = np.fft.rfft(mirrored)[:n] * np.exp(-0.5j * np.pi * np.arange(n) / n)
    return turned.real[1:] / math.sqrt(2 * n)


@cache
def _models(n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """For each model of n values of variance 1: its spectrum at the cosines that count, n times the variance of the mean, and its prior
    weight."""
    angles = np.pi * np.arange(1, min(n, _SLOWEST + 1)) / n
    spectra, inflations = [np.ones(len(angles))], [1.0]
    for phi in _PHI:
        spectrum = (1 - phi**2) / (1 + phi**2 - 2 * phi * np.cos(angles))
        inflation = (1 + phi) / (1 - phi) - 2 * phi * (1 - phi**n) / (n * (1 - phi) ** 2)
        spectra += [share + (1 - share) * spectrum for share in _SHARE]
        inflations += [share + (1 - share) * inflation for share in _SHARE]
    prior = np.full(len(spectra), (1 - _INDEPENDENT) / (len(spectra) - 1))
    prior[0] = _INDEPENDENT
    return np.array(spectra), np.array(inflations), prior


# Ratios of two series


def ratio(above: Level, below: Level, confidence: float = CONFIDENCE) -> Estimate:
    """above / below of two independent series of positive values, and its interval; without one where either is a single value.

    What changes from one process to the next is not in it; `over` has it.
    """
    _check_positive(above, below)
    if min(above.n, below.n) < 2:
        return Estimate(above.value / below.value)
    return _around(math.log(above.value / below.value), *_sum_of([_relative(above), _relative(below)]), confidence)


def _relative(one: Level) -> tuple[float, float]:
    """The variance of the logarithm of a mean, with its degrees of freedom."""
    return (one.se / one.value) ** 2, one.df


def _sum_of(variances: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The sum of estimated variances and its degrees of freedom (Welch 1947, Satterthwaite 1946)."""
    total = sum(variance for variance, _ in variances)
    if not math.isfinite(total):
        return total, 1.0
    crossed = sum(variance**2 / df for variance, df in variances)
    return total, max(1.0, total**2 / crossed) if crossed > 0 else math.inf


def _around(log_ratio: float, variance: float, df: float, confidence: float) -> Estimate:
    half = t_quantile((1 + confidence) / 2, df) * math.sqrt(variance)
    return Estimate(math.exp(log_ratio), math.exp(log_ratio - half), math.exp(log_ratio + half))


def _check_positive(*levels: Level) -> None:
    if min(one.value for one in levels) <= 0:
        raise ValueError("a ratio of means needs positive values")


# Runs: several processes that measured the same


@dataclass(frozen=True)
class Run:
    """A process that measured something: its typical speed, and what its replies say of it.

    `value` is the median of the replies' rates, `se` the standard error of its logarithm from the replies alone, known with `df` degrees of
    freedom (infinite and 1 for a single reply). `scatter`: how far a reply is from the next, as a share. `disturbed`: the machine was not
    quiet, so that the run counts less.
    """

    value: float
    se: float
    df: float
    n: int
    slowest: float
    fastest: float
    scatter: float
    disturbed: bool = False


# The mean of the middle half of a series has the standard error of the series with its outer quarters drawn in to the quartiles, times 2
# (J. W. Tukey and D. H. McLaughlin, "Less Vulnerable Confidence and Significance Procedures", Sankhya A 25, 1963). The median's is about a
# twelfth larger in a normal sample.
_TRIMMED = 0.25
_MEDIAN_OVER_TRIMMED = 1.08
# The middle half of normal values is as wide as so many standard deviations.
_QUARTILES = 1.349
# A disturbed run counts as a quarter of a quiet one: as if its noise had twice the deviation.
DISTURBED_SHARE = 0.25
# A run that is further from the middle of its cell's runs than this many deviations pulls no more than one that is just so far
# (P. J. Huber, "Robust Estimation of a Location Parameter", Annals of Mathematical Statistics 35, 1964).
_PULLS = 1.5
# However many runs of other cells there are, a cell's own noise is its own: they count as at most so many degrees of freedom.
_MOST_SHARED_DF = 12.0


def run(rates: Sequence[float], disturbed: bool = False) -> Run:
    """A run from the rates of its replies, in their order. Raises ValueError where one is not a positive finite number."""
    values = np.asarray(rates, dtype=float)
    sample = _sample(values)
    if sample[0] <= 0:
        raise ValueError("a speed is a positive number")
    middle, (low, high) = float(np.median(sample)), np.quantile(sample, [0.25, 0.75])
    scatter = float(high - low) / _QUARTILES / middle
    ends = {"slowest": float(sample[0]), "fastest": float(sample[-1]), "scatter": scatter, "disturbed": disturbed}
    if len(values) < 2:
        return Run(middle, math.inf, 1.0, 1, **ends)
    outer = int(len(values) * _TRIMMED)
    drawn_in = level(np.clip(values, sample[outer], sample[-1 - outer]))
    se = drawn_in.se / (1 - 2 * _TRIMMED) * _MEDIAN_OVER_TRIMMED / middle
    return Run(middle, se, drawn_in.df, len(values), **ends)


@dataclass(frozen=True)
class Prior:
    """What is known of the noise between runs before a cell ran twice: the standard deviation of the logarithm of a run's speed, as if from
    `df` degrees of freedom; `runs` is how many runs that rests on. `usual` is that of such cells everywhere, without those of the study."""

    sd: float
    df: float
    runs: int = 0
    usual: float | None = None

    @property
    def usual_sd(self) -> float:
        return self.sd if self.usual is None else self.usual


@dataclass(frozen=True)
class Speed:
    """The speed of a cell over all its runs, and how sure it is.

    `value`: the geometric mean of the runs' speeds, in which a disturbed run and one far from the others count less. `noise`: the standard
    deviation of a single run's logarithm from one process to the next, known with `df` degrees of freedom from `known_from` runs, those of
    the prior among them. `below` and `above`: variances of the logarithm of `value` with their degrees of freedom, for the lower and the
    upper end of its interval.
    """

    value: float
    noise: float
    df: float
    known_from: int
    runs: int
    below: tuple[tuple[float, float], ...]
    above: tuple[tuple[float, float], ...]
    slowest: float
    fastest: float
    usual: float = math.inf  # the noise of such cells everywhere

    @property
    def known(self) -> bool:
        """Whether it has an interval: single replies have none."""
        return all(math.isfinite(variance) for variance, _ in self.below)

    def interval(self, confidence: float = CONFIDENCE) -> Estimate:
        """The speed and its interval, never beyond the slowest and the fastest reply that was seen."""
        if not self.known:
            return Estimate(self.value)
        low, high = (self.value * math.exp(sign * _half(side, confidence)) for sign, side in ((-1, self.below), (1, self.above)))
        return Estimate(self.value, max(low, self.slowest), min(high, self.fastest))


def speed(runs: Sequence[Run], prior: Prior) -> Speed:
    """The speed of a cell from its runs; `prior` is what is known of the noise of such cells besides (see Prior, with_shown).

    The variance between runs is moderated: that of these runs is drawn towards the prior's, (d0 s0² + d s²) / (d0 + d) with d0 + d degrees
    of freedom (G. K. Smyth, "Linear Models and Empirical Bayes Methods for Assessing Differential Expression in Microarray Experiments",
    Statistical Applications in Genetics and Molecular Biology 3, 2004, section 3). So one run has an interval, and two that happen to agree
    do not make a noisy machine a quiet one. What its replies leave open of each run comes on top.
    """
    if not runs:
        raise ValueError("a speed needs a run")
    centre, shown, weights = _centre(runs, prior.sd)
    own = len(runs) - 1
    df = prior.df + own
    between = (prior.df * prior.sd**2 + own * shown) / df
    shares = weights / weights.sum()
    spent = between * float(sum(share**2 / _counts(one) for share, one in zip(shares, runs, strict=True)))
    sides, normal = [[(spent, df)], [(spent, df)]], t_quantile((1 + CONFIDENCE) / 2, math.inf)
    for share, one in zip(shares, runs, strict=True):
        for side, furthest in zip(sides, (one.slowest, one.fastest), strict=True):
            # What is typical of a run lies among its replies, however little these few say of how they wander.
            most = abs(math.log(furthest / one.value)) if furthest > 0 else math.inf
            bounded = math.isfinite(one.se) and most < one.se * t_quantile((1 + CONFIDENCE) / 2, one.df)
            side.append(((share * most / normal) ** 2, math.inf) if bounded else ((share * one.se) ** 2, one.df))
    slowest, fastest = min(one.slowest for one in runs), max(one.fastest for one in runs)
    return Speed(
        min(max(math.exp(centre), slowest), fastest),
        math.sqrt(between),
        df,
        prior.runs + (len(runs) if own else 0),
        len(runs),
        tuple(sides[0]),
        tuple(sides[1]),
        slowest,
        fastest,
        prior.usual_sd,
    )


def shown(runs: Sequence[Run], prior: Prior) -> tuple[int, float]:
    """What the runs of a cell say of the noise between runs: degrees of freedom, and the variance times these."""
    df = len(runs) - 1
    return df, df * _centre(runs, prior.sd)[1]


def with_shown(prior: Prior, df: int, squares: float, runs: int = 0) -> Prior:
    """The prior of a kind of cells with what other cells of that kind have shown in this study: the sums of `shown` over them."""
    total = prior.df + df
    return Prior(
        math.sqrt((prior.df * prior.sd**2 + squares) / total), min(total, max(_MOST_SHARED_DF, prior.df)), prior.runs + runs, prior.usual_sd
    )


def fitted(cells: Sequence[tuple[int, float]], df: float) -> Prior:
    """The prior that recorded cells give, from the number of runs of each and the standard deviation of the logarithms of their speeds.

    The most likely one, where a cell's variance is the prior's times a draw of F with the cell's and the prior's degrees of freedom (Smyth
    2004, section 6.2). How much cells differ, `df`, is given: fewer than a dozen cells say little of it. Raises ValueError for no cells.
    """
    cells = [(runs, sd) for runs, sd in cells if runs > 1 and sd > 0]
    if not cells:
        raise ValueError("no cell ran twice")
    sds = np.geomspace(min(sd for _, sd in cells) / 10, max(sd for _, sd in cells) * 10, 20_000)
    likely = np.zeros(len(sds))
    for runs, sd in cells:
        over_prior = (sd / sds) ** 2
        likely += (runs - 1) / 2 * np.log(over_prior) - (runs - 1 + df) / 2 * np.log1p((runs - 1) * over_prior / df)
    return Prior(float(sds[likely.argmax()]), df, sum(runs for runs, _ in cells))


def _centre(runs: Sequence[Run], least_sd: float) -> tuple[float, float, np.ndarray]:
    """The logarithm of the runs' common speed, the variance of a run's, and the weights of the runs.

    Huber's estimate: within 1.5 deviations it is the weighted mean. The deviation is that of the runs' median absolute deviation, and at
    least `least_sd`: no run counts less for noise that every machine has.
    """
    logs, counts = np.log([one.value for one in runs]), np.array([_counts(one) for one in runs])
    if len(runs) == 1:
        return float(logs[0]), 0.0, counts
    middle = float(np.median(logs))
    sd = max(least_sd, 1.4826 * float(np.median(np.abs(logs - middle))))
    weights = counts
    for _ in range(20):
        away = logs - middle
        weights = counts * np.minimum(1, _PULLS * sd / np.maximum(np.abs(away), 1e-12))
        middle = float((weights * logs).sum() / weights.sum())
    away = np.clip(logs - middle, -_PULLS * sd, _PULLS * sd)
    shown = float((counts * away**2).sum() / counts.mean() / (len(runs) - 1))
    return middle, shown, weights


def _counts(one: Run) -> float:
    return DISTURBED_SHARE if one.disturbed else 1.0


def _half(variances: Sequence[tuple[float, float]], confidence: float = CONFIDENCE) -> float:
    """Half of an interval on one side, from independent variances with their degrees of freedom."""
    variance, df = _sum_of(variances)
    return t_quantile((1 + confidence) / 2, df) * math.sqrt(variance)


# Ratios and verdicts


def over(above: Speed, below: Speed, confidence: float = CONFIDENCE) -> Estimate:
    """How many times as fast `above` is as `below`, and its interval, in which the noise between runs is; no interval where either is of
    single replies.

    The ratio is that of the two values. Each end of the interval takes from each side the variance that points there (A. Donner and G. Y.
    Zou, "Closed-Form Confidence Intervals for Functions of the Normal Mean and Standard Deviation", Statistical Methods in Medical Research
    21, 2012), with Welch's degrees of freedom. No end is further out than the slowest reply of one over the fastest of the other, and from
    there what such cells usually differ by from one process to the next, of which the replies of one say nothing.
    """
    value = above.value / below.value
    if not (above.known and below.known):
        return Estimate(value)
    low = value * math.exp(-_half(_beside(above.below, below.above), confidence))
    high = value * math.exp(_half(_beside(above.above, below.below), confidence))
    usual = math.exp(t_quantile((1 + confidence) / 2, min(above.df, below.df)) * math.hypot(above.usual, below.usual))
    least, most = above.slowest / below.fastest / usual, above.fastest * usual / below.slowest if below.slowest else math.inf
    return Estimate(value, max(low, least), min(high, most))


def _beside(one: Sequence[tuple[float, float]], other: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The variances of two speeds together. What is known of the noise between runs is, for the most part, known of both at once, so that
    two such variances have the degrees of freedom of one."""
    (a, df_a), (b, df_b) = one[0], other[0]
    return [(a + b, (a + b) / (a / df_a + b / df_b) if a + b > 0 else min(df_a, df_b)), *one[1:], *other[1:]]


def verdict(ratio: Estimate, negligible: float = NEGLIGIBLE) -> Verdict:
    """What a ratio of speeds comes to.

    `faster` or `slower`: its interval is on one side of 1, and it is further from 1 than `negligible`, a share that matters to nobody.
    `same`: it is no further from 1 than CLOSE, and differences of more than NOT_FAR are ruled out. Else `unsure`: these runs cannot say.
    """
    if ratio.low is None or ratio.high is None:
        return "unsure"
    away, reach = abs(math.log(ratio.value)), max(ratio.high, 1 / ratio.low)
    if away > math.log1p(negligible) and not ratio.low <= 1 <= ratio.high:
        return "faster" if ratio.value > 1 else "slower"
    return "same" if away <= math.log1p(max(CLOSE, negligible)) and reach <= 1 + NOT_FAR else "unsure"


def surely_faster(one: Speed, other: Speed) -> bool:
    return verdict(over(one, other)) == "faster"


def leaders(speeds: Sequence[Speed]) -> list[Verdict]:
    """For each speed what can be said of it against the fastest: `same` for the fastest itself and what is really close to it, `unsure` for
    what may be as fast, `slower` for what is not the fastest: a speed that any other surely beats."""
    first = max(range(len(speeds)), key=lambda index: speeds[index].value)
    found: list[Verdict] = []
    for index, one in enumerate(speeds):
        beaten = any(surely_faster(other, one) for other in speeds if other is not one)
        against = verdict(over(one, speeds[first])) if index != first else "same"
        found.append("slower" if beaten and index != first else against)
    return found


def further_runs(above: Speed, below: Speed, most: int = 20) -> int | None:
    """How many further runs of each would decide between two speeds that keep their ratio and noise; None for more than `most`."""
    away = abs(math.log(above.value / below.value))
    for more in range(1, most + 1):
        sides = []
        for one in (above, below):
            shrink = one.runs / (one.runs + more)
            (between, _), *within = one.above
            sides.append([(between * shrink, one.df + more), *((variance * shrink, max(df, 2.0)) for variance, df in within)])
        half = _half(_beside(*sides))
        if half < away or (away <= math.log1p(CLOSE) and away + half <= math.log1p(NOT_FAR)):
            return more
    return None


def drift(runs: Sequence[Run], at: Sequence[float]) -> Estimate | None:
    """By what share the runs of one thing got faster from the first to the last (slower: negative), a straight line through them.

    None for fewer than two runs, or where all ran at one time; without an interval for two. The interval is that of least squares, a t of
    K - 2 degrees of freedom.
    """
    times = np.asarray(at, dtype=float)
    if len(runs) < 2 or np.ptp(times) == 0:
        return None
    logs, span = np.log([run.value for run in runs]), np.ptp(times)
    away = (times - times.mean()) / span
    slope = float((away * logs).sum() / (away**2).sum())
    if len(runs) == 2:
        return Estimate(math.expm1(slope))
    left = logs - logs.mean() - slope * away
    se = math.sqrt((left**2).sum() / (len(runs) - 2) / (away**2).sum())
    half = t_quantile((1 + CONFIDENCE) / 2, len(runs) - 2) * se
    return Estimate(math.expm1(slope), math.expm1(slope - half), math.expm1(slope + half))


# When to stop


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


# Student's t


@lru_cache(maxsize=1024)
def t_quantile(probability: float, df: float) -> float:
    """The quantile of Student's t; `probability` from 0.5 to under 1, `df` of 1 or more, infinite for the normal distribution."""
    if df > 1e6:
        return NormalDist().inv_cdf(probability)
    return _quantile(probability, df, np.ones(1), np.ones(1), lambda t: _t_cdf(t, df))


def _mixture_quantile(probability: float, df: float, scales: np.ndarray, weights: np.ndarray) -> float:
    """The quantile of a mixture of t distributions around 0."""
    grid, values = _t_table(df)
    return _quantile(probability, df, scales, weights, lambda t: np.interp(t, grid, values))


def _quantile(probability: float, df: float, scales: np.ndarray, weights: np.ndarray, cdf: Callable[[np.ndarray], np.ndarray]) -> float:
    """Over 0 the distribution function is concave, so that Newton's steps approach the quantile from below and cannot pass it."""
    constant = math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2)) / math.sqrt(df * math.pi)
    at = 0.0
    for _ in range(200):
        t = at / scales
        density = float((weights * constant * (1 + t**2 / df) ** (-(df + 1) / 2) / scales).sum())
        step = (probability - float((weights * cdf(t)).sum())) / density
        at += step
        if step <= 1e-10 * at:
            break
    return at


@lru_cache(maxsize=64)
def _t_table(df: float) -> tuple[np.ndarray, np.ndarray]:
    """The distribution function of Student's t at points so close that straight lines between them are right to six digits."""
    grid = np.sinh(np.linspace(0, 12, 4096))
    return grid, _t_cdf(grid, df)


def _t_cdf(t: np.ndarray, df: float) -> np.ndarray:
    """The distribution function of Student's t at t >= 0, by the incomplete beta function."""
    a, b = df / 2, 0.5
    x = df / (df + t**2)
    swapped = x > (a + 1) / (a + b + 2)  # where the continued fraction converges slowly, that of the complement does not
    p, q, y = np.where(swapped, b, a), np.where(swapped, a, b), np.where(swapped, t**2 / (df + t**2), x)
    with np.errstate(divide="ignore"):
        front = np.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + p * np.log(y) + q * np.log1p(-y)) / p
    part = front * _continued_fraction(p, q, y)
    return 1 - np.where(swapped, 1 - part, part) / 2


def _continued_fraction(a: np.ndarray, b: np.ndarray, x: np.ndarray) -> np.ndarray:
    """That of the incomplete beta function (NIST Handbook of Mathematical Functions, 8.17.22), by Lentz's method."""
    c, d = np.ones_like(x), 1 / (1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, 500):
        for term in (m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)), -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))):
            d = 1 / (1 + term * d)
            c = 1 + term / c
            value = value * d * c
        if np.all(np.abs(d * c - 1) < 1e-14):
            break
    return value


_INNER = NormalDist().cdf(1)


@cache
def _t_shapes() -> tuple[np.ndarray, np.ndarray]:
    """Degrees of freedom, and for each how much wider the 95 % interval is than the 68 % one."""
    dfs = np.geomspace(1, 1e5, 40)
    return dfs, np.array([t_quantile((1 + CONFIDENCE) / 2, df) / t_quantile(_INNER, df) for df in dfs])
