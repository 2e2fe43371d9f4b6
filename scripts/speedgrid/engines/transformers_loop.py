"""A model of transformers in a decoding loop of our own, without `generate`.

One decoding step, from the last token to the next one picked, is compiled as one graph over a static KV cache, and replayed as a CUDA graph
on a GPU. Tokens are picked on the device and copied to the host without waiting, so Python runs ahead of the device. It is the loop of
gpt-fast (https://github.com/meta-pytorch/gpt-fast) around a model of transformers.
"""

import time
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from speedgrid.engines import base, transformers
from speedgrid.outcomes import Unsupported

# Steps that a GPU may be ahead of the tokens that are looked at for an end token; enough that it never waits for Python.
AHEAD = 2


class Engine(transformers.Engine):
    """The cache is always static, and the step always compiled."""

    OPTIONS: ClassVar = {"attention": None, "dtype": None, "sdpa_kernel": None, "compile": ("loop",), "compile_mode": None}

    @classmethod
    def problem(cls, options: Mapping, batch_size: int) -> str:
        if "compile" not in options:
            return "needs `compile: loop`, which is what this engine does"
        return base.attention_problem(options)

    def load(self, room: int, batch_size: int = 1) -> None:
        import torch

        super().load(room, batch_size)
        if not getattr(self.model, "_can_compile_fullgraph", False):
            raise Unsupported(f"transformers cannot compile a {self.config.model_type} as one graph with a static KV cache")
        self.room = room
        self.batch: int | None = None
        self.cache: Any = None
        self.seen: Any = None
        # A graph that cannot be whole is an error: a step in parts would be timed as something else.
        self.step = torch.compile(self._step, mode=self.options.get("compile_mode", "reduce-overhead"), fullgraph=True)

    def generate(self, prompt: Sequence[int], settings: Mapping, seed: int) -> base.Reply:
        import torch

        self._start_over(settings["batch_size"])
        ids = torch.tensor([list(prompt)] * settings["batch_size"], device=self.device.kind)
        ends = [] if settings["ignore_eos"] else self.language.end_tokens()
        sampling, steps = settings["sampling"], settings["max_new_tokens"]
        torch.manual_seed(seed)
        self.device.synchronize()
        tokens = Tokens(steps, settings["batch_size"], ends, self.device.is_gpu)
        with torch.no_grad(), self._attention_kernels():
            with self._unfit_refused():
                token = self._first_token(ids, sampling)
            tokens.put(token)
            while not tokens.ended():
                torch.compiler.cudagraph_mark_step_begin()
                # What a CUDA graph gives out is overwritten by its next replay.
                token = self.step(token, sampling).clone()
                tokens.put(token)
        self.compilation.look()
        rows = [transformers.until_end(row, ends) for row in tokens.rows()]
        return base.Reply(rows, tokens.token_s[: max(map(len, rows))], tokens.reply_s)

    def prove(self, prompt: Sequence[int], settings: Mapping) -> base.Proof:
        proof = super().prove(prompt, settings)
        launches, steps = proof.evidence.get("cuda_graph_launches"), settings["max_new_tokens"] - 1
        if proof.engaged and settings["ignore_eos"] and launches is not None and launches < steps and self._asks_for_graphs():
            return base.Proof(False, f"{launches} CUDA graphs were replayed in {steps} steps", proof.evidence)
        return proof

    def _asks_for_graphs(self) -> bool:
        return self.options.get("compile_mode", "reduce-overhead") in ("reduce-overhead", "max-autotune")

    def _start_over(self, batch: int) -> None:
        """An empty cache at the addresses that the compiled step knows; new ones for another number of sequences."""
        import torch
        from transformers import StaticCache

        if batch == self.batch:
            self.cache.reset()
            self.seen.zero_()
            return
        self.batch = batch
        self.cache = StaticCache(config=self.model.config, max_cache_len=self.room)
        self.seen = torch.zeros((batch, self.language.text_config.vocab_size), dtype=torch.bool, device=self.device.kind)
        torch._dynamo.mark_static_address(self.seen)

    def _first_token(self, ids, sampling: Mapping):
        """The pass over the prompt, uncompiled as in `generate`, with the token that follows."""
        self.seen.scatter_(1, ids, True)
        last = {"logits_to_keep": 1} if self.model._supports_logits_to_keep() else {}
        logits = self.model(input_ids=ids, past_key_values=self.cache, use_cache=True, **last).logits
        return pick(logits[:, -1], self.seen, sampling)

    def _step(self, token, sampling: Mapping):
        """The token (sequences, 1) that follows `token`."""
        logits = self.model(input_ids=token, past_key_values=self.cache, use_cache=True).logits
        return pick(logits[:, -1], self.seen, sampling)


