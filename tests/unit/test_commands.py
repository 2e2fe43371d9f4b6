"""The command line as it is declared, and the commands that list and show techniques."""

import errno
import io
import re
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import list_techniques
import pytest
import show_technique
import yaml
from speedgrid import commands, planning, readiness, stats, workload
from speedgrid.report import recipes
from test_doctor import H200, LAPTOP

import studies

ENVS = frozenset(path.stem for path in (planning.ROOT / "envs").glob("*.yaml"))
REGISTRY = planning.read_registry()


def test_help_of_all_names_every_command_with_what_it_does():
    text = " ".join(commands.whole("./speedgrid").format_help().split())
    for name, command in commands.COMMANDS.items():
        assert f"{name} {command.does}" in text


@pytest.mark.parametrize(("shell", "names"), [("bash", r"_subparsers=\((.*)\)"), ("fish", r"_commands (new .*)"), ("zsh", r"^    (\w+):'")])
def test_where_speedgrid_is_installed_no_shell_offers_a_command_that_works_in_a_clone_alone(shell, names):
    """`docs` and `test` were offered by a wheel that refuses them."""
    for folder, is_clone in (("", True), ("installed", False)):
        text = (planning.ROOT / "scripts" / "completion" / folder / f"speedgrid.{shell}").read_text(encoding="utf-8")
        found = [name for line in re.findall(names, text, re.MULTILINE) for name in line.split()]
        assert set(found) == set(commands.offered(is_clone)), folder
    assert set(commands.offered(True)) - set(commands.offered(False)) == {"docs", "test"}


@pytest.mark.parametrize("name", commands.COMMANDS)
def test_a_command_is_the_same_alone_and_among_all(name):
    among = next(action for action in commands.whole("s")._actions if action.dest == "command").choices[name]
    assert commands.one(name, "s").format_help() == among.format_help()
    assert "{" not in commands.one(name, "./speedgrid").epilog.replace("${", "")


def test_options_of_snakemake_are_left_as_they_are():
    told = ["-npj8", "--cores=4", "--config", "a=1", "--stud", "x", "target.txt"]
    ours, theirs = commands.one("run").parse_known_args([*told[:3], "--study", "mine.yaml", *told[3:]])
    assert (ours.study, theirs) == ("mine.yaml", told)


def test_the_floor_of_compare_is_the_one_of_the_statistics():
    assert commands.one("compare").parse_args(["a", "b"]).floor == 100 * stats.NEGLIGIBLE


@pytest.mark.parametrize("command", ["doctor", "list_techniques", "show_technique"])
def test_a_script_whose_reader_is_gone_ends_well(root, command):
    """`./speedgrid list | head` under `set -o pipefail`."""
    arguments = ["sdpa"] if command == "show_technique" else []
    script = [sys.executable, str(root / "scripts" / f"{command}.py"), *arguments]
    told = subprocess.run(["bash", "-c", 'exec "$@" | true; exit "${PIPESTATUS[0]}"', "bash", *script], stderr=subprocess.PIPE, text=True)
    assert (told.returncode, told.stderr) == (0, "")


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (
            OSError(errno.EROFS, "Read-only file system", "studies/.mine.yaml.4711.tmp"),
            "speedgrid: studies/mine.yaml: read-only file system",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), "speedgrid: the output: no space left on device"),
        (OSError(errno.EIO, "Input/output error"), None),
    ],
)
def test_a_place_that_cannot_be_written_is_one_line_and_any_other_error_is_shown_whole(monkeypatch, error, said):
    """`new` in a clone that cannot be written, or on a full disk, ended in a traceback."""

    def main():
        raise error

    monkeypatch.setattr(commands.sys, "stdout", io.StringIO())
    with pytest.raises(SystemExit if said else OSError) as ended:
        commands.run(main)
    if said:
        assert str(ended.value) == said


# list


def states(facts):
    return {name: readiness.state(entry, REGISTRY, facts) for name, entry in REGISTRY.items()}


