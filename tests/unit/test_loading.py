"""Which weights of a checkpoint a model may lack, have too many of or of another shape: what transformers itself passes over."""

import json
import re
import struct
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from speedgrid import loading
from speedgrid.outcomes import MissingDependency, Unsupported

MODULES = ["", "model", "model.embed_tokens", "model.layers", "lm_head"]
MODULES += [f"model.layers.{n}{part}" for n in range(2) for part in ("", ".self_attn", ".self_attn.q_proj", ".mlp", ".mlp.up_proj")]
NO_KEYS = {"missing_keys": set(), "unexpected_keys": set(), "mismatched_keys": set()}


def model_with(modules):
    """What `require_whole` asks of a model."""
    return SimpleNamespace(named_modules=lambda: [(name, None) for name in modules], base_model_prefix="model")


def write_weights(path, fill: bytes = b"\0", **tensors: str):
    """A safetensors file of tensors of one number, each with its number format; `fill` is the last byte of the last one."""
    sizes = {"F32": 4, "BF16": 2, "U8": 1, "I8": 1}
    head, data = {}, b""
    for name, dtype in tensors.items():
        head[name.replace("__", ".")] = {"dtype": dtype, "shape": [1], "data_offsets": [len(data), len(data) + sizes[dtype]]}
        data += bytes(sizes[dtype])
    data = data[: -len(fill)] + fill
    text = json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


@pytest.mark.parametrize(
    "name",
    [
        "model.layers.2.mlp.up_proj.weight",  # a layer more than the configuration says
        "model.layers.0.self_attn.q_proj.bias",  # a bias that the configuration leaves out
        "model.layers.0.self_attn.q_proj.lora_A.weight",  # an adapter that was not merged
        "model.layers.0.self_attn.q_norm.weight",  # a norm of another family
        "model.layers.1.mlp.up_proj.weight_scale",  # the scale of a number format that config.json does not name
        "layers.2.mlp.up_proj.weight",  # saved without the base model's name
        "lm_head.bias",
    ],
)
def test_a_weight_of_a_part_that_the_model_has_is_not_passed_over(name):
    assert loading.unused([name, "v_head.weight"], MODULES, "model") == [name]
    with pytest.raises(Unsupported, match="has no place for, such as " + name.replace(".", r"\.")):
        loading.require_whole(model_with(MODULES), {**NO_KEYS, "unexpected_keys": {name}})


@pytest.mark.parametrize(
    "name",
    [
        "v_head.summary.weight",
        "score.weight",
        "mtp.layers.0.mlp.up_proj.weight",
        "vision_tower.encoder.layers.0.mlp.up_proj.weight",
        "model.layers.0.self_attn.rotary_emb.inv_freq",
        "model.layers.0.attn.masked_bias",
        "model.layers.0.self_attn.q_proj.causal_mask",
        "model.layers.0.self_attn.k_scale",
    ],
)
def test_what_changes_nothing_of_the_model_may_lie_beside_it(name):
    assert loading.unused([name], MODULES, "model") == []
    loading.require_whole(model_with(MODULES), {**NO_KEYS, "unexpected_keys": {name}})


@pytest.mark.parametrize(
    ("name", "stray"),
    [
        ("model.layers.0.self_attn.q_proj.bias", True),
        ("layers.0.self_attn.q_proj.bias", True),  # saved without the base model's name
        ("lm_head.bias", True),
        ("model.layers.0.mlp.up_proj.bias", False),  # the model has it
        ("layers.0.mlp.up_proj.bias", False),
        ("model.layers.0.self_attn.q_proj.weight", False),
        ("model.layers.0.mlp.experts.3.w1.bias", False),  # by another name in the model
    ],
)
def test_a_bias_of_a_layer_that_has_none_is_a_stray_one(name, stray):
    weights = ["model.layers.0.self_attn.q_proj.weight", "model.layers.0.mlp.up_proj.weight", "model.layers.0.mlp.up_proj.bias"]
    modules = [*MODULES, "model.layers.0.attn"]
    assert loading.stray_biases([name], modules, weights, "model") == ([name] if stray else [])
    # GPT-2's mask of earlier releases is called as a bias is.
    assert loading.stray_biases(["model.layers.0.attn.bias"], modules, weights, "model") == []


