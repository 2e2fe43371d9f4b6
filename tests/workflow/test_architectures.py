"""Five families that many a technique does not take, and checkpoints that are not whole, in the environment of the engine."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import working_copy
import yaml
from speedgrid import this_machine

sys.path.insert(0, str(working_copy.ROOT / "tests/contract"))
import architectures
import expected

pytestmark = [pytest.mark.slow, pytest.mark.needs("network")]

FAMILIES = ("gemma2", "qwen3_moe", "gpt_oss", "mamba", "phi3")
TECHNIQUES = ("baseline", "sdpa", "prompt_lookup", "no_kv_cache", "bf16", "bnb_int8", "bnb_nf4")


# What becomes of settings of an architecture: the reason, or nothing where transformers reads them all.
SETTINGS = """
import json, sys
from speedgrid import models
from speedgrid.outcomes import ModelError
for name, shape in json.load(sys.stdin).items():
    try:
        models.refuse_unknown(shape.pop("model_type"), shape)
        said = ""
    except ModelError as error:
        said = str(error)
    print(json.dumps({"name": name, "said": said}))
"""


# What becomes of values of an architecture: the reason, or nothing where there is a model.
BUILT = """
import json, sys, tempfile
from pathlib import Path
from speedgrid import models
from speedgrid.outcomes import ModelError
for name, shape in json.load(sys.stdin).items():
    try:
        models.build(shape, "float32", Path(tempfile.mkdtemp()) / "checkpoint", 5)
        said = ""
    except ModelError as error:
        said = str(error)
    print(json.dumps({"name": name, "said": said}))
