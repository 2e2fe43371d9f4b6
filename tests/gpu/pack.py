"""Pack studies for a GPU machine without internet: the project as committed, every wheel that it takes, and a script that runs all.

    python tests/gpu/pack.py STUDY.yaml ... --to FOLDER                                  the project's own environments, for a GPU
    python tests/gpu/pack.py STUDY.yaml ... --to FOLDER --pins PINS ... --python 3.12    one stack, beside what that machine has

Copy FOLDER to that machine (`--part-mb 50` splits the bundle, where large files cannot be copied), and run `bash start.sh` in it; the same
command goes on after a break. `bash collect.sh` packs the results.

With --pins all jobs share one environment on top of the machine's own packages, such as those of a GPU image. PINS are files that name
packages as name==version, one a line, such as those of envs/ and locks/; of a package in several the first counts. What --have names (a
file of names or pins, one a line) is there and stays out. Techniques whose packages are not among the pins become rows with the status
`missing_dependency`. The sources of llama.cpp come along where a study takes it, and are built there. Without --pins the machine needs
Python 3.11 and the same system (glibc) or a newer one, and each job gets its environment as everywhere; llama.cpp and what else is built
after installing is left out.

Run it with the Python of the tests (.venv-test/bin/python); pip does the downloading.
"""

import argparse
import hashlib
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from packaging.utils import parse_wheel_filename

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from speedgrid import planning, study  # noqa: E402
from speedgrid.packages import package_name  # noqa: E402

HERE = Path(__file__).resolve().parent
# Wheels for older systems run on newer ones, so that the oldest that a package was built for is as good as the newest.
GLIBC = range(35, 4, -1)
PLATFORMS = [f"manylinux_2_{minor}_x86_64" for minor in GLIBC] + ["manylinux2014_x86_64", "manylinux2010_x86_64", "manylinux1_x86_64"]
PYTHON_OF_JOBS = "3.11"  # of the pins in envs/
# Without these nothing runs there, and no result can be written.
NEEDED = frozenset({"snakemake", "pyarrow"})


class Refusal(Exception):
    """Something that the caller can put right; shown as one line."""


def main() -> None:
    arguments = parse()
    if arguments.to.exists() and any(arguments.to.iterdir()):
        raise Refusal(f"--to {arguments.to}: is there and not empty; name a new folder, or remove it")
    if twice := [name for name, count in Counter(path.stem for path in arguments.studies).items() if count > 1]:
        raise Refusal(f"{twice[0]}: two studies have this name, and each runs in runs/NAME; rename one of their files")
    studies = [read_study(path) for path in arguments.studies]
    with tempfile.TemporaryDirectory() as scratch:
        bundle = Path(scratch)
        subprocess.run(["git", "-C", str(ROOT), "archive", "--format=tar", "-o", str(bundle / "project.tar"), "HEAD"], check=True)
        (bundle / "studies").mkdir()
        for path in arguments.studies:
            shutil.copy(path, bundle / "studies" / f"{path.stem}.yaml")
        (bundle / "wheels").mkdir()
        if arguments.pins:
            (bundle / "flat").write_text(f"{arguments.python}\n", encoding="utf-8")
            known = united(map(pins_of, arguments.pins))
            if lacking := sorted(NEEDED - {package_name(pin) for pin in known} - there(arguments.have)):
                raise Refusal(f"--pins: names no {lacking[0]}, which every run takes; add locks/run.txt and envs/report.yaml")
            pins = without(known, arguments.have)
            download(pins, arguments.python, bundle / "wheels", whole=True, built=True)
            # What installs them there; the machine's Python may have no pip.
            download(["pip"], arguments.python, bundle / "wheels", whole=True)
            download_sources(environments_of(studies, arguments.device), bundle / "wheels")
        else:
            download_environments(environments_of(studies, arguments.device), bundle / "wheels")
        arguments.to.mkdir(parents=True, exist_ok=True)
        for script in ("start.sh", "collect.sh"):
            shutil.copy(HERE / script, arguments.to / script)
        size = write_parts(bundle, arguments.to, arguments.part_mb)
    if changed := uncommitted():
        print(f"not packed, since they are not committed: {', '.join(changed[:10])}{' ...' if changed[10:] else ''}")
    print(f"{arguments.to}: {size / 1e6:,.0f} MB in {len(list(arguments.to.glob('bundle.*')))} parts; bring it there, then: bash start.sh")


# What is needed


def read_study(path: Path) -> dict:
    try:
        content = study.read(path, path)
    except study.StudyError as error:
        raise Refusal(str(error)) from None
    if not isinstance(content, dict) or not isinstance(content.get("experiments"), dict):
        raise Refusal(f"{path}: is not a study: it has no experiments")
    known = planning.read_yaml("techniques.yaml") | (content.get("techniques") or {})
    for name, experiment in content["experiments"].items():
        techniques = experiment.get("techniques", []) if isinstance(experiment, dict) else None
        if not isinstance(techniques, list):
            raise Refusal(f"{path}: experiments.{name}.techniques: is a list of names of techniques.yaml")
        if unknown := [one for one in techniques if not isinstance(one, str) or one not in known]:
            raise Refusal(f"{path}: experiments.{name}.techniques: there is no technique {unknown[0]!r}")
    return content


