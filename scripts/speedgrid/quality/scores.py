"""From the answers of the techniques of one group to scores, each against the baseline's on the same items. Pure.

Losses are positive where the technique is worse: a difference for accuracies and other means, a share for bits per byte and perplexities.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from speedgrid import stats
from speedgrid.quality import paired
from speedgrid.records import Record
from speedgrid.schema import MEASURED, SAME_MODEL

HELD_OUT = "held_out"
# Metrics of which a loss is a share of the baseline's figure, and not a difference of two shares.
RELATIVE = ("bits_per_byte", "byte_perplexity", "word_perplexity", "perplexity")


@dataclass(frozen=True)
class Answered:
    """A technique with the rows of its evaluate.parquet."""

    technique: str
    rows: Sequence[Mapping]
    is_baseline: bool

    def of(self, kind: str) -> list[Mapping]:
        return [row for row in self.rows if row["kind"] == kind]


@dataclass(frozen=True)
class Figure:
    """A metric of a technique as a row of schema.SCORE, and what its items are compared by; `same`: that all its answers are one
    (tasks.Score); `is_baselines` where they are the baseline's."""

    row: dict
    items: Sequence
    same: str = ""
    is_baselines: bool = False


def all_finite(rows: Sequence[Mapping]) -> bool:
    """Whether every figure of the rows of an evaluate.parquet is a finite number."""
    figures = [row.get(name) for row in rows for name in ("nats", "window_nats", "divergence")]
    return all(math.isfinite(one) for figure in figures if figure is not None for one in np.atleast_1d(np.asarray(figure, dtype=float)))


def baseline_of(asked: Mapping) -> str:
    """The technique that the others are held against, by the specification of a job that scores; empty where there is none."""
    return next((entry["technique"] for entry in asked["techniques"] if entry["is_baseline"]), "")


def on_held_out(asked: Mapping, found: Mapping[str, Record]) -> tuple[list[Answered], list[dict]]:
    """The techniques whose answers can be scored, and rows of schema.SCORE: what each scores on held-out text, against the baseline, and
    why a technique or a figure is missing.

    `asked` is the specification of the job that scores, `found` are records of schema.EVALUATE by technique.
    """
    answered, rows = _answered(found, baseline_of(asked))
    figures = {one.technique: held_out_figures(one) for one in answered}
    baseline = next((figures[one.technique] for one in answered if one.is_baseline), [])
    rows += _missing({one.technique: found[one.technique].facts for one in answered})
    text = Path(asked["evaluate"]["text"]).name
    for one in answered:
        scored = compared(figures[one.technique], [] if one.is_baseline else baseline)
        rows += [{"technique": one.technique, "status": "ok", "reason": "", "text": text, **row} for row in scored]
    return answered, rows


def _answered(found: Mapping[str, Record], baseline: str) -> tuple[list[Answered], list[dict]]:
    """The techniques whose answers can be scored, and a row for each of the others that says why not."""
    answered, refused = [], []
    for technique, record in found.items():
        if record.status not in MEASURED:
            refused.append({"technique": technique, "status": record.status, "reason": record.reason})
        elif not all_finite(record.rows):
            refused.append({"technique": technique, "status": "not_finite", "reason": "what the model computed is no finite number"})
        else:
            answered.append(Answered(technique, record.rows, technique == baseline))
    return answered, refused


def _missing(facts: Mapping[str, Mapping]) -> list[dict]:
    """A row for each reason why held-out text has no bits per byte, or no distance; one row for all techniques where they share it."""
    rows = []
    for name in ("text_reason", "distance_reason"):
        reasons = {technique: own.get(name) for technique, own in facts.items() if own.get(name) not in (None, "", "not asked for")}
        shared = set(reasons.values()) if len(reasons) == len(facts) and len(set(reasons.values())) == 1 else set()
        for technique, reason in [(None, reason) for reason in shared] or reasons.items():
            rows.append({"technique": technique, "task": HELD_OUT, "status": "unsupported", "reason": reason})
    return rows


