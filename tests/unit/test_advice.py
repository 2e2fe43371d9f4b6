"""Advice: what is chosen, from which cells, and that limits are kept. Generated sets of cells first, then made-up and recorded studies."""

import json
import re
import sys
from dataclasses import replace
from pathlib import Path

import advise as command
import pytest
import records_factory as made
from hypothesis import given
from hypothesis import strategies as st
from report_data import tables_of
from speedgrid import commands, records
from speedgrid.known import CUDA_CONTEXT, CUDA_CONTEXT_WITHIN, GB
from speedgrid.quality.scores import HELD_OUT
from speedgrid.report.advice import (
    AHEAD,
    BY_SPEED,
    ESTIMATE_WITHIN,
    GOALS,
    SMALLEST_SAVING,
    STARTS_PER,
    Ask,
    Option,
    advise,
    energy,
    figure,
    options,
    qualities,
)
from speedgrid.report.advised import Guide, against_baseline, doubts, figure_in_words, gain, no_code, page_data, sure
from speedgrid.report.questions import next_steps
from speedgrid.report.units import number, percent
from speedgrid.schema import RUNS, SCORE, SUMMARY

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "results"
BASELINE, SDPA, COMPILED, NAIVE, NO_CACHE, BF16, INT8, NF4 = made.DEFAULT_CELLS
NAMES = tuple("abcdefgh")
# Few values, so that equal figures, which are what goes wrong, are common.
FIGURES = st.one_of(st.none(), st.sampled_from((0.5, 1.0, 1.02, 2.0)), st.floats(0.01, 100))
BYTES = st.one_of(st.none(), st.integers(1, 20).map(lambda units: units * GB // 2))
LIMITS = st.one_of(st.none(), st.integers(1, 20).map(lambda units: units * GB / 2))
LOSSES = st.one_of(st.none(), st.sampled_from((0.0, 0.01, 0.05, 1.7)))


@st.composite
def option_sets(draw) -> list[Option]:
    """Cells of a group, whose verdicts are symmetrical as those of a summary are."""
    names = NAMES[: draw(st.integers(0, len(NAMES)))]
    verdicts = {(a, b): draw(st.sampled_from(("apart", "same", "open"))) for a in names for b in names if a < b}
    baseline = draw(st.sampled_from(("", *names)))

    def close(name: str, verdict: str) -> tuple[str, ...]:
        return tuple(other for other in names if verdicts.get((min(name, other), max(name, other))) == verdict)

    return [
        Option(
            name,
            *(draw(FIGURES) for _ in range(3)),
            draw(BYTES),
            draw(st.booleans()),
            draw(FIGURES),
            draw(LOSSES),
            close(name, "same"),
            close(name, "open"),
            *(draw(st.booleans()) for _ in range(2)),
            is_baseline=name == baseline,
        )
        for name in names
    ]


ASKS = st.builds(
    Ask,
    goal=st.sampled_from(tuple(GOALS)),
    budget=LIMITS,
    loss=LOSSES,
    starts=st.sampled_from((0.0, 1.0, 1000.0)),
    price=st.one_of(st.none(), st.just(2.5)),
)


@given(option_sets(), ASKS)
def test_nothing_beyond_a_limit_and_nothing_without_a_figure_is_advised(cells, ask):
    by_name = {cell.technique: cell for cell in cells}
    advice = advise(cells, ask)
    for name in filter(None, (advice.choice, *advice.ties, *advice.open, advice.runner_up)):
        cell = by_name[name]
        assert figure(cell, ask) is not None
        assert ask.budget is None or cell.needs <= ask.budget
        assert ask.loss is None or cell.loss <= ask.loss
    within = [cell for cell in cells if figure(cell, ask) is not None and (ask.budget is None or (cell.needs or 1e99) <= ask.budget)]
    within = [cell for cell in within if ask.loss is None or (cell.loss is not None and cell.loss <= ask.loss)]
    assert (advice.choice is None) == (not within), "something is advised wherever something fits"


@given(option_sets(), ASKS, LIMITS, LOSSES)
def test_a_looser_limit_never_makes_the_figure_worse(cells, ask, budget, loss):
    def looser(one, other):
        return None if one is None or other is None else max(one, other)

    before, after = advise(cells, ask), advise(cells, replace(ask, budget=looser(ask.budget, budget), loss=looser(ask.loss, loss)))
    if before.choice:
        # Of what may take as little, the fastest comes first; of what is hardly ahead of the baseline, that.
        slack = {"memory": 1 - SMALLEST_SAVING, "energy": 1 / ESTIMATE_WITHIN}.get(ask.goal, 1 / AHEAD)
        if ask.goal == "throughput":
            assert after.figure >= before.figure * slack * (1 - 1e-9)
        else:
            less = after.figure - CUDA_CONTEXT_WITHIN if ask.goal == "memory" else 0
            assert min(after.figure * slack, less or after.figure) <= before.figure * (1 + 1e-9)


@given(option_sets(), ASKS, st.randoms())
def test_the_order_of_the_cells_is_immaterial(cells, ask, random):
    shuffled = list(cells)
    random.shuffle(shuffled)
    assert advise(shuffled, ask) == advise(cells, ask)


@given(option_sets(), ASKS)
def test_ties_are_symmetrical(cells, ask):
    """Whether two cells tie does not hang on which of them is the better one by a hair."""
    ask = replace(ask, budget=None)
    known = [cell for cell in cells if figure(cell, ask) is not None]
    for one in known:
        for other in known:
            if one.technique < other.technique:
                pair = [replace(cell, loss=0.0, compared=True) for cell in (one, other)]
                swapped = [replace(pair[0], **_figures(pair[1])), replace(pair[1], **_figures(pair[0]))]
                assert bool(advise(pair, ask).ties) == bool(advise(swapped, ask).ties)


def _figures(cell: Option) -> dict:
    return {name: getattr(cell, name) for name in ("seconds", "rate", "start", "needs", "by_device", "joule")}


@given(option_sets(), ASKS)
def test_what_is_better_is_beyond_a_limit_and_is_told_from_what_is_chosen(cells, ask):
    advice = advise(cells, ask)
    chosen = {advice.choice, *advice.ties, *advice.open, advice.runner_up}
    assert not chosen & set(advice.better)
    assert advice.choice not in (*advice.ties, *advice.open)
    assert not set(advice.ties) & set(advice.open)
    if advice.choice:
        figures = {cell.technique: figure(cell, ask) for cell in cells}
        worse = (lambda a, b: a < b) if ask.goal == "throughput" else (lambda a, b: a > b)
        assert all(worse(advice.figure, figures[name]) for name in advice.better)
        if ask.goal in BY_SPEED:
            ahead = [name for name in (*advice.ties, *advice.open) if worse(advice.figure, figures[name])]
            assert not ahead or next(cell for cell in cells if cell.technique == advice.choice).is_baseline
        assert set(advice.doubtful) <= set(advice.better)


@given(option_sets(), ASKS)
def test_nothing_takes_less_than_the_choice_but_what_ties_with_it_and_is_slower(cells, ask):
    """vLLM was advised for its speed with 1.27 GB beside 0.84 GB, as how much CUDA takes itself is not known to the byte."""
    ask = replace(ask, goal="energy" if ask.goal == "energy" else "memory")
    advice = advise(cells, ask)
    by_name = {cell.technique: cell for cell in cells}
    within = [name for name in by_name if advise([by_name[name]], ask).choice]
    for name in set(within) - {advice.choice}:
        other = figure(by_name[name], ask)
        is_tied = ask.goal == "memory" and other >= (1 - SMALLEST_SAVING) * advice.figure
        chosen = by_name[advice.choice]
        may_lead = AHEAD if chosen.is_baseline else 1
        assert other >= advice.figure or (is_tied and (by_name[name].rate or 0) <= may_lead * (chosen.rate or 0))
    for name in (*advice.ties, *advice.open, *filter(None, [advice.runner_up])):
        pair = advise([by_name[name], by_name[advice.choice]], ask)
        assert advice.choice in (pair.choice, *pair.ties, *pair.open)


def is_surely_faster(one: Option, other: Option) -> bool:
    """Of an older summary that is known against the baseline, too."""
    near = (one.technique, *one.same, *one.open)
    return (one.compared or other.is_baseline) and other.technique not in near and (one.rate or 0) > (other.rate or 0)


@given(option_sets(), ASKS)
def test_the_baseline_is_left_only_for_what_is_surely_better_or_clearly_ahead(cells, ask):
    """ "Take No KV cache: 2.39 s a reply, 1.0× (0.5–2.1) as fast as the baseline" was said beside a baseline of 2.41 s."""
    ask = replace(ask, goal=ask.goal if ask.goal in BY_SPEED else "throughput")
    advice = advise(cells, ask)
    within = [cell for cell in cells if advise([cell], ask).choice]
    base = next((cell for cell in within if cell.is_baseline), None)
    without = advise([replace(cell, is_baseline=False) for cell in cells], ask)
    if base is None:
        assert advice.choice == without.choice
        return
    ratio = figure(base, ask) / without.figure
    is_ahead = not 1 / AHEAD <= ratio <= AHEAD
    starts = {cell.technique: (cell.start or 0) * ask.starts for cell in within}
    surely = [cell for cell in within if is_surely_faster(cell, base) and starts[cell.technique] <= starts[base.technique]]
    # At the edge itself the last digit decides.
    if not (ratio == pytest.approx(AHEAD) or 1 / ratio == pytest.approx(AHEAD)):
        assert advice.choice == (without.choice if is_ahead or surely else base.technique)


def test_what_is_hardly_ahead_of_the_baseline_is_named_beside_it():
    cache = Option("no_kv_cache", 2.39, 53.5, 20.0, 3_070, False, None, 0.0, open=("baseline",))
    baseline = Option("baseline", 2.41, 53.1, 22.0, 3_060, False, None, 0.0, open=("no_kv_cache",), is_baseline=True)
    for goal in BY_SPEED:
        advice = advise([cache, baseline], Ask(goal))
        assert (advice.choice, advice.ties, advice.open, advice.better) == ("baseline", (), ("no_kv_cache",), ()), goal
    assert advise([cache, baseline], Ask()).figure == 2.41
    # Six per cent, or so little for sure, is a reason; and a baseline that does not fit is none to stay with.
    assert advise([replace(cache, seconds=2.27), baseline], Ask()).choice == "no_kv_cache"
    assert advise([replace(cache, open=()), replace(baseline, open=())], Ask()).choice == "no_kv_cache"
    assert advise([cache, replace(baseline, needs=9 * GB)], Ask(budget=8 * GB)).choice == "no_kv_cache"
    # What is surely faster, and starts later, has to make up for that.
    sure = [replace(cache, open=(), start=23.0), replace(baseline, open=())]
    assert [advise(sure, Ask(starts=starts)).choice for starts in (0, 1)] == ["no_kv_cache", "baseline"]
    # A third that is surely faster is a reason to leave it, though not for itself.
    third = Option("third", 2.40, 53.3, 20.0, 3_070, False, None, 0.0, open=("no_kv_cache",))
    doubted = [replace(cache, open=("baseline", "third")), third, baseline]
    assert (advise(doubted, Ask()).choice, advise(doubted, Ask()).open) == ("no_kv_cache", ("third",))


def test_of_what_takes_as_little_memory_the_baseline_is_left_only_for_more_speed():
    cache = Option("no_kv_cache", 2.39, 53.5, 20.0, 3_070, False, None, 0.0, open=("baseline",))
    baseline = Option("baseline", 2.41, 53.1, 22.0, 3_060, False, None, 0.0, open=("no_kv_cache",), is_baseline=True)
    advice = advise([cache, baseline], Ask("memory"))
    assert (advice.choice, advice.ties) == ("baseline", ("no_kv_cache",))
    assert advise([replace(cache, rate=56.0), baseline], Ask("memory")).choice == "no_kv_cache"
    assert advise([replace(cache, open=()), baseline], Ask("memory")).choice == "no_kv_cache"
    assert advise([replace(cache, needs=2_900), baseline], Ask("memory")).choice == "no_kv_cache"


def test_of_what_takes_as_little_memory_the_fastest_is_chosen():
    slow, fast = Option("slow", 2.0, 50.0, 0, 3_600, False, None, 0.0), Option("fast", 0.2, 600.0, 0, 3_640, False, None, 0.0)
    advice = advise([slow, fast], Ask("memory"))
    assert (advice.choice, advice.ties, advice.better) == ("fast", ("slow",), ())
    assert advise([slow, replace(fast, needs=3_700)], Ask("memory")).choice == "slow"


def test_memory_that_the_device_told_is_held_against_what_pytorch_gave_out_up_to_what_cuda_takes():
    nf4 = Option("bnb_nf4", 2.0, 50.0, 0, 6 * GB, False, None, 0.0)
    gguf, vllm = replace(nf4, technique="gguf", rate=300.0, needs=5 * GB, by_device=True), replace(nf4, technique="vllm", needs=17 * GB)
    advice = advise([nf4, gguf, vllm], Ask("memory"))
    assert (advice.choice, advice.open, advice.runner_up) == ("gguf", (), "bnb_nf4")
    # By how much they differ is known to within 0.2 GiB; of two that PyTorch told, exactly. That is no reason to take more.
    close = [nf4, replace(gguf, needs=nf4.needs + CUDA_CONTEXT_WITHIN), replace(nf4, technique="int8", needs=int(1.03 * nf4.needs))]
    advice = advise(close, Ask("memory"))
    assert (advice.choice, advice.ties, advice.open, advice.runner_up) == ("bnb_nf4", (), ("gguf",), "int8")
    further = advise([nf4, replace(gguf, needs=nf4.needs + CUDA_CONTEXT_WITHIN + 1)], Ask("memory"))
    assert (further.choice, further.open, further.runner_up) == ("bnb_nf4", (), "gguf")
    # A tie is one whoever told the memory.
    tied = advise([nf4, replace(gguf, needs=int(1.01 * nf4.needs))], Ask("memory"))
    assert (tied.choice, tied.ties, tied.open) == ("gguf", ("bnb_nf4",), ())


def test_sdpa_needs_less_than_vllm_beside_a_small_model():
    """As on an H200: PyTorch gave out 291 MiB, and the driver told 1,207 MiB."""
    sdpa = Option("sdpa", 2.4, 52.1, 0, 291 * 2**20 + CUDA_CONTEXT, False, None, 0.0)
    vllm = replace(sdpa, technique="vllm", rate=649.5, seconds=0.2, needs=1207 * 2**20, by_device=True)
    advice = advise([vllm, sdpa], Ask("memory"))
    assert (advice.choice, advice.ties, advice.open, advice.runner_up) == ("sdpa", (), (), "vllm")


def test_where_starts_count_only_what_could_make_up_for_them_is_open_and_near_totals_tie():
    """The slower one with the longer start was called perhaps as good, and a total of 1 % more a plain loser."""
    baseline = Option("baseline", 1.96, 65.0, 14.0, 1, False, None, 0.0, open=("sdpa",), compared=True)
    sdpa = Option("sdpa", 2.26, 56.6, 25.0, 1, False, None, 0.0, open=("baseline",), compared=True)
    loop = Option("loop", 0.21, 609.0, 31.7, 1, False, None, 0.0, compared=True)
    advice = advise([baseline, sdpa, loop], Ask(starts=100))
    assert (advice.choice, advice.ties, advice.open) == ("baseline", ("loop",), ())
    assert advise([baseline, replace(sdpa, start=14.0), loop], Ask(starts=100)).open == ("sdpa",)


def test_a_third_cell_that_surely_beats_one_takes_it_out_of_the_tie():
    best = Option("a", 1.0, 100.0, 0, 1, False, None, 0.0, same=("b", "c"))
    middle = Option("b", 1.02, 98.0, 0, 1, False, None, 0.0, same=("a",))
    last = Option("c", 1.04, 96.0, 0, 1, False, None, 0.0, same=("a",))
    assert advise([best, middle, last], Ask()).ties == ("b",)
    assert advise([best, last], Ask()).ties == ("c",)
    # Where nobody held it against the other, nothing is said of the two.
    assert advise([best, replace(middle, compared=False), last], Ask()).ties == ("b", "c")


def test_what_another_surely_beats_is_not_perhaps_as_good():
    """A noisy leader left everything open, also what a quiet third had surely left behind."""
    noisy = Option("noisy", 1.0, 117.0, 10.0, 1, False, None, 0.0, open=("baseline", "quiet"))
    quiet = Option("quiet", 1.05, 112.0, 10.0, 1, False, None, 0.0, open=("noisy",))
    baseline = Option("baseline", 1.17, 100.0, 10.0, 1, False, None, 0.0, open=("noisy",))
    advice = advise([noisy, quiet, baseline], Ask())
    assert (advice.choice, advice.open, advice.runner_up) == ("noisy", ("quiet",), "quiet")
    assert advise([noisy, baseline], Ask()).open == ("baseline",)
    # What starts later is not surely better where starts count.
    slow = replace(quiet, start=200.0)
    assert advise([noisy, slow, baseline], Ask(starts=1)).open == ("baseline",)


@given(option_sets(), ASKS)
def test_what_is_open_or_tied_by_speed_is_surely_beaten_by_nothing_within_the_limits(cells, ask):
    advice = advise(cells, replace(ask, starts=0.0, budget=None, loss=None))
    known = [cell for cell in cells if cell.seconds is not None and cell.rate]
    close = [cell for cell in known if cell.technique in (*advice.open, *advice.ties)] if ask.goal in BY_SPEED else []
    for cell in close:
        assert not any(is_surely_faster(other, cell) for other in known)


def test_starts_are_paid_for_by_every_reply():
    quick = Option("quick", 1.0, 100.0, 2.0, 1, False, None, 0.0)
    slow = Option("slow to start", 0.5, 200.0, 60.0, 1, False, None, 0.0)
    assert advise([quick, slow], Ask()).choice == "slow to start"
    often = advise([quick, slow], Ask(starts=100))
    assert (often.choice, often.figure) == ("quick", pytest.approx(1.2))
    assert advise([quick, slow], Ask("throughput", starts=100)).figure == pytest.approx(100 / 1.2)
    assert advise([replace(quick, start=None)], Ask(starts=1)).choice is None, "a start that nobody timed is not taken for none"


def test_money_is_time_at_the_price_of_the_device():
    cell = Option("a", 1.0, 1000.0, 0, 1, False, None, 0.0)
    assert 1e6 * advise([cell], Ask("money", price=3.6)).figure == pytest.approx(1.0)


# Studies


def guide_of(folder: Path, cells, **options) -> Guide:
    """The guide of a made-up group, through the records, the tables and a file, as the command reads it."""
    rows, _, _ = tables_of(made.write_group(folder, cells, **options))
    records.write(folder / "summary.parquet", SUMMARY, rows)
    return Guide(records.read(folder / "summary.parquet", SUMMARY).rows, "config.yaml")


LOSSY = made.Made("prune_50", "Pruned by 50 %", "compression", 190.0, peak=500, bits_per_byte=5.2, lossless=False)


def test_a_model_that_forgot_what_it_knew_is_named_with_its_price_and_not_advised(tmp_path):
    guide = guide_of(tmp_path, [BASELINE, COMPILED, LOSSY])
    advice = guide.advise(Ask())
    assert (advice.choice, advice.better) == ("torch_compile", ("prune_50",))
    assert guide.why_not("prune_50", Ask()) == ["for +174\u00a0% bits per byte"]
    assert guide.advise(Ask("memory")).choice == "baseline"
    assert guide.advise(Ask("memory", loss=None)).choice == "prune_50"
    assert guide.advise(Ask(loss=1.8)).choice == "prune_50"
    assert guide.advise(Ask(loss=1.7)).choice == "torch_compile"


def test_a_loss_that_is_told_as_the_limit_is_within_it(tmp_path):
    """0.3 % turned down what was shown as +0.30 %."""
    rows = guide_of(tmp_path, [BASELINE, SDPA]).rows
    lost = {"lossless": False, "quality_verdict": "loss", "worst_loss": 0.00304, "worst_loss_task": HELD_OUT}
    guide = Guide([row if row["is_baseline"] else row | lost for row in rows])
    assert guide.qualities["sdpa"].words == f"{percent(0.003)} bits per byte"
    found = {limit: "sdpa" in _named(guide.advise(Ask("memory", loss=limit))) for limit in (0.0, 0.002, 0.3 / 100)}
    assert found == {0.0: False, 0.002: False, 0.3 / 100: True}
    # Shares of right answers are told in tenths, however large they are.
    arc = {"worst_loss": 0.104, "worst_loss_task": "arc", "worst_loss_metric": "acc", "worst_loss_score": 0.5}
    points = Guide([row if row["is_baseline"] else row | lost | arc for row in rows])
    assert points.option("sdpa").loss == 0.104


def _named(advice) -> tuple:
    return (advice.choice, advice.runner_up, *advice.ties, *advice.open)


def test_where_starts_count_the_ratio_beside_a_figure_is_that_of_the_figures(tmp_path, monkeypatch, capsys):
    """A baseline that was advised at 6.60 tokens a second stood before a technique of 5.06 "1.7 times" as fast."""
    costs = {"baseline": 2.0, "sdpa": 6.0}
    rows = [
        row | {"once_s": costs[row["technique"]], "quantize_s": None}
        for row in guide_of(tmp_path, [BASELINE, replace(SDPA, speed=90)]).rows
    ]
    guide = Guide(rows)
    for goal in BY_SPEED:
        ask = Ask(goal, starts=1000)
        base, own = (guide.amount(name, ask) for name in costs)
        wanted = own / base if goal == "throughput" else base / own
        assert wanted < 1 < guide.by_name["sdpa"]["speedup"]
        assert (gain(guide, "sdpa", ask), gain(guide, "baseline", ask)) == (f"{number(wanted, 2)}×", "")
    assert gain(guide, "sdpa", Ask("memory", starts=1000)) == gain(guide, "sdpa", Ask("throughput", starts=1000))
    assert gain(guide, "sdpa", Ask()) == guide.speedup("sdpa")
    unknown = Guide([row | {"rate": None} if row["is_baseline"] else row for row in rows])
    assert gain(unknown, "sdpa", Ask(starts=1000)) == ""
    records.write(tmp_path / "summary.parquet", SUMMARY, rows)
    _, out, _ = run(monkeypatch, capsys, "--results", tmp_path, "--starts", "1000", "--goal", "throughput")
    (line,) = [line for line in out.splitlines() if line.startswith("Next: ")]
    assert line.endswith(f" token/s, {gain(guide, 'sdpa', Ask('throughput', starts=1000))}.")


@pytest.mark.parametrize(("unit", "words"), [("token", "the most tokens a second"), ("pass", "the most passes a second")])
def test_the_goal_is_in_the_unit_of_the_work(tmp_path, monkeypatch, capsys, unit, words):
    rows = [row | {"unit": unit} for row in guide_of(tmp_path, [BASELINE, SDPA]).rows]
    records.write(tmp_path / "summary.parquet", SUMMARY, rows)
    _, out, _ = run(monkeypatch, capsys, "--results", tmp_path, "--goal", "throughput")
    assert f": {words}, " in out.splitlines()[0]
    assert f" {unit}/s" in out.splitlines()[1]
    tokens = Guide([row | {"unit": "token"} for row in rows])
    assert page_data([("", Guide(rows))])["goals"]["throughput"] == words
    both = page_data([("a", tokens), ("b", Guide([row | {"unit": "image"} for row in rows]))])
    assert both["goals"]["throughput"] == "the most tokens or images a second"


def test_only_what_fits_the_memory_could_change_the_answer(tmp_path):
    """A technique that needs 10.4 GB was named for a limit of 0.5 GB, since its quality was not known."""
    unknown = replace(BF16, bits_per_byte=None, speed=300, again=(301.0, 299.0))
    guide = guide_of(tmp_path, [BASELINE, unknown])
    need = guide.option("bf16").needs
    steps = {budget: next_steps(guide.rows, guide.advise(Ask(budget=budget)), Ask(budget=budget)) for budget in (need / 2, need, None)}
    named = {budget: any("bfloat16 is better by this goal" in step for step in said) for budget, said in steps.items()}
    assert named == {need / 2: False, need: True, None: True}


def test_what_was_not_measured_is_never_advised_and_said_to_be_so(tmp_path):
    guide = guide_of(tmp_path, made.DEFAULT_CELLS)
    found = [guide.advise(Ask(goal, loss=None)) for goal in GOALS]
    told = {name for advice in found for name in (advice.choice, *advice.ties, *advice.open, advice.runner_up, *advice.better)}
    assert not told & {"bnb_nf4", "torch_compile_naive"}
    assert [row["technique"] for row in guide.without_figures] == ["torch_compile_naive", "bnb_nf4"]
    steps = next_steps(guide.rows, guide.advise(Ask()), Ask())
    assert "bitsandbytes NF4 has no figures: a package or tool is missing" in steps
    assert not any("torch.compile (one line)" in step for step in steps), "it would be no more active the next time"


def test_quality_that_nobody_measured_is_not_called_kept(tmp_path):
    random = qualities(guide_of(tmp_path / "random", [BASELINE, COMPILED, INT8], quality_meaningful=False).rows)
    assert [one.kind for one in random.values()] == ["baseline", "assumed", "unknown"]
    assert "not measured (the model's weights are random)" in random["torch_compile"].words
    # Where the quality of others was measured, one without is unknown, whatever its construction.
    some = qualities(guide_of(tmp_path / "some", [BASELINE, SDPA, replace(COMPILED, bits_per_byte=None)]).rows)
    assert [one.kind for one in some.values()] == ["baseline", "kept", "unknown"]
    assert some["torch_compile"].loss is None


def test_so_little_text_that_a_large_loss_could_not_be_seen_is_no_proof(tmp_path):
    rows = guide_of(tmp_path, [BASELINE, SDPA]).rows
    coarse = [row | {"quality_loss": 0.1, "quality_loss_low": -0.02, "quality_loss_high": 0.22} for row in rows]
    found = qualities(coarse)["sdpa"]
    assert (found.kind, found.loss) == ("unknown", None)
    assert "+22\u00a0% bits per byte" in found.words


@pytest.mark.parametrize(("resolution", "kind"), [(None, "unknown"), (0.2, "unknown"), (0.04, "kept")])
def test_tasks_alone_are_a_proof_only_where_they_could_have_shown_a_loss(tmp_path, resolution, kind):
    """A dozen questions, all answered as before, and text of one stretch, which has no interval."""
    rows = guide_of(tmp_path, [BASELINE, SDPA]).rows
    no_interval = {"quality_loss": 0.07, "quality_loss_low": None, "quality_loss_high": None, "quality_verdict": "no measurable loss"}
    assert qualities([row | no_interval | {"quality_resolution": resolution} for row in rows])["sdpa"].kind == kind


def test_a_loss_that_only_code_shows_counts_and_says_what_it_is_of(tmp_path):
    """English within its noise, and Python code surely worse: the larger one is the price, not none and not an unknown one."""
    rows = guide_of(tmp_path, [BASELINE, SDPA]).rows
    english = {"quality_loss": 0.002, "quality_loss_low": -0.001, "quality_loss_high": 0.005, "quality_verdict": "loss"}
    found = qualities([row | english | {"worst_loss": 0.031, "worst_loss_task": "stdlib"} for row in rows])["sdpa"]
    assert (found.kind, found.loss, found.words) == ("loss", 0.031, f"{percent(0.031)} bits per byte of Python's standard library")


def test_the_worst_lost_task_is_told_and_held_against_the_limit(tmp_path, monkeypatch, capsys):
    """A task that lost half its right answers was told as another that lost none, and passed a limit of 1 %."""
    grid = made.write_group(tmp_path, [BASELINE, replace(COMPILED, lossless=False, bits_per_byte=1.9095)])
    path = Path(grid[0]["score"])
    rows = records.read(path, SCORE).rows
    arc = {"task": "arc", "metric": "acc", "better": "higher", "chance": 0.25, "items": 500}
    lost = {"test": "mcnemar", "loss": 0.35, "loss_low": 0.3, "loss_high": 0.4, "verdict": "loss"}
    rows += [rows[1] | arc | {"technique": "baseline", "value": 0.7}, rows[1] | arc | lost | {"technique": "torch_compile", "value": 0.35}]
    records.write(path, SCORE, rows, made.facts("score", made.MACHINE))
    records.write(tmp_path / "summary.parquet", SUMMARY, tables_of(grid)[0])
    guide = Guide(records.read(tmp_path / "summary.parquet", SUMMARY).rows, "config.yaml")
    quality = guide.qualities["torch_compile"]
    assert (quality.kind, quality.loss, quality.words) == ("loss", pytest.approx(0.35), "35.0 instead of 70.0 % right in arc")
    assert guide.advise(Ask(loss=0.01)).choice == "baseline"
    assert guide.advise(Ask(loss=0.36)).choice == "torch_compile"
    _, out, _ = run(monkeypatch, capsys, "--results", tmp_path, "--max-loss", "1%")
    assert "Take Baseline" in out
    assert "at a loss: 35.0 instead of 70.0 % right in arc" in out


@pytest.mark.parametrize(
    ("metric", "score", "words"),
    [
        ("acc_norm", 0.35, "35.0 instead of 65.0 % right in arc (acc_norm)"),
        ("perplexity", 13.0, f"{percent(0.3)} perplexity of arc"),
        ("bits_per_byte", 1.3, f"{percent(0.3)} bits per byte of arc"),
        (None, None, f"{percent(0.3)} bits per byte of arc"),
    ],
)
def test_a_loss_is_told_in_what_it_was_measured_by(tmp_path, metric, score, words):
    worst = {"worst_loss": 0.3, "worst_loss_task": "arc", "worst_loss_metric": metric, "worst_loss_score": score}
    rows = [row | worst | {"quality_verdict": "loss"} for row in guide_of(tmp_path, [BASELINE, SDPA]).rows]
    assert qualities(rows)["sdpa"].words == words


def test_a_loss_of_unknown_size_passes_no_limit(tmp_path):
    rows = guide_of(tmp_path, [BASELINE, replace(COMPILED, lossless=False)]).rows
    unsized = {"quality_verdict": "loss", "worst_loss": None, "worst_loss_task": "translate", "worst_loss_metric": "bleu"}
    rows = [rows[0], rows[1] | unsized]
    assert qualities(rows)["torch_compile"].words == "a measurable loss in translate"
    assert advise(options(rows), Ask(loss=0.5)).choice == "baseline"
    assert advise(options(rows), Ask(loss=None)).choice == "torch_compile"


def test_a_lossless_technique_that_was_held_to_the_model_keeps_it(tmp_path):
    rows = guide_of(tmp_path, [BASELINE, replace(SDPA, bits_per_byte=1.9003)]).rows
    held = [row | {"kl_allowed": 1e-4, "quality_verdict": "loss"} for row in rows]
    assert qualities(held)["sdpa"].kind == "kept"
    assert qualities([row | {"lossless": False} for row in held])["sdpa"].kind == "loss"


def test_a_training_loss_that_did_not_move_is_a_price(tmp_path):
    rows = guide_of(tmp_path, [BASELINE, SDPA, COMPILED, NO_CACHE]).rows
    losses = ((4.61, 3.2), (4.61, 3.25), (4.61, 4.6), (4.61, None))
    rows = [row | {"workload": "train", "loss_first": first, "loss_last": last} for row, (first, last) in zip(rows, losses, strict=True)]
    found = qualities(rows)
    assert [one.kind for one in found.values()] == ["baseline", "kept", "loss", "loss"]
    assert found["torch_compile"].words == "its loss went from 4.61 to 4.60, the baseline's from 4.61 to 3.20"
    assert found["no_kv_cache"].loss is None
    assert advise(options(rows), Ask()).choice == "sdpa"


def test_what_adapters_learn_beside_random_weights_is_no_loss_of_quality(tmp_path):
    """LoRA on random weights was called a loss of quality: its loss ends where the weights that it does not train hold it."""
    rows = guide_of(tmp_path, [BASELINE, SDPA, COMPILED], quality_meaningful=False).rows
    losses = ((6.1, 2.68), (9.56, 4.74), (6.1, 4.6))
    rows = [row | {"workload": "train", "loss_first": first, "loss_last": last} for row, (first, last) in zip(rows, losses, strict=True)]
    rows[1] = rows[1] | {"trainable_parameters": rows[0]["trainable_parameters"] // 100}
    found = qualities(rows)
    assert [one.kind for one in found.values()] == ["baseline", "unknown", "loss"]
    assert found["sdpa"].words == "not known: what it trains stands beside random weights, and cannot make up for them"
    assert qualities([row | {"quality_meaningful": True} for row in rows])["sdpa"].kind == "loss"


@pytest.mark.parametrize(
    ("losses", "kind"),
    [((3.05, 1.90), "loss"), ((3.05, 0.200332), "kept"), ((0.5, 0.1503), "kept"), ((1.2, 0.30), "kept"), ((1.2, 0.31), "loss")],
)
def test_a_training_loss_is_judged_by_where_it_ends(tmp_path, losses, kind):
    """One that fell as far from a higher start, and ended far above the baseline's, was kept."""
    rows = guide_of(tmp_path, [BASELINE, SDPA]).rows
    ends = ((1.20, 0.2), losses)
    rows = [row | {"workload": "train", "loss_first": first, "loss_last": last} for row, (first, last) in zip(rows, ends, strict=True)]
    quality = qualities(rows)["sdpa"]
    assert quality.kind == kind
    assert quality.loss == (pytest.approx(losses[1] - 0.2) if kind == "loss" else 0)


def test_a_loss_beside_which_nothing_shows_proves_no_quality(tmp_path):
    """Of 3.05 to 0.000332 beside 1.20 to 0.0000403 it was said that the quality is kept, which is eight times as high."""
    rows = guide_of(tmp_path, [BASELINE, replace(BF16, speed=90), replace(COMPILED, lossless=True), replace(INT8, speed=91)]).rows

    def found(last: float, *others: tuple[float, float]) -> list[str]:
        ends = ((1.20, last), *others)
        told = [row | {"workload": "train", "loss_first": first, "loss_last": end} for row, (first, end) in zip(rows, ends, strict=False)]
        return [one.kind for one in qualities(told).values()]

    assert found(4.03e-5, (3.05, 3.32e-4), (1.2, 4e-5)) == ["baseline", "unknown", "assumed"]
    assert found(0.11, (3.05, 0.11), (1.2, 0.11)) == ["baseline", "kept", "kept"]
    # What surely lost is told as that.
    assert found(4.03e-5, (3.05, 3.32e-4), (1.2, 4e-5), (3.0, 1.9)) == ["baseline", "unknown", "unknown", "loss"]
    told = [row | {"workload": "train", "loss_first": 1.2, "loss_last": 4e-5} for row in rows[:2]]
    assert qualities(told)["bf16"].words == "not known: the baseline's loss did not fall, or fell so low that no difference could show"
    assert advise(options(told), Ask()).choice == "baseline"


def test_a_budget_is_held_against_loading_and_what_cuda_takes(tmp_path):
    (option,) = guide_of(tmp_path, [replace(BASELINE, peak=900)], machine=made.GPU_MACHINE).options
    assert option.needs == 900 * 2**20 + CUDA_CONTEXT
    (option,) = guide_of(tmp_path / "cpu", [replace(BASELINE, peak=900, facts={"memory_load_peak": 1500 * 2**20})]).options
    assert option.needs == 1500 * 2**20


def test_speeds_that_are_close_are_close_on_both_sides_of_a_pair(tmp_path):
    found = {one.technique: one for one in guide_of(tmp_path, made.DEFAULT_CELLS).options}
    assert any(one.same or one.open for one in found.values())
    for name, one in found.items():
        assert all(name in found[other].same for other in one.same)
        assert all(name in found[other].open for other in one.open)


@pytest.mark.parametrize("cells", [[], [BASELINE], [replace(BASELINE, status="oom", reason="x"), replace(SDPA, status="oom", reason="y")]])
def test_few_cells_and_none_get_an_answer(tmp_path, cells):
    rows = guide_of(tmp_path, cells).rows if cells else []
    advice = advise(options(rows), Ask())
    assert advice.choice == ("baseline" if len(cells) == 1 else None)


def test_without_figures_of_the_baseline_others_are_still_ranked(tmp_path):
    guide = guide_of(tmp_path, [replace(BASELINE, status="oom", reason="x"), SDPA, COMPILED])
    assert guide.advise(Ask(loss=None)).choice == "torch_compile"


# The command


def test_the_command_line_has_the_goals_of_the_advice():
    assert (tuple(GOALS), STARTS_PER) == (commands.GOALS, commands.STARTS_PER)


def run(monkeypatch, capsys, *arguments) -> tuple[int, str, str]:
    monkeypatch.setattr(sys, "argv", ["advise.py", *map(str, arguments)])
    try:
        status = command.main()
    except SystemExit as error:
        status = error.code
    told = capsys.readouterr()
    return status, told.out, told.err


def test_the_command_says_what_the_guide_says(tmp_path, monkeypatch, capsys):
    guide = guide_of(tmp_path, [BASELINE, COMPILED, LOSSY])
    status, out, _ = run(monkeypatch, capsys, "--results", tmp_path)
    assert status == 0
    assert "Take torch.compile (static cache)" in out
    assert "Pruned by 50 %" in out
    assert "for +174 % bits per byte" in out
    status, out, _ = run(monkeypatch, capsys, "--results", tmp_path, "--json", "--max-loss", "any")
    (told,) = json.loads(out)
    assert status == 0
    assert told["choice"]["technique"] == guide.advise(Ask(loss=None)).choice == "prune_50"
    assert "prune_50" in told["choice"]["code"]
    assert told["choice"]["command"].endswith("-- results/local/generate/stdlib-llama/prune_50/measure.parquet")


@pytest.mark.parametrize(
    ("verdict", "words"),
    [
        ("faster", ""),
        ("slower", "Once started, it is slower than the baseline."),
        ("same", "Once started, it is as fast as the baseline."),
        ("unsure", "It is not certain that it is faster than the baseline."),
    ],
)
def test_what_a_limit_leaves_is_said_to_be_slower_where_it_surely_is(tmp_path, monkeypatch, capsys, verdict, words):
    """0.30 times the baseline's speed, 0.24 to 0.38, was "not sure"."""
    guide = guide_of(tmp_path, [replace(BASELINE, peak=20_000), replace(SDPA, peak=5_000)])
    records.write(tmp_path / "summary.parquet", SUMMARY, [row | {"verdict": verdict} for row in guide.rows])
    rows = records.read(tmp_path / "summary.parquet", SUMMARY).rows
    stays = "No other technique within these limits is surely better, or more than 5 % ahead."
    assert [against_baseline(Guide(rows), name) for name in ("baseline", "sdpa")] == [stays, words]
    assert against_baseline(Guide(rows[:1]), "baseline") == ""
    assert page_data([("", Guide(rows))])["groups"][0]["cells"]["beside"] == [stays, words]
    _, out, _ = run(monkeypatch, capsys, "--results", tmp_path, "--vram", "8")
    assert "Take SDPA" in out
    by_memory = run(monkeypatch, capsys, "--results", tmp_path, "--vram", "8", "--goal", "memory")[1]
    found = [[line for line in said.splitlines() if line.startswith(("Once started", "It is not"))] for said in (out, by_memory)]
    assert found == [[words] if words else [], []]


def test_of_a_speed_up_that_is_open_nothing_is_said_to_be_as_fast(tmp_path, monkeypatch, capsys):
    """ "Take SDPA: 6.7 s a reply, open as fast as the baseline" was said."""
    starved = {"disturbed": "other processes used 90% of the CPUs", "cpu_foreign": 0.9}
    guide = guide_of(tmp_path, [replace(cell, speed=speed, facts=starved) for cell, speed in ((BASELINE, 1.5), (SDPA, 9.6))])
    _, out, _ = run(monkeypatch, capsys, "--results", tmp_path)
    assert re.search(r"^Take SDPA: [\d.]+ s a reply, speed-up open\.$", out, re.MULTILINE)
    cells = page_data([("", guide)])["groups"][0]["cells"]
    assert cells["as_fast"] == cells["speedup"] == ["", "speed-up open"]
    beaten = page_data([("", guide_of(tmp_path / "quiet", [BASELINE, replace(SDPA, speed=900)]))])["groups"][0]["cells"]
    assert beaten["as_fast"][1] == f"{beaten['speedup'][1]} as fast as the baseline"


def test_a_speed_up_between_two_gpus_is_said_to_be_one(tmp_path, monkeypatch, capsys):
    """The page marked it, and this said nothing of it."""
    cells = [BASELINE, replace(SDPA, facts={"device_uuid": "GPU-another"}), COMPILED]
    grid = made.write_group(tmp_path, cells, machine=made.GPU_MACHINE)
    rows, runs, _ = tables_of(grid)
    for table, told in ((SUMMARY, rows), (RUNS, runs)):
        records.write(tmp_path / f"{table.name}.parquet", table, told)
    said = "SDPA ran on another GPU than Baseline (eager attention): what the two differ by is a part of the speed-up."
    assert run(monkeypatch, capsys, "--results", tmp_path)[1].splitlines().count(said) == 1
    (told,) = json.loads(run(monkeypatch, capsys, "--results", tmp_path, "--json")[1])
    assert told["between_gpus"] == ["sdpa"]
    (tmp_path / "runs.parquet").unlink()
    assert "two GPUs" not in run(monkeypatch, capsys, "--results", tmp_path)[1], "nobody knows of any"


def test_a_search_for_the_largest_is_answered_by_sizes_and_no_speed(tmp_path, monkeypatch, capsys):
    """Who asked how large a batch fits was told to take a technique for its speed at the smallest."""
    sizes = {"baseline": 48, "sdpa": 80}
    grown = {"workload": "largest", "grows": "batch_size"}
    rows = [row | grown | {"largest": sizes[row["technique"]]} for row in guide_of(tmp_path, [BASELINE, SDPA]).rows]
    records.write(tmp_path / "summary.parquet", SUMMARY, rows)
    status, out, _ = run(monkeypatch, capsys, "--results", tmp_path)
    assert status == 0
    assert out.splitlines()[1] == "The largest batch that fits, found to within a sixteenth: SDPA 80, Baseline (eager attention) 48."
    assert "as fast" not in out
    (told,) = json.loads(run(monkeypatch, capsys, "--results", tmp_path, "--json")[1])
    assert [(one["technique"], one["largest"]) for one in told["largest"]] == [("sdpa", 80), ("baseline", 48)]


def test_training_is_asked_about_its_steps_and_no_replies(tmp_path, monkeypatch, capsys):
    rows = [row | {"workload": "train"} for row in guide_of(tmp_path, [BASELINE, SDPA]).rows]
    records.write(tmp_path / "summary.parquet", SUMMARY, rows)
    assert (
        run(monkeypatch, capsys, "--results", tmp_path)[1]
        .splitlines()[0]
        .endswith(": the least time of a step, no measurable loss of quality")
    )


def test_code_that_is_not_known_is_said_not_to_be(tmp_path, monkeypatch, capsys):
    """Of a technique that only its study defines, the code was left out without a word."""
    own = replace(COMPILED, technique="of_the_study", label="The study's own", speed=300)
    guide = guide_of(tmp_path, [BASELINE, own])
    said = "The code for it is not known here: its own study defines it, and lies elsewhere."
    _, out, _ = run(monkeypatch, capsys, "--results", tmp_path)
    assert "Take The study's own" in out
    assert f"\n  {said}\n" in out
    codes = page_data([("", guide)])["codes"]
    assert said in codes
    assert "" not in codes
    assert no_code(Guide(guide.rows, registry={"of_the_study": {"engine": "of tomorrow"}}), "of_the_study") != said


def test_the_code_of_an_engine_has_the_sizes_of_the_cell_and_of_its_study(tmp_path, monkeypatch, capsys):
    seen = {"max_model_len": 256, "kv_cache_bytes": 83886080}
    guide = guide_of(tmp_path, [BASELINE, replace(COMPILED, technique="vllm", label="vLLM", speed=300)])
    (tmp_path / "plan.json").write_text(
        json.dumps({"study": {"study_file": "", "techniques": {}, "experiments": {"generate": {"batch_size": 4}}}}), encoding="utf-8"
    )
    rows = [row | ({"evidence": json.dumps(seen)} if row["technique"] == "vllm" else {}) for row in guide.rows]
    records.write(tmp_path / "summary.parquet", SUMMARY, rows, {})
    _, out, _ = run(monkeypatch, capsys, "--results", tmp_path)
    assert "max_model_len=256, max_num_seqs=4, kv_cache_memory_bytes=83886080" in out


def test_a_study_in_japanese_is_advised_in_japanese_and_programs_in_english(tmp_path, monkeypatch, capsys):
    guide_of(tmp_path, [BASELINE, COMPILED, LOSSY, NF4])
    told = {"study_file": "mine.yaml", "techniques": {}, "prices": {}, "language": "ja"}
    (tmp_path / "plan.json").write_text(json.dumps({"study": told}), encoding="utf-8")
    _, out, _ = run(monkeypatch, capsys, "--results", tmp_path, "--vram", "8", "--starts", "1")
    assert "torch.compile (static cache) が最適です：1 応答あたり " in out
    assert "  品質：測定できる低下なし" in out
    assert "Pruned by 50 %" in out.partition("条件を超えるもの：")[2]
    # But for names, code and commands, no line is English.
    code = out.partition("そのためのコード：\n")[2].partition("\n条件")[0]
    lines = [line for line in out.replace(code, "").splitlines() if not re.search("[\u3040-\u30ff\u4e00-\u9fff]", line)]
    assert lines == []
    _, out, _ = run(monkeypatch, capsys, "--results", tmp_path, "--json")
    assert json.loads(out)[0]["choice"]["quality"]["words"].startswith("no measurable loss")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--vram", "-1"], "is not a number above 0"),
        (["--vram", "nan"], "is no finite number"),
        (["--max-loss", "little"], "is no number"),
        (["--max-loss=-1%"], "below 0"),
        (["--starts", "2000"], "not between 0"),
        (["--goal", "speed"], "invalid choice"),
        (["--task", "none"], "there is generate"),
        (["--results", "/proc/nowhere"], "no such folder"),
    ],
)
def test_a_mistake_of_the_caller_ends_with_2_and_a_line(tmp_path, monkeypatch, capsys, arguments, said):
    guide_of(tmp_path, [BASELINE])
    told = arguments if "--results" in arguments else ["--results", tmp_path, *arguments]
    status, _, err = run(monkeypatch, capsys, *told)
    assert status == 2
    assert said in err


def test_a_damaged_summary_is_a_line_and_no_traceback(tmp_path, monkeypatch, capsys):
    (tmp_path / "summary.parquet").write_bytes(b"no parquet")
    status, _, err = run(monkeypatch, capsys, "--results", tmp_path)
    assert status == 2
    assert err.startswith("speedgrid: ")


@pytest.mark.parametrize("folder", sorted(path.parent for path in RESULTS.glob("*/*/summary.parquet")), ids=lambda path: path.name)
def test_published_results_get_advice(folder, monkeypatch, capsys):
    status, out, _ = run(monkeypatch, capsys, "--results", folder)
    assert status == 0
    random = "not measured (the model's weights are random); it keeps the model's arithmetic by construction"
    wanted = {
        "decode-8b": ("Take vLLM: 633 ms a reply, 5.4× (4.2–6.8) as fast as the baseline.", random),
        "decode-1b": ("Take torch.compile (own loop): 210 ms a reply, 9.3×", random),
        "engines-1b": ("Take torch.compile (own loop): 209 ms a reply, 8.4×", random),
        "table-1b": ("Take torch.compile (own loop): 208 ms a reply, 8.3×", random),
        "compile-prefill-decode": ("Take torch.compile (static cache): 579 ms a reply, 4.3×", random),
        "engines-8b": ("Take vLLM: 617 ms a reply, 7.9× (5.1–11.8)", random),
        "smollm2-gpu": ("Take vLLM: 98.5 ms a reply, 16× (11–23)", "it computes the same but for rounding"),
        "attention-reach": ("Take SDPA, cuDNN kernel: 6.80 ms a pass, 7.2×", "held to the same operation in float64"),
        "attention-curve": ("Take SDPA, cuDNN kernel: 3.53 ms a pass, 4.8×", "Take SDPA, cuDNN kernel: 1.95 ms a pass, 18.1×"),
        "training-gpu": (
            "bfloat16 throughout, compiled: 27.0 ms a step, 2.3× (1.4–4.4): quality not known: the baseline's loss did",
            "Take float32: 62.8 ms a step.",
        ),
        "llm-jp-gpu": ("Take torch.compile (static cache): 982 ms a reply, 3.4×", random),
        "finetune-gpu": ("Take Full fine-tuning: 101 ms a step",),
        "table-1b-more": (
            "Take Baseline (eager attention): 2.41 s a reply.",
            "Perhaps as good; these runs do not decide it: No KV cache: 2.39 s a reply, 1.0× (0.5–2.1).",
            "No other technique within these limits is surely better, or more than 5 % ahead.",
        ),
        "table-1b-rest": (
            "Take ONNX Runtime: 982 ms a reply, 2.2× (1.3–3.8) as fast as the baseline.",
            "vLLM, GPTQ INT4: 244 ms a reply, 8.7× (4.9–15.6): quality not known: the model's weights are random",
        ),
        "table-1b-last": ("Take torch.compile (own loop): 210 ms a reply, 9.4× (7.6–11.7) as fast as the baseline.", random),
        "table-8b-rest": (
            "Take Baseline (eager attention): 3.9",
            "ONNX Runtime, float16: 1.97 s a reply, 2.0× (1.2–3.7): quality not known: the model's weights are random",
        ),
        "trained-gpu": (
            "Take ONNX Runtime, float16: 213 ms a reply, 1.9× (1.2–3.1) as fast as the baseline.",
            "vLLM, AWQ INT4: 123 ms a reply, 3.3× (2.0–5.4): for +0.24 % bits per byte; perhaps no better",
        ),
        "ladder-8gb": ("Take torch.compile (static cache): 982 ms a reply, 5.3× (2.6–9.3)", random),
        "ladder-8gb-int4": (
            "Take Baseline (eager attention): 3.87 s a reply.",
            "vLLM, GPTQ INT4: 497 ms a reply, 7.8× (5.3–11.8): quality not known: the model's weights are random",
        ),
        "repeats-1b": ("Take torch.compile (own loop): 219 ms a reply, 9.8×", random),
        "reach-gpu": (
            "Take Baseline (eager attention): 45.8 s a reply.",
            "Gradient checkpointing 18, Plain PyTorch 8.",
            "Gradient checkpointing 86,016, Plain PyTorch 36,864.",
        ),
        "resnet-gpu": ("Take bfloat16 autocast, channels last, compiled: 40.0 ms a step, 2.9×", "its loss went from 6.97 to 6.71"),
    }
    # Of other devices the figures differ.
    for words in wanted[folder.name] if folder.parent.name == "h200" else ("Take ",):
        assert words in out


def test_what_a_limit_leaves_out_is_said_to_be_perhaps_no_faster_where_that_is_open(tmp_path):
    base, ask = replace(BASELINE, again=(48.3, 47.8)), Ask("throughput")
    guide = guide_of(tmp_path, [base, replace(COMPILED, speed=92), replace(BF16, speed=106)])
    advice = guide.advise(ask)
    assert (advice.choice, advice.better) == ("torch_compile", ("bf16",))
    assert doubts(advice, "bf16") == ["perhaps no better"]
    assert doubts(guide.advise(Ask("memory")), "bf16") == []
    surely = guide_of(tmp_path / "surely", [base, COMPILED, replace(BF16, speed=300)])
    assert surely.advise(ask).better == ("bf16",)
    assert doubts(surely.advise(ask), "bf16") == []


def test_what_is_as_good_is_not_called_better():
    """A tie of 661 ms, beyond the limit of loss, was "better by this goal" than the choice of 661 ms."""
    choice = Option("choice", 0.661, 100.0, 0, 8 * GB, False, None, 0.0, same=("lossy",))
    lossy = Option("lossy", 0.66, 100.2, 0, 8 * GB - 1, False, None, 0.1, same=("choice",))
    for goal in ("latency", "throughput", "money", "memory"):
        advice = advise([choice, lossy], Ask(goal))
        assert (advice.choice, advice.better) == ("choice", ()), goal
    apart = [replace(choice, same=()), replace(lossy, same=())]
    assert advise(apart, Ask()).better == ("lossy",)
    # Of memory that was read in another way it is open, as of energy that is estimated.
    told = advise([choice, replace(lossy, needs=int(7.8 * GB), by_device=True)], Ask("memory"))
    assert (told.better, told.doubtful) == (("lossy",), ("lossy",))
    pair = [replace(choice, joule=2.0), replace(lossy, joule=1.7)]
    assert (advise(pair, Ask("energy")).better, advise(pair, Ask("energy")).doubtful) == (("lossy",), ())
    pair[1] = replace(pair[1], about=True)
    assert advise(pair, Ask("energy")).doubtful == ("lossy",)


WATCHED = {"energy_valid": False, "energy": 240.0, "watched_s": 2.0, "power_mean": 110.0, "energy_reason": "the replies took 2.0 s"}


def test_what_is_done_before_the_energy_counter_is_right_has_an_estimate(tmp_path, monkeypatch, capsys):
    """ "Take Baseline: 1.97 J/token" was said beside six techniques that are faster and take a quarter of that."""
    rows = guide_of(tmp_path, [BASELINE, COMPILED]).rows
    rows = [rows[0] | {"joule_per_token": 1.97, "energy_valid": True}, rows[1] | WATCHED | {"joule_per_token": None}]
    guide = Guide(rows)
    assert guide.option("torch_compile").joule == pytest.approx(120 / rows[1]["rate"])
    assert [one.about for one in guide.options] == [False, True]
    ask = Ask("energy")
    assert guide.advise(ask).choice == "torch_compile"
    said = f"about {number(120 / rows[1]['rate'])} J/token (from mean power)"
    assert (figure_in_words(guide, "torch_compile", ask), figure_in_words(guide, "baseline", ask)) == (said, "1.97 J/token")
    assert "estimate" in page_data([("", guide)])["groups"][0]["sure"]["energy"]
    records.write(tmp_path / "summary.parquet", SUMMARY, rows)
    _, out, _ = run(monkeypatch, capsys, "--results", tmp_path, "--goal", "energy")
    assert f"Take torch.compile (static cache): {said}, " in out
    assert "A figure from mean power is an estimate, right to within about a quarter." in out
    (told,) = json.loads(run(monkeypatch, capsys, "--results", tmp_path, "--goal", "energy", "--json")[1])
    assert told["choice"]["joule_is_estimate"] is True
    assert any("is an estimate: the replies took 2.0 s; raise replies" in step for step in told["next"])
    exact = Guide([row | {"joule_per_token": 1.0} for row in rows])
    assert "estimate" not in sure(exact, "energy")


@pytest.mark.parametrize(
    ("facts", "power"),
    [
        ({}, 120),
        ({"energy": 0.0}, None),
        ({"power_mean": 90.0}, None),
        ({"shared": True}, None),
        ({"point": 512}, None),
        ({"device_name": "NVIDIA A100-SXM4-40GB MIG 1g.5gb"}, None),
        ({"power_mean": None}, None),
        ({"energy": None}, None),
        ({"energy": None, "watched_s": 20.0}, 110),
        ({"watched_s": None}, None),
    ],
)
def test_energy_is_estimated_only_where_something_tells_that_the_power_is_right(tmp_path, monkeypatch, capsys, facts, power):
    rows = guide_of(tmp_path, [BASELINE, COMPILED]).rows
    rows = [rows[0] | {"joule_per_token": 1.97}, rows[1] | {"shared": False} | WATCHED | facts]
    assert energy(rows[1]) == ((pytest.approx(power / rows[1]["rate"]), True) if power else (None, False))
    steps = next_steps(rows, Guide(rows).advise(Ask("energy")), Ask("energy"))
    wanted = "torch.compile (static cache) is faster and may take less energy, but has no figure of it: "
    assert any(step.startswith(wanted) for step in steps) == (power is None)
