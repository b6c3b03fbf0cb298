#!/bin/sh
# cli_numbers.sh: numbers that are none, in weights, losses, gradients and trainings: refused by name, or gone
# back from, and never in a folder that is published.
. "$(dirname "$0")/../support/lib.sh"

make_corpus "$work/text.jsonl" 60 1
make_model "$work/huge" -s synth.std=1e25 # finite weights, whose products are not
make_model "$work/model"
cat > "$work/run.cfg" << END
calibration = { corpus = "$work/text.jsonl"; samples = 4; sequence = 32; };
recover = { corpus = "$work/text.jsonl"; steps = 8; batch = 16; micro_batch = 16; cutoff = 64; warmup = 0;
            save_every = 2; };
eval = { corpus = "$work/text.jsonl"; window = 64; samples = 8; };
END

with() { # model run_dir: the settings of this test
    echo "-c $work/run.cfg -s model=$work/$1 -s run_dir=$work/$2"
}

events() { # run_dir kind: how many there are
    grep -c "\"event\":\"$2\"" "$work/$1/events.jsonl"
}

# shellcheck disable=SC2046,SC2086
{
# ---- calibration and evaluation ------------------------------------------------------------------------
for criterion in vector element1 element2 mix; do
    exits 2 "$ESPALIER" score $(with huge score) -s prune.criterion=$criterion
    complains 'sample 0 of 4' 'the loss is' 'layer 0'
done
on2 2 score $(with huge score)
complains 'sample 0 of 4' 'the loss is' 'layer 0'
on2 2 run $(with huge score) -s parallel.pipeline=2
complains 'sample 0 of 4' 'the loss is' 'layer 0'
not_there "$work/score/importance.h5" "$work/score/plan.json"

on2 1 eval $(with huge eval)
complains 'the dense model' 'sample 0 of 8' 'the loss is'
not_there "$work/eval/eval.json"
exits 1 "$ESPALIER" generate -s model="$work/huge" -s generate.prompt=the
"$ESPALIER" generate -s model="$work/huge" -s generate.prompt=the > "$work/both" 2>&1 < /dev/null
grep -q '^espalier: error:' "$work/both" || fail "the error follows the prompt on its line: $(cat "$work/both")"
complains 'the logit of id'
on2 1 recover $(with huge huge-recover)
complains 'validation loss before the first step'
not_there "$work/huge-recover/adapter" "$work/huge-recover/recovered"

# A perplexity may be beyond f64 where the loss is a number.
make_model "$work/far" -s synth.std=100
exits 0 "$ESPALIER" eval $(with far far-eval)
prints '^dense .* inf '
grep -q '"perplexity": null' "$work/far-eval/eval.json" || fail "the perplexity is not null"
[ "$(json "$work/far-eval/eval.json" dense loss)" != "" ] || fail "no loss beside an infinite perplexity"

# ---- what is written -----------------------------------------------------------------------------------
exits 1 "$ESPALIER" synth -s synth.output="$work/half" -s synth.dtype=F16 -s synth.std=1e5
complains 'would be' 'F16 ends at 65504' 'weight['
not_there "$work/half" "$work/half.part"

# ---- training ------------------------------------------------------------------------------------------
for method in lora full; do
    on2 1 recover $(with model "$method") -s recover.method=$method -s recover.learning_rate=1e38
    complains 'after 2 rollbacks' 'recover.learning_rate' "$work/$method/recover"
    not_there "$work/$method/adapter" "$work/$method/recovered"
    [ "$(events "$method" rollback)" = 2 ] || fail "$method: not 2 events of rollback"
    [ "$(events "$method" skipped)" -ge 1 ] || fail "$method: no event of a skipped step"
    grep -q 'back from step' "$work/err" || fail "$method: the log says nothing of going back"
done
exits 1 "$ESPALIER" recover $(with model never) -s recover.learning_rate=1e38 -s recover.max_rollbacks=0 \
    -s recover.max_skipped=1
complains 'after 0 rollbacks'
[ "$(events never rollback)" = 0 ] || fail "it went back where it never should"
exits 2 "$ESPALIER" recover $(with model never) -s recover.max_skipped=0
complains 'recover.max_skipped'

# What a type cannot hold is not published, nor is the adapter that made it.
make_model "$work/f16" -s synth.dtype=F16
for method in lora full; do
    on2 1 recover $(with f16 "f16-$method") -s recover.method=$method -s recover.learning_rate=1e5 \
        -s recover.steps=3 -s recover.validation=0
    complains 'would be' 'inf' 'F16 ends at 65504' 'weight['
    not_there "$work/f16-$method/adapter" "$work/f16-$method/recovered"
done

# Nothing held out: no loss of validation is told, -1 least of all.
exits 0 "$ESPALIER" recover $(with model held) -s recover.steps=2 -s recover.validation=0
grep -q 'recover: 2 steps, training loss [0-9.]*, nothing held out' "$work/err" || fail "the training loss is not told"
! grep -e 'validation -' "$work/err" || fail "a loss of validation is told"
grep -q '"event":"trained".*"validation_loss":null' "$work/held/events.jsonl" || fail "validation_loss is not null"

# Low enough in the end; the same bits where it was killed after the first way back.
wild="-s recover.method=full -s recover.learning_rate=1e9 -s recover.max_rollbacks=60 -s recover.max_skipped=1"
wild="$wild -s recover.keep=1"
on2 0 recover $(with model wild) $wild
back=$(events wild rollback)
[ "$back" -ge 1 ] || fail "it never went back"
grep -q "\"event\":\"trained\".*\"rollbacks\":$back," "$work/wild/events.jsonl" || fail "rollbacks are not counted"
exits 0 "$ESPALIER" eval $(with model wild) $wild

mpirun -n 2 "$ESPALIER" recover $(with model killed) $wild > "$work/out" 2> "$work/err" < /dev/null &
pid=$!
tries=0
until grep -q '"event":"rollback"' "$work/killed/events.jsonl" 2> /dev/null || [ $tries -eq 3000 ]; do
    sleep 0.02
    tries=$((tries + 1))
done
read -r rank rest < "/proc/$pid/task/$pid/children"
kill -9 "$rank" 2> /dev/null # unless it was faster
wait "$pid"
on2 0 recover $(with model killed) $wild
cmp "$work/wild/recovered/model.safetensors" "$work/killed/recovered/model.safetensors" ||
    fail "another model where it was killed on the way"
}

finish
