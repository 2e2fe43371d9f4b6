"""From records to the summary: what each figure is, and what becomes of every status."""

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from statistics import geometric_mean, median

import numpy as np
import pytest
import records_factory as made
import report_data
from speedgrid import noise, planning, records, stats
from speedgrid.report import collect, rendering, tables
from speedgrid.schema import EVALUATE, MEASURE, MEASURED, NOT_RUN, RUNS, STATUSES, SUMMARY, group_of
from test_generate import counted

import studies

FIGURES = ("tokens_per_s", "speedup", "latency_p50_s", "memory_peak", "cold_start_s", "parameters")


def summarise(tmp_path, cells=made.DEFAULT_CELLS, **group):
    read = [collect.read_cell(cell, made.JOBS) for cell in made.write_group(tmp_path, cells, **group)]
    return {row["technique"]: row for row in tables.summary_rows(read)}


@pytest.fixture(scope="module")
def default(tmp_path_factory):
    return summarise(tmp_path_factory.mktemp("default"))


def test_every_cell_has_a_row_in_the_order_of_the_plan(default):
    assert list(default) == [cell.technique for cell in made.DEFAULT_CELLS]
    assert all(list(row) == [column.name for column in SUMMARY.columns] for row in default.values())


def test_reply_figures_follow_their_definitions():
    reply = {"new_tokens": 11, "reply_s": 2.5, "ttft_s": 0.5, "prompt_tokens": 40, "batch_size": 1, "steps": 11}
    expected = {"tokens_per_s": 4.4, "decode_tokens_per_s": 5.0, "prefill_tokens_per_s": 80.0, "ttft_s": 0.5, "tpot_s": 0.2}
    assert tables.reply_figures(reply) == pytest.approx(expected)
    batch = {"tokens_per_s": 17.6, "decode_tokens_per_s": 20.0, "prefill_tokens_per_s": 320.0, "ttft_s": 0.5, "tpot_s": 0.2}
    assert tables.reply_figures({**reply, "new_tokens": 44, "batch_size": 4}) == pytest.approx(batch)


@pytest.mark.parametrize("reply", [{"new_tokens": 1, "ttft_s": 0.5}, {"new_tokens": 9, "ttft_s": None}], ids=["one token", "no TTFT"])
def test_a_reply_without_a_decode_phase_has_no_decode_figure(reply):
    figures = tables.reply_figures({"reply_s": 0.5, "prompt_tokens": 40, "batch_size": 1, "steps": reply["new_tokens"], **reply})
    assert figures["decode_tokens_per_s"] is figures["tpot_s"] is None
    assert figures["tokens_per_s"] == reply["new_tokens"] / 0.5


def test_a_figure_of_a_cell_is_over_its_replies(tmp_path):
    grid = made.write_group(tmp_path, [made.DEFAULT_CELLS[0]])
    cell = collect.read_cell(grid[0], made.JOBS)
    (row,) = tables.summary_rows([cell])
    rates = [reply["new_tokens"] / reply["reply_s"] for reply in cell.replies]
    assert row["tokens_per_s"] == pytest.approx(sum(rates) / 20)
    assert row["tokens_per_s_low"] < row["tokens_per_s"] < row["tokens_per_s_high"]
    assert row["latency_mean_s"] == pytest.approx(stats.mean([reply["reply_s"] for reply in cell.replies]))
    assert row["latency_p50_s"] < row["latency_p95_s"] < row["latency_p99_s"]
    assert (row["replies"], row["new_tokens"]) == (20, 20 * 64)
    # The phases are where the speed is, so that a stall moves neither.
    assert row["tpot_s"] == pytest.approx(median((r["reply_s"] - r["ttft_s"]) / 63 for r in cell.replies))
    assert row["ttft_s"] == pytest.approx(median(r["ttft_s"] for r in cell.replies))
    assert row["decode_tokens_per_s"] == pytest.approx(1 / row["tpot_s"], rel=1e-3)


