"""The command lines that the report tells people to type: those that work where it was made (commands.py)."""

from speedgrid import commands

UNKNOWN = "STUDY.yaml"  # in place of a file that is not known


def run(study_file: str, *targets: str, sharpen: bool = False) -> str:
    """The command that runs a study, or makes some of its files; one whose file is not known has a placeholder."""
    return commands.to_run(study_file or UNKNOWN, *targets, sharpen=sharpen)
