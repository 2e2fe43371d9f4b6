"""Jobs of one machine take its GPUs one each, and share its cores."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from speedgrid import claims

CLAIM = """
import os, sys
from speedgrid import claims
held = claims.claim_gpu({"device": "auto", "name": sys.argv[1]}, int(sys.argv[2]), lambda text: print(text, flush=True), int(sys.argv[3]))
print(os.environ.get("CUDA_VISIBLE_DEVICES"), os.environ.get("CUDA_DEVICE_ORDER"), flush=True)
print(len(os.sched_getaffinity(0)), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def claiming(tmp_path):
    """Start processes that claim a GPU of a machine with two A100 and a T4, whose driver answers through nvidia-smi."""
    mine = f"{os.getpid()}-{time.monotonic_ns()}"
    rows = [(name, f"GPU-{number}-{mine}") for number, name in enumerate(["NVIDIA A100", "Tesla T4", "NVIDIA A100"])]
    smi = tmp_path / "nvidia-smi"
    smi.write_text("#!/bin/sh\n" + "".join(f"echo '{name}, {uuid}, 580.95.05, 81920, 8.0'\n" for name, uuid in rows))
    smi.chmod(0o755)
    running = []

    def claim(name: str, side_by_side: int = 1, shared: int = 0, **variables: str) -> subprocess.Popen:
        environ = {name: value for name, value in os.environ.items() if not name.startswith("CUDA_")} | variables
        environ |= {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": str(Path(claims.__file__).parents[1])}
        streams = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
        running.append(subprocess.Popen([sys.executable, "-c", CLAIM, name, str(side_by_side), str(shared)], env=environ, **streams))
        return running[-1]

    yield claim
    for process in running:
        process.kill()
        process.communicate()


def line(process: subprocess.Popen) -> str:
    return process.stdout.readline().strip()


def test_each_job_has_a_gpu_of_its_own_and_of_its_kind(claiming):
    assert line(claiming("A100")) == "0 PCI_BUS_ID"
    assert line(claiming("A100")) == "2 PCI_BUS_ID"
    assert line(claiming("t4")) == "1 PCI_BUS_ID"
    assert line(claiming("H200")) == "None None"


def test_each_job_keeps_to_its_share_of_the_cores(claiming):
    cores = len(os.sched_getaffinity(0))
    # One job alone has all of them however many GPUs are there, and no more jobs than GPUs are ever side by side.
    for visible, side_by_side, shares in (("0,1,2", 3, 3), ("0,1,2", 2, 2), ("0,1,2", 1, 1), ("1,2", 8, 2), ("1", 8, 1)):
        job = claiming("T4", side_by_side, CUDA_VISIBLE_DEVICES=visible)
        assert line(job) == "1 PCI_BUS_ID"
        assert int(line(job)) == max(1, cores // shares)
        job.kill()
        job.wait()


def test_jobs_on_gpus_far_apart_share_no_core(claiming):
    first, second = claiming("A100", 2), claiming("A100", 2)
    assert {line(first), line(second)} == {"0 PCI_BUS_ID", "2 PCI_BUS_ID"}
    assert int(line(first)) == int(line(second)) == max(1, len(os.sched_getaffinity(0)) // 2)
    used = [os.sched_getaffinity(job.pid) for job in (first, second)]
    assert len(os.sched_getaffinity(0)) == 1 or not used[0] & used[1]


@given(st.integers(1, 64), st.integers(1, 16))
def test_jobs_side_by_side_have_cores_of_their_own_where_there_are_enough(cores, places):
    shares = [claims.share_of_cores(range(100, 100 + cores), place, places) for place in range(places)]
    assert all(share and len(share) == len(shares[0]) == len(set(share)) for share in shares)
    taken = [core for share in shares for core in share]
    assert set(taken) <= set(range(100, 100 + cores))
    assert places > cores or len(set(taken)) == len(taken)


def test_a_job_waits_until_a_gpu_is_free_however_it_becomes_free(claiming):
    first, second = claiming("A100"), claiming("A100")
    taken = {line(first), line(second)}
    third = claiming("A100")
    assert line(third) == "waiting: other jobs are on all 2 GPUs of this machine"
    second.kill()
    assert line(third) in taken


def test_a_job_takes_no_gpu_that_it_may_not_see(claiming):
    assert line(claiming("A100", CUDA_VISIBLE_DEVICES="1,2")) == "2 PCI_BUS_ID"
    assert line(claiming("A100", CUDA_VISIBLE_DEVICES="1")) == "1 None"


def test_jobs_that_make_checkpoints_share_a_gpu_and_its_cores_and_none_that_is_timed_is_beside_them(claiming):
    waits = "waiting: other jobs are on the GPU of this machine"
    first, second = claiming("T4", shared=2), claiming("T4", shared=2)
    for job in (first, second):
        assert line(job) == "1 PCI_BUS_ID"
        assert int(line(job)) == max(1, len(os.sched_getaffinity(0)) // 2)
    timed = claiming("T4")
    assert line(timed) == waits
    first.kill()
    # The other is made still.
    with pytest.raises(subprocess.TimeoutExpired):
        timed.wait(5 * claims.CLAIM_EVERY_S)
    second.kill()
    assert line(timed) == "1 PCI_BUS_ID"
    third = claiming("T4", shared=2)
    assert line(third) == waits
    timed.kill()
    assert line(third) == "1 PCI_BUS_ID"


def test_checkpoints_are_made_where_fewest_are_and_not_where_something_is_timed(claiming):
    timed = claiming("A100")
    assert line(timed) == "0 PCI_BUS_ID"
    assert {line(claiming("A100", shared=4)) for _ in range(3)} == {"2 PCI_BUS_ID"}
    timed.kill()
    timed.wait()
    # Three are made on the other.
    assert [line(claiming("A100", shared=4)) for _ in range(3)] == ["0 PCI_BUS_ID"] * 3
    # On both are three; two more on this one, and the other has fewer, although it comes later by its number.
    assert [line(claiming("A100", shared=4, CUDA_VISIBLE_DEVICES="0")) for _ in range(2)] == ["0 PCI_BUS_ID"] * 2
    assert line(claiming("A100", shared=4)) == "2 PCI_BUS_ID"
