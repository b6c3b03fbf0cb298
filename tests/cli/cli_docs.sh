#!/bin/sh
# cli_docs.sh: what the pages say of commands, settings and targets is so, and the worked example of the README
# prints what it shows there.
. "$(dirname "$0")/../support/lib.sh"

pages="README.md CONTRIBUTING.md ARCHITECTURE.md docs/*.md"
exits 0 "$ESPALIER" config --reference
sed -n 's/^| `\([a-z_.]*\)` .*/\1/p' "$work/out" > "$work/settings"
exits 0 "$ESPALIER" --help
sed -n 's/^  \([a-z]*\)  .*/\1/p' "$work/out" > "$work/commands"

# lines of code of the pages, and code within lines, each as "page: code"
for page in $pages; do
    grep -oE '^    .*|`[^`]+`' "$page" | tr -d '`' | sed "s#^ *#$page: #"
done > "$work/code"

known() { # kind file: each line "page: name" of stdin is in the file
    sort -u | while read -r page name; do
        grep -q -x -F -e "$name" "$2" || echo "$page no such $1: $name"
    done > "$work/unknown"
    while read -r line; do fail "$line"; done < "$work/unknown"
}

# ---- names -----------------------------------------------------------------------------------------------
sed -nE 's/^([^ ]*: )(.*[ /])?espalier ([a-z]+)( .*)?$/\1\3/p' "$work/code" | grep -v 'sealed$' > "$work/names"
known command "$work/commands" < "$work/names"
sed -nE 's/^([^ ]*: )(.* )?make ([a-z]+)( .*)?$/\1\3/p' "$work/code" > "$work/names"
sed -n 's/^\([a-z]*\):.*/\1/p' Makefile > "$work/targets"
known target "$work/targets" < "$work/names"
groups=$(sed -n 's/\..*//p' "$work/settings" | sort -u | tr '\n' '|')
sed -nE "s/^([^ ]*: )(.*-s )?((${groups%|})\.[a-z_.]+)([ =].*)?\$/\1\3/p" "$work/code" |
    grep -vE '\.(c|h|cfg|h5|json|md|txt)$' > "$work/names"
[ -s "$work/names" ] || fail "no setting was found in the pages"
known setting "$work/settings" < "$work/names"

# ---- ratios of the benchmarks ----------------------------------------------------------------------------
sh tests/bench/bench_table.sh tests/bench/bench_reference_avx512f_bf16.json > "$work/ratios"
sed -n '/^<!-- ratios -->/,/^<!-- end -->/p' docs/performance.md | grep -v '^<' | diff - "$work/ratios" > "$work/stale" ||
    fail "docs/performance.md has other ratios than the reference (make docs)"

# ---- predictions -----------------------------------------------------------------------------------------
# The README shows rows of the table in docs/performance.md, without the grid and what is sent.
awk -F ' *[|] *' 'NF == 11 { print "| " $2 " | " $3 " | " $6 " | " $7 " | " $8 " | " $9 " |" }' docs/performance.md \
    > "$work/predicted"
grep -E '^[|] [0-9]+B [|]' README.md > "$work/rows"
[ -s "$work/rows" ] || fail "README.md shows no prediction"
grep -v -x -F -f "$work/predicted" "$work/rows" > "$work/stale" &&
    fail "docs/performance.md predicts otherwise than README.md: $(cat "$work/stale")"

# ---- configurations --------------------------------------------------------------------------------------
for page in README.md docs/running.md; do
    awk '/^    model = / { on = 1 } on && !/^    / { exit } on { print substr($0, 5) }' "$page" > "$work/page.cfg"
    exits 0 "$ESPALIER" config --check "$work/page.cfg"
done
for file in configs/*.cfg configs/demo/demo.cfg; do
    exits 0 "$ESPALIER" config --check "$file"
done

# ---- the worked example ----------------------------------------------------------------------------------
stories() { # count seed file
    exits 0 "$ESPALIER" synth -s synth.kind=corpus -s synth.stories="$1" -s seed="$2" -s synth.output="$work/$3"
    cat "$work/err" >> "$work/log"
}
stories 2000 42 train.txt
stories 300 2 valid.txt
demo="-c configs/demo/demo.cfg -s run_dir=$work/demo -s calibration.corpus=$work/train.txt -s eval.corpus=$work/valid.txt"
for stage in score plan prune eval; do
    # shellcheck disable=SC2086
    on2 0 $stage $demo
    cat "$work/err" >> "$work/log"
done
for line in 'synth: 2000 ' 'synth: 300 ' 'score: loss' 'plan: 1023104' 'eval: dense' 'eval: pruned'; do
    shown=$(sed -n "s/^    \[.* s\] \($line\)/\1/p" README.md)
    [ -n "$shown" ] || fail "README.md does not show $line"
    grep -q -F -e "$shown" "$work/log" || fail "README.md shows \"$shown\", now it is $(grep -e "$line" "$work/log")"
done
grep '^dense \|^pruned ' "$work/out" | sed 's/ [^ ]*$//' | while read -r row; do
    grep -q -F -e "    $row" README.md || echo "$row"
done > "$work/rows"
[ ! -s "$work/rows" ] || fail "README.md does not show $(cat "$work/rows")"

finish
