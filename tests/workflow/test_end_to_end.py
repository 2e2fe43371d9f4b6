"""A tiny grid, run as a user runs it: every step, in real environments, and what must be true of the results."""

import itertools
import json
import math
import os
import shutil
import subprocess
from pathlib import Path

import pandas as pd
import pytest
import working_copy
from speedgrid import planning, records
from speedgrid.report import recipes
from speedgrid.schema import CHECKPOINT, EVALUATE, MEASURE, MODEL, PROBE, WARMUP

pytestmark = [pytest.mark.slow, pytest.mark.needs("network")]

STUDY = "tests/studies/tiny.yaml"
LOSSLESS = ["baseline", "sdpa", "sdpa_flash", "static_cache", "torch_compile", "torch_compile_naive", "no_kv_cache"]
MEASURED = [*LOSSLESS, "fp16", "bf16", "bnb_int8", "bnb_nf4"]
GENERATED = {("tiny", technique) for technique in [*MEASURED, "only_on_a_gpu"]} | {
    ("gpt2-shape", technique) for technique in ("baseline", "bnb_int8", "bnb_nf4")
}
TRAINED = [("gpt2-shape", "torch_eager"), ("gpt2-shape", "gradient_checkpointing")]
ATTENDED = [("heads", "attention_materialised"), ("heads", "attention_flash")]
CELLS = {*GENERATED, *TRAINED, *ATTENDED}


@pytest.fixture(scope="module")
def summary(project) -> pd.DataFrame:
    return pd.read_parquet(project / "results/summary.parquet").set_index(["model", "technique"])


def cell(project: Path, technique: str, table=MEASURE, model: str = "tiny") -> records.Record:
    return records.read(project / f"results/cpu/generate/{model}/{technique}/{table.name}.parquet", table)


def test_every_cell_has_one_row_and_the_right_status(summary):
    assert set(summary.index) == CELLS
    assert summary.index.is_unique
    expected = {
        ("tiny", "torch_compile_naive"): "not_engaged",
        ("tiny", "only_on_a_gpu"): "unsupported",
        ("gpt2-shape", "bnb_nf4"): "unsupported",
    }
    for cell, row in summary.iterrows():
        assert row["status"] == expected.get(cell, "ok"), (cell, row["reason"])
    assert "an input width is not a multiple of 64" in summary.loc[("gpt2-shape", "bnb_nf4"), "reason"]
    assert "needs an NVIDIA GPU" in summary.loc[("tiny", "only_on_a_gpu"), "reason"]
    assert "no compiled code ran" in summary.loc[("tiny", "torch_compile_naive"), "reason"]


def test_the_token_for_the_hub_is_written_nowhere(project):
    assert working_copy.holding(project, working_copy.TOKEN) == []
    assert working_copy.TOKEN not in (project / "said.txt").read_text()


def test_a_cell_that_could_not_run_has_no_figures(summary):
    row = summary.loc[("tiny", "only_on_a_gpu")]
    assert row[["tokens_per_s", "speedup", "memory_peak", "bits_per_byte", "load_s"]].isna().all()


def test_counted_tokens_are_those_produced(project):
    for technique in MEASURED:
        rows = cell(project, technique).rows
        assert [row["reply"] for row in rows] == [1, 2, 3]
        for row in rows:
            assert row["new_tokens"] == len(row["token_ids"][0]) == len(row["token_s"]) == row["steps"] == 6
            assert (row["batch_size"], len(row["token_ids"])) == (1, 1)
            assert row["token_s"] == sorted(row["token_s"])
            assert 0 < row["ttft_s"] == row["token_s"][0]
            assert row["token_s"][-1] <= row["reply_s"]
        # The engine's time of a reply lies within that of the loop around it.
        for row, following in itertools.pairwise(rows):
            assert row["reply_s"] <= following["started_s"] - row["started_s"]


