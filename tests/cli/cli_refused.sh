#!/bin/sh
# cli_refused.sh: what is refused: exit 2, one line that names file and reason, nothing written, on 2 ranks.
. "$(dirname "$0")/../support/lib.sh"

make_model "$work/good"
make_corpus "$work/corpus.jsonl" 20 1
ids="1 5 6 7 8 9 10 11"
echo "$ids" > "$work/ids"

# refused WORD... -- ARGUMENT...: words of the message, then the command line
refused() {
    words=
    while [ "$1" != -- ]; do
        words="$words $1"
        shift
    done
    shift
    on2 2 "$@" -s run_dir="$work/run"
    # shellcheck disable=SC2086
    complains $words
    not_there "$work/run"
}

# refused1: the same on one process
refused1() {
    words=
    while [ "$1" != -- ]; do
        words="$words $1"
        shift
    done
    shift
    exits 2 "$ESPALIER" "$@" -s run_dir="$work/run"
    # shellcheck disable=SC2086
    complains $words
    not_there "$work/run"
}

# ---- command line and settings -------------------------------------------------------------------------
exits 2 mpirun -n 2 "$ESPALIER" frobnicate
complains frobnicate command
refused 'frobnicate' command -- frobnicate
refused '--frob' option -- score --frob
refused 'FILE' -- config
refused 'rnu' 'mean' 'run?' -- rnu
refused1 '--confg' 'mean' '--config?' -- score --confg x
refused1 '-s prune.ratio=0.2' -- score --ratio=0.2
refused1 "-s @$work/b.cfg" -- run -c "$work/a.cfg" -c "$work/b.cfg"
refused1 'frob' 'command' -- frob --help
echo 'model = "x";' > "$work/my.cfg"
refused "-c $work/my.cfg" -- run "$work/my.cfg"
refused1 "-c $work/my.cfg" -- "$work/my.cfg"
refused1 '-s prune.ratio=0.2' -- run prune.ratio=0.2
refused1 'path=value' 'prune.ratio=0.2' -- run -s prune.ratio 0.2
refused1 'prune.ratio' '0.2' 'written' -- run -s prune.ratio=20%
refused1 'element1' 'param_first' -- run -s prune.criterion=taylor
refused '$NOWHERE_SET' 'model' -- run -s 'model=$NOWHERE_SET/x'
refused1 'prune.ratio' 'prune.target' -- run -s prune.ratio=0.25 -s prune.target.macs=0.5
refused1 'prune.criterion = gate1' 'prune.mode = channel' -- run -s prune.criterion=gate1 -s prune.mode=channel
printf '{"prune": {"ratio": 0.5}}' > "$work/run.json"
refused "$work/run.json:1" 'JSON' 'libconfig' -- run -c "$work/run.json"
printf 'prune:\n  ratio: 0.5\n' > "$work/run.yaml"
refused1 "$work/run.yaml" 'YAML' 'libconfig' -- run -c "$work/run.yaml"
refused 'prune.rato' 'prune.ratio' -- score -s prune.rato=0.5
refused 'model' 'not' 'set' -- score
printf 'model = "x";\nprune = {\n    criteria = "l1";\n};\n' > "$work/bad.cfg"
refused "$work/bad.cfg:3" 'prune.criteria' 'importance.criteria' -- score -c "$work/bad.cfg"
printf 'prune = { ratio = 7; };\n' > "$work/bad.cfg"
refused "$work/bad.cfg:1" 'prune.ratio' '7' '0' '1' -- score -c "$work/bad.cfg"
printf 'prune = { ratio = 0.5; target = { macs = 0.5; }; };\n' > "$work/bad.cfg"
refused "$work/bad.cfg" 'prune.ratio' 'prune.target' -- score -c "$work/bad.cfg"
printf 'prune = { ratio = ; };\n' > "$work/bad.cfg"
refused "$work/bad.cfg:1" 'syntax' -- score -c "$work/bad.cfg"
ln -s round "$work/round"
refused calibration.corpus "$work/round" -- score -s model="$work/good" -s calibration.corpus="$work/round"
cp -r "$work/good" "$work/other"
for dir in "$work/other" "$work/other/sub/run" "$work/good/../other/run"; do
    exits 2 "$ESPALIER" score -s model="$work/good" -s calibration.corpus="$work/corpus.jsonl" -s run_dir="$dir"
    complains run_dir "$dir" "is in" "use another run_dir"
    not_there "$work/other/sub" "$work/other/run" "$work/other/config.used"
