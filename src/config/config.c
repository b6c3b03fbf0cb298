/* config.c - settings from the libconfig file and the command line, checked. */
#include "espalier/config.h"

#include <libconfig.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/log.h"
#include "espalier/mem.h"
#include "espalier/text.h"
#include "config_impl.h"

/* ---- from libconfig --------------------------------------------------------------------------- */

static const char *type_name(int type)
{
    switch (type) {
    case CONFIG_TYPE_INT:
    case CONFIG_TYPE_INT64:
        return "a whole number";
    case CONFIG_TYPE_FLOAT:
        return "a number with a fraction";
    case CONFIG_TYPE_BOOL:
        return "a truth value";
    case CONFIG_TYPE_STRING:
        return "a string";
    case CONFIG_TYPE_GROUP:
        return "a group";
    default:
        return "a list";
    }
}

static bool takes(esp_option_type option, int type)
{
    bool whole = type == CONFIG_TYPE_INT || type == CONFIG_TYPE_INT64;

    switch (option) {
    case ESP_O_COUNT:
        return whole;
    case ESP_O_BYTES:
        return whole || type == CONFIG_TYPE_STRING;
    case ESP_O_NUMBER:
    case ESP_O_SHARE:
        return whole || type == CONFIG_TYPE_FLOAT;
    case ESP_O_BOOL:
        return type == CONFIG_TYPE_BOOL;
    case ESP_O_STRING:
    case ESP_O_PATH:
    case ESP_O_CHOICE:
    case ESP_O_EITHER:
        return type == CONFIG_TYPE_STRING;
    case ESP_O_SET:
    case ESP_O_LIST:
    case ESP_O_FILES:
        return type == CONFIG_TYPE_STRING || type == CONFIG_TYPE_ARRAY || type == CONFIG_TYPE_LIST;
    default:
        return whole || type == CONFIG_TYPE_STRING || type == CONFIG_TYPE_ARRAY ||
               type == CONFIG_TYPE_LIST;
    }
}

static char *scalar_text(const config_setting_t *s)
{
    switch (config_setting_type(s)) {
    case CONFIG_TYPE_INT:
    case CONFIG_TYPE_INT64:
        return esp_format("%lld", config_setting_get_int64(s));
    case CONFIG_TYPE_FLOAT:
        return esp_format("%.17g", config_setting_get_float(s));
    case CONFIG_TYPE_BOOL:
        return esp_strdup(config_setting_get_bool(s) ? "true" : "false");
    case CONFIG_TYPE_STRING:
        return esp_strdup(config_setting_get_string(s));
    default:
        return esp_strdup(type_name(config_setting_type(s))); /* nothing takes these: refused */
    }
}

/* The value as -s takes it: elements of a list with commas between. */
static char *setting_text(const config_setting_t *s)
{
    char *text;

    if (!config_setting_is_aggregate(s)) {
        return scalar_text(s);
    }
    text = esp_strdup("");
    for (int i = 0; i < config_setting_length(s); i++) {
        char *item = scalar_text(config_setting_get_elem(s, (unsigned)i));
        char *more = esp_format("%s%s%s", text, i ? "," : "", item);

        free(item);
        free(text);
        text = more;
    }
    return text;
}

static esp_status unknown(const char *path)
{
    const esp_option *meant = esp_option_meant(path);
    size_t n = strlen(path);

    for (size_t i = 0; i < esp_n_options; i++) {
        if (strncmp(esp_options[i].path, path, n) == 0 && esp_options[i].path[n] == '.') {
            return esp_fail(ESP_EUSAGE, "%s is a group of settings, such as %s", path,
                            esp_options[i].path);
        }
    }
    return esp_fail(ESP_EUSAGE, "%s: there is no such setting; %s %s", path,
                    meant ? "it is called" : "the nearest is",
                    (meant ? meant : esp_option_nearest(path))->path);
}

