"""What jobs really call lies within what fingerprint.py derives from their code, and so runs them again where it changes."""

import json
import subprocess
from pathlib import Path

import pytest
import working_copy
from speedgrid import fingerprint, planning, records
from speedgrid.planning.stages import code_asked_for
from speedgrid.schema import CHECKPOINT, MODEL, Table

pytestmark = [pytest.mark.slow, pytest.mark.needs("network")]

TRACED = Path(__file__).with_name("traced.py")


def used(project: Path, env: str, script: str, arguments: list[str], notes: Path) -> tuple[set[tuple[str, str]], set[str]]:
    """The definitions that a script calls, as (module, name), and the other files of the project that it opens."""
    command = [working_copy.python_of(env), TRACED, notes, f"scripts/{script}.py", *arguments]
    done = subprocess.run(list(map(str, command)), cwd=project, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = [line.split(" ", 1) for line in notes.read_text().splitlines()]
    scripts = str(project / "scripts") + "/"
    called = set()
    for path, name in (what.removeprefix(scripts).rsplit(" ", 1) for kind, what in lines if kind == "call"):
        module = path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")
        # A function within another one or a method belongs to the definition at the top of the module; `<module>` is its import.
        if not name.startswith("<"):
            called.add((module, name.partition(".")[0]))
    opened = {what.removeprefix(f"{project}/") for kind, what in lines if kind == "open"}
    return called, {
        path for path in opened if path.partition("/")[0] not in ("results", "models", ".git", ".commit", ".snakemake", ".speedgrid")
    }


def derived(script: str, specified=(), cut=()) -> set[tuple[str, str]]:
    code = fingerprint._code(fingerprint.SCRIPTS)
    return {
        (module, name)
        for module, units in fingerprint.reached(fingerprint.SCRIPTS, script, specified, cut).items()
        for name, numbers in code.module(module).defined.items()
        for unit in (code.module(module).units[number] for number in numbers)
        if unit in units
    }


def outside(called: set[tuple[str, str]], script: str, specified=(), cut=()) -> set[tuple[str, str]]:
    """What was called and is neither derived nor, by its own name, left out: a module that has something to leave out may hold more."""
    frame = {(f"speedgrid.{module}", name) for module, one in fingerprint.left_out_of(script).items() for name in one.names}
    return called - derived(script, specified, cut) - frame


def test_what_stands_beside_what_is_left_out_is_found_outside():
    """A whole module was left out, so that nothing which a job called of it could be."""
    asked = ("measure", (("engines", "transformers"), ("workloads", "generate")))
    beside = {("speedgrid.progress", "logged"), ("speedgrid.jobtext", "run"), ("speedgrid.environments", "variables")}
    left_out = {("speedgrid.progress", "say"), ("speedgrid.jobtext", "received"), ("speedgrid.records", "write")}
    counted = {("speedgrid.records", "Record"), ("speedgrid.job_shell", "check_python")}
    assert outside(beside | left_out | counted, *asked) == beside
    # Tables are made by how rows become a file, which counts for them.
    assert outside(left_out | counted, "aggregate") == {("speedgrid.jobtext", "received")}


def specification_of(path: Path, table: Table) -> str:
    return records.read(path, table).facts["job"]


@pytest.mark.parametrize(
    ("script", "experiment", "model", "technique", "called"),
    [
        ("measure", "generate", "tiny", "bnb_int8", ("speedgrid.workloads.generate", "Work")),
        ("evaluate_quality", "generate", "tiny", "baseline", ("speedgrid.quality.distance", "distance")),
        ("measure", "train", "gpt2-shape", "torch_eager", ("speedgrid.workloads.train", "Work")),
        ("warmup", "generate", "tiny", "baseline", ("speedgrid.workloads.causality", "check")),
        ("warmup", "train", "gpt2-shape", "torch_eager", ("speedgrid.workloads.train", "Work")),
    ],
)
def test_a_job_of_a_cell_calls_nothing_that_its_fingerprint_leaves_out(project, tmp_path, script, experiment, model, technique, called):
    cell = next(
        cell
        for cell in planning.read_grid(project / "tests/studies/tiny.yaml").cells
        if (cell.workload, cell.model, cell.technique) == (experiment, model, technique)
    )
    specification = cell.job(script.partition("_")[0])
    arguments = ["--job", specification, "--checkpoint", cell.checkpoint_record, "--out", str(tmp_path / f"{script}.parquet")]
    found, opened = used(project, "transformers", script, arguments, tmp_path / "notes")
    assert called in found
    assert outside(found, script, *code_asked_for(script, cell)) == set()
    assert opened == set()


def test_a_job_that_makes_a_checkpoint_calls_nothing_that_its_fingerprint_leaves_out(project, tmp_path):
    record = "results/checkpoints/tiny/bnb_int8/float32/quantize.parquet"
    arguments = ["--job", specification_of(project / record, CHECKPOINT), "--checkpoint", "models/tiny/prepared.parquet"]
    found, opened = used(project, "transformers", "quantize", [*arguments, "--out", str(tmp_path / "quantize.parquet")], tmp_path / "notes")
    assert ("speedgrid.transforms.bitsandbytes", "make") in found
    assert outside(found, "quantize", (("transforms", "bitsandbytes"),)) == set()
    assert opened == set()


def test_preparing_a_model_calls_nothing_that_its_fingerprint_leaves_out(project, tmp_path):
    specification = specification_of(project / "models/tiny/prepared.parquet", MODEL)
    found, opened = used(
        project,
        "transformers",
        "prepare_model",
        ["--job", specification, "--out", str(tmp_path / "m/prepared.parquet")],
        tmp_path / "notes",
    )
    assert ("speedgrid.models", "train") in found
    assert outside(found, "prepare_model") == set()
    assert opened == set()


def test_plan_tables_and_page_call_and_read_nothing_that_their_fingerprints_leave_out(project, tmp_path):
    tables = {f"--{name}": str(tmp_path / f"{name}.parquet") for name in ("summary", "points", "runs")}
    tables = [part for pair in tables.items() for part in pair]
    for script, arguments in {
        "write_plan": ["--study", "tests/studies/tiny.yaml", "--out", str(tmp_path / "plan.json")],
        "aggregate": ["--plan", str(tmp_path / "plan.json"), *tables],
        "render_report": ["--plan", str(tmp_path / "plan.json"), *tables, "--out", str(tmp_path / "report.html")],
    }.items():
        found, opened = used(project, "report", script, arguments, tmp_path / f"{script}-notes")
        assert outside(found, script) == set(), script
        # The study and the registry are inputs of the plan's rule; what lies at a study's paths is in the specifications of jobs.
        data = {str(path.relative_to(working_copy.ROOT)) for path in (working_copy.ROOT / "tests/studies/hellaswag").iterdir()}
        # Whether kept fingerprints are of this code is told by the content of all that they come from.
        hashed = {
            str(path.relative_to(working_copy.ROOT))
            for top in fingerprint.sources(working_copy.ROOT / "scripts")
            for path in fingerprint._files(top)
        }
        inputs = {"tests/studies/tiny.yaml", "techniques.yaml"} | data | hashed if script == "write_plan" else set()
        known = {
            str(path.relative_to(working_copy.ROOT))
            for name in fingerprint.READS.get(script, ())
            for path in fingerprint._files(working_copy.ROOT / name)
        }
        assert opened <= inputs | known, script
    assert json.loads((tmp_path / "plan.json").read_text())["cells"]
