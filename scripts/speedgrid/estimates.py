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
from dataclasses import dataclass, field
from pathlib import Path

from speedgrid.durations import duration

GB = 1e9
ITEMS = {"float32": 4, "float16": 2, "bfloat16": 2}
# Bytes a second that a device reads, where its probe has not been measured yet: by a part of the driver's name, the first that fits. From
# the data sheets, a tenth taken off, which is what probes reach.
BANDWIDTHS = {
    "H200": 4.4e12,
    "H100 NVL": 3.5e12,
    "H100 PCIE": 1.8e12,
    "H100": 3.0e12,
    "A100": 1.5e12,
    "L40": 0.78e12,
    "L4": 0.27e12,
    "A10": 0.54e12,
    "A40": 0.62e12,
    "A6000": 0.69e12,
    "V100": 0.81e12,
    "T4": 0.29e12,
    "5090": 1.6e12,
    "4090": 0.91e12,
    "4080": 0.65e12,
    "3090": 0.84e12,
    "3080": 0.68e12,
}
# Of a processor: two channels of DDR4-3200, and what two cores of an EPYC reached.
GPU_BANDWIDTH, CPU_BANDWIDTH = 0.6e12, 45e9
# Operations a second in matrix products where the probe has not been measured. Two cores scored a model of 135 million in float32 at about
# 270 tokens a second, which is the share of this that scoring reaches.
GPU_RATE, CPU_RATE = 60e12, 200e9
# Bytes a weight, scales included, of what quantizes; those of llama.cpp count for all weights, the others for the layers' alone.
GGUF_BYTES = {"f32": 4, "f16": 2, "bf16": 2, "q8_0": 1.0625, "q6_k": 0.82, "q5_k_m": 0.71, "q4_k_m": 0.61, "q4_0": 0.5625, "q3_k_m": 0.49}
BIT_BYTES = {8: 1.01, 4: 0.54, 3: 0.42, 2: 0.30}
SCHEMES = {"int8": 1.01, "int4": 0.54, "fp8": 1.01}
# What a process holds besides weights and cache: of a GPU what PyTorch's allocator gives out for a step, and for engines with an allocator
# of their own the CUDA context and their buffers; of a CPU the libraries.
GPU_BESIDE = {"vllm": 1.3e9, "llamacpp": 0.7e9, "onnxruntime": 1.0e9}
CPU_BESIDE = {"llamacpp": 0.18e9, "onnxruntime": 0.35e9, "vllm": 2.0e9}
PYTORCH_BESIDE = {"cuda": 0.06e9, "cpu": 0.55e9}
# What the driver, the CUDA context and others hold of a GPU's memory, so that it is not there for a cell.
GPU_TAKEN = 0.9e9
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
# Seconds of any run that measures something.
FIXED_S = PROBE_S + REPORT_S
# Share of a device's rate of matrix products that scoring text reaches.
SCORING_SHARE = 0.35
# Tokens of a long text that take as long as a request of a task, which is scored together with others; and requests of an item, of tasks
# with choices.
REQUEST_TOKENS, REQUESTS = 25, 4


@dataclass(frozen=True)
class Model:
    """What is known of a model before it is there. `kv_width` is the width of keys of one layer, `item` bytes a weight as it is stored,
    `download` bytes to download; `written` bytes on the disk that are written here."""

    parameters: int
    layers: int
    kv_width: int
    embedding: int = 0
    item: float = 2
    download: float = 0
    written: float = 0
    gguf_bytes: float = 0
    train_tokens: int = 0


@dataclass(frozen=True)
class Machine:
    """Where a study runs. Memory in bytes: of the GPU, or of the machine where there is none."""

    is_gpu: bool
    memory: float
    bandwidth: float = 0
    rate: float = 0
    name: str = ""
    made: frozenset[str] = frozenset()

    @property
    def reads(self) -> float:
        """Bytes a second, measured or by the device's name."""
        if self.bandwidth:
            return self.bandwidth
        if not self.is_gpu:
            return CPU_BANDWIDTH
        return next((rate for part, rate in BANDWIDTHS.items() if part in self.name.upper()), GPU_BANDWIDTH)

    @property
    def computes(self) -> float:
        return self.rate or (GPU_RATE if self.is_gpu else CPU_RATE)

    @property
    def room(self) -> float:
        """The memory that a cell can have."""
        return max(0.0, self.memory - GPU_TAKEN) if self.is_gpu else self.memory


