"""What a study will take, before it starts: time, memory, downloads and disk, from a model of costs fitted to recorded runs. Pure.

A step of decoding takes as long as the device needs to read its bytes, and a fixed cost for each layer that depends on the technique: what
Python, the launching of kernels or a decompression of weights takes. Both were fitted to the runs of costs.csv; `error` says how far such
estimates were from runs that they were not fitted to.
"""

import csv
import functools
import json
import math
import statistics
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from speedgrid import passes
from speedgrid.amounts import duration, size
from speedgrid.architectures import FEED_FORWARD, TIED_UNLESS_TOLD, experts
from speedgrid.known import ITEMS, Machine, Model, Work, of_name
from speedgrid.workload import PLURALS, WORKLOADS

GB = 1e9
# Bytes a weight, scales included, of what quantizes; those of llama.cpp count for all weights, the others for the layers' alone.
GGUF_BYTES = {"f32": 4, "f16": 2, "bf16": 2, "q8_0": 1.0625, "q6_k": 0.82, "q5_k_m": 0.71, "q4_k_m": 0.61, "q4_0": 0.5625, "q3_k_m": 0.49}
# Those of llama.cpp that pack 256 weights together take other forms for rows that are no multiple of that, and Q8_0 for the output.
PACKED_ROW, ODD_ROWS = 256, {"q6_k": 1.0625, "q5_k_m": 0.75, "q4_k_m": 0.6875, "q3_k_m": 0.5625}
BIT_BYTES = {8: 1.01, 4: 0.54, 3: 0.42, 2: 0.30}
SCHEMES = {"int8": 1.01, "int4": 0.54, "fp8": 1.01}
# What a process holds besides weights and cache: of a GPU what PyTorch's allocator gives out for a step, and for engines with an allocator
# of their own the CUDA context and their buffers; of a CPU the libraries, there bitsandbytes and the compiler too, which come later.
GPU_BESIDE = {"vllm": 1.1e9, "llamacpp": 0.7e9, "onnxruntime": 1.0e9}
CPU_BESIDE = {"attention": 0.35e9, "llamacpp": 0.12e9, "onnxruntime": 0.35e9, "vllm": 2.0e9}
PYTORCH_BESIDE = {"cuda": 0.05e9, "cpu": 0.44e9}
BITSANDBYTES_BESIDE, COMPILER_BESIDE = 0.05e9, 0.1e9
# Bytes of each token of a tokenizer in a process: those of 49,152, 128,000 and 256,000 took 54, 136 and 264 MB.
TOKEN_BYTES = 1.05e3
# Engines that map the files of weights into memory.
MAPPING = ("transformers", "transformers_loop", "transformers_legacy")
# Environments: bytes on the disk with PyTorch for a GPU and for a CPU, and the seconds that making one takes once its packages are there;
# those for a CPU are what two cores took. llama.cpp is built besides, for a GPU and for a CPU.
ENVIRONMENTS = {"report": (0.5e9, 0.5e9, 5), "evaluation": (0.7e9, 0.7e9, 20), "vllm": (12e9, 3e9, 30)}
ENVIRONMENT = (7e9, 1.9e9, 15)
BUILDS = {"llamacpp": (420, 85)}
# Packages are downloaded compressed.
PACKED = 0.35
NETWORK = 20e6
# Seconds: of a job's start that no engine is blamed for, of the job that probes, of those that tabulate and write the page; and of
# learning a token in training on two cores.
JOB_S, PROBE_S, REPORT_S, TRAINED_TOKEN_S = 2.5, 20, 6, 5e-4
# Bytes a second of making a checkpoint; to convert and then to quantize a GGUF file takes four times as long.
WRITTEN, GGUF_TIMES = 0.5e9, 4
# The factor within which the whole time of a cell was for 21 of 27 that nobody had seen before, on a quiet machine; where others used the
# processor beside the GPU, for 6 of 21 (docs/performance.md).
CELL_ERROR = 1.5
# Seconds of any run that measures something.
FIXED_S = PROBE_S + REPORT_S
# Share of a device's rate of matrix products that scoring text reaches.
SCORING_SHARE = 0.35
# First replies of a technique that its compiling for quality takes: twice, once for the windows of a text and once, with sizes left open,
# for the sequences that are held against the unmodified model, which the requests of tasks take, too. Median of 1.8 (a static cache on two
# cores), 2.2 and 3.3 (torchao and a loop on an H200). And what is compiled there (engines/transformers.py).
SCORING_FIRSTS, SCORING_COMPILED = 2.2, ("static_cache", "loop", "forward")
# Engines whose later processes are none of PyTorch's.
OWN_PROCESS = ("vllm", "llamacpp", "onnxruntime")
# Tokens of a long text that take as long as a request of a task, which is scored together with others; and requests of an item, of tasks
# with choices.
REQUEST_TOKENS, REQUESTS = 25, 4


