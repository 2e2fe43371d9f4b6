"""Requests of lm-evaluation-harness as an engine takes them: text to tokens exactly as its own model class for transformers does it.

These are the rules of `lm_eval.api.model.TemplateLM` and `lm_eval.models.huggingface.HFLM`, version 0.4.13, for causal models.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from speedgrid.engines.language import Language
from speedgrid.outcomes import Unsupported
from speedgrid.workloads.score import windows

# What lm-eval lets a model write where a task does not say.
MOST_NEW_TOKENS = 256


@dataclass(frozen=True)
class Tokenizer:
    """What is needed to tokenize as lm-eval does: `encode` takes a text and whether to add special tokens (None: as the tokenizer does by
    itself); `prefix` begins a text, and `prefix_text` is the same as text; `context` is the most tokens that the model takes."""

    encode: Callable[[str, bool | None], list[int]]
    prefix: int
    prefix_text: str
    context: int
    decode: Callable[[Sequence[int]], str] = str

    @classmethod
    def of(cls, language: Language) -> "Tokenizer":
        """Of a model's own tokenizer."""

        def encode(text: str, special: bool | None) -> list[int]:
            more = {} if special is None else {"add_special_tokens": special}
            return language.tokenizer(text, verbose=False, **more)["input_ids"]

        prefix = language.prefix()
        return cls(encode, prefix, language.decode([prefix]), language.window(), language.read_back)

    def read_back(self, text: str) -> str:
        """What the tokens of a text say."""
        return self.decode(self.encode(text, False))

    def __call__(self, text: str, special: bool | None = None) -> list[int]:
        if special is None and text.startswith(self.prefix_text):
            special = False
        return self.encode(text, special)


def pair(context: str, continuation: str, tokenizer: Tokenizer) -> tuple[list[int], list[int]]:
    """Tokens of a context and of its continuation, the context cut on the left where both together are too long.

    Spaces at the end of the context go to the continuation, as they begin its first token. Raises outcomes.Unsupported where there is
    nothing to score, or where the continuation alone is too long.
    """
    if context:
        spaces = len(context) - len(context.rstrip())
        if spaces:
            context, continuation = context[:-spaces], context[-spaces:] + continuation
        # A context of nothing but spaces: lm-eval's, too, is then without tokens, or the tokenizer's own special ones.
        before = tokenizer(context)
        following = tokenizer(context + continuation)[len(before) :]
    else:
        before, following = [tokenizer.prefix], tokenizer(continuation, False)
        if following[:1] == before:
            before, following = following[:1], following[1:]
    if not before or not following:
        raise Unsupported("a request of the task has no token before, or none after, the place from which it is scored")
    if len(following) > tokenizer.context:
        raise Unsupported(f"a continuation has {len(following)} tokens, and the model takes {tokenizer.context}")
    whole = [*before, *following][-(tokenizer.context + 1) :]
    return whole[: len(whole) - len(following)], following


def rolling(text: str, tokenizer: Tokenizer) -> list[tuple[list[int], list[int]]]:
    """The windows in which a whole text is scored."""
    return windows(tokenizer(text), tokenizer.prefix, tokenizer.context)


@dataclass(frozen=True)
class Generation:
    """A text to write: tokens of the prompt, the most new tokens, the texts that end it, and the settings of sampling."""

    prompt: list[int]
    new_tokens: int
    until: tuple[str, ...]
    sampling: Mapping


def generation(context: str, settings: str, tokenizer: Tokenizer) -> Generation:
    """What a request of `generate_until` asks for; `settings` is the JSON of its generation_kwargs.

    Raises outcomes.Unsupported where the model has no room for a prompt beside what is to be written.
    """
    told = json.loads(settings)
    until = told.get("until") or []
    new_tokens = next((int(told[name]) for name in ("max_gen_toks", "max_new_tokens") if told.get(name)), MOST_NEW_TOKENS)
    room = tokenizer.context - new_tokens
    if room < 1:
        raise Unsupported(f"the task asks for up to {new_tokens} new tokens, and the model takes {tokenizer.context} in all")
    samples = bool(told.get("do_sample")) and float(told.get("temperature", 1)) > 0
    sampling = {"do_sample": samples, "temperature": float(told.get("temperature") or 1), "top_p": float(told.get("top_p", 1))}
    sampling |= {"top_k": int(told.get("top_k", 0)), "repetition_penalty": float(told.get("repetition_penalty", 1))}
    return Generation(tokenizer(context)[-room:], new_tokens, (until,) if isinstance(until, str) else tuple(until), sampling)


def cut(text: str, until: Sequence[str]) -> str:
    """`text` up to the first of the texts that end it."""
    return min((text.partition(end)[0] for end in until if end), key=len, default=text)
