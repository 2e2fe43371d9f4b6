"""Tiny random models of many architectures, and what the commonest techniques make of each.

    python tests/contract/architectures.py ARCHITECTURE ... [--techniques TECHNIQUE ...] [--device cuda]

It needs the environment of the techniques (`transformers`; `gptqmodel` for torchao's; CONVERTED has the others). For each technique of
each architecture it prints a line of JSON: the status and reason, and of what ran how far its log-probabilities and tokens are from those
of a plain `forward` of transformers in eager attention, without a cache and without a line of speedgrid's engine.
"""

import argparse
import json
import sys
import tempfile
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from speedgrid import hardware, outcomes  # noqa: E402
from speedgrid.engines import engine_class  # noqa: E402
from speedgrid.transforms import Task, transform  # noqa: E402
from speedgrid.workloads import causality  # noqa: E402

WIDE = {"vocab_size": 320, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 256}
# Weights larger than the usual ones, so that a model's next tokens are far from all alike.
SPREAD = {"initializer_range": 0.08}
PLAIN = {**WIDE, "intermediate_size": 128, **SPREAD}
GROUPED = {**PLAIN, "num_key_value_heads": 2}
EXPERTS = {**GROUPED, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 64, "pad_token_id": None}
MLA = {"kv_lora_rank": 32, "q_lora_rank": 32, "qk_rope_head_dim": 16, "qk_nope_head_dim": 16, "v_head_dim": 16, "head_dim": 16}
# Shorter than the text that is asked for, so that the window matters.
WINDOW = {"sliding_window": 16}
ENDS = {"pad_token_id": None, "bos_token_id": 256, "eos_token_id": 256}

