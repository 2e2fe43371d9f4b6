"""How often a study's verdicts are right: the same study again and again on one machine, each judged by all of them together.

    python tests/benchmarks/repeat_study.py [STUDY] [--times 10] [--busy 1] [--speeds] --keep FOLDER [--only] [--truth FOLDER]

Run it in a clone of its own, with the Python of the tests; STUDY is config.yaml unless given. Checkpoints and models stay, and every figure
is measured anew, or with --speeds the speeds alone, not cold starts and quality. --busy keeps that many cores busy with a loop. What a
technique's speed-up really is, is its median over all repetitions, or over those of --truth, such as quiet ones. A repetition is right
where it names the fastest and says nothing false, and complete where it also decides whatever is at least a quarter faster or slower.
--only reads the tables that earlier calls left in FOLDER.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

ROOT = Path(__file__).resolve().parents[2]
CLEAR = 1.25


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("study", nargs="?", default="config.yaml")
    parser.add_argument("--times", type=int, default=10)
    parser.add_argument("--busy", type=int, default=0, help="cores kept busy")
    parser.add_argument("--speeds", action="store_true", help="measure speeds anew, and neither cold starts nor quality")
    parser.add_argument("--keep", type=Path, required=True, metavar="FOLDER", help="for the tables")
    parser.add_argument("--only", action="store_true", help="judge what is there")
    parser.add_argument("--truth", type=Path, metavar="FOLDER", help="tables that say how fast each technique really is")
    arguments = parser.parse_args()
    arguments.keep.mkdir(parents=True, exist_ok=True)
    loops = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(0 if arguments.only else arguments.busy)]
    try:
        for number in range(0 if arguments.only else arguments.times):
            took = repeat(arguments.study, arguments.keep / f"{number + 1:02}.parquet", arguments.speeds)
            print(f"{number + 1}: {took:.0f} s", flush=True)
    finally:
        for loop in loops:
            loop.kill()
    judge(tables_of(arguments.keep), tables_of(arguments.truth or arguments.keep))


def repeat(study: str, kept: Path, speeds: bool) -> float:
    """Run the study without the measurements of the last time, keep its summary, and give the seconds that it took."""
    for path in [
        *ROOT.glob("results/*/*/*/*/measure*.parquet"),
        *([] if speeds else ROOT.glob("results/*/*/*/*/warmup.parquet")),
        ROOT / "results/further.json",
    ]:
        path.unlink(missing_ok=True)
    began = time.monotonic()
    done = subprocess.run([ROOT / "speedgrid", "run", "--study", study], cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout[-2000:] + done.stderr[-2000:])
    kept.write_bytes((ROOT / "results/summary.parquet").read_bytes())
    return time.monotonic() - began


def tables_of(folder: Path) -> list[list[dict]]:
    tables = [pq.read_table(path).to_pylist() for path in sorted(folder.glob("*.parquet"))]
    return tables or sys.exit(f"{folder}: no table of a study is there")


def ratios_of(tables: Sequence[Sequence[Mapping]]) -> dict[str, list[float]]:
    """The speeds of each technique over that of the baseline beside it."""
    found: dict[str, list[float]] = {}
    for table in tables:
        baseline = next(row["rate"] for row in table if row["is_baseline"])
        for row in table:
            if row["rate"] and not row["is_baseline"]:
                found.setdefault(row["technique"], []).append(row["rate"] / baseline)
    return found


def judge(tables: Sequence[Sequence[Mapping]], quiet: Sequence[Sequence[Mapping]]) -> None:
    ratios = ratios_of(tables)
    truth = {name: float(np.median(found)) for name, found in ratios_of(quiet).items()}
    right = complete = 0
    for table in tables:
        said = {row["technique"]: row for row in table if row["technique"] in truth and row["rate"]}
        fastest = max(said, key=lambda name: said[name]["rate"]) == max(truth, key=lambda name: truth[name])
        false = [name for name, row in said.items() if is_false(row["verdict"], truth[name])]
        unsaid = [name for name, row in said.items() if row["verdict"] == "unsure" and not 1 / CLEAR < truth[name] < CLEAR]
        right += fastest and not false
        complete += fastest and not false and not unsaid
        errors = [*(f"FALSE {name}" for name in false), *(f"open {name}" for name in unsaid)]
        print("fastest" if fastest else "NOT THE FASTEST", *errors, sep="; ")
    for name in ratios:
        verdicts = [row["verdict"] for table in tables for row in table if row["technique"] == name]
        counts = ", ".join(f"{verdict} {verdicts.count(verdict)}" for verdict in sorted(set(verdicts)))
        here = f"{np.median(ratios[name]):.2f}× ({min(ratios[name]):.2f} to {max(ratios[name]):.2f})"
        print(f"{name:24} truly {truth[name]:.2f}×, here {here}  {counts}")
    print(f"right in {right} of {len(tables)}, complete in {complete}")


def is_false(verdict: str, truth: float) -> bool:
    return (verdict == "faster" and truth < 1) or (verdict == "slower" and truth > 1) or (verdict == "same" and not 0.95 < truth < 1.05)


if __name__ == "__main__":
    main()
