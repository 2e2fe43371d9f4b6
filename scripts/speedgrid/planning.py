"""Between Snakemake and the grid: reads the study's files, and answers what the rules ask about a job by its wildcards.

The rules name these functions as they are, `params: job=grid.measure_job`, so that no rule holds logic of its own. Results, models and
what a study names are in the working folder, which is the current one; code, registry and environments where this file is.
"""

import collections
import csv
import filecmp
import hashlib
import inspect
import json
import os
import re
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from speedgrid import (
    checkpoints,
    environments,
    files,
    fingerprint,
    hardware,
    hub,
    inputs,
    lock,
    outcomes,
    records,
    sharpen,
    site,
    techniques,
)
from speedgrid.grid import (
    Cell,
    Turn,
    check_nodes,
    checkpoint_record,
    device_of,
    environment,
    lacks,
    model_job,
    plan,
    probe_job,
    reference_cell,
    requests_job,
    score_job,
    turns,
)
from speedgrid.jobtext import handed
from speedgrid.schema import CHECKPOINT, MODEL
from speedgrid.sharpen import Further
from speedgrid.snakemake_seam import Run, looked_up_once, spare_lookups
from speedgrid.study import StudyError, check_devices, merge_registry, read, validate

ROOT = Path(__file__).resolve().parents[2]
DEFAULT_STUDY = "config.yaml"
TECHNIQUES_SCHEMA = "rules/schemas/techniques.schema.yaml"
# Written with tables and page that were not made by their rules but by hand (scripts/make_page.py).
BY_HAND = "results/.made-by-hand"
# Set for a run that takes the place of another.
GOES_ON = "SPEEDGRID_GOES_ON"
# Set by `./speedgrid report`, beside which a run may go on: nothing of a run's own may change.
PAGE_ONLY = "SPEEDGRID_PAGE_ONLY"
# How many files the last line of a run with failures names.
FAILURES_NAMED = 6
# Newer than results/plan.json where that is no longer the plan.
PLANNED = ".speedgrid/planned"
# Functions that the jobs of a cell do not call although their scripts hold a call, by what they are told: those of other workloads, and
# the rule that ends a series where the study says a number.
NOT_FOR_REPLIES = (("workloads.repeat", "loaded"), ("workloads.repeat", "measure"))
NOT_FOR_OTHERS = (("workloads.generate", "loaded"), ("", "replies"))
NOT_FOR_A_NUMBER = (("stats", "stop"),)

PAGE_SOURCES = "report"
NO_FURTHER = Further()


def code(script: str) -> str:
    """The fingerprint of what a script of scripts/ does, as a parameter of its rule: an edit that changes it runs the jobs again.

    As inputs the same files, two dozen for each job, were a fifth of the work of planning a large grid.
    """
    return fingerprint.of(script)


def all_cores(workflow) -> Callable[[object], int]:
    """Every core of this machine that a job may have, so that nothing runs beside it."""
    # A function of the job, because Snakemake knows its executor only after it has read the rules.
    return looked_up_once(lambda wildcards: Run(workflow).cores)


def _by_name(names: list[str], asks: Callable[[object], Mapping]) -> dict[str, Callable]:
    """For each name of a resource a function, as Snakemake calls it, that takes its answer out of what a job asks for."""

    def answer(name: str) -> Callable:
        return looked_up_once(lambda wildcards, attempt: site.on_attempt(asks(wildcards), attempt).get(name))

    return {name: answer(name) for name in names}


# The resources of the jobs that prepare models, which are the same in every study.
preparing = _by_name(list(site.PREPARE), lambda wildcards: site.PREPARE)


