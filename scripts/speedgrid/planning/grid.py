"""The planned grid of a study, as rules and scripts ask for it: its cells, the files of all of them, and an object for each kind of job."""

import filecmp
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

from speedgrid import files, job_shell, places, records
from speedgrid.grid import plan
from speedgrid.planning import document
from speedgrid.planning.entities import Entities, quality_records
from speedgrid.planning.kept import Kept
from speedgrid.planning.order import Order
from speedgrid.planning.place import Place
from speedgrid.planning.stages import STAGES, Stage
from speedgrid.sharpen import Further
from speedgrid.snakemake_seam import Run

NO_FURTHER = Further()


class Grid:
    """The planned cells of a study; `workflow` is Snakemake's, where it asks."""

    def __init__(
        self,
        study: Mapping,
        registry: Mapping,
        study_file: str,
        has_gpu: bool = False,
        workflow=None,
        written: Mapping | None = None,
        further: Further = NO_FURTHER,
        left_out: Mapping[str, str] = MappingProxyType({}),
        uses_environments: bool = False,
    ):
        """`study` has its paths resolved (inputs.resolve); `written` is what it said before; `further` the runs that `runs: auto` wants;
        `left_out` the cells that this run does without, by folder, with the reason: they are in the document alone.
        `uses_environments` whether jobs have environments of their own."""
        self.study, self.registry, self.study_file, self._run = study, registry, study_file, Run(workflow)
        self.written = written or study
        self.further = further
        # As far as is known: without a run to ask they do, as by default.
        self.makes_environments = uses_environments or workflow is None
        cells = plan(study, registry, study_file, has_gpu, further.wanted)
        self.left_out = {cell.folder: left_out[cell.folder] for cell in cells if cell.folder in left_out}
        self.cells = [cell for cell in cells if cell.folder not in self.left_out]
        self.entities = Entities(cells, study, registry, has_gpu, self.left_out)
        self.place = Place(self.cells, study, self._run)
        self.order = Order(self.cells, self.place, self._run)
        self.kept = Kept({rule: self.stage(rule) for rule in STAGES}, self.entities, uses_environments)

    def stage(self, rule: str) -> Stage:
        """What a rule asks about its jobs."""
        return STAGES[rule](self.study, self.entities, self.place, self.order)

    def pattern(self, axis: str) -> str:
        """A regular expression of every name that a wildcard may be, those of techniques included that only make checkpoints for others."""
        names = {getattr(cell, axis) for cell in self.cells}
        if axis == "technique":
            names |= {maker.made_by for maker in self.entities.makers.values()}
        return "|".join(sorted(map(re.escape, names)))

    def records(self) -> list[str]:
        """Every result file of every cell, and of what the cells start from."""
        files = [file for cell in self.cells for file in (f"{cell.folder}/warmup.parquet", *cell.measures)]
        files += [f"{cell.folder}/evaluate.parquet" for cell in self.cells if cell.evaluate]
        files += sorted({record for cell in self.cells for record in quality_records(cell).values() if record})
        files += sorted({record for cell in self.cells for record in self.entities.sources(cell)})
        return files + sorted({record for cell in self.cells for record in (cell.model_record, cell.checkpoint_record)})

    def checkpoints(self) -> dict[str, str]:
        """The record of every checkpoint that is prepared or made, with the key of the study that asks for it."""
        models = {cell.model_record: f"models.{cell.model}" for cell in self.cells}
        return models | {record: f"techniques.{maker.made_by}" for record, maker in self.entities.makers.items()}

    def failures(self) -> list[str]:
        """The result files that hold a failure which nobody expected: each is the same as its twin (records.failed)."""
        twins = ((path, records.failed(path)) for path in (*self.probes(), *self.records()))
        return [path for path, twin in twins if twin.exists() and Path(path).exists() and filecmp.cmp(path, twin, shallow=False)]

    def downloaded(self) -> list[str]:
        """The records of what a study downloads: its models, with what calibrates them, and the items of its tasks."""
        asked = {quality_records(cell)["requests"] for cell in self.cells} - {""}
        return sorted({cell.model_record for cell in self.cells} | asked)

    def probes(self) -> list[str]:
        """What each device that has cells can do."""
        return [f"results/{gpu}/probe.parquet" for gpu in self.place.gpus]

    @staticmethod
    def tables() -> list[str]:
        """What the report's own jobs write beside the page."""
        return [f"results/{name}.parquet" for name in ("summary", "points", "runs")]

    def scores(self) -> list[str]:
        """The scores of every group that has some."""
        return list(dict.fromkeys(filter(None, (quality_records(cell)["score"] for cell in self.cells))))

    def measures(self) -> list[str]:
        """The raw replies of every cell."""
        return [f"{cell.folder}/measure.parquet" for cell in self.cells]

    def compared(self) -> list[str]:
        """The summaries of the results that the report compares these with, where the study asks for that."""
        if "compare_with" not in self.study:
            return []
        return [str(files.summary_of(path) or path) for path in files.several(Path(self.study["compare_with"]))]

    def compared_state(self, wildcards) -> list:
        """What those files hold; no inputs, whose braces Snakemake would take for wildcards."""
        return [files.told(files.state(Path(path))) for path in self.compared()]

    def to_make(self) -> Callable[[str], bool]:
        """Whether a record is to be made, for the first time or anew: as Snakemake has planned; before it has, where it does not stand."""
        planned = self._run.files_to_make
        if planned is not None:
            return planned.__contains__
        return lambda record: self._run.is_forced or not self.kept.stands(record)

    @property
    def is_planned(self) -> bool:
        """Whether Snakemake has planned, so that what is to be made is all that this run makes."""
        return self._run.files_to_make is not None

    @property
    def comes_to_report(self) -> bool:
        """Whether the run is to end in the page, as far as is known, and not to make some targets alone."""
        return not self.is_planned or self._run.comes_to("report")

    @property
    def prepares(self) -> bool:
        """Whether the run is to download what a study needs (the rule `prepare`)."""
        return self.is_planned and self._run.comes_to("prepare")

    def study_path(self, wildcards) -> str:
        """The study file, likewise."""
        return self.study_file

    def job_variables(self) -> dict[str, str]:
        """Environment variables for the frame of every job (stage.py)."""
        limits = job_shell.limits(self.study["time_budget_s"], self._run.gpu_jobs, self._run.makes)
        return limits | places.variables(self.study.get("places", {}))

    def as_json(self) -> str:
        """The plan as the report's jobs read it."""
        return document.as_json(self.study, self.written, self.study_file, self.registry, self.entities, self.kept)
