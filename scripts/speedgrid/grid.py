"""From a study to its cells: pure planning, no I/O.

Everything that can be wrong with a study is found here, before any job starts, and said in one line that names the file, the key and what
is allowed there.
"""

import copy
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby

from speedgrid import workload
from speedgrid.schema import SCHEMA_VERSION

BASELINE = "baseline"
# The task of speedgrid's own, made from held-out text.
LOCAL_TASK = "cloze"
ORIGINS = ("train", "architecture", "attention", "local", "hub")


class StudyError(ValueError):
    """A study that cannot be planned; the message is one line for the person who wrote it, whatever keys they chose."""

    def __init__(self, message: str):
        super().__init__("".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in message))


@dataclass(frozen=True)
class Cell:
    """One (gpu, experiment, model, technique) of the grid: the unit of work, of caching and of failure.

    `device`, `options`, `transform`, `settings` and `evaluate` are what the jobs are told; nothing else of the study reaches them.
    `on_gpu` says whether its device is a GPU, as far as planning can know; `unavailable` why it can run nowhere.
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
    # How often the cell is measured, each time in a new process: once, or for a baseline as often as the study says.
    runs: int
    random_weights: bool

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
        return [f"{self.folder}/measure.parquet", *(f"{self.folder}/measure-{run}.parquet" for run in range(2, self.runs + 1))]

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
        return cannot_run(self.unavailable, self.requires, self.on_gpu)

    def job(self, stage: str, run: int = 1) -> str:
        """What the job of `stage` is told, as JSON that is the same for the same meaning; `run` counts those of `measure`.

        Each stage gets only what it uses, so that a new number of replies does not run the evaluation again.
        """
        shared = ("model", "env", "device", "requires", "unavailable", "seed", "threads", "trust_remote_code")
        told = {name: getattr(self, name) for name in shared} | {"schema_version": SCHEMA_VERSION}
        if stage == "quantize":
            # One checkpoint serves every device and experiment.
            told |= {"technique": self.made_by, "transform": self.transform, "calibration": self.calibration}
            told["dtype"] = self.options["dtype"]
            return json.dumps(told, sort_keys=True, ensure_ascii=False)
        told |= {name: getattr(self, name) for name in ("gpu", "experiment", "technique", "workload", "engine", "options")}
        if stage in ("warmup", "measure"):
            told["settings"] = dict(self.settings)
        if stage == "warmup":
            for name in ("replies", "warmup_replies", "repeat_disturbed"):
                told["settings"].pop(name, None)
        if run > 1:
            told["run"] = run
        if stage == "reference":
            told["evaluate"] = {name: self.evaluate[name] for name in ("text", "max_bytes", "positions")}
        if stage == "evaluate":
            # What tasks ask and what the reference expects is in the files that are named; how they were made is not told again.
            told["evaluate"] = {name: self.evaluate[name] for name in ("text", "max_bytes")}
            told |= {"random_weights": self.random_weights, "requests": self.requests_record if self.asks_tasks else ""}
            told["reference"] = self.reference_record if self.has_reference else ""
        return json.dumps(told, sort_keys=True, ensure_ascii=False)


def validate(document: object, schema: Mapping, where: str) -> dict:
    """Check a study or registry against its JSON schema and fill in the defaults.

    Raises StudyError with the first problem: the file, the key and what is allowed there.
    """
    import jsonschema

    if not isinstance(document, Mapping):
        raise StudyError(f"{where}: expected keys and values at the top, found {_kind(document)}")
    filled = _with_defaults(copy.deepcopy(dict(document)), schema, schema)
    problems = sorted(jsonschema.Draft202012Validator(schema).iter_errors(filled), key=lambda e: list(map(str, e.path)))
    if problems:
        raise StudyError(f"{where}: {_in_words(problems[0])}")
    return filled


def merge_registry(registry: Mapping, own: Mapping, where: str) -> dict:
    """The registry with a study's own techniques added; a study may not redefine a technique that the registry has."""
    for name in own:
        if name in registry:
            raise StudyError(f"{where}: techniques.{name}: the registry has this name already; give your variant another one")
    return {**registry, **own}


