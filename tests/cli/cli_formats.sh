#!/bin/sh
# cli_formats.sh: docs/formats.md names everything that files of runs hold, with its type, and nothing else.
. "$(dirname "$0")/../support/lib.sh"

# ---- what there is, as lines "name type" -----------------------------------------------------------------

# Leaves of a JSON value: /key/[]/key; numbers without a fraction are integers.
json_names() { # file
    awk '
    function skip() { sub(/^[ \t\r\n]+/, "", text) }
    function take(n,   s) { s = substr(text, 1, n); text = substr(text, n + 1); skip(); return s }
    function quoted() { match(text, /^"([^"\\]|\\.)*"/); return RLENGTH }
    function value(path,   open, key) {
        if (text ~ /^[[{]/) {
            open = take(1)
            while (text != "" && text !~ /^[]}]/) {
                key = "[]"
                if (open == "{") { key = take(quoted()); gsub(/"/, "", key); take(1) }
                value(path "/" key)
                if (text ~ /^,/) take(1)
            }
            take(1)
        } else if (text ~ /^"/) {
            take(quoted()); print path, "string"
        } else {
            match(text, /^[^],} \t\r\n]+/); key = take(RLENGTH)
            print path, key == "null" ? "null" : key ~ /^[tf]/ ? "boolean" : key ~ /[.eE]/ ? "number" : "integer"
        }
    }
    { text = text $0 "\n" }
    END { skip(); value("") }' "$1" | sort -u
}

