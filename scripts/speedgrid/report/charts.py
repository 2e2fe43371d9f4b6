"""The charts: one pure function each, from the rows of a group (tables.Group) to an Altair chart.

Colours are CSS variables (`var(--…)`, see report/style.css): the SVG takes them from the page, so that one chart is right in a light page,
a dark page and on paper. Charts are as wide as the page gives them. Every technique of the group has its row in every chart: one that was
not active is grey, one that could not run says why instead of having a bar.
"""

import math
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import altair as alt
import pandas as pd

from speedgrid import stats
from speedgrid.ceilings import BOUNDS
from speedgrid.report import units
from speedgrid.report.tables import Group
from speedgrid.schema import MEASURED, STATUSES

ROW = 46  # height of a technique's row, in pixels: three lines of label
LABEL_WIDTH = 19  # characters of a line of a row's label, so that a chart leaves room for itself on a phone
DOTS = 200  # at most so many single replies are drawn for a technique

# Invisible end of the label of a row that is to be grey: the axis sees nothing of a row but its label.
OFF = "\u200b"

MEASURED_INK, BASELINE_INK, OFF_INK = "var(--chart-measured)", "var(--chart-baseline)", "var(--chart-off)"
INK, MUTED, GRID, PAPER = "var(--ink)", "var(--muted)", "var(--grid)", "var(--card)"
# Of what was measured and counts nowhere, in grey.
STATUS_WORDS = {"not_engaged": "not engaged", "ended_early": "replies ended early"}
STATE_INKS = {"measured": MEASURED_INK, "baseline": BASELINE_INK, "not engaged": OFF_INK, "failed": OFF_INK}

_LINE = 14  # height of a line of a label, in pixels
VALUE_ROOM = 12  # pixels kept free on the right: Vega makes room for the figure at the end of a bar, and is some pixels short

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif"
CONFIG = {
    "background": "transparent",
    "font": FONT,
    "aria": False,  # the figure around the chart has one label in words instead of one for each of its hundreds of marks
    "view": {"stroke": None},
    "axis": {"labelColor": MUTED, "labelFontSize": 12, "labelPadding": 8, "gridColor": GRID, "domain": False, "ticks": False}
    | {"titleColor": MUTED, "titleFontSize": 12, "titleFontWeight": 500, "titlePadding": 10},
    "axisY": {"labelLimit": 0, "labelLineHeight": _LINE},
    "text": {"color": INK, "fontSize": 12},
}


@dataclass(frozen=True)
class Figure:
    """A chart with what stands around it: title, how to read it, legend as (CSS variable, words), and itself in words."""

    name: str
    title: str
    caption: str
    chart: alt.TopLevelMixin
    legend: Sequence[tuple[str, str]]
    words: str


def figures(group: Group) -> list[Figure]:
    """Every figure that the group has data for."""
    if group.measured.empty:
        return []
    makers = (speed_figure, speedup_figure, ceiling_figure, latency_figure, memory_figure, quality_figure, cold_figure)
    return [figure for make in makers if (figure := make(group))]


# The figures


def speed_figure(group: Group) -> Figure:
    measured = group.measured
    shown = min(DOTS, int(measured.replies.max()))
    dots = "every dot is a reply" if measured.replies.max() <= DOTS else f"dots are {shown} of each technique's replies, evenly picked"
    return Figure(
        "speed",
        "Tokens per second",
        f"More is better. Bars are typical speeds, of the median reply with prefill included; the line is the 95 % interval; {dots}.",
        speed(group.rows, group.replies),
        _state_legend(group),
        _in_words(measured, "rate", " token/s"),
    )


def speedup_figure(group: Group) -> Figure | None:
    if group.baseline is None:
        return None
    return Figure(
        "speedup",
        f"Speed-up over {group.baseline.label}",
        "More is better, 1 is the baseline. Lines are 95 % intervals, noise between runs included. Equal steps are equal factors.",
        speedup(group.rows),
        _state_legend(group),
        _in_words(group.measured, "speedup", "×"),
    )


