"""One tiny model as people save it, and what each engine makes of every way: the same figures, or a line that says why there are none.

    python tests/contract/saved_as.py build FOLDER
    python tests/contract/saved_as.py check FOLDER TECHNIQUE ... [--ways WAY ...]

`build` needs the environment `transformers`, `check` that of the techniques. `check` prints a line of JSON for each way and technique: the
status and reason, and of what ran how far its log-probabilities are from those of a plain `forward` of transformers over the same folder,
and how many tokens of the reply are those of the likeliest continuation, and how many there are.
"""

import argparse
import json
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / "scripts"), str(Path(__file__).parent)]

import architectures  # noqa: E402
from speedgrid import checkpoints, outcomes  # noqa: E402

# Twice as wide as the other tiny models, as vLLM wants it on a processor.
SHAPE = {**architectures.GROUPED, "model_type": "mistral", "hidden_size": 128, "head_dim": 32, "sliding_window": None}
# Wider spread still, so that the reply is not one token over and over.
SHAPE |= {"tie_word_embeddings": False, "initializer_range": 0.2}
# None of it may reach a reply: the study's settings are the only ones.
WISHES = {
    "do_sample": True,
    "temperature": 3.0,
    "top_k": 1000,
    "repetition_penalty": 5.0,
    "no_repeat_ngram_size": 1,
    "num_beams": 4,
    "min_new_tokens": 30,
    "max_length": 3,
    "max_new_tokens": 2,
    "forced_bos_token_id": 7,
    "forced_eos_token_id": 7,
    "suppress_tokens": list(range(8, 200)),
    "begin_suppress_tokens": list(range(8, 200)),
    "bad_words_ids": [[token] for token in range(200)],
    "stop_strings": ["a", "e", " "],
    "return_dict_in_generate": True,
    "output_scores": True,
    "use_cache": False,
}


class Checkpoint:
    """A folder with the weights in hand, to be saved in a way of its own."""

    def __init__(self, folder: Path, weights: dict):
        self.folder, self.weights = folder, weights

    def save(self, weights: dict | None = None, name: str = checkpoints.WHOLE, metadata: dict | None = None) -> None:
        from safetensors.torch import save_file

        told = {"format": "pt"} if metadata is None else metadata
        save_file(self.weights if weights is None else weights, self.folder / name, told or None)

    def json(self, name: str, **changes) -> None:
        path = self.folder / name
        told = json.loads(path.read_text()) if path.is_file() else {}
        path.write_text(json.dumps({**told, **changes}))

    def shards(self, weights: dict | None = None) -> None:
        """The weights in two files with an index, and no file of all."""
        weights = self.weights if weights is None else weights
        names = sorted(weights)
        halves = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
        for file, held in halves.items():
            self.save({name: weights[name] for name in held}, file)
        held_in = {name: file for file, held in halves.items() for name in held}
        self.json(checkpoints.INDEX, metadata={}, weight_map=held_in)

    def zeros(self) -> dict:
        return {name: weight * 0 for name, weight in self.weights.items()}

    def to(self, dtype: str, least: int = 1) -> None:
        """The weights of at least so many dimensions in another number format."""
        import torch

        self.weights |= {name: one.to(getattr(torch, dtype)) for name, one in self.weights.items() if one.dim() >= least}


def as_it_is(saved: Checkpoint) -> None:
    pass


def float64(saved: Checkpoint) -> None:
    saved.to("float64")
    saved.save()
    saved.json("config.json", dtype="float64")


def mixed(saved: Checkpoint) -> None:
    """Matrices in bfloat16, norms in float32."""
    saved.to("bfloat16", least=2)
    saved.save()
    saved.json("config.json", dtype="bfloat16")


def merged(saved: Checkpoint) -> None:
    """As after merging an adapter: one layer in another format than the rest, and than config.json says."""
    saved.to("bfloat16")
    saved.weights |= {name: one.float() for name, one in saved.weights.items() if "q_proj" in name}
    saved.save()
    saved.json("config.json", dtype="bfloat16", torch_dtype="float16")


def in_parts(saved: Checkpoint) -> None:
    (saved.folder / checkpoints.WHOLE).unlink()
    saved.shards()


def of_the_makers(saved: Checkpoint) -> None:
    """Beside the files of transformers those of Mistral, of another model here."""
    in_parts(saved)
    saved.save(saved.zeros(), "consolidated.safetensors")
    told = {"dim": 64, "n_layers": 1, "head_dim": 16, "hidden_dim": 32, "n_heads": 4, "n_kv_heads": 4, "norm_eps": 1.0, "vocab_size": 64}
    saved.json("params.json", **told)
    saved.json("tekken.json", config={}, vocab=[])


