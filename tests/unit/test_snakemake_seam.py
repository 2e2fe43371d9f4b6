"""What snakemake_seam.py relies on is in the Snakemake that is installed. Each test says where to look when it fails."""

import ast
import asyncio
import importlib.util
import inspect
import json
import math
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from pip_settings import uv_flags  # noqa: F401 - beside uv_conda
from snakemake import cli, dag, io, persistence
from snakemake.cli import get_argument_parser
from snakemake.common import FUNC_OVERWRITE_PARAMS_ATTR, get_function_params, get_input_function_aux_params
from snakemake.deployment import conda, containerize
from snakemake.iocontainers import Namedlist
from snakemake.jobs import Job
from snakemake.resources import Resource
from snakemake.scheduling.job_scheduler import JobRateLimiter, JobScheduler
from snakemake.settings.enums import Quietness
from snakemake.workflow import Workflow
from speedgrid import checkpoints, environments, inventory, snakemake_seam

import studies

SEAM = "scripts/speedgrid/snakemake_seam.py"


def look_at(place: str, where: str) -> str:
    return f"Snakemake changed {place}: read it, and change {where} of {SEAM}"


@pytest.mark.parametrize("found", ["10.0.0", "10.1.2.dev3", "11.0"])
def test_a_snakemake_that_nobody_tried_is_refused_in_one_line(found):
    with pytest.raises(
        snakemake_seam.UntriedVersion, match=f"^Snakemake {re.escape(found)} is newer .*; install snakemake<10, or start with"
    ):
        snakemake_seam.check_version(found)


@pytest.mark.parametrize("found", ["9.19.0", "9.99.1", None])
def test_a_snakemake_9_is_taken(found):
    snakemake_seam.check_version(found)


