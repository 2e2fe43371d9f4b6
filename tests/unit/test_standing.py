"""Whether a result stands: Snakemake's plan, estimates, tables and all outputs ask the same, and none shows a figure as that of what was
not measured."""

import json
import os
from pathlib import Path
from types import SimpleNamespace

import advise
import pytest
import records_factory as made
from report_data import quick_parts
from speedgrid import comparison, environments, foreseen, planning, records, standing
from speedgrid.report import collect, language, markdown, page, rendering, tables
from speedgrid.report.answer import answer
from speedgrid.schema import EVALUATE, MEASURE, MODEL, NOT_RUN, REFERENCE, REQUESTS, SCORE, SUMMARY, WARMUP
from speedgrid.study import validate

import studies

BASELINE, SDPA = made.DEFAULT_CELLS[0], made.DEFAULT_CELLS[1]
QUANTIZED = next(cell for cell in made.DEFAULT_CELLS if cell.transform and cell.status == "ok")
CELL = "results/cpu/generate/tiny/baseline"


# Specification, code and environment


@pytest.mark.parametrize(
    ("facts", "wanted", "changed"),
    [
        ({"job": '{"a": {"b": 1}}', "code": "x", "recipe": "r"}, ({"a": {"b": 1}}, "x", "r"), []),
        ({"job": '{"a": {"b": 2}, "c": 3}', "code": "x", "recipe": "r"}, ({"a": {"b": 1}}, "x", "r"), ["a.b", "c"]),
        ({"job": "{}", "code": "y", "recipe": "r"}, ({}, "x", "r"), ["code"]),
        ({"job": "{}", "code": "x", "recipe": "q"}, ({}, "x", "r"), ["environment"]),
        ({"job": "{}", "code": "x", "recipe": "r"}, ({}, "x", ""), ["environment"]),
        # More that is required of the machine changes no figure; less may let run what could not.
        ({"job": '{"requires": ["cuda"]}', "code": "x", "recipe": "r"}, ({"requires": ["nvcc", "cuda"]}, "x", "r"), []),
        ({"job": '{"requires": ["cuda", "nvcc"]}', "code": "x", "recipe": "r"}, ({"requires": ["cuda"]}, "x", "r"), ["requires"]),
        ({"job": '{"a": 1}', "code": "x", "recipe": "r"}, ({"a": 1, "requires": []}, "x", "r"), []),
        # What an older speedgrid wrote does not say its code; and of a plan of before no code is known.
        ({"job": "{}"}, ({}, "x", ""), ["code"]),
        ({"job": "{}"}, ({}, None, None), []),
    ],
)
def test_a_result_stands_where_it_would_be_made_as_it_was(facts, wanted, changed):
    assert standing.changed(facts, standing.Wanted(*wanted)) == changed


RECIPE = """# words
channels: [conda-forge]
dependencies:
  - python=3.11
  - pip
  - pip:
      - torch==2.13.0
      - numpy==2.2.6 # why
"""


@pytest.mark.parametrize(
    ("text", "is_same"),
    [
        (RECIPE.replace("# words", "# other words").replace(" # why", ""), True),
        ("dependencies:\n- pip\n- python=3.11\n- pip: [numpy==2.2.6, torch==2.13.0]\nchannels: [conda-forge]\nname: mine\n", True),
        (RECIPE.replace("2.13.0", "2.13.1"), False),
        (RECIPE.replace("python=3.11", "python=3.12"), False),
        (RECIPE.replace("[conda-forge]", "[defaults]"), False),
        (RECIPE + "      - tqdm==1\n", False),
    ],
)
def test_of_an_environment_file_what_it_asks_for_counts(tmp_path, text, is_same):
    (tmp_path / "a.yaml").write_text(RECIPE)
    (tmp_path / "b.yaml").write_text(text)
    assert (environments.recipe_hash(tmp_path / "a.yaml") == environments.recipe_hash(tmp_path / "b.yaml")) == is_same
    before = environments.recipe_hash(tmp_path / "a.yaml")
    (tmp_path / "a.post-deploy.sh").write_text("make\n")
    assert environments.recipe_hash(tmp_path / "a.yaml") != before
    assert environments.recipe_hash(tmp_path / "none.yaml") == ""


