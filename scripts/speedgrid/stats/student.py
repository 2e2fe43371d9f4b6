"""Student's t with NumPy alone, which is what jobs have: quantiles, those of mixtures of t distributions, and sums of variances."""

import math
from collections.abc import Callable, Sequence
from functools import lru_cache
from statistics import NormalDist

import numpy as np


@lru_cache(maxsize=1024)
def t_quantile(probability: float, df: float) -> float:
    """The quantile of Student's t; `probability` from 0.5 to under 1, `df` of 1 or more, infinite for the normal distribution."""
    if df > 1e6:
        return NormalDist().inv_cdf(probability)
    # The same as `_quantile` of one t alone, on plain numbers: a large study asks for thousands, and arrays of one take ten times as long.
    constant, at = _density_at_0(df), 0.0
    for _ in range(200):
        step = (probability - _t_cdf_of_one(at, df)) / (constant * (1 + at**2 / df) ** (-(df + 1) / 2))
        at += step
        if step <= 1e-10 * at:
            break
    return at


def mixture_quantile(probability: float, df: float, scales: np.ndarray, weights: np.ndarray) -> float:
    """The quantile of a mixture of t distributions around 0."""
    grid, values = _t_table(df)
    return _quantile(probability, df, scales, weights, lambda t: np.interp(t, grid, values))


def _quantile(probability: float, df: float, scales: np.ndarray, weights: np.ndarray, cdf: Callable[[np.ndarray], np.ndarray]) -> float:
    """Over 0 the distribution function is concave, so that Newton's steps approach the quantile from below and cannot pass it."""
    constant, at = _density_at_0(df), 0.0
    for _ in range(200):
        t = at / scales
        density = float((weights * constant * (1 + t**2 / df) ** (-(df + 1) / 2) / scales).sum())
        step = (probability - float((weights * cdf(t)).sum())) / density
        at += step
        if step <= 1e-10 * at:
            break
    return at


def _density_at_0(df: float) -> float:
    return math.exp(math.lgamma((df + 1) / 2) - math.lgamma(df / 2)) / math.sqrt(df * math.pi)


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


def _t_cdf_of_one(t: float, df: float) -> float:
    """`_t_cdf` of a single number."""
    a, b, x, y = df / 2, 0.5, df / (df + t**2), t**2 / (df + t**2)
    if y == 0:
        return 0.5
    swapped = x > (a + 1) / (a + b + 2)
    p, q, x, y = (b, a, y, x) if swapped else (a, b, x, y)
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + p * math.log(x) + q * math.log(y)) / p
    c, d = 1.0, 1 / (1 - (p + q) * x / (p + 1))
    value = d
    for m in range(1, 500):
        for term in (m * (q - m) * x / ((p + 2 * m - 1) * (p + 2 * m)), -(p + m) * (p + q + m) * x / ((p + 2 * m) * (p + 2 * m + 1))):
            d = 1 / (1 + term * d)
            c = 1 + term / c
            value *= d * c
        if abs(d * c - 1) < 1e-14:
            break
    part = front * value
    return 1 - (1 - part if swapped else part) / 2


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


def sum_of_variances(variances: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The sum of estimated variances and its degrees of freedom (Welch 1947, Satterthwaite 1946)."""
    total = sum(variance for variance, _ in variances)
    if not math.isfinite(total):
        return total, 1.0
    crossed = sum(variance**2 / df for variance, df in variances)
    return total, max(1.0, total**2 / crossed) if crossed > 0 else math.inf
