"""The chart beside the answer: what keeps quality is told from what has a price, and the answer's technique is its first row."""

from dataclasses import replace

import pytest
import records_factory as made
from report_data import group_of
from speedgrid.quality import excerpts
from speedgrid.report import advice
from speedgrid.report.answer import answer
from speedgrid.report.charts.proof import proof_figure

PRUNED = made.Made("prune_50", "Pruned by 50 %", "compression", 190.0, peak=500, bits_per_byte=5.2, lossless=False)


@pytest.fixture(scope="module")
def lossy(tmp_path_factory):
    return group_of(tmp_path_factory.mktemp("lossy"), (*made.DEFAULT_CELLS, PRUNED))


def drawn(group):
    """The rows of the chart from its top, held against Vega-Lite's schema on the way, and the words over its blocks."""
    figure = proof_figure(group, advice.qualities(group.rows.to_dict("records")))
    tables = figure.chart.to_dict(validate=True)["datasets"].values()
    rows = next(table for table in tables if "kept" in table[0])
    heads = next((table for table in tables if "words" in table[0]), [])
    return figure, sorted(rows, key=lambda row: row["y"]), [head["words"] for head in heads]


def test_what_keeps_quality_comes_first_and_the_answer_leads(lossy):
    _, rows, heads = drawn(lossy)
    assert [(row["name"], row["kept"]) for row in rows] == [
        ("torch.compile (static cache)", True),
        ("SDPA", True),
        ("Baseline (eager attention)", True),
        ("No KV cache", True),
        ("Pruned by 50 %", False),
        ("bfloat16", False),
        ("bitsandbytes INT8", False),
    ]
    assert heads == ["Quality kept", "At a price in quality"]
    assert f"<strong>{rows[0]['name']}</strong> is the fastest" in str(answer(lossy).headline)


def test_a_row_has_the_figures_of_the_summary_and_its_price(lossy):
    _, rows, _ = drawn(lossy)
    summary = lossy.rows.set_index("label")
    for row in rows:
        assert row["value"] == summary.speedup[row["name"]]
        if row["name"] != "Baseline (eager attention)":
            assert (row["low"], row["high"]) == (summary.speedup_low[row["name"]], summary.speedup_high[row["name"]])
    pruned = next(row for row in rows if row["name"] == PRUNED.label)
    assert pruned["text"].endswith("+174\u00a0% bits per byte")
    assert pruned["figure"].startswith("4.0× (")


def test_where_nobody_measured_quality_there_are_no_blocks(tmp_path):
    cells = [replace(cell, lossless=True) for cell in made.DEFAULT_CELLS]
    _, rows, heads = drawn(group_of(tmp_path, cells, evaluate=False))
    assert heads == []
    assert all(row["kept"] for row in rows)


def test_many_techniques_leave_the_first_screen_readable(tmp_path):
    many = [replace(made.DEFAULT_CELLS[1], technique=f"sdpa_{n}", label=f"SDPA {n}", speed=60.0 + n) for n in range(12)]
    figure, rows, _ = drawn(group_of(tmp_path, [made.DEFAULT_CELLS[0], *many]))
    assert [row["name"] for row in rows] == [*(f"SDPA {n}" for n in (11, 10, 9, 8, 7)), "Baseline (eager attention)"]
    assert "7 more are in the charts below." in figure.caption


def test_without_a_baseline_it_shows_speeds(tmp_path):
    cells = [replace(made.DEFAULT_CELLS[0], status="oom", reason="full"), *made.DEFAULT_CELLS[1:3]]
    figure, rows, _ = drawn(group_of(tmp_path, cells))
    assert figure.title == "Tokens per second"
    assert [row["name"] for row in rows] == ["torch.compile (static cache)", "SDPA"]
    assert all(row["low"] < row["value"] < row["high"] for row in rows)
    assert "within the replies that were seen" in figure.caption, "the interval of a speed leaves out what a further run may show"
    assert "noise between runs" in drawn(group_of(tmp_path / "with", made.DEFAULT_CELLS[:3]))[0].caption
    # What the page calls columns of the data by: two of them were called token/s.
    encodings = [layer["encoding"] for layer in figure.chart.to_dict()["layer"] if "tooltip" in layer.get("encoding", {})]
    titles = {one["field"]: one["title"] for encoding in encodings for one in (encoding["x"], *encoding["tooltip"])}
    assert titles == {"value": "token/s", "name": "technique", "figure": "token/s, 95 % interval"}


