"""Holds the counts of ceilings.py against PyTorch's own, on tiny models of every architecture that it knows.

    python tests/benchmarks/ceilings_check.py

Run it with the Python of the environment `transformers`. For each architecture with random weights it compares, exactly:

- operations of prefill and of one decoding step with `torch.utils.flop_counter` while the model runs, with eager attention, which computes
  every pair of positions whether or not the mask lets it count (`causal=False`). The counter's products of the rotary embedding are taken
  out: they are not counted by ceilings.py, and do not grow with the model;
- bytes of weights that a pass reads with the tensors of the loaded model, and of what it saved;
- elements of the KV cache that a step reads and writes with the cache of the running model, sliding windows included;
- the number of weights with the model's parameters, norms and biases apart;
- which layers have a sliding window with what transformers made of the configuration.

It ends with 1 where any of them differs.
"""

import inspect
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode
from transformers import AutoConfig, AutoModelForCausalLM
from transformers.utils import logging

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from speedgrid import ceilings  # noqa: E402

PROMPT, BATCH, VOCABULARY = 24, 2, 320
LLAMA = {"hidden_size": 64, "intermediate_size": 176, "num_hidden_layers": 3, "num_attention_heads": 4, "num_key_value_heads": 2}
WINDOW = {"sliding_window": 8}
MODELS: list[tuple[str, dict[str, Any]]] = [
    ("llama", LLAMA),
    ("llama", LLAMA | {"tie_word_embeddings": True}),
    ("llama", LLAMA | {"num_key_value_heads": 1, "head_dim": 32, "attention_bias": True}),
    ("mistral", LLAMA | {"sliding_window": None}),
    ("mistral", LLAMA | WINDOW),
    ("qwen2", LLAMA),
    ("qwen2", LLAMA | WINDOW | {"use_sliding_window": True, "max_window_layers": 1}),
    ("qwen3", LLAMA | {"head_dim": 32}),
    ("gemma", LLAMA | {"head_dim": 32}),
    ("gemma2", LLAMA | WINDOW | {"head_dim": 32}),
    ("gemma3_text", LLAMA | WINDOW | {"head_dim": 32, "num_hidden_layers": 7}),
    ("phi3", LLAMA | {"pad_token_id": 0}),
    ("phi", LLAMA | {"num_key_value_heads": 4}),
    ("olmo2", LLAMA),
    ("granite", LLAMA),
    ("smollm3", LLAMA | {"pad_token_id": 0}),
    ("stablelm", LLAMA),
    ("starcoder2", LLAMA),
    ("gpt_neox", LLAMA | {"num_key_value_heads": 4}),
    ("gpt2", {"n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 128}),
    ("gpt2", {"n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 128, "tie_word_embeddings": False, "n_inner": 96}),
    ("opt", {"hidden_size": 64, "ffn_dim": 128, "num_hidden_layers": 3, "num_attention_heads": 4, "max_position_embeddings": 128}),
    (
        "opt",
        {"hidden_size": 64, "ffn_dim": 128, "num_hidden_layers": 3, "num_attention_heads": 4, "word_embed_proj_dim": 32}
        | {"max_position_embeddings": 128, "do_layer_norm_before": False},
    ),
]


def main() -> int:
    torch.set_grad_enabled(False)
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    wrong = 0
    for kind, settings in MODELS:
        settings = {"vocab_size": VOCABULARY, **settings}
        config = AutoConfig.for_model(kind, **settings)
        model = AutoModelForCausalLM.from_config(config, attn_implementation="eager", dtype=torch.float32).eval()
        full = json.loads(config.to_json_string(use_diff=False))
        shape = ceilings.shape(full)
        problems = [*operations(model, shape), *weights(model, full, shape), *cache(model, shape, full)]
        told = ", ".join(f"{name} {value}" for name, value in settings.items() if (name, value) not in {**LLAMA, "vocab_size": 320}.items())
        print(f"{'differs' if problems else 'agrees':8} {kind:12} {told}")
        for problem in problems:
            print(f"         {problem}")
        wrong += bool(problems)
    print(f"{len(MODELS) - wrong} of {len(MODELS)} agree")
    return 1 if wrong else 0


def operations(model, shape: ceilings.Shape):
    ids = torch.randint(VOCABULARY, (BATCH, PROMPT))
    counted, output = count(model, lambda: model(ids, use_cache=True, logits_to_keep=1) if keeps(model) else model(ids, use_cache=True))
    ours = ceilings.prefill(shape, 0, PROMPT, BATCH, causal=False).flop
    if not keeps(model):
        ours += BATCH * 2 * shape.head * (PROMPT - 1)
    yield from unequal("FLOP of prefill", ours, counted)
    trained = ceilings.training_flop(shape, PROMPT, BATCH, causal=False) / 3
    yield from unequal("FLOP of a forward pass of training", trained, count(model, lambda: model(ids, use_cache=False))[0])
    counted, _ = count(model, lambda: model(ids[:, :1], past_key_values=output.past_key_values, use_cache=True))
    ours = ceilings.decode(shape, 0, PROMPT, 2, BATCH).flop
    yield from unequal("FLOP of a decoding step", ours, counted)
    full, _ = count(model, lambda: model(ids, use_cache=False, logits_to_keep=1) if keeps(model) else None)
    if full:
        without = ceilings.decode(shape, 0, PROMPT - 1, 2, BATCH, cached=False).flop
        pairs = ceilings.prefill(shape, 0, PROMPT, BATCH).flop - ceilings.prefill(shape, 0, PROMPT, BATCH, causal=False).flop
        yield from unequal("FLOP of a step without KV cache", without, full + pairs)


def count(model, run):
    """Operations of a call by PyTorch's counter, without those of rotary embeddings."""
    with FlopCounterMode(display=False) as counter:
        output = run()
    rotary = [sum(ops.values()) for name, ops in counter.get_flop_counts().items() if name.rpartition(".")[2].startswith("rotary_emb")]
    return counter.get_total_flops() - sum(rotary), output


def keeps(model) -> bool:
    """Whether the model can be told to compute the logits of the last position alone."""
    return "logits_to_keep" in inspect.signature(model.forward).parameters


def weights(model, config: dict, shape: ceilings.Shape):
    tied = bool(config["tie_word_embeddings"])
    parameters = dict(model.named_parameters())
    matrices = sum(tensor.numel() for tensor in parameters.values() if tensor.dim() == 2)
    yield from unequal("weights", shape.parameters, matrices)
    if not ceilings.explains(shape, model.num_parameters()):
        yield f"{shape.parameters} weights do not explain {model.num_parameters()} parameters"
    looked_up = {id(module.weight) for module in model.modules() if isinstance(module, torch.nn.Embedding)}
    head = id(model.get_output_embeddings().weight)
    read = sum(tensor.numel() for tensor in parameters.values() if id(tensor) == head or id(tensor) not in looked_up)
    with tempfile.TemporaryDirectory() as folder:
        for dtype in (torch.float32, torch.bfloat16):
            model.to(dtype).save_pretrained(folder)
            tensors = ceilings.stored_weights(Path(folder)) or {}
            for loaded in ("float32", "bfloat16"):
                found = ceilings.weights_read(tensors, tied, loaded)
                yield from unequal(f"bytes read, stored in {dtype}, loaded in {loaded}", found, read * ceilings.WIDTHS[loaded])
    model.to(torch.float32)


def cache(model, shape: ceilings.Shape, config: dict):
    ids = torch.randint(VOCABULARY, (BATCH, PROMPT))
    kept = model(ids, use_cache=True).past_key_values
    step = ceilings.decode(shape, 0, PROMPT, 2, BATCH, kv_width=1, row_width=0).bytes
    # A layer with a sliding window keeps the positions that the next token will see; that token itself is written by the step.
    elements = sum(layer.keys.numel() + layer.values.numel() for layer in kept.layers)
    written = len(shape.windows) * BATCH * 2 * shape.kv_heads * shape.head_dim
    yield from unequal("elements of the KV cache", step, elements + written)
    made = [config["sliding_window"] if name == "sliding_attention" else None for name in getattr(model.config, "layer_types", None) or []]
    if made:
        yield from unequal("sliding windows", shape.windows, tuple(made))
        older = {name: value for name, value in config.items() if name != "layer_types"}
        yield from unequal("sliding windows of an older configuration", ceilings.shape(older).windows, tuple(made))


def unequal(what: str, ours, theirs):
    if ours != theirs:
        yield f"{what}: {ours} here, {theirs} there"


if __name__ == "__main__":
    sys.exit(main())
