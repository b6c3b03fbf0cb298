#!/bin/sh
# cli_queries.sh: prune.attention: which heads go, what is written of them and read again, and what is refused.
. "$(dirname "$0")/../support/lib.sh"

make_model "$work/model" -s synth.heads=6 -s synth.kv_heads=2 -s synth.head_dim=8
make_corpus "$work/text.jsonl" 120 1
cat > "$work/run.cfg" << END
model = "$work/model";
calibration = { corpus = "$work/text.jsonl"; samples = 6; sequence = 32; };
prune = { ratio = 0.34; };
compensate = { samples = 32; sequence = 48; };
eval = { corpus = "$work/text.jsonl"; window = 64; samples = 8; };
END

run() { # code folder settings...
    code=$1 folder=$2
    shift 2
    on2 "$code" run -c "$work/run.cfg" -s run_dir="$work/$folder" "$@"
}

has_heads() { # folder, query heads, key/value heads
    config=$work/$1/pruned/config.json
    [ "$(json "$config" num_attention_heads) $(json "$config" num_key_value_heads) $(json "$config" head_dim)" = "$2 $3 8" ] ||
        fail "$1: $(grep -e heads -e head_dim "$config")"
}

# Query heads that stay in each layer, and whether they are two of each key/value head.
are_two_of_each() { # plan
    [ "$(grep -c '"query":\[[0-2],[0-2],[3-5],[3-5]\],"query_of":6' "$1")" -eq 3 ] || fail "$(cat "$1")"
}

exits 0 "$ESPALIER" inspect -s model="$work/model"
prints '^query: 18 groups in 3 units, 2 structures each'

# ---- a third of the query heads, by every criterion --------------------------------------------------------
for criterion in vector element1 element2 mix l1 l2 gate1 gate2 kfac wanda_sp flap random; do
    run 0 "$criterion" -s prune.attention=queries -s prune.criterion=$criterion
    has_heads "$criterion" 4 2
    are_two_of_each "$work/$criterion/plan.json"
done
exits 0 "$ESPALIER" run -c "$work/run.cfg" -s run_dir="$work/alone" -s prune.attention=queries
cmp -s "$work/alone/plan.json" "$work/element1/plan.json" || fail "another plan by one rank"
run 0 stages -s prune.attention=queries -s parallel.pipeline=2
cmp -s "$work/stages/plan.json" "$work/element1/plan.json" || fail "another plan by a pipeline"
run 2 element1
complains 'importance.units = attention,mlp,hidden,query' 'now it is attention,mlp,hidden'

# What was written is a model of its own: it has the loss that it had, and can be cut again.
run 0 again -s model="$work/element1/pruned" -s prune.attention=queries -s prune.ratio=0.5
has_heads again 2 2
[ "$(json "$work/again/eval.json" dense loss)" = "$(json "$work/element1/eval.json" pruned loss)" ] ||
    fail "another loss when read again"
run 2 never -s model="$work/again/pruned" -s prune.attention=queries -s prune.ratio=0.5
complains 'prune.attention = queries' 'a key/value head for each query head' 'set groups'
not_there "$work/never"

# ---- both, several cuts, one ranking, compensation -----------------------------------------------------------
run 0 both -s prune.attention=both -s prune.ratio=0.5
has_heads both 2 1
run 0 steps -s prune.attention=queries -s prune.ratio=0.7 -s prune.steps=2
has_heads steps 2 2
are_two_of_each "$work/steps/steps/1.json"
run 0 global -s prune.attention=queries -s prune.ratio=0.3 -s prune.scope=global
run 0 fitted -s prune.attention=queries -s prune.compensate=least_squares
cmp -s "$work/fitted/plan.json" "$work/element1/plan.json" || fail "another plan with compensation"
a=$(json "$work/element1/eval.json" pruned loss) b=$(json "$work/fitted/eval.json" pruned loss)
[ "$a" != "$b" ] || fail "nothing was fitted"

# ---- what an engine can load, and what a run takes ----------------------------------------------------------
run 2 refused -s prune.attention=queries -s prune.ratio=0.67 -s prune.clients=llama.cpp
complains 'prune.clients' 'llama.cpp'
run 2 refused -s prune.attention=heads
complains 'prune.attention' 'groups' 'queries' 'both'
run 2 refused -s prune.attention=queries -s prune.ratio=0.01
complains 'cuts nothing'
for attention in groups queries; do
    exits 0 "$ESPALIER" estimate -c "$work/run.cfg" -s run_dir="$work/none" -s prune.attention=$attention \
        -s estimate.output="$work/$attention.json"
done
cmp -s "$work/groups.json" "$work/queries.json" && fail "the estimates are the same"
finish
