"""Where tokens do not say all that a text says, there are no bits per byte."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from speedgrid.quality import fidelity

TEXT = "def add(a, b):\n    return a + b\n"


@given(st.lists(st.text(st.characters(codec="utf-8")), max_size=4))
def test_a_text_that_comes_back_is_whole_and_so_is_one_with_a_space_before_it(texts):
    assert fidelity.why_lost(texts, texts) is None
    assert fidelity.why_lost(texts, [" " + text.removeprefix(" ") for text in texts]) is None


@pytest.mark.parametrize(
    ("name", "lose", "lost"),
    [
        ("white space", lambda text: "".join(text.split()), 11),
        ("lower case", lambda text: text.upper(), 16),
        ("unknown", lambda text: text.replace("\n", "<unk>").replace("+", "<unk>"), 3),
        ("one character of three bytes", lambda text: text.replace("€", ""), 3),
    ],
)
def test_bytes_that_are_lost_are_counted(name, lose, lost):
    text = TEXT + "€" * (name[0] == "o")
    reason = fidelity.why_lost(["fine", text], ["fine", lose(text)])
    assert f"loses at least {lost} of the text's {len(text.encode()) + 4} bytes" in reason


@given(text=st.text(st.characters(codec="utf-8"), min_size=1), place=st.integers(0), what=st.characters(codec="utf-8"))
def test_no_change_goes_unseen(text, place, what):
    changed = text[: place % len(text)] + what + text[place % len(text) :]
    same = changed.removeprefix(" ") == text.removeprefix(" ")
    assert (fidelity.why_lost([text], [changed]) is None) == same
    assert (fidelity.why_lost([changed], [text]) is None) == same


def test_what_comes_back_in_another_order_is_another_text():
    assert "changes the order" in fidelity.why_lost(["ab"], ["ba"])
