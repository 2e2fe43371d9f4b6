"""Writes the GGUF file of a tiny Llama with a byte-level BPE; runs in the environment of transformers.

    python tiny_gguf.py FILE [rope_freqs.weight]

The second argument names a tensor more that the file shall hold.
"""

import sys

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, TokenType, quantize

HIDDEN, LAYERS, HEADS, KV_HEADS, INNER = 64, 2, 4, 2, 128


def byte_alphabet() -> list[str]:
    """The 256 letters by which GPT-2 writes bytes."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    other = iter(range(256, 512))
    return [chr(byte if byte in shown else next(other)) for byte in range(256)]


def main(path: str, *more: str) -> None:
    draw = np.random.default_rng(3)
    tokens = ["<|endoftext|>", *byte_alphabet(), "12", "Ġ1", "de", "def"]
    writer = GGUFWriter(path, "llama")
    writer.add_context_length(256)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([TokenType.CONTROL] + [TokenType.NORMAL] * (len(tokens) - 1))
    writer.add_token_merges(["1 2", "Ġ 1", "d e", "de f"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(0)

    def add(name: str, *shape: int, kind=GGMLQuantizationType.Q8_0) -> None:
        numbers = (draw.standard_normal(shape) * 0.05).astype(np.float32)
        if len(shape) == 1:
            writer.add_tensor(name, 1 + numbers)
        else:
            writer.add_tensor(name, quantize(numbers, kind), raw_dtype=kind)

    add("token_embd.weight", len(tokens), HIDDEN)
    add("output_norm.weight", HIDDEN)
    for layer in range(LAYERS):
        add(f"blk.{layer}.attn_norm.weight", HIDDEN)
        add(f"blk.{layer}.ffn_norm.weight", HIDDEN)
        for name, rows in (("q", HIDDEN), ("k", HIDDEN * KV_HEADS // HEADS), ("v", HIDDEN * KV_HEADS // HEADS)):
            add(f"blk.{layer}.attn_{name}.weight", rows, HIDDEN, kind=GGMLQuantizationType.Q4_1)
        add(f"blk.{layer}.attn_output.weight", HIDDEN, HIDDEN, kind=GGMLQuantizationType.Q4_1)
        add(f"blk.{layer}.ffn_gate.weight", INNER, HIDDEN, kind=GGMLQuantizationType.Q4_1)
        add(f"blk.{layer}.ffn_up.weight", INNER, HIDDEN, kind=GGMLQuantizationType.Q4_1)
        add(f"blk.{layer}.ffn_down.weight", HIDDEN, INNER, kind=GGMLQuantizationType.Q4_1)
    for name in more:
        add(name, HIDDEN // HEADS // 2)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
