"""What the launcher adds to the start of Snakemake, in seconds of processor time, in a clone that was started before.

    python tests/benchmarks/launcher_start.py [--rounds 5]

Processor time hardly changes on a busy machine, unlike time by the clock.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def seconds_of_processor(command: list[str]) -> float:
    before = os.times()
    subprocess.run(command, cwd=ROOT, capture_output=True, check=True)
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5, help="starts of each; the least counts (default: 5)")
    rounds = parser.parse_args().rounds
    bare = min(seconds_of_processor([str(ROOT / ".venv/bin/python"), "-m", "snakemake", "--version"]) for _ in range(rounds))
    ours = min(seconds_of_processor([sys.executable, str(ROOT / "speedgrid"), "run", "--version"]) for _ in range(rounds))
    print(f"snakemake {bare:.2f} s, speedgrid {ours:.2f} s: {ours - bare:+.2f} s")


if __name__ == "__main__":
    main()
