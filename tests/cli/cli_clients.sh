#!/bin/sh
# cli_clients.sh: what config.json leaves out, and which of two tensors counts: read as clients read it, and said
# in results.
. "$(dirname "$0")/../support/lib.sh"

make_corpus "$work/text.jsonl" 24 1
cat > "$work/run.cfg" << END
calibration = { corpus = "$work/text.jsonl"; samples = 4; sequence = 16; };
prune = { ratio = 0.25; };
recover = { method = "full"; corpus = "$work/text.jsonl"; steps = 10; batch = 8; warmup = 1; cutoff = 32;
            learning_rate = 1e-2; };
eval = { corpus = "$work/text.jsonl"; window = 32; };
END

says() { # FILE KEY VALUE
    [ "$(json "$1" "$2")" = "$3" ] || fail "$1: $2 is $(json "$1" "$2"), not $3"
}

# ---- the first ChatGLM: one matrix that the published files hold twice --------------------------------------
model=$work/chatglm
mkdir "$model"
cp tests/golden/chatglm/* "$model"
exits 0 "$ESPALIER" inspect -s model="$model"
prints '(tied)'
on2 0 run -c "$work/run.cfg" -s model="$model" -s run_dir="$work/run"
for name in pruned recovered; do
    says "$work/run/$name/config.json" tie_word_embeddings true
    grep -q -a 'transformer.word_embeddings.weight' "$work/run/$name/model.safetensors" || fail "no embedding"
    ! grep -q -a 'lm_head.weight' "$work/run/$name/model.safetensors" || fail "a head of its own"
done
# As trained, so read: a client that ties has what the program had.
trained=$(json "$work/run/eval.json" recovered perplexity)
on2 0 run -c "$work/run.cfg" -s model="$work/run/recovered" -s run_dir="$work/again" -s prune.ratio=0.5 \
    -s recover.corpus=
[ "$(json "$work/again/eval.json" dense perplexity)" = "$trained" ] || fail "another perplexity when read again"

# Head and embedding that are said to be one, and are not.
mkdir "$work/both"
cp tests/golden/baichuan-7b/* "$work/both"
grep -v tie_word "$work/both/config.json" | sed 's/"model_type"/"tie_word_embeddings": true, "model_type"/' \
    > "$work/config.json"
mv "$work/config.json" "$work/both/config.json"
on2 2 run -c "$work/run.cfg" -s model="$work/both" -s run_dir="$work/none"
complains "$work/both" lm_head.weight 'tie_word_embeddings' 'set it to false'
not_there "$work/none"

# ---- what a class means without a word -----------------------------------------------------------------------
on2 0 run -c "$work/run.cfg" -s model=tests/golden/gemma2-defaults -s run_dir="$work/gemma2" \
    -s calibration.corpus= -s calibration.tokens=tests/golden/gemma2-defaults/tokens.txt -s recover.corpus= \
    -s eval.corpus=
for wanted in 'attn_logit_softcapping 50.0' 'final_logit_softcapping 30.0' 'query_pre_attn_scalar 256' \
    'sliding_window 4096' 'tie_word_embeddings true' 'rope_theta 10000.0' 'rms_norm_eps 1e-6'; do
    # shellcheck disable=SC2086
    says "$work/gemma2/pruned/config.json" $wanted
done

# ---- quantised weights -----------------------------------------------------------------------------------------
make_model "$work/quantised"
sed -i 's/"model_type"/"quantization_config": {"quant_method": "awq", "bits": 4}, "model_type"/' \
    "$work/quantised/config.json"
on2 2 run -c "$work/run.cfg" -s model="$work/quantised" -s run_dir="$work/none"
complains "$work/quantised/config.json" quantization_config awq dequantise
not_there "$work/none"

finish
