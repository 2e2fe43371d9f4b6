"""What is no finite number is a status and never a figure."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
import records_factory as made
from hypothesis import given
from hypothesis import strategies as st
from speedgrid import outcomes, records
from speedgrid.engines import base
from speedgrid.outcomes import NotFinite
from speedgrid.quality import distance, paired, scores
from speedgrid.schema import EVALUATE, SCORE, STATUSES
from speedgrid.workloads.base import Work

NOT_FINITE = st.sampled_from([math.nan, math.inf])
LOGARITHMS = st.lists(st.floats(-50, 0), min_size=1, max_size=5)


class Engine(base.Engine):
    """An engine that says what it is told to say."""

    def __init__(self, logarithms, dtype="float16"):
        self.logarithms, self.options = logarithms, {"dtype": dtype}

    def _loglikelihoods(self, requests):
        return [base.Likelihood(self.logarithms, True) for _ in requests]

    def _next_tokens(self, sequences, count):
        return [base.Likeliest([list(range(len(self.logarithms)))], [self.logarithms]) for _ in sequences]

    import_packages = load = sizes = generate = prove = None


Engine.__abstractmethods__ = frozenset()


@given(good=LOGARITHMS, bad=NOT_FINITE, place=st.integers(0, 5))
def test_what_an_engine_gives_is_finite_or_refused(good, bad, place):
    assert Engine(good).loglikelihoods([((1,), (2,))])[0].logarithms == good
    assert Engine(good).next_tokens([(1,)], 5)[0].logarithms == [good]
    found = [*good[:place], bad, *good[place:]]
    for ask in (lambda: Engine(found).loglikelihoods([((1,), (2,))]), lambda: Engine(found).next_tokens([(1,)], 5)):
        with pytest.raises(NotFinite, match="not finite numbers in float16, whose range ends at 65,504: use bfloat16 or float32"):
            ask()
    with pytest.raises(NotFinite):
        Engine(found).check_numbers([1, 2])


def test_a_token_that_the_model_masks_out_is_impossible_and_no_nan_comes_of_it():
    with pytest.raises(NotFinite):
        Engine([-math.inf]).loglikelihoods([((1,), (2,))])
    (found,) = Engine([-0.1, -math.inf]).next_tokens([(1,)], 5)
    assert found.logarithms == [[-0.1, base.IMPOSSIBLE]]
    away, _ = distance.position([0, 1], found.logarithms[0], [0, 1], found.logarithms[0])
    assert away == pytest.approx(0, abs=1e-9)


@given(bad=st.sampled_from([math.nan, math.inf, -math.inf]), ours=st.booleans())
def test_there_is_no_distance_to_what_is_no_number(bad, ours):
    sides = ([-0.1, bad], [-0.1, -3.0]) if ours else ([-0.1, -3.0], [-0.1, bad])
    with pytest.raises(ValueError, match="finite"):
        distance.position([0, 1], sides[0], [0, 1], sides[1])


def test_drawing_from_what_is_no_probability_is_an_expected_failure():
    error = RuntimeError("probability tensor contains either `inf`, `nan` or element < 0")
    assert outcomes.expected(error).status == "not_finite"
    assert "not_finite" in STATUSES


class Training(Work):
    noun = "step"


Training.__abstractmethods__ = frozenset()


def rows(losses) -> list[dict]:
    return [{"loss": loss} for loss in losses]


@given(losses=st.lists(st.floats(0, 1e3), max_size=8), bad=NOT_FINITE, place=st.integers(0, 8))
def test_a_loss_that_is_no_number_ends_the_training_with_the_first_such_step(losses, bad, place):
    work = Training(None, {}, 1)
    work.check_numbers(rows(losses))
    place = min(place, len(losses))
    with pytest.raises(NotFinite, match=f"from counted step {place + 1} on"):
        work.check_numbers(rows([*losses[:place], bad, *losses[place:]]))


def test_no_table_holds_a_number_that_is_not_finite(tmp_path):
    row = {"status": "ok", "kind": "document", "nats": math.nan, "window_nats": [1.0, math.inf]}
    records.write(tmp_path / "evaluate.parquet", EVALUATE, [row], {"seconds": math.inf})
    record = records.read(tmp_path / "evaluate.parquet", EVALUATE)
    assert (record.rows[0]["nats"], record.rows[0]["window_nats"], record.facts["seconds"]) == (None, [1.0, None], None)


@pytest.mark.parametrize("name", ["nats", "window_nats", "divergence"])
def test_answers_that_are_no_numbers_are_not_scored(name):
    fine = {"nats": 1.0, "window_nats": [1.0], "divergence": None}
    assert scores.all_finite([fine])
    bad = math.nan if name == "nats" else [0.5, math.nan]
    assert not scores.all_finite([fine, {**fine, name: bad}])


def test_a_perplexity_beyond_all_numbers_is_a_loss_without_a_figure():
    found = paired.factor(paired.Comparison("bootstrap", 800.0, 790.0, 810.0))
    assert (found.loss, found.verdict(paired.NEGLIGIBLE)) == (math.inf, "loss")


def test_score_does_not_end_with_answers_that_are_no_numbers(tmp_path, monkeypatch):
    """Those of an older speedgrid, which wrote them down."""
    made.write_group(tmp_path)
    path = next(tmp_path.glob("results/**/baseline/evaluate.parquet"))
    record = records.read(path, EVALUATE)
    monkeypatch.setattr(records, "_finite", lambda value: value)
    records.write(path, EVALUATE, [row | {"nats": math.nan} for row in record.rows], record.facts)
    told = {"gpu": "local", "experiment": "generate", "model": "m", "seed": 1, "evaluate": {"text": "stdlib", "tasks": []}}
    told |= {"device": {"device": "cpu"}, "requires": [], "threads": 1, "requests": ""}
    told |= {"techniques": [{"technique": "baseline", "evaluate": str(path), "is_baseline": True}]}

    script = Path(__file__).resolve().parents[2] / "scripts/score.py"
    command = [sys.executable, script, "--job", json.dumps(told), "--out", tmp_path / "score.parquet"]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = records.read(tmp_path / "score.parquet", SCORE).rows
    assert [row["status"] for row in rows] == ["not_finite"], rows[0]["reason"]


@given(good=LOGARITHMS, bad=NOT_FINITE, place=st.integers(0, 5))
def test_the_same_holds_of_sequences_alone(good, bad, place):
    assert Engine(good).next_tokens_alone([(1,)], 5)[0].logarithms == [good]
    with pytest.raises(NotFinite):
        Engine([*good[:place], bad, *good[place:]]).next_tokens_alone([(1,)], 5)


def test_why_held_out_text_has_no_figures_is_a_row_and_one_where_it_is_that_of_all():
    why, other = "the tokenizer loses text", "vLLM gives no probabilities"
    facts = {"a": {"text_reason": why, "distance_reason": "not asked for"}, "b": {"text_reason": why, "distance_reason": other}}
    asked = {"techniques": [], "evaluate": {"text": "text.txt"}}
    _, rows = scores.on_held_out(asked, {name: records.Record([], own) for name, own in facts.items()})
    assert [(row["technique"], row["task"], row["reason"]) for row in rows] == [(None, "held_out", why), ("b", "held_out", other)]
    assert {row["status"] for row in rows} == {"unsupported"}
