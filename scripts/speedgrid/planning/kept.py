"""The results of a plan that are there: which of them stand (standing.py), and which cells have something left to do."""

import json
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from speedgrid import checkpoints, environments, records, standing
from speedgrid.cell import Cell, model_record
from speedgrid.planning.entities import Entities, quality_records
from speedgrid.planning.stages import Stage
from speedgrid.schema import CHECKPOINT, MODEL

# What of a job's inputs its record says that it was made from (stage.py), and what is another one by now where that is another.
SOURCES = {"checkpoint": standing.WEIGHTS, "asked": standing.WEIGHTS, "answers": standing.ANSWERS, "requests": standing.WEIGHTS}


@dataclass(frozen=True, slots=True)
class Named:
    """The wildcards of a job's output, as a stage is asked by Snakemake."""

    gpu: str = ""
    experiment: str = ""
    model: str = ""
    technique: str = ""
    dtype: str = ""
    run: int = 1

    def get(self, name: str, default: object = None) -> object:
        return getattr(self, name, default)


class Yet(NamedTuple):
    """What a cell has yet to do: whether it begins, with its checkpoint and its cold start; how many runs; whether its quality is told."""

    begins: bool
    runs: int
    is_told: bool


class Kept:
    """The specification, code and environment that each job of a plan would have, by its record, and which of the records that are there
    stand."""

    def __init__(self, stages: Mapping[str, Stage], entities: Entities, uses_environments: bool):
        """`stages` are those of every rule (planning.stages), `uses_environments` whether jobs have environments of their own."""
        self._stages, self._entities, self._uses_environments = stages, entities, uses_environments
        self._changed: dict[str, list[str] | None] = {}
        self._recipes: dict[str, str] = {}
        self._identities: dict[str, str] = {}
        self._facts: dict[str, dict] = {}

    @cached_property
    def jobs(self) -> dict[str, tuple[Stage, Named]]:
        """The stage and the wildcards of every job, by the record that it writes."""
        return {record: (self._stages[rule], wildcards) for record, rule, wildcards in _jobs(self._entities)}

    def specification(self, record: str) -> str:
        """The specification of the job that writes a record, as JSON."""
        stage, wildcards = self.jobs[record]
        return stage.specification(wildcards)

    def code(self, record: str) -> str:
        """The fingerprint of the code of the job that writes a record."""
        stage, wildcards = self.jobs[record]
        return stage.code(wildcards)

    def recipes(self, envs: Collection[str]) -> dict[str, str]:
        """The hashes of environment files by their names; nothing where jobs run in the user's own Python."""
        return {env: self._recipe(env) for env in sorted(envs)} if self._uses_environments else {}

    def _recipe(self, env: str) -> str:
        if env not in self._recipes:
            recipe = environments.files().get(env) if self._uses_environments else None
            self._recipes[env] = environments.recipe_hash(recipe) if recipe else ""
        return self._recipes[env]

    def changed(self, record: str) -> list[str] | None:
        """What of a record is no longer as it would be made (standing.changed), nothing for one that stands. None where it is not there, is
        none of this plan, or does not say, so that nothing can be told of it."""
        if record not in self._changed:
            self._changed[record] = self._look(record)
        return self._changed[record]

    def _look(self, record: str) -> list[str] | None:
        if record not in self.jobs or not Path(record).is_file():
            return None
        try:
            facts = self._facts_of(record)
        except ImportError:  # a Snakemake of the user's own, without pyarrow
            return None
        if not facts.get("job"):
            return None
        text = self.specification(record)
        job = json.loads(text)
        wanted = standing.Wanted(job, self.code(record), self._recipe(standing.environment_of(job)))
        # As a rule the texts are the same, and no key need be looked at.
        found = standing.made_by_older(facts, wanted) if facts["job"] == text else standing.changed(facts, wanted)
        if not found:
            found = self._made_from_others(record, facts)
        found = found or [standing.WEIGHTS] * checkpoints.replaced(Path(record), facts)
        return found or [standing.ORDER] * any(standing.is_out_of_order(facts, self._facts_of(before)) for before in self._before(record))

    def _facts_of(self, record: str) -> dict:
        if record not in self._facts:
            self._facts[record] = records.facts_of(record)
        return self._facts[record]

    def _before(self, record: str) -> list[str]:
        """The records that the job of this one comes after, although it reads nothing of them."""
        stage, wildcards = self.jobs[record]
        beside = stage.inputs["beside"](wildcards) if "beside" in stage.inputs else []
        return [str(Path(record).with_name(stage.after)), *beside] if stage.after else []

    def _made_from_others(self, record: str, facts: Mapping) -> list[str]:
        """ANSWERS or WEIGHTS, where a record that a job would start from today is not the one that its record was made from, as the report
        holds it (report/collect.py)."""
        stage, wildcards = self.jobs[record]
        for name, kind in SOURCES.items():
            asked = stage.inputs[name](wildcards) if name in stage.inputs else []
            for source in [asked] if isinstance(asked, str) else asked:
                if standing.is_of_another(facts, source, self._identity(source)):
                    return [kind]
        return []

    def _identity(self, record: str) -> str:
        """What a record is to the jobs that start from it (records.Record.identity); empty where it is not there, and where it has none."""
        if record not in self._identities:
            is_model = record == model_record(Path(record).parent.name)
            if is_model or Path(record).name == "quantize.parquet":
                row = records.first_row(record, MODEL if is_model else CHECKPOINT)
                self._identities[record] = row.get("checkpoint_sha256") or ""
            else:
                self._identities[record] = records.seal_of(record)
        return self._identities[record]

    def stands(self, record: str) -> bool:
        """Whether a record is there and would be made as it is today, as far as it says."""
        return Path(record).is_file() and not self.changed(record)

    def left_of(self, cell: Cell, is_to_be_made: Callable[[str], bool], is_planned: bool = False) -> Yet:
        """What is left of a cell: what has a record that is to be made, or one that is made from such a record. Where that `is_planned`, a
        run of some targets may make the latter and not the former, and those that are to be made are all."""
        if is_planned:
            evaluates = is_to_be_made(f"{cell.folder}/evaluate.parquet")
            return Yet(is_to_be_made(f"{cell.folder}/warmup.parquet"), sum(map(is_to_be_made, cell.measures)), evaluates)
        starts = dict.fromkeys((cell.model_record, *self._entities.sources(cell), cell.checkpoint_record, f"{cell.folder}/warmup.parquet"))
        shared = quality_records(cell)
        quality = [shared["requests"], shared["reference"], f"{cell.folder}/evaluate.parquet"] if cell.evaluate else []
        is_new = any(map(is_to_be_made, starts))
        is_told = bool(quality) and (is_new or any(map(is_to_be_made, filter(None, quality))))
        return Yet(is_new, len(cell.measures) if is_new else sum(map(is_to_be_made, cell.measures)), is_told)


