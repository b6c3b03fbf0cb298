/* compare_text.c - a comparison as a table for the terminal, as CSV and as Markdown. */
#include "compare_impl.h"

#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"

/* ---- a grid of texts -------------------------------------------------------------------------- */

typedef struct grid {
    char **text; /* [rows, columns] owned, each owned; the first row are titles */
    size_t rows, columns;
    size_t names; /* the first columns: to the left in their column, as text is */
} grid;

/* Appends a cell to the last row; takes text. */
static void put(grid *g, char *text)
{
    g->text[g->columns++] = text;
}

static void grid_free(grid *g)
{
    for (size_t i = 0; i < g->rows * g->columns; i++) {
        free(g->text[i]);
    }
    free(g->text);
}

static size_t width_of(const grid *g, size_t column)
{
    size_t width = 0;

    for (size_t r = 0; r < g->rows; r++) {
        width = esp_max(width, strlen(g->text[r * g->columns + column]));
    }
    return width;
}

static void print_plain(FILE *to, const grid *g)
{
    for (size_t r = 0; r < g->rows; r++) {
        for (size_t c = 0; c < g->columns; c++) {
            int width = esp_count(width_of(g, c));
            bool last = c + 1 == g->columns;

            fprintf(to, "%s%*s", c ? "  " : "",
                    c >= g->names ? width
                    : last        ? 0
                                  : -width,
                    g->text[r * g->columns + c]);
        }
        fputc('\n', to);
    }
}

/* As RFC 4180 has it. */
static void print_csv(FILE *to, const grid *g)
{
    for (size_t i = 0; i < g->rows * g->columns; i++) {
        const char *s = g->text[i];
        bool quoted = strpbrk(s, ",\"\r\n");

        fputs(quoted ? "\"" : "", to);
        for (; *s; s++) {
            fputs(quoted && *s == '"' ? "\"" : "", to);
            fputc(*s, to);
        }
        fputs(quoted ? "\"" : "", to);
        fputc((i + 1) % g->columns ? ',' : '\n', to);
    }
}

static void print_markdown(FILE *to, const grid *g)
{
    for (size_t r = 0; r < g->rows; r++) {
        for (size_t c = 0; c < g->columns; c++) {
            fputs(c ? " | " : "| ", to);
            for (const char *s = g->text[r * g->columns + c]; *s; s++) {
                fputs(strchr("|*_\\", *s) ? "\\" : "", to);
                fputc(*s, to);
            }
        }
        fputs(" |\n", to);
        for (size_t c = 0; r == 0 && c < g->columns; c++) {
            fprintf(to, "|---%s%s", c >= g->names ? ":" : "", c + 1 == g->columns ? "|\n" : "");
        }
    }
}

static const struct format {
    const char *name, *ending;
    void (*print)(FILE *to, const grid *g);
    bool exact; /* all digits, deviations in columns of their own, no notes */
} formats[ESP_N_TABLE_FORMATS] = {
    [ESP_TABLE_PLAIN] = { "table", ".txt", print_plain, false },
    [ESP_TABLE_CSV] = { "csv", ".csv", print_csv, true },
    [ESP_TABLE_MARKDOWN] = { "markdown", ".md", print_markdown, false },
};

const char *esp_table_format_name(unsigned f)
{
    return f < ESP_N_TABLE_FORMATS ? formats[f].name : NULL;
}

esp_table_format esp_table_format_of(const char *path)
{
    const char *ending = strrchr(path, '.');

    for (esp_table_format f = 0; ending && f < ESP_N_TABLE_FORMATS; f++) {
        if (strcmp(ending, formats[f].ending) == 0) {
            return f;
        }
    }
    return ESP_TABLE_PLAIN;
}

/* ---- cells ------------------------------------------------------------------------------------ */

static const struct shown {
    double scale;
    int decimals;
    const char *unit;
} shown[] = { [ESP_COLUMN_PARAMETERS] = { 1, 0, "" }, [ESP_COLUMN_SHARE] = { 100, 2, "%" },
              [ESP_COLUMN_MACS] = { 1, 0, "" },       [ESP_COLUMN_BYTES] = { 1, 0, "" },
              [ESP_COLUMN_PERPLEXITY] = { 1, 3, "" }, [ESP_COLUMN_TASK] = { 1, 4, "" },
              [ESP_COLUMN_MEAN] = { 1, 4, "" } };

/* For people: "36.512 +- 0.204", with a star where its text was read to make the model. */
static char *cell_text(const esp_compare_column *column, const esp_compare_row *row)
{
    esp_compare_cell cell = esp_compare_cell_of(row, column->title);
    const struct shown *s = &shown[column->kind];
    const char *star = esp_compare_seen(row, column->title) ? "*" : "";

    if (cell.n == 0) {
        return esp_strdup("-");
    }
    if (cell.n == 1 || cell.deviation == 0) {
        return esp_format("%.*f%s%s", s->decimals, cell.mean * s->scale, s->unit, star);
    }
    return esp_format("%.*f +- %.*f%s%s", s->decimals, cell.mean * s->scale, s->decimals,
                      cell.deviation * s->scale, s->unit, star);
}