@dataclass(frozen=True)
class Work:
    """A cell to measure: its technique's entry in the registry, with that of its checkpoint's transform, and how much it does."""

    technique: str
    engine: str
    env: str
    dtype: str
    transform: Mapping | None
    options: Mapping
    prompt: int
    new_tokens: int
    batch: int
    replies: int
    warmup_replies: int
    runs: int = 1
    scored_tokens: int = 0
    requests: int = 0
    is_lossless: bool = False
    is_baseline: bool = False


@dataclass
class Estimate:
    """What a study takes. Seconds and bytes; `not_fitting` are (technique, bytes) of cells that will likely not fit."""

    seconds: float = 0
    first_s: float = 0
    download: float = 0
    disk: float = 0
    environments: list[str] = field(default_factory=list)
    peak: float = 0
    peak_of: str = ""
    cells: int = 0
    not_fitting: list[tuple[str, float]] = field(default_factory=list)


# A model, from its configuration


def of_config(config: Mapping, dtype: str = "", parameters: int = 0) -> Model:
    """A model of a configuration of transformers; its parameters are counted from the shapes where they are not known.

    Raises KeyError where the configuration does not say its sizes.
    """
    told = config.get("text_config") or config
    width = told.get("hidden_size") or told.get("n_embd") or told["d_model"]
    layers = told.get("num_hidden_layers") or told.get("n_layer") or told["num_layers"]
    heads = told.get("num_attention_heads") or told.get("n_head") or told["num_heads"]
    kv_heads = told.get("num_key_value_heads") or heads
    head = told.get("head_dim") or width // heads
    embedding = told["vocab_size"] * width
    is_tied = told.get("tie_word_embeddings", config.get("tie_word_embeddings", told.get("model_type") in ("gpt2", "gemma", "gemma2")))
    inner = told.get("intermediate_size") or told.get("n_inner") or 4 * width
    experts = told.get("num_local_experts") or told.get("num_experts") or 1
    matrices = 2 if told.get("model_type") in ("gpt2", "gpt_neox", "opt", "phi", "falcon", "bloom") else 3
    expert = told.get("moe_intermediate_size") or inner
    layer = 2 * width * head * (heads + kv_heads) + matrices * width * (expert * experts if experts > 1 else inner)
    count = parameters or layers * layer + embedding * (1 if is_tied else 2)
    kind = dtype or str(told.get("dtype") or told.get("torch_dtype") or config.get("dtype") or config.get("torch_dtype") or "float32")
    return Model(count, layers, kv_heads * head, embedding * (1 if is_tied else 2), ITEMS.get(kind, 2))


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
            return model.gguf_bytes or model.parameters * GGUF_BYTES["q4_k_m"]
        return model.parameters * GGUF_BYTES.get(transform["type"], 0.7)
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


def cache_bytes(model: Model, work: Work) -> float:
    """Bytes of the KV cache at the end of a reply."""
    item = 2 if work.engine == "llamacpp" else ITEMS[work.dtype]
    return 2.0 * model.layers * model.kv_width * (work.prompt + work.new_tokens) * work.batch * item


def memory(model: Model, work: Work, is_gpu: bool) -> float:
    """The most bytes that a cell will hold while it replies: of the device, or of the process on a CPU."""
    beside = GPU_BESIDE if is_gpu else CPU_BESIDE
    fixed = beside.get(work.engine, PYTORCH_BESIDE["cuda" if is_gpu else "cpu"])
    return 1.01 * weight_bytes(model, work) + cache_bytes(model, work) + fixed


# Time


@dataclass(frozen=True)
class Cost:
    """What a technique costs besides reading bytes: seconds a layer and step, of a process until the model is loaded, and a layer of the
    first reply."""

    layer_s: float
    start_s: float
    first_layer_s: float


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
    )


def like(work: Work) -> str:
    """The technique whose recorded costs stand for one that has none."""
    if work.engine in ("vllm", "llamacpp", "onnxruntime"):
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

    return Cost(known("layer_s"), known("start_s"), known("first_layer_s"))


def step_s(model: Model, work: Work, machine: Machine) -> float:
    """Seconds of one decoding step."""
    read = weight_bytes(model, work) + cache_bytes(model, work)
    return read / machine.reads + model.layers * cost_of(work, machine.is_gpu).layer_s


def reply_s(model: Model, work: Work, machine: Machine) -> float:
    prefill = 2.0 * model.parameters * work.prompt * work.batch / (SCORING_SHARE * machine.computes)
    return max(prefill, step_s(model, work, machine)) + (work.new_tokens - 1) * step_s(model, work, machine)


