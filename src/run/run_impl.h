/* run_impl.h - what the stages of a run share. */
#ifndef ESPALIER_RUN_IMPL_H
#define ESPALIER_RUN_IMPL_H

#include <math.h>

#include "espalier/limit.h"
#include "espalier/model.h"
#include "espalier/plan.h"
#include "espalier/recover.h"
#include "espalier/run.h"
#include "espalier/settings.h"
#include "run_dir_impl.h"

typedef struct esp_run {
    const esp_config *config; /* borrowed, as grid and stop */
    const esp_grid *grid;
    const volatile int *stop;
    bool force;
    esp_run_dir dir;              /* rank 0; {0} on the others                                   */
    esp_model model;              /* the dense one; shapes only where no stage needs its weights */
    char digest[ESP_DIGEST_SIZE]; /* of model, where its weights are here          */
    char shape[ESP_DIGEST_SIZE];  /* of its config.json                            */
    char settings[ESP_DIGEST_SIZE]; /* of the record of the stage under way          */
    char made[ESP_DIGEST_SIZE]; /* of the model that the stage under way has written; "" before */
    unsigned verified;          /* stages whose results have been compared with their record */
    esp_samples calibration, training, evaluation; /* of the stages that were asked for */
    uint64_t targets;                              /* of recover: bit set of slots      */
    esp_limit limit;                               /* of the memory of a rank           */
    size_t chunk_tok[ESP_N_STAGES];                /* that fit it                       */
} esp_run;

/* What is not finite has no JSON. */
static inline json_t *esp_json_real(double x)
{
    return isfinite(x) ? json_real(x) : json_null();
}

/* What a stage reads: its record has a digest of each. */
enum {
    ESP_READS_MODEL = 1,
    ESP_READS_SCORED = 2, /* the model that was scored, or its shapes for criterion random */
    ESP_READS_PLAN = 4,
    ESP_READS_PRUNED = 8,
    ESP_READS_RECOVERED = 16
};

#define ESP_MAX_OUTPUTS 4
#define ESP_MAX_FILES   2

typedef struct esp_stage_info {
    const char *name; /* of the stage and of its command */
    esp_status (*work)(esp_run *run);
    const char *outputs
        [ESP_MAX_OUTPUTS]; /* in the run directory; once it has the first, the stage is done */
    const char *partial;   /* unfinished work that a repeated call goes on with; NULL: none   */
    const char *files[ESP_MAX_FILES]; /* settings that name a file it reads */
    const char *model;                /* the output that is a model folder; NULL: none */
    unsigned reads;                   /* ESP_READS_...                      */
    bool follows; /* cheap: done again without asking when what it reads has changed */
} esp_stage_info;

extern const esp_stage_info esp_stages[ESP_N_STAGES];

/* ---- check_early.c: what is known before the work, rank 0 --------------------------------------- */

/* What settings and config.json tell of these stages, before weights and texts are read. ESP_EUSAGE naming
 * the setting; warnings for what is surely not meant. */
esp_status esp_run_check_early(const esp_run *run, unsigned stages);

/* What the sizes of their texts tell, once these are read. */
esp_status esp_run_check_samples(const esp_run *run, unsigned stages);

/* ---- inputs.c --------------------------------------------------------------------------------- */

/* ESP_EUSAGE where these stages multiply in a precision that a rank cannot. Collective. */
esp_status esp_run_check_precision(const esp_run *run, unsigned stages);

/* A model folder, with precision and rope_ratio of the settings; *m is {0} after a failure. Collective. */
esp_status esp_run_load_model(esp_model *m, const esp_run *run, const char *dir);

/* esp_model_digest for these stages: those that cut copy any layer on any rank, the others use the layers
 * of the rank's stage of the grid. Collective. */
esp_status esp_run_digest_model(char hex[ESP_DIGEST_SIZE], const esp_model *m, const esp_run *run,
                                unsigned stages);

/* ESP_EFAILED where a file of weights has changed since it was opened: before what was made of it is kept.
 * Collective. */
