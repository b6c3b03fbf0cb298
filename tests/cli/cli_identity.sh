#!/bin/sh
# cli_identity.sh: nothing of the user's is lost, and no stage takes what is not what was recorded.
# shellcheck disable=SC2046,SC2086 # functions and variables that are arguments, word by word
. "$(dirname "$0")/../support/lib.sh"

make_model "$work/model"
make_model "$work/other" -s seed=3
make_corpus "$work/text.jsonl" 60 1
cat > "$work/run.cfg" << END
model = "$work/model";
calibration = { corpus = "$work/text.jsonl"; samples = 2; sequence = 16; };
prune = { ratio = 0.5; };
recover = { corpus = "$work/text.jsonl"; cutoff = 16; batch = 4; steps = 2; warmup = 1; validation = 2; };
eval = { corpus = "$work/text.jsonl"; window = 16; samples = 4; };
END

stage() { # name run_dir setting...
    name=$1 dir=$2
    shift 2
    echo "$name -q -c $work/run.cfg -s run_dir=$dir $*"
}

# All files below a folder with their content, but for the log of events and the lock.
state() {
    (cd "$1" && find . -type f ! -name events.jsonl ! -name '.lock*' -exec cksum {} + | sort -k 3)
}

refused_untouched() { # folder command...: exit 2, one line, and the folder is as it was
    kept=$1
    shift
    state "$kept" > "$work/before"
    exits 2 "$ESPALIER" "$@"
    state "$kept" > "$work/after"
    cmp -s "$work/before" "$work/after" || fail "$kept was changed by: $*"
}

damage() { # kind file
    size=$(wc -c < "$2")
    case $1 in
    bit)
        at=$((size * 2 / 3))
        byte=$(od -An -tu1 -j $at -N 1 "$2")
        # shellcheck disable=SC2059
        printf "\\$(printf %o $((byte ^ 4)))" | dd of="$2" bs=1 seek=$at conv=notrunc 2> /dev/null
        ;;
    zeros) dd if=/dev/zero of="$2" bs=1 seek=$((size / 3)) count=$((size / 8 + 1)) conv=notrunc 2> /dev/null ;;
    short) truncate -s $((size / 2)) "$2" ;;
    empty) : > "$2" ;;
    esac
}

# ---- files of the user ----------------------------------------------------------------------------------
mkdir -p "$work/mine/deep"
echo precious > "$work/mine/deep/file"
refused_untouched "$work/mine" synth -s synth.output="$work/mine"
complains "$work/mine" 'is there already'
refused_untouched "$work/mine" synth -f -s synth.output="$work/mine"
complains "$work/mine" 'did not make'
refused_untouched "$work/mine" synth -s synth.kind=corpus -s synth.output="$work/mine/deep/file"
complains "$work/mine/deep/file" 'is there already'
refused_untouched "$work/mine" tokenize -s model="$work/model" -s tokenize.corpus="$work/text.jsonl" \
    -s tokenize.output="$work/mine/deep/file"
complains "$work/mine/deep/file" 'is there already'
refused_untouched "$work/mine" synth -s synth.kind=corpus -f -s synth.output="$work/mine/deep"
cp -r "$work/model" "$work/again"
rm "$work/again/tokenizer.json"
refused_untouched "$work/again" synth -s synth.output="$work/again"
complains 'is there already'
exits 0 "$ESPALIER" synth -q -f -s synth.output="$work/again"
exits 0 "$ESPALIER" synth -q -s synth.kind=corpus -s synth.stories=2 -s synth.output="$work/corpus.txt"
exits 2 "$ESPALIER" synth -q -s synth.kind=corpus -s synth.stories=2 -s synth.output="$work/corpus.txt"
exits 0 "$ESPALIER" synth -q -f -s synth.kind=corpus -s synth.stories=2 -s synth.output="$work/corpus.txt"

for name in pruned adapter recovered recover steps; do # folders of the user's own in the run directory
    mkdir -p "$work/used/$name"
    echo precious > "$work/used/$name/notes"
    refused_untouched "$work/used" $(stage run "$work/used")
    complains "$work/used/$name"
    refused_untouched "$work/used" $(stage run "$work/used") -f
    rm -r "$work/used"
done
for name in importance.h5 plan.json eval.json config.used events.jsonl; do # ... and files
    mkdir -p "$work/used"
    echo precious > "$work/used/$name"
    exits 2 "$ESPALIER" $(stage run "$work/used")
    complains "$work/used/$name"
    exits 2 "$ESPALIER" $(stage run "$work/used") -f
    [ "$(cat "$work/used/$name")" = precious ] || fail "$name was lost"
    rm -r "$work/used"
done
for name in pruned.old pruned.part; do # names that earlier versions took for their own
    mkdir -p "$work/used/$name"
    echo precious > "$work/used/$name/notes"
done
exits 0 "$ESPALIER" $(stage run "$work/used")
there "$work/used/pruned.old/notes" "$work/used/pruned.part/notes"

