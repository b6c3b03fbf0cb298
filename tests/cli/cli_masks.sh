#!/bin/sh
# cli_masks.sh: criterion masks: the budget, the same plan on any number of ranks, a run that is killed, and what
# is refused.
. "$(dirname "$0")/../support/lib.sh"

make_model "$work/model"
make_corpus "$work/text.jsonl" 120 1
cat > "$work/run.cfg" << END
model = "$work/model";
calibration = { corpus = "$work/text.jsonl"; samples = 12; sequence = 32; };
prune = { criterion = "masks"; ratio = 0.25; };
masks = { steps = 9; batch = 5; };
eval = { corpus = "$work/text.jsonl"; window = 64; samples = 8; };
END

says() { # in the log of the last command
    grep -q -e "$1" "$work/err" || fail "no \"$1\" in the log"
}

# ---- one plan ----------------------------------------------------------------------------------------------
exits 0 "$ESPALIER" run -c "$work/run.cfg" -s run_dir="$work/alone"
says 'masks: step 1 of 9: loss'
says 'masks: step 9 of 9: loss'
on2 0 run -c "$work/run.cfg" -s run_dir="$work/two"
on2 0 run -c "$work/run.cfg" -s run_dir="$work/stages" -s parallel.pipeline=2
for other in two stages; do
    cmp -s "$work/alone/plan.json" "$work/$other/plan.json" || fail "another plan by $other"
done
[ "$(json "$work/alone/pruned/config.json" intermediate_size)" = 36 ] ||
    fail "not a quarter of 48 neurons: $(cat "$work/alone/pruned/config.json")"
exits 0 "$ESPALIER" run -c "$work/run.cfg" -s run_dir="$work/other" -s prune.criterion=element1
cmp -s "$work/alone/plan.json" "$work/other/plan.json" && fail "the plan of element1"

# ---- a target, for all layers together, with compensation -----------------------------------------------------
exits 0 "$ESPALIER" run -c "$work/run.cfg" -s run_dir="$work/target" -s prune.ratio=0 -s prune.scope=global \
    -s prune.target.parameters=0.8 -s prune.compensate=least_squares -s compensate.samples=32 -s compensate.sequence=48
says 'parameters stay (7[89][.]'

# ---- killed in the training: the next call repeats it ----------------------------------------------------------
"$ESPALIER" run -c "$work/run.cfg" -s run_dir="$work/killed" -s masks.steps=100000 > "$work/killed.log" 2>&1 &
pid=$!
while ! grep -q 'masks: step 1 of' "$work/killed.log"; do sleep 0.1; done
kill -9 "$pid"
wait "$pid" 2> /dev/null
not_there "$work/killed/importance.h5"
exits 0 "$ESPALIER" run -c "$work/run.cfg" -s run_dir="$work/killed"
cmp -s "$work/alone/plan.json" "$work/killed/plan.json" || fail "another plan after a kill"

# ---- what is refused -------------------------------------------------------------------------------------------
refused() { # words of the message, settings...
    words=$1
    shift
    exits 2 "$ESPALIER" run -c "$work/run.cfg" -s run_dir="$work/never" "$@"
    complains "$words"
    not_there "$work/never"
}
refused 'masks.steps' -s masks.steps=1
refused 'masks.batch' -s masks.batch=0
refused 'masks.learning_rate' -s masks.learning_rate=0
refused 'prune.mode = block, not layer' -s prune.mode=layer
refused 'prune.mode' -s prune.mode=channel
refused 'prune.steps = 2: criterion masks' -s prune.steps=2
finish
