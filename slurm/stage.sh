#!/bin/sh
# stage.sh COMMAND CONFIG [ARGUMENT...]: one command of espalier on all ranks of a Slurm job.
#
# Ahead of the time limit Slurm sends USR1 to this script (--signal=B:USR1@seconds); it goes on to the
# ranks, which write a checkpoint and leave with 75, and the job is queued again.
#   ESPALIER             the program; default build/espalier of the repository
#   ESPALIER_ENV         a file to source first: modules, or spack load
#   ESPALIER_LAUNCH      mpirun (default; works wherever Open MPI knows Slurm) or srun (needs Slurm's pmix)
#   ESPALIER_NO_REQUEUE  not empty: leave with 75, do not queue the job again
command=$1 config=$2
shift 2
home=${ESPALIER_HOME:-$SLURM_SUBMIT_DIR}
program=${ESPALIER:-$home/build/espalier}
# shellcheck disable=SC1090
[ -z "$ESPALIER_ENV" ] || . "$ESPALIER_ENV"
export OMP_NUM_THREADS="${SLURM_CPUS_PER_TASK:-1}"

case ${ESPALIER_LAUNCH:-mpirun} in
srun)
    # over several nodes the default exchange of addresses crashes now and then in Slurm 22.05
    export SLURM_PMIX_FENCE=ring
    srun --mpi=pmix --cpus-per-task="$OMP_NUM_THREADS" "$program" "$command" -c "$config" "$@" &
    ;;
*)
    mpirun --map-by "slot:PE=$OMP_NUM_THREADS" "$program" "$command" -c "$config" "$@" &
    ;;
esac
launcher=$!
trap 'kill -USR1 $launcher' USR1
trap 'kill -TERM $launcher' TERM

# wait returns early when a signal comes: the launcher has ended only when it is gone
wait $launcher
code=$?
while kill -0 $launcher 2> /dev/null; do
    wait $launcher
    code=$?
done

echo "espalier $command: exit code $code"
trap - USR1 TERM
if [ $code -eq 75 ] && [ -z "$ESPALIER_NO_REQUEUE" ]; then
    scontrol requeue "$SLURM_JOB_ID" && sleep 60 # Slurm ends this script
fi
exit $code