def plan(study: Mapping, registry: Mapping, where: str = "config.yaml", has_gpu: bool = False) -> list[Cell]:
    """The cells of a validated study, in the order in which they are listed: gpu, experiment, model, technique.

    `has_gpu` says what `device: auto` is. Raises StudyError where keys contradict each other or name what does not exist, or where
    no cell is left.
    """
    for name, model in study["models"].items():
        _check_model(name, model, where)
    for name, technique in registry.items():
        _check_technique(name, technique, registry, where)
    for name, device in study["gpus"].items():
        _check_site(name, device, study["gpus"], where)
    cells = [cell for name in study["experiments"] for cell in _cells_of(name, study, registry, where, has_gpu)]
    if not cells:
        raise StudyError(f"{where}: experiments: the grid is empty; `exclude` leaves out every cell")
    order = list(study["gpus"])
    return sorted(cells, key=lambda cell: order.index(cell.gpu))


def check_devices(gpus: Mapping, found: list[str], where: str = "config.yaml") -> None:
    """Raise StudyError where a device of the study is not among `found`, the names of this machine's GPUs."""
    here = ", ".join(found) if found else "no NVIDIA GPU"
    for gpu, device in gpus.items():
        wanted = device.get("name")
        if device["device"] != "cpu" and wanted and not any(wanted.lower() in name.lower() for name in found):
            raise StudyError(
                f"{where}: gpus.{gpu}.name: no GPU of this machine is called {wanted!r}; it has {here}."
                " Use `device: auto` for whatever is here"
            )
        if device["device"] == "cuda" and not found:
            wish = "`cuda` was asked for and this machine has"
            raise StudyError(f"{where}: gpus.{gpu}.device: {wish} {here}; use `auto` or `cpu`")


def origin(model: Mapping) -> str:
    """Where a model comes from: the one of ORIGINS that its entry has."""
    return next(name for name in ORIGINS if name in model)


def device_of(gpu: str, study: Mapping) -> dict:
    """What a job is told of its device: all of the entry but where a cluster has it, which makes no part of a result."""
    return {key: value for key, value in study["gpus"][gpu].items() if key != "slurm"}


def is_gpu(gpu: str, study: Mapping, has_gpu: bool) -> bool:
    """Whether a device of the study is a GPU, as far as planning can know; `has_gpu` says what `device: auto` is."""
    device = study["gpus"][gpu]
    return device["device"] == "cuda" or (device["device"] == "auto" and (has_gpu or "name" in device))


def model_job(name: str, study: Mapping) -> str:
    """What the job that prepares a model is told, as JSON."""
    entry = study["models"][name]
    told = {"model": name, "origin": origin(entry), "entry": entry, "device": {"device": "cpu"}, "requires": []}
    told |= {"seed": study["seed"], "threads": study["threads"], "schema_version": SCHEMA_VERSION}
    return json.dumps(told, sort_keys=True, ensure_ascii=False)


def probe_job(gpu: str, study: Mapping) -> str:
    """What the job that probes a device is told, as JSON."""
    told = {"gpu": gpu, "device": device_of(gpu, study), "env": "transformers", "requires": []}
    told |= {"seed": study["seed"], "threads": study["threads"], "schema_version": SCHEMA_VERSION}
    return json.dumps(told, sort_keys=True, ensure_ascii=False)


def requests_job(experiment: str, study: Mapping) -> str:
    """What the job that builds the requests of an experiment's tasks is told, as JSON."""
    told = {"experiment": experiment, "env": "evaluation", "device": {"device": "cpu"}, "requires": []}
    told["evaluate"] = {name: study["experiments"][experiment]["evaluate"][name] for name in ("text", "tasks")}
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
    told["evaluate"] = {"text": first.evaluate["text"], "tasks": first.evaluate["tasks"] if first.asks_tasks else []}
    return json.dumps(told, sort_keys=True, ensure_ascii=False)


def reference_cell(cell: Cell, study: Mapping, registry: Mapping, has_gpu: bool = False) -> Cell:
    """The cell of the unmodified model that `cell` is held against: the experiment's baseline, or the registry's own where that has a
    checkpoint of its own making."""
    baseline = study["experiments"][cell.experiment]["baseline"]
    modified = {"transform", "checkpoint"} & set(registry[baseline])
    return _cell(cell.experiment, cell.gpu, cell.model, BASELINE if modified else baseline, study, registry, has_gpu)


@dataclass(frozen=True)
class Turn:
    """A run of a cell, in the order in which a device should take them; `beside` are the cells since the baseline's last run."""

    cell: Cell
    run: int = 1
    beside: tuple[Cell, ...] = ()


