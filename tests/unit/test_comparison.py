"""comparison.py and `compare`: verdicts of cells, what differs around them, exit statuses, and what is not a result."""

import json
import math
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import compare
import numpy as np
import pytest
import records_factory as made
from speedgrid import comparison, records, results, schema
from speedgrid.comparison import Results
from speedgrid.report import collect, rendering, tables
from speedgrid.report import compared as compared_words
from speedgrid.schema import MEASURE, MEASURED, RUNS, SUMMARY

KEY = ("local", "generate", "stdlib-llama")
KIND = ("local", "generate")
TIMES = {"a": "2025-03-01T10:00:00+00:00", "b": "2025-04-01T10:00:00+00:00"}


def results_folder(root: Path, cells=made.DEFAULT_CELLS, machine=made.MACHINE, seed=7, again: int = 0, looks_again=False) -> Path:
    """A results folder as a run leaves it; with the baseline run `again` times more, in files of their own; of a study that looks again
    after further runs, where it says so."""
    grid = [collect.read_cell(cell, made.JOBS) for cell in made.write_group(root, cells, machine=machine, seed=seed)]
    grid = [replace(cell, looks_again=looks_again) for cell in grid]
    folder = root / "results"
    records.write(folder / "summary.parquet", SUMMARY, tables.summary_rows(grid))
    records.write(folder / "runs.parquet", RUNS, [{"study": "default"} | row for row in tables.run_rows(grid)])
    rng = np.random.default_rng(seed)
    for number in range(again):
        baseline = next(cell for cell in cells if cell.technique == "baseline")
        rows = list(made._replies(baseline, dict(zip(schema.AXES, (*KEY, "baseline"), strict=True)), rng))
        path = folder / "/".join(KEY) / "baseline" / f"again-{number + 1}" / "measure.parquet"
        records.write(path, MEASURE, [row | {"status": "ok", "reason": ""} for row in rows], made.facts("measure", machine))
    return folder


def cells(**speeds: float) -> list[made.Made]:
    """Cells that ran three times each."""
    return [
        made.Made(technique, technique.upper(), speed=speed, again=(speed * 1.01, speed * 0.99))
        for technique, speed in {"baseline": 50.0, **speeds}.items()
    ]


OFTEN = [replace(cell, again=(cell.speed,) * 2) if cell.status in MEASURED else cell for cell in made.DEFAULT_CELLS]


def outcomes(compared: comparison.Comparison) -> dict[str, str]:
    return {change.technique: change.outcome for change in compared.cells}


def compared(a: Path, b: Path, **options) -> comparison.Comparison:
    return comparison.compare(results.read(a), results.read(b), **options)


def test_a_side_that_other_work_disturbed_is_said(tmp_path):
    """Else a busy machine reads as a slower driver."""
    a, b = (results_folder(tmp_path / name, cells(sdpa=60.0)) for name in "ab")
    assert not any("not quiet" in note for note in compared(a, b).notes)
    rows = records.read(b / "summary.parquet", SUMMARY).rows
    busy = {"runs_disturbed": 2, "disturbed": "other processes used 50% of the CPUs"}
    records.write(b / "summary.parquet", SUMMARY, [row | busy if row["technique"] == "sdpa" else row for row in rows])
    (note,) = [note for note in compared(a, b).notes if "not quiet" in note]
    assert note.startswith(f"the machine was not quiet when {b} was measured: sdpa (other processes used 50% of the CPUs); measure")


@pytest.mark.parametrize("seed", range(4))
def test_a_summary_alone_says_nothing_that_its_replies_do_not(tmp_path, seed):
    """It has no replies, and so may know less, never more."""
    rng, sides = np.random.default_rng(seed), []
    for name in "ab":
        told = []
        for technique in ("baseline", "x", "y", "z", "w"):
            facts = {"disturbed": "other processes used 60 % of the CPUs"} if rng.random() < 0.4 else {}
            again = tuple(50.0 * np.exp(0.1 * rng.normal(size=rng.integers(0, 3))))
            spread, replies = rng.choice([0.002, 0.05, 0.4]), int(rng.choice([3, 8, 20]))
            speed = 50.0 * np.exp(0.4 * rng.normal())
            told.append(made.Made(technique, technique, speed=speed, spread=spread, replies=replies, again=again, facts=facts))
        sides.append(results_folder(tmp_path / name, told, seed=seed))
    whole, alone = outcomes(compared(*sides)), outcomes(compared(*(side / "summary.parquet" for side in sides)))
    for technique, said in alone.items():
        assert said in (whole[technique], "unsure"), technique


@pytest.mark.parametrize("alone", [False, True], ids=["folders", "summaries"])
def test_a_copy_of_a_result_is_the_very_same_runs_and_no_answer(tmp_path, alone):
    folder = results_folder(tmp_path, OFTEN)
    copy = tmp_path / "older"
    shutil.copytree(folder, copy)
    sides = [side / "summary.parquet" if alone else side for side in (copy, folder)]
    found = compared(*sides)
    measured = [made.technique for made in made.DEFAULT_CELLS if made.status in ("ok", "not_engaged")]
    assert [technique for technique, outcome in outcomes(found).items() if outcome == "same run"] == measured
    assert outcomes(found)["bnb_nf4"] == "no figures"
    assert found.differences == []
    assert found.nothing_new
    assert not any(change.ratio for change in found.cells)
    (note,) = [note for note in found.notes if "very same runs" in note]
    assert note.startswith("cells of which A and B hold the very same runs, so that nothing is said of them: 7 of 7; to measure anew, move")
    assert [run(*sides, "--fail-on", fail_on).returncode for fail_on in ("never", "slower", "changed")] == [0, 2, 2]
    assert run(*sides, "--fail-on", "slower").stderr == (
        "speedgrid: --fail-on slower: A and B are the very same runs; nothing was measured in between\n"
    )


