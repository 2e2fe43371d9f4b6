"""What these runs leave open and is worth further runs: what the page asks and tells the price of, and `runs: auto` measures again. Pure.

First what the headline asks, which is of techniques that keep the quality (advice.FASTEST): what may be as fast as the one that it names,
and whether that is faster than the baseline. Then, of what costs quality: what may be as fast as the fastest of all. Last, what FEW further
runs would tell to be faster or slower than the baseline: that cannot change which technique is the fastest, and is what the reader of a row
of the table wants to know.
"""

from collections.abc import Container, Iterable, Mapping, Sequence
from typing import cast

from speedgrid import commands, state
from speedgrid.report import command, units
from speedgrid.report.advice import BY_SPEED, FASTEST, Advice, Ask, Option, advise, is_ranked, is_too_large, options, qualities
from speedgrid.report.language import tr
from speedgrid.schema import NOT_RUN, STATUSES
from speedgrid.sharpen import Question, Subject
from speedgrid.workload import WORKLOADS

# Further runs of each side that a verdict on the baseline is worth where it cannot change the answer.
FEW = 5


def of(rows: Sequence[Mapping]) -> list[Question]:
    """The questions of a group, from its rows of schema.SUMMARY; none where the group was asked for a size and not for a speed."""
    ranked = {row["technique"]: row for row in rows if is_ranked(row)}
    if not ranked or WORKLOADS[rows[0]["workload"]].seeks_largest:
        return []
    known = options(rows)
    advice = advise(known, FASTEST)
    asked = []
    if advice.choice is not None:
        # The baseline is not among what is open where a third technique surely beats it.
        doubted = [name for name, row in ranked.items() if row["is_baseline"] and ranked[advice.choice]["verdict"] == "unsure"]
        asked = [question(ranked, name, advice.choice) for name in dict.fromkeys((*advice.open, *doubted)) if name != advice.choice]
    first = next((name for name, row in ranked.items() if row["standing"] == "first"), None)
    # What keeps the quality is as fast as that only if it is as fast as the headline's choice, which is asked already.
    kept = {one.technique for one in known if one.loss == 0} - {advice.choice}
    priced = [name for name, row in ranked.items() if row["standing"] == "unsure" and name not in kept]
    # A baseline that is kept although something is hardly ahead of it was held against that already.
    pairs = {frozenset((one.technique, one.against)) for one in asked}
    asked += [question(ranked, name, first, Subject.PRICE) for name in priced if first is not None and {name, first} not in pairs]
    return asked + _over_baseline(ranked, {frozenset((one.technique, one.against)) for one in asked})


def _over_baseline(ranked: Mapping[str, Mapping], asked: Container[frozenset[str]]) -> list[Question]:
    base = next((name for name, row in ranked.items() if row["is_baseline"]), None)
    if base is None:
        return []
    left = [name for name, row in ranked.items() if row["verdict"] == "unsure" and frozenset((name, base)) not in asked]
    found = [question(ranked, name, base, Subject.BASELINE) for name in left]
    return [one for one in found if one.needed and one.needed <= FEW]


def question(ranked: Mapping[str, Mapping], technique: str, against: str, subject: Subject = Subject.LEAD) -> Question:
    """Whether one technique could be as fast as another, with what would decide it; `ranked` are rows by technique."""
    one, other = ranked[technique], ranked[against]
    needed, told, quiet = further_runs(one, other)
    busy = [row for row in (one, other) if was_disturbed(row)]
    # A quiet run of the only one that has none is the cheapest thing that tells more.
    alone = busy[0]["technique"] if quiet and needed == 1 and len(busy) == 1 else None
    return Question(technique, against, needed, told, subject, alone, quiet, quiet and any(map(is_limited, busy)))


def is_limited(row: Mapping) -> bool:
    """Whether most of what a cell may have lost is by the CPU limit of a container, which no waiting for a quiet machine changes; not known
    of older results."""
    limited, factor = (cast(float | None, row.get(name)) for name in ("cpu_limited", "disturbed_factor"))
    if units.is_missing(limited) or limited <= state.LIMITED:
        return False
    # What stopped it in every period bounds nothing.
    return limited >= 1 or (not units.is_missing(factor) and (1 - limited) ** -2 >= factor)


def was_disturbed(row: Mapping) -> bool:
    """Whether a cell was disturbed whenever it ran; not known of older results."""
    disturbed = _count(row.get("runs_disturbed"))
    return bool(disturbed) and disturbed == _count(row["runs"])


def further_runs(one: Mapping, other: Mapping) -> tuple[int | None, bool, bool]:
    """How many further runs of each of two cells of a group would decide between them, None where twenty would not; whether that is known;
    and whether it is runs on a quiet machine that would. An older summary knows it against the fastest and against the baseline alone, and
    says of no run that it must be quiet: there one is taken to tell more of what has none, held against what has."""
    runs, told, quiet = _told(one, other) or _told(other, one) or (None, False, None)
    if quiet is None and was_disturbed(one) != was_disturbed(other):
        return 1, True, True
    return runs, told, bool(quiet)


def _told(row: Mapping, beside: Mapping) -> tuple[int | None, bool, bool | None] | None:
    """What a row says of further runs of it and of another, as further_runs has it; None where it says nothing of them, and of whether they
    must be quiet."""
    if isinstance(row.get("open_runs"), Sequence):
        known, quiet = dict(zip(row["open_against"], map(_count, row["open_runs"]), strict=True)), row.get("open_quiet")
        return known.get(beside["technique"]), True, beside["technique"] in quiet if isinstance(quiet, Sequence) else None
    if beside["standing"] == "first" and row["standing"] == "unsure":
        return _count(row["further_runs_fastest"]), True, None
    return (_count(row["further_runs"]), True, None) if beside["is_baseline"] and row["verdict"] == "unsure" else None


