"""The answer in words: which sentences are said follows from the rows."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import records_factory as made
from report_data import group_of, quick_parts, tables_of
from speedgrid import planning, records, standing
from speedgrid.quality import excerpts
from speedgrid.quality.scores import HELD_OUT
from speedgrid.report import advised, collect, figures_table, language, machines, markdown, tables, trust
from speedgrid.report.advice import Ask
from speedgrid.report.advised import Guide
from speedgrid.report.answer import _quality_point, answer
from speedgrid.report.charts import base
from speedgrid.report.charts import phases as phases_chart
from speedgrid.report.charts import speed as speed_chart
from speedgrid.report.phrases import in_words
from speedgrid.report.tables import groups
from speedgrid.schema import MEASURE, NOT_RUN, SUMMARY

BASELINE, SDPA, COMPILED, NAIVE, NO_CACHE = made.DEFAULT_CELLS[:5]


def said(tmp_path, cells, devices=("cpu",), **options):
    """Headline, points and warnings as plain text."""
    told = answer(group_of(tmp_path, cells, **options), frozenset(devices))
    headline, *points = (part.striptags().replace("\u00a0", " ") for part in (told.headline, *told.points))
    return headline, " ".join(points), " ".join(warning.striptags() for warning in told.warnings)


def test_the_fastest_is_named_with_its_speed_speedup_and_intervals(tmp_path):
    headline, points, _ = said(tmp_path, made.DEFAULT_CELLS)
    # What bfloat16 costs is known, and that it is no faster is not.
    assert headline.startswith("Without a measurable loss of quality, torch.compile (static cache) is the fastest: 9")
    assert "95 % interval" in headline
    assert "a speed-up of 1.9" in headline
    assert "over Baseline (eager attention)" in headline
    assert "Quality of torch.compile (static cache): no measurable loss (bits per byte ±0.00 %" in points
    assert "torch.compile (static cache) has 1.900 bits per byte on held-out text" in points
    # bfloat16 costs something in quality, so that it does not lead; that it may be as fast is told.
    assert "whether bfloat16 could be as fast as torch.compile (static cache)" in points
    assert "Slower than Baseline (eager attention): No KV cache 0.2" in points


PRUNED = made.Made("prune_50", "Pruned by 50 %", "compression", 190.0, peak=500, bits_per_byte=5.2, lossless=False)
FOUR_BITS = made.Made("bnb_nf4", "bitsandbytes NF4", "quantization", 130.0, peak=400, bits_per_byte=2.11, lossless=False)


def test_a_model_that_forgot_what_it_knew_never_leads_and_is_named_with_its_price(tmp_path):
    headline, points, _ = said(tmp_path, [AGAIN, often(COMPILED), often(PRUNED), often(FOUR_BITS)])
    assert headline.startswith("Without a measurable loss of quality, torch.compile (static cache) is the fastest: 9")
    assert re.search(
        r"Faster at a price: Pruned by 50 % [34]\.\d+× \([\d.–]+\) for \+174 % bits per byte;"
        r" bitsandbytes NF4 2\.\d+× \([\d.–]+\) for \+11 % bits per byte\.",
        points,
    )
    assert "No technique lowers memory by 2 % or more without a measurable loss of quality" in points
    less = r"Less memory at a price: bitsandbytes NF4 400 MiB \(−56 %\) for \+11 % bits per byte, 2\.\d+× as fast; Pruned by 50 % 500 MiB"
    assert re.search(less, points)
    assert "Most memory saved" not in points


def test_where_all_that_is_faster_has_a_price_the_baseline_leads(tmp_path):
    headline, points, _ = said(tmp_path, [AGAIN, often(PRUNED)])
    assert headline.startswith("Without a measurable loss of quality, nothing here is faster than Baseline (eager attention), the baseline")
    assert "Faster at a price: Pruned by 50 %" in points


def test_all_that_is_faster_is_named_in_order_and_what_ties_stands_together(tmp_path):
    cells = [AGAIN, often(COMPILED, speed=150), often(SDPA, speed=90), often(NAIVE, status="ok", reason="", speed=89)]
    _, points, _ = said(tmp_path, [*cells, often(FOUR_BITS, speed=70)])
    assert re.search(
        r"Faster than Baseline \(eager attention\), too: SDPA 1\.\d+× \([\d.–]+\) and torch\.compile \(one line\) 1\.\d+× \([\d.–]+\),"
        r" equally fast; bitsandbytes NF4 1\.4\d*× \([\d.–]+\) for \+11 % bits per byte\.",
        points,
    )


def test_unknown_quality_is_never_presented_as_kept(tmp_path):
    headline, points, _ = said(tmp_path, [AGAIN, often(COMPILED), often(PRUNED)], quality_meaningful=False)
    assert headline.startswith("With the model's arithmetic unchanged, torch.compile (static cache) is the fastest")
    assert "Quality of torch.compile (static cache): not measured (the model's weights are random); it keeps" in points
    assert re.search(r"Faster at a price: Pruned by 50 % [\d.× (–]+\) with unknown quality", points)
    headline, points, _ = said(tmp_path / "one", [AGAIN, often(SDPA), often(COMPILED, bits_per_byte=None)])
    assert headline.startswith("Without a measurable loss of quality, ")
    assert re.search(r"Faster at a price: torch\.compile \(static cache\) [\d.× (–]+\) with unknown quality", points)


def often(cell, runs=4, **changes):
    """The cell with further runs of the same speed, but for a percent."""
    cell = replace(cell, **changes)
    return replace(cell, again=[cell.speed * (1 + 0.01 * (-1) ** run) for run in range(runs - 1)])


AGAIN = often(BASELINE)


def test_what_is_really_close_to_the_fastest_is_as_fast_and_the_baseline_is_not_among_it(tmp_path):
    headline, points, _ = said(tmp_path, [AGAIN, often(SDPA, speed=90), often(COMPILED, speed=92)])
    assert headline.startswith("torch.compile (static cache) and SDPA are the fastest and equally fast")
    assert "cannot be told apart" not in headline
    assert "Open:" not in points


def test_what_may_be_as_fast_is_open_and_has_its_price(tmp_path):
    headline, points, _ = said(tmp_path, [AGAIN, replace(SDPA, speed=80), replace(COMPILED, speed=92)])
    assert headline.startswith("torch.compile (static cache) leads with 9")
    assert headline.endswith("Whether SDPA could be as fast is open.")
    assert re.search(
        r"Open: whether SDPA could be as fast as torch.compile \(static cache\)\. \d+ more runs? of each would decide it, about", points
    )


def test_the_headline_prints_the_speeds_whose_ratio_it_prints(tmp_path):
    headline, _, _ = said(tmp_path, [AGAIN, often(COMPILED)])
    speed, ratio, below = (
        float(re.search(p, headline)[1]) for p in (r"fastest: ([\d.]+) token", r"speed-up of ([\d.]+)×", r"attention\) at ([\d.]+) token")
    )
    assert ratio == pytest.approx(speed / below, rel=0.02)


def test_what_is_surely_slower_than_the_fastest_is_no_tie_although_its_interval_is_wide(tmp_path):
    cells = [AGAIN, often(SDPA, speed=55, spread=0.2), often(COMPILED, speed=90, spread=0.2)]
    headline, _, _ = said(tmp_path, cells)
    rows = {row.technique: row for row in group_of(tmp_path / "again", cells).measured.itertuples()}
    assert headline.startswith("torch.compile (static cache) is the fastest")
    assert {name: row.ties_fastest for name, row in rows.items()} == {"baseline": False, "sdpa": False, "torch_compile": True}


def test_what_is_as_fast_as_the_baseline_is_said_with_its_ratio(tmp_path):
    _, points, _ = said(tmp_path, [AGAIN, often(COMPILED), often(SDPA, speed=48.2)])
    assert re.search(r"As fast as Baseline \(eager attention\): SDPA 1\.0\d*×", points)
    assert re.search(r"Noise between runs of Baseline \(eager attention\): [\d.]+ % \(standard deviation\), from 4 of its own runs", points)
    _, points, _ = said(tmp_path / "once", [BASELINE, often(COMPILED)])
    assert re.search(r"Noise between runs of Baseline \(eager attention\): [\d.]+ % \(standard deviation\), from .*; it ran once\.", points)


def test_what_these_runs_cannot_say_is_open_with_its_ratio_and_price(tmp_path):
    _, points, _ = said(tmp_path, [AGAIN, often(COMPILED), replace(SDPA, speed=51)])
    assert re.search(
        r"Open: faster or slower than Baseline \(eager attention\): SDPA 1\.\d+× \([\d.–]+\)\. \d+ (to \d+ )?more runs? of each", points
    )


def test_runs_that_are_far_apart_leave_small_differences_open(tmp_path):
    shaky = replace(BASELINE, again=(40.0, 56.0, 47.0))
    headline, points, _ = said(tmp_path, [shaky, replace(SDPA, speed=53), replace(COMPILED, speed=56)])
    # What may be no faster than the baseline does not lead.
    assert headline.startswith("Nothing here is surely faster than Baseline (eager attention) at 4")
    assert "The highest speed is that of torch.compile (static cache): 5" in headline
    assert headline.endswith("Whether SDPA could be as fast is open.")
    assert re.search(r"Its runs: 4\d\.\d, [34]\d\.\d, 5\d\.\d and 4\d\.\d token/s\.", points)


@pytest.mark.parametrize("cells", [[BASELINE, SDPA], [AGAIN, SDPA]], ids=["it ran once", "it ran again"])
def test_that_runs_auto_looks_again_is_said_of_its_intervals(tmp_path, cells):
    said_of_it = "its intervals of speed-ups are wider for that, so that 95 % of them hold, however often it looked."
    _, points, _ = said(tmp_path, cells)
    assert said_of_it not in points
    grid = [collect.read_cell(cell, made.JOBS) for cell in made.write_group(tmp_path / "auto", cells)]
    (group,) = tables.groups(tables.summary_rows([replace(cell, looks_again=True) for cell in grid]), [])
    assert said_of_it in str(trust.noise_sentence(group)).replace("\u00a0", " ")


def test_a_machine_that_drifts_is_said_to(tmp_path):
    drifting = replace(BASELINE, spread=0.001, again=(53.0, 58.0, 63.5, 70.0))
    _, _, warnings = said(tmp_path, [drifting, SDPA])
    assert "The machine drifted: from its first run to its last the baseline changed by +4" in warnings
    _, _, warnings = said(tmp_path / "calm", [AGAIN, SDPA])
    assert "drifted" not in warnings


def test_a_disturbed_run_is_named_with_what_disturbed_it(tmp_path):
    busy = replace(SDPA, facts={"disturbed": "other processes used 31 % of the CPUs", "shared": True})
    _, _, warnings = said(tmp_path, [BASELINE, busy])
    assert "SDPA was disturbed while it was measured: other processes used 31 % of the CPUs. A disturbed run counts less." in warnings


def test_what_picking_tokens_takes_is_said_where_llama_bench_would_show_more(tmp_path):
    picks = [replace(cell, facts={"evidence": json.dumps({"sampling_share": share})}) for cell, share in ((SDPA, 0.284), (COMPILED, 0.012))]
    _, _, warnings = said(tmp_path, [BASELINE, *picks])
    assert "takes part of each decoding step: 28 % (SDPA). llama-bench picks none" in warnings
    _, _, warnings = said(tmp_path / "slow", [BASELINE, picks[1]])
    assert "llama-bench" not in warnings


@pytest.mark.parametrize(
    ("kind", "family", "away", "told"),
    [
        (
            "Q8_0",
            "quantization",
            0.4,
            "0.40 nat from the unmodified model, and Q8_0 usually costs about 0.0014: llama.cpp may",
        ),
        ("Q6_K", "quantization", 0.4, "0.40 nat from the unmodified model, and Q6_K usually costs about 0.0055"),
        ("Q8_0", "quantization", 0.09, ""),
        ("Q8_0", "quantization", None, ""),
        ("Q8_0", "compression", 0.4, ""),
        ("Q4_K - Medium", "quantization", 0.4, ""),
        (None, "quantization", 0.4, ""),
    ],
)
def test_a_quantized_file_further_from_the_model_than_its_format_explains_is_said_to_be(tmp_path, kind, family, away, told):
    summary, _, replies = tables_of(made.write_group(tmp_path, [BASELINE, SDPA]))
    change = {"kl_divergence": away, "family": family, "evidence": json.dumps({"file_type": kind} if kind else {})}
    (group,) = groups([row | (change if row["technique"] == "sdpa" else {}) for row in summary], replies)
    said = [text for text in map(str, trust.warnings(group)) if "from the unmodified model" in text]
    assert len(said) == bool(told)
    assert told in "".join(said)


def test_a_technique_that_is_compiled_in_part_is_said_to_be(tmp_path):
    cells = [replace(cell, facts={"evidence": json.dumps({"functions_given_up": parts})}) for cell, parts in ((SDPA, 2), (COMPILED, 0))]
    _, _, warnings = said(tmp_path, [BASELINE, *cells])
    assert warnings.count("torch.compile gave up") == warnings.count("torch.compile gave up a part of SDPA,") == 1


def test_replies_that_end_at_once_are_warned_of_with_how_many_tokens_were_asked_for(tmp_path):
    """As of a model whose end token is what it says first: a rate of replies of one token each is no speed of decoding."""
    settings = made.JOB["settings"] | {"max_new_tokens": 64}
    asked = {"job": json.dumps(made.JOB | {"settings": settings})}
    whole, cut = replace(SDPA, facts=asked), replace(SDPA, facts=asked, new_tokens=1)
    _, _, warnings = said(tmp_path, [BASELINE, cut])
    assert (
        "Replies ended early, at an end token, so that less was timed than was asked for: SDPA 20 of 1,280 tokens in 20 replies."
        " ignore_eos: true has them go on." in warnings
    )
    _, _, warnings = said(tmp_path / "whole", [BASELINE, whole])
    assert "ended early" not in warnings


def test_variables_of_the_environment_in_which_runs_differ_are_named(tmp_path):
    def run(technique, *variables):
        return {"technique": technique, "variables": ", ".join(variables)}

    same = [run("baseline", "OMP_PROC_BIND=1"), run("sdpa", "OMP_PROC_BIND=1")]
    assert machines.differing(same) == machines.differing([]) == {}
    differ = [*same, run("sdpa", "OMP_PROC_BIND=1", "TORCHDYNAMO_DISABLE=1"), {"technique": "older", "variables": None}]
    assert machines.differing(differ) == {"TORCHDYNAMO_DISABLE=1": ["sdpa"]}, "nothing is known of the older run"
    group = group_of(tmp_path, [BASELINE, SDPA])
    assert "Variables of the environment" not in str(answer(group).warnings)
    told = " ".join(text.striptags() for text in answer(group, variables={"TORCHDYNAMO_DISABLE=1": ["sdpa"]}).warnings)
    assert "were set in some runs and not in others, and may be what differs between them: TORCHDYNAMO_DISABLE=1 (SDPA)." in told


def test_a_speed_up_between_two_gpus_is_marked_where_it_stands(tmp_path):
    """Cells of a study that took two GPUs of one host stood beside each other, and the page said nothing of it."""

    def run(technique, *gpus):
        return [{"technique": technique, "device_uuid": gpu, "status": "ok"} for gpu in gpus]

    assert machines.gpus([*run("baseline", "a"), *run("sdpa", "a")], "baseline") == (1, [])
    assert machines.gpus(run("baseline", None, None), "baseline") == (0, []), "a processor"
    assert machines.gpus([*run("baseline", "a", "b"), *run("sdpa", "b")], "baseline") == (2, []), "the baseline was on both"
    assert machines.gpus([*run("eager", "a"), *run("sdpa", "b")], None) == (2, []), "and nothing is over a baseline"
    gpus = machines.gpus([*run("baseline", "a", "a"), *run("sdpa", "b", "b"), *run("torch_compile", "b", "a")], "baseline")
    assert gpus == (2, ["sdpa"])
    failed = run("baseline", "b")[0] | {"status": "failed"}
    assert machines.gpus([*run("baseline", "a"), failed, *run("sdpa", "b")], "baseline").apart == ["sdpa"], "which has no figures"

    group = group_of(tmp_path, [BASELINE, SDPA, COMPILED])
    said = [text.striptags() for text in answer(group, gpus=gpus).warnings]
    between = "SDPA ran on another GPU than Baseline (eager attention): what the two differ by is a part of the speed-up."
    assert [text for text in said if "2 GPUs of one machine" in text and text.endswith(between)]
    alone = " ".join(text.striptags() for text in answer(group, gpus=machines.Gpus(2)).warnings)
    assert "2 GPUs of one machine" in alone
    assert "ran on another GPU" not in alone
    assert "GPUs of one machine" not in str(answer(group).warnings)

    table = figures_table.result_table(group, {}, ("rate", "speedup"), gpus.apart)
    plain = figures_table.result_table(group, {}, ("rate", "speedup"))
    marked = {row.label for row in table.rows for cell in row.cells if "‡" in cell.note + cell.text}
    assert marked == {"SDPA"}
    assert [[(cell.text, cell.key) for cell in row.cells] for row in table.rows] == [
        [(cell.text, cell.key) for cell in row.cells] for row in plain.rows
    ], "a CSV holds the figures alone"
    assert table.notes == [*plain.notes, "‡ Over a baseline that ran on another GPU."]
    assert "‡" not in str(figures_table.result_table(group, {}, ("rate",), gpus.apart)), "without the column there is nothing to mark"


def test_what_a_quantization_left_out_is_said(tmp_path):
    partly = {"quantized_share": 0.726, "left_as_it_was": "layers.*.conv.weight, 27% of the layers' weights"}
    _, _, warnings = said(tmp_path, [BASELINE, replace(SDPA, facts={"evidence": json.dumps(partly)})])
    assert (
        "SDPA quantizes 73 % of the weights of the layers, and leaves layers.*.conv.weight, 27% of the layers' weights as it was."
        in warnings
    )
    taken_apart = {"dequantized_from": "mxfp4", "dtype": "bfloat16"}
    _, _, warnings = said(tmp_path / "apart", [BASELINE, replace(SDPA, facts={"evidence": json.dumps(taken_apart)})])
    assert "SDPA computes in bfloat16: the checkpoint's weights in mxfp4 were dequantized when it was loaded." in warnings
    _, _, warnings = said(tmp_path / "whole", [BASELINE, replace(SDPA, facts={"evidence": json.dumps({"quantized_share": 1.0})})])
    assert "quantizes" not in warnings


def test_many_disturbed_runs_are_one_sentence(tmp_path):
    facts = {"disturbed": "other processes used 31 % of the CPUs", "shared": True}
    busy = [replace(cell, facts=facts) for cell in (BASELINE, SDPA, COMPILED)]
    _, _, warnings = said(tmp_path, busy)
    assert warnings.count("disturbed") == 1
    assert "3 of 3 techniques were disturbed while they were measured, such as Baseline (eager attention): other processes" in warnings


def test_the_fastest_is_held_against_the_hardware_and_its_start(tmp_path):
    _, points, _ = said(tmp_path, [BASELINE, replace(COMPILED, first_reply=38.0)])
    assert "% of the speed that this device allows" in points
    assert "takes longer before its replies are fast, and has made up for it after " in points


def test_what_a_technique_does_to_reading_and_to_writing_is_told_where_that_is_not_the_same(tmp_path):
    group = group_of(tmp_path, [BASELINE, COMPILED])
    told = "torch.compile (static cache) writes the reply 4.8× and reads the prompt 0.85× as fast as Baseline (eager attention)"

    def points(prefill: list[float]) -> str:
        rows = group.rows.assign(decode_tokens_per_s=[50.0, 240.0], prefill_tokens_per_s=prefill)
        return " ".join(point.striptags() for point in answer(replace(group, rows=rows)).points)

    assert told in points([1000.0, 850.0])
    assert "reads the prompt" not in points([1000.0, 4000.0])
    assert "reads the prompt" not in points([1000.0, float("nan")])


def test_a_baseline_that_nothing_beats_is_said_to_be_the_fastest(tmp_path):
    headline, _, _ = said(tmp_path, [BASELINE, replace(SDPA, speed=20)])
    assert headline.startswith("Nothing here is faster than Baseline (eager attention), the baseline")


def test_whether_the_fastest_beats_the_baseline_is_asked_once(tmp_path):
    group = group_of(tmp_path, [often(BASELINE), replace(SDPA, speed=52.0)])
    rows = group.rows.set_index("technique")
    assert list(rows.standing[["sdpa", "baseline"]]) == ["first", "unsure"]
    assert rows.verdict.sdpa == "unsure"
    points = " ".join(point.striptags() for point in answer(group).points)
    assert points.count("Open: ") == 1
    assert "Open: whether Baseline (eager attention) could be as fast as SDPA" in points
    assert "--sharpen" in points
    assert "A higher runs in the study makes them" not in points


def test_what_is_told_of_a_fastest_that_may_be_no_faster_than_a_beaten_baseline_is_what_auto_asks(tmp_path):
    # The fastest switches between two speeds; another one is steady and surely faster than the baseline.
    wandering = replace(COMPILED, recorded=([64 / 40] * 9 + [64 / 130] * 12,))
    steady, near = often(SDPA, technique="a", label="A", speed=90.0), replace(SDPA, technique="b", label="B", speed=52.0)
    group = group_of(tmp_path, [often(BASELINE), wandering, steady, near])
    rows = group.rows.set_index("technique")
    assert list(rows.standing[["torch_compile", "baseline"]]) == ["first", "slower"]
    assert list(rows.verdict[["torch_compile", "a", "b"]]) == ["unsure", "faster", "unsure"]
    points = [point.striptags() for point in answer(group).points if "Open: " in point and "Baseline" in point]
    asked, rest = points
    assert asked.startswith("Open: whether A and Baseline (eager attention) could be as fast as torch.compile (static cache).")
    assert rest.startswith("Open: faster or slower than Baseline (eager attention): B 1.0")
    assert "--sharpen" in asked
    assert "The same command measures that, too." in rest, "few runs would tell"


def test_a_technique_that_was_not_active_never_wins(tmp_path):
    headline, points, _ = said(tmp_path, [BASELINE, replace(SDPA, speed=150), replace(NAIVE, speed=500, peak=10)])
    assert headline.startswith("SDPA is the fastest")
    assert "Not engaged: torch.compile (one line). No compiled code ran: generate called the original module." in points
    assert "instead of" not in points


def test_what_could_not_run_is_listed(tmp_path):
    _, points, _ = said(tmp_path, made.DEFAULT_CELLS)
    assert "Could not be measured: bitsandbytes NF4 (a package or tool is missing)" in points


def test_without_a_baseline_there_is_no_speedup(tmp_path):
    headline, _, _ = said(tmp_path, [replace(BASELINE, status="oom", reason="out of memory"), SDPA, COMPILED])
    assert "There is no speed-up, because the baseline has no figures." in headline


@pytest.mark.parametrize("status", ["not_engaged", "ended_early"])
def test_a_baseline_whose_figures_count_nowhere_is_none_and_that_is_said_once(tmp_path, status):
    group = group_of(tmp_path, [replace(BASELINE, status=status, reason="it ran otherwise"), SDPA, COMPILED])
    assert group.baseline is None
    assert group.rows.speedup.isna().all()
    assert set(group.rows.verdict) == {""}
    told = answer(group)
    texts = [text.striptags() for text in (told.headline, *told.points, *told.warnings)]
    assert "There is no speed-up, because the figures of the baseline are left out." in texts[0]
    assert [text for text in texts if "It ran otherwise" in text] == [
        text for text in texts if "It is left out of everything above." in text
    ]
    assert sum("It ran otherwise" in text for text in texts) == 1


def test_without_any_figure_there_is_no_answer(tmp_path):
    headline, points, warnings = said(tmp_path, [replace(BASELINE, status="oom", reason="out of memory")])
    assert headline == "Nothing could be measured here, so there is no answer."
    assert "out of memory" in points
    assert warnings == ""


def test_a_single_reply_claims_nothing(tmp_path):
    headline, _, warnings = said(tmp_path, [replace(cell, replies=1) for cell in (BASELINE, COMPILED)])
    assert headline.startswith("Nothing here is surely faster than Baseline (eager attention) at 48.0 token/s.")
    assert "Of some techniques a single reply was counted, which gives no interval" in warnings


def test_memory_is_called_saved_only_where_it_is(tmp_path):
    _, points, _ = said(tmp_path / "saved", [BASELINE, replace(SDPA, peak=450)])
    assert "Most memory saved: SDPA peaks at 450 MiB instead of 900 MiB (−50 %), " in points
    _, points, _ = said(tmp_path / "same", [BASELINE, replace(SDPA, peak=895)])
    assert "No technique lowers memory by 2 % or more" in points


def test_of_what_takes_as_little_memory_the_answer_names_what_the_guide_takes(tmp_path):
    """The page named the baseline's twin for 0.6 % less, and the guide a compiled model of three times the speed."""
    group = group_of(tmp_path, [BASELINE, replace(SDPA, peak=450), replace(COMPILED, peak=453)])
    (saved,) = [point.striptags() for point in answer(group).points if "Most memory saved" in point]
    assert saved.startswith("Most memory saved: torch.compile (static cache) peaks at 453 MiB instead of 900 MiB")
    assert Guide(group.records).advise(Ask("memory")).choice == "torch_compile"
    # What needs about as little, but itself saves nothing, is not named in place of what saves.
    _, points, _ = said(tmp_path / "edge", [BASELINE, replace(SDPA, peak=880), replace(COMPILED, peak=890)])
    assert "Most memory saved: SDPA peaks at 880 MiB" in points