@dataclass
class Estimate:
    """What a study takes. Seconds and bytes; `further_s` at most for further runs of what is open then; `peak_pages` are those bytes of the
    peak that the system can take back; `not_fitting` are (technique, bytes) of cells that will likely not fit; `nouns` are what their runs
    are called."""

    seconds: float = 0
    further_s: float = 0
    first_s: float = 0
    download: float = 0
    disk: float = 0
    environments: list[str] = field(default_factory=list)
    peak: float = 0
    peak_pages: float = 0
    peak_of: str = ""
    cells: int = 0
    not_fitting: list[tuple[str, float]] = field(default_factory=list)
    nouns: set[str] = field(default_factory=set)


# A model, from its configuration


def of_config(config: Mapping, dtype: str = "", parameters: int = 0) -> Model:
    """A model of a configuration of transformers; its parameters are counted from the shapes where they are not known.

    Raises KeyError where the configuration does not say its sizes.
    """
    told = config.get("text_config") or config
    if told.get("model_type") == "resnet":
        return of_convolutions(told, dtype)
    width = told.get("hidden_size") or told.get("n_embd") or told["d_model"]
    layers = told.get("num_hidden_layers") or told.get("n_layer") or told["num_layers"]
    heads = told.get("num_attention_heads") or told.get("n_head") or told["num_heads"]
    kv_heads = told.get("num_key_value_heads") or heads
    head = told.get("head_dim") or width // heads
    patch = told.get("patch_size")
    vocabulary = 0 if patch else told["vocab_size"]
    embedding = vocabulary * width
    is_tied = told.get("tie_word_embeddings", config.get("tie_word_embeddings", told.get("model_type") in TIED_UNLESS_TOLD))
    inner = told.get("intermediate_size") or told.get("n_inner") or 4 * width
    matrices = FEED_FORWARD.get(told.get("model_type", ""), 2 if told.get("model_type") in ("falcon", "bloom") else 3)
    routed, taken = experts(told)
    expert = told.get("moe_intermediate_size") or inner
    # Experts that every token takes, and the first layers, which may have none.
    shared = told.get("shared_expert_intermediate_size") or expert * (told.get("n_shared_experts") or 0) if routed else 0
    dense = (told.get("first_k_dense_replace") or 0) if routed else layers
    feed_forward = matrices * width * (dense * inner + (layers - dense) * (routed * expert + shared)) + (layers - dense) * routed * width
    count = parameters or layers * _attention(told, width, heads, kv_heads, head) + feed_forward + embedding * (1 if is_tied else 2)
    kind = dtype or str(told.get("dtype") or told.get("torch_dtype") or config.get("dtype") or config.get("torch_dtype") or "float32")
    return Model(
        parameters=count,
        layers=layers,
        kv_width=heads * _head_of_latent_attention(told) if told.get("kv_lora_rank") else kv_heads * head,
        embedding=embedding * (1 if is_tied else 2),
        item=ITEMS.get(kind, 2),
        width=width,
        inner=expert * taken + shared if routed else inner,
        vocabulary=vocabulary,
        tokens=vocabulary,
        heads=heads,
        pixel_tokens=1 / patch**2 if patch else 0,
    )


