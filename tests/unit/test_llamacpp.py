"""The engine llama.cpp: what it reads from llama.cpp's own words, and which files it takes. The excerpts are of version 0.3.36."""

import ctypes
import math
import sys
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from speedgrid.engines import llamacpp, llamacpp_library
from speedgrid.outcomes import Fault, MissingDependency, OutOfMemory, Unsupported

SYSTEM_INFO = (
    "CUDA : ARCHS = 900 | USE_GRAPHS = 1 | PEER_MAX_BATCH_SIZE = 128 | "
    "CPU : SSE3 = 1 | AVX2 = 1 | AVX512 = 1 | AVX512_VNNI = 1 | OPENMP = 1 | REPACK = 1 | "
)
LOADED = """\
llama_model_loader: - type  f32:    9 tensors
llama_model_loader: - type q5_0:    2 tensors
llama_model_loader: - type q4_K:   22 tensors
print_info: file format = GGUF V3 (latest)
print_info: file type   = Q4_K - Medium
print_info: file size   = 2.15 MiB (5.18 BPW)
load_tensors: loading model tensors, this can take a while... (load_mode = mmap)
load_tensors:   CPU_Mapped model buffer size =     2.14 MiB
load_tensors:   CPU_REPACK model buffer size =     1.16 MiB
llama_context: n_seq_max             = 1
llama_context: n_ctx                 = 256
llama_context: n_ctx_seq             = 256
llama_context: n_batch               = 256
llama_context: n_ubatch              = 256
llama_context: flash_attn            = auto
llama_kv_cache: size =    0.25 MiB (   256 cells,   2 layers,  1/1 seqs), K (f16):    0.12 MiB, V (f16):    0.12 MiB
resolve_fused_ops: Flash Attention enabled
"""
ON_GPU = """\
llama_prepare_model_devices: using device CUDA0 (NVIDIA H200) (0000:18:00.0) - 142000 MiB free
load_tensors: offloaded 5/5 layers to GPU
"""


def test_system_info_is_read_by_backend():
    assert llamacpp_library.system_info(SYSTEM_INFO) == {
        "CUDA": ["ARCHS=900", "USE_GRAPHS", "PEER_MAX_BATCH_SIZE=128"],
        "CPU": ["SSE3", "AVX2", "AVX512", "AVX512_VNNI", "OPENMP", "REPACK"],
    }


def test_a_build_for_another_processor_is_refused_before_it_ends_the_process():
    build = llamacpp_library.system_info(SYSTEM_INFO)
    llamacpp_library.check_processor(build, ["AVX2", "AVX-512", "AVX-512 VNNI", "AMX INT8"])
    with pytest.raises(MissingDependency, match="for a processor with AVX-512, AVX-512 VNNI; this one lacks it"):
        llamacpp_library.check_processor(build, ["AVX2"])


def test_what_was_loaded_is_read_from_the_log():
    assert llamacpp.loaded(LOADED) == {
        "file_type": "Q4_K - Medium",
        "flash_attention": "enabled",
        "kv_cache_k": "f16",
        "kv_cache_v": "f16",
        "load_mode": "mmap",
        "n_ctx": 256,
        "n_seq_max": 1,
        "n_batch": 256,
        "n_ubatch": 256,
        "tensors": {"f32": 9, "q5_0": 2, "q4_K": 22},
        "model_buffers_mib": {"CPU_Mapped": 2.14, "CPU_REPACK": 1.16},
    }
    on_gpu = llamacpp.loaded(LOADED + ON_GPU)
    assert (on_gpu["gpu"], on_gpu["layers_on_gpu"]) == ("CUDA0 (NVIDIA H200) (0000:18:00.0)", "5/5")
    assert llamacpp.loaded(LOADED.replace("Attention enabled", "Attention not supported, set to disabled"))["flash_attention"] == "disabled"


def problem(log: str, threads: int = 2, flash_attention: str = "auto", gpu: bool = False) -> str:
    return llamacpp.not_as_asked({"threads": 2, **llamacpp.loaded(log)}, threads, flash_attention, gpu)


