"""GPTQ and AWQ checkpoints as models of transformers, loaded by GPT-QModel."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError

from speedgrid.hardware import Device
from speedgrid.outcomes import MissingDependency, Unsupported

# Kernels of GPT-QModel that need no compiler.
KERNELS_AS_THEY_ARE = {"gptq": "gptq_triton", "awq": "awq_torch"}
# How GPT-QModel begins what it says of its kernel for Hopper, where the copy of CUTLASS is not one that it takes.
MACHETE = "Machete: "


def load(method: str, checkpoint: Path, device: Device, options: Mapping, threads: int, trust_remote_code: bool) -> Any:
    """The model of a checkpoint of `method`, `gptq` or `awq`. Raises Unsupported and MissingDependency.

    The loader of transformers uses the same kernels, but fails on GPT-2, and makes up weights for families whose layers GPT-QModel
    takes apart (Phi-3, Mixtral, Falcon).
    """
    import torch

    if device.is_gpu and options["dtype"] == "float32":
        raise Unsupported(f"the kernels for {method} on a GPU take bfloat16 or float16, not float32")
    # Read when the package is imported, which does not start with fewer than two.
    os.environ["GPTQMODEL_CPU_WORKERS"] = str(max(2, threads))
    from gptqmodel import BACKEND, GPTQModel

    try:
        return GPTQModel.load(
            str(checkpoint),
            device=device.kind,
            dtype=getattr(torch, options["dtype"]),
            backend=BACKEND(options.get("kernel", "auto")),
            attn_implementation=options.get("attention", "sdpa"),
            trust_remote_code=trust_remote_code,
        ).model
    except (URLError, ModuleNotFoundError, RuntimeError) as error:
        reason = why_no_kernel(error, device.name, method)
        if not reason:
            raise
        raise MissingDependency(reason) from error


def why_no_kernel(error: Exception, device: str, method: str) -> str:
    """What a kernel of GPT-QModel for checkpoints of `method` lacked to be built, when its loading ended with `error`.

    It builds its kernels for a GPU where they are first used, and picks one before it knows whether that will go well. Empty where the
    error is about something else.
    """
    other = f"or take {method}_int4_marlin, or the kernel of that in a technique of your own, `options: {{kernel: {method}_marlin}}`"
    if isinstance(error, URLError):
        return (
            f"GPT-QModel builds its kernel for {device} from CUTLASS, which it cannot download ({error.reason}); set"
            f" GPTQMODEL_CUTLASS_DIR to a copy of the version that the log names, {other}"
        )
    if str(error).startswith(MACHETE):
        wrong = str(error).removeprefix(MACHETE).partition("\n")[0].rstrip(".")
        return f"GPT-QModel builds its kernel for {device} from CUTLASS, and cannot: {wrong}; do as it says, {other}"
    kernel, is_not_built, _ = str(error).partition(" torch.ops kernels are not properly installed")
    if not is_not_built:
        return ""
    return (
        f"GPT-QModel could not build its kernel {kernel} for {device}, which wants nvcc of the CUDA that PyTorch was built for and a C++"
        f" compiler (the log holds their messages); install them, or give the technique a kernel that needs none, such as"
        f" `options: {{kernel: {KERNELS_AS_THEY_ARE[method]}}}`"
    )
