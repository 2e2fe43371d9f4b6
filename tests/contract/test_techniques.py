"""The contract of every technique of the registry, on whatever device is here: the status that statuses.yaml names for it, and the
reference's own tokens where it runs.

    ./speedgrid test tests/contract
    ./speedgrid test tests/contract/test_techniques.py --environment llamacpp --environment vllm-cpu --keep /tmp/contract

It makes every environment that this machine's device can use (some 20 GB), and is not part of `./speedgrid test`.
"""

import functools
import itertools
import json
import math
import shutil
import sys
from pathlib import Path

import pandas as pd
import pytest
import working_copy
import yaml
from speedgrid import hardware, records
from speedgrid.schema import MEASURE, MEASURED

sys.path.insert(0, str(Path(__file__).parent))
import statuses

pytestmark = [pytest.mark.slow, pytest.mark.needs("network")]

STUDY_FILE = "tests/studies/techniques.yaml"
REGISTRY = yaml.safe_load((working_copy.ROOT / "techniques.yaml").read_text(encoding="utf-8"))
STUDY = yaml.safe_load((working_copy.ROOT / STUDY_FILE).read_text(encoding="utf-8"))
STATUSES = statuses.table()
CELLS = [(name, model, technique) for name, e in STUDY["experiments"].items() for model in e["models"] for technique in e["techniques"]]
GENERATED = [cell for cell in CELLS if STUDY["experiments"][cell[0]].get("workload", "generate") == "generate"]
# How far bits per byte of held-out text may be from the reference's: rounding in another order, 16 bits, 8 and 4 bits,
# half of the weights.
TOLERANCE = {"lossless": 1e-4, "precision": 5e-3, "lossy": 0.08, "compression": 0.5}


@pytest.fixture(scope="session")
def project(tmp_path_factory, request):
    """A copy of the project in which the study was run, as a user runs it; with `--environment`, as much of it as that asks for."""
    kept = request.config.getoption("--keep")
    folder = working_copy.copy_to(Path(kept) if kept else tmp_path_factory.mktemp("contract"))
    if wanted := set(request.config.getoption("--environment")):
        (folder / STUDY_FILE).write_text(yaml.safe_dump(reduced(STUDY, wanted), sort_keys=False))
    done = working_copy.launcher(folder, "run", "--study", STUDY_FILE)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    return folder


def reduced(study: dict, wanted: set[str]) -> dict:
    """The study with the techniques of some environments alone, each experiment's baseline, and what the checkpoints are made by."""
    parts = {}
    for name, experiment in study["experiments"].items():
        baseline = experiment.get("baseline", "baseline")
        asked = [one for one in experiment["techniques"] if wanted & statuses.environments(REGISTRY[one])]
        if asked:
            parts[name] = {**experiment, "techniques": [baseline, *(one for one in asked if one != baseline)]}
    used = {model for experiment in parts.values() for model in experiment["models"]}
    return {**study, "experiments": parts, "models": {name: of for name, of in study["models"].items() if name in used}}


@functools.cache
def machine() -> tuple[tuple[int, int] | None, tuple[str, ...]]:
    """The compute capability of this machine's GPU, None where it has none, and the tools that decide over a status."""
    found = hardware.gpus()
    tools = tuple(tool for tool in statuses.TOOLS if shutil.which(tool))
    return hardware.Device("cuda", found[0].name, found[0]).capability if found else None, tools


def must_run(cell: tuple[str, str, str]) -> bool:
    """Whether a cell must have figures on this machine."""
    return statuses.outcome(STATUSES[cell], *machine())[0] in MEASURED


@pytest.fixture(scope="module")
def summary(project) -> pd.DataFrame:
    return pd.read_parquet(project / "results/summary.parquet").set_index(["experiment", "model", "technique"])


def rows_of(project, experiment: str, model: str, technique: str) -> list:
    return records.read(project / f"results/local/{experiment}/{model}/{technique}/measure.parquet", MEASURE).rows


def tokens(project, experiment: str, model: str, technique: str) -> list:
    return [row["token_ids"] for row in rows_of(project, experiment, model, technique)]


