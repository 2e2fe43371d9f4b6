"""Training, passes and attention in the tables and on the page: losses, rates of work, series of sizes, growth, published figures."""

import json
import math
import re
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import records_factory as made
from hypothesis import given
from hypothesis import strategies as st
from report_data import quick_parts
from speedgrid import records, schema
from speedgrid.bisection import next_size
from speedgrid.engines.base import Proof
from speedgrid.hardware import Device
from speedgrid.meters import MemoryMeter
from speedgrid.report import charts, collect, page, published, tables, training, work
from speedgrid.report.advice import qualities
from speedgrid.report.charts import tradeoff
from speedgrid.schema import MEASURE, POINTS, SUMMARY
from speedgrid.stage import Job
from speedgrid.workloads import repeat
from speedgrid.workloads.base import Work, next_length
from speedgrid.workloads.repeat import bytes_asked

FLOP = 6e9  # of a step; the probe of the factory saw 60e9 FLOP/s, so that a step takes a tenth of a second at least


def step(number: int, seconds: float, loss: float | None = None, point: int | None = None, memory: int = 400 * made.MIB) -> dict:
    row = {"reply": number, "seed": 7, "batch_size": 8, "items": 8, "reply_s": seconds * (1 + 0.01 * (number % 3)), "loss": loss}
    return row | {"point": point, "flop": FLOP * (point or 1), "point_memory": memory, "status": "ok", "reason": ""}


def write_cells(root, rows: dict[str, list[dict]], workload: str = "train", unit: str = "image", **settings) -> list[dict]:
    """The cells of a workload other than `generate`, with the given rows of `measure`; the first is the baseline."""
    cells = [made.Made(name, name.title()) for name in rows]
    grid = made.write_group(root, cells, evaluate=False)
    for cell, (name, own) in zip(grid, rows.items(), strict=True):
        cell |= {"workload": workload, "is_baseline": name == next(iter(rows)), "job": {"settings": settings}}
        path = f"{cell['folder']}/measure.parquet"
        keys = {axis: cell[axis] for axis in schema.AXES}
        facts = made.facts("measure") | {"unit": unit, "engaged": True, "evidence": json.dumps({"weights": "float32"})}
        facts |= {"multiplies_in": "float32", "memory_before": 300 * made.MIB, "energy_valid": False, "parameters": 5_140_000}
        facts["job"] = json.dumps(cell["job"])
        records.write(path, MEASURE, [keys | row for row in own], facts)
    return grid


def summary_of(grid: list[dict]) -> tuple[dict, list[dict]]:
    cells = [collect.read_cell(cell, made.JOBS) for cell in grid]
    return {row["technique"]: row for row in tables.summary_rows(cells)}, work.point_rows(cells)


LOSSES = [2.0 - 0.05 * number for number in range(20)]


@pytest.fixture
def trained(tmp_path):
    return write_cells(
        tmp_path,
        {
            "plain": [step(n, 0.4, loss) for n, loss in enumerate(LOSSES, 1)],
            "fast": [step(n, 0.2, loss) for n, loss in enumerate(LOSSES, 1)],
            "stuck": [step(n, 0.2, 2.0) for n in range(1, 21)],
            "diverged": [step(n, 0.2, 2.0 if n < 10 else math.nan) for n in range(1, 21)],
        },
    )


@pytest.mark.parametrize(("workload", "noun"), [("train", "step"), ("forward", "pass")])
def test_steps_of_little_work_are_said_to_be_mostly_fixed_costs(tmp_path, workload, noun):
    """Replies of a toy model were, and its training was not."""

    def told(flop: float) -> str:
        rows = {name: [step(n, seconds) | {"flop": flop} for n in range(1, 21)] for name, seconds in (("plain", 0.4), ("fast", 0.2))}
        return page_of(write_cells(tmp_path / f"{flop}", rows, workload))

    assert f"A {noun} of stdlib-llama takes only 100 million operations." in told(1e8)
    assert "takes only" not in told(1e14)


