"""The doctor's judgement of a machine, from given facts; and one examination of the machine at hand."""

import functools
import subprocess
import sys
import threading
from dataclasses import replace
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml
from speedgrid import hub, survey
from speedgrid.hardware import Gpu
from speedgrid.readiness import Facts, machine_rows, slurm_rows, study_problems, technique_rows

import studies

H200 = Gpu("NVIDIA H200", "GPU-1", "580.159.04", 150 * 10**9, "9.0")
LAPTOP = Facts(
    cpu="A processor",
    cores=2,
    memory=16 * 10**9,
    memory_free=8 * 10**9,
    disk_repository=50 * 10**9,
    disk_environments=50 * 10**9,
    environments="/cache",
    frontend="uv (no conda was found)",
    python="/usr/bin/python3.11, with its C headers",
    compiler="/usr/bin/g++: g++ 12",
    index="https://index.example/simple",
    index_reachable=True,
    hub="https://hub.example",
    hub_reachable=True,
    makeable=frozenset({"transformers", "report"}),
)
REGISTRY = {
    "plain": {"env": "transformers"},
    "compiled": {"env": "transformers", "requires": ["compiler"]},
    "on_gpu": {"env": "transformers", "requires": ["cuda"]},
    "fp8": {"env": "transformers", "requires": ["cuda", "sm89"]},
    "either": {"env": {"cuda": "transformers", "cpu": "report"}},
    "nowhere": {"env": "nothing", "unavailable": "nobody builds it"},
    "elsewhere": {"env": "vllm"},
    "broken": None,
}
STUDY = {"models": {"m": {"train": {}}}, "experiments": {"e": {"baseline": "plain", "techniques": ["plain"]}}}


def verdicts(facts):
    return dict(technique_rows(REGISTRY, facts))


def test_a_driver_that_names_no_gpu_is_said_where_the_gpus_stand():
    rows = dict(machine_rows(replace(LAPTOP, gpu_fault="Driver/library version mismatch")))
    assert rows["GPU"] == "none that can be used: Driver/library version mismatch"
    assert dict(machine_rows(LAPTOP))["GPU"] == "none that an NVIDIA driver knows; techniques run on the CPU"


def test_a_laptop_without_a_gpu():
    found = verdicts(LAPTOP)
    assert found["plain"] == "ready (the first run makes the environment 'transformers')"
    assert found["compiled"].startswith("ready")
    assert found["on_gpu"] == "needs an NVIDIA GPU"
    assert found["fp8"] == "needs an NVIDIA GPU"
    assert found["either"] == "ready (the first run makes the environment 'report')"
    assert found["nowhere"] == "needs something that is not available: nobody builds it"
    assert found["elsewhere"] == "needs the file envs/vllm.yaml"
    assert found["broken"].startswith("needs a correct entry in techniques.yaml")


def test_an_environment_that_is_there_needs_no_index():
    made = replace(LAPTOP, made=frozenset({"transformers"}), index_reachable=False)
    assert verdicts(made)["plain"] == "ready"
    assert verdicts(replace(made, made=frozenset()))["plain"].startswith("needs a package index")


@pytest.mark.parametrize(
    ("change", "lacking"),
    [
        ({"compiler": ""}, "needs a C++ compiler (Debian, Ubuntu: g++)"),
        ({"python_headers": False}, "needs Python.h (Debian, Ubuntu: python3-dev)"),
        ({"disk_environments": 10**9}, "needs 3.0 GB of disk in /cache, to make its environment"),
    ],
)
def test_what_compilation_needs(change, lacking):
    assert verdicts(replace(LAPTOP, **change))["compiled"] == lacking


def test_a_kernel_that_nvcc_builds_needs_the_cuda_toolkit(tmp_path, monkeypatch):
    registry = {"marlin": {"env": "transformers", "requires": ["cuda", "nvcc"]}}
    rented = replace(LAPTOP, gpus=[H200])
    lacks = "needs nvcc of the CUDA toolkit, on the PATH or below CUDA_HOME"
    assert dict(technique_rows(registry, rented))["marlin"] == lacks
    assert dict(technique_rows(registry, replace(rented, nvcc="/usr/local/cuda/bin/nvcc")))["marlin"].startswith("ready")
    # As PyTorch looks for it: a folder that is named is the only one.
    (tmp_path / "bin").mkdir()
    nvcc = tmp_path / "bin/nvcc"
    nvcc.touch(mode=0o755)
    monkeypatch.setenv("PATH", str(nvcc.parent))
    assert survey.find_nvcc({}) == str(nvcc)
    monkeypatch.setenv("PATH", "")
    assert survey.find_nvcc({"CUDA_HOME": str(tmp_path)}) == str(nvcc)
    monkeypatch.setenv("PATH", str(nvcc.parent))
    assert survey.find_nvcc({"CUDA_HOME": str(tmp_path / "other")}) == ""


