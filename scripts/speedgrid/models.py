"""Where the models come from: trained here, built with random weights, a local folder, a GGUF file, or the hub at a pinned revision."""

import inspect
import json
import re
import textwrap
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from speedgrid import checkpoints, corpus, files, gguf_origin, loading, random_weights
from speedgrid.downloads import from_the_hub
from speedgrid.outcomes import ModelError, Unsupported, expected

# Enough text for a tokenizer and for more steps than a small model takes, and little enough to be tokenized in seconds.
TRAINING_BYTES = 6_000_000
# Enough for a model so small; 16 threads, on a busy machine of 32 cores, had not taught it in eleven minutes.
TRAINING_THREADS = 2
# What any configuration of transformers may say, though some classes do not declare it.
SETTINGS_OF_ALL = ("bos_token_id", "eos_token_id", "pad_token_id", "tie_word_embeddings", "dtype", "torch_dtype")
# How code asks a configuration for a setting.
ASKED = re.compile(r"config\.(\w+)|(?:pop|get|setdefault)\(\s*[\"'](\w+)[\"']|getattr\(\w+, [\"'](\w+)[\"']")
# Parameters from which on a pass on numbers takes seconds.
LARGE = 1_000_000_000
HUB_FILES = ["*.json", "*.model", "*.txt", "*.jinja"]


def prepare(
    model: Mapping, folder: Path, seed: int, say: Callable[[str], None], enter: Callable[[str], object] = lambda phase: None
) -> dict:
    """Make the checkpoint of a study's model entry in `folder`; returns columns of schema.MODEL. `say` takes lines on how it goes and
    `enter` what it is at.

    Raises outcomes.Unsupported for a checkpoint that must not be loaded, and ModelError where it cannot be had.
    """
    if "attention" in model:
        return shape_only(model["attention"], folder)
    if "train" in model:
        found = train(model["train"], folder, seed, say)
    elif "architecture" in model:
        found = build(model["architecture"], model["dtype"], folder, seed, enter)
    elif "local" in model:
        found = take_local(Path(model["local"]).expanduser(), folder)
    elif "gguf" in model:
        found = gguf_origin.prepare(model["gguf"], model["dtype"], folder)
    else:
        found = download(model["hub"], model["revision"], folder, model["trust_remote_code"])
    enter("preparing the model (reading it back)")
    checkpoints.check(folder)
    return {
        "model_type": files.json_object(folder / "config.json").get("model_type", ""),
        "parameters": checkpoints.parameters(folder),
        "quality_meaningful": True,
        **checkpoints.facts(folder),
        **found,
    }


def train(settings: Mapping, folder: Path, seed: int, say: Callable[[str], None]) -> dict:
    """Train a small Llama with its own byte-level BPE tokenizer on the standard library's source code.

    Always on the CPU, in float32 and with TRAINING_THREADS threads, so that the same text and seed give the same model whatever GPU and
    however many cores are there.
    """
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.set_num_threads(TRAINING_THREADS)
    torch.manual_seed(seed)
    texts = corpus.training_text(TRAINING_BYTES)
    tokenizer = _byte_level_bpe(texts, settings["vocabulary"], settings["context"])
    end = tokenizer.eos_token_id
    encoded = tokenizer(texts, add_special_tokens=False)["input_ids"]
    stream = torch.tensor([token for ids in encoded for token in (*ids, end)])
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=settings["hidden_size"],
            intermediate_size=settings["intermediate_size"],
            num_hidden_layers=settings["layers"],
            num_attention_heads=settings["heads"],
            num_key_value_heads=settings["kv_heads"],
            max_position_embeddings=settings["context"],
            bos_token_id=end,
            eos_token_id=end,
            tie_word_embeddings=True,
        )
    )
    losses = _fit(model, stream, settings, torch.Generator().manual_seed(seed), say)
    with checkpoints.replacing(folder) as fresh:
        model.save_pretrained(fresh)
        tokenizer.save_pretrained(fresh)
    return {
        "source": f"trained on the standard library of Python, {len(texts)} files",
        "revision": corpus.fingerprint(texts),
        "train_tokens": settings["steps"] * settings["batch_size"] * settings["sequence"],
        "train_loss": sum(losses[-10:]) / len(losses[-10:]),
    }