def test_a_summary_of_an_older_speedgrid_is_of_the_same_runs_though_its_peaks_leave_loading_out(tmp_path):
    old, new = (results_folder(tmp_path / name, OFTEN) / "summary.parquet" for name in "ab")
    rows = records.read(new, SUMMARY).rows
    records.write(new, SUMMARY, [row | {"memory_peak": row["memory_peak"] and 2 * row["memory_peak"]} for row in rows])
    assert compared(old, new).nothing_new


def test_a_cell_that_was_disturbed_or_not_engaged_changes_no_verdict_of_others(tmp_path):
    a, b = results_folder(tmp_path / "a", cells(x=60), seed=1), results_folder(tmp_path / "b", cells(x=50), seed=2)
    alone = compared(a, b)
    assert outcomes(alone) == {"x": "slower", "baseline": "same"}
    busy = made.Made("y", "Y", speed=20.0, facts={"disturbed": "other processes used 60 % of the CPUs"})
    shaky = made.Made("y", "Y", speed=20.0, again=(70.0, 9.0), status="not_engaged", reason="not active")
    for name, other in {"disturbed": busy, "not engaged": shaky}.items():
        beside = compared(a, results_folder(tmp_path / name, [*cells(x=50), other], seed=2))
        told = [{change.technique: change.ratio for change in one.cells if change.technique != "y"} for one in (alone, beside)]
        assert told[0] == told[1], name


def test_quiet_runs_of_one_side_count_no_more_than_disturbed_ones_of_the_other(tmp_path):
    busy = {"disturbed": "other processes used 60 % of the CPUs"}
    a = results_folder(tmp_path / "a", [*cells(), made.Made("x", "X", speed=99.0, again=(60.0, 60.5), facts=busy)], seed=1)
    b = results_folder(tmp_path / "b", [*cells(), made.Made("x", "X", speed=60.0, again=(60.5,), facts=busy)], seed=2)
    read = [results.read(side) for side in (a, b)]
    quiet = [replace(read[0].measured[*KEY, "x"][0], run=replace(read[0].measured[*KEY, "x"][0].run, disturbed=False, lost=0.0))]
    mixed = replace(read[0], measured=read[0].measured | {(*KEY, "x"): quiet + list(read[0].measured[*KEY, "x"][1:])})
    ratios = [next(c.ratio for c in comparison.compare(one, read[1]).cells if c.technique == "x") for one in (read[0], mixed)]
    assert ratios[0].low < 0.6 < ratios[0].told < 1.6 < ratios[0].high, "both beside others, which took nobody knows how much"
    assert (ratios[1].told, ratios[1].high) == (None, None), "what a busy machine cost B is not known"
    assert ratios[1].low < 60 / 99


def test_a_result_of_a_busy_machine_is_no_slower_software(tmp_path):
    """A was starved of the cores, B had them: B is no 15 times as fast; the other way round nothing became slower."""
    busy = {"disturbed": "other processes used 88 % of the CPUs", "cpu_foreign": 0.88}
    starved = results_folder(tmp_path / "a", [*cells(), made.Made("x", "X", speed=1.5, facts=busy)], seed=1)
    quiet = results_folder(tmp_path / "b", [*cells(), made.Made("x", "X", speed=22.8)], seed=2)
    for inside in (Path(), Path("summary.parquet")):
        for sides, ends in (((starved, quiet), (None, 20)), ((quiet, starved), (1 / 20, None))):
            (change,) = [one for one in compared(*(side / inside for side in sides)).cells if one.technique == "x"]
            assert change.outcome == "unsure"
            assert [end is None for end in (change.ratio.low, change.ratio.high)] == [end is None for end in ends]
            *_, ratio, interval, remark = compared_words.row(change)
            assert re.match("at (most|least) ", ratio)
            assert interval == "none"
            assert f"no quiet run of {'A' if ends[0] is None else 'B'}" in remark


def test_a_cell_that_was_measured_again_beside_others_that_were_not_is_compared(tmp_path):
    a = results_folder(tmp_path / "a", cells(x=50))
    b = results_folder(tmp_path / "b", [*cells(), made.Made("x", "X", speed=30.0)])
    found = compared(a, b)
    assert outcomes(found) == {"x": "slower", "baseline": "same run"}
    assert not found.nothing_new
    assert [
        note
        for note in found.notes
        if note.startswith("cells of which A and B hold the very same runs, so that nothing is said of them: 1 of 2;")
    ]
    assert [change.technique for change in found.failures("slower")] == ["x"]


def test_runs_of_another_time_are_others_though_their_figures_are_equal(tmp_path):
    a, b = (results_folder(tmp_path / side, [made.Made("baseline", "B", begins=begins)]) for side, begins in TIMES.items())
    assert outcomes(compared(a, b)) != {"baseline": "same run"}


