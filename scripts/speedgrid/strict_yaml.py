"""YAML as a study may use it: keys that are text, and values that are text, numbers, true or false, nothing, lists, or keys and values.

What YAML has beyond that is refused with the line where it stands, and so is what it would pass over or change in silence: a key that is
there twice, a date, a number in base 60, a self-referring or exploding alias. Pure.
"""

import copy
import math
import re
from collections.abc import Iterator

# A study of 10,000 cells has some hundred values; aliases count as often as they are used.
MOST_VALUES = 100_000
MOST_BYTES = 8 * 2**20
DEEPEST = 40
# Every whole number up to here is one in every language that may read a job's specification.
LARGEST = 2**53
TAG = "tag:yaml.org,2002:"
# Has Snakemake, which reads a study too, run the Python that stands in it.
RUNS_CODE = "__use_yte__"
# What YAML makes of plain text that a person may well have meant as text.
READ_AS = {"timestamp": "a date", "value": "a sign of YAML", "merge": "a sign of YAML"}
# A tab, a line feed, a carriage return, a form feed: the control characters that texts have.
IN_TEXTS = "\t\n\r\f"
# The most common mistakes that a parser of YAML has words of its own for, with ours.
WORDS = {
    "\\t": "a tab, where YAML takes spaces alone",
    "mapping values are not allowed here": "a second `: ` in one value, or a key that is indented otherwise than those beside it;"
    " put a value with `: ` in quotes",
    "'<stream end>'": "the file ends inside of a bracket, or a quotation is not closed",
    "unexpected end of stream": "the file ends inside of a bracket, or a quotation is not closed",
    "could not find expected ':'": "a key without `: ` after it",
    "expected <block end>": "this line does not go on with what stands above it; is it indented as the lines beside it?",
    "expected '<document start>'": "keys follow on something that has none; is a `: ` missing above?",
}


class Refused(ValueError):
    """What a file may not say, in words, with the line."""


def parse(text: str) -> object:
    """What a YAML text says. Raises Refused."""
    import yaml

    if len(text) > MOST_BYTES:
        raise Refused(f"has more than {MOST_BYTES // 2**20} MiB; long texts have files of their own")
    try:
        return _Builder(yaml.SafeLoader(text)).document()
    except yaml.reader.ReaderError as error:
        line = text[: error.position].count("\n") + 1
        raise Refused(f"line {line}: has the character U+{ord(text[error.position]):04X}, which no text may have here") from None
    except yaml.YAMLError as error:
        raise Refused(_in_words(error)) from None


