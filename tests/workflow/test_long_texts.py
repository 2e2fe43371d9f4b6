"""A job is told texts that no command line takes."""

import json
from pathlib import Path

import pytest
import working_copy
import yaml
from speedgrid import records
from speedgrid.schema import MODEL

RECORD = "models/op/prepared.parquet"


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    return working_copy.copy_to(tmp_path_factory.mktemp("long"))


def prepared_anew(project: Path, column: str) -> bool:
    """Prepare a model with this text in what its job is told, a job that needs no packages for models; whether it ran."""
    dataset = {"hub": "no/where", "revision": "0" * 40, "file": "f.parquet", "column": column}
    attention = {"workload": "attention", "models": ["op"], "techniques": ["attention_math"], "baseline": "attention_math"}
    study = {
        "study": "long",
        "models": {"op": {"attention": {}, "calibration": {"dataset": dataset}}},
        "experiments": {"e": {**attention, "lengths": [8], "dtype": "float32"}},
    }
    (project / "long.yaml").write_text(yaml.safe_dump(study))
    before = (project / RECORD).stat().st_mtime_ns if (project / RECORD).exists() else None
    done = working_copy.snakemake(project, "--configfile", "long.yaml", "--", RECORD, HF_HUB_OFFLINE="1")
    assert done.returncode == 0, done.stderr
    told = json.loads(records.read(project / RECORD, MODEL).facts["job"])
    assert told["entry"]["calibration"]["dataset"]["column"] == column
    return (project / RECORD).stat().st_mtime_ns != before


def test_a_long_text_reaches_its_job_which_runs_again_when_it_changes(project):
    text = "it's " * 60_000
    assert [prepared_anew(project, column) for column in (text, text, text + ".")] == [True, False, True]
