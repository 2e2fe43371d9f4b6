"""torchao: weights of linear layers in int8, int4 or float8, as tensors that torch.compile sees into; saved as safetensors."""

from collections.abc import Mapping

from speedgrid import loading
from speedgrid.outcomes import Unsupported
from speedgrid.transforms import Task

SETTINGS = {
    "type": "object",
    "additionalProperties": False,
    "required": ["scheme"],
    "properties": {
        "scheme": {
            "description": "`int8`: weights only, one scale a row; `int4`: weights only, one scale for `group_size` weights; `fp8`: weights"
            " and activations, one scale a row.",
            "enum": ["int8", "int4", "fp8"],
        },
        "group_size": {
            "description": "Weights of int4 that share a scale; 128 where left out.",
            "type": "integer",
            "enum": [32, 64, 128, 256],
        },
    },
}


def make(task: Task) -> dict:
    """Write the quantized checkpoint, with its tokenizer.

    Raises outcomes.Unsupported where the scheme does not take the model, device or number format.
    """
    config = _config(task.settings, task.device.is_gpu, task.dtype)
    import torch
    from transformers import TorchAoConfig

    tokenizer = loading.read_tokenizer(task.source, task.trust_remote_code)
    loading.unquantized(task.source, "torchao")
    loading.check(task.source, task.trust_remote_code)
    model = loading.read_model(
        task.source,
        quantization_config=TorchAoConfig(config),
        dtype=getattr(torch, task.dtype),
        device_map={"": task.device.kind},
        trust_remote_code=task.trust_remote_code,
    )
    _refuse_left_out(model, task.settings)
    loading.require_runnable(model, f"torchao's {task.settings['scheme']}")
    loading.save(model, tokenizer, task.source, task.target)
    return {"calibration_tokens": 0}


def refuse(scheme: str, is_gpu: bool, dtype: str) -> None:
    """Raise Unsupported for a scheme that the device or number format cannot do."""
    if scheme != "int8" and not is_gpu:
        raise Unsupported(f"torchao's {scheme} needs an NVIDIA GPU")
    if reason := problem({"scheme": scheme}, dtype):
        raise Unsupported(reason)


def problem(settings: Mapping, dtype: str) -> str:
    scheme = settings["scheme"]
    if scheme != "int4" and "group_size" in settings:
        return f"group_size belongs to int4; {scheme} has one scale a row"
    if scheme != "int8" and dtype != "bfloat16":
        return f"torchao's {scheme} computes in bfloat16, not in {dtype}"
    return ""


def _config(settings: Mapping, is_gpu: bool, dtype: str):
    """torchao's own description of the scheme."""
    scheme = settings["scheme"]
    refuse(scheme, is_gpu, dtype)
    from torchao.quantization import Float8DynamicActivationFloat8WeightConfig, Int4WeightOnlyConfig, Int8WeightOnlyConfig, PerRow

    if scheme == "int8":
        return Int8WeightOnlyConfig()
    if scheme == "fp8":
        return Float8DynamicActivationFloat8WeightConfig(granularity=PerRow())
    # The packing that PyTorch's own int4 kernel takes; the default one needs a further package of kernels.
    return Int4WeightOnlyConfig(group_size=settings.get("group_size", 128), int4_packing_format="tile_packed_to_4d")


def _refuse_left_out(model, settings: Mapping) -> None:
    """Raise Unsupported where a layer is still as it was: torchao skips those whose shape it cannot take, without a word."""
    from torch.nn import Linear
    from transformers.pytorch_utils import Conv1D

    for name, module in model.named_modules():
        if isinstance(module, Conv1D):
            raise Unsupported(f"torchao takes linear layers only; {name} is a Conv1D")
        if not isinstance(module, Linear) or module is model.get_output_embeddings():
            continue
        if not type(module.weight).__module__.startswith("torchao"):
            group = f" in groups of {settings.get('group_size', 128)}" if settings["scheme"] == "int4" else ""
            shape = f"{module.in_features} × {module.out_features}"
            raise Unsupported(f"torchao's {settings['scheme']}{group} does not take the shape of {name}, {shape}")
