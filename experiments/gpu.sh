#!/usr/bin/env bash
# Everything that is to be measured on a GPU, in one call of less than ten minutes:
#
#     experiments/gpu.sh [OUT]        OUT: folder for the results, default experiments/gpu
#
# Training at five batch sizes in bf16, the official step and sampling beside it, translation at
# two batch sizes, a volume of 160 slices from file to file, and, in what time is left, training and
# translation compiled beside as they are. One JSON file and one table each. A part that fails or
# runs out of time leaves the others alone.
#
# On a CPU, to try the script itself:   BENCHMARK_TINY=1 experiments/gpu.sh OUT
set -uo pipefail

out=${1:-experiments/gpu}
python=${PYTHON:-python3}
[ -x .venv/bin/python ] && python=${PYTHON:-.venv/bin/python}
mkdir -p "$out"

if [ -n "${BENCHMARK_TINY:-}" ]; then
  common="--device cpu --preset small --size 64 --repeats 1 --warmup 0"
  train=1 fewer=1 translate=1 compiled=1 slices=2 each=600 all=3600
  export OMP_NUM_THREADS=1 # small networks on a busy machine: threads would wait for each other
else
  common="--device cuda --preset github --size 256 --repeats 20 --warmup 5"
  train=1,2,4,8,16 fewer=1 translate=16,32 compiled=1,8 slices=160 each=110 all=590
fi

failed=0
part() { # part NAME SECONDS OPTIONS…
  local name=$1 seconds=$2
  shift 2
  echo "== $name: syndiff benchmark $*"
  # shellcheck disable=SC2086  # $common is a list of words
  timeout "$seconds" "$python" -c "from syndiff.cli import main; main()" benchmark $common "$@" --out "$out/$name.json" \
    2>"$out/$name.log" | tee "$out/$name.txt"
  local code=${PIPESTATUS[0]}
  [ "$code" -eq 0 ] || { echo "$name ended with $code: see $out/$name.log"; failed=1; }
}

part train_baseline $each --what train --precision bf16 --batch $fewer --baseline
part translate_baseline $each --what translate --precision bf16 --batch $fewer --baseline
part translate $each --what translate --precision bf16 --batch $translate
part volume $each --what volume --precision bf16 --batch $translate --slices $slices
part train $each --what train --precision bf16 --batch $train

# In what time is left; compiling may take longer than that, which is no failure.
asked=$failed
left=$((all - SECONDS))
if [ $left -gt 60 ]; then
  part translate_compiled $((left / 3)) --what translate --precision bf16 --batch ${translate%%,*} --compile
  part train_compiled $((all - SECONDS)) --what train --precision bf16 --batch $compiled --compile
fi
exit "$asked"