def test_steps_have_the_statistics_of_replies(trained):
    rows, points = summary_of(trained)
    fast = rows["fast"]
    assert list(fast) == [column.name for column in SUMMARY.columns]
    assert fast["rate"] == pytest.approx(8 / 0.2, rel=0.02)
    assert fast["rate_low"] < fast["rate"] < fast["rate_high"]
    assert (fast["speedup"], fast["unit"], fast["replies"]) == (pytest.approx(2, rel=0.02), "image", 20)
    assert fast["tokens_per_s"] is fast["new_tokens"] is fast["bits_per_byte"] is None
    assert points == []


def test_a_steps_work_is_held_against_what_the_device_did(trained):
    rows, _ = summary_of(trained)
    assert rows["fast"]["flop_per_s"] == pytest.approx(FLOP / 0.2, rel=0.02)
    assert rows["fast"]["run_mfu"] == pytest.approx(0.5, rel=0.02)


def test_more_arithmetic_than_the_device_can_do_is_called_impossible(tmp_path):
    text = page_of(write_cells(tmp_path, {"plain": [step(n, 0.4) for n in range(1, 21)], "fast": [step(n, 0.05) for n in range(1, 21)]}))
    assert "Fast seems to reach 198 % of the rate of matrix products that this device was seen to do, which is impossible" in text
    assert "198 %impossible: a probe that was disturbed, or operations counted that were not done" in text


def test_losses_are_told_and_those_that_do_not_fall_are_named(trained):
    rows, _ = summary_of(trained)
    assert (rows["plain"]["loss_first"], rows["plain"]["loss_last"]) == (2.0, pytest.approx((LOSSES[-1] + LOSSES[-2]) / 2))
    text = page_of(trained)
    assert "The loss ends higher than with Plain (from 2.00 to 1.07): Stuck from 2.00 to 2.00." in text
    assert "The loss of Diverged is not a number in the end: it diverged." in text


def test_losses_are_held_against_each_other_after_as_many_steps_on_the_same_data(tmp_path):
    """With `replies: auto` each technique counts until its time is known: one that counted more steps seemed to learn better, and the
    baseline's longer run made all others lose quality."""
    cells = {
        "plain": [step(n, 0.4, 2.0 - 0.01 * n) for n in range(1, 101)],
        "fast": [step(n, 0.2, 2.0 - 0.01 * n) for n in range(1, 21)],
        "worse": [step(n, 0.2, 2.0 - 0.001 * n) for n in range(1, 51)],
        "late": [step(n, 0.2, 2.0 - 0.01 * n if n < 40 else math.nan) for n in range(1, 51)],
    }
    rows, _ = summary_of(write_cells(tmp_path, cells))
    assert rows["plain"]["loss_last"] == rows["fast"]["loss_last"] == pytest.approx(2.0 - 0.01 * 19.5)
    judged = qualities(list(rows.values()))
    assert {name: quality.kind for name, quality in judged.items()} == {
        "plain": "baseline",
        "fast": "kept",
        "worse": "loss",
        "late": "loss",
    }
    assert rows["late"]["loss_last"] is None


# How the page begins to say how the time of the largest sizes grows.
LAST = "Growth of time between the two largest sizes alone (1: in proportion, 2: with the square): "


def page_of(grid: list[dict], others: str | None = None) -> str:
    """The text of the page, markup left out."""
    cells = [collect.read_cell(cell, made.JOBS) for cell in grid]
    study = made.study(cells=[made.Made(cell["technique"], cell["label"]) for cell in grid])
    settings = {"workload": grid[0]["workload"], "batch_size": 8, "max_new_tokens": 256, "sampling": {}}
    study["experiments"] = {"generate": settings | ({"published": others} if others else {})}
    replies = [row for cell in cells for row in cell.measure.rows]
    html = page.render(quick_parts(), study, tables.summary_rows(cells), tables.run_rows(cells), replies, points=work.point_rows(cells))
    import re

    return " ".join(re.sub(r"<[^>]+>", "", html).split())


def test_the_page_of_a_training_says_nothing_of_replies_alone(trained):
    text = page_of(trained)
    assert "Images per second" in text
    assert "Loss over the counted steps" in text
    assert "max_new_tokens" not in text
    assert "token/s" not in text
    assert not re_nan(text)


