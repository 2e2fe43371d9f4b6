"""The page of a run that goes on: when it is made, and that it leaves no traces for the next run."""

import os
from pathlib import Path

import pytest
from speedgrid import planning, refresh
from speedgrid.study import StudyError


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "results/local/e/m/t").mkdir(parents=True)

    def measured(at, name="measure.parquet"):
        path = Path("results/local/e/m/t", name)
        path.touch()
        os.utime(path, (at, at))

    return measured


def of(times, made):
    moments = iter(times)
    return refresh.Page(lambda: made.append("page"), clock=lambda: next(moments))


def test_it_is_made_after_a_cell_and_takes_a_twentieth_of_the_run_at_most(place):
    made = []
    # The first page takes 10 s, which is a twentieth of 200.
    page = of([1000, 1119, 1130, 1140, 1339, 1341, 1345, 1500, 1600, 1601], made)
    place(1100)
    page.look()
    assert made == []  # not two minutes in
    page.look()
    assert made == ["page"]
    place(1330)
    page.look()
    assert made == ["page"]
    page.look()
    assert made == ["page", "page"]
    page.look()
    assert made == ["page", "page"]  # nothing new since
    place(1590, "measure-2.parquet")
    page.look()
    assert made == ["page", "page", "page"]


def test_what_goes_wrong_is_said_and_does_not_end_the_run(place, capsys):
    def fails():
        raise StudyError("there is no report of what was measured")

    moments = iter([0, 700, 701])
    page = refresh.Page(fails, clock=lambda: next(moments))
    place(650)
    page.look()
    assert capsys.readouterr().err == "speedgrid: there is no report of what was measured\n"
    assert not page.is_by_hand


def test_an_error_is_not_said_again_after_every_cell(place, capsys):
    """A page that failed at once was taken to cost nothing, and was tried again each time."""

    def fails():
        raise StudyError("there is no report of what was measured")

    moments = iter([0, 700, 700.1, 760, 821, 822])
    page = refresh.Page(fails, clock=lambda: next(moments))
    for at, said in ((650, 1), (750, 0), (815, 1)):
        place(at)
        page.look()
        assert capsys.readouterr().err.count("no report") == said, at


def test_a_person_who_stops_the_run_while_the_page_is_made_stops_the_run(place):
    def stopped():
        raise KeyboardInterrupt

    moments = iter([0, 700])
    page = refresh.Page(stopped, clock=lambda: next(moments))
    place(650)
    with pytest.raises(KeyboardInterrupt):
        page.look()


@pytest.mark.parametrize("before", ["", "mine.yaml 12\n"])
def test_the_next_run_is_told_what_the_jobs_of_this_one_were(place, before):
    """Else it would make tables and page anew although nothing changed."""
    if before:
        Path(planning.BY_HAND).write_text(before)
    moments = iter([0, 700, 701])
    page = refresh.Page(lambda: Path(planning.BY_HAND).write_text("mine.yaml 99\n"), clock=lambda: next(moments))
    place(650)
    page.look()
    assert planning.made_by_hand() == "mine.yaml 99\n"
    page.is_over()
    assert planning.made_by_hand() == before


def test_a_page_that_somebody_else_made_stays_noted(place):
    page = refresh.Page(lambda: None, clock=lambda: 0)
    Path(planning.BY_HAND).write_text("by hand 1\n")
    page.is_over()
    assert planning.made_by_hand() == "by hand 1\n"
