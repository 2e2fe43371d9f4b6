"""What is known of a model, a machine and a cell before a study starts: what its estimates are made of. Pure."""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from speedgrid.workload import DEFAULT

ITEMS = {"float32": 4, "float16": 2, "bfloat16": 2}


@dataclass(frozen=True)
class Sheet:
    """What data sheets say of a GPU: bytes a second that it reads; operations a second of its matrix products in float32 and in half
    precision, of which those of TF32 are half; and its compute capability. `is_guessed` where there is none of just this one."""

    reads: float
    float32: float
    half: float
    capability: str
    is_guessed: bool = False


# By a part of the driver's name, as a pattern, the first that fits. From the data sheets, without sparsity, and from the bandwidth a tenth
# taken off, which is what probes reach.
GPUS = {
    "GB300": Sheet(7.2e12, 75e12, 2250e12, "10.3"),
    "GB200": Sheet(7.2e12, 75e12, 2250e12, "10.0"),
    "B300": Sheet(7.2e12, 75e12, 2250e12, "10.3"),
    "B200": Sheet(7.2e12, 75e12, 2250e12, "10.0"),
    "GH200": Sheet(3.6e12, 67e12, 989e12, "9.0"),
    "H200": Sheet(4.4e12, 67e12, 989e12, "9.0"),
    "H100 NVL": Sheet(3.5e12, 60e12, 835e12, "9.0"),
    "H100 PCIE": Sheet(1.8e12, 51e12, 756e12, "9.0"),
    "H100": Sheet(3.0e12, 67e12, 989e12, "9.0"),
    # Older drivers write `A100-SXM-80GB` and `A100-PCIE-80GB`.
    "A100-SXM4?-80GB": Sheet(1.8e12, 19.5e12, 312e12, "8.0"),
    "A100[ -](80GB|PCIE-80GB)": Sheet(1.7e12, 19.5e12, 312e12, "8.0"),
    "A100": Sheet(1.4e12, 19.5e12, 312e12, "8.0"),
    "A30": Sheet(0.84e12, 10.3e12, 165e12, "8.0"),
    "PRO 6000": Sheet(1.6e12, 125e12, 500e12, "12.0"),
    "6000 ADA": Sheet(0.86e12, 91e12, 364e12, "8.9"),
    "L40": Sheet(0.78e12, 91e12, 362e12, "8.9"),
    "L4": Sheet(0.27e12, 30e12, 121e12, "8.9"),
    "A10": Sheet(0.54e12, 31e12, 125e12, "8.6"),
    "A40": Sheet(0.62e12, 37e12, 150e12, "8.6"),
    "A6000": Sheet(0.69e12, 38e12, 155e12, "8.6"),
    "A5000": Sheet(0.69e12, 27e12, 111e12, "8.6"),
    "A4000": Sheet(0.40e12, 19e12, 76e12, "8.6"),
    "V100": Sheet(0.81e12, 15.7e12, 125e12, "7.0"),
    "T4": Sheet(0.29e12, 8.1e12, 65e12, "7.5"),
    "5090": Sheet(1.6e12, 104e12, 209e12, "12.0"),
    "5080": Sheet(0.86e12, 56e12, 112e12, "12.0"),
    "5070": Sheet(0.60e12, 31e12, 62e12, "12.0"),
    "5060": Sheet(0.40e12, 19e12, 38e12, "12.0"),
    "4090": Sheet(0.91e12, 82e12, 165e12, "8.9"),
    "4080": Sheet(0.65e12, 48e12, 97e12, "8.9"),
    "4070": Sheet(0.45e12, 29e12, 58e12, "8.9"),
    "4060": Sheet(0.24e12, 15e12, 30e12, "8.9"),
    "3090": Sheet(0.84e12, 35e12, 71e12, "8.6"),
    "3080": Sheet(0.68e12, 29e12, 59e12, "8.6"),
    "3070": Sheet(0.40e12, 20e12, 40e12, "8.6"),
    "3060": Sheet(0.32e12, 12.7e12, 25e12, "8.6"),
    "2080": Sheet(0.40e12, 10e12, 40e12, "7.5"),
}
# A GPU that is none of these, or that is not known yet.
SOME_GPU = Sheet(0.6e12, 30e12, 120e12, "8.0", is_guessed=True)
# Of a processor: two channels of DDR4-3200, and what two cores of an EPYC reached; and operations a second of a core. Two cores scored a
# model of 135 million in float32 at about 270 tokens a second, which is the share of this that scoring reaches.
CPU_READS, CORE_RATE = 45e9, 100e9
# What the driver, the CUDA context and others hold of a GPU's memory, so that it is not there for a cell.
GPU_TAKEN = 0.9e9
# What is counted on of each GB of a card that is not here. Cards are sold by 2**30 bytes; the 7 % between are what the driver and a
# desktop hold, or what memory that checks itself takes (ECC in GDDR: T4, L4, L40S), a sixteenth.
GB = 10**9
# What CUDA itself takes of a GPU beside what PyTorch's allocator took from it, and how far off that may be. In 52 jobs on H200s (driver
# 580, PyTorch 2.1 and 2.11) it was 687 to 771 MiB: 527 for the context, and 160 to 244 for kernels and libraries once they ran: 160 in most
# eager replies, also in four bits, 178 with SDPA and in most training, 224 with bitsandbytes INT8, and 238 to 244 with CUDA graphs. That is
# `device_memory_used` less `memory_reserved`, and less the 615 MiB that jobs without PyTorch found in use before their own. On other GPUs
# 274 to 426 MiB were reported before the first kernel (pytorch 86509, 107667, 109888; unsloth-zoo 1053): with the same kernels 434 to 670.
CUDA_CONTEXT, CUDA_CONTEXT_WITHIN = 2**30 * 6 // 10, 2**30 // 5


