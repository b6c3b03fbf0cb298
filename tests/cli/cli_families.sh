#!/bin/sh
# cli_families.sh: a random model of every family that synth knows, through score, plan, prune and eval.
. "$(dirname "$0")/../support/lib.sh"

make_corpus "$work/train.jsonl" 12 1

# ---- the names: those of the message are those of the help ----------------------------------------------
exits 2 "$ESPALIER" synth -s synth.output="$work/none" -s synth.model_type=gpt2
complains 'synth.model_type' 'gpt2' 'must be one of llama, '
not_there "$work/none"
names=$(sed -n 's/.*must be one of //p' "$work/err" | tr -d '\n')
exits 0 "$ESPALIER" synth --help
tr -s ' \n' ' ' < "$work/out" | grep -q -F "family of the model to write: $names" || fail "names in the help: $names"

# ---- each of them ----------------------------------------------------------------------------------------
tried=0
for family in $(echo "$names" | tr -d ,); do
    dir=$work/$family
    make_model "$dir" -s synth.layers=2 -s synth.mlp=128 -s synth.model_type="$family"
    cat > "$dir.cfg" << END
model = "$dir";
run_dir = "$dir-run";
calibration = { corpus = "$work/train.jsonl"; samples = 4; sequence = 32; };
importance = { criteria = ["mix"]; };
eval = { corpus = "$work/train.jsonl"; window = 32; samples = 4; };
END
    on2 0 run -c "$dir.cfg"
    dense=$(json "$dir-run/eval.json" dense parameters) pruned=$(json "$dir-run/eval.json" pruned parameters)
    [ "${pruned:-0}" -gt 0 ] && [ "$pruned" -lt "$dense" ] ||
        fail "$family: $pruned of $dense parameters are left"
    exits 0 "$ESPALIER" inspect -s model="$dir-run/pruned"
    prints 'layers 0-1: 3 heads, 3 key/value heads, 96 intermediate channels'
    tried=$((tried + 1))
done
[ $tried -eq 14 ] || fail "$tried families"

finish