def re_nan(text: str) -> bool:
    import re

    return bool(re.search(r"\b(nan|NaN|None|NaT)\b", text))


END = {"status": "oom", "reason": "CUDA out of memory. Tried to allocate 20.00 GiB", "point": 4096, "asked_bytes": 20 * 2**30}


@pytest.fixture
def series(tmp_path):
    def at(factor: float, points: tuple[int, ...]) -> list[dict]:
        return [step(n, factor * (p / 1024) ** 2, point=p, memory=(300 + p) * made.MIB) for p in points for n in range(1, 6)]

    return write_cells(
        tmp_path, {"plain": [*at(0.4, (1024, 2048)), END], "flash": at(0.1, (1024, 2048, 4096))}, workload="attention", unit="pass"
    )


def test_a_series_that_ends_in_want_of_memory_is_a_cell_with_figures(series):
    rows, points = summary_of(series)
    assert (rows["plain"]["status"], rows["flash"]["status"]) == ("ok", "ok")
    # What is compared is what all have done.
    assert {row["point"] for row in rows.values()} == {2048}
    # And so is memory, of which the process has held more for the sizes that others lack.
    assert {row["memory_peak"] for row in rows.values()} == {(300 + 2048) * made.MIB}
    assert {(row["memory_load_peak"], row["memory_reserved"]) for row in rows.values()} == {(None, None)}
    assert rows["flash"]["speedup"] == pytest.approx(4, rel=0.02)
    ended = next(row for row in points if row["status"] == "oom")
    assert (ended["technique"], ended["point"], ended["asked_bytes"], ended.get("rate")) == ("plain", 4096, 20 * 2**30, None)


def at_sizes(*points: int) -> list[dict]:
    return [step(n, 0.1, point=p) for p in points for n in (1, 2)]


def test_the_largest_size_is_each_cells_own_and_what_is_compared_is_common(tmp_path):
    losing = [step(n, 0.2, 2.0 - n / 10, point=4) for n in (1, 2)]
    more = [step(n, 9.0, 2.0 - n / 100, point=p) for p in (8, 16, 32) for n in (1, 2)]
    parts = {
        "plain": [*at_sizes(1, 2), *(row | {"reply_s": row["reply_s"] / 2} for row in losing), END | {"point": 8}, END | {"point": 6}],
        "parts": [*at_sizes(1, 2), *losing, *more, END | {"point": 64}],
    }
    grid = write_cells(tmp_path, parts, workload="largest", unit="token", grows="batch_size")
    rows, _ = summary_of(grid)
    assert [(rows[name]["largest"], rows[name]["point"]) for name in parts] == [(4, 4), (32, 4)]
    # Half as fast on the same batch, whatever it does with a larger one; and losses of other batches are other losses.
    assert rows["parts"]["speedup"] == pytest.approx(0.5, rel=0.02)
    assert rows["parts"]["loss_last"] == rows["plain"]["loss_last"]
    text = page_of(grid)
    assert "Speeds, memory and losses are compared at 4, the largest size that all finished." in text
    assert "The loss ends higher" not in text
    assert "The largest batch that fits, found to within a sixteenth: Parts 32 and Plain 4." in text
    assert "Parts takes the largest batch: 32, 8.0 times that of Plain, 4." in text


def test_what_was_not_engaged_lowers_nobodys_size(tmp_path):
    idle = [row | {"status": "not_engaged", "reason": "not active"} for row in at_sizes(1, 2)]
    rows, _ = summary_of(
        write_cells(
            tmp_path, {"plain": at_sizes(1, 2, 4), "parts": at_sizes(1, 2, 4), "idle": idle}, workload="largest", grows="batch_size"
        )
    )
    assert {name: row["point"] for name, row in rows.items()} == {"plain": 4, "parts": 4, "idle": 2}
    assert (rows["parts"]["speedup"] > 0, rows["idle"]["speedup"], rows["idle"]["status"]) == (True, None, "not_engaged")


