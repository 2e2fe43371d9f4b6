"""What the charts share: how a figure is described, rows with their labels, axes, colours, tooltips, and dots of single replies. Pure.

Colours are CSS variables (`var(--…)`, see report/style.css): the SVG takes them from the page, so that one chart is right in a light page,
a dark page and on paper. Charts are as wide as the page gives them. Every technique that a job came to has its row in every chart of rows:
one that was not active is grey, one that could not run says why instead of having a bar. A chart embeds the columns that it asks `prepare`
for and no others. The technique that is chosen keeps its colours while the rest fades: the page sets the parameter `chosen` of all its
charts.
"""

import math
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import altair as alt
import pandas as pd

from speedgrid.report import units
from speedgrid.report.charts import families
from speedgrid.report.charts.labels import LINE, wrapped
from speedgrid.report.language import told_reason, tr
from speedgrid.report.tables import Group, each
from speedgrid.schema import MEASURED, STATUSES

ROW = 46  # height of a technique's row, in pixels: three lines of label
DOTS = 200  # at most so many single replies are drawn for a technique,
MOST_DOTS = 700  # and so many for all of a chart

# Invisible end of the label of a row that is to be grey: the axis sees nothing of a row but its label.
OFF = "\u200b"

INK, MUTED, GRID, PAPER = "var(--ink)", "var(--muted)", "var(--grid)", "var(--card)"
BASELINE_INK, OFF_INK = families.BASELINE_INK, families.OFF_INK
PART_INKS = ("var(--chart-before)", "var(--chart-load)", "var(--chart-measured)")
# Of what was measured and counts nowhere, in grey.
STATUS_WORDS = {"not_engaged": "not engaged", "ended_early": "replies ended early"}

VALUE_ROOM = 12  # pixels kept free on the right: Vega makes room for the figure at the end of a bar, and is some pixels short
PADDING = {"left": 0, "top": 4, "bottom": 8, "right": VALUE_ROOM}
FADED = 0.15  # of the opacity that a mark has

FONT = "system-ui, -apple-system, 'Segoe UI', Roboto, 'Helvetica Neue', sans-serif"
CONFIG = {
    "background": "transparent",
    "font": FONT,
    "aria": False,  # the figure around the chart has one label in words instead of one for each of its hundreds of marks
    "view": {"stroke": None},
    "axis": {"labelColor": MUTED, "labelFontSize": 12, "labelPadding": 8, "gridColor": GRID, "domain": False, "ticks": False}
    | {"titleColor": MUTED, "titleFontSize": 12, "titleFontWeight": 500, "titlePadding": 10},
    "axisY": {"labelLimit": 0, "labelLineHeight": LINE},
    "text": {"color": INK, "fontSize": 12},
}
FIT = alt.AutoSizeParams(type="fit-x", contains="padding")

# What every chart of rows needs of a cell.
ROW_COLUMNS = ("technique", "label", "family", "status", "reason", "is_baseline", "rate")


class Key(NamedTuple):
    """An entry of a legend: the CSS variable of its colour, its words, and the family whose shape it has, if any."""

    ink: str
    words: str
    shape: str = ""

    @property
    def is_of_family(self) -> bool:
        """Whether its colour is that of the family, too, which style.css gives it with the shape."""
        return self.ink == ("--chart-baseline" if self.shape == "reference" else f"--family-{self.shape}")


@dataclass(frozen=True)
class Figure:
    """A chart with what stands around it: title, how to read it, legend, and itself in words; and the columns of schema.SUMMARY that it is
    made of, for those who want its data."""

    name: str
    title: str
    caption: str
    chart: alt.TopLevelMixin
    legend: Sequence[Key]
    words: str
    columns: tuple[str, ...] = ()


# Rows


