#!/usr/bin/env bash
# Everything that is to be measured on a GPU, in one call of less than ten minutes:
#
#     benchmarks/gpu.sh [OUT]        OUT: folder for the results, default benchmarks/gpu
#
# Training at five batch sizes in bf16, the official step and sampling beside it, translation at
# two batch sizes, a volume of 160 slices from file to file, and, in what time is left, training and
# translation compiled beside as they are. One JSON file and one table each. A part that fails or
# runs out of time leaves the others alone.
#
# On a CPU, to try the script itself:   BENCHMARK_TINY=1 benchmarks/gpu.sh OUT
set -uo pipefail

out=${1:-benchmarks/gpu}
python=${PYTHON:-python3}
[ -x .venv/bin/python ] && python=${PYTHON:-.venv/bin/python}
mkdir -p "$out"

if [ -n "${BENCHMARK_TINY:-}" ]; then
  common="--device cpu --preset small --size 64 --repeats 1 --warmup 0"
  train=1 fewer=1 translate=1 compiled=1 slices=2 limit=600 all=3600
  export OMP_NUM_THREADS=1 # small networks on a busy machine: threads would wait for each other
else
  common="--device cuda --preset github --size 256 --repeats 20 --warmup 5"
  train=1,2,4,8,16 fewer=1 translate=16,32 compiled=1,8 slices=160 limit=110 all=590
fi

failed=0
part() { # part NAME SECONDS OPTIONS…: at most so many, and what is left of all
  local name=$1 limit=$2
  shift 2
  [ $((all - SECONDS)) -lt "$limit" ] && limit=$((all - SECONDS))
  [ "$limit" -gt 0 ] || { echo "$name: no time left"; failed=1; return; }
  echo "== $name: syndiff benchmark $*"
  # shellcheck disable=SC2086  # $common is a list of words
  timeout "$limit" "$python" -c "from syndiff.cli import main; main()" benchmark $common "$@" --out "$out/$name.json" \
    2>"$out/$name.log" | tee "$out/$name.txt"
  local code=${PIPESTATUS[0]}
  [ "$code" -eq 0 ] || { echo "$name ended with $code: see $out/$name.log"; failed=1; }
}

part train_baseline $limit --what train --precision bf16 --batch $fewer --baseline
part translate_baseline $limit --what translate --precision bf16 --batch $fewer --baseline
part translate $limit --what translate --precision bf16 --batch $translate
part volume $limit --what volume --precision bf16 --batch $translate --slices $slices
part train $limit --what train --precision bf16 --batch $train
part translate_compiled $all --what translate --precision bf16 --batch ${translate%%,*} --compile
part train_compiled $all --what train --precision bf16 --batch $compiled --compile
exit $failed
