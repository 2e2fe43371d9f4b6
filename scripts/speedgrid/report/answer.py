"""The answer in words, computed from the rows of a group: what to use, what it costs, and how sure that is.

What leads is the fastest that keeps the model's quality (report/advice.py decides that); what is faster at a price is named with it.
Every sentence holds for any study: which of them are said, and with which figures, follows from the rows alone. Sentences are Markup with
their names escaped.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import NamedTuple, cast

import pandas as pd
from markupsafe import Markup

from speedgrid import commands, standing
from speedgrid.known import CUDA_CONTEXT_WITHIN
from speedgrid.quality.scores import HELD_OUT
from speedgrid.report import grown, phrases, questions, trust, units
from speedgrid.report.advice import (
    APART,
    FASTEST,
    LOSS_BEHIND,
    SMALLEST_SAVING,
    Advice,
    Ask,
    advise,
    between_gpus,
    is_beside_random_weights,
    label_of_baseline,
    needs,
    seconds,
    why_unknown,
)
from speedgrid.report.advised import Guide, price
from speedgrid.report.charts.base import Figure
from speedgrid.report.charts.proof import proof_figure
from speedgrid.report.language import tr, tr_html
from speedgrid.report.machines import NO_GPU, Gpus
from speedgrid.report.quality import TASKS
from speedgrid.report.tables import Group, each, held
from speedgrid.schema import MEASURED, NOT_RUN, STATUSES
from speedgrid.workload import PLURALS, WORKLOADS

# Under so many parameters a model is taken to be overhead-bound. One decoding step of a bfloat16 model reads its weights once: 300 million
# of them are 0.6 GB, which a GPU of 1 to 3 TB/s reads in 0.2 to 0.6 ms. What eager PyTorch spends on launching the step's several hundred
# kernels from Python is of that order or more.
OVERHEAD_BOUND_PARAMETERS = 300_000_000
# The same on a processor: 10 to 20 GB/s read 20 million weights in float32 in 4 to 8 ms, and Python's share of a step is 2 to 5 ms. A model
# of 135 million took 90 ms a step on two cores.
OVERHEAD_BOUND_ON_CPU = 20_000_000
# The same of a step of training or a pass, by its operations: how often a parameter is used hangs on the model and the batch. On an H200
# a step of ResNet-50 took 27 ms at a batch of 32 (0.8 trillion) in TF32, bfloat16 and compiled alike, and 117 to 40 ms at one of 256.
OVERHEAD_BOUND_OPERATIONS = 1_000_000_000_000
# Processors of 0.1 to 2 TFLOP/s do 10 billion in 5 to 100 ms; a step of a Llama of two layers took 40 ms on two busy cores.
OVERHEAD_BOUND_OPERATIONS_ON_CPU = 10_000_000_000


class Priceless(NamedTuple):
    """What holds of techniques that have no price in quality, in the sentences that say it: before the answer, where there are none, and of
    memory (the share, the baseline, its peak)."""

    before: str
    none: str
    memory: str


# Where quality was measured, by what tells it (workload.py), and where nobody measured any.
PRICELESS = {
    "evaluated": Priceless(
        "Without a measurable loss of quality, ",
        "Nothing was measured here without a measurable loss of quality.",
        "No technique lowers memory by {}\u00a0% or more without a measurable loss of quality; {} takes {}.",
    ),
    "loss": Priceless(
        "With a loss that falls as the baseline's does, ",
        "Nothing was measured here with a loss that falls as the baseline's does.",
        "No technique lowers memory by {}\u00a0% or more with a loss that falls as the baseline's does; {} takes {}.",
    ),
}
UNMEASURED = Priceless(
    "With the model's arithmetic unchanged, ",
    "Nothing was measured here with the model's arithmetic unchanged.",
    "No technique lowers memory by {}\u00a0% or more with the model's arithmetic unchanged; {} takes {}.",
)


MOST_NAMED = 3  # techniques of a kind that the sentences with the headline name; the list below has all of them
FEW = 4  # so many further points stand there without a click
LENGTHS_DIFFER = 0.05  # by how much mean reply lengths may differ before the page says so
PHASES_DIFFER = 1.25  # from this factor on between what a technique does to decode and to prefill both are told


@dataclass(frozen=True)
class Answer:
    """What one who has to choose needs: the headline of a group and the few sentences that go with it, `key`, with the chart that proves
    it, where there is one. A level lower: what else was `found`, and `doubts`, which is how sure all of that is; and the warnings."""

    headline: Markup
    key: list[Markup]
    found: list[Markup]
    doubts: list[Markup]
    warnings: list[Markup]
    proof: Figure | None = None
    choice: str | None = None  # the technique that the headline advises
    price: Markup | None = None  # the sentence of `key` on what is faster at a price
    texts: Markup | None = None  # that of `found` on the text that prices are of

    @property
    def in_short(self) -> Markup:
        """The headline and what is faster at a price, for places that show no more of the answer; there the bits per byte of a table may be
        those of another text."""
        return Markup(" ").join(filter(None, [self.headline, self.price, self.texts if self.price else None]))

    @property
    def points(self) -> list[Markup]:
        """All sentences under the headline."""
        return [*self.key, *self.found, *self.doubts]

    @property
    def is_short(self) -> bool:
        """Whether what stands a level lower is so little that it needs no click."""
        return len(self.found) + len(self.doubts) <= FEW


class Memory(NamedTuple):
    """What is said of memory: the sentence that goes with the headline, and all of it."""

    key: Markup | None
    said: list[Markup]


# What is said of a technique among others: of so few columns a table is cut in a tenth of the time.
TOLD = ("technique", "label", "verdict", "unit", "rate", "rate_low", "rate_high", "speedup", "speedup_low", "speedup_high")


@dataclass(frozen=True)
class Ranked:
    """The techniques of a group as the answer tells them: `best` is what the headline is about; where nothing can be advised, the fastest.
    `others` are all but the baseline, the fastest first; `faster` those that are surely faster than it, or all where there is none. Of
    these `dearer` are faster than the best and have a price in quality, and `perhaps` those with a price that may be no faster. `open` may
    be as fast as the best, and `same` are."""

    best: pd.Series
    others: pd.DataFrame
    faster: pd.DataFrame
    dearer: pd.DataFrame
    perhaps: pd.DataFrame
    open: Sequence[str]
    same: Sequence[str]


def answer(
    group: Group,
    devices: frozenset[str] = frozenset(),
    hosts: Sequence[str] = (),
    study_file: str = commands.DEFAULT[0],
    variables: Mapping[str, Sequence[str]] = MappingProxyType({}),
    gpus: Gpus = NO_GPU,
) -> Answer:
    """The answer for one group; `devices` are the kinds that it was measured on, `cuda` or `cpu`, `hosts` the names of the machines, where
    there may be several, `study_file` that of its study, empty where it is not known, `variables` those of the environment in which its
    runs differ (machines.differing), and `gpus` on how many of a kind it was."""
    if group.engaged.empty:
        waits = (group.rows.status == NOT_RUN).any()
        nothing = (
            tr_html("Nothing could be measured here, so there is no answer.")
            if group.measured.empty
            else tr_html("Nothing that was measured here can be ranked, so there is no answer.")
        )
        headline = tr_html("Nothing has been measured here yet.") if waits else nothing
        warnings = standing_notes(group.records) + _ended_early_warning(group)
        return Answer(headline, _excluded(group), [], [], warnings)
    guide = Guide(group.records)
    advice = guide.advise(FASTEST)
    open_points = trust.open_points(group, study_file)
    memory, ranked = _memory(group, guide), _ranked(group, guide, advice)
    key = _key_points(group, guide, advice, ranked, memory, bool(open_points))
    found = [point for point in (*_speed_points(group, guide, advice, ranked, memory), *_excluded(group)) if point and point not in key]
    doubts = [point for point in (*open_points, trust.noise_sentence(group)) if point]
    return Answer(
        *(_headline(group, guide, advice), key, found, doubts, _warnings(group, devices, hosts, variables, gpus)),
        proof=proof_figure(group, guide.qualities),
        choice=None if group.seeks_largest else advice.choice,
        price=_price_point(guide, ranked),
        texts=_texts_point(guide),
    )


# The headline and the points under it


def _headline(group: Group, guide: Guide, advice: Advice) -> Markup:
    if group.seeks_largest:
        return grown.headline(group)
    engaged, baseline = group.engaged.set_index("technique", drop=False), group.baseline
    if advice.choice is None:
        return tr_html(_priceless(group, guide).none)
    best = engaged.loc[advice.choice]
    speed = phrases.speed(best, tr("95 % interval "))
    if len(engaged) == 1:
        return tr_html("Only <strong>{}</strong> was measured: {}.").format(best.label, speed)
    of_those = tr_html(_priceless(group, guide, advice.choice).before) if _has_priced_rivals(guide, advice) else Markup("")
    close, unsure = engaged.loc[list(advice.ties)], engaged.loc[list(advice.open)]
    if best.is_baseline:
        if (unsure.rate > best.rate).any():
            return _none_surely_faster(of_those, best, engaged.loc[[*advice.ties, *advice.open]], unsure)
        as_fast = tr_html("; {} is as fast") if len(close) == 1 else tr_html("; {} are as fast")
        rest = as_fast.format(phrases.names(close.label)) if len(close) else ""
        if len(unsure):
            lead = tr_html("Nothing here is surely faster than <strong>{}</strong>, the baseline: {}{}.")
        else:
            lead = tr_html("Nothing here is faster than <strong>{}</strong>, the baseline: {}{}.")
        return _below(of_those, lead).format(best.label, speed, rest) + _may_be(unsure)
    if len(close):
        lead = tr_html("{} are the fastest and equally fast: {} has {}").format(
            phrases.names([best.label, *close.label]), best.label, speed
        )
    elif len(unsure):
        lead = tr_html("<strong>{}</strong> leads with {}").format(best.label, speed)
    else:
        lead = tr_html("<strong>{}</strong> is the fastest: {}").format(best.label, speed)
    lead = of_those + lead
    if baseline is None:
        if group.measured.is_baseline.any():
            none = tr_html("{}. There is no speed-up, because the figures of the baseline are left out.")
        else:
            none = tr_html("{}. There is no speed-up, because the baseline has no figures.")
        return none.format(lead) + _may_be(unsure)
    if baseline.technique in list(close.technique):
        return tr_html("{}.").format(lead) + _may_be(unsure)
    # A baseline that is not open is surely beaten by another one.
    if best.verdict == "unsure" and baseline.technique in advice.open:
        return _none_surely_faster(of_those, baseline, engaged.loc[[best.technique]], unsure[~unsure.is_baseline])
    if units.is_unknown(best.speedup, best.speedup_low, best.speedup_high):
        over = tr_html("{}; how much faster that is than {} at {} {}/s is open.")
        return over.format(lead, baseline.label, units.number(baseline.rate), best.unit) + _may_be(unsure)
    over = tr_html("{}, a speed-up of {} over {} at {} {}/s.")
    return over.format(lead, phrases.ratio(best), baseline.label, units.number(baseline.rate), best.unit) + _may_be(unsure)


def _none_surely_faster(of_those: Markup, baseline: pd.Series, rows: pd.DataFrame, unsure: pd.DataFrame) -> Markup:
    """That the baseline has a lower speed than the fastest of some rows, and nothing shows that it is slower; and what else may be as
    fast."""
    highest = rows.loc[rows.rate.idxmax()]
    lead = _below(of_those, tr_html("Nothing here is surely faster than <strong>{}</strong> at {} {}/s."))
    told, speed = lead.format(baseline.label, units.number(baseline.rate), baseline.unit), phrases.speed(highest, tr("95 % interval "))
    if units.is_unknown(highest.speedup, highest.speedup_low, highest.speedup_high):
        told += tr_html(" The highest speed is that of <strong>{}</strong>: {}.").format(highest.label, speed)
    else:
        told += tr_html(" The highest speed is that of <strong>{}</strong>: {}, {}.").format(highest.label, speed, phrases.ratio(highest))
    return told + _may_be(unsure[unsure.technique != highest.technique])


def _below(of_those: Markup, sentence: Markup) -> Markup:
    """A sentence after the words that say of which techniques it holds, if any."""
    return of_those + Markup(sentence[:1].lower() + sentence[1:]) if of_those else sentence


def _has_priced_rivals(guide: Guide, advice: Advice) -> bool:
    """Whether something that costs quality, or may, is faster than what the headline names, or as fast, or may be: that leads the others
    alone."""
    if advice.better or advice.choice is None:
        return bool(advice.better)
    chosen = guide.option(advice.choice)
    return any(not guide.qualities[name].is_safe for name in (*chosen.open, *chosen.same))


def _priceless(group: Group, guide: Guide, choice: str | None = None) -> Priceless:
    """What holds of the techniques that have no price in quality; `choice` is the one that the sentence names, if any."""
    is_assumed = choice is not None and guide.qualities[choice].kind == "assumed"
    known = not is_assumed and any(quality.kind in ("kept", "loss") for quality in guide.qualities.values())
    told = WORKLOADS[group.workload].quality
    return PRICELESS[told] if known and told in PRICELESS else UNMEASURED


def _may_be(rows: pd.DataFrame) -> Markup:
    """That what these runs leave open may be as fast as the one that leads."""
    return tr_html(" Whether {} could be as fast is open.").format(phrases.names(rows.label)) if len(rows) else Markup("")


def _key_points(group: Group, guide: Guide, advice: Advice, ranked: Ranked, memory: Memory, is_open: bool) -> list[Markup]:
    """The few sentences that go with the headline: at what quality and size, what is most frugal, what is faster at a price, and how sure
    the answer is; `is_open`: whether these runs leave anything open."""
    best = ranked.best
    # Where something has a price, the headline says that what it names has none.
    says = _has_priced_rivals(guide, advice) and guide.qualities[best.technique].kind == "kept"
    points: list[Markup | None] = []
    if advice.choice and not best.is_baseline and not says and not group.seeks_largest:
        points.append(_quality_point(guide, best))
    points += [grown.compared(group), memory.key]
    points.append(_price_point(guide, ranked))
    # The headline says what could be as fast as what it names.
    if advice.choice and not advice.open and len(group.engaged) > 1 and not group.seeks_largest:
        points.append(_decided_point(group, guide, is_open, _has_priced_rivals(guide, advice)))
    return [point for point in points if point]


def _price_point(guide: Guide, ranked: Ranked) -> Markup | None:
    """The first of what is faster at a price, or perhaps so."""
    if len(ranked.dearer):
        return _faster_at_a_price(ranked.dearer, guide, MOST_NAMED)
    return _perhaps_at_a_price(ranked.perhaps, ranked.best, guide, MOST_NAMED) if len(ranked.perhaps) else None


def _decided_point(group: Group, guide: Guide, is_open: bool, is_priced: bool) -> Markup | None:
    """What is sure beside who leads, of those without a price in quality where others may be faster (`is_priced`). Of two techniques
    further down nothing is claimed, and nothing of what may come yet; of who is alone without a price not that it leads."""
    if waiting := int((group.rows.status == NOT_RUN).sum()):
        said = tr_html(
            "The lead among what was measured is decided with 95\u00a0% confidence; <a href='#not-run'>not measured yet</a>: {}."
        )
        return said.format(waiting)
    baseline = group.baseline
    if is_priced and sum(guide.qualities[name].is_safe for name in group.engaged.technique) == 1:
        if is_open or baseline is None:
            return None
        return tr_html("How each of the others, taken alone, compares with {} is decided with 95\u00a0% confidence.").format(baseline.label)
    who = tr("Who leads without a price in quality") if is_priced else tr("Who leads")
    if is_open:
        return tr_html("{} is decided with 95\u00a0% confidence; what else these runs leave open stands below.").format(who)
    if baseline is None:
        return tr_html("{} is decided with 95\u00a0% confidence.").format(who)
    return tr_html("{} is decided with 95\u00a0% confidence, and so is how each of the others, taken alone, compares with {}.").format(
        who, baseline.label
    )


def _ranked(group: Group, guide: Guide, advice: Advice) -> Ranked:
    engaged = group.engaged
    best = group.fastest if advice.choice is None else engaged[engaged.technique == advice.choice].iloc[0]
    others = engaged.loc[~engaged.is_baseline, list(TOLD)].sort_values("rate", ascending=False)
    faster = others if group.baseline is None else others[others.verdict == "faster"]
    chosen = guide.option(advice.choice) if advice.choice else None
    doubtful, close = (chosen.open, chosen.same) if chosen else ((), ())
    # What costs quality may be no faster than what the headline names, whatever its speed is.
    priced = faster[faster.technique.isin(advice.better)]
    is_open = priced.technique.isin(advice.doubtful)
    return Ranked(best, others, faster, priced[~is_open], priced[is_open], doubtful, close)


def _faster_at_a_price(rows: pd.DataFrame, guide: Guide, most: int | None = None) -> Markup:
    return tr_html("Faster at a price: {}.").format(_in_order(rows, guide, most))


def _perhaps_at_a_price(rows: pd.DataFrame, best: pd.Series, guide: Guide, most: int | None = None) -> Markup:
    said = tr_html("At a price, and perhaps no faster than {}: {}.")
    return said.format(best.label, units.listed(_first(_with_ratios(rows, guide), most)))


def _first(told: list[Markup], most: int | None) -> list[Markup]:
    """The first of what is told, and how many more stand below."""
    left = 0 if most is None else len(told) - most
    return [*told[:most], tr_html("{} more below").format(left)] if left > 0 else told


def _speed_points(group: Group, guide: Guide, advice: Advice, ranked: Ranked, memory: Memory) -> list[Markup | None]:
    """Everything that was found, in the order in which it matters."""
    baseline, best, others, dearer, perhaps = group.baseline, ranked.best, ranked.others, ranked.dearer, ranked.perhaps
    # Without a baseline the rest is called slower, which what is open may not be.
    told = (*dearer.technique, *perhaps.technique, *advice.ties, advice.choice, *((*ranked.open, *ranked.same) if baseline is None else ()))
    rest = ranked.faster[~ranked.faster.technique.isin(told)]
    points: list[Markup | None] = [_quality_point(guide, best), _bits_point(guide, best)] if advice.choice else []
    points += memory.said
    if len(dearer):
        points.append(_faster_at_a_price(dearer, guide))
    if len(perhaps):
        points.append(_perhaps_at_a_price(perhaps, best, guide))
    if len(rest):
        than = tr_html("Slower: {}.") if baseline is None else tr_html("Faster than {}, too: {}.")
        points.append(than.format(*([] if baseline is None else [baseline.label]), _in_order(rest, guide)))
    if baseline is not None:
        same, slower = (others[others.verdict == verdict] for verdict in ("same", "slower"))
        if len(same):
            points.append(tr_html("As fast as {}: {}.").format(baseline.label, units.listed(_with_ratios(same, guide))))
        if len(slower):
            behind = units.listed(_with_ratios(slower[::-1], guide, priced=False))
            points.append(tr_html("Slower than {}: {}.").format(baseline.label, behind))
    points += [_texts_point(guide), _phases_point(best, baseline), _pays_point(best), trust.ceiling_point(best), _mfu_point(best)]
    return [*points, *_loss_points(group), *grown.points(group)]


def _in_order(rows: pd.DataFrame, guide: Guide, most: int | None = None) -> Markup:
    """Techniques from the fastest on, each with its price; those that are equally fast stand together. Of more than `most` the first."""
    ties: list[list[int]] = []
    same = {option.technique: option.same for option in guide.options}
    shown = rows if most is None else rows.iloc[:most]
    for place, name in enumerate(shown.technique):
        if ties and name in same[rows.technique.iloc[ties[-1][0]]]:
            ties[-1].append(place)
        else:
            ties.append([place])
    told = [units.listed(_with_ratios(rows.iloc[places], guide)) + (tr_html(", equally fast") if places[1:] else "") for places in ties]
    left = len(rows) - len(shown)
    return Markup("; ").join([*told, tr_html("{} more below").format(left)] if left else told)


def _with_ratios(rows: pd.DataFrame, guide: Guide, priced: bool = True) -> list[Markup]:
    """Each technique with its speed-up, or its speed where there is none, and with what it costs in quality."""
    told = []
    for row in each(rows):
        quality = guide.qualities[row.technique]
        cost = f" {price(quality, short=True)}" if priced and not quality.is_safe else ""
        known = not units.is_unknown(row.speedup, row.speedup_low, row.speedup_high)
        ratio = phrases.ratio(row) if known else phrases.speed(row)
        told.append(Markup("<strong>{}</strong> {}{}").format(row.label, ratio, cost))
    return told


def _quality_point(guide: Guide, best: pd.Series) -> Markup | None:
    """What the technique that leads does to quality, and how that is known."""
    quality = guide.qualities[best.technique]
    if quality.kind in ("kept", "assumed"):
        return tr_html("Quality of {}: {}.").format(best.label, quality.words)
    if WORKLOADS[best.workload].quality != "evaluated" or not units.is_missing(best.bits_per_byte):
        return None
    row = guide.by_name[best.technique]
    why = why_unknown(row)
    told = phrases.recorded(why) if why == row["quality_reason"] else why
    return tr_html("Quality of {}: not measured ({}).").format(best.label, told)


def _bits_point(guide: Guide, best: pd.Series) -> Markup | None:
    """Its bits per byte, but for random weights, of which they say nothing."""
    if units.is_missing(best.bits_per_byte) or guide.qualities[best.technique].kind == "assumed":
        return None
    said = tr_html("{} has {} bits per byte on held-out text; less is better.")
    return said.format(best.label, units.number(best.bits_per_byte, 4))


def _texts_point(guide: Guide) -> Markup | None:
    """Of what text the prices in bits per byte are, where one is not of the held-out text, which the page shows them of elsewhere."""
    texts = {quality.of or tr(TASKS[HELD_OUT]): quality.of for quality in guide.qualities.values() if quality.is_bits}
    if not any(texts.values()):
        return None
    words = tr_html("A price in bits per byte is that on the text on which the technique loses most: {}.")
    return words.format(tr(" or ").join(texts))


def _phases_point(best: pd.Series, baseline: pd.Series | None) -> Markup | None:
    """What a technique does to the reading of the prompt and to the writing of the reply, where it is not the same."""
    # What bounds the speed-up alone says no more of its phases.
    if baseline is None or best.is_baseline or units.is_missing(best.speedup):
        return None
    columns = ("decode_tokens_per_s", "prefill_tokens_per_s")
    known = [name for name in columns if not (units.is_missing(best[name]) or units.is_missing(baseline[name])) and baseline[name] > 0]
    ratios = [float(best[name] / baseline[name]) for name in known]
    if len(ratios) < 2 or not max(ratios) > PHASES_DIFFER * min(ratios):
        return None
    words = tr_html("{} writes the reply {}× and reads the prompt {}× as fast as {} (medians; their ratios have no interval).")
    return words.format(best.label, *(units.number(ratio, 2) for ratio in ratios), baseline.label)


def _pays_point(best: pd.Series) -> Markup | None:
    """After how many replies the fastest technique has made up for what it spends before its replies are fast."""
    if best.is_baseline or units.is_missing(best.break_even_replies) or best.break_even_replies <= 0:
        return None
    count = int(best.break_even_replies)
    if count <= 1:
        after = tr_html("{} takes longer before its replies are fast, and has made up for it after the first reply").format(best.label)
    else:
        after = tr_html("{} takes longer before its replies are fast, and has made up for it after {} replies like these").format(
            best.label, units.number(count)
        )
    if units.is_missing(best.break_even_replies_high):
        return tr_html("{}; at the slow end of its interval it never does.").format(after)
    return tr_html("{}.").format(after)


def _mfu_point(best: pd.Series) -> Markup | None:
    """What of the device's arithmetic a training step or a pass used."""
    if units.is_missing(best.run_mfu) or questions.was_disturbed(best):
        return None
    if best.run_mfu > 1:
        return tr_html(
            "{} seems to reach {} % of the rate of matrix products that this device was seen to do, which is impossible: the probe was"
            " disturbed, or operations were counted that were not done."
        ).format(best.label, units.number(100 * float(best.run_mfu), 2))
    return tr_html("{} reaches {} % of the rate of matrix products that this device was seen to do in the same number format.").format(
        best.label, units.number(100 * float(best.run_mfu), 2)
    )


