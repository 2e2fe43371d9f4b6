"""The chart beside the answer: speed-ups with their intervals, what keeps the model's quality apart from what has a price."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import altair as alt
import pandas as pd

from speedgrid.report import units
from speedgrid.report.advice import Quality
from speedgrid.report.charts import base
from speedgrid.report.charts.base import INK, MUTED, Figure
from speedgrid.report.charts.speed import ITEMS_A_SECOND
from speedgrid.report.language import tr
from speedgrid.report.tables import Group, each

COLUMNS = ("speedup", "speedup_low", "speedup_high", "verdict", "rate_low", "rate_high", "largest", "unit")
NAME, MARK = 11, 27  # pixels from the top of a row to the middle of its name, and to its mark
ROW, HEAD = 38, 22  # heights of a row, and of the words over a block
LETTER = 6.2  # width of a character of a figure in words, on average; those of Japanese are twice as wide
WIDE = "\u2e80"  # the first of these
# By what a technique does to quality: the words over a block, and how many techniques of it are drawn.
BLOCKS = {"kept": ("Quality kept", 5), "price": ("At a price in quality", 3), "unknown": ("Quality not known", 3)}
UNCHANGED = "Arithmetic unchanged"  # over what keeps the model's by construction, where nobody measured the quality of anything


class Row(NamedTuple):
    """A technique: its figure with its interval, that in words, and its price in quality. Where only a bound of a speed-up is known, that
    is one end, and the figure is None; where nothing is, so are both ends."""

    technique: str
    value: float | None
    low: float | None
    high: float | None
    text: str
    price: str


def proof_figure(group: Group, qualities: Mapping[str, Quality]) -> Figure | None:
    """What proves the answer of a group; None where fewer than two techniques can be compared."""
    if len(group.engaged) < 2:
        return None
    told = {row.technique: row for row in _told(group, qualities)}
    if len(told) < 2:
        return None
    blocks = _blocks(group, qualities, list(told))
    shown = [name for names in blocks.values() for name in names]
    left_out = len(told) - len(shown)
    figures = "; ".join(f"{group.rows.label[group.rows.technique == name].iloc[0]} {told[name].text}" for name in shown)
    return Figure(
        "proof",
        _title(group),
        _caption(group, blocks, left_out, any(units.is_bound(*told[name][1:4]) for name in shown)),
        _chart(group, blocks, told, qualities),
        [],
        figures,
        (*base.ROW_COLUMNS, *COLUMNS),
    )


def _title(group: Group) -> str:
    if group.seeks_largest:
        return tr("The largest size that fits")
    return tr(ITEMS_A_SECOND[group.unit]) if group.baseline is None else tr("Speed-up over {}").format(group.baseline.label)


def _caption(group: Group, blocks: Mapping[str, Sequence[str]], left_out: int, is_bounded: bool) -> str:
    said = []
    if not group.seeks_largest:
        # That of a speed ends where its replies do.
        of_speeds = tr("Lines are 95\u00a0% intervals, within the replies that were seen.")
        said.append(of_speeds if group.baseline is None else tr("Lines are 95\u00a0% intervals, noise between runs included."))
    if is_bounded:
        said.append(tr(base.ONE_END))
    if set(blocks) - {"kept"}:
        said.append(tr("Hollow marks do not keep the model's quality, or nobody knows whether they do."))
    if left_out:
        more = tr("One more is in the charts below.") if left_out == 1 else tr("{} more are in the charts below.")
        said.append(more.format(left_out))
    return " ".join(said)


def _told(group: Group, qualities: Mapping[str, Quality]) -> list[Row]:
    """The engaged techniques that have the figure that the answer is about, the best first."""
    rows, largest = group.engaged, group.seeks_largest
    name = "largest" if largest else "rate" if group.baseline is None else "speedup"
    found = []
    there = base.with_speedups(rows) if name == "speedup" else rows[rows[name].notna()]
    # A speed-up is the ratio of two speeds.
    for row in each(there.sort_values("rate" if name == "speedup" else name, ascending=False, kind="stable")):
        value = None if units.is_missing(getattr(row, name)) else float(getattr(row, name))
        low, high = (None, None) if largest else (getattr(row, f"{name}_low"), getattr(row, f"{name}_high"))
        if largest:
            text = units.number(int(row.largest))
        elif name == "speedup":
            text = "1×" if row.is_baseline else base.speedup(row)
        else:
            text = base.interval(row.rate, low, high)
        found.append(Row(row.technique, value, low, high, text, price(qualities[row.technique])))
    return found


def price(quality: Quality) -> str:
    """What a technique costs in quality, in a few words; empty where it costs nothing."""
    if quality.is_safe:
        return ""
    if quality.kind == "unknown":
        return tr("quality not known")
    return quality.in_short if quality.is_bits else tr("a loss of quality")


def _blocks(group: Group, qualities: Mapping[str, Quality], ranked: Sequence[str]) -> dict[str, list[str]]:
    """The techniques that are drawn, by what they do to quality, the best first; the baseline is always among them."""
    baseline = None if group.baseline is None else group.baseline.technique
    found = {}
    for block, (_, most) in BLOCKS.items():
        own = [name for name in ranked if _block(qualities[name]) == block]
        if there := [name for place, name in enumerate(own) if place < most or name == baseline]:
            found[block] = there
    return found


def _block(quality: Quality) -> str:
    return "kept" if quality.is_safe else "unknown" if quality.loss is None and quality.kind == "unknown" else "price"


def _head(block: str, own: Sequence[Quality]) -> str:
    """The words over a block; of what nobody measured is said no more than is known."""
    return tr(UNCHANGED) if any(quality.kind == "assumed" for quality in own) else tr(BLOCKS[block][0])


def _chart(group: Group, blocks: Mapping[str, Sequence[str]], told: Mapping[str, Row], qualities: Mapping[str, Quality]) -> alt.LayerChart:
    """A row for each technique: its name and its figure in words, under them its mark with its interval; words over each block."""
    prepared = base.prepare(group.rows).set_index("technique")
    rows, heads, at = [], [], 0
    for block, names in blocks.items():
        if len(blocks) > 1:
            heads.append({"words": _head(block, [qualities[name] for name in names]), "y": at + HEAD / 2})
            at += HEAD
        for name in names:
            own, row = prepared.loc[name], told[name]
            # Beside a price there is no room for the interval in words, too.
            said, short = (f"{words} · {row.price}" if row.price else words for words in (row.text, row.text.partition(" (")[0]))
            shown: dict[str, Any] = {"figure": said, "text": short if row.price else said}
            shown["room"] = round(sum(LETTER * (1 + (letter >= WIDE)) for letter in shown["text"]) + 12)
            places = {"y": at + NAME, "mark": at + MARK, "low": row.low, "high": row.high, "value": row.value, "kept": block == "kept"}
            rows.append({"name": own["name"], "kind": own.kind, "state": own.state} | shown | places)
            at += ROW
    table = pd.DataFrame(rows).astype({"low": float, "high": float, "value": float})
    return base.as_page(base.layered(*_layers(group, table, heads, at)), at)


def _layers(group: Group, table: pd.DataFrame, heads: Sequence[Mapping], height: float) -> list[alt.Chart | alt.LayerChart]:
    x, one = _axis(group, table)
    table = base.to_the_edge(table, "low", "high", "value", x["scale"]["domain"])
    down = alt.Scale(domain=[height, 0], range=[height, 0], nice=False, zero=False)
    at = {name: alt.Y(f"{name}:Q", scale=down, axis=None) for name in ("y", "mark")}
    color, shape = base.color(table), base.shape(table)
    # Not called as the axis is, so that no two columns of the data have one name.
    in_words = tr("{}, 95 % interval").format(x["title"]) if x["title"] else tr("figure")
    tooltip = [alt.Tooltip("name:N", title="technique"), alt.Tooltip("figure:N", title=in_words)]
    placed = alt.Chart(table).encode(y=at["mark"])
    point = {"x": x, "color": color, "shape": shape, "opacity": base.opacity(), "tooltip": tooltip}
    named = alt.Chart(table).encode(y=at["y"])
    figure = named.encode(x=alt.XValue("width"), text=alt.Text("text:N"))
    label = named.encode(x=alt.XValue(0), text=alt.Text("name:N"))
    bold: dict[str, Any] = {"align": "left", "fontWeight": 600, "limit": alt.ExprRef("width - datum.room")}
    layers: list[alt.Chart | alt.LayerChart] = [] if one is None else [one]
    layers += [
        placed.mark_rule(strokeWidth=3).encode(x=alt.X("drawn_low:Q"), x2=alt.X2("drawn_high:Q"), color=color, opacity=base.opacity(0.75)),
        base.arrows(placed, table, color),
        placed.transform_filter("datum.kept && isValid(datum.value)").mark_point(filled=True, size=90).encode(**point),
        # On paper's colour, so that the interval does not run through what is hollow.
        placed.transform_filter("!datum.kept && isValid(datum.value)")
        .mark_point(filled=False, size=80, strokeWidth=2, fill=base.PAPER)
        .encode(**point),
        # On a ground of paper, so that no line of the axis runs through a name.
        label.mark_text(stroke=base.PAPER, strokeWidth=3, strokeJoin="round", **bold),
        label.mark_text(**bold).encode(color=alt.ColorValue(INK), opacity=base.opacity()),
        figure.mark_text(align="right", stroke=base.PAPER, strokeWidth=3, strokeJoin="round"),
        figure.mark_text(align="right").encode(color=alt.ColorValue(INK), opacity=base.opacity()),
    ]
    if heads:
        over = alt.Chart(pd.DataFrame(heads)).encode(y=at["y"], text=alt.Text("words:N"), x=alt.XValue(0))
        layers.append(over.mark_text(align="left", fontSize=11.5, fontStyle="italic", color=MUTED))
    return layers


def _axis(group: Group, table: pd.DataFrame) -> tuple[alt.X, alt.Chart | None]:
    """The axis, logarithmic for speed-ups, and the line at 1."""
    ends = [float(value) for name in ("low", "high", "value") for value in table[name].dropna()]
    if group.seeks_largest or group.baseline is None:
        title = None if group.seeks_largest else f"{group.unit}/s"
        return alt.X("value:Q", title=title, scale=alt.Scale(domain=[0, max(ends) * 1.05], nice=False), axis=base.ticks()), None
    low, high = min(1.0, *ends), max(1.0, *ends)
    room = max((high / low) ** 0.05, 1.02)
    domain = [low / room, high * room]
    axis = alt.Axis(values=base.ratio_ticks(*domain), format="~g", labelExpr="datum.label + '×'")
    x = alt.X("value:Q", title=None, scale=alt.Scale(type="log", domain=domain, nice=False), axis=axis)
    line = alt.Chart(pd.DataFrame({"one": [1.0]})).mark_rule(color=base.BASELINE_INK, strokeDash=[4, 3])
    return x, line.encode(x=alt.X("one:Q", scale=x["scale"]))
