"""ONNX: a causal language model exported with its KV cache by optimum-onnx, and quantized by onnxruntime where that is asked for.

optimum-onnx needs transformers 4. That reads some of what transformers 5 writes wrongly without a word: it takes the base of rotary
embeddings for 10,000, whatever the checkpoint says. So the configuration of a newer checkpoint is put into its words first, and what it
has no words for is refused.
"""

import json
import math
import random
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from speedgrid import checkpoints, files, loading, this_machine
from speedgrid.architectures import experts, in_words_of_transformers_4, says_nothing
from speedgrid.engines import onnxruntime as engine
from speedgrid.engines.onnxruntime import WEIGHTS, has_vnni
from speedgrid.outcomes import NotFinite, Unsupported
from speedgrid.transforms import Task

# Files beside the weights, by their ending, and those of them that transformers 4 needs in words of its own.
SURROUNDINGS = (".json", ".model", ".txt", ".jinja", ".py")
WRITTEN_ANEW = ("config.json", "tokenizer_config.json")
WRITES = "onnx"
QUANTIZATIONS = ("none", "dynamic_int8")
SETTINGS = {
    "type": "object",
    "additionalProperties": False,
    "required": ["quantization"],
    "properties": {
        "quantization": {
            "description": "`none`, or `dynamic_int8`: weights of all linear layers in 8 bits, each column with a scale of its own, and"
            " activations quantized anew at every product.",
            "enum": list(QUANTIZATIONS),
        },
    },
}
# Above this, the weights lie in a file beside the graph: protobuf takes no more than 2 GiB.
ONE_FILE_BYTES = 2**30
# Tokens of the text on which graph and model are compared, and how far apart their log-probabilities may be.
CHECK_TOKENS = 48
# Times that each expert of a layer is taken in it, were they taken alike: the graph may lack one that its export did not come by.
CHECKS_OF_AN_EXPERT = 16
TOLERANCE = {"float32": 1e-3, "float16": 0.1}
# Rotary embeddings that transformers 4 and 5 know by the same names, and whose frequencies do not change with the length of the text:
# a graph would keep those of the text that it was exported with.
ROPE_TYPES = ("default", "linear", "yarn", "llama3")
# Settings of transformers 5 that transformers 4 lacks, and that do not change what the model computes.
NO_MATTER = ("auto_map", "quantization_config", "architectures", "transformers_version", "dtype", "torch_dtype", "model_type")


def make(task: Task) -> dict:
    """Write model.onnx, with the configuration and tokenizer of the source beside it, as transformers 4 reads them.

    Raises Unsupported where the model cannot be exported, and where the exported graph does not compute what the model does, and what
    the engine's `prepare` raises.
    """
    import accelerate  # noqa: F401 - without it optimum stores tied weights twice, and says so in a log only

    quantization = task.settings["quantization"]
    if reason := refusal(quantization, task.dtype, task.device.is_gpu):
        raise Unsupported(reason)
    # Before the minutes that an export takes.
    engine.prepare(task.device)
    checkpoints.weight_files(task.source)
    if not any((task.source / name).is_file() for name in loading.TOKENIZER_FILES):
        raise Unsupported(f"the checkpoint has no tokenizer (none of {', '.join(loading.TOKENIZER_FILES)})")
    loading.unquantized(task.source, "the ONNX export")
    model = _load(task)
    with tempfile.TemporaryDirectory(dir=task.target) as scratch:
        # Embeddings that are also the last layer's weights are stored once, and turned when the graph is loaded; to be quantized,
        # the last layer needs weights of its own.
        place = Path(scratch) if quantization != "none" else task.target
        exported = _export(model, place, shared=quantization == "none", seed=task.seed)
        _check(model, exported.parent, task)
        facts = {"parameters": str(model.num_parameters()), "quantization": quantization}
        model.config.save_pretrained(task.target)
        del model
        if quantization != "none":
            _quantize(exported, task.target / WEIGHTS)
    _note(task.target / WEIGHTS, facts)
    _copy_surroundings(task.source, task.target)
    return {"calibration_tokens": 0}


def refusal(quantization: str, dtype: str, on_gpu: bool) -> str:
    """Why onnxruntime cannot run a combination of quantization, number format and device; empty where it can."""
    if dtype == "float16" and not on_gpu:
        return "onnxruntime does not compute in float16 on a CPU"
    if quantization == "dynamic_int8" and on_gpu:
        return "onnxruntime quantizes activations (DynamicQuantizeLinear) on CPUs only; on a GPU it would copy them to the CPU and back"
    return problem({"quantization": quantization}, dtype)


def problem(settings: Mapping, dtype: str) -> str:
    if dtype == "bfloat16":
        return "onnxruntime does not compute in bfloat16"
    if settings["quantization"] == "dynamic_int8" and dtype != "float32":
        return f"onnxruntime's dynamic quantization starts from float32, not from {dtype}"
    return ""


