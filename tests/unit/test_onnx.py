"""The pure parts of the transform `onnx` and of the engine `onnxruntime`."""

import sys
from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st
from speedgrid import outcomes
from speedgrid.architectures import says_nothing
from speedgrid.engines import engine_class
from speedgrid.engines import transformers_legacy as legacy
from speedgrid.engines.onnxruntime import failures, has_vnni, not_as_asked, operators, prepare
from speedgrid.hardware import Device, Gpu
from speedgrid.transforms.onnx import (
    CHECKS_OF_AN_EXPERT,
    config_for_transformers_4,
    refusal,
    refuse_changing_rope,
    texts_to_check,
    tokenizer_for_transformers_4,
)

KNOWN = {"hidden_size", "num_attention_heads", "rope_theta", "rope_scaling", "vocab_size"}
LLAMA = {"model_type": "llama", "dtype": "float32", "hidden_size": 64, "num_attention_heads": 4, "transformers_version": "5.23.0"}
CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def test_rope_theta_is_not_lost_on_the_way_to_transformers_4():
    told = {**LLAMA, "rope_parameters": {"rope_type": "default", "rope_theta": 500000.0}}
    assert config_for_transformers_4(told, KNOWN) == {**LLAMA, "rope_theta": 500000.0}


def test_scaled_rotary_embeddings_keep_their_numbers():
    rope = {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
    told = {**LLAMA, "rope_parameters": {**rope, "rope_theta": 5e4}}
    assert config_for_transformers_4(told, KNOWN) == {**LLAMA, "rope_theta": 5e4, "rope_scaling": rope}


def test_part_of_a_head_that_turns_is_kept():
    told = {**LLAMA, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.25}}
    found = config_for_transformers_4(told, KNOWN | {"partial_rotary_factor"})
    assert found["partial_rotary_factor"] == 0.25


def test_a_gpt_neox_has_its_rotary_embeddings_under_the_names_that_transformers_4_reads():
    """It took a quarter of a head, and the base 10,000, in the place of what was told under other names."""
    told = {**LLAMA, "model_type": "gpt_neox", "rope_parameters": {"rope_type": "default", "rope_theta": 5e4, "partial_rotary_factor": 1.0}}
    found = config_for_transformers_4(told, {*KNOWN, "rotary_pct", "rotary_emb_base", "partial_rotary_factor"})
    assert found == {**LLAMA, "model_type": "gpt_neox", "rotary_pct": 1.0, "rotary_emb_base": 5e4}
    own = {name: value for name, value in told.items() if name != "dtype"}
    assert legacy.config_the_old_way(own).items() >= {"rotary_pct": 1.0, "rotary_emb_base": 5e4}.items()


def test_a_part_that_turns_is_refused_where_transformers_4_has_no_such_setting():
    told = {**LLAMA, "rope_parameters": {"rope_type": "default", "rope_theta": 1e4, "partial_rotary_factor": 0.25}}
    with pytest.raises(outcomes.Unsupported, match=r"partial_rotary_factor.*0\.25"):
        config_for_transformers_4(told, KNOWN)


def test_configurations_of_transformers_4_are_left_alone():
    told = {**LLAMA, "transformers_version": "4.46.3", "rope_theta": 500000.0, "a_setting_of_long_ago": 3}
    assert config_for_transformers_4(told, KNOWN) == told


@pytest.mark.parametrize("version", [{}, {"transformers_version": "4.57.0.dev0"}])
def test_rope_theta_is_not_lost_where_the_version_is_none_of_5(version):
    """It was 10,000 in the graph of a checkpoint whose config.json names no version, or one on its way to 5."""
    own = {name: value for name, value in LLAMA.items() if name != "transformers_version"} | version
    told = {**own, "rope_parameters": {"rope_type": "default", "rope_theta": 7e5}}
    assert config_for_transformers_4(told, KNOWN) == {**own, "rope_theta": 7e5}