def ceiling_figure(group: Group) -> Figure | None:
    known = group.measured[group.measured.decode_headroom.notna()]
    if known.empty:
        return None
    bounds = dict.fromkeys(known.decode_bound)
    return Figure(
        "ceiling",
        "How close decode comes to the hardware",
        "The share of the speed that the device allows for the bytes and operations a token needs, as measured there. Short bars have room"
        f" for better software. {' '.join(f'{bound.capitalize()}: {BOUNDS[bound]}.' for bound in bounds)}",
        ceiling(group.rows),
        _state_legend(group),
        _in_words(known.assign(share=100 / known.decode_headroom), "share", " %"),
    )


def latency_figure(group: Group) -> Figure:
    return Figure(
        "latency",
        "Time of a reply",
        "Less is better. The thick line holds the middle half of the replies, the gap is the median and the small bar the 95th percentile, "
        "hollow where there are too few replies to state it. The axis need not start at 0.",
        latency(group.rows, group.replies),
        _state_legend(group),
        _in_words(group.measured.assign(latency_p50_s=group.measured.latency_p50_s * 1000), "latency_p50_s", " ms median"),
    )


def memory_figure(group: Group) -> Figure | None:
    if group.measured.memory_peak.isna().all():
        return None
    reserved = group.measured.memory_reserved.notna().any()
    legend = [("--chart-load", "the loaded model"), ("--chart-measured", "more while replying")]
    if (group.measured.memory_before > 0).any():
        legend.insert(0, ("--chart-before", "held before the model was loaded"))
    if reserved:
        legend.append(("--muted", "reserved by the allocator (thin line)"))
    return Figure(
        "memory",
        "Peak memory",
        "Less is better. The most that was held during the counted replies: allocated on a GPU, resident in the process on a CPU.",
        memory(group.rows),
        legend,
        _in_words(group.measured.assign(memory_peak=group.measured.memory_peak / 2**20), "memory_peak", " MiB"),
    )


def quality_figure(group: Group) -> Figure | None:
    scored = _scored(group.rows)
    if scored.empty:
        return None
    missing = [row.label for row in group.measured.itertuples() if row.label not in set(scored.label)]
    without = f" Not scored: {', '.join(missing)}." if missing else ""
    return Figure(
        "quality",
        "Quality against speed",
        f"Right and low is better: bits per byte on held-out text, taken with the engine and checkpoint that were timed.{without}",
        quality(group.rows),
        _state_legend(group),
        _in_words(scored, "bits_per_byte", " bit/B"),
    )


def cold_figure(group: Group) -> Figure | None:
    if group.measured.cold_start_s.isna().all():
        return None
    legend = [("--chart-before", "import"), ("--chart-load", "load"), ("--chart-measured", "first reply, compilation included")]
    if group.measured.quantize_s.notna().any():
        legend.append(("--chart-once", "making the checkpoint, once (lower bar)"))
    return Figure(
        "cold-start",
        "Cold start",
        "Less is better. From nothing to the first whole reply, in a process of its own.",
        cold_start(group.rows),
        legend,
        _in_words(group.measured, "cold_start_s", " s"),
    )


# The charts


def speed(rows: pd.DataFrame, replies: pd.DataFrame, unit: str = "token/s") -> alt.LayerChart:
    """Mean speed with its 95 % interval, over the single replies, steps or passes."""
    table = prepare(rows)
    table["text"] = [units.number(value) for value in table.rate]
    dots = _dots(table, replies)
    furthest = table.name.map(dots.groupby("name").rate.max()).fillna(table.rate)
    table["end"] = furthest.where(table.rate_high.isna(), furthest.clip(lower=table.rate_high))
    table["interval"] = [_interval(row.rate, row.rate_low, row.rate_high) for row in table.itertuples()]
    domain = [0, _largest(table.end)]
    x = alt.X("rate:Q", title=unit, scale=alt.Scale(domain=domain, nice=False), axis=_ticks())
    tooltip = _tooltip(interval=f"{unit}, 95 % interval", replies="replies", outcome="status")
    base = alt.Chart(table).transform_filter("isValid(datum.rate)").encode(y=_rows_axis(table))
    return _finished(
        base.mark_bar(size=20, opacity=0.22).encode(x=x, color=_state(), tooltip=tooltip),
        _dot_layer(dots, table, "rate", x),
        base.mark_rule(strokeWidth=3).encode(x=alt.X("rate_low:Q"), x2="rate_high:Q", color=_state()),
        base.mark_point(filled=True, size=64, opacity=1).encode(x=x, color=_state(), tooltip=tooltip),
        base.mark_text(align="left", dx=8, fontWeight=600).encode(x="end:Q", text="text:N", color=_text_ink()),
        _notes(table),
        table=table,
    )


