"""What a job asks of where it runs."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from speedgrid import resources

SLURM = {"partition": "gpu", "account": "mine", "gpu_model": "a100", "constraint": "80gb", "memory_gb": 64, "minutes": 90, "cpus": 16}


def test_a_cell_on_a_gpu_asks_for_one_by_its_type():
    assert resources.on_device(SLURM, on_gpu=True, local=False) == {
        "gpu": 1,
        "mem_mb": 64_000,
        "runtime": 90,
        "cpus_per_task": 16,
        "slurm_partition": "gpu",
        "slurm_account": "mine",
        "gpu_model": "a100",
        "constraint": "80gb",
    }


def test_where_gres_asks_for_the_gpu_nothing_else_does():
    gres = {"gres": "gpu:a100:1"}
    assert {name: resources.on_device(gres, True, local=False)[name] for name in ("gpu", "gres")} == {"gpu": 0, "gres": "gpu:a100:1"}
    assert resources.on_device(gres, True, local=True)["gpu"] == 1, "without a cluster GPUs are counted by it"


def test_a_cell_on_a_cpu_has_its_node_alone_with_all_cores():
    asked = resources.on_device({"partition": "cpu"}, on_gpu=False, local=False, node="n7")
    assert asked["slurm_extra"] == "--nodelist=n7 --exclusive"
    assert (asked["gpu"], asked["cpus_per_task"]) == (0, -1)
    assert "--exclusive" not in resources.on_device({}, on_gpu=True, local=False, node="n7")["slurm_extra"]


def test_what_was_killed_for_want_of_time_or_memory_gets_more_of_both_and_of_nothing_else():
    first = resources.on_device(SLURM, True, False)
    assert resources.on_attempt(first, 1) == first
    assert resources.on_attempt(first, 2) == {**first, "mem_mb": 128_000, "runtime": 180}


@pytest.mark.parametrize("named", [{}, {"nodes": "any"}])
def test_without_named_nodes_slurm_chooses(named):
    assert resources.nodes(named, [("g", "e", "a"), ("g", "e", "b")]) == {("g", "e", "a"): "", ("g", "e", "b"): ""}


@given(st.integers(1, 8), st.integers(1, 40))
def test_groups_are_spread_evenly_and_new_ones_move_none(nodes, groups):
    named = [f"n{number}" for number in range(nodes)]
    keys = [("g", "e", str(number)) for number in range(groups)]
    placed = resources.nodes({"nodes": named}, keys)
    counts = [list(placed.values()).count(name) for name in named]
    assert max(counts) - min(counts) <= 1
    assert resources.nodes({"nodes": named}, [*keys, ("g", "e", "new")]) | placed == resources.nodes(
        {"nodes": named}, [*keys, ("g", "e", "new")]
    )


@given(st.integers(1, 128), st.integers(1, 8))
def test_on_one_machine_a_job_per_gpu_fits_and_no_job_on_the_cpu_has_one_beside_it(cores, gpus):
    share = resources.threads(cores, gpus, on_gpu=True)
    assert share >= 1
    assert share * gpus <= max(cores, gpus)
    assert resources.threads(cores, gpus, on_gpu=False) == cores
