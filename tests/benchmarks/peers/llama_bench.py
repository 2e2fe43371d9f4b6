"""Our engine `llamacpp` against llama.cpp's own llama-bench: prefill and decoding, token/s, in one run on one machine.

    python tests/benchmarks/peers/llama_bench.py CHECKPOINT [--prompt 512] [--new-tokens 64] [--rounds 12] [--threads N]
        [--build FOLDER] [--sources llama_cpp_python-VERSION.tar.gz] [--share-ggml]

Run it with the Python of the environment `llamacpp`, on a folder that the transform `gguf` has written. llama-bench is built once, into
`--build`, from the pinned sources of the bindings and with the flags of the installed build; that takes minutes, most of them for ggml's
CUDA kernels, which `--share-ggml` takes from the installed build. With CUDA_VISIBLE_DEVICES set to nothing the CPU is compared.

Rounds of ours and of the peer alternate, and so does which comes first, so that a machine that slows down does so for both. Both load the
weights anew every round, so that neither is tied to where these come to lie in memory. What is compared, round by round:

- prefill: tokens of the prompt over the time to the first token; the peer's `-p P -n 0`. Ours also picks that one token.
- decoding: steps after the first token over their time; the peer's `-p 0 -n N -d P`, from the same position. Ours picks the most
  likely token of each step from the logits and hands it back, and the peer takes random ones. `--sampled` has llama.cpp's own samplers
  pick, as they do where a study samples: temperature 0.8, the 50 likeliest tokens, 0.95 of the probability.

"llama.cpp alone" leaves out what passes outside of `llama_decode`, nearly all of it for picking tokens. On a GPU the decoding is also
given without its first steps: each of our replies computes its prompt, after which these take longer (llama.cpp seems to record its CUDA
graphs anew), and the peer takes the prompt from a copy of the KV cache.
"""

import argparse
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import tarfile
import tempfile
from importlib.util import find_spec
from pathlib import Path

ROOT = Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "scripts"))

from speedgrid import claims, hardware, this_machine  # noqa: E402
from speedgrid.engines.llamacpp import Engine  # noqa: E402
from speedgrid.engines.llamacpp_library import share, weights  # noqa: E402
from speedgrid.stats import percentile_interval  # noqa: E402

GREEDY = {"do_sample": False, "repetition_penalty": 1.0}
SAMPLED = {**GREEDY, "do_sample": True, "temperature": 0.8, "top_k": 50, "top_p": 0.95}
WITHIN = (0.97, 1.03)
# On a GPU so many steps after a prompt take half as long again as the rest; llama.cpp seems to record its CUDA graphs anew.
CAPTURES = 2


def main() -> None:
    arguments = parse()
    os.environ["OMP_NUM_THREADS"] = str(arguments.threads)
    bench = build_bench(arguments.build, arguments.sources, arguments.share_ggml)
    # As a job does, so that none of a study measures on the same GPU.
    claimed = claims.claim_gpu({"device": "auto"}, 1, print)
    device = hardware.pick_device({"device": "auto"}, "local", uses_torch=False)
    prompt = [i % 250 for i in range(arguments.prompt)]
    steps = arguments.new_tokens
    sampling = SAMPLED if arguments.sampled else GREEDY
    settings = {"batch_size": 1, "max_new_tokens": steps + 1, "ignore_eos": True, "sampling": sampling}
    model = weights(arguments.checkpoint)

    ours: dict[str, list[float]] = {"prefill": [], "decode": []}
    peers: dict[str, list[float]] = {"prefill": [], "decode": []}
    later: list[float] = []
    for number in range(1, arguments.rounds + 1):
        engine = Engine(arguments.checkpoint, device, {}, arguments.threads)
        engine.import_packages()
        engine.open()
        engine.load(len(prompt) + steps + 1)
        for kind, asked, count, wanted in (
            ("prefill", {**settings, "max_new_tokens": 1}, len(prompt), ["-p", len(prompt), "-n", 0]),
            ("decode", settings, steps, ["-p", 0, "-n", steps, "-d", len(prompt)]),
        ):
            run = [bench, "-m", model, *wanted, *common_options(arguments.threads, device.is_gpu)]
            peers_first = number % 2 == 1
            if peers_first:
                peers[kind] += bench_samples(run, arguments.replies)
            # As llama-bench does before each test: a GPU that waited for the peer has lowered its clocks.
            engine.generate(prompt, asked, 0)
            for _ in range(arguments.replies):
                token_s = engine.generate(prompt, asked, 0).token_s
                ours[kind].append(count / (token_s[0] if kind == "prefill" else token_s[-1] - token_s[0]))
                if kind == "decode":
                    later.append((steps - CAPTURES) / (token_s[-1] - token_s[CAPTURES]))
            if not peers_first:
                peers[kind] += bench_samples(run, arguments.replies)
        if number == arguments.rounds:
            shares = zip(*(engine.sampling_shares(prompt, settings) for _ in range(10)), strict=True)
            outside, proof = dict(zip(ours, map(statistics.median, shares), strict=True)), engine.prove(prompt, settings)
        engine.close()
    if device.is_gpu:
        kind = f"decode after {CAPTURES} steps"
        ours[kind], peers[kind], outside[kind] = later, peers["decode"], outside["decode"]
    report(arguments, device, ours, peers, outside, proof)
    if claimed:
        claimed.close()