SCRIPT = """#!/usr/bin/env bash
# Builds what the index has no wheel of.
set -euo pipefail

python="$CONDA_PREFIX/bin/python"
jobs="$(awk '
  # cores
  /^MemAvailable/ { print $2 }' /proc/meminfo)"
"$python" -m pip install \\
  --no-deps "$python" # it's the sources
"""
HERE = SCRIPT + "cat > settings.ini <<END\n# a comment of the file\nEND\n"


@pytest.mark.parametrize(
    ("script", "edited", "is_same"),
    [
        (SCRIPT, SCRIPT.replace("# Builds what", "# It builds what"), True),
        (SCRIPT, SCRIPT.replace("set -euo pipefail\n", "set -euo pipefail\n\n  # Don't ask.\n\n"), True),
        (SCRIPT, SCRIPT + "# The end.\n", True),
        (SCRIPT, SCRIPT.replace("--no-deps", "--no-index"), False),
        (SCRIPT, SCRIPT.replace("# cores", "# memory"), False),  # between quotes it is a text, of whatever kind
        (SCRIPT, SCRIPT.replace("install \\\n", "install \\\n# nothing\n"), False),  # in the middle of a command it ends it
        (SCRIPT, SCRIPT.replace("set -euo pipefail\n", "echo \\' '\n# of a text\n'\n"), False),
        (HERE, HERE.replace("# a comment of the file", "# another one"), False),
        (HERE, HERE.replace("# Builds what", "# It builds what"), False),
        (SCRIPT + "echo 'open\n# a\n", SCRIPT + "echo 'open\n# b\n", False),
        (SCRIPT.replace("$2", "$2 # 'x"), SCRIPT.replace("$2", "$2 # 'y"), False),
    ],
)
def test_of_the_script_that_finishes_an_environment_what_it_does_counts(script, edited, is_same):
    assert script != edited
    assert (environments.asked_for(b"", script.encode()) == environments.asked_for(b"", edited.encode())) == is_same


def test_of_the_projects_own_scripts_no_comment_counts():
    """Each could have a text that looks like a comment; then every byte would count."""
    for path in environments.FRONTEND.parent.glob("*.post-deploy.sh"):
        text = path.read_text(encoding="utf-8")
        assert environments.asked_for(b"", text.encode()) == environments.asked_for(b"", text.replace("\n# ", "\n# In short: ").encode())


@pytest.mark.parametrize(
    ("then", "now", "is_another"),
    [
        ("aaaa", "aaaa", False),
        ("aaaa", "bbbb", True),
        ("aaaa", "", False),  # nothing is known of today's
        # A checkpoint that could not be made has no hash: what inherited its failure stood for ever once it was there.
        ("", "aaaa", True),
        ("", "", False),
    ],
)
def test_a_result_of_another_source_than_that_of_today_is_known(then, now, is_another):
    facts = {"made_from": json.dumps({"quantize.parquet": then})}
    assert standing.is_of_another(facts, "quantize.parquet", now) == is_another
    assert standing.is_of_another(facts, "requests.parquet", now)


# What is there of a plan


def grid(**changes) -> planning.Grid:
    study = studies.small() | {"gpus": {"cpu": {"device": "cpu"}}}
    study["experiments"]["generate"] |= {"models": ["tiny"], "techniques": ["baseline", "sdpa"], "runs": 1, "baseline_runs": 1} | changes
    study["experiments"]["generate"]["evaluate"] = {"positions": 0, "tasks": []}
    study = validate(study, studies.schema("study"), "my.yaml")
    registry = validate(studies.registry(), studies.schema("techniques"), "techniques.yaml")
    return planning.Grid(study, registry, "my.yaml")


ROWS = {
    MODEL: {"model": "tiny", "checkpoint_bytes": 1, "checkpoint_sha256": "ab" * 32},
    WARMUP: {"cold_start_s": 1.0},
    MEASURE: {"reply": 1, "reply_s": 1.0},
    EVALUATE: {"bytes": 10, "nats": 5.0},
}


def write(planned: planning.Grid, **more) -> None:
    """Every record of a plan, as its jobs would write it; `more` are other facts."""
    for record in planned.kept.jobs:
        table = {"prepared": MODEL, "warmup": WARMUP, "evaluate": EVALUATE}.get(Path(record).stem, MEASURE)
        if "probe" not in record and "score" not in record:
            facts = {"job": planned.kept.specification(record), "code": planned.kept.code(record), "recipe": ""} | more
            records.write(record, table, [{"status": "ok", "reason": ""} | ROWS[table]], facts)


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(foreseen.environments, "runs", lambda folder: True)
    return tmp_path


