"""What libraries compile is a cell's own: its cold start finds nothing of an earlier run, another cell or another program."""

import importlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from speedgrid import compiled, outcomes
from speedgrid.workloads import repeat

CELL, OTHER = Path("results/gpu/e/m/torch_compile"), Path("results/gpu/e/m/sdpa")


@pytest.fixture(autouse=True)
def cells(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(compiled.PLACE, str(tmp_path / "compiled"))
    for cell in (CELL, OTHER):
        cell.mkdir(parents=True)


def of_a_new_process(begin, cell: Path, **users: str) -> Path:
    """What a process of a cell begins with, whose user has set no more than this."""
    for name in compiled.CACHES:
        os.environ.pop(name, None)
    os.environ.update(users)
    return begin(cell)


def kernel(cell: Path, **users: str) -> Path:
    """One that was compiled for a cell."""
    of_a_new_process(compiled.keep_apart, cell, **users)
    made = Path(os.environ["TRITON_CACHE_DIR"]) / "kernel.so"
    made.parent.mkdir(parents=True)
    made.touch()
    return made


def test_a_cold_start_finds_nothing_and_leaves_what_others_compiled():
    own, neighbours = kernel(CELL), kernel(OTHER)
    of_a_new_process(compiled.begin_with_none, CELL)
    assert not own.exists()
    assert neighbours.exists()


def test_later_processes_of_a_cell_find_what_its_first_one_compiled(tmp_path, monkeypatch):
    own = kernel(CELL)
    assert of_a_new_process(compiled.keep_apart, CELL) == own.parents[1]
    assert own.exists()
    monkeypatch.chdir(tmp_path.parent)
    assert of_a_new_process(compiled.keep_apart, tmp_path / CELL) == own.parents[1]
    assert of_a_new_process(compiled.keep_apart, CELL) != own.parents[1], "a cell of another working folder"


def test_another_folder_by_the_same_path_has_its_own(tmp_path):
    """Two containers with one cache, each with a working folder by the same name."""
    before = compiled.of_cell(CELL)
    CELL.rename(tmp_path / "aside")
    CELL.mkdir()
    assert compiled.of_cell(CELL) != before


def test_what_the_user_has_set_stands_and_holds_what_is_compiled(tmp_path):
    """Libraries cannot be loaded from every place."""
    mine = tmp_path / "mine"
    mine.mkdir()
    (of_others := mine / "kernel.so").touch()
    own = kernel(CELL, TRITON_CACHE_DIR=str(mine))
    assert own.parents[2] == mine
    of_a_new_process(compiled.begin_with_none, CELL, TRITON_CACHE_DIR=str(mine))
    assert Path(os.environ["TRITON_CACHE_DIR"]) == own.parent
    assert not own.exists()
    assert of_others.exists()


def test_every_process_that_a_job_starts_keeps_to_the_cells_own_folder():
    own = of_a_new_process(compiled.keep_apart, CELL)
    said = subprocess.run([sys.executable, "-c", "import os; print(dict(os.environ))"], capture_output=True, text=True, check=True).stdout
    assert all(f"{name!r}: {str(own / part)!r}" in said for name, part in compiled.CACHES.items())
    assert len({os.environ[name] for name in compiled.CACHES}) == len(compiled.CACHES)


def test_what_cannot_be_removed_is_no_cold_start(monkeypatch):
    own = kernel(CELL)

    def refuse(path, **options):
        raise PermissionError(13, "Permission denied", str(path))

    monkeypatch.setattr(shutil, "rmtree", refuse)
    with pytest.raises(outcomes.Failed, match=rf"nothing compiled, and {own.parent} could not be removed \(Permission denied\); remove it"):
        of_a_new_process(compiled.begin_with_none, CELL)


class Begun(Exception):
    """A job has come to its engine."""


@pytest.mark.parametrize(("stage", "stays"), [("warm-up", False), ("measurement", True)])
def test_a_warm_up_finds_nothing_and_a_measurement_what_that_left(stage, stays):
    work = {"warm-up": importlib.import_module("warmup").warm_up, "measurement": repeat.measure}[stage]
    own = kernel(CELL)

    def engine():
        raise Begun

    with pytest.raises(Begun):
        of_a_new_process(lambda cell: work(SimpleNamespace(out=cell / "a.parquet", engine=engine)), CELL)
    assert own.exists() == stays
    assert Path(os.environ["TRITON_CACHE_DIR"]) == own.parent


def test_a_folder_is_used_as_long_as_a_process_has_it():
    script = (
        f"from pathlib import Path; from speedgrid import compiled; print(compiled.keep_apart(Path({str(CELL)!r})), flush=True); input()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as job:
        own = Path(job.stdout.readline().strip())
        assert compiled.is_used(own)
        job.communicate("\n")
    assert not compiled.is_used(own)