def speedup(rows: pd.DataFrame) -> alt.LayerChart:
    """Speed-up with its 95 % interval on a logarithmic axis, where twice and half as fast are equally far from 1."""
    table = prepare(rows)
    table["text"] = [units.number(value) + "×" for value in table.speedup]
    table["interval"] = [_interval(row.speedup, row.speedup_low, row.speedup_high, "×") for row in table.itertuples()]
    table["end"] = table.speedup_high.fillna(table.speedup)
    low, high = min(1, _smallest(table.speedup_low.fillna(table.speedup))), max(1, _largest(table.end))
    room = max((high / low) ** 0.05, 1.02)
    domain = [low / room, high * room]
    ticks = ratio_ticks(*domain)
    axis = alt.Axis(values=ticks, format="~g", labelExpr="datum.label + '×'")
    x = alt.X("speedup:Q", title="speed-up", scale=alt.Scale(type="log", domain=domain, nice=False), axis=axis)
    base = alt.Chart(table).transform_filter("isValid(datum.speedup)").encode(y=_rows_axis(table))
    tooltip = _tooltip(interval="speed-up, 95 % interval", outcome="status")
    one = alt.Chart(pd.DataFrame({"one": [1.0]})).mark_rule(color=BASELINE_INK, strokeDash=[4, 3]).encode(x="one:Q")
    return _finished(
        one,
        base.mark_rule(strokeWidth=3).encode(x=alt.X("speedup_low:Q"), x2="speedup_high:Q", color=_state()),
        base.mark_point(filled=True, size=90, opacity=1).encode(x=x, color=_state(), tooltip=tooltip),
        base.mark_text(align="left", dx=9, fontWeight=600).encode(x="end:Q", text="text:N", color=_text_ink()),
        _notes(table),
        table=table,
    )


def ceiling(rows: pd.DataFrame) -> alt.LayerChart:
    """Share of what the device allows that decode reached, and what binds it."""
    table = prepare(rows)
    table["share"] = 1 / table.decode_headroom
    known = table.share.notna()
    table["text"] = [
        f"{units.number(100 * share, 2)} % · {bound}" if there else ""
        for share, bound, there in zip(table.share, table.decode_bound, known, strict=True)
    ]
    x = alt.X(
        "share:Q",
        title="share of what the device allows",
        scale=alt.Scale(domain=[0, max(1.0, _largest(table.share))], nice=False),
        axis=alt.Axis(values=[0, 0.25, 0.5, 0.75, 1], labelFlush=False, format=".0%"),
    )
    base = alt.Chart(table).transform_filter("isValid(datum.share)").encode(y=_rows_axis(table))
    most = alt.Chart(pd.DataFrame({"most": [1.0]})).mark_rule(color=MUTED, strokeDash=[4, 3]).encode(x="most:Q")
    return _finished(
        most,
        base.mark_bar(size=18).encode(x=x, color=_state(), tooltip=_tooltip(text="decode", outcome="status")),
        base.mark_text(align="left", dx=7, fontWeight=600).encode(x="share:Q", text="text:N", color=_text_ink()),
        _notes(table),
        table=table,
    )


