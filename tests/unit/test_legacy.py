"""The engine `transformers_legacy`: how newer checkpoints are written the old way, what is refused, and what counts as engaged."""

import json
from types import SimpleNamespace

import pytest
from speedgrid.engines import transformers_legacy as legacy
from speedgrid.engines.quantized import packed
from speedgrid.hardware import Device
from speedgrid.outcomes import Unsupported
from speedgrid.transforms import autogptq

LLAMA = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_attention_heads": 4,
    "head_dim": 16,
    "mlp_bias": False,
    "dtype": "bfloat16",
    "rope_parameters": {"rope_type": "default", "rope_theta": 50000.0},
    "transformers_version": "5.23.0",
}
KNOWN = {"model_type", "hidden_size", "num_attention_heads", "torch_dtype", "rope_theta", "rope_scaling", "transformers_version"}


def test_the_base_of_rotary_embeddings_and_the_number_format_go_where_the_old_stack_looks():
    old = legacy.config_the_old_way(LLAMA)
    assert (old["rope_theta"], old["torch_dtype"]) == (50000.0, "bfloat16")
    assert not {"rope_parameters", "dtype"} & set(old)


def test_a_configuration_of_the_old_stack_stays_as_it_is():
    own = {"model_type": "llama", "torch_dtype": "float16", "rope_theta": 1e6, "rope_scaling": {"type": "linear", "factor": 2.0}}
    assert legacy.config_the_old_way(own) == own


def test_linear_scaling_is_written_the_old_way():
    rope = {"rope_type": "linear", "factor": 2.0, "rope_theta": 1e4}
    assert legacy.config_the_old_way({**LLAMA, "rope_parameters": rope})["rope_scaling"] == {"type": "linear", "factor": 2.0}


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"rope_parameters": {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0}}, "llama3"),
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 5e5, "factor": 8.0}}, "yarn"),
        ({"rope_parameters": {"full_attention": {"rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}}}, "that differs"),
        ({"rope_scaling": {"rope_type": "llama3", "factor": 8.0}, "rope_parameters": None}, "llama3"),
    ],
)
def test_other_rotary_embeddings_are_refused(change, kind):
    with pytest.raises(Unsupported, match=kind):
        legacy.config_the_old_way({**LLAMA, **change})


def test_a_newer_setting_that_means_nothing_passes():
    legacy.refuse_unknown_settings({**legacy.config_the_old_way(LLAMA), "layer_types": ["full_attention"], "new": None}, KNOWN)


@pytest.mark.parametrize("change", [{"head_dim": 32}, {"mlp_bias": True}, {"layer_types": ["full_attention", "sliding_attention"]}])
def test_a_newer_setting_that_changes_the_model_is_refused(change):
    with pytest.raises(Unsupported, match=next(iter(change))):
        legacy.refuse_unknown_settings(legacy.config_the_old_way({**LLAMA, **change}), KNOWN)


def test_settings_of_an_older_checkpoint_are_not_judged():
    legacy.refuse_unknown_settings({"model_type": "gpt2", "of_its_own": 1, "transformers_version": "4.33.1"}, KNOWN)


def test_a_newer_tokenizer_is_written_the_old_way():
    tokenizer = {"model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "ab": 2}, "merges": [["a", "b"]]}, "decoder": None}
    settings = {"tokenizer_class": "TokenizersBackend", "backend": "tokenizers", "eos_token": "b", "model_max_length": 9, "extra": []}
    old, old_settings = legacy.tokenizer_the_old_way(tokenizer, settings)
    assert old["model"]["merges"] == ["a b"]
    assert tokenizer["model"]["merges"] == [["a", "b"]]
    assert old_settings == {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "eos_token": "b",
        "model_max_length": 9,
        "clean_up_tokenization_spaces": False,
    }


def test_an_older_tokenizer_stays_as_it_is():
    tokenizer, settings = {"model": {"type": "BPE", "merges": ["a b"]}}, {"tokenizer_class": "GPT2Tokenizer", "add_prefix_space": False}
    assert legacy.tokenizer_the_old_way(tokenizer, settings) == (tokenizer, settings)
    unigram = {"model": {"type": "Unigram", "vocab": [["a", -1.0]]}}
    assert legacy.tokenizer_the_old_way(unigram, settings) == (unigram, settings)


def test_merges_of_tokens_with_a_space_are_refused():
    with pytest.raises(Unsupported, match="space"):
        legacy.tokenizer_the_old_way({"model": {"type": "BPE", "merges": [["a ", "b"]]}}, {})


def test_of_the_settings_of_generation_the_end_of_a_reply_alone_is_read(tmp_path):
    """transformers 4.40 reads them all while it loads a model, and ends at some."""
    folder, links = tmp_path / "checkpoint", tmp_path / "links"
    folder.mkdir()
    links.mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [2, 3], "assistant_model": "x", "top_p": None}))
    assert legacy.written_the_old_way(folder, links) == links
    assert json.loads((links / "generation_config.json").read_text()) == {"eos_token_id": [2, 3]}


