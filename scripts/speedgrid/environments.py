"""What Snakemake's environments lack, and snakemake_seam.py adds: each job runs in its own or not at all, whatever the machine has become.

- Runs that share a folder of environments make each of them one after another. Snakemake asks whether an environment is there, copies its
  recipe, lets it be made and runs its post-deploy script as if nobody else did: a second run deletes the recipe under the first one's
  hands, or the environment, whose script still runs, as incomplete.
- An environment whose Python no longer runs is made again.
- An environment that cannot be made stops the jobs of that environment and no others: they run in that of the report, and write down why.
- A job's shell ends where the activation of its environment did not work (job_shell.py). Snakemake writes `source activate ENV; COMMAND`,
  so that the command would run in whatever Python is there.
"""

import contextlib
import fcntl
import hashlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from speedgrid import job_shell, records

FRONTEND = Path(__file__).resolve().parents[2] / "envs" / "uv-frontend"
UV_CONDA = "uv_conda.py"
REPORT = "report.yaml"
REASON_CHARACTERS = 300
# Fails where the Python is of another version than the environment's packages, as a link to the system's may be after its upgrade.
HAS_PACKAGES = "import os, sys, sysconfig; sys.exit(not os.path.isdir(sysconfig.get_path('purelib')))"
# What decides in a line of a shell script where a text begins and ends: an escaped character, a quote, a here-document, a comment.
SHELL_SIGNS = re.compile(r"\\.|['\"]|<<|(?:^|(?<=\s))#")
# What Snakemake writes into its shell lines between quotes.
SHARP = "'\"$`\\"


# What they need


def files() -> dict[str, Path]:
    """The environment files, by name."""
    return {path.stem: path for path in FRONTEND.parent.glob("*.yaml")}


def note_what_lacks(registry: Mapping, recipes: Mapping[str, Path]) -> dict:
    """The registry, in which `lacks` of a technique has for each of its environments what the machine lacks to make it, if anything."""
    needed = {env for entry in registry.values() for env in stacks(entry)}
    lacking = {
        env: f"its environment ({env}) needs {' and '.join(found)}" for env in needed & set(recipes) if (found := lacks(recipes[env]))
    }
    return {
        name: {**entry, "lacks": {env: lacking[env] for env in stacks(entry) if env in lacking}}
        if lacking.keys() & stacks(entry)
        else entry
        for name, entry in registry.items()
    }


def stacks(technique: Mapping) -> set[str]:
    """The environments of a technique, of every kind of device."""
    env = technique["env"]
    return {env} if isinstance(env, str) else set(env.values())


def lacks(recipe: Path) -> list[str]:
    """What this machine lacks to make an environment, in words, by what its file says in comments.

    `# needs: compiler` stands for a C++ compiler; the platform that the pins were resolved for names the oldest C library that will do.
    """
    text = recipe.read_text(encoding="utf-8")
    needs = re.findall(r"^# needs: (\S+)", text, re.MULTILINE)
    lacking = []
    if "compiler" in needs and not find_compiler():
        lacking.append("a C++ compiler (Debian, Ubuntu: g++)")
    oldest, here = re.search(r"manylinux_2_(\d+)", text), glibc()
    if oldest and here and here < (2, int(oldest[1])):
        lacking.append(f"glibc 2.{oldest[1]} or newer (this system has {'.'.join(map(str, here))})")
    return lacking


def recipe_hash(recipe: Path) -> str:
    """A hash of what an environment file asks for, with the script beside it that finishes it; empty where there is no file."""
    deploy = recipe.with_suffix(".post-deploy.sh")
    try:
        return asked_for(recipe.read_bytes(), deploy.read_bytes() if deploy.is_file() else b"")
    except OSError:
        return ""


def asked_for(recipe: bytes, deploy: bytes = b"", pins: bytes = b"") -> str:
    """The same of the bytes of both, and of what Snakemake pins beside them. Comments, the order of keys and of packages, and the name that
    a file gives its environment do not count; nor do blank lines of the script, and lines that are a comment and nothing else."""
    import yaml

    try:
        document = yaml.safe_load(recipe)
    except yaml.YAMLError:
        document = None
    if isinstance(document, dict):
        told = {key: value for key, value in document.items() if key not in ("name", "prefix")}
        if isinstance(told.get("dependencies"), list):
            told["dependencies"] = _in_order(told["dependencies"])
        recipe = json.dumps(told, sort_keys=True, default=str).encode()
    return hashlib.sha256(b"\0".join((recipe, _done_by(deploy), pins))).hexdigest()[:16]


def _done_by(script: bytes) -> bytes:
    """A shell script without blank lines and whole-line comments; all of it where a line that looks like one may be of a text that it
    writes: where it has a here-document, or a quote that is not closed in sight."""
    kept, quote, goes_on = [], "", False
    for line in script.decode(errors="surrogateescape").splitlines(keepends=True):
        text = line.strip()
        if not quote and not goes_on and (not text or text.startswith("#")):
            continue
        kept.append(line)
        for sign in SHELL_SIGNS.finditer(line):
            if quote:
                # A backslash means nothing between single quotes.
                quote = "" if sign[0] == quote or (quote == "'" and sign[0] == "\\'") else quote
            elif sign[0] == "<<":
                return script
            elif sign[0] in ("'", '"'):
                quote = sign[0]
            elif sign[0].endswith("#"):
                break
        goes_on = not quote and text.endswith("\\")
    return script if quote else "".join(kept).encode(errors="surrogateescape")