def latency(rows: pd.DataFrame, replies: pd.DataFrame) -> alt.LayerChart:
    """Reply times: single replies, middle half, median and 95th percentile."""
    table = prepare(rows)
    unit = units.scale("s", table.latency_p95_s)
    dots = _dots(table, replies).assign(time=lambda dots: dots.reply_s / unit.size)
    boxes = pd.DataFrame([_box(name, times, unit) for name, times in dots.groupby("name", sort=False).time], columns=list(_BOX))
    table = table.merge(boxes, on="name", how="left")
    ends = [*dots.time, *table.p95.dropna()]
    room = (max(ends) - min(ends)) * 0.04 or max(ends) * 0.04
    scale = alt.Scale(domain=[max(0, min(ends) - room), max(ends) + room], nice=False)
    x = alt.X("p50:Q", title=f"time ({unit.unit})", scale=scale, axis=_ticks())
    base = alt.Chart(table).transform_filter("isValid(datum.p50)").encode(y=_rows_axis(table))
    tooltip = _tooltip(median="median", middle="middle half", tail="95th percentile", replies="replies", outcome="status")
    p95 = base.mark_point(shape="stroke", angle=90, size=160, strokeWidth=3, opacity=1).encode(x="p95:Q", tooltip=tooltip)
    few = base.transform_filter("!datum.supported").mark_point(shape="circle", size=44, strokeWidth=1.5, filled=False, opacity=1)
    return _finished(
        _dot_layer(dots, table, "time", x),
        base.mark_rule(strokeWidth=9, opacity=0.75).encode(x=alt.X("p25:Q"), x2="p75:Q", color=_state(), tooltip=tooltip),
        base.mark_tick(thickness=3, size=13, color=PAPER, opacity=1).encode(x=x, tooltip=tooltip),
        p95.transform_filter("datum.supported").encode(color=_state()),
        few.encode(x="p95:Q", color=_state(), tooltip=tooltip),
        _notes(table),
        table=table,
    )


def memory(rows: pd.DataFrame) -> alt.LayerChart:
    """Peak memory, in the parts that were held before the load, by the loaded model, and on top of it while replying."""
    table = prepare(rows)
    unit = units.scale("B", [*table.memory_peak, *table.memory_reserved])
    parts = []
    for row in table.itertuples():
        if not units.is_missing(row.memory_peak):
            # A process may have given memory back since it loaded: no part goes beyond the peak or below nothing.
            before = min(row.memory_before or 0, row.memory_peak) if not units.is_missing(row.memory_before) else 0
            loaded = min(max(row.memory_loaded, before), row.memory_peak) if not units.is_missing(row.memory_loaded) else before
            bounds = [0, before, loaded, row.memory_peak]
            parts += _stacked(row, unit, bounds, ("held before the load", "loaded model", "more while replying"))
    table["text"] = [units.number(unit(value)) for value in table.memory_peak]
    table["peak"], table["reserved"] = table.memory_peak / unit.size, table.memory_reserved.astype(float) / unit.size
    table["end"] = table[["peak", "reserved"]].max(axis=1)
    x = alt.X("start:Q", title=f"memory ({unit.unit})", scale=alt.Scale(domain=[0, _largest(table.end)], nice=False), axis=_ticks())
    base = alt.Chart(table).transform_filter("isValid(datum.peak)").encode(y=_rows_axis(table))
    return _finished(
        _bars(parts, ("held before the load", "loaded model", "more while replying"), x, table),
        base.transform_filter("datum.reserved > datum.peak").mark_rule(strokeWidth=1.5, color=MUTED).encode(x="peak:Q", x2="reserved:Q"),
        base.mark_tick(thickness=1.5, size=14, color=MUTED).encode(x="reserved:Q", tooltip=_tooltip(reserved=f"reserved ({unit.unit})")),
        base.mark_text(align="left", dx=7, fontWeight=600).encode(x="end:Q", text="text:N", color=_text_ink()),
        _notes(table),
        table=table,
    )


