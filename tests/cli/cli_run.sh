#!/bin/sh
# cli_run.sh: a run that is repeated, changed, forced, killed, stopped and resumed; and the chain on a
# model that was trained on text.
. "$(dirname "$0")/../support/lib.sh"

make_model "$work/model"
make_corpus "$work/train.jsonl" 200 1
make_corpus "$work/valid.jsonl" 30 2
cat > "$work/run.cfg" << END
model = "$work/model";
calibration = { corpus = "$work/train.jsonl"; samples = 4; sequence = 32; };
prune = { target = { parameters = 0.8; }; };
recover = { corpus = "$work/train.jsonl"; steps = 60; batch = 12; cutoff = 96; warmup = 5;
            learning_rate = 1e-2; save_every = 5; validate_every = 20; patience = 0; };
eval = { corpus = "$work/valid.jsonl"; window = 64; };
END

run() { # run_dir: the command of this test
    echo run -c "$work/run.cfg" -s run_dir="$1"
}

# close FILE FILE KIND TOLERANCE: losses of two eval.json agree
close() {
    a=$(json "$1" "$3" loss) b=$(json "$2" "$3" loss)
    awk -v a="$a" -v b="$b" -v tol="$4" \
        'BEGIN { d = a - b; if (d < 0) d = -d; exit !(a > 0 && d <= tol * a) }' ||
        fail "$3: loss $a in $1, $b in $2"
}

# start RUN_DIR RANKS: in the background until it has a checkpoint; then its ranks are halted, so that what
# comes next does not race with the end of the run
start() {
    # shellcheck disable=SC2046
    mpirun -n "$2" "$ESPALIER" $(run "$1") > "$work/out" 2> "$work/err" < /dev/null &
    pid=$!
    tries=0
    until ls "$1"/recover/step-*.h5 > /dev/null 2>&1 || [ $tries -eq 3000 ]; do
        sleep 0.02
        tries=$((tries + 1))
    done
    read -r ranks < "/proc/$pid/task/$pid/children"
    # shellcheck disable=SC2086
    kill -STOP $ranks
}

