"""How much a disturbed run lost at most, by what was read of the machine."""

import math
from itertools import accumulate

import pytest
from hypothesis import given
from hypothesis import strategies as st
from speedgrid import disturbance, stats

BUSY = {"disturbed": "other processes used 50% of the CPUs", "device": "cpu", "threads": 2, "cpu_foreign": 0.5, "shared": True}
ON_GPU = BUSY | {"device": "cuda", "threads": 16, "idle_gpu_memory": 2**28, "foreign_gpu_memory": 0, "idle_gpu_utilisation": 0.0}
HOT = ON_GPU | {"cpu_foreign": 0.0, "throttled": True, "shared": False}


def test_a_quiet_run_lost_nothing_whatever_was_read():
    assert disturbance.lost(BUSY | {"disturbed": ""}).most == 0
    assert disturbance.lost({}).most == 0


@pytest.mark.parametrize(
    ("facts", "factor"),
    [
        (BUSY, 4),  # of two threads each waits half of the time
        (BUSY | {"threads": 1}, 2),
        (BUSY | {"threads": None, "cores": 3}, 8),
        (BUSY | {"cpu_foreign": 0.0, "cpu_stolen": 0.1}, 1 / 0.9**2),
        (BUSY | {"cpu_foreign": None, "cpu_limited": 0.75}, 4),
        (ON_GPU, 2),  # one thread feeds it
        (ON_GPU | {"foreign_gpu_memory": None}, 2),  # whatever the driver tells, others were seen on the processor
        (HOT | {"sm_clock_median": 990e6, "sm_clock_limit": 1980e6}, 2),
        (BUSY | {"cpu_foreign": 0.0, "cpu_heat_events": 3, "cpu_clock_min": 1e9, "cpu_clock_max": 3e9}, 3),
    ],
)
def test_what_was_read_bounds_it(facts, factor):
    assert disturbance.lost(facts).most == pytest.approx(math.log(factor))


@pytest.mark.parametrize(
    "facts",
    [
        {"disturbed": "as an older speedgrid says it"},
        BUSY | {"cpu_foreign": 1.0},
        BUSY | {"threads": None},
        BUSY | {"cpu_foreign": 0.0, "cpu_heat_events": 3},
        HOT,  # no clock was read
        ON_GPU | {"foreign_gpu_memory": 2**33},
        ON_GPU | {"idle_gpu_utilisation": 0.4},
        ON_GPU | {"foreign_gpu_memory": None, "idle_gpu_memory": 2**34},
        # A process of the GPU whose memory the driver does not tell, beside what others always take of the processor.
        ON_GPU | {"foreign_gpu_memory": None, "cpu_foreign": 0.002},
    ],
)
def test_where_nothing_bounds_it_it_may_be_anything(facts):
    assert disturbance.lost(facts).most == math.inf


def reply(*steps: float) -> dict:
    """A reply by the seconds of its steps, the first of which is the time to the first token."""
    return {"reply_s": sum(steps), "token_s": list(accumulate(steps))}


# As recorded beside a test run: each step waits for a tick of the kernel sixteen times, until both cores are free for a moment.
WAITING = [reply(0.17, *[0.064] * 15), reply(0.17, *[0.064] * 4, *[0.001] * 11)]


def test_threads_that_wait_for_one_another_lose_more_than_what_was_taken():
    """Two equals were called 23 times apart, by 14 and 326 token/s: of the slower one half of the processor was taken."""
    assert disturbance.lost(BUSY, WAITING).most == pytest.approx(math.log(64))
    # What is one thread, or feeds a GPU, waits for no other, and a quiet run lost nothing.
    assert disturbance.lost(BUSY | {"threads": 1}, WAITING).most == pytest.approx(math.log(2))
    assert disturbance.lost(ON_GPU, WAITING).most == pytest.approx(math.log(2))
    assert disturbance.lost(BUSY | {"disturbed": ""}, WAITING).most == 0


