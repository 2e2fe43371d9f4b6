"""How numbers are written for people."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from speedgrid import amounts
from speedgrid.report import units


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.012345, "0.0123"),
        (1.2345, "1.23"),
        (12.345, "12.3"),
        (1234.5, "1,234"),
        (1234567, "1,234,567"),
        (0, "0"),
        (-2.5, "−2.50"),
        (None, "–"),
        (0.99996, "1.00"),
        (9.9999, "10.0"),
        (-99.99, "−100"),
    ],
)
def test_number_has_three_significant_digits_and_its_whole_part(value, text):
    assert units.number(value) == text


@given(st.floats(1e-3, 99.9), st.integers(2, 4))
def test_a_number_has_as_many_digits_wherever_it_is_rounded_to(value, digits):
    written = units.number(value, digits).lstrip("0.").replace(".", "")
    assert len(written) == max(digits, len(f"{value:.0f}"))


def test_number_of_nan_is_missing():
    assert units.number(math.nan) == "–"


@pytest.mark.parametrize(
    ("unit", "values", "chosen"),
    [
        ("s", [0.0004, 0.0009], "µs"),
        ("s", [0.2, None], "ms"),
        ("s", [0.2, 3.0], "s"),
        ("B", [500], "B"),
        ("B", [3 * 2**20, 5 * 2**30], "GiB"),
        ("token/s", [5000.0], "token/s"),
        ("s", [math.nan], "s"),
    ],
)
def test_scale_is_the_largest_unit_in_which_the_largest_value_is_at_least_1(unit, values, chosen):
    assert units.scale(unit, values).unit == chosen


@given(st.floats(1e-9, 1e15))
def test_scale_keeps_the_value(value):
    for unit in ("s", "B"):
        scale = units.scale(unit, [value])
        assert scale(value) * scale.size == pytest.approx(value)


@pytest.mark.parametrize(
    ("estimate", "texts"),
    [
        ((91.7234, 91.0, 92.4), ("91.7", "91.0–92.4")),
        ((1.8982, 1.879, 1.918), ("1.90", "1.88–1.92")),
        ((1.0, None, None), ("1.00", "")),
        ((50.0, 50.0, 50.0), ("50.0", "50.0–50.0")),
        ((738.2, 700.1, 801.9), ("738", "700–802")),
        ((0.0312, 0.0021, 0.84), ("0.031", "0.002–0.840")),
        ((1.18, 0.17, 8.04), ("1.2", "0.2–8.0")),
        ((9000.0, 40.0, 18000.0), ("9,000", "40–18,000")),
        ((0.0000012, -0.05, 0.05), ("0.00", "−0.05–0.05")),
        ((None, None, None), ("–", "")),
        ((None, 1.3, None), ("at least 1.30", "")),
        ((None, None, 30.4), ("at most 30", "")),
        ((10.2, None, 10.5), ("10.2", "")),
        ((10.2, 9.9, None), ("10.2", "")),
    ],
)
def test_an_interval_and_its_value_are_written_to_one_precision(estimate, texts):
    assert units.with_interval(*estimate) == texts


@pytest.mark.parametrize(
    ("figures", "texts"),
    [
        ((1.46, 1.0301, 2.07, "faster"), ("1.5×", "1.03–2.1")),
        ((0.984, 0.9601, 0.9982, "slower"), ("0.98×", "0.96–0.998")),
        ((1.66, 0.966, 2.76, "unsure"), ("1.7×", "0.97–2.8")),
        ((1.3, 0.7, 1.0, "unsure"), ("1.3×", "0.7–1.0")),
        ((1.02, 1.000001, 1.04, "faster"), ("1.02×", "1.0000–1.04")),
        ((None, 1.0031, None, "faster"), ("at least 1.003×", "")),
        ((None, None, 0.9961, "slower"), ("at most 0.996×", "")),
    ],
)
def test_an_end_of_a_speedup_is_written_on_its_side_of_1(figures, texts):
    """ "The fastest, a speed-up of 1.5x (1.0 to 2.1), decided": its interval was from 1.03 on."""
    assert units.speedup(*figures) == texts


@pytest.mark.parametrize(
    ("value", "text"), [(83.7, "84"), (1.024, "1.02"), (1.996, "2.00"), (2.44, "2.4"), (9.96, "10"), (0.87, "0.87"), (1234.0, "1,230")]
)
def test_a_bound_has_two_digits_and_a_third_after_a_one(value, text):
    """ "At most 83.7×" said more than a bound knows, and "at least 1.0×" of 1.02 would say less than it does."""
    assert units.bound(value) == text


@given(st.floats(1e-3, 1e6), st.floats(1e-9, 0.5))
def test_the_ends_of_an_interval_are_read_back_within_its_width(value, spread):
    _, ends = units.with_interval(value, value * (1 - spread), value * (1 + spread))
    low, high = (float(end.replace(",", "")) for end in ends.split("–"))
    assert low <= high
    assert low == pytest.approx(value * (1 - spread), rel=1e-3, abs=value * spread)


@pytest.mark.parametrize(
    ("change", "text"), [(0.0213, "+2.1 %"), (-0.133, "−13 %"), (0.00213, "+0.21 %"), (0.00001, "±0.00 %"), (12, "+1,200 %")]
)
def test_percent(change, text):
    assert units.percent(change).replace("\u00a0", " ") == text


def test_what_stands_between_backticks_is_code_and_all_of_it_is_escaped():
    assert units.coded("`a<b>` & `c`, a lone ` too") == "<code>a&lt;b&gt;</code> &amp; <code>c</code>, a lone ` too"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "1 s"), (4.4, "4 s"), (89.4, "89 s"), (90, "2 min"), (720, "12 min"), (5399, "90 min"), (7200, "2 h"), (12000, "3.3 h")],
)
def test_a_time_is_in_the_unit_in_which_its_number_is_easily_read(seconds, text):
    assert amounts.duration(seconds) == units.duration(seconds) == text


@given(st.floats(0, 1e7))
def test_a_time_in_words_is_the_time(seconds):
    number, unit = amounts.duration(seconds).split()
    assert float(number) * {"s": 1, "min": 60, "h": 3600}[unit] == pytest.approx(seconds, rel=0.34, abs=1)


@pytest.mark.parametrize(
    ("count", "text"), [(0, "0 kB"), (12_345, "12 kB"), (93_400_000, "93 MB"), (1e8, "0.1 GB"), (4.86e9, "4.9 GB"), (1.5e12, "1,500.0 GB")]
)
def test_a_size_is_in_the_unit_in_which_its_number_is_easily_read(count, text):
    assert amounts.size(count) == text


def test_parts_that_hold_commas_are_told_apart_by_semicolons():
    assert units.listed(["SDPA", "bfloat16", "vLLM"]) == "SDPA, bfloat16 and vLLM"
    assert units.listed(["SDPA", "SDPA, flash kernel only", "bfloat16"]) == "SDPA; SDPA, flash kernel only; and bfloat16"
    assert units.listed(["vLLM, FP8", "bfloat16"]) == "vLLM, FP8 and bfloat16"
