"""The launcher `speedgrid`, run for real in a copy of the repository whose path has spaces."""

import ast
import contextlib
import importlib.machinery
import importlib.util
import os
import pty
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from types import SimpleNamespace

import pyte
import pytest
import yaml
from pip_settings import uv_environment
from speedgrid import commands, environments, snakemake_options, supervision

SNAKEFILE = r"""
rule all:
    input: "seen.txt"

rule seen:
    output: "{name}.txt"
    log: "{name}.log"
    params: config=lambda wildcards: " ".join(f"{key}={value}" for key, value in sorted(config.items()))
    shell:
        'echo "config: {params.config}" > {output}; echo "cores: {workflow.cores}" >> {output};'
        'echo "python: $(command -v python)" >> {output}; echo "conda: $(command -v conda)" >> {output};'
        'echo "nousersite: ${{PYTHONNOUSERSITE:-}}" >> {output}; echo "prefix: ${{SNAKEMAKE_CONDA_PREFIX:-}}" >> {output};'
        'echo "cwd: $PWD" >> {output}; echo "torch: ${{SPEEDGRID_TORCH:-}}" >> {output};'
        'for reply in 1 2 3; do echo "{wildcards.name}: reply $reply of 3" >&2; sleep 0.4; done'
"""


def copy_of(root, folder):
    for name in ("speedgrid", "locks", "envs", "scripts", "techniques.yaml", "config.yaml", "pyproject.toml"):
        copy = shutil.copytree if (root / name).is_dir() else shutil.copy
        copy(root / name, folder / name)
    (folder / "Snakefile").write_text(SNAKEFILE)
    return folder


def environment(**more):
    """Without what a user's shell may say to Snakemake; uv is the one that runs the tests."""
    dropped = ("SNAKEMAKE_", "SPEEDGRID_", "PYTHONNOUSERSITE")
    return {k: v for k, v in os.environ.items() if not k.startswith(dropped)} | more


def speedgrid(clone, *arguments, cwd=None, **more):
    command = [sys.executable, clone / "speedgrid", *arguments]
    return subprocess.run(command, cwd=cwd or clone, env=environment(**more), capture_output=True, text=True)


def seen(clone, name="seen"):
    return dict(line.split(": ", 1) for line in (clone / f"{name}.txt").read_text().splitlines())


@pytest.fixture(scope="module")
def clone(root, tmp_path_factory):
    """A copy that has been started once."""
    folder = copy_of(root, tmp_path_factory.mktemp("a clone with spaces"))
    done = speedgrid(folder, "run", "--version")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "9.27.1\n"
    assert "setting up .venv from locks/run.txt" in done.stderr
    return folder


@pytest.fixture
def small(root, tmp_path):
    """A copy that locks one small package, so that its environment is made in a moment; Snakemake is not in it."""
    folder = copy_of(root, tmp_path)
    lines = (root / "locks" / "run.txt").read_text()
    (folder / "locks" / "run.txt").write_text(re.search(r"^idna==.*?(?=^\S)", lines, re.DOTALL | re.MULTILINE)[0])
    return folder


@pytest.fixture(scope="module")
def launcher(root):
    """The launcher as a module, for the functions that only decide."""
    loader = importlib.machinery.SourceFileLoader("launcher", str(root / "speedgrid"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("launcher", loader))
    loader.exec_module(module)
    return module


def is_one_line(done, *texts):
    assert done.returncode != 0
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("speedgrid: ")
    assert all(text in done.stderr for text in texts), done.stderr


# The command line


@pytest.mark.parametrize(
    ("arguments", "said"), [([], "run  "), (["--help"], "run  "), (["run", "--help"], "--sharpen"), (["run", "-n", "-h"], "--sharpen")]
)
def test_help_is_short(root, arguments, said):
    done = speedgrid(root, *arguments)
    assert done.returncode == 0
    assert f"  {said}" in done.stdout
    assert len(done.stdout.splitlines()) <= 30
    assert max(map(len, done.stdout.splitlines())) <= 110


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["measure"], "unknown command 'measure'; allowed are new, run, prepare, report, compare"),
        (["reprot"], "unknown command 'reprot'; did you mean report?"),
        (["report", "-n"], "unrecognized arguments: -n (see ./speedgrid report --help)"),
        (["compare", "a"], "the following arguments are required: B (see ./speedgrid compare --help)"),
        (["compare", "a", "b", "--floor", "much"], "'much' is not a percentage over 0"),
        (["doctor", "--fast"], "unrecognized arguments: --fast"),
        (["advise", "--vram", "-1"], "'-1' is not a number above 0"),
        (["list", "--ready", "--studies"], "not allowed with argument"),
    ],
)
def test_a_mistake_is_one_line_and_exits_with_2_before_anything_is_set_up(root, tmp_path, arguments, said):
    copy_of(root, tmp_path)
    done = speedgrid(tmp_path, *arguments)
    is_one_line(done, said)
    assert done.returncode == 2
    assert not (tmp_path / ".venv").exists()


