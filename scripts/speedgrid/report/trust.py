"""How far the figures of a group can be trusted, in words and as a table: noise, what is open, drift, the machine's state, energy.

Sentences follow from the rows alone; names in them are escaped.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from markupsafe import Markup

from speedgrid import commands, state, stats
from speedgrid.ceilings import BOUNDS
from speedgrid.report import command, phrases, questions, units
from speedgrid.report.advice import ratio_notes
from speedgrid.report.figures_table import TableCell
from speedgrid.report.language import tr, tr_html
from speedgrid.report.tables import Group, each
from speedgrid.sharpen import Question, Subject

# Nat of KL divergence that llama.cpp publishes of its formats for Llama 3 8B (its tools/perplexity/README.md), and how many times that is
# still explained by the model: of small ones the same format costs several times as much.
PUBLISHED = {"Q8_0": 0.0014, "Q6_K": 0.0055}
STILL_FORMAT = 70
TOLD_SHARE = 0.03  # of a decoding step: by so much a figure may be off llama-bench's before the page says why


@dataclass(frozen=True)
class MachineRow:
    """What was seen of the machine while one technique was measured; texts, `disturbed` empty for a quiet one. A cell has its figure in
    the unit of its column, or why there is none, and what else was read."""

    label: str
    quiet: str
    disturbed: str
    cells: list[TableCell]


LOWERING = ("power cap", *(state.CLOCK_REASONS[bit] for bit in state.SLOWDOWNS))
# With the unit of each.
MACHINE_COLUMNS = {
    "CPU used by others": "%",
    "CPU stolen": "%",
    "SM clock": "MHz",
    "Clock lowered by": "",
    "Highest temperature": "°C",
    "Power": "W",
    "Idle power": "W",
    "Energy per token": "J",
}


def noise_sentence(group: Group) -> Markup:
    """How far one run of the baseline, or of the fastest where there is none, is from the next, and from what that is known; and what it
    does to intervals that they are made again and again."""
    row = group.baseline if group.baseline is not None else group.fastest
    if units.is_missing(row.noise):
        return Markup("")
    rates = [units.number(float(rate)) for rate in row.run_rates]
    looks = Markup("")
    if not units.is_missing(row.confidence) and row.confidence > stats.CONFIDENCE:
        looks = tr_html(
            " <code>runs: auto</code> looks again after further runs: its intervals of speed-ups are wider for that, so that 95\u00a0% of"
            " them hold, however often it looked."
        )
    if len(rates) < 2:
        once = tr_html("Noise between runs of {}: {} (standard deviation), from what such cells have shown; it ran once.")
        return once.format(row.label, _share(row.noise)) + looks
    said = tr_html(
        "Noise between runs of {}: {} (standard deviation), from {} of its own runs and what such cells have shown elsewhere."
    ).format(row.label, _share(row.noise), int(row.runs))
    return said + tr_html(" Its runs: {} {}/s.").format(units.listed(rates), group.unit) + looks


def warnings(group: Group) -> list[Markup]:
    """Drift that is more than noise, and the cells whose run was disturbed."""
    found = []
    rows = group.measured[group.measured.baseline_drift.notna()]
    if len(rows):
        drift, low, high = (rows[name].iloc[0] for name in ("baseline_drift", "baseline_drift_low", "baseline_drift_high"))
        sure = not units.is_missing(low) and (low > 0 or high < 0)
        if sure:
            said = tr_html(
                "The machine drifted: from its first run to its last the baseline changed by {}; this is included in the noise"
                " between runs."
            )
            found.append(said.format(units.percent(drift)))
    for row in each(group.engaged):
        seen = json.loads(row.evidence or "{}")
        if late := seen.get("compiled_while_counting", 0):
            words = tr_html("{} was still being compiled while it was counted ({}×); give it more warm-up replies.")
            found.append(words.format(row.label, late))
        if method := seen.get("dequantized_from"):
            words = tr_html("{} computes in {}: the checkpoint's weights in {} were dequantized when it was loaded.")
            found.append(words.format(row.label, seen.get("dtype", "another format"), method))
        if seen.get("took_what_was_free"):
            words = tr_html("How much memory {} needs is not known: for this kind of model it takes what is free.")
            found.append(words.format(row.label))
        if left := seen.get("left_as_it_was"):
            words = tr_html("{} quantizes {} of the weights of the layers, and leaves {} as it was.")
            found.append(words.format(row.label, _share(seen["quantized_share"]), left))
        if seen.get("functions_given_up"):
            words = tr_html(
                "torch.compile gave up a part of {}, which it would have had to compile too often, and ran it as it is: its log says"
                " which function and why."
            )
            found.append(words.format(row.label))
    found += _failed_runs(group)
    found += _far_warnings(group)
    found += _sampling_warning(group)
    found += _memory_warning(group)
    found += uneven_ratios(group)
    disturbed = group.measured[group.measured.disturbed.astype(bool)]
    if len(disturbed) > 2:
        first = disturbed.iloc[0]
        words = tr_html(
            "{} of {} techniques were disturbed while they were measured, such as {}: {}. Such runs count less. “Was the machine quiet?”"
            " names them."
        )
        found.append(words.format(len(disturbed), len(group.measured), first.label, phrases.recorded(first.disturbed)))
    else:
        for row in each(disturbed):
            runs = Markup(" ({})").format(_disturbed_runs(row)) if row.runs > 1 else ""
            if row.repeats > 0:
                words = tr_html(
                    "{}{} was disturbed while it was measured, and again when its replies were counted anew: {}. A disturbed run counts"
                    " less."
                )
            else:
                words = tr_html("{}{} was disturbed while it was measured: {}. A disturbed run counts less.")
            found.append(words.format(row.label, runs, phrases.recorded(row.disturbed)))
    return found


def _failed_runs(group: Group) -> list[Markup]:
    """The cells of which a further run ended otherwise than the first, and that their figures are not of it."""
    words = tr_html("{} of {} runs of {} did not end as the first did ({}); no figure includes them.")
    rows = group.measured[group.measured.runs_failed > 0]
    return [words.format(int(row.runs_failed), int(row.runs + row.runs_failed), row.label, row.run_failure) for row in each(rows)]


def uneven_ratios(group: Group, apart: Collection[str] = ()) -> list[Markup]:
    """That a speed-up is not the ratio of the speeds beside it, or only a bound, or between two GPUs, of techniques that are `apart`
    (machines.Gpus), where that is so."""
    told = ratio_notes(group.records, apart)
    return [tr_html(text).format(phrases.names(labels), phrases.names([baseline])) for text, labels, baseline in told]


def _disturbed_runs(row) -> Markup:
    return tr_html("{} of {} runs").format(int(row.runs_disturbed), int(row.runs))


def _sampling_warning(group: Group) -> list[Markup]:
    """What readers who hold a figure of llama.cpp against llama-bench's have to know, where it is more than they would take for noise."""
    shares = {row.label: json.loads(row.evidence or "{}").get("sampling_share") or 0 for row in each(group.engaged)}
    shown = [f"{_share(share)} ({label})" for label, share in shares.items() if share >= TOLD_SHARE]
    if not shown:
        return []
    words = tr_html(
        "llama.cpp picks tokens on the processor, which takes part of each decoding step: {}. llama-bench picks none, so it shows more."
    )
    return [words.format(units.listed(shown))]


