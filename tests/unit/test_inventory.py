"""`./speedgrid clean`: what is removed was made by speedgrid, and everything else is left."""

import os
import re
import subprocess
import sys
from pathlib import Path

import clean as script
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from speedgrid import checkpoints, commands, compiled, environments, inventory, jobtext, planning, records
from speedgrid.schema import SUMMARY

NOBODY = "speedgrid: nothing was removed, because nobody can be asked here; say --yes, or -n only to look\n"
HASH = "0123456789abcdef" * 2 + "_"


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A working folder with results, a made and a linked model, logs, and things of the user's among them."""
    monkeypatch.chdir(tmp_path)
    for name, value in {"HOME": tmp_path, "XDG_CACHE_HOME": tmp_path / "cache", "SNAKEMAKE_CONDA_PREFIX": tmp_path / "envs"}.items():
        monkeypatch.setenv(name, str(value))
    records.write("results/local/e/m/t/measure.parquet", SUMMARY, [])
    Path("results/report.html").write_text("<p>speedgrid</p>")
    Path("results/plan.json").write_text('{"cells": []}')
    Path("results/summary.md").write_text("## A study\n\nstudy `small` · a machine\n")
    with checkpoints.replacing(Path("results/figures")) as fresh:
        (fresh / "of-m-e-local-speed.svg").write_text("<svg/>")
    with checkpoints.replacing(Path("results/checkpoints/m/t/float32/checkpoint")) as fresh:
        (fresh / "model.safetensors").write_bytes(b"made")
    Path("weights").mkdir()
    Path("weights/model.safetensors").write_bytes(b"the user's")
    checkpoints.link(Path("models/linked/checkpoint"), Path("weights"))
    Path("logs/local/e/m/t").mkdir(parents=True)
    Path("logs/local/e/m/t/measure-2.log").write_text("a log")
    Path("logs/plan.log").write_text("a log")
    return tmp_path


def clean(*arguments, stdin=""):
    command = [sys.executable, str(planning.ROOT / "scripts" / "clean.py"), *arguments]
    return subprocess.run(command, input=stdin, capture_output=True, text=True)


def files():
    """Every file and link of the working folder."""
    found = [Path(at, name) for at, folders, names in os.walk(".") for name in (*names, *(n for n in folders if Path(at, n).is_symlink()))]
    return sorted(str(path) for path in found if "cache" not in path.parts)


def test_all_that_was_made_goes_with_its_marks_and_the_weights_of_a_link_stay(place):
    done = clean("results", "models", "logs", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert files() == ["weights/model.safetensors"]
    assert [re.sub(r" \d.* of ", " ", line) for line in done.stdout.splitlines() if line.startswith("Removed")] == [
        "Removed results.",
        "Removed models.",
        "Removed logs.",
    ]
    assert not any(Path(name).exists() for name in ("results", "models", "logs"))


def test_what_jobs_noted_of_files_and_machines_goes_with_the_logs(place):
    Path(".speedgrid/digests").mkdir(parents=True)
    checkpoints.files.digest(Path("weights/model.safetensors"))
    jobtext.handed("x" * 100_000)
    for name in ("busy-host-cpu", "planned", "digests/mine.txt"):
        Path(".speedgrid", name).write_text("")
    assert clean("models", "--yes").returncode == 0
    assert len(list(Path(".speedgrid").rglob("*"))) == 7
    assert clean("logs", "--yes").returncode == 0
    assert {path.as_posix() for path in Path(".speedgrid").rglob("*")} == {
        f".speedgrid/{name}" for name in ("planned", "digests", "digests/mine.txt", "jobs")
    }


def test_what_the_user_put_there_stays_and_is_named(place):
    theirs = {
        "results/notes.txt": b"mine",
        "results/other.parquet": b"not one of ours",
        "results/local/report.html": b"<p>speedgrid</p>",
        "models/unmarked/checkpoint/model.safetensors": b"weights of the user's",
        "results/checkpoints/m/t/float32/checkpoint/lora.safetensors": b"added to what was made",
        "logs/train.log": b"of another program",
    }
    for name, content in theirs.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content)
    pq.write_table(pa.table({"a": [1]}), "results/table.parquet")
    done = clean("results", "models", "logs", "--yes")
    assert done.returncode == 0
    made = ["results/checkpoints/m/t/float32/checkpoint/model.safetensors", "results/checkpoints/m/t/float32/.checkpoint.speedgrid"]
    assert files() == sorted([*theirs, *made, "results/table.parquet", "weights/model.safetensors"])
    for name in ("results/notes.txt", "results/other.parquet", "lora.safetensors", "logs/train.log"):
        assert name in done.stdout


