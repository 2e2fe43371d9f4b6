"""Advice in words: what the guide of the page and `./speedgrid advise` say of a group. Texts are plain; the page escapes them."""

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property

from speedgrid.known import usable
from speedgrid.report import command, recipes, units
from speedgrid.report.advice import (
    AHEAD,
    BY_SPEED,
    CARDS_GB,
    GOALS,
    Advice,
    Ask,
    Option,
    Quality,
    advise,
    figure,
    is_ranked,
    needs,
    options,
    qualities,
    ratio_notes,
    start,
)
from speedgrid.report.language import told_reason, tr
from speedgrid.report.machines import gpus
from speedgrid.report.together import origin
from speedgrid.schema import STATUSES, group_of
from speedgrid.workload import PLURALS, WORKLOADS

ITEMS_PRICED = 1_000_000
# What is said of a search for the largest size, by what grows.
FITS = {
    "batch_size": "The largest batch that fits, found to within a sixteenth: {}.",
    "sequence": "The largest sequence that fits, found to within a sixteenth: {}.",
    "layers": "The largest model that fits, found to within a sixteenth: {}.",
}


@dataclass(frozen=True)
class Guide:
    """What can be said of one group: its rows of schema.SUMMARY, the study's file, empty where it is not known, the registry that its
    techniques are in, what an hour of its device costs, where the study says that, the settings of its experiment, whether its model came
    as a GGUF file, and the techniques whose speed-ups are between two GPUs (machines.Gpus)."""

    rows: Sequence[Mapping]
    study_file: str = ""
    registry: Mapping = field(default_factory=dict)
    price_per_hour: float | None = None
    settings: Mapping = field(default_factory=dict)
    is_gguf: bool = False
    apart: Sequence[str] = ()

    @cached_property
    def by_name(self) -> dict[str, Mapping]:
        return {row["technique"]: row for row in self.rows}

    @cached_property
    def options(self) -> list[Option]:
        return options(self.rows)

    @cached_property
    def qualities(self) -> dict[str, Quality]:
        return qualities(self.rows)

    @cached_property
    def unit(self) -> str:
        """What items are: `token`, `image` or `pass`."""
        return next((row["unit"] for row in self.rows if is_ranked(row) and row["unit"]), "item")

    @property
    def noun(self) -> str:
        return WORKLOADS[self.rows[0]["workload"]].noun

    @cached_property
    def baseline(self) -> Mapping | None:
        return next((row for row in self.rows if row["is_baseline"] and is_ranked(row)), None)

    def advise(self, ask: Ask) -> Advice:
        return advise(self.options, ask)

    def priced(self, ask: Ask) -> Ask:
        """The same question at the study's price, where it names none of its own."""
        return ask if ask.price is not None else replace(ask, price=self.price_per_hour)

    def label(self, technique: str) -> str:
        return self.by_name[technique]["label"]

    def command(self, technique: str) -> str:
        """The command that measures a cell again, in a checkout without its results."""
        target = "/".join(["results", *group_of(self.rows[0]), technique, "measure.parquet"])
        return command.run(self.study_file, target)

    def code(self, technique: str) -> str:
        """The lines that apply a technique, on the kind of device that it was measured on; empty where there are none."""
        row = self.by_name[technique]
        device = "cpu" if row["memory_source"] == "process" else "cuda"
        written = f"models/{row['model']}/checkpoint" if self.is_gguf else ""
        work = (row["workload"], row["unit"] or "", json.loads(row["evidence"] or "{}"), self.settings)
        return recipes.code(technique, self.registry, row["dtype"] or "", device, *work, written)

    def costs(self, technique: str) -> list[str]:
        """What a technique costs: quality, memory, its start, and the making of its checkpoint."""
        row = self.by_name[technique]
        told = [tr("quality: {}").format(self.qualities[technique].words)]
        if (need := needs(row)) is not None:
            told.append(_memory(row, need, self.baseline))
        if (cold := start(row)) is not None:
            told.append(tr("start: {} until it runs at that speed").format(units.scale("s", [cold]).text(cold, 2)))
        if not units.is_missing(row["quantize_s"]):
            told.append(tr("checkpoint: {} to make, once").format(units.scale("s", [row["quantize_s"]]).text(row["quantize_s"], 2)))
        return told

    def figure(self, value: float, ask: Ask) -> str:
        """A figure of the goal with its unit."""
        if ask.goal == "memory":
            return gigabytes(value)
        if ask.goal == "energy":
            return f"{units.number(float(value))} J/{self.unit}"
        if ask.goal == "throughput":
            return f"{units.number(float(value))} {self.unit}/s"
        if ask.goal == "latency":
            return tr("{0} a {1}").format(units.scale("s", [value]).text(float(value)), tr(self.noun))
        items, amount = tr(units.plural(self.unit)), units.number(float(value * ITEMS_PRICED))
        if ask.price is None:
            return tr("{0} device hours per million {1}").format(amount, items)
        return tr("{0} per million {1} at {2} an hour").format(amount, items, units.number(float(ask.price)))

    def amount(self, technique: str, ask: Ask) -> float | None:
        """Its figure by the goal."""
        return figure(self.option(technique), ask)

    def option(self, technique: str) -> Option:
        return next(one for one in self.options if one.technique == technique)

    def speedup(self, technique: str) -> str:
        """Its speed-up with the interval; empty for the baseline and where there is none."""
        row = self.by_name[technique]
        figure = tuple(row[name] for name in ("speedup", "speedup_low", "speedup_high", "verdict"))
        if units.is_open(*figure):
            return _unknown_gain()
        text = units.speedup_in_full(*figure)
        return "" if row["is_baseline"] or text == units.MISSING else text

    def why_not(self, technique: str, ask: Ask) -> list[str]:
        """Which limits a better technique is beyond."""
        option = self.option(technique)
        told = []
        if ask.budget is not None and (option.needs is None or option.needs > ask.budget):
            told.append(needed(option))
        if ask.loss is not None and (option.loss is None or option.loss > ask.loss):
            told.append(price(self.qualities[technique]))
        return told

    @property
    def none(self) -> str:
        """What is said where no technique can be advised."""
        if not self.options:
            return tr("Nothing was measured here.")
        return tr("Nothing that was measured here has a figure for this goal and stays within these limits.")

    def unknown(self, ask: Ask) -> list[str]:
        """The measured techniques of which the figure by the goal is not known."""
        return [one.technique for one in self.options if figure(one, ask) is None]

    @property
    def without_figures(self) -> list[Mapping]:
        """The rows of cells of which nothing is said, for want of figures that are those of their technique."""
        return [row for row in self.rows if not is_ranked(row)]


