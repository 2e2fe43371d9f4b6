"""The charts: one pure function each, from the rows of a group (tables.Group) to an Altair chart, in a module for each theme.

base.py is what they share, families.py the colours. A chart that has no data is not there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

from speedgrid.report.charts import energy, latency, memory, money, phases, quality, reading, runs, sizes, speed, starts, tradeoff
from speedgrid.report.charts.base import Figure
from speedgrid.report.tables import Group
from speedgrid.schema import NOT_RUN

OF_REPLIES = (
    *(speed.speed_figure, speed.speedup_figure, phases.phases_figure, speed.ceiling_figure, latency.latency_figure),
    *(memory.memory_figure, energy.energy_figure, money.money_figure, starts.cold_figure, quality.quality_figure),
    *(starts.pays_figure, latency.ecdf_figure, runs.replies_figure, runs.runs_figure, reading.reading_figure),
)
OF_STEPS = (
    *(speed.speed_figure, speed.speedup_figure, latency.latency_figure, sizes.loss_figure, memory.memory_figure),
    *(tradeoff.memory_figure, energy.energy_figure, money.money_figure, starts.cold_figure, runs.replies_figure, runs.runs_figure),
)
OF_SIZES = (sizes.time_figure, sizes.rate_figure, sizes.memory_figure)


def figures(group: Group, points: Sequence[Mapping] = ()) -> list[Figure]:
    """Every figure that the group has data for; `points` are its rows of schema.POINTS."""
    if group.measured.empty:
        return []
    if points:
        found = [*(make(group, points) for make in OF_SIZES), starts.cold_figure(group)]
    else:
        # What no job has come to is named once, where the speeds are.
        waiting = group.rows.status == NOT_RUN
        come_to = replace(group, rows=group.rows[~waiting]) if waiting.any() else group
        made = OF_REPLIES if group.is_generation else OF_STEPS
        found = [make(group if make is speed.speed_figure else come_to) for make in made]
    return [figure for figure in found if figure]
