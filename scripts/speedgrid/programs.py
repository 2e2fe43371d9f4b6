"""Programs of others that a job runs for a part of its work."""

import subprocess
import sys
from collections.abc import Mapping, Sequence


def logged(command: Sequence[str], environ: Mapping[str, str]) -> subprocess.CompletedProcess:
    """Run a program of others, that gets no input: all that it says goes to the job's log. `stderr` of the result holds its errors."""
    done = subprocess.run(
        command, env=environ, stdin=subprocess.DEVNULL, stdout=sys.stderr, stderr=subprocess.PIPE, text=True, errors="replace"
    )
    sys.stderr.write(done.stderr)
    return done
