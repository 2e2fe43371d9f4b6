"""Training steps, passes and attention alone, by estimate: the seconds of a run and the bytes that it holds, at each size. Pure.

Operations are counted from the shape of a model, and divided by the share of the device's rate that such work was seen to reach; what is
read and written besides is divided by its bandwidth. A GPU computes while the processor prepares what comes next, so that the longer of the
two counts; on a processor both add up. docs/performance.md says how far such estimates were from what was measured.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

from speedgrid.bisection import next_size
from speedgrid.known import ITEMS, Machine, Model, Work
from speedgrid.workload import WORKLOADS

# The factor within which estimates of a step were of what was measured on a GPU (docs/performance.md).
GPU_ERROR = 1.3
# The share of the rate of matrix products, on a GPU and on a processor.
SHARE = {True: 0.22, False: 0.35}
# How often a value that is kept for the backward pass is read or written in a step.
TOUCHED = 8
# Seconds of a layer's training step that the processor takes to start it; a pass without gradients takes a third.
LAYER_S = {True: 5e-4, False: 3e-4}
# Bytes of a value that is kept, in text; norms and losses are in float32 under autocast.
KEPT_BYTES = {"fp32": 4, "tf32": 4, "fp16_scaler": 2.8, "bf16_autocast": 2.8, "bf16_pure": 2}
# Bytes of each logit of a training step: as the model gave it, its logarithm, and its gradient.
LOGIT_BYTES = 12
MULTIPLIES_IN = {"fp32": "float32", "tf32": "tf32", "fp16_scaler": "float16", "bf16_autocast": "bfloat16", "bf16_pure": "bfloat16"}
# Of a parameter's optimizer: bytes of its state for each byte of the weight, or in all.
STATES = {"sgd": 0, "adam": 2, "adamw": 2, "adamw_fused": 2}
EIGHT_BITS = 2
# How often each byte of a weight that trains is read or written by zeroing, clipping and the optimizer.
OPTIMIZER_TOUCHED = 15
# Rank of adapters, and bytes of a parameter of theirs with gradient and state.
RANK, ADAPTER_BYTES = 16, 16
NF4_BYTES = 0.54
# Seconds of a first run: of anything, and of a layer that is compiled.
FIRST_S, COMPILED_LAYER_S = 1.0, 0.6
# The share of them that a later process takes, to which what was compiled is there already.
AGAIN = 0.15
# What proves a technique after the counted runs: seconds, and runs.
PROOF_S, PROOF_RUNS = 1.0, 4
# The memory of a GPU that is not here, where how much fits decides how many sizes are tried.
SOME_MEMORY = 24e9
# Matrices of scores that attention written out holds at a time, and how often it goes through one; with gradients, and without.
HELD_SCORES = {False: 2, True: 4}
TOUCHED_SCORES = {False: 6, True: 16}
# The least seconds of an operation.
LEAST_S = 5e-5


@dataclass(frozen=True)
class Run:
    """What one run takes: seconds, and bytes beside what a process holds anyway."""

    seconds: float
    held: float


def series(model: Model, work: Work, machine: Machine) -> list[Run]:
    """A run of each size that is tried, in this order, the ones that do not fit included; a workload without sizes has one."""
    kind = WORKLOADS[work.workload]
    if kind.seeks_largest:
        return _largest(model, work, machine)
    if kind.has_sizes:
        return list(_until_full((_attention(model, work, machine, length) for length in work.settings["lengths"]), room(machine)))
    return [_step(model, work, machine, work.batch, work.settings.get("sequence", 0))]


def room(machine: Machine) -> float:
    """Bytes at which a series of sizes ends."""
    return machine.room if machine.is_here else SOME_MEMORY


def first_s(model: Model, work: Work) -> float:
    """Seconds of a first run beside those of any."""
    return FIRST_S + COMPILED_LAYER_S * model.layers * (
        bool(work.options.get("compile")) or work.options.get("attention") == "flex_attention"
    )


def _until_full(runs: Iterator[Run], most: float) -> Iterator[Run]:
    for run in runs:
        yield run
        if run.held > most:
            return


def _largest(model: Model, work: Work, machine: Machine) -> list[Run]:
    """The sizes that the search for the largest one tries."""
    settings = work.settings
    most = min(settings.get("memory_budget") or math.inf, room(machine))
    step = {"batch_size": work.options.get("accumulate", 1), "sequence": 16, "layers": 1}[settings["grows"]]
    done: list[tuple[int | None, bool]] = []
    found = []
    while (size := next_size(done, step, None)) is not None:
        grown, batch, sequence = model, work.batch, settings.get("sequence", 0)
        if settings["grows"] == "layers":
            each = (model.parameters - model.embedding) // max(1, model.layers)
            grown = replace(model, layers=size, parameters=model.embedding + size * each)
        elif settings["grows"] == "sequence":
            sequence = size
        else:
            batch = size
        found.append(_step(grown, work, machine, batch, sequence))
        done.append((size, found[-1].held <= most))
        if len(found) > 1 and all(fits for _, fits in done) and found[-1].held <= found[-2].held:
            # What does not grow with its size, such as a sequence of images, never ends for want of memory; the job itself refuses it.
            break
    return found


# Steps of training, and passes without gradients


def _step(model: Model, work: Work, machine: Machine, batch: int, sequence: int) -> Run:
    """A training step, or a forward pass, over `batch` examples of `sequence` tokens or of images."""
    options, settings, trains = work.options, work.settings, WORKLOADS[work.workload].trains
    precision = options["precision"]
    pixels = settings.get("image_size", 0) ** 2
    sequence = sequence or round(pixels * model.pixel_tokens)
    tokens, parts = batch * sequence, options.get("accumulate", 1)
    again = bool(trains and options.get("checkpointing"))

    forward = batch * pixels * model.pixel_flop if model.pixel_flop else _text_flop(model, tokens, sequence)
    flop = forward * (((2 if options.get("adapter") else 3) + again) if trains else 1)
    every, kept, again_kept = _values(model, work, batch * pixels, tokens)
    logits = tokens * model.vocabulary * (LOGIT_BYTES if trains else ITEMS[work.dtype])
    trained = _trained(model, work) if trains else 0
    item = ITEMS[work.dtype]

    moved = every * (TOUCHED * (4 / 3 if again else 1) if trains else 3) + 2 * logits + OPTIMIZER_TOUCHED * item * trained
    moved += item * model.parameters * (2 if trains else 1)
    computing = flop / (SHARE[machine.is_gpu] * machine.computes(MULTIPLIES_IN[precision])) + moved / machine.reads
    starting = model.layers * LAYER_S[machine.is_gpu] * parts * ((3 + again) / 3 if trains else 1 / 3)
    seconds = max(computing, starting) if machine.is_gpu else computing + starting
    # What is computed again comes after the logits are gone.
    return Run(seconds, _states(model, work, trained) + (kept + max(logits, again_kept)) / parts)


def _text_flop(model: Model, tokens: int, sequence: int) -> float:
    """Operations of a forward pass over text, every position with its logits; attention is causal."""
    multiplied = model.parameters - model.embedding + model.vocabulary * model.width
    return 2.0 * multiplied * tokens + 2.0 * model.layers * tokens * sequence * model.width


def _values(model: Model, work: Work, pixels: int, tokens: int) -> tuple[float, float, float]:
    """Bytes of all values that the layers of a pass make, of those that are kept until they are read again, and of those that checkpointing
    computes again at a time."""
    options, precision = work.options, work.options["precision"]
    if model.pixel_flop:
        every = pixels * model.pixel_values * min(KEPT_BYTES[precision], 4 if precision in ("fp32", "tf32") else 2)
        # Without gradients a few results at a time are there, the first of which are the largest.
        return every, every if WORKLOADS[work.workload].trains else 0.15 * every, 0.0
    each = KEPT_BYTES[precision] * tokens * (10 * model.width + 5 * model.inner)
    every = model.layers * each
    if not WORKLOADS[work.workload].trains:
        return every, each / 2, 0.0
    edges = model.layers * tokens * model.width * ITEMS[work.dtype]
    if options.get("checkpointing") == "full":
        return every, edges, each
    if options.get("checkpointing"):
        products = model.layers * tokens * (6 * model.width + model.inner) * (4 if precision in ("fp32", "tf32") else 2)
        return every, edges + products, each
    return every, every, 0.0


def _trained(model: Model, work: Work) -> float:
    """The parameters that train."""
    if not work.options.get("adapter"):
        return model.parameters
    return model.layers * RANK * (8 * model.width + 3 * (model.width + model.inner))


def _states(model: Model, work: Work, trained: float) -> float:
    """Bytes of weights, gradients and the optimizer's state."""
    item = ITEMS[work.dtype]
    if not WORKLOADS[work.workload].trains:
        return item * model.parameters
    if adapter := work.options.get("adapter"):
        layers = NF4_BYTES if adapter == "qlora" else item
        return item * model.embedding + layers * (model.parameters - model.embedding) + ADAPTER_BYTES * trained
    name = work.options.get("optimizer", work.settings["optimizer"])
    return model.parameters * (2 * item + (STATES[name] * item if name in STATES else EIGHT_BITS))


# Attention alone


def _attention(model: Model, work: Work, machine: Machine, length: int) -> Run:
    """One operation at a length, with its gradients where they are asked for; operations as workloads/attention.py counts them."""
    settings, backward = work.settings, work.settings["backward"]
    item = ITEMS[work.dtype]
    flop = 4.0 * work.batch * length**2 * model.width * (3.5 if backward else 1)
    tensors = work.batch * length * model.width * item * (8 if backward else 4)
    scores = work.batch * model.heads * length**2 * item
    is_whole = work.options["attention"] == "eager" or work.options.get("sdpa_kernel") == "math"
    if settings["causal"] and not is_whole:
        flop /= 2
    moved = 2 * tensors + is_whole * scores * (TOUCHED_SCORES[backward] + 2 * settings["causal"])
    computing = flop / (SHARE[machine.is_gpu] * machine.computes(work.dtype)) + moved / machine.reads
    return Run(max(LEAST_S, computing), tensors + is_whole * scores * (HELD_SCORES[backward] + settings["causal"]))
