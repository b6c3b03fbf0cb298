#!/bin/sh
# Compares what the program writes and computes with transformers and PEFT. They come into
# a virtual environment below the build folder, or are those of ESPALIER_PYTHON.
: "${BUILD:=build}"
. jobs/mpi_env.sh
export TRANSFORMERS_VERBOSITY=error HF_HUB_DISABLE_PROGRESS_BARS=1 PYTHONWARNINGS=ignore
WINDOW=32 VOCAB=300
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

# A model of a family goes through a whole run; $work/NAME then holds model/ and run/.
make_run() { # name, settings of synth...
    name=$1
    shift
    mkdir -p "$work/$name"
    cat > "$work/$name/run.cfg" << END
model = "$work/$name/model";
run_dir = "$work/$name/run";
prune: { criterion = "random"; ratio = 0.25; };
recover: { corpus = "$work/tokens.h5"; steps = 4; batch = 4; micro_batch = 2; warmup = 1;
           learning_rate = 1e-2; validation = 0; cutoff = 32; };
eval: { corpus = "$work/tokens.h5"; window = $WINDOW; };
END
    "$BUILD/espalier" synth -q -s synth.output="$work/$name/model" -s synth.vocab=$VOCAB \
        -s synth.std=0.08 "$@" &&
        timeout 120 mpirun -n 2 "$BUILD/espalier" run -q -c "$work/$name/run.cfg" > /dev/null
}

failed=0
check() { # what command...
    echo "-- $1"
    shift
    "$@" || failed=1
}

compare_run() { # name
    check "$1: models" "$python" tests/interop_logits.py compare "$work/$1/model" "$work/$1/run" \
        "$work/tokens.h5" $WINDOW
    check "$1: adapter" "$python" tests/interop_peft.py "$work/$1/run/pruned" \
        "$work/$1/run/adapter" "$work/$1/run/recovered"
}

"$python" tests/interop_logits.py tokens "$work/tokens.h5" $VOCAB || exit 1
check "run of llama" make_run llama -s synth.dtype=BF16 -s synth.kv_heads=2 -s synth.tied=true
check "run of qwen2" make_run qwen2 -s synth.model_type=qwen2 -s synth.dtype=F32 -s synth.head_dim=8
check "run of mistral" make_run mistral -s synth.model_type=mistral -s synth.dtype=F16 \
    -s synth.kv_heads=4
for name in llama qwen2 mistral; do
    compare_run $name
done
check "tokenizers" "$python" tests/interop_tokenizers.py "$BUILD/espalier" "$work/tokenizers"
[ $failed -eq 0 ] && echo "interop: all the same"
exit $failed
