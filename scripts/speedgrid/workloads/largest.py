"""The largest batch, sequence or model that a training step takes within a memory budget: bisection with real out-of-memory errors."""

from collections.abc import Sequence

from speedgrid.bisection import next_size
from speedgrid.engines.base import Proof
from speedgrid.outcomes import OutOfMemory
from speedgrid.workloads import train

# Sequences grow in steps of so many tokens.
TOKENS = 16


class Work(train.Work):
    def load(self) -> None:
        super().load()
        self.asked = self.settings
        self.step = {"batch_size": self.parts, "sequence": TOKENS, "layers": 1}[self.asked["grows"]]
        # A model of images has no longest sequence, and neither a batch nor a model has a largest size.
        self.most = getattr(self.engine.model.config, "max_position_embeddings", None) if self.asked["grows"] == "sequence" else None
        if self.asked["grows"] == "layers":
            self._take_layers(self.step)

    def room(self) -> int | None:
        """What the budget leaves beside the weights."""
        budget = self.asked["memory_budget"]
        if budget is None:
            return None
        weights = self.engine.sizes()["model_bytes"] or 0
        if weights >= budget:
            raise OutOfMemory(f"the weights alone are {weights:,} bytes, and memory_budget is {budget:,}")
        return budget - weights

    def next_point(self, done: Sequence[tuple[int | None, bool]]) -> int | None:
        return next_size(done, self.step, self.most)

    def prepare(self, point: int | None) -> None:
        import torch

        # After an out-of-memory error nothing of the failed step may be left.
        self.batch, self.batches = (), []
        assert point is not None
        if self.asked["grows"] == "layers":
            self._take_layers(point)
        elif self.asked["grows"] == "sequence":
            self.settings = {**self.asked, "sequence": point}
        else:
            self.settings = {**self.asked, "batch_size": point}
        self.optimizer.zero_grad(set_to_none=True)
        scaled = self.scaler.is_enabled()
        self.scaler = torch.amp.GradScaler(self.engine.device.kind, init_scale=self.scaler.get_scale() if scaled else 1.0, enabled=scaled)
        super().prepare(point)

    def _take_layers(self, layers: int) -> None:
        # The optimizer holds the weights of the model before.
        self.optimizer = None
        self.engine.take_layers(layers)
        self.make_optimizer()

    def columns(self, loss) -> dict:
        return super().columns(loss) | {"batch_size": self.settings["batch_size"]}

    def prove(self) -> Proof:
        # At the smallest size, which leaves room for what the proof needs besides.
        self.prepare(self.step)
        return super().prove()
