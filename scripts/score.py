"""Scores of a group's techniques, each against the baseline's. Writes score.parquet, one row a technique, task and metric."""

import json
import math
from collections.abc import Mapping
from pathlib import Path

from speedgrid import corpus, records, stage
from speedgrid.outcomes import Outcome
from speedgrid.progress import say
from speedgrid.quality import scores
from speedgrid.schema import EVALUATE, MEASURED, REQUESTS
from speedgrid.specification import Score, Task


def score(job: stage.Job[Score]) -> str:
    found = {entry["technique"]: records.read(entry["evaluate"], EVALUATE) for entry in job.specification["techniques"]}
    answered = []
    for entry in job.specification["techniques"]:
        record = found[entry["technique"]]
        if record.status in MEASURED and not scores.all_finite(record.rows):
            refused = {"status": "not_finite", "reason": "what the model computed is no finite number"}
            job.rows.append({**job.keys, "technique": entry["technique"], **refused})
        elif record.status in MEASURED:
            answered.append(scores.Answered(entry["technique"], record.rows, entry["is_baseline"]))
        else:
            job.rows.append({**job.keys, "technique": entry["technique"], "status": record.status, "reason": record.reason})
    figures = {one.technique: scores.held_out_figures(one) for one in answered}
    say_what_is_missing(job, {one.technique: found[one.technique].facts for one in answered})
    for task in job.specification["evaluate"]["tasks"]:
        job.enter(f"scoring {task['task']}")
        for technique, more in task_figures(job, task, answered, found).items():
            figures[technique] += more
    baseline = next((figures[one.technique] for one in answered if one.is_baseline), [])
    for one in answered:
        for row in scores.compared(figures[one.technique], [] if one.is_baseline else baseline):
            text = Path(job.specification["evaluate"]["text"]).name if row["task"] == scores.HELD_OUT else None
            job.keep({"technique": one.technique, "text": text, **row})
    return f"{len(answered)} of {len(found)} techniques scored"


def say_what_is_missing(job: stage.Job[Score], facts: Mapping[str, Mapping]) -> None:
    """A row for each reason why held-out text has no bits per byte, or no distance; one row for all techniques where they share it."""
    for name in ("text_reason", "distance_reason"):
        reasons = {technique: own.get(name) for technique, own in facts.items() if own.get(name) not in (None, "", "not asked for")}
        shared = set(reasons.values()) if len(reasons) == len(facts) and len(set(reasons.values())) == 1 else set()
        for technique, reason in [(None, reason) for reason in shared] or reasons.items():
            refused = {"task": scores.HELD_OUT, "status": "unsupported", "reason": reason}
            job.rows.append({**job.keys, "technique": technique, **refused})


def task_figures(job: stage.Job[Score], spec: Task, answered: list[scores.Answered], found: dict[str, records.Record]) -> dict:
    """The figures of a task for each technique that answered it; a task that cannot be had is a row with the reason."""
    from speedgrid.quality import tasks

    name = spec["task"]
    # A row without a task says why there are no requests at all.
    asked = [row for row in records.read(job.specification["requests"], REQUESTS).rows if row["task"] in (name, None)]
    refused = [row for row in asked if row["status"] != "ok"]
    if refused or not answered:
        for row in refused:
            job.rows.append({**job.keys, "technique": None, "task": name, "status": row["status"], "reason": row["reason"]})
        return {}
    try:
        task = tasks.load(spec, corpus.all_held_out(job.specification["evaluate"]))
    except Outcome as failure:
        job.rows.append({**job.keys, "technique": None, "task": name, "status": failure.status, "reason": str(failure)})
        return {}
    figures = {}
    baseline = next((one for one in answered if one.is_baseline), None)
    for one in answered:
        # A technique that was proven to compute the baseline's model was not asked the tasks.
        answering = baseline if baseline and found[one.technique].facts.get("answers_of_baseline") else one
        reason = json.loads(found[answering.technique].facts["not_answered"] or "{}").get(name)
        answers = {(row["item"], row["request"]): row for row in answering.of("request") if row["task"] == name}
        if reason or not answers:
            told_why = reason or "its requests were not answered"
            job.rows.append({**job.keys, "technique": one.technique, "task": name, "status": "unsupported", "reason": told_why})
            continue
        scored = tasks.score(task, spec["limit"], asked, answers)
        for metric in (metric for metric in scored if not math.isfinite(metric.value)):
            too_large = {"status": "not_finite", "reason": f"{metric.metric} is more than a number holds"}
            job.rows.append({**job.keys, "technique": one.technique, "task": name, **too_large})
        figures[one.technique] = scores.task_figures(
            name, [metric for metric in scored if math.isfinite(metric.value)], answering is not one
        )
        say(f"{job.name}: {one.technique}: {name}: {_in_words(figures[one.technique])}")
    return figures


def _in_words(figures: list[scores.Figure]) -> str:
    return ", ".join(f"{figure.row['metric']} {figure.row['value']:.4f}" for figure in figures)


if __name__ == "__main__":
    stage.run("score", score)