# A result is no model of its own run, and the model folder no place for a run.
refused_untouched "$work/used" $(stage run "$work/used") -f -s model="$work/used/recovered"
complains 'recovered of run_dir'
refused_untouched "$work/used" $(stage run "$work/used") -f -s model="$work/used/../used//pruned/"
refused_untouched "$work/model" $(stage run "$work/model")
complains 'is in the model folder'
refused_untouched "$work/model" $(stage run "$work/model/below/run")
not_there "$work/model/below"

# -f replaces files of one kind that the program made: never what is read, of a model, or of a run.
kept() { # FILE ARGUMENT...: with -f, for an output that is FILE
    name=$1
    shift
    refused_untouched "$work/kept" "$@" -f
    complains "$name" 'is there already' 'but'
}
mkdir "$work/kept"
cp -r "$work/model" "$work/used" "$work/kept"
cp "$work/text.jsonl" "$work/kept/text.jsonl"
echo "model = \"$work/kept/model\";" > "$work/kept/run.cfg"
for name in text.jsonl model/model.safetensors used/plan.json used/importance.h5 used/pruned/model.safetensors; do
    output=$work/kept/$name
    kept "$output" tokenize -s model="$work/kept/model" -s tokenize.corpus="$work/kept/text.jsonl" \
        -s tokenize.output="$output"
done
for name in run.cfg model/config.json used/plan.json used/manifest.json; do
    kept "$work/kept/$name" estimate -c "$work/kept/run.cfg" -s estimate.output="$work/kept/$name"
done
kept "$work/kept/text.jsonl" synth -s synth.kind=corpus -s synth.output="$work/kept/text.jsonl"
echo mine > "$work/kept/model/tokenizer.model"
kept "$work/kept/model/tokenizer.model" synth -s synth.kind=tokenizer -s synth.corpus="$work/kept/text.jsonl" \
    -s synth.vocab=300 -s synth.output="$work/kept/model"
for kind in model tokenizer; do
    refused_untouched "$work/kept" synth -f -s synth.kind=$kind -s synth.corpus="$work/kept/text.jsonl" \
        -s synth.output="$work/kept/used/pruned"
    complains synth.output "$work/kept/used/pruned" 'run'
done
rm "$work/kept/model/tokenizer.model"
for again in '' -f; do # what it made it does replace
    # shellcheck disable=SC2086
    exits 0 "$ESPALIER" tokenize $again -s model="$work/kept/model" -s tokenize.corpus="$work/kept/text.jsonl" \
        -s tokenize.output="$work/kept/text.h5"
    # shellcheck disable=SC2086
    exits 0 "$ESPALIER" estimate $again -c "$work/kept/run.cfg" -s estimate.output="$work/kept/e.json"
    # shellcheck disable=SC2086
    exits 0 "$ESPALIER" synth $again -s synth.kind=tokenizer -s synth.corpus="$work/text.jsonl" -s synth.vocab=300 \
        -s synth.output="$work/kept/tokenizer"
done

# What came into a result since keeps that result.
for notes in pruned/notes pruned/model-mine.safetensors recover/step-000002-mine.h5; do
    echo precious > "$work/used/$notes"
    exits 0 "$ESPALIER" $(stage run "$work/used")
    refused_untouched "$work/used" $(stage run "$work/used") -f -s prune.ratio=0.25
    complains "$notes"
    rm "$work/used/$notes"
done

# ---- other weights, in a stage alone ---------------------------------------------------------------------
exits 0 "$ESPALIER" $(stage score "$work/chain")
exits 0 "$ESPALIER" $(stage plan "$work/chain")
refused_untouched "$work/chain" $(stage recover "$work/chain")
complains 'needs pruned' 'espalier prune'
for name in plan prune eval; do
    refused_untouched "$work/chain" $(stage $name "$work/chain") -s model="$work/other"
    complains 'was done with another content of model'
done
exits 0 "$ESPALIER" $(stage prune "$work/chain")
exits 0 "$ESPALIER" $(stage recover "$work/chain")
exits 0 "$ESPALIER" $(stage eval "$work/chain")
refused_untouched "$work/chain" $(stage recover "$work/chain") -s model="$work/other"
complains 'was done with another content of model'

# Another tokenizer is other text; the same text is the same at another place.
cp "$work/model/tokenizer.json" "$work/good"
sed -i 's/"<0x74>": 119/"<0x74>": 120/; s/"<0x75>": 120/"<0x75>": 119/' "$work/model/tokenizer.json"
for name in prune recover eval run; do
    refused_untouched "$work/chain" $(stage $name "$work/chain")
    complains 'another content of tokenizer'
done
exits 0 "$ESPALIER" tokenize -q -s model="$work/model" -s tokenize.corpus="$work/text.jsonl" \
    -s tokenize.output="$work/text.h5"
