"""Branches and tags of models, and the commits that a study's lock keeps for them."""

import json
import re
import subprocess
import sys

import hub
import pytest
import yaml
from speedgrid import lock, planning
from speedgrid.cell import model_job
from speedgrid.study import StudyError

import studies

COMMIT = "0123456789abcdef0123456789abcdef01234567"
ENTRY = {"hub": "some/model", "revision": "main", "commit": COMMIT}


@pytest.fixture
def study(tmp_path):
    """A study of a model of the hub, with a lock beside it unless `None`."""

    def write(revision: str | None, held: object = None):
        content = studies.small()
        content["models"]["tiny"] = {"hub": "some/model"} | ({"revision": revision} if revision else {})
        (tmp_path / "mine.yaml").write_text(yaml.safe_dump(content))
        if held is not None:
            (tmp_path / "mine.lock.json").write_text(held if isinstance(held, str) else json.dumps({"models": held}))
        return tmp_path / "mine.yaml"

    return write


def complaint(file) -> str:
    with pytest.raises(StudyError) as caught:
        planning.read_grid(file)
    return str(caught.value)


def revisions(file) -> set[str]:
    """What the jobs that download the model are told."""
    planned = planning.read_grid(file)
    told = {json.loads(model_job(cell.model, planned.study))["entry"]["revision"] for cell in planned.cells if cell.model == "tiny"}
    return told


def test_what_a_job_is_told_is_the_commit_of_the_lock(study):
    assert revisions(study("main", {"tiny": ENTRY})) == {COMMIT}
    assert revisions(study("f" * 40)) == {"f" * 40}


def test_a_hub_model_without_a_revision_is_told_what_to_write(study):
    line = complaint(study(None))
    assert "models.tiny: needs the key revision beside hub: commit of the hub repository, all 40 digits" in line
    assert "or a branch or tag, such as `main`, whose commit `./speedgrid lock` writes beside the study" in line


@pytest.mark.parametrize(
    ("held", "words"),
    [
        (None, "models.tiny.revision: 'main' is a branch or tag, which moves; write its commit, all 40 digits, or run `./speedgrid lock "),
        ({"other": ENTRY}, "models.tiny.revision: 'main' is a branch or tag, which moves"),
        ({"tiny": ENTRY | {"revision": "v1"}}, "mine.lock.json holds the commit of some/model at v1, not of some/model at main"),
        ({"tiny": ENTRY | {"hub": "an/other"}}, "mine.lock.json holds the commit of an/other at main, not of some/model at main"),
        ({"tiny": ENTRY | {"commit": "main"}}, "mine.lock.json: is damaged; delete it"),
        ({"tiny": ENTRY | {"commit": COMMIT + "\n"}}, "mine.lock.json: is damaged; delete it"),
        ({"tiny": ENTRY | {"commit": 7}}, "mine.lock.json: is damaged; delete it"),
        ({"tiny": "main"}, "mine.lock.json: is damaged; delete it"),
        ([], "mine.lock.json: is damaged; delete it"),
        ("{", "mine.lock.json: is damaged; delete it"),
        ("[" * 100_000, "mine.lock.json: is damaged; delete it"),
        ("3", "mine.lock.json: is damaged; delete it"),
    ],
)
def test_a_lock_that_does_not_hold_the_revision_is_refused_in_one_line(study, held, words):
    line = complaint(study("main", held))
    assert words in line
    assert line.isprintable()


@pytest.mark.parametrize("revision", ["main\n", "../main", "-x", "a b", "main;ls", ""])
def test_a_revision_that_no_branch_can_have_is_refused(study, revision):
    assert "needs the key" in complaint(study(revision)) or "is not allowed; it is a commit, all 40 digits" in complaint(study(revision))


def locked(file, **variables) -> subprocess.CompletedProcess:
    command = [sys.executable, studies.ROOT / "scripts/lock.py", file]
    return subprocess.run(command, capture_output=True, text=True, env={"PATH": "/usr/bin:/bin", "HOME": str(file.parent), **variables})


@pytest.mark.parametrize("revision", ["main", "release/v1"])
def test_a_lock_is_written_from_what_the_hub_says(study, tmp_path, revision):
    file = study(revision)
    with hub.serving({"some/model": tmp_path}) as address:
        done = locked(file, HF_ENDPOINT=address)
    assert done.returncode == 0, done.stderr
    assert f"tiny: some/model at {revision} is {hub.REVISION}" in done.stdout
    assert lock.read(tmp_path / "mine.lock.json") == {"tiny": {"hub": "some/model", "revision": revision, "commit": hub.REVISION}}
    assert revisions(file) == {hub.REVISION}


def test_without_the_hub_its_cache_is_asked_and_else_it_is_said(study, tmp_path):
    file = study("main")
    done = locked(file, HF_HUB_OFFLINE="1")
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert "speedgrid: some/model at main: HF_HUB_OFFLINE is set, and the cache of the hub does not know it" in done.stderr
    assert not lock.file_of(file).exists()
    refs = tmp_path / ".cache/huggingface/hub/models--some--model/refs"
    refs.mkdir(parents=True)
    (refs / "main").write_text(COMMIT)
    assert locked(file, HF_ENDPOINT="http://127.0.0.1:9").returncode == 0
    assert revisions(file) == {COMMIT}


def test_neither_the_token_nor_a_password_of_the_hub_is_said(study):
    secret = "hf_" + "secret" * 3
    done = locked(study("main"), HF_ENDPOINT=f"http://me:{secret}@127.0.0.1:9", HF_TOKEN=secret)
    assert done.returncode == 2
    assert "the hub cannot be reached (http://127.0.0.1:9: " in done.stderr
    assert secret not in done.stderr + done.stdout


def test_what_the_hub_does_not_have_is_said_and_the_lock_stays(study, tmp_path):
    file = study("nosuch", {"tiny": ENTRY | {"revision": "nosuch"}})
    with hub.serving({"some/model": tmp_path}) as address:
        done = locked(file, HF_ENDPOINT=address)
    assert done.returncode == 2
    assert "some/model at nosuch: there is no such repository or revision" in done.stderr
    assert revisions(file) == {COMMIT}


def test_a_study_with_commits_alone_needs_no_lock(study, tmp_path):
    done = locked(study("f" * 40))
    assert (done.returncode, "nothing to lock" in done.stdout, lock.file_of(tmp_path / "mine.yaml").exists()) == (0, True, False)


@pytest.mark.parametrize(
    "file", ["config.yaml", "techniques.yaml", *(str(p.relative_to(studies.ROOT)) for p in studies.ROOT.glob("studies/*.yaml"))]
)
def test_the_first_line_tells_editors_the_schema(file):
    first = (studies.ROOT / file).read_text(encoding="utf-8").partition("\n")[0]
    named = re.fullmatch(r"# yaml-language-server: \$schema=(\S+)", first)
    schema = ((studies.ROOT / file).parent / named[1]).resolve()
    assert schema.name == ("techniques" if file == "techniques.yaml" else "study") + ".schema.yaml"
    assert schema.is_file()
