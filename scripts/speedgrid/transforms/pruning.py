"""Which attention heads, channels and layers of a Llama-like model matter least, and a smaller model without them.

Importance is measured by what a calibration text makes of the model, in passes without gradients, as in S. Muralidharan et al., "Compact
Language Models via Pruning and Knowledge Distillation", 2024 (https://arxiv.org/abs/2407.14679), section 2.2: of a channel or head, the
size of what it adds to the stream, its activation times its outgoing weights; of a layer, how far its output turns away from its input
(X. Men et al., "ShortGPT", 2024, https://arxiv.org/abs/2403.03853). What is left is an ordinary checkpoint with smaller matrices.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from speedgrid.outcomes import Unsupported

# Widths are rounded to a multiple of this, which kernels and block formats of four bits want.
MULTIPLE = 64
PROJECTIONS = ("q_proj", "k_proj", "v_proj", "o_proj")
FEED_FORWARD = ("gate_proj", "up_proj", "down_proj")


@dataclass(frozen=True)
class Sizes:
    """What a layer keeps: groups of attention heads that share keys and values, and channels of the feed-forward network."""

    groups: int
    channels: int


def layers_of(model) -> list:
    """The layers of a model whose attention and feed-forward network are those of Llama. Raises outcomes.Unsupported for others."""
    layers = list(getattr(getattr(model, "model", None), "layers", []))
    fits = [
        all(
            hasattr(getattr(layer, part, None), name)
            for part, names in (("self_attn", PROJECTIONS), ("mlp", FEED_FORWARD))
            for name in names
        )
        for layer in layers
    ]
    if not layers or not all(fits):
        kind = model.config.model_type
        raise Unsupported(
            f"pruning here takes models with Llama's attention and feed-forward layers (Llama, Mistral, Qwen2, …), not {kind}"
        )
    return layers


def parameters(module) -> int:
    """Parameters of a model or layer, each shared one once."""
    return sum(weight.numel() for weight in module.parameters())


def sizes_for(kept: float, groups: Sequence[int], channels: int, group_cost: int, channel_cost: int) -> Sizes:
    """Groups and channels that keep the share `kept` of a layer's weights: the groups come in large steps, the channels make up for it.

    `groups` are the numbers of groups that may be left, the last one all of them; `group_cost` and `channel_cost` are weights of one group
    and one channel. Raises outcomes.Unsupported where nothing would be left.
    """
    wanted = kept * (groups[-1] * group_cost + channels * channel_cost)
    # Rounded up: of the two, heads are missed more.
    left_groups = min(left for left in groups if left >= groups[-1] * kept - 1e-9)
    step = MULTIPLE if channels >= 4 * MULTIPLE else 8
    left_channels = round((wanted - left_groups * group_cost) / channel_cost / step) * step
    if left_channels < step:
        raise Unsupported(f"to keep {kept:.0%} of the layers leaves no feed-forward channels beside one group of attention heads")
    return Sizes(left_groups, min(channels, left_channels))


@dataclass
class Importance:
    """Of each layer: an importance for every group of heads and every channel, and one for the layer as a whole."""

    groups: list
    channels: list
    layers: list[float]


def measure(model, sequences: Sequence[Sequence[int]]) -> Importance:
    """The importance of everything that can be cut off, over sequences of tokens."""
    import torch

    layers, config = layers_of(model), model.config
    groups = config.num_key_value_heads
    heads = [torch.zeros(layers[0].self_attn.o_proj.in_features, dtype=torch.float64) for _ in layers]
    channels = [torch.zeros(layers[0].mlp.down_proj.in_features, dtype=torch.float64) for _ in layers]
    turns, hooks = [0.0] * len(layers), []

    def add(total):
        def hook(module, inputs):
            total.add_(inputs[0].detach().abs().double().sum(dim=(0, 1)).cpu())

        return hook

    def turn(number):
        def hook(module, inputs, named, output):
            before = (inputs[0] if inputs else named["hidden_states"]).detach().float()
            after = (output[0] if isinstance(output, tuple) else output).detach().float()
            turns[number] += float((1 - torch.nn.functional.cosine_similarity(before, after, dim=-1)).sum())

        return hook

    for number, layer in enumerate(layers):
        hooks.append(layer.self_attn.o_proj.register_forward_pre_hook(add(heads[number])))
        hooks.append(layer.mlp.down_proj.register_forward_pre_hook(add(channels[number])))
        hooks.append(layer.register_forward_hook(turn(number), with_kwargs=True))
    try:
        with torch.inference_mode():
            for tokens in sequences:
                model(input_ids=torch.tensor([list(tokens)], device=model.device), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    for number, layer in enumerate(layers):
        heads[number] *= layer.self_attn.o_proj.weight.detach().double().norm(dim=0).cpu()
        channels[number] *= layer.mlp.down_proj.weight.detach().double().norm(dim=0).cpu()
    return Importance([head.view(groups, -1).sum(dim=1) for head in heads], channels, turns)


def cut_width(model, kept: float, importance: Importance) -> None:
    """Cut groups of heads and channels off every layer, until the share `kept` of the layers' weights is left."""
    import torch

    layers, config = layers_of(model), model.config
    attention, network = layers[0].self_attn, layers[0].mlp
    rows_of_group = {name: getattr(attention, name).out_features // config.num_key_value_heads for name in ("q_proj", "k_proj", "v_proj")}
    rows_of_group["o_proj"] = rows_of_group["q_proj"]
    cost = sum(rows_of_group.values()) * config.hidden_size
    queries = config.num_attention_heads // config.num_key_value_heads
    # transformers takes no Llama whose width is not a multiple of its heads, even where a head's own width is written down.
    possible = [left for left in range(1, config.num_key_value_heads + 1) if config.hidden_size % (left * queries) == 0]
    if config.num_key_value_heads not in possible:
        possible.append(config.num_key_value_heads)
    sizes = sizes_for(kept, possible, network.down_proj.in_features, cost, 3 * config.hidden_size)
    for layer, groups, channels in zip(layers, importance.groups, importance.channels, strict=True):
        best = groups.topk(sizes.groups).indices.sort().values
        for name, width in rows_of_group.items():
            chosen = torch.cat([torch.arange(int(group) * width, (int(group) + 1) * width) for group in best])
            _keep(getattr(layer.self_attn, name), chosen, inputs=name == "o_proj")
        chosen = channels.topk(sizes.channels).indices.sort().values
        for name in FEED_FORWARD:
            _keep(getattr(layer.mlp, name), chosen, inputs=name == "down_proj")
    # Written down, since the width of a head no longer follows from the number of heads.
    config.head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    config.num_attention_heads, config.num_key_value_heads, config.intermediate_size = queries * sizes.groups, sizes.groups, sizes.channels


def cut_depth(model, kept: float, importance: Importance) -> None:
    """Take out the layers that turn the stream least, until the share `kept` of them is left, at least one."""
    from torch.nn import ModuleList

    layers = layers_of(model)
    count = max(1, round(kept * len(layers)))
    best = sorted(sorted(range(len(layers)), key=lambda number: -importance.layers[number])[:count])
    model.model.layers = ModuleList([layers[number] for number in best])
    for place, layer in enumerate(model.model.layers):
        layer.self_attn.layer_idx = place
    model.config.num_hidden_layers = count
    if getattr(model.config, "layer_types", None):
        model.config.layer_types = [model.config.layer_types[number] for number in best]


def _keep(linear, chosen, inputs: bool) -> None:
    """Keep the chosen inputs or outputs of a linear layer."""
    from torch.nn import Parameter

    chosen = chosen.to(linear.weight.device)
    linear.weight = Parameter(linear.weight.detach().index_select(1 if inputs else 0, chosen).contiguous())
    if inputs:
        linear.in_features = len(chosen)
        return
    linear.out_features = len(chosen)
    if linear.bias is not None:
        linear.bias = Parameter(linear.bias.detach().index_select(0, chosen).contiguous())
