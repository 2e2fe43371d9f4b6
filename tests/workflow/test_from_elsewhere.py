"""Runs that are not in the project's folder: results are where the user is, code is where the Snakefile is.

Jobs have the Python of the tests, which has no packages of an engine: every cell becomes a row that says so, and the page comes.
"""

import ast
import html
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pandas as pd
import pytest
import working_copy

STUDY = """\
study: elsewhere
models:
  shape: {architecture: {model_type: gpt2, n_embd: 32, n_layer: 1, n_head: 2, vocab_size: 300}}
experiments:
  generate:
    models: [shape]
    techniques: [baseline]
    prompt: x
    replies: 1
    baseline_runs: 1
    evaluate: {text: held out.txt, tasks: [], positions: 0}
"""
MODULE = """\
module speedgrid:
    snakefile: {snakefile!r}
    config: {config}

use rule * from speedgrid

onstart:
    open("started.txt", "w").write("by the other workflow")

rule mine:
    input: "results/summary.parquet"
    output: "mine.txt"
    shell: "wc -c {{input}} > {{output}}"

rule my_report:
    output: "mine.html"
    shell: "touch {{output}}"
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    return working_copy.copy_to(tmp_path_factory.mktemp("a clone"))


@pytest.fixture
def here(tmp_path) -> Path:
    """A folder of the user's, with a study and a text of its own."""
    folder = tmp_path / "the user's folder"
    folder.mkdir()
    (folder / "mine.yaml").write_text(STUDY)
    (folder / "held out.txt").write_text("Held-out text. " * 40)
    return folder


def files_in(folder: Path) -> set[str]:
    """All but what Python and Snakemake keep of a project's own files."""
    found = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return {str(path) for path in found if "__pycache__" not in path.parts}


def is_whole(here: Path) -> None:
    """Every step has left its results in the working folder."""
    summary = pd.read_parquet(here / "results/summary.parquet")
    assert list(summary["technique"]) == ["baseline"]
    assert list(summary["status"]) == ["missing_dependency"], summary["reason"][0]
    assert {"models/shape/prepared.parquet", "results/report.html", "results/plan.json", "logs/report.log"} <= files_in(here)


def is_told_to_be_without_figures(done) -> None:
    """The Python of the tests has no packages of jobs, so that the one cell of the study cannot be measured."""
    assert done.returncode == 1, done.stderr
    assert "speedgrid: nothing was measured: the one cell has no figure (a package or tool is missing: " in done.stdout + done.stderr


MORE = "has a `config:` that is more than the name of a study"


def is_told_how_to_name_a_study(done, why: str) -> None:
    """In one line: what is wrong, where, and what to write."""
    assert done.returncode == 2, done.stderr
    said = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("speedgrid: ")]
    assert said == [
        f"speedgrid: Snakefile: `module speedgrid:` {why}; write config: {{'study_file': 'path/to/study.yaml'}} there, or"
        ' config: config["speedgrid"] where the workflow\'s own configuration has `speedgrid: {study_file: ...}`'
    ]


def test_a_run_with_another_working_folder(project, here):
    before = files_in(project)
    command = ["-s", str(project / "Snakefile"), "--directory", str(here), "--configfile", str(here / "mine.yaml")]
    done = working_copy.snakemake(here.parent, *command)
    is_told_to_be_without_figures(done)
    is_whole(here)
    assert files_in(project) == before
    # Jobs run in the user's own Python, so that no environment is made.
    assert "  download  nothing\n" in done.stderr
    # What its page tells one to type works here, where there is no `./speedgrid`.
    text = html.unescape((here / "results/report.html").read_text(encoding="utf-8"))
    assert f"'{project}/speedgrid' new organisation/name" in text
    assert f"<code>'{project}/speedgrid' doctor</code> says what this machine lacks" in text
    again = working_copy.snakemake(here.parent, *command, "-n")
    assert working_copy.planned_jobs(again) == {}
    assert "what is left" not in again.stdout + again.stderr


