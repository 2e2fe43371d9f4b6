"""Does a model see later tokens? One that does is measured and scored as what it is not. NumPy alone.

Two sequences begin alike and go on differently. What a causal model expects next is the same in both as long as they are alike, but for
rounding.
"""

import random
from collections.abc import Sequence

import numpy as np

from speedgrid.engines.base import Engine, Likeliest
from speedgrid.outcomes import Unsupported

# Tokens of the two sequences, of which a quarter is the same; next tokens that are looked at.
LENGTH, COUNT = 32, 64
# How far the later tokens may move what is expected after the earlier ones, as a share of how far they move what is expected after
# themselves: several units of rounding in the format. (An untrained BERT of two layers is moved by 0.005, a causal model in PyTorch by
# nothing at all.) Where a product takes its scale or its outliers from all tokens together, as quantized ones do, they move any model:
# SmolLM2-135M in bitsandbytes' INT8 by 0.08 to 0.19 on seven pairs of sequences, and without its causal mask by 0.44 to 0.97.
MOVED = {"float32": 1e-3, "float16": 1e-2, "bfloat16": 3e-2}
MOVED_QUANTIZED = 0.3
LEAST = MOVED["float32"]


def check(engine: Engine, room: int) -> None:
    """Raise outcomes.Unsupported where a loaded model is not causal; `room`: tokens of the longest sequence that it was loaded for.

    Nothing is said of an engine that does not give the probabilities of next tokens, or has no room for two.
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
        # Untrained weights move by little what they see, by less than the rounding of a format.
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
    """The number of tokens at which two sequences are alike, and these; 0 where there is no room for one of each kind."""
    draw = random.Random(20240331)
    tokens = [token for token in range(min(vocabulary, 10_000)) if token not in special]
    alike = max(1, length // 4) if length > 1 and len(tokens) > 1 else 0
    start = [draw.choice(tokens) for _ in range(alike)]
    ends = [draw.sample(tokens, 2) for _ in range(length - alike)] if alike else []
    return alike, ([*start, *(end[0] for end in ends)], [*start, *(end[1] for end in ends)])


def moved(one: Likeliest, other: Likeliest, alike: int) -> float:
    """How far two sequences that are `alike` at first move what is expected there, over how far they move it after that; 0 where nothing
    moves."""
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
