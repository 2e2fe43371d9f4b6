"""Each job's specification has the keys that its type says, no key less and none more."""

import json
from types import SimpleNamespace

import pytest
from speedgrid import planning, specification
from speedgrid.planning.stages import STAGES
from speedgrid.study import validate

import studies

TYPES = {
    "prepare_model": specification.Model,
    "probe": specification.Probe,
    "quantize": specification.Quantize,
    "warmup": specification.Warmup,
    "measure": specification.Measure,
    "measure_again": specification.Measure,
    "evaluate": specification.Evaluate,
    "reference": specification.Reference,
    "requests": specification.Requests,
    "score": specification.Score,
}
OF_WORKLOADS = {
    "growth": {"models": ["tiny"], "techniques": ["baseline"], "prompt": "x", "lengths": [8, 16]},
    "train": {"models": ["shape"], "techniques": ["torch_eager"], "baseline": "torch_eager", "sequence": 8},
    "largest": {"models": ["shape"], "techniques": ["torch_eager"], "baseline": "torch_eager", "image_size": 8},
    "forward": {"models": ["shape"], "techniques": ["torch_eager"], "baseline": "torch_eager", "sequence": 8},
    "attention": {"models": ["heads"], "techniques": ["attention_flash"], "baseline": "attention_flash", "lengths": [8, 16]},
}


@pytest.fixture(scope="module")
def planned() -> planning.Grid:
    study = studies.small()
    study["models"]["heads"] = {"attention": {"heads": 2, "head_dim": 16}}
    study["experiments"]["generate"]["evaluate"] = {"positions": 10, "tasks": [{"task": "cloze", "limit": 3}]}
    study["experiments"] |= {name: {"workload": name, **entry} for name, entry in OF_WORKLOADS.items()}
    study = validate(study, studies.schema("study"), "my.yaml")
    registry = validate(studies.registry(), studies.schema("techniques"), "techniques.yaml")
    registry["bnb_int8"]["lacks"] = {"transformers": "no compiler"}
    return planning.Grid(study, registry, "my.yaml")


def wildcards(**more: str) -> SimpleNamespace:
    asked = {"gpu": "cpu", "experiment": "generate", "model": "tiny", "technique": "bnb_int8", "dtype": "float32", **more}
    return SimpleNamespace(**asked, get=lambda name, default: asked.get(name, default))


def fits(said: dict, kind) -> None:
    assert kind.__required_keys__ <= set(said) <= set(kind.__annotations__), kind.__name__


def test_every_stage_has_a_type():
    assert set(TYPES) == set(STAGES)


@pytest.mark.parametrize("stage", TYPES)
def test_a_job_is_told_the_keys_of_its_type(planned, stage):
    more = {"run": "2"} if stage == "measure_again" else {}
    said = json.loads(planned.stage(stage).specification(wildcards(**more)))
    fits(said, TYPES[stage])
    if stage == "measure_again":
        assert said["run"] == 2
    if "evaluate" in said:
        fits(said["evaluate"], specification.Asked)
        for task in said["evaluate"].get("tasks", []):
            fits(task, specification.Task)


@pytest.mark.parametrize("workload", ["generate", *OF_WORKLOADS])
def test_the_settings_of_a_workload_are_keys_of_their_type(planned, workload):
    cells = [cell for cell in planned.cells if cell.workload == workload]
    assert cells
    for cell in cells:
        for stage in ("warmup", "measure"):
            said = json.loads(cell.job(stage))
            fits(said, TYPES[stage])
            fits(said["settings"], specification.Settings)
            assert ("replies" in said["settings"]) == (stage == "measure")
