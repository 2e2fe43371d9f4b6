"""Wrong figures with status ok, in the environments of jobs: numbers that are none, models that see later tokens, neighbours, another
model, lost text. With small models that are made on the spot."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import working_copy
from speedgrid import checkpoints, records
from speedgrid.schema import EVALUATE, MEASURE, MODEL, REFERENCE, SCORE, WARMUP

pytestmark = [pytest.mark.slow, pytest.mark.needs("network")]

SPECIFICATION = {
    "gpu": "cpu",
    "experiment": "e",
    "model": "m",
    "technique": "t",
    "engine": "transformers",
    "workload": "generate",
    "device": {"device": "cpu"},
    "requires": [],
    "seed": 1,
    "threads": 1,
    "trust_remote_code": False,
    "env": "transformers",
    "settings": {
        "prompt": "def add(a, b):",
        "replies": 2,
        "warmup_replies": 1,
        "max_new_tokens": 8,
        "batch_size": 1,
        "ignore_eos": True,
        "sampling": {"do_sample": True, "temperature": 0.9, "top_p": 0.95, "top_k": 50, "repetition_penalty": 1.1},
        "repeat_disturbed": 0,
    },
    "evaluate": {"text": "stdlib", "max_bytes": 1024, "positions": 200},
    "random_weights": False,
    "lossless": True,
    "requests": "",
    "reference": "",
}


@pytest.fixture(scope="module")
def python(project) -> Path:
    """That of the environment `transformers`, which the run of the tiny study has made."""
    return working_copy.python_of("transformers")


@pytest.fixture(scope="module")
def folder(python, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("small")
    in_environment(python, "build", folder)
    return folder


@pytest.fixture(scope="module")
def checks(python, folder) -> dict:
    return in_environment(python, "checks", folder)


def in_environment(python: Path, what: str, folder: Path) -> dict:
    command = [python, working_copy.ROOT / "tests/workflow/small_models.py", what, folder]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_a_score_does_not_depend_on_what_is_scored_beside_it(checks):
    """LongRoPE, dynamic NTK, ALiBi, sliding windows, experts and others; without and with a compiled pass, which pads."""
    assert len(checks["scores"]) >= 12
    assert {name: apart for name, apart in checks["scores"].items() if not apart < 1e-5} == {}


def test_numbers_that_overflow_are_a_status_wherever_they_are_asked_for(checks):
    found = {name: said for name, said in checks["refusals"].items() if name.startswith("overflowing")}
    reason = "not_finite: the model's outputs are not finite numbers in float16, whose range ends at 65,504: use bfloat16 or float32"
    assert len(found) == 15
    assert {said for name, said in found.items() if "float16" in name and "bfloat16" not in name} == {reason}
    assert {said for name, said in found.items() if ", float16" not in name} == {"ok"}


@pytest.mark.parametrize("name", ["bert", "roberta", "electra"])
def test_a_model_that_sees_later_tokens_is_unsupported(checks, name):
    assert checks["refusals"][f"{name}, float32, causal"].startswith("unsupported: not a causal model: later tokens change what it expects")
    assert {checks["refusals"][f"llama, {dtype}, causal"] for dtype in ("float32", "float16", "bfloat16")} == {"ok"}


def test_a_tokenizer_that_loses_text_leaves_no_bits_per_byte(checks):
    assert {reason for name, reason in checks["lost"].items() if name.startswith("bytes")} == {None}
    lost = [reason for name, reason in checks["lost"].items() if name.startswith("words")]
    assert all("the tokenizer loses at least" in reason for reason in lost)


# Jobs by hand


def job(python, script: str, place: Path, out: str, specification: dict, *more) -> subprocess.CompletedProcess:
    command = [python, working_copy.ROOT / f"scripts/{script}.py", "--job", json.dumps(specification), *more, "--out", place / out]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=place)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-3000:]
    return done


def prepared(checkpoint: Path, place: Path) -> tuple[str, Path]:
    """The arguments by which a job takes a checkpoint, linked beside its record as prepare_model leaves it."""
    place.mkdir(exist_ok=True)
    (place / "checkpoint").symlink_to(checkpoint)
    records.write(place / "prepared.parquet", MODEL, [{"model": "m", "status": "ok", "reason": "", **checkpoints.facts(checkpoint)}])
    return "--checkpoint", place / "prepared.parquet"


def test_a_model_that_overflows_has_no_figure_anywhere_and_score_does_not_end_with_it(python, folder, tmp_path):
    takes = prepared(folder / "overflowing", tmp_path / "m")
    specification = {**SPECIFICATION, "options": {"dtype": "float16", "attention": "sdpa"}}
    job(python, "warmup", tmp_path, "warmup.parquet", specification, *takes)
    job(python, "measure", tmp_path, "measure.parquet", specification, *takes)
    whole = {**specification, "options": {"dtype": "float32", "attention": "eager"}}
    job(python, "reference", tmp_path, "reference.parquet", whole, *takes)
    reference = {"reference": str(tmp_path / "reference.parquet")}
    for name, each in (("t", specification), ("whole", whole)):
        job(python, "evaluate_quality", tmp_path, f"{name}.parquet", {**each, **reference}, *takes)
    for name, table in (("warmup", WARMUP), ("measure", MEASURE), ("t", EVALUATE)):
        assert records.read(tmp_path / f"{name}.parquet", table).status == "not_finite"
    entries = [{"technique": n, "evaluate": str(tmp_path / f"{n}.parquet"), "is_baseline": n == "whole"} for n in ("whole", "t")]
    asked = {name: SPECIFICATION[name] for name in ("gpu", "experiment", "model", "device", "requires", "seed", "threads", "env")}
    asked |= {"evaluate": {"text": "stdlib", "tasks": []}, "techniques": entries, "requests": ""}
    job(sys.executable, "score", tmp_path, "score.parquet", asked)
    rows = records.read(tmp_path / "score.parquet", SCORE).rows
    assert [row["status"] for row in rows if row["technique"] == "t"] == ["not_finite"]
    assert {row["metric"] for row in rows if row["technique"] == "whole"} == {"bits_per_byte", "kl_divergence", "top1_agreement"}


def test_what_keeps_the_arithmetic_and_computes_another_model_is_a_failure_and_rounding_is_none(python, folder, tmp_path):
    """As an export that takes the embedding for the output layer."""
    takes, others = prepared(folder / "llama", tmp_path / "m"), prepared(folder / "another head", tmp_path / "other")
    specification = {**SPECIFICATION, "options": {"dtype": "bfloat16", "attention": "eager"}}
    job(python, "reference", tmp_path, "reference.parquet", specification, *takes)
    assert 0 < records.read(tmp_path / "reference.parquet", REFERENCE).facts["rounding"] < 1e-3
    specification |= {"reference": str(tmp_path / "reference.parquet"), "options": {"dtype": "bfloat16", "attention": "sdpa"}}
    found = {}
    for name, checkpoint, claims in (("same", takes, True), ("another", others, True), ("claims nothing", others, False)):
        job(python, "evaluate_quality", tmp_path, f"{name}.parquet", {**specification, "lossless": claims}, *checkpoint)
        found[name] = records.read(tmp_path / f"{name}.parquet", EVALUATE)
    assert {name: record.status for name, record in found.items()} == {"same": "ok", "another": "wrong_result", "claims nothing": "ok"}
    assert "computes another model: its KL divergence from the unmodified one is" in found["another"].reason
    assert found["same"].facts["kl_allowed"] > 0
    assert found["claims nothing"].facts["kl_allowed"] is None
