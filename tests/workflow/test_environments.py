"""Every environment file: its pins are exact, complete, and can still be had for Linux with an NVIDIA GPU. Nothing is installed."""

import os
import re
import subprocess
from pathlib import Path

import pytest
import uv_conda
import yaml
from pip_settings import uv_environment, uv_flags

ENVS = sorted(Path(__file__).resolve().parents[2].glob("envs/*.yaml"))
# What PyTorch's own pins decide: its CUDA builds need them, its CPU builds do not.
LEFT_TO_TORCH = re.compile(r"nvidia-|cuda-|triton==")


def pins_of(file: Path) -> list[str]:
    """The lines under `pip:`, without options of pip."""
    (lines,) = (entry["pip"] for entry in yaml.safe_load(file.read_text())["dependencies"] if isinstance(entry, dict))
    return [line for line in lines if not line.startswith("-")]


def problems(file: Path, pins: list[str]) -> list[str]:
    """What is wrong with pins for the Python of the file and the platform that its header names, one line each."""
    python, _ = uv_conda.read_recipe(file)
    (platform,) = set(re.findall(r"--python-platform (\S+)", file.read_text()))
    command = [uv_conda.uv_executable(), "pip", "compile", "-", "--no-header", "--no-annotate", "--quiet", *uv_flags(os.environ)]
    command += ["--python-version", python.strip("=.*"), "--python-platform", platform]
    done = subprocess.run(command, input="\n".join(pins), env=uv_environment(os.environ), capture_output=True, text=True)
    if done.returncode:
        return done.stderr.splitlines()
    wanted = {re.sub(r"\[.*\]", "", pin) for pin in pins}
    found = {re.sub(r"\+\w+$", "", line) for line in done.stdout.split()}  # a machine may offer a local build, such as torch+cpu
    more = [f"{line}: has no pin" for line in sorted(found - wanted) if not LEFT_TO_TORCH.match(line)]
    return more + [f"{pin}: was not taken" for pin in sorted(wanted - found)]


@pytest.mark.parametrize("file", ENVS, ids=lambda file: file.stem)
def test_pins_are_exact(file):
    assert [pin for pin in pins_of(file) if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*(\[[a-z0-9,-]+\])?==[\w.+!]+", pin)] == []
    names = [re.split(r"[\[=]", pin)[0] for pin in pins_of(file)]
    assert sorted(names) == sorted(set(names))


@pytest.mark.slow
@pytest.mark.needs("network")
@pytest.mark.parametrize("file", ENVS, ids=lambda file: file.stem)
def test_pins_can_be_had_and_are_complete(file):
    assert problems(file, pins_of(file)) == []


# Plain Python, which needs no compiler though its makers publish no wheel.
WITHOUT_WHEEL = {"rouge-score", "sqlitedict", "word2number"}


@pytest.mark.slow
@pytest.mark.needs("network")
@pytest.mark.parametrize("file", ENVS, ids=lambda file: file.stem)
def test_an_environment_that_says_nothing_of_a_compiler_comes_as_wheels_for_the_c_library_that_it_names(file):
    """Else its making would end in pages of a compiler's or a linker's messages, and doctor had said `ready`."""
    said = file.read_text()
    if "# needs: compiler" in said or file.stem == "tensorrt-llm":  # NVIDIA's package is fetched while it is built
        return
    python, _ = uv_conda.read_recipe(file)
    (platform,) = set(re.findall(r"--python-platform (\S+)", said))
    command = [
        uv_conda.uv_executable(),
        "pip",
        "compile",
        "-",
        "--quiet",
        "--no-deps",
        "--no-header",
        "--no-annotate",
        "--only-binary",
        ":all:",
    ]
    command += ["--python-version", python.strip("=.*"), "--python-platform", platform, *uv_flags(os.environ)]
    pins = [pin for pin in pins_of(file) if pin.partition("==")[0] not in WITHOUT_WHEEL]
    done = subprocess.run(command, input="\n".join(pins), env=uv_environment(os.environ), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.slow
@pytest.mark.needs("network")
def test_wrong_pins_are_seen():
    (file,) = (file for file in ENVS if file.stem == "report")
    pins = pins_of(file)
    (missing,) = problems(file, [pin for pin in pins if not pin.startswith("narwhals==")])
    assert re.fullmatch(r"narwhals==\S+: has no pin", missing)
    contradicting = [pin for pin in pins if not pin.startswith("numpy==")] + ["numpy==1.26.4"]
    assert "numpy" in " ".join(problems(file, contradicting))
    assert "99.1" in " ".join(problems(file, [*pins, "six==99.1"]))