def cold_start(rows: pd.DataFrame) -> alt.LayerChart:
    """Import, load and first reply of a fresh process; under it, what making the checkpoint took, once."""
    table = prepare(rows)
    unit = units.scale("s", [*table.cold_start_s, *table.quantize_s])
    parts, once = [], []
    for row in table.itertuples():
        steps = [row.import_s, row.load_s, row.first_reply_s]
        if not any(map(units.is_missing, steps)):
            parts += _stacked(row, unit, [0, steps[0], steps[0] + steps[1], sum(steps)], ("import", "load", "first reply"))
        if not units.is_missing(row.quantize_s):
            once += _stacked(row, unit, [0, row.quantize_s], ("making the checkpoint, once",))
    table["text"] = [units.number(unit(value)) for value in table.cold_start_s]
    table["end"] = table.cold_start_s / unit.size
    longest = max(_largest(table.end), _largest(table.quantize_s.astype(float) / unit.size))
    x = alt.X("start:Q", title=f"time ({unit.unit})", scale=alt.Scale(domain=[0, longest], nice=False), axis=_ticks())
    base = alt.Chart(table).transform_filter("isValid(datum.end)").encode(y=_rows_axis(table))
    layers = [_bars(parts, ("import", "load", "first reply"), x, table)]
    if once:
        layers.append(_bars(once, ("making the checkpoint, once",), x, table, size=5, down=14, inks=("var(--chart-once)",)))
    layers.append(base.mark_text(align="left", dx=7, fontWeight=600).encode(x="end:Q", text="text:N", color=_text_ink()))
    return _finished(*layers, _notes(table), table=table)


def quality(rows: pd.DataFrame) -> alt.LayerChart:
    """Bits per byte against token/s; labels stand where none covers another or a point, at any width of the page."""
    table = prepare(_scored(rows)).reset_index(drop=True)
    height = max(300, ROW * len(rows))  # as high as the charts beside it
    x_domain = [0, _largest(table.rate_high.fillna(table.rate)) * 1.08]
    low, high = table.bits_per_byte.min(), table.bits_per_byte.max()
    room = max((high - low) * 0.25, high * 0.005)
    y_domain = [max(0, low - room), high + room]
    xs = [(value - x_domain[0]) / (x_domain[1] - x_domain[0]) for value in table.rate]
    ys = [height * (y_domain[1] - value) / (y_domain[1] - y_domain[0]) for value in table.bits_per_byte]
    spots = place_labels(list(zip(xs, ys, strict=True)), list(table.name), height)
    table["label_lines"] = [wrapped(name) for name in table.name]
    table["dx"], table["dy"], table["align"], table["led"] = zip(*spots, strict=True)
    half = [text.count("\n") * _LINE / 2 for text in table.label_lines]
    table["text_dy"] = table.dy - half  # Vega centres the first line
    reach = [(lines + _LINE / 2) * (align == "center") for lines, align in zip(half, table["align"], strict=True)]
    table["lead_dy"] = [dy - math.copysign(end, dy) for dy, end in zip(table.dy, reach, strict=True)]
    table["speed_text"] = [_interval(row.rate, row.rate_low, row.rate_high) for row in table.itertuples()]
    table["quality_text"] = [units.number(value, 4) for value in table.bits_per_byte]
    y_scale = alt.Scale(domain=y_domain, nice=False, zero=False)
    y = alt.Y("bits_per_byte:Q", title="bits per byte (lower is better)", scale=y_scale, axis=alt.Axis(tickCount=5, labelLimit=0))
    x = alt.X("rate:Q", title="token/s", scale=alt.Scale(domain=x_domain, nice=False), axis=_ticks())
    base = alt.Chart(table).encode(x=x, y=y)
    tooltip = _tooltip(speed_text="token/s, 95 % interval", quality_text="bits per byte", outcome="status")
    leader = {"x2Offset": alt.ExprRef("datum.dx"), "y2Offset": alt.ExprRef("datum.lead_dy")}
    text = {"baseline": "middle", "lineBreak": "\n", "lineHeight": _LINE, "fontSize": 11.5}
    text |= {"dx": alt.ExprRef("datum.dx"), "dy": alt.ExprRef("datum.text_dy"), "align": alt.ExprRef("datum.align")}
    chart = alt.layer(
        base.transform_filter("datum.led").mark_rule(color=OFF_INK, **leader).encode(x2="rate", y2="bits_per_byte"),
        base.mark_rule(strokeWidth=2, opacity=0.6).encode(x=alt.X("rate_low:Q"), x2="rate_high:Q", color=_state()),
        base.mark_point(filled=True, size=110, opacity=1, stroke=PAPER, strokeWidth=1.5).encode(color=_state(), tooltip=tooltip),
        base.mark_text(**text).encode(text="label_lines:N", color=_text_ink()),
    )
    return chart.properties(width="container", height=height, autosize=_FIT).configure(**CONFIG)


