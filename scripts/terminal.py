"""Runs Snakemake with the logger of this folder in its reach, and so that what jobs say on a terminal appears above its live display.

    python scripts/terminal.py [snakemake arguments ...]

A live display is redrawn in place and counts on nobody else writing to the terminal. So there the jobs'
standard error is a pipe, and each line from it is printed by this process, which rich notices: it moves
its display down by that line. Where no terminal is, jobs write as they are.
"""

import os
import sys
import threading

from snakemake.cli import main
from speedgrid import snakemake_seam


def relay(pipe):
    for line in pipe:
        print(line.rstrip("\n"), file=sys.stderr)  # looked up anew each time: rich replaces it


def run():
    snakemake_seam.skip_the_note_of_profiles()
    if not sys.stderr.isatty():
        main()
        return
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


if __name__ == "__main__":
    run()
