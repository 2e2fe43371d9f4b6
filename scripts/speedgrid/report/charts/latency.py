"""How long a reply, step or pass takes."""

import altair as alt
import pandas as pd

from speedgrid import stats
from speedgrid.report import units
from speedgrid.report.charts import base, lines
from speedgrid.report.charts.base import PAPER, Figure
from speedgrid.report.language import tr
from speedgrid.report.tables import Group, each
from speedgrid.workload import PLURALS

PERCENTILES = tuple(f"latency_p{percent}{end}_s" for percent in (50, 95) for end in ("", "_low", "_high"))
FEWEST = 5  # replies of which shares say something
STEPS = 60  # of a line
LOG_FROM = 6  # times the shortest that the longest takes, for a logarithmic axis
LATENCY = ("latency_p50_s", "latency_p95_s", "replies")
_BOX = ("name", "p25", "p50", "p75", "p95", "supported", "median", "middle", "tail")


def latency_figure(group: Group) -> Figure | None:
    """Times of single replies, steps or passes."""
    if not group.replies.technique.isin(group.measured.technique).any():
        return None
    noun = group.noun
    milliseconds = group.measured.assign(latency_p50_s=group.measured.latency_p50_s * 1000)
    return Figure(
        "latency",
        tr("Time of a {}").format(tr(noun)),
        tr(
            "Less is better. The thick line holds the middle half of the {}, the gap is the median and the small bar the 95th"
            " percentile, hollow where there are too few {} to state it. The axis need not start at 0."
        ).format(tr(PLURALS[noun]), tr(PLURALS[noun])),
        latency(group.rows, group.replies, noun),
        base.legend(group),
        base.in_words(milliseconds, "latency_p50_s", " ms " + tr("median")),
        (*base.ROW_COLUMNS, *LATENCY),
    )


def latency(rows: pd.DataFrame, replies: pd.DataFrame, noun: str = "reply") -> alt.LayerChart:
    """Reply times: single replies, middle half, median and 95th percentile."""
    table = base.prepare(rows, LATENCY)
    unit = units.scale("s", table.latency_p95_s)
    measured = table[table.state != "failed"]
    times = {row.name: own / unit.size for row in each(measured) if len(own := replies[replies.technique == row.technique].reply_s)}
    boxes = pd.DataFrame([_box(name, own, unit, noun) for name, own in times.items()], columns=list(_BOX))
    table = table.merge(boxes, on="name", how="left")
    dots = base.dots(table, replies.assign(time=replies.reply_s / unit.size), "time")
    ends = [*(value for own in dots.time for value in own), *table.p95.dropna()]
    room = (max(ends) - min(ends)) * 0.04 or max(ends) * 0.04
    scale = alt.Scale(domain=[max(0, min(ends) - room), max(ends) + room], nice=False)
    x = alt.X("p50:Q", title=tr("time ({})").format(unit.unit), scale=scale, axis=base.ticks())
    rowed = alt.Chart(table).transform_filter("isValid(datum.p50)").encode(y=base.rows_axis(table))
    tooltip = base.tooltip(median="median", middle="middle half", tail="95th percentile", replies=PLURALS[noun], outcome="status")
    color = base.color(table)
    p95 = rowed.mark_point(shape="stroke", angle=90, size=160, strokeWidth=3).encode(
        x=alt.X("p95:Q"), opacity=base.opacity(), tooltip=tooltip
    )
    few = rowed.transform_filter("!datum.supported").mark_point(shape="circle", size=44, strokeWidth=1.5, filled=False)
    middle = rowed.mark_rule(strokeWidth=9).encode(
        x=alt.X("p25:Q"), x2=alt.X2("p75:Q"), color=color, opacity=base.opacity(0.75), tooltip=tooltip
    )
    return base.finished(
        base.dot_layer(dots, table, "time", x),
        middle,
        rowed.mark_tick(thickness=3, size=13, color=PAPER, opacity=1).encode(x=x, tooltip=tooltip),
        p95.transform_filter("datum.supported").encode(color=color),
        few.encode(x=alt.X("p95:Q"), color=color, opacity=base.opacity(), tooltip=tooltip),
        base.notes(table),
        table=table,
    )


def _box(name: str, times: pd.Series, unit: units.Scale, noun: str) -> tuple:
    values = list(times)
    p25, p50, p75, p95 = (stats.percentile(values, q) for q in (0.25, 0.5, 0.75, 0.95))
    supported = stats.percentile_supported(len(values), 0.95)
    needed = "" if supported else tr(" (not supported: needs {} {})").format(stats.percentile_needs(0.95), tr(PLURALS[noun]))
    low, middle, high, tail = map(units.number, (p25, p50, p75, p95))
    texts = (f"{middle} {unit.unit}", f"{low}–{high} {unit.unit}", f"{tail} {unit.unit}{needed}")
    return (name, p25, p50, p75, p95, supported, *texts)


