#!/bin/sh
# cli_reconstruct.sh: a plan by what projections lose: what it says and leaves, with and without a fit, killed in
# the middle and gone on with, against its estimate, and what is refused before it begins.
. "$(dirname "$0")/../support/lib.sh"
# Of run.sh: with them MPI takes megabytes less than estimate expects.
unset OMPI_MCA_ess_singleton_isolated OMPI_MCA_pml

make_model "$work/model"
make_corpus "$work/text.jsonl" 200 1
make_corpus "$work/valid.jsonl" 30 2
cat > "$work/run.cfg" << END
model = "$work/model";
calibration = { corpus = "$work/text.jsonl"; };
prune = { ratio = 0.5; select = "reconstruction"; compensate = "least_squares"; };
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
grep -q 'plan: layer 0, down_proj: [0-9]* groups go' "$work/err" || fail "the choice is not told"
grep -q 'compensate: layer 0, o_proj: error on held-out tokens' "$work/err" || fail "the fit is not told"
[ ! -e "$work/whole/importance.h5" ] || fail "there are scores"
[ ! -e "$work/whole/steps" ] || fail "steps/ is left"
grep -q '"select": "reconstruction"' "$work/whole/plan.json" || fail "plan.json does not say how"
grep -q '"unit":"mlp","cut":\[[0-9,]*\],"error":\[' "$work/whole/plan.json" || fail "no curves"
run 0 whole
grep -q 'plan: done before' "$work/err" || fail "it was done again"

# Without a fit other numbers are left.
run 0 bare -s prune.compensate=none
[ ! -e "$work/bare/steps" ] || fail "steps/ is left without a fit"
a=$(json "$work/whole/eval.json" pruned loss) b=$(json "$work/bare/eval.json" pruned loss)
[ "$a" != "$b" ] || fail "loss $a, fitted or not"

# A fit by prune alone, of the same plan, is the same.
on2 0 prune -c "$work/run.cfg" -s run_dir="$work/whole" -f
cmp -s "$work/whole/pruned/model.safetensors" "$work/model/model.safetensors" && fail "nothing was cut"
on2 0 eval -c "$work/run.cfg" -s run_dir="$work/whole"
c=$(json "$work/whole/eval.json" pruned loss)
awk -v a="$a" -v b="$c" 'BEGIN { d = a - b; exit !(a > 0 && d * d < 1e-8) }' || fail "loss $a, alone $c"

# ---- killed, and gone on with ------------------------------------------------------------------------
run 0 first
mpirun -n 2 "$ESPALIER" run -c "$work/run.cfg" -s run_dir="$work/killed" > "$work/out" 2> "$work/err" < /dev/null &
pid=$!
tries=0
until ls "$work/killed/steps/"*.choice > /dev/null 2>&1 || [ $tries -eq 3000 ]; do
    sleep 0.01
    tries=$((tries + 1))
done
read -r ranks < "/proc/$pid/task/$pid/children"
# shellcheck disable=SC2086
kill -KILL $ranks
wait "$pid"
[ -d "$work/killed/steps" ] || fail "it was over before it was killed"
[ ! -e "$work/killed/plan.json" ] || fail "plan.json is there"
run 2 killed -s compensate.samples=95
complains 'compensate.samples = 96' 'now it is 95'
run 0 killed
cmp -s "$work/first/plan.json" "$work/killed/plan.json" || fail "another plan after the interruption"
cmp -s "$work/first/pruned/model.safetensors" "$work/killed/pruned/model.safetensors" ||
    fail "another model after the interruption"

# ---- pipeline stages ---------------------------------------------------------------------------------
run 0 stages -s parallel.pipeline=2
grep '"digest"' "$work/stages/plan.json" > "$work/a"
grep '"digest"' "$work/first/plan.json" > "$work/b"
cmp -s "$work/a" "$work/b" || fail "another plan on two pipeline stages"

# ---- its estimate ------------------------------------------------------------------------------------
exits 0 "$ESPALIER" estimate -c "$work/run.cfg" -s estimate.ranks=2 -s cluster.cores=2 -s estimate.output="$work/e.json"
for what in sums values; do
    a=$(json "$work/e.json" plan sent $what) b=$(json "$work/first/manifest.json" plan sent $what bytes)
    awk -v a="$a" -v b="$b" 'BEGIN { d = a - b; exit !(b > 0 && d * d <= 1e-6 * b * b) }' ||
        fail "$what: predicted $a, sent $b"
done

# ---- refused -----------------------------------------------------------------------------------------
run 2 refused -s prune.scope=global
complains 'prune.select' 'prune.scope'
run 2 refused -s prune.mode=layer
complains 'prune.select' 'prune.mode'
run 2 refused -s prune.steps=2
complains 'prune.select' 'prune.steps'
run 2 refused -s calibration.corpus=
complains 'prune.select = reconstruction' 'compensate.corpus'
run 2 refused -s compensate.samples=7
complains 'compensate.samples = 7' 'compensate.holdout = 8'
run 2 first -s prune.compensate=none
complains 'prune.compensate = least_squares' 'now it is none'
finish