class _Builder:
    """Makes values of the events of a parser, one after another, so that depth and number are known before anything is made of them."""

    def __init__(self, loader):
        self.loader, self.values = loader, 0
        # The values of anchors, with how many values each holds; None while one is not complete.
        self.anchors: dict[str, tuple[object, int] | None] = {}

    def document(self) -> object:
        import yaml

        loader = self.loader
        loader.get_event()
        if loader.check_event(yaml.StreamEndEvent):
            return None
        loader.get_event()
        value = self._value(loader.get_event(), 0)
        loader.get_event()
        if not loader.check_event(yaml.StreamEndEvent):
            raise _refused(loader.peek_event(), "a second document begins; a file holds one")
        return value

    def _value(self, event, depth: int) -> object:
        import yaml

        if isinstance(event, yaml.AliasEvent):
            return self._of_alias(event, depth)
        _check_depth(event, depth)
        if event.tag is not None:
            raise _refused(event, f"the tag {event.tag.replace(TAG, '!!')} has no meaning here; leave it out")
        before = self.values
        self._count(event, 1)
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        if isinstance(event, yaml.ScalarEvent):
            value = self._scalar(event)
        elif isinstance(event, yaml.SequenceStartEvent):
            value = [self._value(item, depth + 1) for item in self._until(yaml.SequenceEndEvent)]
        else:
            value = self._mapping(depth)
        if event.anchor is not None:
            self.anchors[event.anchor] = (value, self.values - before)
        return value

    def _until(self, end: type) -> Iterator:
        while not self.loader.check_event(end):
            yield self.loader.get_event()
        self.loader.get_event()

    def _mapping(self, depth: int) -> dict:
        import yaml

        own: dict = {}
        merged: dict = {}
        for event in self._until(yaml.MappingEndEvent):
            if self._is_merge(event):
                if merged:
                    raise _refused(event, "the key << is there twice")
                merged = self._merged(self.loader.get_event(), depth)
                continue
            key = self._key(event)
            if key in own:
                raise _refused(event, f"the key {_shown(key)} is there twice")
            if key == RUNS_CODE:
                raise _refused(event, f"the key {RUNS_CODE} makes a template of the file, whose Python would be run; a study has none")
            own[key] = self._value(self.loader.get_event(), depth + 1)
        return {**merged, **own}

    def _is_merge(self, event) -> bool:
        import yaml

        return isinstance(event, yaml.ScalarEvent) and event.tag is None and event.implicit[0] and event.value == "<<"

    def _merged(self, event, depth: int) -> dict:
        """The keys that `<<` brings from elsewhere; of several, the first that has a key counts."""
        found = self._value(event, depth + 1)
        parts = found if isinstance(found, list) else [found]
        if not parts or not all(isinstance(part, dict) for part in parts):
            raise _refused(event, "<< takes keys and values from elsewhere, and there are none")
        return {key: value for part in reversed(parts) for key, value in part.items()}

    def _key(self, event) -> str:
        import yaml

        key = self._of_alias(event, 0) if isinstance(event, yaml.AliasEvent) else None
        if isinstance(event, yaml.ScalarEvent):
            key = self._value(event, 0)
            if not isinstance(key, str):
                raise _refused(event, f"the key {event.value or 'of nothing'} is no text for YAML; put it in quotes")
        if not isinstance(key, str):
            raise _refused(event, "a key is text, and this one is a list or keys and values")
        return key

    def _of_alias(self, event, depth: int) -> object:
        if event.anchor not in self.anchors:
            raise _refused(event, f"*{event.anchor} stands for nothing; no &{event.anchor} comes before it")
        known = self.anchors[event.anchor]
        if known is None:
            raise _refused(event, f"*{event.anchor} lies inside of what it stands for, which would never end")
        value, size = known
        self._count(event, size)
        _check_depth(event, depth + _height(value))
        return copy.deepcopy(value)

    def _count(self, event, more: int) -> None:
        self.values += more
        if self.values > MOST_VALUES:
            raise _refused(event, f"more than {MOST_VALUES:,} values, those that aliases (*) repeat included")

    def _scalar(self, event) -> object:
        import yaml

        tag = self.loader.resolve(yaml.ScalarNode, event.value, event.implicit).removeprefix(TAG)
        if tag == "null":
            return None
        if tag == "bool":
            return event.value.lower() in ("yes", "true", "on")
        if tag == "int":
            return _whole(event)
        if tag == "float":
            return self._number(event)
        if tag in READ_AS:
            raise _refused(event, f"YAML reads {_shown(event.value)} as {READ_AS[tag]}; put it in quotes if it is text")
        odd = next((sign for sign in event.value if _is_odd(sign)), "")
        if odd:
            raise _refused(event, f"the text has the character U+{ord(odd):04X}, which no text may have here")
        return event.value

    def _number(self, event) -> float:
        if ":" in event.value:
            raise _refused(event, f"YAML reads {_shown(event.value)} as a number in base 60; put it in quotes if it is text")
        import yaml

        value = float(self.loader.construct_yaml_float(yaml.ScalarNode(TAG + "float", event.value)))
        if not math.isfinite(value):
            raise _refused(event, f"{_shown(event.value)} is no finite number")
        return value + 0.0  # so that there is one zero, and none below it


def _check_depth(event, depth: int) -> None:
    if depth > DEEPEST:
        raise _refused(event, f"values lie in one another more than {DEEPEST} deep")


def _height(value: object) -> int:
    """How many values lie in one another in this one, itself not counted."""
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return max((1 + _height(part) for part in inner), default=0)


def _whole(event) -> int:
    digits = event.value.replace("_", "").lstrip("+-")
    if ":" in digits:
        raise _refused(event, f"YAML reads {_shown(event.value)} as a number in base 60; put it in quotes if it is text")
    if re.fullmatch(r"0\d+", digits):
        raise _refused(event, f"YAML reads {_shown(event.value)} as a number in base 8; write it without the 0 in front, or in quotes")
    sign = -1 if event.value.startswith("-") else 1
    base = 2 if digits.startswith("0b") else 16 if digits.startswith("0x") else 10
    value = None if len(digits) > 64 else sign * int(digits, base)
    if value is None or abs(value) > LARGEST:
        raise _refused(event, f"{_shown(event.value)} is too large a number; the largest is {LARGEST:,}. Put it in quotes if it is text")
    return value


def _is_odd(sign: str) -> bool:
    """Whether this is a control character that texts do not have, or half of a character."""
    return (ord(sign) < 32 and sign not in IN_TEXTS) or 127 <= ord(sign) < 160 or 0xD800 <= ord(sign) < 0xE000


def _shown(value: str) -> str:
    return repr(value if len(value) <= 40 else f"{value[:40]}…")


def _refused(event, why: str) -> Refused:
    return Refused(f"line {event.start_mark.line + 1}: {why}")


def _in_words(error) -> str:
    """What is wrong with a text that is not YAML, with its line."""
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    problem = getattr(error, "problem", None) or getattr(error, "reason", None) or " ".join(str(error).split())
    problem = next((ours for theirs, ours in WORDS.items() if theirs in problem), problem)
    if not mark:
        return f"is not YAML: {problem}"
    opened = getattr(error, "context_mark", None)
    since = f" ({error.context}, line {opened.line + 1})" if opened and error.context and opened.line != mark.line else ""
    return f"is not YAML: line {mark.line + 1}, column {mark.column + 1}: {problem}{since}"
