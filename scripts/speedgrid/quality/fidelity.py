"""Whether tokens say all that a text says: where decoding does not give it back, surprise per byte means nothing. Pure.

A tokenizer may turn what it does not know into one token for `unknown`, drop white space, or write all in lower case. The model is then
asked about a shorter text, and its surprise is divided by the bytes of the longer one.
"""

from collections import Counter
from collections.abc import Sequence


def why_lost(texts: Sequence[str], read_back: Sequence[str]) -> str | None:
    """Why there are no bits per byte of `texts`, given what their tokens decode to; None where that is the same.

    A space at the very beginning does not count: some tokenizers add one there, and take it away again.
    """
    differing = [(text, other) for text, other in zip(texts, read_back, strict=True) if text.removeprefix(" ") != other.removeprefix(" ")]
    if not differing:
        return None
    size = sum(len(text.encode()) for text in texts)
    lost = sum(bytes_lost(text, other) for text, other in differing)
    what = f"loses at least {lost:,} of the text's {size:,} bytes" if lost else "changes the order of the text's characters"
    return f"the tokenizer {what} (decoding its tokens gives another text), so that bits per byte would say little of the model"


def bytes_lost(text: str, read_back: str) -> int:
    """The bytes of the characters that a text has and the other lacks, whatever their order: at least so many were lost."""
    return sum(len(character.encode()) * count for character, count in (Counter(text) - Counter(read_back)).items())
