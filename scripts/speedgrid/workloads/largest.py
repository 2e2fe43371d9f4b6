"""The largest batch, sequence or model that a training step takes within a memory budget: bisection with real out-of-memory errors."""

from collections.abc import Sequence

from speedgrid.engines.base import Proof
from speedgrid.outcomes import OutOfMemory
from speedgrid.workloads import train

# Sizes double until one does not fit, and are then halved apart until they are this close: a sixteenth of what fits.
CLOSE = 16
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

        # After an error for want of memory nothing of the step that failed may be left.
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
        # It holds the weights of the model before.
        self.optimizer = None
        self.engine.take_layers(layers)
        self.make_optimizer()

    def columns(self, loss) -> dict:
        return super().columns(loss) | {"batch_size": self.settings["batch_size"]}

    def prove(self) -> Proof:
        # At the smallest size, which has room for what the proof holds beside.
        self.prepare(self.step)
        return super().prove()


def next_size(done: Sequence[tuple[int | None, bool]], step: int, most: int | None) -> int | None:
    """The size to try after those in `done`, each with whether it fitted: a multiple of `step`, `most` at most; None where the largest that
    fits is known to within a sixteenth or one step, or the smallest did not fit."""
    fitted = max((size for size, fits in done if fits and size is not None), default=0)
    failed = min((size for size, fits in done if not fits and size is not None), default=None)
    if not done:
        return step
    if not fitted:
        return None
    if failed is None:
        wider = 2 * fitted if most is None else min(2 * fitted, most // step * step)
        return wider if wider > fitted else None
    if failed - fitted <= max(step, fitted // CLOSE):
        return None
    middle = (fitted + failed) // 2 // step * step
    return middle if middle > fitted else None
