"""Tasks of lm-evaluation-harness: what they ask, and what an engine's answers score. Only the environment `evaluation` can use this.

lm-eval builds every request, and later scores every answer, as if it had asked a model of its own; in between any engine answers.
"""

import difflib
import functools
import json
import logging
import math
import re
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speedgrid import corpus, places
from speedgrid.outcomes import MissingDependency, Unsupported
from speedgrid.quality import cloze, excerpts
from speedgrid.records import RecordError
from speedgrid.specification import Task

CLOZE = "cloze"
# The seed with which lm-eval itself draws the examples that are shown before a question.
EXAMPLES_SEED = 1234
# The probability by which equal answers are no chance any more; a text is taken for one of so many.
BY_CHANCE, OPEN_CHOICES = 1e-3, 4
# Resamplings of lm-eval for standard errors of metrics that have no formula.
RESAMPLES = 1000


def load(spec: Task, documents: Sequence[tuple[str, str]]):
    """A task of lm-eval by the study's entry for it: `task`, `dataset` (`revision` or `folder`), `fewshot`.

    `cloze` is made from `documents`, held-out texts of (name, text), and `stdlib` from Python's own library. Raises
    outcomes.Unsupported, or MissingDependency, where it cannot be had; the reason says what to do.
    """
    harness = _import()
    name = spec["task"]
    if name == CLOZE:
        return _cloze(harness, documents, spec["limit"])
    if name == excerpts.TASK:
        return _excerpts(harness, corpus.all_held_out({"text": "stdlib"}), spec["limit"])
    manager = harness.manager()
    entry = manager.task_index.get(name)
    if entry is None:
        near = difflib.get_close_matches(name, manager.all_subtasks, 3)
        raise Unsupported(f"lm-eval {harness.version} has no task {name!r}" + (f"; did you mean {' or '.join(near)}?" if near else ""))
    if name not in manager.all_subtasks:
        raise Unsupported(f"{name} is a group of tasks in lm-eval {harness.version}; name its tasks one by one")
    more: dict = {"num_fewshot": spec["fewshot"]} if "fewshot" in spec else {}
    config = manager._factory._load_full_config(entry)
    if config.get("unsafe_code"):
        raise Unsupported(f"{name} runs code that the model wrote, which speedgrid does not do")
    more |= _dataset(config, spec["dataset"])
    where = f"{more.get('dataset_path', config.get('dataset_path'))}" + (f" at {spec['dataset'].get('revision', '')[:12]}").rstrip(" at")
    try:
        task = manager._factory.build(entry, overrides=more, registry=manager.task_index)
    except ModuleNotFoundError as error:
        raise MissingDependency(f"lm-eval's task {name} needs the Python package {error.name}, which the environment lacks") from error
    except Exception as error:
        raise Unsupported(_why_not(name, where, error)) from error
    revision = spec["dataset"].get("revision")
    if revision and (others := _commits_in_cache(task) - {revision}):
        raise Unsupported(_not_had(name, where, f"the hub cannot be reached, and the cache has it at {min(others)[:12]}"))
    return task


def requests(task, limit: int) -> list[dict]:
    """What a task asks about its first `limit` items, as rows of schema.REQUESTS without `task`.

    Raises outcomes.Unsupported where it has no items, or asks for what no engine here gives.
    """
    # Each time anew: drawing the examples moves the task's generator on.
    task.set_fewshot_seed(seed=EXAMPLES_SEED)
    try:
        task.build_all_requests(limit=limit, rank=0, world_size=1)
    except ValueError as error:
        if "did not find any docs" in str(error):
            raise Unsupported("the task has no items") from error
        raise
    rows = []
    for instance in task.instances:
        context, second = (*instance.args, None)[:2] if instance.request_type != "loglikelihood_rolling" else ("", instance.args[0])
        if instance.request_type not in ("loglikelihood", "loglikelihood_rolling", "generate_until"):
            raise Unsupported(f"the task asks for {instance.request_type}, which speedgrid's engines do not give")
        if not isinstance(context, str):
            raise Unsupported("the task's prompts are not text")
        generates = instance.request_type == "generate_until"
        rows.append(
            {
                "item": instance.doc_id,
                "request": instance.idx,
                "kind": instance.request_type,
                "context": context,
                "continuation": "" if generates else second,
                "settings": json.dumps(second, sort_keys=True) if generates else "",
            }
        )
    return rows


@dataclass(frozen=True)
class Score:
    """A metric of a task: its value and standard error by lm-eval (None where it has none), whether more is better, and the figure of each
    item; `chance` is what guessing scores, for accuracies of tasks with choices. `same` says in words that every answer is the same one;
    it is empty where they differ, and where too few were given to tell."""

    metric: str
    value: float
    stderr: float | None
    higher_is_better: bool
    items: list
    chance: float | None
    same: str = ""


