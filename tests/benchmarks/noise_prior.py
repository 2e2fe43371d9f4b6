"""What runs of the same differ by in recorded results, as rows of scripts/speedgrid/noise.csv, and the priors that come of them.

    python tests/benchmarks/noise_prior.py [RESULTS ...] [--what "model, device"]

Every cell of RESULTS that ran more than once on a quiet machine gives a row. Add them to the table to let speedgrid know what such cells
differ by; the rows of disturbed runs are left out.
"""

import argparse
import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "scripts"))

from speedgrid import noise, stats  # noqa: E402


def cells(folder: Path) -> Iterator[tuple[str, str, list[bool], list[list[float]]]]:
    """Every cell of a results folder: its name, the kind of its device, and for each run whether it was disturbed, and its rates."""
    import pyarrow.parquet as pq

    found: dict[str, list[tuple[str, bool, list[float]]]] = {}
    for path in sorted(folder.glob("**/measure*.parquet")):
        file = pq.ParquetFile(path)
        facts = json.loads(file.schema_arrow.metadata[b"speedgrid"])["facts"]
        rows = [row for row in file.read(["reply", "new_tokens", "items", "reply_s", "point"]).to_pylist() if row["reply"] is not None]
        largest = max((row["point"] or 0 for row in rows), default=0)
        rates = [
            (row["new_tokens"] if row["items"] is None else row["items"]) / row["reply_s"] for row in rows if (row["point"] or 0) == largest
        ]
        if rates:
            name = str(path.parent.relative_to(folder))
            found.setdefault(name, []).append((facts.get("device") or "", bool(facts.get("disturbed")), rates))
    for name, runs in found.items():
        yield name, runs[0][0], [disturbed for _, disturbed, _ in runs], [rates for _, _, rates in runs]


def row(device: str, runs: list[list[float]], what: str) -> dict:
    seen = [stats.run(rates) for rates in runs]
    sd = float(np.std(np.log([one.value for one in seen]), ddof=1))
    return {
        "device": device,
        "bound": noise.BOUNDS[noise.processor_share(device, seen) > 0.5],
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
        for name, device, disturbed, runs in cells(folder):
            quiet = [rates for rates, busy in zip(runs, disturbed, strict=True) if not busy]
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
