"""Groups and pages made of records_factory's files, for the tests of charts and page."""

from collections.abc import Sequence
from pathlib import Path

import records_factory as made
from speedgrid.report import catalogues, collect, page, rendering, tables
from speedgrid.schema import SCORE


def tables_of(grid: Sequence[dict]) -> tuple[list[dict], list[dict], list[dict]]:
    """Summary, runs and replies of the cells of a grid."""
    cells = [collect.read_cell(cell, made.JOBS) for cell in grid]
    replies = [row for cell in grid for row in rendering.replies_of(rendering.runs_of(cell, made.JOBS))]
    return tables.summary_rows(cells), tables.run_rows(cells), replies


def group_of(folder: Path, cells: Sequence[made.Made] = made.DEFAULT_CELLS, **options) -> tables.Group:
    """The group that made.write_group writes."""
    summary, _, replies = tables_of(made.write_group(folder, cells, **options))
    (group,) = tables.groups(summary, replies)
    return group


def page_of(grid: Sequence[dict], study: dict, parts: page.Parts | None = None) -> str:
    """The page of a grid; `parts` may leave out Vega's code, which takes seconds to bundle."""
    return page.render(parts or quick_parts(), study, *tables_of(grid), scores=scores_of(grid))


def scores_of(grid: Sequence[dict]) -> list[dict]:
    """The scores of the groups of a grid."""
    paths = dict.fromkeys(cell["score"] for cell in grid if cell["score"])
    return [row for path in paths for row in collect.find(path, SCORE, made.JOBS[path], {}).rows]


def quick_parts() -> page.Parts:
    """The page's real sources without Vega: for tests that read the page and do not open it."""
    sources = {name: (rendering.SOURCES / file).read_text(encoding="utf-8") for name, file in rendering.FILES.items()}
    return page.Parts(**sources, vega="/* Vega */", languages=catalogues.read_all())
