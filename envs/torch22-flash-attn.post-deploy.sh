#!/usr/bin/env bash
# Builds flash-attn for the PyTorch of this environment. PyPI has its sources only; its setup takes a finished wheel from the project's
# releases on GitHub where that can be reached, and compiles where not: 48 files of three to eight minutes each. Both want nvcc of CUDA 12.
# Where it cannot be built the environment stays without it, and its technique says `missing_dependency`.
set -uo pipefail

VERSION=2.5.9.post1
SHA256=a92db1683a5b141a0f4371d251ae9f73e9aef629b3a58a50d0ef430266c68782

leave_out() {
  echo "flash-attn is not built: $1" >&2
  exit 0
}

if [ -z "${CUDA_HOME:-}" ] && ! command -v nvcc > /dev/null; then
  leave_out "no nvcc on PATH and no CUDA_HOME; install the CUDA 12 toolkit, delete this environment, run again"
fi
python="$CONDA_PREFIX/bin/python"
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT

echo "flash-attn==$VERSION --hash=sha256:$SHA256" > "$build/sources.txt"
"$python" -m pip download --quiet --no-deps --no-build-isolation --no-binary :all: --require-hashes \
  --dest "$build" --requirement "$build/sources.txt" || leave_out "its sources could not be downloaded; the messages above say why"
tar -xzf "$build"/flash?attn-"$VERSION".tar.gz -C "$build"
sources=$(echo "$build"/flash?attn-"$VERSION"/)

# The release compiles every kernel twice, for Ampere and for Hopper. Where the GPUs of this machine can be looked at, for theirs alone.
gencode=$(nvidia-smi --query-gpu=compute_cap --format=csv,noheader 2> /dev/null | sort -u |
  sed -n 's/^\([89]\)\..*/"-gencode", "arch=compute_\10,code=sm_\10", /p' | sort -u | tr -d '\n')
[ -z "$gencode" ] || sed -i "s/^    # HACK: The compiler flag/    cc_flag = [$gencode]\n&/" "$sources/setup.py"

# Every compiler process takes several gigabytes: as many of them as there are cores, and 6 GiB of memory for each.
export MAX_JOBS="${MAX_JOBS:-$(awk -v cores="$(nproc)" '
  /^MemAvailable/ { n = int($2 / 6291456); if (n > cores) n = cores; print n < 1 ? 1 : n }' /proc/meminfo)}"
"$python" -m pip install --no-build-isolation --no-deps "$sources" || leave_out "the messages above say why"
