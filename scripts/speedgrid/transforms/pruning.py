"""Which attention heads, channels and layers of a model like Llama or GPT-2 matter least, and a smaller model without them.

Importance is measured by what a calibration text makes of the model, in passes without gradients, as in S. Muralidharan et al., "Compact
Language Models via Pruning and Knowledge Distillation", 2024 (https://arxiv.org/abs/2407.14679), section 2.2: of a channel or head, the
size of what it adds to the stream, its activation times its outgoing weights; of a layer, how far its output turns away from its input
(X. Men et al., "ShortGPT", 2024, https://arxiv.org/abs/2403.03853). What is left is an ordinary checkpoint with smaller matrices.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from speedgrid.outcomes import Unsupported

# Widths are rounded to a multiple of this, which kernels and block formats of four bits want.
MULTIPLE = 64


@dataclass(frozen=True)
class Layout:
    """Where the models of a family keep their layers, and what is cut in them: names of modules, and of the feed-forward width."""

    stack: tuple[str, str]
    attention: str
    outgoing: str
    up: tuple[str, ...]
    down: str
    width: str
    # What gives the heads, where heads can be cut off.
    heads: tuple[str, ...] = ()
    network: str = "mlp"

    def list_in(self, model) -> list:
        """The layers of a model of this family; empty where it is none."""
        layers = list(getattr(getattr(model, self.stack[0], None), self.stack[1], []))
        wanted = [(self.attention, name) for name in (*self.heads, self.outgoing)]
        wanted += [(self.network, name) for name in (*self.up, self.down)]
        fits = all(hasattr(getattr(layer, part, None), name) for layer in layers for part, name in wanted)
        return layers if fits else []

    def out_of_attention(self, layer):
        return getattr(getattr(layer, self.attention), self.outgoing)

    def out_of_network(self, layer):
        return getattr(getattr(layer, self.network), self.down)


LAYOUTS = (
    Layout(
        ("model", "layers"),
        "self_attn",
        "o_proj",
        ("gate_proj", "up_proj"),
        "down_proj",
        "intermediate_size",
        heads=("q_proj", "k_proj", "v_proj"),
    ),
    # GPT-2 has no width of a head apart from that of the stream over the number of heads, so that none can be cut off: channels alone.
    Layout(("transformer", "h"), "attn", "c_proj", ("c_fc",), "c_proj", "n_inner"),
)


@dataclass(frozen=True)
class Sizes:
    """What a layer keeps: groups of attention heads that share keys and values, and channels of the feed-forward network."""

    groups: int
    channels: int


def layout_of(model) -> Layout:
    """How a model is built. Raises outcomes.Unsupported for models of other families."""
    found = next((layout for layout in LAYOUTS if layout.list_in(model)), None)
    if found is None:
        raise Unsupported(
            "pruning here takes models with the attention and feed-forward layers of Llama (Llama, Mistral, Qwen2, …) or GPT-2, "
            f"not {model.config.model_type}"
        )
    return found


def layers_of(model) -> list:
    """The layers of a model. Raises outcomes.Unsupported for models of families that are not known here."""
    return layout_of(model).list_in(model)


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
        raise Unsupported(f"to keep {kept:.0%} of the layers leaves no feed-forward channels beside the attention heads that stay")
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

    layout = layout_of(model)
    layers = layout.list_in(model)
    heads = [torch.zeros(_inputs(layout.out_of_attention(layer)), dtype=torch.float64) for layer in layers]
    channels = [torch.zeros(_inputs(layout.out_of_network(layer)), dtype=torch.float64) for layer in layers]
    turns, hooks = [0.0] * len(layers), []

    def add(total):
        def hook(module, inputs):
            total.add_(inputs[0].detach().abs().double().sum(dim=(0, 1)).cpu())

        return hook

    def turn(number):
        def hook(module, inputs, named, output):
            before = (inputs[0] if inputs else named["hidden_states"]).detach().float()
            after = (output[0] if isinstance(output, tuple | list) else output).detach().float()
            turns[number] += float((1 - torch.nn.functional.cosine_similarity(before, after, dim=-1)).sum())

        return hook

    for number, layer in enumerate(layers):
        hooks.append(layout.out_of_attention(layer).register_forward_pre_hook(add(heads[number])))
        hooks.append(layout.out_of_network(layer).register_forward_pre_hook(add(channels[number])))
        hooks.append(layer.register_forward_hook(turn(number), with_kwargs=True))
    try:
        with torch.inference_mode():
            for tokens in sequences:
                model(input_ids=torch.tensor([list(tokens)], device=model.device), use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    for number, layer in enumerate(layers):
        heads[number] *= _outgoing_norms(layout.out_of_attention(layer))
        channels[number] *= _outgoing_norms(layout.out_of_network(layer))
    return Importance([head.view(_groups(model.config), -1).sum(dim=1) for head in heads], channels, turns)


def cut_width(model, kept: float, importance: Importance) -> None:
    """Cut groups of heads, where the family can do without some, and channels off every layer, until the share `kept` of the layers'
    weights is left."""
    layout, config = layout_of(model), model.config
    layers, groups = layout.list_in(model), _groups(config)
    queries, channels = config.num_attention_heads // groups, _inputs(layout.out_of_network(layers[0]))
    # transformers takes no Llama whose width is not a multiple of its heads, even where a head's own width is written down.
    possible = [left for left in range(1, groups + 1) if layout.heads and config.hidden_size % (left * queries) == 0]
    if groups not in possible:
        possible.append(groups)
    group_cost = _matrices(getattr(layers[0], layout.attention)) // groups
    sizes = sizes_for(kept, possible, channels, group_cost, _matrices(getattr(layers[0], layout.network)) // channels)
    for layer, of_groups, of_channels in zip(layers, importance.groups, importance.channels, strict=True):
        if layout.heads:
            _keep_groups(getattr(layer, layout.attention), layout, of_groups.topk(sizes.groups).indices.sort().values, groups)
        chosen = of_channels.topk(sizes.channels).indices.sort().values
        for name in layout.up:
            _keep(getattr(getattr(layer, layout.network), name), chosen, inputs=False)
        _keep(layout.out_of_network(layer), chosen, inputs=True)
    setattr(config, layout.width, sizes.channels)
    if layout.heads:
        # Written down, since the width of a head no longer follows from the number of heads.
        config.head_dim = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        config.num_attention_heads, config.num_key_value_heads = queries * sizes.groups, sizes.groups


def layers_left(kept: float, layers: int) -> int:
    """The layers, at least one, that are left where the share `kept` of so many stays."""
    return max(1, round(kept * layers))


def cut_depth(model, kept: float, importance: Importance) -> None:
    """Take out the layers that turn the stream least, until the share `kept` of them is left, at least one."""
    from torch.nn import ModuleList

    layout = layout_of(model)
    layers = layout.list_in(model)
    count = layers_left(kept, len(layers))
    best = sorted(sorted(range(len(layers)), key=lambda number: -importance.layers[number])[:count])
    left = ModuleList([layers[number] for number in best])
    setattr(getattr(model, layout.stack[0]), layout.stack[1], left)
    for place, layer in enumerate(left):
        getattr(layer, layout.attention).layer_idx = place
    each = of_each_layer(model.config.to_dict(), len(layers))
    model.config.num_hidden_layers = count
    for name, values in each.items():
        setattr(model.config, name, [values[number] for number in best])


def of_each_layer(config: Mapping, layers: int) -> dict[str, list]:
    """The settings that have a value for each of so many layers, such as `layer_types` and SmolLM3's `no_rope_layers`."""
    lists = {name: value for name, value in config.items() if "layer" in name and isinstance(value, list | tuple)}
    return {name: list(value) for name, value in lists.items() if len(value) == layers}


