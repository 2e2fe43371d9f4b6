"""The engine `vllm`: what needs no vLLM to be checked."""

import json
import logging
import logging.config
import struct
from types import SimpleNamespace

import pytest
from speedgrid.engines import base
from speedgrid.engines import vllm as engine
from speedgrid.outcomes import Fault, OutOfMemory, Unsupported

SAMPLING = {"do_sample": True, "temperature": 0.8, "top_p": 0.95, "top_k": 0, "repetition_penalty": 1.1}
CONFIG = SimpleNamespace(num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, hidden_size=128)
SEEN = {
    "layers": {"UnquantizedEmbeddingMethod": 1, "UnquantizedLinearMethod": 8},
    "prefix_caching": False,
    "cached_prompt_tokens": 0,
    "enforce_eager": False,
    "cuda_graphs": "FULL_AND_PIECEWISE",
}


def settings(**changes):
    return {"max_new_tokens": 5, "ignore_eos": True, "sampling": SAMPLING, **changes}


def test_sampling_in_the_words_of_vllm():
    words = engine.sampling_words(settings(), ends=[7])
    assert words == {
        "max_tokens": 5,
        "ignore_eos": True,
        "stop_token_ids": [],
        "detokenize": False,
        "repetition_penalty": 1.1,
        "temperature": 0.8,
        "top_p": 0.95,
        "top_k": 0,
    }


def test_only_the_studys_end_tokens_end_a_reply():
    words = engine.sampling_words(settings(ignore_eos=False), ends=[7, 8])
    assert words["stop_token_ids"] == [7, 8]
    assert words["ignore_eos"]  # vLLM's own choice of end tokens


def test_without_sampling_the_likeliest_token_is_taken():
    words = engine.sampling_words(settings(sampling={"do_sample": False, "repetition_penalty": 1.3}), ends=[])
    assert (words["temperature"], words["repetition_penalty"]) == (0.0, 1.3)
    assert "top_p" not in words


def test_a_step_is_there_when_the_slowest_sequence_has_it():
    assert engine.together([[0.1, 0.2, 0.3], [0.15, 0.25]]) == [0.15, 0.25, 0.3]


def test_kv_cache_has_room_for_every_sequence_and_little_more():
    token = 2 * 2 * 2 * 32 * 2  # keys and values, layers, heads, width, bytes
    assert engine.cache_bytes(CONFIG, "float16", room=256, batch_size=1) == token * 128 * 5  # 2 blocks, 2 to spare, a quarter more
    assert engine.cache_bytes(CONFIG, "float16", room=257, batch_size=4) == token * 128 * 22  # 4 of 4 and 1, a quarter more
    assert engine.cache_bytes(CONFIG, "float32", room=256, batch_size=1) == 2 * engine.cache_bytes(CONFIG, "bfloat16", 256, 1)


@pytest.mark.parametrize(
    ("named", "times"),
    [
        ({"head_dim": 64}, 2),
        ({"num_key_value_heads": None}, 2),  # as many as heads
        ({"num_key_value_heads": None, "num_kv_heads": 2, "multi_query": True, "new_decoder_architecture": True}, 1),
        ({"num_key_value_heads": None, "multi_query": True}, 0.5),
    ],
)
def test_kv_cache_of_models_that_name_their_heads_otherwise(named, times):
    config = SimpleNamespace(**{**vars(CONFIG), **named})
    assert engine.cache_bytes(config, "float16", 256, 1) == times * engine.cache_bytes(CONFIG, "float16", 256, 1)


def test_kv_cache_is_left_to_vllm_where_layers_keep_something_else():
    kinds = {"layer_types": ["linear_attention", "full_attention"]}
    assert engine.cache_bytes(SimpleNamespace(**{**vars(CONFIG), **kinds}), "float16", 256, 1) is None
    for name in ("mamba_d_state", "linear_num_key_heads", "conv_L_cache", "index_topk"):
        assert engine.cache_bytes(SimpleNamespace(**{**vars(CONFIG), name: 8}), "float16", 256, 1) is None
    assert engine.cache_bytes(SimpleNamespace(num_hidden_layers=2, hidden_size=128), "float16", 256, 1) is None


