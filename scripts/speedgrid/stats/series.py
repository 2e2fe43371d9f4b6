"""Series, which are the replies of one process in their order: their mean, and how sure it is although neighbours are alike."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from statistics import NormalDist

import numpy as np

from speedgrid.stats.samples import CONFIDENCE, Estimate, as_sample, mean
from speedgrid.stats.student import mixture_quantile, sum_of_variances, t_quantile


@dataclass(frozen=True)
class Level:
    """The mean of a series and how sure it is: (mean - true mean) / se is a t of `df` degrees of freedom.

    `effective_n` is the effective sample size: how many independent values would give as narrow an interval; `n` at most.
    """

    value: float
    se: float
    df: float
    n: int
    effective_n: float

    def interval(self, confidence: float = CONFIDENCE) -> Estimate:
        """The mean and its interval; without an interval for a single value, and for several series of which one is a single value."""
        if not math.isfinite(self.se):
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


def level(series: Sequence[float] | np.ndarray) -> Level:
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
    as_sample(values)
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
    inner, outer = (mixture_quantile(p, terms, scales, weight / weight.sum()) for p in (_INNER, (1 + CONFIDENCE) / 2))
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
    variance, df = sum_of_variances([((one.se / count) ** 2, one.df) for one in levels])
    value = mean([one.value for one in levels])
    return Level(value, math.sqrt(variance), df, sum(one.n for one in levels), sum(one.effective_n for one in levels))


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


_INNER = NormalDist().cdf(1)


@cache
def _t_shapes() -> tuple[np.ndarray, np.ndarray]:
    """Degrees of freedom, and for each how much wider the 95 % interval is than the 68 % one."""
    dfs = np.geomspace(1, 1e5, 40)
    return dfs, np.array([t_quantile((1 + CONFIDENCE) / 2, df) / t_quantile(_INNER, df) for df in dfs])
