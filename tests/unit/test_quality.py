"""Quality: items made of text, requests in tokens, the distance between two models, paired tests, scores."""

import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from speedgrid.outcomes import Unsupported
from speedgrid.quality import cloze, distance, excerpts, paired, questions, scores, tasks

TEXT = "".join(f"def function_{number}(argument_{number}):\n    return argument_{number} + {number * 7}\n" for number in range(200))


# Items


@given(limit=st.integers(1, 30))
def test_items_are_cut_from_the_text_and_the_label_is_the_real_continuation(limit):
    found = cloze.items([("a.py", TEXT)], limit)
    assert len(found) == limit
    for item in found:
        assert len(item["endings"]) == cloze.CHOICES == len(set(item["endings"]))
        assert item["ctx"] + item["endings"][item["label"]] in TEXT
        assert not any(item["ctx"] + other in TEXT for place, other in enumerate(item["endings"]) if place != item["label"])
        assert {len(ending) for ending in item["endings"]} == {cloze.ENDING}


def test_labels_do_not_favour_a_place():
    labels = [item["label"] for item in cloze.items([("a.py", TEXT * 10)], 400)]
    assert all(60 <= labels.count(label) <= 140 for label in range(cloze.CHOICES))


def test_more_items_begin_with_the_same_ones():
    assert cloze.items([("a.py", TEXT)], 20)[:5] == cloze.items([("a.py", TEXT)], 5)


def test_a_short_text_makes_no_item():
    assert cloze.items([("a.py", "x = 1\n" * 10)], 5) == []


FILES = st.lists(st.tuples(st.text("ab", min_size=1), st.text("x =\nä", max_size=6000)), max_size=5)


@given(files=FILES, limit=st.integers(1, 40))
def test_excerpts_are_whole_lines_of_the_files_and_all_are_of_some_size(files, limit):
    found = [item["text"] for item in excerpts.items(files, limit)]
    assert len(found) <= limit
    assert found == [item["text"] for item in excerpts.items(files, limit + 1)][:limit]
    for text in found:
        assert any(f"\n{text.rstrip()}" in f"\n{file}" for _, file in files)


def test_few_excerpts_are_of_many_files_and_from_their_middles():
    files = [(name, "".join(f"{name}{number:03} = {number}  # {'-' * 90}\n" for number in range(60))) for name in "abc"]
    found = [item["text"] for item in excerpts.items(files, 4)]
    assert [text[0] for text in found] == ["a", "b", "c", "a"]
    assert not any("000 =" in text for text in found)
    assert all(len(text.encode()) >= excerpts.BYTES - 1 for text in found)


# Requests in tokens


def tokenizer(context: int = 1000) -> questions.Tokenizer:
    """Words with the space before them are tokens; a tokenizer that adds 0 by itself before a text."""
    known: dict[str, int] = {}

    def encode(text: str, special: bool | None) -> list[int]:
        words = [word for word in text.replace(" ", "\0 ").split("\0") if word]
        return [0] * (special is not False) + [known.setdefault(word, len(known) + 1) for word in words]

    return questions.Tokenizer(encode, prefix=0, prefix_text="<s>", context=context)


def test_a_continuation_is_what_follows_the_context():
    encode = tokenizer()
    before, following = questions.pair("one two", " three four", encode)
    assert (before, following) == (encode("one two"), encode(" three four", False))


def test_spaces_at_the_end_of_a_context_begin_the_continuation():
    encode = tokenizer()
    assert questions.pair("one two ", "three", encode) == questions.pair("one two", " three", encode)


def test_an_empty_context_is_the_token_that_begins_a_text():
    encode = tokenizer()
    assert questions.pair("", "one two", encode) == ([0], encode("one two", False))


def test_a_long_context_is_cut_on_the_left():
    encode = tokenizer(context=4)
    before, following = questions.pair("one two three four five", " six seven", encode)
    # The last token is scored and never fed, so that one more than the context fits.
    assert (before, following) == (encode(" three four five", False), encode(" six seven", False))
    with pytest.raises(Unsupported, match="5 tokens, and the model takes 4"):
        questions.pair("one", " 1 2 3 4 5", encode)


def test_a_request_without_anything_to_score_is_refused():
    with pytest.raises(Unsupported, match="no token before, or none after"):
        questions.pair("one", "", tokenizer())


def test_special_tokens_are_not_added_twice():
    seen = []
    encode = questions.Tokenizer(lambda text, special: seen.append(special) or [1], 0, "<s>", 10)
    encode("<s> already there")
    encode("not there")
    assert seen == [False, None]


