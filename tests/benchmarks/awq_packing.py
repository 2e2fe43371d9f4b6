"""Packing AWQ's weights a group of inputs at a time (transforms/awq_packing.py) against GPT-QModel's own way: seconds of one layer.

    python tests/benchmarks/awq_packing.py [--inputs 4096] [--outputs 14336] [--rounds 3]

Run it with the Python of the environment `gptqmodel`. Rounds of both alternate in one process, on random weights in bfloat16.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import torch
from gptqmodel.nn_modules.qlinear.torch_awq import AwqTorchLinear

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))

from speedgrid.transforms import awq_packing

GROUP = 128


class Packed(torch.nn.Module):
    """What a layer is packed into."""

    def __init__(self, inputs: int):
        super().__init__()
        self.in_features, self.group_size, self.bits = inputs, GROUP, 4


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--inputs", type=int, default=4096)
    parser.add_argument("--outputs", type=int, default=14336)
    parser.add_argument("--rounds", type=int, default=3)
    asked = parser.parse_args()
    layer = torch.nn.Linear(asked.inputs, asked.outputs, bias=False).to(torch.bfloat16)
    groups = layer.weight.data.view(asked.outputs, -1, GROUP)
    lowest, highest = groups.amin(-1), groups.amax(-1)
    scales = (highest - lowest) / 15
    zeros = (-torch.round(lowest / scales)).clamp(0, 15)
    ways = {"GPT-QModel": AwqTorchLinear.pack, "ours": awq_packing.pack}
    took: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(asked.rounds):
        packed = {}
        for name, pack in ways.items():
            packed[name] = Packed(asked.inputs)
            began = time.perf_counter()
            pack(packed[name], layer, scales, zeros)
            took[name].append(time.perf_counter() - began)
        assert torch.equal(packed["ours"].qweight, packed["GPT-QModel"].qweight)
    medians = {name: statistics.median(seconds) for name, seconds in took.items()}
    print(*(f"{name}: {seconds:.2f} s" for name, seconds in medians.items()), sep="\n")
    print(f"ratio: {medians['GPT-QModel'] / medians['ours']:.1f} on {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
