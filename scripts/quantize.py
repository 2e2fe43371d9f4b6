"""Make the checkpoint of a technique that has a transform. Writes results/checkpoints/{model}/{technique}/{dtype}/quantize.parquet."""

import json
from dataclasses import replace

from speedgrid import checkpoints, corpus, meters, stage
from speedgrid.specification import Quantize
from speedgrid.transforms import Task, transform


def quantize(job: stage.Job[Quantize]) -> str:
    settings = dict(job.specification["transform"])
    method = settings.pop("method")
    checkpoints.require_safetensors(job.checkpoint, f"the transform {method}")
    job.enter("making the checkpoint")
    # A transform that computes without PyTorch does so on the processor, in the memory of its process.
    memory = meters.MemoryMeter(job.device if job.device.uses_torch else replace(job.device, kind="cpu"))
    memory.forget_peak()
    clock = meters.Stopwatch(job.device)
    with checkpoints.replacing(job.out.parent / "checkpoint") as fresh, checkpoints.blamed_if_not_finite(job.checkpoint):
        more = transform(method)(
            Task(
                source=job.checkpoint,
                target=fresh,
                settings=settings,
                device=job.device,
                dtype=job.specification["dtype"],
                threads=job.threads,
                seed=job.specification["seed"],
                trust_remote_code=job.specification["trust_remote_code"],
                calibration=lambda: corpus.calibration_text(job.specification["calibration"]),
            )
        )
    seconds = clock.seconds()
    row = {
        "model": job.specification["model"],
        "technique": job.specification["technique"],
        "method": method,
        "settings": json.dumps(settings, sort_keys=True),
        # Beside others it takes longer than the technique does.
        "seconds": None if job.is_beside_others else seconds,
        "memory_peak": memory.peak(),
        **checkpoints.facts(job.out.parent / "checkpoint"),
        **more,
    }
    job.keep(row)
    job.facts["files"] = json.dumps(checkpoints.states(job.out.parent / "checkpoint"))
    before = job.checkpoint_facts["checkpoint_bytes"]
    return f"{before / 2**20:,.1f} MiB to {row['checkpoint_bytes'] / 2**20:,.1f} MiB in {seconds:.1f} s"


if __name__ == "__main__":
    stage.run("quantize", quantize)