def turns(cells: Sequence[Cell]) -> list[Turn]:
    """All runs of cells that are listed group by group: the baseline first, then again after every so many others, and at the end.

    So what drifts during a session is seen, and each cell has a run of its baseline nearby. A group is a gpu, experiment and model.
    """
    ordered = []
    for _, group in groupby(cells, key=lambda cell: cell.key[:3]):
        own = list(group)
        others = [cell for cell in own if not cell.is_baseline]
        ordered += [Turn(cell) for cell in own if cell.is_baseline]
        again = next((cell.runs for cell in own if cell.is_baseline), 1) - 1
        ends = [round(len(others) * run / again) for run in range(1, again + 1)] or [len(others)]
        begin = 0
        for run, end in enumerate(ends, 2):
            chunk = others[begin:end]
            ordered += [Turn(cell) for cell in chunk]
            if again:
                ordered += [Turn(cell, run, tuple(chunk)) for cell in own if cell.is_baseline]
            begin = end
    return ordered


def checkpoint_record(model: str, technique: str, dtype: str) -> str:
    """The file that says that the checkpoint which the transform of `technique` makes is complete; the weights lie beside it."""
    return f"results/checkpoints/{model}/{technique}/{dtype}/quantize.parquet"


def environment(technique: Mapping, on_gpu: bool) -> str:
    """The software stack of a technique on a kind of device.

    Where it can run on none of that kind, its jobs only write down why, and take the small environment of the report for that.
    """
    if cannot_run(technique.get("unavailable", ""), technique["requires"], on_gpu):
        return "report"
    env = technique["env"]
    return env if isinstance(env, str) else env["cuda" if on_gpu else "cpu"]


def cannot_run(unavailable: str, requires: Sequence[str], on_gpu: bool) -> bool:
    """Whether a technique can run nowhere, or not on this kind of device."""
    return bool(unavailable) or ("cuda" in requires and not on_gpu)


def _cells_of(name: str, study: Mapping, registry: Mapping, where: str, has_gpu: bool) -> Iterator[Cell]:
    experiment = study["experiments"][name]
    at = f"{where}: experiments.{name}"
    gpus = experiment.get("gpus", list(study["gpus"]))
    _check_names(gpus, study["gpus"], f"{at}.gpus")
    _check_names(experiment["models"], study["models"], f"{at}.models")
    _check_names(experiment["techniques"], registry, f"{at}.techniques")
    if experiment["baseline"] not in experiment["techniques"]:
        raise StudyError(
            f"{at}.baseline: {experiment['baseline']!r} is not one of the experiment's techniques: {', '.join(experiment['techniques'])}"
        )
    if isinstance(experiment["replies"], Mapping) and experiment["replies"]["at_least"] > experiment["replies"]["at_most"]:
        raise StudyError(f"{at}.replies: at_least is {experiment['replies']['at_least']}, more than at_most")
    for number, entry in enumerate(experiment["exclude"]):
        for axis, allowed in (("gpu", gpus), ("model", experiment["models"]), ("technique", experiment["techniques"])):
            if axis in entry:
                _check_names([entry[axis]], allowed, f"{at}.exclude.{number}.{axis}")
        if entry.get("technique") == experiment["baseline"] and len(entry) == 1:
            raise StudyError(f"{at}.exclude.{number}: leaves out the baseline itself, so that nothing could be compared")
    _check_tasks(experiment["evaluate"], f"{at}.evaluate")
    _check_workload(experiment, study, registry, at)
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
        runs=experiment["baseline_runs"] if technique == experiment["baseline"] else 1,
        random_weights=origin(study["models"][model]) == "architecture",
    )


def _check_site(name: str, device: Mapping, gpus: Mapping, where: str) -> None:
    """Refuse a `slurm` entry that contradicts itself, or that leaves a job no way to tell that it got the right kind of GPU."""
    slurm = device.get("slurm", {})
    at = f"{where}: gpus.{name}"
    if "gres" in slurm and "gpu_model" in slurm:
        raise StudyError(f"{at}.slurm: has both `gpu_model` and `gres`; both ask for a GPU, so give the one that the cluster takes")
    asks = next((key for key in ("gpu_model", "gres") if key in slurm), None)
    if device["device"] == "cpu" and asks:
        raise StudyError(f"{at}.slurm.{asks}: asks for a GPU, and the device is `cpu`; leave it out")
    others = [other for other, entry in gpus.items() if other != name and entry["device"] != "cpu"]
    if "slurm" in device and device["device"] != "cpu" and "name" not in device and others:
        raise StudyError(
            f"{at}: needs the key name: on a cluster with several kinds of GPU each job checks by it that it got this one and not"
            f" {' or '.join(others)}"
        )


