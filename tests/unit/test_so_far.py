"""A page of what is there: whatever records are missing, damaged or of a failure, every other cell keeps its figures."""

import functools
import re
import subprocess
import sys
from pathlib import Path

import make_page
import pytest
import records_factory as made
import report_data
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from speedgrid import records
from speedgrid.report import collect, page, pending, tables
from speedgrid.report.answer import answer
from speedgrid.schema import FAILED, MEASURE, MEASURED, NOT_RUN, STATUSES, SUMMARY, WARMUP

BASELINE = made.DEFAULT_CELLS[0].technique
STATES = ("there", NOT_RUN, FAILED)


@pytest.fixture(scope="module")
def grid(tmp_path_factory):
    return made.write_group(tmp_path_factory.mktemp("whole"))


def files_of(grid) -> list[str]:
    found = {path for cell in grid for path in (cell["model_record"], cell["checkpoint_record"], cell["probe"], cell["score"])}
    return sorted(found | {f"{cell['folder']}/{stage}.parquet" for cell in grid for stage in ("warmup", "measure", "evaluate")})


@pytest.fixture(scope="module")
def whole(grid):
    return {row["technique"]: row for row in tables.summary_rows([collect.read_cell(cell, made.JOBS) for cell in grid])}


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_records_may_be_missing_or_broken(grid, whole, monkeypatch, data):
    """A cell has figures exactly where its replies are there, and they are those that it has among all others."""
    files = files_of(grid)
    states = dict(zip(files, data.draw(st.lists(st.sampled_from(STATES), min_size=len(files), max_size=len(files))), strict=True))
    with monkeypatch.context() as patch:
        patch.setattr(collect, "find", lambda path, table, *_: found(path, table, states[path]))
        cells = [collect.read_cell(cell, made.JOBS) for cell in grid]
    rows = tables.summary_rows(cells)
    assert [row["technique"] for row in rows] == list(whole)
    for cell, row in zip(grid, rows, strict=True):
        assert list(row) == [column.name for column in SUMMARY.columns]
        assert row["status"] in STATUSES
        is_there = states[f"{cell['folder']}/measure.parquet"] == "there"
        assert row["rate"] == (whole[row["technique"]]["rate"] if is_there else None)
        if is_there:
            assert row["status"] == whole[row["technique"]]["status"]
        assert (row["status"] in MEASURED) <= is_there
    assert len(tables.run_rows(cells)) == sum(state == "there" for path, state in states.items() if not path.endswith("probe.parquet"))
    (group,) = tables.groups(rows, [reply for cell in cells for reply in cell.measure.rows])
    assert str(answer(group).headline)


@functools.cache
def found(path: str, table, state: str) -> records.Record:
    return records.read(path, table) if state == "there" else records.absent(table, state, "" if state == NOT_RUN else "a bug")


def test_a_cell_that_was_not_measured_says_what_stopped_it():
    """The first record of its chain that has no figures; a later one only says that there is nothing."""
    fine, missing = records.Record([{"status": "ok", "reason": ""}], {}), records.absent(WARMUP, NOT_RUN, "")
    broken, full = records.absent(WARMUP, FAILED, "a bug"), records.absent(WARMUP, "oom", "too large")
    assert collect.why_not({"m": fine, "c": broken, "w": missing}) == (FAILED, "a bug")
    assert collect.why_not({"m": full, "c": missing, "w": missing}) == ("oom", "too large")
    assert collect.why_not({"m": fine, "c": missing, "w": broken}) == (NOT_RUN, "")


def test_a_record_is_that_of_the_failure_or_none_or_what_can_be_said_of_it(tmp_path):
    path, unreadable = tmp_path / "measure.parquet", {}
    assert collect.find(str(path), MEASURE, {}, unreadable).status == NOT_RUN
    records.write(records.failed(path), MEASURE, [{"status": FAILED, "reason": "a bug"}])
    assert collect.find(str(path), MEASURE, {}, unreadable).reason == "a bug"
    path.write_bytes(b"not Parquet")
    assert unreadable == {}
    found = collect.find(str(path), MEASURE, {}, unreadable)
    assert (found.status, found.is_there) == (FAILED, False)
    assert list(unreadable) == [found.reason]
    assert found.reason.startswith(f"{path}: not a readable Parquet file")
    records.write(path, MEASURE, [{"status": "ok", "reason": ""}])
    assert collect.find(str(path), MEASURE, {}, unreadable).status == "ok"


def test_the_log_of_a_record_is_the_one_that_its_rule_names(root):
    rules = "".join(path.read_text() for path in sorted((root / "rules").glob("*.smk")))
    named = re.findall(r'output:\n\s+"((?:results|models)/[^"]*/[^"]*\.parquet)",\n\s+log:\n\s+"([^"]+)"', rules)
    assert len(named) >= 9
    for output, log in named:
        assert collect.log_of(re.sub(r"\{(\w+)\}", r"a-\1", output)) == Path(re.sub(r"\{(\w+)\}", r"a-\1", log))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (
            "measure cpu/e/m/t: failed while writing the result: no room on the disk (x)",
            "failed while writing the result: no room on the disk (x)",
        ),
        ("measure cpu/e/m/t (run 3): failed: ended by SIGKILL while counting", "failed: ended by SIGKILL while counting"),
        ("measure cpu/e/m/t: stopped by SIGTERM while counting replies; 2 rows", "stopped by SIGTERM while counting replies; 2 rows"),
        ("measure cpu/e/m/t: 5/20, 30.1 token/s", ""),
        ("Loading failed over: failed to see", ""),
    ],
)
def test_the_last_word_of_a_job_without_a_record_is_in_its_log(tmp_path, line, said):
    log = tmp_path / "measure.log"
    log.write_text(f"something\n{line}\nmore of a library\n")
    assert collect.last_word(log) == (f"{said} ({log})" if said else "")
    assert collect.last_word(tmp_path / "none.log") == ""