def score(task, limit: int, asked: Sequence[Mapping], answers: Mapping[tuple[int, int], Mapping]) -> list[Score]:
    """Every metric of a task by lm-eval's own evaluation, with an engine's answers in the place of a model's.

    `asked` are the rows of schema.REQUESTS of the task, `answers` those of schema.EVALUATE by (item, request). Raises RecordError where the
    task now asks something else than it did: its data changed in between.
    """
    harness = _import()
    task.set_fewshot_seed(seed=EXAMPLES_SEED)
    replay = harness.replay(asked, answers)
    told = {"lm": replay, "task_dict": {"tasks": {task.config.task: task}}, "limit": limit, "log_samples": True}
    try:
        found = harness.evaluate(**told, bootstrap_iters=RESAMPLES)
    except OverflowError:
        # The perplexity of a word, where a text without spaces is one.
        aggregation = {metric: _bounded(function) for metric, function in task.aggregation().items()}
        task.aggregation = lambda: aggregation
        found = harness.evaluate(**told, bootstrap_iters=0)
    (name,) = found["results"]
    figures, samples, better = found["results"][name], found["samples"][name], found["higher_is_better"][name]
    scores = []
    for key, value in figures.items():
        metric, _, kept = key.partition(",")
        if not kept or metric.endswith("_stderr") or not isinstance(value, int | float):
            continue
        stderr = figures.get(f"{metric}_stderr,{kept}")
        own = [sample for sample in samples if sample["filter"] == kept]
        chances = [1 / len(task.doc_to_choice(sample["doc"])) for sample in own] if _is_choice(task, metric) else []
        scores.append(
            Score(
                metric=metric if kept == "none" else f"{metric} ({kept})",
                value=float(value),
                stderr=float(stderr) if isinstance(stderr, int | float) else None,
                higher_is_better=bool(better.get(metric, True)),
                items=[sample[metric] for sample in own],
                chance=sum(chances) / len(chances) if chances else None,
                same=answers_alike(_answers(task, metric, own)),
            )
        )
    return scores


def _answers(task, metric: str, samples: Sequence[Mapping]) -> list[tuple[str, int]]:
    """What a model answered to each item, and of how many choices it took it (0 where it wrote a text); empty for other tasks."""
    if task.OUTPUT_TYPE == "generate_until":
        return [(str(sample["filtered_resps"][0]).strip(), 0) for sample in samples]
    if task.OUTPUT_TYPE != "multiple_choice":
        return []
    found = []
    for sample in samples:
        choices = task.doc_to_choice(sample["doc"])
        lengths = {"acc_norm": [len(one) for one in choices], "acc_bytes": [len(one.encode()) for one in choices]}
        likely = [
            response[0] / (length or 1)
            for response, length in zip(sample["filtered_resps"], lengths.get(metric, [1] * len(choices)), strict=False)
        ]
        found.append((f"choice {likely.index(max(likely)) + 1}", len(choices)))
    return found


def answers_alike(answers: Sequence[tuple[str, int]]) -> str:
    """That all of a model's answers are one, in words; empty where they are not, or where guessing among the choices would do the same once
    in a thousand times."""
    choices = max((count for _, count in answers), default=0) or OPEN_CHOICES
    if len({answer for answer, _ in answers}) != 1 or choices ** (1 - len(answers)) > BY_CHANCE:
        return ""
    answer = textwrap.shorten(answers[0][0], 40, placeholder=" …") or "nothing"
    return (
        f"the answer to each of the {len(answers)} items is the same ({answer}), so that the score says how often that one is right, and"
        " nothing of what was asked"
    )


def _bounded(aggregate: Callable[[list], float]) -> Callable[[list], float]:
    """The same metric, infinite where it is more than a number holds."""

    def bounded(items: list) -> float:
        try:
            return aggregate(items)
        except OverflowError:
            return math.inf

    return bounded


def _is_choice(task, metric: str) -> bool:
    return task.OUTPUT_TYPE == "multiple_choice" and metric in ("acc", "acc_norm", "acc_bytes")


def _dataset(config: Mapping, told: Mapping) -> dict:
    """What takes the place of a task's own data set: a pinned revision of it, or a folder."""
    kwargs = dict(config.get("dataset_kwargs") or {})
    kwargs.pop("trust_remote_code", None)
    if "revision" in told:
        return {"dataset_kwargs": {**kwargs, "revision": told["revision"]}}
    folder = places.of(told["folder"], told.get("content", "")).resolve()
    if not folder.is_dir():
        raise Unsupported(f"dataset.folder: {told['folder']} is not a folder")
    # A copy of the hub's repository says in its README which files are which part; in any other folder their names do.
    named = {} if (folder / "README.md").is_file() else {"dataset_name": None}
    return {"dataset_path": str(folder), "dataset_kwargs": {}, **named}