def left(planned: planning.Grid) -> dict[str, tuple[bool, bool]]:
    """Of each technique what a run has yet to do, by the estimate: measure it, and tell its quality."""
    cells = foreseen.Left.of(planned).cells
    return {cell.technique: (work.runs > 0, work.scored_tokens > 0) for cell, _, work in cells}


BOTH = {"baseline": (True, True), "sdpa": (True, True)}


def test_an_estimate_counts_what_is_not_there_or_is_of_something_else(place):
    planned = grid()
    assert left(planned) == BOTH
    write(planned)
    assert left(grid()) == {}
    assert left(grid(dtype="bfloat16")) == BOTH
    assert left(grid(replies=5)) == {"baseline": (True, False), "sdpa": (True, False)}
    write(planned, code="older")
    assert left(grid()) == BOTH
    write(planned)
    Path(f"{CELL}/evaluate.parquet").unlink()
    assert left(grid()) == {"baseline": (False, True)}
    Path("models/tiny/prepared.parquet").unlink()
    assert left(grid()) == BOTH


def test_once_snakemake_has_planned_its_plan_is_what_is_left(place):
    planned = grid()
    write(planned)
    files = [f"{CELL}/measure.parquet", "results/report.html"]
    planned._run._workflow = SimpleNamespace(dag=SimpleNamespace(needrun_jobs=lambda exclude_finished: [SimpleNamespace(output=files)]))
    assert left(planned) == {"baseline": (True, False)}


def test_the_environment_of_a_result_is_held_against_its_file(place):
    planned = grid()
    write(planned)
    planned.kept._uses_environments = True
    assert planned.kept.changed(f"{CELL}/measure.parquet") == ["environment"]
    planned.kept._changed.clear()
    planned.kept._facts.clear()
    write(planned, recipe=environments.recipe_hash(environments.files()["transformers"]))
    assert planned.kept.changed(f"{CELL}/measure.parquet") == []


def test_a_measurement_of_another_checkpoint_than_is_there_does_not_stand(place):
    planned, record = grid(), f"{CELL}/measure.parquet"
    for made_from, changed in [
        ({"models/tiny/prepared.parquet": "ab" * 32}, []),
        ({"models/tiny/prepared.parquet": "cd" * 32}, ["weights"]),
        ({"results/checkpoints/tiny/bnb_int8/float32/quantize.parquet": "ab" * 32}, ["weights"]),
    ]:
        write(planned, made_from=json.dumps(made_from))
        planned.kept._changed.clear()
        planned.kept._facts.clear()
        assert planned.kept.changed(record) == changed


@pytest.mark.parametrize(
    ("changed", "of", "found"),
    [
        ("sdpa/evaluate", "score", ["answers"]),
        ("reference", "sdpa/evaluate", ["weights"]),
        ("requests", "sdpa/evaluate", ["weights"]),
        ("requests", "score", ["weights"]),
    ],
)
def test_quality_of_other_answers_requests_or_reference_than_are_there_does_not_stand(place, changed, of, found):
    """As the report holds it, which left such quality out and said to run the study again, and no run made it anew."""
    planned = with_quality()
    paths = {record.removeprefix("results/cpu/generate/tiny/").removesuffix(".parquet"): record for record in planned.kept.jobs}
    paths["requests"] = "results/requests/generate/requests.parquet"
    sources = [path for name, path in paths.items() if name in ("requests", "reference", "baseline/evaluate", "sdpa/evaluate")]
    for path in sources:
        rewritten(planned, path, {}, "2025-03-01T10:00:00+00:00")
    rewritten(planned, paths[of], {path: records.seal_of(path) for path in sources} | {"models/tiny/prepared.parquet": "ab" * 32})
    assert planned.kept.changed(paths[of]) == []
    again = with_quality()
    rewritten(again, paths[changed], {}, "2025-03-01T11:00:00+00:00")
    assert again.kept.changed(paths[of]) == found