def test_what_is_to_be_written_is_read_from_the_settings():
    asked = questions.generation("one two three", json.dumps({"until": ["\n", "Q:"], "max_gen_toks": 5, "do_sample": False}), tokenizer(7))
    assert (asked.new_tokens, asked.until, asked.sampling["do_sample"], len(asked.prompt)) == (5, ("\n", "Q:"), False, 2)
    with pytest.raises(Unsupported, match="up to 9 new tokens, and the model takes 7"):
        questions.generation("one", json.dumps({"max_gen_toks": 9}), tokenizer(7))


@pytest.mark.parametrize(("until", "left"), [((), "a\nb Q: c"), (("\n",), "a"), (("Q:", "\n"), "a"), (("Q:",), "a\nb ")])
def test_text_ends_at_the_first_end(until, left):
    assert questions.cut("a\nb Q: c", until) == left


# Distance

LOGITS = st.lists(st.floats(-8, 8), min_size=3, max_size=40)


def likeliest(logits, count: int) -> tuple[list[int], list[float]]:
    logarithms = np.asarray(logits, dtype=float) - np.log(np.exp(logits).sum())
    top = np.argsort(-logarithms, kind="stable")[:count]
    return top.tolist(), logarithms[top].tolist()


def divergence(p, q) -> float:
    p, q = (np.asarray(logits, dtype=float) - np.log(np.exp(logits).sum()) for logits in (p, q))
    return float((np.exp(p) * (p - q)).sum())


@given(logits=LOGITS, count=st.integers(1, 50))
def test_a_model_is_at_no_distance_from_itself(logits, count):
    found, _ = distance.position(*likeliest(logits, count), *likeliest(logits, count))
    assert found == pytest.approx(0, abs=1e-9)


@given(p=LOGITS, data=st.data(), count=st.integers(1, 50))
def test_the_distance_is_never_more_than_the_whole_divergence_and_equal_where_all_is_named(p, data, count):
    q = data.draw(st.lists(st.floats(-8, 8), min_size=len(p), max_size=len(p)))
    found, covered = distance.position(*likeliest(p, count), *likeliest(q, count))
    whole = divergence(p, q)
    assert 0 <= found <= whole + 1e-6
    assert 0 <= covered <= 1
    if count >= len(p):
        assert found == pytest.approx(whole, abs=1e-6)
        assert covered == pytest.approx(1)


@given(lengths=st.lists(st.integers(0, 400), max_size=6), positions=st.integers(0, 900), context=st.integers(2, 300))
def test_sequences_are_of_the_documents_and_within_what_was_asked(lengths, positions, context):
    documents = [list(range(1000 * (number + 1), 1000 * (number + 1) + length)) for number, length in enumerate(lengths)]
    found = distance.sequences(documents, prefix=7, positions=positions, context=context)
    assert sum(len(tokens) for _, tokens in found) <= positions
    for number, (prefix, *tokens) in found:
        assert prefix == 7
        assert 0 < len(tokens) < min(distance.SEQUENCE, context)
        start = documents[number].index(tokens[0])
        assert documents[number][start : start + len(tokens)] == tokens


@pytest.mark.parametrize("positions", [2, 64, 128, 200, 900])
def test_a_long_text_has_as_many_positions_as_asked_for(positions):
    found = distance.sequences([list(range(2000))], prefix=7, positions=positions, context=1024)
    assert sum(len(tokens) for _, tokens in found) == positions


# Paired tests


@given(both=st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=200))
def test_mcnemar_is_fair_to_both_sides(both):
    mine, theirs = zip(*both, strict=True)
    one, other = paired.mcnemar(mine, theirs), paired.mcnemar(theirs, mine)
    assert one.loss == -other.loss == pytest.approx(np.mean(theirs) - np.mean(mine))
    assert (one.low, one.high) == (pytest.approx(-other.high), pytest.approx(-other.low))
    assert one.p == other.p
    assert one.low <= one.loss <= one.high or one.p >= 0.05
    assert (one.verdict() == "no measurable loss") or one.p < 0.05


def test_mcnemar_against_published_figures():
    """The exact p of 10 and 1 discordant pairs is 2 · (C(11,0) + C(11,1)) / 2^11."""
    assert paired.exact_p(10, 1) == pytest.approx(24 / 2048)
    assert paired.exact_p(0, 0) == 1
    assert paired.exact_p(5, 5) == 1


def test_answers_that_are_all_the_same_state_what_could_have_been_seen():
    same = paired.mcnemar([True, False] * 100, [True, False] * 100)
    assert (same.loss, same.p, same.verdict()) == (0, 1, "no measurable loss")
    assert 0.005 < same.resolution < 0.02


