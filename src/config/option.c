/* option.c - one setting: from text to value, from value to text, what it takes. */
#include <errno.h>
#include <float.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"
#include "espalier/text.h"
#include "config_impl.h"

void *esp_option_at(const esp_config *c, const esp_option *o)
{
    return (char *)(uintptr_t)c + o->offset;
}

/* Paths that settings had in earlier versions. */
static const struct renamed {
    const char *old_path, *path;
} renamed[] = { { "parallel.layers", "parallel.pipeline" } };

const esp_option *esp_option_of_old(const char *path)
{
    for (size_t i = 0; i < sizeof renamed / sizeof *renamed; i++) {
        if (strcmp(path, renamed[i].old_path) == 0) {
            return esp_option_find(renamed[i].path);
        }
    }
    return NULL;
}

const esp_option *esp_option_find(const char *path)
{
    for (size_t i = 0; i < esp_n_options; i++) {
        if (strcmp(esp_options[i].path, path) == 0) {
            return &esp_options[i];
        }
    }
    return NULL;
}

#define LAST_LAYER ((size_t)65535) /* of any model */

/* ---- what it takes ---------------------------------------------------------------------------- */

static char *bounded(const char *what, const esp_option *o)
{
    if (o->min == o->max) {
        return esp_format("%g", o->min);
    }
    if (o->max == BELOW_1) {
        return esp_format("%s from %g to below 1", what, o->min);
    }
    if (o->max == DBL_MAX) {
        return o->type == ESP_O_COUNT
                   ? esp_format("%s from %g to %" PRId64, what, o->min, INT64_MAX)
                   : esp_format("%s of at least %g", what, o->min);
    }
    return esp_format("%s from %g to %.10g", what, o->min, o->max);
}

/* The choices whose bits are set. */
static char *choices_text(const esp_option *o, unsigned bits, const char *between)
{
    char *s = esp_strdup("");

    for (unsigned i = 0; o->choice(i); i++) {
        if (bits >> i & 1) {
            char *more = esp_format("%s%s%s", s, *s ? between : "", o->choice(i));

            free(s);
            s = more;
        }
    }
    return s;
}

static char *wants_choices(const char *what, const esp_option *o)
{
    char *choices = choices_text(o, ~0u, " "), *s = esp_format("%s %s", what, choices);

    free(choices);
    return s;
}

char *esp_option_wants(const esp_option *o)
{
    switch (o->type) {
    case ESP_O_COUNT:
        return bounded("a whole number", o);
    case ESP_O_BYTES:
        return esp_strdup("bytes, or a number with a unit such as 6 GiB or 500 MB, below 8192 TiB");
    case ESP_O_NUMBER:
    case ESP_O_SHARE:
        return bounded("a number", o);
    case ESP_O_BOOL:
        return esp_strdup("true or false");
    case ESP_O_CHOICE:
    case ESP_O_EITHER:
        return wants_choices("one of", o);
    case ESP_O_SET:
        return wants_choices("a list of some of", o);
    case ESP_O_LIST:
        return esp_strdup("a list of names");
    case ESP_O_FILES:
        return esp_strdup("a list of NAME=FILE, each name once");
    case ESP_O_LAYERS:
        return esp_format(
            "a list of layers and inclusive ranges such as 4-29 or, of n layers, 4-n-3, "
            "up to %zu",
            LAST_LAYER);
    case ESP_O_PATH:
        return esp_strdup("a path");
    default:
        return esp_strdup("text");
    }
}

/* ---- text to value ---------------------------------------------------------------------------- */

/* Next part of a comma separated list, white space around it left out; false at the end. */
static bool next_item(const char **at, char **item)
{
    size_t n;

    *at += strspn(*at, ", ");
    n = strcspn(*at, ",");
    if (n == 0) {
        return false;
    }
    *item = esp_format("%.*s", esp_count(n), *at);
    *at += n;
    for (; n > 0 && (*item)[n - 1] == ' '; n--) {
        (*item)[n - 1] = '\0';
    }
    return true;
}

/* Values that the authors' program calls otherwise. */
static const char *const synonyms[][2] = {
    { "vectorize", "vector" }, { "param_first", "element1" }, { "param_second", "element2" },
    { "param_mix", "mix" },    { "block_wise", "block" },     { "channel_wise", "channel" },
    { "layer_wise", "layer" },
};

static const char *our_name(const char *name)
{
    for (size_t i = 0; i < sizeof synonyms / sizeof *synonyms; i++) {
        if (strcmp(name, synonyms[i][0]) == 0) {
            return synonyms[i][1];
        }
    }
    return name;
}

int esp_option_choice(const esp_option *o, const char *given)
{
    const char *name = our_name(given);

    for (unsigned i = 0; o->choice(i); i++) {
        if (strcmp(o->choice(i), name) == 0) {
            return (int)i;
        }
    }
    return -1;
}

