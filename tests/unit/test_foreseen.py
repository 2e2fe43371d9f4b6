"""What a study will take is told of any model, and of one whose numbers make no sense it is not: it never stops a run."""

import json
from collections.abc import Callable

import pytest
import yaml
from speedgrid import estimates, foreseen, planning, records, schema, selection

CONFIG = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 320, "intermediate_size": 128}


def of(folder, text: str):
    (folder / "config.json").write_text(text)
    head = json.dumps({"w": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}).encode()
    (folder / "model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head + bytes(8))
    return foreseen.of_entry("mine", {"local": str(folder)})


def test_a_checkpoint_is_known_by_its_configuration_and_weights(tmp_path):
    found = of(tmp_path, json.dumps(CONFIG))
    assert (found.parameters, found.layers, found.kv_width) == (2, 2, 64)


@pytest.mark.parametrize(
    "told",
    [
        "[" * 20000 + "]" * 20000,
        "[1]",
        "{",
        json.dumps({**CONFIG, "hidden_size": float("nan")}),
        json.dumps({**CONFIG, "hidden_size": "64"}),
        json.dumps({**CONFIG, "num_hidden_layers": -3}),
        json.dumps({**CONFIG, "num_attention_heads": 0, "n_head": 0}),
        json.dumps({**CONFIG, "num_hidden_layers": [2]}),
        json.dumps({**CONFIG, "vocab_size": 10**400}),
        json.dumps({**CONFIG, "text_config": 3}),
    ],
)
def test_nothing_is_known_of_a_configuration_that_makes_no_sense(tmp_path, told):
    assert of(tmp_path, told) is None


# The time of further runs. A study said "about 6 min", and went on for three more with what was open.


def time_of(folder, monkeypatch, **changes) -> Callable[[], str]:
    """What is said of the time of the default study, with other settings of its experiment."""
    monkeypatch.chdir(folder)
    monkeypatch.delenv(selection.MINUTES, raising=False)
    study = yaml.safe_load((planning.ROOT / "config.yaml").read_text(encoding="utf-8"))
    study["experiments"]["generate"] |= changes
    study["budget_minutes"] = 3
    (folder / "mine.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    grid = planning.read_grid(folder / "mine.yaml")
    return lambda: next(line for line in foreseen.said(grid) if "time " in line)


def test_the_time_that_further_runs_may_take_is_said(tmp_path, monkeypatch):
    time = time_of(tmp_path, monkeypatch)
    assert time().endswith("; then at most 3 min for further runs of what is open")
    monkeypatch.setenv(selection.MINUTES, "20")
    assert "further runs" not in time(), "a run of so many minutes has none"


def test_a_study_that_goes_on_says_how_much_time_further_runs_have_left(tmp_path, monkeypatch):
    """Of 180 s these took 55, 110 and 180. As soon as one was planned, nothing was said of those after it."""
    folder = "results/local/generate/smollm2-135m/{}"
    wanted = {folder.format(name): count for name, count in (("sdpa", 2), ("baseline", 1))}
    (tmp_path / "results").mkdir()
    (tmp_path / "results/further.json").write_text(json.dumps({"wanted": wanted, "open": {}}), encoding="utf-8")
    time = time_of(tmp_path, monkeypatch)
    names = {"gpu": "local", "experiment": "generate", "model": "smollm2-135m"}
    took = [("sdpa", 10.0, 20.0), ("baseline", 12.0, 15.0), ("bf16", 15.0, 90.0)]
    rows = [names | {"technique": name, "rate": rate, "run_s": run_s} for name, rate, run_s in took]
    records.write(tmp_path / "results/summary.parquet", schema.SUMMARY, rows)
    assert time().endswith("at most 3 min for further runs of what is open")
    records.write(tmp_path / "results/summary.parquet", schema.SUMMARY, [row | {"run_s": 2 * row["run_s"]} for row in rows])
    assert time().endswith("at most 2 min for further runs of what is open")
    records.write(tmp_path / "results/summary.parquet", schema.SUMMARY, [row | {"run_s": 60.0} for row in rows])
    assert "further runs" not in time()


def test_of_what_is_begun_only_the_runs_are_estimated_that_are_to_come(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    grid = planning.read_grid(planning.ROOT / "config.yaml")
    cell = next(cell for cell in grid.cells if cell.technique == "bnb_nf4")
    model, machine = foreseen.of_entry(cell.model, grid.study["models"][cell.model]), foreseen.machine(False)
    start, measures = f"{cell.folder}/warmup.parquet", cell.measures[:1]
    whole, one, start_alone = (
        estimates.measuring_s(model, foreseen.work(cell, *grid.kept.left_of(cell, left.__contains__, is_planned)), machine)
        for left, is_planned in (([start], False), (measures, False), ([start], True))
    )
    cold = estimates.making_s(model, foreseen.work(cell), machine) + estimates.start_s(model, foreseen.work(cell), machine)
    assert len(cell.measures) == 1
    assert 0 < one < whole - cold
    assert start_alone == pytest.approx(whole - one), "a run of that target alone makes what it starts from, and measures nothing"


def test_a_study_whose_runs_are_fixed_says_nothing_of_further_ones(tmp_path, monkeypatch):
    assert "further runs" not in time_of(tmp_path, monkeypatch, runs=2)()