def test_what_is_as_fast_at_a_price_is_told_with_it_and_the_headline_is_of_those_without(tmp_path):
    """A lossy technique of the same speed was called better by the guide."""
    cells = [AGAIN, often(COMPILED), often(PRUNED, speed=COMPILED.speed * 1.002)]
    group = group_of(tmp_path, cells)
    assert "prune_50" in Guide(group.records).option("torch_compile").same
    headline, points, _ = said(tmp_path / "told", cells)
    assert headline.startswith("Without a measurable loss of quality, torch.compile (static cache) is the fastest")
    assert "Faster at a price" not in points
    assert re.search(r"Faster than Baseline \(eager attention\), too: Pruned by 50 % [\d.]+× \([\d.–]+\) for \+174 % bits per byte", points)


def test_what_leads_alone_without_a_price_is_not_said_to_lead(tmp_path):
    """Beside "Faster at a price: 4×" stood "Who leads is decided"."""
    told = answer(group_of(tmp_path / "one", [AGAIN, often(PRUNED)]))
    said_first = " ".join(point.striptags().replace("\u00a0", " ") for point in told.key)
    assert "Faster at a price: Pruned by 50 %" in said_first
    assert "Who leads" not in said_first
    assert "How each of the others, taken alone, compares with Baseline (eager attention) is decided with 95 % confidence." in said_first
    assert "Who leads is decided" in said(tmp_path / "two", [AGAIN, often(COMPILED)])[1]


