#!/bin/sh
# cli_estimate.sh: what estimate predicts is what a run takes: anonymous memory within a tenth, bytes sent to
# the byte; and memory_limit is kept, or refused before anything is written.
. "$(dirname "$0")/../support/lib.sh"
# Of run.sh: with them MPI takes megabytes less than estimate expects.
unset OMPI_MCA_ess_singleton_isolated OMPI_MCA_pml

# Buffers of tens of megabytes, and weights in whole tiles.
make_model "$work/model" -s synth.layers=4 -s synth.hidden=256 -s synth.mlp=512 -s synth.vocab=4096 \
    -s synth.dtype=BF16
awk 'BEGIN {
    srand(3)
    for (i = 0; i < 12; i++) {
        for (t = 0; t < 128; t++) printf "%d%s", int(rand() * 4096), t < 127 ? " " : "\n"
    }
}' > "$work/ids"
awk 'BEGIN {
    for (i = 0; i < 36; i++) {
        text = ""
        for (t = 0; t < 128; t++) text = text substr("abcdefgh", (i * t * t + t) % 8 + 1, 1)
        printf "{\"text\": \"%s\"}\n", text
    }
}' > "$work/text.jsonl"
cat > "$work/run.cfg" << END
model = "$work/model";
calibration = { tokens = "$work/ids"; samples = 12; sequence = 128; };
importance = { criteria = ["element1", "mix"]; };
recover = { corpus = "$work/text.jsonl"; cut = "windows"; cutoff = 64; steps = 2; batch = 16; micro_batch = 8;
            rank = 64; validation = 8; };
eval = { corpus = "$work/text.jsonl"; window = 64; samples = 32; batch_tokens = 1024; };
cluster = { core_gflops = 50.0; memory_bandwidth = 20.0; };
estimate = { documents = 72; };
END

# within A B TOLERANCE WHAT: A is B up to a fraction
within() {
    awk -v a="$1" -v b="$2" -v tol="$3" \
        'BEGIN { d = a - b; if (d < 0) d = -d; exit !(a != "" && b > 0 && d <= tol * b) }' ||
        fail "$4: predicted $1, measured $2"
}

# compare RANKS LAYERS: a run against its estimate
compare() {
    name=$1-$2 run=$work/$1-$2
    exits 0 mpirun -n "$1" "$ESPALIER" run -c "$work/run.cfg" -s run_dir="$run" -s parallel.pipeline="$2" \
        -s eval.corpus=
    exits 0 mpirun -n "$1" "$ESPALIER" eval -c "$work/run.cfg" -s run_dir="$run" -s parallel.pipeline="$2"
    exits 0 "$ESPALIER" estimate -c "$work/run.cfg" -s parallel.pipeline="$2" -s estimate.ranks="$1" \
        -s cluster.cores="$1" -s estimate.output="$run.json"
    for stage in score recover eval; do
        within "$(json "$run.json" $stage anonymous)" "$(json "$run/manifest.json" $stage anonymous)" 0.1 \
            "$name: memory of $stage"
    done
    within "$(json "$run.json" prune written)" "$(wc -c < "$run/pruned/model.safetensors")" 0.01 \
        "$name: bytes of the pruned model"
    [ "$1" -eq 1 ] && return
    for kind in score.sums recover.gradients recover.values; do
        sent "$kind"
    done
    [ $(($1 / $2)) -gt 1 ] && sent score.weight_gradients
    [ "$2" -gt 1 ] && sent score.activations && sent recover.activations && sent eval.activations
}

