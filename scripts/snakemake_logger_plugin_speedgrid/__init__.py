"""How a run looks: one line a step, on a terminal with a status below; Snakemake's own blocks are in its log file (`.snakemake/log`).

Snakemake finds it as its logger `speedgrid` where this folder is on Python's path, as scripts/terminal.py has it. `--verbose`, or any
`--logger` of Snakemake, shows another one in its place. Errors are printed as Snakemake prints them, with the log of the job.
"""

import logging
import math
import re
import sys
import time
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from snakemake_interface_logger_plugins.base import LogHandlerBase
from snakemake_interface_logger_plugins.common import LogEvent
from speedgrid import live
from speedgrid.amounts import duration

if TYPE_CHECKING:
    from rich.text import Text

# What Snakemake says of itself in every run, and nobody needs; anything else that it says is shown.
CHATTER = re.compile(
    r"(Building DAG of jobs|Using shell|Using profile|Using workflow specific profile|Provided |Rules claiming more threads|Select jobs"
    r"|Execute \d+ jobs|Assuming unrestricted|Conda environments: ignored|Singularity containers: ignored|Finished jobid|host: "
    r"|Job stats|Touching output|Complete log|Activating conda environment|Elapsed time: "
    # Of a dry run beside a run that goes on, which is none the worse for it.
    r"|Error: Directory cannot be locked\. Another )"
)
# The last words of a dry run, and what stands before them of the reasons for jobs.
OF_A_DRY_RUN = re.compile(r"(Reasons:|Some jobs were triggered by provenance|Rules with provenance triggered jobs|This was a dry-run)")
# A target that no rule makes: with the name of the error, and in two lines.
NO_RULE = re.compile(r"MissingRuleException.*?No rule to produce (.*?) \(if you use", re.DOTALL)
# What the page of a run that goes on (refresh.py) leaves, before the jobs that make the last one.
OF_THE_PAGE = re.compile(r"Warning: the following output files of rule (plan|aggregate|report) were not present")
# Told otherwise, by `_step` and the status.
OTHERWISE = (
    *(LogEvent.RUN_INFO, LogEvent.JOB_STARTED, LogEvent.JOB_FINISHED, LogEvent.PROGRESS, LogEvent.RESOURCES_INFO),
    *(LogEvent.WORKFLOW_STARTED, LogEvent.GROUP_INFO, LogEvent.RULEGRAPH),
)

# Ctrl-C on a terminal ends jobs in the moment in which this process hears of it. What is said of the end of a job waits until it has, but
# not for each of its lines anew: what comes after them would be late, and lost where the run is then stopped.
HEARD_S = 0.2