def test_the_phases_of_a_cell_are_located_as_its_speed_is(tmp_path):
    """Of two runs the geometric mean of medians; a stall in a reply moves neither a phase nor the speed."""
    (grid,) = made.write_group(tmp_path, [replace(made.DEFAULT_CELLS[0], again=(60.0,))])
    cell = collect.read_cell(grid, made.JOBS)
    stalled = [dict(reply) for reply in cell.measure.rows]
    stalled[3]["reply_s"] += 30.0
    for rows in (cell.measure.rows, stalled):
        runs = [rows, cell.again[0].rows]
        (row,) = tables.summary_rows([replace(cell, measure=records.Record(rows, cell.measure.facts))])
        found = {name: [[tables.reply_figures(reply)[name] for reply in run] for run in runs] for name in ("ttft_s", "decode_tokens_per_s")}
        for name, figures in found.items():
            assert row[name] == pytest.approx(geometric_mean(map(median, figures))), name


def test_speedups_are_taken_against_the_baseline_of_the_group(default):
    baseline = default["baseline"]
    assert (baseline["speedup"], baseline["speedup_low"], baseline["speedup_high"]) == (1.0, None, None)
    row = default["torch_compile"]
    assert row["speedup"] == pytest.approx(row["rate"] / baseline["rate"]), "the ratio of the two figures beside it"
    assert row["speedup_low"] < row["speedup"] < row["speedup_high"]


def test_the_noise_of_a_cell_is_its_own_moderated_by_what_such_cells_have_shown(tmp_path):
    calm = replace(made.DEFAULT_CELLS[0], spread=0.002, again=(48.1, 47.9, 48.0))
    sdpa, known = made.DEFAULT_CELLS[1], noise.prior("cpu", "processor")
    rows = summarise(tmp_path / "calm", [calm, sdpa])
    assert (rows["baseline"]["runs"], rows["sdpa"]["runs"]) == (4, 1)
    assert rows["baseline"]["noise"] == pytest.approx(known.sd * (known.df / (known.df + 3)) ** 0.5, rel=0.01), (
        "its own three degrees say next to none"
    )
    assert rows["sdpa"]["noise"] == pytest.approx(rows["baseline"]["noise"], rel=0.01), "what the baseline has shown counts for its kind"
    assert rows["baseline"]["noise_runs"] == known.runs + 4
    shaky = replace(calm, again=(30.0, 70.0, 47.0))
    assert summarise(tmp_path / "shaky", [shaky, sdpa])["sdpa"]["noise"] > 1.5 * known.sd


AUTO, SHARPENED = [0, 0], [2, 0]  # further runs of a baseline and a technique, where `runs: auto` makes them


@pytest.mark.parametrize(
    ("further", "budget_s", "workload", "level"),
    [
        ([None, None], 600.0, "generate", 0.95),
        (AUTO, 0.0, "generate", 0.95),
        (AUTO, 600.0, "generate", 0.985),
        (SHARPENED, 600.0, "generate", 0.985),
        (SHARPENED, 0.0, "generate", 0.985),
        (AUTO, 600.0, "largest", 0.95),
    ],
    ids=["a fixed number", "no budget", "the first look", "a later one", "--sharpen", "no speeds to compare"],
)
def test_intervals_are_wider_where_what_they_say_decides_whether_there_are_further_runs(tmp_path, further, budget_s, workload, level):
    grid = made.write_group(tmp_path, made.DEFAULT_CELLS[:2])
    told = [cell | {"further": count} for cell, count in zip(grid, further, strict=True)]
    study = made.study() | {"budget_s": budget_s}
    asked = collect.looked_at_again({"study": study, "cells": [cell | {"workload": workload} for cell in told]})
    assert asked == ({group_of(grid[0])} if level > 0.95 else set())
    if workload == "largest":
        return
    plain, found = tables.summary_rows([collect.read_cell(cell, made.JOBS) for cell in grid]), gathered(told, study)
    assert [row["confidence"] for row in plain + found] == [0.95, 0.95, level, level]
    if level == 0.95:
        priced = ["further_runs", "further_runs_fastest", "open_runs"] * (further == AUTO)
        assert [row | dict.fromkeys(priced) for row in found] == [row | dict.fromkeys(priced) for row in plain], "to the last digit"
        return
    assert [row["rate"] for row in found] == [row["rate"] for row in plain]
    for narrow, wide in zip(plain, found, strict=True):
        assert wide["rate_low"] <= narrow["rate_low"] < narrow["rate_high"] <= wide["rate_high"]
    assert found[1]["speedup_low"] < plain[1]["speedup_low"] < plain[1]["speedup_high"] < found[1]["speedup_high"]


