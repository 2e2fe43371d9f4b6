"""How far a model's rotary embeddings reach, by its configuration as transformers names things. Pure."""

import math
from collections.abc import Mapping

# Rotary embeddings whose frequencies depend on the length of what is computed, by their names in transformers.
CHANGING = ("dynamic", "longrope", "su")
# Those that reach `factor` times what they were trained with. (Llama 3.2's does not: 32 × 8,192, made for 131,072.)
STRETCHED = ("linear", "yarn")


def reach(config: Mapping, named: object) -> int | None:
    """The positions that a model was made for, whose configuration or type has those `named`; None where that is no number of any.

    Rotary embeddings that are stretched (STRETCHED) reach `factor` times the length that they were trained with, which is what some
    configurations have under `max_position_embeddings`, as Qwen2.5's with YaRN; others have the product there, so that the larger counts.
    """
    if type(named) is not int or named <= 0:
        return None
    told = of_text(config)
    # Gemma 3 has the product there, and a factor over another length; vLLM leaves it out, too.
    stretched = [] if "gemma3" in str(told.get("model_type")) else [rope for rope in ropes(told) if rope_type(rope) in STRETCHED]
    return max([named, *(int(_factor(rope) * (trained_with(told, rope) or named)) for rope in stretched)])


def limit(config: Mapping, named: object) -> int | None:
    """The positions beyond which a model is asked for what it was not made for; None where none are known, and where its rotary embeddings
    change with the length of what is computed, which is how they go on."""
    return None if any(rope_type(rope) in CHANGING for rope in ropes(config)) else reach(config, named)


def ropes(config: Mapping) -> list[Mapping]:
    """The settings of a model's rotary embeddings, those of each kind of layers where they differ; none where a configuration has none."""
    told = of_text(config)
    rope = told.get("rope_parameters") or told.get("rope_scaling")
    if not isinstance(rope, Mapping):
        return []
    return [part for part in rope.values() if isinstance(part, Mapping)] or [rope]


def rope_type(rope: Mapping) -> object:
    """The kind of rotary embeddings, as transformers names it."""
    return rope.get("rope_type") or rope.get("type")


def yarn_scale(rope: Mapping) -> float:
    """By what transformers multiplies the sines and cosines of rotary embeddings in YaRN (its `_compute_yarn_parameters`)."""
    told, all_of, factor = rope.get("mscale"), rope.get("mscale_all_dim"), _factor(rope)
    if (named := rope.get("attention_factor")) is not None:
        return float(named)
    return _mscale(factor, told) / _mscale(factor, all_of) if told and all_of else _mscale(factor)


def usual_yarn_scale(rope: Mapping) -> float:
    """By what the method has it (B. Peng et al., "YaRN", 2023, https://arxiv.org/abs/2309.00071, section 3.4)."""
    return _mscale(_factor(rope))


def _mscale(factor: float, weight: float = 1.0) -> float:
    return 0.1 * weight * math.log(factor) + 1


def trained_with(config: Mapping, rope: Mapping) -> int | None:
    """The length that rotary embeddings were trained with before they were made to reach further; None where nothing says so."""
    found = rope.get("original_max_position_embeddings") or config.get("original_max_position_embeddings")
    return found if type(found) is int and found > 0 else None


def of_text(config: Mapping) -> Mapping:
    """The configuration of the language model, in a model of several parts too."""
    told = config.get("text_config") or config
    return told if isinstance(told, Mapping) else {}


def _factor(rope: Mapping) -> float:
    """The factor of rotary embeddings; 1 for what is none."""
    told = rope.get("factor")
    return told if isinstance(told, int | float) and 1 < told < math.inf else 1