@pytest.mark.parametrize("arguments", [["--help"], ["compare", "--help"], ["--version"]])
def test_a_reader_who_has_seen_enough_is_no_error(root, arguments):
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, root / "speedgrid", *arguments]
    done = subprocess.run(command, env=environment(), stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_report_takes_the_study_and_no_arguments_of_snakemake(root):
    """They would be those of a run: `-n` and targets mean nothing for it."""
    is_one_line(speedgrid(root, "report", "-n"), "unrecognized arguments: -n (see ./speedgrid report --help)")
    is_one_line(speedgrid(root, "report", "--sharpen"), "unrecognized arguments: --sharpen (see ./speedgrid report --help)")
    is_one_line(speedgrid(root, "report", "--study", "gone.yaml"), "--study gone.yaml: there is no such file")
    assert "--nolock" not in speedgrid(root, "report", "--help").stdout


def test_options_of_a_report_that_mean_nothing_for_it_are_mistakes(root, tmp_path):
    (tmp_path / "summary.parquet").touch()
    for arguments, said in (
        (["--out", "my page"], "--out is where the page of several folders goes; name them: ./speedgrid report DIR ... --out 'my page'"),
        ([str(tmp_path), "--study", "config.yaml"], "--study names the study of the results here"),
    ):
        done = speedgrid(root, "report", *arguments)
        is_one_line(done, said)
        assert done.returncode == 2


def test_advise_reads_where_the_user_is_and_says_in_one_line_what_is_no_result(clone, tmp_path):
    (tmp_path / "here").mkdir()
    done = speedgrid(clone, "advise", "--results", "here", cwd=tmp_path)
    is_one_line(done, "here: has no summary.parquet")
    assert done.returncode == 2
    assert "--max-loss" in speedgrid(clone, "advise", "--help", cwd=tmp_path).stdout


def test_compare_reads_where_the_user_is_and_says_in_one_line_what_is_no_result(clone, tmp_path):
    (tmp_path / "here").mkdir()
    done = speedgrid(clone, "compare", "here", "there", cwd=tmp_path)
    is_one_line(done, "here: not a results folder; it has no summary.parquet")
    assert done.returncode == 2
    assert "--fail-on" in speedgrid(clone, "compare", "--help", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        (["speedgrid", "sh"], ["show"]),
        (["./speedgrid", "show", "torch_compile_l"], ["torch_compile_loop"]),
        (["speedgrid", "compare", "--fail-on", "sl"], ["slower"]),
        (["speedgrid", "clean", "mo"], ["models"]),
        (["speedgrid", "new", "--shape", "llama-3.2-1"], ["llama-3.2-1b"]),
        (["speedgrid", "new", "--techniques", "awq"], ["awq_int4"]),
        (["speedgrid", "new", "--workload", "t"], ["train"]),
        (["speedgrid", "new", "--gpu", "H2"], ["H200"]),
        (["speedgrid", "advise", "--model", "my-"], ["my-llama"]),
        (["speedgrid", "advise", "--gpu", ""], ["local"]),
        (["speedgrid", "advise", "--task", ""], ["train"]),
        (["speedgrid", "run", "--study", "studies/mi"], ["studies/mine.yaml"]),
    ],
)
def test_bash_completes_commands_techniques_and_choices(root, tmp_path, typed, offered):
    measured = "results/local/train/my-llama/finetune_full"
    for folder in (measured, "results/checkpoints/my-llama/awq_int4/float32", "results/requests/generate", "results/figures", "studies"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / measured / "measure.parquet").touch()
    (tmp_path / "studies/mine.yaml").touch()
    (tmp_path / "results/local.log").touch()
    script = speedgrid(root, "completion", "bash")
    assert script.returncode == 0
    asked = 'source /dev/stdin; COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _shtab_speedgrid; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", asked, "bash", *typed], cwd=tmp_path, input=script.stdout, capture_output=True, text=True)
    assert [line.strip() for line in done.stdout.splitlines()] == offered, done.stderr
    assert "complete " in script.stdout


def test_the_completion_of_every_shell_has_every_command(root):
    for shell in ("bash", "zsh", "fish"):
        script = speedgrid(root, "completion", shell).stdout
        assert all(command in script for command in ("compare", "completion", "--dry-run" if shell != "fish" else "dry-run"))


def test_an_old_python_gets_one_line(root):
    text = (root / "speedgrid").read_text()
    check = text[: text.index("import contextlib")]
    ast.parse(text, feature_version=(3, 6))  # an old Python must get as far as the check
    done = subprocess.run([sys.executable, "-c", f"import sys; sys.version_info = (3, 9, 1)\n{check}"], capture_output=True, text=True)
    is_one_line(done, "needs Python 3.11 or newer, but this is Python 3.9")


@pytest.mark.parametrize(
    ("given", "added"),
    [
        ([], ["--cores", "1", "--use-conda", "--rerun-incomplete"]),
        (["-n", "out.txt"], ["--cores", "1", "--use-conda", "--rerun-incomplete"]),
        (["--cores", "4"], ["--use-conda", "--rerun-incomplete"]),
        (["--cores=4"], ["--use-conda", "--rerun-incomplete"]),
        (["-c4"], ["--use-conda", "--rerun-incomplete"]),
        (["-c", "all"], ["--use-conda", "--rerun-incomplete"]),
        (["-call"], ["--use-conda", "--rerun-incomplete"]),
        (["-j", "8"], ["--use-conda", "--rerun-incomplete"]),
        (["-npj8"], ["--use-conda", "--rerun-incomplete"]),
        (["--executor", "slurm"], ["--use-conda", "--rerun-incomplete"]),
        (["--workflow-profile", "profiles/slurm"], ["--use-conda", "--rerun-incomplete"]),
        (["--sdm", "conda"], ["--cores", "1", "--rerun-incomplete"]),
        (["--software-deployment-method=apptainer"], ["--cores", "1", "--rerun-incomplete"]),
        (["--use-conda"], ["--cores", "1", "--rerun-incomplete"]),
        (["--no-conda"], ["--cores", "1", "--rerun-incomplete"]),
    ],
)
def test_what_is_added_for_snakemake(launcher, monkeypatch, given, added):
    monkeypatch.delenv("SNAKEMAKE_PROFILE", raising=False)
    ours, theirs = launcher.split_arguments(given)
    assert launcher.defaults(ours, theirs, None) == added
    assert theirs == [a for a in given if a != "--no-conda"]


