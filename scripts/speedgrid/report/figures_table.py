"""The table of all figures of a group: a row a cell, sortable, with small print. Pure."""

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import pandas as pd
from markupsafe import Markup

from speedgrid import stats
from speedgrid.report import advice, phrases, quality, training, units
from speedgrid.report.charts import base, energy, memory, money
from speedgrid.report.language import tr
from speedgrid.report.tables import Group, each
from speedgrid.schema import SUMMARY

MEANINGS = {column.name: column for column in SUMMARY.columns}
TABLE = (
    *("rate", "speedup", "bits_per_byte", "kl_divergence", "accuracy", "memory_peak", "memory_reserved"),
    *("mbu", "mfu", "decode_headroom", "break_even_replies", "joule_per_token", "price_per_million"),
    *("tokens_per_s", "decode_tokens_per_s", "prefill_tokens_per_s", "ttft_s", "tpot_s"),
    *("latency_mean_s", "latency_std_s", "latency_p50_s", "latency_p95_s", "latency_p99_s"),
    *("cold_start_s", "load_s", "quantize_s", "model_bytes", "checkpoint_bytes", "replies", "runs"),
)
INTERVALS = {name: (f"{name}_low", f"{name}_high") for name in ("rate", "tokens_per_s")} | {
    "speedup": ("speedup_low", "speedup_high"),
    "growth": ("growth_low", "growth_high"),
}
# Columns that hold an end of the interval of another one. They are for the CSV, and for who ticks them.
BOUNDS = {f"{name}_{end}": name for name in ("rate", "speedup") for end in ("low", "high")}
BOUND_DIGITS = 4
PERCENTILES = {"latency_p50_s": 0.5, "latency_p95_s": 0.95, "latency_p99_s": 0.99}
SHARES = {"mbu": "decode_bound", "mfu": "prefill_bound"}
IMPOSSIBLE = "impossible: a probe that was disturbed, or operations counted that were not done"
QUALITY_SHARES = {"accuracy": "acc", "top1_agreement": "top1_agreement"}  # columns, and the metric of quality.figure that they are
JOULES = ("joule_per_token", "joule_per_item")  # of replies, and of other work
NEVER = "never"  # that a technique pays off


@dataclass(frozen=True)
class TableCell:
    """A cell of the table: its text, what it sorts by, in the unit of the column's head, and small print under it; of a bound of a figure,
    and of an estimate, the text is more than that."""

    text: str
    key: float | str | None = None
    note: str = ""
    is_bound: bool = False


@dataclass(frozen=True)
class TableRow:
    label: str
    row_class: str
    status: str
    words: str  # the status, in short
    reason: str
    disturbed: str
    reference: str | None
    summary: str
    cells: list[TableCell]


@dataclass(frozen=True)
class ResultTable:
    headers: list[dict]
    rows: list[TableRow]
    notes: list[str]


def columns_shown(kind: str, found: Sequence[Group]) -> list[str]:
    """The columns of the tables of all groups of a kind: those that any cell has something in, each with the ends of its interval."""
    table = TABLE if kind == "replies" else training.TABLE
    names = [one for name in table for one in (name, *(end for end, of in BOUNDS.items() if of == name))]
    return [name for name in names if any(group.rows[name].notna().any() or _is_estimated(group, name) for group in found)]


def _is_estimated(group: Group, name: str) -> bool:
    return name in JOULES and any(advice.energy(row)[1] for row in group.records)


def word_of(name: str) -> str:
    """The column whose meaning is told where one stands: of the end of an interval that of the figure."""
    return BOUNDS.get(name, name)


def label_of(name: str) -> str:
    """What a column is called."""
    said = tr(MEANINGS[word_of(name)].label)
    if name not in BOUNDS:
        return said
    return (tr("{}, lower bound") if name.endswith("_low") else tr("{}, upper bound")).format(said)


APART = "‡"


def result_table(group: Group, techniques: Mapping, columns: Sequence[str], apart: Collection[str] = ()) -> ResultTable:
    """Every cell of the group with the figures of `columns`. The speed-ups of those that are `apart` (machines.Gpus) have a mark."""
    rows = group.rows
    scales = {name: units.scale(MEANINGS[name].unit, rows[name]) for name in columns}
    scales |= {name: units.Scale(f"{group.unit}/s") for name in ("rate", "rate_low", "rate_high") if name in scales}
    headers = [{"name": name, "word": word_of(name), "label": label_of(name), "unit": scales[name].unit} for name in columns]
    table = [_table_row(row, columns, scales, group.baseline, techniques, row.technique in apart) for row in each(rows)]
    notes = [*_percentile_notes(rows, columns), memory.as_told(rows) if "memory_peak" in columns else ""]
    if any(cell.note.endswith(APART) for row in table for cell in row.cells):
        notes.append(tr("‡ Over a baseline that ran on another GPU."))
    return ResultTable(headers, table, [note for note in notes if note])


def _table_row(row, columns, scales, baseline, techniques: Mapping, is_apart: bool) -> TableRow:
    entry = techniques.get(row.technique, {})
    cells = {name: _table_cell(row, name, scales[name], baseline) for name in columns}
    if is_apart and "speedup" in cells:
        cells["speedup"] = _marked(cells["speedup"])
    return TableRow(
        label=row.label,
        row_class=base.state(row).replace(" ", "-"),
        status=row.status,
        words=phrases.status(row.status),
        reason=row.reason or "",
        disturbed=row.disturbed or "",
        reference=safe_href(entry.get("reference")),
        summary=tr(entry.get("summary", "")).replace("`", ""),  # a tooltip has no typeface for code
        cells=list(cells.values()),
    )