def test_the_largest_model_is_told_with_its_parameters(tmp_path):
    grid = write_cells(
        tmp_path, {"plain": at_sizes(2, 4), "also": at_sizes(2, 4), "less": at_sizes(2)}, workload="largest", unit="token", grows="layers"
    )
    text = page_of(grid)
    assert "Nothing here takes a larger model than Plain, the baseline: 4 layers with 5.1 million parameters." in text
    assert "Less 2 layers" in text
    rows, _ = summary_of(grid)
    assert [(row["point"], row["speedup"]) for row in rows.values()] == [(2, pytest.approx(1, rel=0.02))] * 3


def test_without_a_size_in_common_there_is_no_speedup(tmp_path):
    parts = {"plain": at_sizes(4), "less": at_sizes(2)}
    rows, _ = summary_of(write_cells(tmp_path, parts, workload="largest", unit="token", grows="layers"))
    assert (rows["less"]["speedup"], rows["less"]["verdict"], rows["less"]["rate"] > 0) == (None, None, True)


def test_other_sizes_than_the_baselines_have_no_losses_and_no_memory_to_compare(tmp_path):
    def losing(point: int, by: float, memory: int) -> list[dict]:
        return [step(n, 0.2, 2.0 - by * n, point=point, memory=memory * made.MIB) for n in (1, 2, 3)]

    parts = {"plain": losing(4, 0.3, 800), "alike": losing(4, 0.01, 700), "parts": losing(8, 0.01, 100)}
    text = page_of(write_cells(tmp_path, {name: parts[name] for name in ("plain", "parts")}, workload="largest", grows="batch_size"))
    assert "The loss ends higher" not in text
    assert "memory saved" not in text
    text = page_of(
        write_cells(tmp_path / "as-large", {name: parts[name] for name in ("plain", "alike")}, workload="largest", grows="batch_size")
    )
    assert "The loss ends higher than with Plain" in text
    assert "Less memory at a price: Alike 700 MiB" in text


def test_several_techniques_may_take_the_largest(tmp_path):
    rows = {"plain": at_sizes(16), "one": at_sizes(48), "other": at_sizes(48)}
    text = page_of(write_cells(tmp_path, rows, workload="largest", unit="token", grows="sequence"))
    assert "One and Other take the largest sequence: 48 tokens, 3.0 times that of Plain, 16 tokens." in text


def test_what_ended_the_search_is_told(tmp_path):
    parts = {"plain": [*at_sizes(16, 32), END | {"point": 48}], "other": at_sizes(32, 64)}
    grid = write_cells(tmp_path, parts, workload="largest", unit="token", grows="sequence")
    rows, _ = summary_of(grid)
    assert [rows[name]["ended_by"] for name in parts] == ["memory", "model"]
    text = page_of(grid)
    assert "Other: memory has room for more, but the model takes no longer sequence." in text
    assert "Plain: memory has room" not in text


def test_every_size_has_its_row(series, tmp_path):
    _, points = summary_of(series)
    measured = {(row["technique"], row["point"]): row for row in points if row["status"] == "ok"}
    assert set(measured) == {("plain", 1024), ("plain", 2048), ("flash", 1024), ("flash", 2048), ("flash", 4096)}
    assert measured["flash", 1024]["speedup"] == pytest.approx(4, rel=0.02)
    assert measured["flash", 4096].get("speedup") is None
    assert measured["plain", 2048]["memory_more"] == 2048 * made.MIB
    records.write(tmp_path / "points.parquet", POINTS, points)


