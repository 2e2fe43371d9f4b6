"""What leads through a page of many cells: anchors, filters, choices of columns, and the matrix of speed-ups. Pure."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from speedgrid.report import units
from speedgrid.report.advice import Quality, qualities
from speedgrid.report.advised import price
from speedgrid.report.charts import families
from speedgrid.report.language import tr, tr_html
from speedgrid.report.tables import Group, each
from speedgrid.schema import GROUP, MEASURED, STATUSES

UNFOLDED = 3  # so many groups are all open at once; of more each is folded away
MOST_ANSWERS = 12  # groups that are folded away whose answers are on the first screen, in short; of more the matrix leads to them
PRICED = "*"
MOST_LEADERS = 5  # techniques that the first screen names of those that lead somewhere
TWICE = 2.0  # from this speed-up on a cell of the matrix is coloured stronger

# What cells can be filtered by: where they belong, and what their technique is.
PLACES = {"gpu": "GPU", "model": "Model", "experiment": "Experiment"}
KINDS = {"family": "Family", "engine": "Engine", "dtype": "Number format"}

# Columns of the main table that are shown for a question, without a name for the usual one; of those that a table has.
PRESETS = {
    "": (
        *("rate", "speedup", "bits_per_byte", "memory_peak", "decode_tokens_per_s", "ttft_s", "latency_p95_s", "cold_start_s"),
        *("latency_p50_s", "largest", "run_mfu", "loss_last"),
    ),
    "speed": (
        *("rate", "speedup", "tokens_per_s", "decode_tokens_per_s", "prefill_tokens_per_s", "ttft_s", "tpot_s", "latency_mean_s"),
        *("latency_std_s", "latency_p50_s", "latency_p95_s", "latency_p99_s", "mbu", "mfu", "decode_headroom", "flop_per_s", "run_mfu"),
        *("growth", "replies", "runs"),
    ),
    "memory": (
        *("rate", "memory_peak", "memory_reserved", "model_bytes", "checkpoint_bytes"),
        *("parameters", "trainable_parameters", "largest"),
    ),
    "quality": ("rate", "speedup", "bits_per_byte", "kl_divergence", "accuracy", "loss_first", "loss_last"),
    "cost": (
        *(
            "speedup",
            "break_even_replies",
            "joule_per_token",
            "joule_per_item",
            "price_per_million",
            "cold_start_s",
            "load_s",
            "first_reply_s",
        ),
        *("quantize_s", "checkpoint_bytes"),
    ),
}
# Of the standard columns those that tables of replies do not show unless asked.
NOT_AT_FIRST = {"replies": ("latency_p50_s",), "work": ("latency_p95_s",)}

# What columns of the data of charts are called that no axis and no tooltip has a name for.
HEADS = {
    **dict.fromkeys(("low", "rate_low", "speedup_low", "break_even_replies_low"), "from"),
    **dict.fromkeys(("high", "rate_high", "speedup_high", "break_even_replies_high"), "to"),
    "stop": "ends at",
    "value": "value",
    "kept": "keeps the quality",
    "supported": "enough for the 95th percentile",
    "peak": "at the peak",
    "beaten": "beaten",
    "break_even_replies": "pays after",
    "about": "estimated",
}
# Such columns that place or style a mark or a label and say nothing of their own.
PLACING = (
    r"^(row(_y)?|jitter|end|edge|down|area|one|ties|\w*d[xy]|align|led|label_lines"
    r"|state|kind|text|technique|y|mark|room|status|arrow|points|drawn_\w+)$"
)


@dataclass(frozen=True)
class Field:
    """A cell of the matrix: its text, how it is coloured, and what it says in full. What does not keep the model's quality, or is not known
    to, has PRICED after its figure; the one that the answer advises is framed."""

    text: str
    look: str
    words: str


@dataclass(frozen=True)
class Matrix:
    """Speed-ups of an experiment: a row for each model and device as (anchor, name, fields), a column for each technique."""

    title: str
    labels: list[str]
    rows: list[tuple[str, str, list[Field | None]]]


def anchors(groups: Sequence[Group]) -> list[str]:
    """An anchor for each group, made of its names, so that it is the same in every page that has the group."""
    found: list[str] = []
    for group in groups:
        name = "-".join(re.sub(r"[^A-Za-z0-9_.]+", "-", key).strip("-") or "x" for key in (group.model, group.experiment, group.gpu))
        name = f"of-{name}"  # never the anchor of another section
        same = sum(other == name or other.startswith(f"{name}~") for other in found)
        found.append(f"{name}~{same + 1}" if same else name)
    return found


def index(groups: Sequence[Group], columns: Mapping[str, Sequence[str]]) -> dict:
    """What the page's script must know: of each technique, by its label, what it can be filtered by; the presets of columns;
    what columns of the data of charts are called that no axis and no tooltip has a name for; and which of these are no figures."""
    techniques: dict[str, dict] = {}
    for group in groups:
        for row in each(group.rows):
            known = techniques.setdefault(row.label, {"name": row.technique} | {kind: [] for kind in KINDS})
            for kind in KINDS:
                if (value := getattr(row, kind)) and value not in known[kind]:
                    known[kind].append(value)
    heads = {name: tr(head) for name, head in HEADS.items()}
    return {"techniques": techniques, "presets": presets(columns), "heads": heads, "placing": PLACING}


def presets(columns: Mapping[str, Sequence[str]]) -> dict[str, list[str]]:
    """The columns of each preset that any kind of table has, all of them last; the standard one has no name."""
    names = list(dict.fromkeys(name for own in columns.values() for name in own))
    found = {preset: [name for name in names if name in shown] for preset, shown in PRESETS.items()}
    return found | {"all": names}


def column_styles(columns: Mapping[str, Sequence[str]]) -> str:
    """CSS that hides the columns of each kind of table whose box in the form `filters` is not ticked; technique and status come first."""
    form, rules = "#filters:has({}) ~ * .{} :is(th, td):nth-child({}) {{ display: none; }}", []
    for kind, names in columns.items():
        for place, name in enumerate(names, 3):
            rules.append(form.format(f'[name="show"][value="{name}"]:not(:checked)', kind, place))
            if name in NOT_AT_FIRST.get(kind, ()):
                rules.append(form.format('[name="columns"] > [value=""]:checked', kind, place))
    return "\n".join(rules)


def filters(groups: Sequence[Group]) -> list[tuple[str, str, dict[str, str]]]:
    """What cells can be filtered by here, as (name, label, values with their words): where there is more than one value."""
    found = [(name, label, list(dict.fromkeys(getattr(group, name) for group in groups))) for name, label in PLACES.items()]
    for name, label in KINDS.items():
        found.append((name, label, sorted({value for group in groups for value in group.rows[name] if value})))
    words = {family: tr(said) for family, said in families.WORDS.items()}
    told = {"family": words}
    return [
        (name, label, {value: told.get(name, {}).get(value, value) for value in values}) for name, label, values in found if len(values) > 1
    ]


def leaders(choices: Sequence[tuple[Group, str | None]]) -> Markup | None:
    """How often each technique is the one that the answer of a group advises; None where none is anywhere. The groups come with the
    technique that is advised."""
    labels = [dict(zip(group.rows.technique, group.rows.label, strict=True))[choice] for group, choice in choices if choice]
    counted = Counter(labels).most_common()
    if not counted:
        return None
    shown = MOST_LEADERS if len(counted) > MOST_LEADERS + 1 else len(counted)  # of one more its name says more
    told = [Markup("<strong>{}</strong> {}").format(label, count) for label, count in counted[:shown]]
    if left := counted[shown:]:
        told.append(tr_html("{} others {} together").format(len(left), sum(count for _, count in left)))
    if without := len(choices) - len(labels):
        told.append(tr_html("without an answer {}").format(without))
    return tr_html("How many times each is the fastest that keeps the model's quality: {}.").format(units.listed(told))


def matrices(groups: Sequence[tuple[Group, str, str | None]]) -> list[Matrix]:
    """A matrix for each experiment of several groups, in the order of the plan; `groups` come with their anchors and with the technique
    that their answer advises, if any."""
    experiments: dict[str, list[tuple[Group, str, str | None]]] = {}
    for one in groups:
        experiments.setdefault(one[0].experiment, []).append(one)
    return [_matrix(name, own) for name, own in experiments.items() if len(groups) > 1]


def _matrix(experiment: str, groups: Sequence[tuple[Group, str, str | None]]) -> Matrix:
    labels = list(dict.fromkeys(label for group, _, _ in groups for label in group.rows.label))
    several = [axis for axis in GROUP if axis != "experiment" and len({getattr(group, axis) for group, _, _ in groups}) > 1]
    rows = []
    for group, anchor, choice in groups:
        known = qualities(group.records)
        fields = {row.label: _field(row, known.get(row.technique), row.technique == choice) for row in each(group.rows)}
        name = " · ".join(getattr(group, axis) for axis in reversed(several)) or group.model
        rows.append((anchor, name, [fields.get(label) for label in labels]))
    return Matrix(experiment, labels, rows)


def _field(row, quality: Quality | None, leads: bool) -> Field:
    if row.status not in MEASURED or units.is_missing(row.rate):
        return Field(tr(row.status.replace("_", " ")), "none", tr(STATUSES.get(row.status, row.status)))
    speed = f"{units.number(row.rate)} {row.unit}/s"
    mark, cost = (PRICED, f" {price(quality, short=True)}") if quality and not quality.is_safe else ("", "")
    frame = " leads" if leads else ""
    figure = (row.speedup, row.speedup_low, row.speedup_high)
    if units.is_unknown(*figure) and not units.is_open(*figure, row.verdict):
        return Field(units.number(row.rate) + mark, "off" + frame, speed + cost)
    said, shown = f"{units.speedup_in_full(*figure, row.verdict)}{cost}, {speed}", units.speedup(*figure, row.verdict, sign="")[0]
    if row.status != "ok":
        return Field(shown, "off", f"{said}; {tr(row.status.replace('_', ' '))}")
    if row.is_baseline:
        return Field("1", "base" + frame, f"{tr('the baseline')}, {speed}")
    look = row.verdict or "unsure"
    if look == "faster" and row.speedup >= TWICE:
        look = "twice"
    return Field(shown + mark, look + frame, f"{said}, {tr(row.verdict or 'no verdict')}")
