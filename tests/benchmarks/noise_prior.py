"""What runs of the same differ by in recorded results, as rows of scripts/speedgrid/noise.csv, and the priors that come of them.

    python tests/benchmarks/noise_prior.py [RESULTS ...] [--what "model, device"]

Every cell of RESULTS that ran more than once on a quiet machine gives a row. Add them to the table to let speedgrid know what such cells
differ by; the rows of disturbed runs are left out. Of a cell of which the GPU sets the pace the row is of what follows the first token: the
prompt is the processor's.
"""

import argparse
import csv
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from speedgrid import noise, stats  # noqa: E402


class Recorded(NamedTuple):
    """A run of a cell: its speed, and that of what follows the first token of its replies, which is the same where that has no time."""

    whole: stats.Run
    steps: stats.Run


def cells(folder: Path) -> Iterator[tuple[str, str, list[Recorded]]]:
    """Every cell of a results folder: its name, the kind of its device, and its runs."""
    import pyarrow.parquet as pq

    found: dict[str, list[Recorded]] = {}
    devices = {}
    for path in sorted(folder.glob("**/measure*.parquet")):
        file = pq.ParquetFile(path)
        facts = json.loads(file.schema_arrow.metadata[b"speedgrid"])["facts"]
        rows = [row for row in file.read().to_pylist() if row["reply"] is not None]
        largest = max((row["point"] or 0 for row in rows), default=0)
        if rows := [row for row in rows if (row["point"] or 0) == largest]:
            name = str(path.parent.relative_to(folder))
            devices[name] = facts.get("device") or ""
            found.setdefault(name, []).append(recorded(facts, rows))
    yield from ((name, devices[name], runs) for name, runs in found.items())


def recorded(facts: dict, rows: Sequence[dict]) -> Recorded:
    whole = noise.run(facts, rows)
    steps = [noise.after_first(row) if row["ttft_s"] else 0.0 for row in rows]
    return Recorded(whole, stats.run(steps) if all(steps) else whole)


def row(device: str, runs: Sequence[Recorded], what: str) -> dict:
    waits = noise.processor_share(device, [one.whole for one in runs]) > 0.5
    seen = [one.whole if waits else one.steps for one in runs]
    sd = float(np.std(np.log([one.value for one in seen]), ddof=1))
    return {
        "device": device,
        "bound": noise.BOUNDS[waits],
        "runs": len(seen),
        "sd": f"{sd:.4f}",
        "recorded": what,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("results", type=Path, nargs="*", help="results folders")
    parser.add_argument("--what", default="", help="words for the table: the model and the device")
    arguments = parser.parse_args()
    rows = []
    for folder in arguments.results:
        for name, device, runs in cells(folder):
            quiet = [one for one in runs if not one.whole.disturbed]
            if len(quiet) > 1:
                rows.append(row(device, quiet, ", ".join(filter(None, (name, arguments.what)))))
    writer = csv.DictWriter(sys.stdout, ["device", "bound", "runs", "sd", "recorded"], lineterminator="\n")
    writer.writerows(rows)
    for bound in ("processor", "device"):
        told = [(int(one["runs"]), float(one["sd"])) for one in (*noise.recorded(), *rows) if one["bound"] == bound]
        prior = stats.fitted(told, noise.DF)
        print(f"# {bound}: {100 * prior.sd:.2f} %, from {len(told)} cells and {prior.runs} runs", file=sys.stderr)


if __name__ == "__main__":
    main()