WANTED = ["model.embed_tokens.weight", *(f"model.layers.{n}.mlp.up_proj.weight" for n in range(3)), "model.norm.weight", "lm_head.weight"]


@pytest.mark.parametrize(
    ("without", "left"),
    [
        ([], []),
        (["model.layers.1.mlp.up_proj.weight"], ["model.layers.1.mlp.up_proj.weight"]),
        (["lm_head.weight"], ["lm_head.weight"]),
        (["model.embed_tokens.weight"], ["model.embed_tokens.weight"]),
        # By other names in the checkpoint: nobody can say.
        ([f"model.layers.{n}.mlp.up_proj.weight" for n in range(3)], []),
    ],
)
@pytest.mark.parametrize("with_base", [True, False])
@pytest.mark.parametrize("packed", ["weight", "qweight", "weight_packed"])
def test_a_weight_that_another_layer_has_is_lacking(without, left, with_base, packed):
    held = [name for name in WANTED if name not in without]
    held = [name.replace("up_proj.weight", f"up_proj.{packed}") for name in held]
    assert loading.lacking(held if with_base else [name.removeprefix("model.") for name in held], WANTED, "model") == left


@pytest.mark.parametrize(
    ("held", "wanted", "left"),
    [
        # GPT-NeoX, whose class in transformers names its head otherwise than its checkpoints do.
        (["gpt_neox.embed_in.weight", "embed_out.weight"], ["gpt_neox.embed_in.weight", "lm_head.weight"], []),
        (["gpt_neox.embed_in.weight"], ["gpt_neox.embed_in.weight", "lm_head.weight"], ["lm_head.weight"]),
        # Gemma-3 with its tower for images, read as a model of language.
        (["language_model.model.embed_tokens.weight"], ["model.embed_tokens.weight"], []),
        (["language_model.model.norm.weight"], ["model.embed_tokens.weight"], ["model.embed_tokens.weight"]),
        # Tied, and written out by the name of the head.
        (["lm_head.weight"], ["model.embed_tokens.weight"], []),
        (["lm_head.weight"], ["model.embed_tokens.weight", "lm_head.weight"], ["model.embed_tokens.weight"]),
        (["model.embed_tokens.weight", "lm_head.qweight"], ["model.embed_tokens.weight", "lm_head.weight"], []),
    ],
)
def test_an_embedding_or_a_head_of_another_name_is_none_that_is_lacking(held, wanted, left):
    assert loading.lacking(held, wanted, "model") == left


def test_an_expert_that_lacks_what_the_others_have_is_named():
    held = [f"model.layers.0.mlp.experts.{n}.{part}.weight" for n in range(3) for part in ("up", "down")]
    assert loading.lacking(held, ["model.layers.0.mlp.experts.up_down"], "model") == []
    assert loading.lacking(held[:3] + held[4:], ["model.layers.0.mlp.experts.up_down"], "model") == [held[3]]


def test_missing_and_odd_weights_are_refused_by_name():
    with pytest.raises(Unsupported, match=r"lacks weights that SimpleNamespace has, such as a\.weight \(2 missing\)"):
        loading.require_whole(model_with(MODULES), {**NO_KEYS, "missing_keys": {"b.weight", "a.weight"}})
    odd = {("a.weight", (64, 128), (64, 192)), ("b.weight", (1,), (2,))}
    with pytest.raises(Unsupported, match=r"a\.weight is 64 × 128 in the checkpoint and 64 × 192 by the configuration \(2 such weights\)"):
        loading.require_whole(model_with(MODULES), {**NO_KEYS, "mismatched_keys": odd})
    loading.require_whole(model_with(MODULES), {**NO_KEYS, "missing_keys": {"bn.num_batches_tracked"}})


