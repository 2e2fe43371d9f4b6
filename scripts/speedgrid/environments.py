"""What Snakemake's environments lack, and snakemake_seam.py adds: each job runs in its own or not at all, whatever the machine has become.

- Runs that share a folder of environments make each of them one after another. Snakemake asks whether an environment is there, copies its
  recipe, lets it be made and runs its post-deploy script as if nobody else did: a second run deletes the recipe under the first one's
  hands, or the environment, whose script still runs, as incomplete.
- An environment whose Python no longer runs is made again.
- A job's shell ends where the activation of its environment did not work. Snakemake writes `source activate ENV; COMMAND`, so that the
  command would run in whatever Python is there.
"""

import contextlib
import fcntl
import locale
import os
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

FRONTEND = Path(__file__).resolve().parents[2] / "envs" / "uv-frontend"
UV_CONDA = "uv_conda.py"
# Fails where the Python is of another version than the environment's packages, as a link to the system's may be after its upgrade.
HAS_PACKAGES = "import os, sys, sysconfig; sys.exit(not os.path.isdir(sysconfig.get_path('purelib')))"
# What a job's shell says of the environment that was activated for it; not there where jobs use the user's own Python.
ENVIRONMENT = "SPEEDGRID_ENVIRONMENT"
# What Snakemake writes into its shell lines between quotes.
SHARP = "'\"$`\\"


def variables(uses_environments: bool) -> dict[str, str]:
    """What every job and every script that finishes an environment finds set.

    Python and what it starts speak UTF-8, whatever the locale; and where jobs have environments, ~/.local is none of them: a package there
    would be taken for that of the environment, and pip would uninstall it.
    """
    told = {"PYTHONUTF8": "1"}
    if locale.nl_langinfo(locale.CODESET).upper() not in ("UTF-8", "UTF8") and _has_locale("C.UTF-8"):
        told["LC_ALL"] = "C.UTF-8"
    return told | ({"PYTHONNOUSERSITE": "1"} if uses_environments else {})


def _has_locale(name: str) -> bool:
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        locale.setlocale(locale.LC_CTYPE, name)
    except locale.Error:
        return False
    locale.setlocale(locale.LC_CTYPE, before)
    return True


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
        elif index:
            os.environ["PIP_EXTRA_INDEX_URL"] = before


def cpu_index(recipe: Path, environ: Mapping[str, str]) -> str:
    """The extra indexes to tell the pip of a real conda for an environment file: those that it has, and PyTorch's for CPUs.

    Empty where nothing is to be told: the file has no PyTorch, the machine has an NVIDIA driver, SPEEDGRID_TORCH is `cuda`, the index
    cannot be reached, pip may ask none, or it is the uv frontend that makes the environment.
    """
    if str(FRONTEND) not in sys.path:
        sys.path.insert(0, str(FRONTEND))
    import uv_conda
    from pip_settings import pip_settings, uv_flags

    conda = shutil.which("conda", path=environ.get("PATH"))
    is_frontend = conda and Path(conda).resolve().parent.with_name(UV_CONDA).is_file()  # of this clone or of another
    if not conda or is_frontend or uv_flags(environ):
        return ""
    try:
        _, for_pip = uv_conda.read_recipe(recipe)
    except uv_conda.Refusal:  # a file for conda alone
        return ""
    if not uv_conda.wants_cpu_index(for_pip, environ):
        return ""
    known = pip_settings(environ).get("extra-index-url", "").split()
    return " ".join([*known, uv_conda.TORCH_CPU_INDEX])


# Running jobs in them


def guard(environment: str) -> str:
    """What a shell does after an activation: end with one line where `python` is not that of the environment, a folder."""
    said = f"speedgrid: this job is for the Python of {environment}, and its activation gave "
    advice = "; delete that folder and run again"
    return (
        f"export {ENVIRONMENT}={shlex.quote(environment)}; speedgrid_python=$(command -v python || :); "
        f'[ "${{speedgrid_python%/*}}" -ef {shlex.quote(environment + "/bin")} ] || '
        f'{{ echo {shlex.quote(said)}"${{speedgrid_python:-no Python at all}}"{shlex.quote(advice)} >&2; exit 1; }}; '
    )


def check_python() -> None:
    """End this process with one line where it is not the Python of the environment that was activated for it."""
    expected = os.environ.get(ENVIRONMENT)
    if expected and not (os.path.isdir(expected) and os.path.samefile(sys.prefix, expected)):
        sys.exit(
            f"speedgrid: this job is for the Python of {expected}, and runs in that of {sys.prefix} ({sys.executable}); "
            "unset PYTHONHOME, or delete that folder and run again"
        )