@pytest.mark.parametrize(("rank", "width"), [(32, 48), (512, 132)])
def test_kv_cache_of_latent_attention_has_room_for_latents_and_for_whole_keys(rank, width):
    """Left to vLLM it would take nine tenths of the GPU, and the figure for memory would say so."""
    sizes = {
        "num_key_value_heads": 4,
        "head_dim": 16,
        "kv_lora_rank": rank,
        "qk_nope_head_dim": 32,
        "qk_rope_head_dim": 16,
        "v_head_dim": 16,
    }
    config = SimpleNamespace(**{**vars(CONFIG), **sizes})
    found = engine.cache_bytes(config, "float16", 256, 1)
    assert found == engine.cache_bytes(SimpleNamespace(**{**vars(CONFIG), "num_key_value_heads": 4, "head_dim": width}), "float16", 256, 1)
    assert found >= 2 * 640 * 2 * (rank + 16)  # layers, tokens, bytes, numbers of a latent


@pytest.mark.parametrize(("capability", "tokens"), [("8.0", 512), ("9.0", 512), ("10.0", 1024), ("10.3", 1024), ("12.0", 512)])
def test_prompts_are_captured_as_far_as_vllm_does_by_itself(capability, tokens):
    assert engine.graph_tokens(capability) == tokens


def test_threads_are_vllms_rule_for_the_whole_machine_and_else_as_many_cores():
    assert engine.threads_binding(4, physical=4, cores=[0, 2, 4, 6]) == "auto"
    assert engine.threads_binding(2, physical=4, cores=[0, 2, 4, 6]) == "0,2"


def test_packed_weights_count_as_what_they_hold():
    shapes = {
        "model.embed.weight": [100, 64],
        "a.qweight": [8, 64],
        "a.scales": [1, 64],
        "a.qzeros": [1, 8],
        "a.g_idx": [64],
        "a.bias": [64],
    }
    assert engine.parameters(shapes, bits=4) == 100 * 64 + 64 * 64 + 64
    assert engine.parameters(shapes, bits=8) == 100 * 64 + 32 * 64 + 64


@pytest.mark.parametrize(
    ("changes", "quantized", "eager", "on_gpu", "reason"),
    [
        ({}, "", False, True, ""),
        ({"layers": {"GPTQMarlinLinearMethod": 8}}, "gptq", False, True, ""),
        ({"enforce_eager": True, "cuda_graphs": "NONE"}, "", True, True, ""),
        ({"cuda_graphs": "NONE"}, "", False, False, ""),
        ({}, "gptq", False, True, "gptq weights were asked for, and vLLM computes with unquantized layers"),
        ({"layers": {"UnquantizedLinearMethod": 8, "Fp8KVCacheMethod": 2}}, "fp8", False, True, "fp8 weights were asked for"),
        ({"prefix_caching": True}, "", False, True, "prefix cache"),
        ({"cached_prompt_tokens": 16}, "", False, True, "prefix cache"),
        ({"enforce_eager": True}, "", False, True, "with compilation"),
        ({"cuda_graphs": "NONE"}, "", False, True, "without CUDA graphs"),
    ],
)
def test_what_runs_is_compared_with_what_was_asked_for(changes, quantized, eager, on_gpu, reason):
    found = engine.not_as_asked({**SEEN, **changes}, quantized, eager, on_gpu)
    assert reason in found
    assert bool(found) == bool(reason)


