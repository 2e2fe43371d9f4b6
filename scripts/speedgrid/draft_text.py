"""A first study of a model as YAML, with comments. Pure."""

import json
import re
from collections.abc import Mapping, Sequence

from speedgrid import workload
from speedgrid.drafts import ITEMS, POSITIONS, PROMPT, TEXT_BYTES, WARMUPS, Draft, Source, Wish

PROMPTS = {
    "en": "Explain in a few sentences how a lighthouse can be told from every other light along the coast.",
    "ja": "日本の四季について、短く説明してください。",
}
# Names that YAML reads as text without quotes.
PLAIN = re.compile(r"(?!(?:null|true|false|yes|no|on|off|y|n)\Z)[a-z][a-z0-9._-]*\Z")


def head(source: Source, wish: Wish, schema: str, title: str) -> list[str]:
    """The lines of a study above its experiments."""
    lines = [
        f"# yaml-language-server: $schema={schema}",
        f"# Written by `speedgrid new`: {one_line(source.told)}. Every key is described in rules/schemas/study.schema.yaml.",
        f"study: {plain(source.name)}",
        f"title: {title}",
        *(["# Makes the page Japanese:", "# language: ja"] if "ja" in source.languages else []),
        "seed: 20240331",
        "gpus:",
        *_device(wish),
    ]
    if wish.minutes:
        lines += ["# For further runs of what may be the fastest.", f"budget_minutes: {wish.further_minutes:g}"]
    lines += ["models:"]
    for one in source.models:
        lines += [f"  {plain(one.name)}:", *(f"    {key}: {quoted(value)}" for key, value in one.entry.items())]
    return lines


def plain(name: str) -> str:
    """A name as YAML has it, in quotes where it would read something else."""
    return name if PLAIN.match(name) else quoted(name)


def text(source: Source, draft: Draft, registry: Mapping, wish: Wish, schema: str) -> str:
    """The study as YAML, with comments; `schema` is the path of its schema for editors."""
    language = "ja" if "ja" in source.languages else "en"
    title = f"Which GGUF file of {source.name} to take" if source.forms else f"Speed-up techniques for {source.name}"
    registry = {**registry, **source.forms}
    lines = [*head(source, wish, schema, title), *own_techniques(source)]
    lines += [
        "experiments:",
        f"  {workload.DEFAULT}:",
        f"    models: [{', '.join(plain(one.name) for one in source.models)}]",
        "    # Names of techniques.yaml; `speedgrid list` has all of them, `speedgrid show NAME` says what one does.",
        "    techniques:",
    ]
    lines += [*listed(draft.techniques, registry), *left_out(draft)]
    nearest = "" if source.files or source.forms else "the nearest to the model that fits: "
    lines += [f"    # Baseline: {nearest}{one_line(draft.instead)}."] if draft.instead else []
    lines += [f"    baseline: {draft.techniques[0]}", f"    dtype: {source.dtype}"]
    if source.is_random:
        lines += ["    # Random weights have nothing to say, so that any tokens do.", f"    prompt_tokens: {PROMPT}"]
    else:
        lines += [
            "    # Put a prompt of yours here, with the marks of the model's chat template where it has one.",
            f"    prompt: {quoted(PROMPTS[language])}",
        ]
    lines += [
        f"    replies: {draft.replies}",
        f"    warmup_replies: {WARMUPS}",
        f"    max_new_tokens: {draft.new_tokens}",
        "    ignore_eos: true",
    ]
    lines += ["    # Replies that are made at a time.", f"    batch_size: {draft.batch}"] if draft.batch > 1 else []
    if source.is_random:
        return "\n".join([*lines, "    # The quality of random weights means nothing.", "    evaluate: false"]) + "\n"
    away = " the distance to the unmodified model over it," if draft.is_near else ""
    lines += [
        f"    # Bits per byte of this text,{away} and which of four continuations is the real one.",
        "    evaluate:",
        f"      text: studies/texts/{'japanese' if language == 'ja' else 'english'}.txt",
        f"      max_bytes: {TEXT_BYTES}",
        f"      positions: {POSITIONS if draft.is_near else 0}",
        f"      tasks: [{{task: cloze, limit: {ITEMS}}}]",
    ]
    return "\n".join(lines) + "\n"


def own_techniques(source: Source) -> list[str]:
    """The techniques of a study that are GGUF files of its model."""
    if not source.forms:
        return []
    lines = ["# Each GGUF file as it is, by llama.cpp.", "techniques:"]
    for name, entry in source.forms.items():
        written = {key: entry[key] for key in ("label", "family", "summary", "engine", "env", "transform")}
        written["transform"] = {key: value for key, value in entry["transform"].items() if key != "files"}
        lines += [f"  {plain(name)}:", *(f"    {key}: {quoted(value)}" for key, value in written.items())]
    return lines


def listed(techniques: Sequence[str], registry: Mapping) -> list[str]:
    """The techniques of an experiment, each with its label."""
    width = max(map(len, techniques))
    return [f"      - {name:<{width}}  # {one_line(registry[name]['label'])}" for name in techniques]


def left_out(draft: Draft) -> list[str]:
    """What is not among the techniques of an experiment, and why, as comments."""
    left = [f"    #   {one_line(line)}" for line in draft.told_left_out()]
    return ["    # Left out:", *left] if left else []


def _device(wish: Wish) -> list[str]:
    if not wish.gpu:
        return ["  # Whatever is here: the GPU where there is one, else the CPU.", "  local: {device: auto}"]
    told = "  # The GPU of the machine that runs it; each job checks that this is part of the driver's name of what it got."
    slurm = (
        "  # On a Slurm cluster add to it, with your own names (docs/cluster.md):\n"
        "  # slurm: {partition: gpu, account: mine, gpu_model: a100, nodes: any}"
    )
    return [told, f"  local: {{device: cuda, name: {quoted(wish.gpu)}}}", slurm]


def quoted(value: object) -> str:
    """A value as YAML has it on one line. JSON is YAML but for small and large numbers: YAML 1.1 takes 1e-06 for a text."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{quoted(key)}: {quoted(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(quoted, value)) + "]"
    said = json.dumps(value, ensure_ascii=False)
    return said.replace("e", ".0e") if isinstance(value, float) and "e" in said and "." not in said else said


def one_line(said: str) -> str:
    """A text of others as a comment can hold it."""
    return " ".join("".join(sign if sign.isprintable() else " " for sign in said).split())
