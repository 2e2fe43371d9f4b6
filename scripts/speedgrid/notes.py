"""Where speedgrid keeps notes in a working folder, beside results, models and logs. No figure depends on them; pure."""

from pathlib import Path

FOLDER = Path(".speedgrid")
# Hashes of files that are large, each by the state that the file was in.
DIGESTS = FOLDER / "digests"
# Fingerprints of code, with the state that it was in.
CODE = FOLDER / "code.json"
# Job specifications that are too long for a command line.
JOBS = FOLDER / "jobs"
# Newer than results/plan.json where that is no longer the plan.
PLANNED = FOLDER / "planned"
# Held by the run that works in the folder.
RUN = FOLDER / "run.lock"


def busy(host: str, device: str) -> Path:
    """There where a job waited in vain for this device of this machine to become quiet: several machines may work in one folder."""
    return FOLDER / f"busy-{host}-{device}"