def no_code(guide: Guide, technique: str) -> str:
    """What stands in the place of the code where there is none."""
    if technique in guide.registry:
        return tr("The code for it is not known here.")
    return tr("The code for it is not known here: its own study defines it, and lies elsewhere.")


def figure_in_words(guide: Guide, technique: str, ask: Ask) -> str:
    """Its figure by the goal with its unit, as an estimate where it is one; empty where it is not known."""
    if (amount := guide.amount(technique, ask)) is None:
        return ""
    said = guide.figure(amount, ask)
    return tr("about {} (from mean power)").format(said) if ask.goal == "energy" and guide.option(technique).about else said


def sure(guide: Guide, goal: str) -> str:
    """How sure figures of a goal are that is no speed."""
    if goal == "memory":
        return tr(
            "What CUDA itself takes is known to within 0.2\u00a0GiB where PyTorch reported the memory, so that a difference of up to that"
            " from what the driver reported is open; the least by these figures is named."
        )
    said = tr("Energy has no interval: what is close may be as good.")
    about = tr("A figure from mean power is an estimate, right to within about a quarter.")
    return f"{said} {about}" if any(one.about for one in guide.options) else said


def uneven_ratios(guide: Guide) -> list[str]:
    """What has to be said of speed-ups that are not the ratio of the speeds beside them, or are between two GPUs; nothing where there are
    none."""
    told = ratio_notes(guide.rows, guide.apart)
    return [tr(text).format(units.listed(labels).unescape(), baseline) for text, labels, baseline in told]


