"""Checkpoint folders: safetensors only, whole or not at all, and never in the place of what speedgrid did not make."""

import contextlib
import hashlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from speedgrid import checkpoints, files, models, notes, records
from speedgrid.outcomes import ModelError, NotFinite, Unsupported
from speedgrid.schema import CHECKPOINT, MODEL


def test_pickled_weights_are_refused_with_the_reason(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(Unsupported, match=r"pickled weights only \(pytorch_model\.bin\), which can run code when read"):
        checkpoints.weight_files(tmp_path)


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(Unsupported, match="it holds no weights"):
        checkpoints.facts(tmp_path)


def test_an_adapter_beside_the_weights_is_refused_with_what_to_do(tmp_path):
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_bytes((2).to_bytes(8, "little") + b"{}")
    checkpoints.check(tmp_path)
    (tmp_path / "adapter_config.json").write_text("{}")
    with pytest.raises(Unsupported, match=r"adapter \(adapter_config\.json\).*merge it into them"):
        checkpoints.check(tmp_path)


def test_the_hash_follows_the_content_and_not_the_time(tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model.safetensors").write_bytes(b"weights" if name != "c" else b"other")
    a, b, c = (checkpoints.facts(tmp_path / name) for name in ("a", "b", "c"))
    assert a == b
    assert a["checkpoint_bytes"] == 7
    assert a["checkpoint_sha256"] != c["checkpoint_sha256"]


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path):
    folder = tmp_path / "checkpoint"
    with checkpoints.replacing(folder) as fresh:
        (fresh / "model.safetensors").write_bytes(b"old")
    with pytest.raises(OSError, match="disk full"), checkpoints.replacing(folder) as fresh:
        (fresh / "model.safetensors").write_bytes(b"new")
        raise OSError("disk full")
    assert (folder / "model.safetensors").read_bytes() == b"old"
    assert set(tmp_path.iterdir()) == {folder, checkpoints.mark(folder)}


def test_a_link_is_replaced_and_its_target_never_deleted(tmp_path):
    source, folder = tmp_path / "source", tmp_path / "models" / "checkpoint"
    source.mkdir()
    (source / "model.safetensors").write_bytes(b"mine")
    checkpoints.link(folder, source)
    checkpoints.link(folder, source)
    with checkpoints.replacing(folder) as fresh:
        (fresh / "model.safetensors").write_bytes(b"other")
    assert (source / "model.safetensors").read_bytes() == b"mine"
    assert not folder.is_symlink()


def weights(folder: Path, content: bytes = b"mine") -> Path:
    """A folder with a small safetensors file that holds `content`, as somebody's own checkpoint."""
    folder.mkdir(parents=True, exist_ok=True)
    head = json.dumps({"w": {"dtype": "U8", "shape": [len(content)], "data_offsets": [0, len(content)]}}).encode()
    (folder / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + content)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    return folder


def made(folder: Path, content: bytes = b"made") -> Path:
    """The same, made by speedgrid."""
    with checkpoints.replacing(folder) as fresh:
        weights(fresh, content)
    return folder


def test_weights_in_the_place_of_a_models_checkpoint_are_not_emptied_for_a_link_to_themselves(tmp_path):
    own = weights(tmp_path / "models/mine/checkpoint")
    before = held(tmp_path)
    with pytest.raises(ModelError, match=r"is .*which speedgrid writes itself; move the weights elsewhere"):
        models.take_local(own, own)
    assert held(tmp_path) == before


@pytest.mark.parametrize("write", [lambda f: checkpoints.replacing(f).__enter__(), checkpoints.remove])
def test_what_speedgrid_did_not_make_is_not_removed_and_the_line_says_what_to_do(tmp_path, write):
    own = weights(tmp_path / "checkpoint")
    with pytest.raises(ModelError) as caught:
        write(own)
    assert str(caught.value) == (f"{own}: was not made by speedgrid, so it is not removed; move it elsewhere, or delete it, and run again")
    assert held(own) == held(weights(tmp_path / "again"))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda f: (f / "notes.txt").write_text("my notes"), "holds notes.txt, which speedgrid did not write"),
        (lambda f: weights(f, b"mine"), "holds model.safetensors, which speedgrid did not write"),
        (lambda f: (f / "deep").symlink_to(f.parent), "holds deep, which speedgrid did not write"),
        (lambda f: (shutil.move(f, f.parent / "moved"), f.symlink_to(f.parent / "moved")), "is a link that speedgrid did not make"),
        (lambda f: (shutil.rmtree(f), f.write_text("a file")), "is a file that speedgrid did not make"),
    ],
)
def test_a_folder_that_speedgrid_made_and_somebody_changed_is_kept(tmp_path, change, said):
    folder = made(tmp_path / "checkpoint")
    change(folder)
    before = held(tmp_path)
    with pytest.raises(ModelError, match=said):
        checkpoints.remove(folder)
    assert held(tmp_path) == before