def test_the_price_of_what_a_study_without_a_budget_leaves_open_is_that_of_the_level_after_it(tmp_path):
    """Else --sharpen makes runs that do not decide it."""
    near = [replace(cell, speed=speed) for cell, speed in zip(made.DEFAULT_CELLS[:2], (50.0, 59.0), strict=True)]
    grid = made.write_group(tmp_path, near)
    study = made.study() | {"budget_s": 0.0}
    fixed, auto, goes_on = (
        gathered([cell | {"further": further} for cell in grid], study | {"budget_s": budget_s})[1]
        for further, budget_s in ((None, 0.0), (0, 0.0), (0, 600.0))
    )
    assert [row["verdict"] for row in (fixed, auto, goes_on)] == ["unsure"] * 3
    assert (auto["speedup_low"], auto["speedup_high"]) == (fixed["speedup_low"], fixed["speedup_high"])
    assert auto["further_runs"] == goes_on["further_runs"] > fixed["further_runs"]
    assert auto["open_runs"] == goes_on["open_runs"] > fixed["open_runs"]


def gathered(grid, study) -> list[dict]:
    return collect.gather({"study": study, "cells": grid, "jobs": made.JOBS}).summary


def test_one_group_of_a_study_may_be_looked_at_again_and_another_not(tmp_path):
    grid = [cell for name in "ab" for cell in made.write_group(tmp_path, made.DEFAULT_CELLS[:2], experiment=name)]
    told = [cell | {"further": 0 if cell["experiment"] == "a" else None} for cell in grid]
    assert [row["confidence"] for row in gathered(told, made.study() | {"budget_s": 600.0})] == [0.985, 0.985, 0.95, 0.95]


def test_steady_replies_of_a_gpu_have_the_noise_of_what_hangs_on_the_gpu(tmp_path):
    steady, shaky = (replace(cell, spread=spread) for cell, spread in zip(made.DEFAULT_CELLS[:2], (0.003, 0.06), strict=True))
    rows = summarise(tmp_path, [steady, shaky], machine=made.GPU_MACHINE)
    assert rows["baseline"]["noise"] == pytest.approx(noise.prior("cuda", "device").sd)
    assert rows["sdpa"]["noise"] == pytest.approx(noise.prior("cuda", "processor").sd)


def test_every_figure_of_a_cell_is_of_all_its_runs(tmp_path):
    grid = made.write_group(tmp_path, [replace(made.DEFAULT_CELLS[0], again=(60.0,)), made.DEFAULT_CELLS[1]])
    cells = [collect.read_cell(cell, made.JOBS) for cell in grid]
    row, other = tables.summary_rows(cells)
    runs = [[r["new_tokens"] / r["reply_s"] for r in record.rows] for record in (cells[0].measure, *cells[0].again)]
    medians, means = ([figure(run) for run in runs] for figure in (np.median, np.mean))
    assert row["run_rates"] == pytest.approx(medians)
    assert row["rate"] == pytest.approx(np.exp(np.mean(np.log(medians))))
    assert row["tokens_per_s"] == pytest.approx(np.mean(means))
    assert row["replies"] == 40
    assert other["speedup"] == pytest.approx(other["rate"] / row["rate"])
    assert row["baseline_drift"] == pytest.approx(60 / 48 - 1, rel=0.05)


def test_a_stall_moves_the_mean_and_not_the_speed(tmp_path):
    grid = made.write_group(tmp_path, [made.DEFAULT_CELLS[0]])
    calm = collect.read_cell(grid[0], made.JOBS)
    stalled = replace(
        calm,
        measure=records.Record(
            [{**r, "reply_s": 10 + r["reply_s"]} if r["reply"] in (4, 9) else r for r in calm.measure.rows], calm.measure.facts
        ),
    )
    (before,), (after,) = (tables.summary_rows([cell]) for cell in (calm, stalled))
    assert after["rate"] == pytest.approx(before["rate"], rel=0.01)
    assert after["tokens_per_s"] < 0.95 * before["tokens_per_s"]


