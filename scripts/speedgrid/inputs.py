"""The user's files that a study names: where their paths lead, whether they can be read, and what lies there."""

import copy
import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from speedgrid import checkpoints, corpus, files, places, validation
from speedgrid.study import StudyError

# The key of an adapter that names the model it was trained for.
BASE = "base_model_name_or_path"


def resolve(study: Mapping, roots: Sequence[Path], where: str) -> dict:
    """A validated study with its files as every specification has them: what lies there, and where that is one of the user's checkpoints.

    A path is taken from the first of `roots`, the working folder, or where it has nothing from the next one that has; `~` is a home, and
    links are followed, so that a link which leads elsewhere by now is another path. One that leads to somewhere in the working folder stays
    relative to it. Beside that of a local model or GGUF file stands `files`, as files.told() says them. A text and a folder of data are
    told by name and content alone (`text_sha256`, `content`); their paths are in `places`, by places.key(), which no specification has.

    Raises StudyError, with the key, for what is not there or cannot be read.
    """
    found: dict = copy.deepcopy(dict(study))
    at_place: dict[str, str] = {}
    for name, model in found["models"].items():
        at = f"{where}: models.{name}"
        if "local" in model:
            model |= _local(model["local"], roots, f"{at}.local")
        if isinstance(model.get("gguf"), str):
            model |= _gguf(model["gguf"], roots, f"{at}.gguf")
        if model["calibration"].get("text", "stdlib") != "stdlib":
            path, digest = _text(model["calibration"]["text"], roots, f"{at}.calibration.text")
            model["calibration"] |= {"text": _named(path, digest, at_place), "text_sha256": digest}
    for name, experiment in found["experiments"].items():
        at, evaluate = f"{where}: experiments.{name}.evaluate", experiment["evaluate"] or {"text": "stdlib", "tasks": []}
        if evaluate["text"] != "stdlib":
            path, digest = _text(evaluate["text"], roots, f"{at}.text")
            evaluate |= {"text": _named(path, digest, at_place), "text_sha256": digest}
        for number, task in enumerate(evaluate["tasks"]):
            if "folder" in task.get("dataset", {}):
                path, digest = _data(task["dataset"]["folder"], roots, f"{at}.tasks.{number}.dataset.folder")
                task["dataset"] |= {"folder": _named(path, digest, at_place), "content": digest}
    if "compare_with" in found:
        found["compare_with"] = _resolved(found["compare_with"], roots, f"{where}: compare_with")
    return found | {"places": at_place}


def techniques(registry: Mapping, roots: Sequence[Path], where: str) -> dict:
    """A registry with the paths of its transforms resolved as those of a study: `file` is a GGUF file of the user's, beside which `files`
    says what lies there. Raises StudyError."""
    found = dict(registry)
    for name, entry in registry.items():
        if path := entry.get("transform", {}).get("file"):
            there = _gguf(path, roots, f"{where}: techniques.{name}.transform.file")
            found[name] = {**entry, "transform": {**entry["transform"], "file": there["gguf"], "files": there["files"]}}
    return found


def _resolved(text: str, roots: Sequence[Path], at: str) -> str:
    """Where a path of a study leads. Raises StudyError."""
    real = Path(os.path.realpath(place(text, roots, at)))
    inside = Path(os.path.realpath(roots[0]))
    return str(real.relative_to(inside) if real.is_relative_to(inside) else real)


def place(text: str, roots: Sequence[Path], at: str) -> Path:
    """Where a path of a study is, whatever links it goes through; raises StudyError for one that cannot even be looked for."""
    try:
        path = Path(text).expanduser()
        return next((root / path for root in roots if (root / path).exists()), roots[0] / path)
    except RuntimeError:
        raise StudyError(f"{at}: there is no user {text.partition('/')[0]} on this machine, so that the path means nothing") from None
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        raise StudyError(f"{at}: {validation.shown(text)} cannot be looked for: {why}") from None


def _named(path: str, content: str, at_place: dict[str, str]) -> str:
    """The name of a text or folder that is told by its content; where it is goes into `at_place`."""
    name = os.path.basename(path)
    at_place[places.key(name, content)] = path
    return name


