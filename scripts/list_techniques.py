"""Lists the techniques of the registry with whether this machine can run each, the studies, or the cells of one.

./speedgrid list [--ready | --studies | --cells [--study FILE]]
"""

import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

from speedgrid import commands, planning, readiness, survey
from speedgrid.study import StudyError, check_devices
from speedgrid.techniques import FAMILIES

# Targets that are more than a file.
TARGETS = {
    "all": "all cells and the page",
    "prepare": "what is downloaded, and nothing that is measured",
    "report_so_far": "the page of what is measured",
}
WORDS = {readiness.READY: "ready", readiness.NEEDS: "need something installed", readiness.CANNOT: "cannot run on this machine"}


def main() -> None:
    arguments = commands.one("list", commands.program()).parse_args()
    if arguments.study and not arguments.cells:
        commands.refuse("--study goes with --cells; the techniques and studies are the same for all")
    if (arguments.studies or (arguments.cells and not arguments.study)) and (line := planning.passed_over()):
        print(line, file=sys.stderr)
    try:
        if arguments.cells:
            commands.say("\n".join(of_cells(arguments.study or planning.default_study())))
            return
        registry = planning.read_registry()
    except StudyError as error:
        commands.refuse(error)
    facts = survey.find_facts()
    lines = of_studies(registry, facts) if arguments.studies else of_techniques(registry, facts, arguments.ready)
    commands.say("\n".join(lines))


# Techniques


def of_techniques(registry: Mapping, facts: readiness.Facts, only_ready: bool) -> Iterator[str]:
    """A line for each technique, by family, and one that counts them."""
    states = {name: readiness.state(entry, registry, facts) for name, entry in registry.items()}
    texts = dict(readiness.technique_rows(registry, facts))
    width = max(map(len, registry))
    for family, title in FAMILIES.items():
        own = [name for name, entry in registry.items() if entry["family"] == family]
        shown = [name for name in own if states[name] == readiness.READY or not only_ready]
        if shown:
            yield f"{title}"
            yield from (f"  {name:<{width}}  {states[name]:<6}  {_said(registry[name], states[name], texts[name])}" for name in shown)
            yield ""
    counts = Counter(states.values())
    yield f"{len(registry)} techniques: " + ", ".join(f"{counts[state]} {words}" for state, words in WORDS.items() if counts[state])
    yield f"{commands.program()} show TECHNIQUE says what one does and how to measure it."


def _said(entry: Mapping, state: str, text: str) -> str:
    """The name of a technique in the report, and what is to be said of it here besides its state."""
    label = entry["label"]
    return f"{label} {text.removeprefix('ready').strip()}".rstrip() if state == readiness.READY else f"{label}: {text}"


# Studies


def of_studies(registry: Mapping, facts: readiness.Facts) -> Iterator[str]:
    """For each study the file as `--study` takes it, its title, and whether it can run here."""
    for name in planning.study_files():
        yield name
        try:
            file = planning.default_study() if name == planning.DEFAULT_STUDY else name
            study, _, where = planning.read_study(file, locked=False)
            yield f"  {study['title']}"
            yield f"  {_size(study)}"
            yield f"  {_here(study, registry, facts, where)}"
        except StudyError as error:
            yield f"  cannot be read: {error}"
        yield ""
    yield f"{commands.program()} run --study FILE measures one; {commands.program()} run the first."


def _size(study: Mapping) -> str:
    experiments = study["experiments"].values()
    techniques = {name for experiment in experiments for name in experiment["techniques"]}
    return f"{_counted(study['models'], 'model')}, {_counted(techniques, 'technique')}, {_counted(experiments, 'experiment')}"


def _counted(things, one: str) -> str:
    return f"{len(things)} {one}" + ("" if len(things) == 1 else "s")


def _here(study: Mapping, registry: Mapping, facts: readiness.Facts, where: str) -> str:
    try:
        check_devices(study["gpus"], [gpu.name for gpu in facts.gpus], where)
    except StudyError as error:
        return f"cannot run here: {str(error).removeprefix(f'{where}: ')}"
    problems = readiness.study_problems(study, registry, facts)
    return f"cannot run here: {'; '.join(problems)}" if problems else "can run here"


# Cells


def of_cells(study_file: str | Path) -> Iterator[str]:
    """What can be named after `--` of a run: each cell of the study, and the targets that are more than one file."""
    grid = planning.read_grid(study_file)
    yield f"Cells of {'the default study' if commands.is_default(grid.study_file) else grid.study_file}"
    width = max(len(cell.measures[0]) for cell in grid.cells)
    for cell in grid.cells:
        label = grid.registry[cell.technique]["label"]
        yield f"  {cell.measures[0]:<{width}}  {label}" + (": cannot run here" if cell.cannot_run else "")
    yield ""
    yield "Besides"
    yield from (f"  {name:<{width}}  {what}" for name, what in TARGETS.items())
    yield ""
    yield f"{commands.to_run(grid.study_file, grid.cells[0].measures[0])} makes one; without `--` all is made."


if __name__ == "__main__":
    commands.run(main)
