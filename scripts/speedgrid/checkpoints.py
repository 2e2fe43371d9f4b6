"""Checkpoint folders: written whole, counted and hashed, and replaced only where speedgrid made them.

Beside each folder or link that is made here lies its mark, `.NAME.speedgrid`, which says what was made. What has no mark, or holds anything
that its mark does not tell of, belongs to somebody else: it is never removed.
"""

import codecs
import hashlib
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from math import prod
from pathlib import Path

from speedgrid import files, records
from speedgrid.outcomes import ModelError, NotFinite, Unsupported, expected
from speedgrid.schema import MODEL, Table

# The formats of weights, each with its files; ONNX keeps large weights in a file beside the graph.
FORMATS = (("*.safetensors",), ("*.gguf",), ("*.onnx", "*.onnx_data", "*.onnx.data"))
WHOLE, INDEX = "model.safetensors", "model.safetensors.index.json"
# The largest file of weights that is written where there may be several. Each is copied in memory before it is written, and hashed on one
# core: 2.5 GB took 1.6 s in one file and 0.5 s in six.
SHARD = "1GB"
ADAPTER = "adapter_config.json"
# What loaders read beside weights, each a JSON object.
JSON_OBJECTS = ("config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json", "special_tokens_map.json", "vocab.json")
# Bits of a number in each format that the package safetensors reads.
BITS = {
    **dict.fromkeys(("F6_E2M3", "F6_E3M2"), 6),
    **dict.fromkeys(("BOOL", "U8", "I8", "F8_E5M2", "F8_E4M3", "F8_E8M0", "F8_E4M3FNUZ", "F8_E5M2FNUZ"), 8),
    **dict.fromkeys(("I16", "U16", "F16", "BF16"), 16),
    **dict.fromkeys(("I32", "U32", "F32"), 32),
    **dict.fromkeys(("I64", "U64", "F64", "C64"), 64),
    "F4": 4,
}
# Those that weights are in which are not quantized.
UNQUANTIZED = ("F16", "BF16", "F32", "F64")
# Of numbers in these formats the bytes of each, and the bits that are all set in what is no finite number.
EXPONENTS = {"F16": (2, 0x7C00), "BF16": (2, 0x7F80), "F32": (4, 0x7F800000), "F64": (8, 0x7FF0000000000000)}
# So many bytes of weights are looked at together.
LOOKED_AT = 2**26
# What the package safetensors takes for the head of a file, and no more.
LONGEST_HEAD = 100_000_000
# What Snakemake leaves in a folder that is the output of a rule.
SNAKEMAKES = ".snakemake_timestamp"
# How a pointer of Git LFS begins, which Git leaves in the place of a large file.
LFS = b"version https://git-lfs"
# How a text begins that was saved with a byte order mark.
MARKS = {"UTF-8": codecs.BOM_UTF8, "UTF-16": codecs.BOM_UTF16_LE, "UTF-16, big-endian": codecs.BOM_UTF16_BE}
PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
# Files of a checkpoint that make it what it is, by their ends; those that hold weights, of which the ones of its format count alone; and by
# their names those that no loader reads: what people, trainers and file managers leave beside it.
HOLD_WEIGHTS = (".safetensors", ".gguf", ".onnx", ".onnx_data", ".data")
OF_A_CHECKPOINT = (*files.TEXTS, *HOLD_WEIGHTS)
IDLE = re.compile(
    r"\..*|(readme|licen[cs]e|notice|use_policy|changelog|citation|requirements)\b.*|training_args\..*|trainer_state\.json|.*_results\.json"
    r"|pytorch_model\.bin\.index\.json",
    re.IGNORECASE,
)
# Where the GGUF file lies that a model came as.
GGUF = "gguf"
# Origins of weights of the user's, which nobody else's mark tells of.
OF_THE_USER = ("local", "gguf")