def test_what_was_asked_for_is_engaged():
    assert problem(LOADED) == ""
    assert problem(LOADED, flash_attention="on") == ""
    assert problem(LOADED + ON_GPU, gpu=True) == ""


@pytest.mark.parametrize("name", ["F16", "all F32", "BF16", "Q8_0", "Q3_K - Medium", "IQ3_S mix - 3.66 bpw", "Q4_0 (guessed)"])
def test_a_file_type_without_a_tensor_of_it_is_not_engaged(name):
    assert "no tensor is of that type" in problem(LOADED.replace("Q4_K - Medium", name).replace("f32:", "q6_K:"))


@pytest.mark.parametrize(
    ("name", "tensor"),
    [("F16", "f16"), ("all F32", "f32"), ("Q8_0", "q8_0"), ("IQ3_S mix - 3.66 bpw", "iq3_s"), ("Q4_0 (guessed)", "q4_0")],
)
def test_a_file_type_with_a_tensor_of_it_is_engaged(name, tensor):
    assert problem(LOADED.replace("Q4_K - Medium", name).replace("q4_K", tensor)) == ""


def test_other_settings_than_asked_for_are_not_engaged():
    assert problem(LOADED, threads=4) == "asked for 4 threads, and llama.cpp uses 2"
    assert problem(LOADED, flash_attention="off") == "asked for flash attention disabled, and llama.cpp has it enabled"
    assert problem(LOADED, gpu=True) == "none of the model's layers were put on the GPU"
    assert problem(LOADED + ON_GPU.replace("5/5", "3/5"), gpu=True) == "3 of the model's 5 were put on the GPU"


def test_the_first_error_in_words_is_the_reason():
    truncated = (
        "llama_model_load: error loading model: tensor 'output.weight' data is not within the file bounds, model is corrupted\n"
        "llama_model_load_from_file_impl: failed to load model\n"
    )
    assert llamacpp_library.first_error(truncated) == "tensor 'output.weight' data is not within the file bounds, model is corrupted"
    assert llamacpp_library.first_error("\n====\nMissing importance matrix\n") == "Missing importance matrix"
    assert llamacpp_library.first_error("") == ""


@pytest.fixture
def log(capsys):
    kept = llamacpp_library.Log.kept
    yield llamacpp_library.Log(SimpleNamespace(llama_log_callback=lambda function: function, llama_log_set=lambda callback, data: None))
    llamacpp_library.Log.kept = kept


def test_errors_are_told_from_the_rest_of_the_log(log):
    log.callback(2, b"print_info: file type = F16\n", None)
    log.callback(4, b"load: the file", None)
    log.callback(5, b" is empty\n", None)
    log.callback(1, b"for developers\n", None)
    log.callback(3, b"load: a warning\n", None)
    assert log.errors == "load: the file is empty\n"
    assert "developers" not in log.text
    failure = log.failure("cannot load")
    assert isinstance(failure, Fault)
    assert str(failure) == "cannot load: the file is empty"
    log.forget()
    assert str(log.failure("cannot load")) == "cannot load: it gives no reason"


@pytest.mark.parametrize(
    ("said", "kind"),
    [
        ("llama_model_load: error loading model: error loading model architecture: unknown model architecture: 'new'", Unsupported),
        ("llama_model_load: error loading model: error loading model vocabulary: unknown pre-tokenizer type: 'new'", Unsupported),
        ("llama_model_quantize: failed to quantize: Missing importance matrix for tensor x in a very low-bit quantization", Unsupported),
        ("llama_model_quantize: failed to quantize: requantizing from type q4_K is disabled", Unsupported),
        ("llama_model_load: error loading model hyperparameters: key not found in model: deepseek2.attention.q_lora_rank", Unsupported),
        # What its converter writes and its graph of the family has no place for, such as biases of a Qwen3.
        ("llama_model_load: error loading model: done_getting_tensors: wrong number of tensors; expected 33, got 31", Unsupported),
        ("llama_model_load: error loading model: missing tensor 'blk.0.attn_q.weight'", Fault),
        ("llama_model_load: error loading model: tensor 'x' data is not within the file bounds, model is corrupted or incomplete", Fault),
        ("ggml_cuda_compute_forward: MUL_MAT failed", Fault),
    ],
)
def test_what_llama_cpp_does_not_do_is_told_from_what_went_wrong(log, said, kind):
    log.callback(4, f"{said}\n".encode(), None)
    assert type(log.failure("cannot load")) is kind


