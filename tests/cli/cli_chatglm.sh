#!/bin/sh
# cli_chatglm.sh: ChatGLM-6B from its tokenizer to generated text: prompts that are read as a whole, answers
# that are written behind [gMASK] <sop>.
. "$(dirname "$0")/../support/lib.sh"

# The golden model, with room for the text around an instruction.
mkdir -p "$work/model"
cp tests/golden/chatglm/* "$work/model"
sed 's/"max_sequence_length": 64/"max_sequence_length": 512/' tests/golden/chatglm/config.json \
    > "$work/model/config.json"

make_corpus "$work/train.jsonl" 40 1
awk 'BEGIN {
    split("cat dog bird fox", who, " "); split("tree pond hill", what, " ")
    for (i = 0; i < 24; i++)
        printf "{\"instruction\": \"what did the %s see?\", \"output\": \"the %s saw the %s.\"}\n", \
            who[i % 4 + 1], who[i % 4 + 1], what[i % 3 + 1]
}' > "$work/answers.jsonl"
cat > "$work/run.cfg" << END
model = "$work/model";
calibration = { corpus = "$work/train.jsonl"; samples = 6; sequence = 24; };
recover = { corpus = "$work/answers.jsonl"; steps = 60; batch = 8; micro_batch = 2; cutoff = 400; warmup = 2;
            learning_rate = 2e-2; rank = 16; validation = 4; validate_every = 30; };
eval = { corpus = "$work/answers.jsonl"; window = 128; };
END

# ---- the chain, on other numbers of ranks the same plan --------------------------------------------------
for mode in block layer channel; do
    on2 0 run -c "$work/run.cfg" -s run_dir="$work/$mode" -s prune.mode=$mode -s prune.ratio=0.5
    prints '^recovered '
    there "$work/$mode/pruned/ice_text.model" "$work/$mode/recovered/ice_text.model" \
        "$work/$mode/recovered/tokenizer_config.json"
    sed -n 's/.*"first_validation_loss":\([0-9.]*\),"validation_loss":\([0-9.]*\),.*/\1 \2/p' \
        "$work/$mode/events.jsonl" | awk '{ good = $2 > 0 && $2 < 0.7 * $1 } END { exit !good }' ||
        fail "$mode: answers are not learned"
    exits 0 mpirun -n 3 "$ESPALIER" run -c "$work/run.cfg" -s run_dir="$work/$mode-3" \
        -s prune.mode=$mode -s prune.ratio=0.5 -s recover.corpus= -s eval.corpus=
    [ "$(json "$work/$mode/plan.json" digest)" = "$(json "$work/$mode-3/plan.json" digest)" ] ||
        fail "$mode: another plan on 3 ranks"
done
grep -q '"num_layers": 1,' "$work/layer/pruned/config.json" || fail "layers that are left"

# ---- generation -----------------------------------------------------------------------------------------
# Behind the prompt comes what answers begin with, as one text: only its first space is left out.
on2 0 generate -s model="$work/block/recovered" -s generate.prompt="what did the cat see?" \
    -s generate.tokens=24
cat "$work/out"
prints '^what did the cat see?'
prints 'see? the '
finish
