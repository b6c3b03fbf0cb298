#!/bin/sh
# Runs bench programs on 1 rank with 2 threads and on 2 ranks with 1 thread (LAYOUTS: ranks x threads), prints
# one table, writes build/bench.json and compares the ratios with tests/bench/bench_reference_<vectors>.json, those
# of a processor with the same vector instructions and the same ones for products in bf16. A program prints
# a row as fields between tabs (bench_row in bench.h): name, ranks, threads, value, unit, ratio (of which more
# is better; - without), what the ratio is relative to, peak MB (or -). What else it prints comes after the
# table, and a program that prints text but no row runs on the first layout alone.
# A ratio of less than 0.85 of the reference is told; that does not make the exit code 1: ratios move with
# the machine. `make bench REFERENCE=1` writes the reference anew.
vectors=sse
for flag in avx2 avx512f; do
    grep -qw "$flag" /proc/cpuinfo && vectors=$flag
done
if grep -qw amx_bf16 /proc/cpuinfo; then
    vectors=${vectors}_amx
elif grep -qw avx512_bf16 /proc/cpuinfo; then
    vectors=${vectors}_bf16
fi
reference=tests/bench/bench_reference_$vectors.json
: "${BUILD:=build}" "${LAYOUTS:=1x2 2x1}" "${BENCH_TIMEOUT:=600}" "${REFERENCE:=}"
. jobs/mpi_env.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
ESPALIER_TEST_DIR=$work # one model for all programs
OPENBLAS_NUM_THREADS=1  # but where a program asks it for more
# An OpenBLAS that is older than the processor takes its oldest kernels, and is no measure then.
case $vectors in
avx512f*) : "${OPENBLAS_CORETYPE:=SkylakeX}" ;;
avx2*) : "${OPENBLAS_CORETYPE:=Haswell}" ;;
*) : "${OPENBLAS_CORETYPE:=}" ;;
esac
export ESPALIER_TEST_DIR OPENBLAS_NUM_THREADS OPENBLAS_CORETYPE
tab=$(printf '\t')
failed=0
touch "$work/rows"

row() {
    awk -F '\t' '{ printf "%-46s %5s %7s %10s %-9s %6s  %-22s %8s\n", $1, $2, $3, $4, $5, $6, $7, $8 }'
}

# A JSON array, an object a line: the rows, or their ratios alone.
to_json() { # all|ratios
    awk -F '\t' -v what="$1" '
        BEGIN { print "[" }
        what == "ratios" && $6 == "-" { next }
        {
            printf "%s  {\"bench\": \"%s\", \"ranks\": %s, \"threads\": %s, ", (n++ ? ",\n" : ""), $1, $2, $3
            if (what == "all")
                printf "\"value\": %s, \"unit\": \"%s\", ", $4, $5
            printf "\"ratio\": %s, \"of\": \"%s\"", ($6 == "-" ? "null" : $6), $7
            if (what == "all")
                printf ", \"peak_megabytes\": %s", ($8 == "-" ? "null" : $8)
            printf "}"
        }
        END { print "\n]" }'
}

# Rows whose ratio is less than 0.85 of the reference, an array of to_json.
compare() { # reference rows
    awk -F '\t' '
        function field(name,   s) {
            s = $0
            if (!sub(".*\"" name "\": ", "", s)) return ""
            if (!sub("^\"", "", s)) sub("[,}].*", "", s)
            sub("\".*", "", s)
            return s
        }
        FNR == NR {
            key = field("bench") "\t" field("ranks") "\t" field("threads") "\t" field("of")
            if (/"bench"/) ratio[key] = field("ratio")
            next
        }
        $6 != "-" {
            key = $1 "\t" $2 "\t" $3 "\t" $7
            if (!(key in ratio)) missing++
            else {
                n++
                if ($6 < 0.85 * ratio[key]) {
                    bad++
                    printf "REGRESSION: %s on %s x %s: ratio %s, %.2f of the reference %s\n", \
                        $1, $2, $3, $6, $6 / ratio[key], ratio[key]
                }
            }
        }
        END {
            printf "%d ratios compared with %s, %d regressions of more than 15 %%", n, FILENAME_REF, bad
            printf missing ? ", %d new\n" : "\n", missing
        }' FILENAME_REF="$1" "$1" FS='\t' "$2"
}

printf 'bench\tranks\tthreads\tvalue\tunit\tratio\tof\tpeak MB\n' | row
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
        if ! grep "$tab" "$work/out" > "$work/new"; then
            [ -s "$work/out" ] && break
            continue
        fi
        row < "$work/new"
        cat "$work/new" >> "$work/rows"
    done
done

if [ -s "$work/rest" ]; then
    echo
    cat "$work/rest"
fi
if [ -s "$work/rows" ]; then
    to_json all < "$work/rows" > "$BUILD/bench.json"
    printf '\nwritten: %s/bench.json\n' "$BUILD"
    if [ -n "$REFERENCE" ]; then
        to_json ratios < "$work/rows" > "$reference"
        echo "written: $reference"
    elif [ -f "$reference" ]; then
        compare "$reference" "$work/rows"
    else
        echo "no reference for processors with $vectors: REFERENCE=1 writes $reference"
    fi
fi
exit $failed
