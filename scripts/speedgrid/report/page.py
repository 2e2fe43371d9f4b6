"""The page: from tables and study to one HTML file that needs nothing else, not even a network.

A study of many groups has each folded away under its name, with a matrix of speed-ups before them; charts are drawn where they are looked
at, from one collection of data (embedding.py). Every group's anchor is made of its names, so that a link to it holds.

All that comes from outside goes through the template's escaping; chart specifications go into the page as data, never as code. The page
forbids itself everything but its own two scripts (Content-Security-Policy with their hashes), and its charts are drawn by Vega's expression
interpreter, which needs no `eval`.
"""

import base64
import hashlib
import json
import re
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import jinja2
from markupsafe import Markup

from speedgrid import commands, differences, standing, stats, workload
from speedgrid.ceilings import BOUNDS
from speedgrid.comparison import Change, Comparison
from speedgrid.report import (
    advised,
    cards,
    charts,
    command,
    embedding,
    failures,
    machines,
    overview,
    pending,
    phrases,
    pictures,
    published,
    quality,
    timeline,
    together,
    training,
    trust,
    units,
)
from speedgrid.report import compared as compared_words
from speedgrid.report.answer import Answer, answer, standing_notes
from speedgrid.report.charts import base, devices
from speedgrid.report.figures_table import (
    MEANINGS,
    ResultTable,
    columns_shown,
    label_of,
    result_table,
    safe_href,
    sort_key,
    told_meaning,
    word_of,
)
from speedgrid.report.language import ENGLISH, Catalogue, now, spoken, tr, tr_html
from speedgrid.report.tables import Group, each, groups
from speedgrid.schema import FAILED, MEASURED, NOT_RUN, RUN, STATUSES, by_group, cell_of

SAMPLE_CHARACTERS = 600
PICTURES = {code: 0x2400 + code for code in range(32) if chr(code) not in "\n\t"}  # of control characters
MOST_SAID = 6  # techniques that a chart names in words
MOST_TITLES = 3  # of studies that the heading of one page names


@dataclass(frozen=True)
class Parts:
    """The sources of the page: template, style sheet, script, Vega's code, the published figures as CSV, the script of the guide, the
    registry of techniques, from which it takes the code to apply them, and the catalogues of languages by their code."""

    template: str
    style: str
    script: str
    vega: str
    published: str = ""
    guide: str = ""
    registry: Mapping = field(default_factory=dict)
    languages: Mapping[str, Catalogue] = field(default_factory=dict)

    def language(self, study: Mapping) -> Catalogue:
        """That of the study's page."""
        return self.languages.get(study.get("language", ENGLISH.code), ENGLISH)


@dataclass
class Section:
    """What the page shows of one group; `proof` and `figures` are pairs of a figure and the name of its specification."""

    anchor: str
    group: Group
    title: str
    answer: Answer
    proof: tuple[base.Figure, str] | None = None
    figures: list[tuple[base.Figure, str]] = field(default_factory=list)
    table: ResultTable | None = None
    machine: list[trust.MachineRow] = field(default_factory=list)
    scores: quality.ScoreTable | None = None
    refusals: list[str] = field(default_factory=list)
    held: str = ""
    impact: list[quality.ImpactRow] = field(default_factory=list)
    samples: list[dict] = field(default_factory=list)
    prompt: str = ""
    sizes: list[training.PointTable] = field(default_factory=list)
    others: published.Comparison | None = None
    fits: cards.Fits | None = None
    apart: Sequence[str] = ()  # the techniques whose speed-ups are between two GPUs (machines.Gpus)

    @property
    def is_proven(self) -> bool:
        """Whether anything was seen of what a technique did."""
        return bool((self.group.rows.evidence != "").any())


def render(parts: Parts, study: Mapping, *told, **more) -> str:
    """The whole page, of what `contents` takes, in the study's language. The same tables and sources give the same bytes."""
    with spoken(parts.language(study)):
        return written(parts, contents(parts, study, *told, **more))


def contents(
    parts: Parts,
    study: Mapping,
    summary: Sequence[Mapping],
    runs: Sequence[Mapping],
    replies: Sequence[Mapping],
    compared: Comparison | None = None,
    points: Sequence[Mapping] = (),
    scores: Sequence[Mapping] = (),
    states: Mapping[tuple, Mapping] | None = None,
) -> dict:
    """What `written` makes the page of, with a comparison with other results where there is one; pictures and Markdown are made of it, too.

    `points` are rows of schema.POINTS, `scores` those of schema.SCORE, `states` the facts of schema.STATE of cells by their AXES.
    """
    context = build(study, summary, runs, replies, points, published.read(parts.published), states)
    known = by_group(scores)
    for section in context["sections"]:
        own = known.get(section.group.key, [])
        section.scores = quality.score_table(section.group, own)
        section.refusals = quality.refusals(section.group, own)
        section.held = quality.held_sentence(section.group)
        section.impact = quality.impact_rows(section.group)
    context |= {"compared": compared, "words": compared_words}
    return context | {"guide": _guide(context["sections"], study, parts.registry)}


