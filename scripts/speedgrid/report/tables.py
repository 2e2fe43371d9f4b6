"""From the records of the jobs to the tables of the study: a row for every cell, a row for every job.

Protocol of the figures: each reply gets its own rate. What is typical of a run is the median of them, which a stall cannot move, and a
cell's speed is the geometric mean of its runs': bars, tables, verdicts and speed-ups are all of that one figure. The mean over the replies,
which the studies that speedgrid reproduces publish, stands beside it. (The rate of all tokens over all time would weigh long replies more.)
"""

import json
import math
from collections import namedtuple
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from itertools import combinations
from statistics import median
from typing import Any, cast

import pandas as pd

from speedgrid import ceilings, noise, stats
from speedgrid.quality.paired import overall
from speedgrid.quality.scores import HELD_OUT, RELATIVE
from speedgrid.records import Record
from speedgrid.report import units, work
from speedgrid.report.cells import CellRecords
from speedgrid.schema import AXES, GROUP, MEASURED, RUN, STATE_SHOWN, SUMMARY, by_group, items_of
from speedgrid.workload import WORKLOADS

# Replies of which the slowest and the fastest hold the mean between them in 95 % of samples.
SPANNING = 6

# What a summary row takes as it is: from the grid, and from the facts of the measuring job.
FROM_GRID = (*AXES, "label", "family", "engine", "workload", "lossless", "is_baseline", "dtype")
IDENTITY_FACTS = ("device_name", "env", "engaged", "evidence", "checkpoint_sha256")
FIGURE_FACTS = (
    *("parameters", "trainable_parameters", "model_bytes", "checkpoint_bytes"),
    *("memory_source", "memory_before", "memory_loaded", "memory_peak", "memory_reserved", "memory_load_peak"),
)
COLD_START = ("import_s", "load_s", "first_reply_s", "cold_start_s", "nothing_compiled")


# The summary: a row for every cell


def summary_rows(cells: Sequence[CellRecords], sizes: Mapping[tuple, Mapping[int, stats.Speed]] | None = None) -> list[dict]:
    """The rows of schema.SUMMARY, one for every cell, in the order of `cells`; what a cell does not have is None. `sizes` are the speeds of
    work.speeds_by_size, where the caller has them."""
    cells = work.at_common_points(cells)
    groups: dict[tuple, list[CellRecords]] = {}
    for cell in cells:
        groups.setdefault(cell.group, []).append(cell)
    judged = {id(cell): found for members in groups.values() for cell, found in _judged(members)}
    baselines = {cell.group: cell for cell in cells if cell.cell["is_baseline"] and cell.is_ranked}
    sizes = work.speeds_by_size(cells) if sizes is None else sizes
    steps = work.common_steps(cells)
    return [
        _summary_row(cell, baselines.get(cell.group), judged.get(id(cell)), sizes.get(cell.axes, {}), steps.get(cell.group))
        for cell in cells
    ]


@dataclass(frozen=True)
class _Judged:
    """A cell's speed, and what can be said of it against the fastest engaged cell of its group and against the baseline's."""

    speed: stats.Speed
    baseline: stats.Speed | None
    standing: str | None
    further_runs: int | None
    further_runs_fastest: int | None
    same: Sequence[str]  # techniques of the group whose speed is the same
    open: Mapping[str, stats.Price]  # those that these runs cannot tell from it, each with the further runs of both that would

    @property
    def ratio(self) -> stats.Estimate | None:
        return stats.over(self.speed, self.baseline) if self.baseline else None


