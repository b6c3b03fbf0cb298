/* compare_rows.c - runs that differ by nothing but the seed become one row. */
#include "compare_impl.h"

#include <math.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"

/* ---- joining ---------------------------------------------------------------------------------- */

static bool is_dense(const esp_judged *j)
{
    return strcmp(j->model, "dense") == 0;
}

static esp_compare_row *row_of(esp_compare_rows *rows, const esp_judged *j)
{
    for (size_t i = 0; i < rows->n; i++) {
        if (strcmp(rows->row[i].member[0]->made, j->made) == 0) {
            return &rows->row[i];
        }
    }
    rows->row = esp_grow(rows->row, rows->n + 1, sizeof *rows->row);
    rows->row[rows->n] = (esp_compare_row){ 0 };
    return &rows->row[rows->n++];
}

static void add_members(esp_compare_rows *rows, const esp_comparison *c, bool dense)
{
    for (size_t i = 0; i < c->n_judged; i++) {
        if (is_dense(&c->judged[i]) == dense) {
            esp_compare_row *row = row_of(rows, &c->judged[i]);

            row->member = esp_grow(row->member, row->n + 1, sizeof *row->member);
            row->member[row->n++] = &c->judged[i];
        }
    }
}

/* ---- names ------------------------------------------------------------------------------------ */

static size_t common_start(const char *a, const char *b)
{
    size_t n = 0;

    for (; a[n] && a[n] == b[n]; n++) {
    }
    return n;
}

static size_t common_end(const char *a, const char *b, size_t most)
{
    size_t n = 0, na = strlen(a), nb = strlen(b);

    for (; n < most && n < na && n < nb && a[na - n - 1] == b[nb - n - 1]; n++) {
    }
    return n;
}

/* Characters of the folder that all runs lie in, with its slash. */
static size_t common_folder(const esp_comparison *c)
{
    size_t n = strlen(c->judged[0].run);

    for (size_t i = 1; i < c->n_judged; i++) {
        n = esp_min(n, common_start(c->judged[0].run, c->judged[i].run));
    }
    for (; n > 0 && c->judged[0].run[n - 1] != '/'; n--) {
    }
    return n;
}

/* The name of one run, or what the names of several have in common: "ratio=0.2_seed=*". Paths begin after
 * skip characters. The caller frees. */
static char *row_name(const esp_compare_row *row, size_t skip)
{
    const char *first = row->member[0]->run + skip;
    size_t n = strlen(first), start = n, end = n;

    for (size_t i = 1; i < row->n; i++) {
        const char *name = row->member[i]->run + skip;

        start = esp_min(start, common_start(first, name));
        end = common_end(first, name, esp_min(end, esp_min(n, strlen(name)) - start));
    }
    return row->n == 1 ? esp_strdup(first)
                       : esp_format("%.*s*%s", esp_count(start), first, first + n - end);
}

void esp_compare_join(esp_compare_rows *rows, const esp_comparison *c)
{
    size_t n_dense, skip = c->n_judged > 0 ? common_folder(c) : 0;

    *rows = (esp_compare_rows){ 0 };
    add_members(rows, c, true);
    n_dense = rows->n;
    add_members(rows, c, false);
    for (size_t i = 0; i < rows->n; i++) {
        rows->row[i].run = n_dense == 1 && i == 0 ? esp_strdup("-") : row_name(&rows->row[i], skip);
    }
}

void esp_compare_rows_free(esp_compare_rows *rows)
{
    for (size_t i = 0; i < rows->n; i++) {
        free(rows->row[i].run);
        free(rows->row[i].member);
    }
    free(rows->row);
    *rows = (esp_compare_rows){ 0 };
}

/* ---- cells ------------------------------------------------------------------------------------ */

/* The value of a column; false: there is none. */
static bool value_of(double *v, const esp_judged *j, const char *title)
{
    const json_t *value = json_object_get(j->values, title);

    *v = json_is_null(value) ? INFINITY : json_number_value(value);
    return value != NULL;
}

esp_compare_cell esp_compare_cell_of(const esp_compare_row *row, const char *title)
{
    esp_compare_cell cell = { 0 };
    double v, squares = 0;

    for (size_t i = 0; i < row->n; i++) {
        if (value_of(&v, row->member[i], title)) {
            cell.n++;
            cell.mean += v;
        }
    }
    cell.mean = cell.n > 0 ? cell.mean / (double)cell.n : 0;
    for (size_t i = 0; i < row->n; i++) {
        if (value_of(&v, row->member[i], title)) {
            squares += (v - cell.mean) * (v - cell.mean);
        }
    }
    cell.deviation = cell.n > 1 ? sqrt(squares / (double)(cell.n - 1)) : 0;
    return cell;
}

const char *esp_compare_seen(const esp_compare_row *row, const char *title)
{
    for (size_t i = 0; i < row->n; i++) {
        const char *seen = json_string_value(json_object_get(row->member[i]->seen, title));

        if (seen) {
            return seen;
        }
    }
    return NULL;
}
