"""The same techniques on several devices, or on several models: what both have, side by side, with what differs marked. Pure."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import altair as alt
import pandas as pd

from speedgrid.report import units
from speedgrid.report.charts import base, families
from speedgrid.report.charts.base import MUTED, Figure, Key
from speedgrid.report.charts.labels import wrapped
from speedgrid.report.language import tr
from speedgrid.report.tables import Group
from speedgrid.schema import GROUP
from speedgrid.stats import Estimate, verdict

AXES = {"gpu": "devices", "model": "models"}
# The shape of each side, filled for the first: those of the legend's classes.
MARKS = ("quantization", "attention", "precision", "compile", "memory", "decoding", "compression")
OFFSETS = 7  # pixels between the sides of a row


@dataclass(frozen=True)
class Row:
    """A technique that all sides have: its family, its speed and its speed-up on each, and whether these speed-ups differ, in words (empty
    where they may not)."""

    label: str
    family: str
    rates: list[float]
    speedups: list[Estimate]
    differs: str


@dataclass(frozen=True)
class Sides:
    """Groups of cells that differ in one key alone: its name (`gpu` or `model`), the value of each group, and what all have.

    `speeds` are those of the baselines, with `unit`, and `sizes` what the figures of each side are of, None where that is not one of
    several; between sides of different sizes there is no verdict. `left_out` are labels of techniques that only some have figures of,
    `groups` the gpu, experiment and model of each.
    """

    axis: str
    names: list[str]
    shared: str
    unit: str
    baseline: str
    speeds: list[Estimate]
    rows: list[Row]
    left_out: list[str]
    sizes: list[int | None]
    groups: list[tuple[str, str, str]] = field(default_factory=list)

    @property
    def title(self) -> str:
        return (tr("{} on {}") if self.axis == "gpu" else "{}: {}").format(self.shared, tr(" and ").join(self.names))


def apart(one: Estimate, other: Estimate) -> Estimate:
    """How many times the one ratio is the other, with an interval from those of the two, which are independent, and of their level (wider
    than that of 95 % where `runs: auto` looked again): on the logarithms, by the method of variance estimates recovery (Zou and Donner
    2008). No interval where one of them has none; of what disturbance hides what the ends that are known leave."""
    value = one.value / other.value
    if one.hidden or other.hidden:
        low = None if one.low is None or other.high is None else one.low / other.high
        return Estimate(value, low, None if one.high is None or other.low is None else one.high / other.low, hidden=True)
    if one.low is None or one.high is None or other.low is None or other.high is None:
        return Estimate(value)
    a, a_low, a_high = (math.log(end) for end in (one.value, one.low, one.high))
    b, b_low, b_high = (math.log(end) for end in (other.value, other.low, other.high))
    below, above = math.hypot(a - a_low, b_high - b), math.hypot(a_high - a, b - b_low)
    return Estimate(value, math.exp(a - b - below), math.exp(a - b + above))


def side_by_side(groups: Sequence[Group]) -> list[Sides]:
    """All groups that differ in their device alone, then those that differ in their model alone, with what they have in common."""
    return [sides for axis in AXES for own in _alike(groups, axis) if (sides := _sides(axis, own)) is not None]


def figure(sides: Sides) -> Figure:
    """The speed-ups of every side in one row."""
    what, same = AXES[sides.axis], "device" if sides.axis == "gpu" else "model"
    marked = [row.label for row in sides.rows if row.differs]
    return Figure(
        f"by-{sides.axis}",
        tr("Speed-up over {}").format(sides.baseline),
        tr(
            "More is better. Each over the baseline on the same {}; lines are 95\u00a0% intervals. Bold names differ between the {} by"
            " more than these runs explain."
        ).format(tr(same), tr(what))
        + (" " + tr(base.ONE_END) if any(one.is_bound for row in sides.rows for one in row.speedups) else ""),
        chart(sides),
        [Key("--muted", name, MARKS[number % len(MARKS)]) for number, name in enumerate(sides.names)],
        tr("Different: {}. ").format(tr(", ").join(marked) or tr("none"))
        + "; ".join(f"{row.label} {tr(' and ').join(_texts(row))}" for row in sides.rows),
        (*base.ROW_COLUMNS, "speedup", "speedup_low", "speedup_high", "verdict"),
    )


def chart(sides: Sides) -> alt.LayerChart:
    """A row a technique, in the order of the first side's speed-ups, with a mark for each side one above the other."""
    ordered = sorted(sides.rows, key=lambda row: -row.speedups[0].value)
    middle = (len(sides.names) - 1) / 2
    alike = tr("no verdict: of different sizes") if len(set(sides.sizes)) > 1 else tr("not by more than these runs explain")
    table = pd.DataFrame(
        [
            {
                "name": row.label,
                "row": wrapped(row.label) + ("" if row.differs else base.OFF),
                "kind": row.family,
                "side": name,
                "down": round((number - middle) * OFFSETS, 1),
                "speedup": speedup.told,
                "speedup_low": speedup.low,
                "speedup_high": speedup.high,
                "text": _text(speedup),
                "differs": row.differs or alike,
            }
            for row in ordered
            for number, (name, speedup) in enumerate(zip(sides.names, row.speedups, strict=True))
        ]
    ).astype({"speedup": float, "speedup_low": float, "speedup_high": float})
    rows = list(dict.fromkeys(table.row))
    ends = table[["speedup", "speedup_low", "speedup_high"]]
    low, high = min(1.0, ends.min(axis=None)), max(1.0, ends.max(axis=None))
    room = max((high / low) ** 0.05, 1.02)
    domain = [low / room, high * room]
    table = base.to_the_edge(table, "speedup_low", "speedup_high", "speedup", domain)
    axis = alt.Axis(values=base.ratio_ticks(*domain), format="~g", labelExpr="datum.label + '×'")
    x = alt.X("speedup:Q", title="speed-up", scale=alt.Scale(type="log", domain=domain, nice=False), axis=axis)
    weight = {"condition": {"test": f"indexof(datum.label, '{base.OFF}') < 0", "value": 700}, "value": 400}
    y_axis = alt.Axis(title=None, grid=False, labelExpr="split(datum.label, '\\n')", labelColor=base.INK, labelFontWeight=weight)
    y = alt.Y("row:N", sort=rows, axis=y_axis, scale=alt.Scale(domain=rows))
    shapes = [families.SHAPES[MARKS[number % len(MARKS)]] for number in range(len(sides.names))]
    shape = alt.Shape("side:N", scale=alt.Scale(domain=sides.names, range=shapes), legend=None)
    color, down = base.color(table), alt.ExprRef("datum.down")
    names = {"text": "speed-up, 95 % interval", "differs": "Different"}
    tooltip = [*base.tooltip(**names), alt.Tooltip("side:N", title="on" if sides.axis == "gpu" else "model")]
    one = alt.Chart(pd.DataFrame({"one": [1.0]})).mark_rule(color=base.BASELINE_INK, strokeDash=[4, 3]).encode(x=alt.X("one:Q"))
    placed = alt.Chart(table).encode(y=y, color=color)
    ends = {"x": alt.X("drawn_low:Q"), "x2": alt.X2("drawn_high:Q")}
    layers = base.layered(
        one,
        alt.Chart(table)
        .transform_aggregate(least="min(speedup)", most="max(speedup)", groupby=["row", "name"])
        .mark_rule(color=MUTED, strokeWidth=1, opacity=0.35)
        .encode(x=alt.X("least:Q"), x2=alt.X2("most:Q"), y=y),
        placed.mark_rule(strokeWidth=2, yOffset=down).encode(**ends, opacity=base.opacity(0.7)),
        base.arrows(placed, table, color, yOffset=down),
        placed.mark_point(filled=True, size=80, yOffset=down).encode(x=x, shape=shape, opacity=base.opacity(), tooltip=tooltip),
    )
    return base.as_page(layers, max(40, 14 + 9 * len(sides.names)) * len(rows))