@pytest.mark.parametrize(
    ("given", "shows"),
    [
        (["-n"], True),
        (["-p"], True),
        (["-nF"], True),
        (["-np"], False),
        (["-pn", "x"], False),
        (["-n", "-p"], False),
        (["--dry-run", "--printshellcmds"], False),
    ],
)
def test_a_dry_run_that_prints_commands_is_shown_by_snakemake(given, shows):
    """Commands stood apart from the steps that they are of, with `Shell command: None` for those of none."""
    assert snakemake_options.shows_steps(given) == shows


def test_what_follows_two_dashes_is_a_target(launcher):
    ours, theirs = launcher.split_arguments(["--study", "a.yaml", "-p", "--", "--study", "--no-conda"])
    assert (ours["study"], ours["no_conda"]) == ("a.yaml", False)
    assert theirs == ["-p", "--", "--study", "--no-conda"]


def test_contradictions_and_missing_values(root):
    is_one_line(speedgrid(root, "run", "--no-conda", "--uv-envs"), "--uv-envs: not allowed with argument --no-conda")
    is_one_line(speedgrid(root, "run", "--study"), "argument --study: expected one argument")


# Studies


@pytest.mark.parametrize("given", [["config.yaml"], ["-n", "config.yaml"], ["--cores", "2", "config.yaml"]])
def test_a_study_without_its_option_is_said_to_be_one(launcher, monkeypatch, root, given):
    monkeypatch.setattr(launcher, "HERE", root)
    _, theirs = launcher.split_arguments(given)
    with pytest.raises(launcher.Mistake, match=r"^config\.yaml is a study: \./speedgrid run --study config\.yaml$"):
        launcher.refuse_bare_study(theirs)


def test_a_study_by_its_name_alone_is_said_to_be_one(launcher, monkeypatch, root):
    monkeypatch.setattr(launcher, "HERE", root)
    with pytest.raises(launcher.Mistake, match=r"^training-small is a study: \./speedgrid run --study studies/training-small\.yaml$"):
        launcher.refuse_bare_study(["training-small"])
    launcher.refuse_bare_study(["--cores", "s3", "nowhere"])


@pytest.mark.parametrize("given", [["--configfile", "config.yaml"], ["results/report.html"], ["nowhere.yaml"], []])
def test_what_is_no_study_or_has_its_option_is_left_to_snakemake(launcher, monkeypatch, root, given):
    monkeypatch.setattr(launcher, "HERE", root)
    launcher.refuse_bare_study(given)


@pytest.mark.parametrize("name", ["s3", "s3.yaml", "study/s3.yml"])
def test_a_study_that_is_not_there_is_answered_by_the_nearest(launcher, name):
    with pytest.raises(launcher.Mistake, match=rf"^--study {name}: there is no such file; did you mean studies/s3.yaml\?$"):
        launcher.find_study(name)


def test_a_study_that_is_not_there_or_not_a_file(clone):
    is_one_line(speedgrid(clone, "run", "--study", "nowhere/x.yaml"), "nowhere/x.yaml", "there is no such file")
    is_one_line(speedgrid(clone, "run", "--study", "locks"), "--study locks: is not a file")


@pytest.mark.parametrize(
    ("content", "answer"),
    [
        (b"a: [1", "the file ends inside of a bracket"),
        (b"a: 1\nb: 2\na: 3\n", "line 3: the key 'a' is there twice"),
        (b"a: &a [*a]\n", "line 1: *a lies inside of what it stands for"),
        (b"a:\n\t- b", "line 2"),
        (b"- a\n", "it has no keys"),
        (b"", "it has no keys"),
        (b"\xff\xfe\xff", "line 1: is not UTF-8"),
        (b"a: " + 3000 * b"[" + 3000 * b"]", "line 1: values lie in one another more than 40 deep"),
        # Nine lists of nine lists ... of which YAML makes 9 to the power of 12 values.
        (
            b"a0: &a0 [x]\n" + b"".join(b"a%d: &a%d [%s]\n" % (i, i, b",".join(9 * [b"*a%d" % (i - 1)])) for i in range(1, 12)),
            "100,000 values",
        ),
        # Snakemake runs the Python of such a file before it reads the first rule.
        (b"__use_yte__: true\n?open('ran.txt', 'w'): 1\n", "line 1: the key __use_yte__ makes a template of the file"),
    ],
)
def test_a_study_that_cannot_be_read(clone, tmp_path, content, answer):
    study = tmp_path / "bad.yaml"
    study.write_bytes(content)
    is_one_line(speedgrid(clone, "run", "--study", study), f"--study {study}: ", answer)
    is_one_line(speedgrid(clone, "run", "-n", "--configfile", study), f"--configfile {study}: ", answer)
    assert not (clone / "ran.txt").exists()


def test_every_file_that_snakemake_would_read_as_a_study_is_read_first():
    one = ["--configfile", "a.yaml", "b.yaml", "-n", "target"]
    assert snakemake_options.config_files(one) == ["a.yaml", "b.yaml"]
    assert snakemake_options.config_files(["-p", "--configfiles=a.yaml", "--cores", "2"]) == ["a.yaml"]
    assert snakemake_options.config_files(["--configf", "a.yaml", "--config", "seed=1", "--", "b.yaml"]) == ["a.yaml"]
    assert snakemake_options.config_files(["--config", "seed=1", "target"]) == []


def test_a_study_for_snakemake_that_is_not_there(clone):
    is_one_line(speedgrid(clone, "run", "-n", "--configfile", "nowhere.yaml"), "--configfile nowhere.yaml: there is no such file")


# Running


