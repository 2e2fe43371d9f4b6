"""From a checked study to its cells: pure planning, no I/O."""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from speedgrid import workload
from speedgrid.schema import SCHEMA_VERSION
from speedgrid.study import StudyError, check, origin

BASELINE = "baseline"
# How often a baseline runs among cells that run once, where the study does not say.
BASELINE_RUNS = 4
# Runs as many as it takes; those of a baseline at first, so that drift and noise are seen.
AUTO = "auto"
AUTO_BASELINE_RUNS = 2


@dataclass(frozen=True)
class Cell:
    """One (gpu, experiment, model, technique) of the grid: the unit of work, of caching and of failure.

    `device`, `options`, `transform`, `settings` and `evaluate` are what the jobs are told; nothing else of the study reaches them.
    `on_gpu` says whether its device is a GPU, as far as planning can know; `unavailable` why it can run nowhere, `lacks` what this machine
    lacks to make its environment.
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
    transform: Mapping | None
    # The technique whose checkpoint it loads: its own, or that of another one.
    made_by: str
    # The technique whose checkpoint that one's transform starts from; empty for the model itself.
    source: str
    calibration: Mapping
    settings: Mapping
    evaluate: Mapping | None
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
        return f"models/{self.model}/prepared.parquet"

    @property
    def cannot_run(self) -> bool:
        """Whether planning knows already that its jobs can only write down why it cannot run."""
        return cannot_run(self.unavailable or self.lacks, self.requires, self.on_gpu)

    def job(self, stage: str, run: int = 1) -> str:
        """What the job of `stage` is told, as JSON that is the same for the same meaning; `run` counts those of `measure`.

        Each stage gets only what it uses, so that a new number of replies does not run the evaluation again.
        """
        shared = ("model", "env", "device", "requires", "unavailable", "seed", "threads", "trust_remote_code")
        told = {name: getattr(self, name) for name in shared} | {"schema_version": SCHEMA_VERSION}
        if self.lacks:  # and not else: what is lacking makes no part of a result, and its cells run once it is there
            told["lacks"] = self.lacks
        if stage == "quantize":
            # One checkpoint serves every device and experiment.
            told |= {"technique": self.made_by, "transform": self.transform, "calibration": self.calibration}
            told["dtype"] = self.options["dtype"]
            return json.dumps(told, sort_keys=True, ensure_ascii=False)
        told |= {name: getattr(self, name) for name in ("gpu", "experiment", "technique", "workload", "engine", "options")}
        if stage in ("warmup", "measure"):
            told["settings"] = dict(self.settings)
        if stage == "warmup":
            for name in ("replies", "warmup_replies", "repeat_disturbed", "quiet_wait_s"):
                told["settings"].pop(name, None)
        if run > 1:
            told["run"] = run
        if stage == "reference":
            told["evaluate"] = _asked(self.evaluate, "max_bytes", "positions")
        if stage == "evaluate":
            # What tasks ask and what the reference expects is in the files that are named; how they were made is not told again.
            told["evaluate"] = _asked(self.evaluate, "max_bytes")
            told |= {"random_weights": self.random_weights, "lossless": self.lossless}
            told |= {"requests": self.requests_record if self.asks_tasks else ""}
            told["reference"] = self.reference_record if self.has_reference else ""
        return json.dumps(told, sort_keys=True, ensure_ascii=False)


def plan(
    study: Mapping,
    registry: Mapping,
    where: str = "config.yaml",
    has_gpu: bool = False,
    further: Mapping[str, int] = MappingProxyType({}),
) -> list[Cell]:
    """The cells of a validated study, in the order in which they are listed: gpu, experiment, model, technique.

    `has_gpu` says what `device: auto` is, `further` how many further runs cells have by now, by their folder, where their runs are `auto`.
    Raises StudyError where keys contradict each other or name what does not exist, or where
    no cell is left.
    """
    check(study, registry, where)
    cells = [cell for name in study["experiments"] for cell in _cells_of(name, study, registry, has_gpu)]
    if not cells:
        raise StudyError(f"{where}: experiments: the grid is empty; `exclude` leaves out every cell")
    order = list(study["gpus"])
    cells = [replace(cell, further=further.get(cell.folder, 0)) if cell.further is not None else cell for cell in cells]
    return sorted(cells, key=lambda cell: order.index(cell.gpu))


def device_of(gpu: str, study: Mapping) -> dict:
    """What a job is told of its device: all of the entry but where a cluster has it, which makes no part of a result."""
    return {key: value for key, value in study["gpus"][gpu].items() if key != "slurm"}


def is_gpu(gpu: str, study: Mapping, has_gpu: bool) -> bool:
    """Whether a device of the study is a GPU, as far as planning can know; `has_gpu` says what `device: auto` is."""
    device = study["gpus"][gpu]
    return device["device"] == "cuda" or (device["device"] == "auto" and (has_gpu or "name" in device))


def model_job(name: str, study: Mapping) -> str:
    """What the job that prepares a model is told, as JSON."""
    entry = dict(study["models"][name])
    # Data that calibrate are downloaded with the model; a text is the matter of the jobs that read it.
    if "dataset" not in entry["calibration"]:
        entry["calibration"] = {}
    told = {"model": name, "origin": origin(entry), "entry": entry, "device": {"device": "cpu"}, "requires": []}
    told |= {"seed": study["seed"], "threads": study["threads"], "schema_version": SCHEMA_VERSION}
    return json.dumps(told, sort_keys=True, ensure_ascii=False)


def _asked(evaluate: Mapping, *names: str) -> dict:
    """What jobs of quality are told of the held-out text, and these keys."""
    return {name: evaluate[name] for name in ("text", "text_sha256", *names) if name in evaluate}


def probe_job(gpu: str, study: Mapping) -> str:
    """What the job that probes a device is told, as JSON."""
    told = {"gpu": gpu, "device": device_of(gpu, study), "env": "transformers", "requires": []}
    told |= {"seed": study["seed"], "threads": study["threads"], "schema_version": SCHEMA_VERSION}
    return json.dumps(told, sort_keys=True, ensure_ascii=False)


def requests_job(experiment: str, study: Mapping) -> str:
    """What the job that builds the requests of an experiment's tasks is told, as JSON."""
    told = {"experiment": experiment, "env": "evaluation", "device": {"device": "cpu"}, "requires": []}
    told["evaluate"] = _asked(study["experiments"][experiment]["evaluate"], "tasks")
    told |= {"seed": study["seed"], "threads": study["threads"], "schema_version": SCHEMA_VERSION}
    return json.dumps(told, sort_keys=True, ensure_ascii=False)