bool esp_option_number(double *v, const esp_option *o, const char *text)
{
    char *end;

    *v = strtod(text, &end);
    return end != text && *end == '\0' && isfinite(*v) && *v >= o->min && *v <= o->max;
}

/* Within what a libconfig file can say, 64 bits with a sign: what is set is written and read back. */
static bool to_count(size_t *v, const esp_option *o, const char *text)
{
    char *end;
    unsigned long long u;

    errno = 0;
    u = strtoull(text, &end, 10);
    *v = (size_t)u;
    return end != text && *end == '\0' && errno == 0 && !strchr(text, '-') && u <= INT64_MAX &&
           (double)u >= o->min && (double)u <= o->max;
}

static const struct {
    const char *name;
    double bytes;
} units[] = { { "GiB", 1073741824 },
              { "MiB", 1048576 },
              { "KiB", 1024 },
              { "TiB", 1099511627776 },
              { "GB", 1e9 },
              { "MB", 1e6 },
              { "KB", 1e3 },
              { "TB", 1e12 },
              { "", 1 } };

static bool to_bytes(size_t *v, const char *text)
{
    char *end;
    double number = strtod(text, &end);
    bool ok = end != text && isfinite(number) && number >= 0;

    end += strspn(end, " ");
    for (size_t i = 0; ok && i < sizeof units / sizeof *units; i++) {
        if (strcmp(end, units[i].name) == 0) {
            number *= units[i].bytes;
            *v = (size_t)number;
            return number < 9007199254740992.0; /* 8192 TiB: a whole number as a double */
        }
    }
    return false;
}

static bool to_bool(bool *v, const char *text)
{
    *v = strcmp(text, "true") == 0;
    return *v || strcmp(text, "false") == 0;
}

static bool to_choice(unsigned *v, const esp_option *o, const char *text)
{
    int i = esp_option_choice(o, text);

    *v = i < 0 ? 0 : (unsigned)i;
    return i >= 0;
}

static bool to_either(bool *v, const esp_option *o, const char *text)
{
    int i = esp_option_choice(o, text);

    *v = i == 1;
    return i >= 0;
}

static bool to_set(unsigned *v, const esp_option *o, const char *text)
{
    bool ok = true;

    for (char *item; ok && next_item(&text, &item); free(item)) {
        int i = esp_option_choice(o, item);

        ok = i >= 0;
        *v |= ok ? 1u << i : 0;
    }
    return ok;
}

static void to_list(esp_strings *v, const char *text)
{
    for (char *item; next_item(&text, &item);) {
        v->item = esp_grow(v->item, v->n + 1, sizeof *v->item);
        v->item[v->n++] = item;
    }
}

