"""Comparing speeds: their ratio with its interval, and what it comes to. One test everywhere (docs/verdicts.md)."""

import math
from collections.abc import Sequence
from typing import Literal

from speedgrid.stats.samples import CONFIDENCE, Estimate
from speedgrid.stats.speeds import Speed, half_interval
from speedgrid.stats.student import t_quantile

# A difference of so little matters to nobody, however sure it is.
NEGLIGIBLE = 0.01
# What is called the same is at most so far apart, with differences of a quarter ruled out.
CLOSE = 0.05
NOT_FAR = 0.25

Verdict = Literal["faster", "slower", "same", "unsure"]


def over(above: Speed, below: Speed, confidence: float = CONFIDENCE) -> Estimate:
    """How many times as fast `above` is as `below`, and its interval, in which the noise between runs is; no interval where either is of
    single replies.

    The ratio is that of the two values. Each end of the interval takes from each side the variance that points there (A. Donner and G. Y.
    Zou, "Closed-Form Confidence Intervals for Functions of the Normal Mean and Standard Deviation", Statistical Methods in Medical Research
    21, 2012), with Welch's degrees of freedom. No end is further out than the slowest reply of one over the fastest of the other, and from
    there what such cells usually differ by from one process to the next, of which the replies of one say nothing.

    Where all runs of one side were disturbed, those of both count alike, and what this side may have lost by that, beyond what the other
    lost, moves the one end that it hides: a baseline that was measured on a busy machine may be much faster than it seems, and is not
    slower. An end that this moves far, to where it rules out nothing, is None.
    """
    above, below = _on_par(above, below)
    ratio = _before_disturbance(above, below, confidence)
    if ratio.low is None or ratio.high is None:
        return ratio
    hidden = {"low": _hidden(below, above), "high": _hidden(above, below)}
    low, high = ratio.low * math.exp(-hidden["low"]), ratio.high * math.exp(hidden["high"])
    far = math.log1p(NOT_FAR)
    return Estimate(
        ratio.value,
        None if hidden["low"] > far and low <= 1 and not _is_shown(below, above) else low,
        None if hidden["high"] > far and high >= 1 and not _is_shown(above, below) else high,
    )


def _is_shown(one: Speed, other: Speed) -> bool:
    """Whether what `one` lost is what its own quiet runs show, held against a cell that has none and may have lost nothing."""
    return one.quiet and not other.quiet


def _hidden(one: Speed, other: Speed) -> float:
    """By how much `one` may be faster against `other` than they were seen to be, as a logarithm: what it lost to disturbance at most,
    without what the other lost like it."""
    if _is_shown(one, other):
        return one.lost
    if math.isfinite(other.lost):
        return max(0.0, one.lost - (other.lost if other.quiet else other.spared))
    # Where nothing bounds what both lost they are as disturbed as each other, such as by the same program on the same GPU.
    return one.lost if other.quiet else 0.0


def _before_disturbance(above: Speed, below: Speed, confidence: float = CONFIDENCE) -> Estimate:
    """The ratio of two speeds, and its interval by noise alone."""
    value = above.value / below.value
    if not (above.known and below.known):
        return Estimate(value)
    low = value * math.exp(-half_interval(_beside(above.below, below.above), confidence))
    high = value * math.exp(half_interval(_beside(above.above, below.below), confidence))
    usual = math.exp(t_quantile((1 + confidence) / 2, min(above.df, below.df)) * math.hypot(above.usual, below.usual))
    least, most = above.slowest / below.fastest / usual, above.fastest * usual / below.slowest if below.slowest else math.inf
    return Estimate(value, max(low, least), min(high, most))


def _on_par(one: Speed, other: Speed) -> tuple[Speed, Speed]:
    """Two speeds as they are held against each other: disturbance slows and never speeds up, so that quiet runs of one may not count for
    more than the disturbed ones of the other."""
    return (one, other) if one.quiet and other.quiet else (one.alike or one, other.alike or other)


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
    if ratio.low is None and ratio.high is None:
        return "unsure"
    low, high = ratio.low or 0.0, math.inf if ratio.high is None else ratio.high
    away, reach = abs(math.log(ratio.value)), max(high, 1 / low if low else math.inf)
    if away > math.log1p(negligible) and not low <= 1 <= high:
        return "faster" if ratio.value > 1 else "slower"
    return "same" if away <= math.log1p(max(CLOSE, negligible)) and reach <= 1 + NOT_FAR else "unsure"


def between(one: Speed, other: Speed, negligible: float = NEGLIGIBLE) -> Verdict:
    """What can be said of `one` against `other`. `unsure`, too, where one is ahead by the figures that are shown and the other where all
    runs count alike."""
    said = verdict(over(one, other), negligible)
    contrary = (said == "faster" and one.value < other.value) or (said == "slower" and one.value > other.value)
    return "unsure" if contrary else said


def leaders(speeds: Sequence[Speed]) -> list[Verdict]:
    """For each speed what can be said of it against the fastest: `same` for the fastest itself and what is really close to it, `unsure` for
    what may be as fast, `slower` for what is not the fastest: a speed that any other surely beats."""
    first = max(range(len(speeds)), key=lambda index: speeds[index].value)
    found: list[Verdict] = []
    for index, one in enumerate(speeds):
        beaten = any(between(other, one) == "faster" for other in speeds if other is not one)
        against = between(one, speeds[first]) if index != first else "same"
        found.append("slower" if beaten and index != first else against)
    return found


def further_runs(one: Speed, other: Speed, most: int = 20) -> int | None:
    """How many further runs of each would decide between two speeds that keep their ratio and noise; None for more than `most`.

    As in `over`, each end of the interval of their ratio takes from each speed the variance that points there. So replies that stalled
    now and then, which leave open how slow the faster one is, cost runs.

    Where disturbance alone leaves it open, one run on a quiet machine, of what was disturbed, tells more than any calculation.
    """
    faster, slower = sorted(_on_par(one, other), key=lambda speed: speed.value, reverse=True)
    if _hidden(slower, faster) and verdict(_before_disturbance(faster, slower)) != "unsure":
        return 1
    away = math.log(faster.value / slower.value)
    for more in range(1, most + 1):
        towards, beyond = (
            half_interval(_beside(_with_further(near, faster.runs, more), _with_further(far, slower.runs, more)))
            for near, far in ((faster.below, slower.above), (faster.above, slower.below))
        )
        is_ahead = towards < away and away > math.log1p(NEGLIGIBLE)
        far_apart = max(away + beyond, towards - away)
        if is_ahead or (away <= math.log1p(CLOSE) and far_apart <= math.log1p(NOT_FAR)):
            return more
    return None


def _with_further(side: Sequence[tuple[float, float]], runs: int, more: int) -> list[tuple[float, float]]:
    """The variances of one side of a speed of `runs` runs after so many more like them."""
    shrink = runs / (runs + more)
    (between_runs, df), *within = side
    return [(between_runs * shrink, df + more), *((variance * shrink, max(own, 2.0)) for variance, own in within)]
