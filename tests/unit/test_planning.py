"""What the rules are told of the machine that the jobs run on."""

import json
import struct
from pathlib import Path
from types import SimpleNamespace

import pytest
import test_gguf_header as gguf_head
from speedgrid import job_shell, planning, records, schema
from speedgrid.planning import elsewhere, run
from speedgrid.planning.stages import STAGES
from speedgrid.study import StudyError, validate

import studies


def on_machine(cores: int, gpus: int | None, local: bool = True, makes: int = 0, **slurm: str) -> planning.Grid:
    """A study of a GPU and a CPU, planned for a machine where Snakemake may use so many cores and GPUs at a time, and make so many
    checkpoints side by side; `slurm` is where a cluster has the GPU."""
    study = studies.small() | {"gpus": {"fast": {"device": "cuda", "slurm": {"nodes": "any", **slurm}}, "slow": {"device": "cpu"}}}
    study["experiments"]["generate"]["models"] = ["tiny"]
    resources = {name: SimpleNamespace(value=limit) for name, limit in (("gpu", gpus), ("makes", makes)) if limit}
    workflow = SimpleNamespace(cores=cores, local_exec=local, global_resources=resources)
    study = validate(study, studies.schema("study"), "my.yaml")
    registry = validate(studies.registry(), studies.schema("techniques"), "techniques.yaml")
    return planning.Grid(study, registry, "my.yaml", has_gpu=True, workflow=workflow)


def job(gpu: str, technique: str = "bnb_int8") -> SimpleNamespace:
    return SimpleNamespace(gpu=gpu, experiment="generate", model="tiny", technique=technique, dtype="float32")


def test_rules_name_the_resources_of_a_cluster_that_a_device_of_the_study_uses_and_no_others():
    asked = on_machine(8, None, local=False, partition="p", qos="q").stage("measure").resources
    assert {"slurm_partition", "qos"} == set(asked) & {"slurm_partition", "slurm_account", "gpu_model", "gres", "constraint", "qos"}
    assert [asked["slurm_partition"](job(gpu), attempt=1) for gpu in ("fast", "slow")] == ["p", None]


@pytest.mark.parametrize(("gpus", "share"), [(None, 8), (1, 8), (4, 2), (3, 2), (16, 1)])
def test_every_kind_of_job_on_one_of_several_gpus_leaves_cores_for_those_beside_it(gpus, share):
    planned = on_machine(8, gpus)
    asked = [planned.stage(name).threads for name in ("warmup", "measure", "measure_again", "evaluate", "reference", "probe")]
    assert {threads(job("fast")) for threads in asked} == {share}
    assert {threads(job("slow")) for threads in asked} == {8}
    # The checkpoint is made once, on the device of the first cell that wants it.
    assert planned.stage("quantize").threads(job("fast")) == share


@pytest.mark.parametrize(("makes", "share"), [(4, 2), (1, 8), (16, 1)])
def test_checkpoints_that_are_made_side_by_side_share_gpu_and_cores_and_leave_none_for_what_is_timed(makes, share):
    quantize, measure = (on_machine(8, 1, makes=makes).stage(name) for name in ("quantize", "measure"))
    assert quantize.threads(job("fast")) == share
    assert [quantize.resources[name](job("fast"), attempt=1) for name in ("gpu", "makes")] == [0, 1]
    # Snakemake has no cores for a timed job while they are made.
    assert measure.threads(job("fast")) == 8
    assert measure.resources["gpu"](job("fast"), attempt=1) == 1
    assert "makes" not in measure.resources


@pytest.mark.parametrize(
    "planned",
    [on_machine(8, 1), on_machine(8, 2, makes=4), on_machine(100, None, local=False), on_machine(100, None, local=False, makes=4)],
)
def test_a_checkpoint_takes_a_gpu_alone_where_nobody_asks_otherwise_with_several_gpus_and_on_a_cluster(planned):
    asked = planned.stage("quantize").resources
    assert [asked[name](job("fast"), attempt=1) for name in ("gpu", "makes")] == [1, None]


