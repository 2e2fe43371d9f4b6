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
    (folder / checkpoints.INDEX).write_text(json.dumps({"weight_map": files}))


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


@pytest.mark.parametrize(
    "held", ["[]", "{}", '{"weight_map": []}', '{"weight_map": {"a": "../other/model.safetensors"}}', '{"weight_map": {"a": 1}}']
)
def test_a_damaged_index_is_refused(tmp_path, held):
    weights(tmp_path / "model-00001-of-00001.safetensors", a=3)
    (tmp_path / checkpoints.INDEX).write_text(held)
    with pytest.raises(Unsupported, match=r"index\.json of the checkpoint is damaged"):
        checkpoints.weight_files(tmp_path)
