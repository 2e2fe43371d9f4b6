"""The workflow on a real Slurm, through profiles/slurm, and what is left where jobs are killed."""

import copy
import json
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pandas as pd
import place
import pytest
import slurm
import working_copy
import yaml
from speedgrid import records
from speedgrid.schema import MEASURE

pytestmark = [pytest.mark.slow, pytest.mark.needs("network", "slurm")]

SITE = {"partition": "main", "account": "tiny", "nodes": ["cpu2", "cpu1"], "memory_gb": 2, "minutes": 10}
STUDY = copy.deepcopy(place.STUDY) | {"gpus": {"cpu": {"device": "cpu", "slurm": SITE}}}
STUDY["experiments"]["e"] |= {"baseline_runs": 2, "replies": 3}
# A second group of cells, for the second node.
STUDY["experiments"]["f"] = {**STUDY["experiments"]["e"], "techniques": ["plain"], "baseline_runs": 1, "evaluate": False}
MEASURED = f"{place.CELL}/measure.parquet"
# Asked every few seconds whether a job has ended, and not after 40 s.
PROFILE = ("--workflow-profile", "profiles/slurm", "--slurm-init-seconds-before-status-checks", "3", "--latency-wait", "10")
WITHIN_S = 300


def command(*arguments: str, study: str = "study.yaml") -> list[str]:
    return [sys.executable, "speedgrid", "run", "--uv-envs", "--study", study, *PROFILE, *arguments]


def environ(project: place.Project, cluster: slurm.Slurm, **variables: str) -> dict[str, str]:
    # On the machine of the tests the nodes have no GPU either.
    told = {"SPEEDGRID_TORCH": "cpu", "SPEEDGRID_FAULT_AT": str(project.at), "HF_TOKEN": working_copy.TOKEN}
    return {**cluster.environ, **told, **variables}


def run(project: place.Project, cluster: slurm.Slurm, *arguments: str, study: str = "study.yaml") -> subprocess.CompletedProcess:
    settings = {"env": environ(project, cluster), "capture_output": True, "text": True, "timeout": WITHIN_S}
    return subprocess.run(command(*arguments, study=study), cwd=project.folder, **settings)


@pytest.fixture(scope="module")
def cluster() -> Iterator[slurm.Slurm]:
    with slurm.running(accounting=True) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def project(tmp_path_factory, cluster) -> place.Project:
    """A copy of the project in which the study was run on a cluster with accounting."""
    project = place.make_project(tmp_path_factory.mktemp("cluster"), tmp_path_factory.mktemp("chain"), STUDY)
    place.set_up_launcher(project.folder)
    done = run(project, cluster)
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-8000:]
    (project.folder / "jobs.json").write_text(json.dumps(cluster.jobs("%k|%C|%b|%P|%h|%N|%a|%T")))
    return project


def finished_jobs(project, what: str) -> list[list[str]]:
    """Of the jobs of the whole run that are called so: cores, GPUs, partition, whether its node is shared, node, account, state."""
    jobs = [line.split("|") for line in json.loads((project.folder / "jobs.json").read_text())]
    return [job[1:] for job in jobs if job[0].startswith(what)]


def variant(project, change) -> str:
    """The study, changed; its results are the project's."""
    study = yaml.safe_load((project.folder / "study.yaml").read_text())
    change(study)
    (project.folder / "variant.yaml").write_text(yaml.safe_dump(study, sort_keys=False))
    return "variant.yaml"


def await_jobs(cluster, process: subprocess.Popen, *nodes: str, but: dict[str, str] | None = None) -> dict[str, str]:
    """Wait until a job runs on every one of `nodes`, and none of them is in `but`; returns them by their node."""
    found: dict[str, str] = {}

    def all_run() -> bool:
        lines = cluster.ask("squeue", "--noheader", "--states=running", "--format=%N %i").splitlines()
        found.clear()
        found.update(line.split() for line in lines if line.split()[1] not in (but or {}).values())
        return process.poll() is not None or set(found) == set(nodes)

    place.wait_for(all_run, WITHIN_S)
    assert process.poll() is None
    return found