def test_vllms_clock_of_a_batch_is_that_of_the_slowest():
    reply = base.Reply([[1, 2], [3, 4]], token_s=[0.5, 1.0], reply_s=1.1)
    metrics = [
        SimpleNamespace(arrival_time=100.0, first_token_latency=0.4, first_token_ts=7.0, last_token_ts=7.6),
        SimpleNamespace(arrival_time=100.1, first_token_latency=0.35, first_token_ts=7.1, last_token_ts=7.6),
    ]
    timing = engine.Timing.of(
        reply, [SimpleNamespace(metrics=own, num_cached_tokens=cached) for own, cached in zip(metrics, (0, None), strict=True)]
    )
    assert (timing.ttft_s, timing.reply_s, timing.cached_tokens) == (0.5, 1.1, 0)
    assert timing.own_ttft_s == pytest.approx(0.45)
    assert timing.own_reply_s == pytest.approx(1.0)


# Errors

# What this process hears when the engine's own is gone.
GONE = "EngineCore encountered an issue. See stack trace (above) for the root cause."


def said(log):
    found = engine.cause(log)
    return f"{found.kind}: {found.short}"


@pytest.fixture
def logged(tmp_path):
    """A function that logs errors as vLLM's processes do, under our configuration, and returns the file of errors."""
    errors = tmp_path / "errors.txt"
    logging.config.dictConfig(json.loads(json.dumps(engine._logging(errors))))
    logger = logging.getLogger("vllm.v1.engine.core")

    def log(*records):
        for message, error in records:
            try:
                if error:
                    raise error
                logger.error(message)
            except Exception:
                logger.exception(message)
        return errors.read_text()

    yield log
    logging.getLogger("vllm").handlers.clear()


def test_cause_is_the_error_of_the_process_that_failed_first(logged):
    text = logged(
        ("Error in inspecting a model", ImportError("no vision")),
        ("WorkerProc failed to start.", ValueError("Weights are too wide.\nSecond line: of the message")),
        ("EngineCore failed to start.", Exception("WorkerProc initialization failed. See stack trace for root cause.")),
        ("Nothing to trace", None),
    )
    assert said(text) == "ValueError: Weights are too wide"


def test_cause_of_an_error_within_an_error_is_the_outer_one(logged):
    inner = KeyError("layers.0")
    outer = ValueError("the checkpoint lacks layers.0")
    outer.__cause__ = inner
    assert said(logged(("EngineCore failed to start.", outer))) == "ValueError: the checkpoint lacks layers.0"


def test_a_bug_of_vllms_processes_is_none_of_the_expected_failures(logged):
    """Else a crash would be shown as something that vLLM does not do, the run would end with 0, and no later run would try again."""
    bugs = (KeyError("model.layers.0.w"), AssertionError(), RuntimeError("CUDA error: an illegal memory access was encountered"))
    for bug in bugs:
        assert type(engine.failure(GONE, logged(("EngineCore failed to start.", bug)), "load the model")) is Fault
    text = logged(("WorkerProc hit an exception.", AssertionError()))
    assert str(engine.failure(GONE, text, "answer")) == "vLLM cannot answer: AssertionError: raise error"


def test_no_cause_where_nothing_was_logged():
    assert engine.cause("") is None


def test_a_process_that_left_no_error():
    started = "Engine core initialization failed. See root cause above. Failed core proc(s): {{'EngineCore': {}}}"

    def failure(status, log="", killed=False):
        found = engine.failure(started.format(status), log, "load the model", killed)
        return type(found), str(found)

    assert failure(-9) == (OutOfMemory, "vLLM: its process was killed, as the system does for want of memory")
    assert failure(-4) == (Fault, "vLLM cannot load the model: its process was ended by SIGILL")
    assert failure(1) == (Fault, "vLLM cannot load the model: its process ended without a word")
    # The worker was lost, of which the engine's process says only that it is gone.
    gone = f"{engine.RECORD}EngineCore failed to start.\nException: WorkerProc initialization failed. See stack trace for root cause."
    assert failure(1, gone)[0] is Fault
    assert failure(1, gone, killed=True)[0] is OutOfMemory
    worker = f"{engine.RECORD}Worker proc VllmWorker-0 died unexpectedly (exit code: {{}}), shutting down executor.\n"
    assert type(engine.failure(GONE, worker.format(-9), "answer")) is OutOfMemory
    assert str(engine.failure(GONE, worker.format(-11), "answer")) == "vLLM cannot answer: its process was ended by SIGSEGV"
    # Whoever waited for it has an error of its own then.
    waited = f"{engine.RECORD}Invocation of reset_mm_cache method failed\nTraceback (most recent call last):\nRuntimeError: cancelled\n"
    assert "SIGSEGV" in str(engine.failure(GONE, worker.format(-11) + waited, "answer"))
    assert "cancelled" in str(engine.failure(GONE, waited, "answer"))


