"""The command lines that the report tells people to type. Pure."""

import shlex

DEFAULT = ("config.yaml", "./config.yaml")
UNKNOWN = "STUDY.yaml"  # in place of a file that is not known


def run(study_file: str, *more: str) -> str:
    """The command that runs a study, with `more` of its options; the default study needs no name, and one whose file is not known has a
    placeholder."""
    named = [] if study_file in DEFAULT else ["--study", study_file or UNKNOWN]
    return shlex.join(["./speedgrid", "run", *named, *more])
