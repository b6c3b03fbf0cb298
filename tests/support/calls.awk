# calls.awk: which file calls or reads what another one defines, from sources without comments and strings.
# Prints what goes against the layers, and circles: files that need each other, directly or through others.
#
#   awk -v may='tensor>base ...' -f calls.awk FILES FILES
#
# The files of src/ are given twice: what they define is read first, what they use then.

function unit_of(path) { # src/run/stages.c and src/run/stages_impl.h: run/stages
    sub(/^src\//, "", path)
    sub(/(_impl)?\.[a-z]+$/, "", path)
    return path
}
function folder_of(unit,   part) { split(unit, part, "/"); return part[1] }

BEGIN {
    n = split(may, word, " ")
    for (i = 1; i <= n; i++) {
        split(word[i], ends, ">")
        n_to = split(ends[2], to, ",")
        for (k = 1; k <= n_to; k++) allowed[ends[1], to[k]] = 1
    }
}

FNR == 1 {
    pass = FILENAME in seen ? 2 : 1
    seen[FILENAME] = 1
    header = FILENAME ~ /\.h$/
    unit = unit_of(FILENAME)
    inside = 0
}

/^{/ { inside = 1 }
/^}/ { inside = 0 }

# A definition begins at the left margin and its name ends in "(", "[" or " =".
pass == 1 {
    if (!header && /^[a-z]/ && !/^(static|typedef|extern|struct [a-z_]+ \{)/ &&
        match($0, /esp_[a-z0-9_]+(\(|\[| =)/)) {
        name = substr($0, RSTART, RLENGTH)
        sub(/[( \[].*/, "", name)
        home[name] = unit
    }
    next
}

header && !inside { next } # prototypes are no calls

{
    line = $0
    while (match(line, /[A-Za-z0-9_]*esp_[a-z0-9_]+/)) {
        name = substr(line, RSTART, RLENGTH)
        line = substr(line, RSTART + RLENGTH)
        if (!(name in home) || home[name] == unit) continue
        from = folder_of(unit)
        to_folder = folder_of(home[name])
        if (from != to_folder) { # folders make no circle where every allowed call goes down
            if (!((from, to_folder) in allowed))
                print FILENAME ":" FNR ": " from " may not call " name " of " to_folder
        } else if (!((unit, home[name]) in where)) {
            where[unit, home[name]] = FILENAME ":" FNR ": needs " name " of src/" home[name] ".c"
            next_of[unit] = next_of[unit] " " home[name]
        }
    }
}

function reach(start, unit,   list, n, i) { # all that start leads to
    n = split(next_of[unit], list, " ")
    for (i = 1; i <= n; i++)
        if (!((start, list[i]) in leads)) {
            leads[start, list[i]] = 1
            reach(start, list[i])
        }
}

END {
    for (u in next_of) reach(u, u)
    for (pair in where) {
        split(pair, ends, SUBSEP)
        if (!((ends[2], ends[1]) in leads)) continue
        size = 1
        for (u in next_of) size += u != ends[1] && (u, ends[1]) in leads && (ends[1], u) in leads
        print where[pair] ": a circle of " size " files"
    }
}
