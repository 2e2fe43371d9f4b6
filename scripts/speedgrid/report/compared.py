"""A comparison of two results in words, for the terminal and for the page alike. Pure."""

from collections.abc import Sequence

from speedgrid import standing
from speedgrid.comparison import NOTES, Change, Comparison
from speedgrid.differences import TELLING, Difference
from speedgrid.report import phrases, units
from speedgrid.report.language import told_anew, tr
from speedgrid.stats import Estimate

HEADER = ("", "cell", "A, per s", "B, per s", "B / A", "95 % interval", "")
LONGEST_VALUE = 60  # characters of a value that differs
OF_A_SIDE = (standing.OLDER, standing.OTHER)
NAMED = 3  # packages of another version that a cell names


def row(change: Change) -> tuple[str, ...]:
    """What HEADER names: outcome, cell, both speeds, their ratio with its interval, and what is to be said of it."""
    name = "/".join(change.cell)
    speeds = [_speed(one) for one in (change.before, change.after)]
    ratio, interval = "", ""
    if change.ratio:
        ratio, ends = units.ratio(change.ratio.told, change.ratio.low, change.ratio.high)
        is_open = change.ratio.hidden and not change.ratio.is_bound
        ratio, interval = tr("open") if is_open else ratio, ends or tr("none")
    return (tr(change.outcome), name, *speeds, ratio, interval, _remark(change))


def counts(compared: Comparison) -> str:
    """How many cells came out how, the most pressing first."""
    told = [f"{count} {tr(outcome)}" for outcome, count in compared.counts.items()]
    return tr(", ").join(told) or tr("no cells")


def floors(compared: Comparison) -> list[str]:
    """The noise between runs of every device and workload, from the least to the most that a cell has, a sentence each, without its full
    stop."""
    said = tr("Noise between runs on {}, {}: {} % (runs here: {}, and what others have shown)")
    found = []
    for (gpu, workload), noise in compared.noise.items():
        ends = dict.fromkeys(units.number(100 * sd, 2) for sd in (noise.least, noise.most))
        found.append(said.format(gpu, workload, "–".join(ends), noise.runs))
    return found


def differences(compared: Comparison) -> list[tuple[str, ...]]:
    """What differs around the cells: what, in A, in B, and in how many cells where that means something."""
    return told(compared.differences)


def told(found: Sequence[Difference]) -> list[tuple[str, ...]]:
    """The same of such differences."""
    return [(d.what, _cut(d.before), _cut(d.after), _in_cells(d.cells) if d.cells else "") for d in found]


def _in_cells(count: int) -> str:
    return tr("{count} cell" if count == 1 else "{count} cells").format(count=count)


def note(said: str) -> str:
    """A note of the comparison, in the language that is spoken; what it says of the cells of a side has its name before it."""
    side, _, about = said.partition(": ")
    if standing.taken_apart(f"{about}.", OF_A_SIDE):
        return f"{side}: {told_anew(f'{about}.', OF_A_SIDE).removesuffix('.').removesuffix('。')}"
    return told_anew(said, NOTES)


def _remark(change: Change) -> str:
    if change.outcome == "status":
        told = " → ".join(phrases.status(status or units.MISSING) for status in (change.status_before, change.status_after))
        return f"{told}: {change.reason}" if change.reason else told
    if change.sizes:
        return tr("at {0} in A and {1} in B: no verdict between different sizes").format(*(f"{size:,}" for size in change.sizes))
    if change.outcome == "no figures":
        return phrases.status(change.status_after or "")
    if change.status_after == "not_engaged" and change.outcome in ("faster", "slower", "same", "unsure"):
        return tr("not engaged in either")
    others = [name for name in change.differs if name not in ("status", "label")]
    known = [tr("other {}").format(tr(", ").join(others))] if others else []
    if change.ratio and change.ratio.hidden:
        if change.ratio.is_bound:
            hidden = "A" if change.ratio.low is None else "B"
            known.append(tr("no quiet run of {}, which may be faster than it seems").format(hidden))
        else:
            known.append(tr("no quiet run of A or B, which may be faster than they seem"))
    return "; ".join([*known, *_software(change)])


def _software(change: Change) -> list[str]:
    """What of the software differs, where that may be why a cell is faster or slower: what tells most by name, the rest as a number."""
    if change.software is None or change.outcome not in ("slower", "faster", "unsure"):
        return []
    if not change.software:
        alone = tr("the same versions; packages on one side alone: {}").format(change.packages_alone)
        said = alone if change.packages_alone else tr("the same software")
        return [said] if change.outcome != "unsure" else []
    named = [text for text in change.software if text.partition(" ")[0] in TELLING][:NAMED]
    rest = len(change.software) - len(named)
    if not named:
        return [tr("other software: {}").format(tr("{} packages").format(rest) if rest > 1 else change.software[0])]
    listed = tr(", ").join(named)
    return [tr("other software: {}").format(tr("{} and {} more").format(listed, rest) if rest else listed)]


def _speed(estimate: Estimate | None) -> str:
    return "" if estimate is None else units.with_interval(estimate.value, estimate.low, estimate.high)[0]


def _cut(text: str) -> str:
    return text if len(text) <= LONGEST_VALUE else text[:LONGEST_VALUE] + " …"
