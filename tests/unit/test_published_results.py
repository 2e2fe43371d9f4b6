"""The results that the repository shows: readable by today's code, and the same in docs/results/README.md and in README.md's picture."""

import re
from datetime import datetime
from pathlib import Path
from statistics import median

import pytest
import share_charts_code as sharing
from speedgrid import planning, records
from speedgrid.report.page import script_source
from speedgrid.report.tables import held
from speedgrid.schema import AXES, MEASURED, POINTS, RUNS, SUMMARY

RESULTS = planning.ROOT / "docs" / "results"
FOLDERS = sorted(path.parent for path in RESULTS.glob("*/*/summary.parquet"))


def table_of(folder: Path, experiment: str = "") -> list[list[str]]:
    """The rows of the table under the paragraph that links a folder's page, or that names an experiment of it, without its head."""
    text = (RESULTS / "README.md").read_text(encoding="utf-8")
    below = text.partition(f"{folder.relative_to(RESULTS)}/report.html")[2]
    below = below.partition(f"`{experiment}`")[2] if experiment else below
    lines = below.partition("\n|")[2].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def head_of(folder: Path) -> list[str]:
    """The head of the first table under the paragraph that links a folder's page."""
    below = (RESULTS / "README.md").read_text(encoding="utf-8").partition(f"{folder.relative_to(RESULTS)}/report.html")[2]
    return [cell.strip() for cell in below.partition("\n|")[2].partition("\n")[0].strip("|").split("|")]


# What a column after the first four holds, as it is written.
OTHERS = {
    "first token": lambda row: f"{1000 * row['ttft_s']:.0f} ms",
    "cold start": lambda row: f"{row['cold_start_s']:.0f} s",
    "prefill, token/s": lambda row: f"{row['prefill_tokens_per_s']:,.0f}",
    "decoding, token/s": lambda row: f"{row['decode_tokens_per_s']:.1f}",
    "peak memory": lambda row: f"{row['memory_peak'] / 2**30:.1f} GiB",
    "bits per byte": lambda row: "not asked" if row["quality_status"] == "not_run" else f"{row['bits_per_byte']:.4f}",
    "KL divergence": lambda row: "not asked" if row["quality_status"] == "not_run" else f"{row['kl_divergence']:.4f}",
    "cloze": lambda row: f"{100 * row['accuracy']:.0f} %",
}


def test_the_times_by_length_are_those_of_the_points():
    folder = RESULTS / "h100" / "attention-gpu"
    points = {(row["technique"], row["point"]): row for row in records.read(folder / "points.parquet", POINTS).rows}
    below = (RESULTS / "README.md").read_text(encoding="utf-8").partition("Time of a pass by length")[2]
    lines = [line.strip("|").split("|") for line in below.partition("\n|")[2].partition("\n\n")[0].splitlines()]
    names = {"cuDNN": "cudnn", "flash": "flash", "FlexAttention, compiled": "flex", "materialised": "materialised"}
    assert len(lines[2:]) == len(names) == len(points) / 3
    for name, *cells in lines[2:]:
        of = [points[f"attention_{names[name.strip()]}", length] for length in (512, 2048, 4096)]
        wanted = [f"{1000 * row['time_s']:.3f} ms" for row in of] + [f"{of[-1]['flop_per_s'] / 1e12:.0f} TFLOP/s"]
        assert [cell.strip() for cell in cells] == wanted


def test_the_rates_up_to_the_end_of_memory_are_those_of_the_points():
    points = {(row["technique"], row["point"]): row for row in records.read(RESULTS / "h200/attention-reach/points.parquet", POINTS).rows}
    below = (RESULTS / "README.md").read_text(encoding="utf-8").partition("The rates by length")[2]
    head, _, *lines = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in below.partition("\n|")[2].partition("\n\n")[0].splitlines()
    ]
    lengths = [int(re.sub(r"\D", "", cell)) for cell in head[1:]]
    names = {"cuDNN": "attention_cudnn", "flash": "attention_flash", "materialised": "attention_materialised"}
    for name, *cells in lines:
        for length, cell in zip(lengths, cells, strict=True):
            point = points.get((names[name], length))
            if point is None or point["status"] == "oom":
                assert cell == ("out of memory" if point else ""), (name, length)
            else:
                assert cell.removesuffix(" TFLOP/s") == f"{point['flop_per_s'] / 1e12:.0f}", (name, length)
    assert [name for name, *_ in lines] == list(names)


