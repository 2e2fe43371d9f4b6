"""The machine under the replies: clocks, temperature and load over time, and when the clock was lowered and why."""

import json
from collections.abc import Mapping, Sequence
from itertools import groupby

import altair as alt
import pandas as pd

from speedgrid import state
from speedgrid.report.charts import base, lines
from speedgrid.report.charts.base import MUTED
from speedgrid.report.language import tr
from speedgrid.report.tables import Group

PANEL, GAP = 62, 34  # height of a panel, and over it, where its name stands
STRIP = 13  # height of a technique's stripe
# What a panel shows, by the gauge: its name, and the size of its unit.
ON_GPU = {"sm_clock": ("SM clock (MHz)", 1e6), "temperature": ("temperature of the GPU (°C)", 1)}
ON_CPU = {"cpu_clock": ("CPU clock (MHz)", 1e6), "load": ("processes that run or wait for a CPU (load)", 1)}
HEAT, CAP = "heat or power supply", "power limit"
INKS = {HEAT: "var(--warning-line)", CAP: base.OFF_INK}
POWER_CAP = next(bit for bit, name in state.CLOCK_REASONS.items() if name == "power cap")


def readings(group: Group, table: pd.DataFrame, until: float) -> pd.DataFrame:
    """The readings of the techniques of `table` (name, kind, state) up to some second: a row each, with `at` and the gauges."""
    known = group.rows.set_index("label").technique
    found = []
    for name, kind, told in table[["name", "kind", "state"]].drop_duplicates().itertuples(index=False):
        series = json.loads((group.states.get(known[name]) or {}).get("readings") or "{}")
        own = pd.DataFrame(series)
        if len(own):
            found.append(own[own["at"] <= until].assign(name=name, kind=kind, state=told))
    return pd.concat(found, ignore_index=True) if found else pd.DataFrame(columns=["name", "kind", "state", "at"])


def lowered(read: pd.DataFrame) -> pd.DataFrame:
    """The stretches in which heat, the power supply or the power limit lowered a technique's clock: name, start, stop, reason, why."""
    found = []
    if "clock_reasons" in read:
        for name, own in read.groupby("name", sort=False):
            at = [*own["at"], own["at"].iloc[-1] + float(own["at"].diff().median() if len(own) > 1 else 0.5)]
            named = list(enumerate(_reason(mask) for mask in own.clock_reasons))
            for (reason, why), stretch in groupby(named, key=lambda one: one[1]):
                places = [place for place, _ in stretch]
                if reason:
                    found.append((name, at[places[0]], at[places[-1] + 1], reason, why))
    return pd.DataFrame(found, columns=["name", "start", "stop", "reason", "why"])


def _reason(mask: float | None) -> tuple[str, str]:
    """What lowered the clock in a reading, as a key of INKS and in the driver's words; empty for nothing."""
    bits = 0 if mask is None or mask != mask else int(mask)
    slow = [state.CLOCK_REASONS[bit] for bit in state.SLOWDOWNS if bits & bit]
    if slow:
        return HEAT, ", ".join(slow)
    return (CAP, state.CLOCK_REASONS[POWER_CAP]) if bits & POWER_CAP else ("", "")


def under(read: pd.DataFrame, table: pd.DataFrame, x: alt.X, top: float) -> tuple[list[alt.Chart | alt.LayerChart], float]:
    """The panels below a chart of `table` that ends at `top`, and where they end."""
    shown = ON_GPU if "sm_clock" in read or "temperature" in read else ON_CPU
    layers: list[alt.Chart | alt.LayerChart] = []
    for gauge, (words, size) in shown.items():
        if gauge in read:
            layers.append(_panel(read, table, gauge, words, size, x, top + GAP))
            layers.append(_words(tr(words), top + GAP - 8))
            top += GAP + PANEL
    if "clock_reasons" in read:
        slow, names = lowered(read), list(dict.fromkeys(read.name))
        said = tr("when the clock was lowered") if len(slow) else tr("nothing lowered the clock: no heat, power supply or power limit")
        layers.append(_words(said, top + GAP - 8))
        top += GAP
        if len(slow):
            layers += _stripes(slow, names, x, top)
            top += STRIP * len(names)
    return layers, top


def _panel(read: pd.DataFrame, table: pd.DataFrame, gauge: str, words: str, size: float, x: alt.X, top: float) -> alt.Chart:
    part = read[["name", "kind", "state", "at", gauge]].dropna().assign(**{gauge: lambda own: own[gauge] / size})
    low, high = float(part[gauge].min()), float(part[gauge].max())
    room = max((high - low) * 0.1, 0.02 * high, 0.5)
    scale = alt.Scale(domain=[max(0.0, low - room), high + room], range=[top + PANEL, top], nice=False, zero=False)
    y = alt.Y(f"{gauge}:Q", title=tr(words), scale=scale, axis=alt.Axis(title=None, orient="left", tickCount=2, format=",~r"))
    names, kinds = list(dict.fromkeys(table.name)), [table.kind[table.name == name].iloc[0] for name in dict.fromkeys(table.name)]
    dash = alt.StrokeDash("name:N", scale=alt.Scale(domain=names, range=lines.dashes(kinds)), legend=None)
    line = alt.Chart(part).mark_line(strokeWidth=1.5, interpolate="step-after")
    return line.encode(x=x, y=y, color=base.color(table), strokeDash=dash, detail="name:N", opacity=base.opacity())


def _stripes(slow: pd.DataFrame, names: Sequence[str], x: alt.X, top: float) -> list[alt.Chart]:
    """A stripe for each technique, with its name where those of the curves stand."""
    placed = slow.assign(row_y=[STRIP * (names.index(name) + 0.5) for name in slow.name])
    scale = alt.Scale(domain=[0, STRIP * len(names)], range=[top, top + STRIP * len(names)], nice=False, zero=False)
    color = alt.Color("reason:N", scale=alt.Scale(domain=list(INKS), range=list(INKS.values())), legend=None)
    tooltip = [alt.Tooltip("name:N", title="technique"), alt.Tooltip("why:N", title="clock lowered by")]
    bar = alt.Chart(placed).mark_bar(size=STRIP - 3)
    named = pd.DataFrame(
        {"name": names, "label_lines": [lines.shortened(name) for name in names], "row_y": [STRIP * (n + 0.5) for n in range(len(names))]}
    )
    y = alt.Y("row_y:Q", scale=scale, axis=None)
    text = alt.Chart(named).mark_text(align="left", dx=9, fontSize=10.5, color=MUTED)
    drawn = bar.encode(
        x=alt.X("start:Q", scale=x["scale"], title=x["title"], axis=x["axis"]),
        x2="stop:Q",
        y=y,
        color=color,
        opacity=base.opacity(),
        tooltip=tooltip,
    )
    return [drawn, text.encode(x=alt.XValue("width"), y=y, text=alt.Text("label_lines:N"), opacity=base.opacity())]


def _words(text: str, y: float) -> alt.Chart:
    words = alt.Chart(pd.DataFrame({"words": [text]})).mark_text(align="left", fontSize=11.5, color=MUTED)
    return words.encode(x=alt.XValue(0), y=alt.YValue(y), text=alt.Text("words:N"))


def keys(read: pd.DataFrame) -> list[base.Key]:
    """What the legend says of the stripes."""
    slow = lowered(read)
    inks: Mapping[str, str] = {HEAT: "--warning-line", CAP: "--chart-off"}
    return [base.Key(ink, tr("clock lowered by {}").format(tr(reason))) for reason, ink in inks.items() if (slow.reason == reason).any()]
