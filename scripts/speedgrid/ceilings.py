"""What the hardware allows a cell: the bytes and operations that its model needs, the least time they take, and what the cell took. Pure.

Two phases are judged apart. *Prefill* reads the prompt at once; *decode* gives one token to every sequence in a step. What is needed:

- Weights: each is read once in a pass, in the format that it has when loaded. Of an embedding table one row a token is read, unless the
  table is the output head too.
- KV cache: a step reads the keys and values of every earlier position that its layers attend to, and writes one more.
- Operations: a multiplication and an addition for each weight of a linear layer and token (2 FLOP), and for each pair of positions that
  attend to each other 4 · heads · head size in each layer. The output head works on the last position alone, as engines do.

Not counted, because a good engine keeps it small or in the chip: activations, norms, rotary embedding, softmax, sampling, the logits. So
the times are lower bounds, and nothing that reads all weights for every token can be faster.

The least time is that of the roofline (S. Williams, A. Waterman, D. Patterson, "Roofline", Communications of the ACM 52(4), 2009): the
longer one of bytes / bandwidth and operations / rate, with the bandwidth and rates that the job `probe` measured on the device.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from speedgrid import checkpoints
from speedgrid.architectures import FEED_FORWARD, TIED_UNLESS_TOLD
from speedgrid.stats import Estimate

# From this multiple of the roofline's time on, a cell is bound by overhead. Bytes and operations need at most twice that time even if
# nothing of them overlaps: the sum of two times is at most twice the longer one. What is beyond is spent on neither: launches of kernels,
# Python, waiting, conversion of number formats, or kernels that are far from the device's rates.
OVERHEAD = 2.0
# The probe's own figures repeat within a few per cent; a cell that is faster than its ceiling by more has another explanation.
TOLERANCE = 0.05

BOUNDS = {
    "memory": "moving weights and KV cache takes most of the time; fewer bytes make it faster",
    "compute": "arithmetic takes most of the time; a faster number format or fewer operations make it faster",
    "overhead": "more than half of the time goes neither into memory nor into arithmetic: launches, Python, waiting, slow kernels",
    "cache": "what a step reads fits in the processor's cache, so that the bandwidth of memory is no ceiling",
    "beyond": "faster than the ceiling: several tokens a pass, weights that stay in the cache in part, or a probe that was disturbed",
}

WIDTHS = {"float64": 8, "float32": 4, "float16": 2, "bfloat16": 2, "float8_e4m3fn": 1, "float8_e5m2": 1, "int8": 1}
# Formats that hold every value of the one before, so that its arithmetic may be done in them: on a processor without bfloat16 of its own
# the fastest way is float32.
WIDER = {
    "float32": ("float32",),
    "bfloat16": ("bfloat16", "tf32", "float32"),
    "float16": ("float16", "tf32", "float32"),
    "tf32": ("tf32", "float32"),
    "int8": ("int8", "float16", "bfloat16", "tf32", "float32"),
    "float8_e4m3fn": ("float8_e4m3fn", "float16", "bfloat16", "tf32", "float32"),
}

# Tensors of which a pass takes single rows; those that are masks and tables of old checkpoints; and the output head.
LOOKUPS = ("embed_tokens.weight", "wte.weight", "wpe.weight", "embed_positions.weight", "embed_in.weight")
NOT_READ = (
    ".attn.bias",
    ".attention.bias",
    ".masked_bias",
    ".inv_freq",
    ".quant_state.bitsandbytes__nf4",
    ".quant_state.bitsandbytes__fp4",
)
HEADS = ("lm_head.weight", "embed_out.weight")
FLOATS = ("F64", "F32", "F16", "BF16")
# A loaded model this much smaller than its checkpoint was quantized while it was loaded. Some engines state it in hundredths of a GiB.
SHRUNK, SHRUNK_BYTES = 0.75, 2**24


class UnknownModel(ValueError):
    """An architecture whose needs are not known here; the message is one line."""


@dataclass(frozen=True)
class Shape:
    """What of a model's configuration decides what it needs. Counts of weights; `windows` has for each layer how many positions it
    attends to at most, or None for all."""

    heads: int
    kv_heads: int
    head_dim: int
    # Weights of all linear layers, the output head apart, which works on the last position alone.
    linear: int
    head: int
    # Weights of the tables of which rows are read, and how many weights of them a token reads.
    lookups: int
    row: int
    windows: tuple[int | None, ...]

    @property
    def parameters(self) -> int:
        """Weights without norms and biases."""
        return self.linear + self.head + self.lookups


@dataclass(frozen=True)
class Work:
    """What one pass needs: bytes moved between memory and processor, and operations (FLOP; of int8 likewise)."""

    bytes: float
    flop: float


@dataclass(frozen=True)
class Limits:
    """What a device was seen to do: bytes a second of its memory, operations a second of each number format, and bytes a second of reading
    working sets that fit in its cache, smallest set first. `cache` is that cache in bytes, 0 where unknown."""

    bandwidth: float
    rates: Mapping[str, float]
    cache: int = 0
    cache_bandwidths: tuple[tuple[int, float], ...] = ()

    def bandwidth_for(self, working_set: float) -> float:
        """Bytes a second at which a working set of this many bytes can be read again and again; infinite where the cache's was not seen."""
        if working_set > self.cache:
            return self.bandwidth
        if not self.cache_bandwidths:
            return math.inf
        # Up to the next smaller set that was seen; and what was seen of a larger one holds for this one all the more.
        least = max((size for size, _ in self.cache_bandwidths if size <= working_set), default=0)
        return max(self.bandwidth, *(rate for size, rate in self.cache_bandwidths if size >= least))

    def rate(self, arithmetic: str) -> float:
        """Operations a second for numbers of this format: the best of the formats that hold them. Raises KeyError where none was seen."""
        seen = [self.rates[name] for name in WIDER.get(arithmetic, ()) if name in self.rates]
        if not seen:
            raise KeyError(f"the device's rate for {arithmetic} was not measured")
        return max(seen)


