/* eval.h - what a model is worth: perplexity, accuracy, cost, speed; and text from it. */
#ifndef ESPALIER_EVAL_H
#define ESPALIER_EVAL_H

#include "espalier/pass.h"
#include "espalier/tokenizer.h"

typedef struct esp_eval {
    double loss, perplexity; /* mean cross-entropy a token, its exponential */
    double accuracy;         /* share of targets that had the largest logit */
    int64_t tokens;          /* targets                                     */
    esp_cost cost;
    double seconds, tok_per_second;
    size_t peak_resident; /* largest over ranks, bytes */
} esp_eval;

/* Samples are shared out over the data ranks in batches of at most max_tok tokens. The same result on
 * all ranks. Collective on grid->world. */
esp_status esp_evaluate(esp_eval *e, const esp_model *m, const esp_adapter *adapter,
                        const esp_samples *samples, size_t max_tok, size_t macs_tokens,
                        const esp_grid *grid);

typedef struct esp_generate_options {
    size_t tokens;      /* to make at most                       */
    double temperature; /* 0: greedy                             */
    double top_p;       /* nucleus (Holtzman et al. 2020); 1: all */
    uint64_t seed;
} esp_generate_options;

/* Continues prompt; ids grows by what was made, up to and without EOS. each (may be NULL) is called with
 * every new id. ESP_EUSAGE when the prompt is empty or leaves no position. Local. */
esp_status esp_generate(esp_ids *ids, const esp_model *m, const esp_generate_options *o,
                        void (*each)(void *ctx, int32_t id), void *ctx);

#endif