def written(parts: Parts, context: Mapping) -> str:
    """The page of its contents."""
    scripts = [_checked_script(parts.vega), _checked_script(parts.script + parts.guide)]
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "embedded": embedded,
        "embedded_text": embedded_text,
        "in_words": in_words,
        "evidence_words": trust.evidence_words,
        "coded": units.coded,
        "recorded": phrases.recorded,
    }
    environment.globals |= {"t": tr_html, "language": now().code, "js_texts": js_texts(parts.script + parts.guide)}
    environment.filters |= {"sort_key": sort_key, "on_page": _on_page, "shortened": _shortened}
    return environment.from_string(_slim(parts.template)).render(
        **context,
        style=Markup(parts.style),
        vega=Markup(scripts[0]),
        script=Markup(scripts[1]),
        script_sources=" ".join(map(script_source, scripts)),
    )


def _slim(template: str) -> str:
    """A template without what HTML lets one leave out: indentation, and the end tags of cells, rows and items, each of which ends where the
    next begins. On a page of 2,000 cells that is more than a megabyte."""
    return re.sub(r"</(?:td|th|tr|li)>", "", re.sub(r"^ +(?=[<{])", "", template, flags=re.MULTILINE))


def build(
    study: Mapping,
    summary: Sequence[Mapping],
    runs: Sequence[Mapping],
    replies: Sequence[Mapping],
    points: Sequence[Mapping] = (),
    figures: Sequence[published.Figure] = (),
    states: Mapping[tuple, Mapping] | None = None,
) -> dict:
    """Everything that the template shows; `points` are rows of schema.POINTS, `figures` those that others have published, `states` the
    facts of schema.STATE of cells by their AXES."""
    found = list(groups(summary, replies, states))
    shown = {
        kind: columns_shown(kind, [group for group in found if group.kind == kind]) for kind in dict.fromkeys(group.kind for group in found)
    }
    specifications: dict[str, dict] = {}
    of_group = {"runs": by_group(machines.measuring(runs)), "points": by_group(points)}
    measured = {key: (own, of_group["runs"].get(key, [])) for key, own in by_group(summary).items()}
    sections = []
    for group, anchor in zip(found, overview.anchors(found), strict=True):
        own = {name: rows.get(group.key, []) for name, rows in of_group.items()}
        with embedding.unchecked():
            sections.append(_section(anchor, group, study, own["runs"], own["points"], figures, shown[group.kind], specifications))
    with embedding.unchecked():
        sides = [_beside(number, one, specifications, measured) for number, one in enumerate(devices.side_by_side(found), 1)]
    anchors = {section.group.key: section.anchor for section in sections}
    # As the tables have them, where no two techniques of a group have one label.
    labels: dict[tuple, str] = {
        (*group.key, row.technique): row.label for group in found for row in each(group.rows[["technique", "label"]])
    }
    named = [{**row, "label": labels[cell_of(row)]} for row in summary]
    return {
        "charts": embedding.joined(specifications),
        "drawn": {name: specifications[name] for name in [name for section in sections for _, name in section.figures][: pictures.MOST]},
        "index": overview.index(found, shown),
        "filters": overview.filters(found),
        "matrices": overview.matrices([(section.group, section.anchor, section.answer.choice) for section in sections]),
        "leaders": overview.leaders([(section.group, section.answer.choice) for section in sections]),
        "presets": overview.presets(shown),
        "column_labels": {name: label_of(name) for names in shown.values() for name in names},
        "column_styles": Markup(overview.column_styles(shown)),  # names of columns alone
        "folded": len(found) > overview.UNFOLDED,
        "most_answers": overview.MOST_ANSWERS,
        "study": study,
        "title": _title(study),
        "sections": sections,
        "measured_cells": sum(len(section.group.measured) for section in sections),
        "all_cells": len(summary),
        "others": _others(study.get("others", ())),
        "sides": sides,
        "labels": {column.name: column.label for column in RUN} | machines.GPUS,
        "statuses": STATUSES,
        "definitions": [MEANINGS[name] for name in dict.fromkeys(word_of(name) for names in shown.values() for name in names)],
        "methods": {name: workload.used(settings) for name, settings in study["experiments"].items()},
        "repeated": any(not group.is_generation for group in found),
        "replies_needed": {percent: stats.percentile_needs(percent / 100) for percent in (95, 99)},
        "bounds": BOUNDS,
        "machine_columns": trust.MACHINE_COLUMNS,
        "command": _command(study),
        "program": commands.program(),
        "safe_href": safe_href,
        "several": len(sections) > 1,
        "anchors": anchors,
        "cell_of": lambda change: _cell_of(change, anchors, labels),
        "each": each,
        **_without_figures(named, runs),
        **_measured_with(summary, runs),
    }