@dataclass(frozen=True)
class Judgement:
    """How close a pass came to what the device allows. `mbu` and `mfu` are shares of the device's bandwidth and rate; neither is clipped
    at 1. `bound` is one of BOUNDS; `headroom` how many times faster it could still be."""

    mbu: float
    mfu: float
    bound: str
    headroom: float


# What a model needs


def shape(config: Mapping) -> Shape:
    """The shape of a model by its configuration, as config.json has it or, better, with every default filled in.

    Raises UnknownModel for an architecture that is not known here: a wrong ceiling is worse than none.
    """
    kind = config.get("model_type", "")
    if kind not in FEED_FORWARD:
        raise UnknownModel(f"what a model of type {kind or 'unknown'} needs is not known here")
    if kind.startswith("gemma") and not config.get("head_dim"):
        raise UnknownModel(f"the configuration of this {kind} leaves out head_dim")
    if kind == "gpt2":
        layers, hidden, heads = config["n_layer"], config["n_embd"], config["n_head"]
        inner, positions = config.get("n_inner") or 4 * hidden, config["n_positions"]
    elif kind == "opt":
        layers, hidden, heads = config["num_hidden_layers"], config["hidden_size"], config["num_attention_heads"]
        inner, positions = config["ffn_dim"], config["max_position_embeddings"] + 2
    else:
        layers, hidden, heads = config["num_hidden_layers"], config["hidden_size"], config["num_attention_heads"]
        inner, positions = config["intermediate_size"], 0
    kv_heads = config.get("num_key_value_heads") or heads
    head_dim = config.get("head_dim") or hidden // heads
    embedded = config.get("word_embed_proj_dim") or hidden
    projections = 2 * embedded * hidden if embedded != hidden else 0
    attention = 2 * hidden * heads * head_dim + 2 * hidden * kv_heads * head_dim
    table = config["vocab_size"] * embedded
    tied = config.get("tie_word_embeddings")
    tied = kind in TIED_UNLESS_TOLD if tied is None else tied
    return Shape(
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        linear=layers * (attention + FEED_FORWARD[kind] * hidden * inner) + projections,
        head=table,
        lookups=(0 if tied else table) + positions * hidden,
        row=embedded + (hidden if positions else 0),
        windows=windows(config, layers),
    )


def windows(config: Mapping, layers: int) -> tuple[int | None, ...]:
    """For each layer how many positions, its own included, it attends to at most; None for all."""
    width, kind = config.get("sliding_window"), config.get("model_type")
    if not width or config.get("use_sliding_window") is False:
        return (None,) * layers
    told = config.get("layer_types")
    if told:
        return tuple(width if name == "sliding_attention" else None for name in told)
    if kind in ("qwen2", "qwen3"):
        return tuple(width if layer >= config.get("max_window_layers", layers) else None for layer in range(layers))
    if kind in ("gemma2", "gemma3_text"):
        every = config.get("sliding_window_pattern") or (2 if kind == "gemma2" else 6)
        return tuple(width if (layer + 1) % every else None for layer in range(layers))
    return (width,) * layers