def test_a_weight_of_another_shape_is_named_by_an_older_transformers_too():
    """4.57 gives names without shapes, at which the ONNX export ended in an error."""
    with pytest.raises(Unsupported, match=r"does not fit the weights: a\.weight has another shape .* \(2 such weights\)"):
        loading.require_whole(model_with(MODULES), {**NO_KEYS, "mismatched_keys": ["b.weight", "a.weight"]})


def test_what_ends_the_constructor_of_a_model_is_what_config_json_says(tmp_path, monkeypatch):
    """transformers 4 checks no value: a number of layers of 2.0 was a traceback."""
    monkeypatch.setitem(__import__("sys").modules, "transformers", SimpleNamespace(__version__="4.40.2"))
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    code = "class Model:\n    def __init__(self, layers):\n        range(layers)\n    def forward(self):\n        range(2.0)"

    def model_of(package: str):
        there: dict = {"__name__": f"{package}.llama.modeling_llama"}
        exec(code, there)
        return there["Model"]

    with pytest.raises(Unsupported, match=r"makes no llama of what config\.json says: .*'float' object"), loading.refusals(tmp_path):
        model_of("transformers.models")(2.0)
    with pytest.raises(TypeError), loading.refusals(tmp_path):
        model_of("transformers.models")(2).forward()
    with pytest.raises(TypeError), loading.refusals(tmp_path):
        model_of("speedgrid.models")(2.0)


@pytest.mark.parametrize(
    ("prefix", "wrapper"),
    [("_orig_mod.", "torch.compile"), ("module.", "DistributedDataParallel or DeepSpeed"), ("base_model.model.", "peft")],
)
def test_weights_that_were_saved_from_within_a_wrapper_say_so(prefix, wrapper):
    report = {**NO_KEYS, "missing_keys": {"model.norm.weight"}, "unexpected_keys": {f"{prefix}model.norm.weight"}}
    with pytest.raises(Unsupported, match=rf"\(1 missing\); names of its weights begin with `{prefix}`, which {wrapper} puts there: save"):
        loading.require_whole(model_with(MODULES), report)


def test_placeholders_of_a_training_in_parts_are_named():
    odd = {("a.weight", (64, 128), (64, 192)), ("b.weight", (0,), (64, 64))}
    with pytest.raises(Unsupported, match=r"b\.weight of the checkpoint is empty \(2 weights do not fit\): .*zero_to_fp32\.py"):
        loading.require_whole(model_with(MODULES), {**NO_KEYS, "mismatched_keys": odd})


def test_the_expert_that_is_missing_is_named():
    names = [f"layers.{layer}.experts.{expert}.w{part}" for layer in range(3) for expert in range(4) for part in (1, 2)]
    names = [f"{name}.weight" for name in names]
    assert loading.gap(names) == ""
    assert loading.gap(set(names) - {"layers.1.experts.2.w1.weight"}) == "layers.1.experts.2.w1.weight"


@given(st.integers(1, 4), st.integers(2, 6), st.data())
def test_a_gap_is_one_of_those_that_were_taken_away(layers, experts, data):
    names = {f"h.{layer}.experts.{expert}.{part}.w" for layer in range(layers) for expert in range(experts) for part in ("up", "down")}
    taken = data.draw(st.sampled_from(sorted(names)))
    assert loading.gap(names - {taken}) == taken


