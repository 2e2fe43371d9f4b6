"""Energy of a token, image or pass."""

import altair as alt
import pandas as pd

from speedgrid.report import units
from speedgrid.report.charts import base
from speedgrid.report.charts.base import Figure
from speedgrid.report.language import tr
from speedgrid.report.tables import Group
from speedgrid.workload import PLURALS

ENERGY = ("joule_per_token", "joule_per_item", "idle_power")
MILLION = 1e6 / 3.6e6  # kWh of a million items, for a joule of each


def energy_figure(group: Group) -> Figure | None:
    """Joules of each token, or of what is counted instead."""
    known = _joules(group.rows)[group.rows.rate.notna()]
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
        + (tr(" Where there is no bar, “Was the machine quiet?” says why.") if known.isna().any() else ""),
        energy(group.rows, item),
        base.legend(group),
        base.in_words(group.rows.assign(joule=_joules(group.rows)), "joule", f" J/{item}"),
        (*base.ROW_COLUMNS, *ENERGY),
    )


def energy(rows: pd.DataFrame, item: str = "token") -> alt.LayerChart:
    """A bar for each technique whose energy is known."""
    table = base.prepare(rows, ENERGY)
    table["joule"] = _joules(table)
    table["text"] = [units.number(value) for value in table.joule]
    table["kwh"] = [units.Scale("kWh").text(value * MILLION) for value in table.joule]
    x = alt.X("joule:Q", title=f"J/{item}", scale=alt.Scale(domain=[0, base.largest(table.joule)], nice=False), axis=base.ticks())
    rowed = alt.Chart(table.drop(columns=list(ENERGY))).transform_filter("isValid(datum.joule)").encode(y=base.rows_axis(table))
    tooltip = base.tooltip(text=f"J/{item}", kwh=tr("a million {}").format(tr(units.plural(item))), outcome="status")
    return base.finished(
        rowed.mark_bar(size=18).encode(x=x, color=base.color(table), opacity=base.opacity(), tooltip=tooltip),
        rowed.mark_text(align="left", dx=7, fontWeight=600).encode(x=alt.X("joule:Q"), text=alt.Text("text:N"), color=base.text_ink()),
        base.notes(table),
        table=table,
    )


def _joules(rows: pd.DataFrame) -> pd.Series:
    return rows.joule_per_token.astype(float).fillna(rows.joule_per_item.astype(float))