def _judged(members: Sequence[CellRecords]) -> Iterator[tuple[CellRecords, _Judged]]:
    """The cells of a group that have figures, each with what can be said of its speed. What was not engaged is never the fastest, no
    baseline, and says nothing of others, and speeds at another size than the baseline's are compared with none."""
    measured = [cell for cell in members if cell.has_figures]
    runs = [(cell.device, [run.speed for run in cell.runs]) for cell in measured]
    speeds, then = noise.speeds(runs, [cell.is_ranked for cell in measured], members[0].confidence), members[0].confidence_then
    baseline = next((index for index, cell in enumerate(measured) if cell.cell["is_baseline"] and cell.is_ranked), None)
    size = None if baseline is None else measured[baseline].point
    engaged = [index for index, cell in enumerate(measured) if cell.is_ranked and (baseline is None or cell.point == size)]
    standings = dict(zip(engaged, stats.leaders([speeds[index] for index in engaged]), strict=True)) if engaged else {}
    first = max(engaged, key=lambda index: speeds[index].value, default=None)
    pairs = _pairs({measured[index].cell["technique"]: speeds[index] for index in engaged}, then)
    for index, (cell, speed) in enumerate(zip(measured, speeds, strict=True)):
        against = speeds[baseline] if baseline is not None and cell.point == size else None
        standing = "first" if index == first else standings.get(index)
        yield (
            cell,
            _Judged(
                speed,
                against,
                standing,
                stats.further_runs(speed, against, then=then).runs if against and index != baseline else None,
                stats.further_runs(speeds[first], speed, then=then).runs if standing == "unsure" and first is not None else None,
                *pairs.get(cell.cell["technique"], ((), {})),
            ),
        )


def _pairs(speeds: Mapping[str, stats.Speed], then: float) -> dict[str, tuple[list[str], dict[str, stats.Price]]]:
    """For each technique the others that are the `same` as it, and those that are `unsure` against it, each with the further runs of both
    that would tell, at the level `then`; both of a pair say the same."""
    found: dict[str, tuple[list[str], dict[str, stats.Price]]] = {name: ([], {}) for name in speeds}
    for pair in combinations(speeds, 2):
        one, other = (speeds[name] for name in pair)
        verdict = stats.between(one, other)
        price = stats.further_runs(one, other, then=then) if verdict == "unsure" else stats.Price(None)
        for name, beside in (pair, pair[::-1]):
            if verdict == "same":
                found[name][0].append(beside)
            elif verdict == "unsure":
                found[name][1][beside] = price
    return found


def _summary_row(
    cell: CellRecords,
    baseline: CellRecords | None,
    judged: _Judged | None,
    sizes: Mapping[int, stats.Speed],
    steps: int | None,
) -> dict:
    row: dict = dict.fromkeys(column.name for column in SUMMARY.columns)
    row |= {name: cell.cell[name] for name in FROM_GRID}
    row |= {name: cell.measure.facts.get(name) for name in IDENTITY_FACTS}
    row |= {
        "status": cell.status,
        "reason": cell.reason,
        "replies": len(cell.all_replies) if judged else len(cell.replies),
    }
    row["outdated"] = ", ".join(cell.outdated)
    row["quality_meaningful"] = cell.prepared.rows[0]["quality_meaningful"]
    row["dequantized_from"] = cell.prepared.facts.get("dequantized_from")
    row |= _quality(cell)
    row["unit"] = cell.measure.facts.get("unit") or ("token" if cell.is_generation else None)
    if judged:
        row |= _speed(cell, judged.speed) if cell.is_generation else _rates(cell, judged.speed)
        row |= _verdicts(cell, baseline, judged)
        row |= {name: cell.measure.facts.get(name) for name in (*FIGURE_FACTS, *STATE_SHOWN, "repeats")}
        row["memory_peak"] = held(row)
        row["disturbed"] = next((said for record in cell.records_with_figures if (said := record.facts.get("disturbed"))), row["disturbed"])
        row |= {name: cell.warmup.rows[0][name] for name in COLD_START}
        row["quantize_s"] = cell.made_s if cell.checkpoint and not math.isnan(cell.made_s) else None
        if not cell.is_generation:
            return row | work.figures(cell, row, sizes, steps)
        row["joule_per_token"] = row["energy"] / sum(reply["new_tokens"] for reply in cell.replies) if row["energy_valid"] else None
        row |= _ceilings(cell, row)
        row |= _pays(cell, baseline, judged)
    return row


def held(row: Mapping) -> int | None:
    """The most bytes that a cell held, while it loaded, warmed up or replied: what a card must have room for. In summaries of today it is
    `memory_peak`, which in older ones was that of the replies alone."""
    peak, loading = (None if units.is_missing(row[name]) else int(row[name]) for name in ("memory_peak", "memory_load_peak"))
    return None if peak is None else max(peak, loading or 0)


