"""Reads a study and checks it, before anything is planned from it. Pure but for reading the file.

Everything that can be wrong with a study by itself is found here and in `validation`, before any job starts, and said in one line that
names the file, the key and what is allowed there. What is wrong with it on this machine, planning/checks.py finds.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import product
from pathlib import Path

from speedgrid import families, strict_yaml, validation, workload

# Tasks of speedgrid's own, each with what it is made from.
LOCAL_TASKS = {"cloze": "the held-out text", "stdlib": "Python's standard library"}
# Endings of the files that lie beside the folders which names become, in results/ and logs/.
RESULT_ENDINGS = (".parquet", ".json", ".html", ".md", ".log")
# Folders beside those of the devices there.
RESERVED = {"gpus": ("requests", "checkpoints", "models", "quantize", "figures")}
# Sizes of an architecture of which the first divides the second. (A head may be wider than `hidden_size` over the heads.)
DIVIDES = (
    ("num_key_value_heads", "num_attention_heads"),
    *(("n_head", width) for width in ("n_embd", "d_model", "hidden_size")),
    ("n_heads", "d_model"),
)
# What every study has, and few other files.
MAKE_A_STUDY = ("study", "models", "experiments")
ORIGINS = ("train", "architecture", "attention", "local", "gguf", "hub")


class StudyError(ValueError):
    """A study that cannot be planned; the message is one line for the person who wrote it, whatever keys they chose."""

    def __init__(self, message: str):
        super().__init__("".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in message))


def read(path: Path, where: str | Path) -> object:
    """What a YAML file says; `where` is its name in messages. Raises StudyError where it cannot be read, or says what no study may say."""
    try:
        return strict_yaml.parse(path.read_bytes().decode("utf-8-sig"))
    except strict_yaml.Refused as error:
        raise StudyError(f"{where}: {error}") from None
    except UnicodeDecodeError as error:
        line = error.object[: error.start].count(b"\n") + 1
        raise StudyError(f"{where}: line {line}: is not UTF-8; save the file in that encoding") from None
    except (OSError, ValueError) as error:
        raise StudyError(f"{where}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def has_keys_of_one(path: Path) -> bool:
    """Whether a file means to be a study, by any of the keys that make one, whatever is wrong with it."""
    try:
        content = read(path, path)
        return isinstance(content, Mapping) and not content.keys().isdisjoint(MAKE_A_STUDY)
    except StudyError:
        pass
    try:
        text = path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return True  # who reads it says why that cannot be done
    return re.search(rf"^['\"]?({'|'.join(MAKE_A_STUDY)})['\"]?\s*:", text, re.MULTILINE) is not None


def validate(document: object, schema: Mapping, where: str) -> dict:
    """Check a study or registry against its JSON schema and fill in the defaults.

    Raises StudyError with the first problem: the file, the key and what is allowed there.
    """
    if not isinstance(document, Mapping):
        raise StudyError(f"{where}: expected keys and values at the top, found {validation.kind(document)}")
    try:
        return validation.validated(document, schema)
    except validation.Problem as problem:
        raise StudyError(f"{where}: {problem}") from None


def merge_registry(registry: Mapping, own: Mapping, where: str) -> dict:
    """The registry with a study's own techniques added; a study may not redefine a technique that the registry has."""
    for name in own:
        if name in registry:
            raise StudyError(f"{where}: techniques.{name}: the registry has this name already; give your variant another one")
    return {**registry, **own}


def check(study: Mapping, registry: Mapping, where: str = "config.yaml") -> None:
    """Raise StudyError where keys of a validated study contradict each other or name what does not exist."""
    for axis, names in (
        ("gpus", study["gpus"]),
        ("models", study["models"]),
        ("experiments", study["experiments"]),
        ("techniques", registry),
    ):
        _check_new_names(axis, names, where)
    for name, model in study["models"].items():
        _check_model(name, model, where)
    for name, technique in registry.items():
        _check_technique(name, technique, registry, where)
    for name, device in study["gpus"].items():
        _check_site(name, device, study["gpus"], where)
    for name in study["experiments"]:
        _check_experiment(name, study, registry, where)
    if not any(any(True for _ in combinations(study, name)) for name in study["experiments"]):
        raise StudyError(f"{where}: experiments: the grid is empty; `exclude` leaves out every cell")


def combinations(study: Mapping, name: str) -> Iterator[tuple[str, str, str]]:
    """The devices, models and techniques of an experiment, in the order of the study, that it does not exclude."""
    experiment = study["experiments"][name]
    for axes in product(experiment.get("gpus", list(study["gpus"])), experiment["models"], experiment["techniques"]):
        named = dict(zip(("gpu", "model", "technique"), axes, strict=True))
        if not any(all(named[axis] == excluded for axis, excluded in entry.items()) for entry in experiment["exclude"]):
            yield axes