def _commits_in_cache(task) -> set[str]:
    """The commits of the hub whose data a task has, which are folders of the cache. Where the hub cannot be reached, the library `datasets`
    takes whichever commit it has, and says so in a line of its log alone."""
    files = [file["filename"] for part in (task.dataset or {}).values() for file in part.cache_files]
    return {name for file in files for name in Path(file).parts if re.fullmatch("[0-9a-f]{40}", name)}


def _why_not(name: str, where: str, error: Exception) -> str:
    line = " ".join(str(error).split())[:300] or type(error).__name__
    if isinstance(error, IndexError) or "corresponds to no data" in line or "doesn't contain any data files" in line:
        return f"{name} has no items: its data set {where} is empty ({line})"
    if isinstance(error, OSError) or type(error).__module__.partition(".")[0] in ("datasets", "huggingface_hub", "requests", "httpx"):
        return _not_had(name, where, line)
    return f"lm-eval cannot build {name} from the data set {where}: {type(error).__name__}: {line}"


def _not_had(name: str, where: str, why: str) -> str:
    return f"the data set of {name}, {where}, cannot be had: {why}; go online once, or give a copy of it as dataset.folder"


def _cloze(harness, documents: Sequence[tuple[str, str]], limit: int):
    """The task of cloze.items, with HellaSwag's metrics."""
    config = {
        "output_type": "multiple_choice",
        "doc_to_text": "{{ctx}}",
        "doc_to_choice": "endings",
        "doc_to_target": "{{label}}",
        "target_delimiter": "",
        "metric_list": [{"metric": metric, "aggregation": "mean", "higher_is_better": True} for metric in ("acc", "acc_norm")],
    }
    return _own(harness, CLOZE, cloze.items(documents, limit), config)


def _excerpts(harness, documents: Sequence[tuple[str, str]], limit: int):
    """The task of excerpts.items: bits per byte over all of them, as WikiText's."""
    config = {
        "output_type": "loglikelihood_rolling",
        "doc_to_text": "",
        "doc_to_target": "{{text}}",
        "metric_list": [{"metric": "bits_per_byte"}],
    }
    return _own(harness, excerpts.TASK, excerpts.items(documents, limit), config)


def _own(harness, name: str, items: list[dict], config: Mapping):
    """A task of ours, of items that were made here. Raises outcomes.Unsupported where there are none."""
    import datasets

    if not items:
        raise Unsupported("the held-out text is too short to make a single item of it")
    data = {"task": name, "custom_dataset": lambda **_: datasets.DatasetDict({"test": datasets.Dataset.from_list(items)})}
    (task,) = harness.manager(include_defaults=False).load({**data, "test_split": "test", **config})["tasks"].values()
    return task


@dataclass(frozen=True)
class _Harness:
    version: str
    # With no arguments it knows lm-eval's own tasks, which are some 27,000 files to look through.
    manager: Callable[..., Any]
    evaluate: Callable[..., Any]
    replay: Callable[..., Any]


_harness: _Harness | None = None


def _import() -> _Harness:
    """lm-eval, imported once."""
    global _harness
    if _harness:
        return _harness
    from importlib.metadata import version

    from lm_eval.api.model import LM
    from lm_eval.evaluator import evaluate
    from lm_eval.tasks import TaskManager

    logging.getLogger("lm_eval").setLevel(logging.ERROR)

    class Replay(LM):
        """A model whose answers are known."""

        def __init__(self, asked: Sequence[Mapping], answers: Mapping[tuple[int, int], Mapping]):
            super().__init__()
            self.asked, self.answers = {(row["item"], row["request"]): row for row in asked}, answers

        def loglikelihood(self, requests):
            return [(-answer["nats"], bool(answer["greedy"])) for answer in map(self._answer, requests)]

        def loglikelihood_rolling(self, requests):
            return [-self._answer(request)["nats"] for request in requests]

        def generate_until(self, requests):
            return [self._answer(request)["answer"] for request in requests]

        def _answer(self, request) -> Mapping:
            key = (request.doc_id, request.idx)
            row = self.asked.get(key)
            text = None if row is None else row["continuation"] if row["kind"] == "loglikelihood_rolling" else row["context"]
            if text != request.args[0] or key not in self.answers:
                raise RecordError(f"the task {request.task_name} asks something else than was answered; delete its requests and run again")
            return self.answers[key]

    _harness = _Harness(version("lm-eval"), functools.cache(TaskManager), evaluate, Replay)
    return _harness
