"""What a plan is held against before its first job: the files that the study names, and the machine. Each finding is one StudyError."""

import csv
import os
import urllib.error
import urllib.request
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from speedgrid import checkpoints, families, files, gguf_header, hardware, hub, inputs, outcomes
from speedgrid.grid import repeated
from speedgrid.planning import elsewhere
from speedgrid.planning.grid import Grid
from speedgrid.schema import CHECKPOINT, MODEL
from speedgrid.snakemake_seam import Run
from speedgrid.study import StudyError, check_devices, check_nodes, repository

PUBLISHED = "report/published.csv"
LANGUAGES = "report/languages"
# The charts beside the page.
FIGURES = "results/figures"


def check_machine(grid: Grid, workflow) -> None:
    """What only the machine can tell, checked before the first job: its GPUs, whose results are there, and whether the hub can be reached.

    On a cluster the GPUs are on other machines; there each job checks its own. Raises StudyError.
    """
    for record in grid.checkpoints():
        # While the record is there: Snakemake removes it before the job that writes it anew.
        checkpoints.adopt(Path(_beside(record)), Path(record), MODEL if record.startswith("models/") else CHECKPOINT)
    if Run(workflow).is_local:
        _check_driver(grid)
        if line := elsewhere.of_another_device(grid, workflow):
            raise StudyError(line)
        check_devices(grid.study["gpus"], [gpu.name for gpu in hardware.gpus()], grid.study_file)
    else:
        check_nodes(grid.study, repeated(grid.cells), grid.study_file)
    for name, model in grid.study["models"].items():
        if (named := repository(model)) and not Path(f"models/{name}/prepared.parquet").exists():
            _check_hub(f"{grid.study_file}: models.{name}.hub", named["hub"])


def _check_driver(grid: Grid) -> None:
    """Raise StudyError where a GPU may be meant and the machine keeps silent about those that it has: its processor would be measured."""
    meant = next((gpu for gpu, entry in grid.study["gpus"].items() if entry["device"] != "cpu"), None)
    if meant and (why := elsewhere.no_gpu_to_be_had()):
        raise StudyError(f"{grid.study_file}: gpus.{meant}: {why}")


def check_files(grid: Grid, roots: tuple[Path, Path]) -> None:
    """Raise StudyError for what the study names and this machine does not have; what inputs.resolve has found is there.

    `roots` are the working folder and the project's, where paths of a study are looked for.
    """
    for path in grid.compared():
        if not Path(path).is_file():
            named = f"{grid.study_file}: compare_with: {grid.written['compare_with']}"
            raise StudyError(f"{named} is no results folder, no folder of several and no summary.parquet")
    _check_language(grid.study["language"], roots[1], f"{grid.study_file}: language")
    for name, experiment in grid.study["experiments"].items():
        _check_published(experiment.get("published"), roots[1], f"{grid.study_file}: experiments.{name}.published")
    _check_positions(grid)
    _check_weights_of_others(grid, roots)
    _check_figures(Path(FIGURES))


def _check_positions(grid: Grid) -> None:
    """Raise StudyError where an experiment asks a model for more tokens than it was made for, as far as a configuration is here; of the
    models that are not, each job says so of its cell."""
    for cell in {(cell.experiment, cell.model): cell for cell in grid.cells}.values():
        key, needed = _positions_asked(cell.settings)
        known = _positions_of(grid.study["models"][cell.model]) if needed else None
        if known and needed > known:
            at = f"{grid.study_file}: experiments.{cell.experiment}.{key}"
            raise StudyError(f"{at}: needs {needed:,} positions, and {cell.model!r} was made for {known:,}; ask for fewer tokens")


def _positions_asked(settings: Mapping) -> tuple[str, int]:
    """The key that decides how many positions a cell needs, and how many at least; 0 where none are. A prompt that is a text has one token
    at least, and the last token of a reply is never fed."""
    if "lengths" in settings and "prompt" not in settings and "prompt_tokens" not in settings:
        return "lengths", 0  # of one operation, without a model
    if "sequence" in settings:
        return "sequence", settings["sequence"]
    if "max_new_tokens" not in settings and "lengths" not in settings:
        return "image_size", 0
    key = "lengths" if "lengths" in settings else "max_new_tokens"
    return key, settings.get("prompt_tokens", 1) + max(settings.get("lengths") or [settings["max_new_tokens"]]) - 1


def _positions_of(model: Mapping) -> int | None:
    """The positions beyond which a model must not be asked, by its configuration or the head of its file; None where neither is here, or
    says so."""
    if "train" in model:
        return model["train"]["context"]
    if isinstance(model.get("gguf"), str):
        with suppress(OSError, gguf_header.Damaged):
            fields = gguf_header.read(Path(model["gguf"])).fields
            return families.limit(_config_of_gguf(fields))
    config = model.get("architecture") or (files.json_object(Path(model["local"]) / "config.json") if "local" in model else {})
    return families.limit(config)


def _config_of_gguf(fields: Mapping) -> dict:
    """What the head of a GGUF file says of positions, by the names of transformers."""
    kind = fields.get("general.architecture")
    of_rope = {"rope_type": "type", "factor": "factor", "original_max_position_embeddings": "original_context_length"}
    rope = {name: fields.get(f"{kind}.rope.scaling.{told}") for name, told in of_rope.items()}
    return {"max_position_embeddings": fields.get(f"{kind}.context_length"), "rope_parameters": rope}


def _check_figures(folder: Path) -> None:
    """Raise StudyError where the folder of the page's charts holds something else: the job that draws them has it emptied before."""
    checkpoints.adopt_figures(folder)
    try:
        checkpoints.check_own(folder)
    except outcomes.ModelError as error:
        raise StudyError(str(error)) from None


def _check_weights_of_others(grid: Grid, roots: tuple[Path, Path]) -> None:
    """Nothing that a job writes may take the place of weights that speedgrid did not make, nor lie in a folder of such weights."""
    made = grid.checkpoints()
    for name, model in grid.study["models"].items():
        key = next((key for key in ("local", "gguf") if isinstance(model.get(key), str)), "")
        for record in made if key else ():
            folder = _beside(record)
            at, local = f"{grid.study_file}: models.{name}.{key}", grid.written["models"][name][key]
            # Not the path as it was resolved, which no longer says what links it goes through.
            if relation := files.overlap(inputs.place(local, roots, at), Path(folder)):
                raise StudyError(f"{at}: {local} {relation} {folder}, which speedgrid writes and replaces; keep the weights outside of it")
    for record, key in made.items():
        try:
            if not Path(record).exists():
                checkpoints.check_own(Path(_beside(record)))
        except outcomes.ModelError as error:
            raise StudyError(f"{grid.study_file}: {key}: {error}") from None


def _beside(record: str) -> str:
    """The folder of weights that a record tells of."""
    return os.path.join(os.path.dirname(record), "checkpoint")


def _check_language(language: str, root: Path, at: str) -> None:
    known = ["en", *sorted(path.stem for path in (root / LANGUAGES).glob("*.yaml"))]
    if language not in known:
        raise StudyError(f"{at}: {language!r} is unknown; allowed are {', '.join(known)}, and others with a file in {LANGUAGES}/")


def _check_published(study: str | None, root: Path, at: str) -> None:
    with open(root / PUBLISHED, encoding="utf-8", newline="") as file:
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
