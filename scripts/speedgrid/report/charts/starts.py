"""What is spent before a technique is fast, and after how many requests that has paid."""

import math

import altair as alt
import pandas as pd

from speedgrid.report import units
from speedgrid.report.charts import base, families, lines
from speedgrid.report.charts.base import Figure, Key
from speedgrid.report.language import tr
from speedgrid.report.tables import Group, each

COLD = ("import_s", "load_s", "first_reply_s", "cold_start_s", "quantize_s")
PAYS = ("once_s", "rate", "new_tokens", "replies", "break_even_replies", "break_even_replies_low", "break_even_replies_high")
STEPS = ("import", "load")
FIRST = {"reply": "first reply", "step": "first step", "pass": "first pass"}
ONCE = ("making the checkpoint, once",)


def cold_figure(group: Group) -> Figure | None:
    """The cold start in its parts."""
    if group.measured.cold_start_s.isna().all():
        return None
    legend = [
        Key("--chart-before", tr("import")),
        Key("--chart-load", tr("load")),
        Key("--chart-measured", tr("first {}, compilation included").format(tr(group.noun))),
    ]
    if group.measured.quantize_s.notna().any():
        legend.append(Key("--chart-once", tr("making the checkpoint, once (lower bar)")))
    return Figure(
        "cold-start",
        tr("Cold start"),
        tr("Less is better. From the start of a new process to the end of its first {}.").format(tr(group.noun)),
        cold_start(group.rows, group.noun),
        legend,
        base.in_words(group.measured, "cold_start_s", " s"),
        (*base.ROW_COLUMNS, *COLD),
    )


def cold_start(rows: pd.DataFrame, noun: str = "reply") -> alt.LayerChart:
    """Import, load and first reply, step or pass of a fresh process; under it, what making the checkpoint took, once."""
    names = (*STEPS, FIRST[noun])
    table = base.prepare(rows, COLD)
    unit = units.scale("s", [*table.cold_start_s, *table.quantize_s])
    parts, once = [], []
    for row in each(table):
        steps = [row.import_s, row.load_s, row.first_reply_s]
        if not any(map(units.is_missing, steps)):
            parts += base.stacked(row, unit, [0, steps[0], steps[0] + steps[1], sum(steps)], names)
        if not units.is_missing(row.quantize_s):
            once += base.stacked(row, unit, [0, row.quantize_s], ONCE)
    table["text"] = [units.number(unit(value)) for value in table.cold_start_s]
    table["end"] = table.cold_start_s / unit.size
    longest = max(base.largest(table.end), base.largest(table.quantize_s.astype(float) / unit.size))
    table = table.drop(columns=list(COLD))
    x = alt.X("start:Q", title=tr("time ({})").format(unit.unit), scale=alt.Scale(domain=[0, longest], nice=False), axis=base.ticks())
    rowed = alt.Chart(table).transform_filter("isValid(datum.end)").encode(y=base.rows_axis(table))
    layers = [base.bars(parts, names, x, table)]
    if once:
        layers.append(base.bars(once, ONCE, x, table, size=5, down=14, inks=("var(--chart-once)",)))
    layers.append(
        rowed.mark_text(align="left", dx=7, fontWeight=600).encode(x=alt.X("end:Q"), text=alt.Text("text:N"), color=base.text_ink())
    )
    return base.finished(*layers, base.notes(table), table=table)


def pays_figure(group: Group) -> Figure | None:
    """The total time of growing numbers of requests, over the baseline's."""
    there = _lines(group.rows)
    if len(there) < 2:
        return None
    return Figure(
        "pays",
        tr("When it pays"),
        tr(
            "Less is better: the time from a cold start until so many requests are answered, over the baseline's time for the same; making"
            " the checkpoint, loading and compiling are in it. Where a line crosses 1 the technique has paid for its start; the bar there"
            " is the 95\u00a0% interval. Both axes are logarithmic."
        ),
        pays(there),
        base.legend(group, set(there.name)),
        "; ".join(f"{row.name} {_pays_words(row)}" for row in each(there) if row.state != families.BASELINE),
        (*base.ROW_COLUMNS, *PAYS),
    )


