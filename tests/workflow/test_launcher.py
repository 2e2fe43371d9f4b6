"""The launcher `speedgrid`, run for real in a copy of the repository whose path has spaces: its command line, studies and runs."""

import ast
import os
import re
import shutil
import subprocess
import sys
from types import SimpleNamespace

import pytest
import yaml
from launching import copy_of, environment, is_one_line, on_terminal, seen, speedgrid
from speedgrid import commands, environments, snakemake_options

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
        (["speedgrid", "new", "--techniques", "awq"], ["awq_int4", "awq_int4_marlin"]),
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
    assert snakemake_options.config_files(["--configfile=a.yaml", "all"]) == ["a.yaml"]
    assert snakemake_options.config_files(["--configf", "a.yaml", "--config", "seed=1", "--", "b.yaml"]) == ["a.yaml"]
    assert snakemake_options.config_files(["--config", "seed=1", "target"]) == []


@pytest.mark.parametrize("words", ["--cores 0", "--cores=0", "-c0", "-nc0", "--jobs 0", "-j 00"])
def test_no_core_at_all_is_refused(words):
    assert snakemake_options.no_cores(["-p", *words.split(), "results/x"]) == words
    assert snakemake_options.no_cores([]) == ""
    assert snakemake_options.no_cores(["--cores", "10", "--resources", "gpu=0", "-j", "all", "-c1", "0"]) == ""


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        ("--resources gpu", "gpu: takes a name and a number, such as gpu=2"),
        ("--resources= gpu=1", ": takes a name and a number, such as gpu=2"),
        ("--resources gpu=", "gpu=: takes a name and a number, such as gpu=2"),
        ("--resources mem_mb=100 gpu=two", "gpu=two: takes a number from 1 on"),
        ("--res gpu=1 makes=0", "makes=0: takes a number from 1 on"),
        ("--resources=gpu=-1", "gpu=-1: takes a number from 1 on"),
        ("--resources gpus=2", "gpus=2: no job has a resource of that name; did you mean gpu?"),
        ("--resources gpu=2 make=4 -n", "make=4: no job has a resource of that name; did you mean makes?"),
    ],
)
def test_resources_that_are_a_mistake_are_refused(words, answer):
    assert snakemake_options.wrong_resource(["-p", *words.split()]) == answer


def test_resources_that_others_may_have_are_left_to_snakemake():
    for words in (
        "",
        "--resources gpu=2 makes=4",
        "--resources=gpu=2 all",
        "--res=gpu=2 plan",
        "--resources mem_mb=64GB licence=1",
        "--res base64//Z3B1",
        "--cores 2 -- gpus",
        "--rerun-triggers gpus",
    ):
        assert snakemake_options.wrong_resource(words.split()) == ""


def test_a_wrong_resource_is_said_in_one_line(clone):
    is_one_line(
        speedgrid(clone, "run", "-n", "--resources", "gpus=2"), "--resources gpus=2: no job has a resource of that name; did you mean gpu?"
    )


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
