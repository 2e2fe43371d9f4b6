"""Whether anything of a reply is kept for the next one: replies to one prompt against replies to prompts that were never seen before.

    python tests/benchmarks/hidden_cache.py MEASURE CHECKPOINT [--rounds 30] [--prompt-tokens 128] [--new-tokens 4]

MEASURE is a finished measure.parquet, whose job is taken: its engine with its options. Run it with the Python of that cell's environment.
Three kinds of reply alternate, so that a machine that slows down does so for all: to the same random prompt as ever, to a fresh random
prompt of the same length, and, as the control, to the last token of the same prompt alone, which is what an engine would have left to
compute that kept the rest. The ratio of the times to the first token, fresh over same, is 1 without a hidden cache; fresh over control is
what it would be with one.
"""

import argparse
import json
import math
import random
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from speedgrid import hardware, records, stage, stats, this_machine  # noqa: E402
from speedgrid.schema import MEASURE  # noqa: E402


def main() -> None:
    arguments = parse()
    told = json.loads(records.read(arguments.measure, MEASURE).facts["job"])
    job = stage.Job("measure", told, arguments.measure, arguments.checkpoint)
    job.threads = this_machine.physical_cores() if told["threads"] == "auto" else told["threads"]
    job.device = hardware.pick_device(told["device"], told["gpu"], job.uses_torch)
    settings = told["settings"] | {"max_new_tokens": arguments.new_tokens, "ignore_eos": True, "batch_size": 1}
    draw = random.Random(0)
    with job.engine() as engine:
        engine.import_packages()
        engine.open()

        def fresh() -> list[int]:
            return [draw.randrange(engine.language.vocabulary()) for _ in range(arguments.prompt_tokens)]

        same = fresh()
        engine.load(arguments.prompt_tokens + arguments.new_tokens)
        prompts = {"same": lambda: same, "fresh": fresh, "control": lambda: same[-1:]}

        def first_token_s(name: str, seed: int) -> float:
            # Each after one of its own kind: an engine with room for a single prompt would have lost an older one.
            engine.generate(prompts[name](), settings, seed)
            return engine.generate(prompts[name](), settings, seed).ttft_s

        for name in prompts:
            first_token_s(name, 0)
        logs: dict[str, list[float]] = {"same": [], "control": []}
        for number in range(arguments.rounds):
            order = list(prompts) if number % 2 else list(prompts)[::-1]
            found = {name: first_token_s(name, number) for name in order}
            for name in logs:
                logs[name].append(math.log(found["fresh"] / found[name]))
    intervals = {name: stats.level(values).interval() for name, values in logs.items()}
    ratios = {name: [math.exp(value) for value in (one.value, one.low, one.high) if value is not None] for name, one in intervals.items()}
    if arguments.json:
        print(json.dumps(ratios))
        return
    in_words = {name: "{:.3f} (95 % interval {:.3f}–{:.3f})".format(*ratio) for name, ratio in ratios.items()}
    print(
        f"{told['technique']} ({told['engine']}, {job.device.name}): time to the first token of a fresh prompt of"
        f" {arguments.prompt_tokens} tokens over that of the same one: {in_words['same']}; with a cache it would be {in_words['control']};"
        f" {arguments.rounds} rounds"
    )


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("measure", type=Path, help="measure.parquet of a cell")
    parser.add_argument("checkpoint", type=Path, help="folder of the checkpoint that the cell loads")
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--prompt-tokens", type=int, default=128)
    parser.add_argument("--new-tokens", type=int, default=4)
    parser.add_argument("--json", action="store_true", help="print the two ratios, each with the ends of its interval, and nothing else")
    return parser.parse_args()


if __name__ == "__main__":
    main()