def test_the_same_seed_gives_the_same_tokens_in_every_lossless_technique(project):
    tokens = {technique: [row["token_ids"] for row in cell(project, technique).rows] for technique in LOSSLESS}
    assert all(found == tokens["baseline"] for found in tokens.values()), tokens
    assert len({tuple(ids[0]) for ids in tokens["baseline"]}) > 1


def test_quality_is_the_same_where_the_arithmetic_is_and_differs_where_it_is_not(summary):
    bits = summary.loc["tiny", "bits_per_byte"]
    assert bits["baseline"] < 8
    for technique in LOSSLESS:
        assert math.isclose(bits[technique], bits["baseline"], rel_tol=1e-5)
    for technique in ("fp16", "bf16", "bnb_int8", "bnb_nf4"):
        assert bits[technique] != bits["baseline"]
        assert math.isclose(bits[technique], bits["baseline"], rel_tol=0.1)


def test_random_weights_get_no_quality(summary):
    for technique in ("baseline", "bnb_int8"):
        row = summary.loc[("gpt2-shape", technique)]
        assert row["status"] == "ok"
        assert math.isnan(row["bits_per_byte"])
        assert "random" in row["quality_reason"]


def test_quality_is_of_the_very_weights_that_were_timed(project):
    prepared = records.read(project / "models/tiny/prepared.parquet", MODEL).rows[0]
    for technique, sha in {
        "baseline": prepared["checkpoint_sha256"],
        "bnb_int8": records.read(project / "results/checkpoints/tiny/bnb_int8/float32/quantize.parquet", CHECKPOINT).rows[0][
            "checkpoint_sha256"
        ],
    }.items():
        assert cell(project, technique).facts["checkpoint_sha256"] == sha
        assert cell(project, technique, EVALUATE).facts["checkpoint_sha256"] == sha
    assert cell(project, "baseline").facts["checkpoint_sha256"] != cell(project, "bnb_int8").facts["checkpoint_sha256"]


def test_a_quantized_checkpoint_is_smaller_and_holds_quantized_layers(project, summary):
    sizes = summary.loc["tiny", "checkpoint_bytes"]
    assert sizes["bnb_int8"] < sizes["baseline"]
    assert sizes["bnb_nf4"] < sizes["baseline"]
    layers = {
        technique: json.loads(summary.loc[("tiny", technique), "evidence"])["quantized_layers"] for technique in ("bnb_int8", "bnb_nf4")
    }
    assert layers == {"bnb_int8": {"Linear8bitLt": 14}, "bnb_nf4": {"Linear4bit": 14}}


def test_what_was_just_made_is_as_the_study_has_it(summary):
    assert set(summary["outdated"]) == {""}


def test_what_was_seen_of_each_technique(project, summary):
    evidence = summary.loc["tiny", "evidence"].dropna().map(json.loads)
    assert evidence["baseline"]["attention"] == "eager"
    assert evidence["sdpa"]["attention"] == "sdpa"
    assert evidence["baseline"]["last_step_positions"] == 1
    assert (evidence["baseline"]["sdpa_kernels"], evidence["sdpa_flash"]["sdpa_kernels"].keys()) == ({}, {"flash"})
    assert evidence["sdpa"]["sdpa_kernels"]
    # The prompt is computed anew for every reply: nothing of the one before is kept.
    prompts = {technique: seen["first_step_positions"] for technique, seen in evidence.items() if "first_step_positions" in seen}
    assert len(prompts) >= 8
    assert set(prompts.values()) == {cell(project, "baseline").rows[0]["prompt_tokens"]}
    assert evidence["no_kv_cache"]["last_step_positions"] > 1
    caches = {technique: evidence[technique]["cache"] for technique in ("baseline", "static_cache", "no_kv_cache")}
    assert caches == {"baseline": "DynamicCache", "static_cache": "StaticCache", "no_kv_cache": "none"}
    assert (evidence["bf16"]["dtype"], evidence["fp16"]["dtype"]) == ("bfloat16", "float16")
    assert evidence["torch_compile"]["compiled_graphs"] > 0
    assert evidence["torch_compile"]["compiled_while_counting"] == 0
    assert evidence["torch_compile_naive"]["compiled_graphs"] == 0
    assert {evidence["torch_compile"][name] for name in ("graph_breaks", "functions_given_up")} == {0}


