"""Charts as the page holds them: only the columns that they use, equal parts once, and nothing lost on the way."""

import json

import altair as alt
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft7Validator
from report_data import group_of
from speedgrid.report import charts, embedding

JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab$<\u2028é", max_size=40),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("xyz", min_size=1, max_size=3), inner, max_size=4),
    max_leaves=30,
)


@given(st.dictionaries(st.text("abc", min_size=1, max_size=2), JSON, max_size=4))
def test_what_is_put_together_again_is_what_was_there(named):
    parts = embedding.Parts()
    read = json.loads(parts.text({name: parts.add(value) for name, value in named.items()}))
    assert embedding.whole(read["charts"], read["parts"]) == named


def test_what_charts_have_in_common_is_written_once():
    axis = {"labelExpr": "split(datum.label, '\\n') and so on, at length", "grid": False}
    text = embedding.joined({"one": {"x": axis, "y": 1}, "two": {"x": axis, "y": 2}})
    assert text.count("and so on") == 1


def test_a_chart_has_the_columns_that_it_names_and_no_others():
    table = pd.DataFrame({"shown": [1.0, 2.0], "tested": [True, False], "told": ["a", "b"], "unused": [3.0, 4.0]})
    chart = alt.Chart(table).transform_filter("datum.tested").mark_bar().encode(x=alt.X("shown:Q"), tooltip=[alt.Tooltip("told:N")])
    ((columns),) = embedding.specification(chart)["datasets"].values()
    assert columns == {"shown": [1.0, 2.0], "tested": [True, False], "told": ["a", "b"]}


def test_layers_of_one_table_share_it():
    table = pd.DataFrame({"x": [1.0], "y": [2.0]})
    base = alt.Chart(table)
    spec = embedding.specification(alt.layer(base.mark_bar().encode(x="x:Q"), base.mark_point().encode(y="y:Q")))
    assert len(spec["datasets"]) == 1


def test_rows_of_a_table_come_out_as_they_went_in():
    table = pd.DataFrame(
        {
            "text": ["a", "a", "a", "b", "b"],
            "number": [0.1234567891, float("nan"), 1e-30, 5e20, 3.0],
            "whole": [1, 2, 3, 4, 5],
            "mixed": pd.Series([1, None, "x", float("nan"), True], dtype=object),
        }
    )
    names = {name: f"{name}:N" for name in table.columns}
    chart = alt.Chart(table).mark_text().encode(x=names["number"], y=names["whole"], text=names["text"], tooltip=[names["mixed"]])
    ((columns),) = embedding.specification(chart)["datasets"].values()
    assert columns["text"] == {"levels": ["a", "b"], "at": [0, 0, 0, 1, 1]}
    assert embedding.rows(columns) == [
        {"text": "a", "number": 0.12346, "whole": 1, "mixed": 1},
        {"text": "a", "number": None, "whole": 2, "mixed": None},
        {"text": "a", "number": 1e-30, "whole": 3, "mixed": "x"},
        {"text": "b", "number": 5e20, "whole": 4, "mixed": None},
        {"text": "b", "number": 3.0, "whole": 5, "mixed": True},
    ]


@pytest.fixture(scope="module")
def figures(tmp_path_factory):
    group = group_of(tmp_path_factory.mktemp("embedding"))
    with embedding.unchecked():
        return charts.figures(group)


def test_every_chart_of_a_page_is_one_of_vega_lites(figures):
    """The page's charts are made unchecked; what they come to is held against Vega-Lite's schema here."""
    schema = alt.LayerChart._rootschema
    for figure in figures:
        spec = embedding.specification(figure.chart)
        spec["datasets"] = {name: embedding.rows(columns) for name, columns in spec["datasets"].items()}
        wrong = [error.message for error in Draft7Validator(schema).iter_errors(spec)]
        assert wrong == [], figure.name


def test_a_chart_draws_nothing_that_its_tables_do_not_have(figures):
    for figure in figures:
        spec = embedding.specification(figure.chart)
        for layer in spec["layer"]:
            data = layer.get("data", spec.get("data"))
            there = set(spec["datasets"][data["name"]])
            drawn = {one["field"] for one in layer["encoding"].values() if isinstance(one, dict) and "field" in one}
            assert drawn <= there, figure.name