def ecdf_figure(group: Group) -> Figure | None:
    """Which share of the replies was there after how long."""
    table, unit, _ = _shares(group)
    if table.empty:
        return None
    noun = group.noun
    shown = set(table.name)
    left_out = len(group.engaged) - len(shown)
    without = tr(" The {} slowest are left out.").format(left_out) if left_out > 0 else ""
    return Figure(
        "ecdf",
        tr("How many {} are done by when").format(tr(PLURALS[noun])),
        tr(
            "Left is better: the share of the {} that took no longer. Bars are 95\u00a0% intervals of the median and the 95th"
            " percentile, where there are enough {} for one. The axis need not start at 0.{}"
        ).format(tr(PLURALS[noun]), tr(PLURALS[noun]), without),
        ecdf(group),
        base.legend(group, shown),
        "; ".join(
            tr("{} median {}, 95th percentile {}").format(row.label, unit.text(row.latency_p50_s), unit.text(row.latency_p95_s))
            for row in each(group.engaged)
        ),
        (*base.ROW_COLUMNS, *PERCENTILES),
    )


def ecdf(group: Group) -> alt.LayerChart:
    """A rising line for each technique, from 0 to all of its replies."""
    table, unit, rows = _shares(group)
    log = table.time.max() > LOG_FROM * table.time.min()
    room = (table.time.max() / table.time.min()) ** 0.03 if log else 1 + 0.03 * (1 - table.time.min() / table.time.max())
    ends = [float(table.time.min() / room), float(table.time.max() * room)]
    axis = alt.Axis(format=",~g", values=base.log_ticks(*ends)) if log else base.ticks()
    scale = alt.Scale(type="log" if log else "linear", domain=ends, nice=False)
    x = alt.X("time:Q", title=tr("time ({})").format(unit.unit), scale=scale, axis=axis)
    y = alt.Y("share:Q", title="share of all", scale=alt.Scale(domain=[0, 1], nice=False), axis=alt.Axis(format=".0%", tickCount=5))
    dash = alt.StrokeDash("name:N", scale=alt.Scale(domain=list(rows.name), range=lines.dashes(list(rows.kind))), legend=None)
    line = alt.Chart(table).mark_line(interpolate="step-after", strokeWidth=2)
    bounds = _bounds(rows, unit)
    at = alt.Chart(bounds).encode(y=alt.Y("share:Q"), color=base.color(table))
    tooltip = base.tooltip(text="time, 95 % interval", percentile="percentile")
    ends_of = {"x": alt.X("low:Q", scale=scale), "x2": alt.X2("high:Q")}
    layers = [
        line.encode(x=x, y=y, color=base.color(table), strokeDash=dash, detail=alt.Detail("name:N"), opacity=base.opacity(0.9)),
        at.transform_filter("isValid(datum.low)").mark_rule(strokeWidth=4).encode(**ends_of, opacity=base.opacity(0.5), tooltip=tooltip),
        at.mark_point(filled=True, size=70).encode(
            x=alt.X("time:Q", scale=scale), shape=base.shape(table), opacity=base.opacity(), tooltip=tooltip
        ),
    ]
    return base.as_page(base.layered(*layers), lines.HEIGHT)


def _shares(group: Group) -> tuple[pd.DataFrame, units.Scale, pd.DataFrame]:
    """Of each technique that gets a line, its times with the share of its replies that took no longer; the unit; and those techniques."""
    rows = lines.chosen(base.prepare(group.rows, PERCENTILES))
    times = {technique: sorted(own) for technique, own in group.replies.groupby("technique").reply_s}
    rows = rows[[len(times.get(technique, ())) >= FEWEST for technique in rows.technique]]
    unit = units.scale("s", [times[technique][-1] for technique in rows.technique])
    found = []
    for row in each(rows):
        own = times[row.technique]
        most = min(STEPS, len(own))
        places = [number * (len(own) - 1) // (most - 1) for number in range(most)]
        found += [(row.name, row.state, row.kind, float(f"{own[place] / unit.size:.5g}"), (place + 1) / len(own)) for place in places]
    return pd.DataFrame(found, columns=["name", "state", "kind", "time", "share"]), unit, rows


def _bounds(rows: pd.DataFrame, unit: units.Scale) -> pd.DataFrame:
    """The median and the 95th percentile of each technique with the ends of their intervals."""
    found = []
    for row in each(rows):
        for percent in (50, 95):
            value, low, high = (getattr(row, f"latency_p{percent}{end}_s") for end in ("", "_low", "_high"))
            time, low, high = value / unit.size, unit(low), unit(high)
            text = base.interval(time, low, high, f" {unit.unit}")
            place = {"share": percent / 100, "time": time, "low": low, "high": high}
            found.append({"name": row.name, "state": row.state, "kind": row.kind, "percentile": f"{percent} %", "text": text, **place})
    return pd.DataFrame(found).astype({"low": float, "high": float})