def test_a_function_that_torch_compile_gives_up_is_counted(project):
    assert working_copy.compiled_too_often(project, "transformers")["functions_given_up"] == 1


def test_each_technique_is_scored_against_the_baseline_on_the_same_items(project):
    rows = pd.read_parquet(project / "results/cpu/generate/tiny/score.parquet")
    found = rows[rows["status"] == "ok"].set_index(["technique", "task", "metric"])
    assert set(found.index.get_level_values("technique")) == set(MEASURED)
    assert found.index.is_unique
    for technique in LOSSLESS[1:]:
        assert found.loc[(technique, "cloze", "acc"), ["loss", "items", "test"]].tolist() == [0, 5, "same_model"]
        answered = pd.read_parquet(project / f"results/cpu/generate/tiny/{technique}/evaluate.parquet")
        assert "request" not in set(answered["kind"]), "what is proven to be the baseline's model is not asked again"
        assert found.loc[(technique, "hellaswag", "acc_norm"), ["loss", "items"]].tolist() == [0, 3]
        assert found.loc[(technique, "held_out", "top1_agreement"), "value"] == 1
        assert abs(found.loc[(technique, "held_out", "bits_per_byte"), "loss"]) < 1e-4
    assert 0 < found.loc[("bnb_nf4", "held_out", "kl_divergence"), "value"] < 1
    refused = rows[rows["task"] == "no_such_task"]
    assert refused["status"].tolist() == ["unsupported"]
    assert "no_such_task" in refused["reason"].item()


def test_training_steps_and_passes_of_attention_are_measured_too(project, summary):
    for name in TRAINED:
        assert (summary.loc[name, "unit"], summary.loc[name, "replies"]) == ("token", 2)
        assert summary.loc[name, "run_mfu"] > 0
    losses = {
        technique: [row["loss"] for row in records.read(project / f"results/cpu/train/{model}/{technique}/measure.parquet", MEASURE).rows]
        for model, technique in TRAINED
    }
    assert losses["gradient_checkpointing"] == pytest.approx(losses["torch_eager"], rel=1e-5)
    assert json.loads(summary.loc[TRAINED[1], "evidence"])["run_again_in_backward"]
    points = pd.read_parquet(project / "results/points.parquet")
    for model, technique in ATTENDED:
        assert points[(points["model"] == model) & (points["technique"] == technique)]["point"].tolist() == [16, 32]
    assert json.loads(summary.loc[ATTENDED[1], "evidence"])["sdpa_kernels"] == {"flash": 1}


def test_the_run_is_recorded(project):
    runs = pd.read_parquet(project / "results/runs.parquet")
    measured = runs[(runs["stage"] == "measure") & (runs["technique"] == "baseline") & (runs["model"] == "tiny")].iloc[0]
    assert any(package.startswith("torch==") for package in measured["packages"])
    assert measured["started_at"] <= measured["ended_at"]
    assert (measured["device"], measured["threads"], measured["seed"]) == ("cpu", 1, 11)
    assert measured["rss_peak"] > 0
    assert (measured["study"], len(measured["study_sha256"])) == ("tiny", 64)
    warm = cell(project, "baseline", WARMUP).rows[0]
    assert math.isclose(warm["cold_start_s"], warm["import_s"] + warm["load_s"] + warm["first_reply_s"])
    assert warm["nothing_compiled"] is True


def test_the_report_names_every_technique_and_every_failure(project):
    page = (project / "results/report.html").read_text(encoding="utf-8")
    for words in ("Baseline (eager attention)", "bitsandbytes NF4", "Something that needs a GPU", "needs an NVIDIA GPU", "A tiny grid"):
        assert words in page


