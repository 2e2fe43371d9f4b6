"""The device that a job measures on: GPUs as the NVIDIA driver shows them, and the one that an entry of a study's `gpus` means.

PyTorch is asked only where a job uses it; planning and `doctor` do without.
"""

import os
import platform
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from speedgrid import drivers, this_machine
from speedgrid.outcomes import Unsupported

# What a technique may require of a GPU: its compute capability, and what that means in names.
CAPABILITIES = {"sm80": ((8, 0), "Ampere or newer"), "sm89": ((8, 9), "Ada, Hopper or newer")}
# There where the NVIDIA driver is loaded.
DRIVER = "/proc/driver/nvidia/version"
# Values of CUDA_VISIBLE_DEVICES that mean: none.
NO_DEVICES = ("", "-1", "none", "void", "nodevfiles")


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
    """What a job measures on: `kind` is `cuda` or `cpu`; `gpu` is what the driver says of a GPU, where it can be asked."""

    kind: str
    name: str
    gpu: Gpu | None = None
    # Whether PyTorch computes on it in this process; an engine with a library of its own waits for the device itself.
    uses_torch: bool = True

    @property
    def is_gpu(self) -> bool:
        return self.kind == "cuda"

    @property
    def capability(self) -> tuple[int, int]:
        """Compute capability of the GPU, such as (9, 0); (0, 0) for a CPU."""
        major, _, minor = (self.gpu.compute_capability if self.gpu else "").partition(".")
        return (int(major), int(minor)) if major.isdigit() and minor.isdigit() else (0, 0)

    def synchronize(self) -> None:
        """Wait until the device has done all that PyTorch gave it; nothing to wait for on a CPU."""
        if self.is_gpu and self.uses_torch:
            import torch

            torch.cuda.synchronize()


def gpus() -> list[Gpu]:
    """The NVIDIA GPUs of this machine, by its driver; empty where there is none."""
    return _asked_of_the_driver()[0]


def driver_fault() -> str:
    """What is wrong where the NVIDIA driver is loaded and does not say which GPUs are here, as after an update of it without a restart;
    empty where it does, where there is no driver, and where CUDA_VISIBLE_DEVICES says plainly that no GPU is to be seen."""
    return _fault(_asked_of_the_driver()[1])


def _fault(said: str) -> str:
    """What nvidia-smi said in place of GPUs, where that is a fault."""
    return said if Path(DRIVER).exists() and not _says_none() else ""


def _asked_of_the_driver() -> tuple[list[Gpu], str]:
    """The GPUs that nvidia-smi lists; or none, and what it says instead."""
    if not shutil.which("nvidia-smi"):
        return [], ""
    query = ["nvidia-smi", "--query-gpu=name,uuid,driver_version,memory.total,compute_cap", "--format=csv,noheader,nounits"]
    try:
        answer = subprocess.run(query, capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired) as error:
        return [], "nvidia-smi does not answer" if isinstance(error, subprocess.TimeoutExpired) else f"nvidia-smi: {error.strerror}"
    if answer.returncode:
        return [], (answer.stdout.strip() or answer.stderr.strip() or f"nvidia-smi ended with {answer.returncode}").splitlines()[0]
    rows = [[field.strip() for field in line.split(",")] for line in answer.stdout.splitlines() if line.count(",") == 4]
    if not rows:
        return [], (answer.stdout.strip() or "nvidia-smi lists none").splitlines()[0]
    return [Gpu(name, uuid, driver, _bytes_of(mib), capability) for name, uuid, driver, mib, capability in rows], ""


def _bytes_of(mib: str) -> int:
    """The memory of a GPU, which is the machine's where the driver names none: GPU and processor share it then."""
    try:
        return int(float(mib)) * 2**20
    except ValueError:
        return this_machine.memory()


def pick_device(wanted: Mapping, gpu_key: str, uses_torch: bool = True) -> Device:
    """The device to measure on, for an entry of the study's `gpus`.

    Raises DeviceError where it is not the one that the study names (figures of one device must never stand under another's name), and
    outcomes.Unsupported where there is a GPU that the environment's PyTorch cannot use.
    """
    # Asked once: a driver that answers the second time only would else be taken for none.
    there, said = _asked_of_the_driver()
    found = _visible(there)
    if is_cpu(wanted, found):
        if wanted["device"] == "auto" and (fault := _fault(said) or _hidden(there)):
            # Since the plan was checked the driver may have been exchanged; on a cluster nobody has looked before.
            raise DeviceError(
                f"gpus.{gpu_key}: the GPU of this machine cannot be had ({fault}); write `device: cpu` to measure the processor"
            )
        return Device("cpu", this_machine.cpu_name(), uses_torch=uses_torch)
    if not found:
        raise DeviceError(f"gpus.{gpu_key}: a GPU was asked for, and the NVIDIA driver (nvidia-smi) shows none on this machine")
    gpu = found[0]
    if wanted.get("name") and wanted["name"].lower() not in gpu.name.lower():
        raise DeviceError(f"gpus.{gpu_key}.name: asked for {wanted['name']!r}, this job was given {gpu.name!r}")
    if uses_torch:
        import torch

        if not torch.cuda.is_available():
            raise Unsupported(drivers.why_no_gpu(torch.__version__, torch.version.cuda, gpu.driver))
    return Device("cuda", gpu.name, gpu, uses_torch)