def prepare(rows: pd.DataFrame, columns: Iterable[str] = ()) -> pd.DataFrame:
    """The rows as charts take them, with `columns` alone: fastest first, those without figures last; with `name`, `row` (label on the
    axis), `state`, `kind` (what decides about colour and shape) and `outcome`."""
    table = rows[list(dict.fromkeys((*ROW_COLUMNS, *columns)))]
    states = [state(row) for row in each(table)]
    outcomes = [f"{tr(STATUSES.get(row.status, row.status))}{f': {told_reason(row.reason)}' if row.reason else ''}" for row in each(table)]
    kinds = _kinds(table, states)
    notes = [_row_note(one) for one in states]
    labels = [wrapped(label, 2 if "\n" in note else 3) + note for label, note in zip(table.label, notes, strict=True)]
    table = table.assign(state=states, kind=kinds, outcome=outcomes, row=labels)
    table = table.sort_values("rate", ascending=False, na_position="last", kind="stable")
    kept = ["technique", "label", "row", "state", "kind", "status", "outcome", *dict.fromkeys(("rate", *columns))]
    return table[kept].rename(columns={"label": "name"})


def _kinds(rows: pd.DataFrame, states: Iterable[str]) -> list[str]:
    """What decides about colour and shape of each row: its family, or the state that is none of a measured technique."""
    return [family if state == "measured" else state for family, state in zip(rows.family, states, strict=True)]


def state(row) -> str:
    """How a cell is drawn: `measured`, `baseline`, `not engaged` or `failed`."""
    if row.status not in MEASURED or units.is_missing(row.rate):
        return families.FAILED
    if row.status != "ok":
        return families.OFF
    return families.BASELINE if row.is_baseline else "measured"


def _row_note(state: str) -> str:
    return {families.OFF: "\n" + tr("not engaged") + OFF, families.FAILED: OFF}.get(state, "")


def notes(table: pd.DataFrame) -> alt.Chart:
    """In the rows that have no figures: why."""
    failed = table[table.state == families.FAILED][["row", "name", "status", "outcome"]]
    failed = failed.assign(note=[tr(STATUSES.get(status, status)) for status in failed.status])
    note = alt.Chart(failed).mark_text(align="left", dx=2, fontStyle="italic", color=MUTED, limit=alt.ExprRef("width - 4"))
    return note.encode(x=alt.XValue(0), y=rows_axis(table), text=alt.Text("note:N"), tooltip=tooltip(outcome="status"))


