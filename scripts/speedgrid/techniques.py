"""Holds techniques against what their engines and transforms take, before any job starts. Pure.

What an engine takes is declared in its module (`OPTIONS`, `problem`), what a transform takes in its own (`SETTINGS`, `problem`).
"""

from collections.abc import Iterable, Mapping
from importlib.util import find_spec

from speedgrid import transforms, validation
from speedgrid.cell import Cell
from speedgrid.engines import engine_class
from speedgrid.study import StudyError, origin

# The families of techniques, in the order in which they are shown, with their titles.
FAMILIES = {
    "reference": "References",
    "attention": "Attention",
    "compile": "Compilation",
    "kv-cache": "KV cache",
    "decoding": "Decoding",
    "precision": "Number formats",
    "memory": "Memory in training",
    "quantization": "Quantization",
    "compression": "Pruning and distillation",
    "engine": "Engines",
}
# What a technique may ask of the machine, in words.
REQUIREMENTS = {
    "cuda": "an NVIDIA GPU",
    "sm80": "compute capability 8.0",
    "sm89": "compute capability 8.9",
    "compiler": "a C++ compiler",
    "nvcc": "nvcc of the CUDA toolkit",
}
# Origins of models whose weights are safetensors; a folder of the user's may hold any format.
IN_SAFETENSORS = ("train", "architecture", "hub", "gguf")


def check(registry: Mapping, environments: Iterable[str], where: str) -> None:
    """Raise StudyError for a technique that names no environment, or tells its engine or transform what that does not take.

    `environments` are the names of the files of envs/.
    """
    for name, technique in registry.items():
        at = f"{where}: techniques.{name}"
        _check_environment(technique["env"], sorted(environments), f"{at}.env")
        if "transform" in technique:
            _check_settings(technique["transform"], f"{at}.transform")
        if "unavailable" not in technique:
            _check_options(technique["engine"], technique["options"], at)


def check_cells(cells: Iterable[Cell], study: Mapping, registry: Mapping, where: str) -> None:
    """Raise StudyError where a technique does not go with the number format, the batch or the models of its experiment, whatever the
    device: what its job would refuse, after the jobs before it."""
    told = {(cell.experiment, cell.technique, origin(study["models"][cell.model])): cell for cell in cells if not cell.unavailable}
    for (experiment, technique, comes_from), cell in told.items():
        wrong = engine_class(cell.engine).problem(cell.options, cell.settings["batch_size"]) or _problem_of_checkpoint(
            cell, comes_from, registry
        )
        if wrong:
            raise StudyError(f"{where}: experiments.{experiment}.techniques: {technique!r}: {wrong}")


def _problem_of_checkpoint(cell: Cell, comes_from: str, registry: Mapping) -> str:
    """Why the checkpoint that a cell loads cannot be made, or not be loaded by its engine; empty where it can."""
    wanted, taker = engine_class(cell.engine).LOADS, f"the engine {cell.engine}"
    maker = cell.made_by if cell.transform else ""
    if not maker and wanted != "safetensors" and comes_from in IN_SAFETENSORS:
        return f"{taker} loads {wanted} alone, and the technique has no `transform` that makes it"
    while maker:
        method, settings = _parts(registry[maker]["transform"])
        if transforms.writes(method) != wanted:
            return f"{taker} loads {wanted} alone, and the transform {method} of {maker!r} makes {transforms.writes(method)}"
        if wrong := transforms.problem(method, settings, cell.options["dtype"]):
            return wrong
        maker, wanted, taker = registry[maker].get("from", ""), "safetensors", f"the transform {method}"
    return ""


def _check_environment(env: str | Mapping, known: list[str], at: str) -> None:
    for name in [env] if isinstance(env, str) else env.values():
        if name not in known:
            raise StudyError(f"{at}: {validation.shown(name)} is no file of envs/; {validation.unknown(name, known)}")


def _check_settings(transform: Mapping, at: str) -> None:
    method, settings = _parts(transform)
    schema = transforms.settings_schema(method)
    try:
        validation.validated({"transform": settings}, {"properties": {"transform": schema}})
    except validation.Problem as problem:
        raise StudyError(at.removesuffix("transform") + str(problem)) from None


def _parts(transform: Mapping) -> tuple[str, dict]:
    return transform["method"], {name: value for name, value in transform.items() if name != "method"}


def _check_options(engine: str, options: Mapping, at: str) -> None:
    if find_spec(f"speedgrid.engines.{engine}") is None:
        raise StudyError(f"{at}.engine: there is no code for the engine {engine}; a technique of it says why in `unavailable`")
    takes = engine_class(engine).OPTIONS
    for name, value in options.items():
        if name not in takes:
            raise StudyError(f"{at}.options: the engine {engine} has no option {name}; {validation.unknown(name, takes)}")
        allowed = takes[name]
        if allowed is not None and value not in allowed:
            raise StudyError(f"{at}.options.{name}: the engine {engine} has no {value!r}; allowed are {', '.join(map(str, allowed))}")
