/* rope_scaling.c - the scalings of rotary frequencies for longer contexts, by the names that config.json has
 * for them.
 *
 * Letters: n rotated channels; pair i of them is rotated by inv_freq[i] per position.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "espalier/mem.h"
#include "rope_impl.h"

#define PI         3.14159265358979323846
#define PHI_BORDER 4096 /* original_max_position_embeddings of a Phi-3 that does not say it */
#define MAX_TOKENS ((double)((size_t)1 << 28))
#define ORIGINAL   "original_max_position_embeddings"

/* ---- values ---- */

/* Tokens that the model was first trained for: config.json's own key, even null, comes before the
 * object's; without both they are all that it has positions for. Phi-3's class has the key where
 * config.json has none, so that the object's is never read. */
static esp_status read_original(double *tokens, const esp_rope_reader *r)
{
    bool phi = r->model->arch->rotary.source == ESP_ROPE_PHI;
    const esp_config_part *c =
        phi || json_object_get(r->config->json, ORIGINAL) ? r->config : r->part;
    const json_t *v = json_object_get(c->json, ORIGINAL);

    *tokens = v ? json_number_value(v) : phi ? PHI_BORDER : (double)r->model->dims.max_positions;
    return *tokens >= 1 && *tokens <= MAX_TOKENS
               ? ESP_OK
               : esp_config_refuse(c, ORIGINAL,
                                   "the tokens that the model was first trained for, from 1");
}

/* A number that may be 0, which stands for none. */
static esp_status read_optional(double *v, const esp_config_part *c, const char *key)
{
    const json_t *number = esp_config_get(c, key);

    *v = json_number_value(number);
    return !number || (json_is_number(number) && *v >= 0)
               ? ESP_OK
               : esp_config_refuse(c, key, "a number of at least 0");
}

/* The model is made for so many tokens, where config.json says fewer. */
static void lengthen(esp_model *m, double tokens)
{
    size_t n = (size_t)fmin(tokens, MAX_TOKENS);

    m->dims.max_positions = esp_max(m->dims.max_positions, n);
}

/* ---- scalings ---- */

static esp_status scale_none(esp_rope_reader *r)
{
    (void)r;
    return ESP_OK;
}

/* Positions are squeezed (Chen et al. 2023). */
static esp_status scale_linear(esp_rope_reader *r)
{
    esp_rope *rope = &r->model->rope;
    double factor;

    ESP_TRY(esp_config_real(&factor, r->part, "factor", 0));
    for (size_t i = 0; i < rope->n / 2; i++) {
        rope->inv_freq[i] /= factor;
    }
    lengthen(r->model, factor * (double)r->model->dims.max_positions);
    return ESP_OK;
}

/* Theta grows with the tokens of a sequence beyond those that the model was trained for. */
static esp_status scale_dynamic(esp_rope_reader *r)
{
    esp_rope *rope = &r->model->rope;

    ESP_TRY(esp_config_real(&rope->stretch, r->part, "factor", 0));
    if (rope->n < 4) {
        return esp_fail(ESP_EFORMAT, "%s: %zu channels of a head turn, dynamic needs at least 4",
                        r->part->where, rope->n);
    }
    rope->border = r->model->dims.max_positions;
    lengthen(r->model, rope->stretch * (double)rope->border);
    return ESP_OK;
}

/* Llama 3.1: low frequencies are divided, high ones are kept, those between are mixed by how many turns they
 * make within the original context. */
static esp_status scale_llama3(esp_rope_reader *r)
{
    esp_rope *rope = &r->model->rope;
    double factor, low, high, context;

    ESP_TRY(esp_config_real(&factor, r->part, "factor", 0));
    ESP_TRY(esp_config_real(&low, r->part, "low_freq_factor", 0));
    ESP_TRY(esp_config_real(&high, r->part, "high_freq_factor", 0));
    ESP_TRY(read_original(&context, r));
    if (low >= high) {
        return esp_config_refuse(r->part, "high_freq_factor", "above low_freq_factor");
    }
    for (size_t i = 0; i < rope->n / 2; i++) {
        double turns = context * rope->inv_freq[i] / (2 * PI);
        double keep = fmin(fmax((turns - low) / (high - low), 0), 1);

        rope->inv_freq[i] *= keep + (1 - keep) / factor;
    }
    return ESP_OK;
}