def with_quality() -> planning.Grid:
    study = studies.small() | {"gpus": {"cpu": {"device": "cpu"}}}
    study["experiments"]["generate"] |= {"models": ["tiny"], "techniques": ["baseline", "sdpa"], "runs": 1, "baseline_runs": 1}
    study["experiments"]["generate"]["evaluate"] = {"positions": 8, "tasks": [{"task": "cloze", "limit": 4}]}
    study = validate(study, studies.schema("study"), "my.yaml")
    return planning.Grid(study, validate(studies.registry(), studies.schema("techniques"), "techniques.yaml"), "my.yaml")


def rewritten(planned: planning.Grid, path: str, made_from: dict, ended_at: str = "2025-03-01T10:00:00+00:00") -> None:
    """A record of what a job of quality would be told today."""
    table = {"evaluate": EVALUATE, "score": SCORE, "reference": REFERENCE, "requests": REQUESTS}[Path(path).stem]
    facts = {"job": planned.kept.specification(path), "code": planned.kept.code(path), "recipe": "", "ended_at": ended_at}
    records.write(path, table, [{"status": "ok", "reason": ""}], facts | {"made_from": json.dumps(made_from)})


def test_in_the_users_own_python_what_an_environment_made_is_said_to_be_of_another(place):
    """Everything was measured again, and the page said that nothing had changed."""
    planned, record = grid(), f"{CELL}/measure.parquet"
    write(planned, recipe="of an environment")
    assert planned.kept.changed(record) == ["environment"]
    wanted = standing.Today.of_plan(json.loads(planned.as_json())).of(record)
    assert standing.changed(records.facts_of(record), wanted) == ["environment"]


def test_what_cannot_be_told_is_left_to_snakemake(place):
    planned = grid()
    write(planned)
    Path(f"{CELL}/measure.parquet").write_bytes(b"not Parquet")
    assert planned.kept.changed(f"{CELL}/measure.parquet") is None
    assert planned.kept.changed("results/of/no/plan.parquet") is None
    assert planned.kept.changed("results/cpu/probe.parquet") is None


# Tables


def rows_of(tmp_path, change=None, cells=(BASELINE, SDPA, QUANTIZED), today=None, **facts) -> dict[str, dict]:
    """The summary of a group by technique, for which `change(grid, jobs)` changes what jobs would be told now."""
    plan = made.write_group(tmp_path, cells)
    jobs = made.Jobs()
    if change:
        change(plan, jobs)
    found = tables.summary_rows([collect.read_cell(cell, jobs, {}, {}, today) for cell in plan])
    return {row["technique"]: row for row in found}


def test_a_cell_of_other_settings_is_not_measured_yet_and_says_which_settings(tmp_path):
    """It had the label of the study's present settings, and the figures of the others."""

    def change(plan, jobs):
        jobs[f"{plan[1]['folder']}/measure.parquet"] = made.JOB | {"options": {"dtype": "bfloat16"}}

    rows = rows_of(tmp_path, change)
    assert (rows["sdpa"]["status"], rows["sdpa"]["rate"], rows["sdpa"]["outdated"]) == (NOT_RUN, None, "options.dtype")
    assert rows["sdpa"]["reason"] == "made with other settings than the study has now (options.dtype); run the study again"
    assert rows["baseline"]["rate"] == pytest.approx(48, rel=0.05)
    (said,) = standing.sentences(rows.values())
    assert said.startswith(
        "The study has other settings, weights or answers by now (options.dtype); what depends on them is left out, of: SDPA."
    )


def test_a_model_of_another_origin_takes_all_its_cells_with_it(tmp_path):
    def change(plan, jobs):
        jobs[plan[0]["model_record"]] = made.JOB | {"entry": {"local": "elsewhere"}}

    rows = rows_of(tmp_path, change)
    assert {row["status"] for row in rows.values()} == {NOT_RUN}
    assert {row["outdated"] for row in rows.values()} == {"entry.local"}
    assert {row["bits_per_byte"] for row in rows.values()} == {None}


def test_quality_of_other_settings_is_left_out_and_the_speed_stays(tmp_path):
    def change(plan, jobs):
        jobs[f"{plan[1]['folder']}/evaluate.parquet"] = made.JOB | {"evaluate": made.EVALUATED | {"max_bytes": 5}}

    row = rows_of(tmp_path, change)["sdpa"]
    assert row["rate"] is not None
    assert (row["bits_per_byte"], row["quality_status"], row["kl_divergence"], row["accuracy"]) == (None, NOT_RUN, None, None)
    assert row["outdated"] == "evaluate.max_bytes"