def _as_large(group: Group) -> pd.DataFrame:
    """The cells at the baseline's size, of a series; all, where sizes are no matter or the baseline has none."""
    rows, baseline = group.engaged, group.baseline
    return rows if baseline is None or units.is_missing(baseline.point) else rows[rows.point == baseline.point]


def _loss_points(group: Group) -> list[Markup]:
    """Techniques whose loss did not end where that of the baseline did."""
    baseline = group.baseline
    if group.engaged.loss_last.isna().all():
        return []
    rows = _as_large(group)
    rows = rows[~rows.is_baseline]
    lost = rows[rows.loss_last.isna()]
    points = [tr_html("The loss of {} is not a number in the end: it diverged.").format(row.label) for row in each(lost)]
    if baseline is None or units.is_missing(baseline.loss_last) or baseline.loss_first <= baseline.loss_last:
        return points
    fell = baseline.loss_first - baseline.loss_last
    behind = rows[rows.loss_last - baseline.loss_last > LOSS_BEHIND * fell]
    behind = behind.loc[[not is_beside_random_weights(row, baseline) for row in behind.to_dict("records")]]
    told = [tr_html("{} from {} to {}").format(r.label, *map(units.number, (r.loss_first, r.loss_last))) for r in each(behind)]
    if told:
        own = tuple(map(units.number, (baseline.loss_first, baseline.loss_last)))
        points.append(tr_html("The loss ends higher than with {} (from {} to {}): {}.").format(baseline.label, *own, units.listed(told)))
    return points


