"""Models and tokenizers of transformers, read from a checkpoint whole or not at all.

transformers makes up a weight that it does not find, and passes over one that it has no place for, with no more than a warning; the figures
would be those of another model. Every engine and transform that reads a model with transformers reads it here.
"""

import re
import shutil
import traceback
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from math import prod
from pathlib import Path

from speedgrid import checkpoints, files, rotary
from speedgrid.outcomes import MissingDependency, Outcome, OutOfMemory, Unsupported, expected

GENERATION = "generation_config.json"
TOKENIZER_FILES = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "spiece.model")
SENTENCEPIECE = ("tokenizer.model", "spiece.model")
# What in a tokenizer.json decides which tokens a text becomes and how they are read back, by the names of the package tokenizers; and the
# classes of transformers, by their names in 4 and 5, that take all of it as it is.
RULES_OF_TOKENS = ("normalizer", "pre_tokenizer", "model", "decoder")
AS_THE_FILE = ("PreTrainedTokenizerFast", "TokenizersBackend")
# The files of weights that transformers looks for; it reads no other name.
WEIGHTS = (checkpoints.WHOLE, checkpoints.INDEX)
# The ways of quantizing whose checkpoints hold tensors that are no floating-point numbers, so that one without any is not quantized.
PACKED = ("bitsandbytes", "gptq", "awq", "torchao")
# What earlier releases saved beside the weights and computes nothing, masks and frequencies that follow from the configuration; and scales
# of a KV cache in 8 bits, which transformers does not have.
BUFFERS = re.compile(
    r"(^|\.)(inv_freq|masked_bias|causal_mask|attn\.bias|attention\.bias|position_ids|num_batches_tracked|embed_positions\.weights"
    r"|[kqv]_scale|kv_scale|prob_scale)$"
)
# Tokens of the pass that a changed model has to do; more than a block of any format, and no power of two.
TRIAL = 47
# How the names of a language model's embedding end.
EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "word_embeddings.weight", "embed_in.weight")
# And that of its output layer, where it is no embedding.
HEADS = ("lm_head.weight", "embed_out.weight")
# What a pass gives out: left over from whoever saved the checkpoint, it changes what is called and not the model.
AS_CALLED = {"return_dict": True, "output_attentions": False, "output_hidden_states": False}
# What wrappers put before the names of weights.
WRAPPERS = {
    "_orig_mod.": "torch.compile",
    "module.": "DistributedDataParallel or DeepSpeed",
    "_forward_module.": "Lightning Fabric",
    "base_model.model.": "peft",
    "model._orig_mod.": "torch.compile",
}
# What PyTorch says of sizes that do not fit.
UNFIT = re.compile(
    r"size of tensor|expected input with shape|shapes? cannot be|shape .* is invalid|must match|mat1 and mat2|out of range|expanded size"
    r"|same number of|should be (the same|equal)|inconsistent tensor size|dimension",
    re.IGNORECASE,
)
# How a weight is called where its format packs several numbers into one.
PACKED_WEIGHTS = (".qweight", ".weight_packed")
NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")


def read_tokenizer(folder: Path, trust_remote_code: bool = False):
    """The tokenizer of a checkpoint. Raises Unsupported where there is none or it cannot be read, and MissingDependency where a package
    for it is missing."""
    from transformers import AutoTokenizer

    if not any((folder / name).is_file() for name in TOKENIZER_FILES):
        raise Unsupported(f"the checkpoint has no tokenizer (none of {', '.join(TOKENIZER_FILES)})")
    pieces = next((name for name in SENTENCEPIECE if (folder / name).is_file()), None)
    if pieces and not (folder / "tokenizer.json").is_file() and not find_spec("sentencepiece"):
        raise MissingDependency(
            f"the tokenizer is {pieces} alone, which needs the Python package sentencepiece, and this environment has none; where it is"
            " installed, AutoTokenizer.from_pretrained(FOLDER).save_pretrained(FOLDER) writes the tokenizer.json that needs none"
        )
    # Where the package mistral-common is installed, Mistral's own tokenizer would take the place of the one that all other engines read.
    how = {"mistral_format": False} if int(version().partition(".")[0]) >= 5 else {}
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=trust_remote_code, **how)
        _go_by_file(tokenizer, folder / "tokenizer.json")
        return tokenizer
    except MemoryError:
        raise
    except Exception as error:  # tokenizers raises no narrower class for a file that it cannot read
        if (folder / "config.json").is_file():
            read_config(folder, trust_remote_code)  # which transformers reads first, and which may be what is wrong
        raise _refusal(error, folder) or Unsupported(f"the tokenizer of the checkpoint cannot be read: {line(error)}") from error


