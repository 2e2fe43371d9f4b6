"""What is said of quality before all techniques of a group have answered is what the job that scores them will say."""

import json
import math
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import records_factory as made
from hypothesis import given, settings
from hypothesis import strategies as st
from speedgrid import records, standing
from speedgrid.report import advice, answer, collect, early_scores, quality, tables
from speedgrid.report.advised import Guide
from speedgrid.schema import EVALUATE, GROUP, NOT_RUN, SCORE

SCRIPT = Path(__file__).resolve().parents[2] / "scripts/score.py"
NAMES = ("baseline", "close", "worse")
MORE = dict(zip(NAMES, (0.0, 0.0001, 0.08), strict=True))


def answers(more: float, windows: int = 60) -> list[dict]:
    """Answers of a technique that finds every stretch of held-out text this much more surprising than the baseline, and as unlike it."""
    rng = random.Random(1)
    nats = [rng.uniform(1.0, 3.0) * (1 + more) for _ in range(windows)]
    document = {"kind": "document", "bytes": 40 * windows, "nats": sum(nats), "window_nats": nats, "window_tokens": [8] * windows}
    away = [{"kind": "sequence", "divergence": [more * rng.random() for _ in range(8)], "agrees": [1] * 8} for _ in range(4)]
    return [{"status": "ok", "reason": "", **row} for row in (document, *away)]


class Group:
    """A group of three techniques that were measured and have answered, which nobody has scored."""

    def __init__(self, folder: Path, tasks: tuple = ("cloze",)):
        self.plan = made.write_group(folder, [replace(made.DEFAULT_CELLS[0], technique=name, label=name) for name in NAMES])
        self.path = Path(self.plan[0]["score"])
        self.path.unlink()
        self.answers = {cell["technique"]: Path(cell["folder"], "evaluate.parquet") for cell in self.plan}
        for name in NAMES:
            self.answer(name)
        self.tasks = tasks

    def answer(self, name: str, **facts: str) -> None:
        path = self.answers[name]
        records.write(path, EVALUATE, answers(MORE[name]), records.read(path, EVALUATE).facts | facts)

    def asked(self, names: tuple = NAMES) -> dict:
        entries = [{"technique": name, "evaluate": str(self.answers[name]), "is_baseline": name == "baseline"} for name in names]
        told = {"seed": 1, "device": {"device": "cpu"}, "requires": [], "threads": 1, "requests": "", "techniques": entries}
        tasks = [{"task": task} for task in self.tasks]
        return made.JOB | {axis: self.plan[0][axis] for axis in GROUP} | told | {"evaluate": {"text": "some/where.txt", "tasks": tasks}}

    def jobs(self) -> made.Jobs:
        of_answers = {str(path): made.JOB | {"evaluate": made.EVALUATED} for path in self.answers.values()}
        return made.Jobs({str(self.path): self.asked()} | of_answers)

    def cells(self) -> list:
        jobs = self.jobs()
        shared: dict = {}
        return collect.with_early_scores([collect.read_cell(cell, jobs, {}, shared) for cell in self.plan], jobs)

    def summary(self) -> dict[str, dict]:
        return {row["technique"]: row for row in tables.summary_rows(self.cells())}

    def shown(self) -> list[dict]:
        """The rows of its scores that a page shows."""
        answered = {name for name, row in self.summary().items() if row["quality_status"] != NOT_RUN}
        return collect.scores_shown(str(self.path), self.jobs(), answered)

    def score(self, names: tuple = NAMES) -> list[dict]:
        """Run the job that scores it."""
        command = [sys.executable, str(SCRIPT), "--job", json.dumps(self.asked(names)), "--out", str(self.path)]
        done = subprocess.run(command, capture_output=True, text=True)
        assert done.returncode == 0, done.stdout + done.stderr
        return records.read(self.path, SCORE).rows


@pytest.fixture
def group(tmp_path) -> Group:
    return Group(tmp_path)


def figures(rows: list[dict]) -> dict:
    return {(row["technique"], row["metric"]): row for row in rows if row["metric"]}


def told(row: dict) -> tuple:
    return tuple(row[name] for name in ("quality_loss", "quality_loss_low", "quality_loss_high", "quality_verdict", "kl_divergence"))


def test_it_is_what_the_job_that_scores_the_group_says(tmp_path):
    group = Group(tmp_path, tasks=())
    early, told_early = group.shown(), {name: told(row) for name, row in group.summary().items()}
    assert figures(early) == figures(group.score())
    assert {name: told(row) for name, row in group.summary().items()} == told_early
    assert {name: row[3] for name, row in told_early.items()} == {"baseline": None, "close": "no measurable loss", "worse": "loss"}
    assert told_early["worse"][0] == pytest.approx(0.08)


def test_what_cannot_be_scored_is_what_that_job_says_too(tmp_path):
    group = Group(tmp_path, tasks=())
    group.answer("close", text_reason="the tokenizer loses text", distance_reason="vLLM gives no probabilities")
    path = group.answers["worse"]
    rows = [row | {"status": "wrong_result", "reason": "it is another model"} for row in answers(0.08)]
    records.write(path, EVALUATE, rows, records.read(path, EVALUATE).facts)
    read = {name: records.read(path, EVALUATE) for name, path in group.answers.items()}
    assert early_scores.rows(group.asked(), read, ()) == group.score()
    assert not any(row["technique"] == "worse" and row["metric"] for row in group.shown())


def test_what_has_not_answered_takes_nothing_away_from_what_has(group):
    whole = figures(group.shown())
    group.answers["close"].unlink()
    assert figures(group.shown()) == {key: row for key, row in whole.items() if key[0] != "close"}


