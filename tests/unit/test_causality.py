"""A later token must not move what a model expects after earlier ones, and no length beside it what it expects at all."""

import math
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from speedgrid.engines import base
from speedgrid.engines.language import Language, unchanging_length
from speedgrid.engines.llamacpp import context_for
from speedgrid.engines.transformers import batches
from speedgrid.outcomes import Unsupported
from speedgrid.workloads import causality

VOCABULARY = 50
DRAW = np.random.default_rng(3)
# What each token does to the logits of the next one, and to those of all positions of a model that sees all.
NEXT, SEEN = DRAW.normal(size=(VOCABULARY, VOCABULARY)), DRAW.normal(size=(VOCABULARY, VOCABULARY))


class Engine(base.Engine):
    """A model whose next token depends on the last one, `sees` by so much on all others, and rounds by so much."""

    def __init__(self, sees=0.0, rounds=0.0, dtype="float32", quantized=False, says=False):
        self.sees, self.rounds, self.says = sees, rounds, says
        self.options, self.config = {"dtype": dtype}, SimpleNamespace(vocab_size=VOCABULARY, max_position_embeddings=64)
        self.config.quantization_config = {"quant_method": "some"} if quantized else None
        self.language = Language(Path(), self.config, SimpleNamespace(all_special_ids=[0, 1]))

    def _next_tokens(self, sequences, count):
        found = []
        for ids in sequences:
            logits = NEXT[ids] + self.sees * SEEN[ids].mean(axis=0) + self.rounds * DRAW.normal(size=(len(ids), VOCABULARY))
            rows = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
            order = np.argsort(-rows, axis=-1)[:, :count]
            found.append(base.Likeliest(order.tolist(), np.take_along_axis(rows, order, -1).tolist()))
        return found

    def attends_both_ways(self, tokens):
        return self.says

    import_packages = load = sizes = generate = prove = _loglikelihoods = None


Engine.__abstractmethods__ = frozenset()


@pytest.mark.parametrize(
    ("causal", "rounding"),
    [
        ({}, {"rounds": 1e-6}),
        ({"dtype": "bfloat16"}, {"rounds": 5e-3}),
        ({"dtype": "float16"}, {"rounds": 1e-3}),
        ({"quantized": True}, {"sees": 0.1}),
    ],
)
def test_what_sees_later_tokens_is_refused_and_what_only_rounds_is_not(causal, rounding):
    causality.check(Engine(**causal), 64)
    causality.check(Engine(**causal, **rounding), 64)
    with pytest.raises(Unsupported, match="not a causal model: later tokens change what it expects after earlier ones"):
        causality.check(Engine(**causal, sees=3.0), 64)


def test_a_quantized_model_may_be_moved_by_what_its_outliers_are_and_not_by_what_it_sees():
    """As far as a real model in bitsandbytes' INT8 was moved, 0.19, and as little as without its causal mask, 0.44."""
    alike, pair = causality.sequences(VOCABULARY, {0, 1}, causality.LENGTH)
    outliers, sees = (Engine(quantized=True, sees=strength) for strength in (1.08, 2.75))
    found = [causality.moved(*engine.next_tokens_alone(pair, causality.COUNT), alike) for engine in (outliers, sees)]
    assert found == pytest.approx([0.19, 0.44], abs=0.01)
    causality.check(outliers, 64)
    with pytest.raises(Unsupported, match="not a causal model"):
        causality.check(sees, 64)


@pytest.mark.parametrize("how", [{"quantized": True}, {"dtype": "bfloat16"}])
def test_a_model_whose_attention_says_that_it_sees_all_is_held_to_less_than_its_format_rounds(how):
    """As an untrained BERT in bitsandbytes' INT8, which sees little more than what it rounds."""
    causality.check(Engine(sees=0.05, **how), 64)
    with pytest.raises(Unsupported, match="not a causal model"):
        causality.check(Engine(sees=0.05, says=True, **how), 64)
    causality.check(Engine(says=True, **how), 64)


def test_little_room_suffices_and_none_says_nothing():
    with pytest.raises(Unsupported, match="not a causal model"):
        causality.check(Engine(sees=3.0), 3)
    for room in (0, 1, 2):
        causality.check(Engine(sees=3.0), room)


def test_an_engine_that_gives_no_probabilities_is_not_refused():
    engine = Engine(sees=3.0)
    engine._next_tokens = lambda sequences, count: base.Engine._next_tokens(engine, sequences, count)
    causality.check(engine, 64)


@given(vocabulary=st.integers(0, 300), special=st.sets(st.integers(0, 20)), length=st.integers(-1, 40))
def test_two_sequences_begin_alike_and_differ_from_then_on(vocabulary, special, length):
    alike, (one, other) = causality.sequences(vocabulary, special, length)
    if not alike:
        assert length < 2 or vocabulary - len(special) < 2
        return
    assert len(one) == len(other) == length
    assert one[:alike] == other[:alike]
    assert all(a != b for a, b in zip(one[alike:], other[alike:], strict=True))
    assert alike < length
    assert all(token in set(range(vocabulary)) - special for token in [*one, *other])


LONGROPE = {"rope_type": "longrope", "original_max_position_embeddings": 4096}


@pytest.mark.parametrize(
    ("config", "length"),
    [
        ({}, None),
        ({"rope_parameters": {"rope_type": "default"}}, None),
        ({"rope_parameters": {"rope_type": "yarn", "original_max_position_embeddings": 64}}, None),
        ({"rope_parameters": LONGROPE}, 4096),
        ({"rope_scaling": {"type": "su"}, "original_max_position_embeddings": 4096, "max_position_embeddings": 131072}, 4096),
        ({"rope_scaling": {"type": "dynamic", "factor": 2.0}, "max_position_embeddings": 2048}, 2048),
        ({"rope_parameters": {"full_attention": LONGROPE, "sliding_attention": {"rope_type": "default"}}}, 4096),
    ],
)
def test_the_length_until_which_rotary_embeddings_stay_as_they_are(config, length):
    assert unchanging_length(config) == length


def test_a_text_is_scored_within_that_length_and_an_engine_has_room_for_one_token_more():
    config = SimpleNamespace(max_position_embeddings=131072, to_dict=lambda: {"rope_parameters": LONGROPE})
    language = Language(Path(), config, None)
    assert language.window() == 4095
    config.to_dict = dict
    assert language.window() == 131072


@given(lengths=st.lists(st.integers(1, 9), max_size=30), rows=st.integers(1, 5))
def test_sequences_of_a_batch_have_one_length_and_each_is_in_one(lengths, rows):
    found = batches(lengths, rows)
    assert sorted(place for group in found for place in group) == list(range(len(lengths)))
    assert all(len({lengths[place] for place in group}) == 1 and len(group) <= rows for group in found)
    # No more batches than lengths need.
    assert len(found) == sum(math.ceil(lengths.count(length) / rows) for length in set(lengths))


@given(room=st.integers(1, 9000), unchanging=st.sampled_from([None, 4096, 100]))
def test_llama_cpp_never_takes_the_embeddings_of_long_texts_for_a_short_one(room, unchanging):
    try:
        context = context_for(room, unchanging)
    except Unsupported as error:
        assert unchanging == 100
        assert room <= 100
        assert "change at 100 tokens" in str(error)
        return
    assert context >= room
    assert context % 256 == 0
    assert context - room < 256
    assert unchanging is None or (context > unchanging) == (room > unchanging)