def check_nodes(study: Mapping, cells: Sequence[Cell], where: str = "config.yaml") -> None:
    """Raise StudyError where a cluster may measure a baseline's runs on other nodes than the cells that they judge."""
    for gpu, device in study["gpus"].items():
        again = next((cell for cell in cells if cell.gpu == gpu and cell.runs > 1), None)
        if again and "nodes" not in device.get("slurm", {}):
            raise StudyError(
                f"{where}: gpus.{gpu}.slurm: needs the key nodes: the runs of a baseline (experiments.{again.experiment}.baseline_runs is"
                f" {again.runs}) say how far to trust the cells measured on the same node; name nodes (`sinfo --Node`), or write"
                " `nodes: any` to count what nodes differ by as noise"
            )


def _settings(experiment: Mapping) -> dict:
    """What the jobs that measure are told of the experiment."""
    if experiment["workload"] != "generate":
        return workload.settings(experiment, experiment["workload"])
    keys = (
        *("prompt", "prompt_tokens", "replies", "warmup_replies", "repeat_disturbed"),
        *("max_new_tokens", "batch_size", "ignore_eos", "sampling"),
    )
    return {key: experiment[key] for key in keys if key in experiment}


def _check_workload(experiment: Mapping, study: Mapping, registry: Mapping, at: str) -> None:
    """Whether keys, techniques and models of an experiment go with its workload."""
    name = experiment["workload"]
    wrong = workload.problem(experiment, name)
    if wrong:
        raise StudyError(f"{at}.{wrong}")
    for technique in experiment["techniques"]:
        entry = registry[technique]
        if not workload.takes(name, entry["engine"]):
            raise StudyError(
                f"{at}.techniques: {technique!r} is for the workload {workload.of_engine(entry['engine'])}; this one is {name}"
            )
        wrong = workload.technique_problem(experiment, name, workload.options(experiment, name, entry["options"]))
        if wrong:
            raise StudyError(f"{at}.techniques: {technique!r} {wrong}")
    only = workload.WORKLOADS[name].only_models
    for model in experiment["models"]:
        found = origin(study["models"][model])
        if found not in only if only else found == "attention":
            takes = f"models of `{'` or `'.join(only)}`" if only else "models with weights"
            raise StudyError(f"{at}.models: {model!r} is one of `{found}`; the workload {name} takes {takes}")


def _check_model(name: str, model: Mapping, where: str) -> None:
    at = f"{where}: models.{name}"
    if "revision" in model and "hub" not in model:
        raise StudyError(f"{at}.revision: only a `hub` model has one; this one is `{origin(model)}`")
    train = model.get("train")
    if not train:
        return
    if train["heads"] % train["kv_heads"]:
        raise StudyError(f"{at}.train.kv_heads: {train['kv_heads']} does not divide heads, {train['heads']}")
    if train["hidden_size"] % (2 * train["heads"]):
        raise StudyError(f"{at}.train.hidden_size: {train['hidden_size']} is not a multiple of twice the heads, {train['heads']}")
    if train["sequence"] > train["context"]:
        raise StudyError(f"{at}.train.sequence: {train['sequence']} is longer than context, {train['context']}")


def _check_technique(name: str, technique: Mapping, registry: Mapping, where: str) -> None:
    _check_source(name, technique, registry, where)
    lender = technique.get("checkpoint")
    if lender is None:
        return
    if "transform" in technique:
        raise StudyError(f"{where}: techniques.{name}: has both `transform` and `checkpoint`; it can make a checkpoint or borrow one")
    if "transform" not in registry.get(lender, {}):
        makers = ", ".join(other for other, entry in registry.items() if "transform" in entry)
        raise StudyError(f"{where}: techniques.{name}.checkpoint: {lender!r} makes no checkpoint; those that do are {makers}")


def _check_source(name: str, technique: Mapping, registry: Mapping, where: str) -> None:
    """What a transform starts from is a checkpoint that another technique makes, and never, in the end, its own."""
    source, seen = technique.get("from"), [name]
    if source is None:
        return
    at = f"{where}: techniques.{name}.from"
    if "transform" not in technique:
        raise StudyError(
            f"{at}: the technique has no `transform` that could start from it; to load a checkpoint as it is, use `checkpoint`"
        )
    while source:
        if source in seen:
            raise StudyError(f"{at}: goes round in a circle: {' from '.join([*seen, source])}")
        if "transform" not in registry.get(source, {}):
            makers = ", ".join(other for other, entry in registry.items() if "transform" in entry)
            raise StudyError(f"{at}: {source!r} makes no checkpoint; those that do are {makers}")
        seen.append(source)
        source = registry[source].get("from")


