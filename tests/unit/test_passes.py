"""What training steps, passes and attention will take, by estimate: against figures that were recorded, and by what must hold of any."""

import dataclasses
import functools
import math
from pathlib import Path

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from speedgrid import amounts, estimates, foreseen, hardware, known, passes, planning
from speedgrid.known import Machine
from speedgrid.workload import WORKLOADS

import studies

H200 = Machine(True, 141e9, name="NVIDIA H200")
TWO_CORES = Machine(False, 24e9)
RECORDED = studies.ROOT / "docs/results/h200/training-gpu/summary.parquet"


@functools.cache
def cells(name: str) -> list:
    """The cells of a study that comes with the project, each with its model and work; models of the hub are left out."""
    grid = planning.read_grid(studies.ROOT / "studies" / f"{name}.yaml")
    models = {model: foreseen.of_entry(model, entry) for model, entry in grid.study["models"].items() if "hub" not in entry}
    return [(cell, models[cell.model], foreseen.work(cell)) for cell in grid.cells if cell.model in models]


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """A folder without results, so that all of a study is left."""
    monkeypatch.chdir(tmp_path)


def test_resnet_50_is_counted_from_its_shape():
    """25.6 million parameters, and 4.1 billion multiplications for an image of 224 x 224 (torchvision's table of models)."""
    found = estimates.of_config({"model_type": "resnet", "num_labels": 1000})
    assert found.parameters == 25_557_032
    assert found.pixel_flop * 224**2 / 2 == pytest.approx(4.09e9, rel=0.01)


@pytest.mark.parametrize("name", sorted(path.stem for path in (studies.ROOT / "studies").glob("*.yaml")))
def test_every_study_of_the_project_is_estimated(elsewhere, name):
    """Studies of training said that nothing was known of their experiments."""
    for machine in (H200, TWO_CORES):
        for cell, model, work in cells(name):
            assert model, cell.model
            assert estimates.measuring_s(model, work, machine) > 0, cell.folder
            assert estimates.held(model, work, machine) > 0, cell.folder


def recorded() -> list:
    summary = pd.read_parquet(RECORDED).set_index(["experiment", "technique"])
    return [(summary.loc[cell.experiment, cell.technique], model, work) for cell, model, work in cells("training-gpu")]


def test_memory_of_training_is_within_a_fifth_of_what_was_recorded(elsewhere):
    for row, model, work in recorded():
        assert 0.8 < estimates.held(model, work, H200) / row.memory_peak < 1.2, work.technique


def test_steps_of_training_are_within_half_of_what_was_recorded(elsewhere):
    for row, model, work in recorded():
        (run,) = estimates.series(model, work, H200)
        assert 1 / passes.GPU_ERROR < run.seconds / row.latency_p50_s < passes.GPU_ERROR, work.technique


def grown(work, factor: int):
    """The same work with more of what it is done to."""
    settings = dict(work.settings)
    if "lengths" in settings:
        settings["lengths"] = [factor * length for length in settings["lengths"]]
    elif "image_size" in settings:
        settings["image_size"] *= factor
    else:
        settings["sequence"] *= factor
    return dataclasses.replace(work, settings=settings)


@given(data=st.data(), factor=st.integers(2, 4), is_gpu=st.booleans())
def test_larger_inputs_take_no_less_time_and_memory(data, factor, is_gpu):
    told = [
        one
        for one in cells("training-small")
        if not WORKLOADS[one[0].workload].seeks_largest and WORKLOADS[one[0].workload].noun != "reply"
    ]
    _, model, work = data.draw(st.sampled_from(told))
    machine = Machine(True, 1e15, name="NVIDIA H200") if is_gpu else Machine(False, 1e15)
    (less, more) = (estimates.series(model, one, machine) for one in (work, grown(work, factor)))
    assert all(0 < one.seconds <= other.seconds and one.held < other.held for one, other in zip(less, more, strict=True))
    assert estimates.measuring_s(model, work, machine) <= estimates.measuring_s(model, grown(work, factor), machine)


def test_checkpointing_and_accumulation_save_memory_and_no_time():
    found = {cell.technique: (model, work) for cell, model, work in cells("s3") if cell.experiment == "largest-batch"}
    whole = {name: dataclasses.replace(work, workload="train", batch=32) for name, (_, work) in found.items()}
    model = found["torch_eager"][0]
    runs = {name: estimates.series(model, work, H200)[0] for name, work in whole.items()}
    assert runs["gradient_checkpointing"].held < runs["selective_checkpointing"].held < runs["torch_eager"].held > runs["accumulate_8"].held
    assert min(run.seconds for run in runs.values()) == runs["torch_eager"].seconds


def test_the_largest_batch_fits_and_a_smaller_budget_means_a_smaller_one():
    """The search tries what it would really try: sizes that fit, and at least one that does not."""
    found = {
        cell.experiment: (model, work)
        for cell, model, work in cells("s3")
        if cell.technique == "torch_eager" and cell.workload == "largest"
    }
    held = {}
    for name in ("largest-batch", "largest-batch-8gb", "largest-sequence", "largest-model-8gb"):
        model, work = found[name]
        room = min(work.settings["memory_budget"] or H200.room, H200.room)
        tried = estimates.series(model, work, H200)
        assert {run.held <= room for run in tried} == {True, False}, name
        held[name] = estimates.held(model, work, H200)
    assert held["largest-batch-8gb"] <= 8 * 2**30 < held["largest-batch"] <= H200.room


