"""Which files of a checkpoint are its weights."""

import json
import struct

import pytest
from speedgrid import checkpoints
from speedgrid.outcomes import Unsupported


def weights(path, **tensors: int) -> None:
    """A safetensors file of tensors in 8 bits, each of so many numbers."""
    head, start = {}, 0
    for name, count in tensors.items():
        head[name] = {"dtype": "U8", "shape": [count], "data_offsets": [start, start + count]}
        start += count
    text = json.dumps(head).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(start))


def index(folder, **files: str) -> None:
    (folder / checkpoints.INDEX).write_text(json.dumps({"metadata": {}, "weight_map": files}))


@pytest.mark.parametrize("beside", ["consolidated.safetensors", "model-00003-of-00003.safetensors", "adapter_model.safetensors"])
def test_the_files_of_an_index_alone_are_the_weights(tmp_path, beside):
    weights(tmp_path / "model-00001-of-00002.safetensors", a=3)
    weights(tmp_path / "model-00002-of-00002.safetensors", b=5)
    index(tmp_path, a="model-00001-of-00002.safetensors", b="model-00002-of-00002.safetensors")
    alone = checkpoints.facts(tmp_path), checkpoints.parameters(tmp_path), checkpoints.size(tmp_path)
    weights(tmp_path / beside, a=3, b=5)
    assert (checkpoints.facts(tmp_path), checkpoints.parameters(tmp_path), checkpoints.size(tmp_path)) == alone
    assert checkpoints.parameters(tmp_path) == 8
    checkpoints.check(tmp_path)


def test_one_whole_file_is_the_weights_whatever_lies_beside_it(tmp_path):
    weights(tmp_path / checkpoints.WHOLE, a=3)
    weights(tmp_path / "consolidated.safetensors", a=3)
    index(tmp_path, a="model-00001-of-00001.safetensors")
    assert [path.name for path in checkpoints.weight_files(tmp_path)] == [checkpoints.WHOLE]
    checkpoints.check(tmp_path)


def test_an_index_that_names_what_is_not_there_is_refused(tmp_path):
    weights(tmp_path / "model-00001-of-00002.safetensors", a=3)
    index(tmp_path, a="model-00001-of-00002.safetensors", b="model-00002-of-00002.safetensors")
    with pytest.raises(Unsupported, match=r"names model-00002-of-00002\.safetensors, which is not there \(1 missing\)"):
        checkpoints.check(tmp_path)
    index(tmp_path, a="model-00001-of-00002.safetensors", b="model-00001-of-00002.safetensors")
    with pytest.raises(Unsupported, match=r"names b, which no file holds \(1 missing\)"):
        checkpoints.check(tmp_path)


def test_an_index_that_tells_of_another_file_than_holds_a_weight_is_refused(tmp_path):
    weights(tmp_path / "model-00001-of-00002.safetensors", a=3)
    weights(tmp_path / "model-00002-of-00002.safetensors", b=5)
    index(tmp_path, b="model-00001-of-00002.safetensors", a="model-00002-of-00002.safetensors")
    with pytest.raises(Unsupported, match=r"model-00002-of-00002\.safetensors does not hold a, which another file has"):
        checkpoints.check(tmp_path)


def test_a_second_copy_with_other_numbers_in_another_file_is_refused(tmp_path):
    """transformers and vLLM load every weight of every file that an index names, and keep the last, whichever the index means."""
    files = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    for name, file in files.items():
        weights(tmp_path / file, **{name: 3, "tied": 2})
    index(tmp_path, **files, tied=files["a"])
    checkpoints.check(tmp_path)
    held = (tmp_path / files["b"]).read_bytes()
    (tmp_path / files["b"]).write_bytes(held[:-1] + b"\1")
    with pytest.raises(Unsupported, match=r"model-00002-of-00002\.safetensors .* holds tied with other numbers than model-00001-of"):
        checkpoints.check(tmp_path)


