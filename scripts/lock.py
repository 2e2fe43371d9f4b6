"""Writes down the commits that the branches and tags of a study's models stand for now: NAME.lock.json beside the study.

    ./speedgrid lock [STUDY]

Commits that the lock has already are looked up again. With a lock, `revision: main` is the same weights in every run.
"""

import sys

from speedgrid import commands, lock, planning, records
from speedgrid.study import StudyError


def main() -> None:
    named = commands.one("lock").parse_args().study
    if not named and (line := planning.passed_over()):
        print(line, file=sys.stderr)
    study_file = planning.study_path(named or planning.default_study())
    try:
        study, _, where = planning.read_study(study_file, locked=False)
        held = {name: {**entry, "commit": lock.commit_of(**_called(entry))} for name, entry in lock.moving(study).items()}
    except StudyError as error:
        commands.refuse(error)
    file = lock.file_of(study_file)
    if not held:
        commands.say(f"{where}: every model of the hub has a commit already; there is nothing to lock")
        return
    with records.replacing(file) as temporary:
        temporary.write_text(lock.text_of(held), encoding="utf-8")
    for name, entry in held.items():
        commands.say(f"{name}: {entry['hub']} at {entry['revision']} is {entry['commit']}")
    commands.say(f"written to {file}; keep it beside the study")


def _called(entry: dict) -> dict:
    return {"repository": entry["hub"], "revision": entry["revision"]}


if __name__ == "__main__":
    commands.run(main)
