"""Which errors are results, and which are bugs."""

import pytest
from speedgrid import outcomes
from speedgrid.schema import MEASURED, STATUSES


class OutOfMemoryError(RuntimeError):
    """Named like PyTorch's own, which the test environment does not have."""


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (MemoryError(), "oom"),
        (OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nmore"), "oom"),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:117] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
            "oom",
        ),
        (ModuleNotFoundError("No module named 'bitsandbytes'", name="bitsandbytes"), "missing_dependency"),
        (RuntimeError("No available kernel. Aborting execution."), "unsupported"),
        (outcomes.Unsupported("no"), "unsupported"),
        (outcomes.Timeout("late"), "timeout"),
    ],
)
def test_expected_failures_get_a_status_and_a_reason_of_one_line(error, status):
    outcome = outcomes.expected(error)
    assert outcome.status == status
    assert str(outcome)
    assert "\n" not in str(outcome)
    assert status in STATUSES
    assert status not in MEASURED


def test_the_reason_of_an_oom_says_what_was_asked_for_and_leaves_the_advice_out():
    asked = "CUDA out of memory. Tried to allocate 596.05 GiB. GPU 0 has a total capacity of 139.80 GiB of which 27.16 GiB is free"
    advice = ". Including non-PyTorch memory, this process has 112.64 GiB memory in use. If reserved memory is large try something"
    assert str(outcomes.expected(OutOfMemoryError(asked + advice))) == asked


@pytest.mark.parametrize(
    "error",
    [
        ValueError("x"),
        RuntimeError("shape mismatch"),
        KeyError("x"),
        ModuleNotFoundError("no speedgrid.foo", name="speedgrid.foo"),
        AssertionError(),
    ],
)
def test_everything_else_is_a_bug(error):
    assert outcomes.expected(error) is None
