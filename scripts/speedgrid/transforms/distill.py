"""Distillation: a smaller model of the same kind, trained on the next tokens that the model expects and on the text itself.

The student starts as what pruning leaves of the teacher, in layers and in width, and not from random weights, which saves most of the
training (S. Muralidharan et al., "Compact Language Models via Pruning and Knowledge Distillation", 2024, https://arxiv.org/abs/2407.14679).
"""

import copy
import math

from speedgrid.outcomes import Unsupported
from speedgrid.progress import say
from speedgrid.transforms import Task, pruning, training
from speedgrid.transforms.prune import importance_of, load, save, train

DEFAULTS = {"samples": 64, "sequence": 256}

SETTINGS = {
    "type": "object",
    "additionalProperties": False,
    "required": ["size", "train"],
    "properties": {
        "size": {
            "description": "Parameters of the student, as a share of the teacher's.",
            "type": "number",
            "exclusiveMinimum": 0,
            "exclusiveMaximum": 1,
        },
        "train": {**training.SETTINGS, "description": "How the student is trained."},
        "samples": {
            "description": "Sequences of the calibration text that importance is measured on; 64 where left out.",
            "type": "integer",
            "minimum": 1,
        },
        "sequence": {"description": "Tokens of such a sequence; 256 where left out.", "type": "integer", "minimum": 2},
    },
}


def make(task: Task) -> dict:
    """Write the student's checkpoint, with its tokenizer.

    Raises outcomes.Unsupported where what cannot be cut, such as the embedding, is already larger, or where the model is built neither like
    Llama nor like GPT-2.
    """
    settings = {**DEFAULTS, **task.settings}
    student, tokenizer = load(task)
    teacher = copy.deepcopy(student)
    whole, layers = pruning.parameters(student), sum(map(pruning.parameters, pruning.layers_of(student)))
    kept = kept_of_layers(settings["size"], whole, layers)
    importance = importance_of(student, tokenizer, task, settings["samples"], settings["sequence"])
    count = len(pruning.layers_of(student))
    depth = max(1, round(math.sqrt(kept) * count))
    # First the width, while the importance of every layer is at hand; the rounding of the depth is made up for in it.
    pruning.cut_width(student, min(1.0, kept * count / depth), importance)
    pruning.cut_depth(student, depth / count, importance)
    if pruning.parameters(student) >= whole:
        raise Unsupported(
            f"a student of {settings['size']:.0%} would have the teacher's shape: heads, channels and layers come in larger steps"
        )
    say(f"distillation: a student of {pruning.parameters(student):,} parameters, a teacher of {whole:,}")
    told = train(student, teacher, tokenizer, settings["train"], task)
    save(student, tokenizer, task)
    return {"calibration_tokens": settings["samples"] * settings["sequence"], **told}


def kept_of_layers(size: float, whole: int, layers: int) -> float:
    """The share of the layers' parameters that a student of `size` times `whole` parameters keeps, when the rest stays as it is.

    Raises outcomes.Unsupported where nothing would be left of the layers, or nothing is to be cut.
    """
    kept = (size * whole - (whole - layers)) / layers
    if kept <= 0:
        raise Unsupported(
            f"a student of {size:.0%} has no room for layers: embedding and head alone are {1 - layers / whole:.0%} of the model"
        )
    return kept
