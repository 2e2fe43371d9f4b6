"""How much of a model is quantized, and when that is too little to be called so."""

from hypothesis import given
from hypothesis import strategies as st
from speedgrid.engines import quantized, transformers
from speedgrid.engines.quantized import LEAST, WHOLE, share

ATTENTION = [(f"model.layers.{n}.self_attn.{part}.weight", 100, True) for n in range(2) for part in ("q_proj", "o_proj")]
EXPERTS = [
    (f"model.layers.{n}.mlp.experts.{part}", count, False) for n in range(2) for part, count in (("gate_up_proj", 1200), ("down_proj", 600))
]


def test_experts_that_stay_as_they_were_are_named_with_their_share():
    found = share([*ATTENTION, *EXPERTS], parameters=5000)
    assert found.reason("bitsandbytes", "float32") == (
        "10% of the layers' weights are quantized; `model.layers.*.mlp.experts.gate_up_proj`, 60% of them, stays float32:"
        " bitsandbytes quantizes nn.Linear alone"
    )
    assert found.evidence() == {
        "quantized_share": 0.1,
        "quantized_share_of_all": 0.08,
        "left_as_it_was": "model.layers.*.mlp.experts.gate_up_proj, 60% of the layers' weights",
    }


def test_a_whole_model_has_nothing_to_tell():
    found = share(ATTENTION, parameters=1000)
    assert found.reason("bitsandbytes") == ""
    assert found.evidence() == {"quantized_share": 1.0, "quantized_share_of_all": 0.4}


def test_between_the_two_it_is_quantized_and_says_what_is_not():
    left = [("layers.0.conv.weight", 150, False)]
    found = share([*ATTENTION, *left], parameters=1000)
    assert LEAST < found.of_layers < WHOLE
    assert found.reason("torchao") == ""
    assert found.evidence()["left_as_it_was"] == "layers.*.conv.weight, 27% of the layers' weights"


def test_a_model_of_no_layers_is_no_case_of_too_little():
    assert share([], parameters=10).reason("bitsandbytes") == ""


WEIGHTS = st.lists(
    st.tuples(st.sampled_from([f"h.{n}.{part}" for n in range(3) for part in "abc"]), st.integers(1, 10**9), st.booleans()), max_size=9
)


@given(WEIGHTS, st.integers(0, 10**9))
def test_shares_are_shares_and_the_reason_is_there_exactly_where_less_than_half_is_quantized(weights, rest):
    whole = sum(count for _, count, _ in weights)
    found = share(weights, whole + rest)
    assert 0 <= found.of_all <= found.of_layers <= 1
    assert found.quantized + sum(found.left.values()) == whole
    assert bool(found.reason()) == (whole > 0 and found.of_layers < LEAST)
    assert found.largest_left[1] <= 1 - found.of_layers + 1e-9
    assert quantized.Share(1, {}, 2).of_layers == 1


class Weight:
    """What is asked of a parameter."""

    def __init__(self, bytes_: int):
        self.element_size, self.numel = lambda: bytes_, lambda: 64


class FP8Linear:
    def __init__(self, *own: int):
        self.in_features = self.out_features = 8
        self.parameters = lambda recurse: map(Weight, own)


def test_a_layer_of_transformers_own_for_eight_bits_is_a_quantized_one():
    """Those of a checkpoint in FP8 belong to no library for it: the cell was said to have loaded none."""
    assert transformers.quantized_kind(FP8Linear(1, 4)) == "FP8Linear"
    assert transformers.quantized_kind(FP8Linear(2, 4)) is None
    assert transformers.quantized_kind(FP8Linear()) is None
