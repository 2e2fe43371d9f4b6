"""What a run does around every job: the environment variables that the job finds set, and what its shell does before its command.

All that is here acts on every job, so that fingerprint.py counts all of it for each (AROUND). What a refusal says is told from elsewhere: a
job that is refused has no figures.
"""

import locale
import os
import pwd
import shlex
import sys
from collections.abc import MutableMapping

from speedgrid import supervision, user_cache

# What a job's shell says to one whose environment could not be made, and which runs in that of the report instead: why.
NO_ENVIRONMENT = "SPEEDGRID_NO_ENVIRONMENT"
# What a job's shell says of the environment that was activated for it; not there where jobs use the user's own Python.
ENVIRONMENT = "SPEEDGRID_ENVIRONMENT"
# And the hash of what its file asks for (environments.recipe_hash), which the job's result says.
RECIPE = "SPEEDGRID_RECIPE"
# Of the shell: the Python that it found.
FOUND_PYTHON = "speedgrid_python"
# Switches of Python that a shell may have set for other programs: without docstrings and assertions, with warnings as errors, asking for
# input at the end, or without the folder of a script in its path.
SWITCHES = ("PYTHONOPTIMIZE", "PYTHONWARNINGS", "PYTHONINSPECT", "PYTHONSAFEPATH")


# Environment variables


def prepare(environ: MutableMapping[str, str], uses_environments: bool) -> None:
    """Set in the environment of a run what its jobs and the scripts that finish environments are to find set."""
    environ.update(variables(uses_environments))
    if uses_environments:
        environ.pop("PYTHONHOME", None)  # of another Python


def variables(uses_environments: bool) -> dict[str, str]:
    """What every job and every script that finishes an environment finds set.

    Python and what it starts speak UTF-8, whatever the locale; and where jobs have environments, ~/.local is none of them: a package there
    would be taken for that of the environment, and pip would uninstall it.
    """
    found = {"PYTHONUTF8": "1"}
    if locale.nl_langinfo(locale.CODESET).upper() not in ("UTF-8", "UTF8") and _has_locale("C.UTF-8"):
        found["LC_ALL"] = "C.UTF-8"
    found |= {name: "" for name in SWITCHES if name in os.environ}
    found |= {name: value for name, value in _of_a_user_without_a_home().items() if name not in os.environ}
    return found | ({"PYTHONNOUSERSITE": "1"} if uses_environments else {})


def limits(time_budget_s: float, gpu_jobs: int, makes: int) -> dict[str, str]:
    """What the frame of a job reads (stage.py): when its time is up, that the death of this process ends it, with how many jobs on GPUs
    it shares the cores, and how many make checkpoints side by side."""
    return {
        supervision.TIME_BUDGET: str(time_budget_s),
        supervision.WANTED_BY: str(os.getpid()),
        supervision.GPU_JOBS: str(gpu_jobs),
        supervision.MAKES: str(makes),
    }


def _of_a_user_without_a_home() -> dict[str, str]:
    """What libraries ask for that a container may not have, which runs as a number without a name, and in a home that nobody may write.

    Where it is lacking, PyTorch's compiler ends in `getpwuid(): uid not found`, and Triton or vLLM in `Permission denied: '/.triton'`.
    """
    has_home = os.access(os.environ.get("HOME") or os.path.expanduser("~"), os.W_OK)
    has_name = _has_name()
    if has_home and has_name:
        return {}
    cache = user_cache.writable()
    found = {} if has_name else {"USER": f"user-{os.getuid()}", "HOME": str(cache)}
    if not has_home:
        found |= {
            "TRITON_CACHE_DIR": str(cache / "triton"),
            "VLLM_CONFIG_ROOT": str(cache / "vllm"),
            "NUMBA_CACHE_DIR": str(cache / "numba"),
        }
    return found


def _has_name() -> bool:
    try:
        pwd.getpwuid(os.getuid())
    except KeyError:
        return False
    return True


def _has_locale(name: str) -> bool:
    before = locale.setlocale(locale.LC_CTYPE)
    try:
        locale.setlocale(locale.LC_CTYPE, name)
    except locale.Error:
        return False
    locale.setlocale(locale.LC_CTYPE, before)
    return True


# Its environment


def before_command(environment: str, recipe: str, refuse: str, failure: str = "") -> str:
    """What a shell does after an activation: see no module of elsewhere, and end where `python` is not that of the environment, a folder.

    `recipe` is the hash of what the environment's file asks for; `refuse` is the command that says why the shell ends; `failure` is why the
    job's own environment could not be made, if so: the job then only writes that down.
    """
    told = f"export {NO_ENVIRONMENT}={shlex.quote(failure)}; " if failure else ""
    return (
        # What lies there would be taken for the environment's, such as a package's sources that somebody works on.
        "unset PYTHONPATH; "
        f"export {ENVIRONMENT}={shlex.quote(environment)} {RECIPE}={recipe}; {FOUND_PYTHON}=$(command -v python || :); "
        f'[ "${{{FOUND_PYTHON}%/*}}" -ef {shlex.quote(environment + "/bin")} ] || {{ {refuse}; exit 1; }}; '
        f"{told}"
    )


def recipe() -> str:
    """The hash of the recipe of the environment that this job was started in; empty where there is none."""
    return os.environ.get(RECIPE, "") if ENVIRONMENT in os.environ else ""


def check_python() -> None:
    """End this process with one line where it is not the Python of the environment that was activated for it."""
    expected = os.environ.get(ENVIRONMENT)
    if expected and not (os.path.isdir(expected) and os.path.samefile(sys.prefix, expected)):
        sys.exit(
            f"speedgrid: this job is for the Python of {expected}, and runs in that of {sys.prefix} ({sys.executable}); "
            "unset PYTHONHOME, or delete that folder and run again"
        )
