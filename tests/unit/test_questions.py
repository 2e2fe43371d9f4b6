"""What is open and could change the answer: what the headline asks is told with its price, and `runs: auto` measures just that again."""

import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace

import records_factory as made
from hypothesis import given, settings
from hypothesis import strategies as st
from markupsafe import Markup
from report_data import tables_of
from speedgrid import noise, sharpen, stats
from speedgrid.report import collect, questions, tables, trust
from speedgrid.report.advice import FASTEST, Ask, advise, options
from speedgrid.report.answer import answer
from speedgrid.schema import SUMMARY
from speedgrid.sharpen import Question, Subject
from speedgrid.stats import verdicts
from test_answer import AGAIN, BASELINE, COMPILED, FOUR_BITS, PRUNED, SDPA, often


def told(folder, cells: Sequence[made.Made]) -> tuple[list[dict], str, list[str]]:
    """The rows of a group's summary, its headline, and what the page says is open."""
    summary, _, replies = tables_of(made.write_group(folder, cells))
    (group,) = tables.groups(summary, replies)
    found = answer(group)
    points = [point.striptags().replace("\u00a0", " ") for point in found.points]
    return summary, found.headline.striptags(), [point for point in points if point.startswith("Open: ")]


def asked(rows: Sequence[Mapping]) -> dict[tuple[str, str], bool]:
    """The pairs that are in question and could change the answer, and whether the headline asks."""
    return {(one.technique, one.against): one.subject is Subject.LEAD for one in questions.of(rows) if one.subject is not Subject.BASELINE}


def test_where_a_lossy_technique_is_far_ahead_what_the_headline_leaves_open_has_its_price_and_is_measured_again(tmp_path):
    rows, headline, points = told(tmp_path, [AGAIN, replace(SDPA, speed=80), replace(COMPILED, speed=92), often(PRUNED, speed=400)])
    assert {row["technique"]: row["standing"] for row in rows}["prune_50"] == "first"
    assert headline.endswith("Whether SDPA could be as fast is open.")
    assert len(points) == 1
    assert re.match(
        r"Open: whether SDPA could be as fast as torch\.compile \(static cache\)\. \d more runs? of each would decide it, about \d+ min\."
        r" To measure that: \./speedgrid run --sharpen",
        points[0],
    )
    assert asked(rows) == {("sdpa", "torch_compile"): True}
    grid = [{axis: row[axis] for axis in ("gpu", "experiment", "model", "technique")} | {"folder": row["technique"]} for row in rows]
    plan = {"cells": [cell | {"further": 0} for cell in grid], "study": {"budget_s": 1e6, "study_file": "my.yaml"}}
    collect.note_further(plan, rows, tmp_path / "further.json")
    assert set(json.loads((tmp_path / "further.json").read_text())["wanted"]) == {"sdpa", "torch_compile"}


def test_what_costs_quality_is_asked_after_what_the_headline_asks(tmp_path):
    cells = [AGAIN, replace(SDPA, speed=80), replace(COMPILED, speed=92), replace(PRUNED, speed=190), replace(FOUR_BITS, speed=170)]
    rows, headline, points = told(tmp_path, cells)
    assert "Whether SDPA could be as fast is open." in headline
    assert [re.match(r"Open: whether (.*?) could be as fast as (.*?)\. ", point).groups() for point in points] == [
        ("SDPA", "torch.compile (static cache)"),
        ("bitsandbytes NF4", "Pruned by 50 %"),
    ]
    assert asked(rows) == {("sdpa", "torch_compile"): True, ("bnb_nf4", "prune_50"): False}


def test_what_twenty_runs_would_not_tell_is_told_from_what_they_would(tmp_path):
    grid = made.write_group(tmp_path, [AGAIN, replace(SDPA, speed=84), replace(SDPA, technique="a", label="A", speed=84), often(COMPILED)])
    rows, _, replies = tables_of(grid)
    assert {one.technique for one in questions.of(rows) if one.needed} == {"sdpa", "a"}
    rows = [without_price(row, {"sdpa", "torch_compile"}) for row in rows]
    (group,) = tables.groups(rows, replies)
    said = " ".join(point.striptags() for point in answer(group).points)
    assert re.search(
        r"Open: whether .* could be as fast as torch\.compile \(static cache\)\. \d+ more runs? of each would decide it, about", said
    )
    assert "Twenty more runs would not decide it for SDPA." in said


