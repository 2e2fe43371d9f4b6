"""Figures that others have published, beside ours: report/published.csv, with our names of techniques and columns, in seconds and bytes."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from speedgrid.report import units
from speedgrid.report.tables import Group
from speedgrid.schema import POINTS, SUMMARY

LABELS = {column.name: column for table in (POINTS, SUMMARY) for column in table.columns}


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
    """A row of the page: what was published and what came out here, as texts; `ours` says why where nothing did."""

    label: str
    figure: str
    ours: str
    published: str
    ratio: str
    device: str
    note: str


def read(text: str) -> list[Figure]:
    """The figures of report/published.csv."""
    rows = csv.DictReader(io.StringIO(text))
    return [Figure(**{**row, "point": int(row["point"]) if row["point"] else None, "value": float(row["value"])}) for row in rows]


def beside(figures: Sequence[Figure], study: str | None, group: Group, points: Sequence[Mapping]) -> list[Beside]:
    """The figures of a published study for the techniques of a group; none where the experiment names no study."""
    labels = dict(zip(group.rows.technique, group.rows.label, strict=True))
    return [
        _row(figure, labels[figure.technique], group, points) for figure in figures if figure.study == study and figure.technique in labels
    ]


def _row(figure: Figure, label: str, group: Group, points: Sequence[Mapping]) -> Beside:
    value, why = _ours(figure, group, points)
    column = LABELS[figure.column]
    unit = units.Scale(f"{group.unit}/s") if figure.column == "rate" else units.scale(column.unit, [figure.value])
    words = {"latency_mean_s": "Time", "memory_more": "Memory"}.get(figure.column, column.label)
    return Beside(
        label,
        words + (f" at {figure.point:,}" if figure.point else ""),
        unit.text(value) if value is not None else why,
        unit.text(figure.value),
        units.number(value / figure.value) if value is not None else "",
        figure.device,
        figure.note,
    )


def _ours(figure: Figure, group: Group, points: Sequence[Mapping]) -> tuple[float | None, str]:
    """Our figure, or why there is none."""
    if figure.point is None:
        row = group.rows[group.rows.technique == figure.technique].iloc[0]
    else:
        found = [one for one in points if one["technique"] == figure.technique and one["point"] == figure.point]
        if not found:
            return None, "not measured at this size"
        row = found[0]
    value = row[figure.column]
    if row["status"] != "ok":
        return None, row["status"]
    if figure.column == "accuracy" and not units.is_missing(value) and row["accuracy_task"].lower() != figure.note.lower():
        return None, f"measured on {row['accuracy_task']}"
    return (None, "not measured") if units.is_missing(value) else (float(value), "")