def measured(folder, study: dict) -> dict:
    """The records, by technique, of a study with one model and the experiment `generate`, run in a copy of the project."""
    name, generate = f"{study['study']}.yaml", study["experiments"]["generate"]
    (model,) = generate["models"]
    (folder / name).write_text(yaml.safe_dump(study))
    results = {technique: f"results/local/generate/{model}/{technique}/measure.parquet" for technique in generate["techniques"]}
    done = working_copy.launcher(folder, "run", "--study", name, *results.values())
    assert done.returncode == 0, done.stdout + done.stderr
    return {technique: records.read(folder / path, MEASURE) for technique, path in results.items()}


def test_the_study_asks_for_every_technique():
    asked = {technique for _, _, technique in CELLS}
    assert set(REGISTRY) == asked, f"{STUDY_FILE}: " + ", ".join(set(REGISTRY) ^ asked)


@pytest.mark.parametrize(("experiment", "model", "technique"), CELLS)
def test_a_technique_ends_with_the_status_that_it_must_have_here(summary, experiment, model, technique):
    row = summary.loc[(experiment, model, technique)]
    assert statuses.wrong(STATUSES[experiment, model, technique], *machine(), row["status"], row["reason"] or "") == ""
    if row["status"] not in MEASURED:
        figures = ["tokens_per_s", "rate", "bits_per_byte"]
        assert row[figures].isna().all()


@pytest.mark.parametrize(("experiment", "model", "technique"), GENERATED)
def test_a_technique_gives_the_tokens_of_the_reference(project, summary, experiment, model, technique):
    entry, row, reference = REGISTRY[technique], summary.loc[(experiment, model, technique)], summary.loc[(experiment, model, "baseline")]
    if not must_run((experiment, model, technique)):
        return
    assert json.loads(row["evidence"]), "nothing was seen of it"
    assert bool(row["reason"]) == (row["status"] == "not_engaged")
    found, wanted = (tokens(project, experiment, model, name) for name in (technique, "baseline"))
    assert [len(ids) for reply in found for ids in reply] == [len(ids) for reply in wanted for ids in reply]
    # Where two tokens are about as likely, rounding of 16 bits in another order picks the other one.
    if entry["lossless"] and STUDY["experiments"][experiment]["dtype"] == "float32":
        assert found == wanted
    # The engine's time of a reply lies within that of the loop around it.
    for reply, following in itertools.pairwise(rows_of(project, experiment, model, technique)):
        assert 0 < reply["token_s"][0] <= reply["token_s"][-1] <= reply["reply_s"] <= following["started_s"] - reply["started_s"]
    kind = "lossless" if entry["lossless"] else entry["family"] if entry["family"] in TOLERANCE else "lossy"
    if not math.isnan(reference["bits_per_byte"]) and row["quality_status"] != "unsupported":
        assert math.isclose(row["bits_per_byte"], reference["bits_per_byte"], rel_tol=TOLERANCE[kind])


@pytest.mark.parametrize("technique", STUDY["experiments"]["batch"]["techniques"])
def test_every_sequence_of_a_batch_has_the_tokens_of_one_alone(project, summary, technique):
    row, count = summary.loc[("batch", "tiny", technique)], STUDY["experiments"]["batch"]["batch_size"]
    if not must_run(("batch", "tiny", technique)):
        return
    alone = "baseline" if REGISTRY[technique]["lossless"] else technique
    assert tokens(project, "batch", "tiny", technique) == [reply * count for reply in tokens(project, "greedy", "tiny", alone)]
    # What proves the technique is a batch, too.
    assert json.loads(row["evidence"]).get("sequences", count) == count


@pytest.mark.parametrize(("experiment", "model", "technique"), [cell for cell in CELLS if cell not in GENERATED])
def test_a_technique_trains_or_runs(summary, experiment, model, technique):
    row = summary.loc[(experiment, model, technique)]
    if not must_run((experiment, model, technique)):
        return
    assert (row["status"], row["rate"] > 0) == ("ok", True), row["reason"]
    assert json.loads(row["evidence"]), "nothing was seen of it"


