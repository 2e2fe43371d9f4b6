"""How much pruning and distillation keep; what they do to a model needs PyTorch, and is the contract of the techniques."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from speedgrid.outcomes import Unsupported
from speedgrid.transforms import distill, pruning, training
from speedgrid.transforms.prune import refuse_no_layer
from speedgrid.transforms.pruning import layers_left


@given(
    kept=st.floats(0.2, 1.0),
    all_groups=st.sampled_from([1, 2, 4, 8, 32]),
    channels=st.sampled_from([512, 704, 2816, 14336]),
    width=st.sampled_from([256, 1024, 4096]),
)
def test_what_is_kept_is_about_what_was_asked_whatever_the_heads_allow(kept, all_groups, channels, width):
    group_cost, channel_cost = 2 * width * width // all_groups, 3 * width
    groups = [left for left in range(1, all_groups + 1) if width % left == 0]
    whole = all_groups * group_cost + channels * channel_cost
    try:
        sizes = pruning.sizes_for(kept, groups, channels, group_cost, channel_cost)
    except Unsupported:
        return
    assert sizes.groups in groups
    assert 0 < sizes.channels <= channels
    left = sizes.groups * group_cost + sizes.channels * channel_cost
    step = pruning.MULTIPLE * channel_cost
    assert left <= kept * whole + step
    # Less only where the channels are all there are, and the heads could not make up for it.
    assert left >= kept * whole - step or sizes.channels == channels


def test_nothing_may_be_left_of_no_layer():
    with pytest.raises(Unsupported, match="leaves no feed-forward channels"):
        pruning.sizes_for(0.05, [8], 512, 4096 * 128, 3 * 4096)


@given(size=st.floats(0.01, 0.99), layers=st.integers(1, 10**6), rest=st.integers(0, 10**6))
def test_a_student_has_the_size_that_was_asked_for(size, layers, rest):
    try:
        kept = distill.kept_of_layers(size, layers + rest, layers)
    except Unsupported:
        assert size * (layers + rest) <= rest
        return
    assert 0 < kept < 1
    assert kept * layers + rest == pytest.approx(size * (layers + rest))


@given(tokens=st.integers(1, 10**7), batch=st.integers(1, 64), sequence=st.integers(2, 4096))
def test_steps_see_the_tokens_that_were_asked_for_and_less_than_a_step_more(tokens, batch, sequence):
    steps = training.steps_for(tokens, batch, sequence)
    assert (steps - 1) * batch * sequence < tokens <= steps * batch * sequence


@given(done=st.integers(0, 1000), total=st.integers(1, 1000))
def test_the_bar_is_as_full_as_the_work_is_done(done, total):
    bar = training.bar(min(done, total), total)
    assert len(bar) == 20
    assert (bar.count("█") == 20) == (done >= total)


def test_a_state_of_other_settings_is_not_read(tmp_path):
    """The weights of another run would be a model that nobody asked for."""
    folder = tmp_path / ".training"
    folder.mkdir()
    (folder / "state.json").write_text(json.dumps({"mark": "other settings", "done": 7, "losses": [1.0]}))
    (folder / "state.safetensors").write_bytes(b"not read")
    state = training.State(folder, "these settings", [], None)
    assert state.restore() == (0, [])


@given(st.floats(0.01, 0.99), st.integers(1, 80))
def test_a_share_that_cuts_no_layer_is_refused_and_every_other_cuts_one(share, layers):
    left = layers_left(1 - share, layers)
    assert 1 <= left <= layers
    if left == layers:
        with pytest.raises(Unsupported, match=f"of {layers} layers cuts none off"):
            refuse_no_layer(share, layers)
    else:
        refuse_no_layer(share, layers)


def test_a_quarter_of_two_layers_is_no_layer():
    with pytest.raises(Unsupported, match=r"25% of 2 layers cuts none off: one layer is 50% of them, and one has to stay"):
        refuse_no_layer(0.25, 2)


def test_what_a_configuration_says_of_each_layer_goes_with_the_layers():
    """A SmolLM3 without some layers had positions in others than it was trained with."""
    each = {"layer_types": ["sliding_attention", "full_attention"], "no_rope_layers": [1, 0]}
    others = {"eos_token_id": [1, 2], "num_hidden_layers": 2, "max_window_layers": 2, "layer_norm_eps": 1e-5, "mlp_only_layers": []}
    assert pruning.of_each_layer(each | others, 2) == each
