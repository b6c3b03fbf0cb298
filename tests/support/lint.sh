#!/bin/sh
# lint.sh: format, layers, banned calls, sizes and spaces, over the sources of the repository.
# Every finding is "file:line: what"; notes do not fail, the rest does.
cd "$(dirname "$0")/../.." || exit 1

# Layers (ARCHITECTURE.md), from the lowest up, and what each folder may include and call; all of it lies below.
LAYERS='base tensor format model text prune recover eval export synth config estimate run compare cli'
MAY='tensor>base format>base,tensor model>base,tensor,format text>base,tensor,format
     prune>base,tensor,format,model recover>base,tensor,format,model eval>base,tensor,model,text
     export>base,tensor,format,model synth>base,tensor,model,export config>base,tensor,model,text,prune,recover,eval,synth
     estimate>base,tensor,model,prune,recover,eval,export,config
     run>base,tensor,model,text,prune,recover,eval,export,config,estimate
     compare>base,text,run
     cli>base,tensor,format,model,text,prune,eval,export,synth,config,estimate,run,compare'
MAY=$(echo "$MAY" | tr -s " \n" " ")

NOTE_LINES=60 MOST_LINES=80 # of a function
NOTE_FILE=600 MOST_FILE=700
MOST_COLUMNS=110 # code ends at 100 (clang-format); a comment in a table may pass it a little

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT INT TERM
sources=$(find src include tests -name '*.[ch]' -o -name '*.cc' | sort)
texts=$(find src include tests jobs slurm configs docs ./*.md CITATION.cff Makefile .ci -type f \
    ! -name '*.safetensors' ! -name '*.h5' ! -name '*.model' ! -name '*.json' 2> /dev/null | sort)

# ---- format --------------------------------------------------------------------------------------
formatter=$(command -v clang-format-14 || command -v clang-format)
if [ -n "$formatter" ]; then
    # shellcheck disable=SC2086
    "$formatter" --dry-run -Werror $sources 2>&1 | grep ': error:' |
        sed 's/ error: code should be clang-formatted.*/ is not formatted (make format)/'
else
    echo "clang-format is missing" >&2
    exit 1
fi > "$work/found"

# ---- the code without comments, strings and characters, line by line ------------------------------
for f in $sources; do
    mkdir -p "$work/bare/$(dirname "$f")"
    awk '{
        line = $0; out = ""
        while (line != "") {
            if (inside) {
                at = index(line, "*/")
                if (!at) break
                line = substr(line, at + 2); inside = 0
            } else if (match(line, /\/\*|\/\/|"([^"\\]|\\.)*"|\047([^\047\\]|\\.)*\047/)) {
                token = substr(line, RSTART, 2)
                out = out substr(line, 1, RSTART - 1) " "
                line = substr(line, RSTART + RLENGTH)
                if (token == "/*") inside = 1
                if (token == "//") line = ""
            } else {
                out = out line; line = ""
            }
        }
        print out
    }' "$f" > "$work/bare/$f"
done

