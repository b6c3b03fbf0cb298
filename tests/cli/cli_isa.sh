#!/bin/sh
# cli_isa.sh: kernels by the processor, by ESPALIER_ISA and by the ranks; the rest of the program is for all processors.
. "$(dirname "$0")/../support/lib.sh"

exits 0 "$ESPALIER" --version
prints '^espalier .* (kernels: [a-z0-9]*)$'
widest=$(sed 's/.*kernels: \(.*\))$/\1/' "$work/out")

ESPALIER_ISA=mmx exits 2 "$ESPALIER" --version
complains 'ESPALIER_ISA = mmx' 'unknown'
[ ! -s "$work/out" ] || fail "a version after an error"

if [ "$(uname -m)" != x86_64 ]; then
    [ "$widest" = generic ] || fail "kernels: $widest"
    finish
fi
for isa in sse2 avx2 avx512; do
    # shellcheck disable=SC2194
    case " sse2 avx2 avx512" in
    *" $widest"*" $isa"*)
        ESPALIER_ISA=$isa exits 2 "$ESPALIER" --version
        complains "ESPALIER_ISA = $isa" 'this processor lacks' "$widest"
        ;;
    *)
        ESPALIER_ISA=$isa exits 0 "$ESPALIER" --version
        prints "(kernels: $isa)"
        ;;
    esac
    [ $isa != "$widest" ] || ESPALIER_ISA='' exits 0 "$ESPALIER" --version
done

# ---- ranks of different widths -------------------------------------------------------------------------
make_model "$work/model"
make_corpus "$work/text.jsonl" 20 1
for name in mixed sse2; do
    cat > "$work/$name.cfg" << END
model = "$work/model";
run_dir = "$work/$name";
calibration = { corpus = "$work/text.jsonl"; samples = 4; sequence = 32; };
END
done
if [ "$widest" = sse2 ]; then
    echo "skipped: this processor has only one width"
else
    exits 0 mpirun -n 1 "$ESPALIER" score -c "$work/mixed.cfg" : \
        -n 1 -x ESPALIER_ISA=sse2 "$ESPALIER" score -c "$work/mixed.cfg"
    [ "$(grep -c "kernels: sse2 on all ranks, the widest of rank 1 (host .*$widest" "$work/err")" -eq 1 ] || fail "widths of ranks not told once"
    ESPALIER_ISA=sse2 exits 0 "$ESPALIER" score -c "$work/sse2.cfg"
    grep 'kernels: ' "$work/err" && fail "one width is worth no word"
    exits 0 h5diff "$work/mixed/importance.h5" "$work/sse2/importance.h5"
fi

# ---- nothing else has vectors of AVX -------------------------------------------------------------------
mkdir "$work/objects"
(cd "$work/objects" && ar x "$OLDPWD/$BUILD/libespalier.a" && cp "$OLDPWD/$BUILD/obj/cli/main.o" .)
for object in "$work"/objects/*.o; do
    case $object in
    */kernels_avx2.o | */kernels_avx512.o) want=yes ;;
    *) want=no ;;
    esac
    objdump -d "$object" | grep -q '%[yz]mm' && got=yes || got=no
    [ $got = $want ] || fail "$(basename "$object"): has vectors of AVX: $got"
done

emulator=$(command -v qemu-x86_64-static || command -v qemu-x86_64)
if [ -n "$emulator" ]; then
    exits 0 "$emulator" -cpu qemu64 "$ESPALIER" --version
    prints '(kernels: sse2)'
    ESPALIER_ISA=avx2 exits 2 "$emulator" -cpu qemu64 "$ESPALIER" --version
    complains 'ESPALIER_ISA = avx2' 'lacks'
else
    echo "skipped: no processor without AVX is emulated here (qemu-user)"
fi
finish