def test_memory_that_is_saved_has_its_price_in_speed(tmp_path):
    """A technique that takes 12 % less memory and most of the speed was praised without a word of that."""
    slow, lossy = replace(often(SDPA, speed=13), peak=450), often(FOUR_BITS, speed=24)
    _, points, _ = said(tmp_path, [AGAIN, slow, lossy])
    assert re.search(r"Most memory saved: SDPA peaks at 450 MiB instead of 900 MiB \(−50 %\), 0\.2\d+× as fast[;.]", points)
    assert re.search(r"bitsandbytes NF4 400 MiB \(−56 %\) for \+11 % bits per byte, 0\.\d+× as fast\.", points)


def test_memory_of_the_whole_device_is_held_against_that_of_pytorch_with_what_cuda_takes(tmp_path):
    """Figures are in MiB; CUDA's own share is taken for 614."""
    base = replace(BASELINE, peak=9000)
    whole = replace(COMPILED, peak=5000, facts={"memory_source": "device"})
    other = replace(NAIVE, status="ok", reason="", peak=9000, facts={"memory_source": "device"})

    def told(name, *cells):
        return said(tmp_path / name, cells, devices=["cuda"], machine=made.GPU_MACHINE)[1:]

    points, warnings = told("less", base, replace(SDPA, peak=6000), whole, other)
    assert "Most memory saved: torch.compile (static cache) needs 5.24 GB instead of 10.1 GB (−48 %), 1.9" in points
    assert "Peak memory of torch.compile (static cache) and torch.compile (one line) is that of the whole device" in warnings
    # What CUDA takes is known to within 0.2 GiB, so that this may be no saving, and nobody says that there is none.
    points, _ = told("perhaps", base, replace(whole, peak=9420))
    assert "peak" not in points
    assert "Most memory" not in points
    points, _ = told("more", base, replace(whole, peak=9700))
    assert "No technique lowers memory by 2 % or more; Baseline (eager attention) takes 10.1 GB." in points
    _, warnings = told("alike", BASELINE, SDPA)
    assert "whole device" not in warnings


