/* arguments.c - the command line. */
#include <getopt.h>
#include <stdlib.h>
#include <string.h>

#include "command_impl.h"
#include "espalier/mem.h"

enum { CHECK = 256, SHOW, REFERENCE, CLUSTER };

static const struct option long_options[] = {
    { "config", required_argument, NULL, 'c' },
    { "set", required_argument, NULL, 's' },
    { "cluster", required_argument, NULL, CLUSTER },
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

static esp_status take(esp_arguments *a, int option, const char *given)
{
    switch (option) {
    case CHECK:
        a->check = true;
        a->file = optarg;
        break;
    case 'c':
        a->file = optarg;
        break;
    case 's':
        add_set(a, esp_strdup(optarg));
        break;
    case CLUSTER:
        add_set(a, esp_format("@%s", optarg));
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
        return esp_fail(ESP_EUSAGE, "%s needs a value; see espalier --help", given);
    default:
        return esp_fail(ESP_EUSAGE, "%s is no option; see espalier --help", given);
    }
    return ESP_OK;
}

static esp_status check_command(const esp_arguments *a)
{
    bool config = a->command && strcmp(a->command, "config") == 0;

    if (a->help || a->version) {
        return ESP_OK;
    }
    if (!a->command) {
        return esp_fail(ESP_EUSAGE, "no command is given; see espalier --help");
    }
    if (!config && !esp_command_find(a->command)) {
        return esp_fail(ESP_EUSAGE, "%s is no command; see espalier --help", a->command);
    }
    if (config != (a->check || a->show || a->reference)) {
        return esp_fail(ESP_EUSAGE, "config goes with one of --check FILE, --show and --reference");
    }
    return ESP_OK;
}

esp_status esp_arguments_read(esp_arguments *a, int argc, char **argv)
{
    *a = (esp_arguments){ 0 };
    for (int o; (o = getopt_long(argc, argv, ":c:s:fvqh", long_options, NULL)) != -1;) {
        ESP_TRY(take(a, o, argv[optind - 1]));
    }
    if (optind < argc) {
        a->command = argv[optind++];
    }
    if (optind < argc) {
        return esp_fail(ESP_EUSAGE, "%s: one command at a time; see espalier --help", argv[optind]);
    }
    return check_command(a);
}

void esp_arguments_free(esp_arguments *a)
{
    for (size_t i = 0; i < a->n_sets; i++) {
        free(a->sets[i]);
    }
    free(a->sets);
    *a = (esp_arguments){ 0 };
}