def test_a_gguf_file_that_is_cut_short_is_a_row_with_the_reason(project, tmp_path):
    made = next(project.glob("results/checkpoints/*/gguf_q8_0/*/checkpoint"))
    folder = shutil.copytree(made, tmp_path / "cut")
    weights = folder / "model.gguf"
    weights.write_bytes(weights.read_bytes()[: weights.stat().st_size * 2 // 3])
    technique = {"label": "GGUF", "family": "engine", "summary": "A file as it is.", "engine": "llamacpp", "env": "llamacpp"}
    study = {"study": "cut", "gpus": {"local": {"device": "auto"}}, "models": {"cut": {"local": str(folder)}}}
    generate = {
        "workload": "generate",
        "models": ["cut"],
        "techniques": ["baseline", "as_it_is"],
        "prompt": "def",
        "max_new_tokens": 4,
        "evaluate": False,
    }
    study |= {"techniques": {"as_it_is": technique}, "experiments": {"generate": generate}}
    reasons = measured(project, study)
    assert {record.status for record in reasons.values()} == {"unsupported"}
    assert "llama.cpp cannot load" in reasons["as_it_is"].reason


def test_a_function_that_torch_compile_gives_up_is_counted_by_an_old_pytorch_too(project):
    assert working_copy.compiled_too_often(project, "torch21")["functions_given_up"] == 1


def test_what_is_compiled_is_compiled_whole_in_a_model_of_many_layers(tmp_path):
    # More layers than PyTorch compiles one function for, so that a layer at which a graph ends leaves some of them as they were.
    deep = {"model_type": "llama", "vocab_size": 512, "hidden_size": 128, "intermediate_size": 256, "num_hidden_layers": 10}
    deep |= {"num_attention_heads": 4, "max_position_embeddings": 128}
    compiled = ["torch_compile", "bnb_int8_compile", "bnb_nf4_compile", "torchao_int8_compile"]
    generate = {"workload": "generate", "models": ["deep"], "techniques": compiled, "dtype": "bfloat16", "prompt_tokens": 16}
    generate |= {"max_new_tokens": 8, "replies": 2, "sampling": {"do_sample": False}, "evaluate": False, "baseline": "torch_compile"}
    study = {"study": "deep", "gpus": {"local": {"device": "auto"}}, "experiments": {"generate": generate}}
    study["models"] = {"deep": {"architecture": deep, "dtype": "bfloat16"}}
    found = measured(working_copy.copy_to(tmp_path), study)
    assert {name: record.status for name, record in found.items()} == dict.fromkeys(compiled, "ok")
    seen = {name: json.loads(record.facts["evidence"]) for name, record in found.items()}
    assert {name: (of["graph_breaks"], of["functions_given_up"]) for name, of in seen.items()} == dict.fromkeys(compiled, (0, 0))


def test_a_graph_that_one_message_of_protobuf_cannot_hold_is_exported_and_quantized(tmp_path):
    # 1.1 GiB of embeddings, and as much again for the last layer until the export has found out that they are the same.
    tied = {"model_type": "llama", "vocab_size": 143360, "hidden_size": 2048, "tie_word_embeddings": True, "intermediate_size": 256}
    tied |= {"num_hidden_layers": 1, "num_attention_heads": 16, "max_position_embeddings": 256}
    generate = {"workload": "generate", "models": ["large"], "techniques": ["baseline", "onnx_fp32", "onnx_int8"], "dtype": "float32"}
    generate |= {"prompt_tokens": 8, "max_new_tokens": 4, "replies": 2, "sampling": {"do_sample": False}, "evaluate": False}
    study = {"study": "large", "gpus": {"local": {"device": "auto"}}, "experiments": {"generate": generate}}
    study["models"] = {"large": {"architecture": tied, "dtype": "float32"}}
    found = measured(working_copy.copy_to(tmp_path), study)
    assert [found[name].status for name in ("baseline", "onnx_fp32")] == ["ok", "ok"], found["onnx_fp32"].reason
    assert found["onnx_int8"].status == ("unsupported" if hardware.gpus() else "ok"), found["onnx_int8"].reason
    assert [row["token_ids"] for row in found["onnx_fp32"].rows] == [row["token_ids"] for row in found["baseline"].rows]
