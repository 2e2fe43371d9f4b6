"""stats/ against its definitions, against NumPy and SciPy, and against samples whose truth is known."""

import math

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import fft, linalg
from scipy import stats as scipy_stats
from speedgrid import stats
from speedgrid.stats import samples as bootstrap
from speedgrid.stats import series, student

figures = st.floats(min_value=1e-3, max_value=1e3)
samples = st.lists(figures, min_size=2, max_size=40)
few = settings(max_examples=40)


def uneven(values):
    """Whether the values differ by more than rounding."""
    return np.ptp(values) > 1e-6 * max(values)


@few
@given(samples)
def test_mean_and_sd_are_those_of_numpy(values):
    assert stats.mean(values) == pytest.approx(np.mean(values))
    assert stats.sd(values) == pytest.approx(np.std(values, ddof=1), abs=1e-9)


def test_a_single_value_has_no_spread_and_no_interval():
    assert stats.sd([3.0]) is None
    assert stats.mean_interval([3.0]) == stats.Estimate(3.0)


@pytest.mark.parametrize("values", [[], [1.0, math.nan], [1.0, math.inf]])
def test_what_is_not_a_sample_is_refused(values):
    with pytest.raises(ValueError, match=r"no values|not a finite number"):
        stats.mean(values)


@few
@given(samples, st.floats(0, 1))
def test_percentile_is_that_of_numpy_whatever_the_order(values, q):
    assert stats.percentile(values[::-1], q) == pytest.approx(np.quantile(values, q))


@pytest.mark.parametrize(
    ("q", "confidence", "needs"), [(0.95, 0.95, 59), (0.99, 0.95, 299), (0.95, 0.99, 90), (0.99, 0.99, 459), (0.5, 0.95, 5)]
)
def test_percentile_needs_the_published_numbers(q, confidence, needs):
    assert stats.percentile_needs(q, confidence) == needs
    assert stats.percentile_supported(needs, q, confidence)
    assert not stats.percentile_supported(needs - 1, q, confidence)


@given(st.floats(0.01, 0.999), st.floats(0.01, 0.999))
def test_percentile_needs_is_the_smallest_that_satisfies_its_definition(q, confidence):
    n = stats.percentile_needs(q, confidence)
    assert 1 - q**n >= confidence
    assert n == 1 or 1 - q ** (n - 1) < confidence


@pytest.mark.parametrize(("q", "confidence"), [(0, 0.95), (1, 0.95), (0.5, 1)])
def test_percentile_needs_refuses_what_no_sample_can_give(q, confidence):
    with pytest.raises(ValueError, match="between 0 and 1"):
        stats.percentile_needs(q, confidence)


@few
@given(samples, st.randoms(use_true_random=False))
def test_the_order_of_values_changes_nothing(values, random):
    shuffled = random.sample(values, len(values))
    assert stats.mean_interval(shuffled) == stats.mean_interval(values)


@few
@given(samples, st.floats(1e-3, 1e3))
def test_the_unit_changes_nothing(values, factor):
    assume(uneven(values))
    one, other = stats.mean_interval(values), stats.mean_interval([value * factor for value in values])
    assert (other.value, other.low, other.high) == pytest.approx([end * factor for end in (one.value, one.low, one.high)])


@few
@given(samples, st.integers(-1000, -400))
def test_the_interval_of_very_small_figures_is_that_of_others_of_their_shape(values, exponent):
    """Of divergences of 1e-155, whose squares and cubes round to 0."""
    small = stats.mean_interval([value * 2.0**exponent for value in values])
    one = stats.mean_interval(values)
    if one.low is not None:
        assert (small.low * 2.0**-exponent, small.high * 2.0**-exponent) == (pytest.approx(one.low), pytest.approx(one.high))


@few
@given(samples)
def test_the_interval_lies_within_the_sample_and_around_most_means(values):
    estimate = stats.mean_interval(values)
    slack = 1e-9 * max(values)
    assert min(values) - slack <= estimate.low <= estimate.high <= max(values) + slack


def test_equal_values_have_an_interval_of_no_width():
    estimate = stats.mean_interval([0.1] * 7)
    assert estimate.low == estimate.high == pytest.approx(0.1)


@pytest.mark.parametrize("seed", range(4))
def test_intervals_are_those_of_scipy(seed):
    rng = np.random.default_rng(seed)
    values = rng.lognormal(0, 0.5, 25)
    theirs = scipy_stats.bootstrap((values,), np.mean, n_resamples=9999, method="BCa", rng=seed).confidence_interval
    ours = stats.mean_interval(values)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs), abs=0.06 * (theirs.high - theirs.low))


