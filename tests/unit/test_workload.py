"""Experiments of the workloads beside `generate`: what they become, and every way to be told that one is wrong."""

import json

import pytest
from speedgrid import grid, planning, workload
from speedgrid.report import published
from speedgrid.study import StudyError, validate
from speedgrid.workloads import base, repeat

import studies

SCHEMA = studies.schema("study")
REGISTRY = validate(studies.registry(), studies.schema("techniques"), "techniques.yaml")


def study(**changes) -> dict:
    """A study of one experiment, with keys changed, or left out where None."""
    experiment = {
        "workload": "train",
        "models": ["shape"],
        "techniques": ["torch_eager", "gradient_checkpointing", "accumulate_4", "torch_bf16_pure"],
        "baseline": "torch_eager",
        "sequence": 64,
        "batch_size": 8,
        "replies": 5,
    }
    experiment = {key: value for key, value in (experiment | changes).items() if value is not None}
    models = {"shape": {"architecture": {"model_type": "gpt2"}}, "op": {"attention": {"heads": 2}}}
    return {"study": "s", "models": models, "experiments": {"e": experiment}}


def planned(told: dict) -> list:
    return grid.plan(validate(told, SCHEMA, "my.yaml"), REGISTRY, "my.yaml")


def test_a_job_is_told_the_settings_of_its_workload_with_defaults():
    told = json.loads(planned(study())[0].job("measure"))
    assert told["workload"] == "train"
    assert told["settings"] == {
        "replies": 5,
        "warmup_replies": 3,
        "repeat_disturbed": 1,
        "quiet_wait_s": 20,
        "batch_size": 8,
        "sequence": 64,
        "optimizer": "adamw",
        "learning_rate": 1e-4,
        "clip_norm": 1.0,
        "deterministic": True,
        "data": "random",
    }
    assert told["options"] == {"attention": "sdpa", "precision": "fp32", "dtype": "float32"}


def test_the_precision_of_an_experiment_is_that_of_techniques_without_their_own():
    cells = {cell.technique: cell.options for cell in planned(study(precision="bf16_autocast"))}
    assert (cells["torch_eager"]["precision"], cells["torch_eager"]["dtype"]) == ("bf16_autocast", "float32")
    assert (cells["torch_bf16_pure"]["precision"], cells["torch_bf16_pure"]["dtype"]) == ("bf16_pure", "bfloat16")


def test_an_experiment_uses_the_keys_of_its_workload_alone():
    """What the page lists of an experiment. One of growing replies has a prompt and a number format, which a training step has not."""
    told = {"batch_size": 8, "sampling": {}, "max_new_tokens": 256, "prompt": "x", "dtype": "float32", "evaluate": {}}
    assert workload.used({"workload": "train", **told}).keys() == {"workload", "batch_size"}
    assert workload.used({"workload": "growth", **told}).keys() == {"workload", "batch_size", "sampling", "prompt", "dtype"}
    assert workload.used({"workload": "generate", **told}) == {"workload": "generate", **told}
    assert workload.used(told) == told


def test_training_has_no_evaluation():
    assert all(cell.evaluate == {} for cell in planned(study()))


ATTENTION = {"workload": "attention", "sequence": None, "techniques": ["attention_materialised"], "baseline": "attention_materialised"}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"batch_size": 6}, "experiments.e.techniques: 'accumulate_4' accumulates over 4 parts, which do not divide batch_size, 6"),
        (
            {"techniques": ["baseline", "torch_eager"]},
            "experiments.e.techniques: 'baseline' is for the workload generate and growth; this one is train",
        ),
        (
            {"image_size": 32},
            "experiments.e.image_size: the workload train needs exactly one of image_size and sequence; it has image_size and",
        ),
        ({"sequence": None}, "experiments.e.image_size: the workload train needs exactly one of image_size and sequence; it has neither"),
        ({"causal": True}, "experiments.e.causal: belongs to the workload attention; this one is train"),
        ({"prompt": "x"}, "experiments.e.prompt: belongs to the workload generate and growth; this one is train"),
        (
            {"workload": "generate", "prompt": "x"},
            "experiments.e.sequence: belongs to the workload train and largest and forward; this one is generate",
        ),
        ({"workload": "forward", "batch_size": 8}, "'gradient_checkpointing' has the option `checkpointing`, which is one of training"),
        ({"workload": "forward", "precision": "fp16_scaler"}, "'torch_eager' scales the loss, which is one of training"),
        (
            {"workload": "largest", "grows": "sequence", "image_size": 32, "sequence": None},
            "experiments.e.grows: `sequence` is for language",
        ),
        (
            {"workload": "growth", "prompt": "x", "lengths": [4]},
            "experiments.e.sequence: belongs to the workload train and largest and forward",
        ),
        ({"memory_budget": 5}, "experiments.e.memory_budget: belongs to the workload largest; this one is train"),
        ({"models": ["op"]}, "experiments.e.models: 'op' is one of `attention`; the workload train takes models with weights"),
        (
            {**ATTENTION, "lengths": [64]},
            "experiments.e.models: 'shape' is one of `architecture`; the workload attention takes models of `attention`",
        ),
        ({**ATTENTION, "models": ["op"]}, "experiments.e.lengths: the workload attention needs it"),
        ({**ATTENTION, "models": ["op"], "lengths": [64, 64]}, "experiments.e.lengths: 64 does not come after 64; each must be larger"),
        (
            {"precision": "fp8"},
            "experiments.e.precision: 'fp8' is not allowed; allowed are fp32, tf32, fp16_scaler, bf16_autocast, bf16_pure",
        ),
    ],
)
def test_a_mistake_is_one_line_that_names_the_key(changes, said):
    with pytest.raises(StudyError) as caught:
        planned(study(**changes))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["training-small", "s3"])
