"""What techniques cost in quality before the job that scores a group has run, which waits for the answers of all of them. Pure.

On held-out text it is what that job will say. Scores of tasks need lm-eval, which the report's environment does not have.
"""

from collections.abc import Mapping
from pathlib import Path

from speedgrid import standing
from speedgrid.quality import scores
from speedgrid.records import Record
from speedgrid.schema import GROUP, MEASURED, NOT_RUN, SCORE

AWAITED = "is scored once all techniques of the group have answered"


def rows(asked: Mapping, answers: Mapping[str, Record]) -> list[dict]:
    """Rows of schema.SCORE for the techniques of `answers`, their records of the table EVALUATE, and one for each task, that it is awaited.

    `asked` is the specification of the job that scores the group. Without answers of the baseline no technique lost or gained, and none is
    held against a baseline that was asked something else.
    """
    told = {technique: record for technique, record in answers.items() if record.status in MEASURED and scores.all_finite(record.rows)}
    baseline = next((entry["technique"] for entry in asked["techniques"] if entry["is_baseline"]), "")
    figures = {
        technique: scores.held_out_figures(scores.Answered(technique, told[technique].rows, technique == baseline)) for technique in told
    }
    text, found = Path(asked["evaluate"]["text"]).name, []
    for technique, own in figures.items():
        is_held = baseline in told and technique != baseline and _of_the_same(told[technique], told[baseline])
        lost = scores.compared(own, figures[baseline] if is_held else [])
        found += [{"technique": technique, "text": text, "status": "ok", **row} for row in lost]
    if found:
        found += [{"task": task["task"], "status": NOT_RUN, "reason": AWAITED} for task in asked["evaluate"]["tasks"]]
    empty = dict.fromkeys(column.name for column in SCORE.columns)
    return [{**empty, **{axis: asked[axis] for axis in GROUP}, **row} for row in found]


def _of_the_same(one: Record, other: Record) -> bool:
    """Whether two techniques answered the same questions, and were held to the same reference."""
    own, theirs = standing.made_from(one.facts), standing.made_from(other.facts)
    return all(own[path] == theirs[path] for path in own.keys() & theirs.keys())