def _far_warnings(group: Group) -> list[Markup]:
    """Quantized files of llama.cpp that are further from the unmodified model than their format explains: llama.cpp has code of its own for
    each family of models, and what is not lossless is not held to the model. Pruned and distilled models are other models."""
    rows, found = group.engaged, []
    for row in each(rows[(rows.family != "compression") & rows.kl_divergence.notna()]):
        kind = json.loads(row.evidence or "{}").get("file_type")
        published = PUBLISHED.get(kind)
        if published is None or row.kl_divergence <= STILL_FORMAT * published:
            continue
        words = tr_html(
            "{} is at a KL divergence of {} nat from the unmodified model, and {} usually costs about {}: llama.cpp may compute another"
            " model. <code>gguf_f16</code> in the study tells, which is held to the unmodified one."
        )
        found.append(words.format(row.label, units.number(row.kl_divergence, 2), kind, units.number(published, 2)))
    return found


def _memory_warning(group: Group) -> list[Markup]:
    """That peaks of memory on one page mean two things, where PyTorch's allocator told some and the device the others."""
    measured = group.measured[group.measured.memory_peak.notna()]
    whole = list(measured[measured.memory_source == "device"].label)
    if not whole or not (measured.memory_source == "allocator").any():
        return []
    words = tr_html(
        "Peak memory of {} is that of the whole device, with what CUDA itself takes; of the others it is what PyTorch allocated. Where"
        " they are compared, 0.6 GiB for CUDA is added to PyTorch's figures, and a difference of up to 0.2 GiB counts as none."
    )
    return [words.format(units.listed(whole))]


