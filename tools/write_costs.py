"""Write the rows of a recorded run into scripts/speedgrid/costs.csv, which estimates are made from.

    .venv-test/bin/python tools/write_costs.py two-cores-135m:30=results h200-1b:16=docs/results/h200/decode-1b

An argument is NAME:LAYERS=FOLDER: a name for machine and model, the layers of the model, and the folder of the run's tables. A row is a
technique of that run: bytes and seconds of a decoding step, the bandwidth of the run's own ceiling, seconds until the model was loaded,
seconds of the first reply, and, where runs.parquet is there, the seconds of a later process besides its replies. Rows of the same name are
replaced. A run with disturbed replies is refused, unless `--disturbed` is given: only a quiet machine says what a technique costs.
"""

import csv
import json
import re
import sys
from pathlib import Path

import pandas as pd

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "scripts"))

from speedgrid import estimates

COSTS = Path(estimates.__file__).with_name("costs.csv")
COLUMNS = ("machine", "device", "technique", "layers", "step_bytes", "bandwidth", "step_s", "start_s", "first_s", "again_s")


def rows_of(name: str, layers: int, folder: Path) -> list[dict]:
    """The rows of a run's cells that were measured and active; those of other workloads than replies have no decoding step."""
    summary = pd.read_parquet(folder / "summary.parquet")
    found = summary[(summary.status == "ok") & summary.tpot_s.notna() & summary.decode_headroom.notna()]
    disturbed = found[found.disturbed.fillna("") != ""]
    if len(disturbed) and "--disturbed" not in sys.argv:
        names = ", ".join(disturbed.technique)
        sys.exit(f"{folder}: other work disturbed {names}; record on a quiet machine, or say --disturbed")
    again = again_of(folder)
    return [
        {
            "machine": name,
            "device": "cuda" if row.memory_source != "process" else "cpu",
            "technique": row.technique,
            "layers": layers,
            "step_bytes": f"{row.step_bytes:.4g}",
            "bandwidth": f"{row.decode_headroom * row.step_bytes / row.tpot_s:.4g}",
            "step_s": f"{row.tpot_s:.4g}",
            "start_s": f"{row.import_s + row.load_s:.3g}",
            "first_s": f"{row.first_reply_s:.3g}",
            "again_s": f"{seconds:.3g}" if (seconds := again(row)) else "",
        }
        for row in found.itertuples()
    ]


def again_of(folder: Path):
    """A function from a row of the summary to the seconds of its measuring job besides the replies; None where they are not known."""
    if not (folder / "runs.parquet").is_file():
        return lambda row: None
    runs = pd.read_parquet(folder / "runs.parquet")
    runs = runs[runs.stage == "measure"]
    took = (pd.to_datetime(runs.ended_at) - pd.to_datetime(runs.started_at)).dt.total_seconds()
    warmups = runs.job.map(lambda job: json.loads(job)["settings"]["warmup_replies"])

    def again(row):
        own = (runs.gpu == row.gpu) & (runs.experiment == row.experiment) & (runs.model == row.model) & (runs.technique == row.technique)
        replies = row.replies / row.runs + warmups[own].median()
        return max(0.0, took[own].median() - replies * row.latency_mean_s)

    return again


def main() -> None:
    told = [re.fullmatch(r"([\w.-]+):(\d+)=(.+)", argument) for argument in sys.argv[1:] if argument != "--disturbed"]
    if not told or not all(told):
        sys.exit(__doc__)
    runs = {match[1]: (int(match[2]), Path(match[3])) for match in told if match}
    with open(COSTS, encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["machine"] not in runs]
    rows += [row for name, (layers, folder) in runs.items() for row in rows_of(name, layers, folder)]
    with open(COSTS, "w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    estimates.recorded.cache_clear()
    on_gpus, on_processors = (estimates.error(device) for device in ("cuda", "cpu"))
    print(f"{COSTS}: {len(rows)} rows; a step is within a factor of {on_gpus:.2f} on GPUs, {on_processors:.2f} on processors")


if __name__ == "__main__":
    main()
