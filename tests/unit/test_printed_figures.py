"""What stands on the page and beside it, in the terminal and in comparisons: no interval of a speed reaches beyond the replies, and a ratio
is that of the speeds printed beside it, or it is said that it is not."""

import itertools
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace

import advise
import numpy as np
import pytest
import records_factory as made
from speedgrid import comparison, records, schema, stats
from speedgrid.comparison import Measured, Results
from speedgrid.report import collect, compared, embedding, figures_table, markdown, overview, tables, units
from speedgrid.report.advice import RATIOS_DIFFER, Ask
from speedgrid.report.advised import Guide
from speedgrid.report.answer import answer
from speedgrid.report.charts import speed

TECHNIQUES = ("baseline", "sdpa", "torch_compile", "bf16", "bnb_nf4")
LABELS = {name: f"The {name.replace('_', ' ')}" for name in TECHNIQUES}
NUMBER = r"[\d,.]+"
UNEVEN = "counts disturbed runs like quiet ones"
BUSY = {"disturbed": "other processes used the CPUs", "cpu_foreign": 0.06}


@dataclass
class Study:
    """A group, as its results tell it: the replies' rates by technique, the rows of the summary, and what is compared."""

    rates: dict[str, list[float]]
    summary: list[dict]
    group: tables.Group
    results: Results

    @property
    def uneven(self) -> set[str]:
        """Techniques whose speed-up is not the ratio of two speeds."""
        base = next(row["rate"] for row in self.summary if row["is_baseline"])
        known = [row for row in self.summary if row["speedup"] is not None]
        return {row["technique"] for row in known if abs(row["speedup"] * base / row["rate"] - 1) > RATIOS_DIFFER}

    @property
    def bounds(self) -> set[str]:
        """Techniques of whose speed-up only a bound is known."""
        return {row["technique"] for row in self.summary if row["speedup"] is None and (row["speedup_low"] or row["speedup_high"])}


def seconds(rng: np.random.Generator, often: float) -> Iterator[list[float]]:
    """The replies of one to three runs of a cell, which wander, stall, and differ from process to process."""
    noise, scatter = rng.choice((0.005, 0.1, 0.4)), rng.choice((0.003, 0.05, 0.4))
    for _ in range(rng.integers(1, 4)):
        times = 64 / (often * np.exp(noise * rng.normal() + scatter * rng.normal(size=10)))
        yield list(times + np.where(rng.random(10) < 0.1, rng.uniform(1, 10, 10), 0))


def study_of(folder, seed: int) -> Study:
    rng = np.random.default_rng(seed)
    cells = [made.Made(name, LABELS[name], recorded=list(seconds(rng, rng.uniform(4, 2000)))) for name in TECHNIQUES]
    read = [collect.read_cell(cell, made.JOBS) for cell in made.write_group(folder, cells, seed=seed)]

    def watched(record: records.Record, busy: bool) -> records.Record:
        return records.Record(record.rows, record.facts | (BUSY if busy else {}))

    # Of some cells some runs were disturbed, of the second one all.
    read = [
        replace(
            cell,
            measure=watched(cell.measure, place == 1 or rng.random() < 0.3),
            again=[watched(one, place == 1 or rng.random() < 0.3) for one in cell.again],
        )
        for place, cell in enumerate(read)
    ]
    summary = tables.summary_rows(read)
    replies = [row | {"run": run} for cell in read for run, one in enumerate((cell.measure, *cell.again), 1) for row in one.rows]
    (group,) = tables.groups(summary, replies)
    rates = {cell.cell["technique"]: [one["new_tokens"] / one["reply_s"] for one in cell.all_replies] for cell in read}
    measured = {
        schema.cell_of(cell.cell): [
            Measured(run.speed, stats.mean([one["new_tokens"] / one["reply_s"] for one in own]))
            for own, run in zip(cell.replies_by_run, cell.runs, strict=True)
        ]
        for cell in read
    }
    return Study(rates, summary, group, Results(str(folder), summary, (), measured))