def test_what_says_nothing_of_the_model_is_not_said_to_transformers_4():
    """It looked for the package of that attention, and asked the empty quantization for its method."""
    told = {**LLAMA, "_attn_implementation": "flash_attention_2", "attn_implementation": "flash_attention_2", "quantization_config": {}}
    assert config_for_transformers_4(told, KNOWN) == LLAMA
    assert "_attn_implementation" not in legacy.config_the_old_way(told)
    assert "quantization_config" not in legacy.config_the_old_way(told)
    assert legacy.config_the_old_way({**told, "quantization_config": {"bits": 4}})["quantization_config"] == {"bits": 4}


def test_configurations_without_a_version_are_left_alone():
    assert config_for_transformers_4({"model_type": "gpt2"}, KNOWN) == {"model_type": "gpt2"}


def test_rotary_embeddings_that_differ_between_layers_are_refused():
    told = {**LLAMA, "rope_parameters": {"full_attention": {"rope_theta": 1e6}, "sliding_attention": {"rope_theta": 1e4}}}
    with pytest.raises(outcomes.Unsupported, match="differ between layers"):
        config_for_transformers_4(told, KNOWN)


@pytest.mark.parametrize("value", [None, False, [], {}])
def test_unknown_settings_that_say_nothing_are_taken(value):
    assert config_for_transformers_4({**LLAMA, "new_feature": value}, KNOWN)["new_feature"] == value


def test_a_role_of_a_token_is_no_part_of_the_model():
    """transformers 5 writes it for models that a GGUF file was written out to."""
    assert config_for_transformers_4({**LLAMA, "unk_token_id": 0}, KNOWN)["unk_token_id"] == 0


@pytest.mark.parametrize("name", ["head_dim", "layer_types"])
def test_null_says_nothing_of_any_setting(name):
    """A Mixtral with `head_dim: null`, as many are published, ended in a TypeError on the stacks of 2023."""
    assert says_nothing(name, {**LLAMA, name: None})


@pytest.mark.parametrize("value", [True, 3, "relu", [1]])
def test_unknown_settings_that_say_something_are_refused(value):
    with pytest.raises(outcomes.Unsupported, match="no setting new_feature for llama"):
        config_for_transformers_4({**LLAMA, "new_feature": value}, KNOWN)


def test_a_width_of_heads_is_refused_only_where_it_is_not_the_usual_one():
    for usual in (16, None):
        assert config_for_transformers_4({**LLAMA, "head_dim": usual}, KNOWN)["head_dim"] == usual
    with pytest.raises(outcomes.Unsupported, match="head_dim"):
        config_for_transformers_4({**LLAMA, "head_dim": 32}, KNOWN)


@pytest.mark.parametrize("kind", ["dynamic", "longrope"])
def test_rotary_embeddings_that_follow_the_length_are_refused(kind):
    for name in ("rope_type", "type"):
        with pytest.raises(outcomes.Unsupported, match=kind):
            refuse_changing_rope({"rope_scaling": {name: kind, "factor": 2.0}})


@pytest.mark.parametrize("scaling", [None, {"rope_type": "linear", "factor": 2.0}, {"type": "yarn"}, {"rope_type": "default"}])
def test_rotary_embeddings_that_are_fixed_are_taken(scaling):
    refuse_changing_rope({"rope_scaling": scaling})


def test_tokenizer_settings_of_transformers_5():
    told = {"backend": "tokenizers", "tokenizer_class": "TokenizersBackend", "eos_token": "<e>", "extra_special_tokens": ["<a>"]}
    found = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<e>", "additional_special_tokens": ["<a>"]}
    assert tokenizer_for_transformers_4(told) == found


