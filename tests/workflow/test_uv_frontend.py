"""The uv frontend makes the environments that Snakemake asks of conda. Nothing is imitated: uv makes them, and jobs run in them."""

import contextlib
import http.server
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from functools import partial
from pathlib import Path

import pytest
import uv_conda
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pip_settings import uv_environment, uv_flags
from working_copy import copy_to

PYTHON = f"{sys.version_info.major}.{sys.version_info.minor}"  # one that is surely on this machine
SLOW_PINS = ["numpy==2.2.6"]  # long enough in the making to be interrupted


@pytest.fixture
def frontend(root):
    return root / "envs" / "uv-frontend"


@pytest.fixture
def place(tmp_path):
    """A folder for environments, with a space in its path."""
    folder = tmp_path / "my envs"
    folder.mkdir()
    return folder


def environment_file(path, *pins, python=PYTHON, conda=()):
    content = {"channels": ["conda-forge"], "dependencies": [f"python={python}", *conda, "pip", {"pip": list(pins)}]}
    path.write_text(yaml.safe_dump(content))
    return path


def variables(**more):
    return os.environ | {"SPEEDGRID_PYTHON": sys.executable} | more


def conda(frontend, *arguments, **more):
    command = [frontend / "bin" / "conda", *arguments]
    return subprocess.run(command, env=variables(**more), capture_output=True, text=True)


def create(frontend, file, prefix, **more):
    return conda(frontend, "env", "create", "--quiet", "--no-default-packages", "--file", file, "--prefix", prefix, **more)


def start_create(frontend, file, prefix):
    command = [frontend / "bin" / "conda", "env", "create", "--file", file, "--prefix", prefix]
    return subprocess.Popen(command, env=variables(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True)


def in_environment(frontend, prefix, command):
    script = f"set -euo pipefail; source {uv_conda.info()['conda_prefix']}/bin/activate '{prefix}'; {command}"
    return subprocess.run(["bash", "-c", script], capture_output=True, text=True)


def environments(place):
    return sorted(path.name for path in place.iterdir() if path.is_dir())


def wait_for(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


# What Snakemake asks before it starts


def test_answers_to_snakemake(frontend):
    info = json.loads(conda(frontend, "info", "--json").stdout)
    assert re.fullmatch(r"(linux|osx)-(64|aarch64|arm64)", info["platform"])
    assert len(re.findall(r"\d+\.\d+\.\d+", conda(frontend, "--version").stdout)) == 1
    asked = conda(frontend, "config", "--get", "channel_priority", "--json")
    assert json.loads(asked.stdout)["get"]["channel_priority"] == "strict"
    assert conda(frontend, "clean", "-y", "--tarballs").returncode == 0


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["install", "gcc"], "'conda install gcc' is not served"),
        ([], "'conda' is not served"),
        (["config", "--set", "channel_priority", "strict"], "is not served"),
        (["list", "--explicit", "--prefix", "/x"], "'conda list': archives and .pin.txt files need conda itself"),
        (["create", "--file", "x.pin.txt", "--prefix", "/x"], "'conda create': archives and .pin.txt files need conda itself"),
        (["env", "create", "--file", "x.yaml", "--name", "x"], "'--name' is not served"),
        (["env", "create", "--file", "x.yaml"], "needs --file FILE --prefix FOLDER"),
        (["env", "create", "--file"], "expected one argument"),
    ],
)
def test_whatever_else_is_refused_in_one_line(frontend, arguments, answer):
    done = conda(frontend, *arguments)
    assert done.returncode == 1
    assert answer in done.stderr
    assert done.stderr.startswith("uv frontend: ")
    assert done.stderr.count("\n") == 1


# Environment files