class Grid:
    """The planned cells of a study, and what its rules need to know about each; `workflow` is Snakemake's, where it asks."""

    def __init__(
        self,
        study: Mapping,
        registry: Mapping,
        study_file: str,
        has_gpu: bool = False,
        workflow=None,
        written: Mapping | None = None,
        further: Further = NO_FURTHER,
    ):
        """`study` has its paths resolved (inputs.resolve); `written` is what it said before; `further` the runs that `runs: auto` wants."""
        self.study, self.registry, self.study_file, self._run = study, registry, study_file, Run(workflow)
        self.written = written or study
        self.further = further
        self.cells = plan(study, registry, study_file, has_gpu, further.wanted)
        self._by_key = {cell.key: cell for cell in self.cells}
        self._evaluated: dict[site.Group, list[Cell]] = {}
        for cell in self.cells:
            if cell.evaluate:
                self._evaluated.setdefault(cell.key[:3], []).append(cell)
        self._makers = self._plan_checkpoints()
        self._references = {
            cell.reference_record: reference_cell(cell, study, registry, has_gpu) for cell in self.cells if cell.has_reference
        }
        self._on_gpu = {cell.gpu: cell.on_gpu for cell in self.cells}
        self._node, self._probed_at = self._plan_nodes()
        order = turns(self.cells)
        self._places = self._plan_places(order)
        self._beside = {(turn.cell.key, turn.run): turn.beside for turn in order}

    # --- one function for each question of a rule; `wildcards` are those of the rule's output

    def env(self, wildcards) -> str:
        """The environment file of a cell, as a rule's `conda:` wants it: relative to the rule's own file."""
        return f"../envs/{self._cell(wildcards).env}.yaml"

    def transform_env(self, wildcards) -> str:
        """The environment file of what makes a checkpoint, likewise."""
        return f"../envs/{self._maker(wildcards).env}.yaml"

    def checkpoint(self, wildcards) -> str:
        """The record of the checkpoint that a cell loads."""
        return self._cell(wildcards).checkpoint_record

    def beside(self, wildcards) -> list[str]:
        """The runs that this one comes after, besides the cell's first: where one is measured anew, so is it."""
        return list(self._beside[(self._cell(wildcards).key, int(wildcards.run))])

    def turn(self, wildcards) -> float:
        """When it is the cell's turn, as a priority of Snakemake."""
        return self.priority(self._cell(wildcards), int(wildcards.get("run", 1)))

    def priority(self, cell: Cell, run: int = 1) -> int:
        """When a run of a cell has its turn: later ones have lower priorities, all above 0, which what needs no quiet machine has.

        On one machine the devices come one after another. On a cluster the first turns of all nodes come first, since a limit of jobs in
        the queue would else fill it with those of one node while the others wait.
        """
        place, place_on_node = self._places[(cell.key, run)]
        return len(self._places) - (place if self._run.is_local else place_on_node)

    def turn_after_warmup(self, wildcards) -> float:
        """The same for what follows a cell's warm-up and comes before the next cell's."""
        return self.turn(wildcards) + 0.5

    def quantize_turn(self, wildcards) -> float:
        """The same for what makes a checkpoint: on one machine before all turns, on a cluster before the first cell that loads it."""
        return self.before_all_turns(wildcards) if self._run.is_local else self.priority(self._maker(wildcards)) + 0.75

    def evaluate_turn(self, wildcards) -> float:
        """The same for a cell's quality, which comes after all turns; on a cluster in their order, for the same reason."""
        return self._after_all_turns(self._cell(wildcards))

    def reference_turn(self, wildcards) -> float:
        """The same for what the quality of a group is held against."""
        return self._after_all_turns(self._group(wildcards)[0])

    def _after_all_turns(self, cell: Cell) -> float:
        return 0 if self._run.is_local else self.priority(cell) / (len(self._places) + 1)

    def before_all_turns(self, wildcards) -> float:
        """A priority above those of all cells, for what they start from."""
        return len(self._places) + 1

    def warmup_code(self, wildcards) -> str:
        """The fingerprint of the code that a cell's cold start depends on."""
        return fingerprint.of("warmup", *code_asked_for(self._cell(wildcards)))

    def measure_code(self, wildcards) -> str:
        """The same for a cell's figures and what was seen of the machine meanwhile."""
        return fingerprint.of("measure", *code_asked_for(self._cell(wildcards)))

    def evaluate_code(self, wildcards) -> str:
        """The same for a cell's quality."""
        return fingerprint.of("evaluate_quality", *code_asked_for(self._cell(wildcards)))

    def reference_code(self, wildcards) -> str:
        """The same for what the unmodified model expects next."""
        return fingerprint.of("reference", (("engines", self._reference(wildcards).engine),))

    def transform_code(self, wildcards) -> str:
        """The same for a checkpoint that is made."""
        return fingerprint.of("quantize", (("transforms", self._maker(wildcards).transform["method"]),))

    def reference_env(self, wildcards) -> str:
        """The environment file of the unmodified model."""
        return f"../envs/{self._reference(wildcards).env}.yaml"

    def asked(self, wildcards) -> list[str]:
        """What a cell is asked besides its text: the requests of tasks, and the reference."""
        cell = self._cell(wildcards)
        return [cell.requests_record] * cell.asks_tasks + [cell.reference_record] * cell.has_reference

    def requests_of(self, wildcards) -> list[str]:
        """The requests of the tasks of a group, where it has some."""
        return [self._group(wildcards)[0].requests_record] * self._group(wildcards)[0].asks_tasks

    def answers(self, wildcards) -> list[str]:
        """What the techniques of a group answered."""
        return [f"{cell.folder}/evaluate.parquet" for cell in self._group(wildcards)]

    def score_env(self, wildcards) -> str:
        """The environment file of scoring: lm-eval's where tasks are scored, else the report's."""
        return f"../envs/{self._score_env(wildcards)}.yaml"

    def source(self, wildcards) -> str:
        """The record of the checkpoint that a transform starts from: the model's own, or that of another technique."""
        maker = self._maker(wildcards)
        return checkpoint_record(maker.model, maker.source, wildcards.dtype) if maker.source else maker.model_record

    # What a job is told, as its command line has it.

    def model_job(self, wildcards) -> str:
        return handed(model_job(wildcards.model, self.study))

    def probe_job(self, wildcards) -> str:
        return handed(probe_job(wildcards.gpu, self.study))

    def quantize_job(self, wildcards) -> str:
        return handed(self._maker(wildcards).job("quantize"))

    def warmup_job(self, wildcards) -> str:
        return handed(self._cell(wildcards).job("warmup"))

    def measure_job(self, wildcards) -> str:
        return handed(self._cell(wildcards).job("measure"))

    def measure_again_job(self, wildcards) -> str:
        return handed(self._cell(wildcards).job("measure", int(wildcards.run)))

    def evaluate_job(self, wildcards) -> str:
        return handed(self._cell(wildcards).job("evaluate"))

    def requests_job(self, wildcards) -> str:
        return handed(requests_job(wildcards.experiment, self.study))

    def reference_job(self, wildcards) -> str:
        return handed(self._reference(wildcards).job("reference"))

    def score_job(self, wildcards) -> str:
        return handed(score_job(self._group(wildcards), self._score_env(wildcards)))

    # --- where a job runs: for each name of a resource, a function that answers for a job, as a rule's `resources:` wants it

    @property
    def measuring(self) -> dict[str, Callable]:
        """What a job of a cell asks for: its device, alone, unless the cell can only write down why it cannot run."""
        return self._answers(lambda wildcards: self._asks(self._cell(wildcards)))

    @property
    def probing(self) -> dict[str, Callable]:
        """What the job of a device asks for."""
        return self._answers(lambda wildcards: self._on_device(wildcards.gpu, self._on_gpu[wildcards.gpu], self._probed_at[wildcards.gpu]))

    @property
    def referring(self) -> dict[str, Callable]:
        """What the job of an unmodified model asks for."""
        return self._answers(lambda wildcards: self._asks(self._reference(wildcards)))

    @property
    def quantizing(self) -> dict[str, Callable]:
        """What a job asks for that makes a checkpoint."""
        return self._answers(lambda wildcards: self._asks(self._maker(wildcards)))

    def threads(self, wildcards) -> int:
        """The threads that a job of a cell is scheduled with."""
        return self._threads(self._cell(wildcards).on_gpu)

    def quantize_threads(self, wildcards) -> int:
        """The same for a job that makes a checkpoint."""
        return self._threads(self._maker(wildcards).on_gpu)

    def reference_threads(self, wildcards) -> int:
        """The same for the job of an unmodified model."""
        return self._threads(self._reference(wildcards).on_gpu)

    def probe_threads(self, wildcards) -> int:
        """The same for the job of a device."""
        return self._threads(self._on_gpu[wildcards.gpu])

    def _threads(self, on_gpu: bool) -> int:
        """Those of site.threads for the GPUs that Snakemake may use here."""
        return site.threads(self._run.cores, self._run.gpu_jobs, on_gpu)

    def node_of(self, cell: Cell) -> str:
        """The node of a cluster on which a cell is measured; empty where Slurm chooses."""
        return self._node[cell.key[:3]]

    def _asks(self, cell: Cell) -> Mapping[str, int | str]:
        if cell.cannot_run:
            return site.LIGHT
        return self._on_device(cell.gpu, cell.on_gpu, self.node_of(cell))

    def _on_device(self, gpu: str, on_gpu: bool, node: str) -> Mapping[str, int | str]:
        return site.on_device(self.study["gpus"][gpu].get("slurm", {}), on_gpu, self._run.is_local, node)

    def _answers(self, asks: Callable[[object], Mapping]) -> dict[str, Callable]:
        """Only names that a device of the study uses: every one costs time for every job of a large grid."""
        used = {name for device in self.study["gpus"].values() for name in device.get("slurm", {})}
        extra = ["slurm_extra"] * (any(self._node.values()) or not all(self._on_gpu.values()))
        return _by_name([*site.LIGHT, *(name for key, name in site.NAMES.items() if key in used), *extra], asks)

    # --- the whole grid

    def pattern(self, axis: str) -> str:
        """A regular expression of every name that a wildcard may be, those of techniques included that only make checkpoints for others."""
        names = {getattr(cell, axis) for cell in self.cells}
        if axis == "technique":
            names |= {maker.made_by for maker in self._makers.values()}
        return "|".join(sorted(map(re.escape, names)))

    def records(self) -> list[str]:
        """Every result file of every cell, and of what the cells start from."""
        files = [file for cell in self.cells for file in (f"{cell.folder}/warmup.parquet", *cell.measures)]
        files += [f"{cell.folder}/evaluate.parquet" for cell in self.cells if cell.evaluate]
        files += sorted({record for cell in self.cells for record in _quality_records(cell).values() if record})
        files += sorted({record for cell in self.cells for record in self._sources(cell)})
        return files + sorted({record for cell in self.cells for record in (cell.model_record, cell.checkpoint_record)})

    def checkpoints(self) -> dict[str, str]:
        """The record of every checkpoint that is prepared or made, with the key of the study that asks for it."""
        models = {cell.model_record: f"models.{cell.model}" for cell in self.cells}
        return models | {record: f"techniques.{maker.made_by}" for record, maker in self._makers.items()}

    def failures(self) -> list[str]:
        """The result files that hold a failure which nobody expected: each is the same as its twin (records.failed)."""
        twins = ((path, records.failed(path)) for path in (*self.probes(), *self.records()))
        return [path for path, twin in twins if twin.exists() and Path(path).exists() and filecmp.cmp(path, twin, shallow=False)]

    def brought(self) -> list[str]:
        """What a study has from elsewhere: its models, with what calibrates them, and the items of its tasks."""
        asked = {_quality_records(cell)["requests"] for cell in self.cells} - {""}
        return sorted({cell.model_record for cell in self.cells} | asked)

    def probes(self) -> list[str]:
        """What each device that has cells can do."""
        return [f"results/{gpu}/probe.parquet" for gpu in dict.fromkeys(cell.gpu for cell in self.cells)]

    @staticmethod
    def tables() -> list[str]:
        """What the report's own jobs write beside the page."""
        return [f"results/{name}.parquet" for name in ("summary", "points", "runs")]

    def scores(self) -> list[str]:
        """The scores of every group that has some."""
        return list(dict.fromkeys(filter(None, (_quality_records(cell)["score"] for cell in self.cells))))

    def measures(self) -> list[str]:
        """The raw replies of every cell."""
        return [f"{cell.folder}/measure.parquet" for cell in self.cells]

    def compared(self) -> list[str]:
        """The summary of the results that the report compares these with, where the study asks for that."""
        if "compare_with" not in self.study:
            return []
        path = Path(self.study["compare_with"])
        found = next((at for at in (path / "summary.parquet", path / "results" / "summary.parquet") if at.is_file()), path)
        return [str(found)]

    def compared_state(self, wildcards) -> list:
        """What that file holds; not an input, whose braces Snakemake would take for wildcards."""
        return [files.state(Path(path)) for path in self.compared()]

    def study_path(self, wildcards) -> str:
        """The study file, likewise."""
        return self.study_file

    def job_variables(self) -> dict[str, str]:
        """Environment variables for the frame of every job (stage.py): when its time is up, whose death ends it, this process's, and with
        how many others on GPUs it shares the cores."""
        return {
            "SPEEDGRID_TIME_BUDGET_S": str(self.study["time_budget_s"]),
            "SPEEDGRID_WANTED_BY": str(os.getpid()),
            "SPEEDGRID_GPU_JOBS": str(self._run.gpu_jobs),
        }

    def as_json(self) -> str:
        """The plan as the report's jobs read it: the study in words, every cell with its files, and by record what its job is told."""
        experiments = {
            name: {key: value for key, value in entry.items() if key not in ("techniques", "models")}
            for name, entry in self.written["experiments"].items()
        }
        used = dict.fromkeys(cell.technique for cell in self.cells)
        gpus = {name: device_of(name, self.study) for name in self.study["gpus"]}
        study = {
            "name": self.study["study"],
            "title": self.study["title"] or self.study["study"],
            "seed": self.study["seed"],
            "compare_with": self.study.get("compare_with", ""),
            "budget_s": 60 * self.study["budget_minutes"],
            "study_file": self.study_file,
            "study_sha256": hashlib.sha256(json.dumps({**self.written, "gpus": gpus}, sort_keys=True).encode()).hexdigest(),
            "experiments": experiments,
            "models": self.written["models"],
            "gpus": gpus,
            "techniques": {name: self.registry[name] for name in used},
        }
        plan = {
            "study": study,
            "cells": [self._as_entry(cell) for cell in self.cells],
            "jobs": {record: json.loads(job) for record, job in self._told().items()},
        }
        return json.dumps(plan, ensure_ascii=False, sort_keys=True, indent=1)

    def _told(self) -> dict[str, str]:
        """What every job of a result is told, by the file that it writes."""
        jobs = {cell.model_record: model_job(cell.model, self.study) for cell in self.cells}
        jobs |= {record: maker.job("quantize") for record, maker in self._makers.items()}
        jobs |= {f"results/{gpu}/probe.parquet": probe_job(gpu, self.study) for gpu in self._on_gpu}
        jobs |= {record: cell.job("reference") for record, cell in self._references.items()}
        for group in self._evaluated.values():
            quality = _quality_records(group[0])
            if quality["requests"]:
                jobs[quality["requests"]] = requests_job(group[0].experiment, self.study)
            if quality["score"]:
                jobs[quality["score"]] = score_job(group, "evaluation" if group[0].asks_tasks else "report")
        for cell in self.cells:
            jobs[f"{cell.folder}/warmup.parquet"] = cell.job("warmup")
            jobs |= {path: cell.job("measure", run) for run, path in enumerate(cell.measures, 1)}
            if cell.evaluate:
                jobs[f"{cell.folder}/evaluate.parquet"] = cell.job("evaluate")
        return jobs

    def _as_entry(self, cell: Cell) -> dict:
        technique = self.registry[cell.technique]
        return {
            **dict(zip(("gpu", "experiment", "model", "technique"), cell.key, strict=True)),
            **{name: technique[name] for name in ("label", "family", "engine", "lossless")},
            "workload": cell.workload,
            "is_baseline": cell.is_baseline,
            "dtype": cell.options["dtype"],
            "use_cache": cell.options.get("use_cache", True),
            "probe": f"results/{cell.gpu}/probe.parquet",
            "folder": cell.folder,
            "again": cell.measures[1:],
            "further": cell.further,
            "checkpoint_record": cell.checkpoint_record,
            "model_record": cell.model_record,
            "sources": self._sources(cell),
            "evaluate": json.loads(cell.job("evaluate"))["evaluate"] if cell.evaluate else None,
            **_quality_records(cell),
        }

    def _plan_nodes(self) -> tuple[dict[site.Group, str], dict[str, str]]:
        """The node of a cluster for each group of cells, and for the job that probes each device: that of its first group."""
        groups: dict[str, dict[site.Group, None]] = {}
        for cell in self.cells:
            groups.setdefault(cell.gpu, {})[cell.key[:3]] = None
        node = {}
        for gpu, own in groups.items():
            node |= site.nodes(self.study["gpus"][gpu].get("slurm", {}), list(own))
        return node, {gpu: node[next(iter(own))] for gpu, own in groups.items()}

    def _plan_places(self, order: Sequence[Turn]) -> dict[tuple[tuple, int], tuple[int, int]]:
        """The place of every run of a cell among all of them, and among those of its device and node."""
        places, here = {}, collections.Counter()
        for place, turn in enumerate(order):
            where = (turn.cell.gpu, self.node_of(turn.cell))
            places[(turn.cell.key, turn.run)] = (place, here[where])
            here[where] += 1
        return places

    def _plan_checkpoints(self) -> dict[str, Cell]:
        """For every checkpoint that is made, the cell whose device and environment make it: one on a GPU where there is one.

        It is told of the technique that makes the checkpoint, which may be in no experiment itself.
        """
        makers: dict[str, Cell] = {}
        for cell in sorted(self.cells, key=lambda cell: not cell.on_gpu):
            name = cell.made_by if cell.transform else ""
            while name:
                entry = self.registry[name]
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

    def _sources(self, cell: Cell) -> list[str]:
        """The records of the checkpoints that the cell's own was made from, the nearest first; that of the model is none of them."""
        records, name = [], cell.source if cell.transform else ""
        while name:
            records.append(checkpoint_record(cell.model, name, cell.options["dtype"]))
            name = self.registry[name].get("from", "")
        return records

    def _reference(self, wildcards) -> Cell:
        return self._references[f"results/{wildcards.gpu}/{wildcards.experiment}/{wildcards.model}/reference.parquet"]

    def _group(self, wildcards) -> list[Cell]:
        """The cells of a gpu, experiment and model that are evaluated."""
        return self._evaluated[(wildcards.gpu, wildcards.experiment, wildcards.model)]

    def _score_env(self, wildcards) -> str:
        return "evaluation" if self._group(wildcards)[0].asks_tasks else "report"

    def _maker(self, wildcards) -> Cell:
        return self._makers[checkpoint_record(wildcards.model, wildcards.technique, wildcards.dtype)]

    def _cell(self, wildcards) -> Cell:
        return self._by_key[(wildcards.gpu, wildcards.experiment, wildcards.model, wildcards.technique)]


