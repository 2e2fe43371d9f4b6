"""What nothing beats in speed, quality and memory, and where labels at the ends of lines stand."""

from dataclasses import replace
from itertools import pairwise

import records_factory as made
from hypothesis import given
from hypothesis import strategies as st
from report_data import group_of
from speedgrid.known import CUDA_CONTEXT_WITHIN
from speedgrid.report.advice import Ask
from speedgrid.report.advised import Guide
from speedgrid.report.charts import labels, pareto

figures = st.floats(0.1, 100)
standing = st.builds(
    lambda name, speed, noise, quality, memory, source: pareto.Standing(
        name, speed, speed * (1 - noise), speed * (1 + noise), quality, memory, source
    ),
    *(st.integers(0, 10**6), figures, st.floats(0, 0.9), st.sampled_from([1.0, 1.1, 1.2, 5.0])),
    st.none() | st.sampled_from([0.2, 0.6, 1.0, 1.4, 3.0]).map(lambda size: size * 2**30),
    st.sampled_from(["allocator", "device"]),
)
standings = st.lists(standing, max_size=12, unique_by=lambda one: one.name)


@given(standings)
def test_some_are_beaten_by_nobody_and_who_beats_is_as_good_in_everything(found):
    beaten = pareto.beaten(found)
    assert len(beaten) < len(found) or not found
    by_name = {one.name: one for one in found}
    for name, winner in beaten.items():
        loser, winner = by_name[name], by_name[winner]
        assert winner.speed >= loser.speed
        assert winner.quality <= loser.quality
        guessed = CUDA_CONTEXT_WITHIN if winner.source != loser.source else 0
        assert (winner.memory or 0) <= (loser.memory or 0) + guessed
        assert winner.slowest > loser.fastest or winner.quality < loser.quality or winner.memory < loser.memory - guessed


@given(standings)
def test_the_best_in_one_figure_alone_is_beaten_by_nobody(found):
    for figure in (lambda one: -one.speed, lambda one: one.quality):
        best = sorted(found, key=figure)
        if len(best) > 1 and figure(best[0]) < figure(best[1]):
            assert best[0].name not in pareto.beaten(found)


def one(name, speed, quality=1.9, memory=1000.0, source="allocator", noise=0.01):
    return pareto.Standing(name, speed, speed * (1 - noise), speed * (1 + noise), quality, memory, source)


def test_a_speed_within_noise_beats_nobody():
    assert pareto.beaten([one("a", 100), one("b", 99)]) == {}
    assert pareto.beaten([one("a", 100), one("b", 90)]) == {"b": "a"}


def test_what_is_open_is_not_beaten_and_what_is_the_same_is_not_beaten_in_speed():
    """A cell was pale, so surely worse, while the headline held open whether it is as fast."""
    worse = one("b", 50, memory=2000.0)
    assert pareto.beaten([replace(one("a", 100), open=("b",)), replace(worse, open=("a",))]) == {}
    assert pareto.beaten([replace(one("a", 100), same=("b",)), replace(one("b", 90), same=("a",))]) == {}
    assert pareto.beaten([replace(one("a", 100), same=("b",)), replace(worse, same=("a",))]) == {"b": "a"}


def test_no_cell_is_pale_that_the_answer_holds_open(tmp_path):
    cells = [
        made.Made("baseline", "Baseline", speed=20, again=(20.5,)),
        made.Made("fast", "Fast", speed=28, spread=0.004),
        made.Made("mid", "Mid", speed=26),
    ]
    group = group_of(tmp_path, cells, machine=made.GPU_MACHINE)
    advice = Guide(group.rows.to_dict("records")).advise(Ask("throughput"))
    assert (advice.choice, "mid" in advice.open) == ("fast", True)
    assert "mid" not in pareto.beaten(pareto.standings(group.rows))


def test_memory_of_two_sources_differs_by_more_than_what_cuda_takes_as_a_rule():
    gib = 2**30
    # It counted against whoever was held to be better, so that nobody beat what PyTorch had told of another.
    assert pareto.beaten([one("a", 100, memory=5 * gib), one("b", 50, memory=5.2 * gib, source="device")]) == {"b": "a"}
    assert pareto.beaten([one("a", 100, memory=5.15 * gib), one("b", 50, memory=5 * gib, source="device")]) == {"b": "a"}
    assert pareto.beaten([one("a", 100, memory=5.15 * gib), one("b", 100, memory=5 * gib, source="device")]) == {}
    assert pareto.beaten([one("a", 100, memory=5.6 * gib), one("b", 50, memory=5 * gib, source="device")]) == {}
    assert pareto.beaten([one("a", 100, memory=5.15 * gib), one("b", 50, memory=5 * gib)]) == {}
    assert pareto.beaten([one("a", 100, memory=5 * gib), one("b", 50, memory=5.6 * gib, source="device")]) == {"b": "a"}
    assert pareto.beaten([one("a", 100, memory=5 * gib, source="device"), one("b", 50, memory=5.6 * gib)]) == {"b": "a"}


def test_what_measures_no_loss_has_the_quality_of_the_baseline_and_a_real_loss_its_own(tmp_path):
    cells = [
        made.DEFAULT_CELLS[0],
        made.Made("same", "Same", speed=40, bits_per_byte=1.9001),
        made.Made("lossy", "Lossy", bits_per_byte=2.5),
    ]
    found = {one.name: one.quality for one in pareto.standings(group_of(tmp_path, cells).rows)}
    assert found["baseline"] == found["same"] < found["lossy"]


def test_what_was_not_engaged_stands_for_nothing(tmp_path):
    cells = [made.DEFAULT_CELLS[0], replace(made.DEFAULT_CELLS[1], speed=900, status="not_engaged", reason="not active")]
    group = group_of(tmp_path, cells)
    assert [one.name for one in pareto.standings(group.rows)] == ["baseline"]


@given(st.lists(st.tuples(figures, figures), max_size=20))
def test_the_front_falls_from_fast_to_slow_and_leaves_nothing_better(points):
    front = pareto.front(points)
    assert set(front) <= set(points)
    assert all(a[0] < b[0] and a[1] < b[1] for a, b in pairwise(front))
    for speed, quality in points:
        assert any(best[0] >= speed and best[1] <= quality for best in front)


@given(st.lists(st.floats(0, 300), max_size=20))
def test_labels_at_the_ends_of_lines_keep_their_order_and_distance(places):
    found = labels.spread(places, 14, 0, 300)
    order = sorted(range(len(places)), key=lambda index: places[index])
    placed = [found[index] for index in order]
    assert all(b - a >= 14 - 1e-6 for a, b in pairwise(placed))
    if all(b - a >= 14 for a, b in pairwise(sorted(places))):
        assert [round(place, 6) for place in found] == [round(place, 6) for place in places]
