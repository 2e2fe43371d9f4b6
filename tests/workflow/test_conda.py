"""conda itself in place of its stand-in: it makes the environments of a study, and each activates what the other has made."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import working_copy
import yaml
from speedgrid import records
from speedgrid.schema import RUNS, SUMMARY

pytestmark = [pytest.mark.slow, pytest.mark.needs("conda", "network")]

PYTHON = "3.11"


def conda_prefix() -> str:
    return json.loads(subprocess.run(["conda", "info", "--json"], capture_output=True, text=True, check=True).stdout)["conda_prefix"]


def python_by(activate: Path | str, environment: Path) -> str:
    """Where `python` is after an activation, with Snakemake's line."""
    script = f'source "{activate}" \'{environment}\'; set -euo pipefail; python -c "import six; print(six.__version__)"; command -v python'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_what_the_one_has_made_the_other_activates(root, tmp_path):
    file = tmp_path / "six.yaml"
    content = {"channels": ["conda-forge"], "dependencies": [f"python={PYTHON}", "pip", {"pip": ["six==1.17.0"]}]}
    file.write_text(yaml.safe_dump(content))
    frontend = root / "envs" / "uv-frontend" / "bin"
    makers = {"conda": shutil.which("conda"), "uv": frontend / "conda"}
    for name, conda in makers.items():
        place = tmp_path / "my envs" / name  # of which conda itself takes no space
        command = [conda, "env", "create", "--quiet", "--no-default-packages", "--file", file, "--prefix", place]
        done = subprocess.run(command, env=os.environ | {"SPEEDGRID_PYTHON": sys.executable}, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        for activate in (frontend / "activate", f"{conda_prefix()}/bin/activate"):
            assert python_by(activate, place) == f"1.17.0\n{place}/bin/python\n"


def test_a_study_with_conda_alone_from_a_path_and_a_home_with_spaces(tmp_path_factory):
    """`snakemake --use-conda`, without the launcher; llama.cpp is built by its post-deploy script. With SNAKEMAKE_CONDA_PREFIX, the
    environments are kept there for the next time."""
    project = working_copy.copy_to(tmp_path_factory.mktemp("with conda"))
    envs = Path(os.environ.get("SNAKEMAKE_CONDA_PREFIX") or tmp_path_factory.mktemp("my home") / "envs")
    envs.mkdir(exist_ok=True)
    command = ["--use-conda", "--conda-prefix", str(envs), "--configfile", "tests/studies/conda.yaml"]
    done = working_copy.snakemake(project, *command)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    summary = records.read(project / "results" / "summary.parquet", SUMMARY).rows
    assert {row["technique"]: row["status"] for row in summary} == dict.fromkeys(("baseline", "sdpa", "gguf_f16", "gguf_q8_0"), "ok")
    assert (project / "results" / "report.html").stat().st_size > 100_000
    runs = records.read(project / "results" / "runs.parquet", RUNS).rows
    assert {"transformers", "llamacpp", "evaluation"} <= {run["env"] for run in runs}
    made = [path.with_suffix("") for path in envs.glob("*.env_setup_done")]
    assert all((path / "conda-meta" / "history").exists() for path in made)  # conda's own, and not the stand-in's
    assert sum((path / "share" / "llama.cpp" / "cmake-flags.txt").exists() for path in made) >= 1
