"""Quality against speed and memory."""

from collections.abc import Sequence

import altair as alt
import pandas as pd

from speedgrid.report import units
from speedgrid.report.charts import base, families, pareto, tradeoff
from speedgrid.report.charts import memory as memories
from speedgrid.report.charts.base import MUTED, PAPER, ROW, Figure
from speedgrid.report.language import tr
from speedgrid.report.tables import Group, each

QUALITY = ("rate_low", "rate_high", "bits_per_byte", "quality_verdict", "memory")
COLUMNS = tuple(dict.fromkeys((*base.ROW_COLUMNS, *QUALITY[:-1], *memories.SOURCED, *pareto.CLOSENESS, "quality_meaningful")))
SMALLEST, LARGEST = 50, 240  # areas of marks in square pixels
MOST_ROWS = 14  # that the height grows with
BEATEN = 0.4  # opacity of what another beats


def quality_figure(group: Group) -> Figure | None:
    """Bits per byte against speed, with peak memory, and what nothing beats."""
    there = scored(group.rows)
    if there.empty:
        return None
    missing = [row.label for row in each(group.measured) if row.label not in set(there.label)]
    without = tr(" Not scored: {}.").format("; ".join(missing)) if missing else ""
    memory = there.memory.dropna()
    unit = memories.scale(group.rows)
    sizes = (
        tr(" The larger the mark, the more memory ({} to {}).").format(unit.text(memory.min()), unit.text(memory.max()))
        if len(memory)
        else ""
    )
    labels = dict(zip(there.technique, there.label, strict=True))
    standings = pareto.standings(there)
    unbeaten = {one.name for one in standings} - set(pareto.beaten(standings))
    best = [name for name in labels if name in unbeaten]
    what = tr("speed, quality and memory") if len(memory) else tr("speed and quality")
    said = tr("Nothing beats in {}: {}. ").format(what, "; ".join(labels[name] for name in best)) if best else ""
    return Figure(
        "quality",
        (tr("Quality, speed and memory") if len(memory) else tr("Quality against speed")),
        tr(
            "Right and low is better: bits per byte on held-out text, taken with the engine and checkpoint that were timed.{} What"
            " another technique beats in one of these and equals in the others is pale; the dashed line joins the best.{}"
        ).format(sizes + memories.two_sources(group.rows), without),
        quality(there, standings, group.rows),
        base.legend(group),
        said + base.in_words(there, "bits_per_byte", " bit/B"),
        (*base.ROW_COLUMNS, *QUALITY[:-1], *memories.SOURCED),
    )


def scored(rows: pd.DataFrame) -> pd.DataFrame:
    """Cells that have a speed and a quality that means something, with `memory` that stands beside that of the others."""
    rows = rows[list(COLUMNS)].assign(memory=memories.comparable(rows))
    return rows[rows.rate.notna() & rows.bits_per_byte.notna() & (rows.quality_meaningful != False)]  # noqa: E712


def quality(there: pd.DataFrame, standings: Sequence[pareto.Standing], rows: pd.DataFrame) -> alt.LayerChart:
    """Bits per byte against token/s, marks as large as peak memory; what another technique beats is pale. Labels stand where none covers
    another or a point, at any width of the page. `there` are the `scored` cells, `rows` all of the group, whose memory is of one name."""
    beaten = pareto.beaten(standings)
    table = base.prepare(there, QUALITY).reset_index(drop=True)
    names = dict(zip(table.technique, table.name, strict=True))
    table["beaten"] = [technique in beaten for technique in table.technique]
    table["by"] = [names[beaten[technique]] if technique in beaten else tr("none") for technique in table.technique]
    table["area"] = (SMALLEST + (LARGEST - SMALLEST) * table.memory / base.largest(table.memory)).fillna(SMALLEST)
    height = max(300, ROW * min(len(rows), MOST_ROWS))  # as high as the charts beside it
    x_domain = [0, base.largest(table.rate_high.fillna(table.rate)) * 1.08]
    low, high = table.bits_per_byte.min(), table.bits_per_byte.max()
    room = max((high - low) * 0.25, high * 0.005)
    y_domain = [max(0, low - room), high + room]
    table = tradeoff.labelled(table, ("rate", x_domain), ("bits_per_byte", y_domain), height, table.beaten)
    table["speed_text"] = [base.interval(row.rate, row.rate_low, row.rate_high) for row in each(table)]
    table["quality_text"] = [units.number(value, 4) for value in table.bits_per_byte]
    unit, name = memories.scale(rows), memories.named(rows)
    table["memory_text"] = [unit.text(value) for value in table.memory]
    table = table.drop(columns=["memory", "quality_verdict"])
    counted = table[table.state != families.OFF]
    front = pd.DataFrame(pareto.front(list(zip(counted.rate, counted.bits_per_byte, strict=True))), columns=["rate", "bits_per_byte"])

    y_scale = alt.Scale(domain=y_domain, nice=False, zero=False)
    y = alt.Y("bits_per_byte:Q", title="bits per byte (lower is better)", scale=y_scale, axis=alt.Axis(tickCount=5, labelLimit=0))
    x = alt.X("rate:Q", title="token/s", scale=alt.Scale(domain=x_domain, nice=False), axis=base.ticks())
    placed = alt.Chart(table).encode(x=x, y=y)
    told = {"speed_text": tr("{}, 95 % interval").format("token/s"), "quality_text": tr("bits per byte")}
    told |= {"memory_text": name, "by": tr("beaten by")}
    tooltip = base.tooltip(**told, outcome="status")
    color, shape, size = base.color(table), base.shape(table), alt.Size("area:Q", scale=None, legend=None)
    grey = alt.ColorValue(base.INK, condition={"test": f"datum.beaten || datum.state == '{families.OFF}'", "value": MUTED})
    pale = base.opacity(1, "datum.beaten", BEATEN)
    chart = base.layered(
        alt.Chart(front).mark_line(interpolate="step-before", color=MUTED, strokeDash=[3, 4], strokeWidth=1).encode(x=x, y=y),
        tradeoff.leaders(placed, "rate", "bits_per_byte"),
        placed.mark_rule(strokeWidth=2).encode(
            x=alt.X("rate_low:Q"), x2=alt.X2("rate_high:Q"), color=color, opacity=base.opacity(0.6, "datum.beaten", 0.6 * BEATEN)
        ),
        placed.mark_point(filled=True, stroke=PAPER, strokeWidth=1).encode(
            color=color, shape=shape, size=size, opacity=pale, tooltip=tooltip
        ),
        *tradeoff.names(placed, grey),
    )
    return base.as_page(chart, height, padding=False)
