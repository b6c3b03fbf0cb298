/* command_impl.h - the table of commands and what a command is given. */
#ifndef ESPALIER_COMMAND_IMPL_H
#define ESPALIER_COMMAND_IMPL_H

#include "espalier/config.h"
#include "espalier/par.h"
#include "espalier/synth.h"

typedef struct esp_invocation {
    const esp_config *config; /* borrowed, as all of this */
    const esp_grid *grid;
    const volatile int *stop; /* not 0 once SIGTERM or SIGUSR1 came */
    unsigned stages;          /* bits of esp_stage: what the command does of a run */
    bool force;               /* -f */
} esp_invocation;

typedef struct esp_command {
    const char *name, *summary;
    esp_status (*run)(const esp_invocation *in); /* collective on in->grid->world */
    const char *sections; /* groups of settings that matter to it, for its help */
    unsigned stages;      /* of a run that it does, on a grid of parallel.pipeline  */
} esp_command;

extern const esp_command esp_commands[]; /* [esp_n_commands] */
extern const size_t esp_n_commands;

/* NULL when there is none of that name. Local. */
const esp_command *esp_command_find(const char *name);

esp_status cmd_inspect(const esp_invocation *in);
esp_status cmd_tokenize(const esp_invocation *in);
esp_status cmd_generate(const esp_invocation *in);
esp_status cmd_stages(const esp_invocation *in); /* in->stages */
esp_status cmd_run(const esp_invocation *in);    /* those that the settings allow */
esp_status cmd_synth(const esp_invocation *in);
esp_status cmd_estimate(const esp_invocation *in);

/* What the command line asks for. Strings are borrowed from argv. */
typedef struct esp_arguments {
    const char *command; /* NULL: none */
    const char *file;    /* -c, or config --check */
    char **sets;         /* [n_sets] of -s, and @FILE of --cluster; owned, each owned */
    size_t n_sets;
    char *const *runs; /* [n_runs] behind compare */
    size_t n_runs;
    const char *output, *format; /* of compare; NULL: not given */
    bool force, quiet, verbose;
    bool help, version, check, show, reference;
} esp_arguments;

/* ESP_EUSAGE for what cannot be understood; *a is to be freed in any case. Local. */
esp_status esp_arguments_read(esp_arguments *a, int argc, char **argv);
void esp_arguments_free(esp_arguments *a);

/* Prints what to know about the program or about one command. Local. */
void esp_print_help(const char *command);

/* `config --check | --show | --reference`: needs no MPI. Local. */
esp_status cmd_config(const esp_arguments *a);

/* `compare RUN...`: likewise. */
esp_status cmd_compare(const esp_arguments *a);

/* A command that needs neither MPI nor the settings of a run: it works on a login node. */
typedef struct esp_local_command {
    const char *name;
    esp_status (*run)(const esp_arguments *a); /* Local. */
    const char *help;                          /* lines of the list of commands */
} esp_local_command;

extern const esp_local_command esp_local_commands[]; /* [esp_n_local_commands] */
extern const size_t esp_n_local_commands;

/* NULL when there is none of that name. Local. */
const esp_local_command *esp_local_command_find(const char *name);

#endif