def held_out_figures(answered: Answered) -> list[Figure]:
    """Bits per byte, and the distance to the reference where there is one."""
    found = []
    documents, sequences = answered.of("document"), answered.of("sequence")
    if documents:
        size = sum(row["bytes"] for row in documents)
        nats = [one for row in documents for one in row["window_nats"]]
        row = _row(HELD_OUT, "bits_per_byte", False, sum(nats) / math.log(2) / size, len(nats))
        found.append(Figure(row, nats))
    if sequences:
        for metric, name, higher in (("kl_divergence", "divergence", False), ("top1_agreement", "agrees", True)):
            means = [sum(row[name]) / len(row[name]) for row in sequences]
            # Neighbouring positions are alike; the sequences are what is independent.
            estimate = stats.mean_interval(means)
            value = sum(sum(row[name]) for row in sequences) / sum(len(row[name]) for row in sequences)
            row = _row(HELD_OUT, metric, higher, value, len(means)) | {"low": estimate.low, "high": estimate.high}
            found.append(Figure(row, ()))
    return found


def task_figures(name: str, scores: Sequence, is_baselines: bool = False) -> list[Figure]:
    """The metrics of a task, as tasks.Score has them; `is_baselines` where the answers are those of the baseline."""
    figures = []
    for score in scores:
        row = _row(name, score.metric, score.higher_is_better, score.value, len(score.items))
        figures.append(Figure(row | {"stderr": score.stderr, "chance": score.chance}, score.items, score.same, is_baselines))
    return figures


def compared(own: Sequence[Figure], baselines: Sequence[Figure]) -> list[dict]:
    """The rows of `own`, each with what it lost against the baseline's figure of the same task and metric, where both have it.

    Where every answer is the same one, there is a row with the reason in place of the figure: two models that answer so would be found
    equal, and one could be found better. A loss against a baseline whose answers differ stays, since that is what it is.
    """
    theirs = {(figure.row["task"], figure.row["metric"]): figure for figure in baselines if not figure.same}
    rows = []
    for figure in own:
        row = figure.row | _lost(figure, theirs.get((figure.row["task"], figure.row["metric"])))
        if figure.same and row.get("verdict") != "loss":
            row = {"task": figure.row["task"], "status": "unsupported", "reason": f"{figure.row['metric']}: {figure.same}"}
        rows.append(row)
    return rows


def _lost(own: Figure, baseline: Figure | None) -> dict:
    if baseline is None or not own.items or len(own.items) != len(baseline.items):
        return {}
    if own.is_baselines:
        return {"test": SAME_MODEL, "loss": 0.0, "loss_low": 0.0, "loss_high": 0.0, "verdict": "no measurable loss"}
    way = _way(own)
    comparison, negligible = way(own, baseline)
    return {
        "test": comparison.test,
        "loss": comparison.loss,
        "loss_low": comparison.low,
        "loss_high": comparison.high,
        "resolution": comparison.resolution,
        "p": comparison.p,
        "verdict": comparison.verdict(negligible),
    }


def _way(own: Figure) -> Callable[[Figure, Figure], tuple[paired.Comparison, float]]:
    first = own.items[0]
    if own.row["task"] == HELD_OUT:
        return _of_stretches
    if isinstance(first, list | tuple):
        return _of_likelihoods
    if all(item in (0, 1) for item in own.items) and own.row["better"] == "higher":
        return _of_hits
    return _of_means


def _of_stretches(own: Figure, baseline: Figure) -> tuple[paired.Comparison, float]:
    """Surprise of the same stretches, as a share of the baseline's."""
    away = paired.bootstrap(own.items, baseline.items)
    return paired.share(away, sum(baseline.items) / len(baseline.items)), paired.NEGLIGIBLE


def _of_likelihoods(own: Figure, baseline: Figure) -> tuple[paired.Comparison, float]:
    """Documents as (log-likelihood, words or bytes): the share by which perplexity is more, or bits per byte."""
    nats, theirs = ([-item[0] for item in figure.items] for figure in (own, baseline))
    if own.row["metric"] == "bits_per_byte":
        return paired.share(paired.bootstrap(nats, theirs), sum(theirs) / len(theirs)), paired.NEGLIGIBLE
    return paired.factor(paired.bootstrap(nats, theirs, [item[1] for item in own.items])), paired.NEGLIGIBLE


def _of_hits(own: Figure, baseline: Figure) -> tuple[paired.Comparison, float]:
    return paired.mcnemar([bool(item) for item in own.items], [bool(item) for item in baseline.items]), 0.0


def _of_means(own: Figure, baseline: Figure) -> tuple[paired.Comparison, float]:
    sign = -1 if own.row["better"] == "higher" else 1
    return paired.bootstrap([sign * item for item in own.items], [sign * item for item in baseline.items]), 0.0


def _row(task: str, metric: str, higher_is_better: bool, value: float, items: int) -> dict:
    return {"task": task, "metric": metric, "better": "higher" if higher_is_better else "lower", "value": value, "items": items}
