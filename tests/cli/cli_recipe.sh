#!/bin/sh
# cli_recipe.sh: recipe = "paper" cuts what its settings cut, is told by the manifest, and an unknown one is refused.
. "$(dirname "$0")/../support/lib.sh"

model=$work/model
make_model "$model" -s synth.layers=8
make_corpus "$work/text.jsonl" 30 1
plan() { # run_dir setting...
    dir=$1
    shift
    set -- -q -s model="$model" -s calibration.corpus="$work/text.jsonl" -s run_dir="$work/$dir" "$@"
    exits 0 "$ESPALIER" score "$@"
    exits 0 "$ESPALIER" plan "$@"
}
plan paper -s recipe=paper
plan given -s prune.attention_layers=4-5 -s prune.mlp_layers=4-5 -s prune.ratio=0.25 -s prune.criterion=element1
cmp -s "$work/paper/plan.json" "$work/given/plan.json" || fail "layers 4 to n-3 of 8 are 4 and 5"
grep -q '"prune.mlp_layers": "4-5"' "$work/paper/manifest.json" || fail "the layers of this model"
grep -q '"prune.ratio": "paper"' "$work/paper/manifest.json" || fail "the manifest does not say who gave the ratio"
grep -q '"calibration.samples": "paper"' "$work/paper/manifest.json" || fail "nor the samples"
grep -q '"prune.steps": "default"' "$work/given/manifest.json" || fail "the default recipe"
! grep -q '"prune.ratio": "default"' "$work/given/manifest.json" || fail "the ratio was given"

# whoever gives the values, the work is the same
exits 0 "$ESPALIER" plan -s model="$model" -s calibration.corpus="$work/text.jsonl" -c "$work/paper/config.used" \
    -s recipe=default
grep -q 'done before' "$work/err" || fail "the same settings, given"

exits 2 "$ESPALIER" config --show -s recipe=best
complains 'recipe = best' 'one of default paper'
make_model "$work/shallow"
exits 2 "$ESPALIER" run -s model="$work/shallow" -s calibration.corpus="$work/text.jsonl" -s recipe=paper \
    -s run_dir="$work/none"
complains 'prune.attention_layers: 4-n-3 is not a range of the layers 0-2'
not_there "$work/none"
exits 0 "$ESPALIER" estimate -q -s recipe=paper -s synth.layers=8
exits 2 "$ESPALIER" estimate -q -s recipe=paper -s synth.layers=6
complains 'layers 0-5'
finish