def test_a_lack_of_memory_is_told_from_other_failures(log):
    log.callback(
        4, b"ggml_backend_cuda_buffer_type_alloc_buffer: allocating 9000.00 MiB on device 0: cudaMalloc failed: out of memory\n", None
    )
    assert isinstance(log.failure("cannot load"), OutOfMemory)


def test_one_gguf_file_is_a_model(tmp_path):
    with pytest.raises(Unsupported, match="no GGUF file"):
        llamacpp_library.weights(tmp_path)
    (tmp_path / "model.gguf").touch()
    assert llamacpp_library.weights(tmp_path).name == "model.gguf"
    (tmp_path / "other.gguf").touch()
    with pytest.raises(Unsupported, match="2 GGUF files"):
        llamacpp_library.weights(tmp_path)


def test_of_a_model_in_parts_the_first_is_loaded(tmp_path):
    for part in (1, 2, 10):
        (tmp_path / f"m-{part:05d}-of-00010.gguf").touch()
    assert llamacpp_library.weights(tmp_path).name == "m-00001-of-00010.gguf"


def test_every_sequence_of_every_reply_has_its_own_seed():
    seeds = {llamacpp.sequence_seed(seed, sequence) for seed in range(50) for sequence in range(8)}
    assert len(seeds) == 400
    assert max(seeds) < 2**32 - 1
    assert llamacpp.sequence_seed(7, 3) == llamacpp.sequence_seed(7, 3)


def test_a_hidden_package_is_not_there_and_then_is(monkeypatch, tmp_path):
    (tmp_path / "heavy_package.py").write_text("x = 1")
    monkeypatch.syspath_prepend(tmp_path)
    with llamacpp.hidden("heavy_package"), pytest.raises(ModuleNotFoundError):
        import heavy_package
    import heavy_package

    with llamacpp.hidden("heavy_package"):
        import heavy_package as again
    assert again is heavy_package is sys.modules.pop("heavy_package")


def test_a_build_that_was_left_out_says_why(monkeypatch, tmp_path):
    monkeypatch.setattr(sys, "prefix", str(tmp_path))
    llamacpp_library.share().mkdir(parents=True)
    (llamacpp_library.share() / "missing.txt").write_text("there is no C++ compiler\n")
    with pytest.raises(MissingDependency, match=r"there is no C\+\+ compiler; put it right, delete the environment"):
        llamacpp_library.bindings()


