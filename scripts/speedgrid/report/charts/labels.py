"""Where the labels of points go, so that none covers another or a point at any width of the page; and how labels break into lines. Pure."""

import textwrap
from collections.abc import Callable, Iterable, Sequence
from typing import TypeVar

LABEL_WIDTH = 19  # characters of a line of a row's label, so that a chart leaves room for itself on a phone
LINE = 14  # height of a line of a label, in pixels
CHARACTER, GAP = 6.6, 9  # a generous width of a character of a label; a label's distance from its point. Pixels
WIDTHS = (240, 330, 480, 760)  # the plot's width on a phone, in a column, and on a wide page


Spot = TypeVar("Spot")


def wrapped(label: str, lines: int = 3) -> str:
    """A label in at most so many lines of LABEL_WIDTH: of two, broken before a bracket, or as evenly as its words allow."""
    if len(label) <= LABEL_WIDTH:
        return label
    splits = [(label[:at], label[at + 1 :]) for at, character in enumerate(label) if character == " "]
    fitting: list[tuple[str, str]] = [split for split in splits if max(map(len, split)) <= LABEL_WIDTH]
    if fitting:
        split = min(fitting, key=_unevenness)
        return "\n".join(split)
    return "\n".join(textwrap.wrap(label, LABEL_WIDTH, max_lines=lines, placeholder=" …"))


def _unevenness(split: tuple[str, str]) -> tuple[bool, int]:
    """By what a label is broken best: before a bracket, then with the shortest longer line."""
    return not split[1].startswith("("), max(map(len, split))


def place_labels(
    points: Sequence[tuple[float, float]], names: Sequence[str], height: float, others: Sequence[tuple[float, float]] = ()
) -> list[tuple[float, float, str, bool]]:
    """Where each point's label goes: offset from the point in pixels, alignment, and whether a line must lead there. `others` are points
    without labels, which none should cover.

    `points` are (fraction of the plot's width, pixels from its top). Labels are placed one after another, each at the nearest spot that is
    free at every width of WIDTHS: offsets are pixels and points move apart as the plot grows, so that free once is not free always.
    """
    spots: list[tuple[float, float, str, bool]] = []
    boxes: list[list[tuple]] = []
    marks = [*points, *others]
    for point, name in zip(points, names, strict=True):
        lines = wrapped(name).split("\n")
        size = (max(map(len, lines)) * CHARACTER, len(lines) * LINE)
        options = ((spot, [label_box(point, spot, size, width) for width in WIDTHS]) for spot in _candidate_spots(size))
        spot, taken = _first_best(options, lambda option: _overlap(option[1], boxes, marks, height))
        spots.append(spot)
        boxes.append(taken)
    return spots


def _first_best(options: Iterable[Spot], cost: Callable[[Spot], float]) -> Spot:
    """The first of the options, of which there must be one, that cost least; none is made or looked at after one that costs nothing."""
    remaining = iter(options)
    best = next(remaining)
    least = cost(best)
    while least > 0 and (option := next(remaining, None)) is not None:
        if (own := cost(option)) < least:
            best, least = option, own
    return best


def _candidate_spots(size: tuple[float, float]) -> list[tuple[float, float, str, bool]]:
    """Spots around a point, nearest first."""
    above, beside = size[1] / 2 + GAP, GAP + 2
    spots = [(beside, 0.0, "left", False), (-beside, 0.0, "right", False), (0.0, -above, "center", False), (0.0, above, "center", False)]
    for step in range(1, 16):
        for dy in (-above - step * 12, above + step * 12):
            spots += [(dx, dy, align, True) for dx, align in ((0.0, "center"), (12.0, "left"), (-12.0, "right"))]
    return spots


def label_box(point, spot, size, width) -> tuple[float, float, float, float]:
    """Left, top, right and bottom of a label in a plot of `width` pixels."""
    dx, dy, align, _ = spot
    anchor = point[0] * width + dx
    left = anchor - size[0] * {"left": 0, "center": 0.5, "right": 1}[align]
    return left, point[1] + dy - size[1] / 2, left + size[0], point[1] + dy + size[1] / 2


def _overlap(candidate: Sequence[tuple], boxes: Sequence[Sequence[tuple]], points: Sequence[tuple[float, float]], height: float) -> float:
    """How much a label would cover, or leave the plot, summed over the widths: square pixels."""
    total = 0.0
    for number, (width, box) in enumerate(zip(WIDTHS, candidate, strict=True)):
        total += sum(shared(box, other[number]) for other in boxes)
        total += sum(shared(box, (x * width - 6, y - 6, x * width + 6, y + 6)) for x, y in points)
        inside = shared(box, (-30, 0, width + 4, height))  # a label may reach over the axis's side, where nothing stands between ticks
        total += (box[2] - box[0]) * (box[3] - box[1]) - inside
    return round(total, 6)


def shared(a: tuple, b: tuple) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def spread(places: Sequence[float], gap: float, low: float, high: float) -> list[float]:
    """Places on a line at least `gap` apart, in the order of `places`, each as near to its own as that allows and within low and high where
    all fit there: neighbours that are too close move apart around their mean."""
    order = sorted(range(len(places)), key=lambda index: places[index])
    groups: list[list[float]] = []  # sum of the wanted starts, how many
    for index in order:
        groups.append([places[index], 1])
        # A group is a run of labels that touch; it begins at the mean of where each would have it begin.
        while len(groups) > 1 and _begin(groups[-2]) + groups[-2][1] * gap > _begin(groups[-1]):
            total, count = groups.pop()
            groups[-1][0] += total - count * groups[-1][1] * gap
            groups[-1][1] += count
    found = [begin + number * gap for group in groups for begin in [_begin(group)] for number in range(int(group[1]))]
    for index in range(len(found)):
        found[index] = max(found[index], low + index * gap)
    for index in reversed(range(len(found))):
        found[index] = min(found[index], high - (len(found) - 1 - index) * gap)
    result = [0.0] * len(places)
    for place, index in zip(found, order, strict=True):
        result[index] = place
    return result


def _begin(group: Sequence[float]) -> float:
    return group[0] / group[1]