@pytest.mark.parametrize(
    ("spec", "name", "version"),
    [
        ("python=3.11", "python", "==3.11.*"),
        ("python = 3.11", "python", "==3.11.*"),
        ("python==3.11.7", "python", "==3.11.7"),
        ("conda-forge::python=3.11.*", "python", "==3.11.*"),
        ("python>=3.11,<3.13", "python", ">=3.11,<3.13"),
        ("pip", "pip", ""),
        ("pip>=24", "pip", ">=24"),
        ("python=3.11=hab00c5b_0_cpython", "python=3.11=hab00c5b_0_cpython", ""),
        ("python[version='3.11']", "python[version='3.11']", ""),
    ],
)
def test_conda_specs(spec, name, version):
    assert uv_conda.split_conda_spec(spec) == (name, version)


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        (
            "dependencies: [python=3.11, pip, {pip: [six==1.17.0]}, cuda-nvcc=12.4, gcc]",
            "without conda: cuda-nvcc=12.4, gcc. Install conda",
        ),
        ("dependencies: [python=3.11=h1_0_cpython]", "without conda: python=3.11=h1_0_cpython"),
        ("dependencies: [pip, {pip: [six==1.17.0]}]", "names no Python"),
        ("dependencies: [python=3.11]\nvariables: {A: b}", "key 'variables' cannot be honoured"),
        ("dependencies: python=3.11", "needs a list 'dependencies'"),
        ("- python=3.11", "needs a list 'dependencies'"),
        ("dependencies: [python", "not valid YAML"),
    ],
)
def test_files_that_cannot_be_honoured_are_refused_by_name(frontend, place, tmp_path, text, answer):
    file = tmp_path / "e.yaml"
    file.write_text(text)
    done = create(frontend, file, place / "e")
    assert done.returncode == 1
    assert done.stderr.startswith(f"uv frontend: {file}: ")
    assert answer in done.stderr
    assert done.stderr.count("\n") == 1
    assert environments(place) == []


# What a shell, pip or uv could take for more than the name of a package.
SHARP = st.text(alphabet="abc012=;$`&|><'\"\\ \n\t(){}*?#~!-/.@[]", min_size=1, max_size=30)


@given(pins=st.lists(SHARP, max_size=4), python=st.sampled_from([PYTHON, "3.11"]) | SHARP, conda=st.lists(SHARP, max_size=2))
@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_a_file_says_reaches_no_command_but_the_installers_own_list(monkeypatch, tmp_path_factory, pins, python, conda):
    """However a file is written, what is started is uv, and the Python that uv found, with arguments of ours alone and no shell."""
    folder = tmp_path_factory.mktemp("sharp")
    started, lists = [], []

    class Process:
        returncode = 0

        def __init__(self, command, **how):
            started.append([str(part) for part in command])
            assert not how.get("shell")
            if "venv" in command:
                Path(next(part for part in command if str(part).startswith(str(folder)))).mkdir(exist_ok=True)
            if "--requirements" in command:
                lists.append(Path(command[command.index("--requirements") + 1]).read_text())

        def __enter__(self):
            return self

        def __exit__(self, *error):
            pass

        def communicate(self):
            return sys.executable + "\n", ""

    def run(command, **how):
        with Process(command, **how):
            return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(uv_conda.subprocess, "Popen", Process)
    monkeypatch.setattr(uv_conda.subprocess, "run", run)
    monkeypatch.setattr(uv_conda, "wants_cpu_index", lambda *told: False)
    file = environment_file(folder / "sharp.yaml", *pins, python=python, conda=conda)
    with contextlib.suppress(uv_conda.Refusal):
        uv_conda.create_environment(file, folder / "env")
    uv, plain = uv_conda.uv_executable(), re.compile(r"(([<>=!~]=?)[\d.]+(\.\*)?,?)+|>=3")
    for command in started:
        assert command[0] in (uv, sys.executable)
        ours = {
            "pip",
            "install",
            "--quiet",
            "--compile-bytecode",
            "--python",
            "--requirements",
            "venv",
            "--relocatable",
            "--no-project",
            "--clear",
        }
        ours |= {"--managed-python", "python", "find", "--system", "-c", *uv_flags(os.environ)}
        told = [part for part in command[1:] if part not in ours and not part.startswith((str(folder), tempfile.gettempdir(), "import "))]
        assert all(plain.fullmatch(part) for part in told), command
    # What is asked of pip stands in a list that uv reads, as it was written.
    for found in lists:
        assert found == "\n".join(uv_conda.read_recipe(file)[1]) + "\n"


def test_a_missing_file(frontend, place):
    done = create(frontend, place / "none.yaml", place / "e")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert "none.yaml: cannot be read" in done.stderr