def _memory(group: Group, guide: Guide) -> Memory:
    """The least memory that has no price in quality, and less than that with its price."""
    engaged, baseline = _as_large(group), group.baseline
    if baseline is None or units.is_missing(baseline.memory_peak):
        return Memory(None, [])
    engaged = engaged[engaged.memory_peak.notna()]
    if len(engaged) < 2:
        return Memory(None, [])
    # What loads with more than it replies with needs a card for that; "What fits" and the guide say the same. Where PyTorch told some and
    # the device the others, what stands beside one another is what a card must have.
    alike = engaged.memory_source.nunique() == 1
    taken = {name: cast(int, (held if alike else needs)(guide.by_name[name])) for name in engaged.technique}
    engaged = engaged.assign(taken=[taken[name] for name in engaged.technique])
    mine = taken[baseline.technique]
    if not mine > 0:
        return Memory(None, [])
    unit = units.scale("B", engaged.taken) if alike else units.NEEDED
    safe = engaged[[guide.qualities[name].is_safe for name in engaged.technique]]
    least = safe.loc[safe.taken.idxmin()] if len(safe) else None
    # Of several that need about as little, the guide takes the fastest: it is named here, too.
    advised = advise([guide.option(name) for name in safe.technique], Ask("memory")).choice
    least = next((row for row in each(safe) if row.technique == advised and _is_less(row, baseline, taken)), least)
    saves = least is not None and _is_less(least, baseline, taken)
    than = least if least is not None and saves else baseline
    less = pd.Series([_is_less(row, than, taken) for row in each(engaged)], engaged.index)
    dearer = engaged[less & ~engaged.technique.isin(safe.technique)].sort_values("taken")
    costs = [
        Markup("<strong>{}</strong> {} ({}) {}{}").format(
            row.label, unit.text(row.taken), _change(row, mine), price(guide.qualities[row.technique], short=True), _as_fast(row)
        )
        for row in each(dearer)
    ]
    at_a_price = tr_html("Less memory at a price: {}.")
    said = [at_a_price.format(Markup("; ").join(costs))] if costs else []
    if least is not None and saves:
        told = (least.label, unit.text(least.taken), unit.text(mine), _change(least, mine))
        if alike:
            before = Markup("")
            if baseline.memory_before and baseline.memory_before > 0:
                before = tr_html("; of both, some was held before any model was loaded, see the chart")
            most = tr_html("Most memory saved: <strong>{}</strong> peaks at {} instead of {} ({}){}{}.").format(
                *told, _as_fast(least), before
            )
        else:
            most = tr_html("Most memory saved: <strong>{}</strong> needs {} instead of {} ({}){}.").format(*told, _as_fast(least))
        return Memory(most, [most, *said])
    if least is None or least.taken > (1 - SMALLEST_SAVING) * mine:
        nothing = tr_html("No technique lowers memory by {}\u00a0% or more; {} takes {}.")
        words = tr_html(_priceless(group, guide).memory) if costs else nothing
        said.insert(0, words.format(round(SMALLEST_SAVING * 100), baseline.label, unit.text(mine)))
    if costs:
        return Memory(at_a_price.format(Markup("; ").join(_first(costs, MOST_NAMED))), said)
    return Memory(said[0] if said else None, said)


