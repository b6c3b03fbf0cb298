/* config.h - the settings of a run: one table of options behind defaults, file, -s, help and reference.
 *
 * Flow: defaults -> libconfig file -> -s path=value -> checks -> esp_config, the same on all ranks.
 * Paths of files are relative to the current directory, not to the configuration's; ~ and $VAR are
 * expanded.
 */
#ifndef ESPALIER_CONFIG_H
#define ESPALIER_CONFIG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include "espalier/compensate.h"
#include "espalier/eval.h"
#include "espalier/masks.h"
#include "espalier/plan.h"
#include "espalier/recover.h"
#include "espalier/synth.h"

/* Stages of a run, in order. A setting says which of them it changes. */
typedef enum esp_stage {
    ESP_STAGE_SCORE,
    ESP_STAGE_PLAN,
    ESP_STAGE_PRUNE,
    ESP_STAGE_RECOVER,
    ESP_STAGE_EVAL,
    ESP_N_STAGES
} esp_stage;

/* Names of the stages and of their commands, see esp_stage_name (settings.h). */
#define ESP_STAGE_NAMES                             \
    {                                               \
        "score", "plan", "prune", "recover", "eval" \
    }

#define ESP_ALL_STAGES ((1u << ESP_N_STAGES) - 1)

/* In an esp_layer_range of settings: layer n - k of n layers, k from 1, until esp_config_place_layers. */
#define ESP_LAYER_FROM_END(k) (SIZE_MAX - (size_t)(k))

typedef struct esp_strings {
    char **item; /* [n] owned, each owned */
    size_t n;
} esp_strings;

/* Files by names of the user's: "NAME=PATH". */
typedef struct esp_named_file {
    char *name, *path; /* owned */
} esp_named_file;

typedef struct esp_named_files {
    esp_named_file *item; /* [n] owned */
    size_t n;
} esp_named_files;

/* Strings are owned and "" where not set. Sets are bits in the order of the enumeration that they name. A
 * group that sets the options of one part of the program is the struct of these options; its settings that
 * other parts read follow it, with the name of the group before theirs. */
typedef struct esp_config {
    char *model, *run_dir;
    unsigned recipe; /* of the settings that are not given: esp_recipe_value */
    size_t seed;
    esp_precision precision;
    esp_ratio_use rope_ratio;
    size_t memory_limit;   /* bytes of anonymous memory of a rank; 0: none */
    char **places;         /* [esp_n_options] owned: "run.cfg:3", "-s"; NULL: not given        */
    char *importance_from; /* folder of a run whose scores are taken */
    struct {
        char *corpus, *tokens, *field;
        esp_named_files corpora; /* by NAME or NAME:WEIGHT, as those of compensate and recover */
        size_t samples, sequence;
    } calibration;
    esp_importance_options importance; /* after loading the sets hold what prune needs, too */
    esp_mask_options masks;
    esp_plan_options prune;              /* ratio is 0 where a target is set, layers are owned */
    double prune_targets[ESP_N_TARGETS]; /* by esp_target_kind; one at most is not 0 */
    size_t prune_steps;
    unsigned prune_clients;
    esp_compensation prune_compensate;
    esp_compensate_options compensate; /* without chunk_tok, which a run sets */
    char *compensate_corpus, *compensate_field;
    esp_named_files compensate_corpora;
    size_t compensate_samples, compensate_sequence;
    esp_recover_options recover; /* without teacher, targets, dir and settings, which a run sets */
    char *recover_corpus, *recover_field, *recover_teacher;
    esp_named_files recover_corpora;
    unsigned recover_cut; /* 0 one sample per document, 1 windows of cutoff tokens */
    size_t recover_cutoff;
    bool recover_answer_only;
    esp_strings recover_targets;
    struct {
        char *corpus, *field;
        size_t window, stride, samples, batch_tokens;
        esp_named_files corpora;         /* by NAME or NAME:WINDOW        */
        esp_named_files tasks, examples; /* by KIND or TASK:KIND; by TASK */
        size_t limit, shots;
    } eval;
    esp_generate_options generate;
    char *generate_prompt;
    struct {
        char *corpus, *field, *output;
    } tokenize;
    esp_synth_options synth; /* model_type is owned */
    unsigned synth_kind;     /* 0 model, 1 corpus, 2 tokenizer */
    size_t synth_stories;
    char *synth_output, *synth_corpus;
    struct {
        size_t pipeline, threads;
        char *scratch;
    } parallel;
    struct {
        size_t nodes, cores, memory;
        double core_gflops, memory_bandwidth; /* GFLOP/s; GB/s as all bandwidths */
        double network_bandwidth, latency;    /* latency in microseconds         */
        double read_bandwidth, write_bandwidth;
    } cluster;
    struct {
        size_t ranks, documents, windows;
        char *output;
    } estimate;
} esp_config;

