"""Which technique to take, for what a reader needs: chosen from measured cells alone. Pure.

`options` makes of summary rows what a choice needs to know of each cell, `advise` chooses by it.

Verdicts between two speeds are those of the summary (stats.verdict); nothing here judges speeds anew.
"""

from collections.abc import Collection, Container, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import cast

from speedgrid import state
from speedgrid.known import CUDA_CONTEXT, CUDA_CONTEXT_WITHIN
from speedgrid.quality import excerpts
from speedgrid.quality.paired import NEGLIGIBLE
from speedgrid.quality.scores import HELD_OUT, RELATIVE
from speedgrid.report import units
from speedgrid.report.language import tr
from speedgrid.report.tables import held
from speedgrid.schema import MEASURED, NOT_RUN, STATUSES
from speedgrid.workload import WORKLOADS

GOALS = {
    "latency": "the shortest wait for a reply",
    "throughput": "the most {} a second",
    "memory": "the least memory",
    "energy": "the least energy",
    "money": "the lowest price",
}
# Goals that are decided by speed, so that verdicts between speeds say what ties.
BY_SPEED = ("latency", "throughput", "money")
CARDS_GB = (8, 12, 16, 24, 32, 40, 48, 80, 141)
STARTS_PER = 1000  # `starts` is how often the process starts in so many replies
SMALLEST_SAVING = 0.02  # less memory than this share is not called a saving
# Energy that is estimated from mean power is right to within a quarter: that of 36 cells on an H200 was 18 % below to 5 % above the
# counter's.
ESTIMATE_WITHIN = 1.25
AS_LONG = 1.05  # two times that differ by this factor at most are as long, where starts are part of them
AHEAD = 1.05  # what is ahead of the baseline by this factor at most, and not surely better, is no reason to change anything
# Quality that may be worse by more than this and nobody could see it is not known.
RESOLVES = 0.05
LOSS_BEHIND = 0.1  # a training loss that ends above the baseline's by more than this share of what that one fell is a loss of quality
RATIOS_DIFFER = 1e-4  # of a printed ratio that is further from that of the printed speeds it is said why
# Of cells whose speed-up is not the ratio of the speeds beside it, as an earlier speedgrid has them.
UNEVEN = (
    "The speed-up of {} counts disturbed runs like quiet ones, since one side was never measured on a quiet machine: it is not the"
    " ratio of the speeds that stand beside it."
)

# Of cells of whose speed-up no more than a bound is known (stats.over).
BOUNDED = (
    "Of the speed-up of {} only one end is known (“at least”, “at most”): the technique or the baseline was disturbed whenever it ran,"
    " and may be faster than it seems."
)
# Of cells of whose speed-up nothing is.
OPEN = "The speed-up of {} is open: the technique or the baseline was disturbed whenever it ran, and may be faster than it seems."
# Of cells that ran on none of the GPUs that the baseline ran on (machines.Gpus): what the two differ by is a part of the ratio.
APART = "{} ran on another GPU than {}: what the two differ by is a part of the speed-up."


@dataclass(frozen=True)
class Quality:
    """What a technique does to the model's quality.

    `kind`: `baseline`; `kept`: measured, and no worse than the baseline within what could be seen; `assumed`: keeps the arithmetic by
    construction, where nobody measured the quality of anything or its own is still to come; `loss`; `unknown`. `loss` is the share by
    which it is worse: 0 for the first three, None where it is not known. `words` say it; `is_bits` where they are a change of bits per
    byte, `of` of what text where that is not the held-out one.
    """

    kind: str
    loss: float | None
    words: str
    is_bits: bool = False
    of: str = ""

    @property
    def is_safe(self) -> bool:
        return self.loss == 0

    @property
    def loss_as_told(self) -> float | None:
        """The loss in the digits in which the words have it: what is told as the limit is within it."""
        if not self.loss or units.percent(self.loss) not in self.words:
            return self.loss
        return units.as_told(self.loss) or self.loss

    @property
    def in_short(self) -> str:
        """The words without the text that they are of."""
        return tr("{} bits per byte").format(units.percent(self.loss)) if self.is_bits and self.loss is not None else self.words


