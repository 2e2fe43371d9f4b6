"""What a planned study will take on this machine: reads what estimates.py needs to know of models, machine and results."""

import math
import os
import shutil
import urllib.parse
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from speedgrid import (
    checkpoints,
    environments,
    estimates,
    files,
    gguf_header,
    hardware,
    hub,
    records,
    schema,
    selection,
    sharpen,
    snakemake_seam,
    this_machine,
)
from speedgrid.cell import Cell, model_record
from speedgrid.estimates import Estimate, Machine, Model, Work
from speedgrid.outcomes import Outcome

# Bytes of a token in text, and replies that `auto` goes on to.
TOKEN_BYTES, AUTO_REPLIES = 4, 40
# Of parameters, bytes or anything else of a model.
LARGEST = 1e18
# Environments of every study, and of one that asks tasks.
ALWAYS, OF_TASKS = ("transformers", "report"), "evaluation"


def said(grid) -> list[str]:
    """What is left of a study, in lines; none where nothing is. `grid` is a planned study (planning.Grid)."""
    found, machine, unknown = foreseen(grid)
    if not found.cells and not unknown:
        return _preparing(grid) if grid.prepares else []
    if not found.cells:
        return [f"speedgrid: what it will take cannot be estimated: nothing is known yet of {', '.join(sorted(unknown))}"]
    cells = f"{found.cells} cell{'s' * (found.cells != 1)}"
    what = "what is left" if found.cells < len(grid.cells) and not unknown and grid.comes_to_report else "what it will take"
    lines = estimates.lines(found, machine, _free())
    lines += [f"not estimated: {', '.join(sorted(unknown))}"] if unknown else []
    lines += [f"left out: {folder.removeprefix('results/')}: {why}" for folder, why in grid.left_out.items()]
    return [f"speedgrid: {what}, by estimate: {cells} ({estimates.sure(found, machine)})", *(f"  {line}" for line in lines)]


def _preparing(grid) -> list[str]:
    """What a run takes that downloads what a study needs and measures nothing, in lines; none where all is there."""
    is_to_be_made = grid.to_make()
    cells = [cell for cell in grid.cells if not cell.cannot_run]
    names = sorted({cell.model for cell in grid.cells if is_to_be_made(model_record(cell.model))})
    models = {name: of_entry(name, grid.study["models"][name], is_prepared=False) for name in names}
    known, unknown = [model for model in models.values() if model], [f"model {name}" for name in names if not models[name]]
    used = frozenset[str]().union(*map(environments_of, cells)) if grid.makes_environments else frozenset[str]()
    where = machine(any(cell.on_gpu for cell in cells), used)
    found = estimates.study([], known, used, where)
    if not found.environments and not known:
        return [f"speedgrid: what preparing takes cannot be estimated: nothing is known yet of {', '.join(unknown)}"] if unknown else []
    lines = estimates.lines_of_files(found, where, _free()) + ([f"not estimated: {', '.join(unknown)}"] if unknown else [])
    return ["speedgrid: what preparing takes, by estimate", *(f"  {line}" for line in lines)]


def _free() -> int:
    """Bytes that are free where a study puts files: in the working folder, the environments and the hub's cache; a disk of several once."""
    places = (Path.cwd(), snakemake_seam.environments_folder(Path.cwd()), hub.cache_folder())
    there = [next(path for path in (place, *place.parents) if path.exists()) for place in (one.absolute() for one in places)]
    return sum({path.stat().st_dev: shutil.disk_usage(path).free for path in there}.values())


def foreseen(grid) -> tuple[Estimate, Machine, set[str]]:
    """The estimate of what is not measured yet, the machine that it is for, and the models that nothing is known of."""
    left = Left.of(grid)
    unknown = {f"model {cell.model}" for cell in left.unknown}
    own, beside = ([one for one in left.cells if (left.of_cell(one[0]) is left.machine) == flag] for flag in (True, False))
    found = left.estimate(own, list(left.missing.values()), left.environments, left.machine)
    if beside:
        found = estimates.together(found, left.estimate(beside, [], [], left.beside))
    # A run of so many minutes has none, nor has one of some targets.
    further_s = 0.0 if selection.MINUTES in os.environ or not grid.comes_to_report else max(0.0, _further_s(grid))
    return replace(found, further_s=further_s), left.machine, unknown