def test_on_a_cluster_slurm_gives_the_cores():
    planned = on_machine(100, None, local=False)
    assert {planned.stage(name).threads(job("fast")) for name in STAGES if hasattr(planned.stage(name), "threads")} == {1}


def test_snakemake_need_not_look_up_the_parameters_of_what_the_rules_ask():
    planned = on_machine(8, 1)
    for name in STAGES:
        stage = planned.stage(name)
        single = [getattr(stage, question) for question in ("env", "threads", "priority") if hasattr(stage, question)]
        many = [getattr(stage, question) for question in ("inputs", "params", "resources") if hasattr(stage, question)]
        for function in (*single, *(function for answers in many for function in answers.values())):
            assert "wildcards" in function._overwrite_params, (name, function)


def order_of(planned: planning.Grid, gpu: str) -> list[tuple]:
    """The runs of a device's cells as their priorities order them."""
    runs = [(cell, run) for cell in planned.cells if cell.gpu == gpu for run in range(1, cell.runs + 1)]
    return [(cell.key, run) for cell, run in sorted(runs, key=lambda one: -planned.order.priority(*one))]


def test_on_one_machine_devices_come_one_after_another_and_on_a_cluster_side_by_side():
    here, cluster = on_machine(8, 1), on_machine(100, None, local=False)
    for planned in (here, cluster):
        assert order_of(planned, "fast") == order_of(here, "fast")
        assert order_of(planned, "slow") == order_of(here, "slow")
        cells = [cell for cell in planned.cells if cell.technique == "bnb_int8"]
        assert planned.order.first > max(
            planned.stage(name).priority(job(cell.gpu)) for cell in planned.cells for name in ("probe", "prepare_model")
        )
        assert all(planned.stage("quantize").priority(job(cell.gpu)) > planned.order.priority(cell) for cell in cells if cell.gpu == "fast")
        assert planned.stage("evaluate").priority(job("fast")) < 1 <= min(planned.order.priority(cell) for cell in planned.cells)
    first = {gpu: max(here.order.priority(cell) for cell in here.cells if cell.gpu == gpu) for gpu in ("fast", "slow")}
    assert min(here.order.priority(cell) for cell in here.cells if cell.gpu == "fast") > first["slow"]
    assert len({max(cluster.order.priority(cell) for cell in cluster.cells if cell.gpu == gpu) for gpu in ("fast", "slow")}) == 1


def test_what_a_cell_needs_is_made_just_before_its_turn_and_no_cell_waits_for_what_later_ones_need():
    planned = on_machine(8, 1)
    techniques = [key[3] for key, run in order_of(planned, "fast") if run == 1]
    assert (techniques[0], "bnb_int8" in techniques[2:]) == ("baseline", True), "of a study that shows something"
    made = {cell.technique for cell in planned.cells if cell.transform}
    # What Snakemake chooses from: the first job of each cell, and of others what comes after.
    waiting = [[("probe", "baseline")], [("prepare_model", "baseline")]]
    waiting += [
        [(name, technique) for name in ("quantize", "warmup", "measure") if technique in made or name != "quantize"]
        for technique in techniques
    ]
    expected, taken = [one for jobs in waiting for one in jobs], []
    while waiting := [jobs for jobs in waiting if jobs]:
        most = max(waiting, key=lambda jobs: planned.stage(jobs[0][0]).priority(job("fast", technique=jobs[0][1])))
        taken.append(most.pop(0))
    assert taken == expected


def test_what_failed_is_taken_back_by_the_next_run_alone(tmp_path, monkeypatch):
    """Not in the jobs of a run, not while another run may read it, and not by the run that goes on with further runs of what is open."""
    monkeypatch.chdir(tmp_path)
    failed, lock = tmp_path / "measure.parquet", tmp_path / ".snakemake/locks/0.input.lock"
    grid = SimpleNamespace(failures=lambda: [str(failed)])

    def is_left(is_main: bool = True) -> bool:
        failed.write_text("")
        planning.take_back_failures(grid, SimpleNamespace(is_main_process=is_main))
        return failed.exists()

    assert is_left(is_main=False)
    lock.parent.mkdir(parents=True)
    lock.write_text("")
    assert is_left()
    lock.unlink()
    planning.leave_failures()
    assert is_left()
    assert not is_left()
    monkeypatch.setenv(planning.PAGE_ONLY, "1")
    assert is_left()
    assert is_left(), "of every page by hand, not of the first alone"