/* The option of a path, or of the path that it had in an earlier version. ESP_EUSAGE: none. */
static esp_status find_option(const esp_option **o, const char *path)
{
    *o = esp_option_find(path);
    *o = *o ? *o : esp_option_of_old(path);
    return *o ? ESP_OK : unknown(path);
}

/* The end of a setting that was given at a place by a path: where that is, or why it is refused. */
static esp_status note_place(esp_config *c, const esp_option *o, const char *path,
                             const char *place, esp_status st)
{
    char **noted = &c->places[o - esp_options];
    bool old = strcmp(o->path, path) != 0;

    if (st != ESP_OK) {
        return old ? esp_fail_in(st, "%s", path) : st;
    }
    if (old) {
        esp_warn("%s: %s is called %s now", place, path, o->path);
    }
    free(*noted);
    *noted = esp_strdup(place);
    return ESP_OK;
}

/* A file as it is read. */
typedef struct reader {
    esp_config *c;    /* borrowed */
    const char *file; /* borrowed */
    bool *given;      /* [esp_n_options] owned: by this file, so far */
} reader;

static esp_status wrong_type(const esp_option *o, const config_setting_t *s)
{
    char *wants = esp_option_wants(o), *text = setting_text(s),
         *advice = esp_option_advice(o, text);
    esp_status st = esp_fail(ESP_EUSAGE, "%s is %s, must be %s%s", o->path,
                             type_name(config_setting_type(s)), wants, advice);

    free(advice);
    free(text);
    free(wants);
    return st;
}

static esp_status set_value(esp_config *c, const esp_option *o, const config_setting_t *s)
{
    char *text;
    esp_status st;

    if (!takes(o->type, config_setting_type(s))) {
        return wrong_type(o, s);
    }
    text = setting_text(s);
    st = esp_option_set(c, o, text);
    free(text);
    return st;
}

static esp_status read_setting(reader *r, const config_setting_t *s, const char *path,
                               const char *place)
{
    const esp_option *o;
    bool *given;

    ESP_TRY(find_option(&o, path));
    given = &r->given[o - esp_options];
    if (*given) { /* libconfig refuses the same name twice */
        return esp_fail(ESP_EUSAGE, "%s: %s is given already, by another of its names, at %s", path,
                        o->path, r->c->places[o - esp_options]);
    }
    *given = true;
    return note_place(r->c, o, path, place, set_value(r->c, o, s));
}

/* All settings below one group. */
static esp_status read_group(reader *r, const config_setting_t *group, const char *prefix)
{
    esp_status st = ESP_OK;

    for (int i = 0; st == ESP_OK && i < config_setting_length(group); i++) {
        const config_setting_t *s = config_setting_get_elem(group, (unsigned)i);
        const char *included = config_setting_source_file(s);
        char *path = esp_format("%s%s%s", prefix, *prefix ? "." : "", config_setting_name(s));
        char *place =
            esp_format("%s:%u", included ? included : r->file, config_setting_source_line(s));

        if (config_setting_is_group(s) && config_setting_length(s) > 0 && !esp_option_find(path)) {
            st = read_group(r, s, path);
        } else {
            st = read_setting(r, s, path, place);
            st = st == ESP_OK ? ESP_OK : esp_fail_in(st, "%s", place);
        }
        free(place);
        free(path);
    }
    return st;
}

/* The format of what libconfig cannot read; NULL where it is to be libconfig. */
static const char *foreign_format(const char *text, const char *file)
{
    static const char *const endings[][2] = {
        { ".json", "JSON" }, { ".yaml", "YAML" }, { ".yml", "YAML" },
        { ".toml", "TOML" }, { ".ini", "INI" },
    };
    const char *ending = strrchr(file, '.');

    for (size_t i = 0; ending && i < sizeof endings / sizeof *endings; i++) {
        if (strcasecmp(ending, endings[i][0]) == 0) {
            return endings[i][1];
        }
    }
    text += strspn(text, " \t\r\n");
    if (*text == '{') {
        return "JSON";
    }
    if (*text == '[') {
        return "TOML or INI";
    }
    return strncmp(text, "---", 3) == 0 || (strchr(text, ':') && !strpbrk(text, ";{=")) ? "YAML"
                                                                                        : NULL;
}

