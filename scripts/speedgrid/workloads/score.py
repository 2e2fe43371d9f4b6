"""Scoring of text longer than the model's context: rolling windows."""

from collections.abc import Sequence

# Tokens of a stretch of text. Stretches are nearly independent: how a technique changes the score of one token says little of those a dozen
# tokens later.
STRETCH = 64


def windows(tokens: Sequence[int], prefix: int, context: int) -> list[tuple[list[int], list[int]]]:
    """Cut a document into (context, continuation) pairs in which every token is scored exactly once.

    The first token is scored after `prefix`, the model's beginning-of-text token. A model that takes `context` tokens scores as many in
    each window; the last window reaches back for a full context. These are the windows of lm-evaluation-harness
    (`get_rolling_token_windows` with a context of one, made disjoint), so that its perplexities can be compared.
    """
    padded = [prefix, *tokens]
    pairs = []
    for start in range(0, len(tokens), context):
        end = min(start + context, len(tokens))
        first = 0 if start == 0 else max(0, end - context)
        pairs.append((padded[first : start + 1], padded[start + 1 : end + 1]))
    return pairs


def stretches(logarithms: Sequence[float]) -> list[Sequence[float]]:
    """The scores of a window's tokens in stretches of at most STRETCH: the items of the paired test of bits per byte. A page of text has a
    dozen of them, however long the model's context is."""
    return [logarithms[start : start + STRETCH] for start in range(0, len(logarithms), STRETCH)]
