/* estimate_bytes.c - what the ranks send each other, and what they read and write in files. */
#include "estimate_impl.h"

#include <math.h>

#include "espalier/recover.h"
#include "espalier/settings.h"

/* ---- bytes ------------------------------------------------------------------------------------ */

static void score_sends(esp_prediction *p, const esp_job *j, const esp_layout *l)
{
    double data = (double)esp_n_data(l), D = (double)j->dense->dims.hidden;
    double tokens = (double)j->calibration.tokens;
    esp_importance_work w = { 0 };

    if (!esp_criteria_need(j->config->importance.criteria, ESP_NEEDS_GRADIENT)) {
        return;
    }
    for (size_t i = 0; i < l->pipeline; i++) {
        esp_grid grid = esp_grid_of(l, i);

        esp_score_work(&w, j, &grid, l, p->chunk_tok);
        p->sent[ESP_SENT_WEIGHT_GRADIENTS] += (data - 1) * w.sent;
    }
    p->sent[ESP_SENT_SUMS] = 2 * ((double)n_ranks(l) - 1) * 8 * (double)w.n_sums;
    p->sent[ESP_SENT_ACTIVATIONS] = 2 * ((double)l->pipeline - 1) * 4 * D * tokens;
    if (j->dense->tied && l->pipeline > 1 && j->config->importance.units >> ESP_UNIT_HIDDEN & 1) {
        p->sent[ESP_SENT_ACTIVATIONS] += 4 * D * tokens; /* from the embedding to the head */
    }
}

/* Tokens that the training goes through, and those of its validations. */
static double tokens_of(const esp_job *j, double samples)
{
    return samples * (double)j->training.tokens / fmax(1, (double)j->training.samples);
}

static void recover_moves(esp_prediction *p, const esp_job *j, const esp_layout *l)
{
    const esp_config *c = j->config;
    esp_training_size t = esp_training_size_of(j, l);
    double ranks = (double)n_ranks(l), n = (double)t.n_numbers, D = (double)j->pruned.dims.hidden;
    double trained = t.steps * tokens_of(j, t.batch);
    double held = t.validations * tokens_of(j, (double)t.n_valid);
    double saves = c->recover.save_every ? ceil(t.steps / (double)c->recover.save_every) : 1;
    double bytes = (double)esp_model_cost(&j->pruned, 1).bytes;

    p->sent[ESP_SENT_GRADIENTS] = (ranks - 1) * 4 * n * t.steps;
    p->sent[ESP_SENT_VALUES] = (ranks - 1) * 4 * n * (t.steps + 1); /* the best ones at the end */
    p->sent[ESP_SENT_ACTIVATIONS] = ((double)l->pipeline - 1) * 4 * D * (2 * trained + held);
    p->written = saves * 16 * n + bytes;
    p->written += c->recover.method == ESP_METHOD_LORA ? 4 * n : 0;
    p->read += bytes; /* merging reads it once more */
}

void esp_predict_bytes(esp_prediction *p, const esp_job *j, esp_stage s, const esp_layout *l)
{
    double dense = (double)esp_model_cost(j->dense, 1).bytes;
    double pruned = (double)esp_model_cost(&j->pruned, 1).bytes;
    double readers = fmin((double)l->nodes, (double)n_ranks(l) / (double)l->pipeline);

    switch (s) { /* the nodes of a stage map its layers: each a copy */
    case ESP_STAGE_SCORE:
        p->read = dense * readers;
        score_sends(p, j, l);
        break;
    case ESP_STAGE_PLAN:
        break;
    case ESP_STAGE_PRUNE:
        p->read = pruned;
        p->written = pruned;
        break;
    case ESP_STAGE_RECOVER:
        p->read = pruned * readers;
        recover_moves(p, j, l);
        break;
    default:
        p->read = (dense + 2 * pruned) * readers;
        p->sent[ESP_SENT_ACTIVATIONS] = 3 * ((double)l->pipeline - 1) * 4 *
                                        (double)j->dense->dims.hidden *
                                        (double)j->evaluation.tokens;
    }
}
