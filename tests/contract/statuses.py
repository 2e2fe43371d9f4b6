"""What each technique must end with on a device, as statuses.yaml has it. Pure but for reading that file."""

import re
from collections.abc import Collection, Mapping
from pathlib import Path

import yaml

FILE = Path(__file__).with_name("statuses.yaml")
# What may take the place of a kind of GPU where the machine has it.
TOOLS = ("nvcc",)


def table() -> dict[tuple[str, str, str], object]:
    """The line of each cell, by experiment, model and technique."""
    told = yaml.safe_load(FILE.read_text(encoding="utf-8"))["statuses"]
    return {
        (experiment, model, technique): line
        for experiment, models in told.items()
        for model, techniques in models.items()
        for technique, line in techniques.items()
    }


def outcome(line: object, capability: tuple[int, int] | None, tools: Collection[str] = ()) -> tuple[str, str]:
    """The status that a line names for a device, and a pattern that its reason must hold, empty where none is named.

    `capability`: that of the GPU, None for a processor. Of a GPU's entries the one of the highest capability that it has counts.
    """
    if not isinstance(line, Mapping):
        return _pair(line)
    if capability is None:
        return _pair(line["cpu"])
    found = max((kind for kind in line if kind == "gpu" or _is_of(kind, capability)), key=_rank)
    # A tool helps where the GPU itself is new enough for what needs it: beside the entry for the highest capability.
    newest = max((kind for kind in line if kind not in ("cpu", *TOOLS)), key=_rank)
    tool = next((tool for tool in TOOLS if tool in line and tool in tools and found == newest), None)
    return _pair(line[tool or found])


def wrong(line: object, capability: tuple[int, int] | None, tools: Collection[str], status: str, reason: str) -> str:
    """What of a cell's status and reason is not as its line says; empty where both are."""
    wanted, words = outcome(line, capability, tools)
    if status != wanted:
        return f"{status} in place of {wanted}: {reason}"
    return "" if re.search(words, reason) else f"the reason of {status} has no {words!r}: {reason}"


def environments(entry: Mapping) -> set[str]:
    """Every environment that a technique of the registry may run in."""
    return set(entry["env"].values()) if isinstance(entry["env"], Mapping) else {entry["env"]}


def _pair(line: object) -> tuple[str, str]:
    status, words = (*line, "")[:2] if isinstance(line, list) else (line, "")
    return status, words


def _is_of(kind: str, capability: tuple[int, int]) -> bool:
    return kind.startswith("sm") and _rank(kind) <= 10 * capability[0] + capability[1]


def _rank(kind: str) -> int:
    return int(kind.removeprefix("sm")) if kind.startswith("sm") else 0
