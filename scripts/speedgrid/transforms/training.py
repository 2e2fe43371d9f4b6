"""Training of a student on its teacher's next tokens and on the text itself: for distillation, and for what recovers from pruning.

Every so often the state is saved beside the checkpoint that is being made, as safetensors; a job that was stopped goes on from there. The
text of a step follows from the seed and its number, so that a run that was stopped ends where one that was not would have.
"""

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from speedgrid import checkpoints
from speedgrid.outcomes import Interrupted, Timeout, Unsupported

SAVE_EVERY_S = 120.0
SETTINGS = {
    "type": "object",
    "additionalProperties": False,
    "required": ["tokens"],
    "properties": {
        "tokens": {"description": "Tokens that are trained on.", "type": "integer", "minimum": 1},
        "batch_size": {"description": "Sequences of a step; 4 where left out.", "type": "integer", "minimum": 1},
        "sequence": {"description": "Tokens of a sequence; 256 where left out.", "type": "integer", "minimum": 2},
        "learning_rate": {"description": "Peak learning rate of AdamW; 0.001 where left out.", "type": "number", "exclusiveMinimum": 0},
        "temperature": {
            "description": "What teacher and student are softened by; 2.0 where left out.",
            "type": "number",
            "exclusiveMinimum": 0,
        },
        "soft": {
            "description": "Share of the teacher in the loss, the text itself having the rest; 0.9 where left out.",
            "type": "number",
            "minimum": 0,
            "maximum": 1,
        },
    },
}
DEFAULTS = {"batch_size": 4, "sequence": 256, "learning_rate": 1e-3, "temperature": 2.0, "soft": 0.9}


