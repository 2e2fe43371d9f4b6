"""Points with names on two axes: where the names stand; and memory against speed, for training steps and passes."""

import math
from collections.abc import Sequence
from typing import Any

import altair as alt
import pandas as pd

from speedgrid.report import units
from speedgrid.report.charts import base, families
from speedgrid.report.charts import memory as memories
from speedgrid.report.charts.base import OFF_INK, PAPER, Figure
from speedgrid.report.charts.labels import LINE, place_labels, wrapped
from speedgrid.report.language import tr
from speedgrid.report.tables import Group, each

MEMORY = ("rate_low", "rate_high", "memory")
ALL_LABELLED = 16  # techniques; of more, the pale ones have their names in tooltips alone
HEIGHT = 340
TEXT: dict[str, Any] = {
    "baseline": "middle",
    "lineBreak": "\n",
    "lineHeight": LINE,
    "fontSize": 11.5,
    "dx": alt.ExprRef("datum.dx"),
    "dy": alt.ExprRef("datum.text_dy"),
    "align": alt.ExprRef("datum.align"),
}


def memory_figure(group: Group) -> Figure | None:
    """Peak memory against speed: what checkpointing, accumulation and number formats trade for one another."""
    there = _with_memory(group.rows)
    if len(there) < 2:
        return None
    unit = memories.scale(there)
    return Figure(
        "memory-speed",
        tr("Memory against speed"),
        tr(
            "Right and low is better: memory and typical speed, with its 95\u00a0% interval. A technique to the left and below the"
            " baseline gives time for memory."
        )
        + memories.two_sources(group.rows),
        memory(group.rows, f"{group.unit}/s"),
        base.legend(group),
        "; ".join(f"{row.label} {units.number(row.rate)} {group.unit}/s, {unit.text(row.memory)}" for row in each(there)),
        (*base.ROW_COLUMNS, *MEMORY[:2], *memories.SOURCED),
    )


def memory(rows: pd.DataFrame, unit: str) -> alt.LayerChart:
    """Peak memory against speed, both from 0."""
    table = base.prepare(_with_memory(rows), MEMORY).reset_index(drop=True)
    size, name = memories.scale(rows), memories.named(rows)
    table["peak"] = table.memory / size.size
    x_domain, y_domain = [0.0, base.largest(table.rate_high.fillna(table.rate)) * 1.08], [0.0, base.largest(table.peak) * 1.15]
    table = labelled(table, ("rate", x_domain), ("peak", y_domain), HEIGHT, [False] * len(table))
    table["speed"] = [base.interval(row.rate, row.rate_low, row.rate_high, f" {unit}") for row in each(table)]
    table["memory"] = [size.text(value) for value in table.memory]
    x = alt.X("rate:Q", title=unit, scale=alt.Scale(domain=x_domain, nice=False), axis=base.ticks())
    y = alt.Y("peak:Q", title=f"{name} ({size.unit})", scale=alt.Scale(domain=y_domain, nice=False), axis=alt.Axis(tickCount=5))
    placed = alt.Chart(table).encode(x=x, y=y)
    tooltip = base.tooltip(speed="speed, 95 % interval", memory=name, outcome="status")
    color, shape = base.color(table), base.shape(table)
    chart = base.layered(
        leaders(placed, "rate", "peak"),
        placed.mark_rule(strokeWidth=2).encode(x=alt.X("rate_low:Q"), x2=alt.X2("rate_high:Q"), color=color, opacity=base.opacity(0.6)),
        placed.mark_point(filled=True, size=100).encode(color=color, shape=shape, opacity=base.opacity(), tooltip=tooltip),
        *names(placed, base.text_ink()),
    )
    return base.as_page(chart, HEIGHT, padding=False)


def _with_memory(rows: pd.DataFrame) -> pd.DataFrame:
    """The cells with a speed and a peak, and `memory` that stands beside that of the others."""
    there = rows.assign(memory=memories.comparable(rows))
    return there[there.rate.notna() & there.memory.notna()]


def labelled(
    table: pd.DataFrame, x: tuple[str, list[float]], y: tuple[str, list[float]], height: float, pale: Sequence[bool]
) -> pd.DataFrame:
    """The table with where the label of each point stands: offsets in pixels, and whether a line leads there. `x` and `y` are a column and
    the ends of its axis; `pale` points have no label where there are many."""
    (x_field, x_domain), (y_field, y_domain) = x, y
    xs = [(value - x_domain[0]) / (x_domain[1] - x_domain[0]) for value in table[x_field]]
    ys = [height * (y_domain[1] - value) / (y_domain[1] - y_domain[0]) for value in table[y_field]]
    few = len(table) <= ALL_LABELLED
    named = [few or not faint or state == families.BASELINE for faint, state in zip(pale, table.state, strict=True)]
    shown = [index for index, one in enumerate(named) if one]
    others = [(xs[index], ys[index]) for index, one in enumerate(named) if not one]
    spots = place_labels([(xs[index], ys[index]) for index in shown], [table.name[index] for index in shown], height, others)
    placed = dict(zip(shown, spots, strict=True))
    spots = [placed.get(index, (0.0, 0.0, "left", False)) for index in range(len(table))]
    table["label_lines"] = [wrapped(name) if one else "" for name, one in zip(table.name, named, strict=True)]
    table["dx"], table["dy"], table["align"], table["led"] = zip(*spots, strict=True)
    half = [text.count("\n") * LINE / 2 for text in table.label_lines]
    table["text_dy"] = table.dy - half  # Vega centres the first line
    reach = [(lines + LINE / 2) * (align == "center") for lines, align in zip(half, table["align"], strict=True)]
    table["lead_dy"] = [dy - math.copysign(end, dy) for dy, end in zip(table.dy, reach, strict=True)]
    return table


def leaders(placed: alt.Chart, x: str, y: str) -> alt.Chart:
    """Lines from points to labels that are not beside them."""
    ends: dict[str, Any] = {"x2Offset": alt.ExprRef("datum.dx"), "y2Offset": alt.ExprRef("datum.lead_dy")}
    return placed.transform_filter("datum.led").mark_rule(color=OFF_INK, **ends).encode(x2=alt.X2(x), y2=alt.Y2(y))


def names(placed: alt.Chart, ink) -> list[alt.Chart]:
    """The labels, on a ground of paper where lines run under them."""
    named = placed.transform_filter("datum.label_lines != ''")
    ground = named.mark_text(**TEXT, stroke=PAPER, strokeWidth=3, strokeJoin="round")
    return [ground.encode(text=alt.Text("label_lines:N")), named.mark_text(**TEXT).encode(text=alt.Text("label_lines:N"), color=ink)]