def _go_by_file(tokenizer, file: Path) -> None:
    """Have a tokenizer cut text as its tokenizer.json says, whatever the class does that tokenizer_config.json or the family names.

    transformers 5 puts rules of a class in the place of those of the file: of a Qwen2 that came from another family, such as DeepSeek's
    distilled ones, it then makes other tokens than the model was trained on, and than other engines do.
    """
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None or not file.is_file() or type(tokenizer).__name__ in AS_THE_FILE:
        return
    from tokenizers import Tokenizer

    said = Tokenizer.from_file(str(file))
    for part in RULES_OF_TOKENS:
        if (wanted := getattr(said, part)) is not None or getattr(backend, part) is not None:
            setattr(backend, part, wanted)


def read_config(folder: Path, trust_remote_code: bool = False):
    """The configuration of a checkpoint. Raises Unsupported where transformers does not know this kind of model, or finds something in
    config.json wrong."""
    from transformers import AutoConfig

    if not (folder / "config.json").is_file():
        raise Unsupported("the checkpoint has no config.json")
    try:
        config = AutoConfig.from_pretrained(folder, local_files_only=True, trust_remote_code=trust_remote_code)
    except MemoryError:
        raise
    except Exception as error:  # huggingface_hub, which checks the types of settings, has classes of its own
        raise _refusal(error, folder) or Unsupported(f"config.json of the checkpoint cannot be read: {line(error)}") from error
    for name, value in AS_CALLED.items():
        if getattr(config, name, value) != value:
            setattr(config, name, value)
    # Nor does the attention that they had, whose package need not be here.
    config._attn_implementation = None
    if getattr(config, "quantization_config", None) == {}:
        # As after merging: nothing is quantized, and transformers asks an empty one for its method.
        del config.quantization_config
    refuse_texts(config.to_dict(), usual_settings(config))
    return config


def refuse_texts(config: Mapping, usual: Mapping) -> None:
    """Raise Unsupported for a configuration that has a text where a number belongs, as `"rope_theta": "10000"`, which ends a pass of the
    model wherever it meets a number. `usual` are the settings that the family has by default."""
    told = rotary.of_text(config)
    found = [(name, told.get(name)) for name, value in usual.items() if type(value) in (int, float)]
    found += [(name, value) for rope in rotary.ropes(config) for name, value in rope.items() if re.fullmatch(r"-?\d[\d.e+-]*", str(value))]
    for name, value in found:
        if isinstance(value, str):
            raise Unsupported(f"config.json has the text {value!r} for `{name}`, where a number belongs")


def usual_settings(config) -> dict:
    """The settings of a language model that its family has by default, which are those of its published models; empty for a family whose
    code is not that of transformers."""
    # transformers 4.40 has no word for the part of a configuration that is the language model's, and no model of several parts here.
    kind = type(config.get_text_config(decoder=True) if hasattr(config, "get_text_config") else config)
    has_defaults = kind.__module__.startswith("transformers.models.") and not getattr(kind, "has_no_defaults_at_init", False)
    return kind().to_dict() if has_defaults else {}