/* What line 1 .. says in the syntax of -s: "prune.target.macs = 0.5" as "prune: { target: { macs =
 * 0.5; }; };"; NULL: nothing of the kind. The caller frees. */
static char *as_groups(const char *text, int line)
{
    static const char letters[] = "abcdefghijklmnopqrstuvwxyz_0123456789";
    char *made = esp_strdup("");
    size_t n, groups = 0;

    for (; line > 1 && (text = strchr(text, '\n')); line--) {
        text++;
    }
    text += text ? strspn(text, " \t") : 0;
    for (; text && (n = strspn(text, letters)) > 0 && text[n] == '.'; text += n + 1, groups++) {
        char *more = esp_format("%s%.*s: { ", made, (int)n, text);

        free(made);
        made = more;
    }
    if (groups > 0 && n > 0 && strspn(text + n + strspn(text + n, " \t"), "=:") == 1) {
        char *all = esp_format("%s%.*s;", made, (int)strcspn(text, ";\r\n"), text);

        for (; groups > 0; groups--) {
            char *more = esp_format("%s };", all);

            free(all);
            all = more;
        }
        free(made);
        return all;
    }
    free(made);
    return NULL;
}

/* A line of the text, without white space around it; the caller frees. */
static char *line_text(const char *text, int line)
{
    size_t n;

    for (; line > 1 && (text = strchr(text, '\n')); line--) {
        text++;
    }
    text = text ? text + strspn(text, " \t") : "";
    for (n = strcspn(text, "\r\n"); n > 0 && strchr(" \t", text[n - 1]); n--) {
    }
    return esp_format("%.*s", (int)esp_min(n, 120), text);
}

static esp_status cannot_parse(const config_t *parsed, const char *text, const char *file)
{
    const char *included = config_error_file(parsed);
    const char *format = included ? NULL : foreign_format(text, file);

    if (!format) {
        char *groups = included ? NULL : as_groups(text, config_error_line(parsed));
        char *said = included ? NULL : line_text(text, config_error_line(parsed));

        esp_fail(ESP_EUSAGE, "%s:%d: %s%s%s%s%s", included ? included : file,
                 config_error_line(parsed), config_error_text(parsed), said ? ": " : "",
                 said ? said : "", groups ? ": a dot goes with -s; in a file it is " : "",
                 groups ? groups : "");
        free(said);
        free(groups);
        return ESP_EUSAGE;
    }
    return esp_fail(
        ESP_EUSAGE,
        "%s:%d: looks like %s; settings are libconfig, as in model = \"DIR\"; prune: { ratio = "
        "0.2; }; and espalier config --show prints all of them",
        file, config_error_line(parsed), format);
}

static esp_status read_text(esp_config *c, const char *text, const char *file)
{
    char *wide;
    config_t parsed;
    esp_status st = esp_config_widen(&wide, text, file);

    config_init(&parsed);
    if (st != ESP_OK) {
        /* told already */
    } else if (config_read_string(&parsed, wide)) {
        reader r = { .c = c, .file = file };

        ESP_NEW(r.given, esp_n_options);
        st = read_group(&r, config_root_setting(&parsed), "");
        free(r.given);
    } else {
        st = cannot_parse(&parsed, text, file);
    }
    config_destroy(&parsed);
    free(wide);
    return st;
}

static esp_status read_file(esp_config *c, const char *file)
{
    char *text, *path;
    size_t n;
    esp_status st;

    ESP_TRY(esp_path_expand(&path, file));
    st = esp_text_read(&text, &n, path);
    if (st == ESP_OK) {
        st = read_text(c, text, path);
        free(text);
    }
    free(path);
    return st;
}