@pytest.mark.parametrize("draw", [lambda rng, n: rng.normal(10, 1, n), lambda rng, n: rng.gamma(4, 1, n)], ids=["normal", "skewed"])
def test_about_95_of_100_intervals_hold_the_truth(draw, monkeypatch):
    monkeypatch.setattr(bootstrap, "RESAMPLES", 999)
    rng = np.random.default_rng(11)
    truth = 10 if draw(np.random.default_rng(0), 9).mean() > 7 else 4
    held = [estimate.low <= truth <= estimate.high for estimate in (stats.mean_interval(draw(rng, 40)) for _ in range(600))]
    assert 0.91 <= np.mean(held) <= 0.98


def test_many_values_are_resampled_in_parts_of_bounded_size(monkeypatch):
    values = np.random.default_rng(3).normal(5, 1, 300)
    whole = stats.mean_interval(values)
    monkeypatch.setattr(bootstrap, "_DRAWS_AT_ONCE", 1000)
    parts = stats.mean_interval(values)
    assert (parts.low, parts.high) == pytest.approx((whole.low, whole.high), rel=0.01)


# Percentiles, outliers


@pytest.mark.parametrize(("n", "q"), [(20, 0.5), (100, 0.5), (100, 0.95), (400, 0.99), (100, 0.05), (73, 0.95)])
def test_percentile_interval_is_that_of_scipy(n, q):
    values = np.random.default_rng(n).gamma(3, 1, n)
    theirs = scipy_stats.quantile_test(values, q=0, p=q).confidence_interval(0.95)
    ours = stats.percentile_interval(values, q)
    assert ours.value == np.quantile(values, q)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs))


@given(st.integers(5, 600), st.floats(0.05, 0.995))
@settings(max_examples=100)
def test_percentile_bounds_miss_no_more_than_they_say(n, q):
    estimate = stats.percentile_interval(list(range(1, n + 1)), q)
    assert (estimate is None) == (not stats.percentile_supported(n, max(q, 1 - q)))
    if estimate is None:
        return
    # The quantile lies under the value of rank r with the probability that fewer than r values lie under it.
    too_high = scipy_stats.binom.cdf(estimate.low - 1, n, q) if estimate.low else 0
    too_low = scipy_stats.binom.sf(estimate.high - 1, n, q) if estimate.high else 0
    assert too_high + too_low <= 0.05 + 1e-9
    assert estimate.low is None or estimate.low <= math.ceil(n * q)
    assert estimate.high is None or estimate.high >= math.floor(n * q)


@pytest.mark.parametrize(("n", "q"), [(59, 0.95), (299, 0.99)])
def test_a_percentile_that_is_just_supported_is_bounded_by_the_largest_value(n, q):
    values = list(range(1, n + 1))
    assert stats.percentile_interval(values, q).high == n
    assert stats.percentile_interval(values[:-1], q) is None


def test_a_smaller_effective_sample_bounds_its_percentiles_less_well():
    values = np.random.default_rng(5).normal(10, 1, 400)
    all_of_it, part = stats.percentile_interval(values, 0.95), stats.percentile_interval(values, 0.95, effective_n=90)
    assert part.low < all_of_it.low
    assert part.high > all_of_it.high
    assert stats.percentile_interval(values, 0.95, effective_n=40) is None


def test_outliers_are_counted_by_tukeys_fences():
    values = [*range(1, 11)] * 10
    low, high = np.quantile([*values, 17.0, 40.0, -9.0], [0.25, 0.75])
    assert 10 < high + 1.5 * (high - low) < 17
    assert stats.outliers([*values, 17.0, 40.0, -9.0]) == stats.Outliers(slow=2, fast=1)
    assert stats.outliers(values) == stats.Outliers(0, 0)
    assert stats.outliers([5.0] * 9 + [6.0]) == stats.Outliers(1, 0)


# Student's t and the cosine transform


@given(st.floats(0.5, 0.9999), st.floats(1, 1e5))
@settings(max_examples=100)
def test_t_quantile_is_that_of_scipy(probability, df):
    assert stats.t_quantile(probability, df) == pytest.approx(scipy_stats.t.ppf(probability, df), rel=1e-7, abs=1e-9)


