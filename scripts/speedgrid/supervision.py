"""A job under watch: its work runs in a process of its own, and this one says what became of it where it cannot say so itself.

Code that never returns, the kernel that kills for want of memory, the death of Snakemake: a process cannot write down what strikes it so.
The watching process imports nothing heavy and sleeps; the work is a child that it forks before anything else is loaded.
"""

import ctypes
import faulthandler
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from speedgrid import containers
from speedgrid.outcomes import Interrupted, Timeout

# Environment variables of every job, no part of what makes a result: when its time is up, whose death ends it, with how many jobs on GPUs
# it shares the cores, and how many make checkpoints side by side.
TIME_BUDGET, WANTED_BY, GPU_JOBS = "SPEEDGRID_TIME_BUDGET_S", "SPEEDGRID_WANTED_BY", "SPEEDGRID_GPU_JOBS"
MAKES = "SPEEDGRID_MAKES"
# From the request to end to the end by force. Slurm leaves 30 s between the two.
GRACE_S = 20.0
# How often the watch looks whether the process that wants the result is still there.
TICK_S = 0.5
# What the child ends with where it could not even write that it ran out of memory.
NO_MEMORY = 86
# "Processor time exceeded": what the watch sends when the time is up, since nothing else uses it.
TIME_IS_UP = signal.SIGXCPU
ASKED_TO_STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36


@dataclass(frozen=True)
class End:
    """How the work ended: its exit status, or minus the signal that ended it; what it was doing; its peak memory in bytes (RSS).

    `late` where the time budget ran out and the work did not end well; `no_memory` where it ran out of memory and could not write so;
    `asked` where it was asked to stop.
    """

    status: int
    phase: str
    peak: int
    late: bool
    no_memory: bool
    asked: bool = False


def watch(
    work: Callable[[Callable[[str], object]], int],
    budget_s: float | None,
    wanted_by: int | None,
    beside: Callable[[Callable[[], int]], object] | None = None,
) -> End:
    """Run `work` in a child process and return, in this one, how it ended; in the child this never returns.

    `work` gets a function to name its phase by, and returns an exit status. After `budget_s` seconds outcomes.Timeout is raised in it,
    and outcomes.Interrupted when this process is asked to stop or when the process `wanted_by` has died; GRACE_S later it is killed.

    `beside` runs meanwhile in a thread of this process; it gets a function that says how many phases the work has named.
    """
    reader, writer = os.pipe()
    _prctl(PR_SET_CHILD_SUBREAPER, 1)
    killed_before = killed_for_memory()
    sys.stdout.flush()
    sys.stderr.flush()
    watcher = os.getpid()
    child = os.fork()
    if child == 0:
        os.close(reader)
        _die_with(watcher)
        _hear_requests(budget_s)
        sys.exit(work(lambda phase: os.write(writer, f"{phase}\n".encode())))
    os.close(writer)
    watch = _Watch(child, reader, budget_s, wanted_by)
    if beside:
        # Nothing waits for it, so that it may hang, as a call of a driver can.
        threading.Thread(target=beside, args=(lambda: watch.phases,), name="beside", daemon=True).start()
    status, phase, peak, late = watch.until_the_end()
    no_memory = status == NO_MEMORY or (status == -signal.SIGKILL and not late and killed_for_memory() > killed_before)
    return End(status, phase, peak, late, no_memory, watch.asked)


def jobs_of(wanted_by: int) -> list[int]:
    """The processes on this machine that work for the process `wanted_by`, which may be dead: its jobs, and what these started."""
    told, found = f"{WANTED_BY}={wanted_by}".encode(), []
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if told in (process / "environ").read_bytes().split(b"\0") and _birth(int(process.name)):
                found.append(int(process.name))
    return found


def children() -> list[int]:
    """The processes that this one has started and that have not been waited for."""
    return [int(number) for tasks in Path("/proc/self/task").glob("*/children") for number in tasks.read_text().split()]


def finish_undisturbed() -> None:
    """From here on requests to stop are not heard: what follows is short, and whole or not at all."""
    for number in (*ASKED_TO_STOP, TIME_IS_UP):
        signal.signal(number, signal.SIG_IGN)


