"""Files and folders of others: what they hold, told from few reads, whether one folder lies in another, and where in one results lie."""

import contextlib
import errno
import hashlib
import json
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from speedgrid import notes

# Read whole up to this size.
SMALL = 1_000_000
# Of a larger file: its beginning and its end, this many blocks at equal distances, and one in the middle of each tensor, up to a number.
ENDS, BLOCK, BLOCKS, MOST_TENSORS = 2**18, 2**12, 256, 4096
# What is read whole whatever its size, up to this many bytes: a change of a few letters of a tokenizer is another tokenizer.
TEXTS, LONGEST_TEXT = (".json", ".txt", ".model", ".tiktoken", ".jinja", ".py"), 2**28
# The most links that a path may go through; the kernel takes 40.
MOST_LINKS = 64


def parse_json(text: str | bytes) -> Any:
    """What a text of JSON holds. Raises ValueError, also for one whose values lie in one another too deep to be read."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("its values lie in one another too deep") from None


def state(path: Path) -> list:
    """Size, time of the last change in nanoseconds and `content` of a file, and what moves with a change that keeps all three: the time of
    the last change of anything, and the place on the disk. Raises OSError, also for what is no file and might be read for ever.
    """
    found = path.stat()
    if not stat.S_ISREG(found.st_mode):
        raise OSError(errno.EINVAL, "it is a pipe or device and no file", str(path))
    return [found.st_size, found.st_mtime_ns, _content_of(path, found.st_size), found.st_ctime_ns, found.st_ino]


def told(found: Sequence) -> list:
    """What specifications say of a file that results depend on, by its state: what it holds, and not when it was written."""
    return [found[0], found[2]]


def has_moved(now: Sequence, then: Sequence) -> bool:
    """Whether a file with this state may hold something else than one with that state although size and `content` are the same."""
    return now[1] != then[1] or list(now[3:5]) != list(then[3:5] or now[3:5])


def digest(path: Path) -> str:
    """SHA-256 of all of a file, kept in the working folder: it is read anew only where the file's state is another one. Raises OSError."""
    known = os.stat(path)
    # Not by its place on the disk, which some file systems make up anew each time that they are mounted.
    told = f"{known.st_size} {known.st_mtime_ns} {known.st_ctime_ns} "
    kept = notes.DIGESTS / hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:32]
    with contextlib.suppress(OSError, ValueError):
        text = kept.read_text(encoding="ascii")
        if text.startswith(told) and len(text) == len(told) + 64:
            return text.removeprefix(told)
    with open(path, "rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
        after = os.fstat(file.fileno())
    if (after.st_mtime_ns, after.st_size) == (known.st_mtime_ns, known.st_size):
        with contextlib.suppress(OSError):
            notes.DIGESTS.mkdir(parents=True, exist_ok=True)
            beside = kept.with_name(f"{kept.name}.{os.getpid()}")
            beside.write_text(told + found, encoding="ascii")
            os.replace(beside, kept)
    return found


def _content_of(path: Path, size: int) -> str:
    """`content`, and of a text that is not too long of all of it."""
    if SMALL < size <= LONGEST_TEXT and path.suffix in TEXTS:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:32]
    return content(path)


def content(path: Path) -> str:
    """A hash that another content of the file does not have: of all of it, or of a large one of blocks from everywhere.

    It takes milliseconds for gigabytes. A change of a few weights inside of one tensor may escape it, which moves the file's time; weights
    that were trained, merged or quantized anew have others in every tensor that they concern. Raises OSError.
    """
    size = path.stat().st_size
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        if size <= SMALL:
            digest.update(file.read())
        else:
            for begin, length in _sampled(file, size):
                file.seek(begin)
                digest.update(file.read(length))
    return digest.hexdigest()[:32]