def test_memory_that_was_taken_because_it_was_free_is_no_figure(tmp_path):
    unknown = dict.fromkeys(("memory_loaded", "memory_peak", "memory_load_peak", "memory_reserved"))
    told = {"memory_source": "device", "evidence": json.dumps({"took_what_was_free": True}), **unknown}
    _, points, warnings = said(tmp_path, [BASELINE, replace(SDPA, facts=told)], devices=["cuda"], machine=made.GPU_MACHINE)
    assert "How much memory SDPA needs is not known: for this kind of model it takes what is free." in warnings
    assert "peak" not in points


@pytest.mark.parametrize(("parameters", "warned"), [(5_140_000, True), (299_000_000, True), (300_000_000, False), (8_000_000_000, False)])
def test_a_small_model_comes_with_a_warning(tmp_path, parameters, warned):
    _, _, warnings = said(tmp_path, [BASELINE, SDPA], devices=["cuda"], parameters=parameters)
    assert ("says little about a model of 7 billion parameters" in warnings) == warned


@pytest.mark.parametrize(("parameters", "warned"), [(5_140_000, True), (19_000_000, True), (20_000_000, False), (135_000_000, False)])
def test_on_a_processor_reading_the_weights_outweighs_a_steps_fixed_costs_sooner(tmp_path, parameters, warned):
    _, _, warnings = said(tmp_path, [BASELINE, SDPA], devices=["cpu"], parameters=parameters)
    assert ("says little about a model of 7 billion parameters" in warnings) == warned


