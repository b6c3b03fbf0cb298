#!/bin/sh
# Runs tests: unit_* as one process, those of kernels with each width of vectors, mpi_* on each count of ranks in
# NP, scripts with the built program.
# Prints a line per run, the output of those that fail, and a closing count.
#
# JOBS programs go on side by side, or twice as many scripts: half of their time they wait until processes have begun
# and ended. A run of several ranks has the machine for itself: ranks that wait spin.
: "${BUILD:=build}" "${NP:=1 2 3 4}" "${TEST_TIMEOUT:=300}" "${JOBS:=$(nproc)}"
. jobs/mpi_env.sh
# A process without mpirun starts in half the time without a daemon of its own. Ranks of one machine exchange
# messages by ob1, which is then not the choice among all: libraries of fabrics that are asked whether they have one
# take 0.2 s per process. Threads that wait leave their core to the runs beside them.
export OMPI_MCA_ess_singleton_isolated=1 OMPI_MCA_pml=ob1 OMP_WAIT_POLICY=passive
export LSAN_OPTIONS="suppressions=$PWD/tests/support/lsan.supp:print_suppressions=0"
export ASAN_OPTIONS=detect_leaks=1:fast_unwind_on_malloc=0
export BUILD
ESPALIER=$PWD/$BUILD/espalier
export ESPALIER
case $(uname -m) in # as in the Makefile
x86_64) isas='sse2 avx2 avx512' ;;
*) isas=generic ;;
esac

# Files in memory where there is room for them (one run takes less than 1 GB), as most runs would wait for the
# disk half of their time. What is about disks, or about pages of files, stays on one.
ON_DISK='cli_disks.sh mpi_checkpoint mpi_shared unit_folder unit_h5 unit_io unit_lock'
work=$(mktemp -d)
memory=$work
if [ "$(df -k --output=avail /dev/shm 2> /dev/null | tail -n 1)" -gt $((JOBS * 1000000)) ] 2> /dev/null; then
    memory=$(mktemp -d -p /dev/shm)
fi
trap 'rm -rf "$work" "$memory"' EXIT
trap 'exit 130' INT TERM
: > "$work/codes"

# Free slots are lines in a pipe: a script takes one, a program two, a run of ranks all of them, and puts them back.
ALL=$((2 * JOBS))
slots() { # how many
    yes '' | head -n "$1"
}
mkfifo "$work/slots"
exec 9<> "$work/slots"
slots "$ALL" >&9

perform() { # name command...
    name=$1
    shift
    case " $ON_DISK " in *" ${name%% *} "*) below=$work ;; *) below=$memory ;; esac
    ESPALIER_TEST_DIR=$below/$(echo "$name" | tr ' /' '__')
    # A folder for Open MPI, too: all processes without mpirun have the same one, which goes with the first that
    # ends, also where another has just begun.
    OMPI_MCA_orte_tmpdir_base=$ESPALIER_TEST_DIR.mpi
    export ESPALIER_TEST_DIR OMPI_MCA_orte_tmpdir_base
    mkdir -p "$ESPALIER_TEST_DIR" "$OMPI_MCA_orte_tmpdir_base"
    said=$work/said.$(basename "$ESPALIER_TEST_DIR")
    began=$(date +%s)
    timeout "$TEST_TIMEOUT" "$@" > "$said.all" 2>&1 < /dev/null
    code=$?
    took=$(($(date +%s) - began))
    if [ $code -eq 0 ]; then
        printf 'ok      %-44s %3ds\n' "$name" $took
        grep '^skipped:' "$said.all"
    else
        printf 'FAILED  %-44s %3ds  exit %d\n' "$name" $took $code
        tail -n 60 "$said.all"
    fi > "$said"
    flock "$work/codes" sh -c 'cat "$1"; echo "$2 $(grep -c "^skipped:" "$1")" >> "$3"' - "$said" $code "$work/codes"
    rm -rf "$ESPALIER_TEST_DIR" "$OMPI_MCA_orte_tmpdir_base" "$said" "$said.all"
}

run() { # slots name command...
    n=$1
    shift
    for _ in $(seq "$n"); do read -r _ <&9; done
    {
        perform "$@"
        slots "$n" >&9
    } &
}

of_kind() { # pattern test...: those whose file name matches
    pattern=$1
    shift
    for t; do
        # shellcheck disable=SC2254
        case $(basename "$t") in $pattern) echo "$t" ;; esac
    done
}

# What takes all slots first, then the long, then the short, which fill the gaps.
for np in $NP; do
    [ "$np" -eq 1 ] && continue
    for t in $(of_kind 'mpi_*' "$@"); do run "$ALL" "$(basename "$t") np=$np" mpirun -n "$np" "$t"; done
done
for t in $(of_kind 'cli_*' "$@"); do run 1 "$(basename "$t")" sh "$t"; done
case " $NP " in *' 1 '*)
    for t in $(of_kind 'mpi_*' "$@"); do run 2 "$(basename "$t") np=1" mpirun -n 1 "$t"; done
    ;;
esac
for t in $(of_kind 'unit_*' "$@"); do
    program=$(basename "$t")
    case $program in
    unit_tensor | unit_packed | unit_attention | unit_bf16 | unit_convert | unit_finite)
        for isa in $isas; do run 2 "$program $isa" env ESPALIER_ISA="$isa" "$t"; done ;;
    *) run 2 "$program" "$t" ;;
    esac
done
wait
awk '{ if ($1) failed++; else { passed++; skipped += $2 } }
    END { printf "%d passed, %d failed, %d skipped\n", passed, failed, skipped; exit failed > 0 }' "$work/codes"
