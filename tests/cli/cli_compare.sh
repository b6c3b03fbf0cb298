#!/bin/sh
# cli_compare.sh: compare shows what eval.json of each run has, joins seeds, says what was read before, names what is
# damaged, and works without MPI.
. "$(dirname "$0")/../support/lib.sh"

model=$work/model
make_model "$model"
make_corpus "$work/a.jsonl" 30 1
make_corpus "$work/b.jsonl" 8 2
printf '%s\n' '{"goal": "Open it", "sol1": "pull", "sol2": "push it", "label": 1}' \
    '{"goal": "Close it", "sol1": "pull it", "sol2": "wait", "label": 0}' > "$work/piqa.jsonl"
printf '%s\n' '{"question": "is it so", "passage": "It is.", "label": true}' > "$work/boolq.jsonl"
printf '%s\n%s\n' 0 1 > "$work/piqa-labels.lst"
cat > "$work/run.cfg" << END
model = "$model";
calibration = { corpus = "$work/a.jsonl"; samples = 4; sequence = 32; };
eval = { corpora = ["web=$work/a.jsonl", "wiki:64=$work/b.jsonl"]; window = 32;
         tasks = ["piqa=$work/piqa.jsonl", "boolq=$work/boolq.jsonl"]; };
END
run() { # name setting...
    name=$1
    shift
    exits 0 "$ESPALIER" run -q -c "$work/run.cfg" -s run_dir="$work/runs/$name" "$@"
}
for seed in 1 2 3; do
    run "half-$seed" -s seed=$seed -s prune.ratio=0.5
done
run quarter -s seed=1


# cell FILE RUN MODEL TITLE: of a CSV file whose cells have no commas
cell() {
    awk -F, -v run="$2" -v model="$3" -v title="$4" '
        NR == 1 { for (i = 1; i <= NF; i++) if ($i == title) at = i }
        $1 == run && $2 == model { print $at }' "$1"
}
same() { # number number what
    awk -v a="$1" -v b="$2" 'BEGIN { exit !(a != "" && b != "" && a + 0 == b + 0) }' || fail "$3: $1, not $2"
}

# ---- one run: the numbers of eval.json, digit by digit ----------------------------------------------------
exits 0 "$ESPALIER" compare --format csv "$work/runs/quarter"
cp "$work/out" "$work/one.csv"
[ "$(wc -l < "$work/one.csv")" -eq 3 ] || fail "not a title, dense and pruned"
json=$work/runs/quarter/eval.json
for model_name in dense pruned; do
    run=quarter
    [ $model_name = pruned ] || run=-
    for field in parameters macs bytes; do
        same "$(cell "$work/one.csv" $run $model_name $field)" "$(json "$json" $model_name $field)" "$model_name $field"
    done
    for corpus in web wiki; do
        same "$(cell "$work/one.csv" $run $model_name $corpus.perplexity)" \
            "$(json "$json" $model_name corpora $corpus perplexity)" "$model_name $corpus"
    done
    for task in piqa boolq; do
        same "$(cell "$work/one.csv" $run $model_name $task.acc)" "$(json "$json" $model_name tasks $task acc)" \
            "$model_name $task"
    done
    same "$(cell "$work/one.csv" $run $model_name piqa.acc_norm)" \
        "$(json "$json" $model_name tasks piqa acc_norm)" "$model_name acc_norm"
    acc=$(awk -v p="$(json "$json" $model_name tasks piqa acc)" -v b="$(json "$json" $model_name tasks boolq acc)" \
        'BEGIN { printf "%.17g", (p + b) / 2 }')
    same "$(cell "$work/one.csv" $run $model_name mean.acc)" "$acc" "$model_name mean"
done
! head -1 "$work/one.csv" | grep -q 'boolq.acc_norm' || fail "acc_norm of boolq is not usual"

# ---- what calibration has read ----------------------------------------------------------------------------
[ "$(cell "$work/one.csv" quarter pruned seen)" = web.perplexity=calibration ] || fail "what was seen"
[ "$(cell "$work/one.csv" - dense seen)" = "" ] || fail "the dense model has seen nothing"
grep -q 'warning: .*quarter: the pruned model was made with the text that web.perplexity' "$work/err" ||
    fail "no warning of a text that is judged and was calibrated on"
! grep -q 'warning: .*wiki' "$work/err" || fail "wiki was not read"

run trained -s seed=1 -s prune.compensate=least_squares -s compensate.corpus="$work/b.jsonl" -s compensate.samples=64 \
    -s compensate.sequence=32 -s recover.corpus="$work/b.jsonl" -s recover.steps=1 -s recover.batch=4 \
    -s recover.validation=0 -s recover.cutoff=32 -s recover.warmup=0
exits 0 "$ESPALIER" compare --format csv "$work/runs/trained"
[ "$(cell "$work/out" trained pruned seen)" = "web.perplexity=calibration wiki.perplexity=compensation" ] ||
    fail "what was fitted on"
[ "$(cell "$work/out" trained recovered seen)" = "web.perplexity=calibration wiki.perplexity=compensation+recovery" ] ||
    fail "what was trained on"

run chosen -s prune.select=reconstruction -s prune.compensate=least_squares -s compensate.samples=64 \
    -s compensate.sequence=32
exits 0 "$ESPALIER" compare --format csv "$work/runs/chosen"
case $(cell "$work/out" chosen pruned seen) in
*web.perplexity=*plan*) ;;
*) fail "the text that the groups were chosen by: $(cell "$work/out" chosen pruned seen)" ;;
esac