def test_what_an_environment_is_built_with_and_for():
    """A technique whose packages are built when its environment is made, or whose checkpoint comes from such an environment."""
    lacking = {"transformers": ["a C++ compiler (Debian, Ubuntu: g++)", "glibc 2.31 or newer (this system has 2.28)"]}
    without = replace(LAPTOP, lacking=lacking, compiler="")
    found = dict(
        technique_rows({**REGISTRY, "borrows": {"env": "report", "checkpoint": "cut"}, "cut": {"env": "report", "from": "plain"}}, without)
    )
    said = "needs a C++ compiler (Debian, Ubuntu: g++), glibc 2.31 or newer (this system has 2.28)"
    assert {found[name] for name in ("plain", "compiled", "borrows", "cut")} == {said}
    assert found["either"].startswith("ready")
    assert study_problems(STUDY, REGISTRY, without)[0] == "experiments.e: its baseline 'plain' needs a C++ compiler (Debian, Ubuntu: g++)"


def test_a_circle_of_checkpoints_has_an_end():
    circle = {"a": {"env": "report", "from": "b"}, "b": {"env": "report", "from": "a"}}
    assert [text[:5] for _, text in technique_rows(circle, LAPTOP)] == ["ready", "ready"]


def test_a_machine_with_another_python_and_no_way_to_one_for_jobs():
    without = replace(LAPTOP, python="", python_source="https://builds.example", python_reachable=False)
    assert dict(machine_rows(without))["Python of jobs"] == "3.11 was not found; uv downloads it from https://builds.example: not reachable"
    assert verdicts(without)["plain"].startswith("needs Python 3.11 for its environment (install it, or set UV_PYTHON_INSTALL_MIRROR")
    assert verdicts(replace(without, python_reachable=True))["plain"].startswith("ready")
    assert verdicts(replace(without, made=frozenset({"transformers"})))["plain"] == "ready"


def test_a_driver_that_is_too_old_for_an_environment_is_named_with_what_would_do():
    built = replace(LAPTOP, gpus=[replace(H200, driver="535.104.12")], cuda={"transformers": "13.0"})
    said = verdicts(built)["on_gpu"]
    assert "built for CUDA 13.0, which needs driver 580.65.06 or newer; this one is 535.104.12" in said
    assert "a build for CUDA 12 (see docs/drivers.md)" in said
    assert verdicts(replace(built, gpus=[H200]))["on_gpu"].startswith("ready")


def test_the_cuda_of_every_environment_with_pytorch_is_known():
    envs = studies.ROOT / "envs"
    out_of_reach = {entry["env"] for entry in studies.registry().values() if "unavailable" in entry}
    files = [path for path in envs.glob("*.yaml") if "- torch==" in path.read_text() and path.stem not in out_of_reach]
    builds = {path.stem: survey.cuda_of(path) for path in files}
    assert builds["transformers"] == "13.0"
    assert all(builds.values()), builds


@pytest.mark.parametrize(("capability", "ready"), [("8.9", True), ("9.0", True), ("12.0", True), ("8.6", False)])
def test_compute_capability_is_compared_by_its_parts(capability, ready):
    facts = replace(LAPTOP, gpus=[replace(H200, compute_capability=capability)])
    assert verdicts(facts)["fp8"].startswith("ready") is ready


def test_the_machine_in_words():
    rows = machine_rows(replace(LAPTOP, gpus=[H200, H200], instruction_sets=["AVX2"], hub_reachable=False))
    assert [text for name, text in rows if name == "GPU"] == ["NVIDIA H200, 150.0 GB, compute capability 9.0, driver 580.159.04"] * 2
    text = dict(rows)
    assert text["CPU"] == "A processor, 2 cores: AVX2"
    assert text["package index"] == "https://index.example/simple: reachable"
    assert text["model hub"] == "https://hub.example: not reachable"
    assert "techniques run on the CPU" in dict(machine_rows(LAPTOP))["GPU"]
    assert dict(machine_rows(replace(LAPTOP, compiler="")))["compiler"].startswith("no C++ compiler")


def test_the_study_can_run_unless_its_baseline_the_report_or_its_model_cannot():
    assert study_problems(STUDY, REGISTRY, LAPTOP) == []
    no_index = study_problems(STUDY, REGISTRY, replace(LAPTOP, index_reachable=False))
    assert [p.partition(" needs ")[0] for p in no_index] == ["the report", "experiments.e: its baseline 'plain'"]
    on_gpu = {**STUDY, "experiments": {"e": {"baseline": "on_gpu"}}}
    assert study_problems(on_gpu, REGISTRY, LAPTOP) == ["experiments.e: its baseline 'on_gpu' needs an NVIDIA GPU"]
    misspelt = {**STUDY, "experiments": {"e": {"baseline": "plian"}}}
    assert study_problems(misspelt, REGISTRY, LAPTOP) == ["experiments.e.baseline: there is no technique 'plian'"]