def start_s(model: Model, work: Work, machine: Machine) -> float:
    """Seconds until a job's model is loaded."""
    return JOB_S + cost_of(work, machine.is_gpu).start_s


def measuring_s(model: Model, work: Work, machine: Machine) -> float:
    """Seconds of the cold start of a cell, its runs, and what makes its checkpoint."""
    first = model.layers * cost_of(work, machine.is_gpu).first_layer_s
    run = start_s(model, work, machine) + first + (work.replies + work.warmup_replies) * reply_s(model, work, machine)
    made = 0.0
    if work.transform and work.transform.get("type") != "original":
        made = start_s(model, work, machine) + model.parameters * model.item / 0.25e9
    return made + start_s(model, work, machine) + first + work.runs * run


def scoring_s(model: Model, work: Work, machine: Machine) -> float:
    """Seconds of a cell's quality."""
    if not work.scored_tokens and not work.requests:
        return 0.0
    requests = 0 if work.is_lossless and not work.is_baseline else work.requests
    tokens = work.scored_tokens + requests * REQUEST_TOKENS
    computing = 2.0 * model.parameters * tokens / (SCORING_SHARE * machine.computes)
    # Quantized weights are unpacked for each pass, however many tokens it has.
    passes = requests / 8 + work.scored_tokens / 512
    return start_s(model, work, machine) + computing + passes * model.layers * cost_of(work, machine.is_gpu).layer_s


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
    if memory(model, work, machine.is_gpu) > machine.room:
        return 0.0
    return measuring_s(model, work, machine) + scoring_s(model, work, machine)


# A study


def study(cells: Sequence[tuple[Model, Work]], models: Sequence[Model], environments: Iterable[str], machine: Machine) -> Estimate:
    """What it takes to measure `cells`, each with its model; `models` are those to prepare, `environments` those that the study uses."""
    found = Estimate(cells=len(cells))
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
        found.first_s += preparing_s(model)
    found.first_s += PROBE_S if cells else 0
    later, is_first = 0.0, True
    for model, work in cells:
        needs = memory(model, work, machine.is_gpu)
        if needs > found.peak:
            found.peak, found.peak_of = needs, work.technique
        if needs > machine.room:
            found.not_fitting.append((work.technique, needs))
            continue
        seconds = measuring_s(model, work, machine)
        found.first_s += seconds if is_first else 0
        later += (0 if is_first else seconds) + scoring_s(model, work, machine)
        is_first = False
        if work.transform and work.transform.get("type") != "original":
            found.disk += weight_bytes(model, work)
    found.seconds = found.first_s + later + (REPORT_S if cells else 0)
    return found


def error(device: str) -> float:
    """The factor within which estimates of a step were of recorded runs that they were not fitted to, for nine of ten; on a kind of device,
    `cuda` or `cpu`. NaN where no technique was recorded on two models."""
    ratios = []
    for row in recorded():
        if row["device"] != device:
            continue
        others = [other for other in recorded() if other["machine"] != row["machine"]]
        fitted = cost(row["technique"], row["device"], others)
        if fitted and not math.isnan(fitted.layer_s):
            estimate = row["step_bytes"] / row["bandwidth"] + row["layers"] * fitted.layer_s
            ratios.append(abs(math.log(estimate / row["step_s"])))
    return math.exp(sorted(ratios)[math.ceil(0.9 * len(ratios)) - 1]) if ratios else float("nan")


def lines(found: Estimate, machine: Machine) -> list[str]:
    """An estimate in words, a line for each thing."""
    told = [f"time      {about(found.seconds)}, the first figure after {about(found.first_s)}"]
    made = f", {len(found.environments)} environment{'s' * (len(found.environments) != 1)} to make ({', '.join(found.environments)})"
    download = f"about {size(found.download)}" if found.download else "nothing"
    told.append(f"download  {download}{made if found.environments else ''}")
    told.append(f"disk      about {size(found.disk)}")
    where = "the GPU" if machine.is_gpu else "the machine"
    told.append(f"memory    at most about {size(found.peak)} ({found.peak_of}), of {size(machine.memory)} of {where}")
    if found.not_fitting:
        told.append("will likely not fit: " + ", ".join(f"{name} ({size(needs)})" for name, needs in found.not_fitting))
    return told


def about(seconds: float) -> str:
    """An estimated time in words: no seconds but tens of them."""
    return f"about {duration(max(10, round(seconds, -1)))}"


def size(count: float) -> str:
    return f"{count / GB:.1f} GB" if count >= 0.1 * GB else f"{max(1, round(count / 1e6))} MB"
