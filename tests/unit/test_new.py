"""`speedgrid new`: what it makes of a repository of the hub, a folder, a file and a shape."""

import argparse
import json
import os
import re
import struct
from functools import partial

import hub
import new_study
import pytest
import test_gguf_header as gguf_head
from speedgrid import commands, lock, planning, readiness, sources, survey
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
    new_study.write(arguments, sources.find(arguments))


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
        source = sources.find(told("someone/quantized"))
        assert (source.model.layers, source.model.kv_width, source.model.parameters) == (30, 192, 576 * (49152 + 180_000))
        assert source.model.download == source.model.gguf_bytes == len(head) + 1_000_000
        assert source.dtype == "float32"  # small enough to be written out whole
        new(told("someone/quantized"))
    assert "time      about" in capsys.readouterr().out


def test_without_the_hub_the_commit_of_its_cache_is_taken_and_else_it_is_one_line(here, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "home"))
    with pytest.raises(StudyError, match=r"HF_HUB_OFFLINE is set, and the cache of the hub does not know it$"):
        new(told("someone/model"))
    # The README's first command, where there is no hub.
    with pytest.raises(StudyError, match=r"; --shape llama-3\.2-3b measures random weights in its shape, without the hub$"):
        new(told("meta-llama/Llama-3.2-3B"))
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
        (("--shape", "lama-3.2-1b"), "--shape lama-3.2-1b: did you mean llama-3.2-1b"),
        (("gpt2",), "gpt2 is neither a file nor a folder here; for the shape of that name write --shape gpt2"),
        (("~nosuchuser/x",), "model: there is no user ~nosuchuser on this machine"),
        (("a" * 300,), "cannot be looked for"),
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


def test_a_card_has_what_advise_counts_on_less_what_cuda_takes(here, capsys):
    """`--vram 8` was 8.0 GB for a technique, of which CUDA itself takes 0.6 GiB."""
    new(told("--shape", "phi-3-mini-4k", "--gpu", "RTX 4070", "--vram", "8"))
    said = capsys.readouterr().out
    assert "unquantized it needs about 7.8 GB, and there are 7.4 GB for it" in said
    assert "as it has no GPU" not in said
    new(told("--shape", "phi-3-mini-4k", "--vram", "8", "--force"))
    said = capsys.readouterr().out
    assert "and there are 8.0 GB for it" in said  # of a process on a processor
    assert "8 GB of this machine's own memory, as it has no GPU; of a card: --gpu NAME --vram 8" in said


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


def checkpoint(folder, config, **more):
    """A folder with a configuration and a file of weights."""
    repository(folder, model__safetensors=weights(2), **more)
    (folder / "config.json").write_text(json.dumps(config))
    return folder


BERT = {"model_type": "bert", "architectures": ["BertForMaskedLM"], "hidden_size": 64}
OTHERS = {
    "an encoder": (BERT, {}, "is an encoder, which gives vectors or fills gaps (BertForMaskedLM); new writes studies of language models"),
    "an embedding model": ({**CONFIG, "architectures": ["LlamaModel"]}, {"modules__json": b"[]"}, "is an encoder, which gives vectors"),
    "a classifier": ({**CONFIG, "architectures": ["LlamaForSequenceClassification"]}, {}, "is a classifier, which says no next token"),
    "seq2seq": ({"model_type": "t5", "is_encoder_decoder": True}, {}, "is a model with an encoder beside its decoder (t5)"),
    "speech": ({"model_type": "whisper", "architectures": ["WhisperForConditionalGeneration"]}, {}, "is a model of speech or sound"),
    "images and text": ({"model_type": "llava"}, {}, "is a model of several parts, such as of images and text (llava)"),
    "awq": (
        {**CONFIG, "quantization_config": {"quant_method": "awq", "bits": 4}},
        {"README__md": b"---\nlicense: mit\nbase_model: some/model-7B\n---\n# It\n"},
        "is quantized already (awq, 4 bits), and techniques start from whole weights: name the model that it was made from, some/model-7B;",
    ),
    "gptq": (
        {**CONFIG, "quantization_config": {"quant_method": "gptq", "bits": 4}},
        {"README__md": b"# base_model: not/this\n"},
        "is quantized already (gptq, 4 bits), and techniques start from whole weights: name the model that it was made from; gptq_int4",
    ),
}


@pytest.mark.parametrize("case", OTHERS)
def test_a_model_of_another_kind_or_that_is_quantized_is_refused_with_what_to_do(here, tmp_path, monkeypatch, case):
    """Each was planned as if it were a language model in whole weights, and each of its cells failed."""
    config, more, said = OTHERS[case]
    folder = checkpoint(tmp_path / "mine", config, **more)
    with pytest.raises(StudyError) as caught:
        new(told("mine"))
    assert f"mine {said}" in str(caught.value)
    (folder / "README.md").unlink(missing_ok=True)
    with hub.serving({"someone/mine": folder}) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        with pytest.raises(StudyError) as caught:
            new(told("someone/mine"))
    assert str(caught.value).startswith(f"someone/mine {said.partition(':')[0]}")
    assert not list(here.glob("studies/*"))