def names(wanted: Mapping) -> list[str]:
    """The names of the devices of this machine that an entry of the study's `gpus` may mean."""
    found = _visible(gpus())
    if is_cpu(wanted, found):
        # Results from before ARM processors had more than the name of their kind are of this machine, too.
        name, kind = this_machine.cpu_name(), platform.processor() or platform.machine()
        return [name, kind] if name.startswith(f"{kind} (") else [name]
    return [gpu.name for gpu in found if wanted.get("name", "").lower() in gpu.name.lower()]


def is_cpu(wanted: Mapping, found: list[Gpu]) -> bool:
    """Whether an entry of the study's `gpus` means the CPU of a machine that has the GPUs `found`."""
    return wanted["device"] == "cpu" or (wanted["device"] == "auto" and not wanted.get("name") and not found)


def check_tf32(device: Device) -> None:
    """Raise outcomes.Unsupported for a device that does not compute in TF32."""
    if not device.is_gpu:
        raise Unsupported("TF32 is a format of NVIDIA GPUs; this device is a CPU")
    if device.capability < (8, 0):
        raise Unsupported(f"{device.name} does not compute in TF32, which came with compute capability 8.0 (Ampere)")


def device_facts(device: Device) -> dict:
    """Columns of schema.RUN that describe the device."""
    if not device.is_gpu:
        return {"device": "cpu", "device_name": device.name}
    cuda = ""
    if device.uses_torch:
        import torch

        cuda = torch.version.cuda or ""
    known = {}
    if gpu := device.gpu:
        known = {
            "device_uuid": gpu.uuid,
            "device_memory": gpu.memory,
            "compute_capability": gpu.compute_capability,
            "driver": gpu.driver,
        }
    return {"device": "cuda", "device_name": device.name, "cuda": cuda, **known}


def used_memory(device: Device) -> int | None:
    """Bytes in use on the whole GPU by anybody, as its driver says; None for a CPU, or where the driver does not say."""
    if not device.is_gpu or not device.gpu:
        return None
    import pynvml

    try:
        pynvml.nvmlInit()
        return pynvml.nvmlDeviceGetMemoryInfo(pynvml.nvmlDeviceGetHandleByUUID(device.gpu.uuid)).used
    except pynvml.NVMLError:
        return None


def _visible(found: list[Gpu]) -> list[Gpu]:
    """Those of `found` that CUDA_VISIBLE_DEVICES leaves to this process, in its order."""
    return [gpu for _, gpu in visible_by_name(found)]


def visible_by_name(found: list[Gpu]) -> list[tuple[str, Gpu]]:
    """The same, each with the name that CUDA_VISIBLE_DEVICES has or could have for it. CUDA sees none after a name that means none."""
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    if told is None:
        return [(str(number), gpu) for number, gpu in enumerate(found)]
    chosen = []
    for name in (part.strip() for part in told.split(",")):
        gpu = next((gpu for number, gpu in enumerate(found) if name and (name == str(number) or gpu.uuid.startswith(name))), None)
        if gpu is None:
            break
        chosen.append((name, gpu))
    return chosen


def hidden_gpus() -> str:
    """What CUDA_VISIBLE_DEVICES says, where that hides every GPU of this machine by a name that means none of them, such as that of a part
    of one (MIG); empty where it does not, and where it says plainly that none is to be seen."""
    return _hidden(gpus())


def _hidden(there: list[Gpu]) -> str:
    return os.environ["CUDA_VISIBLE_DEVICES"] if there and not _says_none() and not _visible(there) else ""


def _says_none() -> bool:
    """Whether CUDA_VISIBLE_DEVICES is there and says that no GPU is to be seen."""
    told = os.environ.get("CUDA_VISIBLE_DEVICES")
    return told is not None and told.partition(",")[0].strip().lower() in NO_DEVICES
