#!/bin/sh
# chain.sh CONFIG [-s path=value]...: the stages as Slurm jobs, each with the resources that it needs, each
# once the one before it is done. SBATCH_OPTIONS goes to every sbatch (account, partition, ...).
[ $# -gt 0 ] || { sed -n '2,3s/^# //p' "$0"; exit 2; }
home=$(cd "$(dirname "$0")/.." && pwd)
export ESPALIER_HOME="$home"
"${ESPALIER:-$home/build/espalier}" config --check "$1" || exit

after=
for stage in score plan prune recover eval; do
    # shellcheck disable=SC2086
    job=$(sbatch --parsable --kill-on-invalid-dep=yes $SBATCH_OPTIONS $after \
        "$home/slurm/$stage.sbatch" "$@") || exit
    echo "$stage: job $job"
    after=--dependency=afterok:${job%%;*}
done
