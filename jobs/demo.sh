#!/bin/sh
# The whole job on the small model in configs/demo, on two ranks: `make demo`.
set -eu
cd "$(dirname "$0")/.."
. jobs/mpi_env.sh
: "${BUILD:=build}" "${RANKS:=2}"
espalier=$BUILD/espalier
mkdir -p build/demo
rm -rf build/demo/run

"$espalier" synth -f -s synth.kind=corpus -s synth.stories=2000 -s synth.output=build/demo/train.txt
"$espalier" synth -f -s synth.kind=corpus -s synth.stories=300 -s synth.output=build/demo/valid.txt -s seed=2
mpirun -n "$RANKS" "$espalier" run -c configs/demo/demo.cfg