def steps_for(tokens: int, batch_size: int, sequence: int) -> int:
    """Steps that see at least `tokens` tokens."""
    return max(1, -(-tokens // (batch_size * sequence)))


def stream_of(texts: Sequence[str], tokenizer, needed: int):
    """Tokens of the texts one after another, each ended by the token that ends a text; enough for `needed` tokens, or all."""
    import torch

    end = tokenizer.eos_token_id
    tokens: list[int] = []
    for text in texts:
        tokens += tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"] + ([end] if end is not None else [])
        if len(tokens) >= needed:
            break
    return torch.tensor(tokens)


def loss_of(student, teacher, wanted, temperature: float, soft: float):
    """`soft` times the divergence of the teacher from the student, and the rest the surprise at the text itself.

    Logits are (batch, tokens, vocabulary), `wanted` are the next tokens (batch, tokens). With a temperature T both sides are softened, and
    the divergence counts T² times, so that its gradients stay as large (G. Hinton, O. Vinyals and J. Dean, "Distilling the Knowledge in a
    Neural Network", 2015, https://arxiv.org/abs/1503.02531, section 2).
    """
    from torch.nn import functional

    student = student.float()
    hard = functional.cross_entropy(student.flatten(0, 1), wanted.flatten())
    if not soft:
        return hard
    ours = functional.log_softmax(student / temperature, dim=-1).flatten(0, 1)
    theirs = functional.log_softmax(teacher.float() / temperature, dim=-1).flatten(0, 1)
    away = functional.kl_div(ours, theirs, log_target=True, reduction="batchmean")
    return soft * temperature**2 * away + (1 - soft) * hard


def fit(student, teacher, stream, settings: dict, seed: int, folder: Path, mark: str, say: Callable[[str], None]) -> dict:
    """Train `student` in place for settings["tokens"] tokens; returns `train_tokens` and `train_loss`.

    Settings: tokens, batch_size, sequence, learning_rate, temperature, soft. `folder` takes the state while it runs, and `mark` says what
    it is a state of: one of something else is not read, and written over. Raises outcomes.Unsupported where the text is too short.
    """
    import torch
    from transformers import get_cosine_schedule_with_warmup

    sequence, batch = settings["sequence"], settings["batch_size"]
    steps = steps_for(settings["tokens"], batch, sequence)
    if len(stream) <= sequence + 1:
        raise Unsupported(f"the calibration text has {len(stream)} tokens, and training takes sequences of {sequence}")
    weights = [weight for weight in student.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, lr=settings["learning_rate"], betas=(0.9, 0.95), weight_decay=0.01)
    schedule = get_cosine_schedule_with_warmup(optimizer, num_warmup_steps=max(1, steps // 20), num_training_steps=steps)
    state = State(folder, mark, weights, optimizer)
    done, losses = state.restore()
    for _ in range(done):
        schedule.step()
    if done:
        say(f"training: goes on after step {done} of {steps}")
    device, saved, said = weights[0].device, time.monotonic(), time.monotonic()
    student.train()
    try:
        while done < steps:
            draw = torch.Generator().manual_seed(seed * 1_000_003 + done)
            starts = torch.randint(len(stream) - sequence - 1, (batch,), generator=draw)
            text = torch.stack([stream[start : start + sequence + 1] for start in starts]).to(device)
            with torch.no_grad():
                expected = teacher(input_ids=text[:, :-1], use_cache=False).logits if settings["soft"] else None
            logits = student(input_ids=text[:, :-1], use_cache=False).logits
            loss = loss_of(logits, expected, text[:, 1:], settings["temperature"], settings["soft"])
            loss.backward()
            torch.nn.utils.clip_grad_norm_(weights, 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            done += 1
            losses = [*losses[-9:], loss.item()]
            now = time.monotonic()
            if now - said > 5 or done == steps:
                said = now
                say(f"training: {bar(done, steps)} step {done}/{steps}, loss {loss.item():.3f}")
            if now - saved > SAVE_EVERY_S:
                saved = now
                state.save(done, losses)
    except (Interrupted, Timeout):
        state.save(done, losses)
        raise
    student.eval()
    state.forget()
    return {"train_tokens": steps * batch * sequence, "train_loss": sum(losses) / len(losses)}


def bar(done: int, total: int, width: int = 20) -> str:
    """How far something is, as a bar of `width` characters."""
    full = done * width // total
    return "█" * full + "░" * (width - full)


class State:
    """What training needs to go on: weights, the optimizer's two moments of each, the number of steps and the last losses."""

    def __init__(self, folder: Path, mark: str, weights: Sequence, optimizer):
        self.folder, self.mark, self.weights, self.optimizer = folder, mark, weights, optimizer

    def save(self, done: int, losses: Sequence[float]) -> None:
        from safetensors.torch import save_file

        tensors = {}
        for number, weight in enumerate(self.weights):
            moments = self.optimizer.state.get(weight, {})
            tensors[f"{number}.weight"] = weight.detach()
            tensors |= {f"{number}.{name}": moments[name] for name in ("exp_avg", "exp_avg_sq") if name in moments}
        with checkpoints.replacing(self.folder) as fresh:
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, fresh / "state.safetensors")
            (fresh / "state.json").write_text(json.dumps({"mark": self.mark, "done": done, "losses": list(losses)}))

    def restore(self) -> tuple[int, list[float]]:
        """Steps that were done and their last losses, after putting weights and optimizer as they were; 0 where there is no such state."""
        path = self.folder / "state.json"
        told = json.loads(path.read_text()) if path.is_file() else {}
        if told.get("mark") != self.mark:
            return 0, []
        import torch
        from safetensors.torch import load_file

        tensors = load_file(self.folder / "state.safetensors")
        for number, weight in enumerate(self.weights):
            with torch.no_grad():
                weight.copy_(tensors[f"{number}.weight"])
            if f"{number}.exp_avg" in tensors:
                moments = {name: tensors[f"{number}.{name}"].to(weight.device) for name in ("exp_avg", "exp_avg_sq")}
                self.optimizer.state[weight] = {"step": torch.tensor(float(told["done"])), **moments}
        return told["done"], told["losses"]

    def forget(self) -> None:
        checkpoints.remove(self.folder)
