#!/bin/sh
# cli_folders.sh: what else lies in a model folder: which files come along into pruned/ and recovered/.
. "$(dirname "$0")/../support/lib.sh"

model=$work/model
make_model "$model"
make_corpus "$work/text.jsonl" 12 1
cd "$model" || exit 1

# As the hub's cache has it: a name is a link to the file.
mkdir ../blobs
echo 'class Configuration: pass' > ../blobs/3f1d
ln -s ../blobs/3f1d configuration_own.py
for name in modeling_own.py LICENSE README.md chat_template.jinja generation_config.json vocab.txt; do
    echo "of $name" > "$name"
done
mkdir additional_chat_templates original assets assets/below
echo 'one' > additional_chat_templates/tool.jinja
echo 'two' > assets/figure.svg
echo 'three' > assets/below/deep.txt
# Other weights, and what describes them.
echo '{}' > original/params.json
for name in original/consolidated.00.pth model.gguf pytorch_model.bin tf_model.h5 model.onnx \
    pytorch_model.bin.index.json; do
    echo 'weights' > "$name"
done
truncate -s 65M large.txt
mkfifo pipe
ln -s nowhere broken
ln -s "$work" loop
echo 'hidden' > .hidden
cd - > /dev/null || exit 1
taken="configuration_own.py modeling_own.py LICENSE README.md chat_template.jinja generation_config.json
    vocab.txt tokenizer.json additional_chat_templates/tool.jinja assets/figure.svg"

on2 0 run -s model="$model" -s run_dir="$work/run" -s calibration.corpus="$work/text.jsonl" \
    -s calibration.samples=4 -s calibration.sequence=16 -s recover.corpus="$work/text.jsonl" -s recover.steps=1 \
    -s recover.batch=2 -s recover.cutoff=64
grep -F 'stay behind' "$work/err"
[ "$(grep -c -F 'stay behind' "$work/err")" -eq 1 ] || fail "what stays behind is not told once"
for word in "$model: 6 of" assets/below broken large.txt; do
    grep -F 'stay behind' "$work/err" | grep -q -F -e "$word" || fail "$word is not told"
done
for dir in "$work/run/pruned" "$work/run/recovered"; do
    for name in $taken; do
        [ -f "$dir/$name" ] && [ ! -L "$dir/$name" ] && cmp "$model/$name" "$dir/$name" || fail "$dir/$name"
    done
    not_there "$dir/original" "$dir/model.gguf" "$dir/pytorch_model.bin" "$dir/tf_model.h5" "$dir/model.onnx" \
        "$dir/pytorch_model.bin.index.json" "$dir/large.txt" "$dir/pipe" "$dir/broken" "$dir/loop" \
        "$dir/.hidden" "$dir/assets/below"
    ! grep -q 'of config.json' "$dir/config.json" || fail "config.json is not the result's own"
done

finish
