"""Curves over sizes and over steps: time, speed and memory of growing lengths or batches, and the loss of training."""

from collections.abc import Mapping, Sequence

import altair as alt
import pandas as pd

from speedgrid.report import units
from speedgrid.report.charts import base, lines
from speedgrid.report.charts.base import MUTED, Figure
from speedgrid.report.language import tr
from speedgrid.report.tables import Group, each

GROWS = {"batch_size": "batch size (examples)", "sequence": "sequence (tokens)", "layers": "layers"}
LENGTHS = {"attention": "sequence (tokens)", "growth": "length of the reply (tokens)"}
BOTH = "Both axes are logarithmic."
ENDED = " A cross is a size at which memory ran out."
CROSS = "M-1,-1L1,1M-1,1L1,-1"


def loss_figure(group: Group) -> Figure | None:
    """The loss over the counted steps, a line for each technique."""
    losses = group.replies[group.replies.loss.notna() & (group.replies.run == 1)][["technique", "reply", "loss"]]
    if losses.empty:
        return None
    rows = base.prepare(group.rows)[["technique", "name", "state", "kind"]]
    table = rows.merge(losses, on="technique").round({"loss": 6}).drop(columns="technique")
    found = table.groupby("name", sort=False).loss.last()
    last = int(table.reply.max())
    axis = alt.Axis(values=list(range(1, last + 1, max(1, round(last / 5)))), format="d", labelFlush=False)
    ends = [float(table.loss.min()), float(table.loss.max())]
    room = (ends[1] - ends[0]) * 0.05 or 0.1
    ends = [ends[0] - room, ends[1] + room]
    x = alt.X("reply:Q", title="counted step", axis=axis, scale=alt.Scale(nice=False, zero=False))
    y = alt.Y("loss:Q", title="loss (nat)", scale=alt.Scale(domain=ends, nice=False))
    return Figure(
        "loss",
        tr("Loss over the counted steps"),
        tr(
            "On one batch that does not change. A line that rises, ends or lies above the others is a number format that does not train."
            " The axis need not start at 0."
        ),
        base.as_page(base.layered(*lines.drawn(table, x, y, ends, log=False, points=False)), lines.HEIGHT),
        base.legend(group),
        "; ".join(f"{name} {units.number(float(loss))}" for name, loss in found.items()),
        (*base.ROW_COLUMNS, "loss_first", "loss_last"),
    )


def time_figure(group: Group, points: Sequence[Mapping]) -> Figure | None:
    """Time of a step, pass or reply against the size, both on logarithmic axes."""
    noun = group.noun
    caption = tr(
        "Less is better: the time of a {} at its speed, with its 95\u00a0% interval. {} A power of the size is a straight line."
    ).format(tr(noun), tr(BOTH))
    return _figure(group, points, "time_s", ("time", tr("Time of a {} by size").format(tr(noun)), caption))


def rate_figure(group: Group, points: Sequence[Mapping]) -> Figure | None:
    """Speed against the size."""
    caption = tr("More is better: how much is done in a second at each size, with its 95\u00a0% interval. {}").format(tr(BOTH))
    return _figure(group, points, "rate", ("rate", tr("Speed by size"), caption))


def memory_figure(group: Group, points: Sequence[Mapping]) -> Figure | None:
    """Memory against the size."""
    caption = tr("Less is better. The most that was held at a size, without what was held before the first one. {}").format(tr(BOTH))
    return _figure(group, points, "memory_more", ("memory-size", tr("Memory by size"), caption))


def _figure(group: Group, points: Sequence[Mapping], field: str, said: tuple[str, str, str]) -> Figure | None:
    table, unit = _table(group, points, field)
    if table.empty:
        return None
    name, title, caption = said
    words = [
        f"{label}: " + ", ".join(f"{row.size:,}: {units.number(row.value)} {unit}" for row in each(own))
        for label, own in table.groupby("name", sort=False)
    ]
    ended = _ended(group, points, table)
    chart = _curves(table, ended, _size(group), {"time_s": "time", "rate": "speed", "memory_more": "memory"}[field], unit)
    columns = ("label", "point", "status", field)
    return Figure(name, title, caption + (tr(ENDED) if len(ended) else ""), chart, base.legend(group), "; ".join(words), columns)


def _table(group: Group, points: Sequence[Mapping], field: str) -> tuple[pd.DataFrame, str]:
    """A row a technique and size that was measured, with `value` in the unit beside it, and its interval."""
    rows = base.prepare(group.rows)[["technique", "name", "state", "kind"]]
    there = [row for row in points if row["rate"] is not None and row[field] is not None and row[field] > 0]
    unit = units.Scale(f"{group.unit}/s") if field == "rate" else units.scale({"time_s": "s"}.get(field, "B"), [r[field] for r in there])
    ends = {"time_s": ("time_low_s", "time_high_s"), "rate": ("rate_low", "rate_high")}.get(field, ())
    told = pd.DataFrame(
        [
            {"technique": row["technique"], "size": row["point"], "value": row[field] / unit.size}
            | {side: unit(row[end]) for side, end in zip(("low", "high"), ends, strict=False)}
            for row in there
        ],
        columns=["technique", "size", "value", *(("low", "high") if ends else ())],
    )
    table = rows.merge(told, on="technique").drop(columns="technique")
    # An interval that reaches below nothing has no place on a logarithmic axis.
    for side in ("low", "high") if ends else ():
        table[side] = table[side].astype(float).clip(lower=table.value / 10)
    return table, unit.unit


def _ended(group: Group, points: Sequence[Mapping], table: pd.DataFrame) -> pd.DataFrame:
    """The sizes at which memory ran out, each as high as the last point of its technique."""
    labels = base.prepare(group.rows).set_index("technique")
    last = table.groupby("name", sort=False).value.last()
    found = []
    for row in points:
        if row["rate"] is None and row["point"] and row["technique"] in labels.index and labels.name[row["technique"]] in last.index:
            name, asked = labels.name[row["technique"]], row["asked_bytes"]
            why = units.ended(row["status"], asked)
            found.append({"name": name, "kind": labels.kind[row["technique"]], "size": row["point"], "value": last[name], "why": why})
    return pd.DataFrame(found, columns=["name", "kind", "size", "value", "why"])


def _curves(table: pd.DataFrame, ended: pd.DataFrame, size: str, what: str, unit: str) -> alt.LayerChart:
    ends = lines.domain(table[["value", *(("low", "high") if "low" in table else ())]].stack(), log=True)
    x = alt.X(
        "size:Q", title=size, scale=alt.Scale(type="log", base=2, nice=False), axis=lines.size_ticks([*table["size"], *ended["size"]])
    )
    scale = alt.Scale(type="log", domain=ends, nice=False)
    y = alt.Y("value:Q", title=f"{tr(what)} ({unit})", scale=scale, axis=alt.Axis(format=",~g", values=base.log_ticks(*ends)))
    layers = lines.drawn(table, x, y, ends)
    if len(ended):
        tooltip = base.tooltip(why="ended")
        cross = alt.Chart(ended).mark_point(shape=CROSS, size=70, strokeWidth=2, filled=False, color=MUTED)
        layers.append(cross.encode(x=x, y=y, tooltip=tooltip, opacity=base.opacity()))
    return base.as_page(base.layered(*layers), lines.HEIGHT)


def _size(group: Group) -> str:
    """What grows, with its unit."""
    grows = next((one for one in group.rows.grows if one), "")
    return tr(GROWS.get(grows) or LENGTHS.get(group.workload, "size"))
