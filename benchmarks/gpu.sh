#!/usr/bin/env bash
# Everything that is to be measured on a GPU, in one call of less than ten minutes:
#
#     benchmarks/gpu.sh [OUT]        OUT: folder for the results, default benchmarks/gpu
#
# Training at five batch sizes in bf16, the official step and sampling beside it, translation at
# two batch sizes, and a volume of 160 slices from file to file. One JSON file and one table each.
# A part that fails or runs out of time leaves the others alone.
#
# On a CPU, to try the script itself:   BENCHMARK_TINY=1 benchmarks/gpu.sh OUT
set -uo pipefail

out=${1:-benchmarks/gpu}
python=${PYTHON:-python3}
[ -x .venv/bin/python ] && python=${PYTHON:-.venv/bin/python}
mkdir -p "$out"

if [ -n "${BENCHMARK_TINY:-}" ]; then
  common="--device cpu --preset small --size 64 --repeats 1 --warmup 0"
  train=1 fewer=1 translate=1 slices=2 limit=600
  export OMP_NUM_THREADS=1 # small networks on a busy machine: threads would wait for each other
else
  common="--device cuda --preset github --size 256 --repeats 20 --warmup 5"
  train=1,2,4,8,16 fewer=1 translate=16,32 slices=160 limit=110
fi

failed=0
part() { # part NAME OPTIONS…
  local name=$1
  shift
  echo "== $name: syndiff benchmark $*"
  # shellcheck disable=SC2086  # $common is a list of words
  timeout "$limit" "$python" -c "from syndiff.cli import main; main()" benchmark $common "$@" --out "$out/$name.json" \
    2>"$out/$name.log" | tee "$out/$name.txt"
  local code=${PIPESTATUS[0]}
  [ "$code" -eq 0 ] || { echo "$name ended with $code: see $out/$name.log"; failed=1; }
}

part train_baseline --what train --precision bf16 --batch $fewer --baseline
part translate_baseline --what translate --precision bf16 --batch $fewer --baseline
part translate --what translate --precision bf16 --batch $translate
part volume --what volume --precision bf16 --batch $translate --slices $slices
part train --what train --precision bf16 --batch $train
exit $failed