def _without_figures(summary: Sequence[Mapping], runs: Sequence[Mapping]) -> dict:
    """What the page says of the cells without figures, and of those whose figures are of older code."""
    return {
        "standing": standing_notes(summary),
        "failures": failures.kinds(summary),
        "failed": [row for row in summary if row["status"] not in (*MEASURED, NOT_RUN)],
        "broken_cells": sum(row["status"] == FAILED for row in summary),
        "not_run": [row for row in summary if row["status"] == NOT_RUN],
        "time_left": pending.in_words(pending.seconds_left(summary, runs)),
    }


def _measured_with(summary: Sequence[Mapping], runs: Sequence[Mapping]) -> dict:
    """What the page says of the machines, the software and where the time went."""
    known = machines.machines(runs)
    return {
        "machines": known,
        "pooled": machines.pooled(runs),
        "device_names": list(dict.fromkeys(one.get("device_name") or one.get("cpu", tr("unknown device")) for one in known)),
        "environments": machines.environments(summary, runs),
        "span": machines.time_span(runs),
        "time_shares": timeline.shares(runs),
        "gpu_time": timeline.gpu_words(runs),
        "commits": sorted({run["git_commit"] for run in runs if run["git_commit"]}),
    }


def _guide(sections: Sequence[Section], study: Mapping, registry: Mapping) -> dict | None:
    """What the decision guide chooses from; None where nothing was measured. The largest size that fits is no speed to choose by."""
    chosen_by = [section for section in sections if not section.group.seeks_largest]
    groups = [section.group for section in chosen_by]
    if all(group.engaged.empty for group in groups):
        return None
    titles = [section.title for section in chosen_by]
    guides = [_guide_of(group, study, registry) for group in groups]
    told = advised.page_data(zip(titles, guides, strict=True))
    for section, own in zip(chosen_by, told["groups"], strict=True):
        own["anchor"] = section.anchor  # its name in the address
        own["advise"] = command.advise(study.get("results", ()), *(section.group.key if len(groups) > 1 else ()))
    return told


def _guide_of(group: Group, study: Mapping, registry: Mapping) -> advised.Guide:
    """The guide of a group, with the names that its own study has."""
    return advised.guide_of(group.records, study, registry)


# A group's section


def _cell_of(change: Change, anchors: Mapping[tuple, str], labels: Mapping[tuple, str]) -> dict[str, str]:
    """What the filter needs to know of a row of the comparison; nothing of a cell that these results do not have."""
    known = change.cell in labels
    return {"data-group": anchors[change.cell[:3]], "data-label": labels[change.cell]} if known else {}


def _section(
    anchor: str,
    group: Group,
    study: Mapping,
    runs: Sequence[Mapping],
    points: Sequence[Mapping],
    others: Sequence[published.Figure],
    columns: Sequence[str],
    specifications: dict[str, dict],
) -> Section:
    """The section of a group, with its measuring runs and its points; what its charts are goes into `specifications`."""
    replies = group.is_generation
    made = charts.figures(group, points)
    figures = [(figure, f"{anchor}-{figure.name}") for figure in made]
    origin = together.origin(study, group.key)
    ran_on = frozenset(run["device"] for run in runs)
    gpus = machines.gpus(runs, None if group.baseline is None else group.baseline.technique)
    told = answer(group, ran_on, machines.hosts(runs), origin.study_file, machines.differing(runs), gpus)
    proof = [(told.proof, f"{anchor}-{told.proof.name}")] if told.proof else []
    specifications |= {name: embedding.specification(figure.chart) for figure, name in (*proof, *figures)}
    settings = origin.settings
    return Section(
        anchor=anchor,
        group=group,
        title=f"{group.model} · {group.experiment} · {group.gpu}",
        answer=told,
        proof=proof[0] if proof else None,
        figures=figures,
        table=result_table(group, origin.techniques, columns, gpus.apart),
        apart=gpus.apart,
        machine=trust.machine_rows(group),
        samples=_samples(group) if replies else [],
        sizes=training.point_tables(points),
        others=published.beside(others, settings.get("published"), group, points, settings),
        fits=cards.table(group, cards.device_memory(runs, group)),
        prompt=settings.get("prompt") or _random(settings.get("prompt_tokens", "?")),
    )


def _random(tokens: int | str) -> str:
    return tr("{} random token" if tokens == 1 else "{} random tokens").format(tokens)