def environments_of(studies: Iterable[dict], device: str) -> list[str]:
    """Names of the files of envs/ that the studies' jobs take on such a device, and those of report and quality."""
    registry = planning.read_yaml("techniques.yaml")
    found = {"report": True, "transformers": True}
    for one in studies:
        known = registry | (one.get("techniques") or {})
        for experiment in one["experiments"].values():
            if experiment.get("evaluate") is not False:
                found["evaluation"] = True
            for technique in experiment.get("techniques", []):
                env = known.get(technique, {}).get("env")
                if env:
                    found[env if isinstance(env, str) else env[device]] = True
    return list(found)


def pins_of(path: Path) -> list[str]:
    """Every name==version of a file, which may be a list, a lock with hashes or an environment of envs/."""
    lines = (line.strip().removeprefix("- ").rstrip("\\").strip() for line in text_of(path).splitlines())
    found = [line for line in lines if re.fullmatch(r"[A-Za-z0-9][\w.\[\]-]*==[^\s;]+( *;.*)?", line)]
    if not found:
        raise Refusal(f"{path}: names no package as name==version")
    return found


def united(lists: Iterable[Sequence[str]]) -> list[str]:
    """The pins of several files; of a package in several the first counts."""
    found: dict[str, str] = {}
    for pins in lists:
        for pin in pins:
            found.setdefault(package_name(pin), pin)
    return list(found.values())


def uncommitted() -> list[str]:
    """Files of the project that were changed and not committed, or are not in git at all."""
    done = subprocess.run(["git", "-C", str(ROOT), "status", "--porcelain"], capture_output=True, text=True)
    return [line[3:] for line in done.stdout.splitlines()]


def there(have: Path | None) -> set[str]:
    """The packages that the machine has, by their names."""
    return {package_name(line) for line in text_of(have).splitlines() if line.strip()} if have else set()


def without(pins: Sequence[str], have: Path | None) -> list[str]:
    known = there(have)
    return [pin for pin in pins if package_name(pin) not in known]