def without_price(row: Mapping, pair: set[str]) -> dict:
    """The row, where twenty further runs would not decide between the two."""
    told = zip(row["open_against"], row["open_runs"], strict=True)
    return {**row, "open_runs": [None if {row["technique"], name} == pair else runs for name, runs in told]}


def test_a_summary_of_before_knows_the_price_against_the_fastest_and_the_baseline_alone(tmp_path):
    rows, _, _ = told(tmp_path, [AGAIN, replace(SDPA, speed=80), replace(COMPILED, speed=92), often(PRUNED, speed=400)])
    (now,) = questions.of(rows)
    older = [row | {"open_runs": None, "open_quiet": None} for row in rows]
    assert questions.of(older) == [replace(now, needed=None, told=False)]
    rows, _, _ = told(tmp_path / "first", [AGAIN, replace(SDPA, speed=80), replace(COMPILED, speed=92)])
    assert questions.of([row | {"open_runs": None, "open_quiet": None} for row in rows]) == questions.of(rows) != []


STARVED = {"disturbed": "other processes used 88% of the CPUs", "cpu_foreign": 0.88}


def test_a_quiet_run_of_what_was_disturbed_whenever_it_ran_is_asked_first(tmp_path):
    rows, _, points = told(tmp_path, [replace(BASELINE, speed=1.5, facts=STARVED), replace(SDPA, speed=22.8)])
    assert questions.of(rows) == [Question("baseline", "sdpa", 1, True, Subject.LEAD, "baseline", quiet=True)]
    (point,) = points
    assert (
        "Baseline (eager attention) was disturbed whenever it ran, and may be faster than it seems; a run of it on a quiet machine" in point
    )
    assert "./speedgrid run --sharpen" in point
    (step,) = questions.next_steps(rows, advise(options(rows), FASTEST), FASTEST)
    assert step == (
        "Baseline (eager attention) may be as fast; it was disturbed whenever it ran, and a run of it on a quiet machine would tell more:"
        " ./speedgrid run --sharpen"
    )
    # As often as it ran: under `runs: auto` the baseline has run twice, and "1 more run of each" was said.
    for again in ((1.6,), (1.6, 1.5, 1.4)):
        cells = [replace(BASELINE, speed=1.5, again=again, facts=STARVED), replace(SDPA, speed=22.8)]
        rows, _, points = told(tmp_path / f"{len(again)}", cells)
        assert questions.of(rows) == [Question("baseline", "sdpa", 1, True, Subject.LEAD, "baseline", quiet=True)]
        assert "a run of it on a quiet machine would tell more" in points[0]
        assert "of each" not in points[0]


def test_two_cells_that_were_starved_are_open_and_a_quiet_run_of_each_would_tell(tmp_path):
    """ "6.40×" was printed, without an interval and without a word."""
    starved = {"disturbed": "other processes used 90% of the CPUs", "cpu_foreign": 0.9}
    rows, headline, points = told(tmp_path, [replace(BASELINE, speed=1.5, facts=starved), replace(SDPA, speed=9.6, facts=starved)])
    assert [rows[1][name] for name in ("speedup", "speedup_low", "speedup_high", "verdict")] == [None, None, None, "unsure"]
    assert questions.of(rows) == [Question("baseline", "sdpa", 1, True, Subject.LEAD, quiet=True)]
    assert re.search(
        r"SDPA and Baseline \(eager attention\) were disturbed|Baseline \(eager attention\) and SDPA were disturbed", points[0]
    ), points
    assert "1 more run of each on a quiet machine would decide it" in points[0]
    (step,) = questions.next_steps(rows, advise(options(rows), FASTEST), FASTEST)
    assert step.startswith("Baseline (eager attention) may be as fast; both were disturbed whenever they ran, and a run of each on a quiet")
    assert "×" not in headline