def explains(shape: Shape, parameters: int) -> bool:
    """Whether the shape accounts for a model of this many parameters, up to norms and biases; a tied head may be counted twice."""
    return any(abs(parameters - counted) <= 0.05 * parameters for counted in (shape.parameters, shape.parameters + shape.head))


def stored_weights(folder: Path) -> dict[str, tuple[str, int, int]] | None:
    """Format, number of elements and bytes of every tensor of a checkpoint of safetensors; None for one of another format.

    Read from the head of each file, so that the bytes are exact for formats narrower than a byte too.
    """
    found = {}
    for name, tensor in checkpoints.all_tensors(folder).items():
        begin, end = tensor["data_offsets"]
        found[name] = (tensor["dtype"], math.prod(tensor["shape"]), end - begin)
    return found or None


def weights_read(tensors: Mapping[str, tuple[str, int, int]], tied: bool, dtype: str) -> int:
    """Bytes of weights that one pass reads, of a checkpoint's tensors as `stored_weights` gives them.

    Floating-point weights and biases count in `dtype`, which they are loaded in; packed weights and their scales as they are stored.
    """
    total = 0
    for name, (stored, elements, size) in tensors.items():
        positions = name.endswith(("wpe.weight", "embed_positions.weight"))
        table = name.endswith(LOOKUPS) and not positions
        if positions or name.endswith(NOT_READ) or (table and not tied) or (tied and name.endswith(HEADS)):
            continue
        cast = stored in FLOATS and name.endswith((".weight", ".bias"))
        total += elements * WIDTHS[dtype] if cast else size
    return total


def weight_bytes(shape: Shape, dtype: str, read: int | None, model_bytes: int | None, parameters: int | None) -> float | None:
    """Bytes of weights that one pass reads; None where that cannot be known.

    `read`: those of `weights_read`, where the checkpoint is of safetensors; `model_bytes` and `parameters` as the engine says. A model
    that was quantized while it was loaded counts as loaded. Of a checkpoint of another format (GGUF, ONNX) the tables of which rows are
    read are taken out at the mean bytes of a weight, which is right within about 1 %.
    """
    unread = shape.lookups * WIDTHS[dtype]
    if read is not None:
        whole = read + unread
        if model_bytes and model_bytes < SHRUNK * whole and whole - model_bytes > SHRUNK_BYTES:
            return max(model_bytes - unread, 0)
        return read
    if model_bytes and parameters:
        return (parameters - shape.lookups) * min(model_bytes / parameters, WIDTHS[dtype])
    return None


def decode(
    shape: Shape,
    weight_bytes: float,
    prompt: int,
    steps: int,
    batch: int = 1,
    kv_width: float = 2,
    row_width: float = 2,
    cached: bool = True,
) -> Work:
    """What a step of decoding needs, as the mean over the steps of a reply: all but the first of its `steps` tokens, which prefill gives.

    `kv_width` and `row_width`: bytes of a number in the KV cache and in the embedding table. Without a KV cache (`cached` False) every step
    is a pass over all positions.
    """
    contexts = range(prompt + 1, prompt + max(steps, 2))
    if not cached:
        passes = [prefill(shape, weight_bytes, context, batch, 0, row_width) for context in contexts]
        return Work(_mean(work.bytes for work in passes), _mean(work.flop for work in passes))
    seen = _mean(sum(_within(context, window) for window in shape.windows) for context in contexts)
    kept = 2 * shape.kv_heads * shape.head_dim * kv_width
    return Work(
        bytes=weight_bytes + batch * (shape.row * row_width + seen * kept),
        flop=batch * (2 * (shape.linear + shape.head) + 4 * shape.heads * shape.head_dim * seen),
    )


def prefill(
    shape: Shape, weight_bytes: float, prompt: int, batch: int = 1, kv_width: float = 2, row_width: float = 2, causal: bool = True
) -> Work:
    """What reading a prompt needs, up to the logits of its last position. With `causal` False every pair of positions counts, as kernels
    that know nothing of the mask compute it."""
    pairs = sum(_pairs(prompt, window) if causal else prompt**2 for window in shape.windows)
    written = len(shape.windows) * 2 * shape.kv_heads * shape.head_dim * kv_width
    return Work(
        bytes=weight_bytes + batch * prompt * (shape.row * row_width + written),
        flop=batch * (2 * (shape.linear * prompt + shape.head) + 4 * shape.heads * shape.head_dim * pairs),
    )


