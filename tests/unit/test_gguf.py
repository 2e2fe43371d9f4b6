"""The transform gguf: which tokenizers it knows, and what a failure of the converter means."""

import json
import struct
from pathlib import Path
from types import SimpleNamespace

import pytest
from speedgrid import checkpoints
from speedgrid.outcomes import Fault, MissingDependency, OutOfMemory, Unsupported
from speedgrid.transforms import gguf

BYTE_LEVEL = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
SPLIT = {"type": "Split", "pattern": {"Regex": "\\p{N}{1,3}"}, "behavior": "Isolated", "invert": False}


def tokenizer(folder, pre_tokenizer=BYTE_LEVEL, kind="BPE", normalizer=None):
    told = {"normalizer": normalizer, "pre_tokenizer": pre_tokenizer, "model": {"type": kind, "vocab": {}, "merges": []}}
    (folder / "tokenizer.json").write_text(json.dumps(told))


def test_gpt2s_way_to_cut_text_is_recognised(tmp_path):
    assert not gguf.is_gpt2_bpe(tmp_path)
    tokenizer(tmp_path)
    assert gguf.is_gpt2_bpe(tmp_path)


@pytest.mark.parametrize(
    "other",
    [
        {"pre_tokenizer": {**BYTE_LEVEL, "add_prefix_space": True}},
        {"pre_tokenizer": {**BYTE_LEVEL, "use_regex": False}},
        {"pre_tokenizer": {"type": "Sequence", "pretokenizers": [SPLIT, BYTE_LEVEL]}},
        {"pre_tokenizer": None},
        {"kind": "Unigram"},
        {"normalizer": {"type": "NFC"}},
    ],
)
def test_no_other_tokenizer_is_taken_for_gpt2s(tmp_path, other):
    tokenizer(tmp_path, **other)
    assert not gguf.is_gpt2_bpe(tmp_path)


def test_a_sentencepiece_model_comes_first(tmp_path):
    tokenizer(tmp_path)
    (tmp_path / "tokenizer.model").touch()
    assert not gguf.is_gpt2_bpe(tmp_path)


def weights(path, **tensors: tuple[str, int]) -> None:
    """A safetensors file of tensors, each with its number format and number of dimensions."""
    head, data = {}, b""
    for name, (dtype, rank) in tensors.items():
        size = checkpoints.BITS[dtype] // 8
        head[name] = {"dtype": dtype, "shape": [1] * rank, "data_offsets": [len(data), len(data) + size]}
        data += bytes(size)
    text = json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


@pytest.mark.parametrize(
    ("tensors", "config", "found"),
    [
        ({"up": ("BF16", 2), "norm": ("F32", 1)}, {"dtype": "bfloat16"}, "bf16"),
        ({"up": ("F16", 2)}, {"torch_dtype": "float16"}, "f16"),
        ({"up": ("F32", 2)}, {}, "f32"),
        # What lies there counts, and not what config.json says of it: as after merging an adapter.
        ({"up": ("F32", 2)}, {"dtype": "bfloat16"}, "f32"),
        ({"up": ("BF16", 2), "down": ("F32", 2)}, {"dtype": "bfloat16"}, "f32"),
        ({"up": ("BF16", 2), "down": ("F16", 2)}, {"dtype": "bfloat16"}, "f32"),
        ({"up": ("F64", 2)}, {"dtype": "float64"}, "f32"),
        ({"up": ("F8_E4M3", 2), "head": ("BF16", 2)}, {"dtype": "bfloat16"}, "bf16"),
    ],
)
def test_a_quantized_type_is_made_from_the_sources_own_number_format(tmp_path, tensors, config, found):
    (tmp_path / "config.json").write_text(json.dumps(config))
    weights(tmp_path / checkpoints.WHOLE, **tensors)
    assert gguf.FORMATS.get(gguf.number_format(tmp_path), "f32") == found


