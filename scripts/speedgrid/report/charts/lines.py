"""Curves: a line for each technique, in the colour of its family, with its name at its end."""

import math
from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd

from speedgrid.report.charts import base, families
from speedgrid.report.charts.base import INK, MUTED
from speedgrid.report.charts.labels import LINE, spread, wrapped

HEIGHT = 340
LABEL = 18  # characters of a name where it has one line alone
MOST_LINES = 12  # that can be read in one chart
DASHES = ([1, 0], [6, 3], [2, 2], [8, 3, 2, 3])  # of the lines of one family


def chosen(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows (of base.prepare, the fastest first) that get a line: all that are active, or the fastest of them and the baseline."""
    there = rows[rows.status == "ok"]
    baseline = there[there.state == families.BASELINE]
    others = there[there.state != families.BASELINE].head(MOST_LINES - len(baseline))
    return pd.concat([others, baseline])


def dashes(kinds: Sequence[str]) -> list[list[int]]:
    """A dash for each line of these families: the first of a family is drawn through."""
    return [DASHES[list(kinds[:number]).count(kind) % len(DASHES)] for number, kind in enumerate(kinds)]


def domain(values: pd.Series, log: bool) -> list[float]:
    """Of an axis that holds all values, with room on both sides: logarithmic, or from 0."""
    low, high = float(values.min()), float(values.max())
    if not log:
        return [0.0, high * 1.05 or 1.0]
    room = max((high / low) ** 0.06, 1.02)
    return [low / room, high * room]


def shortened(name: str) -> str:
    """A name where it has one line of text alone."""
    return name if len(name) <= LABEL else name[: LABEL - 1].rstrip() + "…"


def drawn(table: pd.DataFrame, x: alt.X, y: alt.Y, ends: Sequence[float], *, log: bool = True, points: bool = True, step: bool = False):
    """The layers of lines, their names at the right edge of the chart: `table` has name, kind, state and the fields of `x` and `y`; `ends`
    are the ends of y's axis. With points, each has its interval where the table has columns `low` and `high`."""
    x_field, y_field = (axis.shorthand.partition(":")[0] for axis in (x, y))
    last = table.groupby("name", sort=False).tail(1).copy()
    names, kinds = list(last.name), list(last.kind)
    dash = alt.StrokeDash("name:N", scale=alt.Scale(domain=names, range=dashes(kinds)), legend=None)
    scale = math.log if log else float
    low, high = map(scale, ends)
    pixels = [HEIGHT * (high - scale(value)) / (high - low) for value in last[y_field]]
    last["label_lines"] = [wrapped(name, 2) for name in names]
    more = [text.count("\n") * LINE for text in last.label_lines]  # the pixels that a second line takes
    last["dy"] = [to - at for at, to in zip(pixels, spread(pixels, LINE + max(more), 0, HEIGHT), strict=True)]
    last["text_dy"] = [dy - height / 2 for dy, height in zip(last["dy"], more, strict=True)]  # Vega centres the first line
    color = base.color(table)
    line = alt.Chart(table).encode(x=x, y=y, color=color)
    shaped: dict[str, Any] = {"interpolate": "step-after"} if step else {}
    layers = [line.mark_line(strokeWidth=2, **shaped).encode(strokeDash=dash, detail=alt.Detail("name:N"), opacity=base.opacity())]
    if points and "low" in table:
        layers.append(line.mark_rule(strokeWidth=2).encode(y=alt.Y("low:Q"), y2=alt.Y2("high:Q"), opacity=base.opacity(0.6)))
    if points:
        tooltip = [alt.Tooltip("name:N", title="technique"), alt.Tooltip(f"{x_field}:Q", title=x["title"]), _told(y, y_field)]
        layers.append(
            line.mark_point(filled=True, size=44).encode(shape=base.shape(table), opacity=base.opacity(), tooltip=tooltip),
        )
    last["edge"] = table[x_field].max()
    named = alt.Chart(last).encode(y=y)
    edge = alt.X("edge:Q", title=x["title"], scale=x["scale"], axis=x["axis"])
    leader = named.mark_rule(strokeWidth=1, x2Offset=6, y2Offset=alt.ExprRef("datum.dy"))
    text = named.mark_text(align="left", dx=9, dy=alt.ExprRef("datum.text_dy"), fontSize=11.5, lineBreak="\n", lineHeight=LINE)
    ink = alt.ColorValue(INK, condition={"test": f"datum.state == '{families.OFF}'", "value": MUTED})
    return [
        leader.encode(x=x, x2=alt.X2("edge"), y2=alt.Y2(y_field), color=color, opacity=base.opacity(0.35)),
        *layers,
        text.encode(x=edge, text=alt.Text("label_lines:N"), color=ink, opacity=base.opacity()),
    ]


def _told(y: alt.Y, field: str) -> alt.Tooltip:
    return alt.Tooltip(f"{field}:Q", title=y["title"], format=".4~g")


def size_ticks(sizes: Sequence[float]) -> alt.Axis:
    """The sizes that were measured, as numbers: 1024 is no 1.024k."""
    return alt.Axis(values=sorted(set(sizes)), format=",d", labelOverlap="greedy", labelSeparation=8, labelFlush=False)
