"""Scores of a group's techniques, each against the baseline's. Writes score.parquet, one row a technique, task and metric."""

import json
import math

from speedgrid import corpus, records, stage
from speedgrid.outcomes import Outcome
from speedgrid.progress import say
from speedgrid.quality import scores
from speedgrid.schema import EVALUATE, REQUESTS
from speedgrid.specification import Score, Task


def score(job: stage.Job[Score]) -> str:
    found = {entry["technique"]: records.read(entry["evaluate"], EVALUATE) for entry in job.specification["techniques"]}
    answered, rows = scores.on_held_out(job.specification, found)
    job.rows += [{**job.keys, **row} for row in rows]
    baseline = scores.baseline_of(job.specification)
    for task in job.specification["evaluate"]["tasks"]:
        job.enter(f"scoring {task['task']}")
        figures = task_figures(job, task, answered, found)
        for technique, own in figures.items():
            for row in scores.compared(own, [] if technique == baseline else figures.get(baseline, [])):
                job.keep({"technique": technique, **row})
    return f"{len(answered)} of {len(found)} techniques scored"


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