def _is_less(row, than, taken: Mapping[str, int]) -> bool:
    """Whether a technique takes less memory than another by as much as is called a saving, and by more than what is taken for CUDA itself
    may be wrong by where the device told one of them alone."""
    saved, within = taken[than.technique] - taken[row.technique], 0 if row.memory_source == than.memory_source else CUDA_CONTEXT_WITHIN
    return saved >= SMALLEST_SAVING * taken[than.technique] and saved > within


def _as_fast(row) -> str:
    """How fast what saves memory is over the baseline, to stand after that: a saving may cost most of the speed."""
    if units.is_unknown(row.speedup, row.speedup_low, row.speedup_high):
        return ""
    return tr(", {} as fast").format(units.speedup(row.speedup, row.speedup_low, row.speedup_high, row.verdict)[0])


def _change(row, mine: float) -> str:
    return units.percent(row.taken / mine - 1)


def _excluded(group: Group) -> list[Markup]:
    """The cells that the answer does not count, with the reason."""
    points = []
    for row in each(group.rows[group.rows.status == "not_engaged"]):
        points.append(tr_html("Not engaged: {}. {} It is left out of everything above.").format(row.label, phrases.sentence(row.reason)))
    for row in each(group.rows[group.rows.status == "ended_early"]):
        points.append(tr_html("Not ranked: {}. {} It is left out of everything above.").format(row.label, phrases.sentence(row.reason)))
    waiting = group.rows[group.rows.status == NOT_RUN]
    if len(waiting):
        points.append(tr_html("Not measured yet: {}; <a href='#not-run'>why</a>.").format(phrases.names(waiting.label)))
    failed = group.rows[~group.rows.status.isin((*MEASURED, NOT_RUN))]
    if len(failed):
        told = [Markup("{} ({})").format(row.label, tr(STATUSES.get(row.status, row.status))) for row in each(failed)]
        points.append(tr_html("Could not be measured: {}; <a href='#failed'>why</a>.").format(units.listed(told)))
    return points


