"""The reference of every key of a study as Markdown, from rules/schemas/study.schema.yaml. Pure."""

from collections.abc import Iterator, Mapping

HEAD = """# Study keys

Every key of a study file, from `rules/schemas/study.schema.yaml`. Editors read that, too: a study in `studies/` is checked while it is
written where its first line is `# yaml-language-server: $schema=../rules/schemas/study.schema.yaml`.

"""
WORDS = {
    "integer": "a whole number",
    "number": "a number",
    "string": "text",
    "boolean": "`true` or `false`",
    "object": "keys and values",
    "null": "nothing",
}
TITLES = {
    "": "The study",
    "gpu": "A device",
    "slurm": "Slurm",
    "model": "A model",
    "train": "A model that is trained here",
    "calibration": "Calibration text",
    "experiment": "An experiment",
    "sizes": "Sizes of an architecture",
    "precision": "Replies: auto",
    "sampling": "Sampling",
    "evaluate": "Quality",
    "task": "A task",
}


def document(schema: Mapping) -> str:
    """The whole page."""
    parts = [HEAD, *_section("", schema, schema)]
    for name, part in schema["$defs"].items():
        if part.get("type") == "object":
            parts += _section(name, part, schema)
    return "\n".join(parts)


def _section(name: str, part: Mapping, schema: Mapping) -> Iterator[str]:
    yield f"## {TITLES.get(name, name)} {{#{name or 'study'}}}\n\n{part['description']}\n"
    yield "| key | what it takes | where left out | meaning |\n|---|---|---|---|"
    yield from _rows("", part, schema)
    yield ""


def _rows(above: str, part: Mapping, schema: Mapping) -> Iterator[str]:
    for key, value in part.get("properties", {}).items():
        target = _definition(value, schema)
        told = {**target, **value}
        default = "required" if key in part.get("required", []) else _default(told)
        yield f"| `{above}{key}` | {_cell(_takes(value, schema))} | {_cell(default)} | {_cell(told.get('description', ''))} |"
        inner = value.get("items", value) if value.get("type") == "array" else value
        yield from _rows(f"{above}{key}.", inner, schema)  # what a `$ref` names has a section of its own


def _takes(value: Mapping, schema: Mapping) -> str:
    """What a key may be, in words."""
    if "$ref" in value:
        name = value["$ref"].rpartition("/")[2]
        return f"[keys and values](#{name})" if _definition(value, schema).get("type") == "object" else "a name"
    if "oneOf" in value and not any("required" in form for form in value["oneOf"]):
        return " or ".join(_takes(form, schema) for form in value["oneOf"])
    if "const" in value:
        return f"`{_written(value['const'])}`"
    if "enum" in value:
        return ", ".join(f"`{_written(one)}`" for one in value["enum"])
    kind = value.get("type")
    if kind == "array":
        return f"a list of: {_takes(value['items'], schema)}"
    if kind == "object" and "$ref" in (each := value.get("additionalProperties") or {}):
        return f"names, each with [keys and values](#{each['$ref'].rpartition('/')[2]})"
    return " or ".join(WORDS[one] for one in ([kind] if isinstance(kind, str) else kind or ())) + _limits(value)


def _limits(value: Mapping) -> str:
    least, over, most = (value.get(name) for name in ("minimum", "exclusiveMinimum", "maximum"))
    from_ = f" from {least:,}" if least is not None else f" over {over:,}" if over is not None else ""
    return from_ + (f" to {most:,}" if most is not None else "")


def _default(value: Mapping) -> str:
    return f"`{_written(value['default'])}`" if "default" in value else ""


def _written(value: object) -> str:
    """A value as YAML writes it, on one line."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{key}: {_written(one)}" for key, one in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_written, value)) + "]"
    return '""' if value == "" else str(value)


def _definition(value: Mapping, schema: Mapping) -> Mapping:
    return schema["$defs"][value["$ref"].rpartition("/")[2]] if "$ref" in value else {}


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())