def _sampled(file, size: int) -> list[tuple[int, int]]:
    """The parts of a large file that are read, as (begin, length), in order."""
    parts = {(0, ENDS), (size - ENDS, ENDS)} | {(size * number // BLOCKS, BLOCK) for number in range(BLOCKS)}
    length = int.from_bytes(file.read(8), "little")
    if length < size - 8:
        # The head of a safetensors file tells where each tensor lies; in any other file these bytes say something else.
        try:
            head = parse_json(file.read(length)) if length < 2**27 else {}
            middles = sorted((8 + length + sum(map(int, entry["data_offsets"])) // 2) for name, entry in head.items() if name[:2] != "__")
        except (ValueError, KeyError, TypeError, AttributeError):
            middles = []
        step = max(1, len(middles) // MOST_TENSORS)
        parts |= {(0, 8 + length)} if middles else set()
        parts |= {(middle, BLOCK) for middle in middles[::step]}
    return sorted(parts)


def overlap(source: Path, target: Path) -> str:
    """How a folder of the user's lies to one that speedgrid writes and may replace: `is`, `lies in`, `holds` or `goes through` it, or empty
    where they are apart.

    Links, `..`, mounts of one folder at two places and the case of letters do not hide it. A target that is a link by itself stands for
    nothing but that link.
    """
    place = _place(target)
    if place.is_symlink():
        if place in _places(source):
            return "goes through"
    elif (there := _identity(place)) is not None:
        inside = [_identity(folder) for folder in _with_parents(source)]
        if there in inside:
            return "is" if there == inside[0] else "lies in"
    own = _identity(source)
    return "holds" if own is not None and own in map(_identity, _with_parents(place.parent)) else ""


def _with_parents(path: Path) -> list[Path]:
    real = Path(os.path.realpath(path))
    return [real, *real.parents]


def _place(path: Path) -> Path:
    """Where a file lies, the links on the way to it followed, and not the one that it may be itself."""
    return Path(os.path.realpath(path.parent)) / path.name


def _places(path: Path) -> Iterator[Path]:
    """Every place on the way to a file, links that it goes through included."""
    waiting, followed = list(reversed(Path(os.path.join(os.getcwd(), path)).parts)), 0
    here = Path(waiting.pop())
    while waiting:
        name = waiting.pop()
        if name == "..":
            here = here.parent
            continue
        yield here / name
        if (here / name).is_symlink() and followed < MOST_LINKS:
            followed += 1
            goal = Path(os.readlink(here / name))
            if goal.is_absolute():
                here = Path(goal.anchor)
            waiting += reversed(goal.parts[goal.is_absolute() :])
        else:
            here = here / name


def _identity(path: Path) -> tuple[int, int] | None:
    """What two names of one file have in common; None where there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def json_object(path: Path) -> dict:
    """What a JSON file holds; empty where there is none, or one that holds no object."""
    try:
        found = parse_json(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


# Results of speedgrid

# Where the results of a folder of several lie in it: of each study; of each machine and study, or of each study as tests/gpu leaves them.
SEVERAL = ("*", "*/*")
_RUN = re.compile(r"measure(-\d+)?\.parquet")


def several(path: Path) -> list[Path]:
    """The results in a folder of several, such as one of each study or machine; what is no such folder is one result itself."""
    if not path.is_dir() or summary_of(path):
        return [path]
    found = {at.parent for pattern in SEVERAL for at in path.glob(f"{pattern}/summary.parquet")}
    return sorted(found) or [path]


def summary_of(path: Path) -> Path | None:
    """The summary in a folder of results, or in the folder `results` of one; None where there is none."""
    return next((at / "summary.parquet" for at in (path, path / "results") if (at / "summary.parquet").is_file()), None)


def is_of_a_run(path: Path) -> bool:
    """Whether a file is named as the results of a run, of which a cell may have several; the twin of a failed one is not."""
    return bool(_RUN.fullmatch(path.name))


def results_in(folders: Iterable[Path]) -> list[Path]:
    """The results in folders, each of which may hold several, and each once: one result has several names, such as its folder, the folder
    around it, and links."""
    known: dict[Path, Path] = {}
    for one in (one for folder in folders for one in several(folder)):
        known.setdefault((summary_of(one) or one).resolve(), one)
    return list(known.values())