@dataclass(frozen=True)
class Option:
    """A measured cell, as numbers to choose by; None for what is not known of it.

    `seconds` of a reply, `rate` items a second, `start` seconds of a start of the process without the making of its checkpoint, `needs`
    bytes of memory, `by_device` whether the driver told them of the whole device, `joule` an item, `loss` as Quality tells it, `about`
    whether `joule` is estimated from mean power.
    `same` and `open` are techniques whose speed is the same or may be; `compared` is False where that is known against some of them alone,
    of which the baseline is one.
    """

    technique: str
    seconds: float | None
    rate: float | None
    start: float | None
    needs: int | None
    by_device: bool
    joule: float | None
    loss: float | None
    same: tuple[str, ...] = ()
    open: tuple[str, ...] = ()
    compared: bool = True
    about: bool = False
    is_baseline: bool = False


@dataclass(frozen=True)
class Ask:
    """What a reader needs: a goal; bytes of memory and share of quality to lose at most, None for any; starts of the process in 1,000
    replies; price of the device an hour."""

    goal: str = "latency"
    budget: float | None = None
    loss: float | None = 0.0
    starts: float = 0.0
    price: float | None = None


# What the first screen of the page asks: the most speed without a loss of quality that could be measured.
FASTEST = Ask("throughput")


@dataclass(frozen=True)
class Advice:
    """Techniques by name, the best first. `choice` with its figure; `ties`: as good; `open`: may be as good, these runs cannot say;
    `runner_up`: the best of the rest; `better`: better by the goal alone, and beyond a limit; `doubtful`: those of them of which these
    runs cannot say that they are."""

    choice: str | None
    figure: float | None
    ties: tuple[str, ...]
    open: tuple[str, ...]
    runner_up: str | None
    better: tuple[str, ...]
    doubtful: tuple[str, ...]

    def as_json(self) -> dict:
        return asdict(self)


# What decides


def advise(options: Sequence[Option], ask: Ask) -> Advice:
    """The best of the options that stay within the limits; the baseline, where nothing is a reason to leave it."""
    known = [(found, one) for one in options if (found := figure(one, ask)) is not None]
    sign = -1 if ask.goal == "throughput" else 1
    ranked = sorted(known, key=lambda pair: (sign * pair[0], pair[1].technique))
    pool = [pair for pair in ranked if _is_within(pair[1], ask)]
    if not pool:
        return Advice(None, None, (), (), None, tuple(one.technique for _, one in ranked), ())
    beaten = {pair[1].technique for pair in pool if _is_beaten(pair, pool, ask)}
    if ask.goal not in BY_SPEED:
        # The fastest of those that take as little. What may take as little is named, and is no reason to take more by these figures.
        least = pool[0]
        pool.sort(key=lambda pair: -(pair[1].rate or 0) if _is_tied(least, pair, ask) else 0)
    best = next((pair for pair in pool if pair[1].is_baseline and _may_stay(pair, pool, beaten, ask)), pool[0])
    rest = [pair for pair in pool if pair is not best]
    # Where starts are part of it the totals say what ties.
    tied = [pair[1].technique for pair in rest if _is_tied(best, pair, ask)]
    ties = tuple(name for name in tied if name not in beaten or (ask.goal in BY_SPEED and ask.starts))
    undecided = tuple(pair[1].technique for pair in rest if _is_open(best, pair, ask) and pair[1].technique not in {*ties, *beaten})
    runner_up = next((one.technique for _, one in rest if one.technique not in ties), None)
    better = [pair for pair in ranked if sign * pair[0] < sign * best[0] and pair not in pool and not _is_tied(best, pair, ask)]
    doubtful = tuple(pair[1].technique for pair in better if _is_open(best, pair, ask))
    return Advice(best[1].technique, best[0], ties, undecided, runner_up, tuple(one.technique for _, one in better), doubtful)


def figure(option: Option, ask: Ask) -> float | None:
    """An option by the goal: seconds a reply, items a second, bytes, joule an item, or price an item; None where it is not known."""
    if ask.goal == "memory":
        return option.needs
    if ask.goal == "energy":
        return option.joule
    if option.seconds is None or not option.rate:
        return None
    if ask.starts and option.start is None:
        return None
    spread = _starting(option, ask)
    seconds = option.seconds + spread
    if ask.goal == "latency":
        return seconds
    rate = option.rate * option.seconds / seconds if spread else option.rate
    return rate if ask.goal == "throughput" else (1 if ask.price is None else ask.price) / (3600 * rate)


def _starting(option: Option, ask: Ask) -> float:
    """The seconds that starts add to each reply."""
    return option.start * ask.starts / STARTS_PER if ask.starts and option.start is not None else 0.0


