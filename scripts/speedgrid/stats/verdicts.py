"""Comparing speeds: their ratio with its interval, and what it comes to. One test everywhere (docs/verdicts.md)."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from speedgrid.stats.samples import CONFIDENCE, Estimate
from speedgrid.stats.speeds import Speed, half_interval
from speedgrid.stats.student import t_quantile

# A difference of so little matters to nobody, however sure it is.
NEGLIGIBLE = 0.01
# What is called the same is at most so far apart, with differences of a quarter ruled out.
CLOSE = 0.05
NOT_FAR = 0.25
# Who looks again after further runs, until something is decided, has more chances to be wrong than who looks once. With intervals of 95 %
# at each look `runs: auto` called equals different in 11 % of simulated pairs. With intervals of this level it does so in 4 %, and 96 % of
# its intervals hold at the end, however often it looked (tests/benchmarks/verdicts.py): so the page calls them 95 % intervals, as those of
# runs whose number is fixed. It is one level for every look, the first included: one that rose with the looks would take back what was
# decided, by runs of other cells.
AGAIN = 0.985
# What shares a GPU leaves at least half of it, as the driver gives out the time. What it took of two cells beside which it was seen, and
# nobody knows how much it did, they lost alike or one of them lost up to so many times as much as the other.
SHARED = 2.0

Verdict = Literal["faster", "slower", "same", "unsure"]


def confidence(looks_again: bool) -> float:
    """The level of intervals of speeds. `looks_again`: whether what they come to decides if there are further runs, after which they are
    made anew."""
    return AGAIN if looks_again else CONFIDENCE


def over(above: Speed, below: Speed) -> Estimate:
    """How many times as fast `above` is as `below`, and its interval, in which the noise between runs is; no interval where either is of
    single replies.

    The ratio is that of the two values. Each end of the interval takes from each side the variance that points there (A. Donner and G. Y.
    Zou, "Closed-Form Confidence Intervals for Functions of the Normal Mean and Standard Deviation", Statistical Methods in Medical Research
    21, 2012), with Welch's degrees of freedom. No end is further out than the slowest reply of one over the fastest of the other, and from
    there what such cells usually differ by from one process to the next, or have shown in this study, of which the replies of one say
    nothing.

    Where all runs of one side were disturbed, what this side may have lost by that, beyond what the other lost, moves the one end that it
    hides: a baseline that was measured on a busy machine may be much faster than it seems, and is not slower. An end that this moves far,
    to where it rules out nothing, is None.

    Its level is the higher one of the two, where one was looked at once and the other again and again.
    """
    ratio, level = above.value / below.value, _level(above, below)
    low, high = _at_least(above, below, level), _at_least(below, above, level)
    hidden = low.is_hidden or high.is_hidden
    if not (above.known and below.known):
        return Estimate(ratio, hidden=hidden)
    return Estimate(
        ratio, None if low.is_hidden else low.ratio, None if high.is_hidden else 1 / high.ratio if high.ratio else math.inf, hidden
    )


def _level(one: Speed, other: Speed) -> float:
    return max(one.confidence, other.confidence)


class _End(NamedTuple):
    """By how much one speed is ahead of another at least; `is_hidden` where what the other may have lost leaves nothing of that."""

    ratio: float
    is_hidden: bool


def _at_least(fast: Speed, slow: Speed, level: float) -> _End:
    ratio, lost, far = fast.value / slow.value, _hidden(slow, fast), math.log1p(NOT_FAR)
    low = _without_disturbance(fast, slow, level) if fast.known and slow.known else ratio
    if lost.guessed:
        low = ratio * math.exp(-math.hypot(math.log(ratio / low) if low else math.inf, lost.guessed))
    low *= math.exp(-lost.most)
    return _End(low, lost.most > far and low <= 1 and not _is_shown(slow, fast))


class _Hidden(NamedTuple):
    """By how much one speed may be faster against another than they were seen to be, as logarithms: what it lost to disturbance at `most`,
    without what the other lost like it; and what is `guessed` of that where nothing bounds it, which is a part of the noise."""

    most: float = 0.0
    guessed: float = 0.0


def _hidden(one: Speed, other: Speed) -> _Hidden:
    if _is_shown(one, other):
        return _Hidden(one.lost)
    if not other.quiet and math.isinf(other.spared):
        # Of the other it is not known whether it lost anything, or, of both, which of them lost more.
        return _Hidden(guessed=math.log(SHARED)) if not one.quiet and math.isinf(one.spared) else _Hidden(one.lost)
    if math.isinf(one.lost):
        return _Hidden(one.lost)
    return _Hidden(max(0.0, one.lost - (other.lost if other.quiet else other.spared), one.waited - other.waited))


def _is_shown(one: Speed, other: Speed) -> bool:
    """Whether what `one` lost is what its own quiet runs show, held against a cell that has none and may have lost nothing."""
    return one.quiet and not other.quiet


def _without_disturbance(fast: Speed, slow: Speed, level: float) -> float:
    """How many times as fast one is as the other at least, by noise alone."""
    one, other = _counted(fast, slow)
    low = fast.value / slow.value * math.exp(-half_interval(_beside(one.below, other.above), level))
    usual = math.exp(t_quantile((1 + level) / 2, min(one.df, other.df)) * math.hypot(one.usual, other.usual))
    return max(low, one.slowest / other.fastest / usual)


def _counted(fast: Speed, slow: Speed) -> tuple[Speed, Speed]:
    """Two speeds as they count for how much the first is ahead at least. Disturbance slows and never speeds up, so that what is ahead of
    quiet runs although it was disturbed is so by the noise of quiet ones."""
    return ((fast.calm or fast) if slow.quiet else fast), slow


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
    """What can be said of `one` against `other`."""
    return verdict(over(one, other), negligible)


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


class Price(NamedTuple):
    """What would decide between two speeds: so many further runs of each, None for more than were asked about; where `quiet`, on a quiet
    machine."""

    runs: int | None
    quiet: bool = False


def further_runs(one: Speed, other: Speed, most: int = 20, then: float | None = None) -> Price:
    """How many further runs of each would decide between two speeds that keep their ratio and noise. `then` is the level of the interval
    after these, where that is another one than before.

    As in `over`, each end of the interval of their ratio takes from each speed the variance that points there. So replies that stalled
    now and then, which leave open how slow the faster one is, cost runs. What disturbance hides stays hidden in runs that are disturbed
    like those that there are: where fewer would do on a quiet machine, it takes these.
    """
    faster, slower = sorted((one, other), key=lambda speed: speed.value, reverse=True)
    hidden = _hidden(slower, faster), _hidden(faster, slower)
    # Of the speeds that are shown, as in `over`: those that count for an end of the interval may have other values.
    away, had = math.log(faster.value / slower.value), (faster.runs, slower.runs)
    level = _level(one, other) if then is None else then
    as_they_are = _needed(away, _counted(faster, slower), _counted(slower, faster)[::-1], had, hidden, level, most)
    if hidden == (_Hidden(), _Hidden()):
        return Price(as_they_are)
    # Beside quiet runs those that were disturbed hardly count.
    calm, had = (faster.calm or faster, slower.calm or slower), (had[0] * faster.quiet, had[1] * slower.quiet)
    on_quiet = _needed(away, calm, calm, had, (_Hidden(), _Hidden()), level, most)
    if on_quiet is not None and (as_they_are is None or on_quiet < as_they_are):
        return Price(on_quiet, True)
    return Price(as_they_are)


def _needed(
    away: float,
    near: tuple[Speed, Speed],
    far: tuple[Speed, Speed],
    had: tuple[int, int],
    hidden: tuple[_Hidden, _Hidden],
    level: float,
    most: int,
) -> int | None:
    """How many further runs of each of two speeds decide between them. `away` is the logarithm of their ratio, `near` are the faster and
    the slower one as they count for the end of their interval that is nearer to 1, `far` for the other end; `had` are the runs that they
    had so far and that go on counting, `hidden` is what disturbance hides of each end, and `level` that of the interval."""
    for more in range(1, most + 1):
        ends = ((near[0], near[0].below), (near[1], near[1].above)), ((far[0], far[0].above), (far[1], far[1].below))
        towards, beyond = (
            _reach(_beside(*(_with_further(*side, runs, more) for side, runs in zip(sides, had, strict=True))), of_end, level)
            for sides, of_end in zip(ends, hidden, strict=True)
        )
        is_ahead = towards < away and away > math.log1p(NEGLIGIBLE)
        far_apart = max(away + beyond, towards - away)
        if is_ahead or (away <= math.log1p(CLOSE) and far_apart <= math.log1p(NOT_FAR)):
            return more
    return None


def _reach(variances: Sequence[tuple[float, float]], hidden: _Hidden, level: float) -> float:
    return math.hypot(half_interval(variances, level), hidden.guessed) + hidden.most


def _with_further(speed: Speed, side: Sequence[tuple[float, float]], had: int, more: int) -> list[tuple[float, float]]:
    """The variances of one side of a speed after so many more runs like those that it has, of which `had` go on counting."""
    shrink = speed.runs / (had + more)
    (between_runs, df), *within = side
    return [(between_runs * shrink, df + more), *((variance * shrink, max(own, 2.0)) for variance, own in within)]
