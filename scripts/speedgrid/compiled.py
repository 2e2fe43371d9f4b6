"""What libraries compile for a cell's replies: kept in a folder of that cell, which its cold start finds empty and its later processes find
filled.

In the caches that these libraries share between programs, a cold start would take what an earlier run or another cell had left there: on
two cores `torch.compile` had its first reply after 36 s where they were empty, and after 15 s where they were not. What a library builds
once for a machine, such as GPT-QModel its kernels, stays where it is, and what is compiled for quality is no cell's own.
"""

import contextlib
import fcntl
import hashlib
import os
import platform
import shutil
from pathlib import Path
from typing import IO

from speedgrid import outcomes, user_cache

# Where each library puts what it compiles for a model: PyTorch's compiler, Triton, and vLLM, which keeps there what it knows of models.
CACHES = {"TORCHINDUCTOR_CACHE_DIR": "inductor", "TRITON_CACHE_DIR": "triton", "VLLM_CACHE_ROOT": "vllm"}
FOLDER = "compiled"
PLACE = "SPEEDGRID_COMPILED"  # where the user wants the folders of all cells, if anywhere
HELD = ".held"  # locked by every process that uses a cell's folder
_held: list[IO] = []


def folder() -> Path:
    """Where the folders of all cells of this user are."""
    asked = os.environ.get(PLACE)
    return Path(asked).expanduser().absolute() if asked else user_cache.writable() / FOLDER


def of_cell(cell: Path) -> Path:
    """That of one cell on this machine; `cell` is the folder of its results, by whatever path."""
    with contextlib.suppress(OSError):
        # A container may have another folder by the same path.
        cell = cell.resolve() / str(cell.stat().st_ino)
    return folder() / hashlib.sha256(os.fsencode(f"{platform.node()}:{cell.absolute()}")).hexdigest()[:32]


def keep_apart(cell: Path) -> Path:
    """Have this process, once, and those that it starts keep what they compile in the folder of a cell, which is returned. Below a folder
    that the user has set for a library, as where programs may be loaded from there alone, it is one of the cell's own."""
    own = of_cell(cell)
    for name, part in CACHES.items():
        users = os.environ.get(name)
        os.environ[name] = str(Path(users) / FOLDER / own.name if users else own / part)
    own.mkdir(parents=True, mode=0o700, exist_ok=True)
    held = open(own / HELD, "a")  # noqa: SIM115 - for as long as this process lives
    with contextlib.suppress(OSError):  # a file system without locks
        fcntl.flock(held, fcntl.LOCK_SH)
    _held.append(held)
    return own


def begin_with_none(cell: Path) -> None:
    """The same, and nothing is compiled yet. Raises outcomes.Failed where something is there that cannot be removed."""
    own = keep_apart(cell)
    for place in {own, *(Path(os.environ[name]) for name in CACHES)}:
        for path in sorted(place.iterdir()) if place.is_dir() else ():
            if path.name == HELD:
                continue
            try:
                shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
            except OSError as error:
                said = f"a cold start begins with nothing compiled, and {path} could not be removed ({error.strerror}); remove it"
                raise outcomes.Failed(said) from error


def is_used(own: Path) -> bool:
    """Whether a process uses the folder of a cell."""
    try:
        with open(own / HELD, "rb") as held:
            fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:  # none has ever, or a file system without locks
        return False
    return False
