"""The one place where speedgrid touches the inside of Snakemake: what its rules cannot say.

tests/unit/test_snakemake_seam.py holds the installed Snakemake to what is relied on here, and says where to look when a new one differs.
All else that binds speedgrid to Snakemake is documented there: the language of the rules, the command line, and the conda commands that
envs/uv-frontend answers.
"""

import atexit
import contextlib
import functools
import hashlib
import inspect
import io
import math
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import NoReturn

from speedgrid import commands, environments, job_shell

# The first version that nobody has tried: it hands environments to plugins (docs/architecture.md).
UNTRIED = 10
# Snakemake's own limit of jobs that begin in so many seconds.
DEFAULT_RATE = (100, 1)
RULES = commands.ROOT / "rules"
# Where Snakemake keeps its lock of a working folder, and its environments where SNAKEMAKE_CONDA_PREFIX names no other place.
LOCKS, ENVIRONMENTS = ".snakemake/locks", ".snakemake/conda"
# After it, what conda said, in the error of an environment that could not be made.
OUTPUT = "\nOutput:\n"
# How its line ends that says which profiles it found.
PROFILES = " for setting default command line arguments.\n"


# What of a command line runs jobs whose results are there.
FORCES = re.compile(r"(--force(all|run)?(=|\Z)|-[npk]*[FfR])")


class UntriedVersion(Exception):
    """A Snakemake that speedgrid may not work with, in one line."""


def check_version(found: str | None = None) -> None:
    """Raise UntriedVersion for a Snakemake that is newer than what this module was written for."""
    found = found or version("snakemake")
    if int(found.partition(".")[0]) >= UNTRIED:
        raise UntriedVersion(
            f"Snakemake {found} is newer than what speedgrid was tried with; install snakemake<{UNTRIED}, or start with"
            f" {commands.program()} run, which brings its own"
        )


# What is known of a run


class Run:
    """What Snakemake knows of the run, behind names of our own; `workflow` is its object of that name, which the rules have."""

    def __init__(self, workflow):
        self._workflow = workflow

    @property
    def is_local(self) -> bool:
        """Whether jobs run on this machine. Snakemake knows it only after it has read the rules."""
        return self._workflow.local_exec

    @property
    def is_main(self) -> bool:
        """Whether this process runs the workflow, and is not the one of a job of it."""
        return self._workflow.is_main_process

    @property
    def is_dry_run(self) -> bool:
        """Whether it only says what would run."""
        return bool(self._workflow.dryrun)

    @property
    def is_forced(self) -> bool:
        """Whether it runs jobs whose results are there. While Snakemake reads the rules, its command line alone says so."""
        if getattr(self._workflow, "dag_settings", None) is not None:
            return is_forced(self._workflow)
        return any(FORCES.match(word) for word in sys.argv[1:])

    @property
    def files_to_make(self) -> frozenset[str] | None:
        """The files that the jobs of this run make or have made, also those of a dry run; None until Snakemake has planned."""
        dag = getattr(self._workflow, "dag", None)
        return None if dag is None else frozenset(str(file) for job in dag.needrun_jobs(exclude_finished=False) for file in job.output)

    @property
    def found_nothing_to_do(self) -> bool:
        """Whether it was to run something on this machine and all was there already."""
        flow = self._workflow
        is_run = flow.executor_plugin is not None and not flow.dryrun
        return is_run and flow.local_exec and flow.dag is not None and not len(flow.dag)

    def comes_to(self, *rules: str) -> bool:
        """Whether jobs of one of these rules are a part of it, done already or not."""
        return next(self._jobs_of(*rules), None) is not None

    def logs_of(self, files: Collection[str]) -> list[str]:
        """The logs of the jobs that make these files; the file itself where no job of this run does."""
        logs = {str(file): str(log) for job in self._workflow.dag.jobs for file in job.output for log in job.log}
        return [logs.get(file, file) for file in files]

    @property
    def uses_environments(self) -> bool:
        """Whether jobs have environments of their own, and not the user's Python."""
        return "conda" in {str(method) for method in self._workflow.deployment_settings.deployment_method}

    @property
    def cores(self) -> int:
        """Every core that Snakemake may use here; on a cluster `cpus_per_task` counts instead."""
        return self._workflow.cores if self.is_local else 1

    @property
    def gpu_jobs(self) -> int:
        """How many jobs on GPUs run side by side on this machine."""
        return self._limit("gpu") or 1

    @property
    def makes(self) -> int:
        """How many checkpoints are to be made side by side on one GPU; 0 where each takes a device alone, as with several GPUs, on the
        others of which something may be timed."""
        return (self._limit("makes") or 0) if self.gpu_jobs == 1 else 0

    def _limit(self, resource: str) -> int | None:
        """That of `--resources`. Without one, as of GPUs on a cluster, Snakemake has an entry without a value."""
        limit = self._workflow.global_resources.get(resource)
        return limit.value if limit else None

    @property
    def study_files(self) -> list:
        """The files given with --configfile."""
        return list(self._workflow.configfiles)

    @property
    def module(self) -> "Module | None":
        """The module of another workflow that the rules are which are being read; None where they are a workflow of their own."""
        return None if self._workflow.modifier.is_main_snakefile() else Module(self._workflow)

    def noted(self) -> dict[str, str]:
        """How it was started, as environment variables (commands.of_snakemake)."""
        return commands.of_snakemake(Path(self._workflow.main_snakefile).resolve(), self.module is not None, self.uses_environments)

    @property
    def is_another_going_on(self) -> bool:
        """Whether another run works in this folder."""
        return is_locked(Path())

    def python_of(self, rule: str) -> Path | None:
        """The Python that the jobs of a rule run in, which may not have been made yet; None where the run was not to come to the rule."""
        job = next(self._jobs_of(rule), None)
        if job is None:
            return None
        return Path(job.conda_env.address, "bin", "python") if self.uses_environments else Path(shutil.which("python") or "python")

    def _jobs_of(self, *rules: str) -> Iterator:
        """The jobs of these rules of ours. As a module of another workflow they have a name before their own, and a rule of that workflow
        may end so, too."""
        ends = tuple(f"_{rule}" for rule in rules)
        named = (job for job in self._workflow.dag.jobs if job.rule.name in rules or job.rule.name.endswith(ends))
        ours = (RULES, RULES.parent / "Snakefile")
        return (job for job in named if not {(path := Path(str(job.rule.snakefile)).resolve()), path.parent}.isdisjoint(ours))