ARCHITECTURES = {
    # like Llama
    "llama": {**GROUPED, "rope_theta": 500000.0},
    "mistral": {**GROUPED, **WINDOW},
    "ministral": {**GROUPED, "head_dim": 16, **WINDOW},
    "qwen2": GROUPED,
    "qwen3": {**GROUPED, "head_dim": 16},
    "gemma": {**GROUPED, "head_dim": 16},
    "gemma2": {**GROUPED, "head_dim": 16, "query_pre_attn_scalar": 16, **WINDOW},
    "gemma3_text": {**GROUPED, "head_dim": 16, "query_pre_attn_scalar": 16, **WINDOW},
    "gemma3n_text": {
        **GROUPED,
        "head_dim": 16,
        "hidden_size_per_layer_input": 16,
        "vocab_size_per_layer_input": 320,
        "laurel_rank": 8,
        "altup_num_inputs": 2,
        "num_kv_shared_layers": 0,
        "layer_types": ["sliding_attention", "full_attention"],
        **WINDOW,
    },
    "apertus": GROUPED,
    "ministral3": {**GROUPED, "head_dim": 16, **ENDS},
    "phi": PLAIN,
    "phi3": {**GROUPED, **ENDS},
    "stablelm": GROUPED,
    "starcoder2": GROUPED,
    "olmo": GROUPED,
    "olmo2": GROUPED,
    "olmo3": {**GROUPED, **WINDOW},
    "granite": GROUPED,
    "cohere": GROUPED,
    "cohere2": {**GROUPED, **WINDOW},
    "glm": {**GROUPED, "head_dim": 16, **ENDS},
    "glm4": {**GROUPED, "head_dim": 16, **ENDS},
    "nemotron": GROUPED,
    "persimmon": PLAIN,
    "smollm3": {**GROUPED, **ENDS},
    "exaone4": {**GROUPED, **WINDOW},
    "ernie4_5": GROUPED,
    "helium": {**GROUPED, "head_dim": 16, **ENDS},
    "seed_oss": {**GROUPED, "head_dim": 16},
    "falcon": {**WIDE, **SPREAD, "ffn_hidden_size": 128, "num_kv_heads": 2, "new_decoder_architecture": True},
    "falcon_alibi": {
        "model_type": "falcon",
        **WIDE,
        **SPREAD,
        "ffn_hidden_size": 128,
        "new_decoder_architecture": False,
        "multi_query": False,
        "parallel_attn": False,
        "alibi": True,
    },
    "diffllama": GROUPED,
    "arcee": GROUPED,
    "hunyuan_v1_dense": {**GROUPED, "head_dim": 16, **ENDS},
    # positions of other kinds
    "gpt2": {"vocab_size": 320, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 256, **SPREAD},
    "gpt_bigcode": {"vocab_size": 320, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 256, **SPREAD},
    "gpt_neo": {**WIDE, "num_layers": 2, "num_heads": 4, "attention_types": [[["global", "local"], 1]], "window_size": 16, **SPREAD},
    "gpt_neox": PLAIN,
    "gptj": {"vocab_size": 320, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 256, "rotary_dim": 8, **SPREAD},
    "codegen": {"vocab_size": 320, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 256, "rotary_dim": 8, **SPREAD},
    "opt": {**WIDE, "ffn_dim": 128, "word_embed_proj_dim": 64, "init_std": 0.08, "dropout": 0.0},
    "bloom": {"vocab_size": 320, "hidden_size": 64, "n_layer": 2, "n_head": 4, **SPREAD},
    "mpt": {"vocab_size": 320, "d_model": 64, "n_heads": 4, "n_layers": 2, "max_seq_len": 256, **SPREAD},
    "biogpt": PLAIN,
    "xglm": {**WIDE, "d_model": 64, "ffn_dim": 128, "num_layers": 2, "attention_heads": 4, "init_std": 0.08, "dropout": 0.0},
    "ctrl": {"vocab_size": 320, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 256, "dff": 128, **SPREAD},
    "openai-gpt": {"vocab_size": 320, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 256, **SPREAD},
    # experts, latent attention
    "mixtral": {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2},
    "qwen2_moe": {**EXPERTS, "shared_expert_intermediate_size": 64},
    # As the published ones: llama.cpp has no others.
    "qwen3_moe": {**EXPERTS, "head_dim": 16, "norm_topk_prob": True},
    "olmoe": {**GROUPED, "num_experts": 4, "num_experts_per_tok": 2, "pad_token_id": None},
    "phimoe": {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2, **ENDS},
    "minimax_m2": {**GROUPED, "head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2, **ENDS},
    "granitemoe": {**GROUPED, "num_local_experts": 4, "num_experts_per_tok": 2},
    "gpt_oss": {**GROUPED, "head_dim": 16, "num_local_experts": 4, "num_experts_per_tok": 2, **WINDOW, **ENDS},
    "deepseek_v2": {
        **PLAIN,
        **MLA,
        "topk_method": "group_limited_greedy",
        "num_key_value_heads": 4,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 64,
        "n_group": 2,
        "topk_group": 1,
        "first_k_dense_replace": 1,
        **ENDS,
    },
    "deepseek_v3": {
        **PLAIN,
        **MLA,
        "num_key_value_heads": 4,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 64,
        "n_group": 2,
        "topk_group": 1,
        "first_k_dense_replace": 1,
        **ENDS,
    },
    "glm4_moe": {
        **GROUPED,
        "n_routed_experts": 4,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 64,
        "first_k_dense_replace": 1,
        "head_dim": 16,
        **ENDS,
    },
    "llama4_text": {**GROUPED, "head_dim": 16, "intermediate_size_mlp": 128, "num_local_experts": 4, "num_experts_per_tok": 1, **ENDS},
    # states in place of attention, and both
    "mamba": {"vocab_size": 320, "hidden_size": 64, "num_hidden_layers": 2, "state_size": 8, **ENDS},
    "mamba2": {
        "vocab_size": 320,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "state_size": 8,
        "num_heads": 8,
        "head_dim": 16,
        "n_groups": 2,
        "chunk_size": 16,
        **ENDS,
    },
    "falcon_mamba": {"vocab_size": 320, "hidden_size": 64, "num_hidden_layers": 2, "state_size": 8, **ENDS},
    "rwkv": {"vocab_size": 320, "hidden_size": 64, "num_hidden_layers": 2, "attention_hidden_size": 64, "context_length": 256, **ENDS},
    "recurrent_gemma": {
        **WIDE,
        "intermediate_size": 128,
        "num_key_value_heads": 1,
        "w_init_variance_scale": 0.3,
        "lru_width": 64,
        "attention_window_size": 64,
        "block_types": ["recurrent", "attention"],
    },
    "jamba": {
        **GROUPED,
        "num_experts": 2,
        "attn_layer_period": 2,
        "attn_layer_offset": 1,
        "use_mamba_kernels": False,
        "mamba_d_state": 8,
        "mamba_dt_rank": 8,
        **ENDS,
    },
    "bamba": {
        **GROUPED,
        "attn_layer_indices": [1],
        "mamba_n_heads": 8,
        "mamba_d_head": 16,
        "mamba_d_state": 8,
        "mamba_n_groups": 1,
        "mamba_chunk_size": 16,
        **ENDS,
    },
    "qwen3_next": {
        **EXPERTS,
        "head_dim": 16,
        "shared_expert_intermediate_size": 64,
        "layer_types": ["linear_attention", "full_attention"],
        "linear_num_value_heads": 4,
        "linear_num_key_heads": 2,
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
    },
    "lfm2": {**GROUPED, "layer_types": ["conv", "full_attention"], **ENDS},
    "lfm2_moe": {
        **EXPERTS,
        "num_dense_layers": 1,
        "layer_types": ["conv", "full_attention"],
        **ENDS,
    },
    "xlstm": {
        "vocab_size": 320,
        "hidden_size": 64,
        "num_hidden_layers": 2,
        "num_heads": 4,
        "chunk_size": 16,
        # Half of it, as in the published model, is a shape that the code for processors in transformers 5.23 cannot go on from.
        "qk_dim_factor": 1.0,
        "autocast_kernel_dtype": "float32",
        **ENDS,
    },
    "zamba2": {
        **WIDE,
        "intermediate_size": 128,
        "num_key_value_heads": 4,
        "n_mamba_heads": 8,
        "mamba_d_state": 8,
        "chunk_size": 16,
        "layers_block_type": ["mamba", "hybrid"],
        "use_mamba_kernels": False,
        **ENDS,
    },
    "nemotron_h": {
        "vocab_size": 320,
        "hidden_size": 64,
        "layers_block_type": ["mamba", "attention", "mlp"],
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "intermediate_size": 128,
        "max_position_embeddings": 256,
        "ssm_state_size": 8,
        "mamba_num_heads": 8,
        "mamba_head_dim": 16,
        "n_groups": 1,
        "chunk_size": 16,
        "use_mamba_kernels": False,
        **ENDS,
    },
    "granitemoehybrid": {
        **GROUPED,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "shared_intermediate_size": 64,
        "layer_types": ["mamba", "attention"],
        "mamba_n_heads": 8,
        "mamba_d_head": 16,
        "mamba_d_state": 8,
        "mamba_chunk_size": 16,
        **ENDS,
    },
    "falcon_h1": {
        **GROUPED,
        "mamba_d_ssm": 128,
        "mamba_n_heads": 8,
        "mamba_d_head": 16,
        "mamba_d_state": 8,
        "mamba_chunk_size": 16,
        **ENDS,
    },
    "minimax": {
        **GROUPED,
        "head_dim": 16,
        "num_local_experts": 4,
        "num_experts_per_tok": 2,
        "layer_types": ["linear_attention", "full_attention"],
        "block_size": 16,
        **ENDS,
    },
    "qwen3_5_text": {
        **GROUPED,
        "head_dim": 16,
        "layer_types": ["linear_attention", "full_attention"],
        "linear_num_value_heads": 4,
        "linear_num_key_heads": 2,
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
    },
    "olmo_hybrid": {
        **GROUPED,
        "layer_types": ["linear_attention", "full_attention"],
        "linear_num_value_heads": 4,
        "linear_num_key_heads": 4,
        "linear_key_head_dim": 16,
        "linear_value_head_dim": 16,
        **ENDS,
    },
    # no decoders of text from left to right, or only in part
    "xlnet": {"vocab_size": 320, "d_model": 64, "n_layer": 2, "n_head": 4, "d_inner": 128, **SPREAD},
    "bert": PLAIN,
    "roberta": {**PLAIN, "max_position_embeddings": 258},
    "electra": PLAIN,
    "bart": {
        "vocab_size": 320,
        "d_model": 64,
        "encoder_layers": 1,
        "decoder_layers": 1,
        "encoder_attention_heads": 4,
        "decoder_attention_heads": 4,
        "encoder_ffn_dim": 128,
        "decoder_ffn_dim": 128,
        "max_position_embeddings": 256,
    },
    "gemma3": {
        "text_config": {**GROUPED, "head_dim": 16},
        "vision_config": {
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 1,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 14,
        },
        "mm_tokens_per_image": 4,
    },
}
# Of engines that have code of their own for each family.
CONVERTED = {"llamacpp": ("gguf_f16", "gguf_q8_0"), "onnxruntime": ("onnx_fp32",), "vllm-cpu": ("vllm_eager",)}
EITHER = tuple(name for names in CONVERTED.values() for name in names)
# vLLM takes a minute to start: the families that are asked for most, all ways of a sliding window, and experts. No Cohere2, of which vLLM
# has a layer with a window see one token more than transformers does.
WITH_VLLM = (
    *("llama", "mistral", "qwen2", "qwen3", "gemma2", "gemma3_text", "phi3", "gpt2", "starcoder2", "olmo2", "granite", "opt", "exaone4"),
    *("mixtral", "qwen3_moe", "gpt_oss"),
)
# What is twice as wide for vLLM, whose attention on a processor takes heads of 32 numbers and more.
WIDTHS = ("hidden_size", "n_embd", "d_model", "word_embed_proj_dim", "head_dim", "query_pre_attn_scalar")
TECHNIQUES = (
    *("baseline", "sdpa", "static_cache", "torch_compile", "prompt_lookup", "no_kv_cache"),
    *("bf16", "bnb_int8", "bnb_nf4", "prune_30", "torchao_int8"),
)
PROMPT = "def add(a, b):\n    return a + b\n\ndef add(a, b):"
SETTINGS = {"max_new_tokens": 8, "warmup_replies": 1, "batch_size": 1, "ignore_eos": True}
SETTINGS |= {"sampling": {"do_sample": False, "repetition_penalty": 1.0}}


# Makes the environments that the test needs.
STUDY = {
    "study": "two",
    "gpus": {"cpu": {"device": "cpu"}},
    "models": {"tiny": {"architecture": {"model_type": "llama", **ARCHITECTURES["llama"]}, "dtype": "float32"}},
    "experiments": {
        "generate": {
            "workload": "generate",
            "models": ["tiny"],
            "techniques": ["baseline", "torchao_int8", *EITHER],
            "prompt_tokens": 16,
            "max_new_tokens": 4,
            "baseline_runs": 1,
            "repeat_disturbed": 0,
            "replies": 2,
            "evaluate": False,
        }
    },
}


def build(name: str, folder: Path, wide: bool = False) -> None:
    from speedgrid import models

    shape = ARCHITECTURES[name]
    shape = {key: 2 * value if key in WIDTHS else value for key, value in shape.items()} if wide else shape
    models.build({"model_type": name, **shape}, "float32", folder, seed=5)


def plain(folder: Path, text: list[int], new_tokens: int) -> tuple:
    """Log-probabilities of every next token of a text, (tokens, vocabulary), and the likeliest continuation, by transformers alone."""
    import torch
    from transformers import AutoModelForCausalLM

    # Falcon with ALiBi adds its biases twice in eager attention.
    attention = "sdpa" if json.loads((folder / "config.json").read_text()).get("alibi") else "eager"
    how = {"attn_implementation": attention, "dtype": torch.float32, "local_files_only": True}
    model = AutoModelForCausalLM.from_pretrained(folder, **how).eval()
    tokens = list(text)
    with torch.inference_mode():
        logs = torch.log_softmax(model(input_ids=torch.tensor([text]), use_cache=False).logits[0].float(), dim=-1)
        for _ in range(new_tokens):
            tokens.append(int(model(input_ids=torch.tensor([tokens]), use_cache=False).logits[0, -1].argmax()))
    return logs, tokens[len(text) :]


def attempt(folder: Path, entry: dict, wanted: tuple, text: list[int], device: str, asked: dict = SETTINGS) -> dict:
    import torch

    kind = engine_class(entry["engine"])
    device = hardware.pick_device({"device": device}, device, kind.uses_torch)
    options = {"dtype": "float32", **entry.get("options", {})}
    with tempfile.TemporaryDirectory() as scratch:
        if "transform" in entry:
            from speedgrid import corpus

            settings = dict(entry["transform"])
            made = transform(settings.pop("method"))
            calibration = lambda: corpus.calibration_text({"text": "stdlib"})  # noqa: E731
            made(Task(folder, Path(scratch), settings, device, options["dtype"], 1, 5, False, calibration))
            folder = Path(scratch)
        engine = kind(folder, device, options, threads=1)
        try:
            engine.import_packages()
            engine.open()
            engine.load(len(text) + SETTINGS["max_new_tokens"])
            causality.check(engine, len(text) + SETTINGS["max_new_tokens"])
            reply = engine.generate(text, asked, seed=5)
            (found,) = engine.next_tokens([text], wanted[0].shape[1])
            proof = engine.prove(text, asked)
        finally:
            engine.close()
    # Of some engines the likeliest alone.
    rows = zip(found.tokens, found.logarithms, wanted[0], strict=True)
    apart = torch.stack([(torch.tensor(ours) - plain[torch.tensor(tokens)]).abs().max() for tokens, ours, plain in rows])
    # A reply may end before it has as many.
    same = sum(a == b for a, b in zip(reply.token_ids[0], wanted[1], strict=False))
    return {
        "status": "ok" if proof.engaged else "not_engaged",
        "reason": proof.reason,
        "apart": apart.max().item(),
        "same_tokens": same,
        "replied": len(reply.token_ids[0]),
        "evidence": proof.evidence,
    }


def without_plain_pass(error: Exception) -> dict:
    """The row of a technique in whose environment transformers itself makes nothing of an architecture, as an older one does."""
    import transformers

    old = f"transformers {transformers.__version__.partition('.')[0]}"
    said = f"{type(error).__name__}: {str(error)[:300]}"
    if isinstance(error, outcomes.ModelError | outcomes.Outcome):
        return {"status": "unsupported", "reason": said}
    if old == "transformers 5":
        return {"status": "failed", "reason": said}
    does = "does not know this family" if "Unrecognized model identifier" in str(error) else "cannot compute it"
    return {"status": "unsupported", "reason": f"{old} {does}: {said}"}


def check(name: str, techniques: list[str], device: str) -> None:
    from speedgrid import planning

    registry = planning.read_yaml("techniques.yaml")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "checkpoint"
        try:
            build(name, folder, wide="vllm_eager" in techniques)
            from transformers import AutoTokenizer

            text = AutoTokenizer.from_pretrained(folder)(PROMPT)["input_ids"]
            wanted = plain(folder, text, SETTINGS["max_new_tokens"])
        except Exception as error:
            row = without_plain_pass(error)
            for technique in techniques:
                print(json.dumps({"architecture": name, "technique": technique, **row}), flush=True)
            return
        for technique in techniques:
            began = time.perf_counter()
            try:
                found = attempt(folder, registry[technique], wanted, text, device)
            except (Exception, MemoryError) as error:
                outcome = outcomes.expected(error)
                traceback.print_exc()
                found = {
                    "status": outcome.status if outcome else "failed",
                    "reason": str(outcome or f"{type(error).__name__}: {error}")[:400],
                }
            print(
                json.dumps({"architecture": name, "technique": technique, "s": round(time.perf_counter() - began, 1), **found}), flush=True
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("architectures", nargs="*")
    parser.add_argument("--techniques", nargs="*", default=list(TECHNIQUES))
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    told = parser.parse_args()
    import transformers

    transformers.utils.logging.disable_progress_bar()
    for name in told.architectures or ARCHITECTURES:
        check(name, told.techniques, told.device)
