#!/bin/sh
# cli_compensate.sh: prune with prune.compensate: what it says and leaves, killed in the middle and gone on with,
# and what is refused before it begins.
. "$(dirname "$0")/../support/lib.sh"

make_model "$work/model"
make_corpus "$work/text.jsonl" 200 1
make_corpus "$work/valid.jsonl" 30 2
cat > "$work/run.cfg" << END
model = "$work/model";
calibration = { corpus = "$work/text.jsonl"; samples = 4; sequence = 32; };
prune = { ratio = 0.5; compensate = "least_squares"; };
compensate = { samples = 96; sequence = 48; };
eval = { corpus = "$work/valid.jsonl"; window = 64; };
END

run() { # code folder settings...
    code=$1 folder=$2
    shift 2
    on2 "$code" run -c "$work/run.cfg" -s run_dir="$work/$folder" "$@"
}

# ---- whole -------------------------------------------------------------------------------------------
run 0 whole
prints '^pruned '
grep -q 'compensate: layer 0, o_proj: error on held-out tokens' "$work/err" || fail "nothing is said"
[ ! -e "$work/whole/compensate" ] || fail "compensate/ is left"
grep -q '"event":"compensated".*"projection":"down_proj"' "$work/whole/events.jsonl" || fail "no events"
run 0 plain -s prune.compensate=none
cmp -s "$work/whole/plan.json" "$work/plain/plan.json" || fail "another plan"
cmp -s "$work/whole/pruned/model.safetensors" "$work/plain/pruned/model.safetensors" && fail "nothing was fitted"
run 0 whole
grep -q 'prune: done before' "$work/err" || fail "it was done again"

# ---- killed, and gone on with ------------------------------------------------------------------------
mpirun -n 2 "$ESPALIER" run -c "$work/run.cfg" -s run_dir="$work/killed" > "$work/out" 2> "$work/err" < /dev/null &
pid=$!
tries=0
until ls "$work/killed/compensate/"*.projection > /dev/null 2>&1 || [ $tries -eq 3000 ]; do
    sleep 0.01
    tries=$((tries + 1))
done
read -r ranks < "/proc/$pid/task/$pid/children"
# shellcheck disable=SC2086
kill -KILL $ranks
wait "$pid"
[ -d "$work/killed/compensate" ] || fail "it was over before it was killed"
[ ! -e "$work/killed/pruned" ] || fail "pruned/ is there"
run 2 killed -s compensate.samples=95
complains 'compensate.samples = 96' 'now it is 95'
run 0 killed
cmp -s "$work/whole/pruned/model.safetensors" "$work/killed/pruned/model.safetensors" ||
    fail "another model after the interruption"
[ ! -e "$work/killed/compensate" ] || fail "compensate/ is left"

# ---- pipeline stages ---------------------------------------------------------------------------------
run 0 stages -s parallel.pipeline=2
a=$(json "$work/whole/eval.json" pruned loss) b=$(json "$work/stages/eval.json" pruned loss)
awk -v a="$a" -v b="$b" 'BEGIN { d = a - b; exit !(a > 0 && d * d < 1e-8) }' || fail "loss $a, in stages $b"

# ---- refused -----------------------------------------------------------------------------------------
run 2 refused -s compensate.sequence=100000
complains 'compensate.sequence = 100000'
run 2 refused -s prune.compensate=squares
complains 'prune.compensate' 'least_squares'
run 2 refused -s compensate.target=own -s prune.mode=channel
complains 'compensate.target = own'
run 2 refused -s compensate.samples=7
complains 'compensate.samples = 7' 'compensate.holdout = 8'
run 2 refused -s compensate.corpus="$work/nowhere.jsonl"
complains 'compensate.corpus' 'nowhere.jsonl'
run 2 plain
complains 'prune.compensate = none' 'now it is least_squares'
finish
