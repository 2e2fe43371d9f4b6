"""Checkpoints that differ from what their config.json says, and what readers make of each; prints a line of JSON for each pair.

    python tests/workflow/odd_checkpoints.py FOLDER

It needs the environment `transformers` and PYTHONPATH=scripts.
"""

import base64
import json
import shutil
import sys
import tempfile
import traceback
from pathlib import Path

from safetensors.torch import load_file, save_file
from speedgrid import hardware, models, outcomes
from speedgrid.engines import engine_class
from speedgrid.transforms import Task, transform

SHAPE = {"model_type": "llama", "vocab_size": 320, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
SHAPE |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 128}
NARROW = {"vocab_size": 320, "hidden_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
SDPA = {"attention": "sdpa"}
REPLY = {"max_new_tokens": 4, "batch_size": 1, "ignore_eos": True, "sampling": {"do_sample": False, "repetition_penalty": 1.0}}
DOWN = "model.layers.1.mlp.down_proj.weight"
NF4 = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
REMOTE = {"model_type": "mine", "auto_map": {"AutoConfig": "configuration_mine.Mine", "AutoModelForCausalLM": "modeling_mine.Mine"}}


def without(name):
    return lambda held: held.pop(name)


def beside(**added: str):
    """More weights, each a copy of the one that is named."""
    return lambda held: held.update({name.replace("__", "."): held[of].clone() for name, of in added.items()})


def pieces_alone(folder: Path) -> None:
    """A tokenizer of SentencePiece, as older checkpoints have it, in the place of tokenizer.json."""
    import io

    import sentencepiece

    (folder / "tokenizer.json").unlink()
    made, lines = io.BytesIO(), [f"def add_{number}(a, b): return a + b" for number in range(50)]
    told = {"model_type": "bpe", "vocab_size": 310, "byte_fallback": True, "normalization_rule_name": "identity", "minloglevel": 2}
    sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_writer=made, **told)
    (folder / "tokenizer.model").write_bytes(made.getvalue())
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizer"}))


def bytes_alone(folder: Path) -> None:
    """A tokenizer of tiktoken: a line for each token, in base64, with its number."""
    (folder / "tokenizer.json").unlink()
    lines = [f"{base64.b64encode(bytes([byte])).decode()} {byte}\n" for byte in range(256)]
    (folder / "tokenizer.model").write_text("".join(lines))


# Settings of generation, some of which transformers refuses to load: replies are made by those of the study.
WISHES = {"num_return_sequences": 3, "do_sample": False, "temperature": 0.1, "suppress_tokens": [1], "forced_eos_token_id": 1}


def in_64_bits(held):
    held.update({name: weight.double() for name, weight in held.items()})


def prefix_taken_away(held):
    for name in list(held):
        held[name.removeprefix("model.")] = held.pop(name)