def check_nodes(study: Mapping, repeated: Mapping, where: str = "config.yaml") -> None:
    """Raise StudyError where a cluster may measure the runs of a cell on other nodes than those of the cells that they judge; `repeated`
    is a cell of each device that is measured more than once."""
    for gpu, cell in repeated.items():
        if "nodes" not in study["gpus"][gpu].get("slurm", {}):
            raise StudyError(
                f"{where}: gpus.{gpu}.slurm: needs the key nodes: the runs of {cell.technique} in"
                f" experiments.{cell.experiment} say how far to trust the cells measured on the same node; name nodes"
                " (`sinfo --Node`), or write `nodes: any` to count what nodes differ by as noise"
            )


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


def repository(model: Mapping) -> Mapping | None:
    """The part of a model's entry that names a repository of the hub and a revision of it; None where it comes from elsewhere."""
    if "hub" in model:
        return model
    file = model.get("gguf")
    return file if isinstance(file, Mapping) and "hub" in file else None


def _check_experiment(name: str, study: Mapping, registry: Mapping, where: str) -> None:
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
        context = study["models"][model].get("train", {}).get("context")
        if context and "image_size" in experiment:
            raise StudyError(f"{at}.image_size: {model!r} is trained here and takes text; give `sequence`, or a model of images")
        if context and experiment.get("sequence", 0) > context:
            raise StudyError(f"{at}.sequence: {experiment['sequence']} is more than {model!r} takes, {context} tokens (train.context)")


def _check_model(name: str, model: Mapping, where: str) -> None:
    at = f"{where}: models.{name}"
    if "revision" in model and "hub" not in model:
        raise StudyError(f"{at}.revision: only a `hub` model has one; this one is `{origin(model)}`")
    if "architecture" in model:
        if wrong := families.problem(model["architecture"]):
            raise StudyError(f"{at}.architecture.{wrong}")
        _check_architecture(model["architecture"], f"{at}.architecture")
    file = model.get("gguf")
    if isinstance(file, Mapping) and ".." in file["file"].split("/"):
        raise StudyError(f"{at}.gguf.file: {file['file']!r} leads out of the package or repository; name a file in it")
    vocabulary = model.get("architecture", {}).get("vocab_size")
    if isinstance(vocabulary, int) and vocabulary < 257:
        raise StudyError(
            f"{at}.architecture.vocab_size: {vocabulary} is too small; the least is 257, a token for every byte and one for the end"
        )
    train = model.get("train")
    if not train:
        return
    if train["heads"] % train["kv_heads"]:
        raise StudyError(f"{at}.train.kv_heads: {train['kv_heads']} does not divide heads, {train['heads']}")
    if train["hidden_size"] % (2 * train["heads"]):
        raise StudyError(f"{at}.train.hidden_size: {train['hidden_size']} is not a multiple of twice the heads, {train['heads']}")
    if train["sequence"] > train["context"]:
        raise StudyError(f"{at}.train.sequence: {train['sequence']} is longer than context, {train['context']}")


def _check_architecture(sizes: Mapping, at: str) -> None:
    """Whether the sizes of random weights divide as they must in every family; what its own code wants shows when it is built."""
    for part, whole in DIVIDES:
        parts, of = sizes.get(part), sizes.get(whole)
        if isinstance(parts, int) and parts > 0 and of and of % parts:
            raise StudyError(f"{at}.{part}: {parts} does not divide {whole}, {of}")
    if "text_config" in sizes:
        _check_architecture(sizes["text_config"], f"{at}.text_config")


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


def _check_tasks(evaluate: Mapping | bool, at: str) -> None:
    """Each task once, and each with the data set that it takes: those of our own take none."""
    tasks = evaluate["tasks"] if isinstance(evaluate, Mapping) else []
    names = [task["task"] for task in tasks]
    for number, task in enumerate(tasks):
        if task["task"] in names[:number]:
            raise StudyError(f"{at}.tasks.{number}.task: {task['task']!r} is there twice")
        own = LOCAL_TASKS.get(task["task"])
        if own and {"dataset", "fewshot"} & set(task):
            raise StudyError(f"{at}.tasks.{number}: {task['task']} is made from {own}; it takes `limit` and no other key")
        if not own and "dataset" not in task:
            raise StudyError(f"{at}.tasks.{number}: {task['task']} needs the key dataset: its `revision` on the hub, or a local `folder`")


def _check_new_names(axis: str, names: Iterable[str], where: str) -> None:
    """Names become folders: none may be that of a file or folder beside, nor differ from another one by its capitals alone."""
    seen: dict[str, str] = {}
    for name in names:
        lower = name.lower()
        at = f"{where}: {axis}.{name}"
        if lower in RESERVED.get(axis, ()) or lower.endswith(RESULT_ENDINGS):
            raise StudyError(f"{at}: this name is that of a file or folder of the results; take another one")
        if lower in seen:
            raise StudyError(
                f"{at}: differs from {seen[lower]} by capitals alone; a disk that does not tell them apart has one folder for both"
            )
        seen[lower] = name


def _check_names(names: list[str], allowed, at: str) -> None:
    for name in names:
        if name not in allowed:
            raise StudyError(f"{at}: {validation.shown(name)} is unknown; {validation.unknown(name, allowed)}")