def reply_figures(reply: Mapping) -> dict:
    """The rates of one reply, by the definitions of the field; None where it has none.

    tokens_per_s = tokens / reply time; TPOT = (reply time - TTFT) / (tokens - 1), decode is its inverse; prefill = prompt tokens / TTFT.
    A reply of one token has no decode phase. In a batch the first step gives one token to each sequence, and rates count all sequences.
    """
    tokens, whole, first = reply["new_tokens"], reply["reply_s"], reply["ttft_s"]
    batch, steps = reply["batch_size"], reply["steps"]
    decoding = whole - first if first is not None and steps > 1 else None
    return {
        "tokens_per_s": tokens / whole,
        "decode_tokens_per_s": (tokens - batch) / decoding if decoding else None,
        "prefill_tokens_per_s": batch * reply["prompt_tokens"] / first if first and reply["prompt_tokens"] else None,
        "ttft_s": first,
        "tpot_s": decoding / (steps - 1) if decoding else None,
    }


def _speed(cell: CellRecords, speed: stats.Speed) -> dict:
    by_run = [[reply_figures(reply) for reply in replies] for replies in cell.replies_by_run]
    phases = {name: _typical(cell, by_run, name, speed) for name in by_run[0][0] if name != "tokens_per_s"}
    tokens = stats.pooled([run.mean for run in cell.runs]).interval()
    # Replies that slow down towards the end tell little of the mean: its interval then ends at the slowest and the fastest, as that of the
    # speed does. A rate is never negative.
    slowest, fastest = (speed.slowest, speed.fastest) if len(cell.all_replies) >= SPANNING else (0.0, math.inf)
    low = None if tokens.low is None else max(tokens.low, slowest)
    high = None if tokens.high is None else min(tokens.high, fastest)
    means = {"tokens_per_s": tokens.value, "tokens_per_s_low": low, "tokens_per_s_high": high}
    asked = json.loads(cell.measure.facts["job"])["settings"].get("max_new_tokens")
    counts = {"new_tokens": sum(reply["new_tokens"] for reply in cell.all_replies)}
    counts["new_tokens_asked"] = asked and sum(reply["batch_size"] * asked for reply in cell.all_replies)
    return _rates(cell, speed) | phases | means | counts


def _typical(cell: CellRecords, by_run: Sequence[Sequence[Mapping]], name: str, speed: stats.Speed) -> float | None:
    """One of the reply_figures, which are `by_run`, over all runs of a cell, located as its speed is: a stall moves neither, and a reply
    cannot seem to gain more than both of its phases."""
    runs = []
    for figures, own in zip(by_run, cell.runs, strict=True):
        if known := [figure[name] for figure in figures if figure[name]]:
            runs.append((median(known), own.speed))
    return stats.located(runs, speed.noise) if runs else None


def _rates(cell: CellRecords, speed: stats.Speed) -> dict:
    """Speed and times, whatever the workload."""
    latencies, typical = [reply["reply_s"] for reply in cell.all_replies], speed.interval()
    beyond, effective = stats.outliers(latencies), sum(run.mean.effective_n for run in cell.runs)
    seconds = [run.seconds for run in cell.runs if run.seconds]
    return {
        "runs": len(cell.runs),
        "run_rates": [run.speed.value for run in cell.runs],
        "run_s": stats.percentile(seconds, 0.5) if seconds else None,
        "runs_disturbed": sum(run.speed.disturbed for run in cell.runs),
        "disturbed_factor": math.exp(speed.lost) if math.isfinite(speed.lost) else None,
        "runs_failed": len(cell.runs_without_figures),
        "run_failure": next((f"{one.status}: {one.reason}".removesuffix(": ") for one in cell.runs_without_figures), None),
        "rate": typical.value,
        "rate_low": typical.low,
        "rate_high": typical.high,
        "confidence": speed.confidence,
        "price_per_million": price_per_million(cell.cell.get("price_per_hour"), typical.value),
        "time_s": stats.mean([items_of(reply) for reply in cell.all_replies]) / typical.value,
        "latency_mean_s": stats.mean(latencies),
        "latency_std_s": stats.sd(latencies),
        **_percentiles(latencies, effective),
        "autocorrelation": stats.autocorrelation([items_of(reply) / reply["reply_s"] for reply in cell.replies]),
        "replies_worth": effective,
        "outliers_slow": beyond.slow,
        "outliers_fast": beyond.fast,
        "noise": speed.noise,
        "noise_df": speed.df,
        "noise_runs": speed.known_from,
    }


