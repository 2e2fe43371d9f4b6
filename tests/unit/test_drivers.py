"""What is said of a GPU that the PyTorch of an environment cannot use."""

import pytest
from speedgrid import drivers


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
    said = drivers.why_no_gpu("2.13.0", cuda, driver)
    assert all(word in said for word in words), said
    assert "\n" not in said