def open_points(group: Group, study_file: str = commands.DEFAULT[0]) -> list[Markup]:
    """What these runs leave open, and what would decide it: the questions that could change the answer (questions.of), then the other
    verdicts on the baseline. Of a group that has engaged cells, of the study in this file, empty where that is not known."""
    rows = {row["technique"]: row for row in group.records}
    asked: dict[tuple, list[Question]] = {}
    for one in questions.of(list(rows.values())):
        kind = one.subject, one.against, questions.is_stuck(one, rows), one.alone, one.quiet, one.limited
        asked.setdefault(kind, []).append(one)
    auto = tr_html("To measure that: <code>{}</code>, or set <code>runs</code> higher where the study sets a number.").format(
        command.run(study_file, sharpen=True)
    )
    by_hand = tr_html("To measure that, set <code>runs</code> higher in the study.")
    again = tr_html("The same command measures that, too.")
    stuck = tr_html(
        "A further run failed, so that <code>--sharpen</code> makes no more of these; set <code>runs</code> higher in the study."
    )
    points: list[Markup] = []

    def by_command(is_stuck: bool) -> Markup:
        """How the runs that `runs: auto` makes come about; in full where no point has said so yet."""
        return stuck if is_stuck else again if auto in Markup(" ").join(points) else auto

    said_already: set[Markup] = set()

    def price(some: Sequence[Question], how: Markup) -> Markup:
        """What would decide it, and how that comes about; each in full where no point has said so yet."""
        words, takes_runs, besides = _price(some, rows)
        # "3 more runs of each" are those of others where others are asked about.
        if words in said_already and some[0].alone:
            return tr_html("The same runs would decide this, too.")
        said_already.add(words)
        return Markup(" ").join(filter(None, (words, how if takes_runs else "", besides)))

    def against_baseline(some: Sequence[Question], how: Markup) -> Markup:
        said = tr_html("Open: faster or slower than {}: {}. {}")
        open_rows = group.engaged[group.engaged.technique.isin([one.technique for one in some])]
        ratios = [_with_ratio(row) for row in each(open_rows)]
        return said.format(rows[some[0].against]["label"], units.listed(ratios), price(some, how))

    base = None if group.baseline is None else group.baseline.technique
    for (subject, against, is_stuck, *_), some in asked.items():
        if subject is not Subject.BASELINE and against == base:
            points.append(against_baseline(some, by_command(is_stuck)))
        elif subject is not Subject.BASELINE:
            said = tr_html("Open: whether {} could be as fast as {}. {}")
            names = phrases.names(rows[one.technique]["label"] for one in some)
            points.append(said.format(names, rows[against]["label"], price(some, by_command(is_stuck))))
    if base is None:
        return points
    told = {
        name for some in asked.values() for one in some for name in (one.technique, one.against) if base in (one.technique, one.against)
    }
    rest: dict[tuple, list[Question]] = {}
    for name in group.engaged.technique:
        if rows[name]["verdict"] == "unsure" and name not in told:
            one = questions.question(rows, name, base, Subject.BASELINE)
            rest.setdefault((one.alone, one.quiet, one.limited), []).append(one)
    few = [(some, is_stuck) for (subject, _, is_stuck, *_), some in asked.items() if subject is Subject.BASELINE]
    for some, is_stuck in (*few, *((some, None) for some in rest.values())):
        points.append(against_baseline(some, by_hand if is_stuck is None else by_command(is_stuck)))
    return points


