"""`speedgrid new`: what it makes of a repository of the hub, a folder, a file and a shape."""

import argparse
import json
import struct
from functools import partial

import hub
import new_study
import pytest
import test_gguf_header as gguf_head
from speedgrid import commands, lock, planning, readiness, survey
from speedgrid.study import StudyError

import studies

CONFIG = {"model_type": "llama", "vocab_size": 1000, "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
CONFIG |= {"num_attention_heads": 4, "torch_dtype": "bfloat16", "tie_word_embeddings": True}


@pytest.fixture
def here(tmp_path, monkeypatch):
    """A working folder that is no clone, on a machine with everything but a GPU."""
    monkeypatch.chdir(tmp_path)
    facts = readiness.Facts(compiler="g++", index_reachable=True, python="3.11", disk_environments=10**12, makeable=frozenset(envs()))
    monkeypatch.setattr(survey, "find_facts", lambda: facts)
    return tmp_path


def envs() -> set[str]:
    return {path.stem for path in (studies.ROOT / "envs").glob("*.yaml")}


def told(*arguments: str) -> argparse.Namespace:
    return commands.one("new").parse_args([*arguments, "--yes"])


def new(arguments: argparse.Namespace) -> None:
    new_study.write(arguments, new_study.find(arguments))


def repository(folder, **more):
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    for name, content in more.items():
        (folder / name.replace("__", ".")).write_bytes(content)
    return folder


def weights(count: int) -> bytes:
    """A file of safetensors with so many weights."""
    head = json.dumps({"w": {"dtype": "BF16", "shape": [count], "data_offsets": [0, 2 * count]}}).encode()
    return len(head).to_bytes(8, "little") + head + b"\0" * (2 * count)


def test_a_branch_of_the_hub_is_written_down_as_the_commit_that_it_is_now(here, tmp_path, monkeypatch, capsys):
    served = {"someone/Some.Model": repository(tmp_path / "repository", model__safetensors=b"x")}
    with hub.serving(served) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        new(told("someone/Some.Model"))
    study, _, _ = planning.read_study("studies/some.model.yaml")
    assert study["models"]["some.model"]["revision"] == hub.REVISION
    assert study["experiments"]["generate"]["dtype"] == "bfloat16"
    assert lock.moving(study) == {}
    said = capsys.readouterr().out
    assert "someone/Some.Model of the hub at main, which is 0123456789ab" in said
    # By the configuration that the hub has; the weights are not here.
    assert "time      about" in said
    assert "cannot be estimated" not in said


def test_a_japanese_model_is_asked_in_japanese(here, tmp_path, monkeypatch):
    with hub.serving({"llm-jp/llm-jp-3": repository(tmp_path / "repository", model__safetensors=b"x")}) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        new(told("llm-jp/llm-jp-3", "--goal", "latency"))
    experiment = planning.read_study("studies/llm-jp-3.yaml")[0]["experiments"]["generate"]
    assert experiment["evaluate"]["text"] == "studies/texts/japanese.txt"
    assert "日本" in experiment["prompt"]
    assert "# language: ja" in (here / "studies/llm-jp-3.yaml").read_text(encoding="utf-8")


def test_of_several_gguf_files_one_has_to_be_named(here, tmp_path, monkeypatch):
    folder = repository(tmp_path / "repository", a__gguf=b"GGUF", b__gguf=b"GGUF")
    with hub.serving({"someone/quantized": folder}) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        with pytest.raises(StudyError, match=r"someone/quantized has 2 GGUF files; name one with --file, such as --file a\.gguf"):
            new(told("someone/quantized"))
        new(told("someone/quantized", "--file", "b.gguf"))
    model = planning.read_study("studies/quantized.yaml")[0]["models"]["quantized"]
    assert model["gguf"] == {"hub": "someone/quantized", "revision": hub.REVISION, "file": "b.gguf"}


def test_a_gguf_file_of_the_hub_is_estimated_by_its_head_which_alone_is_read(here, tmp_path, monkeypatch, capsys):
    """Nothing was known of what most people have, before all of it was downloaded."""
    kind, number = "llama", partial(struct.pack, "<I")
    sizes = {"block_count": 30, "attention.head_count": 9, "attention.head_count_kv": 3, "embedding_length": 576}
    fields = {"general.architecture": (8, gguf_head.text(kind))} | {f"{kind}.{name}": (4, number(size)) for name, size in sizes.items()}
    head = gguf_head.file_of(fields, {"token_embd.weight": ((576, 49152), 3), "blk.0.ffn.weight": ((576, 180_000), 3)})
    folder = repository(tmp_path / "repository", a__gguf=head + b"\0" * 1_000_000)
    with hub.serving({"someone/quantized": folder}) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        source = new_study.find(told("someone/quantized"))
        assert (source.model.layers, source.model.kv_width, source.model.parameters) == (30, 192, 576 * (49152 + 180_000))
        assert source.model.download == source.model.gguf_bytes == len(head) + 1_000_000
        assert source.dtype == "float32"  # small enough to be written out whole
        new(told("someone/quantized"))
    assert "time      about" in capsys.readouterr().out


def test_without_the_hub_the_commit_of_its_cache_is_taken_and_else_it_is_one_line(here, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    with pytest.raises(StudyError, match="HF_HUB_OFFLINE is set, and the cache of the hub does not know it"):
        new(told("someone/model"))
    cached = tmp_path / "home/hub/models--someone--model"
    (cached / "refs").mkdir(parents=True)
    (cached / "refs/main").write_text(hub.REVISION)
    repository_of = cached / "snapshots" / hub.REVISION
    repository_of.mkdir(parents=True)
    (repository_of / "config.json").write_text(json.dumps(CONFIG))
    new(told("someone/model"))
    assert planning.read_study("studies/model.yaml")[0]["models"]["model"]["revision"] == hub.REVISION


def test_a_folder_is_read_where_it_lies_and_a_shape_comes_with_its_source(here, tmp_path):
    repository(tmp_path / "Mine", model__safetensors=weights(2))
    new(told("Mine"))
    assert planning.read_study("studies/mine.yaml")[0]["models"]["mine"]["local"] == "Mine"
    new(told("--shape", "llama-3.2-1b", "--minutes", "30"))
    study = planning.read_study("studies/llama-3.2-1b-shape.yaml")[0]
    assert study["models"]["llama-3.2-1b-shape"]["architecture"]["num_hidden_layers"] == 16
    assert "https://huggingface.co/meta-llama/Llama-3.2-1B" in (tmp_path / "studies/llama-3.2-1b-shape.yaml").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "new needs a model: a repository of the hub, a folder, a GGUF file, or --shape NAME"),
        (("a/b", "--shape", "gpt2"), "new takes a model or --shape NAME, and here are both"),
        (("--shape", "lama-3.2-1b"), "--shape lama-3.2-1b: the nearest is llama-3.2-1b"),
        (("gpt2",), "gpt2 is neither a file nor a folder here; for the shape of that name write --shape gpt2"),
        (("./nowhere",), "./nowhere: there is no such file or folder, and it is no name of a repository"),
        (("nowhere.gguf",), "nowhere.gguf: there is no such file"),
        (("bare",), "bare: no safetensors file; it holds no weights"),
        (("empty",), "empty is not a folder with a checkpoint (no config.json)"),
        (("odd.gguf",), "odd.gguf is no GGUF file, or damaged"),
        (
            ("--shape", "llama-3.1-70b", "--vram", "24"),
            "llama-3.1-70b-shape unquantized needs about 143.0 GB, and there are 24.0 GB",
        ),
    ],
)
def test_what_cannot_be_measured_is_one_line_and_writes_nothing(here, arguments, said):
    (here / "empty").mkdir()
    repository(here / "bare")
    (here / "odd.gguf").write_text("not one")
    with pytest.raises((StudyError, ValueError)) as caught:
        new(told(*arguments))
    assert said in str(caught.value)
    assert not list(here.glob("studies/*"))