def test_a_quantization_config_over_whole_weights_is_to_be_removed(tmp_path):
    told = {"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "nf4"}
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "quantization_config": told}))
    write_weights(tmp_path / "model.safetensors", lm_head__weight="BF16", norm__weight="F32")
    said = r"quantized \(bitsandbytes, NF4\), and they are not \(BF16, F32\); remove its `quantization_config`"
    with pytest.raises(Unsupported, match=said):
        loading.refuse_files(tmp_path, SimpleNamespace(quantization_config=told))
    with pytest.raises(Unsupported, match=said):
        loading.unquantized(tmp_path, "pruning")
    write_weights(tmp_path / "model.safetensors", lm_head__weight="U8", norm__weight="F32")
    loading.refuse_files(tmp_path, SimpleNamespace(quantization_config=told))
    with pytest.raises(Unsupported, match=r"quantized already \(bitsandbytes, NF4\); pruning starts from whole weights"):
        loading.unquantized(tmp_path, "pruning")


@pytest.mark.parametrize("told", [{"bits": 4}, {"quant_method": None}, ["fp8"]])
def test_a_quantization_that_names_no_method_is_none_that_can_be_read(tmp_path, told):
    write_weights(tmp_path / "model.safetensors", up__weight="U8")
    with pytest.raises(Unsupported, match=r"a `quantization_config` that names no method \(`quant_method`\)"):
        loading.refuse_files(tmp_path, SimpleNamespace(quantization_config=told))
    (tmp_path / "config.json").write_text(json.dumps({"quantization_config": told}))
    with pytest.raises(Unsupported, match="names no method"):
        loading.unquantized(tmp_path, "pruning")


def test_files_under_a_name_that_transformers_does_not_read_are_named(tmp_path):
    write_weights(tmp_path / "model-00001-of-00002.safetensors", a="F32")
    with pytest.raises(Unsupported, match=r"reads model\.safetensors or model\.safetensors\.index\.json, .* holds model-00001-of-00002"):
        loading.refuse_files(tmp_path, SimpleNamespace())


def test_a_tokenizer_of_sentencepiece_says_what_it_needs(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "transformers", SimpleNamespace(AutoTokenizer=None))
    monkeypatch.setattr(loading, "find_spec", lambda name: None)
    with pytest.raises(Unsupported, match="no tokenizer"):
        loading.read_tokenizer(tmp_path)
    (tmp_path / "tokenizer.model").write_bytes(b"x")
    with pytest.raises(MissingDependency, match=r"tokenizer\.model alone, .* sentencepiece"):
        loading.read_tokenizer(tmp_path)


@pytest.mark.parametrize(
    ("told", "words"),
    [
        (None, ""),
        ({"load_in_8bit": True}, "bitsandbytes, INT8"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True, "bnb_4bit_quant_type": "fp4"}, "bitsandbytes, FP4"),
        ({"load_in_4bit": True}, "bitsandbytes, 4 bits"),
        ({"quant_method": "gptq", "bits": 4}, "gptq, 4 bits"),
        ({"quant_method": "mxfp4"}, "mxfp4"),
    ],
)
def test_how_weights_are_quantized_is_said_in_words(told, words):
    assert loading.quantization(told) == words