class _Watch:
    """The watching process, from the fork to the end of the child."""

    def __init__(self, child: int, reader: int, budget_s: float | None, wanted_by: int | None):
        self.child, self.wanted_by = child, wanted_by
        # None once the child has closed its end.
        self.reader: int | None = reader
        # None where that process has died already, such as while this job waited for its GPU.
        self.born = _birth(wanted_by) if wanted_by else None
        self.deadline = None if budget_s is None else time.monotonic() + budget_s
        self.force_at: float | None = None
        self.late = self.forced = self.asked = False
        self.said = b""
        self.phases = 0
        for number in ASKED_TO_STOP:
            signal.signal(number, lambda number, _: self.ask(number))

    def until_the_end(self) -> tuple[int, str, int, bool]:
        while True:
            with suppress(InterruptedError):
                self._listen()
            done, status, usage = os.wait4(self.child, os.WNOHANG)
            if done:
                break
            now = time.monotonic()
            if self.deadline is not None and now >= self.deadline:
                self.deadline, self.late = None, True
                self.ask(TIME_IS_UP)
            if self.wanted_by is not None and (self.born is None or _birth(self.wanted_by) != self.born):
                self.wanted_by = None
                self.ask(signal.SIGTERM)
            if self.force_at is not None and now >= self.force_at:
                self.force_at, self.forced = None, True
                os.kill(self.child, signal.SIGKILL)
        if status or self.forced:
            _end_family()
        lines = self.said.decode(errors="replace").splitlines()
        return os.waitstatus_to_exitcode(status), lines[-1] if lines else "", usage.ru_maxrss * 1024, self.late and status != 0

    def ask(self, number: int) -> None:
        """Ask the child to end, once; and set the time after which it is not asked any more."""
        if self.force_at is None and not self.forced:
            self.asked = number != TIME_IS_UP
            self.force_at = time.monotonic() + GRACE_S
            os.kill(self.child, number)

    def _listen(self) -> None:
        ready, _, _ = select.select([self.reader] if self.reader is not None else [], [], [], TICK_S if self.reader is not None else 0.05)
        if self.reader is None or not ready:
            return
        said = os.read(self.reader, 65536)
        self.said = (self.said + said)[-4096:]
        self.phases += said.count(b"\n")
        if not said:
            # The child has closed its end: it is about to be gone.
            os.close(self.reader)
            self.reader = None


def late(budget_s: float) -> str:
    """The reason of a job whose time is up."""
    return f"the time budget of {budget_s:,} s ran out"


def _hear_requests(budget_s: float | None) -> None:
    """In the child: a request to end becomes an exception in the main thread, the first one only."""

    def raise_once(error: BaseException) -> None:
        finish_undisturbed()
        raise error

    for number in ASKED_TO_STOP:
        signal.signal(number, lambda number, _: raise_once(Interrupted(number)))
    signal.signal(TIME_IS_UP, lambda *_: raise_once(Timeout(late(budget_s or 0))))
    # Where the program stands goes to the log first, by C code: it may never get back to Python.
    faulthandler.register(TIME_IS_UP, all_threads=False, chain=True)


def _die_with(watcher: int) -> None:
    """In the child: killed when the watching process is, so that no job goes on unwatched."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != watcher:
        os._exit(1)


def _prctl(option: int, value: int) -> None:
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(option, value, 0, 0, 0)


def _birth(process: int) -> str | None:
    """When a process began, as the kernel counts; None where it is dead. Its number alone may be another's by now."""
    try:
        fields = Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else fields[19]


def killed_for_memory(groups: Path = containers.GROUPS, own: Path = containers.OWN) -> int:
    """How many processes the kernel has killed for want of memory: in this process's memory cgroup, else on the whole machine."""
    # The groups' own counters: in the second version of control groups, and in the first.
    counters = [group / name for group in containers.around("memory", groups, own) for name in ("memory.events", "memory.oom_control")]
    for path in (*counters, Path("/proc/vmstat")):
        with suppress(OSError):
            for line in path.read_text().splitlines():
                if line.startswith("oom_kill "):
                    return int(line.split()[1])
    return 0


def _end_family() -> None:
    """Kill what the child has left behind: its own children became this process's when it ended."""
    for _ in range(100):
        left = children()
        if not left:
            return
        for process in left:
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
            with suppress(ChildProcessError):
                os.waitpid(process, 0)
