"""The conda commands that Snakemake uses, served by uv, for machines where there is no conda.

It makes environments from files whose `dependencies` are `python`, `pip` and a list under `pip:`,
and refuses by name whatever else a file asks for. It answers what Snakemake 9 asks of conda
(snakemake/deployment/conda.py) and nothing more.

An environment is built beside its place and renamed into it, under a lock. So there is never half
an environment where Snakemake looks for one, whether a pin fails, two runs start at once, or the
machine loses power.
"""

import argparse
import contextlib
import fcntl
import json
import os
import platform
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))
from pip_settings import uv_environment, uv_flags  # noqa: E402

CONDA_VERSION = "24.7.1"  # the oldest conda that Snakemake 9 accepts
SERVED = "info, --version, config --get channel_priority, env create, clean"
RECIPE = "environment.yaml"  # the file an environment was made from, kept inside it
TORCH_IS_CPU_BUILD = "torch-is-cpu-build"  # `activate` warns where it meets a GPU
CONDA_META = "conda-meta"  # a folder without it is no environment to conda, which may be the one that activates it tomorrow
TORCH_PACKAGES = {"torch", "torchvision", "torchaudio"}
TORCH_CPU_INDEX = "https://download.pytorch.org/whl/cpu/"


class Refusal(Exception):
    """Something that the user can put right; shown without a traceback."""


# The commands


def main(argv):
    match argv:
        case ["--version" | "-V"]:
            print(f"conda {CONDA_VERSION} (speedgrid's uv frontend)")
        case ["info", *_]:
            print(json.dumps(info(), indent=2))
        case ["config", *options] if set(options) - {"--json"} == {"--get", "channel_priority"}:
            print(json.dumps({"get": {"channel_priority": "strict"}, "success": True}))
        case ["env", "create", *options]:
            asked = parse_create(options)
            create_environment(asked.file, asked.prefix)
        case ["clean", *_]:
            pass  # uv's cache is shared with the user's other projects: not ours to empty
        case ["list", *_] | ["create", *_]:
            raise Refusal(f"'conda {argv[0]}': archives and .pin.txt files need conda itself")
        case _:
            asked = " ".join(["conda", *argv])
            raise Refusal(f"'{asked}' is not served (served: {SERVED}); install conda for more")


def info():
    # Snakemake writes `source {conda_prefix}/bin/activate` without quotes; escaped, a path with
    # spaces works all the same.
    prefix = re.sub(r"([^\w@%+=:,./-])", r"\\\1", str(HERE))
    return {"conda_prefix": prefix, "conda_version": CONDA_VERSION, "platform": conda_platform()}


def conda_platform():
    """The name that conda gives to this kind of machine, e.g. linux-64 or osx-arm64."""
    system = {"Darwin": "osx"}.get(platform.system(), platform.system().lower())
    machine = platform.machine()
    return f"{system}-{'64' if machine == 'x86_64' else machine}"


def parse_create(options):
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False, exit_on_error=False)
    parser.add_argument("--file", "-f", type=Path)
    parser.add_argument("--prefix", "-p", type=Path)
    for flag in ("--quiet", "-q", "--yes", "-y", "--no-default-packages"):
        parser.add_argument(flag, action="store_true")
    try:
        asked, unknown = parser.parse_known_args(options)
    except argparse.ArgumentError as error:
        raise Refusal(f"conda env create: {error}") from None
    if unknown:
        raise Refusal(f"conda env create: {unknown[0]!r} is not served")
    if not asked.file or not asked.prefix:
        raise Refusal("conda env create: needs --file FILE --prefix FOLDER (no named environments)")
    return asked


# The environment file


