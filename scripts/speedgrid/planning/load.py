"""Reads what a plan is made of: the study, the registry, and what is known of this machine and of earlier results.

Results, models and what a study names are in the working folder, which is the current one; code, registry and environments where this file
is.
"""

import os
from pathlib import Path
from typing import cast

from speedgrid import environments, hardware, inputs, job_shell, lock, sharpen, techniques
from speedgrid.planning import checks, choice, document
from speedgrid.planning.grid import Grid
from speedgrid.sharpen import Further
from speedgrid.snakemake_seam import Run
from speedgrid.study import MAKE_A_STUDY, has_keys_of_one, merge_registry, read, validate

ROOT = Path(__file__).resolve().parents[3]
DEFAULT_STUDY = "config.yaml"
TECHNIQUES_SCHEMA = "rules/schemas/techniques.schema.yaml"


def read_grid(study_file: str | Path, workflow=None) -> Grid:
    """Plan the study of a file, with the project's registry. Raises StudyError with one line for whoever wrote it."""
    study, registry, where = read_study(study_file)
    # In a job there is no workflow to ask, and its shell has said it.
    has_environments = Run(workflow).uses_environments if workflow else job_shell.ENVIRONMENT in os.environ
    if has_environments:
        registry = environments.note_what_lacks(registry, environments.files())
    roots = _roots()
    found, registry = inputs.resolve(study, roots, where), inputs.techniques(registry, roots, where)
    grid = Grid(found, registry, where, has_gpu(), workflow, study, _further(), uses_environments=has_environments)
    techniques.check_cells(grid.cells, found, registry, where)
    if without := choice.left_out(grid, workflow):
        grid = Grid(found, registry, where, has_gpu(), workflow, study, grid.further, without, has_environments)
    checks.check_files(grid, roots)
    return grid


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


def study_hash(study_file: str | Path) -> str:
    """The hash of what a study says, as its plan has it (planning.document). Raises StudyError."""
    return document.study_hash(read_study(study_file)[0])


def read_registry() -> dict:
    """The project's techniques. Raises StudyError."""
    return validate(read_yaml("techniques.yaml"), read_yaml(TECHNIQUES_SCHEMA), "techniques.yaml")


def read_yaml(path: str | Path) -> dict:
    """A YAML file of the project, which is a mapping. Raises StudyError where it cannot be read."""
    return cast(dict, read(ROOT / path, path))


def study_path(study_file: str | Path) -> Path:
    """Where a study file is: absolute, in the working folder or in the project's."""
    found = (Path.cwd() / study_file, ROOT / study_file)
    return next((path for path in found if path.exists()), found[0])


def default_study() -> Path:
    """The study that is meant where none is named: the config.yaml of the working folder, or the project's where there is none, or where it
    is that of another program."""
    own = Path.cwd() / DEFAULT_STUDY
    return own if Path.cwd() == ROOT or (own.is_file() and has_keys_of_one(own)) else ROOT / DEFAULT_STUDY


def passed_over() -> str:
    """A line that says so, where the working folder's config.yaml is not taken for the default study; else empty."""
    if not Path(DEFAULT_STUDY).exists() or default_study() == Path.cwd() / DEFAULT_STUDY:
        return ""
    keys = f"{', '.join(MAKE_A_STUDY[:-1])} and {MAKE_A_STUDY[-1]}"
    return (
        f"speedgrid: {DEFAULT_STUDY} in this folder is not a study (it has none of the keys {keys}), so the one that comes with speedgrid"
        " is used; --study FILE names another"
    )


def study_files() -> list[str]:
    """The default study, and those of `studies/` in the working folder and in the project's."""
    roots = dict.fromkeys((Path.cwd(), ROOT))
    found = dict.fromkeys(str(path.relative_to(root)) for root in roots for path in sorted(root.glob("studies/*.y*ml")))
    return [DEFAULT_STUDY, *found]


def has_gpu() -> bool:
    """Whether `device: auto` is a GPU: one is here, or jobs are sent to where one is (the launcher then sets SPEEDGRID_TORCH)."""
    return os.environ.get("SPEEDGRID_TORCH") == "cuda" or bool(hardware.gpus())


def _further() -> Further:
    """The further runs that `runs: auto` wants by now, with those that this run adds (`./speedgrid run --sharpen`)."""
    found = Further.read(Path(sharpen.FILE))
    return found.sharpened() if os.environ.get(sharpen.VARIABLE) else found


def _roots() -> tuple[Path, Path]:
    """Where paths of a study are looked for: the working folder, then the project's."""
    return Path.cwd(), ROOT