def build(architecture: Mapping, dtype: str, folder: Path, seed: int, enter: Callable[[str], object] = lambda phase: None) -> dict:
    """Random weights of a real shape; of a language model with a tokenizer of the 256 bytes. `enter` takes what it is at."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageClassification

    settings = dict(architecture)
    kind = settings.pop("model_type")
    try:
        refuse_unknown(kind, settings)
        config = AutoConfig.for_model(kind, **settings)
        of_images = type(config) in AutoModelForImageClassification._model_mapping
        kind_of_model = AutoModelForImageClassification if of_images else AutoModelForCausalLM

        def make():
            return kind_of_model.from_config(config, dtype=getattr(torch, dtype))

        enter("preparing the model (drawing its weights)")
        torch.manual_seed(seed)
        with random_weights.drawn_on_all_cores(seed):
            model = make()
        if not of_images and not (model.num_parameters() > LARGE and shown_to_fit(make)):
            goes_through(model)
    except (MemoryError, OSError):
        raise
    except Exception as error:  # whatever a value leads to in the code of a family
        if isinstance(error, ModelError) or expected(error):
            raise
        raise ModelError(f"architecture: transformers cannot build it: {_why(error)}") from error
    enter("preparing the model (writing it)")
    if of_images:
        with checkpoints.replacing(folder) as fresh:
            model.save_pretrained(fresh)
        return {"source": f"random weights of a {kind}", "revision": "", "quality_meaningful": False}
    tokenizer = _byte_level_bpe([], 257, getattr(config, "max_position_embeddings", 2048))
    if config.get_text_config().vocab_size < len(tokenizer):
        raise ModelError(f"architecture.vocab_size: needs at least {len(tokenizer)}, one for every byte and one for the end")
    for name in ("bos_token_id", "eos_token_id"):
        # The architecture's usual numbers lie outside of a small vocabulary.
        if (getattr(config, name, None) or 0) not in range(config.get_text_config().vocab_size):
            setattr(model.config, name, tokenizer.eos_token_id)
            setattr(model.generation_config, name, tokenizer.eos_token_id)
    with checkpoints.replacing(folder) as fresh:
        model.save_pretrained(fresh, max_shard_size=checkpoints.SHARD)
        tokenizer.save_pretrained(fresh)
    return {"source": f"random weights of a {kind}", "revision": "", "quality_meaningful": False}


def shown_to_fit(make: Callable[[], Any]) -> bool:
    """Whether a pass over two tokens goes through the model that `make` builds by its shapes alone. On numbers such a pass takes half a
    minute for 8 billion of them. It is left for what looks at numbers, as a router of experts does; for what does not go through, since
    its words are clearer; and for small models, since shapes do not show a table of positions that is too short."""
    try:
        with random_weights.shapes_alone():
            return goes_through(make())
    except Exception:  # whatever it is, the real model says it
        return False


def goes_through(model) -> bool:
    """Whether a pass over two tokens went through. Raises ModelError where it shows that the sizes of the model do not go together: some
    families look at them no sooner."""
    import torch

    try:
        with torch.inference_mode():
            model.eval()(input_ids=torch.tensor([[0, 1]]), use_cache=False)
        return True
    except (RuntimeError, ValueError, IndexError) as error:
        if expected(error) or not loading.UNFIT.search(str(error)):
            return False  # of the number format, or of this device: each cell says so of itself
        raise ModelError(f"architecture: its sizes do not go together: {_why(error)}") from error


def _why(error: Exception) -> str:
    """What an error of transformers or PyTorch says, in one line, with its kind where the text alone says nothing."""
    # transformers names its validator first, and what it found wrong after that.
    lines = [line.strip() for line in str(error).splitlines() if line.strip() and not line.strip().endswith(":")]
    said = re.sub(r"^(\w+Error): ", "", lines[0]) if lines else ""
    return textwrap.shorten(said if " " in said else f"{type(error).__name__}: {said}".removesuffix(": "), 200, placeholder=" ...")


def refuse_unknown(kind: str, settings: Mapping) -> None:
    """Raise ModelError for a setting of an architecture that transformers would take and pass over, so that the shape is another one.

    Known are the settings that the family's configuration class declares, and those that its code or the model's asks for by name: old
    names of settings are no attributes of the class any more.
    """
    from transformers import AutoConfig

    config = AutoConfig.for_model(kind)
    parts = {*config.sub_configs} if hasattr(config, "sub_configs") else set()
    known = declared(config)
    asked: set[str] | None = None
    for name, value in settings.items():
        if name in parts and isinstance(value, Mapping):
            inner = getattr(config, name)
            refuse_unknown(value.get("model_type") or inner.model_type, {key: of for key, of in value.items() if key != "model_type"})
        if name in known or name in parts:
            continue
        asked = asked if asked is not None else asked_for(type(config))
        if name in asked:
            continue
        near = get_close_matches(name, known, 1, cutoff=0.45)
        raise ModelError(
            f"architecture.{name}: {type(config).__name__} of transformers has no such setting"
            + (f"; did you mean {near[0]}?" if near else "")
        )


def declared(config) -> set[str]:
    """The settings that a configuration class of transformers declares."""
    annotated = (name for base in type(config).__mro__ for name in vars(base).get("__annotations__", {}))
    return {*SETTINGS_OF_ALL, *config.to_dict(), *config.attribute_map, *annotated}


def asked_for(kind: type) -> set[str]:
    """The settings that the code of a configuration class, of those that it builds on, and of its models asks for by name."""
    files = {Path(inspect.getfile(base)) for base in kind.__mro__ if base.__module__.startswith("transformers")}
    own = Path(inspect.getfile(kind))
    files |= set(own.parent.glob("modeling_*.py")) | set(own.parents[2].glob("modeling_rope_utils.py"))
    return {next(filter(None, names)) for path in sorted(files) for names in ASKED.findall(path.read_text(encoding="utf-8"))}


def shape_only(shape: Mapping, folder: Path) -> dict:
    """A folder that holds the shape of an attention operation, and no weights."""
    with checkpoints.replacing(folder) as fresh:
        (fresh / "config.json").write_text(json.dumps({"model_type": "attention", **shape}))
    empty = {"parameters": 0, "checkpoint_bytes": 0, "checkpoint_sha256": "", "quality_meaningful": False}
    return {"model_type": "attention", "source": "an attention operation", "revision": "", **empty}


def take_local(source: Path, folder: Path) -> dict:
    """A checkpoint folder of transformers, used where it lies. Raises ModelError where that is no folder of the user's own."""
    if not (source / "config.json").is_file():
        raise ModelError(f"local: {source} is not a checkpoint folder: it has no config.json")
    checkpoints.check(source)
    checkpoints.link(folder, source)
    return {"source": str(source), "revision": ""}