def is_stuck(question: Question, rows: Mapping[str, Mapping]) -> bool:
    """Whether `runs: auto` makes no further runs for a question, because one of a side has failed; `rows` are by technique."""
    failed = [rows[name].get("runs_failed") for name in question.sides]
    return any(not units.is_missing(count) and count > 0 for count in failed)


def _count(value: object) -> int | None:
    return None if units.is_missing(value) else int(cast(float, value))


def _it(row: Mapping, named: Mapping) -> str:
    """The name of a cell in a sentence that has `named` already."""
    return tr("it") if row is named else row["label"]


def next_steps(rows: Iterable[Mapping], advice: Advice, ask: Ask, study_file: str = commands.DEFAULT[0]) -> list[str]:
    """What to measure next, in sentences: what is open, what is not known and could be the answer, what has no figures.

    `study_file` is that of the study, empty where it is not known.
    """
    by_name = {row["technique"]: row for row in rows}
    asked = [one for one in of(list(by_name.values())) if not is_stuck(one, by_name)]
    planned = {frozenset((one.technique, one.against)) for one in asked}
    steps = []
    for name in advice.open if ask.goal in BY_SPEED else ():
        row = by_name[name]
        choice = by_name[cast(str, advice.choice)]
        one = question(by_name, name, cast(str, advice.choice))
        needed, told = one.needed, one.told
        if units.is_missing(row["rate_low"]) or units.is_missing(choice["rate_low"]):
            steps.append(tr("{} may be as fast; too few replies for an interval: raise replies in the study").format(row["label"]))
            continue
        busy = [side for side in (row, choice) if was_disturbed(side)]
        if told and needed is None:
            if busy:
                said = tr("{} may be as fast; twenty more runs of each would not decide it; a quiet machine may")
            else:
                said = tr("{} may be as fast; twenty more runs of each would not decide it")
            steps.append(said.format(row["label"]))
            continue
        if one.limited:
            said = tr("{0} may be as fast; the CPU limit of the container slowed {1}: a higher limit, or fewer threads, would help")
            steps.append(said.format(row["label"], tr(" and ").join(_it(side, row) for side in busy if is_limited(side))))
            continue
        if one.quiet and busy:
            how = command.run(study_file, sharpen=True) if frozenset((name, advice.choice)) in planned else tr("raise runs in the study")
            if len(busy) == 1:
                said = tr("{0} may be as fast; {1} was disturbed whenever it ran, and a run of it on a quiet machine would tell more: {2}")
                steps.append(said.format(row["label"], _it(busy[0], row), how))
            else:
                said = tr(
                    "{0} may be as fast; both were disturbed whenever they ran, and a run of each on a quiet machine would tell more: {1}"
                )
                steps.append(said.format(row["label"], how))
            continue
        runs = tr("more runs") if needed is None else tr("1 more run") if needed == 1 else tr("{} more runs").format(needed)
        if frozenset((name, advice.choice)) in planned:
            said = tr("{} may be as fast; {} of each would decide it: {}, or raise runs where the study sets a number")
            steps.append(said.format(row["label"], runs, command.run(study_file, sharpen=True)))
        else:
            steps.append(tr("{} may be as fast; {} of each would decide it: raise runs in the study").format(row["label"], runs))
    known = options(list(by_name.values()))
    if ask.goal == "energy":
        steps += _energy_steps(by_name, known, advice, ask)
    judged = qualities(list(by_name.values()))
    # Whatever its quality, what needs more memory than there is stays beyond the limit.
    beyond = {one.technique for one in known if is_too_large(one, ask)}
    better = [name for name in advice.better if name not in beyond]
    unknown = [name for name in better if judged[name].loss is None and judged[name].kind == "unknown" and ask.loss is not None]
    said = tr("{} is better by this goal; its quality is {}")
    steps += [said.format(by_name[name]["label"], judged[name].words) for name in unknown]
    for row in by_name.values():
        if row["status"] == NOT_RUN:
            steps.append(tr("{} is not measured yet: {}").format(row["label"], command.run(study_file)))
        elif not is_ranked(row) and row["status"] != "not_engaged":  # which it would not be the next time either
            steps.append(tr("{} has no figures: {}").format(row["label"], tr(STATUSES.get(row["status"], row["status"]))))
    return steps


def _energy_steps(rows: Mapping[str, Mapping], known: Sequence[Option], advice: Advice, ask: Ask) -> list[str]:
    """What would tell more of energy: figures of what has none and could be the best, as what is faster than the choice, and better ones of
    what is estimated and may be."""
    rates = {one.technique: one.rate or 0.0 for one in known}
    least = rates[advice.choice] if advice.choice else 0.0
    missing = tr("{0} is faster and may take less energy, but has no figure of it: {1}")
    if not advice.choice:
        missing = tr("{0} has no figure of its energy: {1}")
    steps = []
    for one in known:
        row = rows[one.technique]
        if one.joule is None and rates[one.technique] > least and not is_too_large(one, ask):
            steps.append(missing.format(row["label"], _why_no_energy(row)))
        elif one.about and one.technique in (advice.choice, *advice.open):
            said = tr("the energy of {0} is an estimate: {1}; raise replies in the study")
            steps.append(said.format(row["label"], row["energy_reason"]))
    return steps


def _why_no_energy(row: Mapping) -> str:
    if not units.is_missing(row["point"]):
        return tr("its energy is that of all sizes together")
    if not units.is_missing(row["shared"]) and row["shared"]:
        return tr("others used the device")
    return row["energy_reason"] or tr("nobody read it")