def _text(path: str, roots: Sequence[Path], at: str) -> tuple[str, str]:
    """Where a text is, and the hash of what it holds. Raises StudyError for one that its jobs could not read, or that says nothing."""
    found = _resolved(path, roots, at)
    if not (roots[0] / found).exists():
        raise StudyError(f"{at}: no such file: {path}")
    if not (roots[0] / found).is_file():
        # A pipe or a device might be read for ever.
        raise StudyError(f"{at}: {path} is {'a folder' if (roots[0] / found).is_dir() else 'a device or pipe'}; name a text file")
    try:
        # Told by its size: what the kernel shows as an empty file, such as /proc/kmsg, may be read for ever.
        if not (roots[0] / found).stat().st_size:
            raise StudyError(f"{at}: {path} is empty")
        said = corpus.text_file(roots[0] / found, corpus.CALIBRATION_BYTES)[0][1]
        with open(roots[0] / found, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except UnicodeDecodeError as error:
        wrong = f"byte 0x{error.object[error.start]:02x} at {error.start:,}"
        raise StudyError(f"{at}: {path} is not UTF-8 ({wrong}); save it in that encoding") from None
    except OSError as error:
        raise StudyError(f"{at}: {path} cannot be read: {error.strerror}") from None
    if not said.strip():
        raise StudyError(f"{at}: {path} is empty")
    return found, digest


def _local(path: str, roots: Sequence[Path], at: str) -> dict:
    found = _resolved(path, roots, at)
    folder = roots[0] / found
    try:
        if not (folder / "config.json").is_file():
            raise StudyError(f"{at}: {path} is not a folder with a checkpoint (no config.json){instead(folder)}")
        told = {name: files.told(state) for name, state in checkpoints.states(folder).items()}
    except OSError as error:
        name = os.path.basename(error.filename or "") or "it"
        is_link = error.filename and os.path.islink(error.filename) and not os.path.exists(error.filename)
        why = f"{name} is a link to {os.readlink(error.filename)}, which is not there" if is_link else f"{name}: {error.strerror}"
        raise StudyError(f"{at}: {path} cannot be read: {why}") from None
    return {"local": found, "files": told}


def instead(folder: Path) -> str:
    """What a folder without a configuration is, by what it holds, and what to name in its place; empty where that is not known."""
    held = sorted(folder.iterdir()) if folder.is_dir() else []
    names = {path.name for path in held}
    if checkpoints.ADAPTER in names:
        return f": it {adapter_alone(str(files.json_object(folder / checkpoints.ADAPTER).get(BASE) or ''))}"
    if "model_index.json" in names:
        return ": it holds a pipeline of diffusers, which makes images and no text"
    if files_of := [path.name for path in held if path.suffix == ".gguf"]:
        return f": it holds a GGUF file; name {files_of[0]} by the key `gguf`"
    if "params.json" in names:
        return ": it holds weights as their makers give them; name a folder in the format of transformers"
    inside = [path for at in (folder, folder / "snapshots") if at.is_dir() for path in at.iterdir() if (path / "config.json").is_file()]
    if inside:
        latest = max(inside, key=lambda path: (_step(path), path.stat().st_mtime))
        return f": there is one in {latest.relative_to(folder)}" + (f", the last of {len(inside)}" if len(inside) > 1 else "")
    return ""


def _step(folder: Path) -> int:
    """The step of a checkpoint that a trainer wrote, by its name; -1 where that has none."""
    number = re.search(r"-(\d+)\Z", folder.name)
    return int(number[1]) if number else -1


def adapter_alone(base: str) -> str:
    """What to say of a folder or repository that holds an adapter and no model; `base` is the model that it was trained for, if told."""
    return (
        f"holds an adapter alone; merge it into the model that it was trained for{f', {base},' if base else ''} (peft: merge_and_unload)"
        " and name the folder of that"
    )


def _gguf(path: str, roots: Sequence[Path], at: str) -> dict:
    found = _resolved(path, roots, at)
    file = roots[0] / found
    if not file.exists():
        raise StudyError(f"{at}: no such file: {path}")
    if not file.is_file():
        raise StudyError(f"{at}: {path} is no file; name a GGUF file, or a folder of transformers by the key `local`")
    try:
        with open(file, "rb") as start:
            if start.read(4) != b"GGUF":
                raise StudyError(f"{at}: {path} does not begin as a GGUF file")
        return {"gguf": found, "files": {file.name: files.told(files.state(file))}}
    except OSError as error:
        raise StudyError(f"{at}: {path} cannot be read: {error.strerror}") from None


def _data(path: str, roots: Sequence[Path], at: str) -> tuple[str, str]:
    found = _resolved(path, roots, at)
    if not (roots[0] / found).is_dir():
        raise StudyError(f"{at}: no such folder: {path}")
    digest = hashlib.sha256()
    try:
        for name, file in sorted(_visible(roots[0] / found)):
            digest.update(f"{name}\0{files.content(file)}\0".encode())
    except OSError as error:
        raise StudyError(f"{at}: {path} cannot be read ({error})") from None
    return found, digest.hexdigest()


def _visible(folder: Path) -> Iterator[tuple[str, Path]]:
    """The files in a folder by their paths in it; none that is hidden, nor what Python keeps of its own files."""
    for at, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if name[0] != "." and name != "__pycache__"]
        for path in (Path(at, name) for name in names if name[0] != "."):
            if path.is_file():
                yield path.relative_to(folder).as_posix(), path
