"""AWQ's packing of a layer's weights, a group of inputs at a time. GPT-QModel 7.6 does it a column at a time, on the processor: minutes of
two cores for 8 B. What comes out is the same, bit for bit."""

# Where each of the eight 4-bit numbers of a word comes from (https://github.com/mit-han-lab/llm-awq).
ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
BITS = 4


def pack(module, linear, scales, zeros, g_idx=None) -> None:
    """In the place of `AwqTorchLinear.pack`: give `module` the buffers `qweight`, `qzeros`, `scales` and `bias` of a checkpoint.

    linear: the layer with the weights (outputs, inputs) that its scales and zero points stand for; scales and zeros: (outputs, groups).
    """
    import torch

    scales, zeros = scales.t().contiguous(), zeros.t().contiguous()
    offsets = zeros * scales
    kept = scales.dtype if scales.dtype in (torch.float16, torch.bfloat16) else torch.float16
    module.register_buffer("scales", scales.clone().to(kept))
    if linear.bias is None:
        module.bias = None
    else:
        kept = linear.bias.dtype if linear.bias.dtype in (torch.float16, torch.bfloat16) else kept
        module.register_buffer("bias", linear.bias.clone().to(kept))
    groups = linear.weight.data.split(module.group_size, dim=1)
    packed = []
    for weights, offset, scale in zip(groups, offsets, module.scales, strict=True):
        numbers = torch.round((weights + offset[:, None]) / scale[:, None]).to(torch.int32)
        packed.append(words(numbers.t()))
    module.register_buffer("qweight", torch.cat(packed))
    module.register_buffer("qzeros", words(zeros.to(torch.int32)))


def words(numbers):
    """Numbers of 4 bits (rows, columns), of int32, as words of eight: (rows, columns / 8)."""
    import torch

    parts = numbers.contiguous().view(numbers.shape[0], -1, len(ORDER))
    packed = torch.zeros(parts.shape[:2], dtype=torch.int32, device=numbers.device)
    for place, number in enumerate(ORDER):
        packed |= (parts[:, :, number] & (1 << BITS) - 1) << (BITS * place)
    return packed
