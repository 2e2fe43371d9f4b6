"""Prefill, decode and memory: what a technique changes of each."""

import altair as alt
import pandas as pd

from speedgrid import stats
from speedgrid.report import units
from speedgrid.report.charts import base, families
from speedgrid.report.charts import memory as memories
from speedgrid.report.charts.base import Figure, Key
from speedgrid.report.language import tr
from speedgrid.report.tables import Group, each

PHASES = ("prefill_tokens_per_s", "decode_tokens_per_s", "memory")
# Column, name (of memory, memories.named), shape (also the class of the legend), and how far from the middle of its row, in pixels.
PARTS = (
    ("prefill_tokens_per_s", "prefill", "precision", -9),
    ("decode_tokens_per_s", "decode", "quantization", 0),
    ("memory", "", "attention", 9),
)


def phases_figure(group: Group) -> Figure | None:
    """Prefill, decode and memory over the baseline's."""
    table = _table(group.rows, group.replies)
    if group.baseline is None or table.part.nunique() < 2:
        return None
    names = _names(group.rows)
    there = [(name, mark) for name, (*_, mark, _) in zip(names, PARTS, strict=True) if name in set(table.part)]
    words = "; ".join(f"{row.name} {row.part} {units.number(row.ratio)}×" for row in each(table))
    return Figure(
        "phases",
        tr("Prefill, decode and memory over {}").format(group.baseline.label),
        tr("Prefill (reading the prompt) and decode (writing the reply): more is faster. Memory: less is better. 1 is the baseline.")
        + memories.two_sources(group.rows)
        + (tr(" Lines hold the middle half of the replies.") if table.low.notna().any() else ""),
        phases(group.rows, table),
        [Key("--muted", name, mark) for name, mark in there],
        words,
        (*base.ROW_COLUMNS, *PHASES[:2], *memories.SOURCED),
    )


def phases(rows: pd.DataFrame, told: pd.DataFrame) -> alt.LayerChart:
    """Three marks in the row of each technique, on a logarithmic axis around the baseline's 1; `told` is that of `_table`."""
    table = base.prepare(rows)
    ends = pd.concat([told.ratio, told.low, told.high, pd.Series([1.0])]).dropna()
    room = max((ends.max() / ends.min()) ** 0.05, 1.02)
    domain = [float(ends.min() / room), float(ends.max() * room)]
    axis = alt.Axis(values=base.ratio_ticks(*domain), format="~g", labelExpr="datum.label + '×'")
    x = alt.X("ratio:Q", title="over the baseline's", scale=alt.Scale(type="log", domain=domain, nice=False), axis=axis)
    names = _names(rows)
    shapes = alt.Shape("part:N", scale=alt.Scale(domain=names, range=[families.SHAPES[mark] for *_, mark, _ in PARTS]), legend=None)
    placed = alt.Chart(told).encode(y=base.rows_axis(table), color=base.color(told))
    down = alt.ExprRef("datum.down")
    one = alt.Chart(pd.DataFrame({"one": [1.0]})).mark_rule(color=base.BASELINE_INK, strokeDash=[4, 3]).encode(x=alt.X("one:Q"))
    tooltip = base.tooltip(part="of", text="over the baseline's", figure="itself")
    ends = {"x": alt.X("low:Q"), "x2": alt.X2("high:Q")}
    return base.finished(
        one,
        placed.mark_rule(strokeWidth=2, yOffset=down).encode(**ends, opacity=base.opacity(0.6)),
        placed.mark_point(filled=True, size=80, yOffset=down).encode(x=x, shape=shapes, opacity=base.opacity(), tooltip=tooltip),
        base.notes(table),
        table=table,
    )


def _names(rows: pd.DataFrame) -> list[str]:
    """What the parts are called."""
    return [tr(name) if name else memories.named(rows) for _, name, _, _ in PARTS]


def _table(rows: pd.DataFrame, replies: pd.DataFrame) -> pd.DataFrame:
    """A row a technique and part, with its ratio over the baseline's, and that of the middle half of its replies. Where only a bound of
    the speed-up is known, or nothing, nothing is of its phases."""
    needed = rows[[*base.ROW_COLUMNS, *PHASES[:-1]]].assign(memory=memories.comparable(rows))
    table = base.prepare(needed, PHASES)
    columns = ["name", "row", "state", "kind", "part", "down", "ratio", "low", "high", "text", "figure"]
    baseline = table[table.state == families.BASELINE]
    if baseline.empty:
        return pd.DataFrame(columns=columns)
    first = baseline.iloc[0]
    middle = _middle(replies)
    hidden = set(base.hidden(rows).technique)
    unit = memories.scale(rows)
    found = []
    for row in each(table[table.state != families.FAILED]):
        for name, (column, _, _, down) in zip(_names(rows), PARTS, strict=True):
            value, against = getattr(row, column), first[column]
            if units.is_missing(value) or units.is_missing(against) or not against or (column != "memory" and row.technique in hidden):
                continue
            low, high = (end / against for end in middle.get((row.technique, column), (float("nan"),) * 2))
            figure = unit.text(value) if column == "memory" else f"{units.number(value)} token/s"
            ratio = value / against
            text = f"{units.number(ratio)}×"
            found.append((row.name, row.row, row.state, row.kind, name, down, ratio, low, high, text, figure))
    return pd.DataFrame(found, columns=columns)


def _middle(replies: pd.DataFrame) -> dict[tuple[str, str], tuple[float, float]]:
    """The quartiles of the replies' prefill and decode speeds, by technique and column."""
    there = replies[replies.ttft_s.notna() & (replies.ttft_s > 0)]
    numbers = there[["technique"]].assign(
        prefill_tokens_per_s=(there.batch_size * there.prompt_tokens / there.ttft_s).astype(float),
        decode_tokens_per_s=((there.new_tokens - there.batch_size) / (there.reply_s - there.ttft_s)).astype(float),
    )
    found = {}
    for technique, own in numbers.groupby("technique", sort=False):
        for column in ("prefill_tokens_per_s", "decode_tokens_per_s"):
            values = [value for value in own[column] if 0 < value < float("inf")]
            if len(values) >= 4:
                found[technique, column] = (stats.percentile(values, 0.25), stats.percentile(values, 0.75))
    return found
