"""Speed, speed-up, and the share of what the device allows."""

import altair as alt
import pandas as pd

from speedgrid.ceilings import BOUNDS
from speedgrid.report import units
from speedgrid.report.charts import base
from speedgrid.report.charts.base import Figure
from speedgrid.report.language import tr
from speedgrid.report.tables import Group, each
from speedgrid.workload import PLURALS

ITEMS_A_SECOND = {"token": "Tokens per second", "image": "Images per second", "pass": "Passes per second"}

SPEED = ("rate_low", "rate_high", "replies")
SPEEDUP = ("speedup", "speedup_low", "speedup_high", "verdict", "standing")
CEILING = ("decode_headroom", "decode_bound")


def speed_figure(group: Group) -> Figure:
    """What is typical of a cell, in items a second."""
    measured, noun, unit = group.measured, group.noun, f"{group.unit}/s"
    shown = base.most_dots(len(measured))
    most = max(group.replies[group.replies.technique.isin(measured.technique)].technique.value_counts(), default=0)
    dots = ""
    if most:
        picked = tr("; dots are {} of each technique's {}, evenly picked").format(shown, tr(PLURALS[noun]))
        dots = tr("; every dot is a {}").format(tr(noun)) if most <= shown else picked
    prefill = tr(" with prefill included") if group.is_generation else ""
    return Figure(
        "speed",
        tr(ITEMS_A_SECOND[group.unit]),
        tr("More is better. Bars are typical speeds, of the median {}{}; the line is the 95\u00a0% interval{}.").format(
            tr(noun), prefill, dots
        ),
        speed(group.rows, group.replies, unit, group.noun),
        base.legend(group),
        base.in_words(measured, "rate", f" {unit}"),
        (*base.ROW_COLUMNS, *SPEED),
    )


def speedup_figure(group: Group) -> Figure | None:
    """Speed-ups, and which techniques tie with the fastest."""
    if group.baseline is None:
        return None
    caption = tr(
        "More is better, 1 is the baseline. Lines are 95\u00a0% intervals, noise between runs included. Equal steps are equal factors."
    )
    ties = (group.engaged.standing == "same").any()
    return Figure(
        "speedup",
        tr("Speed-up over {}").format(group.baseline.label),
        caption + (tr(" A ring marks what is really as fast as the fastest.") if ties else ""),
        speedup(group.rows),
        base.legend(group),
        "; ".join(f"{row.label} {said}" for row in each(group.measured) if (said := base.speedup(row)) != units.MISSING),
        (*base.ROW_COLUMNS, *SPEEDUP),
    )


def ceiling_figure(group: Group) -> Figure | None:
    """How close decode comes to the roof of memory and arithmetic."""
    known = group.measured[group.measured.decode_headroom.notna()]
    if known.empty:
        return None
    bounds = dict.fromkeys(known.decode_bound)
    return Figure(
        "ceiling",
        tr("How close decode comes to the hardware"),
        tr(
            "The share of the speed that the device allows for the bytes and operations a token needs, as measured there. Short bars"
            " have room for better software. {}"
        ).format(" ".join(f"{tr(bound).capitalize()}: {tr('{}.').format(tr(BOUNDS[bound]))}" for bound in bounds)),
        ceiling(group.rows),
        base.legend(group),
        base.in_words(known.assign(share=100 / known.decode_headroom), "share", " %"),
        (*base.ROW_COLUMNS, *CEILING),
    )


def speed(rows: pd.DataFrame, replies: pd.DataFrame, unit: str = "token/s", noun: str = "reply") -> alt.LayerChart:
    """Typical speed with its 95 % interval, over the single replies, steps or passes."""
    table = base.prepare(rows, SPEED)
    # With the digits that its interval leaves, as everywhere else.
    table["text"] = [base.interval(row.rate, row.rate_low, row.rate_high).partition(" (")[0] for row in each(table)]
    dots = base.dots(table, replies, "rate")
    furthest = table.name.map({row.name: max(row.rate) for row in each(dots)}).astype(float).fillna(table.rate)
    table["end"] = furthest.where(table.rate_high.isna(), furthest.clip(lower=table.rate_high))
    table["interval"] = [base.interval(row.rate, row.rate_low, row.rate_high) for row in each(table)]
    domain = [0, base.largest(table.end)]
    x = alt.X("rate:Q", title=unit, scale=alt.Scale(domain=domain, nice=False), axis=base.ticks())
    tooltip = base.tooltip(interval=tr("{}, 95 % interval").format(unit), replies=PLURALS[noun], outcome="status")
    rowed = alt.Chart(table).transform_filter("isValid(datum.rate)").encode(y=base.rows_axis(table))
    color, shape = base.color(table), base.shape(table)
    return base.finished(
        rowed.mark_bar(size=20).encode(x=x, color=color, opacity=base.opacity(0.22), tooltip=tooltip),
        base.dot_layer(dots, table, "rate", x),
        rowed.mark_rule(strokeWidth=3).encode(x=alt.X("rate_low:Q"), x2=alt.X2("rate_high:Q"), color=color, opacity=base.opacity()),
        rowed.mark_point(filled=True, size=90).encode(x=x, color=color, shape=shape, opacity=base.opacity(), tooltip=tooltip),
        rowed.mark_text(align="left", dx=8, fontWeight=600).encode(x=alt.X("end:Q"), text=alt.Text("text:N"), color=base.text_ink()),
        base.notes(table),
        table=table,
    )


