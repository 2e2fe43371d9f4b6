"""What a run does around every job is what job_shell.py says, all of which counts in fingerprints, and nothing else.

Snakemake runs here whole, with a `bash` that notes what it was to do and what it found set, and does nothing.
"""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from speedgrid import commands, environments, job_shell, places, snakemake_seam

import studies

NOTES = """#!{python} -IS
import json, os, sys
if "SPEEDGRID_SCRIPTS" not in sys.argv[2]:
    os.execv("/bin/bash", ["bash", *sys.argv[1:]])
with open({notes!r}, "a") as file:
    print(json.dumps([sys.argv[2], dict(os.environ)]), file=file)
sys.exit(1)
"""
# The launcher as where it is installed, but for the environments that it makes for Snakemake, and the folder that it works in.
LAUNCHER = """
import importlib.machinery, importlib.util, pathlib, sys
loader = importlib.machinery.SourceFileLoader("launcher", sys.argv[1])
launcher = importlib.util.module_from_spec(importlib.util.spec_from_loader("launcher", loader))
loader.exec_module(launcher)
launcher.IS_CLONE, launcher.HERE = False, pathlib.Path.cwd()
launcher.venv_folder = lambda name, lock: pathlib.Path(sys.prefix)
launcher.ensure_venv = lambda name, lock: sys.executable
launcher.check_python_of_jobs = lambda environ: None
launcher.main(sys.argv[2:])
"""
SAYS = """
import json, sys
from speedgrid import job_shell
print(json.dumps(job_shell.variables(sys.argv[1] == "True") | job_shell.limits(86400, 1, 0)))
"""
# What Snakemake itself sets, by the threads of the job and where an environment of conda's is used.
THREADS = ("OMP", "GOTO", "OPENBLAS", "MKL", "VECLIB_MAXIMUM", "NUMEXPR")
OF_SNAKEMAKE = {
    **{f"{name}_NUM_THREADS" if "_" not in name else f"{name}_THREADS": "1" for name in THREADS},
    **dict.fromkeys(("TMPDIR", "TMP", "TEMPDIR", "TEMP"), "/tmp"),
}
# What else is there, and why no figure depends on it (test_fingerprint.py: SET_BESIDE, OF_THE_LAUNCHER).
SAID = {commands.LAUNCHER, commands.SNAKEMAKE}
PLACES = {"SPEEDGRID_SCRIPTS": str(studies.ROOT / "scripts"), **places.variables({})}
OF_THE_LAUNCHER = {"PATH", "SPEEDGRID_PYTHON"}
BEGINS = 'python "$SPEEDGRID_SCRIPTS/'


@pytest.fixture
def place(tmp_path) -> Path:
    """A folder with a study, the `bash`, and environments that seem to have been made."""
    notes = tmp_path / "bin" / "bash"
    notes.parent.mkdir()
    notes.write_text(NOTES.format(python=sys.executable, notes=str(tmp_path / "notes")))
    notes.chmod(0o755)
    model = {"train": {"hidden_size": 32, "layers": 1, "heads": 2, "kv_heads": 1}}
    experiment = {"models": ["lm"], "techniques": ["baseline"], "prompt": "x", "replies": 4}
    study = {"study": "one", "gpus": {"cpu": {"device": "cpu"}}, "models": {"lm": model}, "experiments": {"fixed": experiment}}
    (tmp_path / "one.yaml").write_text(yaml.safe_dump(study))
    for recipe in environments.files().values():
        made = snakemake_seam.environment_folder(recipe, tmp_path / "envs")
        (made / "bin").mkdir(parents=True)
        (made / "bin" / "python").write_text("#!/bin/sh\n")
        (made / "bin" / "python").chmod(0o755)
        made.with_suffix(".env_setup_done").touch()
        made.with_suffix(".yaml").write_bytes(recipe.read_bytes())
    return tmp_path


@pytest.mark.parametrize(("is_launched", "uses_environments"), [(True, True), (True, False), (False, True), (False, False)])
def test_every_job_finds_what_job_shell_says_and_nothing_else(place, is_launched, uses_environments):
    """`OMP_WAIT_POLICY`, set or exported anywhere between the launcher and the job's command, would be another measurement."""
    given = {
        "HOME": str(place),
        "LC_ALL": "C.UTF-8",
        "SNAKEMAKE_CONDA_PREFIX": str(place / "envs"),
        "PATH": os.pathsep.join(
            [str(place / "bin"), str(environments.FRONTEND / "bin"), str(Path(sys.executable).parent), "/usr/bin:/bin"]
        ),
    }
    if is_launched:
        command = [sys.executable, "-c", LAUNCHER, studies.ROOT / "speedgrid", "run", "--study", "one.yaml"]
        command += ["--uv-envs" if uses_environments else "--no-conda", "--cores", "1"]
    else:
        command = [sys.executable, "-m", "snakemake", "-s", studies.ROOT / "Snakefile", "--cores", "1", "--configfile", "one.yaml"]
        command += ["--use-conda"] if uses_environments else []
    done = subprocess.run(list(map(str, command)), cwd=place, env=given, capture_output=True, text=True)
    assert (place / "notes").exists(), done.stdout + done.stderr
    noted = [json.loads(line) for line in (place / "notes").read_text().splitlines()]

    says = [sys.executable, "-c", SAYS, str(uses_environments)]
    said = subprocess.run(
        says, env=given | {"PYTHONPATH": str(studies.ROOT / "scripts")}, capture_output=True, text=True, check=True
    ).stdout
    expected = given | OF_SNAKEMAKE | PLACES | json.loads(said)
    known = SAID | (OF_THE_LAUNCHER if is_launched else set())
    for line, found in noted:
        different = {name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)}
        # The number of the process that wants it is another one.
        assert found.pop("SPEEDGRID_WANTED_BY").isdigit()
        assert different - known - {"SPEEDGRID_WANTED_BY"} == set(), "what acts on jobs belongs in job_shell.py"
        before, _, _ = line.partition(BEGINS)
        assert before == (in_environment(line) if uses_environments else "") + "set -euo pipefail;  "
    assert {"write_plan", "probe", "prepare_model"} <= {line.partition(BEGINS)[2].partition(".py")[0] for line, _ in noted}


def in_environment(line: str) -> str:
    """What comes first in the shell of a job that has an environment."""
    *activate, made = shlex.split(line.partition(";")[0])
    assert activate == ["source", str(environments.FRONTEND / "bin" / "activate")]
    told = job_shell.before_command(made, environments.recipe_hash(Path(f"{made}.yaml")), environments.refusal(made))
    return f"source {activate[1]} '{made}'; {told}"


@pytest.mark.parametrize("reason", ["", "no room"])
def test_what_comes_before_a_command_is_handed_on_as_job_shell_says_it(tmp_path, monkeypatch, reason):
    own, instead = tmp_path / "env", str(tmp_path / "report")
    if reason:
        environments.Failure(reason, instead).keep(own)
    asked = []
    monkeypatch.setattr(job_shell, "before_command", lambda *told: asked.append(told) or "first; ")
    activated = instead if reason else str(own)
    shellcmd = snakemake_seam._checked(lambda conda, address, command: f"source {address}; {command}")
    assert shellcmd(None, str(own), "python x") == f"source {activated}; first; python x"
    assert asked == [(activated, "", environments.refusal(activated), reason)]