def with_plan(folder: Path, **again: int) -> Path:
    """The folder with a plan in which cells have so many further runs."""
    names = {technique: "/".join(("results", *KEY, technique)) for technique in again}
    told = [{"folder": at, "again": [f"{at}/measure-{run}.parquet" for run in range(2, again[name] + 2)]} for name, at in names.items()]
    (folder / "plan.json").write_text(json.dumps({"study": {}, "jobs": {}, "cells": told}))
    return folder


def test_runs_that_the_study_no_longer_asks_for_are_not_read(tmp_path):
    """From `runs: 3` back to 1: the summary is of one run, and the files of the others stay."""
    cell = made.Made("baseline", "B", speed=50.0)
    folder = with_plan(results_folder(tmp_path, [cell]), baseline=0)
    left = results_folder(tmp_path / "before", [replace(cell, speed=90.0)])
    of_cell = "/".join((*KEY, "baseline"))
    shutil.copy(left / of_cell / "measure.parquet", folder / of_cell / "measure-2.parquet")
    moved = folder.rename(tmp_path / "older")
    read = results.read(moved)
    assert [len(runs) for runs in read.measured.values()] == [1]
    notes = compared(moved, moved).notes
    assert not [note for note in notes if "are not those of summary.parquet" in note]
    with_plan(moved, baseline=1)
    assert [len(runs) for runs in results.read(moved).measured.values()] == [2]


@pytest.mark.parametrize("planned", [True, False], ids=["plan", "no plan"])
@pytest.mark.parametrize("twin", ["measure.failed.parquet", "measure.interrupted.parquet", "measure-2.interrupted.parquet"])
def test_what_a_stopped_or_failed_job_kept_is_no_run(tmp_path, twin, planned):
    folder = results_folder(tmp_path, [made.Made("baseline", "B")])
    if planned:
        with_plan(folder, baseline=1)
    of_cell = folder / "/".join((*KEY, "baseline"))
    shutil.copy(of_cell / "measure.parquet", of_cell / twin)
    assert [len(runs) for runs in results.read(folder).measured.values()] == [1]


@pytest.mark.parametrize("text", ["", "{", "[]", '{"cells": [{}]}'])
def test_a_plan_that_cannot_be_read_is_named_in_one_line(tmp_path, text):
    folder = results_folder(tmp_path, [made.Made("baseline", "B")])
    (folder / "plan.json").write_text(text)
    with pytest.raises(records.RecordError, match=r"plan\.json: cannot be read as a plan \(\w+\)") as caught:
        results.read(folder)
    assert "\n" not in str(caught.value)


def test_another_run_of_the_same_is_the_same(tmp_path):
    said = []
    for seed in range(10):
        a, b = (results_folder(tmp_path / f"{side}{seed}", cells(other=80.0), seed=2 * seed + i) for i, side in enumerate("ab"))
        said += outcomes(compared(a, b)).values()
    assert len(said) == 20
    assert said.count("same") >= 19


def test_faster_and_slower_cells_are_told(tmp_path):
    a = results_folder(tmp_path / "a", cells(x=50, y=50, z=50), seed=1)
    b = results_folder(tmp_path / "b", cells(x=80, y=30, z=51), seed=2)
    found = compared(a, b)
    assert outcomes(found) == {"y": "slower", "x": "faster", "baseline": "same", "z": "same"}
    faster = next(change for change in found.cells if change.technique == "x")
    assert faster.ratio.low < 1.6 < faster.ratio.high
    assert [change.technique for change in found.failures("slower")] == ["y"]
    assert {change.technique for change in found.failures("changed")} == {"x", "y"}
    assert found.failures("never") == []


def test_between_figures_of_different_sizes_there_is_no_verdict(tmp_path):
    """Passes of 4,096 tokens were called ten times as fast as those of 16,384."""

    def sized(name: str, speed: float, seed: int, sizes: dict[str, int]) -> Path:
        folder = results_folder(tmp_path / name, cells(sdpa=speed), seed=seed)
        rows = records.read(folder / "summary.parquet", SUMMARY).rows
        records.write(folder / "summary.parquet", SUMMARY, [row | {"point": sizes[row["technique"]]} for row in rows])
        return folder

    a = sized("a", 60.0, 1, {"baseline": 4096, "sdpa": 4096})
    alike, other = (sized(name, 6.0, 2, {"baseline": 4096, "sdpa": size}) for name, size in (("b", 4096), ("c", 16384)))
    assert outcomes(compared(a, alike))["sdpa"] == "slower"
    found = compared(a, other)
    assert outcomes(found) == {"sdpa": "other size", "baseline": "same"}
    (sdpa,) = (change for change in found.cells if change.outcome == "other size")
    assert (sdpa.ratio, found.failures("slower"), found.failures("changed")) == (None, [], [sdpa])
    assert [(one.before, one.after, one.cells) for one in found.differences if one.what == "point"] == [("4096", "16384", 1)]
    line = next(line for line in compare.as_text(found) if "/sdpa" in line)
    assert line.endswith("at 4,096 in A and 16,384 in B: no verdict between different sizes")
    assert line.startswith("other size")