def test_a_figure_of_a_size_is_the_summarys_over_all_runs_and_no_stall_moves_it(tmp_path):
    """On an H100 a kernel had 1,499 passes a second in one table and 1,412 in the other: a median, and a mean with two slow passes."""

    def passes(seconds: float, stalled: float = 1.0) -> list[dict]:
        times = {point: seconds * (point / 1024) ** 2 for point in (1024, 2048)}
        return [step(n, times[p] * (stalled if n == 1 else 1), point=p) for p in times for n in range(1, 9)]

    grid = write_cells(tmp_path, {"plain": passes(0.4), "flash": passes(0.1, stalled=30)}, workload="attention", unit="pass")
    first = records.read(f"{grid[1]['folder']}/measure.parquet", MEASURE)
    grid[1]["again"] = [f"{grid[1]['folder']}/measure-2.parquet"]
    keys = {axis: grid[1][axis] for axis in schema.AXES}
    records.write(grid[1]["again"][0], MEASURE, [keys | row for row in passes(0.12)], first.facts)
    rows, points = summary_of(grid)
    assert rows["flash"]["point"] == 2048
    for technique in ("plain", "flash"):
        (size,) = (row for row in points if (row["technique"], row["point"]) == (technique, 2048))
        same = ("rate", "rate_low", "rate_high", "speedup", "speedup_low", "speedup_high", "verdict", "flop_per_s", "replies")
        assert {name: size[name] for name in same} == {name: rows[technique][name] for name in same}
        assert size["mfu"] == rows[technique]["run_mfu"]
        assert size["time_s"] == pytest.approx(8 / size["rate"])
        assert size["time_high_s"] == pytest.approx(8 / size["rate_low"])
        assert size["flop_per_s"] == pytest.approx(FLOP * 2048 / size["time_s"])
    assert size["replies"] == 16
    assert size["time_s"] == pytest.approx(4 * (0.1 * 0.12) ** 0.5, rel=0.02)
    assert size["latency_mean_s"] > 2 * size["time_s"], "the mean stands beside it, and is called that"
    assert rows["flash"]["growth_last"] == pytest.approx(2, rel=0.02)
    (table,) = (table for table in training.point_tables(points) if table.title == "Speed-up by size")
    assert re.fullmatch(r"3\.6\d* \(\d\.\d+–\d\.\d+\)", dict(table.rows)["Flash"][1])


def test_the_page_shows_where_a_series_ended(series):
    text = page_of(series)
    assert "oom, asked for 20.0 GiB" in text
    assert "Speeds and memory are compared at 2,048 tokens, the largest size that all finished." in text
    assert "Time grows with a power of the size, fitted over all sizes: Plain 2.00" in text
    assert f"{LAST}Flash 2.0 up to 4,096." in text


def test_the_power_at_last_shows_what_fixed_costs_hide(tmp_path):
    def times(fixed: float) -> list[dict]:
        return [step(n, fixed + (p / 1024) ** 2, point=p) for p in (64, 256, 1024, 4096, 16384) for n in (1, 2)]

    rows, _ = summary_of(write_cells(tmp_path, {"plain": times(0), "heavy": times(1.0)}, workload="growth", unit="token"))
    assert rows["plain"]["growth"] == pytest.approx(2) == rows["plain"]["growth_last"]
    assert rows["heavy"]["growth"] < 1.2
    assert rows["heavy"]["growth_last"] > 1.9


def test_a_power_that_could_be_anything_is_not_told(tmp_path):
    # The small sizes take the same time, so that a straight line through three sizes misses them all.
    times = {512: 1.0, 2048: 1.0, 4096: 2.7}
    parts = {"plain": [step(n, seconds, point=p) for p, seconds in times.items() for n in (1, 2)]}
    grid = write_cells(tmp_path, parts, workload="growth", unit="token")
    rows, _ = summary_of(grid)
    assert rows["plain"]["growth_high"] - rows["plain"]["growth_low"] > 1
    text = page_of(grid)
    assert "Time grows with a power of the size, fitted" not in text
    assert f"{LAST}Plain 1.4." in text


def test_a_table_by_size_with_nothing_in_it_is_left_out(series):
    _, points = summary_of(series)
    assert "Rate by size" in [table.title for table in training.point_tables(points)]
    unknown = [row | {"flop_per_s": None} for row in points]
    assert [table.title for table in training.point_tables(unknown)] == ["Time by size", "Speed-up by size", "Memory by size"]


@given(st.floats(0.1, 4), st.floats(1e-6, 10), st.lists(st.integers(1, 10**6), min_size=3, max_size=8, unique=True))
def test_the_growth_of_a_power_is_its_exponent(power, factor, sizes):
    found = work.growth([(size, factor * float(size) ** power) for size in sizes])
    assert found.value == pytest.approx(power, rel=1e-6)
    assert found.low <= found.value + 1e-9
    assert found.high >= found.value - 1e-9


