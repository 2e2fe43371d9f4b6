"""Small models with something wrong or unusual about them, and what the engine `transformers` makes of each.

    python tests/workflow/small_models.py build FOLDER
    python tests/workflow/small_models.py checks FOLDER
    python tests/workflow/small_models.py rounding FOLDER

Needs the environment `transformers`. `build` makes a folder for each name of MODELS and FAMILIES. `checks` prints JSON: what comes of each
of MODELS; for each of FAMILIES the largest difference between the log-probabilities of texts that are scored alone and together; and why
there are no bits per byte with a tokenizer that loses text.
"""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

SMALL = {"vocab_size": 300, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
SAMPLING = {"temperature": 0.9, "top_p": 0.95, "top_k": 50, "repetition_penalty": 1.1}
LLAMA = {"model_type": "llama", **SMALL, "num_key_value_heads": 2, "max_position_embeddings": 256, "tie_word_embeddings": False}
MODELS = {
    "llama": LLAMA,
    "overflowing": LLAMA,
    "bert": {"model_type": "bert", **SMALL, "max_position_embeddings": 256},
    "roberta": {"model_type": "roberta", **SMALL, "max_position_embeddings": 256, "pad_token_id": 1},
    "electra": {"model_type": "electra", **SMALL, "embedding_size": 64, "max_position_embeddings": 256},
}

# Families in which a score might depend on what is scored beside it, and where texts are longer than what changes.
ROPE = {"rope_theta": 10000.0, "original_max_position_embeddings": 64, "partial_rotary_factor": 1.0}
PHI3 = {"model_type": "phi3", **SMALL, "num_key_value_heads": 2, "max_position_embeddings": 256, "original_max_position_embeddings": 64}
PHI3 |= {"pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 1, "tie_word_embeddings": False}
FACTORS = {"short_factor": [1.0] * 8, "long_factor": [1.0 + 2 * number for number in range(8)]}
FAMILIES = {
    "longrope": {**PHI3, "rope_parameters": {"rope_type": "longrope", **ROPE, **FACTORS}},
    "dynamic": {**LLAMA, "max_position_embeddings": 64, "rope_parameters": {"rope_type": "dynamic", "factor": 4.0, "rope_theta": 10000.0}},
    "yarn": {**LLAMA, "rope_parameters": {"rope_type": "yarn", "factor": 4.0, **ROPE}},
    "sliding": {"model_type": "mistral", **SMALL, "num_key_value_heads": 2, "max_position_embeddings": 256, "sliding_window": 16},
    "experts": {"model_type": "mixtral", **SMALL, "num_key_value_heads": 2, "num_local_experts": 4, "max_position_embeddings": 256},
    "alibi": {"model_type": "bloom", "vocab_size": 300, "hidden_size": 64, "n_layer": 2, "n_head": 4},
    "alibi of MPT": {"model_type": "mpt", "vocab_size": 300, "d_model": 64, "n_layers": 2, "n_heads": 4, "max_seq_len": 256},
    "learned positions": {"model_type": "gpt2", "vocab_size": 300, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 256},
    "recurrent": {"model_type": "mamba", "vocab_size": 300, "hidden_size": 64, "num_hidden_layers": 2, "state_size": 8},
}


def build(folder: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file
    from speedgrid import models

    for name, architecture in (MODELS | FAMILIES).items():
        models.build(architecture, "float32", folder / name, seed=5)
    # In float16 the feed-forward layers overflow, in bfloat16 and float32 they do not.
    weights = folder / "overflowing" / "model.safetensors"
    tensors = load_file(weights)
    for key, tensor in tensors.items():
        times = 20 if ".gate_proj." in key or ".up_proj." in key else 2e5 if ".down_proj." in key else 1
        tensors[key] = (tensor * times).to(torch.float32)
    save_file(tensors, weights, {"format": "pt"})
    another = shutil.copytree(folder / "llama", folder / "another head") / "model.safetensors"
    tensors = load_file(another)
    save_file(tensors | {"lm_head.weight": tensors["model.embed_tokens.weight"].clone()}, another, {"format": "pt"})


def engine_of(checkpoint: Path, **options):
    from speedgrid import hardware
    from speedgrid.engines import engine_class

    device = hardware.pick_device({"device": "cpu"}, "cpu", True)
    engine = engine_class("transformers")(checkpoint, device, {"dtype": "float32", "attention": "eager", **options}, 1)
    engine.import_packages()
    engine.open()
    engine.load(256)
    return engine


def scores(folder: Path) -> dict:
    """By family and way of running: the largest difference between log-probabilities of sequences scored alone, in an engine of their own,
    and together."""
    found = {}
    for name in FAMILIES:
        alone: list = []
        for way, options in {"as it is": {}, "compiled": {"compile": "static_cache"}}.items():
            if way == "compiled" and name not in ("longrope", "dynamic", "sliding"):
                continue
            engine = engine_of(folder / name, **options)
            longest = min(200, 3 * engine.language.window() if name == "longrope" else engine.language.window())
            lengths = [longest, 7, longest // 2, 40, 7, longest - 1]
            requests = [([1], [2 + (3 * place * at) % 290 for at in range(length)]) for place, length in enumerate(lengths, 1)]
            together = engine.loglikelihoods(requests)
            alone = alone or [engine_of(folder / name).loglikelihoods([request])[0] for request in requests]
            apart = [abs(a - b) for one, other in zip(together, alone, strict=True) for a, b in zip(one[0], other[0], strict=True)]
            found[f"{name}, {way}"] = max(apart)
    return found


def refusals(folder: Path) -> dict:
    """The status that comes of each of MODELS, by number format: of a reply, of whether it is causal, and of scores."""
    from speedgrid import outcomes
    from speedgrid.workloads import causality

    settings = {"max_new_tokens": 4, "batch_size": 1, "ignore_eos": True, "sampling": {"do_sample": True, **SAMPLING}}

    greedy = {**settings, "sampling": {"do_sample": False, "repetition_penalty": 1.0}}

    def status(act) -> str:
        try:
            act()
        except outcomes.Outcome as outcome:
            return f"{outcome.status}: {outcome}"
        return "ok"

    found = {}
    for name in MODELS:
        for dtype in ("float32", "float16", "bfloat16"):
            engine, another = (engine_of(folder / name, dtype=dtype) for _ in range(2))
            prompt = list(range(2, 12))
            asks = {
                "reply": lambda engine=engine, prompt=prompt: engine.generate(prompt, settings, 1),
                "greedy": lambda engine=another, prompt=prompt: engine.generate(prompt, greedy, 1),
                "causal": lambda engine=engine: causality.check(engine, 64),
                "likelihood": lambda engine=engine, prompt=prompt: engine.loglikelihoods([(prompt, [5, 6])]),
                "next tokens": lambda engine=engine, prompt=prompt: engine.next_tokens([prompt], 8),
            }
            found |= {f"{name}, {dtype}, {what}": status(ask) for what, ask in asks.items()}
    return found


def lost(folder: Path) -> dict:
    """Why there are no bits per byte of a text, by tokenizer: that of bytes, and one of words that knows few and no white space."""
    from speedgrid.quality import fidelity
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    text, found = "def add(a, b):\n    return a + b  # <|endoftext|> é €\n", {}
    engine = engine_of(folder / "llama")
    words = Tokenizer(models.WordLevel({"<unk>": 0, "def": 1, "return": 2, "a": 3}, unk_token="<unk>"))
    words.pre_tokenizer, words.normalizer = pre_tokenizers.Whitespace(), normalizers.Lowercase()
    few = replace(engine.language, tokenizer=PreTrainedTokenizerFast(tokenizer_object=words, unk_token="<unk>"))
    for name, language in {"bytes": engine.language, "words": few}.items():
        for what in (text, " " + text, "A" + text):
            found[f"{name}: {what[:4]}"] = fidelity.why_lost([what], [language.read_back(language.tokenize(what))])
    return found


def checks(folder: Path) -> dict:
    return {"scores": scores(folder), "refusals": refusals(folder), "lost": lost(folder)}


def rounding(folder: Path) -> dict:
    """By shape and number format: the model's divergence from itself with one more rounding of each layer's output, what is allowed by it,
    and its divergence from SDPA and from float32."""
    import random

    from speedgrid.quality import distance

    def apart(one, other) -> float:
        return distance.mean([distance.distance(*both) for both in zip(one, other, strict=True)])

    draw, found = random.Random(1), {}
    texts = [[draw.randrange(2, 300) for _ in range(64)] for _ in range(6)]
    for name in ("llama", "experts", "learned positions"):
        for dtype in ("float32", "float16", "bfloat16"):
            engine = engine_of(folder / name, dtype=dtype)
            wanted = engine.next_tokens(texts, 256)
            with engine.rounded_once_more(1):
                measured = apart(wanted, engine.next_tokens_alone(texts, 256))
            others = {"sdpa": {"dtype": dtype, "attention": "sdpa"}, "float32": {}}
            away = {other: apart(wanted, engine_of(folder / name, **how).next_tokens(texts, 256)) for other, how in others.items()}
            found[f"{name} {dtype}"] = {"rounding": measured, "allowed": distance.allowed(measured), **away}
    return found


if __name__ == "__main__":
    what, folder = sys.argv[1:]
    print(json.dumps({"build": build, "checks": checks, "rounding": rounding}[what](Path(folder))))