def hidden(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of whose speed-up only a bound is known, or nothing, since disturbance hides it."""
    figures = [(row.speedup, row.speedup_low, row.speedup_high, row.verdict) for row in each(rows)]
    return rows[[units.is_bound(*figure[:3]) or units.is_open(*figure) for figure in figures]]


def speedup(row) -> str:
    """A speed-up with its interval in brackets, the bound that is known of it, or that it is open."""
    return units.speedup_in_full(row.speedup, row.speedup_low, row.speedup_high, row.verdict)


def with_speedups(rows: pd.DataFrame) -> pd.DataFrame:
    """The rows of whose speed-up anything is to be said."""
    return rows[rows.speedup.notna() | rows.technique.isin(hidden(rows).technique)]


# Of intervals of which one end alone is known.
ONE_END = "Where an interval ends in an arrow, only its other end is known."


def to_the_edge(table: pd.DataFrame, low: str, high: str, value: str, domain: Sequence[float]) -> pd.DataFrame:
    """A table with the ends of intervals as they are drawn, `drawn_low` and `drawn_high`: those of which one end alone is known, and not
    the figure, reach to the edge of the axis, `arrow`, and `points` says whether it is the right one."""
    right = table[value].isna() & table[low].notna() & table[high].isna()
    left = table[value].isna() & table[high].notna() & table[low].isna()
    table = table.assign(arrow=table[value].where(right | left).where(~right, domain[1]).where(~left, domain[0]), points=right)
    return table.assign(drawn_high=table[high].where(~right, domain[1]), drawn_low=table[low].where(~left, domain[0]))


def arrows(placed: alt.Chart, table: pd.DataFrame, color, **more) -> alt.LayerChart:
    """The arrows at the edge of such intervals."""
    layers = []
    for test, shape, aside in (("datum.points", "triangle-right", -5), ("!datum.points", "triangle-left", 5)):
        there = placed.transform_filter(f"isValid(datum.arrow) && {test}")
        mark = there.mark_point(shape=shape, filled=True, size=70, xOffset=aside, **more)
        layers.append(mark.encode(x=alt.X("arrow:Q"), color=color, opacity=opacity()))
    return layered(*layers)


def words(table: pd.DataFrame, said: pd.Series) -> alt.Chart:
    """In some rows of a table words in the place of a mark, by the row's index."""
    told = table.loc[said.index, ["row", "name"]].assign(said=said)
    return (
        alt.Chart(told)
        .mark_text(align="left", dx=2, fontStyle="italic", color=MUTED)
        .encode(x=alt.XValue(0), y=rows_axis(table), text=alt.Text("said:N"))
    )


def finished(*layers: alt.Chart | alt.LayerChart, table: pd.DataFrame) -> alt.LayerChart:
    """A chart of rows from its layers."""
    return as_page(layered(*layers, resolve=alt.Resolve(scale={"color": "independent"})), ROW * len(table))


class Layers(alt.LayerChart):
    """Charts on top of one another, taken as they are. Altair's own looks in every layer for parameters and sizes, of which there are none
    here, and copies each with all that it holds several times over, again whenever it is copied itself."""

    def __init__(self, data=alt.Undefined, layer: Sequence[alt.Chart | alt.LayerChart] = (), **more):
        super(alt.LayerChart, self).__init__(data=data, layer=list(layer), **more)


def layered(*layers: alt.Chart | alt.LayerChart, **more) -> alt.LayerChart:
    return Layers(layer=layers, **more)


def as_page(chart: alt.LayerChart, height: float, padding: bool = True) -> alt.LayerChart:
    """The chart, made as wide as the page gives it, with the page's look, and to fade what was not chosen."""
    chart.params = [alt.VariableParameter(name="chosen", value="")]
    chart.width, chart.height, chart.autosize, chart.config = "container", height, FIT, CONFIG
    if padding:
        chart.padding = PADDING
    return chart


# Axes and marks


def rows_axis(table: pd.DataFrame) -> alt.Y:
    """A row for each technique, in the order of the table."""
    grey = {"condition": {"test": f"indexof(datum.label, '{OFF}') >= 0", "value": MUTED}, "value": INK}
    lines = "length(split(datum.label, '\\n'))"
    # Vega centres the first line of a label; this centres all of them.
    up = {"condition": [{"test": f"{lines} == {n}", "value": (1 - n) * LINE / 2} for n in (2, 3)], "value": 0}
    axis = alt.Axis(title=None, grid=False, labelExpr="split(datum.label, '\\n')", labelColor=grey, labelOffset=up)
    return alt.Y("row:N", sort=list(table.row), axis=axis, scale=alt.Scale(domain=list(table.row)))


def ticks() -> alt.Axis:
    return alt.Axis(tickCount=5, labelFlush=False, format=",~r")


def ratio_ticks(low: float, high: float) -> list[float]:
    """Round ratios between low and high, with 1 among them, for a logarithmic axis: about three to seven."""
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 5, 7), (1, 1.2, 1.4, 1.6, 1.8, 2, 2.5, 3, 4, 5, 6, 7, 8, 9)):
        tens = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
        ticks = [round(step * 10.0**ten, 12) for ten in tens for step in steps if low <= step * 10.0**ten <= high]
        if len(ticks) >= 4:
            return ticks
    return sorted({1.0, *(round(1 + step / 20, 2) for step in range(-20, 21) if low <= 1 + step / 20 <= high)})