class Module:
    """Our rules as a module of another workflow, which is being read."""

    def __init__(self, workflow):
        self._workflow = workflow
        self.name = workflow.modifier.namespace

    def __str__(self) -> str:
        """Where it stands, as a person in the working folder would look for it."""
        path = Path(self._workflow.main_snakefile).resolve()
        return f"{path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path}: `module {self.name}:`"

    @property
    def moves_paths(self) -> str:
        """The key by which it changes the paths of our rules; empty where it changes none."""
        modifier = self._workflow.modifier.path_modifier
        return "prefix" if modifier.prefix else "replace_prefix" if modifier._prefix_replacements else ""

    def another(self) -> str:
        """The name of another module that the same workflow has read our rules as before; empty where there is none. The same module is
        read again for each rule that the workflow changes."""
        before = getattr(self._workflow, "speedgrid_module", self.name)
        self._workflow.speedgrid_module = self.name
        return before if before != self.name else ""


def is_locked(folder: Path) -> bool:
    """Whether a run works in a folder, or was killed there: both have Snakemake's lock."""
    return any((folder / LOCKS).glob("*.lock"))


def is_snakemake(command_line: bytes) -> bool:
    """Whether a process is a run of Snakemake, by its command line as /proc has it: by the program, so that an editor or a job with a file
    of that name is none. The launcher runs it by scripts/terminal.py."""
    words = iter(os.fsdecode(command_line).split("\0"))
    program = next(words)
    if Path(program).name.startswith("python"):
        program = next(words, "")
        while program.startswith("-"):
            # One word, as in `-msnakemake`, or two, and after other switches, as in `-um`; but not in what `-X` and `-W` have behind them.
            if module := re.fullmatch(r"-[^-XWmc]*([mc])(.*)", program, re.DOTALL):
                return module[1] == "m" and (module[2] or next(words, "")).partition(".")[0] == "snakemake"
            # Switches whose value stands apart.
            program = (next(words, "") and next(words, "")) if program in ("-W", "-X") else next(words, "")
    # What wraps programs keeps the wrapped one beside them under a hidden name.
    return Path(program).name in ("snakemake", ".snakemake-wrapped", "terminal.py")


# Planning large grids


