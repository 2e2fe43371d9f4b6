"""Runs that share a folder of environments make each of them one after another; the second finds what the first has made.

Snakemake asks whether an environment is there, copies its recipe, lets it be made and runs what follows a deployment as if nobody else did.
A second Snakemake meanwhile deletes the recipe under the first one's hands, or the environment, whose script still runs, as incomplete.
"""

import contextlib
import fcntl
import functools
from collections.abc import Callable, Iterator
from pathlib import Path


def take_turns() -> None:
    """Let Snakemake make no environment, with conda or with uv, that another run on the same file system is making."""
    from snakemake.deployment.conda import Env, get_env_setup_done_flag_file
    from snakemake.logging import logger

    make = Env.create
    if hasattr(make, "__wrapped__"):  # a second workflow in this process
        return

    @functools.wraps(make)
    def create(env: Env, dryrun: bool = False) -> str | None:
        folder = Path(env.address)
        is_made = folder.exists() and get_env_setup_done_flag_file(folder).exists()
        if dryrun or is_made or env.is_containerized:
            return make(env, dryrun)  # makes nothing; the folder may be one where nothing can be written
        waiting = f"Waiting for another run that makes conda environment {env.file.simplify_path()}..."
        with alone(folder.with_name(f"{folder.name}.making"), lambda: logger.info(waiting)):
            return make(env, dryrun)

    Env.create = create


@contextlib.contextmanager
def alone(path: Path, say_waiting: Callable[[], None]) -> Iterator[None]:
    """Hold a file, and call `say_waiting` first where another process holds it; the system lets go of it however this process ends."""
    with open(path, "w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say_waiting()
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError:
            pass  # a file system without locks: go on without
        yield