def config_for_transformers_4(config: Mapping, known: set[str]) -> dict:
    """A config.json as transformers 4 reads it; in its own words where an earlier release than 5 wrote it.

    `known`: the settings that transformers 4 has for this kind of model. Raises Unsupported for what it would pass over, so that the
    model would be another.
    """
    if _major(config) < 5 and "rope_parameters" not in config:
        return in_words_of_transformers_4(config)
    old = dict(config)
    rope = dict(old.pop("rope_parameters", None) or {})
    kind = rope.get("rope_type", "default")
    if any(isinstance(value, Mapping) for value in rope.values()):
        raise Unsupported("transformers 4 has no rotary embeddings that differ between layers, as this checkpoint describes them")
    for name in ("rope_theta", "partial_rotary_factor"):
        if name in rope:
            old[name] = rope.pop(name)
    if kind != "default":
        old["rope_scaling"] = rope
    old = in_words_of_transformers_4(old)
    for name in sorted(set(old) - known - set(NO_MATTER)):
        if not says_nothing(name, old):
            raise Unsupported(f"transformers 4 has no setting {name} for {old['model_type']}; the checkpoint says {json.dumps(old[name])}")
    return old


def refuse_changing_rope(config: Mapping) -> None:
    """Raise Unsupported for rotary embeddings of a kind that cannot be exported, in a configuration of transformers 4."""
    scaling = config.get("rope_scaling") or {}
    kind = scaling.get("rope_type") or scaling.get("type") or "default"
    if kind not in ROPE_TYPES:
        raise Unsupported(f"rotary embeddings of the kind {kind} change with the length of the text, and an ONNX graph cannot follow")


def tokenizer_for_transformers_4(settings: Mapping) -> dict:
    """A tokenizer_config.json as transformers 4 reads it; tokenizer.json, which decides about the tokens, is the same for both."""
    old = {name: value for name, value in settings.items() if name not in ("backend", "is_local")}
    if old.get("tokenizer_class") == "TokenizersBackend":
        old["tokenizer_class"] = "PreTrainedTokenizerFast"
    if isinstance(old.get("extra_special_tokens"), list):
        old["additional_special_tokens"] = old.pop("extra_special_tokens")
    return old


def _major(config: Mapping) -> int:
    """The release of transformers that wrote a config.json, 0 where it does not say; what was on its way to 5 called itself 4."""
    said = str(config.get("transformers_version", "")).partition(".")[0]
    return int(said) if said.isdigit() else 0


def _load(task: Task):
    """The source as a PyTorch model, in words of transformers 4."""
    import torch
    from transformers import AutoModelForCausalLM, GenerationConfig

    where = {"local_files_only": True, "trust_remote_code": task.trust_remote_code}
    said = files.json_object(task.source / "config.json")
    read = loading.read_config(task.source, task.trust_remote_code)
    loading.refuse_own_head(task.source, read, "transformers 4, which exports it,")
    loading.refuse_wrong_attention(read, "eager")
    loading.refuse_framework(task.source, "transformers 4, which exports it,", needs_metadata=False)
    kind = type(read)
    _check_exporter(kind.model_type)
    config = kind.from_dict(config_for_transformers_4(said, {*kind().to_dict(), *kind.attribute_map}))
    refuse_changing_rope(config.to_dict())
    loading.refuse_files(task.source, config)
    with loading.refusals(task.source, "eager"):
        model, found = AutoModelForCausalLM.from_pretrained(
            task.source,
            config=config,
            dtype=getattr(torch, task.dtype),
            # In float16, PyTorch exports SDPA as a product in float32, and the layers after it with it.
            attn_implementation="eager",
            use_safetensors=True,
            output_loading_info=True,
            ignore_mismatched_sizes=True,
            generation_config=GenerationConfig(),
            **where,
        )
    loading.require_whole(model, found)
    if left := sorted(found["unexpected_keys"]):
        raise Unsupported(f"transformers 4 does not read this checkpoint whole: {len(left)} weights such as {left[0]}")
    # optimum writes it beside the graph, and checks it; the source's own is copied.
    model.generation_config = GenerationConfig()
    return model.eval()


def _check_exporter(model_type: str) -> None:
    import optimum.exporters.onnx.model_configs  # noqa: F401 - importing it registers what can be exported
    from optimum.exporters.tasks import TasksManager

    known = TasksManager.get_supported_model_type_for_task("text-generation-with-past", "onnx")
    if model_type.replace("_", "-") not in {name.replace("_", "-") for name in known}:
        raise Unsupported(f"optimum-onnx does not export models of the kind {model_type} with a KV cache")


