"""What a study has from the user's own files: found, checked and told to the jobs when it is planned."""

import json
import os
import shutil
import tempfile
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml
from speedgrid import corpus, inputs, places, planning
from speedgrid.planning import load, run
from speedgrid.planning.stages import STAGES
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
    monkeypatch.setattr(load, "ROOT", folder)
    monkeypatch.chdir(folder)
    return folder


def planned(project: Path, own: dict | None = None, **experiment) -> planning.Grid:
    """The small study with these models beside its own, and these keys of its experiment."""
    study = studies.small()
    study["models"] |= own or {}
    study["experiments"]["generate"] |= {"models": [*study["experiments"]["generate"]["models"], *(own or {})], **experiment}
    (project / "my.yaml").write_text(yaml.safe_dump(study), encoding="utf-8")
    return planning.read_grid("my.yaml")


def refusal(project: Path, own: dict | None = None, **experiment) -> str:
    with pytest.raises(StudyError) as caught:
        planned(project, own, **experiment)
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
        ("~/models/tiny/checkpoint", "is models/tiny/checkpoint"),
        ("results/checkpoints/tiny/bnb_int8/float32/checkpoint", "is results/checkpoints/tiny/bnb_int8/float32/checkpoint"),
    ],
)
def test_weights_where_speedgrid_writes_are_refused(project, monkeypatch, local, said):
    monkeypatch.setenv("HOME", str(project))
    for folder in ("models/mine", "models/tiny/checkpoint", *([] if local == "latest" else [local.replace("~", str(project))])):
        checkpoint(project / folder)
    (project / "latest").symlink_to("models/tiny/checkpoint")
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


# Paths


def told(grid: planning.Grid) -> dict[str, dict]:
    """What every job is told, by the file that it writes."""
    return json.loads(grid.as_json())["jobs"]


def set_places(grid: planning.Grid, monkeypatch) -> None:
    """Say the places of a plan's texts and data, as a run does to its jobs."""
    for name, value in places.variables(grid.study["places"]).items():
        monkeypatch.setenv(name, value)


def test_a_link_that_is_moved_to_another_checkpoint_is_another_model(project, tmp_path):
    for name in ("step-1", "step-2"):
        checkpoint(tmp_path / "runs" / name)
    latest = tmp_path / "runs/latest"
    seen = []
    for name in ("step-1", "step-2"):
        latest.unlink(missing_ok=True)
        latest.symlink_to(name)
        seen.append(told(planned(project, {"mine": {"local": str(latest)}}))["models/mine/prepared.parquet"]["entry"])
    assert [entry["local"] for entry in seen] == [str(tmp_path / "runs/step-1"), str(tmp_path / "runs/step-2")]


def weights_in(folder: Path, content: bytes) -> None:
    checkpoint(folder)
    (folder / "model.safetensors").write_bytes(content)
    os.utime(folder / "model.safetensors", ns=(10**18, 10**18))


def prepared(project, weights: Path) -> str:
    """The specification of the job that prepares a model of weights of the user's."""
    return planned(project, {"mine": {"local": str(weights)}}).stage("prepare_model").specification(SimpleNamespace(model="mine"))


def test_weights_replaced_in_place_are_told_whatever_their_size_and_time(project, tmp_path):
    seen = []
    for content in (b"one", b"two", b"longer"):
        weights_in(tmp_path / "w", content)
        seen.append(prepared(project, tmp_path / "w"))
    assert len(set(seen)) == 3


def test_a_new_time_alone_and_files_that_no_loader_reads_are_told_to_no_job(project, tmp_path):
    weights_in(tmp_path / "w", b"one")
    before = prepared(project, tmp_path / "w")
    os.utime(tmp_path / "w/model.safetensors")
    os.utime(tmp_path / "w/config.json", (1, 1))
    (tmp_path / "w/README.md").write_text("words")
    (tmp_path / "w/.DS_Store").write_bytes(b"x")
    assert prepared(project, tmp_path / "w") == before
    (tmp_path / "w/generation_config.json").write_text("{}")
    assert prepared(project, tmp_path / "w") != before


def test_a_path_in_the_project_is_told_alike_in_every_clone_and_in_words_of_its_own(project):
    checkpoint(project / "weights/mine")
    (project / "weights/link").symlink_to("mine")
    entries = [
        told(planned(project, {"mine": {"local": local}}))["models/mine/prepared.parquet"]["entry"]
        for local in ("weights/mine", "./weights/../weights/link", str(project / "weights/mine"))
    ]
    assert [entry["local"] for entry in entries] == ["weights/mine"] * 3
    assert entries[0] == entries[1] == entries[2]


