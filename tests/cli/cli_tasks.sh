#!/bin/sh
# cli_tasks.sh: eval with tasks: files as published, what is left and shown, and what is refused before it begins.
. "$(dirname "$0")/../support/lib.sh"

model=$work/model
make_model "$model"
lines() { # file line...
    file=$1
    shift
    printf '%s\n' "$@" > "$work/$file"
}
lines boolq.jsonl '{"question": "is it so", "passage": "It is.", "label": true}' \
    '{"question": "was it so", "passage": "It was not.", "label": false}' \
    '{"question": "will it be", "passage": "It may.", "label": false}'
lines valid.jsonl '{"goal": "Open it", "sol1": "pull", "sol2": "push it"}' \
    '{"goal": "Close it", "sol1": "pull it", "sol2": "wait"}'
lines valid-labels.lst 1 0
lines anatomy_test.csv 'What is it?,a,b,"c, d",e,B' 'And what is "that"?,a,b,c,d,A'
lines anatomy_dev.csv 'Who is it?,a,b,c,d,C'
all="boolq=$work/boolq.jsonl,piqa=$work/valid.jsonl,mmlu=$work/anatomy_test.csv"
evaluate() { # run_dir setting...
    dir=$1
    shift
    set -- -q -s model="$model" -s run_dir="$work/$dir" "$@"
    echo "eval $*"
}

# ---- what is left --------------------------------------------------------------------------------------
# shellcheck disable=SC2046
exits 0 "$ESPALIER" $(evaluate one -s eval.tasks="$all")
there "$work/one/eval.json" "$work/one/eval_questions.jsonl"
prints '^task  *questions  *dense$'
prints '^boolq  *acc  *3  [01]\.[0-9]* +- [0-9.]*$'
prints '^piqa  *acc_norm  *2 '
! grep -q 'mmlu.*acc_norm' "$work/out" || fail "acc_norm of mmlu is not usual"
[ "$(wc -l < "$work/one/eval_questions.jsonl")" -eq 7 ] || fail "not seven questions"
[ "$(json "$work/one/eval.json" tasks piqa questions)" = 2 ] || fail "questions of piqa"
! grep -q perplexity "$work/one/eval.json" || fail "a perplexity without a corpus"

# the same on two ranks, one stage or two
for stages in 1 2; do
    # shellcheck disable=SC2046
    on2 0 $(evaluate "two$stages" -s eval.tasks="$all" -s parallel.pipeline=$stages)
    cmp -s "$work/one/eval_questions.jsonl" "$work/two$stages/eval_questions.jsonl" ||
        fail "answers of two ranks, $stages pipeline stages"
done

# limit and examples
# shellcheck disable=SC2046
exits 0 "$ESPALIER" $(evaluate few -s eval.tasks=mmlu="$work/anatomy_test.csv" -s eval.limit=1 -s eval.shots=1 \
    -s eval.examples=mmlu="$work/anatomy_dev.csv")
[ "$(wc -l < "$work/few/eval_questions.jsonl")" -eq 1 ] || fail "not one question"

# ---- several texts -------------------------------------------------------------------------------------
make_corpus "$work/text.jsonl" 20 1
make_corpus "$work/other.jsonl" 20 2
# shellcheck disable=SC2046
exits 0 "$ESPALIER" $(evaluate texts -s eval.corpora="short:16=$work/text.jsonl,long=$work/text.jsonl,other=$work/other.jsonl" \
    -s eval.window=64)
prints '^perplexity  *tokens  *dense$'
prints '^short  *[0-9]*  *[0-9.]*$'
short=$(json "$work/texts/eval.json" corpora short perplexity) long=$(json "$work/texts/eval.json" corpora long perplexity)
# shellcheck disable=SC2046
exits 0 "$ESPALIER" $(evaluate text -s eval.corpus="$work/text.jsonl" -s eval.window=64)
[ "$(json "$work/text/eval.json" perplexity)" = "$long" ] || fail "perplexity of a text alone"
[ "$short" != "$long" ] || fail "windows of 16 and of 64"

# ---- what has changed -----------------------------------------------------------------------------------
cp "$work/one/eval_questions.jsonl" "$work/before"
# shellcheck disable=SC2046
exits 0 "$ESPALIER" $(evaluate one -s eval.tasks="$all")
cmp -s "$work/before" "$work/one/eval_questions.jsonl" || fail "done again"
lines valid-labels.lst 0 0
# shellcheck disable=SC2046
exits 0 "$ESPALIER" $(evaluate one -s eval.tasks="$all")
grep -q '"task":"piqa","question":0,"gold":0' "$work/one/eval_questions.jsonl" || fail "labels have changed"
# shellcheck disable=SC2046
exits 2 "$ESPALIER" $(evaluate one -s eval.tasks="$all" -s eval.limit=1)
complains 'eval.limit = 0'

# ---- what is refused ------------------------------------------------------------------------------------
refused() { # tasks word...
    tasks=$1
    shift
    # shellcheck disable=SC2046
    exits 2 "$ESPALIER" $(evaluate none -s eval.tasks="$tasks")
    complains "$@"
    not_there "$work/none"
}
refused "piqa=$work/nowhere.jsonl" 'eval.tasks.piqa' 'nowhere.jsonl'
lines bad.jsonl '{"goal": "a", "sol1": "b", "sol2": "c", "label": 0}' '{"sol1": "b", "sol2": "c", "label": 0}'
refused "piqa=$work/bad.jsonl" 'bad.jsonl: line 2: goal: missing' 'goal, sol1, sol2, label'
lines bad.jsonl '{"goal": "a", "sol1": "b", "sol2": "c"}'
refused "piqa=$work/bad.jsonl" 'bad-labels.lst is not there'
lines bad.csv 'q,a,b,c,B'
refused "mmlu=$work/bad.csv" 'bad.csv: line 1: has 5 fields'
for corpora in "a:1=$work/text.jsonl" ":16=$work/text.jsonl" "a:b=$work/text.jsonl"; do
    # shellcheck disable=SC2046
    exits 2 "$ESPALIER" $(evaluate none -s eval.corpora="$corpora")
    complains 'eval.corpora' 'NAME:WINDOW=FILE'
done
# shellcheck disable=SC2046
exits 2 "$ESPALIER" $(evaluate none -s eval.corpora="a:4096=$work/text.jsonl")
complains 'eval.corpora: a window = 4096' '128 positions'
refused "none=$work/boolq.jsonl" 'eval.tasks: none' 'boolq piqa hellaswag'
refused "boolq" 'eval.tasks = boolq' 'NAME=FILE'
refused "boolq=$work/boolq.jsonl,boolq:piqa=$work/valid.jsonl" 'two tasks are called boolq'
# shellcheck disable=SC2046
exits 2 "$ESPALIER" $(evaluate none)
complains 'none of eval.corpus, eval.corpora and eval.tasks'
# shellcheck disable=SC2046
exits 2 "$ESPALIER" $(evaluate none -s eval.tasks="$all" -s eval.shots=1)
complains 'eval.shots = 1' 'eval.examples' boolq
# shellcheck disable=SC2046
exits 2 "$ESPALIER" $(evaluate none -s eval.tasks=mmlu="$work/anatomy_test.csv" -s eval.shots=2 \
    -s eval.examples=mmlu="$work/anatomy_dev.csv")
complains 'has 1 examples' 'anatomy'
not_there "$work/none"

finish
