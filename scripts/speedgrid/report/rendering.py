"""Writes the page, and beside it the summary for a pull request and the charts as SVG, from the tables of a plan.

Single replies are read from the measure.parquet of every cell; template, style and script are in the folder report/ of the project.
"""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import altair
import vl_convert
import yaml

from speedgrid import checkpoints, commands, comparison, files, records, results
from speedgrid.outcomes import ModelError
from speedgrid.progress import say
from speedgrid.report import catalogues, collect, language, markdown, page, pictures
from speedgrid.report.bulk import in_bulk
from speedgrid.report.together import Told, without_plan
from speedgrid.schema import NOT_RUN, POINTS, RUNS, STATE, SUMMARY, cell_of

SOURCES = Path(__file__).resolve().parents[3] / "report"
FILES = {
    "template": "template.html.j2",
    "style": "style.css",
    "script": "page.js",
    "guide": "advice.js",
    "published": "published.csv",
}


def read(plan: Mapping, summary: Path, points: Path, runs: Path, at: Callable[[str], str] = str) -> Told:
    """What the page of a plan is made of: the three tables, and the records of its cells that are there. `at` says where a file of the plan
    lies. Raises RecordError for tables that are missing or cannot be read."""
    return _told(plan, records.read(summary, SUMMARY).rows, records.read(points, POINTS).rows, records.read(runs, RUNS).rows, at)


def _told(plan: Mapping, summary: list[dict], points: list[dict], runs: list[dict], at: Callable[[str], str]) -> Told:
    """The same of the rows of the tables."""
    with in_bulk():
        jobs = plan["jobs"]
        # What is there of a cell that the summary counts as not measured is of something else than the study has now.
        waiting = {cell_of(row) for row in summary if row["status"] == NOT_RUN}
        of_cells = [(cell_of(cell), runs_of(cell, jobs, at)) for cell in plan["cells"] if cell_of(cell) not in waiting]
        # The summary has looked whose answers stand.
        stands = {cell_of(row) for row in summary if row["quality_status"] != NOT_RUN} - waiting
        paths: dict[str, set[str]] = {}
        for cell in plan["cells"]:
            answered = paths.setdefault(cell["score"], set()) if cell["score"] else set()
            if cell_of(cell) in stands:
                answered.add(cell["technique"])
        return Told(
            {**plan["study"], "others": collect.not_in_plan(plan, at)},
            summary,
            runs,
            [row for _, own in of_cells for row in replies_of(own)],
            points,
            [row for path, own in paths.items() for row in collect.scores_shown(path, jobs, own, at) if cell_of(row) not in waiting],
            {key: state for key, own in of_cells if (state := state_of(own))},
        )


def read_folder(path: Path) -> Told:
    """What a page is made of, from a folder of results, or the folder that `results` is in; of published results what the tables that are
    there say, which may be the summary alone. Raises RecordError for what is none, and for tables or a plan that cannot be read."""
    found = files.summary_of(path)
    if found is None:
        raise records.RecordError(f"{path}: not a results folder; it has no summary.parquet, which {commands.program()} report makes")
    folder = found.parent
    summary = records.read(found, SUMMARY).rows
    beside = ((folder / f"{table.name}.parquet", table) for table in (POINTS, RUNS))
    points, runs = (records.read(at, table).rows if at.exists() else [] for at, table in beside)
    plan = results.plan_of(folder) or {"study": without_plan(path.name, summary, runs), "cells": [], "jobs": {}}
    return _told(plan, summary, points, runs, lambda name: str(results.moved(folder, name)))


def write(told: Told, out: Path, compared: comparison.Comparison | None = None) -> None:
    """Write the page, and what lies beside it. Raises RecordError where a folder of charts holds what speedgrid did not write."""
    with in_bulk():
        parts = read_parts()
        with language.spoken(parts.language(told.study)):
            rows = (told.summary, told.runs, told.replies, compared, told.points, told.scores, told.states)
            contents = page.contents(parts, told.study, *rows)
            html = page.written(parts, contents)
            # The page last: where it is there, so is what stands beside it.
            draw(contents["sections"], contents["drawn"], parts.style, out.with_name("figures"))
            answers = [(section.group, section.answer.in_short) for section in contents["sections"]]
            apart = {section.group.key: section.apart for section in contents["sections"]}
            text = markdown.summary(told.study, answers, contents["commits"], contents["device_names"], apart)
        for path, content in ((out.with_name("summary.md"), text), (out, html)):
            with records.replacing(path) as temporary:
                temporary.write_text(content, encoding="utf-8")
        measured, cells = sum(row["rate"] is not None for row in told.summary), len(told.summary)
        say(f"{out}: {len(html.encode()) / 2**20:.1f} MiB, {measured} of {cells} cell{'s' * (cells != 1)} with figures")


def draw(sections: Sequence[page.Section], specifications: Mapping[str, dict], style: str, folder: Path) -> None:
    """Write the charts of the first sections, those that have a specification here, into a folder of their own, in which nothing else
    stays. Raises RecordError where it holds something that speedgrid did not write."""
    colours = pictures.inks(style)
    checkpoints.adopt_figures(folder)
    try:
        with checkpoints.replacing(folder) as fresh:
            for figure, name in [pair for section in sections for pair in section.figures if pair[1] in specifications]:
                svg = vl_convert.vegalite_to_svg(pictures.drawable(figure, specifications[name], colours), vl_version=vega_lite())
                (fresh / f"{name}.svg").write_text(svg, encoding="utf-8")
    except ModelError as error:
        raise records.RecordError(str(error)) from None


def runs_of(cell: dict, jobs: Mapping[str, Mapping], at: Callable[[str], str] = str) -> list[records.Record]:
    """The records of all runs of a cell of the plan, in their order."""
    return [collect.read_replies(at(path), jobs[path]) for path in (f"{cell['folder']}/measure.parquet", *cell["again"])]


def replies_of(runs: Sequence[records.Record]) -> list[dict]:
    """The replies of a cell's runs, each with the number of its run; none of a further run that its figures are not of."""
    return [row | {"run": number} for number, record in records.of_one_status(runs) for row in record.rows]


def state_of(runs: Sequence[records.Record]) -> dict:
    """What was seen of the machine in a cell's first run: columns of schema.STATE; empty where nobody watched."""
    facts = runs[0].facts
    return {column.name: facts.get(column.name) for column in STATE} if facts.get("watched_s") is not None else {}


def compare_with(other: str, folder: Path) -> comparison.Comparison | None:
    """These results, in `folder`, compared with the others that the study names; None where it names none."""
    return comparison.compare(*results.read_both(Path(other).expanduser(), folder)) if other else None


def read_parts() -> page.Parts:
    """The sources of the page, Vega in the version that Altair writes its charts for, and the project's techniques."""
    sources = {name: (SOURCES / file).read_text(encoding="utf-8") for name, file in FILES.items()}
    registry = yaml.safe_load((SOURCES.parent / "techniques.yaml").read_text(encoding="utf-8"))
    vega = vl_convert.javascript_bundle(vl_version=vega_lite())  # type: ignore[call-arg]  # its stubs know no default
    return page.Parts(**sources, vega=vega, registry=registry, languages=catalogues.read_all())


def vega_lite() -> str:
    """The version of Vega-Lite that Altair writes charts for."""
    return ".".join(altair.SCHEMA_VERSION.lstrip("v").split(".")[:2])