def price_per_million(price_per_hour: float | None, rate: float) -> float | None:
    """What a million items cost at so many a second; None where an hour of the device has no price."""
    return None if price_per_hour is None else 1e6 * price_per_hour / (3600 * rate)


def _percentiles(latencies: Sequence[float], effective_n: float) -> dict:
    """Percentiles with the ends of their intervals, which are None where the replies support none."""
    found: dict[str, float | None] = {}
    for percent in (50, 95, 99):
        estimate = stats.percentile_interval(latencies, percent / 100, effective_n=effective_n)
        found[f"latency_p{percent}_s"] = stats.percentile(latencies, percent / 100)
        found[f"latency_p{percent}_low_s"] = estimate.low if estimate else None
        found[f"latency_p{percent}_high_s"] = estimate.high if estimate else None
    return found


def _verdicts(cell: CellRecords, baseline: CellRecords | None, judged: _Judged) -> dict:
    """Against the fastest, and against the baseline of the same gpu, experiment and model: its own speed-up is 1 by definition and has no
    interval; more tokens a second of another size are none."""
    found: dict[str, Any] = {"standing": judged.standing, "further_runs_fastest": judged.further_runs_fastest}
    found["ties_fastest"] = judged.standing and judged.standing in ("first", "same")
    if judged.standing is not None:
        found |= {"same_as": list(judged.same), "open_against": list(judged.open)}
        found |= {
            "open_runs": [price.runs for price in judged.open.values()],
            "open_quiet": [name for name, price in judged.open.items() if price.quiet],
        }
    if baseline is None:
        return found
    # What disturbed a run is not what drifts.
    quiet = [run for run in baseline.runs if not run.speed.disturbed]
    if drift := stats.drift([run.speed for run in quiet], [run.at for run in quiet]):
        found |= {"baseline_drift": drift.value, "baseline_drift_low": drift.low, "baseline_drift_high": drift.high}
    if cell is baseline:
        return found | {"speedup": 1.0}
    ratio = judged.ratio
    if ratio is None:
        return found
    verdict = stats.between(judged.speed, cast(stats.Speed, judged.baseline))
    found |= {"speedup": ratio.told, "speedup_low": ratio.low, "speedup_high": ratio.high, "verdict": verdict}
    return found | {"further_runs": judged.further_runs if verdict == "unsure" else None}


def _ceilings(cell: CellRecords, row: Mapping) -> dict:
    """How close the cell came to what its device allows."""
    facts, reply = cell.measure.facts, cell.replies[0]
    if not facts["config"]:
        return {"ceiling_reason": "the job wrote down no configuration"}
    return ceilings.figures(
        json.loads(facts["config"]),
        cell.cell["dtype"],
        ceilings.limits(cell.probe.rows, cell.probe.facts),
        read=facts["weights_read"],
        model_bytes=facts["model_bytes"],
        parameters=facts["parameters"],
        prompt=reply["prompt_tokens"],
        steps=round(stats.mean([one["steps"] for one in cell.all_replies])),
        batch=reply["batch_size"],
        ttft_s=row["ttft_s"],
        tpot_s=row["tpot_s"],
        cached=cell.cell["use_cache"],
        multiplies_in=facts["multiplies_in"] or "",
    )


def _pays(cell: CellRecords, baseline: CellRecords | None, judged: _Judged) -> dict:
    """What the technique costs before it is fast, and after how many replies of the baseline's length that is paid for."""
    if not cell.starts_known:
        return {}
    own = _start(cell, _tokens(baseline or cell), judged.speed)
    if baseline is None or cell is baseline or judged.ratio is None or judged.ratio.hidden or not baseline.starts_known:
        return {"once_s": own.once}
    other, made = _start(baseline, _tokens(baseline), cast(stats.Speed, judged.baseline)), cell.made_s
    value, low, high = ceilings.break_even_interval(own.once, other.once, own.reply, other.reply)
    again = ceilings.break_even(own.once - made, other.once, own.reply.value, other.reply.value)
    return {
        "once_s": own.once,
        "break_even_replies": value,
        "break_even_replies_low": low,
        "break_even_replies_high": high,
        "break_even_restart_replies": again,
    }


