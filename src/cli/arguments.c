/* arguments.c - the command line. */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "command_impl.h"
#include "espalier/distance.h"
#include "espalier/file.h"
#include "espalier/mem.h"

enum { CHECK = 256, SHOW, REFERENCE, CLUSTER, FORMAT };

static const struct option long_options[] = {
    { "config", required_argument, NULL, 'c' },
    { "set", required_argument, NULL, 's' },
    { "cluster", required_argument, NULL, CLUSTER },
    { "output", required_argument, NULL, 'o' },
    { "format", required_argument, NULL, FORMAT },
    { "force", no_argument, NULL, 'f' },
    { "verbose", no_argument, NULL, 'v' },
    { "quiet", no_argument, NULL, 'q' },
    { "help", no_argument, NULL, 'h' },
    { "version", no_argument, NULL, 'V' },
    { "check", required_argument, NULL, CHECK },
    { "show", no_argument, NULL, SHOW },
    { "reference", no_argument, NULL, REFERENCE },
    { 0 },
};

/* Takes set. */
static void add_set(esp_arguments *a, char *set)
{
    a->sets = esp_grow(a->sets, a->n_sets + 1, sizeof *a->sets);
    a->sets[a->n_sets++] = set;
}

/* ---- what was meant --------------------------------------------------------------------------- */

/* "did you mean --config?", or a setting that was taken for an option; where neither, the help. */
static esp_status no_option(const char *given)
{
    char *name = esp_format("%.*s", (int)strcspn(given, "="), given);
    const esp_option *setting = esp_option_meant(name);
    const char *nearest = NULL;
    size_t least = SIZE_MAX;
    esp_status st;

    for (const struct option *o = long_options; o->name; o++) {
        size_t d = esp_distance(name + strspn(name, "-"), o->name);

        if (d < least) {
            nearest = o->name;
            least = d;
        }
    }
    if (strncmp(name, "--", 2) == 0 && least == 0) {
        st = esp_fail(ESP_EUSAGE, "%s: --%s takes no value", given, nearest);
    } else if (strncmp(name, "--", 2) == 0 && esp_is_slip(name, least)) {
        st = esp_fail(ESP_EUSAGE, "%s is no option; did you mean --%s? see espalier --help", given,
                      nearest);
    } else if (setting) {
        st = esp_fail(ESP_EUSAGE, "%s is no option; the setting is given as -s %s=%s", given,
                      setting->path, strchr(given, '=') ? strchr(given, '=') + 1 : "VALUE");
    } else {
        st = esp_fail(ESP_EUSAGE, "%s is no option; see espalier --help", given);
    }
    free(name);
    return st;
}

static bool is_settings_file(const char *word)
{
    const char *ending = strrchr(word, '.');

    return (ending && strcmp(ending, ".cfg") == 0) || esp_file_exists(word);
}

/* A word that is no command, where one was expected or after one. */
static esp_status stray_word(const char *word, const char *otherwise)
{
    if (is_settings_file(word)) {
        return esp_fail(ESP_EUSAGE, "%s: a file of settings is given with -c: -c %s", word, word);
    }
    if (strchr(word, '=')) {
        return esp_fail(ESP_EUSAGE, "%s: a setting is given with -s: -s %s", word, word);
    }
    return esp_fail(ESP_EUSAGE, "%s%s; see espalier --help", word, otherwise);
}

static esp_status no_command(const char *word)
{
    const char *nearest = "";
    size_t least = SIZE_MAX;

    for (size_t i = 0; i < esp_n_commands + esp_n_local_commands; i++) {
        const char *name =
            i < esp_n_commands ? esp_commands[i].name : esp_local_commands[i - esp_n_commands].name;
        size_t d = esp_distance(word, name);

        if (d < least) {
            nearest = name;
            least = d;
        }
    }
    return esp_is_slip(word, least)
               ? esp_fail(ESP_EUSAGE, "%s is no command; did you mean %s? see espalier --help",
                          word, nearest)
               : stray_word(word, " is no command");
}

