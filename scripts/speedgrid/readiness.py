"""What a machine lacks to run a technique or a study, from what is known of it. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from speedgrid import commands, drivers, hardware
from speedgrid.amounts import size
from speedgrid.hardware import CAPABILITIES
from speedgrid.study import repository

READY, NEEDS, CANNOT = "ready", "needs", "cannot"
REPORT_ENV = "report"  # every study ends in it
# Three times the seconds after which snakemake-executor-plugin-slurm asks first: below it does not trust `squeue`.
LEAST_JOB_AGE_S = 120
DISK_FOR_ENVIRONMENTS = {"cuda": 9e9, "cpu": 3e9}  # bytes; torch takes most of them


@dataclass
class Facts:
    """What was found on the machine. Sizes in bytes; an empty text means that there is none."""

    gpus: list[hardware.Gpu] = field(default_factory=list)
    gpu_fault: str = ""  # why none of them can be used although one is here
    cpu: str = ""
    cores: int = 1
    instruction_sets: list[str] = field(default_factory=list)
    memory: int = 0
    memory_free: int = 0
    disk_repository: int = 0
    disk_environments: int = 0
    environments: str = ""  # the folder where they are kept
    frontend: str = ""  # conda with its version, or the uv frontend
    python: str = ""  # where jobs have their Python from, with or without its C headers
    python_headers: bool = True
    python_source: str = ""  # where uv downloads the Python of jobs from, where this machine has none
    python_reachable: bool = True
    c_library: str = ""
    lacking: Mapping[str, list[str]] = field(default_factory=dict)  # what the machine lacks to make an environment, by its name
    compiler: str = ""
    nvcc: str = ""  # CUDA's compiler, where PyTorch would find it
    index: str = ""
    index_reachable: bool = False
    hub: str = ""
    hub_reachable: bool = False
    cuda: Mapping[str, str] = field(default_factory=dict)  # the CUDA that each environment's PyTorch is built for
    made: frozenset[str] = frozenset()  # environments that are there already
    makeable: frozenset[str] = frozenset()  # all that have a file in envs/
    packages_missing: frozenset[str] = frozenset()  # those that the default study's models are in and that no index has
    prepared: frozenset[str] = frozenset()  # models that are there already
    slurm: str = ""  # where a Slurm can be asked: its version; empty without its commands
    accounting: str = ""  # where Slurm keeps its records of jobs, as `scontrol show config` says it
    min_job_age: int | None = None  # seconds that Slurm's controller knows a job that has ended


def machine_rows(facts: Facts) -> list[tuple[str, str]]:
    gpus = [f"{gpu.name}, {size(gpu.memory)}, compute capability {gpu.compute_capability}, driver {gpu.driver}" for gpu in facts.gpus]
    none = f"none that can be used: {facts.gpu_fault}" if facts.gpu_fault else "none that an NVIDIA driver knows; techniques run on the CPU"
    sets = ", ".join(facts.instruction_sets) or "no AVX2, AVX-512 or AMX"
    cores = f"{facts.cores} core" + ("s" if facts.cores != 1 else "")
    disk = f"{size(facts.disk_repository)} free here, {size(facts.disk_environments)} for environments in {facts.environments}"
    return [
        *[("GPU", gpu) for gpu in gpus or [none]],
        ("CPU", f"{facts.cpu}, {cores}: {sets}"),
        ("memory", f"{size(facts.memory)}, of which {size(facts.memory_free)} free"),
        ("disk", disk),
        ("environments", f"made with {facts.frontend}"),
        (
            "Python of jobs",
            facts.python or f"3.11 was not found; uv downloads it from {reach(facts.python_source, facts.python_reachable)}",
        ),
        ("C library", facts.c_library or "not glibc, which the packages of environments are built for"),
        ("compiler", facts.compiler or "no C++ compiler: neither $CXX nor g++, clang++ or c++ was found"),
        ("package index", reach(facts.index, facts.index_reachable)),
        ("model hub", reach(facts.hub, facts.hub_reachable)),
    ]


def slurm_rows(facts: Facts) -> list[tuple[str, str]]:
    """The settings that a run on this cluster needs; empty where there is no Slurm."""
    if not facts.slurm:
        return []
    rows = [("Slurm", facts.slurm)]
    if facts.accounting.endswith("/slurmdbd"):
        return [*rows, ("accounting", "there is a database of jobs")]
    wanted = "`slurm-status-command: squeue`"
    rows.append(("accounting", f"no database of jobs: leave {wanted} in the profile, else a run waits for ever (docs/cluster.md)"))
    if facts.min_job_age is not None and facts.min_job_age < LEAST_JOB_AGE_S:
        first = f"`slurm-init-seconds-before-status-checks: {max(1, facts.min_job_age // 3)}`"
        said = f"{facts.min_job_age} s: ended jobs are forgotten before they are asked about; write {first} into the profile"
        rows.append(("MinJobAge", f"{said}, or have it raised to {LEAST_JOB_AGE_S} s"))
    return rows


def technique_rows(registry: Mapping, facts: Facts) -> list[tuple[str, str]]:
    """For each technique `ready`, or `needs …` with everything that it lacks."""
    rows = []
    for name, technique in registry.items():
        lacking = needs(technique, facts, makers(technique, registry))
        if lacking:
            rows.append((str(name), "needs " + ", ".join(lacking)))
        else:
            env = environment_of(technique, facts)
            rows.append((str(name), "ready" if env in facts.made else f"ready (the first run makes the environment '{env}')"))
    return rows


def makers(technique: object, registry: Mapping) -> list[Mapping]:
    """The other techniques that make the checkpoint which a technique loads, the last one first."""
    found: list[Mapping] = []
    while isinstance(technique, Mapping) and (name := technique.get("checkpoint") or technique.get("from")) in registry:
        technique = registry[name]
        if not isinstance(technique, Mapping) or technique in found:  # a mistake or a circle, which planning refuses
            break
        found.append(technique)
    return found


def needs(technique: object, facts: Facts, makers: Sequence[Mapping] = ()) -> list[str]:
    """What the machine lacks for a technique, and for those that make its checkpoint."""
    if not isinstance(technique, Mapping) or not isinstance(technique.get("env"), str | Mapping):
        return ["a correct entry in techniques.yaml: a mapping with at least 'env'"]
    if technique.get("unavailable"):
        return [f"something that is not available: {technique['unavailable']}"]
    requires = technique.get("requires") or []
    if "cuda" in requires and not facts.gpus:
        return lacking_hardware(technique, facts)
    env = environment_of(technique, facts)
    lacking = [
        lack for one in dict.fromkeys([env, *(environment_of(maker, facts) for maker in makers)]) for lack in environment_needs(one, facts)
    ]
    problems = [drivers.problem(facts.cuda[env], gpu.driver) for gpu in facts.gpus if env in facts.cuda]
    if problems and all(problems):
        lacking.append(f"another driver or build: PyTorch there is built for {problems[0]}")
    lacking += lacking_hardware(technique, facts)
    if "compiler" in requires:
        if not facts.compiler:
            lacking.append("a C++ compiler (Debian, Ubuntu: g++)")
        if not facts.python_headers:
            lacking.append("Python.h (Debian, Ubuntu: python3-dev)")
    if "nvcc" in requires and not facts.nvcc:
        lacking.append("nvcc of the CUDA toolkit, on the PATH or below CUDA_HOME")
    return list(dict.fromkeys(lacking))


def lacking_hardware(technique: Mapping, facts: Facts) -> list[str]:
    """What a technique needs of this machine that nobody can install."""
    requires = technique.get("requires") or []
    if "cuda" in requires and not facts.gpus:
        return ["an NVIDIA GPU"]
    oldest = [CAPABILITIES[requirement][0] for requirement in requires if requirement in CAPABILITIES]
    return [
        f"a GPU of compute capability {'.'.join(map(str, least))} or higher"
        for least in oldest
        if not any(capability(gpu.compute_capability) >= least for gpu in facts.gpus)
    ]


def state(technique: Mapping, registry: Mapping, facts: Facts) -> str:
    """`ready`; `needs` for what somebody can install; or `cannot`, where this machine never can."""
    if technique.get("unavailable") or lacking_hardware(technique, facts):
        return CANNOT
    return NEEDS if needs(technique, facts, makers(technique, registry)) else READY


def environment_of(technique: Mapping, facts: Facts) -> str:
    """The environment of a technique on this machine's device."""
    env = technique["env"]
    return env if isinstance(env, str) else env["cuda" if facts.gpus else "cpu"]


