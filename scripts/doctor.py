"""Says what this machine can run: its hardware, its tools, and each technique of the registry.

    ./speedgrid doctor

Exits with 0 if the default study can run here, else with 1.
"""

import os
import platform
import re
import shutil
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psutil
from speedgrid import commands, environments, hardware, hub, planning, snakemake_seam
from speedgrid.hardware import CAPABILITIES
from speedgrid.study import StudyError, repository

ROOT = Path(__file__).resolve().parent.parent
FRONTEND = ROOT / "envs" / "uv-frontend"
COMMAND = "./speedgrid" if (ROOT / "pyproject.toml").is_file() else "speedgrid"
READY, NEEDS, CANNOT = "ready", "needs", "cannot"
REPORT_ENV = "report"  # every study ends in it
# Three times the seconds after which snakemake-executor-plugin-slurm asks first: below it does not trust `squeue`.
LEAST_JOB_AGE_S = 120
PYTHON_BUILDS = "https://github.com/astral-sh/python-build-standalone/releases"  # uv's own default
DISK_FOR_ENVIRONMENTS = {"cuda": 9e9, "cpu": 3e9}  # bytes; torch takes most of them


@dataclass
class Facts:
    """What was found on the machine. Sizes in bytes; an empty text means that there is none."""

    gpus: list[hardware.Gpu] = field(default_factory=list)
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


# What the facts mean