static double yarn_scale(double factor, double weight)
{
    return factor > 1 ? 0.1 * weight * log(factor) + 1 : 1;
}

/* What cosines and sines are multiplied by, where the object says it; usual where it does not. */
static esp_status read_gain(double *gain, const esp_config_part *part, double usual)
{
    static const char key[] = "attention_factor";

    *gain = usual;
    return esp_config_get(part, key) ? esp_config_real(gain, part, key, 0) : ESP_OK;
}

/* Attention gets sharper with the context, unless attention_factor or two weights say otherwise. */
static esp_status read_yarn_gain(double *gain, const esp_config_part *part, double factor)
{
    double weight, weight_all;

    ESP_TRY(read_optional(&weight, part, "mscale"));
    ESP_TRY(read_optional(&weight_all, part, "mscale_all_dim"));
    return read_gain(gain, part,
                     weight > 0 && weight_all > 0
                         ? yarn_scale(factor, weight) / yarn_scale(factor, weight_all)
                         : yarn_scale(factor, 1));
}

/* The pairs that make beta_fast and beta_slow full rotations within the original context. */
static esp_status read_yarn_range(double *low, double *high, const esp_rope_reader *r,
                                  double original)
{
    const json_t *truncate = json_object_get(r->part->json, "truncate");
    double n = (double)r->model->rope.n, fast, slow;

    *low = *high = 0;
    if (r->theta <= 1) {
        return esp_fail(ESP_EFORMAT, "%s: rope_theta is %g, must be above 1 for yarn",
                        r->part->where, r->theta);
    }
    ESP_TRY(esp_config_real(&fast, r->part, "beta_fast", 32));
    ESP_TRY(esp_config_real(&slow, r->part, "beta_slow", 1));
    if (fast < slow) {
        return esp_config_refuse(r->part, "beta_fast", "at least beta_slow");
    }
    if (truncate && !json_is_boolean(truncate)) {
        return esp_config_refuse(r->part, "truncate", "true or false");
    }
    *low = n * log(original / (fast * 2 * PI)) / (2 * log(r->theta));
    *high = n * log(original / (slow * 2 * PI)) / (2 * log(r->theta));
    if (!json_is_false(truncate)) {
        *low = floor(*low);
        *high = ceil(*high);
    }
    *low = fmax(*low, 0);
    *high = fmin(*high, n - 1);
    *high += *low == *high ? 0.001 : 0;
    return ESP_OK;
}

/* YaRN (Peng et al. 2023): slow pairs are squeezed, fast ones are kept, those between are mixed. */
static esp_status scale_yarn(esp_rope_reader *r)
{
    esp_rope *rope = &r->model->rope;
    double factor, original, low, high;

    ESP_TRY(esp_config_real(&factor, r->part, "factor", 0));
    ESP_TRY(read_original(&original, r));
    ESP_TRY(read_yarn_gain(&rope->gain, r->part, factor));
    ESP_TRY(read_yarn_range(&low, &high, r, original));
    for (size_t i = 0; i < rope->n / 2; i++) {
        double squeeze = fmin(fmax(((double)i - low) / (high - low), 0), 1);

        rope->inv_freq[i] *= 1 - squeeze + squeeze / factor;
    }
    lengthen(r->model, factor * original);
    return ESP_OK;
}

/* inv_freq divided by a list of the object; the caller frees. */
static esp_status read_list(double **divided, const esp_rope_reader *r, const char *key)
{
    const json_t *list = esp_config_get(r->part, key);
    size_t n = r->model->rope.n / 2;
    char must_be[96];

    snprintf(must_be, sizeof must_be, "a list of %zu numbers above 0, one per pair of channels", n);
    if (json_array_size(list) != n) {
        return esp_config_refuse(r->part, key, must_be);
    }
    ESP_NEW(*divided, n);
    for (size_t i = 0; i < n; i++) {
        double v = json_number_value(json_array_get(list, i));

        if (!(v > 0)) {
            return esp_config_refuse(r->part, key, must_be);
        }
        (*divided)[i] = r->model->rope.inv_freq[i] / v;
    }
    return ESP_OK;
}