def download(repository: str, revision: str, folder: Path, trust_remote_code: bool) -> dict:
    """A repository of the hub at one commit: its safetensors, configuration and tokenizer, in the hub's own cache."""
    from huggingface_hub import snapshot_download

    def take(files: Iterable[str]) -> Path:
        return Path(snapshot_download(repository, revision=revision, allow_patterns=list(files)))

    with from_the_hub(repository, revision):
        snapshot = take([*HUB_FILES, "*.py"] if trust_remote_code else HUB_FILES)
        # Many a repository holds its weights twice, in one file and in several, or in the format of its makers beside that of transformers.
        take(set(checkpoints.indexed(snapshot).values()) or [checkpoints.WHOLE])
        if not list(snapshot.glob("*.safetensors")):
            take(["*.safetensors"])
    if not list(snapshot.glob("*.safetensors")):
        raise Unsupported(f"{repository} at {revision[:12]} has no safetensors; pickled weights can run code when read and are not loaded")
    checkpoints.link(folder, snapshot)
    return {"source": repository, "revision": revision}


def _byte_level_bpe(texts: list[str], vocabulary: int, context: int):
    from tokenizers import ByteLevelBPETokenizer
    from transformers import PreTrainedTokenizerFast

    end = "<|endoftext|>"
    tokenizer = ByteLevelBPETokenizer()
    tokenizer.train_from_iterator(texts, vocab_size=vocabulary, min_frequency=2, special_tokens=[end], show_progress=False)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer._tokenizer, bos_token=end, eos_token=end, model_max_length=context)


def _fit(model, stream, settings: Mapping, draw, say: Callable[[str], None]) -> list[float]:
    """AdamW with a linear warm-up and cosine decay, on random windows of the token stream."""
    import torch
    from transformers import get_cosine_schedule_with_warmup

    steps, sequence = settings["steps"], settings["sequence"]
    optimizer = torch.optim.AdamW(model.parameters(), lr=settings["learning_rate"], betas=(0.9, 0.95), weight_decay=0.1)
    schedule = get_cosine_schedule_with_warmup(optimizer, num_warmup_steps=max(1, steps // 20), num_training_steps=steps)
    losses = []
    model.train()
    for step in range(1, steps + 1):
        starts = torch.randint(len(stream) - sequence - 1, (settings["batch_size"],), generator=draw)
        batch = torch.stack([stream[start : start + sequence] for start in starts])
        loss = model(input_ids=batch, labels=batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        optimizer.zero_grad()
        losses.append(loss.item())
        if step % max(1, steps // 5) == 0:
            say(f"training: step {step}/{steps}, loss {loss.item():.2f}")
    return losses
