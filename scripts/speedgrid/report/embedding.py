"""Charts as the page holds them: each with the columns that it uses, and what several have in common written once.

Altair writes a table into a chart as a row of keys and values for each row, with all its columns. Here a table is a list of values for each
column that the specification names, and numbers have as many digits as can be seen. What equals something else on the page, be it a column,
an axis or a whole layer, stands in one list of parts, and a reference in its place. The page's script puts it together again
when a chart is drawn (`whole` in report/page.js).
"""

import contextlib
import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

import altair as alt
import pandas as pd
from altair.utils import schemapi
from altair.utils.schemapi import debug_mode

from speedgrid.report.language import ENGLISH, now, tr

DIGITS = 5  # significant digits of a number that is drawn; no screen has 100,000 pixels
REFERENCE = "$"  # the key of what stands for a part
LEVELS = "levels"  # the key of a column that repeats few values
SHORTEST = 24  # characters: a reference to less would save nothing

_WORD = re.compile(r"\w+")


@contextlib.contextmanager
def unchecked() -> Iterator[None]:
    """Charts made inside are not held against Vega-Lite's schema, which takes ten times as long as making them; tests do that."""
    with debug_mode(False):
        yield


def specification(chart: alt.TopLevelMixin) -> dict:
    """The chart for Vega-Lite, its data sets as {name: {column: values}} with the columns that the chart names."""
    tables: dict[str, pd.DataFrame] = {}

    def keep(data: pd.DataFrame) -> dict:
        """The name of a table in the place of its rows; one that several layers share is kept once."""
        name = next((name for name, known in tables.items() if known is data), f"data-{len(tables)}")
        tables[name] = data
        return {"name": name}

    with _transformer(keep), _of_one_kind():
        spec = chart.to_dict(validate=False)
        spec = spec if now() is ENGLISH else _told(spec)
    texts: set[str] = set()
    _gather_texts(spec, texts)
    words = {*texts, *_WORD.findall("\n".join(texts))}
    return spec | {"datasets": {name: _columns(table, words) for name, table in tables.items()}}


def _told(value: Any) -> Any:
    """A specification with the titles of its axes and tooltips in the language that is spoken."""
    if isinstance(value, dict):
        return {
            name: tr(inner) if name == "title" and isinstance(inner, str) else _told(inner) if name != "data" else inner
            for name, inner in value.items()
        }
    return [_told(inner) for inner in value] if isinstance(value, list) else value


def rows(columns: Mapping) -> list[dict]:
    """The rows of a data set of `specification`; the page's script does the same."""
    lists = [_values(column) for column in columns.values()]
    return [dict(zip(columns, row, strict=True)) for row in zip(*lists, strict=True)]


@contextlib.contextmanager
def _transformer(keep) -> Iterator[None]:
    alt.data_transformers.register("speedgrid", keep)
    with alt.data_transformers.enable("speedgrid"):
        yield


@contextlib.contextmanager
def _of_one_kind() -> Iterator[None]:
    """All in our charts that Altair has to write down is of its SchemaBase. Of every text and number it also asks whether it is what its
    protocol SchemaLike describes, which takes a third of the time of writing a chart."""
    known = schemapi.SchemaLike
    schemapi.SchemaLike = schemapi.SchemaBase  # type: ignore[misc, assignment]
    try:
        yield
    finally:
        schemapi.SchemaLike = known  # type: ignore[misc]


def _gather_texts(value: object, found: set[str]) -> None:
    """Every text of a specification. Fields, expressions and transforms name columns in them, and nothing else can."""
    if isinstance(value, str):
        found.add(value)
    elif isinstance(value, dict | list):
        for inner in value.values() if isinstance(value, dict) else value:
            _gather_texts(inner, found)


def _columns(table: pd.DataFrame, words: set[str]) -> dict:
    return {str(name): _column(table[name]) for name in table.columns if str(name) in words}