def read_model(folder: Path, auto=None, *, config=None, trust_remote_code: bool = False, **how):
    """A model of transformers with all weights of a checkpoint.

    `auto` is its class, AutoModelForCausalLM unless told; `config` its configuration where that is read already; `how` goes to
    `from_pretrained`. Raises Unsupported, with the name of a weight, where one is missing, has another shape than the configuration says,
    or has no place in the model; where the model is of another kind; and where transformers refuses what `how` asks for.
    """
    from transformers import AutoModelForCausalLM, GenerationConfig

    config = config or read_config(folder, trust_remote_code)
    if auto is None:
        refuse_encoder(config)
    refuse_files(folder, config)
    # A configuration that is handed over obeys `how`; one that transformers reads itself has a say of its own in the attention.
    where = {"config": config, "use_safetensors": True, "local_files_only": True, "trust_remote_code": trust_remote_code}
    # Replies are made by the settings of the study: neither those of the folder are read, some of which transformers refuses, nor a
    # `generate` that comes with the code of a trusted model.
    where["generation_config"] = GenerationConfig()
    with refusals(folder, how.get("attn_implementation", "")):
        model, report = (auto or AutoModelForCausalLM).from_pretrained(
            folder, output_loading_info=True, ignore_mismatched_sizes=True, **where, **how
        )
    require_whole(model, report)
    return model


@contextmanager
def refusals(folder: Path, attention: str = "") -> Iterator[None]:
    """Turn what transformers raises over a checkpoint into the expected failure that it stands for, where it is one that is known;
    `attention` is the one that was asked for."""
    try:
        yield
    except (ImportError, OSError, ValueError, TypeError, KeyError, RuntimeError, AttributeError, AssertionError) as error:
        if known := _refusal(error, folder, attention):
            raise known from error
        raise


def save(model, tokenizer, source: Path, target: Path) -> None:
    """Write a model that was read from `source` and changed since into the folder `target`, with its tokenizer."""
    model.save_pretrained(target, max_shard_size=checkpoints.SHARD)
    tokenizer.save_pretrained(target)
    keep_generation_config(source, target)


def keep_generation_config(source: Path, target: Path) -> None:
    """Put the generation_config.json of a checkpoint beside what was made of it, as it is: it says where a reply ends. What a library has
    written in its place is taken away."""
    (target / GENERATION).unlink(missing_ok=True)
    if (source / GENERATION).is_file():
        shutil.copyfile(source / GENERATION, target / GENERATION)


def refuse_encoder(config) -> None:
    """Raise Unsupported for a model with an encoder, whose decoder alone would run."""
    if getattr(config, "is_encoder_decoder", False):
        raise Unsupported(f"{config.model_type} models have an encoder, and only what generates with a decoder alone is measured here")


def refuse_own_head(folder: Path, config, what: str) -> None:
    """Raise Unsupported where the configuration, read or as it stands in config.json, says that the output layer is the embedding, and the
    weights hold another one, or that one alone: `what` goes by the configuration and would compute another model. (transformers 5 goes by
    the weights.)"""
    told = config if isinstance(config, Mapping) else config.to_dict()
    if not (told.get("text_config") or told).get("tie_word_embeddings"):
        return
    files = [path for path in checkpoints.weight_files(folder) if path.suffix == ".safetensors"]
    shapes = {(path, name): entry["shape"] for path in files for name, entry in checkpoints.tensors(path).items()}
    embedding, head = (next((place for place in shapes if place[1].endswith(ends)), None) for ends in (EMBEDDINGS, HEADS))
    # The embedding of some families has another name.
    if head and not embedding and list(shapes.values()).count(shapes[head]) == 1:
        raise Unsupported(
            f"the checkpoint has its embedding under the name of the output layer alone ({head[1]}), where {what} does not look for it;"
            " read it with transformers 5, and save it anew"
        )
    if embedding and head and checkpoints.content(*embedding) != checkpoints.content(*head):
        raise Unsupported(
            "the configuration says that the output layer is the embedding (`tie_word_embeddings`), and the weights hold another one"
            f" ({head[1]}), which {what} passes over; set tie_word_embeddings to false in config.json"
        )