def text_of(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Refusal(f"{path}: cannot be read: {getattr(error, 'strerror', None) or 'it is no text'}") from None


# Downloading


def download_environments(names: Sequence[str], folder: Path) -> None:
    """The wheels of Snakemake and of environments, which may differ in their versions of a package: a folder holds them all."""
    download(pins_of(ROOT / "locks" / "run.txt"), PYTHON_OF_JOBS, folder, whole=True)
    # pip is in each environment; setuptools and wheel build packages that have no wheel, in an environment that pip makes for that.
    download(["pip", "setuptools", "wheel"], PYTHON_OF_JOBS, folder, whole=False)
    for name in names:
        if (ROOT / "envs" / f"{name}.post-deploy.sh").is_file():
            print(f"{name}: is built after it was installed, which takes an index: left out; its techniques will say so")
            continue
        pins = pins_of(ROOT / "envs" / f"{name}.yaml")
        download(pins, PYTHON_OF_JOBS, folder, whole=True)
        # CUDA's libraries are left to torch, whose wheel names them.
        download([pin for pin in pins if package_name(pin) == "torch"], PYTHON_OF_JOBS, folder, whole=False)


def download_sources(names: Sequence[str], folder: Path) -> None:
    """The sources that the post-deploy script of llama.cpp builds, of the version and hash that it names."""
    script = ROOT / "envs" / "llamacpp.post-deploy.sh"
    if "llamacpp" in names:
        version, sha256 = re.findall(r"^(?:VERSION|SHA256)=(\S+)$", script.read_text(encoding="utf-8"), re.MULTILINE)
        wanted = folder / "wanted.txt"
        wanted.write_text(f"llama-cpp-python=={version} --hash=sha256:{sha256}\n", encoding="utf-8")
        base = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-binary", ":all:", "--require-hashes"]
        done = subprocess.run([*base, "--dest", str(folder), "--requirement", str(wanted)], capture_output=True, text=True)
        wanted.unlink()
        if done.returncode != 0:
            raise Refusal(f"pip cannot download llama-cpp-python: {' '.join(done.stderr.split())[-500:]}")


def download(pins: Sequence[str], python: str, folder: Path, whole: bool, built: bool = False) -> None:
    """Download wheels for that Python on Linux. `whole`: the pins alone, no dependencies. `built`: what has no wheel is built here."""
    platforms = [part for name in PLATFORMS for part in ("--platform", name)]
    base = [sys.executable, "-m", "pip", "download", "--quiet", "--dest", str(folder), "--only-binary=:all:"]
    base += ["--implementation", "cp", "--python-version", python, *platforms, *(["--no-deps"] if whole else [])]
    left = list(pins)
    while left:
        done = subprocess.run([*base, *left], capture_output=True, text=True)
        if done.returncode == 0:
            return
        bad = re.search(r"No matching distribution found for ([^\s;]+)", done.stderr)
        if not bad or not any(package_name(pin) == package_name(bad[1]) for pin in left):
            raise Refusal(f"pip cannot download: {' '.join(done.stderr.split())[-500:]}")
        get_without_wheel(bad[1], python, folder, built)
        left = [pin for pin in left if package_name(pin) != package_name(bad[1])]


def get_without_wheel(pin: str, python: str, folder: Path, built: bool) -> None:
    """A package of which there is only the source: built here, or brought as it is, so that its hash is that of the lock."""
    interpreter = python_of(python) if built else sys.executable
    with tempfile.TemporaryDirectory() as scratch:
        made = ["wheel", "--wheel-dir", scratch] if built else ["download", "--no-binary", package_name(pin), "--dest", scratch]
        if subprocess.run([interpreter, "-m", "pip", *made, "--quiet", "--no-deps", pin], capture_output=True).returncode != 0:
            raise Refusal(f"{pin}: has no wheel for Python {python} on Linux and cannot be built here; take it out of the pins")
        [found] = Path(scratch).iterdir()
        if built and not is_for(found.name, python):
            # One that is for another Python alone stops the installation of all others there.
            raise Refusal(
                f"{pin}: has no wheel for Python {python}, and {found.name} was built here; put python{python} with pip on PATH,"
                " or take it out of the pins"
            )
        shutil.move(found, folder)
    print(f"{pin}: has no wheel for Python {python}; {'built here' if built else 'its source is brought'}")


def python_of(version: str) -> str:
    """A Python that builds wheels for that version; this one where there is none, whose wheels may do where nothing is compiled."""
    named = f"python{version}"
    works = shutil.which(named) and subprocess.run([named, "-m", "pip", "--version"], capture_output=True).returncode == 0
    return named if works else sys.executable


def is_for(wheel: str, python: str) -> bool:
    """Whether a wheel, by the tags of its name, can be installed with that version of Python."""
    own = "cp" + python.replace(".", "")
    tags = parse_wheel_filename(wheel)[-1]
    return any(tag.interpreter in ("py3", own) or (tag.abi == "abi3" and _minor(tag.interpreter) <= _minor(own)) for tag in tags)


def _minor(interpreter: str) -> int:
    return int(interpreter.removeprefix("cp3"))


def write_parts(bundle: Path, target: Path, part_mb: int | None) -> int:
    """The bundle as one file, or as several of `part_mb` MB, whose names sort in their order, with their hashes in SHA256SUMS; returns its
    size in bytes."""
    whole = target / "bundle.tar"
    with tarfile.open(whole, "w") as tar:
        for item in sorted(bundle.iterdir()):
            tar.add(item, item.name)
    size = whole.stat().st_size
    if part_mb:
        with open(whole, "rb") as source:
            for number in range(-(-size // (part_mb * 1_000_000))):
                (target / f"bundle.{number:03d}").write_bytes(source.read(part_mb * 1_000_000))
        whole.unlink()
    parts = sorted(target.glob("bundle.*"))
    sums = [f"{_sha256(part)}  {part.name}\n" for part in parts]
    (target / "SHA256SUMS").write_text("".join(sums), encoding="utf-8")
    return size


def _sha256(path: Path) -> str:
    with open(path, "rb") as source:
        return hashlib.file_digest(source, "sha256").hexdigest()


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("studies", nargs="+", type=Path, metavar="STUDY", help="study files")
    parser.add_argument("--to", type=Path, required=True, metavar="FOLDER", help="a new folder for the bundle")
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="what the jobs measure on there (default: cuda)")
    parser.add_argument("--pins", type=Path, nargs="+", help="one stack for all jobs: files of name==version, such as envs/report.yaml")
    parser.add_argument("--have", type=Path, help="with --pins: packages that the machine has, a name a line")
    parser.add_argument("--python", default="3.12", help="with --pins: Python of that machine (default: 3.12)")
    parser.add_argument("--part-mb", type=int, help="split the bundle into parts of so many MB")
    asked = parser.parse_args()
    if asked.part_mb is not None and asked.part_mb < 1:
        parser.error("--part-mb takes a number from 1 on")
    if not re.fullmatch(r"3\.\d+", asked.python):
        parser.error(f"--python takes a version such as 3.12, not {asked.python}")
    if asked.have and not asked.pins:
        parser.error("--have belongs to --pins: without it each job has an environment of its own")
    if asked.to.exists() and not asked.to.is_dir():
        parser.error(f"--to {asked.to}: is a file; name a new folder")
    return asked


if __name__ == "__main__":
    try:
        main()
    except Refusal as refusal:
        sys.exit(f"pack: {refusal}")
