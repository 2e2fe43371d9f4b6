"""What the page shows of the workloads `train`, `forward` and `attention` beside charts: columns of the table, and the tables of sizes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from speedgrid.report import units
from speedgrid.report.language import tr

TABLE = (
    *("rate", "speedup", "latency_mean_s", "latency_std_s", "latency_p50_s", "latency_p95_s", "latency_p99_s"),
    *(
        "largest",
        "growth",
        "memory_peak",
        "memory_reserved",
        "flop_per_s",
        "run_mfu",
        "loss_first",
        "loss_last",
        "joule_per_item",
        "price_per_million",
    ),
    *("cold_start_s", "first_reply_s", "load_s", "parameters", "trainable_parameters", "model_bytes", "replies"),
)


@dataclass(frozen=True)
class PointTable:
    """A table with a row a technique and a column a size: title, what it shows, sizes, and rows as (label, cells)."""

    title: str
    caption: str
    heads: list[str]
    rows: list[tuple[str, list[str]]]


def point_tables(points: Sequence[Mapping]) -> list[PointTable]:
    """Time, rate and memory of every technique at every size; where a series ended, what memory was asked for."""
    if not points:
        return []
    sizes = sorted({row["point"] for row in points})
    shown = (
        (
            tr("Time by size"),
            tr("What one takes at its speed, in ms, with its 95\u00a0% interval."),
            lambda row: _with_ends(row, ("time_s", "time_low_s", "time_high_s"), 1e3),
        ),
        (
            tr("Speed-up by size"),
            tr("Over the baseline at the same size, with its 95\u00a0% interval."),
            _speedup,
        ),
        (
            tr("Rate by size"),
            tr("Operations that are needed, over the time, in TFLOP/s."),
            lambda row: units.number(_times(row["flop_per_s"], 1e-12)),
        ),
        (
            tr("Memory by size"),
            tr("Most held at the size, without what was held before, in MiB."),
            lambda row: units.number(_times(row["memory_more"], 2**-20)),
        ),
    )
    heads = [f"{size:,}" for size in sizes]
    # Of replies no operations are counted, and a table of nothing but gaps is none.
    told = [(title, caption, text) for title, caption, text in shown if any(text(row) != units.MISSING for row in points)]
    return [PointTable(title, caption, heads, _point_rows(points, sizes, text)) for title, caption, text in told]


def _point_rows(points: Sequence[Mapping], sizes: Sequence[int], text) -> list[tuple[str, list[str]]]:
    labels = list(dict.fromkeys(row["label"] for row in points))
    cells = {
        (row["label"], row["point"]): units.ended(row["status"], row["asked_bytes"]) if row["rate"] is None else text(row) for row in points
    }
    return [(label, [cells.get((label, size), "") for size in sizes]) for label in labels]


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _speedup(row: Mapping) -> str:
    return units.speedup_in_full(row["speedup"], row["speedup_low"], row["speedup_high"], row["verdict"], sign="")


def _with_ends(row: Mapping, names: tuple[str, str, str], factor: float = 1.0) -> str:
    """A figure with the ends of its interval, where it has one."""
    text, ends = units.with_interval(*(_times(row[name], factor) for name in names))
    return f"{text} ({ends})" if ends else text