def test_the_baseline_ran_again_and_its_runs_show_the_noise(project, summary):
    runs = sorted((project / "results/cpu/generate/tiny/baseline").glob("measure*.parquet"))
    assert [path.name for path in runs] == ["measure-2.parquet", "measure.parquet"]
    first, again = (records.read(path, MEASURE) for path in reversed(runs))
    assert first.facts["ended_at"] <= again.facts["started_at"]
    assert [row["token_ids"] for row in first.rows] == [row["token_ids"] for row in again.rows]
    between = [cell(project, technique).facts["started_at"] for technique in ("sdpa", "torch_compile")]
    assert all(first.facts["ended_at"] <= began <= again.facts["started_at"] for began in between)
    measured = summary.loc["tiny"].query("speedup.notna()")
    assert (measured["noise"] > 0).all()
    assert (measured["noise_runs"] > 2).all(), "its own runs and those recorded elsewhere"
    assert measured.loc["baseline", "run_s"] > 0
    assert set(measured["standing"].dropna()) <= {"first", "same", "unsure", "slower"}
    assert set(measured["verdict"].dropna()) <= {"faster", "slower", "same", "unsure"}
    assert measured.drop("baseline")["verdict"].notna().all()


def test_each_cell_is_held_against_what_the_device_can_do(project, summary):
    probe = records.read(project / "results/cpu/probe.parquet", PROBE)
    assert {row["kind"] for row in probe.rows} >= {"copy", "read", "gemm"}
    assert all(row["best"] > 0 for row in probe.rows)
    for technique in ("baseline", "sdpa", "bf16"):
        row = summary.loc[("tiny", technique)]
        assert 0 < row["mbu"] < 1
        assert row["decode_headroom"] > 1
        assert row["decode_bound"] == "overhead", "so small a model asks nothing of the device"


def test_results_compared_with_themselves_are_the_very_same_runs_and_no_answer(project):
    done = working_copy.launcher(project, "compare", "results", "results", "--json", "--fail-on", "slower")
    assert done.returncode == 2, done.stderr
    told = json.loads(done.stdout)
    assert told["counts"] == {"same run": len(CELLS) - 2, "no figures": 2}
    assert told["differences"] == []


@pytest.mark.parametrize("name", ["measure", "warmup", "evaluate"])
def test_a_result_that_is_gone_is_measured_again_and_not_shown_from_before(project, name):
    path = project / f"results/cpu/generate/tiny/sdpa/{name}.parquet"
    kept = path.with_suffix(".kept")
    path.rename(kept)
    try:
        jobs = working_copy.planned_jobs(working_copy.launcher(project, "run", "--study", "tests/studies/tiny.yaml", "-n"))
        assert jobs[name] == 1
        assert {"aggregate", "report"} <= set(jobs)
    finally:
        kept.rename(path)


@pytest.mark.parametrize("name", ["summary.parquet", "points.parquet", "runs.parquet", "report.html", "plan.json"])
def test_a_table_that_is_gone_is_made_again(project, name):
    path = project / "results" / name
    kept = path.with_suffix(".kept")
    path.rename(kept)
    try:
        assert "report" in working_copy.planned_jobs(working_copy.launcher(project, "run", "--study", "tests/studies/tiny.yaml", "-n"))
    finally:
        kept.rename(path)


def test_every_job_says_what_it_does_and_its_headline(project):
    said = (project / "said.txt").read_text()
    for words in (
        "training: step 5/5",
        "quantize tiny/bnb_int8: ",
        " MiB to ",
        "measure cpu/generate/tiny/sdpa: warm after",
        "token/s",
        "bits per byte",
    ):
        assert words in said


def dry_run(project: Path, *arguments: str) -> dict[str, int]:
    return working_copy.planned_jobs(working_copy.launcher(project, "run", "--study", STUDY, "-n", *arguments))


