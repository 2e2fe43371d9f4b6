"""The language of the page: its own texts are written in English and looked up in the catalogue of the language that is spoken.

A catalogue is one file, report/languages/CODE.yaml: `numbers` says how large numbers are put into words, `texts` has a translation for each
English text, whole sentences with `{}` for what is put in; a translation may number its places (`{1} … {0}`), where its words come in
another order. What comes from outside (names, reasons that a job wrote) stays as it is. Pure but for which language is spoken, which is a
matter of the context, as with gettext: `with spoken(catalogue):`.
"""

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, field

from markupsafe import Markup

from speedgrid import standing

ENGLISH_NUMBERS = ((1e12, "{} trillion"), (1e9, "{} billion"), (1e6, "{} million"))


@dataclass(frozen=True)
class Catalogue:
    """A language by its code (BCP 47): how numbers are put into words from a size on, the largest first; its texts by the English ones."""

    code: str = "en"
    numbers: Sequence[tuple[float, str]] = ENGLISH_NUMBERS
    texts: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, code: str, document: Mapping) -> "Catalogue":
        """A catalogue from its file's content."""
        return cls(code, tuple((float(size), words) for size, words in document["numbers"].items()), document["texts"])


ENGLISH = Catalogue()
_SPOKEN: ContextVar[Catalogue] = ContextVar("spoken", default=ENGLISH)


@contextlib.contextmanager
def spoken(catalogue: Catalogue) -> Iterator[None]:
    """Texts that are looked up inside are in this language."""
    token = _SPOKEN.set(catalogue)
    try:
        yield
    finally:
        _SPOKEN.reset(token)


def now() -> Catalogue:
    """The language that is spoken."""
    return _SPOKEN.get()


def tr(text: str) -> str:
    """A text of the page in the language that is spoken; English where that has none."""
    return _SPOKEN.get().texts.get(text, text)


def told_reason(reason: str) -> str:
    """Why there is no figure: what the report says itself is translated, and what a job wrote stays as it is."""
    return told_anew(reason, standing.REASONS)


def told_anew(said: str, texts: Sequence[str]) -> str:
    """What was made of one of these texts, in the language that is spoken; as it is where it was made of none."""
    found = standing.taken_apart(said, texts)
    return tr(found[0]).format(*found[1]) if found else said


def tr_html(text: str, **values: object) -> Markup:
    """The same as HTML: what is put in for its names is escaped, the text itself may have tags."""
    found = Markup(tr(text))
    return found.format(**values) if values else found
