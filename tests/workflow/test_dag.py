"""What Snakemake plans, and what it says of a bad study, without running a job."""

from pathlib import Path

import pytest
import working_copy
import yaml
from speedgrid import commands

STUDY = "tests/studies/tiny.yaml"


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    return working_copy.copy_to(tmp_path_factory.mktemp("dag"))


@pytest.fixture
def study(project):
    """Write a variant of the tiny study and return its path."""

    def write(change=lambda study: None, name: str = "variant.yaml") -> str:
        content = yaml.safe_load((project / STUDY).read_text())
        change(content)
        (project / name).write_text(yaml.safe_dump(content, sort_keys=False))
        return name

    return write


def test_the_default_study_plans_every_stage_of_every_cell(project):
    jobs = working_copy.planned_jobs(working_copy.snakemake(project, "-n"))
    assert jobs == {
        "plan": 1,
        "prepare_model": 1,
        "probe": 1,
        "quantize": 3,
        "warmup": 7,
        "measure": 7,
        "measure_again": 1,
        "requests": 1,
        "reference": 1,
        "evaluate": 7,
        "score": 1,
        "aggregate": 1,
        "report": 1,
        "all": 1,
    }


def test_prepare_asks_for_what_comes_from_elsewhere_alone(project):
    assert set(working_copy.planned_jobs(working_copy.snakemake(project, "-n", "prepare"))) == {"prepare_model", "requests", "prepare"}


def test_a_dry_run_lists_every_job_unless_its_summary_alone_is_asked_for(project):
    listed, summary = (working_copy.snakemake(project, "-n", *options) for options in ([], ["--quiet", "rules"]))
    assert working_copy.planned_jobs(listed) == working_copy.planned_jobs(summary)
    assert [("Measuring bnb_nf4" in f"{said.stdout}{said.stderr}") for said in (listed, summary)] == [True, False]


def test_a_study_replaces_the_default_one(project):
    jobs = working_copy.planned_jobs(working_copy.snakemake(project, "-n", "--configfile", STUDY))
    assert (jobs["prepare_model"], jobs["quantize"], jobs["measure"]) == (3, 4, 19)


def test_without_evaluation_nothing_is_evaluated(project, study):
    name = study(lambda s: s["experiments"]["generate"].update(evaluate=False))
    jobs = working_copy.planned_jobs(working_copy.snakemake(project, "-n", "--configfile", name))
    assert not {"requests", "reference", "evaluate", "score"} & set(jobs)


def test_without_tasks_and_positions_text_alone_is_scored(project, study):
    name = study(lambda s: s["experiments"]["generate"].update(evaluate={"positions": 0}))
    jobs = working_copy.planned_jobs(working_copy.snakemake(project, "-n", "--configfile", name))
    assert not {"requests", "reference"} & set(jobs)
    # The model of random weights has no quality, and so no scores.
    assert jobs["score"] == 1


def test_a_technique_brings_the_checkpoints_that_it_starts_from(project, study):
    techniques = ["baseline", "distill_gguf_q4_k_m", "vllm_gptq_int4"]
    change = {"models": ["tiny"], "techniques": techniques, "exclude": [], "evaluate": False}
    name = study(lambda s: s.update(experiments={"generate": {**s["experiments"]["generate"], **change}}))
    jobs = working_copy.planned_jobs(working_copy.snakemake(project, "-n", "--configfile", name))
    # The student, its GGUF file, and GPTQ's checkpoint; none of the techniques that make the first and the last is measured.
    assert (jobs["quantize"], jobs["measure"]) == (3, 3)


def refusal(answer) -> str:
    """The one line that says what is wrong; fails where there was a traceback, or a job had begun."""
    said = answer.stdout + answer.stderr
    assert answer.returncode != 0
    assert "Traceback" not in said
    assert "start\n" not in said
    lines = [line.strip() for line in said.splitlines() if line.strip().startswith("speedgrid: ")]
    assert len(lines) == 1, said
    return lines[0]


def test_a_mistake_in_a_study_is_one_line(project, study):
    name = study(lambda s: s["experiments"]["generate"].update(replies=-1))
    line = refusal(working_copy.snakemake(project, "-n", "--configfile", name))
    assert line == "speedgrid: variant.yaml: experiments.generate.replies: -1 is too small; the least is 1"


def test_what_a_cluster_needs_is_said_before_an_environment_is_made(project):
    """A dry run said nothing, and a run made gigabytes of environments before it refused the study."""
    line = refusal(working_copy.snakemake(project, "-n", **{commands.CLUSTER: "1"}))
    assert "slurm: needs the key nodes: the runs of baseline in experiments.generate say how far to trust" in line


@pytest.mark.parametrize("wrong", ["nowhere", "tests"])
def test_what_is_no_result_to_compare_with_is_one_line(project, study, wrong):
    name = study(lambda s: s.update(compare_with=wrong))
    line = refusal(working_copy.snakemake(project, "-n", "--configfile", name))
    assert line == f"speedgrid: variant.yaml: compare_with: {wrong} is no results folder, no folder of several and no summary.parquet"


def test_a_mistake_in_the_registry_is_one_line(project):
    path = project / "techniques.yaml"
    before = path.read_text()
    try:
        path.write_text(before + "\nodd: {label: Odd, family: attention, summary: s, engine: steam, env: transformers}\n")
        line = refusal(working_copy.snakemake(project, "-n"))
        assert line.startswith("speedgrid: techniques.yaml: odd.engine: 'steam' is not allowed; allowed are transformers, ")
        path.write_text(before + "\nodd: [unclosed\n")
        assert "techniques.yaml: is not YAML: " in refusal(working_copy.snakemake(project, "-n"))
    finally:
        path.write_text(before)


