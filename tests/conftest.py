"""What every test may use, and the rule for tests that need what a machine may lack.

`@pytest.mark.needs("chromium", "network")` skips a test where the machine lacks one of these and lists it, with the reason, at the
end of the run. With CI=true only what MAY_BE_LACKING_IN_CI names may be lacking: anything else is then a failure.
"""

import functools
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "envs" / "uv-frontend")]

from pip_settings import uv_environment  # noqa: E402
from speedgrid import compiled, environments, hub, survey  # noqa: E402

# How long an example takes is the machine's matter.
hypothesis.settings.register_profile("speedgrid", deadline=None)
hypothesis.settings.load_profile("speedgrid")

MAY_BE_LACKING_IN_CI = {"nvidia", "memory-cgroup", "conda"}
LACKING = "lacking"  # the property of a report that says why its test was not run
# Whole runs first: they take longest, and with several processes the many short tests fill what is left at the end.
ORDER = ("cluster", "workflow", "faults", "browser", "gpu", "unit")
# Files that share a fixture that takes minutes, and so a process.
SHARING = {
    "the tiny study's project": [
        f"tests/workflow/test_{name}.py" for name in ("architectures", "end_to_end", "models", "quality_jobs", "reached_code")
    ],
    "a clone that was started": [f"tests/workflow/test_{name}.py" for name in ("launcher", "launcher_environment", "launcher_stopped")],
    "a finished project": [f"tests/faults/test_{name}.py" for name in ("carried", "jobs_struck", "old_figures", "runs_struck")],
}


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


@pytest.fixture(scope="session", autouse=True)
def compiled_by_tests(tmp_path_factory) -> Iterator[None]:
    """What is compiled for cells of tests stays out of the user's cache; all that tests start takes the folder from here."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(compiled.PLACE, str(tmp_path_factory.mktemp("compiled")))
        yield


@pytest.fixture(autouse=True)
def libraries_of_a_new_process() -> Iterator[None]:
    """A job's process sets once where its libraries keep what they compile; here one process has many jobs."""
    before = {name: os.environ.get(name) for name in compiled.CACHES}
    yield
    for name, value in before.items():
        os.environ.pop(name, None)
        os.environ |= {name: value} if value is not None else {}


@pytest.fixture
def cgroups() -> list[tuple[Path, str]]:
    """Where a test may make memory cgroups, with the name of the file of their limit."""
    return [(folder, limit) for folder, limit in memory_cgroups() if os.access(folder, os.W_OK)]


# What a machine may lack: each function returns the reason, or an empty text where all is there.


def lacks_chromium() -> str:
    if not any(map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))):
        return "no Chromium (Debian: chromium)"
    return "" if shutil.which("chromedriver") else "no chromedriver (Debian: chromium-driver)"


def lacks_nvidia() -> str:
    try:
        found = subprocess.run(["nvidia-smi", "-L"], capture_output=True, timeout=60).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        found = False
    return "" if found else "no NVIDIA GPU"


def lacks_slurm() -> str:
    path = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
    needed = ("slurmctld", "slurmd", "slurmdbd", "sbatch", "munged", "mariadbd", "mariadb-install-db")
    missing = [command for command in needed if not shutil.which(command, path=path)]
    return f"no {', '.join(missing)} (Debian: the packages of .ci/run)" if missing else ""


def lacks_network() -> str:
    environ = uv_environment(os.environ)
    address = survey.index_address(environ)
    return "" if survey.is_reachable(address, environ) else "the package index cannot be reached"


def lacks_memory_cgroup() -> str:
    if any(os.access(folder, os.W_OK) for folder, _ in memory_cgroups()):
        return ""
    return "no memory cgroup may be made here (it needs root)"


def memory_cgroups() -> list[tuple[Path, str]]:
    """Where memory cgroups can be made, with the name of the file of their limit; of the first and the second version of cgroups."""
    whole = Path("/sys/fs/cgroup")
    second = whole / "cgroup.subtree_control"
    found = [(whole / "memory", "memory.limit_in_bytes")] if (whole / "memory" / "memory.limit_in_bytes").exists() else []
    return found + ([(whole, "memory.max")] if second.is_file() and "memory" in second.read_text().split() else [])


def lacks_conda() -> str:
    conda = shutil.which("conda")
    return "" if conda and not environments.is_frontend(conda) else "no conda"


def lacks_hub() -> str:
    address = hub.endpoint(os.environ)
    return "" if survey.is_reachable(address, uv_environment(os.environ)) else "the Hugging Face hub cannot be reached"


NEEDS = {
    "chromium": lacks_chromium,
    "nvidia": lacks_nvidia,
    "slurm": lacks_slurm,
    "network": lacks_network,
    "hub": lacks_hub,
    "conda": lacks_conda,
    "memory-cgroup": lacks_memory_cgroup,
}


@functools.cache
def lacking(need: str) -> str:
    return NEEDS[need]()


def pytest_configure(config):
    # What a shell starts in its background ignores Ctrl-C, and so would all that tests start and stop with it.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", f"needs(*what): what the machine must have, of {', '.join(NEEDS)}")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """`--dist loadfile`, with the files that share a fixture as one."""
    from xdist.scheduler import LoadFileScheduling

    sharing = {file: fixture for fixture, files in SHARING.items() for file in files}

    class ByFixture(LoadFileScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = super()._split_scope(nodeid)
            return sharing.get(file, file)

    return ByFixture(config, log)


def pytest_collection_modifyitems(items):
    def place(item) -> int:
        folder = item.nodeid.removeprefix("tests/").partition("/")[0]
        return ORDER.index(folder) if folder in ORDER else len(ORDER)

    items.sort(key=place)


def pytest_runtest_setup(item):
    needs = [need for mark in item.iter_markers("needs") for need in mark.args]
    if item.get_closest_marker("gpu"):
        needs.append("nvidia")
    for need in needs:
        if need not in NEEDS:
            pytest.fail(f"unknown need {need!r}; it may be {', '.join(NEEDS)}", pytrace=False)
        reason = lacking(need)
        if reason and os.environ.get("CI") == "true" and need not in MAY_BE_LACKING_IN_CI:
            pytest.fail(f"may not be lacking where CI=true: {reason}", pytrace=False)
        if reason:
            item.user_properties.append((LACKING, reason))
            pytest.skip(reason)


def pytest_terminal_summary(terminalreporter):
    skipped = terminalreporter.stats.get("skipped", [])
    not_run = {report.nodeid: reason for report in skipped for name, reason in report.user_properties if name == LACKING}
    if not_run:
        terminalreporter.section("Not run on this machine")
        for test, reason in sorted(not_run.items()):
            terminalreporter.line(f"{test}: {reason}")
