#!/bin/sh
# cli_bf16.sh: a run in precision bf16: the same plan on any number of ranks, near ties in plan.json, no
# change of precision within a run.
. "$(dirname "$0")/../support/lib.sh"

make_model "$work/model" -s synth.dtype=BF16
make_corpus "$work/corpus.jsonl" 60 1
settings="-q -s model=$work/model -s precision=bf16 -s calibration.corpus=$work/corpus.jsonl
    -s calibration.sequence=24 -s recover.corpus=$work/corpus.jsonl -s recover.steps=2 -s recover.batch=4
    -s recover.cutoff=32 -s eval.corpus=$work/corpus.jsonl -s eval.window=32"

# shellcheck disable=SC2086
if ! timeout 120 "$ESPALIER" score $settings -s run_dir="$work/one" > "$work/out" 2>&1; then
    grep -q 'precision' "$work/out" && echo "skipped: $(cat "$work/out")" && exit 0
    fail "score"
fi
# shellcheck disable=SC2086
exits 0 "$ESPALIER" plan $settings -s run_dir="$work/one"
# shellcheck disable=SC2086
on2 0 run $settings -s run_dir="$work/two"
there "$work/two/pruned" "$work/two/recovered" "$work/two/eval.json"
cmp "$work/one/plan.json" "$work/two/plan.json" || fail "another plan on 2 ranks"
grep -q '"precision": "bf16"' "$work/two/plan.json" || fail "no precision in plan.json"
grep -q '"near_ties": \[' "$work/two/plan.json" || fail "no near ties in plan.json"

# Another precision is another run.
# shellcheck disable=SC2086
exits 2 "$ESPALIER" score $settings -s run_dir="$work/one" -s precision=f32
complains precision bf16 f32
# shellcheck disable=SC2086
exits 0 "$ESPALIER" plan -f $settings -s run_dir="$work/one" -s precision=bf16
# shellcheck disable=SC2086
on2 0 run $settings -s run_dir="$work/f32" -s precision=f32
grep -q 'near_ties' "$work/f32/plan.json" && fail "near ties in f32"
[ "$(json "$work/two/eval.json" recovered perplexity)" != "$(json "$work/f32/eval.json" recovered perplexity)" ] ||
    fail "the same perplexity in f32"

finish
