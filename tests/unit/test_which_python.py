"""The environments of jobs: what is activated is what a job runs in, and conda's pip knows PyTorch's builds for CPUs."""

import os
import shutil
import subprocess
import sys

import pytest
import uv_conda
from speedgrid import environments, job_shell, user_cache


def environment(folder):
    """The smallest environment: a `python` that says its name."""
    (folder / "bin").mkdir(parents=True)
    (folder / "bin" / "python").write_text('#!/bin/sh\necho "$0"\n')
    (folder / "bin" / "python").chmod(0o755)
    return folder


def guard(of):
    """What the shell of a job does before its command."""
    activated, before = environments.told_in_shell(str(of))
    assert activated == str(of)
    return before


def run_guarded(of, path, shell="bash"):
    """A job's line with the folders `path` on PATH in place of an activation."""
    line = f"{'set -euo pipefail; ' if shell == 'bash' else ''}{guard(of)}python"
    return subprocess.run([shutil.which(shell), "-c", line], env={"PATH": path}, capture_output=True, text=True)


@pytest.mark.parametrize("shell", ["bash", "sh"])
@pytest.mark.parametrize("name", ["env", "an env", "O'Brien's", "$HOME;touch pwned"])
def test_a_job_runs_in_its_own_environment_or_not_at_all(tmp_path, name, shell):
    own, other = environment(tmp_path / name), environment(tmp_path / "another")
    done = run_guarded(own, f"{own}/bin:{other}/bin", shell)
    assert (done.returncode, done.stdout) == (0, f"{own}/bin/python\n"), done.stderr

    done = run_guarded(own, f"{other}/bin:{own}/bin", shell)
    assert (done.returncode, done.stdout) == (1, "")
    told = f"speedgrid: this job is for the Python of {own}, and its activation gave {other}/bin/python; delete that folder and run again\n"
    assert done.stderr == told


def test_a_job_takes_no_module_of_elsewhere_for_that_of_its_environment(tmp_path):
    """As of somebody who works on a checkout of transformers, and starts Snakemake by hand."""
    own = environment(tmp_path / "own")
    line = f"set -euo pipefail; {guard(own)}echo ${{PYTHONPATH-none}}"
    environ = {"PATH": f"{own}/bin", "PYTHONPATH": "/home/me/transformers/src"}
    assert subprocess.run([shutil.which("bash"), "-c", line], env=environ, capture_output=True, text=True).stdout == "none\n"


def test_an_activation_sets_nothing_but_the_place_of_the_environment(tmp_path):
    """What else a job is to find set belongs in job_shell.py, which counts in its fingerprint: conda's activation would not set it."""
    own = environment(tmp_path / "an env")
    environ = {"PATH": "/usr/bin:/bin", "PYTHONHOME": "/of/another", "HOME": "/home/me"}

    def found(line):
        said = subprocess.run([shutil.which("bash"), "-c", f"{line}env -0"], env=environ, capture_output=True, text=True, check=True).stdout
        return dict(one.split("=", 1) for one in said.split("\0") if one)

    before = found("")
    after = found(f'source {environments.FRONTEND}/bin/activate "{own}"; ')
    changed = {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}
    assert changed == {"PATH", "CONDA_PREFIX", "CONDA_DEFAULT_ENV", "VIRTUAL_ENV", "PYTHONHOME"}
    assert "PYTHONHOME" not in after
    assert after["PATH"] == f"{own}/bin:{before['PATH']}"
    assert {after[name] for name in changed - {"PATH", "PYTHONHOME"}} == {str(own)}


def test_no_python_at_all_and_one_that_is_gone(tmp_path):
    own = tmp_path / "own"
    (own / "bin").mkdir(parents=True)
    (own / "bin" / "python").symlink_to("/nowhere/python")
    done = run_guarded(own, f"{own}/bin")
    assert done.returncode == 1
    assert "its activation gave no Python at all; delete that folder" in done.stderr
    assert done.stderr.count("\n") == 1


def test_an_environment_by_another_name_of_its_folder_is_the_same(tmp_path):
    own = environment(tmp_path / "own")
    (tmp_path / "link").symlink_to(own)
    assert run_guarded(tmp_path / "link", f"{own}/bin").returncode == 0


@pytest.mark.parametrize(("told", "passes"), [(None, True), ("this", True), ("another", False), ("none", False)])
def test_a_python_that_is_not_that_of_the_environment_ends_in_one_line(tmp_path, told, passes):
    """Though it was found in the right folder: PYTHONHOME names another, or the link in bin leads elsewhere."""
    prefixes = {"this": sys.prefix, "another": str(environment(tmp_path / "another")), "none": str(tmp_path / "none")}
    environ = {name: value for name, value in os.environ.items() if name != job_shell.ENVIRONMENT}
    environ["PYTHONPATH"] = str(environments.FRONTEND.parents[1] / "scripts")
    if told:
        environ[job_shell.ENVIRONMENT] = prefixes[told]
    code = "from speedgrid import job_shell; job_shell.check_python(); print('runs')"
    done = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True)
    if passes:
        assert (done.returncode, done.stdout) == (0, "runs\n"), done.stderr
    else:
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr.startswith(f"speedgrid: this job is for the Python of {prefixes[told]}, and runs in that of {sys.prefix} (")
        assert done.stderr.count("\n") == 1


