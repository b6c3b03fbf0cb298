#!/bin/sh
# cli_mix.sh: samples of several texts by weight, for score, compensation and recover: how many of each, the
# same on any number of ranks, recorded; and what is refused.
. "$(dirname "$0")/../support/lib.sh"

make_model "$work/model"
make_corpus "$work/web.jsonl" 90 1
make_corpus "$work/wiki.jsonl" 30 2
make_corpus "$work/valid.jsonl" 30 3
cat > "$work/run.cfg" << END
model = "$work/model";
calibration = { corpora = ["web:3=$work/web.jsonl", "wiki=$work/wiki.jsonl"]; samples = 10; sequence = 32; };
prune = { ratio = 0.5; compensate = "least_squares"; };
compensate = { samples = 64; sequence = 32; };
recover = { corpora = ["web:2=$work/web.jsonl", "wiki:1=$work/wiki.jsonl"]; cutoff = 64; steps = 4; batch = 8;
            validation = 8; };
eval = { corpus = "$work/valid.jsonl"; window = 64; };
END
run() { # code folder settings...
    code=$1 folder=$2
    shift 2
    on2 "$code" run -c "$work/run.cfg" -s run_dir="$work/$folder" "$@"
}
mixed() { # stage text samples: of the run "two"
    [ "$(json "$work/two/manifest.json" "$1" mix "$2")" = "$3" ] || fail "$1: not $3 samples of $2"
}

# ---- how many of each --------------------------------------------------------------------------------
run 0 two
grep -q 'calibration.corpora: samples: 8 of web, 2 of wiki' "$work/err" || fail "score: nothing is said"
grep -q 'calibration.corpora: samples: 48 of web, 16 of wiki' "$work/err" || fail "prune: nothing is said"
grep -q 'recover.corpora: samples: 61 of web, 30 of wiki' "$work/err" || fail "recover: nothing is said"
mixed score web 8
mixed score wiki 2
mixed prune wiki 16
mixed recover web 61
mixed recover wiki 30
exits 0 mpirun -n 1 "$ESPALIER" run -c "$work/run.cfg" -s run_dir="$work/one"
for stage in score prune recover; do
    [ "$(json "$work/one/manifest.json" $stage inputs samples)" = \
        "$(json "$work/two/manifest.json" $stage inputs samples)" ] || fail "$stage: other samples on 1 rank"
done
run 0 two
grep -q 'recover: done before' "$work/err" || fail "it was done again"

# A mix of one text is that text; a seed draws others.
run 0 single -s calibration.corpora="web=$work/web.jsonl" -s recover.corpora= -s prune.compensate=none
run 0 plain -s calibration.corpora= -s calibration.corpus="$work/web.jsonl" -s recover.corpora= -s prune.compensate=none
[ "$(json "$work/single/manifest.json" score inputs samples)" = \
    "$(json "$work/plain/manifest.json" score inputs samples)" ] || fail "a mix of one text is another text"
run 0 seed -s seed=43 -s prune.compensate=none
[ "$(json "$work/seed/manifest.json" recover inputs samples)" != \
    "$(json "$work/two/manifest.json" recover inputs samples)" ] || fail "another seed, the same samples"

# ---- refused -----------------------------------------------------------------------------------------
for entry in "web:0=$work/web.jsonl" "web:-1=$work/web.jsonl" "web:x=$work/web.jsonl" ":1=$work/web.jsonl" \
    "web:inf=$work/web.jsonl" "web:=$work/web.jsonl"; do
    run 2 refused -s recover.corpora="$entry"
    complains 'recover.corpora' 'NAME:WEIGHT=FILE'
done
run 2 refused -s recover.corpora="web:1=$work/web.jsonl,web:2=$work/wiki.jsonl"
complains 'recover.corpora' 'two texts are called web'
run 2 refused -s recover.corpus="$work/web.jsonl"
complains 'recover.corpus and recover.corpora are both set'
run 2 refused -s calibration.tokens="$work/ids"
complains 'calibration.tokens and calibration.corpora are both set'
run 2 refused -s compensate.corpora="web=$work/nowhere.jsonl"
complains 'compensate.corpora.web' 'nowhere.jsonl'
not_there "$work/refused"
run 2 two -s recover.corpora="web:1=$work/web.jsonl,wiki:1=$work/wiki.jsonl"
complains 'recover' 'recover.corpora'
finish
