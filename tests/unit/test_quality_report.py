"""What the page says of quality, and what the summary takes of the scores."""

import math
from dataclasses import replace

import pandas as pd
import pytest
import records_factory as made
import report_data
from speedgrid.report import figures_table, published, quality, tables, units
from speedgrid.report.units import percent
from speedgrid.schema import SCORE


@pytest.fixture
def grid(tmp_path):
    return made.write_group(tmp_path)


@pytest.fixture
def group(grid):
    summary, _, replies = report_data.tables_of(grid)
    (found,) = report_data.tables.groups(summary, replies)
    return found


def summary_of(grid) -> dict:
    return {row["technique"]: row for row in report_data.tables_of(grid)[0]}


def test_the_summary_takes_what_the_scores_say(grid):
    row = summary_of(grid)["bnb_int8"]
    assert row["quality_loss"] == pytest.approx(1.92 / 1.9 - 1)
    assert row["quality_loss_low"] < row["quality_loss"] < row["quality_loss_high"]
    assert (row["quality_verdict"], row["accuracy_task"]) == ("loss", "cloze")
    assert row["kl_divergence"] == pytest.approx(1.92 / 1.9 - 1)


def test_the_baseline_and_what_has_no_scores_have_no_verdict(grid):
    summary = summary_of(grid)
    assert summary["baseline"]["quality_verdict"] is None
    assert summary["baseline"]["accuracy"] == pytest.approx(0.45)
    assert {summary["bnb_nf4"][name] for name in ("quality_verdict", "accuracy", "kl_divergence")} == {None}


def test_accuracy_is_held_against_a_published_one_of_the_same_task_alone(group):
    head = "study,device,technique,point,column,value,note\n"
    figures = published.read(head + "s,GPU X,baseline,,accuracy,0.9,cloze\ns,GPU X,baseline,,accuracy,0.82,HellaSwag\n")
    (table,) = published.beside(figures, "s", group, []).tables
    same, other = table.rows
    assert (same.ours, same.published, table.unit) == ("45.0", "90.0", "%")
    assert (other.ours, other.published, other.gain) == ("measured on cloze", "82.0", "")


def test_scores_are_said_with_loss_and_resolution(grid, group):
    table = quality.score_table(group, report_data.scores_of(grid))
    names = [name for name, _ in table.heads]
    rows = {(label, name): score for label, scores in table.rows for name, score in zip(names, scores, strict=True)}
    bits = rows[("bitsandbytes INT8", "bits per byte")]
    assert (bits.value, bits.verdict) == ("1.920", "loss")
    assert (bits.loss, bits.interval) == (percent(0.0105), f"{percent(0.0095)} to {percent(0.01153)}")
    right = rows[("SDPA", "cloze acc")]
    assert (right.value, right.spread) == ("45.0 %", "± 5.0 %")
    assert dict(table.heads)["cloze acc"].endswith("chance 25.0 %")
    assert right.verdict == "no measurable loss (resolution 2.0 points)"
    assert rows[("Baseline (eager attention)", "bits per byte")].loss == ""


def test_a_task_that_could_not_be_had_is_said_once(grid, group):
    (said,) = quality.refusals(group, report_data.scores_of(grid))
    assert said.unescape() == "nosuch: lm-eval has no task 'nosuch'"


def test_what_is_gained_stands_beside_what_is_expected(group):
    rows = {row.label: row for row in quality.impact_rows(group)}
    assert "Baseline (eager attention)" not in rows
    int8 = rows["bitsandbytes INT8"]
    assert (int8.expected, int8.loss, int8.verdict) == (quality.INT8, percent(0.0105), "loss")
    assert int8.memory.startswith("−")
    assert rows["SDPA"].expected is None


def test_memory_of_the_whole_device_is_a_change_where_it_is_more_than_cuda_may_differ_by(group):
    table = group.rows.assign(memory_source="allocator")
    table.loc[table.technique == "bnb_int8", "memory_source"] = "device"
    for column in ("memory_peak", "memory_load_peak"):
        table.loc[table.is_baseline, column] = 9000.0 * made.MIB
        table.loc[table.technique == "bnb_int8", column] = 9500.0 * made.MIB
    rows = {row.label: row for row in quality.impact_rows(replace(group, rows=table))}
    assert rows["bitsandbytes INT8"].memory == units.MISSING
    assert rows["bfloat16"].memory.startswith("−")
    for column in ("memory_peak", "memory_load_peak"):
        table.loc[table.technique == "bnb_int8", column] = 3000.0 * made.MIB
    rows = {row.label: row for row in quality.impact_rows(replace(group, rows=table))}
    assert rows["bitsandbytes INT8"].memory == percent(3000 / (9000 + 0.6 * 1024) - 1)


