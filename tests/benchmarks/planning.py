"""How long a large grid takes to plan, and how much memory: a dry run of GPUs × models × techniques.

    python tests/benchmarks/planning.py --gpus 10 --models 50 --techniques 20

Prints cells, jobs, seconds, those of the processor alone, cells planned per second, and the peak of memory. Nothing is downloaded and no
job runs.
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]


def study(gpus: int, models: int, techniques: int) -> dict:
    registry = yaml.safe_load((ROOT / "techniques.yaml").read_text(encoding="utf-8"))
    usable = [name for name, entry in registry.items() if not entry.get("unavailable")][:techniques]
    if len(usable) < techniques:
        sys.exit(f"planning.py: --techniques: the registry has {len(usable)} that can run")
    return {
        "study": "large",
        "gpus": {
            f"gpu{n}": {"device": "cuda", "name": f"GPU {n}", "slurm": {"partition": f"p{n}", "gpu_model": f"g{n}"}} for n in range(gpus)
        },
        "models": {f"model{n}": {"hub": f"someone/model{n}", "revision": f"{n:040x}"} for n in range(models)},
        "experiments": {
            "generate": {"models": [f"model{n}" for n in range(models)], "techniques": usable, "prompt": "def f(x):", "baseline": usable[0]}
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for name, value in (("gpus", 10), ("models", 50), ("techniques", 20)):
        parser.add_argument(f"--{name}", type=int, default=value)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "large.yaml")
        file.write_text(yaml.safe_dump(study(asked.gpus, asked.models, asked.techniques), sort_keys=False))
        command = [sys.executable, "-m", "snakemake", "-n", "--quiet", "rules", "--cores", "1", "--configfile", str(file)]
        began = time.perf_counter()
        done = subprocess.run(command, cwd=ROOT, env={**os.environ, "SPEEDGRID_TORCH": "cuda"}, capture_output=True, text=True)
        seconds = time.perf_counter() - began
    if done.returncode:
        sys.exit(done.stderr[-4000:])
    cells = asked.gpus * asked.models * asked.techniques
    jobs = int(next(line for line in (done.stdout + done.stderr).splitlines() if line.startswith("total")).split()[1])
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu_s = used.ru_utime + used.ru_stime
    figures = {"cells": cells, "jobs": jobs, "seconds": seconds, "cpu_s": cpu_s, "cells_per_s": cells / seconds}
    print(json.dumps(figures | {"peak_bytes": used.ru_maxrss * 1024}))


if __name__ == "__main__":
    main()