def _marked(speedup: TableCell) -> TableCell:
    """A speed-up over a baseline on another GPU. In the small print, so that the CSV has the figure alone."""
    return speedup if speedup.key is None else replace(speedup, note=f"{speedup.note} {APART}".lstrip())


def _table_cell(row, name: str, scale: units.Scale, baseline: pd.Series | None) -> TableCell:
    value = getattr(row, name)
    if name == "speedup" and units.is_open(value, row.speedup_low, row.speedup_high, row.verdict):
        return TableCell(tr("open"))
    if name == "speedup" and units.is_bound(value, row.speedup_low, row.speedup_high):
        text, _ = units.with_interval(value, row.speedup_low, row.speedup_high)
        end = row.speedup_high if units.is_missing(row.speedup_low) else row.speedup_low
        return TableCell(text, end, tr(row.verdict), is_bound=True)
    if units.is_missing(value):
        estimated, is_about = advice.energy(row._asdict()) if name in JOULES else (None, False)
        if estimated is not None and is_about:
            return TableCell(energy.text_of(estimated, is_about), estimated, tr("from mean power"), is_bound=True)
        # Of what disturbance hides the speed-up of, nobody knows when it has paid.
        known = not row.is_baseline and not units.is_missing(row.once_s) and not units.is_missing(row.speedup)
        never = name == "break_even_replies" and known
        return TableCell(tr(NEVER) if never else units.MISSING)
    if name in BOUNDS:
        # As it is written, so that a page of many cells does not hold it twice.
        rounded = float(f"{scale(value):.{BOUND_DIGITS}g}")
        return TableCell(f"{rounded:.9g}", rounded)
    if MEANINGS[name].type == "int64" and not MEANINGS[name].unit:
        return TableCell(f"{value:,.0f}", value)
    if name == "price_per_million":
        text, ends = units.with_interval(value, *money.ends(row))
        return TableCell(text, value, ends)
    if name in INTERVALS:
        written = units.ratio if name == "speedup" else units.with_interval
        text, ends = written(value, *(getattr(row, end) for end in INTERVALS[name]))
        return TableCell(text, value, ", ".join(filter(None, (ends, tr(row.verdict) if name == "speedup" and row.verdict else ""))))
    if name == "run_mfu":
        return TableCell(f"{units.number(100 * value, 2)} %", value, tr(IMPOSSIBLE) if value > 1 else "")
    if name in SHARES:
        return TableCell(f"{units.number(100 * value, 2)} %", value, tr(getattr(row, SHARES[name]) or ""))
    if name in QUALITY_SHARES:
        return TableCell(quality.figure(QUALITY_SHARES[name], value), value)
    if name in PERCENTILES:
        low, high = _percentile_ends(row, name)
        unsupported = units.is_missing(low) and units.is_missing(high)
        ends = "" if unsupported else _between(scale, low, high)
        return TableCell(units.number(scale(value)) + (" †" if unsupported else ""), scale(value), ends)
    if name == "bits_per_byte":
        against = None if baseline is None or row.is_baseline else baseline.bits_per_byte
        return TableCell(units.number(value, 4), value, "" if units.is_missing(against) else units.percent(value / against - 1))
    return TableCell(quality.figure(name, value) if name == "kl_divergence" else units.number(scale(value)), scale(value))


def _percentile_ends(row, name: str) -> tuple[float, float]:
    return tuple(getattr(row, f"{name.removesuffix('_s')}_{end}_s") for end in ("low", "high"))


def _between(scale: units.Scale, low: float, high: float) -> str:
    """An interval; of one end alone, which few replies give, a bound."""
    if units.is_missing(low) or units.is_missing(high):
        return f"≤ {units.number(scale(high))}" if units.is_missing(low) else f"≥ {units.number(scale(low))}"
    return f"{units.number(scale(low))}–{units.number(scale(high))}"


def _percentile_notes(rows: pd.DataFrame, columns: Iterable[str]) -> list[str]:
    """What † means, for the percentiles that some cell's replies do not support."""
    measured = list(each(rows[rows.rate.notna()]))
    short = [
        q
        for name, q in PERCENTILES.items()
        if name in columns and any(all(map(units.is_missing, _percentile_ends(row, name))) for row in measured)
    ]
    if not short:
        return []
    needs = units.listed([tr("{} for p{}").format(stats.percentile_needs(max(q, 1 - q)), f"{q * 100:.0f}") for q in short])
    words = tr("† Too few replies to bound it (independent ones needed: {}).")
    return [words.format(needs)]


def sort_key(cell: TableCell) -> Markup:
    """The attribute of what a cell sorts by, and of what its CSV holds of it: with as many digits as anybody reads, and none where that is
    what it shows. The CSV holds the text of a bound, and of what has nothing to sort by."""
    key = f"{cell.key:.6g}" if isinstance(cell.key, float) else "" if cell.key is None else str(cell.key)
    if key == cell.text and not cell.note:
        return Markup("")
    # HTML needs no quotes around a number.
    told = Markup(f" data-key={key}") if re.fullmatch(r"[\w.+-]+", key, re.ASCII) else Markup(' data-key="{}"').format(key)
    return told + Markup(" data-bound" if cell.is_bound else "")


def told_meaning(meaning: str) -> str:
    """What a column means, for readers of the page, where no cell is empty."""
    said = meaning.replace("empty: never", f"“{NEVER}” where it does not")
    return said.replace("empty: perhaps never", f"{units.MISSING}: perhaps never")


def safe_href(address: str | None) -> str | None:
    """The address where it is one of the web; every other kind (`javascript:`, `data:`, …) is not made a link."""
    return address if address and re.match(r"https?://", address) else None