def test_nothing_else_of_the_project_imports_snakemake():
    """But the launcher's display, which is Snakemake's own command line."""
    for path in [*sorted((studies.ROOT / "scripts").rglob("*.py")), studies.ROOT / "speedgrid"]:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        modules = [node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
        modules += [alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names]
        found = {module for module in modules if module.partition(".")[0] == "snakemake"}
        if path.name == "terminal.py":
            assert found == {"snakemake.cli"}
        elif path.name != "snakemake_seam.py":
            assert found == set(), f"{path.name}: what it needs of Snakemake belongs to {SEAM}"
            strings = [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]
            kept = {text for text in strings if re.fullmatch(r"\.snakemake(/\w+)?", text)}
            assert kept == set(), f"{path.name}: where Snakemake keeps something belongs to {SEAM}"


def test_what_a_run_is_told_is_where_it_is_looked_for(tmp_path):
    """By a Snakefile, as the rules ask: Run's properties read attributes of snakemake.workflow.Workflow."""
    (tmp_path / "mine.yaml").write_text("a: 1\n")
    (tmp_path / "Snakefile").write_text(
        f"import json, sys\nsys.path.insert(0, {str(studies.ROOT / 'scripts')!r})\n"
        "from speedgrid.snakemake_seam import Run\n"
        "run = Run(workflow)\n"
        "assert run.files_to_make is None\n"
        "names = ('is_forced', 'is_local', 'is_main', 'uses_environments', 'cores', 'gpu_jobs', 'makes', 'study_files')\n"
        "names += ('is_another_going_on',)\n"
        "rule all:\n    output: 'told.json'\n"
        "    run: open(output[0], 'w').write(json.dumps(told))\n"
        "told = {name: str(getattr(run, name)) for name in names}\n"
        "print(json.dumps(told), file=open('told', 'w'))\n"
    )
    (tmp_path / ".snakemake/locks").mkdir(parents=True)
    command = [sys.executable, "-m", "snakemake", "-n", "--cores", "3", "--resources", "gpu=2", "--configfile", "mine.yaml"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, look_at("attributes of workflow.py's Workflow", "Run") + done.stderr
    told = json.loads((tmp_path / "told").read_text())
    assert (told["is_local"], told["is_main"], told["cores"], told["gpu_jobs"], told["makes"]) == ("True", "True", "3", "2", "0")
    assert "mine.yaml" in told["study_files"]
    assert told["is_another_going_on"] == "False"
    assert told["uses_environments"] == "False"
    more = [*command[:-2], "makes=4", *command[-2:]]
    assert subprocess.run(more, cwd=tmp_path, capture_output=True).returncode == 0
    told = json.loads((tmp_path / "told").read_text())
    assert (told["gpu_jobs"], told["makes"]) == ("2", "0"), "for one GPU alone"
    alone = [word.replace("gpu=2", "gpu=1") for word in more]
    assert subprocess.run(alone, cwd=tmp_path, capture_output=True).returncode == 0
    assert json.loads((tmp_path / "told").read_text())["makes"] == "4", look_at("global_resources", "Run")
    assert subprocess.run([*command, "--sdm", "conda"], cwd=tmp_path, capture_output=True).returncode == 0
    assert json.loads((tmp_path / "told").read_text())["uses_environments"] == "True", look_at("deployment_settings", "uses_environments")
    assert told["is_forced"] == "False"
    for forced in (["-F"], ["-nF"], ["--forceall"], ["-R", "all"], ["--forcerun", "all"]):
        assert subprocess.run([*command, *forced], cwd=tmp_path, capture_output=True).returncode == 0
        assert json.loads((tmp_path / "told").read_text())["is_forced"] == "True", forced
    (tmp_path / ".snakemake/locks/0.input.lock").touch()
    assert subprocess.run(command, cwd=tmp_path, capture_output=True).returncode == 0
    assert json.loads((tmp_path / "told").read_text())["is_another_going_on"] == "True", look_at("its locks (persistence)", "LOCKS")


def test_what_is_known_of_a_module_of_another_workflow(tmp_path):
    (tmp_path / "ours.smk").write_text(
        f"import json, sys\nsys.path.insert(0, {str(studies.ROOT / 'scripts')!r})\n"
        "from speedgrid.snakemake_seam import Run\n"
        "ours = Run(workflow).module\n"
        "print('SEEN', json.dumps(ours and [str(ours), ours.moves_paths, ours.another()]))\n"
        "rule all:\n    shell: 'true'\n"
    )
    modules = {"one": "", "two": "    prefix: 'sub'\n", "three": "    replace_prefix: {'results/': 'sub/results/'}\n"}
    text = "".join(
        f"module {name}:\n    snakefile: 'ours.smk'\n{more}\nuse rule * from {name} as {name}_*\n\n" for name, more in modules.items()
    )
    # One rule of a module that was read already: the module is read once more.
    (tmp_path / "Snakefile").write_text(f"{text}use rule all from three as three_all with:\n    message: 'x'\n")

    def seen(*arguments):
        command = [sys.executable, "-m", "snakemake", "-n", "--cores", "1", *arguments]
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
        assert done.returncode == 0, look_at("modules.py: WorkflowModifier, path_modifier.py: PathModifier", "Module") + done.stderr
        return [json.loads(line.removeprefix("SEEN ")) for line in done.stdout.splitlines() if line.startswith("SEEN ")]

    where = "Snakefile: `module {}:`".format
    two, three = [where("two"), "prefix", "one"], [where("three"), "replace_prefix", "two"]
    assert seen("one_all") == [[where("one"), "", ""], two, three, [where("three"), "replace_prefix", ""]]
    assert seen("-s", "ours.smk", "all") == [None]


def test_snakemake_takes_the_parameters_of_a_function_from_the_function():
    assert FUNC_OVERWRITE_PARAMS_ATTR == "_overwrite_params", look_at("common/__init__.py: get_function_params", "looked_up_once")
    function = snakemake_seam.looked_up_once(lambda wildcards, attempt: attempt)
    assert get_function_params(function) is function._overwrite_params
    assert get_input_function_aux_params(function, {"attempt": 2, "input": [], "threads": 3}) == {"attempt": 2}


def test_the_function_that_asks_for_a_resource_is_looked_up_once():
    assert callable(getattr(Resource, "evaluate", None)), look_at("resources.py: Resource.evaluate", "spare_work")
    snakemake_seam.spare_work()
    assert get_function_params(Resource.evaluate) is Resource.evaluate._overwrite_params


def test_lists_of_a_job_share_what_is_the_same_for_all_of_them():
    snakemake_seam.spare_work()
    one, other = Namedlist(["a"]), Namedlist(["b"])
    assert one.index is other.index is not one.sort, look_at("iocontainers.py: AttributeGuard", "spare_work")
    with pytest.raises(AttributeError, match=r"index\(\) cannot be used"):
        one.index("a")
    assert one.get("sort", 1) == 1


PLANNED_ALONE = """
import sys
sys.path.insert(0, {scripts!r})
from speedgrid import snakemake_seam
snakemake_seam.spare_work()
snakemake_seam.skip_what_is_not_shown(workflow)
def told(what, value):
    def asked(wildcards):
        with open("asked", "a") as file:
            file.write(f"{{what}} {{rule_of(wildcards)}} ")
        return value
    return asked
def rule_of(wildcards):
    return wildcards.name
rule all:
    input: "by_wildcards.1", "by_params.2"
rule one:
    output: "{{name}}.1"
    params: env=told("params", "report")
    resources: mem_mb=told("resources", 1)
    conda: lambda wildcards: "report.yaml"
    shell: "echo {{params.env}} {{resources.mem_mb}} > {{output}}"
rule two:
    output: "{{name}}.2"
    params: env=told("params", "report")
    resources: mem_mb=told("resources", 1)
    conda: lambda wildcards, params: f"{{params.env}}.yaml"
    shell: "echo {{params.env}} {{resources.mem_mb}} > {{output}}"
"""


def test_a_dry_run_works_out_no_parameters_and_resources_that_nobody_asks_for(root, tmp_path):
    (tmp_path / "Snakefile").write_text(PLANNED_ALONE.format(scripts=str(root / "scripts")))
    (tmp_path / "report.yaml").write_text("dependencies: [python]\n")
    command = [sys.executable, "-m", "snakemake", "--cores", "1", "--quiet", "rules"]
    subprocess.run([*command, "-n"], cwd=tmp_path, check=True, capture_output=True)
    found = (tmp_path / "asked").read_text().split()
    where = "jobs.py: Job.conda_env_spec, scheduling/job_scheduler.py: JobScheduler._free_resources"
    assert found == ["params", "by_params"], look_at(where, "spare_work")
    # And all are there where the jobs run.
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert [(tmp_path / name).read_text() for name in ("by_wildcards.1", "by_params.2")] == ["report 1\n"] * 2


@pytest.mark.parametrize("event", ["onstart", "onsuccess", "onerror"])
def test_what_is_to_be_done_at_an_event_is_done_besides_what_the_workflow_says(event):
    source = inspect.getsource(Workflow)
    assert f"self._{event}(self.logger_manager" in source, look_at(f"workflow.py: Workflow._{event}", "also")
    done = []
    workflow = SimpleNamespace(**{f"_{event}": lambda log: done.append("before")})
    setattr(workflow, event, lambda function: setattr(workflow, f"_{event}", function))
    snakemake_seam.also(workflow, event, lambda: done.append("ours"))
    getattr(workflow, f"_{event}")("log")
    assert done == ["before", "ours"]
    getattr(workflow, event)(lambda log: done.append(log))
    getattr(workflow, f"_{event}")("log")
    assert done[2:] == ["log", "ours"]


@pytest.mark.parametrize(("asked", "stays"), [([], False), (["--max-jobs-per-timespan", "5/1m"], True)])
def test_snakemakes_own_limit_of_jobs_per_second_is_taken_away_and_an_asked_one_stays(asked, stays):
    limit = get_argument_parser().parse_args(asked).max_jobs_per_timespan
    workflow = SimpleNamespace(
        scheduler=SimpleNamespace(job_rate_limiter=JobRateLimiter(limit)), scheduling_settings=SimpleNamespace(max_jobs_per_timespan=limit)
    )
    snakemake_seam.keep_quiet(workflow)
    assert (workflow.scheduler.job_rate_limiter is not None) == stays, look_at("the default of --max-jobs-per-timespan", "DEFAULT_RATE")
    source = inspect.getsource(JobScheduler)
    assert "if self.job_rate_limiter is not None" in source, look_at("scheduling/job_scheduler.py: job_rate_limiter", "keep_quiet")


def test_something_is_done_before_jobs_only_where_no_other_is_under_way():
    began = []
    scheduler = SimpleNamespace(running={"a"}, run=lambda jobs, executor=None: began.append((*jobs, executor)))
    snakemake_seam.between_jobs(SimpleNamespace(scheduler=scheduler), lambda: began.append("action"))
    scheduler.run(["a"])
    scheduler.running = {"a", "b"}
    scheduler.run(["b"], executor="local")
    assert began == ["action", ("a", None), ("b", "local")]
    assert list(inspect.signature(JobScheduler.run).parameters) == ["self", "jobs", "executor"], look_at("JobScheduler.run", "between_jobs")
    source = inspect.getsource(JobScheduler.schedule)
    assert source.index("self.running.update(run)") < source.index("self.run("), look_at("JobScheduler.schedule", "between_jobs")


SIDE_BY_SIDE = """
import sys
sys.path.insert(0, {scripts!r})
from speedgrid import snakemake_seam
rule all:
    input: "last.txt"
rule side:
    output: "side{{n}}.txt"
    priority: lambda wildcards: -int(wildcards.n)
    shell:
        # With two cores the third begins when the first has ended, and while the second goes on.
        "until_there_are() {{{{ until [ $(grep -c $2 order) -ge $1 ]; do sleep 0.01; done; }}}}; echo begin >> order; "
        "if [ {cores} = 1 ]; then :; elif [ {{wildcards.n}} = 3 ]; then until_there_are 2 end; "
        "else until_there_are $(({{wildcards.n}} + 1)) begin; fi; "
        "echo end >> order; touch {{output}}"
rule last:
    input: "side1.txt", "side2.txt", "side3.txt"
    output: "last.txt"
    shell: "echo last >> order; ls .snakemake/locks/*.lock > held; touch {{output}}"
def look():
    with open("order", "a") as file:
        file.write("look\\n")
snakemake_seam.also(workflow, "onstart", lambda: snakemake_seam.between_jobs(workflow, look))
"""


@pytest.mark.parametrize(
    ("cores", "order"),
    [(1, "look begin end " * 3 + "look last look"), (2, "look begin begin end begin end end look last look")],
)
def test_in_a_real_run_it_is_never_done_beside_a_job(root, tmp_path, cores, order):
    """Where two jobs run side by side, the moment in which one ends is none."""
    (tmp_path / "Snakefile").write_text(SIDE_BY_SIDE.format(scripts=str(root / "scripts"), cores=cores))
    command = [sys.executable, "-m", "snakemake", "--cores", str(cores), "--quiet", "all"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    assert (tmp_path / "order").read_text().split() == order.split()
    assert (tmp_path / "held").read_text(), look_at("its locks (persistence)", "LOCKS")
    assert not snakemake_seam.is_locked(tmp_path)


@pytest.mark.parametrize(
    ("command", "is_run"),
    [
        (["/envs/bin/python3.11", "-m", "snakemake", "--cores", "1"], True),
        (["/envs/bin/python", "/envs/bin/snakemake", "-n"], True),
        (["python3", "-X", "dev", "-W", "error", "-u", "-m", "snakemake"], True),
        (["snakemake"], True),
        (["python", "-msnakemake", "--cores", "1"], True),
        (["python", "-um", "snakemake.cli"], True),
        (["python", "-Ximporttime", "-Wmodule", "--check-hash-based-pycs=always", "-msnakemake"], True),
        (["/nix/store/x/bin/python3.12", "/nix/store/y/bin/.snakemake-wrapped", "-n"], True),
        (["/nix/store/y/bin/.snakemake-wrapped", "-n"], True),
        (["python", "-mpytest", "-m", "snakemake"], False),
        (["python", "-c-m", "snakemake"], False),
        (["python", "-Xdev", "measure.py", "-m", "snakemake"], False),
        (["/x/.venv/bin/python", "/x/scripts/terminal.py", "--logger", "speedgrid", "--cores", "1"], True),
        # What a killed run may leave, or a person has open, in a folder whose name is like that.
        (["python", "/home/me/snakemake/speedgrid/scripts/measure.py", "--out", "results/x"], False),
        (["bash", "-c", "source activate .snakemake/conda/ab12_; python measure.py"], False),
        (["tail", "-f", ".snakemake/log/2026-01-01.snakemake.log"], False),
        (["python", "-c", "print('snakemake')"], False),
        (["python"], False),
        ([""], False),
    ],
)
def test_a_run_of_snakemake_is_known_by_the_program_and_not_by_names_of_files(command, is_run):
    assert snakemake_seam.is_snakemake("".join(f"{word}\0" for word in command).encode()) == is_run


@pytest.mark.parametrize(
    ("quiet", "is_dry_run", "shown"),
    [({Quietness.RULES}, True, 0), ({Quietness.ALL}, True, 0), ({Quietness.RULES}, False, 1), (set(), True, 1), (None, True, 1)],
)
def test_only_a_dry_run_that_shows_its_summary_alone_leaves_out_what_it_would_say_of_a_job(monkeypatch, quiet, is_dry_run, shown):
    said = []
    assert "indent" in inspect.signature(Job.log_info).parameters, look_at("jobs.py: Job.log_info", "skip_what_is_not_shown")
    monkeypatch.setattr(Job, "log_info", lambda job, indent=False: said.append(indent))
    workflow = SimpleNamespace(dryrun=is_dry_run, logger_manager=SimpleNamespace(settings=SimpleNamespace(quiet=quiet)))
    snakemake_seam.skip_what_is_not_shown(workflow)
    Job.log_info(None, indent=True)
    assert said == [True] * shown


def test_of_the_command_line_all_is_said_but_which_profiles_it_found(monkeypatch, capsys):
    assert snakemake_seam.PROFILES.strip() in inspect.getsource(cli), look_at("cli.py: parse_args", "PROFILES")

    def parse_args(argv=None):
        print("Using workflow specific profile profiles/default for setting default command line arguments.", file=sys.stderr)
        print(f"what is wrong with {argv}", file=sys.stderr)
        sys.exit(2)

    monkeypatch.setattr(cli, "parse_args", parse_args)
    snakemake_seam.skip_the_note_of_profiles()
    with pytest.raises(SystemExit):
        cli.main(["--odd"])
    assert capsys.readouterr().err == "what is wrong with ['--odd']\n"


@pytest.mark.parametrize(
    ("owner", "name", "parameters"),
    [
        (conda.Env, "create", ["self", "dryrun"]),
        (conda.Env, "execute_deployment_script", ["self", "env_file", "deploy_file"]),
        (conda.Conda, "shellcmd", ["self", "env_address", "cmd"]),
        (Workflow, "conda_create_envs", ["self"]),
        (persistence.PersistenceBase, "params_changed", ["self", "job", "file"]),
        (persistence.PersistenceBase, "has_metadata", ["self", "job"]),
        (containerize, "containerize", ["workflow", "dag", "fmt"]),
        (JobScheduler, "exit_gracefully", ["self", "args"]),
    ],
)
def test_what_is_replaced_has_the_parameters_of_its_replacement(owner, name, parameters):
    found = list(inspect.signature(getattr(owner, name)).parameters)
    where = inspect.getsourcefile(owner).rpartition("snakemake/")[2]
    assert found[: len(parameters)] == parameters, look_at(f"{where}: {owner.__name__}.{name}", "look_after")


@pytest.mark.parametrize("deploys", [False, True])
def test_an_environment_is_kept_where_doctor_looks_for_it(tmp_path, monkeypatch, deploys):
    recipe = tmp_path / "some.yaml"
    recipe.write_text("dependencies: [python=3.11]\n")
    if deploys:
        recipe.with_suffix(".post-deploy.sh").write_text("true\n")
    cache = SimpleNamespace(exists=lambda file: Path(str(file.get_path_or_uri(secret_free=True))).exists(), open=_open)
    settings = SimpleNamespace(apptainer_args="")
    workflow = SimpleNamespace(sourcecache=cache, deployment_settings=settings, runtime_paths=None)
    monkeypatch.setattr(conda, "Conda", lambda **asked: SimpleNamespace(platform="linux-64"))
    env = conda.Env(workflow, env_file=str(recipe), envs_dir=str(tmp_path / "envs"))
    assert Path(env.address) == snakemake_seam.environment_folder(recipe, tmp_path / "envs"), look_at(
        "deployment/conda.py: Env._get_hash and Env.address", "environment_folder"
    )
    assert inventory.ENVIRONMENT.fullmatch(Path(env.address).name), "change ENVIRONMENT of scripts/speedgrid/inventory.py"


def _open(file, mode="rb"):
    return open(file.get_path_or_uri(secret_free=True), mode)


def test_snakemake_asks_conda_for_nothing_that_the_stand_in_does_not_know():
    """The commands in its source, as far as they are written out there."""
    calls = [node for node in ast.walk(ast.parse(inspect.getsource(conda))) if isinstance(node, ast.Call)]
    asked = set()
    for call in calls:
        if getattr(call.func, "attr", "") in ("check_output", "_get_cmd") and call.args:
            text = call.args[0].values[0] if isinstance(call.args[0], ast.JoinedStr) else call.args[0]
            if isinstance(text, ast.Constant) and text.value.startswith("conda "):
                asked.add(" ".join(text.value.split()))
    served = {"conda info --json", "conda --version", "conda config --get channel_priority --json", "conda clean -y --tarballs"}
    # Of archives and of environments by name, which speedgrid has not.
    refused = {"conda env export", "conda list --explicit", "conda clean -y --tarballs --packages"}
    assert asked <= served | refused, f"deployment/conda.py asks for {asked - served - refused}: let envs/uv-frontend/uv_conda.py answer it"
    assert asked >= served, f"deployment/conda.py no longer asks for {served - asked}: let uv_conda.py answer what it asks instead"


def test_why_an_environment_could_not_be_made_is_what_conda_said():
    assert r"\nOutput:\n{e.output}" in inspect.getsource(conda.Env.create), look_at("deployment/conda.py: Env.create", "OUTPUT")
    error = f"Could not create conda environment from some.yaml:\nCommand:\nconda env create{snakemake_seam.OUTPUT}no such\n  package\n"
    said = environments.why("some.yaml", snakemake_seam._said(error))
    assert said == "the environment some.yaml could not be made: no such package"
    assert "nothing quoted" in environments.why("some.yaml", snakemake_seam._said("nothing quoted"))


def test_results_stand_where_their_environments_have_moved(root, monkeypatch):
    """Snakemake would take them for those of other software; of another workflow it still does."""
    source = inspect.getsource(persistence.PersistenceBase._software_stack_hash)
    assert "md5hash.update(job.conda_env.hash.encode())" in source, look_at("persistence: _software_stack_hash", "_wherever_it_lies")
    monkeypatch.setattr(snakemake_seam, "Run", lambda workflow: SimpleNamespace(uses_environments=True))
    hashed = snakemake_seam._wherever_it_lies(lambda persistence, job: job.conda_env.hash)

    def of(recipe: Path, folder: str, content: str) -> str:
        file = SimpleNamespace(get_path_or_uri=lambda secret_free: str(recipe))
        deploy = b"and a script" if content.endswith("script") else None
        told = {"content": content.encode(), "content_deploy": deploy, "content_pin": None}
        env = SimpleNamespace(file=file, hash=f"{folder} {content}", **told)
        return hashed(SimpleNamespace(dag=SimpleNamespace(workflow=None)), SimpleNamespace(conda_env=env, container_img_url=None))

    ours, other = root / "envs" / "transformers.yaml", root / "tests" / "other.yaml"
    assert of(ours, "/home/a", "torch") == of(ours, "/home/b", "torch") != of(ours, "/home/b", "torch and a new build script")
    assert of(other, "/home/a", "torch") != of(other, "/home/b", "torch")
    # Comments and the order of keys ask for nothing; pins do.
    recipe = "dependencies: [torch==2]\nchannels: [conda-forge]\n"
    assert of(ours, "/", recipe) == of(ours, "/", "# words\nchannels: [conda-forge]\ndependencies: [torch==2]\n")
    assert of(ours, "/", recipe) != of(ours, "/", recipe.replace("torch==2", "torch==3"))


def told_by(results: dict[str, list[str] | None], known: bool, change: object):
    """What Snakemake asks of a job with these results, of a workflow that `ask_results` was called for; `known` and `change` are what its
    memory says."""
    workflow = SimpleNamespace()
    snakemake_seam.ask_results(workflow, results.get)
    told = SimpleNamespace(dag=SimpleNamespace(workflow=workflow)), SimpleNamespace(output=list(results))
    has_metadata = snakemake_seam._or_results_say(lambda persistence, job: known)(*told)
    return has_metadata, bool(snakemake_seam._as_results_say(lambda persistence, job, file=None: change)(*told))


def test_what_results_say_of_themselves_counts_before_what_snakemake_remembers():
    source = inspect.getsource(dag.DAG)
    assert "persistence.has_metadata(job)" in source, look_at("dag.py: update_needrun", "_or_results_say")
    assert "self.workflow.persistence.params_changed(job)" in source, look_at("dag.py: update_needrun", "_as_results_say")
    assert not persistence.NO_PARAMS_CHANGE, look_at("persistence: ParamsChange", "_as_results_say")
    changed = persistence.ParamsChange(only_old={"job"})
    # A copy without Snakemake's folder, and results that were put back in the place of others.
    assert told_by({"a": ["options.dtype"]}, False, persistence.NO_PARAMS_CHANGE) == (True, True)
    assert told_by({"a": []}, True, changed) == (True, False)
    assert told_by({"a": []}, False, changed) == (True, False)
    # What says nothing.
    assert told_by({"a": None}, False, persistence.NO_PARAMS_CHANGE) == (False, False)
    assert told_by({"a": None}, True, changed) == (True, True)
    assert told_by({"a": [], "b": None}, True, changed) == (True, True)


@pytest.mark.parametrize(
    ("results", "oldest", "told"),
    [({"a": []}, 5, math.inf), ({"a": []}, None, None), ({"a": ["code"]}, 5, 5), ({"a": [], "b": None}, 5, 5)],
)
def test_results_that_stand_are_older_than_none_of_their_inputs_whatever_the_times_of_files(results, oldest, told):
    assert "t = await job_.output_mintime" in inspect.getsource(dag.DAG.update_needrun), look_at(
        "dag.py: update_needrun", "_or_later_than_all"
    )

    async def time_of(job):
        return oldest

    workflow = SimpleNamespace()
    snakemake_seam.ask_results(workflow, results.get)
    job = SimpleNamespace(dag=SimpleNamespace(workflow=workflow), output=list(results))
    assert asyncio.run(snakemake_seam._or_later_than_all(time_of).fget(job)) == told


def test_rules_of_other_workflows_are_asked_as_snakemake_does():
    asked = snakemake_seam._as_results_say(lambda persistence, job, file=None: "asked")
    assert asked(SimpleNamespace(dag=SimpleNamespace(workflow=SimpleNamespace())), SimpleNamespace(output=["a"])) == "asked"
    assert asked(SimpleNamespace(dag=None), SimpleNamespace(output=["a"])) == "asked"


def test_what_is_to_be_made_is_what_snakemake_has_planned():
    assert "exclude_finished" in inspect.signature(dag.DAG.needrun_jobs).parameters, look_at(
        "dag.py: DAG.needrun_jobs", "Run.files_to_make"
    )
    jobs = [SimpleNamespace(output=["a", "b"]), SimpleNamespace(output=["c"])]
    planned = SimpleNamespace(dag=SimpleNamespace(needrun_jobs=lambda exclude_finished: jobs))
    assert snakemake_seam.Run(planned).files_to_make == {"a", "b", "c"}
    assert snakemake_seam.Run(SimpleNamespace(dag=None)).files_to_make is None
    assert snakemake_seam.Run(None).files_to_make is None
    assert not snakemake_seam.Run(None).is_forced
    assert not snakemake_seam.Run(SimpleNamespace(dag_settings=None)).is_forced, "while it reads the rules"


def test_environments_are_looked_for_where_snakemake_keeps_them(tmp_path, monkeypatch):
    assert 'os.path.join(self.path, "conda")' in inspect.getsource(persistence), look_at("persistence: conda_env_path", "ENVIRONMENTS")
    monkeypatch.setenv("SNAKEMAKE_CONDA_PREFIX", "elsewhere")
    asked = get_argument_parser().parse_args([]).conda_prefix
    assert str(asked) == "elsewhere", look_at("cli.py: --conda-prefix", "environments_folder")
    assert snakemake_seam.environments_folder(tmp_path) == tmp_path / "elsewhere"
    assert snakemake_seam.environments_folder(tmp_path, {}) == tmp_path / ".snakemake/conda"
    assert snakemake_seam.environments_folder(tmp_path, {"SNAKEMAKE_CONDA_PREFIX": "/envs"}) == Path("/envs")


def test_what_snakemake_leaves_in_a_folder_is_none_of_the_users_files():
    assert f'"{checkpoints.SNAKEMAKES}"' in inspect.getsource(io), "io/__init__.py: change SNAKEMAKES of scripts/speedgrid/checkpoints.py"


def test_the_frontend_is_where_environments_look_for_it():
    assert (environments.FRONTEND / "bin" / "conda").exists()
    assert importlib.util.find_spec("uv_conda") is not None


def test_a_mistake_of_the_command_line_is_handed_over_with_the_options_that_there_are(monkeypatch):
    """Before it stood the usage of some 150 options."""
    monkeypatch.setattr(cli, "get_argument_parser", get_argument_parser)
    handed = []

    def refuse(message, options):
        handed.append((message, set(options)))
        raise SystemExit(2)

    snakemake_seam.tell_mistakes(refuse)
    with pytest.raises(SystemExit):
        cli.parse_args(["--nosuch"])
    assert [message for message, _ in handed] == ["unrecognized arguments: --nosuch"], look_at("cli.py: parse_args", "tell_mistakes")
    assert {"--keep-going", "--cores", "--dry-run"} <= handed[0][1], look_at("cli.py: get_argument_parser", "tell_mistakes")
