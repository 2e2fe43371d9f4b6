"""Peak memory, with the cards that it fits on."""

from collections.abc import Callable, Mapping, Sequence

import altair as alt
import pandas as pd

from speedgrid.known import allocatable, usable
from speedgrid.report import advice, cards, units
from speedgrid.report.charts import base
from speedgrid.report.charts.base import MUTED, OFF_INK, Figure, Key
from speedgrid.report.language import tr
from speedgrid.report.tables import Group, each
from speedgrid.workload import PLURALS

MEMORY = ("memory_source", "memory_before", "memory_loaded", "memory_peak", "memory_reserved", "memory_load_peak")
SOURCED = ("memory_source", "memory_peak", "memory_load_peak")  # what `comparable` takes
LABEL_SHARE = 0.21  # of a phone's axis, which the name of a card takes with room beside it
NEXT_CARD = 1.5  # the axis goes on to the next larger card where that is at most so many times the largest peak
PARTS = ("held before the load", "loaded model", "more at the peak", "CUDA itself")
INKS = (*base.PART_INKS, OFF_INK)


def comparable(rows: pd.DataFrame) -> pd.Series:
    """Bytes of each cell that can stand beside those of the others: its peak; where PyTorch told some and the driver the others, what the
    device must have (advice.needs), as in the answer. NaN where none is known."""
    if not _has_two_sources(rows):
        return rows.memory_peak.astype(float)
    needed = [advice.needs({name: getattr(row, name) for name in SOURCED}) for row in each(rows[list(SOURCED)])]
    return pd.Series(needed, rows.index, dtype=float)


def named(rows: pd.DataFrame) -> str:
    """What `comparable` memory is called, so that figures of one name are of one thing."""
    return tr("memory needed") if _has_two_sources(rows) else tr("peak memory")


def scale(rows: pd.DataFrame) -> units.Scale:
    """The unit of `comparable` memory."""
    return units.NEEDED if _has_two_sources(rows) else units.scale("B", rows.memory_peak)


def two_sources(rows: pd.DataFrame) -> str:
    """What a chart of `comparable` memory says of it, where PyTorch told some and the driver the others."""
    if not _has_two_sources(rows):
        return ""
    return tr(
        " Memory is what the device must have: 0.6\u00a0GiB for CUDA itself is added to PyTorch's figures; the others are the driver's."
    )


def as_told(rows: pd.DataFrame) -> str:
    """What the table of such cells says of its peaks, which are those that were told."""
    if not _has_two_sources(rows):
        return ""
    return tr(
        "Peak memory here is as reported: what PyTorch gave out, or, of engines with memory of their own, what the device held. “Memory"
        " needed”, in the answer and the charts, is what a card must have: 0.6\u00a0GiB for CUDA itself is added to PyTorch's figures."
    )


def _has_two_sources(rows: pd.DataFrame) -> bool:
    return rows[rows.rate.notna() & rows.memory_peak.notna()].memory_source.nunique() > 1


def memory_figure(group: Group) -> Figure | None:
    """Peak memory in its parts."""
    if group.measured.memory_peak.isna().all():
        return None
    legend = [Key("--chart-load", tr("the loaded model")), Key("--chart-measured", tr("more at the peak"))]
    if _has_two_sources(group.rows):
        legend.append(Key("--chart-off", tr("for CUDA itself")))
    if (group.measured.memory_before > 0).any():
        legend.insert(0, Key("--chart-before", tr("held before the model was loaded")))
    if group.measured.memory_reserved.notna().any():
        legend.append(Key("--muted", tr("reserved by the allocator (thin line)")))
    without = tr(" Dashed lines are what cards of these sizes can use at least, without what CUDA takes for itself.")
    whole = tr(" Dashed lines are what cards of these sizes can use at least.")
    lines = (without if _room(group.rows) is allocatable else whole) if _shown(group.rows) else ""
    unit = scale(group.rows)
    most = comparable(group.measured) / unit.size
    return Figure(
        "memory",
        tr("Memory needed") if _has_two_sources(group.rows) else tr("Peak memory"),
        tr(
            "Less is better. The most that was held while loading and in the {}: allocated on a GPU, resident in the process on a CPU.{}"
        ).format(tr(PLURALS[group.noun]), two_sources(group.rows) + lines),
        memory(group.rows),
        legend,
        base.in_words(group.measured.assign(memory_peak=most), "memory_peak", f" {unit.unit}"),
        (*base.ROW_COLUMNS, *MEMORY),
    )