@pytest.mark.parametrize(
    ("head", "base"),
    [
        ("base_model: some/model", "some/model"),
        ("base_model: [org/x]", "org/x"),
        ("base_model:\n- org/x\n- org/y", "org/x"),
        ("base_model:\nlicense: mit", ""),
        ("base_model: [", ""),
        ("- base_model", ""),
    ],
)
def test_the_model_that_a_folder_was_made_from_is_read_off_the_head_of_its_card(tmp_path, head, base):
    (tmp_path / "README.md").write_text(f"---\n{head}\n---\n# It\n")
    assert sources.base_of(tmp_path) == base


def test_weights_are_whole_or_quantized_as_they_are_for_the_jobs(here, tmp_path):
    checkpoint(tmp_path / "whole", {**CONFIG, "quantization_config": {}})
    new(told("whole"))
    checkpoint(tmp_path / "odd", {**CONFIG, "quantization_config": {"bits": 4}})
    with pytest.raises(StudyError, match=r"odd: config\.json has a `quantization_config` that names no method"):
        new(told("odd"))


def test_a_card_that_is_not_here_has_the_bytes_that_it_is_sold_by():
    (card,) = new_study.elsewhere(readiness.Facts(), "RTX 4070", 8).gpus
    assert card.memory == 8 * 10**9


def test_an_adapter_names_the_model_that_it_was_trained_for(here, tmp_path, monkeypatch):
    folder = tmp_path / "adapter"
    folder.mkdir()
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "some/model"}')
    (folder / "adapter_model.safetensors").write_bytes(weights(2))
    said = "holds an adapter alone; merge it into the model that it was trained for, some/model, (peft: merge_and_unload)"
    with pytest.raises(StudyError, match=re.escape(f"adapter is not a folder with a checkpoint (no config.json): it {said}")):
        new(told("adapter"))
    with hub.serving({"someone/adapter": folder}) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        with pytest.raises(StudyError, match=re.escape(f"someone/adapter {said}")):
            new(told("someone/adapter"))


def test_a_folder_that_is_no_checkpoint_names_what_is_one(here, tmp_path):
    for step in (500, 1000):
        (tmp_path / "run").mkdir(exist_ok=True)
        checkpoint(tmp_path / f"run/checkpoint-{step}", CONFIG)
    with pytest.raises(StudyError, match=r"run is not a folder with a checkpoint .*: there is one in checkpoint-1000, the last of 2"):
        new(told("run"))


IMAGES = {"model_type": "vit", "architectures": ["ViTForImageClassification"], "hidden_size": 192, "num_hidden_layers": 2}
IMAGES |= {"num_attention_heads": 3, "intermediate_size": 768, "image_size": 96, "patch_size": 16}


def test_a_classifier_of_images_is_planned_as_one(here, tmp_path, capsys):
    """It was planned for replies, and every cell failed."""
    checkpoint(tmp_path / "vit", IMAGES)
    new(told("vit"))
    experiments = planning.read_study("studies/vit.yaml")[0]["experiments"]
    assert {name: experiment["workload"] for name, experiment in experiments.items()} == {"train": "train", "forward": "forward"}
    assert {experiment["image_size"] for experiment in experiments.values()} == {96}
    assert experiments["train"]["baseline"] == experiments["forward"]["baseline"] == "torch_fp32"
    assert {"torch_bf16_autocast", "torch_bf16_pure"} <= set(experiments["train"]["techniques"])
    assert "torch_tf32" not in experiments["train"]["techniques"]  # needs a GPU
    assert "steps" in capsys.readouterr().out
    with pytest.raises(ValueError, match="vit is a classifier of images and writes no replies; leave --workload out"):
        new(told("vit", "--workload", "generate"))