def test_every_technique_with_an_expectation_is_in_the_registry(root):
    import yaml

    assert set(quality.EXPECTED) <= set(yaml.safe_load((root / "techniques.yaml").read_text()))


def test_the_page_shows_the_scores_escaped(grid):
    scores = [dict.fromkeys(column.name for column in SCORE.columns) | row for row in report_data.scores_of(grid)]
    scores[0]["reason"] = "<script>alert(1)</script>"
    study = made.study()
    html = report_data.page.render(report_data.quick_parts(), study, *report_data.tables_of(grid), scores=scores)
    assert "What it costs in quality" in html
    assert "no measurable loss (resolution 2.0 points)" in html
    assert "expected" in html.lower()
    assert "<script>alert(1)" not in html
    assert "&lt;script&gt;alert(1)" in html


def test_without_scores_the_page_has_no_such_table(tmp_path):
    grid = made.write_group(tmp_path / "none", evaluate=False)
    assert "What it costs in quality" not in report_data.page_of(grid, made.study())


def test_a_distance_of_nothing_but_rounding_is_none_in_both_tables():
    assert [quality.figure("kl_divergence", value) for value in (5.4e-14, 1.18e-5)] == ["0", "1.2e−5"]
    row = pd.Series({"kl_divergence": 5.4e-14})
    assert figures_table._table_cell(row, "kl_divergence", units.Scale("nat"), None) == figures_table.TableCell("0", 5.4e-14)


def test_a_score_says_what_it_is_of_and_two_texts_are_two_scores(grid, group):
    """Bits per byte of code, or of WikiText, took the place of those of the held-out text."""
    rows = report_data.scores_of(grid)
    held_out = [row for row in rows if row["metric"] == "bits_per_byte"]
    named = [row | {"text": "english.txt"} for row in held_out]
    code = [row | {"task": "stdlib", "value": row["value"] + 1} for row in held_out]
    wikitext = [row | {"task": "wikitext"} for row in held_out]
    table = quality.score_table(group, [*named, *code, *wikitext])
    assert [name for name, _ in table.heads] == [
        "bits per byte of english.txt",
        "bits per byte of Python's standard library",
        "wikitext bits per byte",
    ]
    figures = dict(table.rows)["bitsandbytes INT8"]
    assert [score and score.value for score in figures[:2]] == ["1.920", "2.920"]


def test_the_worst_loss_is_that_of_the_text_that_shows_most(grid):
    assert summary_of(grid)["bnb_int8"]["worst_loss"] == pytest.approx(1.92 / 1.9 - 1)
    assert summary_of(grid)["bnb_int8"]["worst_loss_task"] == "held_out"
    assert summary_of(grid)["sdpa"]["worst_loss"] is None


def scored(**changes) -> dict:
    """A row of score.parquet that shows a loss."""
    row = {"task": "arc", "metric": "acc", "test": "mcnemar", "value": 0.35, "loss": 0.35, "verdict": "loss"}
    return row | changes


def worst(rows) -> tuple:
    found = tables._worst(rows)
    return found["worst_loss_task"], found["worst_loss_metric"], found["worst_loss"]


def test_the_worst_loss_is_of_any_task_whatever_its_place_and_its_metric():
    """The first task with choices was told, and half a percent of bits hid that half the right answers of another were gone."""
    bits = scored(task="held_out", metric="bits_per_byte", test="bootstrap", value=1.91, loss=0.005)
    kept = scored(task="cloze", value=0.446, loss=0.004, verdict="no measurable loss")
    assert worst([bits, kept, scored()]) == ("arc", "acc", 0.35)
    assert worst([bits, kept]) == ("held_out", "bits_per_byte", 0.005)
    assert worst([kept]) == (None, None, None)
    assert tables._worst([bits, kept, scored()])["worst_loss_score"] == 0.35


def test_a_text_s_perplexities_are_no_loss_beside_its_bits_per_byte():
    perplexity = scored(task="wiki", metric="word_perplexity", test="bootstrap", loss=0.3)
    bits = scored(task="wiki", metric="bits_per_byte", test="bootstrap", loss=0.02)
    assert worst([perplexity, bits]) == ("wiki", "bits_per_byte", 0.02)
    assert worst([perplexity]) == ("wiki", "word_perplexity", 0.3)


@pytest.mark.parametrize("unsized", [{"metric": "bleu", "loss": 4.2}, {"metric": "perplexity", "loss": math.inf}])
def test_a_loss_without_a_size_that_compares_may_be_the_worst(unsized):
    own = scored(task="translate", test="bootstrap", **unsized)
    assert worst([scored(loss=0.01), own]) == ("translate", unsized["metric"], None)
    # Another metric of the same task has a size.
    assert worst([scored(task="translate", loss=0.01), own]) == ("translate", "acc", 0.01)
