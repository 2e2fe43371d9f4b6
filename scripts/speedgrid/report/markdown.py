"""The results as Markdown, for a pull request or an issue: the answer, what is open and a table of each group, and the machine. Pure.

Whatever comes from outside is escaped: a name makes no link, table column or HTML.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

from markupsafe import Markup

from speedgrid.report import answer, trust, units
from speedgrid.report.figures_table import MEANINGS
from speedgrid.report.language import tr
from speedgrid.report.tables import Group, each
from speedgrid.schema import MEASURED

MOST = 60_000  # characters; GitHub takes 65,536 in a comment
HEADS = ("Technique", "Speed", "95 %", "Speed-up", "95 %", "Verdict", "Peak memory", "Bits per byte")


def summary(
    study: Mapping,
    groups: Sequence[tuple[Group, Markup]],
    commits: Sequence[str],
    devices: Sequence[str],
    apart: Mapping[tuple[str, str, str], Collection[str]] = MappingProxyType({}),
) -> str:
    """The Markdown of a study; `groups` come with their answers in short (answer.Answer); those beyond MOST characters are counted. `apart`
    has the techniques of a group whose speed-ups are between two GPUs (machines.Gpus)."""
    title = study["title"] or study["name"]
    told = [tr("study {}").format(f"`{_code(study['name'])}`"), *map(_text, devices)]
    told += [tr("commit {}").format(f"`{_code(commit)}`") for commit in commits]
    parts = [f"## {_text(title)}", " · ".join(told)]
    if not groups:
        parts.append(tr("The study plans no cell, so there is nothing to show."))
    for number, (group, in_short) in enumerate(groups):
        origin = study.get("origins", {}).get((group.gpu, group.experiment, group.model))
        part = _group(group, in_short, study["study_file"] if origin is None else origin.study_file, apart.get(group.key, ()))
        if sum(map(len, parts)) + len(part) > MOST:
            more = len(groups) - number
            words = tr(
                "{} more combination of model, device and experiment is in the report."
                if more == 1
                else "{} more combinations of model, device and experiment are in the report."
            )
            parts.append(words.format(more))
            break
        parts.append(part)
    return "\n\n".join(parts) + "\n"


def _group(group: Group, in_short: Markup, study_file: str, apart: Collection[str]) -> str:
    lines = [f"### {_text(f'{group.model} · {group.experiment} · {group.gpu}')}", "", _marked(in_short), ""]
    if len(group.engaged) and (points := trust.open_points(group, study_file or "")):
        lines += [*(f"- {_marked(point)}" for point in points), ""]
    if notes := answer.standing_notes(group.records):
        lines += [*(f"- {_marked(note)}" for note in notes), ""]
    memory = units.scale("B", group.rows.memory_peak)
    # In training the quality is the loss.
    quality = "loss_last" if group.rows.bits_per_byte.isna().all() and group.rows.loss_last.notna().any() else "bits_per_byte"
    heads = [tr(head) for head in (*HEADS[:-1], MEANINGS[quality].label)]
    lines += [_line(heads), _line(["---", *["---:"] * 4, "---", "---:", "---:"])]
    against = None if group.baseline is None or quality == "loss_last" else group.baseline.bits_per_byte
    lines += [_line(_row(row, memory, quality, against)) for row in each(group.rows)]
    return "\n".join([*lines, *(line for said in trust.uneven_ratios(group, apart) for line in ("", _marked(said)))])


def _row(row, memory: units.Scale, column: str, against: float | None) -> list[str]:
    """The cells of a row; `column` is the one of its quality, and `against` that of the baseline, where the change is said."""
    if row.status not in MEASURED or units.is_missing(row.rate):
        return [_text(row.label), "", "", "", "", f"`{_code(row.status)}`", "", ""]
    speed, around = units.with_interval(row.rate, row.rate_low, row.rate_high)
    ratio, ends = units.speedup(row.speedup, row.speedup_low, row.speedup_high, row.verdict)
    verdict = tr("baseline") if row.is_baseline else tr(row.verdict or "")
    if row.status != "ok":
        verdict = f"`{_code(row.status)}`"
    figure = getattr(row, column)
    quality = "" if units.is_missing(figure) else units.number(float(figure), 4 if column == "bits_per_byte" else units.DIGITS)
    if quality and not row.is_baseline and not units.is_missing(against):
        quality += f" ({units.percent(figure / against - 1)})"
    peak = "" if units.is_missing(row.memory_peak) else memory.text(row.memory_peak)
    ratio = "" if ratio == units.MISSING else ratio
    return [_text(row.label), f"{speed} {row.unit}/s", around, ratio, ends, verdict, peak, quality]


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _text(text: str) -> str:
    """Plain text as Markdown: what would be markup is escaped, and a line stays one."""
    return _escaped(" ".join(str(text).split()))


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_{}\[\]<>#|~@!&])", r"\\\1", text)


def _marked(text: Markup) -> str:
    """A text of the page as Markdown, which keeps its code as such and no other tag. What comes from outside has no tag in it."""
    parts = re.split(r"<code>(.*?)</code>", " ".join(text.split()))
    plain = (str(Markup(re.sub("<[^>]*>", "", part)).unescape()) for part in parts)
    return "".join(f"`{_code(part)}`" if number % 2 else _escaped(part) for number, part in enumerate(plain))


def _code(text: str) -> str:
    return re.sub(r"[`|\s]+", " ", str(text))
