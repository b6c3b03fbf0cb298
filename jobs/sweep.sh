#!/bin/sh
# sweep.sh CONFIG RATIO...: how much can go? One score job, then a job array that plans, cuts, recovers and
# evaluates with each ratio from the same importance; results in run_dir/ratio-RATIO.
# SBATCH_OPTIONS goes to every sbatch.
[ $# -gt 1 ] || { sed -n '2,4s/^# //p' "$0"; exit 2; }
config=$1
shift
home=$(cd "$(dirname "$0")/.." && pwd)
export ESPALIER_HOME="$home"
"${ESPALIER:-$home/build/espalier}" config --check "$config" || exit

# shellcheck disable=SC2086
score=$(sbatch --parsable $SBATCH_OPTIONS "$home/slurm/score.sbatch" "$config") || exit
# shellcheck disable=SC2086
sweep=$(sbatch --parsable --kill-on-invalid-dep=yes --dependency="afterok:${score%%;*}" \
    --array="0-$(($# - 1))" $SBATCH_OPTIONS "$home/slurm/sweep.sbatch" "$config" "$@") || exit
echo "score: job $score, sweep: job array $sweep"
