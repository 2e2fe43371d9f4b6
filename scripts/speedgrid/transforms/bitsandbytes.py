"""bitsandbytes: linear layers in 8 bits (LLM.int8()) or 4 bits (NF4, FP4), quantized while loading and saved as such."""

from collections.abc import Mapping

from speedgrid import loading
from speedgrid.engines import quantized
from speedgrid.outcomes import Unsupported
from speedgrid.transforms import Task

SETTINGS = {
    "type": "object",
    "additionalProperties": False,
    "required": ["bits"],
    "properties": {
        "bits": {"description": "Bits of a weight: 8 for LLM.int8(), 4 for NF4 and FP4.", "type": "integer", "enum": [4, 8]},
        "quant_type": {"description": "Form of the 4 bits; nf4 where left out.", "enum": ["nf4", "fp4"]},
        "double_quant": {"description": "Quantize the scales of 4 bits too; no where left out.", "type": "boolean"},
    },
}


def make(task: Task) -> dict:
    """Write the quantized checkpoint, with its tokenizer."""
    import bitsandbytes  # noqa: F401 - where it is missing, say so and not what transformers makes of it
    import torch
    from transformers import BitsAndBytesConfig

    settings, device, dtype = task.settings, task.device, getattr(torch, task.dtype)
    if settings["bits"] == 8:
        config = BitsAndBytesConfig(load_in_8bit=True)
    else:
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=settings.get("quant_type", "nf4"),
            bnb_4bit_use_double_quant=settings.get("double_quant", False),
            bnb_4bit_compute_dtype=dtype,
        )
    tokenizer = loading.read_tokenizer(task.source, task.trust_remote_code)
    loading.unquantized(task.source, "bitsandbytes")
    loading.check(task.source, task.trust_remote_code)
    model = loading.read_model(
        task.source, quantization_config=config, dtype=dtype, device_map={"": device.kind}, trust_remote_code=task.trust_remote_code
    )
    if settings["bits"] == 4 and not device.is_gpu:
        _refuse_odd_widths(model)
    if not quantized.share_of_model(model).quantized:
        kind = model.config.model_type
        raise Unsupported(
            f"bitsandbytes quantizes none of the layers of {kind}: they are no nn.Linear of PyTorch, the one class that it takes"
        )
    loading.require_runnable(model, f"bitsandbytes in {settings['bits']} bits")
    loading.save(model, tokenizer, task.source, task.target)
    return {"calibration_tokens": 0}


def problem(settings: Mapping, dtype: str) -> str:
    of_four = [name for name in ("quant_type", "double_quant") if name in settings]
    return f"{of_four[0]} belongs to 4 bits, and bits is 8" if settings["bits"] == 8 and of_four else ""


def _refuse_odd_widths(model) -> None:
    """Raise Unsupported where a layer's input width is not a multiple of the 64 weights of a block.

    On a CPU bitsandbytes 0.50.2 then quantizes wrongly without a word: a 256 × 688 matrix loses a quarter of
    its norm, where NF4 costs 9 %. tests/benchmarks/bitsandbytes_cpu_blocks.py shows it.
    """
    for name, module in model.named_modules():
        if type(module).__name__ == "Linear4bit" and module.in_features % 64:
            wrong = "bitsandbytes quantizes wrongly to 4 bits on a CPU where an input width is not a multiple of 64"
            raise Unsupported(f"{wrong}; {name} has {module.in_features}")
