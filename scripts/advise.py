"""Say which technique to take, from what was measured, and what to measure next.

    ./speedgrid advise [--vram GB] [--goal latency|throughput|memory|energy|money] [--max-loss PERCENT|any] [--starts N] [--price P]
                       [--task EXPERIMENT] [--model MODEL] [--gpu GPU] [--json] [--results DIR ...]

Answers for every device, experiment and model of the results, which may lie in several folders, from measured cells alone, with the rules
of the page's guide.

Exits with 0, also where nothing fits; with 2 for a mistake in what was asked.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import cast

from speedgrid import commands, files, planning, records, standing, study
from speedgrid.known import GB, usable
from speedgrid.report import catalogues, language, machines
from speedgrid.report.advice import BY_SPEED, STARTS_PER, Advice, Ask, between_gpus, uneven
from speedgrid.report.advised import (
    FITS,
    Guide,
    against_baseline,
    as_fast,
    by_size,
    doubts,
    figure_in_words,
    gain,
    goal,
    guide_of,
    no_code,
    outcome,
    seeks_largest,
    sure,
    uneven_ratios,
)
from speedgrid.report.language import tr
from speedgrid.report.questions import next_steps
from speedgrid.report.together import Told, labels, together, without_plan
from speedgrid.schema import GROUP, RUNS, SUMMARY, by_group
from speedgrid.workload import PLURALS

TECHNIQUES = Path(__file__).resolve().parent.parent / "techniques.yaml"
AXES = {"gpu": "gpu", "task": "experiment", "model": "model"}


def main() -> int:
    arguments = commands.one("advise").parse_args()
    ask = Ask(arguments.goal, arguments.vram and usable(arguments.vram), arguments.max_loss, arguments.starts, arguments.price)
    try:
        told_of = read(results_of(arguments.results or ["results"]))
        found = chosen(by_group(told_of.summary), vars(arguments))
    except (records.RecordError, Mistake) as mistake:
        commands.refuse(mistake)
    here = told_of.study if arguments.results is None else {}
    state = str(here.get("study_sha256") or ""), str(here.get("study_file") or "")
    registry = cast(dict, study.read(TECHNIQUES, TECHNIQUES.name))
    runs = by_group(machines.measuring(told_of.runs))
    guides = {key: guide_of(rows, told_of.study, registry, runs.get(key, ())) for key, rows in found.items()}
    if arguments.json:
        # For programs, in English whatever the language of the study is.
        groups_told = [as_json(key, guide, ask) for key, guide in guides.items()]
        with_notes = [group | {"notes": edited(*state) + group["notes"]} for group in groups_told]
        told = json.dumps(with_notes, ensure_ascii=False, allow_nan=False, indent=1)
    else:
        with language.spoken(catalogues.of_study(told_of.study)):
            told = "\n\n".join([*edited(*state), in_words(guides, ask)])
    # Spaces that do not break are for the page.
    commands.say(told.replace("\u00a0", " "))
    return 0


class Mistake(Exception):
    """Something that the user can put right; shown as one line."""


# Reading


def results_of(names: Sequence[str]) -> list[Path]:
    """The folders of the results that are named, of which each may hold several: those with a summary, or with `results` that has one.
    Raises Mistake for what is none."""
    for name in names:
        if not Path(name).exists():
            measure = f"measure something first ({commands.program()} run), or name the results with --results DIR"
            raise Mistake(f"{name}: no such folder; {measure}")
    paths = [path.parent if path.name == "summary.parquet" and path.is_file() else path for path in map(Path, names)]
    found = files.results_in(paths)
    for path in found:
        if files.summary_of(path) is None:
            raise Mistake(f"{path}: has no summary.parquet; {commands.program()} report makes it of what was measured so far")
    return found


def read(found: Sequence[Path]) -> Told:
    """What the results in these folders say, as one: several devices of one name are told apart as on the page of all of them."""
    sides = [_read(path) for path in found]
    return sides[0] if len(sides) == 1 else together(list(zip(labels(found), sides, strict=True)))


def _read(path: Path) -> Told:
    """The summary and the runs of one folder, and what the plan beside it says of the study, or else its jobs."""
    at = cast(Path, files.summary_of(path))
    rows, jobs = records.read(at, SUMMARY).rows, at.with_name("runs.parquet")
    runs = records.read(jobs, RUNS).rows if jobs.is_file() else ()
    known = without_plan(path.name, rows, runs)
    try:
        told = json.loads((at.parent / "plan.json").read_text(encoding="utf-8"))["study"]
        return Told(known | told | {"techniques": {**told["techniques"]}, "prices": {**told.get("prices", {})}}, rows, runs)
    except (OSError, ValueError, KeyError, TypeError):
        return Told(known, rows, runs)


def chosen(found: dict, wanted: Mapping) -> dict:
    """Those groups that the user asks about. Raises Mistake for a name that no group has."""
    for place, (option, axis) in enumerate(AXES.items()):
        name = wanted[option]
        there = dict.fromkeys(key[place] for key in found)
        if name is None:
            continue
        found = {key: rows for key, rows in found.items() if key[place] == name}
        if not found:
            raise Mistake(f"--{option} {name}: the results have no such {axis}; there is {', '.join(there) or 'none'}")
    return found


def edited(sha256: str, file: str) -> list[str]:
    """A note where the study was edited since the results here, or cannot be read; none where it is the same, or not known."""
    if not (sha256 and file):
        return []
    try:
        is_same = planning.study_hash(file) == sha256
    except study.StudyError as error:
        return [tr(standing.STUDY_UNREAD).format(error)]
    return [] if is_same else [tr(standing.STUDY_EDITED).format(file)]


# Telling


def in_words(guides: Mapping[tuple[str, str, str], Guide], ask: Ask) -> str:
    if not guides:
        return tr("The study plans no cell, so there is nothing to choose from.")
    return "\n\n".join("\n".join(as_text(key, guide, ask)) for key, guide in guides.items())


def as_json(key: tuple[str, str, str], guide: Guide, ask: Ask) -> dict:
    if seeks_largest(guide.rows):
        return sizes_as_json(key, guide)
    ask = guide.priced(ask)
    advice = guide.advise(ask)
    told: dict = dict(zip(GROUP, key, strict=True)) | {"asked": asdict(ask)}
    told |= {"choice": cell_as_json(guide, advice.choice, ask) if advice.choice else None}
    told |= {name: [cell_as_json(guide, one, ask) for one in getattr(advice, name)] for name in ("ties", "open")}
    told["runner_up"] = cell_as_json(guide, advice.runner_up, ask) if advice.runner_up else None
    told["better"] = [
        cell_as_json(guide, one, ask) | {"beyond": guide.why_not(one, ask), "doubts": doubts(advice, one)} for one in advice.better
    ]
    told["unknown"] = guide.unknown(ask)
    told["uneven"] = [row["technique"] for row in uneven(guide.rows)]
    told["between_gpus"] = [row["technique"] for row in between_gpus(guide.rows, guide.apart)]
    told["not_measured"] = [{name: row[name] for name in ("technique", "label", "status", "reason")} for row in guide.without_figures]
    told["notes"] = standing.sentences(guide.rows)
    return told | {"next": next_steps(guide.rows, advice, ask, guide.study_file)}


def cell_as_json(guide: Guide, technique: str, ask: Ask) -> dict:
    row, option = guide.by_name[technique], guide.option(technique)
    figures = {name: row[name] for name in ("speedup", "speedup_low", "speedup_high", "verdict")}
    return {
        "technique": technique,
        "label": row["label"],
        "figure": guide.amount(technique, ask),
        **figures,
        "quality": asdict(guide.qualities[technique]),
        "needs_bytes": option.needs,
        "start_s": option.start,
        "joule_per_item": option.joule,
        "joule_is_estimate": option.about,
        "code": guide.code(technique),
        "command": guide.command(technique),
    }


def as_text(key: tuple[str, str, str], guide: Guide, ask: Ask) -> list[str]:
    if seeks_largest(guide.rows):
        return sizes_as_text(key, guide)
    ask = guide.priced(ask)
    advice = guide.advise(ask)
    gpu, experiment, model = key
    lines = [f"{model} · {experiment} · {gpu}: {asked(ask, guide)}", *answer(guide, advice, ask)]
    if advice.choice:
        lines += [*(f"  {cost}" for cost in guide.costs(advice.choice)), tr("  measured by: {}").format(guide.command(advice.choice))]
        lines += code(guide, advice.choice)
    if advice.better:
        lines.append(tr("Better by this goal, but beyond a limit:"))
        told = [(one, [*guide.why_not(one, ask), *doubts(advice, one)]) for one in advice.better]
        lines += [f"  {named(guide, one, ask)}: {'; '.join(words)}" for one, words in told]
    if unknown := guide.unknown(ask):
        lines.append(tr("Measured, but without a figure for this goal: {}.").format(tr(", ").join(map(guide.label, unknown))))
    lines += left_out(guide)
    lines += [*notes(guide), *uneven_ratios(guide)]
    steps = next_steps(guide.rows, advice, ask, guide.study_file)
    return lines + ([tr("What could change this answer:"), *(f"  {step}" for step in steps)] if steps else [])


def left_out(guide: Guide) -> list[str]:
    """The cells without figures, each with the reason."""
    told = [f"  {row['label']}: {outcome(row)}" for row in guide.without_figures]
    return [tr("Left out of this answer:"), *told] if told else []


def sizes_as_json(key: tuple[str, str, str], guide: Guide) -> dict:
    sizes = [{name: row[name] for name in ("technique", "label", "grows", "largest")} for row in by_size(guide.rows)]
    told = [size | {"code": guide.code(size["technique"]), "command": guide.command(size["technique"])} for size in sizes]
    return dict(zip(GROUP, key, strict=True)) | {"largest": told, "notes": standing.sentences(guide.rows)}


def sizes_as_text(key: tuple[str, str, str], guide: Guide) -> list[str]:
    """What fits, of a study that looks for the largest size: the goals of `advise` do not apply to it."""
    gpu, experiment, model = key
    lines = [f"{model} · {experiment} · {gpu}"]
    if not (rows := by_size(guide.rows)):
        return [*lines, guide.none, *notes(guide)]
    first = rows[0]
    sizes = tr(", ").join(f"{row['label']} {row['largest']:,}" for row in rows)
    lines.append(tr(FITS[first["grows"]]).format(sizes))
    lines += code(guide, first["technique"])
    lines += left_out(guide)
    return lines + notes(guide)


def code(guide: Guide, technique: str) -> list[str]:
    """The code that applies a technique, or that it is not known."""
    if not (found := guide.code(technique)):
        return [f"  {no_code(guide, technique)}"]
    return [tr("  the code for it:"), *(f"    {line}".rstrip() for line in found.splitlines())]


def notes(guide: Guide) -> list[str]:
    """What of a group is of older code or environments, or left out because it is of other settings."""
    return [tr(text).format(*values) for text, values in standing.notes(guide.rows)]


def answer(guide: Guide, advice: Advice, ask: Ask) -> list[str]:
    if not advice.choice:
        return [guide.none]

    def told(techniques: Sequence[str]) -> str:
        return "; ".join(named(guide, one, ask) for one in techniques)

    lines = [tr("Take {0}: {1}.").format(guide.label(advice.choice), in_figures(guide, advice.choice, ask, said=True))]
    if advice.ties:
        lines.append(tr("As good: {}.").format(told(advice.ties)))
    if advice.open:
        lines.append(tr("Perhaps as good; these runs do not decide it: {}.").format(told(advice.open)))
    if ask.goal in BY_SPEED and (beside := against_baseline(guide, advice.choice)):
        lines.append(beside)
    if ask.goal == "energy" or (ask.goal == "memory" and advice.open):
        lines.append(sure(guide, ask.goal))
    if advice.runner_up and advice.runner_up not in advice.open:
        lines.append(tr("Next: {}.").format(told([advice.runner_up])))
    return lines


def named(guide: Guide, technique: str, ask: Ask) -> str:
    """A technique with its figure by the goal, and how fast it is over the baseline."""
    return f"{guide.label(technique)}: {in_figures(guide, technique, ask)}"


def in_figures(guide: Guide, technique: str, ask: Ask, said: bool = False) -> str:
    """Its figure by the goal, and how fast it is over the baseline: in words where that is to be said, or where the goal is no speed."""
    parts = [amount] if (amount := figure_in_words(guide, technique, ask)) else []
    if ratio := gain(guide, technique, ask):
        parts.append(as_fast(ratio) if said or ask.goal not in BY_SPEED else ratio)
    return tr(", ").join(parts)


def asked(ask: Ask, guide: Guide) -> str:
    """The question, in words."""
    limits = [goal(ask.goal, [guide.noun], [guide.unit])]
    if ask.budget is not None:
        limits.append(tr("within {} GB").format(f"{ask.budget / GB:g}"))
    if ask.loss:
        limits.append(tr("at most {} % worse").format(f"{100 * ask.loss:g}"))
    else:
        limits.append(tr("whatever the quality") if ask.loss is None else tr("no measurable loss of quality"))
    if ask.starts:
        limits.append(
            tr("{} start in {} {}" if ask.starts == 1 else "{} starts in {} {}").format(
                f"{ask.starts:g}", f"{STARTS_PER:,}", tr(PLURALS[guide.noun])
            )
        )
    return tr(", ").join(limits)


if __name__ == "__main__":
    commands.run(main)