def common_options(threads: int, gpu: bool) -> list:
    """The settings of our engine, as llama-bench's options."""
    where = ["-ngl", 99, "-sm", "none", "-mg", 0] if gpu else ["-ngl", 0, "-dev", "none"]
    return ["-t", threads, "-b", 2048, "-ub", 512, "-fa", "auto", *where, "-o", "json"]


def bench_samples(run: list, replies: int) -> list[float]:
    """Token/s of each repetition of one test of llama-bench."""
    done = subprocess.run([str(part) for part in (*run, "-r", replies)], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"llama-bench failed: {' '.join(map(str, run))}\n{done.stderr.strip()[-2000:]}")
    (test,) = json.loads(done.stdout)
    return test["samples_ts"]


def build_bench(folder: Path, sources: Path | None, share_ggml: bool) -> Path:
    """llama-bench of the version and flags of the installed llama.cpp; built where `folder` does not hold it yet."""
    bench = folder / "build" / "bin" / "llama-bench"
    if bench.is_file():
        return bench
    script = (ROOT / "envs/llamacpp.post-deploy.sh").read_text()
    version, digest = (re.search(rf"^{name}=(\S+)$", script, re.MULTILINE)[1] for name in ("VERSION", "SHA256"))
    folder.mkdir(parents=True, exist_ok=True)
    if sources is None:
        pinned = folder / "sources.txt"
        pinned.write_text(f"llama-cpp-python=={version} --hash=sha256:{digest}\n")
        options = ["--no-deps", "--no-build-isolation", "--no-binary", ":all:", "--require-hashes", "--dest", folder]
        step([sys.executable, "-m", "pip", "download", *options, "--requirement", pinned])
        sources = folder / f"llama_cpp_python-{version}.tar.gz"
    with tarfile.open(sources) as archive:
        archive.extractall(folder, filter="data")
    unwanted = [f"-DLLAMA_BUILD_{part}=OFF" for part in ("EXAMPLES", "TESTS", "SERVER", "APP")]
    tools = Path(sys.prefix) / "bin"
    flags = [*(share() / "cmake-flags.txt").read_text().split(), f"-DCMAKE_MAKE_PROGRAM={tools / 'ninja'}"]
    if share_ggml:
        installed = Path(find_spec("llama_cpp").submodule_search_locations[0])
        flags += ["-DLLAMA_USE_SYSTEM_GGML=ON", f"-Dggml_DIR={installed / 'lib/cmake/ggml'}"]
    code = folder / f"llama_cpp_python-{version}" / "vendor" / "llama.cpp"
    step([tools / "cmake", "-S", code, "-B", folder / "build", "-G", "Ninja", *flags, *unwanted, "-DLLAMA_OPENSSL=OFF"])
    step([tools / "cmake", "--build", folder / "build", "--target", "llama-bench", "--parallel", str(len(os.sched_getaffinity(0)))])
    return bench


