"""Quality, with the engine and checkpoint that were timed: bits per byte on held-out text, answers to the requests of tasks, and the
distance to the unmodified model. Writes evaluate.parquet, one row a document, request or sequence.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log

from speedgrid import corpus, meters, records, stage
from speedgrid.engines.base import Engine
from speedgrid.outcomes import Unsupported, WrongResult
from speedgrid.progress import say
from speedgrid.quality import fidelity, questions
from speedgrid.quality.distance import TIMES, Distance, distance, mean
from speedgrid.quality.distance import allowed as most
from speedgrid.schema import MEASURED, REFERENCE, REQUESTS
from speedgrid.specification import Evaluate
from speedgrid.workloads.score import stretches, windows

# Requests that an engine is given at once; after each such batch the job can report its progress.
AT_ONCE = 512


def evaluate(job: stage.Job[Evaluate]) -> str:
    if job.specification["random_weights"]:
        raise Unsupported("the weights are random, so their quality means nothing")
    settings = job.specification["evaluate"]
    documents = corpus.held_out(settings, settings["max_bytes"])
    if not any(text for _, text in documents):
        raise Unsupported(f"the held-out text {settings['text']} is empty")
    reference = read_reference(job)
    with job.engine() as engine:
        job.enter("importing packages")
        engine.import_packages()
        engine.open()
        texts = [document(engine, name, text) for name, text in documents if text]
        job.facts["text_reason"] = fidelity.why_lost([one.text for one in texts], [one.read_back for one in texts])
        asked = read_questions(job, questions.Tokenizer.of(engine.language))
        job.enter("loading the checkpoint")
        scored: list[Document | Question] = [*texts, *asked]
        lengths = [sum(map(len, part)) for one in scored for part in one.parts]
        lengths += [len(one.generation.prompt) + one.generation.new_tokens for one in asked if one.generation]
        engine.load(max(*lengths, *(len(row["tokens"]) + 1 for row in (reference.rows if reference else [])), 2), engine.scored_at_once)
        if job.facts.get("text_reason") is None:
            score_documents(job, engine, texts)
        away = compare(job, engine, reference.rows if reference else [])
        hold(job, reference, away)
        # A technique that passed `hold` is no further from the unmodified model than rounding explains, and would give the same answers.
        job.facts["answers_of_baseline"] = bool(job.specification.get("may_take_over") and job.facts.get("kl_allowed") is not None)
        if not job.facts["answers_of_baseline"]:
            answer(job, engine, asked)
    job.facts |= {
        "checkpoint_sha256": job.checkpoint_facts["checkpoint_sha256"],
        "text": settings["text"],
        "text_sha256": corpus.fingerprint([text for _, text in documents]),
    }
    return headline(job)


@dataclass(frozen=True)
class Document:
    """A held-out text, as the parts (context, continuation) in which it is scored."""

    name: str
    text: str
    parts: list[tuple[list[int], list[int]]]
    # The text that its tokens decode to.
    read_back: str


def document(engine: Engine, name: str, text: str) -> Document:
    tokens = engine.language.tokenize(text)
    return Document(name, text, windows(tokens, engine.language.prefix(), engine.language.window()), engine.language.read_back(tokens))


@dataclass(frozen=True)
class Question:
    """A request of a task: its row of schema.REQUESTS, and what it is to an engine: parts to score, or a text to write."""

    row: Mapping
    parts: list[tuple[list[int], list[int]]]
    generation: questions.Generation | None = None


def read_questions(job: stage.Job[Evaluate], tokenizer: questions.Tokenizer) -> list[Question]:
    """What the tasks ask, in tokens; a task that this model cannot be asked is left out, with the reason among the facts."""
    if not job.specification["requests"]:
        return []
    rows = [row for row in records.read(job.specification["requests"], REQUESTS).rows if row["status"] == "ok"]
    asked: list[Question] = []
    refused: dict[str, str] = {}
    for row in rows:
        try:
            asked.append(question(row, tokenizer))
        except Unsupported as error:
            refused.setdefault(row["task"], str(error))
    job.facts["not_answered"] = json.dumps(refused, ensure_ascii=False)
    return [one for one in asked if one.row["task"] not in refused]


def question(row: Mapping, tokenizer: questions.Tokenizer) -> Question:
    """A row of schema.REQUESTS in tokens. Raises outcomes.Unsupported where the model has no room for it."""
    if row["kind"] == "generate_until":
        return Question(row, [], questions.generation(row["context"], row["settings"], tokenizer))
    if row["kind"] == "loglikelihood_rolling":
        if reason := fidelity.why_lost([row["continuation"]], [tokenizer.read_back(row["continuation"])]):
            raise Unsupported(reason)
        return Question(row, questions.rolling(row["continuation"], tokenizer))
    return Question(row, [questions.pair(row["context"], row["continuation"], tokenizer)])


def score_documents(job: stage.Job[Evaluate], engine: Engine, texts: Sequence[Document]) -> None:
    job.enter("scoring text")
    clock = meters.Stopwatch(job.device)
    scores = iter(engine.loglikelihoods([part for document in texts for part in document.parts]))
    job.facts["seconds"] = clock.seconds()
    for document in texts:
        parts = [part for _ in document.parts for part in stretches(next(scores).logarithms)]
        nats, tokens = [-sum(part) for part in parts], [len(part) for part in parts]
        row = {"kind": "document", "document": document.name, "bytes": len(document.text.encode())}
        job.keep({**row, "tokens": sum(tokens), "nats": sum(nats), "window_nats": nats, "window_tokens": tokens})


def answer(job: stage.Job[Evaluate], engine: Engine, asked: Sequence[Question]) -> None:
    if not asked:
        return
    job.enter("answering the requests of tasks")
    clock, said = meters.Stopwatch(job.device), 0.0
    for start in range(0, len(asked), AT_ONCE):
        some = asked[start : start + AT_ONCE]
        parts = [part for one in some for part in one.parts]
        scores = iter(engine.loglikelihoods(parts) if parts else [])
        for one in some:
            row = {"kind": "request", **{name: one.row[name] for name in ("task", "item", "request")}}
            job.keep({**row, **(write(engine, one.generation, job.specification["seed"]) if one.generation else likelihood(one, scores))})
        done, seconds = start + len(some), clock.seconds()
        if seconds - said > 10:
            say(f"{job.name}: {done:,} of {len(asked):,} requests, {done / seconds:,.1f} a second")
            said = seconds
    job.facts |= {"answering_s": seconds, "request_rate": len(asked) / seconds}


def likelihood(one: Question, scores) -> dict:
    found = [next(scores) for _ in one.parts]
    return {
        "tokens": sum(len(continuation) for _, continuation in one.parts),
        "nats": -sum(sum(each.logarithms) for each in found),
        "greedy": all(each.greedy for each in found),
    }


def write(engine: Engine, asked: questions.Generation, seed: int) -> dict:
    """The engine's own `generate`, up to the model's end token; the text is cut at the first stop string (`until`) afterwards."""
    settings = {"max_new_tokens": asked.new_tokens, "batch_size": 1, "ignore_eos": False, "sampling": asked.sampling}
    (tokens,) = engine.generate(asked.prompt, settings, seed).token_ids
    ends = engine.language.end_tokens()
    text = engine.language.decode(tokens[:-1] if tokens and tokens[-1] in ends else tokens)
    return {"tokens": len(tokens), "answer": questions.cut(text, asked.until)}


def read_reference(job: stage.Job[Evaluate]) -> records.Record | None:
    """The reference; None, with the reason among the facts, where there is none."""
    if not job.specification["reference"]:
        job.facts["distance_reason"] = "not asked for"
        return None
    record = records.read(job.specification["reference"], REFERENCE)
    if record.status not in MEASURED:
        job.facts["distance_reason"] = f"the unmodified model has no figures: {record.reason}"
        return None
    return record


def compare(job: stage.Job[Evaluate], engine: Engine, reference: Sequence[Mapping]) -> list[Distance]:
    """How far the engine is from the reference, in each of its sequences."""
    if not reference:
        return []
    job.enter("comparing with the unmodified model")
    clock = meters.Stopwatch(job.device)
    count = max(row["count"] for row in reference)
    try:
        found = engine.next_tokens([row["tokens"] for row in reference], count)
    except Unsupported as failure:
        job.facts["distance_reason"] = str(failure)
        return []
    distances = []
    for row, likeliest in zip(reference, found, strict=True):
        own = [
            [row[name][start : start + row["count"]] for start in range(0, len(row[name]), row["count"])]
            for name in ("likeliest", "logarithms")
        ]
        away = distance((own[0], own[1]), likeliest)
        distances.append(away)
        told = {"kind": "sequence", "document": row["document"], "tokens": len(row["tokens"]), "divergence": away.divergence}
        job.keep({**told, "agrees": list(map(int, away.agrees)), "covered": sum(away.covered) / len(away.covered)})
    job.facts["distance_s"] = clock.seconds()
    return distances


def hold(job: stage.Job[Evaluate], reference: records.Record | None, distances: Sequence[Distance]) -> None:
    """Check a technique that is said to keep the model's arithmetic. Raises WrongResult where it is further from the unmodified model than
    rounding explains: its figures, speed included, would be those of another model."""
    if reference is None or not distances or not job.specification.get("lossless"):
        return
    dtype, its = job.specification["options"]["dtype"], json.loads(reference.facts["job"])["options"]["dtype"]
    job.facts["kl_allowed"] = allowed = most(reference.facts.get("rounding")) if dtype in (its, "float32") else None
    if allowed is not None and (away := mean(distances)) > allowed:
        raise WrongResult(
            f"computes another model: its KL divergence from the unmodified one is {away:.2g} nat, and rounding in {its} explains"
            f" {allowed:.2g} ({TIMES} times what one more rounding of each layer's output does)"
        )


def headline(job: stage.Job[Evaluate]) -> str:
    documents, sequences = ([row for row in job.rows if row["kind"] == kind] for kind in ("document", "sequence"))
    scored = sum(row["bytes"] for row in documents)
    bits = f"{sum(row['nats'] for row in documents) / log(2) / scored:.4f} bits per byte over {scored:,} bytes" if scored else ""
    said = [bits or f"no bits per byte: {job.facts['text_reason']}"]
    if job.facts.get("answers_of_baseline"):
        said.append("tasks not asked again, being the baseline's model")
    if "request_rate" in job.facts:
        said.append(f"{sum(row['kind'] == 'request' for row in job.rows):,} requests, {job.facts['request_rate']:,.1f} a second")
    if sequences:
        away = [one for row in sequences for one in row["divergence"]]
        said.append(f"KL divergence {sum(away) / len(away):.2g} nat over {len(away):,} positions")
    return "; ".join(said)


if __name__ == "__main__":
    stage.run("evaluate", evaluate)
