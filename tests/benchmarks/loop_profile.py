"""Where a decoding step of `torch_compile_loop` goes on a GPU: the weights at the speed of a copy, kernels that are slower than that, gaps.

    python tests/benchmarks/loop_profile.py CHECKPOINT [--prompt 128] [--new-tokens 128] [--dtype bfloat16] [--json FILE] [--trace FILE]

Run it with the Python of the environment `transformers`, on a GPU. Replies are measured without the profiler, then one with it. Kernels are
told apart by their names: products of weights, attention, and the rest. The bytes that a step has to read are those of all linear layers,
each weight once; what the same GPU copies in a second is measured beforehand, as every study does (speedgrid.probe).
"""

import argparse
import itertools
import json
import re
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from speedgrid import hardware, probe, this_machine  # noqa: E402
from speedgrid.engines import engine_class  # noqa: E402

# cudaGraphLaunch, or as the driver or a versioned runtime calls it.
REPLAY = re.compile("^cu(da)?GraphLaunch")
ON_DEVICE = ("kernel", "gpu_memcpy", "gpu_memset")
# In this order: a product that Triton has fused with what follows is a product.
KINDS = {
    "attention": re.compile("flash|fmha|attention|sdpa", re.IGNORECASE),
    "products": re.compile(r"gemv|gemm|nvjet|cutlass|splitk|cublas|_mm_|_mm\b|addmm|dot_kernel", re.IGNORECASE),
}
# The first step of a reply and the last are left out, and of those between the last only ends the one before it.
LEAST_STEPS = 4
GREEDY = {"do_sample": False, "repetition_penalty": 1.0}


class Kernel(NamedTuple):
    """What the device did: its name, when it began and how long it took in µs, and which call of the host started it."""

    name: str
    begin: float
    took: float
    call: int | None

    @property
    def kind(self) -> str:
        return next((kind for kind, pattern in KINDS.items() if pattern.search(self.name)), "other kernels")


def kernels(trace: Iterable[Mapping]) -> list[Kernel]:
    """Those of a trace in Chrome's format, in the order of their beginning."""
    found = [
        Kernel(event["name"], float(event["ts"]), float(event.get("dur", 0)), (event.get("args") or {}).get("correlation"))
        for event in trace
        if event.get("ph") == "X" and event.get("cat") in ON_DEVICE
    ]
    return sorted(found, key=lambda kernel: kernel.begin)


