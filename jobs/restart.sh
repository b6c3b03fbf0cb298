#!/bin/sh
# restart.sh COUNT CONFIG [-s path=value]...: the whole run as COUNT Slurm jobs one after another, where a
# centre does not let jobs queue themselves again. Each goes on where the last one stopped; those after
# the end find nothing to do. SBATCH_OPTIONS goes to every sbatch.
[ $# -gt 1 ] || { sed -n '2,4s/^# //p' "$0"; exit 2; }
count=$1
shift
home=$(cd "$(dirname "$0")/.." && pwd)
export ESPALIER_HOME="$home" ESPALIER_NO_REQUEUE=1
"${ESPALIER:-$home/build/espalier}" config --check "$1" || exit

after=
while [ "$count" -gt 0 ]; do
    # shellcheck disable=SC2086
    job=$(sbatch --parsable --no-requeue $SBATCH_OPTIONS $after "$home/slurm/run.sbatch" "$@") || exit
    echo "run: job $job"
    after=--dependency=afterany:${job%%;*}
    count=$((count - 1))
done
