"""Small models with something wrong or unusual about them, and what the engine `transformers` makes of each.

    python tests/workflow/small_models.py build FOLDER
    python tests/workflow/small_models.py scores FOLDER

Needs the environment `transformers`. `build` makes a folder for each name of MODELS. `scores` prints JSON: for each of FAMILIES the largest
difference between the log-probabilities of documents that are scored alone and together.
"""

import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

SMALL = {"vocab_size": 300, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
LLAMA = {"model_type": "llama", **SMALL, "num_key_value_heads": 2, "max_position_embeddings": 256, "tie_word_embeddings": False}
MODELS = {
    "llama": LLAMA,
    "overflowing": LLAMA,
    "bert": {"model_type": "bert", **SMALL, "max_position_embeddings": 256},
    "roberta": {"model_type": "roberta", **SMALL, "max_position_embeddings": 256, "pad_token_id": 1},
    "electra": {"model_type": "electra", **SMALL, "embedding_size": 64, "max_position_embeddings": 256},
}


def build(folder: Path) -> None:
    import torch
    from safetensors.torch import load_file, save_file
    from speedgrid import models

    for name, architecture in MODELS.items():
        models.build(architecture, "float32", folder / name, seed=5)
    # In float16 the feed-forward layers overflow, in bfloat16 and float32 they do not.
    weights = folder / "overflowing" / "model.safetensors"
    tensors = load_file(weights)
    for key, tensor in tensors.items():
        times = 20 if ".gate_proj." in key or ".up_proj." in key else 2e5 if ".down_proj." in key else 1
        tensors[key] = (tensor * times).to(torch.float32)
    save_file(tensors, weights, {"format": "pt"})


if __name__ == "__main__":
    what, folder = sys.argv[1:]
    {"build": build}[what](Path(folder))
