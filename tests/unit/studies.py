"""Studies for tests: a small valid one, and the project's own registry."""

import copy
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]

SMALL = {
    "study": "small",
    "seed": 7,
    "gpus": {"local": {"device": "auto"}, "cpu": {"device": "cpu"}},
    "models": {
        "tiny": {"train": {"hidden_size": 32, "layers": 1, "heads": 2, "kv_heads": 1}},
        "shape": {"architecture": {"model_type": "gpt2"}},
    },
    "experiments": {
        "generate": {
            "models": ["tiny", "shape"],
            "techniques": ["baseline", "sdpa", "bnb_int8"],
            "dtype": "float32",
            "prompt": "def f(x):",
            "replies": 4,
        }
    },
}


def schema(name: str) -> dict:
    return yaml.safe_load((ROOT / f"rules/schemas/{name}.schema.yaml").read_text(encoding="utf-8"))


def registry() -> dict:
    return yaml.safe_load((ROOT / "techniques.yaml").read_text(encoding="utf-8"))


def small() -> dict:
    return copy.deepcopy(SMALL)