def test_a_copy_of_what_speedgrid_made_with_other_times_is_still_its_own(tmp_path):
    made(tmp_path / "there/checkpoint")
    shutil.copytree(tmp_path / "there", tmp_path / "here", copy_function=shutil.copyfile)
    checkpoints.remove(tmp_path / "here/checkpoint")
    assert list((tmp_path / "here").iterdir()) == []


def test_what_an_interrupted_job_left_is_written_over(tmp_path):
    folder = tmp_path / "checkpoint"
    killed = checkpoints.replacing(folder)  # never left, as of a process that was killed
    (killed.__enter__() / "half").write_text("half")
    assert (tmp_path / ".checkpoint.new/half").is_file()
    made(folder)
    assert set(tmp_path.iterdir()) == {folder, checkpoints.mark(folder)}


def test_a_checkpoint_of_an_earlier_speedgrid_is_taken_over_where_its_record_tells_of_it(tmp_path):
    folder, record = weights(tmp_path / "checkpoint", b"quantized"), tmp_path / "quantize.parquet"
    row = {"model": "m", "technique": "t", "status": "ok", "reason": "", **checkpoints.facts(folder)}
    records.write(record, CHECKPOINT, [row])
    with pytest.raises(ModelError):
        checkpoints.check_own(folder)
    checkpoints.adopt(folder, record, CHECKPOINT)
    checkpoints.check_own(folder)
    weights(folder, b"ownweight")  # as many bytes
    with pytest.raises(ModelError, match="holds other weights than speedgrid made"):
        checkpoints.remove(folder)
    weights(folder, b"quantized")
    checkpoints.remove(folder)
    assert not folder.exists()


def test_what_lies_beside_adopted_weights_is_held_to_how_it_was_then(tmp_path):
    folder, record = weights(tmp_path / "checkpoint", b"quantized"), tmp_path / "quantize.parquet"
    (folder / "config.json").write_text("{}")
    row = {"model": "m", "technique": "t", "status": "ok", "reason": "", **checkpoints.facts(folder)}
    records.write(record, CHECKPOINT, [row])
    checkpoints.adopt(folder, record, CHECKPOINT)
    checkpoints.check_own(folder)
    for name in ("config.json", "notes.txt"):
        before = (folder / name).read_bytes() if (folder / name).exists() else None
        (folder / name).write_text("mine")
        with pytest.raises(ModelError, match=f"holds {name}, which speedgrid did not write"):
            checkpoints.remove(folder)
        (folder / name).write_bytes(before) if before is not None else (folder / name).unlink()
    # A mark of before names the weights alone.
    mark = json.loads(checkpoints.mark(folder).read_text())
    checkpoints.mark(folder).write_text(json.dumps({"weights_sha256": mark["weights_sha256"]}))
    checkpoints.remove(folder)
    assert not folder.exists()


def test_weights_beside_a_record_of_others_are_not_taken_over(tmp_path):
    folder, record = weights(tmp_path / "checkpoint", b"my own weights"), tmp_path / "prepared.parquet"
    row = {"model": "m", "status": "ok", "reason": "", "origin": "train", "checkpoint_bytes": 7, "checkpoint_sha256": "ab"}
    for content in (b"no record", None):
        if content is None:
            records.write(record, MODEL, [row])
        else:
            record.write_bytes(content)
        checkpoints.adopt(folder, record, MODEL)
        with pytest.raises(ModelError, match="was not made by speedgrid"):
            checkpoints.remove(folder)


# Any layout of folders and links

PLACES = ("data", "data/sub", "models", "models/mine", "models/mine/checkpoint", "models/other/checkpoint", "models/mine/checkpoint/sub")
LAYOUT = st.lists(
    st.tuples(st.sampled_from(PLACES), st.sampled_from(["own", "made", "link", "relative", "adopted"]), st.sampled_from(PLACES)), max_size=6
)
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["take", "make", "fail", "remove"]),
        st.sampled_from(["models/mine/checkpoint", "models/other/checkpoint"]),
        st.sampled_from([*PLACES, "models/mine/../other/checkpoint", "data/../models/mine/checkpoint", "."]),
    ),
    min_size=1,
    max_size=5,
)


