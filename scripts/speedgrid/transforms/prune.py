"""Structured pruning: a smaller checkpoint of the same kind, without the heads and channels, or the layers, that matter least.

Optionally trained for a short while on the unpruned model's next tokens, to recover.
"""

import copy
import json

from speedgrid import checkpoints, loading
from speedgrid.outcomes import Unsupported
from speedgrid.progress import say
from speedgrid.transforms import Task, pruning, training

# Nothing, or the settings of a training.
RECOVERY = {**training.SETTINGS, "required": [], "dependentRequired": {name: ["tokens"] for name in training.DEFAULTS}}
DEFAULTS = {"axis": "width", "samples": 64, "sequence": 256, "recovery": {}}

SETTINGS = {
    "type": "object",
    "additionalProperties": False,
    "required": ["share"],
    "properties": {
        "axis": {"description": "What is cut: heads and channels, or whole layers; width where left out.", "enum": ["width", "depth"]},
        "share": {
            "description": "Share of the layers' weights, or of the layers, that is cut off.",
            "type": "number",
            "exclusiveMinimum": 0,
            "exclusiveMaximum": 1,
        },
        "samples": {
            "description": "Sequences of the calibration text that importance is measured on; 64 where left out.",
            "type": "integer",
            "minimum": 1,
        },
        "sequence": {"description": "Tokens of such a sequence; 256 where left out.", "type": "integer", "minimum": 2},
        "recovery": {**RECOVERY, "description": "Training on the unpruned model afterwards; none where left out or empty."},
    },
}


def make(task: Task) -> dict:
    """Write the pruned checkpoint, with its tokenizer.

    Raises outcomes.Unsupported for models that are built neither like Llama nor like GPT-2.
    """
    settings = {**DEFAULTS, **task.settings}
    model, tokenizer = load(task)
    if settings["axis"] == "depth":
        refuse_no_layer(settings["share"], len(pruning.layers_of(model)))
    teacher = copy.deepcopy(model) if settings["recovery"] else None
    before, importance = pruning.parameters(model), importance_of(model, tokenizer, task, settings["samples"], settings["sequence"])
    cut = pruning.cut_width if settings["axis"] == "width" else pruning.cut_depth
    cut(model, 1 - settings["share"], importance)
    if pruning.parameters(model) == before:
        raise Unsupported(f"to cut {settings['share']:.0%} off cuts nothing: heads and channels of this model come in larger steps")
    say(f"pruning: {before:,} parameters to {pruning.parameters(model):,}")
    used = settings["samples"] * settings["sequence"]
    told = train(model, teacher, tokenizer, settings["recovery"], task) if settings["recovery"] else {}
    save(model, tokenizer, task)
    return {"calibration_tokens": used, **told}


def refuse_no_layer(share: float, layers: int) -> None:
    """Raise Unsupported where a share of so many layers is rounded to none of them."""
    if pruning.layers_left(1 - share, layers) == layers:
        raise Unsupported(f"{share:.0%} of {layers} layers cuts none off: one layer is {1 / layers:.0%} of them, and one has to stay")


def load(task: Task):
    """The model in 32 bits, in which it is changed and trained, and its tokenizer."""
    import torch

    torch.set_num_threads(task.threads)
    torch.manual_seed(task.seed)
    tokenizer = loading.read_tokenizer(task.source, task.trust_remote_code)
    loading.unquantized(task.source, "pruning")
    model = loading.read_model(
        task.source, dtype=torch.float32, device_map={"": task.device.kind}, trust_remote_code=task.trust_remote_code
    )
    model.eval()
    pruning.layers_of(model)
    return model, tokenizer


def importance_of(model, tokenizer, task: Task, samples: int, sequence: int) -> pruning.Importance:
    """Importance over the first `samples` sequences of the calibration text."""
    sequence = min(sequence, getattr(model.config, "max_position_embeddings", None) or sequence)
    stream = training.stream_of(task.calibration(), tokenizer, samples * sequence).tolist()
    cuts = [stream[start : start + sequence] for start in range(0, min(len(stream), samples * sequence), sequence)]
    return pruning.measure(model, [cut for cut in cuts if len(cut) > 1])


def train(student, teacher, tokenizer, spec: dict, task: Task) -> dict:
    """Train the student for the settings `spec`; the state of a run that was stopped lies beside the checkpoint."""
    settings = {**training.DEFAULTS, **spec}
    settings["sequence"] = min(settings["sequence"], getattr(student.config, "max_position_embeddings", None) or settings["sequence"])
    stream = training.stream_of(task.calibration(), tokenizer, 4 * settings["tokens"])
    source = checkpoints.facts(task.source)["checkpoint_sha256"]
    mark = json.dumps({"settings": settings, "all": dict(task.settings), "source": source, "seed": task.seed}, sort_keys=True, default=str)
    return training.fit(student, teacher, stream, settings, task.seed, task.target.parent / ".training", mark, say)


def save(model, tokenizer, task: Task) -> None:
    """Write the checkpoint in the number format of the cell."""
    import torch

    loading.save(model.to(getattr(torch, task.dtype)), tokenizer, task.source, task.target)