typedef enum esp_option_type {
    ESP_O_STRING, /* char *                                                           */
    ESP_O_PATH,   /* char *; ~ and $VAR in the text are expanded                      */
    ESP_O_COUNT,  /* size_t                                                           */
    ESP_O_BYTES,  /* size_t; text may have a unit: "6 GiB"                             */
    ESP_O_NUMBER, /* double                                                           */
    ESP_O_SHARE,  /* double: a part of 1, which may be meant in percent               */
    ESP_O_BOOL,   /* bool                                                             */
    ESP_O_CHOICE, /* an enumeration: the number of the choice                          */
    ESP_O_EITHER, /* bool: whether it is choice 1, not choice 0                        */
    ESP_O_SET,    /* unsigned: bits of choices                                        */
    ESP_O_LIST,   /* esp_strings                                                      */
    ESP_O_FILES,  /* esp_named_files; paths as those of ESP_O_PATH                     */
    ESP_O_LAYERS  /* esp_layer_ranges                                                 */
} esp_option_type;

typedef struct esp_option {
    const char *path; /* "prune.ratio"                        */
    esp_option_type type;
    size_t offset;                     /* of the value in esp_config           */
    const char *preset;                /* default, as -s takes it              */
    double min, max;                   /* inclusive; of counts and numbers     */
    const char *(*choice)(unsigned i); /* of choices and sets: their names, NULL after the last */
    unsigned stages;                   /* bits of esp_stage: whose results it changes */
    const char *help;
} esp_option;

extern const esp_option esp_options[]; /* [esp_n_options], settings of a group together */
extern const size_t esp_n_options;

/* c [out, owned]: defaults, over them file (NULL: none), then each of sets [n_sets] ("path=value", or "@file"
 * for all that a file sets), checked as a whole; settings without effect are warned of. ESP_EUSAGE naming
 * file and line (or -s), the setting, its value, and the nearest known name or the range, or a file that is
 * not there; ESP_EFORMAT for a file that is no text, ESP_EIO; *c is {0} then. Local. */
esp_status esp_config_load(esp_config *c, const char *file, char *const *sets, size_t n_sets);
void esp_config_free(esp_config *c); /* safe twice and on {0} */

/* Gives the settings of rank 0 to all ranks, whose *c must be {0} and is owned then. Collective on comm. */
void esp_config_share(esp_config *c, MPI_Comm comm);

/* The value of an option that is not given, as -s takes it, by the recipe in c. Borrowed. Local. */
const char *esp_recipe_value(const esp_config *c, const esp_option *o);

/* The recipe by which an option has its value; NULL where it is given, or is no part of recipes. Borrowed.
 * Local. */
const char *esp_recipe_of(const esp_config *c, const esp_option *o);

/* The option of that path, as it is called now; NULL when there is none. Borrowed. Local. */
const esp_option *esp_option_find(const char *path);

/* The option that a word stands for: its path, the last part of it, or what the authors' program calls it;
 * dashes before it and for underscores do not matter. NULL when there is none. Borrowed. Local. */
const esp_option *esp_option_meant(const char *word);

/* The value of o in c, as -s takes it; the caller frees. Local. */
char *esp_option_text(const esp_config *c, const esp_option *o);

/* files [out]: those that a setting names, called by its path, which the user's name of a file follows
 * after a dot where it has one; none where nothing is set. The caller frees them. Local. */
void esp_option_files(esp_named_files *files, const esp_config *c, const esp_option *o);
void esp_named_files_free(esp_named_files *files); /* safe twice and on {0} */

/* All settings as a libconfig file that gives them again; the caller frees. Local. */
char *esp_config_text(const esp_config *c);

/* Prints the settings of the groups in sections ("prune recover", NULL: all) with range, default and help.
 * Local. */
void esp_config_help(FILE *to, const char *sections);

/* Prints all settings as a page of Markdown, docs/settings.md. Local. */
void esp_config_reference(FILE *to);

/* ESP_EUSAGE "NAME is not set" when the setting of a path that there is, which a command needs, is empty.
 * Local. */
esp_status esp_config_need(const esp_config *c, const char *path);

/* Layers that settings count from the end become numbers in a model of n_layers layers. ESP_EUSAGE for a
 * range that this has not; where nothing is counted from the end it is checked by the plan. Local. */
esp_status esp_config_place_layers(esp_config *c, size_t n_layers);

/* Whether there is something for it to do. Local. */
bool esp_config_counts_from_end(const esp_config *c);

#endif