def test_the_other_way_round_says_the_opposite(tmp_path):
    a = results_folder(tmp_path / "a", cells(x=50, y=50), seed=1)
    b = results_folder(tmp_path / "b", cells(x=80, y=30), seed=2)
    there, back = compared(a, b), compared(b, a)
    assert outcomes(back) == {"x": "slower", "y": "faster", "baseline": "same"}
    ratios = {change.technique: change.ratio for change in back.cells}
    for change in there.cells:
        assert change.ratio.value * ratios[change.technique].value == pytest.approx(1)
        assert change.ratio.low * ratios[change.technique].high == pytest.approx(1)


def test_what_came_and_went_and_what_stopped_working(tmp_path):
    a = results_folder(tmp_path / "a", cells(gone=50, broken=50))
    failed = made.Made("broken", "BROKEN", status="oom", reason="out of memory on the device")
    b = results_folder(tmp_path / "b", [*cells(new=50), failed])
    found = compared(a, b)
    assert outcomes(found) == {"broken": "status", "baseline": "same run", "gone": "disappeared", "new": "appeared"}
    broken = found.cells[0]
    assert (broken.status_before, broken.status_after, broken.reason) == ("ok", "oom", "out of memory on the device")
    assert broken.after is None
    assert [change.technique for change in found.failures("slower")] == ["broken"]
    assert {change.technique for change in found.failures("changed")} == {"broken", "gone", "new"}
    assert compared(b, a).failures("slower") == []


def test_a_difference_under_the_floor_is_none(tmp_path):
    a, b = results_folder(tmp_path / "a", cells(x=50), seed=1), results_folder(tmp_path / "b", cells(x=90), seed=2)
    assert outcomes(compared(a, b))["x"] == "faster"
    assert outcomes(compared(a, b, negligible=1.0))["x"] == "unsure"


def test_more_runs_make_an_interval_narrower(tmp_path):
    once = [results_folder(tmp_path / f"once-{seed}", [made.Made("baseline", "B", speed=50.0)], seed=seed) for seed in (1, 2)]
    often = [results_folder(tmp_path / f"often-{seed}", cells(), seed=seed) for seed in (1, 2)]
    (few,), (many,) = compared(*once).cells, compared(*often).cells
    assert many.ratio.high / many.ratio.low < 0.8 * few.ratio.high / few.ratio.low
    assert compared(*often).noise[KIND].runs == 6


def test_the_noise_of_all_cells_is_told_from_the_least_to_the_most(tmp_path):
    """0.75 % stood there, the middle one's, beside a baseline that was 12 % slower and open: its runs were 11 % apart."""
    shaky, steady = made.Made("baseline", "B", speed=26, spread=0.06, again=(30.0,)), made.Made("x", "X", speed=200, spread=0.003)
    sides = [results_folder(tmp_path / side, [shaky, steady, replace(steady, technique="y")], made.GPU_MACHINE) for side in "ab"]
    found = compared(*sides)
    noise = found.noise[KIND]
    assert noise.sd == noise.least < 0.01
    assert noise.most > 0.08
    assert re.search(r"generate: 0\.\d+–1\d % \(runs here: 8,", compared_words.floors(found)[0])


def test_speeds_are_those_of_the_page(tmp_path):
    a, b = results_folder(tmp_path / "a", cells(x=50), seed=1), results_folder(tmp_path / "b", cells(x=60), seed=2)
    for change in compared(a, b).cells:
        for folder, speed in ((a, change.before), (b, change.after)):
            row = next(r for r in records.read(folder / "summary.parquet", SUMMARY).rows if r["technique"] == change.technique)
            assert (speed.value, speed.low, speed.high) == pytest.approx((row["rate"], row["rate_low"], row["rate_high"]))
        assert change.ratio.value == pytest.approx(change.after.value / change.before.value)


def test_of_a_summary_alone_its_figures_are_compared(tmp_path):
    a, b = results_folder(tmp_path / "a", cells(x=50), seed=1), results_folder(tmp_path / "b", cells(x=90), seed=2)
    found, whole = compared(a / "summary.parquet", b / "summary.parquet"), compared(a, b)
    assert outcomes(found) == outcomes(whole) == {"x": "faster", "baseline": "same"}
    x, y = (next(change.ratio for change in one.cells if change.technique == "x") for one in (found, whole))
    assert (x.value, x.low, x.high) == pytest.approx((y.value, y.low, y.high), rel=0.1)
    assert sum("no runs.parquet" in note for note in found.notes) == 2


@pytest.mark.parametrize("looks_again", [(False, True), (True, True)], ids=["of two levels", "of one level"])
def test_a_summary_says_at_which_level_its_intervals_are(tmp_path, looks_again):
    sides = [
        results_folder(tmp_path / name, cells(x=speed), seed=seed, looks_again=level)
        for name, speed, seed, level in zip("ab", (50, 90), (1, 2), looks_again, strict=True)
    ]
    plain = [results_folder(tmp_path / "plain" / name, cells(x=speed), seed=seed) for name, speed, seed in (("a", 50, 1), ("b", 90, 2))]
    whole, alone, narrow = (
        {change.technique: change for change in compared(*these).cells}
        for these in (sides, [side / "summary.parquet" for side in sides], plain)
    )
    for technique in whole:
        of_runs, of_rows, once = whole[technique].ratio, alone[technique].ratio, narrow[technique].ratio
        assert (of_rows.value, of_rows.low, of_rows.high) == pytest.approx((of_runs.value, of_runs.low, of_runs.high), rel=0.02)
        assert of_runs.low < 0.97 * once.low < 0.97 * once.high < 0.95 * of_runs.high, "further off than a summary may be"
    rows = {row["technique"]: row for row in records.read(sides[1] / "summary.parquet", SUMMARY).rows}
    assert whole["x"].after.high == pytest.approx(rows["x"]["rate_high"]), "a speed has the interval of its own page"