def usable(size: float) -> float:
    """Bytes that can be used of a card sold with `size` GB, CUDA's own included. What fits on a card that is not here is decided by this
    alone: by `new` and `advise`, and on the page."""
    return size * GB


def allocatable(size: float) -> float:
    """The same without what CUDA itself takes: what PyTorch's allocator can give out, and an estimate is held against."""
    return usable(size) - CUDA_CONTEXT


def of_name(name: str) -> Sheet:
    """What is known of a GPU by its name. One of a laptop is named like a card for desktops and has its compute capability, but often is a
    smaller chip with less bandwidth: it is guessed, and for no faster than some GPU."""
    upper = name.upper()
    # An A1000 is no A100, and an L40 no L4.
    found = next((gpu for part, gpu in GPUS.items() if re.search(rf"(?<![A-Z0-9]){part}(?![0-9])", upper)), SOME_GPU)
    # A card for desktops is called Max-Q, too: `RTX PRO 6000 Blackwell Max-Q Workstation Edition`.
    if re.search(r"\b(LAPTOP|MOBILE|WITH MAX-Q)\b", upper):
        least = {key: min(getattr(found, key), getattr(SOME_GPU, key)) for key in ("reads", "float32", "half")}
        return replace(found, **least, is_guessed=True)
    return found


@dataclass(frozen=True)
class Model:
    """What is known of a model before it is there. `kv_width` is the width of keys of one layer, `item` bytes a weight as it is stored,
    `download` bytes to download; `written` bytes on the disk that are written here; `tokens` are those of its tokenizer.

    Of a model of images that is made of convolutions, `pixel_flop` and `pixel_values` are operations of a forward pass and values kept for
    the backward one, for each pixel; of one that cuts images into patches, `pixel_tokens` are the patches for each pixel."""

    parameters: int
    layers: int
    kv_width: int
    embedding: int = 0
    item: float = 2
    download: float = 0
    written: float = 0
    gguf_bytes: float = 0
    train_tokens: int = 0
    width: int = 0
    inner: int = 0
    vocabulary: int = 0
    tokens: int = 0
    heads: int = 0
    pixel_flop: float = 0
    pixel_values: float = 0
    pixel_tokens: float = 0


@dataclass(frozen=True)
class Machine:
    """Where a study runs. Memory in bytes: of the GPU, infinite where that is not here, or of the machine where there is none.
    `lays_out_anew`: whether its processor has AVX-512 BF16, for which bitsandbytes copies four-bit weights into another order."""

    is_gpu: bool
    memory: float
    bandwidth: float = 0
    name: str = ""
    cores: int = 2
    made: frozenset[str] = frozenset()
    lays_out_anew: bool = True

    @property
    def _gpu(self) -> Sheet:
        return of_name(self.name)

    @property
    def is_here(self) -> bool:
        return self.memory < math.inf

    @property
    def reads(self) -> float:
        """Bytes a second, measured or by the device's name."""
        return self.bandwidth or (self._gpu.reads if self.is_gpu else CPU_READS)

    def computes(self, kind: str) -> float:
        """Operations a second in matrix products of a number format: one of ITEMS, or `tf32`."""
        if not self.is_gpu:
            return CORE_RATE * self.cores
        return {"float32": self._gpu.float32, "tf32": self._gpu.half / 2}.get(kind, self._gpu.half)

    @property
    def room(self) -> float:
        """The memory that a cell can have."""
        return max(0.0, self.memory - GPU_TAKEN) if self.is_gpu else self.memory


@dataclass(frozen=True)
class Work:
    """A cell to measure: its technique's entry in the registry, with that of its checkpoint's transform, and how much it does. `settings`
    are those of a workload other than `generate`."""

    technique: str
    engine: str
    env: str
    dtype: str
    transform: Mapping | None
    options: Mapping
    prompt: int
    new_tokens: int
    batch: int
    replies: int
    warmup_replies: int
    runs: int = 1
    scored_tokens: int = 0
    requests: int = 0
    is_lossless: bool = False
    is_baseline: bool = False
    # False where its checkpoint and its cold start are there; with no runs either no more than its quality is left to tell.
    begins: bool = True
    workload: str = DEFAULT
    settings: Mapping = field(default_factory=dict)