def test_a_large_loss_is_a_loss_and_the_other_way_round_a_gain():
    right, wrong = [True] * 60 + [False] * 40, [True] * 40 + [False] * 60
    assert paired.mcnemar(wrong, right).verdict() == "loss"
    assert paired.mcnemar(right, wrong).verdict() == "gain"


@given(shift=st.floats(-5, 5), seed=st.integers(0, 20))
def test_a_bootstrap_of_pairs_sees_a_shift_that_is_smaller_than_the_spread(shift, seed):
    """The values differ from window to window by far more than the technique changes them; pairing takes that away."""
    rng = np.random.default_rng(seed)
    baseline = rng.normal(1000, 300, 40)
    own = baseline + shift + rng.normal(0, 0.5, 40)
    found = paired.bootstrap(own, baseline)
    assert found.low <= found.loss <= found.high
    assert found.loss == pytest.approx(np.mean(own - baseline))
    assert found.resolution < 0.5
    if abs(shift) > 1:
        assert found.verdict() == ("loss" if shift > 0 else "gain")


def test_weights_are_what_values_are_counted_per():
    assert paired.bootstrap([3.0, 6.0], [1.0, 2.0], [10, 20]).loss == pytest.approx(6 / 30)


def test_what_is_sure_and_negligible_is_no_loss():
    sure = paired.Comparison("bootstrap", 1e-6, 0.9e-6, 1.1e-6)
    assert sure.verdict() == "loss"
    assert sure.verdict(paired.NEGLIGIBLE) == "no measurable loss"


def test_a_single_pair_has_no_verdict():
    assert paired.bootstrap([1.0], [2.0]).verdict() is None


def test_a_loss_in_any_measure_is_a_loss():
    assert paired.overall(["gain", None, "loss"]) == "loss"
    assert paired.overall(["no measurable loss", "gain"]) == "gain"
    assert paired.overall([None, "no measurable loss"]) == "no measurable loss"
    assert paired.overall([None]) is None


@pytest.mark.parametrize("test", [paired.mcnemar, paired.bootstrap])
def test_a_paired_test_needs_pairs(test):
    for mine, theirs in (([], []), ([1], [1, 0])):
        with pytest.raises(ValueError, match="the same items on both sides"):
            test(mine, theirs)


# Scores


def answered(technique: str, factor: float, divergence: float = 0.0) -> scores.Answered:
    windows = [100.0 + number for number in range(30)]
    document = {"kind": "document", "bytes": 9000, "window_nats": [factor * nats for nats in windows], "window_tokens": [50] * 30}
    sequence = {"kind": "sequence", "divergence": [divergence] * 10, "agrees": [1] * 9 + [int(divergence == 0)]}
    return scores.Answered(technique, [document, sequence, sequence], technique == "baseline")


def by_metric(rows: list[dict]) -> dict:
    return {(row["task"], row["metric"]): row for row in rows}


def test_held_out_text_is_scored_and_compared():
    baseline, worse = (scores.held_out_figures(answered(*told)) for told in (("baseline", 1.0), ("worse", 1.02, 0.3)))
    rows = by_metric(scores.compared(worse, baseline))
    bits = rows[("held_out", "bits_per_byte")]
    assert bits["value"] == pytest.approx(1.02 * sum(100 + number for number in range(30)) / math.log(2) / 9000)
    assert bits["loss"] == pytest.approx(0.02)
    assert bits["loss_low"] <= 0.02 <= bits["loss_high"]
    assert (bits["verdict"], bits["test"]) == ("loss", "bootstrap")
    assert rows[("held_out", "kl_divergence")]["value"] == pytest.approx(0.3)
    assert rows[("held_out", "top1_agreement")]["value"] == pytest.approx(0.9)


def test_the_baseline_is_held_against_nothing():
    rows = scores.compared(scores.held_out_figures(answered("baseline", 1.0)), [])
    assert not any(row.get("verdict") for row in rows)


class Score:
    """As tasks.Score, which needs lm-eval."""

    def __init__(self, metric, items, higher_is_better=True, same=""):
        self.metric, self.items, self.higher_is_better, self.same = metric, items, higher_is_better, same
        self.value, self.stderr, self.chance = 0.5, 0.1, None