def test_a_technique_that_came_after_the_scores_is_told_beside_them(tmp_path):
    group = Group(tmp_path, tasks=())
    scored = figures(group.score(("baseline", "close")))
    group.tasks = ("cloze",)
    path = group.path
    asked = group.asked(("baseline", "close"))
    records.write(path, SCORE, list(scored.values()), records.read(path, SCORE).facts | {"job": json.dumps(asked)})
    rows = group.shown()
    assert {key: row for key, row in figures(rows).items() if key[0] != "worse"} == scored
    assert group.summary()["worse"]["quality_verdict"] == "loss"
    awaited = [row for row in rows if row["status"] == NOT_RUN]
    assert [(row["technique"], row["task"], row["reason"]) for row in awaited] == [("worse", "cloze", standing.AWAITED)]
    assert [row["status"] for row in tables.run_rows(group.cells()) if row["stage"] == "score"] == ["ok"]


@pytest.mark.parametrize("fault", ["failed", "another task", "answered anew", "baseline answered anew"])
def test_scores_that_do_not_stand_leave_what_is_known_of_held_out_text(tmp_path, fault):
    group = Group(tmp_path, tasks=())
    wanted = {name: told(row) for name, row in group.summary().items()}
    group.score()
    facts = records.read(group.path, SCORE).facts
    if fault == "failed":
        group.path.unlink()
        records.write(records.failed(group.path), SCORE, [{"status": "failed", "reason": "a bug"}], facts)
    elif fault == "another task":
        group.tasks = ("cloze",)
    else:
        group.answer("baseline" if "baseline" in fault else "worse", ended_at="2025-03-01T11:00:00+00:00")
    assert {name: told(row) for name, row in group.summary().items()} == wanted
    assert set(figures(group.shown())) == {(name, metric) for name in NAMES for metric in quality.NAMES}


def test_answers_of_other_weights_are_held_against_nothing(group):
    """The model was made anew, and the baseline has not answered since."""
    record = group.plan[0]["model_record"]
    group.answer("baseline", made_from=json.dumps({record: "the weights of before"}))
    rows = group.summary()
    assert rows["baseline"]["outdated"] == standing.WEIGHTS
    assert rows["baseline"]["bits_per_byte"] is None
    assert (rows["worse"]["bits_per_byte"] is not None, rows["worse"]["quality_loss"]) == (True, None)
    assert {row["loss"] for row in group.shown()} == {None}
    assert [row["task"] for row in group.shown() if row["reason"] == standing.BASELINE_AWAITED] == ["held_out"]


def test_a_baseline_that_could_not_answer_is_not_awaited(group):
    path = group.answers["baseline"]
    records.write(path, EVALUATE, [{"status": "oom", "reason": "no memory"}], records.read(path, EVALUATE).facts)
    rows = group.shown()
    assert not any(row["reason"] == standing.BASELINE_AWAITED for row in rows)
    assert [row["status"] for row in rows if row["technique"] == "baseline"] == ["oom"]
    assert {row["loss"] for row in rows} == {None}


def test_tasks_are_said_to_be_awaited_once_while_none_is_scored(group):
    awaited = [row for row in group.shown() if row["status"] == NOT_RUN and row["task"]]
    assert [(row["technique"], row["task"], row["reason"]) for row in awaited] == [(None, "cloze", standing.AWAITED)]
    assert early_scores.rows(group.asked(), {}, ()) == []


def test_what_keeps_the_arithmetic_leads_before_it_has_answered_as_after(tmp_path):
    """It has no price while the techniques before it answer, and the answer does not turn over and back."""
    plan = made.write_group(tmp_path, [cell for cell in made.DEFAULT_CELLS if cell.technique in ("baseline", "torch_compile", "bnb_int8")])
    path = Path(next(cell["folder"] for cell in plan if cell["technique"] == "torch_compile"), "evaluate.parquet")

    def told() -> tuple:
        rows = tables.summary_rows([collect.read_cell(cell, made.JOBS) for cell in plan])
        guide = Guide(rows)
        (group,) = tables.groups(rows, [])
        return guide.advise(advice.FASTEST).choice, guide.qualities["torch_compile"].kind, answer.answer(group).headline

    after = told()
    path.unlink()
    before = told()
    assert (after[0], after[1], before[0], before[1]) == ("torch_compile", "kept", "torch_compile", "assumed")
    assert "measurable loss" not in before[2]


def test_early_scores_of_results_that_were_moved(group, tmp_path):
    whole = group.shown()
    moved = tmp_path / "moved"
    (tmp_path / "results").rename(moved)
    at = lambda name: name.replace(str(tmp_path / "results"), str(moved))  # noqa: E731
    assert collect.scores_shown(str(group.path), group.jobs(), NAMES, at) == whole


@given(bad=st.sampled_from([math.nan, math.inf]), place=st.integers(0, 59), more=st.floats(0, 0.5))
@settings(max_examples=20, deadline=None)
def test_what_is_no_number_is_not_scored_and_takes_nothing_away(bad, place, more):
    broken = answers(more)
    broken[0]["window_nats"][place] = bad
    read = {"baseline": records.Record(answers(0.0), {}), "close": records.Record(answers(more), {}), "worse": records.Record(broken, {})}
    entries = [{"technique": name, "evaluate": "", "is_baseline": name == "baseline"} for name in NAMES]
    asked = dict.fromkeys(GROUP, "x") | {"techniques": entries, "evaluate": {"text": "stdlib", "tasks": []}}
    rows = early_scores.rows(asked, read, ())
    assert [row["status"] for row in rows if row["technique"] == "worse"] == ["not_finite"]
    assert not any(row["status"] == NOT_RUN for row in rows)
    del read["worse"]
    assert [row for row in rows if row["technique"] != "worse"] == early_scores.rows(asked, read, ())
