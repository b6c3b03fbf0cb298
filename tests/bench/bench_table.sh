#!/bin/sh
# bench_table.sh REFERENCE: the ratios of a reference of the benchmarks as a table of Markdown, a column for each
# layout (ranks x threads), rows in the order of the file.
awk -F '"bench": |, "ranks": |, "threads": |, "ratio": |, "of": |}' '
/"bench"/ {
    row = $2 SUBSEP $6; gsub(/"/, "", row)
    if (!(row in known)) { known[row]; order[++n] = row }
    ratio[row, $3 "x" $4] = sprintf("%.2f", $5)
}
END {
    print "| benchmark | 1 x 2 | 2 x 1 | relative to |\n|---|---|---|---|"
    for (i = 1; i <= n; i++) {
        split(order[i], part, SUBSEP)
        printf "| %s | %s | %s | %s |\n", part[1], ratio[order[i], "1x2"], ratio[order[i], "2x1"], part[2]
    }
}' "$1"