@pytest.mark.parametrize("page_only", [True, False])
def test_a_page_by_hand_notes_no_plan_beside_the_run_that_goes_on(tmp_path, monkeypatch, root, page_only):
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(planning.PAGE_ONLY, raising=False)
    if page_only:
        monkeypatch.setenv(planning.PAGE_ONLY, "1")
    study = root / "tests/studies/tiny.yaml"
    settings = SimpleNamespace(deployment_method=set())
    workflow = SimpleNamespace(configfiles=[study], is_main_process=True, deployment_settings=settings, cores=1, local_exec=True)
    workflow.global_resources, workflow.modifier = (
        {},
        SimpleNamespace(is_main_snakefile=lambda: True, path_modifier=SimpleNamespace(prefix=None)),
    )
    monkeypatch.setattr(run, "spare_work", lambda: None)  # patches Snakemake, which is not there
    planning.plan_run(run.read(study, str(study)), workflow)
    assert (tmp_path / planning.PLANNED).exists() != page_only


@pytest.mark.parametrize("uses_environments", [True, False])
def test_the_page_after_a_failed_run_is_planned_with_environments_as_the_run_was(tmp_path, monkeypatch, uses_environments):
    python = tmp_path / "env/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\necho "${{{job_shell.ENVIRONMENT}-none}}"\n')
    python.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv(job_shell.ENVIRONMENT, raising=False)
    planning.make_page("study.yaml", SimpleNamespace(python_of=lambda rule: python, uses_environments=uses_environments))
    assert (tmp_path / "logs/report.log").read_text() == (f"{tmp_path}/env\n" if uses_environments else "none\n")


@pytest.mark.parametrize(("quietly", "said"), [(True, "leave"), (False, "keep")])
def test_a_page_between_two_jobs_leaves_the_plan_of_its_run(tmp_path, monkeypatch, quietly, said):
    python = tmp_path / "env/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text('#!/bin/sh\necho "$@"\n')
    python.chmod(0o755)
    monkeypatch.chdir(tmp_path)
    planning.make_page("study.yaml", SimpleNamespace(python_of=lambda rule: python, uses_environments=False), quietly)
    assert (tmp_path / "logs/report.log").read_text().endswith(f"make_page.py --study study.yaml --plan {said}\n")


def test_the_plan_is_written_part_by_part_as_one_document_is():
    study = studies.small() | {"title": "of \u2028 two \x85 lines\nand more"}
    study = validate(study, studies.schema("study"), "my.yaml")
    registry = validate(studies.registry(), studies.schema("techniques"), "techniques.yaml")
    text = planning.Grid(study, registry, "my.yaml").as_json()
    assert text == json.dumps(json.loads(text), ensure_ascii=False, sort_keys=True, indent=1)
    assert json.loads(text)["study"]["title"] == study["title"]


def test_a_price_of_a_device_is_in_the_plan_and_told_to_no_job():
    study = validate(studies.small(), studies.schema("study"), "my.yaml")
    registry = validate(studies.registry(), studies.schema("techniques"), "techniques.yaml")
    priced = json.loads(json.dumps(study))
    name = next(iter(priced["gpus"]))
    priced["gpus"][name]["price_per_hour"] = 2.5
    free, dear = (json.loads(planning.Grid(told, registry, "my.yaml", has_gpu=False).as_json()) for told in (study, priced))
    assert dear["jobs"] == free["jobs"]
    assert dear["study"]["study_sha256"] == free["study"]["study_sha256"]
    assert (free["study"]["prices"], dear["study"]["prices"]) == ({}, {name: 2.5})
    assert {cell["price_per_hour"] for cell in dear["cells"] if cell["gpu"] == name} == {2.5}
    assert {cell["price_per_hour"] for cell in free["cells"]} == {None}


