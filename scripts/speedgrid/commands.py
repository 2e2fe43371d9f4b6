"""The command line of `speedgrid`: its commands and what each takes, said once. The launcher, the scripts behind it, the shell completion
and docs/cli.md all read it here. Standard library only, because the launcher needs it before there is any environment.

Exit statuses: 0; 1 where something was found or done and is not well (a cell failed, nothing was measured, `compare --fail-on`, a machine
that cannot run the default study, a set-up that broke); 2 where the caller has to put something right first; 130 after Ctrl-C, 143 after
SIGTERM.
"""

import argparse
import contextlib
import errno
import math
import os
import re
import shlex
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from speedgrid import validation

MISTAKE = 2
# What the system says of a place that takes no files, or gives none to whoever asks.
OF_A_PLACE = (errno.EROFS, errno.EACCES, errno.EPERM, errno.ENOSPC, errno.EDQUOT)
STOPPED = 130  # by Ctrl-C
# The project, or the package of the wheel.
ROOT = Path(__file__).resolve().parents[2]
IS_CLONE = (ROOT / "pyproject.toml").is_file()
NAME = "speedgrid"
IN_A_CLONE = f"./{NAME}"
# Environment variables that tell every process how it was started, so that what it prints works there, as text for a shell: the launcher,
# and Snakemake, where that was started without the launcher and in another folder than the project's.
LAUNCHER, SNAKEMAKE = "SPEEDGRID_COMMAND", "SPEEDGRID_SNAKEMAKE"
AFTERWARDS = "SPEEDGRID_AFTERWARDS"  # set by the launcher: a folder and a command, in JSON, that a Snakemake which ends well becomes
CLUSTER = "SPEEDGRID_CLUSTER"  # set by the launcher where jobs go to a cluster
STUDY_HERE = "{study}"  # where in the latter the study goes; a module of another workflow has its own
DEFAULT = ("config.yaml", "./config.yaml")  # the study that is meant where none is named
SHELLS = ("bash", "zsh", "fish")
# What `clean` tells apart, each with what it is.
KINDS = {
    "results": "figures, tables and pages of this folder's runs, with the checkpoints that techniques made",
    "models": "models of this folder's studies, as they were trained, built or linked here",
    "logs": "logs of this folder's runs, and what their jobs noted of files and machines",
    "compiled": "what libraries compiled for the cells that were measured on this machine, of every working folder",
    "environments": "environments of jobs and of the launcher, shared by every clone",
    "downloads": "what the model hub's cache holds; other programs use it too, so speedgrid only shows it",
}
OF_KINDS = "".join(f"{name:<14}{what}\n" for name, what in KINDS.items())
PERCENT = 1.0  # stats.NEGLIGIBLE, which cannot be imported here
GOALS = ("latency", "throughput", "memory", "energy", "money")  # those of report.advice, which cannot be imported either
STARTS_PER = 1000  # likewise
SPEEDS = ("latency", "throughput")  # what `advise` tells apart, and `new` does not: the same techniques may be the fastest
ENVIRONMENTS = """\
Environments of jobs are kept in ${SNAKEMAKE_CONDA_PREFIX:-~/.cache/speedgrid/envs}. Those made with uv
get torch's CPU build where there is no NVIDIA driver, unless SPEEDGRID_TORCH=cuda.
"""
DOCUMENTS = """\
The documents that messages name, such as docs/drivers.md, are in {root}/docs.
"""
TO_SNAKEMAKE = """\
Other arguments are passed to Snakemake, e.g. -n (only show what would run), --cores 4,
--workflow-profile profiles/slurm, --verbose (Snakemake's own messages), a target file. Paths in them
are relative to {folder}. --help-all shows all of them.
"""
COMPLETION = """\
bash:  echo 'source <({prog} completion bash)' >> ~/.bashrc
zsh:   {prog} completion zsh > a folder of your $fpath/_speedgrid
fish:  {prog} completion fish > ~/.config/fish/completions/speedgrid.fish
"""
EXIT = """\
Exit status: 0; 1: a cell failed or became slower, or none was measured; 2: your mistake; 130/143: stopped.
`{prog} COMMAND --help` says what a command takes.
"""