def test_an_index_that_transformers_would_not_read_is_refused(tmp_path):
    weights(tmp_path / "model-00001-of-00001.safetensors", a=3)
    (tmp_path / checkpoints.INDEX).write_text(json.dumps({"weight_map": {"a": "model-00001-of-00001.safetensors"}}))
    with pytest.raises(Unsupported, match="has no `metadata`"):
        checkpoints.check(tmp_path)


def head(path, told: object, data: bytes = bytes(8)) -> None:
    text = told if isinstance(told, bytes) else json.dumps(told).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


WHOLE = {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}


@pytest.mark.parametrize(
    "told",
    [
        [1, 2],
        b'{"a": ',
        b'{"\xff": 1}',
        b'{"a":' + b"[" * 20000 + b"]" * 20000 + b"}",
        {"a": {"dtype": "F32", "shape": [2]}},
        {"a": {**WHOLE, "shape": [-2]}},
        {"a": {**WHOLE, "shape": "2"}},
        {"a": {**WHOLE, "shape": [2.0]}},
        {"a": {**WHOLE, "shape": [True, 2]}},
        {"a": {**WHOLE, "shape": [2**40, 2**40]}},
        {"a": {**WHOLE, "shape": [3]}},
        {"a": {**WHOLE, "dtype": ["F32"]}},
        {"a": {**WHOLE, "data_offsets": [0]}},
        {"a": {**WHOLE, "data_offsets": ["0", "8"]}},
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 8]}},
        {"a": WHOLE, "b": WHOLE},
        {"a": WHOLE, "__metadata__": {"format": 5}},
        {"a": WHOLE, "__metadata__": "pt"},
        {"a": {"dtype": "F4", "shape": [15], "data_offsets": [0, 8]}},
    ],
)
def test_a_head_that_no_reader_takes_is_one_line(tmp_path, told):
    """Else a job would end in whatever the package safetensors or Python say of it."""
    head(tmp_path / checkpoints.WHOLE, told)
    with pytest.raises(Unsupported, match=r"model\.safetensors of the checkpoint is damaged: its head cannot be read"):
        checkpoints.check(tmp_path)


def test_a_head_that_is_whole_is_read(tmp_path):
    told = {"b": {"dtype": "F4", "shape": [8], "data_offsets": [4, 8]}, "a": {"dtype": "BF16", "shape": [2], "data_offsets": [0, 4]}}
    head(tmp_path / checkpoints.WHOLE, told | {"none": {"dtype": "F32", "shape": [0, 3], "data_offsets": [8, 8]}})
    assert checkpoints.parameters(tmp_path) == 10
    head(tmp_path / checkpoints.WHOLE, {"a": {**WHOLE, "dtype": "F99"}})
    with pytest.raises(Unsupported, match="in a format that safetensors does not know: F99"):
        checkpoints.check(tmp_path)


def test_a_folder_by_the_name_of_weights_is_none(tmp_path):
    (tmp_path / checkpoints.WHOLE).mkdir()
    with pytest.raises(Unsupported, match="it holds no weights"):
        checkpoints.check(tmp_path)


