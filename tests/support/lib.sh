# lib.sh: what the tests in tests/cli share; they source it. No test by itself.
: "${ESPALIER:?}" "${ESPALIER_TEST_DIR:?}"
work=$ESPALIER_TEST_DIR
# shellcheck disable=SC2034
shared=${ESPALIER_SHARED:-../shared} # for the tests
failures=0
cd "$(dirname "$0")/../.." || exit 1

fail() { # what the last command said is shown once
    echo "FAILED: $*"
    tail -n 15 "$work/out" "$work/err" 2> /dev/null
    : > "$work/out"
    : > "$work/err"
    failures=$((failures + 1))
}

finish() {
    echo "$failures failures"
    [ $failures -eq 0 ]
    exit
}

# exits CODE COMMAND...: leaves what it says in $work/out and $work/err
exits() {
    want=$1
    shift
    timeout 120 "$@" > "$work/out" 2> "$work/err" < /dev/null
    got=$?
    [ $got -eq "$want" ] || fail "exit $got, wanted $want: $*"
}

# on2 CODE ARGUMENT...: the program on two ranks, each of which ends with CODE. The code of each rank is looked
# at, and not mpirun's: as soon as one rank has failed, Open MPI waits a second and kills the others.
on2() {
    code=$1
    shift
    : > "$work/codes"
    OMPI_MCA_orte_abort_on_non_zero_status=0 \
        exits 0 mpirun -n 2 sh -c '"$@"; echo $? >> "$0"' "$work/codes" "$ESPALIER" "$@"
    codes=$(tr '\n' ' ' < "$work/codes")
    [ "$codes" = "$code $code " ] || fail "exit codes $codes, wanted $code on both ranks: $*"
}

prints() {
    grep -q -e "$1" "$work/out" || fail "no \"$1\" on stdout"
}

complains() { # of each of the arguments, in one line
    grep 'espalier: error:' "$work/err"
    [ "$(grep -c 'espalier: error:' "$work/err")" -eq 1 ] || fail "not one line of error"
    for word; do
        grep 'espalier: error:' "$work/err" | grep -q -F -e "$word" || fail "no \"$word\" in the error"
    done
}

there() {
    for name; do
        [ -e "$name" ] || fail "$name is missing"
    done
}

not_there() {
    for name; do
        [ ! -e "$name" ] || fail "$name is there"
    done
}

# json FILE KEY...: the number or string at a path of keys, from what this program writes (one key a line)
json() {
    file=$1 path=$*
    path=${path#"$file"}
    awk -v path="$path" '
    BEGIN { n = split(path, key, " "); at = 1 }
    index($0, "\"" key[at] "\":") {
        if (at++ == n) {
            sub(/^[^:]*: */, ""); sub(/,$/, ""); gsub(/"/, ""); print; exit
        }
    }' "$file"
}

# A small model with a tokenizer of bytes: token = byte + 3.
make_model() { # folder [setting...]
    model=$1
    shift
    timeout 60 "$ESPALIER" synth -q -s synth.output="$model" -s synth.layers=3 -s synth.hidden=32 \
        -s synth.mlp=48 -s synth.vocab=259 -s synth.positions=128 -s synth.dtype=F32 -s synth.std=0.1 \
        "$@" || fail "synth"
    awk 'BEGIN {
        printf "{\"added_tokens\": [{\"id\": 1, \"content\": \"<s>\", \"special\": true},"
        printf "{\"id\": 2, \"content\": \"</s>\", \"special\": true}],"
        printf "\"decoder\": {\"type\": \"Sequence\", \"decoders\":"
        printf "[{\"type\": \"ByteFallback\"}, {\"type\": \"Fuse\"}]},"
        printf "\"model\": {\"type\": \"BPE\", \"unk_token\": \"<unk>\", \"byte_fallback\": true,"
        printf "\"merges\": [], \"vocab\": {\"<unk>\": 0, \"<s>\": 1, \"</s>\": 2"
        for (i = 0; i < 256; i++) printf ", \"<0x%02X>\": %d", i, i + 3
        print "}}}"
    }' > "$model/tokenizer.json"
}

# Sentences of a small grammar, a document a line of JSONL, the same for the same seed.
make_corpus() { # file documents seed
    awk -v n="$2" -v seed="$3" '
    function pick(words,   w, k) { k = split(words, w, " "); return w[int(rand() * k) + 1] }
    BEGIN {
        srand(seed)
        for (i = 0; i < n; i++) {
            text = ""
            for (j = 0; j < 4; j++)
                text = text "the " pick("cat dog bird fox") " " pick("saw met fed") " the " \
                    pick("tree pond hill") ". "
            printf "{\"text\": \"%s\"}\n", text
        }
    }' > "$1"
}