def test_where_a_container_has_a_cpu_limit_no_run_is_asked_and_what_helps_is_said(tmp_path):
    limited = {"disturbed": "the CPU limit of the container stopped the process in 80% of the periods", "cpu_limited": 0.8}
    rows, _, points = told(tmp_path, [replace(BASELINE, speed=20, facts=limited), replace(SDPA, speed=50)])
    (one,) = questions.of(rows)
    assert (one.quiet, one.limited) == (True, True)
    assert "a higher limit helps, or fewer threads of the device" in points[0]
    assert "--sharpen" not in points[0]
    (step,) = questions.next_steps(rows, advise(options(rows), FASTEST), FASTEST)
    assert step == (
        "Baseline (eager attention) may be as fast; the CPU limit of the container slowed it: a higher limit, or fewer threads, would help"
    )


def test_where_others_took_more_than_the_cpu_limit_did_a_quiet_run_is_asked(tmp_path):
    """A limit that was reached in a tenth of the periods had every further run called useless, whatever else kept the machine busy."""
    others = "other processes used 60% of the CPUs; the CPU limit of the container stopped the process in 10% of the periods"
    for limited, stays in ((0.1, False), (0.9, True), (1.0, True)):
        facts = {"disturbed": others, "cpu_foreign": 0.6, "cpu_limited": limited}
        rows, _, points = told(tmp_path / f"{limited}", [replace(BASELINE, speed=20, facts=facts), replace(SDPA, speed=50)])
        (one,) = questions.of(rows)
        assert (one.quiet, one.limited) == (True, stays)
        assert ("--sharpen" in points[0]) is not stays
        assert ("a higher limit" in points[0]) is stays


def test_what_would_tell_is_said_once(tmp_path):
    """The same sentence stood under what the headline leaves open and under what the baseline does."""
    far = replace(SDPA, technique="a", label="A", speed=15)
    _, _, points = told(tmp_path, [replace(BASELINE, speed=1.5, again=(1.6,), facts=STARVED), replace(SDPA, speed=22.8), far])
    assert len(points) > 1
    assert sum("was disturbed whenever it ran" in point for point in points) == 1
    assert any("The same runs would decide this, too." in point for point in points), points


def test_a_price_of_other_runs_is_not_the_same_although_it_reads_the_same(tmp_path, monkeypatch):
    """ "3 more runs of each" of two techniques told nothing of a third one, of which "The same runs would decide this, too." was said."""
    alike = Markup("3 more runs of each would decide it, about 1 s.")
    monkeypatch.setattr(trust, "_price", lambda asked, rows: (alike, True, Markup()))
    close = [replace(SDPA, technique=name, label=name.upper(), speed=speed) for name, speed in (("a", 49.0), ("b", 61.0), ("c", 63.0))]
    _, _, points = told(tmp_path, [replace(BASELINE, speed=50), *close])
    assert sum(alike in point for point in points) > 1, points
    assert not any("The same runs would decide this, too." in point for point in points), points


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.lists(st.floats(20, 200), min_size=1, max_size=2), st.sampled_from((0.0, 0.1, 1.0, 5.0, float("inf")))),
        min_size=2,
        max_size=4,
    )
)
def test_no_run_of_each_is_promised_to_tell_what_disturbance_hides(cells):
    """What so many runs like those that there are would decide is not hidden, and where it is, quiet ones are asked, and fewer."""
    runs = [[stats.Run(v, 1e-3, 20.0, 20, v * 0.99, v * 1.01, 1e-2, lost > 0, lost) for v in values] for values, lost in cells]
    judged = noise.speeds([("cpu", own) for own in runs])
    for one in judged:
        for other in judged:
            price = stats.further_runs(one, other)
            assert price == stats.further_runs(other, one)
            slow, fast = sorted((one, other), key=lambda speed: speed.value)
            away = math.log(fast.value / slow.value)
            if price.runs and not price.quiet and away > math.log1p(stats.CLOSE):
                assert verdicts._hidden(slow, fast).most < away, "runs that are disturbed like these would not tell"
            if price.runs:
                assert stats.further_runs(one, other, price.runs - 1).runs is None, "fewer would do"
            if price.quiet:
                assert not (one.quiet and other.quiet and one.lost == other.lost == 0)
                assert stats.further_runs(one, other, price.runs).quiet, "so many beside other work would do, too"


