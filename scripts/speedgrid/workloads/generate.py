"""Text generation: replies to one fixed prompt, each timed alone."""

import itertools
import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median

from speedgrid.engines.base import Engine, Reply
from speedgrid.meters import DeviceTimer
from speedgrid.stage import Job
from speedgrid.stats import Precision, stop

# Decoding steps of a reply, on average, from which its speed is ranked where replies ended early.
FEWEST_STEPS = 4


def prompt_of(engine: Engine, settings: Mapping, seed: int) -> list[int]:
    """Tokens of the experiment's prompt, or as many random ones as it asks for, the same for every technique of a model."""
    if "prompt" in settings:
        return engine.tokenize(settings["prompt"])
    draw = random.Random(seed)
    return [draw.randrange(engine.vocabulary()) for _ in range(settings["prompt_tokens"])]


def room_for(prompt: list[int], settings: Mapping) -> int:
    """Tokens of the longest sequence that a reply can become."""
    return len(prompt) + settings["max_new_tokens"]


def loaded(job: Job, engine: Engine) -> Iterator[float]:
    """Load the checkpoint, and return the seconds of one reply after another."""
    settings, seed = job.told["settings"], job.told["seed"]
    engine.open()
    prompt = prompt_of(engine, settings, seed)
    engine.load(room_for(prompt, settings), settings["batch_size"])
    return (engine.generate(prompt, settings, seed).reply_s for _ in itertools.count())


def check_causal(engine: Engine, settings: Mapping, seed: int) -> None:
    """Raise outcomes.Unsupported where a model that was loaded for replies sees later tokens."""
    from speedgrid.workloads import causality

    causality.check(engine, room_for(prompt_of(engine, settings, seed), settings))


def warm_up(engine: Engine, prompt: list[int], settings: Mapping, seed: int) -> list[Reply]:
    """The replies before the counted ones: the first pays for compilation and caches."""
    return [engine.generate(prompt, settings, seed) for _ in range(settings["warmup_replies"])]


def precision(replies: int | str | Mapping) -> Precision | None:
    """The rule by which `replies` of a study are enough; None where it is a number."""
    if isinstance(replies, int):
        return None
    return Precision() if replies == "auto" else Precision(**replies)


def most_replies(settings: Mapping) -> int:
    """How many counted replies there can be."""
    rule = precision(settings["replies"])
    return rule.at_most if rule else settings["replies"]


def ended_early(replies: Sequence[Mapping], settings: Mapping) -> str:
    """Why replies, rows of schema.MEASURE, have no speed worth the name; empty where they do. They may end before all that they were asked
    for, but a rate that a handful of decoding steps gave is that of prefill and of whatever happens once a reply."""
    steps = sum(reply["steps"] for reply in replies) / len(replies)
    if steps == settings["max_new_tokens"] or steps - 1 >= FEWEST_STEPS:
        return ""
    return (
        f"the replies ended after {steps:.3g} of {settings['max_new_tokens']} tokens on average, at an end token, and fewer than"
        f" {FEWEST_STEPS} decoding steps are too few to time; give another prompt, or `ignore_eos: true`"
    )


def typical_speed(rows: Sequence[Mapping], counts: str) -> float:
    """The speed of a run, a second, from the column that its replies are counted in: their median, as the page has it (stats.Run).

    Not by stats.run, on which what was measured would then depend: an edit of it would have everything measured again.
    """
    return median(row[counts] / row["reply_s"] for row in rows)


def counted(engine: Engine, prompt: list[int], settings: Mapping, seed: int, keep: Callable[[dict], None]) -> str:
    """Give `keep` one row of schema.MEASURE for every counted reply, as soon as it is there; return why they ended (stats.stop).

    Reply i is sampled with seed + i, so that replies differ and a run can be repeated. Replies to a number are that many: `exact`.
    """
    began, rule, rates = time.perf_counter(), precision(settings["replies"]), []
    timer = DeviceTimer(engine.device, engine.uses_torch)
    stopped = ""
    while not stopped:
        number = len(rates) + 1
        started = time.perf_counter() - began
        timer.start()
        reply = engine.generate(prompt, settings, seed + number)
        device_s = timer.seconds()
        rates.append(reply.new_tokens / reply.reply_s)
        keep(
            {
                "reply": number,
                "seed": seed + number,
                "started_s": started,
                "prompt_tokens": len(prompt),
                "batch_size": settings["batch_size"],
                "new_tokens": reply.new_tokens,
                "steps": len(reply.token_s),
                "reply_s": reply.reply_s,
                "device_s": device_s,
                "ttft_s": reply.ttft_s,
                "token_s": reply.token_s,
                "token_ids": reply.token_ids,
                "text": [engine.decode(tokens) for tokens in reply.token_ids],
            }
        )
        stopped = stop(rates, rule) if rule else "exact" if number == settings["replies"] else ""
    return stopped