def guide_of(rows: Sequence[Mapping], study: Mapping, registry: Mapping, runs: Sequence[Mapping] = ()) -> Guide:
    """The guide of a group, from its rows of schema.SUMMARY and those of schema.RUNS that measured it (machines.measuring), with the names
    that its own study has, which may be one of several that `study` joins (together.py)."""
    own = origin(study, group_of(rows[0]))
    known = {**registry, **own.techniques}
    hour = study.get("prices", {}).get(rows[0]["gpu"])
    is_gguf = "gguf" in own.models.get(rows[0]["model"], {})
    apart = gpus(runs, next((row["technique"] for row in rows if row["is_baseline"] and is_ranked(row)), None)).apart
    return Guide([{**row, "gpu": own.gpu} for row in rows], own.study_file, known, hour, own.settings, is_gguf, apart)


def seeks_largest(rows: Sequence[Mapping]) -> bool:
    """Whether a group was asked for the largest size that fits, and not for a speed to choose by."""
    return WORKLOADS[rows[0]["workload"]].seeks_largest


def by_size(rows: Sequence[Mapping]) -> list[Mapping]:
    """The rows with the largest size that they took, the largest first."""
    return sorted((row for row in rows if is_ranked(row) and row["largest"]), key=lambda row: -row["largest"])


def gain(guide: Guide, technique: str, ask: Ask) -> str:
    """How fast a technique is over the baseline, to stand beside its figure: its speed-up, or, where starts count, the ratio of the two
    figures with their starts, which has no interval. Empty where there is none, and that bound or that it is open where disturbance hides
    how fast it is."""
    if not ask.starts or units.is_missing(guide.by_name[technique]["speedup"]):
        return guide.speedup(technique)
    if guide.baseline is None or technique == guide.baseline["technique"]:
        return ""
    timed = ask if ask.goal in BY_SPEED else replace(ask, goal="throughput")
    own, base = (guide.amount(name, timed) for name in (technique, guide.baseline["technique"]))
    if own is None or base is None:
        return ""
    return f"{units.number(own / base if timed.goal == 'throughput' else base / own, 2)}×"


def as_fast(ratio: str) -> str:
    """A speed-up, as Guide.speedup or `gain` tells it, in a sentence that does not name it."""
    return ratio if ratio in ("", _unknown_gain()) else tr("{} as fast as the baseline").format(ratio)


def _unknown_gain() -> str:
    """What stands in the place of a speed-up of which nothing is known, since disturbance hides it."""
    return tr("speed-up open")


def against_baseline(guide: Guide, technique: str) -> str:
    """What has to be said of a choice by speed that is not surely faster than the baseline; of the baseline itself, that there is no reason
    to leave it; empty where there is nothing to be held against."""
    row = guide.by_name[technique]
    if row["is_baseline"]:
        reason = tr("No other technique within these limits is surely better, or more than {} % ahead.")
        return reason.format(round(100 * (AHEAD - 1))) if len(guide.options) > 1 else ""
    if guide.baseline is None or row["verdict"] == "faster":
        return ""
    if row["verdict"] == "slower":
        return tr("Once started, it is slower than the baseline.")
    if row["verdict"] == "same":
        return tr("Once started, it is as fast as the baseline.")
    return tr("It is not certain that it is faster than the baseline.")


def doubts(advice: Advice, technique: str) -> list[str]:
    """What has to be said of a technique that is better than the choice by the goal, where that is open."""
    return [tr("perhaps no better")] if technique in advice.doubtful else []


