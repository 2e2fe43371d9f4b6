"""AutoGPTQ 0.7: linear layers in few bits by GPTQ, on NVIDIA GPUs; no longer maintained, kept for what was measured with it in 2024."""

import random
import shutil
from collections.abc import Mapping

from speedgrid import loading
from speedgrid.engines.transformers_legacy import Engine
from speedgrid.outcomes import Unsupported
from speedgrid.transforms import Task
from speedgrid.transforms.gptqmodel import DEFAULTS, SHORTEST, sequences

# What lies beside the weights and is not the model's configuration: taken over as it is, so that every stack finds its own.
BESIDE = ("token*.json", "special_tokens_map.json", "generation_config.json", "vocab.*", "merges.txt", "*.model", "*.jinja", "*.py")
SETTINGS = {
    "type": "object",
    "additionalProperties": False,
    "properties": {
        "bits": {"description": "Bits of a weight; 4 where left out.", "type": "integer", "enum": [2, 3, 4, 8]},
        "group_size": {
            "description": "Weights along a layer's input that share a scale, or -1 for all of them; 128 where left out.",
            "oneOf": [{"const": -1}, {"type": "integer", "minimum": 1}],
        },
        "desc_act": {"description": "Take the weights in the order of their activations; no where left out.", "type": "boolean"},
        "samples": {"description": "The most sequences of the calibration text; 128 where left out.", "type": "integer", "minimum": 1},
        "sequence": {"description": "Tokens of such a sequence; 512 where left out.", "type": "integer", "minimum": SHORTEST},
    },
}


def make(task: Task) -> dict:
    """Write the quantized checkpoint, with its tokenizer.

    Raises outcomes.Unsupported where AutoGPTQ does not take the model, or where transformers would not load what it makes.
    """
    settings = {**DEFAULTS, "desc_act": False, **task.settings}
    import torch
    from auto_gptq import AutoGPTQForCausalLM, BaseQuantizeConfig

    loading.unquantized(task.source, "AutoGPTQ")
    random.seed(task.seed)
    torch.manual_seed(task.seed)
    # The engine that will load the result knows how to read a newer checkpoint, and which it must refuse.
    engine = Engine(task.source, task.device, {"dtype": task.dtype}, task.threads, task.trust_remote_code)
    try:
        engine.import_packages()
        engine.open()
        if hasattr(engine.config, "auto_map") and not task.trust_remote_code:
            raise Unsupported("AutoGPTQ runs the code that came with this checkpoint, and the study does not trust it (trust_remote_code)")
        loading.refuse_own_head(engine.checkpoint, engine.config, "transformers 4.40")
        # Under this name of the file transformers finds the weights.
        config = BaseQuantizeConfig(
            bits=settings["bits"], group_size=settings["group_size"], desc_act=settings["desc_act"], model_file_base_name="model"
        )
        try:
            model = AutoGPTQForCausalLM.from_pretrained(
                str(engine.checkpoint),
                config,
                trust_remote_code=task.trust_remote_code,
                torch_dtype=getattr(torch, task.dtype),
                use_safetensors=True,
                local_files_only=True,
            )
        except TypeError as error:
            if "isn't supported yet" not in str(error):
                raise
            raise Unsupported(f"AutoGPTQ does not know {engine.config.model_type} models") from error
        refuse_odd_shapes(_left(model), settings["group_size"])
        texts = (engine.language.tokenizer(text, verbose=False)["input_ids"] for text in task.calibration())
        calibration = sequences(texts, settings["samples"], min(settings["sequence"], engine.language.context()))
        if not calibration:
            raise Unsupported("the calibration text is too short")
        model.quantize([{"input_ids": ids, "attention_mask": [1] * len(ids)} for ids in calibration])
        if left := next(iter(_left(model)), None):
            raise Unsupported(f"AutoGPTQ leaves {left} as it is in this model, and transformers would load it as quantized")
        model.save_quantized(str(task.target), use_safetensors=True)
    finally:
        engine.close()
    for path in (path for pattern in BESIDE for path in task.source.glob(pattern)):
        shutil.copy(path, task.target / path.name)
    return {"calibration_tokens": sum(map(len, calibration))}


def refuse_odd_shapes(layers: Mapping[str, tuple[int, int]], group_size: int) -> None:
    """Raise Unsupported for the first layer (name, numbers of inputs and outputs) that AutoGPTQ's kernels do not take.

    It would quantize one and refuse the checkpoint later.
    """
    for name, (inputs, outputs) in layers.items():
        if inputs % 32 or outputs % 32:
            raise Unsupported(f"AutoGPTQ takes layers whose inputs and outputs are multiples of 32; {name} has {inputs} and {outputs}")
        if group_size > 0 and inputs % group_size:
            raise Unsupported(f"groups of {group_size} weights need inputs that are a multiple of {group_size}; {name} has {inputs}")


def _left(model) -> dict[str, tuple[int, int]]:
    """Inputs and outputs of every layer of the model's blocks that is not quantized, by its name."""
    from torch.nn import Linear
    from transformers.pytorch_utils import Conv1D

    layers = {name: layer for name, layer in model.model.named_modules() if name.startswith(model.layers_block_name + ".")}
    shapes = {name: (layer.in_features, layer.out_features) for name, layer in layers.items() if isinstance(layer, Linear)}
    return shapes | {name: tuple(layer.weight.shape) for name, layer in layers.items() if isinstance(layer, Conv1D)}