def test_only_a_checkpoint_that_needs_it_is_read_through_links(tmp_path):
    folder, links = tmp_path / "checkpoint", tmp_path / "links"
    folder.mkdir()
    links.mkdir()
    (folder / "model.safetensors").write_bytes(b"weights")
    (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
    assert legacy.written_the_old_way(folder, links) == folder
    assert not list(links.iterdir())
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": 2}))
    assert legacy.written_the_old_way(folder, links) == folder
    (folder / "config.json").write_text(json.dumps(LLAMA))
    assert legacy.written_the_old_way(folder, links) == links
    assert (links / "model.safetensors").read_bytes() == b"weights"
    assert json.loads((links / "config.json").read_text())["rope_theta"] == 50000.0
    assert json.loads((folder / "config.json").read_text()) == LLAMA


# What counts as engaged: what a short reply showed, against what was asked for

SEEN = {"attention": "eager", "sdpa_kernels": {}, "last_step_positions": 1}


def why(options, seen, kind="cuda"):
    engine = legacy.Engine(None, Device(kind, "x"), options, 1)
    engine.config = type("Config", (), {"model_type": "gpt2"})
    return engine._why_not_engaged({**SEEN, **seen})


@pytest.mark.parametrize(
    ("options", "seen"),
    [
        ({"attention": "eager"}, {}),
        ({"use_cache": False}, {"last_step_positions": 12}),
        ({"bettertransformer": True, "sdpa_kernel": "flash"}, {"sdpa_kernels": {"flash": 8}}),
        ({"expected_kernel": "flash"}, {"attention": "sdpa", "sdpa_kernels": {"flash": 8}}),
        ({"compile": "module"}, {"compiled_graphs": 3}),
        ({}, {"quantized_layers": {"QuantLinear": 4}}),
        ({"attention": "flash_attention_2"}, {"attention": "flash_attention_2", "flash_attn_calls": 64}),
    ],
)
def test_engaged(options, seen):
    assert why(options, seen) == ""


@pytest.mark.parametrize(
    ("options", "seen", "kind", "reason"),
    [
        ({"attention": "sdpa"}, {}, "cuda", "asked for sdpa attention and got eager"),
        ({}, {"last_step_positions": 12}, "cuda", "the last step computed 12 positions"),
        ({"use_cache": False}, {}, "cuda", "the last step computed 1 positions"),
        ({"sdpa_kernel": "flash"}, {}, "cuda", "SDPA was never called"),
        ({"expected_kernel": "flash"}, {"sdpa_kernels": {"flash": 4, "math": 4}}, "cuda", "flash and math, not flash alone"),
        ({"sdpa_kernel": "flash"}, {"sdpa_kernels": {"flash": 8}}, "cpu", "on this CPU"),
        ({"compile": "module"}, {"compiled_graphs": 0}, "cuda", "no compiled code ran"),
        ({}, {"quantized_layers": {}}, "cuda", "no quantized layer"),
        ({"attention": "flash_attention_2"}, {"attention": "flash_attention_2"}, "cuda", "kernels of flash-attn, and none"),
    ],
)
def test_not_engaged(options, seen, kind, reason):
    assert reason in why(options, seen, kind)


@pytest.mark.parametrize("names", [("infeatures", "outfeatures"), ("in_features", "out_features")], ids=["AutoGPTQ", "GPT-QModel"])
def test_the_weights_of_packed_layers_are_counted_however_their_sizes_are_spelt(names):
    assert packed(SimpleNamespace(qweight=None, **dict(zip(names, (256, 512), strict=True)))) == 256 * 512
    assert packed(SimpleNamespace(in_features=256, out_features=512)) == 0


def test_shapes_that_the_kernels_of_autogptq_do_not_take():
    autogptq.refuse_odd_shapes({"a": (256, 96), "b": (128, 512)}, 128)
    autogptq.refuse_odd_shapes({"a": (96, 96)}, -1)
    for shape, group_size in (((96, 96), 64), ((100, 96), -1), ((96, 100), 32)):
        with pytest.raises(Unsupported, match="b has"):
            autogptq.refuse_odd_shapes({"a": (128, 128), "b": shape}, group_size)


@pytest.mark.parametrize(
    "said",
    [
        "Transformers now supports natively BetterTransformer optimizations (SDPA) for the model type qwen2.",
        "This model already uses BetterTransformer optimizations from Transformers (SDPA).",
    ],
)
def test_a_model_that_has_sdpa_without_bettertransformer_is_a_refusal(said):
    def refuse(words=said):
        raise ValueError(words)

    engine = SimpleNamespace(model=SimpleNamespace(to_bettertransformer=refuse), config=SimpleNamespace(model_type="qwen2"))
    with pytest.raises(Unsupported, match="BetterTransformer refuses qwen2: its attention calls SDPA without it"):
        legacy.Engine._better_transformer(engine)
    engine.model.to_bettertransformer = lambda: refuse("another error")
    with pytest.raises(ValueError, match="another error"):
        legacy.Engine._better_transformer(engine)
