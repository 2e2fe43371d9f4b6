"""How much the machine itself varies: the runs of the same cell over again, and the replies one after another."""

import altair as alt
import pandas as pd

from speedgrid import stats
from speedgrid.report import units
from speedgrid.report.charts import base, families, lines, watched
from speedgrid.report.charts.base import MUTED, Figure
from speedgrid.report.language import tr
from speedgrid.report.tables import Group, each
from speedgrid.workload import PLURALS

RUNS = ("run_rates", "noise", "baseline_drift", "baseline_drift_low", "baseline_drift_high")
HEIGHT = 260
SHOWN = 300  # replies of a technique that are drawn
LINES = 5  # techniques whose replies are
FEWEST = 8  # replies that make a line


def runs_figure(group: Group) -> Figure | None:
    """The runs of every cell that ran more than once, over their own mean."""
    table = _runs(group.rows)
    if table.empty:
        return None
    baseline = group.baseline
    drift = ""
    if baseline is not None and not units.is_missing(baseline.baseline_drift):
        low, high = baseline.baseline_drift_low, baseline.baseline_drift_high
        ends = "" if units.is_missing(low) else f" ({tr('{} to {}').format(units.percent(low), units.percent(high))})"
        drift = tr(" From first to last the baseline drifted by {}{}.").format(units.percent(baseline.baseline_drift), ends)
    words = "; ".join(f"{name}: {', '.join(own.text)}" for name, own in table.groupby("name", sort=False))
    return Figure(
        "runs",
        tr("The same again"),
        tr(
            "Each mark is a run, a process of its own, over the mean of that technique's runs. Nothing was changed between them, so that"
            " what they differ by is noise; the band holds 95\u00a0% of such runs of the baseline.{}"
        ).format(drift),
        runs(group.rows),
        base.legend(group, set(table.name)),
        words,
        (*base.ROW_COLUMNS, *RUNS),
    )


def runs(rows: pd.DataFrame) -> alt.LayerChart:
    """The runs in their order, in per cent of the mean of the technique's."""
    table = _runs(rows)
    noise = rows[rows.is_baseline & rows.noise.notna()].noise
    reach = 100 * 1.96 * float(noise.iloc[0]) if len(noise) else 0.0
    seen = float(table.off.abs().max())
    # A band that is much wider than what was seen goes on beyond the chart.
    most = max(1.0, seen * 1.15, min(reach * 1.1, 3 * seen))
    x_axis = alt.Axis(tickMinStep=1, values=sorted(set(table.run)), format="d", labelFlush=False, grid=False)
    last = int(table.run.max())
    x = alt.X("run:Q", title="run", scale=alt.Scale(domain=[0.5, last + 0.5], nice=False), axis=x_axis)
    y_axis = alt.Axis(tickCount=5, format="+.2~f", labelExpr="datum.value == 0 ? '0 %' : datum.label + ' %'")
    y = alt.Y("off:Q", title="from the mean of its runs", scale=alt.Scale(domain=[-most, most], nice=False), axis=y_axis)
    band = alt.Chart(pd.DataFrame([{"start": 0.5, "stop": last + 0.5, "low": -reach, "high": reach}]))
    placed = alt.Chart(table).encode(x=x, y=y, color=base.color(table))
    tooltip = [alt.Tooltip("name:N", title="technique"), alt.Tooltip("run:Q", title="run"), alt.Tooltip("text:N", title="speed")]
    return base.as_page(
        base.layered(
            band.mark_rect(color=MUTED, opacity=0.12, clip=True).encode(
                x=alt.X("start:Q", scale=x["scale"]), x2=alt.X2("stop:Q"), y=alt.Y("low:Q", scale=y["scale"]), y2=alt.Y2("high:Q")
            ),
            placed.mark_line(strokeWidth=1.5).encode(detail=alt.Detail("name:N"), opacity=base.opacity(0.5)),
            placed.mark_point(filled=True, size=70).encode(shape=base.shape(table), opacity=base.opacity(), tooltip=tooltip),
        ),
        HEIGHT,
    )


def _runs(rows: pd.DataFrame) -> pd.DataFrame:
    table = base.prepare(rows, ("run_rates",))
    found = []
    for row in each(table[table.state != families.FAILED]):
        rates = (
            [float(rate) for rate in row.run_rates] if isinstance(row.run_rates, list | tuple) or hasattr(row.run_rates, "tolist") else []
        )
        if len(rates) < 2:
            continue
        mean = stats.mean(rates)
        for number, rate in enumerate(rates, 1):
            off = 100 * (rate / mean - 1)
            found.append((row.name, row.kind, row.state, number, off, f"{units.number(rate)}, {units.percent(rate / mean - 1)}"))
    return pd.DataFrame(found, columns=["name", "kind", "state", "run", "off", "text"])