def test_one_technique_proves_nothing(tmp_path):
    alone = group_of(tmp_path, made.DEFAULT_CELLS[:1])
    assert proof_figure(alone, advice.qualities(alone.rows.to_dict("records"))) is None
    assert answer(alone).proof is None


def test_of_what_grew_the_largest_size_is_shown(lossy):
    rows = lossy.rows.assign(workload="largest", largest=[float(2**n) for n in range(len(lossy.rows))], grows="batch_size")
    figure, shown, _ = drawn(replace(lossy, rows=rows))
    assert figure.title == "The largest size that fits"
    assert [row["text"] for row in shown if row["name"] == "SDPA"] == ["2"]


def test_of_quality_that_nobody_measured_the_chart_says_no_more_than_that_the_arithmetic_is_unchanged(tmp_path):
    _, _, heads = drawn(group_of(tmp_path, (*made.DEFAULT_CELLS, PRUNED), quality_meaningful=False))
    assert heads == ["Arithmetic unchanged", "Quality not known"]


def test_a_price_on_a_text_of_its_own_leaves_room_for_the_name(lossy):
    """What it was scored on is in the guide and the tables: with it in the chart the names had no room."""
    summary = lossy.rows.to_dict("records")
    for row in summary:
        if row["technique"] == "prune_50":
            row |= {"worst_loss": 1.9, "worst_loss_task": excerpts.TASK}
    figure = proof_figure(lossy, advice.qualities(summary))
    rows = next(table for table in figure.chart.to_dict(validate=True)["datasets"].values() if "kept" in table[0])
    pruned = next(row for row in rows if row["name"] == PRUNED.label)
    assert pruned["text"].endswith("\u00d7 \u00b7 +190\u00a0% bits per byte")
    assert pruned["room"] < 200


BUSY = {"disturbed": "other processes used 88% of the CPUs", "cpu_foreign": 0.88}


def test_a_speed_up_of_which_only_a_bound_is_known_points_to_where_nothing_is(tmp_path):
    """It was left out, and counted nowhere."""
    ahead = replace(made.DEFAULT_CELLS[2], technique="ahead", label="Ahead", speed=400.0, facts=BUSY)
    cells = [replace(made.DEFAULT_CELLS[0], again=(48.5, 47.5)), made.DEFAULT_CELLS[1], ahead]
    group = group_of(tmp_path, cells)
    figure, rows, _ = drawn(group)
    by_name = {row["name"]: row for row in rows}
    assert list(by_name) == ["Ahead", "SDPA", "Baseline (eager attention)"]
    row = by_name["Ahead"]
    assert (row["value"], row["points"], row["high"], row["drawn_high"]) == (None, True, None, row["arrow"])
    assert row["low"] == group.rows.set_index("label").speedup_low["Ahead"]
    assert row["figure"].startswith("at least ")
    assert row["arrow"] > max(one["high"] or 0 for one in rows if one is not row)
    assert "Where an interval ends in an arrow" in figure.caption
    assert "Ahead at least" in figure.words
    assert "arrow" not in drawn(group_of(tmp_path / "quiet", cells[:2]))[0].caption


def test_what_was_starved_beside_a_starved_baseline_is_there_and_open(tmp_path):
    figure, rows, _ = drawn(group_of(tmp_path, [replace(cell, facts=BUSY) for cell in made.DEFAULT_CELLS[:2]]))
    assert {row["name"]: (row["text"], row["value"]) for row in rows} == {
        "SDPA": ("open", None),
        "Baseline (eager attention)": ("1×", 1.0),
    }
    assert "SDPA open" in figure.words