@pytest.mark.slow
def test_a_run_from_elsewhere_with_a_study_and_arguments_of_snakemake(clone, tmp_path):
    (tmp_path / "mine.yaml").write_text("name: mine\n")
    cache = tmp_path / "cache"
    arguments = ["run", "--study", "mine.yaml", "away.txt", "--config", "extra=1"]
    done = speedgrid(clone, *arguments, cwd=tmp_path, XDG_CACHE_HOME=str(cache), PYTHONPATH="/x")
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    facts = seen(clone, "away")
    assert facts["config"] == "extra=1 name=mine"
    assert facts["cores"] == "1"
    assert facts["cwd"] == str(clone)
    assert facts["python"] == str(clone / ".venv" / "bin" / "python")
    assert facts["nousersite"] == "1"
    assert facts["prefix"] == str(cache / "speedgrid" / "envs")
    assert "away: reply 3 of 3\n" in done.stderr
    assert "\x1b" not in done.stderr  # no live display where nobody watches
    # One line a step, what jobs say below it, and nothing that Snakemake says of itself.
    said = [line for line in done.stderr.splitlines() if "reply" not in line]
    assert [re.sub(r"^\d\d:\d\d:\d\d", "", line).split()[:2] for line in said] == [["1/1", "seen"]], done.stderr
    assert "Finished jobid" in newest_log(clone)  # its blocks are in its log


def newest_log(clone):
    return max((clone / ".snakemake" / "log").glob("*.log"), key=os.path.getmtime).read_text()


@pytest.mark.slow
@pytest.mark.parametrize("asked", ["--verbose", "--debug-dag"])
def test_snakemakes_own_messages_where_they_are_asked_for(clone, asked):
    done = speedgrid(clone, "run", "--forcerun", "seen", asked, "--", "blocks.txt")
    assert done.returncode == 0, done.stderr
    assert "\n    output: blocks.txt\n" in done.stderr
    assert "Finished jobid" in done.stderr


@pytest.mark.slow
def test_a_job_that_fails_is_told_with_its_log_in_one_line_a_step_too(clone):
    text = (clone / "Snakefile").read_text()
    broken = 'rule broken:\n    output: "broken.txt"\n    log: "broken.log"\n    shell: "echo boom > {log}; exit 3"\n'
    try:
        (clone / "Snakefile").write_text(text + broken)
        done = speedgrid(clone, "run", "--show-failed-logs", "--", "broken.txt")
    finally:
        (clone / "Snakefile").write_text(text)
    assert done.returncode == 1
    assert "Error in rule broken:" in done.stderr
    assert "\nboom\n" in done.stderr
    assert "exit 3" in done.stderr


@pytest.mark.slow
def test_the_users_python_without_conda(clone, tmp_path):
    (tmp_path / "python").symlink_to("/bin/true")
    path = f"{tmp_path}{os.pathsep}{os.environ['PATH']}"
    done = speedgrid(clone, "run", "--no-conda", "--cores", "2", "bare.txt", PATH=path)
    assert done.returncode == 0, done.stderr
    facts = seen(clone, "bare")
    assert facts["python"] == str(tmp_path / "python")
    assert facts["cores"] == "2"
    assert facts["nousersite"] == ""  # the user's Python may well use ~/.local


@pytest.mark.parametrize("home", [{"XDG_CACHE_HOME": "/dev/null/cache"}, {"HOME": "/dev/null", "XDG_CACHE_HOME": ""}])
def test_no_folder_that_can_be_written(clone, home):
    """Snakemake keeps copies of sources in the user's cache, and would end in a traceback."""
    is_one_line(
        speedgrid(clone, "run", "away.txt", **home), "cannot be written: not a directory; let XDG_CACHE_HOME name a folder that can"
    )
    assert speedgrid(clone, "run", "--version", **home).returncode == 0  # a question needs none


def test_a_folder_without_room_or_that_cannot_be_written_is_one_line(launcher, monkeypatch, tmp_path):
    monkeypatch.setattr(launcher.shutil, "disk_usage", lambda folder: SimpleNamespace(free=3e6))
    with pytest.raises(launcher.Mistake, match=r"nothing cannot be written, and results, models and logs go there"):
        launcher.check_room(tmp_path / "nothing")
    with pytest.raises(launcher.Mistake, match=rf"^no room on the disk of {tmp_path} \(3 MB free\); make some and start again$"):
        launcher.check_room(tmp_path)
    monkeypatch.setattr(launcher.shutil, "disk_usage", lambda folder: SimpleNamespace(free=3e9))
    launcher.check_room(tmp_path)


def test_a_folder_of_environments_that_cannot_be_written_is_one_line_in_a_dry_run_too(clone):
    done = speedgrid(clone, "run", "-n", "away.txt", SNAKEMAKE_CONDA_PREFIX="/dev/null/envs")
    is_one_line(done, "/dev/null/envs cannot be written: not a directory; let SNAKEMAKE_CONDA_PREFIX name a folder that can")


def test_the_python_of_jobs_cannot_be_had(clone, tmp_path):
    """Where the machine has a newer one alone, and uv reaches no place to download it from."""
    nowhere = {
        "UV_PYTHON_PREFERENCE": "only-managed",
        "UV_PYTHON_INSTALL_DIR": str(tmp_path / "none"),
        "UV_PYTHON_INSTALL_MIRROR": "http://127.0.0.1:9",
        "UV_HTTP_RETRIES": "0",
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
        "PATH": path_without_conda(),
    }
    done = speedgrid(clone, "run", "away.txt", **nowhere)
    assert done.returncode == 1
    first, second = done.stderr.splitlines()
    assert first == "speedgrid: jobs run in Python 3.11, which is not on this machine; uv downloads it ..."
    assert second.startswith("speedgrid: Python 3.11 cannot be downloaded (")
    assert second.endswith("let UV_PYTHON_INSTALL_MIRROR name a mirror of it, or have conda on PATH")


