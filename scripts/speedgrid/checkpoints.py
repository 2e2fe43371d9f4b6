"""Checkpoint folders: written whole, counted and hashed."""

import hashlib
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from speedgrid.outcomes import Unsupported

# The formats of weights, each with its files; ONNX keeps large weights in a file beside the graph.
FORMATS = (("*.safetensors",), ("*.gguf",), ("*.onnx", "*.onnx_data", "*.onnx.data"))
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")


def weight_files(folder: Path) -> list[Path]:
    """The safetensors, GGUF or ONNX files of a checkpoint, in order of name; one of them is its format.

    Raises Unsupported where there are none; a pickle can run code when it is read, so it is never loaded.
    """
    for patterns in FORMATS:
        files = sorted(path for pattern in patterns for path in folder.glob(pattern))
        if files:
            break
    else:
        pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
        held = f"it holds pickled weights only ({pickles[0]}), which can run code when read" if pickles else "it holds no weights"
        raise Unsupported(f"{folder.name}: no safetensors file; {held}")
    return files


def facts(folder: Path) -> dict:
    """`checkpoint_bytes` and `checkpoint_sha256` of a checkpoint."""
    digest = hashlib.sha256()
    files = weight_files(folder)
    for path in files:
        with open(path, "rb") as weights:
            digest.update(hashlib.file_digest(weights, "sha256").digest())
    return {"checkpoint_bytes": sum(path.stat().st_size for path in files), "checkpoint_sha256": digest.hexdigest()}


def parameters(folder: Path) -> int:
    """Number of weights of a checkpoint of safetensors, by the shapes in the heads of its files."""
    from math import prod

    from safetensors import safe_open

    total = 0
    for path in weight_files(folder):
        with safe_open(path, framework="numpy") as weights:
            total += sum(prod(weights.get_slice(name).get_shape()) for name in weights.keys())  # noqa: SIM118
    return total


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A new folder to write a checkpoint into; it takes the place of `folder` if nothing went wrong, and is removed otherwise."""
    fresh = folder.with_name(f".{folder.name}.new")
    remove(fresh)
    fresh.mkdir(parents=True)
    try:
        yield fresh
        remove(folder)
        fresh.rename(folder)
    except BaseException:
        remove(fresh)
        raise


def link(folder: Path, source: Path) -> None:
    """Let `folder` stand for a checkpoint that lies elsewhere, without a copy of its gigabytes."""
    remove(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.symlink_to(source.resolve(), target_is_directory=True)


def remove(folder: Path) -> None:
    if folder.is_symlink():
        folder.unlink()
    else:
        shutil.rmtree(folder, ignore_errors=True)
