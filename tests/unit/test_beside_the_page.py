"""What stands beside the page: the summary in Markdown, and the charts as pictures."""

import json
from dataclasses import replace

import pytest
import records_factory as made
from markupsafe import Markup
from report_data import group_of, page_of, quick_parts, tables_of
from speedgrid import records
from speedgrid.report import catalogues, charts, embedding, language, markdown, page, pictures, rendering
from speedgrid.report.answer import answer
from speedgrid.report.together import Told
from speedgrid.report.units import percent
from speedgrid.schema import POINTS, RUNS, SUMMARY

STUDY = {"title": "A <b>study</b> | of mine", "name": "mine", "study_file": "config.yaml"}


@pytest.fixture(scope="module")
def group(tmp_path_factory):
    cells = [
        replace(cell, label=cell.label + " | [x](http://e) <img>") if cell.technique == "sdpa" else cell for cell in made.DEFAULT_CELLS
    ]
    return group_of(tmp_path_factory.mktemp("beside"), cells)


def test_the_markdown_has_a_row_for_every_cell_and_as_many_columns_in_each(group):
    text = markdown.summary(STUDY, [(group, Markup("<strong>A</strong> &amp; B"))], ["abc"], ["NVIDIA H200"])
    rows = [line for line in text.splitlines() if line.startswith("|")]
    assert len(rows) == 2 + len(made.DEFAULT_CELLS)
    assert {row.replace("\\|", "").count("|") for row in rows} == {len(markdown.HEADS) + 1}
    assert "A \\& B" in text
    assert "commit `abc`" in text
    compiled = next(row for row in rows if "torch.compile (static cache)" in row)
    speed = group.rows.set_index("technique").loc["torch_compile"]
    assert f"{speed.speedup:.1f}×" in compiled
    assert "`missing_dependency`" in next(row for row in rows if "NF4" in row)
    assert "- Open: whether bfloat16 could be as fast as torch.compile (static cache). " in text
    assert "more runs of each would decide it, about" in text


def test_names_make_no_markdown(group):
    text = markdown.summary(STUDY, [(group, Markup(""))], [], [])
    assert "<b>" not in text.replace("\\<b\\>", "")
    assert "[x](" not in text.replace("\\[x\\](", "")


def test_code_in_a_text_of_the_page_is_code_in_markdown_and_what_comes_from_outside_is_not(group):
    """Without its marks a key of the study was a word in the sentence: "set runs higher"."""
    text = markdown.summary(
        STUDY, [(group, Markup("Take <code>a_b &amp;&amp; c`d</code>, <em>not</em> {}.").format("<code>e</code>"))], [], []
    )
    assert "\nTake `a_b && c d`, not \\<code\\>e\\</code\\>.\n" in text
    (point,) = [line for line in text.splitlines() if line.startswith("- Open: whether")]
    assert "`./speedgrid run --sharpen`, or set `runs` higher where the study sets a number." in point


def test_the_markdown_fits_into_a_comment_and_says_what_it_leaves_out(group):
    text = markdown.summary(STUDY, [(group, Markup(""))] * 200, [], [])
    assert len(text) < 65_536
    shown = text.count("### ")
    assert f"{200 - shown} more combinations" in text


def test_the_markdown_of_training_has_the_loss_where_replies_have_bits_per_byte(group):
    nothing = group.rows.assign(bits_per_byte=float("nan"), loss_last=float("nan"))
    assert "Loss at last" not in markdown.summary(STUDY, [(replace(group, rows=nothing), Markup(""))], [], [])
    trained = nothing.assign(loss_last=[0.25 + number for number in range(len(nothing))])
    text = markdown.summary(STUDY, [(replace(group, rows=trained), Markup(""))], [], [])
    (head,) = [line for line in text.splitlines() if line.startswith("| Technique")]
    assert head.endswith("| Loss at last |")
    assert "Bits per byte" not in text
    assert next(line for line in text.splitlines() if line.startswith("| Baseline")).endswith(" 0.250 |")


def test_the_markdown_and_a_page_of_several_say_what_is_faster_at_a_price(tmp_path, monkeypatch):
    """They had the headline alone."""
    base, fast = (replace(cell, again=(cell.speed * 1.01, cell.speed * 0.99) * 2) for cell in made.DEFAULT_CELLS[:3:2])
    lossy = made.Made("prune_50", "Pruned by 50 %", "compression", 190.0, bits_per_byte=5.2, lossless=False, again=(189.0, 191.0, 190.0))
    models = [f"model-{number}" for number in range(4)]
    grid = [cell for model in models for cell in made.write_group(tmp_path, (base, fast, lossy), model=model)]
    first = page_of(grid, made.study(models=models)).partition('id="choose"')[0]
    assert first.count("Faster at a price: <strong>Pruned by 50 %</strong>") >= 4
    written = []
    monkeypatch.setattr(rendering, "draw", lambda *_: None)
    monkeypatch.setattr(rendering, "read_parts", quick_parts)
    monkeypatch.setattr(rendering.markdown, "summary", lambda study, told, *_: written.extend(told) or "")
    summary, runs, replies = tables_of(grid)
    rendering.write(Told(made.study(models=models), summary, runs, replies), tmp_path / "report.html")
    assert [said.striptags().count("Faster at a price: Pruned by 50 %") for _, said in written] == [1] * 4


