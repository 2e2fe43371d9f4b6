"""What a study will take is told of any model, and of one whose numbers make no sense it is not: it never stops a run."""

import json

import pytest
from speedgrid import foreseen

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
