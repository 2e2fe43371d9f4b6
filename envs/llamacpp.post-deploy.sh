#!/usr/bin/env bash
# Builds llama.cpp and its Python bindings from the pinned sources, for the machine that this runs on. Snakemake runs it once, in the
# environment of llamacpp.yaml.
#
#   SPEEDGRID_TORCH=cuda   build for NVIDIA GPUs, also where there is none yet (needs the CUDA toolkit: nvcc and cuBLAS)
#   SPEEDGRID_TORCH=cpu    build for the CPU only
#   neither                for the GPU where the machine has an NVIDIA GPU and nvcc, else for the CPU only
#
# What it leaves behind, in $CONDA_PREFIX/share/llama.cpp:
#   convert_hf_to_gguf.py, conversion/, gguf-py/   the converter of the very version that was built
#   cmake-flags.txt                                how it was built
#   missing.txt, build.log                         instead, where it could not be built: why, for the jobs to say
set -euo pipefail

VERSION=0.3.36
SHA256=832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e

share="$CONDA_PREFIX/share/llama.cpp"
python="$CONDA_PREFIX/bin/python"
cmake="$CONDA_PREFIX/bin/cmake"
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
rm -rf "$share"
mkdir -p "$share"

# What the machine lacks is no reason to hold up the other engines of a study: the environment is kept, and each job of this one says why
# it cannot run.
leave_out() {
  echo "$1" | tee "$share/missing.txt"
  exit 0
}

# Run a step of the build, and keep its output where it fails.
step() {
  local what=$1
  shift
  "$@" > "$build/log" 2>&1 && return
  cp "$build/log" "$share/build.log"
  leave_out "$what failed; the whole output is in $share/build.log"
}

command -v c++ g++ clang++ > /dev/null || leave_out "llama.cpp is built from its sources, and there is no C++ compiler (Debian, Ubuntu: g++)"

# Where the compiler links its C++ runtime statically, each library would show its copy to the others, and those of Python's other packages
# theirs: llama.cpp then ends in SIGSEGV, where it first writes a number. Hidden, each keeps to its own.
export LDFLAGS="${LDFLAGS:-} -Wl,--exclude-libs,ALL"

flags=(-DCMAKE_BUILD_TYPE=Release -DGGML_NATIVE=ON)
if [ "${SPEEDGRID_TORCH:-}" = cuda ] || { [ "${SPEEDGRID_TORCH:-}" != cpu ] && nvidia-smi -L > /dev/null 2>&1; }; then
  if command -v nvcc > /dev/null; then
    flags+=(-DGGML_CUDA=ON)
    # Without a GPU to look at, for those that llama.cpp's own releases are for; newer ones compile the newest for themselves.
    nvidia-smi -L > /dev/null 2>&1 || flags+=("-DCMAKE_CUDA_ARCHITECTURES=75-virtual;80-virtual;86-real;89-real;90-virtual")
  else
    echo "llama.cpp: there is no nvcc (the CUDA toolkit), so it is built for the CPU only"
  fi
fi

# A failed download ends the creation of the environment, as that of any other package does.
echo "llama-cpp-python==$VERSION --hash=sha256:$SHA256" > "$build/sources.txt"
"$python" -m pip download --quiet --no-deps --no-build-isolation --no-binary :all: --require-hashes \
  --dest "$build" --requirement "$build/sources.txt"
tar -xzf "$build/llama_cpp_python-$VERSION.tar.gz" -C "$build"
sources="$build/llama_cpp_python-$VERSION"

# The bindings alone, then llama.cpp beside them: the sources' own way also compiles servers, chat formats and image models.
step "the installation of llama-cpp-python" env CMAKE_ARGS="-DLLAMA_BUILD=OFF -DLLAVA_BUILD=OFF" \
  "$python" -m pip install --no-deps --no-build-isolation --no-index "$sources"
package=$("$python" -c 'from importlib.util import find_spec; print(find_spec("llama_cpp").submodule_search_locations[0])')
step "configuring the build of llama.cpp" "$cmake" -S "$sources/vendor/llama.cpp" -B "$build/build" -G Ninja "${flags[@]}" \
  -DCMAKE_MAKE_PROGRAM="$CONDA_PREFIX/bin/ninja" -DCMAKE_INSTALL_PREFIX="$package" -DCMAKE_INSTALL_LIBDIR=lib \
  -DCMAKE_INSTALL_RPATH="\$ORIGIN" -DCMAKE_INSTALL_RPATH_USE_LINK_PATH=ON \
  -DLLAMA_BUILD_COMMON=OFF -DLLAMA_BUILD_TOOLS=OFF -DLLAMA_BUILD_EXAMPLES=OFF -DLLAMA_BUILD_TESTS=OFF -DLLAMA_BUILD_SERVER=OFF \
  -DLLAMA_BUILD_APP=OFF -DGGML_BUILD_TESTS=OFF -DGGML_BUILD_EXAMPLES=OFF
step "building llama.cpp" "$cmake" --build "$build/build" --parallel "$(nproc)"
step "installing llama.cpp" "$cmake" --install "$build/build"
# A build for GPUs cannot be loaded where there is no driver.
if [[ " ${flags[*]} " != *CMAKE_CUDA_ARCHITECTURES* ]]; then
  step "the first import of llama_cpp" "$python" -c 'import llama_cpp; llama_cpp.llama_backend_init()'
fi

cp -r "$sources/vendor/llama.cpp"/{convert_hf_to_gguf.py,conversion,gguf-py} "$share/"
printf '%s\n' "${flags[@]}" > "$share/cmake-flags.txt"
