"""A copy of the project to run in, so that a test never touches the results of whoever runs it."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from speedgrid import user_cache

ROOT = Path(__file__).resolve().parents[2]
# A token for the hub that whole runs are given, and that nothing that they write may hold; put together, so that this file does not.
TOKEN = "hf_" + "secret" * 4


def copy_to(folder: Path) -> Path:
    """Copy what git tracks, and what it would, as it stands in the working tree."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(None, listed.stdout.split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder


def snakemake(folder: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    """Snakemake of the test environment in `folder`, without environments for jobs."""
    command = [sys.executable, "-m", "snakemake", "--cores", "1", *arguments]
    variables["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run(command, cwd=folder, env={**os.environ, **variables}, capture_output=True, text=True)


def launcher(folder: Path, *arguments: str, before: str = "", **variables: str) -> subprocess.CompletedProcess:
    """The launcher of the copy, as a user calls it; `before` is what the shell does first, such as `ulimit`."""
    command = ["bash", "-c", f'{before or ":"}; exec "$@"', "bash", sys.executable, "speedgrid", *arguments]
    return subprocess.run(command, cwd=folder, env={**os.environ, **variables}, capture_output=True, text=True)


def python_of(env: str) -> Path:
    """The Python of an environment that the launcher has made: Snakemake keeps the recipe beside it."""
    made = Path(os.environ.get("SNAKEMAKE_CONDA_PREFIX") or user_cache.own() / "envs")
    recipe = (ROOT / "envs" / f"{env}.yaml").read_bytes()
    return next(path.with_suffix("") / "bin/python" for path in made.glob("*.yaml") if path.read_bytes() == recipe)


def compiled_too_often(folder: Path, env: str) -> dict:
    """What `evidence.compiled` says in an environment where torch.compile meets one function at more ranks than it may compile it for."""
    calls = "import json, torch; f = torch.compile(lambda x: x + 1, backend='eager'); [f(torch.zeros([1] * n)) for n in range(1, 80)]"
    code = f"{calls}; from speedgrid.engines import evidence; print(json.dumps(evidence.compiled()))"
    variables = {**os.environ, "PYTHONPATH": str(folder / "scripts")}
    done = subprocess.run([python_of(env), "-c", code], env=variables, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def holding(folder: Path, secret: str) -> list[str]:
    """The files in a project, its Python environment left out, that hold a text."""
    written = [path for path in folder.rglob("*") if path.is_file() and ".venv" not in path.parts]
    return [str(path.relative_to(folder)) for path in written if secret.encode() in path.read_bytes()]


def planned_jobs(answer: subprocess.CompletedProcess) -> dict[str, int]:
    """Jobs per rule in the output of a dry run, of Snakemake or of the launcher."""
    assert answer.returncode == 0, answer.stderr
    text = answer.stdout + answer.stderr
    if "Nothing to be done" in text:
        return {}
    if told := re.search(r"steps? would run \((.*?)\)", text):
        return {rule: int(count) for count, rule in (part.split() for part in told[1].split(", "))}
    table = text.split("Job stats:\n", 1)[1].split("total", 1)[0].splitlines()[2:]
    return {line.split()[0]: int(line.split()[1]) for line in table if line.strip()}
