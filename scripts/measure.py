"""Count and time the replies of a cell, or the steps or passes of another workload. Writes measure.parquet, one row each."""

import json

from speedgrid import ceilings, meters, monitor, stage
from speedgrid.engines.base import Engine
from speedgrid.progress import Steps, say
from speedgrid.told import Measure
from speedgrid.workloads import generate, repeat


def measure(job: stage.Job[Measure]) -> str:
    if job.told["workload"] != "generate":
        return repeat.measure(job)
    with job.engine() as engine:
        return replies(job, engine)


def replies(job: stage.Job[Measure], engine: Engine) -> str:
    settings, seed = job.told["settings"], job.told["seed"]
    memory, clock = meters.MemoryMeter(job.device, engine.uses_torch), meters.Stopwatch(job.device)
    job.enter("importing packages")
    with monitor.Idle(job.device) as idle:
        engine.import_packages()
        engine.open()
    prompt = generate.prompt_of(engine, settings, seed)
    job.facts |= {name: job.checkpoint_facts[name] for name in ("checkpoint_bytes", "checkpoint_sha256")}
    job.facts |= ceilings.measured_facts(job.checkpoint, engine.config.to_json_string(use_diff=False), job.told["options"]["dtype"])

    job.enter("loading the checkpoint")
    memory.forget_peak()
    job.facts |= {"memory_source": memory.source, "memory_before": memory.held()}
    clock.restart()
    engine.load(generate.room_for(prompt, settings), settings["batch_size"])
    job.facts |= {"load_s": clock.seconds(), "memory_loaded": memory.held(), **engine.sizes()}
    job.facts["multiplies_in"] = engine.multiplies_in()

    job.enter("warming up")
    clock.restart()
    generate.warm_up(engine, prompt, settings, seed)
    job.facts |= {"warmup_s": clock.seconds(), "memory_load_peak": memory.peak()}
    say(f"{job.name}: warm after {settings['warmup_replies']} replies, {job.facts['warmup_s']:.1f} s")

    job.enter("counting replies")

    def count() -> None:
        job.rows.clear()
        memory.forget_peak()
        steps = Steps(job.name, generate.most_replies(settings))

        def keep(row: dict) -> None:
            job.keep(row)
            steps.done(row["reply"], f"{row['new_tokens'] / row['reply_s']:,.1f} token/s")

        job.facts["stopped"] = generate.counted(engine, prompt, settings, seed, keep)

    job.facts |= monitor.watched(job.name, job.device, idle.facts, settings, count)
    job.facts |= {
        "memory_peak": memory.peak(),
        "memory_reserved": memory.reserved_peak(),
        "device_memory_used": memory.device_used(),
    }

    engine.check_numbers([*prompt, *job.rows[-1]["token_ids"][0]])
    job.enter("proving that the technique was active")
    proof = engine.prove(prompt, settings)
    job.facts |= {"engaged": proof.engaged, "evidence": json.dumps(proof.evidence)}
    early = generate.ended_early(job.rows, settings)
    status, reason = ("not_engaged", proof.reason) if not proof.engaged else ("ended_early", early) if early else ("ok", "")
    for row in job.rows:
        row |= {"status": status, "reason": reason}
    speed = generate.typical_speed(job.rows, "new_tokens")
    return f"{speed:,.1f} token/s" + (f", {status.replace('_', ' ')}: {reason}" if reason else "")


if __name__ == "__main__":
    stage.run("measure", measure)
