"""Rolling windows: every token is scored once, after as much context as the model takes."""

from hypothesis import given
from hypothesis import strategies as st
from speedgrid.workloads.score import STRETCH, stretches, windows

BOS = -1


@given(tokens=st.lists(st.integers(0, 9), max_size=60), context=st.integers(1, 20))
def test_every_token_is_scored_once_and_in_order(tokens, context):
    pairs = windows(tokens, BOS, context)
    assert [token for _, continuation in pairs for token in continuation] == tokens
    seen = [BOS, *tokens]
    position = 1
    for before, continuation in pairs:
        assert continuation
        assert len(before) + len(continuation) - 1 <= context
        assert before == seen[position - len(before) : position]
        position += len(continuation)


def test_the_last_window_reaches_back_for_a_full_context():
    assert windows([0, 1, 2, 3, 4], BOS, 4) == [([BOS], [0, 1, 2, 3]), ([0, 1, 2, 3], [4])]


def test_a_short_document_is_one_window():
    assert windows([5, 6], BOS, 8) == [([BOS], [5, 6])]
    assert windows([], BOS, 8) == []


@given(st.lists(st.floats(-20, 0), max_size=500))
def test_stretches_are_the_window_in_its_order_and_none_is_long(logarithms):
    parts = stretches(logarithms)
    assert [one for part in parts for one in part] == logarithms
    assert all(0 < len(part) <= STRETCH for part in parts)
    assert len(parts) == -(-len(logarithms) // STRETCH)