def test_a_value_that_transformers_does_not_know_is_named_with_its_key(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "rope_scaling": {"type": "nosuch", "factor": 2.0}}))
    found = loading._refusal(KeyError("nosuch"), tmp_path)
    assert isinstance(found, Unsupported)
    assert str(found) == "transformers does not know 'nosuch', which config.json has for `rope_scaling.type`"
    assert loading._refusal(KeyError("layers.0"), tmp_path) is None  # a bug


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            AssertionError("Padding_idx must be within num_embeddings"),
            "a token for padding (`pad_token_id`) that the model has no embedding",
        ),
        (AttributeError("module 'torch' has no attribute 'auto'"), "config.json has 'auto' for `torch_dtype`, which is no number format"),
        (
            ValueError("The state dictionary of the model you are trying to load is corrupted. Are you sure it was properly saved?"),
            "read it with transformers 5, and save it anew",
        ),
    ],
)
def test_what_a_checkpoint_has_wrong_is_named_with_what_to_do(tmp_path, monkeypatch, error, said):
    """An added token for padding that the model was not resized for was a traceback."""
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama", "torch_dtype": "auto"}))
    monkeypatch.setattr(loading, "version", lambda: "4.40.2")
    with pytest.raises(Unsupported, match=re.escape(said)), loading.refusals(tmp_path):
        raise error
    with pytest.raises(AssertionError, match="ours"), loading.refusals(tmp_path):
        raise AssertionError("ours")


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"rope_parameters": {"rope_type": "default", "rope_theta": "10000"}}, "'10000' for `rope_theta`"),
        ({"rope_scaling": {"type": "linear", "factor": "2.5e0"}, "rope_theta": 1e4}, "'2.5e0' for `factor`"),
        (
            {"rope_parameters": {"full_attention": {"rope_theta": "1e6"}, "sliding_attention": {"rope_theta": 1e4}}},
            "'1e6' for `rope_theta`",
        ),
        ({"rms_norm_eps": "1e-05"}, "'1e-05' for `rms_norm_eps`"),
        ({"text_config": {"rms_norm_eps": 1e-5, "num_hidden_layers": "2"}}, "'2' for `num_hidden_layers`"),
        ({"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_theta": 10000, "rms_norm_eps": 1e-5}, ""),
        ({"rope_parameters": None, "num_hidden_layers": None, "hidden_act": "silu", "pad_token_id": "3"}, ""),
    ],
)
def test_a_text_where_a_number_belongs_is_named_with_its_key(config, said):
    """One for `rope_theta`, which transformers does not check, was a traceback of every cell of the model."""
    usual = {"rms_norm_eps": 1e-6, "num_hidden_layers": 32, "hidden_act": "silu", "pad_token_id": None, "use_cache": True}
    if not said:
        loading.refuse_texts(config, usual)
        return
    with pytest.raises(Unsupported, match=re.escape(f"config.json has the text {said}, where a number belongs")):
        loading.refuse_texts(config, usual)


def test_what_is_wrong_in_config_json_is_not_said_of_the_tokenizer(tmp_path, monkeypatch):
    """transformers reads config.json for the tokenizer, too, so that its error looked like one of the tokenizer."""

    def fail(folder, **how):
        raise ValueError("Validation error for field 'rms_norm_eps'")

    auto = SimpleNamespace(from_pretrained=fail)
    modules = SimpleNamespace(AutoTokenizer=auto, AutoConfig=auto, __version__="5.23.0")
    monkeypatch.setitem(__import__("sys").modules, "transformers", modules)
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(Unsupported, match=r"^config\.json of the checkpoint cannot be read: Validation error"):
        loading.read_tokenizer(tmp_path)


def test_a_tokenizer_keeps_to_the_rules_of_its_file(tmp_path, monkeypatch):
    """transformers 5 takes those of the class that tokenizer_config.json or the family names; a tokenizer without a class is as it is."""
    (tmp_path / "tokenizer.json").write_text("{}")
    file = SimpleNamespace(normalizer=None, pre_tokenizer="digits apart", model="of the file", decoder="bytes")
    monkeypatch.setitem(__import__("sys").modules, "tokenizers", SimpleNamespace(Tokenizer=SimpleNamespace(from_file=lambda path: file)))

    def read(kind: str):
        rules = SimpleNamespace(normalizer="NFC", pre_tokenizer="of the class", model="of the class", decoder=None)
        tokenizer = type(kind, (), {"backend_tokenizer": rules})()
        auto = SimpleNamespace(from_pretrained=lambda folder, **how: tokenizer)
        monkeypatch.setitem(__import__("sys").modules, "transformers", SimpleNamespace(AutoTokenizer=auto, __version__="5.23.0"))
        return vars(loading.read_tokenizer(tmp_path).backend_tokenizer)

    assert read("Qwen2Tokenizer") == vars(file)
    assert read("TokenizersBackend")["pre_tokenizer"] == "of the class"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            ValueError("Validation error for field 'x':\n    TypeError: expected int\nmore"),
            "Validation error for field 'x': TypeError: expected int",
        ),
        (KeyError("added_tokens"), "KeyError: 'added_tokens'"),
        (ValueError(), "ValueError"),
        (ValueError("one thing\nanother"), "one thing"),
    ],
)
def test_an_error_of_a_library_in_one_line(error, line):
    assert loading.line(error) == line