def memory(rows: pd.DataFrame) -> alt.LayerChart:
    """Peak memory, in the parts that were held before the load, by the loaded model, and on top of both at the peak; where PyTorch told
    some peaks and the driver the others, with what CUDA itself takes beside the former."""
    table = base.prepare(rows, MEMORY)
    names = PARTS if _has_two_sources(rows) else PARTS[:-1]
    table["end"] = comparable(table)
    beside = table.end - table.memory_peak
    table["reserved"] = table.memory_reserved.astype(float) + beside
    unit = units.NEEDED if _has_two_sources(rows) else units.scale("B", [*table.end, *table.reserved])
    parts = []
    for row in each(table):
        if not units.is_missing(row.memory_peak):
            # A process may have given memory back since it loaded: no part goes beyond the peak or below nothing.
            before = min(row.memory_before or 0, row.memory_peak) if not units.is_missing(row.memory_before) else 0
            loaded = min(max(row.memory_loaded, before), row.memory_peak) if not units.is_missing(row.memory_loaded) else before
            parts += base.stacked(row, unit, [0, before, loaded, row.memory_peak, row.end][: len(names) + 1], names)
    table["text"] = [units.number(unit(value)) for value in table.end]
    table["peak"], table["reserved"] = table.end / unit.size, table.reserved / unit.size
    table["end"] = table[["peak", "reserved"]].max(axis=1)
    table = table.drop(columns=list(MEMORY))
    shown, of_card = _shown(rows), _room(rows)
    room = {size: of_card(size) for size in shown}
    ends = [base.largest(table.end), *(room[size] / unit.size for size in shown)]
    domain = alt.Scale(domain=[0, max(ends)], nice=False)
    x = alt.X("start:Q", title=f"{named(rows)} ({unit.unit})", scale=domain, axis=base.ticks())
    rowed = alt.Chart(table).transform_filter("isValid(datum.peak)").encode(y=base.rows_axis(table))
    reserved = base.tooltip(reserved=tr("reserved ({})").format(unit.unit))
    layers = [
        base.bars(parts, names, x, table, inks=INKS[: len(names)]),
        rowed.transform_filter("datum.reserved > datum.peak")
        .mark_rule(strokeWidth=1.5, color=MUTED)
        .encode(x=alt.X("peak:Q"), x2=alt.X2("reserved:Q")),
        rowed.mark_tick(thickness=1.5, size=14, color=MUTED).encode(x=alt.X("reserved:Q"), tooltip=reserved),
        rowed.mark_text(align="left", dx=7, fontWeight=600).encode(x=alt.X("end:Q"), text=alt.Text("text:N"), color=base.text_ink()),
        base.notes(table),
    ]
    return base.finished(*([_cards(shown, room, unit)] if shown else []), *layers, table=table)


def _room(rows: pd.DataFrame) -> Callable[[float], float]:
    """What of a card the memory of a group is held against: all that can be used of it, or, where all is what PyTorch gave out, that
    without what CUDA itself takes."""
    return allocatable if set(rows[rows.memory_peak.notna()].memory_source) == {"allocator"} else usable


def _shown(rows: pd.DataFrame) -> list[int]:
    """The cards that have a line: those up to the largest peak, and the next one where it is near; none without memory of a GPU."""
    on_gpu = rows[rows.memory_source.isin(["allocator", "device"]) & rows.memory_peak.notna()]
    needed = comparable(on_gpu)
    most = max(needed.max(), (on_gpu.memory_reserved.fillna(0) + needed - on_gpu.memory_peak).max()) if len(on_gpu) else None
    if most is None:
        return []
    of_card = _room(rows)
    room = {size: of_card(size) for size in cards.SOLD}
    reached = [size for size in cards.SOLD if room[size] <= most]
    nearest = [size for size in cards.SOLD if most < room[size] <= most * NEXT_CARD]
    return [*reached, *nearest[:1]]


def _cards(shown: Sequence[int], room: Mapping[int, float], unit: units.Scale) -> alt.LayerChart:
    """A line at each card that its name has room for at the width of a phone, and the name above the chart."""
    places = {size: room[size] / unit.size for size in shown}
    named: list[int] = []
    for size in sorted(shown, reverse=True):
        if not named or places[named[-1]] - places[size] >= LABEL_SHARE * max(places.values()):
            named.append(size)
    line = alt.Chart(pd.DataFrame([{"card": places[size], "size": f"{size} GB"} for size in named])).encode(x=alt.X("card:Q"))
    return base.layered(
        line.mark_rule(color=MUTED, strokeDash=[3, 4], opacity=0.8),
        line.mark_text(color=MUTED, fontSize=11, baseline="bottom", dy=-3).encode(y=alt.YValue(0), text=alt.Text("size:N")),
    )