def looked_up_once(function: Callable) -> Callable:
    """The same function, whose parameters Snakemake need not look up for every job: that was a fifth of planning a large grid.

    It is what `snakemake.common.overwrite_function_params` does, which the jobs that plan without Snakemake do not have.
    """
    setattr(function, "_overwrite_params", inspect.signature(function).parameters)  # noqa: B010 - no attribute of functions that types know
    return function


def spare_work() -> None:
    """Spare Snakemake work that it does for every job of a plan and that changes nothing: a third of the time for planning a large grid,
    and a fifth of the memory.

    - It looks up, for every resource of every job, what parameters its own function takes that asks a resource for its value.
    - Every list of a job's files, parameters and resources has two objects of its own that say the same (`AttributeGuard`).
    - The parameters of every job are worked out, and kept, before its rule is asked for its environment, also where that is a function of
      the wildcards alone. Parameters that are handed over as a function are worked out where they are asked for.
    - A dry run gives back the resources of every job, which it has never taken.
    """
    from snakemake.iocontainers import AttributeGuard
    from snakemake.jobs import Job
    from snakemake.resources import Resource
    from snakemake.scheduling.job_scheduler import JobScheduler

    looked_up_once(Resource.evaluate)
    guards: dict[str, AttributeGuard] = {}
    AttributeGuard.__new__ = lambda cls, name: guards.setdefault(name, object.__new__(cls))

    def conda_env_spec(job):
        if job._conda_env_spec is None:
            job._conda_env_spec = job.rule.expand_conda_env(job.wildcards_dict, lambda: job.params, job.input)
        return job._conda_env_spec

    Job.conda_env_spec = property(conda_env_spec)
    if not hasattr(JobScheduler._free_resources, "__wrapped__"):  # a second workflow in this process
        JobScheduler._free_resources = _of_real_runs(JobScheduler._free_resources)


def _of_real_runs(free: Callable) -> Callable:
    """`JobScheduler._free_resources`, in a dry run nothing."""

    @functools.wraps(free)
    def free_resources(scheduler, job) -> None:
        if not scheduler.dryrun:
            free(scheduler, job)

    return free_resources


def skip_the_note_of_profiles() -> None:
    """Let Snakemake's command line not begin with the profile that it found: it prints that line whatever logger there is."""
    from snakemake import cli

    parse = cli.parse_args

    def parse_args(*arguments):
        said = io.StringIO()
        try:
            with contextlib.redirect_stderr(said):
                return parse(*arguments)
        finally:
            lines = said.getvalue().splitlines(keepends=True)
            sys.stderr.write("".join(line for line in lines if not line.endswith(PROFILES)))

    cli.parse_args = parse_args


def tell_mistakes(refuse: Callable[[str, Iterable[str]], NoReturn]) -> None:
    """Let Snakemake hand what is wrong with its command line to `refuse`, with the options that it knows; it would print the usage of all
    of them before."""
    from snakemake import cli

    make = cli.get_argument_parser

    def get_argument_parser(*arguments, **named):
        parser = make(*arguments, **named)
        parser.error = lambda message: refuse(message, parser._option_string_actions)
        return parser

    cli.get_argument_parser = get_argument_parser


def end_at_once(stop: Callable[[int, object], None]) -> None:
    """Let `stop`, a handler of signals, answer SIGTERM. Snakemake waits until its jobs have ended by themselves, which may be hours; who
    sends the signal, such as a scheduler, kills what is left after seconds."""
    from snakemake.scheduling.job_scheduler import JobScheduler

    def exit_gracefully(self, number, frame):
        stop(number, frame)

    JobScheduler.exit_gracefully = exit_gracefully


def skip_what_is_not_shown(workflow) -> None:
    """Let a dry run that shows its summary alone (`-n --quiet rules`) leave out what it would say of every job.

    Snakemake 9 has that option for large workflows, works out message, files, resources and shell line of every job all the same, and
    drops them: a third of planning a large grid.
    """
    from snakemake.jobs import Job
    from snakemake.settings.enums import Quietness

    if not {Quietness.RULES, Quietness.ALL} & set(workflow.logger_manager.settings.quiet or ()):
        return
    shown = Job.log_info

    def log_info(job, *arguments, **settings):
        # Which executor there is, Snakemake knows only after it has read the rules.
        if not workflow.dryrun:
            shown(job, *arguments, **settings)

    Job.log_info = log_info


# What results say of themselves