def refuse_other_weights(folder: Path, config, what: str) -> None:
    """Raise Unsupported where the weights of a checkpoint are not those that its configuration tells of, for an engine `what` that takes no
    notice of some of them: that leaves missing ones as the memory was, or passes over a bias that the configuration has no place for.

    The names and shapes in the heads of the files are held against a model of transformers without weights. Families that transformers has
    no causal language model of, or cannot make one here, are left alone.
    """
    import torch
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoModelForCausalLM

    if type(config) not in MODEL_FOR_CAUSAL_LM_MAPPING:
        return
    try:
        with torch.device("meta"):
            # Whatever config.json names, whose package need not be here.
            model = AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    except (ImportError, ValueError, TypeError, KeyError, RuntimeError, AttributeError):
        return
    held = {name: entry["shape"] for name, entry in checkpoints.all_tensors(folder).items()}
    kind, prefix = type(model).__name__, model.base_model_prefix
    # Tied weights are one here, by the name of the first.
    wanted = {name: list(weight.shape) for name, weight in model.named_parameters()}
    if left := lacking(held, wanted, prefix):
        raise Unsupported(f"the checkpoint lacks weights that {kind} has, such as {left[0]} ({len(left)} missing)")
    if getattr(config, "quantization_config", None):
        # Shapes of packed weights are others, and files of GPTQ hold biases of nothing.
        return
    for name, shape in held.items():
        of_model = next((wanted[spelling] for spelling in spellings(name, prefix) if spelling in wanted), shape)
        if of_model != shape:
            said = f"{_shape(shape)} in the checkpoint and {_shape(of_model)} by the configuration"
            raise Unsupported(f"config.json does not fit the weights: {name} is {said}")
    if left := stray_biases(held, (name for name, _ in model.named_modules()), model.state_dict(), prefix):
        such = f"such as {left[0]} ({len(left)} such weights)"
        raise Unsupported(f"the checkpoint holds weights that {kind} has no place for, {such}, and {what} passes over them")


def spellings(name: str, prefix: str) -> set[str]:
    """The names that a weight has with and without that of the base model."""
    return {name, f"{prefix}.{name}", name.removeprefix(f"{prefix}.")}


def lacking(held: Iterable[str], wanted: Iterable[str], prefix: str = "") -> list[str]:
    """The weights among those that a model has (`wanted`) which a checkpoint lacks, by the names of what it holds.

    A name counts as lacking where the same one of another layer is held, and an embedding or output layer where none of any name is: a
    family whose weights have other names in its checkpoints than in the model lacks none. Of experts each must have what another one of its
    layer has.
    """
    held, wanted = set(held), list(wanted)
    # A packed weight is there, too, by the name that it has unpacked.
    packed = re.compile(rf"({'|'.join(map(re.escape, PACKED_WEIGHTS))})$")
    names = held | {packed.sub(".weight", name) for name in held}
    patterns = {NUMBER.sub("#", name) for name in names}
    # Where the model has no head of its own, either may be the one that both are.
    ends = (EMBEDDINGS, HEADS) if any(name.endswith(HEADS) for name in wanted) else ((*EMBEDDINGS, *HEADS),)

    def is_lacking(name: str) -> bool:
        if outer := next((group for group in ends if name.endswith(group)), None):
            return not any(other.endswith(outer) for other in names)
        written = spellings(name, prefix)
        return not written & names and any(NUMBER.sub("#", spelling) in patterns for spelling in written)

    found = sorted(filter(is_lacking, wanted))
    expert = gap(name for name in held if ".experts." in name)
    return found + ([expert] if expert else [])


def stray_biases(held: Iterable[str], modules: Iterable[str], weights: Iterable[str], prefix: str = "") -> list[str]:
    """The biases among the weights `held` of a checkpoint that belong to layers of the model which have none. `modules` and `weights` are
    the model's, `prefix` is the name of its base model, with or without which a checkpoint names them."""
    layers, known = set(modules) - {"", prefix}, set(weights)

    def strays(name: str) -> bool:
        layer = name.removesuffix(".bias")
        return (
            layer != name and not BUFFERS.search(name) and bool(spellings(layer, prefix) & layers) and not spellings(name, prefix) & known
        )

    return sorted(filter(strays, held))


def refuse_wrong_attention(config, attention: str) -> None:
    """Raise Unsupported for an attention that transformers computes wrongly for a model: Falcon's eager one, from 4.57 to 5.23, adds the
    biases of ALiBi twice. (In 4.40 it is what SDPA is there and since.)"""
    if config.model_type == "falcon" and getattr(config, "alibi", False) and attention == "eager":
        raise Unsupported(
            "transformers adds the biases of ALiBi twice in Falcon's eager attention, which is then another model; SDPA is right: take a"
            " technique with it as the baseline"
        )


