"""The default study, and what is often added to it, with models that many a technique does not take: Gemma-2, Qwen3-MoE, GPT-OSS, Mamba and
Phi-3 in tiny shapes. The run ends well and with a page, and each cell is right, or a row that says in a line why there is none.

    ./speedgrid test tests/contract/test_families.py

It makes the environments of transformers, llama.cpp and ONNX Runtime, runs for a quarter of an hour, and is not part of `./speedgrid test`.
"""

import shutil

import pandas as pd
import pytest
import working_copy
import yaml
from speedgrid.schema import MEASURED

pytestmark = [pytest.mark.slow, pytest.mark.needs("network")]

STUDY = yaml.safe_load((working_copy.ROOT / "tests/studies/families.yaml").read_text(encoding="utf-8"))
EXPERIMENT = STUDY["experiments"]["generate"]
CELLS = [(model, technique) for model in STUDY["models"] for technique in EXPERIMENT["techniques"]]
# What each cell ends with on a CPU, where that is not `ok`, and words of the reason.
NO_SDPA = dict.fromkeys(
    ("sdpa", "static_cache", "torch_compile", "prompt_lookup", "prune_30"), ("unsupported", "has no sdpa attention for")
)
EXPERTS = dict.fromkeys(("bnb_int8", "bnb_nf4"), ("not_engaged", "experts.gate_up_proj`, 53% of them, stays float32"))
# What random weights say repeats nothing of the prompt.
NO_GUESS = {"prompt_lookup": ("not_engaged", "no run of tokens came twice in prompt and reply")}
NO_PRUNING = {"prune_30": ("unsupported", "pruning here takes models with")}
# What another transformers does not read, or has no export of.
NO_ONNX = {
    "qwen3-moe": {"onnx_fp32": ("unsupported", "transformers 4 has no setting num_local_experts")},
    "gpt-oss": {"onnx_fp32": ("unsupported", "transformers 4 has no setting swiglu_alpha")},
    "mamba": {"onnx_fp32": ("unsupported", "does not export models of the kind mamba")},
}
NO_BNB = {"bnb_int8": ("unsupported", "does not go with the layers of mamba"), "bnb_nf4": ("unsupported", "is not a multiple of 64")}
EXPECTED = {
    "gemma2": NO_SDPA,
    "qwen3-moe": NO_GUESS | EXPERTS | NO_PRUNING | NO_ONNX["qwen3-moe"],
    "gpt-oss": NO_SDPA | EXPERTS | NO_PRUNING | NO_ONNX["gpt-oss"],
    "mamba": NO_SDPA | NO_BNB | NO_PRUNING | NO_ONNX["mamba"],
    "phi3": NO_GUESS | NO_PRUNING,
}
# How far the next tokens may be from those of the unmodified model (KL divergence in nat): what keeps the arithmetic is held to what
# rounding does, by the page itself; the others by their format.
DISTANCE = {"bf16": 0.02, "bnb_int8": 0.05, "bnb_nf4": 1.0, "gguf_q4_k_m": 1.0}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project in which the study was run, its models as folders of the user's own, whose quality is measured too."""
    folder = working_copy.copy_to(tmp_path_factory.mktemp("families"))
    made = [f"models/{name}/prepared.parquet" for name in STUDY["models"]]
    done = working_copy.launcher(folder, "run", "--study", "tests/studies/families.yaml", "--", *made)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    for name in STUDY["models"]:
        shutil.move(folder / "models" / name / "checkpoint", folder / "weights" / name)
    shutil.rmtree(folder / "models")
    study = {**STUDY, "models": {name: {"local": f"weights/{name}"} for name in STUDY["models"]}}
    (folder / "local.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    done = working_copy.launcher(folder, "run", "--study", "local.yaml")
    (folder / "said.txt").write_text(done.stdout + done.stderr)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    return folder


@pytest.fixture(scope="module")
def rows(project):
    summary = pd.read_parquet(project / "results/summary.parquet")
    return {(row["model"], row["technique"]): row for row in summary.to_dict("records")}


def test_the_run_ends_with_a_page_of_all_cells(project, rows):
    page = (project / "results/report.html").read_text(encoding="utf-8")
    assert set(rows) == set(CELLS)
    assert all(model in page for model in STUDY["models"])
    assert "Traceback" not in (project / "said.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(("model", "technique"), CELLS)
def test_a_cell_is_right_or_says_why_there_is_none(rows, model, technique):
    row = rows[model, technique]
    status, words = EXPECTED[model].get(technique, ("ok", ""))
    assert row["status"] == status, row["reason"]
    assert words in row["reason"]
    assert row["reason"].isprintable()
    if status not in MEASURED:
        assert len(row["reason"]) > 15
        return
    assert pd.isna(row["quality_status"]), row["quality_reason"]
    assert row["bits_per_byte"] > 0
    if technique == "prune_30":
        return
    assert row["kl_divergence"] <= DISTANCE.get(technique, row["kl_allowed"])