def test_two_sizes_give_no_interval_and_one_no_growth():
    assert work.growth([(10, 1.0)]) is None
    two = work.growth([(10, 1.0), (20, 4.0)])
    assert (two.value, two.low) == (pytest.approx(2), None)


@pytest.mark.parametrize(
    ("reason", "asked"),
    [
        ("while counting: CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0 has a total capacity of 23.5 GiB", 20 * 2**30),
        ("CUDA out of memory. Tried to allocate 512.00 MiB", 512 * 2**20),
        ("DefaultCPUAllocator: can't allocate memory: you tried to allocate 17179869184 bytes", 17179869184),
        ("the process ran out of memory", None),
    ],
)
def test_the_bytes_that_were_asked_for_are_read_from_the_reason(reason, asked):
    assert bytes_asked(reason) == asked


def test_a_series_goes_on_until_a_length_does_not_fit():
    assert next_length([1, 2, 3], []) == 1
    assert next_length([1, 2, 3], [(1, True), (2, True)]) == 3
    assert next_length([1, 2, 3], [(1, True), (2, False)]) is None
    assert next_length([1], [(1, True)]) is None


class Roomy(Work):
    """A workload of growing sizes, of which those over `room` do not fit."""

    def __init__(self, room: int, settings: dict):
        super().__init__(SimpleNamespace(uses_torch=False), settings, 1)
        self.takes, self.prepared = room, None

    def load(self):
        """Nothing is."""

    def prove(self):
        return Proof(True)

    def next_point(self, done):
        return next_length([1, 2, 4, 8], done)

    def prepare(self, point):
        self.prepared = point
        if point > self.takes:
            raise MemoryError

    def run(self, number=0):
        return None

    def columns(self, result):
        return {"items": 1}


@pytest.mark.parametrize(("room", "last"), [(3, 2), (8, 8)])
def test_the_proof_runs_at_the_last_size_that_had_room(room, last):
    settings = {"warmup_replies": 1, "replies": 2, "batch_size": 1}
    told = {"gpu": "cpu", "experiment": "e", "model": "m", "technique": "t", "seed": 1, "settings": settings}
    job = Job("measure", told, Path("out"), Path("checkpoint"), device=Device("cpu", "a processor"))
    work = Roomy(room, settings)
    repeat._series(job, work, MemoryMeter(job.device, False))
    assert work.prepared == last
    assert {row["point"] for row in job.rows if row["status"] == "ok"} == {size for size in (1, 2, 4, 8) if size <= room}


class OneSize(Roomy):
    def next_point(self, done):
        return None

    def prepare(self, point):
        self.prepared = point


@pytest.mark.parametrize(("kind", "before"), [(OneSize, True), (Roomy, False)])
@pytest.mark.parametrize("filled", [False, True])
def test_nobody_watches_the_warm_up_of_a_workload_of_one_size_nor_limits_it(monkeypatch, kind, before, filled):
    """So that no energy and no disturbance of it is counted; sizes warm up one after another, between counted runs.

    The limit of memory makes no part of the fingerprint of a job of one size (planning.stages.CUTS)."""
    settings = {"warmup_replies": 2, "replies": 2, "batch_size": 1, "repeat_disturbed": 0, "quiet_wait_s": 0}
    told = {"gpu": "cpu", "experiment": "e", "model": "m", "technique": "t", "seed": 1, "settings": settings}
    job = Job("measure", told, Path("out"), Path("checkpoint"), device=Device("cpu", "a processor"))
    job.checkpoint_facts = {"checkpoint_bytes": 1, "checkpoint_sha256": "x"}
    engine = SimpleNamespace(uses_torch=False, import_packages=lambda: None, sizes=dict, multiplies_in=lambda: "", fills_memory=filled)
    entered = []

    def watched(name, device, idle, asked, count, enter):
        entered.extend(phase for phase, _ in job.entered)
        count()
        return {}

    monkeypatch.setattr(repeat.monitor, "Idle", lambda device: nullcontext(SimpleNamespace(facts={})))
    monkeypatch.setattr(repeat.monitor, "watched", watched)
    limited = []
    monkeypatch.setattr(repeat.meters, "within", lambda device, room: limited.append(room) or nullcontext())
    repeat._measured(job, engine, kind(8, settings))
    for name in ("memory_loaded", "memory_load_peak", "memory_peak"):
        assert (job.facts[name] is None) == filled
    assert {row.get("point_memory") is None for row in job.rows} == {filled}
    assert limited == ([] if before else [None])
    at = "" if before else " at 8"
    assert [phase for phase in entered if phase in ("running for the first time", "warming up")] == (
        ["running for the first time", "warming up"] if before else []
    )
    assert {f"running for the first time{at}", f"warming up{at}", f"counting passes{at}"} <= {phase for phase, _ in job.entered}