def test_every_cell_is_measured_on_the_cluster(project):
    summary = pd.read_parquet(project.folder / "results/summary.parquet").set_index(["experiment", "technique"])
    assert dict(summary["status"]) == {("e", "plain"): "ok", ("e", "made"): "ok", ("f", "plain"): "ok"}
    assert (project.folder / "results/report.html").is_file()


def test_the_token_for_the_hub_is_in_no_file_of_the_run_and_in_no_job_of_slurm(project, cluster):
    assert working_copy.holding(project.folder, working_copy.TOKEN) == []
    assert working_copy.TOKEN not in (project.folder / "jobs.json").read_text()
    assert working_copy.TOKEN not in cluster.ask("sacct", "--allusers", "--noheader", "--parsable2", "--format=all")


def test_a_cell_is_warmed_up_and_measured_in_one_job_alone_on_its_node(project):
    assert {job[-1] for job in finished_jobs(project, "")} == {"COMPLETED"}
    assert not [*finished_jobs(project, "rule_warmup"), *finished_jobs(project, "rule_measure_wildcards")]
    cells = finished_jobs(project, "rule_cell_measure_warmup")
    assert len(cells) == 3
    for cpus, gpus, partition, shares, *_ in cells:
        assert (int(cpus), gpus, partition, shares) == (slurm.CPUS, "N/A", "main", "NO")


def test_a_baselines_runs_and_the_cells_that_it_judges_are_measured_on_one_node(project):
    """The groups of cells take the nodes in turn: the first one those of `nodes`' first, with the probe of the device."""
    assert sorted(job[4] for job in finished_jobs(project, "rule_cell")) == ["cpu1", "cpu2", "cpu2"]
    assert [job[4] for job in finished_jobs(project, "rule_measure_again")] == ["cpu2"]
    assert [job[4] for job in finished_jobs(project, "rule_probe")] == ["cpu2"]


def test_jobs_of_a_device_are_charged_to_the_account_of_its_entry(project):
    assert {job[5] for rule in ("cell", "evaluate", "quantize", "probe") for job in finished_jobs(project, f"rule_{rule}")} == {"tiny"}


def test_no_result_holds_where_the_cluster_has_the_device(project):
    assert "slurm" not in (project.folder / "results/plan.json").read_text()
    assert "slurm" not in records.read(project.folder / MEASURED, MEASURE).facts["job"]


def test_other_names_of_the_cluster_run_nothing_again(project, cluster):
    name = variant(project, lambda study: study["gpus"]["cpu"].update(slurm={"partition": "gpu", "memory_gb": 8, "nodes": "any"}))
    assert set(working_copy.planned_jobs(run(project, cluster, "-n", study=name))) <= {"plan", "aggregate", "report", "all"}


def test_a_cluster_may_not_spread_a_baselines_runs_unasked(project, cluster):
    name = variant(project, lambda study: study["gpus"]["cpu"]["slurm"].pop("nodes"))
    done = run(project, cluster, "--forcerun", "plan", study=name)
    assert done.returncode != 0
    [line] = [line for line in (done.stdout + done.stderr).splitlines() if line.startswith("speedgrid: ")]
    assert "variant.yaml: gpus.cpu.slurm: needs the key nodes" in line


