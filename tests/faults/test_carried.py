"""Results that came to another machine, or whose machine has another device by now: they are never taken for what this one has measured."""

import json
import shutil
import subprocess
import sys

import pytest
from place import CELL, Project, set_up_launcher
from speedgrid import records
from speedgrid.schema import MEASURE

OTHER = "Imaginary CPU 9000"
# The processor that a machine says it has.
PROCESSOR = """
import os, pathlib
if name := os.environ.get("SPEEDGRID_TEST_CPU"):
    read = pathlib.Path.read_text
    told = f"model name\\t: {name}\\nflags\\t: fpu\\n"
    pathlib.Path.read_text = lambda path, *how, **more: told if str(path) == "/proc/cpuinfo" else read(path, *how, **more)
"""


@pytest.fixture
def carried(project) -> Project:
    """A copy of a folder with finished results, on a machine that can be told to have another processor."""
    site = project.folder / "site" / "sitecustomize.py"
    site.write_text(site.read_text() + PROCESSOR)
    set_up_launcher(project.folder)
    return project


def measured_on(project: Project) -> str:
    return records.read(project.folder / CELL / "measure.parquet", MEASURE).facts["device_name"]


def speedgrid(project: Project, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "speedgrid", *arguments]
    environ = project.environ(**variables)
    return subprocess.run(command, cwd=project.folder, env=environ, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def run(project: Project, *arguments: str, **variables: str) -> subprocess.CompletedProcess:
    return speedgrid(project, "run", "--study", "study.yaml", "--no-conda", *arguments, **variables)


@pytest.mark.parametrize("gone", [(), (f"{CELL}/measure.parquet",)], ids=["all is there", "a cell is missing"])
def test_a_run_on_another_device_is_refused_and_changes_nothing(carried, gone):
    others = carried.forget(*gone) if gone else carried.results()
    done = run(carried, SPEEDGRID_TEST_CPU=OTHER)
    assert done.returncode == 2, done.stdout
    line = done.stdout.splitlines()[-1]
    assert line.startswith(f"speedgrid: study.yaml: gpus.cpu: results/cpu was measured on {measured_name(carried)!r} (machine ")
    assert f"and this machine has {OTHER!r}. To measure here, move it away (mv results older)" in line
    assert "Traceback" not in done.stdout
    assert carried.results() == others


def measured_name(project: Project) -> str:
    """The device of the cell that was measured in any case."""
    return records.read(project.folder / CELL.replace("plain", "made") / "measure.parquet", MEASURE).facts["device_name"]


def test_the_page_of_what_came_with_the_folder_names_the_device_that_measured_it(carried):
    (carried.folder / "results/report.html").unlink()
    done = speedgrid(carried, "report", "--study", "study.yaml", "--no-conda", SPEEDGRID_TEST_CPU=OTHER)
    assert done.returncode == 0, done.stdout
    page = (carried.folder / "results/report.html").read_text()
    assert measured_on(carried) in page
    assert OTHER not in page


def test_a_page_of_folders_of_results_needs_no_study_here(carried):
    (carried.folder / "config.yaml").write_text("experiments: [this is not\n")
    before = carried.results()
    done = speedgrid(carried, "report", "results", "--out", "the page", "--no-conda")
    assert done.returncode == 0, done.stdout
    assert measured_on(carried) in (carried.folder / "the page/report.html").read_text()
    assert carried.results() == before
    # What is wrong with a folder is a line, too.
    (carried.folder / "results/summary.parquet").write_text("cut")
    done = speedgrid(carried, "report", "results", "--out", "the page", "--no-conda")
    assert done.returncode == 1
    assert "speedgrid: " in done.stdout
    assert "summary.parquet" in done.stdout


def test_moved_away_they_are_measured_here_and_compared_with_their_device(carried):
    name = measured_on(carried)
    (carried.folder / "results").rename(carried.folder / "older")
    done = run(carried, SPEEDGRID_TEST_CPU=OTHER)
    assert done.returncode == 0, done.stdout
    assert measured_on(carried) == OTHER
    told = speedgrid(carried, "compare", "older", "results", "--json")
    compared = json.loads(told.stdout)
    assert {"what": "device_name", "before": name, "after": OTHER, "cells": 0} in compared["differences"]
    assert all("device_name" in cell["differs"] for cell in compared["cells"] if cell["ratio"])
    assert "same run" not in compared["counts"]


def test_who_asks_for_all_anew_gets_it(carried):
    done = run(carried, "--forceall", SPEEDGRID_TEST_CPU=OTHER)
    assert done.returncode == 0, done.stdout
    assert measured_on(carried) == OTHER


def test_a_copy_of_a_folder_on_the_same_machine_has_nothing_to_do(carried, tmp_path):
    copy = Project(tmp_path / "elsewhere")
    shutil.copytree(carried.folder, copy.folder, symlinks=True)
    done = run(copy)
    assert done.returncode == 0, done.stdout
    assert "Nothing to be done" in done.stdout
    assert copy.results() == carried.results()