class Tokens:
    """The tokens of a reply as they reach the host, with the seconds since the reply's start at which each was there.

    On a GPU each step's tokens are copied behind the step, and an event of CUDA marks when; nobody waits for it but `ended`, which looks
    at tokens some steps back, and at the end.
    """

    def __init__(self, steps: int, batch: int, ends: Sequence[int], on_gpu: bool):
        import torch

        self.steps, self.ends, self.on_gpu = steps, ends, on_gpu
        self.host = torch.empty((steps, batch), dtype=torch.long, pin_memory=on_gpu)
        self.put_so_far, self.looked_at = 0, 0
        self.going_on = set(range(batch))
        self.marks: list = []
        self.token_s: list[float] = []
        self.started = time.perf_counter()
        self.start = self._mark()

    def put(self, token) -> None:
        """Take the next token of each sequence, a tensor (sequences, 1) on the device."""
        self.host[self.put_so_far].copy_(token[:, 0], non_blocking=True)
        self.put_so_far += 1
        self.marks.append(self._mark())

    def ended(self) -> bool:
        """Whether the reply is over: it has all its steps, or each sequence has come to an end token."""
        full = self.put_so_far == self.steps
        if full or self.ends:
            self._look_at(self.put_so_far if full else self.put_so_far - AHEAD * self.on_gpu)
        return full or not self.going_on

    def rows(self) -> list[list[int]]:
        """The tokens of each sequence, up to the step at which all had ended."""
        return self.host[: self.looked_at].T.tolist()

    def _look_at(self, count: int) -> None:
        while self.looked_at < count and self.going_on:
            self.token_s.append(self._seconds(self.marks[self.looked_at]))
            ended = [i for i in self.going_on if int(self.host[self.looked_at, i]) in self.ends]
            self.going_on.difference_update(ended)
            self.looked_at += 1
        self.reply_s = time.perf_counter() - self.started

    def _mark(self):
        if not self.on_gpu:
            return time.perf_counter()
        import torch

        mark = torch.cuda.Event(enable_timing=True)
        mark.record()
        return mark

    def _seconds(self, mark) -> float:
        if not self.on_gpu:
            return mark - self.start
        mark.synchronize()
        return self.start.elapsed_time(mark) / 1e3


def pick(logits, seen, sampling: Mapping):
    """The next token of each sequence, (sequences, 1), from its logits (sequences, vocabulary), by the rules of transformers and in their
    order: repetition penalty, temperature, top k, top p. `seen` (sequences, vocabulary) are the tokens that there were; the new one is
    added.

    The draw is that of gpt-fast, which needs no wait for the device: probabilities over exponential noise, the largest wins. It is how
    `torch.multinomial` draws a single token, too.
    """
    import torch

    logits = logits.float()
    penalty = sampling.get("repetition_penalty", 1.0)
    if penalty != 1.0:
        logits = torch.where(seen, torch.where(logits < 0, logits * penalty, logits / penalty), logits)
    if sampling["do_sample"]:
        logits = logits / sampling.get("temperature", 1.0)
        if top_k := sampling.get("top_k"):
            least = logits.topk(min(top_k, logits.shape[-1])).values[:, -1:]
            logits = logits.masked_fill(logits < least, -torch.inf)
        if (top_p := sampling.get("top_p", 1.0)) < 1.0:
            ordered, order = logits.sort(descending=False)
            unlikely = ordered.softmax(-1).cumsum(-1) <= 1 - top_p
            unlikely[:, -1] = False
            logits = logits.masked_fill(unlikely.scatter(1, order, unlikely), -torch.inf)
        probabilities = logits.softmax(-1)
        token = (probabilities / torch.empty_like(probabilities).exponential_(1)).argmax(-1, keepdim=True)
    else:
        token = logits.argmax(-1, keepdim=True)
    seen.scatter_(1, token, True)
    return token
