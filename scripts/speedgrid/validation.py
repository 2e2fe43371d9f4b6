"""Holds a value against a JSON schema, fills in its defaults, and says what is wrong in words for the person who wrote it. Pure.

Every keyword that a schema of the project uses has words here; a person never reads those of the library jsonschema.
"""

import copy
import difflib
import functools
import math
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

# What a type of JSON is called.
TYPES = {
    "object": "keys and values",
    "array": "a list",
    "string": "text",
    "integer": "a whole number",
    "number": "a number",
    "boolean": "true or false",
    "null": "nothing",
}
# Characters of a value, and names of a list, that a message shows.
SHOWN, LISTED = 60, 20


class Problem(ValueError):
    """The first thing that is wrong with a value, as `key.key: words`."""


def validated(document: Mapping, schema: Mapping) -> dict:
    """The document with every default of the schema that it leaves out. Raises Problem."""
    filled: dict = _with_defaults(copy.deepcopy(dict(document)), schema, schema)
    found = sorted(_validator()(schema).iter_errors(filled), key=lambda error: list(map(str, error.path)))
    if found:
        raise Problem(_in_words(found[0], schema))
    return filled


def nearest(name: str, known: Iterable[str]) -> list[str]:
    """Those of `known`, two at most, that a mistyped name most likely means; none where none is near."""
    by_lower = {_loose(one): one for one in known}
    found = difflib.get_close_matches(_loose(name), by_lower, n=2, cutoff=0.6)
    alike = [difflib.SequenceMatcher(None, _loose(name), one).ratio() for one in found]
    return [by_lower[one] for one, ratio in zip(found, alike, strict=True) if ratio > max(alike) - 0.1]


def unknown(name: str, known: Iterable[str]) -> str:
    """What to say after an unknown name: those that may have been meant, or what there is."""
    known = list(known)
    meant = nearest(name, known)
    if meant:
        return f"did you mean {' or '.join(meant)}?"
    more = [f"{len(known) - LISTED} more"] if len(known) > LISTED else []
    return f"allowed are {', '.join([*known[:LISTED], *more])}" if known else "none is allowed here"


def _loose(name: str) -> str:
    return name[:SHOWN].lower().replace("-", "_")


def shown(value: object) -> str:
    """A value as a message shows it, on one line and not too long."""
    text = "nothing" if value is None else _as_written(value) if isinstance(value, bool) else repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"


def kind(value: object) -> str:
    """What a value is, in words, and the value itself where it is a short one."""
    kinds = {type(None): "nothing", bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list"}
    return kinds.get(type(value), "keys and values") + (f" ({shown(value)})" if isinstance(value, int | float | str) else "")


@functools.cache
def _validator():
    """jsonschema's validator with numbers as studies have them (1.0 is no whole number, true is none at all), and with patterns whose `$`
    is the end of the text, as JSON Schema has it, and not also the place before a last line feed, as Python has it."""
    from jsonschema import Draft202012Validator, ValidationError
    from jsonschema.validators import extend

    def pattern(validator, value, instance, schema):
        if isinstance(instance, str) and not re.search(re.sub(r"(?<!\\)\$", r"\\Z", value), instance):
            yield ValidationError(f"{instance!r} does not match {value!r}")

    types = Draft202012Validator.TYPE_CHECKER.redefine_many(
        {
            "integer": lambda checker, value: isinstance(value, int) and not isinstance(value, bool),
            "number": lambda checker, value: isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value),
        }
    )
    return extend(Draft202012Validator, {"pattern": pattern}, type_checker=types)


def _with_defaults(value: Any, schema: Mapping, root: Mapping) -> Any:
    """`value` with every default of `schema` that it leaves out; wrong types are left for the validator to name."""
    if "$ref" in schema:
        schema = {**_resolved(schema, root), **schema}
    if "oneOf" in schema and isinstance(value, Mapping):
        objects = [_resolved(option, root) for option in schema["oneOf"]]
        schema = {**next((option for option in objects if option.get("type") == "object"), {}), **schema}
    if isinstance(value, list) and isinstance(schema.get("items"), Mapping):
        return [_with_defaults(item, schema["items"], root) for item in value]
    if not isinstance(value, dict):
        return value
    for key, child in schema.get("properties", {}).items():
        default = _resolved(child, root).get("default", child.get("default"))
        if key not in value and default is not None:
            value[key] = copy.deepcopy(default)
    for key in value:
        child = schema.get("properties", {}).get(key, schema.get("additionalProperties"))
        if isinstance(child, Mapping):
            value[key] = _with_defaults(value[key], child, root)
    return value