def test_a_library_that_cannot_be_loaded_is_missing(monkeypatch, tmp_path):
    (tmp_path / "llama_cpp.py").write_text("raise RuntimeError('libcuda.so.1: cannot open shared object file')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingDependency, match=r"cannot be loaded: libcuda\.so\.1"):
        llamacpp_library.bindings()


@pytest.mark.parametrize(("parts", "steps", "expected"), [(1, 4, (0.04, 0.25)), (2, 4, (0.0204, 0.25)), (1, 0, (0.04, 0.0))])
def test_the_share_of_sampling_is_what_passes_outside_of_llama_decode(monkeypatch, parts, steps, expected):
    clock = SimpleNamespace(now=0.0, perf_counter=lambda: clock.now)
    monkeypatch.setattr(llamacpp, "time", clock)
    engine = llamacpp.Engine.__new__(llamacpp.Engine)
    engine.lib, computing = SimpleNamespace(llama_synchronize=lambda _: None), {"prompt": 24.0, "step": 3.0}

    def compute(batch):
        clock.now += computing[batch]

    def reply(prompt, settings, seed, decode):
        started, token_s = clock.now, []
        for batch, picks in [*[("prompt", 0)] * (parts - 1), ("prompt", 1), *[("step", 1)] * steps]:
            decode(batch)
            clock.now += picks
            if picks:
                token_s.append(clock.now - started)
        return SimpleNamespace(token_s=token_s)

    engine._decode, engine._reply = compute, reply
    assert engine.sampling_shares([1, 2], {}) == expected


@pytest.mark.parametrize(
    ("config", "room", "kept", "refused"),
    [
        ({"sliding_window": 16}, 18, -16, True),
        ({"sliding_window": 16}, 17, 0, False),
        ({"sliding_window": 16}, 18, 0, True),
        ({"sliding_window": 16}, 18, 16, False),
        ({"sliding_window": 16}, 18, 8, True),
        ({"sliding_window": None}, 99, 0, False),
        ({"sliding_window": 16, "use_sliding_window": False}, 99, 0, False),
        ({"sliding_window": 16, "layer_types": ["full_attention"] * 2}, 99, 0, False),
        ({"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"]}, 99, 0, True),
    ],
)
def test_a_sliding_window_that_llama_cpp_does_not_keep_to_is_refused_where_it_matters(config, room, kept, refused):
    told = {"model_type": "mistral", "num_hidden_layers": 2, **config}
    engine = object.__new__(llamacpp.Engine)
    engine.config = SimpleNamespace(model_type="mistral", to_dict=lambda: told)
    engine.language = SimpleNamespace(text_config=engine.config)
    engine.native_model, engine.lib = None, SimpleNamespace(llama_model_n_swa=lambda model: abs(kept))
    # A negative one stands for a width that is read and not kept to.
    engine.log = SimpleNamespace(text=f"print_info: is_swa_any            = {int(kept > 0)}\n")
    if not refused:
        engine.refuse_window(room)
        return
    with pytest.raises(Unsupported, match=f"computes mistral without its sliding window of 16 tokens, .* together need {room - 1}"):
        engine.refuse_window(room)


def greedy(logits: list[float]) -> int:
    """What llama.cpp's greedy sampler does (llama_sampler_greedy_apply)."""
    selected = 0
    for token, logit in enumerate(logits):
        if logit > logits[selected]:
            selected = token
    return selected


@given(st.lists(st.sampled_from([-math.inf, -1.5, 0.0, -0.0, 2.25, math.inf, math.nan]), min_size=1, max_size=8))
def test_the_likeliest_token_is_the_one_that_llama_cpps_sampler_picks(logits):
    asked = []

    def sample(sampler, context, row):
        asked.append((sampler, row))
        return greedy(logits)

    native = (ctypes.c_float * len(logits))(*logits)
    engine = object.__new__(llamacpp.Engine)
    engine.native_context, engine.vocabulary_size = None, len(logits)
    engine.lib = SimpleNamespace(
        llama_get_logits_ith=lambda context, row: ctypes.cast(native, ctypes.POINTER(ctypes.c_float)), llama_sampler_sample=sample
    )
    assert engine._likeliest("greedy", 3) == greedy(logits)
    assert asked == ([("greedy", 3)] if any(map(math.isnan, logits)) else []), "the sampler is for numbers that are none alone"


@pytest.mark.parametrize(
    ("sampling", "alone"),
    [
        ({"do_sample": False}, True),
        ({"do_sample": False, "repetition_penalty": 1.0}, True),
        ({"do_sample": False, "repetition_penalty": 1.1}, False),
        ({"do_sample": True, "temperature": 0.8, "top_k": 1, "top_p": 1.0}, False),
    ],
)
def test_only_the_model_itself_decides_over_the_likeliest_token(sampling, alone):
    assert llamacpp.likeliest_alone(sampling) is alone