def _further_s(grid) -> float:
    """The seconds that the study's budget has left for further runs, by what runs of its cells took so far."""
    took = {}
    if any(cell.further for cell in grid.cells):
        with suppress(records.RecordError, OSError):
            rows = records.read(grid.tables()[0], schema.SUMMARY).rows
            took = {schema.cell_of(row): row["run_s"] for row in rows if row["rate"] is not None}
    return sharpen.left_s(60 * grid.study["budget_minutes"], ((cell.further, took.get(cell.key)) for cell in grid.cells))


@dataclass(frozen=True)
class Left:
    """What is left of a study: cells to measure or to tell the quality of, each with its model and what it has yet to do; the models to
    prepare among theirs, by name; the cells that nothing is known of; the devices to probe; the environments of all, none in the user's own
    Python; the machine, with its GPU where one of these cells is measured on that; and the same without it, for cells on the processor
    beside them."""

    cells: list[tuple[Cell, Model, Work]]
    missing: dict[str, Model]
    unknown: list[Cell]
    unprobed: frozenset[str]
    environments: frozenset[str]
    machine: Machine
    beside: Machine

    def of_cell(self, cell: Cell) -> Machine:
        """Where a cell is measured."""
        return self.machine if cell.on_gpu == self.machine.is_gpu else self.beside

    def estimate(self, cells: list[tuple[Cell, Model, Work]], models: list[Model], used: Iterable[str], where: Machine) -> Estimate:
        """What some of the cells take, all on one machine."""
        is_probed = not any(cell.gpu in self.unprobed for cell, _, _ in cells)
        return estimates.study([(model, does) for _, model, does in cells], models, used, where, is_probed)

    @classmethod
    def of(cls, grid) -> "Left":
        is_to_be_made, is_planned = grid.to_make(), grid.is_planned
        yet = {
            cell.key: parts
            for cell in grid.cells
            if not cell.cannot_run and any(parts := grid.kept.left_of(cell, is_to_be_made, is_planned))
        }
        left = [cell for cell in grid.cells if cell.key in yet]
        unprepared = {name for name in {cell.model for cell in left} if is_to_be_made(model_record(name))}
        entries = {cell.model: grid.study["models"][cell.model] for cell in left}
        known = {name: model for name, entry in entries.items() if (model := of_entry(name, entry, name not in unprepared))}
        cells = [(cell, known[cell.model], work(cell, *yet[cell.key])) for cell in left if cell.model in known]
        unknown = [cell for cell in left if cell.model not in known]
        missing = {name: model for name, model in known.items() if name in unprepared}
        used = frozenset[str]().union(*map(environments_of, left)) if grid.makes_environments else frozenset[str]()
        gpu = next((cell for cell in left if cell.on_gpu), None)
        main = machine(gpu is not None, used, gpu.device.get("name", "") if gpu else "")
        unprobed = frozenset(gpu for gpu in {cell.gpu for cell in left} if is_to_be_made(f"results/{gpu}/probe.parquet"))
        return cls(cells, missing, unknown, unprobed, used, main, machine(False, used))


def environments_of(cell: Cell) -> frozenset[str]:
    """The environments that a study with this cell needs."""
    return frozenset({cell.env, *ALWAYS} | ({OF_TASKS} if cell.asks_tasks else set()))


