"""What techniques cost in quality before the job that scores a group has run, which waits for the answers of all of them. Pure.

On held-out text it is what that job will say. Scores of tasks need lm-eval, which the report's environment does not have.
"""

from collections.abc import Collection, Mapping

from speedgrid import standing
from speedgrid.quality import scores
from speedgrid.records import Record
from speedgrid.schema import GROUP, NOT_RUN, SCORE


def rows(asked: Mapping, answers: Mapping[str, Record], scored: Collection[str]) -> list[dict]:
    """Rows of schema.SCORE for the techniques that have answered and are not `scored` yet, and rows that say what each task waits for.

    `asked` is the specification of the job that scores the group. `answers` are records of schema.EVALUATE by technique, only such as
    stand. Without the baseline's nothing is compared.
    """
    baseline = scores.baseline_of(asked)
    found = {technique: record for technique, record in answers.items() if technique == baseline or technique not in scored}
    early = found.keys() - set(scored)
    if not early:
        return []
    answered, told = scores.on_held_out(asked, found)
    # One row says it for all techniques while none is scored.
    waiting = sorted(early & {one.technique for one in answered}) if scored else [None] * bool(answered)
    awaited = [{"technique": one, "task": task["task"]} for one in waiting for task in asked["evaluate"]["tasks"]]
    told += [{**row, "status": NOT_RUN, "reason": standing.AWAITED} for row in awaited]
    if answered and baseline not in answers:
        told.append({"technique": None, "task": scores.HELD_OUT, "status": NOT_RUN, "reason": standing.BASELINE_AWAITED})
    empty = dict.fromkeys(column.name for column in SCORE.columns) | {axis: asked[axis] for axis in GROUP}
    return [{**empty, **row} for row in told if row["technique"] is None or row["technique"] in early]
