#!/usr/bin/env bash
# Builds flash-attn for the PyTorch of this environment. PyPI has its sources only; its setup takes a finished wheel from the project's
# releases on GitHub where that can be reached, and compiles for half an hour or more where not. Both want nvcc of CUDA 12.
# Where it cannot be built the environment stays without it, and its technique says `missing_dependency`.
set -uo pipefail

if [ -z "${CUDA_HOME:-}" ] && ! command -v nvcc > /dev/null; then
    echo "flash-attn is not built: no nvcc on PATH and no CUDA_HOME; install the CUDA 12 toolkit, delete this environment, run again" >&2
    exit 0
fi
# Every compiler process takes several gigabytes: as many of them as there are 6 GiB of memory.
export MAX_JOBS="${MAX_JOBS:-$(awk '/^MemAvailable/ {n = int($2 / 6291456); print n < 1 ? 1 : n}' /proc/meminfo)}"
if ! "$CONDA_PREFIX/bin/python" -m pip install --no-build-isolation --no-deps flash-attn==2.5.9.post1; then
    echo "flash-attn could not be built; the messages above say why" >&2
fi
