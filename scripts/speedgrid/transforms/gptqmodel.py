"""GPT-QModel: linear layers in few bits by GPTQ or AWQ, both of which look at what the model does with a calibration text."""

import os
import random
from collections.abc import Iterable, Iterator, Mapping, Sequence

from speedgrid import checkpoints, loading
from speedgrid.outcomes import Unsupported
from speedgrid.transforms import Task, awq_packing

DEFAULTS = {"bits": 4, "group_size": 128, "samples": 128, "sequence": 512}
BITS = {"gptq": (2, 3, 4, 8), "awq": (4,)}
# GPT-QModel leaves out sequences of fewer than ten tokens by itself, and its count would then not be ours.
SHORTEST = 16
SETTINGS = {
    "type": "object",
    "additionalProperties": False,
    "required": ["format"],
    "properties": {
        "format": {"description": "The method, and the format of the checkpoint.", "enum": list(BITS)},
        "bits": {"description": "Bits of a weight; 4 where left out.", "type": "integer", "enum": list(BITS["gptq"])},
        "group_size": {
            "description": "Weights along a layer's input that share a scale, or -1 for all of them; 128 where left out.",
            "oneOf": [{"const": -1}, {"type": "integer", "minimum": 1}],
        },
        "samples": {"description": "The most sequences of the calibration text; 128 where left out.", "type": "integer", "minimum": 1},
        "sequence": {"description": "Tokens of such a sequence; 512 where left out.", "type": "integer", "minimum": SHORTEST},
    },
}
# AWQ looks for the best clipping of this many outputs of a layer at a time, and fails where some are left over.
AWQ_OUTPUTS = 64


