"""The results that the repository shows: readable by today's code, and the same in docs/results/README.md and in README.md's picture."""

import re
from datetime import datetime
from pathlib import Path
from statistics import median

import pytest
from speedgrid import planning, records
from speedgrid.schema import AXES, MEASURED, RUNS, SUMMARY

RESULTS = planning.ROOT / "docs" / "results"
FOLDERS = sorted(path.parent for path in RESULTS.glob("*/*/summary.parquet"))


def table_of(folder: Path, experiment: str = "") -> list[list[str]]:
    """The rows of the table under the paragraph that links a folder's page, or that names an experiment of it, without its head."""
    text = (RESULTS / "README.md").read_text(encoding="utf-8")
    below = text.partition(f"{folder.relative_to(RESULTS)}/report.html")[2]
    below = below.partition(f"`{experiment}`")[2] if experiment else below
    lines = below.partition("\n|")[2].partition("\n\n")[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_there_are_results_of_a_gpu():
    assert FOLDERS, "docs/results holds no summary.parquet"


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_the_tables_have_the_figures_of_the_summary(folder):
    rows = records.read(folder / "summary.parquet", SUMMARY).rows
    experiments = {row["experiment"] for row in rows}
    for experiment in experiments:
        measured = sorted((row for row in rows if row["experiment"] == experiment), key=lambda row: -row["rate"])
        table = table_of(folder, experiment if len(experiments) > 1 else "")
        assert [cells[1].replace(",", "") for cells in table] == [f"{row['rate']:.1f}" for row in measured]
        for (name, _, speedup, share), row in zip(table, measured, strict=True):
            assert share == (f"{100 * row['mbu']:.0f} %" if "%" in share else f"{row['memory_peak'] / 2**30:.1f} GiB"), name
            numbers = [float(number) for number in re.findall(r"\d+(?:\.\d+)?", speedup)]
            wanted = [1.0] if row["is_baseline"] else [row["speedup"], row["speedup_low"], row["speedup_high"]]
            assert numbers == pytest.approx(wanted, rel=0.015), name
            assert ("open" in speedup) == (row["verdict"] == "unsure"), name


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda path: path.name)
def test_the_study_of_a_result_is_there_and_its_page_names_no_other_place(folder):
    study = f"studies/{folder.name}.yaml"
    assert (planning.ROOT / study).is_file()
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert study in page
    assert not re.search(r"/(tmp|home|root)/\w", page)


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


def test_the_readme_shows_the_figures_of_the_published_table():
    """Its first table, whose picture is the page of the same results."""
    readme = (planning.ROOT / "README.md").read_text(encoding="utf-8")
    assert "docs/results/h200/decode-8b/page.png" in readme
    shown = [line.strip("|").split("|") for line in readme.partition("\n|")[2].partition("\n\n")[0].splitlines()[2:]]
    assert [[cell.strip() for cell in row[1:]] for row in shown] == [row[1:] for row in table_of(RESULTS / "h200" / "decode-8b")]
