#!/usr/bin/env bash
# On the GPU machine, in the folder that pack.py wrote: unpacks, installs, runs every study, each in runs/NAME. It needs no network.
# Again after a break (a reboot, too): what was measured stays, the rest goes on.
#
#   bash start.sh              one study after another, in the order of their names
#   bash start.sh page         instead: runs/NAME/results/report.html of what is measured by now, also while a study goes on
#   GPUS=2 bash start.sh       each study on two GPUs of this machine
#   MAKES=4                    up to four checkpoints made side by side on its one GPU, while nothing is timed
#   TARGETS="..." CORES=14     files to make instead of all, and cores for jobs (default: all but two)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
here=$PWD
say() { echo "$(date +%T) $*"; }
refuse() { echo "start: $*" >&2; exit 2; }

[ $# -eq 0 ] || [ "$*" = page ] || refuse "knows no '$*'; see the head of $0"
if [ $# -eq 0 ]; then
  # Held by all that this script starts. Snakemake's own lock would stand in the way after a reboot.
  exec 9> .running
  flock --nonblock 9 || refuse "it is running here already"
fi

cores=${CORES:-$(( $(nproc) > 3 ? $(nproc) - 2 : 1 ))}
for number in "CORES=$cores" "GPUS=${GPUS:-1}" "MAKES=${MAKES:-1}"; do
  [[ ${number#*=} =~ ^[1-9][0-9]*$ ]] || refuse "$number: takes a number from 1 on"
done

# What was packed anew and brought over takes the place of what was unpacked; what is measured stays.
if ! cmp --silent SHA256SUMS .unpacked; then
  sha256sum --check --quiet --strict SHA256SUMS || refuse "what was brought here is not whole; bring the files that are named above again"
  rm -rf project.tar studies wheels flat env
  cut -c67- SHA256SUMS | xargs -d '\n' cat | tar xf -
  cp SHA256SUMS .unpacked
fi
export HF_HUB_OFFLINE=1 PYTHONNOUSERSITE=1 PIP_NO_INDEX=1 UV_OFFLINE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
# pip takes several places there, with blanks between them.
PIP_FIND_LINKS=$here/wheels
[[ $here != *[[:space:]]* ]] || PIP_FIND_LINKS="file://${PIP_FIND_LINKS// /%20}"
export PIP_FIND_LINKS

if [ -e flat ] && [ ! -e env/.made ]; then
  version=$(python3 -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  [ "$version" = "$(cat flat)" ] || refuse "the bundle is for Python $(cat flat), and python3 here is $version ($(command -v python3)):" \
    "put another one first on PATH, or pack again with --python $version"
  # An environment on top of the machine's own, which may be a virtual one itself: what was brought goes before what is there.
  rm -rf env
  python3 -m venv --without-pip env
  site=$(env/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')
  python3 - > "$site/zz_machine.pth" << 'END'
import site, sys
for folder in dict.fromkeys([*site.getsitepackages(), *filter(lambda path: path.endswith("-packages"), sys.path)]):
    print(f"import site; site.addsitedir({folder!r})")
END
  for tool in cmake ninja; do
    [ -e "env/bin/$tool" ] || ! command -v "$tool" > /dev/null || ln -s "$(command -v "$tool")" "env/bin/$tool"
  done
  ln -s "$site" env/site
  touch env/.made
fi
if [ -e flat ] && [ ! -e env/.ready ]; then
  say "installs $(ls wheels/*.whl | wc -l) packages"
  # The pip that was brought, from its wheel: the machine's Python need not have one.
  python3 "$(echo wheels/pip-*.whl)/pip" install --quiet --no-index --no-deps --no-compile --no-cache-dir --upgrade --target env/site wheels/*.whl
  touch env/.ready
fi
if compgen -G "wheels/llama_cpp_python-*.tar.gz" > /dev/null && [ ! -e env/.llamacpp ]; then
  say "llama.cpp: is built, see $here/llamacpp.log"
  mkdir -p build
  tar xf project.tar -C build envs/llamacpp.post-deploy.sh
  PATH=$here/env/bin:$PATH CONDA_PREFIX=$here/env bash build/envs/llamacpp.post-deploy.sh > llamacpp.log 2>&1 || say "llama.cpp: could not be built"
  touch env/.llamacpp
fi
[ ! -e flat ] || export PATH=$here/env/bin:$here/env/site/bin:$PATH

run_study() {  # NAME
  local targets=()
  # Called in a condition, where `set -e` does not hold: after an error, such as a full disk, half a project would be run.
  mkdir -p "$here/runs/$1" && cd "$here/runs/$1" && tar xf "$here/project.tar" && cp "$here/studies/$1.yaml" "$1.study.yaml" || return 1
  describe > environment.txt || return 1
  read -ra targets <<< "${TARGETS:-}"
  if [ -e "$here/flat" ]; then
    # --nolock: nobody else runs here (.running), so a lock of Snakemake is left by a run that was killed.
    python -m snakemake --cores "$cores" --resources "gpu=${GPUS:-1}" ${MAKES:+"makes=$MAKES"} --keep-going --rerun-incomplete --nolock --configfile "$1.study.yaml" \
      -- "${targets[@]:-all}"
  else
    ./speedgrid run --study "$1.study.yaml" --uv-envs --cores "$cores" --resources "gpu=${GPUS:-1}" ${MAKES:+"makes=$MAKES"} --rerun-incomplete "${targets[@]}"
  fi
}

make_page() {  # NAME
  cd "$here/runs/$1"
  if [ -e "$here/flat" ]; then python scripts/make_page.py --study "$1.study.yaml"; else ./speedgrid report --study "$1.study.yaml"; fi
}

describe() {
  date -u +"%Y-%m-%dT%H:%M:%SZ"
  echo "speedgrid $(cat .commit)"
  uname -a
  ldd --version 2>&1 | head -1
  nproc
  head -1 /proc/meminfo
  df -h . | tail -1
  nvidia-smi --query-gpu=name,driver_version,memory.total,power.limit,clocks.max.sm --format=csv 2> /dev/null || echo "no NVIDIA GPU"
  python3 -VV
  ls "$here/wheels"
  [ ! -e "$here/flat" ] || python -m pip list --format=freeze 2> /dev/null
}

failed=0
for study in studies/*.yaml; do
  name=$(basename "$study" .yaml)
  if [ $# -gt 0 ]; then
    [ -d "runs/$name" ] || { say "$name: nothing is measured yet"; continue; }
    (make_page "$name") || failed=1
    continue
  fi
  say "$name: start; see $here/$name.log"
  before=$(wc -l < "$name.log" 2> /dev/null || echo 0)
  if (run_study "$name") >> "$name.log" 2>&1; then say "$name: done"; else
    failed=1
    say "$name: ended with failures; the last lines of its log:"
    tail -n "+$((before + 1))" "$name.log" | tail -n 5
  fi
done
exit $failed
