#!/usr/bin/env bash
# Training on two nodes with four GPUs each, under SLURM:
#
#     sbatch examples/train_slurm.sh DATA RUN
#
# DATA and RUN lie where all nodes see them. Five minutes before its time is over the run saves and
# leaves; submitted again with the same folders, it goes on from there. docs/scaling.md says more.
#SBATCH --job-name=syndiff
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=4
#SBATCH --gpus-per-node=4
#SBATCH --cpus-per-task=4
#SBATCH --time=24:00:00
#SBATCH --signal=TERM@300
set -euo pipefail
data="$1" run="$2"

again=()
if [ -f "$run/settings.json" ]; then again=(--resume); fi

# One process per GPU; if one fails, srun ends the others.
srun --kill-on-bad-exit=1 syndiff train "$data" "$run" --source T1 --target T2 --devices 4 --nodes 2 --precision bf16 "${again[@]}"
