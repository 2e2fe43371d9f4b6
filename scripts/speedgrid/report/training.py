"""What the page shows of the workloads `train`, `forward` and `attention`: figures, columns of the table, and the tables of sizes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import altair as alt
import pandas as pd

from speedgrid.report import charts, units
from speedgrid.report.charts import Figure
from speedgrid.report.tables import Group

TABLE = (
    *("rate", "speedup", "latency_mean_s", "latency_std_s", "latency_p50_s", "latency_p95_s", "latency_p99_s"),
    *("largest", "growth", "memory_peak", "memory_reserved", "flop_per_s", "run_mfu", "loss_first", "loss_last", "joule_per_item"),
    *("cold_start_s", "first_reply_s", "load_s", "parameters", "trainable_parameters", "model_bytes", "replies"),
)
# Experiment keys of `generate` alone, which the methods of other workloads leave out.
NOT_SHOWN = ("prompt", "prompt_tokens", "max_new_tokens", "ignore_eos", "sampling", "evaluate", "dtype")
NOUNS = {"train": "step", "forward": "pass", "attention": "pass", "growth": "reply", "largest": "step"}
PLURALS = {"token": "Tokens", "image": "Images", "pass": "Passes"}
SERIES = 8  # colours that can be told apart


@dataclass(frozen=True)
class PointTable:
    """A table with a row a technique and a column a size: title, what it shows, sizes, and rows as (label, cells)."""

    title: str
    caption: str
    heads: list[str]
    rows: list[tuple[str, list[str]]]


def figures(group: Group, points: Sequence[Mapping]) -> list[Figure]:
    """Every figure that the group has data for; `points` are its rows of schema.POINTS."""
    if group.measured.empty:
        return []
    if points:
        makers = (time_by_size, memory_by_size)
        return [figure for make in makers if (figure := make(group, points))] + _present(charts.cold_figure(group))
    found = [speed_figure(group), charts.speedup_figure(group), _time_figure(group), loss_figure(group)]
    return _present(*found, _memory_figure(group), charts.cold_figure(group))


def speed_figure(group: Group) -> Figure:
    """Items a second."""
    noun, unit = NOUNS[group.workload], f"{group.unit}/s"
    caption = "More is better. Bars are typical speeds, of the median {0}; the line is the 95\u00a0% interval; every dot is a {0}."
    return Figure(
        "speed",
        f"{PLURALS[group.unit]} per second",
        caption.format(noun),
        charts.speed(group.rows, group.replies, unit),
        charts._state_legend(group),
        charts._in_words(group.measured, "rate", f" {unit}"),
    )


def loss_figure(group: Group) -> Figure | None:
    """The loss over the counted steps, a line for each technique."""
    losses = group.replies[group.replies.loss.notna() & (group.replies.run == 1)].merge(group.rows[["technique", "label"]], on="technique")
    if losses.empty:
        return None
    table = losses[["label", "reply", "loss"]].round({"loss": 6})
    ends = losses.groupby("label", sort=False).loss.last()
    words = "; ".join(f"{label} {units.number(float(loss))}" for label, loss in ends.items())
    chart = _lines(
        table, alt.X("reply:Q", title="counted step", axis=alt.Axis(tickMinStep=1)), alt.Y("loss:Q", title="loss", scale=_loose())
    )
    caption = "On one batch that does not change. A line that rises, ends or lies above the others is a number format that does not train."
    return Figure("loss", "Loss over the counted steps", caption, chart, _line_legend(table.label), words)


def time_by_size(group: Group, points: Sequence[Mapping]) -> Figure | None:
    """Time of a pass against the size, both on logarithmic axes."""
    table = _measured_points(group, points)
    table["ms"] = table.latency_mean_s * 1e3
    y = alt.Y("ms:Q", title="time (ms)", scale=alt.Scale(type="log"), axis=alt.Axis(format=",~g"))
    caption = "Less is better. Both axes are logarithmic, where a power of the size is a straight line."
    chart = _lines(table, _size_axis(table), y)
    return Figure("time", "Time by size", caption, chart, _line_legend(table.label), _words(table, "ms", "ms"))


def memory_by_size(group: Group, points: Sequence[Mapping]) -> Figure | None:
    """Memory against the size."""
    table = _measured_points(group, points)
    table = table[table.memory_more > 0]
    if table.empty:
        return None
    table["mib"] = table.memory_more / 2**20
    y = alt.Y("mib:Q", title="memory (MiB)", scale=alt.Scale(type="log"), axis=alt.Axis(format=",~g"))
    caption = "Less is better. The most that was held at a size, without what was held before the first one. Both axes are logarithmic."
    chart = _lines(table, _size_axis(table), y)
    return Figure("memory-size", "Memory by size", caption, chart, _line_legend(table.label), _words(table, "mib", "MiB"))


def point_tables(points: Sequence[Mapping]) -> list[PointTable]:
    """Time, rate and memory of every technique at every size; where a series ended, what memory was asked for."""
    if not points:
        return []
    sizes = sorted({row["point"] for row in points})
    shown = (
        ("Time by size", "Mean time, in ms.", lambda row: units.number(_times(row["latency_mean_s"], 1e3))),
        ("Speed-up by size", "Over the baseline at the same size.", lambda row: units.number(row["speedup"])),
        (
            "Rate by size",
            "Operations that are needed, over the time, in TFLOP/s.",
            lambda row: units.number(_times(row["flop_per_s"], 1e-12)),
        ),
        (
            "Memory by size",
            "Most held at the size, without what was held before, in MiB.",
            lambda row: units.number(_times(row["memory_more"], 2**-20)),
        ),
    )
    heads = [f"{size:,}" for size in sizes]
    # Of replies no operations are counted, and a table of nothing but gaps is none.
    told = [(title, caption, text) for title, caption, text in shown if any(text(row) != units.MISSING for row in points)]
    return [PointTable(title, caption, heads, _point_rows(points, sizes, text)) for title, caption, text in told]


def methods(settings: Mapping) -> dict:
    """The settings of an experiment that its workload uses."""
    if settings.get("workload", "generate") == "generate":
        return dict(settings)
    return {key: value for key, value in settings.items() if key not in NOT_SHOWN}


def _point_rows(points: Sequence[Mapping], sizes: Sequence[int], text) -> list[tuple[str, list[str]]]:
    labels = list(dict.fromkeys(row["label"] for row in points))
    cells = {(row["label"], row["point"]): _ended(row) if row["rate"] is None else text(row) for row in points}
    return [(label, [cells.get((label, size), "") for size in sizes]) for label in labels]


def _ended(row: Mapping) -> str:
    asked = row["asked_bytes"]
    return row["status"] + (f", asked for {units.scale('B', [asked]).text(asked)}" if asked else "")


def _times(value: float | None, factor: float) -> float | None:
    return None if value is None else value * factor


def _measured_points(group: Group, points: Sequence[Mapping]) -> pd.DataFrame:
    table = pd.DataFrame([row for row in points if row["rate"] is not None])
    return table[["label", "point", "latency_mean_s", "memory_more"]].astype({"memory_more": float})


def _lines(table: pd.DataFrame, x: alt.X, y: alt.Y) -> alt.LayerChart:
    """A line for each label, with its points."""
    labels = list(dict.fromkeys(table.label))
    color = alt.Color("label:N", scale=alt.Scale(domain=labels, range=[_ink(number) for number in range(len(labels))]), legend=None)
    dash = alt.StrokeDash("label:N", scale=alt.Scale(domain=labels, range=[_dash(number) for number in range(len(labels))]), legend=None)
    base = alt.Chart(table).encode(x=x, y=y, color=color)
    tooltip = [alt.Tooltip("label:N", title="technique"), alt.Tooltip(x.shorthand), alt.Tooltip(y.shorthand, format=".4~g")]
    layers = alt.layer(base.mark_line(strokeWidth=2).encode(strokeDash=dash), base.mark_point(filled=True, size=36).encode(tooltip=tooltip))
    return layers.properties(width="container", height=300, autosize=charts._FIT).configure(**charts.CONFIG)


def _line_legend(labels: Sequence[str]) -> list[tuple[str, str]]:
    return [(f"--chart-line-{number % SERIES + 1}", label) for number, label in enumerate(dict.fromkeys(labels))]


def _ink(number: int) -> str:
    return f"var(--chart-line-{number % SERIES + 1})"


def _dash(number: int) -> list[int]:
    return [[1, 0], [6, 3], [2, 2]][number // SERIES % 3]


def _size_axis(table: pd.DataFrame) -> alt.X:
    """The sizes that were measured, as numbers: 1024 is no 1.024k."""
    axis = alt.Axis(values=sorted(set(table.point.tolist())), format=",d", labelOverlap="greedy", labelFlush=False)
    return alt.X("point:Q", title="size", scale=alt.Scale(type="log", base=2, nice=False), axis=axis)


def _loose() -> alt.Scale:
    return alt.Scale(zero=False)


def _words(table: pd.DataFrame, column: str, unit: str) -> str:
    parts = []
    for label, own in table.groupby("label", sort=False):
        parts.append(
            f"{label}: " + ", ".join(f"{row.point:,}: {units.number(float(getattr(row, column)))} {unit}" for row in own.itertuples())
        )
    return "; ".join(parts)


def _time_figure(group: Group) -> Figure:
    found = charts.latency_figure(group)
    noun = NOUNS[group.workload]
    return replace(found, title=f"Time of a {noun}", caption=found.caption.replace("replies", "steps" if noun == "step" else "passes"))


def _memory_figure(group: Group) -> Figure | None:
    found = charts.memory_figure(group)
    if found is None:
        return None
    noun = "steps" if NOUNS[group.workload] == "step" else "passes"
    legend = [(ink, words.replace("while replying", f"in the {noun}")) for ink, words in found.legend]
    return replace(found, legend=legend, caption=found.caption.replace("replies", noun))


def _present(*found: Figure | None) -> list[Figure]:
    return [figure for figure in found if figure]