def ask_results(workflow, changed: Callable[[str], list[str] | None]) -> None:
    """Let Snakemake take what a result says of itself for what made it, and neither what it remembers of the folder nor the times of files:
    results may have been copied here, or put back in the place of others, and the memory may be gone.

    `changed` says of a file what is no longer as it would be made, nothing where all is, and None where that cannot be told; then
    Snakemake's memory counts.
    """
    workflow.speedgrid_changed = changed


def _as_results_say(asked: Callable) -> Callable:
    """`PersistenceBase.params_changed`, by what the results of a job say where they say it."""
    from snakemake.persistence import NO_PARAMS_CHANGE, ParamsChange

    @functools.wraps(asked)
    def params_changed(persistence, job, file=None):
        files = [file] if file is not None else list(job.output)
        said = _said_by_results(persistence.dag, files)
        if said is None:
            return asked(persistence, job, file=file)
        return ParamsChange(only_old=set(said), files=set(files)) if said else NO_PARAMS_CHANGE

    return params_changed


def _or_results_say(known: Callable) -> Callable:
    """`PersistenceBase.has_metadata`, without which Snakemake asks for no changes: true for a job whose results say what made them."""

    @functools.wraps(known)
    def has_metadata(persistence, job) -> bool:
        return known(persistence, job) or _said_by_results(persistence.dag, list(job.output)) is not None

    return has_metadata


def _or_later_than_all(oldest: Callable) -> property:
    """`Job.output_mintime`, the time that no input of a job may be later than: for results that say that they stand there is none.

    A copy, a clone and an unpacked archive have files of any times, by which all of a study would be measured anew.
    """

    async def output_mintime(job) -> float | None:
        time = await oldest(job)
        return math.inf if time is not None and _said_by_results(job.dag, list(job.output)) == [] else time

    return property(functools.wraps(oldest)(output_mintime))


def _said_by_results(dag, files: list) -> list[str] | None:
    """What has changed by what all of these files say, None where one of them says nothing."""
    changed = getattr(getattr(dag, "workflow", None), "speedgrid_changed", None)
    said = [changed(str(file)) for file in files] if changed else []
    known = [keys for keys in said if keys is not None]
    return [key for keys in known for key in keys] if said and len(known) == len(said) else None


# Between jobs


def also(workflow, event: str, action: Callable[[], object]) -> None:
    """Let something be done at `onstart`, `onsuccess` or `onerror`, besides what the workflow that is run says there.

    Snakemake keeps one function for each event, and none of those of a module: this one is called after what it keeps, now or later.
    """
    register, kept = getattr(workflow, event), f"_{event}"

    def followed(function: Callable) -> Callable:
        def both(log):
            function(log)
            action()

        return both

    setattr(workflow, kept, followed(getattr(workflow, kept)))
    setattr(workflow, event, lambda function: register(followed(function)))


def keep_quiet(workflow) -> None:
    """Let Snakemake wait for a job to end before it looks for the next one, where nobody asked for a limit of jobs per time.

    Under its default limit Snakemake 9 looks again a second after every look, and every job that ends adds a look of its own that never
    stops: after 50 jobs it took 11 % of a core from what was being measured.
    """
    limiter = getattr(getattr(workflow, "scheduler", None), "job_rate_limiter", None)
    limit = workflow.scheduling_settings.max_jobs_per_timespan
    if limiter and (limit.max_jobs, limit.timespan) == DEFAULT_RATE:
        workflow.scheduler.job_rate_limiter = None


def between_jobs(workflow, action: Callable[[], None]) -> None:
    """Let something be done before jobs begin, whenever no other job of this run is under way."""
    scheduler = getattr(workflow, "scheduler", None)
    if scheduler is None:  # a dry run has none that runs anything
        return
    begin = scheduler.run

    def run(jobs, executor=None):
        # Those that are about to begin count as running already.
        if not set(scheduler.running) - set(jobs):
            action()
        return begin(jobs, executor=executor)

    scheduler.run = run


def is_forced(workflow) -> bool:
    """Whether the command runs jobs whose results are there (`-F`, `-f`, `-R`), which it would do each time that it starts anew."""
    settings = workflow.dag_settings
    return bool(settings.forceall or settings.forcerun or settings.forcetargets)


def at_the_end(action: Callable[[], None]) -> None:
    """Let something be done when this process ends, in the working folder: Snakemake has left it by then, where `--directory` names one."""
    here = Path.cwd()

    def act() -> None:
        with contextlib.chdir(here):
            action()

    atexit.register(act)