def replies_figure(group: Group) -> Figure | None:
    """The counted replies one after another."""
    table = _replies(group)
    if table.empty:
        return None
    disturbed = [row.label for row in each(group.measured) if row.disturbed]
    said = tr(" Disturbed while it was measured: {}.").format("; ".join(disturbed)) if disturbed else ""
    read = watched.readings(group, table, float(table["at"].max()))
    return Figure(
        "replies",
        tr("Speed over time"),
        tr(
            "The speed of each of the {} over the median of its technique, by start time, for the baseline, the fastest, disturbed"
            " techniques and those that drifted most. A line that falls is a machine that slows down (heat, power, others).{}{}"
        ).format(tr(PLURALS[group.noun]), said, _watched_words(group, read)),
        _over_time(table, read),
        [*base.legend(group, set(table.name)), *watched.keys(read)],
        "; ".join(f"{name}: {tr('{} to {}').format(*_ends(own.share))} %" for name, own in table.groupby("name")),
        (*base.ROW_COLUMNS, "disturbed"),
    )


def _ends(shares: pd.Series) -> list[str]:
    return [units.number(shares.min()), units.number(shares.max())]


def _watched_words(group: Group, read: pd.DataFrame) -> str:
    """What of the machine stands under the replies; where only figures over whole runs were kept, where those are."""
    if len(read):
        return tr(" Below it is what was read of the machine at the same times.")
    if group.states:
        return tr(" What was read of the machine meanwhile was not kept over time: “Was the machine quiet?” has its figures over each run.")
    return ""


def _replies(group: Group) -> pd.DataFrame:
    """Of the techniques that get a line: when their replies began, in seconds, and their speed in per cent of their median."""
    rows = base.prepare(group.rows, ("disturbed", "standing"))
    first = group.replies[(group.replies.run == 1) & group.replies.started_s.notna()]
    series = {technique: own for technique, own in first.groupby("technique", sort=False) if len(own) >= FEWEST}
    rows = rows[rows.technique.isin(series) & (rows.state != families.FAILED)]
    told = (rows.state == families.BASELINE) | (rows.standing == "first") | (rows.disturbed != "")
    change = pd.Series([-abs(_change(series[technique].rate)) for technique in rows.technique], index=rows.index, dtype=float)
    rows = rows.loc[change.sort_values(kind="stable").index]
    rows = pd.concat([rows[told.loc[rows.index]], rows[~told.loc[rows.index]]]).head(LINES)
    found = []
    for row in each(rows):
        own = series[row.technique]
        rates, begun = own.rate.tolist(), own.started_s.tolist()
        middle = stats.percentile(rates, 0.5)
        step = -(-len(own) // SHOWN)
        # Of many neighbours the slowest is drawn: what a thinned line must not lose is a stall.
        for at in range(0, len(own), step):
            slowest = min(range(at, min(at + step, len(own))), key=rates.__getitem__)
            share = float(f"{100 * rates[slowest] / middle:.4g}")
            found.append((row.name, row.kind, row.state, float(f"{begun[slowest]:.4g}"), share))
    return pd.DataFrame(found, columns=["name", "kind", "state", "at", "share"])


def _change(rates: pd.Series) -> float:
    """By what share the typical speed changed from the first quarter of the replies to the last."""
    quarter = max(1, len(rates) // 4)
    return stats.percentile(list(rates[-quarter:]), 0.5) / stats.percentile(list(rates[:quarter]), 0.5) - 1


def _over_time(table: pd.DataFrame, read: pd.DataFrame) -> alt.LayerChart:
    low, high = float(table.share.min()), float(table.share.max())
    room = max((high - low) * 0.06, 1.0)
    ends = [max(0.0, low - room), high + room]
    x_axis = alt.Axis(tickCount=5, labelFlush=False, format=",~r", grid=read.empty)
    x = alt.X("at:Q", title="time since its first counted reply began (s)", scale=alt.Scale(nice=False), axis=x_axis)
    y_axis = alt.Axis(tickCount=5, orient="left", labelExpr="datum.label + ' %'")
    # What stands below has scales of its own, each with its place in the chart.
    scale = alt.Scale(domain=ends, range=[lines.HEIGHT, 0], nice=False, zero=False)
    y = alt.Y("share:Q", title="speed, of its median", scale=scale, axis=y_axis)
    curves = lines.drawn(table, x, y, ends, log=False, points=False)
    if read.empty:
        return base.as_page(base.layered(*curves), lines.HEIGHT)
    panels, height = watched.under(read, table, x, lines.HEIGHT)
    whole = base.layered(base.layered(*curves), *panels, resolve=alt.Resolve(scale={"y": "independent", "color": "independent"}))
    return base.as_page(whole, height)