def test_the_ready_studies_can_be_planned(name):
    cells = planning.read_grid(f"studies/{name}.yaml").cells
    assert {cell.experiment for cell in cells} >= {"precision", "checkpointing", "accumulation", "compile-vision"}
    assert all(cell.workload != "generate" or cell.technique in ("baseline", "no_kv_cache") for cell in cells)


def test_every_published_figure_stands_beside_a_cell_of_a_ready_study():
    grids = [planning.read_grid(f"studies/{path.name}") for path in (studies.ROOT / "studies").glob("*.yaml")]
    asked = {
        (planned_grid.study["experiments"][cell.experiment].get("published"), cell.technique)
        for planned_grid in grids
        for cell in planned_grid.cells
    }
    figures = published.read((studies.ROOT / "report/published.csv").read_text(encoding="utf-8"))
    assert {(figure.study, figure.technique) for figure in figures} <= asked
    assert {figure.column for figure in figures} <= set(published.LABELS)


def test_published_figures_must_be_known(tmp_path):
    import yaml

    told = yaml.safe_load((studies.ROOT / "studies/training-small.yaml").read_text())
    told["experiments"]["precision"]["published"] = "dream"
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(told))
    with pytest.raises(StudyError, match=r"experiments\.precision\.published: 'dream' is unknown; allowed are precision-rtx4090, "):
        planning.read_grid(path)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"sequence": None, "image_size": 32}, "experiments.e.image_size: 'text' is trained here and takes text; give `sequence`"),
        ({"sequence": 257}, r"experiments.e.sequence: 257 is more than 'text' takes, 256 tokens \(train.context\)"),
        (
            {"workload": "largest", "grows": "layers", "precision": "bf16_autocast", "techniques": ["torch_eager", "finetune_qlora"]},
            "experiments.e.techniques: 'finetune_qlora' has the option `adapter: qlora`",
        ),
    ],
)
def test_what_a_model_that_is_trained_here_cannot_take_is_known_when_it_is_planned(changes, words):
    told = study(models=["text"], **changes)
    told["models"] = {"text": {"train": {}}}
    with pytest.raises(StudyError, match=words):
        planned(told)


@pytest.mark.parametrize(
    ("name", "repeatable"), [("train", False), ("largest", False), ("forward", True), ("attention", True), ("growth", True)]
)
def test_a_series_is_counted_again_only_where_it_leaves_the_model_as_it_was(name, repeatable):
    assert base.work_class(name).repeatable is repeatable


@pytest.mark.parametrize("name", workload.WORKLOADS)
def test_what_planning_knows_of_a_workload_is_what_its_class_does(name):
    """Planning reads it from workload.py and loads no workload; by `has_sizes` it takes code out of fingerprints."""
    work, known = base.work_class(name), workload.WORKLOADS[name]
    assert (work.next_point is not base.Work.next_point) == known.has_sizes
    assert (work.point_columns is not base.Work.point_columns) == known.is_of_replies
    assert work.noun == known.noun
    assert repeat.PLURALS == workload.PLURALS


def test_the_default_workload_is_that_of_the_schema():
    assert SCHEMA["$defs"]["experiment"]["properties"]["workload"]["default"] == workload.DEFAULT
    assert SCHEMA["$defs"]["experiment"]["properties"]["workload"]["enum"] == list(workload.WORKLOADS)