def _in_order(dependencies: list) -> list:
    """Packages in an order that does not depend on how they are listed."""
    lists = [one for one in dependencies if isinstance(one, dict)]
    inner = [{key: sorted(map(str, value)) if isinstance(value, list) else value for key, value in one.items()} for one in lists]
    return sorted(str(one) for one in dependencies if not isinstance(one, dict)) + inner


def find_compiler() -> str:
    """The C++ compiler that builds would find; empty where there is none."""
    return next(filter(None, map(shutil.which, filter(None, (os.environ.get("CXX"), "g++", "clang++", "c++")))), "")


def glibc() -> tuple[int, ...]:
    """The version of the system's C library; empty where it is another one."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (ValueError, OSError):
        return ()
    return tuple(int(part) for part in version.split(".") if part.isdigit()) if name == "glibc" else ()


# Making them


def runs(environment: Path) -> bool:
    """Whether the Python of an environment is there, and finds the packages of the environment."""
    python = environment / "bin" / "python"
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONHOME", "PYTHONPATH")}
    try:
        return subprocess.run([python, "-I", "-c", HAS_PACKAGES], env=environ, capture_output=True, timeout=120).returncode == 0
    except OSError:
        return False
    except subprocess.TimeoutExpired:
        return True  # a machine that is this slow says nothing of the environment


@contextlib.contextmanager
def alone(path: Path, say_waiting: Callable[[], None]) -> Iterator[None]:
    """Hold a file, and call `say_waiting` first where another process holds it; the system lets go of it however this process ends."""
    with open(path, "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say_waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:
            pass  # a file system without locks: go on without
        yield


@contextlib.contextmanager
def cpu_builds_in_reach(recipe: Path) -> Iterator[None]:
    """Let conda's pip know PyTorch's index of CPU builds where there is no NVIDIA driver, as the uv frontend lets uv know it."""
    index = cpu_index(recipe, os.environ)
    before = os.environ.get("PIP_EXTRA_INDEX_URL")
    if index:
        os.environ["PIP_EXTRA_INDEX_URL"] = index
    try:
        yield
    finally:
        if index and before is None:
            del os.environ["PIP_EXTRA_INDEX_URL"]
        elif index and before is not None:
            os.environ["PIP_EXTRA_INDEX_URL"] = before


def cpu_index(recipe: Path, environ: Mapping[str, str]) -> str:
    """The extra indexes to tell the pip of a real conda for an environment file: those that it has, and PyTorch's for CPUs.

    Empty where there is none to add: the file has no PyTorch, the machine has an NVIDIA driver, SPEEDGRID_TORCH is `cuda`, the index
    cannot be reached, pip may ask none, or it is the uv frontend that makes the environment.
    """
    if str(FRONTEND) not in sys.path:
        sys.path.insert(0, str(FRONTEND))
    import uv_conda
    from pip_settings import pip_settings, uv_flags

    conda = shutil.which("conda", path=environ.get("PATH"))
    if not conda or is_frontend(conda) or uv_flags(environ):
        return ""
    try:
        _, for_pip = uv_conda.read_recipe(recipe)
    except uv_conda.Refusal:  # a file for conda alone
        return ""
    if not uv_conda.wants_cpu_index(for_pip, environ):
        return ""
    known = pip_settings(environ).get("extra-index-url", "").split()
    return " ".join([*known, uv_conda.TORCH_CPU_INDEX])


def is_frontend(conda: str) -> bool:
    """Whether a `conda` is the uv frontend, of this clone or of another."""
    return Path(conda).resolve().parent.with_name(UV_CONDA).is_file()


@dataclass(frozen=True)
class Failure:
    """Why an environment could not be made, in one line, and the one in which its jobs can write that down; kept beside its place."""

    reason: str
    instead: str

    @staticmethod
    def file(environment: Path | str) -> Path:
        return Path(f"{environment}.failed")

    @classmethod
    def of(cls, environment: Path | str) -> "Failure | None":
        """What is kept of an environment that is not there; None for one that is, or that nobody tried to make."""
        if os.path.isdir(environment):
            return None
        try:
            return cls(**json.loads(cls.file(environment).read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError):  # not there, or not what `keep` writes
            return None

    def keep(self, environment: Path | str) -> None:
        with records.replacing(self.file(environment)) as temporary:
            temporary.write_text(json.dumps(asdict(self)), encoding="utf-8")


def why(name: str, said: str) -> str:
    """The reason of a job whose environment could not be made, in one line; `said` is what conda or uv said."""
    return f"the environment {name} could not be made: {textwrap.shorten(said, REASON_CHARACTERS, placeholder=' ...')}"


# Running jobs in them


def told_in_shell(environment: str) -> tuple[str, str]:
    """The environment to activate for a job that has this one, and what its shell is to do before the job's command."""
    failure = Failure.of(environment)
    activated, reason = (failure.instead, failure.reason) if failure else (environment, "")
    # Snakemake keeps the file beside the environment.
    return activated, job_shell.before_command(activated, recipe_hash(Path(f"{activated}.yaml")), refusal(activated), reason)


def refusal(environment: str) -> str:
    """What the shell of a job says where the activation of this environment did not work."""
    said = f"speedgrid: this job is for the Python of {environment}, and its activation gave "
    found = f'"${{{job_shell.FOUND_PYTHON}:-no Python at all}}"'
    return f"echo {shlex.quote(said)}{found}{shlex.quote('; delete that folder and run again')} >&2"
