"""ceilings.py against published sizes, against counting one by one, and against its own definitions; the counts of every architecture
against PyTorch's are in tests/benchmarks/ceilings_check.py."""

import json
import math
import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from speedgrid import ceilings, probe
from speedgrid.ceilings import Limits, Shape, Work
from speedgrid.stats import Estimate

LLAMA_8B = {
    "model_type": "llama",
    "vocab_size": 128256,
    "hidden_size": 4096,
    "intermediate_size": 14336,
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "tie_word_embeddings": False,
}
LLAMA_1B = LLAMA_8B | {"hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16, "head_dim": 64, "tie_word_embeddings": True}
MISTRAL_7B = LLAMA_8B | {"model_type": "mistral", "vocab_size": 32000, "sliding_window": 4096}
GPT2 = {"model_type": "gpt2", "vocab_size": 50257, "n_embd": 768, "n_layer": 12, "n_head": 12, "n_positions": 1024}
OPT_350M = {
    "model_type": "opt",
    "vocab_size": 50272,
    "hidden_size": 1024,
    "word_embed_proj_dim": 512,
    "ffn_dim": 4096,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "max_position_embeddings": 2048,
}

windows = st.one_of(st.none(), st.integers(1, 12))
shapes = st.builds(
    Shape,
    heads=st.integers(1, 4),
    kv_heads=st.integers(1, 4),
    head_dim=st.integers(1, 8),
    linear=st.integers(1, 10_000),
    head=st.integers(1, 1000),
    lookups=st.integers(0, 1000),
    row=st.integers(1, 10),
    windows=st.lists(windows, min_size=1, max_size=4).map(tuple),
)
times = st.floats(1e-6, 1e3)
few = settings(max_examples=60)


# Shapes


@pytest.mark.parametrize(
    ("config", "published", "norms_and_biases"),
    [
        (LLAMA_8B, 8_030_261_248, 65 * 4096),
        (LLAMA_1B, 1_235_814_400, 33 * 2048),
        (MISTRAL_7B, 7_241_732_096, 65 * 4096),
        (GPT2, 124_439_808, 12 * 13 * 768 + 2 * 768),
        (OPT_350M, 331_196_416, 24 * 13 * 1024),
    ],
    ids=["Llama 3.1 8B", "Llama 3.2 1B", "Mistral 7B", "GPT-2", "OPT 350M"],
)
def test_weights_are_the_published_parameters_without_norms_and_biases(config, published, norms_and_biases):
    shape = ceilings.shape(config)
    assert shape.parameters == published - norms_and_biases
    assert ceilings.explains(shape, published)
    assert not ceilings.explains(shape, int(published * 1.5))


def test_a_tied_head_that_is_stored_twice_is_explained_too():
    shape = ceilings.shape(LLAMA_1B)
    assert ceilings.explains(shape, shape.parameters + shape.head)


@pytest.mark.parametrize("config", [{"model_type": "mixtral"}, {}, {**LLAMA_8B, "model_type": "gemma"}])
def test_what_is_not_known_is_refused_and_not_guessed(config):
    with pytest.raises(ceilings.UnknownModel):
        ceilings.shape(config)


@pytest.mark.parametrize(
    ("told", "expected"),
    [
        ({}, [None] * 4),
        ({"sliding_window": 8, "model_type": "mistral"}, [8] * 4),
        ({"sliding_window": 8, "use_sliding_window": False}, [None] * 4),
        ({"sliding_window": 8, "use_sliding_window": True, "max_window_layers": 3, "model_type": "qwen2"}, [None, None, None, 8]),
        ({"sliding_window": 8, "model_type": "gemma2"}, [8, None, 8, None]),
        ({"sliding_window": 8, "layer_types": ["full_attention", "sliding_attention"] * 2}, [None, 8, None, 8]),
    ],
)
def test_sliding_windows_of_the_layers(told, expected):
    assert ceilings.windows(told, 4) == tuple(expected)


# What a pass needs


def test_a_step_of_llama_8b_by_hand():
    shape = ceilings.shape(LLAMA_8B)
    weights = 2 * (8_030_261_248 - 128256 * 4096)
    # 128 KiB of keys and values for each position; prompt 1000 and 3 tokens are steps at 1001 and 1002 positions.
    step = ceilings.decode(shape, weights, prompt=1000, steps=3)
    assert step.bytes == weights + 2 * 4096 + 1001.5 * 131_072
    assert step.flop == 2 * (shape.linear + shape.head) + 4 * 32 * 128 * 32 * 1001.5
    first = ceilings.prefill(shape, weights, prompt=1000)
    assert first.flop == 2 * (1000 * shape.linear + shape.head) + 4 * 32 * 128 * 32 * 1000 * 1001 / 2
    assert first.bytes == weights + 1000 * (2 * 4096 + 131_072)


@few
@given(shapes, st.integers(1, 20), st.integers(2, 20), st.integers(1, 3))
def test_decode_is_the_mean_of_steps_counted_one_by_one(shape, prompt, steps, batch):
    bytes_, flop = [], []
    for step in range(1, steps):
        moved, done = 7, 0
        for _ in range(batch):
            moved += 2 * shape.row
            done += 2 * (shape.linear + shape.head)
            for window in shape.windows:
                for position in range(prompt + step):
                    if window is None or prompt + step - 1 - position < window:
                        moved += 2 * shape.kv_heads * shape.head_dim * 2
                        done += 4 * shape.heads * shape.head_dim
        bytes_.append(moved)
        flop.append(done)
    work = ceilings.decode(shape, 7, prompt, steps, batch)
    assert work.bytes == pytest.approx(sum(bytes_) / len(bytes_))
    assert work.flop == pytest.approx(sum(flop) / len(flop))


@few
@given(shapes, st.integers(1, 20), st.integers(1, 3))
def test_prefill_counts_the_pairs_that_attend_to_each_other(shape, prompt, batch):
    pairs = sum(1 for w in shape.windows for later in range(prompt) for earlier in range(later + 1) if w is None or later - earlier < w)
    expected = batch * (2 * (shape.linear * prompt + shape.head) + 4 * shape.heads * shape.head_dim * pairs)
    assert ceilings.prefill(shape, 0, prompt, batch).flop == expected


@few
@given(shapes, st.integers(1, 10), st.integers(2, 10))
def test_without_a_cache_a_step_is_a_pass_over_everything(shape, prompt, steps):
    work = ceilings.decode(shape, 100, prompt, steps, cached=False)
    passes = [ceilings.prefill(shape, 100, prompt + step, kv_width=0) for step in range(1, steps)]
    assert work.flop == pytest.approx(sum(one.flop for one in passes) / len(passes))
    assert work.bytes == pytest.approx(sum(one.bytes for one in passes) / len(passes))
    assert work.flop >= ceilings.decode(shape, 100, prompt, steps).flop


@few
@given(shapes, st.integers(1, 10))
def test_training_is_three_forward_passes_with_every_logit(shape, tokens):
    forward = ceilings.prefill(shape, 0, tokens).flop - 2 * shape.head + 2 * shape.head * tokens
    assert ceilings.training_flop(shape, tokens) == 3 * forward


# Bytes of weights


LAYER = {
    "model.layers.0.q_proj.weight": ("U8", 2048, 2048),
    "model.layers.0.q_proj.weight.absmax": ("U8", 64, 64),
    "model.layers.0.q_proj.weight.nested_absmax": ("F32", 4, 16),
    "model.layers.0.q_proj.weight.quant_state.bitsandbytes__nf4": ("U8", 90, 90),
    "model.layers.0.norm.weight": ("F16", 64, 128),
}


def test_floats_count_as_loaded_and_packed_weights_as_stored():
    assert ceilings.weights_read(LAYER, True, "float32") == 2048 + 64 + 16 + 64 * 4
    assert ceilings.weights_read(LAYER, True, "bfloat16") == 2048 + 64 + 16 + 64 * 2


@pytest.mark.parametrize(
    ("tied", "stored", "read"),
    [
        (False, {"model.embed_tokens.weight": 1000, "lm_head.weight": 1000}, 1000),
        (True, {"model.embed_tokens.weight": 1000}, 1000),
        (True, {"model.embed_tokens.weight": 1000, "lm_head.weight": 1000}, 1000),
        (True, {"transformer.wte.weight": 1000, "transformer.wpe.weight": 500, "transformer.h.0.attn.bias": 999}, 1000),
        (True, {"transformer.h.0.attn.c_attn.bias": 30, "transformer.h.0.attn.masked_bias": 1}, 30),
        (False, {"gpt_neox.embed_in.weight": 1000, "embed_out.weight": 900, "gpt_neox.layers.0.attention.dense.bias": 3}, 903),
    ],
)
def test_tables_of_which_rows_are_read_do_not_count(tied, stored, read):
    tensors = {name: ("F32", elements, 4 * elements) for name, elements in stored.items()}
    assert ceilings.weights_read(tensors, tied, "float32") == 4 * read


def test_tensors_of_a_checkpoint_are_read_from_its_files(tmp_path):
    assert ceilings.stored_weights(tmp_path) is None
    head = {"a": ("BF16", [3, 5], 30), "b": ("I8", [7], 7), "c": ("F8_E4M3", [2, 2], 4), "d": ("F32", [], 4)}
    offset, described = 0, {}
    for name, (dtype, shape, size) in head.items():
        described[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps({"__metadata__": {"format": "pt"}, **described}).encode()
    (tmp_path / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(offset))
    expected = {name: (dtype, math.prod(shape), size) for name, (dtype, shape, size) in head.items()}
    assert ceilings.stored_weights(tmp_path) == expected


def test_weights_that_lie_there_once_more_are_read_once(tmp_path):
    """As Mistral's own `consolidated.safetensors` beside the files of transformers, which doubled what a pass reads."""
    for name in ("model-00001-of-00001", "consolidated"):
        text = json.dumps({f"{name}.weight": {"dtype": "F32", "shape": [2, 3], "data_offsets": [0, 24]}}).encode()
        (tmp_path / f"{name}.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + bytes(24))
    told = {"metadata": {}, "weight_map": {"model-00001-of-00001.weight": "model-00001-of-00001.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(told))
    assert ceilings.stored_weights(tmp_path) == {"model-00001-of-00001.weight": ("F32", 6, 24)}


def test_weight_bytes_of_each_kind_of_checkpoint():
    shape = ceilings.shape(LLAMA_8B)
    table, whole = shape.lookups, shape.parameters
    read = 2 * (whole - table)
    assert ceilings.weight_bytes(shape, "bfloat16", read, 2 * whole, whole) == read
    assert ceilings.weight_bytes(shape, "bfloat16", read, None, None) == read
    # Quantized to 8 bits while it was loaded, the tables kept.
    loaded = whole - table - shape.head + 2 * (table + shape.head)
    assert ceilings.weight_bytes(shape, "bfloat16", read, loaded, whole) == loaded - 2 * table
    # GGUF at 4.5 bits a weight; and an engine that stores what it shares twice.
    assert ceilings.weight_bytes(shape, "bfloat16", None, whole * 4.5 / 8, whole) == pytest.approx((whole - table) * 4.5 / 8)
    assert ceilings.weight_bytes(shape, "float32", None, 6 * whole, whole) == 4 * (whole - table)
    assert ceilings.weight_bytes(shape, "bfloat16", None, None, whole) is None


@pytest.mark.parametrize(
    ("quantization", "format_"),
    [
        (None, "float16"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "float16"),
        ({"quant_method": "bitsandbytes", "load_in_8bit": True}, "int8"),
        ({"quant_method": "gptq", "bits": 4}, "float16"),
        ({"quant_method": "fp8"}, "float8_e4m3fn"),
        ({"quant_method": "compressed-tensors", "config_groups": {"a": {"input_activations": {"num_bits": 8, "type": "int"}}}}, "int8"),
        ({"quant_method": "compressed-tensors", "config_groups": {"a": {"input_activations": None}}}, "float16"),
    ],
)
def test_the_format_of_arithmetic(quantization, format_):
    assert ceilings.arithmetic({"quantization_config": quantization}, "float16") == format_


# Judgement


H200 = Limits(4.29e12, {"bfloat16": 769e12, "float32": 50e12}, cache=50 * 2**20)
CPU = Limits(10e9, {"float32": 60e9, "bfloat16": 17e9}, cache=32 * 2**20, cache_bandwidths=((2**20, 60e9), (2**23, 40e9)))


def test_a_known_cell_of_a_known_gpu():
    # 1.42 B weights in bfloat16, 525 token/s, of 1,631 token/s that reading the weights once a token would allow.
    now = ceilings.judge(Work(4.29e12 / 1631, 2.84e9), 1 / 525, H200, "bfloat16")
    assert now.mbu == pytest.approx(525 / 1631)
    assert now.headroom == pytest.approx(1631 / 525)
    assert now.bound == "overhead"


@few
@given(st.floats(1e8, 1e12), st.floats(1e6, 1e16), st.floats(0.96, 30))
def test_a_cell_is_judged_by_how_much_longer_it_took_than_its_ceiling(moved, flop, longer):
    moving, computing = moved / H200.bandwidth, flop / H200.rates["bfloat16"]
    now = ceilings.judge(Work(moved, flop), longer * max(moving, computing), H200, "bfloat16")
    assert now.headroom == pytest.approx(longer)
    assert max(now.mbu, now.mfu) == pytest.approx(1 / longer)
    assert math.isclose(longer, 2) or now.bound == ("overhead" if longer > 2 else "memory" if moving >= computing else "compute")


@few
@given(st.floats(1e8, 1e12), st.floats(1e6, 1e16), st.floats(0, 1))
def test_doing_one_after_the_other_is_never_overhead(moved, flop, overlap):
    moving, computing = moved / H200.bandwidth, flop / H200.rates["bfloat16"]
    seconds = moving + computing - overlap * min(moving, computing)
    assert ceilings.judge(Work(moved, flop), seconds, H200, "bfloat16").bound in ("memory", "compute")


def test_what_fits_in_the_cache_is_said_and_not_clipped():
    # 12 MB in 0.4 ms are 30 GB/s, three times the memory's bandwidth and three quarters of the cache's.
    now = ceilings.judge(Work(12e6, 6e6), 0.4e-3, CPU, "float32")
    assert (now.bound, now.mbu, now.headroom) == ("cache", pytest.approx(3), pytest.approx(40 / 30))
    # Slow as it may be, the memory is not what holds it up.
    assert ceilings.judge(Work(12e6, 6e6), 1.2e-3, CPU, "float32").bound == "overhead"
    # The same where the cache's bandwidth is not known: the arithmetic is the only ceiling.
    blind = Limits(10e9, {"float32": 60e9}, cache=32 * 2**20)
    now = ceilings.judge(Work(12e6, 6e6), 0.4e-3, blind, "float32")
    assert (now.bound, now.headroom) == ("cache", pytest.approx(4))
    assert ceilings.judge(Work(12e6, 6e6), 2.5e-3, blind, "float32").bound == "overhead"


def test_faster_than_one_reading_of_the_weights_is_said_and_not_clipped():
    now = ceilings.judge(Work(1e9, 1e6), 0.05, CPU, "float32")
    assert (now.bound, now.mbu, now.headroom) == ("beyond", pytest.approx(2), pytest.approx(0.5))


def test_arithmetic_may_be_done_in_a_wider_format_that_is_faster():
    assert CPU.rate("bfloat16") == 60e9
    assert H200.rate("bfloat16") == 769e12
    with pytest.raises(KeyError, match="float8_e5m2"):
        CPU.rate("float8_e5m2")


def test_bandwidth_of_a_working_set_is_that_of_the_largest_set_seen_that_is_no_larger():
    sets = (100, 2**20, 2**22, 2**23, 2**24, 2**25 + 1)
    assert [CPU.bandwidth_for(size) for size in sets] == [60e9, 60e9, 60e9, 40e9, 40e9, 10e9]
    assert H200.bandwidth_for(2**20) == math.inf
    # A neighbour slowed the small set; a small set is never slower than a large one.
    assert Limits(1e9, {}, 2**25, ((2**20, 2e9), (2**23, 40e9))).bandwidth_for(2**21) == 40e9


def row(kind, best, dtype="float32", size=2**28, status="ok"):
    return {"kind": kind, "best": best, "dtype": dtype, "size": size, "status": status}


def test_limits_are_the_best_of_what_the_probe_saw():
    rows = [
        *(row("copy", 9e9), row("read", 10e9), row("read", 8e9)),
        *(row("cache", 40e9, size=2**23), row("cache", 60e9, size=2**20)),
        *(row("gemm", 60e9, size=2048), row("gemm", 50e9, size=4096), row("gemm", 17e9, "bfloat16")),
    ]
    assert ceilings.limits(rows, {"cache_bytes": 32 * 2**20}) == CPU
    assert ceilings.limits([row(None, None, status="unsupported")], {"cache_bytes": None}) is None


# Columns of the summary

FACTS = {"read": 2 * (1_235_814_400), "model_bytes": 2 * 1_235_814_400, "parameters": 1_235_814_400}
RUN = {"prompt": 128, "steps": 128, "batch": 1, "ttft_s": 0.02, "tpot_s": 0.004}


def test_figures_of_a_cell():
    found = ceilings.figures(LLAMA_1B, "bfloat16", H200, **FACTS, **RUN)
    assert found["mbu"] == pytest.approx(found["step_bytes"] / 0.004 / 4.29e12)
    assert found["mfu"] == pytest.approx(found["prefill_flop"] / 0.02 / 769e12)
    assert (found["decode_bound"], found["prefill_bound"]) == ("overhead", "overhead")
    assert found["decode_headroom"] == pytest.approx(1 / found["mbu"])
    assert "ceiling_reason" not in found


def test_a_reply_of_one_token_has_no_decode():
    found = ceilings.figures(LLAMA_1B, "bfloat16", H200, **FACTS, **(RUN | {"tpot_s": None, "steps": 1}))
    assert "mbu" not in found
    assert found["mfu"] > 0


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"limits": None}, "not probed"),
        ({"config": {"model_type": "mixtral"}}, "mixtral"),
        ({"parameters": 7_000_000_000}, "explains"),
        ({"read": None, "model_bytes": None}, "bytes of weights"),
        ({"limits": Limits(1e12, {"float8_e4m3fn": 1e15})}, "rate for bfloat16"),
    ],
)
def test_a_cell_without_a_ceiling_says_why(change, reason):
    told = {"config": LLAMA_1B, "dtype": "bfloat16", "limits": H200, **FACTS, **RUN} | change
    found = ceilings.figures(told.pop("config"), told.pop("dtype"), told.pop("limits"), **told)
    assert list(found) == ["ceiling_reason"]
    assert reason in found["ceiling_reason"]


# Break-even

costs = st.integers(0, 30)


@few
@given(costs, costs, st.integers(1, 20), st.integers(1, 20))
def test_break_even_is_the_first_reply_from_which_the_technique_stays_ahead(once, baseline_once, reply, baseline_reply):
    def ahead(n):
        return once + n * reply <= baseline_once + n * baseline_reply

    # Costs are at most 30 and a reply saves 1 at least, so that whatever is decided is so by reply 30.
    expected = next((n for n in range(32) if all(map(ahead, range(n, 64)))), None)
    assert ceilings.break_even(once, baseline_once, reply, baseline_reply) == expected
    # The same in tenths of a second, which binary fractions do not hold exactly.
    tenths = [value / 10 for value in (once, baseline_once, reply, baseline_reply)]
    assert ceilings.break_even(*tenths) == expected


def test_break_even_in_words():
    assert ceilings.break_even(1.1, 0.0, 0.9, 1.0) == 11
    assert ceilings.break_even(35, 5, 0.5, 2.0) == 20
    assert ceilings.break_even(5, 35, 0.5, 2.0) == 0
    assert ceilings.break_even(5, 5, 2.0, 2.0) == 0
    assert ceilings.break_even(35, 5, 2.0, 2.0) is None
    assert ceilings.break_even(5, 35, 2.0, 0.5) is None


def infinite(replies):
    return math.inf if replies is None else replies


@few
@given(times, times, st.tuples(times, times, times).map(sorted), st.tuples(times, times, times).map(sorted))
def test_the_interval_holds_the_figure_and_is_wider_for_wider_intervals(once, baseline_once, reply, baseline_reply):
    own, other = (Estimate(middle, low, high) for low, middle, high in (reply, baseline_reply))
    value, low, high = ceilings.break_even_interval(once, baseline_once, own, other)
    assert value == ceilings.break_even(once, baseline_once, own.value, other.value)
    assert infinite(low) <= infinite(value) <= infinite(high)
    point = ceilings.break_even_interval(once, baseline_once, Estimate(own.value), Estimate(other.value))
    assert point == (value, value, value)


@few
@given(times, times, st.lists(times, max_size=3), times, times, st.integers(3, 50))
def test_costs_that_come_once_and_warm_replies_make_the_whole_time(import_s, load_s, early, reply, quantize, replies):
    once = ceilings.once_s(import_s, load_s, early, reply, quantize)
    whole = quantize + import_s + load_s + sum(early) + (replies - len(early)) * reply
    assert once + replies * reply == pytest.approx(whole, rel=1e-9, abs=1e-6)


@few
@given(st.integers(1, 1000), st.tuples(times, times, times).map(sorted))
def test_seconds_of_a_reply_turn_the_interval_around(tokens, speeds):
    low, middle, high = speeds
    seconds = ceilings.reply_seconds(tokens, Estimate(middle, low, high))
    assert seconds.low <= seconds.value <= seconds.high
    assert seconds.high == tokens / low
    assert ceilings.reply_seconds(tokens, Estimate(middle)) == Estimate(tokens / middle)


# What the probe reads of the machine


def test_the_last_cache_is_counted_once_for_the_cpus_that_share_it(tmp_path):
    for cpu in range(4):
        own, shared = str(cpu), "0-1" if cpu < 2 else "2-3"
        caches = [(1, "Data", 32, own), (1, "Instruction", 32, own), (2, "Unified", 1024, own), (3, "Unified", 16384, shared)]
        for index, (level, kind, size, cpus) in enumerate(caches):
            folder = tmp_path / f"cpu{cpu}" / "cache" / f"index{index}"
            folder.mkdir(parents=True)
            values = {"level": level, "type": kind, "size": f"{size}K", "shared_cpu_list": cpus}
            for name, value in values.items():
                (folder / name).write_text(f"{value}\n")
    assert probe.cpu_cache(tmp_path, {0, 1}) == 16 * 2**20
    assert probe.cpu_cache(tmp_path, {0, 1, 2, 3}) == 32 * 2**20
    assert probe.cpu_cache(tmp_path / "nothing", {0}) == 0
