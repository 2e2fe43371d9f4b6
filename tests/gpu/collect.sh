#!/usr/bin/env bash
# Packs what start.sh has measured so far, without weights, into results.tar.gz (or the file named): tables, records, pages, logs, and what
# each run ran on. At any time, also while a study goes on.
set -euo pipefail
out=$(realpath -m "${1:-$(dirname "${BASH_SOURCE[0]}")/results.tar.gz}")
[ -d "$(dirname "$out")" ] || { echo "collect: there is no folder $(dirname "$out")" >&2; exit 2; }
cd "$(dirname "${BASH_SOURCE[0]}")"
shopt -s nullglob
files=(*.log)
for folder in runs/*/; do
  for name in results logs environment.txt "$(basename "$folder").study.yaml"; do
    [ ! -e "$folder$name" ] || files+=("$folder$name")
  done
  files+=("$folder"models/*/prepared.parquet)
done
[ ${#files[@]} -gt 0 ] || { echo "collect: nothing was measured yet" >&2; exit 1; }
# A file may change while it is read; tar says so with 1, and the next collection has it whole.
tar czf "$out.tmp" --exclude=checkpoint --exclude='*.safetensors' --exclude='*.gguf' --exclude='*.onnx*' --warning=no-file-changed "${files[@]}" || [ $? -eq 1 ]
mv "$out.tmp" "$out"
ls -l "$out"