def rewrite(path: str, table, rows: dict | None = None, **facts) -> None:
    record = records.read(path, table)
    records.write(path, table, [row | (rows or {}) for row in record.rows], record.facts | facts)


def test_a_model_that_was_prepared_anew_with_other_weights_leaves_out_what_was_measured_of_the_others(tmp_path):
    """A run that stops after the model is prepared leaves measurements of the weights before."""
    plan = made.write_group(tmp_path, [BASELINE, SDPA])
    rewrite(plan[0]["model_record"], MODEL, {"checkpoint_sha256": "cd" * 32})
    rows = tables.summary_rows([collect.read_cell(cell, made.JOBS) for cell in plan])
    assert {(row["status"], row["outdated"]) for row in rows} == {(NOT_RUN, "weights")}
    rewrite(plan[0]["model_record"], MODEL, {"checkpoint_sha256": "ab" * 32})
    assert {row["status"] for row in tables.summary_rows([collect.read_cell(cell, made.JOBS) for cell in plan])} == {"ok"}


def test_the_weights_of_a_model_are_looked_at_once_for_all_of_its_cells(tmp_path, monkeypatch):
    plan, looked = made.write_group(tmp_path, [BASELINE, SDPA]), []
    monkeypatch.setattr(collect.checkpoints, "replaced", lambda record, facts: looked.append(record) or True)
    shared: dict = {}
    rows = tables.summary_rows([collect.read_cell(cell, made.JOBS, {}, shared) for cell in plan])
    assert {(row["status"], row["outdated"]) for row in rows} == {(NOT_RUN, "weights")}
    assert looked == [Path(plan[0]["model_record"])]


def test_a_checkpoint_that_was_made_from_other_weights_leaves_out_its_cell(tmp_path):
    plan = made.write_group(tmp_path, [BASELINE, QUANTIZED])
    record = plan[1]["checkpoint_record"]
    rewrite(record, made.CHECKPOINT, made_from=json.dumps({plan[0]["model_record"]: "cd" * 32}))
    rows = tables.summary_rows([collect.read_cell(cell, made.JOBS) for cell in plan])
    assert [(row["status"], row["outdated"]) for row in rows] == [("ok", ""), (NOT_RUN, "weights")]


def test_a_technique_that_loads_another_checkpoint_by_now_is_left_out(tmp_path):
    """No specification of a measurement names its checkpoint: a transform that one technique lost and another got left both figures."""
    plan = made.write_group(tmp_path, [BASELINE, QUANTIZED])
    for cell in plan:
        rewrite(f"{cell['folder']}/measure.parquet", MEASURE, made_from=json.dumps({cell["checkpoint_record"]: "ab" * 32}))
    kept = [row["status"] for row in tables.summary_rows([collect.read_cell(cell, made.JOBS) for cell in plan])]
    swapped = [{**cell, "checkpoint_record": other["checkpoint_record"]} for cell, other in zip(plan, reversed(plan), strict=True)]
    rows = tables.summary_rows([collect.read_cell(cell, made.JOBS) for cell in swapped])
    assert kept == ["ok", "ok"]
    assert [(row["status"], row["outdated"]) for row in rows] == [(NOT_RUN, "weights")] * 2


def test_a_reference_that_another_technique_computed_is_of_other_settings_and_no_stranger(tmp_path):
    path = tmp_path / "results/cpu/e/m/reference.parquet"
    told = {"gpu": "cpu", "experiment": "e", "model": "m", "technique": "plain"}
    records.write(path, REFERENCE, [{"status": "ok", "reason": ""}], {"job": json.dumps(told)})
    unreadable: dict = {}
    found = collect.find(str(path), REFERENCE, told | {"technique": "baseline"}, unreadable)
    assert (found.left_out, unreadable) == (["technique"], {})
    assert collect.find(str(path), REFERENCE, told | {"model": "other"}, unreadable).status == "failed"


