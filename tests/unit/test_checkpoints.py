"""Checkpoint folders: safetensors only, and whole or not at all."""

import pytest
from speedgrid import checkpoints
from speedgrid.outcomes import Unsupported


def test_pickled_weights_are_refused_with_the_reason(tmp_path):
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(Unsupported, match=r"pickled weights only \(pytorch_model\.bin\), which can run code when read"):
        checkpoints.weight_files(tmp_path)


def test_a_folder_without_weights_is_refused(tmp_path):
    with pytest.raises(Unsupported, match="it holds no weights"):
        checkpoints.facts(tmp_path)


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
    assert list(tmp_path.iterdir()) == [folder]


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