/* LongRoPE (Ding et al. 2024): each pair is squeezed by its own factor, by another where the sequence is
 * longer than the original context. */
static esp_status scale_longrope(esp_rope_reader *r)
{
    esp_rope *rope = &r->model->rope;
    double factor, original, *shorter = NULL;
    esp_status st;

    ESP_TRY(read_original(&original, r));
    ESP_TRY(esp_config_real(&factor, r->part, "factor",
                            (double)r->model->dims.max_positions / original));
    ESP_TRY(
        read_gain(&rope->gain, r->part, factor > 1 ? sqrt(1 + log(factor) / log(original)) : 1));
    rope->border = (size_t)original;
    ESP_TRY(read_list(&rope->longer, r, "long_factor"));
    st = read_list(&shorter, r, "short_factor");
    free(st == ESP_OK ? rope->inv_freq : shorter);
    rope->inv_freq = st == ESP_OK ? shorter : rope->inv_freq;
    return st;
}

typedef struct scaling {
    const char *name;
    esp_status (*scale)(esp_rope_reader *r);
} scaling;

static const scaling scalings[] = { { "default", scale_none },      { "linear", scale_linear },
                                    { "dynamic", scale_dynamic },   { "yarn", scale_yarn },
                                    { "longrope", scale_longrope }, { "su", scale_longrope },
                                    { "llama3", scale_llama3 } };

/* All longrope by the names that it had. */
static const scaling phi_scalings[] = { { "default", scale_none },
                                        { "longrope", scale_longrope },
                                        { "su", scale_longrope },
                                        { "yarn", scale_longrope } };

static esp_status apply(esp_rope_reader *r)
{
    bool phi = r->model->arch->rotary.source == ESP_ROPE_PHI;
    const scaling *known = phi ? phi_scalings : scalings;
    size_t n = phi ? sizeof phi_scalings / sizeof *known : sizeof scalings / sizeof *known;
    const char *key = esp_config_get(r->part, "rope_type") ? "rope_type" : "type";
    const json_t *kind = esp_config_get(r->part, key);
    const char *name = kind ? json_string_value(kind) : "default";
    char must_be[128];
    int at = snprintf(must_be, sizeof must_be, "one of");

    for (size_t i = 0; i < n; i++) {
        if (name && strcmp(known[i].name, name) == 0) {
            return known[i].scale(r);
        }
        at += snprintf(must_be + at, sizeof must_be - (size_t)at, "%s %s", i ? "," : "",
                       known[i].name);
    }
    return esp_config_refuse(r->part, key, must_be);
}

/* Values that are sound one by one may still give angles that are none. */
static esp_status check_rope(const esp_rope_reader *r)
{
    const esp_rope *rope = &r->model->rope;
    bool sound = rope->gain < ESP_LARGEST_ANGLE && rope->stretch < ESP_LARGEST_ANGLE;

    for (size_t i = 0; i < rope->n / 2 && sound; i++) {
        double longer = rope->longer ? rope->longer[i] : 1;

        sound = rope->inv_freq[i] > 0 && rope->inv_freq[i] < ESP_LARGEST_ANGLE && longer > 0 &&
                longer < ESP_LARGEST_ANGLE;
    }
    return sound ? ESP_OK
                 : esp_fail(ESP_EFORMAT,
                            "%s: rope_theta %g and this scaling give angles that are none",
                            r->part->where, r->theta);
}

/* transformers has no rotary positions that differ between layers in a family that is read here. */
static esp_status check_alike(const esp_config_part *part)
{
    const char *key;
    json_t *v;

    json_object_foreach((json_t *)(uintptr_t)part->json, key, v)
    {
        if (json_is_object(v)) {
            return esp_config_refuse(
                part, key, "a value: this model_type has one scaling for layers of all types");
        }
    }
    return ESP_OK;
}

esp_status esp_rope_scale(esp_rope_reader *r)
{
    ESP_TRY(check_alike(r->part));
    ESP_TRY(apply(r));
    return check_rope(r);
}