def is_too_large(option: Option, ask: Ask) -> bool:
    """Whether it is known to need more memory than there is."""
    return ask.budget is not None and option.needs is not None and option.needs > ask.budget


def _is_within(option: Option, ask: Ask) -> bool:
    if is_too_large(option, ask) or (ask.budget is not None and option.needs is None):
        return False
    return ask.loss is None or (option.loss is not None and option.loss <= ask.loss)


def _is_tied(best: tuple[float, Option], other: tuple[float, Option], ask: Ask) -> bool:
    """Whether one is as good as the other by the goal; each stands with its figure."""
    least, most = sorted((best[0], other[0]))
    if ask.goal == "memory":
        return least >= most * (1 - SMALLEST_SAVING)
    if ask.goal not in BY_SPEED:
        return False
    return most <= AS_LONG * least if ask.starts else other[1].technique in best[1].same


def _is_open(best: tuple[float, Option], other: tuple[float, Option], ask: Ask) -> bool:
    """Whether these runs cannot say that one is better; where starts are part of it, only if it would not be, were both as fast. Of memory
    by no more than what is taken for CUDA itself may be wrong by, where the driver told that of one alone; of energy by no more than
    an estimate may be wrong by."""
    choice, one = best[1], other[1]
    least, most = sorted((best[0], other[0]))
    if ask.goal == "memory":
        return one.by_device != choice.by_device and most - least <= CUDA_CONTEXT_WITHIN
    if ask.goal == "energy":
        return (one.about or choice.about) and most <= ESTIMATE_WITHIN * least
    if one.technique not in choice.open:
        return False
    if not ask.starts or choice.seconds is None:
        return True
    return _starting(one, ask) + choice.seconds <= AS_LONG * (_starting(choice, ask) + choice.seconds)


def _is_beaten(pair: tuple[float, Option], pool: Sequence[tuple[float, Option]], ask: Ask) -> bool:
    """Whether another one is surely better, so that it is neither as good as the best nor may be."""
    one = pair[1]
    if ask.goal in BY_SPEED:
        return any(_beats(other, one) and _starting(other, ask) <= _starting(one, ask) for _, other in pool)
    return any(other[0] < pair[0] and not _is_tied(other, pair, ask) and not _is_open(other, pair, ask) for other in pool)


def _may_stay(base: tuple[float, Option], pool: Sequence[tuple[float, Option]], beaten: Container[str], ask: Ask) -> bool:
    """Whether no other of the pool, of which the first is the best, is a reason to leave the baseline: surely better, or further ahead than
    AHEAD. Of what takes as little memory it is the speed that decides."""
    first, own = pool[0], base[1]
    if ask.goal in BY_SPEED:
        least, most = sorted((first[0], base[0]))
        return own.technique not in beaten and most <= AHEAD * least
    is_tied = _is_tied(min(pool, key=lambda pair: pair[0]), base, ask)
    return is_tied and not _beats(first[1], own) and (first[1].rate or 0) <= AHEAD * (own.rate or 0)


def _beats(one: Option, other: Option) -> bool:
    """Whether `one` is surely faster: faster, and no doubt is known."""
    near = one.technique == other.technique or other.technique in one.same or other.technique in one.open
    return (one.compared or other.is_baseline) and (one.rate or 0.0) > (other.rate or 0.0) and not near


# What is known of each cell


def options(rows: Sequence[Mapping]) -> list[Option]:
    """The measured and active cells of a group, from its rows of schema.SUMMARY."""
    judged = qualities(rows)
    measured = [row for row in rows if is_ranked(row)]
    against = closeness(measured)
    return [_option(row, judged[row["technique"]], against[row["technique"]]) for row in measured]


def is_ranked(row: Mapping) -> bool:
    """Whether a cell has figures that are those of its technique."""
    return row["status"] == "ok" and _known(row["rate"]) is not None


def uneven(rows: Sequence[Mapping]) -> list[Mapping]:
    """The cells of a group of which UNEVEN has to be said where their speed-up stands beside speeds."""
    base = next((row for row in rows if row["is_baseline"] and is_ranked(row)), None)
    known = [row for row in rows if base and is_ranked(row) and _known(row["speedup"]) is not None]
    return [row for row in known if base and abs(row["speedup"] * base["rate"] / row["rate"] - 1) > RATIOS_DIFFER]


def bounded(rows: Sequence[Mapping]) -> list[Mapping]:
    """The cells of a group of which BOUNDED has to be said."""
    return [row for row in rows if is_ranked(row) and units.is_bound(row["speedup"], row["speedup_low"], row["speedup_high"])]