def weight_files(folder: Path) -> list[Path]:
    """The safetensors, GGUF or ONNX files of a checkpoint, in order of name; one of them is its format.

    Of safetensors those that transformers reads: the one file, or the files that the index names. Others beside them hold the same weights
    once more, as `consolidated.safetensors` does. Raises Unsupported where there are none; a pickle can run code when it is read, so it is
    never loaded.
    """
    for patterns in FORMATS:
        files = sorted(path for pattern in patterns for path in folder.glob(pattern) if path.is_file() or not path.exists())
        if patterns == FORMATS[0] and (read := {WHOLE} & {path.name for path in files} or set(indexed(folder).values())):
            files = [path for path in files if path.name in read]
        if files:
            break
    else:
        pickles = sorted(path.name for pattern in PICKLES for path in folder.glob(pattern))
        held = f"it holds pickled weights only ({pickles[0]}), which can run code when read" if pickles else "it holds no weights"
        raise Unsupported(f"{folder.name}: no safetensors file; {held}")
    return files


def indexed(folder: Path) -> dict[str, str]:
    """The file of every weight by its name, as the index of a checkpoint in several files says; empty where there is none.

    Raises Unsupported for an index that is damaged.
    """
    if not (folder / INDEX).is_file():
        return {}
    index = _json(folder / INDEX)
    found = index.get("weight_map") if isinstance(index, dict) else None
    if not found or not isinstance(found, dict) or not all(isinstance(name, str) and Path(name).name == name for name in found.values()):
        raise Unsupported(f"{INDEX} of the checkpoint is damaged: it has no `weight_map` from weights to files")
    return found


def size(folder: Path) -> int:
    """Bytes of the weight files of a checkpoint; 0 where there are none."""
    try:
        return sum(path.stat().st_size for path in weight_files(folder))
    except Unsupported:
        return 0


def facts(folder: Path) -> dict:
    """`checkpoint_bytes` and `checkpoint_sha256` of a checkpoint."""
    return {"checkpoint_bytes": size(folder), "checkpoint_sha256": _hash(weight_files(folder), _read_digest)}


def _hash(paths: Sequence[Path], digest: Callable[[Path], str]) -> str:
    """SHA-256 over files in this order, which are read on as many threads as there are cores."""
    found = hashlib.sha256()
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for told in pool.map(digest, paths):
            found.update(bytes.fromhex(told))
    return found.hexdigest()


