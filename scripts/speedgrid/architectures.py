"""What is known of architectures by the `model_type` of a configuration, where the configuration itself does not say it; pure."""

from collections.abc import Mapping

# How many matrices the feed-forward part of each architecture has: up, gate and down, or up and down.
FEED_FORWARD = {
    **dict.fromkeys(("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3", "olmo2", "granite", "smollm3"), 3),
    **dict.fromkeys(("stablelm",), 3),
    **dict.fromkeys(("gpt2", "opt", "phi", "gpt_neox", "starcoder2"), 2),
}
# Those whose output head is their embedding unless the configuration says otherwise.
TIED_UNLESS_TOLD = ("gpt2", "opt", "gemma", "gemma2", "gemma3_text", "starcoder2")

# What configurations call the experts of a layer, and how many of them a token takes.
EXPERTS = ("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts")
EXPERTS_OF_A_TOKEN = ("num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_topk", "moe_k")

# Tokens by their role, which say how text is cut and where a reply ends, and nothing of how a token is computed.
ROLES_OF_TOKENS = ("bos_token_id", "cls_token_id", "eos_token_id", "mask_token_id", "pad_token_id", "sep_token_id", "unk_token_id")

# What transformers 4 calls settings of rotary embeddings in some families, by what 5 calls them in all. It takes them under no other name,
# and without a word the family's usual value in their place.
_OF_NEOX = {"partial_rotary_factor": "rotary_pct", "rope_theta": "rotary_emb_base"}
NAMES_IN_TRANSFORMERS_4 = {"gpt_neox": _OF_NEOX, "gpt_neox_japanese": _OF_NEOX}

# What says how somebody computed attention, and nothing of the model.
OF_OTHERS = ("_attn_implementation", "attn_implementation", "_attn_implementation_autoset", "_flash_attn_2_enabled")


def experts(config: Mapping) -> tuple[int, int]:
    """How many experts a layer has among which a router chooses for each token, and how many it takes; 0 and 0 where there is no router,
    and where the layers differ, which such a configuration tells by a list."""
    count, taken = (
        next((config[name] for name in names if isinstance(config.get(name), int) and config[name] > 0), 0)
        for names in (EXPERTS, EXPERTS_OF_A_TOKEN)
    )
    return (count, taken or 2) if count > 1 else (0, 0)


def in_words_of_transformers_4(config: Mapping) -> dict:
    """A configuration whose rotary embeddings are told as transformers 4 has them in most families, as it has them in its own; without
    what says nothing of the model, which it would obey."""
    names = NAMES_IN_TRANSFORMERS_4.get(str(config.get("model_type")), {})
    left_out = {*OF_OTHERS, *(["quantization_config"] if config.get("quantization_config") == {} else [])}
    return {names.get(name, name): value for name, value in config.items() if name not in left_out}


def says_nothing(name: str, config: Mapping) -> bool:
    """Whether a setting of a config.json has a value by which the model is the same for a library that does not know the setting."""
    value, width, heads = config[name], config.get("hidden_size"), config.get("num_attention_heads")
    if name in ROLES_OF_TOKENS or value is None:
        return True
    if name == "head_dim" and width and heads:
        return value * heads == width
    if name == "layer_types":
        return set(value) == {"full_attention"}
    return value is False or value in ([], {})
