"""Runs, which are processes that measured the same: the speed of a cell over all of its runs, and the noise between them."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np

from speedgrid.stats.samples import CONFIDENCE, Estimate, as_sample
from speedgrid.stats.series import level
from speedgrid.stats.student import sum_of_variances, t_quantile


@dataclass(frozen=True)
class Run:
    """A process that measured something: its typical speed, and what its replies say of it.

    `value` is the median of the replies' rates, `se` the standard error of its logarithm from the replies alone, known with `df` degrees of
    freedom (infinite and 1 for a single reply). `scatter`: how far a reply is from the next, as a share. `disturbed`: it counts as a run
    of a machine that was not quiet. `lost`: the logarithm of the factor by which disturbance slowed it at most, 0 on a quiet machine;
    `alike`: what of that others on the same busy machine lost, too, at most; `waited`: what of it the run itself shows. `first`: the share
    of its time that passed before the first token of a reply, `first_waits`: by how much that waited for the processor, from 0 to 1;
    `scatter` is that of what follows, then. `idle`: by how much a device that sets the pace of others waited for the processor all in all,
    from 0 to 1.
    """

    value: float
    se: float
    df: float
    n: int
    slowest: float
    fastest: float
    scatter: float
    disturbed: bool = False
    lost: float = 0.0
    alike: float = math.inf
    waited: float = 0.0
    first: float = 0.0
    first_waits: float = 0.0
    idle: float = 0.0


# The mean of the middle half of a series has the standard error of the series with its outer quarters drawn in to the quartiles, times 2
# (J. W. Tukey and D. H. McLaughlin, "Less Vulnerable Confidence and Significance Procedures", Sankhya A 25, 1963). The median's is about a
# twelfth larger in a normal sample.
_TRIMMED = 0.25
_MEDIAN_OVER_TRIMMED = 1.08
# The middle half of normal values is as wide as so many standard deviations.
_QUARTILES = 1.349
# A disturbed run counts as a quarter of a quiet one at least: as if its noise had at most twice the deviation.
_LEAST_SHARE = 0.25
# Of two cells that were disturbed whenever they ran the one may have lost the square of what the other lost, up to Run.alike, before the
# difference counts: what others take beside the same loop differs by so much from technique to technique.
AS_DISTURBED = 2.0
# A run that is further from the middle of its cell's runs than this many deviations pulls no more than one that is just so far
# (P. J. Huber, "Robust Estimation of a Location Parameter", Annals of Mathematical Statistics 35, 1964).
_PULLS = 1.5
# Of how far apart the runs are, it tells a third more. Cut where it stops pulling, the noise of runs that scatter widely looked smaller
# than it is: equals were called different in 4.5 to 5.1 % of simulated pairs, and are in 4.0 to 4.4. Cut further out, one run that
# something unseen slowed makes an interval that nobody takes seriously.
_TELLS = 2.0
# However many runs of other cells there are, a cell's own noise is its own: they count as at most so many degrees of freedom.
_MOST_SHARED_DF = 12.0


def run(rates: Sequence[float], lost: float = 0.0, alike: float = math.inf, waited: float = 0.0) -> Run:
    """A run from the rates of its replies, in their order, and what disturbance cost it at most (see Run). Raises ValueError where a rate
    is not a positive finite number."""
    values = np.asarray(rates, dtype=float)
    sample = as_sample(values)
    if sample[0] <= 0:
        raise ValueError("a speed is a positive number")
    middle, (low, high) = float(np.median(sample)), np.quantile(sample, [0.25, 0.75])
    scatter = float(high - low) / _QUARTILES / middle
    slowest, fastest = float(sample[0]), float(sample[-1])
    if len(values) < 2:
        return Run(middle, math.inf, 1.0, 1, slowest, fastest, scatter, lost > 0, lost, alike, waited)
    # Of four the middle half is two values, which say nothing of how far the others are.
    outer = int(len(values) * _TRIMMED) if len(values) > 4 else 0
    drawn_in = level(np.clip(values, sample[outer], sample[-1 - outer]))
    se = drawn_in.se / (1 - 2 * _TRIMMED) * _MEDIAN_OVER_TRIMMED / middle
    return Run(middle, se, drawn_in.df, len(values), slowest, fastest, scatter, lost > 0, lost, alike, waited)


@dataclass(frozen=True)
class Prior:
    """What is known of the noise between runs before a cell ran twice: the standard deviation of the logarithm of a run's speed, as if from
    `df` degrees of freedom; `runs` is how many runs that rests on. `usual` is that of such cells everywhere, or more, where
    others of the study have shown more (with_shown)."""

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
    upper end of its interval. `quiet` is False where all runs were disturbed; `calm` is then the same speed whose runs have the noise of
    quiet ones, which the end of a ratio takes that disturbance cannot move (verdicts.over; None: as it is).
    `confidence` is the level of its interval, and of those of ratios with it (verdicts.confidence).
    `lost`: the logarithm of the factor by which disturbance slowed `value` at most; `spared` what another cell that was disturbed
    whenever it ran may have lost before that tells the two apart, infinity where nothing was read of that. `waited` is what of `lost` its
    own runs show.
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
    usual: float = math.inf  # the noise by which a ratio's end may be beyond what was seen (verdicts.over)
    quiet: bool = True
    calm: "Speed | None" = None
    lost: float = 0.0
    spared: float = 0.0
    waited: float = 0.0
    confidence: float = CONFIDENCE

    @property
    def known(self) -> bool:
        """Whether it has an interval: single replies have none."""
        return all(math.isfinite(variance) for variance, _ in self.below)

    def interval(self) -> Estimate:
        """The speed and its interval, never beyond the slowest and the fastest reply that was seen."""
        if not self.known:
            return Estimate(self.value)
        low, high = (
            self.value * math.exp(sign * half_interval(side, self.confidence)) for sign, side in ((-1, self.below), (1, self.above))
        )
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
    centre, own, squares, weights = _centre(runs, prior.sd)
    df = prior.df + own
    between = (prior.df * prior.sd**2 + squares) / df
    shares = weights / weights.sum()
    counts = [_counts(one, math.sqrt(between)) for one in runs]
    spent = between * float(sum(share**2 / count for share, count in zip(shares, counts, strict=True)))
    sides, normal = [[(spent, df)], [(spent, df)]], t_quantile((1 + CONFIDENCE) / 2, math.inf)
    for share, one in zip(shares, runs, strict=True):
        if not share:
            continue
        for side, furthest in zip(sides, (one.slowest, one.fastest), strict=True):
            # What is typical of a run lies among its replies, however little these few say of how they wander; among two in half of cases.
            most = abs(math.log(furthest / one.value)) / _among(one.n) if furthest > 0 and one.n > 1 else math.inf
            bounded = math.isfinite(one.se) and most * normal < one.se * t_quantile((1 + CONFIDENCE) / 2, one.df)
            side.append(((share * most) ** 2, math.inf) if bounded else ((share * one.se) ** 2, one.df))
    slowest, fastest = min(one.slowest for one in runs), max(one.fastest for one in runs)
    return Speed(
        min(max(math.exp(centre), slowest), fastest),
        math.sqrt(between),
        df,
        prior.runs + (len(runs) if len(runs) > 1 else 0),
        len(runs),
        tuple(sides[0]),
        tuple(sides[1]),
        slowest,
        fastest,
        prior.usual_sd,
        lost=_lost(runs, centre, shares, prior.sd),
        spared=sum(share * min(AS_DISTURBED * one.lost, one.alike) for share, one in zip(shares, runs, strict=True) if share),
        waited=sum(share * one.waited for share, one in zip(shares, runs, strict=True)) if all(one.lost for one in runs) else 0.0,
    )


def _among(replies: int) -> float:
    """How many standard deviations the furthest of so many replies stands for: what is typical of them is among them but where all are on
    one side of it."""
    return t_quantile((1 + min(CONFIDENCE, 1 - 2.0 ** (1 - replies))) / 2, math.inf)


def _lost(runs: Sequence[Run], centre: float, shares: Sequence[float], least_sd: float) -> float:
    """By how much disturbance lowered the common value of runs at most, as logarithms: where quiet runs are among them, by how much it is
    below theirs; else by the mean of what the runs lost."""
    quiet = [one for one in runs if not one.lost]
    if not quiet:
        return sum(share * one.lost for share, one in zip(shares, runs, strict=True))
    return max(0.0, _centre(quiet, least_sd).middle - centre) if len(quiet) < len(runs) else 0.0


def shown(runs: Sequence[Run], prior: Prior) -> tuple[float, float]:
    """What the runs of a cell say of the noise between runs: degrees of freedom, and the variance times these."""
    found = _centre(runs, prior.sd)
    return found.df, found.squares


def between_priors(one: Prior, other: Prior, share: float) -> Prior:
    """What is known of the noise of a cell that is between two kinds: that of `one` where `share` is 0, and of `other` where it is 1. Noise
    differs by factors, so that what is between has the geometric mean."""
    if share in (0, 1):
        return other if share else one
    sd, usual = (math.exp((1 - share) * math.log(a) + share * math.log(b)) for a, b in ((one.sd, other.sd), (one.usual_sd, other.usual_sd)))
    return Prior(sd, (1 - share) * one.df + share * other.df, one.runs + other.runs, usual)


def partly(one: Prior, other: Prior, share: float) -> Prior:
    """What is known of the noise of a cell that is of `other` for a share of its time, and of `one` for the rest. Both may be off the same
    way, so that the deviations add up."""
    if share in (0, 1):
        return other if share else one
    sd, usual = ((1 - share) * a + share * b for a, b in ((one.sd, other.sd), (one.usual_sd, other.usual_sd)))
    return Prior(sd, (1 - share) * one.df + share * other.df, one.runs + other.runs, usual)


def with_shown(prior: Prior, df: float, squares: float, runs: int = 0) -> Prior:
    """The prior of a kind of cells with what other cells of that kind have shown in this study: the sums of `shown` over them.

    By the usual noise the end of a ratio may be beyond the replies (verdicts.over). Where others were further apart than usual it is drawn
    towards what they were, by the weight of their runs: twenty of them say what the machine does, and two that something unseen set ten
    times apart say little.
    """
    total = prior.df + df
    sd = math.sqrt((prior.df * prior.sd**2 + squares) / total)
    usual = max(prior.usual_sd, math.exp((prior.df * math.log(prior.usual_sd) + df * math.log(sd)) / total))
    return Prior(sd, min(total, max(_MOST_SHARED_DF, prior.df)), prior.runs + runs, usual)


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


def located(runs: Sequence[tuple[float, Run]], least_sd: float) -> float:
    """The common value of a figure of several runs, from what is typical of each: as `speed` has it."""
    return math.exp(_centre([replace(run, value=value) for value, run in runs], least_sd).middle)


class _Centre(NamedTuple):
    """The logarithm of the runs' common value; the degrees of freedom and the sum of squares that they show of the noise between them; and
    the weights of the runs."""

    middle: float
    df: float
    squares: float
    weights: np.ndarray


def _centre(runs: Sequence[Run], least_sd: float) -> _Centre:
    """What is common to runs.

    Huber's estimate: within 1.5 deviations it is the weighted mean. The deviation is that of the runs' median absolute deviation, and at
    least `least_sd`: no run counts less for noise that every machine has.

    Where quiet runs are among them these lead. A disturbed run says no more than that the speed is between its own and that with all added
    that it may have lost. Within these it pulls nothing, is no noise, and makes nothing surer. But what may have lost hardly more than such
    runs differ by anyway counts as what it is, a run, by its `_certain` share, and of the noise it tells the square of that, as any value
    does whose variance is that of the noise and of something else. What is beyond them pulls, and tells that the noise is as large as that,
    never that it is small: it is a part of the noise alone, since the loss hides the rest.
    """
    logs, counts = np.log([one.value for one in runs]), np.array([_counts(one, least_sd) for one in runs])
    if len(runs) == 1:
        return _Centre(float(logs[0]), 0, 0.0, counts)
    lost = np.array([one.lost for one in runs])
    leading = lost == 0
    is_mixed = leading.any() and not leading.all()
    if not is_mixed:
        lost, leading = np.zeros(len(runs)), np.full(len(runs), True)
    certain = np.array([_certain(most, least_sd) for most in lost])
    lost = np.where(certain < 1, lost * (1 - certain), 0)
    middle = float(np.median(logs[leading]))
    sd = max(least_sd, 1.4826 * float(np.median(np.abs(logs[leading] - middle))))
    for _ in range(200 if is_mixed else 20):
        nearest = np.clip(middle, logs, logs + lost)
        weights = counts * np.minimum(1, _PULLS * sd / np.maximum(np.abs(nearest - middle), 1e-12))
        middle = float((weights * nearest).sum() / weights.sum())
    away = np.clip(np.clip(middle, logs, logs + lost) - middle, -_TELLS * sd, _TELLS * sd)
    beyond = np.minimum(1, counts * (away / sd) ** 2)
    tells, inside = certain**2 + (1 - certain**2) * beyond, np.minimum(certain, counts)
    pulls = inside + (counts - inside) * beyond
    counted = (counts * tells).sum() / tells.sum()
    return _Centre(middle, float(tells.sum()) - 1, float((counts * away**2).sum() / counted), weights / counts * pulls)


def _counts(one: Run, sd: float) -> float:
    return disturbed_share(one.lost, sd) if one.disturbed else 1.0


def disturbed_share(lost: float, sd: float) -> float:
    """How much a disturbed run counts beside a quiet one, where the noise between quiet runs has this deviation: what it may have lost adds
    to the variance of its noise, up to that of twice the deviation."""
    return max(_LEAST_SHARE, _certain(lost, sd))


def _certain(lost: float, sd: float) -> float:
    """The share that noise of this deviation has in the variance of a run that lost anything up to so much: a twelfth of the square of
    that is the variance of the loss."""
    return 1 / (1 + (lost / sd) ** 2 / 12)


def half_interval(variances: Sequence[tuple[float, float]], confidence: float) -> float:
    """Half of an interval on one side, from independent variances with their degrees of freedom."""
    variance, df = sum_of_variances(variances)
    return t_quantile((1 + confidence) / 2, df) * math.sqrt(variance)


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
