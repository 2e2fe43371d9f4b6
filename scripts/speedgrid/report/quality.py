"""What techniques cost in quality, as tables: every score with how it was held against the baseline, and what is gained for it beside
what others expect.

Texts here are plain, and the template escapes them, but for what says Markup.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import pandas as pd
from markupsafe import Markup

from speedgrid.known import CUDA_CONTEXT_WITHIN
from speedgrid.quality import excerpts
from speedgrid.quality.distance import LEAST, TIMES
from speedgrid.quality.scores import HELD_OUT, RELATIVE
from speedgrid.report import phrases, units
from speedgrid.report.advice import needs
from speedgrid.report.language import tr
from speedgrid.report.tables import Group, each
from speedgrid.schema import SAME_MODEL, group_of

NAMES = {"bits_per_byte": "bits per byte", "kl_divergence": "KL divergence", "top1_agreement": "top-1 agreement"}
TASKS = {HELD_OUT: "held-out text", excerpts.TASK: excerpts.LABEL}
SHARES = ("acc", "acc_norm", "top1_agreement", "exact_match")


@dataclass(frozen=True)
class Expected:
    """What a published summary expects of a kind of technique: change of memory, speed-up and loss of accuracy, in its own words."""

    name: str
    memory: str
    speedup: str
    loss: str


# The summary of a benchmark framework that ran on an RTX 3090, an RTX 4090 and a CPU; its "expected impact", not figures of one model.
BF16 = Expected("mixed precision BF16", "−50 %", "2–3×", "")
FLASH = Expected("FlashAttention-2", "−50–90 %", "2–8×", "")
COMPILE = Expected("torch.compile", "", "1.5–2.5×", "")
KV_CACHE = Expected("KV cache, which is off here", "", "10–50× with it", "")
INT8 = Expected("INT8", "−50 %", "0.9–1.1×", "0–0.5 %")
INT4 = Expected("INT4 GPTQ/AWQ", "−75 %", "1.3–1.8×", "0.5–1.5 %")
DISTILLATION = Expected("distillation", "−70–90 %", "5–20×", "5–15 %")
PRUNING = Expected("structured pruning", "−30–70 %", "2–5×", "2–10 %")
EXPECTED = {
    technique: expected
    for expected, techniques in (
        (BF16, ["bf16"]),
        (FLASH, ["sdpa_flash", "flash_attn", "flash_attn_package", "flash_attention_v2", "flash_attention_v2_bettertransformer"]),
        (COMPILE, ["torch_compile", "max_autotune"]),
        (KV_CACHE, ["no_kv_cache"]),
        (INT8, ["bnb_int8", "bnb_int8_compile", "torchao_int8", "torchao_int8_compile", "onnx_int8", "gguf_q8_0"]),
        (INT4, ["gptq_int4", "awq_int4", "gptq_int4_marlin", "awq_int4_marlin", "vllm_gptq_int4", "vllm_awq_int4", "gptq_int4_autogptq"]),
        (INT4, ["bnb_nf4", "bnb_nf4_compile", "torchao_int4", "gguf_q4_k_m"]),
        (DISTILLATION, ["distill_small"]),
        (PRUNING, ["prune_30", "prune_50", "prune_50_recovered", "prune_depth_25"]),
    )
    for technique in techniques
}


@dataclass(frozen=True)
class Score:
    """One metric of one technique, in words, and its figure to sort by; what it was not held against is empty."""

    figure: float
    value: str
    spread: str
    loss: str
    interval: str
    verdict: str


@dataclass(frozen=True)
class ScoreTable:
    """The scores of a group: the name of each metric with what it was taken on, and each technique's scores in that order."""

    heads: list[tuple[str, str]]
    rows: list[tuple[str, list[Score | None]]]


@dataclass(frozen=True)
class ImpactRow:
    """What a technique changed against the baseline here, and what is expected of its kind."""

    label: str
    size: str
    memory: str
    speedup: str
    loss: str
    verdict: str
    expected: Expected | None


def score_table(group: Group, scores: Sequence[Mapping]) -> ScoreTable:
    """Every score of a group, the techniques in the order of the plan; `scores` are rows of schema.SCORE of any groups."""
    labels = dict(zip(group.rows.technique, group.rows.label, strict=True))
    known: dict[str, dict[str, Mapping]] = {}
    for row in _own(group, scores):
        if row["metric"] and row["technique"] in labels:
            known.setdefault(_name(row), {})[row["technique"]] = row
    heads = [(name, _taken_on(list(rows.values()))) for name, rows in known.items()]
    told = [technique for technique in labels if any(technique in rows for rows in known.values())]
    table = [(labels[technique], [_score(rows[technique]) if technique in rows else None for rows in known.values()]) for technique in told]
    return ScoreTable(heads, table)


def refusals(group: Group, scores: Sequence[Mapping]) -> list[Markup]:
    """Why scores are missing, a sentence each; one for all techniques where a task could not be had at all."""
    labels = dict(zip(group.rows.technique, group.rows.label, strict=True))
    missing = [row for row in _own(group, scores) if row["status"] != "ok"]
    # A cell that was not measured has its reason under "What could not run".
    told = [row for row in missing if row["task"]]
    named = [(f"{TASKS.get(row['task'], row['task'])}{_of(labels.get(row['technique']))}: ", row["reason"]) for row in told]
    return [units.coded(what) + phrases.recorded(reason) for what, reason in dict.fromkeys(named)]