def test_the_converter_is_shown_the_weights_that_transformers_reads(tmp_path, monkeypatch):
    """It goes by an index, transformers by the one whole file beside it: the GGUF file would be another model."""
    source, shown = tmp_path / "mine", {}
    source.mkdir()
    for name in (checkpoints.WHOLE, "model-00001-of-00001.safetensors"):
        weights(source / name, up=("F32", 2))
    (source / checkpoints.INDEX).write_text(json.dumps({"metadata": {}, "weight_map": {"up": "model-00001-of-00001.safetensors"}}))
    (source / "config.json").write_text("{}")

    def converted(command, variables):
        folder = Path(command[command.index("--outfile") - 1])
        shown.update({folder.name: {path.name for path in folder.iterdir()}})
        Path(command[command.index("--outfile") + 1]).touch()
        return SimpleNamespace(returncode=0, stderr="")

    monkeypatch.setattr(gguf, "logged", converted)
    gguf.convert(source, tmp_path / "model.gguf", "f16", False)
    assert shown == {"mine": {"config.json", checkpoints.WHOLE}}


def trace(code: str, error: str) -> str:
    """What the converter prints of an error that ends it."""
    file = "/opt/envs/llamacpp/share/llama.cpp/conversion/base.py"
    return f'INFO:hf-to-gguf:Loading model\nTraceback (most recent call last):\n  File "{file}", line 9, in main\n    {code}\n{error}\n'


@pytest.mark.parametrize(
    ("status", "log", "kind", "said"),
    [
        (
            1,
            "ERROR:hf-to-gguf:Model OPTForCausalLM is not supported\n",
            Unsupported,
            "cannot take the model: Model OPTForCausalLM is not supported",
        ),
        (
            1,
            trace("raise NotImplementedError(", "NotImplementedError: BPE pre-tokenizer was not recognized - update get_vocab_base_pre()"),
            Unsupported,
            "pre-tokenizer",
        ),
        (
            1,
            trace('raise ValueError(f"Can not map tensor {name!r}")', "ValueError: Can not map tensor 'model.layers.0.self_attn.rope'"),
            Unsupported,
            "cannot take the model: Can not map tensor 'model.layers.0.self_attn.rope'",
        ),
        (
            1,
            trace("assert max(tokenizer.vocab.values()) < vocab_size  # ty: ignore[unresolved-attribute]", "AssertionError"),
            Unsupported,
            "tokens were added to it and the model was not resized",
        ),
        (1, trace("assert len(tokens) == vocab.vocab_size", "AssertionError"), Fault, "assert len(tokens)"),
        (1, trace('n_head = self.hparams["n_head"]', "KeyError: 'n_head'") + "\n", Unsupported, "looks for 'n_head' in config.json"),
        (
            1,
            trace('raise KeyError(f"could not find any of: {keys}")', """KeyError: "could not find any of: ['rotary_dim']\"""") + "\n",
            Unsupported,
            "looks for 'rotary_dim' in config.json",
        ),
        (
            1,
            trace("mm = mmap.mmap(fid.fileno(), bytes)", "ValueError: mmap length is greater than file size")
            + "\nWriting:   0%|   | 0.00/5.77M [00:01<?]\n",
            Fault,
            "mmap length is greater than file size",
        ),
        (
            1,
            trace("import sentencepiece", "ModuleNotFoundError: No module named 'sentencepiece'"),
            MissingDependency,
            "No module named 'sentencepiece'",
        ),
        (1, trace("data = numpy.empty(shape)", "MemoryError"), OutOfMemory, "llama.cpp's converter: MemoryError"),
        (-9, "", OutOfMemory, "ran out of memory"),
        (-11, "", Fault, "ended with status -11"),
        (1, trace("out.write(data)", "OSError: [Errno 28] No space left on device"), Fault, "No space left"),
        (
            1,
            trace("return struct.pack(f'{pack_prefix}{fmt}', value)", "struct.error: required argument is not a float"),
            Unsupported,
            "wants a number where config.json of the checkpoint has none (required argument is not a float)",
        ),
    ],
)
def test_what_a_failure_of_the_converter_means(status, log, kind, said):
    failure = gguf.why_not_converted(status, log)
    assert type(failure) is kind
    assert said in str(failure)


