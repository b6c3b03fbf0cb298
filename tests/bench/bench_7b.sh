#!/bin/sh
# bench_7b.sh DIR: a model of LLaMA-7B's shape in BF16 from synth (13.5 GB), then score (element1 and mix in one
# pass, 10 x 64 tokens), plan and prune on 2 ranks. Prints the seconds of each and the largest sum over the
# ranks of RssAnon, as /proc has it twenty times a second; takes everything away again. Not part of make
# check or make bench: it needs 28 GB in DIR and minutes. HIDDEN, MLP, LAYERS, HEADS, VOCAB: another shape;
# RANKS, THREADS: another layout; KEEP=1: the model stays for the next call, and a model that is there is
# taken; SETTINGS: further arguments of espalier, such as "-s parallel.scratch=/local".
: "${1:?usage: tests/bench/bench_7b.sh DIR}" "${BUILD:=build}" "${RANKS:=2}" "${THREADS:=1}" "${KEEP:=}" "${SETTINGS:=}"
: "${HIDDEN:=4096}" "${MLP:=11008}" "${LAYERS:=32}" "${HEADS:=32}" "${VOCAB:=32000}"
dir=$1
cd "$(dirname "$0")/../.." || exit 1
. jobs/mpi_env.sh
export OMP_NUM_THREADS="$THREADS"
model=$dir/model-7b run=$dir/run-7b

# ---- room -------------------------------------------------------------------------------------------
mkdir -p "$dir" || exit 1
parameters=$(awk -v d="$HIDDEN" -v f="$MLP" -v l="$LAYERS" -v v="$VOCAB" \
    'BEGIN { printf "%.0f", l * (4 * d * d + 3 * d * f + 2 * d) + 2 * v * d + d }')
need=$(awk -v n="$parameters" 'BEGIN { printf "%.0f", 2 * 2 * n / 1024 + 100000 }') # model and pruned, KB
free=$(df -Pk "$dir" | awk 'NR == 2 { print $4 }')
[ -e "$model/config.json" ] && need=$((need / 2))
if [ "$free" -lt "$need" ]; then
    echo "$dir: $((free / 1048576)) GiB are free, $((need / 1048576 + 1)) GiB are needed" >&2
    exit 1
fi

clean() {
    [ -n "$pid" ] && kill "$pid" 2> /dev/null
    rm -rf "$run" "$dir/ids-7b" "$dir/peak-7b"
    [ -n "$KEEP" ] || rm -rf "$model" "$model.espalier-part"
}
pid=
trap clean EXIT
trap 'exit 1' INT TERM

# ---- a command, its seconds and its memory ------------------------------------------------------------

# Prints the largest sum of RssAnon over the espalier processes below mpirun's, in MB, while it lives.
most_memory() { # pid of mpirun
    most=0
    while kill -0 "$1" 2> /dev/null; do
        sum=0
        # shellcheck disable=SC2013
        for child in $(cat "/proc/$1/task/$1/children" 2> /dev/null); do
            kb=$(awk '/^Name:/ { ours = $2 == "espalier" } /^RssAnon:/ && ours { print $2 }' \
                "/proc/$child/status" 2> /dev/null)
            sum=$((sum + ${kb:-0}))
        done
        [ $sum -gt $most ] && most=$sum
        sleep 0.05
    done
    echo $((most / 1024))
}

total=0 largest=0
step() { # name arguments...
    name=$1
    shift
    began=$(date +%s.%N)
    # shellcheck disable=SC2086
    mpirun -n "$RANKS" "$BUILD/espalier" "$@" $SETTINGS &
    pid=$!
    most_memory $pid > "$dir/peak-7b"
    wait $pid || { echo "$name failed" >&2; exit 1; }
    pid=
    seconds=$(awk -v a="$began" -v b="$(date +%s.%N)" 'BEGIN { printf "%.1f", b - a }')
    peak=$(cat "$dir/peak-7b")
    printf '%-8s %8s s %8s MiB of anonymous memory in all ranks\n' "$name" "$seconds" "$peak"
    if [ "$name" != synth ]; then
        total=$(awk -v a="$total" -v b="$seconds" 'BEGIN { printf "%.1f", a + b }')
        [ "$peak" -gt "$largest" ] && largest=$peak
    fi
}

echo "$parameters parameters, $RANKS ranks x $THREADS threads"
awk -v v="$VOCAB" 'BEGIN {
    srand(1)
    for (i = 0; i < 10; i++)
        for (t = 0; t < 64; t++) printf "%d%s", int(rand() * v), t < 63 ? " " : "\n"
}' > "$dir/ids-7b"
if ! [ -e "$model/config.json" ]; then
    step synth synth -q -s synth.output="$model" -s synth.hidden="$HIDDEN" -s synth.mlp="$MLP" \
        -s synth.layers="$LAYERS" -s synth.heads="$HEADS" -s synth.vocab="$VOCAB" -s synth.positions=2048
fi
set -- -q -s model="$model" -s run_dir="$run" -s calibration.tokens="$dir/ids-7b" \
    -s importance.criteria=element1,mix -s prune.ratio=0.25
step score score "$@"
step plan plan "$@"
step prune prune "$@"
printf '%-8s %8s s %8s MiB at most\n' all "$total" "$largest"