def test_tokenizer_settings_of_transformers_4():
    told = {"tokenizer_class": "GPT2Tokenizer", "extra_special_tokens": {"image_token": "<i>"}}
    assert tokenizer_for_transformers_4(told) == told


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        (("none", "float32", False), ""),
        (("none", "float32", True), ""),
        (("none", "float16", True), ""),
        (("dynamic_int8", "float32", False), ""),
        (("none", "float16", False), "does not compute in float16 on a CPU"),
        (("none", "bfloat16", True), "does not compute in bfloat16"),
        (("dynamic_int8", "float32", True), "on CPUs only"),
        (("dynamic_int8", "bfloat16", False), "bfloat16"),
    ],
)
def test_what_onnxruntime_cannot_run(asked, reason):
    found = refusal(*asked)
    assert reason in found
    assert bool(reason) == bool(found)


def test_only_processors_with_vnni_take_signed_weights():
    assert has_vnni(["AVX2", "AVX-512", "AVX-512 VNNI"])
    assert has_vnni(["AMX INT8"])
    assert not has_vnni(["AVX2", "AVX-512", "AMX BF16"])


def event(name: str, operator: str, provider: str = CPU) -> dict:
    return {"cat": "Node", "name": f"{name}_kernel_time", "args": {"op_name": operator, "provider": provider}}


def test_the_profile_counts_each_node_once_however_often_it_ran():
    events = [
        {"cat": "Session", "name": "session_initialization", "args": {}},
        *[event("a", "MatMul"), event("b", "DynamicQuantizeMatMul"), event("c", "Add", CUDA)] * 3,
        {"cat": "Node", "name": "a_fence_before", "args": {"op_name": "MatMul"}},
    ]
    assert operators(events) == {
        "nodes": {CPU: 2, CUDA: 1},
        "products": {f"MatMul on {CPU}": 1, f"DynamicQuantizeMatMul on {CPU}": 1},
        "quantized_products": 1,
    }


SEEN = {
    "providers": [CPU],
    "tf32": False,
    "products": {f"MatMul on {CPU}": 3},
    "quantized_products": 0,
    "threads": 2,
    "cache_inputs": 4,
    "last_step_positions": 1,
    "weights": {"float32": 1000, "int64": 8},
}


def test_what_was_asked_for_is_engaged():
    assert not_as_asked(SEEN, CPU, 2, "float32", "none") == ""
    quantized = {**SEEN, "quantized_products": 3, "weights": {"int8": 800, "float32": 200}}
    assert not_as_asked(quantized, CPU, 2, "float32", "dynamic_int8") == ""


@pytest.mark.parametrize(
    ("changes", "asked", "reason"),
    [
        ({}, {"provider": CUDA}, "fell back to CPUExecutionProvider"),
        ({"providers": [CUDA, CPU]}, {"provider": CUDA}, "ran MatMul on CPUExecutionProvider"),
        ({"tf32": True}, {}, "asked for float32, and onnxruntime multiplies in TF32"),
        ({}, {"tf32": True}, "asked for TF32, and onnxruntime multiplies in float32"),
        ({"threads": 0}, {}, "asked for 2 threads"),
        ({"cache_inputs": 0}, {}, "no KV cache"),
        ({"last_step_positions": 17}, {}, "computed 17 positions"),
        ({}, {"quantization": "dynamic_int8"}, "no product with 8-bit weights ran"),
        ({}, {"dtype": "float16"}, "asked for float16, and the weights are float32 and int64"),
    ],
)
def test_what_was_not_as_asked(changes, asked, reason):
    told = {"provider": CPU, "threads": 2, "dtype": "float32", "quantization": "none", **asked}
    assert reason in not_as_asked({**SEEN, **changes}, **told)


class Fail(Exception):
    """Stands where onnxruntime's own exceptions do: the module is all that they have in common."""


Fail.__module__ = "onnxruntime.capi.onnxruntime_pybind11_state"


def test_a_failure_about_memory_is_out_of_memory():
    with pytest.raises(outcomes.OutOfMemory, match="buffer of size 5"), failures("load the graph"):
        raise Fail("[ONNXRuntimeError] : Failed to allocate memory for requested buffer of size 5\nmore")


