#!/bin/sh
# Runs bench programs on 1 rank with 2 threads and on 2 ranks with 1 thread (LAYOUTS: ranks x threads),
# prints one table and writes build/bench.json. A program prints a row of the table as fields between
# tabs, see below; what else it prints comes after the table, and without a row the first layout is enough.
: "${BUILD:=build}" "${LAYOUTS:=1x2 2x1}" "${BENCH_TIMEOUT:=300}"
. jobs/mpi_env.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
ESPALIER_TEST_DIR=$work # one model for all programs
export ESPALIER_TEST_DIR
tab=$(printf '\t')
failed=0

header="bench${tab}ranks${tab}threads${tab}tokens/s${tab}GFLOP/s${tab}sgemm GFLOP/s${tab}fraction${tab}peak MB"
row() {
    awk -F '\t' '{ printf "%-30s %5s %7s %10s %9s %14s %9s %8s\n", $1, $2, $3, $4, $5, $6, $7, $8 }'
}

echo "$header" | row
for program; do
    for layout in $LAYOUTS; do
        ranks=${layout%x*}
        if ! OMP_NUM_THREADS=${layout#*x} timeout "$BENCH_TIMEOUT" mpirun -n "$ranks" "$program" \
            > "$work/out" 2> "$work/err" < /dev/null; then
            echo "$(basename "$program") failed on $ranks ranks:"
            cat "$work/out" "$work/err"
            failed=1
            continue
        fi
        grep -v "$tab" "$work/out" >> "$work/rest"
        grep "$tab" "$work/out" > "$work/new" || break
        row < "$work/new"
        cat "$work/new" >> "$work/rows"
    done
done

if [ -s "$work/rest" ]; then
    echo
    cat "$work/rest"
fi
if [ -s "$work/rows" ]; then
    awk -F '\t' '
        BEGIN { print "[" }
        {
            printf "%s  {\"bench\": \"%s\", \"ranks\": %s, \"threads\": %s, \"tokens_per_second\": %s, ", \
                (NR > 1 ? ",\n" : ""), $1, $2, $3, $4
            printf "\"gflops\": %s, \"sgemm_gflops\": %s, \"fraction\": %s, \"peak_megabytes\": %s}", \
                $5, $6, $7, $8
        }
        END { print "\n]" }' "$work/rows" > "$BUILD/bench.json"
    echo
    echo "written: $BUILD/bench.json"
fi
exit $failed