@dataclass(frozen=True)
class _Start:
    """Seconds that a cell costs once, and seconds of a warm reply."""

    once: float
    reply: stats.Estimate


def _start(cell: CellRecords, tokens: float, speed: stats.Speed) -> _Start:
    """For replies of `tokens` tokens; the early replies are held against warm ones of the cell's own length."""
    cold, warm = cell.warmup.rows[0], stats.percentile([reply["reply_s"] for reply in cell.all_replies], 0.5)
    once = ceilings.once_s(cold["import_s"], cold["load_s"], (cold["first_reply_s"], cold["second_reply_s"]), warm, cell.made_s)
    return _Start(once, ceilings.reply_seconds(tokens, speed.interval()))


def _tokens(cell: CellRecords) -> float:
    return stats.mean([reply["new_tokens"] for reply in cell.replies])


def _quality(cell: CellRecords) -> dict:
    """Bits per byte over all documents together, or why there is no such figure."""
    if cell.evaluate is None:
        return {"quality_reason": "not asked for"}
    scored = [row for row in cell.evaluate.rows if row["bytes"]]
    if cell.evaluate.status not in MEASURED:
        return {"quality_status": cell.evaluate.status, "quality_reason": cell.evaluate.reason}
    if not scored:
        return {"quality_status": "unsupported", "quality_reason": cell.evaluate.facts.get("text_reason"), **_scores(cell)}
    scored_bytes = sum(row["bytes"] for row in scored)
    bits = sum(row["nats"] for row in scored) / math.log(2) / scored_bytes
    told = {"bits_per_byte": bits, "quality_bytes": scored_bytes, "kl_allowed": cell.evaluate.facts.get("kl_allowed")}
    return told | _scores(cell)


def _scores(cell: CellRecords) -> dict:
    """What the summary takes of the cell's scores."""
    rows = score_rows(cell)
    found: dict = {}
    for row in rows:
        if row["metric"] == "bits_per_byte" and row["task"] == HELD_OUT:
            found |= {"quality_loss": row["loss"], "quality_loss_low": row["loss_low"], "quality_loss_high": row["loss_high"]}
        elif row["task"] == HELD_OUT:
            found[row["metric"]] = row["value"]
        elif row["metric"] == "acc" and row["chance"] and "accuracy" not in found:
            found |= {"accuracy": row["value"], "accuracy_task": row["task"]}
    resolved = [row["resolution"] for row in rows if row["verdict"] and row["resolution"] is not None]
    found |= _worst(rows)
    verdict = overall([row["verdict"] for row in rows])
    return found | {"quality_verdict": verdict, "quality_resolution": min(resolved, default=None)}


def _worst(rows: Sequence[Mapping]) -> dict:
    """Where the scores of a cell lost most. A loss that is no share, as that of a mean of any numbers, or no finite one cannot
    be held against the others: a task that shows such losses alone comes first, without a figure, since it may be the worst."""
    lost = [row for row in rows if row["verdict"] == "loss"]
    sized = [row for row in lost if (row["metric"] in RELATIVE or row["test"] == "mcnemar") and math.isfinite(row["loss"])]
    # Bits per byte and the perplexities of a text say the same in other units.
    in_bits = {row["task"] for row in sized if row["metric"] == "bits_per_byte"}
    sized = [row for row in sized if row["metric"] == "bits_per_byte" or row["metric"] not in RELATIVE or row["task"] not in in_bits]
    tasks = {row["task"] for row in sized}
    unsized = [{**row, "loss": None} for row in lost if row["task"] not in tasks]
    worst = (unsized + sorted(sized, key=lambda row: -row["loss"]) + [{}])[0]
    columns = {"worst_loss": "loss", "worst_loss_task": "task", "worst_loss_metric": "metric", "worst_loss_score": "value"}
    return {column: worst.get(name) for column, name in columns.items()}


def score_rows(cell: CellRecords) -> list[Mapping]:
    """The rows of schema.SCORE with figures of one cell."""
    rows = [*(cell.score.rows if cell.score else ()), *cell.early]
    return [row for row in rows if row["technique"] == cell.cell["technique"] and row["metric"]]