def beside_one_file(saved: Checkpoint) -> None:
    saved.save(saved.zeros(), "consolidated.safetensors")
    saved.json("params.json", dim=64, n_layers=1)


def void_index(saved: Checkpoint) -> None:
    """A file of all weights, and the shards of an earlier save with their index."""
    saved.shards(saved.zeros())


def lost_index(saved: Checkpoint) -> None:
    """A file of all weights, and the index of shards that are gone."""
    saved.json(checkpoints.INDEX, metadata={}, weight_map=dict.fromkeys(saved.weights, "model-00001-of-00001.safetensors"))


def without_metadata(saved: Checkpoint) -> None:
    saved.save(metadata={})


def of_tensorflow(saved: Checkpoint) -> None:
    saved.save(metadata={"format": "tf"})


def of_numpy(saved: Checkpoint) -> None:
    saved.save(metadata={"format": "np"})


def tied(saved: Checkpoint) -> None:
    """Without the output layer, which is the embedding."""
    saved.save({name: one for name, one in saved.weights.items() if name != "lm_head.weight"})
    saved.json("config.json", tie_word_embeddings=True)


def own_head(saved: Checkpoint) -> None:
    """An output layer of its own, which config.json says to be the embedding: transformers 5 goes by the weights."""
    saved.json("config.json", tie_word_embeddings=True)


def reward_head(saved: Checkpoint) -> None:
    import torch

    saved.save(saved.weights | {"v_head.summary.weight": torch.ones(1, SHAPE["hidden_size"]), "v_head.summary.bias": torch.ones(1)})


def resized(saved: Checkpoint) -> None:
    """More rows than the tokenizer has tokens, as many a model has for its speed."""
    import torch

    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        saved.weights[name] = torch.cat([saved.weights[name], saved.weights[name].mean(dim=0, keepdim=True).repeat(64, 1)])
    saved.save()
    saved.json("config.json", vocab_size=SHAPE["vocab_size"] + 64)