@pytest.fixture
def edited(project):
    """Change a file for one test."""
    before = {}

    def edit(name: str, change) -> None:
        path = project / name
        before.setdefault(path, path.read_text())
        path.write_text(change(before[path]))

    yield edit
    for path, text in before.items():
        path.write_text(text)


def test_a_rerun_has_nothing_to_do(project):
    assert dry_run(project) == {}


def test_snakemakes_own_report_holds_the_page_and_every_chart_with_captions(project):
    done = working_copy.launcher(project, "run", "--study", STUDY, "--report", "own.html")
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    own = (project / "own.html").read_text(encoding="utf-8")
    (project / "own.html").unlink()
    charts = [path.name for path in (project / "results/figures").glob("*.svg")]
    assert len(charts) > 5
    for words in ("report.html", *charts, "The page of the study: the answer", "A chart of the page"):
        assert words in own, words


def test_an_edited_chart_reruns_the_report_alone(project, edited):
    edited("scripts/speedgrid/report/charts/base.py", lambda text: text + "\n# edited\n")
    assert dry_run(project) == {}
    edited("scripts/speedgrid/report/charts/base.py", lambda text: text + "\nassert ROW\n")
    assert dry_run(project) == {"report": 1, "all": 1}


def test_more_replies_measure_again_and_quantize_train_and_evaluate_nothing(project, edited):
    edited(STUDY, lambda text: text.replace("replies: 3", "replies: 4"))
    jobs = dry_run(project)
    assert {"measure", "aggregate", "report"} <= set(jobs)
    assert jobs["measure"] == len(GENERATED)
    assert not {"quantize", "prepare_model", "evaluate", "warmup"} & set(jobs)


def test_what_changes_every_step_of_a_cell_runs_every_step_in_one_go(project, edited):
    before = dry_run(project)
    edited(STUDY, lambda text: text.replace("max_new_tokens: 6", "max_new_tokens: 5"))
    jobs = dry_run(project)
    assert before == {}
    assert jobs["warmup"] == jobs["measure"] == len(GENERATED)
    assert jobs["measure_again"] > 0
    assert "evaluate" in jobs


def test_a_new_technique_adds_only_its_own_jobs(project, edited):
    own = "  sdpa_again: {label: Again, family: attention, summary: The same., engine: transformers, env: transformers}\n"
    edited(
        STUDY,
        lambda text: text.replace("techniques:\n", "techniques:\n" + own, 1).replace(
            "- only_on_a_gpu\n", "- only_on_a_gpu\n      - sdpa_again\n"
        ),
    )
    jobs = dry_run(project)
    assert {rule: jobs.get(rule) for rule in ("warmup", "measure", "evaluate")} == {"warmup": 2, "measure": 2, "evaluate": 2}
    assert not {"quantize", "prepare_model"} & set(jobs)


def test_the_report_compares_with_other_results_where_the_study_names_them(project, edited):
    """Nothing is measured for it; afterwards the report is as it was."""
    shutil.copytree(project / "results", project / "older")
    edited(STUDY, lambda text: f"compare_with: older\n{text}")
    assert set(dry_run(project)) <= {"plan", "aggregate", "report", "all"}
    done = working_copy.launcher(project, "run", "--study", STUDY)
    assert done.returncode == 0, done.stderr
    page = (project / "results/report.html").read_text(encoding="utf-8")
    assert "Compared with other results" in page
    assert "2 no figures" in page
    compared = page.partition('<h2 id="compared-title">')[2].partition("</section>")[0]
    assert compared.count("cpu/generate/tiny/") == 12
    shutil.rmtree(project / "results")
    (project / "older").rename(project / "results")


