/* config_text.c - settings as a libconfig file, as help, and as docs/settings.md. */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"
#include "espalier/settings.h"
#include "config_impl.h"

/* ---- libconfig -------------------------------------------------------------------------------- */

static void put_string(FILE *to, const char *text, size_t n)
{
    fputc('"', to);
    for (size_t i = 0; i < n; i++) {
        unsigned char ch = (unsigned char)text[i];

        if (ch == '"' || ch == '\\') {
            fprintf(to, "\\%c", ch);
        } else if (ch < 0x20) {
            fprintf(to, "\\x%02x", ch);
        } else {
            fputc(ch, to);
        }
    }
    fputc('"', to);
}

static void put_list(FILE *to, const char *text)
{
    fputs("[", to);
    while (*text) {
        size_t n = strcspn(text, ",");

        put_string(to, text, n);
        text += n;
        if (*text == ',') {
            fputs(", ", to);
            text++;
        }
    }
    fputs("]", to);
}

static void put_value(FILE *to, const esp_option *o, const char *text)
{
    char *path;

    switch (o->type) {
    case ESP_O_PATH:
        path = esp_path_unexpand(text);
        put_string(to, path, strlen(path));
        free(path);
        break;
    case ESP_O_STRING:
    case ESP_O_BYTES:
    case ESP_O_CHOICE:
    case ESP_O_EITHER:
        put_string(to, text, strlen(text));
        break;
    case ESP_O_FILES:
        path = esp_path_unexpand(text);
        put_list(to, path);
        free(path);
        break;
    case ESP_O_SET:
    case ESP_O_LIST:
    case ESP_O_LAYERS:
        put_list(to, text);
        break;
    default:
        fputs(text, to);
        break;
    }
}

/* Bytes of the groups of a path that another path has as well: "prune.target." of 13. */
static size_t common_groups(const char *a, const char *b)
{
    size_t common = 0;

    for (size_t i = 0; a[i] && a[i] == b[i]; i++) {
        if (a[i] == '.') {
            common = i + 1;
        }
    }
    return common;
}

static size_t depth(const char *path, size_t n)
{
    size_t d = 0;

    for (size_t i = 0; i < n; i++) {
        d += path[i] == '.';
    }
    return d;
}

static void indent(FILE *to, size_t levels)
{
    fprintf(to, "%*s", (int)(4 * levels), "");
}

/* Closes the groups of path beyond its first keep bytes. */
static void close_groups(FILE *to, const char *path, size_t keep)
{
    for (size_t d = depth(path, strlen(path)); d > depth(path, keep); d--) {
        indent(to, d - 1);
        fputs("};\n", to);
    }
}

static void open_groups(FILE *to, const char *path, size_t keep)
{
    const char *at = path + keep;

    for (const char *dot; (dot = strchr(at, '.')); at = dot + 1) {
        indent(to, depth(path, (size_t)(at - path)));
        fprintf(to, "%.*s = {\n", (int)(dot - at), at);
    }
}

char *esp_config_text(const esp_config *c)
{
    char *result = NULL;
    size_t n;
    FILE *to = open_memstream(&result, &n);
    const char *before = "";

    ESP_REQUIRE(to);
    for (size_t i = 0; i < esp_n_options; i++) {
        const esp_option *o = &esp_options[i];
        size_t keep = common_groups(before, o->path), levels = depth(o->path, strlen(o->path));
        char *text = esp_option_text(c, o);

        close_groups(to, before, keep);
        open_groups(to, o->path, keep);
        indent(to, levels);
        fprintf(to, "%s = ", strrchr(o->path, '.') ? strrchr(o->path, '.') + 1 : o->path);
        put_value(to, o, text);
        fputs(";\n", to);
        free(text);
        before = o->path;
    }
    close_groups(to, before, 0);
    fclose(to);
    return result;
}

/* ---- help and reference ----------------------------------------------------------------------- */

/* Whether the first part of path is one of the sections, which spaces separate. */
static bool in_sections(const char *path, const char *sections)
{
    size_t n = strcspn(path, ".");

    for (const char *at = sections; at && *at; at += strspn(at, " ")) {
        size_t len = strcspn(at, " ");

        if (n == len && memcmp(at, path, n) == 0) {
            return true;
        }
        at += len;
    }
    return !sections;
}