def test_there_are_results_of_a_gpu():
    assert FOLDERS, "docs/results holds no summary.parquet"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_the_tables_have_the_figures_of_the_summary(folder):
    rows = records.read(folder / "summary.parquet", SUMMARY).rows
    experiments = {row["experiment"] for row in rows}
    for experiment in experiments:
        measured = sorted((row for row in rows if row["experiment"] == experiment and row["rate"]), key=lambda row: -row["rate"])
        table = table_of(folder, experiment if len(experiments) > 1 else "")
        assert [cells[1].replace(",", "") for cells in table] == [f"{row['rate']:.1f}" for row in measured]
        for (name, _, speedup, share, *others), row in zip(table, measured, strict=True):
            assert share == (f"{100 * row['mbu']:.0f} %" if "%" in share else f"{row['memory_peak'] / 2**30:.1f} GiB"), name
            numbers = [float(number) for number in re.findall(r"\d+(?:\.\d+)?", speedup)]
            wanted = [1.0] if row["is_baseline"] else [row["speedup"], row["speedup_low"], row["speedup_high"]]
            assert numbers == pytest.approx(wanted, rel=0.015), name
            assert ("open" in speedup) == (row["verdict"] == "unsure"), name
            for head, cell in zip(head_of(folder)[4:], others, strict=True):
                assert cell == OTHERS[head](row), (name, head)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_the_study_of_a_result_is_there_and_its_page_names_no_other_place(folder):
    study = f"studies/{folder.name}.yaml"
    assert (planning.ROOT / study).is_file()
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert study in page
    assert not re.search(r"/(tmp|home|root)/\w", page)


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_a_page_loads_the_code_of_its_charts_and_has_no_copy(folder):
    """`tools/share_charts_code.py` writes both; of an older or newer Vega each is another file."""
    page = (folder / "report.html").read_bytes().decode()
    (source,) = re.findall(r'<script src="([^"]+)"></script>', page)
    shared = (folder / source).resolve()
    assert shared.is_relative_to(RESULTS)
    code = shared.read_text(encoding="utf-8")
    assert "window.vegaEmbed=" in code
    assert "window.vegaEmbed=" not in page
    assert sharing.in_page(script_source(code)) in page, "the page was written with this very code"
    assert sharing.share(shared, [folder / "report.html"]) == [], "what the tool would do is done"


@pytest.mark.parametrize("folder", sorted(path for path in RESULTS.iterdir() if path.is_dir()), ids=lambda path: path.name)
def test_the_results_of_a_gpu_stay_small_enough_to_clone(folder):
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 20e6


@pytest.mark.parametrize("folder", [path for path in FOLDERS if (path / "runs.parquet").is_file()], ids=lambda path: path.name)
def test_what_a_result_ran_on_is_of_the_same_runs(folder):
    """By it `compare` says which differences are other software."""
    runs = [row for row in records.read(folder / "runs.parquet", RUNS).rows if row["stage"] == "measure"]
    assert not re.search(r"/(tmp|home|root)/\w", " ".join(run["job"] for run in runs))
    for row in records.read(folder / "summary.parquet", SUMMARY).rows:
        own = [run for run in runs if all(run[axis] == row[axis] for axis in AXES) and run["status"] in MEASURED]
        took = [(datetime.fromisoformat(run["ended_at"]) - datetime.fromisoformat(run["started_at"])).total_seconds() for run in own]
        if row["runs"]:
            where = f"{folder}/runs.parquet is of other runs than summary.parquet: {row['technique']}"
            assert (len(own), median(took or [0.0])) == (row["runs"], pytest.approx(row["run_s"])), where
            assert all(run["packages"] for run in own)