def _check_tasks(evaluate: Mapping | bool, at: str) -> None:
    """Each task once, and each with the data set that it takes: `cloze` is made from the held-out text."""
    tasks = evaluate["tasks"] if evaluate else []
    names = [task["task"] for task in tasks]
    for number, task in enumerate(tasks):
        if task["task"] in names[:number]:
            raise StudyError(f"{at}.tasks.{number}.task: {task['task']!r} is there twice")
        if task["task"] == LOCAL_TASK and {"dataset", "fewshot"} & set(task):
            raise StudyError(f"{at}.tasks.{number}: {LOCAL_TASK} is made from the held-out text; it takes `limit` and no other key")
        if task["task"] != LOCAL_TASK and "dataset" not in task:
            raise StudyError(f"{at}.tasks.{number}: {task['task']} needs the key dataset: its `revision` on the hub, or a local `folder`")


def _check_names(names: list[str], allowed, at: str) -> None:
    for name in names:
        if name not in allowed:
            raise StudyError(f"{at}: {name!r} is unknown; allowed are {', '.join(allowed)}")


def _excluded(entries: list[Mapping], **axes: str) -> bool:
    return any(all(axes[axis] == name for axis, name in entry.items()) for entry in entries)


def _with_defaults(value: object, schema: Mapping, root: Mapping) -> object:
    """`value` with every default of `schema` that it leaves out; wrong types are left for the validator to name."""
    if "$ref" in schema:
        schema = {**root["$defs"][schema["$ref"].rpartition("/")[2]], **schema}
    if "oneOf" in schema and isinstance(value, Mapping):
        objects = [_resolved(option, root) for option in schema["oneOf"]]
        schema = {**next((option for option in objects if option.get("type") == "object"), {}), **schema}
    if not isinstance(value, dict):
        return value
    for key, child in schema.get("properties", {}).items():
        default = _resolved(child, root).get("default", child.get("default"))
        if key not in value and default is not None:
            value[key] = copy.deepcopy(default)
    for key in value:
        child = schema.get("properties", {}).get(key, schema.get("additionalProperties"))
        if isinstance(child, Mapping):
            value[key] = _with_defaults(value[key], child, root)
    return value


def _resolved(schema: Mapping, root: Mapping) -> Mapping:
    return root["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def _in_words(problem) -> str:
    """One line for a validation error of jsonschema: key, problem, what is allowed."""
    key = ".".join(map(str, problem.absolute_path))
    at = f"{key}: " if key else ""
    rule, value = problem.validator, problem.validator_value
    if rule == "additionalProperties":
        unknown = sorted(set(map(str, problem.instance)) - set(problem.schema.get("properties", {})))
        return f"{at}unknown key {', '.join(unknown)}; allowed are {', '.join(problem.schema['properties'])}"
    if rule == "required":
        missing = [name for name in value if name not in problem.instance]
        return f"{at}needs the key {', '.join(missing)}"
    if rule == "dependentRequired":
        return f"{at}{problem.message}"
    if rule == "enum":
        return f"{at}{problem.instance!r} is not allowed; allowed are {', '.join(map(str, value))}"
    if rule == "type":
        return f"{at}expected {value if isinstance(value, str) else ' or '.join(value)}, found {_kind(problem.instance)}"
    if rule == "minItems" or rule == "minProperties":
        return f"{at}must not be empty"
    if rule == "oneOf":
        return _oneof_in_words(problem, at)
    if rule == "pattern":
        return f"{at}{problem.instance!r} is not allowed; it must match {value}"
    return f"{at}{problem.message}"


def _oneof_in_words(problem, at: str) -> str:
    options = problem.validator_value
    keys = [name for option in options for name in option.get("required", [])]
    if keys:
        given = [name for name in keys if name in problem.instance]
        return f"{at}needs exactly one of {', '.join(keys)}; it has {' and '.join(given) if given else 'none'}"
    # Of several forms, the one that takes such a value tells most about what is wrong with it.
    inside = [error for error in problem.context if error.path or error.validator not in ("type", "const", "required")]
    if inside:
        return _in_words(inside[0])
    named = [
        "a whole number"
        if option.get("type") == "integer"
        else str(option["const"]).lower()
        if "const" in option
        else option.get("type", "keys and values")
        for option in options
    ]
    return f"{at}{problem.instance!r} is not allowed; allowed is {' or '.join(named)}"


def _kind(value: object) -> str:
    kinds = {type(None): "nothing", bool: "true/false", int: "a number", float: "a number", str: "text", list: "a list"}
    return kinds.get(type(value), "keys and values") + (f" ({value!r})" if isinstance(value, int | float | str) else "")
