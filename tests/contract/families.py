"""Tiny random models of the architectures that must work beside Llama, and what one engine makes of each.

    python tests/contract/families.py build FOLDER
    python tests/contract/families.py check FOLDER TECHNIQUE

`build` needs the environment `transformers`, `check` that of the technique. `check` prints a line of JSON for each architecture: the
greedy tokens, the log-probabilities of a fixed text, and whether the technique was active; or the status and reason of an expected failure.
"""

import json
import shutil
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from speedgrid import hardware, outcomes  # noqa: E402
from speedgrid.engines import engine_class  # noqa: E402
from speedgrid.transforms import Task, transform  # noqa: E402

SMALL = {"vocab_size": 320, "hidden_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4, "max_position_embeddings": 128}
GROUPED = {**SMALL, "num_key_value_heads": 2, "intermediate_size": 256}
FAMILIES = {
    "llama": {"model_type": "llama", **GROUPED, "rope_theta": 500000.0},
    "gpt2": {"model_type": "gpt2", "vocab_size": 320, "n_embd": 128, "n_layer": 2, "n_head": 4, "n_positions": 128},
    "qwen2": {"model_type": "qwen2", **GROUPED},
    "mistral": {"model_type": "mistral", **GROUPED, "sliding_window": None},
    "gemma": {"model_type": "gemma", **GROUPED, "head_dim": 32},
    "phi": {"model_type": "phi", **SMALL, "intermediate_size": 256},
    "phi3": {"model_type": "phi3", **GROUPED, "pad_token_id": 0, "bos_token_id": 256, "eos_token_id": 256},
    "opt": {"model_type": "opt", **SMALL, "ffn_dim": 256, "word_embed_proj_dim": 128},
}
PROMPT = "def add(a, b):"
SETTINGS = {"max_new_tokens": 8, "batch_size": 1, "ignore_eos": True, "sampling": {"do_sample": False, "repetition_penalty": 1.0}}
TEXT = "\n    return a + b"


def build(folder: Path) -> None:
    from speedgrid import models

    for name, architecture in FAMILIES.items():
        models.build(architecture, "float32", folder / name, seed=5)


def check(folder: Path, technique: str) -> None:
    from speedgrid import planning

    registry = planning.read_yaml("techniques.yaml")
    entry = registry[technique]
    for name in FAMILIES:
        with tempfile.TemporaryDirectory() as scratch:
            print(json.dumps({"family": name, **_attempt(folder / name, Path(scratch), entry)}), flush=True)


def _attempt(checkpoint: Path, scratch: Path, entry: dict) -> dict:
    try:
        return _tokens(checkpoint, scratch, entry)
    except (Exception, MemoryError) as error:
        outcome = outcomes.expected(error)
        if outcome is None:
            raise
        return {"status": outcome.status, "reason": str(outcome)}


def _tokens(checkpoint: Path, scratch: Path, entry: dict) -> dict:
    from speedgrid import corpus

    kind = engine_class(entry["engine"])
    device = hardware.pick_device({"device": "cpu"}, "cpu", kind.uses_torch)
    options = {"dtype": "float32", **entry.get("options", {})}
    if "transform" in entry:
        settings = dict(entry["transform"])
        made = transform(settings.pop("method"))
        task = Task(
            checkpoint,
            scratch,
            settings,
            device,
            options["dtype"],
            threads=1,
            seed=5,
            trust_remote_code=False,
            calibration=lambda: corpus.calibration_text({"text": "stdlib"}),
        )
        made(task)
        checkpoint = scratch
    engine = kind(checkpoint, device, options, threads=1)
    try:
        engine.import_packages()
        engine.open()
        prompt, text = engine.language.tokenize(PROMPT), engine.language.tokenize(TEXT)
        engine.load(len(prompt) + max(len(text), SETTINGS["max_new_tokens"]))
        reply = engine.generate(prompt, SETTINGS, seed=5)
        ((scores, _),) = engine.loglikelihoods([(prompt, text)])
        proof = engine.prove(prompt, SETTINGS)
    finally:
        engine.close()
    return {"status": "ok" if proof.engaged else "not_engaged", "reason": proof.reason, "tokens": reply.token_ids[0], "scores": scores}


if __name__ == "__main__":
    what, folder, *rest = sys.argv[1:]
    shutil.rmtree(folder, ignore_errors=True) if what == "build" else None
    build(Path(folder)) if what == "build" else check(Path(folder), *rest)
