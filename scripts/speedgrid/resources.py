"""What a job asks of where it runs: a GPU, cores, memory, time, and the names that a cluster has for them. Pure.

The names are those of Snakemake's resources, which snakemake-executor-plugin-slurm turns into options of `sbatch`. Without a cluster only
`gpu` and the threads count; the rest is ignored.
"""

from collections.abc import Mapping, Sequence

# What a job asks for where the study says nothing: memory in GB (10^9 bytes), time in minutes, and CPU cores beside a GPU.
MEMORY_GB, MINUTES, CPUS_BESIDE_A_GPU = 32, 60, 8
# The jobs of cells that only write down why they cannot run.
LIGHT = {"gpu": 0, "mem_mb": 4000, "runtime": 30, "cpus_per_task": 1}
# A model is prepared by its CPU: trained, built, or downloaded.
PREPARE = {"gpu": 0, "mem_mb": 16_000, "runtime": 120, "cpus_per_task": 4}
# Keys of a `slurm` entry that go to the cluster by the name that the plug-in has for them.
NAMES = {
    "partition": "slurm_partition",
    "account": "slurm_account",
    "gpu_model": "gpu_model",
    "gres": "gres",
    "constraint": "constraint",
    "qos": "qos",
}
# A gpu, experiment and model: a baseline and the cells that it judges.
Group = tuple[str, str, str]
# What may be asked for again and bigger, where a job was killed for it.
GROWING = ("mem_mb", "runtime")


def on_device(slurm: Mapping, on_gpu: bool, local: bool, node: str = "") -> dict[str, int | str]:
    """The resources of a job that measures on a device, from the `slurm` entry of the study's `gpus` (empty where it has none).

    It runs on `node`, where one is given. A job on a CPU takes its node alone, with all cores of it. With `gres` the GPU is a part of that
    text and `gpu` is 0 on a cluster, since such sites refuse to be asked twice; without a cluster (`local`) it stays 1, because Snakemake
    counts the GPUs by it.
    """
    asked: dict[str, int | str] = {
        "gpu": int(on_gpu and (local or "gres" not in slurm)),
        "mem_mb": round(1000 * slurm.get("memory_gb", MEMORY_GB)),
        "runtime": slurm.get("minutes", MINUTES),
        # The plug-in asks for no number of cores where it is negative.
        "cpus_per_task": slurm.get("cpus", CPUS_BESIDE_A_GPU if on_gpu else -1),
    }
    asked |= {name: slurm[key] for key, name in NAMES.items() if key in slurm and (on_gpu or key not in ("gpu_model", "gres"))}
    extra = [f"--nodelist={node}"] if node else []
    if not on_gpu:
        extra.append("--exclusive")
    if extra:
        asked["slurm_extra"] = " ".join(extra)
    return asked


def nodes(slurm: Mapping, groups: Sequence[Group]) -> dict[Group, str]:
    """The node of each group of a device: one of the entry's `nodes`, in turn, for all its cells; without `nodes` an empty text.

    A group is measured on one node because its baseline's runs say how much its figures differ by themselves, and nodes differ too.
    """
    named = slurm.get("nodes", [])
    if not isinstance(named, list) or not named:
        return dict.fromkeys(groups, "")
    return {group: named[place % len(named)] for place, group in enumerate(groups)}


def on_attempt(asked: Mapping[str, int | str], attempt: int) -> dict[str, int | str]:
    """The resources of attempt 1, 2, ...: as often as much memory and time, for a job that was killed for want of them."""
    return {name: value * attempt if name in GROWING else value for name, value in asked.items()}


def of_make(asked: Mapping[str, int | str], makes: int) -> Mapping[str, int | str]:
    """What a job that makes a checkpoint asks for, from what one on its device asks for. With `makes` it takes one of that many places
    instead of a whole GPU (claims.py)."""
    return {**asked, "gpu": 0, "makes": 1} if makes else asked


def threads(cores: int, gpus: int, on_gpu: bool) -> int:
    """Threads that a job is scheduled with on this machine: all cores, or with several GPUs an even share for each job on one.

    So a job on a CPU has nothing beside it, and `gpus` jobs can run side by side on as many GPUs.
    """
    return max(1, cores // max(1, gpus)) if on_gpu else max(1, cores)
