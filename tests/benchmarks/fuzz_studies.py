"""Plans thousands of studies that nobody would write, and counts what becomes of them: planned, refused in one line, or a bug.

    python tests/benchmarks/fuzz_studies.py [--count 2500] [--first 0] [--snakemake 100]

Each is a file made from a number (tests/unit/odd_studies.py) and planned as every run does; some by `snakemake -n` besides, in a copy
of the project. Ends with 1 where one ended in a traceback, in more than one line, or not within a minute. `--first` is the first number.
"""

import argparse
import collections
import json
import subprocess
import sys
import tempfile
import time
import traceback
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path[:0] = [str(ROOT / part) for part in ("scripts", "tests/unit", "tests/workflow")]

import odd_studies  # noqa: E402
import test_fuzz  # noqa: E402
import working_copy  # noqa: E402


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name, value in (("count", 2500), ("first", 0), ("snakemake", 100)):
        parser.add_argument(f"--{name}", type=int, default=value)
    asked = parser.parse_args()
    bugs, slowest = [], 0.0
    found: collections.Counter[str] = collections.Counter()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "odd.yaml")
        for seed in range(asked.first, asked.first + asked.count):
            began = time.process_time()
            try:
                line = test_fuzz.outcome(odd_studies.make(seed), file)
                found["planned" if line == "planned" else "refused"] += 1
            except Exception as error:
                found["bug"] += 1
                place = traceback.extract_tb(error.__traceback__)[-1]
                bugs.append(f"{seed}: {type(error).__name__}: {str(error)[:200]} ({place.filename}:{place.lineno})")
            slowest = max(slowest, time.process_time() - began)
        copy = working_copy.copy_to(Path(folder, "copy"))
        for seed in range(asked.first, asked.first + asked.snakemake):
            wrong = by_snakemake(copy, seed)
            found["by snakemake"] += 1
            bugs += [f"{seed}: snakemake: {wrong}"] if wrong else []
    print("\n".join(bugs))
    print(json.dumps({**found, "slowest_cpu_s": slowest, "bugs": len(bugs)}))
    sys.exit(bool(bugs))


def by_snakemake(copy: Path, seed: int) -> str:
    """What is wrong with the answer of `snakemake -n` to a study in the place of config.yaml; empty where nothing is."""
    (copy / "config.yaml").write_bytes(odd_studies.make(seed))
    try:
        done = subprocess.run(
            [sys.executable, "-m", "snakemake", "-n", "--quiet", "rules", "--cores", "1"],
            cwd=copy,
            capture_output=True,
            text=True,
            timeout=300,
        )
    except subprocess.TimeoutExpired:
        return "it does not end"
    # Snakemake names the profile that it has found, which is the project's own.
    said = "\n".join(line for line in done.stderr.strip().splitlines() if not line.startswith("Using workflow specific profile"))
    if "Traceback" in said:
        return said[-300:]
    if done.returncode and (not said.startswith("speedgrid: config.yaml: ") or "\n" in said or not said.isprintable()):
        return f"exit status {done.returncode}: {said[-300:]}"
    return ""


if __name__ == "__main__":
    main()