class Parser(argparse.ArgumentParser):
    """An argument parser that says what is wrong in one line."""

    def __init__(self, **told: Any):
        ours: dict[str, Any] = {"formatter_class": Formatter, "allow_abbrev": False}
        super().__init__(**ours | told)

    def error(self, message: str):
        self.exit(MISTAKE, f"speedgrid: {wrong(message, self._option_string_actions)} (see {self.prog} --help)\n")


class Formatter(argparse.RawDescriptionHelpFormatter):
    """Help of one width, whatever the terminal's, so that docs/cli.md is the same everywhere."""

    def __init__(self, prog: str):
        super().__init__(prog, max_help_position=26, width=106)

    def _iter_indented_subactions(self, action: argparse.Action):
        yield from getattr(action, "_get_subactions", list)()  # commands stand where options do

    def _format_action(self, action: argparse.Action) -> str:
        text = super()._format_action(action)
        return text.partition("\n")[2] if action.nargs == argparse.PARSER else text  # without a line that has no command


@dataclass(frozen=True)
class Command:
    """What a command does, in a line; the function that gives a parser its arguments; what to say below them; and whether it works in a
    clone alone, so that where speedgrid is installed nobody is offered it."""

    does: str
    arguments: Callable[[argparse.ArgumentParser], object] = lambda parser: None
    more: str = ""
    is_for_clones: bool = False


def _run(parser: argparse.ArgumentParser) -> None:
    _study(parser)
    parser.add_argument("--sharpen", action="store_true", help="run again what `runs: auto` left undecided")
    parser.add_argument(
        "--minutes", type=positive, metavar="N", help="measure only what fits into N minutes by estimate, the most informative cells first"
    )
    _environments(parser)
    parser.add_argument("--help-all", action="store_true", help="show the arguments of Snakemake")


def _report(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "results",
        nargs="*",
        metavar="DIR",
        help="folders of results, of several machines or studies, for one page of all; also a folder of several, such as docs/results/h200",
    )
    parser.add_argument("--out", metavar="DIR", help="where the page of such folders goes (default: together)")
    _study(parser)
    _environments(parser)


