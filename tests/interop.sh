#!/bin/sh
# Compares what the program writes and computes with transformers and PEFT. They come into
# a virtual environment below the build folder, or are those of ESPALIER_PYTHON.
: "${BUILD:=build}"
. jobs/mpi_env.sh
export TRANSFORMERS_VERBOSITY=error HF_HUB_DISABLE_PROGRESS_BARS=1 PYTHONWARNINGS=ignore
export PYTHONDONTWRITEBYTECODE=1
WINDOW=24 VOCAB=300 IDS=80
python=$ESPALIER_PYTHON
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM

if [ -z "$python" ]; then
    python=$BUILD/venv/bin/python
    if [ ! -f "$BUILD/venv/ready" ]; then
        python3 -m venv "$BUILD/venv" &&
            "$python" -m pip install -q torch transformers peft safetensors tokenizers \
                sentencepiece protobuf h5py && : > "$BUILD/venv/ready" || {
            echo "interop: no environment: set ESPALIER_PYTHON to a Python that has these" >&2
            exit 1
        }
    fi
fi

# Prune, recover and evaluate into $work/NAME/run.
run_model() { # name, model folder, settings...
    name=$1 model=$2
    shift 2
    mkdir -p "$work/$name"
    cat > "$work/$name/run.cfg" << END
model = "$model";
run_dir = "$work/$name/run";
prune: { criterion = "random"; ratio = 0.25; };
recover: { corpus = "$work/tokens.h5"; steps = 4; batch = 4; micro_batch = 2; warmup = 1;
           learning_rate = 1e-2; validation = 0; cutoff = $WINDOW; };
eval: { corpus = "$work/tokens.h5"; window = $WINDOW; };
END
    timeout 120 mpirun -n 2 "$BUILD/espalier" run -q -c "$work/$name/run.cfg" "$@" > /dev/null
}

make_run() { # name, settings of synth...
    name=$1
    shift
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

compare_run() { # name, model folder
    check "$1: models" "$python" tests/interop_logits.py compare "$2" "$work/$1/run" \
        "$work/tokens.h5" $WINDOW
    check "$1: adapter" "$python" tests/interop_peft.py "$work/$1/run/pruned" \
        "$work/$1/run/adapter" "$work/$1/run/recovered"
}

# A golden model; the settings keep to shapes that transformers can express.
golden_run() { # family, settings...
    family=$1
    shift
    check "run of $family" run_model "$family" "tests/golden/$family" "$@" &&
        compare_run "$family" "tests/golden/$family"
}

"$python" tests/interop_logits.py tokens "$work/tokens.h5" $IDS || exit 1
check "run of llama" make_run llama -s synth.dtype=BF16 -s synth.kv_heads=2 -s synth.tied=true
check "run of qwen2" make_run qwen2 -s synth.model_type=qwen2 -s synth.dtype=F32 -s synth.head_dim=8
check "run of mistral" make_run mistral -s synth.model_type=mistral -s synth.dtype=F16 \
    -s synth.kv_heads=4
for name in llama qwen2 mistral; do
    compare_run $name "$work/$name/model"
done
golden_run qwen3 -s prune.ratio=0.5
golden_run phi3 -s prune.ratio=0.5
golden_run gemma2 -s prune.ratio=0.5
golden_run opt -s prune.min_keep=4 # heads: transformers knows those that fill hidden_size alone
golden_run bloom -s prune.ratio=0  # and neither these nor another width of the MLP here
# As published folders are: bare names, other keys; a layer goes, which every class can express.
bare_run() { # family, settings...
    family=$1
    shift
    check "bare $family" "$python" tests/interop_logits.py bare "tests/golden/$family" \
        "$work/$family-bare" &&
        check "run of bare $family" run_model "bare-$family" "$work/$family-bare" "$@" &&
        compare_run "bare-$family" "$work/$family-bare"
}
bare_run bloom -s prune.mode=layer -s prune.ratio=0.5
bare_run opt -s prune.min_keep=4
check "tokenizers" "$python" tests/interop_tokenizers.py "$BUILD/espalier" "$work/tokenizers"
check "golden values" "$python" tests/interop_families.py check tests/golden
[ $failed -eq 0 ] && echo "interop: all the same"
exit $failed
