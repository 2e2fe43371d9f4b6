"""Which device a job is given, and what it is told where that is not the one that was asked for."""

import os

import pytest
from speedgrid import hardware, this_machine
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
    monkeypatch.setattr(this_machine, "_cpuinfo", lambda: {"CPU implementer": "0x41", "CPU part": "0xd40"})
    monkeypatch.setattr(hardware.platform, "processor", lambda: "aarch64")
    assert hardware.names({"device": "cpu"}) == ["aarch64 (implementer 0x41, part 0xd40)", "aarch64"]


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
    assert (gpu.name, gpu.memory) == ("NVIDIA GB10", this_machine.memory())


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
        assert hardware.names({"device": "auto"}) == [this_machine.cpu_name()]
