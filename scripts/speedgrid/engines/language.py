"""A model's tokenizer and the lengths that it takes: what is known of a language model before its weights are loaded."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from speedgrid import rotary
from speedgrid.outcomes import Unsupported


@dataclass(frozen=True)
class Language:
    """The tokenizer and the configuration of transformers that lie beside the weights of a checkpoint."""

    checkpoint: Path
    config: Any
    tokenizer: Any

    @property
    def text_config(self) -> Any:
        """The configuration of the language model, in a model of several parts too."""
        return getattr(self.config, "text_config", None) or self.config

    def tokenize(self, text: str) -> list[int]:
        """Tokens of `text`, without special tokens. Raises outcomes.Unsupported for one that the model has no embedding of, and where there
        are none."""
        tokens = self.tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"]
        if not tokens and text:
            raise Unsupported("the tokenizer of the checkpoint makes no token of the text")
        self.check_tokens(tokens)
        return tokens

    def check_tokens(self, token_ids: Sequence[int]) -> None:
        """Raise outcomes.Unsupported for a token that the model has no embedding of: one that was added to the tokenizer alone."""
        known = self.text_config.vocab_size
        if (largest := max(token_ids, default=0)) >= known:
            raise Unsupported(
                f"the tokenizer makes token {largest} ({self.decode([largest])!r}) of the text, and the model has embeddings of {known:,}"
                " tokens: tokens were added to the tokenizer and the model was not resized"
            )

    def decode(self, token_ids: Sequence[int]) -> str:
        """Text of tokens, special tokens left in."""
        return self.tokenizer.decode(list(token_ids), skip_special_tokens=False)

    def read_back(self, token_ids: Sequence[int]) -> str:
        """The text that tokens of `tokenize` stand for, nothing tidied up: the text itself, unless the tokenizer lost some of it."""
        return self.tokenizer.decode(list(token_ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def vocabulary(self) -> int:
        """Number of tokens that a synthetic prompt may draw from."""
        return self.text_config.vocab_size

    def prefix(self) -> int:
        """The token that begins a text: the tokenizer's beginning-of-text token, else its end-of-text token."""
        bos, eos = self.tokenizer.bos_token_id, self.tokenizer.eos_token_id
        return bos if bos is not None else eos if eos is not None else 0

    def context(self) -> int:
        """Longest sequence that the model takes, in tokens."""
        return self.positions() or 2048

    def refuse_room(self, room: int) -> None:
        """Raise outcomes.Unsupported where a model was not made for `room` tokens, of which the last one is never fed to it.

        A table of positions ends there. Rotary embeddings go on, to angles that the model never saw, so that what it writes is no text of
        its; those that are stretched, or change with the length, are made to (rotary.limit).
        """
        known, needed = rotary.limit(self.text_config.to_dict(), self.positions()), room - 1
        if known and needed > known:
            kind = self.config.model_type
            raise Unsupported(f"{kind} was made for {known:,} positions, and prompt and reply together need {needed:,}")

    def positions(self) -> int | None:
        """The positions that the model's configuration names; None where it names none."""
        return getattr(self.text_config, "max_position_embeddings", None)

    def window(self) -> int:
        """Tokens of the longest sequence that is scored.

        That is `context`; of a model whose rotary embeddings change with the length of what is computed, the length until which they are
        those of a short text. Beyond it padding, or the room that an engine was loaded for, would choose them, so that a score would depend
        on what else is scored.
        """
        unchanging = unchanging_length(self.text_config.to_dict())
        return self.context() if unchanging is None else max(1, min(self.context(), unchanging - 1))

    def end_tokens(self) -> list[int]:
        """The tokens that end a reply: those of the checkpoint's generation_config.json, else of its configuration or tokenizer."""
        path = self.checkpoint / "generation_config.json"
        told = json.loads(path.read_text()).get("eos_token_id") if path.is_file() else None
        for end in (told, getattr(self.text_config, "eos_token_id", None), self.tokenizer.eos_token_id):
            if end is not None:
                ends = end if isinstance(end, list) else [end]
                if not all(type(one) is int for one in ends):
                    raise Unsupported(f"the checkpoint names {end!r} as the token that ends a reply (`eos_token_id`), which is no number")
                return ends
        return []


def unchanging_length(config: Mapping) -> int | None:
    """The longest sequence for which a model's rotary embeddings are those of a short one, by its configuration; None where no length
    changes them. (LongRoPE has factors for texts within the original length and others beyond it; dynamic NTK grows its base.)"""
    changing = [rope for rope in rotary.ropes(config) if rotary.rope_type(rope) in rotary.CHANGING]
    lengths: list[Any] = [rotary.trained_with(config, rope) or config.get("max_position_embeddings") for rope in changing]
    return min(lengths, default=None)
