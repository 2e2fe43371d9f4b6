"""A small project with finished cells, in which faults are injected: real jobs of a real study, on an engine that needs no environment."""

import json
import os
import signal
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import working_copy

STUDY = {
    "study": "faults",
    "seed": 3,
    "threads": 1,
    "gpus": {"cpu": {"device": "cpu"}},
    "techniques": {
        name: {"label": name, "family": "reference", "summary": "For tests.", "engine": "chain", "env": "report"} | more
        for name, more in {"plain": {}, "made": {"transform": {"method": "chain"}}}.items()
    },
    "experiments": {
        "e": {
            "models": ["chain"],
            "techniques": ["plain", "made"],
            "baseline": "plain",
            "prompt": "def ",
            "replies": 5,
            "warmup_replies": 1,
            "max_new_tokens": 8,
            "evaluate": {"text": "held out.txt", "max_bytes": 256},
        }
    },
}
CELL = "results/cpu/e/chain/plain"


def safetensors(tensors: dict[str, list[int]]) -> bytes:
    """A file of float32 zeros."""
    head, offset = {}, 0
    for name, shape in tensors.items():
        size = 4
        for width in shape:
            size *= width
        head[name] = {"dtype": "F32", "shape": shape, "data_offsets": [offset, offset + size]}
        offset += size
    text = json.dumps(head).encode()
    return struct.pack("<Q", len(text)) + text + bytes(offset)


@dataclass
class Project:
    """A copy of the project, and what the tests do with it."""

    folder: Path

    def snakemake(self, *targets: str, **variables: str) -> subprocess.CompletedProcess:
        return working_copy.snakemake(self.folder, *self.arguments(), *targets, **self.environ(**variables))

    def start(self, *targets: str, **variables: str) -> subprocess.Popen:
        """Snakemake in a session of its own; `variables` tell the fault."""
        command = [sys.executable, "-m", "snakemake", "--cores", "1", *self.arguments(), *targets]
        with open(self.folder / "said.txt", "w") as said:
            environ = self.environ(**variables)
            return subprocess.Popen(command, cwd=self.folder, env=environ, stdout=said, stderr=said, start_new_session=True)

    @staticmethod
    def arguments() -> list[str]:
        return ["--rerun-incomplete", "--configfile", "study.yaml", "--"]

    def environ(self, **variables: str) -> dict[str, str]:
        path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
        return {**os.environ, "PATH": path, "SPEEDGRID_FAULT_AT": str(self.at), "PYTHONPATH": str(self.folder / "site"), **variables}

    def job(self, script: str, target: str, *, before: str = ":", **variables: str) -> subprocess.CompletedProcess:
        """One job as its rule runs it, by hand; `before` is what the shell does first, such as `ulimit`."""
        process = self.start_job(script, target, before=before, **variables)
        output, _ = process.communicate(timeout=120)
        return subprocess.CompletedProcess(process.args, process.returncode, output)

    def start_job(self, script: str, target: str, *, before: str = ":", **variables: str) -> subprocess.Popen:
        told = json.loads((self.folder / "told.json").read_text())[target]
        command = [sys.executable, f"scripts/{script}.py", *told, "--out", target]
        line = ["bash", "-c", f'set -e; {before}; exec "$@"', "bash", *command]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        return subprocess.Popen(line, cwd=self.folder, env=self.environ(**variables), start_new_session=True, **streams)

    @property
    def at(self) -> Path:
        """Where the engine writes its process number when it has come to the fault."""
        return self.folder / "fault.txt"

    def await_fault(self, process: subprocess.Popen) -> int:
        """Wait until a job has come to its fault; returns its process number."""
        wait_for(lambda: process.poll() is not None or (self.at.exists() and self.at.read_text()))
        assert process.poll() is None, "it ended before the fault"
        return int(self.at.read_text())

    def results(self) -> dict[str, bytes]:
        """Every result file and checkpoint, byte for byte."""
        files = [path for top in ("results", "models") for path in (self.folder / top).rglob("*") if path.is_file()]
        return {str(path.relative_to(self.folder)): path.read_bytes() for path in files if not path.name.startswith(".")}

    def forget(self, *names: str) -> dict[str, bytes]:
        """Delete finished results, and return all others as they are, but for the tables and the page that are made of them."""
        for name in names:
            (self.folder / name).unlink()
        made_of_all = ("results/summary.parquet", "results/runs.parquet", "results/report.html")
        for name in made_of_all:
            (self.folder / name).unlink(missing_ok=True)
        return self.results()


def wait_for(condition, seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.01)


def is_alive(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def kill_session(process: subprocess.Popen, number: int = signal.SIGKILL) -> None:
    """Signal every process of a session that a test started."""
    subprocess.run(["pkill", f"-{signal.Signals(number).name.removeprefix('SIG')}", "-s", str(process.pid)])


def told(project: Project) -> dict[str, list[str]]:
    """What each job is told on its command line, by its output."""
    from speedgrid import grid, planning

    package = planning.ROOT
    planning.ROOT = project.folder
    try:
        planned = planning.read_grid("study.yaml")
    finally:
        planning.ROOT = package
    found = {cell.model_record: ["--job", grid.model_job(cell.model, planned.study)] for cell in planned.cells}
    for cell in planned.cells:
        if cell.transform:
            found[cell.checkpoint_record] = ["--job", cell.job("quantize"), "--checkpoint", cell.model_record]
        for stage, after in (("warmup", ""), ("measure", "warmup"), ("evaluate", "measure")):
            more = ["--after", f"{cell.folder}/{after}.parquet"] if after else []
            found[f"{cell.folder}/{stage}.parquet"] = ["--job", cell.job(stage), "--checkpoint", cell.checkpoint_record, *more]
    return found