def test_a_dry_run_ends_with_what_the_study_will_take(project):
    done = working_copy.snakemake(project, "-n")
    assert done.returncode == 0, done.stderr
    lines = done.stderr[done.stderr.index("speedgrid: what it will take, by estimate: 7 cells") :].splitlines()[1:]
    assert [line.split()[0] for line in lines] == ["time", "download", "disk", "memory"]
    assert "the first figure after" in lines[0]
    # The package with the model, and its numbers written out.
    assert "GB" in lines[2]


def test_a_dry_run_of_prepare_says_what_that_takes_and_nothing_of_measuring(project):
    done = working_copy.snakemake(project, "-n", "prepare")
    lines = done.stderr[done.stderr.index("speedgrid: what preparing takes, by estimate") :].splitlines()[1:]
    assert [line.split()[0] for line in lines] == ["download", "disk"]
    assert "cell" not in " ".join(lines)


def test_a_dry_run_of_one_cell_says_what_that_one_takes(project):
    """It said what the whole study takes."""
    done = working_copy.snakemake(project, "-n", "results/local/generate/smollm2-135m/sdpa/measure.parquet")
    lines = done.stderr[done.stderr.index("speedgrid: what it will take, by estimate: 1 cell (") :].splitlines()[1:]
    assert [line.split()[0] for line in lines] == ["time", "download", "disk", "memory"]
    assert "further runs" not in lines[0]
    assert "(sdpa)" in lines[3]
    # A model alone is no cell.
    done = working_copy.snakemake(project, "-n", "models/smollm2-135m/prepared.parquet")
    assert "by estimate" not in done.stderr


def test_an_unreadable_default_study_is_one_line(project):
    path = project / "config.yaml"
    before = path.read_text()
    try:
        path.write_text("study: [unclosed\nmodels: {}\n")
        assert "config.yaml: is not YAML: " in refusal(working_copy.snakemake(project, "-n"))
        path.write_text("")
        assert "config.yaml: expected keys and values at the top, found nothing" in refusal(working_copy.snakemake(project, "-n"))
    finally:
        path.write_text(before)


def test_a_gpu_that_is_not_here_stops_the_run_before_it_begins(project, study):
    name = study(lambda s: s.update(gpus={"dream": {"device": "cuda", "name": "Imaginary 9000"}}))
    working_copy.planned_jobs(working_copy.snakemake(project, "-n", "--configfile", name))
    line = refusal(working_copy.snakemake(project, "--configfile", name))
    assert "variant.yaml: gpus.dream.name: no GPU of this machine is called 'Imaginary 9000'" in line
    assert not (project / "models").exists()


def test_a_local_model_that_is_not_there_stops_the_run_before_it_begins(project, study):
    name = study(lambda s: s["models"].update(tiny={"local": "no/such/folder"}))
    line = refusal(working_copy.snakemake(project, "-n", "--configfile", name))
    assert "variant.yaml: models.tiny.local: no/such/folder is not a folder with a checkpoint (no config.json)" in line


def test_a_hub_that_cannot_be_reached_stops_the_run_before_it_begins(project, study):
    name = study(lambda s: s["models"].update(tiny={"hub": "some/model", "revision": "0" * 40}))
    line = refusal(working_copy.snakemake(project, "--configfile", name, HF_ENDPOINT="http://127.0.0.1:9"))
    assert "variant.yaml: models.tiny.hub: some/model has to be downloaded and the hub cannot be reached (http://127.0.0.1:9:" in line


def test_a_text_that_is_not_there_stops_the_run_before_it_begins(project, study):
    name = study(lambda s: s["experiments"]["generate"].update(evaluate={"text": "no.txt"}))
    line = refusal(working_copy.snakemake(project, "-n", "--configfile", name))
    assert line.endswith("variant.yaml: experiments.generate.evaluate.text: no such file: no.txt")


def test_a_study_is_one_file(project, study):
    line = refusal(working_copy.snakemake(project, "-n", "--configfile", STUDY, "--config", "seed=1"))
    assert "--config changes the study; write it into a study file instead" in line
    line = refusal(working_copy.snakemake(project, "-n", "--configfile", STUDY, study()))
    assert "give one study with --configfile" in line


def test_braces_in_the_paths_of_a_study_are_no_wildcards(project, study):
    text = project / "te{x}t {model}.txt"
    text.write_text("Held-out text. " * 40)
    name = study(lambda s: s["experiments"]["generate"].update(evaluate={"text": str(text), "tasks": []}), name="st{u}dy.yaml")
    jobs = working_copy.planned_jobs(working_copy.snakemake(project, "-n", "--configfile", name))
    assert (jobs["plan"], jobs["evaluate"]) == (1, 15)


def test_a_snakemake_that_nobody_tried_is_one_line(project, tmp_path):
    """Python tells of another version than the one that runs."""
    told = "lambda name: '10.0.1' if name == 'snakemake' else found(name)"
    (tmp_path / "sitecustomize.py").write_text(f"from importlib import metadata\nfound = metadata.version\nmetadata.version = {told}\n")
    line = refusal(working_copy.snakemake(project, "-n", PYTHONPATH=str(tmp_path)))
    assert line.startswith(
        "speedgrid: Snakemake 10.0.1 is newer than what speedgrid was tried with; install snakemake<10, or start with ./speedgrid run"
    )