def test_an_interrupted_run_loses_no_finished_cell(project):
    """Killed in the middle of a job, a run leaves every other result byte for byte, and the next run makes the missing one."""
    target = project / "results/cpu/generate/tiny/sdpa/measure.parquet"
    before = {path: path.read_bytes() for path in project.glob("results/**/*.parquet") if path != target}
    kept = target.read_bytes()
    target.unlink()
    log = project / "logs/cpu/generate/tiny/sdpa/measure.log"
    log.unlink()
    running = subprocess.Popen(
        ["./speedgrid", "run", "--study", STUDY, str(target.relative_to(project))], cwd=project, start_new_session=True
    )
    try:
        while running.poll() is None and not log.exists():
            pass
        assert running.poll() is None, "the run ended before it could be interrupted"
    finally:
        subprocess.run(["pkill", "-KILL", "-s", str(running.pid)])
        running.wait()
    assert not target.exists()
    assert {path: path.read_bytes() for path in before} == before
    target.write_bytes(kept)


IMPORTED = """
import json, sys
from types import SimpleNamespace
from speedgrid.engines import engine_class
engine_class("transformers").import_packages(SimpleNamespace(threads=1))
before = set(sys.modules)
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig, LlamaForCausalLM
print(json.dumps([len(before), len(set(sys.modules) - before)]))
"""


def test_what_loading_takes_holds_no_import_of_the_engine(project):
    """transformers imports itself piece by piece: two thirds of it were imported while a checkpoint was loaded, and counted as that."""
    environ = os.environ | {"PYTHONPATH": str(project / "scripts")}
    done = subprocess.run([working_copy.python_of("transformers"), "-c", IMPORTED], env=environ, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    before, after = json.loads(done.stdout.splitlines()[-1])
    assert after < 0.1 * before, "modules that are imported when a checkpoint is loaded"


def test_the_code_that_is_printed_runs(project):
    """As a reader would run it, in the environment of its technique; tests/gpu/run_recipes.py does so with all of them on a GPU."""
    techniques = ["baseline", "torch_compile_loop", "bnb_nf4", "gradient_checkpointing", "torch_bf16_autocast"]
    script = [working_copy.python_of("transformers"), project / "tests/gpu/run_recipes.py", project / "models/tiny/checkpoint"]
    done = subprocess.run([*script, *techniques, "--device", "cpu", "--dtype", "float32"], capture_output=True, text=True)
    assert (done.returncode, [line.split(" ")[:2] for line in done.stdout.splitlines()]) == (
        0,
        [[f"{name}:", "SEEN"] for name in techniques],
    )


ATTENTION = """
import json, sys, torch
from speedgrid.engines.attention import materialised
torch.compile = lambda function, **told: function  # needs a compiler, and is not what is asked here
for code, settings in json.load(sys.stdin):
    q, k, v = (torch.randn(1, 2, 128, 16, requires_grad=settings["backward"]) for _ in range(3))
    known = {"q": q, "k": k, "v": v, "upstream": torch.randn(1, 2, 128, 16)}
    exec(code, known)
    torch.testing.assert_close(known["out"], materialised(q, k, v, settings["causal"]))
    assert (v.grad is not None) == settings["backward"]
    print("as measured")
"""


def test_the_code_of_attention_that_is_shown_computes_what_is_measured(project):
    """With a mask and without, forward and backward. (FlexAttention has no backward pass on a CPU.)"""
    registry = planning.read_yaml("techniques.yaml")
    codes = [
        (recipes.code(name, registry, "float32", "cpu", "attention", "pass", settings=settings), settings)
        for name in ("attention_materialised", "attention_math", "attention_flex")
        for causal in (True, False)
        for backward in ([False] if name == "attention_flex" else [True, False])
        for settings in [{"causal": causal, "backward": backward}]
    ]
    environ = os.environ | {"PYTHONPATH": str(project / "scripts")}
    command = [working_copy.python_of("transformers"), "-c", ATTENTION]
    done = subprocess.run(command, input=json.dumps(codes), env=environ, capture_output=True, text=True)
    assert (done.returncode, done.stdout.splitlines()) == (0, ["as measured"] * 10), done.stderr
