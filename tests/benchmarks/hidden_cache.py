"""Whether anything of a reply is kept for the next one: replies to one prompt against replies to prompts that were never seen before.

    python tests/benchmarks/hidden_cache.py MEASURE CHECKPOINT [--pairs 30] [--prompt-tokens 128] [--new-tokens 4]

MEASURE is a finished measure.parquet, whose job is taken: its engine with its options. Run it with the Python of that cell's environment.
Pairs alternate, so that a machine that slows down does so for both: a reply to the same random prompt as ever, and one to a fresh random
prompt of the same length. An engine that kept the prompt's part would answer the first one sooner; the ratio of the times to the first
token, fresh over same, is then well above 1. With `--control` the same prompt is shortened to its last token, which is what an engine
would have left to compute: the benchmark must see that.
"""

import argparse
import json
import math
import random
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from speedgrid import hardware, records, stage, statistics  # noqa: E402
from speedgrid.schema import MEASURE  # noqa: E402


def main() -> None:
    arguments = parse()
    told = json.loads(records.read(arguments.measure, MEASURE).facts["job"])
    job = stage.Job("measure", told, arguments.measure, arguments.checkpoint)
    job.threads = hardware.physical_cores() if told["threads"] == "auto" else told["threads"]
    job.device = hardware.pick_device(told["device"], told["gpu"], job.uses_torch)
    settings = told["settings"] | {"max_new_tokens": arguments.new_tokens, "ignore_eos": True, "batch_size": 1}
    draw = random.Random(0)
    with job.engine() as engine:
        engine.import_packages()
        engine.open()

        def fresh() -> list[int]:
            return [draw.randrange(engine.vocabulary()) for _ in range(arguments.prompt_tokens)]

        same = fresh()
        engine.load(arguments.prompt_tokens + arguments.new_tokens)
        known = same[-1:] if arguments.control else same
        for prompt in (known, fresh(), known, fresh()):
            engine.generate(prompt, settings, 0)
        logs = []
        for number in range(arguments.pairs):
            order = [("same", known), ("fresh", fresh())]
            found = {name: engine.generate(prompt, settings, number).ttft_s for name, prompt in (order if number % 2 else order[::-1])}
            logs.append(math.log(found["fresh"] / found["same"]))
    level = statistics.level(logs).interval()
    ratio, low, high = (math.exp(value) for value in (level.value, level.low, level.high))
    print(
        f"{told['technique']} ({told['engine']}, {job.device.name}): time to the first token of a fresh prompt over that of the same one,"
        f" {arguments.prompt_tokens} tokens: {ratio:.3f} (95 % interval {low:.3f}–{high:.3f}, {arguments.pairs} pairs)"
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measure", type=Path, help="measure.parquet of a cell")
    parser.add_argument("checkpoint", type=Path, help="folder of the checkpoint that the cell loads")
    parser.add_argument("--pairs", type=int, default=30)
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--new-tokens", type=int, default=4)
    parser.add_argument("--control", action="store_true", help="act as an engine would that keeps the prompt; the ratio must be far from 1")
    return parser.parse_args()


if __name__ == "__main__":
    main()
