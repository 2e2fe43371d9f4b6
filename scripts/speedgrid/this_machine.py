"""The machine of a job: its processor and memory, as a container leaves them, and its software."""

import os
import platform
import re
import subprocess
from pathlib import Path

from speedgrid import containers

# Variables of the environment by which libraries compute otherwise, wait or look more closely, and those that say which libraries are
# loaded and what assembles kernels; where they keep files is no matter.
CHANGING = re.compile(
    r"(LD_LIBRARY_PATH|LD_AUDIT|TRITON_(LIBCUDA|PTXAS\w*|CUOBJDUMP|NVDISASM)_PATH)"
    r"|(?!(?!BNB_CUDA_VERSION).*"
    r"_(DIR|HOME|PATH|ROOT|FOLDER|CACHE|KEY|TOKEN|URL|IP|HOST|PORT|SERVER|NUM_THREADS|VERSION|BUILD_NUMBER|RUN_ID)$)"
    r"(?!VLLM_(BUILD|DOCKER|IMAGE|LOGGING|USAGE|NO_USAGE|DO_NOT_TRACK|RPC|DEBUG_DUMP|OBJECT_STORAGE|LORA_RESOLVER|PROCESS_NAME))"
    r"(CUDA_(LAUNCH|MODULE|DEVICE_MAX|DISABLE|CACHE|FORCE|AUTO)\w*|CUBLAS\w+|CUDNN_\w+|NVIDIA_TF32_OVERRIDE|TORCH\w+|PYTORCH_\w+|ATEN_\w+"
    r"|(ONE)?DNNL?_\w+|MKL_\w+|OPENBLAS_\w+|[KG]?OMP_\w+|KMP_\w+|NCCL_\w+|GGML_\w+|LLAMA_\w+|ORT_\w+|VLLM_\w+|FLASHINFER_\w+"
    r"|FLASH_ATTENTION_\w+|XFORMERS_\w+|BNB_\w+|GPTQ(MODEL)?_\w+|TRITON_\w+|TRANSFORMERS_(SDPA|DISABLE|ENABLE|FORCE)\w*|USE_HUB_KERNELS"
    r"|ACCELERATE_\w+|LD_PRELOAD|MALLOC_\w+|GLIBC_TUNABLES|PYTHON(MALLOC|DEVMODE|TRACEMALLOC|PROFILEIMPORTTIME|_GIL|OPTIMIZE))"
)
INSTRUCTION_SETS = {
    "avx2": "AVX2",
    "avx512f": "AVX-512",
    "avx512_vnni": "AVX-512 VNNI",
    "avx512_bf16": "AVX-512 BF16",
    "amx_bf16": "AMX BF16",
    "amx_int8": "AMX INT8",
}


def facts() -> dict:
    """Columns of schema.RUN that describe the machine and its software, whatever the device."""
    from importlib.metadata import distributions

    installed: dict[str, str] = {}
    for found in distributions():
        # Of two on the path the first is imported.
        installed.setdefault((found.metadata["Name"] or "").lower(), found.version)
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
        "variables": ", ".join(f"{name}={value}" for name, value in sorted(os.environ.items()) if CHANGING.fullmatch(name)),
    }


def cpu_name() -> str:
    """The model of the processor; of one that names none, as those of ARM, who made it and which part it is."""
    told = _cpuinfo()
    parts = [f"{name.lower().removeprefix('cpu ')} {told[name]}" for name in ("CPU implementer", "CPU part") if name in told]
    plain = platform.processor() or platform.machine()
    return told.get("model name") or (f"{plain} ({', '.join(parts)})" if parts else plain)


def instruction_sets() -> list[str]:
    """Those of INSTRUCTION_SETS that this processor has."""
    flags = set(_cpuinfo().get("flags", "").split())
    return [label for flag, label in INSTRUCTION_SETS.items() if flag in flags]


def physical_cores() -> int:
    """Physical cores that this process may run on and has the time of; a second hardware thread of a core adds no arithmetic."""
    try:
        allowed = len({_hardware_threads(cpu) for cpu in os.sched_getaffinity(0)})
    except AttributeError:
        allowed = os.cpu_count() or 1
    return max(1, int(min(allowed, containers.cpus())))


def _hardware_threads(cpu: int) -> str:
    """The numbers of the hardware threads of a CPU's core."""
    return _read(f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") or str(cpu)


def cores_side_by_side() -> list[int]:
    """The CPUs that this process may run on, those of one core beside each other."""
    cores: dict[str, list[int]] = {}
    for cpu in sorted(os.sched_getaffinity(0)):
        cores.setdefault(_hardware_threads(cpu), []).append(cpu)
    return [cpu for core in cores.values() for cpu in core]


def memory() -> int:
    """Bytes of memory of the machine, or of the container that this process runs in."""
    return min(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), containers.memory())


def free_memory() -> int:
    """Bytes of host memory that this process can still have, of the machine and within the limit of its container."""
    import psutil

    return min(psutil.virtual_memory().available, containers.room())


def git_commit() -> str:
    """Commit of the project that runs, with `+` where files that git tracks were changed; empty where neither git nor an archive tells.

    An unpacked archive may lie in a checkout of something else, whose commit says nothing of what runs; `git archive` writes its own into
    the file .commit.
    """
    root = Path(__file__).resolve().parents[2]
    archived = _read(f"{root}/.commit")
    told = archived if re.fullmatch("[0-9a-f]{40}", archived) else ""

    def git(*arguments: str) -> str:
        return subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, timeout=30).stdout.strip()

    try:
        top = git("rev-parse", "--show-toplevel")
        if not top or not os.path.samefile(top, root):
            return told
        commit = git("rev-parse", "--verify", "--quiet", "HEAD")
        return commit + ("+" if commit and git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.TimeoutExpired):
        return told


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