def test_each_kind_of_gpu_is_looked_for_where_it_is_and_another_is_refused(project, cluster):
    """The GPUs here are none: the jobs that are sent to them measure nothing, and say which entry of the study is not what they got."""

    def on_gpus(study):
        study["gpus"] = {
            name: {
                "device": "cuda",
                "name": name.upper(),
                "slurm": {"partition": "gpu", **asked, "memory_gb": 2, "cpus": 1, "nodes": "any"},
            }
            for name, asked in {"a100": {"gpu_model": "a100"}, "h100": {"gres": "gpu:h100:1"}}.items()
        }
        study["experiments"] = {"e": {**study["experiments"]["e"], "techniques": ["plain"]}}

    before = project.results()
    targets = [f"results/{gpu}/e/chain/plain/warmup.parquet" for gpu in ("a100", "h100")]
    done = run(project, cluster, "--retries", "0", *targets, study=variant(project, on_gpus))
    assert done.returncode != 0
    assert sorted(line.split("|")[1] for line in cluster.jobs("%P|%N") if line.startswith("gpu|")) == ["gpu1", "gpu2"]
    for gpu in ("a100", "h100"):
        said = (project.folder / f"logs/{gpu}/e/chain/plain/warmup.log").read_text()
        assert f"gpus.{gpu}: a GPU was asked for, and the NVIDIA driver (nvidia-smi) shows none on this machine" in said
    assert project.results() == before


def test_a_job_over_its_time_limit_and_one_killed_by_hand_are_reported_and_tried_again(project, cluster):
    """Both hang in their second reply. Slurm counts in minutes, so the end of the one that runs is set to now."""
    late, killed = MEASURED, MEASURED.replace("/e/", "/f/")
    others = project.forget(late, killed)
    project.at.mkdir()
    with open(project.folder / "said.txt", "w") as said:
        hangs = environ(project, cluster, SPEEDGRID_FAULT="measure 2 hang")
        process = subprocess.Popen(
            command("--retries", "1", late, killed),
            cwd=project.folder,
            env=hangs,
            stdout=said,
            stderr=said,
            # In the background of a shell SIGINT is ignored, and what is started there ignores it too.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
    try:
        first = await_jobs(cluster, process, "cpu1", "cpu2")
        place.wait_for(lambda: process.poll() is not None or len(list(project.at.iterdir())) == 2, WITHIN_S)
        cluster.ask("scontrol", "update", f"jobid={first['cpu2']}", "EndTime=now")
        cluster.ask("scancel", first["cpu1"])
        again = await_jobs(cluster, process, "cpu1", "cpu2", but=first)
        process.send_signal(signal.SIGINT)
        assert process.wait(WITHIN_S) != 0
    finally:
        process.kill()
        process.wait()
        slurm.end_jobs(cluster)
    said = (project.folder / "said.txt").read_text()
    assert said.count("Trying to restart job") == 2
    limits = dict(line.split("|") for line in cluster.jobs("%i|%l"))
    assert (limits[again["cpu1"]], limits[again["cpu2"]]) == ("20:00", "20:00"), "twice the ten minutes of the study"
    results = project.results()
    assert {name: content for name, content in results.items() if "interrupted" not in name} == others
    kept = records.read(project.folder / late.replace(".parquet", ".interrupted.parquet"), MEASURE)
    assert [row["status"] for row in kept.rows] == ["ok", "interrupted"]


def test_without_accounting_the_run_needs_squeue_and_doctor_says_so(project):
    others = project.forget(*([MEASURED] if (project.folder / MEASURED).exists() else []))
    name = variant(project, lambda study: study["gpus"]["cpu"]["slurm"].pop("account"))
    with slurm.running(accounting=False) as cluster:
        asked = [sys.executable, "speedgrid", "doctor"]
        doctor = subprocess.run(asked, cwd=project.folder, env=environ(project, cluster), capture_output=True, text=True)
        assert "slurm-status-command: squeue" in doctor.stdout
        began = time.time()
        done = run(project, cluster, MEASURED, study=name)
        assert done.returncode == 0, done.stderr[-4000:]
        assert [line.split()[1] for line in cluster.jobs()] == ["COMPLETED"]
    results = project.results()
    assert records.read(project.folder / MEASURED, MEASURE).status == "ok"
    assert (project.folder / MEASURED).stat().st_mtime > began
    assert {name: results[name] for name in others if "interrupted" not in name} == {
        name: content for name, content in others.items() if "interrupted" not in name
    }
