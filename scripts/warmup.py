"""Cold start of a cell in a fresh process: import, load, first reply. Writes warmup.parquet.

Nothing is compiled for the cell yet (compiled.py). What is compiled here lies on the disk for its later processes, and its weights in the
page cache. It cannot warm the process of `measure`, which warms up again before it counts.
"""

from speedgrid import compiled, meters, stage
from speedgrid.specification import Warmup
from speedgrid.workloads import repeat


def warm_up(job: stage.Job[Warmup]) -> str:
    compiled.begin_with_none(job.out.parent)
    with job.engine() as engine:
        job.enter("importing packages")
        clock = meters.Stopwatch(job.device)
        engine.import_packages()
        import_s = job.device_s + clock.seconds()
        job.enter("loading the checkpoint")
        clock.restart()
        work = repeat.work_of(job, engine)
        work.open()
        work.load()
        load_s = clock.seconds()
        job.enter("running for the first time")
        runs = repeat.runs(work, clock)
        first, second = next(runs), next(runs)
        if work.looks_at:
            job.enter(work.looks_at)
            work.look()
    row = {"import_s": import_s, "load_s": load_s, "first_reply_s": first, "second_reply_s": second}
    job.keep(row | {"cold_start_s": import_s + load_s + first, "nothing_compiled": True})
    return f"cold start {import_s + load_s + first:.1f} s, first run {first:.2f} s, second {second:.2f} s"


if __name__ == "__main__":
    stage.run("warmup", warm_up)
