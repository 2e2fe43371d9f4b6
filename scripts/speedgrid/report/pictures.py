"""The page's charts as SVG files for slides, papers and `snakemake --report`: each with its title, on paper's colours. Pure."""

import json
import re
import textwrap
from collections.abc import Mapping

from speedgrid.report import embedding

WIDTH = 640  # pixels of the plot with its labels
LINE = 90  # characters of a line under the title
MOST = 60  # so many pictures at most, of the first groups: those of a large study are drawn by its page, as they are asked for


def inks(style: str) -> dict[str, str]:
    """The colours that a style sheet names, as they are on a light page: {"--ink": "#1b2330", ...}."""
    light = re.search(r":root\s*\{([^}]*)\}", style)
    return dict(re.findall(r"(--[\w-]+):\s*([^;]+);", light.group(1))) if light else {}


def drawable(figure, specification: Mapping, colours: Mapping[str, str]) -> str:
    """The JSON of a figure (charts.Figure) with its specification (embedding.py) for a renderer that has no page: with rows, width, title
    and colours of its own."""
    datasets = {name: embedding.rows(columns) for name, columns in specification["datasets"].items()}
    title = {"text": figure.title, "subtitle": textwrap.wrap(figure.caption, LINE), "anchor": "start", "offset": 14, "fontSize": 16}
    spec = {**specification, "datasets": datasets, "width": WIDTH, "title": title, "background": "white", "padding": 16}
    text = json.dumps(spec, allow_nan=False)
    return re.sub(r"var\((--[\w-]+)\)", lambda found: colours.get(found.group(1), "#000000"), text)
