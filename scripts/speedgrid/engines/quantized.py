"""How much of a loaded model is in a quantized number format, and what is not.

A library quantizes the layers that it knows and leaves the others as they are, without a word: bitsandbytes takes `nn.Linear` alone, and
transformers 5 keeps the experts of a mixture as one parameter of three dimensions.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import prod

# Of the layers' weights less than this share in the new format, and most of what a step reads and multiplies is in the old one: the
# figures are those of another number format than the technique's name says.
LEAST = 0.5
# From this share on the weights are said to be quantized; routers, norms and convolutions that every method leaves out are less than 5 %.
WHOLE = 0.95
LIBRARIES = {"bitsandbytes": "bitsandbytes quantizes nn.Linear alone", "torchao": "torchao quantizes nn.Linear alone"}


@dataclass(frozen=True)
class Share:
    """Weights in a quantized format, those of the layers that are not, by their names without numbers, and all parameters of the model.

    The layers' weights are their matrices: without embeddings and the last layer, which every method leaves alone or treats apart.
    """

    quantized: int
    left: Mapping[str, int] = field(default_factory=dict)
    parameters: int = 0

    @property
    def of_layers(self) -> float:
        """The share of the layers' weights that is quantized; 0 where they have none."""
        layers = self.quantized + sum(self.left.values())
        return self.quantized / layers if layers else 0.0

    @property
    def of_all(self) -> float:
        """The share of all parameters."""
        return self.quantized / self.parameters if self.parameters else 0.0

    @property
    def largest_left(self) -> tuple[str, float]:
        """The weights that are most of what is left, by their name, and their share of the layers' weights."""
        name, count = max(self.left.items(), key=lambda pair: pair[1], default=("", 0))
        return name, count / (self.quantized + sum(self.left.values())) if count else 0.0

    def evidence(self) -> dict:
        """`quantized_share` of the layers' weights, `quantized_share_of_all` parameters, and `left_as_it_was`, the largest weights that are
        not quantized with their share of the layers' weights."""
        seen: dict = {"quantized_share": round(self.of_layers, 4)}
        if self.parameters:
            seen["quantized_share_of_all"] = round(self.of_all, 4)
        if self.of_layers < WHOLE and self.left:
            name, share = self.largest_left
            seen["left_as_it_was"] = f"{name}, {share:.0%} of the layers' weights"
        return seen

    def reason(self, library: str = "", dtype: str = "") -> str:
        """Why a technique that quantizes was not engaged: too little of the model is; empty where it is enough."""
        if self.of_layers >= LEAST or not (self.quantized or self.left):
            return ""
        name, share = self.largest_left
        why = f": {LIBRARIES[library]}" if library in LIBRARIES else ""
        return (
            f"{self.of_layers:.0%} of the layers' weights are quantized; `{name}`, {share:.0%} of them, stays {dtype or 'as it was'}{why}"
        )


def share(weights: Iterable[tuple[str, int, bool]], parameters: int = 0) -> Share:
    """The share of the layers' `weights`: of each its name, how many numbers it stands for, and whether they are quantized.

    `parameters` are those of the whole model, 0 where that is not known.
    """
    quantized = 0
    left: Counter[str] = Counter()
    for name, count, is_quantized in weights:
        if is_quantized:
            quantized += count
        else:
            left[re.sub(r"(?<=\.)\d+(?=\.)", "*", name)] += count
    return Share(quantized, dict(left), parameters)


def share_of_model(model) -> Share:
    """The share of a loaded model of PyTorch, and its parameters: a tensor that two modules have is counted once. Packed weights of
    bitsandbytes, GPT-QModel and AutoGPTQ are those that they stand for; their scales and zero points are not counted.
    """
    from torch.nn import Embedding

    head, found, seen, rest = model.get_output_embeddings(), [], set(), 0
    for path, module in model.named_modules():
        outside = isinstance(module, Embedding) or module is head
        if count := packed(module):
            found.append((f"{path}.weight", count, True))
            rest += sum(buffer.numel() for name, buffer in module.named_buffers(recurse=False) if name == "bias")
        for name, weight in module.named_parameters(recurse=False):
            # What else a packed layer has, such as scales, is a part of its form; GPT-QModel's Marlin keeps all of it as parameters.
            if id(weight) in seen or (count and name != "bias"):
                continue
            seen.add(id(weight))
            held, is_quantized = numbers(weight)
            if outside or (weight.dim() < 2 and not is_quantized):
                rest += held
            else:
                found.append((f"{path}.{name}".lstrip("."), held, is_quantized))
    return share(found, rest + sum(count for _, count, _ in found))


def packed(module) -> int:
    """The weights of a layer that keeps them in a form of its own (bitsandbytes, GPT-QModel, AutoGPTQ); 0 of any other module."""
    if hasattr(module, "qweight"):
        # AutoGPTQ spells them together.
        inputs, outputs = (
            getattr(module, name, None) or getattr(module, name.replace("_", "")) for name in ("in_features", "out_features")
        )
        return inputs * outputs
    weight = getattr(module, "weight", None)
    if type(module).__module__.partition(".")[0] == "bitsandbytes" and hasattr(module, "in_features") and numbers(weight)[1]:
        return module.in_features * module.out_features
    return 0


def numbers(weight) -> tuple[int, bool]:
    """How many numbers a parameter stands for, and whether they are quantized: in a tensor of a library for it, or in 8 bits or fewer."""
    state = getattr(weight, "quant_state", None)
    if state is not None:
        return prod(state.shape), True
    return weight.numel(), type(weight).__module__.partition(".")[0] == "torchao" or weight.element_size() == 1
