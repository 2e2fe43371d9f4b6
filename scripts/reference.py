"""What the unmodified model expects next in held-out text. Writes reference.parquet, one row a sequence."""

from itertools import chain

from speedgrid import corpus, stage
from speedgrid.engines.base import Engine, Likeliest
from speedgrid.outcomes import Outcome, Unsupported
from speedgrid.quality import distance
from speedgrid.quality.distance import COUNT, sequences
from speedgrid.specification import Reference


def reference(job: stage.Job[Reference]) -> str:
    settings = job.specification["evaluate"]
    documents = corpus.held_out(settings, settings["max_bytes"])
    with job.engine() as engine:
        job.enter("importing packages")
        engine.import_packages()
        engine.open()
        texts = [engine.language.tokenize(text) for _, text in documents]
        pieces = sequences(texts, engine.language.prefix(), settings["positions"], engine.language.window())
        if not pieces:
            raise Unsupported(f"the held-out text has too few tokens for {settings['positions']} positions")
        job.enter("loading the checkpoint")
        # The engine may have to feed one token more to predict what follows the last one.
        engine.load(max(len(piece) for _, piece in pieces) + 1, engine.scored_at_once)
        job.enter("computing next tokens")
        found = engine.next_tokens([piece for _, piece in pieces], COUNT)
        if (held := distance.held(found)) < distance.LEAST_HELD:
            raise Unsupported(f"the {COUNT} likeliest next tokens hold {held:.0%} of the probability, too little for a distance")
        job.enter("measuring what rounding does")
        job.facts["rounding"] = rounding(engine, [piece for _, piece in pieces], found, job.specification["seed"])
    for (number, piece), likeliest in zip(pieces, found, strict=True):
        tokens, logarithms = (list(chain.from_iterable(part)) for part in likeliest)
        row = {"document": documents[number][0], "tokens": piece, "likeliest": tokens, "logarithms": logarithms}
        job.keep({**row, "count": len(likeliest.tokens[0])})
    job.facts |= {"technique": job.specification["technique"], "checkpoint_sha256": job.checkpoint_facts["checkpoint_sha256"]}
    return f"{sum(len(piece) for _, piece in pieces):,} positions in {len(pieces)} sequences"


def rounding(engine: Engine, pieces: list[list[int]], found: list[Likeliest], seed: int) -> float | None:
    """Mean divergence of the model from itself where the output of each layer is rounded once more; None where that cannot be had."""
    try:
        with engine.rounded_once_more(seed):
            again = engine.next_tokens_alone(pieces, COUNT)
    except Outcome:
        return None
    return distance.mean([distance.distance(*both) for both in zip(found, again, strict=True)])


if __name__ == "__main__":
    stage.run("reference", reference)