def held(root: Path) -> dict[str, str | bytes]:
    """What every file and link below a folder holds."""
    found = {}
    for at, folders, names in os.walk(root):
        for path in (Path(at, name) for name in (*names, *folders)):
            if path.is_symlink() or path.is_file():
                found[str(path.relative_to(root))] = os.readlink(path) if path.is_symlink() else path.read_bytes()
    return found


def lay_out(root: Path, layout) -> None:
    for place, kind, goal in layout:
        path = root / place
        with contextlib.suppress(OSError, ModelError, RuntimeError):
            if kind == "own":
                weights(path, f"own of {place}".encode())
            elif kind == "made" and not os.path.lexists(path):
                made(path)
            elif kind == "adopted" and not os.path.lexists(path):
                checkpoints.link(path, root / goal)
            elif not os.path.lexists(path):
                path.parent.mkdir(parents=True, exist_ok=True)
                path.symlink_to(os.path.relpath(root / goal, path.parent) if kind == "relative" else root / goal)


def not_made(root: Path) -> dict[str, str | bytes]:
    """What is below a folder but for what speedgrid marked as made by itself: files by what was written there, links by their marks."""
    marked = set(root.rglob(".*.speedgrid"))
    told = {path.with_name(path.name[1 : -len(".speedgrid")]): json.loads(path.read_text()) for path in marked}
    found = held(root)
    for folder, mark in told.items():
        name = str(folder.relative_to(root))
        if "link" in mark and found.get(name) == mark["link"]:
            del found[name]
        for inside in mark.get("files", {}):
            path = folder / inside
            if path.is_file() and not folder.is_symlink() and files.content(path) == mark["files"][inside]:
                found.pop(f"{name}/{inside}", None)
    return {name: value for name, value in found.items() if root / name not in marked}


@settings(max_examples=300)
@given(layout=LAYOUT, steps=STEPS)
def test_whatever_the_layout_what_speedgrid_did_not_make_stays_as_it_is(tmp_path_factory, layout, steps):
    root = tmp_path_factory.mktemp("layout")
    lay_out(root, layout)
    before = not_made(root)
    for step, target, source in steps:
        with contextlib.suppress(ModelError, Unsupported, OSError, RuntimeError, ZeroDivisionError):
            if step == "take":
                models.take_local(root / source, root / target)
            elif step == "remove":
                checkpoints.remove(root / target)
            else:
                with checkpoints.replacing(root / target) as fresh:
                    weights(fresh, b"made now")
                    if step == "fail":
                        raise ZeroDivisionError
    after = held(root)
    assert {name: after.get(name) for name in before} == before


@pytest.mark.parametrize(
    ("source", "relation"),
    [
        ("models/mine/checkpoint", "is"),
        ("models/mine/checkpoint/sub", "lies in"),
        ("models/mine", "holds"),
        (".", "holds"),
        ("models/other/../mine/checkpoint", "is"),
        ("link", "is"),
        ("through/mine/checkpoint/sub", "lies in"),
        ("data", ""),
        ("models/other", ""),
        ("models/mine/checkpoint2", ""),
    ],
)
def test_how_weights_lie_to_a_folder_that_speedgrid_writes_is_seen_through_links_and_dots(tmp_path, source, relation):
    for folder in ("models/mine/checkpoint/sub", "models/other", "models/mine/checkpoint2", "data"):
        weights(tmp_path / folder)
    (tmp_path / "link").symlink_to("twice")
    (tmp_path / "twice").symlink_to(tmp_path / "models/mine/checkpoint")
    (tmp_path / "through").symlink_to("models")
    assert files.overlap(tmp_path / source, tmp_path / "models/mine/checkpoint") == relation


def test_a_path_through_a_link_that_speedgrid_makes_is_seen_and_what_it_links_to_is_the_users(tmp_path):
    target = tmp_path / "models/mine/checkpoint"
    checkpoints.link(target, weights(tmp_path / "data"))
    (tmp_path / "latest").symlink_to(target)
    assert [files.overlap(tmp_path / source, target) for source in ("data", "models/mine/checkpoint", "latest")] == [
        *("", "goes through", "goes through")
    ]