def again_at_the_end() -> None:
    """Start the same command once more when this process ends, in its place: with Snakemake's lock free, and with no second process."""

    def start() -> None:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        os.execv(sys.executable, sys.orig_argv)

    atexit.register(start)


def exit_at_the_end(status: int) -> None:
    """End this process with a status of our own, where Snakemake has found nothing to do and would end well; called while it ends."""
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(status)


# Environments


def look_after(workflow) -> None:
    """Change how Snakemake makes and activates environments, with conda or with uv, in this process, and what its jobs find set."""
    from snakemake.deployment import containerize
    from snakemake.deployment.conda import Conda, Env
    from snakemake.jobs import Job
    from snakemake.persistence import PersistenceBase
    from snakemake.workflow import Workflow

    uses_environments = Run(workflow).uses_environments
    job_shell.prepare(os.environ, uses_environments)
    if hasattr(Env.create, "__wrapped__"):  # a second workflow in this process
        return
    Env.create = _in_turn(Env.create)
    Env.execute_deployment_script = _run_script
    Conda.shellcmd = _checked(Conda.shellcmd)
    Workflow.conda_create_envs = _all_or_failed(Workflow.conda_create_envs)
    PersistenceBase._software_stack_hash = _wherever_it_lies(PersistenceBase._software_stack_hash)
    PersistenceBase.params_changed = _as_results_say(PersistenceBase.params_changed)
    Job.output_mintime = _or_later_than_all(Job.output_mintime.fget)
    PersistenceBase.has_metadata = _or_results_say(PersistenceBase.has_metadata)
    containerize.containerize = _whole_or_refused(containerize.containerize)


def _in_turn(make: Callable) -> Callable:
    """`Env.create` that no other run on the same file system does at the same time for the same environment."""
    from snakemake.deployment.conda import Env, get_env_setup_done_flag_file
    from snakemake.exceptions import CreateCondaEnvironmentException, WorkflowError
    from snakemake.logging import logger

    @functools.wraps(make)
    def create(env: Env, dryrun: bool = False) -> str | None:
        folder = Path(env.address)
        if any(sign in environments.SHARP for sign in str(folder)):
            raise WorkflowError(
                f"{folder.parent}: environments cannot be kept in a folder with quotes or $ in its name; set SNAKEMAKE_CONDA_PREFIX"
            )

        def is_made() -> bool:
            return folder.exists() and get_env_setup_done_flag_file(folder).exists()

        if not env.workflow.is_main_process and environments.Failure.of(folder):
            return None  # the process that starts the jobs could not make it
        # Only the process that starts the jobs takes an environment for broken: on the node of a job the folder may be mounted otherwise.
        is_broken = env.workflow.is_main_process and not dryrun and not env.is_containerized and is_made() and not environments.runs(folder)
        if dryrun or env.is_containerized or (is_made() and not is_broken):
            return make(env, dryrun)  # makes nothing; the folder may be one where nothing can be written
        name = env.file.simplify_path()
        with environments.alone(
            folder.with_name(f"{folder.name}.making"),
            lambda: logger.info(f"Waiting for another run that makes conda environment {name}..."),
        ):
            if is_made() and not environments.runs(folder):
                logger.info(f"The Python of conda environment {name} is gone or of another version; it is made again.")
                try:
                    get_env_setup_done_flag_file(folder).unlink()
                    shutil.rmtree(folder)
                except OSError as error:
                    raise WorkflowError(f"{folder}: its Python does not run, and it cannot be deleted to make it again: {error}") from None
            environments.Failure.file(folder).unlink(missing_ok=True)
            try:
                with environments.cpu_builds_in_reach(Path(env.file.get_path_or_uri(secret_free=True))):
                    return make(env, dryrun)
            except CreateCondaEnvironmentException as error:
                instead = _that_of_the_report(env)
                if not instead:
                    raise
                logger.error(f"{error}\nThe jobs that need this environment will fail; all others go on.")
                environments.Failure(environments.why(name, _said(str(error))), instead).keep(folder)
                return None

    return create