def _read_digest(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def states(folder: Path) -> dict[str, list]:
    """The state (files.state) of every file that makes a checkpoint what it is, by its name. Raises OSError, for a link that leads nowhere
    too."""
    try:
        read = {path.name for path in weight_files(folder)}
    except Unsupported:  # for its job to say
        read = None
    found = {}
    for path in sorted(folder.iterdir()):
        is_read = read is None or path.suffix not in HOLD_WEIGHTS or path.name in read
        if path.suffix in OF_A_CHECKPOINT and is_read and not IDLE.fullmatch(path.name) and not path.is_dir():
            found[path.name] = files.state(path)
    return found


def came_as(folder: Path) -> dict[str, list]:
    """The same of the GGUF file that a checkpoint was written out from, with the hash of all of it."""
    return {f"{GGUF}/{path.name}": [*files.state(path), files.digest(path)] for path in sorted(folder.glob(f"{GGUF}/*.gguf"))}


def replaced(record: Path, facts: Mapping) -> bool:
    """Whether the weights of the user's that the record of a model tells of, with these facts, are others by now."""
    folder = record.with_name("checkpoint")
    specification = json.loads(facts.get("job") or "{}")
    if specification.get("origin") not in OF_THE_USER or not facts.get("files") or not folder.exists():
        return False
    row = records.first_row(record, MODEL)
    return bool(row.get("checkpoint_bytes") and changed(folder, row, json.loads(facts["files"])))


def changed(folder: Path, row: Mapping, known: Mapping[str, list]) -> str:
    """What of a checkpoint is no longer what its record tells of, in words; empty where all is.

    `row` has what facts() gave and `known` what states() and came_as() gave. Blocks of each file are held against those of before; where a
    time or its place on the disk moved as well, which they need not show, all weights are read, once for each state of them.
    """
    try:
        return _changed(folder, row, known)
    except OSError as error:
        return f"cannot be read ({error.filename}: {error.strerror})"


def _changed(folder: Path, row: Mapping, known: Mapping[str, list]) -> str:
    found = size(folder)
    if found != row["checkpoint_bytes"]:
        return f"holds {found:,} bytes of weights, and its record tells of {row['checkpoint_bytes']:,}"
    known = {name: state for name, state in known.items() if not IDLE.fullmatch(name)}  # an older record has those, too
    now = states(folder) if known else {}
    now |= {name: files.state(folder / name) for name in known if name.startswith(f"{GGUF}/") and (folder / name).is_file()}
    weights = {path.name for path in weight_files(folder)} if found and known else set()
    for name in sorted(known.keys() | weights):
        if name not in now or name not in known or now[name][2] != known[name][2]:
            return f"has another {name} than its record tells of"
    moved = {name for name in known if files.has_moved(now[name], known[name])}
    if any(known[name][5] != files.digest(folder / name) for name in moved if name.startswith(f"{GGUF}/")):
        return "came as another GGUF file than its record tells of"
    if moved & weights and _hash(weight_files(folder), files.digest) != row["checkpoint_sha256"]:
        return "holds other weights than its record tells of"
    return ""


def parameters(folder: Path) -> int | None:
    """Number of weights of a checkpoint of safetensors, by the shapes in the heads of its files; None for another format."""
    if weight_files(folder)[0].suffix != ".safetensors":
        return None
    return sum(prod(entry["shape"]) for entry in all_tensors(folder).values())


def all_tensors(folder: Path) -> dict[str, dict]:
    """What `tensors` gives of all weights of a checkpoint, whatever lies beside them; empty where it holds no safetensors."""
    if not any(folder.glob("*.safetensors")):
        return {}
    return {name: entry for path in weight_files(folder) for name, entry in tensors(path).items()}


def as_read(folder: Path, links: Path) -> Path:
    """A checkpoint for a program that picks files of weights by rules of its own: `folder` itself, or, where other safetensors than
    `weight_files` or an index that does not count lie in it, the new folder `links`, with links to all but those."""
    read = {path.name for path in weight_files(folder)}
    others = {path.name for path in folder.glob("*.safetensors")} - read
    if WHOLE in read and (folder / INDEX).is_file():
        others.add(INDEX)
    if not others:
        return folder
    links.mkdir()
    for path in folder.iterdir():
        if path.name not in others:
            (links / path.name).symlink_to(path.resolve())
    return links


def require_safetensors(folder: Path, what: str) -> None:
    """Raise Unsupported where `what` is to load a checkpoint of another format."""
    if not any(folder.glob("*.safetensors")):
        held = ", ".join(path.name for path in weight_files(folder))
        raise Unsupported(f"the checkpoint has no safetensors, the only format that {what} loads; it holds {held}")


def check(folder: Path) -> None:
    """Raise Unsupported where a checkpoint is damaged or lacks something, as far as can be seen without reading its weights.

    Every engine and transform would say it in words of its own, or not at all: transformers makes up the weights of a missing file.
    """
    for name in JSON_OBJECTS:
        _refuse_pointer(folder / name)
        if (folder / name).is_file() and not isinstance(_json(folder / name), dict):
            raise Unsupported(f"{name} of the checkpoint is damaged: {_why_no_object(folder / name)}")
    if (folder / ADAPTER).is_file():
        raise Unsupported(
            f"the checkpoint has an adapter ({ADAPTER}) beside its weights, which would be left out; merge it into them"
            " (peft: merge_and_unload), or take it away to measure the base model"
        )
    named = {} if (folder / WHOLE).is_file() else indexed(folder)
    missing = sorted({name for name in named.values() if not (folder / name).is_file()})
    if missing:
        raise Unsupported(f"the checkpoint is not complete: {INDEX} names {missing[0]}, which is not there ({len(missing)} missing)")
    files = weight_files(folder)
    if files[0].suffix == ".safetensors":
        _check_tensors({path.name: tensors(path) for path in files}, named, folder)
    elif files[0].suffix == ".gguf":
        for path in files:
            with open(path, "rb") as weights:
                if weights.read(4) != b"GGUF":
                    raise Unsupported(f"{path.name} of the checkpoint is damaged: it does not begin as a GGUF file")


def _refuse_pointer(path: Path) -> None:
    """Raise Unsupported for what Git leaves in the place of a large file where its extension LFS is not installed."""
    if path.is_file():
        with open(path, "rb") as file:
            if file.read(len(LFS)) == LFS:
                raise Unsupported(
                    f"{path.name} of the checkpoint is a pointer of Git LFS and not the file itself; in the repository, `git lfs pull`"
                    " fetches it"
                )


def _check_tensors(held: Mapping[str, Mapping[str, Mapping]], named: Mapping[str, str], folder: Path) -> None:
    """Raise Unsupported where the weights that the files of a checkpoint hold are not those that its index and config.json tell of."""
    everything = {name for file in held.values() for name in file}
    if lacking := sorted(set(named) - everything):
        raise Unsupported(f"the checkpoint is not complete: {INDEX} names {lacking[0]}, which no file holds ({len(lacking)} missing)")
    if elsewhere := sorted(name for name, file in named.items() if name not in held[file]):
        raise Unsupported(
            f"{INDEX} of the checkpoint is damaged: {named[elsewhere[0]]} does not hold {elsewhere[0]}, which another file has"
        )
    if stray := next(_second_copies(held, named, folder), None):
        raise Unsupported(
            f"{stray[1]} of the checkpoint holds {stray[0]} with other numbers than {named[stray[0]]}, where {INDEX} has it;"
            " transformers takes the last that it reads. Write the weights anew without the stale one"
        )
    if named and not isinstance(files.json_object(folder / INDEX).get("metadata"), dict):
        raise Unsupported(
            f'{INDEX} of the checkpoint has no `metadata`, without which transformers does not read it; add `"metadata": {{}}`'
        )
    if any("quant" in key or "compress" in key for key in files.json_object(folder / "config.json")):
        return
    for name, kind in ((name, entry["dtype"]) for file in held.values() for name, entry in file.items()):
        if name.endswith((".weight", ".bias")) and kind not in UNQUANTIZED:
            raise Unsupported(
                f"{name} of the checkpoint is in {kind}, as quantized weights are, and config.json tells of no quantization: without it"
                " they are the weights of another model"
            )


def _second_copies(held: Mapping[str, Mapping], named: Mapping[str, str], folder: Path) -> Iterator[tuple[str, str]]:
    """The weights that another file holds, too, than the one where the index has them, with other content, each with that file."""
    for file in sorted(held):
        for name in sorted(name for name in held[file] if named.get(name, file) != file):
            if content(folder / file, name) != content(folder / named[name], name):
                yield name, file


def content(path: Path, name: str) -> tuple:
    """What tells one tensor of a safetensors file from another: its format, shape and a hash of its numbers."""
    entry = tensors(path)[name]
    start, end = entry["data_offsets"]
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        file.seek(8 + int.from_bytes(file.read(8), "little") + start)
        left = end - start
        while left and (part := file.read(min(left, 2**24))):
            digest.update(part)
            left -= len(part)
    return entry["dtype"], tuple(entry["shape"]), digest.hexdigest()


@contextmanager
def blamed_if_not_finite(folder: Path) -> Iterator[None]:
    """Where work on a checkpoint ends in what nobody expected, and its weights hold what is no finite number, raise NotFinite with the name
    of one: each library says of it what comes of it there, or nothing."""
    try:
        yield
    except Exception as error:
        if expected(error) is None and (name := not_finite(folder)):
            raise NotFinite(
                f"{name} of the checkpoint holds what is no finite number (NaN or infinite): its weights are damaged"
            ) from error
        raise


def not_finite(folder: Path) -> str:
    """The first of a checkpoint's weights that holds NaN or an infinite number; empty where none does. It reads all of them."""
    import numpy

    for path in weight_files(folder):
        if path.suffix != ".safetensors":
            continue
        with open(path, "rb") as file:
            start = 8 + int.from_bytes(file.read(8), "little")
            for name, entry in tensors(path).items():
                begin, end = entry["data_offsets"]
                size, bits = EXPONENTS.get(entry["dtype"], (0, 0))
                file.seek(start + begin)
                left = end - begin if size else 0
                while left and (part := file.read(min(left, LOOKED_AT))):
                    found = numpy.frombuffer(part, f"<u{size}")
                    if ((found & found.dtype.type(bits)) == bits).any():
                        return name
                    left -= len(part)
    return ""


def tensors(path: Path) -> dict[str, dict]:
    """The head of a safetensors file: `dtype`, `shape` and `data_offsets` of every tensor by its name.

    Raises Unsupported for a file that is damaged: its size must be what the head says. The format is 8 bytes with the length of the
    head, the head as JSON, and the data (https://huggingface.co/docs/safetensors).
    """
    _refuse_pointer(path)
    damaged = f"{path.name} of the checkpoint is damaged"
    size = path.stat().st_size
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > min(size - 8, LONGEST_HEAD):
            raise Unsupported(f"{damaged}: it is cut short, or no safetensors file ({size:,} bytes)")
        try:
            head = files.parse_json(file.read(length))
            found = {name: entry for name, entry in head.items() if name != "__metadata__"}
            kinds = {entry["dtype"] for entry in found.values()}
            end = _end_of(found) if kinds <= BITS.keys() else 0
            said = head.get("__metadata__") or {}
            if not all(isinstance(text, str) for text in said.values()):
                raise ValueError
        except (ValueError, KeyError, TypeError, AttributeError, IndexError):
            raise Unsupported(f"{damaged}: its head cannot be read") from None
    if unknown := sorted(kinds - BITS.keys()):
        raise Unsupported(f"{path.name} of the checkpoint has numbers in a format that safetensors does not know: {unknown[0]}")
    if 8 + length + end != size:
        raise Unsupported(f"{damaged}: it has {size:,} bytes, and its head tells of {8 + length + end:,}")
    return found


def framework(path: Path) -> str | None:
    """The framework that a safetensors file says it was saved from (`format` of its metadata; PyTorch is `pt`); empty where its metadata
    name none, None where it has no metadata."""
    tensors(path)
    with open(path, "rb") as file:
        said = files.parse_json(file.read(int.from_bytes(file.read(8), "little"))).get("__metadata__")
    return None if said is None else said.get("format", "")


def _end_of(found: Mapping[str, Mapping]) -> int:
    """Where the last tensor of a safetensors file ends. Raises ValueError, KeyError or TypeError where one is not as long as its shape and
    format say, or does not begin where another ends."""
    at = 0
    for entry in sorted(found.values(), key=lambda entry: tuple(entry["data_offsets"])):
        begin, end = entry["data_offsets"]
        shape = entry["shape"]
        if begin != at or not all(type(size) is int and size >= 0 for size in (*shape, begin, end)):
            raise ValueError
        if prod(shape) * BITS[entry["dtype"]] != 8 * (end - begin):
            raise ValueError
        at = end
    return at


@contextmanager
def replacing(folder: Path) -> Iterator[Path]:
    """A new folder to write a checkpoint into; it takes the place of `folder` if nothing went wrong, and is removed otherwise.

    Raises ModelError where something is in that place that speedgrid did not make.
    """
    fresh = folder.with_name(f".{folder.name}.new")
    check_own(folder)
    remove(fresh)
    fresh.parent.mkdir(parents=True, exist_ok=True)
    _mark(fresh, {"being_written": True})
    fresh.mkdir()
    try:
        yield fresh
        remove(folder)
        _mark(folder, {"files": _contents(fresh)})
        fresh.rename(folder)
        mark(fresh).unlink()
    except BaseException:
        with suppress(OSError):
            remove(fresh)
        raise


def link(folder: Path, source: Path) -> None:
    """Let `folder` stand for a checkpoint that lies elsewhere, without a copy of its gigabytes.

    Raises ModelError where one of them lies in the other, or where something is in that place that speedgrid did not make.
    """
    if relation := files.overlap(source, folder):
        raise ModelError(f"{source}: {relation} {folder}, which speedgrid writes itself; move the weights elsewhere")
    remove(folder)
    folder.parent.mkdir(parents=True, exist_ok=True)
    goal = source.resolve()
    _mark(folder, {"link": str(goal)})
    folder.symlink_to(goal, target_is_directory=True)


def remove(folder: Path) -> None:
    """Remove a folder or link that speedgrid made, and its mark. Raises ModelError where something is there that it did not make."""
    check_own(folder)
    if folder.is_symlink():
        folder.unlink()
    elif folder.exists():
        shutil.rmtree(folder)
    mark(folder).unlink(missing_ok=True)


def check_own(folder: Path) -> None:
    """Raise ModelError where something is at `folder` that speedgrid did not make, or that holds more than what it made."""
    if foreign := _foreign(folder):
        raise ModelError(f"{folder}: {foreign}, so it is not removed; move it elsewhere, or delete it, and run again")


def mark(folder: Path) -> Path:
    """The file that says what speedgrid made at `folder`."""
    return folder.with_name(f".{folder.name}.speedgrid")


def adopt(folder: Path, record: Path, table: Table) -> None:
    """Mark what an earlier speedgrid made, which wrote no marks, where the record beside it tells of it."""
    if mark(folder).exists() or not (folder.is_symlink() or folder.is_dir()) or not (row := records.first_row(record, table)):
        return
    if folder.is_symlink():
        # Nothing but a local or downloaded model was a link, and removing a link removes no weights.
        if row.get("origin") in ("local", "hub") and (goal := folder.resolve()).is_dir():
            _mark(folder, {"link": str(goal)})
    elif row.get("checkpoint_sha256") and row.get("checkpoint_bytes") == size(folder):
        weights = {path.relative_to(folder).as_posix() for path in weight_files(folder)} if size(folder) else set()
        others = {name: content for name, content in _contents(folder).items() if name not in weights}
        _mark(folder, {"weights_sha256": row["checkpoint_sha256"], "files": others})


def adopt_figures(folder: Path) -> None:
    """Mark a folder of charts that an earlier speedgrid drew, which wrote no marks: one that holds nothing else."""
    if folder.is_dir() and not folder.is_symlink() and not mark(folder).exists():
        found = _contents(folder)
        if all(name.startswith("of-") and name.endswith(".svg") and "link" not in held for name, held in found.items()):
            _mark(folder, {"files": found})


def _foreign(folder: Path) -> str:
    """Why what is at `folder` is not speedgrid's, in words; empty where it is, or where nothing is there."""
    if not folder.is_symlink() and not folder.exists():
        return ""
    noted = _json(mark(folder)) if mark(folder).is_file() else None
    if not isinstance(noted, dict):
        return "was not made by speedgrid"
    if folder.is_symlink():
        return "" if str(noted.get("link")) == os.readlink(folder) else "is a link that speedgrid did not make"
    if not folder.is_dir():
        return "is a file that speedgrid did not make"
    if noted.get("being_written"):
        return ""
    made, found = noted.get("files"), _contents(folder)
    if "weights_sha256" in noted:
        if not size(folder) or facts(folder)["checkpoint_sha256"] != noted["weights_sha256"]:
            return "holds other weights than speedgrid made"
        if made is None:
            # A mark of before, which names no other files.
            return ""
        for path in weight_files(folder):
            found.pop(path.relative_to(folder).as_posix(), None)
    if not isinstance(made, dict):
        return "was not made by speedgrid"
    other = sorted(name for name, content in found.items() if made.get(name) != content)
    return f"holds {other[0]}, which speedgrid did not write" if other else ""


def _contents(folder: Path) -> dict[str, str]:
    """What every file and link in a folder holds, by its path in it."""
    found = {}
    for at, folders, names in os.walk(folder):
        for name in (*names, *(name for name in folders if Path(at, name).is_symlink())):
            if name == SNAKEMAKES:
                continue
            path = Path(at, name)
            held = f"link to {os.readlink(path)}" if path.is_symlink() else files.content(path) if path.is_file() else "no file"
            found[path.relative_to(folder).as_posix()] = held
    return found


def _mark(folder: Path, made: dict) -> None:
    with records.replacing(mark(folder)) as temporary:
        temporary.write_text(json.dumps({"made_by": "speedgrid", **made}, ensure_ascii=False), encoding="utf-8")


def _why_no_object(path: Path) -> str:
    """Why a file is no JSON object, where an editor has put before it what text has and JSON has not."""
    with open(path, "rb") as file:
        start = file.read(3)
    mark = next((name for name, mark in MARKS.items() if start.startswith(mark)), "")
    return f"it begins with the byte order mark of {mark}; save it as UTF-8 without one" if mark else "it is no JSON object"


def _json(path: Path) -> object:
    """What a JSON file holds; None where it is not one."""
    try:
        return files.parse_json(path.read_text(encoding="utf-8"))
    except ValueError:
        return None