def _resolved(schema: Mapping, root: Mapping) -> Mapping:
    return root["$defs"][schema["$ref"].rpartition("/")[2]] if "$ref" in schema else schema


def _in_words(problem, root: Mapping) -> str:
    """One line for a validation error of jsonschema: key, problem, what is allowed."""
    problem = _innermost(problem, root)
    key = ".".join(map(str, problem.absolute_path))
    return (f"{key}: " if key else "") + WORDS[problem.validator](problem, root)


def _innermost(problem, root: Mapping):
    """Of a value that may have several forms, the error inside of the one that takes such a value: it tells most about what is wrong."""
    while problem.validator == "oneOf" and not _keys_of_forms(problem, root):
        others = {error.schema_path[0] for error in problem.context if not error.path and error.validator in ("type", "const", "required")}
        inside = [error for error in problem.context if error.schema_path[0] not in others]
        if not inside:
            break
        problem = inside[0]
    return problem


def _keys_of_forms(problem, root: Mapping) -> list[str]:
    """The keys that tell the forms of a value apart, where keys do: each form has one."""
    required = [_resolved(option, root).get("required", []) for option in problem.validator_value]
    return [name for names in required for name in names] if all(required) else []


def _of_type(problem, root: Mapping) -> str:
    wanted, value = problem.validator_value, problem.instance
    names = [wanted] if isinstance(wanted, str) else wanted
    return f"expected {' or '.join(TYPES[name] for name in names)}, found {kind(value)}{_instead(names, value)}"


def _instead(wanted: list[str], value: object) -> str:
    """What to write for a value of the wrong type, where one can see what was meant."""
    if isinstance(value, str) and {"integer", "number"} & set(wanted):
        number = _number(value)
        if number is None or (number != int(number) and "number" not in wanted):
            return ""
        return f"; write {int(number)}" if number == int(number) else f"; write {_with_point(number)}"
    if isinstance(value, float) and "integer" in wanted and value == int(value):
        return f"; write {int(value)}"
    if isinstance(value, bool | int | float) and "string" in wanted:
        return "; put it in quotes"
    if isinstance(value, str) and "array" in wanted:
        return f"; write [{shown(value)[1:-1]}]"
    return ""


def _number(text: str) -> float | None:
    """The number that a text means; None where it means none. `30%` means 0.3."""
    try:
        number = float(text.strip().removesuffix("%")) / (100 if text.strip().endswith("%") else 1)
    except ValueError:
        return None
    return number if abs(number) < 2**53 else None


def _with_point(number: float) -> str:
    """A number as YAML reads it: one with an exponent needs a point too."""
    text = repr(number)
    return text if "e" not in text or "." in text else text.replace("e", ".0e")


def _of_unknown_key(problem, root: Mapping) -> str:
    own = problem.schema.get("properties", {})
    name = min(set(map(str, problem.instance)) - set(own))
    beside = "" if len(set(problem.instance) - set(own)) == 1 else f" (and {len(set(problem.instance) - set(own)) - 1} more)"
    elsewhere = [] if name in own or nearest(name, own) else places(name, root)
    name = name if name.isprintable() and name.strip() else repr(name)
    if elsewhere:
        return f"unknown key {name}{beside}; it is a key of {' and of '.join(elsewhere[:2])}"
    return f"unknown key {name}{beside}; {unknown(name, own)}"


def places(name: str, schema: Mapping) -> list[str]:
    """Where in a schema there is a key `name`, as the paths of what has it; NAME stands for names of the study's own."""
    found = []

    def walk(node: Mapping, at: tuple[str, ...]) -> None:
        node = {**_resolved(node, schema), **node}
        if name in node.get("properties", {}) and at:
            found.append(".".join(at))
        for key, child in node.get("properties", {}).items():
            walk(child, (*at, key))
        if isinstance(node.get("additionalProperties"), Mapping):
            walk(node["additionalProperties"], (*at, "NAME"))
        for option in node.get("oneOf", ()):
            walk(option, at)

    walk(schema, ())
    return list(dict.fromkeys(found))


