"""The texts of the page that are looked up in a catalogue, as its sources have them: what a language must translate."""

import ast
import json
import re
from collections.abc import Iterator

import jinja2
import yaml
from speedgrid import comparison, planning, standing, workload
from speedgrid.ceilings import BOUNDS
from speedgrid.quality import excerpts
from speedgrid.report import (
    advice,
    answer,
    compared,
    failures,
    figures_table,
    grown,
    machines,
    markdown,
    overview,
    published,
    quality,
    rendering,
    timeline,
    training,
    trust,
)
from speedgrid.report.charts import base, devices, families, memory, phases, proof, sizes, speed, starts, watched
from speedgrid.schema import RUN, STATUSES, SUMMARY

PACKAGE = planning.ROOT / "scripts" / "speedgrid" / "report"
LOOKED_UP = ("tr", "tr_html")


def of_python() -> set[str]:
    """What stands in calls of `tr` and `tr_html`, on the page and in what `./speedgrid advise` says."""
    found: set[str] = set()
    for path in (*sorted(PACKAGE.rglob("*.py")), planning.ROOT / "scripts" / "advise.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in LOOKED_UP and node.args:
                found |= {part.value for part in _texts(node.args[0])}
    return found


def _texts(node: ast.expr) -> Iterator[ast.Constant]:
    """The texts that an argument may be: one, or one of two."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node
    elif isinstance(node, ast.IfExp):
        yield from _texts(node.body)
        yield from _texts(node.orelse)


def of_axes() -> set[str]:
    """Titles of axes and tooltips, which are looked up where a chart becomes a specification: `title=` of anything, and the arguments of
    `base.tooltip`. Units are the same in every language."""
    found: set[str] = set()
    for path in sorted((PACKAGE / "charts").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call):
                titles = ast.unparse(node.func) in ("base.tooltip", "tooltip")
                found |= {part.value for key in node.keywords if titles or key.arg == "title" for part in _texts(key.value)}
    return found - {"token/s"}


def of_template() -> set[str]:
    """What stands in calls of `t` in the template."""
    source = (rendering.SOURCES / rendering.FILES["template"]).read_text(encoding="utf-8")
    found = set()
    for call in jinja2.Environment().parse(source).find_all(jinja2.nodes.Call):
        if isinstance(call.node, jinja2.nodes.Name) and call.node.name == "t" and call.args:
            first = call.args[0]
            parts = [first.expr1, first.expr2] if isinstance(first, jinja2.nodes.CondExpr) else [first]
            found |= {part.value for part in parts if isinstance(part, jinja2.nodes.Const)}
    return found


def of_scripts() -> set[str]:
    """What stands in calls of `translated` in the page's scripts."""
    code = "".join((rendering.SOURCES / rendering.FILES[name]).read_text(encoding="utf-8") for name in ("script", "guide"))
    return {json.loads(text) for text in re.findall(r'\btranslated\(("(?:[^"\\]|\\.)*")', code)}


def of_constants() -> set[str]:
    """What is looked up by name: labels, meanings, statuses, verdicts, and what stands in tables of words."""
    shown = {*figures_table.TABLE, *training.TABLE}
    columns = [column for column in SUMMARY.columns if column.name in shown]
    found = {column.label for column in columns} | {figures_table.told_meaning(column.meaning) for column in columns}
    found |= {column.label for column in RUN if column.name in machines.MACHINE} | set(machines.GPUS.values())
    found |= {
        *STATUSES.values(),
        *BOUNDS,
        *BOUNDS.values(),
        *advice.GOALS.values(),
        advice.UNEVEN,
        advice.BOUNDED,
        advice.OPEN,
        advice.APART,
        base.ONE_END,
        *workload.PLURALS,
        "item",
    }
    found |= {*workload.PLURALS.values(), "token", "image", "tokens", "images", "items", *speed.ITEMS_A_SECOND.values()}
    found |= {text for one in (*answer.PRICELESS.values(), answer.UNMEASURED) for text in one}
    found |= {text for one in grown.GROWN.values() for text in one} - {"{}"}
    found |= {*trust.MACHINE_COLUMNS, *overview.PLACES.values(), *overview.KINDS.values(), *overview.PRESETS, excerpts.LABEL}
    found |= {*timeline.KINDS, timeline.OTHER, timeline.BETWEEN, figures_table.NEVER, "faster", "slower", "same", "unsure"}
    found |= {*families.WORDS.values(), *base.STATUS_WORDS.values(), *(words for words, _ in proof.BLOCKS.values())}
    found |= {*watched.INKS, *(words for words, _ in (*watched.ON_GPU.values(), *watched.ON_CPU.values()))}
    found |= {*devices.AXES.values(), "device", "model", sizes.BOTH, sizes.ENDED, *(name for _, name, *_ in phases.PARTS)}
    found |= {*failures.TO_DO.values(), *quality.NAMES.values(), *quality.TASKS.values(), "loss", "gain", "no measurable loss"}
    found |= {figures_table.IMPOSSIBLE, *markdown.HEADS, *published.NAMES.values(), *compared.HEADER, *comparison.OUTCOMES}
    found |= {*sizes.GROWS.values(), *sizes.LENGTHS.values(), *memory.PARTS, *starts.STEPS, *starts.FIRST.values(), *starts.ONCE}
    found |= {*comparison.NOTES, *overview.HEADS.values(), *(name.replace("_", " ") for name in STATUSES if name != "ok")}
    found |= {standing.OLDER, standing.OTHER, standing.NOT_IN_PLAN, standing.STUDY_EDITED, standing.STUDY_UNREAD, *standing.REASONS}
    found |= {words for one in quality.EXPECTED.values() for words in (one.name, one.speedup)}
    registry = yaml.safe_load((planning.ROOT / "techniques.yaml").read_text(encoding="utf-8"))
    found |= {technique["summary"] for technique in registry.values()}
    return found | {"fits", "tight", "too large", "not known", "characters", "words", "size", "no verdict", proof.UNCHANGED}


def every() -> set[str]:
    """All of them that have a word, and what joins lists and ends sentences."""
    found = of_python() | of_axes() | of_template() | of_scripts() | of_constants()
    return {text for text in found if re.search(r"[A-Za-z]", re.sub(r"\{\w*\}", "", text))} | {", ", "{}.", "{meaning}."}