def goal(name: str, nouns: Iterable[str], counted: Iterable[str]) -> str:
    """A goal in words, for groups in which these were timed (replies, steps or passes) and these were counted (tokens, images, passes)."""
    timed = list(dict.fromkeys(nouns))
    if name == "latency" and timed and "reply" not in timed:
        return tr("the least time of a {}").format(tr(" or ").join(map(tr, timed)))
    return tr(GOALS[name]).format(tr(" or ").join(tr(units.plural(unit)) for unit in dict.fromkeys(counted)))


def _memory(row: Mapping, need: float, baseline: Mapping | None) -> str:
    if baseline is None or row["is_baseline"] or (other := needs(baseline)) is None:
        return tr("memory: needs {}").format(gigabytes(need))
    return tr("memory: needs {}, the baseline {}").format(gigabytes(need), gigabytes(other))


def price(quality: Quality, short: bool = False) -> str:
    """What a technique costs in quality, to stand after its speed-up; `short`: without the reason why it is not known, or of what text."""
    if quality.kind == "unknown":
        return tr("with unknown quality") if short else tr("quality {}").format(quality.words)
    words = quality.in_short if short else quality.words
    return tr("for {}").format(words) if quality.is_bits else tr("at a loss: {}").format(words)


def needed(option: Option) -> str:
    """How much memory a technique takes, in words."""
    return tr("memory not known") if option.needs is None else tr("needs {}").format(gigabytes(option.needs))


def gigabytes(value: float) -> str:
    return units.NEEDED.text(float(value))


def outcome(row: Mapping) -> str:
    """Why a cell has no figures, in words."""
    said = tr(STATUSES.get(row["status"], row["status"]))
    return f"{said}: {told_reason(row['reason'])}" if row["reason"] else said


# On the page


def page_data(groups: Iterable[tuple[str, Guide]]) -> dict:
    """What the page's guide needs of its groups, by their titles; each code stands once."""
    codes: dict[str, int] = {}
    guides = list(groups)
    told = [_group_data(title, guide, codes) for title, guide in guides]
    goals = {name: goal(name, [guide.noun for _, guide in guides], [guide.unit for _, guide in guides]) for name in GOALS}
    nouns = tr(" or ").join(dict.fromkeys(tr(PLURALS[guide.noun]) for _, guide in guides))
    cards = [(size, usable(size)) for size in CARDS_GB]
    return {"groups": told, "codes": list(codes), "cards": cards, "goals": goals, "nouns": nouns}


def _group_data(title: str, guide: Guide, codes: dict[str, int]) -> dict:
    cells = []
    for option in guide.options:
        name = option.technique
        words = {
            "label": guide.label(name),
            "speedup": guide.speedup(name),
            "as_fast": as_fast(guide.speedup(name)),
            "costs": guide.costs(name),
            "price": "" if guide.qualities[name].is_safe else price(guide.qualities[name]),
            "beyond": needed(option),
            "beside": against_baseline(guide, name),
            "code": codes.setdefault(guide.code(name) or no_code(guide, name), len(codes)),
        }
        cells.append(asdict(option) | words)
    unmeasured = [f"{row['label']} ({tr(STATUSES.get(row['status'], row['status']))})" for row in guide.without_figures]
    named = {
        "title": title,
        "unit": guide.unit,
        "units": tr(units.plural(guide.unit)),
        "price": guide.price_per_hour,
        "noun": tr(guide.noun),
        "command": guide.command("@"),
        "sure": {name: sure(guide, name) for name in ("energy", "memory")},
    }
    columns = {name: [cell[name] for cell in cells] for name in cells[0]} if cells else {}
    said = tr("Left out of this answer: {}.").format("; ".join(unmeasured)) if unmeasured else ""
    return named | {"cells": columns, "unmeasured": said, "none": guide.none}