def test_a_home_is_expanded_for_every_path_and_the_jobs_are_told_where_it_is(project, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    checkpoint(tmp_path / "w")
    (tmp_path / "text.txt").write_text("text")
    (tmp_path / "items").mkdir()
    tasks = [{"task": "hellaswag", "dataset": {"folder": "~/items"}}]
    grid = planned(
        project,
        {"mine": {"local": "~/w", "calibration": {"text": "~/text.txt"}}},
        evaluate={"text": "~/text.txt", "tasks": tasks},
        techniques=["baseline", "gptq_int4"],
    )
    jobs = told(grid)
    assert "~" not in json.dumps(jobs)
    assert jobs["models/mine/prepared.parquet"]["entry"]["local"] == str(tmp_path / "w")
    assert jobs["results/checkpoints/mine/gptq_int4/float32/quantize.parquet"]["calibration"]["text"] == "text.txt"
    assert jobs["results/local/generate/mine/baseline/evaluate.parquet"]["evaluate"]["text"] == "text.txt"
    assert jobs["results/local/generate/mine/reference.parquet"]["evaluate"]["text"] == "text.txt"
    requests = jobs["results/requests/generate/requests.parquet"]["evaluate"]
    assert (requests["text"], requests["tasks"][0]["dataset"]["folder"]) == ("text.txt", "items")
    set_places(grid, monkeypatch)
    assert places.of("text.txt", requests["text_sha256"]) == tmp_path / "text.txt"
    assert places.of("items", requests["tasks"][0]["dataset"]["content"]) == tmp_path / "items"


def copies(tmp_path) -> list[Path]:
    """Two projects at different places, with the files of this one, and studies and texts of their own."""
    found = [tmp_path / "one clone", tmp_path / "lib" / "another"]
    for folder in found:
        folder.mkdir(parents=True)
        for name in ("envs", "report", "rules", "scripts", "techniques.yaml"):
            (folder / name).symlink_to(ROOT / name)
        shutil.copy(ROOT / "config.yaml", folder)
        shutil.copytree(ROOT / "studies", folder / "studies")
        shutil.copytree(ROOT / "tests/studies", folder / "tests/studies")
    return found


def jobs_from(folder: Path, study: str, monkeypatch) -> dict[str, str]:
    """The specification of every job of a study of a project, by record; the working folder is elsewhere."""
    monkeypatch.setattr(load, "ROOT", folder)
    kept = planning.read_grid(study).kept
    return {record: kept.specification(record) for record in kept.jobs}


def test_a_study_asks_the_same_of_every_job_from_another_clone_until_a_text_is_another(tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    one, other = copies(tmp_path)
    studies_of = ["config.yaml", *(str(path.relative_to(one)) for path in sorted((one / "tests/studies").glob("*.yaml")))]
    asked = {study: jobs_from(one, study, monkeypatch) for study in studies_of}
    assert {"config.yaml", "tests/studies/tiny.yaml"} <= set(asked)
    for study, before in asked.items():
        assert jobs_from(other, study, monkeypatch) == before
        assert not [record for record, said in before.items() if str(tmp_path) in said]
    files = {"config.yaml": "studies/texts/english.txt", "tests/studies/tiny.yaml": "tests/studies/hellaswag/validation.jsonl"}
    for study, file in files.items():
        with open(other / file, "r+b") as text:
            first = text.read(1)
            text.seek(0)
            text.write(b"T" if first != b"T" else b"S")
        after = jobs_from(other, study, monkeypatch)
        assert {"requests", "score"} <= {Path(record).stem for record in after if after[record] != asked[study][record]}


def test_files_of_one_content_keep_their_names(project, tmp_path, monkeypatch):
    """A file may be called as the text that is on every machine, and results say the name of a text."""
    seen = []
    for name in ("a.txt", "stdlib"):
        (tmp_path / name).write_text("text")
        grid = planned(project, evaluate={"text": str(tmp_path / name)})
        seen.append(told(grid)["results/local/generate/tiny/baseline/evaluate.parquet"]["evaluate"])
        set_places(grid, monkeypatch)
        assert corpus.held_out(seen[-1], 100) == [(name, "text")]
    assert seen[0]["text_sha256"] == seen[1]["text_sha256"]
    assert seen[0] != seen[1]


def test_a_text_that_was_moved_is_the_same_and_is_read_where_it_is(project, tmp_path, monkeypatch):
    seen = []
    for folder in (project / "texts", tmp_path / "elsewhere"):
        folder.mkdir()
        (folder / "text.txt").write_text("text")
        own = {"mine": {"train": {}, "calibration": {"text": str(folder / "text.txt")}}}
        grid = planned(project, own, techniques=["baseline", "gptq_int4"])
        seen.append(told(grid)["results/checkpoints/mine/gptq_int4/float32/quantize.parquet"])
        set_places(grid, monkeypatch)
        assert corpus.calibration_text(seen[-1]["calibration"]) == ["text"]
        (folder / "text.txt").unlink()
    assert seen[0] == seen[1]


def test_another_text_or_another_data_set_concerns_the_jobs_that_read_it_and_no_others(project, tmp_path):
    checkpoint(tmp_path / "w")
    (tmp_path / "items").mkdir()

    def jobs() -> dict:
        tasks = [{"task": "hellaswag", "dataset": {"folder": str(tmp_path / "items")}}]
        models = {"mine": {"local": str(tmp_path / "w"), "calibration": {"text": str(tmp_path / "calib.txt")}}}
        evaluate = {"text": str(tmp_path / "text.txt"), "tasks": tasks}
        return told(planned(project, models, evaluate=evaluate, techniques=["baseline", "gptq_int4"], models=["mine"]))

    (tmp_path / "calib.txt").write_text("calib")
    (tmp_path / "text.txt").write_text("text")
    (tmp_path / "items/validation.jsonl").write_text("{}")
    before = jobs()
    found = {}
    for name in ("calib.txt", "text.txt", "items/validation.jsonl"):
        path = tmp_path / name
        os.utime(path, (1, 1))
        assert jobs() == before
        content = path.read_text()
        path.write_text("other")
        after = jobs()
        found[name] = {Path(record).stem for record in before if before[record] != after[record]}
        path.write_text(content)
    assert found == {
        "calib.txt": {"quantize"},
        "text.txt": {"evaluate", "reference", "requests", "score"},
        "items/validation.jsonl": {"requests", "score"},
    }


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"local": "{w}"}, "{w} cannot be read: model.safetensors is a link to {tmp}/gone, which is not there"),
        ({"local": "nowhere"}, "nowhere is not a folder with a checkpoint (no config.json)"),
        ({"local": "~nosuchuser/w"}, "there is no user ~nosuchuser on this machine, so that the path means nothing"),
    ],
)
def test_a_checkpoint_that_is_not_whole_is_refused_whatever_results_are_there(project, tmp_path, change, said):
    checkpoint(tmp_path / "w")
    (tmp_path / "w/model.safetensors").symlink_to(tmp_path / "gone")
    model = {key: value.replace("{w}", str(tmp_path / "w")) for key, value in change.items()}
    line = refusal(project, {"mine": model})
    assert line == "my.yaml: models.mine.local: " + said.replace("{w}", str(tmp_path / "w")).replace("{tmp}", str(tmp_path))