def test_whether_an_environments_python_runs(tmp_path):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", "--symlinks", tmp_path / "env"], check=True)
    assert environments.runs(tmp_path / "env")
    packages = next((tmp_path / "env" / "lib").glob("python3*"))
    packages.rename(packages.with_name("python3.0"))  # the system's Python is another one by now
    assert not environments.runs(tmp_path / "env")
    packages.with_name("python3.0").rename(packages)
    for python in (tmp_path / "env" / "bin").glob("python*"):
        python.unlink()
    assert not environments.runs(tmp_path / "env")


def test_what_jobs_find_set(monkeypatch):
    monkeypatch.setattr(job_shell.locale, "nl_langinfo", lambda _: "UTF-8")
    assert job_shell.variables(uses_environments=False) == {"PYTHONUTF8": "1"}
    assert job_shell.variables(uses_environments=True) == {"PYTHONUTF8": "1", "PYTHONNOUSERSITE": "1"}
    monkeypatch.setattr(job_shell.locale, "nl_langinfo", lambda _: "ISO-8859-1")
    monkeypatch.setattr(job_shell, "_has_locale", lambda name: True)
    assert job_shell.variables(uses_environments=False)["LC_ALL"] == "C.UTF-8"
    monkeypatch.setattr(job_shell, "_has_locale", lambda name: False)
    assert "LC_ALL" not in job_shell.variables(uses_environments=False)


def test_switches_of_python_that_are_meant_for_other_programs_reach_no_job(monkeypatch):
    for name in job_shell.SWITCHES:
        monkeypatch.setenv(name, "1")
    told = job_shell.variables(uses_environments=False)
    assert {name: told[name] for name in job_shell.SWITCHES} == dict.fromkeys(job_shell.SWITCHES, "")


def test_a_user_without_a_name_and_a_home_that_cannot_be_written_are_made_up_for(monkeypatch, tmp_path):
    """As in a container that runs as a number (`docker run --user 54321`, OpenShift)."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    for name in ("USER", "TRITON_CACHE_DIR", "VLLM_CONFIG_ROOT", "NUMBA_CACHE_DIR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    before = job_shell.variables(uses_environments=True)
    monkeypatch.setattr(job_shell.os, "getuid", lambda: 54321)
    assert job_shell.variables(uses_environments=True) == before | {"USER": "user-54321"}, "a home that is told is kept"
    monkeypatch.delenv("HOME")
    told = job_shell.variables(uses_environments=True)
    cache = tmp_path / "speedgrid"
    assert told["HOME"] == str(cache)
    assert {told["TRITON_CACHE_DIR"], told["VLLM_CONFIG_ROOT"]} == {str(cache / "triton"), str(cache / "vllm")}
    monkeypatch.setenv("TRITON_CACHE_DIR", "/elsewhere")
    assert "TRITON_CACHE_DIR" not in job_shell.variables(uses_environments=True), "what the user says stands"


# What they need


def recipe(tmp_path, text):
    (tmp_path / "made-up.yaml").write_text(f"# {text}\ndependencies: [python=3.11]\n")
    return tmp_path / "made-up.yaml"


def test_who_has_a_name_and_a_home_gets_no_folder_made(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setattr(user_cache, "private", lambda: pytest.fail("a folder was made that nobody needs"))
    monkeypatch.setattr(job_shell.pwd, "getpwuid", lambda number: "somebody")
    job_shell.variables(uses_environments=True)


def test_what_an_environment_file_says_that_it_needs(tmp_path, monkeypatch):
    monkeypatch.setattr(environments, "glibc", lambda: (2, 31))
    monkeypatch.setattr(environments, "find_compiler", lambda: "")
    compiled = recipe(tmp_path, "needs: compiler\n#  --python-platform x86_64-manylinux_2_28")
    assert environments.lacks(compiled) == ["a C++ compiler (Debian, Ubuntu: g++)"]
    assert environments.lacks(recipe(tmp_path, "--python-platform x86_64-manylinux_2_31")) == []
    newer = recipe(tmp_path, "--python-platform x86_64-manylinux_2_34")
    assert environments.lacks(newer) == ["glibc 2.34 or newer (this system has 2.31)"]
    monkeypatch.setattr(environments, "find_compiler", lambda: "/usr/bin/g++")
    assert environments.lacks(recipe(tmp_path, "needs: compiler")) == []
    monkeypatch.setattr(environments, "glibc", lambda: ())  # another C library: pip says what there is for it
    assert environments.lacks(newer) == []


def test_techniques_whose_environment_cannot_be_made_are_told_so_and_no_others(tmp_path, monkeypatch):
    monkeypatch.setattr(environments, "find_compiler", lambda: "")
    files = {"built": recipe(tmp_path, "needs: compiler"), "plain": environments.FRONTEND.parent / "report.yaml"}
    registry = {"a": {"env": "built"}, "b": {"env": "plain"}, "c": {"env": {"cuda": "plain", "cpu": "built"}}}
    noted = environments.note_what_lacks(registry, files)
    said = {"built": "its environment (built) needs a C++ compiler (Debian, Ubuntu: g++)"}
    assert noted == {"a": {"env": "built", "lacks": said}, "b": {"env": "plain"}, "c": {**registry["c"], "lacks": said}}
    assert registry["a"] == {"env": "built"}


def test_the_repositorys_environments_that_are_built_are_known(monkeypatch):
    monkeypatch.setattr(environments, "find_compiler", lambda: "")
    monkeypatch.setattr(environments, "glibc", lambda: (2, 30))
    lacking = {name: environments.lacks(path) for name, path in environments.files().items()}
    assert {name for name, found in lacking.items() if any("compiler" in one for one in found)} == {"gptqmodel", "llamacpp"}
    assert {name for name, found in lacking.items() if any("glibc" in one for one in found)} == {"vllm", "vllm-cpu", "sglang"}


# Which PyTorch


@pytest.fixture
def conda(tmp_path, monkeypatch):
    """A conda on PATH, on a machine without a GPU, from which PyTorch's index can be reached."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "conda").write_text("#!/bin/sh\n")
    (tmp_path / "bin" / "conda").chmod(0o755)
    monkeypatch.setattr(uv_conda, "has_nvidia_driver", lambda: False)
    monkeypatch.setattr(uv_conda, "reachable", lambda url: True)
    return {"PATH": f"{tmp_path}/bin:/usr/bin:/bin", "HOME": str(tmp_path), "PIP_CONFIG_FILE": os.devnull}


