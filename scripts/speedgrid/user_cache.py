"""Where this user's cache is: what is kept between runs and clones, and can be made again. Standard library only, for the launcher."""

import contextlib
import os
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path


def of_all_programs(environ: Mapping[str, str] = os.environ) -> Path:
    """The one that all programs of this user share. Raises RuntimeError where there is no home folder."""
    return Path(environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser()


def own() -> Path:
    """The part of it that is speedgrid's. Raises RuntimeError where there is no home folder."""
    return of_all_programs() / "speedgrid"


def writable() -> Path:
    """The same where it can be written, else a folder that can; neither may be there yet."""
    with contextlib.suppress(RuntimeError):
        wanted = own()
        there = next(path for path in (wanted, *wanted.parents) if path.exists())
        if there.is_dir() and os.access(there, os.W_OK | os.X_OK):
            return wanted
    return private()


def private() -> Path:
    """A folder beside other temporary ones, which nobody else can have written to: what lies there is loaded as code."""
    shared = Path(tempfile.gettempdir()) / f"speedgrid-{os.getuid()}"
    with contextlib.suppress(OSError):
        shared.mkdir(mode=0o700, exist_ok=True)
        found = shared.lstat()
        if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022:
            return shared
    return Path(tempfile.mkdtemp(prefix="speedgrid-"))