def _wherever_it_lies(hashed: Callable) -> Callable:
    """`PersistenceBase._software_stack_hash`, by which Snakemake knows results of other software, without the place of the environment and
    the comments of its file.

    Snakemake counts the folder of environments, so that one that was moved, or a clone in another home, would measure everything anew, and
    every byte of the file. Only for environments of speedgrid: another workflow's results keep what Snakemake noted of them.
    """

    @functools.wraps(hashed)
    def software_stack_hash(persistence, job) -> str:
        env = job.conda_env if Run(persistence.dag.workflow).uses_environments else None
        if env is None or job.container_img_url or not (env.file and _is_of_the_project(env.file.get_path_or_uri(secret_free=True))):
            return hashed(persistence, job)
        return _asked_for(env.content, env.content_deploy or b"", env.content_pin or b"")

    return software_stack_hash


@functools.cache
def _asked_for(recipe: bytes, deploy: bytes, pins: bytes) -> str:
    return environments.asked_for(recipe, deploy, pins)


@functools.cache
def _is_of_the_project(recipe: str) -> bool:
    return Path(recipe).resolve().parent == environments.FRONTEND.parent


def _said(error: str) -> str:
    """What conda or uv said, of Snakemake's error where an environment could not be made; all of it where nothing is quoted."""
    return error.partition(OUTPUT)[2].strip() or error


def _that_of_the_report(env) -> str:
    """The environment of the report's jobs, where this run has them and they have another one; empty where not."""
    planned = [other for other in env.workflow.dag.conda_envs.values() if other.file]
    found = [other.address for other in planned if Path(other.file.simplify_path()).name == environments.REPORT]
    return found[0] if found and found[0] != env.address else ""


def _all_or_failed(make_all: Callable) -> Callable:
    """`Workflow.conda_create_envs` (`--conda-create-envs-only`), which has failed where one of them could not be made."""
    from snakemake.exceptions import WorkflowError

    @functools.wraps(make_all)
    def conda_create_envs(workflow) -> None:
        make_all(workflow)
        failed = [env.file.simplify_path() for env in workflow.dag.conda_envs.values() if environments.Failure.of(env.address)]
        if failed:
            raise WorkflowError(f"Could not make {', '.join(sorted(failed))}; the reasons are above, and all others are made.")

    return conda_create_envs


def _whole_or_refused(write: Callable) -> Callable:
    """`--containerize`, which writes no image of environments that a post-deploy script finishes: Snakemake would leave the script out."""
    from snakemake.exceptions import WorkflowError

    @functools.wraps(write)
    def containerize(workflow, dag, fmt="dockerfile") -> None:
        scripts = sorted(
            {job.conda_env.post_deploy_file.simplify_path() for job in dag.jobs if job.conda_env and job.conda_env.post_deploy_file}
        )
        if scripts:
            raise WorkflowError(
                f"--containerize leaves out {', '.join(scripts)}, without which these environments do not work: name a study without "
                "techniques of them with --configfile (docs/techniques.md has the environment of each)"
            )
        write(workflow, dag, fmt=fmt)

    return containerize


def _run_script(env, env_file: str, deploy_file: str) -> None:
    """`Env.execute_deployment_script` for folders with a space in their name, too."""
    from snakemake.logging import logger
    from snakemake.shell import shell

    logger.info(f"Running post-deploy script {os.path.relpath(deploy_file)}...")
    command = env.conda.shellcmd(env.address, f"bash {shlex.quote(str(deploy_file))}")
    shell.check_output(command, stderr=subprocess.STDOUT, text=True, errors="replace")


def _checked(write: Callable) -> Callable:
    """`Conda.shellcmd` whose command runs in the environment that it names, or not at all."""

    @functools.wraps(write)
    def shellcmd(conda, env_address: str, cmd: str) -> str:
        activated, before = environments.told_in_shell(env_address)
        return write(conda, activated, before + cmd)

    return shellcmd


def environments_folder(working_folder: Path, environ: Mapping[str, str] = os.environ) -> Path:
    """Where a Snakemake that runs in a folder keeps the environments of jobs, by its environment variables."""
    return working_folder / (environ.get("SNAKEMAKE_CONDA_PREFIX") or ENVIRONMENTS)


def environment_folder(recipe: Path, within: Path) -> Path:
    """Where Snakemake keeps the environment of a file: named by a hash of the place, the post-deploy script, if any, and the file."""
    deploy = recipe.with_suffix(".post-deploy.sh")
    content = os.path.realpath(within).encode() + (deploy.read_bytes() if deploy.is_file() else b"") + recipe.read_bytes()
    return within / (hashlib.md5(content, usedforsecurity=False).hexdigest() + "_")