def scored(tmp_path) -> tuple[list[dict], dict]:
    """A group whose scores say what they were made from, and what its jobs would be told."""
    plan = made.write_group(tmp_path, [BASELINE, SDPA])
    answers = {cell["technique"]: f"{cell['folder']}/evaluate.parquet" for cell in plan}
    told = made.JOB | {
        "techniques": [{"technique": name, "evaluate": path, "is_baseline": name == "baseline"} for name, path in answers.items()]
    }
    made_from = {path: records.seal_of(path) for path in answers.values()}
    rewrite(plan[0]["score"], SCORE, job=json.dumps(told), made_from=json.dumps(made_from))
    return plan, made.Jobs({plan[0]["score"]: told})


@pytest.mark.parametrize(("whose", "left_out"), [("sdpa", {"sdpa"}), ("baseline", {"baseline", "sdpa"})])
def test_scores_of_other_answers_than_are_there_are_left_out(tmp_path, whose, left_out):
    """Where a run stops between the answers and their scores; what is held against the baseline's stands with these."""
    plan, jobs = scored(tmp_path)

    def found() -> dict[str, tuple]:
        rows = tables.summary_rows([collect.read_cell(cell, jobs) for cell in plan])
        return {row["technique"]: (row["accuracy"], row["outdated"]) for row in rows}

    whole = found()
    assert all(accuracy and not outdated for accuracy, outdated in whole.values())
    path = next(f"{cell['folder']}/evaluate.parquet" for cell in plan if cell["technique"] == whose)
    rewrite(path, EVALUATE, ended_at="2025-03-01T11:00:00+00:00")
    assert found() == {name: (None, "answers") if name in left_out else whole[name] for name in whole}
    shown = collect.find_score(plan[0]["score"], jobs, {}).rows
    assert not {row["technique"] for row in shown} & left_out


def test_a_technique_that_is_new_in_the_study_is_not_scored_yet_and_takes_no_score_of_others_away(tmp_path):
    plan, jobs = scored(tmp_path)
    new = {"technique": "new", "evaluate": f"{tmp_path}/evaluate.parquet", "is_baseline": False}
    jobs[plan[0]["score"]] = jobs[plan[0]["score"]] | {"techniques": [*jobs[plan[0]["score"]]["techniques"], new]}
    rows = tables.summary_rows([collect.read_cell(cell, jobs) for cell in plan])
    assert all(row["accuracy"] and not row["outdated"] for row in rows)


def older(tmp_path) -> dict[str, dict]:
    """A group of which one cell was measured by other code than there is now."""
    plan = made.write_group(tmp_path, [BASELINE, SDPA])
    for cell, code in zip(plan, ("now", "before"), strict=True):
        rewrite(f"{cell['folder']}/measure.parquet", MEASURE, code=code)
    today = standing.Today(made.JOBS, {f"{cell['folder']}/measure.parquet": "now" for cell in plan})
    return {row["technique"]: row for row in tables.summary_rows([collect.read_cell(cell, made.JOBS, {}, {}, today) for cell in plan])}


def test_figures_of_older_code_are_shown_and_said_to_be_so(tmp_path):
    rows = older(tmp_path)
    assert all(row["rate"] is not None for row in rows.values())
    assert {name: row["outdated"] for name, row in rows.items()} == {"baseline": "", "sdpa": "code"}
    assert standing.sentences(rows.values()) == [
        "Cells made or measured by older code of speedgrid, or in another environment: 1 of 2 (SDPA). Run the study again."
    ]


# All outputs say it, in the same words


def left_out(tmp_path) -> dict[str, dict]:
    def change(plan, jobs):
        jobs[f"{plan[1]['folder']}/measure.parquet"] = made.JOB | {"options": {"dtype": "bfloat16"}}

    return rows_of(tmp_path, change, (BASELINE, SDPA))


