"""The recordings of docs/first-study.md: what is kept of a terminal, and that nothing of the machine stands there."""

import re
from pathlib import Path

import pytest
import record_first_study as recorder


def test_what_is_left_on_the_screen_is_kept_and_nothing_that_moves_it():
    said = "\x1b[1mbold\x1b[0m  \r\nfirst 10 %\rfirst done\n\x1b[2K\rsecond\n\n"
    assert recorder.clean(said) == "bold\nfirst done\nsecond"


def test_the_page_has_each_recording_under_its_heading():
    page = recorder.page({"folder": "$ a\nb\n", "shape": "$ c\n"}, "some machine")
    assert re.findall(r"^## (.*)$", page, re.MULTILINE) == [recorder.RECORDINGS[name].heading for name in ("folder", "shape")]
    assert "```text\n$ a\nb\n```" in page
    assert "Recorded on: some machine" in page


def test_a_place_of_the_machine_in_what_was_recorded_is_refused(tmp_path, monkeypatch):
    """A stand-in for the clone says where it is."""
    origin = tmp_path / "origin"
    origin.mkdir()
    monkeypatch.setattr(recorder, "ROOT", origin)
    (tmp_path / "checkpoint").mkdir()

    def clone(command, **settings):
        folder = Path(command[-1])
        folder.mkdir()
        (folder / "speedgrid").write_text("#!/bin/sh\n")
        (folder / "speedgrid").chmod(0o755)

    run = recorder.subprocess.run
    monkeypatch.setattr(recorder.subprocess, "run", lambda command, **told: (clone if command[0] == "git" else run)(command, **told))
    quiet, telling = (recorder.Recording("", "", [command]) for command in ("echo here", "pwd"))
    assert recorder.recorded(quiet, tmp_path / "checkpoint", tmp_path / "one") == "$ echo here\nhere\n"
    with pytest.raises(SystemExit, match="stands in what was recorded"):
        recorder.recorded(telling, tmp_path / "checkpoint", tmp_path / "two")


def test_nothing_of_the_machine_stands_on_the_published_page():
    text = recorder.PAGE.read_text(encoding="utf-8")
    assert re.findall(r"(?<![\w.])/(?:tmp|root|home|work|var|Users)/\S*|127\.0\.0\.1|localhost", text) == []
    for recording in recorder.RECORDINGS.values():
        assert f"## {recording.heading}\n" in text
        assert all(f"\n$ {command}\n" in text for command in recording.commands)