def _described(problem, name: str) -> str:
    """What a key of the schema is, for one who left it out."""
    text = problem.schema.get("properties", {}).get(name, {}).get("description", "")
    return f": {text[0].lower()}{text[1:].rstrip('.')}" if text else ""


def _of_missing(problem, root: Mapping) -> str:
    missing = [name for name in problem.validator_value if name not in problem.instance]
    return f"needs the key {', '.join(missing)}" + (_described(problem, missing[0]) if len(missing) == 1 else "")


def _of_dependent(problem, root: Mapping) -> str:
    for given, wanted in problem.validator_value.items():
        missing = [name for name in wanted if given in problem.instance and name not in problem.instance]
        if missing:
            return f"needs the key {missing[0]} beside {given}{_described(problem, missing[0])}"
    raise AssertionError("nothing is missing")


def _of_pattern(problem, root: Mapping) -> str:
    return f"{shown(problem.instance)} is not allowed; {problem.schema['patternErrorMessage']}"


def _of_enum(problem, root: Mapping) -> str:
    allowed = [_as_written(value) for value in problem.validator_value]
    quoted = " (in quotes: YAML reads on, off, yes and no as true and false)" if isinstance(problem.instance, bool) else ""
    return f"{shown(problem.instance)} is not allowed; allowed are {', '.join(allowed)}{quoted}"


def _as_written(value: object) -> str:
    """A value as it stands in YAML."""
    return str(value).lower() if isinstance(value, bool) else str(value)


def _of_duplicates(problem, root: Mapping) -> str:
    twice = next(item for number, item in enumerate(problem.instance) if item in problem.instance[:number])
    return f"{shown(twice)} is there twice"


def _of_one_of(problem, root: Mapping) -> str:
    options = [{**_resolved(option, root), **option} for option in problem.validator_value]
    keys = _keys_of_forms(problem, root)
    if keys and isinstance(problem.instance, Mapping):
        given = [name for name in keys if name in problem.instance]
        return f"needs exactly one of {', '.join(keys)}; it has {' and '.join(given) if given else 'none'}"
    named = [_as_written(option["const"]) if "const" in option else TYPES[option.get("type", "object")] for option in options]
    hint = _instead([option["type"] for option in options if "type" in option], problem.instance)
    return f"{shown(problem.instance)} is not allowed; allowed is {' or '.join(named)}{hint}"


def _of_limit(words: str) -> Callable:
    return lambda problem, root: f"{shown(problem.instance)} is {words} {problem.validator_value:,}"


def _of_count(words: str, unit: str) -> Callable:
    return lambda problem, root: f"has {len(problem.instance)} {unit}; {words} is {problem.validator_value}"


def _of_emptiness(problem, root: Mapping) -> str:
    return "must not be empty" if not problem.instance else f"has {len(problem.instance)}; the least is {problem.validator_value}"


WORDS: Mapping[str, Callable] = {
    "type": _of_type,
    "additionalProperties": _of_unknown_key,
    "required": _of_missing,
    "dependentRequired": _of_dependent,
    "pattern": _of_pattern,
    "enum": _of_enum,
    "const": lambda problem, root: f"{shown(problem.instance)} is not allowed; allowed is {_as_written(problem.validator_value)}",
    "oneOf": _of_one_of,
    "uniqueItems": _of_duplicates,
    "minimum": _of_limit("too small; the least is"),
    "exclusiveMinimum": _of_limit("too small; it must be more than"),
    "maximum": _of_limit("too large; the most is"),
    "exclusiveMaximum": _of_limit("too large; it must be less than"),
    "multipleOf": _of_limit("not allowed; it must be a multiple of"),
    "minLength": _of_emptiness,
    "minItems": _of_emptiness,
    "minProperties": _of_emptiness,
    "maxLength": _of_count("the most", "characters"),
    "maxItems": _of_count("the most", "items"),
    "maxProperties": _of_count("the most", "keys"),
}
