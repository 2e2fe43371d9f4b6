"""Which device a job is given, and what it is told where that is not the one that was asked for."""

import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from speedgrid import hardware
from speedgrid.hardware import DeviceError, Gpu
from speedgrid.outcomes import Unsupported

A100 = Gpu("NVIDIA A100-SXM4-80GB", "GPU-aaaa", "580.95.05", 80 * 2**30, "8.0")
T4 = Gpu("Tesla T4", "GPU-tttt", "535.104.12", 16 * 2**30, "7.5")


@pytest.fixture
def machine(monkeypatch):
    def has(*gpus, visible=None):
        monkeypatch.setattr(hardware, "_asked_of_the_driver", lambda: (list(gpus), ""))
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
        if visible is not None:
            monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)

    return has


def pick(**wanted):
    return hardware.pick_device({"device": "auto", **wanted}, "mine", uses_torch=False)


def test_auto_is_the_gpu_where_there_is_one(machine):
    machine(A100)
    assert (pick().kind, pick().name, pick().capability) == ("cuda", A100.name, (8, 0))
    assert not pick(device="cpu").is_gpu
    machine()
    assert (pick().kind, pick().capability) == ("cpu", (0, 0))


@pytest.mark.parametrize(("there", "reason"), [([T4], "Tesla T4 does not compute in TF32"), ([], "this device is a CPU")])
def test_tf32_is_refused_where_the_device_has_none(machine, there, reason):
    machine(A100)
    hardware.check_tf32(pick())
    machine(*there)
    with pytest.raises(Unsupported, match=reason):
        hardware.check_tf32(pick())


@pytest.mark.parametrize(
    ("visible", "name"),
    [(None, A100.name), ("1,0", T4.name), ("GPU-tttt", T4.name), ("", None)],
    ids=["all", "by number", "by UUID", "none"],
)
def test_only_the_gpus_that_a_job_may_see_count(machine, visible, name):
    machine(A100, T4, visible=visible)
    assert (pick().name == name) if name else not pick().is_gpu


def test_a_job_never_takes_the_processor_for_a_gpu_that_cannot_be_had(machine, monkeypatch, tmp_path):
    machine(A100, T4, visible="7")
    with pytest.raises(DeviceError, match=r"gpus\.mine: the GPU of this machine cannot be had \(7\); write `device: cpu`"):
        pick()
    assert not pick(device="cpu").is_gpu
    machine()
    monkeypatch.setattr(hardware, "DRIVER", str(tmp_path))
    # It answers when it is asked again: what counts is the answer that the device was picked by.
    answers = iter([([], "nvidia-smi does not answer"), ([A100], "")])
    monkeypatch.setattr(hardware, "_asked_of_the_driver", lambda: next(answers))
    with pytest.raises(DeviceError, match="nvidia-smi does not answer"):
        pick()


def test_results_of_an_arm_processor_from_before_it_had_more_than_its_kind_are_its_own(monkeypatch):
    monkeypatch.setattr(hardware, "_cpuinfo", lambda: {"CPU implementer": "0x41", "CPU part": "0xd40"})
    monkeypatch.setattr(hardware.platform, "processor", lambda: "aarch64")
    assert hardware.names({"device": "cpu"}) == ["aarch64 (implementer 0x41, part 0xd40)", "aarch64"]


@pytest.mark.parametrize(
    ("variable", "counts"),
    [("CUDNN_FRONTEND_LOG_LEVEL", True), ("CUDNN_VERSION", False), ("PYTORCH_BUILD_NUMBER", False), ("TORCHELASTIC_RUN_ID", False)],
)
def test_labels_of_an_image_are_no_variables_that_change_speed(variable, counts):
    assert bool(hardware.CHANGING.fullmatch(variable)) == counts


def test_another_gpu_than_the_named_one_is_refused(machine):
    machine(T4)
    assert pick(name="t4").name == T4.name
    with pytest.raises(DeviceError, match=r"gpus\.mine\.name: asked for 'A100', this job was given 'Tesla T4'"):
        pick(name="A100")
    machine()
    with pytest.raises(DeviceError, match="shows none on this machine"):
        pick(device="cuda")
    with pytest.raises(DeviceError, match="shows none on this machine"):
        pick(name="A100")


@pytest.mark.parametrize(
    ("cuda", "driver", "words"),
    [
        (None, "580.95.05", ["a build for CPUs", "SPEEDGRID_TORCH=cuda"]),
        ("13.0", "535.104.12", ["needs driver 580.65.06 or newer", "this one is 535.104.12", "a build for CUDA 12"]),
        ("12.1", "470.57.02", ["needs driver 525.60.13 or newer", "a build for CUDA 11"]),
        ("11.8", "440.33.01", ["needs driver 450.80.02 or newer", "update it"]),
        ("12.1", "580.95.05", ["cannot use the GPU under driver 580.95.05"]),
    ],
)
def test_a_gpu_that_pytorch_cannot_use_is_explained_in_one_line(cuda, driver, words):
    said = hardware.why_no_gpu("2.13.0", cuda, driver)
    assert all(word in said for word in words), said
    assert "\n" not in said