def _with_ratio(row) -> Markup:
    """A technique with what is known of its speed-up, if anything is."""
    if units.is_unknown(row.speedup, row.speedup_low, row.speedup_high):
        return Markup("{}").format(row.label)
    return Markup("{} {}").format(row.label, phrases.ratio(row))


def _price(asked: Sequence[Question], rows: Mapping[str, Mapping]) -> tuple[Markup, bool, Markup]:
    """What decides questions on one technique: how many further runs of each, and how long they take; whether it is runs; and what of the
    questions these leave open."""
    nothing = Markup()
    against = rows[asked[0].against]
    sides = [rows[one.technique] for one in asked]
    if units.is_missing(against["rate_low"]) or all(units.is_missing(row["rate_low"]) for row in sides):
        return (
            tr_html("Too few replies were counted for an interval: set <code>replies</code> higher in the study."),
            False,
            nothing,
        )
    busy = {row["technique"]: row for row in (*sides, against) if questions.was_disturbed(row)}
    if asked[0].limited:
        words = tr_html(
            "The CPU limit of the container slowed {}: further runs would not decide it; a higher limit helps, or fewer"
            " <code>threads</code> of the device than the limit has CPUs."
        )
        return words.format(phrases.names(row["label"] for row in busy.values() if questions.is_limited(row))), False, nothing
    priced = [one for one in asked if one.needed]
    never = [rows[one.technique] for one in asked if one.told and not one.needed]
    if not priced and len(never) == len(asked):
        if busy:
            words = tr_html("Too close, or too noisy beside other work: twenty more runs of each would not decide it; a quiet machine may.")
            return words, False, nothing
        return tr_html("Too close, or too noisy: twenty more runs of each would not decide it."), False, nothing
    if alone := asked[0].alone:
        said = _quiet_run(rows[alone])
    else:
        said = _enough(priced, against, rows)
        if asked[0].quiet and busy:
            names = phrases.names(row["label"] for row in busy.values())
            few = tr_html("{} was disturbed whenever it ran, and may be faster than it seems: {}")
            said = (few if len(busy) == 1 else tr_html("{} were disturbed whenever they ran, and may be faster than they seem: {}")).format(
                names, Markup(said[:1].lower() + said[1:])
            )
    unsettled = phrases.names(row["label"] for row in never)
    return said, True, tr_html("Twenty more runs would not decide it for {}.").format(unsettled) if never else nothing


def _quiet_run(row: Mapping) -> Markup:
    """That a cell was disturbed whenever it ran, and how long a further run of it takes."""
    said = tr_html("{} was disturbed whenever it ran, and may be faster than it seems; a run of it on a quiet machine would tell more{}.")
    took = "" if units.is_missing(row["run_s"]) else tr(", about {}").format(units.duration(row["run_s"]))
    return said.format(row["label"], took)


def _enough(priced: Sequence[Question], against: Mapping, rows: Mapping[str, Mapping]) -> Markup:
    """How many further runs decide what they decide, and how long these take."""
    quiet = bool(priced) and priced[0].quiet
    without_time = tr_html("{} of each on a quiet machine would decide it.") if quiet else tr_html("{} of each would decide it.")
    if not priced:
        return without_time.format(tr("More runs"))
    counts = [cast(int, one.needed) for one in priced]
    least, most = min(counts), max(counts)
    if most == 1:
        count = tr("1 more run")
    else:
        count = tr("{} more runs").format(most) if most == least else tr("{} to {} more runs").format(least, most)
    times = [rows[one.technique]["run_s"] for one in priced] + [against["run_s"]]
    if any(units.is_missing(seconds) for seconds in times):
        return without_time.format(count)
    whole = sum(seconds * needed for seconds, needed in zip(times, [*counts, most], strict=True))
    timed = (
        tr_html("{} of each on a quiet machine would decide it, about {}.") if quiet else tr_html("{} of each would decide it, about {}.")
    )
    return timed.format(count, units.duration(whole))


