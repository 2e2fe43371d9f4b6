"""The plan as a document, results/plan.json: what the report's jobs read."""

import hashlib
import json
from collections.abc import Mapping

from speedgrid import standing
from speedgrid.cell import Cell, device_of
from speedgrid.planning.entities import Entities, quality_records
from speedgrid.planning.kept import Kept


def as_json(study: Mapping, written: Mapping, study_file: str, registry: Mapping, entities: Entities, kept: Kept) -> str:
    """The study in words, every cell with its files, and by record the specification of its job and the fingerprint of its code; by
    environment the hash of its file.

    `study` has its paths resolved; `written` is what it said before, as `study_file` has it.
    """
    # Part by part: as one document of Python objects, the plan of 10,000 cells took 14 times the memory of its text.
    prices = _prices(written)
    cells = (_text({**_entry(cell, registry, entities), "price_per_hour": prices.get(cell.gpu)}, 2) for cell in entities.cells)
    envs: set[str] = set()

    def specification(record: str) -> dict:
        found = json.loads(kept.specification(record))
        envs.add(standing.environment_of(found))
        return found

    records = sorted(kept.jobs)
    jobs = ",\n".join(f"{_text(record, 2)}: {_text(specification(record), 2).lstrip()}" for record in records)
    codes = _text({record: kept.code(record) for record in records}, 1).lstrip()
    recipes = _text(kept.recipes(envs), 1).lstrip()
    words = _text(_in_words(study, written, study_file, registry, entities), 1).lstrip()
    parts = ['{\n "cells": [\n', ",\n".join(cells), f'\n ],\n "codes": {codes},\n "jobs": {{\n{jobs}\n }},\n']
    return "".join([*parts, f' "recipes": {recipes},\n "study": {words}\n}}'])


def _text(value: object, depth: int) -> str:
    """A part of the document, so many levels deep in it."""
    return depth * " " + json.dumps(value, ensure_ascii=False, sort_keys=True, indent=1).replace("\n", "\n" + depth * " ")


def _in_words(study: Mapping, written: Mapping, study_file: str, registry: Mapping, entities: Entities) -> dict:
    experiments = {
        name: {key: value for key, value in entry.items() if key not in ("techniques", "models")}
        for name, entry in written["experiments"].items()
    }
    gpus = {name: device_of(name, study) for name in study["gpus"]}
    return {
        "name": study["study"],
        "title": study["title"] or study["study"],
        "language": study["language"],
        "seed": study["seed"],
        "compare_with": study.get("compare_with", ""),
        "budget_s": 60 * study["budget_minutes"],
        "study_file": study_file,
        "study_sha256": study_hash(written),
        "experiments": experiments,
        "models": written["models"],
        "gpus": gpus,
        "prices": _prices(written),
        "techniques": {name: registry[name] for name in dict.fromkeys(cell.technique for cell in entities.cells)},
    }


def study_hash(written: Mapping) -> str:
    """SHA-256 of a study with its defaults filled in, without the language of its page, prices, and where a cluster has its devices."""
    gpus = {name: device_of(name, written) for name in written["gpus"]}
    told = {key: value for key, value in {**written, "gpus": gpus}.items() if key != "language"}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _prices(written: Mapping) -> dict[str, float]:
    """The price of an hour of each device that has one."""
    return {name: entry["price_per_hour"] for name, entry in written["gpus"].items() if "price_per_hour" in entry}


def _entry(cell: Cell, registry: Mapping, entities: Entities) -> dict:
    technique = registry[cell.technique]
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
        "left_out": entities.left_out.get(cell.folder, ""),
        "checkpoint_record": cell.checkpoint_record,
        "model_record": cell.model_record,
        "sources": entities.sources(cell),
        "evaluate": json.loads(cell.job("evaluate"))["evaluate"] if cell.evaluate else None,
        **quality_records(cell),
    }
