"""Figures of the workloads `train`, `forward` and `attention`, beside those that they have in common with replies: pure functions from
records (cells.CellRecords) to columns of schema.SUMMARY, and to the rows of schema.POINTS."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

from speedgrid import ceilings, noise, stats
from speedgrid.schema import POINTS, items_of
from speedgrid.workload import WORKLOADS

LAST_SHARE = 10  # of the counted steps, the last tenth gives the loss at last


def at_common_points(cells: Sequence) -> list:
    """The cells, with the size that figures of a group are of: the largest that all its ranked cells finished, so that all have done
    the same work. What has not finished that, or where they have none in common, has its own."""
    groups: dict[tuple, list] = {}
    for cell in cells:
        if cell.is_ranked:
            groups.setdefault(cell.group, []).append(_points(cell))
    common = {group: max(set.intersection(*map(set, sizes)), default=None) for group, sizes in groups.items()}
    sized = [(cell, common.get(cell.group), _points(cell)) for cell in cells]
    return [_at(cell, shared if shared in points else max(points)) if points else cell for cell, shared, points in sized]


def _at(cell, point: int):
    """The cell with the size that its figures are of. What is of that size already stays, with the runs that it has read."""
    return cell if cell.point == point else replace(cell, point=point)


def speeds_by_size(cells: Sequence) -> dict[tuple, dict[int, stats.Speed]]:
    """The speed of every cell of `at_common_points` at every size that it finished, over all of its runs, by its AXES and the size.

    It is made as that of the summary is, which at the size that is compared is the same one. Beside a cell that has not finished a size
    stands what it has.
    """
    groups: dict[tuple, list] = {}
    for cell in cells:
        if cell.point is not None and cell.has_figures:
            groups.setdefault(cell.group, []).append(cell)
    found: dict[tuple, dict[int, stats.Speed]] = {}
    for members in groups.values():
        counted = [cell.is_ranked for cell in members]
        for point in sorted({size for cell in members for size in _points(cell)}):
            there = [replace(cell, point=point) if point in _points(cell) else cell for cell in members]
            runs = [(cell.device, [run.speed for run in cell.runs]) for cell in there]
            speeds = noise.speeds(runs, counted, members[0].confidence)
            for cell, speed in zip(there, speeds, strict=True):
                if cell.point == point:
                    found.setdefault(cell.axes, {})[point] = speed
    return found


def common_steps(cells: Sequence) -> dict[tuple, int]:
    """How many counted steps all ranked cells of a group did at least, by the group: where each counts until its time is known well enough,
    some learn for longer, and where their losses end tells no quality."""
    found: dict[tuple, int] = {}
    for cell in cells:
        if cell.is_ranked:
            found[cell.group] = min(found.get(cell.group, len(cell.replies)), len(cell.replies))
    return found


def _what_grows(cell) -> str | None:
    return json.loads(cell.measure.facts["job"])["settings"].get("grows")


def figures(cell, row: Mapping, sizes: Mapping[int, stats.Speed], steps: int | None = None) -> dict:
    """The columns of schema.WORK of a cell with figures; `row` is what the summary holds of it so far, `sizes` its speed at each size,
    `steps` how many of its counted steps the other cells of its group did, too: all where left out."""
    runs = cell.replies
    losses = [run["loss"] for run in runs]
    found = {"point": cell.point, "run_flop": runs[0]["flop"], **_rate_of_work(cell, runs[0], row["rate"])}
    if any(loss is not None for loss in losses):
        shared = losses[:steps]
        last = shared[-max(1, len(shared) // LAST_SHARE) :]
        is_finite = None not in last and all(loss is not None and math.isfinite(loss) for loss in losses[len(shared) :])
        found |= {"loss_first": _finite(losses[0]), "loss_last": _finite(sum(last) / len(last)) if is_finite else None}
    if cell.point is not None:
        # What the process held before and beside is of all its sizes.
        found |= {"memory_peak": runs[0]["point_memory"], "memory_load_peak": None, "memory_reserved": None}
        found["largest"] = max(_points(cell))
        found["grows"] = _what_grows(cell)
        if WORKLOADS[cell.cell["workload"]].seeks_largest:
            found["ended_by"] = "memory" if _ends(cell) else "model"
        times = [(point, items_of(_runs_at(cell, point)[0]) / speed.value) for point, speed in sorted(sizes.items())]
        if grown := growth(times):
            found |= {"growth": grown.value, "growth_low": grown.low, "growth_high": grown.high}
        if at_last := growth(times[-2:]):
            found["growth_last"] = at_last.value
    elif row["energy_valid"]:
        # Of a series of sizes the energy is that of all of them together.
        found["joule_per_item"] = row["energy"] / sum(run["items"] for run in runs)
    return found


def growth(times: Sequence[tuple[int, float]]) -> stats.Estimate | None:
    """The power of the size that the time grows with, from (size, seconds): the slope of a straight line through their logarithms, by least
    squares, with the 95 % interval of Student's t. None from fewer than two sizes, no interval from fewer than three.

    What is spent whatever the size pulls it towards 0, so that it is a lower bound for what it becomes at large sizes.
    """
    if len(times) < 2:
        return None
    x, y = ([math.log(pair[axis]) for pair in times] for axis in (0, 1))
    centre, middle = stats.mean(x), stats.mean(y)
    spread = sum((one - centre) ** 2 for one in x)
    slope = sum((one - centre) * (other - middle) for one, other in zip(x, y, strict=True)) / spread
    if len(times) < 3:
        return stats.Estimate(slope)
    left = sum((other - middle - slope * (one - centre)) ** 2 for one, other in zip(x, y, strict=True))
    half = stats.t_quantile((1 + stats.CONFIDENCE) / 2, len(times) - 2) * math.sqrt(left / (len(times) - 2) / spread)
    return stats.Estimate(slope, slope - half, slope + half)


def point_rows(cells: Sequence, speeds: Mapping[tuple, Mapping[int, stats.Speed]] | None = None) -> list[dict]:
    """The rows of schema.POINTS: every size of every cell that ran at several, and the size that did not fit. `speeds` are those of
    `speeds_by_size`, where the caller has them."""
    speeds = speeds_by_size(at_common_points(cells)) if speeds is None else speeds
    baselines = {cell.group: speeds.get(cell.axes, {}) for cell in cells if cell.cell["is_baseline"] and cell.is_ranked}
    return [row for cell in cells for row in _rows_of(cell, speeds.get(cell.axes, {}), baselines.get(cell.group, {}))]


def _rows_of(cell, speeds: Mapping[int, stats.Speed], baseline: Mapping[int, stats.Speed]) -> list[dict]:
    found = []
    for point, speed in speeds.items():
        whole, typical = replace(cell, point=point), speed.interval()
        first = whole.replies[0]
        times = stats.pooled([stats.level([run["reply_s"] for run in replies]) for replies in whole.replies_by_run]).interval()
        row = _keys(cell) | {"status": first["status"], "reason": first["reason"], "point": point, "replies": len(whole.all_replies)}
        row |= {"rate": typical.value, "rate_low": typical.low, "rate_high": typical.high}
        row |= {
            "time_s": items_of(first) / typical.value,
            "time_low_s": typical.high and items_of(first) / typical.high,
            "time_high_s": typical.low and items_of(first) / typical.low,
        }
        # A time is never negative, and an interval from few and scattered passes need not say that it might be.
        row |= {"latency_mean_s": times.value, "latency_low_s": times.low and max(times.low, 0.0), "latency_high_s": times.high}
        row |= {"memory_peak": first["point_memory"], "memory_more": _more(cell, first["point_memory"])}
        work = _rate_of_work(cell, first, typical.value)
        row |= {"flop_per_s": work.get("flop_per_s"), "mfu": work.get("run_mfu")}
        if point in baseline:
            row["speedup"] = 1.0
            if not cell.cell["is_baseline"]:
                ratio = stats.over(speed, baseline[point])
                row |= {
                    "speedup": ratio.told,
                    "speedup_low": ratio.low,
                    "speedup_high": ratio.high,
                    "verdict": stats.between(speed, baseline[point]),
                }
        found.append(row)
    columns = ("status", "reason", "point", "asked_bytes")
    return found + [_keys(cell) | {name: row[name] for name in columns} for row in _ends(cell)]


def _ends(cell) -> list[Mapping]:
    """The rows of sizes that did not fit."""
    return [row for row in cell.measure.rows if row["reply"] is None and row["point"] is not None]


def _finite(loss: float | None) -> float | None:
    """A loss that overflowed is no figure; tables hold none for it, those of an older speedgrid hold NaN."""
    return loss if loss is not None and math.isfinite(loss) else None


def _keys(cell) -> dict:
    return (
        dict.fromkeys(column.name for column in POINTS.columns)
        | {name: cell.cell[name] for name in ("gpu", "experiment", "model", "technique", "label", "is_baseline")}
        | {
            "engaged": cell.measure.facts.get("engaged"),
            "unit": cell.measure.facts.get("unit"),
        }
    )


def _more(cell, peak: int | None) -> int | None:
    """Memory of a size beyond what the process held before it began."""
    before = cell.measure.facts.get("memory_before")
    return None if peak is None or before is None else max(0, peak - before)


def _rate_of_work(cell, run: Mapping, rate: float) -> dict:
    """Operations a second at a speed, of which every run does what this one did, and their share of what the device was seen to do in the
    same number format."""
    if not run["flop"]:
        return {}
    flop_per_s = run["flop"] / items_of(run) * rate
    limits = ceilings.limits(cell.probe.rows, cell.probe.facts)
    try:
        most = limits and limits.rate(cell.measure.facts.get("multiplies_in") or "")
    except KeyError:
        most = None
    return {"flop_per_s": flop_per_s, "run_mfu": flop_per_s / most if most else None}


def _points(cell) -> list[int]:
    """The sizes that a cell finished, in order."""
    return list(dict.fromkeys(row["point"] for row in cell.measure.rows if row["reply"] is not None and row["point"] is not None))


def _runs_at(cell, point: int) -> list[dict]:
    return [row for row in cell.measure.rows if row["reply"] is not None and row["point"] == point]
