"""A cell of the grid, and the specifications of jobs: of the cell, or of what cells share. Pure."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from speedgrid import workload
from speedgrid.schema import SCHEMA_VERSION
from speedgrid.specification import (
    Asked,
    Evaluate,
    Job,
    Measure,
    Model,
    OfCell,
    OfTechnique,
    Probe,
    Quantize,
    Reference,
    Requests,
    Score,
    Settings,
    Warmup,
)
from speedgrid.study import origin


@dataclass(frozen=True)
class Cell:
    """One (gpu, experiment, model, technique) of the grid: the unit of work, of caching and of failure.

    `device`, `options`, `transform`, `settings` and `evaluate` are what reaches the cell's jobs; nothing else of the study does.
    `on_gpu` says whether its device is a GPU, as far as planning can know; `unavailable` why it can run nowhere, `lacks` what this machine
    lacks to make its environment. `transform` and `evaluate` are empty where there is none.
    """

    gpu: str
    experiment: str
    model: str
    technique: str
    workload: str
    engine: str
    env: str
    device: Mapping
    on_gpu: bool
    options: Mapping
    transform: Mapping
    # The technique whose checkpoint it loads: its own, or that of another one.
    made_by: str
    # The technique whose checkpoint that one's transform starts from; empty for the model itself.
    source: str
    calibration: Mapping
    settings: Settings
    evaluate: Mapping
    requires: tuple[str, ...]
    unavailable: str
    seed: int
    threads: int | str
    trust_remote_code: bool
    is_baseline: bool
    # How often the cell is measured, each time in a new process; and how often more, as `runs: auto` has found by now (None: not auto).
    runs: int
    further: int | None
    random_weights: bool
    lacks: str
    # Whether the technique says that it keeps the model's arithmetic.
    lossless: bool
    # Whether it says that it is the very model of the baseline, so that, once proven, it need not answer what the baseline answers.
    may_take_over: bool

    @property
    def key(self) -> tuple[str, str, str, str]:
        return (self.gpu, self.experiment, self.model, self.technique)

    @property
    def folder(self) -> str:
        """Where the cell's results lie."""
        return "results/" + "/".join(self.key)

    @property
    def measures(self) -> list[str]:
        """The result files of its runs."""
        count = self.runs + (self.further or 0)
        return [f"{self.folder}/measure.parquet", *(f"{self.folder}/measure-{run}.parquet" for run in range(2, count + 1))]

    @property
    def checkpoint_record(self) -> str:
        """The file that says that the checkpoint to load is complete; the weights lie beside it."""
        if self.transform:
            return checkpoint_record(self.model, self.made_by, self.options["dtype"])
        return self.model_record

    @property
    def asks_tasks(self) -> bool:
        """Whether tasks are asked of the cell; never of random weights, whose quality means nothing."""
        return bool(self.evaluate and self.evaluate["tasks"] and not self.random_weights)

    @property
    def requests_record(self) -> str:
        """The file with what the experiment's tasks ask."""
        return f"results/requests/{self.experiment}/requests.parquet"

    @property
    def has_reference(self) -> bool:
        """Whether the cell is held against what the unmodified model expects next."""
        return bool(self.evaluate and self.evaluate["positions"] and not self.random_weights)

    @property
    def reference_record(self) -> str:
        """The file with what the unmodified model expects next."""
        return f"results/{self.gpu}/{self.experiment}/{self.model}/reference.parquet"

    @property
    def score_record(self) -> str:
        """The file with the scores of all techniques of the cell's gpu, experiment and model."""
        return f"results/{self.gpu}/{self.experiment}/{self.model}/score.parquet"

    @property
    def model_record(self) -> str:
        """The file that says that the model is prepared; its weights lie beside it."""
        return model_record(self.model)

    @property
    def cannot_run(self) -> bool:
        """Whether planning knows already that its jobs can only write down why it cannot run."""
        return cannot_run(self.unavailable or self.lacks, self.requires, self.on_gpu)

    def job(self, stage: str, run: int = 1) -> str:
        """The specification of the job of `stage`, as JSON that is the same for the same meaning; `run` counts those of `measure`.

        Each stage gets only what it uses, so that a new number of replies does not run the evaluation again.
        """
        if stage == "measure":
            return _text(_measure(self, run))
        return _text({"quantize": _quantize, "warmup": _warmup, "reference": _reference, "evaluate": _evaluate}[stage](self))


def model_record(model: str) -> str:
    """The file that says that a model is prepared; its weights lie beside it."""
    return f"models/{model}/prepared.parquet"


def checkpoint_record(model: str, technique: str, dtype: str) -> str:
    """The file that says that the checkpoint which the transform of `technique` makes is complete; the weights lie beside it."""
    return f"results/checkpoints/{model}/{technique}/{dtype}/quantize.parquet"


def cannot_run(unavailable: str, requires: Sequence[str], on_gpu: bool) -> bool:
    """Whether a technique can run nowhere, or not on this kind of device."""
    return bool(unavailable) or ("cuda" in requires and not on_gpu)