def log_ticks(low: float, high: float) -> list[float]:
    """Round numbers between low and high for a logarithmic axis, two at least: powers of ten, with halves and fifths where those are few,
    and equal steps where the ends are close."""
    tens = range(math.floor(math.log10(low)), math.floor(math.log10(high)) + 1)
    for steps in ((1,), (1, 3), (1, 2, 5), (1, 1.5, 2, 3, 4, 5, 7)):
        ticks = [float(f"{step * 10.0**ten:.3g}") for ten in tens for step in steps if low <= step * 10.0**ten <= high]
        if len(ticks) >= 3:
            break
    if len(ticks) >= 2:
        return ticks
    for share in (5, 2, 1, 0.5):
        step = share * 10.0 ** math.floor(math.log10(high - low))
        ticks = [float(f"{count * step:.12g}") for count in range(math.ceil(low / step), math.floor(high / step) + 1)]
        if len(ticks) >= 2:
            break
    return ticks


def color(table: pd.DataFrame) -> alt.Color:
    """The colours of the families in the table."""
    kinds = [kind for kind in dict.fromkeys(table.kind) if kind != families.FAILED]
    return alt.Color("kind:N", scale=alt.Scale(domain=kinds, range=[families.ink(kind) for kind in kinds]), legend=None)


def shape(table: pd.DataFrame) -> alt.Shape:
    """The shapes of the families in the table."""
    kinds = [kind for kind in dict.fromkeys(table.kind) if kind != families.FAILED]
    return alt.Shape("kind:N", scale=alt.Scale(domain=kinds, range=[families.shape(kind) for kind in kinds]), legend=None)


def opacity(full: float = 1.0, test: str = "", other: float | None = None) -> alt.OpacityValue:
    """Of a mark: full, or where `test` holds `other`; a small share of it while another technique is chosen."""
    conditions = [{"test": "chosen != '' && chosen != datum.name", "value": round(full * FADED, 3)}]
    conditions += [{"test": test, "value": other}] if test else []
    return alt.OpacityValue(full, condition=conditions)


def text_ink():
    return alt.ColorValue(INK, condition={"test": f"datum.state == '{families.OFF}'", "value": MUTED})


def tooltip(**titles: str) -> list[alt.Tooltip]:
    typed = [(f"{name}:{'Q' if name in ('replies', 'reserved') else 'N'}", title) for name, title in titles.items()]
    return [alt.Tooltip("name:N", title="technique"), *(alt.Tooltip(name, title=title) for name, title in typed)]


def interval(value: float, low: float | None, high: float | None, unit: str = "") -> str:
    """A figure with its unit, and its interval in brackets."""
    text, ends = units.with_interval(value, low, high)
    return f"{text}{unit}" + (f" ({ends})" if ends else "")


def stacked(row, unit: units.Scale, bounds: Sequence[float], names: Sequence[str]) -> list[dict]:
    """The parts of a stacked bar, from its bounds."""
    parts = []
    for (start, end), part in zip(pairwise(bounds), names, strict=True):
        shown = {"name": row.name, "row": row.row, "state": row.state, "outcome": row.outcome, "part": tr(part)}
        parts.append(shown | {"start": unit(start), "stop": unit(end), "amount": unit.text(end - start)})
    return parts


def bars(
    parts: list[dict], names: Sequence[str], x: alt.X, table: pd.DataFrame, size: int = 18, down: int = 0, inks: Sequence[str] = PART_INKS
) -> alt.Chart:
    """Stacked bars from their parts."""
    stack = alt.Chart(pd.DataFrame(parts, columns=["name", "row", "state", "outcome", "part", "start", "stop", "amount"]))
    return stack.mark_bar(size=size, yOffset=down).encode(
        x=x,
        x2=alt.X2("stop:Q"),
        y=rows_axis(table),
        color=alt.Color("part:N", scale=alt.Scale(domain=[tr(name) for name in names], range=list(inks)), legend=None),
        opacity=opacity(1, f"datum.state == '{families.OFF}'", 0.35),
        tooltip=tooltip(part="part", amount="amount", outcome="status"),
    )


