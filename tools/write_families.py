"""Write scripts/speedgrid/families.json: the types of models that transformers knows, and the settings of those that a study may build.

    PYTHON tools/write_families.py [--check]

PYTHON is that of an environment of envs/transformers.yaml. `--check` writes nothing, and exits with 1 where the file is out of date.
"""

import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

from speedgrid import families, models

TARGET = Path(families.__file__).with_name("families.json")
# The mappings of transformers' auto classes for each kind of model. A type is of the first kind that has it: Whisper and BERT are among the
# causal language models, too.
KINDS = {
    "speech": [
        "SPEECH_SEQ_2_SEQ",
        "CTC",
        "RNNT",
        "TDT",
        "AUDIO_CLASSIFICATION",
        "AUDIO_XVECTOR",
        "TEXT_TO_SPECTROGRAM",
        "TEXT_TO_WAVEFORM",
    ],
    "seq2seq": ["SEQ_TO_SEQ_CAUSAL_LM"],
    "encoder": ["MASKED_LM"],
    families.TEXT: ["CAUSAL_LM"],
    families.IMAGES: ["IMAGE_CLASSIFICATION"],
    "parts": ["IMAGE_TEXT_TO_TEXT", "MULTIMODAL_LM"],
}


def rendered() -> str:
    """The content of the file: a line for each type, so that a change is seen."""
    import transformers
    from transformers import PreTrainedConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    built = sorted({*named("CAUSAL_LM"), *named("IMAGE_CLASSIFICATION")} & set(CONFIG_MAPPING_NAMES))
    base = models.declared(PreTrainedConfig())
    found = {config.model_type: config for kind in built for config in configurations(kind)}
    asked = {kind: models.asked_for(type(config)) for kind, config in found.items()}
    common = base | set.intersection(*asked.values())
    types = {}
    for kind, config in found.items():
        parts = {name: getattr(config, name).model_type for name in parts_of(config)}
        own = models.declared(config) - base - set(parts)
        types[kind] = {
            "settings": words(own),
            "asks": words(asked[kind] - own - common - set(parts)),
            "parts": dict(sorted(parts.items())),
            "positions": getattr(config, "max_position_embeddings", None),
        }
    kinds: dict[str, list[str]] = {kind: [] for kind in [*KINDS, "other"]}
    for kind in CONFIG_MAPPING_NAMES:
        kinds[next((name for name, mappings in KINDS.items() if any(kind in named(one) for one in mappings)), "other")].append(kind)
    head = {
        "transformers": transformers.__version__,
        "kinds": {kind: words(names) for kind, names in kinds.items()},
        "built": words(built),
        "common": words(common),
    }
    lines = [f"{json.dumps(name)}: {json.dumps(value)}" for name, value in head.items()]
    rows = ",\n".join(f"{json.dumps(kind)}: {json.dumps(types[kind])}" for kind in sorted(types))
    return "{\n" + ",\n".join(lines) + ',\n"types": {\n' + rows + "\n}}\n"


def named(mapping: str) -> Iterable[str]:
    """The types that one of transformers' auto classes takes."""
    from transformers.models.auto import modeling_auto

    return getattr(modeling_auto, f"MODEL_FOR_{mapping}_MAPPING_NAMES")


def configurations(kind: str) -> Iterator:
    """The configuration of a type as it is by default, and those of its parts; none where the type has no defaults."""
    from transformers import AutoConfig

    try:
        waiting = [AutoConfig.for_model(kind)]
    except Exception as error:  # some types have settings without a default
        print(f"{kind}: {type(error).__name__}: {error}", file=sys.stderr)
        return
    while waiting:
        config = waiting.pop()
        yield config
        waiting += [getattr(config, name) for name in parts_of(config)]


def parts_of(config) -> list[str]:
    """The names of a configuration's parts that are there."""
    return [name for name in config.sub_configs if getattr(getattr(config, name, None), "model_type", "")]


def words(names: Iterable[str]) -> str:
    return " ".join(sorted(names))


def main() -> None:
    text = rendered()
    if "--check" in sys.argv:
        is_current = TARGET.is_file() and TARGET.read_text(encoding="utf-8") == text
        sys.exit(0 if is_current else f"{TARGET} is not what tools/write_families.py writes now; run it")
    TARGET.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