def test_a_model_of_the_hub_needs_the_hub_once():
    study = {**STUDY, "models": {"llama": {"hub": "org/llama"}}}
    offline = replace(LAPTOP, hub_reachable=False)
    assert study_problems(study, REGISTRY, offline) == ["models.llama: needs the model hub, which cannot be reached"]
    assert study_problems(study, REGISTRY, replace(offline, prepared=frozenset({"llama"}))) == []


def test_every_technique_of_the_registry_is_judged(root):
    registry = yaml.safe_load((root / "techniques.yaml").read_text(encoding="utf-8"))
    envs = frozenset(path.stem for path in (root / "envs").glob("*.yaml"))
    rows = technique_rows(registry, replace(LAPTOP, gpus=[H200], nvcc="/usr/local/cuda/bin/nvcc", makeable=envs))
    assert [name for name, _ in rows] == list(registry)
    for name, text in rows:
        assert text.startswith("needs something that is not available" if "unavailable" in registry[name] else "ready")


def test_passwords_are_not_shown():
    assert hub.shown("https://user:secret@index.example:8080/simple") == "https://index.example:8080/simple"


def test_nothing_listens_there():
    assert not survey.is_reachable("http://127.0.0.1:9/", {})
    assert not survey.is_reachable("not an address", {})


def test_this_machine(root):
    done = subprocess.run([sys.executable, root / "scripts" / "doctor.py"], capture_output=True, text=True)
    assert done.stderr == ""
    for name in ("GPU", "CPU", "memory", "disk", "environments", "compiler", "package index", "model hub", "baseline"):
        assert f"\n  {name} " in done.stdout
    can_run = "The default study can run here" in done.stdout
    assert done.returncode == (0 if can_run else 1)
    assert can_run or "The default study cannot run here" in done.stdout


def test_a_cluster_without_accounting_is_told_what_the_profile_needs():
    cluster = replace(LAPTOP, slurm="22.05.8", accounting="accounting_storage/slurmdbd", min_job_age=2)
    assert slurm_rows(LAPTOP) == []
    assert dict(slurm_rows(cluster))["accounting"] == "there is a database of jobs"
    for kind in ("accounting_storage/none", "(null)", ""):
        without = dict(slurm_rows(replace(cluster, accounting=kind)))
        assert "leave `slurm-status-command: squeue` in the profile" in without["accounting"]
        assert "slurm-init-seconds-before-status-checks: 1`" in without["MinJobAge"]
    assert "MinJobAge" not in dict(slurm_rows(replace(cluster, accounting="", min_job_age=300)))


def test_a_model_that_no_index_has_is_said_with_the_study_that_needs_none():
    model = {"gguf": {"package": "tiny-model==1.0", "sha256": "a" * 64, "file": "tiny.gguf"}}
    study = {**STUDY, "models": {"mine": model}}
    missing = replace(LAPTOP, packages_missing=frozenset({"tiny-model==1.0"}))
    assert study_problems(study, REGISTRY, LAPTOP) == []
    (line,) = study_problems(study, REGISTRY, missing)
    assert line.startswith("models.mine: the package index does not have tiny-model==1.0; ")
    assert "run --study studies/trained.yaml measures a model that is trained here" in line
    assert study_problems(study, REGISTRY, replace(missing, prepared=frozenset({"mine"}))) == []


def test_a_package_is_looked_for_in_folders_of_wheels_and_in_every_index(tmp_path):
    folder, page = tmp_path / "wheels", tmp_path / "index/other-model/index.html"
    folder.mkdir()
    page.parent.mkdir(parents=True)
    page.write_text("<a href=x>other_model-2.0-py3-none-any.whl</a>")
    (folder / "tiny_model-1.0-py3-none-any.whl").touch()
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(SimpleHTTPRequestHandler, directory=tmp_path))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    try:
        environ = {"UV_FIND_LINKS": str(folder), "UV_DEFAULT_INDEX": f"{address}/nothing", "UV_INDEX": f"{address}/index"}
        had = {
            name: survey.has_package(name, environ)
            for name in ("Tiny.Model==1.0", "tiny-model==2.0", "other-model==2.0", "other-model==3.0")
        }
    finally:
        server.shutdown()
    assert had == {"Tiny.Model==1.0": True, "tiny-model==2.0": False, "other-model==2.0": True, "other-model==3.0": False}
    assert survey.has_package("tiny-model==2.0", {"UV_DEFAULT_INDEX": "http://127.0.0.1:9"}), "an index that is not reached says nothing"
