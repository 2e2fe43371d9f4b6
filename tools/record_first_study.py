"""Record what the terminal shows of first studies, from `new` to the page, into docs/first-study.md.

    .venv-test/bin/python tools/record_first_study.py CHECKPOINT [--only folder,hub,shape] [--keep FOLDER]

CHECKPOINT is the model that studies/trained.yaml trains (models/stdlib-llama/checkpoint). It is recorded twice: as a local folder, and as
a repository of a hub, for which a server on loopback stands. Everything runs in a new clone with a home folder of its own, and no path of
this machine may be in what is shown; the environments of jobs are those that exist already. Record on a quiet machine, with everything
committed.
"""

import argparse
import contextlib
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "scripts"), str(ROOT / "tests" / "workflow")]

import hub  # type: ignore[import-not-found] # noqa: E402 - the tests' own hub
from speedgrid import hardware, this_machine  # noqa: E402

PAGE = ROOT / "docs" / "first-study.md"
MODEL, REPOSITORY = "my-llama", "someone/my-llama"
# What controls a terminal: colours, moves of the cursor, and lines that a later one overwrites.
CONTROL = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|.*\r(?!\n)")


@dataclass(frozen=True)
class Recording:
    """A first study: its heading, what to know of it, and the commands, in this order."""

    heading: str
    what: str
    commands: Sequence[str]


AFTERWARDS = ("./speedgrid advise", "cat results/summary.md")
RECORDINGS = {
    "folder": Recording(
        "A checkpoint in a folder",
        "A Llama of 3.5 million parameters, which `studies/trained.yaml` trains, and two techniques beside the baseline.",
        (f"./speedgrid new {MODEL} --techniques sdpa,bf16", f"./speedgrid run --study studies/{MODEL}.yaml", *AFTERWARDS),
    ),
    "hub": Recording(
        "A model of the hub",
        "The same checkpoint as a repository of a hub, which a server on this machine stands for (`HF_ENDPOINT`), with llama.cpp.",
        (
            f"./speedgrid new {REPOSITORY} --techniques gguf_q8_0,gguf_q4_k_m --name from-the-hub",
            "./speedgrid run --study studies/from-the-hub.yaml",
            *AFTERWARDS,
        ),
    ),
    "shape": Recording(
        "A shape, and few minutes",
        "Random weights in the shape of SmolLM2-135M, for which nothing is downloaded, and what fits into two minutes by estimate.",
        (
            "./speedgrid new --shape smollm2-135m --minutes 2 --name smollm2-shape",
            "./speedgrid run --study studies/smollm2-shape.yaml -n",
            "./speedgrid run --study studies/smollm2-shape.yaml",
            *AFTERWARDS,
        ),
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--only", default=",".join(RECORDINGS), help=f"of {', '.join(RECORDINGS)}")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="keep the texts here, and make the page of all that are there")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        kept = arguments.keep or Path(folder) / "texts"
        kept.mkdir(parents=True, exist_ok=True)
        for name in arguments.only.split(","):
            told = RECORDINGS[name]
            (kept / f"{name}.txt").write_text(recorded(told, arguments.checkpoint.resolve(), Path(folder) / name), encoding="utf-8")
        texts = {name: (kept / f"{name}.txt").read_text(encoding="utf-8") for name in RECORDINGS if (kept / f"{name}.txt").is_file()}
    PAGE.write_text(page(texts, machine()), encoding="utf-8")


def recorded(told: Recording, checkpoint: Path, folder: Path) -> str:
    """What a terminal shows of a recording's commands, in a new clone with a home of its own."""
    clone, home = folder / "speedgrid", folder / "home"
    home.mkdir(parents=True)
    subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
    shutil.copytree(checkpoint, clone / MODEL)
    cache = Path.home() / ".cache"
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "XDG_CACHE_HOME")}
    environ |= {"HOME": str(home), "UV_CACHE_DIR": str(cache / "uv"), "PIP_CACHE_DIR": str(cache / "pip")}
    environ.setdefault("SNAKEMAKE_CONDA_PREFIX", str(cache / "speedgrid/envs"))
    # Makes the launcher's environment beforehand; those of jobs exist already.
    subprocess.run([clone / "speedgrid", "list"], env=environ, check=True, capture_output=True)
    lines = []
    with hub.serving({REPOSITORY: checkpoint}) if any(REPOSITORY in one for one in told.commands) else contextlib.nullcontext() as address:
        environ |= {"HF_ENDPOINT": address} if address else {}
        for command in told.commands:
            done = subprocess.run(
                command, shell=True, cwd=clone, env=environ, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
            )
            lines += [f"$ {command}", clean(done.stdout.decode(errors="replace"))]
            lines += [f"[exit status {done.returncode}]"] * (done.returncode != 0)
    text = "\n".join(line for line in lines if line) + "\n"
    for place in (folder, ROOT, Path.home()):
        if str(place) in text:
            sys.exit(f"{place} stands in what was recorded:\n{text}")
    return text


def clean(text: str) -> str:
    """What is left on the screen, without spaces at the ends of lines."""
    return "\n".join(line.rstrip() for line in CONTROL.sub("", text.replace("\r\n", "\n")).splitlines()).strip("\n")


def machine() -> str:
    """What the recordings were made on."""
    gpus = ", ".join(gpu.name for gpu in hardware.gpus()) or "no GPU"
    commit = subprocess.run(["git", "-C", ROOT, "log", "-1", "--format=%h of %cs"], check=True, capture_output=True, text=True).stdout
    cores = this_machine.physical_cores()
    machine = f"{this_machine.cpu_name()}, {cores} core{'s' * (cores != 1)}, {this_machine.memory() / 1e9:.0f} GB of memory, {gpus}"
    return f"{machine}; commit {commit.strip()}"


def page(texts: Mapping[str, str], on: str) -> str:
    lines = [
        "# First studies, as the terminal shows them",
        "",
        "What `new`, `run` and `advise` print, and `summary.md`. On a terminal a run also has a status line below, and `new` asks for",
        "what the command does not say. The page of each run, `results/report.html`, is not shown. The environments of jobs had been",
        "made before.",
        "",
        f"Recorded on: {on} (`tools/record_first_study.py`).",
        "",
    ]
    for name, text in texts.items():
        told = RECORDINGS[name]
        lines += [f"## {told.heading}", "", told.what, "", "```text", text.rstrip("\n"), "```", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