@pytest.fixture
def said_of_an_h100(monkeypatch):
    """What is said of results of an H100, for an entry of `gpus` with a name, on a machine that shows no GPU."""

    def said(name: str, fault: str = "") -> str:
        grid = SimpleNamespace(study={"gpus": {"there": {"device": "cuda", "name": name}}}, study_file="a study.yaml")
        facts = {"device": "cuda", "device_name": "NVIDIA H100 80GB HBM3", "host": "one"}
        monkeypatch.setattr(elsewhere, "Run", lambda workflow: SimpleNamespace(comes_to=lambda *rules: True))
        monkeypatch.setattr(elsewhere, "is_forced", lambda workflow: False)
        monkeypatch.setattr(elsewhere, "_measured", lambda grid, gpu: [facts])
        monkeypatch.setattr(elsewhere.hardware, "names", lambda entry: [])
        monkeypatch.setattr(elsewhere.hardware, "driver_fault", lambda: fault)
        return elsewhere.of_another_device(grid, None)

    return said


@pytest.mark.parametrize(("name", "refused"), [("", True), ("A100", True), ("h100", False)])
def test_results_of_an_entry_with_a_name_may_be_of_another_machine(said_of_an_h100, name, refused):
    """One folder is filled by two machines, each with its own entry of `gpus`."""
    line = said_of_an_h100(name)
    assert bool(line) == refused
    assert not line or "./speedgrid report --study 'a study.yaml'" in line


def test_results_are_not_moved_away_for_a_driver_that_keeps_silent(said_of_an_h100):
    line = said_of_an_h100("", "Driver/library version mismatch")
    assert line.startswith("a study.yaml: gpus.there: the NVIDIA driver is loaded and names no GPU (Driver/library version mismatch).")
    assert "mv results" not in line


