"""Results that are there and were measured on another device: a folder that was copied, a clone with results in it, a machine whose device
was exchanged.

With `device: auto` a job has the same specification on every machine, so that its result counts as there. Without a look at who measured
it, the figures of one machine would be shown as those of another, and what is missing be measured on another device than what it is held
against.
"""

from collections.abc import Iterator
from pathlib import Path

from speedgrid import commands, hardware, records
from speedgrid.planning.grid import Grid
from speedgrid.schema import MEASURE, PROBE, Table
from speedgrid.snakemake_seam import Run, is_forced

# Rules of runs whose results are figures of a device.
MEASURING = ("measure", "aggregate")
# Columns that are long and not needed here.
LONG = ("token_s", "token_ids", "text")


def of_another_device(grid: Grid, workflow) -> str:
    """A line that says which results of a plan were measured on a device that this machine lacks, and what to do; empty where there are
    none, for a run that comes to no figures, and for one that measures all anew. An entry of `gpus` with a name may be of another machine:
    its results are what it says.

    Of each group one cell that took its device is looked at: where the cells of a group ran on several, the page says so.
    """
    if not Run(workflow).comes_to(*MEASURING) or is_forced(workflow):
        return ""
    for gpu, entry in grid.study["gpus"].items():
        here = hardware.names(entry)
        for facts in _measured(grid, gpu):
            is_named = entry.get("name") and entry["name"].lower() in facts["device_name"].lower()
            if facts["device_name"] not in here and not is_named:
                if facts["device"] == "cuda" and (why := no_gpu_to_be_had()):
                    # Perhaps it is this machine's own, and no result need go anywhere.
                    return f"{grid.study_file}: gpus.{gpu}: {why}"
                return (
                    f"{grid.study_file}: gpus.{gpu}: results/{gpu} was measured on {facts['device_name']!r} (machine {facts['host']}), and"
                    f" this machine has {' and '.join(map(repr, dict.fromkeys(here))) or 'no such GPU'}. To measure here, move it away"
                    f" (mv results older); {commands.to_page(grid.study_file)} makes a page of what is there, and"
                    f" {commands.program()} compare older results holds the two against each other"
                )
    return ""


def no_gpu_to_be_had() -> str:
    """Why the GPUs of this machine cannot be had although it has some, and what to do; empty where they can, and where it has none."""
    instead = "write `device: cpu` to measure the processor"
    if fault := hardware.driver_fault():
        restart = "Where one should be here, restart the machine or the container"
        return f"the NVIDIA driver is loaded and names no GPU ({fault}). {restart}; {instead}"
    if told := hardware.hidden_gpus():
        name = "name a whole one by its number or UUID, as a part of a GPU (MIG) is not measured"
        return f"CUDA_VISIBLE_DEVICES is {told!r}, which is none of the GPUs that nvidia-smi lists; {name}, or {instead}"
    return ""


def _measured(grid: Grid, gpu: str) -> Iterator[dict]:
    """The facts of the device's probe, and of one measured cell of each of its groups; of jobs that took the device."""
    groups: dict[tuple, list[str]] = {}
    for cell in grid.cells:
        if cell.gpu == gpu:
            groups.setdefault(cell.key[:3], []).append(cell.measures[0])
    for paths, table in [([f"results/{gpu}/probe.parquet"], PROBE), *((paths, MEASURE) for paths in groups.values())]:
        found = (facts for path in paths if (facts := _facts(path, table)).get("device_name"))
        yield from [first] if (first := next(found, None)) else []


def _facts(path: str, table: Table) -> dict:
    """What a result file says of its job; nothing where it is not there or cannot be read, so that its job is to be done anew."""
    try:
        return records.read(path, table, LONG).facts if Path(path).exists() else {}
    except (records.RecordError, ImportError):
        # Where the package that reads results does not work, its jobs say so.
        return {}
