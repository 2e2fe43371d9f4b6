"""Says what a technique does, what it needs, and how to measure it.

./speedgrid show TECHNIQUE [--study FILE]
"""

import json
import textwrap
from collections.abc import Iterator, Mapping

from speedgrid import commands, planning, readiness, survey, validation, workload
from speedgrid.report import recipes
from speedgrid.study import StudyError
from speedgrid.techniques import FAMILIES, REQUIREMENTS

WIDTH = 100
NAMED = 4  # studies


def main() -> None:
    arguments = commands.one("show", commands.program()).parse_args()
    try:
        registry = planning.read_study(arguments.study, locked=False)[1] if arguments.study else planning.read_registry()
    except StudyError as error:
        commands.refuse(error)
    if arguments.technique not in registry:
        commands.refuse(f"there is no technique {arguments.technique!r}; {validation.unknown(arguments.technique, registry)}")
    facts = survey.find_facts()
    commands.say("\n".join(described(arguments.technique, registry, facts, users(arguments.technique))))


def described(name: str, registry: Mapping, facts: readiness.Facts, studies: list[str]) -> Iterator[str]:
    """All that the registry and this machine say of a technique; `studies` are the files of those that measure it."""
    entry = registry[name]
    yield f"{name}: {entry['label']}"
    yield from textwrap.wrap(entry["summary"], WIDTH)
    yield ""
    yield readiness.table([(what, text) for what, text in _rows(name, registry, facts) if text])
    yield ""
    if studies:
        more = f" and {len(studies) - NAMED} more" if len(studies) > NAMED else ""
        yield f"Measured by {', '.join(studies[:NAMED])}{more}"
    yield f"In an experiment of your study: {_in_a_study(name, entry)}"
    on_gpu = bool(facts.gpus) or "cuda" in entry.get("requires", [])
    if code := recipes.code(name, registry, "bfloat16" if on_gpu else "float32", "cuda" if on_gpu else "cpu"):
        yield "\nCode that applies it without speedgrid:\n\n" + textwrap.indent(code, "    ")


def _in_a_study(name: str, entry: Mapping) -> str:
    """The lines of an experiment that have a technique: its workload, where that is not the usual one, and what it is compared with."""
    other = {"pytorch": "torch_eager", "attention": "attention_materialised"}.get(entry["engine"], "baseline")
    kinds = [kind for kind in workload.WORKLOADS if workload.takes(kind, entry["engine"])]
    told = [] if workload.DEFAULT in kinds else [f"workload: {kinds[0]}"]
    told += [f"techniques: [{', '.join(dict.fromkeys((other, name)))}]"]
    return ", ".join(told + ([f"baseline: {other}"] if other != "baseline" else []))


def _rows(name: str, registry: Mapping, facts: readiness.Facts) -> Iterator[tuple[str, str]]:
    entry = registry[name]
    state = readiness.state(entry, registry, facts)
    text = dict(readiness.technique_rows({**registry, name: entry}, facts))[name]
    yield "on this machine", text if state != readiness.CANNOT else f"cannot run: {text}"
    yield "needs", ", ".join(REQUIREMENTS[need] for need in entry.get("requires", []))
    yield "family", FAMILIES[entry["family"]]
    yield "engine", entry["engine"]
    envs = entry["env"] if isinstance(entry["env"], Mapping) else {"": entry["env"]}
    yield "environment", ", ".join(f"envs/{env}.yaml{f' ({device})' if device else ''}" for device, env in envs.items())
    yield "options", _listed(entry.get("options"))
    yield "checkpoint", _checkpoint(entry)
    yield "arithmetic", "the model's, but for rounding" if entry.get("lossless") else "not the model's, so look at its quality"
    yield "reference", entry.get("reference", "")


def _checkpoint(entry: Mapping) -> str:
    if "transform" in entry:
        settings = {key: value for key, value in entry["transform"].items() if key != "method"}
        told = f" ({_listed(settings)})" if settings else ""
        return f"made by {entry['transform']['method']}{told}" + (f" from that of {entry['from']}" if "from" in entry else "")
    return f"that of {entry['checkpoint']}" if "checkpoint" in entry else "the model's own"


def _listed(settings: Mapping | None) -> str:
    return ", ".join(f"{key}: {value if isinstance(value, str) else json.dumps(value)}" for key, value in (settings or {}).items())


def users(technique: str) -> list[str]:
    """The files of the studies that measure a technique."""
    found = []
    for name in planning.study_files():
        try:
            study, _, _ = planning.read_study(name, locked=False)
        except StudyError:
            continue
        if any(technique in experiment["techniques"] for experiment in study["experiments"].values()):
            found.append(name)
    return found


if __name__ == "__main__":
    commands.run(main)
