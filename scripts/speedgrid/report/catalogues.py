"""Reads the catalogues of the languages that results can be told in: a file each in report/languages of the project (language.py)."""

from collections.abc import Mapping
from pathlib import Path

import yaml

from speedgrid.report.language import ENGLISH, Catalogue

FOLDER = Path(__file__).resolve().parents[3] / "report" / "languages"


def read_all() -> dict[str, Catalogue]:
    """Every language beside English, by its code."""
    return {path.stem: _read(path) for path in sorted(FOLDER.glob("*.yaml"))}


def of_study(study: Mapping) -> Catalogue:
    """The language of a study, as plan.json has it; English where it names none, or one that has no file any more."""
    path = FOLDER / f"{study.get('language', ENGLISH.code)}.yaml"
    return _read(path) if path.is_file() and path.parent == FOLDER else ENGLISH


def _read(path: Path) -> Catalogue:
    return Catalogue.of(path.stem, yaml.safe_load(path.read_text(encoding="utf-8")))