def test_another_clone_runs_nothing_again_until_a_text_of_it_is_another(project, here, tmp_path):
    task = "{task: hellaswag, dataset: {folder: tests/studies/hellaswag}}"
    # Tasks are asked of trained weights alone.
    study = re.sub("shape: .*", "shape: {train: {}}", STUDY)
    (here / "mine.yaml").write_text(study.replace("text: held out.txt, tasks: []", f"text: studies/texts/english.txt, tasks: [{task}]"))
    other = working_copy.copy_to(tmp_path / "another clone")

    def command(clone: Path) -> list[str]:
        return ["-s", str(clone / "Snakefile"), "--directory", str(here), "--configfile", str(here / "mine.yaml")]

    is_told_to_be_without_figures(working_copy.snakemake(here, *command(project)))
    assert working_copy.planned_jobs(working_copy.snakemake(here, *command(other), "-n")) == {}
    with open(other / "studies/texts/english.txt", "a") as text:
        text.write(".")
    again = working_copy.planned_jobs(working_copy.snakemake(here, *command(other), "-n"))
    assert {"requests", "evaluate", "score"} <= set(again)
    assert not {"prepare_model", "warmup", "measure"} & set(again)


def test_a_study_of_the_project_and_the_default_one_are_found_from_elsewhere(project, here):
    command = ["-s", str(project / "Snakefile"), "--directory", str(here), "-n"]
    assert working_copy.planned_jobs(working_copy.snakemake(here, *command))["measure"] == 7
    # That of another program is left alone, in one line, and one that is named is meant.
    (here / "config.yaml").write_text("database: {host: x}\nport: 3\n")
    done = working_copy.snakemake(here, *command)
    assert working_copy.planned_jobs(done)["measure"] == 7
    assert done.stderr.count("config.yaml in this folder is not a study (") == 1
    named = working_copy.snakemake(here, *command, "--configfile", "config.yaml")
    assert "speedgrid: config.yaml: " in named.stdout + named.stderr
    (here / "config.yaml").write_text(STUDY)
    assert working_copy.planned_jobs(working_copy.snakemake(here, *command))["measure"] == 1


def test_a_text_is_looked_for_where_the_user_is_and_then_in_the_project(project, here):
    command = ["-s", str(project / "Snakefile"), "--directory", str(here), "--configfile", str(here / "mine.yaml"), "-n"]
    (here / "held out.txt").unlink()
    done = working_copy.snakemake(here, *command)
    assert "mine.yaml: experiments.generate.evaluate.text: no such file: held out.txt" in done.stdout + done.stderr
    (project / "held out.txt").write_text("Held-out text. " * 40)
    try:
        assert working_copy.planned_jobs(working_copy.snakemake(here, *command))["evaluate"] == 1
    finally:
        (project / "held out.txt").unlink()


@pytest.mark.parametrize(("names", "whole"), [("*", "all"), ("sg_*", "sg_all")])
def test_a_module_of_another_workflow(project, here, names, whole):
    before = files_in(project)
    config = {"study_file": "mine.yaml"}
    snakefile = MODULE.format(snakefile=str(project / "Snakefile"), config=config)
    (here / "Snakefile").write_text(snakefile.replace("use rule * from speedgrid", f"use rule * from speedgrid as {names}"))
    done = working_copy.snakemake(here, whole, "mine")
    is_told_to_be_without_figures(done)
    is_whole(here)
    assert "./speedgrid doctor" not in (here / "results/report.html").read_text(encoding="utf-8")
    assert (here / "mine.txt").read_text().endswith("results/summary.parquet\n")
    assert (here / "started.txt").exists()
    assert files_in(project) == before
    assert working_copy.planned_jobs(working_copy.snakemake(here, "-n", whole, "mine")) == {}
    # A rule of its own whose name ends as one of ours is none of ours.
    own = working_copy.snakemake(here, "-f", "my_report")
    assert own.returncode == 0, own.stderr
    assert "nothing was measured" not in own.stdout + own.stderr


