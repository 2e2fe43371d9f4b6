"""Training steps on one fixed batch: forward, loss, backward, clipping, the optimizer's step.

Gradients are set to none at the beginning of every step, whatever the precision. (The study that the experiment `precision` reproduces
leaves that out in its float16 path, where gradients then add up from step to step.) One batch that does not change lets the loss fall
quickly, so that a precision that diverges is seen.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from speedgrid import ceilings, loading
from speedgrid.engines.base import Proof, TorchRuntime
from speedgrid.outcomes import NotFinite, Unsupported
from speedgrid.specification import Settings
from speedgrid.workloads import base

# How far results of a technique that keeps the arithmetic may be from those without it: what another order of rounding makes of them.
TOLERANCE = {"float32": 1e-3, "tf32": 5e-3, "float16": 2e-2, "bfloat16": 5e-2}


class Work(base.Work[Any]):
    noun = "step"
    repeatable = False
    engine: TorchRuntime
    # Images and labels, or tokens; and the same in the parts that a step takes one after another.
    batch: tuple
    batches: list[tuple]
    optimizer: Any

    @property
    def unit(self) -> str:
        return unit_of(self.settings)

    def load(self) -> None:
        import torch

        engine, settings = self.engine, self.settings
        torch.manual_seed(self.seed)
        engine.load(True, settings["deterministic"])
        self.parts = engine.options.get("accumulate", 1)
        check(engine, settings)
        if self.parts > 1 and any(isinstance(module, torch.nn.modules.batchnorm._BatchNorm) for module in engine.model.modules()):
            raise Unsupported("batch normalisation sees one part of the batch at a time, so that accumulation would train another model")
        name = engine.options.get("optimizer", settings["optimizer"])
        if "8bit" in name and not engine.device.is_gpu:
            raise Unsupported("optimizers of bitsandbytes with eight bits or paged memory need a GPU; this device is a CPU")
        self.optimizer_name = name
        self.make_optimizer()
        self.scaler = torch.amp.GradScaler(engine.device.kind, enabled=engine.precision == "fp16_scaler")
        self.scale_at_first = self.scaler.get_scale()

    def make_optimizer(self) -> None:
        trained = [p for p in self.engine.model.parameters() if p.requires_grad]
        self.optimizer = optimizer(self.optimizer_name, trained, self.settings["learning_rate"])

    def prepare(self, point: int | None) -> None:
        self.batch = batch(self.engine, self.settings, self.settings["batch_size"], self.seed)
        self.batches = split(self.batch, self.parts)

    def run(self, number: int = 0):
        """One step of the optimizer; returns the loss, still on the device."""
        import torch

        if self.engine.options.get("compile_mode") in ("reduce-overhead", "max-autotune"):
            torch.compiler.cudagraph_mark_step_begin()
        self.optimizer.zero_grad(set_to_none=True)
        loss = self.backward(self.batches)
        if self.settings["clip_norm"]:
            self.scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.engine.model.parameters(), self.settings["clip_norm"])
        self.scaler.step(self.optimizer)
        self.scaler.update()
        return loss

    def check_numbers(self, rows: Sequence[Mapping]) -> None:
        """Raise NotFinite where a loss is no number, or where the gradients overflow however small the loss is scaled: GradScaler skips
        such steps and halves the scale with each, and the loss, which then never changes, looks sound."""
        super().check_numbers(rows)
        if self.scaler.is_enabled() and self.scaler.get_scale() < 1:
            raise NotFinite("the gradients overflow in float16 even where the loss is scaled down, so that no step counts: use bfloat16")

    def backward(self, batches: list):
        """Forward and backward over the parts of a batch, whose gradients add up to those of their mean loss, which is returned."""
        total = 0
        for part in batches:
            loss = loss_of(self.engine, part) / len(batches)
            self.scaler.scale(loss).backward()
            total = total + loss.detach()
        return total

    def columns(self, loss) -> dict:
        return {"items": items(self.settings), "loss": float(loss)}

    def flop(self) -> float | None:
        return needed_flop(self.engine, self.settings, training=True)

    def prove(self) -> Proof:
        engine = self.engine
        proof = engine.prove(lambda: self.backward(self.batches))
        self.optimizer.zero_grad(set_to_none=True)
        seen = proof.evidence
        if self.scaler.is_enabled():
            # The scale halves after a step whose gradients overflow, and that step is left out.
            seen |= {"loss_scale_at_first": self.scale_at_first, "loss_scale": self.scaler.get_scale()}
        seen |= flop_evidence(engine, self.settings, True, lambda: self.backward(self.batches))
        self.optimizer.zero_grad(set_to_none=True)
        if engine.options.get("checkpointing") or self.parts > 1:
            seen |= self._same_result()
        return proof

    def _same_result(self) -> dict:
        """Loss and gradients with the technique and without it, on a batch of as many examples as there are parts.

        Raises RuntimeError where they differ by more than rounding explains.
        """
        engine, small = self.engine, batch(self.engine, self.settings, max(self.parts, 2), self.seed + 1)
        found = self._gradients(split(small, self.parts))
        with engine.plain():
            wanted = self._gradients([small])
        loss = abs(found[0] - wanted[0]) / max(abs(wanted[0]), 1e-12)
        gradients = base.relative_difference(found[1], wanted[1])
        allowed = TOLERANCE[engine.multiplies_in()]
        if not (loss <= allowed and gradients <= allowed):
            raise RuntimeError(
                f"the technique changed the result: loss by {loss:.2g}, gradients by {gradients:.2g} of their size; allowed is {allowed:g}"
            )
        return {"loss_differs_by": float(f"{loss:.3g}"), "gradients_differ_by": float(f"{gradients:.3g}")}

    def _gradients(self, batches: list) -> tuple[float, list]:
        """Loss and gradients without dropout, which draws other numbers in another order of work."""
        import torch

        dropouts = [module for module in self.engine.model.modules() if isinstance(module, torch.nn.Dropout)]
        shares = [module.p for module in dropouts]
        for module in dropouts:
            module.p = 0.0
        self.optimizer.zero_grad(set_to_none=True)
        loss = float(self.backward(batches))
        for module, share in zip(dropouts, shares, strict=True):
            module.p = share
        gradients = [p.grad.detach() / self.scaler.get_scale() for p in self.engine.model.parameters() if p.grad is not None]
        self.optimizer.zero_grad(set_to_none=True)
        return loss, gradients


def check(engine: TorchRuntime, settings: Settings) -> None:
    """Raise Unsupported where the model does not take the input that the experiment names."""
    if engine.of_images != ("image_size" in settings):
        takes, given = ("images", "`sequence`") if engine.of_images else ("text", "`image_size`")
        raise Unsupported(f"the model takes {takes}, and the experiment gives {given}")
    room = getattr(engine.model.config, "max_position_embeddings", None)
    if "sequence" in settings and room and settings["sequence"] > room:
        raise Unsupported(f"the model takes {room} tokens at most, and the experiment gives {settings['sequence']}")


def optimizer(name: str, parameters: list, learning_rate: float):
    """The optimizer of this name, one of the study's schema, with PyTorch's own defaults but for the learning rate."""
    import torch

    if name == "adamw_fused":
        return torch.optim.AdamW(parameters, lr=learning_rate, fused=True)
    if name in ("adamw_8bit", "paged_adamw_8bit"):
        import bitsandbytes

        return (bitsandbytes.optim.AdamW8bit if name == "adamw_8bit" else bitsandbytes.optim.PagedAdamW8bit)(parameters, lr=learning_rate)
    return {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name](parameters, lr=learning_rate)


def batch(engine: TorchRuntime, settings: Settings, size: int, seed: int) -> tuple:
    """A batch of `size` examples, the same for every technique: images and labels, or tokens."""
    import torch

    draw = torch.Generator().manual_seed(seed)
    if engine.of_images:
        side, config = settings["image_size"], engine.model.config
        images = torch.randn(size, config.num_channels, side, side, generator=draw)
        return engine.place(images), torch.randint(config.num_labels, (size,), generator=draw).to(engine.device.kind)
    if settings.get("data") == "text":
        tokens = text_tokens(engine, size, settings["sequence"], draw)
    else:
        tokens = torch.randint(engine.model.config.get_text_config().vocab_size, (size, settings["sequence"]), generator=draw)
    return (tokens.to(engine.device.kind),)


def text_tokens(engine: TorchRuntime, size: int, sequence: int, draw):
    """Random windows of the training part of Python's standard library, tokenized by the model's own tokenizer."""
    import torch

    from speedgrid import corpus

    # Some five characters a token at most, and windows that differ.
    texts = corpus.training_text(max(200_000, 10 * size * sequence))
    tokenizer = loading.read_tokenizer(engine.checkpoint, engine.trust_remote_code)
    stream = torch.tensor(tokenizer("\n".join(texts), add_special_tokens=False, verbose=False)["input_ids"])
    if len(stream) <= sequence:
        raise Unsupported(f"the standard library has {len(stream)} tokens, and the experiment asks for a sequence of {sequence}")
    starts = torch.randint(len(stream) - sequence, (size,), generator=draw)
    return torch.stack([stream[start : start + sequence] for start in starts])


def split(whole: tuple, parts: int) -> list[tuple]:
    """A batch in equal parts."""
    return list(zip(*(tensor.chunk(parts) for tensor in whole), strict=True)) if parts > 1 else [whole]


def loss_of(engine: TorchRuntime, part: tuple):
    """Mean cross-entropy of a batch, with the engine's number formats: of the class of each image, or of each next token."""
    import torch

    with engine.autocast():
        if engine.of_images:
            images, labels = part
            logits = engine.forward(pixel_values=images).logits
            return torch.nn.functional.cross_entropy(logits.float(), labels)
        (tokens,) = part
        return engine.forward(input_ids=tokens, labels=tokens, use_cache=False).loss