def test_the_markdown_says_which_speed_ups_are_between_two_gpus(tmp_path, monkeypatch):
    """The page marked them, and what is put into a pull request said nothing of it."""
    base, *others = made.DEFAULT_CELLS[:3]
    cells = (base, replace(others[0], facts={"device_uuid": "GPU-another"}), *others[1:])
    grid = made.write_group(tmp_path, cells, machine=made.GPU_MACHINE)
    monkeypatch.setattr(rendering, "draw", lambda *_: None)
    monkeypatch.setattr(rendering, "read_parts", quick_parts)
    summary, runs, replies = tables_of(grid)
    rendering.write(Told(made.study(), summary, runs, replies), tmp_path / "report.html")
    said = f"\n{others[0].label} ran on another GPU than {base.label}: what the two differ by is a part of the speed-up.\n"
    assert (tmp_path / "summary.md").read_text(encoding="utf-8").count(said) == 1
    one = [run | {"device_uuid": "GPU-6f3f"} for run in runs]
    rendering.write(Told(made.study(), summary, one, replies), tmp_path / "report.html")
    assert "two GPUs" not in (tmp_path / "summary.md").read_text(encoding="utf-8")


def test_the_markdown_of_nothing_says_so():
    assert "plans no cell" in markdown.summary(STUDY, [], [], [])


def test_a_picture_has_the_papers_colours_and_its_title(group):
    colours = pictures.inks(quick_parts().style)
    assert colours["--ink"].startswith("#")
    for figure in charts.figures(group):
        text = pictures.drawable(figure, embedding.specification(figure.chart), colours)
        assert "var(--" not in text
        spec = json.loads(text)
        assert spec["title"]["text"] == figure.title
        assert all(isinstance(rows, list) for rows in spec["datasets"].values())


def test_pictures_are_svg_files_and_replace_those_of_before(tmp_path, group):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "of-older.svg").write_text("")  # of a run before
    section = page.Section("of-a", group, "a", None, figures=[(figure, f"of-a-{figure.name}") for figure in charts.figures(group)[:2]])
    drawn = {name: embedding.specification(figure.chart) for figure, name in section.figures}
    rendering.draw([section], drawn, quick_parts().style, tmp_path / "figures")
    assert sorted(path.name for path in (tmp_path / "figures").iterdir()) == ["of-a-speed.svg", "of-a-speedup.svg"]
    assert (tmp_path / "figures" / "of-a-speed.svg").read_text(encoding="utf-8").startswith("<svg")
    # A second time, and where somebody has put a picture of his own there.
    rendering.draw([section], drawn, quick_parts().style, tmp_path / "figures")
    (tmp_path / "figures" / "paper.svg").write_text("mine")
    with pytest.raises(records.RecordError, match=r"figures: holds paper\.svg, which speedgrid did not write, so it is not removed"):
        rendering.draw([section], drawn, quick_parts().style, tmp_path / "figures")
    assert (tmp_path / "figures" / "paper.svg").read_text() == "mine"


def test_an_empty_plan_has_a_page_that_says_so(tmp_path):
    plan = {"study": made.study(), "cells": [], "jobs": {}}
    paths = [tmp_path / f"{table.name}.parquet" for table in (SUMMARY, POINTS, RUNS)]
    for path, table in zip(paths, (SUMMARY, POINTS, RUNS), strict=True):
        rendering.records.write(path, table, [])
    rendering.write(rendering.read(plan, *paths), tmp_path / "report.html")
    assert "The study plans no cell" in (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "plans no cell" in (tmp_path / "summary.md").read_text(encoding="utf-8")


def test_the_markdown_of_a_study_in_japanese_is_japanese_and_tells_what_quality_changed(group):
    with language.spoken(catalogues.read_all()["ja"]):
        text = markdown.summary(STUDY, [(group, answer(group).headline)], ["abc"], ["NVIDIA H200"])
    assert "| 手法 | 速度 |" in text
    assert "スタディ `mine` · NVIDIA H200 · コミット `abc`" in text
    assert "が最速" in text or "最速は" in text
    assert "| ベースライン |" in text
    lossy = next(line for line in text.splitlines() if line.startswith("| bfloat16"))
    change = group.rows.set_index("technique").bits_per_byte
    assert lossy.endswith(f" {change['bf16']:.3f} ({percent(change['bf16'] / change['baseline'] - 1)}) |")
