"""What there is to run: the workloads, the engines that each takes, and the keys of an experiment that are its own. Pure data.

A key that only some workloads have is declared here once; its form is in rules/schemas/study.schema.yaml.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any, cast

from speedgrid.specification import Settings

REQUIRED = object()

# Number format of the weights under each precision; autocast leaves them in float32.
WEIGHTS_IN = {"fp32": "float32", "tf32": "float32", "fp16_scaler": "float32", "bf16_autocast": "float32", "bf16_pure": "bfloat16"}


@dataclass(frozen=True)
class Workload:
    """A workload: the engines whose techniques it takes, and its own keys of an experiment with their defaults (REQUIRED where the study
    must say). `of` are the kinds of input, of which a study names exactly one where there are several.

    Where no engine is named, it takes all those that generate: the ones that no other workload names.
    """

    engines: tuple[str, ...]
    keys: Mapping[str, Any] = field(default_factory=dict)
    of: tuple[str, ...] = ()
    # Keys that every experiment has, by the defaults of the schema, and that mean something here.
    shared: tuple[str, ...] = ()
    # Origins of models that it takes; where none is named, those with weights.
    only_models: tuple[str, ...] = ()
    # What tells whether a technique changes the result: it is "evaluated" on held-out text and tasks, by the training "loss", or against
    # "float64"; empty where nothing tells.
    quality: str = ""
    # Whether its figures are those of replies of one length: tokens a second, time to the first one, ceilings, when it pays. Any other
    # workload has items a second and, where it runs at several sizes, figures of each.
    is_of_replies: bool = False
    # Whether its runs are training steps, and whether it is asked for the largest size that fits and not for a speed.
    trains: bool = False
    seeks_largest: bool = False
    # What one of its runs is called.
    noun: str = "pass"

    @property
    def has_sizes(self) -> bool:
        """Whether it runs at one size after another, under a limit of memory."""
        return bool({"lengths", "grows"} & set(self.keys))


TRAINING = {
    "precision": "fp32",
    "optimizer": "adamw",
    "learning_rate": 1e-4,
    "clip_norm": 1.0,
    "deterministic": True,
}
PROMPT = ("prompt", "prompt_tokens", "sampling")
# The keys of an experiment that every specification has.
COUNTING = ("replies", "warmup_replies", "repeat_disturbed", "quiet_wait_s", "batch_size")
# What a warm-up does not need of it.
AFTER_WARMUP = ("replies", "warmup_replies", "repeat_disturbed", "quiet_wait_s")
WORKLOADS = {
    "generate": Workload((), shared=(*PROMPT, "max_new_tokens", "ignore_eos"), quality="evaluated", is_of_replies=True, noun="reply"),
    "growth": Workload((), {"lengths": REQUIRED}, shared=PROMPT, noun="reply"),
    "train": Workload(
        ("pytorch",), {**TRAINING, "data": "random"}, of=("image_size", "sequence"), quality="loss", trains=True, noun="step"
    ),
    "largest": Workload(
        ("pytorch",),
        {**TRAINING, "data": "random", "grows": "batch_size", "memory_budget": None},
        of=("image_size", "sequence"),
        quality="loss",
        trains=True,
        seeks_largest=True,
        noun="step",
    ),
    "forward": Workload(("pytorch",), {"precision": "fp32", "deterministic": False}, of=("image_size", "sequence")),
    "attention": Workload(
        ("attention",),
        {"lengths": REQUIRED, "causal": False, "backward": False, "deterministic": False},
        only_models=("attention",),
        quality="float64",
    ),
}
# That of an experiment that names none.
DEFAULT = "generate"
# What its runs are called.
PLURALS = {"reply": "replies", "step": "steps", "pass": "passes"}
# The workloads whose experiments have a prompt.
PROMPTED = [name for name, workload in WORKLOADS.items() if "prompt" in workload.shared]
# Every key that belongs to some workloads and not to others, with the workloads that have it.
OWNED = {
    key: [name for name, workload in WORKLOADS.items() if key in workload.keys or key in workload.of]
    for key in dict.fromkeys(key for workload in WORKLOADS.values() for key in (*workload.keys, *workload.of))
}


def of_engine(engine: str) -> str:
    """The workloads that take techniques of an engine, in words."""
    return " and ".join(name for name in WORKLOADS if takes(name, engine))


def takes(name: str, engine: str) -> bool:
    """Whether the workload `name` takes techniques of an engine."""
    named = WORKLOADS[name].engines
    return engine in named if named else all(engine not in workload.engines for workload in WORKLOADS.values())


def problem(experiment: Mapping, name: str) -> str:
    """What is wrong with the keys of an experiment of the workload `name`, as `key: reason`; empty where nothing is."""
    workload = WORKLOADS[name]
    for key, owners in OWNED.items():
        if key in experiment and name not in owners:
            return f"{key}: belongs to the workload {' and '.join(owners)}; this one is {name}"
    for key, default in workload.keys.items():
        if default is REQUIRED and key not in experiment:
            return f"{key}: the workload {name} needs it"
    given = [key for key in workload.of if key in experiment]
    if name == "largest" and _grows(experiment) != "batch_size" and "image_size" in experiment:
        return f"grows: `{_grows(experiment)}` is for language models; this experiment has `image_size`"
    if workload.of and len(given) != 1:
        has = " and ".join(given) if given else "neither"
        return f"{workload.of[0]}: the workload {name} needs exactly one of {' and '.join(workload.of)}; it has {has}"
    for key in ("prompt", "prompt_tokens"):
        if key in experiment and name not in PROMPTED:
            return f"{key}: belongs to the workload {' and '.join(PROMPTED)}; this one is {name}"
    lengths = experiment.get("lengths", ())
    for shorter, longer in pairwise(lengths):
        if longer <= shorter:
            return f"lengths: {longer} does not come after {shorter}; each must be larger than the one before"
    return ""


def _grows(experiment: Mapping) -> str:
    return experiment.get("grows", WORKLOADS["largest"].keys["grows"])


def settings(experiment: Mapping, name: str) -> Settings:
    """The settings in the specification of jobs that measure, the defaults of the workload filled in."""
    workload = WORKLOADS[name]
    found = {key: experiment[key] for key in COUNTING}
    found |= {key: experiment[key] for key in workload.shared if key in experiment}
    found |= {key: experiment.get(key, default) for key, default in workload.keys.items() if key != "precision"}
    found |= {key: experiment[key] for key in workload.of if key in experiment}
    return cast(Settings, found)


def used(experiment: Mapping) -> dict:
    """The keys of an experiment that its workload uses."""
    workload = WORKLOADS[experiment.get("workload", DEFAULT)]
    unused = {key for other in WORKLOADS.values() for key in other.shared} - set(workload.shared)
    unused |= set() if workload.quality == "evaluated" else {"evaluate"}
    unused |= {"dtype"} if "precision" in workload.keys else set()
    return {key: value for key, value in experiment.items() if key not in unused}


def warmup_settings(measured: Settings) -> Settings:
    """The settings of a measurement that the specification of a warm-up has."""
    return cast(Settings, {key: value for key, value in measured.items() if key not in AFTER_WARMUP})


def options(experiment: Mapping, name: str, told: Mapping) -> dict:
    """The options of a technique under an experiment: what the technique leaves out is the experiment's."""
    if "precision" not in WORKLOADS[name].keys:
        return {"dtype": experiment["dtype"], **told}
    precision = told.get("precision", experiment.get("precision", WORKLOADS[name].keys["precision"]))
    return {**told, "precision": precision, "dtype": WEIGHTS_IN[precision]}


def technique_problem(experiment: Mapping, name: str, options_: Mapping) -> str:
    """Why a technique of the right engine cannot do what the experiment asks for; empty where it can."""
    parts, batch = options_.get("accumulate", 1), experiment["batch_size"]
    keeps_batch = name == "train" or (name == "largest" and _grows(experiment) != "batch_size")
    if keeps_batch and batch % parts:
        return f"accumulates over {parts} parts, which do not divide batch_size, {batch}"
    if name == "largest" and _grows(experiment) == "layers" and options_.get("adapter") == "qlora":
        return "has the option `adapter: qlora`, whose four bits are those of a checkpoint, and a model that grows by layers has none"
    if name == "forward":
        for key in ("accumulate", "checkpointing", "adapter", "optimizer"):
            if key in options_:
                return f"has the option `{key}`, which is one of training; the workload here is forward"
        if options_.get("precision") == "fp16_scaler":
            return "scales the loss, which is one of training; the workload here is forward"
    return ""