def test_a_summary_without_a_level_is_of_95_percent(tmp_path):
    a, b = (results_folder(tmp_path / name, cells(x=50), seed=seed) / "summary.parquet" for name, seed in (("a", 1), ("b", 2)))
    before = compared(a, b).cells
    records.write(a, SUMMARY, [row | {"confidence": None} for row in records.read(a, SUMMARY).rows])
    assert compared(a, b).cells == before


def test_the_same_runs_are_the_same_at_whatever_level_they_were_judged(tmp_path):
    once, again = (results_folder(tmp_path / name, OFTEN, looks_again=name == "b") / "summary.parquet" for name in "ab")
    assert compared(once, again).nothing_new


def test_a_result_that_has_means_for_speeds_is_still_compared_by_its_replies(tmp_path):
    a, b = results_folder(tmp_path / "a", cells(x=50), seed=1), results_folder(tmp_path / "b", cells(x=90), seed=2)
    older = records.read(a / "summary.parquet", SUMMARY).rows
    first = {
        row["technique"]: np.mean(
            [r["new_tokens"] / r["reply_s"] for r in records.read(a / "/".join(KEY) / row["technique"] / "measure.parquet", MEASURE).rows]
        )
        for row in older
    }
    nothing = dict.fromkeys(("noise", "noise_df", "noise_runs", "standing", "run_s"))
    records.write(a / "summary.parquet", SUMMARY, [row | nothing | {"rate": first[row["technique"]]} for row in older])
    assert outcomes(compared(a, b)) == {"x": "faster", "baseline": "same"}
    assert not any("not those of summary.parquet" in note for note in compared(a, b).notes)


def test_replies_that_are_not_those_of_the_summary_are_not_used(tmp_path):
    a, b = results_folder(tmp_path / "a", cells(x=50), seed=1), results_folder(tmp_path / "b", cells(x=50), seed=2)
    faster = results_folder(tmp_path / "c", cells(x=99), seed=3)
    measure = "/".join((*KEY, "x", "measure.parquet"))
    (b / measure).write_bytes((faster / measure).read_bytes())
    found = compared(a, b)
    assert outcomes(found)["x"] == "same"
    assert any("not those of summary.parquet" in note for note in found.notes)


def test_a_cell_of_one_reply_is_unsure():
    row = dict.fromkeys((column.name for column in SUMMARY.columns), None)
    row |= dict(zip(schema.AXES, (*KEY, "x"), strict=True)) | {"status": "ok", "rate": 50.0, "replies": 1}
    (change,) = comparison.compare(Results("a", [row]), Results("b", [row | {"rate": 90.0}])).cells
    assert change.outcome == "unsure"
    assert change.ratio.low is None


def test_what_differs_in_machine_packages_and_settings(tmp_path):
    a, b = results_folder(tmp_path / "a"), results_folder(tmp_path / "b")
    rows = records.read(b / "runs.parquet", RUNS).rows
    for row in rows:
        row["driver"], row["env"] = "580.1", "transformers"
        row["packages"] = [*(p.replace("torch==2.9.1", "torch==2.9.2") for p in row["packages"]), "flash-attn==2.8"]
        row["job"] = json.dumps({"stage": row["stage"], "settings": {"sampling": {"top_k": 50}}})
    records.write(b / "runs.parquet", RUNS, rows)
    older = records.read(a / "runs.parquet", RUNS).rows
    for row in older:
        row |= {"env": "transformers", "job": json.dumps({"stage": row["stage"], "settings": {"sampling": {"top_k": 40}}})}
    records.write(a / "runs.parquet", RUNS, older)
    found = {d.what: (d.before, d.after, d.cells) for d in compared(a, b).differences}
    assert found == {
        "driver": ("–", "580.1", 0),
        "transformers: torch": ("2.9.1", "2.9.2", 0),
        "transformers: flash-attn": ("not there", "2.8", 0),
        "settings.sampling.top_k": ("40", "50", len(made.DEFAULT_CELLS)),
    }


def test_cells_of_another_checkpoint_or_number_format_are_marked(tmp_path):
    a = results_folder(tmp_path / "a", cells(x=50))
    b = results_folder(tmp_path / "b", [*cells(), made.Made("x", "X", transform=True, facts={"checkpoint_sha256": "cd" * 32})])
    found = compared(a, b)
    assert {change.technique: change.differs for change in found.cells} == {"baseline": (), "x": ("checkpoint_sha256",)}
    assert ("checkpoint_sha256", 1) in [(d.what, d.cells) for d in found.differences]


# Which differences are other software.


def with_software(folder: Path, **changed: dict) -> Path:
    """The folder, in which the jobs of the named techniques ran on other packages, or with other facts of schema.RUNS."""
    rows = records.read(folder / "runs.parquet", RUNS).rows
    for row in rows:
        own = dict(changed.get(row["technique"]) or {})
        versions = dict(package.split("==") for package in row["packages"]) | own.pop("packages", {})
        row |= own | {"packages": [f"{name}=={version}" for name, version in versions.items()]}
    records.write(folder / "runs.parquet", RUNS, rows)
    return folder