class NotImplemented(Fail):
    pass


NotImplemented.__module__ = Fail.__module__


@pytest.mark.parametrize(
    "error",
    [
        NotImplemented("[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : Could not find an implementation for MatMulInteger(10) node\nmore"),
        Fail("[ONNXRuntimeError] : 1 : FAIL : Load model from m.onnx failed: Unsupported model IR version: 99, max supported: 11\nmore"),
        Fail(
            "[ONNXRuntimeError] : 10 : INVALID_GRAPH : This is an invalid model. Type Error: Type 'tensor(bfloat16)' of input parameter (x)"
            " of operator (MatMul) in node (n) is invalid.\nmore"
        ),
    ],
)
def test_a_failure_that_says_what_it_does_not_do_is_unsupported(error):
    with pytest.raises(outcomes.Unsupported, match="onnxruntime cannot load the graph: ") as caught, failures("load the graph"):
        raise error
    assert str(caught.value).endswith(str(error).partition("\n")[0])


def test_other_failures_are_bugs():
    with pytest.raises(Fail), failures():
        raise Fail("shapes do not match")
    with pytest.raises(Fail), failures("load the graph"):
        raise Fail("[ONNXRuntimeError] : 1 : FAIL : CUDA failure 700: an illegal memory access was encountered ; GPU=0")
    with pytest.raises(KeyError), failures("load the graph"):
        raise KeyError("out of memory")


def test_the_engine_is_found_and_imports_nothing_heavy():
    assert engine_class("onnxruntime").uses_torch is False


@pytest.fixture
def build(monkeypatch):
    """Stands in for the package onnxruntime: a build with these providers, for CUDA 13 where there is a CUDA provider."""

    def make(*providers: str) -> list:
        package, about, loaded = ModuleType("onnxruntime"), ModuleType("onnxruntime.capi.build_and_package_info"), []
        package.__version__, package.get_available_providers = "1.31.1", lambda: list(providers)
        package.preload_dlls = lambda: loaded.append("libraries")
        if CUDA in providers:  # a build for CPUs has no such name
            about.cuda_version = "13.0"
        for module in (package, ModuleType("onnxruntime.capi"), about):
            monkeypatch.setitem(sys.modules, module.__name__, module)
        return loaded

    return make


def gpu(driver: str) -> Device:
    return Device("cuda", "NVIDIA H200", Gpu("NVIDIA H200", "GPU-aaaa", driver, 141 * 2**30, "9.0"))


def test_onnxruntime_finds_the_libraries_of_cuda_before_it_needs_them(build):
    loaded = build(CPU, CUDA)
    prepare(Device("cpu", "a processor"))
    assert loaded == []
    prepare(gpu("580.95.05"))
    assert loaded == ["libraries"]


def test_a_build_for_cpus_and_an_old_driver_are_said_with_what_is_missing(build):
    build(CPU)
    with pytest.raises(outcomes.MissingDependency, match="a build without CUDAExecutionProvider"):
        prepare(gpu("580.95.05"))
    build(CPU, CUDA)
    with pytest.raises(outcomes.Unsupported, match=r"onnxruntime 1.31.1 is built for CUDA 13.0, which needs driver"):
        prepare(gpu("535.104.12"))


@given(st.sampled_from(["num_local_experts", "num_experts", "n_routed_experts"]), st.integers(2, 512), st.data(), st.integers(2, 500))
def test_a_graph_is_compared_over_enough_tokens_to_take_every_expert(name, count, data, length):
    """An export follows one run of the model, and leaves out experts that this did not come by; what did is chosen by the text."""
    taken = data.draw(st.integers(1, count))
    texts = texts_to_check({name: count, "num_experts_per_tok": taken}, length)
    assert texts * length * taken / count >= CHECKS_OF_AN_EXPERT or texts == 2
    assert texts_to_check({}, length) == texts_to_check({name: 1}, length) == 2