OOM = ("oom", "needs 90 GB")
LACKS = ("missing_dependency", "needs an NVIDIA GPU")


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([("ok", ""), LACKS], ""),
        ([("not_engaged", "no kernel of flash ran")], ""),
        ([], ""),
        (
            [OOM],
            "nothing was measured: the one cell has no figure (out of memory: needs 90 GB); results/report.html has the reason of each",
        ),
        (
            [LACKS, OOM, LACKS],
            "nothing was measured: none of the 3 cells has a figure (a package or tool is missing: needs an NVIDIA GPU in 2 of them);"
            " results/report.html has the reason of each",
        ),
        (
            [("not_run", "made with other settings")],
            "nothing was measured: the one cell has no figure (made with other settings); results/report.html has the reason of each",
        ),
        (
            [("not_run", "")] * 2,
            "nothing was measured: none of the 2 cells has a figure (no job has come to it yet);"
            " results/report.html has the reason of each",
        ),
    ],
)
def test_a_run_without_any_figure_says_so_with_the_reason_of_most(tmp_path, monkeypatch, found, said):
    """A study of a GPU on a machine without one ended with exit status 0."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    cell = {"gpu": "g", "experiment": "e", "model": "m"}
    rows = [{**cell, "technique": f"t{at}", "status": status, "reason": reason} for at, (status, reason) in enumerate(found)]
    records.write(tmp_path / "results/summary.parquet", schema.SUMMARY, rows, {})
    assert planning.nothing_measured() == said
    (tmp_path / "results/summary.parquet").write_bytes(b"damaged")
    assert planning.nothing_measured() == ""


POSITIONS = """\
study: mine
gpus: {here: {device: cpu}}
models: {tiny: {MODEL}}
experiments: {e: {models: [tiny], techniques: [TECHNIQUE], baseline: TECHNIQUE, EXPERIMENT, evaluate: false}}
"""
YARN = "model_type: qwen2, max_position_embeddings: 64, rope_scaling: {type: yarn, factor: 4.0, original_max_position_embeddings: 64}"
REPLIES = "prompt_tokens: 60, max_new_tokens: {}, dtype: float32"


@pytest.mark.parametrize(
    ("model", "experiment", "said"),
    [
        ("architecture: {model_type: llama, max_position_embeddings: 64}", REPLIES.format(5), ""),
        ("architecture: {model_type: llama, max_position_embeddings: 64}", REPLIES.format(6), "max_new_tokens: needs 65 positions, and"),
        (f"architecture: {{{YARN}}}", REPLIES.format(197), ""),
        (f"architecture: {{{YARN}}}", REPLIES.format(198), "max_new_tokens: needs 257 positions, and 'tiny' was made for 256"),
        ("architecture: {model_type: gpt2}", REPLIES.format(965), ""),
        ("architecture: {model_type: gpt2}", REPLIES.format(966), "'tiny' was made for 1,024; ask for fewer tokens"),
        ("train: {context: 64, sequence: 64}", REPLIES.format(6), "max_new_tokens: needs 65 positions, and 'tiny' was made for 64"),
        ("train: {context: 64, sequence: 64}", "prompt: a text, max_new_tokens: 65, dtype: float32", "max_new_tokens: needs 65 positions"),
        ("local: here", REPLIES.format(6), "max_new_tokens: needs 65 positions"),
        ("architecture: {model_type: mamba}", REPLIES.format(9000), ""),
        (
            "architecture: {model_type: llama, max_position_embeddings: 64, rope_parameters: {rope_type: dynamic, factor: 4.0}}",
            REPLIES.format(64),
            "",
        ),
        (
            "train: {context: 64, sequence: 64}",
            "workload: growth, prompt_tokens: 8, lengths: [16, 80], dtype: float32",
            "lengths: needs 87 positions",
        ),
        ("architecture: {model_type: gpt2}", "workload: train, sequence: 2048", "sequence: needs 2,048 positions"),
        ("architecture: {model_type: resnet}", "workload: train, image_size: 64", ""),
        ("attention: {heads: 2, head_dim: 8}", "workload: attention, lengths: [9000], dtype: float32", ""),
    ],
)
def test_more_tokens_than_a_model_was_made_for_are_a_mistake_of_the_study(tmp_path, monkeypatch, model, experiment, said):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "here").mkdir()
    (tmp_path / "here/config.json").write_text('{"model_type": "llama", "max_position_embeddings": 64}')
    technique = "attention_math" if "attention:" in model else "torch_fp32" if "train, " in experiment else "baseline"
    text = POSITIONS.replace("MODEL", model).replace("EXPERIMENT", experiment).replace("TECHNIQUE", technique)
    (tmp_path / "mine.yaml").write_text(text)
    if not said:
        planning.read_grid("mine.yaml")
        return
    with pytest.raises(StudyError) as caught:
        planning.read_grid("mine.yaml")
    assert str(caught.value).startswith("mine.yaml: experiments.e.")
    assert said in str(caught.value)


def test_the_head_of_a_gguf_file_says_how_far_its_positions_reach(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = POSITIONS.replace("MODEL", "gguf: a.gguf, dtype: float32").replace("TECHNIQUE", "gguf_original")
    fields = {"general.architecture": (8, gguf_head.text("qwen2")), "qwen2.context_length": (4, struct.pack("<I", 64))}
    stretched = {
        "qwen2.rope.scaling.type": (8, gguf_head.text("yarn")),
        "qwen2.rope.scaling.factor": (6, struct.pack("<f", 4)),
        "qwen2.rope.scaling.original_context_length": (4, struct.pack("<I", 64)),
    }
    for told, most in ((fields, 64), (fields | stretched, 256)):
        Path("a.gguf").write_bytes(gguf_head.file_of(told, {"token_embd.weight": ((64, 100), 0)}))
        Path("mine.yaml").write_text(study.replace("EXPERIMENT", REPLIES.format(most - 59)))
        planning.read_grid("mine.yaml")
        Path("mine.yaml").write_text(study.replace("EXPERIMENT", REPLIES.format(most - 58)))
        with pytest.raises(StudyError, match=f"needs {most + 1} positions, and 'tiny' was made for {most};"):
            planning.read_grid("mine.yaml")
