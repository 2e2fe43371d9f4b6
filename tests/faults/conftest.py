"""What the tests of faults share."""

import json
import os
import shutil
from pathlib import Path

import pytest
import working_copy
import yaml
from place import CELL, STUDY, Project, safetensors, told, wait_for

# Most environments of jobs have no pandas, which pyarrow imports where it is: seconds, for every job.
LIKE_A_JOB = """
import sys
class NoPandas:
    def find_spec(name, *rest):
        if name == "pandas":
            raise ModuleNotFoundError("No module named 'pandas'", name="pandas")
if any(word.endswith(("measure.py", "warmup.py", "evaluate.py", "quantize.py", "prepare_model.py")) for word in sys.orig_argv):
    sys.meta_path.insert(0, NoPandas)
"""


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Project:
    """Every cell of the study, measured."""
    folder = working_copy.copy_to(tmp_path_factory.mktemp("faults"))
    package = folder / "scripts" / "speedgrid"
    for place in ("engines", "transforms"):
        shutil.copy(Path(__file__).with_name("chain.py"), package / place / "chain.py")
    schema = folder / "rules/schemas/techniques.schema.yaml"
    text = schema.read_text()
    schema.write_text(
        text.replace("enum: [transformers,", "enum: [chain, transformers,").replace("enum: [bitsandbytes,", "enum: [chain, bitsandbytes,")
    )
    # Outside of the project, so that it lies in the same place for every copy.
    model = tmp_path_factory.mktemp("chain")
    (model / "model.safetensors").write_bytes(safetensors({"weight": [64, 64]}))
    (model / "config.json").write_text(json.dumps({"model_type": "chain", "text": Path(json.__file__).read_text()}))
    (folder / "held out.txt").write_text("def one():\n    return 1\n" * 20)
    (folder / "site").mkdir()
    (folder / "site" / "sitecustomize.py").write_text(LIKE_A_JOB)
    (folder / "study.yaml").write_text(yaml.safe_dump({**STUDY, "models": {"chain": {"local": str(model)}}}))
    project = Project(folder)
    done = project.snakemake()
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(project.results()) >= {f"{CELL}/{stage}.parquet" for stage in ("warmup", "measure", "evaluate")}
    (folder / "told.json").write_text(json.dumps(told(project)))
    return project


@pytest.fixture
def project(finished, tmp_path) -> Project:
    """A copy of the finished project for one test."""
    folder = tmp_path / "a copy"
    shutil.copytree(finished.folder, folder, symlinks=True)
    return Project(folder)


@pytest.fixture
def memory_cgroup(cgroups):
    """A memory cgroup of 512 MiB, to put a job into."""
    top, limit = cgroups[0]
    folder = top / f"speedgrid-test-{os.getpid()}"
    folder.mkdir()
    try:
        (folder / limit).write_text(str(2**29))
        yield folder
    finally:
        wait_for(lambda: not (folder / "cgroup.procs").read_text())
        folder.rmdir()