def test_what_can_be_installed_is_needed_and_what_the_machine_is_not_cannot_be():
    here = replace(LAPTOP, makeable=ENVS)
    found = states(here)
    assert {found["sdpa"], found["torch_compile"]} == {"ready"}
    assert found["flash_attn"] == "cannot"
    assert states(replace(here, compiler=""))["torch_compile"] == "needs"
    old = replace(here, gpus=[replace(H200, compute_capability="7.5")])
    fp8 = next(name for name, entry in REGISTRY.items() if "sm89" in entry.get("requires", []))
    assert (states(old)[fp8], states(replace(here, gpus=[H200]))[fp8]) == ("cannot", "ready")
    assert {found[name] for name, entry in REGISTRY.items() if "unavailable" in entry} <= {"cannot"}


def test_the_list_has_every_technique_once_with_its_state_and_counts_them():
    facts = replace(LAPTOP, makeable=ENVS, compiler="")
    lines = list(list_techniques.of_techniques(REGISTRY, facts, only_ready=False))
    rows = [line.split()[:2] for line in lines if line.startswith("  ")]
    assert sorted(rows) == sorted([name, state] for name, state in states(facts).items())
    assert next(line for line in lines if line.split()[:1] == ["torch_compile"]).endswith(": needs a C++ compiler (Debian, Ubuntu: g++)")
    counted = {state: list(states(facts).values()).count(state) for state in ("ready", "needs", "cannot")}
    assert lines[-2] == (
        f"{len(REGISTRY)} techniques: {counted['ready']} ready, {counted['needs']} need something installed, "
        f"{counted['cannot']} cannot run on this machine"
    )
    ready = [line.split() for line in list_techniques.of_techniques(REGISTRY, facts, only_ready=True) if line.startswith("  ")]
    assert [row[0] for row in ready] == [row[0] for row in rows if row[1] == "ready"]


def test_cells_are_listed_as_a_run_takes_them(tmp_path, monkeypatch):
    """`run --list` had the rules of the workflow, of which nobody runs one."""
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(studies.small()))
    lines = list(list_techniques.of_cells(str(path)))
    named = [line.split()[0] for line in lines if line.startswith("  ")]
    cells = planning.read_grid(path).cells
    assert named == [*(cell.measures[0] for cell in cells), "all", "prepare", "report_so_far"]
    assert f"run --study mine.yaml -- {named[0]} makes one" in lines[-1]
    rules = "\n".join(path.read_text() for path in [studies.ROOT / "Snakefile", *(studies.ROOT / "rules").glob("*.smk")])
    assert all(f"rule {target}:" in rules for target in list_techniques.TARGETS)


def test_studies_are_listed_as_the_option_takes_them_and_one_that_is_broken_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "mine.yaml").write_text("study: mine\nmodles: {}\n")
    lines = list(list_techniques.of_studies(REGISTRY, replace(LAPTOP, makeable=ENVS)))
    names = [line for line in lines[:-1] if line and not line.startswith(" ")]
    assert names[:2] == ["config.yaml", "studies/mine.yaml"]
    assert all(planning.study_path(name).is_file() for name in names)
    after = {name: lines[lines.index(name) + 1 : lines.index(name) + 4] for name in names}
    assert after["studies/mine.yaml"][0].startswith("  cannot be read: studies/mine.yaml: unknown key modles; did you mean models?")
    assert after["config.yaml"][2] == "  can run here"
    assert after["studies/decode-8b.yaml"][2].startswith("  cannot run here: gpus.gpu.device: `cuda` was asked for and this machine has no")


# show


def test_a_technique_is_shown_with_all_that_it_is_told_and_needs():
    text = "\n".join(show_technique.described("prune_30_int8", REGISTRY, replace(LAPTOP, makeable=ENVS), ["a.yaml"]))
    entry = REGISTRY["prune_30_int8"]
    assert text.startswith(f"prune_30_int8: {entry['label']}\n")
    assert f"made by {entry['transform']['method']}" in text
    assert f"from that of {entry['from']}" in text
    assert "\nMeasured by a.yaml\n" in text
    assert f"envs/{entry['env']}.yaml" in text