def opened(rows: Sequence[Mapping]) -> list[Mapping]:
    """The cells of a group of which OPEN has to be said."""
    names = ("speedup", "speedup_low", "speedup_high", "verdict")
    return [row for row in rows if is_ranked(row) and units.is_open(*(row[name] for name in names))]


def between_gpus(rows: Sequence[Mapping], apart: Collection[str]) -> list[Mapping]:
    """The cells of a group of which APART has to be said, of the techniques that are `apart` (machines.Gpus)."""
    return [row for row in rows if row["technique"] in apart and is_ranked(row)]


def ratio_notes(rows: Sequence[Mapping], apart: Collection[str] = ()) -> list[tuple[str, list[str], str]]:
    """What has to be said of speed-ups of a group that are not the ratio of the speeds beside them, or are between two GPUs, of techniques
    that are `apart`: texts, each with the labels of whom, and of the baseline, which not every text has a place for."""
    baseline = label_of_baseline(rows)
    told = ((UNEVEN, uneven(rows)), (BOUNDED, bounded(rows)), (OPEN, opened(rows)), (APART, between_gpus(rows, apart)))
    return [(text, [row["label"] for row in found], baseline) for text, found in told if found]


def label_of_baseline(rows: Sequence[Mapping]) -> str:
    """The label of a group's baseline; empty where it has none."""
    return next((row["label"] for row in rows if row["is_baseline"]), "")


def _option(row: Mapping, quality: Quality, close: tuple[tuple[str, ...], tuple[str, ...], bool]) -> Option:
    joule, about = energy(row)
    return Option(
        technique=row["technique"],
        seconds=seconds(row),
        rate=_known(row["rate"]),
        start=start(row),
        needs=needs(row),
        by_device=row["memory_source"] == "device",
        joule=joule,
        loss=quality.loss_as_told,
        same=close[0],
        open=close[1],
        compared=close[2],
        about=about,
        is_baseline=bool(row["is_baseline"]),
    )


def energy(row: Mapping) -> tuple[float | None, bool]:
    """Joule an item, and whether that is estimated: mean power over the rate, of a cell that the energy counter was not watched of for long
    enough. Nothing where others used the device too, where counter and readings of power contradict each other, and of a series of sizes.

    Without it what is fast, which is done before the counter is right, would have no figure, and what is slow would be the most frugal.
    """
    measured = next((found for name in ("joule_per_token", "joule_per_item") if (found := _known(row[name])) is not None), None)
    used, watched, read, rate = (_known(row.get(name)) for name in ("energy", "watched_s", "power_mean", "rate"))
    is_split = " MIG " in (row["device_name"] or "")
    if measured is not None or _known(row.get("shared")) or is_split or _known(row.get("point")) is not None:
        return measured, False
    if not watched or not rate:
        return None, False
    counted = None if used is None else used / watched
    if counted is None or read is None:
        # Of one of the two alone nothing else tells that it is right.
        power = (read if counted is None else counted) if watched >= state.ENERGY_WINDOW else None
    else:
        power = counted if abs(counted - read) <= state.POWER_AGREES * read else None
    return (power / rate, True) if power else (None, False)


def seconds(row: Mapping) -> float | None:
    """Time of a reply, step or pass at its speed, so that what is faster also waits less; in older summaries the median time."""
    known = (_known(row.get(name)) for name in ("time_s", "latency_p50_s", "latency_mean_s"))
    return next((found for found in known if found is not None), None)


def start(row: Mapping) -> float | None:
    """Seconds that a start of the process costs: import, load, and what the first replies take more than a warm one. Making the checkpoint
    is not in it: that is done once."""
    if (once := _known(row["once_s"])) is not None:
        return max(0.0, once - (_known(row["quantize_s"]) or 0.0))
    cold, warm = _known(row["cold_start_s"]), seconds(row)
    return None if cold is None or warm is None else max(0.0, cold - warm)


def needs(row: Mapping) -> int | None:
    """Bytes that the device must have for a cell: those that its driver told; where only what PyTorch gave out is known, that and what CUDA
    itself takes as a rule. So cells are held against one another whatever their memory was read from."""
    most = held(row)
    return None if most is None else most + CUDA_CONTEXT if row["memory_source"] == "allocator" else most