def test_no_interval_reaches_beyond_the_slowest_and_the_fastest_reply(tmp_path):
    cells = [replace(made.DEFAULT_CELLS[0], again=(30.0, 70.0)), replace(made.DEFAULT_CELLS[1], spread=0.001)]
    grid = [collect.read_cell(cell, made.JOBS) for cell in made.write_group(tmp_path, cells)]
    for cell, row in zip(grid, tables.summary_rows(grid), strict=True):
        rates = [reply["new_tokens"] / reply["reply_s"] for reply in cell.all_replies]
        assert min(rates) <= row["rate_low"] <= row["rate"] <= row["rate_high"] <= max(rates)


def test_a_disturbed_run_counts_less_and_is_counted(tmp_path):
    quiet = replace(made.DEFAULT_CELLS[0], spread=0.001, again=(24.0,))
    even = summarise(tmp_path / "even", [quiet])["baseline"]
    grid = collect.read_cell(made.write_group(tmp_path, [quiet])[0], made.JOBS)
    busy = records.Record(grid.again[0].rows, grid.again[0].facts | {"disturbed": "other processes used 40 % of the CPUs"})
    (row,) = tables.summary_rows([replace(grid, again=[busy])])
    assert row["runs_disturbed"] == 1
    assert even["rate"] == pytest.approx((48 * 24) ** 0.5, rel=0.01)
    # It may have been as fast as the quiet one, which leads.
    assert row["rate"] == pytest.approx(48, rel=0.01)
    slightly = records.Record(busy.rows, busy.facts | {"cpu_foreign": 0.05, "threads": 1})
    (row,) = tables.summary_rows([replace(grid, again=[slightly])])
    assert even["rate"] < row["rate"] < 47, "what it cannot have lost counts, and less"


def ended(cell: tables.CellRecords, status: str, reason: str) -> records.Record:
    """The second run of a cell, ended so after its replies."""
    (second,) = cell.again
    return records.Record([row | {"status": status, "reason": reason} for row in second.rows], second.facts)


@pytest.mark.parametrize(("status", "reason"), [("oom", "CUDA out of memory"), ("not_engaged", "no compiled code ran")])
def test_a_further_run_that_ended_otherwise_than_the_first_leaves_the_figures_of_the_first_and_is_counted(tmp_path, status, reason):
    once = summarise(tmp_path / "once", [made.DEFAULT_CELLS[0]])["baseline"]
    twice = collect.read_cell(made.write_group(tmp_path, [replace(made.DEFAULT_CELLS[0], again=(90.0,))])[0], made.JOBS)
    (row,) = tables.summary_rows([replace(twice, again=[ended(twice, status, reason)])])
    assert [row[name] for name in ("status", "rate", "runs", "replies")] == [once[name] for name in ("status", "rate", "runs", "replies")]
    assert (row["runs_failed"], row["run_failure"]) == (1, f"{status}: {reason}")
    assert (once["runs_failed"], once["run_failure"]) == (0, None)
    waiting = replace(twice, again=[records.absent(MEASURE, NOT_RUN, "")])
    assert tables.summary_rows([waiting])[0]["runs_failed"] == 0, "what no job has come to has not failed"
    runs = [twice.measure, ended(twice, status, reason)]
    assert {row["run"] for row in rendering.replies_of(runs)} == {1}, "no chart shows replies that no figure is of"


# Recorded: ten replies of one process on a shared host, which slowed down towards the end. By themselves they are worth two.
SLOWING = [128 / rate for rate in (60.5, 61.9, 61.2, 56.7, 54.9, 60.3, 61.5, 58.7, 41.7, 36.3)]


def test_the_mean_lies_among_the_replies_however_little_they_say_of_it(tmp_path):
    slowing = replace(made.DEFAULT_CELLS[0], recorded=(SLOWING,), new_tokens=128)
    row = summarise(tmp_path, [slowing])["baseline"]
    assert row["replies_worth"] < 3
    assert [row[f"tokens_per_s{end}"] for end in ("_low", "", "_high")] == pytest.approx([36.3, 55.37, 61.9])