for _question in vars(Grid).values():
    if inspect.isfunction(_question):
        looked_up_once(_question)


def load(config: Mapping, workflow) -> Grid:
    """Plan the study given with --configfile, else config.yaml. Raises StudyError with one line for whoever wrote it."""
    spare_lookups()
    grid = read_grid(_asked_for(config, Run(workflow)), workflow)
    if Run(workflow).is_main and PAGE_ONLY not in os.environ:
        _note_plan(grid)
    return grid


def _asked_for(config: Mapping, run: Run) -> str | Path:
    """The study file that a run is about. Raises StudyError."""
    given = run.study_files
    if run.is_module:
        if set(config) == {"study_file"}:
            return str(config["study_file"])
        # A workflow that hands on the study it was given, or asks for the default one.
        if config and not (len(given) == 1 and config == read(Path(given[0]), given[0])):
            raise StudyError("a workflow with speedgrid as a module names the study so: config: {'study_file': 'path/to/study.yaml'}")
        return given[0] if config else DEFAULT_STUDY
    if len(given) > 1:
        raise StudyError("give one study with --configfile; several would be merged into something that no file holds")
    if config != (read(Path(given[0]), given[0]) if given else {}):
        raise StudyError("--config changes the study; write it into a study file instead, which is recorded with the results")
    return given[0] if given else DEFAULT_STUDY