def test_t_quantile_of_infinitely_many_degrees_is_normal():
    assert stats.t_quantile(0.975, math.inf) == pytest.approx(scipy_stats.norm.ppf(0.975))


@few
@given(st.lists(figures, min_size=2, max_size=50))
def test_cosines_are_those_of_scipy(values):
    assert series._cosines(np.array(values)) == pytest.approx(fft.dct(values, norm="ortho")[1:], abs=1e-9 * max(values) * len(values))


@pytest.mark.parametrize("n", [2, 7, 30])
def test_the_variance_of_a_mean_is_that_of_its_covariance_matrix(n):
    _, inflations, prior = series._models(n)
    expected = [1.0]
    for phi in series._PHI:
        ones_weighted = linalg.toeplitz(phi ** np.arange(n)).sum() / n
        expected += [share + (1 - share) * ones_weighted for share in series._SHARE]
    assert inflations == pytest.approx(expected)
    assert prior.sum() == pytest.approx(1)


def test_the_mixture_is_that_of_scipys_distributions():
    scales, weights = np.array([1.0, 2.0, 9.0]), np.array([0.5, 0.4, 0.1])
    at = student.mixture_quantile(0.975, 19, scales, weights)
    assert (weights * scipy_stats.t.cdf(at / scales, 19)).sum() == pytest.approx(0.975, abs=1e-6)


# Series


def wandering(rng, n, phi):
    """An autoregression of mean 100 and standard deviation 5 with the correlation phi."""
    values = [rng.normal()]
    for shock in rng.normal(size=n - 1) * math.sqrt(1 - phi**2):
        values.append(phi * values[-1] + shock)
    return 100 + 5 * np.array(values)


@few
@given(samples)
def test_a_level_is_the_mean_and_around_it(values):
    level = stats.level(values)
    estimate = level.interval()
    assert level.value == estimate.value == pytest.approx(np.mean(values))
    assert estimate.low <= estimate.value <= estimate.high
    assert 0 < level.effective_n <= level.n == len(values)
    assert 1 <= level.df <= level.n - 1


@few
@given(samples, st.floats(1e-2, 1e2))
def test_the_unit_of_a_series_changes_nothing(values, factor):
    assume(uneven(values))
    one, other = stats.level(values), stats.level([value * factor for value in values])
    assert (other.value, other.half_width) == pytest.approx((one.value * factor, one.half_width), rel=1e-5)
    assert other.df == pytest.approx(one.df, rel=0.11)


@few
@given(samples)
def test_a_series_backwards_has_the_same_interval(values):
    assume(uneven(values))
    assert stats.level(values[::-1]).half_width == pytest.approx(stats.level(values).half_width, rel=1e-5)


def test_of_many_independent_values_the_interval_is_that_of_the_t_test():
    values = np.random.default_rng(4).normal(100, 5, 2000)
    ours, theirs = stats.level(values).interval(), scipy_stats.ttest_1samp(values, 0).confidence_interval(0.95)
    assert (ours.low, ours.high) == pytest.approx(tuple(theirs), abs=0.03)


def test_alike_neighbours_make_an_interval_wider_and_a_sample_of_the_same_values_does_not():
    values = wandering(np.random.default_rng(6), 300, 0.8)
    alike, mixed = stats.level(values), stats.level(np.random.default_rng(7).permutation(values))
    assert alike.half_width > 2 * mixed.half_width
    assert alike.effective_n < 80
    assert mixed.effective_n > 200


def test_a_single_reply_has_no_interval_and_equal_ones_have_no_width():
    assert stats.level([5.0]).interval() == stats.Estimate(5.0)
    assert stats.level([5.0]).half_width == math.inf
    assert stats.level([0.1] * 9).interval() == stats.Estimate(*[pytest.approx(0.1)] * 3)


@pytest.mark.parametrize("values", [[], [1.0, math.nan]])
def test_what_is_not_a_series_is_refused(values):
    with pytest.raises(ValueError, match=r"no values|not a finite number"):
        stats.level(values)


@pytest.mark.parametrize(("phi", "n"), [(0.0, 20), (0.0, 100), (0.4, 50), (0.6, 20), (0.6, 100), (0.8, 50), (0.8, 200)])
def test_intervals_of_series_hold_the_truth_where_those_of_samples_do_not(phi, n):
    rng = np.random.default_rng([n, int(10 * phi)])
    drawn = [wandering(rng, n, phi) for _ in range(300)]
    held = [e.low <= 100 <= e.high for e in (stats.level(x).interval() for x in drawn)]
    assert np.mean(held) >= 0.92
    as_independent = [abs(x.mean() - 100) <= scipy_stats.t.ppf(0.975, n - 1) * x.std(ddof=1) / math.sqrt(n) for x in drawn]
    assert phi == 0 or np.mean(as_independent) < 0.85