# shellcheck disable=SC2046,SC2086
{
# ---- whole, and again --------------------------------------------------------------------------------
on2 0 $(run "$work/whole")
prints '^recovered '
for stage in score plan prune recover eval; do
    grep -q '"'$stage'": {' "$work/whole/manifest.json" || fail "no $stage in the manifest"
done
for kind in weight_gradients sums gradients; do
    grep -q "\"event\":\"end\".*\"$kind\":{\"bytes\":[1-9]" "$work/whole/events.jsonl" ||
        fail "no bytes of $kind in the events"
    [ "$(json "$work/whole/manifest.json" "$kind" bytes)" -gt 0 ] || fail "no $kind in the manifest"
done
before=$(ls -l --time-style=full-iso "$work/whole/importance.h5" "$work/whole/eval.json" "$work/whole/pruned")
on2 0 $(run "$work/whole")
prints '^recovered '
[ "$before" = "$(ls -l --time-style=full-iso "$work/whole/importance.h5" "$work/whole/eval.json" \
    "$work/whole/pruned")" ] || fail "a repeated run did something"

# What went missing is made again, and nothing else.
rm -r "$work/whole/pruned"
exits 0 "$ESPALIER" $(run "$work/whole")
there "$work/whole/pruned/model.safetensors"
grep -q 'recover: done before' "$work/err" || fail "recover was repeated"

# A plan does not depend on the number of ranks.
exits 0 mpirun -n 3 "$ESPALIER" $(run "$work/three") -s recover.corpus= -s eval.corpus=
[ "$(json "$work/whole/plan.json" digest)" = "$(json "$work/three/plan.json" digest)" ] ||
    fail "another plan on 3 ranks"

# Nor on the grid, and what follows from it agrees.
on2 0 $(run "$work/grid") -s parallel.pipeline=2
[ "$(json "$work/whole/plan.json" digest)" = "$(json "$work/grid/plan.json" digest)" ] ||
    fail "another plan on two stages"
close "$work/whole/eval.json" "$work/grid/eval.json" recovered 1e-4
grep -q '"event":"end".*"activations":{"bytes":[1-9]' "$work/grid/events.jsonl" ||
    fail "no activations went from stage to stage"

# ---- changed settings --------------------------------------------------------------------------------
on2 2 $(run "$work/three") -s prune.target.parameters=0.7
complains 'plan was done with prune.target.parameters = 0.8, now it is 0.7' "$work/three" ' -f '
on2 2 prune -c "$work/run.cfg" -s run_dir="$work/three" -s calibration.samples=5
complains 'calibration.samples = 4, now it is 5'
on2 0 $(run "$work/three") -s prune.target.parameters=0.7 -s recover.corpus= -f
grep -q 'score: done before' "$work/err" || fail "-f repeated a stage that had not changed"
grep -q '"parameters":0.7' "$work/three/plan.json" || fail "-f did not plan again"

# A text that has changed is another text.
cp "$work/valid.jsonl" "$work/train2.jsonl"
exits 0 "$ESPALIER" score -c "$work/run.cfg" -s run_dir="$work/text" \
    -s calibration.corpus="$work/train2.jsonl"
cp "$work/train.jsonl" "$work/train2.jsonl"
exits 2 "$ESPALIER" score -c "$work/run.cfg" -s run_dir="$work/text" \
    -s calibration.corpus="$work/train2.jsonl"
complains 'another content of calibration.corpus'

# Evaluation follows what there is to evaluate.
exits 0 "$ESPALIER" eval -c "$work/run.cfg" -s run_dir="$work/follow"
exits 0 "$ESPALIER" $(run "$work/follow") -s recover.steps=2
prints '^recovered '

# A model trained before the cut is not taken for one trained after it.
exits 0 "$ESPALIER" recover -c "$work/run.cfg" -s run_dir="$work/early" -s recover.steps=1
exits 2 "$ESPALIER" $(run "$work/early") -s recover.steps=1
complains 'another content of pruned = nothing' 'espalier recover -f'

# ---- several cuts --------------------------------------------------------------------------------------
on2 0 $(run "$work/steps") -s prune.steps=3 -s recover.corpus= -s eval.corpus=
there "$work/steps/steps/1.json" "$work/steps/steps/2.json"
not_there "$work/steps/steps/model"
digest=$(json "$work/steps/plan.json" digest)
# as if it had died between the second and the third cut
rm "$work/steps/plan.json" "$work/steps/steps/2.json"
exits 0 "$ESPALIER" $(run "$work/steps") -s prune.steps=3 -s recover.corpus= -s eval.corpus=
[ "$digest" = "$(json "$work/steps/plan.json" digest)" ] || fail "another plan after a restart"

# ---- engines, before anything is estimated where the sizes are known by then; no steps left behind -----
clients() { # code run_dir setting...
    code=$1 dir=$2
    shift 2
    on2 "$code" $(run "$dir") -s prune.steps=3 -s recover.corpus= -s eval.corpus= -s prune.clients=llama.cpp \
        -s prune.target.parameters=0 -s calibration.samples=4 "$@"
}
clients 2 "$work/clients" -s prune.ratio=0.3
complains 'prune.clients: llama.cpp' 'prune.mode = "layer"'
not_there "$work/clients"
clients 2 "$work/clients" -s prune.ratio=0.3 -s prune.scope=global
complains 'prune.clients: llama.cpp' 'layer'
there "$work/clients/importance.h5"
not_there "$work/clients/plan.json" "$work/clients/steps"
clients 0 "$work/clients" -s prune.ratio=0.4 -s prune.mode=layer
there "$work/clients/steps/2.json" "$work/clients/plan.json"
not_there "$work/clients/steps/model"

# ---- killed ------------------------------------------------------------------------------------------
start "$work/killed" 2
kill -9 "${ranks%% *}"
kill -CONT ${ranks#* }
wait "$pid" && fail "a killed run exits with 0"
there "$work/killed/recover"
not_there "$work/killed/recovered"
on2 0 $(run "$work/killed")
close "$work/whole/eval.json" "$work/killed/eval.json" recovered 1e-9

# ---- stopped, and resumed on another number of ranks ---------------------------------------------------
start "$work/stopped" 2
on2 2 $(run "$work/stopped")
complains 'another run works in this run_dir'
kill -USR1 "$pid"
kill -CONT $ranks
wait "$pid"
code=$?
[ $code -eq 75 ] || fail "exit $code after SIGUSR1, wanted 75"
not_there "$work/stopped/recovered"
grep -q '"event":"stopped"' "$work/stopped/events.jsonl" || fail "no event of the stop"
exits 0 mpirun -n 3 "$ESPALIER" $(run "$work/stopped")
close "$work/whole/eval.json" "$work/stopped/eval.json" recovered 1e-5
}

# ---- a model that was trained on text ------------------------------------------------------------------
if [ -e "$shared/models/stories260K/config.json" ]; then
    cat > "$work/stories.cfg" << END
model = "$shared/models/stories260K";
run_dir = "$work/stories";
calibration = { corpus = "$shared/text/stories-train.jsonl"; samples = 16; sequence = 128; };
prune = { criterion = "element1"; target = { parameters = 0.8; }; };
recover = { corpus = "$shared/text/stories-train.jsonl"; learning_rate = 2e-3; warmup = 5; batch = 8;
            steps = 30; validate_every = 15; };
eval = { corpus = "$shared/text/stories-valid.jsonl"; samples = 40; };
END
    on2 0 run -c "$work/stories.cfg"
    cat "$work/out"
    pruned=$(json "$work/stories/eval.json" pruned perplexity)
    recovered=$(json "$work/stories/eval.json" recovered perplexity)
    awk -v p="$pruned" -v r="$recovered" 'BEGIN { exit !(r > 0 && r < p) }' ||
        fail "perplexity $recovered after recovery, $pruned before"
    parameters=$(json "$work/stories/eval.json" pruned parameters)
    [ "$parameters" -le 208026 ] || fail "$parameters parameters left of 260032"
else
    echo "skipped: $shared/models/stories260K is not here"
fi

finish