# ---- several: seeds are joined ----------------------------------------------------------------------------
exits 0 "$ESPALIER" compare --format csv "$work"/runs/half-* "$work/runs/quarter/"
cp "$work/out" "$work/all.csv"
[ "$(cut -d, -f1-3 "$work/all.csv" | tr '\n' ' ')" = "run,model,n -,dense,1 half-*,pruned,3 quarter,pruned,1 " ] ||
    fail "rows"
for seed in 1 2 3; do
    json "$work/runs/half-$seed/eval.json" pruned corpora wiki perplexity
done | awk '{ x[NR] = $1; s += $1 } END {
    m = s / NR
    for (i = 1; i <= NR; i++) q += (x[i] - m) ^ 2
    printf "%.10g %.8g\n", m, sqrt(q / (NR - 1))
}' > "$work/wanted"
printf '%.10g %.8g\n' "$(cell "$work/all.csv" 'half-*' pruned wiki.perplexity)" \
    "$(cell "$work/all.csv" 'half-*' pruned 'wiki.perplexity sd')" | cmp -s - "$work/wanted" ||
    fail "mean and deviation, wanted $(cat "$work/wanted")"
[ "$(cell "$work/all.csv" quarter pruned 'wiki.perplexity sd')" = "" ] || fail "the deviation of one run"
exits 0 "$ESPALIER" compare "$work/runs/half-1" "$work/runs/half-1/"
grep -q 'warning: .*it is left out' "$work/err" || fail "the same run twice"
prints '^half-1  *pruned  *1 '

# ---- other forms ------------------------------------------------------------------------------------------
exits 0 "$ESPALIER" compare "$work"/runs/half-*
prints '^half-\*  *pruned  *3 .* +- '
prints '^web.perplexity  *all windows of 32 tokens, text .*calibration of half-\* (pruned)$'
prints '^wiki.perplexity  *all windows of 64 tokens, text .*  none$'
exits 0 "$ESPALIER" compare "$work/runs/quarter" -o "$work/table.md"
head -2 "$work/table.md" | tail -1 | grep -q '^|---|---|---:|' || fail "not Markdown"
exits 2 "$ESPALIER" compare "$work/runs/quarter" -o "$work/table.md"
complains table.md
exits 0 "$ESPALIER" compare "$work/runs/half-1" -o "$work/table.md" -f
grep -q 'half-1' "$work/table.md" || fail "replaced"
exits 2 "$ESPALIER" compare "$work/runs/half-1" -f -o "$work/run.cfg"
exits 2 "$ESPALIER" compare "$work/runs/half-1" -f -o "$work/runs/half-1/eval.json"
exits 2 "$ESPALIER" compare "$work/runs/half-1" --format html
complains 'table csv markdown'
exits 2 "$ESPALIER" compare
complains 'compare RUN'
exits 2 "$ESPALIER" eval -o x -s model="$model"
complains '-o goes with compare'

# ---- the same name for another test is another column -----------------------------------------------------
run other -s seed=1 -s eval.window=16 -s prune.ratio=0.4
exits 0 "$ESPALIER" compare --format csv "$work/runs/quarter" "$work/runs/other"
head -1 "$work/out" | grep -q ',web.perplexity,.*,web.perplexity#2,' || fail "windows of 32 and of 16 in one column"
head -1 "$work/out" | grep -q 'wiki.perplexity#2' && fail "windows of 64 in two columns"
[ "$(cell "$work/out" quarter pruned 'web.perplexity#2')" = "" ] || fail "a number of another test"

# ---- without MPI ------------------------------------------------------------------------------------------
# Open MPI makes its folder for sessions when it starts: where it cannot, MPI_Init fails.
: > "$work/no_folder"
exits 0 env TMPDIR="$work/no_folder" OMPI_MCA_orte_tmpdir_base="$work/no_folder" "$ESPALIER" compare "$work/runs/quarter"
env TMPDIR="$work/no_folder" OMPI_MCA_orte_tmpdir_base="$work/no_folder" "$ESPALIER" inspect -s model="$model" \
    > /dev/null 2>&1 && fail "MPI starts without its folder: nothing was tested"

# ---- damaged and missing ----------------------------------------------------------------------------------
cp -r "$work/runs/half-2" "$work/damaged"
sed -i 's/"perplexity": [0-9]/"perplexity": 1/' "$work/damaged/eval.json"
exits 2 "$ESPALIER" compare --format csv "$work/damaged" "$work/none" "$work/runs/quarter" "$model"
grep -q 'damaged/eval.json: is not what eval left' "$work/err" || fail "a damaged file"
grep -q 'none: there is no such folder' "$work/err" || fail "a missing run"
grep -q 'model: is no folder of a run' "$work/err" || fail "another folder"
complains 'not all of the 4 runs' 'of the others'
[ "$(cell "$work/out" quarter pruned parameters)" = "$(json "$json" pruned parameters)" ] || fail "the others"
exits 2 "$ESPALIER" compare "$work/damaged" -o "$work/nothing.csv"
not_there "$work/nothing.csv"
exits 0 "$ESPALIER" plan -q -f -c "$work/run.cfg" -s run_dir="$work/runs/quarter" -s seed=1 -s prune.ratio=0.3
exits 2 "$ESPALIER" compare "$work/runs/quarter"
grep -q 'quarter: has no results yet' "$work/err" || fail "results of an earlier plan"

finish