def work(cell: Cell, begins: bool = True, runs: int | None = None, is_evaluated: bool = True) -> Work:
    """What a cell does; of what is there already, its cold start, runs of it or its quality, nothing."""
    settings = cell.settings
    prompt = settings.get("prompt_tokens") or max(1, len(settings.get("prompt", "").encode()) // TOKEN_BYTES)
    replies = settings["replies"]
    evaluate = cell.evaluate if is_evaluated and cell.evaluate and not cell.random_weights else None
    items = sum(task["limit"] for task in evaluate["tasks"]) if evaluate else 0
    return Work(
        technique=cell.technique,
        engine=cell.engine,
        env=cell.env,
        dtype=cell.options["dtype"],
        transform=cell.transform,
        options=cell.options,
        prompt=prompt,
        new_tokens=settings.get("max_new_tokens") or max(settings.get("lengths", (1,))),
        batch=settings["batch_size"],
        replies=replies if isinstance(replies, int) else AUTO_REPLIES,
        warmup_replies=settings["warmup_replies"],
        runs=len(cell.measures) if runs is None else runs,
        scored_tokens=evaluate["max_bytes"] // TOKEN_BYTES + evaluate["positions"] if evaluate else 0,
        requests=estimates.REQUESTS * items,
        is_lossless=cell.may_take_over,
        is_baseline=cell.is_baseline,
        begins=begins,
        workload=cell.workload,
        settings=settings,
    )


def machine(on_gpu: bool, names: Iterable[str] = (), gpu: str = "") -> Machine:
    """This machine, and which of the environments `names` are there; `gpu` is the name of the GPU that is meant, where it is told. Where a
    GPU is meant and none is here, as where jobs go to a cluster, its memory is not known."""
    recipes, folder = environments.files(), snakemake_seam.environments_folder(Path.cwd())
    places = {name: snakemake_seam.environment_folder(recipes[name], folder) for name in names if name in recipes}
    made = frozenset(name for name, place in places.items() if environments.runs(place))
    found = hardware.gpus()
    meant = [one for one in found if gpu.lower() in one.name.lower()]
    if on_gpu:
        return Machine(True, meant[0].memory if meant else math.inf, name=meant[0].name if meant else gpu, made=made)
    anew = "AVX-512 BF16" in this_machine.instruction_sets()
    cores = this_machine.physical_cores()
    return Machine(False, this_machine.memory(), name=this_machine.cpu_name(), cores=cores, made=made, lays_out_anew=anew)


def of_entry(name: str, entry: Mapping, is_prepared: bool = True) -> Model | None:
    """What is known of a study's model before it is prepared, or of the one that is there where that `is_prepared` as the study says it;
    None where that is not enough."""
    try:
        model = _of_entry(name, entry, is_prepared)
        return model if model and all(_is_size(value) for value in asdict(model).values()) else None
    except (Outcome, OSError, KeyError, ValueError, TypeError, ArithmeticError, AttributeError):
        return None


def _is_size(value: object) -> bool:
    """Whether a number can be one of a model's: a configuration may say anything."""
    return isinstance(value, int | float) and math.isfinite(value) and 0 <= value < LARGEST


def _of_entry(name: str, entry: Mapping, is_prepared: bool) -> Model | None:
    model = _as_told(name, entry, is_prepared)
    # Random weights come with a tokenizer of bytes.
    return replace(model, tokens=0) if model and "architecture" in entry else model


def _as_told(name: str, entry: Mapping, is_prepared: bool) -> Model | None:
    folder = Path(f"models/{name}/checkpoint")
    if is_prepared and (folder / "config.json").is_file() and Path(f"models/{name}/prepared.parquet").is_file():
        model = of_folder(folder)
        files = sorted((folder / "gguf").glob("*.gguf"))
        return replace(model, gguf_bytes=files[0].stat().st_size) if files else model
    if "attention" in entry:
        heads = entry["attention"]["heads"]
        return Model(0, 1, 0, width=heads * entry["attention"]["head_dim"], heads=heads)
    if "architecture" in entry:
        model = estimates.of_config(entry["architecture"], entry["dtype"])
        return replace(model, written=model.parameters * model.item)
    if "train" in entry:
        told = entry["train"]
        config = {"num_attention_heads": told["heads"], "num_key_value_heads": told["kv_heads"], "num_hidden_layers": told["layers"]}
        config |= {"vocab_size": told["vocabulary"], "tie_word_embeddings": True}
        model = estimates.of_config({**told, **config}, "float32")
        tokens = told["steps"] * told["batch_size"] * told["sequence"]
        return replace(model, written=model.parameters * model.item, train_tokens=tokens)
    if "local" in entry:
        return of_folder(Path(entry["local"]))
    if "gguf" in entry:
        return of_gguf(entry["gguf"], entry["dtype"])
    if "hub" in entry:
        return of_hub(entry["hub"], entry["revision"])
    return None


def of_folder(folder: Path) -> Model:
    """A checkpoint of transformers, by its configuration and the heads of its files."""
    config = files.parse_json((folder / "config.json").read_text(encoding="utf-8"))
    parameters = checkpoints.parameters(folder) or 0
    model = estimates.of_config(config, "", 0 if config.get("quantization_config") else parameters)
    return replace(model, item=checkpoints.size(folder) / model.parameters)


def of_gguf(entry: str | Mapping, dtype: str) -> Model | None:
    """A GGUF file by its head; one of a package by what ships with the project."""
    item = estimates.ITEMS[dtype]
    if isinstance(entry, Mapping) and "package" in entry:
        shape = next((one for one in estimates.shapes().values() if entry["package"] in one.get("packages", {})), None)
        if shape is None:
            return None
        size = download = shape["packages"][entry["package"]]
        model = estimates.of_config(shape["architecture"], dtype, shape["parameters"])
    elif isinstance(entry, Mapping):
        head, size, download = _of_the_hub(entry["hub"], entry["revision"], entry["file"])
        model = of_head(head)
    else:
        path = Path(entry).expanduser()
        size, download = path.stat().st_size, 0
        model = of_head(gguf_header.read(path))
    return replace(model, item=item, gguf_bytes=size, download=download, written=model.parameters * item)


def of_head(head: gguf_header.Header) -> Model:
    """A model by the head of its GGUF file. Raises KeyError and ValueError where that does not say its sizes."""
    kind = head.fields["general.architecture"]
    layers, heads = (int(str(head.fields[f"{kind}.{name}"])) for name in ("block_count", "attention.head_count"))
    width = int(str(head.fields[f"{kind}.embedding_length"]))
    kv = int(str(head.fields.get(f"{kind}.attention.head_count_kv", heads)))
    embedding = head.tensors.get("token_embd.weight", 0)
    inner = int(str(head.fields.get(f"{kind}.feed_forward_length", 4 * width)))
    return Model(
        head.parameters,
        layers,
        kv * width // heads,
        embedding,
        width=width,
        inner=inner,
        vocabulary=embedding // width,
        tokens=embedding // width,
        heads=heads,
    )


def _of_the_hub(repository: str, revision: str, file: str) -> tuple[gguf_header.Header, int, int]:
    """The head of a GGUF file of the hub, its size, and how much of it is to be downloaded: none where the hub's cache has it."""
    cached = _snapshot(repository, revision) / file
    if cached.is_file():
        return gguf_header.read(cached), cached.stat().st_size, 0
    if hub.is_offline():
        raise OSError(f"{file} of {repository} is not in the cache of the hub, which may not be asked")
    with hub.opened(f"{hub.endpoint()}/{urllib.parse.quote(repository)}/resolve/{revision}/{urllib.parse.quote(file)}") as answer:
        size = int(answer.headers.get("Content-Length") or 0)
        return gguf_header.parse(answer), size, size


def _snapshot(repository: str, revision: str) -> Path:
    """Where the hub's cache has a commit of a repository, if it does."""
    return hub.cached(repository) / "snapshots" / revision


def of_hub(repository: str, revision: str) -> Model | None:
    """A model of the hub by its configuration, of the hub's cache or of the hub itself."""
    folder = _snapshot(repository, revision)
    config = folder / "config.json"
    if config.is_file() and checkpoints.size(folder):
        return of_folder(folder)
    if config.is_file():
        told = files.parse_json(config.read_text(encoding="utf-8"))
    elif hub.is_offline():
        return None
    else:
        told = hub.ask(f"{hub.endpoint()}/{urllib.parse.quote(repository)}/resolve/{revision}/config.json")
    model = estimates.of_config(told)
    return replace(model, download=model.parameters * model.item)