done
refused "$work/none.cfg" -- score -c "$work/none.cfg"
refused 'parallel.scratch' "$work/nowhere" -- score -s model="$work/good" -s calibration.tokens="$work/ids" \
    -s parallel.scratch="$work/nowhere"
DNNL_MAX_CPU_ISA=AVX2 # of oneDNN: as if the processor had no more
export DNNL_MAX_CPU_ISA
for stage in score recover eval run; do
    refused 'precision' 'bf16' 'f32' -- $stage -s model="$work/good" -s precision=bf16
done
unset DNNL_MAX_CPU_ISA
refused 'parallel.pipeline' -- score -s parallel.pipeline=3
exits 2 "$ESPALIER" config --check "$work/bad.cfg"
complains "$work/bad.cfg:1"

# ---- models --------------------------------------------------------------------------------------------
score="-s calibration.tokens=$work/ids"

# spoil FOLDER: a copy of the good model in $work/FOLDER to be damaged
spoil() {
    model=$work/$1
    cp -r "$work/good" "$model"
    weights=$model/model.safetensors
}

# edit EXPRESSION: on the header of the weights, the same length before and after
edit() {
    LC_ALL=C sed -i "$1" "$weights"
    [ "$(stat -c %s "$weights")" -eq "$(stat -c %s "$work/good/model.safetensors")" ] ||
        fail "the edit $1 changed the size"
    ! cmp -s "$weights" "$work/good/model.safetensors" || fail "the edit $1 changed nothing"
}

config() { # EXPRESSION
    sed -i "$1" "$model/config.json"
    ! cmp -s "$model/config.json" "$work/good/config.json" || fail "the edit $1 changed nothing"
}

model_refused() { # WORD...
    # shellcheck disable=SC2086
    refused "$@" -- score -s model="$model" $score
}

model=$work/nowhere
model_refused "$model"

spoil truncated
head -c 30000 "$work/good/model.safetensors" > "$weights"
model_refused "$weights"

spoil short
head -c 5 "$work/good/model.safetensors" > "$weights"
model_refused "$weights"

spoil oversized
printf '\377\377\377\377\377\377\377\177' | dd of="$weights" conv=notrunc bs=8 count=1 2> /dev/null
model_refused "$weights" header

spoil overlapping
edit 's/"data_offsets":\[33152,/"data_offsets":[33148,/'
model_refused "$weights" input_layernorm

spoil outside
edit 's/"data_offsets":\[0,33152\]/"data_offsets":[0,99152]/'
model_refused "$weights" embed_tokens

spoil missing
edit 's/"model.norm.weight"/"model.nerm.weight"/'
model_refused "$model" model.norm.weight

spoil shape
config 's/"intermediate_size": 48/"intermediate_size": 40/'
model_refused "$weights" gate_proj 48 40

spoil dtype
edit 's/{"dtype":"F32","shape":\[259,32\]/{"dtype":"I32","shape":[259,32]/'
model_refused "$weights" embed_tokens I32

spoil unsupported
config 's/"model_type": "llama"/"model_type": "mamba"/'
model_refused "$model/config.json" mamba

spoil heads
config 's/"num_key_value_heads": 4/"num_key_value_heads": 3/'
model_refused "$model/config.json" num_key_value_heads

spoil json
config 's/{/[/'
model_refused "$model/config.json"

# ---- text ----------------------------------------------------------------------------------------------
text_refused() { # WORD... -- SETTING...
    refused "$@" -s model="$work/good"
}