def test_everything_but_weights_goes_along(tmp_path):
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    beside = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer.model", "merges.txt", "chat_template.jinja"}
    weights = {"model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json", "old.gguf"}
    for name in beside | weights:
        (source / name).write_text(name)
    (source / "folder").mkdir()
    gguf.copy_surroundings(source, target)
    assert {path.name for path in target.iterdir()} == beside


@pytest.mark.parametrize(
    ("config", "taken"),
    [
        ({"model_type": "gemma2", "head_dim": 256, "query_pre_attn_scalar": 256}, None),
        ({"model_type": "gemma2", "head_dim": 16, "query_pre_attn_scalar": 256}, "16, and it is 256"),
        # As published with 27 billion parameters.
        ({"model_type": "gemma2", "head_dim": 128, "query_pre_attn_scalar": 144, "num_hidden_layers": 46, "hidden_size": 4608}, None),
        (
            {"model_type": "gemma3", "text_config": {"model_type": "gemma3_text", "head_dim": 8, "query_pre_attn_scalar": 9}},
            "8, and it is 9",
        ),
        ({"model_type": "llama", "head_dim": 16, "query_pre_attn_scalar": 256}, None),
        ({"model_type": "gemma2", "head_dim": 16, "query_pre_attn_scalar": None}, None),
    ],
)
def test_a_scale_of_attention_that_llama_cpp_passes_over_is_refused(config, taken):
    shape = {"num_hidden_layers": 2, "hidden_size": 4608, "num_attention_heads": 32}
    told = {**config, **{name: config.get(name, value) for name, value in shape.items()}}
    if "text_config" in told:
        told["text_config"] = {**shape, **told["text_config"]}
    if taken is None:
        gguf.refuse_passed_over(told, {})
        return
    with pytest.raises(Unsupported, match=f"as if `query_pre_attn_scalar` of config.json were {taken}"):
        gguf.refuse_passed_over(told, {})


def test_experts_that_llama_cpp_chooses_by_groups_are_refused_where_the_model_does_not():
    third = {"model_type": "deepseek_v3", "n_group": 8}
    for told in ({"model_type": "deepseek_v2", "n_group": 1}, {**third, "scoring_func": "sigmoid"}):
        gguf.refuse_passed_over(told, {})
    for method in ("greedy", "group_limited_greedy"):
        with pytest.raises(Unsupported, match=r"chooses experts by groups .* as a DeepSeek-V3 does"):
            gguf.refuse_passed_over({"model_type": "deepseek_v2", "n_group": 8, "topk_method": method}, {})
    with pytest.raises(Unsupported, match='add `"scoring_func": "sigmoid"`'):
        gguf.refuse_passed_over(third, {})


SLIDES, SEES_ALL = "sliding_attention", "full_attention"
YARN = {"rope_type": "yarn", "factor": 8.0, "original_max_position_embeddings": 64}