def test_autocorrelation():
    values = wandering(np.random.default_rng(8), 2000, 0.6)
    assert stats.autocorrelation(values) == pytest.approx(0.6, abs=0.06)
    assert stats.autocorrelation(values, 2) == pytest.approx(0.36, abs=0.08)
    assert stats.autocorrelation([1.0, 2.0, 1.0, 2.0, 1.0, 2.0]) < 0
    assert stats.autocorrelation([3.0] * 9) is None


# Runs


def test_the_mean_of_several_runs_is_that_of_their_means():
    levels = [stats.Level(value, 1.0, 9.0, 10, 8.0) for value in (100.0, 104.0)]
    pooled = stats.pooled(levels)
    assert (pooled.value, pooled.n, pooled.effective_n) == (102, 20, 16)
    assert pooled.se == pytest.approx(math.sqrt(2) / 2)
    assert pooled.df == pytest.approx(18)
    assert stats.pooled(levels[:1]) is levels[0]
    alone = stats.level([100.0])
    assert stats.pooled([alone, levels[0]]).interval() == stats.Estimate(100.0), "of a single value nothing is known"


def run_at(value):
    return stats.Run(value, 1e-4, 9.0, 10, value, value, 1e-4)


def test_drift_is_that_of_scipys_line():
    values, times = [100.0, 103.0, 101.0, 104.0, 106.0], [0.0, 60.0, 110.0, 200.0, 250.0]
    line = scipy_stats.linregress(times, np.log(values))
    half = scipy_stats.t.ppf(0.975, 3) * line.stderr
    drift = stats.drift([run_at(value) for value in values], times)
    expected = [math.expm1(250 * slope) for slope in (line.slope, line.slope - half, line.slope + half)]
    assert [drift.value, drift.low, drift.high] == pytest.approx(expected)
    assert stats.drift([run_at(100)], [0.0]) is None
    assert stats.drift([run_at(100), run_at(110)], [0.0, 9.0]) == stats.Estimate(pytest.approx(0.1))


# When to stop


def test_stopping_looks_seldom_and_at_growing_numbers():
    looks = stats.Precision(at_least=20, at_most=1000).looks
    assert looks[:4] == (20, 25, 32, 40)
    assert looks[-1] == 1000
    assert len(looks) < 20
    assert stats.Precision(at_least=30, at_most=30).looks == (30,)


def test_stopping_says_why():
    rng = np.random.default_rng(14)
    precision = stats.Precision(share=0.01, at_least=20, at_most=100)
    quiet, loud = rng.normal(100, 0.5, 100), rng.normal(100, 20, 100)
    assert stats.stop(quiet[:19], precision) == ""
    assert stats.stop(quiet[:20], precision) == "precise"
    assert stats.stop(quiet[:21], precision) == ""  # not one of the numbers at which it looks
    assert stats.stop(loud[:20], precision) == ""
    assert stats.stop(loud, precision) == "maximum"
    assert stats.stop(quiet, precision) == "precise"


def test_what_stopped_as_precise_is_as_precise_as_it_says_and_holds_the_truth():
    rng, precision, held = np.random.default_rng(15), stats.Precision(share=0.01, at_least=20, at_most=1000), []
    for _ in range(100):
        values = wandering(rng, 1000, 0.3)
        n = next(n for n in precision.looks if stats.stop(values[:n], precision))
        level = stats.level(values[:n])
        assert n == 1000 or level.half_width <= 0.01
        held.append(abs(level.value / 100 - 1) <= level.half_width)
    assert np.mean(held) >= 0.9


@pytest.mark.parametrize("wrong", [{"share": 0}, {"at_least": 1}, {"at_least": 9, "at_most": 8}])
def test_a_precision_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match="at_least"):
        stats.Precision(**wrong)


@given(st.floats(0, 60), st.floats(1, 1e5))
def test_one_number_has_the_distribution_function_of_many(t, df):
    """Quantiles of one t are computed on plain numbers, those of mixtures on arrays: by the same function."""
    assert student._t_cdf_of_one(t, df) == pytest.approx(float(student._t_cdf(np.array([t]), df)[0]), abs=1e-9)
