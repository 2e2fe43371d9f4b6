"""Our rows of transformers and of onnxruntime against optimum-benchmark, on one machine and in one run.

    python tests/benchmarks/peers/optimum_benchmark.py MODEL_FOLDER --ours PYTHON --peer PYTHON [--attention eager|sdpa] [--dtype float32]
        [--prompt 64] [--new-tokens 64] [--threads 1] [--rounds 30] [--replies 2] [--engine transformers|onnxruntime]
        [--inference-mode]

`--ours` is the Python of our environment (`transformers`, or `onnxruntime` for a folder that the transform `onnx` made), `--peer` one that
has optimum-benchmark beside the same versions of PyTorch and transformers:

    uv venv --python 3.11 PEER
    uv pip install --python PEER/bin/python optimum-benchmark==0.6.0 torch==2.13.0 transformers==5.23.0 accelerate==1.15.0

and for `--engine onnxruntime`, with transformers==4.57.6 optimum-onnx==0.1.0 onnx==1.23.2 onnxruntime==1.31.1 instead of transformers.

Both load the model once, each in a process of its own, and then take turns, which of them comes first alternating: other work on the
machine then slows both alike. In each turn optimum-benchmark runs its own latency tracking for so many replies and gives the means that
its report would show. Both decode greedily, from random tokens, over the same number of new tokens. What is compared, by
optimum-benchmark's names:

prefill   seconds to the first token. optimum-benchmark stops this clock when `generate` has the first logits, we when the token chosen
          from them is on the host.
decode    new tokens but the first over the seconds after the first.
generate  new tokens over the seconds of the whole reply.
processor seconds of processor time for the turn, all threads together; other work on the machine hardly touches it.

optimum-benchmark calls `generate` under `torch.inference_mode()`, and `generate` itself only sets `torch.no_grad()`, which is what plain
use of transformers gets and so what we measure. PyTorch then spends a little more on every operator, which shows in a model so small that
a step takes few milliseconds. `--inference-mode` puts our side under it too, so that like is compared with like.

A ratio is ours over theirs within a round; the median over the rounds is printed with its quartiles.
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing.connection import Client, Listener
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
GREEDY = {"do_sample": False, "repetition_penalty": 1.0}


def ours(told: argparse.Namespace) -> Callable[[], dict[str, float]]:
    """Load our engine; returns what takes a turn: means over its replies, as optimum-benchmark takes them."""
    sys.path.insert(0, str(ROOT / "scripts"))
    from random import Random

    import torch
    from speedgrid import hardware
    from speedgrid.engines import engine_class

    kind = engine_class(told.engine)
    device = hardware.pick_device({"device": told.device}, "local", kind.uses_torch)
    engine = kind(told.model, device, {"dtype": told.dtype, "attention": told.attention}, told.threads)
    engine.import_packages()
    engine.open()
    engine.load(told.prompt + told.new_tokens)
    draw = Random(1)
    prompt = [draw.randrange(engine.language.vocabulary()) for _ in range(told.prompt)]
    settings = {"batch_size": 1, "max_new_tokens": told.new_tokens, "ignore_eos": True, "sampling": GREEDY}

    def turn() -> dict[str, float]:
        with torch.inference_mode(told.inference_mode):
            replies = [engine.generate(prompt, settings, seed) for seed in range(told.replies)]
        if {len(reply.token_ids[0]) for reply in replies} != {told.new_tokens}:
            raise SystemExit("ours: a reply has another length than asked for")
        prefill = statistics.mean(reply.ttft_s for reply in replies)
        whole = statistics.mean(reply.reply_s for reply in replies)
        return figures(prefill, whole - prefill, whole, told.new_tokens)

    return turn


def peer(told: argparse.Namespace) -> Callable[[], dict[str, float]]:
    """Let optimum-benchmark load and warm up; returns what takes a turn: its own figures."""
    _name_what_moved(told.engine)
    from hydra.utils import get_class
    from optimum_benchmark import InferenceConfig, ORTConfig, PyTorchConfig

    common = {"model": str(told.model), "task": "text-generation", "device": told.device, "library": "transformers"}
    # 0.6.0 takes either for the other, so both are set alike.
    common |= {"inter_op_num_threads": told.threads, "intra_op_num_threads": told.threads}
    if told.device == "cuda":
        common["device_ids"] = "0"
    if told.engine == "transformers":
        backend = PyTorchConfig(**common, torch_dtype=told.dtype, attn_implementation=told.attention)
    else:
        session = {"intra_op_num_threads": told.threads}
        backend = ORTConfig(**common, export=False, use_cache=True, session_options=session)
    scenario_config = InferenceConfig(
        input_shapes={"batch_size": 1, "sequence_length": told.prompt},
        generate_kwargs={"max_new_tokens": told.new_tokens, "min_new_tokens": told.new_tokens},
        iterations=told.replies,
        duration=0,
    )
    # What Benchmark.run does; it would load the model anew for every turn.
    scenario = get_class(scenario_config._target_)(scenario_config)
    scenario.run(get_class(backend._target_)(backend))

    def turn() -> dict[str, float]:
        scenario.run_per_token_text_generation_latency_tracking()
        report = scenario.report
        found = figures(report.prefill.latency.mean, report.decode.latency.mean, report.generate.latency.mean, told.new_tokens)
        theirs = report.decode.throughput.value
        if abs(found["decode"] / theirs - 1) > 1e-6:
            raise SystemExit(f"optimum-benchmark says {theirs} token/s, and its latencies give {found['decode']}")
        return found

    return turn


def _name_what_moved(engine: str) -> None:
    """Give optimum-benchmark 0.6.0 two names that newer releases of its libraries no longer have where it looks for them."""
    if engine == "onnxruntime":
        import optimum.pipelines
        from optimum.onnxruntime import ORTModelForCausalLM

        # By which it finds the class that loads a model for a task.
        optimum.pipelines.ORT_SUPPORTED_TASKS = {"text-generation": {"class": (ORTModelForCausalLM,)}}
    import transformers.trainer  # noqa: F401 - it makes a new module of transformers, so it comes first

    package = sys.modules["transformers"]
    if not hasattr(package, "SpecialTokensMixin"):
        # It is named in a type only.
        package.SpecialTokensMixin = package.PreTrainedTokenizerBase


def figures(prefill: float, decode: float, whole: float, new_tokens: int) -> dict[str, float]:
    return {"prefill": prefill, "decode": (new_tokens - 1) / decode, "generate": new_tokens / whole}


def compare(told: argparse.Namespace) -> None:
    """Run the rounds, and print the ratios."""
    with tempfile.TemporaryDirectory() as scratch:
        sides = {"ours": Side("ours", told.ours, told.threads, Path(scratch)), "peer": Side("peer", told.peer, told.threads, Path(scratch))}
        found = {name: [] for name in sides}
        for number in range(told.rounds + 1):
            for name in list(sides)[:: 1 if number % 2 else -1]:
                found[name].append(sides[name].turn())
        for side in sides.values():
            side.end()
    # The first round warms up ours, and theirs once more.
    mine, theirs = found["ours"][1:], found["peer"][1:]
    print(
        f"{told.engine} {told.attention} {told.dtype}, prompt {told.prompt}, new tokens {told.new_tokens}, threads {told.threads}"
        + ", ours in inference mode" * told.inference_mode
    )
    for name, unit in (("prefill", "s"), ("decode", "token/s"), ("generate", "token/s"), ("processor", "s")):
        ratios = [a[name] / b[name] for a, b in zip(mine, theirs, strict=True)]
        low, middle, high = statistics.quantiles(ratios, n=4)
        medians = [statistics.median(row[name] for row in rows) for rows in (mine, theirs)]
        print(
            f"{name:9} ours / peer = {middle:.3f} (quartiles {low:.3f}-{high:.3f}, {len(ratios)} rounds);"
            f" medians {medians[0]:.4g} and {medians[1]:.4g} {unit}"
        )


class Side:
    """A process of one side, which waits until it has its turn."""

    def __init__(self, name: str, python: str, threads: int, scratch: Path):
        self.name, self.log, address = name, scratch / f"{name}.log", str(scratch / name)
        # As every library reads it before it starts its threads.
        environment = {**os.environ, "OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads), "HF_HUB_OFFLINE": "1"}
        # -P: this file has the name of their package, and must not be found in its place.
        command = [python, "-P", __file__, *sys.argv[1:], "--side", name, "--address", address]
        with Listener(address, "AF_UNIX") as listener, self.log.open("w") as log:
            listener._listener._socket.settimeout(60)
            self.process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
            self.connection = listener.accept()

    def turn(self) -> dict[str, float]:
        self.connection.send("turn")
        try:
            return self.connection.recv()
        except (EOFError, ConnectionResetError):
            raise SystemExit(f"{self.name} failed:\n{self.log.read_text()[-4000:]}") from None

    def end(self) -> None:
        self.connection.close()
        self.process.wait()


def take_turns(told: argparse.Namespace) -> None:
    """The life of a process of one side."""
    with Client(told.address, "AF_UNIX") as connection:
        turn = {"ours": ours, "peer": peer}[told.side](told)
        try:
            while connection.recv():
                began = time.process_time()
                found = turn()
                connection.send({**found, "processor": time.process_time() - began})
        except EOFError:
            return


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=lambda text: Path(text).resolve(), help="a checkpoint folder")
    parser.add_argument("--ours", required=True, help="Python of our environment")
    parser.add_argument("--peer", required=True, help="Python that has optimum-benchmark")
    parser.add_argument("--engine", choices=("transformers", "onnxruntime"), default="transformers")
    parser.add_argument("--attention", choices=("eager", "sdpa"), default="eager")
    parser.add_argument("--dtype", choices=("float32", "float16", "bfloat16"), default="float32")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--prompt", type=int, default=64)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--replies", type=int, default=2, help="replies in a turn")
    parser.add_argument("--inference-mode", action="store_true", help="run our side under torch.inference_mode, as the peer does")
    parser.add_argument("--side", choices=("ours", "peer"), help=argparse.SUPPRESS)
    parser.add_argument("--address", help=argparse.SUPPRESS)
    return parser.parse_args()


if __name__ == "__main__":
    told = parse()
    take_turns(told) if told.side else compare(told)