def held_sentence(group: Group) -> str:
    """To what the techniques that say that they keep the model's arithmetic were held; empty where none was."""
    held = group.rows[group.rows.kl_allowed.notna()]
    if held.empty:
        return ""
    most = units.number(float(held.kl_allowed.max()), 2)
    return tr(
        "Techniques that say they keep the model's arithmetic were held to a KL divergence of at most {} nat, which is what rounding"
        " explains: {} times what it does to the unmodified model to round the output of each of its layers once more, and {} for the"
        " logarithms themselves. Beyond it a cell has the status `wrong_result` and no figures. Within it, it is the same model: what"
        " tasks score for it are the baseline's answers, and it was not asked again."
    ).format(most, TIMES, f"{LEAST:g}")


def impact_rows(group: Group) -> list[ImpactRow]:
    """Size, memory, speed and quality of every technique against the baseline, beside what is expected of its kind."""
    baseline = group.baseline
    if baseline is None:
        return []
    others = [row for row in each(group.engaged) if not row.is_baseline]
    return [
        ImpactRow(
            label=row.label,
            size=_change(row.checkpoint_bytes, baseline.checkpoint_bytes),
            memory=_memory_change(row, baseline),
            speedup=_speedup(row),
            loss=units.MISSING if units.is_missing(row.quality_loss) else units.percent(row.quality_loss),
            verdict=tr(row.quality_verdict or ""),
            expected=EXPECTED.get(row.technique),
        )
        for row in others
    ]


def _speedup(row) -> str:
    """The speed-up, or what bounds it."""
    if units.is_missing(row.speedup):
        return units.speedup(row.speedup, row.speedup_low, row.speedup_high, row.verdict)[0]
    return f"{units.number(row.speedup)}×"


def _memory_change(row, baseline: pd.Series) -> str:
    """The change of peak memory; where the device told one and PyTorch the other, that of what a card must have, if it is more than what
    is taken for CUDA may be wrong by."""
    if row.memory_source == baseline.memory_source:
        return _change(row.memory_peak, baseline.memory_peak)
    own, other = needs(row._asdict()), needs(baseline.to_dict())
    return units.MISSING if own is None or other is None or abs(own - other) <= CUDA_CONTEXT_WITHIN else _change(own, other)


def _own(group: Group, scores: Sequence[Mapping]) -> list[Mapping]:
    return [row for row in scores if group_of(row) == group.key]


def _of(label: str | None) -> str:
    return tr(" of {}").format(label) if label else ""


def _name(row: Mapping) -> str:
    """A metric with what it is of."""
    metric = tr(NAMES[row["metric"]]) if row["metric"] in NAMES else row["metric"]
    if row["task"] == HELD_OUT:
        return tr("{} of {}").format(metric, row["text"]) if row["text"] else metric
    return tr("{} of {}").format(metric, tr(TASKS[row["task"]])) if row["task"] in TASKS else f"{row['task']} {metric}"


def _taken_on(rows: Sequence[Mapping]) -> str:
    """How many items a metric was taken on, and its chance, where these are the same for all techniques."""
    counts, chances = ({row[key] for row in rows} for key in ("items", "chance"))
    said = [(tr("{} item") if count == 1 else tr("{} items")).format(f"{count:,}") for count in counts] if len(counts) == 1 else []
    return ", ".join(
        said + [tr("chance {}").format(figure(rows[0]["metric"], chance)) for chance in chances if len(chances) == 1 and chance]
    )


def _score(row: Mapping) -> Score:
    metric = row["metric"]
    spread = ""
    if not units.is_missing(row["stderr"]):
        spread = f"± {figure(metric, row['stderr'])}"
    elif not units.is_missing(row["low"]):
        spread = f"{figure(metric, row['low'])}–{figure(metric, row['high'])}"
    interval = ""
    if not units.is_missing(row["loss_low"]):
        ends = [_loss(metric, row[end]) for end in ("loss_low", "loss_high")]
        interval = tr("{} to {}").format(*ends) if ends[0] != ends[1] else ""
    verdict = row["verdict"] or ""
    if row["test"] == SAME_MODEL:
        verdict = tr("the baseline's, being the same model")
    elif verdict == "no measurable loss":
        verdict = tr("no measurable loss (resolution {})").format(_resolution(metric, row["resolution"]))
    else:
        verdict = tr(verdict)
    return Score(
        figure=row["value"],
        value=figure(metric, row["value"]),
        spread=spread,
        loss="" if units.is_missing(row["loss"]) else _loss(metric, row["loss"]),
        interval=interval,
        verdict=verdict,
    )


def figure(metric: str, value: float) -> str:
    """A score as it is shown, by the name of its metric."""
    if metric in SHARES:
        return f"{100 * value:.1f} %"
    # A distance of nothing but rounding is none.
    return "0" if metric == "kl_divergence" and value < 1e-9 else units.number(value, 4 if metric == "bits_per_byte" else 2)


def _loss(metric: str, value: float) -> str:
    """A loss as people write it: a share of the baseline's figure, or points between two shares."""
    if metric in RELATIVE:
        return units.percent(value)
    if metric in SHARES:
        points = f"{100 * value:+.1f}".replace("-", "−").replace("+0.0", "0.0").replace("−0.0", "0.0")
        return tr("{} points").format(points)
    return f"{value:+.3g}".replace("-", "−")


def _resolution(metric: str, value: float) -> str:
    """The least loss that would have been seen, as `_loss` writes it; one that is below its last digit is told as that."""
    said = _loss(metric, value).lstrip("+")
    too_small = {"±0.00\u00a0%": tr("under 0.01\u00a0%"), tr("{} points").format("0.0"): tr("under 0.1 points")}
    return too_small.get(said, said)


def _change(value: float, baseline: float) -> str:
    if units.is_missing(value) or units.is_missing(baseline) or not baseline:
        return units.MISSING
    return units.percent(value / baseline - 1)
