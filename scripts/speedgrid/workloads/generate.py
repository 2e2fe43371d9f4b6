"""Text generation: replies to one fixed prompt, each timed alone."""

import random
from collections.abc import Mapping, Sequence

from speedgrid import ceilings
from speedgrid.engines.base import Engine, Proof, Reply
from speedgrid.specification import Settings
from speedgrid.workloads import base, causality

# Where replies ended early, a speed is ranked from this many decoding steps a reply on, on average.
FEWEST_STEPS = 4


class Work(base.Work[Reply]):
    unit, counts, noun = "token", "new_tokens", "reply"
    looks_at = "looking whether the model is causal"
    engine: Engine

    def open(self) -> None:
        self.engine.open()
        self.prompt = prompt_of(self.engine, self.settings, self.seed)

    def facts(self) -> dict:
        engine = self.engine
        return ceilings.measured_facts(engine.checkpoint, engine.config.to_json_string(use_diff=False), engine.options["dtype"])

    def load(self) -> None:
        self.engine.load(self._room(), self.settings["batch_size"])

    def seed_of(self, number: int) -> int:
        """Replies differ, and a run can be repeated."""
        return self.seed + number

    def run(self, number: int = 0) -> Reply:
        return self.engine.generate(self.prompt, self.settings, self.seed_of(number))

    def seconds(self, reply: Reply) -> float:
        return reply.reply_s

    def columns(self, reply: Reply) -> dict:
        return {
            "prompt_tokens": len(self.prompt),
            "new_tokens": reply.new_tokens,
            "steps": len(reply.token_s),
            "ttft_s": reply.ttft_s,
            "token_s": reply.token_s,
            "token_ids": reply.token_ids,
            "text": [self.engine.language.decode(tokens) for tokens in reply.token_ids],
        }

    def point_columns(self, held: int) -> dict:
        """None: the facts of the cell say it."""
        return {}

    def check_numbers(self, rows: Sequence[Mapping]) -> None:
        self.engine.check_numbers([*self.prompt, *rows[-1]["token_ids"][0]])

    def ended_early(self, rows: Sequence[Mapping]) -> str:
        return ended_early(rows, self.settings)

    def look(self) -> None:
        causality.check(self.engine, self._room())

    def prove(self) -> Proof:
        return self.engine.prove(self.prompt, self.settings)

    def _room(self) -> int:
        """Tokens of the longest sequence that a reply can become."""
        return len(self.prompt) + self.settings["max_new_tokens"]


def prompt_of(engine: Engine, settings: Settings, seed: int) -> list[int]:
    """Tokens of the experiment's prompt, or as many random ones as it asks for, the same for every technique of a model."""
    if "prompt" in settings:
        return engine.language.tokenize(settings["prompt"])
    draw = random.Random(seed)
    return [draw.randrange(engine.language.vocabulary()) for _ in range(settings["prompt_tokens"])]


def ended_early(replies: Sequence[Mapping], settings: Settings) -> str:
    """Why replies, rows of schema.MEASURE, are too short to give a speed; empty where they are not. Replies may end early, but a speed from
    a handful of decoding steps is mostly that of prefill and of what a reply costs once."""
    steps = sum(reply["steps"] for reply in replies) / len(replies)
    if steps == settings["max_new_tokens"] or steps - 1 >= FEWEST_STEPS:
        return ""
    return (
        f"the replies ended after {steps:.3g} of {settings['max_new_tokens']} tokens on average, at an end token, and fewer than"
        f" {FEWEST_STEPS} decoding steps are too few to time; give another prompt, or `ignore_eos: true`"
    )
