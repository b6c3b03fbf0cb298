#!/bin/sh
# Runs test programs: unit_* on one rank, those of kernels with each width of vectors, mpi_* on each count in NP,
# cli_*.sh with the built program.
# Prints one line a run, the output of those that fail, and a closing count.
: "${BUILD:=build}" "${NP:=1 2 3 4}" "${TEST_TIMEOUT:=300}"
. jobs/mpi_env.sh
export LSAN_OPTIONS="suppressions=$PWD/tests/support/lsan.supp:print_suppressions=0" ASAN_OPTIONS=detect_leaks=1:fast_unwind_on_malloc=0
export BUILD
ESPALIER=$PWD/$BUILD/espalier
export ESPALIER
case $(uname -m) in # as in the Makefile
x86_64) isas='sse2 avx2 avx512' ;;
*) isas=generic ;;
esac
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
passed=0 failed=0 skipped=0

run() { # name command...
    name=$1
    shift
    ESPALIER_TEST_DIR=$work/$(echo "$name" | tr ' /' '__')
    export ESPALIER_TEST_DIR
    mkdir -p "$ESPALIER_TEST_DIR"
    began=$(date +%s)
    timeout "$TEST_TIMEOUT" "$@" > "$work/out" 2>&1 < /dev/null
    code=$?
    took=$(($(date +%s) - began))
    if [ $code -eq 0 ]; then
        passed=$((passed + 1))
        printf 'ok      %-44s %3ds\n' "$name" $took
        n=$(grep -c '^skipped:' "$work/out")
        skipped=$((skipped + n))
        grep '^skipped:' "$work/out"
    else
        failed=$((failed + 1))
        printf 'FAILED  %-44s %3ds  exit %d\n' "$name" $took $code
        tail -n 60 "$work/out"
    fi
    rm -rf "$ESPALIER_TEST_DIR"
}

for t; do
    program=$(basename "$t")
    case $program in
    mpi_*) for np in $NP; do run "$program np=$np" mpirun -n "$np" "$t"; done ;;
    *.sh) run "$program" sh "$t" ;;
    unit_tensor | unit_packed | unit_attention | unit_bf16 | unit_convert | unit_finite)
        for isa in $isas; do run "$program $isa" env ESPALIER_ISA="$isa" "$t"; done ;;
    *) run "$program" "$t" ;;
    esac
done
echo "$passed passed, $failed failed, $skipped skipped"
[ $failed -eq 0 ]