def speedup(rows: pd.DataFrame) -> alt.LayerChart:
    """Speed-up with its 95 % interval on a logarithmic axis, where twice and half as fast are equally far from 1; rings mark ties, and what
    is no more than a bound, or open, is said in words."""
    table = base.prepare(rows, SPEEDUP)
    table["interval"] = [base.speedup(row) for row in each(table)]
    table["text"] = [text.partition(" (")[0] for text in table.interval]
    table["verdict"] = [tr(said) if said else said for said in table.verdict]
    hidden = base.hidden(table)
    table.loc[hidden.index, ["speedup_low", "speedup_high"]] = None
    table["end"] = table.speedup_high.fillna(table.speedup)
    tied = (table.standing == "same").any()
    table["ties"] = tied & table.standing.isin(("first", "same"))
    low, high = min(1, base.smallest(table.speedup_low.fillna(table.speedup))), max(1, base.largest(table.end))
    room = max((high / low) ** 0.05, 1.02)
    domain = [low / room, high * room]
    axis = alt.Axis(values=base.ratio_ticks(*domain), format="~g", labelExpr="datum.label + '×'")
    x = alt.X("speedup:Q", title="speed-up", scale=alt.Scale(type="log", domain=domain, nice=False), axis=axis)
    rowed = alt.Chart(table).transform_filter("isValid(datum.speedup)").encode(y=base.rows_axis(table))
    tooltip = base.tooltip(interval="speed-up, 95 % interval", verdict="against the baseline", outcome="status")
    one = alt.Chart(pd.DataFrame({"one": [1.0]})).mark_rule(color=base.BASELINE_INK, strokeDash=[4, 3]).encode(x=alt.X("one:Q"))
    color, shape = base.color(table), base.shape(table)
    ring = rowed.transform_filter("datum.ties").mark_point(shape="circle", filled=False, size=260, strokeWidth=1.5)
    return base.finished(
        one,
        rowed.mark_rule(strokeWidth=3).encode(x=alt.X("speedup_low:Q"), x2=alt.X2("speedup_high:Q"), color=color, opacity=base.opacity()),
        ring.encode(x=x, color=color, opacity=base.opacity()),
        rowed.mark_point(filled=True, size=100).encode(x=x, color=color, shape=shape, opacity=base.opacity(), tooltip=tooltip),
        rowed.mark_text(align="left", dx=12, fontWeight=600).encode(x=alt.X("end:Q"), text=alt.Text("text:N"), color=base.text_ink()),
        base.notes(table),
        base.words(table, hidden.interval),
        table=table,
    )


def ceiling(rows: pd.DataFrame) -> alt.LayerChart:
    """Share of what the device allows that decode reached, and what binds it. What is faster than one reading of its weights a token
    (`beyond`) is no share: its bar ends at 1, and words say so."""
    table = base.prepare(rows, CEILING)
    table["share"] = 1 / table.decode_headroom
    known = table.share.notna()
    beyond = table.decode_bound == "beyond"
    table["text"] = [
        (f"{units.number(100 * share, 2)} % · {tr(bound)}" if bound != "beyond" else tr("beyond one reading of the weights"))
        if there
        else ""
        for share, bound, there in zip(table.share, table.decode_bound, known, strict=True)
    ]
    table["share"] = table.share.where(~beyond, table.share.clip(upper=1.0))
    x = alt.X(
        "share:Q",
        title="share of what the device allows",
        scale=alt.Scale(domain=[0, 1.5 * max(1.0, base.largest(table.share))], nice=False),  # with room for what stands at the ends of bars
        axis=alt.Axis(values=[0, 0.25, 0.5, 0.75, 1], labelFlush=False, format=".0%"),
    )
    rowed = alt.Chart(table).transform_filter("isValid(datum.share)").encode(y=base.rows_axis(table))
    most = alt.Chart(pd.DataFrame({"most": [1.0]})).mark_rule(color=base.MUTED, strokeDash=[4, 3]).encode(x=alt.X("most:Q"))
    tooltip = base.tooltip(text="decode", outcome="status")
    return base.finished(
        most,
        rowed.mark_bar(size=18).encode(x=x, color=base.color(table), opacity=base.opacity(), tooltip=tooltip),
        rowed.mark_text(align="left", dx=7, fontWeight=600).encode(x=alt.X("share:Q"), text=alt.Text("text:N"), color=base.text_ink()),
        base.notes(table),
        table=table,
    )