def steps(trace: Sequence[Mapping], expected: int) -> list[list[Kernel]]:
    """The kernels of each decoding step: from the first that a replay of a CUDA graph started to that of the next. The first step, which
    follows the prompt, and the last, which nothing ends, are left out. expected: how many steps the reply had; Inductor may cut one into
    several graphs.

    Raises ValueError where the trace has fewer than four replays, or no whole number of them a step.
    """
    replays = {(event.get("args") or {}).get("correlation") for event in trace if REPLAY.match(event.get("name", ""))} - {None}
    all_kernels = kernels(trace)
    begins, seen = [], set()
    for at, kernel in enumerate(all_kernels):
        if kernel.call in replays and kernel.call not in seen:
            seen.add(kernel.call)
            begins.append(at)
    if len(begins) < LEAST_STEPS:
        raise ValueError(f"the trace has {len(begins)} replays of CUDA graphs with kernels; {LEAST_STEPS} are the least")
    if len(begins) % expected:
        raise ValueError(f"the trace has {len(begins)} replays of CUDA graphs with kernels in {expected} steps")
    return [all_kernels[begin:end] for begin, end in itertools.pairwise(begins[:: len(begins) // expected][1:])]


def alone(step: Sequence[Kernel]) -> list[tuple[Kernel, float]]:
    """Each kernel of a step with the µs in which no earlier one still ran, so that kernels that overlap count once."""
    found, until = [], float("-inf")
    for kernel in step:
        end = kernel.begin + kernel.took
        found.append((kernel, max(0.0, end - max(until, kernel.begin))))
        until = max(until, end)
    return found


def accounting(found: Sequence[Sequence[Kernel]], weights_us: float) -> dict[str, float]:
    """Where a step goes, µs, means over the steps but the last, whose end is not known; the parts add up to the step.

    weights_us: what reading all weights once takes at the speed of a copy.
    """
    ended = found[:-1]
    took: dict[str, float] = defaultdict(float)
    span = 0.0
    for step in ended:
        span += max(kernel.begin + kernel.took for kernel in step) - step[0].begin
        for kernel, own in alone(step):
            took[kernel.kind] += own
    whole, within = found[-1][0].begin - found[0][0].begin, span - sum(took.values())
    mean = {kind: took[kind] / len(ended) for kind in (*KINDS, "other kernels")}
    return {
        "step": whole / len(ended),
        "weights at the speed of a copy": weights_us,
        "products slower than that": mean["products"] - weights_us,
        "attention": mean["attention"],
        "other kernels": mean["other kernels"],
        "between kernels of a step": within / len(ended),
        "between steps": (whole - span) / len(ended),
    }


def by_name(found: Sequence[Sequence[Kernel]]) -> list[tuple[str, str, float, float]]:
    """Kind, name, calls a step and µs a step of every kernel, those that take most first."""
    total: dict[tuple[str, str], list[float]] = defaultdict(list)
    for step in found:
        for kernel in step:
            total[kernel.kind, kernel.name].append(kernel.took)
    rows = [(kind, name, len(took) / len(found), sum(took) / len(found)) for (kind, name), took in total.items()]
    return sorted(rows, key=lambda row: -row[3])


def main() -> None:
    arguments = parse()
    import torch
    from torch.profiler import ProfilerActivity, profile

    device = hardware.pick_device({"device": "auto"}, "local")
    if not device.is_gpu:
        sys.exit("loop_profile: kernels are those of a GPU, and here is none")
    probed = probe.Probe(device, this_machine.physical_cores(), seed=0).rows(())
    bandwidth = max(row["best"] for row, _ in probed if row and row["kind"] == "copy")
    torch.cuda.empty_cache()
    options = {"attention": "sdpa", "dtype": arguments.dtype, "compile": "loop", "compile_mode": "reduce-overhead"}
    # What no contract of engines has is looked at, too.
    engine: Any = engine_class("transformers_loop")(arguments.checkpoint, device, options, this_machine.physical_cores())
    engine.import_packages()
    engine.open()
    engine.load(arguments.prompt + arguments.new_tokens)
    prompt = [10 + number % 1000 for number in range(arguments.prompt)]
    settings = {"batch_size": 1, "max_new_tokens": arguments.new_tokens, "ignore_eos": True, "sampling": GREEDY}
    for seed in range(3):
        engine.generate(prompt, settings, seed)
    plain = [engine.generate(prompt, settings, seed) for seed in range(5)]
    with profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as watched:
        engine.generate(prompt, settings, 5)
    with tempfile.TemporaryDirectory() as folder:
        # A trace that is kept can be read again where this program misread it.
        path = arguments.trace or Path(folder) / "trace.json"
        watched.export_chrome_trace(str(path))
        trace = json.loads(path.read_text(encoding="utf-8"))["traceEvents"]
    layers = [module.weight for module in engine.model.modules() if isinstance(module, torch.nn.Linear)]
    read = sum(weight.numel() * weight.element_size() for weight in {weight.data_ptr(): weight for weight in layers}.values())
    found = steps(trace, arguments.new_tokens - 1)
    report = {
        "device": device.name,
        "torch": torch.__version__,
        "copy_bytes_per_s": bandwidth,
        "weight_bytes": read,
        "token_per_s": [reply.new_tokens / reply.reply_s for reply in plain],
        "step_us_without_profiler": statistics.median(1e6 * (r.token_s[-1] - r.token_s[1]) / (len(r.token_s) - 2) for r in plain),
        "steps": len(found),
        "kernels_a_step": statistics.median(map(len, found)),
        "accounting_us": accounting(found, 1e6 * read / bandwidth),
        "kernels": by_name(found),
    }
    if arguments.json:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print("\n".join(lines(report)))


def lines(report: Mapping) -> list[str]:
    step = report["accounting_us"]["step"]
    accounted = report["accounting_us"]
    products = accounted["weights at the speed of a copy"] + accounted["products slower than that"]
    speed = report["weight_bytes"] / (1e-6 * products) if products else 0.0
    said = [
        f"{report['device']}, PyTorch {report['torch']}: {statistics.median(report['token_per_s']):.1f} token/s; a step takes"
        f" {report['step_us_without_profiler']:,.0f} µs, with the profiler {step:,.0f} µs; a copy moves"
        f" {report['copy_bytes_per_s'] / 1e12:.2f} TB/s, a step reads {report['weight_bytes'] / 1e9:.2f} GB of weights,"
        f" its products {speed / 1e12:.2f} TB/s, {speed / report['copy_bytes_per_s']:.0%} of a copy;"
        f" {report['kernels_a_step']:.0f} kernels a step",
        *(f"{name:<34}{took:>9,.1f} µs {took / step:>7.1%}" for name, took in report["accounting_us"].items()),
        "",
    ]
    for kind, name, calls, took in report["kernels"][:25]:
        said.append(f"{took:>9,.1f} µs {took / step:>6.1%} {calls:>7.1f} x  {kind:<14} {name[:90]}")
    return said


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--prompt", type=int, default=128, help="tokens of the prompt")
    parser.add_argument("--new-tokens", type=int, default=128)
    parser.add_argument("--dtype", default="bfloat16", choices=["bfloat16", "float16", "float32"])
    parser.add_argument("--json", type=Path, help="write the figures to this file, too")
    parser.add_argument("--trace", type=Path, help="keep the profiler's trace in this file")
    arguments = parser.parse_args()
    if arguments.new_tokens <= LEAST_STEPS:
        parser.error(f"--new-tokens takes a number from {LEAST_STEPS + 1} on")
    return arguments


if __name__ == "__main__":
    main()
