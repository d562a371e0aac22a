#!/usr/bin/env bash
# From nothing to a report on virtual subjects; some ten minutes on two CPU cores.
set -euo pipefail
out="${1:-quick_start}"

syndiff phantom "$out/raw" --subjects 12 --modalities T1,T2 --seed 0
syndiff prepare "$out/raw" "$out/data" --modalities T1,T2 --split train=8,val=2,test=2 --size 64 --no-register-training
syndiff train "$out/data" "$out/run" --source T1 --target T2 --preset small --max-minutes 5
syndiff translate "$out/run/translators/T1_to_T2" "$out/raw/sub-012/anat/sub-012_T1w.nii.gz" "$out/sub-012_T2w.nii.gz" --seed 0
syndiff evaluate "$out/data" "$out/report" --model mine="$out/run/translators/T1_to_T2"