def test_random_weights_have_no_quality(tmp_path):
    _, points, _ = said(tmp_path, [BASELINE, SDPA], quality_meaningful=False)
    assert "the model's weights are random" in points
    assert "bits per byte" not in points


def test_replies_of_different_length_are_warned_of(tmp_path):
    _, _, warnings = said(tmp_path, [BASELINE, replace(SDPA, new_tokens=128)])
    assert "from 64.0 to 128 tokens" in warnings


def test_who_leads_is_not_said_to_be_decided_beside_what_is_not_measured_yet(tmp_path):
    summary, _, replies = tables_of(made.write_group(tmp_path, [AGAIN, often(COMPILED), SDPA]))
    summary[-1] |= {"status": NOT_RUN, "rate": None, "speedup": None}
    (group,) = tables.groups(summary, replies)
    told = [point.striptags().replace("\u00a0", " ") for point in answer(group).key]
    assert told[-1] == "The lead among what was measured is decided with 95 % confidence; not measured yet: 1."


def test_what_costs_quality_and_may_be_as_fast_is_no_part_of_who_leads(tmp_path):
    """It was "the fastest", and below stood that it was open whether bfloat16 could be as fast."""
    headline, points, _ = said(tmp_path, made.DEFAULT_CELLS)
    assert "Open: whether bfloat16 could be as fast as torch.compile (static cache)" in points
    assert headline.startswith("Without a measurable loss of quality, ")


def test_large_numbers_in_words():
    assert [in_words(count) for count in (5_140_000, 20_000_000, 1_300_000_000, 70_600_000_000, 1e12, 900)] == [
        "5.1 million",
        "20 million",
        "1.3 billion",
        "70.6 billion",
        "1 trillion",
        "900",
    ]


def test_replies_that_ended_early_are_told_with_their_tokens_and_a_handful_of_steps_is_not_ranked(tmp_path):
    asked = {"job": json.dumps({"settings": {"max_new_tokens": 64}})}
    short = replace(SDPA, speed=186, new_tokens=1, status="ended_early", reason="the replies ended after 1 of 64 tokens", facts=asked)
    some = replace(COMPILED, new_tokens=40, facts=asked)
    headline, points, warnings = said(tmp_path, [replace(AGAIN, facts=asked), some, short])
    assert headline.startswith("torch.compile (static cache)")
    assert "Not ranked: SDPA. The replies ended after 1 of 64 tokens. It is left out of everything above." in points
    assert "SDPA 20 of 1,280 tokens in 20 replies" in warnings
    assert "torch.compile (static cache) 800 of 1,280 tokens in 20 replies" in warnings
    assert "Baseline (eager attention) 1,280" not in warnings


def test_where_all_replies_ended_at_once_nothing_is_ranked_and_the_page_says_why(tmp_path):
    early = {"new_tokens": 1, "status": "ended_early", "reason": "the replies ended after 1 of 64 tokens"}
    early["facts"] = {"job": json.dumps({"settings": {"max_new_tokens": 64}})}
    headline, points, warnings = said(tmp_path, [replace(BASELINE, **early), replace(SDPA, **early)])
    assert headline == "Nothing that was measured here can be ranked, so there is no answer."
    assert "Not ranked: SDPA." in points
    assert "20 of 1,280 tokens in 20 replies" in warnings