def test_a_folder_that_is_mounted_at_two_places_is_one_folder(tmp_path):
    target, other = weights(tmp_path / "models/mine/checkpoint"), tmp_path / "elsewhere"
    (target / "sub").mkdir()
    other.mkdir()
    if subprocess.run(["mount", "--bind", target, other], capture_output=True).returncode:
        pytest.skip("no folder may be mounted here (it needs root)")
    try:
        assert [files.overlap(source, target) for source in (other, other / "sub")] == ["is", "lies in"]
    finally:
        subprocess.run(["umount", other], check=True)


# Whether weights are still those of their record


def recorded(folder: Path) -> tuple[dict, dict]:
    return checkpoints.facts(folder), checkpoints.states(folder)


def large(folder: Path, tensors: int = 40, each: int = 100_000) -> Path:
    """A checkpoint with a file of 4 MB, of which not every byte is looked at."""
    folder.mkdir(parents=True, exist_ok=True)
    head = {f"w{n}": {"dtype": "U8", "shape": [each], "data_offsets": [n * each, (n + 1) * each]} for n in range(tensors)}
    text = json.dumps(head).encode()
    (folder / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + os.urandom(tensors * each))
    (folder / "config.json").write_text("{}")
    return folder


def poke(path: Path, at: int, length: int, keep_time: bool) -> None:
    """Write other bytes into a file, which keeps its size, and its time where that is asked for."""
    before = path.stat()
    with open(path, "rb+") as file:
        file.seek(at)
        there = file.read(length)
        file.seek(at)
        file.write(bytes(byte ^ 0xFF for byte in there))
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns if keep_time else before.st_mtime_ns + 10**9))


@pytest.mark.parametrize("tensor", [0, 17, 39])
def test_another_tensor_in_a_file_of_the_same_size_and_time_is_seen(tmp_path, tensor):
    folder = large(tmp_path / "checkpoint")
    before = recorded(folder)
    assert checkpoints.changed(folder, *before) == ""
    weights = folder / "model.safetensors"
    data = weights.stat().st_size - 40 * 100_000
    poke(weights, data + tensor * 100_000, 100_000, keep_time=True)
    assert checkpoints.changed(folder, *before) == "has another model.safetensors than its record tells of"


def test_a_single_byte_is_seen_where_the_time_moved_and_a_new_time_alone_is_none(tmp_path):
    folder = large(tmp_path / "checkpoint", tensors=1, each=4_000_000)
    before = recorded(folder)
    weights = folder / "model.safetensors"
    os.utime(weights, ns=(1, 1))
    assert checkpoints.changed(folder, *before) == ""
    # Between two blocks.
    poke(weights, 1_000_000 + 10_000, 1, keep_time=False)
    assert checkpoints.states(folder)["model.safetensors"][2] == before[1]["model.safetensors"][2]
    assert checkpoints.changed(folder, *before) == "holds other weights than its record tells of"


def test_a_single_byte_is_seen_where_another_file_took_the_place_with_size_and_time(tmp_path):
    """As `cp -p` and `rsync -t` put it there."""
    folder = large(tmp_path / "checkpoint", tensors=1, each=4_000_000)
    before = recorded(folder)
    weights, other = folder / "model.safetensors", tmp_path / "other"
    shutil.copy2(weights, other)
    poke(other, 1_000_000 + 10_000, 1, keep_time=True)
    os.replace(other, weights)
    now = checkpoints.states(folder)["model.safetensors"]
    assert now[:3] == before[1]["model.safetensors"][:3]
    assert checkpoints.changed(folder, *before) == "holds other weights than its record tells of"


def test_all_of_a_file_is_read_once_for_each_state_of_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "weights"
    path.write_bytes(b"one")
    first = files.digest(path)
    read = []
    monkeypatch.setattr(hashlib, "file_digest", lambda file, kind: read.append(file.name) or hashlib.new(kind, file.read()))
    assert files.digest(path) == first == hashlib.sha256(b"one").hexdigest()
    assert read == []
    path.write_bytes(b"two")
    assert files.digest(path) == hashlib.sha256(b"two").hexdigest()
    assert read == [str(path)]
    assert len(list(notes.DIGESTS.iterdir())) == 1  # of the state that it has, and of none of before


