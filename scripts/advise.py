"""Say which technique to take, from what was measured, and what to measure next.

    ./speedgrid advise [--vram GB] [--goal latency|throughput|memory|energy|money] [--max-loss PERCENT|any] [--starts N] [--price P]
                       [--task EXPERIMENT] [--model MODEL] [--gpu GPU] [--json] [--results DIR]

Answers for every device, experiment and model of the results, from measured cells alone, with the rules of the page's guide.

Exits with 0, also where nothing fits; with 2 for a mistake in what was asked.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import cast

from speedgrid import commands, records, study
from speedgrid.report import command
from speedgrid.report.advice import BY_SPEED, GB, GOALS, STARTS_PER, Advice, Ask, next_steps
from speedgrid.report.advised import Guide, outcome
from speedgrid.schema import SUMMARY

TECHNIQUES = Path(__file__).resolve().parent.parent / "techniques.yaml"
AXES = {"gpu": "gpu", "task": "experiment", "model": "model"}


def main() -> int:
    arguments = commands.one("advise").parse_args()
    ask = Ask(arguments.goal, arguments.vram and arguments.vram * GB, arguments.max_loss, arguments.starts, arguments.price)
    try:
        folder = results_folder(Path(arguments.results or "results"))
        found = chosen(groups(records.read(folder / "summary.parquet", SUMMARY).rows), vars(arguments))
    except (records.RecordError, Mistake) as mistake:
        commands.refuse(mistake)
    file, registry, prices = told_by_plan(folder)
    guides = {key: Guide(rows, file, registry, prices.get(key[0])) for key, rows in found.items()}
    if arguments.json:
        told = json.dumps([as_json(key, guide, ask) for key, guide in guides.items()], ensure_ascii=False, allow_nan=False, indent=1)
    elif not guides:
        told = "The study plans no cell, so there is nothing to choose from."
    else:
        told = "\n\n".join("\n".join(as_text(key, guide, ask)) for key, guide in guides.items())
    # Spaces that do not break are for the page.
    commands.say(told.replace("\u00a0", " "))
    return 0


class Mistake(Exception):
    """Something that the user can put right; shown as one line."""


# Reading


def results_folder(path: Path) -> Path:
    """The folder with the summary: the one that is named, or `results` in it. Raises Mistake where there is none."""
    if not path.exists():
        raise Mistake(f"{path}: no such folder; measure something first (./speedgrid run), or name the results with --results DIR")
    if path.name == "summary.parquet" and path.is_file():
        return path.parent
    folder = next((at for at in (path, path / "results") if (at / "summary.parquet").is_file()), None)
    if folder is None:
        raise Mistake(f"{path}: has no summary.parquet; ./speedgrid report makes it of what was measured so far")
    return folder


def groups(rows: Sequence[Mapping]) -> dict[tuple[str, str, str], list[Mapping]]:
    """The rows by gpu, experiment and model, in the order of the plan."""
    found: dict[tuple[str, str, str], list[Mapping]] = {}
    for row in rows:
        found.setdefault((row["gpu"], row["experiment"], row["model"]), []).append(row)
    return found


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


def told_by_plan(folder: Path) -> tuple[str, dict, dict]:
    """The study's file, empty where no plan lies beside the results; the registry, with the techniques of the study's own; and the price of
    an hour of each device that has one."""
    registry = cast(dict, study.read(TECHNIQUES, TECHNIQUES.name))
    try:
        told = json.loads((folder / "plan.json").read_text(encoding="utf-8"))["study"]
        return str(told["study_file"] or ""), {**registry, **told["techniques"]}, dict(told.get("prices", {}))
    except (OSError, ValueError, KeyError, TypeError):
        return "", registry, {}


# Telling


def as_json(key: tuple[str, str, str], guide: Guide, ask: Ask) -> dict:
    ask = guide.priced(ask)
    advice = guide.advise(ask)
    told: dict = dict(zip(("gpu", "experiment", "model"), key, strict=True)) | {"asked": asdict(ask)}
    told |= {"choice": cell_as_json(guide, advice.choice, ask) if advice.choice else None}
    told |= {name: [cell_as_json(guide, one, ask) for one in getattr(advice, name)] for name in ("ties", "open")}
    told["runner_up"] = cell_as_json(guide, advice.runner_up, ask) if advice.runner_up else None
    told["better"] = [cell_as_json(guide, one, ask) | {"beyond": guide.why_not(one, ask)} for one in advice.better]
    told["unknown"] = guide.unknown(ask)
    told["not_measured"] = [{name: row[name] for name in ("technique", "label", "status", "reason")} for row in guide.without_figures]
    return told | {"next": next_steps(guide.rows, advice, ask, command.run(guide.study_file))}


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
        "code": guide.code(technique),
        "command": guide.command(technique),
    }


def as_text(key: tuple[str, str, str], guide: Guide, ask: Ask) -> list[str]:
    ask = guide.priced(ask)
    advice = guide.advise(ask)
    gpu, experiment, model = key
    lines = [f"{model} · {experiment} · {gpu}: {asked(ask)}", *answer(guide, advice, ask)]
    if advice.choice:
        lines += [*(f"  {cost}" for cost in guide.costs(advice.choice)), f"  measured by: {guide.command(advice.choice)}"]
        if code := guide.code(advice.choice):
            lines += ["  the code for it:", *(f"    {line}".rstrip() for line in code.splitlines())]
    if advice.better:
        lines.append("Better by this goal, and beyond a limit:")
        lines += [f"  {named(guide, one, ask)}: {'; '.join(guide.why_not(one, ask))}" for one in advice.better]
    if unknown := guide.unknown(ask):
        lines.append(f"Measured, but not by this goal: {', '.join(map(guide.label, unknown))}.")
    if guide.without_figures:
        lines.append("Without figures, so that nothing is said of them:")
        lines += [f"  {row['label']}: {outcome(row)}" for row in guide.without_figures]
    steps = next_steps(guide.rows, advice, ask, command.run(guide.study_file))
    return lines + (["What could change this answer:", *(f"  {step}" for step in steps)] if steps else [])


def answer(guide: Guide, advice: Advice, ask: Ask) -> list[str]:
    if not advice.choice:
        return [guide.none]
    lines = [f"Take {named(guide, advice.choice, ask)}."]
    if advice.ties:
        lines.append(f"As good: {'; '.join(named(guide, one, ask) for one in advice.ties)}.")
    if advice.open:
        lines.append(f"Perhaps as good, these runs cannot say: {'; '.join(named(guide, one, ask) for one in advice.open)}.")
    if ask.goal in BY_SPEED and not guide.is_surely_faster(advice.choice):
        lines.append("That it is faster than the baseline is not sure.")
    if ask.goal == "energy":
        lines.append("Energy has no interval: what is close may be as good.")
    if advice.runner_up and advice.runner_up not in advice.open:
        lines.append(f"Next: {named(guide, advice.runner_up, ask)}.")
    return lines


def named(guide: Guide, technique: str, ask: Ask) -> str:
    """A technique with its figure by the goal, and its speed-up."""
    amount = guide.amount(technique, ask)
    parts = [guide.figure(amount, ask)] if amount is not None else []
    if speedup := guide.speedup(technique):
        parts.append(f"{speedup} as fast as the baseline" if ask.goal in ("memory", "energy") else speedup)
    return f"{guide.label(technique)}: {', '.join(parts)}"


def asked(ask: Ask) -> str:
    """The question, in words."""
    limits = [GOALS[ask.goal]]
    if ask.budget is not None:
        limits.append(f"within {ask.budget / GB:g} GB")
    limits.append(
        "whatever the quality"
        if ask.loss is None
        else f"at most {100 * ask.loss:g} % worse"
        if ask.loss
        else "no measurable loss of quality"
    )
    if ask.starts:
        limits.append(f"{ask.starts:g} starts in {STARTS_PER:,} replies")
    return ", ".join(limits)


if __name__ == "__main__":
    sys.exit(main())