def score_job(cells: Sequence[Cell], env: str) -> str:
    """What the job that scores the techniques of a group is told, as JSON; `cells` are those of the group that are evaluated."""
    first = cells[0]
    told = {"gpu": first.gpu, "experiment": first.experiment, "model": first.model, "env": env}
    told |= {"device": {"device": "cpu"}, "requires": [], "seed": first.seed, "threads": first.threads, "schema_version": SCHEMA_VERSION}
    told["techniques"] = [
        {"technique": cell.technique, "evaluate": f"{cell.folder}/evaluate.parquet", "is_baseline": cell.is_baseline} for cell in cells
    ]
    told["requests"] = first.requests_record if first.asks_tasks else ""
    told["evaluate"] = _asked(first.evaluate) | {"tasks": first.evaluate["tasks"] if first.asks_tasks else []}
    return json.dumps(told, sort_keys=True, ensure_ascii=False)


def reference_cell(cell: Cell, study: Mapping, registry: Mapping, has_gpu: bool = False) -> Cell:
    """The cell of the unmodified model that `cell` is held against: the experiment's baseline, or the registry's own where that has a
    checkpoint of its own making."""
    baseline = study["experiments"][cell.experiment]["baseline"]
    modified = {"transform", "checkpoint"} & set(registry[baseline])
    return _cell(cell.experiment, cell.gpu, cell.model, BASELINE if modified else baseline, study, registry, has_gpu)


def checkpoint_record(model: str, technique: str, dtype: str) -> str:
    """The file that says that the checkpoint which the transform of `technique` makes is complete; the weights lie beside it."""
    return f"results/checkpoints/{model}/{technique}/{dtype}/quantize.parquet"


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


def cannot_run(unavailable: str, requires: Sequence[str], on_gpu: bool) -> bool:
    """Whether a technique can run nowhere, or not on this kind of device."""
    return bool(unavailable) or ("cuda" in requires and not on_gpu)


def _cells_of(name: str, study: Mapping, registry: Mapping, has_gpu: bool) -> Iterator[Cell]:
    experiment = study["experiments"][name]
    gpus = experiment.get("gpus", list(study["gpus"]))
    for gpu in gpus:
        for model in experiment["models"]:
            for technique in experiment["techniques"]:
                if not _excluded(experiment["exclude"], gpu=gpu, model=model, technique=technique):
                    yield _cell(name, gpu, model, technique, study, registry, has_gpu)


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
        transform=registry[made_by].get("transform"),
        made_by=made_by,
        source=registry[made_by].get("from", ""),
        calibration=study["models"][model]["calibration"],
        settings=_settings(experiment),
        evaluate=(experiment["evaluate"] or None) if runs == "generate" else None,
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
    )


def _asked_runs(experiment: Mapping) -> int | str:
    """What an experiment says of its runs. One that says how often its baseline runs, and no more, means that all others run once."""
    return experiment.get("runs", 1 if "baseline_runs" in experiment else AUTO)


def _runs(experiment: Mapping, is_baseline: bool) -> int:
    """How often a cell is measured. A baseline runs more often than cells that run once, so that they have one of its runs nearby."""
    runs = _asked_runs(experiment)
    if runs == AUTO:
        return experiment.get("baseline_runs", AUTO_BASELINE_RUNS) if is_baseline else 1
    return experiment.get("baseline_runs", runs if runs > 1 else BASELINE_RUNS) if is_baseline else runs


def check_nodes(study: Mapping, cells: Sequence[Cell], where: str = "config.yaml") -> None:
    """Raise StudyError where a cluster may measure the runs of a cell on other nodes than those of the cells that they judge."""
    for gpu, device in study["gpus"].items():
        again = next((cell for cell in cells if cell.gpu == gpu and (cell.runs > 1 or cell.further is not None)), None)
        if again and "nodes" not in device.get("slurm", {}):
            raise StudyError(
                f"{where}: gpus.{gpu}.slurm: needs the key nodes: the runs of {again.technique} in"
                f" experiments.{again.experiment} say how far to trust the cells measured on the same node; name nodes"
                " (`sinfo --Node`), or write `nodes: any` to count what nodes differ by as noise"
            )


def _settings(experiment: Mapping) -> dict:
    """What the jobs that measure are told of the experiment."""
    if experiment["workload"] != "generate":
        return workload.settings(experiment, experiment["workload"])
    keys = (
        *("prompt", "prompt_tokens", "replies", "warmup_replies", "repeat_disturbed", "quiet_wait_s"),
        *("max_new_tokens", "batch_size", "ignore_eos", "sampling"),
    )
    return {key: experiment[key] for key in keys if key in experiment}


def _excluded(entries: list[Mapping], **axes: str) -> bool:
    return any(all(axes[axis] == name for axis, name in entry.items()) for entry in entries)
