"""GGUF: the file format of llama.cpp, written by llama.cpp's own converter and quantized by its own `llama_model_quantize`."""

import json
import math
import os
import re
import shutil
import signal
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path

from speedgrid import checkpoints, files, gguf_header, gguf_origin, loading, raised, rotary
from speedgrid.engines.llamacpp_library import WEIGHTS, Log, bindings, share
from speedgrid.outcomes import SAYS_NO, Fault, OutOfMemory, Unsupported
from speedgrid.programs import logged
from speedgrid.transforms import Task

# The converter and llama.cpp's own quantization compute on the CPU, whatever the device.
USES_TORCH = False
WRITES = "gguf"
# What the converter writes itself, by our names of the types; all other types are quantized from one of these.
CONVERTED = ("f32", "f16", "bf16")
# The converter's name of the number format that a checkpoint is in.
FORMATS = {"float32": "f32", "float16": "f16", "bfloat16": "bf16"}
# The types of llama.cpp that need no matrix of importances, which its own tools make of a text.
TYPES = (
    *("f32", "f16", "bf16", "q8_0", "q6_k", "q5_k_m", "q5_k_s", "q5_0", "q5_1", "q4_k_m", "q4_k_s", "q4_0", "q4_1", "iq4_nl", "iq4_xs"),
    *("q3_k_l", "q3_k_m", "q3_k_s", "iq3_m", "iq3_s", "iq3_xs", "q2_k", "tq2_0", "tq1_0", "mxfp4_moe"),
)
ORIGINAL = "original"
SETTINGS = {
    "type": "object",
    "additionalProperties": False,
    "required": ["type"],
    "properties": {
        "type": {
            "description": "llama.cpp's name of the format of weights, in small letters; `original` is the GGUF file that a model came as.",
            "enum": [*TYPES, ORIGINAL],
        },
        "file": {
            "description": "The path of another GGUF file of the model, such as one in fewer bits, which `original` then is.",
            "type": "string",
            "minLength": 1,
        },
    },
}
# What a GGUF file says of a model, after the name of its kind, and the keys of transformers for the same.
SIZES = {"block_count": ("num_hidden_layers", "n_layer"), "embedding_length": ("hidden_size", "n_embd")}
# The byte-level BPE of GPT-2, as the package tokenizers writes it: the text is cut by GPT-2's pattern and nothing else.
GPT2_PRE_TOKENIZER = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": True}
# Settings that llama.cpp has one value of for all models of a family, which neither its converter nor its graphs ask config.json for.
FIXED: dict[str, dict[str, object]] = {
    "bloom": {"apply_residual_connection_post_layernorm": False},
    "falcon": {"alibi": False, "parallel_attn": True},
    "gpt2": {"scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False},
    "gpt_bigcode": {"scale_attn_weights": True},
    "olmoe": {"norm_topk_prob": False},
    "qwen2_moe": {"norm_topk_prob": False},
    "qwen3_moe": {"norm_topk_prob": True},
    "qwen3_next": {"norm_topk_prob": True},
}
# Bounds of logits, without which it has no graph of a family.
CAPS = {"gemma2": ("attn_logit_softcapping", "final_logit_softcapping")}
# YaRN's numbers that it takes for all models but those of families that it asks for their own, beside those with latent attention; and
# GPT-OSS, of which it truncates what is not to be truncated, which moves less than float16 rounds.
USUAL_YARN = {"beta_fast": 32, "beta_slow": 1, "truncate": True}
OWN_YARN = ("ministral3", "mistral4", "gpt_oss")
# And its patterns of layers: every so many one without a window, or without positions.
EVERY_SEES_ALL = {"cohere2": 4, "gemma2": 2, "gemma3_text": 6, "gpt_oss": 2}
EVERY_WITHOUT_POSITIONS = {"smollm3": 4}
# The keys that name what a layer computes between its matrices.
ACTIVATIONS = ("hidden_act", "hidden_activation", "activation_function", "activation", "mlp_hidden_act")
# Layers of the published models with 27 billion parameters.
LARGE_GEMMAS = {"gemma2": 46, "gemma3_text": 62, "gemma3": 62}
# Files beside the weights that no engine reads from a GGUF checkpoint.
LEFT_BEHIND = ("*.safetensors", "*.safetensors.index.json", "*.gguf", "*.onnx*", *checkpoints.PICKLES, "*.index.json")

# Runs the converter in a process of its own: it reads its arguments from the command line, and its modules have everyday names.
# - It knows a BPE by what the tokenizer makes of a test string, so it cannot know one that was trained here; told that the pattern is
#   GPT-2's, it takes the name from there. It would also look for a SentencePiece model wherever a family of models usually has one.
# - llama.cpp wants at least one merge, and the tokenizer of a model with random weights has none: two zero bytes, which no text holds.
# - It looks for n_ctx in a GPT-2, which transformers 5 no longer writes.
# - It trusts the code beside some checkpoints unasked, and never that beside others; the study decides.
CONVERTER = """
import sys
from pathlib import Path
share, gpt2, trusted = Path(sys.argv.pop(1)), sys.argv.pop(1) == "gpt2", sys.argv.pop(1) == "trusted"
sys.path[:0] = [str(share), str(share / "gguf-py")]
import convert_hf_to_gguf as converter
from conversion.base import ModelBase, TextModel
from transformers import AutoConfig, AutoTokenizer

def as_trusted(load):
    return lambda *arguments, **named: load(*arguments, **{**named, "trust_remote_code": trusted})
for kind in (AutoConfig, AutoTokenizer):
    kind.from_pretrained = as_trusted(kind.from_pretrained)

as_read = ModelBase.load_hparams
def load_hparams(*arguments, **named):
    found = as_read(*arguments, **named)
    return {"n_ctx": found["n_positions"], **found} if found.get("model_type") == "gpt2" else found
ModelBase.load_hparams = staticmethod(load_hparams)

if gpt2:
    by_hash, class_of = TextModel.get_vocab_base_pre, converter.get_model_class
    def by_pattern(self, tokenizer):
        try:
            return by_hash(self, tokenizer)
        except NotImplementedError:
            return "gpt-2"
    def set_vocab(self):
        self._set_vocab_gpt2()
        if not any("tokenizer.ggml.merges" in part for part in self.gguf_writer.kv_data):
            self.gguf_writer.add_token_merges(["\u0100 \u0100"])
    def with_bpe(*arguments, **named):
        found = class_of(*arguments, **named)
        found.set_vocab = set_vocab
        return found
    TextModel.get_vocab_base_pre, converter.get_model_class = by_pattern, with_bpe
converter.main()
"""


def problem(settings: Mapping, dtype: str) -> str:
    return "`file` in `transform` goes with `type: original` alone" if "file" in settings and settings["type"] != ORIGINAL else ""


def make(task: Task) -> dict:
    """Write model.gguf, with the tokenizer and configuration of the source beside it.

    Weights are rounded once: a quantized type is made from a file in the source's own number format. Raises Unsupported with the
    converter's or the quantizer's own words where llama.cpp does not take the model.
    """
    kind = task.settings["type"]
    if kind == ORIGINAL:
        take_original(task.source, task.target, task.settings.get("file"))
        return {"calibration_tokens": 0}
    llama_cpp = bindings()
    file_type(llama_cpp, kind)
    checkpoints.weight_files(task.source)
    # A GGUF file holds the tokenizer. The engine reads both anyway, and says in a line what the converter ends with.
    config = loading.read_config(task.source, task.trust_remote_code)
    loading.read_tokenizer(task.source, task.trust_remote_code)
    loading.refuse_own_head(task.source, config, "llama.cpp's converter, for many families,")
    refuse_passed_over(config.to_dict(), loading.usual_settings(config))
    target = task.target / WEIGHTS
    if kind in CONVERTED:
        convert(task.source, target, kind, task.trust_remote_code)
    else:
        whole = task.target / "unquantized.gguf"
        convert(task.source, whole, FORMATS.get(number_format(task.source), "f32"), task.trust_remote_code)
        quantize(llama_cpp, whole, target, kind, task.threads)
        whole.unlink()
    copy_surroundings(task.source, task.target)
    return {"calibration_tokens": 0}


def refuse_passed_over(config: Mapping, usual: Mapping) -> None:
    """Raise Unsupported for settings of a model that llama.cpp has rules of its own for: it would compute another model.

    It scales the attention of a Gemma by the width of a head, and with its published 27 billion parameters by that of the stream over the
    heads, whatever `query_pre_attn_scalar` says; it takes a group of experts for as good as its two best, a DeepSeek-V2 for as good as its
    best; and what FIXED and the patterns of layers name, it has one value of. `usual` are the settings that the family has by default:
    llama.cpp computes a family with its usual activation, whatever config.json names.
    """
    told = config.get("text_config") or config
    kind, scalar, layers = str(told.get("model_type")), told.get("query_pre_attn_scalar"), told.get("num_hidden_layers")
    if kind == "deepseek_v2" and (told.get("n_group") or 1) > 1:
        raise Unsupported("llama.cpp chooses experts by groups (`n_group` of config.json) as a DeepSeek-V3 does, and not as a DeepSeek-V2")
    if kind == "deepseek_v3" and told.get("scoring_func") != "sigmoid":
        raise Unsupported(
            "llama.cpp scores experts by what `scoring_func` of config.json says, and by softmax where it says nothing; a DeepSeek-V3 by"
            ' their sigmoid: add `"scoring_func": "sigmoid"`'
        )
    fixed = dict(FIXED.get(kind, {}))
    fixed |= {name: usual[name] for name in ACTIVATIONS if isinstance(usual.get(name), str) and isinstance(told.get(name), str)}
    for name, value in fixed.items():
        if name in told and _rule(told[name]) != _rule(value):
            raise Unsupported(
                f"llama.cpp computes every {kind} with `{name}` {json.dumps(value)}, and config.json says {json.dumps(told[name])}"
            )
    for name in CAPS.get(kind, ()):
        if name in told and told[name] is None:
            raise Unsupported(f"llama.cpp computes every {kind} with `{name}`, and config.json has null for it")
    _refuse_layers(told, kind)
    _refuse_yarn(told, kind)
    if kind == "bamba":
        _refuse_partly_rotated(told)
    if not scalar or LARGE_GEMMAS.get(kind) is None:
        return
    taken = told["hidden_size"] / told["num_attention_heads"] if layers == LARGE_GEMMAS[kind] else told["head_dim"]
    if scalar != taken:
        raise Unsupported(
            f"llama.cpp scales the attention of {kind} as if `query_pre_attn_scalar` of config.json were {taken:g}, and it is {scalar:g}"
        )


def _rule(value: object) -> object:
    """What a setting makes of a model: the ways to compute GELU are one, and so are two names of SiLU."""
    if isinstance(value, str) and value != "quick_gelu" and "gelu" in value:
        return "gelu"
    if value is None:
        return False
    return "silu" if value == "swish" else value


def _refuse_layers(told: Mapping, kind: str) -> None:
    """Raise Unsupported where other layers of a model have a window, or positions, than those that llama.cpp gives them to."""
    kinds, positions = told.get("layer_types"), told.get("no_rope_layers")
    every = EVERY_SEES_ALL.get(kind)
    if every and kinds and [one == "sliding_attention" for one in kinds] != [bool(layer % every) for layer in range(1, len(kinds) + 1)]:
        raise Unsupported(f"llama.cpp has one layer in {every} of a {kind} see all tokens, and `layer_types` has another pattern")
    every = EVERY_WITHOUT_POSITIONS.get(kind)
    if every and positions and [bool(one) for one in positions] != [bool(layer % every) for layer in range(1, len(positions) + 1)]:
        raise Unsupported(f"llama.cpp leaves one layer in {every} of a {kind} without positions, and `no_rope_layers` says otherwise")


def _refuse_yarn(told: Mapping, kind: str) -> None:
    """Raise Unsupported for rotary embeddings in YaRN that have other numbers than the usual ones: llama.cpp computes with those, whatever
    config.json says, but for the families in which it asks for some."""
    if told.get("kv_lora_rank") or kind in OWN_YARN:
        return
    for rope in (rope for rope in rotary.ropes(told) if rotary.rope_type(rope) == "yarn"):
        scale, usual = rotary.yarn_scale(rope), rotary.usual_yarn_scale(rope)
        if not math.isclose(scale, usual, rel_tol=1e-4):
            raise Unsupported(
                f"llama.cpp multiplies YaRN's rotary embeddings of a {kind} by {usual:.4g}, and config.json has {scale:.4g} for it"
                " (`attention_factor` or `mscale`)"
            )
        for name, value in USUAL_YARN.items():
            if rope.get(name, value) != value:
                said = json.dumps(rope[name])
                raise Unsupported(f"llama.cpp computes every {kind} in YaRN with `{name}` {json.dumps(value)}, and config.json says {said}")


def _refuse_partly_rotated(told: Mapping) -> None:
    """Raise Unsupported for a Bamba that rotates a part of each head, as it does by default: the converter puts the numbers of whole heads
    into llama.cpp's order of rotary embeddings, and log-probabilities were 0.1 from the model's, in float32 too."""
    said = (part.get("partial_rotary_factor") for part in (*rotary.ropes(told), told))
    if (share := next(filter(None, said), 0.5)) != 1:
        raise Unsupported(
            f"llama.cpp's converter takes a bamba for one that rotates whole heads, and it rotates {share:g} of each"
            " (`partial_rotary_factor`): that would be another model"
        )


def take_original(source: Path, target: Path, named: str | None = None) -> None:
    """Let the GGUF file that a model came as, or the one that is `named`, stand for model.gguf, without a copy. Raises Unsupported for a
    model that came otherwise, and for a file of another one."""
    file = Path(named) if named else gguf_origin.original(source)
    if named and file:
        require_same_model(file, files.json_object(source / "config.json"))
    if file is None:
        raise Unsupported("the model did not come as a GGUF file, so that there is none to use as it is; take gguf_q4_k_m or another type")
    file, place = file.resolve(), target.resolve()
    # Relative where both are in one working folder, which may move.
    inside = file.is_relative_to(Path.cwd()) and place.is_relative_to(Path.cwd())
    (target / WEIGHTS).symlink_to(os.path.relpath(file, place) if inside else file)
    copy_surroundings(source, target)


def require_same_model(file: Path, config: Mapping) -> None:
    """Raise Unsupported for a GGUF file that is damaged, or of another model than the configuration is: its tokens would be other ones."""
    try:
        head = gguf_header.read(file)
        kind = head.fields["general.architecture"]
        held = {name: int(str(head.fields[f"{kind}.{name}"])) for name in SIZES}
        held["vocabulary"] = head.tensors["token_embd.weight"] // held["embedding_length"]
    except (gguf_header.Damaged, KeyError, ValueError, ZeroDivisionError) as error:
        raise Unsupported(f"{file.name} is damaged, or no GGUF file of a language model: {error}") from None
    told = config.get("text_config") or config
    wanted = {name: next((told[key] for key in keys if key in told), None) for name, keys in SIZES.items()}
    wanted["vocabulary"] = told.get("vocab_size")
    for name, number in wanted.items():
        if number is not None and number != held[name]:
            what = name.replace("_", " ")
            raise Unsupported(f"{file.name} is of another model: its {what} is {held[name]:,}, and that of the study's model is {number:,}")


def file_type(llama_cpp, kind: str) -> int:
    """llama.cpp's number of a quantization type; raises Unsupported for a name that it does not have."""
    prefix = "LLAMA_FTYPE_MOSTLY_"
    if kind == "f32":
        return llama_cpp.LLAMA_FTYPE_ALL_F32
    found = getattr(llama_cpp, prefix + kind.upper(), None)
    if found is None:
        known = sorted(name.removeprefix(prefix).lower() for name in dir(llama_cpp) if name.startswith(prefix))
        raise Unsupported(f"llama.cpp has no GGUF type {kind!r}; it has f32, {', '.join(known)}")
    return found


def convert(source: Path, target: Path, kind: str, trust_remote_code: bool) -> None:
    """A GGUF file of a checkpoint of transformers, in one of CONVERTED."""
    gpt2 = is_gpt2_bpe(source)
    command = [
        sys.executable,
        "-P",
        "-c",
        CONVERTER,
        share(),
        "gpt2" if gpt2 else "as found",
        "trusted" if trust_remote_code else "not trusted",
    ]
    whole = source.resolve()
    with tempfile.TemporaryDirectory(prefix="speedgrid-") as scratch:
        # It would go by an index that a whole file beside it makes void. The name of the folder is written into the file.
        command += [checkpoints.as_read(whole, Path(scratch) / whole.name), "--outfile", target, "--outtype", kind]
        # llama.cpp looks for special tokens of some models by name, and the name would be the folder's.
        command += ["--model-name", "checkpoint"] if gpt2 else []
        done = logged([str(part) for part in command], {**os.environ, "HF_HUB_OFFLINE": "1"})
    if done.returncode or not target.is_file():
        raise why_not_converted(done.returncode, done.stderr)


def why_not_converted(status: int, log: str) -> Exception:
    """What a failure of the converter means, by its exit status and log: an expected failure, or a bug, or an error of the machine."""
    program = "llama.cpp's converter"
    if status == -signal.SIGKILL:
        return OutOfMemory("the process that converts the checkpoint to GGUF ran out of memory")
    found = raised.Raised.last(log)
    if found and found.kind == "OSError":
        return Fault(f"{program}: OSError: {found.text.strip()}")
    if found and found.kind == "KeyError" and "hparams[" in found.code:
        return Unsupported(f"{program} looks for {found.text.strip()} in config.json of the checkpoint, which has none")
    if found and found.kind == "KeyError" and (keys := re.search(r"could not find any of: \[(.+)\]", found.text)):
        return Unsupported(f"{program} looks for {keys[1]} in config.json of the checkpoint, which has none")
    if found and found.kind == "AssertionError" and re.search(r"max\(.+\) < vocab_size", found.code):
        return Unsupported(
            f"{program} writes an embedding for each token of the tokenizer, which has more than the model: tokens were added to it and the"
            " model was not resized"
        )
    if found and "struct.pack(" in found.code and "required argument is not" in found.text:
        # In the head of the file, where what config.json has null for is written as it is.
        return Unsupported(f"{program} wants a number where config.json of the checkpoint has none ({found.text.strip()})")
    if found and "BPE pre-tokenizer was not recognized" in found.text:
        return Unsupported(f"{program} does not know how this tokenizer cuts text into words (its pre-tokenizer)")
    if found:
        return found.outcome(program, "take the model")
    errors = [line.removeprefix("ERROR:hf-to-gguf:").strip() for line in log.splitlines() if line.startswith("ERROR:")]
    said = errors[-1] if errors else f"it ended with status {status}"
    return (Unsupported if SAYS_NO.search(said) else Fault)(f"{program} cannot take the model: {said}")


def quantize(llama_cpp, source: Path, target: Path, kind: str, threads: int) -> None:
    """Quantize a GGUF file with llama.cpp; rows that a type cannot take get the type that llama.cpp falls back to."""
    settings = llama_cpp.llama_model_quantize_default_params()
    settings.ftype, settings.nthread = file_type(llama_cpp, kind), threads
    log = Log(llama_cpp)
    if llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), settings):
        raise log.failure(f"llama.cpp cannot make {kind} of the model")


