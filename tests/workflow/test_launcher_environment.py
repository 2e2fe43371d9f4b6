"""The environment that the launcher makes for itself, from the exact versions of its lock."""

import os
import re
import shutil
import signal
import subprocess
import sys
import time

import pytest
from launching import copy_of, environment, speedgrid
from pip_settings import uv_environment


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
