"""Looks at the machine: hardware, compiler, Python, disk, package index, model hub, Slurm, and what was made already (readiness.Facts)."""

import os
import platform
import re
import shutil
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from speedgrid import drivers, environments, hardware, hub, planning, snakemake_seam, this_machine
from speedgrid.packages import package_name
from speedgrid.readiness import Facts, package_of
from speedgrid.study import StudyError

FRONTEND = planning.ROOT / "envs" / "uv-frontend"
PYTHON_BUILDS = "https://github.com/astral-sh/python-build-standalone/releases"  # uv's own default


def find_facts() -> Facts:
    sys.path.insert(0, str(FRONTEND))
    from pip_settings import uv_environment

    environ = uv_environment(os.environ)
    folder = snakemake_seam.environments_folder(Path.cwd())
    recipes = environments.files()
    index, address = index_address(environ), hub.endpoint(environ)
    slurm, accounting, min_job_age = find_slurm()
    frontend, python, headers = find_python(environ)
    source = environ.get("UV_PYTHON_INSTALL_MIRROR") or PYTHON_BUILDS
    return Facts(
        gpus=hardware.gpus(),
        gpu_fault=hardware.driver_fault(),
        cpu=this_machine.cpu_name(),
        cores=this_machine.physical_cores(),
        instruction_sets=this_machine.instruction_sets(),
        memory=this_machine.memory(),
        memory_free=this_machine.free_memory(),
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
        nvcc=find_nvcc(os.environ),
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
    """What makes the environments (conda or uv), the Python that jobs get, and whether C code can be built against that."""
    conda = shutil.which("conda")
    if conda and not environments.is_frontend(conda):
        return f"{output([conda, '--version'])} ({conda})", "Python 3.11 from conda, with its C headers", True
    uv = shutil.which("uv") or str(Path(sys.executable).with_name("uv"))
    python = output([uv, "--no-cache", "python", "find", "--system", "--no-project", "3.11"], environ).splitlines()[-1:]
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


def find_nvcc(environ: Mapping[str, str]) -> str:
    """CUDA's compiler where PyTorch looks for it when a library builds a kernel (torch.utils.cpp_extension); empty where there is none."""
    named = environ.get("CUDA_HOME") or environ.get("CUDA_PATH")
    found = shutil.which("nvcc", path=f"{named}/bin") if named else shutil.which("nvcc") or shutil.which("nvcc", path="/usr/local/cuda/bin")
    return found or ""


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
    """The packages of the index from which the default study takes models."""
    try:
        study, _, _ = planning.read_study(planning.default_study(), locked=False)
    except StudyError:
        return set()  # reported where the study itself is checked
    return {package for model in study["models"].values() if (package := package_of(model))}


def has_package(package: str, environ: Mapping) -> bool:
    """Whether an index or a folder of wheels that pip and uv use has a package, `name==version`; yes where it cannot be asked."""
    name, version = package_name(package), package.partition("==")[2]
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


def cuda_of(recipe: Path) -> str:
    """The CUDA that the PyTorch of an environment file is built for; empty where it has none, or one that is not known."""
    pin = re.search(r"^ *- torch==([\d.]+)", recipe.read_text(encoding="utf-8"), re.MULTILINE)
    return drivers.TORCH_CUDA.get(pin[1], "") if pin else ""