def test_of_a_technique_that_was_disturbed_a_quiet_run_is_asked_against_a_quiet_baseline(tmp_path):
    rows, headline, points = told(tmp_path, [AGAIN, replace(COMPILED, speed=20, facts=STARVED)])
    assert headline.startswith("Nothing here is surely faster than Baseline (eager attention)")
    assert headline.endswith("Whether torch.compile (static cache) could be as fast is open.")
    assert questions.of(rows) == [Question("torch_compile", "baseline", 1, True, Subject.LEAD, "torch_compile", quiet=True)]
    assert "torch.compile (static cache) was disturbed whenever it ran" in points[0]


def test_where_a_size_is_asked_for_no_speed_is_in_question(tmp_path):
    rows, _, _ = told(tmp_path, [AGAIN, replace(SDPA, speed=80), replace(COMPILED, speed=92)])
    assert questions.of(rows)
    assert questions.of([row | {"workload": "largest"} for row in rows]) == []


def test_only_what_runs_auto_measures_again_is_said_to_come_from_sharpen(tmp_path):
    cells = [AGAIN, replace(SDPA, speed=182), replace(SDPA, technique="a", label="A", speed=165), replace(PRUNED, speed=196)]
    rows, _, _ = told(tmp_path, cells)
    assert asked(rows) == {("a", "sdpa"): True, ("sdpa", "prune_50"): False}
    ask = Ask("throughput", loss=None)
    advice = advise(options(rows), ask)
    assert (advice.choice, advice.open) == ("prune_50", ("sdpa", "a"))
    steps = questions.next_steps(rows, advice, ask)
    assert re.fullmatch(r"SDPA may be as fast; \d+ more runs? of each would decide it: \./speedgrid run --sharpen, or .*", steps[0])
    assert re.fullmatch(r"A may be as fast; \d+ more runs? of each would decide it: raise runs in the study", steps[1])


def test_single_replies_ask_for_more_of_them(tmp_path):
    rows, _, points = told(tmp_path, [replace(BASELINE, replies=1), replace(COMPILED, replies=1)])
    (step,) = questions.next_steps(rows, advise(options(rows), FASTEST), FASTEST)
    assert step == "Baseline (eager attention) may be as fast; too few replies for an interval: raise replies in the study"
    assert "Too few replies were counted for an interval" in points[0]


def test_what_few_runs_would_hold_against_the_baseline_is_asked_last_and_what_takes_many_is_only_told(tmp_path):
    """Of two techniques that cannot be the fastest one is 1.16 times as fast as the baseline, the other 1.06 times."""
    slightly = replace(SDPA, technique="a", label="A", speed=BASELINE.speed * 1.06)
    rows, headline, points = told(tmp_path, [AGAIN, replace(SDPA, speed=56), slightly, replace(COMPILED, speed=400)])
    assert {row["technique"]: row["verdict"] for row in rows}["sdpa"] == "unsure"
    assert headline.startswith("torch.compile (static cache) is the fastest")
    assert [(one.technique, one.against, one.subject) for one in questions.of(rows)] == [("sdpa", "baseline", Subject.BASELINE)]
    assert [re.match(r"Open: faster or slower than (.*?): (SDPA|A) ", point).groups() for point in points] == [
        ("Baseline (eager attention)", "SDPA"),
        ("Baseline (eager attention)", "A"),
    ]
    assert "--sharpen" in points[0]
    assert "--sharpen" not in points[1]


# Whatever the group


speeds = st.lists(st.tuples(st.lists(st.floats(20, 200), min_size=1, max_size=3), st.booleans(), st.booleans()), min_size=1, max_size=6)