@pytest.mark.parametrize("names", ["*", "sg_*"])
def test_the_module_of_the_documentation_plans_the_report_as_it_stands_there(project, here, names):
    """Pasted as it was, it planned `prepare`, the first rule that was left."""
    text = (project / "docs/running.md").read_text(encoding="utf-8")
    (block,) = re.findall(r"```python\n(module speedgrid:.*?)```", text, re.DOTALL)
    block = block.replace("PATH", str(project))
    if names != "*":
        block = block.replace("use rule * from speedgrid exclude all", f"use rule * from speedgrid as {names}")
    (here / "Snakefile").write_text(block)
    planned = working_copy.planned_jobs(working_copy.snakemake(here, "-n"))
    assert {"all", "measure", "report"} <= {name.removeprefix("sg_") for name in planned}
    assert "all" in planned


@pytest.mark.parametrize(("key", "value"), [("prefix", '"sub"'), ("replace_prefix", '{"results/": "sub/results/"}')])
def test_a_module_whose_paths_are_moved_is_refused_in_one_line(project, here, key, value):
    snakefile = MODULE.format(snakefile=str(project / "Snakefile"), config={"study_file": "mine.yaml"})
    (here / "Snakefile").write_text(snakefile.replace("    config:", f"    {key}: {value}\n    config:"))
    done = working_copy.snakemake(here, "-n", "all")
    assert done.returncode == 2
    said = f"speedgrid: Snakefile: `module speedgrid:` takes no `{key}:`; speedgrid's files lie in the working folder (--directory)"
    assert said in (done.stdout + done.stderr).splitlines()


def test_a_second_module_of_speedgrid_is_refused_in_one_line(project, here):
    """It would be ambiguous for every file, in the words of Snakemake for its own rules."""
    (here / "other.yaml").write_text(STUDY)
    module = (
        "module {name}:\n    snakefile: {snakefile!r}\n    config: {{'study_file': {study!r}}}\n\nuse rule * from {name} as {name}_*\n\n"
    )
    modules = [("sg1", "mine.yaml"), ("sg2", "other.yaml")]
    text = "".join(module.format(name=name, snakefile=str(project / "Snakefile"), study=study) for name, study in modules)
    (here / "Snakefile").write_text(text)
    done = working_copy.snakemake(here, "-n", "sg1_all")
    assert done.returncode == 2
    said = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("speedgrid: ")]
    assert said == [
        "speedgrid: Snakefile: `module sg2:` is speedgrid a second time, after `module sg1:`, and a folder holds the results of one study;"
        " put both into one study, or run each by a Snakemake of its own with another --directory"
    ]
    # Each alone, in a folder of its own: what the line says to do.
    for name, study in modules:
        (here / name).mkdir()
        for file in ("mine.yaml", "other.yaml", "held out.txt"):
            (here / name / file).write_bytes((here / file).read_bytes())
        (here / "Snakefile").write_text(module.format(name=name, snakefile=str(project / "Snakefile"), study=study))
        done = working_copy.snakemake(here, "-n", "--directory", name, f"{name}_all")
        assert working_copy.planned_jobs(done)[f"{name}_measure"] == 1


def test_a_rule_of_a_module_can_be_changed(project, here):
    """Snakemake reads a module anew for each `use rule`: that is no second module."""
    snakefile = MODULE.format(snakefile=str(project / "Snakefile"), config={"study_file": "mine.yaml"})
    changed = "\nuse rule measure from speedgrid with:\n    message: 'measured by another workflow'\n"
    (here / "Snakefile").write_text(snakefile + changed)
    done = working_copy.snakemake(here, "-n", "all")
    assert working_copy.planned_jobs(done)["measure"] == 1


def test_the_short_jobs_of_a_module_under_other_names_are_local(project, here):
    """`localrules:` takes plain names, and a cluster's queue would have had the requests, which need a network."""
    snakefile = MODULE.format(snakefile=str(project / "Snakefile"), config={"study_file": "mine.yaml"})
    snakefile = snakefile.replace("use rule * from speedgrid", "use rule * from speedgrid as sg_*")
    said = 'print("LOCAL", *workflow._localrules)'
    (here / "Snakefile").write_text(f"{snakefile}\n{said}\n")
    done = working_copy.snakemake(here, "-n", "sg_all")
    assert done.returncode == 0, done.stderr
    local = next(line for line in (done.stdout + done.stderr).splitlines() if line.startswith("LOCAL")).split()
    short = {"sg_requests", "sg_score", "sg_plan", "sg_aggregate", "sg_report", "sg_report_so_far"}
    assert short <= set(local)
    assert not {"sg_measure", "sg_warmup", "sg_evaluate", "sg_quantize"} & set(local)