def test_the_interval_of_the_mean_of_few_replies_reaches_beyond_them(tmp_path):
    """In a quarter of samples of three the true mean is below or above all of them."""
    row = summarise(tmp_path, [replace(made.DEFAULT_CELLS[0], recorded=([1.0, 1.02, 0.99],), new_tokens=128)])["baseline"]
    assert row["tokens_per_s_low"] < 128 / 1.02
    assert row["tokens_per_s_high"] > 128 / 0.99


def test_no_interval_says_that_a_rate_might_be_negative(tmp_path):
    row = summarise(tmp_path, [replace(made.DEFAULT_CELLS[0], spread=1.5, replies=3)])["baseline"]
    assert 0 <= row["tokens_per_s_low"] < row["tokens_per_s"] < row["tokens_per_s_high"]
    assert row["tokens_per_s_high"] > 2 * row["tokens_per_s"], "so scattered that the interval reaches beyond nought"


def test_a_percentile_has_bounds_where_the_replies_support_it(tmp_path):
    rows = summarise(tmp_path, [replace(made.DEFAULT_CELLS[0], replies=80), made.DEFAULT_CELLS[1]])
    many, few = rows["baseline"], rows["sdpa"]
    assert many["latency_p50_low_s"] <= many["latency_p50_s"] <= many["latency_p50_high_s"]
    assert few["latency_p50_low_s"] <= few["latency_p50_s"] <= few["latency_p50_high_s"]
    assert few["latency_p95_low_s"] is few["latency_p95_high_s"] is None
    assert many["latency_p99_low_s"] is many["latency_p99_high_s"] is None


def test_every_measured_cell_has_a_ceiling_or_a_reason(tmp_path, default):
    for row in default.values():
        if row["status"] in MEASURED:
            assert row["decode_headroom"] > 0
            assert row["ceiling_reason"] is None
    row = summarise(tmp_path, made.DEFAULT_CELLS[:1], parameters=7_000_000_000)["baseline"]
    assert row["mbu"] is None
    assert "the configuration explains" in row["ceiling_reason"]


def test_groups_do_not_share_a_baseline(tmp_path):
    slow = made.write_group(tmp_path, made.DEFAULT_CELLS[:2])
    fast = made.write_group(tmp_path, [replace(cell, speed=cell.speed * 10) for cell in made.DEFAULT_CELLS[:2]], model="other")
    rows = tables.summary_rows([collect.read_cell(cell, made.JOBS) for cell in (*slow, *fast)])
    assert [row["speedup"] for row in rows] == pytest.approx([1, 50.5 / 48, 1, 50.5 / 48], rel=0.02)


@pytest.mark.parametrize("status", [status for status in STATUSES if status != NOT_RUN])
def test_only_measured_cells_have_figures(tmp_path, status):
    reason = "" if status == "ok" else "because of this"
    cells = [made.DEFAULT_CELLS[0], replace(made.DEFAULT_CELLS[1], status=status, reason=reason, replies=7)]
    row = summarise(tmp_path, cells)["sdpa"]
    assert (row["status"], row["reason"], row["replies"]) == (status, reason, 7)
    assert {row[name] is not None for name in FIGURES} == {status in MEASURED}
    assert row["label"] == "SDPA"
    assert row["device_name"] == made.MACHINE["device_name"]


def test_a_cell_whose_measurement_alone_failed_keeps_its_quality(tmp_path):
    cells = [made.DEFAULT_CELLS[0], replace(made.DEFAULT_CELLS[1], status="timeout", reason="the time budget ran out")]
    grid = made.write_group(tmp_path, cells)
    measured, failed = (Path(cell["folder"], "evaluate.parquet") for cell in grid)
    scored = records.read(measured, EVALUATE)
    records.write(failed, EVALUATE, [row | {"technique": "sdpa"} for row in scored.rows], scored.facts)
    row = tables.summary_rows([collect.read_cell(cell, made.JOBS) for cell in grid])[1]
    assert (row["technique"], row["status"], row["tokens_per_s"]) == ("sdpa", "timeout", None)
    assert row["bits_per_byte"] == pytest.approx(made.DEFAULT_CELLS[0].bits_per_byte)
    text = report_data.page_of(grid, made.study())
    assert "the time budget ran out" in text


