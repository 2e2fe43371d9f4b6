"""What the tests of faults share."""

import json
import os
import shutil

import pytest
from place import CELL, STUDY, Project, command_lines, make_project, wait_for


@pytest.fixture(scope="session")
def finished(tmp_path_factory) -> Project:
    """Every cell of the study, measured."""
    project = make_project(tmp_path_factory.mktemp("faults"), tmp_path_factory.mktemp("chain"), STUDY)
    done = project.snakemake()
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(project.results()) >= {f"{CELL}/{stage}.parquet" for stage in ("warmup", "measure", "evaluate")}
    (project.folder / "command-lines.json").write_text(json.dumps(command_lines(project)))
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
