"""One object for each kind of job. It answers what the job's rule asks: `env`, `threads`, `resources`, `priority`, `inputs` and `params`.

Every answer but those that are the same for all jobs is a function of the wildcards of a job's output, as Snakemake calls it.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from speedgrid import fingerprint, resources, source_code
from speedgrid.cell import Cell, checkpoint_record, model_job, model_record, probe_job, requests_job, score_job
from speedgrid.jobtext import handed
from speedgrid.planning.entities import Entities, score_env
from speedgrid.planning.order import Order
from speedgrid.planning.place import Place, by_name
from speedgrid.snakemake_seam import looked_up_once
from speedgrid.workload import WORKLOADS


@dataclass(frozen=True)
class Cut:
    """A function that some jobs of a cell never call although their code holds a call: its module and name, which jobs, and why.

    A wrong one lets old figures survive an edit. tests/unit/test_fingerprint.py holds that each is still needed and that no other code of
    such a job can call the function, tests/workflow/test_reached_code.py that real jobs do not.
    """

    module: str
    function: str
    holds: Callable[[str, Cell], bool]
    why: str


CUTS = (
    Cut("ceilings", "measured_facts", lambda script, cell: script == "warmup", "Work.facts calls it, which a warm-up does not"),
    Cut("workloads.causality", "check", lambda script, cell: script == "measure", "Work.look calls it, which only a warm-up does"),
    Cut(
        "stats",
        "stop",
        lambda script, cell: script == "measure" and isinstance(cell.settings["replies"], int),
        "the study says how many replies, so that no rule ends them",
    ),
    Cut(
        "meters",
        "within",
        lambda script, cell: script == "measure" and not WORKLOADS[cell.workload].has_sizes,
        "only a workload of several sizes runs until memory ends, and so under a limit",
    ),
)


class Stage(ABC):
    """The jobs of one kind: those that a script of scripts/ does. A stage gives their specification and says where they run."""

    script: str
    # The record beside its own that a job comes after, as its rule has it; empty where there is none.
    after = ""

    def __init__(self, study: Mapping, entities: Entities, place: Place, order: Order):
        self.study, self.entities, self.place, self.order = study, entities, place, order

    @property
    def inputs(self) -> dict[str, Callable]:
        """The files that a job starts from, where they depend on more than its own wildcards."""
        return {}

    @property
    def params(self) -> dict[str, Callable]:
        """What else makes its result: the fingerprint of the code that it depends on, and its specification, as its command line has it.

        As inputs the files of the code, two dozen for each job, were a fifth of the work of planning a large grid.
        """
        return {"code": self.code, "job": self.job}

    @looked_up_once
    def code(self, wildcards) -> str:
        return fingerprint.of(self.script)

    @looked_up_once
    def job(self, wildcards) -> str:
        return handed(self.specification(wildcards))

    @looked_up_once
    def priority(self, wildcards) -> float:
        """Its place in the order of jobs: those of a higher number begin first. What needs no quiet machine has 0, as in Snakemake."""
        return 0

    @abstractmethod
    def specification(self, wildcards) -> str:
        """The specification of a job, as JSON."""


class PrepareModel(Stage):
    """Train, build, find or download a model."""

    script = "prepare_model"

    def specification(self, wildcards) -> str:
        return model_job(wildcards.model, self.study)

    @looked_up_once
    def threads(self, wildcards) -> int:
        # A function of the job, because Snakemake knows its executor only after it has read the rules.
        return self.place.cores

    @looked_up_once
    def priority(self, wildcards) -> float:
        return self.order.model(self.entities.loads[model_record(wildcards.model)])

    @property
    def resources(self) -> dict[str, Callable]:
        return by_name(list(resources.PREPARE), lambda wildcards: resources.PREPARE)


class Probe(Stage):
    """What a device can do."""

    script = "probe"

    def specification(self, wildcards) -> str:
        return probe_job(wildcards.gpu, self.study)

    @looked_up_once
    def threads(self, wildcards) -> int:
        return self.place.threads(self.place.on_gpu(wildcards.gpu))

    @looked_up_once
    def priority(self, wildcards) -> float:
        return self.order.device(self.entities.on_device[wildcards.gpu])

    @property
    def resources(self) -> dict[str, Callable]:
        return self.place.answers(lambda wildcards: self.place.of_probe(wildcards.gpu))


class OnDevice(Stage):
    """The jobs that load a checkpoint on the device of a cell, in the environment of its technique."""

    def cell(self, wildcards) -> Cell:
        """The cell that a job is about."""
        return self.entities.cell(wildcards)

    def specification(self, wildcards) -> str:
        return self.cell(wildcards).job(self.script)

    @property
    def inputs(self) -> dict[str, Callable]:
        return {"checkpoint": self.checkpoint}

    @looked_up_once
    def checkpoint(self, wildcards) -> str:
        """The record of the checkpoint that a job loads."""
        return self.cell(wildcards).checkpoint_record

    @looked_up_once
    def env(self, wildcards) -> str:
        """The environment file, as a rule's `conda:` wants it: relative to the rule's own file."""
        return f"../envs/{self.cell(wildcards).env}.yaml"

    @looked_up_once
    def threads(self, wildcards) -> int:
        return self.place.threads(self.cell(wildcards).on_gpu)

    @property
    def resources(self) -> dict[str, Callable]:
        return self.place.answers(lambda wildcards: self.place.of_cell(self.cell(wildcards)))

    @looked_up_once
    def priority(self, wildcards) -> float:
        return self.order.priority(self.cell(wildcards))

    @looked_up_once
    def code(self, wildcards) -> str:
        return fingerprint.of(self.script, *code_asked_for(self.script, self.cell(wildcards)))


class Quantize(OnDevice):
    """Make the checkpoint of a technique that has a transform."""

    script = "quantize"

    def cell(self, wildcards) -> Cell:
        return self.entities.maker(wildcards)

    @looked_up_once
    def checkpoint(self, wildcards) -> str:
        """The record of the checkpoint that a transform starts from: the model's own, or that of another technique."""
        maker = self.cell(wildcards)
        return checkpoint_record(maker.model, maker.source, wildcards.dtype) if maker.source else maker.model_record

    @looked_up_once
    def threads(self, wildcards) -> int:
        return self.place.threads_of_make(self.cell(wildcards))

    @property
    def resources(self) -> dict[str, Callable]:
        return self.place.answers(lambda wildcards: self.place.of_make(self.cell(wildcards)), "makes")

    @looked_up_once
    def priority(self, wildcards) -> float:
        return self.order.before(self.entities.loads[self.cell(wildcards).checkpoint_record])

    @looked_up_once
    def code(self, wildcards) -> str:
        return fingerprint.of(self.script, (("transforms", self.cell(wildcards).transform["method"]),))


