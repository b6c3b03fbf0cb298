#!/bin/sh
# cli_commands.sh: every command on a tiny model, what it prints, and the author's parameter counts.
. "$(dirname "$0")/../support/lib.sh"

make_model "$work/model"
make_corpus "$work/train.jsonl" 60 1
make_corpus "$work/valid.jsonl" 20 2
cat > "$work/run.cfg" << END
model = "$work/model";
run_dir = "$work/run";
calibration = { corpus = "$work/train.jsonl"; samples = 4; sequence = 32; };
importance = { criteria = ["element1", "mix", "l2"]; };
recover = { corpus = "$work/train.jsonl"; steps = 4; batch = 8; cutoff = 64; warmup = 1; };
eval = { corpus = "$work/valid.jsonl"; window = 64; };
END

# ---- without MPI -------------------------------------------------------------------------------------
exits 0 "$ESPALIER" --help
prints 'COMMAND -c FILE'
prints '  generate '
exits 0 "$ESPALIER" --version
prints '^espalier '
exits 0 "$ESPALIER" recover --help
prints 'recover.learning_rate'
for command in inspect tokenize score plan prune recover eval generate run estimate synth config; do
    exits 0 "$ESPALIER" $command --help
    prints '^settings:'
    case $command in
    score | plan | prune | recover | eval | run) prints '^  precision ' ;;
    esac
done
exits 0 "$ESPALIER" compare --help
prints 'compare    RUN'
for arguments in "config --check $work/run.cfg" "config --check -c $work/run.cfg" "config -c $work/run.cfg --check" \
    "--check -c $work/run.cfg config" "config --check --config=$work/run.cfg" "config --check=$work/run.cfg"; do
    # shellcheck disable=SC2086
    exits 0 "$ESPALIER" $arguments
    prints "^$work/run.cfg: settings are right"
done
for arguments in 'config --check' 'config --check -q' 'config --check=-c'; do
    # shellcheck disable=SC2086
    exits 2 "$ESPALIER" $arguments
done
exits 0 "$ESPALIER" config --show -c "$work/run.cfg" -s recover.rank=5
prints 'rank = 5;'
cp "$work/out" "$work/shown.cfg"
exits 0 "$ESPALIER" config --show -c "$work/shown.cfg"
cmp -s "$work/out" "$work/shown.cfg" || fail "config --show is not the same the second time"
exits 0 "$ESPALIER" config --reference
prints '| `prune.ratio` | `0.25` |'
diff "$work/out" docs/settings.md > "$work/stale" ||
    fail "docs/settings.md is not what config --reference prints (make docs): $(head -5 "$work/stale")"

# SIGTERM ends what looks for no signal at once: 124, and not 137 of the SIGKILL behind it.
exits 124 timeout -k 5 1 "$ESPALIER" synth -s synth.kind=corpus -s synth.stories=100000000 -s synth.output="$work/long.txt"
not_there "$work/long.txt"

# ---- one command after another -----------------------------------------------------------------------
exits 0 "$ESPALIER" inspect -s model="$work/model"
prints 'layers 0-2: 4 heads, 4 key/value heads, 48 intermediate channels'
prints '^parameters 42912,'
prints '^attention: 12 groups in 3 units'
exits 0 "$ESPALIER" tokenize -c "$work/run.cfg" -s tokenize.corpus="$work/valid.jsonl" \
    -s tokenize.output="$work/valid.h5"
there "$work/valid.h5"
not_there "$work/run"
exits 2 "$ESPALIER" tokenize -c "$work/run.cfg" -s tokenize.corpus="$work/valid.h5" \
    -s tokenize.output="$work/again.h5"
complains "tokenize.corpus: $work/valid.h5: is a token file already" eval.corpus
not_there "$work/again.h5"
exits 2 "$ESPALIER" score -c "$work/run.cfg" -s model="$work/none" -s parallel.threads=4096
grep -q 'warning: parallel.threads = 4096: rank 0 may use [1-9]' "$work/err" || fail "4096 threads without a word"
exits 0 "$ESPALIER" tokenize -c "$work/run.cfg" -s tokenize.corpus="$work/valid.jsonl"
there "$work/run/tokens.h5"
for command in score plan prune recover eval; do
    on2 0 $command -c "$work/run.cfg"
done
prints '^recovered '
there "$work/run/importance.h5" "$work/run/plan.json" "$work/run/pruned/model.safetensors" \
    "$work/run/pruned/tokenizer.json" "$work/run/recover/step-000004.h5" \
    "$work/run/adapter/adapter_config.json" "$work/run/recovered/config.json" \
    "$work/run/eval.json" "$work/run/config.used" "$work/run/events.jsonl"
[ "$(grep -c '"event":"step"' "$work/run/events.jsonl")" -eq 4 ] || fail "not 4 steps in events.jsonl"
grep -q '"event":"end","stage":"eval"' "$work/run/events.jsonl" || fail "no end of eval in events.jsonl"
for kind in dense pruned recovered; do
    for key in perplexity loss accuracy tokens parameters macs bytes tokens_per_second peak_resident; do
        [ -n "$(json "$work/run/eval.json" $kind $key)" ] || fail "no $kind $key in eval.json"
    done