def training_flop(shape: Shape, tokens: int, batch: int = 1, causal: bool = True) -> float:
    """Operations of one training step: forward with the logits of every position, and twice as many backward. Recomputed activations do
    not count, as is usual for MFU (A. Chowdhery et al., "PaLM", 2022, appendix B)."""
    forward = prefill(shape, 0, tokens, batch, causal=causal).flop + batch * 2 * shape.head * (tokens - 1)
    return 3 * forward


def arithmetic(config: Mapping, dtype: str) -> str:
    """The number format in which the linear layers of a checkpoint multiply: `dtype`, unless its quantization is one of activations too."""
    quantization = config.get("quantization_config") or {}
    method = quantization.get("quant_method")
    if method == "bitsandbytes" and quantization.get("load_in_8bit"):
        return "int8"
    if method in ("fp8", "fbgemm_fp8"):
        return "float8_e4m3fn"
    if method == "compressed-tensors":
        for group in (quantization.get("config_groups") or {}).values():
            inputs = group.get("input_activations") or {}
            if inputs.get("num_bits") == 8:
                return "int8" if inputs.get("type") == "int" else "float8_e4m3fn"
    return dtype


def _within(context: int, window: int | None) -> int:
    return context if window is None else min(context, window)


def _pairs(tokens: int, window: int | None) -> int:
    """Pairs of positions of which the later one attends to the earlier one, or a position to itself."""
    full = _within(tokens, window)
    return full * (full + 1) // 2 + (tokens - full) * full


def _mean(values: Iterable[float]) -> float:
    gathered = list(values)
    return sum(gathered) / len(gathered)


# What a device allows, and how close a cell came


def limits(rows: Sequence[Mapping], facts: Mapping) -> Limits | None:
    """The limits of a device by the rows and facts of schema.PROBE; None where the probe has no figures.

    A ceiling takes the best of what was seen. Decode writes next to nothing, so that its ceiling is the rate of reading alone; a copy that
    was faster, both directions counted, shows that the memory can do more than the kernels that only read, and counts instead.
    """
    there = [row for row in rows if row["status"] == "ok"]
    memory = [row["best"] for row in there if row["kind"] in ("read", "copy")]
    if not memory:
        return None
    rates: dict[str, float] = {}
    for row in there:
        if row["kind"] == "gemm":
            rates[row["dtype"]] = max(row["best"], rates.get(row["dtype"], 0))
    inner = sorted((row["size"], row["best"]) for row in there if row["kind"] == "cache")
    return Limits(max(memory), rates, facts.get("cache_bytes") or 0, tuple(inner))


def judge(work: Work, seconds: float, limits: Limits, arithmetic: str) -> Judgement:
    """How close a pass that took `seconds` came to the device's limits. Raises KeyError where the rate of the format was not measured."""
    moving, computing = work.bytes / limits.bandwidth, work.flop / limits.rate(arithmetic)
    in_cache = work.bytes <= limits.cache
    reading = work.bytes / limits.bandwidth_for(work.bytes)
    ceiling = max(reading, computing)
    # Where the cache's bandwidth was not seen the memory's stands in for it here. It is lower, so that what takes much longer than it
    # allows is overhead all the more.
    if seconds > OVERHEAD * max(reading or moving, computing):
        bound = "overhead"
    elif in_cache and (reading or moving) > computing:
        bound = "cache"
    elif seconds < ceiling * (1 - TOLERANCE):
        bound = "beyond"
    else:
        bound = "memory" if reading >= computing else "compute"
    return Judgement(moving / seconds, computing / seconds, bound, seconds / ceiling)


# Columns of the summary