@pytest.mark.parametrize(
    ("metric", "higher", "mine", "theirs", "test", "loss"),
    [
        ("acc", True, [1, 0, 1, 1], [1, 1, 1, 1], "mcnemar", 0.25),
        ("f1", True, [0.5, 0.4], [0.7, 0.8], "bootstrap", 0.3),
        ("error", False, [0.7, 0.8], [0.5, 0.4], "bootstrap", 0.3),
        ("byte_perplexity", False, [(-20.0, 10), (-42.0, 20)], [(-20.0, 10), (-40.0, 20)], "bootstrap", math.expm1(2 / 30)),
        ("bits_per_byte", False, [(-20.0, 10), (-42.0, 20)], [(-20.0, 10), (-40.0, 20)], "bootstrap", 2 / 60),
    ],
)
def test_each_kind_of_metric_has_its_test(metric, higher, mine, theirs, test, loss):
    own, baseline = (scores.task_figures("task", [Score(metric, items, higher)]) for items in (mine, theirs))
    (row,) = scores.compared(own, baseline)
    assert (row["test"], row["loss"]) == (test, pytest.approx(loss))


def test_a_score_that_is_the_baselines_own_is_no_loss_and_claims_no_resolution():
    """By McNemar's test of equal answers it would have had a resolution, and nothing was asked."""
    baseline = scores.task_figures("task", [Score("acc", [1, 0, 1])])
    (row,) = scores.compared(scores.task_figures("task", [Score("acc", [1, 0, 1])], is_baselines=True), baseline)
    assert (row["test"], row["loss"], row["verdict"], row.get("resolution")) == ("same_model", 0, "no measurable loss", None)


def test_a_task_that_only_one_side_answered_is_compared_with_nothing():
    own = scores.task_figures("task", [Score("acc", [1, 0])])
    assert "loss" not in scores.compared(own, [])[0]
    assert "loss" not in scores.compared(own, scores.task_figures("task", [Score("acc", [1, 0, 1])]))[0]


@pytest.mark.parametrize(
    ("answers", "alike"),
    [
        ([("choice 1", 4)] * 100, True),
        ([("choice 1", 4)] * 6, True),
        # One in 256 guesses the same five times, one in 512 ten times among two.
        ([("choice 1", 4)] * 5, False),
        ([("choice 2", 2)] * 10, False),
        ([("choice 2", 2)] * 11, True),
        ([*[("choice 1", 4)] * 99, ("choice 3", 4)], False),
        ([("", 0)] * 8, True),
        ([("42", 0)] * 3, False),
        ([], False),
    ],
)
def test_answers_that_are_all_the_same_are_told_where_chance_does_not_explain_it(answers, alike):
    said = tasks.answers_alike(answers)
    assert bool(said) == alike
    if alike:
        assert f"each of the {len(answers)} items is the same ({answers[0][0] or 'nothing'})" in said


def test_a_model_that_always_answers_the_same_is_no_better_and_no_equal_of_another_one():
    """Of 40 items each choice of four is right for ten."""
    right = [number % 4 for number in range(40)]
    always, random = ([int(label == answer) for label in right] for answer in (0, 1))
    good = [1] * 38 + [0] * 2
    same = "the answer to each of the 40 items is the same (choice 1)"
    constant = scores.task_figures("task", [Score("acc", always, same=same)])
    # Against its like, and a baseline that is as bad in another way: what accuracies say is no figure of the model.
    for theirs in (scores.task_figures("task", [Score("acc", always, same=same)]), scores.task_figures("task", [Score("acc", random)]), []):
        (row,) = scores.compared(constant, theirs)
        assert (row["status"], row["reason"]) == ("unsupported", f"acc: {same}")
        assert "value" not in row
        assert "verdict" not in row
    # What it lost is lost.
    (row,) = scores.compared(constant, scores.task_figures("task", [Score("acc", good)]))
    assert (row["verdict"], row["value"]) == ("loss", 0.5)
    # Nothing is held against a baseline that says nothing: no technique is better than it.
    (row,) = scores.compared(scores.task_figures("task", [Score("acc", good)]), constant)
    assert (row["value"], "verdict" in row) == (0.5, False)


@given(logits=st.lists(LOGITS, min_size=1, max_size=4), count=st.integers(1, 50))
def test_the_probability_that_named_tokens_hold(logits, count):
    found = [([tokens], [logarithms]) for tokens, logarithms in (likeliest(one, count) for one in logits)]
    held = distance.held(found)
    assert 0 < held <= 1 + 1e-9
    if count >= max(map(len, logits)):
        assert held == pytest.approx(1)


# What rounding explains


@given(rounding=st.floats(0, 1))
def test_what_rounding_explains_is_more_than_what_one_rounding_does(rounding):
    assert distance.allowed(rounding) > rounding
    assert distance.allowed(0.0) == distance.LEAST
    assert distance.allowed(None) is None