def step(command: list) -> None:
    print("building llama-bench:", *command[:4], "…", flush=True)
    done = subprocess.run([str(part) for part in command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        sys.exit(f"llama-bench could not be built:\n{done.stdout[-3000:]}")


def report(arguments, device, ours: dict, peers: dict, outside: dict, proof) -> None:
    seen = proof.evidence
    print(f"{weights(arguments.checkpoint)}: {seen['file_type']}, tensors {seen['tensors']}")
    print(f"{device.name}, {arguments.threads} threads, flash attention {seen['flash_attention']}, build {seen['build']}")
    print(f"prompt {arguments.prompt}, {arguments.new_tokens} decoding steps, {arguments.rounds} rounds of {arguments.replies}")
    row = "{:<40}{:>12}{:>14}{:>9}{:>16}   {}"
    print(row.format("token/s, median", "ours", "llama-bench", "ratio", "95 % interval", "quartiles of ours / of llama-bench"))
    found = {}
    for kind in ours:
        rounds = [_medians(values, arguments.replies) for values in (ours[kind], peers[kind])]
        bounds = percentile_interval([mine / theirs for mine, theirs in zip(*rounds, strict=True)], 0.5)
        if bounds is None:
            sys.exit("the median of so few rounds has no interval; take more --rounds")
        found[kind] = bounds.value
        between = ", ".join("?" if bound is None else f"{bound:.3f}" for bound in (bounds.low, bounds.high))
        mine, theirs = statistics.median(ours[kind]), statistics.median(peers[kind])
        spread = " / ".join(", ".join(f"{q:,.1f}" for q in statistics.quantiles(values)[::2]) for values in (ours[kind], peers[kind]))
        print(row.format(kind, f"{mine:,.2f}", f"{theirs:,.2f}", f"{bounds.value:.3f}", between, spread))
        found[f"{kind}, llama.cpp alone"] = alone = bounds.value / (1 - outside[kind])
        print(row.format(f"{kind}, llama.cpp alone", "", "", f"{alone:.3f}", "", f"{outside[kind]:.2%} of the time passes outside of it"))
    beyond = [kind for kind, ratio in found.items() if not WITHIN[0] <= ratio <= WITHIN[1]]
    print(f"outside {WITHIN[0]}–{WITHIN[1]}: {', '.join(beyond)}" if beyond else f"all within {WITHIN[0]}–{WITHIN[1]}")


def _medians(values: list[float], replies: int) -> list[float]:
    """The median of each round."""
    return [statistics.median(values[i : i + replies]) for i in range(0, len(values), replies)]


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", type=Path, help="folder with a GGUF file and its tokenizer")
    parser.add_argument("--prompt", type=int, default=512, help="tokens of the prompt")
    parser.add_argument("--new-tokens", type=int, default=64, help="decoding steps after the first token")
    parser.add_argument("--rounds", type=int, default=12, help="times that ours and the peer alternate")
    parser.add_argument("--replies", type=int, default=3, help="counted repetitions in each round")
    parser.add_argument("--sampled", action="store_true", help="have llama.cpp's samplers pick tokens, not the likeliest")
    parser.add_argument("--threads", type=int, default=this_machine.physical_cores())
    parser.add_argument(
        "--build", type=Path, default=Path(tempfile.gettempdir()) / "speedgrid-llama-bench", help="where llama-bench is built"
    )
    parser.add_argument("--sources", type=Path, help="the pinned sources, where they are here already")
    parser.add_argument("--share-ggml", action="store_true", help="build llama-bench on the installed ggml, not on one of its own")
    arguments = parser.parse_args()
    if not shutil.which("c++") and not shutil.which("g++"):
        parser.error("building llama-bench needs a C++ compiler (g++)")
    return arguments


if __name__ == "__main__":
    main()