def _jobs(entities: Entities) -> Iterator[tuple[str, str, Named]]:
    """Record, rule and wildcards of every job of a plan that leaves a record."""
    for name in dict.fromkeys(cell.model for cell in entities.cells):
        yield model_record(name), "prepare_model", Named(model=name)
    for record, maker in entities.makers.items():
        yield record, "quantize", Named(model=maker.model, technique=maker.made_by, dtype=maker.options["dtype"])
    for gpu in dict.fromkeys(cell.gpu for cell in entities.cells):
        yield f"results/{gpu}/probe.parquet", "probe", Named(gpu=gpu)
    for record, cell in entities.references.items():
        yield record, "reference", Named(cell.gpu, cell.experiment, cell.model)
    for group in entities.evaluated.values():
        first, quality = group[0], quality_records(group[0])
        if quality["requests"]:
            yield quality["requests"], "requests", Named(experiment=first.experiment)
        if quality["score"]:
            yield quality["score"], "score", Named(first.gpu, first.experiment, first.model)
    for cell in entities.cells:
        named = Named(*cell.key)
        yield f"{cell.folder}/warmup.parquet", "warmup", named
        for run, path in enumerate(cell.measures, 1):
            yield path, "measure" if run == 1 else "measure_again", named if run == 1 else Named(*cell.key, run=run)
        if cell.evaluate:
            yield f"{cell.folder}/evaluate.parquet", "evaluate", named
