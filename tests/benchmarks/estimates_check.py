"""What `./speedgrid run -n` says before a study, held against what its jobs took: time and peak memory of each cell, and of all.

    .venv-test/bin/python tests/benchmarks/estimates_check.py studies/engines-8b.yaml=FOLDER ... [--without h200-8b,h200-1b]

FOLDER holds a study's summary.parquet and runs.parquet, such as docs/results/h200/engines-1b. Estimates are made for the device that the
tables name, and for as many runs and replies as there were. `--without` leaves rows of costs.csv out, by the name of their machine: those
of the very runs that are judged, where costs were fitted to them, so that the estimate is one for runs that nobody had seen.
"""

import argparse
import dataclasses
import functools
import math
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pandas as pd

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from speedgrid import estimates, foreseen, known, planning, schema  # noqa: E402

# A factor of 1.5 in time, and a fifth in memory.
NEAR = {"time": (1 / 1.5, 1.5), "memory": (0.8, 1.2)}
# The jobs of a cell's measuring, and of its quality.
MEASURING, SCORING = ("quantize", "warmup", "measure"), ("evaluate",)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("runs", nargs="+", metavar="STUDY=FOLDER")
    parser.add_argument("--without", default="", metavar="MACHINE,...", help="rows of costs.csv to leave out")
    arguments = parser.parse_args()
    leave_out(set(filter(None, arguments.without.split(","))))
    rows = [{"study": Path(told.partition("=")[0]).stem, **row} for told in arguments.runs for row in judged(*told.partition("=")[::2])]
    for row in rows:
        print(line(row))
    for what, (least, most) in NEAR.items():
        factors = [row[what] for row in rows if not math.isnan(row[what])]
        near = sum(least <= factor <= most for factor in factors)
        print(f"{what}: {near} of {len(factors)} cells from {least:.2g} to {most:.2g}; all from {min(factors):.2f} to {max(factors):.2f}")
    print(f"time in all: {sum(row['told_s'] for row in rows) / sum(row['took_s'] for row in rows):.2f}")


def leave_out(machines: set[str]) -> None:
    """Let costs be fitted to the other recorded runs alone."""
    there = {row["machine"] for row in estimates.recorded()}
    if machines - there:
        sys.exit(f"--without {', '.join(sorted(machines - there))}: costs.csv has {', '.join(sorted(there))}")
    kept = tuple(row for row in estimates.recorded() if row["machine"] not in machines)
    estimates.recorded = functools.cache(lambda: kept)


def judged(study: str, folder: str) -> Iterator[dict]:
    """Each cell of a study with figures: what was told of it over what it took."""
    summary, runs = (pd.read_parquet(Path(folder) / f"{name}.parquet") for name in ("summary", "runs"))
    # Of a cell that ran at several sizes the summary has one that all finished.
    points = Path(folder) / "points.parquet"
    most = pd.read_parquet(points).groupby(list(schema.AXES)).memory_peak.max() if points.is_file() else {}
    runs["took"] = (pd.to_datetime(runs.ended_at) - pd.to_datetime(runs.started_at)).dt.total_seconds()
    cells = cells_of(Path(study).absolute())
    for row in summary[summary.status.isin(schema.MEASURED)].itertuples():
        if (key := (row.experiment, row.model, row.technique)) not in cells:
            continue
        model, work = cells[key]
        own = runs[(runs.model == row.model) & (runs.technique == row.technique)]
        here = own[(own.experiment == row.experiment) & (own.gpu == row.gpu)]
        jobs = pd.concat([here, own[own.stage == "quantize"]]).drop_duplicates(["stage", "started_at"])
        measures = int((jobs.stage == "measure").sum())
        work = dataclasses.replace(work, runs=max(1, measures), replies=round(row.replies / max(1, row.runs)) or work.replies)
        machine = machine_of(here[here.stage == "measure"].iloc[0])
        told_s = estimates.measuring_s(model, work, machine)
        took_s = jobs[jobs.stage.isin(MEASURING)].took.sum()
        scored_s = jobs[jobs.stage.isin(SCORING)].took.sum()
        parts = {"measuring": told_s / took_s if took_s else math.nan, "quality": math.nan}
        if scored_s and (told := estimates.scoring_s(model, work, machine)):
            parts["quality"] = told / scored_s
            told_s, took_s = told_s + told, took_s + scored_s
        held, peak = estimates.held(model, work, machine), most.get((row.gpu, *key), row.memory_peak)
        yield {
            "technique": row.technique,
            "experiment": row.experiment,
            "told_s": told_s,
            "took_s": took_s,
            "time": told_s / took_s if took_s else math.nan,
            **parts,
            "held": held,
            "peak": peak,
            "memory": held / peak if peak else math.nan,
        }


def cells_of(study: Path) -> Mapping[tuple[str, str, str], tuple]:
    """The cells of a study by experiment, model and technique, each with its model and its work; planned where nothing is measured."""
    with tempfile.TemporaryDirectory() as folder:
        before = Path.cwd()
        os.chdir(folder)
        try:
            grid = planning.read_grid(study)
            models = {name: foreseen.of_entry(name, entry) for name, entry in grid.study["models"].items()}
        finally:
            os.chdir(before)
    cells = [(cell, models[cell.model]) for cell in grid.cells if models[cell.model]]
    return {(cell.experiment, cell.model, cell.technique): (model, foreseen.work(cell)) for cell, model in cells}


def machine_of(run) -> known.Machine:
    """The machine of a cell, by the row of the job that measured it."""
    on_gpu = run.device == "cuda"
    anew = "AVX-512 BF16" in str(run.cpu_flags)
    memory = float(run.device_memory if on_gpu else run.memory)
    return known.Machine(on_gpu, memory, name=run.device_name, cores=int(run.cores), lays_out_anew=anew)


def line(row: Mapping) -> str:
    name = f"{row['study']} {row['experiment']} {row['technique']}"
    # Errors of both may make up for one another.
    apart = "" if math.isnan(row["quality"]) else f" ({row['measuring']:.2f} measuring, {row['quality']:.2f} quality)"
    time = f"{row['told_s']:6.0f} s told, {row['took_s']:6.0f} s taken: {row['time']:.2f}{apart}"
    return f"{name:<60} {time}   {row['held'] / 1e9:6.2f} GB told, {row['peak'] / 1e9:6.2f} GB held: {row['memory']:.2f}"


if __name__ == "__main__":
    main()