@pytest.fixture(scope="module")
def studies(tmp_path_factory) -> list[Study]:
    return [study_of(tmp_path_factory.mktemp("printed"), seed) for seed in range(8)]


@dataclass(frozen=True)
class Printed:
    """What one place prints of a technique, as texts; empty for what it does not print."""

    technique: str
    speed: str = ""
    interval: str = ""
    ratio: str = ""
    over: str = ""  # the speed that the ratio is over


def named(label: str) -> str:
    return next(name for name, own in LABELS.items() if own == label)


def of_table(one: Study) -> Iterator[Printed]:
    for row in figures_table.result_table(one.group, {}, ("rate", "speedup")).rows:
        rate, ratio = row.cells
        yield Printed(named(row.label), rate.text, rate.note, ratio.text)


def of_markdown(one: Study) -> Iterator[Printed]:
    text = markdown.summary(made.study(), [(one.group, answer(one.group).headline)], [], []).replace("\\", "")
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        if cells[0] in LABELS.values():
            yield Printed(named(cells[0]), cells[1].partition(" ")[0], cells[2], cells[3].rstrip("×"))


def of_charts(one: Study) -> Iterator[Printed]:
    def rows(chart) -> list[dict]:
        spec = embedding.specification(chart)
        return [row for columns in spec["datasets"].values() for row in embedding.rows(columns) if "interval" in row]

    ratios = {row["name"]: row["interval"] for row in rows(speed.speedup(one.group.rows))}
    for row in rows(speed.speed(one.group.rows, one.group.replies)):
        rate, ends = re.match(rf"({NUMBER})(?: \((.*)\))?$", row["interval"]).groups()
        yield Printed(named(row["name"]), rate, ends or "", ratios[row["name"]].partition("×")[0])


def of_matrix(one: Study) -> Iterator[Printed]:
    (matrix,) = overview.matrices([(one.group, "a", None), (one.group, "b", None)])
    for label, told in zip(matrix.labels, matrix.rows[0][2], strict=True):
        ratio = re.match(rf"({NUMBER})×", told.words)
        yield Printed(named(label), re.search(rf"({NUMBER}) token/s", told.words)[1], ratio=ratio[1] if ratio else "")


def of_headline(one: Study) -> Iterator[Printed]:
    said = answer(one.group).headline.striptags()
    lead = re.search(rf"({NUMBER}) token/s \(95\s%\sinterval ({NUMBER}–{NUMBER})\)", said)
    found = re.search(rf"a speed-up of ({NUMBER})×.*? over (.*) at ({NUMBER}) token/s", said)
    first = min((label for label in LABELS.values() if label in said), key=said.index)
    if lead and found:
        yield Printed(named(first), lead[1], lead[2], found[1], found[3])


def of_terminal(one: Study) -> Iterator[Printed]:
    for line in collect.headlines(one.summary):
        found = re.search(rf"/(\w+)\s+({NUMBER}) token/s (?:\((.*?)\))?\s*({NUMBER})?", line)
        yield Printed(found[1], found[2], found[3] or "", found[4] or "")


def of_advice(one: Study) -> Iterator[Printed]:
    guide, ask = Guide(one.summary), Ask("throughput", loss=None)
    for name in TECHNIQUES:
        rate, _, ratio = advise.in_figures(guide, name, ask).partition(", ")
        yield Printed(name, rate.partition(" ")[0], ratio=ratio.partition("×")[0])


OUTPUTS = {one.__name__: one for one in (of_table, of_markdown, of_charts, of_matrix, of_headline, of_terminal, of_advice)}


def ends(text: str) -> tuple[float, float]:
    """The least and the most that a printed number may stand for."""
    plain = text.replace(",", "")
    half = 0.5 * 10 ** -len(plain.partition(".")[2])
    return float(plain) - half, float(plain) + half