text_refused 'calibration.corpus' 'calibration.tokens' -- score
text_refused "$work/none.txt" -- score -s calibration.corpus="$work/none.txt"
: > "$work/empty.txt"
text_refused "$work/empty.txt" -- score -s calibration.corpus="$work/empty.txt"
printf '{"text": "a"}\n{"text": \n' > "$work/broken.jsonl"
text_refused "$work/broken.jsonl" 2 -- score -s calibration.corpus="$work/broken.jsonl"
text_refused 500 128 -- score -s calibration.corpus="$work/corpus.jsonl" \
    -s calibration.sequence=500
printf '%s\n1 2 300\n' "$ids" > "$work/beyond"
text_refused "$work/beyond" 2 300 259 -- score -s calibration.tokens="$work/beyond"
printf '1 x 3\n' > "$work/letters"
text_refused "$work/letters" x -- score -s calibration.tokens="$work/letters"
awk 'BEGIN { for (i = 0; i < 200; i++) printf "5 "; print "" }' > "$work/long"
text_refused "$work/long" 200 128 -- score -s calibration.tokens="$work/long"

# ---- settings against the model and the texts, before anything is read or written ------------------------
early() { # WORD... -- SETTING...: of a whole run
    words=
    while [ "$1" != -- ]; do
        words="$words $1"
        shift
    done
    shift
    # shellcheck disable=SC2086
    refused1 $words -- run -s model="$work/good" -s calibration.corpus="$work/corpus.jsonl" \
        -s calibration.sequence=16 -s recover.corpus="$work/corpus.jsonl" -s recover.cutoff=64 \
        -s eval.corpus="$work/corpus.jsonl" -s eval.window=64 "$@"
}
early 'prune.ratio' '0.01' 'nothing' '0.020834' -- -s prune.ratio=0.01
early 'prune.target' 'cannot' 'least' -- -s prune.target.parameters=0.001
early 'prune.target' '42912' 'dense' -- -s prune.target.parameters=1e9
early 'prune.attention_layers' '0-9' '0-2' -- -s prune.attention_layers=0-9
early 'min_keep' 'nothing' -- -s prune.min_keep=100
early 'round_to' 'nothing' -- -s prune.round_to=4096
early 'calibration.sequence' '500' '128' -- -s calibration.sequence=500
early 'recover.cutoff' '200' '128' -- -s recover.cutoff=200
early 'eval.window' '300' '128' -- -s eval.window=300
early 'recover.targets' 'foo' 'q_proj' -- -s recover.targets=foo
early 'recover.validation' '20' -- -s recover.validation=20
early 'recover.corpus' "$work/none" -- -s recover.corpus="$work/none"
early 'eval.corpus' "$work" 'folder' -- -s eval.corpus="$work"
mkfifo "$work/pipe"
early 'calibration.corpus' 'pipe' -- -s calibration.corpus="$work/pipe"
gzip -c "$work/corpus.jsonl" > "$work/corpus.gz"
early "$work/corpus.gz" 'gzip' '-d' -- -s eval.corpus="$work/corpus.gz"
printf '{"text": "caf\351"}\n' > "$work/latin.jsonl"
early "$work/latin.jsonl" 'line' '1,' 'offset' '13' 'UTF-8' -- -s recover.corpus="$work/latin.jsonl"
refused 'hf' 'download' 'owner/name' '--local-dir' -- run -s model=owner/name

# A wrong path of a later stage is told before the first begins.
# shellcheck disable=SC2086
refused "$work/none.jsonl" -- run -s model="$work/good" $score -s recover.corpus="$work/none.jsonl"

rm "$work/good/tokenizer.json"
text_refused "$work/good" tokenizer -- score -s calibration.corpus="$work/corpus.jsonl"

# ---- order of stages, and what cannot be written --------------------------------------------------------
refused 'importance.h5' 'espalier' 'score' -- plan -s model="$work/good"
refused 'plan.json' 'espalier' 'plan' -- prune -s model="$work/good"
: > "$work/file"
# shellcheck disable=SC2086
on2 2 score -s model="$work/good" $score -s run_dir="$work/file/run"
complains 'run_dir' "$work/file/run"
# shellcheck disable=SC2086
exits 2 "$ESPALIER" score -s model="$work/good" $score -s run_dir="$work/file"
complains 'run_dir' "$work/file"

finish
