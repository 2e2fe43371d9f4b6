"""Which builds for CUDA an NVIDIA driver runs; pure."""

# The oldest NVIDIA driver for Linux that runs builds of each major version of CUDA, by NVIDIA's table of CUDA compatibility
# (https://docs.nvidia.com/deploy/cuda-compatibility/minor-version-compatibility.html).
OLDEST_DRIVER = {11: "450.80.02", 12: "525.60.13", 13: "580.65.06"}
# The CUDA that the package index's build of each PyTorch in envs/ is for.
TORCH_CUDA = {"2.13.0": "13.0", "2.2.2": "12.1", "2.1.2": "12.1"}


def why_no_gpu(torch_version: str, cuda: str | None, driver: str) -> str:
    """Why PyTorch cannot use a GPU that the driver shows, and what to do: one line. `cuda` is the version that it was built for, such as
    13.0, and None for a build for CPUs."""
    if cuda is None:
        return (
            f"PyTorch {torch_version} in this environment is a build for CPUs, and this machine has an NVIDIA GPU;"
            " delete the environment and run again with SPEEDGRID_TORCH=cuda"
        )
    if why := problem(cuda, driver):
        return f"PyTorch {torch_version} is built for {why}"
    return f"PyTorch {torch_version}, built for CUDA {cuda}, cannot use the GPU under driver {driver}"


def problem(cuda: str, driver: str) -> str:
    """Why a driver cannot run a build for a version of CUDA, and what would do; empty where it can, or where that is not known."""
    needed = OLDEST_DRIVER.get(int(cuda.partition(".")[0]))
    if not needed or not _numbers(driver) or _numbers(driver) >= _numbers(needed):
        return ""
    older = [major for major, oldest in OLDEST_DRIVER.items() if _numbers(oldest) <= _numbers(driver)]
    other = f", or take a build for CUDA {max(older)} (see docs/drivers.md)" if older else ""
    return f"CUDA {cuda}, which needs driver {needed} or newer; this one is {driver}; update it{other}"


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdigit()]