IDLE = ("README.md", "README.txt", ".gitattributes", ".DS_Store", "._config.json", "loss.png", "LICENSE.txt", "trainer_state.json")
IDLE += ("eval_results.json", "training_args.json", "model.gguf", "model.onnx", "consolidated.safetensors", "pytorch_model.bin")
READ = ("tokenizer.json", "generation_config.json", "merges.txt", "vocab.txt", "chat_template.jinja", "modeling_own.py", "tokenizer.model")


def test_files_that_no_loader_reads_make_no_other_checkpoint_and_those_that_one_may_read_do(tmp_path):
    folder = large(tmp_path / "checkpoint")
    before = recorded(folder)
    for name in IDLE:
        (folder / name).write_text("something")
    assert checkpoints.states(folder) == before[1]
    assert checkpoints.changed(folder, *before) == ""
    for name in READ:
        (folder / name).write_text("something")
    assert set(checkpoints.states(folder)) == {*before[1], *READ}


def test_a_letter_in_the_middle_of_a_long_tokenizer_is_seen(tmp_path):
    folder = large(tmp_path / "checkpoint")
    (folder / "tokenizer.json").write_text("a" * 5_000_000)
    before = recorded(folder)
    poke(folder / "tokenizer.json", 1_200_123, 1, keep_time=True)
    assert checkpoints.changed(folder, *before) == "has another tokenizer.json than its record tells of"


def test_a_file_of_the_configuration_that_changed_went_or_came_is_seen_where_it_matters(tmp_path):
    folder = large(tmp_path / "checkpoint")
    before = recorded(folder)
    (folder / "config.json").write_text("[]")
    assert checkpoints.changed(folder, *before) == "has another config.json than its record tells of"
    (folder / "config.json").unlink()
    assert checkpoints.changed(folder, *before) == "has another config.json than its record tells of"
    (folder / "config.json").write_text("{}")
    (folder / "more.txt").write_text("of no matter")
    assert checkpoints.changed(folder, *before) == ""
    (folder / "model.safetensors").rename(folder / "model-1.safetensors")
    assert checkpoints.changed(folder, *before) == "has another model-1.safetensors than its record tells of"


def test_a_record_of_before_has_no_files_and_is_held_against_its_bytes_alone(tmp_path):
    folder = large(tmp_path / "checkpoint")
    assert checkpoints.changed(folder, checkpoints.facts(folder), {}) == ""
    assert "holds 4,0" in checkpoints.changed(folder, {"checkpoint_bytes": 7}, {})


def test_weights_that_are_gone_from_where_links_lead_are_said_in_words(tmp_path):
    folder = large(tmp_path / "checkpoint")
    before = recorded(folder)
    (folder / "model.safetensors").rename(tmp_path / "blob")
    (folder / "model.safetensors").symlink_to(tmp_path / "blob")
    assert checkpoints.changed(folder, *before) == ""
    (tmp_path / "blob").unlink()
    assert checkpoints.changed(folder, *before) == f"cannot be read ({folder / 'model.safetensors'}: No such file or directory)"


@pytest.mark.parametrize("kind", ["F16", "BF16", "F32", "F64"])
@pytest.mark.parametrize("number", ["nan", "inf", "-inf", ""])
def test_what_ends_in_the_dark_over_weights_that_are_no_numbers_is_said_to_be_theirs(tmp_path, monkeypatch, kind, number):
    numbers = numpy.array([0.0, -1.5, 60000.0, float(number or 1), 1e-7], dtype={"F16": "<f2", "F64": "<f8"}.get(kind, "<f4"))
    held = (numbers.view("<u4") >> 16).astype("<u2").tobytes() if kind == "BF16" else numbers.tobytes()
    ids = b"\xff" * 8
    told = {"ids": {"dtype": "I32", "shape": [2], "data_offsets": [0, 8]}}
    told["weight"] = {"dtype": kind, "shape": [len(numbers)], "data_offsets": [8, 8 + len(held)]}
    head = json.dumps(told).encode()
    (tmp_path / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + ids + held)
    monkeypatch.setattr(checkpoints, "LOOKED_AT", 16)
    assert checkpoints.not_finite(tmp_path) == ("weight" if number else "")
    with pytest.raises(NotFinite if number else ZeroDivisionError), checkpoints.blamed_if_not_finite(tmp_path):
        1 / 0  # noqa: B018
    # What a library says in words stays as it is.
    with pytest.raises(Unsupported), checkpoints.blamed_if_not_finite(tmp_path):
        raise Unsupported("no such layer")