@pytest.mark.parametrize(
    ("metadata", "said", "or_none"),
    [
        ({"format": "pt"}, "", ""),
        ({"format": "mlx"}, "", ""),
        ({"format": "tf"}, "those of model.safetensors name the format 'tf'; save them anew", ""),
        ({"total_size": "9"}, "those of model.safetensors name none; save them anew", ""),
        (None, "", "those of model.safetensors name none; save them anew"),
    ],
)
def test_weights_that_transformers_4_takes_for_those_of_another_framework_are_refused(tmp_path, metadata, said, or_none):
    """It ends in a ValueError, an AttributeError or the search for TensorFlow: a row that calls it a bug of ours."""
    text = json.dumps({} if metadata is None else {"__metadata__": metadata}).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text)
    for needs_metadata, words in ((False, said), (True, said or or_none)):
        if not words:
            loading.refuse_framework(tmp_path, "transformers 4", needs_metadata)
            continue
        with pytest.raises(Unsupported, match="^transformers 4 reads weights whose metadata name PyTorch as their format, and " + words):
            loading.refuse_framework(tmp_path, "transformers 4", needs_metadata)


@pytest.mark.parametrize(("version", "told"), [("5.23.0", {"mistral_format": False}), ("4.57.6", {})])
def test_all_engines_read_one_tokenizer_where_that_of_mistral_lies_beside_it(tmp_path, monkeypatch, version, told):
    """vLLM's environment has the package mistral-common, whose tokenizer transformers would take, and the others have not."""
    (tmp_path / "tokenizer.json").write_text("{}")
    (tmp_path / "tekken.json").write_text("{}")
    seen = {}
    tokenizers = SimpleNamespace(from_pretrained=lambda folder, **how: seen.update(how))
    monkeypatch.setitem(__import__("sys").modules, "transformers", SimpleNamespace(AutoTokenizer=tokenizers, __version__=version))
    loading.read_tokenizer(tmp_path)
    assert {name: how for name, how in seen.items() if "format" in name} == told


@pytest.mark.parametrize("told", ['{"eos_token_id": [1, 2],\n "temperature": 0.6}', None])
def test_what_was_made_of_a_checkpoint_ends_its_replies_where_that_does(tmp_path, told):
    """Replies of a quantized Llama-3 would otherwise go on beyond the end of its turn, which config.json does not name."""
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    if told:
        (source / "generation_config.json").write_text(told)
    model = SimpleNamespace(save_pretrained=lambda folder, **told: (folder / "generation_config.json").write_text("{}"))
    loading.save(model, SimpleNamespace(save_pretrained=lambda folder: (folder / "tokenizer.json").write_text("{}")), source, target)
    kept = target / "generation_config.json"
    assert (kept.read_text() if kept.is_file() else None) == told
    assert (target / "tokenizer.json").is_file()


@pytest.mark.parametrize(
    ("config", "attention", "refused"),
    [
        ({"model_type": "falcon", "alibi": True}, "eager", True),
        ({"model_type": "falcon", "alibi": True}, "sdpa", False),
        ({"model_type": "falcon", "alibi": False}, "eager", False),
        ({"model_type": "mpt", "alibi": True}, "eager", False),
        ({"model_type": "llama"}, "eager", False),
    ],
)
def test_an_attention_that_computes_another_model_is_refused(config, attention, refused):
    if not refused:
        loading.refuse_wrong_attention(SimpleNamespace(**config), attention)
        return
    with pytest.raises(Unsupported, match="adds the biases of ALiBi twice"):
        loading.refuse_wrong_attention(SimpleNamespace(**config), attention)