def unit_of(settings: Settings) -> str:
    """What a step or pass counts."""
    return "image" if "image_size" in settings else "token"


def items(settings: Settings) -> int:
    """Images or tokens of a step or pass."""
    return settings["batch_size"] * settings.get("sequence", 1)


def needed_flop(engine: TorchRuntime, settings: Settings, training: bool, causal: bool = True) -> float | None:
    """Operations of a step or pass, from the shapes of the model's layers; None for an architecture that is not known.

    With `causal` False every pair of positions counts in attention, as PyTorch's own counter has it.
    """
    if engine.of_images:
        first, rest = (flop * settings["batch_size"] for flop in image_flop(engine, settings["image_size"]))
        # Backward needs the gradients of weights and inputs, each as much as forward; but no gradient of the images.
        return 2 * first + 3 * rest if training else first + rest
    try:
        shape = ceilings.shape(engine.model.config.to_dict())
    except ceilings.UnknownModel:
        return None
    size, length = settings["batch_size"], settings["sequence"]
    if training and engine.options.get("adapter"):
        # No gradients of the weights that stay as they are, and all three passes through the adapters.
        trained = sum(p.numel() for p in engine.model.parameters() if p.requires_grad)
        return ceilings.training_flop(shape, length, size, causal) + size * length * (6 * trained - 2 * (shape.linear + shape.head))
    if training:
        return ceilings.training_flop(shape, length, size, causal)
    # All positions get logits here, where a reply needs those of the last one alone.
    return ceilings.prefill(shape, 0, length, size, causal=causal).flop + size * 2 * shape.head * (length - 1)


