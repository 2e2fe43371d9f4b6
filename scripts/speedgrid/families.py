"""What transformers knows of the types of models (`model_type`), without transformers: the settings of those that a study may build, and
what kind of model a configuration is of. Pure but for reading families.json, which tools/write_families.py writes.
"""

import functools
import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

from speedgrid import rotary, validation

# The kinds of models, in words; TEXT and IMAGES are what is measured here.
TEXT, IMAGES = "text", "images"
KINDS = {
    TEXT: "a language model that writes with a decoder alone",
    IMAGES: "a classifier of images",
    "encoder": "an encoder, which gives vectors or fills gaps",
    "seq2seq": "a model with an encoder beside its decoder",
    "speech": "a model of speech or sound",
    "classifier": "a classifier, which says no next token",
    "parts": "a model of several parts, such as of images and text",
    "other": "no language model",
}
# How the name of a class ends that config.json has under `architectures`.
WRITES = re.compile(r"(ForCausalLM|LMHeadModel|ForConditionalGeneration)$")
CLASSIFIES = re.compile(
    r"For(Sequence|Token)Classification|ForQuestionAnswering|ForMultipleChoice|ForNextSentencePrediction|RewardModel|ForReward"
)
ENCODES = re.compile(r"ForMaskedLM|ForPreTraining|ForTextEncoding|Encoder(Model)?$")


@functools.cache
def table() -> Mapping:
    """`transformers`, its version; `kinds`, the types of each kind; `built`, the types that random weights are made of; `common`, the
    settings that every type has; and of each type its `settings`, those that its code `asks` for, its `parts` and `positions`."""
    found = json.loads(Path(__file__).with_name("families.json").read_text(encoding="utf-8"))
    return {**found, "kinds": {kind: found["kinds"][kind].split() for kind in found["kinds"]}, "built": found["built"].split()}


def problem(architecture: Mapping) -> str:
    """What is wrong with the type and the names of settings of an `architecture`, as `key: words` or `key.key: words`; empty where nothing
    is. Values are looked at where the model is built."""
    kind, built = architecture["model_type"], table()["built"]
    if kind in built:
        return next(_unknown(architecture, kind, ""), "")
    of = next((name for name, types in table()["kinds"].items() if kind in types), "")
    if of:
        return f"model_type: {kind} is {KINDS[of]}; random weights are of language models and of classifiers of images"
    version = table()["transformers"]
    return f"model_type: {validation.shown(kind)} is none that transformers {version} knows; {validation.unknown(kind, built)}"


def _unknown(settings: Mapping, kind: str, at: str) -> Iterator[str]:
    """The settings that a type does not have, each with what may be meant."""
    known = table()["types"].get(kind)
    if known is None:
        return
    own = known["settings"].split()
    allowed = {"model_type", *own, *known["asks"].split(), *known["parts"], *table()["common"].split()}
    for name, value in settings.items():
        if name not in allowed:
            yield f"{at}{name}: {kind} has no such setting; {validation.unknown(str(name), [*own, *known['parts']])}"
        elif name in known["parts"] and isinstance(value, Mapping):
            inner = value.get("model_type")
            yield from _unknown(value, inner if isinstance(inner, str) else known["parts"][name], f"{at}{name}.")


def positions(config: Mapping) -> int | None:
    """The positions that a model was made for, by its configuration or, where that leaves it out, as its type has them; None where neither
    says so."""
    return rotary.reach(config, _named(config))


def limit(config: Mapping) -> int | None:
    """The `positions` beyond which a model is asked for what it was not made for (rotary.limit)."""
    return rotary.limit(config, _named(config))


def _named(config: Mapping) -> object:
    told = rotary.of_text(config)
    names = [name for name in ("max_position_embeddings", "n_positions") if name in told]
    own = next((told[name] for name in names if told[name]), None)
    return own if names else table()["types"].get(str(told.get("model_type")), {}).get("positions")


def kind_of(config: Mapping) -> str:
    """The kind of model, one of KINDS, of a config.json; TEXT where nothing says otherwise, as where a repository brings its own code."""
    told = config.get("architectures")
    name = str(told[0]) if isinstance(told, list) and told else ""
    kind = next((kind for kind, types in table()["kinds"].items() if config.get("model_type") in types), TEXT)
    if kind == "speech":
        return kind
    if config.get("is_encoder_decoder"):
        return "seq2seq"
    if "ForImageClassification" in name:
        return IMAGES
    if CLASSIFIES.search(name):
        return "classifier"
    if ENCODES.search(name):
        return "encoder"
    if kind == "encoder" and WRITES.search(name):
        return TEXT
    if kind == IMAGES and name.endswith("Model"):
        return "encoder"
    return kind
