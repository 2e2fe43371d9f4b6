"""What a study will take is told of any model, and of one whose numbers make no sense it is not: it never stops a run."""

import json
from collections.abc import Callable

import pytest
import yaml
from speedgrid import foreseen, planning, selection

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
    (folder / "mine.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    grid = planning.read_grid(folder / "mine.yaml")
    return lambda: next(line for line in foreseen.said(grid) if "time " in line)


def test_the_time_that_further_runs_may_take_is_said(tmp_path, monkeypatch):
    time = time_of(tmp_path, monkeypatch)
    assert time().endswith("; then at most 3 min for further runs of what is open")
    monkeypatch.setenv(selection.MINUTES, "20")
    assert "further runs" not in time(), "a run of so many minutes has none"


def test_a_study_whose_runs_are_fixed_says_nothing_of_further_ones(tmp_path, monkeypatch):
    assert "further runs" not in time_of(tmp_path, monkeypatch, runs=2)()
