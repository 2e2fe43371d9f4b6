"""Numbers for people: the unit that reads best, and as many digits as mean something."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup, escape

from speedgrid import amounts
from speedgrid.report.language import tr
from speedgrid.workload import PLURALS

if TYPE_CHECKING:
    from typing_extensions import TypeIs

    class NaN(float):
        """The float that is no number, which has no type of its own."""


DIGITS = 3
MISSING = "–"
# Below this a number would be mostly zeros.
TINY = 1e-4

# From the smallest: name of the unit, and how many of the base unit it holds.
_SCALES = {
    "s": (("µs", 1e-6), ("ms", 1e-3), ("s", 1.0)),
    "FLOP": (("FLOP", 1.0), ("MFLOP", 1e6), ("GFLOP", 1e9), ("TFLOP", 1e12)),
    "FLOP/s": (("FLOP/s", 1.0), ("MFLOP/s", 1e6), ("GFLOP/s", 1e9), ("TFLOP/s", 1e12)),
    "B": (("B", 1.0), ("KiB", 2.0**10), ("MiB", 2.0**20), ("GiB", 2.0**30), ("TiB", 2.0**40)),
}


@dataclass(frozen=True)
class Scale:
    """A unit for a column or an axis: `value / size` is the number to show."""

    unit: str
    size: float = 1.0

    def __call__(self, value: float | None) -> float | None:
        return None if is_missing(value) else value / self.size

    def text(self, value: float | None, digits: int = DIGITS) -> str:
        """The number with its unit."""
        return number(self(value), digits) + (f" {self.unit}" if self.unit and not is_missing(value) else "")


# What a device must have is told in the unit that cards are sold by, and so apart from what was held, which is told in MiB or GiB.
NEEDED = Scale("GB", 1e9)


def scale(unit: str, values: Iterable[float | None]) -> Scale:
    """One unit for all `values`, which are in `unit`: the largest one in which the largest of them is at least 1.

    Seconds become µs, ms or s, bytes become KiB to TiB and operations MFLOP to TFLOP; every other unit stays.
    """
    largest = max((abs(value) for value in values if not is_missing(value)), default=0)
    fitting = [(name, size) for name, size in _SCALES.get(unit, ()) if largest >= size]
    if fitting:
        return Scale(*fitting[-1])
    return Scale(*_SCALES[unit][0]) if unit in _SCALES and largest > 0 else Scale(unit)


def is_missing(value: object) -> "TypeIs[NaN | None]":
    """Whether there is no value: None, or the NaN that pandas puts in its place."""
    return value is None or value != value


def number(value: float | None, digits: int = DIGITS) -> str:
    """The value with `digits` significant digits and all those of its whole part: 0.0123, 1.23, 12.3, 1,234; what is tiny as 1.23e−5."""
    if is_missing(value):
        return MISSING
    if value == 0 or isinstance(value, int):
        return f"{value:,.0f}"
    # The exponent of the rounded value: that of 0.9999 itself would make 1.000 of it, where 1 is 1.00.
    mantissa, exponent = f"{value:.{digits - 1}e}".split("e")
    if abs(value) < TINY:
        return f"{mantissa}e{int(exponent)}".replace("-", "−")
    return fixed(value, digits - 1 - int(exponent))


def fixed(value: float, decimals: int) -> str:
    """The value with so many decimals (at least none), a proper minus and thousands separators."""
    return f"{value:,.{max(0, decimals)}f}".replace("-", "−")


def plural(noun: str) -> str:
    """Several of what is counted: tokens, replies, passes."""
    return PLURALS.get(noun, f"{noun}s")


def coded(text: str) -> Markup:
    """A text as HTML, in which what stands between backticks is code; the rest is escaped, and so is what is code."""
    # As a plain string: Markup would escape the tags, too.
    return Markup(re.sub("`([^`]+)`", r"<code>\1</code>", str(escape(text))))


def listed(parts: Sequence[str]) -> Markup:
    """Parts of a sentence as HTML: 1, 1 and 2, 1, 2 and 3; what is not Markup yet is escaped. Where a part holds a comma itself, as "SDPA,
    flash kernel only" does, semicolons stand between them."""
    if len(parts) < 2:
        return Markup("").join(parts)
    comma = tr(", ")
    between = "; " if any(comma in part for part in parts) else comma
    last = tr(" and ") if between == comma or len(parts) == 2 else f";{tr(' and ')}"
    return Markup(between).join(parts[:-1]) + Markup(last) + parts[-1]


def is_unknown(value: float | None, low: float | None, high: float | None) -> bool:
    """Whether neither a figure nor a bound of it is known."""
    return is_missing(value) and is_missing(low) and is_missing(high)