def figures(
    config: Mapping,
    dtype: str,
    limits: Limits | None,
    *,
    read: int | None,
    model_bytes: int | None,
    parameters: int | None,
    prompt: int,
    steps: int,
    batch: int,
    ttft_s: float | None,
    tpot_s: float | None,
    cached: bool = True,
    multiplies_in: str = "",
) -> dict:
    """The columns of schema.CEILINGS of a cell; where there are none, `ceiling_reason` says why.

    `config` as the engine read it, every default filled in; `dtype` that of weights and arithmetic; `read` the fact `weights_read`.
    `multiplies_in`: the format in which linear layers multiply, where the checkpoint's configuration does not say.
    """
    if limits is None:
        return {"ceiling_reason": "the device was not probed"}
    try:
        form = shape(config)
        if parameters and not config.get("quantization_config") and not explains(form, parameters):
            raise UnknownModel(f"the configuration explains {form.parameters:,} parameters, the model has {parameters:,}")
        weights = weight_bytes(form, dtype, read, model_bytes, parameters)
        if weights is None:
            return {"ceiling_reason": "the engine does not say how many bytes of weights it loaded"}
        format_ = multiplies_in or arithmetic(config, dtype)
        width = WIDTHS[dtype]
        step = decode(form, weights, prompt, steps, batch, width, width, cached)
        first = prefill(form, weights, prompt, batch, width if cached else 0, width)
        found: dict = {"step_bytes": step.bytes, "step_flop": step.flop, "prefill_bytes": first.bytes, "prefill_flop": first.flop}
        if tpot_s:
            now = judge(step, tpot_s, limits, format_)
            found |= {"mbu": now.mbu, "decode_mfu": now.mfu, "decode_bound": now.bound, "decode_headroom": now.headroom}
        if ttft_s:
            now = judge(first, ttft_s, limits, format_)
            found |= {"mfu": now.mfu, "prefill_bound": now.bound, "prefill_headroom": now.headroom}
    except (UnknownModel, KeyError) as error:
        return {"ceiling_reason": str(error.args[0])}
    return found


def measured_facts(folder: Path, config_json: str, dtype: str) -> dict:
    """What the job `measure` writes down for `figures`: `config` and `weights_read` of the checkpoint that it loaded."""
    config = json.loads(config_json)
    tensors = stored_weights(folder)
    tied = bool(config.get("tie_word_embeddings", config.get("model_type") in TIED_UNLESS_TOLD))
    return {"config": json.dumps(config, sort_keys=True), "weights_read": weights_read(tensors, tied, dtype) if tensors else None}


# Break-even: when a technique has paid for what it costs before it is fast


def once_s(import_s: float, load_s: float, early_s: Sequence[float], reply_s: float, quantize_s: float = 0) -> float:
    """Seconds that a technique costs once: making the checkpoint, import, load, and what its early replies (`early_s`: the first, with
    compilation, and those after it that were timed apart) took more than a warm one. n replies then take this + n · reply_s."""
    return quantize_s + import_s + load_s + sum(early_s) - len(early_s) * reply_s


def reply_seconds(tokens: float, tokens_per_s: Estimate) -> Estimate:
    """Seconds of a reply of `tokens` tokens at a speed; the fast end of the speed's interval gives the short end of this one."""
    low, high = (None if end is None else tokens / end for end in (tokens_per_s.high, tokens_per_s.low))
    return Estimate(tokens / tokens_per_s.value, low, high)


def break_even(once: float, baseline_once: float, reply_s: float, baseline_reply_s: float) -> int | None:
    """After how many replies a technique has taken no longer than the baseline, and never does again. 0: at once; None: never.

    `once` and `baseline_once` are seconds spent once, `reply_s` and `baseline_reply_s` seconds of a reply of the same work. One that starts
    sooner and replies more slowly is ahead only at first: None.
    """
    extra, saved = once - baseline_once, baseline_reply_s - reply_s
    if saved < 0 or (saved == 0 and extra > 0):
        return None
    if extra <= 0:
        return 0
    exact = extra / saved
    if not math.isfinite(exact):
        return None
    # 1.1 s at 0.1 s a reply are 11 replies, though the division gives a little more.
    nearest = round(exact)
    return nearest if math.isclose(exact, nearest, rel_tol=1e-12) else math.ceil(exact)


def break_even_interval(once: float, baseline_once: float, reply_s: Estimate, baseline_reply_s: Estimate) -> tuple[int | None, ...]:
    """`break_even` at the figures, at the best for the technique within both intervals, and at the worst: value, low, high.

    Both ends of two 95 % intervals at once: at least as wide as a 95 % interval. A high end of None is: perhaps never.
    """
    best = (_end(reply_s.low, reply_s), _end(baseline_reply_s.high, baseline_reply_s))
    worst = (_end(reply_s.high, reply_s), _end(baseline_reply_s.low, baseline_reply_s))
    pairs = ((reply_s.value, baseline_reply_s.value), best, worst)
    return tuple(break_even(once, baseline_once, *pair) for pair in pairs)


def _end(end: float | None, estimate: Estimate) -> float:
    return estimate.value if end is None else end