def test_errors_in_this_process(tmp_path):
    one = engine.Engine(tmp_path, None, {}, 1)
    one.errors = tmp_path / "none.txt"
    with pytest.raises(Unsupported, match="architectures are not supported"), one._failures("load the model"):
        raise ValueError("architectures are not supported")
    with pytest.raises(OutOfMemory, match="killed"), one._failures("load the model"):
        raise RuntimeError("Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore': -9}")
    with pytest.raises(Fault, match="ended without a word"), one._failures("load the model"):
        raise RuntimeError("Engine core initialization failed. See root cause above. Failed core proc(s): {'EngineCore': 1}")
    for bug in (TypeError("unexpected argument"), ValueError("not enough values to unpack"), KeyError("logprobs")):
        with pytest.raises(type(bug)), one._failures("load the model"):  # may be ours
            raise bug


def test_the_weights_of_vllms_layers_are_counted_by_its_method_for_them():
    def method(name):
        return type(name, (), {})()

    linear = SimpleNamespace(quant_method=method("Fp8LinearMethod"), input_size=64, output_size=128)
    sizes = {"local_num_experts": 8, "hidden_size": 64, "intermediate_size_per_partition": 256}
    experts = SimpleNamespace(quant_method=method("UnquantizedFusedMoEMethod"), **sizes)
    words = SimpleNamespace(quant_method=method("UnquantizedEmbeddingMethod"), num_embeddings=320, input_size=1, output_size=1)
    attention, norm = SimpleNamespace(quant_method=method("Fp8KVCacheMethod")), SimpleNamespace()
    counts = engine.layer_weights([linear, linear, experts, words, attention, norm])
    assert counts == {"Fp8LinearMethod": 2 * 64 * 128, "UnquantizedFusedMoEMethod": 3 * 8 * 64 * 256}


def test_as_many_next_tokens_are_told_as_were_asked_for_where_several_have_one_rank():
    def ranked(*pairs):
        return {token: SimpleNamespace(rank=rank, logprob=-float(rank)) for token, rank in pairs}

    # The token that stands there comes beside the likeliest; here it has the rank of the last of them.
    answer = SimpleNamespace(
        prompt_logprobs=[None, ranked((5, 1), (7, 2), (3, 2))], outputs=[SimpleNamespace(logprobs=[ranked((1, 2), (2, 1))])]
    )
    one = object.__new__(engine.Engine)
    one._scored = lambda sequences, count: [answer]
    (found,) = one._next_tokens([[4, 3]], 2)
    assert found.tokens == [[5, 3], [2, 1]]
    assert [len(row) for row in found.logarithms] == [2, 2]


def test_weights_that_lie_there_once_more_are_counted_once(tmp_path):
    for name, numbers in (("model", 6), ("consolidated", 9)):
        text = json.dumps({f"{name}.weight": {"dtype": "F32", "shape": [numbers], "data_offsets": [0, 4 * numbers]}}).encode()
        (tmp_path / f"{name}.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(4 * numbers))
    (tmp_path / "config.json").write_text("{}")
    one = object.__new__(engine.Engine)
    one.checkpoint, one._worker_seen = tmp_path, lambda: {"model_bytes": 24}
    assert one.sizes() == {"parameters": 6, "trainable_parameters": None, "model_bytes": 24}
