"""Figures of another model, text or run are never those of the study: what was measured is held against what is there now."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import working_copy
import yaml
from place import CELL, STUDY, Project, make_project, set_up_launcher
from speedgrid import records, standing
from speedgrid.schema import MEASURE, MODEL, NOT_RUN, SUMMARY

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


def edited(project: Project, **changes) -> None:
    """The study with other settings of its experiment."""
    study = yaml.safe_load((project.folder / "study.yaml").read_text())
    study["experiments"]["e"] |= changes
    (project.folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))


def copied(measured: Project, folder: Path) -> Project:
    project = Project(folder)
    shutil.copytree(measured.folder, project.folder, symlinks=True)
    return project


def by_technique(project: Project) -> dict[str, dict]:
    return {row["technique"]: row for row in records.read(project.folder / "results/summary.parquet", SUMMARY).rows}


def test_a_new_time_and_files_that_no_loader_reads_measure_nothing_anew(measured, runs):
    weights = runs / "step-1/model.safetensors"
    before = weights.stat().st_mtime_ns
    (runs / "step-1/README.md").write_text("words")
    os.utime(weights, ns=(10**18 + 5, 10**18 + 5))
    try:
        assert planned(measured) == set()
    finally:
        (runs / "step-1/README.md").unlink()
        os.utime(weights, ns=(before, before))


def test_the_estimate_of_a_run_counts_what_it_would_do(measured, tmp_path):
    """It took a record for measured where a file was there, whatever the study said by then."""
    said = "speedgrid: what it will take cannot be estimated: nothing is known yet of model chain"
    assert said not in dry_run(measured).stderr
    project = copied(measured, tmp_path / "a copy")
    edited(project, replies=6)
    assert said in dry_run(project).stderr


def test_results_that_came_without_snakemakes_memory_are_measured_where_the_study_is_another(measured, tmp_path):
    """Where it has forgotten what it ran it took any file for a result of today's study, and no run would ever have made another one."""
    project = copied(measured, tmp_path / "a copy")
    shutil.rmtree(project.folder / ".snakemake")
    assert planned(project) <= {"plan", "aggregate", "report"}
    edited(project, max_new_tokens=9)
    assert planned(project) >= {"warmup", "measure", "measure_again"}


def test_copies_whose_files_have_any_times_measure_nothing_anew(measured, tmp_path):
    """As `cp -r` leaves them, a clone of a repository, or an archive: what is measured is known by what results say they were made from."""
    project = copied(measured, tmp_path / "a copy")
    shutil.rmtree(project.folder / ".snakemake")
    made_first = sorted(project.folder.rglob("*.parquet"), key=lambda path: path.stat().st_mtime_ns)
    for age, path in enumerate(made_first):
        os.utime(path, ns=(10**18 - age * 10**9,) * 2)
    assert planned(project) <= {"plan", "aggregate", "report"}


def test_a_run_that_is_to_come_after_one_that_was_measured_since_is_measured_anew(measured, tmp_path):
    """A baseline's runs lie between those of the other cells, also where the run that measured one of these was stopped after it."""
    project = copied(measured, tmp_path / "a copy")
    first = project.folder / CELL / "measure.parquet"
    later = records.read(first, MEASURE)
    ended = max(records.facts_of(path)["ended_at"] for path in first.parent.glob("*.parquet"))
    facts = later.facts | {"started_at": ended.replace("+00:00", "9+00:00"), "ended_at": ended.replace("+00:00", "9+00:00")}
    records.write(first, MEASURE, later.rows, facts)
    assert planned(project) - {"plan", "aggregate", "report"} == {"measure_again"}


def test_results_that_were_put_back_in_the_place_of_others_are_known_for_what_they_are(measured, tmp_path):
    project = copied(measured, tmp_path / "a copy")
    results = project.folder / "results"
    edited(project, replies=4)
    shutil.move(results, project.folder / "older")
    assert project.snakemake().returncode == 0
    shutil.move(results, project.folder / "newer")
    shutil.move(project.folder / "older", results)
    assert planned(project) >= {"measure", "measure_again"}
    edited(project, replies=5)
    assert not planned(project) & {"warmup", "measure", "measure_again", "evaluate"}