def is_gpt2_bpe(source: Path) -> bool:
    """Whether a checkpoint's only tokenizer is a byte-level BPE that cuts text exactly as GPT-2's does."""
    path = source / "tokenizer.json"
    if not path.is_file() or (source / "tokenizer.model").exists():
        return False
    told = json.loads(path.read_text())
    pre = {name: value for name, value in (told.get("pre_tokenizer") or {}).items() if name != "trim_offsets"}
    return told["model"].get("type") == "BPE" and told.get("normalizer") is None and pre == GPT2_PRE_TOKENIZER


def number_format(source: Path) -> str:
    """The number format of a checkpoint, as transformers calls it: the one that all its matrices are in, float32 where they are in several
    or in a wider one. Of a quantized one it is that which its configuration names, empty where it names none."""
    matrices = {entry["dtype"] for entry in checkpoints.all_tensors(source).values() if len(entry["shape"]) > 1}
    if matrices <= set(checkpoints.UNQUANTIZED):
        return {("F16",): "float16", ("BF16",): "bfloat16"}.get(tuple(matrices), "float32")
    config = files.json_object(source / "config.json")
    return config.get("dtype") or config.get("torch_dtype") or ""


def copy_surroundings(source: Path, target: Path) -> None:
    """Copy configuration and tokenizer: every file of the folder itself that does not hold weights."""
    for path in sorted(source.iterdir()):
        if path.is_file() and not any(path.match(pattern) for pattern in LEFT_BEHIND):
            shutil.copyfile(path, target / path.name)