def more_tokens(saved: Checkpoint) -> None:
    """Tokens that were added to the tokenizer alone."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(saved.folder)
    tokenizer.add_tokens([f"<extra{number}>" for number in range(100)])
    tokenizer.save_pretrained(saved.folder)


def wishes(saved: Checkpoint) -> None:
    saved.json("generation_config.json", **WISHES)


def wishes_of_old(saved: Checkpoint) -> None:
    """In config.json, where earlier releases kept them."""
    kept = ("do_sample", "temperature", "repetition_penalty", "no_repeat_ngram_size", "num_beams", "bad_words_ids", "max_length")
    saved.json("config.json", **{name: WISHES[name] for name in kept})


def several_ends(saved: Checkpoint) -> None:
    wanted = json.loads((saved.folder.parent / "as_it_is.json").read_text())["tokens"]
    if wanted[2] in wanted[:2]:
        raise SystemExit("the reply repeats a token, so that it cannot be ended at its third one")
    saved.json("generation_config.json", eos_token_id=[256, wanted[2]], pad_token_id=wanted[2])


def no_end(saved: Checkpoint) -> None:
    (saved.folder / "generation_config.json").unlink(missing_ok=True)
    saved.json("config.json", eos_token_id=None, bos_token_id=None, pad_token_id=None)
    told = json.loads((saved.folder / "tokenizer_config.json").read_text())
    for name in ("eos_token", "bos_token", "pad_token"):
        told.pop(name, None)
    (saved.folder / "tokenizer_config.json").write_text(json.dumps(told))


def padding_below_none(saved: Checkpoint) -> None:
    """As some who have no token for padding write it."""
    for name in ("config.json", "generation_config.json"):
        saved.json(name, pad_token_id=-1)


def chat(saved: Checkpoint) -> None:
    template = "{% for message in messages %}<|{{ message.role }}|>{{ message.content }}{% endfor %}"
    (saved.folder / "chat_template.jinja").write_text(template)


def fp8(saved: Checkpoint) -> None:
    """Matrices in 8 bits with a scale for each block, as DeepSeek-V3 and many after it are published."""
    import torch

    held = dict(saved.weights)
    for name in [name for name in held if "_proj" in name]:
        scale = held[name].abs().max() / 448
        held[name] = (held[name] / scale).to(torch.float8_e4m3fn)
        held[f"{name}_scale_inv"] = scale.reshape(1, 1)
    saved.save(held)
    told = {"quant_method": "fp8", "fmt": "e4m3", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}
    saved.json("config.json", quantization_config=told, dtype="bfloat16")


WAYS: dict[str, Callable[[Checkpoint], None]] = {
    way.__name__: way
    for way in (
        *(as_it_is, float64, mixed, merged, in_parts, of_the_makers, beside_one_file, void_index, lost_index, without_metadata),
        *(
            of_tensorflow,
            of_numpy,
            tied,
            own_head,
            reward_head,
            resized,
            more_tokens,
            wishes,
            wishes_of_old,
            several_ends,
            no_end,
            padding_below_none,
            chat,
            fp8,
        ),
    )
}
# Other models, as the transformers of today writes them: older ones in the environments of some engines read other names, and llama.cpp
# has rules of its own.
WIDER = {"hidden_size": 128, "tie_word_embeddings": False, "pad_token_id": None}
YARN = {"rope_type": "yarn", "rope_theta": 10000.0, "factor": 4.0, "original_max_position_embeddings": 64}
SHAPES = {
    "neox": {
        **architectures.PLAIN,
        **WIDER,
        "model_type": "gpt_neox",
        "use_parallel_residual": False,
        "rope_parameters": {"rope_type": "default", "rope_theta": 50000.0, "partial_rotary_factor": 1.0},
    },
    "yarn": {**architectures.GROUPED, **WIDER, "model_type": "llama", "rope_parameters": YARN},
    "yarn_scaled": {**architectures.GROUPED, **WIDER, "model_type": "llama", "rope_parameters": {**YARN, "attention_factor": 1.0}},
    "no_caps": {
        **architectures.ARCHITECTURES["gemma2"],
        **WIDER,
        "model_type": "gemma2",
        "attn_logit_softcapping": None,
        "final_logit_softcapping": None,
    },
    "normed_heads": {**architectures.PLAIN, "hidden_size": 128, "model_type": "phi", "qk_layernorm": True},
}
# What is another model than the one that it is made from.
OTHERS = ("tied", "resized", "fp8")


def build(place: Path) -> None:
    """A folder for each of WAYS and SHAPES, with what a plain pass makes of it beside it."""
    import shutil

    import torch
    from safetensors.torch import load_file
    from speedgrid import models
    from transformers import AutoTokenizer

    models.build(SHAPE, "float32", place / "made", seed=5)
    # Numbers that each of the formats holds.
    weights = {name: one.bfloat16().float() for name, one in load_file(place / "made" / checkpoints.WHOLE).items()}
    text = AutoTokenizer.from_pretrained(place / "made")(architectures.PROMPT)["input_ids"]
    ordinary = None
    for name, way in WAYS.items():
        saved = Checkpoint(Path(shutil.copytree(place / "made", place / name)), dict(weights))
        saved.save()
        way(saved)
        logs, tokens = architectures.plain(place / name, text, architectures.SETTINGS["max_new_tokens"])
        ordinary = logs if ordinary is None else ordinary
        if name not in OTHERS and not torch.equal(logs, ordinary):
            raise SystemExit(f"{name}: transformers alone makes another model of it")
        (place / f"{name}.json").write_text(json.dumps({"text": text, "logs": logs.tolist(), "tokens": tokens}))
    for name, shape in SHAPES.items():
        models.build(shape, "float32", place / name, seed=5)
        logs, tokens = architectures.plain(place / name, text, architectures.SETTINGS["max_new_tokens"])
        (place / f"{name}.json").write_text(json.dumps({"text": text, "logs": logs.tolist(), "tokens": tokens}))


def check(place: Path, techniques: list[str], ways: list[str]) -> None:
    import torch
    from speedgrid import planning

    registry = planning.read_yaml("techniques.yaml")
    for name in ways:
        told = json.loads((place / f"{name}.json").read_text())
        for technique in techniques:
            try:
                wanted = (torch.tensor(told["logs"]), told["tokens"])
                settings = {**architectures.SETTINGS, "ignore_eos": False}
                found = architectures.attempt(place / name, registry[technique], wanted, told["text"], "cpu", settings)
            except (Exception, MemoryError) as error:
                outcome = outcomes.expected(error)
                traceback.print_exc()
                found = {"status": outcome.status if outcome else "failed", "reason": str(outcome or f"{type(error).__name__}: {error}")}
            print(json.dumps({"way": name, "technique": technique, **found}), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=("build", "check"))
    parser.add_argument("place", type=Path)
    parser.add_argument("techniques", nargs="*")
    parser.add_argument("--ways", nargs="*", default=[*WAYS, *SHAPES])
    told = parser.parse_args()
    build(told.place) if told.what == "build" else check(told.place, told.techniques, told.ways)