def environment_needs(name: str, facts: Facts) -> list[str]:
    lacking = list(facts.lacking.get(name, []))
    if name in facts.made:
        return lacking
    if name not in facts.makeable:
        return [f"the file envs/{name}.yaml"]
    if not facts.python and not facts.python_reachable:
        lacking.append("Python 3.11 for its environment (install it, or set UV_PYTHON_INSTALL_MIRROR, or have conda on PATH)")
    if not facts.index_reachable:
        lacking.append("a package index that can be reached, to make its environment")
    disk = DISK_FOR_ENVIRONMENTS["cuda" if facts.gpus else "cpu"]
    if facts.disk_environments < disk:
        lacking.append(f"{size(disk)} of disk in {facts.environments}, to make its environment")
    return lacking


def study_problems(study: Mapping, registry: Mapping, facts: Facts) -> list[str]:
    """Why a study cannot run here; empty if it can. A technique that cannot run becomes a row of the result, a baseline may not."""
    problems = [f"the report needs {lack}" for lack in environment_needs(REPORT_ENV, facts)]
    registry = {**registry, **(study.get("techniques") or {})}
    for key, experiment in (study.get("experiments") or {}).items():
        baseline = experiment.get("baseline")
        if baseline not in registry:
            problems.append(f"experiments.{key}.baseline: there is no technique {baseline!r}")
            continue
        problems += [
            f"experiments.{key}: its baseline '{baseline}' needs {lack}"
            for lack in needs(registry[baseline], facts, makers(registry[baseline], registry))
        ]
    for name, model in (study.get("models") or {}).items():
        if isinstance(model, Mapping) and repository(model) and name not in facts.prepared and not facts.hub_reachable:
            problems.append(f"models.{name}: needs the model hub, which cannot be reached")
        package = package_of(model)
        if package in facts.packages_missing and name not in facts.prepared:
            instead = f"{commands.program()} run --study studies/trained.yaml measures a model that is trained here"
            problems.append(f"models.{name}: the package index does not have {package}; {instead}")
    return problems


def package_of(model: object) -> str:
    """The package, as `name==version`, whose file a model of a study is; empty where it is none."""
    file = model.get("gguf") if isinstance(model, Mapping) else None
    return file.get("package", "") if isinstance(file, Mapping) else ""


def table(rows: list[tuple[str, str]]) -> str:
    width = max((len(name) for name, _ in rows), default=0)
    return "\n".join(f"  {name:<{width}}  {text}" for name, text in rows)


def reach(address: str, reachable: bool) -> str:
    return f"{address}: {'reachable' if reachable else 'not reachable'}"


def capability(text: object) -> tuple[int, ...]:
    """Compute capability as something that can be compared; 8.9 in YAML is a number."""
    return tuple(int(part) for part in str(text).split(".") if part.isdigit())
