"""What the harness costs: token/s inside it over a bare loop of the same `generate` calls, in one process.

    python tests/benchmarks/harness_overhead.py CHECKPOINT [--technique NAME] [--rounds 20] [--new-tokens 64]

Run it with the Python of the environment `transformers`. Bare and harnessed replies alternate, so that a machine that slows down does so
for both; each round gives a ratio, and the median over the rounds is printed with its quartiles. The bare loop is what one would write
by hand: the same settings, no streamer, synchronise, read the clock, generate, synchronise, read the clock. For `torch_compile_loop` it is
gpt-fast's: a compiled step over a static cache that picks the likeliest token, called for each token.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from speedgrid import hardware, this_machine  # noqa: E402
from speedgrid.engines import engine_class  # noqa: E402

ENGINES = {"torch_compile_loop": "transformers_loop"}
OPTIONS = {
    "baseline": {"attention": "eager"},
    "sdpa": {"attention": "sdpa"},
    "torch_compile": {"attention": "sdpa", "compile": "static_cache", "compile_mode": "reduce-overhead"},
    "torch_compile_loop": {"attention": "sdpa", "compile": "loop", "compile_mode": "reduce-overhead"},
}
SAMPLING = {"do_sample": True, "temperature": 0.8, "top_p": 0.95, "top_k": 50, "repetition_penalty": 1.1}
GREEDY = {"do_sample": False, "repetition_penalty": 1.0}


def main() -> None:
    arguments = parse()
    import torch

    device = hardware.pick_device({"device": "auto"}, "local")
    options = {"dtype": "bfloat16" if device.is_gpu else "float32", **OPTIONS[arguments.technique]}
    engine_of = engine_class(ENGINES.get(arguments.technique, "transformers"))
    # What no contract of engines has is looked at, too.
    engine: Any = engine_of(arguments.checkpoint, device, options, this_machine.physical_cores())
    engine.import_packages()
    engine.open()
    prompt = list(range(10, 34))
    engine.load(len(prompt) + arguments.new_tokens)
    settings = {"batch_size": 1, "max_new_tokens": arguments.new_tokens, "ignore_eos": True}
    settings["sampling"] = GREEDY if arguments.technique == "torch_compile_loop" else SAMPLING

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

    plain: Callable[[int], float] = bare
    if arguments.technique == "torch_compile_loop":
        plain = bare_loop(engine.model, device, prompt, arguments.new_tokens)
    for seed in range(4):
        harnessed(seed), plain(seed)
    ratios = []
    for seed in range(arguments.rounds):
        pair = [harnessed(seed), plain(seed)] if seed % 2 else [plain(seed), harnessed(seed)][::-1]
        ratios.append(pair[0] / pair[1])
    low, middle, high = statistics.quantiles(ratios, n=4)
    print(f"{device.name}, {arguments.technique}: harness / bare = {middle:.3f} (quartiles {low:.3f}-{high:.3f}, {len(ratios)} rounds)")


def bare_loop(model, device, prompt: list[int], new_tokens: int) -> Callable[[int], float]:
    """Token/s of a reply, greedy, by the loop of gpt-fast around a model of transformers."""
    import torch
    from transformers import StaticCache

    cache = StaticCache(config=model.config, max_cache_len=len(prompt) + new_tokens)

    @torch.compile(mode="reduce-overhead", fullgraph=True)
    def step(token):
        return model(input_ids=token, past_key_values=cache, use_cache=True).logits[:, -1].argmax(-1, keepdim=True)

    @torch.no_grad()
    def reply(seed: int) -> float:
        cache.reset()
        ids = torch.tensor([prompt], device=device.kind)
        device.synchronize()
        started = time.perf_counter()
        logits = model(input_ids=ids, past_key_values=cache, use_cache=True, logits_to_keep=1).logits
        token = logits[:, -1].argmax(-1, keepdim=True)
        found = [token]
        for _ in range(new_tokens - 1):
            torch.compiler.cudagraph_mark_step_begin()
            token = step(token).clone()
            found.append(token)
        torch.cat(found, 1).tolist()
        return new_tokens / (time.perf_counter() - started)

    return reply


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--technique", choices=OPTIONS, default="baseline")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--new-tokens", type=int, default=64)
    return parser.parse_args()


if __name__ == "__main__":
    main()
