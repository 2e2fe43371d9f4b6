"""How long a reply, step or pass takes."""

import altair as alt
import pandas as pd

from speedgrid import stats
from speedgrid.report import units
from speedgrid.report.charts import base
from speedgrid.report.charts.base import PAPER, Figure
from speedgrid.report.charts.speed import NOUNS, PLURALS
from speedgrid.report.tables import Group

LATENCY = ("latency_p50_s", "latency_p95_s", "replies")
_BOX = ("name", "p25", "p50", "p75", "p95", "supported", "median", "middle", "tail")


def latency_figure(group: Group) -> Figure:
    """Times of single replies, steps or passes."""
    noun = NOUNS[group.workload]
    milliseconds = group.measured.assign(latency_p50_s=group.measured.latency_p50_s * 1000)
    return Figure(
        "latency",
        f"Time of a {noun}",
        f"Less is better. The thick line holds the middle half of the {PLURALS[noun]}, the gap is the median and the small bar the 95th "
        f"percentile, hollow where there are too few {PLURALS[noun]} to state it. The axis need not start at 0.",
        latency(group.rows, group.replies),
        base.legend(group),
        base.in_words(milliseconds, "latency_p50_s", " ms median"),
        (*base.ROW_COLUMNS, *LATENCY),
    )


def latency(rows: pd.DataFrame, replies: pd.DataFrame) -> alt.LayerChart:
    """Reply times: single replies, middle half, median and 95th percentile."""
    table = base.prepare(rows, LATENCY)
    unit = units.scale("s", table.latency_p95_s)
    measured = table[table.state != "failed"]
    times = {row.name: own / unit.size for row in measured.itertuples() if len(own := replies[replies.technique == row.technique].reply_s)}
    boxes = pd.DataFrame([_box(name, own, unit) for name, own in times.items()], columns=list(_BOX))
    table = table.merge(boxes, on="name", how="left")
    dots = base.dots(table, replies.assign(time=replies.reply_s / unit.size), "time")
    ends = [*(value for own in dots.time for value in own), *table.p95.dropna()]
    room = (max(ends) - min(ends)) * 0.04 or max(ends) * 0.04
    scale = alt.Scale(domain=[max(0, min(ends) - room), max(ends) + room], nice=False)
    x = alt.X("p50:Q", title=f"time ({unit.unit})", scale=scale, axis=base.ticks())
    rowed = alt.Chart(table).transform_filter("isValid(datum.p50)").encode(y=base.rows_axis(table))
    tooltip = base.tooltip(median="median", middle="middle half", tail="95th percentile", replies="replies", outcome="status")
    color = base.color(table)
    p95 = rowed.mark_point(shape="stroke", angle=90, size=160, strokeWidth=3).encode(x="p95:Q", opacity=base.opacity(), tooltip=tooltip)
    few = rowed.transform_filter("!datum.supported").mark_point(shape="circle", size=44, strokeWidth=1.5, filled=False)
    middle = rowed.mark_rule(strokeWidth=9).encode(x=alt.X("p25:Q"), x2="p75:Q", color=color, opacity=base.opacity(0.75), tooltip=tooltip)
    return base.finished(
        base.dot_layer(dots, table, "time", x),
        middle,
        rowed.mark_tick(thickness=3, size=13, color=PAPER, opacity=1).encode(x=x, tooltip=tooltip),
        p95.transform_filter("datum.supported").encode(color=color),
        few.encode(x="p95:Q", color=color, opacity=base.opacity(), tooltip=tooltip),
        base.notes(table),
        table=table,
    )


def _box(name: str, times: pd.Series, unit: units.Scale) -> tuple:
    values = list(times)
    p25, p50, p75, p95 = (stats.percentile(values, q) for q in (0.25, 0.5, 0.75, 0.95))
    supported = stats.percentile_supported(len(values), 0.95)
    needed = "" if supported else f" (not supported: needs {stats.percentile_needs(0.95)} replies)"
    low, middle, high, tail = map(units.number, (p25, p50, p75, p95))
    texts = (f"{middle} {unit.unit}", f"{low}–{high} {unit.unit}", f"{tail} {unit.unit}{needed}")
    return (name, p25, p50, p75, p95, supported, *texts)