def test_a_card_is_as_large_as_its_name_says_less_what_the_driver_takes(here, capsys):
    """`--vram 8` was 8.0 GB for a technique; a card of 8 GB has 8.6, of which 7.7 are left."""
    new(told("--shape", "phi-3-mini-4k", "--gpu", "RTX 4070", "--vram", "8"))
    assert "unquantized it needs about 7.8 GB, and there are 7.7 GB for it" in capsys.readouterr().out
    new(told("--shape", "phi-3-mini-4k", "--vram", "8", "--force"))
    assert "and there are 8.0 GB for it" in capsys.readouterr().out  # of a process on a processor


def test_a_study_that_is_there_is_not_written_over_unless_asked_to(here):
    new(told("--shape", "gpt2"))
    path = here / "studies/gpt2-shape.yaml"
    path.write_text("mine")
    with pytest.raises(StudyError, match="is there already; --force writes it anew, --name NAME writes another one"):
        new(told("--shape", "gpt2"))
    assert path.read_text() == "mine"
    new(told("--shape", "gpt2", "--force"))
    new(told("--shape", "gpt2", "--name", "other"))
    assert {path.name for path in here.glob("studies/*")} == {"gpt2-shape.yaml", "other.yaml"}


def test_a_study_for_another_machine_has_the_techniques_of_its_gpu(here, tmp_path, capsys):
    """Who writes a study on a laptop for a card of 8 GB got the techniques of a processor."""
    repository(tmp_path / "Mine", model__safetensors=weights(2))
    new(told("Mine", "--gpu", "RTX 4070", "--vram", "8"))
    study = planning.read_study("studies/mine.yaml")[0]
    assert study["gpus"]["local"]["device"] == "cuda"
    assert study["gpus"]["local"]["name"] == "RTX 4070"
    registry = planning.read_registry()
    techniques = study["experiments"]["generate"]["techniques"]
    assert "torch_compile_loop" in techniques, "first on a GPU, and not taken on a processor"
    said = capsys.readouterr().out
    assert "on RTX 4070, which is not here" in said
    assert "On the machine with the RTX 4070, with this file and the model in the same place:" in said
    # What its compute capability cannot do is left out.
    new(told("Mine", "--gpu", "Tesla T4", "--vram", "16", "--all", "--name", "old"))
    older = planning.read_study("studies/old.yaml")[0]["experiments"]["generate"]["techniques"]
    assert not any({"sm80", "sm89"} & set(registry[name]["requires"]) for name in older)


def test_the_memory_of_a_gpu_that_is_not_here_has_to_be_said(here):
    with pytest.raises(StudyError, match="--gpu RTX 4070: say its memory too, such as --vram 8"):
        new(told("--shape", "gpt2", "--gpu", "RTX 4070"))