def device_of(gpu: str, study: Mapping) -> dict:
    """A device in the specification of a job: all of the entry but its price and where a cluster has it, which make no part of a result."""
    return {key: value for key, value in study["gpus"][gpu].items() if key not in ("slurm", "price_per_hour")}


def model_job(name: str, study: Mapping) -> str:
    """The specification of the job that prepares a model, as JSON."""
    entry = dict(study["models"][name])
    # Data that calibrate are downloaded with the model; a text is the matter of the jobs that read it.
    if "dataset" not in entry["calibration"]:
        entry["calibration"] = {}
    made: Model = {**_job(study), "model": name, "origin": origin(entry), "entry": entry}
    return _text(made)


def probe_job(gpu: str, study: Mapping) -> str:
    """The specification of the job that probes a device, as JSON."""
    made: Probe = {**_job(study), "gpu": gpu, "device": device_of(gpu, study), "env": "transformers"}
    return _text(made)


def requests_job(experiment: str, study: Mapping) -> str:
    """The specification of the job that builds the requests of an experiment's tasks, as JSON."""
    asked = _asked(study["experiments"][experiment]["evaluate"], "tasks")
    made: Requests = {**_job(study), "experiment": experiment, "env": "evaluation", "evaluate": asked}
    return _text(made)


def score_job(cells: Sequence[Cell], env: str, study: Mapping) -> str:
    """The specification of the job that scores the techniques of a group, as JSON; `cells` are those of the group that are evaluated."""
    first = cells[0]
    made: Score = {
        **_job(study),
        "gpu": first.gpu,
        "experiment": first.experiment,
        "model": first.model,
        "env": env,
        "techniques": [
            {"technique": cell.technique, "evaluate": f"{cell.folder}/evaluate.parquet", "is_baseline": cell.is_baseline} for cell in cells
        ],
        "requests": first.requests_record if first.asks_tasks else "",
        "evaluate": {**_asked(first.evaluate), "tasks": first.evaluate["tasks"] if first.asks_tasks else []},
    }
    return _text(made)


def _text(made: Job) -> str:
    return json.dumps(made, sort_keys=True, ensure_ascii=False)


def _job(study: Mapping) -> Job:
    """The specification of a job that needs no device of the study."""
    said: Job = {
        "device": {"device": "cpu"},
        "requires": [],
        "seed": study["seed"],
        "threads": study["threads"],
        "schema_version": SCHEMA_VERSION,
    }
    return said


def _of_technique(cell: Cell, technique: str) -> OfTechnique:
    made: OfTechnique = {
        "device": cell.device,
        "requires": list(cell.requires),
        "seed": cell.seed,
        "threads": cell.threads,
        "schema_version": SCHEMA_VERSION,
        "model": cell.model,
        "technique": technique,
        "env": cell.env,
        "trust_remote_code": cell.trust_remote_code,
        "unavailable": cell.unavailable,
    }
    if cell.lacks:  # and not else: what is lacking makes no part of a result, and its cells run once it is there
        made["lacks"] = cell.lacks
    return made


def _of_cell(cell: Cell) -> OfCell:
    return {
        **_of_technique(cell, cell.technique),
        "gpu": cell.gpu,
        "experiment": cell.experiment,
        "workload": cell.workload,
        "engine": cell.engine,
        "options": cell.options,
    }


def _quantize(cell: Cell) -> Quantize:
    """One checkpoint serves every device and experiment."""
    made = _of_technique(cell, cell.made_by)
    return {**made, "transform": cell.transform, "calibration": cell.calibration, "dtype": cell.options["dtype"]}


def _warmup(cell: Cell) -> Warmup:
    return {**_of_cell(cell), "settings": workload.warmup_settings(cell.settings)}


def _measure(cell: Cell, run: int) -> Measure:
    made: Measure = {**_of_cell(cell), "settings": cell.settings}
    if run > 1:
        made["run"] = run
    return made


def _reference(cell: Cell) -> Reference:
    return {**_of_cell(cell), "evaluate": _asked(cell.evaluate, "max_bytes", "positions")}


def _evaluate(cell: Cell) -> Evaluate:
    """What tasks ask and what the reference expects is in the files that are named; how they were made is not repeated."""
    made: Evaluate = {
        **_of_cell(cell),
        "evaluate": _asked(cell.evaluate, "max_bytes"),
        "random_weights": cell.random_weights,
        "lossless": cell.lossless,
        "requests": cell.requests_record if cell.asks_tasks else "",
        "reference": cell.reference_record if cell.has_reference else "",
    }
    if cell.may_take_over and cell.asks_tasks and cell.has_reference:
        made["may_take_over"] = True
    return made


def _asked(evaluate: Mapping, *names: str) -> Asked:
    """The keys of the held-out text, and those that are named."""
    return cast(Asked, {name: evaluate[name] for name in ("text", "text_sha256", *names) if name in evaluate})
