"""One fixed colour and one shape for each family of techniques, in every chart of every page. Pure.

The colours are CSS variables of report/style.css, one set for light and one for dark pages: apart from one another for people with any of
the three kinds of colour blindness too, and with a contrast of at least 3 to the page (tests/unit/test_charts.py holds both). The shapes
serve those who see no colours at all, and paper.
"""

# By family, as rules/schemas/techniques.schema.yaml lists them: Vega's name of the shape, or its path in a square from -1 to 1.
SHAPES = {
    "reference": "M-1,-0.4L1,-0.4L1,0.4L-1,0.4Z",
    "attention": "square",
    "compile": "triangle-up",
    "kv-cache": "cross",
    "decoding": "triangle-right",
    "precision": "diamond",
    "memory": "triangle-down",
    "quantization": "circle",
    "compression": "triangle-left",
    "engine": "M0,-1L0.22,-0.31L0.95,-0.31L0.36,0.12L0.59,0.81L0,0.38L-0.59,0.81L-0.36,0.12L-0.95,-0.31L-0.22,-0.31Z",
}
# The words of a legend and the class of style.css that draws the shape there.
WORDS = {
    "reference": "plain",
    "attention": "attention",
    "compile": "compilation",
    "kv-cache": "KV cache",
    "decoding": "decoding",
    "precision": "number format",
    "memory": "memory",
    "quantization": "quantization",
    "compression": "pruning and distillation",
    "engine": "other engine",
}
BASELINE, OFF, FAILED = "baseline", "not engaged", "failed"
BASELINE_INK, OFF_INK = "var(--chart-baseline)", "var(--chart-off)"


def ink(kind: str) -> str:
    """The colour of a family, of the baseline, or of what counts nowhere."""
    return {BASELINE: BASELINE_INK, OFF: OFF_INK, FAILED: OFF_INK}.get(kind) or f"var(--family-{kind})"


def shape(kind: str) -> str:
    """The shape of a family; the baseline and what counts nowhere have that of plain techniques."""
    return SHAPES.get(kind, SHAPES["reference"])
