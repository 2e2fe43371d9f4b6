"""Forward passes without gradients, over one fixed batch."""

from collections.abc import Mapping, Sequence
from typing import Any

from speedgrid.engines.base import Proof, TorchRuntime
from speedgrid.outcomes import NotFinite
from speedgrid.workloads import base, train


class Work(base.Work[Any]):
    engine: TorchRuntime

    @property
    def unit(self) -> str:
        return train.unit_of(self.settings)

    def load(self) -> None:
        import torch

        torch.manual_seed(self.seed)
        self.engine.load(False, self.settings["deterministic"])
        train.check(self.engine, self.settings)

    def prepare(self, point: int | None) -> None:
        self.batch = train.batch(self.engine, self.settings, self.settings["batch_size"], self.seed)

    def run(self, number: int = 0):
        """One pass; returns the logits."""
        import torch

        engine = self.engine
        if engine.options.get("compile_mode") in ("reduce-overhead", "max-autotune"):
            torch.compiler.cudagraph_mark_step_begin()
        with torch.inference_mode(), engine.autocast():
            if engine.of_images:
                return engine.forward(pixel_values=self.batch[0]).logits
            return engine.forward(input_ids=self.batch[0], use_cache=False).logits

    def columns(self, logits) -> dict:
        return {"items": train.items(self.settings)}

    def flop(self) -> float | None:
        return train.needed_flop(self.engine, self.settings, training=False)

    def check_numbers(self, rows: Sequence[Mapping]) -> None:
        """Check the logits of one more pass, read whole; those of the counted passes were not kept."""
        if not self.run().amax(dim=-1).isfinite().all():
            raise NotFinite(f"the model's outputs are not finite numbers in {self.engine.multiplies_in()}")

    def prove(self) -> Proof:
        proof = self.engine.prove(self.run)
        proof.evidence.update(train.flop_evidence(self.engine, self.settings, False, self.run))
        return proof
