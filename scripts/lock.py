"""Writes down the commits that the branches and tags of a study's models stand for now: NAME.lock.json beside the study.

    ./speedgrid lock [STUDY]

What the lock holds already is asked for anew. With a lock, `revision: main` is the same weights in every run.
"""

import argparse
import sys
from pathlib import Path

from speedgrid import lock, planning, records
from speedgrid.study import StudyError


def main() -> None:
    parser = argparse.ArgumentParser(prog="speedgrid lock", description=__doc__.partition("\n")[0])
    parser.add_argument("study", nargs="?", type=Path, default=Path(planning.DEFAULT_STUDY), help="the study file (default: config.yaml)")
    study_file = planning.study_path(parser.parse_args().study)
    try:
        study, _, where = planning.read_study(study_file, locked=False)
        held = {name: {**entry, "commit": lock.commit_of(**_called(entry))} for name, entry in lock.moving(study).items()}
    except StudyError as error:
        sys.exit(f"speedgrid: {error}")
    file = lock.file_of(study_file)
    if not held:
        print(f"{where}: every model of the hub has a commit already; there is nothing to lock")
        return
    with records.replacing(file) as temporary:
        temporary.write_text(lock.text_of(held), encoding="utf-8")
    for name, entry in held.items():
        print(f"{name}: {entry['hub']} at {entry['revision']} is {entry['commit']}")
    print(f"written to {file}; keep it beside the study")


def _called(entry: dict) -> dict:
    return {"repository": entry["hub"], "revision": entry["revision"]}


if __name__ == "__main__":
    main()
