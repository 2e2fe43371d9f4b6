"""What is spent before a technique is fast."""

import altair as alt
import pandas as pd

from speedgrid.report import units
from speedgrid.report.charts import base
from speedgrid.report.charts.base import Figure, Key
from speedgrid.report.tables import Group

COLD = ("import_s", "load_s", "first_reply_s", "cold_start_s", "quantize_s")
STEPS = ("import", "load", "first reply")
ONCE = ("making the checkpoint, once",)


def cold_figure(group: Group) -> Figure | None:
    """The cold start in its parts."""
    if group.measured.cold_start_s.isna().all():
        return None
    legend = [Key("--chart-before", "import"), Key("--chart-load", "load"), Key("--chart-measured", "first reply, compilation included")]
    if group.measured.quantize_s.notna().any():
        legend.append(Key("--chart-once", "making the checkpoint, once (lower bar)"))
    return Figure(
        "cold-start",
        "Cold start",
        "Less is better. From nothing to the first whole reply, in a process of its own.",
        cold_start(group.rows),
        legend,
        base.in_words(group.measured, "cold_start_s", " s"),
        (*base.ROW_COLUMNS, *COLD),
    )


def cold_start(rows: pd.DataFrame) -> alt.LayerChart:
    """Import, load and first reply of a fresh process; under it, what making the checkpoint took, once."""
    table = base.prepare(rows, COLD)
    unit = units.scale("s", [*table.cold_start_s, *table.quantize_s])
    parts, once = [], []
    for row in table.itertuples():
        steps = [row.import_s, row.load_s, row.first_reply_s]
        if not any(map(units.is_missing, steps)):
            parts += base.stacked(row, unit, [0, steps[0], steps[0] + steps[1], sum(steps)], STEPS)
        if not units.is_missing(row.quantize_s):
            once += base.stacked(row, unit, [0, row.quantize_s], ONCE)
    table["text"] = [units.number(unit(value)) for value in table.cold_start_s]
    table["end"] = table.cold_start_s / unit.size
    longest = max(base.largest(table.end), base.largest(table.quantize_s.astype(float) / unit.size))
    table = table.drop(columns=list(COLD))
    x = alt.X("start:Q", title=f"time ({unit.unit})", scale=alt.Scale(domain=[0, longest], nice=False), axis=base.ticks())
    rowed = alt.Chart(table).transform_filter("isValid(datum.end)").encode(y=base.rows_axis(table))
    layers = [base.bars(parts, STEPS, x, table)]
    if once:
        layers.append(base.bars(once, ONCE, x, table, size=5, down=14, inks=("var(--chart-once)",)))
    layers.append(rowed.mark_text(align="left", dx=7, fontWeight=600).encode(x="end:Q", text="text:N", color=base.text_ink()))
    return base.finished(*layers, base.notes(table), table=table)
