"""Cold start of a cell in a fresh process: import, load, first reply. Writes warmup.parquet.

It also fills what lasts on the disk: compiled kernels, and the weights in the page cache. It cannot warm the process of `measure`,
which warms up again before it counts.
"""

from speedgrid import meters, stage
from speedgrid.told import Warmup
from speedgrid.workloads import generate, repeat


def warm_up(job: stage.Job[Warmup]) -> str:
    load = generate.loaded if job.told["workload"] == "generate" else repeat.loaded
    with job.engine() as engine:
        job.enter("importing packages")
        clock = meters.Stopwatch(job.device)
        engine.import_packages()
        import_s = job.device_s + clock.seconds()
        job.enter("loading the checkpoint")
        clock.restart()
        runs = load(job, engine)
        load_s = clock.seconds()
        job.enter("running for the first time")
        first, second = next(runs), next(runs)
        if job.told["workload"] == "generate":
            job.enter("looking whether the model is causal")
            generate.check_causal(engine, job.told["settings"], job.told["seed"])
    row = {"import_s": import_s, "load_s": load_s, "first_reply_s": first, "second_reply_s": second}
    job.keep(row | {"cold_start_s": import_s + load_s + first})
    return f"cold start {import_s + load_s + first:.1f} s, first run {first:.2f} s, second {second:.2f} s"


if __name__ == "__main__":
    stage.run("warmup", warm_up)
