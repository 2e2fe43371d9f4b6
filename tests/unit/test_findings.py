"""docs/results/findings.md: every figure of a table is that of a published summary, or one that the studies have published."""

import csv
import re
from pathlib import Path

import pytest
from speedgrid import planning, records
from speedgrid.schema import POINTS, SUMMARY

RESULTS = planning.ROOT / "docs" / "results"
TEXT = (RESULTS / "findings.md").read_text(encoding="utf-8")
# Before each table: which published study, and which results of ours, its figures are of.
MARK = re.compile(r"<!-- published: ([\w-]*); here: ([\w./-]+), ([\w-]+) -->\n\n(\|.*?)\n(?:\n|\Z)", re.DOTALL)
FIGURE = re.compile(r"[−-]?\d[\d,]*(?:\.\d+)?")
# Of a published study the column that its speed is in, the first that is there.
SPEEDS = ("rate", "tokens_per_s", "decode_tokens_per_s", "latency_mean_s")


def tables() -> list[tuple[str, Path, str, list[dict[str, str]]]]:
    """Every table: the published study, the folder and the experiment of ours, and its rows by the heads of the columns."""
    found = []
    for study, folder, experiment, text in MARK.findall(TEXT):
        lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines()]
        rows = [dict(zip(lines[0], line, strict=True)) for line in lines[2:]]
        found.append((study, RESULTS / folder, experiment, rows))
    return found


def names(row: dict[str, str]) -> tuple[str, str]:
    """The technique in the published study and in ours, which may have another name, and stands last."""
    code = re.findall(r"`([^`]+)`", next(iter(row.values())))
    return code[0], code[-1]


def size(row: dict[str, str]) -> int | None:
    """The length that a row is of, where it is of one."""
    found = re.search(r" at ([\d,]+)", next(iter(row.values())))
    return int(found[1].replace(",", "")) if found else None


def is_rounded(text: str, value: float) -> bool:
    """Whether a figure is a value, to the digits that it has."""
    number = text.replace(",", "").replace("−", "-")
    decimals = len(number.partition(".")[2])
    return abs(float(number) - value) <= 0.5001 * 10**-decimals


def published() -> dict[tuple[str, str, int | None], dict[str, float]]:
    found: dict[tuple[str, str, int | None], dict[str, float]] = {}
    with open(planning.ROOT / "report" / "published.csv", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            key = (row["study"], row["technique"], int(row["point"]) if row["point"] else None)
            found.setdefault(key, {})[row["column"]] = float(row["value"])
    return found


def gain(own: dict, baseline: dict, columns=SPEEDS) -> float:
    """How many times faster; of times that is the other way round."""
    column = next(name for name in columns if own.get(name) is not None and baseline.get(name) is not None)
    return baseline[column] / own[column] if column.endswith("_s") and not column.endswith("per_s") else own[column] / baseline[column]


TABLES = tables()
CELLS = [
    pytest.param(*table[:3], row, id=f"{table[1].name}-{table[2]}-{names(row)[-1]}-{size(row) or ''}")
    for table in TABLES
    for row in table[3]
]


def test_there_are_tables_of_all_three_studies():
    assert len(TABLES) >= 3
    assert "TODO" not in TEXT
    for head in ("## S1", "## S2", "## S3"):
        assert head in TEXT


@pytest.mark.parametrize(("study", "folder", "experiment", "row"), CELLS)
def test_what_others_published_is_what_they_published(study, folder, experiment, row):
    figures, name, at = published(), names(row)[0], size(row)
    first = next((technique for one, technique, _ in figures if one == study), "")
    assert bool(first) == bool(study), f"report/published.csv has nothing of {study}"
    for head, text in list(row.items())[1:]:
        if "published" not in head or text in ("", "–"):
            continue
        own, baseline = figures[(study, name, at)], figures[(study, first, at)]
        (number, *_) = FIGURE.findall(text)
        if "memory" in head:
            column = "memory_more" if "memory_more" in own else "memory_peak"
            assert is_rounded(number, 100 * (own[column] / baseline[column] - 1)), head
        else:
            assert is_rounded(number, gain(own, baseline)), head


@pytest.mark.parametrize(("study", "folder", "experiment", "row"), CELLS)
def test_our_figures_are_those_of_the_published_results(study, folder, experiment, row):
    assert folder.is_dir(), f"{folder.relative_to(RESULTS)} is not published"
    technique, at = names(row)[-1], size(row)
    table, file = (SUMMARY, "summary.parquet") if at is None else (POINTS, "points.parquet")
    cells = [one for one in records.read(folder / file, table).rows if one["experiment"] == experiment]
    cells = [one for one in cells if at is None or one["point"] == at]
    own = next(one for one in cells if one["technique"] == technique)
    baseline = next(one for one in cells if one["is_baseline"])
    for head, text in list(row.items())[1:]:
        if "here" not in head or text in ("", "–"):
            continue
        numbers = FIGURE.findall(text)
        if "memory" in head:
            column = "memory_more" if at is not None else "memory_peak"
            assert own.get("memory_source") == baseline.get("memory_source"), "memory of two sources is not compared"
            assert is_rounded(numbers[0], 100 * (own[column] / baseline[column] - 1)), head
        elif "prefill" in head or "decode" in head:
            column = "prefill_tokens_per_s" if "prefill" in head else "decode_tokens_per_s"
            assert is_rounded(numbers[0], own[column] / baseline[column]), head
        elif "token/s" in head:
            assert is_rounded(numbers[0], own["rate"]), head
        else:
            wanted = [1.0] if own["is_baseline"] else [own["speedup"], own.get("speedup_low"), own.get("speedup_high")]
            assert all(is_rounded(number, value) for number, value in zip(numbers, wanted, strict=False) if value is not None), head
            assert ("open" in text) == (own.get("verdict") == "unsure"), head
