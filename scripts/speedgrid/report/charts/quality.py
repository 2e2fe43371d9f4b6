"""Quality against speed."""

import math

import altair as alt
import pandas as pd

from speedgrid.report import units
from speedgrid.report.charts import base
from speedgrid.report.charts.base import OFF_INK, PAPER, ROW, Figure
from speedgrid.report.charts.labels import LINE, place_labels, wrapped
from speedgrid.report.tables import Group

QUALITY = ("rate_low", "rate_high", "bits_per_byte")


def quality_figure(group: Group) -> Figure | None:
    """Bits per byte against speed."""
    there = scored(group.rows)
    if there.empty:
        return None
    missing = [row.label for row in group.measured.itertuples() if row.label not in set(there.label)]
    without = f" Not scored: {', '.join(missing)}." if missing else ""
    return Figure(
        "quality",
        "Quality against speed",
        f"Right and low is better: bits per byte on held-out text, taken with the engine and checkpoint that were timed.{without}",
        quality(group.rows),
        base.legend(group),
        base.in_words(there, "bits_per_byte", " bit/B"),
        (*base.ROW_COLUMNS, *QUALITY),
    )


def scored(rows: pd.DataFrame) -> pd.DataFrame:
    """Cells that have a speed and a quality that means something."""
    return rows[rows.rate.notna() & rows.bits_per_byte.notna() & (rows.quality_meaningful != False)]  # noqa: E712


def quality(rows: pd.DataFrame) -> alt.LayerChart:
    """Bits per byte against token/s; labels stand where none covers another or a point, at any width of the page."""
    table = base.prepare(scored(rows), QUALITY).reset_index(drop=True)
    height = max(300, ROW * len(rows))  # as high as the charts beside it
    x_domain = [0, base.largest(table.rate_high.fillna(table.rate)) * 1.08]
    low, high = table.bits_per_byte.min(), table.bits_per_byte.max()
    room = max((high - low) * 0.25, high * 0.005)
    y_domain = [max(0, low - room), high + room]
    xs = [(value - x_domain[0]) / (x_domain[1] - x_domain[0]) for value in table.rate]
    ys = [height * (y_domain[1] - value) / (y_domain[1] - y_domain[0]) for value in table.bits_per_byte]
    spots = place_labels(list(zip(xs, ys, strict=True)), list(table.name), height)
    table["label_lines"] = [wrapped(name) for name in table.name]
    table["dx"], table["dy"], table["align"], table["led"] = zip(*spots, strict=True)
    half = [text.count("\n") * LINE / 2 for text in table.label_lines]
    table["text_dy"] = table.dy - half  # Vega centres the first line
    reach = [(lines + LINE / 2) * (align == "center") for lines, align in zip(half, table["align"], strict=True)]
    table["lead_dy"] = [dy - math.copysign(end, dy) for dy, end in zip(table.dy, reach, strict=True)]
    table["speed_text"] = [base.interval(row.rate, row.rate_low, row.rate_high) for row in table.itertuples()]
    table["quality_text"] = [units.number(value, 4) for value in table.bits_per_byte]
    y_scale = alt.Scale(domain=y_domain, nice=False, zero=False)
    y = alt.Y("bits_per_byte:Q", title="bits per byte (lower is better)", scale=y_scale, axis=alt.Axis(tickCount=5, labelLimit=0))
    x = alt.X("rate:Q", title="token/s", scale=alt.Scale(domain=x_domain, nice=False), axis=base.ticks())
    placed = alt.Chart(table).encode(x=x, y=y)
    tooltip = base.tooltip(speed_text="token/s, 95 % interval", quality_text="bits per byte", outcome="status")
    leader = {"x2Offset": alt.ExprRef("datum.dx"), "y2Offset": alt.ExprRef("datum.lead_dy")}
    text = {"baseline": "middle", "lineBreak": "\n", "lineHeight": LINE, "fontSize": 11.5}
    text |= {"dx": alt.ExprRef("datum.dx"), "dy": alt.ExprRef("datum.text_dy"), "align": alt.ExprRef("datum.align")}
    color, shape = base.color(table), base.shape(table)
    point = placed.mark_point(filled=True, size=110, stroke=PAPER, strokeWidth=1.5)
    chart = alt.layer(
        placed.transform_filter("datum.led").mark_rule(color=OFF_INK, **leader).encode(x2="rate", y2="bits_per_byte"),
        placed.mark_rule(strokeWidth=2).encode(x=alt.X("rate_low:Q"), x2="rate_high:Q", color=color, opacity=base.opacity(0.6)),
        point.encode(color=color, shape=shape, opacity=base.opacity(), tooltip=tooltip),
        placed.mark_text(**text).encode(text="label_lines:N", color=base.text_ink()),
    )
    return base.as_page(chart, height, padding=False)