def _note_plan(grid: Grid) -> None:
    """Have the plan written anew, and the tables and the page after it, where the one that is there is another.

    By a file that is newer than the plan, so that Snakemake sees it whatever it remembers of earlier runs.
    """
    noted, there = Path(PLANNED), Path("results/plan.json")
    if noted.exists() and there.exists() and there.read_bytes() == grid.as_json().encode():
        # A dry run of another study may have noted another plan meanwhile.
        os.utime(noted, ns=(min(noted.stat().st_mtime_ns, there.stat().st_mtime_ns),) * 2)
    elif not noted.exists() or there.exists():
        with records.replacing(noted) as temporary:
            temporary.write_text(f"The plan was another than that of results/plan.json at {time.time_ns()} ns\n")


def read_grid(study_file: str | Path, workflow=None) -> Grid:
    """Plan the study of a file, with the project's registry. Raises StudyError with one line for whoever wrote it."""
    study, registry, where = read_study(study_file)
    # In a job there is no workflow to ask, and its shell has said it.
    if Run(workflow).uses_environments if workflow else environments.ENVIRONMENT in os.environ:
        registry = environments.note_what_lacks(registry, environments.files())
    found = inputs.resolve(study, _roots(), where)
    grid = Grid(found, registry, where, has_gpu(), workflow, study, _further())
    techniques.check_cells(grid.cells, found, registry, where)
    _check_files(grid)
    return grid


