"""The machine: which device a job measures on, and the facts that are recorded with every result.

Nothing here needs PyTorch but `pick_device`; planning and `doctor` use the rest.
"""

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

INSTRUCTION_SETS = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_vnni": "AVX-512 VNNI",
    "avx512_bf16": "AVX-512 BF16",
    "amx_bf16": "AMX BF16",
    "amx_int8": "AMX INT8",
}


class DeviceError(RuntimeError):
    """The device that the study names is not the one that the job was given."""


@dataclass(frozen=True)
class Gpu:
    """A GPU as the NVIDIA driver describes it; memory in bytes."""

    name: str
    uuid: str
    driver: str
    memory: int
    compute_capability: str


@dataclass(frozen=True)
class Device:
    """What a job measures on: `kind` is `cuda` or `cpu`."""

    kind: str
    name: str

    @property
    def is_gpu(self) -> bool:
        return self.kind == "cuda"

    def synchronize(self) -> None:
        """Wait until the device has done all that it was given; nothing to wait for on a CPU."""
        if self.is_gpu:
            import torch

            torch.cuda.synchronize()


def gpus() -> list[Gpu]:
    """The NVIDIA GPUs of this machine, by its driver; empty where there is none."""
    if not shutil.which("nvidia-smi"):
        return []
    query = ["nvidia-smi", "--query-gpu=name,uuid,driver_version,memory.total,compute_cap", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return []
    if answer.returncode:
        return []
    rows = [[field.strip() for field in line.split(",")] for line in answer.stdout.splitlines() if line.count(",") == 4]
    return [Gpu(name, uuid, driver, int(float(mib)) * 2**20, capability) for name, uuid, driver, mib, capability in rows]


def pick_device(wanted: Mapping, gpu_key: str) -> Device:
    """The device to measure on, for an entry of the study's `gpus`.

    Raises DeviceError where it is not the one that the study names: figures of one device must never stand under another's name.
    """
    import torch

    if wanted["device"] == "cpu" or (wanted["device"] == "auto" and not wanted.get("name") and not torch.cuda.is_available()):
        return Device("cpu", cpu_name())
    if not torch.cuda.is_available():
        raise DeviceError(f"gpus.{gpu_key}: a GPU was asked for and PyTorch {torch.__version__} sees none on this machine")
    name = torch.cuda.get_device_name(0)
    if wanted.get("name") and wanted["name"].lower() not in name.lower():
        raise DeviceError(f"gpus.{gpu_key}.name: asked for {wanted['name']!r}, this job was given {name!r}")
    return Device("cuda", name)


def device_facts(device: Device) -> dict:
    """Columns of schema.RUN that describe the device."""
    if not device.is_gpu:
        return {"device": "cpu", "device_name": device.name}
    import torch

    properties = torch.cuda.get_device_properties(0)
    uuid = f"GPU-{properties.uuid}" if hasattr(properties, "uuid") else ""
    driver = next((gpu.driver for gpu in gpus()), "")
    return {
        "device": "cuda",
        "device_name": device.name,
        "device_uuid": uuid,
        "device_memory": properties.total_memory,
        "compute_capability": f"{properties.major}.{properties.minor}",
        "driver": driver,
        "cuda": torch.version.cuda or "",
    }


def machine_facts() -> dict:
    """Columns of schema.RUN that describe the machine and its software, whatever the device."""
    from importlib.metadata import distributions

    installed = {(d.metadata["Name"] or "").lower(): d.version for d in distributions()}
    return {
        "host": platform.node(),
        "cpu": cpu_name(),
        "cpu_flags": ", ".join(instruction_sets()),
        "cores": physical_cores(),
        "memory": memory(),
        "platform": platform.platform(),
        "python": platform.python_version(),
        "packages": sorted(f"{name}=={version}" for name, version in installed.items() if name),
        "git_commit": git_commit(),
    }


def cpu_name() -> str:
    return _cpuinfo().get("model name") or platform.processor() or platform.machine()


def instruction_sets() -> list[str]:
    """Those of INSTRUCTION_SETS that this processor has."""
    flags = set(_cpuinfo().get("flags", "").split())
    return [label for flag, label in INSTRUCTION_SETS.items() if flag in flags]


def physical_cores() -> int:
    """Physical cores that this process may run on; a second hardware thread of a core adds no arithmetic."""
    try:
        allowed = os.sched_getaffinity(0)
    except AttributeError:
        return os.cpu_count() or 1
    siblings = {_read(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") or str(cpu) for cpu in allowed}
    return max(1, len(siblings))


def memory() -> int:
    """Bytes of memory of the machine."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def git_commit() -> str:
    """Commit of the project that runs, with `+` where files that git tracks were changed; empty outside a checkout."""
    here = Path(__file__).resolve().parent

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(here), *arguments], capture_output=True, text=True, timeout=30).stdout.strip()

    try:
        commit = git("rev-parse", "--verify", "--quiet", "HEAD")
        return commit + ("+" if commit and git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.TimeoutExpired):
        return ""


def _cpuinfo() -> dict[str, str]:
    lines = (line.partition(":") for line in _read("/proc/cpuinfo").splitlines())
    first: dict[str, str] = {}
    for name, _, value in lines:
        first.setdefault(name.strip(), value.strip())
    return first


def _read(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""
