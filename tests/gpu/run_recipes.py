"""Run the code that `./speedgrid show TECHNIQUE` prints, each in a process of its own, and say which of it works on this machine.

    python tests/gpu/run_recipes.py MODEL_FOLDER [TECHNIQUE ...] [--device cuda] [--dtype bfloat16] [--timeout 240] [--jobs 1]

MODEL_FOLDER is a model with its tokenizer in transformers' format. Without names, all techniques of techniques.yaml whose code is Python
and needs nothing but a model: those of checkpoints that speedgrid makes, and of attention alone, are left out. Run it with a Python that
has the packages. With --images the model takes images and the techniques of training steps are run on it; --passes runs forward passes in
their place; --sampled asks for replies as a study that draws tokens does. With --jobs 4 four run at once, and what each did is printed as
it ends. Exit status 1 where some code fails.
"""

import argparse
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from speedgrid import planning  # noqa: E402
from speedgrid.report import recipes  # noqa: E402

# Variables that the printed code leaves to its reader: batches of training steps and passes, and texts to calibrate with.
BATCHES = """
import torch
device, images = {device!r}, {images}
batches = [(torch.randn(8, 3, 64, 64, device=device), torch.zeros(8, dtype=torch.long, device=device)) for _ in range(2)]
if not images:
    batches = [torch.randint(0, 100, (8, 16), device=device) for _ in range(2)]
elif {passes}:
    batches = [part for part, labels in batches]
"""
# What such a study says of its replies.
SAMPLED = {
    "batch_size": 2,
    "max_new_tokens": 24,
    "ignore_eos": True,
    "sampling": {"do_sample": True, "temperature": 0.8, "top_k": 40, "top_p": 0.9, "repetition_penalty": 1.1},
}
TEXTS = 'texts = ["The quick brown fox jumps over the lazy dog. " * 20] * 32\n'
# What the code must have left in its variables, whichever engine it is.
SEEN = """
if "loss" in globals():
    print("SEEN a loss of", loss.item())
elif "logits" in globals():
    print("SEEN logits of", tuple(logits.shape))
elif "tokens" in globals():
    print("SEEN", len(tokens), "tokens")
elif hasattr(output, "shape"):
    print("SEEN", output.shape[-1] - inputs["input_ids"].shape[-1], "tokens")
else:
    print("SEEN", len(output[0].outputs[0].token_ids), "tokens")
"""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("model", type=Path, metavar="MODEL_FOLDER")
    parser.add_argument("techniques", nargs="*", metavar="TECHNIQUE")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--images", action="store_true", help="the model takes images")
    parser.add_argument("--sampled", action="store_true", help="replies as in a study that draws tokens, two texts at once")
    parser.add_argument("--passes", action="store_true", help="forward passes in place of training steps")
    parser.add_argument("--timeout", type=int, default=240, help="seconds for each (default: 240)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="how many run at once (default: 1)")
    arguments = parser.parse_args()
    if arguments.jobs < 1:
        parser.error("--jobs takes a number from 1 on")
    failed = 0
    pool = ThreadPoolExecutor(arguments.jobs)
    try:
        names = {pool.submit(run, code, arguments.timeout): name for name, code in pieces(arguments).items()}
        for done in as_completed(names):
            failed += not done.result().startswith("SEEN")
            print(f"{names[done]}: {done.result()}", flush=True)
    finally:
        # So that Ctrl-C starts none of those that wait.
        pool.shutdown(cancel_futures=True)
    return 1 if failed else 0


def pieces(arguments: argparse.Namespace) -> dict[str, str]:
    """Each technique's code, with what it leaves to its reader before it and a look at what it made after it."""
    registry = planning.read_yaml("techniques.yaml")
    work = ("forward" if arguments.passes else "", "image" if arguments.images else "")
    found = {}
    for name in arguments.techniques or registry:
        trains = registry[name].get("engine") == "pytorch"
        # Prompt lookup takes one text.
        texts = {"batch_size": 1} if "prompt_lookup" in registry[name].get("options", {}) else {}
        settings = SAMPLED | texts if arguments.sampled and not trains else {}
        doing = ("generate", "") if settings else work
        code = recipes.code(name, registry, arguments.dtype, arguments.device, *doing, settings=settings)
        if recipes.MODEL not in code or (any(work) and not trains):
            continue
        before = BATCHES.format(device=arguments.device, images=arguments.images, passes=arguments.passes) if trains else TEXTS
        found[name] = before + code.replace(recipes.MODEL, f"MODEL = {str(arguments.model.resolve())!r}") + "\n" + SEEN
    return found


def run(code: str, timeout: int) -> str:
    with tempfile.TemporaryDirectory() as folder:
        script = Path(folder) / "recipe.py"
        script.write_text(code, encoding="utf-8")
        try:
            done = subprocess.run([sys.executable, str(script)], cwd=folder, capture_output=True, text=True, timeout=timeout)
        except subprocess.TimeoutExpired:
            return f"not done after {timeout} s"
    seen = [line for line in done.stdout.splitlines() if line.startswith("SEEN")]
    if seen:
        return seen[-1]
    return " / ".join((done.stderr or done.stdout).strip().splitlines()[-3:])[-400:] or f"ended with {done.returncode} and said nothing"


if __name__ == "__main__":
    sys.exit(main())