def _further() -> Further:
    """The further runs that `runs: auto` wants by now, with those that a run is told to add (`./speedgrid run --sharpen`)."""
    found = Further.read(Path(sharpen.FILE))
    return found.sharpened() if os.environ.get(sharpen.VARIABLE) else found


def keep_further(grid: Grid) -> None:
    """Before the first job: write down the runs that a run is told to add, so that the next one knows of them."""
    if os.environ.pop(sharpen.VARIABLE, "") and grid.further.wanted:
        with records.replacing(Path(sharpen.FILE)) as temporary:
            temporary.write_text(grid.further.as_json(), encoding="utf-8")


def is_more_wanted(grid: Grid) -> bool:
    """Whether the last look at the results wants runs that this plan does not have."""
    wanted, had = Further.read(Path(sharpen.FILE)).wanted, {cell.folder: cell.further for cell in grid.cells if cell.further is not None}
    return any(count > had[folder] for folder, count in wanted.items() if folder in had)


def read_study(study_file: str | Path, locked: bool = True) -> tuple[dict, dict, str]:
    """The study of a file with its defaults filled in, the registry with the study's own techniques, and the file's name in messages.

    Branches and tags of models are commits in it, those of the study's lock, unless not `locked`. Raises StudyError.
    """
    path, here = study_path(study_file), Path.cwd()
    where = str(path.relative_to(here) if path.is_relative_to(here) else path)
    study = validate(read(path, where), read_yaml("rules/schemas/study.schema.yaml"), where)
    study = lock.applied(study, path, where) if locked else study
    own = validate(study["techniques"], read_yaml(TECHNIQUES_SCHEMA), f"{where}: techniques")
    registry = merge_registry(read_registry(), own, where)
    techniques.check(own, [path.stem for path in (ROOT / "envs").glob("*.yaml")], where)
    return study, registry, where