def _study(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--study", metavar="FILE", help="the study file (default: config.yaml)")


def _environments(parser: argparse.ArgumentParser) -> None:
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--no-conda", action="store_true", help="make no environments: jobs use the first `python` on your PATH")
    either.add_argument("--uv-envs", action="store_true", help="make environments with uv even where conda is installed")


def _compare(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("a", metavar="A", help="results folder, summary.parquet, or folder of several results; the older one")
    parser.add_argument("b", metavar="B", help="the newer one")
    parser.add_argument(
        "--fail-on",
        choices=("slower", "changed", "never"),
        default="never",
        help="exit with 1 where a cell is slower or no longer works, or where any cell changed (default: never)",
    )
    parser.add_argument(
        "--floor",
        type=_percentage,
        default=PERCENT,
        metavar="PERCENT",
        help=f"smallest difference that counts, however sure it is (default: {PERCENT:g})",
    )
    parser.add_argument("--json", action="store_true", help="print JSON")


def _percentage(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1000:
        raise argparse.ArgumentTypeError(f"{text!r} is not a percentage over 0")
    return value


def _advise(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--vram",
        type=_gigabytes,
        metavar="GB",
        help="memory of the card in the GB it is sold with, each counted as 10^9 bytes, and what CUDA takes counted in; on a processor,"
        " memory of the process",
    )
    parser.add_argument("--goal", choices=GOALS, default="latency", help="what to optimise for (default: latency)")
    parser.add_argument(
        "--max-loss",
        type=_loss,
        default=0.0,
        metavar="PERCENT",
        help="largest loss of quality to accept, such as 1%% more bits per byte; `any` accepts an unknown quality too"
        " (default: 0, no measurable loss)",
    )
    parser.add_argument(
        "--starts", type=_starts, default=0.0, metavar="N", help="how often the process starts per 1,000 replies (default: 0)"
    )
    parser.add_argument(
        "--price", type=_positive, metavar="P", help="price of the device for an hour, for --goal money; where left out, that of the study"
    )
    parser.add_argument("--task", metavar="EXPERIMENT", help="only this experiment")
    parser.add_argument("--model", help="only this model")
    parser.add_argument("--gpu", help="only this device of the study")
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument(
        "--results",
        nargs="+",
        metavar="DIR",
        help="folders of results, as `report` takes them (default: results)",
    )


def _gigabytes(text: str) -> float:
    return _positive(text.removesuffix("GB").strip())


def _loss(text: str) -> float | None:
    """A share; None for any."""
    if text == "any":
        return None
    value = _number(text.removesuffix("%").strip())
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is below 0; it is a percentage such as 1%, or `any`")
    return value / 100


def _starts(text: str) -> float:
    value = _number(text)
    if not 0 <= value <= STARTS_PER:
        raise argparse.ArgumentTypeError(f"{text!r} is not between 0, a process that stays up, and {STARTS_PER}, one for every reply")
    return value


def _positive(text: str) -> float:
    value = _number(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0")
    return value


def _number(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no number") from None
    if not math.isfinite(value):
        raise argparse.ArgumentTypeError(f"{text!r} is no finite number")
    return value


def _lock(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("study", nargs="?", metavar="STUDY", help="the study file (default: config.yaml)")


def _new(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", nargs="?", metavar="MODEL", help="a repository of the hub, a folder with a checkpoint, or a GGUF file")
    parser.add_argument("--shape", metavar="NAME", help="instead: random weights in the shape of a known model, such as llama-3.2-1b")
    parser.add_argument("--revision", default="main", help="branch, tag or commit of the repository (default: main)")
    parser.add_argument("--file", help="the GGUF file of a repository that has several")
    parser.add_argument(
        "--goal",
        type=lambda text: "speed" if text in SPEEDS else text,
        choices=("speed", "memory", "quality"),
        help="what to optimise for (default: speed)",
    )
    parser.add_argument(
        "--vram",
        type=positive,
        metavar="GB",
        help="memory of the card in the GB it is sold with, each counted as 10^9 bytes; on a processor, memory of the process (default:"
        " what this machine has)",
    )
    parser.add_argument(
        "--gpu", metavar="NAME", help="write the study for another machine with this GPU, such as 'RTX 4070'; give its memory with --vram"
    )
    parser.add_argument(
        "--workload",
        choices=("generate", "train"),
        help="what to measure: replies, or training steps (default: replies, or for an image classifier training)",
    )
    parser.add_argument("--batch", type=_count, metavar="N", help="batch size (default: 1; 32 images in training)")
    parser.add_argument("--minutes", type=positive, metavar="N", help="total time that the study may take, by estimate")
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--all", action="store_true", help="every technique that runs here and fits, not one of each family")
    either.add_argument("--techniques", type=_names, metavar="A,B", help="these techniques and the baseline, by their names in `list`")
    parser.add_argument("--name", help="name of study and model (default: by the model)")
    parser.add_argument("--force", action="store_true", help="overwrite an existing study")
    parser.add_argument("--yes", action="store_true", help="ask nothing")


def _names(text: str) -> tuple[str, ...]:
    found = tuple(dict.fromkeys(name for part in text.split(",") if (name := part.strip())))
    if not found:
        raise argparse.ArgumentTypeError(f"{text!r} names no technique; `list` has their names")
    return found


def _count(text: str) -> int:
    value = _positive(text)
    if value != int(value) or value > 1e6:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number above 0")
    return int(value)


def positive(text: str) -> float:
    """A number over 0, of a size that a memory or a time can have."""
    value = _positive(text)
    if value >= 1e9:
        raise argparse.ArgumentTypeError(f"{text!r} is too large")
    return value


def _list(parser: argparse.ArgumentParser) -> None:
    either = parser.add_mutually_exclusive_group()
    either.add_argument("--ready", action="store_true", help="only the techniques that can run here")
    either.add_argument("--studies", action="store_true", help="list studies instead of techniques")
    either.add_argument("--cells", action="store_true", help="list the cells of a study, as they are named after `--` to measure one alone")
    _study(parser)


def _show(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("technique", metavar="TECHNIQUE", help="its name in `list`, or that of a study's own technique with --study")
    _study(parser)


def _clean(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("what", nargs="*", metavar="WHAT", type=_kind, help=f"only these: {', '.join(KINDS)}")
    parser.add_argument("--yes", action="store_true", help="remove without asking; environments that other clones use only if named")
    parser.add_argument("-n", "--dry-run", action="store_true", help="only show files and their sizes")


def _kind(text: str) -> str:
    if text not in KINDS:
        raise argparse.ArgumentTypeError(f"{text!r} is none of {', '.join(KINDS)}")
    return text


def _completion(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("shell", choices=SHELLS, help="the shell to complete in")


COMMANDS = {
    "new": Command("write a first study of a model, studies/NAME.yaml, for this machine", _new),
    "run": Command("measure a study and write results/report.html", _run, TO_SNAKEMAKE),
    "prepare": Command("make a study's environments and download its models and data, for runs without a network", _run, TO_SNAKEMAKE),
    "report": Command(
        "make the page of what was measured so far, also while a run goes on or was killed, or one page of several results", _report
    ),
    "compare": Command("say what got faster or slower from results A to B", _compare),
    "advise": Command("recommend a technique from what was measured, and say what to measure next", _advise),
    "list": Command("list the techniques and whether each can run here, the studies, or the cells of one", _list),
    "show": Command("say what a technique does, what it needs and how to put it into a study", _show),
    "doctor": Command("say what this machine can run"),
    "lock": Command("write down the commits of a study's branches and tags (`revision: main`) beside it", _lock),
    "clean": Command("show what speedgrid has written on this machine and its size, and remove it", _clean, OF_KINDS),
    "completion": Command("print the completion of this command line for a shell", _completion, COMPLETION),
    "docs": Command("build the documentation as a site in site/", is_for_clones=True),
    "test": Command(
        "check the code (ruff, snakefmt, snakemake --lint, mypy) and run the tests",
        more="All arguments go to pytest, e.g. a test file, -k WORDS.\n",
        is_for_clones=True,
    ),
}


def offered(is_clone: bool = IS_CLONE) -> dict[str, Command]:
    """The commands that work in a clone, or where speedgrid is installed, by name."""
    return {name: command for name, command in COMMANDS.items() if is_clone or not command.is_for_clones}


def whole(prog: str = "speedgrid", folder: str = "the current folder", is_clone: bool = IS_CLONE) -> argparse.ArgumentParser:
    """The parser of all commands of a clone, or of those where speedgrid is installed; `prog` is what the user types, and `folder` where
    paths begin."""
    parser = Parser(
        prog=prog,
        usage=f"{prog} COMMAND [arguments ...]",
        description="Which speed-up technique should I use for my model on my GPU?",
        epilog=f"{EXIT.format(prog=prog)}\n{ENVIRONMENTS}{'' if IS_CLONE else DOCUMENTS.format(root=ROOT)}",
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    commands = parser.add_subparsers(title="commands", metavar="", dest="command")
    for name, command in offered(is_clone).items():
        command.arguments(commands.add_parser(name, help=command.does, **_texts(name, prog, folder)))
    return parser


def one(name: str, prog: str = "speedgrid", folder: str = "the current folder") -> argparse.ArgumentParser:
    """The parser of one command."""
    parser = Parser(**_texts(name, prog, folder))
    COMMANDS[name].arguments(parser)
    return parser


def _texts(name: str, prog: str, folder: str) -> dict[str, Any]:
    command = COMMANDS[name]
    more = command.more.format(prog=prog, folder=folder)
    return {"prog": f"{prog} {name}", "description": f"{command.does[0].upper()}{command.does[1:]}.", "epilog": more}


def unknown(name: str) -> str:
    """What to say of a command that there is not."""
    return f"unknown command {name!r}; {validation.unknown(name, offered())}"


def wrong(message: str, options: Iterable[str]) -> str:
    """What argparse says is wrong with a command line, and which of the `options` an unknown one may mean."""
    unknown = message.removeprefix("unrecognized arguments: ") if message.startswith("unrecognized arguments: ") else ""
    name = next((word.partition("=")[0] for word in unknown.split() if word.startswith("--")), "")
    found = validation.nearest(name, [option for option in options if option.startswith("--")]) if name else []
    return f"{message}; did you mean {' or '.join(found)}?" if found else message


def refuse_arguments(message: str, options: Iterable[str]) -> NoReturn:
    """End with one line that says what is wrong with the arguments of a run; `options` are those that Snakemake takes."""
    refuse(f"{wrong(message, [*one('run')._option_string_actions, *options])} (see {program()} run --help, and --help-all for Snakemake's)")


# How the program was started


def program() -> str:
    """The launcher as whoever started this types it; where nobody noted that, as it is called in a clone or where it is installed."""
    return os.environ.get(LAUNCHER) or (IN_A_CLONE if IS_CLONE else NAME)


def is_default(study: str) -> bool:
    """Whether a study is the one that is meant where none is named, also where speedgrid is installed and it lies beside it."""
    return study in DEFAULT or Path(study) == ROOT / DEFAULT[0]


def to_run(study: str, *targets: str, sharpen: bool = False) -> str:
    """The command that runs a study here; the default one needs no name. `targets` are the files to make, all where none is named."""
    named = [] if is_default(study) else [study]
    if flow := os.environ.get(SNAKEMAKE):
        flow = flow.replace(STUDY_HERE, f" --configfile {shlex.join(named)}" if named else "")
        return " ".join([*(["SPEEDGRID_SHARPEN=1"] if sharpen else []), flow, *(["--", shlex.join(targets)] if targets else [])])
    words = [*(["--study", *named] if named else []), *(["--sharpen"] if sharpen else []), *(["--", *targets] if targets else [])]
    return " ".join([program(), shlex.join(["run", *words])])


def to_page(study: str) -> str:
    """The command that makes the page of what a study has measured so far."""
    if os.environ.get(SNAKEMAKE):
        return to_run(study, "report_so_far")
    return " ".join([program(), shlex.join(["report", *([] if is_default(study) else ["--study", study])])])


def started_as(typed: Sequence[str], parent: Sequence[str] = ()) -> str:
    """What starts the launcher once more from the folder that it was started in, as text for a shell. `typed` are its own words, `parent`
    is the command line of the process that started it, which may be uv's."""
    if Path(typed[0]).name == "launcher.py":  # by itself, for a part of its work
        return program()
    if IS_CLONE and Path.cwd() == ROOT:
        return IN_A_CLONE
    arguments = list(typed[1:])
    words, after = list(parent[: len(parent) - len(arguments)]), list(parent[len(parent) - len(arguments) :])
    if words and Path(words[0]).name in ("uv", "uvx") and Path(words[-1]).name == NAME and after == arguments:
        words[0] = Path(words[0]).name
        return shlex.join(["uvx", *words[3:]] if words[1:3] == ["tool", "uvx"] else words)
    found = shutil.which(NAME)
    if found and os.path.exists(typed[0]) and os.path.samefile(found, typed[0]):
        return NAME
    return shlex.quote(typed[0] if "/" in typed[0] else f"./{typed[0]}")


def of_snakemake(snakefile: Path, is_module: bool, with_environments: bool) -> dict[str, str]:
    """The environment variables that note how this was started, for the processes of a Snakemake that was started without the launcher, in
    the folder of the results. None to add where the launcher has noted it, or another process of the same run."""
    if LAUNCHER in os.environ:
        return {}
    if IS_CLONE and Path.cwd() == ROOT:
        return {LAUNCHER: IN_A_CLONE}
    noted = {LAUNCHER: shlex.quote(str(ROOT / NAME)) if IS_CLONE else NAME}
    words = ["snakemake", *([] if snakefile == Path.cwd() / "Snakefile" else ["--snakefile", str(snakefile)]), "--cores", "1"]
    return noted | {SNAKEMAKE: shlex.join([*words, *(["--use-conda"] if with_environments else [])]) + ("" if is_module else STUDY_HERE)}


def say(text: str) -> None:
    """Print for whoever reads. A reader who has seen enough, such as `head`, is no error, and what is said afterwards goes nowhere."""
    try:
        print(text, flush=True)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(main: Callable[[], int | None]) -> NoReturn:
    """Run the script of a command. That whoever started it stops it, or that a place cannot be written, is no error of the program."""
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("\nspeedgrid: stopped", file=sys.stderr)
        sys.exit(STOPPED)
    except OSError as error:
        if error.errno not in OF_A_PLACE:
            raise
        with contextlib.suppress(OSError):  # what is left in it of what was said
            sys.stdout.close()
        sys.exit(f"speedgrid: {of_the_system(error)}")


def of_the_system(error: OSError) -> str:
    """An error of the system in words: which file, which may have been one that stands in for another until it is whole, and why."""
    named = re.sub(r"\.([^/]+)\.\d+\.tmp\Z", r"\1", str(error.filename or "the output"))
    return f"{named}: {(error.strerror or str(error)).lower()}"


def refuse(mistake: object) -> NoReturn:
    """End with one line that says what the caller has to put right."""
    print(f"speedgrid: {mistake}", file=sys.stderr)
    sys.exit(MISTAKE)
