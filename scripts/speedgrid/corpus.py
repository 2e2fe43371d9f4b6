"""Text that is on every machine: the source code of Python's standard library, split into training and held-out files.

The split goes by a hash of a file's name, so that it is the same on every machine and a new file moves no other one.
"""

import codecs
import functools
import hashlib
import json
import os
import sysconfig
from collections.abc import Mapping
from pathlib import Path

from speedgrid import places
from speedgrid.outcomes import Unsupported

# Tests, bundled wheels and games say little that a model could learn; site-packages is not the standard library.
LEFT_OUT = {"site-packages", "dist-packages", "test", "tests", "idlelib", "lib2to3", "turtledemo", "ensurepip", "__pycache__", "idle_test"}
HELD_OUT_SHARE = 20
# Several times what any method of quantization looks at.
CALIBRATION_BYTES = 4_000_000


def training_text(max_bytes: int) -> list[str]:
    """Training files, up to `max_bytes` in all, in an order that mixes the library's parts."""
    return _up_to(max_bytes, [path for path in _files() if not _held_out(path)])


def held_out_text(max_bytes: int) -> list[tuple[str, str]]:
    """Held-out files as (name, text), up to `max_bytes` in all; the last one is cut where the bytes end."""
    paths = [path for path in _files() if _held_out(path)]
    return [(_name(path), text) for path, text in zip(paths, _up_to(max_bytes, paths), strict=False)]


def held_out(source: Mapping, max_bytes: int) -> list[tuple[str, str]]:
    """The documents to score, as (name, text): `text` is `stdlib` for the held-out files, or a text file's (specification.Asked)."""
    path = _own_text(source)
    return text_file(path, max_bytes) if path else held_out_text(max_bytes)


def all_held_out(source: Mapping) -> list[tuple[str, str]]:
    """The same without a limit but a generous one."""
    return held_out(source, CALIBRATION_BYTES)


def text_file(path: Path, max_bytes: int) -> list[tuple[str, str]]:
    """A UTF-8 text file as one document, without the byte order mark that an editor may have put before it, cut after `max_bytes`; what
    comes long after them is not read. Raises UnicodeDecodeError and OSError."""
    with open(path, "rb") as file:
        raw = file.read(2 * max_bytes)  # line ends of two bytes become one
        whole = not file.read(1)
    text = codecs.getincrementaldecoder("utf-8-sig")().decode(raw, final=whole)
    return [(path.name, _cut(text.replace("\r\n", "\n").replace("\r", "\n"), max_bytes))]


def calibration_text(source: Mapping) -> list[str]:
    """The texts that a quantization method may look at: `text` is `stdlib` for the training files, or a UTF-8 text file's; `dataset` names
    a file of a data set of the hub instead, Parquet or JSON lines, and its `column` of text.

    Raises outcomes.Unsupported where it cannot be had.
    """
    if "dataset" in source:
        return _dataset(source["dataset"])
    path = _own_text(source)
    if path is None:
        return training_text(CALIBRATION_BYTES)
    try:
        return [text for _, text in text_file(path, CALIBRATION_BYTES)]
    except (OSError, UnicodeDecodeError) as error:
        raise Unsupported(f"calibration text {source['text']}: {error}") from None


def _own_text(source: Mapping) -> Path | None:
    """Where a text of the user's is; None for that of the standard library. A file may be called `stdlib`, too, and has a hash."""
    if source["text"] == "stdlib" and "text_sha256" not in source:
        return None
    return places.of(source["text"], source.get("text_sha256", ""))


def fingerprint(texts: list[str]) -> str:
    """SHA-256 over the texts."""
    digest = hashlib.sha256()
    for text in texts:
        digest.update(text.encode() + b"\0")
    return digest.hexdigest()


def dataset_file(source: Mapping) -> Path:
    """The file of a data set of the hub, in its cache or downloaded into it. Raises outcomes.Unsupported where it cannot be had."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(source["hub"], source["file"], repo_type="dataset", revision=source["revision"]))
    except Exception as error:  # the hub's own errors share no base class with those of the network
        raise Unsupported(f"{_where(source)}: cannot be had: {str(error).partition(chr(10))[0]}") from None


def _where(source: Mapping) -> str:
    return f"calibration data {source['hub']}/{source['file']} at {source['revision'][:12]}"


def _dataset(source: Mapping) -> list[str]:
    path, where = dataset_file(source), _where(source)
    try:
        rows = _rows(path)
        texts = [row[source["column"]] for row in rows if row[source["column"]].strip()]
    except KeyError:
        raise Unsupported(f"{where}: no column {source['column']!r}; there are {', '.join(rows[0])}") from None
    kept, size = [], 0
    for text in texts:
        kept.append(text)
        size += len(text.encode())
        if size >= CALIBRATION_BYTES:
            break
    return kept


def _rows(path: Path) -> list[dict]:
    if path.suffix == ".parquet":
        import pyarrow.parquet as pq

        return pq.read_table(path).to_pylist()
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def _files() -> list[Path]:
    files = []
    for folder, inside, names in os.walk(_library()):
        # Not looked into: site-packages alone may hold ten times as many files.
        inside[:] = [name for name in inside if name not in LEFT_OUT]
        files += [Path(folder, name) for name in names if name.endswith(".py")]
    return sorted(files, key=_number)


@functools.cache
def _library() -> Path:
    return Path(sysconfig.get_paths()["stdlib"])


def _name(path: Path) -> str:
    return path.relative_to(_library()).as_posix()


def _number(path: Path) -> int:
    return int(hashlib.sha256(_name(path).encode()).hexdigest(), 16)


def _held_out(path: Path) -> bool:
    return _number(path) % HELD_OUT_SHARE == 0


def _up_to(max_bytes: int, paths: list[Path]) -> list[str]:
    texts: list[str] = []
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        if not text:
            continue
        text = _cut(text, max_bytes)
        max_bytes -= len(text.encode())
        texts.append(text)
        if max_bytes <= 0:
            break
    return texts


def _cut(text: str, max_bytes: int) -> str:
    return text.encode()[:max_bytes].decode(errors="ignore")