def read_registry() -> dict:
    """The project's techniques. Raises StudyError."""
    return validate(read_yaml("techniques.yaml"), read_yaml(TECHNIQUES_SCHEMA), "techniques.yaml")


def has_gpu() -> bool:
    """Whether `device: auto` is a GPU: one is here, or jobs are sent to where one is (the launcher then sets SPEEDGRID_TORCH)."""
    return os.environ.get("SPEEDGRID_TORCH") == "cuda" or bool(hardware.gpus())


def take_back_failures(grid: Grid, workflow) -> None:
    """Let what failed in an earlier run be done again: take its results away, of which their twins are kept for the page.

    Not while another run is going on, whose jobs read these files: Snakemake has its lock then. Not in the jobs of a run itself, not where
    a run goes on with further runs of what is open, and not for a page by hand, beside which one may be between two such passes.
    """
    run = Run(workflow)
    if os.environ.pop(GOES_ON, "") or PAGE_ONLY in os.environ:
        return
    if run.is_main and not run.is_another_going_on:
        for path in grid.failures():
            Path(path).unlink(missing_ok=True)


def leave_failures() -> None:
    """Let the run that takes this one's place not try again what has failed in this one."""
    os.environ[GOES_ON] = "1"


def end(grid: Grid) -> None:
    """After the last job: whether all is well. Raises StudyError with a line that names what failed."""
    failed = grid.failures()
    if failed:
        named = ", ".join(failed[:FAILURES_NAMED]) + (f" and {len(failed) - FAILURES_NAMED:,} more" if len(failed) > FAILURES_NAMED else "")
        jobs = "1 job" if len(failed) == 1 else f"{len(failed):,} jobs"
        raise StudyError(f"{jobs} failed; the report says why, all others are done, and the next run tries again: {named}")