def remarks(found: comparison.Comparison) -> dict[str, str]:
    return {change.technique: compared_words.row(change)[-1] for change in found.cells}


def test_a_commit_that_was_edited_is_other_software(tmp_path):
    commit = "0123456789abcdef0123456789abcdef01234567"
    a = with_software(results_folder(tmp_path / "a", cells(new=50), seed=1), new={"git_commit": commit})
    b = with_software(results_folder(tmp_path / "b", cells(new=90), seed=2), new={"git_commit": f"{commit}+"})
    assert "0123456789ab → 0123456789ab+" in remarks(compared(a, b))["new"]


def test_a_cell_says_what_of_its_software_differs(tmp_path):
    a = results_folder(tmp_path / "a", cells(old=50, new=50, small=50, more=50), seed=1)
    b = results_folder(tmp_path / "b", cells(old=90, new=90, small=90, more=90), seed=2)
    for side, version in ((a, "1"), (b, "2")):
        others = {"colorama": version, "zlib-ng": version}
        newer = {"torch": "2.13.0", "vllm": "0.27.0"} if side == b else {"vllm": "0.26.0"}
        # An engine that another cell takes is there, in one environment for all, and says nothing of this one.
        added = {"packages": {"gptqmodel": "7", "datasets": "5"}} if side == b else {}
        told = {"new": {"packages": newer | others, "driver": f"58{version}.1"}, "small": {"packages": others}, "more": added}
        with_software(side, **told)
    found = compared(a, b)
    told = remarks(found)
    assert (told["old"], told["baseline"]) == ("the same software", "")
    assert told["new"] == "other software: torch 2.9.1 → 2.13.0, vllm 0.26.0 → 0.27.0, driver 581.1 → 582.1 and 2 more"
    assert told["small"] == "other software: 2 packages"
    assert told["more"] == "the same versions; packages on one side alone: 2"
    note = "of what is faster or slower (4), 2 ran on other software, named beside each, and 2 on the same"
    assert note in found.notes
    (b / "runs.parquet").unlink()
    unknown = compared(a, b)
    assert set(remarks(unknown).values()) == {""}
    assert not any("software, named beside" in note for note in unknown.notes)


def test_one_more_run_of_a_cell_is_no_other_setting(tmp_path):
    a, b = results_folder(tmp_path / "a", [made.Made("baseline", "B")]), results_folder(tmp_path / "b", [made.Made("baseline", "B")])
    rows = records.read(b / "runs.parquet", RUNS).rows
    again = [row | {"job": json.dumps(json.loads(row["job"]) | {"run": 2})} for row in rows if row["stage"] == "measure"]
    records.write(b / "runs.parquet", RUNS, [*rows, *again])
    assert compared(a, b).differences == []


def test_packages_that_decide_nothing_are_one_difference(tmp_path):
    """A GPU image against the locks differs in a hundred packages, in every environment."""
    a, b = (results_folder(tmp_path / side, cells(x=50)) for side in "ab")
    envs = {"baseline": {"env": "one"}, "x": {"env": "other"}}
    with_software(a, **envs)
    newer = {"packages": {"torch": "2.13.0", **{f"package-{number}": "1" for number in range(100)}}}
    with_software(b, **{name: facts | newer for name, facts in envs.items()})
    found = {d.what: (d.before, d.after) for d in compared(a, b).differences}
    assert set(found) == {"all environments: torch", "all environments: 100 other packages"}
    assert found["all environments: torch"] == ("2.9.1", "2.13.0")
    assert found["all environments: 100 other packages"][1].startswith("package-0 1, package-1 1, ")


# Folders of several results.


def several(root: Path, **speeds: float) -> Path:
    """A folder of results of models of these names, as docs/results/h200 is one."""
    for seed, (model, speed) in enumerate(speeds.items()):
        rows = records.read(results_folder(root / "made" / model, cells(x=speed), seed=seed) / "summary.parquet", SUMMARY).rows
        records.write(root / "all" / f"study-{model}" / "summary.parquet", SUMMARY, [row | {"model": model} for row in rows])
    return root / "all"


@pytest.mark.parametrize("at", ["", "results"], ids=["summary", "results of tests/gpu"])
def test_of_a_folder_of_several_results_those_are_compared_that_the_other_side_has(tmp_path, at):
    folder = several(tmp_path / "a", small=50, large=50, other=50)
    for one in folder.iterdir():
        if at:
            (one / at).mkdir()
            (one / "summary.parquet").rename(one / at / "summary.parquet")
    mine = several(tmp_path / "b", large=90, small=50)
    one = comparison.compare(*results.read_both(folder, mine / "study-large"))
    assert {(change.model, change.technique): change.outcome for change in one.cells} == {
        ("large", "x"): "faster",
        ("large", "baseline"): "same",
    }
    both = comparison.compare(*results.read_both(folder, mine))
    assert {change.model for change in both.cells} == {"small", "large"}
    assert both.a == f"{folder} ({Path('study-large', at)}, {Path('study-small', at)})"
    told = run(folder, mine / "study-large", "--fail-on", "changed")
    assert (told.returncode, "disappeared" in told.stdout) == (1, False)