def test_the_search_ends_where_a_larger_size_holds_no_more():
    """A sequence of images is no size: the job itself refuses it, and the estimate went on for ever."""
    resnet = estimates.of_config({"model_type": "resnet", "num_labels": 1000})
    of_text = next(work for cell, _, work in cells("s3") if cell.experiment == "largest-sequence" and cell.technique == "torch_eager")
    work = dataclasses.replace(of_text, settings={**of_text.settings, "image_size": 224})
    assert 0 < len(passes.series(resnet, work, H200)) < 100


@pytest.mark.parametrize(
    ("name", "capability"),
    [
        ("NVIDIA RTX 6000 Ada Generation", "8.9"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", "12.0"),
        ("NVIDIA A100-SXM4-80GB", "8.0"),
        ("NVIDIA RTX A6000", "8.6"),
        ("NVIDIA L40S", "8.9"),
        ("NVIDIA A10G", "8.6"),
        ("NVIDIA GeForce RTX 3090 Ti", "8.6"),
    ],
)
def test_gpus_are_known_by_their_names(name, capability):
    assert known.of_name(name).capability == capability


@pytest.mark.parametrize("name", ["NVIDIA RTX A1000", "NVIDIA RTX A2000", "NVIDIA T400", "Quadro RTX 4000"])
def test_a_gpu_is_not_taken_for_one_whose_name_begins_likewise(name):
    assert known.of_name(name) is known.SOME_GPU


def test_a_series_of_lengths_ends_where_memory_does():
    model, work = next((model, work) for cell, model, work in cells("s3") if cell.technique == "attention_materialised")
    lengths = work.settings["lengths"]
    assert len(estimates.series(model, work, Machine(True, 8e9, name="NVIDIA L4"))) < len(lengths)
    assert len(estimates.series(model, work, Machine(True, 1e15, name="NVIDIA L4"))) == len(lengths)


def test_a_series_ends_on_a_gpu_that_is_not_here_too():
    """Attention written out over 131,072 tokens was said to take 4,951 GB of it."""
    elsewhere = Machine(True, math.inf)
    for cell, model, work in cells("s3"):
        if WORKLOADS[cell.workload].has_sizes:
            assert estimates.held(model, work, elsewhere) <= passes.SOME_MEMORY, cell.folder


def test_without_a_cache_long_replies_take_more_than_as_many_times_as_long():
    told = {cell.technique: (model, work) for cell, model, work in cells("s3") if cell.experiment == "kv-cache"}
    for technique, grows in (("baseline", False), ("no_kv_cache", True)):
        model, work = told[technique]
        short, long = estimates.series(model, work, H200)[0], estimates.series(model, work, H200)[-1]
        times = work.settings["lengths"][-1] / work.settings["lengths"][0]
        assert (long.seconds / short.seconds > 1.2 * times) == grows


def test_what_is_not_known_of_a_processor_is_not_called_sure(tmp_path, monkeypatch):
    text = said(monkeypatch, tmp_path, device="cpu")
    assert "estimates of steps are a rough guess, as none were recorded on a processor" in text
    assert "within a factor of" not in text


# Of machines without the GPU that a study is for


def said(monkeypatch, folder: Path, **device) -> str:
    monkeypatch.chdir(folder)
    monkeypatch.setattr(foreseen.hardware, "gpus", list)
    text = (studies.ROOT / "studies/training-gpu.yaml").read_text(encoding="utf-8")
    told = ", ".join(f"{key}: {value}" for key, value in device.items())
    path = folder / "mine.yaml"
    path.write_text(text.replace("{device: cuda}", f"{{{told}}}"), encoding="utf-8")
    return "\n".join(foreseen.said(planning.read_grid(path)))


def test_the_memory_of_this_machine_is_not_called_that_of_a_gpu(tmp_path, monkeypatch):
    """Studies of a cluster are planned where there is no GPU."""
    text = said(monkeypatch, tmp_path, device="cuda")
    assert "on a GPU that reads 600 GB/s, which is not here" in text
    assert " of the GPU" in text
    assert f"of {amounts.size(foreseen.this_machine.memory())}" not in text
    assert "will likely not fit" not in text


def test_a_gpu_that_the_study_names_is_estimated_by_its_name(tmp_path, monkeypatch):
    fast, slow = (said(monkeypatch, tmp_path, device="cuda", name=name) for name in ("H200", "L4"))
    assert "on H200, which is not here" in fast
    assert known.Machine(True, 1, name="H200").reads > known.Machine(True, 1, name="L4").reads
    assert fast.partition("about ")[2] != slow.partition("about ")[2]


def test_cells_on_the_processor_beside_a_gpu_take_the_time_of_a_processor(tmp_path, monkeypatch):
    """A study of both devices was estimated as if all of it ran on the GPU."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(foreseen.hardware, "gpus", lambda: [hardware.Gpu("NVIDIA H200", "", "", 141 * 10**9, "9.0")])
    text = (studies.ROOT / "studies/training-gpu.yaml").read_text(encoding="utf-8")
    devices = {"gpu": "gpu: {device: cuda}", "cpu": "cpu: {device: cpu}"}
    seconds = {}
    for name, told in {**devices, "both": "\n  ".join(devices.values())}.items():
        path = tmp_path / f"{name}.yaml"
        path.write_text(text.replace(devices["gpu"], told), encoding="utf-8")
        grid = planning.read_grid(path)
        left = foreseen.Left.of(grid)
        estimate, machine, _ = foreseen.foreseen(grid)
        seconds[name] = sum(estimates.cell_s(model, work, left.of_cell(cell)) for cell, model, work in left.cells)
        assert estimate.cells == len(left.cells)
        assert machine.is_gpu == (name != "cpu")
        assert estimate.seconds > seconds[name]
    assert seconds["cpu"] > 3 * seconds["gpu"]
    assert seconds["both"] == pytest.approx(seconds["cpu"] + seconds["gpu"])