def test_what_may_be_as_fast_as_a_leading_baseline_is_open_once(tmp_path):
    _, points, _ = said(tmp_path, [replace(BASELINE, speed=60), replace(SDPA, speed=50), often(NO_CACHE)])
    assert points.count("Open: ") == 1
    assert "Open: faster or slower than Baseline (eager attention): SDPA 0.8" in points


def test_a_baseline_that_something_is_hardly_ahead_of_leads_and_that_is_named_with_its_speed(tmp_path):
    """No KV cache at 1.0 times the baseline's speed, 0.5 to 2.1, was advised in its place."""
    cells = [replace(BASELINE, speed=50.0), replace(SDPA, speed=51.0), replace(COMPILED, speed=49.0)]
    group = group_of(tmp_path, cells)
    told = answer(group)
    assert told.choice == "baseline"
    assert re.fullmatch(
        r"Nothing here is surely faster than Baseline \(eager attention\) at 50\.\d token/s\. The highest speed is that of SDPA:"
        r" 51[.\d]* token/s \(95 % interval [\d.–]+\), 1\.0\d*× \([\d.–]+\)\."
        r" Whether torch\.compile \(static cache\) could be as fast is open\.",
        told.headline.striptags().replace("\u00a0", " "),
    )
    points = " ".join(point.striptags() for point in told.points)
    assert re.search(r"Open: faster or slower than Baseline \(eager attention\): SDPA 1\.0\d*× \([\d.–]+\) and torch\.compile", points)
    # What is really as fast is named as that, whichever is ahead by a hair.
    cells = [often(BASELINE, speed=100), often(SDPA, speed=101), often(COMPILED, speed=60)]
    headline, points, _ = said(tmp_path / "same", cells)
    assert re.fullmatch(
        r"Nothing here is faster than Baseline \(eager attention\), the baseline: 10\d[.\d]* token/s \([^)]+\); SDPA is as fast\.", headline
    )
    assert re.search(r"As fast as Baseline \(eager attention\): SDPA 1\.0\d× ", points)


def test_of_what_text_a_price_is_stands_there_once(tmp_path):
    group = group_of(tmp_path, [AGAIN, often(COMPILED), often(PRUNED), often(FOUR_BITS)])
    texts = {"prune_50": (4.2, excerpts.TASK), "bnb_nf4": (0.11, HELD_OUT)}
    for name, column in (("worst_loss", 0), ("worst_loss_task", 1)):
        group.rows[name] = [texts.get(technique, (None, None))[column] for technique in group.rows.technique]
    told = answer(group)
    points = " ".join(point.striptags().replace("\u00a0", " ") for point in told.points)
    assert re.search(r"Faster at a price: Pruned by 50 % [\d.]+× \([\d.–]+\) for \+420 % bits per byte;", points)
    assert told.in_short.striptags().endswith(f"on which the technique loses most: {excerpts.LABEL} or held-out text."), (
        "a summary shows no more"
    )
    assert points.count(excerpts.LABEL) == 1
    assert f"is that on the text on which the technique loses most: {excerpts.LABEL} or held-out text." in points


def test_without_a_baseline_what_is_open_is_not_called_slower(tmp_path):
    failed = replace(BASELINE, status="oom", reason="out of memory")
    headline, points, _ = said(tmp_path, [failed, replace(SDPA, speed=57), replace(COMPILED, speed=60), replace(NO_CACHE, speed=30)])
    assert "Whether SDPA could be as fast is open." in headline
    assert "Slower: No KV cache" in points
    assert not re.search(r"Slower: [^.]*SDPA", points)


def test_a_baseline_that_a_quiet_third_surely_beats_is_not_open_for_a_noisy_leader(tmp_path):
    cells = [
        replace(BASELINE, speed=100, spread=0.003, again=(100.2,)),
        replace(SDPA, speed=128, spread=0.15, again=(106,)),
        replace(COMPILED, speed=112, spread=0.003, again=(112.3,)),
    ]
    headline, points, _ = said(tmp_path, cells, machine=made.GPU_MACHINE)
    assert headline.startswith("SDPA leads with 118 token/s")
    assert headline.endswith("Whether torch.compile (static cache) could be as fast is open.")
    assert "Faster than Baseline (eager attention), too: torch.compile (static cache)" in points


def test_memory_is_what_was_held_loading_included_as_what_fits_and_the_guide_say(tmp_path):
    loading = {"facts": {"memory_load_peak": 5000 * made.MIB}}
    cells = [replace(BASELINE, peak=4000), replace(SDPA, peak=2000, **loading), replace(COMPILED, peak=3500)]
    group = group_of(tmp_path, cells, machine=made.GPU_MACHINE)
    points = " ".join(point.striptags() for point in answer(group).points)
    assert "Most memory saved: torch.compile (static cache) peaks at 3.42 GiB instead of 3.91 GiB" in points
    assert Guide(group.rows.to_dict("records")).advise(Ask("memory")).choice == "torch_compile"
    lossy = [cells[0], replace(FOUR_BITS, peak=2000, **loading)]
    assert "No technique lowers memory" in said(tmp_path / "lossy", lossy)[1]
    assert "Less memory at a price" not in said(tmp_path / "again", lossy)[1]


def test_what_starts_sooner_is_not_said_to_start_more_slowly_and_what_may_never_pay_is_told(tmp_path):
    """A cold start of 5.8 s was slower than one of 6.1 s, and 91 replies were told where the interval's end has none."""
    sooner = replace(SDPA, speed=130, again=(130.5, 129), first_reply=1.2)
    _, points, _ = said(tmp_path, [often(BASELINE), sooner])
    assert "starts more slowly" not in points
    assert "SDPA takes longer before its replies are fast, and has made up for it after 2 replies like these." in points
    _, points, _ = said(tmp_path / "never", [replace(BASELINE, again=(48.4,)), replace(SDPA, speed=52, first_reply=9)])
    assert re.search(r"made up for it after \d+ replies like these; at the slow end of its interval it never does\.", points)


def test_without_an_interval_the_open_verdict_has_none_and_says_what_to_count(tmp_path):
    _, points, _ = said(tmp_path, [replace(BASELINE, replies=1), replace(COMPILED, replies=1)])
    assert "Open: whether Baseline (eager attention) could be as fast as torch.compile (static cache). Too few replies" in points
    assert "()" not in points
    assert "So close, or so noisy" not in points


def test_a_memory_of_nothing_is_held_against_nothing(tmp_path):
    """A device whose source of memory counts none, as that of stand-ins; the page ended in a division."""
    _, points, _ = said(tmp_path, [replace(AGAIN, peak=0), replace(COMPILED, peak=0), replace(PRUNED, peak=0)])
    assert "memory" not in points.partition("Quality of")[0]