def ceiling_point(row) -> Markup | None:
    """How close a technique came to what its device allows in decode."""
    # Of what was disturbed whenever it ran it says how busy the machine was.
    if units.is_missing(row.decode_headroom) or questions.was_disturbed(row):
        return None
    share = units.number(100 / float(row.decode_headroom), 2)
    if row.decode_bound == "beyond":
        return tr_html("{} decodes faster than one reading of its weights for each token would allow: {}.").format(
            row.label, tr(BOUNDS["beyond"])
        )
    return tr_html(
        "{} decodes at {} % of the speed that this device allows for what it computes, so that at most {}× more could be had with these"
        " weights: {}."
    ).format(row.label, share, units.bound(float(row.decode_headroom)), tr(BOUNDS[row.decode_bound]))


def machine_rows(group: Group) -> list[MachineRow]:
    """The state of the machine during each measured technique."""
    found = []
    for row in each(group.measured):
        known = not units.is_missing(row.shared) or not units.is_missing(row.throttled)
        quiet = tr("no") if row.disturbed else tr("yes") if known else tr("not known")
        seen = group.states.get(row.technique, {})
        cells = [
            _cell(row.cpu_foreign, size=0.01, digits=2),
            _cell(row.cpu_stolen, size=0.01, digits=2),
            _cell(row.sm_clock_median, _reach(seen, "sm_clock_min", "sm_clock_max", 1e6), size=1e6),
            TableCell(_lowered(seen)),
            _cell(row.temperature_max, _from(seen)),
            _cell(row.power_mean),
            _cell(row.idle_power, missing=row.idle_power_reason),
            _cell(row.joule_per_token, missing=row.energy_reason),
        ]
        found.append(MachineRow(row.label, quiet, row.disturbed, cells))
    return found


def _reach(seen: Mapping, low: str, high: str, size: float) -> str:
    """The lowest and highest reading of a run; empty where they are not known."""
    least, most = seen.get(low), seen.get(high)
    return "" if least is None or most is None else f"{least / size:,.0f}–{most / size:,.0f}"


def _from(seen: Mapping) -> str:
    first = seen.get("temperature_first")
    return "" if first is None else tr("at first {}").format(f"{first:.0f}")


def _lowered(seen: Mapping) -> str:
    """What lowered the GPU's clock, with the share of the readings in which it did."""
    if not seen.get("clock_reasons"):
        return units.MISSING
    shares = json.loads(seen["clock_reasons"])
    told = [f"{name} {_share(share)}" for name, share in shares.items() if name in LOWERING]
    return ", ".join(told) or tr("nothing")


def evidence_words(evidence: str) -> str:
    """Evidence as people read it: `key: value` parts, in their order; what is no JSON stays as it is."""
    try:
        seen = json.loads(evidence)
    except ValueError:
        return evidence
    return "; ".join(f"{name.replace('_', ' ')}: {_plain(value)}" for name, value in seen.items()) if isinstance(seen, dict) else evidence


def _plain(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{name} {_plain(inner)}" for name, inner in value.items()) or tr("none")
    if isinstance(value, list):
        return ", ".join(map(_plain, value)) or tr("none")
    return tr("not known") if value is None else tr("yes" if value else "no") if isinstance(value, bool) else str(value)


def _share(value: float) -> str:
    return units.MISSING if units.is_missing(value) else f"{units.number(100 * float(value), 2)} %"


def _cell(value: float, note: str = "", missing: str | None = None, size: float = 1.0, digits: int = units.DIGITS) -> TableCell:
    """A figure in a unit of that size with what else was read, or why there is none."""
    if units.is_missing(value):
        return TableCell(phrases.recorded(missing) if missing else units.MISSING)
    return TableCell(units.number(float(value) / size, digits), float(value) / size, note)