def image_flop(engine: TorchRuntime, side: int) -> tuple[float, float]:
    """Operations of one image in the first layer and in the others: two for each weight of a convolution and place of its result, and for
    each weight of a linear layer."""
    import torch

    counts = []

    def count(module, inputs, output) -> None:
        places = math.prod(output.shape[2:]) if isinstance(module, torch.nn.Conv2d) else 1
        counts.append(2 * module.weight.numel() * places)

    hooks = [m.register_forward_hook(count) for m in engine.model.modules() if isinstance(m, (torch.nn.Conv2d, torch.nn.Linear))]
    training = engine.model.training
    try:
        # In evaluation, so that the one image moves no running mean of a batch normalisation.
        with torch.inference_mode(), engine.autocast():
            engine.model.eval()(pixel_values=engine.place(torch.zeros(1, engine.model.config.num_channels, side, side)))
    finally:
        engine.model.train(training)
        for hook in hooks:
            hook.remove()
    return counts[0], sum(counts[1:])


def flop_evidence(engine: TorchRuntime, settings: Settings, training: bool, run: Callable[[], object]) -> dict:
    """Operations that PyTorch itself counts in a run of the uncompiled model, and their ratio to those that are needed: 1 where nothing is
    computed twice."""
    from torch.utils.flop_counter import FlopCounterMode

    try:
        with engine.uncompiled(), FlopCounterMode(display=False) as counter:
            run()
    except AssertionError as error:
        # PyTorch before 2.13 has no formula for heads that share keys and values.
        if "sdpa_flop" not in str(error):
            raise
        return {"flop_counted": None, "counted_over_needed": None}
    counted, needed = counter.get_total_flops(), needed_flop(engine, settings, training, causal=False)
    return {"flop_counted": counted, "counted_over_needed": round(counted / needed, 4) if needed else None}