@pytest.mark.parametrize("kind", [older, left_out])
def test_page_summary_terminal_advice_and_comparison_say_it_in_one_sentence(tmp_path, kind, capsys):
    rows = list(kind(tmp_path).values())
    (said,) = standing.sentences(rows)
    (group,) = tables.groups(rows, [])
    assert said in [str(warning) for warning in answer(group).warnings]
    html = page.render(quick_parts(), made.study(), rows, [], [])
    assert said in html
    text = markdown.summary(made.study(), [(group, answer(group).headline)], [], [])
    assert said.partition(":")[0] in text
    collect.Gathered(rows, [], [], []).write(*(tmp_path / f"{name}.parquet" for name in ("summary", "points", "runs")))
    assert said in capsys.readouterr().out
    key, guide, ask = ("local", "generate", "stdlib-llama"), advise.Guide(rows, "mine.yaml"), advise.Ask("latency")
    assert said in advise.as_text(key, guide, ask)
    assert advise.as_json(key, guide, ask)["notes"] == [said]
    sides = [comparison.Results(name, rows) for name in ("A", "B")]
    assert any(said.removesuffix(".") in note for note in comparison.compare(*sides).notes)
    with language.spoken(quick_parts().languages["ja"]):
        assert said not in str(answer(group).warnings)


def test_where_nothing_is_left_of_a_group_the_page_says_why(tmp_path):
    def change(plan, jobs):
        jobs[plan[0]["model_record"]] = made.JOB | {"entry": {"local": "elsewhere"}}

    rows = list(rows_of(tmp_path, change).values())
    (group,) = tables.groups(rows, [])
    assert "(entry.local)" in str(answer(group).warnings)


def test_replies_and_scores_of_what_is_left_out_are_not_on_the_page(tmp_path, monkeypatch):
    plan, jobs = scored(tmp_path)
    jobs[f"{plan[1]['folder']}/measure.parquet"] = made.JOB | {"options": {"dtype": "bfloat16"}}
    document = {"study": made.study(), "cells": plan, "jobs": jobs}
    gathered = collect.gather(document)
    told = rendering._told(document, gathered.summary, gathered.points, gathered.runs, str)
    assert {row["technique"] for row in told.replies} == {"baseline"}
    assert {row["technique"] for row in told.scores} - {None} == {"baseline"}


def test_advise_says_that_the_study_was_edited_since_its_tables_were_made(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    study = (studies.ROOT / "studies/shape-1b.yaml").read_text()
    Path("mine.yaml").write_text(study)
    sha256 = planning.study_hash("mine.yaml")
    assert advise.edited(sha256, "mine.yaml") == []
    Path("mine.yaml").write_text(study + "\n# a comment\n")
    assert advise.edited(sha256, "mine.yaml") == []
    Path("mine.yaml").write_text(study.replace("replies: 20", "replies: 21"))
    assert advise.edited(sha256, "mine.yaml")[0].startswith("mine.yaml has changed since these tables were made")
    os.unlink("mine.yaml")
    assert "these tables are of what the study said when they were made" in advise.edited(sha256, "mine.yaml")[0]
    assert advise.edited("", "mine.yaml") == advise.edited(sha256, "") == []


def test_cells_of_no_table_are_those_that_were_measured_and_their_sentence_is_in_the_language_of_the_page(tmp_path):
    plan = made.write_group(tmp_path, [BASELINE, SDPA])
    assert collect.not_in_plan({"cells": plan}) == []
    folder = Path(plan[1]["folder"])
    assert collect.not_in_plan({"cells": plan[:1]}) == ["/".join(folder.parts[-4:])]
    rewrite(f"{folder}/measure.parquet", MEASURE, {"status": "failed"})
    assert collect.not_in_plan({"cells": plan[:1]}) == []
    rows = list(rows_of(tmp_path / "page").values())
    text, values = standing.not_in_plan(["cpu/e/m/t"])
    html = {
        name: page.render(quick_parts(), made.study() | {"others": ["cpu/e/m/t"], "language": name}, rows, [], []) for name in ("en", "ja")
    }
    assert text.format(*values) in html["en"]
    assert quick_parts().languages["ja"].texts[text].format(*values) in html["ja"]


@pytest.mark.parametrize("text", standing.REASONS)
def test_a_reason_of_the_reports_own_is_translated_and_that_of_a_job_stays(text):
    with language.spoken(quick_parts().languages["ja"]):
        assert (
            language.told_reason(text.format("options.dtype")) == language.tr(text).format("options.dtype") != text.format("options.dtype")
        )
        assert language.told_reason("needs 90 GB") == "needs 90 GB"


def test_the_columns_are_declared_so_that_older_tables_are_read():
    assert "outdated" in {column.name for column in SUMMARY.columns}
    assert all(column.newer for column in MEASURE.facts if column.name in ("code", "recipe", "made_from"))
