"""What is said of quality before all techniques of a group have answered is what the job that scores them will say."""

import json
import math
import random
import subprocess
import sys
from pathlib import Path

import pytest
import records_factory as made
from hypothesis import given, settings
from hypothesis import strategies as st
from speedgrid import records
from speedgrid.report import collect, early_scores, tables
from speedgrid.schema import EVALUATE, NOT_RUN, SCORE

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/score.py"
GROUP = {"gpu": "local", "experiment": "generate", "model": "m"}
NAMES = ("baseline", "close", "worse")


def answers(more: float, seed: int = 1, windows: int = 60) -> list[dict]:
    """Answers on held-out text of a technique that finds every stretch this much more surprising than the baseline, and as unlike it."""
    rng = random.Random(seed)
    nats = [rng.uniform(1.0, 3.0) * (1 + more) for _ in range(windows)]
    document = {"kind": "document", "bytes": 40 * windows, "nats": sum(nats), "window_nats": nats, "window_tokens": [8] * windows}
    away = [{"kind": "sequence", "divergence": [more * rng.random() for _ in range(8)], "agrees": [1] * 8} for _ in range(4)]
    return [{**GROUP, "status": "ok", **row} for row in (document, *away)]


def write(folder: Path, rows: list[dict], made_from: str = "{}") -> str:
    folder.mkdir(parents=True, exist_ok=True)
    told = json.dumps(made.JOB | GROUP | {"technique": folder.name})
    records.write(folder / "evaluate.parquet", EVALUATE, rows, {"job": told, "made_from": made_from})
    return str(folder / "evaluate.parquet")


def asked(paths: dict[str, str], tasks: tuple = ()) -> dict:
    techniques = [{"technique": name, "evaluate": path, "is_baseline": name == "baseline"} for name, path in paths.items()]
    told = {**GROUP, "seed": 1, "device": {"device": "cpu"}, "requires": [], "threads": 1, "requests": "", "techniques": techniques}
    return told | {"evaluate": {"text": "some/where.txt", "tasks": [{"task": task} for task in tasks]}}


def found(path: Path, told: dict) -> list[dict]:
    jobs = {str(path): told} | {one["evaluate"]: made.JOB | GROUP | {"technique": one["technique"]} for one in told["techniques"]}
    return [row for row in collect.find_score(str(path), jobs, {}).rows if row["metric"]]


def by_name(rows: list[dict]) -> dict:
    return {(row["technique"], row["metric"]): {name: value for name, value in row.items() if name != "reason"} for row in rows}


@pytest.fixture
def group(tmp_path, monkeypatch) -> dict[str, str]:
    monkeypatch.chdir(tmp_path)
    return {name: write(tmp_path / name, answers(more)) for name, more in zip(NAMES, (0.0, 0.0001, 0.08), strict=True)}