def _groups(config) -> int:
    """Groups of attention heads that share keys and values: each head its own where the family has no such sharing."""
    return getattr(config, "num_key_value_heads", None) or config.num_attention_heads


def _is_transposed(linear) -> bool:
    """Whether this is GPT-2's linear layer of transformers, which keeps inputs by outputs."""
    return type(linear).__name__ == "Conv1D"


def _inputs(linear) -> int:
    return linear.weight.shape[0 if _is_transposed(linear) else 1]


def _outgoing_norms(linear):
    """Of each input of a linear layer the norm of the weights that take it on."""
    return linear.weight.detach().double().norm(dim=1 if _is_transposed(linear) else 0).cpu()


def _matrices(module) -> int:
    """Parameters of the matrices in a module."""
    return sum(weight.numel() for weight in module.parameters() if weight.dim() == 2)


def _keep_groups(attention, layout: Layout, kept, groups: int) -> None:
    """Keep the groups of heads with the numbers `kept`, of `groups`."""
    import torch

    def of(width: int):
        each = width // groups
        return torch.cat([torch.arange(int(group) * each, (int(group) + 1) * each) for group in kept])

    for name in layout.heads:
        _keep(getattr(attention, name), of(getattr(attention, name).out_features), inputs=False)
    outgoing = getattr(attention, layout.outgoing)
    _keep(outgoing, of(outgoing.in_features), inputs=True)


def _keep(linear, chosen, inputs: bool) -> None:
    """Keep the chosen inputs or outputs of a linear layer."""
    from torch.nn import Parameter

    chosen, transposed = chosen.to(linear.weight.device), _is_transposed(linear)
    linear.weight = Parameter(linear.weight.detach().index_select(int(inputs != transposed), chosen).contiguous())
    names = ("nx", "nf") if transposed else ("in_features", "out_features")
    setattr(linear, names[0 if inputs else 1], len(chosen))
    if not inputs and linear.bias is not None:
        linear.bias = Parameter(linear.bias.detach().index_select(0, chosen).contiguous())
