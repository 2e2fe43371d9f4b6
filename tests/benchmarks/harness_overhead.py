"""What the harness costs: token/s inside it over a bare loop of the same `generate` calls, in one process.

    python tests/benchmarks/harness_overhead.py CHECKPOINT [--technique NAME] [--rounds 20] [--new-tokens 64]

Run it with the Python of the environment `transformers`. Bare and harnessed replies alternate, so that a machine that slows down does so
for both; each round gives a ratio, and the median over the rounds is printed with its quartiles. The bare loop is what one would write
by hand: the same settings, no streamer, synchronise, read the clock, generate, synchronise, read the clock.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from speedgrid import hardware  # noqa: E402
from speedgrid.engines.transformers import Engine  # noqa: E402

OPTIONS = {
    "baseline": {"attention": "eager"},
    "sdpa": {"attention": "sdpa"},
    "torch_compile": {"attention": "sdpa", "compile": "static_cache", "compile_mode": "reduce-overhead"},
}
SAMPLING = {"do_sample": True, "temperature": 0.8, "top_p": 0.95, "top_k": 50, "repetition_penalty": 1.1}


def main() -> None:
    arguments = parse()
    import torch

    device = hardware.pick_device({"device": "auto"}, "local")
    options = {"dtype": "bfloat16" if device.is_gpu else "float32", **OPTIONS[arguments.technique]}
    engine = Engine(arguments.checkpoint, device, options, hardware.physical_cores())
    engine.import_packages()
    engine.open()
    prompt = list(range(10, 34))
    engine.load(len(prompt) + arguments.new_tokens)
    settings = {"batch_size": 1, "max_new_tokens": arguments.new_tokens, "ignore_eos": True, "sampling": SAMPLING}

    def harnessed(seed: int) -> float:
        reply = engine.generate(prompt, settings, seed)
        return reply.new_tokens / reply.reply_s

    def bare(seed: int) -> float:
        ids = torch.tensor([prompt], device=device.kind)
        config = engine._generation_config(settings)
        torch.manual_seed(seed)
        device.synchronize()
        started = time.perf_counter()
        output = engine.model.generate(ids, attention_mask=torch.ones_like(ids), generation_config=config)
        device.synchronize()
        return (output.shape[1] - len(prompt)) / (time.perf_counter() - started)

    for seed in range(4):
        harnessed(seed), bare(seed)
    ratios = []
    for seed in range(arguments.rounds):
        pair = [harnessed(seed), bare(seed)] if seed % 2 else [bare(seed), harnessed(seed)][::-1]
        ratios.append(pair[0] / pair[1])
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(f"{device.name}, {arguments.technique}: harness / bare = {middle:.3f} (quartiles {low:.3f}-{high:.3f}, {len(ratios)} rounds)")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--technique", choices=OPTIONS, default="baseline")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--new-tokens", type=int, default=64)
    return parser.parse_args()


if __name__ == "__main__":
    main()
