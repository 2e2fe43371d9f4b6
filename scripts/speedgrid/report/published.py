"""Figures that others have published, beside ours: report/published.csv, with our names of techniques and columns, in seconds and bytes.

What compares across devices and software is the gain *within* a study: how much a technique changes its own baseline. The figures
themselves stand beside it, in one unit a column, and so does what differs in the conditions.
"""

import csv
import io
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from speedgrid.report import units
from speedgrid.report.language import tr
from speedgrid.report.tables import Group
from speedgrid.schema import POINTS, SUMMARY

LABELS = {column.name: column for table in (POINTS, SUMMARY) for column in table.columns}
NAMES = {"latency_mean_s": "Mean time", "memory_more": "Memory"}
UNCHANGED = 0.02  # a gain nearer to none than this has no direction
# Of an experiment: what a publication says of its own conditions, if anything.
CONDITIONS = ("dtype", "precision", "batch_size", "sequence", "image_size", "prompt_tokens", "max_new_tokens", "optimizer", "replies")


@dataclass(frozen=True)
class Figure:
    """A published figure: of which study, device and technique, at which size (None where there is one), and of which column."""

    study: str
    device: str
    technique: str
    point: int | None
    column: str
    value: float
    note: str


@dataclass(frozen=True)
class Beside:
    """A technique in both studies, as texts: ours and theirs, each with its gain over its own baseline, and whether these go the same way.
    `ours` says why where there is none; what is not known is empty. `device` is given where it is not that of the baseline."""

    label: str
    size: str
    ours: str
    published: str
    gain: str
    published_gain: str
    direction: str
    device: str
    note: str


@dataclass(frozen=True)
class Table:
    """The figures of one column: its name and unit, what a gain is and which direction is better, and the rows."""

    name: str
    unit: str
    gain: str
    rows: list[Beside]


@dataclass(frozen=True)
class Comparison:
    """A published study beside ours: what differs around the figures as (what, theirs, ours), and a table for each column."""

    conditions: list[tuple[str, str, str]]
    tables: list[Table]


@dataclass(frozen=True)
class _Gain:
    """How a figure is held against its baseline's: in words, as a number that grows with it, as text; and how each way is called."""

    words: str
    of: Callable[[float, float], float]
    text: Callable[[float], str]
    more: str
    less: str


def read(text: str) -> list[Figure]:
    """The figures of report/published.csv."""
    figures = []
    for row in csv.DictReader(io.StringIO(text)):
        point, value = row.pop("point"), row.pop("value")
        figures.append(Figure(**row, point=int(point) if point else None, value=float(value)))
    return figures


def beside(
    figures: Sequence[Figure], study: str | None, group: Group, points: Sequence[Mapping], settings: Mapping | None = None
) -> Comparison | None:
    """The figures of a published study for the techniques of a group, run with `settings`; None where the experiment names no study, or
    where it has none of its techniques."""
    labels = dict(zip(group.rows.technique, group.rows.label, strict=True))
    own = [figure for figure in figures if figure.study == study and figure.technique in labels]
    if not own:
        return None
    columns = dict.fromkeys(figure.column for figure in own)
    tables = [_table(column, [figure for figure in own if figure.column == column], own, group, points, labels) for column in columns]
    return Comparison(_conditions(own, group, settings or {}), tables)


def _table(column: str, figures: Sequence[Figure], all_of: Sequence[Figure], group: Group, points: Sequence[Mapping], labels) -> Table:
    base = _base(all_of, group)
    ours = [_ours(figure, group, points) for figure in figures]
    values = [value for value, _ in ours] + [figure.value for figure in figures]
    unit = units.Scale("%", 0.01) if column == "accuracy" else units.scale(LABELS[column].unit, values)
    unit = units.Scale(f"{group.unit}/s") if column == "rate" else unit
    gain = _gain(column, labels[base])
    bases = {figure.point: figure for figure in figures if figure.technique == base}
    rows = []
    for figure, (value, why) in zip(figures, ours, strict=True):
        against = bases.get(figure.point)
        our_base = _ours(against, group, points)[0] if against else None
        theirs = gain.of(figure.value, against.value) if against and against is not figure else None
        mine = gain.of(value, our_base) if theirs is not None and value is not None and our_base else None
        rows.append(
            Beside(
                label=labels[figure.technique],
                size=f"{figure.point:,}" if figure.point else "",
                ours=units.number(unit(value)) if value is not None else why,
                published=units.number(unit(figure.value)),
                gain="" if mine is None else gain.text(mine),
                published_gain="" if theirs is None else gain.text(theirs),
                direction="" if mine is None or theirs is None else _direction(mine, theirs, gain),
                device=figure.device if against and figure.device != against.device else "",
                note=figure.note,
            )
        )
    return Table(tr(NAMES.get(column, LABELS[column].label)), unit.unit, gain.words, rows)