"""


def lines(project, *command: str, told: object = None) -> list[dict]:
    """The lines of JSON that a script prints in the environment `transformers`, which the project has made."""
    variables = {**os.environ, "PYTHONPATH": str(working_copy.ROOT / "scripts")}
    command = [working_copy.python_of("transformers"), *command]
    done = subprocess.run(command, cwd=working_copy.ROOT, env=variables, capture_output=True, text=True, input=json.dumps(told))
    assert done.returncode == 0, done.stderr[-4000:]
    return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


@pytest.fixture(scope="module")
def outcomes(project) -> dict[tuple[str, str], dict]:
    rows = lines(project, "tests/contract/architectures.py", *FAMILIES, "--techniques", *TECHNIQUES)
    return {(row["architecture"], row["technique"]): row for row in rows}


@pytest.mark.parametrize("family", FAMILIES)
def test_a_technique_gives_what_a_plain_pass_gives_or_says_why_not(outcomes, family):
    for technique in TECHNIQUES:
        row = outcomes[family, technique]
        assert expected.wrong(row, this_machine.instruction_sets()) == "", row


def test_experts_that_bitsandbytes_leaves_out_are_not_said_to_be_quantized(outcomes):
    for family in ("qwen3_moe", "gpt_oss"):
        for technique in ("bnb_int8", "bnb_nf4"):
            row = outcomes[family, technique]
            assert row["status"] == "not_engaged"
            assert row["evidence"]["quantized_share"] < 0.5
            assert "experts.gate_up_proj" in row["evidence"]["left_as_it_was"]
    assert outcomes["phi3", "bnb_int8"]["evidence"]["quantized_share"] == 1


def test_a_checkpoint_is_read_whole_or_refused_with_the_name_of_the_weight(project, tmp_path):
    """Of every way in which a folder can differ from its config.json, by a loader, a transform that quantizes and one that prunes."""
    rows = lines(project, str(Path(__file__).with_name("odd_checkpoints.py")), str(tmp_path))
    found = {(row["checkpoint"], row["reader"]): row for row in rows}
    whole = {name for name, reader in found if reader == "engine" and found[name, reader]["status"] == "ok"}
    complete = {"whole", "base_model", "tied", "buffers", "head_beside", "attention", "outputs", "just_enough", "wishes", "in_64_bits"}
    complete |= {"tokens", "attention_of_a_package", "not_quantized"}
    assert whole == complete | {"sentencepiece", "tiktoken"}
    for (name, _), row in found.items():
        if name in whole:
            assert row["status"] == "ok", row
        else:
            assert row["status"] == "unsupported", row
            assert row["named"], row


def test_settings_of_an_architecture_that_transformers_would_pass_over_are_refused_with_the_nearest(project):
    llama = {"model_type": "llama", "vocab_size": 320, "hidden_size": 64}
    shapes = {"typo": {**llama, "hiden_size": 64}, "short": {**llama, "layers": 4}, "nonsense": {**llama, "foo": 1}}
    shapes |= {"old name": {**llama, "rope_theta": 10000.0}, "any": {**llama, "pad_token_id": 0, "torch_dtype": "bfloat16"}}
    shapes |= {"inside": {"model_type": "gemma3", "text_config": {"hiden_size": 64}}}
    # Every shape of the project's own studies, and of the contract.
    for path in (*working_copy.ROOT.glob("studies/*.yaml"), working_copy.ROOT / "tests/studies/techniques.yaml"):
        models = yaml.safe_load(path.read_text(encoding="utf-8"))["models"]
        shapes |= {f"{path.name} {name}": model["architecture"] for name, model in models.items() if "architecture" in model}
    shapes |= {name: {"model_type": name, **shape} for name, shape in architectures.ARCHITECTURES.items()}
    said = {row["name"]: row["said"] for row in lines(project, "-c", SETTINGS, told=shapes)}
    refused = {name: said.pop(name) for name in ("typo", "short", "nonsense", "inside")}
    assert set(said.values()) == {""}
    assert refused["typo"] == "architecture.hiden_size: LlamaConfig of transformers has no such setting; did you mean hidden_size?"
    assert refused["short"].endswith("did you mean num_hidden_layers?")
    assert refused["nonsense"] == "architecture.foo: LlamaConfig of transformers has no such setting"
    assert "hiden_size: Gemma3TextConfig of transformers has no such setting; did you mean hidden_size?" in refused["inside"]


def test_values_of_an_architecture_that_no_model_can_have_are_one_line(project):
    """What planning cannot see: each family's own code says what it wants, when it is built or at its first pass."""
    llama = {**architectures.ARCHITECTURES["llama"], "model_type": "llama"}
    latent = {**architectures.ARCHITECTURES["deepseek_v3"], "model_type": "deepseek_v3"}
    experts = {**architectures.ARCHITECTURES["qwen3_moe"], "model_type": "qwen3_moe"}
    wrong = {
        "width": ({**llama, "hidden_size": 66}, "The hidden size (66) is not a multiple of the number of attention heads (4)."),
        "odd": ({**llama, "hidden_size": 60}, "RoPE requires an even rotary dimension"),
        "type": ({**llama, "rms_norm_eps": "small"}, "Field 'rms_norm_eps' expected float, got str (value: 'small')"),
        "name": ({**llama, "hidden_act": "nosuch"}, "KeyError: 'nosuch'"),
        "negative": ({**llama, "intermediate_size": -8}, "negative dimension -8"),
        "latent": ({**latent, "qk_rope_head_dim": 15}, "its sizes do not go together: The size of tensor a (7) must match"),
        "experts": ({**experts, "num_experts_per_tok": 9}, "its sizes do not go together: selected index k out of range"),
        # Heads that are wider than the stream over their number are a shape that there is.
        "wide": ({**experts, "hidden_size": 66}, ""),
    }
    said = {row["name"]: row["said"] for row in lines(project, "-c", BUILT, told={name: shape for name, (shape, _) in wrong.items()})}
    for name, (_, words) in wrong.items():
        assert words in said[name], said[name]
        assert said[name].startswith("architecture: ") == bool(words), said[name]


# One model in a file and in many, by the largest file; with what building them is at, and how many passes on numbers it took.
IN_FILES = """
import json, sys, tempfile
from pathlib import Path
from unittest import mock
from safetensors.torch import load_file
from speedgrid import checkpoints, models
models.LARGE = 0
for name, shape in json.load(sys.stdin).items():
    found = {}
    for largest in ("1GB", "100KB"):
        checkpoints.SHARD, folder, entered = largest, Path(tempfile.mkdtemp()) / "checkpoint", []
        with mock.patch.object(models, "goes_through", wraps=models.goes_through) as tried:
            made = models.prepare({"architecture": shape, "dtype": "float32"}, folder, 5, print, entered.append)
        weights = {}
        for path in checkpoints.weight_files(folder):
            weights |= load_file(path)
        found[largest] = made, weights, [path.stat().st_size for path in checkpoints.weight_files(folder)]
    whole, many = found.values()
    same = whole[1].keys() == many[1].keys() and all((whole[1][key] == many[1][key]).all() for key in whole[1])
    again = checkpoints.facts(folder)["checkpoint_sha256"] == made["checkpoint_sha256"]
    told = {"files": len(whole[2]), "sizes": many[2], "same": bool(same), "again": again, "entered": entered, "passes": tried.call_count}
    print(json.dumps({"name": name, **told}))
"""


