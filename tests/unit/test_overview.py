"""What leads through a page of many cells: anchors, filters, presets and the matrix."""

from dataclasses import replace

import pytest
import records_factory as made
from hypothesis import given
from hypothesis import strategies as st
from report_data import group_of, tables_of
from speedgrid.report import figures_table, overview, tables, training, units


@pytest.fixture(scope="module")
def groups(tmp_path_factory):
    folder = tmp_path_factory.mktemp("overview")
    cells = [replace(cell, again=(48.3, 47.9)) if cell.technique == "baseline" else cell for cell in made.DEFAULT_CELLS]
    grid = [cell for model in ("one", "two") for cell in made.write_group(folder, cells, model=model)]
    summary, _, replies = tables_of(grid)
    return list(tables.groups(summary, replies))


class Named:
    def __init__(self, gpu, experiment, model):
        self.gpu, self.experiment, self.model = gpu, experiment, model


NAMES = st.text("ab/. é~-_<", min_size=1, max_size=4)


@given(st.lists(st.tuples(NAMES, NAMES, NAMES), unique=True, max_size=12))
def test_anchors_are_unique_and_of_letters_that_an_address_takes(names):
    found = overview.anchors([Named(*name) for name in names])
    assert len(set(found)) == len(names)
    assert all(anchor.startswith("of-") and set(anchor) <= set("ofab.-_~x0123456789") for anchor in found)


def test_the_anchor_of_a_group_does_not_depend_on_the_others():
    first, second = Named("h200", "decode", "llama-8b"), Named("h200", "decode", "qwen-7b")
    assert overview.anchors([second, first])[1] == overview.anchors([first])[0] == "of-llama-8b-decode-h200"


def test_the_matrix_has_every_cell_and_says_what_each_comes_to(groups):
    (matrix,) = overview.matrices(list(zip(groups, ("a", "b"), ("sdpa", None), strict=True)))
    assert matrix.labels == [cell.label for cell in made.DEFAULT_CELLS]
    assert [(anchor, name) for anchor, name, _ in matrix.rows] == [("a", "one"), ("b", "two")]
    fields = dict(zip(matrix.labels, matrix.rows[0][2], strict=True))
    assert (fields["Baseline (eager attention)"].text, fields["Baseline (eager attention)"].look) == ("1", "base")
    assert fields["No KV cache"].look == "slower"
    assert fields["torch.compile (one line)"].look == "off"
    assert fields["bitsandbytes NF4"].text == "missing dependency"
    row = groups[0].rows.set_index("label").loc["torch.compile (static cache)"]
    # With the digits that its interval leaves, as in every other place.
    assert fields["torch.compile (static cache)"].text == units.with_interval(row.speedup, row.speedup_low, row.speedup_high)[0]
    assert fields["torch.compile (static cache)"].look == row.verdict
    assert fields["SDPA"].look.endswith(" leads")
    assert not any(field.look.endswith(" leads") for field in matrix.rows[1][2])


def test_the_matrix_marks_what_has_a_price_in_quality_and_the_first_screen_counts_who_leads(tmp_path):
    """The table that leads into a large study showed a model pruned to nothing in the strongest green."""
    lossy = made.Made("pruned", "Pruned", "other-model", speed=200, lossless=False, bits_per_byte=5.2)
    group = group_of(tmp_path, [*made.DEFAULT_CELLS[:2], lossy])
    (matrix,) = overview.matrices([(group, "a", "sdpa"), (group, "b", None)])
    fields = dict(zip(matrix.labels, matrix.rows[0][2], strict=True))
    assert fields["Pruned"].text.endswith("*")
    assert "for +174\u00a0% bits per byte" in fields["Pruned"].words
    assert not fields["SDPA"].text.endswith("*")
    assert overview.leaders([(group, None)]) is None
    counted = overview.leaders([(group, "sdpa"), (group, "sdpa"), (group, "baseline"), (group, None)]).striptags()
    assert counted.endswith("keeps the model's quality: SDPA 2, Baseline (eager attention) 1 and without an answer 1.")


@pytest.mark.parametrize(("several", "end"), [(6, "L4 1 and L5 1."), (7, "L4 1 and 2 others 2 together.")])
def test_of_those_who_lead_the_last_is_named_where_it_is_the_only_other(tmp_path, several, end):
    group = group_of(tmp_path, [made.Made(f"t{number}", f"L{number}", speed=10) for number in range(several)])
    assert overview.leaders([(group, f"t{number}") for number in range(several)]).striptags().endswith(end)


def test_one_group_has_no_matrix_and_no_filter_by_place(groups):
    assert overview.matrices([(groups[0], "a", None)]) == []
    assert not {"gpu", "model", "experiment"} & {name for name, _, _ in overview.filters(groups[:1])}


def test_what_can_be_filtered_by_is_what_differs(groups):
    found = {name: values for name, _, values in overview.filters(groups)}
    assert list(found["model"]) == ["one", "two"]
    assert found["family"]["compile"] == "compilation", "in words, as in the legends"
    assert "gpu" not in found


def test_a_preset_shows_columns_that_there_are():
    columns = {"replies": figures_table.TABLE, "work": training.TABLE}
    found = overview.presets(columns)
    assert found.pop("all") == list(dict.fromkeys((*figures_table.TABLE, *training.TABLE)))
    for names in found.values():
        for own in columns.values():
            assert len(set(names) & set(own)) >= 3
    assert {name for names in found.values() for name in names} == {*figures_table.TABLE, *training.TABLE}


def test_a_column_is_hidden_where_its_box_is_not_ticked_and_counted_after_technique_and_status():
    rules = overview.column_styles({"replies": ["rate", "latency_p50_s"], "work": ["rate"]}).splitlines()
    assert rules[0] == ('#filters:has([name="show"][value="rate"]:not(:checked)) ~ * .replies :is(th, td):nth-child(3) { display: none; }')
    # Of replies the standard columns have the 95th percentile in the place of the median.
    assert '[value="latency_p50_s"]:not(:checked)' in rules[1]
    assert rules[2] == '#filters:has([name="columns"] > [value=""]:checked) ~ * .replies :is(th, td):nth-child(4) { display: none; }'
    assert ".work :is(th, td):nth-child(3)" in rules[3]
    assert len(rules) == 4