# Placing labels

_CHARACTER, _GAP = 6.6, 9  # a generous width of a character of a label; a label's distance from its point. Pixels
_WIDTHS = (240, 330, 480, 760)  # the plot's width on a phone, in a column, and on a wide page


def place_labels(points: Sequence[tuple[float, float]], names: Sequence[str], height: float) -> list[tuple[float, float, str, bool]]:
    """Where each point's label goes: offset from the point in pixels, alignment, and whether a line must lead there.

    `points` are (fraction of the plot's width, pixels from its top). Labels are placed one after another, each at the nearest spot that is
    free at every width of _WIDTHS: offsets are pixels and points move apart as the plot grows, so that free once is not free always.
    """
    spots, boxes = [], []
    for point, name in zip(points, names, strict=True):
        lines = wrapped(name).split("\n")
        size = (max(map(len, lines)) * _CHARACTER, len(lines) * _LINE)
        options = [(spot, [_label_box(point, spot, size, width) for width in _WIDTHS]) for spot in _candidate_spots(size)]
        spot, taken = min(options, key=lambda option: _overlap(option[1], boxes, points, height))
        spots.append(spot)
        boxes.append(taken)
    return spots


def _candidate_spots(size: tuple[float, float]) -> list[tuple[float, float, str, bool]]:
    """Spots around a point, nearest first."""
    above, beside = size[1] / 2 + _GAP, _GAP + 2
    spots = [(beside, 0.0, "left", False), (-beside, 0.0, "right", False), (0.0, -above, "center", False), (0.0, above, "center", False)]
    for step in range(1, 16):
        for dy in (-above - step * 12, above + step * 12):
            spots += [(dx, dy, align, True) for dx, align in ((0.0, "center"), (12.0, "left"), (-12.0, "right"))]
    return spots


def _label_box(point, spot, size, width) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a label in a plot of `width` pixels."""
    dx, dy, align, _ = spot
    anchor = point[0] * width + dx
    left = anchor - size[0] * {"left": 0, "center": 0.5, "right": 1}[align]
    return left, point[1] + dy - size[1] / 2, left + size[0], point[1] + dy + size[1] / 2


def _overlap(candidate: Sequence[tuple], boxes: Sequence[Sequence[tuple]], points: Sequence[tuple[float, float]], height: float) -> float:
    """How much a label would cover, or leave the plot, summed over the widths: square pixels."""
    total = 0.0
    for number, (width, box) in enumerate(zip(_WIDTHS, candidate, strict=True)):
        total += sum(_shared(box, other[number]) for other in boxes)
        total += sum(_shared(box, (x * width - 6, y - 6, x * width + 6, y + 6)) for x, y in points)
        inside = _shared(box, (-30, 0, width + 4, height))  # a label may reach over the axis's side, where nothing stands between ticks
        total += (box[2] - box[0]) * (box[3] - box[1]) - inside
    return round(total, 6)


def _shared(a: tuple, b: tuple) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


# What the charts share

_FIT = alt.AutoSizeParams(type="fit-x", contains="padding")
_BOX = ("name", "p25", "p50", "p75", "p95", "supported", "median", "middle", "tail")


def prepare(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows as charts take them: fastest first, those without figures last, with `row` (label on the axis), `state` and `outcome`."""
    table = rows.assign(state=[state(row) for row in rows.itertuples()], name=rows.label)
    table["outcome"] = [f"{STATUSES.get(row.status, row.status)}{f': {row.reason}' if row.reason else ''}" for row in rows.itertuples()]
    table["row"] = [wrapped(row.label) + _row_note(row.state) for row in table.itertuples()]
    return table.sort_values("rate", ascending=False, na_position="last", kind="stable")


def state(row) -> str:
    """Which of STATE_INKS a cell has."""
    if row.status not in MEASURED or units.is_missing(row.rate):
        return "failed"
    if row.status != "ok":
        return "not engaged"
    return "baseline" if row.is_baseline else "measured"


