"""What could not run, by kind: what it means, what to do about it, and which techniques it struck. Pure.

Texts here are plain, with code between backticks; the template escapes them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from speedgrid import commands
from speedgrid.report import units
from speedgrid.report.advice import needs
from speedgrid.report.language import tr
from speedgrid.schema import MEASURED, NOT_RUN, STATUSES, group_of

# What to do about each kind, in the order of how much there is to do.
TO_DO = {
    "failed": "Its log, in `logs/`, says more than the reason. The next run tries it again; a cell that cannot work is left out with"
    " `exclude:`.",
    "wrong_result": "It says that it keeps the model's arithmetic, and does not: do not use it for this model. Without the claim"
    " (`lossless: false`) it is measured, and the page reports its loss of quality.",
    "not_finite": "Its numbers overflow. Take bfloat16, whose range is that of float32, in place of float16.",
    "oom": "Take a technique that needs less, a smaller batch, or a shorter prompt and reply.",
    "timeout": "Give it more time with `time_budget_s`; its log says where it was.",
    "missing_dependency": "`{program} doctor` says what this machine lacks and how it comes there; then run the study again.",
    "unsupported": "Nothing to mend: this model, device or engine cannot do it. Leave it out with `exclude:`.",
}
FEWEST_SHOWN = 3  # techniques that fit, as examples of what to take where memory ran out


@dataclass(frozen=True)
class Struck:
    """The cells that one reason struck: the techniques, where, how many replies they had finished, and their gpu, experiment and model."""

    reason: str
    cells: list[tuple[str, str, int, tuple]]


@dataclass(frozen=True)
class Kind:
    """A status with what it means, as the start of a sentence, and what to do, and its reasons, the most frequent first."""

    status: str
    meaning: str
    to_do: str
    count: int
    reasons: list[Struck]
    instead: str = ""


def kinds(summary: Sequence[Mapping]) -> list[Kind]:
    """The cells of a summary (rows of schema.SUMMARY) that could not run, by status; none where all did."""
    failed = [row for row in summary if row["status"] not in (*MEASURED, NOT_RUN)]
    order = [*TO_DO, *(status for status in STATUSES if status not in TO_DO)]
    return [_kind(status, own, summary) for status in order if (own := [row for row in failed if row["status"] == status])]


def _kind(status: str, rows: Sequence[Mapping], summary: Sequence[Mapping]) -> Kind:
    reasons: dict[str, list[tuple[str, str, int, tuple]]] = {}
    for row in rows:
        where = f"{row['model']} · {row['experiment']} · {row['gpu']}"
        reasons.setdefault(row["reason"] or "", []).append((row["label"], where, int(row["replies"] or 0), group_of(row)))
    ordered = sorted(reasons.items(), key=lambda item: -len(item[1]))
    instead = _that_fit(rows, summary) if status == "oom" else ""
    meaning = tr(STATUSES.get(status, status))
    to_do = tr(TO_DO.get(status, "")).format(program=commands.program())
    return Kind(status, meaning[:1].upper() + meaning[1:], to_do, len(rows), [Struck(*item) for item in ordered], instead)


def _that_fit(rows: Sequence[Mapping], summary: Sequence[Mapping]) -> str:
    """The most frugal techniques of the groups in which memory ran out, with what they need, loading included, as the cards and the guide
    say it: beside what a driver told, what PyTorch gave out lacks what CUDA itself takes."""
    groups = {group_of(row) for row in rows}
    there = [row for row in summary if group_of(row) in groups and row["status"] == "ok" and not units.is_missing(row["memory_peak"])]
    if not there:
        return ""
    least = sorted({row["label"]: needs(row) or 0 for row in reversed(there)}.items(), key=lambda item: item[1])[:FEWEST_SHOWN]
    return tr("What needed the least memory here: {}.").format(", ".join(f"{label} ({units.NEEDED.text(peak)})" for label, peak in least))