def _base(figures: Sequence[Figure], group: Group) -> str:
    """The technique that gains are taken over: the group's own baseline where the publication has it, else its first."""
    own = group.rows[group.rows.is_baseline].technique
    published = dict.fromkeys(figure.technique for figure in figures)
    return next((technique for technique in own if technique in published), next(iter(published)))


def _gain(column: str, base: str) -> _Gain:
    if column == "accuracy":
        return _Gain(
            tr("Against {}, in points; more is better").format(base), lambda x, b: 100 * (x - b), _points, tr("better"), tr("worse")
        )
    if LABELS[column].unit == "B":
        return _Gain(
            tr("Memory over that of {}; less is better").format(base), lambda x, b: math.log(x / b), _ratio, tr("more"), tr("less")
        )
    if LABELS[column].better == "lower":
        return _Gain(tr("Speed-up over {}; more is faster").format(base), lambda x, b: math.log(b / x), _ratio, tr("faster"), tr("slower"))
    return _Gain(tr("Speed-up over {}; more is faster").format(base), lambda x, b: math.log(x / b), _ratio, tr("faster"), tr("slower"))


def _ratio(logarithm: float) -> str:
    return f"{units.number(math.exp(logarithm))}×"


def _points(difference: float) -> str:
    return f"{difference:+.1f}".replace("-", "−")


def _direction(ours: float, theirs: float, gain: _Gain) -> str:
    """Whether a technique changed its baseline in the same direction in both studies."""
    mine, other = (gain.more if one > UNCHANGED else gain.less if one < -UNCHANGED else tr("unchanged") for one in (ours, theirs))
    return tr("{} in both").format(mine) if mine == other else tr("{0} here, {1} there").format(mine, other)


def _conditions(figures: Sequence[Figure], group: Group, settings: Mapping) -> list[tuple[str, str, str]]:
    """What is known to differ, or is known of one side alone: devices, and the settings."""
    theirs = ", ".join(dict.fromkeys(figure.device for figure in figures))
    ours = ", ".join(name for name in dict.fromkeys(group.measured.device_name) if name)
    notes = "; ".join(dict.fromkeys(figure.note for figure in figures if figure.note and figure.column != "accuracy"))
    told = {name: settings[name] for name in CONDITIONS if settings.get(name) not in (None, "", [])}
    mine = "; ".join(f"{name.replace('_', ' ')} {value}" for name, value in told.items() if not isinstance(value, Mapping))
    found = [(tr("Device"), theirs, ours or tr("nothing was measured"))]
    return found + ([(tr("Settings"), notes or tr("not given"), mine or tr("not given"))] if notes or mine else [])


def _ours(figure: Figure, group: Group, points: Sequence[Mapping]) -> tuple[float | None, str]:
    """Our figure, or why there is none."""
    if figure.point is None:
        row = group.rows[group.rows.technique == figure.technique].iloc[0]
    else:
        found = [one for one in points if one["technique"] == figure.technique and one["point"] == figure.point]
        if not found:
            return None, tr("not measured at this size")
        row = found[0]
    value = row[figure.column]
    if row["status"] != "ok":
        return None, row["status"]
    if figure.column == "accuracy" and not units.is_missing(value) and row["accuracy_task"].lower() != figure.note.lower():
        return None, tr("measured on {}").format(row["accuracy_task"])
    return (None, tr("not measured")) if units.is_missing(value) else (float(value), "")