def test_it_is_what_the_job_that_scores_the_group_says(tmp_path, group):
    told = asked(group)
    early = found(tmp_path / "none.parquet", told)
    done = subprocess.run(
        [sys.executable, str(SCRIPT), "--job", json.dumps(told), "--out", str(tmp_path / "score.parquet")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert by_name(early) == by_name(records.read(tmp_path / "score.parquet", SCORE).rows)
    verdicts = {row["technique"]: row["verdict"] for row in early if row["metric"] == "bits_per_byte"}
    assert verdicts == {"baseline": None, "close": "no measurable loss", "worse": "loss"}
    assert next(row["loss"] for row in early if (row["technique"], row["metric"]) == ("worse", "bits_per_byte")) == pytest.approx(0.08)


def test_what_has_not_answered_takes_nothing_away_from_what_has(tmp_path, group):
    whole = by_name(found(tmp_path / "none.parquet", asked(group)))
    Path(group["close"]).unlink()
    assert by_name(found(tmp_path / "none.parquet", asked(group))) == {key: row for key, row in whole.items() if key[0] != "close"}


def test_a_technique_that_came_after_the_scores_is_told_beside_them(tmp_path, group):
    at = tmp_path / "score.parquet"
    scored = asked({name: path for name, path in group.items() if name != "worse"}, ("cloze",))
    accuracy = {**GROUP, "status": "ok", "technique": "close", "task": "cloze", "metric": "acc", "value": 0.5}
    records.write(at, SCORE, [accuracy], {"job": json.dumps(scored)})
    rows = found(at, asked(group, ("cloze",)))
    assert {(row["technique"], row["metric"]) for row in rows if row["technique"] != "worse"} == {("close", "acc")}
    assert by_name(rows)["worse", "bits_per_byte"]["verdict"] == "loss"


def test_tasks_are_said_to_be_awaited(tmp_path, group):
    told = asked(group, ("cloze", "hellaswag"))
    jobs = {str(tmp_path / "none.parquet"): told} | {path: {} for path in group.values()}
    rows = collect.find_score(str(tmp_path / "none.parquet"), jobs, {}).rows
    assert not any(row["metric"] for row in rows)  # answers to other questions than are asked now
    answered = {name: records.read(path, EVALUATE) for name, path in group.items()}
    awaited = [row for row in early_scores.rows(told, answered) if row["status"] == NOT_RUN]
    assert [(row["task"], row["reason"]) for row in awaited] == [(task, early_scores.AWAITED) for task in ("cloze", "hellaswag")]
    assert early_scores.rows(told, {}) == []


def test_nothing_is_held_against_a_baseline_that_is_not_there_or_was_asked_something_else(tmp_path, group):
    def losses() -> set:
        return {row["loss"] for row in found(tmp_path / "none.parquet", asked(group)) if row["technique"] == "worse"}

    assert any(loss is not None for loss in losses())
    write(tmp_path / "baseline", answers(0.0), json.dumps({"results/requests.parquet": "one"}))
    write(tmp_path / "worse", answers(0.08), json.dumps({"results/requests.parquet": "other"}))
    assert losses() == {None}
    write(tmp_path / "worse", answers(0.08), json.dumps({"results/requests.parquet": "one"}))
    assert any(loss is not None for loss in losses())
    Path(group["baseline"]).unlink()
    assert losses() == {None}


@given(bad=st.sampled_from([math.nan, math.inf]), place=st.integers(0, 59), more=st.floats(0, 0.5))
@settings(max_examples=20, deadline=None)
def test_what_is_no_number_is_not_scored_and_takes_nothing_away(bad, place, more):
    fine = {"baseline": answers(0.0), "close": answers(more)}
    broken = answers(more)
    broken[0]["window_nats"][place] = bad
    told = asked(dict.fromkeys(("baseline", "close", "worse"), ""))
    read = {name: records.Record(rows, {}) for name, rows in {**fine, "worse": broken}.items()}
    rows = early_scores.rows(told, read)
    assert {row["technique"] for row in rows} == {"baseline", "close"}
    assert rows == early_scores.rows(told, {name: read[name] for name in fine})


def test_the_summary_has_loss_and_verdict_before_the_group_is_scored(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    plan = made.write_group(tmp_path, list(made.DEFAULT_CELLS[:2]))
    Path(plan[0]["score"]).unlink()
    for cell, more in zip(plan, (0.0, 0.08), strict=True):
        path = f"{cell['folder']}/evaluate.parquet"
        records.write(path, EVALUATE, answers(more), records.read(path, EVALUATE).facts)
    entries = [
        {"technique": one["technique"], "evaluate": f"{one['folder']}/evaluate.parquet", "is_baseline": one["is_baseline"]} for one in plan
    ]
    keys = {axis: plan[0][axis] for axis in GROUP}
    told = made.JOB | keys | {"techniques": entries, "evaluate": {"text": "stdlib", "tasks": [{"task": "cloze"}]}}
    jobs = made.Jobs({plan[0]["score"]: told} | {one["evaluate"]: made.JOB | {"evaluate": made.EVALUATED} for one in entries})
    rows = tables.summary_rows([collect.read_cell(cell, jobs) for cell in plan])
    assert [row["quality_verdict"] for row in rows] == [None, "loss"]
    assert rows[1]["quality_loss"] == pytest.approx(0.08)
    assert [row["outdated"] for row in rows] == ["", ""]