def made_by_hand() -> str:
    """Which tables and page were last made by hand: a parameter of the rule that makes them, which lets it make them anew."""
    return Path(BY_HAND).read_text(encoding="utf-8") if Path(BY_HAND).is_file() else ""


def make_page(study_file: str, run: Run, goes_on: bool = False) -> None:
    """Of a run that was to end in a report, and failed, was stopped or `goes_on`: make it of what there is, with its environment.

    Raises StudyError with a line that says why there is none.
    """
    python, advice = run.python_of("report"), "; ./speedgrid report makes one"
    if python is None:
        return
    if not python.exists():
        raise StudyError(f"there is no report of what was measured: its environment {python.parents[1]} has not been made{advice}")
    log = Path("logs/report.log")
    log.parent.mkdir(parents=True, exist_ok=True)
    # As the rules do it: all output goes to the log, and descriptor 3 is the terminal.
    line = ["bash", "-c", 'exec "$@" 3>&2 > "$0" 2>&1', str(log), str(python), str(ROOT / "scripts/make_page.py")]
    # As a job's shell says it, so that the plan is that of the run: what the machine lacks for an environment is a part of it.
    told = {environments.ENVIRONMENT: str(python.parents[1])} if run.uses_environments else {}
    try:
        status = subprocess.run([*line, "--study", study_file], env={**os.environ, **told}).returncode
    except KeyboardInterrupt:
        if goes_on:  # it is the run that is to stop
            raise
        status = 130
    if status:
        raise StudyError(f"there is no report of what was measured (see {log}){advice}")