def pays(there: pd.DataFrame) -> alt.LayerChart:
    """Total time over the baseline's, from 1 request to thrice the last crossing, for the techniques of `_lines`."""
    baseline = next(each(there[there.state == families.BASELINE]))
    crossings = there[there.break_even_replies > 0]
    most = 10 ** math.ceil(math.log10(3 * max([30.0, *crossings.break_even_replies])))
    counts = sorted({round(10 ** (step / 8)) for step in range(8 * round(math.log10(most)) + 1)})
    told = ["name", "state", "kind"]
    curves = pd.DataFrame(
        [
            {**{key: getattr(row, key) for key in told}, "requests": count, "share": float(f"{_over(row, baseline, count):.5g}")}
            for row in each(there)
            for count in counts
        ]
    )
    ends = lines.domain(pd.concat([curves.share, pd.Series([1.0])]), log=True)
    crossings = crossings.assign(one=1.0, text=[_pays_words(row) for row in each(crossings)])
    crossings = crossings[[*told, "one", "text", "break_even_replies", "break_even_replies_low", "break_even_replies_high"]]
    # An interval without an upper end goes on beyond the chart.
    for end, without in (("low", 1.0), ("high", float(most))):
        column = f"break_even_replies_{end}"
        crossings[column] = crossings[column].astype(float).fillna(without).clip(1, most)

    exponents = range(round(math.log10(most)) + 1)
    x_axis = alt.Axis(values=[10**exponent for exponent in exponents], format=",d", labelFlush=False, labelOverlap="greedy", grid=False)
    x = alt.X("requests:Q", title="requests", scale=alt.Scale(type="log", domain=[1, most], nice=False), axis=x_axis)
    y_axis = alt.Axis(values=base.ratio_ticks(*ends), format="~g", labelExpr="datum.label + '×'")
    y_scale = alt.Scale(type="log", domain=ends, nice=False)
    y = alt.Y("share:Q", title="total time over the baseline's", scale=y_scale, axis=y_axis)
    color, shape = base.color(there), base.shape(there)
    crossed = alt.Chart(crossings).encode(y=alt.Y("one:Q"), color=color)
    tooltip = [alt.Tooltip("name:N", title="technique"), alt.Tooltip("text:N", title="pays off")]
    place = alt.X("break_even_replies:Q")
    between = {"x": alt.X("break_even_replies_low:Q"), "x2": alt.X2("break_even_replies_high:Q")}
    chart = base.layered(
        *lines.drawn(curves, x, y, ends, points=False),
        crossed.mark_rule(strokeWidth=3).encode(**between, opacity=base.opacity(0.5)),
        crossed.mark_point(filled=True, size=90).encode(x=place, shape=shape, opacity=base.opacity(), tooltip=tooltip),
    )
    return base.as_page(chart, lines.HEIGHT)


def _lines(rows: pd.DataFrame) -> pd.DataFrame:
    """The engaged cells whose costs are known, the baseline among them, with `reply_s` for a reply as long as the baseline's; the fastest
    where there are too many lines to be read. None without the baseline."""
    table = base.prepare(rows, PAYS)
    table = table[(table.status == "ok") & table.once_s.notna() & table.rate.notna()]
    baseline = table[table.state == families.BASELINE]
    if baseline.empty:
        return baseline
    tokens = float((baseline.new_tokens / baseline.replies).iloc[0])
    # First replies that were faster than warm ones save nothing.
    table = table.assign(reply_s=tokens / table.rate, once_s=table.once_s.clip(lower=0))
    return lines.chosen(table)


def _over(row, baseline, count: int) -> float:
    return (row.once_s + count * row.reply_s) / (baseline.once_s + count * baseline.reply_s)


def _pays_words(row) -> str:
    """When a technique has paid for its start."""
    if units.is_missing(row.break_even_replies):
        return tr("never")
    if row.break_even_replies <= 0:
        return tr("at once")
    count = int(row.break_even_replies)
    told = tr("after {} request" if count == 1 else "after {} requests").format(units.number(count))
    low, high = row.break_even_replies_low, row.break_even_replies_high
    if units.is_missing(low):
        return told
    most = tr("perhaps never") if units.is_missing(high) else units.number(int(high))
    return f"{told} ({tr('{} to {}').format(units.number(int(low)), most)})"
