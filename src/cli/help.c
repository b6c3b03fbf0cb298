/* help.c - usage, from the tables of commands and settings. */
#include <stdio.h>
#include <string.h>

#include "command_impl.h"

static void print_options(void)
{
    puts("options:\n"
         "  -c, --config FILE      settings (libconfig); paths in it are relative to the current "
         "folder\n"
         "  -s, --set PATH=VALUE   a setting over those of the file; lists with commas between\n"
         "      --cluster FILE     the same as -s @FILE: settings of another file, over those "
         "before\n"
         "  -f, --force            do stages anew that were done with other settings, and all "
         "later ones\n"
         "  -o, --output FILE      of compare: where the table goes; .csv and .md say its format\n"
         "      --format FORMAT    of compare: table, csv or markdown\n"
         "  -v, --verbose          say more;  -q, --quiet  say nothing but errors and results\n"
         "  -h, --help             this, or with a command the settings that matter to it\n"
         "      --version          what this build is");
}

static void print_program(void)
{
    puts("espalier COMMAND -c FILE [-s path=value]... [-f] [-v|-q]\n\n"
         "Prunes large language models: what depends on each other goes together, what matters "
         "least\n"
         "goes, and training recovers the rest. Runs under mpirun or srun.\n\ncommands:");
    for (size_t i = 0; i < esp_n_commands; i++) {
        printf("  %-10s %s\n", esp_commands[i].name, esp_commands[i].summary);
    }
    for (size_t i = 0; i < esp_n_local_commands; i++) {
        puts(esp_local_commands[i].help);
    }
    puts("");
    print_options();
    puts("\nexit codes: 0 done, 1 failed, 2 input or settings refused, 75 stopped early on SIGTERM "
         "or\n"
         "SIGUSR1 with a good checkpoint: the same command goes on");
}

void esp_print_help(const char *name)
{
    const esp_command *command = name ? esp_command_find(name) : NULL;

    if (!name) {
        print_program();
        return;
    }
    if (!command) {
        puts(esp_local_command_find(name)->help);
        if (strcmp(name, "config") == 0) {
            puts("\nsettings:");
            esp_config_help(stdout, NULL);
        }
        return;
    }
    printf("espalier %s -c FILE [-s path=value]... : %s\n\nsettings:\n", command->name,
           command->summary);
    esp_config_help(stdout, command->sections);
}