def test_tokens_that_come_at_once_are_no_quick_step():
    """Where a drafted stretch is accepted; replies are compared then, as they are of steps of training, which have no tokens."""
    accepted = [reply(0.1, 0.06, 1e-6, 1e-6, 1e-6, 1e-6, 0.06), reply(0.8, 0.2)]
    assert disturbance.lost(BUSY, [*accepted, *accepted[1:]]).most == pytest.approx(math.log(1 / accepted[0]["reply_s"]))
    assert disturbance.lost(BUSY, [{"reply_s": 1.0, "token_s": None}] * 3 + [{"reply_s": 0.1}]).most == pytest.approx(math.log(10))


@given(st.floats(0, 0.999), st.lists(st.lists(st.floats(1e-4, 10), min_size=1, max_size=12), max_size=5))
def test_what_steps_show_only_adds_to_what_may_be_lost(share, replies):
    facts = BUSY | {"cpu_foreign": share}
    assert disturbance.lost(facts, [reply(*steps) for steps in replies]).most >= disturbance.lost(facts).most


@given(st.floats(0.001, 0.999), st.floats(0, 1))
def test_a_gpu_did_not_wait_for_the_processor_while_it_was_busy(share, busy):
    """Training at 32,768 tokens, whose GPU was busy in 93 % of the time, was "0.80× (0.70 to 1.03)", as the host withheld a tenth of the
    processor."""
    facts = ON_GPU | {"cpu_foreign": share, "phases": ["loading", "counting steps at 64"], "phase_s": [5.0, 4.0], "phase_gpu": [1.0, busy]}
    at, elsewhere = (disturbance.lost(facts, [{"reply_s": 1.0, "token_s": None, "point": point}]).most for point in (64, 128))
    assert elsewhere == pytest.approx(-math.log1p(-share))
    assert 0 < at == pytest.approx(min(elsewhere, -math.log(min(busy, disturbance.MOST_BUSY)) if busy else math.inf))
    assert disturbance.lost(facts | {"foreign_gpu_memory": 2**33}, [{"reply_s": 1.0, "point": 64}]).most == math.inf
    assert disturbance.lost(facts | {"phase_s": [5.0, 1.0]}, [{"reply_s": 1.0, "point": 64}]).most == pytest.approx(elsewhere)
    on_processor = facts | {"device": "cpu", "threads": 1}
    assert disturbance.lost(on_processor, [{"reply_s": 1.0, "point": 64}]).most == pytest.approx(elsewhere)


@given(st.floats(0, 0.999), st.floats(0, 0.999), st.integers(1, 256))
def test_more_that_others_took_is_more_that_may_be_lost(one, other, threads):
    less, more = (disturbance.lost(BUSY | {"cpu_foreign": share, "threads": threads}).most for share in sorted((one, other)))
    assert less <= more or less == math.inf


def test_what_cells_beside_one_another_lost_alike_is_what_half_of_the_processors_make():
    assert disturbance.lost(BUSY).alike == pytest.approx(math.log(4))
    assert disturbance.lost(BUSY | {"cpu_foreign": 0.9}).alike == pytest.approx(math.log(4))
    assert disturbance.lost(BUSY | {"threads": 16}).alike == pytest.approx(16 * math.log(2))
    # Of two cells of a GPU the one may have waited for the processor and the other not.
    assert disturbance.lost(ON_GPU).alike == 0


def test_what_was_starved_is_told_from_what_nobody_knows():
    """Of all of a processor it is known that others had it; what a neighbour took of a GPU nobody knows."""
    assert disturbance.lost(BUSY | {"cpu_foreign": 1.0})[:2] == (math.inf, pytest.approx(math.log(4)))
    assert disturbance.lost(ON_GPU | {"foreign_gpu_memory": 2**33})[:2] == (math.inf, math.inf)
    assert disturbance.lost(HOT)[:2] == (math.inf, math.inf)


@pytest.mark.parametrize("replies", [[5.0], [5.0, 5.1, 5.2]])
def test_a_run_knows_what_it_lost(replies):
    run = stats.run(replies, *disturbance.lost(BUSY | {"cpu_foreign": 0.9}))
    assert (run.disturbed, run.lost, run.alike) == (True, pytest.approx(math.log(100)), pytest.approx(math.log(4)))
    assert not stats.run(replies, *disturbance.lost({})).disturbed
