"""What claims to keep a model's arithmetic is held to it, and a cell that computes another model has no figures."""

import hashlib
import json
import struct
from types import SimpleNamespace

import evaluate_quality
import pytest
import records_factory as made
import report_data
from speedgrid import loading, records
from speedgrid.outcomes import Unsupported, WrongResult
from speedgrid.quality.distance import LEAST, TIMES, Distance
from speedgrid.report import quality
from speedgrid.schema import EVALUATE


def job(dtype="bfloat16", lossless=True):
    return SimpleNamespace(specification={"lossless": lossless, "options": {"dtype": dtype}}, facts={})


def reference(rounding, dtype="bfloat16"):
    return records.Record([], {"rounding": rounding, "job": json.dumps({"options": {"dtype": dtype}})})


def away(*nats):
    return [Distance(list(nats), [True] * len(nats), [1.0] * len(nats))]


def test_a_technique_within_rounding_is_left_alone_and_one_beyond_it_is_another_model():
    allowed = TIMES * 1e-3 + LEAST
    one = job()
    evaluate_quality.hold(one, reference(1e-3), away(0.9 * allowed))
    assert one.facts["kl_allowed"] == pytest.approx(allowed)
    with pytest.raises(WrongResult, match=r"from the unmodified one is 3\.5 nat, and rounding in bfloat16 explains 0\.03"):
        evaluate_quality.hold(job(), reference(1e-3), away(3.5))


@pytest.mark.parametrize(
    ("told", "rounding", "its"),
    [
        (job(lossless=False), 1e-3, "bfloat16"),  # it claims nothing
        (job(), None, "bfloat16"),  # nobody measured what rounding does
        (job(dtype="float16"), 1e-3, "float32"),  # its own rounding is more than the reference's
    ],
)
def test_what_cannot_be_held_to_it_is_not(told, rounding, its):
    evaluate_quality.hold(told, reference(rounding, its), away(3.5))


def test_weights_in_float32_are_held_to_the_rounding_of_a_reference_in_less():
    with pytest.raises(WrongResult):
        evaluate_quality.hold(job(dtype="float32"), reference(1e-3, "bfloat16"), away(3.5))


@pytest.mark.parametrize("status", ["wrong_result", "not_finite"])
def test_what_its_evaluation_refutes_has_no_figures_and_is_no_headline(tmp_path, status):
    grid = made.write_group(tmp_path)
    (path,) = tmp_path.glob("results/**/sdpa/evaluate.parquet")
    record = records.read(path, EVALUATE)
    keys = {name: record.rows[0][name] for name in ("gpu", "experiment", "model", "technique")}
    records.write(path, EVALUATE, [*record.rows, keys | {"status": status, "reason": "computes another model"}], record.facts)
    summary = {row["technique"]: row for row in report_data.tables_of(grid)[0]}
    row = summary["sdpa"]
    assert (row["status"], row["reason"], row["rate"], row["speedup"]) == (status, "computes another model", None, None)
    assert not row["ties_fastest"]
    assert summary["baseline"]["status"] == "ok"


def test_the_page_says_what_the_bound_is_and_where_it_comes_from(tmp_path):
    grid = made.write_group(tmp_path)
    (path,) = tmp_path.glob("results/**/sdpa/evaluate.parquet")
    record = records.read(path, EVALUATE)
    records.write(path, EVALUATE, record.rows, record.facts | {"kl_allowed": 0.0123})
    summary, _, replies = report_data.tables_of(grid)
    (group,) = report_data.tables.groups(summary, replies)
    told = quality.held_sentence(group)
    assert "at most 0.012 nat" in told
    assert f"{TIMES} times what it does to the unmodified model" in told
    assert quality.held_sentence(next(report_data.tables.groups([row | {"kl_allowed": None} for row in summary], replies))) == ""


def checkpoint(folder, tensors: dict[str, bytes], **config):
    """A folder of config.json and safetensors in which each tensor is bytes."""
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(config))
    head, data = {}, b""
    for name, content in tensors.items():
        head[name] = {"dtype": "U8", "shape": [len(content)], "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(head).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    return folder


EMBEDDING, OTHER = hashlib.sha256(b"one").digest(), hashlib.sha256(b"other").digest()


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize(
    ("tied", "names", "head", "refused"),
    [
        (True, ("model.embed_tokens.weight", "lm_head.weight"), OTHER, True),
        (True, ("transformer.wte.weight", "lm_head.weight"), OTHER, True),
        (True, ("gpt_neox.embed_in.weight", "embed_out.weight"), OTHER, True),
        (True, ("model.embed_tokens.weight", "lm_head.weight"), EMBEDDING, False),
        (True, ("model.embed_tokens.weight", "model.norm.weight"), OTHER, False),
        (False, ("model.embed_tokens.weight", "lm_head.weight"), OTHER, False),
    ],
)
def test_an_output_layer_that_is_not_the_embedding_it_is_said_to_be_is_refused(tmp_path, nested, tied, names, head, refused):
    config = {"tie_word_embeddings": tied}
    config = {"text_config": config, "tie_word_embeddings": not tied} if nested else config
    folder = checkpoint(tmp_path / "model", dict(zip(names, (EMBEDDING, head), strict=True)), **config)
    if not refused:
        loading.refuse_own_head(folder, config, "it")
        return
    with pytest.raises(Unsupported, match=f"hold another one \\({names[1]}\\), which it passes over; set tie_word_embeddings to false"):
        loading.refuse_own_head(folder, config, "it")


@pytest.mark.parametrize(("names", "refused"), [(("lm_head.weight",), True), (("lm_head.weight", "backbone.embeddings.weight"), False)])
def test_an_embedding_that_was_saved_as_the_output_layer_alone_is_refused(tmp_path, names, refused):
    """As a library saves tied weights that keeps the last of their names: others make no sense of it, or up an embedding."""
    config = {"tie_word_embeddings": True}
    folder = checkpoint(tmp_path / "model", dict.fromkeys(names, EMBEDDING), **config)
    if not refused:
        loading.refuse_own_head(folder, config, "it")
        return
    with pytest.raises(Unsupported, match=r"output layer alone \(lm_head\.weight\), where it does not look"):
        loading.refuse_own_head(folder, config, "it")