def wrapped(label: str) -> str:
    """A label in at most two lines of LABEL_WIDTH: broken before a bracket, or as evenly as its words allow."""
    if len(label) <= LABEL_WIDTH:
        return label
    splits = [(label[:at], label[at + 1 :]) for at, character in enumerate(label) if character == " "]
    fitting = [split for split in splits if max(map(len, split)) <= LABEL_WIDTH]
    if fitting:
        return "\n".join(min(fitting, key=lambda split: (not split[1].startswith("("), max(map(len, split)))))
    return "\n".join(textwrap.wrap(label, LABEL_WIDTH, max_lines=2, placeholder=" …"))


def ratio_ticks(low: float, high: float) -> list[float]:
    """Round ratios between low and high, with 1 among them, for a logarithmic axis: about three to seven."""
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)):
        tens = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
        ticks = [round(step * 10.0**ten, 12) for ten in tens for step in steps if low <= step * 10.0**ten <= high]
        if len(ticks) >= 4:
            return ticks
    return sorted({1.0, *(round(1 + step / 20, 2) for step in range(-20, 21) if low <= 1 + step / 20 <= high)})


def _row_note(state: str) -> str:
    return {"not engaged": "\nnot engaged" + OFF, "failed": OFF}.get(state, "")


def _scored(rows: pd.DataFrame) -> pd.DataFrame:
    """Cells that have a speed and a quality that means something."""
    return rows[rows.rate.notna() & rows.bits_per_byte.notna() & (rows.quality_meaningful != False)]  # noqa: E712


def _rows_axis(table: pd.DataFrame) -> alt.Y:
    grey = {"condition": {"test": f"indexof(datum.label, '{OFF}') >= 0", "value": MUTED}, "value": INK}
    lines = "length(split(datum.label, '\\n'))"
    # Vega centres the first line of a label; this centres all of them.
    up = {"condition": [{"test": f"{lines} == {n}", "value": (1 - n) * _LINE / 2} for n in (2, 3)], "value": 0}
    axis = alt.Axis(title=None, grid=False, labelExpr="split(datum.label, '\\n')", labelColor=grey, labelOffset=up)
    return alt.Y("row:N", sort=list(table.row), axis=axis, scale=alt.Scale(domain=list(table.row)))


def _ticks() -> alt.Axis:
    return alt.Axis(tickCount=5, labelFlush=False, format=",~r")


def _state() -> alt.Color:
    return alt.Color("state:N", scale=alt.Scale(domain=list(STATE_INKS), range=list(STATE_INKS.values())), legend=None)


def _text_ink():
    return alt.condition("datum.state == 'not engaged'", alt.value(MUTED), alt.value(INK))


def _tooltip(**titles: str) -> list[alt.Tooltip]:
    return [alt.Tooltip("name:N", title="technique"), *(alt.Tooltip(name, title=title) for name, title in _typed(titles))]


def _typed(titles: dict[str, str]) -> list[tuple[str, str]]:
    return [(f"{name}:{'Q' if name in ('replies', 'reserved') else 'N'}", title) for name, title in titles.items()]


def _interval(value: float, low: float, high: float, unit: str = "") -> str:
    text, ends = units.with_interval(value, low, high)
    return f"{text}{unit}" + (f" ({ends})" if ends else "")


def _dots(table: pd.DataFrame, replies: pd.DataFrame) -> pd.DataFrame:
    """The single replies of the rows that have figures, at most DOTS each, spread over the row by the golden ratio."""
    measured = table[table.state != "failed"][["technique", "name", "row", "state"]]
    dots = replies.merge(measured, on="technique", how="inner")
    shares = [_evenly_picked(own) for _, own in dots.groupby("technique", sort=False)]
    dots = pd.concat(shares) if shares else dots
    return dots.assign(jitter=((dots.reply.astype(float) * 0.6180339887) % 1 - 0.5) * 18)