def test_a_speedup_that_is_not_the_ratio_of_the_speeds_beside_it_says_why(tmp_path):
    busy = {"disturbed": "other programs took 6 % of the processor", "cpu_foreign": 0.06}
    grid = made.write_group(tmp_path, [replace(BASELINE, again=(48, 24)), replace(COMPILED, facts=busy)])
    run = records.read(grid[0]["again"][1], MEASURE)
    records.write(grid[0]["again"][1], MEASURE, run.rows, run.facts | busy)
    summary, _, replies = tables_of(grid)
    (group,) = tables.groups(summary, replies)
    rows = group.rows.set_index("technique")
    assert rows.speedup.torch_compile == pytest.approx(rows.rate.torch_compile / rows.rate.baseline)
    assert not any("not the ratio of the speeds" in warning for warning in answer(group).warnings)
    # As summaries of an earlier speedgrid have it.
    older = [row | ({"speedup": 1.1 * row["speedup"]} if row["technique"] == "torch_compile" else {}) for row in summary]
    (group,) = tables.groups(older, replies)
    warnings = " ".join(warning.striptags() for warning in answer(group).warnings)
    assert "The speed-up of torch.compile (static cache) counts disturbed runs like quiet ones" in warnings
    assert any("counts disturbed runs like quiet ones" in line for line in advised.uneven_ratios(advised.Guide(older)))


def test_what_costs_quality_and_may_be_no_faster_than_what_leads_is_not_called_faster(tmp_path):
    cells = [AGAIN, often(COMPILED, speed=150), replace(PRUNED, speed=160), often(FOUR_BITS, speed=260)]
    _, points, _ = said(tmp_path, cells)
    assert re.search(r"Faster at a price: bitsandbytes NF4 5\.\d+× \([\d.–]+\) for \+11 % bits per byte\.", points)
    assert re.search(
        r"At a price, and perhaps no faster than torch\.compile \(static cache\): Pruned by 50 % 3\.\d+× \([\d.–]+\) for \+174 %", points
    )
    # What is really as fast, and costs quality, is not faster than it.
    _, points, _ = said(tmp_path / "same", [AGAIN, often(COMPILED, speed=150), often(PRUNED, speed=152)])
    assert "Faster at a price" not in points
    assert re.search(r"Faster than Baseline \(eager attention\), too: Pruned by 50 % 3\.\d+× \([\d.–]+\) for \+174 %", points)


def test_what_is_ahead_only_because_its_quiet_runs_count_for_more_does_not_lead_with_less_than_the_baselines_speed(tmp_path):
    busy = {"disturbed": "other programs took 40 % of the processor"}
    alone = replace(BASELINE, speed=66, again=(66,) * 19, replies=6, facts=busy)
    grid = made.write_group(tmp_path, [alone, replace(COMPILED, speed=80, again=(80,) * 5 + (60,) * 20, replies=6)])
    for path in grid[1]["again"][5:]:
        run = records.read(path, MEASURE)
        records.write(path, MEASURE, run.rows, run.facts | busy)
    summary, _, replies = tables_of(grid)
    assert [(row["standing"], row["verdict"]) for row in summary] == [("unsure", None), ("first", "unsure")]
    assert (summary[1]["speedup"], summary[1]["speedup_low"]) == (None, None)
    # Its quiet runs had 80, and the baseline 66 at least.
    assert 80 / 66 < summary[1]["speedup_high"] < 1.5
    (group,) = tables.groups(summary, replies)
    assert answer(group).headline.striptags().startswith("Nothing here is surely faster than Baseline (eager attention) at 66")


# 22.8 token/s on a quiet machine; 1.5 token/s where others had the cores.
ALONE, STARVED = made.Made("sdpa", "SDPA", speed=22.8), {"disturbed": "other processes used 88% of the CPUs", "cpu_foreign": 0.88}


def test_a_baseline_that_was_starved_makes_no_speedup_of_15(tmp_path):
    """A run that was stopped after SDPA said that it leads, 15× (6–30): truly it was as fast as the baseline."""
    summary, _, replies = tables_of(made.write_group(tmp_path, [replace(BASELINE, speed=1.5, facts=STARVED), ALONE]))
    assert [(row["verdict"], row["speedup"], row["disturbed_factor"] == 1) for row in summary] == [(None, 1, False), ("unsure", None, True)]
    (group,) = tables.groups(summary, replies)
    told = answer(group)
    headline = told.headline.striptags()
    assert re.fullmatch(
        r"Nothing here is surely faster than Baseline \(eager attention\) at 1\.\d+ token/s\. The highest speed is that of SDPA:"
        r" \d\d\.\d+ token/s \(95 % interval [\d.–]+\), at most \d\d(\.\d)?×\.",
        headline.replace("\u00a0", " "),
    )
    words = " ".join(point.striptags() for point in (*told.points, *told.warnings))
    assert re.search(
        r"Open: whether Baseline \(eager attention\) could be as fast as SDPA\. Baseline \(eager attention\) was disturbed whenever it ran,"
        r" and may be faster than it seems; a run of it on a quiet machine would tell more, about \d+ \w+\.",
        words,
    )
    everything = f"{headline} {words} {told.proof.words if told.proof else ''} {page_text(summary, replies)}"
    parts = phases_chart._table(group.rows, group.replies)
    assert list(parts[parts.name == "SDPA"].part) == ["peak memory"]
    assert not re.search(r"(?<!most )\b1[45]\.?\d*×", everything)
    assert "as fast as Baseline" not in everything.replace("as fast as Baseline (eager attention) in", "")


def test_a_bound_is_explained_beside_it_everywhere(tmp_path):
    summary, _, replies = tables_of(made.write_group(tmp_path, [replace(BASELINE, speed=1.5, facts=STARVED), ALONE]))
    (group,) = tables.groups(summary, replies)
    said = (
        "Of the speed-up of SDPA only one end is known (“at least”, “at most”): the technique or the baseline was disturbed whenever it"
        " ran, and may be faster than it seems."
    )
    assert said in [warning.striptags() for warning in answer(group).warnings]
    assert said in markdown.summary(made.study(), [(group, "")], [], [])
    assert said in advised.uneven_ratios(advised.Guide(summary))


def test_of_what_was_disturbed_whenever_it_ran_nobody_says_how_much_faster_the_device_would_allow_it_to_be(tmp_path):
    quiet, busy = (said(tmp_path / name, [replace(SDPA, facts=facts)])[1] for name, facts in (("a", {}), ("b", STARVED)))
    assert "of the speed that this device allows" in quiet
    assert "of the speed that this device allows" not in busy


def page_text(summary, replies) -> str:
    """All that the charts and the table of a page say of its only group."""
    (group,) = tables.groups(summary, replies)
    table = figures_table.result_table(group, {}, ("rate", "speedup"))
    cells = " ".join(f"{cell.text} {cell.note}" for row in table.rows for cell in row.cells)
    return " ".join([cells, speed_chart.speedup_figure(group).words, markdown.summary(made.study(), [(group, "")], [], [])])


