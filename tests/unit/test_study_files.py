"""What a study names on this machine: looked at when it is planned, and said in one line."""

import os

import pytest
import yaml
from speedgrid import planning
from speedgrid.planning import checks
from speedgrid.study import StudyError

import studies


def planned(tmp_path, change) -> planning.Grid:
    study = studies.small()
    change(study)
    file = tmp_path / "study.yaml"
    file.write_text(yaml.safe_dump(study), encoding="utf-8")
    return planning.read_grid(file)


@pytest.mark.parametrize(
    ("text", "is_taken"),
    [
        ("database: {host: x}\nport: 3\n", False),
        ("- a\n- b\n", False),
        ("", False),
        ("name: {{ project }}\n", False),
        ("study: mine\nport: 3\n", True),
        ("{experiments: }\n", True),
        ("title: x\nmodels:\n\t- y\n", True),
        ("'study' : [\n", True),
    ],
)
def test_a_config_of_another_program_is_not_taken_for_the_default_study_and_a_study_with_a_mistake_is(
    tmp_path, monkeypatch, text, is_taken
):
    monkeypatch.chdir(tmp_path)
    assert (planning.default_study(), planning.passed_over()) == (planning.ROOT / "config.yaml", "")
    (tmp_path / "config.yaml").write_text(text)
    assert planning.default_study() == (tmp_path if is_taken else planning.ROOT) / "config.yaml"
    assert ("config.yaml in this folder is not a study" in planning.passed_over()) != is_taken
    if is_taken:
        with pytest.raises(StudyError, match=r"^config\.yaml: "):
            planning.read_study(planning.default_study())
    # Whoever names it means it.
    with pytest.raises(StudyError, match=r"^config\.yaml: "):
        planning.read_study("config.yaml")


def complaint(tmp_path, change) -> str:
    with pytest.raises(StudyError) as caught:
        planned(tmp_path, change)
    assert str(caught.value).isprintable()
    return str(caught.value)


def evaluates(text):
    return lambda study: study["experiments"]["generate"].update(evaluate={"text": str(text)})


def calibrates(text):
    return lambda study: study["models"]["tiny"].update(calibration={"text": str(text)})


def takes(path):
    return lambda study: study["models"].update(tiny={"local": str(path)})


def compares(path):
    return lambda study: study.update(compare_with=str(path))


@pytest.mark.parametrize("names", [evaluates, calibrates])
def test_a_text_that_its_jobs_could_not_read_is_refused_when_the_study_is_planned(tmp_path, names):
    file = tmp_path / "text.txt"
    key = "evaluate.text: " if names is evaluates else "calibration.text: "
    assert f"{key}no such file: " in complaint(tmp_path, names(file))
    assert f"{key}{tmp_path} is a folder; name a text file" in complaint(tmp_path, names(tmp_path))
    assert f"{key}/dev/zero is a device or pipe; name a text file" in complaint(tmp_path, names("/dev/zero"))
    file.write_bytes(b"")
    assert f"{key}{file} is empty" in complaint(tmp_path, names(file))
    file.write_bytes(b" \n\t\n")
    assert f"{key}{file} is empty" in complaint(tmp_path, names(file))
    file.write_bytes("Grüße".encode("latin-1"))
    assert f"{key}{file} is not UTF-8 (byte 0xfc at 2)" in complaint(tmp_path, names(file))
    file.write_text("Grüße", encoding="utf-8")
    assert planned(tmp_path, names(file))
    if os.geteuid():
        file.chmod(0)
        assert f"{key}{file} cannot be read: Permission denied" in complaint(tmp_path, names(file))


@pytest.mark.parametrize("names", [evaluates, calibrates, takes, compares])
def test_a_path_that_cannot_be_looked_for_is_one_line(tmp_path, names):
    assert "there is no user ~nosuchuser on this machine" in complaint(tmp_path, names("~nosuchuser/x"))
    assert "cannot be looked for: File name too long" in complaint(tmp_path, names("x" * 300))
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert str(loop) in complaint(tmp_path, names(loop))


def test_a_folder_with_a_data_set_is_looked_for(tmp_path):
    def change(study):
        task = {"task": "hellaswag", "dataset": {"folder": str(tmp_path / "nowhere")}}
        study["experiments"]["generate"]["evaluate"] = {"tasks": [task]}

    assert "evaluate.tasks.0.dataset.folder: no such folder: " in complaint(tmp_path, change)


def test_a_name_that_is_no_environment_is_said_with_the_nearest(tmp_path):
    def change(study):
        study["techniques"] = {"mine": {"label": "M", "family": "engine", "summary": "s", "engine": "vllm", "env": "vlm"}}

    assert "techniques.mine.env: 'vlm' is no file of envs/; did you mean vllm" in complaint(tmp_path, change)


def test_a_study_may_be_compared_with_results_or_a_folder_of_several(tmp_path):
    summaries = [tmp_path / "older" / name / "summary.parquet" for name in ("h100", "h200/results")]
    for path in summaries:
        path.parent.mkdir(parents=True)
        path.touch()
    checked = planned(tmp_path, compares(tmp_path / "older"))
    checks.check_files(checked, (tmp_path, studies.ROOT))
    assert checked.compared() == [str(path) for path in summaries]
    one = planned(tmp_path, compares(tmp_path / "older" / "h200"))
    empty = tmp_path / "empty"
    empty.mkdir()
    assert one.compared() == [str(summaries[1])]
    with pytest.raises(StudyError, match=r"compare_with: .* is no results folder, no folder of several and no summary\.parquet"):
        checks.check_files(planned(tmp_path, compares(empty)), (tmp_path, studies.ROOT))
