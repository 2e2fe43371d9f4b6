"""Figures of another model, text or run are never those of the study: what was measured is held against what is there now."""

import json
import os
import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest
import working_copy
import yaml
from place import CELL, STUDY, Project, make_project
from speedgrid import records
from speedgrid.schema import MODEL

PREPARED = "models/chain/prepared.parquet"
ALL_OF_IT = {"prepare_model", "quantize", "warmup", "measure", "evaluate", "score", "aggregate", "report"}


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Path:
    """Two checkpoints of the same size and times, and `latest`, a link to the first."""
    folder = tmp_path_factory.mktemp("runs")
    (folder / "step-1").mkdir()
    (folder / "latest").symlink_to("step-1")
    return folder


@pytest.fixture(scope="module")
def measured(tmp_path_factory, runs) -> Project:
    """A project with a page, whose model is where the link leads."""
    project = make_project(tmp_path_factory.mktemp("old figures"), runs / "step-1", STUDY)
    weights = runs / "step-1/model.safetensors"
    os.utime(weights, ns=(10**18, 10**18))
    shutil.copytree(runs / "step-1", runs / "step-2")
    (runs / "step-2/model.safetensors").write_bytes(weights.read_bytes()[:-1] + b"\1")
    os.utime(runs / "step-2/model.safetensors", ns=(10**18, 10**18))
    study = yaml.safe_load((project.folder / "study.yaml").read_text())
    study["models"]["chain"]["local"] = str(runs / "latest")
    (project.folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    done = project.snakemake()
    assert done.returncode == 0, done.stdout + done.stderr
    assert planned(project) == set()
    return project


def dry_run(project: Project):
    return working_copy.snakemake(project.folder, "-n", "--configfile", "study.yaml", **project.environ())


def planned(project: Project) -> set[str]:
    """The rules whose jobs would run, the target's own left out."""
    return set(working_copy.planned_jobs(dry_run(project))) - {"all"}


@contextmanager
def put_aside(path: Path):
    kept = path.with_name(f"{path.name}.kept")
    path.rename(kept)
    try:
        yield kept
    finally:
        path.unlink(missing_ok=True)
        kept.rename(path)


def test_a_link_that_is_moved_to_another_checkpoint_as_old_is_measured(measured, runs):
    with put_aside(runs / "latest"):
        (runs / "latest").symlink_to("step-2")
        assert planned(measured) >= ALL_OF_IT
    assert planned(measured) <= {"plan", "aggregate", "report"}


def test_weights_that_are_replaced_in_place_with_size_and_time_kept_are_measured(measured, runs):
    with put_aside(runs / "step-1/model.safetensors"):
        shutil.copy2(runs / "step-2/model.safetensors", runs / "step-1/model.safetensors")
        assert planned(measured) >= ALL_OF_IT


def test_a_weight_file_that_leads_nowhere_is_refused_though_a_page_is_there(measured, runs):
    weights = runs / "step-1/model.safetensors"
    with put_aside(weights):
        weights.symlink_to("gone")
        done = dry_run(measured)
    assert done.returncode != 0
    said = f"study.yaml: models.chain.local: {runs}/latest cannot be read: model.safetensors is a link to gone, which is not there"
    assert said in done.stdout + done.stderr


@pytest.mark.parametrize("path", [*(f"{CELL}/{stage}.parquet" for stage in ("warmup", "measure", "evaluate")), "results/cpu/probe.parquet"])
def test_a_record_that_is_gone_is_made_again_and_the_page_with_it(measured, path):
    with put_aside(measured.folder / path):
        assert planned(measured) >= {Path(path).stem, "aggregate", "report"}


@pytest.mark.parametrize("name", ["summary.parquet", "points.parquet", "runs.parquet", "plan.json"])
def test_a_table_that_is_gone_is_made_again_and_the_page_with_it(measured, name):
    with put_aside(measured.folder / "results" / name):
        assert planned(measured) >= {"report"}


def test_a_page_names_what_is_of_another_model_where_snakemake_has_forgotten_what_it_ran(measured, runs, tmp_path):
    project = Project(tmp_path / "a copy")
    shutil.copytree(measured.folder, project.folder, symlinks=True)
    shutil.rmtree(project.folder / ".snakemake")
    with put_aside(runs / "latest"):
        (runs / "latest").symlink_to("step-2")
        done = project.snakemake()
    assert done.returncode == 0, done.stdout + done.stderr
    source = records.read(project.folder / PREPARED, MODEL).rows[0]["source"]
    page = (project.folder / "results/report.html").read_text()
    assert source == str(runs / "step-2") or "entry.local" in page


def test_results_of_another_cell_are_refused_by_their_name(measured, tmp_path):
    project = Project(tmp_path / "a copy")
    shutil.copytree(measured.folder, project.folder, symlinks=True)
    other = project.folder / CELL.replace("/plain", "/made")
    shutil.copyfile(project.folder / CELL / "measure.parquet", other / "measure.parquet")
    done = project.snakemake("results/summary.parquet")
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert f"{CELL.replace('/plain', '/made')}/measure.parquet: is of cpu/e/chain/plain, not of cpu/e/chain/made" in said


def test_the_users_weights_are_as_they_were_after_all_of_it(measured, runs):
    assert {path.name for path in (runs / "step-1").iterdir()} == {"config.json", "model.safetensors"}
    assert json.loads((runs / "step-1/config.json").read_text())["model_type"] == "chain"
    assert (measured.folder / "models/chain/checkpoint").resolve() == runs / "step-1"
