"""Where jobs run: what each asks of this machine or of a cluster, as the rules' `threads:` and `resources:` want it."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from speedgrid import resources
from speedgrid.cell import Cell
from speedgrid.snakemake_seam import Run, looked_up_once


class Place:
    """The devices of a study, the nodes of a cluster, and the cores of this machine."""

    def __init__(self, cells: Sequence[Cell], study: Mapping, run: Run):
        self._gpus, self._run = study["gpus"], run
        self._on_gpu = {cell.gpu: cell.on_gpu for cell in cells}
        self._node, self._probed_at = _nodes(cells, study)

    @property
    def gpus(self) -> list[str]:
        """The devices that have cells."""
        return list(self._on_gpu)

    @property
    def cores(self) -> int:
        """Every core of this machine that a job may have, so that nothing runs beside it."""
        return self._run.cores

    def on_gpu(self, gpu: str) -> bool:
        """Whether a device of the study is a GPU."""
        return self._on_gpu[gpu]

    def node_of(self, cell: Cell) -> str:
        """The node of a cluster on which a cell is measured; empty where Slurm chooses."""
        return self._node[cell.key[:3]]

    def threads(self, on_gpu: bool) -> int:
        """The threads that a job is scheduled with: those of resources.threads for the GPUs that Snakemake may use here."""
        return resources.threads(self._run.cores, self._run.gpu_jobs, on_gpu)

    def of_cell(self, cell: Cell) -> Mapping[str, int | str]:
        """What a job of a cell asks for: its device, alone, unless the cell can only write down why it cannot run."""
        return resources.LIGHT if cell.cannot_run else self._on_device(cell.gpu, cell.on_gpu, self.node_of(cell))

    def of_make(self, cell: Cell) -> Mapping[str, int | str]:
        """What a job asks for that makes a checkpoint of a cell."""
        asked = self.of_cell(cell)
        return asked if cell.cannot_run or not cell.on_gpu else resources.of_make(asked, self._makes)

    def threads_of_make(self, cell: Cell) -> int:
        """The threads that it is scheduled with: with several side by side an even share of the cores, so that nothing is timed beside
        them on a machine with one GPU."""
        return resources.threads(self._run.cores, self._makes or self._run.gpu_jobs, cell.on_gpu)

    @property
    def _makes(self) -> int:
        """How many share a GPU of this machine; on a cluster none does."""
        return self._run.makes if self._run.is_local else 0

    def of_probe(self, gpu: str) -> Mapping[str, int | str]:
        """What the job that probes a device asks for."""
        return self._on_device(gpu, self._on_gpu[gpu], self._probed_at[gpu])

    def _on_device(self, gpu: str, on_gpu: bool, node: str) -> Mapping[str, int | str]:
        return resources.on_device(self._gpus[gpu].get("slurm", {}), on_gpu, self._run.is_local, node)

    def answers(self, asks: Callable[[Any], Mapping], *also: str) -> dict[str, Callable]:
        """For each name of a resource a function that takes its answer out of what a job asks for.

        Only names that a device of the study uses, and those of `also`: every one costs time for every job of a large grid.
        """
        used = {name for device in self._gpus.values() for name in device.get("slurm", {})}
        extra = ["slurm_extra"] * (any(self._node.values()) or not all(self._on_gpu.values()))
        return by_name([*resources.LIGHT, *also, *(name for key, name in resources.NAMES.items() if key in used), *extra], asks)


def by_name(names: Sequence[str], asks: Callable[[Any], Mapping]) -> dict[str, Callable]:
    """For each name of a resource a function, as Snakemake calls it, that takes its answer out of what a job asks for."""

    def answer(name: str) -> Callable:
        return looked_up_once(lambda wildcards, attempt: resources.on_attempt(asks(wildcards), attempt).get(name))

    return {name: answer(name) for name in names}


def _nodes(cells: Sequence[Cell], study: Mapping) -> tuple[dict[resources.Group, str], dict[str, str]]:
    """The node of a cluster for each group of cells, and for the job that probes each device: that of its first group."""
    groups: dict[str, dict[resources.Group, None]] = {}
    for cell in cells:
        groups.setdefault(cell.gpu, {})[cell.key[:3]] = None
    node: dict[resources.Group, str] = {}
    for gpu, own in groups.items():
        node |= resources.nodes(study["gpus"][gpu].get("slurm", {}), list(own))
    return node, {gpu: node[next(iter(own))] for gpu, own in groups.items()}
