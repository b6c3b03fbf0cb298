/* cmd_compare.c - what several runs found, in one table; works on login nodes. */
#include <stdlib.h>
#include <string.h>

#include "command_impl.h"
#include "espalier/compare.h"
#include "espalier/file.h"
#include "espalier/log.h"
#include "espalier/run.h"

/* As asked for, else by the ending of the output. */
static esp_status choose_format(esp_table_format *f, const esp_arguments *a)
{
    *f = a->output ? esp_table_format_of(a->output) : ESP_TABLE_PLAIN;
    if (!a->format) {
        return ESP_OK;
    }
    for (*f = 0; *f < ESP_N_TABLE_FORMATS; (*f)++) {
        if (strcmp(esp_table_format_name(*f), a->format) == 0) {
            return ESP_OK;
        }
    }
    return esp_fail(ESP_EUSAGE, "--format %s: must be one of table csv markdown", a->format);
}

/* Whether a file is a table that this command has written: all of them begin with its first title. */
static bool is_table(const char *path)
{
    char begin[8] = "";
    FILE *f = fopen(path, "r");

    if (f) {
        begin[fread(begin, 1, sizeof begin - 1, f)] = '\0';
        fclose(f);
    }
    return strncmp(begin, "run", 3) == 0 || strncmp(begin, "| run", 5) == 0;
}

static esp_status check_output(const esp_arguments *a)
{
    if (!a->output) {
        return ESP_OK;
    }
    ESP_TRY(esp_run_check_apart(a->output));
    return esp_output_check(a->output, "a table of espalier compare",
                            a->force && is_table(a->output));
}

/* Adds what can be read; a run that cannot is named, and its status is kept. */
static esp_status add_runs(esp_comparison *c, const esp_arguments *a)
{
    esp_status st = ESP_OK;

    for (size_t i = 0; i < a->n_runs; i++) {
        esp_status one = esp_compare_add(c, a->runs[i]);

        if (one != ESP_OK) {
            esp_warn("compare: %s", esp_error_message());
            st = one;
        }
    }
    return st;
}

static esp_status write_table(const esp_comparison *c, esp_table_format f, const char *output)
{
    char *text = esp_compare_text(c, f);
    esp_status st = ESP_OK;

    if (output) {
        st = esp_file_write(output, text, strlen(text));
    } else {
        fputs(text, stdout);
    }
    free(text);
    return st;
}

esp_status cmd_compare(const esp_arguments *a)
{
    esp_comparison c = { 0 };
    esp_table_format f;
    esp_status st, written = ESP_OK;

    if (a->n_runs == 0) {
        return esp_fail(ESP_EUSAGE, "compare: name the folders of runs: espalier compare RUN...");
    }
    ESP_TRY(choose_format(&f, a));
    ESP_TRY(check_output(a));
    st = add_runs(&c, a);
    if (c.n_judged > 0) {
        written = write_table(&c, f, a->output);
    }
    if (st != ESP_OK) {
        esp_fail(st, "compare: not all of the %zu runs could be read%s", a->n_runs,
                 c.n_judged > 0 ? "; the table is of the others" : ", none has results");
    }
    esp_compare_free(&c);
    return written != ESP_OK ? written : st;
}
