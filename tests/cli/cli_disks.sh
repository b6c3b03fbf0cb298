#!/bin/sh
# cli_disks.sh: file systems without locks, full disks, and files that become shorter while they are read.
. "$(dirname "$0")/../support/lib.sh"

faulty=$work/faulty.so
${CC:-cc} -D_GNU_SOURCE -shared -fPIC -w -o "$faulty" tests/support/faulty.c || fail "cannot compile tests/support/faulty.c"
with="env LD_PRELOAD=$faulty" # VARIABLE=VALUE... COMMAND: under the library of faults
make_model "$work/model"
make_corpus "$work/train.jsonl" 60 1
cat > "$work/run.cfg" << END
model = "$work/model";
calibration = { corpus = "$work/train.jsonl"; samples = 2; sequence = 32; };
prune = { ratio = 0.3; };
recover = { corpus = "$work/train.jsonl"; steps = 4; batch = 4; cutoff = 64; warmup = 1; save_every = 2; };
eval = { corpus = "$work/train.jsonl"; window = 64; };
END

run() { # run_dir: the command of this test
    echo run -c "$work/run.cfg" -s run_dir="$1"
}

lines() { # COUNT TEXT: lines of stderr with the text
    [ "$(grep -c -e "$2" "$work/err")" -eq "$1" ] || fail "not $1 lines of stderr with \"$2\""
}

no_parts() { # FOLDER: nothing half-written is left
    found=$(find "$1" -name '*espalier-part*' -o -name '*.part' -o -name '*.next')
    [ -z "$found" ] || fail "left half-written: $found"
}

# shellcheck disable=SC2046,SC2086
{
# ---- no locks ----------------------------------------------------------------------------------------
for kind in ENOSYS ENOLCK EOPNOTSUPP; do
    exits 0 $with FAULTY_FLOCK=$kind "$ESPALIER" $(run "$work/$kind")
    lines 1 'warning: .*no locks'
    there "$work/$kind/importance.h5" "$work/$kind/recovered" "$work/$kind/eval.json"
    not_there "$work/$kind/.lock.owner"
done
exits 0 "$ESPALIER" $(run "$work/whole")
cmp "$work/whole/importance.h5" "$work/ENOLCK/importance.h5" || fail "other scores without locks"
exits 0 $with FAULTY_FLOCK=ENOLCK "$ESPALIER" tokenize -s model="$work/model" -s tokenize.corpus="$work/train.jsonl" \
    -s tokenize.output="$work/tokens.h5"
exits 0 $with FAULTY_FLOCK=ENOLCK HDF5_USE_FILE_LOCKING=TRUE "$ESPALIER" score -s model="$work/model" -s run_dir="$work/from-tokens" \
    -s calibration.corpus="$work/tokens.h5" -s calibration.samples=2 -s calibration.sequence=32

# A run that stands still holds its folder; one that was killed does not.
$with FAULTY_FLOCK=ENOLCK "$ESPALIER" $(run "$work/held") -s recover.steps=100000 > "$work/held.log" 2>&1 &
pid=$!
until [ -e "$work/held/.lock.owner" ] || ! kill -0 $pid 2> /dev/null; do sleep 0.02; done
kill -STOP $pid
exits 2 $with FAULTY_FLOCK=ENOLCK "$ESPALIER" $(run "$work/held")
complains "another run works in this run_dir" "host $(uname -n)" "job " "process $pid" "since 20" .lock.owner
exits 2 "$ESPALIER" $(run "$work/held")
complains "another run works in this run_dir" "process $pid"
kill -KILL $pid
wait $pid 2> /dev/null
there "$work/held/.lock.owner"
sed 's/"host":"[^"]*"/"host":"elsewhere"/' "$work/held/.lock.owner" > "$work/owner"
cp "$work/held/.lock.owner" "$work/owner.here"
cp "$work/owner" "$work/held/.lock.owner"
exits 2 $with FAULTY_FLOCK=ENOLCK "$ESPALIER" $(run "$work/held")
complains "host elsewhere" "remove $work/held/.lock.owner"
cp "$work/owner.here" "$work/held/.lock.owner"
exits 0 $with FAULTY_FLOCK=ENOLCK "$ESPALIER" $(run "$work/held") -f
lines 1 "warning: .*taken over from a run that is gone: .*process $pid"
not_there "$work/held/.lock.owner"

# ---- full disks --------------------------------------------------------------------------------------
# All that a run writes, and then runs that find room for less and less of it.
total=$(find "$work/whole" -type f -printf '%s\n' | awk '{ n += $1 } END { print n }')
step=$((total / ${FULL_STEPS:-14}))
room=0
number=0
while [ $room -lt "$total" ]; do
    number=$((number + 1))
    case $((number % 3)) in
    0) error=EDQUOT says='your quota' ;;
    1) error=ENOSPC says='make room' ;;
    2) error=EIO says='Input/output error' ;;
    esac
    exits 1 $with FAULTY_DIR="$work/full" FAULTY_ROOM=$room FAULTY_ERROR=$error "$ESPALIER" $(run "$work/full")
    complains "$work/full/" "$says"
    if grep -q HDF5-DIAG "$work/err"; then fail "HDF5 speaks"; fi
    no_parts "$work/full"
    if [ $((number % 3)) -eq 0 ]; then # room was made
        exits 0 "$ESPALIER" $(run "$work/full")
        cmp "$work/whole/recovered/model.safetensors" "$work/full/recovered/model.safetensors" ||
            fail "a run that went on has another result"
    fi
    rm -rf "$work/full"
    room=$((room + step))