def test_condas_pip_is_told_of_builds_for_cpus_beside_what_it_knows(conda, root, tmp_path):
    with_torch = root / "envs" / "vllm-cpu.yaml"
    assert environments.cpu_index(with_torch, conda) == uv_conda.TORCH_CPU_INDEX
    known = conda | {"PIP_EXTRA_INDEX_URL": "https://own/simple"}
    assert environments.cpu_index(with_torch, known) == f"https://own/simple {uv_conda.TORCH_CPU_INDEX}"
    (tmp_path / "pip.conf").write_text("[global]\nextra-index-url =\n  https://a\n  https://b\n")
    by_file = conda | {"PIP_CONFIG_FILE": str(tmp_path / "pip.conf")}
    assert environments.cpu_index(with_torch, by_file) == f"https://a https://b {uv_conda.TORCH_CPU_INDEX}"


@pytest.mark.parametrize("why", ["no torch", "GPU", "cuda asked for", "out of reach", "no index", "uv", "no conda", "conda's own packages"])
def test_and_of_nothing_where_that_would_be_wrong(conda, root, tmp_path, monkeypatch, why):
    file = root / "envs" / ("report.yaml" if why == "no torch" else "transformers.yaml")
    if why == "GPU":
        monkeypatch.setattr(uv_conda, "has_nvidia_driver", lambda: True)
    if why == "out of reach":
        monkeypatch.setattr(uv_conda, "reachable", lambda url: False)
    if why == "conda's own packages":
        file = tmp_path / "own.yaml"
        file.write_text("dependencies: [python=3.11, gcc, pip, {pip: [torch==2.13.0]}]")
    more = {
        "cuda asked for": {"SPEEDGRID_TORCH": "cuda"},
        "no index": {"PIP_NO_INDEX": "1"},
        "uv": {"PATH": f"{environments.FRONTEND}/bin:{conda['PATH']}"},
        "no conda": {"PATH": "/usr/bin"},
    }
    assert environments.cpu_index(file, conda | more.get(why, {})) == ""


@pytest.mark.parametrize("text", [b"", b'{"reason": "no ro', b"[]", b"{}", b"null", b'{"reason": "a", "instead": "b", "more": 1}', b"\xff"])
def test_a_note_of_a_failure_that_is_damaged_is_none(tmp_path, text):
    of = tmp_path / "env"
    environments.Failure.file(of).write_bytes(text)
    assert environments.Failure.of(of) is None
    assert environments.told_in_shell(str(of))[0] == str(of)


def test_a_note_of_a_failure_is_written_whole_or_not_at_all(tmp_path, monkeypatch):
    of, first = tmp_path / "env", environments.Failure("no room", "/envs/report")
    first.keep(of)
    assert environments.Failure.of(of) == first

    def no_room(path, text, **options):
        with open(path, "w") as file:
            file.write(text[:10])
        raise OSError("no space left on device")

    monkeypatch.setattr(type(of), "write_text", no_room)
    with pytest.raises(OSError, match="no space"):
        environments.Failure("another reason", "/envs/report").keep(of)
    assert environments.Failure.of(of) == first
    assert [path.name for path in tmp_path.iterdir()] == ["env.failed"]