def _evenly_picked(replies: pd.DataFrame) -> pd.DataFrame:
    count = min(DOTS, len(replies))
    return replies.iloc[[number * len(replies) // count for number in range(count)]]


def _dot_layer(dots: pd.DataFrame, table: pd.DataFrame, field: str, x: alt.X) -> alt.Chart:
    columns = dots[["row", "state", "jitter", field]].round({field: 6})
    place = alt.X(f"{field}:Q", scale=x["scale"], title=x["title"], axis=x["axis"])
    dot = alt.Chart(columns).mark_circle(size=9, opacity=0.45, yOffset=alt.ExprRef("datum.jitter"))
    return dot.encode(x=place, y=_rows_axis(table), color=_state())


def _box(name: str, times: pd.Series, unit: units.Scale) -> tuple:
    values = list(times)
    p25, p50, p75, p95 = (stats.percentile(values, q) for q in (0.25, 0.5, 0.75, 0.95))
    supported = stats.percentile_supported(len(values), 0.95)
    needed = "" if supported else f" (not supported: needs {stats.percentile_needs(0.95)} replies)"
    low, middle, high, tail = map(units.number, (p25, p50, p75, p95))
    texts = (f"{middle} {unit.unit}", f"{low}–{high} {unit.unit}", f"{tail} {unit.unit}{needed}")
    return (name, p25, p50, p75, p95, supported, *texts)


def _stacked(row, unit: units.Scale, bounds: Sequence[float], names: Sequence[str]) -> list[dict]:
    """The parts of a stacked bar, from its bounds."""
    parts = []
    for (start, end), part in zip(pairwise(bounds), names, strict=True):
        shown = {"name": row.name, "row": row.row, "state": row.state, "outcome": row.outcome, "part": part}
        parts.append(shown | {"start": unit(start), "stop": unit(end), "amount": unit.text(end - start)})
    return parts


def _bars(parts: list[dict], names: Sequence[str], x: alt.X, table: pd.DataFrame, size: int = 18, down: int = 0, inks=None) -> alt.Chart:
    inks = inks or ("var(--chart-before)", "var(--chart-load)", MEASURED_INK)
    bars = alt.Chart(pd.DataFrame(parts, columns=["name", "row", "state", "outcome", "part", "start", "stop", "amount"]))
    return bars.mark_bar(size=size, yOffset=down).encode(
        x=x,
        x2="stop:Q",
        y=_rows_axis(table),
        color=alt.Color("part:N", scale=alt.Scale(domain=list(names), range=list(inks)), legend=None),
        opacity=alt.condition("datum.state == 'not engaged'", alt.value(0.35), alt.value(1)),
        tooltip=_tooltip(part="part", amount="amount", outcome="status"),
    )


def _notes(table: pd.DataFrame) -> alt.Chart:
    """In the rows that have no figures: why."""
    failed = table[table.state == "failed"][["row", "name", "status", "outcome"]]
    failed = failed.assign(note=[STATUSES.get(status, status) for status in failed.status])
    note = alt.Chart(failed).mark_text(align="left", dx=2, fontStyle="italic", color=MUTED)
    return note.encode(x=alt.value(0), y=_rows_axis(table), text="note:N", tooltip=_tooltip(outcome="status"))


def _finished(*layers: alt.Chart, table: pd.DataFrame) -> alt.LayerChart:
    chart = alt.layer(*layers).resolve_scale(color="independent")
    padding = {"left": 0, "top": 4, "bottom": 8, "right": VALUE_ROOM}
    return chart.properties(width="container", height=ROW * len(table), autosize=_FIT, padding=padding).configure(**CONFIG)


def _state_legend(group: Group) -> list[tuple[str, str]]:
    states = {state(row) for row in group.rows.itertuples()}
    left_out = [STATUS_WORDS[status] for status in STATUS_WORDS if (group.rows.status == status).any()]
    words = {"measured": "technique", "baseline": "baseline", "not engaged": " or ".join(left_out)}
    return [(STATE_INKS[name][4:-1], text) for name, text in words.items() if name in states]


def _in_words(rows: pd.DataFrame, column: str, unit: str) -> str:
    there = rows[rows[column].notna()]
    return "; ".join(f"{row.label} {units.number(getattr(row, column))}{unit}" for row in there.itertuples())


def _largest(values: pd.Series) -> float:
    found = values.dropna()
    return float(found.max()) if len(found) and found.max() > 0 else 1.0


def _smallest(values: pd.Series) -> float:
    found = values.dropna()
    return float(found.min()) if len(found) and found.min() > 0 else 1.0
