"""Which cells a run with `--minutes` leaves out, and the file from which the jobs of the report and later pages know them."""

import json
import math
import os
from collections.abc import Mapping
from pathlib import Path

from speedgrid import amounts, estimates, foreseen, records, selection
from speedgrid.planning.grid import Grid
from speedgrid.snakemake_seam import Run
from speedgrid.study import StudyError

VARIABLE = selection.MINUTES
# Cells that the last run left out, with the reason; not there where it left out none.
FILE = "results/left_out.json"
# Set by `./speedgrid report`, beside which a run may go on: it plans nothing of its own.
PAGE_ONLY = "SPEEDGRID_PAGE_ONLY"


def left_out(grid: Grid, workflow=None) -> dict[str, str]:
    """The cells to leave out, by folder, with the reason: those that do not fit into the minutes of this run, or what the file says where a
    plan is read for a job or a page of such a run.

    Raises StudyError where nothing fits.
    """
    if workflow is None or not Run(workflow).is_main or PAGE_ONLY in os.environ:
        return _read(grid.study_file)
    told = os.environ.get(VARIABLE)
    return _beyond(grid, _minutes(told)) if told else {}


def keep(grid: Grid) -> None:
    """Before the first job: write down what this run leaves out, or that it leaves out nothing."""
    if not grid.left_out:
        Path(FILE).unlink(missing_ok=True)
        return
    told = {"study_file": grid.study_file, "left_out": grid.left_out}
    with records.replacing(Path(FILE)) as temporary:
        temporary.write_text(json.dumps(told, ensure_ascii=False, indent=1) + "\n", encoding="utf-8")


def _read(study_file: str) -> dict[str, str]:
    """What the file says of a study; nothing where there is none, or where it is of another study or not what this module wrote."""
    try:
        told = json.loads(Path(FILE).read_text(encoding="utf-8"))
        return {str(folder): str(why) for folder, why in told["left_out"].items()} if told["study_file"] == study_file else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def _minutes(told: str) -> float:
    try:
        return float(told)
    except ValueError:
        raise StudyError(f"{VARIABLE}: {told!r} is not a number of minutes") from None


def _beyond(grid: Grid, minutes: float) -> dict[str, str]:
    left = foreseen.Left.of(grid)
    candidates = _candidates(grid.registry, left)
    if left.unknown and not candidates:
        raise StudyError(f"{grid.study_file}: how long its cells take cannot be estimated; run it without --minutes")
    chosen = selection.choose(candidates, 60 * minutes, estimates.FIXED_S)
    if candidates and not chosen:
        first = selection.choose(candidates, math.inf)[0]
        seconds = math.ceil(estimates.FIXED_S + selection.adds(first, set()))
        least = f"{seconds} s" if seconds < 120 else amounts.minutes(math.ceil(seconds / 60))
        alone = first.name.removeprefix("results/")
        raise StudyError(f"--minutes {minutes:g} is too little: {alone} alone takes some {least}, by estimate")
    kept = {one.name for one in chosen}
    found = {one.name: f"does not fit into {amounts.minutes(minutes)}, by estimate" for one in candidates if one.name not in kept}
    return found | {cell.folder: "how long it takes cannot be estimated, so that --minutes leaves it out" for cell in left.unknown}


def _candidates(registry: Mapping, left: foreseen.Left) -> list[selection.Candidate]:
    candidates = []
    for cell, model, work in left.cells:
        lacking, on_gpu = (foreseen.environments_of(cell) & left.environments) - left.machine.made, left.machine.is_gpu
        shared = {f"environment {name}": estimates.environment_s(name, on_gpu) for name in lacking}
        if cell.model in left.missing:
            shared[f"model {cell.model}"] = estimates.preparing_s(model)
        candidates.append(
            selection.Candidate(
                name=cell.folder,
                group=cell.key[:3],
                family=registry[cell.technique]["family"],
                is_baseline=cell.is_baseline,
                seconds=estimates.cell_s(model, work, left.of_cell(cell)),
                shared=shared,
            )
        )
    return candidates