def _column(column: pd.Series) -> list | dict:
    """The values of a column; of texts that repeat themselves each once, and which of them stands where."""
    kind = column.dtype.kind
    if kind == "f":
        return [None if value != value else float(f"{value:.{DIGITS}g}") for value in column.tolist()]
    if kind in "iub":
        return column.tolist()
    values = [_plain(value) for value in column.tolist()]
    texts = all(isinstance(value, str) for value in values)
    levels = {value: at for at, value in enumerate(dict.fromkeys(values))} if texts else {}
    if texts and 2 * len(levels) < len(values):
        return {LEVELS: list(levels), "at": [levels[value] for value in values]}
    return values


def _plain(value: object) -> object:
    """A value as JSON has it: none for what is missing, the time's text for a time."""
    if isinstance(value, float):
        return None if value != value else float(f"{value:.{DIGITS}g}")
    if isinstance(value, pd.Timestamp):
        return value.isoformat()
    return None if value is pd.NaT or value is pd.NA else value


def _values(column: list | dict) -> list:
    return [column[LEVELS][at] for at in column["at"]] if isinstance(column, dict) else column


def joined(specifications: Mapping[str, dict]) -> str:
    """The JSON of all charts of a page by name, in ASCII; see Parts.text."""
    parts = Parts()
    return parts.text({name: parts.add(spec) for name, spec in specifications.items()})


class Parts:
    """Values of JSON in which what is equal is one: `add` gives the number of a value, `text` the JSON of all that was added by name."""

    def __init__(self):
        self._numbers: dict[tuple, int] = {}
        self._keys: list[tuple] = []
        self._texts: dict[tuple, str] = {}  # of single values, most of which come over and over

    def add(self, value: object) -> int:
        """The number of a value: that of an equal one, where there is one."""
        key: tuple
        if isinstance(value, dict):
            key = ("dict", *((name, self.add(inner)) for name, inner in value.items()))
        elif isinstance(value, list):
            nested = any(isinstance(inner, dict | list) for inner in value)
            key = ("list", *map(self.add, value)) if nested else ("text", _json(value))
        else:
            single = (type(value), value)
            if (text := self._texts.get(single)) is None:
                text = self._texts[single] = _json(value)
            key = ("text", text)
        number = self._numbers.setdefault(key, len(self._keys))
        if number == len(self._keys):
            self._keys.append(key)
        return number

    def text(self, named: Mapping[str, int]) -> str:
        """JSON of {"parts": [...], "charts": {name: value}}, in which {"$": 3} stands for the part at 3. Both hold values of `add`."""
        uses = [0] * len(self._keys)
        for key in self._keys:
            for inner in _inner(key):
                uses[inner] += 1
        for number in named.values():
            uses[number] += 1
        texts: list[str] = []
        parts: list[str] = []
        for key, times in zip(self._keys, uses, strict=True):  # a value comes after what it holds
            text = _written(key, texts)
            if times > 1 and len(text) > SHORTEST:
                parts.append(text)
                text = f'{{"{REFERENCE}":{len(parts) - 1}}}'
            texts.append(text)
        charts = ",".join(f"{json.dumps(name)}:{texts[number]}" for name, number in named.items())
        return f'{{"parts":[{",".join(parts)}],"charts":{{{charts}}}}}'


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))


@cache
def _quoted(name: str) -> str:
    return json.dumps(name)


def _inner(key: tuple) -> list[int]:
    if key[0] == "text":
        return []
    return [number for _, number in key[1:]] if key[0] == "dict" else list(key[1:])


def _written(key: tuple, texts: list[str]) -> str:
    if key[0] == "text":
        return key[1]
    if key[0] == "list":
        return f"[{','.join(texts[number] for number in key[1:])}]"
    return f"{{{','.join(f'{_quoted(name)}:{texts[number]}' for name, number in key[1:])}}}"


def whole(value: object, parts: list) -> object:
    """A value of `Parts.text` with its parts in their places, as the page's script has it."""
    if isinstance(value, dict):
        if REFERENCE in value:
            return whole(parts[value[REFERENCE]], parts)
        return {name: whole(inner, parts) for name, inner in value.items()}
    return [whole(inner, parts) for inner in value] if isinstance(value, list) else value
