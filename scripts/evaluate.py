"""Bits per byte on held-out text, with the engine and checkpoint that were timed. Writes evaluate.parquet, one row a document."""

from math import log
from pathlib import Path

from speedgrid import corpus, meters, stage
from speedgrid.outcomes import Unsupported
from speedgrid.progress import Steps
from speedgrid.workloads.score import windows


def evaluate(job: stage.Job) -> str:
    if job.told["random_weights"]:
        raise Unsupported("the weights are random, so their quality means nothing")
    settings = job.told["evaluate"]
    documents = held_out(settings)
    with job.engine() as engine:
        job.enter("importing packages")
        engine.import_packages()
        engine.open()
        scored = [(name, text, windows(engine.tokenize(text), engine.prefix(), engine.context())) for name, text in documents]
        requests = [window for _, _, parts in scored for window in parts]
        job.enter("loading the checkpoint")
        engine.load(max(len(context) + len(continuation) for context, continuation in requests))
        job.enter("scoring text")
        clock = meters.Stopwatch(job.device)
        scores = iter(engine.loglikelihoods(requests))
        seconds = clock.seconds()
    steps = Steps(job.name, len(documents))
    for count, (name, text, parts) in enumerate(scored, start=1):
        nats = -sum(sum(next(scores)) for _ in parts)
        tokens = sum(len(continuation) for _, continuation in parts)
        job.keep({"document": name, "bytes": len(text.encode()), "tokens": tokens, "nats": nats})
        steps.done(count)
    job.facts |= {
        "seconds": seconds,
        "checkpoint_sha256": job.checkpoint_facts["checkpoint_sha256"],
        "text": settings["text"],
        "text_sha256": corpus.fingerprint([text for _, text in documents]),
    }
    bits = sum(row["nats"] for row in job.rows) / log(2) / sum(row["bytes"] for row in job.rows)
    return f"{bits:.4f} bits per byte over {sum(row['bytes'] for row in job.rows):,} bytes"


def held_out(settings: dict) -> list[tuple[str, str]]:
    """The documents to score, as (name, text)."""
    if settings["text"] == "stdlib":
        return corpus.held_out_text(settings["max_bytes"])
    return corpus.text_file(Path(settings["text"]), settings["max_bytes"])


if __name__ == "__main__":
    stage.run("evaluate", evaluate)