class Warmup(OnDevice):
    """Cold start of a cell."""

    script = "warmup"


class Measure(OnDevice):
    """A run of a cell: its first, or the one that the wildcards name."""

    script = "measure"
    after = "warmup.parquet"

    def specification(self, wildcards) -> str:
        return self.cell(wildcards).job(self.script, int(wildcards.get("run", 1)))

    @looked_up_once
    def priority(self, wildcards) -> float:
        return self.order.after_warmup(self.cell(wildcards))


class MeasureAgain(Measure):
    """A later run of a cell."""

    after = "measure.parquet"

    @property
    def inputs(self) -> dict[str, Callable]:
        return super().inputs | {"beside": self.beside}

    @looked_up_once
    def beside(self, wildcards) -> list[str]:
        """The runs that this one comes after, besides the cell's first."""
        return self.order.beside(self.cell(wildcards), int(wildcards.run))

    @looked_up_once
    def priority(self, wildcards) -> float:
        return self.order.priority(self.cell(wildcards), int(wildcards.run))


class Evaluate(OnDevice):
    """What a technique makes of held-out text and of the requests of tasks."""

    script = "evaluate_quality"
    after = "warmup.parquet"

    def specification(self, wildcards) -> str:
        return self.cell(wildcards).job("evaluate")

    @property
    def inputs(self) -> dict[str, Callable]:
        return super().inputs | {"asked": self.asked}

    @looked_up_once
    def asked(self, wildcards) -> list[str]:
        """What a cell is asked besides its text: the requests of tasks, and the reference."""
        cell = self.cell(wildcards)
        return [cell.requests_record] * cell.asks_tasks + [cell.reference_record] * cell.has_reference

    @looked_up_once
    def priority(self, wildcards) -> float:
        return self.order.last(self.cell(wildcards))


class Reference(OnDevice):
    """What the unmodified model expects next."""

    script = "reference"

    def cell(self, wildcards) -> Cell:
        return self.entities.reference(wildcards)

    @looked_up_once
    def priority(self, wildcards) -> float:
        return self.order.last(self.entities.group(wildcards)[0])

    @looked_up_once
    def code(self, wildcards) -> str:
        return fingerprint.of(self.script, (("engines", self.cell(wildcards).engine),))


class Requests(Stage):
    """What the tasks of an experiment ask."""

    script = "build_requests"

    def specification(self, wildcards) -> str:
        return requests_job(wildcards.experiment, self.study)


class Score(Stage):
    """The scores of the techniques of a group."""

    script = "score"

    def specification(self, wildcards) -> str:
        group = self.entities.group(wildcards)
        return score_job(group, score_env(group), self.study)

    @property
    def inputs(self) -> dict[str, Callable]:
        return {"answers": self.answers, "requests": self.requests}

    @looked_up_once
    def answers(self, wildcards) -> list[str]:
        """What the techniques of a group answered."""
        return [f"{cell.folder}/evaluate.parquet" for cell in self.entities.group(wildcards)]

    @looked_up_once
    def requests(self, wildcards) -> list[str]:
        """The requests of the tasks of a group, where it has some."""
        first = self.entities.group(wildcards)[0]
        return [first.requests_record] * first.asks_tasks

    @looked_up_once
    def env(self, wildcards) -> str:
        return f"../envs/{score_env(self.entities.group(wildcards))}.yaml"


# By the name of the rule.
STAGES: dict[str, type[Stage]] = {
    "prepare_model": PrepareModel,
    "probe": Probe,
    "quantize": Quantize,
    "warmup": Warmup,
    "measure": Measure,
    "measure_again": MeasureAgain,
    "evaluate": Evaluate,
    "reference": Reference,
    "requests": Requests,
    "score": Score,
}


def code_asked_for(script: str, cell: Cell) -> tuple[tuple[source_code.Reference, ...], tuple[source_code.Reference, ...]]:
    """Of the jobs of a cell: the modules that they import by name, and the functions that they never call (fingerprint.of)."""
    cut = tuple((one.module, one.function) for one in CUTS if one.holds(script, cell))
    return (("engines", cell.engine), ("workloads", cell.workload)), cut