def test_ways_to_train_a_model_that_fit_a_card(here, capsys):
    """Who wants to fine-tune a model of a billion parameters on a card of 24 GB had to write the study."""
    new(told("--shape", "llama-3.2-1b", "--workload", "train", "--gpu", "RTX 4090", "--vram", "24"))
    experiment = planning.read_study("studies/llama-3.2-1b-shape-training.yaml")[0]["experiments"]["train"]
    assert experiment["baseline"] == experiment["techniques"][0] == "finetune_full"
    assert experiment["precision"] == "bf16_pure"
    assert {"finetune_lora", "finetune_qlora"} <= set(experiment["techniques"])
    capsys.readouterr()
    new(told("--shape", "llama-3.1-8b", "--workload", "train", "--gpu", "RTX 4090", "--vram", "24", "--batch", "2"))
    experiment = planning.read_study("studies/llama-3.1-8b-shape-training.yaml")[0]["experiments"]["train"]
    assert "lora" in experiment["baseline"], "64 GB of weights, gradients and states do not fit"
    assert experiment["batch_size"] == 2
    assert f"baseline  {experiment['baseline']}: finetune_full needs about" in capsys.readouterr().out
    with pytest.raises(ValueError, match=r"70b-shape-training runs here and fits; the nearest to it is finetune_qlora\w+, which needs"):
        new(told("--shape", "llama-3.1-70b", "--workload", "train", "--gpu", "RTX 4090", "--vram", "24"))
    with pytest.raises(StudyError, match="--goal chooses among techniques for replies"):
        new(told("--shape", "gpt2", "--workload", "train", "--goal", "memory"))
    new(told("--shape", "gpt2", "--workload", "train", "--techniques", "finetune_lora"))
    experiment = planning.read_study("studies/gpt2-shape-training.yaml")[0]["experiments"]["train"]
    assert experiment["techniques"] == ["finetune_full", "finetune_lora"]
    assert experiment["sequence"] == 1024
    for named, why in (("sdpa", "is not one of training"), ("finetune_lor", "did you mean finetune_lora"), ("finetune_full_8bit", "")):
        with pytest.raises(ValueError, match=f"--techniques {named}: {why}"):
            new(told("--shape", "gpt2", "--workload", "train", "--techniques", named, "--force"))


@pytest.mark.parametrize("shape", ["gpt2", "resnet-50"])
@pytest.mark.parametrize("more", [(), ("--all",), ("--minutes", "5")])
def test_every_study_of_training_can_be_planned(here, shape, more):
    new(told("--shape", shape, "--workload", "train", *more))
    study = planning.read_study(next(here.glob("studies/*.yaml")))[0]
    registry = planning.read_registry()
    named = {name for experiment in study["experiments"].values() for name in experiment["techniques"]}
    adapters = {name for name in named if registry[name]["options"].get("adapter")}
    # Of language models alone; those of few minutes are the first, which have none.
    assert bool(adapters) == (shape == "gpt2" and "--minutes" not in more)


GGUF_WEIGHTS = 256 * 5000


def gguf(size: float, layers: int = 2) -> bytes:
    """A GGUF file of so many bytes and GGUF_WEIGHTS weights."""
    kind, number = "llama", partial(struct.pack, "<I")
    sizes = {"block_count": layers, "attention.head_count": 4, "attention.head_count_kv": 2, "embedding_length": 256}
    fields = {"general.architecture": (8, gguf_head.text(kind))} | {f"{kind}.{name}": (4, number(size)) for name, size in sizes.items()}
    return gguf_head.file_of(fields, {"token_embd.weight": ((256, 1000), 1), "blk.0.ffn.weight": ((256, 4000), 1)}) + b"\0" * int(size)


def test_smaller_forms_of_a_gguf_file_stand_side_by_side_and_no_larger_ones(here, tmp_path):
    """Who has a file wants to know which quantization to take; one was measured beside it."""
    count = GGUF_WEIGHTS
    for name, size, forms in (("f16", 2 * count, {"gguf_q8_0", "gguf_q4_k_m", "gguf_q3_k_m"}), ("q4", 0.61 * count, {"gguf_q3_k_m"})):
        (tmp_path / f"{name}.gguf").write_bytes(gguf(size))
        new(told(f"{name}.gguf"))
        techniques = planning.read_study(f"studies/{name}.yaml")[0]["experiments"]["generate"]["techniques"]
        assert "gguf_original" in techniques
        assert {"gguf_q8_0", "gguf_q4_k_m", "gguf_q3_k_m"} & set(techniques) == forms


def test_a_list_of_techniques_that_names_none_is_a_mistake(capsys):
    with pytest.raises(SystemExit) as caught:
        told("--techniques", ",,")
    assert caught.value.code == 2
    assert "',,' names no technique" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("named", "said"),
    [
        ("https://huggingface.co/some/model/tree/main", "is an address; name the repository: some/model"),
        ("a-00001-of-00003.gguf", "a-00001-of-00003.gguf is one of 3 files of one model; put them together (llama-gguf-split"),
        ("Mine/model.safetensors", "Mine/model.safetensors is one file of a checkpoint; name its folder: Mine"),
    ],
)
def test_what_names_a_part_of_a_model_is_told_what_names_the_whole(here, tmp_path, named, said):
    checkpoint(tmp_path / "Mine", CONFIG)
    (tmp_path / "a-00001-of-00003.gguf").write_bytes(b"GGUF")
    with pytest.raises(StudyError, match=re.escape(said)):
        new(told(named))