@pytest.mark.parametrize("kind", ["I8", "I32", "BOOL", "F8_E4M3"])
def test_weights_in_a_format_of_quantization_without_a_word_of_quantization_are_no_model(tmp_path, kind):
    """They are read as the numbers that they are, without their scales: figures of another model, status ok."""
    size = checkpoints.BITS[kind] // 8
    head(tmp_path / checkpoints.WHOLE, {"up.weight": {"dtype": kind, "shape": [8 // size], "data_offsets": [0, 8]}})
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(Unsupported, match=rf"up\.weight of the checkpoint is in {kind}, as quantized weights are"):
        checkpoints.check(tmp_path)
    (tmp_path / "config.json").write_text('{"quantization_config": {"quant_method": "x"}}')
    checkpoints.check(tmp_path)
    # A table of positions, say.
    head(tmp_path / checkpoints.WHOLE, {"position_ids": {"dtype": kind, "shape": [8 // size], "data_offsets": [0, 8]}})
    (tmp_path / "config.json").write_text("{}")
    checkpoints.check(tmp_path)


@pytest.mark.parametrize(
    "held",
    [
        "[]",
        "{}",
        '{"metadata": {}, "weight_map": {}}',
        '{"weight_map": []}',
        '{"weight_map": {"a": "../other/model.safetensors"}}',
        '{"weight_map": {"a": 1}}',
    ],
)
def test_a_damaged_index_is_refused(tmp_path, held):
    weights(tmp_path / "model-00001-of-00001.safetensors", a=3)
    (tmp_path / checkpoints.INDEX).write_text(held)
    with pytest.raises(Unsupported, match=r"index\.json of the checkpoint is damaged"):
        checkpoints.weight_files(tmp_path)


@pytest.mark.parametrize("name", [checkpoints.WHOLE, "tokenizer.json"])
def test_a_pointer_of_git_lfs_is_told_from_a_damaged_file(tmp_path, name):
    weights(tmp_path / checkpoints.WHOLE, a=3)
    (tmp_path / name).write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 4976698672\n")
    with pytest.raises(Unsupported, match=rf"^{name} of the checkpoint is a pointer of Git LFS .*`git lfs pull` fetches it$"):
        checkpoints.check(tmp_path)


def test_what_a_reader_by_rules_of_its_own_is_shown_are_the_weights_and_no_others(tmp_path):
    folder = tmp_path / "w"
    folder.mkdir()
    weights(folder / "model-00001-of-00001.safetensors", a=3)
    index(folder, a="model-00001-of-00001.safetensors")
    (folder / "config.json").write_text("{}")
    assert checkpoints.as_read(folder, tmp_path / "links") == folder
    weights(folder / "consolidated.safetensors", b=9)
    shown = checkpoints.as_read(folder, tmp_path / "links")
    assert {path.name for path in shown.iterdir()} == {"config.json", checkpoints.INDEX, "model-00001-of-00001.safetensors"}
    assert (shown / "config.json").samefile(folder / "config.json")
    # One whole file makes the index void, whether or not the files that it names are there.
    weights(folder / checkpoints.WHOLE, a=4)
    for others in (("consolidated.safetensors",), ("model-00001-of-00001.safetensors",), ()):
        shown = checkpoints.as_read(folder, tmp_path / f"links {len(list(folder.iterdir()))}")
        assert {path.name for path in shown.iterdir()} == {"config.json", checkpoints.WHOLE}
        assert {name: one["shape"] for name, one in checkpoints.all_tensors(folder).items()} == {"a": [4]}
        for name in others:
            (folder / name).unlink()
    (folder / checkpoints.INDEX).unlink()
    assert checkpoints.as_read(folder, tmp_path / "none") == folder


def test_the_framework_of_a_file_is_what_its_metadata_say(tmp_path):
    for metadata, said in (({"format": "pt"}, "pt"), ({"format": "tf"}, "tf"), ({"step": "5"}, ""), ({}, ""), (None, None)):
        head(tmp_path / checkpoints.WHOLE, {"a": WHOLE} | ({} if metadata is None else {"__metadata__": metadata}))
        assert checkpoints.framework(tmp_path / checkpoints.WHOLE) == said


@pytest.mark.parametrize("name", checkpoints.JSON_OBJECTS)
@pytest.mark.parametrize(("encoding", "called"), [("utf-8-sig", "UTF-8"), ("utf-16-le", "UTF-16"), ("utf-16-be", "UTF-16, big-endian")])
def test_a_byte_order_mark_is_named_where_it_keeps_a_file_from_being_read(tmp_path, name, encoding, called):
    weights(tmp_path / checkpoints.WHOLE, a=3)
    mark = "" if encoding == "utf-8-sig" else "\ufeff"
    (tmp_path / name).write_text(f'{mark}{{"eos_token_id": 2}}', encoding=encoding)
    with pytest.raises(
        Unsupported, match=rf"^{name} of the checkpoint is damaged: it begins with the byte order mark of {called}; save it"
    ):
        checkpoints.check(tmp_path)
    (tmp_path / name).write_text('{"eos_token_id": 2}', encoding="utf-8")
    checkpoints.check(tmp_path)