static bool has_name(const esp_named_files *v, const char *name)
{
    for (size_t i = 0; i < v->n; i++) {
        if (strcmp(v->item[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

static bool to_files(esp_named_files *v, const char *text)
{
    bool ok = true;

    for (char *item; ok && next_item(&text, &item); free(item)) {
        char *equals = strchr(item, '=');

        ok = equals && equals > item && equals[1];
        if (ok) {
            *equals = '\0';
            ok = !has_name(v, item);
        }
        if (ok) {
            v->item = esp_grow(v->item, v->n + 1, sizeof *v->item);
            v->item[v->n++] = (esp_named_file){ esp_strdup(item), esp_strdup(equals + 1) };
        }
    }
    return ok;
}

/* A layer, or "n-3" from the end; *at goes behind it. */
static bool to_layer(size_t *layer, const char **at)
{
    bool from_end = strncmp(*at, "n-", 2) == 0;
    const char *digits = *at + (from_end ? 2 : 0);
    char *end;
    unsigned long long number = strtoull(digits, &end, 10);
    bool ok = *digits >= '0' && *digits <= '9' && number <= LAST_LAYER && (number > 0 || !from_end);

    *layer = from_end ? ESP_LAYER_FROM_END(number) : (size_t)number;
    *at = end;
    return ok;
}

/* "4", "4-29", "4-n-3" or "n-6-n-3". */
static bool to_range(esp_layer_range *r, const char *at)
{
    bool ok = to_layer(&r->first, &at);

    r->last = r->first;
    if (ok && *at == '-') {
        at++;
        ok = to_layer(&r->last, &at);
    }
    return ok && *at == '\0' && (r->first <= r->last || r->first > LAST_LAYER);
}

static bool to_layers(esp_layer_ranges *v, const char *text)
{
    bool ok = true;

    for (char *item; ok && next_item(&text, &item); free(item)) {
        esp_layer_range r;

        ok = to_range(&r, item);
        v->range = esp_grow(v->range, v->n + 1, sizeof *v->range);
        v->range[v->n++] = r;
    }
    return ok;
}

bool esp_option_parse(esp_config *c, const esp_option *o, const char *text)
{
    void *v = esp_option_at(c, o);

    switch (o->type) {
    case ESP_O_COUNT:
        return to_count(v, o, text);
    case ESP_O_BYTES:
        return to_bytes(v, text);
    case ESP_O_NUMBER:
    case ESP_O_SHARE:
        return esp_option_number(v, o, text);
    case ESP_O_BOOL:
        return to_bool(v, text);
    case ESP_O_CHOICE:
        return to_choice(v, o, text);
    case ESP_O_EITHER:
        return to_either(v, o, text);
    case ESP_O_SET:
        return to_set(v, o, text);
    case ESP_O_LIST:
        to_list(v, text);
        return true;
    case ESP_O_FILES:
        return to_files(v, text);
    case ESP_O_LAYERS:
        return to_layers(v, text);
    default:
        *(char **)v = esp_strdup(text);
        return true;
    }
}

/* ---- files ------------------------------------------------------------------------------------ */

void esp_option_files(esp_named_files *files, const esp_config *c, const esp_option *o)
{
    const esp_named_files *named = esp_option_at(c, o);
    size_t n = o->type == ESP_O_FILES ? named->n : 1;

    *files = (esp_named_files){ 0 };
    ESP_NEW(files->item, n);
    for (size_t i = 0; i < n; i++) {
        char *path =
            o->type == ESP_O_FILES ? esp_strdup(named->item[i].path) : esp_option_text(c, o);
        char *name = o->type == ESP_O_FILES ? esp_format("%s.%s", o->path, named->item[i].name)
                                            : esp_strdup(o->path);

        files->item[files->n] = (esp_named_file){ name, path };
        if (*path) {
            files->n++;
        } else {
            free(name);
            free(path);
        }
    }
}

void esp_named_files_free(esp_named_files *files)
{
    for (size_t i = 0; i < files->n; i++) {
        free(files->item[i].name);
        free(files->item[i].path);
    }
    free(files->item);
    *files = (esp_named_files){ 0 };
}

/* ---- value to text ---------------------------------------------------------------------------- */

static char *number_text(double v)
{
    char *s = esp_format("%.15g", v);

    if (strtod(s, NULL) != v) {
        free(s);
        s = esp_format("%.17g", v);
    }
    return s;
}

static char *list_text(const esp_strings *v)
{
    char *s = esp_strdup("");

    for (size_t i = 0; i < v->n; i++) {
        char *more = esp_format("%s%s%s", s, i ? "," : "", v->item[i]);

        free(s);
        s = more;
    }
    return s;
}

static char *files_text(const esp_named_files *v)
{
    char *s = esp_strdup("");

    for (size_t i = 0; i < v->n; i++) {
        char *more = esp_format("%s%s%s=%s", s, i ? "," : "", v->item[i].name, v->item[i].path);

        free(s);
        s = more;
    }
    return s;
}

static char *layer_text(size_t layer)
{
    return layer <= LAST_LAYER ? esp_format("%zu", layer)
                               : esp_format("n-%zu", ESP_LAYER_FROM_END(0) - layer);
}

static char *layers_text(const esp_layer_ranges *v)
{
    char *s = esp_strdup("");

    for (size_t i = 0; i < v->n; i++) {
        char *first = layer_text(v->range[i].first), *last = layer_text(v->range[i].last);
        char *more = esp_format("%s%s%s-%s", s, i ? "," : "", first, last);

        free(first);
        free(last);
        free(s);
        s = more;
    }
    return s;
}

/* In binary units where it is a whole number of them. */
static char *bytes_text(size_t v)
{
    for (size_t i = 0; v > 0 && i < 3; i++) {
        size_t unit = (size_t)units[i].bytes;

        if (v % unit == 0) {
            return esp_format("%zu %s", v / unit, units[i].name);
        }
    }
    return esp_format("%zu", v);
}

char *esp_option_text(const esp_config *c, const esp_option *o)
{
    const void *v = esp_option_at(c, o);

    switch (o->type) {
    case ESP_O_COUNT:
        return esp_format("%zu", *(const size_t *)v);
    case ESP_O_BYTES:
        return bytes_text(*(const size_t *)v);
    case ESP_O_NUMBER:
    case ESP_O_SHARE:
        return number_text(*(const double *)v);
    case ESP_O_BOOL:
        return esp_strdup(*(const bool *)v ? "true" : "false");
    case ESP_O_CHOICE:
        return esp_strdup(o->choice(*(const unsigned *)v));
    case ESP_O_EITHER:
        return esp_strdup(o->choice(*(const bool *)v));
    case ESP_O_SET:
        return choices_text(o, *(const unsigned *)v, ",");
    case ESP_O_LIST:
        return list_text(v);
    case ESP_O_FILES:
        return files_text(v);
    case ESP_O_LAYERS:
        return layers_text(v);
    default:
        return esp_strdup(*(char *const *)v);
    }
}