/* ---- from the command line -------------------------------------------------------------------- */

static esp_status read_assignment(esp_config *c, const char *assignment)
{
    const char *equals = strchr(assignment, '=');
    const esp_option *o;
    char *path;
    esp_status st;

    if (*assignment == '@') {
        return read_file(c, assignment + 1);
    }
    if (!equals) {
        return esp_fail(ESP_EUSAGE, "-s %s: must be path=value, as in -s prune.ratio=0.2",
                        assignment);
    }
    path = esp_format("%.*s", (int)(equals - assignment), assignment);
    st = find_option(&o, path);
    st = st == ESP_OK ? note_place(c, o, path, "-s", esp_option_set(c, o, equals + 1)) : st;
    free(path);
    return st == ESP_OK ? ESP_OK : esp_fail_in(st, "-s");
}

/* ---- the whole -------------------------------------------------------------------------------- */

/* What options take of settings that are not of their group, or of several. */
static void complete(esp_config *c)
{
    c->importance.seed = c->prune.seed = c->recover.seed = c->seed;
    c->generate.seed = c->synth.seed = c->seed;
    c->importance.scratch = c->recover.scratch = c->compensate.scratch = c->parallel.scratch;
    c->prune.precision = c->precision;
    c->prune.target_tokens = ESP_MACS_TOKENS;
    for (esp_target_kind k = ESP_TARGET_NONE; k < ESP_N_TARGETS; k++) {
        if (c->prune_targets[k] > 0) {
            c->prune.target_kind = k;
            c->prune.target = c->prune_targets[k];
        }
    }
}

static void set_defaults(esp_config *c)
{
    ESP_NEW(c->places, esp_n_options);
    for (size_t i = 0; i < esp_n_options; i++) {
        ESP_REQUIRE(esp_option_set(c, &esp_options[i], esp_options[i].preset) == ESP_OK);
    }
    c->prune.ratio = NAN; /* until it is known whether there is a target */
}

esp_status esp_config_load(esp_config *c, const char *file, char *const *sets, size_t n_sets)
{
    esp_status st = ESP_OK;

    *c = (esp_config){ 0 };
    set_defaults(c);
    if (file) {
        st = read_file(c, file);
    }
    for (size_t i = 0; st == ESP_OK && i < n_sets; i++) {
        st = read_assignment(c, sets[i]);
    }
    if (st == ESP_OK) {
        esp_recipe_apply(c);
        st = esp_config_validate(c);
    }
    if (st == ESP_OK) {
        complete(c);
    } else {
        esp_config_free(c);
    }
    return st;
}

void esp_config_free(esp_config *c)
{
    for (size_t i = 0; i < esp_n_options; i++) {
        esp_option_clear(c, &esp_options[i]);
        if (c->places) {
            free(c->places[i]);
        }
    }
    free(c->places);
    *c = (esp_config){ 0 };
}

void esp_config_share(esp_config *c, MPI_Comm comm)
{
    int rank;
    char *text = NULL;

    ESP_MPI(MPI_Comm_rank(comm, &rank));
    if (rank == 0) {
        text = esp_config_text(c);
    }
    esp_bcast_string(&text, comm);
    if (rank != 0) {
        set_defaults(c);
        ESP_REQUIRE(read_text(c, text, "settings of rank 0") == ESP_OK);
        complete(c);
    }
    free(text);
}

esp_status esp_config_need(const esp_config *c, const char *path)
{
    const esp_option *o = esp_option_find(path);
    char *text = esp_option_text(c, o);
    bool empty = *text == '\0';

    free(text);
    return empty ? esp_fail(ESP_EUSAGE, "%s is not set: give it in the file or as -s %s=...", path,
                            path)
                 : ESP_OK;
}