def test_a_module_checks_the_machine_before_its_first_job(project, here):
    """What `onstart:` of its own would do, which Snakemake forgets."""
    (here / "mine.yaml").write_text(STUDY + "gpus: {dream: {device: cuda, name: Imaginary 9000}}\n")
    (here / "Snakefile").write_text(MODULE.format(snakefile=str(project / "Snakefile"), config={"study_file": "mine.yaml"}))
    done = working_copy.snakemake(here, "all")
    assert done.returncode != 0
    assert "speedgrid: mine.yaml: gpus.dream.name: no GPU of this machine is called 'Imaginary 9000'" in done.stdout + done.stderr
    assert (here / "started.txt").exists()
    assert not (here / "models").exists()


@pytest.mark.parametrize(
    ("config", "configfile", "jobs"),
    [
        ({}, None, "names no study"),
        ("config", None, "names no study"),
        ("config", "mine.yaml", 1),
        ({"study_file": "mine.yaml", "more": 1}, None, MORE),
        ("config", "other.yaml", 1),
    ],
)
def test_how_a_module_is_told_its_study(project, here, config, configfile, jobs):
    (here / "other.yaml").write_text(STUDY)
    (here / "Snakefile").write_text(MODULE.format(snakefile=str(project / "Snakefile"), config=config))
    done = working_copy.snakemake(here, "-n", "all", *(["--configfile", configfile] if configfile else []))
    if isinstance(jobs, int):
        assert working_copy.planned_jobs(done)["measure"] == jobs
    else:
        is_told_how_to_name_a_study(done, jobs)


def test_the_configuration_of_another_workflow_is_no_study_of_a_module_that_names_none(project, here):
    (here / "config.yaml").write_text("samples: [a, b]\n")
    snakefile = MODULE.format(snakefile=str(project / "Snakefile"), config={}).replace("    config: {}\n", "")
    assert "config" not in snakefile
    (here / "Snakefile").write_text(f'configfile: "config.yaml"\n{snakefile}')
    is_told_how_to_name_a_study(working_copy.snakemake(here, "-n", "all"), "names no study")


@pytest.mark.parametrize(
    ("configfile", "config", "jobs"),
    [("mine.yaml", "config", 1), ("outer.yaml", 'config["speedgrid"]', 1), ("outer.yaml", "config", None)],
)
def test_a_module_in_a_workflow_with_a_configuration_of_its_own(project, here, configfile, config, jobs):
    """`config: config` hands on all of it: a study alone is one, and more than a study is refused, since none of it may be overlooked."""
    (here / "outer.yaml").write_text("samples: [a, b]\nspeedgrid: {study_file: mine.yaml}\n")
    snakefile = MODULE.format(snakefile=str(project / "Snakefile"), config=config)
    (here / "Snakefile").write_text(f'configfile: "{configfile}"\n{snakefile}')
    done = working_copy.snakemake(here, "-n", "all")
    if jobs:
        assert working_copy.planned_jobs(done)["measure"] == jobs
    else:
        is_told_how_to_name_a_study(done, MORE)


# Installed from a wheel


