"""What a million tokens, images or passes cost, where the study names the price of an hour of the device."""

import altair as alt

from speedgrid.report import units
from speedgrid.report.charts import base
from speedgrid.report.charts.base import Figure
from speedgrid.report.language import tr
from speedgrid.report.tables import Group, each

MONEY = ("price_per_million", "rate_low", "rate_high")


def money_figure(group: Group) -> Figure | None:
    """The price of a million items with each technique; None where the study names none."""
    known = group.measured[group.measured.price_per_million.notna()]
    if known.empty:
        return None
    item = group.unit
    first = known.iloc[0]
    hour = units.number(float(first.price_per_million * first.rate * 3600 / 1e6))
    return Figure(
        "money",
        tr("Price of a million {}").format(tr(units.plural(item))),
        tr(
            "Less is better. The device at {} an hour, as the study has it, over the speed: at this batch, and with a device that is"
            " never idle. The line is the 95\u00a0% interval."
        ).format(hour),
        money(group.rows, item),
        base.legend(group),
        base.in_words(known, "price_per_million", " " + tr("for a million {}").format(tr(units.plural(item)))),
        (*base.ROW_COLUMNS, *MONEY),
    )


def ends(row) -> tuple[float | None, float | None]:
    """The ends of the interval of a row's price, from those of its speed; None where it has none."""
    if units.is_missing(row.rate_low) or units.is_missing(row.rate_high) or row.rate_low <= 0:
        return None, None
    return row.price_per_million * row.rate / row.rate_high, row.price_per_million * row.rate / row.rate_low


def money(rows, item: str = "token") -> alt.LayerChart:
    """A bar for each technique, with its interval."""
    table = base.prepare(rows, MONEY)
    table["low"], table["high"] = zip(*map(ends, each(table)), strict=True)
    table = table.astype({"low": float, "high": float})
    table["end"] = table.high.fillna(table.price_per_million)
    table["text"] = [units.number(value) for value in table.price_per_million]
    table["interval"] = [base.interval(row.price_per_million, row.low, row.high) for row in each(table)]
    title = tr("price of a million {}").format(tr(units.plural(item)))
    scale = alt.Scale(domain=[0, base.largest(table.end)], nice=False)
    x = alt.X("price_per_million:Q", title=title, scale=scale, axis=base.ticks())
    rowed = alt.Chart(table.drop(columns=["rate_low", "rate_high"])).transform_filter("isValid(datum.price_per_million)")
    rowed = rowed.encode(y=base.rows_axis(table))
    color, tooltip = base.color(table), base.tooltip(interval=tr("{}, 95 % interval").format(title), outcome="status")
    return base.finished(
        rowed.mark_bar(size=18).encode(x=x, color=color, opacity=base.opacity(0.6), tooltip=tooltip),
        rowed.mark_rule(strokeWidth=3).encode(x=alt.X("low:Q"), x2=alt.X2("high:Q"), color=color, opacity=base.opacity()),
        rowed.mark_text(align="left", dx=7, fontWeight=600).encode(x="end:Q", text="text:N", color=base.text_ink()),
        base.notes(table),
        table=table,
    )