def test_a_cell_that_never_began_has_no_replies(default):
    row = default["bnb_nf4"]
    assert (row["status"], row["replies"], row["tokens_per_s"]) == ("missing_dependency", 0, None)
    assert "bitsandbytes is not installed" in row["reason"]


def test_a_technique_that_was_not_active_keeps_its_figures(default):
    row = default["torch_compile_naive"]
    assert (row["status"], row["engaged"]) == ("not_engaged", False)
    assert row["speedup"] == pytest.approx(1, abs=0.05)


def test_what_disturbed_a_run_of_the_baseline_is_no_drift(tmp_path):
    grid = collect.read_cell(
        made.write_group(tmp_path, [replace(made.DEFAULT_CELLS[0], spread=0.001, again=(48.0, 48.1, 48.0, 6.0))])[0], made.JOBS
    )
    *quiet, last = grid.again
    busy = records.Record(last.rows, last.facts | {"disturbed": "other processes used 88 % of the CPUs", "cpu_foreign": 0.88})
    drifts = [tables.summary_rows([replace(grid, again=again)])[0]["baseline_drift"] for again in ([*quiet, busy], quiet, grid.again)]
    assert drifts[0] == drifts[1]
    assert abs(drifts[1]) < 0.05 < abs(drifts[2])


def test_a_cell_that_was_disturbed_or_not_engaged_changes_no_verdict_of_others(tmp_path):
    quiet = [made.Made("baseline", "B", speed=48.0, again=(48.5, 47.6)), made.Made("sdpa", "SDPA", speed=60.0, again=(60.5, 59.4))]
    busy = made.Made("bf16", "bfloat16", speed=20.0, facts={"disturbed": "another program used the processor"})
    shaky = made.Made("bf16", "bfloat16", speed=20.0, again=(70.0, 9.0), status="not_engaged", reason="not active")
    alone = summarise(tmp_path / "alone", quiet)
    assert alone["sdpa"]["verdict"] == "faster"
    for name, other in {"disturbed": busy, "not engaged": shaky, "both": replace(shaky, facts=busy.facts)}.items():
        beside = summarise(tmp_path / name, [*quiet, other])
        for technique in alone:
            told = ("rate", "rate_low", "rate_high", "noise", "noise_runs", "speedup", "speedup_low", "speedup_high", "verdict", "standing")
            assert [beside[technique][key] for key in told] == [alone[technique][key] for key in told], (name, technique)
        assert beside["bf16"]["rate_low"] < beside["bf16"]["rate"] < beside["bf16"]["rate_high"]


def test_without_a_baseline_that_was_measured_there_is_no_speedup(tmp_path):
    cells = [replace(made.DEFAULT_CELLS[0], status="oom", reason="out of memory"), made.DEFAULT_CELLS[1]]
    row = summarise(tmp_path, cells)["sdpa"]
    assert row["tokens_per_s"] > 0
    assert row["speedup"] is row["speedup_low"] is None


def test_a_single_reply_has_figures_but_no_spread(tmp_path):
    row = summarise(tmp_path, [replace(cell, replies=1) for cell in made.DEFAULT_CELLS[:2]])["sdpa"]
    assert row["tokens_per_s"] > 0
    assert row["speedup"] > 0
    assert row["tokens_per_s_low"] is row["speedup_low"] is row["latency_std_s"] is None


def test_single_replies_of_several_runs_have_no_interval_either_and_a_page(tmp_path):
    cells = [replace(cell, replies=1, again=(cell.speed,)) for cell in made.DEFAULT_CELLS[:2]]
    row = summarise(tmp_path / "table", cells)["sdpa"]
    assert row["tokens_per_s"] == pytest.approx(50.5, rel=0.1)
    assert row["tokens_per_s_low"] is row["tokens_per_s_high"] is row["rate_low"] is None
    assert "token/s" in report_data.page_of(made.write_group(tmp_path / "page", cells), made.study(cells=cells))


def test_quality_is_bits_over_all_bytes(default):
    assert default["bf16"]["bits_per_byte"] == pytest.approx(1.904)
    assert default["bf16"]["quality_bytes"] == 8 * 8000
    assert default["bf16"]["quality_status"] is None


