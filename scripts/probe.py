"""Measure what a device can do: the bandwidth of its memory and its rate of matrix products. Writes results/{gpu}/probe.parquet.

By hand, with the Python of the environment `transformers`:

    python scripts/probe.py --out probe.parquet --job '{"gpu": "local", "device": {"device": "auto"}, "requires": [], "seed": 0,
        "threads": "auto"}'
"""

from speedgrid import monitor, specification, stage
from speedgrid.probe import DTYPES, Probe
from speedgrid.progress import say


def probe(job: stage.Job[specification.Probe]) -> str:
    job.enter("measuring what the device can do")
    device = Probe(job.device, job.threads, job.specification["seed"])
    with monitor.Idle(job.device) as idle:
        job.facts["cache_bytes"] = device.cache() or None
    not_possible = []
    with monitor.Monitor(job.device, idle.facts) as watch:
        for row, said in device.rows(tuple(job.specification.get("dtypes", DTYPES))):
            print(said, flush=True)
            if row:
                job.keep(row)
            else:
                not_possible.append(said)
    job.facts["not_possible"] = not_possible
    seen = watch.facts()
    job.facts |= {name: seen[name] for name in ("throttled", "shared", "disturbed")}
    if seen["disturbed"]:
        say(f"{job.name}: disturbed, so that the ceilings may be too low: {seen['disturbed']}")
    memory = max(row["best"] for row in job.rows if row["kind"] in ("copy", "read"))
    fastest = max((row for row in job.rows if row["kind"] == "gemm"), key=lambda row: row["best"])
    return f"{memory / 1e9:,.1f} GB/s, {fastest['best'] / 1e12:,.2f} TFLOP/s ({fastest['dtype']})"


if __name__ == "__main__":
    stage.run("probe", probe)
