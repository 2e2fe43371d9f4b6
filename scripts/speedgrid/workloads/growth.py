"""Replies of growing length: how the time of a reply grows with its tokens, with a KV cache or without."""

from collections.abc import Sequence

from speedgrid.engines.base import Engine, Proof, Reply
from speedgrid.workloads import base, generate


class Work(base.Work[Reply]):
    unit, noun = "token", "reply"
    engine: Engine

    def open(self) -> None:
        self.engine.open()
        self.prompt = generate.prompt_of(self.engine, self.settings, self.seed)

    def load(self) -> None:
        self.engine.load(len(self.prompt) + self.settings["lengths"][-1], self.settings["batch_size"])

    def next_point(self, done: Sequence[tuple[int | None, bool]]) -> int | None:
        """The next longer reply; none after one that did not fit."""
        return base.next_length(self.settings["lengths"], done)

    def prepare(self, point: int | None) -> None:
        # All replies of a size are as long, whatever the model would say.
        self.asked = {**self.settings, "max_new_tokens": point, "ignore_eos": True}

    def run(self, number: int = 0) -> Reply:
        return self.engine.generate(self.prompt, self.asked, self.seed)

    def columns(self, reply: Reply) -> dict:
        return {"items": reply.new_tokens, "prompt_tokens": len(self.prompt), "steps": len(reply.token_s), "ttft_s": reply.ttft_s}

    def prove(self) -> Proof:
        return self.engine.prove(self.prompt, self.asked)
