#!/bin/sh
# cli_rotary.sh: rotary positions that depend on the length of a sample, from calibration to the folder that is
# written; rope_ratio of a ChatGLM by its code and by the setting.
. "$(dirname "$0")/../support/lib.sh"

# ---- samples on both sides of the border, which is 8 tokens ---------------------------------------------
cat > "$work/tokens.txt" << END
40 26 33 17 50 51 12 9
9 60 71 5 22 23 40 41 7
50 51 52
60 61 62 63 64 65 66 67 68 69 70 71 72 73 4 5 6 7 8 9 10 11 12
33 34 35 36 37 38 39 40 41 42
END
for name in phi4 dynamic; do
    for n in 1 2 3; do
        exits 0 mpirun -n $n "$ESPALIER" run -q -s model=tests/golden/$name -s run_dir="$work/$name-$n" \
            -s calibration.tokens="$work/tokens.txt" -s prune.ratio=0.5
    done
    for n in 2 3; do
        [ "$(json "$work/$name-1/plan.json" digest)" = "$(json "$work/$name-$n/plan.json" digest)" ] ||
            fail "$name: another plan on $n ranks"
    done
done

# What config.json says of positions is in the folder that is written, as it was.
keys='rope|partial_rotary|short_factor|long_factor|"type"|original_max|max_position|^      [0-9.]+,?$'
for name in phi4 dynamic; do
    for folder in tests/golden/$name "$work/$name-1/pruned"; do
        grep -E "$keys" "$folder/config.json" | tr -d ' ,' | sort > "$work/keys.${folder##*/}"
    done
    cmp "$work/keys.$name" "$work/keys.pruned" || fail "$name: other keys in pruned/"
done
exits 0 "$ESPALIER" inspect -s model=tests/golden/dynamic
prints 'positions 32,' # 4 times what it was trained for

# ---- rope_ratio -----------------------------------------------------------------------------------------
mkdir "$work/glm" "$work/glm-code"
cp tests/golden/chatglm2/* "$work/glm"
sed 's/"seq_length"/"rope_ratio": 4, &/' tests/golden/chatglm2/config.json > "$work/glm/config.json"
cp "$work/glm"/* "$work/glm-code"
echo "seq_idx = torch.arange(n) / self.rope_ratio" > "$work/glm-code/modeling_chatglm.py"

loss() { # folder, what is told, settings...: of the tokens, as score prints it
    folder=$1 told=$2
    shift 2
    exits 0 "$ESPALIER" score -s model="$folder" -s run_dir="$work/scored" \
        -s calibration.tokens=tests/golden/chatglm2/tokens.txt "$@"
    if [ "$(grep -c "rope_ratio 4 $told" "$work/err")" -ne 1 ]; then
        fail "not told once: rope_ratio $told"
    fi
    grep -o 'loss [0-9.]*' "$work/err" > "$work/loss" || fail "no loss"
    rm -r "$work/scored"
}
loss "$work/glm" multiplies
mv "$work/loss" "$work/base"
loss "$work/glm" divides -s rope_ratio=positions
mv "$work/loss" "$work/positions"
cmp -s "$work/base" "$work/positions" && fail "the setting changes nothing"
loss "$work/glm-code" divides
cmp "$work/loss" "$work/positions" || fail "not as the folder's code does it"
loss "$work/glm-code" multiplies -s rope_ratio=base
cmp "$work/loss" "$work/base" || fail "the setting does not come first"
finish