def rows_of(cells: Sequence[tuple[Sequence[float], bool, bool]]) -> list[dict]:
    """Rows of a summary of cells with these speeds of their runs, which keep the quality or do not; the first is the baseline."""
    runs = [[stats.Run(value, 1e-3, 20.0, 20, value * 0.99, value * 1.01, 1e-2, busy) for value in values] for values, _, busy in cells]
    names = [f"t{number}" for number in range(len(cells))]
    level = stats.confidence(True)
    judged = dict(zip(names, noise.speeds([("cpu", own) for own in runs], confidence=level), strict=True))
    pairs, first = tables._pairs(judged, level), max(names, key=lambda name: judged[name].value)
    standings = dict(zip(names, stats.leaders(list(judged.values())), strict=True)) | {first: "first"}
    found = []
    for name, (_, lossless, _) in zip(names, cells, strict=True):
        inside, same, unsure = judged[name].interval(), *pairs[name]
        row = dict.fromkeys(column.name for column in SUMMARY.columns) | {"technique": name, "label": name, "status": "ok"}
        row |= {"workload": "generate", "is_baseline": name == names[0], "lossless": lossless or name == names[0], "unit": "token"}
        row |= {"rate": inside.value, "rate_low": inside.low, "rate_high": inside.high, "latency_p50_s": 64 / inside.value, "run_s": 60.0}
        row |= {"standing": standings[name], "same_as": same, "open_against": list(unsure)}
        row |= {"open_runs": [price.runs for price in unsure.values()], "open_quiet": [one for one, price in unsure.items() if price.quiet]}
        if name != names[0]:
            row["verdict"] = stats.verdict(stats.over(judged[name], judged[names[0]]))
        found.append(row)
    return found


@settings(max_examples=150)
@given(speeds)
def test_every_question_is_open_and_all_that_the_headline_leaves_open_is_asked(cells):
    rows = rows_of(cells)
    by_name, found = {row["technique"]: row for row in rows}, questions.of(rows)
    advice = advise(options(rows), FASTEST)
    assert len({frozenset((one.technique, one.against)) for one in found}) == len(found), "no question is asked twice"
    assert [one.subject for one in found] == sorted(one.subject for one in found)
    for one in found:
        assert one.technique != one.against
        assert one.told
        if one.subject is Subject.BASELINE:
            assert by_name[one.against]["is_baseline"]
            assert by_name[one.technique]["verdict"] == "unsure"
            assert 1 <= one.needed <= questions.FEW, "what takes more runs, and cannot change the answer, is told and not measured"
            continue
        assert one.against in by_name[one.technique]["open_against"] or by_name[advice.choice]["verdict"] == "unsure"
    # And the other way round: what few runs would hold against the baseline is asked, whatever else is.
    base = rows[0]["technique"]
    pairs = {frozenset((one.technique, one.against)) for one in found}
    few = [name for name, row in by_name.items() if row["verdict"] == "unsure" and (questions.further_runs(row, rows[0])[0] or 99) <= 3]
    assert all(frozenset((name, base)) in pairs for name in few)
    leading = {one.technique for one in found if one.subject is Subject.LEAD}
    assert {one.against for one in found if one.subject is Subject.LEAD} <= {advice.choice}
    assert leading >= set(advice.open)
    if by_name[advice.choice]["verdict"] == "unsure":
        assert rows[0]["technique"] in leading
    # What is not asked cannot change who leads: whatever keeps the quality is as fast, open, or surely beaten.
    kept = [row["technique"] for row in rows if row["lossless"] and row["technique"] != advice.choice]
    beaten = {
        name
        for name in kept
        if any(name not in (*other["open_against"], *other["same_as"]) for other in rows if other["rate"] > by_name[name]["rate"])
    }
    assert set(kept) - {*advice.ties, *leading} <= beaten


@settings(max_examples=60)
@given(speeds)
def test_the_order_of_the_cells_asks_no_other_question(cells):
    rows = rows_of(cells)
    assert asked(rows) == asked(rows[::-1])


