"""Prepare a model: train it, build it, find it in a folder, or download it. Writes models/{model}/prepared.parquet."""

import json
import time
from collections.abc import Mapping
from contextlib import suppress

from speedgrid import checkpoints, corpus, models, stage
from speedgrid.outcomes import Unsupported
from speedgrid.progress import say
from speedgrid.specification import Model


def prepare(job: stage.Job[Model]) -> str:
    job.enter("preparing the model")
    began = time.perf_counter()
    entry = job.specification["entry"]
    found = models.prepare(entry, job.out.parent / "checkpoint", job.specification["seed"], say, job.enter)
    seconds = time.perf_counter() - began
    bring_calibration(entry["calibration"])
    job.facts["dequantized_from"] = found.pop("dequantized_from", None)
    job.keep({"model": job.specification["model"], "origin": job.specification["origin"], "seconds": seconds, **found})
    folder = job.out.parent / "checkpoint"
    came_as = checkpoints.came_as(folder) if job.specification["origin"] == "gguf" else {}
    job.facts["files"] = json.dumps(checkpoints.states(folder) | came_as)
    # Only of safetensors is it known how many weights they hold.
    parameters = f"{found['parameters'] / 1e6:,.1f} M parameters, " if found["parameters"] else ""
    return f"{parameters}{found['checkpoint_bytes'] / 2**20:,.0f} MiB, {seconds:.0f} s"


def bring_calibration(source: Mapping) -> None:
    """Download calibration data of the hub into its cache, while there may be a network: a quantize job on a GPU may have none.

    A failure is ignored here: the job that needs the data reports it.
    """
    if "dataset" in source:
        with suppress(Unsupported):
            corpus.dataset_file(source["dataset"])


if __name__ == "__main__":
    stage.run("prepared", prepare)