def test_a_folder_that_is_a_link_is_not_gone_into(place):
    Path("results").rename("elsewhere")
    Path("results").symlink_to("elsewhere", target_is_directory=True)
    Path("weights/measure.parquet").write_bytes(Path("elsewhere/local/e/m/t/measure.parquet").read_bytes())
    Path("models/mine").symlink_to(Path("weights").resolve(), target_is_directory=True)
    before = [name for name in files() if name.startswith(("./elsewhere", "./weights", "elsewhere", "weights"))]
    done = clean("--yes", "results", "models")
    assert done.returncode == 0
    assert [name for name in files() if name.startswith(("./elsewhere", "./weights", "elsewhere", "weights"))] == before
    assert Path("results").is_symlink()
    assert Path("models/mine").is_symlink()
    assert "a link to elsewhere, which is not followed" in done.stdout
    assert "models/mine: a link that speedgrid did not make" in done.stdout


@pytest.mark.parametrize("arguments", [["--dry-run"], ["--yes", "--dry-run"], ["-n"], []])
def test_nothing_goes_where_nobody_said_so(place, arguments):
    before = files()
    done = clean("results", "models", "logs", *arguments)
    assert files() == before
    assert done.returncode == (0 if arguments else commands.MISTAKE)
    assert "results: " in done.stdout
    assert done.stderr == ("" if arguments else NOBODY)


def test_a_kind_that_there_is_not(place):
    done = clean("result", "--yes")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "'result' is none of results, models, logs, compiled, environments, downloads" in done.stderr


def test_nothing_goes_while_a_run_goes_on(place):
    Path(".speedgrid").mkdir()
    lock = place / ".speedgrid" / "run.lock"
    lock.touch()
    before = files()
    with environments.alone(lock, lambda: None):
        done = clean("results", "--yes")
    assert (done.returncode, "a run goes on in" in done.stderr) == (2, True)
    Path(".snakemake/locks").mkdir(parents=True)
    Path(".snakemake/locks/0.input.lock").touch()
    again = clean("logs", "--yes")
    assert (again.returncode, "a run goes on in" in again.stderr) == (2, True)
    assert set(before) <= set(files())


def test_every_log_of_a_rule_is_known_and_no_other():
    text = "".join(path.read_text() for path in (planning.ROOT / "rules").glob("*.smk"))
    named = [re.sub(r"\{run\}", "2", name) for name in re.findall(r'"logs/([^"]+)"', text)]
    assert len(named) > 10
    assert all(inventory.LOG.fullmatch(re.sub(r"\{\w+\}", "x", name)) for name in named)
    assert not any(inventory.LOG.fullmatch(name) for name in ("train.log", "x/train.log", "measure.log", "a/b/measure.log"))


# Environments


def environment(folder: Path, recipe: str) -> Path:
    made = folder / HASH
    (made / "bin").mkdir(parents=True)
    (made / "bin" / "python").write_text("")
    for name, text in {".yaml": recipe, ".env_setup_done": "", ".making": "", ".post-deploy.sh": ""}.items():
        made.with_name(HASH + name).write_text(text)
    return made


def test_environments_of_another_workflow_stay_and_ours_go_with_all_that_lies_beside_them(tmp_path):
    ours = (planning.ROOT / "envs" / "report.yaml").read_text()
    mine, other = tmp_path / "mine", tmp_path / "other"
    environment(mine, ours), environment(other, "dependencies: [samtools]\n")
    (mine / "notes.txt").write_text("kept")
    found = inventory.job_environments(mine, is_ours=False)
    assert list(found.names.values()) == ["report"]
    assert found.own[0].name == f"{HASH}.env_setup_done"  # else a removal that was cut short leaves what seems whole
    inventory.remove(found)
    assert [path.name for path in mine.iterdir()] == ["notes.txt"]
    assert inventory.job_environments(other, is_ours=False).own == []
    earlier = inventory.job_environments(other, is_ours=True)
    assert list(earlier.names.values()) == ["of an earlier version"]


