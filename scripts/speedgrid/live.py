"""What is shown while a run goes on: the step that begins, how much time is left, and the fastest so far. Pure but for `fastest`,
which reads the result of a job that has ended, and those that were there before.

The time left is the sum over the steps to come of what the finished steps of the same rule took, the median of them. It says `at least`
where some rule has not finished a step yet, and nothing where none has.
"""

import heapq
import statistics
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from graphlib import TopologicalSorter
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from speedgrid import files
from speedgrid.amounts import duration

if TYPE_CHECKING:
    from speedgrid.stats import Run


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
    """The runs that were measured so far, by group (gpu, experiment, model) and technique, and the fastest of the group that was measured
    last in words: those are asked for every second, beside what is being measured."""

    baselines: frozenset[tuple[str, ...]] = frozenset()  # the cells that speed-ups are taken against
    planned: Mapping[tuple[str, ...], Iterable[str]] = field(default_factory=dict)  # the results of all runs of a group, there or not
    stays: Callable[[str], bool] = lambda path: False  # whether a result was there before and is not made anew
    cells: dict[tuple[str, ...], dict[str, dict[str, "Measured"]]] = field(default_factory=dict)  # the runs by their files
    words: str = ""

    def add(self, path: str) -> None:
        """Take the result of a run that has ended, and, with the first of its group, what was there of the others. A file of something
        else, or one without figures, is none."""
        if not files.is_of_a_run(Path(path)) or not (ended := measured(path)):
            return
        *of, technique = ended.cell
        group = tuple(of)
        if group not in self.cells:
            self.cells[group] = self._before(group)
        self.cells[group].setdefault(technique, {})[path] = ended
        self.words = self._fastest_of(group)

    def _before(self, group: tuple[str, ...]) -> dict[str, dict[str, "Measured"]]:
        """What a run of speedgrid before this one has measured: further runs are a new process (snakemake_seam.again_at_the_end)."""
        found: dict[str, dict[str, Measured]] = defaultdict(dict)
        for path in filter(self.stays, self.planned.get(group, ())):
            if run := measured(path):
                found[run.cell[-1]][path] = run
        return found

    def __str__(self) -> str:
        return self.words

    def _fastest_of(self, group: tuple[str, ...]) -> str:
        """The fastest of a group, once it is more than one technique, by the rule of the page (noise.speeds); empty before."""
        from speedgrid import noise

        cells = self.cells[group]
        if len(cells) < 2:
            return ""
        runs = {name: list(own.values()) for name, own in cells.items()}
        judged = noise.speeds([(own[-1].device, [one.run for one in own]) for own in runs.values()])
        speeds = {name: (speed.value, own[-1].unit, speed.quiet) for (name, own), speed in zip(runs.items(), judged, strict=True)}
        technique, (rate, unit, is_quiet) = max(speeds.items(), key=lambda item: item[1][0])
        itself = (rate, unit, is_quiet)  # where the baseline is not measured yet
        base, _, base_is_quiet = next((speeds[name] for *of, name in self.baselines if tuple(of) == group and name in speeds), itself)
        factor = f"{rate / base:.1f}"
        over = "" if factor == "1.0" else f", {factor}× the baseline"
        if not (is_quiet and base_is_quiet) and factor != "1.0":
            # How much a busy machine slowed them is not known here.
            who = "the baseline" if is_quiet else "it" if base_is_quiet else "both"
            over = f"; {who} {'were' if who == 'both' else 'was'} disturbed"
        figure = f"{rate:,.0f}" if rate >= 100 else f"{rate:.3g}"  # the second would write 1.3e+03
        return f"fastest so far: {technique} ({figure} {unit}{over})"


class Measured(NamedTuple):
    """A run: its cell, its speed, in what unit, and the kind of its device."""

    cell: tuple[str, ...]
    run: "Run"
    unit: str
    device: str


def measured(path: str) -> Measured | None:
    """What a run measured. None where it has no figures, and where it ran at several sizes: which of them another cell reached is not known
    yet."""
    from speedgrid import noise, records
    from speedgrid.schema import MEASURE, cell_of

    try:
        record = records.read(path, MEASURE)
    except (records.RecordError, OSError):
        return None
    rows = [row for row in record.rows if row["reply_s"]]
    if record.status != "ok" or not rows or any(row["point"] is not None for row in record.rows):
        return None
    unit = f"{record.facts['unit'] or 'token'}/s"
    return Measured(cell_of(rows[0]), noise.run(record.facts, rows), unit, record.facts.get("device") or "")


# What the handler of the terminal asks; Snakemake reads the rules in the same process.
fastest = Fastest()


@dataclass(frozen=True)
class Step:
    """A job that a dry run lists: what it does, its files, and its priority."""

    does: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    priority: float


@dataclass
class Planned:
    """What a dry run would do; `is_asked` says whether the run is one, which Snakemake knows only after it has read the rules."""

    is_asked: Callable[[], bool] = lambda: False
    steps: list[Step] = field(default_factory=list)

    def lines(self) -> list[str]:
        """A line a step, in the order in which they run one after another: of those whose inputs are there the one of highest priority."""
        made = {path: at for at, step in enumerate(self.steps) for path in step.outputs}
        sorter = TopologicalSorter({at: {made[path] for path in step.inputs if path in made} for at, step in enumerate(self.steps)})
        sorter.prepare()
        lines: list[str] = []
        ready: list[tuple[float, int]] = []
        while sorter.is_active():
            for at in sorter.get_ready():
                heapq.heappush(ready, (-self.steps[at].priority, at))
            _, at = heapq.heappop(ready)
            lines.append(f"  {self.steps[at].does}")
            sorter.done(at)
        return lines


planned = Planned()


def follow(cells: Sequence, stays: Callable[[str], bool]) -> None:
    """Let the fastest so far be shown over the baselines of these cells of the grid, of all their results: those of this run, and those
    that were there before and stay."""
    fastest.baselines = frozenset(tuple(cell.key) for cell in cells if cell.is_baseline)
    planned: dict[tuple[str, ...], list[str]] = defaultdict(list)
    for cell in cells:
        planned[tuple(cell.key[:-1])] += cell.measures
    fastest.planned, fastest.stays = planned, stays


@dataclass
class Stop:
    """Whether whoever started the run has stopped it, with Ctrl-C or SIGTERM (scripts/terminal.py), by which signal, and whether the line
    about that was said."""

    is_asked: bool = False
    number: int = 0
    is_told: bool = False

    def told(self, progress: Progress | None = None) -> str:
        """The line: what is kept, and how to go on."""
        self.is_told = True
        goes_on = "the same command goes on from there"
        if progress is None or not progress.steps:
            return f"speedgrid: stopped; what was done is kept, and {goes_on}"
        done = f"{sum(map(len, progress.took.values()))} of {progress.steps} steps are done and kept"
        page = "; results/report.html will show what was measured" if "report" in progress.total else ""
        return f"speedgrid: stopped; {done}, and {goes_on}{page}"


stop = Stop()
# Targets that no rule makes, of whoever started the run.
mistakes: list[str] = []