def is_bound(value: float | None, low: float | None, high: float | None) -> bool:
    """Whether a bound of a figure is known, and the figure is not."""
    return is_missing(value) and not is_unknown(value, low, high)


def with_interval(value: float | None, low: float | None, high: float | None, apart_from: float | None = None) -> tuple[str, str]:
    """The value and its interval as texts of one precision; the interval is empty where there is none.

    The interval's half width is at least one and a half of the last digit, and the value has at most five digits. What is never negative
    has at least two digits, however wide its interval is, so that ratios of what is printed are those that are printed; its lower end has
    one where it is above 0. An end that is not `apart_from`, and would be written as that, has the digits that it takes. Where one end is
    known and the value is not, that bound is the text.
    """
    if is_missing(value):
        if not is_missing(low):
            return tr("at least {}").format(bound(low)), ""
        return (MISSING if is_missing(high) else tr("at most {}").format(bound(high))), ""
    if is_missing(low) or is_missing(high):
        return number(value), ""
    most = 4 - math.floor(math.log10(abs(value))) if value else 2
    half = (high - low) / 2
    decimals = min(most, -math.floor(math.log10(half / 1.5))) if half > 0 else 2 - math.floor(math.log10(abs(value) or 1))
    if value > 0 and low >= 0:
        decimals = max(decimals, 1 - math.floor(math.log10(value)))
    vanishes = low > 0 and round(low, max(0, decimals)) == 0
    lower, upper = (fixed(end, _decimals_beside(end, decimals, apart_from)) for end in (low, high))
    return fixed(value, decimals), f"{number(low, 1) if vanishes else lower}–{upper}"


def ratio(value: float | None, low: float | None, high: float | None) -> tuple[str, str]:
    """The same of a ratio. On which side of 1 its ends are is what its verdict says: what is faster by 1.03 to 2.1 times is not so by 1.0
    to 2.1."""
    return with_interval(value, low, high, apart_from=1.0)


def _decimals_beside(end: float, decimals: int, apart_from: float | None) -> int:
    """So many decimals, and the more that tell an end of an interval from a figure that it is not; four at most."""
    enough = (more for more in range(max(0, decimals), 4) if end == apart_from or round(end, more) != apart_from)
    return next(enough, max(decimals, 4))


def bound(value: float) -> str:
    """What a figure is at least, or at most: two significant digits, and a third after a 1, of which a tenth is much; next to 1 those that
    tell on which side of it the figure is."""
    digits = 3 if f"{value:e}".startswith("1") else 2
    rounded = float(f"{value:.{digits - 1}e}")
    return fixed(value, _decimals_beside(value, digits - 1, 1.0)) if rounded == 1 else number(rounded, digits)


def is_open(value: float | None, low: float | None, high: float | None, verdict: str | None) -> bool:
    """Whether nothing is known of a speed-up that there is, since disturbance hides both ends of it."""
    return verdict == "unsure" and is_unknown(value, low, high)


def speedup(value: float | None, low: float | None, high: float | None, verdict: str | None, sign: str = "×") -> tuple[str, str]:
    """A speed-up and its interval as texts: the ratio, the bound that is known of it, or that it is open; without any, a dash."""
    if is_open(value, low, high, verdict):
        return tr("open"), ""
    text, ends = ratio(value, low, high)
    return text if text == MISSING else f"{text}{sign}", ends


def speedup_in_full(value: float | None, low: float | None, high: float | None, verdict: str | None, sign: str = "×") -> str:
    """The same in one text, the interval in brackets."""
    text, ends = speedup(value, low, high, verdict, sign)
    return f"{text} ({ends})" if ends else text


def percent(change: float) -> str:
    """A relative change with its sign: 0.021 is +2.1 %, with a space that does not break."""
    hundredths = change * 100
    if abs(hundredths) < 0.005:
        return "±0.00 %"
    return f"{hundredths:+,.{_decimals(hundredths)}f} %".replace("-", "−")


def as_told(change: float) -> float:
    """A relative change in the digits that `percent` tells: 0.0304 is 0.03."""
    return round(change * 100, _decimals(change * 100)) / 100


def _decimals(hundredths: float) -> int:
    return 0 if abs(hundredths) >= 10 else 1 if abs(hundredths) >= 1 else 2


def duration(seconds: float) -> str:
    """How long something takes, in the page's language: 45 s, 12 min, 2.5 h."""
    return amounts.duration(seconds, minutes=tr("{} min"), hours=tr("{} h"))


def ended(status: str, asked_bytes: float | None) -> str:
    """What ended a series of sizes: a status, with the memory that was asked for where that is known."""
    return tr("{}, asked for {}").format(status, scale("B", [asked_bytes]).text(asked_bytes)) if asked_bytes else status