def test_a_page_of_a_study_that_was_edited_since_shows_no_figure_of_what_it_said_before(measured, tmp_path):
    project = copied(measured, tmp_path / "a copy")
    edited(project, replies=7)
    set_up_launcher(project.folder)
    command = [sys.executable, "speedgrid", "report", "--study", "study.yaml", "--no-conda"]
    done = subprocess.run(command, cwd=project.folder, env=project.environ(), capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    said = (
        "The study has other settings, weights or answers by now (settings.replies); what depends on them is left out, of: plain, made."
        " Run the study again."
    )
    page, told = (project.folder / "results/report.html").read_text(), (project.folder / "results/summary.md").read_text()
    assert said in page
    assert "other settings, weights or answers" in told
    assert said in done.stdout + done.stderr
    assert {(row["status"], row["rate"]) for row in by_technique(project).values()} == {(NOT_RUN, None)}
    # The plan beside the tables is theirs.
    assert json.loads((project.folder / "results/plan.json").read_text())["study"]["experiments"]["e"]["replies"] == 7
    command = [sys.executable, "speedgrid", "advise"]
    asked = subprocess.run(command, cwd=project.folder, env=project.environ(), capture_output=True, text=True)
    assert said in asked.stdout
    # Figures of its quality stand, which no number of replies concerns.
    assert all(row["bits_per_byte"] for row in by_technique(project).values())


def make_page(project: Project) -> subprocess.CompletedProcess:
    """The page of what is there, as `./speedgrid report` makes it."""
    command = [sys.executable, "scripts/make_page.py", "--study", "study.yaml"]
    environ = project.environ(PYTHONPATH=str(project.folder / "scripts"))
    return subprocess.run(command, cwd=project.folder, env=environ, capture_output=True, text=True)


def test_a_page_names_what_was_measured_by_older_code_and_a_run_measures_it(measured, tmp_path):
    project = copied(measured, tmp_path / "a copy")
    code = project.folder / "scripts/speedgrid/engines/chain.py"
    code.write_text(code.read_text().replace("draw.choice(self.followers", "draw.choice(1 and self.followers"))
    done = make_page(project)
    assert done.returncode == 0, done.stdout + done.stderr
    said = "Cells made or measured by older code of speedgrid, or in another environment: 2 of 2 (plain, made). Run the study again."
    assert said in (project.folder / "results/report.html").read_text()
    assert {row["outdated"] for row in by_technique(project).values()} == {"code"}
    assert planned(project) >= {"warmup", "measure", "evaluate"}


def test_what_is_of_another_model_is_measured_where_snakemake_has_forgotten_what_it_ran(measured, runs, tmp_path):
    project = copied(measured, tmp_path / "a copy")
    shutil.rmtree(project.folder / ".snakemake")
    with put_aside(runs / "latest"):
        (runs / "latest").symlink_to("step-2")
        done = project.snakemake()
    assert done.returncode == 0, done.stdout + done.stderr
    assert records.read(project.folder / PREPARED, MODEL).rows[0]["source"] == str(runs / "step-2")


def test_results_of_another_cell_are_refused_by_their_name_and_a_run_measures_the_cell(measured, tmp_path):
    project = Project(tmp_path / "a copy")
    shutil.copytree(measured.folder, project.folder, symlinks=True)
    other = project.folder / CELL.replace("/plain", "/made")
    shutil.copyfile(project.folder / CELL / "measure.parquet", other / "measure.parquet")
    page = make_page(project)
    said = f"{CELL.replace('/plain', '/made')}/measure.parquet: is of cpu/e/chain/plain, not of cpu/e/chain/made"
    assert said in page.stdout + page.stderr
    done = project.snakemake("results/summary.parquet")
    assert done.returncode == 0, done.stdout + done.stderr
    assert standing.specification(records.facts_of(other / "measure.parquet"))["technique"] == "made"


def test_the_users_weights_are_as_they_were_after_all_of_it(measured, runs):
    assert {path.name for path in (runs / "step-1").iterdir()} == {"config.json", "model.safetensors"}
    assert json.loads((runs / "step-1/config.json").read_text())["model_type"] == "chain"
    assert (measured.folder / "models/chain/checkpoint").resolve() == runs / "step-1"
