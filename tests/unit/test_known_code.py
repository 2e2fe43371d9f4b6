"""Fingerprints that are kept: taken as they are while every file is what it was, and derived anew else."""

import json
import shutil

import pytest
from speedgrid import fingerprint, known_code, notes

ASKED = ("measure", (("engines", "llamacpp"),), (("", "main"),))


@pytest.fixture
def derived(tmp_path, monkeypatch):
    """What was derived, as `of` asks for it in a working folder that has a folder for notes; each call of it is a new process."""
    calls = []
    monkeypatch.chdir(tmp_path)
    notes.FOLDER.mkdir()

    def derive(scripts, *asked):
        calls.append(asked)
        return f"{len(calls):016x}"

    monkeypatch.setattr(fingerprint, "_of", derive)

    def of(*asked):
        fingerprint._known.cache_clear()
        return fingerprint.of(*asked)

    yield of, calls
    fingerprint._known.cache_clear()


def test_a_fingerprint_is_derived_once_for_what_is_asked(derived):
    of, calls = derived
    assert [of(*ASKED), of("probe"), of(*ASKED), of("probe")] == [f"{1:016x}", f"{2:016x}", f"{1:016x}", f"{2:016x}"]
    assert calls == [ASKED, ("probe", (), ())]


@pytest.mark.parametrize(
    "broken", ["", "{", "[]", '{"state": 1}', '{"state": "STATE", "found": {"x": 1}}', '{"state": "STATE", "found": []}']
)
def test_a_note_that_is_none_is_made_anew(derived, broken):
    of, calls = derived
    of("probe")
    state = json.loads(notes.CODE.read_text())["state"]
    notes.CODE.write_text(broken.replace("STATE", state))
    assert of("probe") == f"{2:016x}"
    assert len(calls) == 2


def test_what_is_derived_while_files_are_edited_is_not_kept(derived, monkeypatch):
    of, calls = derived
    monkeypatch.setattr(known_code, "state", lambda files: "edited" if calls else "as it was")
    assert of("probe") == f"{1:016x}"
    assert not notes.CODE.exists()


def test_no_folder_is_made_for_it(derived):
    of, _ = derived
    notes.FOLDER.rmdir()
    assert of("probe") != of("probe")
    assert not notes.FOLDER.exists()


@pytest.fixture(scope="module")
def project(root, tmp_path_factory):
    folder = tmp_path_factory.mktemp("project")
    for name in ("scripts", "rules", "report"):
        shutil.copytree(root / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(root / "techniques.yaml", folder)
    return folder


def state(folder):
    fingerprint._known.cache_clear()
    return fingerprint._known(folder / "scripts")[0]


@pytest.mark.parametrize(
    "name",
    [
        *("scripts/measure.py", "scripts/speedgrid/engines/vllm.py", "scripts/speedgrid/families.json", "rules/measure.smk"),
        *("rules/schemas/study.schema.yaml", "report/page.js", "report/published.csv", "techniques.yaml"),
    ],
)
def test_any_other_content_is_another_state(project, name):
    before, path = state(project), project / name
    text = path.read_bytes()
    path.write_bytes(text + b"\n")
    try:
        assert state(project) != before
    finally:
        path.write_bytes(text)
    assert state(project) == before


def test_a_new_file_is_another_state_and_what_python_compiled_is_none(project):
    before = state(project)
    compiled, new = project / "scripts/speedgrid/__pycache__/x.pyc", project / "scripts/speedgrid/new.py"
    compiled.parent.mkdir()
    compiled.write_bytes(b"x")
    assert state(project) == before
    new.write_text("")
    try:
        assert state(project) != before
    finally:
        new.unlink()


def test_what_the_project_derives_is_what_it_keeps(root, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    notes.FOLDER.mkdir()
    fingerprint._known.cache_clear()
    now, known = fingerprint._known(fingerprint.SCRIPTS)
    assert known == {}
    found = fingerprint.of("probe")
    assert found == fingerprint._of(fingerprint.SCRIPTS, "probe", (), ())
    assert known_code.read(now) == {'["probe", [], []]': found}
    fingerprint._known.cache_clear()