def test_environments_that_other_clones_use_go_only_where_they_are_named(tmp_path):
    """`clean --yes` in one clone left the others without environments, which a machine without a network cannot make again."""
    environment(tmp_path, (planning.ROOT / "envs" / "report.yaml").read_text())
    (tmp_path / ".venv").mkdir()
    (tmp_path / ".venv" / inventory.STAMP).touch()
    of_jobs = inventory.job_environments(tmp_path, is_ours=False)
    of_a_clone = inventory.launcher_environments([tmp_path / ".venv"], is_shared=False)
    assert [bool(found.own) for found in (of_jobs, of_a_clone)] == [True, True]
    assert [script.is_spared(found, []) for found in (of_jobs, of_a_clone)] == [True, False]
    assert not script.is_spared(of_jobs, ["environments"])


def test_an_environment_stays_that_is_being_made_or_that_a_process_or_a_run_uses(tmp_path):
    made = environment(tmp_path, "")

    def left():
        return [line for line in inventory.job_environments(tmp_path, is_ours=True).left if line.endswith("in use right now")]

    assert left() == []
    with environments.alone(Path(f"{made}.making"), lambda: None):
        assert len(left()) == 1
    for program in ("any.py", "snakemake", "terminal.py"):  # the last one is the launcher's
        (tmp_path / program).write_text("print(flush=True); input()")
    here = {"SNAKEMAKE_CONDA_PREFIX": str(tmp_path)}
    for program, argument, more in (("any.py", f"{made}/bin/python", {}), ("snakemake", "", here), ("terminal.py", "", here)):
        command = [sys.executable, tmp_path / program, argument]
        process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env={**os.environ, **more})
        process.stdout.readline()
        try:
            assert len(left()) == 1
        finally:
            process.communicate(b"\n")
    assert left() == []


def test_the_launchers_environments_go_only_with_its_stamp(tmp_path):
    for name in ("made", "own", "goal"):
        (tmp_path / name).mkdir()
    (tmp_path / "made" / inventory.STAMP).touch()
    (tmp_path / "goal" / inventory.STAMP).touch()
    (tmp_path / "link").symlink_to(tmp_path / "goal")
    found = inventory.launcher_environments([tmp_path / name for name in ("made", "own", "link")], is_shared=False)
    assert found.own == [tmp_path / "made"]
    assert found.folder == tmp_path, "those of the clone and of the cache were said to lie in /"
    assert len(found.left) == 2


def test_what_was_compiled_for_cells_goes_where_it_is_named_and_nobody_uses_it(place, monkeypatch):
    monkeypatch.delenv(compiled.PLACE)
    used = compiled.keep_apart(Path("results/local/e/m/t"))
    (kernels := compiled.folder() / ("ab" * 16) / "triton").mkdir(parents=True)
    (kernels / "kernel.so").write_bytes(b"compiled")
    (own := compiled.folder() / "notes.txt").write_text("the user's")
    done = clean("--yes")
    assert "clean compiled --yes removes them, too" in done.stdout
    assert kernels.exists()
    done = clean("compiled", "--yes")
    assert (done.returncode, done.stderr) == (0, "")
    assert f"left: {own}: not made by speedgrid" in done.stdout
    assert f"left: {used}: in use right now" in done.stdout
    assert used.exists()
    assert not kernels.exists()
    assert own.exists()


@given(names=st.lists(st.from_regex(r"[A-Za-z0-9._-]{1,12}", fullmatch=True), max_size=8))
@settings(max_examples=50)
def test_no_file_without_a_sign_of_ours_is_ever_removed(tmp_path_factory, names):
    folder = tmp_path_factory.mktemp("any") / "results"
    folder.mkdir()
    for name in {name for name in names if name.strip(".")}:
        (folder / name).write_text("of somebody")
    for found in (
        inventory.results(folder),
        inventory.models(folder),
        inventory.of_compilers(folder),
        inventory.job_environments(folder, is_ours=False),
    ):
        assert found.own == []
