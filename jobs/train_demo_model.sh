#!/bin/sh
# Makes the model of the demo again, in build/demo_training/run/recovered: corpus, tokenizer, random
# weights, training of all parameters. About ten minutes on two cores; RANKS and STEPS may be set.
set -eu
cd "$(dirname "$0")/.."
. jobs/mpi_env.sh
: "${BUILD:=build}" "${RANKS:=2}" "${STEPS:=3000}"
espalier=$BUILD/espalier
config=configs/demo/training.cfg
work=$BUILD/demo_training
mkdir -p "$work"

"$espalier" synth -f -c $config -s synth.kind=corpus -s synth.output="$work/train.txt"
"$espalier" synth -f -c $config -s synth.kind=corpus -s synth.output="$work/valid.txt" \
    -s seed=2 -s synth.stories=500
"$espalier" synth -f -c $config -s synth.output="$work/random"
"$espalier" synth -f -c $config -s synth.kind=tokenizer -s synth.corpus="$work/train.txt" \
    -s synth.output="$work/random"
mpirun -n "$RANKS" "$espalier" recover -c $config -s model="$work/random" -s run_dir="$work/run" \
    -s recover.corpus="$work/train.txt" -s recover.steps="$STEPS"
mpirun -n "$RANKS" "$espalier" eval -c $config -s model="$work/run/recovered" \
    -s run_dir="$work/check" -s eval.corpus="$work/valid.txt"
echo "The trained model is in $work/run/recovered; in configs/demo/model it is the demo's."