sent() { # STAGE.KIND of the run under way
    stage=${1%.*} kind=${1#*.}
    within "$(json "$run.json" "$stage" sent "$kind")" \
        "$(json "$run/manifest.json" "$stage" sent "$kind" bytes)" 1e-6 "$name: $kind of $stage"
}

compare 1 1
compare 2 1
compare 3 1
compare 4 1
compare 2 2
compare 4 2

# ---- families, types, precisions and methods that have buffers of their own ----------------------------
case_of() { # FAMILY DTYPE [setting...]
    name="$1 $2" run=$work/case model=$work/model-$1-$2
    settings="-s synth.model_type=$1 -s synth.dtype=$2"
    shift 2
    # shellcheck disable=SC2086
    [ -d "$model" ] || make_model "$model" -s synth.layers=4 -s synth.hidden=256 -s synth.mlp=512 \
        -s synth.vocab=8192 $settings
    set -- -c "$work/run.cfg" -s model="$model" -s run_dir="$run" -s parallel.threads=1 -s eval.corpus= "$@"
    exits 2 "$ESPALIER" run "$@" -s memory_limit="30 MB"
    complains "needs" "the limit is 29 MiB by memory_limit"
    not_there "$run"
    exits 0 "$ESPALIER" run "$@"
    exits 0 "$ESPALIER" estimate "$@" -s estimate.ranks=1 -s cluster.cores=1 -s estimate.output="$work/case.json"
    for stage in score prune recover; do
        within "$(json "$work/case.json" $stage anonymous)" "$(json "$run/manifest.json" $stage anonymous)" 0.1 \
            "$name $*: memory of $stage"
    done
    rm -rf "$run" "$work/case.json"
}
case_of llama BF16
case_of llama BF16 -s recover.teacher="$work/model-llama-BF16"
case_of baichuan2-7b BF16
case_of gemma2 F16 -s recover.method=full
"$ESPALIER" score -c "$work/run.cfg" -s run_dir="$work/none" -s precision=bf16 -s memory_limit=1 2>&1 |
    grep -q 'precision: bf16' || case_of llama F32 -s precision=bf16

# ---- memory_limit ------------------------------------------------------------------------------------
need=$(json "$work/1-1/manifest.json" score anonymous)
limit=$((need * 8 / 10))
exits 0 "$ESPALIER" score -c "$work/run.cfg" -s run_dir="$work/limited" -s memory_limit=$limit
took=$(json "$work/limited/manifest.json" score anonymous)
[ "$took" -le $((limit * 105 / 100)) ] || fail "score took $took bytes with a limit of $limit"
exits 0 "$ESPALIER" plan -c "$work/run.cfg" -s run_dir="$work/limited"
[ "$(json "$work/limited/plan.json" digest)" = "$(json "$work/1-1/plan.json" digest)" ] ||
    fail "memory_limit changed the plan"
for stage in score recover eval; do
    on2 2 $stage -c "$work/run.cfg" -s run_dir="$work/refused" -s memory_limit="8 MiB"
    complains memory_limit "$stage needs" "the limit is 8 MiB" "on 2 ranks"
    not_there "$work/refused"
done

# Without memory_limit it is what the machine has for the job. Settings alone say what samples of a corpus need:
# the corpus is not even read.
big="-s calibration.tokens= -s calibration.corpus=$work/text.jsonl -s calibration.sequence=64"
for samples in 100000 100000000; do
    # shellcheck disable=SC2086
    on2 2 score -c "$work/run.cfg" $big -s run_dir="$work/refused" -s calibration.samples=$samples
    complains "score needs" "MiB per rank on 2 ranks" "the limit is" parallel.scratch calibration.samples
    not_there "$work/refused"
done
SLURM_MEM_PER_NODE=30 exits 2 "$ESPALIER" score -c "$work/run.cfg" -s run_dir="$work/refused"
complains "the limit is 27 MiB by SLURM_MEM_PER_NODE"
not_there "$work/refused"
# What is read before that is counted, too: here more text than there is memory for.
awk 'BEGIN { for (i = 0; i < 400000; i++) print "{\"text\": \"a b c d e f g h i j k l m n o p q r s t u v w x y z\"}" }' \
    > "$work/long.jsonl"
SLURM_MEM_PER_NODE=60 exits 2 "$ESPALIER" eval -c "$work/run.cfg" -s run_dir="$work/refused" \
    -s eval.corpus="$work/long.jsonl" -s eval.samples=0
complains "$work/long.jsonl: what is read of it needs more than" "the limit is 54 MiB by SLURM_MEM_PER_NODE"
not_there "$work/refused"

SLURM_MEM_PER_NODE=60 exits 2 "$ESPALIER" tokenize -s model="$work/model" -s tokenize.corpus="$work/long.jsonl" \
    -s tokenize.output="$work/long.h5"
complains "$work/long.jsonl: what is read of it needs more than" "the limit is 54 MiB by SLURM_MEM_PER_NODE"
not_there "$work/long.h5"

# ---- a cluster, and no model folder ------------------------------------------------------------------
cat > "$work/cluster.cfg" << END
cluster = { nodes = 4; cores = 16; memory = "64 GiB"; core_gflops = 50.0; memory_bandwidth = 200.0; };
END
exits 0 "$ESPALIER" estimate --cluster "$work/cluster.cfg" -s synth.layers=80 -s synth.hidden=8192 \
    -s synth.heads=64 -s synth.kv_heads=8 -s synth.mlp=28672 -s synth.vocab=32000 \
    -s estimate.output="$work/70b.json"
prints '^model: llama, 80 layers, hidden 8192, 6.898e+10 parameters'
prints '^cluster: 4 nodes of 16 cores and 64 GiB'
prints '^score '
[ "$(json "$work/70b.json" grid nodes)" = 4 ] || fail "not 4 nodes in the JSON"
# 138 GB of weights are more than a node keeps, a stage of them is not.
[ "$(json "$work/70b.json" grid pipeline)" = 4 ] || fail "a node is to map more than it has"
exits 0 "$ESPALIER" estimate --cluster "$work/cluster.cfg" -s cluster.memory="512 GiB" -s synth.layers=80 \
    -s synth.hidden=8192 -s synth.heads=64 -s synth.kv_heads=8 -s synth.mlp=28672 -s synth.vocab=32000 \
    -f -s estimate.output="$work/70b.json"
[ "$(json "$work/70b.json" grid pipeline)" = 1 ] || fail "stages where there is room for the whole model"
exits 2 "$ESPALIER" estimate --cluster "$work/cluster.cfg" -s cluster.memory="1 GiB" -s synth.layers=80 \
    -s synth.hidden=8192 -s synth.heads=64 -s synth.mlp=28672 -s synth.vocab=32000
complains 'no grid of 4 nodes' 'and 1 GiB fits' 'the ranks of a node need'

# ---- grids, limits and settings that the smallest model asks for ---------------------------------------------
small() { # STATUS setting...: by a model of 3 layers on nodes of 64 cores
    status=$1
    shift
    exits "$status" "$ESPALIER" estimate --cluster "$work/cluster.cfg" -s synth.layers=3 -s synth.positions=512 \
        -s recover.corpus=x -s eval.corpus=x -s cluster.nodes=1 -s cluster.cores=64 "$@"
}
small 0 -s parallel.pipeline=3 # divides no number of ranks that divides the cores
prints '^grid: 1 nodes x 3 ranks x 21 threads; 3 pipeline stages x 1 data ranks'
small 0 -s parallel.threads=4
prints '^grid: .* ranks x 4 threads;'
small 0 -s cluster.nodes=200000
small 2 -s cluster.nodes=200001
complains cluster.nodes 200001 200000
small 2 -s parallel.pipeline=4
complains 'parallel.pipeline = 4: the model has 3 layers'
small 2 -s parallel.pipeline=3 -s estimate.ranks=4
complains 'parallel.pipeline = 3: 4 ranks cannot be shared out'
small 2 -s parallel.pipeline=3 -s parallel.threads=32
complains 'parallel.pipeline = 3: no number of ranks up to 2 on each of 1 nodes'
small 2 -s calibration.sequence=5000
complains 'calibration.sequence = 5000: the model has 512 positions'
small 2 -s eval.window=5000
complains 'eval.window = 5000: the model has 512 positions'
small 2 -s cluster.memory=20MiB
complains 'and 20 MiB fits'
small 2 -s memory_limit=10MiB
complains 'memory_limit = 10 MiB' 'a rank needs'
enough=$(sed -n 's/.* a rank needs \([0-9]*\) MiB: .*/\1/p' "$work/err")
small 2 -s memory_limit="$((enough - 1)) MiB"
small 0 -s memory_limit="$enough MiB"

# ---- the table of predictions ------------------------------------------------------------------------------
NODES=1 exits 0 sh jobs/estimate_table.sh
prints '^| 7B | 1 | [1-9]'
grep -v -x -F -f docs/performance.md "$work/out" && fail "docs/performance.md has other predictions (see configs/estimate.cfg)"
sed 's/64 GiB/1 GiB/' "$work/cluster.cfg" > "$work/little.cfg"
NODES=1 exits 0 sh jobs/estimate_table.sh "$work/little.cfg"
prints '^| 7B | 1 | does not fit in memory |'
NODES=1 exits 1 sh jobs/estimate_table.sh "$work/none.cfg"
complains "$work/none.cfg"
ESPALIER=/nope NODES=1 exits 1 sh jobs/estimate_table.sh "$work/cluster.cfg"
grep -q /nope "$work/err" || fail "no word of the program that is not there"
finish
