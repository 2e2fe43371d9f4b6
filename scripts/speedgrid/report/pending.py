"""What is left to do: for a page that is made while a run goes on, or after one that was stopped. Pure."""

from collections.abc import Mapping, Sequence
from datetime import datetime

from speedgrid import stats
from speedgrid.report import units
from speedgrid.report.language import tr
from speedgrid.schema import MEASURED, NOT_RUN, cell_of


def seconds_left(summary: Sequence[Mapping], runs: Sequence[Mapping]) -> float | None:
    """About how long the cells that no job has come to will take, from rows of schema.SUMMARY and schema.RUNS.

    Devices work side by side, the cells of one after another, each as long as the median of those that it has measured. None where nothing
    is left, or where a device with cells left has measured none.
    """
    took: dict[tuple, float] = {}
    for run in runs:
        key = cell_of(run)
        if None not in key and run["started_at"] and run["ended_at"]:
            spent = datetime.fromisoformat(run["ended_at"]) - datetime.fromisoformat(run["started_at"])
            took[key] = took.get(key, 0.0) + max(spent.total_seconds(), 0.0)
    left = []
    for gpu in dict.fromkeys(row["gpu"] for row in summary if row["status"] == NOT_RUN):
        own = [row for row in summary if row["gpu"] == gpu]
        done = [took[key] for row in own if row["status"] in MEASURED and (key := cell_of(row)) in took]
        if not done:
            return None
        left.append(stats.percentile(done, 0.5) * sum(row["status"] == NOT_RUN for row in own))
    return max(left, default=None)


def in_words(seconds: float | None) -> str:
    """About how long, as people say it; empty where it is not known."""
    if seconds is None:
        return ""
    return tr("about a minute") if seconds < 90 else tr("about {}").format(units.duration(seconds))
