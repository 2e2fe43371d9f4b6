"""Energy of a token, image or pass."""

import altair as alt
import pandas as pd

from speedgrid.report import advice, units
from speedgrid.report.charts import base
from speedgrid.report.charts.base import Figure
from speedgrid.report.language import tr
from speedgrid.report.tables import Group, each
from speedgrid.workload import PLURALS

ENERGY = ("joule_per_token", "joule_per_item", "energy", "watched_s", "power_mean", "shared", "point", "device_name")  # as advice.energy
ESTIMATED = 0.55  # opacity of a bar that is no reading
MILLION = 1e6 / 3.6e6  # kWh of a million items, for a joule of each


def energy_figure(group: Group) -> Figure | None:
    """Joules of each token, or of what is counted instead."""
    rows = _with_joules(group.rows)
    known = rows.joule[rows.rate.notna()]
    if known.isna().all():
        return None
    item = group.unit
    return Figure(
        "energy",
        tr("Energy of a {}").format(tr(item)),
        tr(
            "Less is better. Of the GPU board or the processor packages while {} were counted, idle power included. 1 J a {} is {} kWh for"
            " a million {}."
        ).format(tr(PLURALS[group.noun]), tr(item), units.number(MILLION, 2), tr(units.plural(item)))
        + (tr(" Pale bars and ≈ are estimates from mean power, right to within about a quarter.") if rows.about.any() else "")
        + (tr(" Where there is no bar, “Was the machine quiet?” says why.") if known.isna().any() else ""),
        energy(group.rows, item),
        base.legend(group),
        "; ".join(f"{row.label} {text_of(row.joule, row.about)} J/{item}" for row in each(rows[rows.joule.notna()])),
        (*base.ROW_COLUMNS, *ENERGY),
    )


def energy(rows: pd.DataFrame, item: str = "token") -> alt.LayerChart:
    """A bar for each technique whose energy is known."""
    table = base.prepare(rows, ENERGY)
    table = _with_joules(table)
    table["text"] = [text_of(row.joule, row.about) for row in each(table)]
    table["kwh"] = [units.Scale("kWh").text(value * MILLION) for value in table.joule]
    x = alt.X("joule:Q", title=f"J/{item}", scale=alt.Scale(domain=[0, base.largest(table.joule)], nice=False), axis=base.ticks())
    rowed = alt.Chart(table.drop(columns=list(ENERGY))).transform_filter("isValid(datum.joule)").encode(y=base.rows_axis(table))
    tooltip = base.tooltip(text=f"J/{item}", kwh=tr("a million {}").format(tr(units.plural(item))), outcome="status")
    return base.finished(
        rowed.mark_bar(size=18).encode(x=x, color=base.color(table), opacity=base.opacity(1, "datum.about", ESTIMATED), tooltip=tooltip),
        rowed.mark_text(align="left", dx=7, fontWeight=600).encode(x=alt.X("joule:Q"), text=alt.Text("text:N"), color=base.text_ink()),
        base.notes(table),
        table=table,
    )


def text_of(joule: float, about: bool) -> str:
    """A figure of energy; of one that is estimated it is said."""
    return f"≈ {units.number(joule)}" if about else units.number(joule)


def _with_joules(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows with the figures that the guide chooses by: `joule` an item, and whether that is estimated, `about`."""
    names = ("rate", *ENERGY)
    told = [advice.energy(dict(zip(names, row, strict=True))) for row in rows[list(names)].to_numpy(dtype=object).tolist()]
    return rows.assign(joule=pd.Series([joule for joule, _ in told], rows.index, dtype=float), about=[about for _, about in told])