# The warnings


def _warnings(
    group: Group, devices: frozenset[str], hosts: Sequence[str], variables: Mapping[str, Sequence[str]], gpus: Gpus
) -> list[Markup]:
    warnings = _toy_warning(group, on_cpu=devices == {"cpu"})
    written_out = group.measured.dequantized_from.dropna()
    if len(written_out) and written_out.iloc[0]:
        warnings.append(
            tr_html(
                "The weights of {} came as a GGUF file in {}, and were written out for all engines but llama.cpp. Quality is held against"
                " that model, not against the one that it was quantized from."
            ).format(group.model, written_out.iloc[0])
        )
    if devices == {"cpu"}:
        warnings.append(tr_html("Measured on a processor. On a GPU the ranking may be another one."))
    names = group.measured.device_name.dropna().unique()
    if len(names) > 1:
        warnings.append(tr_html("The cells ran on different devices, so that speeds do not compare: {}.").format(phrases.names(names)))
    elif hosts:
        words = tr_html(
            "Measured under {} host names: {}. Where these are several machines, what differs between them is a part of the speed-ups."
        )
        warnings.append(words.format(len(hosts), phrases.names(hosts)))
    elif gpus.number > 1:
        warnings.append(_several_gpus(group, gpus))
    warnings += _variables_warning(group, variables)
    warnings += standing_notes(group.records)
    warnings += _ended_early_warning(group) + _length_warning(group) + trust.warnings(group)
    if (group.engaged.replies < 10).any():
        fewest = int(group.engaged.replies.min())
        if fewest == 1:
            told = tr_html("Of some techniques a single {} was counted, which gives no interval: set <code>replies</code> higher.")
            warnings.append(told.format(tr(group.noun)))
        else:
            told = tr_html("As few as {} {} were counted, which leaves intervals wide: set <code>replies</code> higher to narrow them.")
            warnings.append(told.format(fewest, tr(PLURALS[group.noun])))
    return warnings


