#!/bin/sh
# sweep.sh CONFIG [-s path=value]... -g path=VALUE,VALUE... [-g ...]... [-n RANKS]: a run for every combination of
# the values, each in a folder of its own below run_dir, and a table of what they found: compare.md and compare.csv
# there. Importance is computed once for all runs that have it alike. Values that have commas: -g 'path=A;B'.
# As Slurm job arrays (SBATCH_OPTIONS goes to every sbatch), or with -n one after another, each on so many ranks.
# The same call again goes on where this one stopped.
usage() {
    sed -n '2,6s/^# //p' "$0"
    exit 2
}
[ $# -gt 2 ] || usage
config=$1
shift
home=$(cd "$(dirname "$0")/.." && pwd)
export ESPALIER_HOME="$home"
program=${ESPALIER:-$home/build/espalier}
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 75' TERM

# ---- arguments: what is left of "$@" are the settings of all runs ----------------------------------------
ranks=
echo > "$work/grid" # a combination per line, its settings with tabs between
left=$#
while [ "$left" -gt 1 ]; do
    case $1 in
    -s) set -- "$@" -s "$2" ;;
    -n) ranks=$2 ;;
    -g)
        grid=$2 awk 'BEGIN {
            grid = ENVIRON["grid"]
            at = index(grid, "=")
            n = split(substr(grid, at + 1), value, index(grid, ";") ? ";" : ",")
            if (at < 2 || n == 0) exit 2
        }
        { for (i = 1; i <= n; i++) print $0 ($0 == "" ? "" : "\t") substr(grid, 1, at) value[i] }' \
            "$work/grid" > "$work/more" || usage
        mv "$work/more" "$work/grid"
        ;;
    *) usage ;;
    esac
    shift 2
    left=$((left - 2))
done
if [ "$left" -ne 0 ] || [ -z "$(head -n 1 "$work/grid")" ]; then
    usage
fi
case $ranks in *[!0-9]* | 0) usage ;; esac
if [ -z "$ranks" ] && ! command -v sbatch > /dev/null; then
    echo "sweep.sh: there is no sbatch: -n RANKS does one run after another on this machine" >&2
    exit 2
fi

# ---- a file of settings per run --------------------------------------------------------------------------
tab=$(printf '\t')
show() { # combination setting...: all settings in effect
    combination=$1
    shift
    oldifs=$IFS
    IFS=$tab
    set -f
    # shellcheck disable=SC2086
    for setting in $combination; do set -- "$@" -s "$setting"; done
    set +f
    IFS=$oldifs
    "$program" config --show -c "$config" "$@"
}
value_of() { # name file: of a setting outside of groups
    sed -n "s/^$1 = \"\(.*\)\";\$/\1/p" "$2"
}
"$program" config --reference | sed -n 's/^| `\([a-z0-9_.]*\)` .* | score[a-z ]* |$/\1/p' > "$work/shaping" || exit
echo model >> "$work/shaping"
scored() { # file: all that shapes importance.h5, by the table of settings
    awk 'FNR == NR { shapes[$1] = 1; next }
        / = [{]$/ { group[depth++] = $1; next }
        /^ *};$/ { depth--; next }
        {
            path = ""
            for (i = 0; i < depth; i++) path = path group[i] "."
            if (path $1 in shapes) print path $0
        }' "$work/shaping" "$1"
}

"$program" config --show -c "$config" "$@" > "$work/all" || exit
dir=$(value_of run_dir "$work/all")
case $dir in
'' | *[\"\\\$]*)
    echo "sweep.sh: run_dir = \"$dir\": must name a folder, without quotes, \$ and backslashes" >&2
    exit 2
    ;;
esac
leader_of() { # key: the run whose importance the runs of that key take: one that has it, else the first
    first=
    while read -r other name; do
        [ "$other" = "$1" ] || continue
        first=${first:-$name}
        if [ -e "$dir/$name/importance.h5" ]; then
            first=$name
            break
        fi
    done < "$work/keys"
    echo "$first"
}
while IFS= read -r combination; do
    name=$(printf %s "$combination" | tr '\t,' '_+' | tr -c 'A-Za-z0-9.=_+-' -)
    if [ -e "$work/$name.cfg" ]; then
        echo "sweep.sh: two runs would be called $name" >&2
        exit 2
    fi
    show "$combination" "$@" -s run_dir="$dir/$name" > "$work/$name.cfg" || exit
    echo "$(scored "$work/$name.cfg" | cksum | tr ' ' -) $name" >> "$work/keys"
done < "$work/grid"
while IFS= read -r combination && read -r key name <&3; do
    leader=$(leader_of "$key")
    if [ "$leader" = "$name" ]; then
        echo "$dir/$name.cfg" >> "$work/scores"
    elif grep -q '^    from = "";' "$work/$name.cfg"; then
        show "$combination" "$@" -s run_dir="$dir/$name" -s importance.from="$dir/$leader" > "$work/$name.cfg" || exit
    fi
    echo "$dir/$name.cfg" >> "$work/runs"
done < "$work/grid" 3< "$work/keys"
mkdir -p "$dir" || exit
cp "$work"/*.cfg "$dir" || exit
cp "$work/runs" "$dir/sweep.runs" || exit
cp "$work/scores" "$dir/sweep.scores" || exit
runs=$(wc -l < "$work/runs") scores=$(wc -l < "$work/scores")
echo "sweep: $((runs)) runs in $dir, importance is computed $((scores)) times"

# ---- as jobs ---------------------------------------------------------------------------------------------
if [ -z "$ranks" ]; then
    # shellcheck disable=SC2086
    score=$(sbatch --parsable --array="0-$((scores - 1))" $SBATCH_OPTIONS "$home/slurm/sweep.sbatch" score \
        "$dir/sweep.scores") || exit
    # shellcheck disable=SC2086
    sweep=$(sbatch --parsable --dependency="afterany:${score%%;*}" --array="0-$((runs - 1))" $SBATCH_OPTIONS \
        "$home/slurm/sweep.sbatch" run "$dir/sweep.runs") || exit
    # shellcheck disable=SC2086
    table=$(sbatch --parsable --dependency="afterany:${sweep%%;*}" $SBATCH_OPTIONS "$home/slurm/compare.sbatch" \
        "$dir") || exit
    echo "score: job array $score, sweep: job array $sweep, compare: job $table"
    exit 0
fi

# ---- one after another -----------------------------------------------------------------------------------
worst=0
while IFS= read -r file; do
    if [ "$ranks" -eq 1 ]; then
        "$program" run -c "$file" < /dev/null
    else
        mpirun -n "$ranks" "$program" run -c "$file" < /dev/null
    fi
    code=$?
    [ $code -ne 75 ] || exit 75
    [ $code -eq 0 ] || {
        echo "sweep.sh: $file: exit code $code" >&2
        worst=1
    }
done < "$work/runs"
sh "$home/slurm/compare.sbatch" "$dir" || worst=1
exit $worst