def test_the_python_of_jobs_is_that_of_the_pins(launcher, root):
    """What is said to be missing is what environments are made with; those of techniques that cannot be had today are no matter."""
    techniques = yaml.safe_load((root / "techniques.yaml").read_text(encoding="utf-8")).values()
    used = {env for entry in techniques if "unavailable" not in entry for env in environments.stacks(entry)}
    pinned = {re.search(r"^  - python=(.*)$", (root / "envs" / f"{env}.yaml").read_text(), re.MULTILINE)[1] for env in used}
    assert pinned == {launcher.PYTHON_OF_JOBS}


@pytest.mark.slow
def test_a_locale_without_umlauts_and_a_study_with_them(clone, tmp_path):
    """In Latin-1 or ASCII Python would read every file so, and end where one holds something else."""
    (tmp_path / "étude.yaml").write_text("name: größer\n", encoding="utf-8")
    locale = {"LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}
    done = speedgrid(clone, "run", "--study", "étude.yaml", "--forcerun", "seen", "--", "umlaut.txt", cwd=tmp_path, **locale)
    assert done.returncode == 0, done.stderr
    assert "name=größer" in (clone / "umlaut.txt").read_text(encoding="utf-8")


def test_a_system_without_which(clone, tmp_path):
    """As images of Fedora and Arch are; Snakemake's plug-in for Slurm calls it though no Slurm is there."""
    for name in ("bash", "sh", "env", "dirname"):
        (tmp_path / name).symlink_to(shutil.which(name))
    assert shutil.which("which", path=str(tmp_path)) is None
    done = speedgrid(clone, "run", "-n", PATH=str(tmp_path))
    assert done.returncode == 0, done.stderr
    which = clone / "scripts" / "bin" / "which"
    told = subprocess.run([which, "sh", "no-such-command"], env={"PATH": str(tmp_path)}, capture_output=True, text=True)
    assert (told.returncode, told.stdout) == (1, f"{tmp_path}/sh\n")
    assert subprocess.run([which, "sh"], env={"PATH": str(tmp_path)}, capture_output=True).returncode == 0


def test_no_python_for_the_jobs(clone, tmp_path):
    is_one_line(speedgrid(clone, "run", "--no-conda", PATH=str(tmp_path)), "there is no 'python' on your PATH")


def path_without_conda(*first):
    folders = [f for f in os.environ["PATH"].split(os.pathsep) if not os.path.exists(os.path.join(f, "conda"))]
    return os.pathsep.join([*map(str, first), *folders])


def conda_of_version(folder, version):
    """A stand-in for an installed conda; it only tells its version."""
    folder.mkdir()
    (folder / "conda").write_text(f"#!/bin/sh\necho conda {version}\n")
    (folder / "conda").chmod(0o755)
    return folder


def test_which_conda_is_used(launcher, tmp_path, monkeypatch, capfd, root):
    frontend = str(root / "envs" / "uv-frontend" / "bin")

    def first_conda(*first, **ours):
        monkeypatch.setenv("PATH", path_without_conda(*first))
        chosen = launcher.run_environment({"no_conda": False, "uv_envs": False} | ours, [])
        return os.path.dirname(shutil.which("conda", path=chosen["PATH"]))

    new, old = conda_of_version(tmp_path / "new", "24.7.1"), conda_of_version(tmp_path / "old", "4.14.0")
    assert first_conda() == frontend
    assert first_conda(new) == str(new)
    assert first_conda(new, uv_envs=True) == frontend
    assert capfd.readouterr().err == ""
    assert first_conda(old) == frontend
    assert "does not work or is too old; using uv instead" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "torch"),
    [
        ([], None),
        (["--executor", "slurm"], "cuda"),
        (["-e", "slurm"], "cuda"),
        (["--workflow-profile", "{profile}"], "cuda"),
        (["-e", "local"], None),
    ],
)
def test_environments_made_for_a_cluster_get_cuda(launcher, tmp_path, monkeypatch, arguments, torch):
    monkeypatch.setenv("PATH", path_without_conda())
    monkeypatch.delenv("SPEEDGRID_TORCH", raising=False)
    monkeypatch.delenv("SNAKEMAKE_PROFILE", raising=False)
    (tmp_path / "profile.yaml").write_text("executor: slurm\njobs: 10\n")
    theirs = [a.format(profile=tmp_path) for a in arguments]
    environ = launcher.run_environment({"no_conda": False, "uv_envs": False}, theirs)
    assert environ.get("SPEEDGRID_TORCH") == torch
    assert (commands.CLUSTER in environ) == (torch == "cuda"), "what the study needs is asked at planning"


def on_terminal(command, clone, columns=110, lines=60):
    """What a person sees in the end, and at a moment when jobs have spoken, on a terminal of this size."""
    screen = pyte.Screen(columns, lines)
    stream = pyte.ByteStream(screen)
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(clone)
        os.execve(command[0], command, environment(COLUMNS=str(columns), LINES=str(lines), TERM="xterm-256color"))
    midway = []
    while True:
        try:
            data = os.read(terminal, 65536)
        except OSError:  # how Linux says that the other end has closed
            break
        stream.feed(data)
        if any("reply 2 of 3" in line for line in screen.display):
            midway.append(list(screen.display))
    return os.waitpid(pid, 0)[1], midway, list(screen.display)


@pytest.mark.slow
def test_switches_of_python_that_are_meant_for_other_programs_change_nothing(clone):
    """Without docstrings and assertions, with warnings as errors, and without the folder of a script in its path."""
    switches = {"PYTHONOPTIMIZE": "2", "PYTHONWARNINGS": "error", "PYTHONSAFEPATH": "1"}
    done = speedgrid(clone, "run", "--no-conda", **switches)
    assert done.returncode == 0, done.stderr
    assert seen(clone)["torch"] == ""


