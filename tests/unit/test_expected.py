"""What is expected of techniques × architectures (tests/contract/expected.py): one status for each pair, and no other passes."""

import sys
from pathlib import Path

import pytest
from speedgrid.schema import STATUSES

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "contract"))
import architectures
import expected

TECHNIQUES = [*architectures.TECHNIQUES, *architectures.EITHER]
PROCESSORS = [(), ("AVX2", "AVX-512", "AVX-512 BF16")]


@pytest.mark.parametrize("has", PROCESSORS)
def test_each_pair_has_one_status_and_words_where_it_has_no_figures(has):
    for name in architectures.ARCHITECTURES:
        for technique in TECHNIQUES:
            status, words = expected.expected(name, technique, has)
            assert status in STATUSES, (name, technique)
            assert (status == "ok") == (words == ""), (name, technique)


def test_the_families_that_are_named_are_there_and_in_one_list_each():
    named = {
        **{f"NOT_IN_{engine}": set(getattr(expected, f"NOT_IN_{engine}")) for engine in ("GGUF", "ONNX")},
        **{kind: set(families) for kind, families in expected.NOT_IN_BITS.items()},
        **{list_: set(getattr(expected, list_)) for list_ in ("IN_GGUF", "IN_ONNX", "ODD_WIDTHS", "NO_BLOCKS", "EXPERTS_STAY", "PRUNED")},
    }
    for list_, families in named.items():
        assert families <= set(architectures.ARCHITECTURES), list_
    assert not named["IN_GGUF"] & named["NOT_IN_GGUF"]
    assert not named["IN_ONNX"] & named["NOT_IN_ONNX"]
    assert not named["ODD_WIDTHS"] & named["NO_BLOCKS"]


@pytest.mark.parametrize(
    ("name", "technique", "row", "says"),
    [
        # What any typed status let pass.
        ("llama", "gguf_q8_0", {"status": "unsupported", "reason": "a regression in llama.cpp's converter"}, "unsupported in place of ok"),
        ("gpt_neo", "gguf_f16", {"status": "ok", "reason": "", "apart": 0.0}, "ok in place of unsupported"),
        ("gpt_neo", "gguf_f16", {"status": "unsupported", "reason": "llama.cpp cannot load model.gguf"}, "the reason has no"),
        (
            "qwen2",
            "vllm_eager",
            {"status": "missing_dependency", "reason": "vllm is not installed here"},
            "missing_dependency in place of ok",
        ),
        ("xlnet", "sdpa", {"status": "not_engaged", "reason": "the first step computed 1 of the prompt's 47"}, "in place of unsupported"),
        ("llama", "sdpa", {"status": "unsupported", "reason": "torchao does not take the shape of it"}, "unsupported in place of ok"),
        ("mamba", "gguf_f16", {"status": "ok", "reason": "", "apart": 0.1}, "0.1 apart, and 0.05 is allowed"),
        ("gpt_neo", "gguf_f16", {"status": "unsupported", "reason": "converter cannot take the model: Model GPTNeo is not supported"}, ""),
        ("mamba", "gguf_f16", {"status": "ok", "reason": "", "apart": 0.01}, ""),
    ],
)
def test_another_status_another_reason_and_other_figures_are_wrong(name, technique, row, says):
    found = expected.wrong({"architecture": name, "technique": technique, **row}, ())
    assert says in found
    assert bool(found) == bool(says)


def test_what_avx_512_alone_has_no_blocks_for_is_expected_there_alone():
    assert [expected.expected("mamba2", "bnb_nf4", has)[0] for has in PROCESSORS] == ["ok", "unsupported"]
    assert [expected.expected("qwen3_next", "bnb_nf4", has)[0] for has in PROCESSORS] == ["not_engaged", "unsupported"]
