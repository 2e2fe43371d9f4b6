"""Between Snakemake and the grid: a study becomes the jobs that the rules ask about.

`load` reads, `entities`, `place` and `order` plan, `stages` answers for each kind of job, `grid` for all of them; `checks` and `run` are
what happens before the first job, between runs, and after the last job. The names below are those that rules and scripts use.
"""

from speedgrid.planning.checks import check_machine
from speedgrid.planning.elsewhere import of_another_device
from speedgrid.planning.grid import Grid
from speedgrid.planning.load import (
    DEFAULT_STUDY,
    ROOT,
    default_study,
    passed_over,
    read_grid,
    read_registry,
    read_study,
    read_yaml,
    study_files,
    study_hash,
    study_path,
)
from speedgrid.planning.run import (
    BY_HAND,
    PAGE_ONLY,
    PLANNED,
    code,
    end,
    is_more_wanted,
    keep_further,
    leave_failures,
    made_by_hand,
    make_page,
    nothing_measured,
    plan_run,
    stays,
    take_back_failures,
    where_it_is,
)

__all__ = [
    "BY_HAND",
    "DEFAULT_STUDY",
    "PAGE_ONLY",
    "PLANNED",
    "ROOT",
    "Grid",
    "check_machine",
    "code",
    "default_study",
    "end",
    "is_more_wanted",
    "keep_further",
    "leave_failures",
    "made_by_hand",
    "make_page",
    "nothing_measured",
    "of_another_device",
    "passed_over",
    "plan_run",
    "read_grid",
    "read_registry",
    "read_study",
    "read_yaml",
    "stays",
    "study_files",
    "study_hash",
    "study_path",
    "take_back_failures",
    "where_it_is",
]