def test_why_there_is_no_quality_is_said(tmp_path, default):
    assert (default["bnb_nf4"]["bits_per_byte"], default["bnb_nf4"]["quality_status"]) == (None, "missing_dependency")
    row = summarise(tmp_path, made.DEFAULT_CELLS[:1], evaluate=False)["baseline"]
    assert (row["bits_per_byte"], row["quality_status"], row["quality_reason"]) == (None, None, "not asked for")


def test_cold_start_and_checkpoint_costs_are_in_the_summary(default):
    assert default["torch_compile"]["cold_start_s"] == pytest.approx(42.6)
    assert default["torch_compile"]["nothing_compiled"] is True
    assert (default["bnb_int8"]["quantize_s"], default["sdpa"]["quantize_s"]) == (6.5, None)


def test_every_job_has_a_row_and_shared_jobs_have_one(tmp_path):
    cells = [collect.read_cell(cell, made.JOBS) for cell in made.write_group(tmp_path)]
    rows = tables.run_rows(cells)
    stages = [row["stage"] for row in rows]
    assert stages[:3] == ["prepare_model", "quantize", "quantize"]
    assert {stage: stages.count(stage) for stage in ("prepare_model", "warmup", "measure", "evaluate")} == {
        "prepare_model": 1,
        "warmup": 8,
        "measure": 8,
        "evaluate": 8,
    }
    assert rows[0]["technique"] is None
    assert stages[-1] == "score"
    assert rows[-2]["packages"] == made.MACHINE["packages"]


def run_aggregate(tmp_path, grid):
    plan = made.write_plan(tmp_path, grid)
    arguments = ["--plan", plan, "--summary", tmp_path / "out/summary.parquet", "--points", tmp_path / "out/points.parquet"]
    arguments += ["--runs", tmp_path / "out/runs.parquet"]
    return subprocess.run([sys.executable, studies.ROOT / "scripts/aggregate.py", *map(str, arguments)], capture_output=True, text=True)


def test_the_command_writes_both_tables_and_a_headline_for_each_cell(tmp_path):
    done = run_aggregate(tmp_path, made.write_group(tmp_path))
    assert done.returncode == 0, done.stderr
    assert len(records.read(tmp_path / "out/summary.parquet", SUMMARY).rows) == 8
    assert len(records.read(tmp_path / "out/runs.parquet", RUNS).rows) == 1 + 2 + 3 * 8 + 1
    lines = done.stdout.splitlines()
    assert len(lines) == 8
    assert lines[2].startswith("ok ")
    assert "token/s (" in lines[2]
    assert "1.9" in lines[2].partition("×")[0][-5:]
    assert lines[7].endswith("the Python package bitsandbytes is not installed in this environment")


def test_the_command_names_a_damaged_file_and_writes_the_tables_of_all_others(tmp_path):
    grid = made.write_group(tmp_path, made.DEFAULT_CELLS[:2])
    measure = tmp_path / "results/local/generate/stdlib-llama/baseline/measure.parquet"
    measure.write_bytes(b"not Parquet")
    done = run_aggregate(tmp_path, grid)
    assert done.returncode == 1
    assert done.stderr.startswith("speedgrid: ")
    assert str(measure) in done.stderr
    assert done.stderr.count("\n") == 1
    baseline, sdpa = records.read(tmp_path / "out/summary.parquet", SUMMARY).rows
    assert (baseline["status"], sdpa["status"]) == ("failed", "ok")
    assert str(measure) in baseline["reason"]


@pytest.mark.parametrize("of", ["warmup", "measure", "evaluate", "score", "probe", "model", "checkpoint"])
def test_what_a_cell_uses_is_outdated_where_the_study_has_it_otherwise(tmp_path, of):
    grid = made.write_group(tmp_path, [made.DEFAULT_CELLS[0], next(cell for cell in made.DEFAULT_CELLS if cell.transform)])
    jobs = made.Jobs()
    outdated = [row["outdated"] for row in tables.summary_rows([collect.read_cell(cell, jobs) for cell in grid])]
    assert outdated == ["", ""]
    path = {"score": "score", "probe": "probe", "model": "model_record", "checkpoint": "checkpoint_record"}.get(of)
    record = grid[1][path] if path else f"{grid[1]['folder']}/{of}.parquet"
    jobs[record] = jobs[record] | {"seed": 2, "calibration": {"sequences": 64}}
    outdated = [row["outdated"] for row in tables.summary_rows([collect.read_cell(cell, jobs) for cell in grid])]
    changed = "calibration.sequences, seed"
    assert outdated == ([changed, changed] if of in ("model", "score", "probe") else ["", changed])