def test_where_nothing_is_in_both_all_of_a_folder_is_told(tmp_path):
    folder, mine = several(tmp_path / "a", small=50, large=50), several(tmp_path / "b", mine=50)
    found = comparison.compare(*results.read_both(folder, mine))
    assert {change.outcome for change in found.cells} == {"disappeared", "appeared"}
    names = [f"local/generate/{model}/baseline" for model in ("large", "mine")]
    assert f"no cell is in both: A has {names[0]}, B has {names[1]}; cells are compared where all four names are the same" in found.notes


def test_the_page_compares_with_a_folder_of_several_results_as_compare_does(tmp_path):
    folder, mine = several(tmp_path / "a", small=50, large=50), several(tmp_path / "b", large=90) / "study-large"
    found = rendering.compare_with(str(folder), mine)
    assert found == comparison.compare(*results.read_both(folder, mine))
    assert found.a == str(folder / "study-large")


def test_a_cell_that_two_results_of_a_folder_hold_is_asked_for(tmp_path):
    folder = several(tmp_path / "a", small=50)
    shutil.copytree(folder / "study-small", folder / "again")
    told = run(folder, several(tmp_path / "b", small=50))
    assert (told.returncode, told.stdout) == (2, "")
    assert told.stderr == (
        f"speedgrid: {folder}: {folder / 'again'} and {folder / 'study-small'} both hold local/generate/small/baseline; name one of them\n"
    )


def test_two_results_that_hold_a_cell_which_the_other_side_lacks_are_no_matter(tmp_path):
    """A study of one's own, held against all of docs/results/h200: its studies have cells in common that nobody asked about."""
    folder = several(tmp_path / "a", small=50)
    shutil.copytree(folder / "study-small", folder / "again")
    told = run(folder, several(tmp_path / "b", large=50))
    assert told.returncode == 0, told.stderr
    assert f"A  {folder}\n" in told.stdout
    assert "no cell is in both" in told.stdout


def test_a_cell_that_two_results_hold_is_that_of_the_study_of_the_other_side(tmp_path):
    """A run of docs/results/h200/decode-8b's study has nothing that engines-8b beside it lacks."""
    folder = tmp_path / "all"
    for study in ("mine", "wider"):
        made_of = results_folder(tmp_path / study, cells(x=50 if study == "mine" else 90, **{study: 50}), seed=len(study))
        records.write(made_of / "runs.parquet", RUNS, [row | {"study": study} for row in records.read(made_of / "runs.parquet", RUNS).rows])
        shutil.copytree(made_of, folder / study)
    again = results_folder(tmp_path / "again", cells(x=50), seed=9)
    told = run(folder, again)
    assert (told.returncode, "name one of them" in told.stderr) == (2, True)
    records.write(again / "runs.parquet", RUNS, [row | {"study": "mine"} for row in records.read(again / "runs.parquet", RUNS).rows])
    found = comparison.compare(*results.read_both(folder, again))
    assert found.a == str(folder / "mine")
    assert {change.technique: change.outcome for change in found.cells} == {"baseline": "same", "x": "same", "mine": "disappeared"}


# The command


def run(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, compare.__file__, *map(str, arguments)], capture_output=True, text=True)


def test_the_command_prints_aligned_columns_and_exits_by_fail_on(tmp_path):
    a, b = results_folder(tmp_path / "a", cells(x=50), seed=1), results_folder(tmp_path / "b", cells(x=25), seed=2)
    told = run(a, b, "--fail-on", "slower")
    assert told.returncode == 1
    assert "1 of 2 cells fail --fail-on slower" in told.stderr
    header, *rows = told.stdout.split("\n\n")[1].splitlines()
    assert [row.split()[:2] for row in rows] == [
        ["slower", "local/generate/stdlib-llama/x"],
        ["same", "local/generate/stdlib-llama/baseline"],
    ]
    assert {row.index("local/") for row in rows} == {header.index("cell")}
    assert "1 slower, 1 same" in told.stdout
    assert (run(a, b).returncode, run(b, a, "--fail-on", "slower").returncode, run(b, a, "--fail-on", "changed").returncode) == (0, 0, 1)


def test_json_is_json_and_says_all(tmp_path):
    a, b = (results_folder(tmp_path / side, OFTEN, seed=seed) for seed, side in enumerate("ab"))
    told = run(a, b, "--json", "--fail-on", "slower")
    assert told.returncode == 0
    found = json.loads(told.stdout, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert (found["failed"], found["fail_on"]) == (False, "slower")
    assert found["counts"]["no figures"] == 1
    assert sum(found["counts"].values()) == len(found["cells"]) == len(made.DEFAULT_CELLS)
    assert set(found["cells"][0]) >= {"gpu", "experiment", "model", "technique", "outcome", "before", "after", "ratio"}
    assert set(found["cells"][0]["ratio"]) == {"value", "low", "high", "hidden"}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda path: None, "no such folder or file"),
        (lambda path: path.mkdir(), "not a results folder; it has no summary.parquet"),
        (lambda path: path.write_text("hello"), "not a readable Parquet file"),
        (lambda path: records.write(path, RUNS, []), "holds the table 'runs', not 'summary'"),
    ],
)
def test_what_is_not_a_result_is_one_line(tmp_path, make, said):
    make(tmp_path / "b")
    told = run(results_folder(tmp_path / "a", cells()), tmp_path / "b")
    assert told.returncode == 2
    assert told.stdout == ""
    (line,) = told.stderr.splitlines()
    assert line.startswith(f"speedgrid: {tmp_path / 'b'}: ")
    assert said in line
    assert "delete" not in line