def machine_rows(facts: Facts) -> list[tuple[str, str]]:
    gpus = [f"{gpu.name}, {size(gpu.memory)}, compute capability {gpu.compute_capability}, driver {gpu.driver}" for gpu in facts.gpus]
    sets = ", ".join(facts.instruction_sets) or "no AVX2, AVX-512 or AMX"
    cores = f"{facts.cores} core" + ("s" if facts.cores != 1 else "")
    disk = f"{size(facts.disk_repository)} free here, {size(facts.disk_environments)} for environments in {facts.environments}"
    return [
        *[("GPU", gpu) for gpu in gpus or ["none that an NVIDIA driver knows; techniques run on the CPU"]],
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
    """What a run on this cluster must be told; empty where there is no Slurm."""
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
        return [f"what cannot be had today: {technique['unavailable']}"]
    requires = technique.get("requires") or []
    if "cuda" in requires and not facts.gpus:
        return lacking_hardware(technique, facts)
    env = environment_of(technique, facts)
    lacking = [
        lack for one in dict.fromkeys([env, *(environment_of(maker, facts) for maker in makers)]) for lack in environment_needs(one, facts)
    ]
    problems = [hardware.driver_problem(facts.cuda[env], gpu.driver) for gpu in facts.gpus if env in facts.cuda]
    if problems and all(problems):
        lacking.append(f"another driver or build: PyTorch there is built for {problems[0]}")
    lacking += lacking_hardware(technique, facts)
    if "compiler" in requires:
        if not facts.compiler:
            lacking.append("a C++ compiler (Debian, Ubuntu: g++)")
        if not facts.python_headers:
            lacking.append("Python.h (Debian, Ubuntu: python3-dev)")
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
            instead = f"{COMMAND} run --study studies/trained.yaml measures a model that is trained here"
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


def size(count: float) -> str:
    return f"{count / 1e9:.1f} GB"


def cuda_of(recipe: Path) -> str:
    """The CUDA that the PyTorch of an environment file is built for; empty where it has none, or one that is not known."""
    pin = re.search(r"^ *- torch==([\d.]+)", recipe.read_text(encoding="utf-8"), re.MULTILINE)
    return hardware.TORCH_CUDA.get(pin[1], "") if pin else ""


def capability(text: object) -> tuple[int, ...]:
    """Compute capability as something that can be compared; 8.9 in YAML is a number."""
    return tuple(int(part) for part in str(text).split(".") if part.isdigit())


# Finding the facts


def find_facts() -> Facts:
    sys.path.insert(0, str(FRONTEND))
    from pip_settings import uv_environment

    environ = uv_environment(os.environ)
    folder = snakemake_seam.environments_folder(Path.cwd())
    recipes = environments.files()
    memory = psutil.virtual_memory()
    index, address = index_address(environ), hub.endpoint(environ)
    slurm, accounting, min_job_age = find_slurm()
    frontend, python, headers = find_python(environ)
    source = environ.get("UV_PYTHON_INSTALL_MIRROR") or PYTHON_BUILDS
    return Facts(
        gpus=hardware.gpus(),
        cpu=hardware.cpu_name(),
        cores=hardware.physical_cores(),
        instruction_sets=hardware.instruction_sets(),
        memory=memory.total,
        memory_free=memory.available,
        disk_repository=free(Path.cwd()),
        disk_environments=free(folder),
        environments=str(folder),
        frontend=frontend,
        python=python,
        python_headers=headers,
        python_source=hub.shown(source),
        python_reachable=bool(python) or is_reachable(source, environ),
        c_library=" ".join(filter(None, platform.libc_ver())),
        lacking={name: lacking for name, path in recipes.items() if (lacking := environments.lacks(path))},
        compiler=find_compiler(),
        index=hub.shown(index.removesuffix("/pip/")),
        index_reachable=is_reachable(index, environ),
        hub=hub.shown(address),
        hub_reachable=is_reachable(address, environ),
        made=frozenset(name for name, path in recipes.items() if environments.runs(snakemake_seam.environment_folder(path, folder))),
        cuda={name: cuda for name, path in recipes.items() if (cuda := cuda_of(path))},
        makeable=frozenset(recipes),
        slurm=slurm,
        accounting=accounting,
        min_job_age=min_job_age,
        packages_missing=frozenset(package for package in default_packages() if not has_package(package, environ)),
        prepared=frozenset(path.name for path in Path("models").glob("*") if path.is_dir()),
    )


def find_python(environ: Mapping) -> tuple[str, str, bool]:
    """Who makes the environments, and the Python that jobs get: what it is, and whether C code can be built against it."""
    conda = shutil.which("conda")
    if conda and not environments.is_frontend(conda):
        return f"{output([conda, '--version'])} ({conda})", "Python 3.11 from conda, with its C headers", True
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    python = output([uv, "python", "find", "--system", "--no-project", "3.11"], environ).splitlines()[-1:]
    if not python:
        return "uv (no conda was found)", "", True  # the one that uv downloads has its headers
    include = output([python[0], "-c", "import sysconfig; print(sysconfig.get_path('include'))"])
    headers = Path(include, "Python.h").exists()
    return "uv (no conda was found)", f"{python[0]}, {'with' if headers else 'without'} its C headers", headers


def find_slurm() -> tuple[str, str, int | None]:
    """Slurm's version, where it keeps its records of jobs, and MinJobAge; empty without Slurm, or where it does not answer."""
    told = dict(re.findall(r"^(\w+)\s*=\s*(.*?)\s*$", output(["scontrol", "show", "config"]), re.MULTILINE))
    age = re.match(r"\d+", told.get("MinJobAge", ""))
    return told.get("SLURM_VERSION", ""), told.get("AccountingStorageType", ""), int(age[0]) if age else None


def find_compiler() -> str:
    path = environments.find_compiler()
    return f"{path}: {(output([path, '--version']).splitlines() or ['does not run'])[0]}" if path else ""


def output(command: list[str], environ: Mapping | None = None) -> str:
    """What a command prints; empty if it fails."""
    try:
        done = subprocess.run(command, env=environ, capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def free(folder: Path) -> int:
    """Bytes free where `folder` is or will be."""
    while not folder.exists():
        folder = folder.parent
    return shutil.disk_usage(folder).free


def index_address(environ: Mapping) -> str:
    """A page that every package index has, of the index that uv and pip use."""
    index = environ.get("UV_DEFAULT_INDEX") or environ.get("UV_INDEX_URL") or "https://pypi.org/simple"
    return index.rstrip("/") + "/pip/"


def default_packages() -> set[str]:
    """The packages that models of the default study are files of."""
    try:
        study, _, _ = planning.read_study(planning.DEFAULT_STUDY, locked=False)
    except StudyError:
        return set()  # said elsewhere
    return {package for model in study["models"].values() if (package := package_of(model))}


def has_package(package: str, environ: Mapping) -> bool:
    """Whether an index or a folder of wheels that pip and uv use has a package, `name==version`; yes where it cannot be asked."""
    name, _, version = package.partition("==")
    name = re.sub(r"[-_.]+", "-", name).lower()
    wheel = f"{name.replace('-', '_')}-{version}-"
    folders = [Path(place) for place in (environ.get("UV_FIND_LINKS") or "").split(",") if place and "://" not in place]
    if any(path for folder in folders for path in folder.glob(f"{wheel}*.whl")):
        return True
    more = (environ.get("UV_INDEX") or environ.get("UV_EXTRA_INDEX_URL") or "").split()
    indexes = [index_address(environ).removesuffix("/pip/"), *more]
    return any(_is_named(wheel, f"{index.rstrip('/')}/{name}/", environ) for index in indexes)


def _is_named(wheel: str, address: str, environ: Mapping) -> bool:
    """Whether a page of an index names a wheel; yes where it cannot be read."""
    try:
        context = ssl.create_default_context(cafile=environ.get("SSL_CERT_FILE"))
        with urllib.request.urlopen(hub.request(address), timeout=5, context=context) as page:
            return wheel in page.read(2_000_000).decode(errors="replace")
    except urllib.error.HTTPError as error:
        return error.code != 404
    except (OSError, ValueError):
        return True


def is_reachable(address: str, environ: Mapping) -> bool:
    """Whether a server answers at an address at all; a refusal is an answer, an error of a gateway is not."""
    try:
        context = ssl.create_default_context(cafile=environ.get("SSL_CERT_FILE"))
        with urllib.request.urlopen(hub.request(address), timeout=5, context=context):
            return True
    except urllib.error.HTTPError as error:
        return error.code in (401, 404)
    except (OSError, ValueError):
        return False


def main() -> int:
    commands.one("doctor", COMMAND).parse_args()
    facts = find_facts()
    commands.say("This machine\n" + table(machine_rows(facts)))
    try:
        registry = planning.read_registry()
        commands.say("\nTechniques\n" + table(technique_rows(registry, facts)))
        if facts.slurm:
            commands.say("\nThis cluster\n" + table(slurm_rows(facts)))
        study, _, _ = planning.read_study(planning.DEFAULT_STUDY)
        problems = study_problems(study, registry, facts)
    except StudyError as error:
        problems = [str(error)]
    if problems:
        commands.say("\nThe default study cannot run here:\n" + "\n".join(f"  {problem}" for problem in problems))
        return 1
    commands.say(f"\nThe default study can run here: {COMMAND} run")
    return 0


if __name__ == "__main__":
    sys.exit(main())