@pytest.mark.parametrize(("closed", "said"), [("model.safetensors", "model.safetensors"), (".", "config.json")])
def test_weights_that_only_another_user_may_read_are_refused_in_one_line(project, closed, said):
    with tempfile.TemporaryDirectory() as place:  # which others may enter, unlike pytest's
        os.chmod(place, 0o755)
        weights = checkpoint(Path(place) / "w")
        (weights / "model.safetensors").write_bytes(b"x")
        (weights / closed).chmod(0)
        is_root = os.geteuid() == 0
        try:
            if is_root:
                os.seteuid(65534)
            with pytest.raises(StudyError) as caught:
                inputs.resolve(studies.small() | {"models": {"mine": {"local": str(weights), "calibration": {}}}}, [project], "my.yaml")
        finally:
            if is_root:
                os.seteuid(0)
            (weights / closed).chmod(0o755)
        assert str(caught.value) == f"my.yaml: models.mine.local: {weights} cannot be read: {said}: Permission denied"


@pytest.mark.parametrize("name", ["{model}.txt", "{{.txt", "}.txt", "*.txt", "with space.txt"])
def test_no_path_of_the_users_is_an_input_of_a_rule_that_could_take_it_for_a_pattern(project, tmp_path, name):
    path = tmp_path / name
    path.write_text("text")
    grid = planned(project, evaluate={"text": str(path)})
    assert told(grid)["results/local/generate/tiny/baseline/evaluate.parquet"]["evaluate"]["text"] == name
    assert str(path) in grid.study["places"].values()
    asked = {"gpu": "local", "experiment": "generate", "model": "tiny", "dtype": "float32", "run": "2"}
    questions = {(name, question): answer for name in STAGES for question, answer in grid.stage(name).inputs.items()}
    assert {question for _, question in questions} == {"checkpoint", "beside", "asked", "answers", "requests"}
    for (name, _), answer in questions.items():
        technique = "baseline" if name == "measure_again" else "bnb_int8"
        assert str(path) not in str(answer(SimpleNamespace(**asked, technique=technique)))