@pytest.mark.parametrize("output", [name for name in OUTPUTS if name not in ("of_matrix", "of_advice")])
def test_no_interval_of_a_speed_reaches_beyond_the_slowest_and_the_fastest_reply(studies, output):
    printed = [(one, told) for one in studies for told in OUTPUTS[output](one) if told.interval]
    assert printed, "no interval was printed"
    for one, told in printed:
        low, high = told.interval.split("–")
        assert ends(low)[1] >= min(one.rates[told.technique]), told
        assert ends(high)[0] <= max(one.rates[told.technique]), told


@pytest.mark.parametrize("output", OUTPUTS)
def test_a_printed_ratio_is_that_of_the_printed_speeds_to_their_rounding(studies, output):
    count = 0
    for one in studies:
        told = {each.technique: each for each in OUTPUTS[output](one)}
        for each in told.values():
            base = each.over or (told["baseline"].speed if "baseline" in told else "")
            if each.technique in one.bounds:
                assert not each.ratio or re.search("^at (least|most) [0-9]", each.ratio), each
                continue
            if each.technique in one.uneven or not each.ratio or not base:
                continue
            count += 1
            (low, high), (slow, fast), (least, most) = ends(each.speed), ends(base), ends(each.ratio)
            assert low / fast <= most, each
            assert high / slow >= least, each
    assert count, "no ratio was printed"


def test_where_a_ratio_is_another_one_that_is_said_everywhere(studies, monkeypatch, capsys, tmp_path):
    """An earlier speedgrid counted disturbed runs like quiet ones where one side had no quiet run; none is so now."""
    assert not any(one.uneven for one in studies)
    for one in studies:
        told = [row["technique"] for row in one.summary if row["speedup"] is not None and not row["is_baseline"]][:2]
        older = [row | ({"speedup": 1.2 * row["speedup"]} if row["technique"] in told else {}) for row in one.summary]
        (group,) = tables.groups(older, [])
        labels = {LABELS[name] for name in told}
        said = {
            "page": [text.striptags() for text in answer(group).warnings],
            "markdown": markdown.summary(made.study(), [(group, answer(group).headline)], [], []).replace("\\", "").splitlines(),
            "advise": advise_says(older, monkeypatch, capsys, tmp_path),
        }
        for where, lines in said.items():
            (line,) = [line for line in lines if UNEVEN in line]
            assert {label for label in LABELS.values() if label in line} == labels, where


def advise_says(summary: list[dict], monkeypatch, capsys, folder) -> list[str]:
    records.write(folder / "summary.parquet", schema.SUMMARY, summary)
    monkeypatch.setattr(sys, "argv", ["advise.py", "--results", str(folder)])
    assert advise.main() == 0
    return capsys.readouterr().out.splitlines()


def test_a_comparison_prints_the_ratio_of_the_two_speeds_beside_it_or_what_is_known_of_it(studies):
    seen = set()
    for before, after in itertools.pairwise(studies):
        found = comparison.compare(before.results, after.results)
        for change in found.cells:
            _, _, a, b, ratio, _, remark = compared.row(change)
            seen.add(change.ratio.hidden)
            if change.ratio.hidden and not change.ratio.is_bound:
                assert ratio == "open"
                continue
            if change.ratio.is_bound:
                side, bound = ("A", f"at most {units.bound(change.ratio.high)}") if change.ratio.low is None else ("B", "at least ")
                assert ratio.startswith(bound)
                assert f"no quiet run of {side}" in remark
                continue
            (low, high), (slow, fast), (least, most) = ends(b), ends(a), ends(ratio)
            assert change.ratio.value == pytest.approx(change.after.value / change.before.value)
            assert low / fast <= most, change
            assert high / slow >= least, change
            for side, own in ((before, change.before), (after, change.after)):
                assert (
                    min(side.rates[change.technique]) * (1 - 1e-9) <= own.low <= own.high <= max(side.rates[change.technique]) * (1 + 1e-9)
                )
    assert False in seen