def closeness(rows: Sequence[Mapping]) -> dict[str, tuple[tuple[str, ...], tuple[str, ...], bool]]:
    """For each ranked cell of a group those whose speed is the same, those whose speed may be, and whether it was held against all.

    An older summary knows the verdicts against the fastest and against the baseline alone.
    """
    same: dict[str, set[str]] = {row["technique"]: set() for row in rows}
    unsure: dict[str, set[str]] = {name: set() for name in same}
    complete = {row["technique"]: isinstance(row.get("same_as"), Sequence) for row in rows}
    first = next((row["technique"] for row in rows if row["standing"] == "first"), None)
    baseline = next((row["technique"] for row in rows if row["is_baseline"]), None)
    for row in rows:
        name = row["technique"]
        if complete[name]:
            same[name] |= set(row["same_as"]) & set(same)
            unsure[name] |= set(row["open_against"] or ()) & set(same)
            continue
        for other, verdict in ((first, row["standing"]), (baseline, row["verdict"])):
            for found in ({"same": same, "unsure": unsure}.get(verdict),):
                if found is not None and other is not None and other != name:
                    found[name].add(other)
                    found[other].add(name)
    return {name: (tuple(sorted(same[name])), tuple(sorted(unsure[name])), complete[name]) for name in same}


# Quality


def qualities(rows: Sequence[Mapping]) -> dict[str, Quality]:
    """What each measured technique of a group does to quality."""
    baseline = next((row for row in rows if row["is_baseline"] and _known(row["rate"]) is not None), None)
    found = {row["technique"]: _measured_quality(row, baseline) for row in rows if row["status"] in MEASURED}
    known = any(quality and quality.kind != "baseline" for quality in found.values())
    judged = {row["technique"]: row for row in rows}
    return {name: quality or _unmeasured(judged[name], known) for name, quality in found.items()}


def _measured_quality(row: Mapping, baseline: Mapping | None) -> Quality | None:
    """None where nothing was measured that tells."""
    if row["is_baseline"]:
        return Quality("baseline", 0.0, tr("the baseline"))
    told = WORKLOADS[row["workload"]].quality
    if told == "loss":
        return _of_training(row, baseline)
    if told == "float64":
        return Quality("kept", 0.0, tr("held to the same operation in float64")) if row["lossless"] else None
    if row["lossless"] and _known(row["kl_allowed"]) is not None:
        return Quality("kept", 0.0, tr("held to the unmodified model: it computes the same but for rounding"))
    verdict, loss = row["quality_verdict"] or "", _known(row["quality_loss"])
    low, high = _known(row["quality_loss_low"]), _known(row["quality_loss_high"])
    if verdict in ("no measurable loss", "gain"):
        if loss is None or low is None or high is None:
            resolution = _known(row["quality_resolution"])
            if resolution is None or resolution > RESOLVES:
                return Quality("unknown", None, tr("not known: scored on too little to see a loss of quality"))
            seen = tr("no measurable loss in the study's tasks") if verdict == "no measurable loss" else tr("gain in the study's tasks")
            return Quality("kept", 0.0, seen)
        if (high - low) / 2 > RESOLVES:
            unseen = tr("not known: scored of so little text that {} bits per byte could not be seen")
            return Quality("unknown", None, unseen.format(units.percent(high)))
        if verdict == "no measurable loss":
            said = tr("no measurable loss (bits per byte {}, {} to {})")
        else:
            said = tr("gain (bits per byte {}, {} to {})")
        return Quality("kept", 0.0, said.format(*map(units.percent, (loss, low, high))))
    if verdict == "loss" or (loss is not None and loss > NEGLIGIBLE):
        return _loss(row, baseline, loss, low)
    return None


def _loss(row: Mapping, baseline: Mapping | None, loss: float | None, low: float | None) -> Quality:
    worst, task, metric = _known(row["worst_loss"]), row["worst_loss_task"], row["worst_loss_metric"]
    if task and worst is None:
        return Quality("loss", None, tr("a measurable loss in {}").format(task))
    if worst is not None and worst > NEGLIGIBLE:
        # Files that were written before the metric was kept have a loss of bits per byte alone.
        if metric and metric != "bits_per_byte":
            return Quality("loss", worst, _of_task(worst, task, metric, row["worst_loss_score"]))
        if task == HELD_OUT:
            return Quality("loss", worst, tr("{} bits per byte").format(units.percent(worst)), is_bits=True)
        text = tr(excerpts.LABEL) if task == excerpts.TASK else task
        return Quality("loss", worst, tr("{} bits per byte of {}").format(units.percent(worst), text), is_bits=True, of=text)
    if loss is not None and loss > NEGLIGIBLE and (low is None or low > 0):
        return Quality("loss", loss, tr("{} bits per byte").format(units.percent(loss)), is_bits=True)
    own, other = _known(row["accuracy"]), None if baseline is None else _known(baseline["accuracy"])
    if own is not None and other is not None and own < other:
        words = tr("{} instead of {} % right in {}").format(f"{100 * own:.1f}", f"{100 * other:.1f}", row["accuracy_task"])
        return Quality("loss", other - own, words)
    return Quality("loss", None, tr("a measurable loss in the study's tasks"))


