"""Runs Snakemake with the logger of this folder: mistakes of the command line are one line, what jobs say on a terminal appears above the
live display, and Ctrl-C or SIGTERM ends the run with one line.

    python scripts/terminal.py [--logger speedgrid] [snakemake arguments ...]

The jobs' standard error is a pipe, and each line from it is printed by this process: a live display is redrawn
in place and counts on nobody else writing to the terminal (rich notices the line and moves its display down), and
after such a signal each job that ends with the run would say so in a block of its own.
"""

import atexit
import contextlib
import json
import os
import signal
import sys
import threading

from snakemake.cli import main
from speedgrid import commands, live, snakemake_seam, supervision

HAS_OUR_LOGGER = sys.argv[1:3] == ["--logger", "speedgrid"]


def relay(pipe):
    for line in pipe:
        if not live.stop.is_asked:
            with contextlib.suppress(OSError):  # nobody reads any more; jobs must not wait for room in the pipe
                print(line.rstrip("\n"), file=sys.stderr)  # looked up anew each time: rich replaces it


def relayed():
    shown = os.dup(2)
    reading, writing = os.pipe()
    os.dup2(writing, 2)  # what jobs inherit
    os.close(writing)
    sys.stderr = os.fdopen(shown, "w", buffering=1)  # what this process itself writes to
    pipe = os.fdopen(reading, encoding="utf-8", errors="replace")
    thread = threading.Thread(target=relay, args=(pipe,), daemon=True)
    thread.start()
    try:
        main()
    finally:
        os.dup2(shown, 2)  # closes the pipe, so that the relay ends with the last line
        thread.join(timeout=2)  # a process left behind may still hold the pipe


def stop(number, frame):
    """The first Ctrl-C or SIGTERM: Snakemake ends, and its jobs, which hear of it by themselves only from a terminal or a scheduler."""
    is_first = not live.stop.is_asked
    live.stop.is_asked = True  # at once: a terminal signals the jobs too, and what they say of it is shown until this is set
    live.stop.number = live.stop.number or number
    # A run that has started itself anew (`runs: auto`) stands among its own jobs.
    told = [process for process in supervision.jobs_of(os.getpid()) if process != os.getpid()] if is_first else []
    for process in told:
        with contextlib.suppress(OSError):
            os.kill(process, number)
    raise KeyboardInterrupt


def let_go():
    """A pipe that its reader closes, such as `| head`, is no error."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except BrokenPipeError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def go_on():
    """What the launcher has left to do after this command, in the place of this process."""
    told = os.environ.pop(commands.AFTERWARDS, "")
    if told:
        let_go()
        folder, *command = json.loads(told)
        os.chdir(folder)
        os.execv(command[0], command)


def run():
    atexit.register(let_go)  # after all else that is said at the end
    snakemake_seam.skip_the_note_of_profiles()
    snakemake_seam.tell_mistakes(commands.refuse_arguments)
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:  # else whoever started it has it ignored
        signal.signal(signal.SIGINT, stop)
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, stop)
        snakemake_seam.end_at_once(stop)
    try:
        (relayed if HAS_OUR_LOGGER else main)()
    except (KeyboardInterrupt, SystemExit) as end:
        if live.mistakes and not live.stop.is_asked:
            sys.exit(commands.MISTAKE)
        if not live.stop.is_asked:
            if isinstance(end, SystemExit) and not end.code:
                go_on()
            raise
        if not live.stop.is_told:
            print(live.stop.told(), file=sys.stderr)
        sys.exit(128 + live.stop.number if isinstance(end, KeyboardInterrupt) or end.code else 0)


if __name__ == "__main__":
    run()
