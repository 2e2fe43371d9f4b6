"""One attention operation at growing lengths, forward or with its gradients, checked against the same in float64."""

import json
from collections.abc import Sequence
from typing import Any

from speedgrid.engines import evidence
from speedgrid.engines.attention import Engine, materialised
from speedgrid.engines.base import Proof
from speedgrid.workloads import base

# Relative error against float64 that each format's rounding explains. FlashAttention's own tests allow twice the error of attention
# written out in the same format, which this holds with room.
TOLERANCE = {"float32": 1e-5, "float16": 5e-3, "bfloat16": 3e-2}
# The size of the check: short enough for float64 anywhere, and no multiple of the kernels' blocks.
CHECKED = 200


class Work(base.Work[Any]):
    engine: Engine

    def load(self) -> None:
        self.shape = json.loads((self.engine.checkpoint / "config.json").read_text())
        self.engine.load(self.settings["deterministic"])
        # A kernel that computes something else is not worth timing.
        self.errors = self._errors()

    def next_point(self, done: Sequence[tuple[int | None, bool]]) -> int | None:
        """The next longer sequence; none after one that did not fit."""
        return base.next_length(self.settings["lengths"], done)

    def prepare(self, point: int | None) -> None:
        assert point is not None
        self.length = point
        # Frees the tensors of the size before.
        self.inputs: list = []
        self.upstream = None
        self.inputs = self._random(point, self.settings["batch_size"], 3)
        if self.settings["backward"]:
            for tensor in self.inputs:
                tensor.requires_grad_(True)
            (self.upstream,) = self._random(point, self.settings["batch_size"], 1)

    def run(self, number: int = 0):
        """One pass; with gradients where the experiment asks for them."""
        q, k, v = self.inputs
        with self.engine.kernels():
            output = self.engine.attend(q, k, v, self.settings["causal"])
            if self.upstream is None:
                return output
            for tensor in self.inputs:
                tensor.grad = None
            output.backward(self.upstream)
        return None

    def columns(self, output) -> dict:
        return {"items": 1}

    def flop(self) -> float:
        """4 · batch · heads · length² · head size forward, half of it where causal, and 2.5 times as much backward (T. Dao,
        "FlashAttention-2", 2023, section 4.1)."""
        forward = 4 * self.settings["batch_size"] * self.shape["heads"] * self.length**2 * self.shape["head_dim"]
        return forward * (0.5 if self.settings["causal"] else 1) * (3.5 if self.settings["backward"] else 1)

    def prove(self) -> Proof:
        seen: dict = {"differs_from_float64_by": {name: float(f"{error:.3g}") for name, error in self.errors.items()}}
        seen["checked_at"] = CHECKED
        seen |= evidence.profiled(self.run, self.engine.device.is_gpu)
        options = self.engine.options
        # Compiled code may hold attention that is no call of SDPA any more.
        if self.engine.compiles:
            seen |= evidence.compiled()
            reason = evidence.not_compiled(seen)
        else:
            reason = evidence.attention_not_as_asked(options["attention"], options.get("sdpa_kernel"), seen)
        return Proof(not reason, reason, seen)

    def _errors(self) -> dict[str, float]:
        """Error of output and gradients against float64, relative to their size.

        Raises RuntimeError where rounding does not explain it.
        """
        causal, inputs = self.settings["causal"], self._random(CHECKED, 2, 3)
        q, k, v = inputs
        exact = [tensor.double().requires_grad_(True) for tensor in inputs]
        wanted = materialised(exact[0], exact[1], exact[2], causal)
        with self.engine.kernels():
            if not self.settings["backward"]:
                found = {"output": (self.engine.attend(q, k, v, causal), wanted)}
            else:
                for tensor in inputs:
                    tensor.requires_grad_(True)
                output = self.engine.attend(q, k, v, causal)
                (upstream,) = self._random(CHECKED, 2, 1)
                output.backward(upstream)
                wanted.backward(upstream.double())
                found = {"output": (output, wanted)}
                found |= {f"d{name}": (a.grad, b.grad) for name, a, b in zip("qkv", inputs, exact, strict=True)}
        errors = {name: base.relative_difference([a.detach()], [b.detach()]) for name, (a, b) in found.items()}
        allowed = TOLERANCE[self.engine.options["dtype"]]
        if not all(error <= allowed for error in errors.values()):
            said = ", ".join(f"{name} {error:.2g}" for name, error in errors.items())
            raise RuntimeError(f"the kernel differs from float64 by more than {allowed:g}, relative to their size: {said}")
        return errors

    def _random(self, length: int, batch: int, count: int) -> list:
        import torch

        device = self.engine.device.kind
        draw = torch.Generator(device=device).manual_seed(self.seed + count)
        size = (batch, self.shape["heads"], length, self.shape["head_dim"])
        return [torch.randn(size, generator=draw, device=device, dtype=self.engine.dtype) for _ in range(count)]