# Single replies


def most_dots(techniques: int) -> int:
    """How many replies of each of so many techniques are drawn."""
    return max(20, min(DOTS, MOST_DOTS // max(1, techniques)))


def dots(table: pd.DataFrame, replies: pd.DataFrame, field: str) -> pd.DataFrame:
    """A row a technique that has figures, with a list `field` of that figure of some of its replies, evenly picked."""
    measured = table[table.state != families.FAILED][["technique", "name", "row", "state", "kind"]]
    own = dict(iter(replies.groupby("technique", sort=False)[field]))
    most = most_dots(len(measured))
    picked = _as_drawn([_evenly_picked(list(own.get(name, ())), most) for name in measured.technique])
    found = measured.assign(**{field: picked}).drop(columns="technique")
    return found[[len(values) > 0 for values in picked]]


def _evenly_picked(values: list, most: int) -> list:
    count = min(most, len(values))
    return [values[number * len(values) // count] for number in range(count)]


def _as_drawn(lists: Sequence[Sequence[float]]) -> list[list[float]]:
    """The values with the decimals that a chart of all of them can show: to a two-thousandth of their range, less than half a pixel."""
    values = [value for part in lists for value in part]
    reach = max(values, default=0.0) - min(values, default=0.0)
    decimals = math.ceil(-math.log10(reach / 1000)) if reach > 0 else 5
    return [[round(float(value), decimals) for value in part] for part in lists]


def dot_layer(dots: pd.DataFrame, table: pd.DataFrame, field: str, x: alt.X) -> alt.Chart:
    """The dots, spread over their rows by the golden ratio."""
    spread = alt.Chart(dots).transform_flatten([field]).transform_window(number="row_number()", groupby=["name"])
    place = alt.X(f"{field}:Q", scale=x["scale"], title=x["title"], axis=x["axis"])
    jitter = alt.ExprRef("((datum.number * 0.6180339887) % 1 - 0.5) * 18")
    return spread.mark_circle(size=9, yOffset=jitter).encode(x=place, y=rows_axis(table), color=color(dots), opacity=opacity(0.45))


# Words


def legend(group: Group, names: Container[str] | None = None) -> list[Key]:
    """The families of a group, or of its techniques with these names, in colours and shapes; the baseline, and what counts nowhere."""
    rows = group.rows[list(ROW_COLUMNS)]
    kinds = _kinds(rows, map(state, each(rows)))
    there = {kind for label, kind in zip(rows.label, kinds, strict=True) if names is None or label in names}
    # Plain techniques look like the baseline.
    plain = [tr("baseline")] * (families.BASELINE in there) + [tr("plain")] * ("reference" in there)
    found = [Key("--chart-baseline", tr(" or ").join(plain), "reference")] if plain else []
    found += [Key(f"--family-{family}", tr(words), family) for family, words in families.WORDS.items() if family in there - {"reference"}]
    left_out = [tr(STATUS_WORDS[status]) for status in STATUS_WORDS if (group.rows.status == status).any()]
    return found + ([Key("--chart-off", tr(" or ").join(left_out))] if families.OFF in there else [])


def in_words(rows: pd.DataFrame, column: str, unit: str) -> str:
    """A figure of every row that has it, as a sentence for those who do not see the chart."""
    there = rows[rows[column].notna()]
    return "; ".join(f"{row.label} {units.number(getattr(row, column))}{unit}" for row in each(there))


def largest(values: pd.Series) -> float:
    """The largest of the values; 1 where there is none above 0."""
    found = values.dropna()
    return float(found.max()) if len(found) and found.max() > 0 else 1.0


def smallest(values: pd.Series) -> float:
    """The smallest of the values; 1 where there is none above 0."""
    found = values.dropna()
    return float(found.min()) if len(found) and found.min() > 0 else 1.0
