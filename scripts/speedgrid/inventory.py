"""What speedgrid has left on this machine: what lies where, how much it is, and whether it may be removed.

Only what speedgrid made is ever removed: a folder of weights that its mark tells of (checkpoints.py), a result file that says which table
it holds, a log that a rule names, an environment whose recipe is one of ours or that lies in our own cache. A link is never followed: one
that speedgrid made goes, and what it leads to stays. Anything else is named and left.
"""

import fcntl
import json
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from speedgrid import amounts, checkpoints, commands, compiled, environments, notes, snakemake_seam
from speedgrid.outcomes import ModelError

# The files of results/ that are no tables, each with what it holds if it is speedgrid's.
OF_RESULTS = {"report.html": "speedgrid", "summary.md": "study `", "plan.json": '"cells"', "further.json": "", ".made-by-hand": ""}
# The logs that rules name, from the folder of logs.
LOG = re.compile(
    r"(plan|aggregate|report(_so_far|_together)?)\.log|requests/[^/]+\.log|models/[^/]+/prepared\.log|quantize/[^/]+/[^/]+/[^/]+\.log"
    r"|[^/]+/probe\.log|[^/]+/[^/]+/[^/]+/(reference|score)\.log|[^/]+/[^/]+/[^/]+/[^/]+/(warmup|measure|measure-\d+|evaluate)\.log"
)
# What jobs note for others, and their long specifications, in notes.FOLDER.
NOTE = re.compile(r"digests/[0-9a-f]{32}(\.\d+)?|jobs/[0-9a-f]{64}\.json|busy-[^/]+|code\.json(\.\w+)?")
# What Snakemake calls an environment and the files beside it.
ENVIRONMENT = re.compile(r"([0-9a-f]{32}_)(\..*)?")
OF_A_CELL = re.compile("[0-9a-f]{32}")  # compiled.py
STAMP = "made-from"  # of the launcher's environments


@dataclass
class Found:
    """A kind of what is there: the folder, what may be removed of it, in this order, and what is left there with the reason; and whether
    other clones use it, too."""

    kind: str
    folder: Path
    is_shared: bool = False
    own: list[Path] = field(default_factory=list)
    left: list[str] = field(default_factory=list)
    names: dict[Path, str] = field(default_factory=dict)

    @cached_property
    def sizes(self) -> dict[Path, int]:
        """Bytes of what may be removed."""
        return {path: size(path) for path in self.own}

    @property
    def bytes(self) -> int:
        return sum(self.sizes.values())


def size(path: Path) -> int:
    """Bytes on the disk of a file or folder; links in it count as links."""
    seen, total = set(), 0
    below = (os.path.join(at, name) for at, folders, names in os.walk(path) for name in (*folders, *names))
    for at in (str(path), *below):
        with suppress(OSError):
            state = os.lstat(at)
            if (state.st_dev, state.st_ino) not in seen:
                seen.add((state.st_dev, state.st_ino))
                total += state.st_blocks * 512
    return total


# In the working folder


def results(folder: Path) -> Found:
    """Figures, tables, pages and checkpoints of techniques."""
    return _of_tables("results", folder, lambda path: path.parent == folder and _holds(path, OF_RESULTS.get(path.name)))


def models(folder: Path) -> Found:
    """Models of studies: checkpoints, or links to those of the user's or of the hub's cache."""
    return _of_tables("models", folder, lambda path: False)


def _of_tables(kind: str, folder: Path, is_own: Callable[[Path], bool]) -> Found:
    found = Found(kind, folder)
    for path in _files(folder, found):
        marked = checkpoints.mark(path)
        if marked.is_file():
            try:
                checkpoints.check_own(path)
                found.own.append(path)
            except ModelError as error:
                found.left.append(str(error).partition(", so it is")[0])
        elif path.is_symlink():
            found.left.append(f"{path}: a link that speedgrid did not make")
        elif (path.suffix == ".parquet" and _is_table(path)) or is_own(path):
            found.own.append(path)
        elif not (path.name.startswith(".") and path.name.endswith(".speedgrid")):
            found.left.append(f"{path}: not made by speedgrid")
    return found


def logs(folder: Path) -> Found:
    """What jobs wrote while they ran, and what they noted beside it for others: hashes of files, and machines that stayed busy."""
    found = Found("logs", folder)
    for path in _files(folder, found):
        if LOG.fullmatch(path.relative_to(folder).as_posix()) and not path.is_symlink():
            found.own.append(path)
        else:
            found.left.append(f"{path}: not made by speedgrid")
    for path in sorted((folder.parent / notes.FOLDER).rglob("*")):
        if NOTE.fullmatch(path.relative_to(folder.parent / notes.FOLDER).as_posix()) and path.is_file() and not path.is_symlink():
            found.own.append(path)
    return found


def _files(folder: Path, found: Found) -> Iterator[Path]:
    """Every file and link below a folder, and every folder that has a mark, as a whole. A folder that is a link is not gone into."""
    if folder.is_symlink():
        found.left.append(f"{folder}: a link to {os.readlink(folder)}, which is not followed")
        return
    for at, folders, names in os.walk(folder):
        for name in sorted(folders):
            path = Path(at, name)
            if path.is_symlink() or checkpoints.mark(path).is_file():
                folders.remove(name)
                yield path
        yield from (Path(at, name) for name in sorted(names))


