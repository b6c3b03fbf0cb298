/* run_impl.h - a run under way: what every stage is given. */
#ifndef ESPALIER_RUN_IMPL_H
#define ESPALIER_RUN_IMPL_H

#include "espalier/batch.h"
#include "espalier/eval.h"
#include "espalier/limit.h"
#include "espalier/model.h"
#include "espalier/run.h"
#include "run_dir_impl.h"

typedef struct esp_run {
    const esp_config *config; /* borrowed, as grid and stop */
    const esp_grid *grid;
    const volatile int *stop;
    const struct esp_stage_info *stages; /* [ESP_N_STAGES], see stage_info_impl.h */
    bool force;
    esp_run_dir dir;          /* rank 0; {0} on the others                                   */
    esp_model model;          /* the dense one; shapes only where no stage needs its weights */
    const esp_model *teacher; /* of recover: model or other; NULL: none                      */
    esp_model other;          /* a teacher that is not the dense model; else {0}              */
    char teacher_digest[ESP_DIGEST_SIZE]; /* "" without a teacher */
    char digest[ESP_DIGEST_SIZE];         /* of model, where its weights are here          */
    char shape[ESP_DIGEST_SIZE];          /* of its config.json                            */
    char settings[ESP_DIGEST_SIZE];       /* of the record of the stage under way          */
    char made[ESP_DIGEST_SIZE];  /* of the model that the stage under way has written; "" before */
    unsigned verified;           /* stages whose results have been compared with their record */
    size_t *mixed[ESP_N_STAGES]; /* owned; samples of each text that the stage mixes, else NULL */
    esp_samples compensation;    /* of prune, where it compensates */
    esp_samples calibration, training; /* of the stages that were asked for, as evaluation */
    esp_eval_texts evaluation;
    uint64_t targets;                 /* of recover: bit set of slots */
    esp_limit limit;                  /* of the memory of a rank      */
    size_t chunk_tok[ESP_N_STAGES];   /* that fit it                  */
    size_t kept_layers[ESP_N_STAGES]; /* whose activations fit it, too */
} esp_run;

/* Whether the run directory has that file or folder, as rank 0 sees it. Collective. */
bool esp_run_has(const esp_run *run, const char *name);

/* Path of a name in the run directory; the caller frees. Local. */
char *esp_run_path(const esp_run *run, const char *name);

/* Tells of how many layers of a rank a stage keeps the activations. Local. */
void esp_run_tell_kept(const esp_run *run, esp_stage s, const esp_model *m);

/* Whether the run ctx was asked to stop, for parts that ask. Local. */
bool esp_run_is_stopped(void *ctx);

/* ESP_ESTOPPED, the same on all ranks, when the run was asked to stop; at: what would be next. Collective. */
esp_status esp_run_check_stop(const esp_run *run, const char *at);

#endif
