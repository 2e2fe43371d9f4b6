"""How much of a machine a container has, by control groups as Docker, Kubernetes and systemd lay them out."""

import math
from pathlib import Path

import pytest
from speedgrid import containers, supervision, this_machine


@pytest.fixture
def laid_out(tmp_path):
    """Make files of control groups, and what the process says of its own; returns where both are."""

    def make(own: str = "0::/\n", **files: str) -> tuple[Path, Path]:
        for name, text in files.items():
            path = tmp_path / "cgroup" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{text}\n")
        (tmp_path / "own").write_text(own)
        return tmp_path / "cgroup", tmp_path / "own"

    return make


V1 = "4:memory:/docker/abc\n1:cpu,cpuacct:/docker/abc\n"
SLICE = "0::/user.slice/job.scope\n"


@pytest.mark.parametrize(
    ("files", "own", "cpus"),
    [
        ({}, "0::/\n", math.inf),
        ({"cpu.max": "max 100000"}, "0::/\n", math.inf),
        ({"cpu.max": "200000 100000"}, "0::/\n", 2),
        ({"cpu.max": "50000 100000"}, "0::/\n", 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, V1, math.inf),
        ({"cpu/cpu.cfs_quota_us": "350000", "cpu/cpu.cfs_period_us": "100000"}, V1, 3.5),
        ({"cpu/docker/abc/cpu.cfs_quota_us": "400000", "cpu/docker/abc/cpu.cfs_period_us": "100000"}, V1, 4),
        ({"user.slice/job.scope/cpu.max": "max 100000", "user.slice/cpu.max": "300000 100000"}, SLICE, 3),
        ({"cpu.max": "nonsense"}, "nonsense\n", math.inf),
    ],
)
def test_cpus_of_a_container(laid_out, files, own, cpus):
    assert containers.cpus(*laid_out(own, **files)) == cpus


@pytest.mark.parametrize(
    ("files", "own", "memory", "room"),
    [
        ({}, "0::/\n", containers.NO_LIMIT, containers.NO_LIMIT),
        ({"memory.max": "max", "memory.current": "300"}, "0::/\n", containers.NO_LIMIT, containers.NO_LIMIT),
        ({"memory.max": "1000", "memory.current": "300"}, "0::/\n", 1000, 700),
        ({"memory.max": "1000", "memory.current": "1300"}, "0::/\n", 1000, 0),
        # Pages of files that nobody uses are given up before anything fails.
        ({"memory.max": "1000", "memory.current": "950", "memory.stat": "file 900\ninactive_file 800"}, "0::/\n", 1000, 850),
        (
            {
                "memory/memory.limit_in_bytes": "1000",
                "memory/memory.usage_in_bytes": "900",
                "memory/memory.stat": "inactive_file 1\ntotal_inactive_file 700",
            },
            V1,
            1000,
            800,
        ),
        ({"memory/memory.limit_in_bytes": "1000", "memory/memory.usage_in_bytes": "400"}, V1, 1000, 600),
        ({"user.slice/memory.max": "900", "user.slice/memory.current": "1", "memory.max": "max"}, SLICE, 900, 899),
    ],
)
def test_memory_of_a_container(laid_out, files, own, memory, room):
    assert containers.memory(*laid_out(own, **files)) == memory
    assert containers.room(*laid_out(own, **files)) == room


@pytest.mark.parametrize(
    ("files", "own", "killed"),
    [
        ({"user.slice/job.scope/memory.events": "oom 3\noom_kill 2", "memory.events": "oom_kill 9"}, SLICE, 2),
        # In a container whose own group has the path of the host.
        ({"memory.events": "low 0\noom_kill 1"}, "0::/docker/abc\n", 1),
        ({"memory/docker/abc/memory.oom_control": "under_oom 0\noom_kill 4"}, V1, 4),
    ],
)
def test_what_the_kernel_killed_for_memory_is_counted_by_the_innermost_group(laid_out, files, own, killed):
    assert supervision.killed_for_memory(*laid_out(own, **files)) == killed


def test_groups_are_told_from_the_inside_out_whatever_the_name_of_their_hierarchy(laid_out):
    groups, own = laid_out(SLICE)
    assert containers.around("cpu", groups, own)[:3] == [groups / "user.slice/job.scope", groups / "user.slice", groups]
    groups, own = laid_out(V1)
    assert containers.around("cpu", groups, own)[0] == groups / "cpu,cpuacct/docker/abc"
    assert groups / "cpu/docker/abc" in containers.around("cpu", groups, own)


@pytest.mark.parametrize(("cpus", "threads"), [(math.inf, 8), (3.9, 3), (0.5, 1), (64, 8)])
def test_threads_are_no_more_than_there_is_time_for(monkeypatch, cpus, threads):
    monkeypatch.setattr(containers, "cpus", lambda: cpus)
    monkeypatch.setattr(this_machine.os, "sched_getaffinity", lambda process: set(range(8)))
    monkeypatch.setattr(this_machine, "_hardware_threads", str)
    assert this_machine.physical_cores() == threads


def test_a_machine_is_no_larger_than_its_container(monkeypatch):
    whole = this_machine.memory()
    monkeypatch.setattr(containers, "memory", lambda: 2**20)
    assert this_machine.memory() == 2**20 < whole