def test_a_question_of_two_fits_both_sides():
    rows = rows_of([([50.0], True, False), ([80.0], True, False), ([90.0], True, False)])
    one, other = rows[1:]
    assert questions.further_runs(one, other) == questions.further_runs(other, one)
    assert questions.further_runs(one, other)[1]
    assert isinstance(questions.of(rows)[0], Question)
    assert sharpen.Question is Question


def test_of_what_failed_in_a_further_run_no_more_are_promised(tmp_path):
    rows, _, replies = tables_of(made.write_group(tmp_path, [AGAIN, replace(SDPA, speed=80), replace(COMPILED, speed=92)]))
    (group,) = tables.groups(
        [row | ({"runs_failed": 1, "run_failure": "oom: no room"} if row["technique"] == "sdpa" else {}) for row in rows], replies
    )
    told = answer(group)
    (point,) = [point.striptags() for point in told.points if "could be as fast" in point]
    assert point.endswith("A further run failed, so that --sharpen makes no more of these; set runs higher in the study.")
    warned = [one.striptags() for one in told.warnings]
    assert "1 of 2 runs of SDPA did not end as the first did (oom: no room); no figure includes them." in warned
    steps = questions.next_steps(group.records, advise(options(group.records), FASTEST), FASTEST)
    assert not any("--sharpen" in step for step in steps if step.startswith("SDPA"))
    assert any(step.startswith("SDPA may be as fast") for step in steps)


def test_the_command_that_goes_on_beyond_the_budget_is_one_that_can_be_typed(tmp_path, monkeypatch):
    rows, _, _ = told(tmp_path, [AGAIN, replace(SDPA, speed=80), replace(COMPILED, speed=92)])
    grid = [{axis: row[axis] for axis in ("gpu", "experiment", "model", "technique")} | {"folder": row["technique"]} for row in rows]
    plan = {"cells": [cell | {"further": 0} for cell in grid], "study": {"budget_s": 0.0, "study_file": "my.yaml"}}
    said: list[str] = []
    monkeypatch.setattr(collect, "say", said.append)
    collect.note_further(plan, rows, tmp_path / "further.json")
    how = "to go on: ./speedgrid run --study my.yaml --sharpen"
    assert said == [f"some comparisons are open, as the time for further runs is used up or the machine was never quiet; {how}"]


def test_while_further_runs_are_to_come_nobody_says_that_the_time_for_them_is_used_up(tmp_path, monkeypatch):
    cells = [AGAIN, replace(SDPA, speed=80), replace(COMPILED, speed=92), replace(PRUNED, speed=190), replace(FOUR_BITS, speed=170)]
    rows, _, _ = told(tmp_path, cells)
    grid = [{axis: row[axis] for axis in ("gpu", "experiment", "model", "technique")} | {"folder": row["technique"]} for row in rows]
    said: list[str] = []
    monkeypatch.setattr(collect, "say", said.append)
    costs = [sum(row["run_s"] for row in rows if row["technique"] in pair) for pair in ({"sdpa", "torch_compile"}, {"prune_50", "bnb_nf4"})]
    plan = {"cells": [cell | {"further": 0} for cell in grid], "study": {"budget_s": 2.5 * costs[0], "study_file": "my.yaml"}}
    collect.note_further(plan, rows, tmp_path / "further.json")
    further = json.loads((tmp_path / "further.json").read_text())
    assert further["wanted"]
    assert further["open"]
    assert said == []


def test_no_further_runs_are_priced_for_memory_that_is_open(tmp_path):
    """More runs tell nothing of what CUDA itself takes."""
    cells = [replace(made.DEFAULT_CELLS[0], peak=5000), replace(made.DEFAULT_CELLS[1], peak=5780, facts={"memory_source": "device"})]
    rows, _, _ = tables_of(made.write_group(tmp_path, cells, machine=made.GPU_MACHINE))
    ask = Ask("memory")
    advice = advise(options(rows), ask)
    assert (advice.choice, advice.open) == ("baseline", ("sdpa",))
    assert [step for step in questions.next_steps(rows, advice, ask) if "as fast" in step] == []
    assert [step for step in questions.next_steps(rows, advice, Ask("latency")) if "as fast" in step]