@pytest.fixture(scope="module")
def installed(project, tmp_path_factory) -> Path:
    """The command `speedgrid` of an environment that has the wheel and nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    uv = Path(sys.executable).with_name("uv")
    environ = {**os.environ, "VIRTUAL_ENV": str(folder / "venv")}
    for command in (
        ["build", "--quiet", "--wheel", "--out-dir", folder, project],
        ["venv", "--quiet", "--python", sys.executable, folder / "venv"],
        ["pip", "install", "--quiet", "--no-index", "--find-links", folder, "speedgrid"],
    ):
        done = subprocess.run([uv, *command], env=environ, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return folder / "venv/bin/speedgrid"


def speedgrid(installed: Path, here: Path, *arguments: str) -> subprocess.CompletedProcess:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    return subprocess.run([installed, *arguments], cwd=here, env={**os.environ, "PATH": path}, capture_output=True, text=True)


@pytest.mark.slow
@pytest.mark.needs("network")
def test_the_wheel_runs_in_a_folder_that_has_nothing_of_speedgrid(installed, here):
    package = next(installed.parents[1].glob("lib/python*/site-packages/speedgrid_workflow"))
    assert speedgrid(installed, here, "--version").stdout == "speedgrid 0.1.0\n"
    # Its folder is not on PATH, so that the name alone would start nothing.
    assert f"measure something first ({installed} run)" in speedgrid(installed, here, "advise").stderr
    before = files_in(package)
    done = speedgrid(installed, here, "run", "--no-conda", "--study", "mine.yaml")
    is_told_to_be_without_figures(done)
    is_whole(here)
    assert files_in(package) == before
    # A study that came with it, and a profile.
    asked = ["--study", "studies/shape-1b.yaml", "-n", "--workflow-profile", "profiles/default"]
    assert "measure" in working_copy.planned_jobs(speedgrid(installed, here, "run", "--no-conda", *asked))
    (here / "config.yaml").write_text("database: {host: x}\nport: 3\n")
    done = speedgrid(installed, here, "doctor")
    assert "The default study" in done.stdout
    assert "config.yaml: " not in done.stdout
    assert "config.yaml in this folder is not a study (" in done.stderr
    assert speedgrid(installed, here, "test").stderr.startswith("speedgrid: the tests come with a clone of the repository only")


@pytest.mark.slow
@pytest.mark.needs("network")
def test_the_wheel_has_every_file_of_the_workflow_and_nothing_else(installed, project):
    package = next(installed.parents[1].glob("lib/python*/site-packages/speedgrid_workflow"))
    parts = ("envs", "profiles", "report", "rules", "scripts", "studies")
    wanted = {name for name in files_in(project) if name.partition("/")[0] in parts}
    documents = {f"docs/{name}.md" for name in ("cluster", "drivers", "scaling", "techniques", "verdicts")}
    assert files_in(package) == wanted | documents | {"Snakefile", "config.yaml", "techniques.yaml", "locks/run.txt", "launcher.py"}


@pytest.mark.slow
@pytest.mark.needs("network")
def test_the_wheel_offers_no_command_that_it_refuses_and_has_the_documents_that_messages_name(installed, here):
    package = next(installed.parents[1].glob("lib/python*/site-packages/speedgrid_workflow"))
    told = speedgrid(installed, here, "--help").stdout
    listed = re.findall(r"^  (\w+) ", told, re.MULTILINE)
    assert {"new", "run", "completion"} <= set(listed)
    assert not {"docs", "test"} & set(listed)
    assert "allowed are " in (unknown := speedgrid(installed, here, "measure").stderr)
    assert not {"docs", "test"} & set(re.findall(r"\w+", unknown.partition("allowed are ")[2].partition(" (see ")[0]))
    completed = speedgrid(installed, here, "completion", "bash").stdout.partition("_subparsers=(")[2].partition(")")[0].split()
    assert {"new", "run"} <= set(completed) <= set(listed)
    assert f"are in {package}/docs.\n" in told
    named = {name for text in texts_of(package) for name in re.findall(r"\bdocs/[\w-]+\.md", text) if "http" not in text}
    assert {"docs/cluster.md", "docs/drivers.md"} <= named
    assert named <= files_in(package)


def texts_of(package: Path) -> Iterator[str]:
    """The strings of the code but for its docstrings, which are for who reads the repository, and files that a user may open."""
    for path in package.glob("scripts/**/*.py"):
        nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
        docstrings = {id(node.value) for node in nodes if isinstance(node, ast.Expr)}
        yield from (
            node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in docstrings
        )
    for path in (*package.glob("profiles/**/*.yaml"), *package.glob("studies/*.yaml"), package / "config.yaml"):
        yield path.read_text(encoding="utf-8")
