"""What is recorded of the machine that a job ran on, and of the code that ran."""

import os
import shutil
import subprocess
import sys

import pytest
from speedgrid import this_machine


def test_the_commit_is_that_of_the_project_and_not_of_a_checkout_around_it(root, tmp_path):
    """As an archive of the project is unpacked into somebody's repository, or a home folder is kept in git."""

    def git(*arguments):
        told = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false", "-C", str(tmp_path / "own"), *arguments]
        return subprocess.run(told, capture_output=True, text=True, check=True).stdout.strip()

    project = tmp_path / "own" / "tools" / "speedgrid"
    shutil.copytree(root / "scripts" / "speedgrid", project / "scripts" / "speedgrid", ignore=shutil.ignore_patterns("__pycache__"))

    def commit_of_the_project():
        code = "from speedgrid import this_machine; print(this_machine.git_commit())"
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


@pytest.mark.parametrize(
    ("variable", "counts"),
    [("CUDNN_FRONTEND_LOG_LEVEL", True), ("CUDNN_VERSION", False), ("PYTORCH_BUILD_NUMBER", False), ("TORCHELASTIC_RUN_ID", False)],
)
def test_labels_of_an_image_are_no_variables_that_change_speed(variable, counts):
    assert bool(this_machine.CHANGING.fullmatch(variable)) == counts


@pytest.mark.parametrize(
    ("name", "kept"),
    [
        *((name, True) for name in ("NVIDIA_TF32_OVERRIDE", "CUDA_LAUNCH_BLOCKING", "LD_PRELOAD", "KMP_BLOCKTIME", "ATEN_CPU_CAPABILITY")),
        *((name, True) for name in ("TORCHDYNAMO_DISABLE", "OMP_PROC_BIND", "PYTHONMALLOC", "ONEDNN_MAX_CPU_ISA", "VLLM_USE_V1")),
        *((name, True) for name in ("VLLM_BATCH_INVARIANT", "VLLM_KV_CACHE_LAYOUT", "BNB_CUDA_VERSION", "LLAMA_SET_ROWS", "PYTORCH_JIT")),
        *((name, True) for name in ("TRANSFORMERS_SDPA_FORCE_GQA", "GPTQ_TORCH_STREAMING", "NCCL_P2P_LEVEL")),
        # Which libraries are loaded, and what assembles kernels.
        *((name, True) for name in ("LD_LIBRARY_PATH", "TRITON_PTXAS_PATH", "TRITON_PTXAS_BLACKWELL_PATH", "LD_AUDIT")),
        *((name, False) for name in ("LIBRARY_PATH", "TRITON_CACHE_DIR", "LD_LIBRARY_PATH_TOKEN", "CCACHE_DIR", "SSL_CERT_FILE")),
        *((name, False) for name in ("VLLM_HOST_IP", "VLLM_PORT", "VLLM_LOGGING_LEVEL", "VLLM_NO_USAGE_STATS", "TRANSFORMERS_OFFLINE")),
        *((name, False) for name in ("HF_TOKEN", "VLLM_API_KEY", "TORCH_HOME", "TORCHINDUCTOR_CACHE_DIR", "OMP_NUM_THREADS", "PATH")),
        *((name, False) for name in ("CUDA_VISIBLE_DEVICES", "AWS_SECRET_ACCESS_KEY", "PYTHONPATH", "PYTHONUTF8", "CUDA_HOME")),
    ],
)
def test_variables_that_change_what_is_computed_are_recorded_and_no_others(monkeypatch, name, kept):
    monkeypatch.setenv(name, "1")
    assert (f"{name}=1" in this_machine.facts()["variables"].split(", ")) == kept


def test_of_two_versions_on_the_path_the_one_that_is_imported_is_written_down(tmp_path, monkeypatch):
    for folder, version in (("first", "1.0"), ("second", "2.0")):
        told = tmp_path / folder / f"Whatever-{version}.dist-info"
        told.mkdir(parents=True)
        (told / "METADATA").write_text(f"Metadata-Version: 2.1\nName: Whatever\nVersion: {version}\n", encoding="utf-8")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "first"), str(tmp_path / "second"), *sys.path])
    assert [one for one in this_machine.facts()["packages"] if one.startswith("whatever==")] == ["whatever==1.0"]