cp "$work/good" "$work/model/tokenizer.json"
exits 2 "$ESPALIER" $(stage score "$work/tokens") -s calibration.corpus="$work/text.h5"
complains 'text.h5' 'another tokenizer'
cp "$work/text.jsonl" "$work/copy.jsonl"
exits 0 "$ESPALIER" $(stage run "$work/chain") -s calibration.corpus="$work/copy.jsonl" \
    -s recover.corpus="$work/./text.jsonl"

# Of what is missing, an evaluation alone is refused; a run makes it again.
mv "$work/chain/pruned" "$work/chain/adapter" "$work/mine/deep"
refused_untouched "$work/chain" $(stage eval "$work/chain")
complains 'needs pruned'
exits 0 "$ESPALIER" $(stage run "$work/chain")
cmp "$work/mine/deep/pruned/model.safetensors" "$work/chain/pruned/model.safetensors" || fail "another cut"
cmp "$work/mine/deep/adapter/adapter_model.safetensors" "$work/chain/adapter/adapter_model.safetensors" ||
    fail "another adapter"

# A file that is missing in a result is named as one that was changed is, and -f makes it anew.
for file in pruned/model.safetensors pruned/config.json recovered/model.safetensors; do
    mv "$work/chain/$file" "$work/away"
    refused_untouched "$work/chain" $(stage eval "$work/chain")
    complains "chain/$file" 'missing' 'put that back, or espalier' '-f to make it'
    mv "$work/away" "$work/chain/$file"
done
cp -r "$work/chain" "$work/lacking"
rm "$work/lacking/pruned/config.json"
exits 0 "$ESPALIER" $(stage prune "$work/lacking") -f
cmp "$work/chain/pruned/config.json" "$work/lacking/pruned/config.json" || fail "another config.json"

# A result that came from elsewhere is nobody's here.
mkdir -p "$work/brought"
cp -r "$work/chain/recovered" "$work/brought/recovered"
refused_untouched "$work/brought" $(stage run "$work/brought")
complains 'brought/recovered'

# Ranks with other bytes: a copy on the second "node" has another bit; with the same bytes it is the same model.
mkdir -p "$work/a" "$work/b"
cp -r "$work/model" "$work/a/model"
cp -r "$work/model" "$work/b/model"
apart() { # run_dir: a rank in each of the two folders
    set -- $(stage score "$1") -s model=model
    echo "-n 1 -wdir $work/a $ESPALIER $* : -n 1 -wdir $work/b $ESPALIER $*"
}
exits 0 mpirun $(apart "$work/apart")
there "$work/apart/importance.h5"
damage bit "$work/b/model/model.safetensors"
exits 2 mpirun $(apart "$work/stale")
complains 'rank 0' 'rank 1' 'model.'
not_there "$work/stale/importance.h5"
cp "$work/model/model.safetensors" "$work/b/model/"
sed -i 's/"rms_norm_eps": [^,]*/"rms_norm_eps": 0.5/' "$work/b/model/config.json"
exits 2 mpirun $(apart "$work/stale")
complains 'rank 0' 'rank 1' 'config.json'
cp "$work/model/config.json" "$work/b/model/"
sed -i 's/"<0x41>": 68/"<0x41>": 69/; s/"<0x42>": 69/"<0x42>": 68/; s/"<0x74>": 119/"<0x74>": 120/; s/"<0x75>": 120/"<0x75>": 119/' "$work/b/model/tokenizer.json"
exits 2 mpirun $(apart "$work/stale")
complains 'rank 0' 'rank 1' 'tokenizer'

# ---- damage -----------------------------------------------------------------------------------------------
# Every file that a stage reads: a bit, a block, an end, everything gone. Noticed by the stage that reads it
# and by a repeated run, which name it and change nothing; put back, all is as before.
tried=0
check_damage() { # file stage...: refused by run and by these stages
    file=$1
    shift
    cp "$work/used/$file" "$work/good"
    for kind in bit zeros short empty; do
        damage $kind "$work/used/$file"
        cmp -s "$work/good" "$work/used/$file" && continue
        for reader in run "$@"; do
            refused_untouched "$work/used" $(stage $reader "$work/used")
            complains "${file%%.*}"
            tried=$((tried + 1))
        done
        cp "$work/good" "$work/used/$file"
    done
}

check_damage manifest.json score plan prune recover eval
check_damage importance.h5 plan
check_damage plan.json prune
for name in config.json model.safetensors tokenizer.json; do
    check_damage pruned/$name eval
    check_damage recovered/$name
done
check_damage adapter/adapter_model.safetensors
check_damage adapter/adapter_config.json
check_damage eval.json
exits 0 "$ESPALIER" $(stage run "$work/used")
echo "$tried damaged files were refused"

# With -f what is damaged is made again, the same.
cp "$work/used/pruned/model.safetensors" "$work/good"
damage bit "$work/used/pruned/model.safetensors"
exits 0 "$ESPALIER" $(stage prune "$work/used") -f
cmp "$work/good" "$work/used/pruned/model.safetensors" || fail "another pruned model"

finish