def refuse_framework(folder: Path, what: str, needs_metadata: bool) -> None:
    """Raise Unsupported where a file of weights does not say that PyTorch saved it, for a transformers 4, `what`, which goes by that and
    would look for another framework. `needs_metadata`: whether it ends at a file without metadata, too."""
    for path in checkpoints.weight_files(folder):
        said = checkpoints.framework(path)
        # It takes weights of MLX for those of PyTorch.
        if said in ("pt", "mlx") or (said is None and not needs_metadata):
            continue
        told = f"name the format {said!r}" if said else "name none"
        raise Unsupported(
            f"{what} reads weights whose metadata name PyTorch as their format, and those of {path.name} {told}; save them anew with"
            " safetensors.torch.save_file(weights, file, {'format': 'pt'})"
        )


def check(folder: Path, trust_remote_code: bool = False) -> None:
    """Raise Unsupported unless transformers reads a checkpoint of a language model whole; no weight is kept.

    For what loads the checkpoint in a way that looks at fewer weights: transformers itself compares no shape of what it quantizes.
    """
    read_model(folder, trust_remote_code=trust_remote_code, device_map={"": "meta"})


def unquantized(folder: Path, what: str) -> None:
    """Raise Unsupported where a checkpoint is quantized, or says so, and `what` starts from whole weights."""
    told = files.json_object(folder / "config.json").get("quantization_config")
    if told:
        refuse_nameless(told)
        _refuse_leftover(told, checkpoints.weight_files(folder))
        raise Unsupported(
            f"the checkpoint is quantized already ({quantization(told)}); {what} starts from whole weights, those of the model it came from"
        )


def quantization(told: Mapping | None) -> str:
    """How a `quantization_config` says that weights are quantized, in words; empty where there is none."""
    if not told:
        return ""
    method = str(told.get("quant_method") or "bitsandbytes")
    if told.get("load_in_8bit") or told.get("_load_in_8bit"):
        return f"{method}, INT8"
    if told.get("load_in_4bit") or told.get("_load_in_4bit"):
        return f"{method}, {str(told.get('bnb_4bit_quant_type') or '').upper() or '4 bits'}"
    return f"{method}, {told['bits']} bits" if told.get("bits") else method


def refuse_files(folder: Path, config) -> None:
    """Raise Unsupported where the files of weights are not those that transformers reads, or not quantized as the configuration says."""
    files = checkpoints.weight_files(folder)
    if not any((folder / name).is_file() for name in WEIGHTS):
        raise Unsupported(f"transformers reads {' or '.join(WEIGHTS)}, and the checkpoint has neither; it holds {files[0].name}")
    told = getattr(config, "quantization_config", None) or {}
    told = told.to_dict() if hasattr(told, "to_dict") else told
    refuse_nameless(told)
    _refuse_leftover(told, files)


def refuse_nameless(told: object) -> None:
    """Raise Unsupported for a `quantization_config` that does not say how weights are quantized."""
    if told and not (isinstance(told, Mapping) and any(told.get(name) for name in ("quant_method", "load_in_8bit", "load_in_4bit"))):
        raise Unsupported(
            "config.json has a `quantization_config` that names no method (`quant_method`), so that nobody can know how the weights are"
            " quantized; where they are not, remove it"
        )


def _refuse_leftover(told: Mapping, files: Iterable[Path]) -> None:
    """Raise Unsupported where a `quantization_config` tells of weights that are whole, as after merging an adapter into them."""
    if told.get("quant_method") in PACKED or told.get("load_in_8bit") or told.get("load_in_4bit"):
        held = {entry["dtype"] for path in files for entry in checkpoints.tensors(path).values()}
        if held <= set(checkpoints.UNQUANTIZED):
            raise Unsupported(
                f"config.json says that the weights are quantized ({quantization(told)}), and they are not ({', '.join(sorted(held))});"
                " remove its `quantization_config`"
            )