CLAIM = """
import os, sys
from speedgrid import hardware
held = hardware.claim_gpu({"device": "auto", "name": sys.argv[1]}, int(sys.argv[2]), lambda text: print(text, flush=True))
print(os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("CUDA_DEVICE_ORDER"), flush=True)
print(len(os.sched_getaffinity(0)), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def claims(tmp_path):
    """Start processes that claim a GPU of a machine with two A100 and a T4, whose driver answers through nvidia-smi."""
    mine = f"{os.getpid()}-{time.monotonic_ns()}"
    rows = [(name, f"GPU-{number}-{mine}") for number, name in enumerate(["NVIDIA A100", "Tesla T4", "NVIDIA A100"])]
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\n" + "".join(f"echo '{name}, {uuid}, 580.95.05, 81920, 8.0'\n" for name, uuid in rows))
    smi.chmod(0o755)
    running = []

    def claim(name: str, side_by_side: int = 1, **variables: str) -> subprocess.Popen:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("CUDA_")} | variables
        environ |= {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(Path(hardware.__file__).parents[1])}
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        running.append(subprocess.Popen([sys.executable, "-c", CLAIM, name, str(side_by_side)], env=environ, **streams))
        return running[-1]

    yield claim
    for process in running:
        process.kill()
        process.communicate()


def line(process: subprocess.Popen) -> str:
    return process.stdout.readline().strip()


def test_each_job_has_a_gpu_of_its_own_and_of_its_kind(claims):
    assert line(claims("A100")) == "0 PCI_BUS_ID"
    assert line(claims("A100")) == "2 PCI_BUS_ID"
    assert line(claims("t4")) == "1 PCI_BUS_ID"
    assert line(claims("H200")) == "None None"


def test_each_job_keeps_to_its_share_of_the_cores(claims):
    cores = len(os.sched_getaffinity(0))
    # One job alone has all of them however many GPUs are there, and no more jobs than GPUs are ever side by side.
    for visible, side_by_side, shares in (("0,1,2", 3, 3), ("0,1,2", 2, 2), ("0,1,2", 1, 1), ("1,2", 8, 2), ("1", 8, 1)):
        job = claims("T4", side_by_side, CUDA_VISIBLE_DEVICES=visible)
        assert line(job) == "1 PCI_BUS_ID"
        assert int(line(job)) == max(1, cores // shares)
        job.kill()
        job.wait()


def test_jobs_on_gpus_far_apart_share_no_core(claims):
    first, second = claims("A100", 2), claims("A100", 2)
    assert {line(first), line(second)} == {"0 PCI_BUS_ID", "2 PCI_BUS_ID"}
    assert int(line(first)) == int(line(second)) == max(1, len(os.sched_getaffinity(0)) // 2)
    used = [os.sched_getaffinity(job.pid) for job in (first, second)]
    assert len(os.sched_getaffinity(0)) == 1 or not used[0] & used[1]


@given(st.integers(1, 64), st.integers(1, 16))
def test_jobs_side_by_side_have_cores_of_their_own_where_there_are_enough(cores, places):
    shares = [hardware.share_of_cores(range(100, 100 + cores), place, places) for place in range(places)]
    assert all(share and len(share) == len(shares[0]) == len(set(share)) for share in shares)
    taken = [core for share in shares for core in share]
    assert set(taken) <= set(range(100, 100 + cores))
    assert places > cores or len(set(taken)) == len(taken)


def test_a_job_waits_until_a_gpu_is_free_however_it_becomes_free(claims):
    first, second = claims("A100"), claims("A100")
    taken = {line(first), line(second)}
    third = claims("A100")
    assert line(third) == "waiting: other jobs measure on all 2 GPUs of this machine"
    second.kill()
    assert line(third) in taken


def test_a_job_takes_no_gpu_that_it_may_not_see(claims):
    assert line(claims("A100", CUDA_VISIBLE_DEVICES="1,2")) == "2 PCI_BUS_ID"
    assert line(claims("A100", CUDA_VISIBLE_DEVICES="1")) == "1 None"


def test_the_commit_is_that_of_the_project_and_not_of_a_checkout_around_it(root, tmp_path):
    """As an archive of the project is unpacked into somebody's repository, or a home folder is kept in git."""

    def git(*arguments):
        told = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false", "-C", str(tmp_path / "own"), *arguments]
        return subprocess.run(told, capture_output=True, text=True, check=True).stdout.strip()

    project = tmp_path / "own" / "tools" / "speedgrid"
    shutil.copytree(root / "scripts" / "speedgrid", project / "scripts" / "speedgrid", ignore=shutil.ignore_patterns("__pycache__"))

    def commit_of_the_project():
        code = "from speedgrid import hardware; print(hardware.git_commit())"
        environ = os.environ | {"PYTHONPATH": str(project / "scripts"), "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=True).stdout.strip()

    git("init", "--quiet")
    git("add", "--all")
    git("commit", "--quiet", "--message", "mine")
    assert commit_of_the_project() == ""
    git("-C", str(project), "init", "--quiet")
    git("-C", str(project), "add", "--all")
    git("-C", str(project), "commit", "--quiet", "--message", "ours")
    ours = git("-C", str(project), "rev-parse", "HEAD")
    assert commit_of_the_project() == ours
    with open(project / "scripts" / "speedgrid" / "__init__.py", "a") as file:
        file.write("# changed\n")
    assert commit_of_the_project() == f"{ours}+"


# What the driver says


@pytest.fixture
def driver(tmp_path, monkeypatch):
    """A machine whose nvidia-smi prints these lines and ends with this status, its driver loaded or not."""

    def says(*lines: str, status: int = 0, loaded: bool = True) -> None:
        smi = tmp_path / "nvidia-smi"
        smi.write_text("#!/bin/sh\n" + "".join(f"echo '{line}'\n" for line in lines) + f"exit {status}\n")
        smi.chmod(0o755)
        monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setattr(hardware, "DRIVER", str(smi if loaded else tmp_path / "nothing"))
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)

    return says