done
[ "$(json "$work/run/eval.json" dense parameters)" = 42912 ] || fail "dense parameters"
exits 0 "$ESPALIER" config --check "$work/run/config.used"

# A pruned model is a model: inspect and generate take it, and a token file gives the same perplexity.
exits 0 "$ESPALIER" inspect -s model="$work/run/recovered"
prints 'layers 0-2: 3 heads, 3 key/value heads, 36 intermediate channels'
exits 0 "$ESPALIER" generate -s model="$work/run/recovered" -s generate.prompt='the cat' \
    -s generate.tokens=4
prints '^the cat'
rm -r "$work/run/recovered" "$work/run/pruned"
exits 0 "$ESPALIER" eval -c "$work/run.cfg" -s run_dir="$work/other" -s eval.corpus="$work/valid.h5"
[ "$(json "$work/run/eval.json" dense loss)" = "$(json "$work/other/eval.json" dense loss)" ] ||
    fail "token file: another loss than the text"

# ---- training from scratch: recover without a plan ---------------------------------------------------
on2 0 recover -c "$work/run.cfg" -s run_dir="$work/scratch" -s recover.method=full \
    -s recover.learning_rate=3e-3 -s recover.warmup=100
grep -q 'warning: recover.warmup = 100' "$work/err" || fail "no warning of a warm-up longer than the training"
there "$work/scratch/recovered/model.safetensors"
not_there "$work/scratch/adapter"

# ---- the authors' counts, from shapes alone ------------------------------------------------------------
shape() { # name hidden heads kv mlp layers vocab
    mkdir -p "$work/$1"
    cat > "$work/$1/config.json" << END
{"model_type": "llama", "hidden_size": $2, "num_attention_heads": $3, "num_key_value_heads": $4,
 "intermediate_size": $5, "num_hidden_layers": $6, "vocab_size": $7, "rms_norm_eps": 1e-5,
 "max_position_embeddings": 2048, "tie_word_embeddings": false, "torch_dtype": "float16"}
END
}
counts() { # name layers dense pruned
    exits 0 "$ESPALIER" plan -s model="$work/$1" -s run_dir="$work/plan-$1" -s prune.ratio=0.25 \
        -s prune.criterion=random -s prune.attention_layers="$2" -s prune.mlp_layers="$2"
    for number in "$3" "$4"; do
        grep -q "\"parameters\":${number}[,}]" "$work/plan-$1/plan.json" || fail "$1: not $number parameters"
    done
}
shape llama-7b 4096 32 32 11008 32 32000
counts llama-7b 4-29 6738415616 5422977024
shape llama-3-8b 4096 32 8 14336 32 128256
counts llama-3-8b 4-29 8030261248 6612586496
shape tinyllama 2048 32 4 5632 22 32000
counts tinyllama 4-17 1100048384 945907712

# ---- sizes that engines load ---------------------------------------------------------------------------
clients() { # CODE SETTING...: a plan of llama-7b for all clients
    code=$1
    shift
    on2 "$code" plan -s model="$work/llama-7b" -s run_dir="$work/clients" -s prune.criterion=random \
        -s prune.clients=transformers,vllm,llama.cpp "$@"
}
clients 2 -s prune.ratio=0.3
complains 'prune.clients' 'llama.cpp' '2944' '256' 'prune.ratio = 0.'
not_there "$work/clients/plan.json"
grep -q 'warning: .*attention: 9 of 32 groups (28 %) in each layer for a ratio of 30 %' "$work/err" ||
    fail "no warning of groups that cannot follow"
clients 0 -s prune.ratio=0.3 -s prune.round_to=256

warned() { # NAME TIMES SETTING...: of a plan for a model, when no clients are named
    name=$1 times=$2
    shift 2
    on2 0 plan -s model="$work/$name" -s run_dir="$work/warned" -s prune.criterion=random "$@"
    [ "$(grep 'warning: ' "$work/err" | grep -c 'will not load in transformers: ')" -eq "$times" ] ||
        fail "$name $*: not $times warnings"
    rm -rf "$work/warned"
}
exits 0 "$ESPALIER" synth -s synth.output="$work/opt" -s synth.model_type=opt -s synth.layers=2
warned opt 1 -s prune.ratio=0.25
grep 'hidden size 64 of a opt must be 48' "$work/err" | grep -q 'prune.ratio = 0.24999' || fail "no reason or remedy"
warned opt 1 -s prune.ratio=0.25 -s prune.mode=channel
warned opt 0 -s prune.ratio=0.5 -s prune.mode=layer
warned llama-7b 0 -s prune.ratio=0.25
warned llama-7b 1 -s prune.ratio=0.25 -s prune.scope=global

# A layer of one intermediate channel: its column of the down projection is a matrix, not a norm, and counts.
make_model "$work/narrow" -s synth.mlp=1
make_corpus "$work/narrow.jsonl" 20 1
exits 0 "$ESPALIER" score -q -s model="$work/narrow" -s run_dir="$work/narrow-run" \
    -s importance.criteria=element1,l2 -s calibration.corpus="$work/narrow.jsonl" \
    -s calibration.samples=2 -s calibration.sequence=16
for criterion in element1 l2; do
    h5dump -d "/layers/0/mlp/$criterion/structures/down" "$work/narrow-run/importance.h5" > "$work/out"
    prints '(0): [0-9.e-]*[1-9]'
done

finish