def test_the_peaks_that_loading_would_raise_are_those_that_the_readme_tells_of():
    """Its tables and pages have those of the counted replies (CHANGELOG, `memory_peak`)."""
    rows = [row for folder in FOLDERS for row in records.read(folder / "summary.parquet", SUMMARY).rows if row["memory_peak"]]
    raised = sorted(
        (f"{held(row) / 2**30:.2f}", f"{row['memory_peak'] / 2**30:.2f}") for row in rows if held(row) - row["memory_peak"] > 0.011 * 2**30
    )
    told = (RESULTS / "README.md").read_text(encoding="utf-8").partition("Of these runs that is ")[2].partition("\n\n")[0]
    assert sorted(re.findall(r"([\d.]+) in the place of ([\d.]+)", told)) == raised
    assert raised


def test_the_readme_shows_the_figures_of_the_published_table():
    """Its first table, whose picture is the page of the same results."""
    readme = (planning.ROOT / "README.md").read_text(encoding="utf-8")
    assert "docs/results/h200/engines-8b/page.png" in readme
    shown = [line.strip("|").split("|") for line in readme.partition("\n|")[2].partition("\n\n")[0].splitlines()[2:]]
    assert [[cell.strip() for cell in row[1:]] for row in shown] == [row[1:4] for row in table_of(RESULTS / "h200" / "engines-8b")]


def test_what_to_take_in_short_has_the_figures_of_the_summaries():
    """Rates of one table each, and how long starts took in all of them."""
    text = (RESULTS / "README.md").read_text(encoding="utf-8").partition("## In short")[2].partition("\n## ")[0]
    text = " ".join(text.split())
    summaries = {folder: records.read(folder / "summary.parquet", SUMMARY).rows for folder in FOLDERS}

    def figure(study: str, technique: str, column: str = "rate") -> str:
        (value,) = (row[column] for row in summaries[RESULTS / "h200" / study] if row["technique"] == technique)
        return f"{value:.1f}" if column == "speedup" else f"{value:.0f}"

    def starts(column: str, value: str) -> str:
        took = [row["cold_start_s"] for rows in summaries.values() for row in rows if row[column] == value and row["cold_start_s"]]
        return f"{min(took):.0f} to {max(took):.0f} s"

    real = "smollm2-gpu"

    def lost(study: str, technique: str, digits: int = 2) -> str:
        (value,) = (row["quality_loss"] for row in summaries[RESULTS / "h200" / study] if row["technique"] == technique)
        return f"{100 * value:.{digits}g} %"

    for told in (
        f"lost {lost(real, 'gguf_q8_0', 1)} with Q8_0 in llama.cpp, {lost(real, 'bnb_int8', 1)} with INT8 by bitsandbytes",
        f"{lost(real, 'torchao_int4_g64').removesuffix(' %')} to {lost(real, 'bnb_nf4')} with 4 bits by torchao or bitsandbytes",
        f"{lost(real, 'prune_30')} pruned by 30 %. A model",
        f"{lost('trained-gpu', 'vllm_awq_int4')} with AWQ, {lost('trained-gpu', 'prune_30')} pruned by 30 %",
        f"{lost('trained-gpu', 'distill_small')} distilled to 40 %",
        f"vLLM**, {figure('engines-8b', 'vllm')} token/s",
        f"makes {figure('engines-8b', 'torch_compile_loop')} at 8 B",
        f"starts sooner: {starts('technique', 'torch_compile_loop')}, vLLM {starts('engine', 'vllm')}",
        f"FP8 in vLLM ({figure('engines-8b', 'vllm_fp8')} token/s)",
        f"llama.cpp ({figure('engines-8b', 'gguf_q4_k_m')}, a third of the memory, starts in {starts('engine', 'llamacpp')})",
        f"({figure('table-1b', 'gguf_q4_k_m')} token/s beside {figure('table-1b', 'torch_compile_loop')} by the loop)",
        f"gains {figure('resnet-gpu', 'torch_bf16_autocast_channels_last', 'speedup')} times by bfloat16 and channels last over TF32",
        f"and {figure('resnet-gpu', 'torch_bf16_autocast_channels_last_compile', 'speedup')} times compiled",
    ):
        assert told in text
