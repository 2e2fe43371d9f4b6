"""What the rules are told of the machine that the jobs run on."""

from types import SimpleNamespace

import pytest
from snakemake.cli import get_argument_parser
from snakemake.common import get_function_params, get_input_function_aux_params
from snakemake.jobs import Job
from snakemake.scheduling.job_scheduler import JobRateLimiter
from snakemake.settings.enums import Quietness
from speedgrid import planning
from speedgrid.study import validate

import studies


def on_machine(cores: int, gpus: int | None, local: bool = True) -> planning.Grid:
    """A study of a GPU and a CPU, planned for a machine where Snakemake may use so many cores and GPUs at a time."""
    study = studies.small() | {"gpus": {"fast": {"device": "cuda"}, "slow": {"device": "cpu"}}}
    study["experiments"]["generate"]["models"] = ["tiny"]
    resources = {"gpu": SimpleNamespace(value=gpus)} if gpus else {}
    workflow = SimpleNamespace(cores=cores, local_exec=local, global_resources=resources)
    study = validate(study, studies.schema("study"), "my.yaml")
    registry = validate(studies.registry(), studies.schema("techniques"), "techniques.yaml")
    return planning.Grid(study, registry, "my.yaml", has_gpu=True, workflow=workflow)


def job(gpu: str, technique: str = "bnb_int8") -> SimpleNamespace:
    return SimpleNamespace(gpu=gpu, experiment="generate", model="tiny", technique=technique, dtype="float32")


@pytest.mark.parametrize(("gpus", "share"), [(None, 8), (1, 8), (4, 2), (3, 2), (16, 1)])
def test_every_kind_of_job_on_one_of_several_gpus_leaves_cores_for_those_beside_it(gpus, share):
    planned = on_machine(8, gpus)
    asked = [planned.threads, planned.reference_threads, planned.probe_threads]
    assert [threads(job("fast")) for threads in asked] == [share] * 3
    assert [threads(job("slow")) for threads in asked] == [8] * 3
    # The checkpoint is made once, on the device of the first cell that wants it.
    assert planned.quantize_threads(job("fast")) == share


def test_on_a_cluster_slurm_gives_the_cores():
    planned = on_machine(100, None, local=False)
    assert {planned.threads(job("fast")), planned.quantize_threads(job("fast")), planned.probe_threads(job("slow"))} == {1}


def test_snakemake_takes_the_parameters_of_a_rules_function_from_the_function():
    planned = on_machine(8, 1)
    for function in (planned.env, planned.threads, planned.measuring["gpu"], planned.measure_code):
        assert get_function_params(function) is function._overwrite_params
    aux = get_input_function_aux_params(planned.measuring["gpu"], {"attempt": 2, "input": [], "threads": 3})
    assert aux == {"attempt": 2}
    assert get_input_function_aux_params(planned.threads, {"attempt": 2, "input": []}) == {}


def order_of(planned: planning.Grid, gpu: str) -> list[tuple]:
    """The runs of a device's cells as their priorities order them."""
    runs = [(cell, run) for cell in planned.cells if cell.gpu == gpu for run in range(1, cell.runs + 1)]
    return [(cell.key, run) for cell, run in sorted(runs, key=lambda one: -planned.priority(*one))]


def test_on_one_machine_devices_come_one_after_another_and_on_a_cluster_side_by_side():
    here, cluster = on_machine(8, 1), on_machine(100, None, local=False)
    for planned in (here, cluster):
        assert order_of(planned, "fast") == order_of(here, "fast")
        assert order_of(planned, "slow") == order_of(here, "slow")
        cells = [cell for cell in planned.cells if cell.technique == "bnb_int8"]
        assert all(planned.quantize_turn(job(cell.gpu)) > planned.priority(cell) for cell in cells if cell.gpu == "fast")
        assert planned.evaluate_turn(job("fast")) < 1 <= min(planned.priority(cell) for cell in planned.cells)
    first = {gpu: max(here.priority(cell) for cell in here.cells if cell.gpu == gpu) for gpu in ("fast", "slow")}
    assert min(here.priority(cell) for cell in here.cells if cell.gpu == "fast") > first["slow"]
    assert len({max(cluster.priority(cell) for cell in cluster.cells if cell.gpu == gpu) for gpu in ("fast", "slow")}) == 1


@pytest.mark.parametrize(("asked", "stays"), [([], False), (["--max-jobs-per-timespan", "5/1m"], True)])
def test_snakemakes_own_limit_of_jobs_per_second_is_taken_away_and_an_asked_one_stays(asked, stays):
    limit = get_argument_parser().parse_args(asked).max_jobs_per_timespan
    workflow = SimpleNamespace(
        scheduler=SimpleNamespace(job_rate_limiter=JobRateLimiter(limit)), scheduling_settings=SimpleNamespace(max_jobs_per_timespan=limit)
    )
    planning.keep_quiet(workflow)
    assert (workflow.scheduler.job_rate_limiter is not None) == stays


@pytest.mark.parametrize(
    ("quiet", "is_dry_run", "shown"),
    [({Quietness.RULES}, True, 0), ({Quietness.ALL}, True, 0), ({Quietness.RULES}, False, 1), (set(), True, 1), (None, True, 1)],
)
def test_only_a_dry_run_that_shows_its_summary_alone_leaves_out_what_it_would_say_of_a_job(monkeypatch, quiet, is_dry_run, shown):
    said = []
    monkeypatch.setattr(Job, "log_info", lambda job, indent=False: said.append(indent))
    workflow = SimpleNamespace(dryrun=is_dry_run, logger_manager=SimpleNamespace(settings=SimpleNamespace(quiet=quiet)))
    planning.skip_what_is_not_shown(workflow)
    Job.log_info(None, indent=True)
    assert said == [True] * shown