def test_the_plan_is_written_anew_where_another_one_is_there_and_only_then(project):
    grid = planned(project)
    (project / "results").mkdir()
    noted = project / planning.PLANNED

    def noted_when() -> int:
        run._note_plan(grid)
        return noted.stat().st_mtime_ns

    first = noted_when()
    (project / "results/plan.json").write_text(grid.as_json())
    assert noted_when() == first
    (project / "results/plan.json").write_text(grid.as_json().replace("float32", "float16"))
    assert noted_when() > first
    # A plan that was noted by a dry run of another study is taken back where this one's is there.
    (project / "results/plan.json").write_text(grid.as_json())
    os.utime(project / "results/plan.json", ns=(first, first))
    assert noted_when() == first


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "notes.txt"])
def test_a_pipe_in_a_folder_of_weights_is_refused_and_not_waited_for(project, tmp_path, name):
    """Planning read it until somebody wrote to it, for ever."""
    folder = checkpoint(tmp_path / "w")
    (folder / name).unlink(missing_ok=True)
    os.mkfifo(folder / name)
    line = refusal(project, {"mine": {"local": str(folder)}})
    assert line == f"my.yaml: models.mine.local: {folder} cannot be read: {name}: it is a pipe or device and no file"


def test_pictures_of_the_users_own_beside_those_of_the_page_are_refused_and_not_removed(project, tmp_path):
    """Snakemake empties the folder before the job that draws them."""
    figures = project / "results" / "figures"
    figures.mkdir(parents=True)
    (figures / "of-a-g-cpu-speed.svg").write_text("<svg/>")  # of an earlier speedgrid, which left no mark
    (figures / ".snakemake_timestamp").touch()
    planned(project)
    (figures / "paper.svg").write_text("mine")
    said = "which speedgrid did not write, so it is not removed; move it elsewhere, or delete it, and run again"
    assert refusal(project) == f"results/figures: holds paper.svg, {said}"
    shutil.rmtree(figures)
    (project / "mine").mkdir()
    figures.symlink_to(project / "mine")
    assert "results/figures: is a link that speedgrid did not make" in refusal(project)


def _adapter(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "some/model"}')


def _gguf_inside(folder: Path) -> None:
    (folder / "model.Q4_K_M.gguf").write_bytes(b"GGUF")


def _trainer(folder: Path) -> None:
    for step in (500, 1000):
        checkpoint(folder / f"checkpoint-{step}")
        os.utime(folder / f"checkpoint-{step}", (9000 - step, 9000 - step))  # as a copy may have it


def _hub_cache(folder: Path) -> None:
    checkpoint(folder / "snapshots" / "0a1b")
    (folder / "refs").mkdir()


def _diffusers(folder: Path) -> None:
    (folder / "model_index.json").write_text("{}")
    (folder / "unet").mkdir()
    (folder / "unet" / "config.json").write_text("{}")


def _of_the_makers(folder: Path) -> None:
    (folder / "params.json").write_text("{}")


@pytest.mark.parametrize(
    ("fill", "said"),
    [
        (lambda folder: None, ""),
        (
            _adapter,
            ": it holds an adapter alone; merge it into the model that it was trained for, some/model, (peft: merge_and_unload)"
            " and name the folder of that",
        ),
        (_gguf_inside, ": it holds a GGUF file; name model.Q4_K_M.gguf by the key `gguf`"),
        (_trainer, ": there is one in checkpoint-1000, the last of 2"),
        (_diffusers, ": it holds a pipeline of diffusers, which makes images and no text"),
        (_hub_cache, ": there is one in snapshots/0a1b"),
        (_of_the_makers, ": it holds weights as their makers give them; name a folder in the format of transformers"),
    ],
)
def test_a_folder_that_is_nearly_a_checkpoint_is_refused_with_what_to_name(project, tmp_path, fill, said):
    folder = tmp_path / "mine"
    folder.mkdir()
    fill(folder)
    line = refusal(project, {"mine": {"local": str(folder)}})
    assert line == f"my.yaml: models.mine.local: {folder} is not a folder with a checkpoint (no config.json){said}"


def test_a_text_that_is_empty_by_its_size_is_not_read(tmp_path, monkeypatch):
    (tmp_path / "text.txt").touch()
    monkeypatch.setattr(inputs.corpus, "text_file", lambda *_: pytest.fail("it was read, and the kernel may have nothing to say for ever"))
    with pytest.raises(StudyError, match=r"text: text\.txt is empty"):
        inputs._text("text.txt", [tmp_path], "text")