def test_a_model_with_few_positions_is_asked_for_replies_that_fit(here, tmp_path):
    checkpoint(tmp_path / "small", {**CONFIG, "max_position_embeddings": 64})
    for more in ((), ("--techniques", "sdpa", "--force"), ("--minutes", "60", "--force")):
        new(told("small", *more))
        assert planning.read_study("studies/small.yaml")[0]["experiments"]["generate"]["max_new_tokens"] == 32


def test_several_gguf_files_in_a_folder_are_measured_side_by_side(here, tmp_path, capsys):
    """One had to be named, so that nothing said which of those that a person has to take."""
    folder = tmp_path / "My files"
    folder.mkdir()
    for name, share in (("It.Q8_0", 1.06), ("It.Q4_K_M", 0.61), ("mmproj-It", 0.1)):
        (folder / f"{name}.gguf").write_bytes(gguf(share * GGUF_WEIGHTS))
    new(told("My files"))
    study = planning.read_study("studies/my-files.yaml")[0]
    assert {name: model["gguf"] for name, model in study["models"].items()} == {"my-files": "My files/It.Q8_0.gguf"}
    experiment = study["experiments"]["generate"]
    assert experiment["techniques"] == ["it.q8_0", "it.q4_k_m"], "the largest one first, which the others are held against"
    assert experiment["baseline"] == "it.q8_0"
    assert experiment["evaluate"]["positions"] > 0
    cells = {cell.technique: cell for cell in planning.read_grid("studies/my-files.yaml").cells}
    assert cells["it.q4_k_m"].transform["file"] == "My files/It.Q4_K_M.gguf"
    assert [size for size, _ in cells["it.q4_k_m"].transform["files"].values()] == [(folder / "It.Q4_K_M.gguf").stat().st_size]
    said = capsys.readouterr().out
    assert "the 2 GGUF files in My files, side by side" in said
    assert "2 cells" in said
    # One that does not fit is left out, and the next one is what the others are held against.
    (folder / "It.F16.gguf").write_bytes(gguf(2 * GGUF_WEIGHTS))
    os.truncate(folder / "It.F16.gguf", 40_000_000_000)
    new(told("My files", "--vram", "20", "--force"))
    experiment = planning.read_study("studies/my-files.yaml")[0]["experiments"]["generate"]
    assert experiment["techniques"] == ["it.q8_0", "it.q4_k_m"]
    assert "left out  it.f16: needs about 40" in capsys.readouterr().out
    (folder / "It.F16.gguf").unlink()
    with pytest.raises(ValueError, match="several files are measured as they are; for other techniques name one of them"):
        new(told("My files", "--techniques", "gguf_q8_0", "--force"))
    with pytest.raises(StudyError, match="training starts from one model; name one of the files"):
        new(told("My files", "--workload", "train"))
    # Of no use, and alone it is a file to name.
    (folder / "It.Q8_0.gguf").unlink()
    new(told("My files"))
    assert planning.read_study("studies/it.q4_k_m.yaml")[0]["models"]["it.q4_k_m"]["gguf"] == "My files/It.Q4_K_M.gguf"


def test_gguf_files_of_several_models_are_each_a_model(here, tmp_path, capsys):
    folder = tmp_path / "zoo"
    folder.mkdir()
    for name, layers in (("small", 2), ("large", 3)):
        (folder / f"{name}.gguf").write_bytes(gguf(GGUF_WEIGHTS, layers))
    new(told("zoo"))
    study = planning.read_study("studies/zoo.yaml")[0]
    assert {name: model["gguf"] for name, model in study["models"].items()} == {"small": "zoo/small.gguf", "large": "zoo/large.gguf"}
    assert study["experiments"]["generate"]["techniques"] == ["gguf_original"]
    assert study["experiments"]["generate"]["evaluate"]["positions"] == 0
    assert "each file is of another model, and is measured as it is" in capsys.readouterr().out


def test_a_name_that_is_neither_here_nor_at_the_hub_says_both(here, monkeypatch):
    """Who mistyped a folder was told of the hub alone."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setenv("HF_HOME", str(here / "home"))
    with pytest.raises(
        StudyError, match="my-modle is no file or folder here, and as a repository of the hub: my-modle at main: HF_HUB_OFF"
    ):
        new(told("my-modle"))


def test_a_study_that_takes_long_names_what_makes_it_short(here, capsys):
    """Who has a laptop and a classifier of images was given a study of two hours, and no way out."""
    new(told("--shape", "resnet-50"))
    assert "--minutes 20" in capsys.readouterr().out
    new(told("--shape", "resnet-50", "--minutes", "20", "--force"))
    assert "--minutes 20" not in capsys.readouterr().out
    assert planning.read_study("studies/resnet-50-shape.yaml")[0]["experiments"]["train"]["techniques"][0] == "torch_fp32"
