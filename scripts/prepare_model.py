"""Prepare a model: train it, build it, find it in a folder, or download it. Writes models/{model}/prepared.parquet."""

import time

from speedgrid import models, stage
from speedgrid.progress import say


def prepare(job: stage.Job) -> str:
    job.enter("preparing the model")
    began = time.perf_counter()
    entry = job.told["entry"]
    found = models.prepare(entry, job.out.parent / "checkpoint", job.told["seed"], say)
    seconds = time.perf_counter() - began
    job.keep({"model": job.told["model"], "origin": job.told["origin"], "seconds": seconds, **found})
    # Only of safetensors is it known how many weights they hold.
    parameters = f"{found['parameters'] / 1e6:,.1f} M parameters, " if found["parameters"] else ""
    return f"{parameters}{found['checkpoint_bytes'] / 2**20:,.0f} MiB, {seconds:.0f} s"


if __name__ == "__main__":
    stage.run("prepared", prepare)
