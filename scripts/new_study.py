"""Writes a first study of a model: studies/NAME.yaml, with the techniques that this machine can run and that fit.

./speedgrid new MODEL | --shape NAME [--goal GOAL] [--vram GB] [--gpu NAME] [--minutes N] [--all] [--yes]
"""

import argparse
import sys
from dataclasses import replace
from pathlib import Path

from speedgrid import (
    commands,
    dialogue,
    draft_text,
    drafts,
    foreseen,
    hardware,
    known,
    planning,
    readiness,
    records,
    sources,
    survey,
    training_drafts,
)
from speedgrid.drafts import Source, Wish
from speedgrid.study import StudyError

SCHEMA = "rules/schemas/study.schema.yaml"
# Minutes of a study that takes long.
LONG = 45


def main() -> None:
    arguments = commands.one("new", commands.program()).parse_args()
    try:
        if dialogue.is_possible() and not arguments.yes:
            write(arguments, dialogue.ask(arguments, sources.find))
        else:
            write(arguments, sources.find(arguments))
    except (StudyError, ValueError) as error:
        commands.refuse(error)
    except EOFError:
        print(file=sys.stderr)
        commands.refuse("nothing was answered, and nothing written; give the model and --yes to be asked nothing")
    except KeyboardInterrupt:
        print("\nspeedgrid: stopped; nothing was written", file=sys.stderr)
        sys.exit(commands.STOPPED)


def write(arguments: argparse.Namespace, source: Source) -> None:
    trains = training_drafts.is_meant(arguments.workload, source)
    if trains and source.files:
        raise StudyError("training starts from one model; name one of the files")
    if trains and arguments.goal:
        raise StudyError("--goal chooses among techniques for replies; a study of training has all that run here and fit")
    registry = planning.read_registry()
    facts = elsewhere(survey.find_facts(), arguments.gpu, arguments.vram) if arguments.gpu else survey.find_facts()
    machine = foreseen.machine(bool(facts.gpus), () if arguments.gpu else facts.makeable, arguments.gpu or "")
    wish = Wish(
        goal=arguments.goal or Wish.goal,
        vram=room_of(arguments.vram, machine.is_gpu) if arguments.vram else 0,
        minutes=arguments.minutes or 0,
        all=arguments.all,
        # 0: as many as are usual in training.
        batch=arguments.batch or (0 if trains else 1),
        gpu=arguments.gpu or "",
        techniques=arguments.techniques or (),
    )

    def lacks(name: str) -> str:
        lacking = readiness.needs(registry[name], facts, readiness.makers(registry[name], registry))
        return f"needs {', '.join(lacking)}" if lacking else ""

    if source.files and sources.is_one_model(source.files):
        source = replace(drafts.one_of(source.files, registry, machine, wish), name=source.name, told=source.told)
    schema = f"{'../' if (Path.cwd() / SCHEMA).exists() else f'{planning.ROOT}/'}{SCHEMA}"
    made: drafts.Draft
    if trains:
        made = steps = training_drafts.draft(source, registry, machine, wish, lacks)
        content = training_drafts.text(source, steps, registry, wish, schema)
    else:
        made = drafts.draft(source, registry, machine, wish, lacks)
        content = draft_text.text(source, made, registry, wish, schema)
    path = study_of(source)
    if path.exists() and not arguments.force:
        raise StudyError(f"{path} is there already; --force writes it anew, --name NAME writes another one")
    path.parent.mkdir(exist_ok=True)
    with records.replacing(path) as temporary:
        temporary.write_text(content, encoding="utf-8")
        try:
            grid = planning.read_grid(temporary)
        except StudyError as error:
            raise StudyError(str(error).replace(str(temporary), str(path))) from None
    commands.say("\n".join(summary(path, source, made, grid, wish)))


def room_of(vram: float, is_gpu: bool) -> float:
    """Bytes that a technique can use of a card that is sold with `vram` GB; on a processor all of them."""
    return known.allocatable(vram) if is_gpu else known.usable(vram)


def elsewhere(facts: readiness.Facts, gpu: str, vram: float | None) -> readiness.Facts:
    """The facts of another machine, of which only the GPU is known: else as this one, with nothing made yet. Raises StudyError."""
    one_here = next((one for one in facts.gpus if gpu.lower() in one.name.lower()), None)
    if not vram and one_here is None:
        raise StudyError(f"--gpu {gpu}: say its memory too, such as --vram 8")
    capability = known.of_name(gpu).capability if one_here is None else one_here.compute_capability
    meant = hardware.Gpu(gpu, "", "", int(known.usable(vram or 0)), capability)
    return replace(facts, gpus=[meant], made=frozenset())


def study_of(source: Source) -> Path:
    """The study of a model."""
    return Path("studies") / f"{source.name}.yaml"


def summary(path: Path, source: Source, made: drafts.Draft, grid, wish: Wish) -> list[str]:
    """What was written, what it takes, and what to do next."""
    lines = [f"{path}: {source.told}", f"  measures  {', '.join(made.techniques)}"]
    lines += [f"  passes    {', '.join(made.passes)}"] if made.passes else []
    lines += [f"  baseline  {made.techniques[0]}: {made.instead}"] if made.instead else []
    lines += [f"  left out  {line}" for line in made.told_left_out()]
    if wish.vram and not any(cell.on_gpu for cell in grid.cells):
        asked = f"{wish.vram / known.GB:g}"
        lines.append(f"  --vram    {asked} GB of this machine's own memory, as it has no GPU; of a card: --gpu NAME --vram {asked}")
    lines += foreseen.said(grid)
    if made.seconds > wish.most_s:
        lines.append(f"  minutes   more than the {wish.minutes:g} asked for: {' and '.join(made.techniques)} alone take longer")
    if not wish.minutes and made.seconds > 60 * LONG:
        lines.append("  shorter   --minutes 20 --force writes it anew, with the techniques that tell most in that time")
    if wish.gpu:
        where = " and the model in the same place" if any({"local", "gguf"} & set(one.entry) for one in source.models) else ""
        return [*lines, f"On the machine with the {wish.gpu}, with this file{where}: {commands.program()} run --study {path}"]
    return [*lines, f"{commands.program()} run --study {path} measures it; with -n it only shows what would run."]


if __name__ == "__main__":
    commands.run(main)