def in_words(sides: Sides) -> str:
    """Which speed-ups differ, in a sentence, or that their sizes do."""
    among = tr(" and ").join(sides.names)
    different = [row for row in sides.rows if row.differs]
    if not different and len(set(sides.sizes)) > 1:
        sizes = tr(" and ").join(units.MISSING if size is None else f"{size:,}" for size in sides.sizes)
        return tr("The speed-ups on {0} are of different sizes, {1}: there is no verdict between them.").format(among, sizes)
    if not different:
        return tr("No speed-up differs between {} by more than these runs explain.").format(among)
    told = [f"{row.label} ({tr(' and ').join(_in_short(one) for one in row.speedups)})" for row in different]
    return tr("Between {0} these speed-ups differ by more than the runs explain: {1}.").format(among, tr(", ").join(told))


def table(sides: Sides) -> tuple[list[str], list[tuple[str, list[tuple[str, str]], str]]]:
    """The heads of the sides, and rows of (technique, for each side a text and what stands below it, how they differ); the baseline's
    speeds first, speed-ups with their speeds below."""
    speeds = [(base.interval(speed.value, speed.low, speed.high) + f" {sides.unit}/s", "") for speed in sides.speeds]
    ordered = sorted(sides.rows, key=lambda row: -row.speedups[0].value)
    below = {row.label: [f"{units.number(rate)} {sides.unit}/s" for rate in row.rates] for row in ordered}
    own = [(row.label, list(zip(_texts(row), below[row.label], strict=True)), row.differs) for row in ordered]
    return sides.names, [(sides.baseline, speeds, ""), *own]