def _is_table(path: Path) -> bool:
    """Whether a Parquet file says of itself that it is a table of speedgrid's; a damaged one says nothing."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        head = json.loads((pq.read_schema(path).metadata or {}).get(b"speedgrid", b"null"))
    except (OSError, ValueError, pa.ArrowException):
        return False
    return isinstance(head, dict) and "table" in head


def _holds(path: Path, text: str | None) -> bool:
    if text is None:
        return False
    with suppress(OSError):
        return text in path.read_text(encoding="utf-8", errors="replace")
    return False


# In the cache


def job_environments(folder: Path, is_ours: bool) -> Found:
    """Environments of jobs, each with the files beside it; of a folder that is not speedgrid's alone those of its own recipes."""
    found = Found("environments", folder, is_shared=True)
    groups: dict = {}
    recipes = {path.read_bytes(): name for name, path in environments.files().items()}
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if told := ENVIRONMENT.fullmatch(path.name):
            groups.setdefault(folder / told[1], []).append(path)
        else:
            found.left.append(f"{path}: not made by speedgrid")
    run = is_used_by_a_run(folder)
    for environment, parts in groups.items():
        recipe = environment.with_name(f"{environment.name}.yaml")
        name = recipes.get(recipe.read_bytes() if recipe.is_file() else b"", "")
        if not (name or is_ours):
            found.left.append(f"{environment}: an environment of another workflow, or of another version of speedgrid")
        elif any(path.is_symlink() for path in parts):
            found.left.append(f"{environment}: a link, which is not followed")
        elif run or is_used(environment) or is_being_made(environment):
            found.left.append(f"{environment}: in use right now")
        else:
            # What says that it is whole goes first, so that a removal that is cut short leaves none that seems whole.
            found.own += sorted(parts, key=lambda path: (path.is_dir(), not path.name.endswith(".env_setup_done")))
            found.names[environment] = name or "of an earlier version"
    return found


def of_compilers(folder: Path) -> Found:
    """What was compiled for the cells of every working folder; a cell whose part is gone compiles again."""
    found = Found("compiled", folder, is_shared=True)
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        if not (OF_A_CELL.fullmatch(path.name) and path.is_dir() and not path.is_symlink()):
            found.left.append(f"{path}: not made by speedgrid")
        elif compiled.is_used(path):
            found.left.append(f"{path}: in use right now")
        else:
            found.own.append(path)
    return found


def launcher_environments(candidates: list[Path], is_shared: bool) -> Found:
    """Those in which the launcher runs Snakemake and the tests; all of one folder, of a clone or of the cache."""
    found = Found("environments", candidates[0].parent if candidates else Path(), is_shared)
    for path in candidates:
        if path.is_symlink():
            found.left.append(f"{path}: a link to {os.readlink(path)}, which is not followed")
        elif not (path / STAMP).is_file():
            found.left.append(f"{path}: not made by speedgrid")
        elif is_used(path):
            found.left.append(f"{path}: in use right now")
        else:
            found.own.append(path)
            found.names[path] = f"the launcher's ({path.name})"
    return found


def is_used(environment: Path) -> bool:
    """Whether another process of this machine, as far as one may look, runs in an environment."""
    place = os.fsencode(f"{environment}/")
    return any(place in _read(process, "cmdline") or place in _read(process, "maps") for process in _others())


def is_used_by_a_run(folder: Path) -> bool:
    """Whether a Snakemake of this machine, as far as one may look, has its environments in a folder: its next job may need any of them."""
    for process in _others():
        if snakemake_seam.is_snakemake(_read(process, "cmdline")):
            variables = (variable.partition("=") for variable in os.fsdecode(_read(process, "environ")).split("\0"))
            with suppress(OSError):
                working_folder = Path(os.readlink(process / "cwd"))
                if snakemake_seam.environments_folder(working_folder, {name: value for name, _, value in variables}) == folder:
                    return True
    return False


def _others() -> list[Path]:
    """The other processes of this machine, as folders of /proc."""
    return [process for process in Path("/proc").glob("[0-9]*") if process.name != str(os.getpid())]


def _read(process: Path, what: str) -> bytes:
    """A file of a process; empty where it has ended, or is not ours to look at."""
    try:
        return (process / what).read_bytes()
    except OSError:
        return b""


def is_being_made(environment: Path) -> bool:
    """Whether a run holds the file that says so (environments.alone)."""
    try:
        with open(f"{environment}.making", "rb") as handle:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def downloads(folder: Path) -> Found:
    """Models and data sets in the hub's cache, which other programs use as well: none of it is speedgrid's to remove."""
    found = Found("downloads", folder, is_shared=True)
    for path in sorted(folder.glob("*--*")):
        found.left.append(f"{path.name.replace('--', '/')}: {amounts.size(size(path))}")
    return found


# Removing


class FolderInUse(Exception):
    """A run goes on in the working folder."""


@contextmanager
def no_run_in(folder: Path) -> Iterator[None]:
    """Hold a working folder, as a run of the launcher does. Raises FolderInUse where one goes on."""
    if snakemake_seam.is_locked(folder):
        raise FolderInUse(f"a run goes on in {folder}, or was killed there: then `{commands.program()} run --unlock` lets go of it")
    held = folder / notes.RUN
    if not held.is_file():  # the launcher never ran here
        yield
        return
    with open(held, "rb") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise FolderInUse(f"a run goes on in {folder}; wait for it, or stop it") from None
        except OSError:
            pass  # a file system without locks: Snakemake's own has to do
        yield


def remove(found: Found) -> None:
    """Remove what is speedgrid's, and the folders that are empty then. Raises OSError and ModelError for what cannot be removed."""
    for path in found.own:
        if checkpoints.mark(path).is_file():
            checkpoints.remove(path)
        elif path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    if found.kind == "environments":
        return
    above = {folder for path in found.own for folder in path.parents if folder == found.folder or found.folder in folder.parents}
    for folder in sorted(above, key=lambda path: -len(path.parts)):
        with suppress(OSError):  # one that is not empty stays
            folder.rmdir()