@pytest.mark.parametrize(
    ("told", "usual", "reason"),
    [
        (
            {"model_type": "qwen3_moe", "norm_topk_prob": False},
            {},
            "every qwen3_moe with `norm_topk_prob` true, .* says false",
        ),
        ({"model_type": "qwen3_moe", "norm_topk_prob": True}, {"norm_topk_prob": False}, ""),
        ({"model_type": "olmoe", "norm_topk_prob": True}, {}, "every olmoe with `norm_topk_prob` false"),
        ({"model_type": "gpt2", "scale_attn_by_inverse_layer_idx": True}, {}, "with `scale_attn_by_inverse_layer_idx` false"),
        ({"model_type": "falcon", "alibi": None, "parallel_attn": True}, {}, ""),
        ({"model_type": "falcon", "alibi": True}, {}, "with `alibi` false"),
        # Saved for an attention that has no bounds of logits; the converter ended in a struct.error.
        ({"model_type": "gemma2", "attn_logit_softcapping": None}, {}, "every gemma2 with `attn_logit_softcapping`, .* has null"),
        ({"model_type": "gemma3_text", "attn_logit_softcapping": None, "final_logit_softcapping": None}, {}, ""),
        ({"model_type": "llama", "rope_parameters": {**YARN}}, {}, ""),
        # OLMo 3 names what is usual.
        ({"model_type": "olmo3", "rope_parameters": {**YARN, "attention_factor": 1.2079441541679836}}, {}, ""),
        ({"model_type": "llama", "rope_parameters": {**YARN, "attention_factor": 1.0}}, {}, "by 1.208, and config.json has 1 for it"),
        ({"model_type": "llama", "rope_scaling": {**YARN, "mscale": 1.0, "mscale_all_dim": 1.0}}, {}, "by 1.208, .* has 1 for it"),
        ({"model_type": "llama", "rope_parameters": {**YARN, "beta_fast": 32.0, "beta_slow": 1}}, {}, ""),
        ({"model_type": "llama", "rope_parameters": {**YARN, "beta_fast": 8}}, {}, "every llama in YaRN with `beta_fast` 32, .* says 8"),
        ({"model_type": "llama", "rope_parameters": {**YARN, "truncate": False}}, {}, "with `truncate` true, and config.json says false"),
        ({"model_type": "gpt_oss", "rope_parameters": {**YARN, "truncate": False}}, {}, ""),
        ({"model_type": "llama", "rope_parameters": {"sliding_attention": {"rope_type": "default"}, "full_attention": {**YARN}}}, {}, ""),
        ({"model_type": "deepseek_v3", "scoring_func": "sigmoid", "kv_lora_rank": 8, "rope_scaling": {**YARN, "mscale": 0.7}}, {}, ""),
        ({"model_type": "llama", "hidden_act": "relu"}, {"hidden_act": "silu"}, 'every llama with `hidden_act` "silu", .* says "relu"'),
        ({"model_type": "llama", "hidden_act": "swish"}, {"hidden_act": "silu"}, ""),
        ({"model_type": "gemma", "hidden_act": "gelu"}, {"hidden_act": "gelu_pytorch_tanh"}, ""),
        ({"model_type": "phi", "hidden_act": "quick_gelu"}, {"hidden_act": "gelu_new"}, 'with `hidden_act` "gelu_new"'),
        ({"model_type": "llama", "hidden_act": "relu"}, {}, ""),  # a family of which nothing usual is known
        (
            {"text_config": {"model_type": "gemma3_text", "hidden_activation": "silu"}},
            {"hidden_activation": "gelu_new"},
            "every gemma3_text",
        ),
        ({"model_type": "gpt_oss", "layer_types": [SLIDES, SEES_ALL, SLIDES]}, {}, ""),
        ({"model_type": "gpt_oss", "layer_types": [SLIDES, SLIDES]}, {}, "one layer in 2 of a gpt_oss see all tokens"),
        ({"model_type": "lfm2", "layer_types": [SLIDES, SLIDES]}, {}, ""),  # llama.cpp reads which
        ({"model_type": "smollm3", "no_rope_layers": [1, 1, 1, 0, 1]}, {}, ""),
        ({"model_type": "smollm3", "no_rope_layers": [1, 0]}, {}, "one layer in 4 of a smollm3 without positions"),
        (
            {"model_type": "bamba", "rope_parameters": {"partial_rotary_factor": 0.25}},
            {},
            "rotates whole heads, and it rotates 0.25 of each",
        ),
        ({"model_type": "bamba", "attn_rotary_emb": 64}, {}, "it rotates 0.5 of each"),
        ({"model_type": "bamba", "rope_parameters": {"partial_rotary_factor": 1.0}}, {}, ""),
    ],
)
def test_settings_that_llama_cpp_passes_over_are_refused_where_they_matter(told, usual, reason):
    if not reason:
        gguf.refuse_passed_over(told, usual)
        return
    with pytest.raises(Unsupported, match=reason):
        gguf.refuse_passed_over(told, usual)