# Of a file of events: /<event>/key.
event_names() { # file
    while read -r line; do
        event=${line#*'"event":"'}
        echo "{\"${event%%\"*}\": $line}" > "$work/event"
        json_names "$work/event"
    done < "$1" | sort -u
}

# Datasets and attributes (/@name) of an HDF5 file.
h5_names() { # file
    h5dump -H "$1" | awk '
    /DATATYPE/ && !/\{$/ { print path[depth], $2 }
    /DATATYPE.*\{$/ { print path[depth], $2 }
    /^ *}/ { depth--; next }
    /\{$/ {
        name = $0; sub(/^[^"]*"/, "", name); sub(/".*/, "", name)
        path[depth + 1] = path[depth]; depth++
        if ($1 == "ATTRIBUTE") path[depth] = path[depth] "/@" name
        if ($1 == "DATASET" || ($1 == "GROUP" && name != "/")) path[depth] = path[depth] "/" name
    }' | sed 's/H5T_IEEE_F64LE/f64/; s/H5T_IEEE_F32LE/f32/; s/H5T_STD_I64LE/i64/; s/H5T_STD_I32LE/i32/; s/H5T_STRING/string/'
}

# ---- what is written of it --------------------------------------------------------------------------------

section() { # title
    awk -v title="## $1" '/^## / { on = $0 == title } on' docs/formats.md
}

# Every name found is documented with its type, every documented one was found; those of bf16 need its processor.
agrees() { # title of the section; what was found is in $names
    sort -u "$names" > "$work/found"
    [ -s "$work/found" ] || fail "$1: there is nothing to compare"
    section "$1" | awk -F ' *[|] *' -v title="$1" '
    FNR == NR && /^[|] `\// {
        name[++n] = $2; type[n] = " " $3 " "; bf16[n] = $4 ~ /bf16:|^bf16/
        gsub(/`/, "", name[n]); gsub(/,/, "", type[n])
        pattern[n] = name[n]
        gsub(/\[\]/, "[[][]]", pattern[n]); gsub(/<file>/, ".+", pattern[n]); gsub(/<[a-z]+>/, "[^/]+", pattern[n])
    }
    FNR == NR { next }
    {
        split($0, part, " "); good = 0
        for (i = 1; i <= n; i++)
            if (part[1] ~ ("^" pattern[i] "$") &&
                (index(type[i], " " part[2] " ") || (part[2] == "integer" && index(type[i], " number ")))) {
                good = 1; seen[i] = 1
            }
        if (!good) print title ": not documented: " $0
    }
    END { for (i = 1; i <= n; i++) if (!seen[i] && !bf16[i]) print title ": documented, but nowhere: " name[i] }
    ' - "$work/found" > "$work/differs"
    while read -r line; do fail "$line"; done < "$work/differs"
}

# ---- runs that leave all of it ------------------------------------------------------------------------------

make_model "$work/model"
make_model "$work/shared-keys" -s synth.kv_heads=2
make_corpus "$work/text.jsonl" 60 1
cat > "$work/run.cfg" << END
model = "$work/model";
calibration = { corpus = "$work/text.jsonl"; samples = 4; sequence = 32; };
recover = { corpus = "$work/text.jsonl"; steps = 4; batch = 8; cutoff = 64; warmup = 1; validate_every = 2; };
eval = { corpus = "$work/text.jsonl"; window = 64; samples = 8; tasks = "lilies:question=$work/questions.jsonl";
    corpora = "again:32=$work/text.jsonl"; };
END
printf '%s\n' '{"query": "A lily is", "choices": ["a flower", "a fish"], "gold": 0}' \
    '{"query": "It grows", "choices": ["in a pond", "in a stove"], "gold": 0}' > "$work/questions.jsonl"
run() { # code folder command settings...
    code=$1 folder=$2 command=$3
    shift 3
    on2 "$code" "$command" -c "$work/run.cfg" -s run_dir="$work/$folder" "$@"
}

run 0 whole run -s importance.criteria=vector,element1,element2,mix,l1,l2,gate1,gate2,kfac,wanda_sp,flap,random -s prune.steps=2 \
    -s importance.aggregations=sum,prod,max,last -s prune.target.parameters=0.8 -s prune.scope=global \
    -s prune.compensate=least_squares -s compensate.samples=24 -s compensate.sequence=32 \
    -s compensate.corpora="a=$work/text.jsonl,b:2=$work/text.jsonl"
run 0 ratio score
run 0 ratio plan -s prune.ratio=0.5 -s prune.attention_layers=0 -s prune.mlp_layers=1-2
run 0 ratio prune -s prune.ratio=0.5 -s prune.attention_layers=0 -s prune.mlp_layers=1-2
for stage in score plan; do
    run 0 queries $stage -s model="$work/shared-keys" -s prune.ratio=0.25 -s prune.attention=queries \
        -s prune.attention_ratio=0.5
done
run 0 chosen plan -s prune.select=reconstruction -s prune.ratio=0.5 -s compensate.samples=24 \
    -s compensate.sequence=32
run 1 wild recover -s recover.learning_rate=1e38 -s recover.steps=8 -s recover.save_every=2

mpirun -n 2 "$ESPALIER" recover -c "$work/run.cfg" -s run_dir="$work/stopped" -s recover.steps=100000 \
    > "$work/out" 2> "$work/err" < /dev/null &
pid=$!
tries=0
until grep -q '"event":"step"' "$work/stopped/events.jsonl" 2> /dev/null || [ $tries -eq 3000 ]; do
    sleep 0.02
    tries=$((tries + 1))
done
kill -TERM "$pid"
wait "$pid"
exits 0 "$ESPALIER" tokenize -c "$work/run.cfg" -s run_dir="$work/whole" -s tokenize.corpus="$work/text.jsonl"
exits 0 "$ESPALIER" estimate -c "$work/run.cfg" -s run_dir="$work/whole" -s estimate.output="$work/estimate.json"

names=$work/names
h5_names "$work/whole/importance.h5" > "$names"
agrees importance.h5
for plan in whole/plan.json whole/steps/1.json ratio/plan.json queries/plan.json chosen/plan.json; do
    json_names "$work/$plan"
done > "$names"
agrees plan.json
json_names "$work/whole/manifest.json" > "$names"
agrees manifest.json
for run in whole chosen wild stopped; do event_names "$work/$run/events.jsonl"; done > "$names"
agrees events.jsonl
json_names "$work/whole/eval.json" > "$names"
agrees eval.json
while read -r line; do
    echo "$line" > "$work/line"
    json_names "$work/line"
done < "$work/whole/eval_questions.jsonl" > "$names"
agrees eval_questions.jsonl
json_names "$work/ratio/pruned/config.json" | grep '^/espalier/' > "$names"
agrees 'Model folders'
json_names "$work/whole/adapter/adapter_config.json" > "$names"
agrees Adapter
h5_names "$work/whole/recover/step-000004.h5" > "$names"
agrees Checkpoint
h5_names "$work/whole/tokens.h5" > "$names"
agrees 'Token file'
json_names "$work/estimate.json" > "$names"
agrees Estimate

section 'The run folder' > "$work/folder"
for path in "$work/whole"/* "$work/whole"/.[!.]*; do
    name=${path##*/}
    grep -q -F -e "\`$name" -e "\`$name/" "$work/folder" || fail "the run folder: $name is not documented"
done

finish