def _texts(row: Row) -> list[str]:
    return [_text(speedup) for speedup in row.speedups]


def _text(speedup: Estimate) -> str:
    """A speed-up with its interval in brackets, its bound, or that it is open."""
    return units.speedup_in_full(speedup.told, speedup.low, speedup.high, "unsure")


def _in_short(speedup: Estimate) -> str:
    return _text(speedup) if speedup.hidden else f"{units.number(speedup.value)}×"


def _alike(groups: Sequence[Group], axis: str) -> Iterator[list[Group]]:
    """The groups that differ in one key alone, two or more of them with a baseline of the same technique."""
    found: dict[tuple, list[Group]] = {}
    for group in groups:
        if group.baseline is not None:
            others = {key: getattr(group, key) for key in GROUP if key != axis}
            found.setdefault((*others.items(), group.baseline.technique, group.unit), []).append(group)
    return (own for own in found.values() if len(own) > 1)


def _sides(axis: str, groups: Sequence[Group]) -> Sides | None:
    first = groups[0]
    figures = [base.with_speedups(group.engaged[~group.engaged.is_baseline]).set_index("technique") for group in groups]
    both = [technique for technique in figures[0].index if all(technique in own.index for own in figures[1:])]
    if not both:
        return None
    names = [getattr(group, axis) for group in groups]
    of = {technique: [own.loc[technique] for own in figures] for technique in both}
    baselines = [group.baseline for group in groups if group.baseline is not None]
    # A speed-up is of the size of its baseline.
    sizes = [None if units.is_missing(row.point) else int(row.point) for row in baselines]
    rows = [
        _row(own[0], [float(one.rate) for one in own], [_speedup(*one) for one in zip(own, baselines, strict=True)], names, sizes)
        for own in of.values()
    ]
    some = {row.label: None for own in figures for technique, row in own.iterrows() if technique not in both}
    return Sides(
        axis,
        names,
        first.model + " · " + first.experiment if axis == "gpu" else first.experiment + " · " + first.gpu,
        first.unit,
        baselines[0].label,
        [Estimate(float(row.rate), _number(row.rate_low), _number(row.rate_high)) for row in baselines],
        rows,
        list(some),
        sizes,
        [(group.gpu, group.experiment, group.model) for group in groups],
    )


def _row(row: pd.Series, rates: list[float], speedups: list[Estimate], names: Sequence[str], sizes: Sequence[int | None]) -> Row:
    """The row, with the pair of one size that differs most of those that surely do."""
    surest: tuple[float, str] = (0.0, "")
    for one, other in combinations(range(len(names)), 2):
        if sizes[one] != sizes[other]:
            continue
        if speedups[one].value < speedups[other].value:
            one, other = other, one
        ratio = apart(speedups[one], speedups[other])
        if verdict(ratio) == "faster":
            text, ends = units.ratio(ratio.told, ratio.low, ratio.high)
            if ends:
                said = tr("{0}× as much on {1} as on {2} ({3})").format(text, names[one], names[other], ends)
            else:
                said = tr("{0}× as much on {1} as on {2}").format(text, names[one], names[other])
            surest = max(surest, (ratio.value, said))
    return Row(row.label, row.family, rates, speedups, surest[1])


def _speedup(row: pd.Series, baseline: pd.Series) -> Estimate:
    hidden = units.is_missing(row.speedup)
    value = float(row.rate / baseline.rate) if hidden else float(row.speedup)
    return Estimate(value, _number(row.speedup_low), _number(row.speedup_high), hidden)


def _number(value: float) -> float | None:
    return None if units.is_missing(value) else float(value)