@pytest.mark.parametrize("name", REGISTRY)
def test_every_technique_can_be_shown(name):
    text = "\n".join(show_technique.described(name, REGISTRY, replace(LAPTOP, makeable=ENVS), []))
    assert "  on this machine " in text
    for key, value in REGISTRY[name]["options"].items():
        assert f"{key}: " in text, value
    code = recipes.code(name, REGISTRY, "float32", "cuda" if "cuda" in REGISTRY[name]["requires"] else "cpu")
    assert (textwrap.indent(code.splitlines()[0], "    ") in text) if code else ("Code that applies" not in text)


def test_a_technique_that_there_is_not_names_the_nearest(root):
    script = [sys.executable, str(root / "scripts" / "show_technique.py"), "torch_compil"]
    told = subprocess.run(script, capture_output=True, text=True)
    assert (told.returncode, told.stdout) == (2, "")
    assert told.stderr == "speedgrid: there is no technique 'torch_compil'; did you mean torch_compile?\n"


@pytest.mark.parametrize("name", REGISTRY)
def test_the_line_of_a_study_that_show_prints_is_one_that_a_study_takes(name):
    """It had the baseline twice, and techniques of training beside one of replies."""
    told = yaml.safe_load("{" + show_technique._in_a_study(name, REGISTRY[name]) + "}")
    techniques, kind = told["techniques"], told.get("workload", "generate")
    assert name in techniques
    assert len(set(techniques)) == len(techniques)
    assert told.get("baseline", "baseline") in techniques
    assert all(workload.takes(kind, REGISTRY[one]["engine"]) for one in techniques)


# Mistakes of the command line


@pytest.mark.parametrize(
    ("message", "said"),
    [
        ("unrecognized arguments: --vrm 8", "unrecognized arguments: --vrm 8; did you mean --vram?"),
        ("unrecognized arguments: --vrm=8", "unrecognized arguments: --vrm=8; did you mean --vram?"),
        ("unrecognized arguments: -n", "unrecognized arguments: -n"),
        ("unrecognized arguments: here", "unrecognized arguments: here"),
        ("unrecognized arguments: --wormhole", "unrecognized arguments: --wormhole"),
        ("argument --goal: invalid choice: '--vrm'", "argument --goal: invalid choice: '--vrm'"),
    ],
)
def test_an_unknown_option_names_the_nearest_of_the_command(message, said):
    assert commands.wrong(message, ["-h", "--help", "--vram", "--goal"]) == said


def test_options_of_a_run_are_ours_and_those_of_snakemake(capsys):
    for option, nearest in (("--minuts", "--minutes"), ("--keep-gong", "--keep-going")):
        with pytest.raises(SystemExit) as caught:
            commands.refuse_arguments(f"unrecognized arguments: {option}", ["--keep-going", "--cores"])
        assert caught.value.code == commands.MISTAKE
        line = capsys.readouterr().err
        assert line.count("\n") == 1
        assert line.startswith(f"speedgrid: unrecognized arguments: {option}; did you mean {nearest}? (see ")


def test_a_script_that_is_stopped_says_so_in_a_line(capsys):
    def main():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as caught:
        commands.run(main)
    assert (caught.value.code, capsys.readouterr().err) == (130, "\nspeedgrid: stopped\n")
    with pytest.raises(SystemExit) as caught:
        commands.run(lambda: 2)
    assert caught.value.code == 2


# How it was started


@pytest.fixture
def elsewhere(tmp_path, monkeypatch) -> Path:
    """A folder of the user's, which is no clone, and nothing noted of how this was started."""
    monkeypatch.chdir(tmp_path)
    for name in (commands.LAUNCHER, commands.SNAKEMAKE):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


