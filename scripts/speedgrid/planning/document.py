"""The plan as a document, results/plan.json: what the report's jobs read. Pure."""

import hashlib
import json
from collections.abc import Mapping

from speedgrid.cell import Cell, device_of, model_job, probe_job, requests_job, score_job
from speedgrid.planning.entities import Entities, quality_records, score_env


def as_json(study: Mapping, written: Mapping, study_file: str, registry: Mapping, entities: Entities) -> str:
    """The study in words, every cell with its files, and by record the specification of its job.

    `study` has its paths resolved; `written` is what it said before, as `study_file` has it.
    """
    # Part by part: as one document of Python objects, the plan of 10,000 cells took 14 times the memory of its text.
    prices = _prices(written)
    cells = (_text({**_entry(cell, registry, entities), "price_per_hour": prices.get(cell.gpu)}, 2) for cell in entities.cells)
    jobs = (f"{_text(record, 2)}: {_text(json.loads(job), 2).lstrip()}" for record, job in sorted(_told(study, entities).items()))
    words = _text(_in_words(study, written, study_file, registry, entities), 1).lstrip()
    return "".join(['{\n "cells": [\n', ",\n".join(cells), '\n ],\n "jobs": {\n', ",\n".join(jobs), f'\n }},\n "study": {words}\n}}'])


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
        "study_sha256": _hash({**written, "gpus": gpus}),
        "experiments": experiments,
        "models": written["models"],
        "gpus": gpus,
        "prices": _prices(written),
        "techniques": {name: registry[name] for name in dict.fromkeys(cell.technique for cell in entities.cells)},
    }


def _hash(written: Mapping) -> str:
    """SHA-256 of a study with its defaults filled in, without the language of its page."""
    told = {key: value for key, value in written.items() if key != "language"}
    return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()


def _prices(written: Mapping) -> dict[str, float]:
    """The price of an hour of each device that has one."""
    return {name: entry["price_per_hour"] for name, entry in written["gpus"].items() if "price_per_hour" in entry}


def _told(study: Mapping, entities: Entities) -> dict[str, str]:
    """The specification of every job, by the file that it writes."""
    jobs = {cell.model_record: model_job(cell.model, study) for cell in entities.cells}
    jobs |= {record: maker.job("quantize") for record, maker in entities.makers.items()}
    jobs |= {f"results/{gpu}/probe.parquet": probe_job(gpu, study) for gpu in dict.fromkeys(cell.gpu for cell in entities.cells)}
    jobs |= {record: cell.job("reference") for record, cell in entities.references.items()}
    for group in entities.evaluated.values():
        quality = quality_records(group[0])
        if quality["requests"]:
            jobs[quality["requests"]] = requests_job(group[0].experiment, study)
        if quality["score"]:
            jobs[quality["score"]] = score_job(group, score_env(group), study)
    for cell in entities.cells:
        jobs[f"{cell.folder}/warmup.parquet"] = cell.job("warmup")
        jobs |= {path: cell.job("measure", run) for run, path in enumerate(cell.measures, 1)}
        if cell.evaluate:
            jobs[f"{cell.folder}/evaluate.parquet"] = cell.job("evaluate")
    return jobs


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
