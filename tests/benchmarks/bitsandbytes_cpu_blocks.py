"""Shows a flaw of bitsandbytes on a CPU: 4-bit blocks go wrong where a matrix's width is not a multiple of 64.

    python tests/benchmarks/bitsandbytes_cpu_blocks.py

Run it with the Python of the environment `transformers`. It prints, for several shapes, how much of a random matrix's norm is lost by
quantizing it to NF4 and back. All shapes should lose the same, about 9 %. When they do, the refusal in transforms/bitsandbytes.py can go.
"""

import torch
from bitsandbytes.functional import dequantize_4bit, quantize_4bit

torch.manual_seed(0)
for shape in ((256, 688), (256, 704), (688, 256), (64, 32), (64, 128)):
    weights = torch.randn(shape)
    packed, state = quantize_4bit(weights, blocksize=64, quant_type="nf4")
    lost = (dequantize_4bit(packed, state) - weights).norm() / weights.norm()
    print(f"{shape[0]:>4} x {shape[1]:<4} loses {lost:.1%}")
