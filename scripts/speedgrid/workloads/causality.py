"""Whether a model is causal: one that sees later tokens would be measured and scored as what it is not. Needs NumPy alone.

Two sequences share a prefix and then differ. Over the prefix a causal model predicts the same next tokens for both, up to rounding.
"""

import random
from collections.abc import Sequence

import numpy as np

from speedgrid.engines.base import Engine, Likeliest
from speedgrid.outcomes import Unsupported

# Tokens of each sequence, of which a quarter is the shared prefix; likeliest next tokens that are compared.
LENGTH, COUNT = 32, 64
# How much the later tokens may change the predictions over the prefix, as a share of how much they change those after it: several units of
# rounding in the format. (In an untrained BERT of two layers it is 0.005, in a causal model of PyTorch 0.) Quantized products, which take
# their scale or outliers from all tokens together, change the predictions of any model: those of SmolLM2-135M in bitsandbytes' INT8 by 0.08
# to 0.19 on seven pairs of sequences, and without its causal mask by 0.44 to 0.97.
MOVED = {"float32": 1e-3, "float16": 1e-2, "bfloat16": 3e-2}
MOVED_QUANTIZED = 0.3
LEAST = MOVED["float32"]


def check(engine: Engine, room: int) -> None:
    """Raise outcomes.Unsupported where a loaded model is not causal; `room`: tokens of the longest sequence that it was loaded for.

    An engine that does not give the probabilities of next tokens, or has no room for two of them, passes.
    """
    language = engine.language
    longest = min(LENGTH, room - 1, language.context())
    alike, (one, other) = sequences(language.vocabulary(), set(language.tokenizer.all_special_ids), longest)
    if not alike:
        return
    try:
        first, second = engine.next_tokens_alone([one, other], COUNT)
    except Unsupported:
        return
    share = moved(first, second, alike)
    if share <= LEAST:
        return
    allowed = MOVED_QUANTIZED if _is_quantized(engine) else MOVED[engine.options["dtype"]]
    if engine.attends_both_ways(one):
        # With untrained weights, the tokens that a model sees may change its predictions by less than the rounding of the format.
        allowed = LEAST
    if share > allowed:
        raise Unsupported(
            f"not a causal model: later tokens change what it expects after earlier ones ({share:.2g} of what they change after themselves;"
            f" rounding explains {allowed:g}). speedgrid measures models that write a text from left to right"
        )


def _is_quantized(engine: Engine) -> bool:
    quantized = getattr(engine.config, "quantization_config", None) or engine.options.get("quantization")
    return bool(quantized) or engine.multiplies_in() == "int8"


def sequences(vocabulary: int, special: set[int], length: int) -> tuple[int, tuple[list[int], list[int]]]:
    """The length of the shared prefix, and the two sequences; 0 where there is no room for a shared token and a different one."""
    draw = random.Random(20240331)
    tokens = [token for token in range(min(vocabulary, 10_000)) if token not in special]
    alike = max(1, length // 4) if length > 1 and len(tokens) > 1 else 0
    start = [draw.choice(tokens) for _ in range(alike)]
    ends = [draw.sample(tokens, 2) for _ in range(length - alike)] if alike else []
    return alike, ([*start, *(end[0] for end in ends)], [*start, *(end[1] for end in ends)])


def moved(one: Likeliest, other: Likeliest, alike: int) -> float:
    """How much the predictions for two sequences differ over their shared prefix of `alike` tokens, as a share of how much they differ
    after it; 0 where they are the same over the prefix."""
    apart = [_apart(*position) for position in zip(one.tokens, one.logarithms, other.tokens, other.logarithms, strict=True)]
    earlier, later = (float(np.sqrt(np.mean(np.square(part)))) for part in (apart[:alike], apart[alike:]))
    if not earlier:
        return 0.0
    return earlier / later if later else float("inf")


def _apart(tokens: Sequence[int], logarithms: Sequence[float], others: Sequence[int], their: Sequence[float]) -> float:
    """Root mean square of the differences between the logarithms of the tokens that both name; where none is, from first to last."""
    _, mine, theirs = np.intersect1d(tokens, others, assume_unique=True, return_indices=True)
    away = np.asarray(logarithms)[mine] - np.asarray(their)[theirs] if len(mine) else np.asarray(logarithms[:1]) - np.asarray(their[-1:])
    return float(np.sqrt(np.mean(np.square(away))))