def test_a_technique_that_beats_a_quiet_baseline_although_it_was_disturbed_is_faster_by_so_much_at_least(tmp_path):
    busy = {"disturbed": "other processes used 50% of the CPUs", "cpu_foreign": 0.5}
    summary, _, replies = tables_of(made.write_group(tmp_path, [AGAIN, replace(COMPILED, speed=200, facts=busy)]))
    row = summary[1]
    assert (row["verdict"], row["speedup"], row["speedup_high"], row["break_even_replies"]) == ("faster", None, None, None)
    assert 1.5 < row["speedup_low"] < 4
    (group,) = tables.groups(summary, replies)
    assert re.search(
        r"torch\.compile \(static cache\) is the fastest: .* a speed-up of at least \d\.\d+× over", answer(group).headline.striptags()
    )


def test_equals_beside_other_work_of_which_one_waited_for_its_threads_are_open(tmp_path):
    """Both had half of two cores; every step of the one took sixteen ticks of the kernel, of the other few did: 23× (4–84), it said."""
    busy = {"disturbed": "other processes used 50% of the CPUs", "cpu_foreign": 0.5, "threads": 2}
    grid = made.write_group(tmp_path, [replace(BASELINE, speed=14, facts=busy), replace(SDPA, speed=326, facts=busy)])
    (before,) = [row["verdict"] for row in tables_of(grid)[0] if not row["is_baseline"]]
    path = Path(grid[0]["folder"], "measure.parquet")
    run = records.read(path, MEASURE)
    # The last four tokens of each reply at the speed that the other had.
    waited = [row["token_s"][:-4] + [row["token_s"][-5] + 0.003 * count for count in range(1, 5)] for row in run.rows]
    records.write(path, MEASURE, [row | {"token_s": times} for row, times in zip(run.rows, waited, strict=True)], run.facts)
    (row,) = [row for row in tables_of(grid)[0] if not row["is_baseline"]]
    assert (before, row["verdict"], row["speedup"], row["speedup_low"]) == ("faster", "unsure", None, None)
    assert row["speedup_high"] > 23


def sentences(text) -> int:
    """Of a headline or point; a point between `and` of a decimal or a name ends none."""
    return len(re.split(r"\. (?=[A-Z])", text.striptags()))


PUBLISHED = sorted(path.parent for path in (planning.ROOT / "docs" / "results").glob("*/*/summary.parquet"))


@pytest.mark.parametrize("folder", PUBLISHED, ids=lambda path: path.name)
def test_who_has_to_choose_reads_three_to_five_sentences(folder):
    """They were eight to eleven, with what is nice to know among what decides."""
    for group in tables.groups(records.read(folder / "summary.parquet", SUMMARY).rows, []):
        told = answer(group)
        assert 3 <= sentences(told.headline) + sum(map(sentences, told.key)) <= 5, [told.headline, *told.key]
        assert len(set(told.points)) == len(told.points), "nothing is said twice"


def test_what_is_read_first_has_the_choice_what_is_frugal_what_has_a_price_and_how_sure_that_is(tmp_path):
    told = answer(group_of(tmp_path, [AGAIN, often(COMPILED), often(PRUNED), often(FOUR_BITS)]))
    first = [point.striptags().replace("\u00a0", " ") for point in (told.headline, *told.key)]
    assert [re.match(start, said) is not None for start, said in zip(FIRST, first, strict=True)] == [True] * len(FIRST), first
    assert not told.is_short
    below = " ".join(point.striptags() for point in (*told.found, *told.doubts))
    for words in ("Quality of torch.compile", "No technique lowers memory", "takes longer before its replies", "Noise between runs"):
        assert words in below
    assert "Faster at a price" not in below, "it is said already"


FIRST = (
    r"Without a measurable loss of quality, torch\.compile \(static cache\) is the fastest: 9",
    r"Less memory at a price: bitsandbytes NF4 400 MiB \(−56 %\) for \+11 % bits per byte, 2\.\d+× as fast; Pruned by 50 % 500 MiB",
    r"Faster at a price: Pruned by 50 % .* for \+174 % bits per byte; bitsandbytes NF4 .* for \+11 % bits per byte\.",
    r"Who leads without a price in quality is decided with 95 % confidence, and so is how each of the others, taken alone, compares with"
    r" Baseline",
)


def test_of_many_with_a_price_the_first_are_read_first_and_all_stand_below(tmp_path):
    many = [often(PRUNED, technique=f"p{n}", label=f"P{n}", speed=150 + 40.0 * n) for n in range(5)]
    told = answer(group_of(tmp_path, [AGAIN, often(COMPILED), *many]))
    (first,) = (point.striptags() for point in told.key if "Faster at a price" in point)
    assert [f"P{n} " in first for n in range(5)] == [False, False, True, True, True]
    assert first.endswith("; 2 more below.")
    (whole,) = (point.striptags() for point in told.found if "Faster at a price" in point)
    assert all(f"P{n} " in whole for n in range(5))
    assert "more below" not in whole


def test_a_command_that_decides_is_that_of_the_groups_study_and_stands_once(tmp_path):
    cells = [AGAIN, replace(SDPA, speed=80), replace(COMPILED, speed=92), replace(PRUNED, speed=190), replace(FOUR_BITS, speed=170)]
    told = answer(group_of(tmp_path, cells), study_file="studies/mine.yaml")
    doubts = " ".join(told.doubts)
    assert doubts.count("Open: whether") == 2
    assert doubts.count("<code>./speedgrid run --study studies/mine.yaml --sharpen</code>") == 1


def test_why_quality_was_not_measured_is_english_where_a_job_wrote_it_and_marked_as_that(tmp_path):
    group = group_of(tmp_path, [BASELINE, SDPA])
    unscored = dict.fromkeys(("bits_per_byte", "quality_loss", "quality_verdict", "accuracy")) | {"lossless": False}
    row = next(row for row in group.records if row["technique"] == "sdpa") | unscored
    told = {}
    for reason in ("CUDA error <1>", ""):
        guide = Guide([group.records[0], row | {"quality_reason": reason, "quality_status": None}])
        with language.spoken(quick_parts().languages["ja"]):
            told[reason] = _quality_point(guide, pd.Series(guide.by_name["sdpa"]))
    assert '<span lang="en">CUDA error &lt;1&gt;</span>' in told["CUDA error <1>"]
    assert "lang=" not in told[""]


def test_the_tooltip_of_a_chart_says_a_reason_of_the_report_in_its_language_and_one_of_a_job_as_it_is(tmp_path):
    of_report = standing.OTHER_SOURCE.format("draft.parquet")
    cells = [BASELINE, replace(SDPA, status="failed", reason=of_report), replace(COMPILED, status="failed", reason="CUDA error")]
    with language.spoken(quick_parts().languages["ja"]):
        rows = base.prepare(group_of(tmp_path, cells).rows).set_index("technique")
        assert rows.outcome["sdpa"].endswith(language.told_reason(of_report))
    assert of_report not in rows.outcome["sdpa"]
    assert rows.outcome["torch_compile"].endswith(": CUDA error")
