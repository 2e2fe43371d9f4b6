"""Values against JSON schemas: defaults, and words for every keyword that a schema of the project uses."""

import inspect
import re

import pytest
from speedgrid import validation

import studies

SCHEMAS = {name: studies.schema(name) for name in ("study", "techniques")}
# Keywords that say nothing of a value by themselves, or whose parts do.
SILENT = {"$schema", "$defs", "$ref", "title", "description", "default", "properties", "propertyNames", "items", "if", "then"}
SILENT |= {"patternErrorMessage"}


def keywords(schema) -> dict[str, list]:
    """Every keyword in a schema with the values that it has."""
    found: dict[str, list] = {}

    def walk(node):
        for key, value in node.items():
            found.setdefault(key, []).append(value)
            inner = value.values() if key in ("properties", "$defs") else value if isinstance(value, list) else [value]
            for child in inner if key not in ("default", "dependentRequired", "enum", "required") else ():
                if isinstance(child, dict):
                    walk(child)

    walk(schema)
    return found


def complaint(value, schema) -> str:
    with pytest.raises(validation.Problem) as caught:
        validation.validated({"key": value}, {"properties": {"key": schema}})
    return str(caught.value)


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_keyword_of_the_schemas_has_words_of_our_own(name):
    assert set(keywords(SCHEMAS[name])) - SILENT <= set(validation.WORDS)


def test_no_words_are_those_of_the_library():
    assert ".message" not in inspect.getsource(validation)


@pytest.mark.parametrize(
    ("value", "schema", "words"),
    [
        ("x", {"type": "integer"}, "key: expected a whole number, found text ('x')"),
        ("1e3", {"type": "integer"}, "key: expected a whole number, found text ('1e3'); write 1000"),
        ("1e-4", {"type": "number"}, "key: expected a number, found text ('1e-4'); write 0.0001"),
        ("1e-5", {"type": "number"}, "key: expected a number, found text ('1e-5'); write 1.0e-05"),
        ("30%", {"type": "number"}, "key: expected a number, found text ('30%'); write 0.3"),
        (1000.0, {"type": "integer"}, "key: expected a whole number, found a number (1000.0); write 1000"),
        (True, {"type": "integer"}, "key: expected a whole number, found true or false (true)"),
        (float("nan"), {"type": "number"}, "key: expected a number, found a number (nan)"),
        (7, {"type": "string"}, "key: expected text, found a number (7); put it in quotes"),
        ("a", {"type": "array"}, "key: expected a list, found text ('a'); write [a]"),
        ([], {"type": "object"}, "key: expected keys and values, found a list"),
        (None, {"type": "boolean"}, "key: expected true or false, found nothing"),
        ({"nmae": 1}, {"additionalProperties": False, "properties": {"name": {}}}, "key: unknown key nmae; did you mean name?"),
        ({"b": 1, "c": 2}, {"additionalProperties": False, "properties": {}}, "key: unknown key b (and 1 more); none is allowed here"),
        ({}, {"required": ["a"], "properties": {"a": {"description": "What it is."}}}, "key: needs the key a: what it is"),
        ({}, {"required": ["a", "b"]}, "key: needs the key a, b"),
        ({"a": 1}, {"dependentRequired": {"a": ["b"]}}, "key: needs the key b beside a"),
        ("B", {"pattern": "^[a-z]$", "patternErrorMessage": "a small letter"}, "key: 'B' is not allowed; a small letter"),
        ("b\n", {"pattern": "^[a-z]$", "patternErrorMessage": "a small letter"}, r"key: 'b\n' is not allowed; a small letter"),
        ("z", {"enum": ["x", "y"]}, "key: 'z' is not allowed; allowed are x, y"),
        (True, {"enum": ["on", "off"]}, "key: true is not allowed; allowed are on, off (in quotes: YAML reads on, off, yes and no as"),
        ("z", {"const": "x"}, "key: 'z' is not allowed; allowed is x"),
        ("z", {"oneOf": [{"const": "x"}, {"type": "integer"}]}, "key: 'z' is not allowed; allowed is x or a whole number"),
        ({}, {"oneOf": [{"required": ["a"]}, {"required": ["b"]}]}, "key: needs exactly one of a, b; it has none"),
        ([1, 2, 1], {"uniqueItems": True}, "key: 1 is there twice"),
        (-1, {"minimum": 0}, "key: -1 is too small; the least is 0"),
        (0, {"exclusiveMinimum": 0}, "key: 0 is too small; it must be more than 0"),
        (2, {"maximum": 1}, "key: 2 is too large; the most is 1"),
        (1, {"exclusiveMaximum": 1}, "key: 1 is too large; it must be less than 1"),
        (3, {"multipleOf": 2}, "key: 3 is not allowed; it must be a multiple of 2"),
        ("", {"minLength": 1}, "key: must not be empty"),
        ("a", {"minLength": 2}, "key: has 1; the least is 2"),
        ([], {"minItems": 1}, "key: must not be empty"),
        ({}, {"minProperties": 1}, "key: must not be empty"),
        ("abc", {"maxLength": 2}, "key: has 3 characters; the most is 2"),
        ([1, 2], {"maxItems": 1}, "key: has 2 items; the most is 1"),
        ({"a": 1, "b": 2}, {"maxProperties": 1}, "key: has 2 keys; the most is 1"),
    ],
)
def test_each_keyword_says_what_is_wrong_and_what_is_allowed(value, schema, words):
    assert complaint(value, schema).startswith(words)


def test_each_keyword_that_has_words_is_tried_above():
    tried = {
        key for mark in test_each_keyword_says_what_is_wrong_and_what_is_allowed.pytestmark for case in mark.args[1] for key in case[1]
    }
    assert set(validation.WORDS) <= tried


@pytest.mark.parametrize("name", SCHEMAS)
def test_every_pattern_takes_whole_lines_and_says_what_it_takes(name):
    def patterns(node):
        if isinstance(node, dict):
            if isinstance(node.get("pattern"), str):
                yield node
            for child in node.values():
                yield from patterns(child)
        elif isinstance(node, list):
            for child in node:
                yield from patterns(child)

    found = list(patterns(SCHEMAS[name]))
    assert found
    for node in found:
        assert node["patternErrorMessage"]
        assert node["pattern"].startswith("^")
        assert node["pattern"].endswith("$")
        # Whatever the pattern takes, it does not take with a line feed after it.
        for text in ("a", "a/b", "gpu:a:1", "0" * 40):
            if re.search(node["pattern"], text):
                assert "is not allowed" in complaint(f"{text}\n", node)


def test_a_key_that_belongs_elsewhere_is_told_where():
    with pytest.raises(validation.Problem, match=r"experiments\.e: unknown key temperature; it is a key of experiments\.NAME\.sampling"):
        study = studies.small()
        study["experiments"] = {"e": {**study["experiments"]["generate"], "temperature": 1.0}}
        validation.validated(study, SCHEMAS["study"])
    with pytest.raises(validation.Problem, match=r"unknown key sequence; it is a key of models\.NAME\.train and of experiments\.NAME"):
        validation.validated(studies.small() | {"sequence": 3}, SCHEMAS["study"])


def test_a_long_value_does_not_fill_the_screen():
    assert len(complaint("x" * 100_000, {"type": "integer"})) < 150
    assert len(complaint("x" * 100_000, {"enum": ["a"]})) < 150
