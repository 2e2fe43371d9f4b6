"""What a command line for Snakemake asks for, as far as the launcher must know: it passes on what is not its own, untouched."""

import difflib
import os
import re
from collections.abc import Iterator
from itertools import zip_longest

# Options that ask something and run nothing.
QUESTIONS = (
    *("--help", "-h", "--version", "-v", "--lint", "--list-rules", "--list", "-l", "--summary", "-S", "--detailed-summary", "-D"),
    *("--dag", "--d3dag", "--rulegraph", "--filegraph", "--report", "--unlock"),
)
# What jobs share of a machine: its GPUs, and how many checkpoints are made side by side.
SHARED = ("gpu", "makes")


def given(arguments: list[str], *options: str) -> bool:
    """Whether one of these options is there, with its value behind it or after `=`."""
    return any(a == o or a.startswith(o + "=") for a in arguments for o in options)


def values_of(arguments: list[str], option: str) -> Iterator[str]:
    """What an option is given, each time."""
    for argument, following in zip(arguments, [*arguments[1:], ""], strict=False):
        if argument == option:
            yield following
        elif argument.startswith(option + "="):
            yield argument.removeprefix(option + "=")


def is_dry_run(arguments: list[str]) -> bool:
    return given(arguments, "--dry-run", "--dryrun") or any(re.fullmatch(r"-[pkF]*n[npkF]*", a) for a in arguments)


def only_asks(arguments: list[str]) -> bool:
    """Whether Snakemake is asked for something that may be asked while a run is going on."""
    return is_dry_run(arguments) or given(arguments, *QUESTIONS)


def shows_steps(arguments: list[str]) -> bool:
    """Whether one line a step is shown, and a status on a terminal, in place of Snakemake's messages: unless these are asked for, or the
    commands of a dry run (`-np`), which Snakemake shows with each job."""
    if is_dry_run(arguments) and (given(arguments, "--printshellcmds") or any(re.fullmatch(r"-[nkF]*p[npkF]*", a) for a in arguments)):
        return False
    return not given(arguments, *QUESTIONS, "--logger", "--verbose", "--quiet", "-q", "--debug-dag")


def shows_or_keeps(option: str) -> bool:
    """Whether it is one of the options of Snakemake without a value that are often given."""
    return is_dry_run([option]) or option in ("-p", "-k", "-F", "--keep-going", "--forceall", "--printshellcmds", "--rerun-incomplete")


def chooses_cores(arguments: list[str]) -> bool:
    """Whether it says how many jobs run at a time, or leaves that to a profile."""
    short = r"-[npkF]*[cj]([0-9]+|all|unlimited)?"
    return (
        given(arguments, "--cores", "--jobs", "--executor", "-e", "--profile", "--workflow-profile")
        or any(re.fullmatch(short, a) for a in arguments)
        or "SNAKEMAKE_PROFILE" in os.environ
    )


def no_cores(arguments: list[str]) -> str:
    """The words that ask for no core or job at all, with which Snakemake waits for ever; empty where there are none."""
    for argument, following in zip_longest(arguments, arguments[1:], fillvalue=""):
        if argument in ("--cores", "-c", "--jobs", "-j") and re.fullmatch("0+", following):
            return f"{argument} {following}"
        if re.fullmatch("(--cores=|--jobs=|-[npkF]*[cj])0+", argument):
            return argument
    return ""


def chooses_deployment(arguments: list[str]) -> bool:
    """Whether it says what environments are made with."""
    long = ("--software-deployment-method", "--deployment-method", "--deployment", "--sdm")
    use = ("--use-conda", "--use-apptainer", "--use-singularity", "--use-envmodules")
    return given(arguments, *long, *use)


def wrong_resource(arguments: list[str]) -> str:
    """The first value of --resources that is a mistake, and why; empty where there is none. Snakemake ends in a traceback over some, and
    takes a misspelt name for the limit of a resource that no job uses."""
    for value in _listed(arguments, "--resources", "--res"):
        name, _, number = value.partition("=")
        if number == "" and not value.startswith("base64//"):
            return f"{value}: takes a name and a number, such as gpu=2"
        if name in SHARED and not re.fullmatch("0*[1-9][0-9]*", number):
            return f"{value}: takes a number from 1 on"
        meant = [] if name in SHARED else difflib.get_close_matches(name.lower(), SHARED, n=1, cutoff=0.75)
        if meant:
            return f"{value}: no job has a resource of that name; did you mean {meant[0]}?"
    return ""


def config_files(arguments: list[str]) -> list[str]:
    """The files of Snakemake's --configfile: all that follow it up to the next option."""
    return [name for name in _listed(arguments, "--configfiles", "--configf") if name]


def _listed(arguments: list[str], option: str, shortest: str) -> list[str]:
    """All values of an option that takes several: what follows it up to the next option, or the one behind its `=`. It may be written
    shorter, down to `shortest`."""
    within = False
    values: list[str] = []
    for argument in arguments:
        if argument == "--":
            break
        if argument.startswith("-"):
            given_as, _, value = argument.partition("=")
            is_it = given_as.startswith(shortest) and option.startswith(given_as)
            within = is_it and "=" not in argument
            values += [value] if is_it and not within else []
        elif within:
            values.append(argument)
    return values