def test_the_environments_of_the_repository_are_pinned_exactly(root):
    for path in (root / "envs").glob("*.yaml"):
        python, for_pip = uv_conda.read_recipe(path)
        assert python in ("==3.11.*", "==3.12.*")
        assert "pip" in for_pip
        pins = [line for line in for_pip if line != "pip" and not line.startswith("-")]
        assert [pin for pin in pins if not re.fullmatch(r"[a-z0-9.-]+(\[[a-z0-9,-]+\])?==[\w.+!]+", pin)] == []


# Making environments


@pytest.mark.needs("network")
def test_an_environment_and_its_activation_where_paths_have_spaces(frontend, place, tmp_path):
    prefix = place / "six"
    done = create(frontend, environment_file(tmp_path / "e.yaml", "six==1.16.0"), prefix)
    assert done.returncode == 0, done.stderr
    assert environments(place) == ["six"]
    version = in_environment(frontend, prefix, "python -c 'import six, sys; print(six.__version__, sys.prefix)'")
    assert version.stdout == f"1.16.0 {prefix}\n"
    assert in_environment(frontend, prefix, 'command -v python; echo "$CONDA_PREFIX"').stdout == f"{prefix}/bin/python\n{prefix}\n"
    assert (prefix / "conda-meta").is_dir()  # else conda's own activation refuses it
    # Scripts of packages work too: they were written when the environment still had another path.
    assert f"from {prefix}" in in_environment(frontend, prefix, "pip --version").stdout


@pytest.mark.parametrize("left", ["nothing", "a Python that is gone"])
def test_a_failed_activation_ends_the_shell_that_snakemake_would_let_go_on(place, left):
    """Snakemake writes `source …/activate ENV; set -euo pipefail; COMMAND`: without an end the command would run in another Python."""
    if left != "nothing":
        (place / "none" / "bin").mkdir(parents=True)
        (place / "none" / "bin" / "python").symlink_to("/nowhere/python")
    script = f"source {uv_conda.info()['conda_prefix']}/bin/activate '{place}/none'; set -euo pipefail; echo never"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert done.returncode == 1
    assert done.stdout == ""
    told = f"activate: there is no environment at '{place}/none', or its Python is gone; run Snakemake again with --use-conda to make it\n"
    assert done.stderr == told


def test_what_condas_packages_set_is_set_by_our_activation_too(frontend, place):
    made_by_conda = place / "conda's"
    scripts = made_by_conda / "etc" / "conda" / "activate.d"
    scripts.mkdir(parents=True)
    (made_by_conda / "bin").mkdir()
    (made_by_conda / "bin" / "python").symlink_to(sys.executable)
    (scripts / "certificates.sh").write_text('export SSL_CERT_FILE="$CONDA_PREFIX/ssl/cacert.pem"\n')
    script = f'source {uv_conda.info()["conda_prefix"]}/bin/activate "{made_by_conda}"; set -euo pipefail; echo "$SSL_CERT_FILE"'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == (f"{made_by_conda}/ssl/cacert.pem\n", "")


@pytest.mark.needs("network")
def test_a_failing_pin_leaves_nothing_and_shows_why(frontend, place, tmp_path):
    done = create(frontend, environment_file(tmp_path / "e.yaml", "six==99.1"), place / "e")
    assert done.returncode == 1
    assert "there is no version of six==99.1" in done.stderr
    assert environments(place) == []


def test_a_python_that_cannot_be_had(frontend, place, tmp_path):
    file = environment_file(tmp_path / "e.yaml", python="3.11.0.1")
    done = create(frontend, file, place / "e", UV_PYTHON_DOWNLOADS="never")
    assert done.returncode == 1
    assert "needs Python 3.11.0.1, which is not on this machine" in done.stderr
    assert environments(place) == []


@pytest.mark.needs("network")
def test_an_environment_is_made_once(frontend, place, tmp_path):
    file = environment_file(tmp_path / "e.yaml", "six==1.16.0")
    assert create(frontend, file, place / "e").returncode == 0
    made = (place / "e").stat().st_ino
    assert create(frontend, file, place / "e").returncode == 0
    assert (place / "e").stat().st_ino == made
    other = environment_file(tmp_path / "other.yaml", "six==1.17.0")
    done = create(frontend, other, place / "e")
    assert done.returncode == 1
    assert "exists and was not made from" in done.stderr