/* -s path value: next is the word behind, NULL at the end. */
static esp_status check_set(const char *set, const char *next)
{
    bool value = next && *next && *next != '-';

    if (*set == '@' || strchr(set, '=')) {
        return ESP_OK;
    }
    return esp_fail(ESP_EUSAGE, "-s %s: must be path=value: -s %s=%s", set, set,
                    value && *next != '=' ? next : "VALUE");
}

/* ---- reading ---------------------------------------------------------------------------------- */

/* next: the word behind the option and its value, NULL at the end. */
static esp_status take(esp_arguments *a, int option, const char *given, const char *next)
{
    switch (option) {
    case CHECK:
        a->check = true;
        if (given == optarg && *optarg == '-') { /* --check -c FILE */
            optind--;
            break;
        }
        /* fall through */
    case 'c':
        if (a->file) {
            return esp_fail(ESP_EUSAGE, "%s: a second file of settings: give it as -s @%s", optarg,
                            optarg);
        }
        a->file = optarg;
        break;
    case 's':
        ESP_TRY(check_set(optarg, next));
        add_set(a, esp_strdup(optarg));
        break;
    case CLUSTER:
        add_set(a, esp_format("@%s", optarg));
        break;
    case 'o':
        a->output = optarg;
        break;
    case FORMAT:
        a->format = optarg;
        break;
    case 'f':
        a->force = true;
        break;
    case 'v':
        a->verbose = true;
        break;
    case 'q':
        a->quiet = true;
        break;
    case 'h':
        a->help = true;
        break;
    case 'V':
        a->version = true;
        break;
    case SHOW:
        a->show = true;
        break;
    case REFERENCE:
        a->reference = true;
        break;
    case ':':
        if (optopt == CHECK && a->file) { /* -c FILE --check */
            a->check = true;
            break;
        }
        return esp_fail(ESP_EUSAGE, "%s needs a value; see espalier --help", given);
    default:
        return no_option(given);
    }
    return ESP_OK;
}

static bool is_command(const esp_arguments *a, const char *name)
{
    return a->command && strcmp(a->command, name) == 0;
}

static esp_status check_command(const esp_arguments *a)
{
    bool config = is_command(a, "config");

    if (a->command && !esp_local_command_find(a->command) && !esp_command_find(a->command)) {
        return no_command(a->command);
    }
    if ((a->output || a->format) && !is_command(a, "compare")) {
        return esp_fail(ESP_EUSAGE, "%s goes with compare", a->output ? "-o" : "--format");
    }
    if (a->help || a->version) {
        return ESP_OK;
    }
    if (!a->command) {
        return esp_fail(ESP_EUSAGE, "no command is given; see espalier --help");
    }
    if (config != (a->check || a->show || a->reference) || (a->check && !a->file)) {
        return esp_fail(ESP_EUSAGE,
                        "config goes with one of --check [-c] FILE, --show and --reference");
    }
    return ESP_OK;
}

/* The word that getopt_long was at: letters of one word after another leave optind on it. */
static const char *word_at(char **argv, int o)
{
    const char *next = argv[optind];

    return o == '?' && optopt && next && *next == '-' && strchr(next, optopt) ? next
                                                                              : argv[optind - 1];
}

esp_status esp_arguments_read(esp_arguments *a, int argc, char **argv)
{
    *a = (esp_arguments){ 0 };
    for (int o; (o = getopt_long(argc, argv, ":c:s:o:fvqh", long_options, NULL)) != -1;) {
        ESP_TRY(take(a, o, word_at(argv, o), argv[optind]));
    }
    if (optind < argc) {
        a->command = argv[optind++];
    }
    ESP_TRY(check_command(a));
    if (is_command(a, "compare")) {
        a->runs = &argv[optind];
        a->n_runs = (size_t)(argc - optind);
        return ESP_OK;
    }
    return optind < argc ? stray_word(argv[optind], ": one command at a time") : ESP_OK;
}

void esp_arguments_free(esp_arguments *a)
{
    for (size_t i = 0; i < a->n_sets; i++) {
        free(a->sets[i]);
    }
    free(a->sets);
    *a = (esp_arguments){ 0 };
}