/* A number that is read back as it was; "" where it is none. */
static char *exact_text(double v)
{
    char *s;

    if (isnan(v)) {
        return esp_strdup("");
    }
    s = esp_format("%.12g", v); /* eval.json has 12 digits */
    if (strtod(s, NULL) != v) {
        free(s);
        s = esp_format("%.17g", v);
    }
    return s;
}

/* All texts of the columns that were read to make the models of a row: "web.perplexity=calibration". */
static char *seen_text(const esp_comparison *c, const esp_compare_row *row)
{
    char *all = esp_strdup("");

    for (size_t i = 0; i < c->n_columns; i++) {
        const char *seen = esp_compare_seen(row, c->column[i].title);

        if (seen) {
            char *more = esp_format("%s%s%s=%s", all, *all ? " " : "", c->column[i].title, seen);

            free(all);
            all = more;
        }
    }
    return all;
}

/* ---- the table -------------------------------------------------------------------------------- */

static void put_titles(grid *g, const esp_comparison *c, bool exact)
{
    put(g, esp_strdup("run"));
    put(g, esp_strdup("model"));
    put(g, esp_strdup("n"));
    for (size_t i = 0; i < c->n_columns; i++) {
        put(g, esp_strdup(c->column[i].title));
        if (exact) {
            put(g, esp_format("%s sd", c->column[i].title));
        }
    }
    if (exact) {
        put(g, esp_strdup("seen"));
    }
}

static void put_row(grid *g, const esp_comparison *c, const esp_compare_row *row, bool exact)
{
    put(g, esp_strdup(row->run));
    put(g, esp_strdup(row->member[0]->model));
    put(g, esp_format("%zu", row->n));
    for (size_t i = 0; i < c->n_columns; i++) {
        esp_compare_cell cell = esp_compare_cell_of(row, c->column[i].title);

        if (exact) {
            put(g, exact_text(cell.n > 0 ? cell.mean : NAN));
            put(g, exact_text(cell.n > 1 ? cell.deviation : NAN));
        } else {
            put(g, cell_text(&c->column[i], row));
        }
    }
    if (exact) {
        put(g, seen_text(c, row));
    }
}

/* Of a grid that is filled cell by cell with that many rows: how many columns these are. */
static void square(grid *g, size_t rows)
{
    g->rows = rows;
    g->columns /= rows;
}

static void print_values(FILE *to, const esp_comparison *c, const esp_compare_rows *rows,
                         const struct format *f)
{
    grid g = { .names = 2 };

    ESP_NEW(g.text, (rows->n + 1) * (4 + 2 * c->n_columns));
    put_titles(&g, c, f->exact);
    for (size_t r = 0; r < rows->n; r++) {
        put_row(&g, c, &rows->row[r], f->exact);
    }
    square(&g, rows->n + 1);
    f->print(to, &g);
    grid_free(&g);
}

/* ---- notes ------------------------------------------------------------------------------------ */

/* Which rows were made with the text of a column: "calibration of a, b"; the caller frees. */
static char *readers_text(const char *title, const esp_compare_rows *rows)
{
    char *all = esp_strdup("");

    for (size_t r = 0; r < rows->n; r++) {
        const char *seen = esp_compare_seen(&rows->row[r], title);

        if (seen) {
            char *more = esp_format("%s%s%s of %s (%s)", all, *all ? ", " : "", seen,
                                    rows->row[r].run, rows->row[r].member[0]->model);

            free(all);
            all = more;
        }
    }
    if (!*all) {
        free(all);
        all = esp_strdup("none");
    }
    return all;
}

/* What each column judges, and which rows were made with that text. */
static void print_notes(FILE *to, const esp_comparison *c, const esp_compare_rows *rows,
                        const struct format *f)
{
    grid g = { .names = 3 };
    size_t n = 1;

    ESP_NEW(g.text, 3 * (c->n_columns + 1));
    put(&g, esp_strdup("column"));
    put(&g, esp_strdup("judges"));
    put(&g, esp_strdup("* made with this text"));
    for (size_t i = 0; i < c->n_columns; i++) {
        if (*c->column[i].test) {
            put(&g, esp_strdup(c->column[i].title));
            put(&g, esp_strdup(c->column[i].test));
            put(&g, readers_text(c->column[i].title, rows));
            n++;
        }
    }
    square(&g, n);
    if (n > 1) {
        fputc('\n', to);
        f->print(to, &g);
    }
    grid_free(&g);
}

char *esp_compare_text(const esp_comparison *c, esp_table_format format)
{
    const struct format *f = &formats[format];
    esp_compare_rows rows;
    char *text = NULL;
    size_t n;
    FILE *to = open_memstream(&text, &n);

    ESP_REQUIRE(to);
    esp_compare_join(&rows, c);
    print_values(to, c, &rows, f);
    if (!f->exact) {
        print_notes(to, c, &rows, f);
    }
    esp_compare_rows_free(&rows);
    ESP_REQUIRE(fclose(to) == 0);
    return text;
}