def _attention(told: Mapping, width: int, heads: int, kv_heads: int, head: int) -> int:
    """Weights of a layer's attention: of four matrices, or of latent attention (DeepSeek-V2, 2024), which has them in two factors."""
    if not (latent := told.get("kv_lora_rank")):
        return 2 * width * head * (heads + kv_heads)
    plain, turned, value = (told.get(name) or 0 for name in ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim"))
    asked = heads * (plain + turned)
    queries = told["q_lora_rank"] * (width + asked) if told.get("q_lora_rank") else width * asked
    return queries + width * (latent + turned) + latent * heads * (plain + value) + heads * value * width


def _head_of_latent_attention(told: Mapping) -> int:
    """Width of a head's keys or values in the cache of latent attention, which transformers keeps unfolded: half of both."""
    return sum(told.get(name) or 0 for name in ("qk_nope_head_dim", "qk_rope_head_dim", "v_head_dim")) // 2


def of_convolutions(config: Mapping, dtype: str = "") -> Model:
    """A ResNet of a configuration of transformers, or of its defaults, which are ResNet-50 (He et al., 2015)."""
    width, sizes = config.get("embedding_size", 64), config.get("hidden_sizes", (256, 512, 1024, 2048))
    is_bottleneck = config.get("layer_type", "bottleneck") == "bottleneck"
    # Inputs, outputs, side of the kernel, and the places of a result for each pixel.
    convolutions = [(config.get("num_channels", 3), width, 7, 1 / 4)]
    place = 1 / 16
    for stage, (outputs, depth) in enumerate(zip(sizes, config.get("depths", (3, 4, 6, 3)), strict=True)):
        for block in range(depth):
            halves = block == 0 and (stage > 0 or config.get("downsample_in_first_stage", False))
            after, inner = place / 4 if halves else place, outputs // 4
            if is_bottleneck:
                convolutions += [(width, inner, 1, place), (inner, inner, 3, after), (inner, outputs, 1, after)]
            else:
                convolutions += [(width, outputs, 3, after), (outputs, outputs, 3, after)]
            if width != outputs or halves:
                convolutions.append((width, outputs, 1, after))
            width, place = outputs, after
    weights = [inputs * outputs * kernel**2 for inputs, outputs, kernel, _ in convolutions]
    return Model(
        parameters=sum(weights) + sum(2 * one[1] for one in convolutions) + (width + 1) * config.get("num_labels", 2),
        layers=len(convolutions),
        kv_width=0,
        item=ITEMS.get(dtype or "float32", 4),
        width=width,
        pixel_flop=sum(2 * count * one[3] for count, one in zip(weights, convolutions, strict=True)),
        # What a convolution made, which its normalisation reads, and what the activation made, which the next one reads.
        pixel_values=sum(2 * outputs * place for _, outputs, _, place in convolutions),
    )


@functools.cache
def shapes() -> Mapping[str, Mapping]:
    """The published configurations that ship with the project, by name: `architecture`, `parameters`, `dtype` and their `source`."""
    return json.loads(Path(__file__).with_name("shapes.json").read_text(encoding="utf-8"))


# Memory


def weight_bytes(model: Model, work: Work) -> float:
    """Bytes of the loaded weights of a cell."""
    whole = ITEMS[work.dtype]
    transform = work.transform or {}
    method, layers = transform.get("method"), model.parameters - model.embedding
    if method == "gguf":
        if transform["type"] == "original":
            own = sum(size for size, _ in transform.get("files", {}).values())
            return own or model.gguf_bytes or model.parameters * GGUF_BYTES["q4_k_m"]
        return _gguf_bytes(model, transform["type"])
    if method == "prune":
        kept = 1 - transform["share"]
        return whole * (model.embedding + kept * layers)
    if method == "distill":
        return whole * model.parameters * transform["size"]
    if method == "onnx":
        return model.parameters * (1.2 if transform.get("quantization") == "dynamic_int8" else 4)
    each = SCHEMES.get(transform.get("scheme", "")) or BIT_BYTES.get(transform.get("bits", 0))
    if work.options.get("quantization") == "fp8":
        each = SCHEMES["fp8"]
    return whole * model.embedding + (each or whole) * layers


def packs(model: Model, kind: str) -> bool:
    """Whether llama.cpp has rows of a model to pack in a form; a file without any is not what its name says (engines/llamacpp.py). Q3_K_M
    packs what leads out of a feed-forward block in another form anyway."""
    rows = (model.width,) if kind.startswith("q3_k") else (model.width, model.inner)
    return kind not in ODD_ROWS or any(row % PACKED_ROW == 0 for row in rows)


def _gguf_bytes(model: Model, kind: str) -> float:
    """Bytes of a form of llama.cpp."""
    each = GGUF_BYTES.get(kind, 0.7)
    if kind not in ODD_ROWS or model.width % PACKED_ROW == 0:
        return model.parameters * each
    # The rows of what leads out of a feed-forward block are as long as that is wide.
    packed = 0 if model.inner % PACKED_ROW else model.layers * model.width * model.inner
    output = model.vocabulary * model.width
    return GGUF_BYTES["q8_0"] * output + each * packed + ODD_ROWS[kind] * (model.parameters - output - packed)


def cache_bytes(model: Model, work: Work) -> float:
    """Bytes of the KV cache at the end of a reply."""
    item = 2 if work.engine == "llamacpp" else ITEMS[work.dtype]
    return 2.0 * model.layers * model.kv_width * (work.prompt + work.new_tokens) * work.batch * item


def memory(model: Model, work: Work, is_gpu: bool) -> float:
    """The most bytes that a cell needs while it replies: of the device, or of the process on a CPU."""
    return 1.01 * weight_bytes(model, work) + cache_bytes(model, work) + _beside(model, work, is_gpu)


def _beside(model: Model, work: Work, is_gpu: bool) -> float:
    """Bytes that a process of the engine holds besides weights and cache."""
    if is_gpu:
        return GPU_BESIDE.get(work.engine, PYTORCH_BESIDE["cuda"])
    libraries = CPU_BESIDE.get(work.engine, PYTORCH_BESIDE["cpu"])
    libraries += BITSANDBYTES_BESIDE * ((work.transform or {}).get("method") == "bitsandbytes")
    libraries += COMPILER_BESIDE * bool(work.options.get("compile"))
    return libraries + TOKEN_BYTES * model.tokens


def _pages(model: Model, work: Work, machine: Machine) -> float:
    """Bytes of a checkpoint's file that a process on a CPU is seen to hold beside the weights that were copied from them. Weights that stay
    as they are in the file are its pages, and no copies; the system takes pages back where memory is short."""
    transform = work.transform or {}
    if machine.is_gpu or work.engine not in MAPPING:
        return 0.0
    if not transform and round(model.item) in ITEMS.values() and round(model.item) != ITEMS[work.dtype]:
        return model.parameters * model.item
    if transform.get("method") == "torchao":
        # engines/transformers.py copies them out.
        return weight_bytes(model, work)
    if transform.get("method") == "bitsandbytes" and transform.get("bits") == 4 and machine.lays_out_anew:
        return BIT_BYTES[4] * (model.parameters - model.embedding)
    return 0.0


# Time


@dataclass(frozen=True)
class Cost:
    """What a technique costs besides reading bytes: seconds a layer and step; of a first process until the model is loaded, and a layer of
    its first reply; and of each later process beside its replies, where what was compiled is there already."""

    layer_s: float
    start_s: float
    first_layer_s: float
    again_s: float


@functools.cache
def recorded() -> tuple[dict, ...]:
    """The runs that costs are fitted to."""
    with open(Path(__file__).with_name("costs.csv"), encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    return tuple(
        {name: text if name in ("machine", "device", "technique") else float(text or "nan") for name, text in row.items()} for row in rows
    )


def cost(technique: str, device: str, rows: Iterable[Mapping]) -> Cost | None:
    """The cost of a technique on a kind of device, `cuda` or `cpu`: medians over the recorded runs; None where there are none."""
    own = [row for row in rows if row["technique"] == technique and row["device"] == device]
    if not own:
        return None

    def middle(values: Iterable[float]) -> float:
        known = [value for value in values if not math.isnan(value)]
        return statistics.median(known) if known else float("nan")

    return Cost(
        middle(max(0.0, row["step_s"] - row["step_bytes"] / row["bandwidth"]) / row["layers"] for row in own),
        middle(row["start_s"] for row in own),
        middle(row["first_s"] / row["layers"] for row in own),
        middle(row["again_s"] for row in own),
    )


def like(work: Work) -> str:
    """The technique whose recorded costs stand for one that has none."""
    if work.engine in OWN_PROCESS:
        return {"vllm": "vllm", "llamacpp": "gguf_original", "onnxruntime": "baseline"}[work.engine]
    if work.engine == "transformers_loop":
        return "torchao_int4_loop" if work.transform else "torch_compile_loop"
    if work.options.get("compile") in ("static_cache", "forward"):
        return "torch_compile"
    if work.options.get("use_cache") is False:
        return "no_kv_cache"
    if (work.transform or {}).get("bits") == 8:
        return "bnb_int8"
    return "bnb_nf4" if work.transform and work.transform["method"] in ("bitsandbytes", "gptqmodel", "torchao", "autogptq") else "baseline"


def cost_of(work: Work, is_gpu: bool) -> Cost:
    """The cost of a cell's technique; of the one most like it, or of the baseline, where none was recorded."""
    return _cost_of((work.technique, like(work), "baseline"), "cuda" if is_gpu else "cpu")


@functools.cache
def _cost_of(names: Sequence[str], device: str) -> Cost:
    found = [one for name in names if (one := cost(name, device, recorded()))]
    base = found[-1]

    def known(name: str) -> float:
        return next((value for one in (*found, base) if not math.isnan(value := getattr(one, name))), getattr(base, name))

    return Cost(known("layer_s"), known("start_s"), known("first_layer_s"), known("again_s"))


def step_s(model: Model, work: Work, machine: Machine) -> float:
    """Seconds of one decoding step."""
    read = weight_bytes(model, work) + cache_bytes(model, work)
    return read / machine.reads + model.layers * cost_of(work, machine.is_gpu).layer_s


def reply_s(model: Model, work: Work, machine: Machine) -> float:
    """Seconds of a reply; without a cache each step computes all tokens before it again."""
    token_s, step = 2.0 * model.parameters * work.batch / (SCORING_SHARE * machine.computes(work.dtype)), step_s(model, work, machine)
    if work.options.get("use_cache") is False:
        return work.new_tokens * (step + token_s * (work.prompt + work.new_tokens / 2))
    return max(work.prompt * token_s, step) + (work.new_tokens - 1) * step


def start_s(model: Model, work: Work, machine: Machine) -> float:
    """Seconds until a job's model is loaded."""
    return JOB_S + cost_of(work, machine.is_gpu).start_s


def series(model: Model, work: Work, machine: Machine) -> list[passes.Run]:
    """A run of each size that a cell tries, in this order: seconds, and the most bytes held. A cell without sizes has one."""
    if _replies(work):
        lengths = work.settings.get("lengths") or [work.new_tokens]
        longer = [replace(work, new_tokens=length) for length in lengths]
        return [passes.Run(reply_s(model, one, machine), memory(model, one, machine.is_gpu)) for one in longer]
    beside = _beside(model, work, machine.is_gpu)
    return [replace(run, held=run.held + beside) for run in passes.series(model, work, machine)]


def _replies(work: Work) -> bool:
    """Whether a cell's runs are replies; else they are steps or passes (passes.py)."""
    return WORKLOADS[work.workload].noun == "reply"


def needed(model: Model, work: Work, machine: Machine) -> float:
    """The most bytes that a cell needs: at the largest size that fits, or at the first one where none does."""
    tried = series(model, work, machine)
    room = min(passes.room(machine), work.settings.get("memory_budget") or math.inf)
    return max((run.held for run in tried if run.held <= room), default=tried[0].held)


def held(model: Model, work: Work, machine: Machine) -> float:
    """The most bytes that a cell will be seen to hold, while it loads or later: on a CPU that may be more than it needs."""
    loading = _beside(model, work, machine.is_gpu) + weight_bytes(model, work) + _pages(model, work, machine) if _replies(work) else 0.0
    return max(needed(model, work, machine), loading)


def measuring_s(model: Model, work: Work, machine: Machine) -> float:
    """Seconds of the cold start of a cell, its runs, and what makes its checkpoint."""
    if not work.runs and not work.begins:
        return 0.0
    tried, cost = series(model, work, machine), cost_of(work, machine.is_gpu)
    if _replies(work):
        first, again = model.layers * cost.first_layer_s, cost.again_s
    else:
        first = passes.first_s(model, work)
        again = start_s(model, work, machine) + passes.AGAIN * first + passes.PROOF_S + passes.PROOF_RUNS * tried[0].seconds
    run = again + (work.replies + work.warmup_replies) * sum(one.seconds for one in tried)
    cold = making_s(model, work, machine) + start_s(model, work, machine) + first if work.begins else 0.0
    return cold + work.runs * run


def making_s(model: Model, work: Work, machine: Machine) -> float:
    """Seconds of making a cell's checkpoint. Training takes most of them where there is any: six operations for each weight of the student
    and token, and two of its teacher."""
    transform = work.transform or {}
    if not transform or transform.get("type") == "original":
        return 0.0
    learnt = (transform.get("recovery") or transform.get("train") or {}).get("tokens", 0)
    learning = 8.0 * model.parameters * learnt / (SCORING_SHARE * machine.computes(work.dtype))
    start, written = _cost_of(("baseline",), "cuda" if machine.is_gpu else "cpu").start_s, model.parameters * model.item / WRITTEN
    if transform["method"] == "gguf":
        # A process that converts, and one that quantizes.
        start, written = 2 * start, GGUF_TIMES * written
    return JOB_S + start + written + learning


def between_bytes(model: Model, work: Work) -> float:
    """Bytes that lie on the disk while a checkpoint is made, and not after: llama.cpp quantizes from a whole GGUF file."""
    transform = work.transform or {}
    is_quantized = transform.get("method") == "gguf" and transform["type"] not in ("original", "f32", "f16", "bf16")
    return model.parameters * model.item if is_quantized else 0.0


def scoring_s(model: Model, work: Work, machine: Machine) -> float:
    """Seconds of a cell's quality."""
    if not work.scored_tokens and not work.requests:
        return 0.0
    requests = 0 if work.is_lossless and not work.is_baseline else work.requests
    tokens = work.scored_tokens + requests * REQUEST_TOKENS
    computing = 2.0 * model.parameters * tokens / (SCORING_SHARE * machine.computes(work.dtype))
    cost, plain = cost_of(work, machine.is_gpu), _cost_of(("baseline",), "cuda" if machine.is_gpu else "cpu")
    # Quantized weights are unpacked for each pass, however many tokens it has.
    unpacked = (requests / 8 + work.scored_tokens / 512) * model.layers * cost.layer_s
    # A process takes more than its loading: the first pass, and what looks whether a technique is active.
    begun = JOB_S + max(cost.start_s, cost.again_s if work.engine in OWN_PROCESS else plain.again_s)
    compiles = work.options.get("compile") in SCORING_COMPILED
    return begun + computing + unpacked + compiles * SCORING_FIRSTS * model.layers * cost.first_layer_s


def environment_s(name: str, is_gpu: bool) -> float:
    """Seconds of making an environment: its packages are downloaded and put in place, and what has none is built."""
    on_gpu, on_cpu, making = ENVIRONMENTS.get(name, ENVIRONMENT)
    on_gpu_s, on_cpu_s = BUILDS.get(name, (0, 0))
    return PACKED * (on_gpu if is_gpu else on_cpu) / NETWORK + making + (on_gpu_s if is_gpu else on_cpu_s)


def preparing_s(model: Model) -> float:
    """Seconds until a model is there: downloaded, written out or trained."""
    return model.download / NETWORK + (model.written or model.download) / 0.15e9 + model.train_tokens * TRAINED_TOKEN_S + 15


def cell_s(model: Model, work: Work, machine: Machine) -> float:
    """Seconds of a cell with its quality; none where it will likely not fit, which takes no time."""
    if needed(model, work, machine) > machine.room:
        return 0.0
    return measuring_s(model, work, machine) + scoring_s(model, work, machine)


# A study


def study(
    cells: Sequence[tuple[Model, Work]], models: Sequence[Model], environments: Iterable[str], machine: Machine, is_probed: bool = False
) -> Estimate:
    """What it takes to measure `cells`, each with its model; `models` are those to prepare, `environments` those that the study uses.
    `is_probed` is whether it is known already what the device can do."""
    found = Estimate(cells=len(cells), nouns={WORKLOADS[work.workload].noun for _, work in cells})
    found.environments = sorted(set(environments) - machine.made)
    for name in found.environments:
        on_gpu, on_cpu, _ = ENVIRONMENTS.get(name, ENVIRONMENT)
        takes = on_gpu if machine.is_gpu else on_cpu
        found.disk += takes
        found.download += PACKED * takes
        found.first_s += environment_s(name, machine.is_gpu)
    for model in models:
        found.download += model.download
        found.disk += model.download + model.written
    found.first_s += PROBE_S if cells and not is_probed else 0
    found.seconds = found.first_s + sum(map(preparing_s, models)) + (REPORT_S if cells else 0)
    is_first, between = True, 0.0
    for model, work in cells:
        needs, peak = needed(model, work, machine), held(model, work, machine)
        if peak > found.peak:
            found.peak, found.peak_pages, found.peak_of = peak, peak - needs, work.technique
        if needs > machine.room:
            found.not_fitting.append((work.technique, needs))
            continue
        if is_first:
            # Other models are prepared, and further runs made, when it is there.
            found.first_s += preparing_s(model) * (model in models) + measuring_s(model, replace(work, runs=min(1, work.runs)), machine)
            is_first = False
        found.seconds += measuring_s(model, work, machine) + scoring_s(model, work, machine)
        if work.begins and work.transform and work.transform.get("type") != "original":
            found.disk += weight_bytes(model, work)
            between = max(between, between_bytes(model, work))
    found.disk += between
    return found


def together(one: Estimate, other: Estimate) -> Estimate:
    """What the cells of two devices take, one device after the other; the first figure and the memory are those of the first."""
    return replace(
        one,
        seconds=one.seconds + other.seconds,
        download=one.download + other.download,
        disk=one.disk + other.disk,
        environments=sorted({*one.environments, *other.environments}),
        cells=one.cells + other.cells,
        not_fitting=one.not_fitting + other.not_fitting,
        nouns=one.nouns | other.nouns,
    )


def error(device: str) -> float:
    """The factor within which estimates of a step were of recorded runs, for nine of ten, with costs fitted to those of other models; on a
    kind of device, `cuda` or `cpu`. NaN where no technique was recorded on two models."""
    ratios = []
    for row in recorded():
        if row["device"] != device:
            continue
        others = [other for other in recorded() if other["layers"] != row["layers"]]
        fitted = cost(row["technique"], row["device"], others)
        if fitted and not math.isnan(fitted.layer_s):
            estimate = row["step_bytes"] / row["bandwidth"] + row["layers"] * fitted.layer_s
            ratios.append(abs(math.log(estimate / row["step_s"])))
    return math.exp(sorted(ratios)[math.ceil(0.9 * len(ratios)) - 1]) if ratios else float("nan")


def sure(found: Estimate, machine: Machine) -> str:
    """How far such estimates were from what was measured."""
    kind = "cuda" if machine.is_gpu else "cpu"
    factor = error(kind)
    told = (
        ["speed estimates are unproven" if math.isnan(factor) else f"speed estimates are within a factor of {factor:.1f}"]
        if "reply" in found.nouns
        else []
    )
    # Cells were held against their estimates on GPUs alone, but for few.
    if told and machine.is_gpu and not math.isnan(factor):
        told.append(f"those of the time of most cells within a factor of {CELL_ERROR:g} on a quiet machine")
    others = sorted(PLURALS[noun] for noun in found.nouns - {"reply"})
    known = f"within a factor of {passes.GPU_ERROR:.1f}" if machine.is_gpu else "a rough guess, as none were recorded on a processor"
    told += [f"{'those of' if told else 'estimates of'} {' and '.join(others)} {'' if told else 'are '}{known}"] if others else []
    return ", ".join(told)


def lines(found: Estimate, machine: Machine, free: float = math.inf) -> list[str]:
    """An estimate in words, a line for each thing; `free` are the bytes of this machine's disk that are."""
    sheet = of_name(machine.name)
    taken = f"a GPU that reads {sheet.reads / GB:.0f} GB/s"
    if machine.is_here:
        on = ""
    elif machine.name and sheet.is_guessed:
        on = f", on {machine.name}, of which no data sheet is known here: taken for {taken}"
    else:
        on = f", on {machine.name or taken}, which is not here"
    # Rounded, but to no less.
    step = 10 if found.further_s < 60 else 60
    most = duration(step * math.ceil(found.further_s / step))
    further = f"; then at most {most} for further runs of what is open" if found.further_s else ""
    told = [f"time      {about(found.seconds)}, the first figure after {about(found.first_s)}{on}{further}"]
    told += lines_of_files(found, machine, free)
    where = f", of {size(machine.memory)} of {'the GPU' if machine.is_gpu else 'the machine'}" if machine.is_here else " of the GPU"
    pages = f"; {size(found.peak_pages)} of that is page cache, which the system can take back" if found.peak_pages >= 1e8 else ""
    told.append(f"memory    at most about {size(found.peak)} ({found.peak_of}){where}{pages}")
    if found.not_fitting:
        told.append("will likely not fit: " + ", ".join(f"{name} ({size(needs)})" for name, needs in found.not_fitting))
    return told


def lines_of_files(found: Estimate, machine: Machine, free: float = math.inf) -> list[str]:
    """Of these what is downloaded and written to disk."""
    made = f", {len(found.environments)} environment{'s' * (len(found.environments) != 1)} to make ({', '.join(found.environments)})"
    download = f"about {size(found.download)}" if found.download else "nothing"
    told = [f"download  {download}{made if found.environments else ''}"]
    room = f", of {size(free)} that are free here" if machine.is_here and math.isfinite(free) else ""
    lacking = ": too little, so free some first" if room and found.disk > free else ""
    told.append(f"disk      about {size(found.disk)}{room}{lacking}" if found.disk >= 1e6 else "disk      next to nothing")
    return told


def about(seconds: float) -> str:
    """An estimated time in words: no seconds but tens of them."""
    return f"about {duration(max(10, round(seconds, -1)))}"