def make(task: Task) -> dict:
    """Write the quantized checkpoint, with its tokenizer. Raises outcomes.Unsupported where the method does not take the model."""
    settings = {**DEFAULTS, **task.settings}
    kind, bits, group_size = settings["format"], settings["bits"], settings["group_size"]
    if reason := problem(task.settings, task.dtype):
        raise Unsupported(reason)
    # Read when the package is imported, which does not start with fewer than two.
    os.environ["GPTQMODEL_CPU_WORKERS"] = str(max(2, task.threads))
    import torch
    from gptqmodel import BACKEND, GPTQModel
    from gptqmodel.quantization import AWQConfig, GPTQConfig

    _survive_failing_workers()
    tokenizer = loading.read_tokenizer(task.source, task.trust_remote_code)
    loading.unquantized(task.source, "GPT-QModel")
    # GPT-QModel looks at no weight that is missing or odd.
    loading.check(task.source, task.trust_remote_code)
    # Without a fallback: a layer that the text does not reach must not be rounded to the nearest value without a word.
    common = {"bits": bits, "group_size": group_size, "fallback": None, "offload_to_disk": False}
    if kind == "gptq":
        config, backend = GPTQConfig(**common), BACKEND.GPTQ_TORCH
    else:
        _pack_by_groups()
        # With zero points, as the method's authors have it. GPT-QModel leaves them out unless told, and vLLM then has none of its fast
        # kernels for the checkpoint on a GPU.
        # On a CPU nothing is copied.
        tokens, free = settings["samples"] * settings["sequence"], torch.cuda.mem_get_info()[0] if task.device.is_gpu else 0
        width = getattr(loading.read_config(task.source, task.trust_remote_code).get_text_config(), "hidden_size", 0)
        keeps = fits_beside(checkpoints.size(task.source), tokens, width, free)
        config, backend = AWQConfig(**common, sym=False, scale_search_chunked_activations=not keeps), BACKEND.AWQ_TORCH
    random.seed(task.seed)
    torch.manual_seed(task.seed)
    try:
        wrapper = GPTQModel.load(
            str(task.source),
            config,
            device=task.device.kind,
            dtype=getattr(torch, task.dtype),
            trust_remote_code=task.trust_remote_code,
        )
    except (ValueError, OverflowError) as error:
        if reason := why_not_loaded(error):
            raise Unsupported(reason) from error
        raise
    refuse_odd_widths(_linear_layers(wrapper.model, kind), kind, group_size)
    context = getattr(wrapper.model.config.get_text_config(), "max_position_embeddings", None) or settings["sequence"]
    texts = (tokenizer(text, verbose=False)["input_ids"] for text in task.calibration())
    calibration = sequences(texts, settings["samples"], min(settings["sequence"], context))
    if not calibration:
        raise Unsupported(f"the calibration text has fewer than {SHORTEST} tokens")
    examples = [{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in calibration]
    try:
        wrapper.quantize(examples, batch_size=1, backend=backend, calibration_sort=None)
    except KeyError as error:
        if kind == "awq" and error.args == ("q_zeros",):
            raise Unsupported("gptqmodel's awq finds no layers that it could scale in this model family") from error
        raise
    wrapper.save(str(task.target))
    tokenizer.save_pretrained(task.target)
    # GPT-QModel turns sampling on in its own.
    loading.keep_generation_config(task.source, task.target)
    return {"calibration_tokens": sum(map(len, calibration))}


def fits_beside(weights: int, tokens: int, width: int, free: int) -> bool:
    """Whether what AWQ's search compares, outputs of a layer for all calibration tokens, fits into the `free` bytes of a GPU beside the
    model's weights, in bytes. GPT-QModel otherwise keeps them in the machine's memory and copies them to the GPU for each of 20 scalings of
    each group of layers: at 8 B some 90 GB a layer.

    Held at once are the inputs, the outputs before and after, in parts and as a whole, each (tokens, width) in 16 bits, and parts of 1 GiB
    in 32 bits while they are compared.
    """
    return bool(width) and weights + 10 * tokens * width * 2 + 4 * 2**30 < free


def why_not_loaded(error: Exception) -> str:
    """Why GPT-QModel takes no model, by what its loading ended with; empty where that is none that is known."""
    if "failed to auto-detect module tree" in str(error):
        return "gptqmodel does not know the layers of this model family"
    # It looks for a token to pad with.
    if "Tokenicer" in str(error):
        return "gptqmodel takes no tokenizer without any special token, not even one that ends a text"
    if isinstance(error, OverflowError) and "too small" in str(error):
        return (
            "gptqmodel takes no number below 0 for the token that pads; set `pad_token_id` in config.json to null: nothing is padded here"
        )
    return ""


def problem(settings: Mapping, dtype: str) -> str:
    kind, bits = settings["format"], settings.get("bits", DEFAULTS["bits"])
    if bits not in BITS[kind]:
        return f"{kind} has {' or '.join(map(str, BITS[kind]))} bits, not {bits}"
    if kind == "awq" and dtype == "float32":
        # Its search undoes its trial scalings from a copy, which in float32 is no copy: the model that comes out is broken.
        return "awq takes a model in bfloat16 or float16, not in float32"
    return ""


def sequences(texts: Iterable[Sequence[int]], samples: int, length: int) -> list[list[int]]:
    """The first `samples` sequences of `length` tokens of the texts put one after another. A rest at the end of the texts is left out,
    unless it is all there is.

    Where sequences differ in length, GPT-QModel's AWQ looks at the last one alone.
    """
    stream: list[int] = []
    for tokens in texts:
        stream += tokens
        if len(stream) >= samples * length:
            break
    whole = min(samples, len(stream) // length)
    if not whole:
        return [stream] if len(stream) >= SHORTEST else []
    return [stream[start : start + length] for start in range(0, whole * length, length)]


def refuse_odd_widths(layers: Iterable[tuple[str, int, int]], kind: str, group_size: int) -> None:
    """Raise Unsupported for the first of the layers (name, inputs, outputs) whose shape the method cannot take.

    GPT-QModel would write a GPTQ checkpoint with an odd group at the end, which the kernels refuse when it is run.
    """
    for name, inputs, outputs in layers:
        if group_size > 0 and inputs % group_size:
            raise Unsupported(
                f"{kind} in groups of {group_size} needs input widths that are multiples of {group_size}; {name} has {inputs}"
            )
        if kind == "awq" and outputs % AWQ_OUTPUTS:
            raise Unsupported(f"gptqmodel's awq needs output widths that are multiples of {AWQ_OUTPUTS}; {name} has {outputs}")


def _linear_layers(model, kind: str) -> Iterator[tuple[str, int, int]]:
    """Name, inputs and outputs of every linear layer but the last one, which gives the logits and is not quantized."""
    from torch.nn import Linear
    from transformers.pytorch_utils import Conv1D

    for name, module in model.named_modules():
        if module is model.get_output_embeddings():
            continue
        if isinstance(module, Linear):
            yield name, module.in_features, module.out_features
        elif isinstance(module, Conv1D):
            if kind == "awq":
                raise Unsupported(f"gptqmodel's awq takes linear layers only; {name} is a Conv1D")
            yield name, module.nx, module.nf


def _pack_by_groups() -> None:
    """Pack AWQ's weights a group at a time. At 8 B GPT-QModel's own way takes some 5 minutes of two cores, with a GPU idle."""
    from gptqmodel.nn_modules.qlinear import torch_awq

    torch_awq.AwqTorchLinear.pack = awq_packing.pack


def _survive_failing_workers() -> None:
    """GPT-QModel ends the whole process when one of its workers fails, for want of memory too; the main thread gets the error anyway."""
    from gptqmodel.utils import threadx

    threadx._DeviceWorker._abort_process = lambda worker, error: None
