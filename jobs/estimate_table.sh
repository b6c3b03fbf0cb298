#!/bin/sh
# estimate_table.sh [CLUSTER.cfg]: what a run by configs/estimate.cfg would take on 1 to 256 nodes of a cluster,
# for models of the shapes of LLaMA 7B, 13B and 70B, as the table in docs/performance.md.
# Nothing is run.
: "${ESPALIER:=build/espalier}" "${NODES:=1 2 4 8 16 32 64 128 256}"
cluster=${1:-configs/cluster.cfg}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

json() { # FILE KEY...: the value at a path of keys of what estimate writes
    file=$1
    shift
    awk -v path="$*" '
    BEGIN { n = split(path, key, " "); at = 1 }
    index($0, "\"" key[at] "\":") {
        if (at++ == n) { sub(/^[^:]*: */, ""); sub(/,$/, ""); print; exit }
    }' "$file"
}

row() { # name nodes settings...
    name=$1 nodes=$2
    shift 2
    "$ESPALIER" estimate -q -c configs/estimate.cfg --cluster "$cluster" -s cluster.nodes="$nodes" \
        -s synth.positions=4096 -f -s estimate.output="$work/o.json" "$@" > "$work/out" 2> "$work/err" || {
        grep -qE 'no grid of .* fits' "$work/err" || {
            cat "$work/err" >&2
            exit 1
        }
        echo "| $name | $nodes | does not fit in memory | | | | | | |"
        return
    }
    sent=$(for kind in weight_gradients sums activations gradients values; do
        json "$work/o.json" all sent $kind
    done | awk '{ s += $1 } END { print s }')
    echo "$name $nodes $(json "$work/o.json" grid ranks) $(json "$work/o.json" grid threads)" \
        "$(json "$work/o.json" grid pipeline) $(json "$work/o.json" all anonymous)" \
        "$(json "$work/o.json" score seconds) $(json "$work/o.json" prune seconds)" \
        "$(json "$work/o.json" recover seconds) $sent" |
        awk '{
            printf "| %s | %d | %d x %d | %d x %d | %.1f | %.1f | %.1f | %.2f | %.2f |\n", $1, $2, $3, $4, $5,
                $2 * $3 / $5, $6 / 1073741824, $7 / 60, $8, $9 / 3600, $10 / 1e12
        }'
}

echo "| model | nodes | ranks x threads per node | pipeline x data | GiB per rank | score, min | prune, s | recover, h | TB sent |"
echo "|---|---|---|---|---|---|---|---|---|"
for nodes in $NODES; do
    row 7B "$nodes" -s synth.layers=32 -s synth.hidden=4096 -s synth.heads=32 -s synth.mlp=11008 \
        -s synth.vocab=32000
done
for nodes in $NODES; do
    row 13B "$nodes" -s synth.layers=40 -s synth.hidden=5120 -s synth.heads=40 -s synth.mlp=13824 \
        -s synth.vocab=32000
done
for nodes in $NODES; do
    row 70B "$nodes" -s synth.layers=80 -s synth.hidden=8192 -s synth.heads=64 -s synth.kv_heads=8 \
        -s synth.mlp=28672 -s synth.vocab=32000
done