class LogHandler(LogHandlerBase):
    """Receives all that Snakemake logs, in a thread of its own."""

    def __post_init__(self) -> None:
        self.progress = live.Progress()
        self.best = ""  # as it was told last
        self.outputs: dict[int, list[str]] = {}
        self.status: Status | None = None
        if sys.stderr.isatty():
            self.status = Status(self)

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR and not live.stop.is_asked:
            time.sleep(min(max(record.created + HEARD_S - time.time(), 0.0), HEARD_S))
        try:
            for line in self._lines(record):
                print(line, file=sys.stderr, flush=True)
        except Exception:  # what is said of a run may not end it
            self.handleError(record)

    def _lines(self, record: Any) -> list[str]:
        """What is shown of a record, whose further attributes depend on its event (LogEvent)."""
        if live.stop.is_asked:  # Snakemake tells of it in blocks, for each job that it ends
            return [] if live.stop.is_told else [live.stop.told(self.progress)]
        event, now = getattr(record, "event", None), time.monotonic()
        if event == LogEvent.SHELLCMD and getattr(record, "shellcmd", None) is None:
            return []  # `--printshellcmds`, of a job that has no command
        if event == LogEvent.RUN_INFO:
            self.progress.total = {rule: count for rule, count in record.stats.items() if rule != "total"}
        elif event == LogEvent.JOB_INFO and live.planned.is_asked():
            live.planned.steps.append(_planned(record))
            return []
        elif event == LogEvent.JOB_INFO:
            return [self._step(record, now)]
        elif event == LogEvent.JOB_FINISHED:
            self.progress.ends(record.job_id, now)
            for path in self.outputs.pop(record.job_id, ()):
                live.fastest.add(path)
        elif event == LogEvent.JOB_ERROR:
            self.progress.ends(record.jobid, now, well=False)
        if event is None and (last := OF_A_DRY_RUN.match(str(record.msg))):
            return self._dry_run() if last[0] == "This was a dry-run" else []
        if named := NO_RULE.match(str(record.msg)):
            live.mistakes.append(named[1])
            return [f"speedgrid: {named[1]} is nothing that a run makes: `run --list` lists what it makes, and a study is named by --study"]
        if event is None and OF_THE_PAGE.match(str(record.msg)):
            return []
        if event in OTHERWISE or (event is None and record.levelno == logging.INFO and CHATTER.match(str(record.msg))):
            return []
        text = self.format(record)
        return [text] if text and text != "None" else []

    def _step(self, record: Any, now: float) -> str:
        """The line of a step that begins."""
        self.progress.begins(record.jobid, record.rule_name, now)
        self.outputs[record.jobid] = _paths(record.output)
        best = "" if self.status or str(live.fastest) == self.best else str(live.fastest)
        self.best = best or self.best
        more = [text for text in (live.left(self.progress, now), best) if text]
        what = record.rule_msg or record.rule_name
        count = f"{self.progress.begun}/{self.progress.steps}"
        return f"{time.strftime('%H:%M:%S')}  {count:>7}  {what}" + (f"  ({'; '.join(more)})" if more else "")

    def _dry_run(self) -> list[str]:
        """What a dry run says, all at once: a line a step, and how many of each kind."""
        counts = self.progress.total
        kinds = ", ".join(f"{count} {rule}" for rule, count in counts.items())
        steps = f"{self.progress.steps} step{'s' * (self.progress.steps != 1)}"
        return [*live.planned.lines(), f"{steps} would run ({kinds}); nothing was started (-n). With --verbose each has its reason."]

    def close(self) -> None:
        if self.status:
            self.status.stop()
        super().close()

    @property
    def writes_to_stream(self) -> bool:
        return True

    @property
    def writes_to_file(self) -> bool:
        return False

    # Snakemake's own are attached: what `--quiet` leaves out, `--printshellcmds` adds and an error looks like is its matter.
    @property
    def has_filter(self) -> bool:
        return False

    @property
    def has_formatter(self) -> bool:
        return False

    @property
    def needs_rulegraph(self) -> bool:
        return False


def _planned(record: Any) -> live.Step:
    priority = math.inf if record.priority == "highest" else float(record.priority)
    return live.Step(record.rule_msg or record.rule_name, tuple(_paths(record.input)), tuple(_paths(record.output)), priority)


def _paths(told: Iterable[str]) -> list[str]:
    """The paths of files as Snakemake formats them, some with words behind."""
    return [path.partition(" (")[0] for path in told]


class Status:
    """The last lines of a terminal: how far the run is, since when, how long still, and the fastest so far."""

    def __init__(self, handler: LogHandler):
        from rich.console import Console
        from rich.live import Live

        self.handler, self.began = handler, time.monotonic()
        # Once a second: it shares the processor with what is being measured.
        self.live = Live(self, console=Console(stderr=True), refresh_per_second=1, transient=True)
        self.live.start()

    def __rich__(self) -> "Text":
        from rich.text import Text

        progress, now = self.handler.progress, time.monotonic()
        if not progress.steps or live.planned.is_asked():
            return Text("")
        done = sum(map(len, progress.took.values()))
        since = f"{duration(now - self.began)} so far"
        parts = [f"{done} of {progress.steps} steps done", since, live.left(progress, now), str(live.fastest)]
        return Text(" · ".join(part for part in parts if part), style="bold")

    def stop(self) -> None:
        self.live.stop()