def _of_task(loss: float, task: str, metric: str, score: float) -> str:
    """A loss of perplexity or of right answers, in words."""
    if metric in RELATIVE:
        return tr("{} {} of {}").format(units.percent(loss), metric, task)
    named = task if metric == "acc" else f"{task} ({metric})"
    return tr("{} instead of {} % right in {}").format(f"{100 * score:.1f}", f"{100 * (score + loss):.1f}", named)


def _of_training(row: Mapping, baseline: Mapping | None) -> Quality | None:
    """Where the loss went, against where that of the baseline went in the same steps."""
    if baseline is None or _known(baseline["loss_first"]) is None:
        return None
    if is_beside_random_weights(row, baseline):
        return Quality(
            "unknown", None, tr("not known: {}").format(tr("what it trains stands beside random weights, and cannot make up for them"))
        )
    if _known(row["loss_last"]) is None or _known(row["loss_first"]) is None:
        return Quality("loss", None, tr("its loss is no finite number in the end"))
    if _known(baseline["loss_last"]) is None or _known(row["point"]) != _known(baseline["point"]):
        return None
    fell = baseline["loss_first"] - baseline["loss_last"]
    if fell <= 0:
        return None
    # The ends are held against each other, not the falls: the first counted step comes after warm-up, when some have learnt more.
    behind = (row["loss_last"] - baseline["loss_last"]) / fell
    said = tr("its loss went from {} to {}, the baseline's from {} to {}").format(
        *(units.number(float(one[name])) for one in (row, baseline) for name in ("loss_first", "loss_last"))
    )
    if behind > LOSS_BEHIND:
        return Quality("loss", behind, said)
    # Where all was learnt by heart, a loss many times the baseline's would still count as none.
    if baseline["loss_last"] < LOSS_BEHIND * fell:
        return None
    return Quality("kept", 0.0, said)


def is_beside_random_weights(row: Mapping, baseline: Mapping) -> bool:
    """Whether a cell trains less of a model of random weights than its baseline does. Its loss ends higher, as the rest stays random, which
    says nothing of what the same adapters learn beside weights that were trained."""
    own, whole = _known(row["trainable_parameters"]), _known(baseline["trainable_parameters"])
    return _are_random(row) and own is not None and whole is not None and own < whole


def _are_random(row: Mapping) -> bool:
    return row["quality_meaningful"] is False or row["quality_meaningful"] == 0


def _unmeasured(row: Mapping, known: bool) -> Quality:
    """`known`: whether the quality of any other technique of the group was measured."""
    why = why_unknown(row)
    if not row["lossless"]:
        return Quality("unknown", None, tr("not known: {}").format(why))
    said = tr("not measured ({}); it keeps the model's arithmetic by construction, which was not checked here").format(why)
    # What is asked later would else be priced by the first technique that has answered, and priceless again once it has answered itself.
    is_to_come = row["quality_status"] == NOT_RUN
    return Quality("unknown", None, said) if known and not is_to_come else Quality("assumed", 0.0, said)


def why_unknown(row: Mapping) -> str:
    """Why the quality of a cell was not measured."""
    told = WORKLOADS[row["workload"]].quality
    if told != "evaluated":
        return (
            tr("the baseline's loss did not fall, or fell so low that no difference could show")
            if told == "loss"
            else tr("nothing in this workload tells")
        )
    if _are_random(row):
        return tr("the model's weights are random")
    reason = row["quality_reason"] or tr(STATUSES.get(row["quality_status"] or "", ""))
    return {"not asked for": tr("the study does not ask for it"), "": tr("no job has scored it")}.get(reason, reason)


def _known(value: object) -> float | None:
    """A number; None where there is none, which pandas has as NaN."""
    return None if units.is_missing(value) else cast(float, value)
