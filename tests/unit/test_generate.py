"""Replies are counted until there are enough, and each is what the engine gave."""

import ast
from pathlib import Path
from types import SimpleNamespace

import pytest
from speedgrid import engines, hardware, stats
from speedgrid.engines.base import Reply
from speedgrid.workloads import generate, repeat

CPU = hardware.Device("cpu", "a processor")
SETTINGS = {"max_new_tokens": 4, "batch_size": 1, "ignore_eos": True, "sampling": {}}


class Talker:
    """Gives replies of four tokens that take as long as `seconds` says, by the number of the reply."""

    uses_torch = True
    device = CPU

    def __init__(self, seconds):
        self.seconds, self.seeds = seconds, []

    def generate(self, prompt, settings, seed):
        self.seeds.append(seed)
        whole = self.seconds(len(self.seeds))
        return Reply([[1, 2, 3, 4]], [whole * share for share in (0.4, 0.6, 0.8, 1.0)], whole)

    @property
    def language(self):
        return SimpleNamespace(decode=lambda token_ids: " ".join(map(str, token_ids)))


def counted(replies, seconds):
    rows, talker = [], Talker(seconds)
    work = generate.Work(talker, SETTINGS | {"replies": replies}, 100)
    work.prompt = [5, 6]
    stopped = repeat.counted(work, CPU, rows.append)
    return rows, stopped, talker


def test_a_number_of_replies_is_that_many_each_with_a_seed_of_its_own(monkeypatch):
    # The rule that ends a series makes no part of the fingerprint of such a job (planning.stages.CUTS).
    monkeypatch.setattr(repeat, "stop", None)
    rows, stopped, talker = counted(7, lambda number: 1.0)
    assert (len(rows), stopped) == (7, "exact")
    assert talker.seeds == [row["seed"] for row in rows] == list(range(101, 108))
    assert {row["new_tokens"] for row in rows} == {4}
    assert {row["device_s"] for row in rows} == {None}


def test_every_engine_reads_the_same_clock():
    read = set()
    for path in Path(engines.__file__).parent.glob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            assert not (isinstance(node, ast.ImportFrom) and node.module == "time"), path.name
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "time":
                read.add((path.stem, node.attr))
    assert {clock for _, clock in read} == {"perf_counter"}
    # The others take that of transformers.
    assert {engine for engine, _ in read} == {"transformers", "transformers_loop", "vllm", "llamacpp"}


def test_steady_replies_are_soon_enough():
    rows, stopped, _ = counted("auto", lambda number: 1.0 + 0.001 * (number % 2))
    assert (len(rows), stopped) == (20, "precise")


def test_unsteady_replies_go_on_to_the_maximum_and_say_so():
    rows, stopped, _ = counted({"share": 0.001, "at_least": 5, "at_most": 30}, lambda number: 1.0 + (number % 3))
    assert (len(rows), stopped) == (30, "maximum")


@pytest.mark.parametrize("share", [0.02, 0.1])
def test_replies_end_when_their_interval_is_as_narrow_as_asked_for(share):
    rows, stopped, _ = counted({"share": share, "at_least": 5, "at_most": 1000}, lambda number: 1.0 + 0.3 * ((number * 7919 % 101) / 101))
    assert stopped == "precise"
    rates = [row["new_tokens"] / row["reply_s"] for row in rows]
    assert stats.level(rates).half_width <= share
    assert len(rows) in stats.Precision(share, 5, 1000).looks


@pytest.mark.parametrize(
    ("steps", "asked", "early"),
    [([1] * 5, 32, True), ([4, 4, 4], 32, True), ([5, 5], 32, False), ([1, 32], 32, False), ([1], 1, False), ([2, 2], 2, False)],
)
def test_a_handful_of_decoding_steps_has_no_speed_unless_no_more_were_asked_for(steps, asked, early):
    why = generate.ended_early([{"steps": count} for count in steps], {"max_new_tokens": asked})
    assert bool(why) == early
    if early:
        assert f"after {sum(steps) / len(steps):.3g} of {asked} tokens on average" in why


@pytest.mark.parametrize("slow", [[9.0], [9.0, 2.0]], ids=["odd", "even"])
@pytest.mark.parametrize("counts", ["new_tokens", "items"])
def test_the_speed_that_a_job_says_last_is_that_of_the_page(counts, slow):
    rows = [{counts: 4, "reply_s": seconds} for seconds in (1.0, 1.1, 1.3, 1.2, *slow)]
    said = repeat.typical_speed(rows, counts)
    assert said == pytest.approx(stats.run([row[counts] / row["reply_s"] for row in rows]).value)
    assert said > 1.02 * sum(row[counts] / row["reply_s"] for row in rows) / len(rows)