@pytest.mark.needs("network")
def test_two_creations_at_once(frontend, place, tmp_path):
    file = environment_file(tmp_path / "e.yaml", *SLOW_PINS)
    both = [start_create(frontend, file, place / "e") for _ in range(2)]
    outputs = [process.communicate()[0].decode() for process in both]
    assert [process.returncode for process in both] == [0, 0], outputs
    assert environments(place) == ["e"]
    assert in_environment(frontend, place / "e", "python -c 'import numpy'").returncode == 0


@pytest.mark.needs("network")
@pytest.mark.parametrize("stop", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_creation_clears_away(frontend, place, tmp_path, stop):
    process = start_create(frontend, environment_file(tmp_path / "e.yaml", *SLOW_PINS), place / "e")
    wait_for((place / "e.creating").exists)
    process.send_signal(stop)
    process.communicate()
    assert process.returncode == 128 + stop
    assert environments(place) == []


@pytest.mark.needs("network")
@pytest.mark.parametrize("whom", ["the frontend alone", "uv too"])
def test_what_a_killed_creation_left_is_cleared_by_the_next(frontend, place, tmp_path, whom):
    file = environment_file(tmp_path / "e.yaml", *SLOW_PINS)
    process = start_create(frontend, file, place / "e")
    wait_for((place / "e.creating" / "pyvenv.cfg").exists)
    (os.killpg if whom == "uv too" else os.kill)(process.pid, signal.SIGKILL)
    process.wait()
    assert environments(place) == ["e.creating"]
    (place / "e.creating" / "left-behind").touch()
    done = create(frontend, file, place / "e")
    assert done.returncode == 0, done.stderr
    assert environments(place) == ["e"]
    assert not (place / "e" / "left-behind").exists()
    assert in_environment(frontend, place / "e", "python -c 'import numpy'").returncode == 0


# Where packages come from


def make_wheel(folder, name, version, code=""):
    """The smallest wheel: one module."""
    info = f"{name}-{version}.dist-info"
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        wheel.writestr(f"{name}.py", code or f"version = {version!r}\n")
        wheel.writestr(f"{info}/METADATA", f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n")
        wheel.writestr(f"{info}/WHEEL", "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        wheel.writestr(f"{info}/RECORD", "")
    return path


@pytest.fixture
def serve(tmp_path):
    """Serves folders, one per package, as a package index; gives its address."""
    servers = []

    def start(folder):
        handler = partial(QuietHandler, directory=folder)
        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield start
    for server in servers:
        server.shutdown()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


def without_pip_settings():
    names = [n for n in os.environ if n.startswith(("PIP_", "UV_"))]
    return {name: "" for name in names if name != "UV_CACHE_DIR"} | {"PIP_CONFIG_FILE": os.devnull}


@pytest.fixture
def offline_file(tmp_path):
    """An environment file for one package of our own, without `pip`, which would come from the real index."""
    file = tmp_path / "own.yaml"
    file.write_text(yaml.safe_dump({"dependencies": [f"python={PYTHON}", {"pip": ["speedgrid_probe==1.0"]}]}))
    return file


def probe_version(frontend, prefix):
    return in_environment(frontend, prefix, "python -c 'import speedgrid_probe; print(speedgrid_probe.version)'").stdout.strip()


def test_a_folder_of_wheels_and_no_index_by_pip_variables(frontend, place, tmp_path, offline_file):
    make_wheel(tmp_path / "wheels", "speedgrid_probe", "1.0")
    more = {"PIP_FIND_LINKS": f"{tmp_path}/wheels {tmp_path}/missing", "PIP_NO_INDEX": "1"}
    done = create(frontend, offline_file, place / "e", **without_pip_settings() | more)
    assert done.returncode == 0, done.stderr
    assert probe_version(frontend, place / "e") == "1.0"


def test_an_index_by_pips_configuration_file(frontend, place, tmp_path, offline_file, serve):
    make_wheel(tmp_path / "index" / "speedgrid-probe", "speedgrid_probe", "1.0")
    (tmp_path / "pip.conf").write_text(f"[global]\nindex-url = {serve(tmp_path / 'index')}\n")
    done = create(frontend, offline_file, place / "e", **without_pip_settings() | {"PIP_CONFIG_FILE": str(tmp_path / "pip.conf")})
    assert done.returncode == 0, done.stderr
    assert probe_version(frontend, place / "e") == "1.0"


def test_options_of_pip_in_the_file(frontend, place, tmp_path, offline_file, serve):
    make_wheel(tmp_path / "main" / "speedgrid-probe", "speedgrid_probe", "0.9")
    make_wheel(tmp_path / "extra" / "speedgrid-probe", "speedgrid_probe", "1.0")
    recipe = yaml.safe_load(offline_file.read_text())
    recipe["dependencies"][-1]["pip"].insert(0, f"--extra-index-url {serve(tmp_path / 'extra')}")
    offline_file.write_text(yaml.safe_dump(recipe))
    done = create(frontend, offline_file, place / "e", **without_pip_settings() | {"PIP_INDEX_URL": serve(tmp_path / "main")})
    assert done.returncode == 0, done.stderr  # the main index has the name, but not the version
    assert probe_version(frontend, place / "e") == "1.0"


def test_pip_settings_in_uvs_words(tmp_path):
    lines = ["[global]", "index-url = https://a/simple", "extra_index_url =", "  https://b", "  https://c", "[install]", "no-index = yes"]
    (tmp_path / "pip.conf").write_text("\n".join(lines))
    said = {"PIP_CONFIG_FILE": str(tmp_path / "pip.conf"), "HOME": str(tmp_path), "XDG_CONFIG_DIRS": str(tmp_path)}
    known = uv_environment(said | {"PIP_CERT": "/ca.pem", "PIP_TRUSTED_HOST": "d e"})
    assert known["UV_DEFAULT_INDEX"] == "https://a/simple"
    assert known["UV_INDEX"] == "https://b https://c"
    assert known["UV_INDEX_STRATEGY"] == "unsafe-best-match"
    assert known["SSL_CERT_FILE"] == "/ca.pem"
    assert known["UV_INSECURE_HOST"] == "d e"
    assert uv_flags(said) == ["--no-index"]
    assert uv_environment(said | {"PIP_INDEX_URL": "https://z"})["UV_DEFAULT_INDEX"] == "https://z"


def test_what_uv_was_told_stands():
    said = {"PIP_CONFIG_FILE": os.devnull, "PIP_INDEX_URL": "https://pip", "PIP_EXTRA_INDEX_URL": "https://more"}
    known = uv_environment(said | {"UV_INDEX_URL": "https://uv", "UV_INDEX": "https://uv-more"})
    assert "UV_DEFAULT_INDEX" not in known
    assert known["UV_INDEX"] == "https://uv-more"
    assert uv_environment({"PIP_CONFIG_FILE": os.devnull}) == {"PIP_CONFIG_FILE": os.devnull}


# Which torch


def test_a_local_cpu_build_of_torch_is_taken_and_marked(frontend, place, tmp_path):
    for version in ("9.9", "9.9+cpu"):
        make_wheel(tmp_path / "wheels", "torch", version)
    file = tmp_path / "e.yaml"
    file.write_text(yaml.safe_dump({"dependencies": [f"python={PYTHON}", {"pip": ["torch==9.9"]}]}))
    more = {"PIP_FIND_LINKS": str(tmp_path / "wheels"), "PIP_NO_INDEX": "1", "SPEEDGRID_TORCH": "cpu"}
    done = create(frontend, file, place / "e", **without_pip_settings() | more)
    assert done.returncode == 0, done.stderr
    assert in_environment(frontend, place / "e", "python -c 'import torch; print(torch.version)'").stdout == "9.9+cpu\n"
    assert (place / "e" / uv_conda.TORCH_IS_CPU_BUILD).exists()


def test_who_decides_between_cpu_and_cuda():
    assert uv_conda.wants_cpu_torch({"SPEEDGRID_TORCH": "cpu"})
    assert not uv_conda.wants_cpu_torch({"SPEEDGRID_TORCH": "cuda"})
    assert uv_conda.wants_cpu_torch({}) is not uv_conda.has_nvidia_driver()
    with pytest.raises(uv_conda.Refusal, match="SPEEDGRID_TORCH is 'rocm'; it may be 'cpu' or 'cuda'"):
        uv_conda.wants_cpu_torch({"SPEEDGRID_TORCH": "rocm"})


def test_pytorchs_own_index_is_only_asked_for_torch():
    cpu = {"SPEEDGRID_TORCH": "cpu"}
    assert not uv_conda.wants_cpu_index(["six==1.17.0", "torchmetrics==1.0"], cpu)
    assert not uv_conda.wants_cpu_index(["torch==2.13.0"], cpu | {"UV_TORCH_BACKEND": "cu130"})
    assert not uv_conda.wants_cpu_index(["torch==2.13.0"], {"SPEEDGRID_TORCH": "cuda"})
    assert uv_conda.wants_cpu_index(["torch==2.13.0"], cpu) is uv_conda.reachable(uv_conda.TORCH_CPU_INDEX)


# With Snakemake

SNAKEFILE = """
rule all:
    input: "old.txt", "new.txt"

rule old:
    output: "old.txt"
    log: "old.log"
    conda: "old.yaml"
    shell: "python -c 'import six; print(six.__version__)' > {output} 2> {log}"

rule new:
    output: "new.txt"
    log: "new.log"
    conda: "new.yaml"
    shell: "python -c 'import six; print(six.__version__)' > {output} 2> {log}"
"""


@pytest.fixture
def workflow(tmp_path):
    folder = tmp_path / "a workflow"
    folder.mkdir()
    (folder / "Snakefile").write_text(SNAKEFILE)
    environment_file(folder / "old.yaml", "six==1.16.0")
    environment_file(folder / "new.yaml", "six==1.17.0")
    return folder


def start_snakemake(frontend, workflow, place, *arguments):
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--use-conda", "--conda-prefix", place, *arguments]
    path = f"{frontend / 'bin'}{os.pathsep}{os.environ['PATH']}"
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=workflow, env=variables(PATH=path), start_new_session=True, **streams)


def snakemake(*arguments):
    process = start_snakemake(*arguments)
    output = process.communicate()[0]
    return process.returncode, output


@pytest.mark.slow
@pytest.mark.needs("network")
def test_two_stacks_in_two_environments(frontend, workflow, place, tmp_path):
    copied = tmp_path / "front end" / "uv-frontend"  # Snakemake does not quote the path of `activate`
    shutil.copytree(frontend, copied)
    code, output = snakemake(copied, workflow, place)
    assert code == 0, output
    assert (workflow / "old.txt").read_text() == "1.16.0\n"
    assert (workflow / "new.txt").read_text() == "1.17.0\n"
    assert len(environments(place)) == 2

    code, output = snakemake(copied, workflow, place)
    assert code == 0
    assert "Nothing to be done" in output

    environment_file(workflow / "new.yaml", "six==1.15.0")
    code, output = snakemake(copied, workflow, place)
    assert code == 0, output
    assert (workflow / "old.txt").read_text() == "1.16.0\n"
    assert (workflow / "new.txt").read_text() == "1.15.0\n"
    assert len(environments(place)) == 3


@pytest.mark.slow
@pytest.mark.needs("network")
def test_snakemake_shows_why_a_pin_fails(frontend, workflow, place):
    environment_file(workflow / "new.yaml", "six==99.1")
    code, output = snakemake(frontend, workflow, place, "new.txt")
    assert code == 1
    assert "there is no version of six==99.1" in output
    assert environments(place) == []


@pytest.fixture
def looked_after(root, workflow):
    """The workflow, whose environments and jobs are looked after as those of a study are."""
    path = f"import sys\nsys.path.insert(0, {str(root / 'scripts')!r})\n"
    (workflow / "Snakefile").write_text(path + "from speedgrid import snakemake_seam\nsnakemake_seam.look_after(workflow)\n" + SNAKEFILE)
    return workflow


@pytest.mark.slow
@pytest.mark.needs("network")
def test_two_runs_at_once_share_their_environments(frontend, looked_after, place, tmp_path):
    other = tmp_path / "a second clone"
    shutil.copytree(looked_after, other)
    both = [start_snakemake(frontend, folder, place) for folder in (looked_after, other)]
    outputs = [process.communicate()[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], "\n".join(outputs)
    assert len(environments(place)) == 2


@pytest.mark.slow
@pytest.mark.needs("network")
def test_what_follows_a_deployment_is_waited_for(frontend, looked_after, place, tmp_path):
    """It is made once, with what follows: in the time that takes, the other run would find it incomplete and delete it."""
    deployed, go_on = tmp_path / "deployed", tmp_path / "go on"
    waits = f'for second in $(seq 60); do test -e "{go_on}" && break; sleep 1; done'
    steps = ["#!bash", f"echo begins >> {deployed}", waits, 'touch "$CONDA_PREFIX/deployed"', f"echo ends >> {deployed}"]
    (looked_after / "new.post-deploy.sh").write_text("\n".join(steps))
    other = tmp_path / "a second clone"
    shutil.copytree(looked_after, other)
    first = start_snakemake(frontend, looked_after, place, "new.txt")
    wait_for(deployed.exists)
    second = start_snakemake(frontend, other, place, "new.txt")
    said = ""
    while "Waiting for another run that makes conda environment" not in said:
        line = second.stdout.readline()
        assert line, f"the second run waited for nothing:\n{said}"
        said += line
    go_on.touch()
    outputs = [process.communicate()[0] for process in (first, second)]
    assert [first.returncode, second.returncode] == [0, 0], "\n".join(outputs)
    assert deployed.read_text().splitlines() == ["begins", "ends"]
    assert [(place / name / "deployed").exists() for name in environments(place)] == [True]
    assert (other / "new.txt").read_text() == "1.17.0\n"


@pytest.mark.slow
@pytest.mark.needs("network")
def test_an_environment_whose_python_is_gone_is_made_again(frontend, looked_after, place):
    """As an upgrade of the distribution leaves it; and nothing that ran in another Python stands as a result."""
    code, output = snakemake(frontend, looked_after, place, "new.txt")
    assert code == 0, output
    (made,) = environments(place)
    python = place / made / "bin" / "python"
    python.unlink()
    python.symlink_to("/usr/bin/python3.0")
    (looked_after / "new.txt").unlink()
    code, output = snakemake(frontend, looked_after, place, "--dry-run", "new.txt")
    assert code == 0, output
    assert python.is_symlink()  # a dry run makes nothing, and deletes nothing
    code, output = snakemake(frontend, looked_after, place, "new.txt")
    assert code == 0, output
    assert output.count("is gone or of another version; it is made again") == 1
    assert (looked_after / "new.txt").read_text() == "1.17.0\n"


@pytest.mark.slow
@pytest.mark.needs("network")
def test_a_job_whose_environment_is_not_activated_fails_and_runs_once_it_is(frontend, looked_after, place, tmp_path):
    """Conda's activation of a folder that is no environment to it returns an error, and Snakemake's line goes on."""
    refusing = tmp_path / "refusing" / "uv-frontend"
    shutil.copytree(frontend, refusing)
    (refusing / "bin" / "activate").write_text("echo EnvironmentLocationNotFound >&2\nreturn 1\n")
    code, output = snakemake(refusing, looked_after, place, "new.txt")
    assert code == 1
    (made,) = environments(place)
    (told,) = [line for line in output.splitlines() if line.startswith("speedgrid: this job is for the Python of ")]
    gave = f"its activation gave {shutil.which('python')}; delete that folder and run again"
    assert told == f"speedgrid: this job is for the Python of {place / made}, and {gave}"
    assert not (looked_after / "new.txt").exists()
    code, output = snakemake(frontend, looked_after, place, "new.txt")
    assert code == 0, output
    assert (looked_after / "new.txt").read_text() == "1.17.0\n"


@pytest.mark.slow
@pytest.mark.needs("network")
def test_an_environment_that_cannot_be_made_stops_its_own_jobs_alone(frontend, looked_after, place):
    """They run in that of the report, told why; and in their own as soon as it can be made."""
    environment_file(looked_after / "new.yaml", "six==99.1")
    environment_file(looked_after / "report.yaml", "six==1.15.0")
    shell = "python -c 'import six; print(six.__version__)' > {output} 2> {log}; echo ${{SPEEDGRID_NO_ENVIRONMENT:-none}} >> {output}"
    snakefile = (looked_after / "Snakefile").read_text()
    snakefile = snakefile.replace("python -c 'import six; print(six.__version__)' > {output} 2> {log}", shell)
    snakefile = snakefile.replace('input: "old.txt", "new.txt"', 'input: "old.txt", "new.txt"\n    conda: "report.yaml"\n    shell: "true"')
    (looked_after / "Snakefile").write_text(snakefile)
    code, output = snakemake(frontend, looked_after, place, "--conda-create-envs-only")
    assert code == 1
    assert "Could not make new.yaml; the reasons are above, and all others are made." in output
    code, output = snakemake(frontend, looked_after, place)
    assert code == 0, output
    assert "there is no version of six==99.1" in output
    assert (looked_after / "old.txt").read_text() == "1.16.0\nnone\n"
    ran_in, told = (looked_after / "new.txt").read_text().splitlines()
    assert ran_in == "1.15.0"
    assert told.startswith("the environment new.yaml could not be made: uv frontend: the packages could not be installed.")
    environment_file(looked_after / "new.yaml", "six==1.17.0")
    code, output = snakemake(frontend, looked_after, place)
    assert code == 0, output
    assert (looked_after / "new.txt").read_text() == "1.17.0\nnone\n"


@pytest.mark.slow
@pytest.mark.needs("network")
def test_jobs_speak_utf8_and_see_nothing_of_the_users_own_packages(frontend, looked_after, place, tmp_path):
    """Also where Snakemake is started by hand, with a locale of the last century and a module on Python's path."""
    (tmp_path / "six.py").write_text("__version__ = 'of elsewhere'\n")
    shell = "python -c 'import os, six, sys; print(six.__version__, sys.flags.utf8_mode, sys.flags.no_user_site)' > {output} 2> {log}"
    snakefile = (looked_after / "Snakefile").read_text()
    (looked_after / "Snakefile").write_text(snakefile.replace("python -c 'import six; print(six.__version__)' > {output} 2> {log}", shell))
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--use-conda", "--conda-prefix", place, "new.txt"]
    path = f"{frontend / 'bin'}{os.pathsep}{os.environ['PATH']}"
    more = {"LC_ALL": "POSIX", "PYTHONHOME": "", "PYTHONNOUSERSITE": "", "PYTHONUTF8": "", "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command, cwd=looked_after, env=variables(PATH=path) | more, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert (looked_after / "new.txt").read_text() == "1.17.0 1 1\n"


@pytest.mark.slow
def test_an_image_of_environments_that_a_script_finishes_is_refused_in_one_line(frontend, place, tmp_path):
    """Snakemake leaves the scripts out of the Dockerfile that it writes."""
    project = copy_to(tmp_path / "a clone")
    study = yaml.safe_load((project / "tests" / "studies" / "tiny.yaml").read_text())
    study["experiments"] = {"generate": study["experiments"]["generate"] | {"techniques": ["baseline", "gguf_f16"], "exclude": []}}
    (project / "own.yaml").write_text(yaml.safe_dump(study))
    code, output = snakemake(frontend, project, place, "--containerize", "--configfile", "own.yaml")
    assert code == 1
    (told,) = [line for line in output.splitlines() if "--containerize leaves out" in line]
    assert "envs/llamacpp.post-deploy.sh, without which these environments do not work: name a study without techniques of them" in told
    assert "RUN" not in output
    # The default study has a technique of llama.cpp, which a script finishes.
    code, output = snakemake(frontend, project, place, "--containerize", "--configfile", "studies/trained.yaml")
    assert code == 0
    assert "\nRUN conda env create --prefix" in output


@pytest.mark.slow
@pytest.mark.needs("network")
def test_runs_of_a_study_take_turns(frontend, place, tmp_path):
    """A run leaves the file that it held while it made an environment; nothing is deleted that another may hold."""
    project = copy_to(tmp_path / "a clone")
    for script in project.glob("envs/*.post-deploy.sh"):
        script.unlink()
    for file in project.glob("envs/*.yaml"):
        environment_file(file, "six==1.17.0")
    code, output = snakemake(frontend, project, place, "--conda-create-envs-only", "--configfile", "tests/studies/tiny.yaml")
    assert code == 0, output
    (made,) = environments(place)
    assert (place / f"{made}.making").exists()


@pytest.mark.slow
@pytest.mark.needs("network")
def test_a_run_that_was_killed_while_it_made_an_environment(frontend, workflow, place):
    environment_file(workflow / "new.yaml", "six==1.17.0", *SLOW_PINS)
    process = start_snakemake(frontend, workflow, place, "new.txt")
    wait_for(lambda: any(place.glob("*.creating/pyvenv.cfg")))
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    code, output = snakemake(frontend, workflow, place, "--nolock", "new.txt")
    assert code == 0, output
    assert (workflow / "new.txt").read_text() == "1.17.0\n"
    assert not any(place.glob("*.creating"))