done
echo "$number runs with less room than the $total bytes that they write"

# ---- checkpoints -------------------------------------------------------------------------------------
# A device that fails while ranks transfer a checkpoint together, told or untold, with any implementation of
# MPI-IO: an end with one line, nothing half written, and the same command goes on from what is good.
recover="recover -q -c $work/run.cfg -s run_dir=$work/full"
stopped() { # RANKS VARIABLE=VALUE...: a recovery by them does not get through its checkpoints, and then does
    ranks=$1
    shift
    exits 1 timeout 60 mpirun -n "$ranks" $with FAULTY_DIR="$work/full" FAULTY_ERROR=EIO "$@" "$ESPALIER" $recover
    grep -q "espalier: error: .*$work/full/recover/step-00000[24].h5" "$work/err" || fail "no word of the checkpoint"
    if grep -q HDF5-DIAG "$work/err"; then fail "HDF5 speaks"; fi
    no_parts "$work/full"
    exits 0 timeout 60 mpirun -n "$ranks" "$ESPALIER" $recover
    rm -rf "$work/full"
}
for io in ompio romio321; do
    OMPI_MCA_io=$io
    export OMPI_MCA_io
    for ranks in 1 2 4; do
        stopped $ranks FAULTY_BREAKS=20000
    done
    stopped 3 FAULTY_BREAKS=20000 FAULTY_LIES=1
done
unset OMPI_MCA_io
# Nothing can be reserved, and the disk is full in the midst of a transfer.
for ranks in 1 3; do
    stopped $ranks FAULTY_FALLOCATE=EOPNOTSUPP FAULTY_ROOM=60000
done
recover="$recover -s recover.checkpoint_io=direct"
stopped 2 FAULTY_BREAKS=20000

# No MPI-IO at all: said at once, with the way to do without.
exits 1 timeout 60 mpirun -n 2 env OMPI_MCA_io=none "$ESPALIER" ${recover%=direct}=mpio
complains "$work/full/recover/step-000002.h5" "MPI-IO" "recover.checkpoint_io"
no_parts "$work/full"
exits 0 timeout 60 mpirun -n 2 env OMPI_MCA_io=none "$ESPALIER" $recover
rm -rf "$work/full"

# A disk that is really full, and then is made larger, where this user may mount one.
mkdir "$work/disk"
trap 'umount "$work/disk" 2> /dev/null' EXIT INT TERM
for size in 40k 160k 320k 640k; do
    if ! mount -t tmpfs -o size=$size espalier "$work/disk" 2> /dev/null; then
        echo "skipped: this user may not mount a small disk"
        break
    fi
    exits 1 "$ESPALIER" $(run "$work/disk/run")
    complains "$work/disk/run/" "No space left"
    no_parts "$work/disk/run"
    mount -o remount,size=8m "$work/disk"
    exits 0 "$ESPALIER" $(run "$work/disk/run")
    cmp "$work/whole/recovered/model.safetensors" "$work/disk/run/recovered/model.safetensors" ||
        fail "another result on a disk that was full"
    umount "$work/disk"
done

# One that is read only is told before anything is made.
if mount -t tmpfs -o ro espalier "$work/disk" 2> /dev/null; then
    for kind in model corpus tokenizer; do
        exits 2 "$ESPALIER" synth -s synth.kind=$kind -s synth.corpus="$work/train.jsonl" -s synth.output="$work/disk/it"
        complains "$work/disk/it" "cannot write in $work/disk" 'Read-only'
    done
    umount "$work/disk"
fi

# An earlier result stays.
before=$(cksum < "$work/tokens.h5")
exits 1 $with FAULTY_DIR="$work/tokens" FAULTY_ROOM=70000 "$ESPALIER" tokenize -f -s model="$work/model" \
    -s tokenize.corpus="$work/train.jsonl" -s tokenize.output="$work/tokens.h5"
complains tokens.h5 "make room"
[ "$before" = "$(cksum < "$work/tokens.h5")" ] || fail "an earlier token file has changed"
exits 1 $with FAULTY_DIR="$work/synth" FAULTY_ROOM=3000 "$ESPALIER" synth -s synth.output="$work/synth" -s synth.layers=1
complains "$work/synth" "make room"
not_there "$work/synth" "$work/synth.part"
exits 1 $with FAULTY_DIR="$work/estimate" FAULTY_ROOM=10 "$ESPALIER" estimate -c "$work/run.cfg" \
    -s estimate.output="$work/estimate.json"
complains estimate.json "make room"
mkdir "$work/scratch"
exits 1 $with FAULTY_DIR="$work/scratch" FAULTY_ROOM=100 "$ESPALIER" $(run "$work/active") \
    -s parallel.scratch="$work/scratch"
complains "$work/scratch" "no room for" parallel.scratch
exits 1 sh -c '"$@" > /dev/full' sh "$ESPALIER" config --reference
complains "standard output"

# ---- files that become shorter -----------------------------------------------------------------------
for ranks in 1 2; do
    cp -r "$work/model" "$work/short"
    exits 1 timeout 60 mpirun -n $ranks env LD_PRELOAD="$faulty" FAULTY_SHRINK="$work/short/model.safetensors" "$ESPALIER" \
        score -s model="$work/short" -s run_dir="$work/shrunk" -s calibration.corpus="$work/train.jsonl"
    grep -q "espalier: error: $work/short/model.safetensors: .*became shorter" "$work/err" || fail "no word of the file"
    rm -rf "$work/short"
done
}

finish