# Each with a change of the weights, one of config.json, one of the folder, and what the reason must name.
ODD = {
    "whole": (None, {}, None, ""),
    "base_model": (lambda held: (held.pop("lm_head.weight"), prefix_taken_away(held)), {"tie_word_embeddings": True}, None, ""),
    "tied": (without("lm_head.weight"), {"tie_word_embeddings": True}, None, ""),
    "buffers": (beside(model__layers__0__self_attn__rotary_emb__inv_freq=DOWN), {}, None, ""),
    "head_beside": (beside(v_head__summary__weight=DOWN), {}, None, ""),
    "attention": (None, {"_attn_implementation": "eager"}, None, ""),
    "attention_of_a_package": (None, {"_attn_implementation": "flash_attention_2"}, None, ""),
    "theta": (None, {"rope_parameters": {"rope_type": "default", "rope_theta": "10000"}}, None, "the text '10000' for `rope_theta`"),
    "epsilon": (None, {"rms_norm_eps": "1e-05"}, None, "config.json of the checkpoint cannot be read"),
    "no_method": (None, {"quantization_config": {"bits": 4}}, None, "names no method"),
    "not_quantized": (None, {"quantization_config": {}}, None, ""),
    "padding": (None, {"pad_token_id": 320}, None, "`pad_token_id`"),
    "format": (None, {"torch_dtype": "auto", "dtype": None}, None, "'auto' for `torch_dtype`"),
    "outputs": (None, {"return_dict": False, "output_attentions": True, "output_hidden_states": True}, None, ""),
    "wishes": (None, {}, lambda folder: (folder / "generation_config.json").write_text(json.dumps(WISHES)), ""),
    "in_64_bits": (in_64_bits, {"dtype": "float64"}, None, ""),
    "missing": (without(DOWN), {}, None, DOWN),
    "no_head": (without("lm_head.weight"), {}, None, "lm_head.weight"),
    "width": (None, {"intermediate_size": 192}, None, "mlp.down_proj.weight is 64 × 128 in the checkpoint and 64 × 192"),
    "fewer_layers": (None, {"num_hidden_layers": 1}, None, "model.layers.1."),
    "adapter": (beside(model__layers__0__self_attn__q_proj__lora_A__weight=DOWN), {}, None, "q_proj.lora_A.weight"),
    "leftover": (None, {"quantization_config": NF4}, None, "remove its `quantization_config`"),
    "unknown": (None, {"model_type": "nosuch"}, None, "nosuch"),
    "encoder": (None, {"model_type": "t5"}, None, "t5"),
    "vision": (None, {"model_type": "clip"}, None, "clip"),
    "remote": (None, REMOTE, lambda folder: (folder / "configuration_mine.py").write_text("1 / 0"), "models.NAME.trust_remote_code"),
    "shards": (None, {}, lambda folder: (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors"), "-00001-of-"),
    "sentencepiece": (None, {}, pieces_alone, ""),
    "tiktoken": (None, {}, bytes_alone, ""),
    "broken_pieces": (
        None,
        {},
        lambda folder: ((folder / "tokenizer.json").unlink(), (folder / "tokenizer.model").write_bytes(b"x")),
        "tokenizer",
    ),
}


def add_token(folder: Path) -> None:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.add_tokens([f"<extra{number}>" for number in range(100)])
    tokenizer.save_pretrained(folder)


def rules_of_another_family(folder: Path) -> None:
    """A token of two digits in a Qwen2, whose own tokenizer keeps digits apart: distilled models may have another tokenizer."""
    told = json.loads((folder / "tokenizer.json").read_text())
    told["model"]["vocab"] |= {"12": 257}
    told["model"]["merges"] = [["1", "2"]]
    (folder / "tokenizer.json").write_text(json.dumps(told))
    (folder / "tokenizer_config.json").write_text(json.dumps({"tokenizer_class": "LlamaTokenizerFast", "eos_token": "<|endoftext|>"}))


def by_its_file(engine) -> None:
    from tokenizers import Tokenizer

    text = "x = 12 ** 12"
    wanted = Tokenizer.from_file(str(engine.checkpoint / "tokenizer.json")).encode(text, add_special_tokens=False).ids
    found = engine.language.tokenize(text)
    if found != wanted or 257 not in found or engine.language.read_back(found) != text:
        raise RuntimeError(f"{found} in place of {wanted}")


# What only an engine comes across, when it is asked for a text or for room.
ASKED = {
    "tokens": ({**SHAPE, "model_type": "qwen2"}, rules_of_another_family, by_its_file, ""),
    "added_token": (SHAPE, add_token, lambda engine: (engine.load(16), engine.language.tokenize("x <extra99>")), "'<extra99>'"),
    "positions": (
        {"model_type": "gpt2", "vocab_size": 320, "n_embd": 64, "n_layer": 1, "n_head": 4, "n_positions": 16},
        lambda folder: None,
        lambda engine: engine.load(18),
        "16 positions, and prompt and reply together need 17",
    ),
    "just_enough": (
        {"model_type": "gpt2", "vocab_size": 320, "n_embd": 64, "n_layer": 1, "n_head": 4, "n_positions": 16},
        lambda folder: None,
        lambda engine: engine.load(17),
        "",
    ),
    "table_of_sines": (
        {"model_type": "gptj", "vocab_size": 320, "n_embd": 64, "n_layer": 1, "n_head": 4, "n_positions": 16, "rotary_dim": 8},
        lambda folder: None,
        lambda engine: engine.load(18),
        "16 positions",
    ),
    "alibi": (
        {**NARROW, "model_type": "falcon", "new_decoder_architecture": False, "multi_query": False, "alibi": True},
        lambda folder: None,
        lambda engine: (engine.options.update(SDPA, cache="static"), engine.load(24), engine.generate([1] * 8, REPLY, 1)),
        "with a static KV cache",
    ),
    "alibi_twice": (
        {**NARROW, "model_type": "falcon", "new_decoder_architecture": False, "multi_query": False, "alibi": True},
        lambda folder: None,
        lambda engine: engine.load(24),
        "adds the biases of ALiBi twice",
    ),
    "no_attention": (
        {"model_type": "mamba", "vocab_size": 320, "hidden_size": 64, "num_hidden_layers": 1},
        lambda folder: None,
        None,
        "mamba",
    ),
}


def write(whole: Path, folder: Path, change, config: dict, last) -> None:
    shutil.copytree(whole, folder)
    held = load_file(folder / "model.safetensors")
    if change:
        change(held)
        save_file(held, folder / "model.safetensors", metadata={"format": "pt"})
    told = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(told | config))
    if last:
        last(folder)


def read(folder: Path, reader: str) -> str:
    """What comes of a checkpoint: `ok`, or the attention where the technique's did not win."""
    device = hardware.pick_device({"device": "cpu"}, "cpu", True)
    if reader == "engine":
        engine = engine_class("transformers")(folder, device, {"dtype": "float32", "attention": "sdpa"}, 1)
        engine.import_packages()
        engine.open()
        engine.load(16)
        attention = engine.model.config._attn_implementation
        return "ok" if attention == "sdpa" else attention
    settings = {"bitsandbytes": {"bits": 8}, "prune": {"axis": "depth", "share": 0.5, "samples": 2, "sequence": 16}}[reader]
    with tempfile.TemporaryDirectory() as scratch:
        text = lambda: ["def add(a, b):\n    return a + b\n" * 20]  # noqa: E731
        transform(reader)(Task(folder, Path(scratch), settings, device, "float32", 1, 5, False, text))
    return "ok"


def attempt(work) -> dict:
    try:
        return {"status": work(), "reason": ""}
    except Exception as error:
        traceback.print_exc()
        outcome = outcomes.expected(error)
        return {"status": outcome.status if outcome else "failed", "reason": str(outcome or error)}


def ask(folder: Path, question) -> str:
    options = {"dtype": "float32", "attention": "eager"}
    engine = engine_class("transformers")(folder, hardware.pick_device({"device": "cpu"}, "cpu", True), options, 1)
    if question is None:
        engine.options["prompt_lookup"] = 3
        question = lambda engine: engine.load(16)  # noqa: E731
    engine.import_packages()
    engine.open()
    question(engine)
    return "ok"


def main(place: Path) -> None:
    models.build(SHAPE, "float32", place / "made", seed=5)
    for name, (change, config, last, named) in ODD.items():
        folder = place / name
        write(place / "made", folder, change, config, last)
        for reader in ("engine", "bitsandbytes", "prune"):
            found = attempt(lambda folder=folder, reader=reader: read(folder, reader))
            print(json.dumps({"checkpoint": name, "reader": reader, **found, "named": named in found["reason"]}), flush=True)
    for name, (shape, change, question, named) in ASKED.items():
        models.build(shape, "float32", place / name, seed=5)
        change(place / name)
        found = attempt(lambda name=name, question=question: ask(place / name, question))
        print(json.dumps({"checkpoint": name, "reader": "engine", **found, "named": named in found["reason"]}), flush=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
