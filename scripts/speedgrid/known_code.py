"""Fingerprints of code as they were derived before, kept in the working folder with the content of all files that they come from.

Every start of Snakemake asks for them, on a cluster that of each job, and deriving them takes longer than all else that it plans.
"""

import contextlib
import hashlib
import json
import re
import sys
from collections.abc import Iterable
from pathlib import Path

from speedgrid import notes, records

FINGERPRINT = re.compile(r"[0-9a-f]{16}")


def state(files: Iterable[Path]) -> str:
    """A hash of the content of files and folders, and of the Python that reads them; what Python compiled of them is left out."""
    found = hashlib.sha256(sys.version.encode())
    for top in files:
        for path in sorted(top.rglob("*")) if top.is_dir() else [top]:
            if "__pycache__" not in path.parts and path.is_file():
                content = path.read_bytes()
                found.update(f"\n{path.relative_to(top.parent)} {len(content)}\n".encode() + content)
    return found.hexdigest()


def read(now: str) -> dict[str, str]:
    """The fingerprints that were kept of code in this state, by what they are of; none where the note is of another one, or broken."""
    try:
        noted = json.loads(notes.CODE.read_text(encoding="ascii"))
        return {str(of): one for of, one in noted["found"].items() if FINGERPRINT.fullmatch(one)} if noted["state"] == now else {}
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}


def keep(now: str, found: dict[str, str]) -> None:
    """Note them where a run has a folder for its notes; one that cannot be written derives them again."""
    if not notes.FOLDER.is_dir():
        return
    with contextlib.suppress(OSError), records.replacing(notes.CODE) as beside:
        beside.write_text(json.dumps({"state": now, "found": found}, indent=1, sort_keys=True), encoding="ascii")