# ---- banned calls --------------------------------------------------------------------------------
banned() { # extended-regexp reason files...
    regexp=$1 reason=$2
    shift 2
    [ $# -eq 0 ] || (cd "$work/bare" && grep -nEH "(^|[^A-Za-z0-9_])($regexp)" "$@") |
        sed -E "s/^([^:]*:[0-9]+):.*/\1: $reason/"
}
library=$(find src include -name '*.[ch]' ! -path 'src/cli/*' | sort)
under_world=$(find src include -name '*.[ch]' ! -path src/cli/main.c ! -path src/base/status.c | sort)
allocating=$(find src -name '*.[ch]' ! -path src/base/mem.c | sort)
{
    # shellcheck disable=SC2086
    banned '(gets|strcpy|strcat|sprintf|vsprintf|strtok|atoi|atol|atof|alloca|rand|srand) *\(' \
        'banned call (no bound, no error or hidden state)' $sources
    # shellcheck disable=SC2086
    banned 'assert *\(' 'assert: ESP_REQUIRE for bugs, a status for input' $sources
    # shellcheck disable=SC2086
    banned '(_?exit|abort|MPI_Abort) *\(' 'a library does not end the program' $library |
        grep -v '^src/base/status.c:' # esp_bug
    # shellcheck disable=SC2086
    banned 'MPI_COMM_WORLD' 'MPI_COMM_WORLD is for main.c and tests' $under_world
    # shellcheck disable=SC2086
    banned '(malloc|calloc|realloc|strdup|asprintf) *\(' 'unchecked memory: see mem.h' $allocating
} >> "$work/found"

# ---- layers --------------------------------------------------------------------------------------
# "file line included first" of every #include in quotes; first: 1 for the file's first one.
for f in $(find src include -name '*.[ch]' -o -name '*.cc' | sort); do
    awk -v f="$f" '/^#include "/ { split($0, part, "\""); print f, FNR, part[2], !seen++ }' "$f"
done > "$work/includes"

# A header belongs to the folder of the source that bears its name, else of those that include it first.
awk -v layers="$LAYERS" -v may="$MAY" '
function folder_of(path,   part) { split(path, part, "/"); return part[2] }
function stem(path) { sub(/.*\//, "", path); sub(/\.[a-z]*$/, "", path); return path }
BEGIN {
    n = split(layers, word, " ")
    for (i = 1; i <= n; i++) layer[word[i]] = i
    n = split(may, word, " ")
    for (i = 1; i <= n; i++) {
        split(word[i], ends, ">")
        n_to = split(ends[2], to, ",")
        for (k = 1; k <= n_to; k++) {
            allowed[ends[1], to[k]] = 1
            if (!(layer[to[k]] < layer[ends[1]])) print "tests/support/lint.sh:1: MAY: " ends[1] ">" to[k] " goes up"
        }
    }
}
FNR == NR {
    if ($1 ~ /^src\// && $3 ~ /^espalier\//) {
        folder = folder_of($1)
        if (stem($1) == stem($3)) named[$3] = folder
        else if ($4 && $1 ~ /\.c/) {
            if ($3 in first && first[$3] != folder) clash[$3] = first[$3] " and " folder
            first[$3] = folder
        }
    }
    next
}
{
    where = $1 ":" $2 ": "
    home = $1 ~ /^src\// ? folder_of($1) : ("espalier/" stem($1) ".h")
    if (home in named) home = named[home]; else if (home in first) home = first[home]
    if ($1 ~ /^src\// && !(home in layer)) { print where "folder " home " is in no layer"; next }
    if ($3 !~ /^espalier\//) {
        if ($3 !~ /_impl\.h$/ && $3 !~ /\.h$/) print where "includes " $3
        if ($3 ~ /\// && $3 !~ ("^" home "/")) print where $3 " is private to another folder"
        next
    }
    target = $3 in named ? named[$3] : first[$3]
    if (!($3 in named) && $3 in clash) print where $3 " is claimed by " clash[$3]
    if (target == "" || !(home in layer)) next # a header that nothing implements yet
    if (home != target && !((home, target) in allowed)) print where home " may not include " $3 " of " target
}' "$work/includes" "$work/includes" | sort -u >> "$work/found"

# Calls, likewise, and circles of files.
calling=$(find src -name '*.[ch]' -o -name '*.cc' | sort)
# shellcheck disable=SC2086
(cd "$work/bare" && awk -v may="$MAY" -f "$OLDPWD/tests/support/calls.awk" $calling $calling) | sort >> "$work/found"

# ---- sizes ---------------------------------------------------------------------------------------
for f in $sources; do
    awk -v f="$f" -v note=$NOTE_LINES -v most=$MOST_LINES -v file_note=$NOTE_FILE \
        -v file_most=$MOST_FILE '
    /^{/ { began = FNR }
    /^}/ && began {
        n = FNR - began - 1; began = 0
        if (n > most) print f ":" FNR - n ": function of " n " lines"
        else if (n > note) print "note: " f ":" FNR - n ": function of " n " lines"
    }
    END {
        if (FNR > file_most) print f ":1: file of " FNR " lines"
        else if (FNR > file_note) print "note: " f ":1: file of " FNR " lines"
    }' "$work/bare/$f"
done > "$work/sizes"
grep -v '^note: ' "$work/sizes" >> "$work/found"
grep '^note: ' "$work/sizes"

# ---- spaces --------------------------------------------------------------------------------------
tab=$(printf '\t')
{
    # shellcheck disable=SC2086
    grep -nE '[[:blank:]]+$' $texts /dev/null | sed -E 's/^([^:]*:[0-9]+):.*/\1: spaces at the end/'
    # shellcheck disable=SC2086
    grep -n "$tab" $texts /dev/null | grep -v '^Makefile:' | sed -E 's/^([^:]*:[0-9]+):.*/\1: tab/'
    # shellcheck disable=SC2086
    awk -v most=$MOST_COLUMNS 'length > most { print FILENAME ":" FNR ": " length " columns" }' $sources
} >> "$work/found"

# ---- pages ---------------------------------------------------------------------------------------
# Every link between pages leads to a file and, behind "#", to a heading of it; every path in backquotes is there.
pages=$(find . -name '*.md' ! -path './build/*' ! -path './.git/*' | sort)
headings() { # as anchors
    sed -n 's/^##* //p' "$1" | tr 'A-Z ' 'a-z-' | sed 's/[^a-z0-9_-]//g'
}
for page in $pages; do
    grep -noE '\]\([^)]*\)' "$page" | sed -E 's/^([0-9]+):\]\((.*)\)/\1 \2/' | while read -r line link; do
        file=${link%%#*} anchor=${link#"${link%%#*}"}
        case $link in http://* | https://* | mailto:*) continue ;; esac
        target=$page
        [ -z "$file" ] || target=$(dirname "$page")/$file
        if [ ! -e "$target" ]; then
            echo "$page:$line: no such file: $link"
        elif [ -n "$anchor" ] && ! headings "$target" | grep -qxF "${anchor#\#}"; then
            echo "$page:$line: no such heading: $link"
        fi
    done
    grep -noE '`(src|include|tests|jobs|slurm|configs|docs)/[^` ]*`' "$page" | tr -d '`' | sed 's/<[^>]*>/*/g' |
        while IFS=: read -r line path; do
            # shellcheck disable=SC2086
            ls -d $path > /dev/null 2>&1 || echo "$page:$line: no such path: $path"
        done
done >> "$work/found"
# Equations that comments cite are there, each once.
{
    grep -oE '^    \([0-9]+\) ' docs/method.md | sort | uniq -d | sed 's/^ */docs\/method.md: two equations are /'
    grep -rnoE 'method\.md, eq\. [0-9]+(-[0-9]+)?' src include | while IFS=: read -r file line cite; do
        for number in $(echo "${cite##* }" | tr '-' ' '); do
            grep -q "^    ($number) " docs/method.md || echo "$file:$line: no such equation: $cite"
        done
    done
} >> "$work/found"

if [ -s "$work/found" ]; then
    cat "$work/found"
    echo "lint: $(wc -l < "$work/found") findings"
    exit 1
fi
echo "lint: clean ($(echo "$sources" | wc -l) files)"