def test_on_a_terminal_lines_of_jobs_stand_above_the_status(clone):
    command = [sys.executable, str(clone / "speedgrid"), "run", "--forceall", "all"]
    code, midway, end = on_terminal(command, clone)
    assert code == 0, "\n".join(end)
    shown = midway[-1]
    assert sum("steps done" in line for line in shown) <= 1
    spoken = [line.strip() for line in shown if "seen: reply" in line]
    assert spoken == [f"seen: reply {n} of 3" for n in (1, 2, 3)]
    status = [line.strip() for display in midway for line in display if "steps done" in line]
    assert any(re.fullmatch(r"0 of 2 steps done · \d+ s so far", line) for line in status), status
    assert not any("steps done" in line for line in end)  # it goes when the run ends
    assert [line.strip() for line in end if "seen: reply" in line] == spoken
    assert sum("1/2  seen" in line for line in end) == 1


@pytest.mark.slow
def test_on_a_terminal_a_dry_run_lists_the_jobs(clone):
    code, _, end = on_terminal([sys.executable, str(clone / "speedgrid"), "run", "-n", "--forceall"], clone)
    assert code == 0
    assert [line.split()[1:] for line in end if re.match(r"\d\d:", line)] == [["1/2", "seen"], ["2/2", "all"]]
    assert any("2 steps would run" in line for line in end)


# The virtual environment


def start(clone, **more):
    command = [sys.executable, clone / "speedgrid", "run", "--version"]
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, env=environment(**more), start_new_session=True, **streams)


def imports_idna(clone):
    return subprocess.run([clone / ".venv/bin/python", "-c", "import idna"], capture_output=True).returncode == 0


@pytest.mark.needs("network")
def test_without_uv_pip_makes_it(small, tmp_path):
    (tmp_path / "bin").mkdir()
    done = speedgrid(small, "run", "--version", PATH=f"{tmp_path / 'bin'}:/usr/bin:/bin")
    assert "with pip" in done.stderr
    assert imports_idna(small)


@pytest.mark.needs("network")
def test_it_is_made_again_when_the_lock_changes_and_only_then(small):
    assert "setting up" in speedgrid(small, "run", "--version").stderr
    assert "setting up" not in speedgrid(small, "run", "--version").stderr
    with open(small / "locks" / "run.txt", "a") as lock:
        lock.write("# changed\n")
    assert "setting up" in speedgrid(small, "run", "--version").stderr
    assert imports_idna(small)


@pytest.mark.needs("network")
def test_it_is_made_again_while_it_is_activated(small):
    """It was removed with the Python and the uv that were to make it."""
    speedgrid(small, "run", "--version")
    with open(small / "locks" / "run.txt", "a") as lock:
        lock.write("# changed\n")
    bin = small / ".venv" / "bin"
    shutil.copy("/bin/false", bin / "uv")
    environ = environment(PATH=f"{bin}:{os.environ['PATH']}")
    done = subprocess.run([bin / "python", small / "speedgrid", "run", "--version"], cwd=small, env=environ, capture_output=True, text=True)
    assert "setting up" in done.stderr
    assert imports_idna(small), done.stderr


@pytest.mark.needs("network")
def test_it_is_made_again_when_its_python_is_gone(small):
    speedgrid(small, "run", "--version")
    python = small / ".venv" / "bin" / "python"
    python.unlink()
    python.symlink_to("/nowhere/python")
    assert "setting up" in speedgrid(small, "run", "--version").stderr
    assert imports_idna(small)


@pytest.mark.needs("network")
def test_a_package_that_is_not_the_locked_one_is_refused(small):
    lock = small / "locks" / "run.txt"
    lock.write_text(re.sub(r"sha256:\w{4}", "sha256:0000", lock.read_text()))
    done = speedgrid(small, "run", "--version")
    assert done.returncode == 1
    assert "speedgrid: set-up failed (see above)" in done.stderr
    assert "Traceback" not in done.stderr
    assert "setting up" in speedgrid(small, "run", "--version").stderr  # it is not taken for made


@pytest.mark.needs("network")
def test_two_starts_at_once(small):
    both = [start(small), start(small)]
    outputs = [process.communicate()[0] for process in both]
    assert sum("setting up .venv from" in output for output in outputs) == 1
    assert imports_idna(small)
    assert "setting up" not in speedgrid(small, "run", "--version").stderr


@pytest.mark.needs("network")
def test_a_start_that_was_killed(small, tmp_path):
    (tmp_path / "bin").mkdir()
    process = start(small, PATH=f"{tmp_path / 'bin'}:/usr/bin:/bin")  # without uv it takes long enough to be killed
    while not (small / ".venv" / "bin" / "python").exists():
        assert process.poll() is None
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (small / ".venv" / "made-from").exists()
    assert "setting up" in speedgrid(small, "run", "--version").stderr
    assert imports_idna(small)