def check_machine(grid: Grid, workflow) -> None:
    """What only the machine can tell, checked before the first job: its GPUs, and whether the hub can be reached.

    On a cluster the GPUs are on other machines; there each job checks its own. Raises StudyError.
    """
    for record in grid.checkpoints():
        # While the record is there: Snakemake removes it before the job that writes it anew.
        checkpoints.adopt(Path(_beside(record)), Path(record), MODEL if record.startswith("models/") else CHECKPOINT)
    if Run(workflow).is_local:
        check_devices(grid.study["gpus"], [gpu.name for gpu in hardware.gpus()], grid.study_file)
    else:
        check_nodes(grid.study, grid.cells, grid.study_file)
    for name, model in grid.study["models"].items():
        if "hub" in model and not Path(f"models/{name}/prepared.parquet").exists():
            _check_hub(f"{grid.study_file}: models.{name}.hub", model["hub"])


def read_yaml(path: str | Path) -> object:
    """A YAML file of the project. Raises StudyError where it cannot be read."""
    return read(ROOT / path, path)


def study_path(study_file: str | Path) -> Path:
    """Where a study file is: absolute, in the working folder or in the project's."""
    found = (Path.cwd() / study_file, ROOT / study_file)
    return next((path for path in found if path.exists()), found[0])


def _quality_records(cell: Cell) -> dict[str, str]:
    """The files of a cell's quality that it shares with others; empty for what it does not have."""
    has_score = cell.evaluate and not cell.random_weights
    return {
        "requests": cell.requests_record if cell.asks_tasks else "",
        "reference": cell.reference_record if cell.has_reference else "",
        "score": cell.score_record if has_score else "",
    }


def _check_files(grid: Grid) -> None:
    """Raise StudyError for what the study names and this machine does not have; what inputs.resolve has found is there."""
    for path in grid.compared():
        if not Path(path).is_file():
            raise StudyError(f"{grid.study_file}: compare_with: {grid.written['compare_with']} is no results folder and no summary.parquet")
    for name, experiment in grid.study["experiments"].items():
        _check_published(experiment.get("published"), f"{grid.study_file}: experiments.{name}.published")
    _check_weights_of_others(grid)


def _check_weights_of_others(grid: Grid) -> None:
    """Nothing that a job writes may take the place of weights that speedgrid did not make, nor lie in a folder of such weights."""
    made = grid.checkpoints()
    for name, model in grid.study["models"].items():
        for record in made if "local" in model else ():
            folder = _beside(record)
            at, local = f"{grid.study_file}: models.{name}.local", grid.written["models"][name]["local"]
            # Not the path as it was resolved, which no longer says what links it goes through.
            if relation := files.overlap(inputs.place(local, _roots(), at), Path(folder)):
                raise StudyError(f"{at}: {local} {relation} {folder}, which speedgrid writes and replaces; keep the weights outside of it")
    for record, key in made.items():
        try:
            if not Path(record).exists():
                checkpoints.check_own(Path(_beside(record)))
        except outcomes.ModelError as error:
            raise StudyError(f"{grid.study_file}: {key}: {error}") from None


def _roots() -> tuple[Path, Path]:
    """Where paths of a study are looked for: the working folder, then the project's."""
    return Path.cwd(), ROOT


def _beside(record: str) -> str:
    """The folder of weights that a record tells of."""
    return os.path.join(os.path.dirname(record), "checkpoint")


def _check_published(study: str | None, at: str) -> None:
    with open(ROOT / PAGE_SOURCES / "published.csv", encoding="utf-8", newline="") as file:
        known = list(dict.fromkeys(row["study"] for row in csv.DictReader(file)))
    if study is not None and study not in known:
        raise StudyError(f"{at}: {study!r} is unknown; allowed are {', '.join(known)}")


def _check_hub(at: str, repository: str) -> None:
    if hub.is_offline():
        return
    try:
        urllib.request.urlopen(hub.request(hub.endpoint(), "HEAD"), timeout=10)
    except urllib.error.HTTPError:
        return
    except (OSError, ValueError) as error:
        reason = getattr(error, "reason", error)
        raise StudyError(
            f"{at}: {repository} has to be downloaded and the hub cannot be reached ({hub.shown(f'{hub.endpoint()}: {reason}')}); "
            "go online, or set HF_HUB_OFFLINE=1 where the model is in the cache"
        ) from None


def code_asked_for(cell: Cell) -> tuple[tuple[fingerprint.Reference, ...], tuple[fingerprint.Reference, ...]]:
    """By what a cell's jobs are told: the modules that they import by name, and the functions that they never call (fingerprint.of)."""
    never = NOT_FOR_REPLIES if cell.workload == "generate" else NOT_FOR_OTHERS
    by_number = NOT_FOR_A_NUMBER if isinstance(cell.settings["replies"], int) else ()
    return (("engines", cell.engine), ("workloads", cell.workload)), never + by_number