def require_whole(model, report: Mapping) -> None:
    """Raise Unsupported where the loading report of transformers names a weight that was made up, or one that would change the model and
    was passed over."""
    kind = type(model).__name__
    if names := sorted(name for name in report["missing_keys"] if not name.endswith("num_batches_tracked")):
        why = _of_a_wrapper(report["unexpected_keys"])
        raise Unsupported(f"the checkpoint lacks weights that {kind} has, such as {names[0]} ({len(names)} missing){why}")
    # transformers 4.57 gives their names alone.
    if named := sorted(name for name in report["mismatched_keys"] if isinstance(name, str)):
        raise Unsupported(
            f"config.json does not fit the weights: {named[0]} has another shape in the checkpoint than by the configuration ({len(named)}"
            " such weights)"
        )
    if report["mismatched_keys"]:
        name, held, wanted = min(report["mismatched_keys"])
        if empty := [name for name, held, _ in report["mismatched_keys"] if not prod(held)]:
            raise Unsupported(
                f"{min(empty)} of the checkpoint is empty ({len(report['mismatched_keys'])} weights do not fit): training in parts"
                " (DeepSpeed ZeRO-3, FSDP) left placeholders; gather the weights before they are saved (DeepSpeed: zero_to_fp32.py)"
            )
        raise Unsupported(
            f"config.json does not fit the weights: {name} is {_shape(held)} in the checkpoint and {_shape(wanted)} by the configuration"
            f" ({len(report['mismatched_keys'])} such weights)"
        )
    if left := unused(report["unexpected_keys"], (name for name, _ in model.named_modules()), model.base_model_prefix):
        raise Unsupported(f"the checkpoint holds weights that {kind} has no place for, such as {left[0]} ({len(left)} such weights)")


def _of_a_wrapper(names: Iterable[str]) -> str:
    """That weights were saved from within a wrapper of the model, by what their names begin with; empty where no name does."""
    named = list(names)
    found = next((prefix for prefix in WRAPPERS if any(name.startswith(prefix) for name in named)), "")
    return f"; names of its weights begin with `{found}`, which {WRAPPERS[found]} puts there: save the model inside of it" if found else ""


def require_runnable(model, how: str) -> None:
    """Raise Unsupported where a model whose layers were exchanged, as `how` says, cannot run: some families take the weights of a layer and
    multiply with them themselves, which another format of weights does not allow."""
    import torch

    tokens = torch.arange(1, TRIAL + 1, device=model.device)[None] % model.config.get_text_config().vocab_size
    try:
        with torch.inference_mode():
            model(input_ids=tokens, use_cache=False).logits.float().cpu()
    except (RuntimeError, TypeError, ValueError, IndexError, AttributeError, AssertionError) as error:
        if isinstance(expected(error), OutOfMemory):
            raise
        kind = model.config.model_type
        raise Unsupported(f"{how} does not go with the layers of {kind} in transformers: a pass ends with {line(error)!r}") from error


def unused(names: Iterable[str], modules: Iterable[str], prefix: str = "") -> list[str]:
    """The weights among the `names` that a model passes over and that belong to a part that it has, so that it is not the model of the
    checkpoint: a layer more, a bias, an adapter, a scale.

    A part of its own beside the model, such as a head for another task or the tower of another modality, changes nothing of what the
    model computes. `modules` are the model's, `prefix` is the name of its base model.
    """
    known = set(modules) - {"", prefix}
    lists = {name.rpartition(".")[0] for name in known if name.rpartition(".")[2].isdigit()}

    def belongs(name: str) -> bool:
        parts = name.split(".")[:-1]
        inside = {".".join(parts[:count]) for count in range(1, len(parts) + 1)}
        # Saved without the base model's name, or with it where the model has none.
        inside |= {f"{prefix}.{part}" for part in inside} | {part.removeprefix(f"{prefix}.") for part in inside}
        return bool(inside & (known | lists))

    return sorted(name for name in names if not BUFFERS.search(name) and belongs(name))


def gap(names: Iterable[str]) -> str:
    """The weight that one of several numbered siblings (experts of a layer) lacks and the others have; empty where none does."""
    siblings: dict[tuple[str, str], set[int]] = defaultdict(set)
    counts: dict[str, set[int]] = defaultdict(set)
    for name in names:
        if numbers := list(NUMBER.finditer(name)):
            place = numbers[-1]
            before, number, after = name[: place.start()], int(place.group()), name[place.end() :]
            siblings[before, after].add(number)
            counts[before].add(number)
    lacking = [f"{before}{min(counts[before] - held)}{after}" for (before, after), held in siblings.items() if counts[before] - held]
    return min(lacking, default="")


