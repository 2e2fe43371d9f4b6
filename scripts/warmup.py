"""Cold start of a cell in a fresh process: import, load, first reply. Writes warmup.parquet.

It also fills what lasts on the disk: compiled kernels, and the weights in the page cache. It cannot warm the process of `measure`,
which warms up again before it counts.
"""

from speedgrid import meters, stage
from speedgrid.workloads import repeat
from speedgrid.workloads.generate import prompt_of, room_for


def warm_up(job: stage.Job) -> str:
    if job.told["workload"] != "generate":
        return repeat.warm_up(job)
    settings, seed = job.told["settings"], job.told["seed"]
    with job.engine() as engine:
        job.enter("importing packages")
        clock = meters.Stopwatch(job.device)
        engine.import_packages()
        import_s = job.device_s + clock.seconds()
        job.enter("loading the checkpoint")
        clock.restart()
        engine.open()
        prompt = prompt_of(engine, settings, seed)
        engine.load(room_for(prompt, settings), settings["batch_size"])
        load_s = clock.seconds()
        job.enter("generating the first replies")
        first, second = (engine.generate(prompt, settings, seed).reply_s for _ in range(2))
    row = {"import_s": import_s, "load_s": load_s, "first_reply_s": first, "second_reply_s": second}
    job.keep(row | {"cold_start_s": import_s + load_s + first})
    return f"cold start {import_s + load_s + first:.1f} s, first reply {first:.2f} s, second {second:.2f} s"


if __name__ == "__main__":
    stage.run("warmup", warm_up)
