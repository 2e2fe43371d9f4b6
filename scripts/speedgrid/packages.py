"""Packages of Python: how their names are spelt, and which of them decide how fast something is. Pure."""

import re

# Those that decide how fast something is.
MAIN_PACKAGES = (
    *("torch", "transformers", "tokenizers", "safetensors", "accelerate", "bitsandbytes", "triton", "numpy"),
    *("vllm", "flash-attn", "llama-cpp-python", "onnxruntime", "optimum", "autoawq", "gptqmodel", "auto-gptq", "torchao"),
)


def package_name(requirement: str) -> str:
    """The name of the package of a requirement, such as `Foo.bar[extra]==1`, as indexes spell it: `foo-bar` (PEP 503)."""
    return re.sub(r"[-_.]+", "-", re.split(r"[=<>!~\[; ]", requirement.strip(), maxsplit=1)[0]).lower()