@given(st.integers(1, 5000), st.integers(1, 8), st.one_of(st.none(), st.integers(8, 3000)))
def test_the_largest_size_that_fits_is_found_by_bisection(room, step, most):
    done = []
    while (size := next_size(done, step, most)) is not None:
        assert size % step == 0
        assert most is None or size <= max(most, step)
        assert size not in [tried for tried, _ in done]
        done.append((size, size <= room))
    fitted, failed = (max((s for s, fits in done if fits), default=0), min((s for s, fits in done if not fits), default=None))
    assert len(done) <= 30
    if failed is None:
        assert fitted + step > most // step * step or 2 * fitted > most
    else:
        assert not fitted or failed - fitted <= max(step, fitted // 16 + step)


def test_published_figures_stand_beside_ours(trained):
    figures = published.read(
        "study,device,technique,point,column,value,note\ns,GPU X,fast,,latency_mean_s,0.1,batch 8\ns,GPU X,absent,,rate,5,\n"
    )
    cells = [collect.read_cell(cell, made.JOBS) for cell in trained]
    (group,) = tables.groups(tables.summary_rows(cells), [row for cell in cells for row in cell.measure.rows])
    found = published.beside(figures, "s", group, [], {"batch_size": 8})
    (table,) = found.tables
    assert (table.name, table.unit) == ("Mean time", "ms")
    assert [(row.label, row.ours, row.published, row.gain, row.note) for row in table.rows] == [("Fast", "202", "100", "", "batch 8")]
    assert found.conditions == [("Device", "GPU X", "AMD EPYC 9354 32-Core Processor"), ("Settings", "batch 8", "batch size 8")]
    assert published.beside(figures, None, group, []) is None


def test_gains_are_taken_within_each_study_and_their_directions_named(trained):
    head = "study,device,technique,point,column,value,note\n"
    figures = published.read(
        head + "s,GPU X,plain,,latency_mean_s,0.1,\ns,GPU X,fast,,latency_mean_s,0.025,\ns,CPU Y,stuck,,latency_mean_s,0.2,\n"
        "s,GPU X,plain,,memory_peak,2e9,\ns,GPU X,fast,,memory_peak,1e9,\n"
    )
    cells = [collect.read_cell(cell, made.JOBS) for cell in trained]
    (group,) = tables.groups(tables.summary_rows(cells), [row for cell in cells for row in cell.measure.rows])
    time, memory = published.beside(figures, "s", group, []).tables
    assert time.gain == "Speed-up over Plain; more is faster"
    rows = {row.label: row for row in time.rows}
    assert (rows["Plain"].gain, rows["Plain"].published_gain) == ("", "")
    assert float(rows["Fast"].gain.rstrip("×")) == pytest.approx(2, rel=0.02)
    assert (rows["Fast"].published_gain, rows["Fast"].direction) == ("4.00×", "faster in both")
    assert (rows["Stuck"].published_gain, rows["Stuck"].direction) == ("0.500×", "faster here, slower there")
    assert (rows["Stuck"].device, rows["Fast"].device) == ("CPU Y", "")
    assert memory.gain == "Memory over that of Plain; less is better"
    assert [(row.published, row.published_gain) for row in memory.rows] == [("1.86", ""), ("0.931", "0.500×")]


def figures_of(grid: list[dict]) -> dict[str, charts.Figure]:
    cells = [collect.read_cell(cell, made.JOBS) for cell in grid]
    (group,) = tables.groups(tables.summary_rows(cells), [row for cell in cells for row in cell.measure.rows])
    return {figure.name: figure for figure in charts.figures(group, work.point_rows(cells))}


def rows_of(figure: charts.Figure) -> list[dict]:
    return [row for rows in figure.chart.to_dict(validate=True)["datasets"].values() for row in rows]


def test_curves_over_sizes_have_a_point_a_size_and_a_cross_where_memory_ran_out(series):
    found = figures_of(series)
    assert list(found)[:3] == ["time", "rate", "memory-size"]
    rows = rows_of(found["time"])
    assert {(row["name"], row["size"]) for row in rows if "low" in row} == {
        *(("Plain", size) for size in (1024, 2048)),
        *(("Flash", size) for size in (1024, 2048, 4096)),
    }
    assert all(row["low"] <= row["value"] <= row["high"] for row in rows if "low" in row)
    (cross,) = (row for row in rows if "why" in row)
    assert (cross["name"], cross["size"], cross["why"]) == ("Plain", 4096, "oom, asked for 20.0 GiB")
    assert "A cross is a size at which memory ran out." in found["time"].caption
    spec = found["time"].chart.to_dict()
    assert "sequence (tokens)" in json.dumps(spec)  # what grows, with its unit
    assert {row["label_lines"] for row in rows if "label_lines" in row} == {"Plain", "Flash"}


def test_the_loss_of_training_is_a_line_a_technique(trained):
    found = figures_of(trained)
    rows = [row for row in rows_of(found["loss"]) if "loss" in row and "label_lines" not in row]
    assert [row["loss"] for row in rows if row["name"] == "Plain"] == pytest.approx(LOSSES)
    assert "loss (nat)" in json.dumps(found["loss"].chart.to_dict())


def test_memory_stands_against_the_speed_of_training(trained, tmp_path):
    assert "memory-speed" not in figures_of(trained)  # no peaks were told
    cells = [collect.read_cell(cell, made.JOBS) for cell in trained]
    (group,) = tables.groups(tables.summary_rows(cells), [row for cell in cells for row in cell.measure.rows])
    rows = group.rows.assign(memory_peak=[float(400 * made.MIB), 300.0 * made.MIB, 200.0 * made.MIB, float("nan")], memory_source="process")
    figure = tradeoff.memory_figure(replace(group, rows=rows))
    points = {row["name"]: row["peak"] for row in rows_of(figure) if "peak" in row}
    assert points == {"Plain": 400, "Fast": 300, "Stuck": 200}


def test_powers_over_other_sizes_say_up_to_which(tmp_path):
    """1.4 of one kernel stood beside 2.0 of another, which went on to sizes eight times as large."""

    def passes(*sizes: int) -> list[dict]:
        return [step(n, 0.1 * (size / 1024) ** 2, point=size) for size in sizes for n in (1, 2, 3)]

    reach = {"plain": passes(512, 1024, 2048), "flash": passes(512, 1024, 2048, 4096)}
    text = page_of(write_cells(tmp_path / "apart", reach, workload="attention", unit="pass"))
    assert re.search(r"fitted over all sizes: Plain 2[^P]* up to 2,048 and Flash 2[^F]* up to 4,096\.", text)
    assert f"{LAST}Plain 2.0 up to 2,048 and Flash 2.0 up to 4,096." in text
    alike = page_of(
        write_cells(tmp_path / "alike", {"plain": passes(512, 1024, 2048), "flash": passes(512, 1024, 2048)}, workload="attention")
    )
    assert "up to" not in alike.partition(LAST)[2].partition(".")[0]


def test_no_time_of_a_size_is_negative(tmp_path):
    """A stall in one of three passes made a mean that "might be" below nothing."""
    passes = [step(n, 0.1 * (40 if n == 1 else 1), point=size) for size in (512, 1024) for n in (1, 2, 3)]
    _, points = summary_of(write_cells(tmp_path, {"plain": passes}, workload="attention", unit="pass"))
    assert [(row["latency_low_s"], row["latency_high_s"] > row["latency_mean_s"]) for row in points] == [(0.0, True)] * 2
