#!/usr/bin/env bash
# The paper's configuration on scans in IXI's layout (IXI-T1/*.nii.gz, IXI-T2/*.nii.gz), on a GPU.
set -euo pipefail
raw="$1" out="$2"

syndiff prepare "$raw" "$out/data" --modalities T1,T2 --split train=25,val=5,test=10 --size 256 --intensity paper --max-slices 100
syndiff train "$out/data" "$out/run" --source T1 --target T2 --preset paper --devices cuda --precision bf16
syndiff evaluate "$out/data" "$out/report" --model paper="$out/run/translators/T1_to_T2" --device cuda
