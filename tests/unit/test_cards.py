"""What fits on which card."""

from dataclasses import replace

import new_study
import records_factory as made
from hypothesis import example, given
from hypothesis import strategies as st
from report_data import group_of, page_of
from speedgrid.known import CUDA_CONTEXT, usable
from speedgrid.report import cards
from speedgrid.report.advice import Ask, Option, advise

CELLS = [
    replace(made.DEFAULT_CELLS[0], peak=15 * 1024),
    made.Made("small", "Small", "quantization", peak=4 * 1024),
    made.Made("huge", "Huge", "precision", status="oom", reason="out of memory"),
    made.Made("missing", "Missing", status="missing_dependency", reason="no such package"),
]


def test_a_card_is_told_from_peak_reserve_and_what_cuda_takes(tmp_path):
    group = group_of(tmp_path, CELLS, machine=made.GPU_MACHINE)
    fits = cards.table(group, 24 * 2**30)
    assert fits.cards == ["4 GB", "6 GB", "8 GB", "12 GB", "16 GB", "24 GB"]
    assert fits.rows[0] == ("Small", "4.94", ["too large", "fits", "fits", "fits", "fits", "fits"])
    # 15 GiB and 0.6 of CUDA are more than the 14.9 that a card of 16 GB can use; with the allocator's reserve, 18.5 fit 24.
    assert fits.rows[1][2] == ["too large"] * 5 + ["fits"]
    assert fits.rows[2] == ("Huge", "ran out of memory on 25.8 GB", ["too large"] * 6)
    assert len(fits.rows) == 3


def test_what_ran_out_on_a_small_card_may_fit_a_larger_one():
    need = cards.Need("x", None, None, 8 * 2**30)
    assert [cards.says(need, size) for size in (6, 8, 12, 24)] == ["too large", "too large", "", ""]


def test_a_processor_says_nothing_of_cards(tmp_path):
    assert cards.table(group_of(tmp_path), None) is None


@given(st.floats(1e6, 3e11), st.floats(0, 1e11))
def test_a_larger_card_never_fits_worse(least, reserve):
    order = [cards.NOT, cards.TIGHT, cards.FITS]
    told = [order.index(cards.says(cards.Need("x", least, least + reserve), size)) for size in cards.SOLD]
    assert told == sorted(told)


@given(st.integers(10**8, 2 * 10**11), st.sampled_from(cards.SOLD))
@example(16_050_000_000, 16)
def test_the_guide_takes_a_technique_on_just_those_cards_that_it_fits(least, size):
    """With what the allocator holds in reserve given back."""
    option = Option("x", seconds=1.0, rate=1.0, start=1.0, needs=least, by_device=False, joule=None, loss=0.0)
    chosen = advise([option], Ask(budget=usable(size))).choice
    assert (chosen is not None) == (cards.says(cards.Need("x", least, 2 * least), size) != cards.NOT)


def test_the_page_shows_it(tmp_path):
    html = page_of(made.write_group(tmp_path, CELLS, gpu="h200", machine=made.GPU_MACHINE), made.study(cells=CELLS))
    assert "What fits on which card" in html
    assert '<td class="too-large">too large' in html


@given(st.integers(1, 200), st.integers(10**8, 2 * 10**11))
@example(8, 7_600_000_000)
def test_new_lets_in_what_advise_and_the_page_let_in(size, held):
    """`new --vram 8` let through 7.69 GB, and what took more than 7.46 was then beyond `advise --vram 8`."""
    option = Option("x", seconds=1.0, rate=1.0, start=1.0, needs=held + CUDA_CONTEXT, by_device=False, joule=None, loss=0.0)
    is_advised = advise([option], Ask(budget=usable(size))).choice is not None
    assert (held <= new_study.room_of(size, is_gpu=True)) == is_advised