esp_status esp_run_check_unchanged(const esp_run *run, const esp_model *m);

/* Opens the model, then reads the samples of these stages. Collective. */
esp_status esp_run_open_model(esp_run *run, unsigned stages);
esp_status esp_run_read_samples(esp_run *run, unsigned stages);
void esp_run_free_inputs(esp_run *run);

/* ---- results.c: "outputs": {name: digest} of a record, names as in the run directory --------------- */

/* ESP_EUSAGE where the model is a result of this run directory, or the run directory lies in the model.
 * Local. */
esp_status esp_results_check_model(const esp_run *run);

/* ESP_EUSAGE where something that this program did not make stands in the place of an output; anew: which
 * are all to be removed. Rank 0. */
esp_status esp_results_check_places(const esp_run *run, esp_stage s, bool anew);

/* Adds the digests of what a stage has left to its record. Rank 0. */
esp_status esp_results_record(json_t *record, const esp_run *run, esp_stage s);

/* The digest recorded of a result of a finished stage, NULL where there is none. Borrowed. Rank 0. */
const char *esp_results_digest(const esp_run *run, esp_stage s, const char *name);

/* Whether all is there that a finished stage is recorded to have left; whether its files are what they
 * were, as esp_results_verify has it. Rank 0. */
bool esp_results_are_there(const esp_run *run, esp_stage s);
esp_status esp_results_verify_files(const esp_run *run, esp_stage s);

/* ESP_EUSAGE where what a finished stage left, or what a stage is about to read of earlier ones, is not
 * what was recorded: file, both digests, remedy. Collective. */
esp_status esp_results_verify(esp_run *run, esp_stage s);
esp_status esp_results_verify_read(esp_run *run, esp_stage s);

/* ---- stages.c --------------------------------------------------------------------------------- */

/* Whether the run directory has that file or folder, as rank 0 sees it. Collective. */
bool esp_run_has(const esp_run *run, const char *name);

/* Path of a name in the run directory; the caller frees. Local. */
char *esp_run_path(const esp_run *run, const char *name);

/* ESP_ESTOPPED, the same on all ranks, when the run was asked to stop; at: what would be next. Collective. */
esp_status esp_run_check_stop(const esp_run *run, const char *at);

/* ---- records.c: {"settings": {path: text}, "inputs": {name: digest}, "finished": time, ...}; rank 0 --- */

/* The settings that shape the result of a stage. New reference. */
json_t *esp_record_settings(const esp_run *run, esp_stage s);

/* What a stage would be recorded as if it was done now. *record is a new reference in any case. */
esp_status esp_record_make(json_t **record, const esp_run *run, esp_stage s);

/* ESP_EUSAGE, naming the first difference, when that part of a record of the stage is not what it would
 * be now. part: "settings" or "inputs". */
esp_status esp_record_compare(const esp_run *run, const esp_stage_info *stage, const char *part,
                              json_t *now, json_t *then);

/* ESP_EUSAGE where an earlier result, from which stage s is made through others or directly, was itself
 * made of another model, importance, plan or pruned model than is there now. */
esp_status esp_record_check_chain(const esp_run *run, esp_stage s);

void esp_record_digest(char hex[ESP_DIGEST_SIZE], const json_t *record);

/* ---- the stages themselves, each in its file; collective --------------------------------------- */

esp_status esp_stage_score(esp_run *run);
esp_status esp_stage_plan(esp_run *run);
esp_status esp_stage_prune(esp_run *run);
esp_status esp_stage_recover(esp_run *run);
esp_status esp_stage_eval(esp_run *run);

/* Scores of a model by the settings. Collective. */
esp_status esp_run_score(esp_scores *s, esp_importance_options *o, const esp_run *run,
                         const esp_model *m, const esp_groups *g);

/* A plan in the run directory, on all ranks; *p is {0} before. Collective. */
esp_status esp_run_load_plan(esp_plan *p, const esp_run *run, const char *name);

/* eval.json as a table on stdout. Rank 0. */
void esp_run_print_table(const esp_run *run);

#endif
