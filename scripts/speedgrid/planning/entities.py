"""What jobs are about, found by the wildcards of their output: cells, what makes their checkpoints, and what they are held against."""

import collections
from collections.abc import Mapping, Sequence
from dataclasses import replace

from speedgrid import resources
from speedgrid.cell import Cell, checkpoint_record
from speedgrid.grid import environment, lacks, reference_cell


class Entities:
    """The cells of a study and what they share; `wildcards` are those of a job's output. `left_out` are those that this run does without,
    by folder, with the reason."""

    def __init__(self, cells: Sequence[Cell], study: Mapping, registry: Mapping, has_gpu: bool, left_out: Mapping[str, str]):
        self.cells, self.left_out, self._registry = cells, left_out, registry
        self._by_key = {cell.key: cell for cell in cells}
        # The cells of a gpu, experiment and model that are evaluated; of a group that is left out as a whole, what it would be.
        self.evaluated: dict[resources.Group, list[Cell]] = {}
        for cell in sorted((cell for cell in cells if cell.evaluate), key=lambda cell: cell.folder in left_out):
            group = self.evaluated.setdefault(cell.key[:3], [])
            if cell.folder not in left_out or not group or group[0].folder in left_out:
                group.append(cell)
        # By the record of each checkpoint that is made, the cell that makes it.
        self.makers = _makers(cells, registry)
        # By the record of each checkpoint and model, the cells that cannot run before it is there; by its name, those of each device.
        self.loads: dict[str, list[Cell]] = collections.defaultdict(list)
        self.on_device: dict[str, list[Cell]] = collections.defaultdict(list)
        for cell in (cell for cell in cells if cell.folder not in left_out):
            self.on_device[cell.gpu].append(cell)
            for record in {cell.checkpoint_record, *self.sources(cell), cell.model_record}:
                self.loads[record].append(cell)
        # By its record, the cell of the unmodified model that others are held against.
        self.references = {cell.reference_record: reference_cell(cell, study, registry, has_gpu) for cell in cells if cell.has_reference}

    def cell(self, wildcards) -> Cell:
        """The cell of a result."""
        return self._by_key[(wildcards.gpu, wildcards.experiment, wildcards.model, wildcards.technique)]

    def maker(self, wildcards) -> Cell:
        """The cell whose device and environment make a checkpoint."""
        return self.makers[checkpoint_record(wildcards.model, wildcards.technique, wildcards.dtype)]

    def reference(self, wildcards) -> Cell:
        """The cell of the unmodified model of a group."""
        return self.references[f"results/{wildcards.gpu}/{wildcards.experiment}/{wildcards.model}/reference.parquet"]

    def group(self, wildcards) -> list[Cell]:
        """The cells of a gpu, experiment and model that are evaluated."""
        return self.evaluated[(wildcards.gpu, wildcards.experiment, wildcards.model)]

    def sources(self, cell: Cell) -> list[str]:
        """The records of the checkpoints that the cell's own was made from, the nearest first; that of the model is none of them."""
        records, name = [], cell.source if cell.transform else ""
        while name:
            records.append(checkpoint_record(cell.model, name, cell.options["dtype"]))
            name = self._registry[name].get("from", "")
        return records


def quality_records(cell: Cell) -> dict[str, str]:
    """The files of a cell's quality that it shares with others; empty for what it does not have."""
    has_score = cell.evaluate and not cell.random_weights
    return {
        "requests": cell.requests_record if cell.asks_tasks else "",
        "reference": cell.reference_record if cell.has_reference else "",
        "score": cell.score_record if has_score else "",
    }


def score_env(group: Sequence[Cell]) -> str:
    """The environment that scores a group: lm-eval's where tasks are scored, else the report's."""
    return "evaluation" if group[0].asks_tasks else "report"


def _makers(cells: Sequence[Cell], registry: Mapping) -> dict[str, Cell]:
    """For every checkpoint that is made, the cell whose device and environment make it: one on a GPU where there is one.

    Its specification names the technique that makes the checkpoint, which may be in no experiment itself.
    """
    makers: dict[str, Cell] = {}
    for cell in sorted(cells, key=lambda cell: not cell.on_gpu):
        name = cell.made_by if cell.transform else ""
        while name:
            entry = registry[name]
            maker = replace(
                cell,
                made_by=name,
                source=entry.get("from", ""),
                transform=entry["transform"],
                env=environment(entry, cell.on_gpu),
                requires=tuple(entry["requires"]),
                unavailable=entry.get("unavailable", ""),
                lacks=lacks(entry, cell.on_gpu),
            )
            makers.setdefault(maker.checkpoint_record, maker)
            name = maker.source
    return makers
