"""Attention alone: one operation softmax(q kᵀ / √d) v, by the kernel that a technique names."""

from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from importlib.util import find_spec
from typing import ClassVar

from speedgrid.engines import base
from speedgrid.engines.transformers import SDPA_KERNELS
from speedgrid.outcomes import MissingDependency, Unsupported


class Engine(base.Runtime):
    """`attend(q, k, v, causal)` for tensors of (batch, heads, length, head size)."""

    OPTIONS: ClassVar = {"attention": None, "dtype": None, "sdpa_kernel": None, "compile": ("module",), "compile_mode": None}

    @classmethod
    def problem(cls, options: Mapping, batch_size: int) -> str:
        if "attention" not in options:
            return "needs the option `attention`, the kernel that is measured"
        if options["attention"] == "flash_attention_2" and options["dtype"] == "float32":
            return "the kernels of flash-attn take bfloat16 or float16, not float32"
        return base.attention_problem(options)

    def import_packages(self) -> None:
        import torch

        torch.set_num_threads(self.threads)

    def load(self, deterministic: bool) -> None:
        """Pick the kernel. Raises Unsupported or MissingDependency where it cannot be had."""
        import torch

        torch.use_deterministic_algorithms(deterministic, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False
        torch.backends.cuda.matmul.allow_tf32 = False
        self.dtype = getattr(torch, self.options["dtype"])
        kind = self.options["attention"]
        if kind == "flash_attention_2":
            if not find_spec("flash_attn"):
                raise MissingDependency("the Python package flash-attn is not installed in this environment")
            self.attend = _flash_attn
        elif kind == "flex_attention":
            self.attend = _Flex(self.device.kind)
        else:
            self.attend = materialised if kind == "eager" else _sdpa
        if self.options.get("compile"):
            self.attend = torch.compile(self.attend, mode=self.options.get("compile_mode"))

    @property
    def compiles(self) -> bool:
        """Whether torch.compile makes the kernel, or a part of it."""
        return bool(self.options.get("compile")) or self.options["attention"] == "flex_attention"

    def kernels(self):
        """The context that holds SDPA to the one kernel of the technique."""
        if "sdpa_kernel" not in self.options:
            return nullcontext()
        from torch.nn.attention import SDPBackend, sdpa_kernel

        return sdpa_kernel(getattr(SDPBackend, SDPA_KERNELS[self.options["sdpa_kernel"]]))

    def sizes(self) -> dict[str, int | None]:
        return {"parameters": 0, "trainable_parameters": 0, "model_bytes": 0}

    def multiplies_in(self) -> str:
        return self.options["dtype"]


def materialised(q, k, v, causal: bool):
    """Attention written out, with the whole matrix of scores in memory, as in the textbook."""
    import torch

    scores = q @ k.transpose(-2, -1) * q.shape[-1] ** -0.5
    if causal:
        length = q.shape[-2]
        later = torch.ones(length, length, dtype=torch.bool, device=q.device).triu(1)
        scores = scores.masked_fill(later, float("-inf"))
    return scores.softmax(dim=-1) @ v


def _sdpa(q, k, v, causal: bool):
    import torch

    return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=causal)


def _flash_attn(q, k, v, causal: bool):
    """The flash-attn package, which wants (batch, length, heads, head size)."""
    from flash_attn import flash_attn_func

    return flash_attn_func(*(x.transpose(1, 2) for x in (q, k, v)), causal=causal).transpose(1, 2)


class _Flex:
    """FlexAttention, compiled, with its mask of blocks made once for each length."""

    def __init__(self, device: str):
        import torch
        from torch.nn.attention.flex_attention import create_block_mask, flex_attention

        self.flex = torch.compile(flex_attention)
        self.mask_of = partial(create_block_mask, device=device)
        self.masks: dict[int, object] = {}

    def __call__(self, q, k, v, causal: bool):
        if q.device.type == "cpu" and q.requires_grad:
            raise Unsupported("FlexAttention has no backward pass on a CPU")
        length = q.shape[-2]
        if causal and length not in self.masks:
            self.masks[length] = self.mask_of(lambda b, h, query, key: query >= key, None, None, length, length)
        return self.flex(q, k, v, block_mask=self.masks[length] if causal else None)
