"""What libraries compile is a cell's own: its cold start finds nothing of an earlier run, another cell or another program."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from speedgrid import compiled

CELL, OTHER = Path("results/gpu/e/m/torch_compile"), Path("results/gpu/e/m/sdpa")


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in compiled.CACHES:
        monkeypatch.setenv(name, str(tmp_path / "shared"))


def kernel(cell: Path) -> Path:
    """One that was compiled for a cell."""
    made = compiled.keep_apart(cell) / "inductor" / "kernel.so"
    made.parent.mkdir(parents=True)
    made.touch()
    return made


def test_a_cold_start_finds_nothing_and_leaves_what_others_compiled(tmp_path):
    (tmp_path / "shared").mkdir()
    (of_others := tmp_path / "shared" / "kernel.so").touch()
    own, neighbours = kernel(CELL), kernel(OTHER)
    compiled.begin_with_none(CELL)
    assert not own.exists()
    assert neighbours.exists()
    assert of_others.exists()


def test_later_processes_of_a_cell_find_what_its_first_one_compiled(tmp_path, monkeypatch):
    own = kernel(CELL)
    assert compiled.keep_apart(CELL) == own.parents[1]
    assert own.exists()
    monkeypatch.chdir(tmp_path.parent)
    assert compiled.keep_apart(tmp_path / CELL) == own.parents[1]
    assert compiled.keep_apart(CELL) != own.parents[1], "a cell of another working folder"


def test_every_process_that_a_job_starts_keeps_to_the_cells_own_folder():
    own = compiled.keep_apart(CELL)
    told = subprocess.run([sys.executable, "-c", "import os; print(dict(os.environ))"], capture_output=True, text=True, check=True).stdout
    assert all(f"{name!r}: {str(own / part)!r}" in told for name, part in compiled.CACHES.items())
    assert len({os.environ[name] for name in compiled.CACHES}) == len(compiled.CACHES)