def _several_gpus(group: Group, gpus: Gpus) -> Markup:
    """That ratios are between GPUs, and which speed-ups are (advice.APART)."""
    said = tr_html(
        "Measured on {} GPUs of one machine, each run on one of them: what they differ by is a part of the ratios between cells."
    )
    told = [said.format(gpus.number)]
    if between := [row["label"] for row in between_gpus(group.records, gpus.apart)]:
        told.append(tr_html(APART).format(phrases.names(between), phrases.names([label_of_baseline(group.records)])))
    return Markup(" ").join(told)


def _toy_warning(group: Group, on_cpu: bool) -> list[Markup]:
    """That the model, or a step of it, is so small that fixed costs are most of what was timed."""
    if group.noun == "reply":
        size, least = group.measured.parameters.max(), OVERHEAD_BOUND_ON_CPU if on_cpu else OVERHEAD_BOUND_PARAMETERS
        what: tuple[str, ...] = (group.model,)
        words = tr_html(
            "<strong>{} has only {} parameters.</strong> Under about {}, the fixed costs of a step (Python, starting kernels, choosing"
            " the token) tend to outweigh what most techniques speed up, so the ranking says little about a model of 7 billion"
            " parameters: <a href='#own-model'>measure your own</a>."
        )
    elif WORKLOADS[group.workload].of and not group.seeks_largest:
        rows = [row for row in group.measured.to_dict("records") if not units.is_missing(row["flop_per_s"])]
        size = max((row["flop_per_s"] * (seconds(row) or math.nan) for row in rows), default=math.nan)
        least = OVERHEAD_BOUND_OPERATIONS_ON_CPU if on_cpu else OVERHEAD_BOUND_OPERATIONS
        what = (tr(group.noun), group.model)
        words = tr_html(
            "<strong>A {} of {} takes only {} operations.</strong> Under about {}, its fixed costs (Python, starting kernels) tend to"
            " outweigh what most techniques speed up, so the ranking says little about larger models and batches:"
            " <a href='#own-model'>measure your own</a>."
        )
    else:
        return []
    if units.is_missing(size) or size >= least:
        return []
    return [words.format(*what, phrases.in_words(size), phrases.in_words(least))]