@pytest.mark.needs("network")
@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_what_is_locked_can_be_had_for_every_python_that_the_readme_names(root, tmp_path, python):
    """With the hashes of the lock, and as wheels but for one package of plain Python: no compiler is needed."""
    assert "Python 3.11 to 3.13" in (root / "README.md").read_text(encoding="utf-8")
    command = [sys.executable, "-m", "uv", "pip", "install", "--dry-run", "--no-deps", "--require-hashes", "--python-version", python]
    command += ["--target", tmp_path / "none", "--only-binary", ":all:", "--no-binary", "connection-pool"]
    done = subprocess.run(
        [*command, "--requirements", root / "locks" / "run.txt"], env=uv_environment(os.environ), capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr


def test_the_locks_name_no_index(root):
    for path in (root / "locks").glob("*.txt"):
        text = path.read_text()
        assert "://" not in text
        assert "--index-url" not in text
        pins = re.findall(r"^[a-z0-9].*$", text, re.MULTILINE)
        assert pins
        assert all("==" in pin for pin in pins)
        assert text.count("    --hash=sha256:") >= len(pins)


# test


@pytest.fixture(scope="module")
def tested(root, tmp_path_factory):
    """A copy with a test of its own, and code that is not as ruff would have it."""
    folder = copy_of(root, tmp_path_factory.mktemp("tested"))
    shutil.rmtree(folder / "scripts")
    (folder / "scripts" / "speedgrid").mkdir(parents=True)
    # What the launcher imports at its start.
    for name in ("commands", "environments", "records", "schema", "snakemake_options", "validation"):
        shutil.copy(root / "scripts" / "speedgrid" / f"{name}.py", folder / "scripts" / "speedgrid")
    (folder / "rules").mkdir()
    (folder / "tests").mkdir()
    (folder / "tests" / "test_one.py").write_text("def test_one():\n    pass\n")
    (folder / "tests" / "ugly.py").write_text("x = {  'a':1 }\n")
    made = root / ".venv-test"
    if (made / "made-from").exists():  # spares a minute; a lock that differs is noticed all the same
        (folder / ".venv-test").symlink_to(made)
    return folder


@pytest.mark.slow
@pytest.mark.needs("network")
def test_all_checks_run_and_count_though_some_fail(tested):
    done = speedgrid(tested, "test")
    assert done.returncode == 1, done.stdout
    lines = done.stdout.splitlines()
    checks = [line.partition(":")[0] for line in lines if re.match(r"(ruff|snake).*: (ok|FAILED)", line)]
    assert checks == ["ruff check", "ruff format", "snakefmt", "snakemake --lint"]
    assert "ruff format: FAILED" in lines
    assert re.fullmatch(r"=+ 1 passed in .* =+", lines[-1])


@pytest.mark.slow
@pytest.mark.needs("network")
def test_chosen_tests_run_without_the_checks(tested):
    done = speedgrid(tested, "test", "tests/test_one.py::test_one", "-q")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "ruff" not in done.stdout
    assert done.stdout.splitlines()[-1].startswith("1 passed")
    assert speedgrid(tested, "test", "tests/test_one.py", "-k", "nothing").returncode != 0


def test_an_environment_of_the_users_own_is_not_removed_and_one_that_was_cut_short_is(root, launcher, tmp_path, monkeypatch):
    clone = copy_of(root, tmp_path)
    monkeypatch.setattr(launcher, "ROOT", clone)
    kept, made = clone / ".venv/lib/mine.py", []

    def make(*told):
        made.append(told)
        (clone / ".venv/bin").mkdir(parents=True)
        if len(made) == 1:
            raise KeyboardInterrupt

    for name in ("make_with_uv", "make_with_pip"):
        monkeypatch.setattr(launcher, name, make)
    kept.parent.mkdir(parents=True)
    kept.write_text("mine")
    with pytest.raises(launcher.Mistake) as caught:
        launcher.ensure_venv(".venv", "locks/run.txt")
    assert str(caught.value) == (
        f"{clone}/.venv was not made by speedgrid, so it is not removed; move it elsewhere, or delete it, and start again"
    )
    assert (kept.read_text(), made) == ("mine", [])
    shutil.rmtree(clone / ".venv")
    with pytest.raises(KeyboardInterrupt):
        launcher.ensure_venv(".venv", "locks/run.txt")
    (clone / ".venv/half").touch()
    launcher.ensure_venv(".venv", "locks/run.txt")
    assert (len(made), (clone / ".venv/half").exists()) == (2, False)


# Mistakes, and Ctrl-C


@pytest.mark.parametrize(
    ("arguments", "nearest"),
    [
        (["run", "--minuts", "20"], "--minutes"),
        (["run", "--keep-gong"], "--keep-going"),
        (["run", "--verbose", "--keep-gong"], "--keep-going"),
        (["report", "--studdy", "x"], "--study"),
        (["new", "--vrm", "8"], "--vram"),
    ],
)
def test_an_unknown_option_is_one_line_with_the_nearest(clone, arguments, nearest):
    """Of a run it was Snakemake's usage, of 200 lines."""
    done = speedgrid(clone, *arguments)
    is_one_line(done, f"; did you mean {nearest}? (see ")
    assert done.returncode == 2


def test_a_target_that_no_rule_makes_is_one_line_and_a_mistake(clone):
    done = speedgrid(clone, "run", "nowhere")
    is_one_line(done, "nowhere is nothing that a run makes")
    assert done.returncode == 2


# A job that goes on until it is stopped, and that says for whom it works, as those of speedgrid do.
WAITS = f"""
import os
os.environ["{supervision.WANTED_BY}"] = str(os.getpid())

rule waits:
    output: "waits.txt"
    log: "waits.log"
    shell: "echo begun >&2; sleep 300"
"""


def started_to_be_stopped(clone, *arguments):
    """A run that has begun a job which goes on until it is stopped, and what its terminal or log has shown by then."""
    text = (clone / "Snakefile").read_text()
    (clone / "Snakefile").write_text(text + WAITS)
    reading, writing = os.pipe()
    command = [sys.executable, clone / "speedgrid", "run", *arguments, "--", "waits.txt"]
    process = subprocess.Popen(command, cwd=clone, env=environment(), stdout=writing, stderr=writing, start_new_session=True)
    os.close(writing)
    shown = b""
    while b"begun" not in shown:
        data = os.read(reading, 65536)
        assert data, shown.decode()
        shown += data
    return process, reading, text


@pytest.mark.slow
@pytest.mark.parametrize(
    ("signals", "number", "status"),
    [(os.killpg, signal.SIGINT, 130), (os.kill, signal.SIGINT, 130), (os.kill, signal.SIGTERM, 143)],
    ids=["Ctrl-C of a terminal, to every process", "Ctrl-C to the process alone", "SIGTERM of a scheduler"],
)
def test_a_run_that_is_stopped_ends_with_one_line(clone, signals, number, status):
    """It showed the job's block, Snakemake's errors and its own, and ended with 1; after SIGTERM it went on until the job had ended."""
    process, reading, text = started_to_be_stopped(clone)
    try:
        signals(process.pid, number)
        said = b""
        while data := os.read(reading, 65536):
            said += data
        assert process.wait(60) == status, said.decode()
    finally:
        (clone / "Snakefile").write_text(text)
        os.close(reading)
    lines = said.decode().splitlines()
    assert lines == ["speedgrid: stopped; 0 of 1 steps are done and kept, and the same command goes on from there"], lines


def test_a_sigterm_stops_what_the_launcher_waits_for(small, tmp_path):
    """It ended the launcher alone: pytest, or pip while it set up, went on."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/uv").write_text(f"#!/bin/sh\necho $$ >&2\nexec {shutil.which('sleep')} 300\n")
    (tmp_path / "bin/uv").chmod(0o755)
    more = environment(PATH=f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    process = subprocess.Popen([sys.executable, small / "speedgrid", "run"], cwd=small, env=more, stderr=subprocess.PIPE, text=True)
    assert "setting up .venv" in process.stderr.readline()
    waits = int(process.stderr.readline())
    process.terminate()
    assert (process.wait(60), process.stderr.read()) == (143, "")
    with pytest.raises(ProcessLookupError):
        os.kill(waits, 0)


PREPARED = f"""
import os
os.environ["{supervision.WANTED_BY}"] = str(os.getpid())

rule prepare:
    output: "prepared.txt"
    log: "prepared.log"
    conda: "envs/for-the-test.yaml"
    shell: "echo downloaded > {{output}}"
"""


@pytest.mark.slow
def test_a_sigterm_stops_prepare_while_it_makes_environments(clone, tmp_path):
    """It ended the launcher alone, and Snakemake went on with nobody to wait for it."""
    text, pins = (clone / "Snakefile").read_text(), {"pip": ["a-package-of-nobody==1.0"]}
    (clone / "Snakefile").write_text(text + PREPARED)
    (clone / "envs/for-the-test.yaml").write_text(yaml.safe_dump({"dependencies": [f"python={sys.version_info[0]}.11", "pip", pins]}))
    index = socket.create_server(("127.0.0.1", 0))  # takes connections, and never answers
    index.settimeout(120)
    address = f"http://127.0.0.1:{index.getsockname()[1]}/simple"
    more = {"PIP_INDEX_URL": address, "PIP_NO_CACHE_DIR": "1", "SNAKEMAKE_CONDA_PREFIX": str(tmp_path), "NO_PROXY": "127.0.0.1"}
    command = [sys.executable, clone / "speedgrid", "prepare", "--uv-envs"]
    process = subprocess.Popen(command, cwd=clone, env=environment(**more), stderr=subprocess.PIPE, text=True, start_new_session=True)
    try:
        asked, _ = index.accept()
        process.terminate()
        said = process.communicate(timeout=60)[1]
        assert process.returncode == 143, said
        assert said.splitlines()[-1].startswith("speedgrid: stopped"), said
        asked.settimeout(60)
        while asked.recv(65536):
            pass  # until who asked is gone, too
    finally:
        (clone / "Snakefile").write_text(text)
        (clone / "envs/for-the-test.yaml").unlink()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        index.close()


@pytest.mark.slow
def test_prepare_goes_on_from_environments_to_downloads_where_it_was_started(clone, tmp_path):
    text = (clone / "Snakefile").read_text()
    (clone / "Snakefile").write_text(text + PREPARED.replace('    conda: "envs/for-the-test.yaml"\n', ""))
    try:
        (tmp_path / "mine.yaml").write_text("study: mine\n")
        done = speedgrid(clone, "prepare", "--uv-envs", "--study", "mine.yaml", cwd=tmp_path)
    finally:
        (clone / "Snakefile").write_text(text)
    assert done.returncode == 0, done.stderr
    assert (clone / "prepared.txt").read_text() == "downloaded\n"


@pytest.mark.slow
def test_ctrl_c_on_a_terminal_ends_with_one_line_too(clone):
    text = (clone / "Snakefile").read_text()
    (clone / "Snakefile").write_text(text + WAITS)
    command = [sys.executable, str(clone / "speedgrid"), "run", "--", "waits.txt"]
    screen = pyte.Screen(140, 40)
    stream = pyte.ByteStream(screen)
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(clone)
        os.execve(command[0], command, environment(COLUMNS="140", LINES="40", TERM="xterm-256color"))
    try:
        is_stopped = False
        while True:
            try:
                data = os.read(terminal, 65536)
            except OSError:
                break
            stream.feed(data)
            if not is_stopped and any("begun" in line for line in screen.display):
                os.write(terminal, b"\x03")
                is_stopped = True
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    finally:
        (clone / "Snakefile").write_text(text)
    shown = [line.strip() for line in screen.display if line.strip()]
    after = shown[next(at for at, line in enumerate(shown) if "begun" in line) + 1 :]
    assert status == 130, shown
    assert [line.replace("^C", "").strip() for line in after if line != "^C"] == [
        "speedgrid: stopped; 0 of 1 steps are done and kept, and the same command goes on from there"
    ], shown
