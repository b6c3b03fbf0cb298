#!/bin/sh
# cli_sweep.sh: jobs/sweep.sh runs every combination, computes importance once for runs that have it alike, by Slurm or
# one after another, and ends with a table; importance.from takes what was made by the same settings alone.
. "$(dirname "$0")/../support/lib.sh"

model=$work/model
make_model "$model"
make_corpus "$work/a.jsonl" 30 1
make_corpus "$work/b.jsonl" 8 2
cat > "$work/run.cfg" << END
model = "$model";
run_dir = "$work/sweep";
calibration = { corpus = "$work/a.jsonl"; samples = 4; sequence = 32; };
eval = { corpora = ["wiki=$work/b.jsonl"]; window = 32; };
END
espalier_computed() { # folder: the runs in it that computed their importance
    grep -l '"event":"start","stage":"score"' "$1"/*/events.jsonl | while read -r events; do
        run=$(dirname "$events")
        grep -q '^    from = "";' "$run/config.used" && basename "$run"
    done | sort | tr '\n' ' '
}

# ---- one after another -----------------------------------------------------------------------------------
exits 0 sh jobs/sweep.sh "$work/run.cfg" -g prune.ratio=0.25,0.5 -s importance.units=attention,mlp -g seed=1,2,3 -n 1
prints '^sweep: 6 runs in .*/sweep, importance is computed 3 times$'
[ "$(espalier_computed "$work/sweep")" = "prune.ratio=0.25_seed=1 prune.ratio=0.25_seed=2 prune.ratio=0.25_seed=3 " ] ||
    fail "importance was computed by $(espalier_computed "$work/sweep")"
cmp -s "$work/sweep/prune.ratio=0.25_seed=2/importance.h5" "$work/sweep/prune.ratio=0.5_seed=2/importance.h5" ||
    fail "the importance of one seed"
cmp -s "$work/sweep/prune.ratio=0.25_seed=2/importance.h5" "$work/sweep/prune.ratio=0.25_seed=1/importance.h5" &&
    fail "the importance of two seeds"
prints '^prune.ratio=0.5_seed=\*  *pruned  *3 '
grep -q '^prune.ratio=0.25_seed=\*,pruned,3,' "$work/sweep/compare.csv" || fail "compare.csv"
there "$work/sweep/compare.md"

# the same as a run that computes it itself
exits 0 "$ESPALIER" run -q -c "$work/run.cfg" -s run_dir="$work/alone" -s importance.units=attention,mlp -s seed=2 \
    -s prune.ratio=0.5
for file in importance.h5 plan.json pruned/model.safetensors; do
    cmp -s "$work/alone/$file" "$work/sweep/prune.ratio=0.5_seed=2/$file" || fail "$file of a run alone"
done

# again: nothing is done again; with another value, one run, which takes what is there
cp "$work/sweep/prune.ratio=0.5_seed=2/manifest.json" "$work/before"
exits 0 sh jobs/sweep.sh "$work/run.cfg" -s importance.units=attention,mlp -g prune.ratio=0.4,0.5 -g seed=2 -n 1
cmp -s "$work/before" "$work/sweep/prune.ratio=0.5_seed=2/manifest.json" || fail "done again"
grep -q "^    from = \".*/prune.ratio=0.5_seed=2\";" "$work/sweep/prune.ratio=0.4_seed=2/config.used" ||
    fail "the importance that is there"

# ---- by Slurm: a sbatch and a mpirun that do it at once ---------------------------------------------------
mkdir "$work/bin"
cat > "$work/bin/sbatch" << 'END'
#!/bin/sh
echo "$*" >> "$SLURM_CALLS"
last=0 array=
while case $1 in --*) true ;; *) false ;; esac; do
    case $1 in --array=0-*) array=1 last=${1#--array=0-} ;; esac
    shift
done
for i in $(seq 0 "$last"); do
    SLURM_JOB_ID=7 SLURM_ARRAY_TASK_ID=${array:+$i} sh "$@" >> "$SLURM_CALLS.log" 2>&1
done
echo 7
END
cat > "$work/bin/mpirun" << 'END'
#!/bin/sh
shift 2
exec "$@"
END
chmod +x "$work/bin/sbatch" "$work/bin/mpirun"
exits 0 env PATH="$work/bin:$PATH" SLURM_CALLS="$work/calls" SBATCH_OPTIONS=--account=x sh jobs/sweep.sh "$work/run.cfg" \
    -s run_dir="$work/jobs" -g prune.criterion=element1,l2 -g 'importance.criteria=element1,l2;l2' -s prune.ratio=0.5
prints '^sweep: 4 runs in .*/jobs, importance is computed 2 times$'
[ "$(grep -c -e '--account=x' "$work/calls")" -eq 3 ] || fail "three jobs"
grep -q -e '--array=0-1 .*sweep.sbatch score' "$work/calls" || fail "the array of scores"
grep -q -e '--dependency=afterany:7 --array=0-3 .*sweep.sbatch run' "$work/calls" || fail "the array of runs"
grep -q -e '--dependency=afterany:7 .*compare.sbatch' "$work/calls" || fail "the table"
[ "$(espalier_computed "$work/jobs" | wc -w)" -eq 2 ] || fail "computed by $(espalier_computed "$work/jobs")"
[ "$(wc -l < "$work/jobs/compare.csv")" -eq 5 ] || fail "title, dense, and three that differ: $(cat "$work/jobs/compare.csv")"

# ---- refused ---------------------------------------------------------------------------------------------
exits 2 sh jobs/sweep.sh "$work/run.cfg" -s seed=1 -n 1
exits 2 sh jobs/sweep.sh "$work/run.cfg" -g seed -n 1
exits 2 sh jobs/sweep.sh "$work/run.cfg" -g prune.ratio=0.5,2 -s run_dir="$work/none" -n 1
complains prune.ratio
not_there "$work/none"
[ "$(command -v sbatch)" ] || {
    exits 2 sh jobs/sweep.sh "$work/run.cfg" -g seed=1,2
    grep -q 'no sbatch' "$work/err" || fail "no word of sbatch"
}

# ---- importance.from -------------------------------------------------------------------------------------
from() { # code setting...: score with what the run alone computed
    code=$1
    shift
    exits "$code" "$ESPALIER" score -c "$work/run.cfg" -s run_dir="$work/from" -s importance.units=attention,mlp \
        -s seed=2 -s prune.ratio=0.5 -s importance.from="$work/alone" "$@"
}
from 2 -s calibration.samples=5
complains 'importance.from: ' 'calibration.samples = 4, here it is 5'
from 2 -s calibration.corpus="$work/b.jsonl"
complains 'another content of calibration.corpus'
make_model "$work/other" -s seed=9
from 2 -s model="$work/other"
complains 'another content of model'
from 2 -s importance.from="$work/nowhere"
complains 'has no importance.h5'
cp -r "$work/alone" "$work/damaged"
printf x >> "$work/damaged/importance.h5"
from 2 -s importance.from="$work/damaged"
complains 'is not what score left there'
not_there "$work/from"
from 0
cmp -s "$work/from/importance.h5" "$work/alone/importance.h5" || fail "what was taken"
rm -rf "$work/alone"
from 0
grep -q 'done before' "$work/err" || fail "what was taken is this run's own"
exits 0 "$ESPALIER" estimate -q -c "$work/run.cfg" -s importance.from="$work/from" -s estimate.ranks=2 \
    -s estimate.output="$work/taken.json"
exits 0 "$ESPALIER" estimate -q -c "$work/run.cfg" -s estimate.ranks=2 -s estimate.output="$work/computed.json"
[ "$(json "$work/taken.json" score sent weight_gradients | awk '{ print $1 + 0 }')" = 0 ] || fail "nothing is sent for what is taken"
[ "$(json "$work/computed.json" score sent weight_gradients | awk '{ print ($1 > 0) }')" = 1 ] || fail "gradients are sent to compute it"
finish
