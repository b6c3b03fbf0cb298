#!/bin/sh
# cli_demo.sh: the demo's model is truly trained: on stories that it has not seen it pays little more than
# the entropy of the generator, which no model can beat.
. "$(dirname "$0")/../support/lib.sh"

text=$work/unseen.txt
exits 0 "$ESPALIER" synth -s synth.kind=corpus -s synth.stories=100 -s seed=3 -s synth.output="$text"
entropy=$(sed -n 's/.*entropy \([0-9.]*\) nats per byte.*/\1/p' "$work/err")
# The empty line between two documents is no part of them, nor is the end of the last line of each.
bytes=$(awk 'NF { n += length($0) + 1 } !NF { n-- } END { print n - 1 }' "$text")
exits 0 "$ESPALIER" eval -s model=configs/demo/model -s run_dir="$work/run" \
    -s eval.corpus="$text" -s eval.window=256

loss=$(json "$work/run/eval.json" dense loss)
tokens=$(json "$work/run/eval.json" dense tokens)
awk -v loss="$loss" -v tokens="$tokens" -v bytes="$bytes" -v entropy="$entropy" 'BEGIN {
    paid = loss * tokens / bytes
    printf "%.4f nats per byte, entropy %.4f\n", paid, entropy
    exit !(entropy > 0 && paid > 0.95 * entropy && paid < 1.25 * entropy)
}' || fail "loss $loss over $tokens tokens and $bytes bytes is not near the entropy $entropy"
finish
