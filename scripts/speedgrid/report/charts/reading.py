"""How many times faster than people speak and read a technique writes, from the characters or words of its own replies."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import altair as alt
import pandas as pd

from speedgrid.report import units
from speedgrid.report.charts import base, families
from speedgrid.report.charts.base import Figure
from speedgrid.report.language import tr
from speedgrid.report.tables import Group

OF_CODE = frozenset('_=(){}[]<>/\\#+|&%@$^~`"')
MOST_OF_CODE = 0.025  # share of such characters in prose, lists of chat models included; of pieces of Python 97 in 100 have more
LEAST_LETTERED = 0.6  # share of the letters in what is no blank; in tables of numbers it is less
LEAST_LETTERS = 200  # that tell a language
LEAST_JAPANESE = 0.3  # share of the letters


@dataclass(frozen=True)
class Pace:
    """How fast people speak and read silently, in `unit` a minute."""

    unit: str
    speaking: float
    reading: float


# Speech of news in Japanese: about 300 characters a minute. Silent reading: Trauzettel-Klosinski and Dietz (2012), Japanese.
JAPANESE = Pace("characters", 300, 357)
# Speech: about 150 words a minute. Silent reading of English: Brysbaert (2019), a meta-analysis of 190 studies.
WORDS = Pace("words", 150, 238)


def pace(texts: Sequence[str]) -> Pace | None:
    """The pace of the language of texts: Japanese by its characters, others by their words; None for what is no prose, such as code."""
    counts = Counter("".join(texts))
    letters = {character: count for character, count in counts.items() if character.isalpha()}
    amount = sum(letters.values())
    blank = sum(count for character, count in counts.items() if character.isspace())
    of_code = sum(counts[character] for character in OF_CODE)
    if amount < LEAST_LETTERS or of_code > MOST_OF_CODE * counts.total() or amount < LEAST_LETTERED * (counts.total() - blank):
        return None
    japanese = sum(n for character, n in letters.items() if "\u3040" <= character <= "\u30ff" or "\u4e00" <= character <= "\u9fff")
    return JAPANESE if japanese >= LEAST_JAPANESE * amount else WORDS


def times_speech(tokens_per_s: float, amount: int, tokens: float, pace: Pace) -> float:
    """How many times faster than speech: what is written in a second, at `amount` characters or words in `tokens` tokens, over what people
    say in it. (187 tokens of a Japanese text of 319 characters, at 102.69 token/s: 35 times.)"""
    return tokens_per_s * amount / tokens / (pace.speaking / 60)


def reading_figure(group: Group) -> Figure | None:
    """Times of the speed of speech, for techniques whose replies are prose of a trained model."""
    told = _pace(group)
    found = {} if told is None else _times(group, told)
    if told is None or not found:
        return None
    rows = group.rows.assign(times=[found.get(technique, float("nan")) for technique in group.rows.technique])
    return Figure(
        "speech",
        tr("Against people"),
        tr(
            "How many times faster than a person speaks ({} {} a minute) one reply is written, by the {} of its own text. The dashed"
            " line is reading ({} a minute): a bar that ends before it keeps readers waiting."
        ).format(units.number(int(told.speaking)), tr(told.unit), tr(told.unit), units.number(int(told.reading))),
        reading(rows, told),
        base.legend(group),
        base.in_words(rows, "times", tr("× as fast as speech")),
        (*base.ROW_COLUMNS, "new_tokens"),
    )


def reading(rows: pd.DataFrame, pace: Pace) -> alt.LayerChart:
    """A bar for each technique; `rows` has `times`."""
    table = base.prepare(rows, ("times",))
    table["text"] = ["" if units.is_missing(value) else f"{units.number(value)}×" for value in table.times]
    line = pace.reading / pace.speaking
    scale = alt.Scale(domain=[0, max(base.largest(table.times), line * 1.1)], nice=False)
    axis = alt.Axis(tickCount=5, labelFlush=False, format=",~r", labelExpr="datum.label + '×'")
    x = alt.X("times:Q", title="times the speed of speech", scale=scale, axis=axis)
    rowed = alt.Chart(table).transform_filter("isValid(datum.times)").encode(y=base.rows_axis(table))
    reader = alt.Chart(pd.DataFrame({"line": [line]})).mark_rule(color=base.MUTED, strokeDash=[4, 3]).encode(x="line:Q")
    tooltip = base.tooltip(text="times the speed of speech", outcome="status")
    return base.finished(
        reader,
        rowed.mark_bar(size=18).encode(x=x, color=base.color(table), opacity=base.opacity(), tooltip=tooltip),
        rowed.mark_text(align="left", dx=7, fontWeight=600).encode(x=alt.X("times:Q"), text=alt.Text("text:N"), color=base.text_ink()),
        base.notes(table),
        table=table,
    )


def _pace(group: Group) -> Pace | None:
    meaningful = (group.rows.quality_meaningful != False).all()  # noqa: E712
    return pace(list(group.replies.text)) if meaningful and len(group.replies) else None


def _times(group: Group, told: Pace) -> dict[str, float]:
    """By technique: of the first sequence of each of its replies, the one whose text is kept."""
    found = {}
    table = base.prepare(group.rows)
    for technique in table[table.state != families.FAILED].technique:
        own = group.replies[group.replies.technique == technique]
        batch = own.batch_size.fillna(1)
        amount = sum(len(text.strip()) if told.unit == "characters" else len(text.split()) for text in own.text)
        tokens = float((own.new_tokens / batch).sum())
        if amount and tokens:
            each = float((own.rate / batch).median())
            found[technique] = times_speech(each, amount, tokens, told)
    return found