# The runs: a row for every job


def run_rows(cells: Sequence[CellRecords]) -> list[dict]:
    """The rows of schema.RUNS, one for every job that left a record, in the order in which the jobs run.

    A job that several cells share (a model's preparation, a checkpoint's making) has one row, with the keys that are its own.
    """
    shared: dict[tuple, dict] = {}
    own = []
    for cell in cells:
        model, technique = cell.cell["model"], cell.cell["technique"]
        if cell.prepared.is_there:
            shared.setdefault((0, model), _run_row(cell.prepared, {"model": model}))
        if cell.checkpoint:
            for path, record in zip((cell.cell["checkpoint_record"], *cell.cell["sources"]), (cell.checkpoint, *cell.sources), strict=True):
                if not record.is_there:
                    continue
                made = json.loads(record.facts["job"]).get("technique", technique)
                shared.setdefault((1, path), _run_row(record, {"model": model, "technique": made}))
        group = {axis: cell.cell[axis] for axis in GROUP}
        of_group: tuple[tuple[int, Record | None, dict], ...] = (
            (1, cell.requests, {"experiment": group["experiment"]}),
            (1, cell.reference, group),
            (2, cell.score, group),
        )
        for order, once, own_keys in of_group:
            if once and once.is_there:
                shared.setdefault((order, once.facts["stage"], *own_keys.values()), _run_row(once, own_keys))
        keys = {axis: cell.cell[axis] for axis in AXES}
        own += [_run_row(record, keys) for record in (cell.warmup, cell.measure, *cell.again, cell.evaluate) if record and record.is_there]
    before = [shared[key] for key in sorted(shared, key=lambda key: key[0]) if key[0] < 2]
    return before + own + [row for key, row in shared.items() if key[0] == 2]


def _run_row(record: Record, keys: Mapping) -> dict:
    facts = {c.name: record.facts.get(c.name) for c in RUN} | {"phase_gpu": _gpu_of_phases(record.facts)}
    return {**dict.fromkeys(AXES), **keys, "status": record.status, "reason": record.reason, **facts}


def _gpu_of_phases(facts: Mapping) -> list[float | None] | None:
    """How busy the GPU was in each phase of a job; where only the counted replies were watched, as by an earlier speedgrid, in theirs."""
    if facts.get("phase_gpu") or facts.get("gpu_utilisation") is None or not facts.get("phases"):
        return facts.get("phase_gpu")
    return [facts["gpu_utilisation"] if phase.startswith("counting") else None for phase in facts["phases"]]


# What the report reads


@dataclass(frozen=True)
class Group:
    """What is compared with one another: the cells of one gpu, experiment and model, and their finished replies.

    `rows` has the columns of schema.SUMMARY in the order of the plan, with labels that are unique; `replies` one row a reply, with
    technique, run, reply, started_s, reply_s, ttft_s, prompt_tokens, batch_size, rate, tokens_per_s, new_tokens, text, point and loss;
    `states` the columns of schema.STATE by technique, of the first run of those that were watched.
    """

    gpu: str
    experiment: str
    model: str
    rows: pd.DataFrame
    replies: pd.DataFrame
    states: Mapping[str, Mapping] = field(default_factory=dict)

    @property
    def key(self) -> tuple[str, str, str]:
        """What names it, as schema.group_of has it."""
        return self.gpu, self.experiment, self.model

    @property
    def workload(self) -> str:
        return self.rows.workload.iloc[0]

    @property
    def is_generation(self) -> bool:
        """Whether its figures are those of replies of one length."""
        return WORKLOADS[self.workload].is_of_replies

    @property
    def seeks_largest(self) -> bool:
        """Whether it was asked for the largest size that fits, and not for a speed."""
        return WORKLOADS[self.workload].seeks_largest

    @property
    def noun(self) -> str:
        """What one of its runs is called: `reply`, `step` or `pass`."""
        return WORKLOADS[self.workload].noun

    @property
    def kind(self) -> str:
        """Which columns its table has: those of `replies`, or of other `work`."""
        return "replies" if self.is_generation else "work"

    @cached_property
    def unit(self) -> str:
        """What its rates count: `token`, `image` or `pass`; empty where nothing was measured."""
        return next(filter(None, self.measured.unit), "")

    @cached_property
    def records(self) -> list[dict]:
        """Its rows as mappings, made once: that takes longer than most of what is done with them."""
        names = list(self.rows.columns)
        return [dict(zip(names, row, strict=True)) for row in self.rows.to_numpy(dtype=object).tolist()]

    @cached_property
    def measured(self) -> pd.DataFrame:
        """The cells with figures, those whose technique was not active included."""
        return self.rows[self.rows.rate.notna()]

    @cached_property
    def engaged(self) -> pd.DataFrame:
        """The cells whose figures are those of their technique."""
        return self.measured[self.measured.status == "ok"]

    @cached_property
    def fastest(self) -> pd.Series:
        """The fastest of the engaged cells, of which there must be one."""
        first = self.engaged[self.engaged.standing == "first"]
        return first.iloc[0] if len(first) else self.engaged.loc[self.engaged.rate.idxmax()]

    @cached_property
    def baseline(self) -> pd.Series | None:
        """The row of the baseline, where it has figures that are those of its technique."""
        found = self.engaged[self.engaged.is_baseline]
        return found.iloc[0] if len(found) else None