def _refusal(error: Exception, folder: Path, attention: str = "") -> Outcome | None:
    """The expected failure that an error of transformers over a checkpoint stands for; None where it is none that is known."""
    if "trust_remote_code" in str(error):
        # Who knows the model's name in the study names its key (outcomes.expected).
        raise error
    said, kind = str(error), files.json_object(folder / "config.json").get("model_type")
    if "does not recognize this architecture" in said:
        return Unsupported(f"transformers {version()} does not know the model type {kind} of config.json")
    if "Should have a `model_type` key" in said:
        return Unsupported("config.json of the checkpoint names no `model_type`, or none that transformers knows")
    if "Unrecognized configuration class" in said:
        return Unsupported(f"transformers has no causal language model of the type {kind}: a model of another kind, or of several parts")
    if "does not support an attention implementation" in said or "does not support Flash Attention" in said:
        return Unsupported(f"transformers has no {attention} attention for {kind}")
    if "conversion of the weights" in said:
        lacking = gap(name for path in checkpoints.weight_files(folder) for name in checkpoints.tensors(path))
        why = f"{lacking} is missing" if lacking else "the log says which do not fit"
        return Unsupported(f"transformers cannot put the weights of the checkpoint together: {why}")
    if "state dictionary of the model you are trying to load is corrupted" in said:
        # transformers 4: it knows the weights of a whole model, and those of its base alone.
        return Unsupported(
            f"names of weights lack the part that transformers {version()} expects before them, in a checkpoint with an output layer; read"
            " it with transformers 5, and save it anew"
        )
    if "Padding_idx must be within" in said:
        return Unsupported(
            "config.json names a token for padding (`pad_token_id`) that the model has no embedding of, so that transformers makes no model"
            " of it; nothing is padded here: set it to null"
        )
    if isinstance(error, KeyError) and (key := _key_of(error.args[0] if error.args else None, files.json_object(folder / "config.json"))):
        return Unsupported(f"transformers does not know {error.args[0]!r}, which config.json has for `{key}`")
    if named := re.search(r"^module 'torch' has no attribute '(.+)'$", said):
        key = _key_of(named.group(1), files.json_object(folder / "config.json")) or "dtype"
        return Unsupported(
            f'config.json has {named.group(1)!r} for `{key}`, which is no number format of PyTorch, such as "bfloat16"; correct it, or take'
            " it away"
        )
    if isinstance(error, ImportError) and not isinstance(error, ModuleNotFoundError):
        return MissingDependency(line(error))
    if _is_of_a_constructor(error) and expected(error) is None:
        return Unsupported(f"transformers {version()} makes no {kind} of what config.json says: {line(error)}")
    if named := re.search(r"`?(\w+)`? is required to read", said):
        return MissingDependency(f"the tokenizer needs the Python package {named.group(1)}, which is not installed in this environment")
    return None


def _is_of_a_constructor(error: Exception) -> bool:
    """Whether an error came up while a part of a model of transformers was made, as of a value in config.json that is none for it."""
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    return any(
        frame.f_code.co_name == "__init__" and str(frame.f_globals.get("__name__")).startswith("transformers.models.") for frame in frames
    )


def _key_of(value: object, told: Mapping) -> str:
    """The key under which a text stands in a configuration, such as `rope_scaling.type`; empty where it stands under none."""
    for key, held in told.items():
        if isinstance(held, Mapping) and (inner := _key_of(value, held)):
            return f"{key}.{inner}"
        if isinstance(held, str) and held == value:
            return key
    return ""


def line(error: Exception) -> str:
    """The first line of an error that says anything, with the one after it where it only begins; with its kind where it is no sentence."""
    lines = [part.strip() for part in str(error).splitlines() if part.strip()]
    first = " ".join(lines[: 2 if lines[0].endswith(":") else 1]) if lines else ""
    return first if " " in first else f"{type(error).__name__}: {first}".removesuffix(": ")


def _shape(shape: Iterable[int]) -> str:
    return " × ".join(map(str, shape)) or "a single number"


def version() -> str:
    """That of transformers in this environment."""
    from transformers import __version__

    return __version__
