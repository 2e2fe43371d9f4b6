"""bitsandbytes: linear layers in 8 bits (LLM.int8()) or 4 bits (NF4, FP4), quantized while loading and saved as such."""

from collections.abc import Mapping
from pathlib import Path

from speedgrid.hardware import Device
from speedgrid.outcomes import Unsupported


def make(source: Path, target: Path, settings: Mapping, device: Device, dtype: str, trust_remote_code: bool) -> dict:
    """Write the quantized checkpoint of `source` to `target`, with its tokenizer.

    `settings`: bits (8 or 4), quant_type (`nf4` or `fp4`), double_quant. Returns further columns of schema.CHECKPOINT.
    """
    import bitsandbytes  # noqa: F401 - where it is missing, say so and not what transformers makes of it
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, BitsAndBytesConfig

    if settings["bits"] == 8:
        config = BitsAndBytesConfig(load_in_8bit=True)
    elif settings["bits"] == 4:
        config = BitsAndBytesConfig(
            load_in_4bit=True,
            bnb_4bit_quant_type=settings.get("quant_type", "nf4"),
            bnb_4bit_use_double_quant=settings.get("double_quant", False),
            bnb_4bit_compute_dtype=getattr(torch, dtype),
        )
    else:
        raise Unsupported(f"bitsandbytes has 8 and 4 bits, not {settings['bits']}")
    model = AutoModelForCausalLM.from_pretrained(
        source,
        quantization_config=config,
        dtype=getattr(torch, dtype),
        device_map={"": device.kind},
        use_safetensors=True,
        trust_remote_code=trust_remote_code,
        local_files_only=True,
    )
    model.save_pretrained(target)
    AutoTokenizer.from_pretrained(source, local_files_only=True, trust_remote_code=trust_remote_code).save_pretrained(target)
    return {"calibration_tokens": 0}
