/* stage_info_impl.h - a row of the table of stages. */
#ifndef ESPALIER_STAGE_INFO_IMPL_H
#define ESPALIER_STAGE_INFO_IMPL_H

#include "run_impl.h"

/* What a stage reads: its record has a digest of each. */
enum {
    ESP_READS_MODEL = 1,
    ESP_READS_SCORED = 2, /* the model that was scored, or its shapes for criterion random */
    ESP_READS_PLAN = 4,
    ESP_READS_PRUNED = 8,
    ESP_READS_RECOVERED = 16,
    ESP_READS_TEACHER = 32
};

#define ESP_MAX_OUTPUTS 4
#define ESP_MAX_FILES   4

typedef struct esp_stage_info {
    esp_status (*work)(esp_run *run);
    /* On rank 0, before work that is recorded as that: ESP_EUSAGE, with nothing written; NULL: no check. */
    esp_status (*check)(const esp_run *run, json_t *record);
    const char *outputs
        [ESP_MAX_OUTPUTS]; /* in the run directory; once it has the first, the stage is done */
    const char *partial;   /* unfinished work that a repeated call goes on with; NULL: none   */
    const char *files[ESP_MAX_FILES]; /* settings that name files it reads */
    /* Digest of what it reads of texts, false where that is nothing; NULL: it reads none. */
    bool (*texts)(uint64_t words[ESP_DIGEST_WORDS], const esp_run *run);
    const char *model; /* the output that is a model folder; NULL: none */
    unsigned reads;    /* ESP_READS_...                      */
    bool follows;      /* cheap: done again without asking when what it reads has changed */
} esp_stage_info;

#endif