@pytest.mark.parametrize(
    ("typed", "parent", "said"),
    [
        (["/opt/own venv/bin/speedgrid", "run"], ["bash"], "'/opt/own venv/bin/speedgrid'"),
        (["../clone/speedgrid", "run"], [], "../clone/speedgrid"),
        (["speedgrid", "run"], [], "./speedgrid"),
        (["/c/bin/speedgrid", "run", "-n"], ["uvx", "--from", "/a wheel", "speedgrid", "run", "-n"], "uvx --from '/a wheel' speedgrid"),
        (["/c/bin/speedgrid"], ["/usr/bin/uv", "tool", "uvx", "--from", "speedgrid", "speedgrid"], "uvx --from speedgrid speedgrid"),
        (["/c/bin/speedgrid", "list"], ["/usr/bin/uv", "tool", "run", "speedgrid", "list"], "uv tool run speedgrid"),
        (["/c/bin/speedgrid", "list"], ["uv", "run", "pytest", "list"], "/c/bin/speedgrid"),
        (["/c/bin/speedgrid", "list"], ["uv", "run", "speedgrid", "show"], "/c/bin/speedgrid"),
    ],
)
def test_what_starts_it_once_more_is_what_was_typed(elsewhere, typed, parent, said):
    assert commands.started_as(typed, parent) == said


def test_what_is_on_the_path_needs_no_path(elsewhere, monkeypatch):
    program = elsewhere / "bin" / "speedgrid"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    assert commands.started_as([str(program)]) == str(program)
    monkeypatch.setenv("PATH", str(program.parent))
    assert commands.started_as([str(program)]) == "speedgrid"


def test_in_a_clone_it_is_the_launcher_of_the_clone(elsewhere, monkeypatch):
    monkeypatch.chdir(commands.ROOT)
    assert commands.started_as([str(commands.ROOT / "speedgrid"), "run"]) == "./speedgrid"
    assert commands.of_snakemake(commands.ROOT / "Snakefile", False, True) == {commands.LAUNCHER: "./speedgrid"}


def test_the_commands_are_those_of_how_it_was_started(elsewhere, monkeypatch):
    assert commands.to_run("config.yaml", "a b.txt") == "./speedgrid run -- 'a b.txt'"
    monkeypatch.setenv(commands.LAUNCHER, "uvx --from x speedgrid")
    assert commands.to_run("my studies/a.yaml", sharpen=True) == "uvx --from x speedgrid run --study 'my studies/a.yaml' --sharpen"
    assert (commands.to_page("config.yaml"), commands.to_page("a.yaml")) == (
        "uvx --from x speedgrid report",
        "uvx --from x speedgrid report --study a.yaml",
    )


@pytest.mark.parametrize(
    ("snakefile", "is_module", "said"),
    [
        ("/p/Snakefile", False, "snakemake --snakefile /p/Snakefile --cores 1 --use-conda --configfile 'my studies/a.yaml'"),
        ("Snakefile", True, "snakemake --cores 1 --use-conda"),
        ("workflow/Snakefile", True, "snakemake --snakefile {}/workflow/Snakefile --cores 1 --use-conda"),
    ],
)
def test_where_snakemake_was_started_itself_its_own_command_goes_on(elsewhere, monkeypatch, snakefile, is_module, said):
    for name, text in commands.of_snakemake(elsewhere / snakefile, is_module, True).items():
        monkeypatch.setenv(name, text)
    said = said.format(elsewhere)
    assert commands.program() == str(commands.ROOT / "speedgrid")
    assert commands.to_run("my studies/a.yaml", "x/measure.parquet") == f"{said} -- x/measure.parquet"
    assert commands.to_run("my studies/a.yaml", sharpen=True) == f"SPEEDGRID_SHARPEN=1 {said}"
    assert commands.to_page("my studies/a.yaml") == f"{said} -- report_so_far"
    # A job of the same run, and what the launcher has started, find it noted.
    assert commands.of_snakemake(elsewhere / snakefile, is_module, True) == {}


def test_the_default_study_of_a_wheel_is_named_by_no_path(monkeypatch):
    """Pages and `list --cells` told whoever used uvx to type the path of a folder in uv's cache."""
    monkeypatch.setenv(commands.LAUNCHER, "speedgrid")
    monkeypatch.delenv(commands.SNAKEMAKE, raising=False)
    assert commands.to_run(str(commands.ROOT / "config.yaml")) == commands.to_run("config.yaml") == "speedgrid run"
    assert commands.to_page(str(commands.ROOT / "config.yaml")) == "speedgrid report"
    assert commands.to_run("/elsewhere/config.yaml") == "speedgrid run --study /elsewhere/config.yaml"
