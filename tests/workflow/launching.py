"""What the tests of the launcher share: a copy of the repository whose rules do next to nothing, and how it is started."""

import os
import pty
import shutil
import subprocess
import sys

import pyte
from speedgrid import compiled

SNAKEFILE = r"""
rule all:
    input: "seen.txt"

rule seen:
    output: "{name}.txt"
    log: "{name}.log"
    params: config=lambda wildcards: " ".join(f"{key}={value}" for key, value in sorted(config.items()))
    shell:
        'echo "config: {params.config}" > {output}; echo "cores: {workflow.cores}" >> {output};'
        'echo "python: $(command -v python)" >> {output}; echo "conda: $(command -v conda)" >> {output};'
        'echo "prefix: ${{SNAKEMAKE_CONDA_PREFIX:-}}" >> {output};'
        'echo "cwd: $PWD" >> {output}; echo "torch: ${{SPEEDGRID_TORCH:-}}" >> {output};'
        'for reply in 1 2 3; do echo "{wildcards.name}: reply $reply of 3" >&2; sleep 0.4; done'
"""


def copy_of(root, folder):
    for name in ("speedgrid", "locks", "envs", "scripts", "techniques.yaml", "config.yaml", "pyproject.toml"):
        copy = shutil.copytree if (root / name).is_dir() else shutil.copy
        copy(root / name, folder / name)
    (folder / "Snakefile").write_text(SNAKEFILE)
    return folder


def environment(**more):
    """Without what a user's shell may say to Snakemake; uv is the one that runs the tests."""
    dropped = ("SNAKEMAKE_", "SPEEDGRID_")
    return {k: v for k, v in os.environ.items() if not k.startswith(dropped) or k == compiled.PLACE} | more


def speedgrid(clone, *arguments, cwd=None, **more):
    command = [sys.executable, clone / "speedgrid", *arguments]
    return subprocess.run(command, cwd=cwd or clone, env=environment(**more), capture_output=True, text=True)


def seen(clone, name="seen"):
    return dict(line.split(": ", 1) for line in (clone / f"{name}.txt").read_text().splitlines())


def is_one_line(done, *texts):
    assert done.returncode != 0
    assert done.stderr.count("\n") == 1, done.stderr
    assert done.stderr.startswith("speedgrid: ")
    assert all(text in done.stderr for text in texts), done.stderr


def on_terminal(command, clone, columns=110, lines=60):
    """What a person sees in the end, and at a moment when jobs have spoken, on a terminal of this size."""
    screen = pyte.Screen(columns, lines)
    stream = pyte.ByteStream(screen)
    pid, terminal = pty.fork()
    if pid == 0:
        os.chdir(clone)
        os.execve(command[0], command, environment(COLUMNS=str(columns), LINES=str(lines), TERM="xterm-256color"))
    midway = []
    while True:
        try:
            data = os.read(terminal, 65536)
        except OSError:  # how Linux says that the other end has closed
            break
        stream.feed(data)
        if any("reply 2 of 3" in line for line in screen.display):
            midway.append(list(screen.display))
    return os.waitpid(pid, 0)[1], midway, list(screen.display)