def test_quality_is_outdated_where_the_study_scores_another_text(tmp_path):
    (cell,) = made.write_group(tmp_path, [made.DEFAULT_CELLS[0]])
    jobs = made.Jobs({f"{cell['folder']}/evaluate.parquet": made.JOB | {"evaluate": made.EVALUATED | {"max_bytes": 5}}})
    (row,) = tables.summary_rows([collect.read_cell(cell, jobs)])
    assert row["outdated"] == "evaluate.max_bytes"


@pytest.mark.parametrize("key", ["gpu", "experiment", "model", "technique", "run"])
@pytest.mark.parametrize("of", ["warmup", "measure", "evaluate"])
def test_a_record_of_another_cell_or_run_is_refused_by_its_name(tmp_path, of, key):
    (cell,) = made.write_group(tmp_path, [made.DEFAULT_CELLS[0]])
    path = f"{cell['folder']}/{of}.parquet"
    jobs = made.Jobs({path: made.JOB | {key: "another"}})
    unreadable: dict[str, None] = {}
    read = collect.read_cell(cell, jobs, unreadable)
    assert list(unreadable) == [f"{path}: is of another job, not of another; delete it and run again"]
    (row,) = tables.summary_rows([read])
    assert (row["status"], row["rate"]) == (("failed", None) if of == "measure" else ("ok", row["rate"]))
    assert (row["bits_per_byte"] is None) == (of == "evaluate")


def test_groups_keep_the_order_of_the_plan_and_make_labels_unique(tmp_path):
    cells = [made.DEFAULT_CELLS[0], replace(made.DEFAULT_CELLS[1], label=made.DEFAULT_CELLS[0].label)]
    grid = [*made.write_group(tmp_path, cells, model="z"), *made.write_group(tmp_path, cells, model="a")]
    read = [collect.read_cell(cell, made.JOBS) for cell in grid]
    replies = [row for cell in grid for row in records.read(f"{cell['folder']}/measure.parquet", MEASURE).rows]
    found = list(tables.groups(tables.summary_rows(read), replies))
    assert [group.model for group in found] == ["z", "a"]
    assert list(found[0].rows.label) == ["Baseline (eager attention) [baseline]", "Baseline (eager attention) [sdpa]"]
    assert len(found[1].replies) == 40
    assert math.isnan(found[0].rows.quantize_s[0])


def test_the_study_of_a_laptop_is_s1s_protocol(tmp_path):
    """studies/llm-jp-laptop.yaml: 100 replies and one run are exactly 100 replies in one process, whose mean stands beside the median."""
    laptop = planning.read_grid(planning.ROOT / "studies/llm-jp-laptop.yaml").cells
    cells = [cell for cell in laptop if cell.experiment == "generate"]
    assert len(cells) >= 11
    for cell in cells:
        assert (len(cell.measures), cell.further) == (1, None), "a process each, whatever `runs: auto` would find"
        rows, stopped, _ = counted(cell.settings["replies"], lambda number: 2.0 if number % 10 == 0 else 1.0 + number / 1000)
        assert (len(rows), stopped) == (100, "exact")
    # One in ten stalls: the published mean has that in it, and the speed has not.
    times = [row["reply_s"] for row in rows]
    row = summarise(tmp_path, [made.Made("baseline", "B", recorded=(times,))])["baseline"]
    rates = [64 / seconds for seconds in times]
    assert (row["replies"], row["runs"], len(row["run_rates"])) == (100, 1, 1)
    assert row["tokens_per_s"] == pytest.approx(sum(rates) / 100)
    assert row["rate"] == pytest.approx(median(rates))
    assert row["tokens_per_s"] < 0.97 * row["rate"]