def test_large_weights_come_in_several_files_and_large_models_are_passed_on_numbers_only_where_they_must_be(project):
    shapes = {name: {**architectures.ARCHITECTURES[name], "model_type": name} for name in ("llama", "qwen3_moe")}
    for told in lines(project, "-c", IN_FILES, told=shapes):
        assert (told["files"], told["same"], told["again"]) == (1, True, True), told
        assert len(told["sizes"]) > 1, told
        assert max(told["sizes"]) < told["sizes"][0] + 200_000, told
        assert [phase.partition("(")[2] for phase in told["entered"]] == ["drawing its weights)", "writing it)", "reading it back)"]
        # A router of experts looks at numbers, which there are none of without weights.
        assert told["passes"] == {"llama": 1, "qwen3_moe": 2}[told["name"]], told


# A layer as GPT-QModel's Marlin kernel keeps it on a GPU, where whatever it has is a parameter, and as other kernels keep it, in buffers.
# Beside them one that is not quantized, and a last layer that shares its weights with the embedding.
PACKED = """
import json, torch
from speedgrid.engines import quantized
class PackedLinear(torch.nn.Module):
    def __init__(self, inputs, outputs, keep):
        super().__init__()
        self.in_features, self.out_features, groups = inputs, outputs, inputs // 128
        for name, shape in {"qweight": (inputs // 16, outputs * 2), "qzeros": (groups, outputs // 8), "g_idx": (inputs,)}.items():
            keep(self, name, torch.zeros(shape, dtype=torch.int32))
        for name, shape in {"scales": (groups, outputs), "bias": (outputs,)}.items():
            keep(self, name, torch.zeros(shape))
def as_parameter(module, name, tensor):
    setattr(module, name, torch.nn.Parameter(tensor, requires_grad=False))
class Model(torch.nn.Module):
    def __init__(self, *layers):
        super().__init__()
        self.layers, self.embedding = torch.nn.ModuleList(layers), torch.nn.Embedding(10, 256)
        self.head = torch.nn.Linear(256, 10, bias=False)
        self.head.weight = self.embedding.weight
    def get_output_embeddings(self):
        return self.head
for keep in (as_parameter, torch.nn.Module.register_buffer):
    packed = PackedLinear(256, 512, keep), PackedLinear(512, 256, keep)
    for layers in (packed, (*packed, torch.nn.Linear(256, 256))):
        found = quantized.share_of_model(Model(*layers))
        print(json.dumps(found.evidence() | {"parameters": found.parameters}))
"""


def test_what_a_packed_layer_keeps_beside_its_weights_is_neither_left_nor_a_parameter(project):
    in_layers, biases, embedding, beside = 2 * 256 * 512, 256 + 512, 2560, 256 * 256
    kept = lines(project, "-c", PACKED)
    assert kept[:2] == kept[2:], "however its numbers are kept"
    alone, mixed = kept[:2]
    whole = in_layers + biases + embedding
    assert alone == {"quantized_share": 1.0, "quantized_share_of_all": round(in_layers / whole, 4), "parameters": whole}
    assert mixed["quantized_share"] == round(in_layers / (in_layers + beside), 4)
    assert mixed["left_as_it_was"] == "layers.*.weight, 20% of the layers' weights"
    assert mixed["parameters"] == whole + beside + 256


COUNTED = """
import json, sys, torch
from transformers import AutoConfig, AutoModelForCausalLM
from speedgrid.engines import quantized
for name, shape in json.load(sys.stdin).items():
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**shape))
    print(json.dumps({"name": name, "ours": quantized.share_of_model(model).parameters, "theirs": model.num_parameters()}))
"""


def test_the_parameters_of_a_model_that_is_not_quantized_are_those_that_transformers_counts(project):
    shapes = {name: {"model_type": name, **shape} for name, shape in architectures.ARCHITECTURES.items()}
    shapes["tied"] = {**shapes["llama"], "tie_word_embeddings": True}
    some = {name: shapes[name] for name in ("llama", "tied", "gpt2", "qwen3_moe", "mamba", "bloom")}
    for told in lines(project, "-c", COUNTED, told=some):
        assert told["ours"] == told["theirs"] > 0, told