def _variables_warning(group: Group, variables: Mapping[str, Sequence[str]]) -> list[Markup]:
    """That not all runs had the same variables of the environment, and which of them had what."""
    if not variables:
        return []
    labels = dict(zip(group.rows.technique, group.rows.label, strict=True))
    told = [
        Markup("<code>{}</code> ({})").format(variable, phrases.names(labels.get(name, name) for name in names))
        for variable, names in variables.items()
    ]
    words = tr_html(
        "Variables of the environment that change speed or arithmetic were set in some runs and not in others, and may be what differs"
        " between them: {}."
    )
    return [words.format(units.listed(told))]


def standing_notes(rows: Sequence[Mapping]) -> list[Markup]:
    """That figures of these rows of schema.SUMMARY are of older code or environments, or left out because they are of other settings."""
    return [tr_html(text).format(*values) for text, values in standing.notes(rows)]


def _ended_early_warning(group: Group) -> list[Markup]:
    """Techniques whose replies came to an end token before all that they were asked for."""
    rows = group.measured[group.measured.new_tokens < group.measured.new_tokens_asked]
    if not len(rows):
        return []
    told = [
        tr_html("{} {} of {} tokens in {} reply" if row.replies == 1 else "{} {} of {} tokens in {} replies").format(
            row.label, *map(units.number, map(int, counts))
        )
        for row in each(rows)
        for counts in [(row.new_tokens, row.new_tokens_asked, row.replies)]
    ]
    words = tr_html(
        "Replies ended early, at an end token, so that less was timed than was asked for: {}. <code>ignore_eos: true</code> has them go on."
    )
    return [words.format(units.listed(told))]


def _length_warning(group: Group) -> list[Markup]:
    """Techniques whose replies have another length did other work: a longer reply spreads its prefill over more tokens."""
    lengths = (group.engaged.new_tokens / group.engaged.replies).dropna()
    if len(lengths) < 2 or lengths.max() / lengths.min() - 1 <= LENGTHS_DIFFER:
        return []
    text = tr_html(
        "Replies differ in length, from {} to {} tokens on average: the techniques did not do the same work. Compare decode speeds."
    )
    return [text.format(units.number(lengths.min()), units.number(lengths.max()))]
