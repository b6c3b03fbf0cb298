#!/bin/sh
# cli_teacher.sh: recover with recover.teacher: what it says, killed in the middle and gone on with, what is
# recorded of the teacher, and what is refused before it begins.
. "$(dirname "$0")/../support/lib.sh"

make_model "$work/model"
make_model "$work/larger" -s synth.hidden=48 -s synth.layers=4
make_corpus "$work/text.jsonl" 200 1
make_corpus "$work/valid.jsonl" 30 2
cat > "$work/run.cfg" << END
model = "$work/model";
prune = { criterion = "random"; ratio = 0.5; };
recover = { corpus = "$work/text.jsonl"; cutoff = 64; steps = 20; batch = 8; warmup = 2; learning_rate = 0.01;
            validation = 16; validate_every = 10; save_every = 5; teacher = "$work/model"; kd_ratio = 0.5; };
eval = { corpus = "$work/valid.jsonl"; window = 64; };
END

run() { # code folder settings...
    code=$1 folder=$2
    shift 2
    on2 "$code" run -c "$work/run.cfg" -s run_dir="$work/$folder" "$@"
}

same_models() {
    cmp -s "$work/$1/recovered/model.safetensors" "$work/$2/recovered/model.safetensors"
}

# ---- whole -------------------------------------------------------------------------------------------
run 0 whole
grep -q 'recover: states of the teacher for 160 samples .* in memory' "$work/err" || fail "nothing is said"
[ "$(json "$work/whole/manifest.json" recover inputs teacher)" = \
    "$(json "$work/whole/manifest.json" recover inputs model)" ] || fail "another teacher is recorded"
run 0 text -s recover.teacher=
same_models whole text && fail "a teacher changes nothing"
run 0 other -s recover.teacher="$work/larger" -s parallel.scratch="$work"
grep -q 'recover: states of the teacher .* in parallel.scratch' "$work/err" || fail "states are in memory"
same_models whole other && fail "another teacher changes nothing"
run 0 alone -s recover.kd_ratio=0
grep -q 'recover.teacher = .* has no effect' "$work/err" || fail "no warning"
same_models alone text || fail "a teacher that has no effect has one"
run 0 warm -s recover.kd_temperature=4
same_models whole warm && fail "the temperature changes nothing"

# ---- killed, and gone on with ------------------------------------------------------------------------
mpirun -n 2 "$ESPALIER" run -c "$work/run.cfg" -s run_dir="$work/killed" -s recover.batch=8 > "$work/out" \
    2> "$work/err" < /dev/null &
pid=$!
tries=0
until ls "$work/killed/recover/"step-*.h5 > /dev/null 2>&1 || [ $tries -eq 3000 ]; do
    sleep 0.01
    tries=$((tries + 1))
done
read -r ranks < "/proc/$pid/task/$pid/children"
# shellcheck disable=SC2086
kill -KILL $ranks
wait "$pid"
[ ! -e "$work/killed/recovered" ] || fail "it was over before it was killed"
run 0 killed
grep -q 'recovery goes on after step' "$work/err" || fail "it began anew"
same_models whole killed || fail "another model after the interruption"

# ---- a prediction of it ------------------------------------------------------------------------------
more() { # FIELD: its prediction with a teacher is above that without
    a=$(json "$work/with.json" recover "$1") b=$(json "$work/without.json" recover "$1")
    awk -v a="$a" -v b="$b" 'BEGIN { exit !(a > b && b > 0) }' || fail "$1: $a with a teacher, $b without"
}
exits 0 "$ESPALIER" estimate -c "$work/run.cfg" -s cluster.core_gflops=5 -s cluster.memory_bandwidth=5 \
    -s estimate.output="$work/with.json"
exits 0 "$ESPALIER" estimate -c "$work/run.cfg" -s cluster.core_gflops=5 -s cluster.memory_bandwidth=5 \
    -s estimate.output="$work/without.json" -s recover.teacher=
more anonymous
more seconds

# ---- refused -----------------------------------------------------------------------------------------
run 2 refused -s recover.kd_ratio=1.5
complains 'recover.kd_ratio' '1.5'
run 2 refused -s recover.kd_temperature=0
complains 'recover.kd_temperature'
run 2 refused -s recover.teacher="$work/nowhere"
complains 'recover.teacher' 'nowhere'
make_model "$work/words" -s synth.vocab=300
run 2 refused -s recover.teacher="$work/words"
complains 'recover.teacher' '300' '259' 'vocabulary'
cp -r "$work/model" "$work/speech"
sed 's/"<0x41>": 68/"<0x41>": 69/; s/"<0x42>": 69/"<0x42>": 68/' "$work/model/tokenizer.json" > \
    "$work/speech/tokenizer.json"
run 2 refused -s recover.teacher="$work/speech"
complains 'recover.teacher' 'another tokenizer'
make_model "$work/short" -s synth.positions=32
run 2 refused -s recover.teacher="$work/short"
complains 'recover.cutoff = 64' 'recover.teacher' '32 positions'
not_there "$work/refused"
run 2 whole -s recover.teacher="$work/larger"
complains 'teacher'
run 2 whole -s recover.teacher=
complains 'teacher'
run 2 whole -s recover.kd_ratio=0.25
complains 'recover.kd_ratio = 0.5' 'now it is 0.25'
finish