def _beside(
    number: int, sides: devices.Sides, specifications: dict[str, dict], measured: Mapping[tuple, tuple[Sequence[Mapping], ...]]
) -> dict:
    """What the page shows of devices or models side by side, of which each has its rows of the summary and of the runs in `measured`; what
    its chart is goes into `specifications`."""
    figure, name = devices.figure(sides), f"side-{number}"
    specifications[name] = embedding.specification(figure.chart)
    heads, rows = devices.table(sides)
    told = {"sides": sides, "figure": (figure, name), "heads": heads, "rows": rows, "said": devices.in_words(sides)}
    if sides.axis != "gpu":
        return told | {"around": [], "work": []}
    first, *others = ((name, measured[group]) for name, group in zip(sides.names, sides.groups, strict=True))
    around = [(first[0], name, differences.around(first[1], own)) for name, own in others]
    differ = [(a, b, [one for one in found if differences.is_of_the_work(one)]) for a, b, found in around]
    work = [(what, a, before, b, after) for a, b, found in differ for what, before, after, _ in compared_words.told(found)]
    return told | {"work": work, "around": [(a, b, compared_words.told(found)) for a, b, found in around if found]}


def _title(study: Mapping) -> str:
    """The heading of a page: the titles of its studies, or how many there are, where a heading of all of them would hide the answer."""
    titles = study.get("titles", ())
    return tr("{} studies on one page").format(len(titles)) if len(titles) > MOST_TITLES else study["title"] or study["name"]


def _others(names: Sequence[str]) -> str:
    if not names:
        return ""
    text, values = standing.not_in_plan(names)
    return tr(text).format(*values)


def js_texts(code: str) -> dict[str, str]:
    """The texts of the page's scripts, `translated("…")` there, in the language that is spoken; none in English, which they have."""
    texts = [json.loads(text) for text in re.findall(r'\btranslated\(("(?:[^"\\]|\\.)*")', code)]
    return {} if now() is ENGLISH else {text: tr(text) for text in texts}


def _shortened(words: str) -> str:
    """What a chart says to those who do not see it: of many techniques the first; nobody listens to all, and the table has them."""
    parts = words.split("; ")
    more = len(parts) - MOST_SAID
    return words if more <= 1 else "; ".join([*parts[:MOST_SAID], tr("and {} more, in the table of the figures").format(more)])


def _on_page(meaning: str) -> str:
    return tr(told_meaning(meaning))


def _samples(group: Group) -> list[dict]:
    """The first reply of each technique, cut to a readable length; a blank one, as random weights write them, is none."""
    first = group.replies[(group.replies.reply == 1) & (group.replies.run == 1)].set_index("technique").text
    labels = group.rows.set_index("technique").label
    return [{"label": label, "text": _cut(first[name])} for name, label in labels.items() if (first.get(name) or "").strip()]


def _cut(text: str) -> str:
    """A text of a readable length, with pictures in the place of characters that have none, which small models write, too."""
    text = text.translate(PICTURES)
    return text if len(text) <= SAMPLE_CHARACTERS else text[:SAMPLE_CHARACTERS] + " …"


# What to type, and settings in words


def _command(study: Mapping) -> dict[str, str]:
    """What to type, a line for each study whose cells are on the page: to go on here, and in any checkout with the launcher or without."""
    files = dict.fromkeys(origin.study_file for origin in study["origins"].values()) if "origins" in study else [study["study_file"] or ""]
    named = [shlex.quote(file or command.UNKNOWN) if file not in commands.DEFAULT else "" for file in files]
    others = [f" --configfile {name}" if name else "" for name in named]
    return {
        "here": "\n".join(map(command.run, files)),
        "speedgrid": "\n".join(f"{commands.IN_A_CLONE} run" + (f" --study {name}" if name else "") for name in named),
        "snakemake": "\n".join(f"snakemake --cores 1 --use-conda{other}" for other in others),
    }


def in_words(value: object) -> str:
    """A setting of the study as people write it."""
    if isinstance(value, bool):
        return tr("yes") if value else tr("no")
    if isinstance(value, Mapping):
        return ", ".join(f"{key} {in_words(inner)}" for key, inner in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(map(in_words, value))
    return str(value)


# Safety


def embedded(value: object) -> Markup:
    """JSON for a `<script type="application/json">`: nothing in it can end the script or begin another one."""
    return embedded_text(json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":")))


def embedded_text(text: str) -> Markup:
    """The same for what is JSON already, in ASCII."""
    return Markup(text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026"))


def _checked_script(code: str) -> str:
    """Code as it stands between script tags: a page reads every line end as \\n, and the hash must be that of what it reads."""
    code = code.replace("\r\n", "\n").replace("\r", "\n")
    if re.search(r"</script|<!--", code, re.IGNORECASE):
        raise ValueError("a script of the page holds `</script` or `<!--`, which would end it early")
    return code


def script_source(code: str) -> str:
    """What the page's Content-Security-Policy names a script by."""
    return f"'sha256-{base64.b64encode(hashlib.sha256(code.encode()).digest()).decode()}'"
