"""What each technique must make of each architecture on a CPU: the status, words of the reason, and how near the figures are.

Every pair has one status. For what llama.cpp, ONNX Runtime and vLLM make of families it is what was seen of the versions in envs/, and
what is right: a family that one of them begins to take, or no longer takes, is to be written down here. Pure.
"""

import re
from collections.abc import Collection

import architectures

# What llama.cpp computes, by its converter and its own graphs.
IN_GGUF = (
    *("llama", "qwen2", "qwen3", "gemma", "gemma2", "apertus", "phi3", "stablelm", "starcoder2", "olmo", "olmo2", "olmo3", "granite"),
    *("cohere", "glm", "glm4", "nemotron", "smollm3", "ernie4_5", "seed_oss", "arcee", "hunyuan_v1_dense", "gpt2", "gpt_bigcode", "bloom"),
    *("mixtral", "qwen2_moe", "qwen3_moe", "granitemoe", "gpt_oss", "glm4_moe", "mamba", "mamba2", "falcon_mamba", "jamba"),
    *("lfm2", "lfm2_moe"),
)
WITHOUT_WINDOW = "without its sliding window of 16 tokens, and prompt and reply together need 54"
# What of the others it says of itself that it does not, or would compute otherwise; all that is not here is no model of its converter.
NOT_IN_GGUF = {
    "mistral": ("unsupported", f"computes mistral {WITHOUT_WINDOW}"),
    "exaone4": ("unsupported", f"computes exaone4 {WITHOUT_WINDOW}"),
    "bamba": ("unsupported", "takes a bamba for one that rotates whole heads"),
    "gemma3": ("unsupported", "scales the attention of gemma3_text as if `query_pre_attn_scalar`"),
    "gemma3_text": ("unsupported", "has wrong shape"),
    "gemma3n_text": ("unsupported", "only supports 4 altup inputs"),
    "phi": ("unsupported", "has wrong shape"),
    "falcon": ("unsupported", "has wrong shape"),
    "falcon_alibi": ("unsupported", "computes every falcon with `alibi` false"),
    "olmoe": ("unsupported", "has wrong shape"),
    "deepseek_v2": ("unsupported", "chooses experts by groups"),
    "deepseek_v3": ("unsupported", "scores experts by what `scoring_func`"),
    "cohere2": ("unsupported", "looks for 'rotary_pct' in config.json"),
    "gpt_neox": ("unsupported", "looks for 'rotary_pct' in config.json"),
    "falcon_h1": ("unsupported", "looks for 'head_dim' in config.json"),
    "minimax_m2": ("unsupported", "looks for 'rotary_dim' in config.json"),
    # Its own bugs, or what it writes and cannot read: rows that say so, and no figures.
    "ministral3": ("failed", "cannot find tokenizer merges in model file"),
    "granitemoehybrid": ("failed", r"tensor 'blk\.1\.ssm_in\.weight' not found"),
    "nemotron_h": ("failed", r"tensor 'blk\.2\.ssm_in\.weight' not found"),
    "qwen3_next": ("failed", "opt_num_mtp_layers"),
    "qwen3_5_text": ("failed", "opt_num_mtp_layers"),
    "llama4_text": ("failed", "ended by SIGABRT"),
}
UNKNOWN_IN_GGUF = ("unsupported", r"converter cannot take the model: Model \w+ is not supported")
# What ONNX Runtime computes, by the export of optimum-onnx and transformers 4.
IN_ONNX = (
    *(
        "llama",
        "mistral",
        "qwen2",
        "qwen3",
        "gemma",
        "gemma2",
        "gemma3_text",
        "phi",
        "phi3",
        "stablelm",
        "olmo",
        "olmo2",
        "granite",
        "cohere",
    ),
    *(
        "glm",
        "nemotron",
        "smollm3",
        "helium",
        "arcee",
        "gpt2",
        "gpt_bigcode",
        "gpt_neox",
        "gpt_neo",
        "gptj",
        "codegen",
        "bloom",
        "mpt",
        "opt",
    ),
    *("qwen3_moe", "gpt_oss", "bart", "gemma3"),
)
NOT_IN_ONNX = {
    "falcon": ("unsupported", "exports falcon with a KV cache of another shape than the model has"),
    "falcon_alibi": ("unsupported", "adds the biases of ALiBi twice"),
    "deepseek_v3": ("unsupported", "the exported ONNX graph computes something else than the model"),
    "zamba2": ("unsupported", "use_mamba_kernels: Zamba2Config of transformers has no such setting"),
    "xlstm": ("unsupported", "transformers 4 cannot compute it"),
    **dict.fromkeys(
        ("lfm2_moe", "minimax_m2", "ministral3", "nemotron_h", "olmo_hybrid", "qwen3_5_text"),
        ("unsupported", "transformers 4 does not know this family"),
    ),
}
UNKNOWN_IN_ONNX = ("unsupported", r"optimum-onnx does not export models of the kind \S+ with a KV cache")
# The families, by what is expected of them besides `ok`.
NO_SDPA = (
    *("gemma2", "gpt_neo", "gptj", "codegen", "bloom", "mpt", "xglm", "openai-gpt", "gpt_oss"),
    *("mamba", "mamba2", "falcon_mamba", "rwkv", "xlnet", "xlstm"),
)
WITH_SDPA = ("sdpa", "static_cache", "torch_compile", "prompt_lookup", "prune_30", "torchao_int8")
STATEFUL = (
    *("recurrent_gemma", "jamba", "bamba", "qwen3_next", "qwen3_5_text", "zamba2", "nemotron_h", "granitemoehybrid", "falcon_h1"),
    "olmo_hybrid",
)
EXPERTS_STAY = (
    *("mixtral", "qwen2_moe", "qwen3_moe", "olmoe", "phimoe", "granitemoe", "gpt_oss", "qwen3_next", "granitemoehybrid", "minimax"),
    "llama4_text",
    "minimax_m2",
)
# Others with a router, most of whose weights are no experts in these shapes.
ROUTED = ("deepseek_v2", "deepseek_v3", "glm4_moe", "lfm2_moe")
PRUNED = (
    *("llama", "mistral", "ministral", "qwen2", "qwen3", "gemma", "gemma3_text", "stablelm", "olmo", "olmo2", "olmo3", "granite", "cohere"),
    *("cohere2", "smollm3", "exaone4", "helium", "seed_oss", "gpt2", "gpt_bigcode", "diffllama"),
    "hunyuan_v1_dense",
    "gemma3n_text",
    "ministral3",
)
NO_DECODERS = ("bert", "roberta", "electra")
# Where a width of these tiny shapes goes with no four-bit blocks of bitsandbytes on a CPU; a GPU has other kernels.
ODD_WIDTHS = ("mamba", "falcon_mamba", "gemma3n_text", "jamba", "deepseek_v2", "deepseek_v3", "gemma3")
# And where it goes with none of its kernels for AVX-512 BF16, which other processors do not have.
NO_BLOCKS = (
    *("bamba", "falcon_h1", "granitemoehybrid", "mamba2", "nemotron_h", "olmo_hybrid", "qwen2_moe", "qwen3_5_text", "qwen3_next"),
    *("recurrent_gemma", "xlstm", "zamba2"),
)
# Layers that transformers hands weights of 8 bits to as if they were floating-point numbers.
NOT_IN_BITS = {"bnb_int8": ("deepseek_v2", "deepseek_v3", "mamba"), "torchao_int8": ("falcon", "falcon_alibi", "mamba", "rwkv")}
# How far log-probabilities of the fixed text may be from those of the plain pass: as float32 rounds, and by the format; experts are chosen
# by a router whose choice a rounding can change. Of a pruned model nothing is expected but numbers.
LOSSLESS = 2e-3
TOLERANCE = {"bf16": 0.2, "gguf_f16": 0.05, "gguf_q8_0": 0.3, "bnb_int8": 0.5, "bnb_nf4": 3.0, "torchao_int8": 0.5, "prune_30": 1e3}
EXPERTS_TOLERANCE = 1.5


