#!/bin/sh
# headers.sh FLAGS: each header of the sources compiles by itself, and all of them compile together, each once:
# no name means two things. FLAGS are those of the compiler.
cd "$(dirname "$0")/../.." || exit 1
: "${CC:=mpicc}" "${JOBS:=$(nproc)}"
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
headers=$(find include src -name '*.h' | sort)

# shellcheck disable=SC2086
# Of two headers with the same guard the second would be empty.
grep -h -m 1 '^#ifndef' $headers | sort | uniq -d | while read -r _ guard; do
    # shellcheck disable=SC2086
    grep -n "^#ifndef $guard\$" $headers | sed 's/#ifndef.*/the guard of another header, too/'
done > "$work/found"
for h in $headers; do
    echo "#include \"$PWD/$h\"" | tee -a "$work/together.c" > "$work/$(echo "$h" | tr / -).c"
done
find "$work" -name '*.c' -print0 | xargs -0 -n 20 -P "$JOBS" \
    "$CC" "$@" -fsyntax-only -Wall -Wextra -Werror -Wno-unused-function 2>> "$work/found"
if [ -s "$work/found" ]; then
    cat "$work/found"
    exit 1
fi
echo "headers: clean ($(echo "$headers" | wc -l) alone and together)"
