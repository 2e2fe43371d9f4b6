"""Figures with their intervals, and names, as the sentences of the answer have them: Markup in which what comes from outside is escaped."""

from collections.abc import Iterable

from markupsafe import Markup

from speedgrid.report import units
from speedgrid.report.language import ENGLISH, now, told_reason, tr


def in_words(count: float) -> str:
    """A large number, such as how many parameters a model has: 135 million."""
    for size, words in now().numbers:
        if count >= size:
            round_one = count % size == 0  # a round number, such as a limit, needs no further digits
            return words.format(f"{count / size:.0f}" if round_one else units.number(float(count) / size, 2 if count < 10 * size else 3))
    return f"{count:,.0f}"


def speed(row, what: str = "") -> Markup:
    """The speed of a row of the summary."""
    return interval(row.rate, row.rate_low, row.rate_high, f" {row.unit}/s", what)


def ratio(row) -> Markup:
    """Its speed-up."""
    text, ends = units.speedup(row.speedup, row.speedup_low, row.speedup_high, row.verdict)
    return _whole(text, ends)


def interval(value: float, low: float | None, high: float | None, unit: str, what: str = "") -> Markup:
    """A figure, and in brackets its interval with what that is; or the bound that is known of it."""
    text, ends = units.with_interval(value, low, high)
    return _whole(f"{text}{unit}", ends, what)


def _whole(text: str, ends: str, what: str = "") -> Markup:
    around = Markup(" ({}<span class='whole'>{}</span>)").format(what, ends) if ends else ""
    return Markup("<span class='whole'>{}</span>{}").format(text, around)


def names(labels: Iterable[str]) -> Markup:
    """The labels of techniques, as a part of a sentence."""
    return units.listed([Markup("<strong>{}</strong>").format(label) for label in labels])


def sentence(reason: str | None) -> Markup:
    """A reason as a sentence of its own."""
    return recorded((reason or "").strip() or tr("No reason was recorded"), as_sentence=True)


def recorded(reason: str, as_sentence: bool = False) -> Markup:
    """A reason as HTML: what the report says itself in the language that is spoken; what a job wrote down as it is, which is English and
    marked as that for those who hear the page."""
    said = told_reason(reason)
    is_a_jobs = said == reason != tr("No reason was recorded") and now() is not ENGLISH
    text = said[:1].upper() + said[1:] + ("" if said.endswith((".", "!", "?", "。")) else ".") if as_sentence else said
    return Markup('<span lang="en">{}</span>').format(units.coded(text)) if is_a_jobs else units.coded(text)


def status(name: str) -> str:
    """A status in short; `ok` is the same in every language."""
    return name if name == "ok" else tr(name.replace("_", " "))
