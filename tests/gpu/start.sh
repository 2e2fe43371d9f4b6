#!/usr/bin/env bash
# On the GPU machine, in the folder that pack.py wrote: unpacks, installs, runs every study, each in runs/NAME. It needs no network.
# Again after a break: what was measured stays, the rest goes on.
#
#   bash start.sh              one study after another
#   GPUS=2 bash start.sh       studies on that many GPUs side by side, one after another on each
#   TARGETS="..." CORES=14     files to make instead of all, and cores for jobs (default: all but two)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
here=$PWD

if [ ! -e .unpacked ]; then
  cat bundle.* | tar xf -
  touch .unpacked
fi
export HF_HUB_OFFLINE=1 PYTHONNOUSERSITE=1 PIP_NO_INDEX=1 PIP_FIND_LINKS="$here/wheels" UV_OFFLINE=1 PIP_DISABLE_PIP_VERSION_CHECK=1
cores=${CORES:-$(( $(nproc) > 3 ? $(nproc) - 2 : 1 ))}

if [ -e flat ] && [ ! -e env/.made ]; then
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
  python3 -m pip install --quiet --no-index --no-deps --no-compile --no-cache-dir --upgrade --target env/site wheels/*.whl
  touch env/.ready
fi
if compgen -G "wheels/llama_cpp_python-*.tar.gz" > /dev/null && [ ! -e env/.llamacpp ]; then
  echo "$(date +%T) llama.cpp: is built, see $here/llamacpp.log"
  mkdir -p build
  tar xf project.tar -C build envs/llamacpp.post-deploy.sh
  PATH=$here/env/bin:$PATH CONDA_PREFIX=$here/env bash build/envs/llamacpp.post-deploy.sh > llamacpp.log 2>&1 || echo "llama.cpp: could not be built"
  touch env/.llamacpp
fi

run_study() {  # FILE GPU
  local name folder targets=()
  name=$(basename "$1" .yaml)
  folder=$here/runs/$name
  mkdir -p "$folder"
  tar xf project.tar -C "$folder"
  cp "$1" "$folder/$name.study.yaml"
  cd "$folder"
  [ -z "${2:-}" ] || export CUDA_VISIBLE_DEVICES=$2
  read -ra targets <<< "${TARGETS:-}"
  if [ -e "$here/flat" ]; then
    export PATH=$here/env/bin:$here/env/site/bin:$PATH
    describe > environment.txt
    python -m snakemake --cores "$cores" --resources gpu=1 --keep-going --rerun-incomplete --configfile "$name.study.yaml" -- "${targets[@]:-all}"
  else
    describe > environment.txt
    ./speedgrid run --study "$name.study.yaml" --uv-envs --cores "$cores" --rerun-incomplete "${targets[@]}"
  fi
}

describe() {
  date -u +"%Y-%m-%dT%H:%M:%SZ"
  uname -a
  nproc
  head -1 /proc/meminfo
  nvidia-smi --query-gpu=name,driver_version,memory.total,power.limit,clocks.max.sm --format=csv 2> /dev/null || echo "no NVIDIA GPU"
  python3 -VV
  ls "$here/wheels"
  [ ! -e "$here/flat" ] || python -m pip list --format=freeze 2> /dev/null
}

count=${GPUS:-1} failed=0
studies=(studies/*.yaml)
for (( gpu = 0; gpu < count; gpu++ )); do
  (
    status=0
    for (( i = gpu; i < ${#studies[@]}; i += count )); do
      name=$(basename "${studies[$i]}" .yaml)
      number=""
      [ "$count" -eq 1 ] || number=$gpu
      echo "$(date +%T) $name: start; see $here/$name.log"
      if (run_study "$here/${studies[$i]}" "$number") >> "$name.log" 2>&1; then echo "$(date +%T) $name: done"; else
        status=1
        echo "$(date +%T) $name: ended with failures; the last lines of its log:"
        tail -5 "$name.log"
      fi
    done
    exit $status
  ) &
done
for job in $(jobs -p); do wait "$job" || failed=1; done
exit $failed
