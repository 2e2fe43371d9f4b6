"""From a checked study to its cells: pure planning, no I/O."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from speedgrid import workload
from speedgrid.cell import Cell, cannot_run, device_of
from speedgrid.study import check, combinations, origin

BASELINE = "baseline"
# How often a baseline runs among cells that run once, where the study does not say.
BASELINE_RUNS = 4
# Runs as many as it takes; those of a baseline at first, so that drift and noise are seen.
AUTO = "auto"
AUTO_BASELINE_RUNS = 2


def plan(
    study: Mapping,
    registry: Mapping,
    where: str = "config.yaml",
    has_gpu: bool = False,
    further: Mapping[str, int] = MappingProxyType({}),
) -> list[Cell]:
    """The cells of a validated study, in the order in which they are listed: gpu, experiment, model, technique.

    `has_gpu` says what `device: auto` is, `further` how many further runs cells have by now, by their folder, where their runs are `auto`.
    Raises StudyError where keys contradict each other or name what does not exist, or where no cell is left.
    """
    check(study, registry, where)
    cells = [_cell(name, *axes, study, registry, has_gpu) for name in study["experiments"] for axes in combinations(study, name)]
    order = list(study["gpus"])
    cells = [replace(cell, further=further.get(cell.folder, 0)) if cell.further is not None else cell for cell in cells]
    return sorted(cells, key=lambda cell: order.index(cell.gpu))


def repeated(cells: Sequence[Cell]) -> dict[str, Cell]:
    """By its device, the first cell that is measured more than once."""
    found: dict[str, Cell] = {}
    for cell in cells:
        if cell.runs > 1 or cell.further is not None:
            found.setdefault(cell.gpu, cell)
    return found


def is_gpu(gpu: str, study: Mapping, has_gpu: bool) -> bool:
    """Whether a device of the study is a GPU, as far as planning can know; `has_gpu` says what `device: auto` is."""
    device = study["gpus"][gpu]
    return device["device"] == "cuda" or (device["device"] == "auto" and (has_gpu or "name" in device))


def reference_cell(cell: Cell, study: Mapping, registry: Mapping, has_gpu: bool = False) -> Cell:
    """The cell of the unmodified model that `cell` is held against: the experiment's baseline, or the registry's own where that has a
    checkpoint of its own making."""
    baseline = study["experiments"][cell.experiment]["baseline"]
    shown = BASELINE if _is_modified(registry[baseline]) else baseline
    return _cell(cell.experiment, cell.gpu, cell.model, shown, study, registry, has_gpu)


def _is_modified(technique: Mapping) -> bool:
    """Whether a technique loads a checkpoint of its own making, and not the model as it was prepared."""
    return bool({"transform", "checkpoint"} & set(technique))


def environment(technique: Mapping, on_gpu: bool) -> str:
    """The software stack of a technique on a kind of device.

    Where it can run on none of that kind, its jobs only write down why, and take the small environment of the report for that.
    """
    if cannot_run(technique.get("unavailable", "") or lacks(technique, on_gpu), technique["requires"], on_gpu):
        return "report"
    return _stack(technique, on_gpu)


def lacks(technique: Mapping, on_gpu: bool) -> str:
    """What the machine lacks to make the technique's environment for a kind of device (planning notes it in the registry); mostly empty."""
    return technique.get("lacks", {}).get(_stack(technique, on_gpu), "")


def _stack(technique: Mapping, on_gpu: bool) -> str:
    env = technique["env"]
    return env if isinstance(env, str) else env["cuda" if on_gpu else "cpu"]


def _cell(name: str, gpu: str, model: str, technique: str, study: Mapping, registry: Mapping, has_gpu: bool) -> Cell:
    experiment, entry = study["experiments"][name], registry[technique]
    runs = experiment["workload"]
    device = device_of(gpu, study)
    on_gpu = is_gpu(gpu, study, has_gpu)
    made_by = entry.get("checkpoint", technique)
    return Cell(
        gpu=gpu,
        experiment=name,
        model=model,
        technique=technique,
        workload=runs,
        engine=entry["engine"],
        env=environment(entry, on_gpu),
        device=device,
        on_gpu=on_gpu,
        options=workload.options(experiment, runs, entry["options"]),
        transform=registry[made_by].get("transform", {}),
        made_by=made_by,
        source=registry[made_by].get("from", ""),
        calibration=study["models"][model]["calibration"],
        settings=workload.settings(experiment, runs),
        evaluate=(experiment["evaluate"] or {}) if workload.WORKLOADS[runs].quality == "evaluated" else {},
        requires=tuple(entry["requires"]),
        unavailable=entry.get("unavailable", ""),
        seed=study["seed"],
        threads=study["threads"],
        trust_remote_code=study["models"][model]["trust_remote_code"],
        is_baseline=technique == experiment["baseline"],
        runs=_runs(experiment, technique == experiment["baseline"]),
        further=0 if _asked_runs(experiment) == AUTO else None,
        random_weights=origin(study["models"][model]) == "architecture",
        lacks=lacks(entry, on_gpu),
        lossless=entry["lossless"],
        may_take_over=entry["lossless"] and technique != experiment["baseline"] and not _is_modified(registry[experiment["baseline"]]),
    )


def _asked_runs(experiment: Mapping) -> int | str:
    """What an experiment says of its runs. One that says how often its baseline runs, and no more, means that all others run once."""
    return experiment.get("runs", 1 if "baseline_runs" in experiment else AUTO)


def _runs(experiment: Mapping, is_baseline: bool) -> int:
    """How often a cell is measured. A baseline runs more often than cells that run once, so that they have one of its runs nearby."""
    runs = _asked_runs(experiment)
    if isinstance(runs, str):
        return experiment.get("baseline_runs", AUTO_BASELINE_RUNS) if is_baseline else 1
    return experiment.get("baseline_runs", runs if runs > 1 else BASELINE_RUNS) if is_baseline else runs