MISMATCH = "Failed to initialize NVML: Driver/library version mismatch"


def test_a_driver_that_names_no_gpu_is_a_fault_where_it_is_loaded(driver):
    driver(MISMATCH, "NVML library version: 550.54", status=18)
    assert (hardware.gpus(), hardware.driver_fault()) == ([], MISMATCH)
    driver("No devices were found")
    assert (hardware.gpus(), hardware.driver_fault()) == ([], "No devices were found")
    driver(MISMATCH, status=9, loaded=False)
    assert hardware.driver_fault() == "", "the program alone, as on a login node"
    driver("NVIDIA A100, GPU-a, 580.95.05, 81920, 8.0")
    assert (len(hardware.gpus()), hardware.driver_fault()) == (1, "")


def test_a_gpu_that_shares_the_memory_of_the_machine_has_that(driver):
    driver("NVIDIA GB10, GPU-b, 580.95.05, [N/A], 12.1")
    (gpu,) = hardware.gpus()
    assert (gpu.name, gpu.memory) == ("NVIDIA GB10", hardware.memory())


@pytest.mark.parametrize(
    ("visible", "names", "hidden"),
    [
        (None, ["A", "B"], ""),
        ("1", ["B"], ""),
        ("0,-1,1", ["A"], ""),
        ("", [], ""),
        ("-1", [], ""),
        ("NoDevFiles", [], ""),
        ("MIG-1a2b", [], "MIG-1a2b"),
        ("7", [], "7"),
        ("GPU-b", ["B"], ""),
    ],
)
def test_what_hides_every_gpu_without_saying_so_is_told_from_what_says_so(driver, monkeypatch, visible, names, hidden):
    driver("A, GPU-a, 580.95.05, 81920, 8.0", "B, GPU-b, 580.95.05, 81920, 8.0")
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert hardware.names({"device": "cuda"}) == names
    assert hardware.hidden_gpus() == hidden
    if not names:
        assert hardware.names({"device": "auto"}) == [hardware.cpu_name()]


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        *((name, True) for name in ("NVIDIA_TF32_OVERRIDE", "CUDA_LAUNCH_BLOCKING", "LD_PRELOAD", "KMP_BLOCKTIME", "ATEN_CPU_CAPABILITY")),
        *((name, True) for name in ("TORCHDYNAMO_DISABLE", "OMP_PROC_BIND", "PYTHONMALLOC", "ONEDNN_MAX_CPU_ISA", "VLLM_USE_V1")),
        *((name, False) for name in ("HF_TOKEN", "VLLM_API_KEY", "TORCH_HOME", "TORCHINDUCTOR_CACHE_DIR", "OMP_NUM_THREADS", "PATH")),
        *((name, False) for name in ("CUDA_VISIBLE_DEVICES", "AWS_SECRET_ACCESS_KEY", "PYTHONPATH", "PYTHONUTF8", "CUDA_HOME")),
    ],
)
def test_variables_that_change_what_is_computed_are_recorded_and_no_others(monkeypatch, name, kept):
    monkeypatch.setenv(name, "1")
    assert (f"{name}=1" in hardware.machine_facts()["variables"].split(", ")) == kept
