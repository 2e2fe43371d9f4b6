"""What a study has from the user's own files: found, checked and told to the jobs when it is planned."""

import shutil
from pathlib import Path

import pytest
import yaml
from speedgrid import planning
from speedgrid.study import StudyError

import studies

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A project of its own to plan in, with the files of this one."""
    folder = tmp_path / "project"
    folder.mkdir()
    for name in ("rules", "scripts", "report", "techniques.yaml"):
        (folder / name).symlink_to(ROOT / name)
    monkeypatch.setattr(planning, "ROOT", folder)
    monkeypatch.chdir(folder)
    return folder


def planned(project: Path, models: dict | None = None, **experiment) -> planning.Grid:
    """The small study with these models beside its own, and these keys of its experiment."""
    study = studies.small()
    study["models"] |= models or {}
    study["experiments"]["generate"] |= {"models": [*study["experiments"]["generate"]["models"], *(models or {})], **experiment}
    (project / "my.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    return planning.read_grid("my.yaml")


def refusal(project: Path, models: dict | None = None, **experiment) -> str:
    with pytest.raises(StudyError) as caught:
        planned(project, models, **experiment)
    return str(caught.value)


def checkpoint(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text("{}")
    return folder


@pytest.mark.parametrize(
    ("local", "said"),
    [
        ("models/mine/checkpoint", "is models/mine/checkpoint"),
        ("models/mine", "holds models/mine/checkpoint"),
        ("models/tiny/checkpoint", "is models/tiny/checkpoint"),
        ("models/mine/../tiny/checkpoint/sub", "lies in models/tiny/checkpoint"),
        ("latest", "is models/tiny/checkpoint"),
        ("results/checkpoints/tiny/bnb_int8/float32/checkpoint", "is results/checkpoints/tiny/bnb_int8/float32/checkpoint"),
    ],
)
def test_weights_where_speedgrid_writes_are_refused(project, local, said):
    for folder in ("models/mine", "models/tiny/checkpoint", Path(local)):
        checkpoint(project / folder) if folder != Path("latest") else (project / folder).symlink_to("models/tiny/checkpoint")
    line = refusal(project, {"mine": {"local": local}})
    assert line == f"my.yaml: models.mine.local: {local} {said}, which speedgrid writes and replaces; keep the weights outside of it"


def test_weights_of_others_in_the_place_of_a_checkpoint_are_refused_before_a_job_would_find_them(project):
    own = checkpoint(project / "models/tiny/checkpoint")
    line = refusal(project)
    assert line == (
        "my.yaml: models.tiny: models/tiny/checkpoint: was not made by speedgrid, so it is not removed;"
        " move it elsewhere, or delete it, and run again"
    )
    shutil.rmtree(own)
    planned(project)
