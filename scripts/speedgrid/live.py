"""What is shown while a run goes on: the step that begins, how much time is left, and the fastest so far. Pure but for `fastest`,
which reads the result of a job that has ended.

The time left is the sum over the steps to come of what the finished steps of the same rule took, the median of them. It says `at least`
where some rule has not finished a step yet, and nothing where none has.
"""

import re
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

from speedgrid.durations import duration

# The result file of a run, and no twin of one.
MEASURED = re.compile(r"measure(-\d+)?\.parquet")


@dataclass
class Progress:
    """The steps of a run: those that are to be done by rule, those that have begun, and what the finished ones took, in seconds."""

    total: Mapping[str, int] = field(default_factory=dict)
    begun: int = 0
    running: dict[int, tuple[str, float]] = field(default_factory=dict)  # by the job's number: its rule, and when it began
    took: dict[str, list[float]] = field(default_factory=lambda: defaultdict(list))
    failed: dict[str, int] = field(default_factory=lambda: defaultdict(int))

    @property
    def steps(self) -> int:
        return sum(self.total.values())

    def begins(self, job: int, rule: str, now: float) -> None:
        self.begun += 1
        self.running[job] = (rule, now)

    def ends(self, job: int, now: float, well: bool = True) -> None:
        """A step ended; one that never began here is none of ours."""
        if job not in self.running:
            return
        rule, began = self.running.pop(job)
        if well:
            self.took[rule].append(now - began)
        else:
            self.failed[rule] += 1

    def left(self, now: float) -> tuple[float, bool]:
        """Seconds that are left, and whether there is more whose time nobody knows yet."""
        seconds, is_more = 0.0, False
        for rule, count in self.total.items():
            on_the_way = [began for other, began in self.running.values() if other == rule]
            waiting = count - len(self.took[rule]) - self.failed[rule] - len(on_the_way)
            if self.took[rule]:
                typical = statistics.median(self.took[rule])
                seconds += max(waiting, 0) * typical + sum(max(typical - (now - began), 0.0) for began in on_the_way)
            elif waiting > 0 or on_the_way:
                is_more = True
        return seconds / max(1, len(self.running)), is_more


def left(progress: Progress, now: float) -> str:
    """The time left in words; empty where nothing is known."""
    seconds, is_more = progress.left(now)
    if seconds < 1:
        return ""
    return f"{'at least' if is_more else 'about'} {duration(seconds)} left"


@dataclass
class Fastest:
    """The speeds that were measured so far, by group (gpu, experiment, model) and technique; each of the last run of its cell."""

    baselines: frozenset[tuple[str, ...]] = frozenset()  # the cells that speed-ups are taken against
    speeds: dict[tuple[str, ...], dict[str, tuple[float, str]]] = field(default_factory=lambda: defaultdict(dict))
    latest: tuple[str, ...] = ()  # the group that was measured last

    def add(self, path: str) -> None:
        """Take the result of a run, where it is one that has figures; another file, or one that cannot be read, is none."""
        if MEASURED.fullmatch(path.rpartition("/")[2]) and (found := speed(path)):
            (*group, technique), rate, unit = found
            self.speeds[tuple(group)][technique] = (rate, unit)
            self.latest = tuple(group)

    def __str__(self) -> str:
        """The fastest of the group that was measured last, once it is more than one technique; empty before."""
        speeds = self.speeds.get(self.latest, {})
        if len(speeds) < 2:
            return ""
        technique, (rate, unit) = max(speeds.items(), key=lambda item: item[1][0])
        base = next((speeds[name][0] for *group, name in self.baselines if tuple(group) == self.latest and name in speeds), None)
        factor = f"{rate / base:.1f}" if base else "1.0"
        over = "" if factor == "1.0" else f", {factor}× the baseline"
        figure = f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"  # the second would write 1.3e+03
        return f"fastest so far: {technique} ({figure} {unit}{over})"


def speed(path: str) -> tuple[tuple[str, ...], float, str] | None:
    """The cell of a run, its typical speed (the median over its replies) and the unit. None where it has no figures, and where it ran at
    several sizes: which of them another cell reached is not known yet."""
    from speedgrid import comparison, records
    from speedgrid.schema import MEASURE, MEASURED

    try:
        record = records.read(path, MEASURE)
    except (records.RecordError, OSError):
        return None
    rows = [row for row in record.rows if row["reply_s"]]
    if record.status not in MEASURED or not rows or any(row["point"] is not None for row in record.rows):
        return None
    is_tokens = rows[0]["items"] is None
    rate = statistics.median((row["new_tokens"] if is_tokens else row["items"]) / row["reply_s"] for row in rows)
    return tuple(rows[0][axis] for axis in comparison.KEYS), rate, f"{record.facts['unit'] or 'token'}/s"


# What the handler of the terminal asks; Snakemake reads the rules in the same process.
fastest = Fastest()


@dataclass
class Planned:
    """What a dry run would do; `is_asked` says whether the run is one, which Snakemake knows only after it has read the rules."""

    is_asked: Callable[[], bool] = bool
    steps: list[tuple[str, str]] = field(default_factory=list)  # the rule, and what its step does

    def lines(self, rules: Iterable[str]) -> list[str]:
        """A line a step, in the order of `rules`."""
        order = {rule: at for at, rule in enumerate(rules)}
        return [f"  {does}" for _, does in sorted(self.steps, key=lambda step: order.get(step[0], len(order)))]


planned = Planned()


def follow(cells: Iterable) -> None:
    """Let the fastest so far be shown over the baselines of these cells of the grid."""
    fastest.baselines = frozenset(tuple(cell.key) for cell in cells if cell.is_baseline)