def _export(model, folder: Path, shared: bool, seed: int) -> Path:
    """model.onnx of a model, and the weights beside it where they are large. `shared`: store tied weights once."""
    import torch
    from optimum.exporters.onnx import onnx_export_from_model

    # The export follows the model over inputs that optimum draws, which choose what is computed where they choose experts.
    random.seed(seed)
    torch.manual_seed(seed)
    try:
        onnx_export_from_model(
            model, folder, task="text-generation-with-past", do_validation=False, no_post_process=not shared, device="cpu"
        )
    except torch.onnx.OnnxExporterError as error:
        raise Unsupported(f"PyTorch cannot export the model to ONNX: {str(error).strip().partition(chr(10))[0]}") from error
    except RuntimeError as error:
        if "Sizes of tensors must match" not in str(error):
            raise
        kind = model.config.model_type
        raise Unsupported(f"optimum-onnx exports {kind} with a KV cache of another shape than the model has: {error}") from error
    return folder / WEIGHTS


def _check(model, folder: Path, task: Task) -> None:
    """Raise Unsupported unless graph and model give the same probabilities, over a prompt and over steps with a KV cache.

    An export follows one run of the model, so that what depended on its inputs may have become a constant.
    """
    import torch

    config = model.config.get_text_config()
    window = getattr(config, "sliding_window", None) or 0
    length = min(max(CHECK_TOKENS, window + CHECK_TOKENS if window < 10 * CHECK_TOKENS else 0), model_context(config) - 1)
    texts = texts_to_check(config.to_dict(), length)
    ids = torch.randint(config.vocab_size, (texts, length), generator=torch.Generator().manual_seed(task.seed))
    ids[:, 0] = 1  # never a padding token by chance, which some models leave out
    prompt = length - 4
    graph = engine.open_model(folder, task.device, task.threads, config=model.config)
    with torch.inference_mode():
        wanted = torch.log_softmax(model(input_ids=ids).logits.float(), dim=-1)
        if wanted.isnan().any():
            raise NotFinite(
                f"the model's outputs are not finite numbers in {task.dtype}; where float32 has the same, its weights are damaged"
            )
        found, past = [], None
        for start, end in ((0, prompt), *((at, at + 1) for at in range(prompt, length))):
            mask = torch.ones_like(ids[:, :end])
            there = {"input_ids": ids[:, start:end].to(graph.device), "attention_mask": mask.to(graph.device)}
            output = graph(**there, past_key_values=past)
            past = output.past_key_values
            found.append(torch.log_softmax(output.logits.float().cpu(), dim=-1))
    apart = (torch.cat(found, dim=1) - wanted).abs().max().item()
    if not apart <= TOLERANCE[task.dtype]:
        raise Unsupported(f"the exported ONNX graph computes something else than the model: log-probabilities differ by up to {apart:.2g}")


def texts_to_check(config: Mapping, length: int) -> int:
    """Number of texts of `length` tokens on which a graph is compared with its model: two, or as many as take every expert."""
    routed, taken = experts(config)
    return max(2, math.ceil(CHECKS_OF_AN_EXPERT * routed / (taken * length))) if routed else 2


def model_context(config) -> int:
    """Longest sequence that a model takes, in tokens."""
    return getattr(config, "max_position_embeddings", None) or 2048


def _quantize(source: Path, target: Path) -> None:
    """Quantize the weights of all products with constant weights.

    Without VNNI, processors add products of 8-bit numbers in 16 bits, which overflow where one factor is signed; unsigned weights are
    safe there, and slower.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    size = sum(path.stat().st_size for path in source.parent.glob(f"{WEIGHTS}*"))
    quantize_dynamic(
        source,
        target,
        op_types_to_quantize=["MatMul"],
        per_channel=True,
        weight_type=QuantType.QInt8 if has_vnni(this_machine.instruction_sets()) else QuantType.QUInt8,
        use_external_data_format=size > ONE_FILE_BYTES,
    )


def _note(path: Path, facts: Mapping[str, str]) -> None:
    """Write facts into the graph, where the engine finds them; the weights beside it stay as they are."""
    import onnx

    graph = onnx.load(path, load_external_data=False)
    onnx.helper.set_model_props(graph, {f"speedgrid.{name}": value for name, value in facts.items()})
    onnx.save(graph, path)


def _copy_surroundings(source: Path, target: Path) -> None:
    """Copy what is neither weights nor configuration, as it is; the tokenizer's settings in words of transformers 4."""
    (target / "generation_config.json").unlink(missing_ok=True)
    for path in sorted(source.iterdir()):
        weights = path.suffix not in SURROUNDINGS or path.name.endswith(".index.json")
        if path.is_file() and not weights and path.name not in WRITTEN_ANEW:
            shutil.copyfile(path, target / path.name)
    settings = source / "tokenizer_config.json"
    if settings.is_file():
        old = tokenizer_for_transformers_4(json.loads(settings.read_text(encoding="utf-8")))
        (target / settings.name).write_text(json.dumps(old, ensure_ascii=False, indent=2), encoding="utf-8")
