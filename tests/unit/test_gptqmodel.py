"""The parts of the transforms gptqmodel and torchao that need no PyTorch."""

import pytest
from speedgrid.hardware import Device
from speedgrid.outcomes import Unsupported
from speedgrid.transforms import Task, gptqmodel, torchao

CPU = Device("cpu", "a processor")


def task(tmp_path, settings, dtype="bfloat16"):
    def no_text():
        raise AssertionError("read the calibration text before it was needed")

    return Task(tmp_path, tmp_path, settings, CPU, dtype, 1, 0, False, no_text)


def test_sequences_run_on_from_text_to_text():
    texts = [list(range(30)), list(range(30, 50)), list(range(50, 100))]
    assert gptqmodel.sequences(texts, samples=2, length=20) == [list(range(20)), list(range(20, 40))]


def test_no_more_text_is_read_than_needed():
    def texts():
        yield list(range(64))
        raise AssertionError("read on")

    assert len(gptqmodel.sequences(texts(), samples=2, length=32)) == 2


def test_all_sequences_are_of_one_length():
    assert gptqmodel.sequences([list(range(95))], samples=4, length=32) == [list(range(32)), list(range(32, 64))]


def test_a_short_text_is_a_sequence_of_its_own_unless_it_is_too_short():
    assert gptqmodel.sequences([list(range(16))], samples=4, length=32) == [list(range(16))]
    assert gptqmodel.sequences([list(range(15))], samples=4, length=32) == []


def test_widths_that_are_multiples_of_the_group_are_taken():
    gptqmodel.refuse_odd_widths([("q", 256, 64), ("down", 768, 256)], "awq", 128)
    gptqmodel.refuse_odd_widths([("down", 704, 256)], "gptq", -1)


def test_an_odd_input_width_is_named():
    with pytest.raises(Unsupported, match=r"layers\.0\.down_proj has 704"):
        gptqmodel.refuse_odd_widths([("q", 256, 64), ("layers.0.down_proj", 704, 256)], "gptq", 128)


def test_awq_names_an_odd_output_width_and_gptq_takes_it():
    with pytest.raises(Unsupported, match="multiples of 64; k_proj has 32"):
        gptqmodel.refuse_odd_widths([("k_proj", 128, 32)], "awq", 64)
    gptqmodel.refuse_odd_widths([("k_proj", 128, 32)], "gptq", 64)


@pytest.mark.parametrize(
    ("settings", "dtype", "reason"),
    [
        ({"format": "gptq", "bits": 5}, "bfloat16", "2 or 3 or 4 or 8 bits, not 5"),
        ({"format": "awq", "bits": 8}, "bfloat16", "awq has 4 bits, not 8"),
        ({"format": "awq"}, "float32", "not in float32"),
    ],
)
def test_what_cannot_be_made_is_refused_before_anything_is_loaded(tmp_path, settings, dtype, reason):
    with pytest.raises(Unsupported, match=reason):
        gptqmodel.make(task(tmp_path, settings, dtype))


@pytest.mark.parametrize(
    ("scheme", "is_gpu", "dtype", "reason"),
    [
        ("int4", False, "bfloat16", "needs an NVIDIA GPU"),
        ("fp8", False, "bfloat16", "needs an NVIDIA GPU"),
        ("int4", True, "float16", "in bfloat16, not in float16"),
    ],
)
def test_torchao_refuses_what_it_cannot_do(scheme, is_gpu, dtype, reason):
    with pytest.raises(Unsupported, match=reason):
        torchao.refuse(scheme, is_gpu, dtype)


def test_torchao_int8_takes_every_device_and_format():
    torchao.refuse("int8", False, "float32")
    torchao.refuse("int8", True, "float16")


def test_the_settings_of_a_transform_reach_torchao(tmp_path):
    with pytest.raises(Unsupported, match="int4 needs an NVIDIA GPU"):
        torchao.make(task(tmp_path, {"scheme": "int4"}))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("GPTQModel: failed to auto-detect module tree"), "does not know the layers"),
        (ValueError("Tokenicer: no pad token"), "no tokenizer without any special token"),
        # What the package tokenizers says of a number that it cannot look up.
        (OverflowError("number too small to fit in target type"), "set `pad_token_id` in config.json to null"),
        (OverflowError("cannot convert float infinity to integer"), ""),
        (ValueError("ours"), ""),
    ],
)
def test_why_a_model_is_not_loaded(error, said):
    found = gptqmodel.why_not_loaded(error)
    assert said in found
    assert bool(found) == bool(said)


GIB = 2**30


@pytest.mark.parametrize(
    ("weights", "width", "free", "fits"),
    [
        (16 * GIB, 4096, 140 * GIB, True),
        (16 * GIB, 4096, 24 * GIB, False),
        (int(2.5 * GIB), 2048, 12 * GIB, True),
        (int(2.5 * GIB), 2048, 8 * GIB, False),
        (GIB, 1024, 0, False),  # a CPU
        (GIB, 0, 140 * GIB, False),  # a configuration that does not say
    ],
)
def test_what_is_compared_stays_on_a_gpu_that_has_room(weights, width, free, fits):
    assert gptqmodel.fits_beside(weights, 128 * 512, width, free) is fits