def expected(name: str, technique: str, instruction_sets: Collection[str] = ()) -> tuple[str, str]:
    """The status that a technique of an architecture ends with on a CPU of these instruction sets (this_machine.instruction_sets), and
    words of the reason."""
    if technique.startswith("gguf"):
        return ("ok", "") if name in IN_GGUF else NOT_IN_GGUF.get(name, UNKNOWN_IN_GGUF)
    if technique == "onnx_fp32":
        return ("ok", "") if name in IN_ONNX else NOT_IN_ONNX.get(name, UNKNOWN_IN_ONNX)
    if technique == "vllm_eager":
        return "ok", ""
    if name == "xlnet" and technique in ("baseline", "no_kv_cache", "bnb_int8", "bnb_nf4"):
        # `generate` feeds it one token at a time from the first one on.
        return "not_engaged", "the first step computed 1 of the prompt's"
    if name in NO_DECODERS:
        return "unsupported", "later|no sdpa attention|pruning here|keeps none for"
    if name == "minimax" and technique == "static_cache":
        return "not_engaged", "asked for a static cache and got MiniMaxCache"
    if name == "minimax" and technique == "prompt_lookup":
        return "unsupported", "keeps none for minimax that allows it"
    if name == "llama4_text" and technique.startswith("bnb"):
        return "unsupported", "not implemented for"
    if name in ("xlstm", "xlnet") and technique == "bf16":
        return "unsupported", "in the number format that was asked for"
    if technique == "prune_30" and name not in PRUNED:
        return "unsupported", "pruning here takes models|no sdpa attention|leaves no feed-forward channels"
    if technique == "torchao_int8" and name in ("gpt2", "openai-gpt"):
        return "unsupported", "is a Conv1D"
    if name in NOT_IN_BITS.get(technique, ()):
        return "unsupported", f"does not go with the layers of {name.partition('_alibi')[0]} in transformers"
    if technique in WITH_SDPA and name in NO_SDPA:
        return "unsupported", f"transformers has no sdpa attention for {name}"
    if technique == "torchao_int8" and name == "gemma3":
        return "unsupported", "does not take the shape of model.vision_tower"
    if technique == "prompt_lookup" and name in STATEFUL:
        return "unsupported", f"{name} keeps a state of all tokens"
    if name == "openai-gpt" and technique != "no_kv_cache":
        return "not_engaged", "there was no KV cache"
    if technique == "torchao_int8" and name in EXPERTS_STAY:
        return "not_engaged", "torchao quantizes nn.Linear alone"
    if name == "falcon_alibi" and technique in ("static_cache", "torch_compile"):
        return "unsupported", "with a static KV cache"
    if name == "falcon_alibi" and technique in ("baseline", "no_kv_cache", "bf16"):
        return "unsupported", "adds the biases of ALiBi twice"
    if technique.startswith("bnb") and name in ("falcon", "falcon_alibi"):
        return "unsupported", "bitsandbytes quantizes none of the layers"
    if technique == "bnb_nf4" and name in ODD_WIDTHS:
        return "unsupported", "an input width is not a multiple of 64"
    if technique == "bnb_nf4" and name in NO_BLOCKS and "AVX-512 BF16" in instruction_sets:
        return "unsupported", f"does not go with the layers of {name} in transformers: .*block_n"
    if technique.startswith("bnb") and name in EXPERTS_STAY:
        return "not_engaged", r"of the layers' weights are quantized; `.*experts.*`, \d+% of them, stays"
    return "ok", ""


def wrong(row: dict, instruction_sets: Collection[str]) -> str:
    """What of an outcome is not as expected; empty where all is."""
    name, technique = row["architecture"], row["technique"]
    status, words = expected(name, technique, instruction_sets)
    if row["status"] != status:
        return f"{row['status']} in place of {status}: {row['reason']}"
    if not re.search(words, row["reason"]):
        return f"the reason has no {words!r}: {row['reason']}"
    if status != "ok":
        return ""
    allowed = TOLERANCE.get(technique, LOSSLESS)
    if technique in TOLERANCE and technique != "gguf_f16" and name in (*EXPERTS_STAY, *ROUTED):
        allowed = max(allowed, EXPERTS_TOLERANCE)
    if not row["apart"] <= allowed:
        return f"log-probabilities are {row['apart']} apart, and {allowed} is allowed"
    if technique not in TOLERANCE and row["same_tokens"] != architectures.SETTINGS["max_new_tokens"]:
        return f"only {row['same_tokens']} tokens are those of the plain pass"
    return ""