def groups(summary: Sequence[Mapping], replies: Sequence[Mapping], states: Mapping[tuple, Mapping] | None = None) -> Iterator[Group]:
    """The groups of a summary, in its order. `replies` are rows of schema.MEASURE of any cells; unfinished ones are left out; `states` the
    facts of schema.STATE of cells, by their AXES."""
    # One kind for every column whatever is missing in it: numbers are floats, NaN where there is none, and no text is an empty one. Of
    # Python's own objects, which a table of a few rows is read from ten times as fast as from those of Arrow.
    kinds = {"int64": float, "double": float}
    columns = {c.name: [row[c.name] for row in summary] for c in SUMMARY.columns}
    columns |= {c.name: ["" if value is None else value for value in columns[c.name]] for c in SUMMARY.columns if c.type == "string"}
    columns["memory_peak"] = [held(row) for row in summary]
    rows = pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})
    rows = rows.astype({c.name: kinds[c.type] for c in SUMMARY.columns if c.type in kinds} | {"is_baseline": bool}).copy()
    finished = by_group(reply for reply in replies if reply["reply"] is not None)
    for key, cells in rows.groupby(list(GROUP), sort=False):
        gpu, experiment, model = key
        table = _with_unique_labels(cells.reset_index(drop=True).copy())
        own = {name: found for name in table.technique if (found := (states or {}).get((gpu, experiment, model, name)))}
        yield Group(gpu, experiment, model, table, _reply_frame(finished.get((gpu, experiment, model), ())), own)


def _reply_frame(finished: Sequence[Mapping]) -> pd.DataFrame:
    times = ("started_s", "reply_s", "ttft_s", "prompt_tokens", "batch_size")
    kept = (*AXES, "reply", *times, "new_tokens", "point", "loss")
    rates = [items_of(reply) / reply["reply_s"] for reply in finished]
    columns = {name: [reply[name] for reply in finished] for name in kept}
    columns |= {"text": [(reply["text"] or [""])[0] for reply in finished], "run": [reply.get("run", 1) for reply in finished]}
    kinds = dict.fromkeys((*AXES, "text"), object) | dict.fromkeys(times, float)
    return pd.DataFrame(
        {name: pd.Series(values, dtype=kinds.get(name)) for name, values in columns.items()}
        | {"rate": pd.Series(rates, dtype=float), "tokens_per_s": pd.Series(rates, dtype=float)}
    )


def each(table: pd.DataFrame) -> Iterator[Any]:
    """The rows of a table by name, as `itertuples` gives them, which takes milliseconds for all columns of a summary."""
    return map(_row_kind(tuple(table.columns))._make, table.to_numpy(dtype=object).tolist())


@lru_cache(maxsize=64)
def _row_kind(names: tuple[str, ...]) -> Any:
    return namedtuple("Row", names)


def _with_unique_labels(rows: pd.DataFrame) -> pd.DataFrame:
    """Two techniques of a study may have one label; then the name tells them apart."""
    twice = rows.label.duplicated(keep=False)
    return rows.assign(label=rows.label.where(~twice, rows.label + " [" + rows.technique + "]"))