def test_the_page_says_how_much_is_measured_and_what_is_missing(tmp_path):
    grid = made.write_group(tmp_path)
    for cell in grid[1:3]:
        (Path(cell["folder"]) / "measure.parquet").unlink()
    (Path(grid[3]["folder"]) / "measure.parquet").write_bytes(b"")
    html = report_data.page_of(grid, made.study())
    text = " ".join(re.sub(r"<[^>]+>", "", html.partition("<main")[0]).split())
    assert "4 of 8 cells measured · 1 failed · 2 not measured yet, about 12 min left" in text
    missing = html.partition('id="not-run"')[2].partition("</section>")[0]
    assert missing.count('<th scope="row">') == 2
    assert grid[1]["label"] in missing
    assert "./speedgrid run" in missing
    failed = html.partition('id="failed"')[2].partition("</section>")[0]
    assert "not a readable Parquet file" in failed
    assert grid[1]["label"] not in failed


def test_a_page_of_nothing_yet(tmp_path):
    grid = made.write_group(tmp_path)
    for path in files_of(grid):
        Path(path).unlink()
    html = report_data.page_of(grid, made.study())
    assert "0 of 8 cells measured" in html
    assert "Nothing has been measured here yet." in html


def test_a_page_of_a_plan_without_cells():
    html = page.render(report_data.quick_parts(), made.study(), [], [], [])
    assert "0 of 0 cells measured" in html
    assert "The study plans no cell" in html


def of(technique: str, gpu: str = "one", **more) -> dict:
    return {"gpu": gpu, "experiment": "e", "model": "m", "technique": technique, **more}


def ran(technique: str, minutes: int, gpu: str = "one") -> dict:
    return of(technique, gpu, started_at="2025-03-01T10:00:00+00:00", ended_at=f"2025-03-01T10:{minutes:02}:00+00:00")


def test_what_is_left_takes_as_long_as_what_is_done_and_devices_work_side_by_side():
    """The slowest device: three cells of 4 + 6 minutes each; the other has one of 5. A model's preparation is of no cell."""
    summary = [of("a", status="ok"), *(of(name, status=NOT_RUN) for name in "bcd"), of("e", status="oom")]
    summary += [of("a", "two", status="ok"), of("b", "two", status=NOT_RUN)]
    model = ran("a", 59) | {"gpu": None, "experiment": None, "technique": None}
    runs = [model, ran("a", 4), ran("a", 6), ran("e", 50), ran("a", 5, "two")]
    assert pending.seconds_left(summary, runs) == 3 * 10 * 60
    assert pending.seconds_left(summary, runs[:-1]) is None
    assert pending.seconds_left([row for row in summary if row["status"] != NOT_RUN], runs) is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, ""),
        (0, "about a minute"),
        (89, "about a minute"),
        (720, "about 12 min"),
        (5000, "about 83 min"),
        (7200, "about 2 h"),
    ],
)
def test_what_is_left_is_told_as_people_say_it(seconds, words):
    assert pending.in_words(seconds) == words


@pytest.mark.parametrize(
    ("locked", "said", "is_kept"),
    [(False, [], True), (True, [], False), (True, ["--plan", "keep"], True), (False, ["--plan", "leave"], False)],
    ids=["no run", "beside a run", "of the run, at its end", "of the run, between two jobs"],
)
def test_a_page_that_is_made_beside_a_run_leaves_the_plan_by_which_the_run_makes_its_tables(
    root, tmp_path, monkeypatch, locked, said, is_kept
):
    """An edit of the study during a run cost it its tables: no cell was that of the plan any more."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results").mkdir()
    (tmp_path / "results/plan.json").write_text("of the run")
    if locked:
        (tmp_path / ".snakemake/locks").mkdir(parents=True)
        (tmp_path / ".snakemake/locks/0.output.lock").touch()
    monkeypatch.setattr("sys.argv", ["make_page.py", "--study", str(root / "tests/studies/tiny.yaml"), *said])
    make_page.main()
    assert (tmp_path / "results/report.html").is_file()
    assert ((tmp_path / "results/plan.json").read_text() != "of the run") == is_kept


def test_tables_and_page_are_made_of_nothing_but_a_study(root, tmp_path):
    """The script of `./speedgrid report` as its rule runs it, in a folder without results."""
    command = [sys.executable, root / "scripts/make_page.py", "--study", root / "tests/studies/tiny.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    rows = records.read(tmp_path / "results/summary.parquet", SUMMARY).rows
    assert {row["status"] for row in rows} == {NOT_RUN}
    assert f"0 of {len(rows)} cells measured" in (tmp_path / "results/report.html").read_text()
    assert (tmp_path / "results/.made-by-hand").is_file()
