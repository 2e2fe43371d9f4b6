"""The specification of the jobs of each stage, as types: all of the study that reaches a job, and so all that makes it run again.

The planner writes it (cell.py), as JSON on the job's command line; a job has it as `stage.Job.specification`. What is `NotRequired` is left
out where it has nothing to say, so that a new key runs only those jobs again that it concerns.
"""

from collections.abc import Mapping
from typing import Any, NotRequired, TypedDict


class Job(TypedDict):
    """The keys of every specification."""

    # The device of the study (its kind, and its name where one is given), and what a technique needs of it, e.g. `cuda`.
    device: Mapping[str, str]
    requires: list[str]
    seed: int
    # Cores to compute with, or `auto`.
    threads: int | str
    schema_version: int


class Model(Job):
    """Prepare a model: its entry of the study, by where it comes from."""

    model: str
    origin: str
    entry: Mapping[str, Any]


class Probe(Job):
    """Measure what a device can do."""

    gpu: str
    env: str
    # Number formats, where not all of them.
    dtypes: NotRequired[list[str]]


class OfTechnique(Job):
    """The keys of jobs that load weights of a model as a technique asks for it."""

    model: str
    technique: str
    env: str
    trust_remote_code: bool
    # Why the technique can run nowhere; and what this machine lacks to make its environment, which makes no part of a result.
    unavailable: str
    lacks: NotRequired[str]


class Quantize(OfTechnique):
    """Make the checkpoint of a technique: the method with its options, and the text that calibrates it."""

    transform: Mapping[str, Any]
    calibration: Mapping[str, Any]
    dtype: str


class OfCell(OfTechnique):
    """The keys of jobs that run an engine for a cell."""

    gpu: str
    experiment: str
    workload: str
    engine: str
    options: Mapping[str, Any]


class Settings(TypedDict):
    """What is measured: keys of the experiment, of which a workload has some (workload.settings)."""

    batch_size: int
    # How many runs are counted, or by which rule; how many are not; and what follows where the machine was disturbed. Not of a warm-up.
    replies: NotRequired[int | str | Mapping[str, float]]
    warmup_replies: NotRequired[int]
    repeat_disturbed: NotRequired[int]
    quiet_wait_s: NotRequired[float]
    prompt: NotRequired[str]
    prompt_tokens: NotRequired[int]
    max_new_tokens: NotRequired[int]
    ignore_eos: NotRequired[bool]
    sampling: NotRequired[Mapping[str, Any]]
    lengths: NotRequired[list[int]]
    sequence: NotRequired[int]
    image_size: NotRequired[int]
    data: NotRequired[str]
    optimizer: NotRequired[str]
    learning_rate: NotRequired[float]
    clip_norm: NotRequired[float]
    deterministic: NotRequired[bool]
    grows: NotRequired[str]
    memory_budget: NotRequired[int | None]
    causal: NotRequired[bool]
    backward: NotRequired[bool]


class Warmup(OfCell):
    """Start a cell cold."""

    settings: Settings


class Measure(OfCell):
    """Measure a cell; `run` is there from the second one on."""

    settings: Settings
    run: NotRequired[int]


class Asked(TypedDict):
    """The held-out text and the tasks of jobs that evaluate quality."""

    # `stdlib`; or the name of a text file, without its place (places.py), with the hash of what it holds.
    text: str
    text_sha256: NotRequired[str]
    max_bytes: NotRequired[int]
    positions: NotRequired[int]
    tasks: NotRequired[list["Task"]]


class Task(TypedDict):
    """A task of lm-evaluation-harness, or `cloze` or `stdlib`, with the items that are asked and where they come from: a revision of the
    hub, or a folder by its name, without its place, and `content`."""

    task: str
    limit: int
    fewshot: NotRequired[int]
    dataset: NotRequired[Mapping[str, Any]]


class Reference(OfCell):
    """Write down what the unmodified model expects next."""

    evaluate: Asked


class Evaluate(OfCell):
    """Evaluate a cell; `requests` and `reference` are result files, empty where there are none."""

    evaluate: Asked
    random_weights: bool
    lossless: bool
    # Of a technique that claims to be the baseline's model: once proven, the baseline's answers are its own.
    may_take_over: NotRequired[bool]
    requests: str
    reference: str


class Requests(Job):
    """Build what the tasks of an experiment ask."""

    experiment: str
    env: str
    evaluate: Asked


class Answers(TypedDict):
    """The result file of a technique's answers."""

    technique: str
    evaluate: str
    is_baseline: bool


class Score(Job):
    """Score the answers of the techniques of a group."""

    gpu: str
    experiment: str
    model: str
    env: str
    techniques: list[Answers]
    requests: str
    evaluate: Asked