def read_recipe(path):
    """(specifier of the Python, lines for pip) of an environment file; refuses the rest by name."""
    try:
        import yaml
    except ImportError:
        raise Refusal(f"{sys.executable} lacks PyYAML: start with ./speedgrid, or let SPEEDGRID_PYTHON name a Python that has it") from None
    try:
        recipe = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal(f"{path}: cannot be read: {error}") from None
    except yaml.YAMLError as error:
        raise Refusal(f"{path}: not valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(recipe, dict) or not isinstance(recipe.get("dependencies"), list):
        raise Refusal(f"{path}: needs a list 'dependencies'")
    for key in recipe:
        if key not in ("name", "channels", "dependencies", "prefix"):
            raise Refusal(f"{path}: key '{key}' cannot be honoured without conda")

    python: str | None = None
    for_pip: list[str] = []
    refused: list[str] = []
    for entry in recipe["dependencies"]:
        if isinstance(entry, dict) and list(entry) == ["pip"] and isinstance(entry["pip"], list):
            for_pip += map(str, entry["pip"])
            continue
        name, version = split_conda_spec(str(entry))
        if name == "python":
            python = version or ">=3"
        elif name == "pip":
            for_pip.append("pip" + version)
        else:
            refused.append(str(entry))
    if refused:
        raise Refusal(
            f"{path}: cannot be installed without conda: {', '.join(refused)}. Install conda, or"
            " list it under 'pip:' if the package index has it."
        )
    if python is None:
        raise Refusal(f"{path}: names no Python; add one to dependencies, e.g. 'python=3.11'")
    return python, for_pip


def split_conda_spec(spec):
    """Name and version, in pip's spelling, of e.g. `conda-forge::python=3.11` or `pip>=24`."""
    match = re.fullmatch(r"(?:[\w./-]+::)?([\w.-]+)(.*)", spec.replace(" ", ""))
    name, version = (match[1].lower(), match[2]) if match else (spec, "")
    if exact := re.fullmatch(r"(==?)([\d.]+?)(\.?\*)?", version):
        fuzzy = exact[1] == "=" or exact[3]  # to conda, =3.11 means 3.11.*
        return name, f"=={exact[2]}" + (".*" if fuzzy else "")
    if re.fullmatch(r"(([<>]=?|[!~]=)[\d.]+(\.\*)?(,|$))*", version):
        return name, version
    return spec, ""  # a build string or another thing of conda's own: refused by its full text


# Making an environment


def create_environment(file, prefix):
    python, for_pip = read_recipe(file)
    recipe = file.read_bytes()
    prefix = Path(os.path.abspath(prefix))
    prefix.parent.mkdir(parents=True, exist_ok=True)
    # Beside its place, so that the rename stays on one file system, and under one fixed name, so
    # that the next creation finds what a killed one has left.
    building = prefix.with_name(prefix.name + ".creating")
    with lock(prefix.with_name(prefix.name + ".lock")):
        if prefix.exists():
            kept = prefix / RECIPE
            if kept.is_file() and kept.read_bytes() == recipe:
                return  # another run made it while this one waited for the lock
            raise Refusal(f"{prefix} exists and was not made from {file}; remove it, run again")
        remove(building)
        try:
            install(building, python, for_pip)
            (building / RECIPE).write_bytes(recipe)
            building.rename(prefix)
        finally:
            remove(building)


@contextlib.contextmanager
def lock(path):
    """Hold `path` exclusively; the system lets go of it however this process ends.

    uv inherits it: should this process be killed alone, nobody else starts while uv still writes.
    """
    with open(path, "w") as handle:
        os.set_inheritable(handle.fileno(), True)
        with contextlib.suppress(OSError):  # a file system without locks: go on without
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def remove(folder):
    if folder.exists():
        shutil.rmtree(folder)


def install(folder, python, for_pip):
    environ = uv_environment(os.environ)
    for name in ("VIRTUAL_ENV", "CONDA_PREFIX", "UV_SYSTEM_PYTHON"):
        environ.pop(name, None)  # they name other places to install to
    environ["UV_NO_PROGRESS"] = "1"
    if any(line.startswith("--extra-index-url") for line in for_pip):
        environ.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")  # what pip does

    make_python(folder, python, environ)
    (folder / CONDA_META).mkdir()
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as requirements:
        requirements.write("\n".join(for_pip) + "\n")
        requirements.flush()
        # Compiled as pip does it, so that the first job does not spend its start on that.
        command = ["pip", "install", "--quiet", "--compile-bytecode", "--python", folder / "bin" / "python"]
        command += ["--requirements", requirements.name, *uv_flags(os.environ)]
        done = None
        if wants_cpu_index(for_pip, environ):
            done = uv(command, environ | {"UV_TORCH_BACKEND": "cpu"})
        if done is None or done.returncode != 0:
            # the index of CPU builds may lack a version that the usual one has
            done = uv(command, environ)
    if done.returncode != 0:
        raise Refusal(f"the packages could not be installed. uv says:\n{done.stdout.strip()}")
    if any(folder.glob("lib/python*/site-packages/torch-*+cpu.dist-info")):
        (folder / TORCH_IS_CPU_BUILD).touch()


def make_python(folder, version, environ):
    """An empty environment at `folder`, with a Python of this machine or one that uv downloads."""
    command = ["venv", "--relocatable", "--no-project", "--clear", "--python", version, folder]
    done = None
    if lacks_headers(version, environ):
        # torch.compile builds against Python.h; the Pythons that uv downloads have it
        done = uv([*command, "--managed-python"], environ)
    if done is None or done.returncode != 0:
        done = uv(command, environ)
    if done.returncode != 0:
        number = version.lstrip("=").removesuffix(".*")
        raise Refusal(
            f"needs Python {number}, which is not on this machine and could not be downloaded:"
            f" install it (Debian, Ubuntu: python{number} python{number}-dev) and run again."
            f" uv says:\n{done.stdout.strip()}"
        )


def lacks_headers(version, environ):
    """Whether the machine has this Python, but without its C headers (Debian's python3-dev)."""
    found = uv(["python", "find", "--system", "--no-project", version], environ)
    if found.returncode != 0:
        return False
    python = found.stdout.splitlines()[-1]
    code = "import sysconfig; print(sysconfig.get_path('include'))"
    answer = subprocess.run([python, "-c", code], capture_output=True, text=True)
    return not Path(answer.stdout.strip(), "Python.h").exists()


def uv(arguments, environ):
    """Run uv to its end; a signal that ends this process ends uv too."""
    command = [uv_executable(), *map(str, arguments)]
    out, merged = subprocess.PIPE, subprocess.STDOUT
    # Compilers speak the code of the locale.
    with subprocess.Popen(command, env=environ, close_fds=False, stdout=out, stderr=merged, text=True, errors="replace") as process:
        try:
            output, _ = process.communicate()
        except BaseException:
            process.terminate()
            process.wait()
            raise
    return subprocess.CompletedProcess(command, process.returncode, output)


def uv_executable():
    locked = Path(sys.executable).with_name("uv")  # the one that came with the launcher's lock file
    found = str(locked) if locked.is_file() else shutil.which("uv")
    if not found:
        raise Refusal("uv is not installed; start with ./speedgrid, which brings it")
    return found


# Which torch


def wants_cpu_index(for_pip, environ):
    """Whether to try PyTorch's own index of CPU builds first, which spares gigabytes of CUDA."""
    names = {re.split(r"[^\w.-]", line, maxsplit=1)[0].lower() for line in for_pip}
    return bool(names & TORCH_PACKAGES) and "UV_TORCH_BACKEND" not in environ and wants_cpu_torch(environ) and reachable(TORCH_CPU_INDEX)


def wants_cpu_torch(environ):
    """SPEEDGRID_TORCH decides, for machines that only prepare environments; else the driver."""
    choice = environ.get("SPEEDGRID_TORCH", "")
    if choice not in ("", "cpu", "cuda"):
        raise Refusal(f"SPEEDGRID_TORCH is {choice!r}; it may be 'cpu' or 'cuda'")
    return choice == "cpu" if choice else not has_nvidia_driver()


def has_nvidia_driver():
    if Path("/proc/driver/nvidia/version").exists():
        return True
    try:
        return subprocess.run(["nvidia-smi", "-L"], capture_output=True, timeout=30).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False


def reachable(url):
    try:
        with urllib.request.urlopen(urllib.request.Request(url, method="HEAD"), timeout=4):
            return True
    except (OSError, ValueError):
        return False


def stop(signum, frame):
    raise SystemExit(128 + signum)  # so that every `finally` clears away what is half made


if __name__ == "__main__":
    for signum in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signal.signal(signum, stop)
    try:
        main(sys.argv[1:])
    except (Refusal, OSError) as error:
        sys.exit(f"uv frontend: {error}")
