"""Curves over sizes and over steps: time and memory of growing lengths or batches, and the loss of training."""

from collections.abc import Mapping, Sequence

import altair as alt
import pandas as pd

from speedgrid.report import units
from speedgrid.report.charts import base
from speedgrid.report.charts.base import Figure, Key
from speedgrid.report.tables import Group

SERIES = 8  # colours that can be told apart


def loss_figure(group: Group) -> Figure | None:
    """The loss over the counted steps, a line for each technique."""
    losses = group.replies[group.replies.loss.notna() & (group.replies.run == 1)].merge(group.rows[["technique", "label"]], on="technique")
    if losses.empty:
        return None
    table = losses[["label", "reply", "loss"]].round({"loss": 6})
    ends = losses.groupby("label", sort=False).loss.last()
    words = "; ".join(f"{label} {units.number(float(loss))}" for label, loss in ends.items())
    chart = _lines(
        table, alt.X("reply:Q", title="counted step", axis=alt.Axis(tickMinStep=1)), alt.Y("loss:Q", title="loss", scale=_loose())
    )
    caption = "On one batch that does not change. A line that rises, ends or lies above the others is a number format that does not train."
    return Figure("loss", "Loss over the counted steps", caption, chart, _line_legend(table.label), words)


def time_figure(group: Group, points: Sequence[Mapping]) -> Figure | None:
    """Time of a pass against the size, both on logarithmic axes."""
    table = _measured_points(points)
    table["ms"] = table.latency_mean_s * 1e3
    y = alt.Y("ms:Q", title="time (ms)", scale=alt.Scale(type="log"), axis=alt.Axis(format=",~g"))
    caption = "Less is better. Both axes are logarithmic, where a power of the size is a straight line."
    chart = _lines(table, _size_axis(table), y)
    return Figure("time", "Time by size", caption, chart, _line_legend(table.label), _words(table, "ms", "ms"))


def memory_figure(group: Group, points: Sequence[Mapping]) -> Figure | None:
    """Memory against the size."""
    table = _measured_points(points)
    table = table[table.memory_more > 0]
    if table.empty:
        return None
    table["mib"] = table.memory_more / 2**20
    y = alt.Y("mib:Q", title="memory (MiB)", scale=alt.Scale(type="log"), axis=alt.Axis(format=",~g"))
    caption = "Less is better. The most that was held at a size, without what was held before the first one. Both axes are logarithmic."
    chart = _lines(table, _size_axis(table), y)
    return Figure("memory-size", "Memory by size", caption, chart, _line_legend(table.label), _words(table, "mib", "MiB"))


def _measured_points(points: Sequence[Mapping]) -> pd.DataFrame:
    table = pd.DataFrame([row for row in points if row["rate"] is not None])
    return table[["label", "point", "latency_mean_s", "memory_more"]].astype({"memory_more": float})


def _lines(table: pd.DataFrame, x: alt.X, y: alt.Y) -> alt.LayerChart:
    """A line for each label, with its points."""
    labels = list(dict.fromkeys(table.label))
    color = alt.Color("label:N", scale=alt.Scale(domain=labels, range=[_ink(number) for number in range(len(labels))]), legend=None)
    dash = alt.StrokeDash("label:N", scale=alt.Scale(domain=labels, range=[_dash(number) for number in range(len(labels))]), legend=None)
    line = alt.Chart(table).encode(x=x, y=y, color=color)
    tooltip = [alt.Tooltip("label:N", title="technique"), alt.Tooltip(x.shorthand), alt.Tooltip(y.shorthand, format=".4~g")]
    layers = alt.layer(line.mark_line(strokeWidth=2).encode(strokeDash=dash), line.mark_point(filled=True, size=36).encode(tooltip=tooltip))
    return layers.properties(width="container", height=300, autosize=base.FIT).configure(**base.CONFIG)


def _line_legend(labels: Sequence[str]) -> list[Key]:
    return [Key(f"--chart-line-{number % SERIES + 1}", label) for number, label in enumerate(dict.fromkeys(labels))]


def _ink(number: int) -> str:
    return f"var(--chart-line-{number % SERIES + 1})"


def _dash(number: int) -> list[int]:
    return [[1, 0], [6, 3], [2, 2]][number // SERIES % 3]


def _size_axis(table: pd.DataFrame) -> alt.X:
    """The sizes that were measured, as numbers: 1024 is no 1.024k."""
    axis = alt.Axis(values=sorted(set(table.point.tolist())), format=",d", labelOverlap="greedy", labelFlush=False)
    return alt.X("point:Q", title="size", scale=alt.Scale(type="log", base=2, nice=False), axis=axis)


def _loose() -> alt.Scale:
    return alt.Scale(zero=False)


def _words(table: pd.DataFrame, column: str, unit: str) -> str:
    parts = []
    for label, own in table.groupby("label", sort=False):
        parts.append(
            f"{label}: " + ", ".join(f"{row.point:,}: {units.number(float(getattr(row, column)))} {unit}" for row in own.itertuples())
        )
    return "; ".join(parts)