void esp_config_help(FILE *to, const char *sections)
{
    for (size_t i = 0; i < esp_n_options; i++) {
        const esp_option *o = &esp_options[i];
        char *wants = esp_option_wants(o);

        if (in_sections(o->path, sections)) {
            fprintf(to, "  %-28s %s\n  %-28s %s%s%s\n", o->path, o->help, "", wants,
                    *o->preset ? "; default " : "", o->preset);
        }
        free(wants);
    }
}

/* Bytes of the name of a setting's group; 0: it is in none. */
static int group_length(const char *path)
{
    const char *dot = strchr(path, '.');

    return dot ? (int)(dot - path) : 0;
}

static bool same_group(const char *a, const char *b)
{
    int n = group_length(a);

    return n == group_length(b) && strncmp(a, b, (size_t)n) == 0;
}

/* " score plan": the stages whose results a setting changes. */
static void put_stages(FILE *to, unsigned stages)
{
    for (esp_stage s = 0; s < ESP_N_STAGES; s++) {
        if (stages >> s & 1) {
            fprintf(to, " %s", esp_stage_name(s));
        }
    }
}

/* What each recipe says of the settings that it names. */
static void put_recipes(FILE *to)
{
    const char *value[8];
    size_t n = 0;

    fputs("\n## Recipes\n\nA setting that neither the file nor `-s` gives has the value of the "
          "`recipe`. What is given goes before it,\nin whatever order. `manifest.json` says of "
          "each of these settings which recipe gave it, where one did. `n` is the\nnumber of "
          "layers: `n-3` is the last but two.\n\n| Setting |",
          to);
    for (; esp_recipe_name((unsigned)n); n++) {
        fprintf(to, " %s |", esp_recipe_name((unsigned)n));
    }
    ESP_REQUIRE(n <= sizeof value / sizeof *value);
    fputs("\n|---|", to);
    for (size_t r = 0; r < n; r++) {
        fputs("---|", to);
    }
    for (size_t i = 0; i < esp_n_options; i++) {
        const esp_option *o = &esp_options[i];
        bool named = esp_recipe_values(value, o);

        if (named) {
            fprintf(to, "\n| `%s` |", o->path);
        }
        for (size_t r = 0; named && r < n; r++) {
            const char *quote = *value[r] ? "`" : "";

            fprintf(to, " %s%s%s |", quote, value[r], quote);
        }
    }
    fputc('\n', to);
}

void esp_config_reference(FILE *to)
{
    fputs(
        "# Settings\n\n"
        "`make docs` writes this page from the table of all settings in the source.\n\n"
        "A setting stands in the configuration file (libconfig) or follows `-s`, which overrides "
        "the file. Lists are\n"
        "libconfig arrays; with `-s` they have commas between. `-s @FILE` takes all settings of "
        "another file.\n"
        "`espalier config --show -c FILE` prints the settings in effect, `--check` only checks "
        "them, and\n"
        "`espalier COMMAND --help` lists those that a command reads.\n\n"
        "*Stages* are those whose results a setting changes: once they are finished, another value "
        "is refused, or with\n"
        "`-f` they are done again. Settings without stages may change at any time. Models and "
        "texts "
        "are compared by\n"
        "content, wherever they lie.\n",
        to);
    for (size_t i = 0; i < esp_n_options; i++) {
        const esp_option *o = &esp_options[i];
        char *wants = esp_option_wants(o);
        const char *quote = *o->preset ? "`" : "";

        if (i == 0 || !same_group(o->path, esp_options[i - 1].path)) {
            fprintf(to,
                    "\n## %.*s\n\n| Setting | Default | Takes | Meaning | Stages |\n"
                    "|---|---|---|---|---|\n",
                    group_length(o->path) ? group_length(o->path) : 7,
                    group_length(o->path) ? o->path : "general");
        }
        fprintf(to, "| `%s` | %s%s%s | %s | %s |", o->path, quote, o->preset, quote, wants,
                o->help);
        put_stages(to, o->stages);
        fputs(" |\n", to);
        free(wants);
    }
    put_recipes(to);
}
