"""Runs Snakemake with the logger of this folder in its reach, with its mistakes of the command line in one line, so that what jobs say on
a terminal appears above its live display, and so that Ctrl-C ends it with a line.

    python scripts/terminal.py [--logger speedgrid] [snakemake arguments ...]

A live display is redrawn in place and counts on nobody else writing to the terminal. So there the jobs'
standard error is a pipe, and each line from it is printed by this process, which rich notices: it moves
its display down by that line. Where no terminal is, jobs write as they are.
"""

import contextlib
import os
import signal
import sys
import threading

from snakemake.cli import main
from speedgrid import commands, live, snakemake_seam, supervision

HAS_STATUS = sys.argv[1:3] == ["--logger", "speedgrid"] and sys.stderr.isatty()


def relay(pipe):
    for line in pipe:
        print(line.rstrip("\n"), file=sys.stderr)  # looked up anew each time: rich replaces it


def with_status():
    terminal = os.dup(2)
    reading, writing = os.pipe()
    os.dup2(writing, 2)  # what jobs inherit
    os.close(writing)
    sys.stderr = os.fdopen(terminal, "w", buffering=1)  # what this process itself writes to
    pipe = os.fdopen(reading, encoding="utf-8", errors="replace")
    thread = threading.Thread(target=relay, args=(pipe,), daemon=True)
    thread.start()
    try:
        main()
    finally:
        os.dup2(terminal, 2)  # closes the pipe, so that the relay ends with the last line
        thread.join(timeout=2)  # a process left behind may still hold the pipe


def stop(number, frame):
    """The first Ctrl-C: Snakemake ends, and its jobs, which hear of it by themselves only from a terminal."""
    # A run that has started itself anew (`runs: auto`) stands among its own jobs.
    told = [] if live.stop.is_asked else [process for process in supervision.jobs_of(os.getpid()) if process != os.getpid()]
    live.stop.is_asked = True
    for process in told:
        with contextlib.suppress(OSError):
            os.kill(process, signal.SIGINT)
    raise KeyboardInterrupt


def run():
    snakemake_seam.skip_the_note_of_profiles()
    snakemake_seam.tell_mistakes(commands.refuse_arguments)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else whoever started it has it ignored
        signal.signal(signal.SIGINT, stop)
    try:
        (with_status if HAS_STATUS else main)()
    except (KeyboardInterrupt, SystemExit) as end:
        if live.mistakes and not live.stop.is_asked:
            sys.exit(commands.MISTAKE)
        if not live.stop.is_asked:
            raise
        if not live.stop.is_told:
            print(live.stop.told(), file=sys.stderr)
        sys.exit(commands.STOPPED if isinstance(end, KeyboardInterrupt) or end.code else 0)


if __name__ == "__main__":
    run()
