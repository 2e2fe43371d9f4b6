"""What is said of cells that ran at several sizes: which size is compared, the largest that fits, and how time grows with it."""

from typing import NamedTuple

from markupsafe import Markup

from speedgrid.report import phrases, units
from speedgrid.report.advised import FITS
from speedgrid.report.charts.sizes import LENGTHS
from speedgrid.report.language import tr, tr_html
from speedgrid.report.tables import Group, each


class Grown(NamedTuple):
    """What is said where something grows in the workload `largest`: a size (of one, and of several), who takes the largest (one, and
    several), what fits, that memory has room for more, and that the baseline takes as much."""

    one: str
    size: str
    takes: str
    take: str
    fits: str
    roomy: str
    none: str


GROWN = {
    "batch_size": Grown(
        "{}",
        "{}",
        "<strong>{}</strong> takes the largest batch: {}",
        "<strong>{}</strong> take the largest batch: {}",
        FITS["batch_size"],
        "{}: memory has room for more; no larger batch was tried.",
        "Nothing here takes a larger batch than <strong>{}</strong>, the baseline: {}.",
    ),
    "sequence": Grown(
        "{} token",
        "{} tokens",
        "<strong>{}</strong> takes the largest sequence: {}",
        "<strong>{}</strong> take the largest sequence: {}",
        FITS["sequence"],
        "{}: memory has room for more, but the model takes no longer sequence.",
        "Nothing here takes a larger sequence than <strong>{}</strong>, the baseline: {}.",
    ),
    "layers": Grown(
        "{} layer with {} parameters",
        "{} layers with {} parameters",
        "<strong>{}</strong> takes the largest model: {}",
        "<strong>{}</strong> take the largest model: {}",
        FITS["layers"],
        "{}: memory has room for more; no larger model was tried.",
        "Nothing here takes a larger model than <strong>{}</strong>, the baseline: {}.",
    ),
}
# The width of the interval of a power of the size up to which it is told.
GROWTH_KNOWN = 1.0


def headline(group: Group) -> Markup:
    """The headline of a search for the largest size."""
    engaged, baseline = group.engaged, group.baseline
    grown = GROWN[engaged.grows.iloc[0]]
    most = engaged[engaged.largest == engaged.largest.max()]
    size = _size(most.iloc[0])
    if baseline is not None and most.is_baseline.any():
        return tr_html(grown.none).format(baseline.label, size)
    lead = tr_html(grown.takes if len(most) == 1 else grown.take).format(phrases.names(most.label), size)
    if baseline is None:
        counts_nowhere = group.measured.is_baseline.any()
        none = tr_html("{}. The figures of the baseline are left out.") if counts_nowhere else tr_html("{}. The baseline has no figures.")
        return none.format(lead)
    times = units.number(float(most.largest.iloc[0] / baseline.largest), 2)
    return tr_html("{}, {} times that of {}, {}.").format(lead, times, baseline.label, _size(baseline))


def _size(row) -> str:
    """The largest size of a cell in words; of a model with its parameters."""
    words, largest = GROWN[row.grows], int(row.largest)
    return tr(words.one if largest == 1 else words.size).format(units.number(largest), phrases.in_words(row.parameters))


def compared(group: Group) -> Markup | None:
    """Of cells that ran at several sizes: which size is compared."""
    found = group.engaged.point.dropna().unique()
    if group.engaged.loss_last.isna().all():
        at = tr_html("Speeds and memory are compared at {}, the largest size that all finished.")
    else:
        at = tr_html("Speeds, memory and losses are compared at {}, the largest size that all finished.")
    if len(found) != 1:
        return None
    point = int(found[0])
    size = units.number(point)
    return at.format(tr("{} token" if point == 1 else "{} tokens").format(size) if group.workload in LENGTHS else size)


def points(group: Group) -> list[Markup]:
    """Of cells that ran at several sizes: what came out of the series."""
    return _largest_points(group) if group.seeks_largest else _growth_points(group)


def _largest_points(group: Group) -> list[Markup]:
    """How large a size each technique takes, and whether memory ended the search."""
    rows = group.engaged.sort_values("largest", ascending=False)
    sizes = [Markup("{} {}").format(row.label, _size(row)) for row in each(rows)]
    grown = GROWN[rows.grows.iloc[0]]
    points = [tr_html(grown.fits).format(units.listed(sizes))]
    if len(roomy := rows[rows.ended_by == "model"]):
        points.append(tr_html(grown.roomy).format(phrases.names(roomy.label)))
    return points


def _growth_points(group: Group) -> list[Markup]:
    """How the time grows with the size; up to which one, where that is not the same for all."""
    rows = group.engaged[group.engaged.growth.notna()]
    if not len(rows):
        return []

    def reach(row) -> Markup | str:
        return tr_html(" up to {}").format(units.number(int(row.largest))) if rows.largest.nunique() > 1 else ""

    # A power that may be anything from a fall to a cube says nothing of how the time grows.
    known = rows[~(rows.growth_high - rows.growth_low > GROWTH_KNOWN)]
    told = [
        Markup("{} {}{}").format(row.label, phrases.interval(row.growth, row.growth_low, row.growth_high, ""), reach(row))
        for row in each(known)
    ]
    points = [tr_html("Time grows with a power of the size, fitted over all sizes: {}.").format(units.listed(told))] if told else []
    # What is spent whatever the size pulls that power towards 0, and the largest sizes least.
    last = [
        Markup("{} {}{}").format(row.label, units.number(row.growth_last, 2), reach(row)) for row in each(rows[rows.growth_low.notna()])
    ]
    if last:
        at_last = tr_html("Growth of time between the two largest sizes alone (1: in proportion, 2: with the square): {}.")
        points.append(at_last.format(units.listed(last)))
    return points
