"""Peak memory."""

import altair as alt
import pandas as pd

from speedgrid.report import units
from speedgrid.report.charts import base
from speedgrid.report.charts.base import MUTED, Figure, Key
from speedgrid.report.charts.speed import NOUNS, PLURALS
from speedgrid.report.tables import Group

MEMORY = ("memory_before", "memory_loaded", "memory_peak", "memory_reserved")
PARTS = ("held before the load", "loaded model", "more while replying")


def memory_figure(group: Group) -> Figure | None:
    """Peak memory in its parts."""
    if group.measured.memory_peak.isna().all():
        return None
    noun = PLURALS[NOUNS[group.workload]]
    more = "more while replying" if noun == "replies" else f"more in the {noun}"
    legend = [Key("--chart-load", "the loaded model"), Key("--chart-measured", more)]
    if (group.measured.memory_before > 0).any():
        legend.insert(0, Key("--chart-before", "held before the model was loaded"))
    if group.measured.memory_reserved.notna().any():
        legend.append(Key("--muted", "reserved by the allocator (thin line)"))
    return Figure(
        "memory",
        "Peak memory",
        f"Less is better. The most that was held during the counted {noun}: allocated on a GPU, resident in the process on a CPU.",
        memory(group.rows),
        legend,
        base.in_words(group.measured.assign(memory_peak=group.measured.memory_peak / 2**20), "memory_peak", " MiB"),
        (*base.ROW_COLUMNS, *MEMORY),
    )


def memory(rows: pd.DataFrame) -> alt.LayerChart:
    """Peak memory, in the parts that were held before the load, by the loaded model, and on top of it while replying."""
    table = base.prepare(rows, MEMORY)
    unit = units.scale("B", [*table.memory_peak, *table.memory_reserved])
    parts = []
    for row in table.itertuples():
        if not units.is_missing(row.memory_peak):
            # A process may have given memory back since it loaded: no part goes beyond the peak or below nothing.
            before = min(row.memory_before or 0, row.memory_peak) if not units.is_missing(row.memory_before) else 0
            loaded = min(max(row.memory_loaded, before), row.memory_peak) if not units.is_missing(row.memory_loaded) else before
            parts += base.stacked(row, unit, [0, before, loaded, row.memory_peak], PARTS)
    table["text"] = [units.number(unit(value)) for value in table.memory_peak]
    table["peak"], table["reserved"] = table.memory_peak / unit.size, table.memory_reserved.astype(float) / unit.size
    table["end"] = table[["peak", "reserved"]].max(axis=1)
    table = table.drop(columns=list(MEMORY))
    scale = alt.Scale(domain=[0, base.largest(table.end)], nice=False)
    x = alt.X("start:Q", title=f"memory ({unit.unit})", scale=scale, axis=base.ticks())
    rowed = alt.Chart(table).transform_filter("isValid(datum.peak)").encode(y=base.rows_axis(table))
    reserved = base.tooltip(reserved=f"reserved ({unit.unit})")
    return base.finished(
        base.bars(parts, PARTS, x, table),
        rowed.transform_filter("datum.reserved > datum.peak").mark_rule(strokeWidth=1.5, color=MUTED).encode(x="peak:Q", x2="reserved:Q"),
        rowed.mark_tick(thickness=1.5, size=14, color=MUTED).encode(x="reserved:Q", tooltip=reserved),
        rowed.mark_text(align="left", dx=7, fontWeight=600).encode(x="end:Q", text="text:N", color=base.text_ink()),
        base.notes(table),
        table=table,
    )
