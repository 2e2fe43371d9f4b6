"""A small project with finished cells, in which faults are injected: real jobs of a real study, on an engine that needs no environment."""

import json
import os
import shutil
import signal
import struct
import subprocess
import sys
import time
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import working_copy
import yaml

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
            # As many runs whatever the machine: what is open runs again by default.
            "runs": 1,
            "baseline_runs": 2,
            "prompt": "def ",
            "replies": 5,
            "warmup_replies": 1,
            "max_new_tokens": 8,
            "evaluate": {"text": "held out.txt", "max_bytes": 256},
        }
    },
}
CELL = "results/cpu/e/chain/plain"
# Most environments of jobs have no pandas, which pyarrow imports where it is: seconds, for every job.
LIKE_A_JOB = """
import sys
class NoPandas:
    def find_spec(name, *rest):
        if name == "pandas":
            raise ModuleNotFoundError("No module named 'pandas'", name="pandas")
if any(word.endswith(("measure.py", "warmup.py", "evaluate_quality.py", "quantize.py", "prepare_model.py")) for word in sys.orig_argv):
    sys.meta_path.insert(0, NoPandas)
"""


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


def make_project(folder: Path, model: Path, study: dict) -> "Project":
    """A copy of the project in `folder` that knows the engine and the transform of chain.py, and a study of it in study.yaml.

    The model lies in `model`, outside of the project, so that it lies in the same place for every copy.
    """
    working_copy.copy_to(folder)
    package = folder / "scripts" / "speedgrid"
    for place in ("engines", "transforms"):
        shutil.copy(Path(__file__).with_name("chain.py"), package / place / "chain.py")
    schema = folder / "rules/schemas/techniques.schema.yaml"
    text = schema.read_text()
    schema.write_text(
        text.replace("enum: [transformers,", "enum: [chain, transformers,").replace("enum: [bitsandbytes,", "enum: [chain, bitsandbytes,")
    )
    (model / "model.safetensors").write_bytes(safetensors({"weight": [64, 64]}))
    (model / "config.json").write_text(json.dumps({"model_type": "chain", "text": Path(json.__file__).read_text()}))
    (folder / "held out.txt").write_text("def one():\n    return 1\n" * 20)
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(LIKE_A_JOB)
    (folder / "study.yaml").write_text(yaml.safe_dump({**study, "models": {"chain": {"local": str(model)}}}, sort_keys=False))
    return Project(folder)


def set_up_launcher(folder: Path) -> None:
    """A .venv that is up to date, and whose Python is that of the tests."""
    python = folder / ".venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    lock = (folder / "locks" / "run.txt").read_bytes()
    (folder / ".venv" / "made-from").write_text(sha256(lock).hexdigest())


def pretend_driver(driver: Path, site: Path, nvidia_smi: str) -> str:
    """Pretend a driver: its nvidia-smi, in the folder `driver`, and its Python library, in `site`. Returns the PATH that has it.

    In the script `nvidia_smi` `{met}` is a folder where jobs can meet, and `{mine}` makes the names of the GPUs those of this test alone.
    """
    (driver / "met").mkdir()
    smi = driver / "nvidia-smi"
    smi.write_text(nvidia_smi.format(met=driver / "met", mine=f"{os.getpid()}-{time.monotonic_ns()}"))
    smi.chmod(0o755)
    shutil.copy(Path(__file__).parent / "driver" / "pynvml.py", site)
    return os.pathsep.join([str(driver), str(Path(sys.executable).parent), os.environ["PATH"]])


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
        arguments = json.loads((self.folder / "command-lines.json").read_text())[target]
        command = [sys.executable, f"scripts/{script}.py", *arguments, "--out", target]
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
        made_of_all = ("results/summary.parquet", "results/runs.parquet", "results/points.parquet", "results/report.html")
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


TELL = """
import json
from speedgrid import planning
from speedgrid import cell as cells

planned = planning.read_grid("study.yaml")
found = {cell.model_record: ["--job", cells.model_job(cell.model, planned.study)] for cell in planned.cells}
for cell in planned.cells:
    if cell.transform:
        found[cell.checkpoint_record] = ["--job", cell.job("quantize"), "--checkpoint", cell.model_record]
    for stage, after in (("warmup", ""), ("measure", "warmup"), ("evaluate", "measure")):
        more = ["--after", f"{cell.folder}/{after}.parquet"] if after else []
        found[f"{cell.folder}/{stage}.parquet"] = ["--job", cell.job(stage), "--checkpoint", cell.checkpoint_record, *more]
print(json.dumps(found))
"""


def command_lines(project: Project) -> dict[str, list[str]]:
    """The arguments of each job, as its command line has them, by its output; by the project's own code, which knows the engine."""
    environ = {**os.environ, "PYTHONPATH": str(project.folder / "scripts")}
    done = subprocess.run([sys.executable, "-c", TELL], cwd=project.folder, env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