def test_results_of_another_version_are_refused_in_one_line(tmp_path, monkeypatch):
    a = results_folder(tmp_path / "a", cells())
    monkeypatch.setattr(records, "SCHEMA_VERSION", records.SCHEMA_VERSION + 1)
    results_folder(tmp_path / "b", cells())
    told = run(a, tmp_path / "b")
    assert told.returncode == 2
    (line,) = told.stderr.splitlines()
    assert f"version {records.SCHEMA_VERSION} of the tables" in line


@pytest.mark.parametrize("floor", ["0", "-3", "x"])
def test_a_floor_that_is_none_is_refused(tmp_path, floor):
    told = run(tmp_path, tmp_path, "--floor", floor)
    assert told.returncode == 2
    assert "--floor" in told.stderr


def test_what_is_not_measured_yet_says_nothing_against_the_other_side(tmp_path):
    """B is a run that was stopped: a cell that no job came to is not one that no longer works; one that failed is."""
    a = results_folder(tmp_path / "a", cells(faster=60.0, waiting=55.0, broken=55.0))
    b = results_folder(tmp_path / "b", cells(faster=60.0, waiting=55.0, broken=55.0))
    rows = records.read(b / "summary.parquet", SUMMARY).rows
    for row in rows:
        if row["technique"] in ("waiting", "broken"):
            row |= {"status": {"waiting": "not_run", "broken": "failed"}[row["technique"]], "rate": None}
    records.write(b / "summary.parquet", SUMMARY, rows)
    found = compared(a, b)
    assert (outcomes(found)["waiting"], outcomes(found)["broken"]) == ("disappeared", "status")
    assert [change.technique for change in found.failures("slower")] == ["broken"]
    assert f"cells of {b} not measured yet: 1 of 4" in found.notes


def test_of_two_results_with_a_cell_that_with_more_of_the_other_side_is_compared(tmp_path):
    """As the repository has two studies of one model on one GPU."""
    folder = several(tmp_path / "a", small=50)
    wider = [made.Made(technique, technique, speed=50.0) for technique in ("baseline", "y")]
    other = results_folder(tmp_path / "wider", wider)
    rows = [row | {"model": "small"} for row in records.read(other / "summary.parquet", SUMMARY).rows]
    records.write(folder / "study-wider" / "summary.parquet", SUMMARY, rows)
    mine = several(tmp_path / "b", small=90)
    assert comparison.compare(*results.read_both(folder, mine)).a == str(folder / "study-small")


def test_of_a_result_that_shares_a_cell_with_a_larger_one_the_other_cells_are_compared(tmp_path):
    """Two studies of docs/results have a baseline in common: of the lesser one every cell was left out."""
    for seed, (name, speeds) in enumerate({"larger": {"x": 50.0, "w": 60.0}, "lesser": {"baseline": 40.0, "y": 70.0}}.items()):
        rows = records.read(results_folder(tmp_path / name, cells(**speeds), seed=seed) / "summary.parquet", SUMMARY).rows
        records.write(tmp_path / "a" / name / "summary.parquet", SUMMARY, rows)
    mine = results_folder(tmp_path / "mine", cells(x=50.0, w=60.0, y=70.0))
    compared = comparison.compare(*results.read_both(tmp_path / "a", mine))
    assert outcomes(compared) == dict.fromkeys(("baseline", "x", "w", "y"), "same")
    before = {change.technique: change.before.value for change in compared.cells}
    assert before["baseline"] == pytest.approx(50, rel=0.05), "that of the result with more of the other side"
    assert before["y"] == pytest.approx(70, rel=0.05)


@pytest.mark.parametrize(("busy_runs", "told"), [(1, True), (3, True), (3, False)])
def test_a_summary_of_before_takes_what_it_says_of_the_processor_for_what_disturbance_cost(tmp_path, busy_runs, told):
    """One disturbed run of three made a cell of an older summary one of which nothing was known."""
    folder = results_folder(tmp_path / "a", cells(x=50), seed=1)
    rows = records.read(folder / "summary.parquet", SUMMARY).rows
    busy = {"runs_disturbed": busy_runs, "disturbed": "other processes used 6% of the CPUs", "cpu_foreign": 0.06 if told else None}
    older = [row | {"disturbed_factor": None, "open_quiet": None} | (busy if row["technique"] == "x" else {}) for row in rows]
    lost = [comparison._lost(row, threads=2).most for row in older if row["technique"] == "x"]
    if busy_runs == 1:
        assert 0 <= lost[0] < 0.03, "its fastest run is hardly above its speed"
    else:
        assert lost[0] == (pytest.approx(-2 * math.log(0.94)) if told else math.inf)
    records.write(folder / "summary.parquet", SUMMARY, older)
    other = results_folder(tmp_path / "b", cells(x=500), seed=2) / "summary.parquet"
    found = compared(folder / "summary.parquet", other)
    notes = [note for note in found.notes if "an earlier speedgrid measured them" in note]
    # Without the threads of its process, which runs.parquet has, no share of the processor bounds it.
    assert len(notes) == (busy_runs == 3)
    assert outcomes(found)["x"] == ("faster" if busy_runs == 1 else "unsure")
