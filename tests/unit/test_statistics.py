"""statistics.py against its definitions, against NumPy and SciPy, and against samples whose truth is known."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import stats
from speedgrid import statistics

figures = st.floats(min_value=1e-3, max_value=1e3)
samples = st.lists(figures, min_size=2, max_size=40)
few = settings(max_examples=40, deadline=None)


def uneven(values):
    """Whether the values differ by more than rounding."""
    return np.ptp(values) > 1e-6 * max(values)


@few
@given(samples)
def test_mean_and_sd_are_those_of_numpy(values):
    assert statistics.mean(values) == pytest.approx(np.mean(values))
    assert statistics.sd(values) == pytest.approx(np.std(values, ddof=1), abs=1e-9)


def test_a_single_value_has_no_spread_and_no_interval():
    assert statistics.sd([3.0]) is None
    assert statistics.mean_interval([3.0]) == statistics.Estimate(3.0)
    assert statistics.ratio_interval([6.0], [2.0, 4.0]) == statistics.Estimate(2.0)


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [1.0, math.inf]])
def test_what_is_not_a_sample_is_refused(values):
    with pytest.raises(ValueError, match=r"no values|not a finite number"):
        statistics.mean(values)


@few
@given(samples, st.floats(0, 1))
def test_percentile_is_that_of_numpy_whatever_the_order(values, q):
    assert statistics.percentile(values[::-1], q) == pytest.approx(np.quantile(values, q))


@pytest.mark.parametrize(
    ("q", "confidence", "needs"), [(0.95, 0.95, 59), (0.99, 0.95, 299), (0.95, 0.99, 90), (0.99, 0.99, 459), (0.5, 0.95, 5)]
)
def test_percentile_needs_the_published_numbers(q, confidence, needs):
    assert statistics.percentile_needs(q, confidence) == needs
    assert statistics.percentile_supported(needs, q, confidence)
    assert not statistics.percentile_supported(needs - 1, q, confidence)


@given(st.floats(0.01, 0.999), st.floats(0.01, 0.999))
def test_percentile_needs_is_the_smallest_that_satisfies_its_definition(q, confidence):
    n = statistics.percentile_needs(q, confidence)
    assert 1 - q**n >= confidence
    assert n == 1 or 1 - q ** (n - 1) < confidence


@pytest.mark.parametrize(("q", "confidence"), [(0, 0.95), (1, 0.95), (0.5, 1)])
def test_percentile_needs_refuses_what_no_sample_can_give(q, confidence):
    with pytest.raises(ValueError, match="between 0 and 1"):
        statistics.percentile_needs(q, confidence)


@few
@given(samples, st.randoms(use_true_random=False))
def test_the_order_of_values_changes_nothing(values, random):
    shuffled = random.sample(values, len(values))
    assert statistics.mean_interval(shuffled) == statistics.mean_interval(values)
    assert statistics.ratio_interval(shuffled, values) == statistics.ratio_interval(values, shuffled)


@few
@given(samples, st.floats(1e-3, 1e3))
def test_the_unit_changes_nothing(values, factor):
    assume(uneven(values))
    one, other = statistics.mean_interval(values), statistics.mean_interval([value * factor for value in values])
    assert (other.value, other.low, other.high) == pytest.approx([end * factor for end in (one.value, one.low, one.high)])


@few
@given(samples)
def test_the_interval_lies_within_the_sample_and_around_most_means(values):
    estimate = statistics.mean_interval(values)
    slack = 1e-9 * max(values)
    assert min(values) - slack <= estimate.low <= estimate.high <= max(values) + slack


def test_equal_values_have_an_interval_of_no_width():
    estimate = statistics.mean_interval([0.1] * 7)
    assert estimate.low == estimate.high == pytest.approx(0.1)


@pytest.mark.parametrize("seed", range(4))
def test_intervals_are_those_of_scipy(seed):
    rng = np.random.default_rng(seed)
    above, below = rng.lognormal(0, 0.5, 25), rng.lognormal(1, 0.3, 15)
    theirs = stats.bootstrap((above,), np.mean, n_resamples=9999, method="BCa", rng=seed).confidence_interval
    ours = statistics.mean_interval(above)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs), abs=0.06 * (theirs.high - theirs.low))

    def ratio(x, y, axis):
        return x.mean(axis=axis) / y.mean(axis=axis)

    theirs = stats.bootstrap((above, below), ratio, n_resamples=9999, method="BCa", rng=seed).confidence_interval
    ours = statistics.ratio_interval(above, below)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs), abs=0.06 * (theirs.high - theirs.low))


@pytest.mark.parametrize("draw", [lambda rng, n: rng.normal(10, 1, n), lambda rng, n: rng.gamma(4, 1, n)], ids=["normal", "skewed"])
def test_about_95_of_100_intervals_hold_the_truth(draw, monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 999)
    rng = np.random.default_rng(11)
    truth = 10 if draw(np.random.default_rng(0), 9).mean() > 7 else 4
    held = [estimate.low <= truth <= estimate.high for estimate in (statistics.mean_interval(draw(rng, 40)) for _ in range(600))]
    assert 0.91 <= np.mean(held) <= 0.98


def test_about_95_of_100_intervals_hold_the_true_ratio(monkeypatch):
    monkeypatch.setattr(statistics, "RESAMPLES", 999)
    rng = np.random.default_rng(12)
    estimates = [statistics.ratio_interval(rng.gamma(16, 2, 40), rng.gamma(16, 1, 40)) for _ in range(600)]
    assert 0.91 <= np.mean([estimate.low <= 2 <= estimate.high for estimate in estimates]) <= 0.98


@few
@given(samples)
def test_a_sample_over_itself_is_1_and_its_interval_holds_1(values):
    estimate = statistics.ratio_interval(values, values)
    assert estimate.value == 1
    assert estimate.low <= 1 + 1e-9
    assert estimate.high >= 1 - 1e-9


def test_a_ratio_of_what_is_not_positive_is_refused():
    with pytest.raises(ValueError, match="positive"):
        statistics.ratio_interval([1.0, 2.0], [0.0, 1.0])


def test_many_values_are_resampled_in_parts_of_bounded_size(monkeypatch):
    values = np.random.default_rng(3).normal(5, 1, 300)
    whole = statistics.mean_interval(values)
    monkeypatch.setattr(statistics, "_DRAWS_AT_ONCE", 1000)
    parts = statistics.mean_interval(values)
    assert (parts.low, parts.high) == pytest.approx((whole.low, whole.high), rel=0.01)
